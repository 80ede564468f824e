//! Nonin oximeters on a serial line (OEM III, Xpod, iPod), data format 2.
//!
//! Port: 9600 baud, 8 data bits, no parity; the device sends unasked, 75 frames a second. Source: Nonin 6470-000-01 and
//! [`nonin_df2`]. Gives one reading of SpO2 and pulse rate every 10 s (averages of 4 beats, as the device states them) and
//! the pulse waveform as a continuous recording.
//! A hole jumps the recording by the frames that are known missing; where nobody can tell how many, the recording ends and
//! another begins. Readings come only out of packets that arrived whole.
//! Format 8 (4 octets a second) and format 13 (spot checks with their time, 9560 and 3230) are told from it by themselves: see
//! [`spot`]. A spot check out of the device's memory is a stored reading. Where the configuration names such a model, format 13
//! is selected, and the clock is set if that is allowed.
//!
//! [`nonin_df2`]: kit_protocol::serial::nonin_df2

mod placing;
mod spot;

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Channel, Kind, Measured, Quantity, Rate, RecordingHead, Special, Status, Value};
use kit_protocol::serial::nonin_df2::{FRAMES_PER_SECOND, Found, FrameStatus, Framer, Packet, Perfusion};

use self::placing::{Placed, Placer};
use self::spot::{Format, Spot};
use crate::driver::{
    Allowed, By, Command, Driver, DriverError, Effect, Endpoint, Event, Link, Output, Pairing, PortSettings, Security, Session,
    Start, Token,
};
use crate::outputs::Outputs;
use crate::wave::{self, Flags, Wave};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "oximeter-nonin",
    version: "1",
    links: &[Link::Serial(PortSettings { baud: 9600, even_parity: false })],
    protocol: "Nonin data formats 2, 8 and 13",
    gives: "SpO2, pulse, pleth",
    parameters: &[Mdc::SPO2, Mdc::PULSE_RATE, Mdc::PLETH],
    security: Security::None,
    pairing: Pairing::None,
    memory: true,
    allowed: &[
        Allowed { name: "select-format", effect: Effect::Stream, to: Endpoint::SERIAL, at: 0, octets: &[0x02, 0x70, 0x02, 0x02] },
        Allowed { name: "set-time", effect: Effect::SetClock, to: Endpoint::SERIAL, at: 0, octets: &[0x02, 0x72, 0x06] },
    ],
    quirks: &[],
    session: |start| Box::new(Oximeter::new(start)),
};

/// Octets that the device sends in a second.
pub(crate) const OCTETS_PER_SECOND: u64 = 5 * FRAMES_PER_SECOND as u64;
/// One reading every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// Signal in one block.
const BLOCK: Duration = Duration::from_secs(1);
/// A line that is quiet for so long: what is gathered is handed over.
const QUIET: Duration = Duration::from_secs(1);
/// Octets without a frame that prove that it is no data format 2: 10 s of a line at 9600 baud.
const STRANGE_OCTETS_MAX: u64 = 9_600;
const RATE: Rate = Rate { samples: FRAMES_PER_SECOND, seconds: 1 };

/// ```text
/// Waiting ──Up──▶ Listening ──frame──▶ Streaming
///    any ──Down──▶ Ended        └─ no frame in 9,600 octets: NotThisDevice ──▶ Ended
/// ```
#[derive(Debug)]
enum Stage {
    /// Not up yet.
    Waiting,
    /// Up, and no frame came yet; so many octets did.
    Listening { octets: u64 },
    /// Frames come; the last at this moment.
    Streaming { last: Moment },
    /// The link is down, or the device is another.
    Ended,
}

struct Oximeter {
    stage: Stage,
    framer: Framer,
    placer: Placer,
    spot: Spot,
    /// Octets that belong to no frame of format 2, while nobody knows whether they should.
    unclaimed: u64,
    outputs: Outputs,
    interval: Duration,
    /// No reading before this.
    next_reading: Option<Moment>,
    recording: Option<Recording>,
    recordings: u32,
    close: bool,
}

struct Recording {
    number: u32,
    /// The next frame's place in the recording.
    next: u64,
    wave: Wave,
}

impl Session for Oximeter {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (&self.stage, event) {
            (Stage::Waiting, Event::Up { .. }) => {
                self.stage = Stage::Listening { octets: 0 };
                self.spot.up(now, &mut self.outputs);
            }
            (Stage::Listening { octets }, Event::Received { octets: received, by: By::Serial | By::File, .. }) => {
                let octets = octets + u64::try_from(received.len()).unwrap_or(u64::MAX);
                self.stage = if self.received(now, received) {
                    Stage::Streaming { last: now }
                } else if octets <= STRANGE_OCTETS_MAX {
                    Stage::Listening { octets }
                } else {
                    self.outputs.error(DriverError::NotThisDevice("no frame of data format 2, 8 or 13 on this line".into()));
                    self.close = true;
                    Stage::Ended
                };
            }
            (Stage::Streaming { last }, Event::Received { octets, by: By::Serial | By::File, .. }) => {
                let last = *last;
                let last = if self.received(now, octets) { now } else { last };
                self.stage = Stage::Streaming { last };
            }
            (Stage::Listening { .. } | Stage::Streaming { .. }, Event::Down { .. }) => {
                self.finish(now);
                self.stage = Stage::Ended;
            }
            (Stage::Waiting, Event::Down { .. }) => self.stage = Stage::Ended,
            (_, Event::Stored { reading } | Event::Refused { reading }) => self.outputs.answered(reading),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.hand_over_gathered();
            self.outputs.tell_skipped(now, false);
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.spot.poll_command().or_else(|| std::mem::take(&mut self.close).then_some(Command::Close))
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        let gathered = self.recording.as_ref().is_some_and(|recording| recording.wave.gathers());
        match self.stage {
            Stage::Streaming { last } if gathered => Some(last + QUIET),
            _ => None,
        }
    }
}

impl Oximeter {
    fn new(start: Start) -> Self {
        Self {
            stage: Stage::Waiting,
            framer: Framer::default(),
            placer: Placer::default(),
            spot: Spot::new(&start),
            unclaimed: 0,
            outputs: Outputs::default(),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            next_reading: None,
            recording: None,
            recordings: 0,
            close: false,
        }
    }

    /// Takes in octets; true if a frame was among them.
    fn received(&mut self, now: Moment, octets: &[u8]) -> bool {
        if self.spot.format() != Some(Format::Two) {
            let spot = self.spot.received(now, octets, &mut self.outputs);
            if self.spot.format().is_some() {
                self.spot_checks(now);
                return spot;
            }
        }
        let mut found = Vec::new();
        self.framer.push(octets, |f| found.push(f));
        self.found(now, &found)
    }

    /// Readings of the formats that have no waveform.
    fn spot_checks(&mut self, now: Moment) {
        while let Some(found) = self.spot.poll() {
            match found {
                spot::Found::Numbers(measured) => self.numbers(now, measured),
                // Where nothing more can be taken in, the device keeps it: it will be asked for again.
                spot::Found::Check(measured) => {
                    if self.outputs.measured(measured).is_err() {
                        self.outputs.error(DriverError::Protocol("measurements come faster than they can be stored".into()));
                        self.close = true;
                        self.stage = Stage::Ended;
                    }
                }
                spot::Found::Skipped(skipped) => self.outputs.skipped(now, skipped),
                spot::Found::Refused(error) => self.outputs.error(error),
            }
        }
    }

    fn found(&mut self, now: Moment, found: &[Found]) -> bool {
        let any = found.iter().any(|found| matches!(found, Found::Frame(_)));
        if any && self.spot.format().is_none() {
            self.spot.is_two();
            let unclaimed = std::mem::take(&mut self.unclaimed);
            if unclaimed > 0 {
                self.outputs.skipped(now, unclaimed);
            }
        }
        for found in found {
            if self.spot.format().is_none()
                && let Found::Skipped(skipped) = found
            {
                self.unclaimed += skipped;
                continue;
            }
            let mut placed = Vec::new();
            self.placer.take(now, *found, &mut |p| placed.push(p));
            placed.into_iter().for_each(|placed| self.placed(now, placed));
            if let Found::Skipped(skipped) = found {
                self.outputs.skipped(now, *skipped);
            }
        }
        any
    }

    fn finish(&mut self, now: Moment) {
        if self.spot.format() != Some(Format::Two) {
            self.spot.finish(now);
            self.spot_checks(now);
        }
        let mut found = Vec::new();
        self.framer.finish(|f| found.push(f));
        self.found(now, &found);
        let mut placed = Vec::new();
        self.placer.finish(&mut |p| placed.push(p));
        placed.into_iter().for_each(|placed| self.placed(now, placed));
        self.end_recording();
        if self.spot.format().is_none() {
            self.outputs.skipped(now, self.unclaimed);
        }
        self.outputs.tell_skipped(now, true);
    }

    fn placed(&mut self, now: Moment, placed: Placed) {
        match placed {
            Placed::Packet(packet) => {
                self.packet(now, &packet);
                self.outputs.tell_skipped(now, false);
            }
            Placed::Frames(frames) => {
                let mut recording = self.recording.take().unwrap_or_else(|| self.begin_recording());
                for held in frames {
                    let flags = Flags { artifact: held.frame.status.0 & UNUSABLE != 0, ..Flags::default() };
                    let sample = std::iter::once(i32::from(held.frame.pleth));
                    let block = recording.wave.push(sample, recording.next, None, held.at, flags);
                    recording.next += 1;
                    block.into_iter().for_each(|block| self.hand_over(recording.number, block));
                }
                self.recording = Some(recording);
            }
            Placed::Lost(count) => {
                self.hand_over_gathered();
                if let Some(recording) = &mut self.recording {
                    self.outputs.error(DriverError::SamplesLost { recording: recording.number, first: recording.next, count });
                    recording.next += count;
                }
            }
            Placed::Broken => {
                self.hand_over_gathered();
                if let Some(recording) = &self.recording {
                    // How many is not known: the span in time is what is missed.
                    self.outputs.error(DriverError::SamplesLost { recording: recording.number, first: recording.next, count: 0 });
                }
                self.end_recording();
            }
        }
    }

    fn begin_recording(&mut self) -> Recording {
        self.recordings += 1;
        let number = self.recordings;
        let channel = Channel { code: Mdc::PLETH, scale: Decimal::whole(1), unit: "1", filter: String::new() };
        self.outputs.begin(number, RecordingHead::live(Kind::Pleth, vec![channel], RATE));
        Recording { number, next: 0, wave: Wave::new(1, RATE, BLOCK) }
    }

    fn end_recording(&mut self) {
        self.hand_over_gathered();
        if let Some(recording) = self.recording.take() {
            self.outputs.end(recording.number);
        }
    }

    fn hand_over_gathered(&mut self) {
        let gathered = self.recording.as_mut().and_then(|recording| Some((recording.number, recording.wave.cut()?)));
        if let Some((number, block)) = gathered {
            self.hand_over(number, block);
        }
    }

    fn hand_over(&mut self, recording: u32, block: Block) {
        let span = wave::span(u64::try_from(block.samples.len()).unwrap_or(u64::MAX), RATE);
        self.outputs.samples(recording, block, 1, span);
    }

    /// One reading every interval, out of the first whole packet that has a value.
    fn packet(&mut self, now: Moment, packet: &Packet) {
        if packet.spo2.is_some() || packet.heart_rate.is_some() {
            self.numbers(now, measured(now, packet));
        }
    }

    fn numbers(&mut self, now: Moment, measured: Measured) {
        if self.next_reading.is_some_and(|next| now < next) {
            return;
        }
        // Where nothing more can be taken in, the value is not taken: the next one comes with the next packet.
        if self.outputs.measured(measured).is_ok() {
            self.next_reading = Some(now + self.interval);
        }
    }
}

/// Bits of a frame's status that say that its sample is no pulse.
const UNUSABLE: u8 =
    FrameStatus::SENSOR_DISCONNECT | FrameStatus::ARTIFACT | FrameStatus::OUT_OF_TRACK | FrameStatus::SENSOR_ALARM;

fn measured(now: Moment, packet: &Packet) -> Measured {
    let value = |code, number: Option<i64>, unit| Value {
        code,
        quantity: number.map_or(Quantity::Special(Special::NotAvailable), |number| Quantity::Number(Decimal::whole(number))),
        unit,
    };
    Measured {
        values: vec![
            value(Mdc::SPO2, packet.spo2.map(i64::from), "%"),
            value(Mdc::PULSE_RATE, packet.heart_rate.map(i64::from), "/min"),
        ],
        status: status(packet),
        octets: packet.to_octets(),
        ..Measured::new(Kind::PulseOximetry, now)
    }
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
