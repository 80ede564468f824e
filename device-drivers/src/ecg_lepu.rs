//! ECG recorders of Lepu and Viatom: ER1 and ER2 (one lead), ER3 (I, II, V1, V5 of six electrodes, or eight channels).
//!
//! Service 14839ac4-7d7e-415c-9a42-167340cf2339: written 8b00ace7-…, notified 0734594a-…, in frames that notifications split.
//! The live signal is asked for, twice a second: what came since the answer before. An ER3 numbers its rows, so that a hole
//! is counted; the others do not, and after an answer that never came nobody can tell how many samples went with it.
//! Source: [`kit_protocol::serial::lepu`], [`kit_protocol::file::lepu_er3`]; the UUIDs also in viatom_bp2_ha a3d8de6.
//! What it had gathered when the link came up is not of this conversation, and left out: nobody knows who wore it then.
//! Which of the two requests a device knows is tried, the likelier by its name first. Samples are the device's own integers;
//! derived leads are not recorded. A file that an ER3 wrote is taken too; so are recorded frames.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::file::lepu_er3::{self, LeadType};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Kind, Measured, Quantity, Rate, RecordingHead, Value};
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::lepu::{Battery, Frame, FrameCommand, Framer, Information, Live, LiveNumbered};
use uuid::Uuid;

use crate::driver::{
    Allowed, By, Command, Driver, DriverError, Effect, Endpoint, Event, Link, Output, Pairing, Security, Session, Start, Token,
};
use crate::session::gatt_session::{GattSession, Plan, earlier};
use crate::session::outputs::Outputs;
use crate::session::playback::{self, FILE_OCTETS_MAX, Playback, Source};
use crate::session::wave::{self, Flags, Wave};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "ecg-lepu",
    version: "1",
    links: &[Link::Ble { advertises: &[SERVICE], names: &["ER1", "ER2", "ER3", "DuoEK"], listens: &[NOTIFIED] }, Link::File],
    protocol: "Lepu A5 frames; ER3 files",
    gives: "ECG of one lead, or I, II, V1, V5 (or I, II, V1–V6); lead-off; heart rate, battery",
    parameters: &[
        Mdc::HEART_RATE,
        Mdc::ECG,
        Mdc::ECG_I,
        Mdc::ECG_II,
        Mdc::ECG_V1,
        Mdc::ECG_V2,
        Mdc::ECG_V3,
        Mdc::ECG_V4,
        Mdc::ECG_V5,
        Mdc::ECG_V6,
    ],
    security: Security::None,
    pairing: Pairing::None,
    memory: false,
    allowed: &[
        asks("live", &[0xa5, 0x03, 0xfc]),
        asks("live-numbered", &[0xa5, 0x06, 0xf9]),
        asks("information", &[0xa5, 0xe1, 0x1e]),
    ],
    quirks: &[],
    session: |start| Box::new(Lepu::new(&start)),
};

const SERVICE: Uuid = Uuid::from_u128(0x1483_9ac4_7d7e_415c_9a42_1673_40cf_2339);
const WRITTEN: Endpoint =
    Endpoint { service: SERVICE, characteristic: Uuid::from_u128(0x8b00_ace7_eb0b_49b0_bbe9_9aee_0a26_e1a3) };
const NOTIFIED: Endpoint =
    Endpoint { service: SERVICE, characteristic: Uuid::from_u128(0x0734_594a_a8e7_4b1a_a6b1_cd52_4305_9a57) };

const fn asks(name: &'static str, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect: Effect::Ask, to: WRITTEN, at: 0, octets }
}

const PLAN: Plan = Plan { gives: "Lepu ECG", measures: &[NOTIFIED], reads: &[], subscribes: &[NOTIFIED], clock: &[] };

/// The signal is asked for so often.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// An answer comes within this, or is taken not to come.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// So many answers in a row may be missing.
const MISSED_MAX: u8 = 10;
/// One reading of the heart rate every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// Signal in one block.
const BLOCK: Duration = Duration::from_millis(500);

/// ```text
/// setting up ─Ready─▶ Asked{information} ─▶ Idle ◀─▶ Asked{live | live-numbered}
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Nothing is to be asked: setting up, ended, or a file.
    Never,
    /// Asked again then.
    At(Moment),
    /// An answer is awaited until then, and it is asked again at the other.
    Asked { until: Moment, again: Moment },
}

struct Lepu {
    gatt: GattSession,
    framer: Framer,
    /// When a device that is asked came up.
    up: Option<Moment>,
    ask: Ask,
    /// What is asked for: information first, then the signal.
    request: FrameCommand,
    /// The live request that this device was seen to answer, or is tried with.
    live: FrameCommand,
    answers: bool,
    missed: u8,
    sequence: u8,
    /// The lead of a device with one.
    single: Mdc,
    interval: Duration,
    next_reading: Option<Moment>,
    recordings: u32,
    recording: Option<Recording>,
    /// The octets of a file, until it ends.
    file: Option<Vec<u8>>,
    playback: Option<Playback>,
}

/// What rows mean.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meaning {
    /// The lead of each channel; those without one are not recorded.
    leads: Vec<Option<Mdc>>,
    rate_hz: u16,
    scale: Decimal,
}

struct Recording {
    number: u32,
    meaning: Meaning,
    rate: Rate,
    wave: Wave,
    /// Leads that are recorded.
    channels: usize,
    /// The device's number of the first row; 0 where it numbers none.
    base: u64,
    /// Index of the next row.
    next: u64,
    /// The last numbered answer: its first row and how many.
    last: Option<(u32, u64)>,
}

/// What came in one answer.
struct Rows<'a> {
    meaning: Meaning,
    /// The device's number of the first row.
    first: Option<u32>,
    samples: &'a [i16],
    /// By the device's flags, in the order of its channels.
    off: u32,
    artifact: bool,
}

impl Rows<'_> {
    /// Those that were made within `span`, the newest ones.
    fn of_the_last(mut self, span: Duration) -> Self {
        let channels = self.meaning.leads.len().max(1);
        let most = span.as_millis() * u128::from(self.meaning.rate_hz) / 1_000;
        let older = (self.samples.len() / channels).saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        self.samples = self.samples.get(older * channels..).unwrap_or_default();
        self.first = self.first.zip(u32::try_from(older).ok()).map(|(first, older)| first.wrapping_add(older));
        self
    }
}

impl Session for Lepu {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match &event {
            Event::Up { has, .. } if has.contains(&Endpoint::SERIAL) => self.file = Some(Vec::new()),
            Event::Up { has, .. } if has.contains(&WRITTEN) => self.up = Some(now),
            Event::Received { octets, by: By::File, .. } => self.gather(octets),
            Event::Received { from, octets, .. } if *from == NOTIFIED => self.notified(now, octets),
            Event::Down { .. } => self.down(now),
            Event::Failed { .. } if matches!(self.ask, Ask::Asked { .. }) => self.unanswered(now),
            _ => {}
        }
        if self.file.is_none() && self.gatt.handle_event(now, &event) {
            self.ask = Ask::At(now);
            self.ask(now);
        } else if let Event::Stored { reading } | Event::Refused { reading } = event
            && self.file.is_some()
        {
            self.gatt.outputs.answered(reading);
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        match self.ask {
            Ask::At(at) if at <= now => self.ask(now),
            Ask::Asked { until, .. } if until <= now => self.unanswered(now),
            _ => self.gatt.handle_timeout(now),
        }
        self.gatt.outputs.tell_skipped(now, false);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.gatt.poll_command()
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        playback::poll(&mut self.gatt.outputs, self.playback.as_mut())
    }

    fn poll_timeout(&self) -> Option<Moment> {
        let asks = match self.ask {
            Ask::Never => None,
            Ask::At(at) | Ask::Asked { until: at, .. } => Some(at),
        };
        earlier(asks, self.gatt.poll_timeout())
    }
}

/// Asking.
impl Lepu {
    fn new(start: &Start) -> Self {
        let mut gatt = GattSession::new(PLAN, start);
        gatt.outputs = Outputs::of_ecg(start.recording_time);
        let named = |name: &str| [&start.about.name, &start.about.model].into_iter().flatten().any(|text| text.starts_with(name));
        Self {
            gatt,
            framer: Framer::default(),
            up: None,
            ask: Ask::Never,
            request: FrameCommand::INFORMATION,
            live: if named("ER3") { FrameCommand::LIVE_NUMBERED } else { FrameCommand::LIVE },
            answers: false,
            missed: 0,
            sequence: 0,
            // A device between two hands measures lead I; a patch on the chest measures whatever it is stuck to.
            single: if named("ER2") || named("DuoEK") { Mdc::ECG_I } else { Mdc::ECG },
            interval: start.stream_interval.unwrap_or(INTERVAL),
            next_reading: None,
            recordings: 0,
            recording: None,
            file: None,
            playback: None,
        }
    }

    fn ask(&mut self, now: Moment) {
        let request = match self.request {
            FrameCommand::LIVE => Frame::live(self.sequence),
            FrameCommand::LIVE_NUMBERED => Frame::live_numbered(self.sequence),
            _ => Frame::information(self.sequence),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.gatt.write_without_response(WRITTEN, request.encode());
        self.ask = Ask::Asked { until: now + ANSWER_MAX, again: now + ASK_EVERY };
    }

    /// An answer came: the next one is asked for in its time.
    fn answered(&mut self, now: Moment) {
        self.missed = 0;
        if let Ask::Asked { again, .. } = self.ask {
            self.ask = Ask::At(again.max(now));
        }
    }

    /// No answer came: of an unnumbered signal, nobody knows what was in it.
    fn unanswered(&mut self, now: Moment) {
        self.missed += 1;
        if self.missed >= MISSED_MAX {
            self.finish();
            self.ask = Ask::Never;
            return self.gatt.give_up("the device does not answer");
        }
        if let Some(recording) = &mut self.recording {
            recording.hand_over_gathered(&mut self.gatt.outputs);
            if recording.last.is_none() {
                recording.lost(0, &mut self.gatt.outputs);
            }
        } else if self.request == self.live && !self.answers {
            self.live = if self.live == FrameCommand::LIVE { FrameCommand::LIVE_NUMBERED } else { FrameCommand::LIVE };
        }
        self.request = self.live;
        self.ask = Ask::At(now + ASK_EVERY);
    }

    fn notified(&mut self, now: Moment, octets: &[u8]) {
        let mut framer = std::mem::take(&mut self.framer);
        framer.push(octets, |found| self.found(now, found));
        self.framer = framer;
    }

    fn found(&mut self, now: Moment, found: Found<Frame>) {
        match found {
            Found::Skipped(octets) => self.gatt.outputs.skipped(now, octets),
            Found::Frame(frame) => self.frame(now, &frame),
        }
    }

    fn frame(&mut self, now: Moment, frame: &Frame) {
        let decoded = match frame.command {
            FrameCommand::LIVE => Live::decode(&frame.content).map(|live| self.plain(now, &live, &frame.content)),
            FrameCommand::LIVE_NUMBERED => {
                LiveNumbered::decode(&frame.content).map(|live| self.numbered(now, &live, &frame.content))
            }
            FrameCommand::INFORMATION => Information::decode(&frame.content).map(|information| {
                if let Some(time) = information.time {
                    self.gatt.outputs.device_clock(time, now);
                }
                self.request = self.live;
            }),
            // An answer to nothing that is asked here.
            _ => return,
        };
        if let Err(error) = decoded {
            self.gatt.undecodable("Lepu answer", error, &frame.content);
            if let Some(recording) = &mut self.recording {
                recording.lost(0, &mut self.gatt.outputs);
            }
        } else if frame.command != FrameCommand::INFORMATION {
            (self.answers, self.live, self.request) = (true, frame.command, frame.command);
        }
        self.answered(now);
    }
}

/// What it measures.
impl Lepu {
    fn plain(&mut self, now: Moment, live: &Live, content: &[u8]) {
        let leads = if live.channels == 1 {
            vec![Some(self.single)]
        } else {
            // Four channels stand as in a file.
            LeadType::SIX.channels().unwrap_or_default().to_vec()
        };
        self.rows(
            now,
            Rows {
                off: if live.lead_off() { u32::MAX } else { 0 },
                meaning: Meaning { leads, rate_hz: Live::RATE_HZ, scale: Live::SCALE },
                first: None,
                samples: &live.samples,
                artifact: live.flags & BAD_SIGNAL != 0,
            },
        );
        self.heart_rate(now, live.heart_rate, live.battery, live.poor(), content);
    }

    fn numbered(&mut self, now: Moment, live: &LiveNumbered, content: &[u8]) {
        let leads = live.lead_type.channels().unwrap_or_default().to_vec();
        self.rows(
            now,
            Rows {
                off: live.channels_off(),
                meaning: Meaning { leads, rate_hz: LiveNumbered::RATE_HZ, scale: lepu_er3::SCALE },
                first: Some(live.first),
                samples: &live.samples,
                artifact: false,
            },
        );
        self.heart_rate(now, live.heart_rate, live.battery, false, content);
    }

    fn rows(&mut self, now: Moment, rows: Rows<'_>) {
        let rows = &match self.up {
            Some(up) => rows.of_the_last(now.since(up)),
            None => rows,
        };
        if rows.samples.is_empty() {
            return;
        }
        let goes_on = self.recording.as_ref().is_some_and(|recording| recording.continues(rows));
        if !goes_on {
            if let Some(mut before) = self.recording.take() {
                before.lost(0, &mut self.gatt.outputs);
                before.end(&mut self.gatt.outputs);
            }
            self.recordings += 1;
            self.recording = Some(Recording::begin(self.recordings, rows, &mut self.gatt.outputs));
        }
        if let Some(recording) = &mut self.recording {
            recording.take(now, rows, &mut self.gatt.outputs);
        }
    }

    fn heart_rate(&mut self, now: Moment, rate: u16, battery: Battery, poor: bool, content: &[u8]) {
        if rate == 0 || self.next_reading.is_some_and(|next| now < next) {
            return;
        }
        let low = (battery.state == Battery::LOW).then_some("low-battery");
        let quantity = Quantity::Number(Decimal::whole(rate.into()));
        let measured = Measured {
            values: vec![Value { code: Mdc::HEART_RATE, quantity, unit: "/min" }],
            status: low.into_iter().chain(poor.then_some("poor-signal")).collect(),
            octets: content.get(..STATE_OCTETS).unwrap_or(content).to_vec(),
            recording: self.recording.as_ref().map(|recording| recording.number),
            ..Measured::new(Kind::HeartRate, now)
        };
        // Where nothing more can be taken in, the value is not taken: the next one comes in half a second.
        if self.gatt.outputs.measured(measured).is_ok() {
            self.next_reading = Some(now + self.interval);
        }
    }

    fn finish(&mut self) {
        if let Some(mut recording) = self.recording.take() {
            recording.end(&mut self.gatt.outputs);
        }
    }
}

/// Of the flags: the signal is bad.
const BAD_SIGNAL: u8 = 0b10;
/// Octets of an answer that the heart rate is told by.
const STATE_OCTETS: usize = 20;

/// A file.
impl Lepu {
    fn gather(&mut self, octets: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if file.len().saturating_add(octets.len()) > FILE_OCTETS_MAX {
            file.clear();
            self.gatt.undecodable("ER3 file", "too many octets", &[]);
            self.gatt.close();
        } else if !self.gatt.ended() {
            file.extend_from_slice(octets);
        }
    }

    /// The link, or the file, is at its end.
    fn down(&mut self, now: Moment) {
        self.ask = Ask::Never;
        if let Some(octets) = self.file.as_mut().map(std::mem::take).filter(|octets| !octets.is_empty()) {
            self.file_ended(now, octets);
        }
        let mut framer = std::mem::take(&mut self.framer);
        framer.finish(|found| self.found(now, found));
        self.ask = Ask::Never;
        self.finish();
        self.gatt.outputs.tell_skipped(now, true);
    }

    fn file_ended(&mut self, now: Moment, octets: Vec<u8>) {
        if octets.first() == Some(&FRAME_START) {
            return self.notified(now, &octets);
        }
        self.recordings += 1;
        let (number, outputs) = (self.recordings, &mut self.gatt.outputs);
        let playback = Source::lepu_er3(octets)
            .map_err(|error| error.to_string())
            .and_then(|source| Playback::begin(source, number, now, outputs));
        match playback {
            Ok(playback) => self.playback = Some(playback),
            Err(reason) => self.gatt.undecodable("ER3 file", reason, &[]),
        }
    }
}

const FRAME_START: u8 = 0xa5;

impl Recording {
    fn begin(number: u32, rows: &Rows<'_>, outputs: &mut Outputs) -> Self {
        let Meaning { leads, rate_hz, scale } = &rows.meaning;
        let rate = Rate { samples: (*rate_hz).into(), seconds: 1 };
        let channel = |code: &Mdc| Channel { code: *code, scale: *scale, unit: "mV", filter: String::new() };
        let channels: Vec<Channel> = leads.iter().flatten().map(channel).collect();
        let count = channels.len();
        let head = RecordingHead::live(Kind::Ecg, channels, rate);
        outputs.begin(number, head);
        let (wave, base) = (Wave::new(count, rate, BLOCK), rows.first.map_or(0, u64::from));
        Self { number, meaning: rows.meaning.clone(), rate, wave, channels: count, base, next: 0, last: None }
    }

    /// Whether rows belong to this recording: the same channels, and numbers that did not go back.
    fn continues(&self, rows: &Rows<'_>) -> bool {
        let forward = match (rows.first, self.last) {
            (Some(first), Some(last)) => u64::from(first) >= self.base + self.next || last == (first, self.count(rows)),
            (None, None) => true,
            _ => false,
        };
        self.meaning == rows.meaning && forward
    }

    fn count(&self, rows: &Rows<'_>) -> u64 {
        u64::try_from(rows.samples.len() / self.meaning.leads.len().max(1)).unwrap_or(u64::MAX)
    }

    fn take(&mut self, now: Moment, rows: &Rows<'_>, outputs: &mut Outputs) {
        if let Some(first) = rows.first {
            let again = self.last == Some((first, self.count(rows)));
            self.last = Some((first, self.count(rows)));
            if again {
                return;
            }
            let lost = u64::from(first).saturating_sub(self.base + self.next);
            if lost > 0 {
                self.lost(lost, outputs);
                self.next += lost;
            }
        }
        for row in rows.samples.chunks_exact(self.meaning.leads.len().max(1)) {
            let named = row.iter().zip(&self.meaning.leads).enumerate().filter(|(_, (_, lead))| lead.is_some());
            let samples = named.clone().map(|(_, (sample, _))| i32::from(*sample));
            let off = (0..).zip(named).fold(0, |bits, (at, (channel, (sample, _)))| {
                bits | u32::from(*sample == Live::LEAD_OFF || rows.off >> channel & 1 == 1) << at
            });
            let flags = Flags { lead_off: off, artifact: rows.artifact, ..Flags::default() };
            let counter = rows.first.map(|_| self.base + self.next);
            if let Some(block) = self.wave.push(samples, self.next, counter, now, flags) {
                hand_over(self.number, block, self.channels, self.rate, outputs);
            }
            self.next += 1;
        }
    }

    /// So many samples never arrived, 0 where nobody can tell.
    fn lost(&mut self, count: u64, outputs: &mut Outputs) {
        self.hand_over_gathered(outputs);
        let first = self.base + self.next;
        outputs.error(DriverError::SamplesLost { recording: self.number, first, count });
    }

    fn hand_over_gathered(&mut self, outputs: &mut Outputs) {
        if let Some(block) = self.wave.cut() {
            hand_over(self.number, block, self.channels, self.rate, outputs);
        }
    }

    fn end(&mut self, outputs: &mut Outputs) {
        self.hand_over_gathered(outputs);
        outputs.end(self.number);
    }
}

fn hand_over(number: u32, block: kit_protocol::reading::Block, channels: usize, rate: Rate, outputs: &mut Outputs) {
    let frames = u64::try_from(block.samples.len() / channels.max(1)).unwrap_or(u64::MAX);
    outputs.samples(number, block, channels, wave::span(frames, rate));
}

#[cfg(test)]
mod tests;
