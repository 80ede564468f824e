//! The centre's one source of time; everything else takes `now` as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A point in wall-clock time: microseconds of Unix time, negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Whole seconds of Unix time; 0 before 1970, where no certificate is valid anyway.
    #[must_use]
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.div_euclid(1_000_000)).unwrap_or(0)
    }
}

/// The wall clock of this machine; the centre keeps it synchronised and trusts it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> WallTime {
    let now = SystemTime::now();
    let microseconds = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    WallTime(match now.duration_since(UNIX_EPOCH) {
        Ok(since) => microseconds(since),
        Err(before) => -microseconds(before.duration()),
    })
}

/// The monotonic clock, for benchmarks.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}
