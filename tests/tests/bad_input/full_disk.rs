//! The disk of the kit's state runs full, and has room again.

use std::path::Path;

use harness::clock;
use harness::disk::SmallDisk;
use harness::ledger::Fault;

use super::{Bench, flowing, layout, number};

/// The store keeps 200 MiB free for itself; this leaves it some more.
const DISK_OCTETS: u64 = 232 << 20;
/// What the log says of each append that was refused.
const REFUSED: &str = "the store refused an append; trying again";

fn refusals(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap().matches(REFUSED).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_on_a_full_disk_the_agent_stays_up_says_so_and_tells_no_device_that_anything_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), DISK_OCTETS) else {
        return harness::skip::skipped(
            "tmpfs",
            "i1_on_a_full_disk_the_agent_stays_up_says_so_and_tells_no_device_that_anything_is_stored",
        );
    };
    let mut layout = layout(&["oximeter-nonin"]);
    layout.state = Some(folder.path().join("kit"));
    let mut bench = Bench::build(layout).await;
    bench.plant.hand_over().await.unwrap();
    let sent = |status: &serde_json::Value| flowing(status) && number(status, "/waiting") == 0;
    bench.plant.status_until("it sends, and everything has arrived", sent).await.unwrap();

    let from_boottime_ns = clock::now().as_nanos();
    disk.fill().unwrap();
    let full = bench.plant.status_until("it says so", |status| status["store_trouble"].is_string()).await.unwrap();
    let said = full["store_trouble"].as_str().unwrap();
    assert!(said.contains("no room on the disk") && said.contains("free some of it"), "{said}");
    let asked = bench.asked(&["status"]).await;
    assert!(asked.out.lines().any(|line| line.starts_with("The disk: no room on the disk")), "{asked:?}");
    // Not one append of several was answered, and so no device was told `Stored`.
    let (given, stored) = (bench.numbers_given().await, number(&full, "/devices/0/segments"));
    let log = bench.plant.log("agent");
    let before = refusals(&log);
    let still = bench.plant.status_until("it tries again, twice", |_| refusals(&log) >= before + 2).await.unwrap();
    assert_eq!((bench.numbers_given().await, number(&still, "/devices/0/segments")), (given, stored));

    disk.free().unwrap();
    let room = |status: &serde_json::Value| {
        status["store_trouble"].is_null() && number(status, "/devices/0/segments") > stored && status["link"]["settled"] == true
    };
    bench.plant.status_until("it stores again", room).await.unwrap();
    bench.plant.faults.push(Fault { from_boottime_ns, to_boottime_ns: clock::now().as_nanos() });
    let balance = bench.plant.settle().await.unwrap().balance;
    assert!(balance.holds() && balance.stored > 0, "{balance:?}");
}
