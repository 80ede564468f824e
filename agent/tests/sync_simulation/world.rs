//! Link, broker, faults, the loop of virtual time, and the rules that are checked at every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet, VecDeque};
use std::time::Duration;

use kit_agent::store::outbox::ReadLimit;
use kit_agent::sync::batch::{self, Frame};
use kit_agent::sync::planner::{
    ACK_BATCHES_MAX, ACK_OCTETS_MAX, Action, BATCH_OCTETS_MAX, Broker, Ended, Event, Planner, Send, Sent, Taken, Ticket, Unsent,
    WIRE_BATCHES_MAX, WIRE_BATCHES_URGENT, WIRE_OCTETS_MAX, WIRE_OCTETS_MIN,
};
use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane, Nonce};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use prost::Message;

use super::centre::{Key, ModelCentre, Poison};
use super::shelf::ModelShelf;

const TOPIC_OCTETS: usize = 32;
/// Actions for one event: a planner that asks for more goes round in circles.
const ACTIONS_MAX: usize = 20_000;
/// After the last fault the centre must acknowledge something within this (I10).
const RECOVER_WITHIN: Duration = Duration::from_secs(120);
/// And the world must be at rest within this, on the slowest link.
const REST_WITHIN: Duration = Duration::from_secs(900);

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Cuts, kills, broker wipes, restored centre, outages.
    events: bool,
    /// Lost, late, repeated PUBACKs and answers.
    messages: bool,
    poison: bool,
}

impl Faults {
    pub(crate) const NONE: Self = Self { events: false, messages: false, poison: false };
    pub(crate) const ALL: Self = Self { events: true, messages: true, poison: true };
    pub(crate) const POISON: Self = Self { events: false, messages: false, poison: true };
}

/// What will happen.
#[derive(Clone, Debug)]
enum Next {
    Append,
    SwitchEpoch,
    Up(u32),
    Refused(u32),
    Down(u32),
    /// A publish reaches the broker.
    AtBroker(u32, Ticket, Publish),
    Puback(u32, Ticket, Taken),
    /// A publish reaches the centre.
    AtCentre(Publish),
    /// An answer reaches the kit, on the connection whose session it was queued for.
    Answer(Box<wire::Answer>),
    CentreState(bool),
    Fault(Fault),
    CentreBack,
    NetworkBack,
}

#[derive(Clone, Debug)]
enum Publish {
    State(Nonce, Vec<EpochId>),
    Batch(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    Kill,
    Wipe,
    Restore,
    CentreGone,
    NetworkGone,
    InterfaceUp,
}

/// A connection as the link sees it.
struct Line {
    id: u32,
    nonce: Nonce,
    receive_maximum: u16,
    packet_octets_max: Option<usize>,
    up: bool,
    free_at: Moment,
    /// Publishes without a PUBACK: octets (0 for `state`), urgent, alone.
    on_wire: BTreeMap<Ticket, (usize, bool, bool)>,
}

pub(crate) struct World {
    faults: Faults,
    rng: fastrand::Rng,
    now: Moment,
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    things: BTreeMap<u64, Next>,
    thing: u64,
    planner: Planner,
    shelf: ModelShelf,
    centre: ModelCentre,
    poison: BTreeMap<Key, Poison>,
    line: Option<Line>,
    lines: u32,
    network: bool,
    centre_online: bool,
    centre_counter: u64,
    subscribed: bool,
    wiped_until: u64,
    retained: Option<(Nonce, Vec<EpochId>)>,
    /// Answers in the kit's session at the broker.
    kept: Vec<wire::Answer>,
    snapshots: VecDeque<ModelCentre>,
    ever_settled: HashSet<Key>,
    appends_until: Moment,
    last_fault: Moment,
    rtt: Duration,
    octets_per_s: u64,
    append_every: Duration,
    recent: VecDeque<(Moment, usize)>,
    sent: u64,
    seen: [u64; 6],
    urgent_at: BTreeMap<Key, Moment>,
    worst_urgent: Duration,
    last_due: (Moment, u32),
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rtt = Duration::from_millis(rng.u64(5..800));
        let octets_per_s = [20_000, 100_000, 1_000_000, 20_000_000][rng.usize(0..4)];
        let spell = Duration::from_secs(rng.u64(120..600));
        let mut world = Self::empty(seed, faults, rng, rtt, octets_per_s);
        world.append_every = Duration::from_millis(world.rng.u64(200..4000));
        world.appends_until = world.now + spell;
        for _ in 0..world.rng.usize(0..3) {
            for _ in 0..world.rng.usize(0..150) {
                world.append();
            }
            if world.rng.bool() {
                world.shelf.switch_epoch();
            }
        }
        world.shelf.reopen(false);
        world.after(Duration::from_millis(1), Next::Append);
        if world.rng.bool() {
            let when = Duration::from_secs(world.rng.u64(10..100));
            world.after(when, Next::SwitchEpoch);
        }
        if faults.events {
            world.schedule_faults(spell);
        }
        world
    }

    /// Every lane full, a 2G link, and an urgent record every few seconds.
    pub(crate) fn saturated(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rtt = Duration::from_millis(rng.u64(500..700));
        let mut world = Self::empty(seed, Faults::NONE, rng, rtt, 2500);
        for lane in [Lane::Vitals, Lane::Waveforms, Lane::Journal] {
            for _ in 0..400 {
                let octets = world.octets_for(lane);
                world.shelf.append(lane, octets);
            }
        }
        for second in (0..60).step_by(3) {
            world.after(Duration::from_secs(second), Next::Append);
        }
        world.append_every = Duration::ZERO;
        world.appends_until = world.now + Duration::from_secs(60);
        world
    }

    fn empty(seed: u64, faults: Faults, rng: fastrand::Rng, rtt: Duration, octets_per_s: u64) -> Self {
        let now = Moment::ZERO + Duration::from_secs(1000);
        Self {
            faults,
            rng,
            now,
            queue: BinaryHeap::new(),
            things: BTreeMap::new(),
            thing: 0,
            planner: Planner::new(seed, now),
            shelf: ModelShelf::new(),
            centre: ModelCentre::default(),
            poison: BTreeMap::new(),
            line: None,
            lines: 0,
            network: true,
            centre_online: true,
            centre_counter: 1,
            subscribed: true,
            wiped_until: 0,
            retained: None,
            kept: Vec::new(),
            snapshots: VecDeque::new(),
            ever_settled: HashSet::new(),
            appends_until: now,
            last_fault: now,
            rtt,
            octets_per_s,
            append_every: Duration::from_secs(1),
            recent: VecDeque::new(),
            sent: 0,
            seen: [0; 6],
            urgent_at: BTreeMap::new(),
            worst_urgent: Duration::ZERO,
            last_due: (now, 0),
        }
    }

    fn schedule_faults(&mut self, spell: Duration) {
        for _ in 0..self.rng.usize(2..14) {
            let when = spell.mul_f64(self.rng.f64());
            let fault = match self.rng.u8(0..14) {
                0..=4 => Fault::Cut,
                5 | 6 => Fault::Kill,
                7 | 8 => Fault::Wipe,
                9 | 10 => Fault::Restore,
                11 => Fault::CentreGone,
                12 => Fault::NetworkGone,
                _ => Fault::InterfaceUp,
            };
            self.after(when, Next::Fault(fault));
            self.last_fault = self.last_fault.max(self.now + when);
        }
    }

    fn after(&mut self, wait: Duration, next: Next) {
        self.thing += 1;
        self.things.insert(self.thing, next);
        self.queue.push(Reverse((self.now + wait, self.thing)));
    }

    /// Until all is settled and nothing more will be appended or break.
    pub(crate) fn run(&mut self) {
        self.start();
        loop {
            // A restored centre has said by then what it lost.
            let said = self.now > self.last_fault + Duration::from_secs(60) && self.planner.overview().settled;
            if said && self.now > self.appends_until && self.centre_online && self.network && self.shelf.at_rest() {
                break;
            }
            let calm = self.calm_from();
            let recovered = self.now <= calm + RECOVER_WITHIN
                || self.planner.overview().last_acknowledged.is_some_and(|when| when >= calm)
                || self.shelf.at_rest();
            assert!(recovered, "not recovered: {:?}", self.planner.overview());
            let deadline = calm + REST_WITHIN;
            assert!(self.now < deadline, "not at rest: {:?}, {:?}", self.planner.overview(), self.shelf.views());
            self.step(deadline);
        }
        self.settle_accounts();
    }

    /// When nothing is appended and nothing breaks any more.
    fn calm_from(&self) -> Moment {
        self.appends_until.max(self.last_fault)
    }

    /// Whether messages are lost, late or repeated now.
    fn messages(&self) -> bool {
        self.faults.messages && self.now <= self.calm_from()
    }

    /// For a while, whatever is left then.
    pub(crate) fn run_for(&mut self, spell: Duration) {
        let end = self.now + spell;
        self.start();
        while self.now < end {
            self.step(end);
        }
        let now = self.now;
        for waiting in self.urgent_at.values() {
            self.worst_urgent = self.worst_urgent.max(now.since(*waiting));
        }
    }

    fn start(&mut self) {
        self.tell_shelf();
        self.act();
    }

    /// The next thing that happens, or the time the planner asked for.
    fn step(&mut self, end: Moment) {
        let due = self.planner.poll_timeout();
        let next = self.queue.peek().map(|Reverse((when, _))| *when);
        match (due, next) {
            (Some(due), next) if next.is_none_or(|next| due < next) => {
                if due <= self.now {
                    self.last_due = if self.last_due.0 == self.now { (self.now, self.last_due.1 + 1) } else { (self.now, 0) };
                    assert!(self.last_due.1 < 100, "the planner wants to be woken for ever at {:?}", self.now);
                }
                self.now = self.now.max(due.min(end));
                self.planner.handle(Event::Time, self.now);
            }
            (_, Some(_)) => {
                let Some(Reverse((when, thing))) = self.queue.pop() else { return };
                self.now = self.now.max(when);
                if let Some(next) = self.things.remove(&thing) {
                    self.happen(next);
                }
            }
            (_, None) => self.now = end,
        }
        self.act();
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Append => self.append_now(),
            Next::SwitchEpoch => {
                self.shelf.switch_epoch();
                self.tell_shelf();
            }
            Next::Up(line) => self.line_up(line),
            Next::Refused(line) if self.is_line(line) => {
                self.line = None;
                self.planner.handle(Event::Down(Ended::Refused("banned".to_owned())), self.now);
            }
            Next::Down(line) if self.is_line(line) => self.cut(),
            Next::AtBroker(line, ticket, publish) if self.is_line(line) => self.at_broker(line, ticket, publish),
            Next::Puback(line, ticket, taken) if self.is_line(line) => self.puback(ticket, taken),
            Next::AtCentre(publish) => self.at_centre(publish),
            Next::Answer(answer) if self.line.as_ref().is_some_and(|line| line.up) => {
                self.planner.handle(Event::Answer(&answer), self.now);
            }
            Next::Answer(answer) => self.kept.push(*answer),
            Next::CentreState(online) => {
                self.centre_counter += 1;
                let counter = self.centre_counter;
                self.planner.handle(Event::CentreState { online, counter }, self.now);
            }
            Next::Fault(fault) => self.fault(fault),
            Next::CentreBack => self.centre_back(),
            Next::NetworkBack => self.network = true,
            Next::Refused(_) | Next::Down(_) | Next::AtBroker(..) | Next::Puback(..) => {}
        }
    }

    fn is_line(&self, id: u32) -> bool {
        self.line.as_ref().is_some_and(|line| line.id == id)
    }

    // ---- the store ----

    fn octets_for(&mut self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => self.rng.usize(50..400),
            Lane::Vitals => self.rng.usize(40..300),
            Lane::Waveforms => self.rng.usize(2000..11_800),
            Lane::Journal => self.rng.usize(20..500),
        }
    }

    fn append(&mut self) {
        let lane =
            if self.append_every.is_zero() { Lane::Urgent } else { Lane::ALL[[0, 1, 1, 1, 2, 2, 3][self.rng.usize(0..7)]] };
        let octets = self.octets_for(lane);
        let key = self.shelf.append(lane, octets);
        if self.faults.poison && self.rng.u8(0..60) == 0 {
            let poison = if self.rng.bool() { Poison::Permanent } else { Poison::Later(self.rng.u8(1..3)) };
            self.poison.insert(key, poison);
        }
        if lane == Lane::Urgent {
            self.urgent_at.insert(key, self.now);
        }
    }

    fn append_now(&mut self) {
        self.append();
        self.tell_shelf();
        if self.now < self.appends_until && !self.append_every.is_zero() {
            let wait = self.append_every.mul_f64(2.0 * self.rng.f64()) + Duration::from_millis(1);
            self.after(wait, Next::Append);
        }
    }

    fn tell_shelf(&mut self) {
        let views = self.shelf.views();
        self.planner.handle(Event::Shelf(&views), self.now);
    }

    // ---- what the planner wants ----

    fn act(&mut self) {
        for _ in 0..ACTIONS_MAX {
            let Some(action) = self.planner.poll_action() else { return self.check_windows() };
            match action {
                Action::Connect => self.connect(),
                Action::Disconnect => self.line = None,
                Action::PublishState(ticket) => self.publish_state(ticket),
                Action::Send(send) => {
                    let event = match self.send(send) {
                        Ok(sent) => Event::Sent(sent),
                        Err(why) => Event::Unsent(send.ticket, why),
                    };
                    self.planner.handle(event, self.now);
                }
                Action::Settle(epoch, lane, settled) => {
                    self.check_settled(epoch, lane, &settled);
                    self.shelf.settle(epoch, lane, &settled);
                    self.tell_shelf();
                }
                Action::ResetSettled(epoch, lane, settled) => {
                    self.check_settled(epoch, lane, &settled);
                    self.shelf.reset_settled(epoch, lane, &settled);
                    self.tell_shelf();
                }
                Action::Quarantine(epoch, lane, seq, _) => {
                    assert_eq!(self.poison.get(&(epoch, lane, seq)), Some(&Poison::Permanent), "quarantined without a reason");
                    self.shelf.quarantine(epoch, lane, seq);
                }
                Action::Alarm(_) => {}
            }
        }
        panic!("the planner goes round in circles at {:?}: {:?}", self.now, self.planner.overview());
    }

    /// I3: nothing is settled that the centre has not committed or refused.
    fn check_settled(&self, epoch: EpochId, lane: Lane, settled: &Settlement) {
        let ranges = settled.ranges().iter().map(|range| (range.first, range.last));
        for (first, last) in std::iter::once((1, settled.settled_upto())).chain(ranges) {
            for seq in first..=last {
                assert!(self.ever_settled.contains(&(epoch, lane, seq)), "{lane} {seq} was settled, the centre never had it");
            }
        }
    }

    /// I9: both windows, as the broker sees them.
    fn check_windows(&mut self) {
        let now = self.now;
        // The planner counts in buckets of 100 ms.
        self.recent.retain(|(when, _)| now.since(*when) <= Duration::from_millis(2100));
        let Some(line) = &self.line else { return };
        let batches: Vec<_> = line.on_wire.values().filter(|(octets, ..)| *octets > 0).collect();
        let others = batches.iter().filter(|(_, urgent, _)| !urgent).count();
        let allowed = WIRE_BATCHES_MAX.min(usize::from(line.receive_maximum).saturating_sub(4)).max(1);
        assert!(batches.len() <= allowed, "{} batches on the wire", batches.len());
        assert!(others <= allowed.saturating_sub(WIRE_BATCHES_URGENT).max(1), "{others} batches that are not urgent");
        assert!(line.on_wire.len() <= usize::from(line.receive_maximum), "Receive Maximum");
        let overview = self.planner.overview();
        assert!(overview.ack_batches <= ACK_BATCHES_MAX && overview.ack_octets <= ACK_OCTETS_MAX, "{overview:?}");
    }

    fn connect(&mut self) {
        self.lines += 1;
        let mut nonce = Nonce([0; 8]);
        nonce.0[..4].copy_from_slice(&self.lines.to_be_bytes());
        let small = self.messages() && self.rng.u8(0..3) == 0;
        self.line = Some(Line {
            id: self.lines,
            nonce,
            receive_maximum: if small { self.rng.u16(6..30) } else { 65_535 },
            packet_octets_max: small.then(|| self.rng.usize(16_384..40_000)),
            up: false,
            free_at: self.now,
            on_wire: BTreeMap::new(),
        });
        let id = self.lines;
        if !self.network {
            return self.after(Duration::from_secs(30), Next::Down(id));
        }
        if self.faults.events && self.now <= self.calm_from() && self.rng.u8(0..20) == 0 {
            return self.after(self.rtt, Next::Refused(id));
        }
        self.after(self.rtt * 3, Next::Up(id));
    }

    fn line_up(&mut self, id: u32) {
        let Some(line) = self.line.as_mut().filter(|line| line.id == id) else { return };
        line.up = true;
        let Line { nonce, receive_maximum, packet_octets_max, .. } = *line;
        self.recent.clear();
        // What the broker kept in the kit's session comes now, or a little later.
        for answer in std::mem::take(&mut self.kept) {
            let wait = Duration::from_millis(self.rng.u64(0..8000));
            self.after(wait, Next::Answer(Box::new(answer)));
        }
        self.planner.handle(Event::Up(Broker { nonce, receive_maximum, packet_octets_max }), self.now);
    }

    /// The link carries one octet after the other.
    fn transmit(&mut self, ticket: Ticket, octets: usize, publish: Publish) {
        let Some(line) = &mut self.line else { return };
        let takes = Duration::from_nanos(u64::try_from(octets).unwrap() * 1_000_000_000 / self.octets_per_s);
        line.free_at = line.free_at.max(self.now) + takes;
        let wait = line.free_at.since(self.now) + self.rtt / 2;
        let id = line.id;
        self.after(wait, Next::AtBroker(id, ticket, publish));
    }

    fn publish_state(&mut self, ticket: Ticket) {
        let epochs = self.shelf.views().iter().map(|view| view.epoch).collect();
        let Some(line) = &mut self.line else { panic!("state without a connection") };
        line.on_wire.insert(ticket, (0, false, false));
        let nonce = line.nonce;
        self.transmit(ticket, 400, Publish::State(nonce, epochs));
    }

    fn send(&mut self, send: Send) -> Result<Sent, Unsent> {
        let nonce = self.line.as_ref().expect("a batch without a connection").nonce;
        let frame = Frame { epoch: send.epoch, lane: send.lane, nonce, topic_octets: TOPIC_OCTETS, octets_max: send.octets };
        let limit = ReadLimit { octets: frame.payload_octets(), records: send.records, before: send.before };
        let chunk = self.shelf.read(send.epoch, send.lane, send.from, limit);
        let (run, next) = (chunk.run, chunk.next);
        let built = batch::build(chunk, &frame).ok_or(Unsent::Nothing { next })?;
        if built.octets > send.packet_octets_max {
            return Err(Unsent::TooBig { seq: built.batch.first, octets: built.octets });
        }
        if built.octets > send.octets && !send.alone {
            return Err(Unsent::NeedsRoom { octets: built.octets });
        }
        self.check_batch(&send, &built);
        self.sent += u64::try_from(built.batch.entries.len()).unwrap();
        let line = self.line.as_mut().expect("a batch without a connection");
        line.on_wire.insert(send.ticket, (built.octets, send.lane == Lane::Urgent, built.batch.entries.len() == 1));
        self.transmit(send.ticket, built.octets, Publish::Batch(built.batch.encode_to_vec()));
        Ok(Sent { ticket: send.ticket, run, spans: built.spans, octets: built.octets })
    }

    /// I9: no batch is larger than the window leaves, unless it is one record and the wire is empty.
    fn check_batch(&self, send: &Send, built: &batch::Built) {
        let line = self.line.as_ref().expect("checked by the caller");
        let on_wire: usize = line.on_wire.values().map(|(octets, ..)| octets).sum();
        let acknowledged: usize = self.recent.iter().map(|(_, octets)| octets).sum();
        let window = acknowledged.clamp(WIRE_OCTETS_MIN, WIRE_OCTETS_MAX);
        let lone = built.batch.entries.len() == 1 && on_wire == 0;
        assert!(lone || on_wire + built.octets <= window, "{on_wire} + {} octets, window {window}", built.octets);
        assert!(built.octets <= BATCH_OCTETS_MAX, "{} octets", built.octets);
        assert!(line.packet_octets_max.is_none_or(|max| built.octets <= max), "larger than the broker takes");
        let unique: BTreeSet<_> = built.spans.iter().collect();
        assert_eq!(unique.len(), built.spans.len());
        assert!(built.spans.iter().all(|(first, last)| *first >= send.from && *last < send.before));
    }

    // ---- broker ----

    fn at_broker(&mut self, line: u32, ticket: Ticket, publish: Publish) {
        let taken = if self.subscribed { Taken::Yes } else { Taken::NobodySubscribed };
        if let Publish::State(nonce, epochs) = &publish {
            self.retained = Some((*nonce, epochs.clone()));
        }
        let lose = self.messages() && matches!(publish, Publish::Batch(_)) && self.rng.u16(0..600) == 0;
        self.seen[5] += u64::from(lose);
        if !lose {
            let late = self.jitter();
            self.after(self.rtt / 2 + late, Next::Puback(line, ticket, taken));
        }
        if self.subscribed {
            self.forward(publish);
        }
    }

    /// From the broker to the centre, sometimes twice; kept while the centre is away.
    fn forward(&mut self, publish: Publish) {
        let copies = 1 + usize::from(self.messages() && self.rng.u8(0..20) == 0);
        for _ in 0..copies {
            let wait = if self.faults.messages { self.rng.u64(1..30) } else { 10 };
            self.after(Duration::from_millis(wait), Next::AtCentre(publish.clone()));
        }
    }

    fn jitter(&mut self) -> Duration {
        if self.messages() && self.rng.u8(0..10) == 0 { Duration::from_millis(self.rng.u64(0..3000)) } else { Duration::ZERO }
    }

    fn puback(&mut self, ticket: Ticket, taken: Taken) {
        let Some(line) = &mut self.line else { return };
        let Some((octets, ..)) = line.on_wire.remove(&ticket) else { return };
        self.recent.push_back((self.now, octets));
        self.planner.handle(Event::Published(ticket, taken), self.now);
    }

    // ---- centre ----

    fn at_centre(&mut self, publish: Publish) {
        // What a wiped broker held never arrives; what it holds while the centre is away waits.
        if self.thing_is_wiped() {
            return;
        }
        if !self.centre_online {
            let wait = Duration::from_secs(5);
            return self.after(wait, Next::AtCentre(publish));
        }
        let (answer, droppable) = match publish {
            Publish::State(nonce, epochs) => (self.centre.state(nonce, &epochs), true),
            Publish::Batch(octets) => {
                let batch = wire::Batch::decode(octets.as_slice()).unwrap();
                let (answer, committed) = self.centre.batch(&batch, &mut self.poison);
                if self.faults.events && self.rng.u8(0..10) == 0 {
                    self.snapshots.push_back(self.centre.clone());
                    self.snapshots.truncate(4);
                }
                let rejects = answer.reject.iter().filter(|reject| reject.retry_after_ms == 0).map(|reject| {
                    (EpochId::from_slice(&reject.epoch).unwrap(), Lane::from_wire(reject.lane).unwrap(), reject.seq)
                });
                self.ever_settled.extend(rejects);
                for key in &committed {
                    if let Some(appended) = self.urgent_at.remove(key) {
                        self.worst_urgent = self.worst_urgent.max(self.now.since(appended));
                    }
                }
                self.ever_settled.extend(committed);
                (answer, true)
            }
        };
        self.answer(answer, droppable);
    }

    fn thing_is_wiped(&mut self) -> bool {
        let wiped = self.wiped_until > 0;
        self.wiped_until = self.wiped_until.saturating_sub(1);
        wiped
    }

    fn answer(&mut self, answer: wire::Answer, droppable: bool) {
        if droppable && self.messages() && self.rng.u8(0..30) == 0 {
            self.seen[4] += 1;
            return;
        }
        let copies = 1 + usize::from(self.messages() && self.rng.u8(0..15) == 0);
        for _ in 0..copies {
            let wait = self.rtt / 2 + self.jitter();
            self.after(wait, Next::Answer(Box::new(answer.clone())));
        }
    }

    // ---- faults ----

    fn cut(&mut self) {
        self.line = None;
        self.planner.handle(Event::Down(Ended::Lost("cut".to_owned())), self.now);
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => {
                self.seen[0] += u64::from(self.line.is_some());
                self.cut();
            }
            Fault::Kill => {
                self.seen[1] += 1;
                self.line = None;
                let forget = self.rng.bool();
                self.shelf.reopen(forget);
                self.planner = Planner::new(self.rng.u64(..), self.now);
                self.tell_shelf();
            }
            Fault::Wipe => {
                // The broker restarts and forgets: what it had not passed on is gone.
                self.seen[2] += 1;
                self.wiped_until =
                    self.things.values().filter(|next| matches!(next, Next::AtCentre(_))).count().try_into().unwrap();
                self.retained = None;
                self.kept.clear();
                self.cut();
            }
            Fault::Restore => self.restore(),
            Fault::CentreGone => {
                self.centre_gone();
                self.subscribed = self.rng.bool();
                self.after(Duration::from_millis(10), Next::CentreState(false));
            }
            Fault::NetworkGone => {
                self.network = false;
                self.cut();
                if self.rng.bool() {
                    self.restore();
                }
                let wait = Duration::from_secs(self.rng.u64(5..200));
                self.last_fault = self.last_fault.max(self.now + wait);
                self.after(wait, Next::NetworkBack);
            }
            Fault::InterfaceUp => self.planner.handle(Event::InterfaceUp, self.now),
        }
    }

    fn centre_gone(&mut self) {
        self.centre_online = false;
        let wait = Duration::from_secs(self.rng.u64(20..300));
        self.last_fault = self.last_fault.max(self.now + wait);
        self.after(wait, Next::CentreBack);
    }

    /// The centre goes away and comes back as it was some time ago.
    fn restore(&mut self) {
        if !self.centre_online {
            return;
        }
        if let Some(old) = self.snapshots.pop_front() {
            self.seen[3] += u64::from(old.stored_count() < self.centre.stored_count());
            self.centre = old;
        }
        self.centre_gone();
    }

    /// It reads the retained `state` and says what it has; that one answer comes through.
    fn centre_back(&mut self) {
        self.centre_online = true;
        self.subscribed = true;
        self.after(Duration::from_millis(20), Next::CentreState(true));
        if let Some((nonce, epochs)) = self.retained.clone() {
            let answer = self.centre.state(nonce, &epochs);
            self.answer(answer, false);
        }
    }

    // ---- accounts ----

    fn settle_accounts(&mut self) {
        let mut contents = HashSet::new();
        let mut refused = 0;
        for (key, bytes) in self.shelf.records() {
            assert!(contents.insert(bytes), "the model made two records alike");
            if self.poison.get(&key) == Some(&Poison::Permanent) {
                refused += 1;
                // Where the refusal itself was lost, a later acknowledgement settles the number.
                assert!(self.faults.messages || self.shelf.is_quarantined(key), "{key:?} was refused and is not quarantined");
                continue;
            }
            assert_eq!(self.centre.stored(&key), Some(bytes), "missing or altered: {key:?}");
            assert!(self.centre.has_settled(&key));
        }
        assert_eq!(self.centre.stored_count() + refused, contents.len(), "the centre has more than was made");
    }

    pub(crate) fn faults_seen(&self) -> [u64; 6] {
        self.seen
    }

    pub(crate) fn records_sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn records_made(&self) -> u64 {
        self.shelf.made()
    }

    pub(crate) fn worst_urgent_wait(&self) -> Duration {
        self.worst_urgent
    }

    pub(crate) fn octets_committed(&self, lane: Lane) -> usize {
        self.centre.octets(lane)
    }

    pub(crate) fn poison_quarantined(&self) -> u64 {
        self.poison.iter().filter(|(key, poison)| **poison == Poison::Permanent && self.shelf.is_quarantined(**key)).count()
            as u64
    }
}
