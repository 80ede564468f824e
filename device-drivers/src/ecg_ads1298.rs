//! An ECG built on an ADS1298: 8 channels of 24 bits, 250–1000 Hz, in this project's framing.
//!
//! Port: 921,600 baud, 8 data bits, no parity, or CDC-ACM; the device sends unasked. Source: [`ads1298`].
//! A header frame says what samples mean; it comes at the start and every 10 s. Frames that come before the first one are
//! held back, 10 s of them; what had to be let go before it came is declared lost. A counter that jumps forward is
//! a hole; one that goes back is a device that started anew: its recording ends and another begins.
//! The last header is remembered with a frame's counter and moment: a conversation whose first frame is as far on as the time
//! since then says hears the same run of the device, and records at once. Any other run may mean something else by its samples.
//! Leads that a header does not name are not recorded. A lead is marked off while any electrode it uses is: for V1–V6 that
//! includes the three of the Wilson terminal, which leads I and II show.
//!
//! [`ads1298`]: kit_protocol::serial::ads1298

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Channel, Kind, Rate, RecordingHead};
use kit_protocol::serial::ads1298::{DataFrame, Found, Framer, Header, Lead, SAMPLE_MAX, SAMPLE_MIN, Sample};

use crate::driver::{
    By, Command, Driver, DriverError, Event, Link, Output, Pairing, PortSettings, Security, Session, Start, Token,
};
use crate::session::outputs::Outputs;
use crate::session::wave::{self, Flags, Wave};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "ecg-ads1298",
    version: "1",
    links: &[Link::Serial(PortSettings { baud: 921_600, even_parity: false })],
    protocol: "ADS1298 data frames with counter and CRC",
    gives: "ECG I, II, V1–V6; lead-off, saturation",
    parameters: &[Mdc::ECG_I, Mdc::ECG_II, Mdc::ECG_V1, Mdc::ECG_V2, Mdc::ECG_V3, Mdc::ECG_V4, Mdc::ECG_V5, Mdc::ECG_V6],
    security: Security::None,
    pairing: Pairing::None,
    memory: false,
    allowed: &[],
    quirks: &[],
    session: |start: Start| {
        let outputs = Outputs::of_ecg(start.recording_time);
        Box::new(Ecg { remembered: start.remembered.as_deref().and_then(Remembered::decode), outputs, ..Ecg::new(None) })
    },
};

/// What samples mean, as a header frame says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Conversions a second.
    pub rate_hz: u16,
    /// What one digit is worth.
    pub scale: Decimal,
    /// In which unit: UCUM.
    pub unit: &'static str,
    /// The leads of the first channels.
    pub leads: Vec<Lead>,
}

/// A session for recorded octets that may lack their header frames: where none came, samples mean this.
#[must_use]
pub fn session_assuming(meaning: Meaning) -> Box<dyn Session> {
    Box::new(Ecg::new(Some(meaning)))
}

/// Frames held back until a header comes: 10 s at 1000 Hz.
const HELD_FRAMES_MAX: usize = 10_000;
/// Signal in one block.
const BLOCK: Duration = Duration::from_millis(500);
/// A line that is quiet for so long: what is gathered is handed over.
const QUIET: Duration = Duration::from_secs(1);
/// A channel stays marked for so long after it was last off or saturated: the chip's filters settle.
const SETTLING: Duration = Duration::from_millis(50);
/// Frames whose CRC fits and whose content does not are refused one by one, but no more often than this.
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// A device's clock is wrong by less than one part in so many; beside it 1 s is allowed for octets that arrive late.
const CRYSTAL_ERROR_INVERSE: u128 = 1_000;
/// Octets without a frame that prove that it is another device: 2 s of 500 Hz.
const STRANGE_OCTETS_MAX: u64 = 35_000;

/// ```text
/// Waiting ──Up──▶ Holding ──header──▶ Recording ──counter goes back, no new header──▶ Holding
///    any ──Down──▶ Ended  └─ no frame in 35,000 octets: NotThisDevice ──▶ Ended
/// ```
enum Stage {
    /// Not up yet.
    Waiting,
    /// Frames wait for their header.
    Holding(Held),
    /// Frames are recorded.
    Recording(Box<Recording>),
    /// The link is down, or the device is another.
    Ended,
}

/// Frames that wait for their header.
#[derive(Default)]
struct Held {
    frames: VecDeque<(Moment, DataFrame)>,
    /// The first that had to be let go, and how many were.
    let_go: Option<(u32, u64)>,
}

struct Recording {
    number: u32,
    meaning: Meaning,
    rate: Rate,
    wave: Wave,
    /// Counter of the first sample, unwrapped.
    base: u64,
    /// Counter of the last sample, unwrapped; `None` before the first.
    last: Option<u64>,
    /// Frames until each channel is no longer marked: lead off, saturated.
    marked: [[u32; Lead::EIGHT.len()]; 2],
    /// A header came after the last sample.
    header_is_newer: bool,
}

/// The last header, and a frame of the same run of the device.
struct Remembered {
    header: Header,
    counter: u32,
    at: Moment,
}

impl Remembered {
    /// Shape: counter (4) · moment in ns (8), little-endian · the header frame.
    fn encode(&self) -> Vec<u8> {
        [&self.counter.to_le_bytes()[..], &self.at.as_nanos().to_le_bytes(), &self.header.encode()].concat()
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let (counter, rest) = octets.split_first_chunk()?;
        let (at, header) = rest.split_first_chunk()?;
        let at = Moment::from_nanos(u64::from_le_bytes(*at));
        Some(Self { header: Header::decode(header).ok()?, counter: u32::from_le_bytes(*counter), at })
    }

    /// Whether a frame is of the same run: one that began anew counts from 0 again.
    fn same_run(&self, at: Moment, counter: u32) -> bool {
        let (rate, sent) = (u128::from(self.header.rate_hz), u128::from(counter.wrapping_sub(self.counter)));
        let expected = at.since(self.at).as_millis() * rate / 1_000;
        at >= self.at && sent.abs_diff(expected) <= rate + expected / CRYSTAL_ERROR_INVERSE
    }
}

struct Ecg {
    stage: Stage,
    /// Of the conversation before, until the first frame was compared with it.
    remembered: Option<Remembered>,
    /// The last header.
    header: Option<Header>,
    assumed: Option<Meaning>,
    framer: Framer,
    outputs: Outputs,
    recordings: u32,
    last_frame: Option<Moment>,
    /// Octets while no frame ever came.
    strange: u64,
    last_refused: Option<Moment>,
    close: bool,
}

impl Session for Ecg {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (&self.stage, event) {
            (Stage::Waiting, Event::Up { .. }) => self.stage = Stage::Holding(Held::default()),
            (Stage::Holding(_) | Stage::Recording(_), Event::Received { octets, by: By::Serial | By::File, .. }) => {
                let mut framer = std::mem::take(&mut self.framer);
                framer.push(octets, |found| self.found(now, found));
                self.framer = framer;
                if self.is_strange(octets.len()) {
                    self.outputs.error(DriverError::NotThisDevice("no ADS1298 frame on this line".into()));
                    self.close = true;
                    self.stage = Stage::Ended;
                }
            }
            (Stage::Holding(_) | Stage::Recording(_), Event::Down { .. }) => {
                let mut framer = std::mem::take(&mut self.framer);
                framer.finish(|found| self.found(now, found));
                self.finish(now);
            }
            (Stage::Waiting, Event::Down { .. }) => self.stage = Stage::Ended,
            (_, Event::Stored { reading } | Event::Refused { reading }) => self.outputs.answered(reading),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            if let Stage::Recording(recording) = &mut self.stage {
                recording.hand_over_gathered(&mut self.outputs);
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
        match &self.stage {
            Stage::Recording(recording) if recording.wave.gathers() => self.last_frame.map(|last| last + QUIET),
            _ => None,
        }
    }
}

impl Ecg {
    fn new(assumed: Option<Meaning>) -> Self {
        Self {
            stage: Stage::Waiting,
            remembered: None,
            header: None,
            assumed,
            framer: Framer::default(),
            outputs: Outputs::of_ecg(None),
            recordings: 0,
            last_frame: None,
            strange: 0,
            last_refused: None,
            close: false,
        }
    }

    fn is_strange(&mut self, octets: usize) -> bool {
        self.strange += u64::try_from(octets).unwrap_or(u64::MAX);
        self.last_frame.is_none() && self.strange > STRANGE_OCTETS_MAX
    }

    fn found(&mut self, now: Moment, found: Found) {
        match found {
            Found::Skipped(octets) => return self.outputs.skipped(now, octets),
            Found::Refused { error, octets } => {
                if self.last_refused.is_none_or(|last| now.since(last) >= REFUSED_EVERY) {
                    self.last_refused = Some(now);
                    let what = if octets.len() == DataFrame::OCTETS { "ADS1298 data frame" } else { "ADS1298 header frame" };
                    self.outputs.error(DriverError::Undecodable { what, reason: error.to_string(), octets });
                }
            }
            Found::Header(header) => self.header(&header),
            Found::Data(frame) => self.data(now, frame),
        }
        self.last_frame = Some(now);
        self.outputs.tell_skipped(now, false);
    }

    fn header(&mut self, header: &Header) {
        if let Some(scale) = header.scale() {
            self.header = Some(header.clone());
            self.meaning(Meaning { rate_hz: header.rate_hz, scale, unit: "uV", leads: header.leads.clone() });
        }
    }

    /// Moves to `Recording`, or keeps to it where nothing new is said.
    fn meaning(&mut self, meaning: Meaning) {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Recording(mut recording) if recording.meaning == meaning => {
                recording.header_is_newer = true;
                self.stage = Stage::Recording(recording);
            }
            Stage::Recording(mut before) => {
                before.end(&mut self.outputs);
                let mut recording = Box::new(self.begin(meaning));
                // The counter goes on, so that a hole between the two recordings is seen.
                recording.base = before.last.map_or(0, |last| last + 1);
                recording.last = before.last;
                self.stage = Stage::Recording(recording);
            }
            Stage::Holding(held) => {
                let mut recording = Box::new(self.begin(meaning));
                if let Some((first, count)) = held.let_go {
                    self.outputs.error(DriverError::SamplesLost { recording: recording.number, first: first.into(), count });
                    recording.base = first.into();
                    recording.last = Some(u64::from(first) + count - 1);
                }
                self.stage = Stage::Recording(recording);
                held.frames.into_iter().for_each(|(at, frame)| self.data(at, frame));
            }
            other => self.stage = other,
        }
    }

    /// Holds a frame, records it, or begins anew with it.
    fn data(&mut self, at: Moment, frame: DataFrame) {
        if let (Stage::Holding(_), Some(remembered)) = (&self.stage, self.remembered.take())
            && remembered.same_run(at, frame.counter)
        {
            self.header(&remembered.header);
        }
        match &mut self.stage {
            Stage::Holding(held) if held.frames.len() >= HELD_FRAMES_MAX && self.assumed.is_some() => {
                self.assume();
                self.data(at, frame);
            }
            Stage::Holding(held) => held.take(at, frame),
            Stage::Recording(recording) => {
                let place = recording.place(frame.counter);
                if let (Place::Next | Place::After { .. }, true, Some(header)) = (&place, recording.header_is_newer, &self.header)
                {
                    self.outputs.remember(Remembered { header: header.clone(), counter: frame.counter, at }.encode());
                }
                match place {
                    Place::Next => recording.push(at, &frame, &mut self.outputs),
                    Place::After { lost } => {
                        recording.lost(lost, &mut self.outputs);
                        recording.push(at, &frame, &mut self.outputs);
                    }
                    Place::Again => {}
                    Place::Anew => self.anew(at, frame),
                }
            }
            Stage::Waiting | Stage::Ended => {}
        }
    }

    fn assume(&mut self) {
        if let Some(meaning) = self.assumed.take() {
            self.meaning(meaning);
        }
    }

    /// The device's counter went back: it was off. Its recording ends; what it sent meanwhile nobody can count.
    fn anew(&mut self, at: Moment, frame: DataFrame) {
        let Stage::Recording(mut recording) = std::mem::replace(&mut self.stage, Stage::Holding(Held::default())) else { return };
        recording.lost(0, &mut self.outputs);
        recording.end(&mut self.outputs);
        if recording.header_is_newer {
            self.stage = Stage::Recording(Box::new(self.begin(recording.meaning)));
        }
        self.data(at, frame);
    }

    fn begin(&mut self, meaning: Meaning) -> Recording {
        self.recordings += 1;
        let number = self.recordings;
        let rate = Rate { samples: meaning.rate_hz.into(), seconds: 1 };
        let channel = |lead: &Lead| Channel { code: lead.mdc(), scale: meaning.scale, unit: meaning.unit, filter: String::new() };
        let channels = meaning.leads.iter().map(channel).collect();
        self.outputs.begin(number, RecordingHead::live(Kind::Ecg, channels, rate));
        let wave = Wave::new(meaning.leads.len(), rate, BLOCK);
        Recording { number, meaning, rate, wave, base: 0, last: None, marked: Default::default(), header_is_newer: true }
    }

    /// The link is down: what is gathered is handed over. Frames that still wait for a header mean nothing.
    fn finish(&mut self, now: Moment) {
        if matches!(&self.stage, Stage::Holding(held) if !held.frames.is_empty()) {
            self.assume();
        }
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Recording(mut recording) => recording.end(&mut self.outputs),
            Stage::Holding(held) if !held.frames.is_empty() => {
                let reason = format!("{} frames without a header frame", held.frames.len());
                self.outputs.error(DriverError::Protocol(reason));
            }
            _ => {}
        }
        self.outputs.tell_skipped(now, true);
    }
}

impl Held {
    fn take(&mut self, at: Moment, frame: DataFrame) {
        if self.frames.len() >= HELD_FRAMES_MAX
            && let Some((_, oldest)) = self.frames.pop_front()
        {
            let (first, _) = self.let_go.unwrap_or((oldest.counter, 0));
            self.let_go = Some((first, u64::from(oldest.counter.wrapping_sub(first)) + 1));
        }
        self.frames.push_back((at, frame));
    }
}

/// Where a counter stands against the last one.
enum Place {
    /// It follows it, or is the first.
    Next,
    /// So many are missing before it.
    After { lost: u64 },
    /// It is the same.
    Again,
    /// It is before it: the device started anew.
    Anew,
}

impl Recording {
    fn place(&self, counter: u32) -> Place {
        let Some(last) = self.last else { return Place::Next };
        match ahead(counter, last) {
            0 => Place::Again,
            1 => Place::Next,
            ahead if ahead < u32::MAX / 2 => Place::After { lost: u64::from(ahead) - 1 },
            _ => Place::Anew,
        }
    }

    fn push(&mut self, at: Moment, frame: &DataFrame, outputs: &mut Outputs) {
        let counter = match self.last {
            Some(last) => last + u64::from(ahead(frame.counter, last)),
            None => {
                self.base = frame.counter.into();
                self.base
            }
        };
        self.last = Some(counter);
        self.header_is_newer = false;
        let flags = self.flags(&frame.sample);
        let samples = frame.sample.channels.into_iter().take(self.meaning.leads.len());
        if let Some(block) = self.wave.push(samples, counter - self.base, Some(counter), at, flags) {
            self.hand_over(block, outputs);
        }
    }

    /// Which channels are not to be trusted, now and while the filters settle.
    fn flags(&mut self, sample: &Sample) -> Flags {
        let settling = self.rate.samples / (1_000 / u32::try_from(SETTLING.as_millis()).unwrap_or(1));
        let off = sample.lead_off.positive | sample.lead_off.negative;
        let limb_off = self.meaning.leads.iter().enumerate().any(|(at, lead)| !lead.precordial() && off >> at & 1 == 1);
        let mut flags = Flags::default();
        for (at, lead) in self.meaning.leads.iter().enumerate() {
            let value = sample.channels.get(at).copied().unwrap_or(0);
            let now = [off >> at & 1 == 1 || (limb_off && lead.precordial()), value >= SAMPLE_MAX || value <= SAMPLE_MIN];
            let mask = [&mut flags.lead_off, &mut flags.saturated];
            for ((marked, now), mask) in self.marked.iter_mut().zip(now).zip(mask) {
                let Some(marked) = marked.get_mut(at) else { continue };
                *marked = if now { settling + 1 } else { marked.saturating_sub(1) };
                *mask |= u32::from(*marked > 0) << at;
            }
        }
        flags
    }

    /// So many samples never arrived, 0 where nobody can tell.
    fn lost(&mut self, count: u64, outputs: &mut Outputs) {
        self.hand_over_gathered(outputs);
        let first = self.last.map_or(self.base, |last| last + 1);
        outputs.error(DriverError::SamplesLost { recording: self.number, first, count });
    }

    fn hand_over_gathered(&mut self, outputs: &mut Outputs) {
        if let Some(block) = self.wave.cut() {
            self.hand_over(block, outputs);
        }
    }

    fn hand_over(&self, block: Block, outputs: &mut Outputs) {
        let channels = self.meaning.leads.len();
        let frames = u64::try_from(block.samples.len() / channels.max(1)).unwrap_or(u64::MAX);
        outputs.samples(self.number, block, channels, wave::span(frames, self.rate));
    }

    fn end(&mut self, outputs: &mut Outputs) {
        self.hand_over_gathered(outputs);
        outputs.end(self.number);
    }
}

/// How far a wrapping counter is ahead of an unwrapped one.
fn ahead(counter: u32, last: u64) -> u32 {
    let [a, b, c, d, ..] = last.to_le_bytes();
    counter.wrapping_sub(u32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests;
