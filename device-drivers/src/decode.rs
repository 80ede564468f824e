//! Recorded octets to readings: a driver's session run in virtual time, without a device or a service.
//!
//! The engine behind `kit-agent decode`: the octets are read the way the device sends them, notifications one by one,
//! serial streams at the pace of the line. What would be refused on the kit is refused here, with its detail.

mod characteristic;
mod flow;

use std::collections::BTreeMap;
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::health_observation::{HealthObservation, StoredHealthObservation};
use kit_protocol::gatt::health_observation_segment::SegmentHeader;
use kit_protocol::json::{Line, ReadingLine, RefusedLine, ResyncLine, hex};
use kit_protocol::moment::Moment;
use kit_protocol::plausibility::{self, Refusal, StatedBy};
use kit_protocol::reading::{Block, Measured, RecordingHead};
use kit_protocol::serial::ads1298::{self, DataFrame, Lead};
use uuid::Uuid;

use crate::driver::{
    About, By, Command, DownReason, Driver, DriverError, Endpoint, Event, Link, LinkError, Output, Security, Session, Start,
    bluetooth,
};
use crate::{ecg_ads1298, health_sensor, oximeter_berry, oximeter_contec, oximeter_nonin};

/// What is decoded.
#[derive(Clone, Debug)]
pub enum Input {
    /// Values of a characteristic, one notification or indication each.
    Notifications(Vec<Vec<u8>>),
    /// What a serial port or a file gives.
    Stream(Vec<u8>),
    /// Flow over time as text, for `spirometer-flow`: L/s, one value a line, positive as the patient breathes out.
    Flow {
        /// The lines.
        text: String,
        /// Between two values.
        interval: Duration,
    },
}

/// How it is decoded.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Samples per second, where the octets do not say.
    pub rate_hz: Option<u16>,
    /// What one digit is worth in uV, where the octets do not say.
    pub lsb_uv: Option<Decimal>,
    /// One reading of a continuous stream every so long; otherwise every value of a notification, and every 10 s of a stream.
    pub interval: Option<Duration>,
    /// The device's model, as its Device Information or its name says it: a quirk may be known of it.
    pub model: Option<String>,
}

impl Options {
    fn start(&self) -> Start {
        Start { about: About { model: self.model.clone(), ..About::default() }, ..Start::default() }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Decoded {
    /// In the order in which they were finished; each gives its text by `to_json`.
    pub lines: Vec<Line>,
    /// The integers of every recording's line, in the order of the lines.
    pub waves: Vec<Samples>,
}

/// The integers of one recording's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Its leads or signals by name.
    pub leads: Vec<String>,
    /// Interleaved, as the device sent them.
    pub samples: Vec<i32>,
}

impl Samples {
    /// As CSV without a header row: a row a sample, a column a lead.
    pub fn rows(&self) -> impl Iterator<Item = String> + '_ {
        let row = |frame: &[i32]| frame.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        self.samples.chunks(self.leads.len().max(1)).map(row)
    }
}

/// The question makes no sense: exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongUse {
    /// Neither a driver nor a characteristic.
    #[error("name a driver (--driver) or a characteristic (--characteristic)")]
    NothingNamed,
    /// The driver does not say what such values would be of.
    #[error("driver {0}: say which characteristic the values are of by --characteristic")]
    WhichCharacteristic(&'static str),
    /// No decoder for it.
    #[error("no decoder for characteristic {0}; known are {1}")]
    UnknownCharacteristic(Uuid, String),
    /// A flow, and a driver that is none of a flow spirometer.
    #[error("only driver spirometer-flow reads a flow")]
    NoFlow,
    /// A flow, and no engine.
    #[error("this build computes nothing of a flow: it leaves the feature `derive` out")]
    NoEngine,
    /// A characteristic with a serial driver.
    #[error("driver {0} is not met by Bluetooth: it has no characteristics")]
    NoCharacteristics(&'static str),
}

/// The UUID of a characteristic as a person writes it: `2a5e`, `0x2a5e`, or all of it.
#[must_use]
pub fn parse_characteristic(text: &str) -> Option<Uuid> {
    let digits = text.trim_start_matches("0x");
    if digits.len() == 4 {
        return u16::from_str_radix(digits, 16).ok().map(bluetooth);
    }
    Uuid::parse_str(text).ok()
}

/// Every characteristic that can be decoded by itself.
pub fn characteristics() -> impl Iterator<Item = Uuid> {
    characteristic::all()
}

/// Decodes with a driver, or one characteristic by itself.
pub fn decode(
    driver: Option<&Driver>,
    characteristic: Option<Uuid>,
    input: &Input,
    options: &Options,
) -> Result<Decoded, WrongUse> {
    if let Input::Flow { text, interval } = input {
        return flow::decode(driver, characteristic, text, *interval);
    }
    match (driver, characteristic) {
        (None, None) => Err(WrongUse::NothingNamed),
        (None, Some(characteristic)) => decode_characteristic(characteristic, input),
        (Some(driver), characteristic) => match (way(driver, characteristic, input)?, characteristic) {
            (Way::Stream(octets_per_second), _) => Ok(decode_stream(driver, octets_per_second, &joined(input), options)),
            (Way::Endpoint(endpoint), characteristic) => {
                match (decode_notifications(driver, endpoint, &one_by_one(input), options), characteristic) {
                    // Not one that the driver listens to: a control point, a feature.
                    (None, Some(characteristic)) => decode_characteristic(characteristic, input),
                    (decoded, _) => decoded.ok_or(WrongUse::WhichCharacteristic(driver.name)),
                }
            }
        },
    }
}

/// How the octets came from the device.
enum Way {
    /// As a stream of so many octets a second.
    Stream(u64),
    /// As values of a characteristic.
    Endpoint(Endpoint),
}

fn way(driver: &Driver, characteristic: Option<Uuid>, input: &Input) -> Result<Way, WrongUse> {
    let listens = driver.links.iter().find_map(|link| match link {
        Link::Ble { listens, .. } => Some(*listens),
        Link::Serial(_) | Link::File => None,
    });
    let file = driver.links.contains(&Link::File) && (listens.is_none() || matches!(input, Input::Stream(_)));
    match (characteristic, listens, driver.port()) {
        (Some(_), None, _) => Err(WrongUse::NoCharacteristics(driver.name)),
        (Some(characteristic), Some(listens), _) => {
            let of_service = Endpoint { service: listens.first().map_or(Uuid::nil(), |first| first.service), characteristic };
            // What is advertised goes by the number of its service.
            let is = |endpoint: &&Endpoint| match endpoint.characteristic.is_nil() {
                true => endpoint.service == characteristic,
                false => endpoint.characteristic == characteristic,
            };
            let listened_to = listens.iter().find(is);
            Ok(Way::Endpoint(*listened_to.unwrap_or(&of_service)))
        }
        // Ten bits an octet.
        (None, _, Some(port)) => Ok(Way::Stream(u64::from(port.baud) / 10)),
        (None, _, None) if file => Ok(Way::Stream(FILE_OCTETS_PER_SECOND)),
        // The first is the measurement; others accompany it, or are its other shape.
        (None, Some([first, ..]), None) => Ok(Way::Endpoint(*first)),
        (None, ..) => Err(WrongUse::WhichCharacteristic(driver.name)),
    }
}

fn joined(input: &Input) -> Vec<u8> {
    match input {
        Input::Notifications(values) => values.concat(),
        Input::Stream(octets) => octets.clone(),
        Input::Flow { text, .. } => text.clone().into_bytes(),
    }
}

fn one_by_one(input: &Input) -> Vec<&[u8]> {
    match input {
        Input::Notifications(values) => values.iter().map(Vec::as_slice).collect(),
        Input::Stream(octets) => vec![octets],
        Input::Flow { text, .. } => vec![text.as_bytes()],
    }
}

fn decode_characteristic(uuid: Uuid, input: &Input) -> Result<Decoded, WrongUse> {
    let decoder = characteristic::decoder(uuid).ok_or_else(|| WrongUse::UnknownCharacteristic(uuid, characteristic::known()))?;
    let line = |octets: &[u8]| match decoder(octets) {
        Ok(measurement) => Line::Measurement(measurement),
        Err(error) => refused("undecodable", error.to_string(), octets),
    };
    Ok(Decoded { lines: one_by_one(input).into_iter().map(line).collect(), waves: Vec::new() })
}

fn refused(reason: &str, detail: String, octets: &[u8]) -> Line {
    Line::Refused(RefusedLine { reason: reason.into(), detail, octets: hex(octets) })
}

/// Notifications come this far apart.
const NOTIFICATION_EVERY: Duration = Duration::from_secs(1);
/// How fast a file is read.
const FILE_OCTETS_PER_SECOND: u64 = 1_000_000;
/// Octets of a stream are handed over so many at a time.
const CHUNK_OCTETS: usize = 35;

/// `None` where the driver does not listen to that characteristic.
fn decode_notifications(driver: &Driver, endpoint: Endpoint, values: &[&[u8]], options: &Options) -> Option<Decoded> {
    let interval = options.interval.unwrap_or(Duration::ZERO);
    let session = (driver.session)(Start { stream_interval: Some(interval), ..options.start() });
    let mut run = Run::new(driver, session, &[endpoint]);
    if run.not_this_device {
        return None;
    }
    let by = if endpoint.characteristic.is_nil() { By::Advertisement } else { By::Notification };
    for value in values {
        run.pass(NOTIFICATION_EVERY);
        let segment = if driver.name == health_sensor::DRIVER.name { segment_of_whole(value) } else { None };
        run.received(endpoint, segment.as_deref().unwrap_or(value), by);
    }
    Some(run.finish())
}

/// A health observation that was put together already, as one segment; `None` where it is a segment.
fn segment_of_whole(value: &[u8]) -> Option<Vec<u8>> {
    let whole = HealthObservation::decode(value).is_ok() || StoredHealthObservation::decode(value).is_ok();
    whole.then(|| [&[SegmentHeader::new(true, true, 0).0], value].concat())
}

fn decode_stream(driver: &Driver, octets_per_second: u64, octets: &[u8], options: &Options) -> Decoded {
    let framed = if driver.name == ecg_ads1298::DRIVER.name { framed(octets) } else { None };
    let octets = framed.as_deref().unwrap_or(octets);
    let start = Start { stream_interval: options.interval, ..options.start() };
    let stated = options.rate_hz.is_some() || options.lsb_uv.is_some() || framed.is_some();
    let session = if driver.name == ecg_ads1298::DRIVER.name && stated {
        ecg_ads1298::session_assuming(assumed(options))
    } else {
        (driver.session)(start)
    };
    let octets_per_second = match driver.name {
        name if name == oximeter_nonin::DRIVER.name => oximeter_nonin::OCTETS_PER_SECOND,
        name if name == oximeter_contec::DRIVER.name => oximeter_contec::octets_per_second(octets),
        name if name == oximeter_berry::DRIVER.name => oximeter_berry::octets_per_second(octets),
        _ => octets_per_second,
    };
    let mut run = Run::new(driver, session, &[Endpoint::SERIAL]);
    for chunk in octets.chunks(CHUNK_OCTETS) {
        let count = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        run.pass(Duration::from_nanos(count * 1_000_000_000 / octets_per_second.max(1)));
        run.received(Endpoint::SERIAL, chunk, By::File);
    }
    let mut decoded = run.finish();
    if framed.is_some() && options.rate_hz.is_none() {
        without_rate(&mut decoded);
    }
    decoded
}

/// What samples mean where no header frame says it: digits, where nobody says what one is worth.
fn assumed(options: &Options) -> ecg_ads1298::Meaning {
    ecg_ads1298::Meaning {
        rate_hz: options.rate_hz.unwrap_or(RATE_WHERE_NONE_IS_STATED_HZ),
        scale: options.lsb_uv.unwrap_or(Decimal::whole(1)),
        unit: if options.lsb_uv.is_some() { "uV" } else { "1" },
        leads: Lead::EIGHT.to_vec(),
    }
}

/// Only so that a session can pace itself; the line says `null`.
const RATE_WHERE_NONE_IS_STATED_HZ: u16 = 500;

fn without_rate(decoded: &mut Decoded) {
    for line in &mut decoded.lines {
        if let Line::Reading(reading) = line
            && let Some(recording) = &mut reading.recording
        {
            recording.rate = serde_json::Value::Null;
        }
    }
}

/// The chip's bare conversions of 27 octets in this project's framing; `None` where they are framed already, or are none.
fn framed(octets: &[u8]) -> Option<Vec<u8>> {
    if octets.is_empty() || !octets.len().is_multiple_of(ads1298::Sample::OCTETS) {
        return None;
    }
    let frame = |(counter, octets)| Some(DataFrame { counter, sample: ads1298::Sample::decode(octets).ok()? }.encode());
    let frames: Option<Vec<_>> = (0..).zip(octets.chunks(ads1298::Sample::OCTETS)).map(frame).collect();
    frames.map(|frames| frames.concat())
}

/// A session in virtual time, and what it gave.
struct Run<'a> {
    driver: &'a Driver,
    session: Box<dyn Session>,
    now: Moment,
    /// The value that is being taken in: what a refusal shows.
    current: Vec<u8>,
    recordings: BTreeMap<u32, Wave>,
    decoded: Decoded,
    not_this_device: bool,
}

/// A recording under way: its last run without a hole.
struct Wave {
    head: RecordingHead,
    first: u64,
    samples: Vec<i32>,
    status: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(driver: &'a Driver, session: Box<dyn Session>, has: &[Endpoint]) -> Self {
        let mut run = Self {
            driver,
            session,
            now: Moment::ZERO,
            current: Vec::new(),
            recordings: BTreeMap::new(),
            decoded: Decoded::default(),
            not_this_device: false,
        };
        run.event(Event::Up { mtu: 517, security: Security::Authenticated, has });
        run
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn received(&mut self, from: Endpoint, octets: &[u8], by: By) {
        self.current = if by == By::File { Vec::new() } else { octets.to_vec() };
        self.event(Event::Received { from, octets, by });
    }

    fn event(&mut self, event: Event<'_>) {
        self.session.handle_event(self.now, event);
        self.settle();
    }

    fn finish(mut self) -> Decoded {
        self.event(Event::Down { reason: DownReason::End });
        self.decoded
    }

    /// Carries out what the session wants, as a device that only sends, and takes what it gives until there is nothing more.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(command) = self.session.poll_command() {
                quiet = false;
                self.carry_out(&command);
            }
            while let Some(output) = self.session.poll_output() {
                quiet = false;
                self.take(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, command: &Command) {
        match command {
            Command::Subscribe(command, _) | Command::Port(command, _) => {
                self.session.handle_event(self.now, Event::Done { command: *command });
            }
            Command::Read(command, from) | Command::Write { token: command, to: from, .. } => {
                let error = LinkError::NoEndpoint(*from);
                self.session.handle_event(self.now, Event::Failed { command: *command, error });
            }
            Command::Close => {}
        }
    }

    fn take(&mut self, output: Result<(crate::driver::Token, Output), DriverError>) {
        let token = match output {
            Ok((token, Output::Measured(measured))) => {
                self.measured(measured);
                token
            }
            Ok((token, Output::Begin { recording, head })) => {
                self.recordings.insert(recording, Wave { head, first: 0, samples: Vec::new(), status: Vec::new() });
                token
            }
            Ok((token, Output::Samples { recording, block })) => {
                self.samples(recording, block);
                token
            }
            Ok((token, Output::End { recording })) => {
                if let Some(wave) = self.recordings.remove(&recording) {
                    self.recorded(wave);
                }
                token
            }
            Ok((token, Output::Remember(_) | Output::DeviceClock { .. } | Output::Memory { .. })) => token,
            Err(error) => return self.error(error),
        };
        self.session.handle_event(self.now, Event::Stored { reading: token });
    }

    fn measured(&mut self, mut measured: Measured) {
        // What was found of a recording stands with the recording.
        if measured.is_judgement()
            && let Some(wave) = measured.recording.and_then(|number| self.recordings.get_mut(&number))
        {
            return wave.found(&measured);
        }
        let judged = plausibility::accept(&mut measured.values, &measured.status, StatedBy::Device);
        let line = match judged {
            Ok(()) => Line::Reading(Box::new(ReadingLine::measured(self.driver.name, None, &measured))),
            Err(Refusal { class, detail }) => {
                let octets = if self.current.is_empty() { &measured.octets } else { &self.current };
                refused(class, detail, octets)
            }
        };
        self.decoded.lines.push(line);
    }

    fn samples(&mut self, recording: u32, block: Block) {
        let Some(wave) = self.recordings.get_mut(&recording) else { return };
        let next = wave.first + u64::try_from(wave.samples.len() / wave.head.channels.len().max(1)).unwrap_or(u64::MAX);
        if !wave.samples.is_empty() && next != block.first {
            let head = wave.head.clone();
            let next = Wave { head, first: block.first, samples: Vec::new(), status: Vec::new() };
            let ended = std::mem::replace(wave, next);
            self.recorded(ended);
        }
        let Some(wave) = self.recordings.get_mut(&recording) else { return };
        if wave.samples.is_empty() {
            wave.first = block.first;
        }
        wave.note(&block);
        wave.samples.extend(block.samples);
    }

    /// A run of samples without a hole becomes a line.
    fn recorded(&mut self, wave: Wave) {
        let count = u64::try_from(wave.samples.len() / wave.head.channels.len().max(1)).unwrap_or(u64::MAX);
        let mut line = ReadingLine::recorded(self.driver.name, None, &wave.head, wave.first, count);
        line.status = wave.status;
        let leads = line.recording.as_ref().map(|recording| recording.leads.clone()).unwrap_or_default();
        self.decoded.lines.push(Line::Reading(Box::new(line)));
        self.decoded.waves.push(Samples { leads, samples: wave.samples });
    }

    fn error(&mut self, error: DriverError) {
        let line = match error {
            DriverError::Resynchronised { skipped } => Line::Resync(ResyncLine { skipped }),
            DriverError::Undecodable { what, reason, octets } => refused("undecodable", format!("{what}: {reason}"), &octets),
            // The next line's `first` shows the hole.
            DriverError::SamplesLost { .. } => return,
            DriverError::NotThisDevice(why) => {
                self.not_this_device = true;
                refused("not-this-device", why, &self.current)
            }
            DriverError::Protocol(why) => refused("protocol", why, &self.current),
        };
        self.decoded.lines.push(line);
    }
}

impl Wave {
    /// What was found of it becomes a status of its line, once.
    fn found(&mut self, judgement: &Measured) {
        for status in &judgement.status {
            if !self.status.iter().any(|known| known == status) {
                self.status.push((*status).to_string());
            }
        }
    }

    /// Each flag that a block raises becomes a status of its line, once.
    fn note(&mut self, block: &Block) {
        let mut raised = Vec::new();
        for (at, channel) in self.head.channels.iter().enumerate() {
            let lead = channel.code.name().unwrap_or("unknown");
            raised.extend((block.lead_off >> at & 1 == 1).then(|| format!("lead-off-{lead}")));
            raised.extend((block.saturated >> at & 1 == 1).then(|| format!("saturated-{lead}")));
        }
        raised.extend(block.artifact.then(|| "artifact".to_string()));
        for status in raised {
            if !self.status.contains(&status) {
                self.status.push(status);
            }
        }
    }
}

#[cfg(test)]
mod tests;
