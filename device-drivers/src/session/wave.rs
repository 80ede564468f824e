//! Gathers samples into blocks: runs without a hole, under one set of flags.

use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::reading::{Block, Rate};

use crate::driver::STORED_SAMPLES_A_SECOND;

/// What is said of every sample of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) lead_off: u32,
    pub(crate) saturated: u32,
    pub(crate) artifact: bool,
}

/// The block that is being gathered.
#[derive(Debug)]
pub(crate) struct Wave {
    channels: usize,
    frames_max: usize,
    block: Option<Block>,
}

impl Wave {
    /// Blocks of at most `span`, and of one frame at least.
    pub(crate) fn new(channels: usize, rate: Rate, span: Duration) -> Self {
        let frames = u128::from(rate.samples) * span.as_millis() / (1_000 * u128::from(rate.seconds.max(1)));
        Self { channels, frames_max: usize::try_from(frames).unwrap_or(usize::MAX).max(1), block: None }
    }

    /// Takes in the frame at `index`. Gives the block before it, where that ends: full, other flags, or a hole.
    pub(crate) fn push(
        &mut self,
        frame: impl Iterator<Item = i32>,
        index: u64,
        device_counter: Option<u64>,
        received: Moment,
        flags: Flags,
    ) -> Option<Block> {
        let ended = match &self.block {
            Some(block) if self.continues(block, index, flags) => None,
            _ => self.cut(),
        };
        let (capacity, Flags { lead_off, saturated, artifact }) = (self.frames_max.saturating_mul(self.channels), flags);
        let block = self.block.get_or_insert_with(|| Block {
            first: index,
            device_counter,
            received,
            samples: Vec::with_capacity(capacity),
            lead_off,
            saturated,
            artifact,
        });
        block.samples.extend(frame);
        ended
    }

    /// Gives what is gathered.
    pub(crate) fn cut(&mut self) -> Option<Block> {
        self.block.take()
    }

    /// Whether anything is gathered.
    pub(crate) fn gathers(&self) -> bool {
        self.block.is_some()
    }

    fn continues(&self, block: &Block, index: u64, flags: Flags) -> bool {
        let frames = block.samples.len() / self.channels.max(1);
        let next = block.first.saturating_add(u64::try_from(frames).unwrap_or(u64::MAX));
        let same = Flags { lead_off: block.lead_off, saturated: block.saturated, artifact: block.artifact } == flags;
        index == next && same && frames < self.frames_max
    }
}

/// How long so many frames last.
pub(crate) fn span(frames: u64, rate: Rate) -> Duration {
    let nanoseconds = u128::from(frames) * u128::from(rate.seconds) * 1_000_000_000 / u128::from(rate.samples.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// What so many frames out of a device's memory count for in the bounds of what may wait.
pub(crate) fn stored_span(frames: u64, rate: Rate) -> Duration {
    span(frames, rate).min(span(frames, Rate { samples: STORED_SAMPLES_A_SECOND, seconds: 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_when_it_is_full_at_a_hole_and_where_flags_change() {
        let mut wave = Wave::new(1, Rate { samples: 4, seconds: 1 }, Duration::from_secs(1));
        let off = Flags { lead_off: 1, ..Flags::default() };
        let frames = [
            (0, Flags::default()),
            (1, Flags::default()),
            (2, off),
            (3, off),
            (9, off),
            (10, off),
            (11, off),
            (12, off),
            (13, off),
        ];
        let mut blocks: Vec<_> = frames
            .into_iter()
            .filter_map(|(index, flags)| wave.push([7].into_iter(), index, Some(index + 100), Moment::ZERO, flags))
            .collect();
        blocks.extend(wave.cut());
        let shape: Vec<_> = blocks.iter().map(|b| (b.first, b.samples.len(), b.lead_off, b.device_counter)).collect();
        assert_eq!(shape, [(0, 2, 0, Some(100)), (2, 2, 1, Some(102)), (9, 4, 1, Some(109)), (13, 1, 1, Some(113))]);
    }

    #[test]
    fn spans_are_exact() {
        assert_eq!(span(75, Rate { samples: 75, seconds: 1 }), Duration::from_secs(1));
        assert_eq!(span(1, Rate { samples: 500, seconds: 1 }), Duration::from_millis(2));
        assert_eq!(stored_span(300, Rate { samples: 1, seconds: 1 }), Duration::from_secs(1), "a point a second");
        assert_eq!(stored_span(500, Rate { samples: 500, seconds: 1 }), Duration::from_secs(1));
    }
}
