//! The whole kit on one machine, with the network cut and the agent killed, against both brokers: what the demo measures must
//! be at the centre exactly once. This file alone needs a broker and the real clock.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::process::{Command, Stdio};

use harness::broker::mosquitto;
use serde_json::Value;

const DEVICES: [&str; 6] = ["oximeter-nonin", "ecg-ads1298", "blood-pressure", "thermometer", "glucose-meter", "spirometer-flow"];
/// Long enough for measurements of each Bluetooth device before, between and after the faults.
const SECONDS: &str = "45";
/// How much longer than a kill a missed span may be, and the kill itself.
const MISSED_SECONDS_MAX: f64 = 1.0 + 6.0;

/// The demo's ledger, and whether it said that all is well.
fn demo(seconds: &str, arguments: &[&str]) -> (Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--json", "--seed", "7", "--seconds", seconds])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Shown by the test framework only if the test fails.
    eprintln!("{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let ledger = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no ledger but {text:?}; it said:\n{said}"));
    eprintln!("{text}");
    (ledger, output.status.success())
}

fn number(ledger: &Value, field: &str) -> u64 {
    ledger[field].as_u64().unwrap_or_else(|| panic!("{field} of {ledger}"))
}

fn balances(ledger: &Value) {
    assert_eq!(number(ledger, "missing"), 0, "{ledger}");
    assert_eq!(number(ledger, "double"), 0, "{ledger}");
    assert_eq!(number(ledger, "wrong_assignment"), 0, "{ledger}");
    let missed = ledger["missed"].as_array().unwrap();
    let excused: u64 = missed.iter().map(|span| span["samples"].as_u64().unwrap()).sum();
    assert_eq!(number(ledger, "made"), number(ledger, "stored") + excused, "{ledger}");
    assert!(missed.iter().all(|span| span["seconds"].as_f64().unwrap() <= MISSED_SECONDS_MAX), "{ledger}");
}

fn of_each_device(ledger: &Value) {
    for device in DEVICES {
        assert!(ledger["readings_by_device"][device].as_u64().is_some_and(|records| records > 0), "{device}: {ledger}");
    }
    assert!(number(ledger, "octets_up") > 0 && number(ledger, "pss_peak_kib") > 0, "{ledger}");
}

#[test]
fn i2_a_cut_and_a_kill_lose_and_double_nothing_over_the_embedded_broker() {
    let (ledger, well) = demo(SECONDS, &["--cuts", "1", "--kills", "1"]);
    balances(&ledger);
    of_each_device(&ledger);
    assert_eq!((number(&ledger, "cuts"), number(&ledger, "kills")), (1, 1));
    assert!(well);
}

#[test]
fn i2_a_cut_and_a_kill_lose_and_double_nothing_over_mosquitto() {
    if mosquitto::find().is_none() {
        return harness::skip::skipped("mosquitto", "i2_a_cut_and_a_kill_lose_and_double_nothing_over_mosquitto");
    }
    let (ledger, well) = demo(SECONDS, &["--cuts", "1", "--kills", "1", "--broker", "mosquitto"]);
    balances(&ledger);
    of_each_device(&ledger);
    assert!(well);
}

#[test]
fn without_a_fault_nothing_is_missed() {
    let (ledger, well) = demo("15", &["--cuts", "0", "--kills", "0", "--devices", "oximeter-nonin"]);
    balances(&ledger);
    assert_eq!(ledger["missed"], Value::Array(Vec::new()), "{ledger}");
    assert!(well);
}

#[test]
fn wrong_use_is_exit_code_2() {
    let status = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments).output().unwrap();
        (output.status.code(), output.stdout.is_empty(), !output.stderr.is_empty())
    };
    assert_eq!(status(&["--seconds", "soon"]), (Some(2), true, true));
    assert_eq!(status(&["--help"]).0, Some(0));
}
