//! What comes in wrong, or does not fit any more: nothing is lost by it, nothing wrong gets in, and whoever stands at the kit is
//! told in one sentence. Whole programs over the embedded broker and the real clock; what is waited for is a condition.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod assignments;
mod broker_of_another_authority;
mod configuration;
mod forged_batches;
mod frames;
mod full_disk;
mod plaintext;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use harness::plant::devices::{self, Simulated};
use harness::plant::{Layout, Plant};

/// The demonstration, which plays every program's role.
const PROGRAM: &str = env!("CARGO_BIN_EXE_demo");

fn layout(names: &[&str]) -> Layout {
    let devices: Option<Vec<Simulated>> = names.iter().map(|name| devices::find(name)).collect();
    Layout::new(PathBuf::from(PROGRAM), devices.unwrap())
}

/// A plant in a folder of its own, which stays when the test fails.
struct Bench {
    plant: Plant,
    directory: Option<tempfile::TempDir>,
}

impl Bench {
    async fn build(layout: Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plant = Plant::build(layout, directory.path()).await.unwrap();
        Self { plant, directory: Some(directory) }
    }

    fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// What a question of the agent's command line is answered with.
    async fn asked(&self, words: &[&str]) -> Said {
        Said::of(&self.plant.ask_kit(words).await.unwrap())
    }

    /// Of every epoch and lane the number that the next record gets: what was ever appended.
    async fn numbers_given(&self) -> Vec<(String, String, u64)> {
        let asked = self.asked(&["queue", "--json"]).await;
        assert_eq!(asked.code, Some(0), "{asked:?}");
        let line = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            (text("epoch"), text("lane"), number(&line, "/next"))
        };
        asked.out.lines().map(line).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take().filter(|_| std::thread::panicking()) {
            eprintln!("everything is kept in {}", directory.keep().display());
        }
    }
}

/// How a program ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }

    /// The one line of complaint.
    fn complaint(&self) -> &str {
        assert_eq!((self.error.lines().count(), self.out.as_str()), (1, ""), "{self:?}");
        self.error.trim_end()
    }
}

/// A number that `status` shows.
fn number(status: &serde_json::Value, pointer: &str) -> u64 {
    status.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{pointer} of {status}"))
}

/// Whether the centre answers, and whether a segment of the first device is on the disk.
fn flowing(status: &serde_json::Value) -> bool {
    status["link"]["settled"] == true && number(status, "/devices/0/segments") > 0
}

/// How long a condition may take to come true, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Waits until `look` finds something.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("never came: {what}"))
}
