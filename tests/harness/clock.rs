//! The harness's one source of time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kit_protocol::moment::Moment;
use rustix::time::{ClockId, clock_gettime};

/// This moment on CLOCK_BOOTTIME: the clock that truth files and records carry.
#[must_use]
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let nanoseconds = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    Moment::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// An instant to count a wait from.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is the harness's source of time")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Time since 1970; zero where the machine's clock is before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is the harness's source of time")]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
