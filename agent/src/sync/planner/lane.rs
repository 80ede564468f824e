//! What the planner knows of one lane of one epoch: which numbers are still to be sent, and which are new.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane, RunId};
use kit_protocol::uplink::settlement::{Range, Settlement};

use super::window::Span;
use crate::store::outbox::{EpochView, LaneView};

/// What was appended since this long before the connection is live, the rest is backlog.
pub const LIVE_SINCE: Duration = Duration::from_secs(300);
/// Spans of numbers that a lane holds back for later, at most; beyond that the whole lane waits.
pub const HELD_SPANS_MAX: usize = 64;
/// How finely the planner remembers when a number was appended.
const EDGE_GRAIN: Duration = Duration::from_secs(15);
/// Samples that this takes.
const EDGE_SAMPLES_MAX: usize = 48;

/// The two halves of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Appended since [`LIVE_SINCE`] before this connection.
    Live,
    /// Older.
    Backlog,
}

impl Age {
    pub(super) const ALL: [Self; 2] = [Self::Live, Self::Backlog];
}

/// What of the settlement the store does not know yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dirty {
    #[default]
    Clean,
    /// More is settled.
    Settle,
    /// The centre's database said what is settled; it may be less.
    Reset,
}

/// When which number was the next one, so that a connection can tell live from backlog.
#[derive(Clone, Debug)]
struct Edge(VecDeque<(Moment, u64)>);

impl Edge {
    fn sample(&mut self, next: u64, now: Moment) {
        if self.0.back().is_some_and(|(_, known)| *known == next) {
            return;
        }
        // The newest sample is always exact; between the others lies at least the grain.
        let before_last = self.0.len().checked_sub(2).and_then(|index| self.0.get(index));
        if before_last.is_some_and(|(at, _)| now.since(*at) < EDGE_GRAIN) {
            self.0.pop_back();
        }
        self.0.push_back((now, next));
        let old = self.0.partition_point(|(at, _)| *at + LIVE_SINCE <= now);
        self.0.drain(..old.saturating_sub(1));
        while self.0.len() > EDGE_SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    /// The first number that is live on a connection made at `now`.
    fn live_from(&self, now: Moment) -> u64 {
        let known = self.0.iter().rev().find(|(at, _)| *at + LIVE_SINCE <= now).or(self.0.front());
        known.map_or(1, |(_, next)| *next)
    }
}

/// Numbers that the centre will take later.
#[derive(Clone, Copy, Debug)]
struct Held {
    first: u64,
    last: u64,
    until: Moment,
}

/// One lane of one epoch.
#[derive(Clone, Debug)]
pub(super) struct LanePlan {
    next: u64,
    settled: Settlement,
    dirty: Dirty,
    edge: Edge,
    live_from: u64,
    /// Where the search for the next number to send begins, by [`Age`]; everything below is settled, under way, or held.
    cursor: [u64; 2],
    /// First → last of what is under way on this connection.
    under_way: BTreeMap<u64, u64>,
    held: Vec<Held>,
    paused_until: Option<Moment>,
    rolled_back: bool,
}

impl LanePlan {
    /// The lane as the store shows it. `old` where its records were there before the planner was: their age is unknown,
    /// so they are backlog.
    fn new(view: &LaneView, old: bool, now: Moment) -> Self {
        let edge = Edge(VecDeque::from([(now, if old { view.next } else { 1 })]));
        let mut lane = Self {
            next: view.next,
            settled: view.settled.clone(),
            dirty: Dirty::Clean,
            live_from: edge.live_from(now),
            edge,
            cursor: [1; 2],
            under_way: BTreeMap::new(),
            held: Vec::new(),
            paused_until: None,
            rolled_back: false,
        };
        lane.edge.sample(view.next, now);
        lane
    }

    pub(super) fn appended(&mut self, next: u64, now: Moment) {
        self.next = self.next.max(next);
        self.edge.sample(self.next, now);
    }

    /// The store was opened again, and knows this as settled: what it had not kept it is told once more.
    pub(super) fn opened_again(&mut self, settled: &Settlement) {
        if *settled != self.settled {
            self.dirty = self.dirty.max(Dirty::Settle);
        }
    }

    /// A new connection: what is live is decided, everything unsettled is to be sent.
    pub(super) fn connected(&mut self, now: Moment) {
        self.live_from = self.edge.live_from(now);
        self.under_way.clear();
        self.rewind();
    }

    /// Begins the search for what to send again at the lowest unsettled number.
    pub(super) fn rewind(&mut self) {
        self.cursor = [1; 2];
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn settled(&self) -> &Settlement {
        &self.settled
    }

    pub(super) fn rolled_back(&self) -> bool {
        self.rolled_back
    }

    /// The centre knows numbers that this store has not given yet: nothing of this lane is settled by it any more.
    pub(super) fn mark_rolled_back(&mut self) {
        self.rolled_back = true;
    }

    /// The next numbers to send: from the first, before the second.
    pub(super) fn next_span(&mut self, age: Age, now: Moment) -> Option<Span> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let (floor, end) = match age {
            Age::Live => (self.live_from, self.next),
            Age::Backlog => (1, self.live_from.min(self.next)),
        };
        let mut from = self.cursor[age as usize].max(floor);
        while from < end {
            from = self.settled.next_unsettled(from - 1);
            let busy = self.under_way.range(..=from).next_back().map(|(_, last)| *last).filter(|last| *last >= from);
            match busy.or_else(|| self.held_at(from, now)) {
                Some(last) => from = last.saturating_add(1),
                None => break,
            }
        }
        self.cursor[age as usize] = from.min(end);
        (from < end).then(|| (from, self.before(from, end, now)))
    }

    fn held_at(&self, seq: u64, now: Moment) -> Option<u64> {
        self.held.iter().find(|held| now < held.until && (held.first..=held.last).contains(&seq)).map(|held| held.last)
    }

    /// The first number after `from` that must not go with it.
    fn before(&self, from: u64, end: u64, now: Moment) -> u64 {
        let busy = self.under_way.range(from..).next().map(|(first, _)| *first);
        let held = self.held.iter().filter(|held| now < held.until && held.first > from).map(|held| held.first).min();
        [busy, held].into_iter().flatten().fold(end, u64::min)
    }

    /// Numbers went on their way.
    pub(super) fn sent(&mut self, spans: &[Span]) {
        self.under_way.extend(spans.iter().copied());
    }

    /// Nothing to send was found below `next`.
    pub(super) fn nothing_before(&mut self, from: u64, next: u64) {
        for cursor in &mut self.cursor {
            if *cursor == from {
                *cursor = next.max(from.saturating_add(1));
            }
        }
    }

    /// Numbers that went are to be sent again, unless they were settled.
    pub(super) fn release(&mut self, spans: &[Span]) {
        for (first, last) in spans {
            self.under_way.remove(first);
            self.search_again_from(*first, *last);
        }
    }

    /// Numbers that went are settled or held: they are no longer under way.
    pub(super) fn arrived(&mut self, spans: &[Span]) {
        for (first, _) in spans {
            self.under_way.remove(first);
        }
    }

    fn search_again_from(&mut self, first: u64, last: u64) {
        for (cursor, age) in self.cursor.iter_mut().zip(Age::ALL) {
            let concerned = match age {
                Age::Live => last >= self.live_from,
                Age::Backlog => first < self.live_from,
            };
            if concerned {
                *cursor = (*cursor).min(first);
            }
        }
    }

    /// Keeps one number back until `until`.
    pub(super) fn hold(&mut self, seq: u64, until: Moment) {
        if let Some(near) =
            self.held.iter_mut().find(|held| held.first <= seq.saturating_add(1) && seq <= held.last.saturating_add(1))
        {
            near.first = near.first.min(seq);
            near.last = near.last.max(seq);
            near.until = near.until.max(until);
            return;
        }
        if self.held.len() < HELD_SPANS_MAX {
            self.held.push(Held { first: seq, last: seq, until });
            return;
        }
        let latest = self.held.iter().map(|held| held.until).max().unwrap_or(until);
        self.held.clear();
        self.pause(latest.max(until));
        self.rewind();
    }

    /// Sends nothing of this lane until `until`.
    pub(super) fn pause(&mut self, until: Moment) {
        self.paused_until = Some(self.paused_until.map_or(until, |known| known.max(until)));
    }

    /// Takes in that the time has come for what was held.
    pub(super) fn handle_timeout(&mut self, now: Moment) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        let due: Vec<Held> = self.held.iter().filter(|held| held.until <= now).copied().collect();
        self.held.retain(|held| held.until > now);
        for held in due {
            self.search_again_from(held.first, held.last);
        }
    }

    /// When [`Self::handle_timeout`] is wanted.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.held.iter().map(|held| held.until).chain(self.paused_until).min()
    }

    /// More is settled.
    pub(super) fn settle(&mut self, more: &Settlement) -> bool {
        let before = self.settled.clone();
        self.settled.merge(more);
        let changed = before != self.settled;
        if changed {
            self.dirty = self.dirty.max(Dirty::Settle);
        }
        changed
    }

    /// One number is settled.
    pub(super) fn settle_one(&mut self, seq: u64, run: Option<RunId>) {
        self.settled.add(Range { first: seq, last: seq, run });
        self.dirty = self.dirty.max(Dirty::Settle);
    }

    /// The centre's database knows this and no more. The store is told in any case: what it was told before may have been
    /// taken back by a cut.
    pub(super) fn reset(&mut self, known: Settlement) {
        self.settled = known;
        self.dirty = Dirty::Reset;
        self.rewind();
    }

    /// The centre lost these: they are to be sent again. Nothing changes where none of them was settled.
    pub(super) fn take_back(&mut self, first: u64, last: u64) {
        let before = self.settled.clone();
        self.settled.remove(first, last);
        if before != self.settled {
            self.dirty = Dirty::Reset;
            self.search_again_from(first, last);
        }
    }

    /// What the store is to be told, once.
    pub(super) fn take_dirty(&mut self) -> Option<(bool, Settlement)> {
        match std::mem::take(&mut self.dirty) {
            Dirty::Clean => None,
            Dirty::Settle => Some((false, self.settled.clone())),
            Dirty::Reset => Some((true, self.settled.clone())),
        }
    }

    /// Whether all numbers of `span` are settled.
    pub(super) fn span_settled(&self, (first, last): Span) -> bool {
        self.settled.next_unsettled(first.saturating_sub(1)) > last
    }

    /// Spans that are under way or held, for the bound's test.
    #[cfg(test)]
    pub(super) fn held_spans(&self) -> usize {
        self.held.len()
    }
}

/// One epoch the kit holds.
#[derive(Clone, Debug)]
pub(super) struct EpochPlan {
    pub epoch: EpochId,
    pub lanes: [LanePlan; 4],
}

impl EpochPlan {
    pub(super) fn new(view: &EpochView, old: bool, now: Moment) -> Self {
        Self { epoch: view.epoch, lanes: view.lanes.each_ref().map(|lane| LanePlan::new(lane, old, now)) }
    }

    pub(super) fn lane(&mut self, lane: Lane) -> &mut LanePlan {
        &mut self.lanes[lane.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn lane(next: u64, settled: Settlement, old: bool) -> LanePlan {
        let mut lane = LanePlan::new(&LaneView { oldest: 1, next, settled, octets: 0 }, old, at(1000));
        lane.connected(at(1000));
        lane
    }

    fn range(first: u64, last: u64) -> Range {
        Range { first, last, run: None }
    }

    #[test]
    fn settled_under_way_and_held_numbers_are_stepped_over() {
        let mut settled = Settlement::upto(3, None);
        settled.add(range(6, 7));
        let mut lane = lane(20, settled, true);
        assert_eq!(lane.next_span(Age::Live, at(1000)), None);
        assert_eq!(lane.next_span(Age::Backlog, at(1000)), Some((4, 20)));
        lane.sent(&[(4, 5), (8, 9)]);
        lane.hold(10, at(1060));
        lane.hold(12, at(1060));
        assert_eq!(lane.next_span(Age::Backlog, at(1000)), Some((11, 12)));
        lane.release(&[(8, 9)]);
        assert_eq!(lane.next_span(Age::Backlog, at(1000)), Some((8, 10)));
    }

    #[test]
    fn i6_a_held_record_returns_when_its_time_has_come_and_blocks_nobody() {
        let mut lane = lane(6, Settlement::default(), true);
        lane.sent(&[(1, 5)]);
        lane.hold(2, at(1030));
        lane.arrived(&[(1, 5)]);
        lane.settle(&Settlement::upto(1, None));
        lane.settle_one(3, None);
        lane.settle_one(4, None);
        lane.settle_one(5, None);
        assert_eq!(lane.next_span(Age::Backlog, at(1000)), None);
        assert_eq!(lane.poll_timeout(), Some(at(1030)));
        lane.handle_timeout(at(1030));
        assert_eq!(lane.next_span(Age::Backlog, at(1030)), Some((2, 6)));
    }

    #[test]
    fn i9_too_many_held_spans_make_the_whole_lane_wait() {
        let mut lane = lane(1000, Settlement::default(), true);
        for seq in 0..=u64::try_from(HELD_SPANS_MAX).unwrap() {
            lane.hold(1 + 3 * seq, at(1050));
        }
        assert_eq!(lane.held_spans(), 0);
        assert_eq!(lane.next_span(Age::Backlog, at(1049)), None);
        assert_eq!(lane.poll_timeout(), Some(at(1050)));
        lane.handle_timeout(at(1050));
        assert_eq!(lane.next_span(Age::Backlog, at(1050)), Some((1, 1000)));
    }

    #[test]
    fn live_is_what_came_in_the_five_minutes_before_the_connection() {
        let mut lane = lane(100, Settlement::default(), true);
        for second in 1..1000 {
            lane.appended(100 + second, at(1000 + second));
        }
        lane.connected(at(2000));
        let (from, _) = lane.next_span(Age::Live, at(2000)).unwrap();
        let oldest = 100 + 2000 - 1000 - LIVE_SINCE.as_secs();
        assert!((oldest - 20..=oldest).contains(&from), "{from}");
        assert_eq!(lane.next_span(Age::Backlog, at(2000)), Some((1, from)));
        assert!(lane.edge.0.len() <= EDGE_SAMPLES_MAX);
    }

    #[test]
    fn what_was_there_at_the_start_is_backlog_and_a_new_epoch_is_live() {
        assert_eq!(lane(9, Settlement::default(), true).next_span(Age::Live, at(1000)), None);
        assert_eq!(lane(9, Settlement::default(), false).next_span(Age::Live, at(1000)), Some((1, 9)));
        let mut quiet = lane(9, Settlement::default(), true);
        quiet.appended(12, at(9000));
        quiet.connected(at(9001));
        assert_eq!(quiet.next_span(Age::Live, at(9001)), Some((9, 12)));
    }

    #[test]
    fn i3_only_a_reset_moves_settlement_back() {
        let mut lane = lane(9, Settlement::upto(8, None), true);
        assert!(!lane.settle(&Settlement::upto(4, None)));
        assert_eq!(lane.take_dirty(), None);
        lane.reset(Settlement::upto(4, None));
        assert_eq!(lane.take_dirty(), Some((true, Settlement::upto(4, None))));
        assert_eq!(lane.next_span(Age::Backlog, at(1000)), Some((5, 9)));
        lane.settle(&Settlement::upto(6, None));
        assert_eq!(lane.take_dirty(), Some((false, Settlement::upto(6, None))));
    }
}
