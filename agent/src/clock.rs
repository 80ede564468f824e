//! The agent's only source of time: CLOCK_BOOTTIME as [`Moment`], and what is known of the wall clock.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use jiff::tz::TimeZone;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::BootId;
use kit_protocol::uplink::wire::{self, ClockQuality};
use rustix::time::{ClockId, clock_gettime};

use crate::sync::tls::{JudgingClock, JudgingTimes};

/// The wall clock is taken as moved when its offset to the boot clock changes by more than this.
const OFFSET_STEP: Duration = Duration::from_millis(50);
/// The two clocks are read again if so much time went by meanwhile …
const APART_MAX: Duration = Duration::from_millis(1);
/// … and so often at most.
const READINGS_MAX: u32 = 5;
/// What NTP keeps a synchronised clock within, as stated with each reading.
const SYNCED_ERROR_MS: u32 = 100;
/// What a clock that merely looks right may be wrong by, as stated with each reading.
const PLAUSIBLE_ERROR_MS: u32 = 3_600_000;
/// No kit ran before this: 2025-01-01T00:00:00Z, Unix seconds.
const EARLIEST_UNIX_S: i64 = 1_735_689_600;
/// systemd-timesyncd makes this file once it has synchronised the clock in this boot.
const SYNCHRONISED_MARK: &str = "/run/systemd/timesync/synchronized";

/// Reads the clocks; shared by all tasks.
#[derive(Debug)]
pub struct Clock {
    boot_id: BootId,
    /// The clock as last stated: readings share one definition until it moves.
    stated: Mutex<Option<wire::Clock>>,
}

impl Clock {
    /// The clocks of this boot.
    #[must_use]
    pub fn of_this_boot() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        // Where the file is not to be had, each start counts as a boot: times of two boots must never be taken for one's.
        let of_this_start = || BootId(fastrand::u128(..).to_be_bytes());
        Self { boot_id: digits.parse().unwrap_or_else(|_| of_this_start()), stated: Mutex::new(None) }
    }

    /// This boot.
    #[must_use]
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// The boot clock now.
    #[must_use]
    pub fn now(&self) -> Moment {
        now()
    }

    /// What is known of the wall clock, to be stored beside every reading.
    ///
    /// The same value is given until the clock moves by more than 50 ms or its quality changes, so that an epoch needs one
    /// definition of it, not one a reading.
    #[must_use]
    pub fn stated(&self) -> wire::Clock {
        let fresh = self.measure();
        let mut stated = match self.stated.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        let moved = |old: &wire::Clock| {
            old.quality != fresh.quality || u128::from(old.offset_us.abs_diff(fresh.offset_us)) > OFFSET_STEP.as_micros()
        };
        if stated.as_ref().is_none_or(moved) {
            *stated = Some(fresh.clone());
            return fresh;
        }
        stated.clone().unwrap_or(fresh)
    }

    /// The civil time here at a moment of this boot; `None` where nothing is known of the wall clock.
    #[must_use]
    pub fn civil(&self, at: Moment) -> Option<DateTime> {
        let clock = self.stated();
        let known = matches!(ClockQuality::try_from(clock.quality), Ok(ClockQuality::Plausible | ClockQuality::Synced));
        known.then(|| civil(at, &clock, TimeZone::system())).flatten()
    }

    /// The civil time here now; `None` where the wall clock is not trusted.
    #[must_use]
    pub fn trusted_civil(&self) -> Option<DateTime> {
        let clock = self.stated();
        let trusted = ClockQuality::try_from(clock.quality) == Ok(ClockQuality::Synced);
        trusted.then(|| civil(self.now(), &clock, TimeZone::system())).flatten()
    }

    fn measure(&self) -> wire::Clock {
        let offset_us = offset_us(&now, &unix_us);
        let quality = quality(unix_us(), Path::new(SYNCHRONISED_MARK).exists());
        let error_ms = match quality {
            ClockQuality::Synced => SYNCED_ERROR_MS,
            ClockQuality::Plausible => PLAUSIBLE_ERROR_MS,
            ClockQuality::Estimated | ClockQuality::Unknown => 0,
        };
        wire::Clock { boot_id: self.boot_id.0.to_vec(), offset_us, quality: quality.into(), error_ms }
    }
}

impl JudgingClock for Clock {
    fn judging_times(&self) -> JudgingTimes {
        let wall = since_epoch(unix_us());
        if ClockQuality::try_from(self.stated().quality) == Ok(ClockQuality::Synced) {
            return JudgingTimes { first: wall, wall: None };
        }
        let since_boot = self.now().since(Moment::ZERO);
        JudgingTimes { first: since_epoch(EARLIEST_UNIX_S * 1_000_000) + since_boot, wall: Some(wall) }
    }

    fn wall_clock_is_plausible(&self) {
        tracing::debug!("the broker's certificate holds at the wall clock: it is plausible, not trusted");
    }
}

fn civil(at: Moment, clock: &wire::Clock, zone: TimeZone) -> Option<DateTime> {
    let unix_us = i64::try_from(at.as_nanos() / 1000).ok()?.checked_add(clock.offset_us)?;
    let local = jiff::Timestamp::from_microsecond(unix_us).ok()?.to_zoned(zone).datetime();
    Some(DateTime {
        year: local.year().try_into().ok()?,
        month: local.month().try_into().ok()?,
        day: local.day().try_into().ok()?,
        hour: local.hour().try_into().ok()?,
        minute: local.minute().try_into().ok()?,
        second: local.second().try_into().ok()?,
    })
}

fn since_epoch(unix_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(unix_us).unwrap_or(0))
}

/// From the boot clock to the wall clock, µs. What comes between the two readings (another process, a suspend) must not look
/// like a clock that moved: the nearest of some attempts counts.
fn offset_us(boot: &dyn Fn() -> Moment, wall: &dyn Fn() -> i64) -> i64 {
    let attempt = || {
        let before = boot();
        let wall = wall();
        let apart = boot().since(before);
        let at = i64::try_from((before + apart / 2).as_nanos() / 1000).unwrap_or(i64::MAX);
        (apart, wall.saturating_sub(at))
    };
    let mut nearest = attempt();
    for _ in 1..READINGS_MAX {
        if nearest.0 <= APART_MAX {
            break;
        }
        nearest = nearest.min(attempt());
    }
    nearest.1
}

/// Judges the wall clock; a reading is never refused for it (I8).
fn quality(unix_us: i64, synchronised: bool) -> ClockQuality {
    match (synchronised, unix_us / 1_000_000 >= EARLIEST_UNIX_S) {
        (_, false) => ClockQuality::Unknown,
        (true, true) => ClockQuality::Synced,
        (false, true) => ClockQuality::Plausible,
    }
}

/// CLOCK_BOOTTIME.
#[must_use]
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// The wall clock, Unix time in microseconds, right or wrong.
#[must_use]
pub fn unix_us() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_a_clock_in_1970_is_unknown_not_refused() {
        assert_eq!(quality(0, false), ClockQuality::Unknown);
        assert_eq!(quality(5_000_000, true), ClockQuality::Unknown);
        assert_eq!(quality(1_790_000_000_000_000, false), ClockQuality::Plausible);
        assert_eq!(quality(1_790_000_000_000_000, true), ClockQuality::Synced);
    }

    #[test]
    fn what_comes_between_two_readings_does_not_move_the_offset() {
        let second = Duration::from_secs(1);
        let time = std::cell::Cell::new(Duration::ZERO);
        let delays = std::cell::RefCell::new(vec![Duration::ZERO, second, 3 * second]);
        let boot = || {
            time.set(time.get() + delays.borrow_mut().pop().unwrap_or_default());
            Moment::ZERO + time.get()
        };
        let wall = || i64::try_from(time.get().as_micros()).unwrap() + 77;
        assert_eq!(offset_us(&boot, &wall), 77);
    }

    #[test]
    fn civil_time_is_that_of_the_place() {
        let rome = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let clock = wire::Clock { offset_us: 1_781_000_000_000_000, ..wire::Clock::default() };
        let of = |zone| civil(Moment::from_nanos(5_000_000_000), &clock, zone).map(|time| time.to_string());
        assert_eq!(of(TimeZone::UTC).as_deref(), Some("2026-06-09T10:13:25"));
        assert_eq!(of(rome).as_deref(), Some("2026-06-09T12:13:25"));
    }

    #[test]
    fn the_clock_is_stated_once_until_it_moves() {
        let clock = Clock::of_this_boot();
        assert_eq!(clock.stated(), clock.stated());
        let earlier = clock.now();
        assert!(clock.now() >= earlier);
    }
}
