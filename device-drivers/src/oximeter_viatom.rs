//! Oximeters of Viatom (Lepu, Wellue): PC-60FW, and O2Ring with its relations, over Bluetooth.
//!
//! A PC-60FW notifies at the Nordic UART Service unasked; an O2Ring answers at 14839AC4-7D7E-415C-9A42-167340CF2339 when
//! asked, once a second with its waveform (1B), or, where it does not know that, without (17). Source: [`pc60fw`] and
//! [`o2ring`]. O2Ring S speaks another protocol at another service and is not one of these.
//! A PC-60FW's waveform has 50 samples a second and an O2Ring's 125 by the maker's programs, which the octets do not state.
//! An O2Ring keeps its waveform for a short time only, and numbers nothing: that it had to drop some before it was asked again
//! shows in how long its samples last. What it kept before it was first asked is left out: nobody knows who wore it then.
//!
//! [`pc60fw`]: kit_protocol::serial::pc60fw
//! [`o2ring`]: kit_protocol::serial::o2ring

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::battery_level::BatteryLevel;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::Rate;
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::o2ring::{self, Frame, Numbers};
use kit_protocol::serial::{aa55, pc60fw};
use uuid::{Uuid, uuid};

use crate::driver::{Allowed, Driver, DriverError, Effect, Endpoint, Link, Pairing, Security, Start};
use crate::session::streaming::{Io, Oximetry, Streaming, Talk};
use crate::session::wave::span;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "oximeter-viatom",
    version: "1",
    links: &[Link::Ble {
        advertises: &[],
        names: &["PC-60F", "O2Ring", "CheckO2", "Checkme_O2", "SleepO2", "KidsO2", "O2M"],
        listens: &[UART_NOTIFIES, RING_NOTIFIES],
    }],
    protocol: "Viatom PC-60FW, O2Ring",
    gives: "SpO2, pulse, perfusion index, pleth",
    parameters: &[Mdc::SPO2, Mdc::PULSE_RATE, Mdc::PERFUSION_INDEX, Mdc::PLETH],
    security: Security::None,
    pairing: Pairing::None,
    memory: false,
    allowed: &[asks("numbers", &[0xaa, Frame::LIVE]), asks("numbers-and-waveform", &[0xaa, Frame::WAVE])],
    quirks: &[],
    session: |start| Box::new(session(&start)),
};

const UART: Uuid = uuid!("6e400001-b5a3-f393-e0a9-e50e24dcca9e");
const UART_NOTIFIES: Endpoint = Endpoint { service: UART, characteristic: uuid!("6e400003-b5a3-f393-e0a9-e50e24dcca9e") };
const RING: Uuid = uuid!("14839ac4-7d7e-415c-9a42-167340cf2339");
const RING_NOTIFIES: Endpoint = Endpoint { service: RING, characteristic: uuid!("0734594a-a8e7-4b1a-a6b1-cd5243059a57") };
const RING_WRITES: Endpoint = Endpoint { service: RING, characteristic: uuid!("8b00ace7-eb0b-49b0-bbe9-9aee0a26e1a3") };

const fn asks(name: &'static str, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect: Effect::Ask, to: RING_WRITES, at: 0, octets }
}

/// An O2Ring is asked this often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// After so many questions without an answer its memory of the waveform may have run over …
const UNANSWERED_WHOLE_MAX: u8 = 2;
/// … after so many for the waveform, where it never gave one, it is asked for numbers only …
const UNANSWERED_WAVE_MAX: u8 = 3;
/// … and after so many questions in a row it is given up.
const UNANSWERED_MAX: u8 = 30;
const FINGER_RATE: Rate = Rate { samples: 50, seconds: 1 };
const RING_RATE: Rate = Rate { samples: 125, seconds: 1 };
/// The octets of an O2Ring's answer that are no waveform.
const WAVE_HEAD_OCTETS: usize = 12;
/// The octets of an answer without one.
const LIVE_OCTETS: usize = 13;
/// Samples that come so much later than those before let expect were not all that were made: a question and its answer may
/// wait for less on a good link.
const LATE_MAX: Duration = Duration::from_millis(500);
/// An answer with more than this comes after a question too many was late: it may be all that the ring could keep.
const WHOLE_MAX: Duration = Duration::from_millis(1_500);
/// What is expected comes of so many answers before: the two clocks need not agree for longer.
const ANSWERS_COMPARED: usize = 8;

fn session(start: &Start) -> Streaming<Viatom> {
    Streaming::new(Viatom::default(), start)
}

#[derive(Default)]
struct Viatom {
    finger: aa55::Framer,
    ring: o2ring::Framer,
    /// What an O2Ring is asked for, and when next; `None` with a PC-60FW.
    asks: Option<(u8, Moment)>,
    /// Whether it can be asked at all, and so what its answers answer.
    asked: bool,
    unanswered: u8,
    wave: RingWave,
    /// Whether the last numbers of a PC-60FW were none.
    nothing: bool,
}

/// What the answers with a waveform say of one that may have run over.
#[derive(Default)]
struct RingWave {
    /// It gave one: it need not be asked for anything else.
    given: bool,
    /// When each of the last answers came, less what all samples since the first of them last.
    began: VecDeque<Moment>,
    /// What the samples since the first answer last.
    lasted: Duration,
}

impl RingWave {
    /// Takes in that so many samples came; whether some before them did not.
    fn came(&mut self, now: Moment, samples: usize) -> bool {
        let lasts = span(u64::try_from(samples).unwrap_or(u64::MAX), RING_RATE);
        // It cannot be told how long the first ones waited.
        if !self.began.is_empty() {
            self.lasted += lasts;
        }
        let began = now - self.lasted;
        let late = self.began.iter().min().is_some_and(|earliest| began.since(*earliest) > LATE_MAX);
        let ran_over = late || lasts > WHOLE_MAX;
        if ran_over {
            self.forget();
            self.began.push_back(now);
        } else {
            self.began.push_back(began);
            self.began.drain(..self.began.len().saturating_sub(ANSWERS_COMPARED));
        }
        ran_over
    }

    fn forget(&mut self) {
        self.began.clear();
        self.lasted = Duration::ZERO;
    }
}

impl Talk for Viatom {
    const LISTENS: &'static [(Endpoint, Option<Endpoint>)] = &[(UART_NOTIFIES, None), (RING_NOTIFIES, Some(RING_WRITES))];
    const WHAT: &'static str = "no frame of a Viatom oximeter";

    fn up(&mut self, now: Moment, from: Endpoint, io: &mut Io) {
        if from == RING_NOTIFIES && io.writes() {
            self.asked = true;
            self.asks = Some((Frame::WAVE, now));
            self.timeout(now, io);
        }
    }

    fn received(&mut self, now: Moment, octets: &[u8], io: &mut Io) -> bool {
        let (mut finger, mut ring) = (std::mem::take(&mut self.finger), std::mem::take(&mut self.ring));
        let mut any = false;
        if io.listens_to(RING_NOTIFIES) {
            ring.push(octets, |found| any |= self.rung(now, found, io));
        } else {
            finger.push(octets, |found| any |= self.fingered(now, found, io));
        }
        (self.finger, self.ring) = (finger, ring);
        any
    }

    fn finish(&mut self, now: Moment, io: &mut Io) {
        std::mem::take(&mut self.ring).finish(|found| {
            self.rung(now, found, io);
        });
        std::mem::take(&mut self.finger).finish(|found| {
            self.fingered(now, found, io);
        });
    }

    fn timeout(&mut self, now: Moment, io: &mut Io) {
        let Some((command, _)) = self.asks else { return };
        if self.unanswered >= UNANSWERED_MAX {
            return io.broken_protocol("the device does not answer");
        }
        let numbers_only = self.unanswered >= UNANSWERED_WAVE_MAX && !self.wave.given;
        let command = if numbers_only { Frame::LIVE } else { command };
        if self.unanswered >= UNANSWERED_WHOLE_MAX {
            self.wave.forget();
            io.broken();
        }
        self.unanswered += 1;
        self.asks = Some((command, now + ASK_EVERY));
        io.write(Frame::request(command).encode());
    }

    fn wakes(&self) -> Option<Moment> {
        self.asks.map(|(_, at)| at)
    }
}

impl Viatom {
    fn fingered(&mut self, now: Moment, found: aa55::Found, io: &mut Io) -> bool {
        let frame = match found {
            Found::Skipped(octets) => {
                io.broken();
                io.outputs.skipped(now, octets);
                return false;
            }
            Found::Frame(frame) => frame,
        };
        match pc60fw::Message::of(&frame) {
            Ok(pc60fw::Message::Numbers { spo2, pulse_rate, perfusion_index, .. }) => {
                let numbers = Oximetry {
                    spo2: Some(spo2),
                    pulse_rate: Some(pulse_rate),
                    perfusion_index: Some(tenths(perfusion_index)),
                    ..Oximetry::default()
                };
                self.nothing = numbers.is_empty();
                io.numbers(now, &numbers, || frame.encode());
            }
            Ok(pc60fw::Message::Wave { pleth, .. }) => {
                pleth.into_iter().for_each(|sample| io.sample(now, FINGER_RATE, sample.into(), self.nothing));
            }
            Ok(pc60fw::Message::Unknown) => {}
            Err(error) => {
                io.outputs.error(DriverError::Undecodable {
                    what: "PC-60FW frame",
                    reason: error.to_string(),
                    octets: frame.encode(),
                });
            }
        }
        io.outputs.tell_skipped(now, false);
        true
    }

    fn rung(&mut self, now: Moment, found: o2ring::Found, io: &mut Io) -> bool {
        let frame = match found {
            Found::Skipped(octets) => {
                io.broken();
                io.outputs.skipped(now, octets);
                return false;
            }
            Found::Frame(frame) => frame,
        };
        if frame.request || frame.code != 0 {
            return true;
        }
        let waves = self.waves(&frame.data);
        let numbers = if waves { Numbers::wave(&frame.data) } else { Numbers::live(&frame.data) };
        match numbers {
            Ok(mut numbers) => {
                if waves && !self.waved(now, numbers.wave.len(), io) {
                    numbers.wave.clear();
                }
                self.numbers(now, &numbers, &frame, io);
            }
            Err(error) => io.outputs.error(DriverError::Undecodable {
                what: "O2Ring answer",
                reason: error.to_string(),
                octets: frame.encode(),
            }),
        }
        io.outputs.tell_skipped(now, false);
        true
    }

    /// Whether an answer is one with a waveform: by what was asked, and by its length in a record of others' conversation, or
    /// where it comes so late that something else was asked since.
    fn waves(&self, data: &[u8]) -> bool {
        if self.asked && self.asks.is_some_and(|(command, _)| command == Frame::WAVE) {
            return true;
        }
        let stated = data.get(10..WAVE_HEAD_OCTETS).and_then(|length| length.try_into().ok()).map(u16::from_le_bytes);
        let told_by_length = !self.asked || data.len() > LIVE_OCTETS;
        told_by_length && stated.is_some_and(|stated| usize::from(stated) + WAVE_HEAD_OCTETS == data.len())
    }

    /// An answer with so many samples came; whether they are of this conversation.
    fn waved(&mut self, now: Moment, samples: usize, io: &mut Io) -> bool {
        let first = !std::mem::replace(&mut self.wave.given, true);
        if let Some((command, _)) = &mut self.asks {
            *command = Frame::WAVE;
        }
        if samples == 0 {
            // There is no signal: what comes next is another.
            self.wave.forget();
            io.end_pleth();
        } else if self.wave.came(now, samples) && self.asked {
            io.broken();
        }
        !(first && self.asked)
    }

    fn numbers(&mut self, now: Moment, numbers: &Numbers, frame: &Frame, io: &mut Io) {
        self.unanswered = 0;
        let said = [("finger-out", !numbers.worn), ("low-battery", BatteryLevel(numbers.battery) <= BatteryLevel::LOW)];
        let oximetry = Oximetry {
            spo2: Some(numbers.spo2).filter(|spo2| *spo2 != u8::MAX),
            pulse_rate: Some(numbers.pulse_rate).filter(|rate| *rate != u16::MAX),
            perfusion_index: Some(tenths(numbers.perfusion_index)),
            status: said.into_iter().filter(|(_, said)| *said).map(|(term, _)| term).collect(),
            ..Oximetry::default()
        };
        for sample in &numbers.wave {
            io.sample(now, RING_RATE, (*sample).into(), !numbers.worn || oximetry.is_empty());
        }
        io.numbers(now, &oximetry, || frame.encode());
    }
}

fn tenths(index: u8) -> Option<Decimal> {
    (index != 0).then(|| Decimal::new(index.into(), -1))
}

#[cfg(test)]
mod tests;
