//! Elapsed Time: the time of the Elapsed Time Service (0x183F), alone (0x2BF2) and inside health observations.

use alloc::vec::Vec;

use super::date_time::DateTime;
use crate::reader::{DecodeError, Reader};

/// A device's time as it counts it.
///
/// Shape: flags (1) · count (6) · time synchronisation source (1) · time zone and DST offset, two's complement (1);
/// little-endian, 9 octets. Flags: bit 0 a tick counter, no time of day; bit 1 UTC, else local time; bits 2–3 what one
/// count is; bit 4 zone and DST are meant; bit 5 on the current timeline; 6 and 7 reserved, kept.
/// Units: 1 s, 100 ms, 1 ms or 100 µs since the start of 2000, or of the ticking; quarters of an hour for the zone.
/// Errors: [`DecodeError::Truncated`]. Source: Bluetooth SIG, GATT Specification Supplement, Elapsed Time; layout confirmed
/// by philips-labs BLE-GHS-Server-Simulator@271f2aa and ST's STM32CubeWBA health sensor (qualified with PTS 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ElapsedTime {
    /// As named above.
    pub flags: u8,
    /// At most [`ElapsedTime::COUNT_MAX`].
    pub count: u64,
    /// Where the device has its time from.
    pub source: TimeSource,
    /// Quarters of an hour to add to UTC for local time, where bit 4 is set.
    pub offset_quarters: i8,
}

/// Where a device has its time from. One newer than we are is kept. Source: as [`ElapsedTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeSource(pub u8);

impl TimeSource {
    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        let terms = [
            "unknown",
            "network-time-protocol",
            "gps",
            "radio-time-signal",
            "manual",
            "atomic-clock",
            "cellular-network",
            "not-synchronized",
        ];
        terms.get(usize::from(self.0)).copied()
    }
}

/// What one count is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// 1 s.
    Second,
    /// 100 ms.
    HundredMilliseconds,
    /// 1 ms.
    Millisecond,
    /// 100 µs.
    HundredMicroseconds,
}

impl Resolution {
    /// So many counts are a second.
    #[must_use]
    pub const fn counts_a_second(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::HundredMilliseconds => 10,
            Self::Millisecond => 1_000,
            Self::HundredMicroseconds => 10_000,
        }
    }

    /// In kebab-case.
    #[must_use]
    pub const fn term(self) -> &'static str {
        match self {
            Self::Second => "1-s",
            Self::HundredMilliseconds => "100-ms",
            Self::Millisecond => "1-ms",
            Self::HundredMicroseconds => "100-us",
        }
    }
}

impl ElapsedTime {
    /// Octets of it inside an observation.
    pub const OCTETS: usize = 9;
    /// The largest count of six octets.
    pub const COUNT_MAX: u64 = (1 << 48) - 1;
    /// Flags of UTC on the current timeline, counted in seconds.
    pub const UTC_SECONDS: u8 = UTC | CURRENT_TIMELINE;

    /// The count of a civil time in seconds; `None` before 2000.
    #[must_use]
    pub fn seconds_of(civil: &DateTime) -> Option<u64> {
        u64::try_from(civil.seconds()? - SECONDS_1970_TO_2000).ok()
    }

    /// Reads it where it stands in an observation.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: r.u8("time flags")?,
            count: r.u48("time value")?,
            source: TimeSource(r.u8("time synchronization source")?),
            offset_quarters: r.i8("time zone and DST offset")?,
        })
    }

    /// The octets of it; `None` where the count is above [`ElapsedTime::COUNT_MAX`].
    #[must_use]
    pub fn encode(&self) -> Option<[u8; Self::OCTETS]> {
        let [a, b, c, d, e, f, 0, 0] = self.count.to_le_bytes() else { return None };
        let [offset] = self.offset_quarters.to_le_bytes();
        Some([self.flags, a, b, c, d, e, f, self.source.0, offset])
    }

    /// Whether it counts ticks, which are no time of day.
    #[must_use]
    pub const fn is_tick_counter(&self) -> bool {
        self.flags & TICK_COUNTER != 0
    }

    /// Whether it counts UTC; otherwise local time.
    #[must_use]
    pub const fn is_utc(&self) -> bool {
        self.flags & UTC != 0
    }

    /// Whether zone and DST are meant.
    #[must_use]
    pub const fn has_offset(&self) -> bool {
        self.flags & OFFSET_PRESENT != 0
    }

    /// Whether it stands on the timeline of the device's clock as it is now: not so after the clock was moved.
    #[must_use]
    pub const fn on_current_timeline(&self) -> bool {
        self.flags & CURRENT_TIMELINE != 0
    }

    /// What one count is worth.
    #[must_use]
    pub const fn resolution(&self) -> Resolution {
        match self.flags >> 2 & 3 {
            0 => Resolution::Second,
            1 => Resolution::HundredMilliseconds,
            2 => Resolution::Millisecond,
            _ => Resolution::HundredMicroseconds,
        }
    }

    /// The civil time of the count itself, to the second, in UTC or local time as counted; `None` for a tick counter.
    ///
    /// The zone is left out of it: a clock read now and a measurement of last winter then compare as the device counts.
    #[must_use]
    pub fn civil(&self) -> Option<DateTime> {
        if self.is_tick_counter() {
            return None;
        }
        let seconds = self.count / self.resolution().counts_a_second();
        DateTime::from_seconds(SECONDS_1970_TO_2000 + i64::try_from(seconds).ok()?)
    }
}

/// The Current Elapsed Time characteristic (0x2BF2). Shape, units, errors and source: see [`CurrentElapsedTime::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CurrentElapsedTime {
    /// The time.
    pub time: ElapsedTime,
    /// Bit 0: the clock needs to be set.
    pub clock_status: u8,
    /// Bit 0: changes of zone and DST are applied; bit 1: the zone may be set.
    pub clock_capabilities: u8,
}

impl CurrentElapsedTime {
    /// Decodes a Current Elapsed Time value (0x2BF2).
    ///
    /// Shape: elapsed time (9) · clock status (1) · clock capabilities (1), 11 octets.
    /// Units: as [`ElapsedTime`].
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Elapsed Time Service 1.0, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let current = Self {
            time: ElapsedTime::read(&mut r)?,
            clock_status: r.u8("clock status")?,
            clock_capabilities: r.u8("clock capabilities")?,
        };
        r.finish()?;
        Ok(current)
    }

    /// The octets of it; `None` where the count is above [`ElapsedTime::COUNT_MAX`].
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut octets = self.time.encode()?.to_vec();
        octets.extend([self.clock_status, self.clock_capabilities]);
        Some(octets)
    }

    /// Whether the clock was never set, or lost its time.
    #[must_use]
    pub const fn needs_to_be_set(&self) -> bool {
        self.clock_status & 1 != 0
    }
}

/// The start of 2000 in seconds since the start of 1970.
const SECONDS_1970_TO_2000: i64 = 946_684_800;

const TICK_COUNTER: u8 = 1 << 0;
const UTC: u8 = 1 << 1;
const OFFSET_PRESENT: u8 = 1 << 4;
const CURRENT_TIMELINE: u8 = 1 << 5;
