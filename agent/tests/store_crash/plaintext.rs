//! I7 over every file of the store.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::writer::{MARKER, write};

/// Every file with its octets. The store may still be closing: what it removes meanwhile is no file of it any more.
fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
            continue;
        }
        match fs::read(entry.path()) {
            Ok(octets) => files.push((entry.path(), octets)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{}: {error}", entry.path().display()),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_no_plaintext_reading_device_assignment_or_key_is_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 200, |_, _| {}).await;
    let files = files_below(dir.path());
    let octets: usize = files.iter().map(|(_, octets)| octets.len()).sum();
    assert!(octets > 100_000, "only {octets} octets were searched");
    let secrets: [&[u8]; 4] = [MARKER.as_bytes(), b"the key-encryption key of a test", b"implausible", b"A-11"];
    for (path, octets) in files {
        for secret in secrets {
            let found = octets.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} holds {:?}", path.display(), String::from_utf8_lossy(secret));
        }
    }
}
