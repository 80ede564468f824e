//! How much may be under way: the wire window until PUBACK, the ack window until the centre's acknowledgement, and how
//! large a batch may be.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane, RunId};

use super::Ticket;

/// Batches on the wire, at most.
pub const WIRE_BATCHES_MAX: usize = 16;
/// Of those, for the urgent lane only.
pub const WIRE_BATCHES_URGENT: usize = 2;
/// Publishes that the broker's Receive Maximum must leave beside the batches, for `state`.
pub const RECEIVE_MAXIMUM_SPARE: usize = 4;
/// Octets on the wire that are always allowed.
pub const WIRE_OCTETS_MIN: usize = 16 * 1024;
/// Octets on the wire, at most, however fast the link.
pub const WIRE_OCTETS_MAX: usize = 256 * 1024;
/// The wire window is what was acknowledged in this time.
pub(super) const WIRE_SPAN: Duration = Duration::from_secs(2);
/// Octets the centre has not acknowledged yet, at most.
pub const ACK_OCTETS_MAX: usize = 1024 * 1024;
/// Of those, for the urgent lane only.
pub(super) const ACK_OCTETS_URGENT: usize = 64 * 1024;
/// Batches the centre has not acknowledged yet, at most.
pub const ACK_BATCHES_MAX: usize = 256;
/// Of those, for the urgent lane only.
pub(super) const ACK_BATCHES_URGENT: usize = 16;
/// Octets of a batch at first, and the least Maximum Packet Size of a broker that we talk to.
pub const BATCH_OCTETS_FIRST: usize = 16 * 1024;
/// Octets of a batch, at most.
pub const BATCH_OCTETS_MAX: usize = 64 * 1024;
/// Octets of a batch on a link that breaks: holds one segment of 12,000 octets with its definitions and envelope.
pub const BATCH_OCTETS_MIN: usize = 12_800;
/// PUBACKs after which batches double.
pub(super) const PUBACKS_TO_DOUBLE: u32 = 16;
/// How long a size at which connections ended is not tried again.
pub(super) const BATCH_CEILING_FOR: Duration = Duration::from_secs(3600);

const BUCKETS: usize = 20;
const BUCKET: Duration = Duration::from_millis(100);

/// Octets that were acknowledged in the last [`WIRE_SPAN`], in buckets of 100 ms.
#[derive(Clone, Debug, Default)]
struct RecentOctets(VecDeque<(u64, usize)>);

impl RecentOctets {
    fn add(&mut self, octets: usize, now: Moment) {
        let bucket = bucket_of(now);
        match self.0.back_mut() {
            Some((last, sum)) if *last == bucket => *sum = sum.saturating_add(octets),
            _ => self.0.push_back((bucket, octets)),
        }
        while self.0.len() > BUCKETS {
            self.0.pop_front();
        }
    }

    fn sum(&self, now: Moment) -> usize {
        let oldest = bucket_of(now - WIRE_SPAN);
        self.0.iter().filter(|(bucket, _)| *bucket > oldest || now < Moment::ZERO + WIRE_SPAN).map(|(_, octets)| octets).sum()
    }
}

fn bucket_of(moment: Moment) -> u64 {
    moment.as_nanos() / u64::try_from(BUCKET.as_nanos()).unwrap_or(u64::MAX)
}

/// What was handed to the broker's client and has no PUBACK yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnWire {
    /// Octets of the publish.
    pub octets: usize,
    /// Of the urgent lane.
    pub urgent: bool,
    /// A batch, not a `state`.
    pub batch: bool,
    /// When it was handed over.
    pub since: Moment,
}

/// The wire window of one connection.
#[derive(Clone, Debug)]
pub(super) struct WireWindow {
    on_wire: BTreeMap<Ticket, OnWire>,
    recent: RecentOctets,
    receive_maximum: usize,
    last_puback: Moment,
}

/// What one more batch may take of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Octets that are left.
    pub octets: usize,
    /// No batch is on the wire, so that one record of any size may go.
    pub empty: bool,
}

impl WireWindow {
    pub(super) fn new(receive_maximum: u16, now: Moment) -> Self {
        Self {
            on_wire: BTreeMap::new(),
            recent: RecentOctets::default(),
            receive_maximum: usize::from(receive_maximum),
            last_puback: now,
        }
    }

    /// Batches that may be on the wire together.
    pub(super) fn batches_max(&self) -> usize {
        WIRE_BATCHES_MAX.min(self.receive_maximum.saturating_sub(RECEIVE_MAXIMUM_SPARE)).max(1)
    }

    /// Octets that may be on the wire together.
    pub(super) fn octets_max(&self, now: Moment) -> usize {
        self.recent.sum(now).clamp(WIRE_OCTETS_MIN, WIRE_OCTETS_MAX)
    }

    /// Whether one more batch may go, and how large it may be.
    pub(super) fn room(&self, urgent: bool, now: Moment) -> Option<Room> {
        let batches = self.batches();
        let others = self.on_wire.values().filter(|entry| entry.batch && !entry.urgent).count();
        let most = self.batches_max();
        let fits = batches < most && (urgent || others < most.saturating_sub(WIRE_BATCHES_URGENT).max(1));
        fits.then(|| Room { octets: self.octets_max(now).saturating_sub(self.octets()), empty: batches == 0 })
    }

    pub(super) fn put(&mut self, ticket: Ticket, entry: OnWire) {
        self.on_wire.insert(ticket, entry);
    }

    /// Takes in a PUBACK.
    pub(super) fn take(&mut self, ticket: Ticket, now: Moment) -> Option<OnWire> {
        let entry = self.on_wire.remove(&ticket)?;
        self.last_puback = now;
        if entry.batch {
            self.recent.add(entry.octets, now);
        }
        Some(entry)
    }

    pub(super) fn holds(&self, ticket: Ticket) -> bool {
        self.on_wire.contains_key(&ticket)
    }

    /// Batches on the wire.
    pub(super) fn batches(&self) -> usize {
        self.on_wire.values().filter(|entry| entry.batch).count()
    }

    /// Octets of batches on the wire.
    pub(super) fn octets(&self) -> usize {
        self.on_wire.values().filter(|entry| entry.batch).map(|entry| entry.octets).sum()
    }

    /// The largest batch on the wire.
    pub(super) fn largest(&self) -> usize {
        self.on_wire.values().filter(|entry| entry.batch).map(|entry| entry.octets).max().unwrap_or(0)
    }

    /// Since when the broker owes us a PUBACK and sent none.
    pub(super) fn silent_since(&self) -> Option<Moment> {
        self.oldest().map(|since| since.max(self.last_puback))
    }

    /// When the oldest publish without a PUBACK was handed over.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.on_wire.values().map(|entry| entry.since).min()
    }
}

/// Numbers of one lane, both ends in it.
pub(super) type Span = (u64, u64);

/// A batch whose records the centre has not settled yet.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    pub epoch: EpochId,
    pub lane: Lane,
    pub run: RunId,
    /// Its numbers that are not settled, held or let go.
    pub spans: Vec<Span>,
    pub octets: usize,
    /// When the broker had it.
    pub published: Option<Moment>,
}

/// The ack window of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct AckWindow {
    pub batches: BTreeMap<Ticket, Awaited>,
}

impl AckWindow {
    /// Octets that may still be sent without being acknowledged.
    pub(super) fn room(&self, urgent: bool) -> usize {
        let (batches, octets) = if urgent {
            (ACK_BATCHES_MAX, ACK_OCTETS_MAX)
        } else {
            (ACK_BATCHES_MAX - ACK_BATCHES_URGENT, ACK_OCTETS_MAX - ACK_OCTETS_URGENT)
        };
        if self.batches.len() < batches { octets.saturating_sub(self.octets()) } else { 0 }
    }

    pub(super) fn octets(&self) -> usize {
        self.batches.values().map(|batch| batch.octets).sum()
    }

    /// When the broker had the batch that waits longest for the centre.
    pub(super) fn oldest_published(&self) -> Option<Moment> {
        self.batches.values().filter_map(|batch| batch.published).min()
    }
}

/// How large a batch may be; it outlives connections.
#[derive(Clone, Debug)]
pub(super) struct BatchSize {
    limit: usize,
    pubacks: u32,
    largest_puback: usize,
    early_ends: u32,
    ceiling: Option<(usize, Moment)>,
}

impl BatchSize {
    pub(super) fn new() -> Self {
        Self { limit: BATCH_OCTETS_FIRST, pubacks: 0, largest_puback: 0, early_ends: 0, ceiling: None }
    }

    /// Octets of a batch with its envelope and topic, at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn connected(&mut self) {
        self.largest_puback = 0;
        self.pubacks = 0;
    }

    /// A batch reached the broker: doubles after [`PUBACKS_TO_DOUBLE`].
    pub(super) fn puback(&mut self, octets: usize, now: Moment) {
        self.largest_puback = self.largest_puback.max(octets);
        self.pubacks += 1;
        if self.pubacks < PUBACKS_TO_DOUBLE {
            return;
        }
        self.pubacks = 0;
        self.early_ends = 0;
        if self.ceiling.is_some_and(|(_, until)| until <= now) {
            self.ceiling = None;
        }
        let most = self.ceiling.map_or(BATCH_OCTETS_MAX, |(ceiling, _)| ceiling);
        self.limit = self.limit.saturating_mul(2).min(most).max(BATCH_OCTETS_MIN);
    }

    /// A connection ended with `largest` octets of one batch on the wire (0: none). When that happens twice to batches
    /// of a size that the broker never took on that connection, batches halve.
    pub(super) fn connection_ended(&mut self, largest: usize, now: Moment) {
        if largest == 0 {
            return;
        }
        if self.largest_puback > largest / 2 {
            self.early_ends = 0;
            return;
        }
        self.early_ends += 1;
        if self.early_ends >= 2 {
            self.early_ends = 0;
            self.limit = (self.limit / 2).max(BATCH_OCTETS_MIN);
            self.ceiling = Some((self.limit, now + BATCH_CEILING_FOR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    fn batch(octets: usize, urgent: bool, since: Moment) -> OnWire {
        OnWire { octets, urgent, batch: true, since }
    }

    #[test]
    fn i9_two_of_sixteen_are_for_urgent_only() {
        let mut wire = WireWindow::new(u16::MAX, at(0));
        for ticket in 0..14 {
            assert!(wire.room(false, at(0)).is_some());
            wire.put(Ticket(ticket), batch(100, false, at(0)));
        }
        assert_eq!(wire.room(false, at(0)), None);
        for ticket in 14..16 {
            assert!(wire.room(true, at(0)).is_some());
            wire.put(Ticket(ticket), batch(100, true, at(0)));
        }
        assert_eq!(wire.room(true, at(0)), None);
    }

    #[test]
    fn i9_receive_maximum_leaves_four_for_state() {
        assert_eq!(WireWindow::new(10, at(0)).batches_max(), 6);
        assert_eq!(WireWindow::new(20, at(0)).batches_max(), 16);
        assert_eq!(WireWindow::new(2, at(0)).batches_max(), 1);
        assert!(WireWindow::new(2, at(0)).room(false, at(0)).is_some(), "one may always go");
    }

    #[test]
    fn i9_octets_follow_what_was_acknowledged_in_two_seconds() {
        let mut wire = WireWindow::new(u16::MAX, at(0));
        assert_eq!(wire.octets_max(at(0)), WIRE_OCTETS_MIN);
        for ticket in 0..10 {
            wire.put(Ticket(ticket), batch(10_000, false, at(5000)));
            wire.take(Ticket(ticket), at(5000 + ticket * 100));
        }
        assert_eq!(wire.octets_max(at(6000)), 100_000);
        assert_eq!(wire.octets_max(at(7400)), 50_000, "the first five are older than two seconds");
        assert_eq!(wire.octets_max(at(9000)), WIRE_OCTETS_MIN);
        for ticket in 0..100 {
            wire.put(Ticket(ticket), batch(10_000, false, at(9000)));
            wire.take(Ticket(ticket), at(9000));
        }
        assert_eq!(wire.octets_max(at(9000)), WIRE_OCTETS_MAX);
    }

    #[test]
    fn i9_memory_of_acknowledged_octets_is_bounded() {
        let mut recent = RecentOctets::default();
        for ms in 0..100_000 {
            recent.add(1, at(ms));
        }
        assert!(recent.0.len() <= BUCKETS);
        assert_eq!(recent.sum(at(99_999)), 2000);
    }

    #[test]
    fn batches_double_after_sixteen_pubacks_up_to_the_bound() {
        let mut size = BatchSize::new();
        size.connected();
        let mut seen = Vec::new();
        for _ in 0..64 {
            size.puback(1000, at(0));
            seen.push(size.limit());
        }
        assert_eq!((seen[14], seen[15], seen[31], seen[63]), (16_384, 32_768, 65_536, 65_536));
    }

    #[test]
    fn batches_halve_when_two_connections_end_before_the_first_puback() {
        let mut size = BatchSize::new();
        size.connected();
        size.connection_ended(16_000, at(0));
        assert_eq!(size.limit(), BATCH_OCTETS_FIRST);
        size.connected();
        size.connection_ended(16_000, at(0));
        assert_eq!(size.limit(), BATCH_OCTETS_MIN);
        size.connected();
        for _ in 0..16 {
            size.puback(12_000, at(1000));
        }
        assert_eq!(size.limit(), BATCH_OCTETS_MIN, "the size that failed is not tried again soon");
        for _ in 0..16 {
            size.puback(12_000, at(3_700_000));
        }
        assert_eq!(size.limit(), 2 * BATCH_OCTETS_MIN);
    }

    #[test]
    fn i6_a_broker_that_takes_small_batches_and_dies_of_large_ones_gets_small_ones() {
        let mut size = BatchSize::new();
        for _ in 0..2 {
            size.connected();
            size.puback(300, at(0));
            size.connection_ended(16_000, at(0));
        }
        assert_eq!(size.limit(), BATCH_OCTETS_MIN);
    }

    #[test]
    fn a_cut_between_batches_that_went_through_changes_nothing() {
        let mut size = BatchSize::new();
        for _ in 0..5 {
            size.connected();
            size.puback(16_000, at(0));
            size.connection_ended(16_000, at(0));
            size.connected();
            size.connection_ended(0, at(0));
        }
        assert_eq!(size.limit(), BATCH_OCTETS_FIRST);
    }
}
