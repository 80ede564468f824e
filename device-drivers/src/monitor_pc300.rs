//! The multiparameter monitor PC-300 (Creative, Lepu): cuff, oximeter, thermometer, glucose meter and one ECG lead in one box.
//!
//! Bluetooth: service 0xFFF0, notifications of 0xFFF1, writes to 0xFFF2; frames are cut to notifications anyhow. Serial port,
//! or Bluetooth's serial port profile: the same frames (115,200 baud is an assumption; the profile has no baud rate).
//! Source: [`pc300`], LepuBle 46c1de4. The monitor sends unasked what it measures when its own buttons are pressed, without
//! record numbers or times, and it keeps nothing for later. A result is a reading; of SpO2 and pulse, and of the pressure in
//! a cuff that measures, one every 10 s is; pulse wave and ECG are recordings.
//! A cuff that gave no result, a thermometer that found no value and what is no frame's meaning are refusals with a reason.
//! It has commands that inflate the cuff (40/01), and others that start or set something; the one frame that is ever written
//! asks for versions and battery.
//!
//! [`pc300`]: kit_protocol::serial::pc300

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Kind, Measured, Quantity, Rate, RecordingHead, Special, Status, Value};
use kit_protocol::serial::aa55::{self, Frame};
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::pc300::{
    BloodPressure, CuffPressure, ECG_RATE_HZ, ECG_SAMPLES, EcgBlock, EcgResult, Glucose, GlucoseUnit, Message, Oximetry,
    PLETH_RATE_HZ, Temperature, TemperatureState,
};

use crate::driver::{
    Allowed, Command, Driver, DriverError, Effect, Endpoint, Event, Link, Output, Pairing, PortSettings, Security, Session,
    Start, Token,
};
use crate::session::outputs::Outputs;
use crate::session::track::{Numbers, Track};
use crate::session::wave::Flags;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "monitor-pc300",
    version: "1",
    links: &[
        Link::Ble { advertises: &[], names: &["PC_300SNT", "PC-300", "PC300"], listens: &[NOTIFY] },
        Link::Serial(PortSettings { baud: 115_200, even_parity: false }),
    ],
    protocol: "Creative PC-300 frames (AA 55)",
    gives: "systolic, diastolic, mean, pulse, SpO2, perfusion index, temperature, glucose, ECG, pleth",
    parameters: &[
        Mdc::SYSTOLIC,
        Mdc::DIASTOLIC,
        Mdc::MEAN_ARTERIAL_PRESSURE,
        Mdc::PULSE_RATE_CUFF,
        Mdc::CUFF_PRESSURE,
        Mdc::SPO2,
        Mdc::PULSE_RATE,
        Mdc::PERFUSION_INDEX,
        Mdc::BODY_TEMPERATURE,
        GLUCOSE,
        Mdc::HEART_RATE,
        Mdc::ECG,
        Mdc::PLETH,
    ],
    security: Security::None,
    pairing: Pairing::Bond,
    memory: false,
    allowed: &[
        Allowed { name: "device-information", effect: Effect::Ask, to: WRITE, at: 0, octets: &ASK_INFORMATION },
        Allowed { name: "device-information", effect: Effect::Ask, to: Endpoint::SERIAL, at: 0, octets: &ASK_INFORMATION },
    ],
    quirks: &[],
    session: |start| Box::new(Monitor::new(&start)),
};

const NOTIFY: Endpoint = Endpoint::gatt(0xfff0, 0xfff1);
const WRITE: Endpoint = Endpoint::gatt(0xfff0, 0xfff2);
/// Token FF, kind 02, no content.
const ASK_INFORMATION: [u8; 6] = [0xaa, 0x55, 0xff, 0x02, 0x02, 0x28];
/// Glucose of whole blood, taken nobody says where: the monitor passes on what a meter told it.
const GLUCOSE: Mdc = Mdc(160_364);

/// One reading of what the monitor sends again and again every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// A command is answered within this: the time of an ATT transaction.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A wave that stops for so long has ended: its frames come 25 and 6 times a second.
const QUIET: Duration = Duration::from_secs(2);
/// Octets without a frame that prove that it is no PC-300.
const STRANGE_OCTETS_MAX: u64 = 4_096;
/// More ECG blocks in a row than this cannot be told missing: the counter goes round.
const ECG_BLOCKS_MISSING_MAX: u8 = 60;

/// ```text
/// Waiting ──Up──▶ Subscribing (radio only) ──▶ Listening ──frame──▶ Talking
///    any ──Down──▶ Ended      └─ refused, or no frame in 4,096 octets ──▶ Ended
/// ```
#[derive(Debug)]
enum Stage {
    Waiting,
    Subscribing {
        command: Token,
        until: Moment,
    },
    /// No frame came yet; so many octets did.
    Listening {
        octets: u64,
    },
    Talking,
    Ended,
}

struct Monitor {
    stage: Stage,
    framer: aa55::Framer,
    outputs: Outputs,
    commands: VecDeque<Command>,
    interval: Duration,
    /// No reading of these before then.
    next_oximetry: Option<Moment>,
    next_cuff_pressure: Option<Moment>,
    numbers: Numbers,
    pleth: Track,
    ecg: Option<Ecg>,
    /// Counts per mV that the monitor stated.
    ecg_gain: Option<u16>,
    /// When the last wave frame came.
    last_wave: Moment,
    probe_off: bool,
    battery_low: bool,
    ble_write: bool,
}

/// An ECG under way.
struct Ecg {
    track: Track,
    twelve_bits: bool,
    sequence: u8,
}

impl Session for Monitor {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (&self.stage, event) {
            (Stage::Waiting, Event::Up { has, .. }) => self.up(now, has),
            (Stage::Subscribing { command, .. }, Event::Done { command: done }) if *command == done => {
                self.stage = Stage::Listening { octets: 0 };
                if self.ble_write {
                    self.ask_information(WRITE);
                }
            }
            (Stage::Subscribing { command, .. }, Event::Failed { command: failed, .. }) if *command == failed => {
                self.give_up(DriverError::Protocol("the monitor refused the subscription".into()));
            }
            (Stage::Waiting | Stage::Ended, Event::Received { .. }) => {}
            (_, Event::Received { from, octets, .. }) if from == NOTIFY || from == Endpoint::SERIAL => self.received(now, octets),
            (_, Event::Down { .. }) => self.down(now),
            (_, Event::Stored { reading } | Event::Refused { reading }) => self.outputs.answered(reading),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        match self.stage {
            Stage::Subscribing { .. } => self.give_up(DriverError::Protocol("the subscription was not answered".into())),
            _ => self.end_waves(),
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        let waves = self.pleth.under_way() || self.ecg.is_some();
        match self.stage {
            Stage::Subscribing { until, .. } => Some(until),
            Stage::Talking if waves => Some(self.last_wave + QUIET),
            _ => None,
        }
    }
}

/// Setting up, taking in, ending.
impl Monitor {
    fn new(start: &Start) -> Self {
        Self {
            stage: Stage::Waiting,
            framer: aa55::Framer::default(),
            outputs: Outputs::default(),
            commands: VecDeque::new(),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            next_oximetry: None,
            next_cuff_pressure: None,
            numbers: Numbers::default(),
            pleth: Track::new(head(Kind::Pleth, Mdc::PLETH, Decimal::whole(1), "1", PLETH_RATE_HZ)),
            ecg: None,
            ecg_gain: None,
            last_wave: Moment::ZERO,
            probe_off: false,
            battery_low: false,
            ble_write: false,
        }
    }

    fn up(&mut self, now: Moment, has: &[Endpoint]) {
        if has.contains(&Endpoint::SERIAL) {
            self.stage = Stage::Listening { octets: 0 };
            self.ask_information(Endpoint::SERIAL);
        } else if has.contains(&NOTIFY) {
            self.ble_write = has.contains(&WRITE);
            let command = self.outputs.token();
            self.commands.push_back(Command::Subscribe(command, NOTIFY));
            self.stage = Stage::Subscribing { command, until: now + ANSWER_MAX };
        } else {
            self.give_up(DriverError::NotThisDevice("no characteristic 0xFFF1 to subscribe to".into()));
        }
    }

    /// Whether it is answered matters to no measurement.
    fn ask_information(&mut self, to: Endpoint) {
        let token = self.outputs.token();
        self.commands.push_back(Command::Write { token, to, octets: ASK_INFORMATION.to_vec(), response: false });
    }

    fn give_up(&mut self, error: DriverError) {
        self.outputs.error(error);
        self.commands.push_back(Command::Close);
        self.stage = Stage::Ended;
    }

    fn received(&mut self, now: Moment, octets: &[u8]) {
        let mut found = Vec::new();
        self.framer.push(octets, |f| found.push(f));
        let talks = found.iter().any(|found| matches!(found, Found::Frame(_)));
        self.found(now, found);
        match &mut self.stage {
            stage @ (Stage::Subscribing { .. } | Stage::Listening { .. }) if talks => *stage = Stage::Talking,
            Stage::Listening { octets: strange } => {
                *strange += u64::try_from(octets.len()).unwrap_or(u64::MAX);
                if *strange > STRANGE_OCTETS_MAX {
                    self.give_up(DriverError::NotThisDevice("no frame of a PC-300 on this line".into()));
                }
            }
            _ => {}
        }
    }

    fn found(&mut self, now: Moment, found: Vec<Found<Frame>>) {
        for found in found {
            match found {
                Found::Frame(frame) => self.frame(now, &frame),
                Found::Skipped(octets) => {
                    // A frame of a wave may have been among them, and frames of the pulse wave have no number.
                    self.pleth.broken(&mut self.outputs);
                    self.outputs.skipped(now, octets);
                }
            }
        }
        self.outputs.tell_skipped(now, false);
    }

    fn down(&mut self, now: Moment) {
        let mut found = Vec::new();
        self.framer.finish(|f| found.push(f));
        if !matches!(self.stage, Stage::Waiting | Stage::Ended) {
            self.found(now, found);
        }
        self.end_waves();
        self.outputs.tell_skipped(now, true);
        self.commands.clear();
        self.stage = Stage::Ended;
    }

    fn end_waves(&mut self) {
        self.pleth.end(&mut self.outputs);
        self.end_ecg();
    }

    fn end_ecg(&mut self) -> Option<u32> {
        let mut ecg = self.ecg.take()?;
        ecg.track.end(&mut self.outputs);
        ecg.track.number()
    }
}

/// What frames mean.
impl Monitor {
    fn frame(&mut self, now: Moment, frame: &Frame) {
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(error) => return self.refuse("PC-300 frame", &error.to_string(), frame),
        };
        match message {
            Message::CuffPressure(m) => self.cuff_pressure(now, m, frame),
            Message::BloodPressure(m) => self.measured(Kind::BloodPressure, now, pressures(m), pressure_status(m), frame),
            Message::BloodPressureError(error) => self.refuse("blood pressure", error.reason(), frame),
            Message::Oximetry(m) => self.oximetry(now, m, frame),
            Message::Pleth(samples) => self.pleth(now, &samples),
            Message::Temperature(m) => self.temperature(now, m, frame),
            Message::Glucose(m) => self.glucose(now, m, frame),
            Message::GlucoseWithoutUnit(_) => self.refuse("glucose", "the monitor does not state its unit", frame),
            Message::EcgStarted | Message::EcgStopped | Message::PowerOff => {
                self.end_ecg();
            }
            Message::EcgBlock(block) => self.ecg_block(now, &block),
            Message::EcgResult(m) => self.ecg_result(now, m, frame),
            Message::EcgGain(gain) => self.ecg_gain = (gain > 0).then_some(gain),
            Message::DeviceInformation(m) => self.battery_low = m.battery == Some(0),
            Message::Other(_) => {}
        }
    }

    fn refuse(&mut self, what: &'static str, reason: &str, frame: &Frame) {
        self.outputs.error(DriverError::Undecodable { what, reason: reason.into(), octets: frame.encode() });
    }

    fn measured(&mut self, kind: Kind, now: Moment, values: Vec<Value>, mut status: Vec<Status>, frame: &Frame) {
        status.extend(self.battery_low.then_some("low-battery"));
        let measured = Measured { values, status, octets: frame.encode(), ..Measured::new(kind, now) };
        self.hand_over(measured);
    }

    /// The monitor keeps nothing and cannot be asked again: where there is no room for a result it is said to be lost.
    fn hand_over(&mut self, measured: Measured) {
        let octets = measured.octets.clone();
        if self.outputs.measured(measured).is_err() {
            let reason = "measurements come faster than they can be stored".into();
            self.outputs.error(DriverError::Undecodable { what: "measurement", reason, octets });
        }
    }

    fn cuff_pressure(&mut self, now: Moment, m: CuffPressure, frame: &Frame) {
        if self.next_cuff_pressure.is_some_and(|next| now < next) {
            return;
        }
        self.next_cuff_pressure = Some(now + self.interval);
        let values = vec![value(Mdc::CUFF_PRESSURE, Some(m.pressure), "mm[Hg]")];
        self.measured(Kind::CuffPressure, now, values, Vec::new(), frame);
    }

    fn oximetry(&mut self, now: Moment, m: Oximetry, frame: &Frame) {
        self.probe_off = m.probe_off;
        let nothing = m.spo2.is_none() && m.pulse_rate.is_none();
        if nothing || self.next_oximetry.is_some_and(|next| now < next) {
            return;
        }
        self.next_oximetry = Some(now + self.interval);
        let tenths = m.perfusion_tenths.map(|tenths| Decimal::new(i64::from(tenths), -1));
        let perfusion = tenths.map_or(Quantity::Special(Special::NotAvailable), Quantity::Number);
        let values = vec![
            value(Mdc::SPO2, m.spo2, "%"),
            value(Mdc::PULSE_RATE, m.pulse_rate, "/min"),
            Value { code: Mdc::PERFUSION_INDEX, quantity: perfusion, unit: "%" },
        ];
        let status = [("sensor-unconnected-to-user", m.probe_off), ("signal-analysis-ongoing", m.searching)];
        let status = status.into_iter().filter(|(_, stated)| *stated).map(|(term, _)| term).collect();
        self.measured(Kind::PulseOximetry, now, values, status, frame);
    }

    fn pleth(&mut self, now: Moment, samples: &[u8]) {
        self.last_wave = now;
        let flags = Flags { artifact: self.probe_off, ..Flags::default() };
        for sample in samples {
            let sample = std::iter::once(i32::from(sample & 0x7f));
            self.pleth.push(&mut self.outputs, &mut self.numbers, now, sample, flags);
        }
    }

    fn temperature(&mut self, now: Moment, m: Temperature, frame: &Frame) {
        match (m.state, m.hundredths_above_30) {
            (TemperatureState::TimedOut, _) => self.refuse("temperature", "the thermometer found no value in time", frame),
            (_, Some(Temperature::TOO_HOT)) => self.refuse("temperature", "what the thermometer touches is too hot", frame),
            // The value is still on its way, there is none, or nothing is plugged in.
            (TemperatureState::Measuring, _) | (_, None | Some(0)) => {}
            _ if m.probe_off => {}
            (TemperatureState::Standby | TemperatureState::Done, Some(hundredths)) => {
                let celsius = Decimal::new(3_000 + i64::from(hundredths), -2);
                let values = vec![Value { code: Mdc::BODY_TEMPERATURE, quantity: Quantity::Number(celsius), unit: "Cel" }];
                self.measured(Kind::Temperature, now, values, Vec::new(), frame);
            }
        }
    }

    fn glucose(&mut self, now: Moment, m: Glucose, frame: &Frame) {
        let digits = m.digits.filter(|digits| *digits > 0);
        let (unit, exponent) = match m.unit {
            GlucoseUnit::MillimolesPerLitre => ("mmol/L", -1),
            GlucoseUnit::MilligramsPerDecilitre => ("mg/dL", 0),
        };
        let quantity = match (digits, m.low, m.high) {
            (Some(digits), ..) => Quantity::Number(Decimal::new(i64::from(digits), exponent)),
            (None, true, _) => Quantity::Special(Special::NegativeInfinity),
            (None, _, true) => Quantity::Special(Special::PositiveInfinity),
            (None, ..) => return self.refuse("glucose", "the monitor states no value", frame),
        };
        let status = [("glucose-low", m.low), ("glucose-high", m.high)];
        let status = status.into_iter().filter(|(_, stated)| *stated).map(|(term, _)| term).collect();
        self.measured(Kind::Glucose, now, vec![Value { code: GLUCOSE, quantity, unit }], status, frame);
    }
}

/// The ECG.
impl Monitor {
    fn ecg_block(&mut self, now: Moment, block: &EcgBlock) {
        let goes_round = self.ecg.as_ref().is_some_and(|ecg| ecg.sequence == u8::MAX);
        if block.sequence == 0 && !goes_round {
            // The monitor prepares.
            return;
        }
        self.last_wave = now;
        if self.ecg.as_ref().is_some_and(|ecg| ecg.twelve_bits != block.twelve_bits) {
            self.end_ecg();
        }
        self.place(block.sequence);
        let gain_tenths = match (block.twelve_bits, self.ecg_gain) {
            (true, gain) => u32::from(gain.unwrap_or(Message::ECG_GAIN)) * 10,
            (false, _) => u32::from(Message::ECG_GAIN_8_BITS_TENTHS),
        };
        let Self { ecg, outputs, numbers, .. } = self;
        let ecg = ecg.get_or_insert_with(|| Ecg {
            track: Track::new(head(Kind::Ecg, Mdc::ECG, scale_uv(gain_tenths), "uV", ECG_RATE_HZ)),
            twelve_bits: block.twelve_bits,
            sequence: block.sequence,
        });
        let (middle, top) = if block.twelve_bits { (2048, 4095) } else { (128, 255) };
        for sample in block.samples {
            let saturated = u32::from(sample == 0 || sample >= top);
            let flags = Flags { lead_off: u32::from(block.lead_off), saturated, artifact: false };
            ecg.track.push(outputs, numbers, now, std::iter::once(i32::from(sample) - middle), flags);
        }
        ecg.sequence = block.sequence;
    }

    /// Declares the blocks that are missing before this one.
    fn place(&mut self, sequence: u8) {
        let Some(ecg) = &mut self.ecg else { return };
        // 0 means preparing, so whether 255 is followed by 0 or by 1 is not known: both are taken as the next.
        let next = ecg.sequence.wrapping_add(1);
        let missing = if ecg.sequence == u8::MAX && sequence == 1 { 0 } else { sequence.wrapping_sub(next) };
        if missing > ECG_BLOCKS_MISSING_MAX {
            ecg.track.broken(&mut self.outputs);
        } else if missing > 0 {
            ecg.track.lost(&mut self.outputs, u64::from(missing) * ECG_SAMPLES as u64);
        }
    }

    fn ecg_result(&mut self, now: Moment, m: EcgResult, frame: &Frame) {
        let recording = self.end_ecg();
        if m.heart_rate == 0 {
            return;
        }
        let mut status: Vec<Status> = m.finding.term().into_iter().collect();
        status.extend(self.battery_low.then_some("low-battery"));
        let values = vec![value(Mdc::HEART_RATE, Some(m.heart_rate), "/min")];
        let octets = frame.encode();
        self.hand_over(Measured { values, status, octets, recording, ..Measured::new(Kind::HeartRate, now) });
    }
}

fn head(kind: Kind, code: Mdc, scale: Decimal, unit: &'static str, rate_hz: u32) -> RecordingHead {
    let channel = Channel { code, scale, unit, filter: String::new() };
    RecordingHead::live(kind, vec![channel], Rate { samples: rate_hz, seconds: 1 })
}

/// What one count is worth in uV, at so many tenths of counts per mV: rounded to 10^-9 uV, under a ten-millionth of a count.
fn scale_uv(gain_tenths: u32) -> Decimal {
    const TENTHS_OF_NANO_MICROVOLTS: i64 = 1_000 * 10 * 1_000_000_000;
    let gain = i64::from(gain_tenths.max(1));
    Decimal::new((TENTHS_OF_NANO_MICROVOLTS + gain / 2) / gain, -9)
}

fn value(code: Mdc, number: Option<impl Into<i64>>, unit: &'static str) -> Value {
    let quantity =
        number.map_or(Quantity::Special(Special::NotAvailable), |number| Quantity::Number(Decimal::whole(number.into())));
    Value { code, quantity, unit }
}

fn pressures(m: BloodPressure) -> Vec<Value> {
    let unless_zero = |number: u8| (number != 0).then_some(number);
    vec![
        value(Mdc::SYSTOLIC, Some(m.systolic), "mm[Hg]"),
        value(Mdc::DIASTOLIC, Some(m.diastolic), "mm[Hg]"),
        value(Mdc::MEAN_ARTERIAL_PRESSURE, unless_zero(m.mean), "mm[Hg]"),
        value(Mdc::PULSE_RATE_CUFF, unless_zero(m.pulse_rate), "/min"),
    ]
}

fn pressure_status(m: BloodPressure) -> Vec<Status> {
    m.irregular.then_some("irregular-pulse").into_iter().collect()
}

#[cfg(test)]
mod tests;
