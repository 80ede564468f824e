//! Nonin oximeters: the serial modules and handhelds (OEM III, Xpod, iPod, WristOx, 9560) and the 3230 over Bluetooth.
//!
//! Port: 9600 baud, 8 data bits, no parity. Source: Nonin 6470-000-01 and [`nonin_df2`]. In formats 2 and 7 the device sends
//! unasked, 75 frames a second: a reading of SpO2 and pulse rate every 10 s (averages of 4 beats, as the device states them)
//! and the pulse waveform, of 8 or of 16 bits, as a continuous recording. Which of the two it is, [`telling`] finds out.
//! A hole jumps the recording by the frames that are known missing; where nobody can tell how many, the recording ends and
//! another begins. Readings come only out of packets that arrived whole.
//! Format 8 (4 octets a second) and format 13 (spot checks with their time, 9560 and 3230) are told from it by themselves: see
//! [`spot`]. A spot check out of the device's memory is a stored reading. Where the configuration names such a model, format 13
//! is selected, and the clock is set if that is allowed.
//! Over Bluetooth the device notifies its numbers once a second ([`nonin_3230`]); nothing is written to it.
//!
//! [`nonin_df2`]: kit_protocol::serial::nonin_df2
//! [`nonin_3230`]: kit_protocol::serial::nonin_3230

mod placing;
mod spot;
mod telling;

use std::collections::VecDeque;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Measured, Rate, Status};
use kit_protocol::serial::nonin_3230;
use kit_protocol::serial::nonin_df2::{FRAMES_PER_SECOND, FrameStatus, Packet, Perfusion};
use uuid::{Uuid, uuid};

use self::placing::{Placed, Placer};
use self::spot::Spot;
use self::telling::{Heard, Telling, Wide};
use crate::driver::{Allowed, Driver, DriverError, Effect, Endpoint, Link, Pairing, PortSettings, Security, Start, Token};
use crate::session::streaming::{Io, Oximetry, Streaming, Talk};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "oximeter-nonin",
    version: "2",
    links: &[
        Link::Serial(PortSettings { baud: 9600, even_parity: false }),
        Link::Ble { advertises: &[SERVICE], names: &[], listens: &[NOTIFIES] },
    ],
    protocol: "Nonin data formats 2, 7, 8 and 13; Nonin Oximetry Service",
    gives: "SpO2, pulse, perfusion index, pleth",
    parameters: &[Mdc::SPO2, Mdc::PULSE_RATE, Mdc::PERFUSION_INDEX, Mdc::PLETH],
    security: Security::None,
    pairing: Pairing::None,
    memory: true,
    allowed: &[
        Allowed { name: "select-format", effect: Effect::Stream, to: Endpoint::SERIAL, at: 0, octets: &[0x02, 0x70, 0x02, 0x02] },
        Allowed { name: "set-time", effect: Effect::SetClock, to: Endpoint::SERIAL, at: 0, octets: &[0x02, 0x72, 0x06] },
    ],
    quirks: &[],
    session: |start| Box::new(session(&start)),
};

const SERVICE: Uuid = uuid!("46a970e0-0d5f-11e2-8b5e-0002a5d5c51b");
const NOTIFIES: Endpoint = Endpoint { service: SERVICE, characteristic: CONTINUOUS_OXIMETRY };
/// The Nonin Continuous Oximetry Characteristic.
pub(crate) const CONTINUOUS_OXIMETRY: Uuid = uuid!("0aad7ea0-0d60-11e2-8e3c-0002a5d5c51b");

/// Octets that a device sends in a second.
pub(crate) const OCTETS_PER_SECOND: u64 = 5 * FRAMES_PER_SECOND as u64;
const RATE: Rate = Rate { samples: FRAMES_PER_SECOND, seconds: 1 };
/// Spot checks that wait for room, at most: fifty memories of a 9560, which holds 20.
const CHECKS_WAITING_MAX: usize = 1_000;

fn session(start: &Start) -> Streaming<Nonin> {
    let nonin = Nonin { telling: Telling::default(), placer: Placer::default(), spot: Spot::new(start), checks: VecDeque::new() };
    Streaming::new(nonin, start)
}

struct Nonin {
    telling: Telling,
    placer: Placer,
    spot: Spot,
    /// Spot checks for which there was no room yet.
    checks: VecDeque<Measured>,
}

impl Talk for Nonin {
    const LISTENS: &'static [(Endpoint, Option<Endpoint>)] = &[(Endpoint::SERIAL, Some(Endpoint::SERIAL)), (NOTIFIES, None)];
    const WHAT: &'static str = "no frame of data format 2, 7, 8 or 13 on this line";

    fn up(&mut self, now: Moment, from: Endpoint, io: &mut Io) {
        if from == Endpoint::SERIAL {
            self.spot.up(now, io);
        }
    }

    fn received(&mut self, now: Moment, octets: &[u8], io: &mut Io) -> bool {
        if io.listens_to(NOTIFIES) {
            return notified(now, octets, io);
        }
        if !self.telling.known() {
            let any = self.spot.received(now, octets, &mut io.outputs);
            if self.spot.format().is_some() {
                self.spot_checks(now, io);
                return any;
            }
        }
        let mut heard = Vec::new();
        self.telling.push(now, octets, &mut |h| heard.push(h));
        self.heard(now, heard, io);
        self.telling.known()
    }

    fn finish(&mut self, now: Moment, io: &mut Io) {
        if !self.telling.known() {
            self.spot.finish();
            self.spot_checks(now, io);
        }
        if self.spot.format().is_none() {
            let mut heard = Vec::new();
            self.telling.finish(now, &mut |h| heard.push(h));
            self.heard(now, heard, io);
            let mut placed = Vec::new();
            self.placer.finish(&mut |p| placed.push(p));
            placed.into_iter().for_each(|placed| place(now, placed, io));
        }
    }

    fn answered(&mut self, _now: Moment, _reading: Token, _stored: bool, io: &mut Io) {
        self.hand_over_checks(io);
    }
}

impl Nonin {
    fn heard(&mut self, now: Moment, heard: Vec<Heard>, io: &mut Io) {
        for heard in heard {
            let mut placed = Vec::new();
            match heard {
                Heard::Frame(at, Wide { frame, pleth }) => self.placer.frame(frame, pleth, at, &mut |p| placed.push((at, p))),
                Heard::Skipped(at, octets) => {
                    self.placer.skipped(octets);
                    io.outputs.skipped(at, octets);
                }
                // Before the first frame nobody knows whether they should have been one.
                Heard::Unclaimed(octets) => io.outputs.skipped(now, octets),
            }
            placed.into_iter().for_each(|(at, placed)| place(at, placed, io));
        }
    }

    /// Readings of the formats that have no waveform.
    fn spot_checks(&mut self, now: Moment, io: &mut Io) {
        while let Some(found) = self.spot.poll() {
            match found {
                spot::Found::Numbers(numbers, octets) => io.numbers(now, &numbers, || octets),
                spot::Found::Check(_) if self.checks.len() >= CHECKS_WAITING_MAX => {
                    // The device keeps what it could not send: it is asked again.
                    io.broken_protocol("spot checks come faster than they can be stored");
                }
                spot::Found::Check(measured) => self.checks.push_back(measured),
                spot::Found::Skipped(skipped) => io.outputs.skipped(now, skipped),
                spot::Found::Refused(error) => io.outputs.error(error),
            }
        }
        self.hand_over_checks(io);
    }

    fn hand_over_checks(&mut self, io: &mut Io) {
        while io.outputs.room_for_measurement()
            && let Some(check) = self.checks.pop_front()
        {
            // There is room.
            let _token = io.outputs.measured(check);
        }
    }
}

fn place(now: Moment, placed: Placed, io: &mut Io) {
    match placed {
        Placed::Packet(packet) => {
            io.numbers(now, &oximetry(&packet), || packet.to_octets());
            io.outputs.tell_skipped(now, false);
        }
        Placed::Frames(frames) => {
            for held in frames {
                io.sample(held.at, RATE, held.pleth.into(), held.frame.status.0 & UNUSABLE != 0);
            }
        }
        Placed::Lost(count) => io.lost(count),
        Placed::Broken => io.broken(),
    }
}

/// A value of the 3230.
fn notified(now: Moment, octets: &[u8], io: &mut Io) -> bool {
    match nonin_3230::Oximetry::decode(octets) {
        Ok(said) => {
            let index = Some(said.pulse_amplitude_index).filter(|index| *index != 0);
            let numbers = Oximetry {
                spo2: said.spo2,
                pulse_rate: said.pulse_rate,
                perfusion_index: Some(index.map(|index| Decimal::new(index.into(), -2))),
                status: said.terms().collect(),
                ..Oximetry::default()
            };
            io.numbers(now, &numbers, || said.encode().to_vec());
            true
        }
        Err(error) => {
            let (reason, octets) = (error.to_string(), octets.to_vec());
            io.outputs.error(DriverError::Undecodable { what: "Nonin oximetry", reason, octets });
            false
        }
    }
}

/// Bits of a frame's status that say that its sample is no pulse.
const UNUSABLE: u8 =
    FrameStatus::SENSOR_DISCONNECT | FrameStatus::ARTIFACT | FrameStatus::OUT_OF_TRACK | FrameStatus::SENSOR_ALARM;

fn oximetry(packet: &Packet) -> Oximetry {
    Oximetry { spo2: packet.spo2, pulse_rate: packet.heart_rate, status: status(packet), ..Oximetry::default() }
}

/// What the frames of a packet say, each once.
fn status(packet: &Packet) -> Vec<Status> {
    let any = |bit: u8| packet.status.iter().any(|status| status.has(bit));
    let perfusion = |perfusion: Perfusion| packet.status.iter().any(|status| status.perfusion() == Some(perfusion));
    [
        ("sensor-disconnect", any(FrameStatus::SENSOR_DISCONNECT)),
        ("artifact", any(FrameStatus::ARTIFACT)),
        ("out-of-track", any(FrameStatus::OUT_OF_TRACK)),
        ("sensor-alarm", any(FrameStatus::SENSOR_ALARM)),
        ("low-perfusion", perfusion(Perfusion::Red)),
        ("marginal-perfusion", perfusion(Perfusion::Yellow)),
        ("smart-point", packet.status2 & Packet::SMART_POINT != 0),
    ]
    .into_iter()
    .filter(|(_, stated)| *stated)
    .map(|(term, _)| term)
    .collect()
}

#[cfg(test)]
mod tests;
