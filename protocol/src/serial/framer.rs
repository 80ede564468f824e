//! Frames in a stream, however it is split: one buffer and one loop for every framing.
//!
//! A [`Framing`] says what stands at the front of the octets; [`Framer`] keeps what waits, counts what belongs to no frame,
//! and hands over both in order. What is found depends on the octets only, never on the splits.

use alloc::vec::Vec;

/// What stands at the front of some octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// More octets are needed to tell; at the end of the stream the first of them belongs to no frame.
    Wait,
    /// No frame begins in so many octets, one at least.
    Skip(usize),
    /// After `before` octets of no frame, the next `octets` (one at least) are this.
    Take {
        /// Octets of no frame.
        before: usize,
        /// Octets of the frame.
        octets: usize,
        /// What the frame is.
        found: T,
    },
}

impl<T> Step<T> {
    /// The octets at the front are this.
    pub const fn take(octets: usize, found: T) -> Self {
        Self::Take { before: 0, octets, found }
    }
}

/// A framing: start, length, checksum.
///
/// It must not wait for more octets than its longest frame (or its window) has, which bounds what waits; where a checksum
/// does not fit it skips one octet, so that a start that was none costs no good frame behind it.
pub trait Framing: Default {
    /// What it finds.
    type Found;

    /// What stands at the front of `rest`, which is never empty; `ended`: nothing will come behind it.
    fn step(&mut self, rest: &[u8], ended: bool) -> Step<Self::Found>;

    /// How it says that so many octets before the next frame (or before the end) belong to none.
    fn skipped(octets: u64) -> Self::Found;
}

/// Finds the frames of one framing in a stream.
#[derive(Clone, Debug, Default)]
pub struct Framer<F> {
    framing: F,
    waiting: Vec<u8>,
    skipped: u64,
}

/// Octets taken in at once, which bounds the memory.
const CHUNK_OCTETS: usize = 4096;

impl<F: Framing> Framer<F> {
    /// Takes in octets and hands over what they complete.
    pub fn push(&mut self, octets: &[u8], mut found: impl FnMut(F::Found)) {
        for chunk in octets.chunks(CHUNK_OCTETS) {
            self.waiting.extend_from_slice(chunk);
            self.advance(false, &mut found);
        }
    }

    /// The stream ended: decides on what is left, and is as new.
    pub fn finish(&mut self, mut found: impl FnMut(F::Found)) {
        self.advance(true, &mut found);
        self.hand_over_skipped(&mut found);
        *self = Self::default();
    }

    fn advance(&mut self, ended: bool, found: &mut impl FnMut(F::Found)) {
        let waiting = core::mem::take(&mut self.waiting);
        let mut rest = waiting.as_slice();
        while !rest.is_empty() {
            let used = match self.framing.step(rest, ended) {
                Step::Wait if !ended => break,
                Step::Wait => self.skip(1),
                Step::Skip(octets) => self.skip(octets.max(1)),
                Step::Take { before, octets, found: frame } => {
                    let before = self.skip(before);
                    self.hand_over_skipped(found);
                    found(frame);
                    before.saturating_add(octets.max(1))
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        let used = waiting.len() - rest.len();
        self.waiting = waiting;
        self.waiting.drain(..used);
    }

    fn skip(&mut self, octets: usize) -> usize {
        self.skipped = self.skipped.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        octets
    }

    fn hand_over_skipped(&mut self, found: &mut impl FnMut(F::Found)) {
        if self.skipped > 0 {
            found(F::skipped(core::mem::take(&mut self.skipped)));
        }
    }
}

/// What a framing of one kind of frame finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// A frame; it follows the one before it directly, unless `Skipped` stands between.
    Frame(T),
    /// So many octets before the next frame (or before the end) belong to none.
    Skipped(u64),
}

/// Octets to skip from a start that was none: up to the next octet that may be one.
#[must_use]
pub fn to_next(rest: &[u8], starts: impl Fn(u8) -> bool) -> usize {
    let behind = rest.get(1..).unwrap_or_default();
    1 + behind.iter().position(|octet| starts(*octet)).unwrap_or(behind.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::{found, found_in_pieces, octets_in};

    /// Frames of `n` and then `n` octets below 8; everything else is none.
    #[derive(Clone, Copy, Debug, Default)]
    struct Counted;

    impl Framing for Counted {
        type Found = Found<Vec<u8>>;

        fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Self::Found> {
            let (length, behind) = match rest {
                [length @ 1..=7, behind @ ..] => (usize::from(*length), behind),
                _ => return Step::Skip(to_next(rest, |octet| (1..=7).contains(&octet))),
            };
            match behind.get(..length) {
                None => Step::Wait,
                Some(frame) if frame.iter().any(|octet| *octet > 7) => Step::Skip(1),
                Some(frame) => Step::take(1 + length, Found::Frame(frame.to_vec())),
            }
        }

        fn skipped(octets: u64) -> Self::Found {
            Found::Skipped(octets)
        }
    }

    #[test]
    fn frames_and_what_is_none_come_in_order() {
        assert_eq!(
            found::<Counted>(&[&[9, 2, 1], &[2, 1, 3], &[9, 5, 1]]),
            [Found::Skipped(1), Found::Frame(vec![1, 2]), Found::Frame(vec![3]), Found::Skipped(3),]
        );
    }

    proptest! {
        #[test]
        fn no_split_makes_a_difference_and_no_octet_goes_missing(
            stream in proptest::collection::vec(0..10_u8, 0..200),
            size in 1..20_usize,
        ) {
            let whole = found_in_pieces::<Counted>(&stream, size);
            prop_assert_eq!(octets_in(&whole, |frame| 1 + frame.len()), stream.len());
        }

        #[test]
        fn what_waits_is_bounded(stream in proptest::collection::vec(0..10_u8, 0..10_000)) {
            let mut framer = Framer::<Counted>::default();
            framer.push(&stream, |_| {});
            prop_assert!(framer.waiting.len() < 8 && framer.waiting.capacity() <= 2 * (CHUNK_OCTETS + 8));
        }
    }
}
