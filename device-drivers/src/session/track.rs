//! One recording under way: it begins with its first sample, knows its holes, and ends.

use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::reading::{Block, RecordingHead};

use crate::driver::DriverError;
use crate::session::outputs::Outputs;
use crate::session::wave::{self, Flags, Wave};

/// Signal in one block.
const BLOCK: Duration = Duration::from_secs(1);

/// The session's own numbers of its recordings.
#[derive(Debug, Default)]
pub(crate) struct Numbers(u32);

impl Numbers {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

/// A recording, or the place of one that has not begun.
#[derive(Debug)]
pub(crate) struct Track {
    head: RecordingHead,
    under_way: Option<UnderWay>,
    /// The number of the recording before.
    last: Option<u32>,
}

#[derive(Debug)]
struct UnderWay {
    number: u32,
    /// The next sample's place in the recording.
    next: u64,
    wave: Wave,
}

impl Track {
    pub(crate) fn new(head: RecordingHead) -> Self {
        Self { head, under_way: None, last: None }
    }

    /// Takes in one sample of every channel.
    pub(crate) fn push(
        &mut self,
        outputs: &mut Outputs,
        numbers: &mut Numbers,
        received: Moment,
        frame: impl Iterator<Item = i32>,
        flags: Flags,
    ) {
        if self.under_way.is_none() {
            let number = numbers.next();
            outputs.begin(number, self.head.clone());
            self.last = Some(number);
        }
        let (rate, channels) = (self.head.rate, self.head.channels.len());
        let under_way = self.under_way.get_or_insert_with(|| UnderWay {
            number: self.last.unwrap_or_default(),
            next: 0,
            wave: Wave::new(channels, rate, BLOCK),
        });
        let block = under_way.wave.push(frame, under_way.next, None, received, flags);
        under_way.next += 1;
        let number = under_way.number;
        block.into_iter().for_each(|block| self.hand_over(outputs, number, block));
    }

    /// So many samples never arrived.
    pub(crate) fn lost(&mut self, outputs: &mut Outputs, count: u64) {
        self.hand_over_gathered(outputs);
        if let Some(under_way) = &mut self.under_way {
            outputs.error(DriverError::SamplesLost { recording: under_way.number, first: under_way.next, count });
            under_way.next += count;
        }
    }

    /// Samples never arrived, and nobody can tell how many: what comes is another recording.
    pub(crate) fn broken(&mut self, outputs: &mut Outputs) {
        self.lost(outputs, 0);
        self.end(outputs);
    }

    pub(crate) fn end(&mut self, outputs: &mut Outputs) {
        self.hand_over_gathered(outputs);
        if let Some(under_way) = self.under_way.take() {
            outputs.end(under_way.number);
        }
    }

    /// The number of the recording under way, or of the last one.
    pub(crate) fn number(&self) -> Option<u32> {
        self.last
    }

    /// Whether a recording is under way.
    pub(crate) fn under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether samples wait for their block.
    pub(crate) fn gathers(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| under_way.wave.gathers())
    }

    /// Hands over the samples that wait for their block.
    pub(crate) fn hand_over_gathered(&mut self, outputs: &mut Outputs) {
        let gathered = self.under_way.as_mut().and_then(|under_way| Some((under_way.number, under_way.wave.cut()?)));
        if let Some((number, block)) = gathered {
            self.hand_over(outputs, number, block);
        }
    }

    fn hand_over(&self, outputs: &mut Outputs, recording: u32, block: Block) {
        let channels = self.head.channels.len();
        let frames = u64::try_from(block.samples.len() / channels.max(1)).unwrap_or(u64::MAX);
        outputs.samples(recording, block, channels, wave::span(frames, self.head.rate));
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::decimal::Decimal;
    use kit_protocol::nomenclature::Mdc;
    use kit_protocol::reading::{Channel, Kind, Rate};

    use super::*;
    use crate::driver::Output;

    #[test]
    fn a_recording_begins_knows_its_holes_and_ends_and_the_next_has_another_number() {
        let channel = Channel { code: Mdc::PLETH, scale: Decimal::whole(1), unit: "1", filter: String::new() };
        let head = RecordingHead::live(Kind::Pleth, vec![channel], Rate { samples: 2, seconds: 1 });
        let (mut track, mut outputs, mut numbers) = (Track::new(head), Outputs::default(), Numbers::default());
        let mut push = |track: &mut Track, outputs: &mut Outputs, count| {
            for _ in 0..count {
                track.push(outputs, &mut numbers, Moment::ZERO, [7].into_iter(), Flags::default());
            }
        };
        track.end(&mut outputs);
        track.lost(&mut outputs, 3);
        push(&mut track, &mut outputs, 3);
        track.lost(&mut outputs, 4);
        push(&mut track, &mut outputs, 1);
        track.broken(&mut outputs);
        push(&mut track, &mut outputs, 1);
        track.end(&mut outputs);
        let story: Vec<String> = std::iter::from_fn(|| outputs.poll())
            .map(|output| match output {
                Ok((_, Output::Begin { recording, .. })) => format!("begin {recording}"),
                Ok((_, Output::Samples { recording, block })) => format!("{recording}: {}+{}", block.first, block.samples.len()),
                Ok((_, Output::End { recording })) => format!("end {recording}"),
                Err(DriverError::SamplesLost { recording, first, count }) => format!("{recording}: lost {first}+{count}"),
                other => format!("{other:?}"),
            })
            .collect();
        let expected = "begin 1, 1: 0+2, 1: 2+1, 1: lost 3+4, 1: 7+1, 1: lost 8+0, end 1, begin 2, 2: 0+1, end 2";
        assert_eq!(story.join(", "), expected);
        assert_eq!(track.number(), Some(2));
        assert!(!track.under_way());
    }
}
