//! Small files and directories that survive a power cut, and how much room the disk has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::outbox::StoreError;

/// A small file is read up to here; what is longer is not ours.
const SMALL_FILE_OCTETS_MAX: u64 = 16 << 20;

/// Makes a directory that only we may enter, and its parents; what is there already is left as it is.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file for reading and writing that only we may read, and makes it where it is not there.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes names in a directory durable: fsync(2) on the directory itself.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory's own name durable in the directory above it.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// Puts `octets` in place of what `path` held: after a power cut it holds the one or the other, whole.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(octets)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// What `path` holds; `None` where there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut octets = Vec::new();
    file.take(SMALL_FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if u64::try_from(octets.len()).unwrap_or(u64::MAX) > SMALL_FILE_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than any file of the store"));
    }
    Ok(Some(octets))
}

/// Names in a directory, in order; what is not UTF-8 is not ours and left out.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Octets that are free for us on the file system of `path`.
pub(crate) fn room(path: &Path) -> io::Result<u64> {
    let file_system = rustix::fs::statvfs(path)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

/// A locked file. It is unlocked when dropped, not merely closed: a process forked in between would hold it on.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "the store's lock was not released");
        }
    }
}

/// Locks the file at `path` for this process, for as long as what is returned lives; `None` where another has it.
pub(crate) fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = open_or_create(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the caller is told when the disk did not do it: no room is told apart from all else.
pub(crate) fn disk_error(what: &str, error: &io::Error) -> StoreError {
    let text = format!("{what}: {error}");
    if is_full(error) { StoreError::Full(text) } else { StoreError::Broken(text) }
}

/// Whether the disk or the quota has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(b"two".as_slice()));
        assert_eq!(names(dir.path()).unwrap(), ["summary"]);
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        assert!(matches!(disk_error("x", &io::Error::from_raw_os_error(28)), StoreError::Full(_)));
        assert!(matches!(disk_error("x", &io::Error::from_raw_os_error(5)), StoreError::Broken(_)));
    }
}
