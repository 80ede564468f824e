//! Numbers whose records are no longer on the disk, and whether somebody was told.

use std::collections::BTreeMap;

use kit_protocol::uplink::id::Lane;
use kit_protocol::uplink::settlement::Settlement;

use super::epoch::lane_key;
use super::sled::{Commit, Tree};

/// What is known of a number that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The centre had it when it was deleted.
    Acknowledged,
    /// A gap in the journal names it.
    Declared,
}

/// Spans of gone numbers of one lane: ascending, apart, neighbours of one fate joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone(BTreeMap<u64, (u64, Fate)>);

impl Gone {
    /// The numbers from `first` to `last` are gone; what was known of them before is replaced.
    pub(crate) fn mark(&mut self, first: u64, last: u64, fate: Fate) {
        if last < first {
            return;
        }
        self.cut_out(first, last);
        let (mut first, mut last) = (first, last);
        if let Some((before, (end, of))) = self.0.range(..first).next_back().map(|(key, value)| (*key, *value))
            && (of, end.saturating_add(1)) == (fate, first)
        {
            self.0.remove(&before);
            first = before;
        }
        if let Some((end, of)) = last.checked_add(1).and_then(|next| self.0.get(&next).copied())
            && of == fate
        {
            self.0.remove(&(last + 1));
            last = end;
        }
        self.0.insert(first, (last, fate));
    }

    /// The last number of the span that holds `seq`.
    pub(crate) fn until(&self, seq: u64) -> Option<u64> {
        let (_, (last, _)) = self.0.range(..=seq).next_back()?;
        (*last >= seq).then_some(*last)
    }

    /// Every span with its fate.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (u64, u64, Fate)> + '_ {
        self.0.iter().map(|(first, (last, fate))| (*first, *last, *fate))
    }

    /// What `settled` does not hold and no gap names: a centre that was restored to an earlier state waits for it.
    pub(crate) fn asked_for_by(&self, settled: &Settlement) -> Vec<(u64, u64)> {
        let acknowledged = self.spans().filter(|(_, _, fate)| *fate == Fate::Acknowledged);
        let pieces = acknowledged.flat_map(|(first, last, _)| pieces(settled, first, last));
        pieces.filter(|(_, _, settled)| !settled).map(|(first, last, _)| (first, last)).collect()
    }

    /// Adds what differs from `before` to `commit`.
    pub(crate) fn put_changes(&self, before: &Self, lane: Lane, commit: &mut Commit) {
        for first in before.0.keys().filter(|first| !self.0.contains_key(first)) {
            commit.remove(Tree::Gone, &lane_key(lane, *first));
        }
        for (first, (last, fate)) in self.0.iter().filter(|(first, value)| before.0.get(first) != Some(*value)) {
            commit.put(Tree::Gone, &lane_key(lane, *first), &encode(*last, *fate));
        }
    }

    /// Takes in a span as [`Gone::put_changes`] wrote it.
    pub(crate) fn restore(&mut self, first: u64, value: &[u8]) {
        if let Some((last, fate)) = decode(value) {
            self.mark(first, last, fate);
        }
    }

    fn cut_out(&mut self, first: u64, last: u64) {
        let touched: Vec<_> =
            self.0.range(..=last).rev().take_while(|(_, (end, _))| *end >= first).map(|(key, _)| *key).collect();
        for key in touched {
            let Some((end, fate)) = self.0.remove(&key) else { continue };
            if key < first {
                self.0.insert(key, (first - 1, fate));
            }
            if end > last {
                self.0.insert(last + 1, (end, fate));
            }
        }
    }
}

/// The span from `first` to `last` in pieces that `settled` holds, or does not hold, whole.
pub(crate) fn pieces(settled: &Settlement, first: u64, last: u64) -> Vec<(u64, u64, bool)> {
    let mut pieces = Vec::new();
    let mut at = first;
    while at <= last {
        let is_settled = settled.contains(at);
        let next = if is_settled {
            settled.next_unsettled(at)
        } else {
            settled.ranges().iter().map(|range| range.first).find(|start| *start > at).unwrap_or(u64::MAX)
        };
        let end = last.min(next - 1);
        pieces.push((at, end, is_settled));
        if end == u64::MAX {
            break;
        }
        at = end + 1;
    }
    pieces
}

/// Shape: last (u64, big-endian) · fate (1).
fn encode(last: u64, fate: Fate) -> [u8; 9] {
    let mut octets = [fate_octet(fate); 9];
    octets[..8].copy_from_slice(&last.to_be_bytes());
    octets
}

fn decode(octets: &[u8]) -> Option<(u64, Fate)> {
    let (last, fate) = octets.split_at_checked(8)?;
    let fate = [Fate::Acknowledged, Fate::Declared].into_iter().find(|known| [fate_octet(*known)] == *fate)?;
    Some((u64::from_be_bytes(last.try_into().ok()?), fate))
}

pub(crate) fn fate_octet(fate: Fate) -> u8 {
    match fate {
        Fate::Acknowledged => 0,
        Fate::Declared => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::uplink::settlement::Range;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_say_of_each_number_what_was_said_last(marks in prop::collection::vec((0_u64..60, 0_u64..12, any::<bool>()), 0..30)) {
            let mut gone = Gone::default();
            let mut plain: BTreeMap<u64, Fate> = BTreeMap::new();
            for (first, more, declared) in marks {
                let fate = if declared { Fate::Declared } else { Fate::Acknowledged };
                gone.mark(first, first + more, fate);
                plain.extend((first..=first + more).map(|seq| (seq, fate)));
            }
            let spelled: BTreeMap<u64, Fate> =
                gone.spans().flat_map(|(first, last, fate)| (first..=last).map(move |seq| (seq, fate))).collect();
            prop_assert_eq!(&spelled, &plain);
            for seq in 0..80 {
                prop_assert_eq!(gone.until(seq).is_some(), plain.contains_key(&seq));
            }
            let spans: Vec<_> = gone.spans().collect();
            for pair in spans.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0 || pair[0].2 != pair[1].2, "neighbours of one fate are one span");
            }
            let mut restored = Gone::default();
            spans.iter().for_each(|(first, last, fate)| restored.restore(*first, &encode(*last, *fate)));
            prop_assert_eq!(restored, gone);
        }

        #[test]
        fn pieces_are_the_span_in_order(upto in 0_u64..20, at in 22_u64..40, more in 0_u64..9, first in 1_u64..50, length in 0_u64..50) {
            let mut settled = Settlement::upto(upto, None);
            settled.add(Range { first: at, last: at + more, run: None });
            let numbers: Vec<_> =
                pieces(&settled, first, first + length).into_iter().flat_map(|(a, b, is)| (a..=b).map(move |seq| (seq, is))).collect();
            let expected: Vec<_> = (first..=first + length).map(|seq| (seq, settled.contains(seq))).collect();
            prop_assert_eq!(numbers, expected);
        }
    }

    #[test]
    fn what_a_restored_centre_does_not_hold_is_asked_for_once() {
        let mut gone = Gone::default();
        gone.mark(1, 9, Fate::Acknowledged);
        gone.mark(20, 22, Fate::Declared);
        let settled = Settlement::upto(4, None);
        assert_eq!(gone.asked_for_by(&settled), [(5, 9)]);
        gone.mark(5, 9, Fate::Declared);
        assert_eq!(gone.asked_for_by(&settled), []);
        assert_eq!(gone.asked_for_by(&Settlement::default()), [(1, 4)]);
    }
}
