//! The ECG's way from octets to blocks allocates for blocks, never for frames. A test alone: its process counts.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::alloc::System;

use device_drivers::driver::{By, Endpoint, Event, Output, Security, Start};
use device_drivers::registry;
use kit_protocol::moment::Moment;
use kit_protocol::serial::ads1298::{DataFrame, Found, Framer, GainCode, Header, Lead, Sample};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HERTZ: u32 = 500;
/// Half a second each.
const BLOCKS: usize = 20;
/// What one block costs: its samples, and its places in queues.
const OF_A_BLOCK: usize = 8;
/// What one judgement of 10 s of eight leads costs.
const OF_A_JUDGEMENT: usize = 400;

fn frames(counters: core::ops::Range<u32>) -> Vec<Vec<u8>> {
    let sample = |counter: u32| {
        let beat = i32::try_from(counter % HERTZ).unwrap();
        let channels = std::array::from_fn(|lead| (20_000 - 900 * (beat - 100).abs()).max(0) + i32::try_from(lead).unwrap());
        Sample { channels, ..Sample::default() }
    };
    counters.map(|counter| DataFrame { counter, sample: sample(counter) }.encode().to_vec()).collect()
}

fn allocations(stats: &Stats) -> usize {
    stats.allocations + stats.reallocations
}

/// The framer by itself, and then with its session: one test, so that nothing else of the process allocates meanwhile.
#[test]
fn no_frame_of_the_ecg_allocates() {
    let (first, ten_seconds) = (frames(0..HERTZ), frames(HERTZ..11 * HERTZ));
    let mut framer = Framer::default();
    let mut found = 0;
    let mut take = |found_one: Found| found += usize::from(matches!(found_one, Found::Data(_)));
    first.iter().for_each(|frame| framer.push(frame, &mut take));
    let region = Region::new(ALLOCATOR);
    ten_seconds.iter().for_each(|frame| framer.push(frame, &mut take));
    let of_framer = allocations(&region.change());
    assert_eq!((found, of_framer), (5_500, 0));

    let header = Header { rate_hz: 500, gain: GainCode(0), reference_mv: 2400, leads: Lead::EIGHT.to_vec() }.encode();
    let mut session = (registry::find("ecg-ads1298").unwrap().session)(Start::default());
    let (mut samples, mut judgements) = (0, 0);
    session.handle_event(Moment::ZERO, Event::Up { mtu: 512, security: Security::None, has: &[Endpoint::SERIAL] });
    let mut feed = |octets: &[u8]| {
        session.handle_event(Moment::ZERO, Event::Received { from: Endpoint::SERIAL, octets, by: By::Serial });
        while let Some(output) = session.poll_output() {
            let (reading, output) = output.unwrap();
            match output {
                Output::Samples { block, .. } => samples += block.samples.len(),
                Output::Measured(_) => judgements += 1,
                _ => {}
            }
            session.handle_event(Moment::ZERO, Event::Stored { reading });
        }
    };
    feed(&header);
    first.iter().for_each(|frame| feed(frame));
    let region = Region::new(ALLOCATOR);
    ten_seconds.iter().for_each(|frame| feed(frame));
    let of_session = allocations(&region.change());
    println!("framer {of_framer}, framer and session {of_session} allocations in 5,000 frames; {judgements} told");
    assert!(samples >= 10 * 8 * 500, "{samples}");
    assert!(of_session <= BLOCKS * OF_A_BLOCK + OF_A_JUDGEMENT, "{of_session} allocations in 5,000 frames");
}
