//! A recording that a file holds, handed over block by block as the Recorder takes it: a long one is never in memory decoded.

use std::time::Duration;

use kit_protocol::file::{FileError, FileRecording, ecg90a, lepu_er3};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reader::Reader;
use kit_protocol::reading::{Block, Channel, Kind, Memory, Rate, RecordingHead};

use crate::driver::{DriverError, Output, Token};
use crate::session::outputs::Outputs;
use crate::session::wave::{self, Flags, Wave};

/// The most octets of a file: 24 h of an ER3 are 86.4 million and its escapes.
pub(crate) const FILE_OCTETS_MAX: usize = 100 * 1024 * 1024;
/// The longest recording that is taken in.
pub(crate) const RECORDING_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Signal in one block.
const BLOCK: Duration = Duration::from_millis(500);

/// Where rows come from.
pub(crate) enum Source {
    /// A file of an ECG90A, row by row.
    Ecg90a { octets: Vec<u8>, contents: ecg90a::Contents },
    /// A file of an ER3, row by row.
    LepuEr3 { octets: Vec<u8>, contents: lepu_er3::Contents, decoder: lepu_er3::Rows, at: usize },
    /// A recording that was decoded as a whole.
    Whole { recording: FileRecording, next: usize },
}

impl Source {
    pub(crate) fn ecg90a(octets: Vec<u8>) -> Result<Self, FileError> {
        let contents = ecg90a::contents(&octets)?;
        Ok(Self::Ecg90a { octets, contents })
    }

    pub(crate) fn lepu_er3(octets: Vec<u8>) -> Result<Self, FileError> {
        let contents = lepu_er3::contents(&octets)?;
        let (decoder, at) = (rows_of(&contents), contents.body.start);
        Ok(Self::LepuEr3 { octets, contents, decoder, at })
    }

    pub(crate) const fn whole(recording: FileRecording) -> Self {
        Self::Whole { recording, next: 0 }
    }

    fn device_time(&self) -> Option<DateTime> {
        match self {
            Self::Ecg90a { contents, .. } => contents.device_time,
            Self::LepuEr3 { .. } => None,
            Self::Whole { recording, .. } => recording.device_time,
        }
    }

    fn rate(&self) -> Rate {
        match self {
            Self::Ecg90a { .. } => ecg90a::RATE,
            Self::LepuEr3 { .. } => lepu_er3::RATE,
            Self::Whole { recording, .. } => recording.rate,
        }
    }

    fn channels(&self) -> Vec<Channel> {
        match self {
            Self::Ecg90a { .. } => ecg90a::channels(),
            Self::LepuEr3 { contents, .. } => lepu_er3::channels(contents.lead_type),
            Self::Whole { recording, .. } => recording.channels.clone(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Ecg90a { contents, .. } => contents.rows,
            Self::LepuEr3 { contents, .. } => contents.rows,
            Self::Whole { recording, .. } => recording.samples.len() / recording.channels.len().max(1),
        }
    }

    /// The integer that stands where a row lacks a sample, as the device writes it; the block says that the lead is off.
    const fn missing(&self) -> i32 {
        match self {
            Self::Ecg90a { .. } => ecg90a::MISSING,
            Self::LepuEr3 { .. } => lepu_er3::LEAD_OFF,
            Self::Whole { .. } => 0,
        }
    }

    fn rewind(&mut self) {
        match self {
            Self::Ecg90a { .. } => {}
            Self::LepuEr3 { contents, decoder, at, .. } => (*decoder, *at) = (rows_of(contents), contents.body.start),
            Self::Whole { next, .. } => *next = 0,
        }
    }

    /// Puts the row at `index` into `row`; rows are asked for in order.
    fn next(&mut self, index: usize, row: &mut Vec<Option<i32>>) {
        row.clear();
        match self {
            Self::Ecg90a { octets, .. } => row.extend(ecg90a::row(octets, index).into_iter().flatten()),
            Self::LepuEr3 { octets, contents, decoder, at } => {
                let named = contents.lead_type.channels().unwrap_or_default();
                let mut r = Reader::new(octets.get(*at..contents.body.end).unwrap_or_default());
                let before = r.rest().len();
                // Every row was read once when the file was opened.
                if let Ok(samples) = decoder.next(&mut r) {
                    let there = samples.iter().zip(named).filter(|(_, lead)| lead.is_some());
                    row.extend(there.map(|(sample, _)| Some(*sample).filter(|sample| *sample != lepu_er3::LEAD_OFF)));
                }
                *at += before - r.rest().len();
            }
            Self::Whole { recording, next } => {
                let count = recording.channels.len();
                row.extend(recording.samples.iter().skip(*next).take(count));
                *next += count;
            }
        }
    }
}

fn rows_of(contents: &lepu_er3::Contents) -> lepu_er3::Rows {
    lepu_er3::Rows::new(contents.lead_type.channels().map_or(0, <[_]>::len))
}

/// The next output of a session, and, where nothing waits, the next of its recording: no more is decoded than is taken.
pub(crate) fn poll(outputs: &mut Outputs, playback: Option<&mut Playback>) -> Option<Result<(Token, Output), DriverError>> {
    if let Some(output) = outputs.poll() {
        return Some(output);
    }
    let goes_on = outputs.is_empty() && playback.is_some_and(|playback| playback.advance(outputs));
    if goes_on { outputs.poll() } else { None }
}

/// A recording under way.
pub(crate) struct Playback {
    source: Source,
    number: u32,
    rate: Rate,
    /// For each channel of the file, whether it is recorded: one without a single sample is not.
    recorded: Vec<bool>,
    channels: usize,
    wave: Wave,
    row: Vec<Option<i32>>,
    next: usize,
    received: Moment,
    ended: bool,
}

impl Playback {
    /// Begins the recording; the error says why there is none.
    pub(crate) fn begin(mut source: Source, number: u32, received: Moment, outputs: &mut Outputs) -> Result<Self, String> {
        let (rate, rows) = (source.rate(), source.rows());
        if wave::span(u64::try_from(rows).unwrap_or(u64::MAX), rate) > RECORDING_MAX {
            return Err(format!("longer than {} h", RECORDING_MAX.as_secs() / 3_600));
        }
        let all = source.channels();
        let (mut recorded, mut row) = (vec![false; all.len()], Vec::with_capacity(all.len()));
        for index in 0..rows {
            source.next(index, &mut row);
            recorded.iter_mut().zip(&row).for_each(|(recorded, sample)| *recorded |= sample.is_some());
            if recorded.iter().all(|recorded| *recorded) {
                break;
            }
        }
        source.rewind();
        let channels: Vec<Channel> = all.into_iter().zip(&recorded).filter(|(_, recorded)| **recorded).map(|(c, _)| c).collect();
        if channels.is_empty() || channels.len() > LEADS_MAX {
            return Err("no sample of any lead, or too many leads".into());
        }
        let (device_time, count) = (source.device_time(), channels.len());
        let head = RecordingHead {
            continuous: false,
            device_time,
            memory: Memory::Stored,
            ..RecordingHead::live(Kind::Ecg, channels, rate)
        };
        outputs.begin(number, head);
        let wave = Wave::new(count, rate, BLOCK);
        Ok(Self { source, number, rate, recorded, channels: count, wave, row, next: 0, received, ended: false })
    }

    /// Hands over the next block, or the end; false where that was done before.
    pub(crate) fn advance(&mut self, outputs: &mut Outputs) -> bool {
        if self.ended {
            return false;
        }
        while self.next < self.source.rows() {
            if let Some(block) = self.take() {
                self.hand_over(block, outputs);
                return true;
            }
        }
        if let Some(block) = self.wave.cut() {
            self.hand_over(block, outputs);
        }
        outputs.end(self.number);
        self.ended = true;
        true
    }

    /// Takes in one row. One without any sample is a hole; of one that lacks some, those leads are off.
    fn take(&mut self) -> Option<Block> {
        let index = self.next;
        self.next += 1;
        self.source.next(index, &mut self.row);
        let there = |(sample, recorded): (&Option<i32>, &bool)| recorded.then_some(*sample);
        let row = self.row.iter().zip(&self.recorded).filter_map(there);
        let lead_off = (0..).zip(row.clone()).fold(0, |bits, (at, sample)| bits | u32::from(sample.is_none()) << at);
        if row.clone().all(|sample| sample.is_none()) {
            return self.wave.cut();
        }
        let missing = self.source.missing();
        let samples = row.map(|sample| sample.unwrap_or(missing));
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        self.wave.push(samples, index, None, self.received, Flags { lead_off, ..Flags::default() })
    }

    fn hand_over(&self, block: Block, outputs: &mut Outputs) {
        let frames = u64::try_from(block.samples.len() / self.channels.max(1)).unwrap_or(u64::MAX);
        outputs.samples(self.number, block, self.channels, wave::span(frames, self.rate));
    }
}

/// A block has so many flags.
const LEADS_MAX: usize = 32;
