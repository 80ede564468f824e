//! Omron blood pressure monitors that keep their measurements in a memory of their own (not the Blood Pressure Service).
//!
//! Services: ECBE3980-… with four characteristics each way in older models, 0xFE4A with one each way in newer ones; frames as
//! in [`omron_memory`], records as in [`omron_record`], where they stand in [`models`]. Source: omblepy, hass-omron (facts).
//! A conversation: subscribe, unlock (by the key of the pairing, or by four octets that the monitor repeats), open the
//! memory, read the clock, read the records of the bound user (of all users where none is bound), close. The whole memory is
//! read each time, since nothing in it says where the newest record is that every model has; the store knows what it has.
//! Records come with the user and, from newer models, with their number; they are handed over when the last one is read, so
//! that the highest number is known before any of them. Nothing is ever deleted: the protocol has no such frame, and of
//! writes to the memory the clock's block alone is allowed.
//! A model that has no row is not spoken to: another map would read numbers out of other things. Writing a key into a monitor
//! is the pairing's business and not done here.
//!
//! [`omron_memory`]: kit_protocol::gatt::omron_memory
//! [`omron_record`]: kit_protocol::gatt::omron_record

mod models;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::omron_memory::{Assembler, Frame, FrameKind, channels};
use kit_protocol::gatt::omron_record::{Clock, Order, Record};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Quantity, Special, Status, Value};
use uuid::Uuid;

use self::models::{Model, Unlock};
use crate::driver::{
    Allowed, Command, Driver, DriverError, Effect, Endpoint, Event, Link, Pairing, Security, Session, Start, Token, UnlockKey,
    bluetooth,
};
use crate::session::gatt_session::{GattSession, Given, Plan, earlier};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "blood-pressure-omron",
    version: "1",
    links: &[Link::Ble { advertises: &[CLASSIC, MODERN], names: &[], listens: &[MODERN_RX] }],
    protocol: "Omron memory frames",
    gives: "systolic, diastolic, pulse, irregular pulse, movement, cuff fit; stored measurements of each user",
    parameters: &[Mdc::SYSTOLIC, Mdc::DIASTOLIC, Mdc::PULSE_RATE_CUFF],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[
        allowed("open-memory", Effect::Converse, CLASSIC_TX[0], 1, &[0x00, 0x00]),
        allowed("read-memory", Effect::Ask, CLASSIC_TX[0], 1, &[0x01, 0x00]),
        allowed("close-memory", Effect::Converse, CLASSIC_TX[0], 1, &[0x0f, 0x00]),
        allowed("set-clock", Effect::SetClock, CLASSIC_TX[0], 1, &[0x01, 0xc0, 0x00, 0x80, 0x10]),
        // The rest of the frame before it: by itself it does nothing.
        allowed("set-clock", Effect::SetClock, CLASSIC_TX[1], 0, &[]),
        allowed("unlock", Effect::Converse, CLASSIC_UNLOCK, 0, &[0x01]),
        allowed("open-memory", Effect::Converse, MODERN_TX, 1, &[0x00, 0x00]),
        allowed("read-memory", Effect::Ask, MODERN_TX, 1, &[0x01, 0x00]),
        allowed("close-memory", Effect::Converse, MODERN_TX, 1, &[0x0f, 0x00]),
        allowed("set-clock", Effect::SetClock, MODERN_TX, 1, &[0x01, 0xc0, 0x02, 0xd0, 0x10]),
        allowed("unlock", Effect::Converse, MODERN_UNLOCK, 0, &[0x11]),
    ],
    quirks: &[],
    session: |start| Box::new(BloodPressure::new(start)),
};

const fn allowed(name: &'static str, effect: Effect, to: Endpoint, at: usize, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect, to, at, octets }
}

const CLASSIC: Uuid = Uuid::from_u128(0xecbe3980_c9a2_11e1_b1bd_0002a5d5c51b);
const MODERN: Uuid = bluetooth(0xfe4a);
const RX: [u128; 4] = [
    0x49123040_aee8_11e1_a74d_0002a5d5c51b,
    0x4d0bf320_aee8_11e1_a0d9_0002a5d5c51b,
    0x5128ce60_aee8_11e1_b84b_0002a5d5c51b,
    0x560f1420_aee8_11e1_8184_0002a5d5c51b,
];
const TX: [u128; 4] = [
    0xdb5b55e0_aee7_11e1_965e_0002a5d5c51b,
    0xe0b8a060_aee7_11e1_92f4_0002a5d5c51b,
    0x0ae12b00_aee8_11e1_a192_0002a5d5c51b,
    0x10e1ba60_aee8_11e1_89e5_0002a5d5c51b,
];
const UNLOCK: u128 = 0xb305b680_aee7_11e1_a730_0002a5d5c51b;

const fn endpoint(service: Uuid, characteristic: u128) -> Endpoint {
    Endpoint { service, characteristic: Uuid::from_u128(characteristic) }
}

const fn classic(characteristics: [u128; 4]) -> [Endpoint; 4] {
    let [a, b, c, d] = characteristics;
    [endpoint(CLASSIC, a), endpoint(CLASSIC, b), endpoint(CLASSIC, c), endpoint(CLASSIC, d)]
}

const CLASSIC_RX: [Endpoint; 4] = classic(RX);
const CLASSIC_TX: [Endpoint; 4] = classic(TX);
const CLASSIC_UNLOCK: Endpoint = endpoint(CLASSIC, UNLOCK);
const MODERN_RX: Endpoint = endpoint(MODERN, RX[0]);
const MODERN_TX: Endpoint = endpoint(MODERN, TX[0]);
const MODERN_UNLOCK: Endpoint = endpoint(MODERN, UNLOCK);

const PLAN: Plan = Plan {
    gives: "memory of an Omron monitor",
    measures: &[CLASSIC_RX[0], MODERN_RX],
    reads: &[],
    subscribes: &[CLASSIC_RX[0], CLASSIC_RX[1], CLASSIC_RX[2], CLASSIC_RX[3], MODERN_RX, CLASSIC_UNLOCK, MODERN_UNLOCK],
    clock: &[],
};

/// The monitor answers within this, or is asked again …
const REPLY_MAX: Duration = Duration::from_secs(5);
/// … so often at most.
const ATTEMPTS_MAX: u8 = 4;
/// Records become durable within this, or the link is closed all the same.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// A clock that is off by no more than this is left alone.
const CLOCK_OFF_MAX_SECONDS: u64 = 10;

/// ```text
/// SettingUp ─▶ Unlocking ─▶ Asking{open} ─▶ {clock} ─▶ {records …} ─▶ {set clock} ─▶ {close} ─▶ Settling ─▶ Ended
///     └─ nothing to write to: Listening (octets from a file)     └─ no answer, a refusal: Ended
/// ```
#[derive(Debug)]
enum Stage {
    SettingUp,
    /// Nothing can be asked: frames, or bare records, are taken as they come.
    Listening,
    Unlocking {
        expects: [u8; 2],
        until: Moment,
    },
    Asking {
        what: What,
        request: Frame,
        until: Moment,
        attempt: u8,
    },
    /// The memory is closed; what it held becomes durable.
    Settling {
        until: Moment,
    },
    Ended,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Open,
    ReadClock,
    ReadRecords { user: usize, from: u16 },
    SetClock { time: DateTime },
    Close,
}

struct BloodPressure {
    gatt: GattSession,
    stage: Stage,
    commands: VecDeque<Command>,
    model: Option<&'static Model>,
    key: Option<UnlockKey>,
    user_slot: Option<u8>,
    assembler: Assembler,
    records: Vec<Found>,
    clock: Option<Clock>,
    /// Civil time as the session was opened, where the clock may be set by it.
    civil: Option<DateTime>,
    opened: Option<Moment>,
    awaited: BTreeSet<Token>,
}

/// A record that was read, and of which user.
struct Found {
    user: Option<u8>,
    record: Record,
    slot: Vec<u8>,
}

impl Session for BloodPressure {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        self.opened.get_or_insert(now);
        if let Event::Up { has, .. } = event
            && matches!(self.stage, Stage::SettingUp)
            && !self.may_begin(has)
        {
            return;
        }
        if self.gatt.handle_event(now, &event) {
            self.unlock(now);
        }
        match event {
            Event::Received { from, octets, .. } => self.received(now, from, octets),
            Event::Stored { reading } | Event::Refused { reading } => {
                self.awaited.remove(&reading);
                self.settle();
            }
            Event::Down { .. } => {
                self.commands.clear();
                self.stage = Stage::Ended;
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        self.gatt.handle_timeout(now);
        if self.own_timeout().is_none_or(|at| at > now) {
            return;
        }
        match &self.stage {
            Stage::Unlocking { .. } => self.give_up("the monitor did not answer the unlocking"),
            Stage::Asking { what, request, attempt, .. } if *attempt < ATTEMPTS_MAX => {
                let (what, request, attempt) = (*what, request.clone(), attempt + 1);
                self.ask(now, what, request, attempt);
            }
            Stage::Asking { what: What::Close, .. } => self.closed(now),
            Stage::Asking { .. } => self.give_up("the monitor did not answer"),
            Stage::Settling { .. } => self.end(),
            Stage::SettingUp | Stage::Listening | Stage::Ended => {}
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.gatt.poll_command().or_else(|| self.commands.pop_front())
    }

    fn poll_output(&mut self) -> Option<Given> {
        self.gatt.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        earlier(self.gatt.poll_timeout(), self.own_timeout())
    }
}

/// Beginning and ending.
impl BloodPressure {
    fn new(start: Start) -> Self {
        let gatt = GattSession::new(PLAN, &start);
        let model = models::of(&start.about);
        Self {
            gatt,
            stage: Stage::SettingUp,
            commands: VecDeque::new(),
            model,
            key: start.unlock_key,
            user_slot: start.user_slot,
            assembler: Assembler::new(model.map_or(1, |model| model.channels)),
            records: Vec::new(),
            clock: None,
            civil: start.civil_time.filter(|_| start.may_set_clock),
            opened: None,
            awaited: BTreeSet::new(),
        }
    }

    fn own_timeout(&self) -> Option<Moment> {
        match self.stage {
            Stage::Unlocking { until, .. } | Stage::Asking { until, .. } | Stage::Settling { until } => Some(until),
            Stage::SettingUp | Stage::Listening | Stage::Ended => None,
        }
    }

    /// Whether there is a map of its memory and a way to ask for it.
    fn may_begin(&mut self, has: &[Endpoint]) -> bool {
        let listens = PLAN.measures.iter().any(|endpoint| has.contains(endpoint));
        let writes = has.contains(&CLASSIC_TX[0]) || has.contains(&MODERN_TX);
        if listens && !writes {
            self.assembler = Assembler::new(1);
            self.stage = Stage::Listening;
            return false;
        }
        let why = match self.model {
            _ if !listens => return true,
            None => "no memory map of this model is known: name one of the models of the driver table in the configuration",
            Some(model) if !tx(model).iter().all(|endpoint| has.contains(endpoint)) => {
                "the model's characteristics are not there: it is another model"
            }
            Some(Model { unlock: Unlock::Key, .. }) if self.key.is_none() => {
                self.give_up("the monitor opens by the key of its pairing, and there is none: pair it again");
                return false;
            }
            Some(_) => return true,
        };
        self.gatt.outputs.error(DriverError::NotThisDevice(why.into()));
        self.end();
        false
    }

    fn unlock(&mut self, now: Moment) {
        let Some(model) = self.model else { return self.end() };
        let (to, octets, expects) = match (model.unlock, &self.key) {
            (Unlock::Token, _) => {
                // Any four octets do: the monitor repeats them, and they are no secret.
                let [a, b, c, d, ..] = now.as_nanos().to_le_bytes();
                let mut octets = vec![0x11, a, b, c, d];
                octets.resize(20, 0);
                (MODERN_UNLOCK, octets, [0x91, 0])
            }
            (Unlock::Key, Some(UnlockKey(key))) => (CLASSIC_UNLOCK, [&[0x01], &key[..]].concat(), [0x81, 0]),
            (Unlock::Key, None) => return self.give_up("the monitor opens by the key of its pairing"),
        };
        let response = model.unlock == Unlock::Key;
        self.write(to, octets, response);
        self.stage = Stage::Unlocking { expects, until: now + REPLY_MAX };
    }

    fn write(&mut self, to: Endpoint, octets: Vec<u8>, response: bool) {
        let token = self.gatt.outputs.token();
        self.commands.push_back(Command::Write { token, to, octets, response });
    }

    fn give_up(&mut self, why: &str) {
        self.gatt.outputs.error(DriverError::Protocol(why.into()));
        self.end();
    }

    fn end(&mut self) {
        self.gatt.close();
        self.stage = Stage::Ended;
    }

    fn closed(&mut self, now: Moment) {
        self.stage = Stage::Settling { until: now + SETTLE_MAX };
        self.settle();
    }

    fn settle(&mut self) {
        if matches!(self.stage, Stage::Settling { .. }) && self.awaited.is_empty() {
            self.end();
        }
    }
}

fn tx(model: &Model) -> &'static [Endpoint] {
    if model.channels == 1 { &[MODERN_TX] } else { &CLASSIC_TX }
}

/// Asking and being answered.
impl BloodPressure {
    fn ask(&mut self, now: Moment, what: What, request: Frame, attempt: u8) {
        let Some(model) = self.model else { return };
        let octets = request.encode();
        for (channel, part) in channels(&octets, model.channels) {
            if let Some(to) = tx(model).get(channel) {
                self.write(*to, part.to_vec(), model.channels > 1);
            }
        }
        self.stage = Stage::Asking { what, request, until: now + REPLY_MAX, attempt };
    }

    fn received(&mut self, now: Moment, from: Endpoint, octets: &[u8]) {
        if from == CLASSIC_UNLOCK || from == MODERN_UNLOCK {
            return self.unlocked(now, octets);
        }
        let channel = if from == MODERN_RX { Some(0) } else { CLASSIC_RX.iter().position(|endpoint| *endpoint == from) };
        let Some(channel) = channel else { return };
        let frame = self.assembler.push(channel, octets);
        match (&self.stage, frame) {
            (Stage::Asking { what, request, .. }, Some(Ok(frame))) => {
                let (what, request) = (*what, request.clone());
                self.replied(now, what, &request, &frame);
            }
            (Stage::Listening, Some(frame)) => self.listened(now, frame.ok(), octets),
            // What is no frame is ignored, and never filled up: the request is repeated when its time is over.
            _ => {}
        }
    }

    fn unlocked(&mut self, now: Moment, octets: &[u8]) {
        if let Stage::Unlocking { expects, .. } = self.stage {
            if octets.starts_with(&expects) {
                self.ask(now, What::Open, Frame::open(), 1);
            } else {
                self.give_up("the monitor did not take the key: pair it again");
            }
        }
    }

    fn replied(&mut self, now: Moment, what: What, request: &Frame, reply: &Frame) {
        let refused = reply.kind == FrameKind::CLOSE.reply() && what != What::Close;
        let answers = reply.kind == request.kind.reply() && (what == What::Open || reply.address == request.address);
        match (what, reply.refusal()) {
            _ if !refused && !answers => {}
            (What::Close, _) => self.closed(now),
            // A user that is not registered: there are no records.
            (What::ReadRecords { user, .. }, Some(_)) => self.read_user(now, user + 1),
            (What::SetClock { .. }, Some(_)) => self.close_memory(now),
            (_, Some(_)) => self.give_up("the monitor refused"),
            _ if refused => self.give_up("the monitor refused"),
            (What::Open, None) => match self.model.and_then(|model| model.clock) {
                Some(clock) => self.ask(now, What::ReadClock, Frame::read(clock.read, CLOCK_OCTETS), 1),
                None => self.read_user(now, 0),
            },
            (What::ReadClock, None) => {
                if let Ok(clock) = Clock::decode(&reply.payload) {
                    self.clock = Some(clock);
                    self.gatt.outputs.device_clock(clock.time, now);
                }
                self.read_user(now, 0);
            }
            (What::ReadRecords { user, from }, None) => self.read(now, user, from, &reply.payload),
            (What::SetClock { time }, None) => {
                self.gatt.outputs.device_clock(time, now);
                self.close_memory(now);
            }
        }
    }

    /// Begins with the records of the first user from this one on that are wanted.
    fn read_user(&mut self, now: Moment, from: usize) {
        let Some(model) = self.model else { return };
        let wanted = |user: &usize| self.user_slot.is_none_or(|slot| usize::from(slot) == user + 1);
        match (from..model.users.len()).find(wanted) {
            Some(user) => self.read_on(now, model, user, 0),
            None => self.all_read(now, model),
        }
    }

    fn read_on(&mut self, now: Moment, model: &Model, user: usize, from: u16) {
        let octets = model.slots * model.slot_octets;
        let size = u16::from(model.block).min(octets.saturating_sub(from));
        match (model.users.get(user), u8::try_from(size)) {
            (Some(start), Ok(size @ 1..)) => {
                self.ask(now, What::ReadRecords { user, from }, Frame::read(start + from, size), 1);
            }
            _ => self.read_user(now, user + 1),
        }
    }

    fn read(&mut self, now: Moment, user: usize, from: u16, payload: &[u8]) {
        let Some(model) = self.model else { return };
        let slot = u8::try_from(user + 1).ok();
        for octets in payload.chunks(model.slot_octets.into()) {
            self.slot(model.order, slot, octets);
        }
        let read = u16::try_from(payload.len()).unwrap_or(u16::MAX).max(1);
        self.read_on(now, model, user, from.saturating_add(read));
    }

    fn slot(&mut self, order: Order, user: Option<u8>, octets: &[u8]) {
        match Record::decode(octets, order) {
            Ok(Some(record)) => self.records.push(Found { user, record, slot: octets.to_vec() }),
            Ok(None) => {}
            Err(error) => self.gatt.undecodable("Omron record", error, octets),
        }
    }

    /// The highest number first, then the records, the oldest number or time before the others.
    fn all_read(&mut self, now: Moment, model: &Model) {
        let mut records = std::mem::take(&mut self.records);
        records.sort_by_key(|found| (found.user, found.record.number, found.record.device_time));
        if model.order == Order::Little {
            let highest = records.iter().filter_map(|found| found.record.number).max();
            self.gatt.outputs.memory(highest.map(u64::from));
        }
        for found in &records {
            self.hand_over(now, found, model.sum_kept);
        }
        match self.clock_to_set(now) {
            Some((at, clock)) => {
                let request = Frame::write(at, &clock.encode());
                self.ask(now, What::SetClock { time: clock.time }, request, 1);
            }
            None => self.close_memory(now),
        }
    }

    fn clock_to_set(&self, now: Moment) -> Option<(u16, Clock)> {
        let (at, said) = (self.model?.clock?.write, self.clock?);
        let passed = i64::try_from(now.since(self.opened?).as_secs()).ok()?;
        let time = DateTime::from_seconds(self.civil?.seconds()?.checked_add(passed)?)?;
        let off = said.time.seconds().map(|seconds| seconds.abs_diff(time.seconds().unwrap_or(0)));
        let within = off.is_some_and(|seconds| seconds <= CLOCK_OFF_MAX_SECONDS);
        (!within).then_some((at, Clock { time, ..said }))
    }

    fn close_memory(&mut self, now: Moment) {
        self.ask(now, What::Close, Frame::close(), 1);
    }

    fn hand_over(&mut self, now: Moment, found: &Found, sum_kept: bool) {
        match self.gatt.measured(measured(now, found, sum_kept)) {
            Ok(token) => {
                self.awaited.insert(token);
            }
            // It stays in the monitor: the next conversation brings it.
            Err(_) => self.gatt.undecodable("Omron record", "there was no room for it", &[]),
        }
    }

    /// Octets out of a file: a frame with records, or a record by itself.
    fn listened(&mut self, now: Moment, frame: Option<Frame>, octets: &[u8]) {
        let bare = [Record::OCTETS, Record::OCTETS_LONG].contains(&octets.len());
        let payload = match &frame {
            Some(frame) if frame.kind == FrameKind::READ.reply() => frame.payload.as_slice(),
            Some(_) => return,
            None if bare => octets,
            None => return self.gatt.undecodable("Omron frame", "neither a frame nor a record", octets),
        };
        let long = payload.len().is_multiple_of(Record::OCTETS_LONG) && !payload.len().is_multiple_of(Record::OCTETS);
        let width = self.model.map_or(if long { Record::OCTETS_LONG } else { Record::OCTETS }, |m| m.slot_octets.into());
        for slot in payload.chunks(width) {
            let sums = |order| Record::decode(slot, order).ok().flatten().is_some_and(|record| record.sum_fits);
            // Where nobody names the model, the sum tells which of the two orders it is.
            let order = match self.model {
                Some(model) => model.order,
                None if sums(Order::Big) && !sums(Order::Little) => Order::Big,
                None => Order::Little,
            };
            self.slot(order, None, slot);
        }
        for found in std::mem::take(&mut self.records) {
            self.hand_over(now, &found, false);
        }
    }
}

/// Octets of the clock's block.
const CLOCK_OCTETS: u8 = 16;

fn measured(now: Moment, found: &Found, sum_kept: bool) -> Measured {
    let Found { user, record, slot } = found;
    let value = |code, number: u16, unit| Value { code, quantity: Quantity::Number(Decimal::whole(number.into())), unit };
    let mut pulse = value(Mdc::PULSE_RATE_CUFF, record.pulse_rate.into(), "/min");
    if record.pulse_rate == 0 {
        pulse.quantity = Quantity::Special(Special::NotAvailable);
    }
    let status: [(Status, bool); 5] = [
        ("body-movement", record.movement),
        ("cuff-too-loose", !record.cuff_fits),
        ("irregular-pulse", record.irregular),
        ("improper-measurement-position", record.position != 0),
        ("questionable-measurement-detected", sum_kept && !record.sum_fits),
    ];
    let mut octets = slot.clone();
    octets.extend(user);
    Measured {
        values: vec![
            value(Mdc::SYSTOLIC, record.systolic, "mm[Hg]"),
            value(Mdc::DIASTOLIC, record.diastolic.into(), "mm[Hg]"),
            pulse,
        ],
        device_time: record.device_time,
        record: record.number.map(u64::from),
        user_slot: *user,
        status: status.into_iter().filter(|(_, stated)| *stated).map(|(term, _)| term).collect(),
        memory: Memory::Stored,
        octets,
        ..Measured::new(Kind::BloodPressure, now)
    }
}

#[cfg(test)]
mod tests;
