//! A stream recorded for a set time: 10 s or 30 s at rest.

use std::time::Duration;

use kit_protocol::reading::{Block, Memory, Rate, RecordingHead};

use crate::session::wave;

/// One recording at a time ends so long after its first sample; the next one that the device begins is another.
#[derive(Debug)]
pub(super) struct SetTime {
    span: Duration,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    recording: u32,
    rate: Rate,
    /// Index of its first sample, once that came.
    first: Option<u64>,
    /// Samples a channel.
    frames: u64,
    over: bool,
}

/// What of a block is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What is left in it, which lasts so long; it is the recording's last.
    Last(Duration),
    /// Nothing: the recording is over.
    None,
}

impl SetTime {
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, current: None }
    }

    /// A recording begins. One out of a memory or a file is as long as it is.
    pub(super) fn begin(&mut self, recording: u32, head: &mut RecordingHead) {
        if head.memory == Memory::Live && head.continuous {
            head.continuous = false;
            let frames = u128::from(head.rate.samples) * self.span.as_millis() / (1_000 * u128::from(head.rate.seconds.max(1)));
            let frames = u64::try_from(frames).unwrap_or(u64::MAX).max(1);
            self.current = Some(Current { recording, rate: head.rate, first: None, frames, over: false });
        }
    }

    /// Cuts from the block what comes after the end. A hole is part of the time: nobody measures longer for it.
    pub(super) fn take(&mut self, recording: u32, block: &mut Block, channels: usize) -> Part {
        let Some(current) = self.current.as_mut().filter(|current| current.recording == recording) else { return Part::Whole };
        if current.over {
            return Part::None;
        }
        let first = *current.first.get_or_insert(block.first);
        let left = current.frames.saturating_sub(block.first.saturating_sub(first));
        let frames = u64::try_from(block.samples.len() / channels.max(1)).unwrap_or(u64::MAX);
        if frames < left {
            return Part::Whole;
        }
        current.over = true;
        block.samples.truncate(usize::try_from(left).unwrap_or(usize::MAX).saturating_mul(channels));
        Part::Last(wave::span(left, current.rate))
    }

    pub(super) fn is_over(&self, recording: u32) -> bool {
        self.current.as_ref().is_some_and(|current| current.recording == recording && current.over)
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::moment::Moment;
    use kit_protocol::reading::Kind;

    use super::*;

    fn head() -> RecordingHead {
        let rate = Rate { samples: 100, seconds: 1 };
        RecordingHead::live(Kind::Ecg, Vec::new(), rate)
    }

    fn block(first: u64) -> Block {
        let samples = vec![0; 2 * 60];
        Block { first, device_counter: None, received: Moment::ZERO, samples, lead_off: 0, saturated: 0, artifact: false }
    }

    #[test]
    fn a_stream_ends_after_its_time_and_the_next_one_begins_anew() {
        let mut set_time = SetTime::new(Duration::from_secs(1));
        for recording in [1, 2] {
            let mut head = head();
            set_time.begin(recording, &mut head);
            assert!(!head.continuous);
            let mut take = |first| {
                let mut block = block(first);
                (set_time.take(recording, &mut block, 2), block.samples.len() / 2)
            };
            assert_eq!(take(7), (Part::Whole, 60));
            assert_eq!(take(67), (Part::Last(Duration::from_millis(400)), 40));
            assert_eq!(take(127).0, Part::None);
            assert!(set_time.is_over(recording));
        }
        assert!(!set_time.is_over(1), "that is long ago");
    }

    #[test]
    fn a_hole_is_part_of_the_time_and_what_a_memory_holds_is_as_long_as_it_is() {
        let mut set_time = SetTime::new(Duration::from_secs(1));
        set_time.begin(1, &mut head());
        assert_eq!(set_time.take(1, &mut block(0), 2), Part::Whole);
        let mut late = block(500);
        assert_eq!((set_time.take(1, &mut late, 2), late.samples.len()), (Part::Last(Duration::ZERO), 0));
        let mut stored = RecordingHead { memory: Memory::Stored, ..head() };
        set_time.begin(2, &mut stored);
        assert!(stored.continuous && set_time.take(2, &mut block(9_999), 2) == Part::Whole);
    }
}
