use proptest::prelude::*;

use super::*;
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
    for length in 0..octets.len() {
        assert!(matches!(Frame::decode(&octets[..length]), Err(DecodeError::Truncated { .. })), "{length}");
    }
    assert_eq!(Frame::decode(&[octets, vec![0]].concat()), Err(DecodeError::Trailing { octets: 1 }));
}

#[test]
fn every_single_bit_flip_is_refused() {
    let octets = good().encode();
    for bit in 0..octets.len() * 8 {
        let mut flipped = octets.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Frame::decode(&flipped).is_err(), "bit {bit}");
    }
}

fn found(pieces: &[&[u8]]) -> Vec<Found> {
    let (mut all, mut framer) = (Vec::new(), Framer::default());
    pieces.iter().for_each(|piece| framer.push(piece, |f| all.push(f)));
    framer.finish(|f| all.push(f));
    all
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
    assert_eq!(found(&[&stream]), expected);
    for split in 0..stream.len() {
        let (first, second) = stream.split_at(split);
        assert_eq!(found(&[first, second]), expected, "split at {split}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(token: u8, kind: u8, content in proptest::collection::vec(any::<u8>(), 0..=Frame::CONTENT_OCTETS_MAX)) {
        let frame = Frame { token, kind, content };
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn no_octets_panic_and_none_goes_missing(stream in proptest::collection::vec(prop_oneof![Just(0xaa), Just(0x55), 0..20_u8, any::<u8>()], 0..300)) {
        let octets: u64 = found(&[&stream]).iter().map(|found| match found {
            framer::Found::Frame(frame) => u64::try_from(frame.encode().len()).unwrap(),
            framer::Found::Skipped(octets) => *octets,
        }).sum();
        prop_assert_eq!(octets, u64::try_from(stream.len()).unwrap());
    }
}
