use proptest::prelude::*;

use super::*;
use crate::promises::{
    every_other_length_is_refused, every_turned_bit_is_refused, found, found_however_split, octets_in, turned,
};
use crate::vectors::{hex, octets, vectors};

fn packet_text(p: &Packet) -> String {
    let rate = |rate: Option<u16>| rate.map_or_else(|| "-".into(), |rate| rate.to_string());
    let spo2 = |spo2: Option<u8>| spo2.map_or_else(|| "-".into(), |spo2| spo2.to_string());
    format!(
        "hr={} spo2={} firmware={} timer={} status2={} spo2-d={} fast={} beat={} e-hr={} e-spo2={} e-spo2-d={} hr-d={} e-hr-d={}",
        rate(p.heart_rate),
        spo2(p.spo2),
        p.firmware,
        p.timer,
        p.status2,
        spo2(p.spo2_display),
        spo2(p.spo2_fast),
        spo2(p.spo2_beat_to_beat),
        rate(p.heart_rate_extended),
        spo2(p.spo2_extended),
        spo2(p.spo2_extended_display),
        rate(p.heart_rate_display),
        rate(p.heart_rate_extended_display),
    )
}

fn frame_text(frame: &Frame) -> String {
    let bits = [
        (FrameStatus::SENSOR_DISCONNECT, "sensor-disconnect"),
        (FrameStatus::ARTIFACT, "artifact"),
        (FrameStatus::OUT_OF_TRACK, "out-of-track"),
        (FrameStatus::SENSOR_ALARM, "sensor-alarm"),
    ];
    let mut terms: Vec<&str> = bits.into_iter().filter(|(bit, _)| frame.status.has(*bit)).map(|(_, term)| term).collect();
    terms.extend(frame.status.perfusion().map(|perfusion| match perfusion {
        Perfusion::Green => "green",
        Perfusion::Yellow => "yellow",
        Perfusion::Red => "red",
    }));
    terms.extend(frame.status.sync().then_some("sync"));
    terms.join(" ")
}

fn frames_of(octets: &[u8]) -> [Frame; FRAMES_PER_PACKET] {
    let frames: Vec<_> = octets.chunks(Frame::OCTETS).map(|frame| Frame::decode(frame).unwrap()).collect();
    frames.try_into().unwrap()
}

#[test]
fn frames_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/nonin_df2_frames.txt")) {
        match Frame::decode(&v.octets) {
            Ok(frame) => {
                assert_eq!(frame_text(&frame), v.expected, "{}", v.id);
                assert_eq!(frame.encode()[..], v.octets, "{}", v.id);
            }
            Err(_) => assert_eq!(v.expected, "invalid", "{}", v.id),
        }
    }
}

#[test]
fn packets_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/nonin_df2_packets.txt")) {
        let packet = Packet::decode(&frames_of(&v.octets)).unwrap();
        assert_eq!(packet_text(&packet), v.expected, "{}", v.id);
        assert_eq!(packet.to_octets(), v.octets, "{}", v.id);
    }
}

#[test]
fn a_frame_with_any_bit_flipped_or_any_octet_missing_is_refused() {
    let frame = octets("01800148ca");
    every_turned_bit_is_refused(&frame, Frame::decode);
    every_other_length_is_refused(&frame, Frame::decode);
}

#[test]
fn a_packet_whose_sync_bit_is_elsewhere_is_refused() {
    let good = packet(1).encode();
    let mut late = good;
    late.rotate_right(1);
    let mut twice = good;
    twice[7].status.0 |= FrameStatus::SYNC;
    for frames in [late, twice] {
        assert_eq!(Packet::decode(&frames), Err(DecodeError::Value { field: "sync" }));
    }
}

#[test]
fn absent_values_are_none() {
    let absent = Packet { heart_rate: None, spo2: None, ..packet(3) };
    let frames = absent.encode();
    assert_eq!((frames[0].float, frames[1].float, frames[2].float), (3, 127, 127));
    assert_eq!(Packet::decode(&frames), Ok(absent));
}

/// A packet with a waveform full of what a start looks like, and a rate whose octets are 01 and 01.
fn packet(seed: u8) -> Packet {
    let mut pleth = [0; FRAMES_PER_PACKET];
    pleth.iter_mut().zip(0_u8..).for_each(|(value, place)| *value = seed.wrapping_mul(31).wrapping_add(place.wrapping_mul(37)));
    pleth[4] = 1;
    Packet {
        heart_rate: Some(129),
        spo2: Some(97),
        firmware: 48,
        timer: 129,
        status2: 0,
        spo2_display: Some(97),
        spo2_fast: Some(96),
        spo2_beat_to_beat: Some(95),
        heart_rate_extended: Some(129),
        spo2_extended: Some(97),
        spo2_extended_display: Some(97),
        heart_rate_display: Some(129),
        heart_rate_extended_display: Some(129),
        status: std::array::from_fn(|place| FrameStatus(if place == 0 { 0x81 } else { 0x80 })),
        pleth,
    }
}

fn stream(packets: u8) -> Vec<u8> {
    (0..packets).flat_map(|seed| packet(seed).to_octets()).collect()
}

fn all_found(octets: &[u8]) -> Vec<Found> {
    found::<Frames<Frame>>(&[octets])
}

fn only_frames(found: &[Found]) -> Vec<Frame> {
    found.iter().filter_map(|found| if let Found::Frame(frame) = found { Some(*frame) } else { None }).collect()
}

fn skipped(found: &[Found]) -> u64 {
    found.iter().map(|found| if let Found::Skipped(octets) = found { *octets } else { 0 }).sum()
}

fn true_frames(octets: &[u8]) -> Vec<Frame> {
    octets.chunks(5).map(|frame| Frame::decode(frame).unwrap()).collect()
}

#[test]
fn what_is_found_does_not_depend_on_the_splits() {
    let mut octets = stream(2);
    octets.remove(40);
    octets[77] ^= 0x10;
    octets.insert(150, 0x01);
    let whole = found_however_split::<Frames<Frame>>(&octets);
    assert!(only_frames(&whole).len() > 40 && skipped(&whole) > 0);
}

#[test]
fn a_frame_in_step_is_handed_over_with_the_first_octet_behind_it() {
    let octets = stream(1);
    let (mut frames, mut framer) = (0_usize, Framer::default());
    for (at, octet) in octets.iter().enumerate() {
        framer.push(&[*octet], |_| frames += 1);
        if at >= WINDOW {
            assert_eq!(frames, at / 5, "after octet {at}");
        }
    }
}

#[test]
fn any_flipped_bit_costs_its_own_frame_only() {
    let octets = stream(3);
    let truth = true_frames(&octets);
    for (bit, turned) in turned(&octets).filter(|(bit, _)| (125 * 8..250 * 8).contains(bit)) {
        let found = all_found(&turned);
        let mut expected = truth.clone();
        expected.remove(bit / 40);
        assert_eq!(only_frames(&found), expected, "bit {bit}");
        assert_eq!(skipped(&found), 5, "bit {bit}");
    }
}

#[test]
fn a_dropped_octet_costs_its_own_frame_only() {
    let octets = stream(3);
    let truth = true_frames(&octets);
    for at in 125..250 {
        let mut dropped = octets.clone();
        dropped.remove(at);
        let found = all_found(&dropped);
        let mut expected = truth.clone();
        expected.remove(at / 5);
        assert_eq!(only_frames(&found), expected, "octet {at}");
        assert_eq!(skipped(&found), 4, "octet {at}");
    }
}

#[test]
fn an_added_octet_costs_at_most_the_frame_it_stands_in_or_the_one_before() {
    let octets = stream(3);
    let truth = true_frames(&octets);
    for at in 125..250 {
        for value in [0x00, 0x01, 0x80, 0x81, 0xff] {
            let mut added = octets.clone();
            added.insert(at, value);
            let found = only_frames(&all_found(&added));
            let without = |frame: usize| [&truth[..frame], &truth[frame + 1..]].concat();
            let cost_one = found == without(at / 5) || found == without(at / 5 - 1);
            assert!(found == truth || cost_one, "octet {at} value {value:02x}");
        }
    }
}

#[test]
fn good_frames_between_bad_ones_all_count() {
    let mut octets = stream(2);
    let truth = true_frames(&octets);
    for frame in (6..40).step_by(2) {
        octets[frame * 5 + 4] ^= 0x55;
    }
    let expected: Vec<_> =
        truth.iter().enumerate().filter(|(at, _)| !(6..40).contains(at) || at % 2 == 1).map(|(_, f)| *f).collect();
    assert_eq!(only_frames(&all_found(&octets)), expected);
}

#[test]
fn a_stream_that_begins_anywhere_is_joined_at_its_next_frame() {
    let octets = stream(2);
    for at in 0..125 {
        let found = all_found(&octets[at..]);
        assert_eq!(only_frames(&found), true_frames(&octets[at.div_ceil(5) * 5..]), "from {at}");
    }
}

#[test]
fn a_false_start_inside_the_data_is_no_frame() {
    // FLOAT 01 and CHK make a frame with the next frame's first octets: 01 · b7 · 01 · 80 · 39, sum fits.
    let first = Frame { status: FrameStatus(0x80), pleth: 0x35, float: 1 };
    let second = Frame { status: FrameStatus(0x80), pleth: 0x39, float: 0x48 };
    assert_eq!(hex(&first.encode()), "01803501b7");
    let octets: Vec<u8> = [first, second, second, second].iter().flat_map(Frame::encode).collect();
    assert!(Frame::decode(&octets[3..8]).is_ok(), "the false start fits its checksum");
    for from in 1..=3 {
        let found = all_found(&octets[from..]);
        assert_eq!(only_frames(&found), [second, second, second], "from {from}");
        assert_eq!(skipped(&found), 5 - u64::try_from(from).unwrap());
    }
}

#[test]
fn noise_gives_no_frame_and_is_counted() {
    let noise: Vec<u8> = (0..10_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] | 2).collect();
    assert_eq!(all_found(&noise), [Found::Skipped(10_000)]);
}

fn frames() -> impl Strategy<Value = Frame> {
    any::<(u8, u8, u8)>().prop_map(|(status, pleth, float)| Frame { status: FrameStatus(status | 0x80), pleth, float })
}

fn packets() -> impl Strategy<Value = Packet> {
    let rate = || proptest::option::of(0..511_u16);
    let spo2 = || proptest::option::of(0..127_u8);
    (
        [rate(), rate(), rate(), rate()],
        [spo2(), spo2(), spo2(), spo2(), spo2(), spo2()],
        (0..128_u8, 0..1_u16 << 14, 0..128_u8),
        (any::<[u8; 25]>(), any::<[u8; 25]>()),
    )
        .prop_map(|(hr, spo2, (firmware, timer, status2), (status, pleth))| Packet {
            heart_rate: hr[0],
            heart_rate_extended: hr[1],
            heart_rate_display: hr[2],
            heart_rate_extended_display: hr[3],
            spo2: spo2[0],
            spo2_display: spo2[1],
            spo2_fast: spo2[2],
            spo2_beat_to_beat: spo2[3],
            spo2_extended: spo2[4],
            spo2_extended_display: spo2[5],
            firmware,
            timer,
            status2,
            status: std::array::from_fn(|place| FrameStatus(status[place] & 0x7e | 0x80 | u8::from(place == 0))),
            pleth,
        })
}

proptest! {
    #[test]
    fn frames_survive_the_way_there_and_back(frame in frames()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn packets_survive_the_way_there_and_back(packet in packets()) {
        prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        prop_assert_eq!(Packet::decode(&frames_of(&packet.to_octets())), Ok(packet));
    }

    #[test]
    fn every_octet_is_in_a_frame_or_counted(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        let found = all_found(&octets);
        prop_assert_eq!(octets_in(&found, |_| Frame::OCTETS), octets.len());
    }

    #[test]
    fn a_clean_stream_is_found_whole(frames in proptest::collection::vec(frames(), 2..100)) {
        let octets: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        prop_assert_eq!(only_frames(&all_found(&octets)), frames);
    }
}
