//! The agent's unit is one that systemd takes as it is written, and a tight one.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// systemd-analyze's exposure, 0 (none) to 10.
const EXPOSURE_MAX: f64 = 2.0;

/// The unit, with a program that is there on every machine.
fn unit(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/kit-agent.service");
    let text = std::fs::read_to_string(source).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/kit-agent run "));
    let file = folder.join("kit-agent.service");
    std::fs::write(&file, text.replace("/usr/bin/kit-agent", "/bin/true")).unwrap();
    file
}

/// What systemd-analyze says; `None` where there is none.
fn analyze(test: &str, arguments: &[&str], unit: &Path) -> Option<(bool, String)> {
    let output = match Command::new("systemd-analyze").args(arguments).arg(unit).output() {
        Ok(output) => output,
        Err(_) => {
            harness::skip::skipped("systemd-analyze", test);
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let verdict = analyze("systemd_finds_nothing_wrong_with_the_unit", &["verify"], &unit(folder.path()));
    if let Some((fine, said)) = verdict {
        assert!(fine && !said.contains("kit-agent"), "{said}");
    }
}

#[test]
fn the_unit_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    let verdict = analyze("the_unit_may_do_little", &["security", "--offline=true", "--no-pager"], &unit(folder.path()));
    if let Some((_, said)) = verdict {
        let level =
            said.lines().find_map(|line| line.split_once("exposure level for kit-agent.service: ")).map(|(_, level)| level);
        let exposure: f64 = level.unwrap().split_whitespace().next().unwrap().parse().unwrap();
        assert!(exposure <= EXPOSURE_MAX, "{said}");
    }
}
