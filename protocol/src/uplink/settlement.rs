//! What is settled of a lane: `upto`, and ranges above it. Acknowledgements merge by maximum and union, so that their
//! order does not matter.

use alloc::vec::Vec;

use super::id::RunId;
use super::wire;

/// Ranges above `upto` that one lane keeps, at most; further ones are forgotten (they are acknowledged again when resent).
pub const RANGES_MAX: usize = 64;

/// A span of settled numbers, both ends in it, with the run of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
    /// The run its records were sealed under; `None` where they were declared gone.
    pub run: Option<RunId>,
}

/// Every number ≤ `upto`, and every number in `ranges`, is settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    upto: u64,
    upto_run: Option<RunId>,
    ranges: Vec<Range>,
}

impl Settlement {
    /// Everything up to `upto`, whose own record was sealed under `run`.
    #[must_use]
    pub fn upto(upto: u64, run: Option<RunId>) -> Self {
        Self { upto, upto_run: run, ranges: Vec::new() }
    }

    /// The highest number below which nothing is missing.
    #[must_use]
    pub fn settled_upto(&self) -> u64 {
        self.upto
    }

    /// The run of record `settled_upto`, where the centre knows it.
    #[must_use]
    pub fn settled_upto_run(&self) -> Option<RunId> {
        self.upto_run
    }

    /// What is settled above `upto`, ascending, not touching.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Whether `seq` is settled.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        seq <= self.upto || self.ranges.iter().any(|range| (range.first..=range.last).contains(&seq))
    }

    /// The lowest number above `seq` that is not settled.
    #[must_use]
    pub fn next_unsettled(&self, seq: u64) -> u64 {
        let mut candidate = seq.max(self.upto).saturating_add(1);
        for range in &self.ranges {
            if (range.first..=range.last).contains(&candidate) {
                candidate = range.last.saturating_add(1);
            }
        }
        candidate
    }

    /// Settles the numbers from `first` to `last`.
    pub fn add(&mut self, range: Range) {
        if range.last < range.first || range.last <= self.upto {
            return;
        }
        let at = self.ranges.partition_point(|known| known.first < range.first);
        self.ranges.insert(at, range);
        self.normalise();
    }

    /// Takes back the numbers from `first` to `last`: the centre does not have them any more. Nothing where they are none.
    pub fn remove(&mut self, first: u64, last: u64) {
        if first == 0 || last < first {
            return;
        }
        let below = Range { first: 1, last: self.upto, run: self.upto_run };
        let settled = (self.upto > 0).then_some(below).into_iter().chain(self.ranges.drain(..));
        let mut left = Vec::new();
        for range in settled {
            // The run is known of a span's last number only; that of its lower part is told with the next acknowledgement.
            let lower =
                Range { last: range.last.min(first - 1), run: if range.last < first { range.run } else { None }, ..range };
            let upper = Range { first: range.first.max(last.saturating_add(1)), ..range };
            let upper = if range.last > last { Some(upper) } else { None };
            left.extend([Some(lower), upper].into_iter().flatten().filter(|part| part.first <= part.last));
        }
        (self.upto, self.upto_run) = (0, None);
        self.ranges = left;
        self.normalise();
    }

    /// Maximum and union with `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.upto > self.upto {
            self.upto = other.upto;
            self.upto_run = other.upto_run;
        }
        for range in &other.ranges {
            let at = self.ranges.partition_point(|known| known.first < range.first);
            self.ranges.insert(at, *range);
        }
        self.normalise();
    }

    /// Joins what touches, lets `upto` swallow what it reaches, and keeps the bound.
    fn normalise(&mut self) {
        let mut joined: Vec<Range> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            if range.last <= self.upto {
                continue;
            }
            if range.first <= self.upto.saturating_add(1) {
                self.upto = range.last;
                self.upto_run = range.run;
                continue;
            }
            match joined.last_mut() {
                // The run is that of the last number.
                Some(last) if range.first <= last.last && range.last > last.last => {
                    (last.last, last.run) = (range.last, range.run)
                }
                Some(last) if range.first <= last.last => {}
                Some(last) if range.first == last.last + 1 && range.run == last.run => last.last = range.last,
                _ => joined.push(range),
            }
        }
        joined.truncate(RANGES_MAX);
        self.ranges = joined;
    }

    /// As the wire carries it, for `epoch` and `lane`.
    #[must_use]
    pub fn to_wire(&self, epoch: super::id::EpochId, lane: super::id::Lane) -> wire::LaneSettlement {
        let run_octets = |run: Option<RunId>| run.map_or_else(Vec::new, |run| run.0.to_vec());
        wire::LaneSettlement {
            epoch: epoch.0.to_vec(),
            lane: lane.to_wire().into(),
            upto: self.upto,
            upto_run: run_octets(self.upto_run),
            ranges: self
                .ranges
                .iter()
                .map(|range| wire::Range { first: range.first, last: range.last, run: run_octets(range.run) })
                .collect(),
        }
    }

    /// From the wire; what is out of order or beyond the bound is brought into order.
    #[must_use]
    pub fn from_wire(message: &wire::LaneSettlement) -> Self {
        let mut settlement = Self::upto(message.upto, RunId::from_slice(&message.upto_run));
        for range in message.ranges.iter().take(RANGES_MAX) {
            settlement.add(Range { first: range.first, last: range.last, run: RunId::from_slice(&range.run) });
        }
        settlement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(first: u64, last: u64) -> Range {
        Range { first, last, run: None }
    }

    #[test]
    fn upto_swallows_the_range_it_reaches() {
        let mut settlement = Settlement::upto(3, None);
        settlement.add(range(6, 9));
        settlement.add(range(4, 5));
        assert_eq!(settlement, Settlement::upto(9, None));
    }

    #[test]
    fn what_is_taken_back_leaves_both_sides() {
        let run = RunId([4; 8]);
        let mut settlement = Settlement::upto(10, Some(run));
        settlement.add(range(15, 20));
        settlement.remove(4, 6);
        assert_eq!((settlement.settled_upto(), settlement.settled_upto_run()), (3, None));
        assert_eq!(settlement.ranges(), [Range { first: 7, last: 10, run: Some(run) }, range(15, 20)]);
        settlement.remove(1, 1);
        assert_eq!(settlement.settled_upto(), 0);
        settlement.remove(0, 5);
        settlement.remove(9, 8);
        settlement.remove(16, u64::MAX);
        assert_eq!(settlement.ranges().last(), Some(&range(15, 15)));
        assert!(!settlement.contains(1) && settlement.contains(2) && settlement.contains(3) && settlement.contains(7));
    }

    #[test]
    fn what_overlaps_has_the_run_of_its_last_number() {
        let (old, new) = (Some(RunId([1; 8])), Some(RunId([2; 8])));
        for (first, second) in [((11, 27, new), (11, 20, old)), ((11, 20, old), (15, 27, new)), ((11, 27, new), (15, 20, old))] {
            let mut settlement = Settlement::default();
            for (first, last, run) in [first, second] {
                settlement.add(Range { first, last, run });
            }
            assert_eq!(settlement.ranges(), [Range { first: 11, last: 27, run: new }]);
        }
    }

    proptest! {
        #[test]
        fn taking_back_takes_back_just_that(
            upto in 0_u64..30,
            more in proptest::collection::vec((1_u64..60, 0_u64..6), 0..8),
            first in 0_u64..70,
            length in 0_u64..20,
        ) {
            let mut settlement = Settlement::upto(upto, None);
            for (first, length) in more {
                settlement.add(range(first, first + length));
            }
            let before = settlement.clone();
            let last = first + length;
            settlement.remove(first, last);
            for seq in 1..90 {
                let taken = first > 0 && (first..=last).contains(&seq);
                prop_assert_eq!(settlement.contains(seq), before.contains(seq) && !taken, "{}", seq);
            }
            prop_assert!(settlement.next_unsettled(settlement.settled_upto()) == settlement.settled_upto() + 1);
        }
    }

    #[test]
    fn next_unsettled_skips_ranges() {
        let mut settlement = Settlement::upto(2, None);
        settlement.add(range(4, 6));
        assert_eq!(settlement.next_unsettled(0), 3);
        assert_eq!(settlement.next_unsettled(3), 7);
    }

    proptest! {
        #[test]
        fn i2_order_of_acknowledgements_does_not_matter(
            spans in proptest::collection::vec((1_u64..60, 0_u64..6), 0..20),
            upto in 0_u64..20,
        ) {
            let mut forward = Settlement::upto(upto, None);
            let mut backward = Settlement::default();
            for (first, more) in &spans {
                forward.add(range(*first, first + more));
            }
            for (first, more) in spans.iter().rev() {
                backward.merge(&{
                    let mut one = Settlement::default();
                    one.add(range(*first, first + more));
                    one
                });
            }
            backward.merge(&Settlement::upto(upto, None));
            for seq in 1..80 {
                let expected = seq <= upto || spans.iter().any(|(first, more)| (*first..=first + more).contains(&seq));
                prop_assert_eq!(forward.contains(seq), expected);
                prop_assert_eq!(backward.contains(seq), expected);
            }
        }
    }
}
