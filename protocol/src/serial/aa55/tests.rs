use proptest::prelude::*;

use super::*;
use crate::promises::{every_other_length_is_refused, every_turned_bit_is_refused, found, found_however_split, octets_in};
use crate::vectors::{hex, vectors};

/// `token kind content` in hexadecimal digits, or `invalid`.
fn text(decoded: Result<Frame, DecodeError>) -> String {
    decoded.map_or_else(|_| "invalid".into(), |f| format!("{:02x} {:02x} {}", f.token, f.kind, hex(&f.content)))
}

#[test]
fn vectors_run_both_ways() {
    for vector in vectors(include_str!("../../../vectors/aa55_frames.txt")) {
        let decoded = Frame::decode(&vector.octets);
        if let Ok(frame) = &decoded {
            assert_eq!(frame.encode(), vector.octets, "{}", vector.id);
        }
        assert_eq!(text(decoded).trim_end(), vector.expected, "{}", vector.id);
    }
}

fn good() -> Frame {
    Frame { token: 0x53, kind: 1, content: vec![98, 59, 0, 85, 0] }
}

#[test]
fn every_truncated_length_and_every_octet_more_is_refused() {
    let octets = good().encode();
    every_other_length_is_refused(&octets, Frame::decode);
}

#[test]
fn every_single_bit_flip_is_refused() {
    every_turned_bit_is_refused(&good().encode(), Frame::decode);
}

#[test]
fn a_corrupted_frame_costs_itself_and_every_split_is_the_same() {
    let mut stream = [0x00, 0xaa].to_vec();
    stream.extend(good().encode());
    let mut corrupted = good().encode();
    corrupted[3] = 0x40;
    stream.extend(&corrupted);
    stream.extend(good().encode());
    let expected =
        [framer::Found::Skipped(2), framer::Found::Frame(good()), framer::Found::Skipped(11), framer::Found::Frame(good())];
    assert_eq!(found_however_split::<Aa55>(&stream), expected);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(token: u8, kind: u8, content in proptest::collection::vec(any::<u8>(), 0..=Frame::CONTENT_OCTETS_MAX)) {
        let frame = Frame { token, kind, content };
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn no_octets_panic_and_none_goes_missing(stream in proptest::collection::vec(prop_oneof![Just(0xaa), Just(0x55), 0..20_u8, any::<u8>()], 0..300)) {
        prop_assert_eq!(octets_in(&found::<Aa55>(&[&stream]), |frame| frame.encode().len()), stream.len());
    }
}
