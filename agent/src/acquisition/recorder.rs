//! The Recorder: only here does what a driver measured become a record, and only what is on the disk is answered `Stored`.
//!
//! Pure: outputs of a session go in, [`Filing`]s come out; the shell appends each and, once it is durable, hands the
//! answers back to the session. A waveform is cut into segments of up to 4 s, a slow one out of a memory into longer ones; what
//! a stream lost is declared `Missed`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use device_drivers::driver::{DriverError, Output, Token};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::plausibility::{self, StatedBy};
use kit_protocol::reading::{Block, Kind, Measured, Memory, Quantity, RecordingHead, Special, Value};
use kit_protocol::uplink::id::{Lane, Origin, RecordingId};
use kit_protocol::uplink::record;
use kit_protocol::uplink::wire::{self, MissedReason, record::Content};
use prost::Message;

use super::belonging::{Judge, Now, Whose, Window};
use super::filing::{Answer, Filing};
use super::marks::{Marks, Remembered, StreamMark, last_record_key, mark_key, opened_key, remembered_key, shown_key};
use super::names;
use super::noise::{Noise, missed};
use super::recording::{Paced, Pending, Recording, SEGMENT_SAMPLES_MIN};
use crate::identity::memories::DeviceMemory;
use crate::store::outbox::{Class, Mark, VALUE_SEALED_OCTETS_MAX};
use crate::store::thread::Draft;

/// Signal that one segment of a stream holds, at most.
const SEGMENT_SPAN_MAX: Duration = Duration::from_secs(4);
/// A stream that is silent for so long: what is pending of it is filed, and does not wait for what may never come.
const PENDING_MAX: Duration = Duration::from_secs(5);
/// Octets of a refused measurement that are kept.
const REFUSED_OCTETS_MAX: usize = VALUE_SEALED_OCTETS_MAX - 600;
/// Measurements wait for a clock that tells whose they are: so many at most …
const HELD_MAX: usize = 32;
/// … and so long.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// Ended recordings, and others' recordings, that are known by their number: so many of each at most.
const RECORDINGS_KNOWN_MAX: usize = 64;
/// What the journal calls measurements that are not the patient's.
pub const NOT_THE_PATIENT: &str = "not-the-patient";

/// What the Recorder must know of the conversation it records.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The device, as every record of it names it.
    pub device: wire::Device,
    /// The driver, likewise.
    pub driver: wire::Driver,
    /// How readings arrive.
    pub source: wire::Source,
    /// Digest of the file that it reads: what it is, when it is read again.
    pub file: Option<[u8; 32]>,
}

/// The world as the Recorder may ask it: seams for tests.
pub trait Surroundings {
    /// The gateway's clock, as stated beside each record.
    fn clock(&self) -> wire::Clock;
    /// The civil time here at a moment of this boot; `None` where nothing is known of the wall clock.
    fn civil(&self, at: Moment) -> Option<DateTime>;
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
    /// What a noisy line does to each recording.
    noise: BTreeMap<u32, Noise>,
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
    judge: Judge,
    /// Measurements of which it is not known yet whose they are.
    held: VecDeque<(Token, Measured)>,
    /// Since when the first of them waits.
    held_since: Option<Moment>,
    /// Recordings that are not the patient's.
    of_others: BTreeSet<u32>,
    /// Recordings that ended: a reading of one may still come.
    ended: VecDeque<(u32, RecordingId)>,
    /// By kind, what stands for what the device last gave without number or time, until the first such one of this
    /// conversation was compared with it.
    shown: BTreeMap<Kind, Vec<u8>>,
    /// How many measurements and recordings were not the patient's.
    others: u64,
    /// When what was last taken in was taken in.
    now: Moment,
    filings: VecDeque<Filing>,
    /// Answers to outputs whose record is filed already.
    due: Vec<Answer>,
}

impl<S: Surroundings> Recorder<S> {
    /// For a conversation that begins. `marks` are the device's stream marks; `hole` names what a hole before the first
    /// block is: the agent was down, or the link was lost; `judge` knows whose a measurement is.
    pub fn new(
        conversation: Conversation,
        mut surroundings: S,
        marks: Marks,
        last_record: Option<u64>,
        hole: MissedReason,
        judge: Judge,
    ) -> Self {
        let known = |(kind, _): (Kind, _)| marks.before(kind).map(|mark| (kind, (mark.clone(), hole)));
        let before = Kind::NAMES.into_iter().filter_map(known).collect();
        Self {
            conversation,
            id: surroundings.recording_id(),
            surroundings,
            recordings: BTreeMap::new(),
            noise: BTreeMap::new(),
            before,
            owed: marks.owed().cloned(),
            shown: marks.shown.clone(),
            going_on: marks.streams.iter().filter(|(_, mark)| !mark.ended).map(|(kind, _)| *kind).collect(),
            heard: None,
            last_record,
            remember: None,
            link_down: false,
            judge,
            held: VecDeque::new(),
            held_since: None,
            of_others: BTreeSet::new(),
            ended: VecDeque::new(),
            others: 0,
            now: Moment::ZERO,
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

    /// Something happened on the link.
    pub fn stirred(&mut self, at: Moment) {
        self.judge.stirred(at);
    }

    /// The device's measurement window, as it is now.
    pub fn window(&mut self, window: Option<Window>) {
        self.judge.window(window);
    }

    /// Takes in what the session gave.
    pub fn take(&mut self, now: Moment, output: Result<(Token, Output), DriverError>) {
        self.now = now;
        match output {
            Ok((token, Output::Measured(measured))) => self.measured(token, measured),
            Ok((token, Output::Begin { recording, head })) => self.begin(now, token, recording, head),
            Ok((token, Output::Samples { recording, block })) => self.samples(token, recording, &block),
            Ok((token, Output::End { recording })) => self.end(token, recording),
            Ok((token, Output::DeviceClock { device, at })) => {
                let clock = self.surroundings.clock();
                self.judge.clock(device, at, &clock);
                self.due.push(Answer::Stored(token));
                self.judge_held(false);
            }
            Ok((token, Output::Memory { highest })) => {
                if self.judge.memory(highest) {
                    self.last_record = None;
                }
                self.due.push(Answer::Stored(token));
                self.judge_held(false);
            }
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
        self.judge_held(true);
        let open: Vec<u32> = self.recordings.keys().copied().collect();
        for number in open {
            // What is sent again whole is cut there as it is here: a piece cut short would stand for a whole one.
            if self.recordings.get(&number).is_some_and(|recording| recording.named) {
                self.recordings.remove(&number);
                self.noise.remove(&number);
            } else {
                self.close(number, None);
            }
        }
        if self.others > 0 {
            let others = std::mem::take(&mut self.others);
            self.event(self.now, NOT_THE_PATIENT, others);
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

    /// When [`Recorder::handle_timeout`] is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let held = self.held_since.map(|since| since + HOLD_MAX);
        let pending = self.recordings.values().filter(|recording| recording.is_live() && recording.pending_frames() > 0);
        pending.map(|recording| recording.last_received + PENDING_MAX).chain(held).min()
    }

    /// Takes in that the time `poll_timeout` asked for may have come.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.held_since.is_some_and(|since| since + HOLD_MAX <= now) {
            self.judge_held(true);
        }
        let silent = |recording: &Recording| {
            recording.is_live() && recording.pending_frames() > 0 && recording.last_received + PENDING_MAX <= now
        };
        let silent: Vec<u32> =
            self.recordings.iter().filter(|(_, recording)| silent(recording)).map(|(number, _)| *number).collect();
        for number in silent {
            self.file_pending(number, 0, false);
            self.file_noise(number);
        }
    }

    /// What is known of the device's memory, where it is to be kept now, before anything else becomes durable.
    pub fn poll_memory(&mut self, ends: bool) -> Option<DeviceMemory> {
        self.judge.poll_memory(ends)
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

    fn measured(&mut self, token: Token, measured: Measured) {
        let clocks = self.judge.clocks();
        self.settle(token, measured, false);
        if self.judge.clocks() != clocks {
            self.judge_held(false);
        }
        while self.held.len() > HELD_MAX {
            if let Some((token, measured)) = self.held.pop_front() {
                self.settle(token, measured, true);
            }
        }
    }

    /// Looks again at what waits for a clock; `last`: what nothing tells now is nobody's.
    fn judge_held(&mut self, last: bool) {
        self.held_since = self.held_since.filter(|_| !last);
        for (token, measured) in std::mem::take(&mut self.held) {
            self.settle(token, measured, last);
        }
        self.held_since = self.held_since.filter(|_| !self.held.is_empty());
    }

    /// Files a measurement that is the patient's, counts one that is not.
    fn settle(&mut self, token: Token, measured: Measured, last: bool) {
        let origin = self.named_origin(&measured);
        let known = origin.is_some_and(|origin| self.judge.is_refused(origin));
        let of_another = measured.recording.is_some_and(|number| self.of_others.contains(&number));
        if origin.is_none() && self.is_still_shown(&measured) {
            return self.due.push(Answer::Stored(token));
        }
        let now = Now { clock: &self.surroundings.clock(), civil: self.surroundings.civil(measured.received) };
        let whose = match measured.is_judgement() {
            // Whose recording it is was decided when that began.
            true if of_another => return self.due.push(Answer::Refused(token)),
            true => Whose::Ours,
            false => self.judge.measured(&measured, origin, &now),
        };
        match whose {
            Whose::Ours if !of_another => self.file_measured(token, measured, origin),
            Whose::Unknown if !last => {
                self.held_since.get_or_insert(measured.received);
                self.held.push_back((token, measured));
            }
            _ => {
                self.others += u64::from(!known);
                self.due.push(Answer::Refused(token));
            }
        }
    }

    /// What names it, where the device gave it a number or a time.
    fn named_origin(&self, measured: &Measured) -> Option<Origin> {
        let digest = self.surroundings.digest(&measured.octets);
        let origin = record::origin_material(&self.conversation.device.identity, measured, &digest);
        origin.map(|origin| self.surroundings.origin(&origin))
    }

    /// Whether it is what the device showed when an earlier conversation ended: a monitor shows its last cuff reading until it
    /// makes another one.
    fn is_still_shown(&mut self, measured: &Measured) -> bool {
        let before = self.shown.remove(&measured.kind);
        measured.memory == Memory::Stored && before.is_some_and(|before| before == self.showing(measured).0)
    }

    fn showing(&self, measured: &Measured) -> Origin {
        let digest = self.surroundings.digest(&measured.octets);
        self.surroundings.origin(&names::shown(&self.conversation.device.identity, measured.kind, &digest))
    }

    fn file_measured(&mut self, token: Token, mut measured: Measured, origin: Option<Origin>) {
        if let Err(reason) = take_or_refuse(&mut measured) {
            let mark = self.mark_of_record(&measured);
            self.refuse(measured.received, reason, &measured.octets, vec![Answer::Refused(token)]);
            // What was refused is not asked for again either.
            return self.filings.back_mut().into_iter().for_each(|filing| filing.draft.marks.extend(mark.clone()));
        }
        self.judge.filed();
        let mut reading = record::reading(&measured, self.conversation.source);
        if let Some(id) = measured.recording.and_then(|number| self.known_recording(number)) {
            reading.recording = id.0.to_vec();
        }
        let recording = measured.recording.and_then(|number| self.recordings.get(&number));
        let again = recording.filter(|_| measured.is_judgement()).and_then(|recording| recording.judgement(&measured.octets));
        let origin = again.map_or(origin, |material| Some(self.surroundings.origin(&material)));
        let clock = self.surroundings.clock();
        reading.device_offset_ms = measured.usable_time().and_then(|_| self.judge.offset_ms(&clock));
        let mut draft = self.draft(Lane::Vitals, Class::Value, measured.received, Content::Reading(reading));
        let identity = &self.conversation.device.identity;
        if origin.is_none() && self.judge.keeps() {
            let value = self.showing(&measured).0.to_vec();
            draft.marks.push(Mark { key: shown_key(identity, measured.kind), value });
        }
        draft.origin = origin.or_else(|| {
            let digest = self.surroundings.digest(&measured.octets);
            Some(self.surroundings.origin(&names::reception(identity, &draft.clock, measured.received, &digest)))
        });
        draft.marks.extend(self.mark_of_record(&measured));
        self.filings.push_back(Filing { draft, answers: vec![Answer::Stored(token)] });
    }

    /// What says, once it is durable, that no record up to this one need be asked for again.
    fn mark_of_record(&mut self, measured: &Measured) -> Option<Mark> {
        // One that waits to be judged may have a lower number, and is not on the disk.
        let in_order = measured.in_order && self.held.is_empty();
        let newer = |number: &u64| in_order && self.last_record.is_none_or(|last| *number > last);
        let number = measured.record.filter(newer)?;
        self.last_record = Some(number);
        Some(Mark { key: last_record_key(&self.conversation.device.identity), value: number.to_be_bytes().to_vec() })
    }

    /// A measurement that is not taken: durable all the same, so that the centre sees an attempt.
    pub fn refuse(&mut self, received: Moment, reason: &str, octets: &[u8], answers: Vec<Answer>) {
        let kept = &octets[..octets.len().min(REFUSED_OCTETS_MAX)];
        let refusal = wire::Refusal { device: 0, driver: 0, reason: reason.into(), octets: kept.to_vec() };
        let draft = self.draft(Lane::Journal, Class::Value, received, Content::Refusal(refusal));
        self.filings.push_back(Filing { draft, answers });
    }

    fn begin(&mut self, now: Moment, token: Token, number: u32, head: RecordingHead) {
        let gateway = Now { clock: &self.surroundings.clock(), civil: self.surroundings.civil(now) };
        let origin = self.recording_origin(number, &head);
        let named = origin.map(|origin| RecordingId(origin.0));
        let known = origin.is_some_and(|origin| self.judge.is_refused(origin));
        if self.judge.recording(&head, origin, now, &gateway) != Whose::Ours {
            if self.of_others.len() >= RECORDINGS_KNOWN_MAX {
                self.of_others.pop_first();
            }
            self.of_others.insert(number);
            self.others += u64::from(!known);
            return self.due.push(Answer::Refused(token));
        }
        self.of_others.remove(&number);
        let (kind, heard) = (head.kind, *self.heard.get_or_insert(now));
        if head.memory == Memory::Live && self.going_on.insert(kind) {
            // Nothing durable says that this stream goes on: what of it is heard, and lost before its first segment, is missed.
            let since = self.before.get(&kind).map_or_else(|| self.mark_of(heard), |(mark, _)| mark.clone());
            self.event_with_mark(now, "recording", mark_key(&self.conversation.device.identity, kind), since);
        }
        let recording = Recording {
            id: named.unwrap_or_else(|| self.surroundings.recording_id()),
            named: named.is_some(),
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

    /// What names a recording that a device or a file holds: the same one when it is sent again.
    fn recording_origin(&self, number: u32, head: &RecordingHead) -> Option<Origin> {
        let digest = (!head.octets.is_empty()).then(|| self.surroundings.digest(&head.octets));
        let file = self.conversation.file.as_ref().map(|file| (file, number));
        let name = names::recording(&self.conversation.device.identity, head, file, digest.as_ref())?;
        Some(self.surroundings.origin(&name))
    }

    fn known_recording(&self, number: u32) -> Option<RecordingId> {
        let under_way = self.recordings.get(&number).map(|recording| recording.id);
        under_way.or_else(|| self.ended.iter().rev().find(|(known, _)| *known == number).map(|(_, id)| *id))
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
        if self.of_others.contains(&number) {
            return self.due.push(Answer::Refused(token));
        }
        let Some(recording) = self.recordings.get(&number) else {
            // A driver that gives samples of no recording is a defect of ours; its signal is refused, not lost silently.
            return self.refuse(block.received, "undecodable", &[], vec![Answer::Refused(token)]);
        };
        let kind = recording.head.kind;
        let hole = recording.next != block.first || recording.lost.is_some();
        let before = if recording.is_live() { self.before.remove(&kind) } else { None };
        if let Some((mark, reason)) = before {
            self.missed_before(kind, &mark, reason, block);
        } else if hole && (recording.next > 0 || recording.lost.is_some()) {
            self.file_pending(number, 0, false);
            self.missed_within(number, block);
        }
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        recording.take(token, block);
        if self.noise.get(&number).is_some_and(|noise| noise.is_over(block.received)) {
            self.file_noise(number);
        }
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
        } else if self.of_others.contains(&number) {
            self.due.push(Answer::Refused(token));
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
        self.file_noise(number);
        let ended = self.recordings.remove(&number);
        if let Some(recording) = &ended {
            if self.ended.len() >= RECORDINGS_KNOWN_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back((number, recording.id));
        }
        let live = ended.as_ref().filter(|recording| recording.is_live());
        self.heard = live.map(|recording| recording.last_received).max(self.heard);
        if let Some(recording) = ended.filter(|recording| recording.lost.is_some() && recording.is_live()) {
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
        if recording.is_live() && (frames > 0 || ended_by_device) {
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
        match self.noise.get_mut(&number) {
            Some(noise) => noise.segments.push(Filing { draft, answers }),
            None => self.filings.push_back(Filing { draft, answers }),
        }
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

    /// A hole within a recording: told with those that come soon after it.
    fn missed_within(&mut self, number: u32, block: &Block) {
        if self.noise.get(&number).is_some_and(|noise| noise.is_over(block.received)) {
            self.file_noise(number);
        }
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let counted = recording.lost.take().flatten().filter(|_| block.device_counter.is_some());
        let from = recording.last_received.min(block.received).as_nanos();
        let (kind, id) = (recording.head.kind, recording.id.0.to_vec());
        let missed = missed(kind, id, (from, block.received), counted, MissedReason::Corrupt);
        match self.noise.get_mut(&number) {
            Some(noise) => noise.add(missed, block.received),
            None => {
                let noise = Noise { since: block.received, missed, to: block.received, segments: Vec::new() };
                self.noise.insert(number, noise);
            }
        }
    }

    fn file_noise(&mut self, number: u32) {
        if let Some(noise) = self.noise.remove(&number) {
            self.file_missed(noise.missed, Some(self.surroundings.clock()), noise.to);
            self.filings.extend(noise.segments);
        }
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
        self.file_missed(missed(kind, recording, (from_boottime_ns, to), counted, reason), from_clock, to);
    }

    fn file_missed(&mut self, missed: wire::Missed, from_clock: Option<wire::Clock>, to: Moment) {
        let mut draft = self.draft(Lane::Journal, Class::Value, to, Content::Missed(missed));
        draft.from_clock = from_clock;
        self.filings.push_back(Filing { draft, answers: Vec::new() });
    }
}

/// Makes absent components absent; gives the class of the reason where what is left is no reading.
fn take_or_refuse(measured: &mut Measured) -> Result<(), &'static str> {
    plausibility::accept(&mut measured.values, &measured.status, StatedBy::Device).map_err(|refusal| refusal.class)?;
    let absent = |value: &Value| value.quantity == Quantity::Special(Special::NotAvailable);
    if measured.values.iter().all(absent) && !measured.is_judgement() { Err("absent") } else { Ok(()) }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
