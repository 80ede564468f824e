//! A serial line: a pseudo-terminal at a stable path, that behaves as a wire does.
//!
//! A wire never waits. What the kernel's buffer does not take is gone, and so is everything while no reader has the port
//! open; when the last reader goes, what it had not read goes with it, as a real port forgets when it is closed. The line
//! keeps its own end of the terminal open, so that it neither hangs up nor loses its settings when a reader dies.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, inotify, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, ioctl_tiocnxcl, tcgetattr, tcsetattr};

/// The most that a reader's commands are taken in at once, octets.
pub const RECEIVE_OCTETS_MAX: usize = 256;
/// A line that is unplugged waits so long for its reader.
pub const LINGER_MAX: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const LINGER_LOOKS_MAX: u32 = 200;
/// What waits in the kernel when a reader dies comes in parts, the next within this.
const DRAIN_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// The most parts of it: 4 KiB each, and the kernel holds 64 KiB or so.
const DRAIN_PARTS_MAX: usize = 64;

/// A line, plugged in.
#[derive(Debug)]
pub struct SerialLine {
    master: OwnedFd,
    slave: File,
    /// Tells of readers that open and close the port; without it a reader is taken to be there.
    watch: Option<OwnedFd>,
    readers: u32,
    path: PathBuf,
}

impl SerialLine {
    /// Makes a pseudo-terminal and a link to it at `path`, which replaces a link that is there already.
    ///
    /// Errors: the system has no more terminals; `path` cannot be made, or is something else than a link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        let name = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        let slave = File::from(open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?);
        let mut settings = tcgetattr(&slave)?;
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        let watch = watch(&name);
        link(&name, path)?;
        Ok(Self { master, slave, watch, readers: 0, path: path.to_owned() })
    }

    /// Puts octets on the wire; gives how many of them a reader can still get. Never waits.
    pub fn send(&mut self, octets: &[u8]) -> usize {
        if !self.has_reader() {
            return 0;
        }
        let mut sent = 0;
        while let Some(rest) = octets.get(sent..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&self.master, rest) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        sent
    }

    /// Waits until the reader has taken what is on its way to it, at most [`LINGER_MAX`]: a real device's last frame has
    /// long arrived when the device is switched off, a pseudo-terminal's is lost with it.
    pub fn linger(&mut self) {
        for _ in 0..LINGER_LOOKS_MAX {
            let unread = rustix::io::ioctl_fionread(&self.slave).unwrap_or(0);
            if unread == 0 || !self.has_reader() {
                return;
            }
            std::thread::sleep(LINGER_MAX / LINGER_LOOKS_MAX);
        }
    }

    /// Takes what a reader wrote, at most [`RECEIVE_OCTETS_MAX`]. Never waits.
    pub fn receive(&mut self) -> Vec<u8> {
        let mut octets = vec![0; RECEIVE_OCTETS_MAX];
        let count = rustix::io::read(&self.master, &mut octets).unwrap_or(0);
        octets.truncate(count);
        octets
    }

    /// Whether anyone has the port open.
    pub fn has_reader(&mut self) -> bool {
        self.count_readers();
        self.watch.is_none() || self.readers > 0
    }

    fn count_readers(&mut self) {
        let Some(watch) = &self.watch else { return };
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        let (before, mut left) = (self.readers, false);
        while let Ok(event) = events.next() {
            if event.events().contains(inotify::ReadFlags::OPEN) {
                self.readers += 1;
            } else if event.events().intersects(inotify::ReadFlags::CLOSE_WRITE | inotify::ReadFlags::CLOSE_NOWRITE) {
                self.readers = self.readers.saturating_sub(1);
                left |= self.readers == 0;
            }
        }
        if left || (before == 0 && self.readers > 0) {
            // Nothing of before may wait for the next reader, nor may it find the port claimed by a dead one.
            self.drain();
            let _cannot_matter = ioctl_tiocnxcl(self.slave.as_fd());
        }
    }

    /// Reads away what no reader will read. (TCIFLUSH would not do: the kernel moves more up behind what it flushes.)
    fn drain(&self) {
        let mut octets = [0; 4096];
        for _ in 0..DRAIN_PARTS_MAX {
            if rustix::io::read(&self.slave, &mut octets).is_ok_and(|count| count > 0) {
                continue;
            }
            let mut waiting = [PollFd::new(&self.slave, PollFlags::IN)];
            if !poll(&mut waiting, Some(&DRAIN_WAIT)).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }
}

impl Drop for SerialLine {
    /// Takes the link away, if it is still ours.
    fn drop(&mut self) {
        let ours = ptsname(&self.master, Vec::new()).map(|name| PathBuf::from(OsString::from_vec(name.into_bytes())));
        if let (Ok(ours), Ok(found)) = (ours, std::fs::read_link(&self.path))
            && ours == found
        {
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

fn watch(name: &Path) -> Option<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::CLOSE_NOWRITE;
    inotify::add_watch(&watch, name, flags).ok()?;
    Some(watch)
}

/// Makes the link in one step, so that nobody finds the path missing.
fn link(name: &Path, path: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_symlink()) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no symbolic link"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let _none = std::fs::remove_file(&beside);
    std::os::unix::fs::symlink(name, &beside)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn line() -> (tempfile::TempDir, SerialLine, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port");
        let line = SerialLine::open(&path).unwrap();
        (directory, line, path)
    }

    fn reader(path: &Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn octets_pass_both_ways_as_they_are() {
        let (_directory, mut line, path) = line();
        let mut reader = reader(&path);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(line.send(&all), 256);
        let mut got = [0; 256];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(got.to_vec(), all);
        reader.write_all(&[0x03, 0x11, 0x0d, 0x7f]).unwrap();
        assert_eq!(line.receive(), [0x03, 0x11, 0x0d, 0x7f]);
        assert!(line.receive().is_empty());
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_the_line_never_waits() {
        let (_directory, mut line, path) = line();
        assert_eq!(line.send(&[1; 100]), 0, "nobody has the port open");
        let mut reader = reader(&path);
        let taken: usize = (0..10_000).map(|_| line.send(&[2; 35])).sum();
        assert!((4096..350_000).contains(&taken), "{taken}");
        let mut got = vec![0; taken];
        reader.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|octet| *octet == 2));
        assert_eq!(line.send(&[3; 35]), 35, "there is room again");
    }

    #[test]
    fn a_reader_that_dies_takes_its_unread_octets_along_and_the_next_one_starts_fresh() {
        let (_directory, mut line, path) = line();
        let first = reader(&path);
        while line.send(&[1; 350]) == 350 {}
        drop(first);
        assert_eq!(line.send(&[2; 1000]), 0);
        let mut second = reader(&path);
        assert_eq!(line.send(&[3; 10]), 10);
        let mut got = [0; 10];
        second.read_exact(&mut got).unwrap();
        assert_eq!(got, [3; 10]);
    }

    #[test]
    fn a_port_that_a_dead_reader_claimed_for_itself_is_free_again() {
        let (_directory, mut line, path) = line();
        let first = reader(&path);
        rustix::termios::ioctl_tiocexcl(first.as_fd()).unwrap();
        drop(first);
        assert!(!line.has_reader());
        // Only the mark is looked at: the superuser opens a claimed port all the same.
        drop(reader(&path));
        assert!(!line.has_reader());
    }

    #[test]
    fn the_path_is_stable_and_goes_with_the_line() {
        let (_directory, line, path) = line();
        let second = SerialLine::open(&path).unwrap();
        drop(line);
        assert!(path.exists(), "the second line's link is left alone");
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(SerialLine::open(&path).is_err());
        assert!(path.exists());
    }
}
