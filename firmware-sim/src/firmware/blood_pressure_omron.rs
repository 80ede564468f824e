//! A blood pressure monitor that keeps its measurements in an EEPROM, which a host reads over the air as Omron's do.
//!
//! A slot nobody wrote is FF throughout. A host unlocks, opens the memory, reads runs of it, may write the clock's block and
//! nothing else, and closes; a frame that is none is met with silence, and one that asks for what it may not with the reply
//! that refuses. No frame erases anything: a user's oldest measurement is overwritten by the newest when the slots are full.
//! Time is milliseconds since power-up. Source: as `kit_protocol::gatt::{omron_memory, omron_record}` name it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::omron_memory::{Assembler, Frame, FrameKind, channels};
use kit_protocol::gatt::omron_record::{Clock, Order, Record};

use super::calendar;

/// How a model is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlock {
    /// By the 16 octets that were written at its pairing.
    Key([u8; 16]),
    /// By any four octets, which it repeats.
    Token,
}

/// One model: the map of its memory.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Model number.
    pub model: &'static str,
    /// Characteristics each way.
    pub channels: usize,
    /// How it is opened.
    pub unlock: Unlock,
    /// Where each user's records begin.
    pub users: &'static [u16],
    /// Records of a user.
    pub slots: u16,
    /// Octets of a record.
    pub slot_octets: u16,
    /// Which octet of a word comes first.
    pub order: Order,
    /// Where the clock's block is read and, elsewhere, written.
    pub clock: Option<(u16, u16)>,
    /// It advertises for this long after a measurement, ms.
    pub advertise_ms: u64,
    /// It hangs up after this long without a word, ms.
    pub idle_ms: u64,
}

/// One user, one characteristic each way, records by little-endian words with their numbers.
pub const HEM_7142T2: Settings = Settings {
    model: "HEM-7142T2",
    channels: 1,
    unlock: Unlock::Token,
    users: &[0x02e8],
    slots: 14,
    slot_octets: 14,
    order: Order::Little,
    clock: Some((0x028c, 0x02d0)),
    advertise_ms: 15_000,
    idle_ms: 4_000,
};

/// Two users, four characteristics each way, records by big-endian words without a number; the key is of its pairing.
#[must_use]
pub const fn hem_7322t(key: [u8; 16]) -> Settings {
    Settings {
        model: "HEM-7322T",
        channels: 4,
        unlock: Unlock::Key(key),
        users: &[0x02ac, 0x0824],
        slots: 100,
        slot_octets: 14,
        order: Order::Big,
        clock: None,
        ..HEM_7142T2
    }
}

/// What is never written.
const EMPTY: u8 = 0xff;
/// The reply that refuses has this code.
const REFUSED: u8 = 0x01;
/// Frames that wait to be sent.
const FRAMES_MAX: usize = 8;
/// Octets of an answer to an unlocking.
const UNLOCK_OCTETS: usize = 20;

/// What one slot was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts what this monitor measured; in the memory of newer models too, 16 bits of it.
    pub number: u64,
    /// From 0.
    pub user: usize,
    /// Its slot of the user's.
    pub slot: u16,
    /// What stands there.
    pub record: Record,
}

/// The memory, which outlives the power.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eeprom {
    /// What was measured and not overwritten, oldest first.
    pub records: VecDeque<Stored>,
    /// The last number given.
    pub numbers: u64,
}

/// What it notifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Of the unlocking characteristic.
    Unlock(Vec<u8>),
    /// Of the data characteristic of this number.
    Data(usize, Vec<u8>),
}

/// Where a conversation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Locked,
    Unlocked,
    Open,
}

/// The firmware.
#[derive(Debug)]
pub struct OmronMonitor {
    settings: Settings,
    eeprom: Eeprom,
    clock: Option<u64>,
    offering_until_ms: Option<u64>,
    connected: bool,
    stage: Stage,
    assembler: Assembler,
    sending: VecDeque<Notification>,
    last_traffic_ms: u64,
    /// Read in this conversation.
    read: Vec<u64>,
    /// The memory was closed properly: what was read has arrived with the last notification.
    closed: bool,
}

impl OmronMonitor {
    /// Power-up, with the memory as it was.
    #[must_use]
    pub const fn start(settings: Settings, eeprom: Eeprom) -> Self {
        Self {
            assembler: Assembler::new(settings.channels),
            settings,
            eeprom,
            clock: None,
            offering_until_ms: None,
            connected: false,
            stage: Stage::Locked,
            sending: VecDeque::new(),
            last_traffic_ms: 0,
            read: Vec::new(),
            closed: false,
        }
    }

    /// The memory, for a power cut.
    #[must_use]
    pub fn eeprom(&self) -> Eeprom {
        self.eeprom.clone()
    }

    /// Sets the clock: it was `seconds` after the start of 2000 at power-up; `None`: it has lost the time.
    pub fn set_clock(&mut self, seconds: Option<u64>) {
        self.clock = seconds;
    }

    /// A user has measured: gives what was stored. The time and the number are the monitor's own.
    pub fn measure(&mut self, now_ms: u64, user: usize, record: Record) -> Option<Stored> {
        if user >= self.settings.users.len() {
            return None;
        }
        self.eeprom.numbers += 1;
        let number = self.eeprom.numbers;
        let of_user = |stored: &Stored| stored.user == user;
        let before = self.eeprom.records.iter().rev().find(|stored| of_user(stored)).map(|stored| stored.slot);
        let slot = before.map_or(0, |slot| (slot + 1) % self.settings.slots);
        self.eeprom.records.retain(|stored| !of_user(stored) || stored.slot != slot);
        let shown = u16::try_from(number & 0xffff).unwrap_or(0);
        let device_time = self.clock.map(|at_power_up| calendar::civil(at_power_up + now_ms / 1_000));
        let shown = (self.settings.order == Order::Little).then_some(shown);
        let stored = Stored { number, user, slot, record: Record { number: shown, device_time, ..record } };
        self.eeprom.records.push_back(stored);
        self.offering_until_ms = Some(now_ms + self.settings.advertise_ms);
        self.last_traffic_ms = now_ms;
        Some(stored)
    }

    /// Whether it advertises: for some seconds after a measurement.
    #[must_use]
    pub fn advertising(&self, now_ms: u64) -> bool {
        !self.connected && self.offering_until_ms.is_some_and(|until| now_ms < until)
    }

    /// A link came up.
    pub fn connect(&mut self, now_ms: u64) {
        self.connected = true;
        self.forget_link(now_ms);
    }

    /// The link ended: it is dark until the next measurement, if its memory was read and closed.
    pub fn disconnect(&mut self, now_ms: u64) {
        self.connected = false;
        if self.closed {
            self.offering_until_ms = None;
        }
        self.forget_link(now_ms);
    }

    /// Octets are written to the unlocking characteristic.
    pub fn unlock(&mut self, now_ms: u64, value: &[u8]) {
        self.last_traffic_ms = now_ms;
        let (answer, opened) = match (self.settings.unlock, value) {
            (Unlock::Key(key), [0x01, written @ ..]) if written.len() == key.len() => (0x81, key == written),
            (Unlock::Token, [0x11, token @ ..]) if token.len() >= 4 => (0x91, true),
            _ => return,
        };
        if opened && self.stage == Stage::Locked {
            self.stage = Stage::Unlocked;
        }
        let mut octets = Vec::from([answer, if opened { 0 } else { REFUSED }]);
        if let (Unlock::Token, Some(token)) = (self.settings.unlock, value.get(1..5)) {
            octets.extend(token);
        }
        octets.resize(UNLOCK_OCTETS, 0);
        self.notify(Notification::Unlock(octets));
    }

    /// Octets are written to the data characteristic of this number.
    pub fn write(&mut self, now_ms: u64, channel: usize, value: &[u8]) {
        self.last_traffic_ms = now_ms;
        if self.stage == Stage::Locked {
            return;
        }
        // What is no frame is met with silence.
        let Some(Ok(request)) = self.assembler.push(channel, value) else { return };
        let reply = self.carry_out(now_ms, &request);
        let octets = reply.encode();
        let count = self.settings.channels;
        for (channel, part) in channels(&octets, count) {
            let mut part = part.to_vec();
            if count > 1 {
                // The rest of the last characteristic is whatever stood there.
                part.resize(16, 0);
            }
            self.notify(Notification::Data(channel, part));
        }
    }

    /// What it notifies next, with the measurements that have arrived with it.
    pub fn next_notification(&mut self, now_ms: u64) -> Option<(Notification, Vec<u64>)> {
        let next = self.sending.pop_front().filter(|_| self.connected)?;
        self.last_traffic_ms = now_ms;
        let all = self.closed && self.sending.is_empty();
        Some((next, if all { core::mem::take(&mut self.read) } else { Vec::new() }))
    }

    /// Whether it hangs up: nothing asked for a while.
    #[must_use]
    pub const fn hangs_up(&self, now_ms: u64) -> bool {
        self.connected && now_ms.saturating_sub(self.last_traffic_ms) >= self.settings.idle_ms
    }

    fn forget_link(&mut self, now_ms: u64) {
        self.stage = Stage::Locked;
        self.assembler = Assembler::new(self.settings.channels);
        self.sending.clear();
        self.read.clear();
        self.closed = false;
        self.last_traffic_ms = now_ms;
    }

    fn notify(&mut self, notification: Notification) {
        if self.sending.len() < FRAMES_MAX {
            self.sending.push_back(notification);
        }
    }

    fn carry_out(&mut self, now_ms: u64, request: &Frame) -> Frame {
        let Frame { kind, address, size, .. } = *request;
        let reply = |payload: Vec<u8>| Frame { kind: kind.reply(), address, size, payload, result: 0 };
        let refused = Frame { kind: FrameKind::CLOSE.reply(), address, size: 1, payload: Vec::from([REFUSED]), result: 0 };
        match (kind, self.stage) {
            (FrameKind::OPEN, _) => {
                self.stage = Stage::Open;
                reply(Vec::new())
            }
            (FrameKind::CLOSE, Stage::Open) => {
                self.stage = Stage::Unlocked;
                self.closed = true;
                reply(Vec::new())
            }
            (FrameKind::READ, Stage::Open) => self.run_of(now_ms, address, size).map_or(refused, reply),
            (FrameKind::WRITE, Stage::Open) if self.set_by(now_ms, request) => reply(Vec::new()),
            _ => refused,
        }
    }

    /// Octets of the memory; `None` past its end.
    fn run_of(&mut self, now_ms: u64, address: u16, size: u8) -> Option<Vec<u8>> {
        let end = address.checked_add(u16::from(size))?;
        let last = self.settings.users.last()? + self.settings.slots * self.settings.slot_octets;
        let fits = usize::from(size) <= Frame::PAYLOAD_OCTETS_MAX && size > 0 && end <= last;
        if !fits {
            return None;
        }
        let run: Vec<u8> = (address..end).map(|at| self.octet(now_ms, at)).collect();
        let whole = self.eeprom.records.iter().filter(|stored| {
            let from = self.place(stored);
            from.is_some_and(|from| address <= from && from + self.settings.slot_octets <= end)
        });
        let whole: Vec<u64> = whole.map(|stored| stored.number).collect();
        self.read.extend(whole);
        Some(run)
    }

    fn place(&self, stored: &Stored) -> Option<u16> {
        Some(self.settings.users.get(stored.user)? + stored.slot * self.settings.slot_octets)
    }

    fn octet(&self, now_ms: u64, at: u16) -> u8 {
        let of_record = self.eeprom.records.iter().find_map(|stored| {
            let index = at.checked_sub(self.place(stored)?)?;
            stored.record.encode(self.settings.order).get(usize::from(index)).copied()
        });
        let of_clock = || {
            let index = at.checked_sub(self.settings.clock?.0)?;
            self.clock_block(now_ms).get(usize::from(index)).copied()
        };
        of_record.or_else(of_clock).unwrap_or(EMPTY)
    }

    fn clock_block(&self, now_ms: u64) -> [u8; Clock::OCTETS] {
        let unset = DateTime { year: 2_000, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
        let time = self.clock.map_or(unset, |at_power_up| calendar::civil(at_power_up + now_ms / 1_000));
        Clock { before: [0xc6, 0xa4, 1, 0, 0, 0, 0, 0], time }.encode()
    }

    /// The clock's block may be written, whole and with its sum.
    fn set_by(&mut self, now_ms: u64, request: &Frame) -> bool {
        let there = self.settings.clock.is_some_and(|(_, write)| write == request.address);
        let time = Clock::decode(&request.payload).ok().filter(|_| there).and_then(|clock| calendar::seconds(&clock.time));
        match time {
            Some(seconds) => {
                self.clock = Some(seconds.saturating_sub(now_ms / 1_000));
                true
            }
            None => false,
        }
    }
}
