//! Segments joined to recordings, cut by the hour. Pure: lines of the local record go in, recordings come out.

use std::collections::{BTreeMap, VecDeque};

use kit_protocol::file::{FileRecording, SAMPLES_MAX};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Rate};
use kit_protocol::units;

use crate::api::readings::{ChannelHead, PageLine, SegmentHead};

/// Seconds of one file.
const PIECE_SECONDS: u64 = 3_600;
/// Recordings under way at once, at most: with one more they are handed over as far as they are.
const OPEN_MAX: usize = 16;

/// A recording, or an hour of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// `recording-ID`, `recording-ID-2` …
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) recording: FileRecording,
}

/// Joins segments as they come; within a recording they come in order.
#[derive(Default)]
pub(super) struct Joiner {
    open: BTreeMap<String, Piece>,
    /// How many files each recording became.
    names: BTreeMap<String, u32>,
    whole: VecDeque<Joined>,
}

struct Piece {
    number: u64,
    channels: Vec<ChannelHead>,
    driver: String,
    /// Index of the first sample in it.
    first: u64,
    recording: FileRecording,
}

impl Joiner {
    /// Takes in a line; one without samples is passed over.
    pub(super) fn take(&mut self, line: PageLine) {
        let fields = line.fields();
        let (Some(samples), Some(head)) = (line.samples, line.head) else { return };
        let width = head.channels.len().max(1);
        let per_piece = frames_of_a_piece(&head);
        let (mut first, mut rest) = (head.first, samples.as_slice());
        while !rest.is_empty() {
            let number = first / per_piece;
            let room = usize::try_from((number + 1) * per_piece - first).unwrap_or(usize::MAX).saturating_mul(width);
            let (part, later) = rest.split_at(room.min(rest.len()));
            let began = Began { device_time: fields["reading"]["device_time"].as_str(), received_us: line.received_us };
            self.add(&head, number, first, part, &began, fields["reading"]["driver"].as_str().unwrap_or(""));
            first += u64::try_from(part.len() / width).unwrap_or(u64::MAX);
            rest = later;
        }
        if head.last {
            self.close(&head.recording);
        }
    }

    fn add(&mut self, head: &SegmentHead, number: u64, first: u64, samples: &[i32], began: &Began<'_>, driver: &str) {
        let goes_on = |piece: &Piece| piece.number == number && piece.channels == head.channels && piece.next() <= first;
        if !self.open.get(&head.recording).is_some_and(goes_on) {
            self.close(&head.recording);
            if self.open.len() >= OPEN_MAX {
                self.finish();
            }
        }
        let rate = Rate { samples: head.rate_samples, seconds: head.rate_seconds };
        let piece = self.open.entry(head.recording.clone()).or_insert_with(|| Piece {
            number,
            channels: head.channels.clone(),
            driver: driver.to_owned(),
            first,
            recording: FileRecording {
                device_time: began.at(first, head.first, rate),
                rate,
                channels: head.channels.iter().map(channel).collect(),
                samples: Vec::new(),
            },
        });
        let missing = usize::try_from(first - piece.next()).unwrap_or(usize::MAX).saturating_mul(head.channels.len());
        let all = &mut piece.recording.samples;
        all.resize(all.len().saturating_add(missing), None);
        all.extend(samples.iter().map(|sample| Some(*sample)));
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self) {
        let open: Vec<String> = self.open.keys().cloned().collect();
        open.iter().for_each(|recording| self.close(recording));
    }

    /// The next one that is whole.
    pub(super) fn poll(&mut self) -> Option<Joined> {
        self.whole.pop_front()
    }

    fn close(&mut self, recording: &str) {
        let Some(piece) = self.open.remove(recording) else { return };
        let count = self.names.entry(recording.to_owned()).or_default();
        *count += 1;
        let name = if *count == 1 { format!("recording-{recording}") } else { format!("recording-{recording}-{count}") };
        self.whole.push_back(Joined { name, driver: piece.driver, recording: piece.recording });
    }
}

impl Piece {
    fn next(&self) -> u64 {
        let frames = self.recording.samples.len() / self.channels.len().max(1);
        self.first.saturating_add(u64::try_from(frames).unwrap_or(u64::MAX))
    }
}

/// An hour, or what one file may hold.
fn frames_of_a_piece(head: &SegmentHead) -> u64 {
    let hour = PIECE_SECONDS * u64::from(head.rate_samples) / u64::from(head.rate_seconds.max(1));
    let most = u64::try_from(SAMPLES_MAX / head.channels.len().max(1)).unwrap_or(u64::MAX);
    hour.clamp(1, most.max(1))
}

fn channel(head: &ChannelHead) -> Channel {
    Channel {
        code: Mdc(head.code),
        scale: head.scale.parse().unwrap_or(kit_protocol::decimal::Decimal::whole(1)),
        unit: units::by_ucum(&head.unit).map_or("1", |unit| unit.ucum),
        filter: head.filter.clone(),
    }
}

/// What is known of when a segment began.
struct Began<'a> {
    /// The device's time of the recording's first sample.
    device_time: Option<&'a str>,
    /// Reception of the segment's first sample.
    received_us: Option<i64>,
}

impl Began<'_> {
    /// The time of the sample at `index`, in a segment whose first sample is at `segment`: the device's, else the gateway's.
    fn at(&self, index: u64, segment: u64, rate: Rate) -> Option<DateTime> {
        let later = |from: u64| {
            let seconds = index.saturating_sub(from).saturating_mul(rate.seconds.into()) / u64::from(rate.samples.max(1));
            jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0))
        };
        let by_device = self.device_time.and_then(|text| text.parse::<jiff::civil::DateTime>().ok());
        let civil = match by_device {
            Some(time) => time.checked_add(later(0)).ok()?,
            None => {
                let received = jiff::Timestamp::from_microsecond(self.received_us?).ok()?.checked_add(later(segment)).ok()?;
                received.to_zoned(jiff::tz::TimeZone::system()).datetime()
            }
        };
        Some(DateTime {
            year: u16::try_from(civil.year()).ok()?,
            month: u8::try_from(civil.month()).ok()?,
            day: u8::try_from(civil.day()).ok()?,
            hour: u8::try_from(civil.hour()).ok()?,
            minute: u8::try_from(civil.minute()).ok()?,
            second: u8::try_from(civil.second()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(recording: &str, first: u64, samples: Vec<i32>, last: bool) -> PageLine {
        let channel = |code| ChannelHead { code, scale: "2.44".into(), unit: "uV".into(), filter: "LP".into() };
        PageLine {
            line: r#"{"reading":{"driver":"ecg-file","device_time":"2026-11-21T23:59:30"}}"#.into(),
            received_us: None,
            samples: Some(samples),
            head: Some(SegmentHead {
                recording: recording.into(),
                first,
                rate_samples: 1,
                rate_seconds: 2,
                channels: vec![channel(131_329), channel(131_330)],
                last,
            }),
        }
    }

    fn all(lines: Vec<PageLine>) -> Vec<Joined> {
        let mut joiner = Joiner::default();
        lines.into_iter().for_each(|line| joiner.take(line));
        joiner.finish();
        std::iter::from_fn(|| joiner.poll()).collect()
    }

    #[test]
    fn segments_are_joined_and_holes_are_kept() {
        let joined =
            all(vec![line("a", 0, vec![1, 2, 3, 4], false), line("b", 5, vec![9, 9], true), line("a", 4, vec![5, 6], true)]);
        let shown: Vec<_> = joined.iter().map(|one| (one.name.as_str(), one.recording.samples.clone())).collect();
        let some = |samples: &[i32]| samples.iter().copied().map(Some).collect::<Vec<_>>();
        let with_hole = [some(&[1, 2, 3, 4]), vec![None; 4], some(&[5, 6])].concat();
        assert_eq!(shown, [("recording-b", some(&[9, 9])), ("recording-a", with_hole)]);
        let Joined { driver, recording, .. } = &joined[0];
        assert_eq!(driver, "ecg-file");
        assert_eq!(recording.device_time.unwrap().to_string(), "2026-11-21T23:59:40", "its first sample is the sixth");
        assert_eq!((recording.channels[0].scale.to_string().as_str(), recording.channels[0].unit), ("2.44", "uV"));
        assert_eq!(recording.channels[0].filter, "LP");
    }

    #[test]
    fn a_long_one_is_cut_by_the_hour_wherever_its_segments_lie() {
        let whole: Vec<i32> = (0..2 * 4_000).collect();
        let segments = whole.chunks(2 * 7).enumerate().map(|(at, samples)| line("a", at as u64 * 7, samples.to_vec(), false));
        let joined = all(segments.collect());
        let shown: Vec<_> = joined.iter().map(|one| (one.name.as_str(), one.recording.samples.len() / 2)).collect();
        assert_eq!(shown, [("recording-a", 1_800), ("recording-a-2", 1_800), ("recording-a-3", 400)]);
        let samples: Vec<i32> = joined.iter().flat_map(|one| one.recording.samples.iter().flatten().copied()).collect();
        assert_eq!(samples, whole);
        assert_eq!(joined[1].recording.device_time.unwrap().to_string(), "2026-11-22T00:59:30");
    }

    #[test]
    fn what_comes_twice_is_a_file_of_its_own_and_nothing_is_lost() {
        let joined = all(vec![line("a", 0, vec![1, 2], false), line("a", 0, vec![1, 2], false), line("a", 1, vec![3, 4], true)]);
        let shown: Vec<_> = joined.iter().map(|one| (one.name.as_str(), one.recording.samples.len() / 2)).collect();
        assert_eq!(shown, [("recording-a", 1), ("recording-a-2", 2)]);
    }

    #[test]
    fn many_recordings_that_never_end_are_handed_over_as_they_are() {
        let mut joiner = Joiner::default();
        for number in 0..40 {
            joiner.take(line(&format!("{number}"), 0, vec![1, 2], false));
            assert!(joiner.open.len() <= OPEN_MAX);
        }
        joiner.finish();
        assert_eq!(std::iter::from_fn(|| joiner.poll()).count(), 40);
    }
}
