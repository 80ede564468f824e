//! What to send next, when to try again, and what is settled: a pure machine.
//!
//! [`Planner::handle`] takes in what happened, [`Planner::poll_action`] says what to do, [`Planner::poll_timeout`] when to
//! call again. It knows epochs, lanes, cursors, windows, the broker's limits and the centre's state; it knows no MQTT client,
//! no runtime and no database, and it never holds a record's bytes: the shell reads the records that a [`Action::Send`]
//! names, builds the batch, and says what it sent.
//!
//! ```text
//! Idle ──Connect──▶ Connecting ──Up──▶ Up ──Down, or 30 s without a PUBACK──▶ Idle (back-off, full jitter)
//! on Up: `state` with this connection's nonce goes out, repeated every 30 s until the centre's `Settled` comes;
//!        batches go without waiting for it; answers before it, or with another nonce, are dropped.
//! a batch: Send ─▶ Sent ─▶ PUBACK (leaves the wire window) ─▶ settled (leaves the ack window)
//! a batch that the centre cannot believe: `Pause`, all wait 30 s to 5 min, then one at a time until one is acknowledged.
//! no acknowledgement for 60 s: the backlog stops, one batch is tried again with back-off until one is acknowledged.
//! ```

mod answer;
mod back_off;
mod bucket;
mod centre;
mod lane;
mod pause;
mod send;
mod share;
mod window;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane, Nonce, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;

pub use back_off::{REFUSALS_BEFORE_LONG, REFUSED_DELAY_MAX, RETRY_DELAY_FIRST, RETRY_DELAY_MAX, STABLE_AFTER};
pub use bucket::BURST_OCTETS;
pub use centre::{OFFLINE_FOR, Reach};
pub use lane::{HELD_SPANS_MAX, LIVE_SINCE};
pub use pause::{PAUSE_FIRST, PAUSE_MAX};
pub use window::{
    ACK_BATCHES_MAX, ACK_OCTETS_MAX, BATCH_OCTETS_FIRST, BATCH_OCTETS_MAX, BATCH_OCTETS_MIN, RECEIVE_MAXIMUM_SPARE,
    WIRE_BATCHES_MAX, WIRE_BATCHES_URGENT, WIRE_OCTETS_MAX, WIRE_OCTETS_MIN,
};

use crate::store::outbox::EpochView;
use back_off::BackOff;
use bucket::Bucket;
use centre::Centre;
use lane::EpochPlan;
use pause::Pause;
use send::{Need, Preparing, Stall};
use share::Shares;
use window::{AckWindow, BatchSize, WireWindow};

/// Records of one batch, at most.
pub const BATCH_RECORDS_MAX: usize = 1024;
/// No PUBACK for this long while one is owed: the connection is dropped.
pub const PUBACK_WAIT_MAX: Duration = Duration::from_secs(30);
/// One publish without its PUBACK for this long, whatever the others do: the connection is dropped.
pub const PUBLISH_AGE_MAX: Duration = Duration::from_secs(120);
/// No acknowledgement of the centre for this long while one is owed: the backlog stops.
pub const ACK_WAIT_MAX: Duration = Duration::from_secs(60);
/// `state` is repeated at this pace until `Settled` comes, and is never sent more often.
pub const STATE_REPEAT: Duration = Duration::from_secs(30);
/// From `Connect` to `Up` or `Down`, at most: longer than the client's own connect time-out and its subscription together.
pub const CONNECT_WATCHDOG: Duration = Duration::from_secs(75);
/// Rejects of one answer that are taken in, at most; the others come again with their records.
pub const ANSWER_REJECTS_MAX: usize = BATCH_RECORDS_MAX;
/// Spans that one answer may ask for again, at most; the others are asked for once more.
pub const ANSWER_RESENDS_MAX: usize = 64;

/// The share of urgent, vitals, waveforms and journal, in octets.
const LANE_WEIGHTS: [u32; 4] = [8, 4, 2, 1];
/// The share of live and backlog within a lane.
const AGE_WEIGHTS: [u32; 2] = [3, 1];

/// Names one publish from [`Action::Send`] or [`Action::PublishState`] to its PUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The store's epochs, oldest first: at the start and after every commit; none while it is being opened.
    Shelf(&'a [EpochView]),
    /// The store did not give this number under the run that the centre names: nothing was settled.
    Foreign(EpochId, Lane, u64),
    /// Devices or another part of `state` changed.
    StateChanged,
    /// A network interface came up: the way may be open again.
    InterfaceUp,
    /// The broker took us in and our subscriptions stand.
    Up(Broker),
    /// The connection, or the attempt to make one, ended.
    Down(Ended),
    /// The batch was built and handed to the wire.
    Sent(Sent),
    /// The batch could not go.
    Unsent(Ticket, Unsent),
    /// The broker answered a publish with PUBACK.
    Published(Ticket, Taken),
    /// The centre's verified answer.
    Answer(&'a wire::Answer),
    /// The centre's verified `centre/state`.
    CentreState {
        /// It takes records.
        online: bool,
        /// Never goes back.
        counter: u64,
        /// Octets a second that it wants of the backlog; 0: as fast as it goes.
        drain_octets_per_s: u32,
    },
    /// The time that [`Planner::poll_timeout`] named has come.
    Time,
}

/// What the broker's CONNACK said, and the nonce that this connection's will carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broker {
    /// This connection's nonce.
    pub nonce: Nonce,
    /// Publishes it takes without having answered them.
    pub receive_maximum: u16,
    /// Octets of the largest packet it takes, where it has a bound.
    pub packet_octets_max: Option<usize>,
}

/// Why a connection, or the attempt to make one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The link broke, or there is none.
    Lost(String),
    /// The other side said no, or is not whom we trust.
    Refused(String),
}

/// What went into a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The batch.
    pub ticket: Ticket,
    /// The run of its records.
    pub run: RunId,
    /// Its numbers as spans, both ends in it, ascending.
    pub spans: Vec<(u64, u64)>,
    /// Octets of the publish.
    pub octets: usize,
}

/// Why a batch did not go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Nothing there is to be sent (settled, quarantined); read on at the number.
    Nothing {
        /// Where to read on.
        next: u64,
    },
    /// Its first record alone needs this many octets.
    NeedsRoom {
        /// Octets of the publish with that record alone.
        octets: usize,
    },
    /// Its first record alone is larger than the broker takes.
    TooBig {
        /// The record.
        seq: u64,
        /// Octets of the publish with that record alone.
        octets: usize,
    },
    /// The store or the wire could not; tried again after a while.
    Failed,
}

/// What the broker's PUBACK said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It has it.
    Yes,
    /// It has nobody to give it to (reason 0x10).
    NobodySubscribed,
    /// It will not take it.
    Refused(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a connection with a fresh nonce; answer with [`Event::Up`] or [`Event::Down`].
    Connect,
    /// Drop the connection, no [`Event::Down`] is wanted.
    Disconnect,
    /// Publish the signed `state` of this connection.
    PublishState(Ticket),
    /// Read, build and publish a batch; answer with [`Event::Sent`] or [`Event::Unsent`].
    Send(Send),
    /// The centre settled more of a lane.
    Settle(EpochId, Lane, Settlement),
    /// The centre's database knows this of a lane and no more: some of it may have been settled before.
    ResetSettled(EpochId, Lane, Settlement),
    /// This record is not to be sent again.
    Quarantine(EpochId, Lane, u64, String),
    /// A person must look at this.
    Alarm(Trouble),
}

/// A batch to be read, built and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Its name.
    pub ticket: Ticket,
    /// The epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// The first number wanted.
    pub from: u64,
    /// No number at or past this one.
    pub before: u64,
    /// Records, at most.
    pub records: usize,
    /// Octets of the publish, at most.
    pub octets: usize,
    /// One record alone may need more than `octets`, up to `packet_octets_max`.
    pub alone: bool,
    /// Octets of any publish, at most.
    pub packet_octets_max: usize,
}

/// What a person must look at. Nothing is lost by it, and it does not mend itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The centre holds other octets under this key.
    Conflict(EpochId, Lane, u64),
    /// The centre knows a number that this store did not give, or not under that run: the store is older than it was.
    StoreOlderThanCentre {
        /// The epoch.
        epoch: EpochId,
        /// The lane.
        lane: Lane,
        /// That number.
        known: u64,
        /// The number that this store gives next.
        next: u64,
    },
    /// The centre refused a record for good.
    Rejected(EpochId, Lane, u64, String),
    /// A record does not fit the broker's largest packet.
    TooBig(EpochId, Lane, u64, usize),
    /// The broker will not take batches of a lane.
    LaneRefused(Lane, String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(epoch, lane, seq) => {
                write!(
                    f,
                    "the centre holds another record under {epoch}/{lane}/{seq}: quarantined, report it to the service centre"
                )
            }
            Self::StoreOlderThanCentre { epoch, lane, known, next } => write!(
                f,
                "number {known} of {epoch}/{lane} at the centre is not this store's, which gives {next} next: the store was rolled \
                 back, nothing of it is settled any more"
            ),
            Self::Rejected(epoch, lane, seq, reason) => {
                write!(f, "the centre refused {epoch}/{lane}/{seq} for good ({reason}): quarantined")
            }
            Self::TooBig(epoch, lane, seq, octets) => {
                write!(f, "{epoch}/{lane}/{seq} needs a packet of {octets} octets, more than the broker takes: quarantined")
            }
            Self::LaneRefused(lane, reason) => {
                write!(f, "the broker refuses batches of lane {lane} ({reason}): check the kit's access list at the broker")
            }
        }
    }
}

/// Where the connection stands.
#[derive(Clone, Debug)]
enum Link {
    Idle { retry: Moment },
    Wanted,
    Connecting { since: Moment },
    Up(Box<Up>),
}

/// One connection.
#[derive(Clone, Debug)]
struct Up {
    broker: Broker,
    since: Moment,
    wire: WireWindow,
    acks: AckWindow,
    settled: bool,
    state_at: Option<Moment>,
    /// `state` changed since it was published.
    state_wanted: bool,
    /// `Settled` came since it was published.
    state_answered: bool,
    last_ack: Moment,
    overdue_after: Duration,
    stall: Option<Stall>,
    preparing: Option<Preparing>,
    need: Option<Need>,
}

/// What `status` shows of the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The broker took us in.
    pub connected: bool,
    /// This connection's nonce.
    pub nonce: Option<Nonce>,
    /// The centre said what it has, on this connection.
    pub settled: bool,
    /// Batches without a PUBACK.
    pub wire_batches: usize,
    /// Octets of those.
    pub wire_octets: usize,
    /// Batches the centre has not acknowledged.
    pub ack_batches: usize,
    /// Octets of those.
    pub ack_octets: usize,
    /// The backlog waits for the centre.
    pub stalled: bool,
    /// Why the centre does not believe the kit's batches.
    pub paused: Option<&'static str>,
    /// When the centre last settled something.
    pub last_acknowledged: Option<Moment>,
    /// Why there is no connection.
    pub refusal: Option<String>,
    /// When the next attempt is due.
    pub retry: Option<Moment>,
    /// Answers dropped: another connection's nonce, or before `Settled`.
    pub answers_dropped: u64,
    /// Entries of answers ignored: an epoch or lane that the kit does not hold.
    pub entries_ignored: u64,
}

/// The sync planner.
#[derive(Debug)]
pub struct Planner {
    now: Moment,
    rng: fastrand::Rng,
    link: Link,
    back_off: BackOff,
    size: BatchSize,
    centre: Centre,
    pause: Pause,
    bucket: Bucket,
    /// Some of the backlog waits for the bucket, and nothing else.
    bucket_wanted: bool,
    epochs: Vec<EpochPlan>,
    shelf_seen: bool,
    /// The store is being opened again.
    shelf_gone: bool,
    lane_shares: Shares<4>,
    age_shares: [Shares<2>; 4],
    lane_refusals: [BackOff; 4],
    queue: VecDeque<Action>,
    next_ticket: u64,
    last_acknowledged: Option<Moment>,
    refusal: Option<String>,
    answers_dropped: u64,
    entries_ignored: u64,
}

impl Planner {
    /// A planner that wants to connect; `seed` is for jitter.
    #[must_use]
    pub fn new(seed: u64, now: Moment) -> Self {
        Self {
            now,
            rng: fastrand::Rng::with_seed(seed),
            link: Link::Wanted,
            back_off: BackOff::default(),
            size: BatchSize::new(),
            centre: Centre::default(),
            pause: Pause::default(),
            bucket: Bucket::new(now),
            bucket_wanted: false,
            epochs: Vec::new(),
            shelf_seen: false,
            shelf_gone: false,
            lane_shares: Shares::new(LANE_WEIGHTS),
            age_shares: [Shares::new(AGE_WEIGHTS); 4],
            lane_refusals: [BackOff::default(); 4],
            queue: VecDeque::new(),
            next_ticket: 1,
            last_acknowledged: None,
            refusal: None,
            answers_dropped: 0,
            entries_ignored: 0,
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, event: Event<'_>, now: Moment) {
        self.now = self.now.max(now);
        match event {
            Event::Shelf(epochs) => self.take_shelf(epochs),
            Event::Foreign(epoch, lane, seq) => self.store_is_older(epoch, lane, seq),
            Event::StateChanged => self.want_state(),
            Event::InterfaceUp => self.interface_up(),
            Event::Up(broker) => self.up(broker),
            Event::Down(ended) => self.down(ended),
            Event::Sent(sent) => self.sent(sent),
            Event::Unsent(ticket, why) => self.unsent(ticket, why),
            Event::Published(ticket, taken) => self.published(ticket, taken),
            Event::Answer(answer) => self.answer(answer),
            Event::CentreState { online, counter, drain_octets_per_s } => {
                if self.centre.state(online, counter, self.now) {
                    self.bucket.rate(drain_octets_per_s, self.now);
                }
            }
            Event::Time => {}
        }
        self.keep_time();
    }

    /// What to do next; `None` when there is nothing until the next event or [`Self::poll_timeout`].
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.queue.pop_front() {
            return Some(action);
        }
        if let Some(action) = self.dirty_lane() {
            return Some(action);
        }
        match &self.link {
            Link::Idle { .. } | Link::Connecting { .. } => None,
            Link::Wanted if !self.shelf_seen => None,
            Link::Wanted => {
                self.link = Link::Connecting { since: self.now };
                Some(Action::Connect)
            }
            Link::Up(_) => self.publish_state().or_else(|| self.next_send().map(Action::Send)),
        }
    }

    /// When [`Event::Time`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let lanes = self.epochs.iter().flat_map(|epoch| &epoch.lanes).filter_map(lane::LanePlan::poll_timeout).min();
        let link = match &self.link {
            Link::Idle { retry } => Some(*retry),
            Link::Wanted => None,
            Link::Connecting { since } => Some(*since + CONNECT_WATCHDOG),
            Link::Up(up) => {
                let bucket = self.bucket.ready(self.backlog_octets_max()).filter(|ready| self.bucket_wanted && self.now < *ready);
                up.poll_timeout(self.now).into_iter().chain(bucket).min()
            }
        };
        [lanes, link, self.centre.poll_timeout(self.now), self.pause.poll_timeout()].into_iter().flatten().min()
    }

    /// What `status` shows.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let common = Overview {
            paused: self.pause.reason(),
            last_acknowledged: self.last_acknowledged,
            refusal: self.refusal.clone(),
            answers_dropped: self.answers_dropped,
            entries_ignored: self.entries_ignored,
            ..Overview::default()
        };
        match &self.link {
            Link::Idle { retry } => Overview { retry: Some(*retry), ..common },
            Link::Wanted | Link::Connecting { .. } => common,
            Link::Up(up) => Overview {
                connected: true,
                nonce: Some(up.broker.nonce),
                settled: up.settled,
                wire_batches: up.wire.batches(),
                wire_octets: up.wire.octets(),
                ack_batches: up.acks.batches.len(),
                ack_octets: up.acks.octets(),
                stalled: up.stall.is_some(),
                ..common
            },
        }
    }

    /// Whether the centre takes records.
    #[must_use]
    pub fn centre(&self) -> Reach {
        self.centre.reach(self.now)
    }

    /// What is settled of a lane, as far as the planner knows.
    #[must_use]
    pub fn settled(&self, epoch: EpochId, lane: Lane) -> Option<&Settlement> {
        self.epochs.iter().find(|plan| plan.epoch == epoch).map(|plan| plan.lanes[lane.index()].settled())
    }

    /// A network interface came up: nothing that failed before counts.
    fn interface_up(&mut self) {
        self.back_off.reset();
        if let Link::Idle { .. } = self.link {
            self.link = Link::Wanted;
        }
    }

    fn up(&mut self, broker: Broker) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        if broker.packet_octets_max.is_some_and(|octets| octets < BATCH_OCTETS_FIRST) {
            self.queue.push_back(Action::Disconnect);
            let octets = broker.packet_octets_max.unwrap_or(0);
            return self.down(Ended::Refused(format!(
                "the broker takes packets of at most {octets} octets, {BATCH_OCTETS_FIRST} are needed: raise its maximum packet size"
            )));
        }
        self.refusal = None;
        self.size.connected();
        self.pause.connected();
        for lane in self.epochs.iter_mut().flat_map(|epoch| &mut epoch.lanes) {
            lane.connected(self.now);
        }
        self.link = Link::Up(Box::new(Up::new(broker, self.now)));
    }

    fn down(&mut self, ended: Ended) {
        let refused = matches!(ended, Ended::Refused(_));
        match &self.link {
            Link::Idle { .. } | Link::Wanted => return,
            Link::Connecting { .. } => {}
            Link::Up(up) => {
                self.back_off.connection_stood(up.since, self.now);
                self.size.connection_ended(up.wire.largest(), self.now);
            }
        }
        let (Ended::Lost(text) | Ended::Refused(text)) = ended;
        self.refusal = Some(text);
        let delay = self.back_off.after_failure(refused, &mut self.rng);
        self.link = Link::Idle { retry: self.now + delay };
    }

    fn take_shelf(&mut self, views: &[EpochView]) {
        if views.is_empty() {
            self.shelf_gone = true;
            return;
        }
        let opened_again = std::mem::take(&mut self.shelf_gone);
        let old = !self.shelf_seen;
        let mut known = std::mem::take(&mut self.epochs);
        let before = known.len();
        let mut fresh = 0;
        for view in views {
            let place = known.iter().position(|plan| plan.epoch == view.epoch);
            let mut plan = place.map_or_else(
                || {
                    fresh += 1;
                    EpochPlan::new(view, old, self.now)
                },
                |place| known.swap_remove(place),
            );
            for (lane, view) in plan.lanes.iter_mut().zip(&view.lanes) {
                lane.appended(view.next, self.now);
                if opened_again {
                    lane.opened_again(&view.settled);
                }
            }
            self.epochs.push(plan);
        }
        self.shelf_seen = true;
        if fresh > 0 || before != self.epochs.len() {
            self.want_state();
        }
    }

    fn want_state(&mut self) {
        if let Link::Up(up) = &mut self.link {
            up.state_wanted = true;
        }
    }

    /// What the store is to be told of a lane.
    fn dirty_lane(&mut self) -> Option<Action> {
        self.epochs.iter_mut().find_map(|plan| {
            let epoch = plan.epoch;
            Lane::ALL.into_iter().find_map(|lane| {
                plan.lane(lane).take_dirty().map(|(reset, settled)| {
                    if reset { Action::ResetSettled(epoch, lane, settled) } else { Action::Settle(epoch, lane, settled) }
                })
            })
        })
    }

    /// `state` on every connection, every 30 s until `Settled`, and when it changed.
    fn publish_state(&mut self) -> Option<Action> {
        let now = self.now;
        let Link::Up(up) = &mut self.link else { return None };
        if up.state_due().is_none_or(|due| now < due) {
            return None;
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        up.state_at = Some(now);
        up.state_wanted = false;
        up.state_answered = false;
        up.wire.put(ticket, window::OnWire { octets: 0, urgent: false, batch: false, since: now });
        Some(Action::PublishState(ticket))
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = self.now;
        for lane in self.epochs.iter_mut().flat_map(|epoch| &mut epoch.lanes) {
            lane.handle_timeout(now);
        }
        self.pause.handle_timeout(now);
        match &self.link {
            Link::Idle { retry } if *retry <= now => self.link = Link::Wanted,
            Link::Connecting { since } if now.since(*since) >= CONNECT_WATCHDOG => {
                self.queue.push_back(Action::Disconnect);
                self.down(Ended::Lost("the connection could not be made in time".to_owned()));
            }
            Link::Up(up) if up.silent(now) => {
                self.queue.push_back(Action::Disconnect);
                self.down(Ended::Lost("the broker did not acknowledge for 30 s".to_owned()));
            }
            Link::Up(_) => self.keep_ack_time(),
            _ => {}
        }
    }
}

impl Up {
    fn new(broker: Broker, now: Moment) -> Self {
        Self {
            broker,
            since: now,
            wire: WireWindow::new(broker.receive_maximum, now),
            acks: AckWindow::default(),
            settled: false,
            state_at: None,
            state_wanted: true,
            state_answered: false,
            last_ack: now,
            overdue_after: ACK_WAIT_MAX,
            stall: None,
            preparing: None,
            need: None,
        }
    }

    /// When `state` is to be published; `None` when nothing asks for it.
    fn state_due(&self) -> Option<Moment> {
        match self.state_at {
            None => Some(self.since),
            Some(at) => (self.state_wanted || !self.state_answered).then_some(at + STATE_REPEAT),
        }
    }

    /// The broker owes an answer for too long.
    fn silent(&self, now: Moment) -> bool {
        self.wire.silent_since().is_some_and(|since| now.since(since) >= PUBACK_WAIT_MAX)
            || self.wire.oldest().is_some_and(|since| now.since(since) >= PUBLISH_AGE_MAX)
    }

    /// When the centre's silence is to be noticed, or the next probe is due.
    fn ack_due(&self) -> Option<Moment> {
        if let Some(stall) = &self.stall {
            return Some(stall.due);
        }
        let oldest = self.acks.oldest_published()?;
        Some((oldest.max(self.last_ack) + ACK_WAIT_MAX).min(oldest + self.overdue_after))
    }

    fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let silent = self.wire.silent_since().map(|since| since + PUBACK_WAIT_MAX);
        let aged = self.wire.oldest().map(|since| since + PUBLISH_AGE_MAX);
        // What is due and waits for something else (a probe for a PUBACK) is no reason to wake up at once, again and again.
        let acks = self.ack_due().filter(|due| now < *due);
        [silent, aged, acks, self.state_due()].into_iter().flatten().min()
    }
}
