//! How long acknowledged records stay on the kit, and what time that is counted in.
//!
//! Age is the time the kit has *run* since, not the wall clock's: a gateway that wakes in 1970 keeps nothing too long for it,
//! and one that is told it is 2099 deletes nothing. `ran` holds it across boots; a cut takes back an hour of it at most.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{self, disk_error};
use super::outbox::{Class, StoreError};

/// How often the time the kit has run is written down.
const SAVED_EVERY: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What stays as local record after it was acknowledged, and how long. What is not settled has no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A closed epoch, after its last record was settled.
    pub epochs: Duration,
    /// Segments of recordings of the plan, and of urgent ones.
    pub plan_waveforms: Duration,
    /// Segments of continuous waveforms.
    pub continuous_waveforms: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { epochs: 30 * DAY, plan_waveforms: 30 * DAY, continuous_waveforms: 2 * DAY }
    }
}

impl Retention {
    /// How long a segment file of `class` stays after its last record came.
    pub(crate) fn of(&self, class: Class) -> Duration {
        match class {
            Class::Value | Class::PlanWaveform => self.plan_waveforms,
            Class::ContinuousWaveform => self.continuous_waveforms,
        }
    }
}

/// How long the kit has run, over all its boots, nanoseconds.
#[derive(Debug)]
pub(crate) struct Ran {
    path: PathBuf,
    /// At the opening.
    before: u64,
    /// CLOCK_BOOTTIME at the opening, nanoseconds.
    opened_at: u64,
    saved: u64,
}

impl Ran {
    /// Goes on where the store in `dir` stood. A file that is missing or damaged begins at zero: things stay longer for it.
    pub(crate) fn open(dir: &Path, boottime_ns: u64) -> Result<Self, StoreError> {
        let path = dir.join("ran");
        let kept = files::read(&path).map_err(|error| disk_error("ran", &error))?;
        let before = kept.and_then(|octets| octets.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(Self { path, before, opened_at: boottime_ns, saved: before })
    }

    /// Nothing on the disk is younger than `written`.
    pub(crate) fn is_past(&mut self, written: u64) {
        self.before = self.before.max(written);
    }

    /// At `boottime_ns`.
    pub(crate) fn at(&self, boottime_ns: u64) -> u64 {
        self.before.saturating_add(boottime_ns.saturating_sub(self.opened_at))
    }

    /// Writes it down, where that is due or `now` asked for.
    pub(crate) fn save(&mut self, boottime_ns: u64, now: bool) -> Result<(), StoreError> {
        let ran = self.at(boottime_ns);
        let due = ran.saturating_sub(self.saved) >= nanoseconds(SAVED_EVERY);
        if due || (now && ran != self.saved) {
            files::replace(&self.path, &ran.to_be_bytes()).map_err(|error| disk_error("ran", &error))?;
            self.saved = ran;
        }
        Ok(())
    }
}

/// Whether what was written after the kit had run for `written` is past `time` at `ran`.
pub(crate) fn is_past(written: u64, time: Duration, ran: u64) -> bool {
    ran.saturating_sub(written) >= nanoseconds(time)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_age_goes_on_from_boot_to_boot_and_a_cut_takes_back_an_hour_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let hour = nanoseconds(SAVED_EVERY);
        let mut ran = Ran::open(dir.path(), 5 * hour).unwrap();
        assert_eq!(ran.at(5 * hour), 0, "the time before the store was first opened is not its own");
        ran.save(6 * hour, false).unwrap();
        ran.save(7 * hour - 1, false).unwrap();
        let mut ran = Ran::open(dir.path(), 3).unwrap();
        assert_eq!(ran.at(3), hour, "what was not written down is taken back");
        ran.save(hour / 2, true).unwrap();
        ran.is_past(2 * hour);
        assert_eq!(ran.at(3), 2 * hour);
        assert_eq!(Ran::open(dir.path(), 9).unwrap().at(9), hour + hour / 2 - 3);
    }

    #[test]
    fn a_damaged_file_makes_nothing_older() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ran"), b"xyz").unwrap();
        assert_eq!(Ran::open(dir.path(), 9).unwrap().at(9), 0);
    }

    #[test]
    fn what_seems_to_come_from_the_future_is_young() {
        assert!(!is_past(10, Duration::from_nanos(1), 5));
        assert!(is_past(10, Duration::ZERO, 5));
        assert!(is_past(10, Duration::from_nanos(5), 15));
    }
}
