//! How long to wait before trying again: full jitter, so that ten thousand kits do not come back in one second.

use std::time::Duration;

use kit_protocol::moment::Moment;

/// The ceiling of the first delay.
pub const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);
/// The ceiling of every later delay.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// The ceiling once the other side has refused too often.
pub const REFUSED_DELAY_MAX: Duration = Duration::from_secs(300);
/// Refusals in a row after which delays may grow to [`REFUSED_DELAY_MAX`].
pub const REFUSALS_BEFORE_LONG: u32 = 10;
/// A connection that stood this long sets the delays back.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);
/// No delay is shorter, so that a broker that drops everyone at once is not polled.
pub(super) const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);

/// Counts what failed and draws the next delay.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackOff {
    attempts: u32,
    refusals: u32,
}

impl BackOff {
    /// The delay after one more failure; `refused` where the other side said no (CONNACK, certificate).
    pub(super) fn after_failure(&mut self, refused: bool, rng: &mut fastrand::Rng) -> Duration {
        self.refusals = if refused { self.refusals.saturating_add(1) } else { 0 };
        let most = if self.refusals >= REFUSALS_BEFORE_LONG { REFUSED_DELAY_MAX } else { RETRY_DELAY_MAX };
        let ceiling = RETRY_DELAY_FIRST.saturating_mul(1 << self.attempts.min(9)).min(most);
        self.attempts = self.attempts.saturating_add(1);
        full_jitter(ceiling, rng)
    }

    /// Takes in how long a connection stood before it ended.
    pub(super) fn connection_stood(&mut self, since: Moment, now: Moment) {
        self.refusals = 0;
        if now.since(since) >= STABLE_AFTER {
            self.attempts = 0;
        }
    }

    /// The way is new: what failed before says nothing about it.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A delay between [`RETRY_DELAY_MIN`] and `ceiling`, evenly.
pub(super) fn full_jitter(ceiling: Duration, rng: &mut fastrand::Rng) -> Duration {
    ceiling.mul_f64(rng.f64()).max(RETRY_DELAY_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(back_off: BackOff, refused: bool) -> Duration {
        (0..200)
            .map(|seed| {
                let mut copy = back_off;
                copy.after_failure(refused, &mut fastrand::Rng::with_seed(seed))
            })
            .max()
            .unwrap()
    }

    #[test]
    fn delays_grow_from_a_second_to_a_minute_and_are_spread() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut back_off = BackOff::default();
        assert!(longest(back_off, false) <= Duration::from_secs(1));
        for _ in 0..30 {
            assert!(back_off.after_failure(false, &mut rng) <= RETRY_DELAY_MAX);
        }
        assert!(longest(back_off, false) > Duration::from_secs(50));
        let mut short = 0;
        for _ in 0..200 {
            short += u32::from(back_off.after_failure(false, &mut rng) < Duration::from_secs(30));
        }
        assert!((60..140).contains(&short), "{short} of 200 in the lower half");
    }

    #[test]
    fn five_minutes_only_after_ten_refusals_in_a_row() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut back_off = BackOff::default();
        for _ in 0..8 {
            back_off.after_failure(true, &mut rng);
        }
        assert!(longest(back_off, true) <= RETRY_DELAY_MAX, "the ninth");
        back_off.after_failure(true, &mut rng);
        assert!(longest(back_off, true) > Duration::from_secs(200), "the tenth");
        assert!(longest(back_off, false) <= RETRY_DELAY_MAX, "a loss breaks the row");
    }

    #[test]
    fn a_stable_minute_sets_the_delays_back() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut back_off = BackOff::default();
        for _ in 0..9 {
            back_off.after_failure(false, &mut rng);
        }
        back_off.connection_stood(Moment::ZERO, Moment::ZERO + Duration::from_secs(59));
        assert!(longest(back_off, false) > RETRY_DELAY_FIRST);
        back_off.connection_stood(Moment::ZERO, Moment::ZERO + STABLE_AFTER);
        assert!(longest(back_off, false) <= RETRY_DELAY_FIRST);
    }
}
