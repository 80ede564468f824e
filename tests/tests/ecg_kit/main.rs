//! ECGs through the whole kit: out of it as files of other people's formats, and into it out of such files, sample for sample.
//! Whole programs over the embedded broker and the real clock; what is waited for is a condition.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod export;
mod import;

use std::path::PathBuf;
use std::time::Duration;

use harness::plant::devices::{self, Simulated};
use harness::plant::{Layout, Plant};

/// A plant of these devices in a folder of its own.
async fn plant(names: &[&str]) -> (Plant, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let devices: Option<Vec<Simulated>> = names.iter().map(|name| devices::find(name)).collect();
    let layout = Layout::new(PathBuf::from(env!("CARGO_BIN_EXE_demo")), devices.unwrap());
    (Plant::build(layout, directory.path()).await.unwrap(), directory)
}

/// How long a condition may take to come true, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` says so.
async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let found = async {
        while !look() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("never came: {what}"));
}
