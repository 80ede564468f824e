//! Contec CMS50 oximeters: protocol 7.0 and the older five octets on a serial line, the CMS50D-BT over Bluetooth.
//!
//! Ports: 115,200 baud for protocol 7.0, 19,200 for the older ones, 8 data bits, no parity; service 0xFF12, written at
//! 0xFF01, notified at 0xFF02. Source: [`contec`], [`bci`] and [`contec_bt`]. The protocols are told apart by themselves;
//! a port where nothing comes is tried at the other speed. What a device measures is a reading every 10 s and the waveform.
//! What it stored (protocol 7.0) comes first: each segment is a stored recording of a point a second ([`trend`]), since a
//! night has 30,000 of them. A segment has no number; its first second since 2000 by the device's clock stands for one, so
//! that it is known again, and one without a time is left on the device. Segments are deleted, where that is allowed, only
//! when every point of every one came and is durable.
//! The rate of the waveform over Bluetooth is that of the family; the one capture does not state it.
//!
//! [`contec`]: kit_protocol::serial::contec
//! [`bci`]: kit_protocol::serial::bci
//! [`contec_bt`]: kit_protocol::serial::contec_bt

mod memory;
mod trend;

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::Rate;
use kit_protocol::serial::contec::{Command, FRAMES_PER_SECOND, Found, Framer, Heard, KEEP_ALIVE_SECONDS, Message, Realtime};
use kit_protocol::serial::framer;
use kit_protocol::serial::{bci, contec_bt};

use self::memory::{Memory, Next};
use crate::driver::{Allowed, Driver, Effect, Endpoint, Link, Pairing, PortSettings, Security, Start, Token};
use crate::session::streaming::{Io, Oximetry, Streaming, Talk};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "oximeter-contec",
    version: "1",
    links: &[Link::Serial(NEW_PORT), Link::Ble { advertises: &[], names: &["SpO2", "CMS50"], listens: &[NOTIFIES] }],
    protocol: "Contec CMS50 protocol 7.0, 5 octets, CMS50D-BT",
    gives: "SpO2, pulse, perfusion index, pleth; stored SpO2 and pulse",
    parameters: &[Mdc::SPO2, Mdc::PULSE_RATE, Mdc::PERFUSION_INDEX, Mdc::PLETH],
    security: Security::None,
    pairing: Pairing::None,
    memory: true,
    allowed: &[
        command("start-real-time", Effect::Stream, &[0x7d, 0x81, 0xa1]),
        command("stop-real-time", Effect::Stream, &[0x7d, 0x81, 0xa2]),
        command("number-of-segments", Effect::Ask, &[0x7d, 0x81, 0xa3]),
        command("length-of-segment", Effect::Ask, &[0x7d, 0x81, 0xa4]),
        command("start-of-segment", Effect::Ask, &[0x7d, 0x81, 0xa5]),
        command("send-segment", Effect::Ask, &[0x7d, 0x81, 0xa6]),
        command("stop-sending", Effect::Stream, &[0x7d, 0x81, 0xa7]),
        command("delete-segment", Effect::Delete, &[0x7d, 0x81, 0xae]),
        command("keep-alive", Effect::Converse, &[0x7d, 0x81, 0xaf]),
        Allowed { name: "start", effect: Effect::Stream, to: WRITES, at: 0, octets: &contec_bt::START },
    ],
    quirks: &[],
    session: |start| Box::new(session(&start)),
};

const SERVICE: u16 = 0xff12;
const WRITES: Endpoint = Endpoint::gatt(SERVICE, 0xff01);
const NOTIFIES: Endpoint = Endpoint::gatt(SERVICE, 0xff02);
const NEW_PORT: PortSettings = PortSettings { baud: 115_200, even_parity: false };
const OLD_PORT: PortSettings = PortSettings { baud: 19_200, even_parity: false };

const fn command(name: &'static str, effect: Effect, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect, to: Endpoint::SERIAL, at: 0, octets }
}

/// A device that says nothing for so long is tried in another way …
const SILENT: Duration = Duration::from_secs(3);
/// … so often at most.
const TRIES_MAX: u8 = 4;
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_SECONDS as u64);
const RATE: Rate = Rate { samples: FRAMES_PER_SECOND, seconds: 1 };

/// Octets that a device sends in a second, by the stream's first octet.
pub(crate) fn octets_per_second(stream: &[u8]) -> u64 {
    let frame = if stream.first().is_some_and(|first| first & 0x80 != 0) { bci::Frame::OCTETS } else { Command::OCTETS };
    u64::try_from(frame).unwrap_or(1) * u64::from(FRAMES_PER_SECOND)
}

fn session(start: &Start) -> Streaming<Contec> {
    let contec = Contec {
        stage: Stage::Trying { tried: 0, until: Moment::ZERO },
        line: Framer::default(),
        air: contec_bt::Framer::default(),
        from: Endpoint::SERIAL,
        memory: Memory::new(start.may_delete),
        keep_alive: None,
        air_numbers: None,
    };
    Streaming::new(contec, start)
}

/// ```text
/// Trying ─ packets ─▶ Remembering ─ memory is read ─▶ Live
///   └─ five octets, or Bluetooth ─────────────────────▶ Live
/// ```
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Nothing came yet.
    Trying { tried: u8, until: Moment },
    /// The memory is asked for; it knows until when it waits.
    Remembering,
    /// It sends what it measures.
    Live,
}

struct Contec {
    stage: Stage,
    line: Framer,
    air: contec_bt::Framer,
    from: Endpoint,
    memory: Memory,
    /// When a device of protocol 7.0 is told next that we are there.
    keep_alive: Option<Moment>,
    /// The last numbers over Bluetooth.
    air_numbers: Option<Oximetry>,
}

impl Talk for Contec {
    const LISTENS: &'static [(Endpoint, Option<Endpoint>)] =
        &[(Endpoint::SERIAL, Some(Endpoint::SERIAL)), (NOTIFIES, Some(WRITES))];
    const WHAT: &'static str = "no frame of a Contec oximeter";

    fn up(&mut self, now: Moment, from: Endpoint, io: &mut Io) {
        self.from = from;
        self.ask(io);
        self.stage = Stage::Trying { tried: 1, until: now + SILENT };
    }

    fn received(&mut self, now: Moment, octets: &[u8], io: &mut Io) -> bool {
        let mut any = false;
        if self.from == Endpoint::SERIAL {
            let mut framer = std::mem::take(&mut self.line);
            framer.push(octets, |found| any |= self.heard(now, found, io));
            self.line = framer;
        } else {
            let mut framer = std::mem::take(&mut self.air);
            framer.push(octets, |found| any |= self.notified(now, &found, io));
            self.air = framer;
        }
        any
    }

    fn finish(&mut self, now: Moment, io: &mut Io) {
        std::mem::take(&mut self.line).finish(|found| {
            self.heard(now, found, io);
        });
        std::mem::take(&mut self.air).finish(|found| {
            self.notified(now, &found, io);
        });
    }

    fn refill(&mut self, io: &mut Io) {
        self.memory.hand_over(io);
    }

    fn answered(&mut self, _now: Moment, reading: Token, stored: bool, io: &mut Io) {
        self.memory.answered(reading, stored);
        if let Some(commands) = self.memory.delete() {
            commands.into_iter().for_each(|command| io.write(command.encode()));
        }
    }

    fn timeout(&mut self, now: Moment, io: &mut Io) {
        if self.keep_alive.is_some_and(|at| at <= now) {
            io.write(Command::KeepAlive.encode());
            self.keep_alive = Some(now + KEEP_ALIVE);
        }
        match self.stage {
            Stage::Trying { tried, until } if until <= now => self.try_again(now, tried, io),
            Stage::Remembering if self.memory.waits_until().is_some_and(|until| until <= now) => {
                let next = self.memory.timeout(now, io);
                self.go_on(next, io);
            }
            _ => {}
        }
    }

    fn wakes(&self) -> Option<Moment> {
        let stage = match self.stage {
            Stage::Trying { until, .. } => Some(until),
            Stage::Remembering => self.memory.waits_until(),
            Stage::Live => None,
        };
        [stage, self.keep_alive].into_iter().flatten().min()
    }
}

impl Contec {
    /// Asks the device to speak: about its memory, which each of protocol 7.0 answers, or to send.
    fn ask(&mut self, io: &mut Io) {
        if self.from == Endpoint::SERIAL {
            for command in [Command::StopStored, Command::Stop, Command::AskSegments(memory::FIRST)] {
                io.write(command.encode());
            }
        } else {
            io.write(contec_bt::START.to_vec());
        }
    }

    fn try_again(&mut self, now: Moment, tried: u8, io: &mut Io) {
        if tried >= TRIES_MAX {
            return io.not_this_device(Self::WHAT);
        }
        if self.from != Endpoint::SERIAL {
            self.ask(io);
        } else if tried.is_multiple_of(2) {
            io.port(NEW_PORT);
            self.ask(io);
            // One that does not answer for its memory may send all the same.
            io.write(Command::Start.encode());
        } else {
            io.port(OLD_PORT);
        }
        self.stage = Stage::Trying { tried: tried + 1, until: now + SILENT };
    }

    fn heard(&mut self, now: Moment, found: Found, io: &mut Io) -> bool {
        match found {
            framer::Found::Skipped(octets) => {
                let frame = if self.keep_alive.is_some() { Command::OCTETS } else { bci::Frame::OCTETS };
                io.skipped(now, octets, u64::try_from(frame).unwrap_or(1));
                self.memory.spoil();
                return false;
            }
            framer::Found::Frame(Heard::Frame(frame)) => {
                self.stage = Stage::Live;
                five(now, &frame, io);
            }
            framer::Found::Frame(Heard::Message(message)) => {
                if matches!(self.stage, Stage::Trying { .. }) {
                    self.stage = Stage::Remembering;
                    self.keep_alive = Some(now + KEEP_ALIVE);
                    self.memory.begin(now);
                }
                match message {
                    Message::Realtime(realtime) => seven(now, &realtime, io),
                    message => {
                        let next = self.memory.message(now, &message, io);
                        if matches!(self.stage, Stage::Remembering) {
                            self.go_on(next, io);
                        }
                    }
                }
            }
        }
        io.outputs.tell_skipped(now, false);
        true
    }

    fn go_on(&mut self, next: Next, io: &mut Io) {
        match next {
            Next::Wait => {}
            Next::Ask(commands) => commands.into_iter().for_each(|command| io.write(command.encode())),
            Next::Done => {
                io.write(Command::StopStored.encode());
                io.write(Command::Start.encode());
                self.stage = Stage::Live;
            }
        }
    }

    fn notified(&mut self, now: Moment, found: &contec_bt::Found, io: &mut Io) -> bool {
        match *found {
            framer::Found::Skipped(octets) => {
                io.skipped(now, octets, 6);
                return false;
            }
            framer::Found::Frame(contec_bt::Frame::Wave { pleth, .. }) => {
                let artifact = self.air_numbers.as_ref().is_some_and(Oximetry::is_empty);
                io.sample(now, RATE, pleth.into(), artifact);
            }
            framer::Found::Frame(frame @ contec_bt::Frame::Numbers { pulse_rate, spo2, .. }) => {
                let some = |octet: u8| (octet != contec_bt::NONE).then_some(octet);
                // A pulse rate of 127 is one where SpO2 is there too.
                let pulse_rate = some(pulse_rate).or(some(spo2).map(|_| pulse_rate)).map(u16::from);
                let numbers = Oximetry { spo2: some(spo2), pulse_rate, ..Oximetry::default() };
                io.numbers(now, &numbers, || frame.encode());
                self.air_numbers = Some(numbers);
            }
        }
        self.stage = Stage::Live;
        io.outputs.tell_skipped(now, false);
        true
    }
}

fn five(now: Moment, frame: &bci::Frame, io: &mut Io) {
    let said = frame.contec();
    io.sample(now, RATE, frame.pleth.into(), said.unusable());
    let numbers = Oximetry {
        spo2: frame.spo2(),
        pulse_rate: frame.pulse_rate().map(u16::from),
        status: said.terms().collect(),
        ..Oximetry::default()
    };
    io.numbers(now, &numbers, || frame.encode().to_vec());
}

fn seven(now: Moment, realtime: &Realtime, io: &mut Io) {
    io.sample(now, RATE, realtime.pleth.into(), realtime.probe_error || realtime.searching);
    let said = [
        ("probe-error", realtime.probe_error),
        ("searching", realtime.searching),
        ("searching-too-long", realtime.searching_too_long),
        ("low-spo2", realtime.low_spo2),
    ];
    let numbers = Oximetry {
        spo2: realtime.spo2,
        pulse_rate: realtime.pulse_rate.map(u16::from),
        perfusion_index: Some(realtime.perfusion_index.map(hundredths)),
        status: said.into_iter().filter(|(_, said)| *said).map(|(term, _)| term).collect(),
        ..Oximetry::default()
    };
    io.numbers(now, &numbers, || Message::Realtime(*realtime).encode());
}

fn hundredths(index: u16) -> Decimal {
    Decimal::new(index.into(), -2)
}

#[cfg(test)]
mod tests;
