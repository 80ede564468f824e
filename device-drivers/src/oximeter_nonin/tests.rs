use std::time::Duration;

use kit_protocol::reading::{Memory, Quantity, Special};
use kit_protocol::serial::nonin_df2::Frame;
use kit_protocol::serial::nonin_df7;

use super::*;
use crate::driver::{By, DownReason, Event, LinkError, Output, SIGNAL_UNSTORED_MAX, Session};
use crate::text::hex;
use crate::transport::scripted::{Conversation, Given, Step};

/// One packet that states this, its waveform counting on from `first`.
fn packet(first: u8, spo2: Option<u8>, heart_rate: Option<u16>, status: u8) -> Vec<u8> {
    let mut at = first;
    let pleth = std::array::from_fn(|_| {
        at = at.wrapping_add(1);
        at.wrapping_sub(1)
    });
    Packet {
        heart_rate,
        spo2,
        firmware: 48,
        timer: 0,
        status2: 0,
        spo2_display: spo2,
        spo2_fast: spo2,
        spo2_beat_to_beat: spo2,
        heart_rate_extended: heart_rate,
        spo2_extended: spo2,
        spo2_extended_display: spo2,
        heart_rate_display: heart_rate,
        heart_rate_extended_display: heart_rate,
        status: [FrameStatus(0x80 | status); 25],
        pleth,
    }
    .to_octets()
}

fn good(number: u8) -> Vec<u8> {
    packet(number.wrapping_mul(25), Some(97), Some(72), 0)
}

fn sends(octets: Vec<u8>) -> Step {
    Step::Sends(Endpoint::SERIAL, By::Serial, octets)
}

/// Each of these takes a third of a second on the line.
fn line(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<Step> {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    for packet in packets {
        script.push(Step::Wait(Duration::from_nanos(333_333_334)));
        script.push(sends(packet));
    }
    script
}

fn play(mut script: Vec<Step>) -> Vec<Given> {
    script.push(Step::Down(DownReason::Lost));
    Conversation::play((DRIVER.session)(Start::default()), &script).unwrap()
}

fn readings(given: &[Given]) -> Vec<&Measured> {
    given.iter().filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None }).collect()
}

/// The story of the waveform: what begins, where blocks stand, what was lost, what ends.
fn story(given: &[Given]) -> Vec<String> {
    given
        .iter()
        .filter_map(|(_, output)| match output {
            Ok((_, Output::Begin { recording, .. })) => Some(format!("begin {recording}")),
            Ok((_, Output::Samples { recording, block })) => {
                let artifact = if block.artifact { " artifact" } else { "" };
                Some(format!("{recording}: {}+{}{artifact}", block.first, block.samples.len()))
            }
            Ok((_, Output::End { recording })) => Some(format!("end {recording}")),
            Ok((_, Output::Measured(_))) => None,
            Err(DriverError::SamplesLost { recording, first, count }) => Some(format!("{recording}: lost {first}+{count}")),
            Err(DriverError::Resynchronised { skipped }) => Some(format!("skipped {skipped}")),
            Err(other) => Some(format!("{other:?}")),
            Ok((_, other)) => Some(format!("{other:?}")),
        })
        .collect()
}

/// Every sample counts on modulo 256 from the recording's start.
fn assert_samples_stand_in_place(given: &[Given]) {
    for (_, output) in given {
        if let Ok((_, Output::Samples { block, .. })) = output {
            for (place, sample) in (block.first..).zip(&block.samples) {
                assert_eq!(*sample, i32::from(place.to_le_bytes()[0]), "sample {place}");
            }
        }
    }
}

#[test]
fn one_reading_every_ten_seconds_and_the_whole_waveform_in_blocks_of_a_second() {
    let given = play(line((0..93).map(good)));
    let readings = readings(&given);
    assert_eq!(readings.len(), 4, "at 0, 10, 20 and 30 s");
    let values: Vec<_> = readings[0].values.iter().map(|v| (v.code, v.quantity.clone(), v.unit)).collect();
    let number = |n| Quantity::Number(Decimal::whole(n));
    assert_eq!(values, [(Mdc::SPO2, number(97), "%"), (Mdc::PULSE_RATE, number(72), "/min")]);
    assert_eq!(readings[0].octets, good(0));
    let story = story(&given);
    assert_eq!((story.first().unwrap().as_str(), story.last().unwrap().as_str()), ("begin 1", "end 1"));
    assert_eq!(story.len(), 2 + 93 / 3);
    assert_eq!(story[1], "1: 0+75");
    assert_samples_stand_in_place(&given);
}

#[test]
fn the_split_of_the_octets_makes_no_difference() {
    let octets: Vec<u8> = (0..6).flat_map(good).collect();
    let whole = story(&play(vec![Step::Up(vec![Endpoint::SERIAL]), sends(octets.clone())]));
    for size in [1, 2, 7, 64, 124, 126] {
        let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
        script.extend(octets.chunks(size).map(|chunk| sends(chunk.to_vec())));
        assert_eq!(story(&play(script)), whole, "chunks of {size}");
    }
}

#[test]
fn status_terms_go_with_the_reading() {
    let status = FrameStatus::OUT_OF_TRACK | FrameStatus::ARTIFACT | FrameStatus::RED;
    let given = play(line([packet(0, Some(88), Some(50), status)]));
    assert_eq!(readings(&given)[0].status, ["artifact", "out-of-track", "low-perfusion"]);
    assert_eq!(story(&given), ["begin 1", "1: 0+25 artifact", "end 1"]);
}

#[test]
fn a_sensor_that_is_off_gives_artifact_and_no_reading() {
    let off = |number: u8| packet(number.wrapping_mul(25), None, None, FrameStatus::SENSOR_DISCONNECT);
    let given = play(line([good(0), off(1), off(2), good(3)]));
    assert_eq!(readings(&given).len(), 1);
    assert_eq!(story(&given), ["begin 1", "1: 0+25", "1: 25+50 artifact", "1: 75+25", "end 1"]);
}

#[test]
fn one_value_without_the_other_is_a_reading_with_an_absent_component() {
    let given = play(line([packet(0, Some(97), None, 0)]));
    let quantities: Vec<_> = readings(&given)[0].values.iter().map(|v| v.quantity.clone()).collect();
    assert_eq!(quantities, [Quantity::Number(Decimal::whole(97)), Quantity::Special(Special::NotAvailable)]);
}

#[test]
fn a_corrupted_packet_gives_no_reading_and_its_hole_is_declared() {
    let mut packets: Vec<_> = (0..4).map(good).collect();
    packets[1][37] ^= 0x08;
    let given = play(line(packets));
    assert_eq!(story(&given), ["begin 1", "skipped 5", "1: 0+32", "1: lost 32+1", "1: 33+67", "end 1"]);
    assert_samples_stand_in_place(&given);

    let mut first = good(0);
    first[4] ^= 1;
    assert!(readings(&play(line([first]))).is_empty());
}

#[test]
fn lost_octets_jump_the_recording_by_the_frames_they_stood_in() {
    let mut octets: Vec<u8> = (0..9).flat_map(good).collect();
    octets.drain(402..443);
    let script = line(octets.chunks(125).map(<[u8]>::to_vec));
    let given = play(script);
    assert!(story(&given).contains(&"1: lost 80+9".to_string()), "{:?}", story(&given));
    assert_samples_stand_in_place(&given);
}

#[test]
fn a_hole_that_nobody_can_size_ends_the_recording_and_begins_another() {
    let mut script = line((0..3).map(good));
    let fourth = good(3);
    script.extend([sends(fourth[..40].to_vec()), Step::Wait(Duration::from_millis(500)), sends(fourth[63..].to_vec())]);
    script.extend(line((4..7).map(good)).split_off(1));
    let story = story(&play(script));
    assert!(story.contains(&"1: lost 82+0".to_string()) && story.contains(&"end 1".to_string()), "{story:?}");
    assert!(story.contains(&"begin 2".to_string()) && story.contains(&"end 2".to_string()), "{story:?}");
}

#[test]
fn a_quiet_line_hands_over_what_is_gathered() {
    // The last frame of the fifth packet waits for the octet behind it, and its packet with it.
    let mut script = line((0..5).map(good));
    script.push(Step::Wait(Duration::from_secs(2)));
    let mut conversation = Conversation::new((DRIVER.session)(Start::default()));
    script.iter().for_each(|step| conversation.step(step).unwrap());
    assert_eq!(story(conversation.given()), ["begin 1", "1: 0+75", "1: 75+25"]);
}

#[test]
fn a_store_that_stands_still_is_not_flooded_and_what_has_no_room_is_declared() {
    let mut script = vec![Step::HoldAnswers];
    script.extend(line((0..120).map(good)));
    script.push(Step::Answer);
    script.extend(line((120..126).map(good)).split_off(1));
    let given = play(script);
    let story = story(&given);
    // 10 s await their answer, 10 s wait, the rest of the 40 s had no room, but for the block that is being gathered.
    let before_answer: usize = story.iter().position(|line| line.contains("lost")).unwrap();
    let seconds = story[..before_answer].iter().filter(|line| line.contains("+75")).count();
    assert_eq!(seconds, 2 * usize::try_from(SIGNAL_UNSTORED_MAX.as_secs()).unwrap(), "{story:?}");
    assert_eq!(story[before_answer], "1: lost 1500+1425");
    assert_eq!(story[before_answer + 1], "1: 2925+75");
    assert_samples_stand_in_place(&given);
}

#[test]
fn a_line_that_carries_something_else_is_not_this_device() {
    let mut conversation = Conversation::new((DRIVER.session)(Start::default()));
    conversation.step(&Step::Up(vec![Endpoint::SERIAL])).unwrap();
    for _ in 0..200 {
        conversation.step(&sends(vec![0x55; 100])).unwrap();
    }
    conversation.step(&Step::Close).unwrap();
    conversation.step(&Step::Quiet).unwrap();
    let not_this = |given: &Given| matches!(given.1, Err(DriverError::NotThisDevice(_)));
    assert_eq!(conversation.given().iter().filter(|given| not_this(given)).count(), 1);
}

#[test]
fn events_out_of_place_are_let_pass() {
    let mut session = session(&Start::default());
    session.handle_event(Moment::ZERO, Event::Received { from: Endpoint::SERIAL, octets: &good(0), by: By::Serial });
    session.handle_event(Moment::ZERO, Event::Done { command: Token(7) });
    session.handle_event(Moment::ZERO, Event::Failed { command: Token(7), error: LinkError::Timeout });
    session.handle_event(Moment::ZERO, Event::Stored { reading: Token(7) });
    session.handle_event(Moment::ZERO, Event::Down { reason: DownReason::Lost });
    session.handle_event(Moment::ZERO, Event::Down { reason: DownReason::Lost });
    session.handle_timeout(Moment::ZERO);
    assert!(session.poll_output().is_none() && session.poll_command().is_none() && session.poll_timeout().is_none());
}

proptest::proptest! {
    #[test]
    fn no_input_panics_and_every_sample_is_a_frames(
        pieces in proptest::collection::vec((0..4_u8, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)), 0..30),
    ) {
        let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
        for (packets, noise) in pieces {
            script.push(sends((0..packets).flat_map(good).collect()));
            script.push(sends(noise));
            script.push(Step::Wait(Duration::from_millis(700)));
        }
        let given = play(script);
        let samples: usize = given.iter().map(|(_, output)| match output {
            Ok((_, Output::Samples { block, .. })) => block.samples.len(),
            _ => 0,
        }).sum();
        proptest::prop_assert!(samples * Frame::OCTETS <= 30 * 4 * 125 + 30 * 80);
    }
}

/// Vector R06, live and as it would come out of the memory with a low battery.
#[test]
fn spot_checks_have_their_time_and_say_whether_they_were_stored() {
    let live = hex("0002000d000e20261121103000000200004800616303");
    let mut stored = live.clone();
    stored[15] = 0x11;
    stored[20] += 0x11;
    for size in [1, 22, 44] {
        let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
        script.extend([live.clone(), stored.clone()].concat().chunks(size).map(|part| sends(part.to_vec())));
        let given = play(script);
        let readings = readings(&given);
        assert_eq!(readings.iter().map(|m| m.memory).collect::<Vec<_>>(), [Memory::Live, Memory::Stored]);
        assert!(readings.iter().all(|m| m.device_time.unwrap().to_string() == "2026-11-21T10:30:00"));
        assert_eq!(readings[0].octets, readings[1].octets, "i2a: it is the same measurement");
        assert_eq!(
            (readings[0].status.clone(), readings[1].status.clone()),
            (vec!["smart-point"], vec!["smart-point", "low-battery"])
        );
    }
}

#[test]
fn spot_checks_for_which_there_is_no_room_wait_for_it() {
    let check = hex("0002000d000e20261121103000000200004800616303");
    let mut script = vec![Step::HoldAnswers, Step::Up(vec![Endpoint::SERIAL])];
    script.extend((0..900).map(|_| sends(check.clone())));
    script.push(Step::Answer);
    let given = play(script);
    assert_eq!((readings(&given).len(), story(&given)), (900, Vec::new()));
}

/// The waveform passes through every octet, and a frame in the middle is harmed.
#[test]
fn sixteen_bits_of_waveform_are_told_by_themselves_and_stand_in_place() {
    let wave = |place: u64| u16::try_from(place * 523 % 65_536).unwrap();
    let mut packets: Vec<Vec<u8>> = (0..6_u64)
        .map(|number| {
            let frames: [Frame; 25] = std::array::from_fn(|at| Frame::decode(&good(0)[at * 5..at * 5 + 5]).unwrap());
            let pleth = std::array::from_fn(|at| wave(number * 25 + u64::try_from(at).unwrap()));
            let frames = nonin_df7::packet(&Packet::decode(&frames).unwrap(), &pleth);
            frames.iter().flat_map(nonin_df7::Frame::encode).collect()
        })
        .collect();
    packets[3][37] ^= 0x08;
    let whole = story(&play(line(packets.clone())));
    assert_eq!(whole, ["begin 1", "skipped 5", "1: 0+75", "1: 75+7", "1: lost 82+1", "1: 83+67", "end 1"]);
    let given = play(line([packets.concat()]));
    assert_eq!(readings(&given).len(), 1);
    for (_, output) in &given {
        if let Ok((_, Output::Samples { block, .. })) = output {
            for (place, sample) in (block.first..).zip(&block.samples) {
                assert_eq!(*sample, i32::from(wave(place)), "sample {place}");
            }
        }
    }
}

#[test]
fn over_bluetooth_numbers_come_every_second_and_are_a_reading_every_ten() {
    let mut script = vec![Step::Up(vec![NOTIFIES]), Step::Subscribe(NOTIFIES)];
    let notifies = |octets: &str| Step::Sends(NOTIFIES, By::Notification, hex(octets));
    script.extend([notifies("0a080f0000ffff7f01ff"), notifies("0a141c01f40007")]);
    for _ in 0..21 {
        script.extend([notifies("0a141c01f40007610048"), Step::Wait(Duration::from_secs(1))]);
    }
    script.extend([Step::Quiet, Step::Down(DownReason::Lost)]);
    let given = Conversation::play((DRIVER.session)(Start::default()), &script).unwrap();
    let values: Vec<String> = readings(&given)[0]
        .values
        .iter()
        .map(|v| if let Quantity::Number(number) = &v.quantity { number.to_string() } else { "-".into() })
        .collect();
    assert_eq!((readings(&given).len(), values), (3, ["97", "72", "5.00"].map(String::from).to_vec()));
    assert_eq!(readings(&given)[0].status, ["smart-point"]);
    assert_eq!(story(&given).len(), 1, "one value was cut: {:?}", story(&given));
}

/// Vector R07: 511 and 127.
#[test]
fn a_spot_check_without_numbers_is_none() {
    let given = play(vec![Step::Up(vec![Endpoint::SERIAL]), sends(hex("0002000d000e2026112110300000031101ff007f4b03"))]);
    assert!(readings(&given).is_empty() && story(&given).is_empty());
}

#[test]
fn four_octets_a_second_are_told_by_themselves_and_are_a_reading_every_ten_seconds() {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    for _ in 0..21 {
        script.extend([sends(hex("80486120")), Step::Wait(Duration::from_secs(1))]);
    }
    let given = play(script);
    assert_eq!(readings(&given).len(), 2);
    assert_eq!(readings(&given)[0].status, ["smart-point"]);
    // One by itself, as a record of others has it.
    assert_eq!(readings(&play(vec![Step::Up(vec![Endpoint::SERIAL]), sends(hex("80486120"))])).len(), 1);
    // A waveform that swings about 128 is no format 8.
    let swinging = play(line((0..30).map(good)));
    assert!(story(&swinging).iter().all(|line| !line.starts_with("skipped")));
}

#[test]
fn the_clock_is_set_only_where_that_is_allowed_and_the_model_is_known() {
    let time = kit_protocol::gatt::date_time::DateTime { year: 2050, month: 12, day: 31, hour: 14, minute: 30, second: 15 };
    let about = crate::driver::About { model: Some("9560".into()), ..crate::driver::About::default() };
    let may = Start { about, civil_time: Some(time), may_set_clock: true, ..Start::default() };
    let script = [
        Step::Up(vec![Endpoint::SERIAL]),
        Step::Write(Endpoint::SERIAL, hex("027002020d03")),
        Step::Write(Endpoint::SERIAL, hex("027206320c1f0e1e0f03")),
        sends(vec![0x06, 0x06]),
        Step::Quiet,
    ];
    let given = Conversation::play((DRIVER.session)(may.clone()), &script).unwrap();
    assert!(matches!(&given[..], [(_, Ok((_, Output::DeviceClock { device, .. })))] if *device == time));
    let refused = [&script[..3], &[sends(vec![0x06, 0x15])]].concat();
    assert!(Conversation::play((DRIVER.session)(may.clone()), &refused).unwrap().is_empty());
    let unknown = Start { about: crate::driver::About::default(), ..may };
    Conversation::play((DRIVER.session)(unknown), &[Step::Up(vec![Endpoint::SERIAL]), Step::Quiet]).unwrap();
}

proptest::proptest! {
    #[test]
    fn whatever_comes_the_session_keeps_to_its_bounds(script in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        crate::exercise::exercise(&DRIVER, &script);
    }
}
