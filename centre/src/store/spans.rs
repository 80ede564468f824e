//! Which numbers of a lane are settled, as spans: what answers are made of.
//!
//! Spans are disjoint and ascending. Two that touch are one where their run is the same. The one that begins at 1 is the
//! settled prefix: it swallows whatever it reaches, of any run, and keeps the run of its last number.

use kit_protocol::uplink::settlement::{RANGES_MAX, Range, Settlement};

/// Settled numbers, both ends in it, with their run; `None` where they were declared gone.
pub(super) type Span = Range;

/// Fills what `spans` (ascending, disjoint) leave open of `new`, and joins what touches.
pub(super) fn fill(spans: &[Span], new: Span) -> Vec<Span> {
    let mut filled = Vec::with_capacity(spans.len() + 1);
    let mut open_from = Some(new.first);
    for span in spans {
        if let Some(from) = open_from.filter(|from| *from <= new.last && *from < span.first) {
            filled.push(Span { first: from, last: new.last.min(span.first - 1), run: new.run });
        }
        filled.push(*span);
        open_from = open_from.and_then(|from| if span.last >= from { span.last.checked_add(1) } else { Some(from) });
    }
    if let Some(from) = open_from.filter(|from| *from <= new.last) {
        filled.push(Span { first: from, last: new.last, run: new.run });
    }
    join(&filled)
}

/// Joins what touches.
pub(super) fn join(spans: &[Span]) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(before) if before.last.checked_add(1) == Some(span.first) && (before.first == 1 || before.run == span.run) => {
                before.last = span.last;
                before.run = span.run;
            }
            _ => joined.push(*span),
        }
    }
    joined
}

/// The holes that `spans` leave from 1 to `last`.
pub(super) fn holes(spans: &[Span], last: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut next = 1;
    for span in spans {
        if span.first > last {
            break;
        }
        if span.first > next {
            holes.push((next, span.first - 1));
        }
        next = span.last.saturating_add(1);
    }
    if next <= last {
        holes.push((next, last));
    }
    holes
}

/// The numbers of `settled` that are not in `kept`; both ascending and disjoint.
pub(super) fn missing(settled: &[Span], kept: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut missing = Vec::new();
    for span in settled {
        let from = kept.partition_point(|(_, last)| *last < span.first);
        let mut next = span.first;
        for &(first, last) in kept.iter().skip(from).take_while(|(first, _)| *first <= span.last) {
            if first > next {
                missing.push((next, first - 1));
            }
            next = next.max(last.saturating_add(1));
        }
        if next <= span.last {
            missing.push((next, span.last));
        }
    }
    missing
}

/// As an answer says it: the prefix, and of the rest those that hold `of_interest` first, then the lowest.
///
/// A lane with more holes than an answer may name would otherwise never tell a kit that the numbers it just sent arrived.
pub(super) fn settlement(spans: impl IntoIterator<Item = Span>, of_interest: Option<(u64, u64)>) -> Settlement {
    let mut settlement = Settlement::default();
    let mut lowest = Vec::new();
    let mut interesting = Vec::new();
    for span in spans {
        let interest = of_interest.is_some_and(|(first, last)| span.first <= last && span.last >= first);
        match span.first {
            1 => settlement = Settlement::upto(span.last, span.run),
            _ if interest && interesting.len() < RANGES_MAX => interesting.push(span),
            _ if lowest.len() < RANGES_MAX => lowest.push(span),
            _ => {}
        }
    }
    let room = RANGES_MAX - interesting.len();
    for span in interesting.into_iter().chain(lowest.into_iter().take(room)) {
        settlement.add(span);
    }
    settlement
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use kit_protocol::uplink::id::RunId;

    #[test]
    fn what_is_settled_and_not_kept_is_missing() {
        let span = |first, last| Span { first, last, run: None };
        let kept = [(1, 3), (5, 5), (8, 20), (26, 40)];
        assert_eq!(missing(&[span(1, 10), span(15, 30), span(50, 52)], &kept), [(4, 4), (6, 7), (21, 25), (50, 52)]);
        assert_eq!(missing(&[span(1, 3), span(8, 20)], &kept), []);
        assert_eq!(missing(&[span(1, 2)], &[]), [(1, 2)]);
    }
    use proptest::prelude::*;

    fn run(number: u8) -> Option<RunId> {
        (number > 0).then_some(RunId([number; 8]))
    }

    fn span(first: u64, last: u64, of: u8) -> Span {
        Span { first, last, run: run(of) }
    }

    #[test]
    fn the_prefix_swallows_what_it_reaches_and_names_the_last_run() {
        let spans = fill(&[span(4, 6, 2), span(7, 9, 3), span(11, 12, 3)], span(1, 3, 1));
        assert_eq!(spans, [span(1, 9, 3), span(11, 12, 3)]);
    }

    #[test]
    fn spans_of_two_runs_stay_apart_above_the_prefix() {
        assert_eq!(fill(&[span(4, 6, 1)], span(7, 7, 2)), [span(4, 6, 1), span(7, 7, 2)]);
        assert_eq!(fill(&[span(4, 6, 1)], span(7, 7, 1)), [span(4, 7, 1)]);
    }

    #[test]
    fn what_just_came_is_told_even_past_the_bound_of_ranges() {
        let scattered: Vec<Span> = (1..200).map(|n| span(n * 2, n * 2, 1)).collect();
        let told = settlement(scattered, Some((300, 303)));
        assert!(told.contains(300) && told.contains(302) && told.contains(2));
        assert_eq!(told.ranges().len(), RANGES_MAX);
    }

    proptest! {
        #[test]
        fn i2_spans_say_what_a_table_of_numbers_says(pieces in proptest::collection::vec((1_u64..60, 0_u64..8, 0_u8..4), 0..25)) {
            let mut spans: Vec<Span> = Vec::new();
            let mut numbers: BTreeMap<u64, u8> = BTreeMap::new();
            for (first, more, of) in pieces {
                spans = fill(&spans, span(first, first + more, of));
                for number in first..=first + more {
                    numbers.entry(number).or_insert(of);
                }
            }
            for pair in spans.windows(2) {
                prop_assert!(pair[0].last < pair[1].first);
                prop_assert!(pair[0].last + 1 < pair[1].first || pair[0].run != pair[1].run);
            }
            for number in 1..80 {
                let holder = spans.iter().find(|span| (span.first..=span.last).contains(&number));
                prop_assert_eq!(holder.is_some(), numbers.contains_key(&number));
                if let Some(holder) = holder.filter(|holder| holder.first > 1 || holder.last == number) {
                    prop_assert_eq!(holder.run, run(numbers[&number]));
                }
            }
            let missing: Vec<u64> = (1..=70).filter(|number| !numbers.contains_key(number)).collect();
            let holes: Vec<u64> = holes(&spans, 70).into_iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(holes, missing);
        }
    }
}
