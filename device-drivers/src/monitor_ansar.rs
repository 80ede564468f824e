//! Bedside monitors that send ANSAR-B (Ivy 450C): a second of waves and a line of text a parameter, once a second, unasked.
//!
//! Port: 9600 baud, 8 data bits, no parity. Source: [`ansar_b`] and mdpnp 1ae7f72 (Ivy450C.java, AnsarB.java). Gives one
//! reading of each parameter every 10 s, and every wave as a recording at its own rate. What a channel's status number means
//! no source says; its alarm text, which the monitor shows, becomes the status `alarm`.
//! The cuff's values stay on the line until the next ones come: a reading is only what differs from before, or comes back
//! after a pause. What stood there when the conversation began was measured at a time that nobody knows, of a patient that
//! nobody knows: it is marked as stored. Two measurements in a row with equal values cannot be told from one.
//! End-tidal CO2 is left out: the line does not say its unit.
//! Messages have no number: a hole ends the recordings, and others begin.
//!
//! [`ansar_b`]: kit_protocol::serial::ansar_b

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Context, Kind, Measured, Memory, Quantity, Rate, RecordingHead, Special, Status, Value};
use kit_protocol::serial::ansar_b::{ECG_SAMPLES, Framer, Line, Message, WAVE_SAMPLES, Waves};
use kit_protocol::serial::framer::Found;

use crate::driver::{Command, Driver, DriverError, Event, Link, Output, Pairing, PortSettings, Security, Session, Start, Token};
use crate::session::outputs::Outputs;
use crate::session::track::{Numbers, Track};
use crate::session::wave::Flags;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "monitor-ansar",
    version: "1",
    links: &[Link::Serial(PortSettings { baud: 9_600, even_parity: false })],
    protocol: "ANSAR-B",
    gives: "heart rate, respiratory rate, SpO2, pulse, blood pressure, invasive pressures, temperatures, ECG, pleth",
    parameters: &[
        Mdc::HEART_RATE,
        Mdc::RESPIRATORY_RATE,
        Mdc::SPO2,
        Mdc::PULSE_RATE,
        Mdc::SYSTOLIC,
        Mdc::DIASTOLIC,
        Mdc::MEAN_ARTERIAL_PRESSURE,
        Mdc::PULSE_RATE_CUFF,
        INVASIVE_SYSTOLIC,
        INVASIVE_DIASTOLIC,
        INVASIVE_MEAN,
        TEMPERATURE,
        Mdc::ECG,
        Mdc::PLETH,
        IMPEDANCE,
        INVASIVE_PRESSURE,
    ],
    security: Security::None,
    pairing: Pairing::None,
    // Its last cuff reading stays on the line until there is another one.
    memory: true,
    allowed: &[],
    quirks: &[],
    session: |start| Box::new(Monitor::new(&start)),
};

const INVASIVE_PRESSURE: Mdc = Mdc(150_016);
const INVASIVE_SYSTOLIC: Mdc = Mdc(150_017);
const INVASIVE_DIASTOLIC: Mdc = Mdc(150_018);
const INVASIVE_MEAN: Mdc = Mdc(150_019);
const TEMPERATURE: Mdc = Mdc(150_344);
const IMPEDANCE: Mdc = Mdc(151_780);

/// One reading of a parameter every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// Messages come once a second: after so long at least one is missing.
const LATE: Duration = Duration::from_millis(1_700);
/// After so long the monitor has stopped.
const QUIET: Duration = Duration::from_secs(3);
/// Octets without a message that prove that it is no ANSAR-B: 10 s of the line.
const STRANGE_OCTETS_MAX: u64 = 9_600;
/// What an invasive channel says where nothing is plugged in.
const NO_TRANSDUCER: &str = "NO TRANSDUCER";

/// ```text
/// Waiting ──Up──▶ Listening ──message──▶ Streaming
///    any ──Down──▶ Ended        └─ none in 9,600 octets: NotThisDevice ──▶ Ended
/// ```
#[derive(Debug)]
enum Stage {
    Waiting,
    /// No message came yet; so many octets did.
    Listening {
        octets: u64,
    },
    /// Messages come; the last at this moment.
    Streaming {
        last: Moment,
    },
    Ended,
}

struct Monitor {
    stage: Stage,
    framer: Framer,
    outputs: Outputs,
    numbers: Numbers,
    interval: Duration,
    /// Parameters that were read, by the name of their line, and when they are next.
    next_readings: Vec<(&'static str, Moment)>,
    /// What the cuff's line said last.
    cuff: Option<[Option<Decimal>; 4]>,
    ecg: Option<(Mdc, Track)>,
    respiration: Track,
    pleth: Track,
    pressure_1: Track,
    pressure_2: Track,
    close: bool,
}

impl Session for Monitor {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (&self.stage, event) {
            (Stage::Waiting, Event::Up { .. }) => self.stage = Stage::Listening { octets: 0 },
            (Stage::Listening { .. } | Stage::Streaming { .. }, Event::Received { octets, .. }) => self.received(now, octets),
            (_, Event::Down { .. }) => self.down(now),
            (_, Event::Stored { reading } | Event::Refused { reading }) => self.outputs.answered(reading),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.each_track(Track::end);
            self.outputs.tell_skipped(now, false);
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        std::mem::take(&mut self.close).then_some(Command::Close)
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        match self.stage {
            Stage::Streaming { last } if self.respiration.under_way() => Some(last + QUIET),
            _ => None,
        }
    }
}

impl Monitor {
    fn new(start: &Start) -> Self {
        let pressure = || track(Kind::Other, INVASIVE_PRESSURE);
        Self {
            stage: Stage::Waiting,
            framer: Framer::default(),
            outputs: Outputs::default(),
            numbers: Numbers::default(),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            next_readings: Vec::new(),
            cuff: None,
            ecg: None,
            respiration: track(Kind::Respiration, IMPEDANCE),
            pleth: track(Kind::Pleth, Mdc::PLETH),
            pressure_1: pressure(),
            pressure_2: pressure(),
            close: false,
        }
    }

    fn received(&mut self, now: Moment, octets: &[u8]) {
        let mut found = Vec::new();
        self.framer.push(octets, |f| found.push(f));
        self.found(now, found);
        if let Stage::Listening { octets: strange } = &mut self.stage {
            *strange += u64::try_from(octets.len()).unwrap_or(u64::MAX);
            if *strange > STRANGE_OCTETS_MAX {
                self.outputs.error(DriverError::NotThisDevice("no message of ANSAR-B on this line".into()));
                self.close = true;
                self.stage = Stage::Ended;
            }
        }
    }

    fn found(&mut self, now: Moment, found: Vec<Found<Message>>) {
        for found in found {
            match found {
                Found::Frame(message) => self.message(now, &message),
                Found::Skipped(octets) => {
                    self.each_track(Track::broken);
                    self.outputs.skipped(now, octets);
                }
            }
        }
        self.outputs.tell_skipped(now, false);
    }

    fn down(&mut self, now: Moment) {
        let mut found = Vec::new();
        self.framer.finish(|f| found.push(f));
        if matches!(self.stage, Stage::Listening { .. } | Stage::Streaming { .. }) {
            self.found(now, found);
        }
        self.each_track(Track::end);
        self.outputs.tell_skipped(now, true);
        self.stage = Stage::Ended;
    }

    fn each_track(&mut self, act: fn(&mut Track, &mut Outputs)) {
        let Self { ecg, respiration, pleth, pressure_1, pressure_2, outputs, .. } = self;
        let ecg = ecg.as_mut().map(|(_, track)| track);
        ecg.into_iter().chain([respiration, pleth, pressure_1, pressure_2]).for_each(|track| act(track, outputs));
    }

    fn message(&mut self, now: Moment, message: &Message) {
        if matches!(self.stage, Stage::Streaming { last } if now.since(last) > LATE) {
            self.each_track(Track::broken);
        }
        self.stage = Stage::Streaming { last: now };
        self.waves(now, message);
        for line in &message.lines {
            self.line(now, line);
        }
    }
}

/// The waves.
impl Monitor {
    fn waves(&mut self, now: Moment, message: &Message) {
        let waves = &message.waves;
        self.ecg(now, message.line("HR").map_or("", |line| line.text(1)), &waves.ecg);
        let plugged_in = |name| message.line(name).is_some_and(|line| line.text(3) != NO_TRANSDUCER);
        let pressures = [("P1", plugged_in("P1")), ("P2", plugged_in("P2"))];
        let Self { outputs, numbers, respiration, pleth, pressure_1, pressure_2, .. } = self;
        let mut record = |track: &mut Track, samples: &[u8; WAVE_SAMPLES], zero: u8| {
            for sample in samples {
                let sample = std::iter::once(i32::from(*sample) - i32::from(zero));
                track.push(outputs, numbers, now, sample, Flags::default());
            }
        };
        record(respiration, &waves.respiration, 0);
        record(pleth, &waves.pleth, Waves::PLETH_ZERO);
        let wave = [(&waves.pressure_1, Waves::PRESSURE_1_ZERO), (&waves.pressure_2, Waves::PRESSURE_2_ZERO)];
        for ((track, (samples, zero)), (_, plugged_in)) in [pressure_1, pressure_2].into_iter().zip(wave).zip(pressures) {
            if plugged_in {
                record(track, samples, zero);
            }
        }
        let [(_, one), (_, two)] = pressures;
        for (track, plugged_in) in [(&mut self.pressure_1, one), (&mut self.pressure_2, two)] {
            if !plugged_in {
                track.end(&mut self.outputs);
            }
        }
    }

    /// The label names the lead and the filter: `ECG-II-DIAG`.
    fn ecg(&mut self, now: Moment, label: &str, samples: &[u8; ECG_SAMPLES]) {
        let (lead, filter) = lead(label);
        if let Some((recorded, track)) = &mut self.ecg
            && *recorded != lead
        {
            track.end(&mut self.outputs);
            self.ecg = None;
        }
        let Self { ecg, outputs, numbers, .. } = self;
        let (_, track) = ecg.get_or_insert_with(|| {
            let channel = Channel { code: lead, scale: Decimal::new(2, -2), unit: "mV", filter: filter.into() };
            (lead, Track::new(head(Kind::Ecg, channel, ECG_SAMPLES)))
        });
        for sample in samples {
            let saturated = u32::from(*sample == 0 || *sample == u8::MAX);
            let flags = Flags { saturated, ..Flags::default() };
            let sample = std::iter::once(i32::from(*sample) - i32::from(Waves::ECG_ZERO));
            track.push(outputs, numbers, now, sample, flags);
        }
    }
}

fn lead(label: &str) -> (Mdc, &str) {
    let leads = [("ECG-III", Mdc::ECG_III), ("ECG-II", Mdc::ECG_II), ("ECG-I", Mdc::ECG_I)];
    let named = leads.into_iter().find_map(|(name, code)| Some((code, label.strip_prefix(name)?)));
    named.map_or((Mdc::ECG, label), |(code, rest)| (code, rest.trim_start_matches('-')))
}

fn head(kind: Kind, channel: Channel, samples_a_second: usize) -> RecordingHead {
    RecordingHead::live(kind, vec![channel], Rate { samples: u32::try_from(samples_a_second).unwrap_or(1), seconds: 1 })
}

fn track(kind: Kind, code: Mdc) -> Track {
    Track::new(head(kind, Channel { code, scale: Decimal::whole(1), unit: "1", filter: String::new() }, WAVE_SAMPLES))
}

/// What a line is read as: its name, the kind, its values, where its alarm stands, and which channel it is.
struct Parameter {
    name: &'static str,
    kind: Kind,
    values: &'static [(Mdc, &'static str)],
    alarm: usize,
    context: &'static [Context],
}

const fn channel(value: &'static str) -> Context {
    Context { what: "channel", value }
}

const INVASIVE: &[(Mdc, &str)] = &[(INVASIVE_SYSTOLIC, "mm[Hg]"), (INVASIVE_DIASTOLIC, "mm[Hg]"), (INVASIVE_MEAN, "mm[Hg]")];

const PARAMETERS: [Parameter; 7] = [
    Parameter { name: "HR", kind: Kind::HeartRate, values: &[(Mdc::HEART_RATE, "/min")], alarm: 2, context: &[] },
    Parameter { name: "RR", kind: Kind::Respiration, values: &[(Mdc::RESPIRATORY_RATE, "/min")], alarm: 2, context: &[] },
    Parameter { name: "SPO2", kind: Kind::PulseOximetry, values: &[(Mdc::SPO2, "%")], alarm: 2, context: &[] },
    Parameter { name: "P1", kind: Kind::Other, values: INVASIVE, alarm: 4, context: &[channel("p1")] },
    Parameter { name: "P2", kind: Kind::Other, values: INVASIVE, alarm: 4, context: &[channel("p2")] },
    Parameter { name: "T1", kind: Kind::Temperature, values: &[(TEMPERATURE, "Cel")], alarm: 2, context: &[channel("t1")] },
    Parameter { name: "T2", kind: Kind::Temperature, values: &[(TEMPERATURE, "Cel")], alarm: 2, context: &[channel("t2")] },
];

const CUFF: &str = "NIBP";
const CUFF_ALARM: usize = 5;
const CUFF_VALUES: [(Mdc, &str); 4] = [
    (Mdc::SYSTOLIC, "mm[Hg]"),
    (Mdc::DIASTOLIC, "mm[Hg]"),
    (Mdc::MEAN_ARTERIAL_PRESSURE, "mm[Hg]"),
    (Mdc::PULSE_RATE_CUFF, "/min"),
];

/// The text.
impl Monitor {
    fn line(&mut self, now: Moment, line: &Line) {
        if line.name == CUFF {
            return self.cuff(now, line);
        }
        let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.name == line.name) else { return };
        let next = self.next_readings.iter().position(|(name, _)| *name == parameter.name);
        if next.and_then(|at| self.next_readings.get(at)).is_some_and(|(_, next)| now < *next) {
            return;
        }
        let mut values: Vec<_> =
            parameter.values.iter().enumerate().map(|(place, (code, unit))| value(*code, line.number(place), unit)).collect();
        if parameter.kind == Kind::PulseOximetry {
            let pulse = line.text(1).strip_prefix("PR=").and_then(|text| text.trim().parse().ok());
            values.push(value(Mdc::PULSE_RATE, pulse, "/min"));
        }
        if values.iter().all(|value| matches!(value.quantity, Quantity::Special(_))) {
            return;
        }
        let measured = Measured {
            values,
            status: alarm(line, parameter.alarm),
            context: parameter.context.to_vec(),
            octets: octets(line),
            ..Measured::new(parameter.kind, now)
        };
        // Where nothing more can be taken in, the value is not taken: the next one comes in a second.
        if self.outputs.measured(measured).is_ok() {
            if let Some(at) = next {
                self.next_readings.swap_remove(at);
            }
            self.next_readings.push((parameter.name, now + self.interval));
        }
    }

    fn cuff(&mut self, now: Moment, line: &Line) {
        let numbers: [Option<Decimal>; 4] = std::array::from_fn(|place| line.number(place));
        let memory = match &self.cuff {
            Some(before) if *before == numbers => return,
            Some(_) => Memory::Live,
            None => Memory::Stored,
        };
        let [systolic, diastolic, ..] = numbers;
        if systolic.is_some() && diastolic.is_some() {
            let values = CUFF_VALUES.iter().zip(numbers).map(|((code, unit), number)| value(*code, number, unit)).collect();
            let measured = Measured {
                values,
                status: alarm(line, CUFF_ALARM),
                memory,
                octets: shown(line),
                ..Measured::new(Kind::BloodPressure, now)
            };
            if self.outputs.measured(measured).is_err() {
                // It stays on the line, and is new with the next message too.
                return;
            }
        }
        self.cuff = Some(numbers);
    }
}

fn alarm(line: &Line, place: usize) -> Vec<Status> {
    (!line.text(place).is_empty()).then_some("alarm").into_iter().collect()
}

fn octets(line: &Line) -> Vec<u8> {
    octets_of(line, line.fields.len())
}

/// What stays as it is while the monitor shows it: the numbers, but no alarm.
fn shown(line: &Line) -> Vec<u8> {
    octets_of(line, CUFF_VALUES.len())
}

fn octets_of(line: &Line, fields: usize) -> Vec<u8> {
    let mut text = line.name.clone();
    line.fields.iter().take(fields).for_each(|field| {
        text.push(';');
        text.push_str(field);
    });
    text.into_bytes()
}

fn value(code: Mdc, number: Option<Decimal>, unit: &'static str) -> Value {
    Value { code, quantity: number.map_or(Quantity::Special(Special::NotAvailable), Quantity::Number), unit }
}

#[cfg(test)]
mod tests;
