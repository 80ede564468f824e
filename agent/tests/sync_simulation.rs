//! The planner in virtual time: one thread, a model store, link, broker and centre, and faults from a seed.
//!
//! Each seed is a world of its own: how much waits at the start, how fast the link is, what breaks and when. After the faults
//! end the world must come to rest with every record at the centre exactly once. A failure prints its seed.

#![expect(clippy::unwrap_used, reason = "a test: what is missing here is the test's own mistake")]

#[path = "sync_simulation/centre.rs"]
mod centre;
#[path = "sync_simulation/shelf.rs"]
mod shelf;
#[path = "sync_simulation/world.rs"]
mod world;

use std::time::Duration;

use kit_protocol::uplink::id::Lane;
use world::{Faults, World};

const SEEDS: u64 = 240;

fn run(seed: u64, faults: Faults) -> World {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed, faults);
        world.run();
        world
    });
    outcome.unwrap_or_else(|_| panic!("seed {seed} failed, see above"))
}

#[test]
fn i2_every_record_is_at_the_centre_exactly_once_whatever_fails() {
    let mut seen = [0_u64; 6];
    for seed in 0..SEEDS {
        let world = run(seed, Faults::ALL);
        for (sum, count) in seen.iter_mut().zip(world.faults_seen()) {
            *sum += count;
        }
    }
    // A simulation in which nothing breaks shows nothing.
    assert!(seen.iter().all(|count| *count > SEEDS / 4), "cuts, kills, wipes, restores, lost answers, lost PUBACKs: {seen:?}");
}

#[test]
fn i3_without_faults_every_record_is_sent_once() {
    for seed in 0..40 {
        let world = run(seed, Faults::NONE);
        assert_eq!(world.records_sent(), world.records_made(), "seed {seed}");
    }
}

#[test]
fn i5_urgent_is_not_starved_by_a_backlog_and_the_backlog_not_by_urgent() {
    for seed in 0..20 {
        let mut world = World::saturated(seed);
        world.run_for(Duration::from_secs(60));
        let worst = world.worst_urgent_wait();
        assert!(worst <= Duration::from_secs(15), "seed {seed}: urgent waited {worst:?} on a 2G link");
        for lane in Lane::ALL {
            assert!(world.octets_committed(lane) > 0, "seed {seed}: {lane} starved");
        }
    }
}

#[test]
fn i6_poison_records_are_quarantined_and_block_nobody() {
    let mut poisoned = 0;
    for seed in 1000..1060 {
        poisoned += run(seed, Faults::POISON).poison_quarantined();
    }
    assert!(poisoned > 60, "{poisoned}");
}
