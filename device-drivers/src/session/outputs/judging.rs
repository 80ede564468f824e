//! The quality of the ECGs that pass: judged 10 s by 10 s, told every 30 s of a stream and at the end of a recording.

use std::collections::BTreeMap;

use kit_protocol::moment::Moment;
use kit_protocol::reading::{Block, Context, Kind, Measured, RecordingHead};

use crate::derive::ecg_quality::{Finding, Quality, Stretch, can_judge, judge};

/// Seconds that are judged at once: a resting ECG.
const STRETCH_SECONDS: usize = 10;
/// A stream's quality is told after so many of them.
const STRETCHES_TOLD: u32 = 3;
/// An electrode that is off for more than this share of them is off, in percent.
const FLAGGED_PERCENT: usize = 5;

/// The recordings under way.
#[derive(Debug, Default)]
pub(super) struct Judging(BTreeMap<u32, UnderWay>);

#[derive(Debug)]
struct UnderWay {
    head: RecordingHead,
    /// Frames of a whole stretch.
    frames: usize,
    /// Index of the next frame.
    next: u64,
    /// Interleaved samples of the stretch under way; what is flagged as off is none.
    samples: Vec<Option<i32>>,
    /// Frames of it in which each channel was off, and saturated.
    off: Vec<usize>,
    saturated: Vec<usize>,
    /// What was found and not yet told, in how many stretches, and from which frame on.
    found: Option<Quality>,
    stretches: u32,
    first: u64,
    received: Moment,
}

impl Judging {
    pub(super) fn begin(&mut self, recording: u32, head: &RecordingHead) {
        if head.kind == Kind::Ecg && can_judge(head.rate) {
            self.0.insert(recording, UnderWay::new(head.clone()));
        }
    }

    /// Takes in a block; what is to be told now.
    pub(super) fn samples(&mut self, recording: u32, block: &Block) -> Option<Measured> {
        let under_way = self.0.get_mut(&recording)?;
        under_way.take(block);
        let due = under_way.head.continuous && under_way.stretches >= STRETCHES_TOLD;
        if due { under_way.tell(recording) } else { None }
    }

    /// The recording is at its end: what was not yet told.
    pub(super) fn end(&mut self, recording: u32) -> Option<Measured> {
        let mut under_way = self.0.remove(&recording)?;
        under_way.judge();
        under_way.tell(recording)
    }
}

impl UnderWay {
    fn new(head: RecordingHead) -> Self {
        let rate = usize::try_from(head.rate.samples / head.rate.seconds.max(1)).unwrap_or(usize::MAX);
        let (channels, frames) = (head.channels.len(), rate.saturating_mul(STRETCH_SECONDS));
        Self {
            frames,
            next: 0,
            samples: Vec::with_capacity(frames.saturating_mul(channels)),
            off: vec![0; channels],
            saturated: vec![0; channels],
            found: None,
            stretches: 0,
            first: 0,
            received: Moment::ZERO,
            head,
        }
    }

    fn channels(&self) -> usize {
        self.head.channels.len().max(1)
    }

    fn gathered(&self) -> usize {
        self.samples.len() / self.channels()
    }

    fn take(&mut self, block: &Block) {
        self.received = block.received;
        let hole = usize::try_from(block.first.saturating_sub(self.next)).unwrap_or(usize::MAX);
        if self.gathered() > 0 && hole > 0 {
            let filled = hole.min(self.frames - self.gathered());
            self.samples.resize(self.samples.len() + filled * self.channels(), None);
            self.judge_where_full();
            if filled < hole {
                self.judge();
            }
        }
        self.next = block.first;
        for frame in block.samples.chunks_exact(self.channels()) {
            self.frame(frame, block);
            self.next = self.next.saturating_add(1);
            self.judge_where_full();
        }
    }

    fn frame(&mut self, frame: &[i32], block: &Block) {
        for (at, sample) in frame.iter().enumerate() {
            let raised = |bits: u32| at < 32 && bits >> at & 1 == 1;
            let off = raised(block.lead_off);
            self.samples.push(Some(*sample).filter(|_| !off));
            if let (Some(offs), Some(saturated)) = (self.off.get_mut(at), self.saturated.get_mut(at)) {
                *offs += usize::from(off);
                *saturated += usize::from(raised(block.saturated));
            }
        }
    }

    fn judge_where_full(&mut self) {
        if self.gathered() >= self.frames {
            self.judge();
        }
    }

    /// Judges what is gathered. A rest that is too short to tell says nothing.
    fn judge(&mut self) {
        let frames = self.gathered();
        let flagged = |counts: &[usize]| {
            let many = |count: &usize| *count > frames * FLAGGED_PERCENT / 100;
            (0..32).zip(counts).fold(0, |bits, (at, count)| bits | u32::from(many(count)) << at)
        };
        let quality = judge(&Stretch {
            channels: &self.head.channels,
            rate: self.head.rate,
            samples: &self.samples,
            lead_off: flagged(&self.off),
            saturated: flagged(&self.saturated),
        });
        let rate = self.frames / STRETCH_SECONDS;
        self.samples.clear();
        self.off.fill(0);
        self.saturated.fill(0);
        if frames >= crate::derive::ecg_quality::SECONDS_MIN * rate {
            self.stretches += 1;
            self.found = Some(match self.found.take() {
                Some(before) => before.and(quality),
                None => quality,
            });
        }
    }

    fn tell(&mut self, recording: u32) -> Option<Measured> {
        let quality = self.found.take()?;
        let first = std::mem::replace(&mut self.first, self.next);
        self.stretches = 0;
        let status = quality.statuses();
        let unreadable = quality.leads.iter().filter(|(_, finding)| *finding != Finding::Acceptable);
        let context = unreadable.filter_map(|(lead, finding)| Some(Context { what: lead.name()?, value: finding.status() }));
        let octets = [status.join(" ").as_bytes(), &first.to_be_bytes()].concat();
        Some(Measured {
            context: context.collect(),
            status,
            octets,
            device_time: self.head.device_time,
            memory: self.head.memory,
            recording: Some(recording),
            derived: true,
            ..Measured::new(Kind::Ecg, self.received)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kit_protocol::decimal::Decimal;
    use kit_protocol::nomenclature::Mdc;
    use kit_protocol::reading::{Channel, Rate};

    use super::*;

    const RATE: usize = 250;

    fn head(continuous: bool) -> RecordingHead {
        let channel = |code| Channel { code, scale: Decimal::whole(1), unit: "uV", filter: String::new() };
        let channels = vec![channel(Mdc::ECG_II), channel(Mdc::by_name("V3").unwrap())];
        RecordingHead { continuous, ..RecordingHead::live(Kind::Ecg, channels, Rate { samples: 250, seconds: 1 }) }
    }

    /// A beat a second in both leads, of a millivolt; V3 flat and marked off in the seconds that `off` says.
    fn told(continuous: bool, seconds: usize, off: impl Fn(usize) -> bool) -> Vec<Measured> {
        let mut judging = Judging::default();
        judging.begin(1, &head(continuous));
        let mut told = Vec::new();
        for second in 0..seconds {
            let beat = |n: usize| i32::try_from(1_000 - (n.abs_diff(100) * 100).min(1_000) + (n * 7) % 5 * 3).unwrap();
            let v3 = |n| if off(second) { 0 } else { beat(n) };
            let block = Block {
                first: u64::try_from(second * RATE).unwrap(),
                device_counter: None,
                received: Moment::ZERO + Duration::from_secs(second as u64),
                samples: (0..RATE).flat_map(|n| [beat(n), v3(n)]).collect(),
                lead_off: u32::from(off(second)) << 1,
                saturated: 0,
                artifact: false,
            };
            told.extend(judging.samples(1, &block));
        }
        told.extend(judging.end(1));
        told
    }

    #[test]
    fn a_stream_is_told_of_every_half_minute_and_at_its_end() {
        let told = told(true, 65, |second| (31..35).contains(&second));
        let statuses: Vec<_> = told.iter().map(|measured| measured.status.join(" ")).collect();
        assert_eq!(statuses, ["acceptable", "electrode-v3-off", "acceptable"]);
        assert_eq!(told[1].context, [Context { what: "V3", value: "electrode-off" }]);
        assert!(told.iter().all(|measured| measured.derived && measured.recording == Some(1) && measured.values.is_empty()));
        assert!(told[0].octets != told[2].octets, "another part of the recording");
    }

    #[test]
    fn a_recording_of_a_set_time_is_told_of_once_and_one_too_short_not_at_all() {
        let statuses =
            |seconds| told(false, seconds, |second| second == 25).iter().map(|m| m.status.join(" ")).collect::<Vec<_>>();
        assert_eq!(statuses(10), ["acceptable"]);
        assert_eq!(statuses(31), ["electrode-v3-off"], "in the third of three stretches; one second more says nothing");
        assert_eq!(statuses(1), [""; 0]);
    }

    #[test]
    fn a_hole_however_long_is_missing_samples_and_no_memory() {
        let mut judging = Judging::default();
        judging.begin(1, &head(false));
        for first in [0, u64::MAX / 2] {
            let samples = (0..2 * RATE).map(|n| i32::try_from(n % 97).unwrap()).collect();
            let block = Block {
                first,
                device_counter: None,
                received: Moment::ZERO,
                samples,
                lead_off: 0,
                saturated: 0,
                artifact: false,
            };
            assert!(judging.samples(1, &block).is_none());
        }
        assert_eq!(judging.end(1).unwrap().status, ["missing-samples"]);
    }

    #[test]
    fn what_is_no_ecg_or_too_slow_to_judge_is_passed_over() {
        let mut judging = Judging::default();
        judging.begin(1, &RecordingHead { kind: Kind::Pleth, ..head(true) });
        judging.begin(2, &RecordingHead { rate: Rate { samples: 75, seconds: 1 }, ..head(true) });
        assert!(judging.0.is_empty());
    }
}
