use proptest::prelude::*;

use super::*;
use crate::promises::{an_octet_more_is_trailing, every_cut_is_refused, every_turned_bit_is_refused};
use crate::vectors::{hex, octets, vectors};

#[test]
fn vectors_run_both_ways() {
    for vector in vectors(include_str!("../../../vectors/omron_frames.txt")) {
        let decoded = Frame::decode(&vector.octets);
        let text = decoded.as_ref().map_or_else(
            |_| "invalid".into(),
            |f| format!("{:04x} at {:04x} size {} payload {} result {}", f.kind.0, f.address, f.size, hex(&f.payload), f.result),
        );
        assert_eq!(text, vector.expected, "{}", vector.id);
        if let Ok(frame) = decoded {
            assert_eq!(frame.encode(), vector.octets, "{}", vector.id);
        }
    }
}

#[test]
fn requests_are_the_captured_ones() {
    for (frame, captured) in [
        (Frame::open(), "0800000000100018"),
        (Frame::read(0x0098, 0x10), "0801000098100081"),
        (Frame::close(), "080f000000000007"),
    ] {
        assert_eq!(hex(&frame.encode()), captured);
    }
}

fn reply() -> Frame {
    Frame { kind: FrameKind::READ.reply(), address: 0x98, size: 16, payload: (1..=16).collect(), result: 0 }
}

#[test]
fn every_truncated_length_octet_more_and_single_bit_flip_is_refused() {
    let whole = reply().encode();
    every_cut_is_refused(&whole, Frame::decode);
    an_octet_more_is_trailing(&whole, Frame::decode);
    every_turned_bit_is_refused(&whole, Frame::decode);
}

#[test]
fn a_refusal_is_told_by_its_code() {
    let frame = |kind, payload: &[u8], result| Frame {
        kind,
        address: 0,
        size: u8::try_from(payload.len()).unwrap(),
        payload: payload.to_vec(),
        result,
    };
    assert_eq!(frame(FrameKind::CLOSE.reply(), &[3], 0).refusal(), Some(3));
    assert_eq!(frame(FrameKind::CLOSE.reply(), &[], 5).refusal(), Some(5));
    assert_eq!(frame(FrameKind::READ.reply(), &[], 5).refusal(), Some(5));
    assert_eq!(reply().refusal(), None);
}

#[test]
fn four_characteristics_make_a_frame_and_stale_parts_are_dropped() {
    let whole = Frame { size: 40, payload: (0..40).collect(), ..reply() }.encode();
    let parts: Vec<_> = channels(&whole, 4).collect();
    assert_eq!(parts.iter().map(|(_, part)| part.len()).collect::<Vec<_>>(), [16, 16, 16]);
    let mut assembler = Assembler::new(4);
    assert_eq!(assembler.push(1, &[0xde; 16]), None);
    assert_eq!(assembler.push(0, parts[0].1), None);
    assert_eq!(assembler.push(2, parts[2].1), None);
    assert_eq!(assembler.push(1, parts[1].1), Some(Frame::decode(&whole)));
    assert_eq!(assembler.push(1, parts[1].1), None, "nothing is left over");
    // The last one is filled up by some monitors.
    let mut filled = Frame::open().encode();
    filled.extend([0xff; 8]);
    assert_eq!(assembler.push(0, &filled), Some(Ok(Frame::open())));
    assert_eq!(assembler.push(0, &[70; 16]), Some(Err(DecodeError::Value { field: "length" })));
    assert_eq!(assembler.push(7, &[8; 16]), None);
}

/// hass-omron, test_rx_notification_handling.py: each is ignored, and nothing is filled up.
#[test]
fn what_is_too_short_is_never_filled_up() {
    for short in ["1081000000080000", "04810005", "18810000981 0aabbccdd00d3"] {
        assert!(matches!(Assembler::new(1).push(0, &octets(short)), Some(Err(_))), "{short}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_however_many_characteristics(
        kind: u16, address: u16, result: u8, payload in proptest::collection::vec(any::<u8>(), 1..=Frame::PAYLOAD_OCTETS_MAX), count in 1..=4_usize,
    ) {
        let size = u8::try_from(payload.len()).unwrap();
        let frame = Frame { kind: FrameKind(kind), address, size, payload, result };
        let octets = frame.encode();
        let mut assembler = Assembler::new(count);
        let assembled: Vec<_> = channels(&octets, count).filter_map(|(channel, part)| assembler.push(channel, part)).collect();
        prop_assert_eq!(assembled, [Ok(frame)]);
    }

    #[test]
    fn no_notifications_panic(
        parts in proptest::collection::vec((0..6_usize, proptest::collection::vec(any::<u8>(), 0..40)), 0..20), count in 0..=4_usize,
    ) {
        let mut assembler = Assembler::new(count);
        for (channel, part) in parts {
            let _ = assembler.push(channel, &part);
        }
    }
}
