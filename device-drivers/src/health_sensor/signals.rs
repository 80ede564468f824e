//! Runs of samples to recordings: signals of one time become channels of one recording, runs that go on become one.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::elapsed_time::ElapsedTime;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Channel, Measured, Memory, Quantity, Rate, RecordingHead, Value};

use super::observed::{Array, kind};
use crate::driver::{DriverError, Token};
use crate::session::outputs::Outputs;
use crate::session::wave::span;

/// Signals of one time come within this of each other.
pub(super) const GATHER: Duration = Duration::from_secs(1);
/// A live recording that does not go on for so long is over.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// Channels of a recording, at most.
const CHANNELS_MAX: usize = 32;
/// Blocks are of this span: no more than that is lost of a recording where a kit stops.
const BLOCK: Duration = Duration::from_secs(1);
/// Signal that waits to be handed over, at most.
const QUEUED_MAX: Duration = Duration::from_secs(600);
/// The code of how long a recording lasts, MDC_ATTR_TIME_PD_MSMT_ACTIVE.
const DURATION: Mdc = Mdc(68_185);

/// What is said of every signal of an observation.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) time: Option<ElapsedTime>,
    /// Kind, time, record, status and octets of the reading that says how long a stored recording lasts.
    pub(super) measured: Measured,
}

/// Signals on their way to recordings.
#[derive(Debug, Default)]
pub(super) struct Signals {
    batch: Option<Batch>,
    open: Option<Open>,
    queue: VecDeque<Queued>,
    queued: Duration,
    recordings: u32,
}

/// Signals of one time.
#[derive(Debug)]
struct Batch {
    about: About,
    arrays: Vec<Array>,
    /// How many of its observation came before it.
    nth: u8,
    until: Moment,
}

/// A live recording that may go on.
#[derive(Debug)]
struct Open {
    recording: u32,
    channels: Vec<Channel>,
    rate: Rate,
    /// Of its first sample.
    time: ElapsedTime,
    samples: u64,
    until: Moment,
}

#[derive(Debug)]
enum Queued {
    Begin {
        recording: u32,
        head: RecordingHead,
    },
    Samples {
        recording: u32,
        block: Block,
        channels: usize,
        span: Duration,
    },
    End {
        recording: u32,
    },
    /// The reading that a stored recording ends with.
    Measured(Measured),
}

/// A stored recording is wholly handed over, with this token for its reading; `None`: there was no room.
pub(super) type HandedOver = Option<Token>;

impl Signals {
    /// Takes in the signals of one observation.
    pub(super) fn push(&mut self, now: Moment, about: &About, arrays: Vec<Array>, outputs: &mut Outputs) {
        let mut nth = 0;
        for array in arrays.into_iter().filter(|array| !array.samples.is_empty()) {
            let fits = self.batch.as_ref().is_some_and(|batch| batch.takes(about, &array));
            if !fits {
                self.flush(now, outputs);
            }
            let until = now + GATHER;
            if self.batch.is_none() {
                self.batch = Some(Batch { about: about.clone(), arrays: Vec::new(), nth, until });
                nth = nth.saturating_add(1);
            }
            if let Some(batch) = &mut self.batch {
                batch.arrays.push(array);
            }
        }
        // Signals of another observation without a time cannot be told to be of the same one.
        if about.time.is_none() || about.measured.memory == Memory::Stored {
            self.flush(now, outputs);
        }
    }

    /// When [`Signals::handle_timeout`] is wanted.
    pub(super) fn until(&self) -> Option<Moment> {
        let batch = self.batch.as_ref().map(|batch| batch.until);
        batch.into_iter().chain(self.open.as_ref().map(|open| open.until)).min()
    }

    /// Takes in that a time has come.
    pub(super) fn handle_timeout(&mut self, now: Moment, outputs: &mut Outputs) {
        if self.batch.as_ref().is_some_and(|batch| batch.until <= now) {
            self.flush(now, outputs);
        }
        if self.open.as_ref().is_some_and(|open| open.until <= now) {
            self.end();
        }
    }

    /// Nothing comes any more.
    pub(super) fn finish(&mut self, now: Moment, outputs: &mut Outputs) {
        self.flush(now, outputs);
        self.end();
    }

    /// Whether a stored recording waits to be handed over.
    pub(super) fn hold_a_record(&self) -> bool {
        self.queue.iter().any(|queued| matches!(queued, Queued::Measured(_)))
    }

    /// Hands over what there is room for; gives each stored recording that is wholly handed over.
    pub(super) fn pump(&mut self, outputs: &mut Outputs) -> Vec<HandedOver> {
        let mut handed_over = Vec::new();
        while let Some(next) = self.queue.front() {
            if let Queued::Samples { span, .. } = next
                && !outputs.room_for_signal(*span)
            {
                break;
            }
            match self.queue.pop_front() {
                Some(Queued::Begin { recording, head }) => outputs.begin(recording, head),
                Some(Queued::Samples { recording, block, channels, span }) => {
                    self.queued = self.queued.saturating_sub(span);
                    outputs.samples(recording, block, channels, span);
                }
                Some(Queued::End { recording }) => outputs.end(recording),
                Some(Queued::Measured(measured)) => handed_over.push(outputs.measured(measured).ok()),
                None => break,
            }
        }
        handed_over
    }

    fn flush(&mut self, now: Moment, outputs: &mut Outputs) {
        let Some(Batch { about, arrays, nth, .. }) = self.batch.take() else { return };
        let Some(first) = arrays.first() else { return };
        let (rate, count, code) = (first.rate, first.samples.len(), first.code);
        let frames = u64::try_from(count).unwrap_or(u64::MAX);
        let stored = about.measured.memory == Memory::Stored;
        let channel = |array: &Array| Channel { code: array.code, scale: array.scale, unit: array.unit, filter: String::new() };
        let channels: Vec<Channel> = arrays.iter().map(channel).collect();
        let lasts = span(frames, rate);
        if self.queued + lasts > QUEUED_MAX {
            self.end();
            let recording = self.recordings;
            outputs.error(DriverError::SamplesLost { recording, first: 0, count: frames });
            return;
        }
        let first_sample = match (&mut self.open, about.time) {
            (Some(open), Some(time)) if !stored && open.goes_on(&channels, rate, &time) => {
                let first_sample = open.samples;
                open.samples += frames;
                open.until = now + lasts + SILENCE;
                first_sample
            }
            _ => {
                self.end();
                self.recordings += 1;
                let mut octets = about.measured.octets.clone();
                // Recordings of one observation are not each other's.
                octets.extend((nth > 0).then_some(nth));
                let head = RecordingHead {
                    continuous: false,
                    device_time: about.measured.usable_time(),
                    memory: about.measured.memory,
                    record: about.measured.record,
                    octets,
                    ..RecordingHead::live(kind(code), channels.clone(), rate)
                };
                self.queue.push_back(Queued::Begin { recording: self.recordings, head });
                0
            }
        };
        let recording = self.recordings;
        self.queue_blocks(recording, &arrays, first_sample, about.measured.received);
        if stored {
            self.queue.push_back(Queued::End { recording });
            self.queue.push_back(Queued::Measured(lasting(&about.measured, recording, code, frames, rate)));
        } else if let Some(time) = about.time.filter(|_| self.open.is_none()) {
            let until = now + lasts + SILENCE;
            self.open = Some(Open { recording, channels, rate, time, samples: frames, until });
        } else if self.open.is_none() {
            self.queue.push_back(Queued::End { recording });
        }
    }

    fn queue_blocks(&mut self, recording: u32, arrays: &[Array], first_sample: u64, received: Moment) {
        let Some((rate, count)) = arrays.first().map(|array| (array.rate, array.samples.len())) else { return };
        let frames_max = u128::from(rate.samples) * BLOCK.as_millis() / (1_000 * u128::from(rate.seconds.max(1)));
        let frames_max = usize::try_from(frames_max).unwrap_or(usize::MAX).max(1);
        let mut at = 0;
        while at < count {
            let end = at.saturating_add(frames_max).min(count);
            let frame = |index: usize| arrays.iter().filter_map(move |array| array.samples.get(index).copied());
            let block = Block {
                first: first_sample + u64::try_from(at).unwrap_or(u64::MAX),
                device_counter: None,
                received,
                samples: (at..end).flat_map(frame).collect(),
                lead_off: 0,
                saturated: 0,
                artifact: false,
            };
            let span = span(u64::try_from(end - at).unwrap_or(u64::MAX), rate);
            self.queued += span;
            self.queue.push_back(Queued::Samples { recording, block, channels: arrays.len(), span });
            at = end;
        }
    }

    fn end(&mut self) {
        if let Some(open) = self.open.take() {
            self.queue.push_back(Queued::End { recording: open.recording });
        }
    }
}

impl Batch {
    fn takes(&self, about: &About, array: &Array) -> bool {
        let same = |first: &Array| {
            first.rate == array.rate && first.samples.len() == array.samples.len() && kind(first.code) == kind(array.code)
        };
        self.about.time == about.time
            && self.about.measured.memory == about.measured.memory
            && self.about.measured.record == about.measured.record
            && self.arrays.len() < CHANNELS_MAX
            && self.arrays.first().is_some_and(same)
            && self.arrays.iter().all(|before| before.code != array.code)
    }
}

impl Open {
    /// Whether samples with this time follow: as the device counts, but for one count and a thousandth for the two clocks.
    fn goes_on(&self, channels: &[Channel], rate: Rate, time: &ElapsedTime) -> bool {
        if self.channels != channels || self.rate != rate || self.time.flags != time.flags {
            return false;
        }
        let counts = u128::from(time.resolution().counts_a_second()) * u128::from(self.samples) * u128::from(rate.seconds);
        let expected = u64::try_from(counts / u128::from(rate.samples.max(1))).unwrap_or(u64::MAX);
        let Some(passed) = time.count.checked_sub(self.time.count) else { return false };
        passed.abs_diff(expected) <= 1 + expected / 1_000
    }
}

/// The reading that a stored recording ends with: how long it lasts. It carries the record's number, which is durable then.
fn lasting(about: &Measured, recording: u32, code: Mdc, frames: u64, rate: Rate) -> Measured {
    let nanoseconds = i64::try_from(span(frames, rate).as_nanos()).unwrap_or(i64::MAX);
    let mut seconds = Decimal::new(nanoseconds, -9);
    while seconds.exponent < 0 && seconds.mantissa % 10 == 0 {
        seconds = Decimal::new(seconds.mantissa / 10, seconds.exponent + 1);
    }
    Measured {
        kind: kind(code),
        values: vec![Value { code: DURATION, quantity: Quantity::Number(seconds), unit: "s" }],
        recording: Some(recording),
        ..about.clone()
    }
}
