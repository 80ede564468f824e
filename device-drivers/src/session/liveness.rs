//! Whether a spot measurement was made just now, or comes out of the device's memory.
//!
//! A device proves that a measurement is new by what it sends while it measures. Without that, one with a time stamp is
//! taken as stored, and its time decides later whose it is. One without a usable time stamp is live where it comes alone: a
//! device that remembers sends what it has one right after the other, and no cuff or scale measures that fast. To know that
//! it comes alone it is held back for a moment.

use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Measured, Memory};

/// A measurement without a time stamp is held back this long.
const ALONE: Duration = Duration::from_secs(1);
/// Two measurements without a time stamp that come closer than this come out of a memory: a cuff needs longer for one.
const APART: Duration = Duration::from_secs(5);
/// What was sent while measuring proves for this long that the next measurement is new.
const PROOF: Duration = Duration::from_secs(300);
/// A time stamp may be that of the measurement's beginning: it lies this much before what was sent during it, at most.
const STAMPED_BEFORE_SECONDS: i64 = 300;

/// What is known of a device that tells measurements apart.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// It measures: since when, and its own time then.
    measuring: Option<(Moment, Option<DateTime>)>,
    held: Option<(Measured, Moment)>,
    last_unstamped: Option<Moment>,
}

impl Liveness {
    /// The device sent something that it only sends while it measures.
    pub(crate) fn measuring(&mut self, now: Moment, device_time: Option<DateTime>) {
        self.measuring = Some((now, device_time));
    }

    /// Takes in a measurement and gives what can be handed over, in order.
    pub(crate) fn take(&mut self, now: Moment, mut measured: Measured) -> [Option<Measured>; 2] {
        if self.proves(now, measured.device_time) {
            self.measuring = None;
            measured.memory = Memory::Live;
            return [None, Some(measured)];
        }
        let stamped = measured.device_time.is_some_and(|time| time.seconds().is_some());
        measured.memory = Memory::Stored;
        if stamped {
            return [None, Some(measured)];
        }
        let burst = self.last_unstamped.is_some_and(|last| now.since(last) < APART);
        self.last_unstamped = Some(now);
        if burst {
            return [self.held.take().map(|(held, _)| held), Some(measured)];
        }
        self.held = Some((measured, now + ALONE));
        [None, None]
    }

    /// Takes in a measurement that is repeated until the next one: that it comes alone proves nothing, only that it was seen to
    /// come about does.
    pub(crate) fn take_repeated(&mut self, now: Moment, measured: Measured) -> Measured {
        let proven = self.proves(now, measured.device_time);
        if proven {
            self.measuring = None;
        }
        Measured { memory: if proven { Memory::Live } else { Memory::Stored }, ..measured }
    }

    /// What came alone, once that is certain; at the end of the conversation it is.
    pub(crate) fn alone(&mut self, now: Moment, ends: bool) -> Option<Measured> {
        let (held, _) = self.held.take_if(|(_, until)| ends || *until <= now)?;
        Some(Measured { memory: Memory::Live, ..held })
    }

    /// When something may have come alone.
    pub(crate) fn until(&self) -> Option<Moment> {
        self.held.as_ref().map(|(_, until)| *until)
    }

    fn proves(&self, now: Moment, stamp: Option<DateTime>) -> bool {
        let Some((at, during)) = self.measuring else { return false };
        let seconds = |time: Option<DateTime>| time.and_then(|time| time.seconds());
        let in_order = match (seconds(stamp), seconds(during)) {
            (Some(stamp), Some(during)) => stamp >= during - STAMPED_BEFORE_SECONDS,
            _ => true,
        };
        now.since(at) <= PROOF && in_order
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::reading::Kind;

    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(milliseconds)
    }

    fn measured(second: u64, minute: Option<u8>) -> Measured {
        let time = |minute| DateTime { year: 2026, month: 11, day: 21, hour: 10, minute, second: 0 };
        Measured { device_time: minute.map(time), ..Measured::new(Kind::BloodPressure, at(second)) }
    }

    fn memories(given: [Option<Measured>; 2]) -> Vec<Memory> {
        given.into_iter().flatten().map(|measured| measured.memory).collect()
    }

    #[test]
    fn what_follows_on_the_measuring_is_live_and_only_that() {
        let mut liveness = Liveness::default();
        liveness.measuring(at(0), None);
        assert_eq!(memories(liveness.take(at(1_000), measured(0, Some(1)))), [Memory::Live]);
        assert_eq!(memories(liveness.take(at(1_100), measured(0, Some(0)))), [Memory::Stored]);
        liveness.measuring(at(2_000), None);
        assert_eq!(memories(liveness.take(at(400_000), measured(0, Some(1)))), [Memory::Stored], "too long ago");
    }

    #[test]
    fn i4_a_record_of_before_the_measuring_is_stored_and_the_one_of_it_live() {
        let mut liveness = Liveness::default();
        liveness.measuring(at(0), measured(0, Some(30)).device_time);
        assert_eq!(memories(liveness.take(at(1_000), measured(0, Some(24)))), [Memory::Stored]);
        assert_eq!(memories(liveness.take(at(1_100), measured(0, Some(29)))), [Memory::Live]);
    }

    #[test]
    fn a_measurement_without_time_is_live_where_it_comes_alone() {
        let mut liveness = Liveness::default();
        assert!(memories(liveness.take(at(0), measured(0, None))).is_empty());
        assert_eq!((liveness.until(), liveness.alone(at(999), false)), (Some(at(1_000)), None));
        assert_eq!(liveness.alone(at(1_000), false).unwrap().memory, Memory::Live);
        assert!(memories(liveness.take(at(60_000), measured(60, None))).is_empty());
        assert_eq!(liveness.alone(at(60_001), true).unwrap().memory, Memory::Live);
        assert_eq!((liveness.until(), liveness.alone(at(90_000), true)), (None, None));
    }

    #[test]
    fn i4_what_is_repeated_is_live_only_where_it_was_seen_to_come_about() {
        let mut liveness = Liveness::default();
        assert_eq!(liveness.take_repeated(at(0), measured(0, None)).memory, Memory::Stored);
        liveness.measuring(at(1_000), None);
        assert_eq!(liveness.take_repeated(at(2_000), measured(2, None)).memory, Memory::Live);
        assert_eq!(liveness.take_repeated(at(3_000), measured(3, None)).memory, Memory::Stored);
        assert_eq!(liveness.until(), None, "nothing is held back");
    }

    #[test]
    fn i4_measurements_without_time_that_come_one_after_the_other_are_out_of_the_memory() {
        let mut liveness = Liveness::default();
        assert!(memories(liveness.take(at(0), measured(0, None))).is_empty());
        assert_eq!(memories(liveness.take(at(200), measured(1, None))), [Memory::Stored, Memory::Stored]);
        assert_eq!(memories(liveness.take(at(4_000), measured(2, None))), [Memory::Stored]);
        assert_eq!(liveness.alone(at(9_000), true), None);
    }
}
