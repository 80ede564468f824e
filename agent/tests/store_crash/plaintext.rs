//! I7 over every file of the store.

use std::fs;
use std::path::{Path, PathBuf};

use super::writer::{MARKER, write};

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { files.extend(files_below(&entry.path())) } else { files.push(entry.path()) }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_no_plaintext_reading_device_assignment_or_key_is_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 200, |_, _| {}).await;
    let files = files_below(dir.path());
    let octets: usize = files.iter().map(|path| fs::read(path).unwrap().len()).sum();
    assert!(octets > 100_000, "only {octets} octets were searched");
    let secrets: [&[u8]; 4] = [MARKER.as_bytes(), b"the key-encryption key of a test", b"implausible", b"A-11"];
    for path in files {
        let octets = fs::read(&path).unwrap();
        for secret in secrets {
            let found = octets.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} holds {:?}", path.display(), String::from_utf8_lossy(secret));
        }
    }
}
