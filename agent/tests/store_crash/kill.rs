//! SIGKILL at random moments, the opening among them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::ledger;
use super::writer::{COUNT, DIR, FIRST, Key, parse_told};

const KILLS: u64 = 24;

/// This binary again, as the process that appends.
pub(crate) fn child(dir: &Path, first: u64, count: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "writer::child_appends_and_tells", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(FIRST, first.to_string()).env(COUNT, count.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Everything the child tells until its pipe ends.
pub(crate) fn listen(child: &mut Child) -> std::thread::JoinHandle<BTreeMap<u64, Key>> {
    let output = child.stdout.take().unwrap();
    std::thread::spawn(move || BufReader::new(output).lines().filter_map(|line| parse_told(&line.ok()?)).collect())
}

#[test]
fn i1_what_was_told_as_stored_survives_sigkill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut told = BTreeMap::new();
    for kill in 0..KILLS {
        let mut child = child(dir.path(), kill * 1_000_000 + 1, u64::MAX / 2).spawn().unwrap();
        let listener = listen(&mut child);
        // Every fourth one is killed while it opens; the others within their first commits.
        let span = if kill % 4 == 3 { random.u64(1..40) } else { random.u64(60..400) };
        std::thread::sleep(Duration::from_millis(span));
        child.kill().unwrap();
        child.wait().unwrap();
        told.extend(listener.join().unwrap());
        let story = format!("seed {seed}, kill {kill} after {span} ms");
        let stored = ledger::check(dir.path(), &told, &story);
        assert!(stored >= told.len());
    }
    assert!(told.len() > 100, "the children were told of {} records only: the test shows nothing", told.len());
    eprintln!("{KILLS} kills, {} records told as stored, none lost", told.len());
}
