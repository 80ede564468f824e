//! Contec's spirometers (SP family) over their own service.
//!
//! **Experimental**: one source, no capture; see [`contec_spirometer`]. Service 0xFF12, written to 0xFF01, notified by 0xFF02.
//! The device leads: each of its messages is answered by one of ours, up to the records, which come one by one with their
//! curves. The curves are passed over: their samples are not evenly spaced, and their signs are not known.
//! Records are kept (91 7E) unless they may be deleted, and every one of them was decoded and is durable.
//! "FEV1%" is FEV1/FVC here: the source computes it so. The device's clock is set only where that is allowed; whether the
//! conversation goes on without it is not known.
//!
//! [`contec_spirometer`]: kit_protocol::gatt::contec_spirometer

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::gatt::contec_spirometer::{Record, Request};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Context, Kind, Measured, Memory, Quantity, Special, Value};

use crate::driver::{
    Allowed, Command, Driver, DriverError, Effect, Endpoint, Event, Link, Output, Pairing, Security, Session, Start, Token,
    bluetooth,
};
use crate::session::outputs::Outputs;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "spirometer-contec",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(0xff12)], names: &[], listens: &[NOTIFIED] }],
    protocol: "Contec SP family, service 0xFF12 (experimental: one source, no capture)",
    gives: "experimental: FVC, FEV1, FEV1% (FEV1/FVC), FEV6, PEF, FEF25, FEF50, FEF75, FEF25-75 of stored manoeuvres",
    parameters: &PARAMETERS,
    security: Security::None,
    pairing: Pairing::None,
    memory: true,
    allowed: &[
        row("begin", Effect::Converse, &[0x80]),
        row("set-time", Effect::SetClock, &[0x83]),
        row("second-step", Effect::Converse, &[0x82]),
        row("third-step", Effect::Converse, &[0x94]),
        row("number-of-records", Effect::Ask, &[0x90]),
        row("first-record", Effect::Ask, &[0x91, 0x00]),
        row("next-record", Effect::Ask, &[0x91, 0x01]),
        row("curve", Effect::Ask, &[0x92]),
        row("keep-records", Effect::Converse, &[0x91, 0x7e]),
        row("delete-records", Effect::Delete, &[0x91, 0x7f]),
    ],
    quirks: &[],
    session: |start| Box::new(Spirometer::new(&start)),
};

const WRITTEN: Endpoint = Endpoint::gatt(0xff12, 0xff01);
const NOTIFIED: Endpoint = Endpoint::gatt(0xff12, 0xff02);

const fn row(name: &'static str, effect: Effect, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect, to: WRITTEN, at: 0, octets }
}

/// Which of a record's fields is what; times and volumes without a code are left out.
const FIELDS: [(usize, Mdc, &str); 9] = [
    (0, Mdc(188_928), "L"),
    (2, Mdc(152_586), "L"),
    (3, Mdc(188_948), "%"),
    (5, Mdc(152_587), "L"),
    (6, Mdc(152_584), "L/s"),
    (7, Mdc(188_964), "L/s"),
    (8, Mdc(188_968), "L/s"),
    (9, Mdc(188_972), "L/s"),
    (10, Mdc(188_960), "L/s"),
];
const PARAMETERS: [Mdc; FIELDS.len()] = {
    let mut codes = [Mdc(0); FIELDS.len()];
    let mut at = 0;
    while at < codes.len() {
        codes[at] = FIELDS[at].1;
        at += 1;
    }
    codes
};

/// The device answers, and goes on with what it sends, within this.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After a curve come some octets that mean nothing; what comes within this is passed over.
const TAIL: Duration = Duration::from_millis(300);
/// Records become durable within this, or are kept.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// The most records that are asked for: 14 bits of them.
const RECORDS_MAX: u16 = 0x3fff;

/// ```text
/// Waiting ─Up─▶ Subscribing ─▶ Asked ◀─▶ (each message of the device is answered)
///                               Asked ─curve came─▶ Tail ─▶ Asked{next record} … ─last─▶ Settling ─▶ Closing ─▶ Ended
/// Asked ─no answer, a message that is none─▶ Ended
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Subscribing {
        command: Token,
        until: Moment,
    },
    /// The device's next message is due.
    Asked {
        until: Moment,
    },
    /// Octets after a curve.
    Tail {
        until: Moment,
    },
    /// Every record came; they become durable.
    Settling {
        until: Moment,
    },
    /// The last word is being written.
    Closing {
        until: Moment,
    },
    Ended,
}

struct Spirometer {
    stage: Stage,
    outputs: Outputs,
    commands: VecDeque<Command>,
    may_delete: bool,
    /// What the clock is to be set to, and when that was so.
    civil_time: Option<DateTime>,
    opened: Option<Moment>,
    waiting: Vec<u8>,
    /// Requests are not taken.
    mute: bool,
    /// Octets of the curve still to be passed over.
    curve: usize,
    count: u16,
    came: u16,
    awaited: BTreeSet<Token>,
    spoilt: bool,
}

impl Session for Spirometer {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (self.stage, event) {
            (Stage::Waiting, Event::Up { has, .. }) => self.up(now, has),
            (Stage::Subscribing { command, .. }, Event::Done { command: done }) if command == done => {
                self.ask(now, &Request::Begin);
            }
            (Stage::Subscribing { command, .. }, Event::Failed { command: failed, .. }) if command == failed => {
                self.give_up("the device refused the subscription");
            }
            // Nobody takes our requests: what comes all the same is taken in, until it is silent for too long.
            (Stage::Asked { .. }, Event::Failed { .. }) => self.mute = true,
            (Stage::Closing { .. }, Event::Done { .. } | Event::Failed { .. }) => self.close(),
            (Stage::Asked { .. }, Event::Received { from: NOTIFIED, octets, .. }) => self.received(now, octets),
            (_, Event::Stored { reading }) => self.answered(now, reading, true),
            (_, Event::Refused { reading }) => self.answered(now, reading, false),
            (_, Event::Down { .. }) => {
                self.commands.clear();
                self.stage = Stage::Ended;
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        match self.stage {
            Stage::Subscribing { .. } | Stage::Asked { .. } => self.give_up("the device did not answer"),
            Stage::Tail { .. } => self.next(now),
            Stage::Settling { .. } => self.finish(now, &Request::Keep),
            Stage::Closing { .. } => self.close(),
            Stage::Waiting | Stage::Ended => {}
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        match self.stage {
            Stage::Subscribing { until, .. }
            | Stage::Asked { until }
            | Stage::Tail { until }
            | Stage::Settling { until }
            | Stage::Closing { until } => Some(until),
            Stage::Waiting | Stage::Ended => None,
        }
    }
}

/// Octets of a message of the device by its first; `None` where it has none of that.
fn length(start: u8) -> Option<usize> {
    Some(match start {
        0xf0 => 2,
        0xf3 => 3,
        0xf2 => 8,
        0xe4 => 23,
        0xe0 => 10,
        0xe1 => Record::OCTETS,
        0xe2 => 5,
        _ => return None,
    })
}

/// Octets of one sample of a curve.
const CURVE_SAMPLE: usize = 8;

impl Spirometer {
    fn new(start: &Start) -> Self {
        Self {
            stage: Stage::Waiting,
            outputs: Outputs::default(),
            commands: VecDeque::new(),
            may_delete: start.may_delete,
            civil_time: start.civil_time.filter(|_| start.may_set_clock),
            opened: None,
            waiting: Vec::new(),
            mute: false,
            curve: 0,
            count: 0,
            came: 0,
            awaited: BTreeSet::new(),
            spoilt: false,
        }
    }

    fn up(&mut self, now: Moment, has: &[Endpoint]) {
        self.opened = Some(now);
        if !has.contains(&NOTIFIED) {
            self.outputs.error(DriverError::NotThisDevice("no Contec spirometer service".into()));
            return self.close();
        }
        let command = self.outputs.token();
        self.commands.push_back(Command::Subscribe(command, NOTIFIED));
        self.stage = Stage::Subscribing { command, until: now + ANSWER_MAX };
    }

    fn write(&mut self, request: &Request) {
        if self.mute {
            return;
        }
        let token = self.outputs.token();
        self.commands.push_back(Command::Write { token, to: WRITTEN, octets: request.encode(), response: false });
    }

    fn ask(&mut self, now: Moment, request: &Request) {
        self.write(request);
        self.stage = Stage::Asked { until: now + ANSWER_MAX };
    }

    fn received(&mut self, now: Moment, octets: &[u8]) {
        self.stage = Stage::Asked { until: now + ANSWER_MAX };
        let passed = self.curve.min(octets.len());
        let (of_curve, rest) = octets.split_at(passed);
        self.curve -= of_curve.len();
        if passed > 0 && self.curve == 0 {
            // What is behind a curve means nothing.
            self.stage = Stage::Tail { until: now + TAIL };
            return;
        }
        self.waiting.extend_from_slice(rest);
        // A message begins with its first octet that is not 0.
        let begins = self.waiting.iter().position(|octet| *octet != 0).unwrap_or(self.waiting.len());
        self.waiting.drain(..begins);
        let Some(start) = self.waiting.first().copied() else { return };
        let Some(length) = length(start) else { return self.give_up("a message of no known kind") };
        if self.waiting.len() >= length {
            let rest = self.waiting.split_off(length);
            let message = std::mem::replace(&mut self.waiting, rest);
            self.message(now, start, &message);
        }
    }

    fn message(&mut self, now: Moment, start: u8, message: &[u8]) {
        let number = |at: usize| u16::from(message[at] & 0x7f) | u16::from(message[at + 1] & 0x7f) << 7;
        match start {
            0xf0 => match self.civil_time.take() {
                // The clock was read as the session was opened; the handshake takes less than its second.
                Some(time) => {
                    self.outputs.device_clock(time, self.opened.unwrap_or(now));
                    self.ask(now, &Request::SetTime(time));
                }
                None => self.ask(now, &Request::Second),
            },
            0xf3 => self.ask(now, &Request::Second),
            0xf2 => self.ask(now, &Request::Third),
            0xe4 => self.ask(now, &Request::Count),
            0xe0 => {
                self.count = number(1).min(RECORDS_MAX);
                self.outputs.memory((self.count > 0).then_some(self.count.into()));
                if self.count == 0 { self.finish(now, &Request::Keep) } else { self.ask(now, &Request::First) }
            }
            0xe1 => {
                self.record(now, message);
                self.ask(now, &Request::Curve);
            }
            _ => {
                self.curve = CURVE_SAMPLE * usize::from(number(3));
                let came = self.waiting.len().min(self.curve);
                self.curve -= came;
                self.waiting.clear();
                let until = now + if self.curve == 0 { TAIL } else { ANSWER_MAX };
                self.stage = if self.curve == 0 { Stage::Tail { until } } else { Stage::Asked { until } };
            }
        }
    }

    fn record(&mut self, now: Moment, octets: &[u8]) {
        self.came = self.came.saturating_add(1);
        match Record::decode(octets) {
            Ok(record) if record.kind == Record::FORCED => match self.outputs.measured(measured(now, &record, octets)) {
                Ok(token) => {
                    self.awaited.insert(token);
                }
                Err(_) => self.spoilt = true,
            },
            // Another kind of manoeuvre, whose fields are not known: it stays on the device.
            Ok(_) => self.spoilt = true,
            Err(error) => {
                self.spoilt = true;
                let (reason, octets) = (error.to_string(), octets.to_vec());
                self.outputs.error(DriverError::Undecodable { what: "spirometer record", reason, octets });
            }
        }
    }

    fn next(&mut self, now: Moment) {
        if self.came < self.count {
            return self.ask(now, &Request::Next);
        }
        self.stage = Stage::Settling { until: now + SETTLING_MAX };
        self.settle(now);
    }

    fn answered(&mut self, now: Moment, reading: Token, stored: bool) {
        self.outputs.answered(reading);
        if self.awaited.remove(&reading) {
            self.spoilt |= !stored;
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Moment) {
        if matches!(self.stage, Stage::Settling { .. }) && self.awaited.is_empty() {
            let delete = self.may_delete && !self.spoilt;
            self.finish(now, if delete { &Request::Delete } else { &Request::Keep });
        }
    }

    fn finish(&mut self, now: Moment, request: &Request) {
        if self.mute {
            return self.close();
        }
        self.write(request);
        self.stage = Stage::Closing { until: now + ANSWER_MAX };
    }

    fn close(&mut self) {
        self.commands.push_back(Command::Close);
        self.stage = Stage::Ended;
    }

    fn give_up(&mut self, why: &str) {
        self.outputs.error(DriverError::Protocol(why.into()));
        self.close();
    }
}

fn measured(now: Moment, record: &Record, octets: &[u8]) -> Measured {
    let value = |(at, code, unit): (usize, Mdc, &'static str)| {
        let field = record.fields[at];
        let number = if unit == "%" { Record::ratio(field) } else { Record::volume(field) };
        // A field of 0 is one that the device did not measure.
        let quantity = if field == 0 { Quantity::Special(Special::NotAvailable) } else { Quantity::Number(number) };
        Value { code, quantity, unit }
    };
    let bronchodilator = record.drug.then_some(Context { what: "bronchodilator", value: "after" });
    Measured {
        values: FIELDS.into_iter().map(value).collect(),
        device_time: Some(record.time),
        record: Some(record.number.into()),
        context: bronchodilator.into_iter().collect(),
        memory: Memory::Stored,
        octets: octets.to_vec(),
        ..Measured::new(Kind::Spirometry, now)
    }
}

#[cfg(test)]
mod tests;
