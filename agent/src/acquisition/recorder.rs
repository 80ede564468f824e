//! The Recorder: only here does what a driver measured become a record, and only what is on the disk is answered `Stored`.
//!
//! Pure: outputs of a session go in, [`Filing`]s come out; the shell appends each and, once it is durable, hands the
//! answers back to the session. A waveform is cut into segments of up to 4 s; what a stream lost is declared `Missed`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use device_drivers::driver::{DriverError, Output, Token};
use kit_protocol::flac;
use kit_protocol::moment::Moment;
use kit_protocol::plausibility::{self, StatedBy};
use kit_protocol::reading::{Block, Kind, Measured, Quantity, Rate, RecordingHead, Special, Value};
use kit_protocol::uplink::id::{Lane, Origin, RecordingId};
use kit_protocol::uplink::record;
use kit_protocol::uplink::wire::{self, MissedReason, record::Content};
use prost::Message;

use super::marks::{Marks, Remembered, StreamMark, last_record_key, mark_key, opened_key, remembered_key};
use crate::store::outbox::{Class, Mark, SEGMENT_SEALED_OCTETS_MAX, VALUE_SEALED_OCTETS_MAX};
use crate::store::thread::Draft;

/// Signal that one segment holds, at most.
const SEGMENT_SPAN_MAX: Duration = Duration::from_secs(4);
/// A stream's block has no fewer samples than this, unless the run itself is shorter.
const SEGMENT_SAMPLES_MIN: usize = 16;
/// Octets of a segment beside its FLAC streams, and of its seal: channels, flags, tag.
const SEGMENT_OVERHEAD_MAX: usize = 1_000;
/// Octets of a refused measurement that are kept.
const REFUSED_OCTETS_MAX: usize = VALUE_SEALED_OCTETS_MAX - 600;
/// Spans of flags that one segment names, at most: about 20 octets each.
const FLAGS_MAX: usize = 32;

/// What is to become durable, and whom to tell.
#[derive(Debug)]
pub struct Filing {
    /// The record.
    pub draft: Draft,
    /// The session's outputs that are answered when it is durable.
    pub answers: Vec<Answer>,
}

/// One output's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is on the disk.
    Stored(Token),
    /// It was refused, and that is on the disk.
    Refused(Token),
}

impl Answer {
    /// The same output, refused.
    #[must_use]
    pub fn refused(self) -> Self {
        match self {
            Self::Stored(token) | Self::Refused(token) => Self::Refused(token),
        }
    }
}

/// What the Recorder must know of the conversation it records.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The device, as every record of it names it.
    pub device: wire::Device,
    /// The driver, likewise.
    pub driver: wire::Driver,
    /// How readings arrive.
    pub source: wire::Source,
}

/// The world as the Recorder may ask it: seams for tests.
pub trait Surroundings {
    /// The gateway's clock, as stated beside each record.
    fn clock(&self) -> wire::Clock;
    /// A fresh recording id.
    fn recording_id(&mut self) -> RecordingId;
    /// The origin of these octets: an HMAC under the kit's key.
    fn origin(&self, octets: &[u8]) -> Origin;
    /// SHA-256.
    fn digest(&self, octets: &[u8]) -> [u8; 32];
}

/// Makes records of one session's outputs.
pub struct Recorder<S> {
    conversation: Conversation,
    surroundings: S,
    recordings: BTreeMap<u32, Recording>,
    /// Where each stream kind broke off, until its next block has been compared with it: in an earlier session, or in a
    /// recording of this one that ended with samples lost. Beside it what the hole is called.
    before: BTreeMap<Kind, (StreamMark, MissedReason)>,
    /// This conversation, in its marks.
    id: RecordingId,
    /// Since when an earlier conversation's octets are owed, of which no stream ever began.
    owed: Option<StreamMark>,
    /// Streams whose mark says that they go on.
    going_on: BTreeSet<Kind>,
    /// When the device was first heard, or when the last recording's last sample was.
    heard: Option<Moment>,
    last_record: Option<u64>,
    /// Goes with the next record.
    remember: Option<(Token, Vec<u8>)>,
    link_down: bool,
    filings: VecDeque<Filing>,
    /// Answers to outputs whose record is filed already.
    due: Vec<Answer>,
}

/// A recording under way.
struct Recording {
    id: RecordingId,
    head: RecordingHead,
    index: u32,
    /// Frames of one segment: 4 s, or what was found to fit its bound.
    span: usize,
    /// The next sample expected, by the driver's numbering.
    next: u64,
    /// When the last sample taken in was received.
    last_received: Moment,
    pending: Pending,
    /// Samples were lost after the last one: the device's counters of the first and the last, where they are known.
    lost: Option<Option<(u64, u64)>>,
}

/// Samples that wait for their segment: one run without a hole.
#[derive(Default)]
struct Pending {
    first: u64,
    first_received: Moment,
    device_counter: Option<u64>,
    samples: Vec<i32>,
    /// Index of each block's first sample, and when it was received.
    receptions: Vec<(usize, Moment)>,
    flags: Vec<wire::SampleFlag>,
    answers: Vec<(usize, Answer)>,
}

impl<S: Surroundings> Recorder<S> {
    /// For a conversation that begins. `marks` are the device's stream marks; `hole` names what a hole before the first
    /// block is: the agent was down, or the link was lost.
    pub fn new(
        conversation: Conversation,
        mut surroundings: S,
        marks: Marks,
        last_record: Option<u64>,
        hole: MissedReason,
    ) -> Self {
        let known = |(kind, _): (Kind, _)| marks.before(kind).map(|mark| (kind, (mark.clone(), hole)));
        let before = Kind::NAMES.into_iter().filter_map(known).collect();
        Self {
            conversation,
            id: surroundings.recording_id(),
            surroundings,
            recordings: BTreeMap::new(),
            before,
            owed: marks.owed().cloned(),
            going_on: marks.streams.iter().filter(|(_, mark)| !mark.ended).map(|(kind, _)| *kind).collect(),
            heard: None,
            last_record,
            remember: None,
            link_down: false,
            filings: VecDeque::new(),
            due: Vec::new(),
        }
    }

    /// The device is heard: what it says from here on, and never becomes durable, lies after this. Only the first time counts.
    pub fn heard(&mut self, at: Moment) {
        if self.heard.is_some() {
            return;
        }
        self.heard = Some(at);
        // Where nothing of the conversation before came of what it heard, that is still owed.
        let since = self.owed.clone().unwrap_or_else(|| self.mark_of(at));
        self.event_with_mark(at, "connected", opened_key(&self.conversation.device.identity), since);
    }

    fn mark_of(&self, at: Moment) -> StreamMark {
        StreamMark { clock: Some(self.surroundings.clock()), boottime_ns: at.as_nanos(), ..StreamMark::default() }
    }

    fn event_with_mark(&mut self, at: Moment, what: &str, key: String, mark: StreamMark) {
        let mark = StreamMark { conversation: self.id.0.to_vec(), ..mark };
        self.event(at, what, 0);
        if let Some(filing) = self.filings.back_mut() {
            filing.draft.marks.push(Mark { key, value: mark.encode_to_vec() });
        }
    }

    /// Takes in what the session gave.
    pub fn take(&mut self, now: Moment, output: Result<(Token, Output), DriverError>) {
        match output {
            Ok((token, Output::Measured(measured))) => self.measured(token, measured),
            Ok((token, Output::Begin { recording, head })) => self.begin(now, token, recording, head),
            Ok((token, Output::Samples { recording, block })) => self.samples(token, recording, &block),
            Ok((token, Output::End { recording })) => self.end(token, recording),
            Ok((token, Output::DeviceClock { .. } | Output::Memory { .. })) => self.due.push(Answer::Stored(token)),
            Ok((token, Output::Remember(octets))) => {
                let before = self.remember.replace((token, octets));
                self.due.extend(before.map(|(token, _)| Answer::Refused(token)));
            }
            Err(DriverError::Undecodable { octets, .. }) => self.refuse(now, "undecodable", &octets, Vec::new()),
            Err(DriverError::SamplesLost { recording, first, count }) => self.samples_lost(recording, first, count),
            Err(DriverError::Resynchronised { skipped }) => self.event(now, "resynchronised", skipped),
            Err(DriverError::NotThisDevice(_)) => self.event(now, "not-this-device", 0),
            Err(DriverError::Protocol(_)) => self.event(now, "protocol-broken", 0),
        }
    }

    /// The link is down: recordings that end from now on were not ended by the device, and what follows them is a hole.
    pub fn link_down(&mut self) {
        self.link_down = true;
    }

    /// The conversation is over: what is still pending is filed.
    pub fn finish(&mut self) {
        let open: Vec<u32> = self.recordings.keys().copied().collect();
        for recording in open {
            self.close(recording, None);
        }
        if self.filings.is_empty() {
            self.due.extend(self.remember.take().map(|(token, _)| Answer::Refused(token)));
        }
    }

    /// The next record to append, in order.
    pub fn poll_filing(&mut self) -> Option<Filing> {
        let mut filing = self.filings.pop_front()?;
        if let Some((token, octets)) = self.remember.take() {
            let remembered = Remembered { boot_id: self.surroundings.clock().boot_id, octets };
            let key = remembered_key(&self.conversation.device.identity);
            filing.draft.marks.push(Mark { key, value: remembered.encode_to_vec() });
            filing.answers.push(Answer::Stored(token));
        }
        Some(filing)
    }

    /// An answer that waits for no record; ask again until there is none, after the filings.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.due.pop()
    }

    /// A device event for the journal: connected, disconnected.
    pub fn event(&mut self, now: Moment, what: &str, count: u64) {
        let content = Content::DeviceEvent(wire::DeviceEvent { device: 0, what: what.into(), count });
        let draft = self.draft(Lane::Journal, Class::Value, now, content);
        self.filings.push_back(Filing { draft, answers: Vec::new() });
    }

    fn draft(&self, lane: Lane, class: Class, received: Moment, content: Content) -> Draft {
        Draft {
            lane,
            class,
            boottime_ns: received.as_nanos(),
            clock: self.surroundings.clock(),
            device: Some(self.conversation.device.clone()),
            driver: Some(self.conversation.driver.clone()),
            from_clock: None,
            content,
            origin: None,
            marks: Vec::new(),
        }
    }

    fn measured(&mut self, token: Token, mut measured: Measured) {
        if let Err(reason) = take_or_refuse(&mut measured) {
            return self.refuse(measured.received, reason, &measured.octets, vec![Answer::Refused(token)]);
        }
        let mut reading = record::reading(&measured, self.conversation.source);
        if let Some(recording) = measured.recording.and_then(|number| self.recordings.get(&number)) {
            reading.recording = recording.id.0.to_vec();
        }
        let mut draft = self.draft(Lane::Vitals, Class::Value, measured.received, Content::Reading(reading));
        let digest = self.surroundings.digest(&measured.octets);
        let identity = &self.conversation.device.identity;
        let origin = record::origin_material(identity, &measured, &digest);
        let origin = origin.unwrap_or_else(|| reception(identity, &draft.clock, measured.received, &digest));
        draft.origin = Some(self.surroundings.origin(&origin));
        if let Some(number) = measured.record.filter(|number| self.last_record.is_none_or(|last| *number > last)) {
            self.last_record = Some(number);
            draft.marks.push(Mark { key: last_record_key(identity), value: number.to_be_bytes().to_vec() });
        }
        self.filings.push_back(Filing { draft, answers: vec![Answer::Stored(token)] });
    }

    /// A measurement that is not taken: durable all the same, so that the centre sees an attempt.
    pub fn refuse(&mut self, received: Moment, reason: &str, octets: &[u8], answers: Vec<Answer>) {
        let kept = &octets[..octets.len().min(REFUSED_OCTETS_MAX)];
        let refusal = wire::Refusal { device: 0, driver: 0, reason: reason.into(), octets: kept.to_vec() };
        let draft = self.draft(Lane::Journal, Class::Value, received, Content::Refusal(refusal));
        self.filings.push_back(Filing { draft, answers });
    }

    fn begin(&mut self, now: Moment, token: Token, number: u32, head: RecordingHead) {
        let (kind, heard) = (head.kind, *self.heard.get_or_insert(now));
        if self.going_on.insert(kind) {
            // Nothing durable says that this stream goes on: what of it is heard, and lost before its first segment, is missed.
            let since = self.before.get(&kind).map_or_else(|| self.mark_of(heard), |(mark, _)| mark.clone());
            self.event_with_mark(now, "recording", mark_key(&self.conversation.device.identity, kind), since);
        }
        let recording = Recording {
            id: self.surroundings.recording_id(),
            span: head.samples_in(SEGMENT_SPAN_MAX),
            head,
            index: 0,
            next: 0,
            last_received: heard,
            pending: Pending { answers: vec![(0, Answer::Stored(token))], ..Pending::default() },
            lost: None,
        };
        self.recordings.insert(number, recording);
    }

    fn samples_lost(&mut self, number: u32, first: u64, count: u64) {
        if let Some(recording) = self.recordings.get_mut(&number) {
            let counted = (count > 0).then(|| (first, first.saturating_add(count - 1)));
            recording.lost = Some(match recording.lost {
                None => counted,
                // Twice before the next block: one hole, counted where both are.
                Some(before) => before.zip(counted).map(|((first, _), (_, last))| (first, last)),
            });
        }
    }

    fn samples(&mut self, token: Token, number: u32, block: &Block) {
        let Some(recording) = self.recordings.get(&number) else {
            // A driver that gives samples of no recording is a defect of ours; its signal is refused, not lost silently.
            return self.refuse(block.received, "undecodable", &[], vec![Answer::Refused(token)]);
        };
        let kind = recording.head.kind;
        let hole = recording.next != block.first || recording.lost.is_some();
        if let Some((mark, reason)) = self.before.remove(&kind) {
            self.missed_before(kind, &mark, reason, block);
        } else if hole && (recording.next > 0 || recording.lost.is_some()) {
            self.file_pending(number, 0, false);
            self.missed_within(number, block);
        }
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        recording.take(token, block);
        self.cut(number);
    }

    /// Files segments while a whole one is there. A tail too short to be a block goes with the segment before it.
    fn cut(&mut self, number: u32) {
        if let Some(recording) = self.recordings.get(&number) {
            let keep = recording.span.saturating_sub(1);
            self.file_pending(number, keep, false);
        }
    }

    fn end(&mut self, token: Token, number: u32) {
        if self.recordings.contains_key(&number) {
            self.close(number, Some(token));
        } else {
            // Closed when the conversation was over: all that was pending is filed already.
            self.due.push(Answer::Stored(token));
        }
    }

    fn close(&mut self, number: u32, token: Option<Token>) {
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let frames = recording.pending_frames();
        recording.pending.answers.extend(token.map(|token| (frames, Answer::Stored(token))));
        self.file_pending(number, 0, true);
        let ended = self.recordings.remove(&number);
        self.heard = ended.as_ref().map(|recording| recording.last_received).max(self.heard);
        if let Some(recording) = ended.filter(|recording| recording.lost.is_some()) {
            // Samples were lost at its end, nobody knows how many: the span closes with the first block of the next one.
            let mark = recording.lost_from(self.surroundings.clock());
            self.before.insert(recording.head.kind, (mark, MissedReason::Corrupt));
        }
    }

    /// Files what is pending, in segments of at most 4 s and at most the bound's octets, until `keep` frames are left.
    fn file_pending(&mut self, number: u32, keep: usize, last: bool) {
        while let Some(recording) = self.recordings.get_mut(&number) {
            let pending = recording.pending_frames();
            if pending <= keep && !(last && pending == 0) {
                return;
            }
            let frames = if pending < recording.span + SEGMENT_SAMPLES_MIN { pending } else { recording.span };
            match recording.pack(frames) {
                Some(packed) => self.file_packed(number, frames, packed, last && frames == pending),
                None if frames > 2 * SEGMENT_SAMPLES_MIN => {
                    recording.span = frames.div_ceil(2);
                    continue;
                }
                None => {
                    self.forgo(number, frames);
                    continue;
                }
            }
            if frames == pending && last {
                return;
            }
        }
    }

    fn file_packed(&mut self, number: u32, frames: usize, packed: Vec<Vec<u8>>, ends: bool) {
        let clock = self.surroundings.clock();
        let identity = &self.conversation.device.identity;
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let ended_by_device = ends && !self.link_down && recording.lost.is_none();
        let mut marks = Vec::new();
        if frames > 0 || ended_by_device {
            let mark = StreamMark { conversation: self.id.0.to_vec(), ..recording.mark(frames, clock, ended_by_device) };
            if ended_by_device {
                self.going_on.remove(&recording.head.kind);
            }
            marks.push(Mark { key: mark_key(identity, recording.head.kind), value: mark.encode_to_vec() });
        }
        let class = if recording.head.continuous { Class::ContinuousWaveform } else { Class::PlanWaveform };
        let received = recording.pending.first_received;
        let (segment, answers) = recording.segment(frames, packed, ends);
        let origin = [&segment.recording[..], &segment.index.to_be_bytes()].concat();
        let mut draft = self.draft(Lane::Waveforms, class, received, Content::Segment(segment));
        draft.origin = Some(self.surroundings.origin(&origin));
        draft.marks = marks;
        self.filings.push_back(Filing { draft, answers });
    }

    /// A hole between a stream's last sample in an earlier session or recording and this first block.
    fn missed_before(&mut self, kind: Kind, mark: &StreamMark, reason: MissedReason, block: &Block) {
        let counted = match (mark.counter, block.device_counter) {
            (Some(last), Some(first)) if first == last + 1 => return,
            (Some(last), Some(first)) if first > last => Some((last + 1, first - 1)),
            _ => None,
        };
        let span = (mark.boottime_ns, block.received);
        self.miss(kind, mark.recording.clone(), mark.clock.clone(), span, counted, reason);
    }

    /// A hole within a recording.
    fn missed_within(&mut self, number: u32, block: &Block) {
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let counted = recording.lost.take().flatten().filter(|_| block.device_counter.is_some());
        let (kind, id) = (recording.head.kind, recording.id.0.to_vec());
        let span = (recording.last_received.min(block.received).as_nanos(), block.received);
        self.miss(kind, id, Some(self.surroundings.clock()), span, counted, MissedReason::Corrupt);
    }

    /// Frames that no stream can hold, however few of them: refused and declared, and the recording goes on behind them.
    fn forgo(&mut self, number: u32, frames: usize) {
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let (kind, id, received) = (recording.head.kind, recording.id.0.to_vec(), recording.pending.first_received);
        let counter = recording.pending.device_counter;
        let counted = counter.zip(u64::try_from(frames).ok()).map(|(first, count)| (first, first.saturating_add(count - 1)));
        let answers = recording.pending.advance(frames, recording.channels(), recording.head.rate);
        recording.span = recording.head.samples_in(SEGMENT_SPAN_MAX);
        let span = (received.as_nanos(), recording.pending.first_received);
        self.refuse(received, "undecodable", &[], answers.into_iter().map(Answer::refused).collect());
        self.miss(kind, id, Some(self.surroundings.clock()), span, counted, MissedReason::Corrupt);
    }

    fn miss(
        &mut self,
        kind: Kind,
        recording: Vec<u8>,
        from_clock: Option<wire::Clock>,
        (from_boottime_ns, to): (u64, Moment),
        counted: Option<(u64, u64)>,
        reason: MissedReason,
    ) {
        let missed = wire::Missed {
            device: 0,
            recording,
            from_clock: 0,
            from_boottime_ns,
            to_boottime_ns: to.as_nanos(),
            first: counted.map(|(first, _)| first),
            last: counted.map(|(_, last)| last),
            reason: reason.into(),
            kind: record::kind_to_wire(kind).into(),
        };
        let mut draft = self.draft(Lane::Journal, Class::Value, to, Content::Missed(missed));
        draft.from_clock = from_clock;
        self.filings.push_back(Filing { draft, answers: Vec::new() });
    }
}

/// What stands for the origin of a measurement that a device gave neither number nor time: its reception. It is never merged
/// with another one, but an append that the disk failed in the middle of can be tried again without a double.
fn reception(device: &str, clock: &wire::Clock, received: Moment, digest: &[u8; 32]) -> Vec<u8> {
    [device.as_bytes(), &[0, 3], &clock.boot_id, &received.as_nanos().to_be_bytes(), digest].concat()
}

/// Makes absent components absent; gives the class of the reason where what is left is no reading.
fn take_or_refuse(measured: &mut Measured) -> Result<(), &'static str> {
    plausibility::accept(&mut measured.values, &measured.status, StatedBy::Device).map_err(|refusal| refusal.class)?;
    let absent = |value: &Value| value.quantity == Quantity::Special(Special::NotAvailable);
    if measured.values.iter().all(absent) { Err("absent") } else { Ok(()) }
}

/// Samples per second, and how they are spread over time.
trait Paced {
    fn samples_in(&self, span: Duration) -> usize;
}

impl Paced for RecordingHead {
    fn samples_in(&self, span: Duration) -> usize {
        let per_second = u64::from(self.rate.samples) / u64::from(self.rate.seconds.max(1));
        usize::try_from(per_second.saturating_mul(span.as_secs()))
            .unwrap_or(usize::MAX)
            .clamp(SEGMENT_SAMPLES_MIN, flac::SAMPLES_MAX / 2)
    }
}

fn offset_of(frames: u64, rate: Rate) -> Duration {
    let nanoseconds = u128::from(frames) * u128::from(rate.seconds) * 1_000_000_000 / u128::from(rate.samples.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl Recording {
    fn channels(&self) -> usize {
        self.head.channels.len().max(1)
    }

    fn pending_frames(&self) -> usize {
        self.pending.samples.len() / self.channels()
    }

    fn take(&mut self, token: Token, block: &Block) {
        let frames_before = self.pending_frames();
        if frames_before == 0 {
            self.pending.first = block.first;
            self.pending.device_counter = block.device_counter;
        }
        self.pending.received(frames_before, block.received, self.head.rate);
        self.pending.samples.extend_from_slice(&block.samples);
        let frames = self.pending_frames();
        self.pending.flag(block, frames_before, frames - frames_before, self.head.channels.len());
        self.pending.answers.push((frames, Answer::Stored(token)));
        let added = u64::try_from(frames - frames_before).unwrap_or(u64::MAX);
        self.next = block.first.saturating_add(added);
        self.last_received = block.received + offset_of(added.saturating_sub(1), self.head.rate);
        self.lost = None;
    }

    /// The FLAC streams of the first `frames` frames; `None` where they do not fit a segment.
    fn pack(&self, frames: usize) -> Option<Vec<Vec<u8>>> {
        if frames == 0 {
            return Some(Vec::new());
        }
        let rate = self.head.rate.samples.div_ceil(self.head.rate.seconds.max(1));
        let samples = self.pending.samples.get(..frames * self.channels())?;
        let streams = flac::encode(samples, self.channels(), rate).ok()?;
        let octets: usize = streams.iter().map(Vec::len).sum();
        (octets + SEGMENT_OVERHEAD_MAX <= SEGMENT_SEALED_OCTETS_MAX || frames <= 2 * SEGMENT_SAMPLES_MIN).then_some(streams)
    }

    fn mark(&self, frames: usize, clock: wire::Clock, ended: bool) -> StreamMark {
        let last = u64::try_from(frames).unwrap_or(u64::MAX).saturating_sub(1);
        StreamMark {
            clock: Some(clock),
            boottime_ns: (self.pending.first_received + offset_of(last, self.head.rate)).as_nanos(),
            counter: self.pending.device_counter.map(|counter| counter.saturating_add(last)),
            recording: self.id.0.to_vec(),
            ended,
            conversation: Vec::new(),
        }
    }

    /// Its last sample, as the beginning of a hole.
    fn lost_from(&self, clock: wire::Clock) -> StreamMark {
        StreamMark {
            clock: Some(clock),
            boottime_ns: self.last_received.as_nanos(),
            recording: self.id.0.to_vec(),
            ..StreamMark::default()
        }
    }

    /// Takes the first `frames` frames out of what is pending, as a segment with the answers that are due with it.
    fn segment(&mut self, frames: usize, flac: Vec<Vec<u8>>, last: bool) -> (wire::Segment, Vec<Answer>) {
        let channels = self.channels();
        let segment = wire::Segment {
            recording: self.id.0.to_vec(),
            index: self.index,
            first_sample: self.pending.first,
            first_boottime_ns: self.pending.first_received.as_nanos(),
            samples: u32::try_from(frames).unwrap_or(u32::MAX),
            rate_numerator: self.head.rate.samples,
            rate_denominator: self.head.rate.seconds,
            channels: self.head.channels.iter().map(record::channel).collect(),
            flac,
            last,
            kind: record::kind_to_wire(self.head.kind).into(),
            device_counter: self.pending.device_counter,
            flags: self.pending.flags_within(frames),
            device_time: self.head.device_time.map(record::date_time),
            memory: record::memory(self.head.memory).into(),
            ..wire::Segment::default()
        };
        self.index = self.index.saturating_add(1);
        let answers = self.pending.advance(frames, channels, self.head.rate);
        (segment, answers)
    }
}

impl Pending {
    /// Notes when a block was received. Octets may wait on their way and never come early: of what the pending blocks say of
    /// the first sample, the earliest is right, and one late read does not shift the signal behind it.
    fn received(&mut self, index: usize, at: Moment, rate: Rate) {
        self.receptions.push((index, at));
        let of_first = |(index, at): &(usize, Moment)| *at - offset_of(u64::try_from(*index).unwrap_or(u64::MAX), rate);
        self.first_received = self.receptions.iter().map(of_first).min().unwrap_or(at);
    }

    /// Notes what a block says of all its samples.
    fn flag(&mut self, block: &Block, first: usize, count: usize, channels: usize) {
        use wire::sample_flag::Flag;
        for channel in 0..channels.min(32) {
            let bit = 1_u32 << channel;
            let all = [
                (Flag::LeadOff, block.lead_off & bit != 0),
                (Flag::Saturated, block.saturated & bit != 0),
                (Flag::Artifact, block.artifact),
            ];
            for (flag, _) in all.into_iter().filter(|(_, raised)| *raised) {
                self.raise(flag, channel, first, count);
            }
        }
    }

    /// Joins a flagged span to the one before it, where it continues that.
    fn raise(&mut self, flag: wire::sample_flag::Flag, channel: usize, first: usize, count: usize) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let span = wire::SampleFlag { flag: flag.into(), channel: number(channel), first: number(first), count: number(count) };
        let continues = |known: &wire::SampleFlag| {
            known.flag == span.flag && known.channel == span.channel && known.first + known.count == span.first
        };
        match self.flags.iter().position(continues) {
            Some(at) => self.flags[at].count += span.count,
            None => self.flags.push(span),
        }
    }

    fn flags_within(&self, frames: usize) -> Vec<wire::SampleFlag> {
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        let within = |flag: &wire::SampleFlag| {
            (flag.first < frames).then(|| wire::SampleFlag { count: flag.count.min(frames - flag.first), ..*flag })
        };
        let exact: Vec<wire::SampleFlag> = self.flags.iter().filter_map(within).collect();
        if exact.len() <= FLAGS_MAX { exact } else { widened(&exact) }
    }

    /// Drops the first `frames` frames and gives the answers that are due with them.
    fn advance(&mut self, frames: usize, channels: usize, rate: Rate) -> Vec<Answer> {
        let whole = self.samples.len() / channels.max(1);
        self.samples.drain(..(frames * channels).min(self.samples.len()));
        let count = u64::try_from(frames).unwrap_or(u64::MAX);
        self.first = self.first.saturating_add(count);
        self.first_received = self.first_received + offset_of(count, rate);
        let later = self.receptions.iter().filter(|(index, _)| *index >= frames).map(|(index, at)| (index - frames, *at));
        // A block that was cut in two says of its rest what it said of its beginning.
        let cut = self
            .receptions
            .iter()
            .rev()
            .find(|(index, _)| *index < frames)
            .map(|(index, at)| (0, *at + offset_of(u64::try_from(frames - index).unwrap_or(u64::MAX), rate)));
        self.receptions = if frames < whole { cut.into_iter().chain(later).collect() } else { Vec::new() };
        self.device_counter = self.device_counter.map(|counter| counter.saturating_add(count));
        let dropped = u32::try_from(frames).unwrap_or(u32::MAX);
        self.flags.retain_mut(|flag| {
            let end = (flag.first + flag.count).saturating_sub(dropped);
            flag.first = flag.first.saturating_sub(dropped);
            flag.count = end - flag.first;
            flag.count > 0
        });
        let due = if frames >= whole { usize::MAX } else { frames };
        let (answered, waiting) = std::mem::take(&mut self.answers).into_iter().partition(|(at, _)| *at <= due);
        self.answers = Vec::into_iter(waiting).map(|(at, answer): (usize, Answer)| (at - frames, answer)).collect();
        Vec::into_iter(answered).map(|(_, answer): (usize, Answer)| answer).collect()
    }
}

/// One span a flag and channel, from its first sample to its last: more is distrusted than was flagged, never less.
fn widened(exact: &[wire::SampleFlag]) -> Vec<wire::SampleFlag> {
    let mut wide: BTreeMap<(i32, u32), (u32, u32)> = BTreeMap::new();
    for span in exact {
        let (first, end) = wide.entry((span.flag, span.channel)).or_insert((span.first, span.first + span.count));
        *first = (*first).min(span.first);
        *end = (*end).max(span.first + span.count);
    }
    wide.into_iter()
        .map(|((flag, channel), (first, end))| wire::SampleFlag { flag, channel, first, count: end - first })
        .collect()
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
