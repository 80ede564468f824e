//! Power cuts, simulated: the child's writes are recorded, replayed up to a cut as a disk would have kept them, and the store
//! is opened on what is left; and cut again while it recovers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::kill::{child, listen};
use super::ledger;
use super::replay::{Image, Op, cut, load};
use super::writer::{Key, parse_told};

const RUNS: u64 = 3;
const RECORDS_PER_RUN: u64 = 150;
const CUTS: usize = 60;
const NESTED: usize = 12;
const CUTS_PER_NESTED: usize = 4;

/// Builds the recorder; `None`, said aloud, where there is no C compiler.
fn recorder(dir: &Path) -> Option<PathBuf> {
    let library = dir.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_crash/shim.c");
    let built = Command::new("gcc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    match built {
        Ok(status) => {
            assert!(status.success(), "the recorder does not compile");
            Some(library)
        }
        Err(error) => {
            eprintln!("SKIPPED: no power cut is simulated, since gcc does not run: {error}");
            None
        }
    }
}

/// Runs the child under the recorder until it has appended enough, and ends without a clean end.
fn record(library: &Path, dir: &Path, log: &Path, first: u64, count: u64) -> BTreeMap<u64, Key> {
    let mut command = child(dir, first, count);
    command.env("LD_PRELOAD", library).env("RECORD_DIR", dir).env("RECORD_LOG", log);
    let mut running = command.spawn().unwrap();
    let told = listen(&mut running).join().unwrap();
    assert!(running.wait().unwrap().success(), "the child failed");
    assert_eq!(u64::try_from(told.len()).unwrap(), count);
    told
}

fn told_before(ops: &[Op], upto: usize) -> BTreeMap<u64, Key> {
    let lines = ops[..upto].iter().filter(|op| op.is_told()).map(|op| String::from_utf8_lossy(&op.data).into_owned());
    lines.collect::<String>().lines().filter_map(parse_told).collect()
}

/// A moment to cut at: just after something was told, or anywhere.
fn moment(ops: &[Op], random: &mut fastrand::Rng) -> usize {
    let told: Vec<_> = ops.iter().enumerate().filter(|(_, op)| op.is_told()).map(|(index, _)| index).collect();
    if told.is_empty() || random.f64() < 0.4 {
        random.usize(ops.len() / 20..ops.len())
    } else {
        (told[random.usize(0..told.len())] + 1 + random.usize(0..4)).min(ops.len())
    }
}

#[test]
fn i1_what_was_told_as_stored_survives_power_cuts_and_cuts_during_the_recovery() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(library) = recorder(scratch.path()) else { return };
    let (dir, log) = (scratch.path().join("store"), scratch.path().join("log"));
    std::fs::create_dir_all(&dir).unwrap();
    for run in 0..RUNS {
        record(&library, &dir, &log, run * 100_000 + 1, RECORDS_PER_RUN);
    }
    let ops = load(&log);
    assert_eq!(u64::try_from(told_before(&ops, ops.len()).len()).unwrap(), RUNS * RECORDS_PER_RUN);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);

    for round in 0..CUTS {
        let upto = moment(&ops, &mut random);
        cut(&Image::default(), &ops, upto, &mut random).write(&dir);
        ledger::check(&dir, &told_before(&ops, upto), &format!("seed {seed}, cut {round} after {upto} of {}", ops.len()));
    }
    for round in 0..NESTED {
        let upto = moment(&ops, &mut random);
        let base = cut(&Image::default(), &ops, upto, &mut random);
        base.write(&dir);
        let log = scratch.path().join(format!("log-{round}"));
        record(&library, &dir, &log, 900_001, 12);
        let recovery = load(&log);
        for again in 0..CUTS_PER_NESTED {
            let later = random.usize(1..=recovery.len());
            cut(&base, &recovery, later, &mut random).write(&dir);
            let mut told = told_before(&ops, upto);
            told.extend(told_before(&recovery, later));
            let story = format!("seed {seed}, cut {round}.{again} after {upto} and {later} of {}", recovery.len());
            ledger::check(&dir, &told, &story);
        }
    }
    eprintln!("{CUTS} power cuts and {} cuts of recoveries survived", NESTED * CUTS_PER_NESTED);
}
