//! What every decoder and every framing promises, whatever the octets mean: for the tests of each.

use std::fmt::Debug;
use std::vec::Vec;

use crate::reader::DecodeError;
use crate::serial::framer::{Found, Framer, Framing};
use crate::vectors::hex;

/// Octets that end too early are refused as truncated, at every length.
pub(crate) fn every_cut_is_truncated<T>(octets: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>) {
    for length in 0..octets.len() {
        let cut = decode(&octets[..length]);
        assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{length} octets of {}", hex(octets));
    }
}

/// Octets that end too early are refused, at every length: for what finds another fault first.
pub(crate) fn every_cut_is_refused<T, E>(octets: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) {
    for length in 0..octets.len() {
        assert!(decode(&octets[..length]).is_err(), "{length} octets of {}", hex(octets));
    }
}

/// An octet behind the last one is refused as left over.
pub(crate) fn an_octet_more_is_trailing<T>(octets: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>) {
    let longer = decode(&[octets, &[0]].concat());
    assert!(matches!(longer, Err(DecodeError::Trailing { octets: 1 })), "{} and an octet", hex(octets));
}

/// Octets that end too early are refused as truncated, at every length, and an octet behind the last one as left over.
pub(crate) fn every_other_length_is_refused<T>(octets: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>) {
    every_cut_is_truncated(octets, &decode);
    an_octet_more_is_trailing(octets, &decode);
}

/// A single turned bit is refused, wherever it is: for what has a checksum.
pub(crate) fn every_turned_bit_is_refused<T, E>(octets: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) {
    for (bit, turned) in turned(octets) {
        assert!(decode(&turned).is_err(), "bit {bit} of {}", hex(octets));
    }
}

/// The octets with one bit turned, for every bit, with its number: that of its octet times 8 and its own in it.
pub(crate) fn turned(octets: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..octets.len() * 8).map(|bit| {
        let mut turned = octets.to_vec();
        turned[bit / 8] ^= 1 << (bit % 8);
        (bit, turned)
    })
}

/// What a framing finds in a stream that comes in these pieces and then ends.
pub(crate) fn found<F: Framing>(pieces: &[&[u8]]) -> Vec<F::Found> {
    let (mut all, mut framer) = (Vec::new(), Framer::<F>::default());
    pieces.iter().for_each(|piece| framer.push(piece, |found| all.push(found)));
    framer.finish(|found| all.push(found));
    all
}

/// What a framing finds in a stream, which is the same in pieces of this size as in one.
pub(crate) fn found_in_pieces<F: Framing<Found: Debug + PartialEq>>(stream: &[u8], size: usize) -> Vec<F::Found> {
    let whole = found::<F>(&[stream]);
    assert_eq!(found::<F>(&stream.chunks(size).collect::<Vec<_>>()), whole, "in pieces of {size}");
    whole
}

/// Pieces of every size up to this one are tried.
const PIECE_OCTETS_MAX: usize = 80;

/// What a framing finds in a stream, which is the same wherever it is split in two and in pieces of every size.
pub(crate) fn found_however_split<F: Framing<Found: Debug + PartialEq>>(stream: &[u8]) -> Vec<F::Found> {
    let whole = found::<F>(&[stream]);
    for at in 0..=stream.len() {
        let (front, behind) = stream.split_at(at);
        assert_eq!(found::<F>(&[front, behind]), whole, "split at {at}");
    }
    for size in 1..PIECE_OCTETS_MAX {
        found_in_pieces::<F>(stream, size);
    }
    whole
}

/// So many octets are in frames, or counted as those of none.
pub(crate) fn octets_in<T>(found: &[Found<T>], of_frame: impl Fn(&T) -> usize) -> usize {
    found
        .iter()
        .map(|found| match found {
            Found::Frame(frame) => of_frame(frame),
            Found::Skipped(octets) => usize::try_from(*octets).expect("as many octets as the test has"),
        })
        .sum()
}
