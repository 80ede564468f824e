//! The clocks of this machine: the same that the agent reads.

use std::time::Duration;

use kit_protocol::moment::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now, on `CLOCK_BOOTTIME`.
#[must_use]
pub fn now() -> Moment {
    Moment::from_nanos(u64::try_from(since_zero(ClockId::Boottime).as_nanos()).unwrap_or(u64::MAX))
}

/// Seconds since 1970, for a device whose clock is right.
#[must_use]
pub fn wall_seconds() -> u64 {
    since_zero(ClockId::Realtime).as_secs()
}

fn since_zero(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
