use proptest::prelude::*;

use super::framer::Found;
use super::*;
use crate::promises::{
    an_octet_more_is_trailing, every_cut_is_refused, every_other_length_is_refused, every_turned_bit_is_refused, found,
    found_however_split,
};
use crate::vectors::{octets, vectors};

fn text(frame: &Frame) -> String {
    let Frame { command, kind, sequence, content } = frame;
    let what = match (*command, *kind) {
        (FrameCommand::LIVE, 1) => std::format!("{:?}", Live::decode(content).unwrap()),
        (FrameCommand::LIVE_NUMBERED, 1) => {
            let live = LiveNumbered::decode(content).unwrap();
            let LiveNumbered { heart_rate, battery, cable, seconds, time, lead_type, leads_off, first, ref samples } = live;
            std::format!(
                "hr={heart_rate} battery={}/{} cable={cable} s={seconds} time={} lead-type={} off={leads_off:03x}/{:04b} {first}: {samples:?}",
                battery.state,
                battery.percent,
                time.map_or("-".into(), |time| std::format!("{time}")),
                lead_type.0,
                live.channels_off(),
            )
        }
        (FrameCommand::INFORMATION, 1) => {
            let Information { device_type, time, serial } = Information::decode(content).unwrap();
            std::format!("type={device_type:04x} {} {}", time.unwrap(), std::str::from_utf8(&serial).unwrap())
        }
        _ => std::format!("{content:?}"),
    };
    std::format!("{:02x} {kind} {sequence} {what}", command.0)
}

#[test]
fn frames_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/lepu_frames.txt")) {
        let frame = Frame::decode(&v.octets).unwrap();
        assert_eq!(text(&frame), v.expected, "{}", v.id);
        assert_eq!(frame.encode(), v.octets, "{}", v.id);
        match (frame.command, frame.kind) {
            (FrameCommand::LIVE, 1) => assert_eq!(Live::decode(&frame.content).unwrap().encode(), frame.content, "{}", v.id),
            (FrameCommand::LIVE_NUMBERED, 1) => {
                let live = LiveNumbered::decode(&frame.content).unwrap();
                assert_eq!(LiveNumbered::decode(&live.encode()), Ok(live), "{}", v.id);
            }
            _ => {}
        }
    }
}

#[test]
fn requests_are_those_of_the_source() {
    assert_eq!(Frame::information(2).encode(), octets("a5e11e00020000bf"), "vector X04");
    assert_eq!(Frame::live(0).encode(), octets("a503fc000001007d23"));
    assert_eq!(Frame::live_numbered(0).encode(), octets("a506f90000000005"));
}

/// 1.0035 × 1800 / (4096 × 178.74) = 180630 / 73211904, rounded half-even to 10^-15.
#[test]
fn a_digit_is_worth_what_its_formula_says() {
    let (numerator, denominator) = (180_630_i128 * 10_i128.pow(15), 73_211_904_i128);
    let nearest = (2 * numerator + denominator) / (2 * denominator);
    assert_eq!(i128::from(Live::SCALE.mantissa), nearest);
    assert_eq!(Live::SCALE.to_string(), "0.002467221723943");
    assert_eq!(180_630 * 1_355_776_i64, 73_211_904 * 3_345);
}

fn captured() -> Vec<Vec<u8>> {
    vectors(include_str!("../../../vectors/lepu_frames.txt")).map(|v| v.octets).collect()
}

#[test]
fn every_truncated_length_appended_octet_and_turned_bit_is_refused() {
    for frame in captured() {
        every_other_length_is_refused(&frame, Frame::decode);
        every_turned_bit_is_refused(&frame, Frame::decode);
    }
}

#[test]
fn answers_whose_samples_are_not_as_many_as_they_say_are_refused() {
    let live = Live::decode(&Frame::decode(&captured()[3]).unwrap().content).unwrap().encode();
    let numbered = Frame::decode(&captured()[6]).unwrap().content;
    // Four rows of one channel are as long as one of four.
    every_cut_is_refused(&live, Live::decode);
    assert!(Live::decode(&[&live[..], &[0]].concat()).is_err());
    every_cut_is_refused(&numbered, LiveNumbered::decode);
    an_octet_more_is_trailing(&numbered, LiveNumbered::decode);
    let mut unknown = numbered;
    unknown[24] = 0xff;
    assert_eq!(LiveNumbered::decode(&unknown), Err(DecodeError::Value { field: "lead type" }));
}

#[test]
fn a_limb_off_takes_the_chest_leads_with_it() {
    let live = |leads_off, cable| LiveNumbered {
        heart_rate: 0,
        battery: Battery { state: 0, percent: 50 },
        cable,
        seconds: 0,
        time: None,
        lead_type: LeadType::SIX,
        leads_off,
        first: 0,
        samples: Vec::new(),
    };
    let off = |leads_off| live(leads_off, true).channels_off();
    assert_eq!([off(0), off(1 << 10), off(1 << 6), off(1), off(2)], [0, 0b0001, 0b1000, 0b1011, 0b1101]);
    assert_eq!(off(1 << 2 | 1 << 11), 0, "leads that this cable has not");
    assert_eq!(live(0, false).channels_off(), 0b1111);
}

#[test]
fn every_split_gives_the_same_frames_and_noise_costs_none() {
    let stream = [&[0xa5, 0x11][..], &captured().concat(), &[0xa5, 0x03, 0xfc, 0, 0, 0xff, 0xff], &captured()[0]].concat();
    let whole = found_however_split::<Frames>(&stream);
    let frames = whole.iter().filter(|found| matches!(found, Found::Frame(_))).count();
    assert_eq!((frames, whole.first()), (captured().len() + 1, Some(&Found::Skipped(2))));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        lead_type in 0_u8..8,
        first in any::<u32>(),
        samples in prop::collection::vec(any::<i16>(), 0..120),
        state in 0_u8..4,
        off in 0_u16..0x1000,
        cable in any::<bool>(),
    ) {
        let lead_type = LeadType(lead_type);
        let channels = lead_type.channels().unwrap().len();
        let live = LiveNumbered {
            heart_rate: 71,
            battery: Battery { state, percent: 93 },
            cable,
            seconds: 7,
            time: DateTime::decode(&[0xea, 7, 11, 21, 10, 30, 0]).ok(),
            lead_type,
            leads_off: off,
            first,
            samples: samples[..samples.len() / channels * channels].to_vec(),
        };
        prop_assert_eq!(LiveNumbered::decode(&live.encode()), Ok(live));
        let plain = Live {
            heart_rate: 70,
            flags: 5,
            battery: Battery { state, percent: 3 },
            seconds: first,
            state: 2,
            // No rows are rows of one channel.
            channels: if samples.len() < 4 { 1 } else { 4 },
            samples: if samples.len() < 4 { samples } else { samples[..samples.len() / 4 * 4].to_vec() },
        };
        prop_assert_eq!(Live::decode(&plain.encode()), Ok(plain));
        let information = Information { device_type: 0x8622, time: None, serial: b"2523C00812".to_vec() };
        prop_assert_eq!(Information::decode(&information.encode()), Ok(information));
    }

    #[test]
    fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&octets);
        let _ = Live::decode(&octets);
        let _ = LiveNumbered::decode(&octets);
        let _ = Information::decode(&octets);
        let _ = found::<Frames>(&[&octets]);
    }
}
