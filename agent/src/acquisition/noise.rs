//! What a noisy line does to a recording: holes that come one soon after the other are told together.

use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::reading::Kind;
use kit_protocol::uplink::record;
use kit_protocol::uplink::wire::{self, MissedReason};

use super::filing::Filing;

/// Holes of a recording within this of the first are told in one record.
const NOISE_SPAN_MAX: Duration = Duration::from_secs(4);
/// Segments between such holes wait for it: so many at most.
const NOISE_SEGMENTS_MAX: usize = 64;

/// Holes of a recording that come one soon after the other, and the segments cut between them. They become durable together,
/// the holes first: a segment's mark says that nothing before it is owed.
pub(super) struct Noise {
    pub(super) since: Moment,
    pub(super) missed: wire::Missed,
    pub(super) to: Moment,
    pub(super) segments: Vec<Filing>,
}

/// A declaration of what is missing.
pub(super) fn missed(
    kind: Kind,
    recording: Vec<u8>,
    (from_boottime_ns, to): (u64, Moment),
    counted: Option<(u64, u64)>,
    reason: MissedReason,
) -> wire::Missed {
    wire::Missed {
        device: 0,
        recording,
        from_clock: 0,
        from_boottime_ns,
        to_boottime_ns: to.as_nanos(),
        first: counted.map(|(first, _)| first),
        last: counted.map(|(_, last)| last),
        reason: reason.into(),
        kind: record::kind_to_wire(kind).into(),
        count: None,
    }
}

impl Noise {
    pub(super) fn is_over(&self, now: Moment) -> bool {
        now.since(self.since) >= NOISE_SPAN_MAX || self.segments.len() >= NOISE_SEGMENTS_MAX
    }

    /// One more hole: the span grows to its end, and what is between them is not counted.
    pub(super) fn add(&mut self, hole: wire::Missed, to: Moment) {
        let samples = |missed: &wire::Missed| {
            let span = missed.first.zip(missed.last).map(|(first, last)| last.saturating_sub(first).saturating_add(1));
            missed.count.or(span)
        };
        let count = samples(&self.missed).zip(samples(&hole)).map(|(before, more)| before.saturating_add(more));
        // Where one of them is not counted, time alone says which samples there were.
        let counted = count.and(self.missed.first).zip(hole.last);
        self.missed = wire::Missed {
            first: counted.map(|(first, _)| first),
            last: counted.map(|(_, last)| last),
            count,
            to_boottime_ns: hole.to_boottime_ns,
            ..std::mem::take(&mut self.missed)
        };
        self.to = to;
    }
}
