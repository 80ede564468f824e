//! The kit's flow spirometer: a flow stream of the manoeuvres, in this project's framing.
//!
//! Port: 115,200 baud, 8 data bits, no parity, or CDC-ACM; the device sends unasked. Source: [`spirometer_flow`].
//! Each manoeuvre is a recording of its flow. With the feature `derive` its figures follow as a reading, computed of that flow,
//! and at the session's end the best values with their grades; without it the curve is all there is. "FEV1%" of the kit's list
//! is FEV1/FVC here, never a percentage of a predicted value.
//! A manoeuvre is computed only of all of its samples: the marks carry the counter of the next sample, and what did not arrive
//! makes it a refusal, so that the patient blows again.
//!
//! [`spirometer_flow`]: kit_protocol::serial::spirometer_flow

#[cfg(feature = "derive")]
mod analysis;
#[cfg(not(feature = "derive"))]
#[path = "spirometer_flow/no_analysis.rs"]
mod analysis;

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Channel, Context, Kind, Measured, Rate, RecordingHead, Status, Value};
use kit_protocol::serial::spirometer_flow::{Bronchodilator, Flow, Found, Framer, Header, Mark, MarkKind};

use self::analysis::Analysis;
use crate::driver::{
    By, Command, Driver, DriverError, Event, Link, Output, Pairing, PortSettings, Security, Session, Start, Token,
};
use crate::session::outputs::Outputs;
use crate::session::wave::{self, Flags, Wave};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "spirometer-flow",
    version: "1",
    links: &[Link::Serial(PortSettings { baud: 115_200, even_parity: false })],
    protocol: "flow frames with counter and CRC, 2 ms",
    gives: "flow curves; FVC, FEV1, FEV1% (FEV1/FVC), FEV6, PEF, FEF25, FEF50, FEF75, FEF25-75, FET, BEV and grades by ATS/ERS 2019, computed here",
    parameters: &PARAMETERS,
    security: Security::None,
    pairing: Pairing::None,
    memory: false,
    allowed: &[],
    quirks: &[],
    session: |_: Start| Box::new(Spirometer::new()),
};

const FLOW: Mdc = Mdc(151_764);
const PARAMETERS: [Mdc; 13] = [
    FLOW,
    Mdc(188_928),
    Mdc(152_586),
    Mdc(188_948),
    Mdc(152_587),
    Mdc(152_584),
    Mdc(188_964),
    Mdc(188_968),
    Mdc(188_972),
    Mdc(188_960),
    Mdc(189_016),
    Mdc(189_020),
    Mdc(188_980),
];

/// The longest manoeuvre that figures are computed of.
const MANOEUVRE_MAX: Duration = Duration::from_secs(90);
/// Signal in one block.
const BLOCK: Duration = Duration::from_millis(500);
/// A line that is quiet for so long in a manoeuvre: it is over, however much of it came.
const MANOEUVRE_SILENCE: Duration = Duration::from_secs(3);
/// A device that is quiet for so long: the patient is done.
const SESSION_SILENCE: Duration = Duration::from_secs(15 * 60);
/// Frames whose CRC fits and whose content does not are refused one by one, but no more often than this.
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// Flow that came before a header said what it means: kept, at most so many frames, which is more than a second of them.
const EARLY_FRAMES_MAX: usize = 512;
/// Octets without a frame that prove that it is another device: 2 s of its line.
const STRANGE_OCTETS_MAX: u64 = 23_000;

/// What an analysis makes: values and statuses of a reading.
type Figures = (Vec<Value>, Vec<Status>);

/// ```text
/// Waiting ──Up──▶ Idle ──flow, manoeuvre begins──▶ Blowing ──manoeuvre ends, silence, the device began anew──▶ Idle
///    any ──Down──▶ Ended   └─ no frame in 23,000 octets: NotThisDevice ──▶ Ended
/// ```
enum Stage {
    /// Not up yet.
    Waiting,
    /// Between manoeuvres.
    Idle,
    /// A manoeuvre is under way.
    Blowing(Box<Blow>),
    /// The link is down, or the device is another.
    Ended,
}

/// A manoeuvre under way.
struct Blow {
    recording: u32,
    header: Header,
    rate: Rate,
    wave: Wave,
    /// Counter of its first sample.
    base: u32,
    /// Samples of it up to here, lost ones included.
    length: u64,
    /// Samples that never arrived.
    lost: u64,
    /// Its beginning was marked, so that nothing before the first sample is missing.
    marked: bool,
    /// Its samples, up to [`MANOEUVRE_MAX`].
    samples: Vec<i32>,
}

struct Spirometer {
    stage: Stage,
    header: Option<Header>,
    analysis: Analysis,
    framer: Framer,
    outputs: Outputs,
    recordings: u32,
    /// The last mark: what names a reading.
    mark: Mark,
    last_frame: Option<Moment>,
    /// Octets while no frame ever came.
    strange: u64,
    last_refused: Option<Moment>,
    /// Flow for which there is no header yet, as it came.
    early: VecDeque<(Moment, Flow)>,
    /// Counter of the first early sample that was not kept, and how many were not.
    early_lost: Option<(u32, u64)>,
    close: bool,
}

impl Session for Spirometer {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (&self.stage, event) {
            (Stage::Waiting, Event::Up { .. }) => self.stage = Stage::Idle,
            (Stage::Idle | Stage::Blowing(_), Event::Received { octets, by: By::Serial | By::File, .. }) => {
                let mut framer = std::mem::take(&mut self.framer);
                framer.push(octets, |found| self.found(now, found));
                self.framer = framer;
                self.strange += u64::try_from(octets.len()).unwrap_or(u64::MAX);
                if self.last_frame.is_none() && self.strange > STRANGE_OCTETS_MAX {
                    self.outputs.error(DriverError::NotThisDevice("no flow spirometer's frame on this line".into()));
                    self.close = true;
                    self.stage = Stage::Ended;
                }
            }
            (Stage::Idle | Stage::Blowing(_), Event::Down { .. }) => {
                let mut framer = std::mem::take(&mut self.framer);
                framer.finish(|found| self.found(now, found));
                self.end_of_blow(now, None);
                self.end_of_session(now);
                self.outputs.tell_skipped(now, true);
                self.stage = Stage::Ended;
            }
            (Stage::Waiting, Event::Down { .. }) => self.stage = Stage::Ended,
            (_, Event::Stored { reading } | Event::Refused { reading }) => self.outputs.answered(reading),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            match self.stage {
                Stage::Blowing(_) => self.end_of_blow(now, None),
                _ => self.end_of_session(now),
            }
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
        let after = match &self.stage {
            Stage::Blowing(_) => MANOEUVRE_SILENCE,
            Stage::Idle if self.analysis.under_way() => SESSION_SILENCE,
            Stage::Waiting | Stage::Idle | Stage::Ended => return None,
        };
        self.last_frame.map(|last| last + after)
    }
}

impl Spirometer {
    fn new() -> Self {
        Self {
            stage: Stage::Waiting,
            header: None,
            analysis: Analysis::default(),
            framer: Framer::default(),
            outputs: Outputs::default(),
            recordings: 0,
            mark: Mark::default(),
            last_frame: None,
            strange: 0,
            last_refused: None,
            early: VecDeque::new(),
            early_lost: None,
            close: false,
        }
    }

    fn found(&mut self, now: Moment, found: Found) {
        match found {
            Found::Skipped(octets) => return self.outputs.skipped(now, octets),
            Found::Refused { error, octets } => self.refused(now, &error, octets),
            Found::Header(header) => self.header(now, header),
            Found::Mark(mark) => self.mark(now, mark),
            Found::Flow(flow) => self.flow(now, &flow),
        }
        self.last_frame = Some(now);
        self.outputs.tell_skipped(now, false);
    }

    fn refused(&mut self, now: Moment, error: &dyn std::error::Error, octets: Vec<u8>) {
        if self.last_refused.is_none_or(|last| now.since(last) >= REFUSED_EVERY) {
            self.last_refused = Some(now);
            self.outputs.error(DriverError::Undecodable { what: "spirometer frame", reason: error.to_string(), octets });
        }
    }

    /// Another session's, or another side of the bronchodilator: what came before is a session by itself.
    fn header(&mut self, now: Moment, header: Header) {
        if self.header.is_some_and(|before| before != header) {
            self.end_of_blow(now, None);
        }
        let same = |before: Header| before.session == header.session && before.bronchodilator == header.bronchodilator;
        if !self.header.is_none_or(same) {
            self.end_of_session(now);
        }
        self.header = Some(header);
        for (at, flow) in std::mem::take(&mut self.early) {
            self.flow(at, &flow);
        }
    }

    /// Keeps flow until a header says what it means.
    fn keep(&mut self, now: Moment, flow: &Flow) {
        self.early.push_back((now, flow.clone()));
        if self.early.len() > EARLY_FRAMES_MAX
            && let Some((_, dropped)) = self.early.pop_front()
        {
            let count = u64::try_from(dropped.samples.len()).unwrap_or(u64::MAX);
            self.early_lost.get_or_insert((dropped.counter, 0)).1 += count;
        }
    }

    fn mark(&mut self, now: Moment, mark: Mark) {
        match mark.kind {
            MarkKind::SessionBegins => {
                self.end_of_blow(now, Some(mark.counter));
                self.end_of_session(now);
            }
            // The same mark once more.
            MarkKind::ManoeuvreBegins if matches!(&self.stage, Stage::Blowing(blow) if blow.marked && blow.length == 0) => {}
            MarkKind::ManoeuvreBegins => {
                self.end_of_blow(now, Some(mark.counter));
                self.mark = mark;
                self.begin(mark.counter, true);
            }
            MarkKind::ManoeuvreEnds => self.end_of_blow(now, Some(mark.counter)),
            MarkKind::SessionEnds => {
                self.end_of_blow(now, Some(mark.counter));
                self.mark = mark;
                self.end_of_session(now);
            }
        }
    }

    /// Moves to `Blowing`; not where no header says what samples mean: another comes before the next manoeuvre.
    fn begin(&mut self, base: u32, marked: bool) {
        let (Some(header), Stage::Idle) = (self.header, &self.stage) else { return };
        self.recordings += 1;
        let recording = self.recordings;
        let rate = rate(header.interval_us);
        let channel = Channel { code: FLOW, scale: header.scale(), unit: "L/s", filter: String::new() };
        let head = RecordingHead { continuous: false, ..RecordingHead::live(Kind::Spirometry, vec![channel], rate) };
        self.outputs.begin(recording, head);
        if let Some((first, count)) = self.early_lost.take() {
            self.outputs.error(DriverError::SamplesLost { recording, first: first.into(), count });
        }
        let wave = Wave::new(1, rate, BLOCK);
        let (length, lost, samples) = (0, 0, Vec::new());
        self.stage = Stage::Blowing(Box::new(Blow { recording, header, rate, wave, base, length, lost, marked, samples }));
    }

    fn flow(&mut self, now: Moment, flow: &Flow) {
        if self.header.is_none() {
            return self.keep(now, flow);
        }
        if matches!(self.stage, Stage::Idle) {
            self.begin(flow.counter, false);
        }
        let Stage::Blowing(blow) = &mut self.stage else { return };
        match blow.place(flow.counter) {
            Place::At { lost } => {
                blow.lose(lost, &mut self.outputs);
                blow.push(now, &flow.samples, 0, &mut self.outputs);
            }
            Place::Again { known } => blow.push(now, &flow.samples, known, &mut self.outputs),
            Place::Anew => {
                self.end_of_blow(now, None);
                self.flow(now, flow);
            }
        }
    }

    /// The manoeuvre is over. `next`: the counter of the sample after it, where the device said it.
    fn end_of_blow(&mut self, now: Moment, next: Option<u32>) {
        let Stage::Blowing(mut blow) = std::mem::replace(&mut self.stage, Stage::Idle) else { return };
        let missing = next.map(|next| blow.place(next));
        if let Some(Place::At { lost }) = missing {
            blow.lose(lost, &mut self.outputs);
        }
        blow.hand_over_gathered(&mut self.outputs);
        self.outputs.end(blow.recording);
        let whole = match missing {
            Some(Place::At { .. }) if blow.lost > 0 => Err(format!("{} of its samples never arrived", blow.lost)),
            Some(Place::At { .. }) if !blow.marked => Err("its beginning never arrived".into()),
            Some(Place::At { .. }) if blow.length > blow.samples_max() => Err("it is too long".into()),
            Some(Place::At { .. }) => Ok(()),
            _ => Err("its end never arrived".into()),
        };
        match whole.and_then(|()| self.analysis.manoeuvre(&blow.samples, &blow.header)) {
            Ok(figures) => self.reading(now, &blow.header, figures, Some(blow.recording)),
            Err(reason) => {
                let octets = self.mark.encode();
                self.outputs.error(DriverError::Undecodable { what: "spirometry manoeuvre", reason, octets });
            }
        }
    }

    fn end_of_session(&mut self, now: Moment) {
        let figures = self.analysis.end_of_session();
        if let Some(header) = self.header {
            self.reading(now, &header, figures, None);
        }
    }

    fn reading(&mut self, now: Moment, header: &Header, figures: Option<Figures>, recording: Option<u32>) {
        let Some((values, mut status)) = figures else { return };
        if !header.btps {
            status.push("volumes-not-at-btps");
        }
        let bronchodilator = match header.bronchodilator {
            Bronchodilator::NotStated => None,
            Bronchodilator::Before => Some("before"),
            Bronchodilator::After => Some("after"),
        };
        let context = bronchodilator.map(|value| Context { what: "bronchodilator", value }).into_iter().collect();
        let octets = self.mark.encode();
        let derived = true;
        let measured = Measured { values, status, context, octets, recording, derived, ..Measured::new(Kind::Spirometry, now) };
        if self.outputs.measured(measured).is_err() {
            self.outputs.error(DriverError::Protocol("manoeuvres come faster than they can be stored".into()));
            self.close = true;
        }
    }
}

/// Where a counter stands against what is expected next.
enum Place {
    /// There, or so many further on.
    At { lost: u64 },
    /// Before it, by so many samples that came already.
    Again { known: usize },
    /// Nowhere near: the device began anew.
    Anew,
}

/// A counter further off than this is another run of the device: 2 min of 500 Hz.
const HOLE_SAMPLES_MAX: u32 = 60_000;

impl Blow {
    fn place(&self, counter: u32) -> Place {
        let came = u32::try_from(self.length).unwrap_or(u32::MAX);
        let next = self.base.wrapping_add(came);
        match (counter.wrapping_sub(next), next.wrapping_sub(counter)) {
            (ahead, _) if ahead <= HOLE_SAMPLES_MAX => Place::At { lost: ahead.into() },
            (_, behind) if behind <= came => Place::Again { known: usize::try_from(behind).unwrap_or(usize::MAX) },
            _ => Place::Anew,
        }
    }

    fn push(&mut self, now: Moment, samples: &[i32], known: usize, outputs: &mut Outputs) {
        for sample in samples.iter().skip(known) {
            let counter = self.base.wrapping_add(u32::try_from(self.length).unwrap_or(u32::MAX));
            let frame = std::iter::once(*sample);
            if let Some(block) = self.wave.push(frame, self.length, Some(counter.into()), now, Flags::default()) {
                self.hand_over(block, outputs);
            }
            self.length += 1;
            if self.length <= self.samples_max() {
                self.samples.push(*sample);
            }
        }
    }

    fn lose(&mut self, count: u64, outputs: &mut Outputs) {
        if count > 0 {
            self.hand_over_gathered(outputs);
            let first = self.base.wrapping_add(u32::try_from(self.length).unwrap_or(u32::MAX)).into();
            outputs.error(DriverError::SamplesLost { recording: self.recording, first, count });
            self.length += count;
            self.lost += count;
        }
    }

    fn samples_max(&self) -> u64 {
        u64::try_from(MANOEUVRE_MAX.as_micros()).unwrap_or(u64::MAX) / u64::from(self.header.interval_us.max(1))
    }

    fn hand_over_gathered(&mut self, outputs: &mut Outputs) {
        if let Some(block) = self.wave.cut() {
            self.hand_over(block, outputs);
        }
    }

    fn hand_over(&self, block: Block, outputs: &mut Outputs) {
        let samples = u64::try_from(block.samples.len()).unwrap_or(u64::MAX);
        outputs.samples(self.recording, block, 1, wave::span(samples, self.rate));
    }
}

/// Samples a second as a fraction in its lowest terms.
fn rate(interval_us: u16) -> Rate {
    let divisor = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let (samples, seconds) = (1_000_000, u32::from(interval_us.max(1)));
    let common = divisor(samples, seconds);
    Rate { samples: samples / common, seconds: seconds / common }
}

#[cfg(test)]
mod tests;
