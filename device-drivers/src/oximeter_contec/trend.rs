//! A segment of a Contec's memory as a recording: a point a second, in blocks of five minutes.
//!
//! Each sample is the device's own integer, also where it stored none: 127 for SpO2, 255 for the pulse rate, 65,535 for the
//! index, 0 for both where the finger was out. Such a sample's channel is flagged as off. No second is left out, so that a
//! sample's place is its time.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Channel, Kind, Memory, Rate, RecordingHead};
use kit_protocol::serial::contec::Point;

use crate::driver::Token;
use crate::session::outputs::Outputs;
use crate::session::wave::{self, Flags, Wave};

/// Points of one block, at most; what the kit files as one segment too.
pub(super) const BLOCK_POINTS: usize = 300;
const BLOCK: Duration = Duration::from_secs(BLOCK_POINTS as u64);
const RATE: Rate = Rate { samples: 1, seconds: 1 };
/// Points that fill up the last packet, at most.
const FILLING_MAX: usize = 2;
/// Seconds from the start of 1970 to that of 2000: before it no clock was set.
pub(super) const SECONDS_TO_2000: i64 = 946_684_800;

/// Points as they came; `None` where both numbers are 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend {
    pub(super) points: Vec<Option<Point>>,
    /// Points have an index each.
    indexed: bool,
    /// When the first of each block's points was received.
    received: Vec<Moment>,
}

impl Trend {
    pub(super) fn push(&mut self, now: Moment, point: Option<Point>, indexed: bool) {
        if self.points.len().is_multiple_of(BLOCK_POINTS) {
            self.received.push(now);
        }
        self.points.push(point);
        self.indexed |= indexed;
    }

    /// Whether the same points came.
    pub(super) fn equals(&self, other: &Self) -> bool {
        (&self.points, self.indexed) == (&other.points, other.indexed)
    }

    /// The last packet is filled up with what is no point.
    pub(super) fn without_filling(mut self) -> Self {
        for _ in 0..FILLING_MAX {
            self.points.pop_if(|point| point.is_none());
        }
        self
    }

    fn channels(&self) -> Vec<Channel> {
        let channel = |code, scale, unit| Channel { code, scale, unit, filter: String::new() };
        let index = self.indexed.then(|| channel(Mdc::PERFUSION_INDEX, Decimal::new(1, -2), "%"));
        let both = [channel(Mdc::SPO2, Decimal::whole(1), "%"), channel(Mdc::PULSE_RATE, Decimal::whole(1), "/min")];
        both.into_iter().chain(index).collect()
    }

    /// The integers of a point, each with whether there is a value.
    fn row(&self, point: Option<Point>) -> impl Iterator<Item = (i32, bool)> + Clone {
        const NOTHING: Point = Point { spo2: Some(0), pulse_rate: Some(0), perfusion_index: None };
        let Point { spo2, pulse_rate, perfusion_index } = point.unwrap_or(NOTHING);
        let octet = |octet: Option<u8>, none: u8| (i32::from(octet.unwrap_or(none)), octet.is_some_and(|octet| octet != 0));
        let index = (i32::from(perfusion_index.unwrap_or(u16::MAX)), perfusion_index.is_some());
        [octet(spo2, 0x7f), octet(pulse_rate, 0xff)].into_iter().chain(self.indexed.then_some(index))
    }

    /// What makes it the same recording when it is sent again: all of it, so that no point of a longer one is taken for known.
    fn octets(&self) -> Vec<u8> {
        let row = |point: &Option<Point>| self.row(*point).flat_map(|(integer, _)| integer.to_le_bytes());
        self.points.iter().flat_map(row).collect()
    }
}

/// What stands for the number of a segment, and of a point: seconds since 2000 by the device's clock.
pub(super) fn number(seconds_since_1970: i64) -> Option<u64> {
    u64::try_from(seconds_since_1970.checked_sub(SECONDS_TO_2000)?).ok()
}

/// What was handed over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Advance {
    /// A block, answered by this token; `None`: there was no room.
    Block(Option<Token>),
    /// The end: there is no more of it.
    Ended,
}

/// A segment that is handed over.
#[derive(Debug)]
pub(super) struct HandingOver {
    trend: Trend,
    recording: u32,
    /// The number of its first point.
    first: u64,
    next: usize,
    wave: Wave,
    channels: usize,
}

impl HandingOver {
    /// Begins the recording of a segment that began then, in seconds since 1970.
    pub(super) fn begin(trend: Trend, start: i64, recording: u32, outputs: &mut Outputs) -> Self {
        let (channels, first) = (trend.channels(), number(start));
        let count = channels.len();
        let head = RecordingHead {
            continuous: false,
            device_time: DateTime::from_seconds(start),
            memory: Memory::Stored,
            record: first,
            octets: trend.octets(),
            ..RecordingHead::live(Kind::PulseOximetry, channels, RATE)
        };
        outputs.begin(recording, head);
        let wave = Wave::new(count, RATE, BLOCK);
        Self { trend, recording, first: first.unwrap_or_default(), next: 0, wave, channels: count }
    }

    /// Hands over the next block, or the end.
    pub(super) fn advance(&mut self, outputs: &mut Outputs) -> Advance {
        while let Some(point) = self.trend.points.get(self.next).copied() {
            if let Some(block) = self.take(point) {
                return self.hand_over(block, outputs);
            }
        }
        if let Some(block) = self.wave.cut() {
            return self.hand_over(block, outputs);
        }
        outputs.end(self.recording);
        Advance::Ended
    }

    fn take(&mut self, point: Option<Point>) -> Option<Block> {
        let row = self.trend.row(point);
        let lead_off = (0..).zip(row.clone()).fold(0, |bits, (at, (_, valued))| bits | u32::from(!valued) << at);
        let received = self.trend.received.get(self.next / BLOCK_POINTS).copied().unwrap_or(Moment::ZERO);
        let index = u64::try_from(self.next).unwrap_or(u64::MAX);
        self.next += 1;
        let samples = row.map(|(integer, _)| integer);
        self.wave.push(samples, index, Some(self.first.saturating_add(index)), received, Flags { lead_off, ..Flags::default() })
    }

    fn hand_over(&self, block: Block, outputs: &mut Outputs) -> Advance {
        let frames = u64::try_from(block.samples.len() / self.channels.max(1)).unwrap_or(u64::MAX);
        Advance::Block(outputs.samples(self.recording, block, self.channels, wave::stored_span(frames, RATE)))
    }
}
