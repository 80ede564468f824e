//! Secrets the agent makes for itself: 32 random octets in a file that only it can read.
//!
//! In the field the key-encryption key comes from a systemd credential; a 0600 file is what a development machine has.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Octets of a secret.
pub const SECRET_OCTETS: usize = 32;
/// Only the owner may read and write.
const MODE: u32 = 0o600;

/// Why a secret or key file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read or written.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// Others may read it.
    #[error("{0}: others may read this key; make it 0600 (chmod 600) and consider it disclosed")]
    Exposed(String),
    /// It does not hold what it should.
    #[error("{0}: expected {1}")]
    Content(String, &'static str),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

/// Refuses a key file that anyone but its owner may read.
pub fn refuse_exposed(path: &Path, file: &File) -> Result<(), SecretError> {
    let name = || path.display().to_string();
    let mode = file.metadata().map_err(|error| SecretError::File(name(), error))?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(SecretError::Exposed(name())) }
}

/// Reads the secret at `path`, or makes it and has it on the disk (file and folder synced) before giving it.
pub fn load_or_make(path: &Path) -> Result<Zeroizing<[u8; SECRET_OCTETS]>, SecretError> {
    let name = || path.display().to_string();
    match File::open(path) {
        Ok(mut file) => {
            refuse_exposed(path, &file)?;
            let mut secret = Zeroizing::new([0; SECRET_OCTETS]);
            file.read_exact(&mut *secret).map_err(|_| SecretError::Content(name(), "32 octets"))?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = Zeroizing::new([0; SECRET_OCTETS]);
            SystemRandom::new().fill(&mut *secret).map_err(|_| SecretError::Random)?;
            write_durably(path, &*secret).map_err(|error| SecretError::File(name(), error))?;
            Ok(secret)
        }
        Err(error) => Err(SecretError::File(name(), error)),
    }
}

/// Makes a directory that only its owner may enter, with its name on the disk before anything is put into it.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
}

/// Writes a file so that after a power cut either the old or the new one is there, whole: write, sync, rename, sync folder.
pub fn write_durably(path: &Path, octets: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(*load_or_make(&path).unwrap(), *made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        load_or_make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make(&path), Err(SecretError::Exposed(_))));
    }

    #[test]
    fn a_secret_cut_short_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_durably(&path, &[1; 7]).unwrap();
        assert!(matches!(load_or_make(&path), Err(SecretError::Content(..))));
        assert_eq!(std::fs::read(&path).unwrap(), [1; 7]);
    }
}
