use std::time::Duration;

use kit_protocol::serial::ads1298::{GainCode, LeadOff};

use super::*;
use crate::driver::{DownReason, Endpoint};
use crate::transport::scripted::{Conversation, Given, Step};

fn header() -> Header {
    Header { rate_hz: 500, gain: GainCode(0), reference_mv: 2400, leads: Lead::EIGHT.to_vec() }
}

/// Channel c of sample n is 1000 c + n modulo 1000.
fn frame(counter: u32) -> DataFrame {
    let value = |channel: i32| 1_000 * channel + i32::try_from(counter % 1_000).unwrap();
    DataFrame {
        counter,
        sample: Sample { lead_off: LeadOff::default(), channels: std::array::from_fn(|c| value(c.try_into().unwrap())) },
    }
}

fn frames(counters: impl IntoIterator<Item = u32>) -> Vec<u8> {
    counters.into_iter().flat_map(|counter| frame(counter).encode()).collect()
}

fn sends(octets: Vec<u8>) -> Step {
    Step::Sends(Endpoint::SERIAL, By::Serial, octets)
}

fn play(steps: impl IntoIterator<Item = Step>) -> Vec<Given> {
    play_with(Start::default(), steps)
}

fn play_with(start: Start, steps: impl IntoIterator<Item = Step>) -> Vec<Given> {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    script.extend(steps);
    script.push(Step::Down(DownReason::Lost));
    Conversation::play((DRIVER.session)(start), &script).unwrap()
}

fn story(given: &[Given]) -> Vec<String> {
    given
        .iter()
        .filter(|(_, output)| !matches!(output, Ok((_, Output::Remember(_)))))
        .map(|(_, output)| match output {
            Ok((_, Output::Remember(_))) => "remember".into(),
            Ok((_, Output::Begin { recording, head })) => {
                let leads: Vec<_> = head.channels.iter().map(|channel| channel.code.name().unwrap()).collect();
                format!("begin {recording} {} {}", leads.join(","), head.rate.samples)
            }
            Ok((_, Output::Samples { recording, block })) => {
                let frames = block.samples.len() / 8;
                let mut line = format!("{recording}: {}+{frames} @{}", block.first, block.device_counter.unwrap());
                for (what, mask) in [("off", block.lead_off), ("saturated", block.saturated)] {
                    line += &if mask == 0 { String::new() } else { format!(" {what} {mask:08b}") };
                }
                line
            }
            Ok((_, Output::End { recording })) => format!("end {recording}"),
            Ok((_, Output::Measured(measured))) => format!("found {}", measured.status.join(",")),
            Ok((_, other @ (Output::DeviceClock { .. } | Output::Memory { .. }))) => format!("{other:?}"),
            Err(DriverError::SamplesLost { recording, first, count }) => format!("{recording}: lost {first}+{count}"),
            Err(DriverError::Resynchronised { skipped }) => format!("skipped {skipped}"),
            Err(other) => format!("{other}"),
        })
        .collect()
}

fn assert_samples_are_the_counters(given: &[Given]) {
    for (_, output) in given {
        if let Ok((_, Output::Samples { block, .. })) = output {
            for (counter, sample) in (block.device_counter.unwrap()..).zip(block.samples.chunks(8)) {
                assert_eq!(sample, frame((counter % (1 << 32)).try_into().unwrap()).sample.channels, "counter {counter}");
            }
        }
    }
}

const EIGHT: &str = "begin 1 I,II,V1,V2,V3,V4,V5,V6 500";

#[test]
fn eight_leads_are_recorded_in_blocks_of_half_a_second() {
    let given = play([sends(header().encode()), sends(frames(0..600))]);
    assert_eq!(story(&given), [EIGHT, "1: 0+250 @0", "1: 250+250 @250", "1: 500+100 @500", "end 1"]);
    assert_samples_are_the_counters(&given);
    let Ok((_, Output::Begin { head, .. })) = &given[0].1 else { panic!("no beginning") };
    assert_eq!((head.channels[0].scale.to_string().as_str(), head.channels[0].unit), ("0.047683721505", "uV"));
    assert!(head.continuous && head.kind == Kind::Ecg);
}

#[test]
fn the_split_of_the_octets_makes_no_difference() {
    let octets = [header().encode(), frames(0..300)].concat();
    let whole = story(&play([sends(octets.clone())]));
    for size in [1, 3, 34, 36, 1_000] {
        assert_eq!(story(&play(octets.chunks(size).map(|chunk| sends(chunk.to_vec())))), whole, "chunks of {size}");
    }
}

#[test]
fn frames_before_the_header_are_held_and_not_lost() {
    let given = play([sends(frames(700..1_000)), sends(header().encode()), sends(frames(1_000..1_100))]);
    assert_eq!(story(&given), [EIGHT, "1: 0+250 @700", "1: 250+150 @950", "end 1"]);
    assert_samples_are_the_counters(&given);
}

#[test]
fn frames_that_cannot_be_held_are_declared_lost() {
    let given = play([sends(frames(5..10_105)), sends(header().encode()), Step::Answer]);
    let story = story(&given);
    assert_eq!(story[..3], [EIGHT, "1: lost 5+100", "1: 100+250 @105"]);
    assert_samples_are_the_counters(&given);
}

#[test]
fn a_hole_is_declared_and_jumps_the_recording() {
    let corrupt = {
        let mut octets = frames(100..101);
        octets[9] ^= 0x20;
        octets
    };
    let given =
        play([sends(header().encode()), sends(frames(0..100)), sends(corrupt), sends(frames(101..150)), sends(frames(160..200))]);
    let expected =
        [EIGHT, "skipped 35", "1: 0+100 @0", "1: lost 100+1", "1: 101+49 @101", "1: lost 150+10", "1: 160+40 @160", "end 1"];
    assert_eq!(story(&given), expected);
    assert_samples_are_the_counters(&given);
}

#[test]
fn a_counter_that_wraps_goes_on() {
    let given = play([sends(header().encode()), sends(frames([u32::MAX - 1, u32::MAX, 0, 1, 5]))]);
    let expected = [EIGHT, "1: 0+4 @4294967294", "1: lost 4294967298+3", "1: 7+1 @4294967301", "end 1"];
    assert_eq!(story(&given), expected);
}

#[test]
fn a_device_that_starts_anew_ends_its_recording_and_begins_another() {
    let given = play([sends(header().encode()), sends(frames(0..50)), sends(header().encode()), sends(frames(0..30))]);
    let begin_2 = EIGHT.replace('1', "2").replacen("V2,V2", "V1,V2", 1);
    assert_eq!(story(&given), [EIGHT, "1: 0+50 @0", "1: lost 50+0", "end 1", begin_2.as_str(), "2: 0+30 @0", "end 2"]);
}

#[test]
fn a_device_that_starts_anew_unheard_waits_for_its_header() {
    let given = play([
        sends(header().encode()),
        sends(frames(0..50)),
        sends(frames(0..30)),
        sends(header().encode()),
        sends(frames(30..40)),
    ]);
    let story = story(&given);
    assert_eq!(story[1..4], ["1: 0+50 @0", "1: lost 50+0", "end 1"]);
    assert_eq!(story[5..], ["2: 0+40 @0", "end 2"]);
}

#[test]
fn a_frame_that_comes_twice_is_taken_once() {
    let given = play([sends(header().encode()), sends(frames([0, 1, 1, 2]))]);
    assert_eq!(story(&given), [EIGHT, "1: 0+3 @0", "end 1"]);
}

#[test]
fn a_header_with_other_settings_begins_another_recording_without_a_hole() {
    let louder = Header { gain: GainCode(0x60), ..header() };
    let given = play([
        sends(header().encode()),
        sends(frames(0..50)),
        sends(louder.encode()),
        sends(frames(50..60)),
        sends(frames(70..80)),
    ]);
    let story = story(&given);
    assert_eq!(story[1..3], ["1: 0+50 @0", "end 1"]);
    assert_eq!(story[4..], ["2: 0+10 @50", "2: lost 60+10", "2: 20+10 @70", "end 2"]);
}

#[test]
fn an_electrode_that_is_off_marks_every_lead_that_uses_it() {
    let off = |counter, positive, negative| {
        let mut frame = frame(counter);
        frame.sample.lead_off = LeadOff { positive, negative, gpio: 0 };
        frame.encode().to_vec()
    };
    let marked = |positive, negative| {
        let given = play([sends(header().encode()), sends((0..10).flat_map(|n| off(n, positive, negative)).collect())]);
        story(&given)[1].clone()
    };
    assert_eq!(marked(0b0010_0000, 0), "1: 0+10 @0 off 00100000", "V4 alone");
    assert_eq!(marked(0b0000_0001, 0), "1: 0+10 @0 off 11111101", "LA: I, and the Wilson terminal");
    assert_eq!(marked(0b0000_0010, 0), "1: 0+10 @0 off 11111110", "LL: II, and the Wilson terminal");
    assert_eq!(marked(0, 0b0000_0011), "1: 0+10 @0 off 11111111", "RA: all");
}

#[test]
fn a_saturated_channel_is_marked_until_its_filters_settle() {
    let mut octets = frames(0..100);
    let mut saturated = frame(100);
    saturated.sample.channels[7] = SAMPLE_MIN;
    octets.extend(saturated.encode());
    octets.extend(frames(101..200));
    let given = play([sends(header().encode()), sends(octets)]);
    assert_eq!(story(&given)[1..], ["1: 0+100 @0", "1: 100+26 @100 saturated 10000000", "1: 126+74 @126", "end 1"]);
}

#[test]
fn a_quiet_line_hands_over_what_is_gathered() {
    let mut conversation = Conversation::new((DRIVER.session)(Start::default()));
    for step in
        [Step::Up(vec![Endpoint::SERIAL]), sends(header().encode()), sends(frames(0..30)), Step::Wait(Duration::from_secs(2))]
    {
        conversation.step(&step).unwrap();
    }
    assert_eq!(story(conversation.given()), [EIGHT, "1: 0+30 @0"]);
}

#[test]
fn frames_that_are_no_conversion_are_refused_and_are_a_hole() {
    let broken = {
        let mut octets = frame(10).encode();
        octets[6] = 0;
        let crc = crc_of(&octets[2..33]);
        octets[33..].copy_from_slice(&crc.to_le_bytes());
        octets.to_vec()
    };
    let given =
        play([sends(header().encode()), sends(frames(0..10)), sends(broken.clone()), sends(broken), sends(frames(11..20))]);
    let story = story(&given);
    assert_eq!(story.iter().filter(|line| line.contains("undecodable")).count(), 1, "one by one, but not 500 a second");
    assert!(story.contains(&"1: lost 10+1".to_string()));
}

fn crc_of(octets: &[u8]) -> u16 {
    octets.iter().fold(0xffff, |crc, octet| {
        (0..8).fold(crc ^ u16::from(*octet) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[test]
fn what_the_configuration_assumes_stands_in_for_a_header_that_never_came() {
    let meaning = Meaning { rate_hz: 250, scale: Decimal::new(1, 0), unit: "uV", leads: Lead::EIGHT.to_vec() };
    let script = [Step::Up(vec![Endpoint::SERIAL]), sends(frames(0..10)), Step::Down(DownReason::End)];
    let given = Conversation::play(session_assuming(meaning), &script).unwrap();
    assert_eq!(story(&given), [EIGHT.replace("500", "250").as_str(), "1: 0+10 @0", "end 1"]);
}

#[test]
fn without_a_header_nothing_is_recorded_and_that_is_said() {
    let given = play([sends(frames(0..10))]);
    assert_eq!(story(&given), ["protocol broken: 10 frames without a header frame"]);
}

#[test]
fn a_line_that_carries_something_else_is_not_this_device() {
    let mut conversation = Conversation::new((DRIVER.session)(Start::default()));
    conversation.step(&Step::Up(vec![Endpoint::SERIAL])).unwrap();
    for _ in 0..40 {
        conversation.step(&sends(vec![0x55; 1_000])).unwrap();
    }
    conversation.step(&Step::Close).unwrap();
    assert!(conversation.given().iter().any(|given| matches!(given.1, Err(DriverError::NotThisDevice(_)))));
}

proptest::proptest! {
    #[test]
    fn no_input_panics_and_samples_are_never_invented(
        pieces in proptest::collection::vec(
            (proptest::prelude::any::<u32>(), 0..40_u32, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), proptest::prelude::any::<bool>()),
            0..20,
        ),
    ) {
        let steps = pieces.into_iter().flat_map(|(counter, count, noise, with_header)| {
            let header = if with_header { header().encode() } else { Vec::new() };
            [sends(header), sends(frames((0..count).map(|n| counter.wrapping_add(n)))), sends(noise)]
        });
        let given = play(steps.collect::<Vec<_>>());
        assert_samples_are_the_counters(&given);
    }
}

fn remembered(given: &[Given]) -> Vec<Vec<u8>> {
    let octets = |output: &Given| if let Ok((_, Output::Remember(octets))) = &output.1 { Some(octets.clone()) } else { None };
    given.iter().filter_map(octets).collect()
}

/// What a conversation that comes `later` gives, whose first frame has this counter, and that hears a header at its end.
fn later(memory: &[u8], later: Duration, counter: u32, header: &Header) -> Vec<Given> {
    assert!(memory.len() <= crate::driver::REMEMBERED_OCTETS_MAX);
    let start = Start { remembered: Some(memory.to_vec()), ..Start::default() };
    let script = [
        Step::Wait(later),
        Step::Up(vec![Endpoint::SERIAL]),
        sends(frames(counter..counter + 600)),
        sends(header.encode()),
        sends(frames(counter + 600..counter + 700)),
        Step::Down(DownReason::Lost),
    ];
    Conversation::play((DRIVER.session)(start), &script).unwrap()
}

#[test]
fn a_conversation_after_a_kill_records_at_once_with_the_header_that_was_remembered() {
    let first =
        play([sends(header().encode()), sends(frames(1_000..1_100)), sends(header().encode()), sends(frames(1_100..1_200))]);
    let memory = remembered(&first);
    assert_eq!(memory.len(), 2, "with each header");
    let given = later(&memory[1], Duration::from_secs(20), 11_100, &header());
    assert_eq!(story(&given), [EIGHT, "1: 0+250 @11100", "1: 250+250 @11350", "1: 500+200 @11600", "end 1"]);
    let begun = given.iter().position(|(_, output)| matches!(output, Ok((_, Output::Samples { .. })))).unwrap();
    assert!(begun <= 2, "begin, remember, and the first block before the header came");
    assert_eq!(remembered(&given).len(), 2, "refreshed at once and with the header");
}

#[test]
fn a_device_that_began_anew_is_not_recorded_with_the_header_of_its_run_before() {
    let other = Header { gain: GainCode(0x10), ..header() };
    let first = play([sends(header().encode()), sends(frames(1_000..1_100))]);
    let memory = remembered(&first).remove(0);
    for (seconds, counter) in [(20, 0), (20, 5_000), (20, 12_000), (0, 500), (3_600, 1_000)] {
        let given = later(&memory, Duration::from_secs(seconds), counter, &other);
        let begins: Vec<_> = given
            .iter()
            .filter_map(|(_, o)| o.as_ref().ok())
            .filter_map(|(_, o)| match o {
                Output::Begin { head, .. } => Some(head.channels[0].scale),
                _ => None,
            })
            .collect();
        assert_eq!(begins, [other.scale().unwrap()], "{seconds} s, {counter}");
        assert_samples_are_the_counters(&given);
    }
}

#[test]
fn a_header_that_differs_from_the_remembered_one_begins_another_recording() {
    let other = Header { gain: GainCode(0x10), ..header() };
    let memory = remembered(&play([sends(header().encode()), sends(frames(1_000..1_100))])).remove(0);
    let story = story(&later(&memory, Duration::from_secs(2), 2_000, &other));
    assert_eq!(story[4], "end 1");
    assert!(story[5].starts_with("begin 2"), "{story:?}");
}

#[test]
fn a_recording_of_a_set_time_ends_by_itself_and_the_next_one_begins_with_the_device() {
    let start = || Start { recording_time: Some(Duration::from_secs(1)), ..Start::default() };
    let given =
        play_with(start(), [sends(header().encode()), sends(frames(7..2_000)), sends(header().encode()), sends(frames(0..900))]);
    let expected = [EIGHT, "1: 0+250 @7", "1: 250+250 @257", "end 1", "begin 2 I,II,V1,V2,V3,V4,V5,V6 500"];
    assert_eq!(story(&given)[..5], expected);
    assert_eq!(story(&given)[5..], ["2: 0+250 @0", "2: 250+250 @250", "end 2"]);
    let fixed = |(_, output): &Given| !matches!(output, Ok((_, Output::Begin { head, .. })) if head.continuous);
    assert!(given.iter().all(fixed));
    assert_samples_are_the_counters(&given);
    // A hole behind its end is none, one in it is.
    let holes = [sends(header().encode()), sends(frames(0..100)), sends(frames(200..800)), sends(frames(900..1_000))];
    let expected = [EIGHT, "1: 0+100 @0", "1: lost 100+100", "1: 200+250 @200", "1: 450+50 @450", "end 1"];
    assert_eq!(story(&play_with(start(), holes)), expected);
}
