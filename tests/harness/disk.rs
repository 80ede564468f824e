//! A small disk of its own, that can be filled: a tmpfs, for tests that run as root.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Octets that are taken at a time once the disk is nearly full.
const STEP_OCTETS: u64 = 4_096;

/// A tmpfs; it goes when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one on `place`; `None` where that is not permitted.
    #[must_use]
    pub fn mount(place: &Path, octets: u64) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={octets}"), "tmpfs"]).arg(place).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self { place: place.to_path_buf() })
    }

    /// Fills it to its last octet.
    pub fn fill(&self) -> std::io::Result<()> {
        let filler = OpenOptions::new().create(true).truncate(true).write(true).open(self.filler())?;
        let mut filled = 0;
        loop {
            let room = statvfs(&self.place)?;
            let free = (room.f_bavail * room.f_frsize).max(STEP_OCTETS);
            match fallocate(&filler, FallocateFlags::empty(), filled, free) {
                Ok(()) => filled += free,
                Err(rustix::io::Errno::NOSPC) if free <= STEP_OCTETS => return Ok(()),
                // Somebody else took some meanwhile.
                Err(rustix::io::Errno::NOSPC) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the room back. The filler is emptied first: a process that another test has just forked has it open until it execs,
    /// and a removed file's room comes back only when nobody has.
    pub fn free(&self) -> std::io::Result<()> {
        std::fs::write(self.filler(), b"")?;
        std::fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that is ending may still hold a file.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.place).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.place.display());
        }
    }
}
