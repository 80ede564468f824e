//! Durable append: 256 callers through the store against a bare file with one fdatasync for each 256 records.
//!
//! `cargo bench -p kit-agent --bench append [-- DIRECTORY]`; the directory says on which disk. Rounds of the two alternate, so
//! that a disk that slows down slows both; the ratio of each round is what counts, its median what is kept.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kit_agent::store::outbox::{Appended, Class};
use kit_agent::store::thread::{Draft, StoreHandle};
use kit_agent::store::{Kek, Options, Retention, Stamp};
use kit_protocol::uplink::id::{BootId, Lane, Origin};
use kit_protocol::uplink::wire::{self, record::Content};

const CALLERS: u64 = 256;
const RECORDS_PER_CALLER: u64 = 80;
const RECORD_OCTETS: usize = 200;
const ROUNDS: usize = 7;
/// Appends of one lone caller, by which its wait is measured.
const ALONE: u64 = 2_000;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("measures only under cargo bench");
        return;
    }
    let base = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let dir = match base {
        Some(base) => tempfile::tempdir_in(base).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let (bare, stored) = if round.is_multiple_of(2) {
            let bare = bare_file(dir.path());
            (bare, runtime.block_on(store(dir.path(), round, CALLERS, RECORDS_PER_CALLER)))
        } else {
            let stored = runtime.block_on(store(dir.path(), round, CALLERS, RECORDS_PER_CALLER));
            (bare_file(dir.path()), stored)
        };
        let ratio = bare.as_secs_f64() / stored.as_secs_f64();
        println!("round {round}: bare file {:.0}/s, store {:.0}/s, ratio {ratio:.2}", rate(bare), rate(stored));
        ratios.push(ratio);
    }
    let written = handed_to_write();
    let alone = runtime.block_on(store(dir.path(), ROUNDS, 1, ALONE));
    let written = handed_to_write() - written;
    let syncs = bare_groups(dir.path(), ALONE, 1);
    ratios.sort_by(f64::total_cmp);
    println!(
        "one caller: {:.2} ms and {} octets handed to write(2) an append; an fdatasync of one record alone {:.2} ms",
        alone.as_secs_f64() * 1e3 / f64_of(ALONE),
        written / ALONE,
        syncs.as_secs_f64() * 1e3 / f64_of(ALONE)
    );
    println!("median ratio {:.2} (budget: at least 0.65)", ratios[ratios.len() / 2]);
}

fn f64_of(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Octets that this process gave to write(2) and its kin so far; the store's opening and closing are in it.
fn handed_to_write() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

fn rate(time: Duration) -> f64 {
    f64_of(CALLERS * RECORDS_PER_CALLER) / time.as_secs_f64()
}

fn bare_file(dir: &Path) -> Duration {
    bare_groups(dir, RECORDS_PER_CALLER, CALLERS)
}

/// The yardstick: groups of records appended to a file, one fdatasync each.
fn bare_groups(dir: &Path, groups: u64, records: u64) -> Duration {
    let path = dir.join("bare");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let group = vec![0x5A; RECORD_OCTETS * usize::try_from(records).unwrap()];
    let begun = tokio::time::Instant::now();
    for _ in 0..groups {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
    }
    let time = begun.elapsed();
    std::fs::remove_file(path).unwrap();
    time
}

async fn store(dir: &Path, round: usize, callers: u64, records: u64) -> Duration {
    let dir = dir.join(format!("store-{round}"));
    let clock = wire::Clock { boot_id: vec![7; 16], ..Default::default() };
    let options = Options {
        dir: dir.clone(),
        kit: "KIT-0001".parse().unwrap(),
        kek: Kek::new([5; 32]),
        boot: BootId([7; 16]),
        stamp: Arc::new(move || Stamp { boottime_ns: 1, clock: clock.clone() }),
        free_floor: 0,
        retention: Retention::default(),
    };
    let store = StoreHandle::start(options).unwrap();
    store.view().wait_for(|view| view.trouble.is_none()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for record in 0..records {
                    let appended = store.append(draft(caller * records + record)).await.unwrap();
                    assert!(matches!(appended, Appended::New { .. }));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let time = begun.elapsed();
    store.close().await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    time
}

/// A record of 200 octets with an origin, as a reading has one.
fn draft(n: u64) -> Draft {
    let refusal = wire::Refusal { reason: "implausible".into(), octets: vec![0x5A; 156], ..Default::default() };
    Draft {
        lane: Lane::Vitals,
        class: Class::Value,
        boottime_ns: 1_000_000_000_000 + n,
        clock: wire::Clock { boot_id: vec![7; 16], ..Default::default() },
        device: Some(wire::Device { identity: "SN-1".into(), ..Default::default() }),
        driver: Some(wire::Driver { name: "oximeter-nonin".into(), version: "1".into() }),
        from_clock: None,
        content: Content::Refusal(refusal),
        origin: Some(Origin(n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes())),
        marks: Vec::new(),
    }
}
