//! What a session has finished and not yet handed over, within the bounds of what may await `Stored`.
//!
//! Of an ECG ([`Outputs::of_ecg`]) its quality is judged on the way (feature `derive`), and where a set time is asked for, a
//! stream becomes a recording that ends by itself; what the device sends after it belongs to no recording.

#[cfg(feature = "derive")]
mod judging;
#[cfg(not(feature = "derive"))]
#[path = "outputs/no_judging.rs"]
mod judging;
mod set_time;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Block, Measured, RecordingHead};

use self::judging::Judging;
use self::set_time::{Part, SetTime};
use crate::driver::{DriverError, MEASUREMENTS_UNSTORED_MAX, Output, SIGNAL_UNSTORED_MAX, Token};

/// Measurements that wait to be handed over, at most.
pub(crate) const MEASUREMENTS_WAITING_MAX: usize = 512;
/// Signal that waits to be handed over, at most; what comes on top is declared lost.
pub(crate) const SIGNAL_WAITING_MAX: Duration = Duration::from_secs(10);

/// Skipped octets are told at once, and then at most so often: a bad cable must not fill the journal.
const SKIPPED_TOLD_EVERY: Duration = Duration::from_secs(1);

/// A queue of outputs that stops handing over while too much awaits its answer.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    waiting: VecDeque<Waiting>,
    unstored: BTreeMap<Token, Weight>,
    measurements_waiting: usize,
    signal_waiting: Duration,
    measurements_unstored: usize,
    signal_unstored: Duration,
    lost: Option<Lost>,
    skipped: u64,
    skipped_told: Option<Moment>,
    tokens: u32,
    judging: Option<Judging>,
    set_time: Option<SetTime>,
}

#[derive(Debug)]
struct Waiting {
    output: Result<(Token, Output), DriverError>,
    weight: Weight,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    measurements: usize,
    signal: Duration,
}

/// Samples for which there was no room, not yet declared.
#[derive(Clone, Copy, Debug)]
struct Lost {
    recording: u32,
    first: u64,
    count: u64,
}

/// There is no room: so much awaits its answer that nothing more is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Outputs {
    /// Of a driver of ECGs. Each stream is recorded for `set_time`, or on and on where that is `None`.
    pub(crate) fn of_ecg(set_time: Option<Duration>) -> Self {
        Self { judging: Some(Judging::default()), set_time: set_time.map(SetTime::new), ..Self::default() }
    }

    /// A number that this session has not used.
    pub(crate) fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// Whether one measurement more may wait.
    pub(crate) fn room_for_measurement(&self) -> bool {
        self.measurements_waiting < MEASUREMENTS_WAITING_MAX
    }

    /// Takes in a measurement and gives the token it will be answered by.
    pub(crate) fn measured(&mut self, measured: Measured) -> Result<Token, Full> {
        if !self.room_for_measurement() {
            return Err(Full);
        }
        let weight = Weight { measurements: 1, ..Weight::default() };
        self.measurements_waiting += 1;
        Ok(self.push(Output::Measured(measured), weight))
    }

    /// What the device's memory holds, before it is asked for.
    pub(crate) fn memory(&mut self, highest: Option<u64>) {
        self.push(Output::Memory { highest }, Weight::default());
    }

    pub(crate) fn begin(&mut self, recording: u32, mut head: RecordingHead) {
        if let Some(set_time) = &mut self.set_time {
            set_time.begin(recording, &mut head);
        }
        if let Some(judging) = &mut self.judging {
            judging.begin(recording, &head);
        }
        self.push(Output::Begin { recording, head }, Weight::default());
    }

    /// Takes in a block that lasts `span`, or, where there is no room, declares its samples lost before the next one. Gives
    /// the token it will be answered by, where it was taken.
    pub(crate) fn samples(&mut self, recording: u32, mut block: Block, channels: usize, span: Duration) -> Option<Token> {
        match self.set_time.as_mut().map_or(Part::Whole, |set_time| set_time.take(recording, &mut block, channels)) {
            Part::Whole => self.take_samples(recording, block, channels, span),
            Part::Last(span) => {
                let token = self.take_samples(recording, block, channels, span);
                self.finish(recording);
                token
            }
            Part::None => None,
        }
    }

    fn take_samples(&mut self, recording: u32, block: Block, channels: usize, span: Duration) -> Option<Token> {
        if self.signal_waiting + span > SIGNAL_WAITING_MAX {
            let first = block.device_counter.unwrap_or(block.first);
            let count = u64::try_from(block.samples.len() / channels.max(1)).unwrap_or(u64::MAX);
            match &mut self.lost {
                Some(lost) => lost.count = first.saturating_add(count).saturating_sub(lost.first),
                None => self.lost = Some(Lost { recording, first, count }),
            }
            return None;
        }
        self.declare_lost();
        let quality = self.judging.as_mut().and_then(|judging| judging.samples(recording, &block));
        let token = (!block.samples.is_empty()).then(|| {
            self.signal_waiting += span;
            self.push(Output::Samples { recording, block }, Weight { signal: span, ..Weight::default() })
        });
        self.quality(quality);
        token
    }

    /// Where there is no room for it, the next one comes soon.
    fn quality(&mut self, quality: Option<Measured>) {
        if let Some(measured) = quality {
            let _no_room = self.measured(measured);
        }
    }

    /// Whether so much signal more may wait.
    pub(crate) fn room_for_signal(&self, span: Duration) -> bool {
        self.signal_waiting + span <= SIGNAL_WAITING_MAX
    }

    pub(crate) fn end(&mut self, recording: u32) {
        if self.set_time.as_ref().is_none_or(|set_time| !set_time.is_over(recording)) {
            self.finish(recording);
        }
    }

    fn finish(&mut self, recording: u32) {
        self.declare_lost();
        let quality = self.judging.as_mut().and_then(|judging| judging.end(recording));
        self.quality(quality);
        self.push(Output::End { recording }, Weight::default());
    }

    pub(crate) fn device_clock(&mut self, device: DateTime, at: Moment) {
        self.push(Output::DeviceClock { device, at }, Weight::default());
    }

    pub(crate) fn remember(&mut self, octets: Vec<u8>) {
        self.push(Output::Remember(octets), Weight::default());
    }

    pub(crate) fn error(&mut self, error: DriverError) {
        // After the end of a recording of a set time nothing is recorded, and so nothing lost.
        let over = |recording| self.set_time.as_ref().is_some_and(|set_time| set_time.is_over(recording));
        if matches!(error, DriverError::SamplesLost { recording, .. } if over(recording)) {
            return;
        }
        self.waiting.push_back(Waiting { output: Err(error), weight: Weight::default() });
    }

    /// Octets were skipped.
    pub(crate) fn skipped(&mut self, now: Moment, octets: u64) {
        self.skipped += octets;
        self.tell_skipped(now, false);
    }

    /// Tells what was skipped, if it is time again, or at the end.
    pub(crate) fn tell_skipped(&mut self, now: Moment, ends: bool) {
        let due = ends || self.skipped_told.is_none_or(|told| now.since(told) >= SKIPPED_TOLD_EVERY);
        if self.skipped > 0 && due {
            self.skipped_told = Some(now);
            let skipped = std::mem::take(&mut self.skipped);
            self.error(DriverError::Resynchronised { skipped });
        }
    }

    /// Whether nothing waits to be handed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next output, unless too much awaits its answer.
    pub(crate) fn poll(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        let weight = self.waiting.front()?.weight;
        let too_many = weight.measurements > 0 && self.measurements_unstored >= MEASUREMENTS_UNSTORED_MAX;
        let too_long = weight.signal > Duration::ZERO && self.signal_unstored + weight.signal > SIGNAL_UNSTORED_MAX;
        if too_many || too_long {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        self.measurements_waiting -= weight.measurements;
        self.signal_waiting -= weight.signal;
        if let Ok((token, _)) = &waiting.output
            && weight != Weight::default()
        {
            self.unstored.insert(*token, weight);
            self.measurements_unstored += weight.measurements;
            self.signal_unstored += weight.signal;
        }
        Some(waiting.output)
    }

    /// An output was answered, whichever way; an answer to none of ours is let pass.
    pub(crate) fn answered(&mut self, token: Token) {
        if let Some(weight) = self.unstored.remove(&token) {
            self.measurements_unstored -= weight.measurements;
            self.signal_unstored -= weight.signal;
        }
    }

    fn declare_lost(&mut self) {
        if let Some(Lost { recording, first, count }) = self.lost.take() {
            self.error(DriverError::SamplesLost { recording, first, count });
        }
    }

    fn push(&mut self, output: Output, weight: Weight) -> Token {
        let token = self.token();
        self.waiting.push_back(Waiting { output: Ok((token, output)), weight });
        token
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::reading::Kind;

    use super::*;

    fn measured() -> Measured {
        Measured::new(Kind::Other, Moment::ZERO)
    }

    fn block(first: u64) -> Block {
        Block {
            first,
            device_counter: Some(1_000 + first),
            received: Moment::ZERO,
            samples: vec![0; 10],
            lead_off: 0,
            saturated: 0,
            artifact: false,
        }
    }

    #[test]
    fn no_more_than_64_measurements_await_their_answer() {
        let mut outputs = Outputs::default();
        for _ in 0..100 {
            outputs.measured(measured()).unwrap();
        }
        let handed_over: Vec<_> = std::iter::from_fn(|| outputs.poll()).map(|output| output.unwrap().0).collect();
        assert_eq!(handed_over.len(), MEASUREMENTS_UNSTORED_MAX);
        outputs.answered(handed_over[3]);
        outputs.answered(handed_over[3]);
        outputs.answered(Token(9_999));
        assert!(outputs.poll().is_some());
        assert!(outputs.poll().is_none());
    }

    #[test]
    fn a_measurement_for_which_there_is_no_room_is_not_taken_in() {
        let mut outputs = Outputs::default();
        for _ in 0..MEASUREMENTS_WAITING_MAX {
            outputs.measured(measured()).unwrap();
        }
        assert_eq!(outputs.measured(measured()), Err(Full));
    }

    #[test]
    fn skipped_octets_are_told_at_once_and_then_once_a_second() {
        let mut outputs = Outputs::default();
        for tenth in 0..25_u64 {
            outputs.skipped(Moment::from_nanos(tenth * 100_000_000), 7);
        }
        outputs.tell_skipped(Moment::ZERO, true);
        let told: Vec<_> = std::iter::from_fn(|| outputs.poll()).collect();
        let skipped = |skipped| Err(DriverError::Resynchronised { skipped });
        assert_eq!(told, [skipped(7), skipped(70), skipped(70), skipped(28)]);
    }

    #[test]
    fn signal_for_which_there_is_no_room_is_declared_lost_before_the_next_block() {
        let mut outputs = Outputs::default();
        for second in 0..25 {
            outputs.samples(1, block(second * 10), 1, Duration::from_secs(1));
        }
        let drain = |outputs: &mut Outputs| std::iter::from_fn(|| outputs.poll()).collect::<Vec<_>>();
        let tokens: Vec<_> = drain(&mut outputs).into_iter().map(|output| output.unwrap().0).collect();
        assert_eq!(tokens.len(), 10, "10 s await their answer, the rest of the room was taken by none");
        assert!(outputs.poll().is_none());
        tokens.into_iter().for_each(|token| outputs.answered(token));
        outputs.samples(1, block(250), 1, Duration::from_secs(1));
        let after = drain(&mut outputs);
        assert_eq!(after[0], Err(DriverError::SamplesLost { recording: 1, first: 1_100, count: 150 }));
        assert!(matches!(&after[1], Ok((_, Output::Samples { block, .. })) if block.first == 250));
    }
}
