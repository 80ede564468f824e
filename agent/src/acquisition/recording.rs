//! A recording under way: samples wait for their segment, and become FLAC when it is cut.

use std::collections::BTreeMap;
use std::time::Duration;

use device_drivers::driver::Token;
use kit_protocol::flac;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Block, Memory, Rate, RecordingHead};
use kit_protocol::uplink::id::RecordingId;
use kit_protocol::uplink::record;
use kit_protocol::uplink::wire;

use super::filing::Answer;
use super::marks::StreamMark;
use crate::store::outbox::SEGMENT_SEALED_OCTETS_MAX;

/// A stream's block has no fewer samples than this, unless the run itself is shorter.
pub(super) const SEGMENT_SAMPLES_MIN: usize = 16;
/// Octets of a segment beside its FLAC streams, and of its seal: channels, flags, tag.
const SEGMENT_OVERHEAD_MAX: usize = 1_000;
/// Spans of flags that one segment names, at most: about 20 octets each.
const FLAGS_MAX: usize = 32;
/// A slow recording out of a memory is cut into segments of so many samples: while it waits, its device has it still.
const STORED_SEGMENT_SAMPLES: usize = 300;
/// What a memory or a file holds comes at once: no sample is received later than another by where it stands.
const AT_ONCE: Rate = Rate { samples: 1, seconds: 0 };

/// A recording under way.
pub(super) struct Recording {
    pub(super) id: RecordingId,
    pub(super) head: RecordingHead,
    /// Its id is made of what names it: sent again, it is the same one.
    pub(super) named: bool,
    pub(super) index: u32,
    /// Frames of one segment: 4 s, or what was found to fit its bound.
    pub(super) span: usize,
    /// The next sample expected, by the driver's numbering.
    pub(super) next: u64,
    /// When the last sample taken in was received.
    pub(super) last_received: Moment,
    pub(super) pending: Pending,
    /// Samples were lost after the last one: the device's counters of the first and the last, where they are known.
    pub(super) lost: Option<Option<(u64, u64)>>,
}

/// Samples that wait for their segment: one run without a hole.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) first: u64,
    pub(super) first_received: Moment,
    pub(super) device_counter: Option<u64>,
    pub(super) samples: Vec<i32>,
    /// Index of each block's first sample, and when it was received.
    pub(super) receptions: Vec<(usize, Moment)>,
    pub(super) flags: Vec<wire::SampleFlag>,
    pub(super) answers: Vec<(usize, Answer)>,
}

/// Samples per second, and how they are spread over time.
pub(super) trait Paced {
    fn samples_in(&self, span: Duration) -> usize;
}

impl Paced for RecordingHead {
    fn samples_in(&self, span: Duration) -> usize {
        let per_second = u64::from(self.rate.samples) / u64::from(self.rate.seconds.max(1));
        let least = if self.memory == Memory::Stored { STORED_SEGMENT_SAMPLES } else { SEGMENT_SAMPLES_MIN };
        usize::try_from(per_second.saturating_mul(span.as_secs())).unwrap_or(usize::MAX).clamp(least, flac::SAMPLES_MAX / 2)
    }
}

pub(super) fn offset_of(frames: u64, rate: Rate) -> Duration {
    let nanoseconds = u128::from(frames) * u128::from(rate.seconds) * 1_000_000_000 / u128::from(rate.samples.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl Recording {
    /// A stream, as it is measured: not out of a memory or a file.
    pub(super) fn is_live(&self) -> bool {
        self.head.memory == Memory::Live
    }

    /// What names a judgement of it where it is read again, out of a memory or a file, and found to be as it was before.
    pub(super) fn judgement(&self, octets: &[u8]) -> Option<Vec<u8>> {
        (!self.is_live()).then(|| [&self.id.0[..], &[0, 6], octets].concat())
    }

    /// The rate at which its samples are received.
    fn pace(&self) -> Rate {
        if self.is_live() { self.head.rate } else { AT_ONCE }
    }

    pub(super) fn channels(&self) -> usize {
        self.head.channels.len().max(1)
    }

    pub(super) fn pending_frames(&self) -> usize {
        self.pending.samples.len() / self.channels()
    }

    pub(super) fn take(&mut self, token: Token, block: &Block) {
        let frames_before = self.pending_frames();
        if frames_before == 0 {
            self.pending.first = block.first;
            self.pending.device_counter = block.device_counter;
        }
        let pace = self.pace();
        self.pending.received(frames_before, block.received, pace);
        self.pending.samples.extend_from_slice(&block.samples);
        let frames = self.pending_frames();
        self.pending.flag(block, frames_before, frames - frames_before, self.head.channels.len());
        self.pending.answers.push((frames, Answer::Stored(token)));
        let added = u64::try_from(frames - frames_before).unwrap_or(u64::MAX);
        self.next = block.first.saturating_add(added);
        self.last_received = block.received + offset_of(added.saturating_sub(1), pace);
        self.lost = None;
    }

    /// The FLAC streams of the first `frames` frames; `None` where they do not fit a segment.
    pub(super) fn pack(&self, frames: usize) -> Option<Vec<Vec<u8>>> {
        if frames == 0 {
            return Some(Vec::new());
        }
        let rate = self.head.rate.samples.div_ceil(self.head.rate.seconds.max(1));
        let samples = self.pending.samples.get(..frames * self.channels())?;
        let streams = flac::encode(samples, self.channels(), rate).ok()?;
        let octets: usize = streams.iter().map(Vec::len).sum();
        (octets + SEGMENT_OVERHEAD_MAX <= SEGMENT_SEALED_OCTETS_MAX || frames <= 2 * SEGMENT_SAMPLES_MIN).then_some(streams)
    }

    pub(super) fn mark(&self, frames: usize, clock: wire::Clock, ended: bool) -> StreamMark {
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
    pub(super) fn lost_from(&self, clock: wire::Clock) -> StreamMark {
        StreamMark {
            clock: Some(clock),
            boottime_ns: self.last_received.as_nanos(),
            recording: self.id.0.to_vec(),
            ..StreamMark::default()
        }
    }

    /// Takes the first `frames` frames out of what is pending, as a segment with the answers that are due with it.
    pub(super) fn segment(&mut self, frames: usize, flac: Vec<Vec<u8>>, last: bool) -> (wire::Segment, Vec<Answer>) {
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
        let answers = self.pending.advance(frames, channels, self.pace());
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
    pub(super) fn advance(&mut self, frames: usize, channels: usize, rate: Rate) -> Vec<Answer> {
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
