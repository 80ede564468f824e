//! A token bucket for the backlog: how fast the centre wants it, so that a thousand kits that come back together do not
//! hold up each other's live readings.

use std::time::Duration;

use kit_protocol::moment::Moment;

/// Octets that may go at once after a pause.
pub const BURST_OCTETS: u64 = 64 * 1024;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Octets that the backlog may take of the link; unlimited until the centre names a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    octets_per_s: Option<u32>,
    octets: u64,
    /// When `octets` was true to the octet.
    at: Moment,
}

impl Bucket {
    pub(super) fn new(now: Moment) -> Self {
        Self { octets_per_s: None, octets: BURST_OCTETS, at: now }
    }

    /// The centre names a rate; 0 is none. What is in the bucket stays in it.
    pub(super) fn rate(&mut self, octets_per_s: u32, now: Moment) {
        self.fill(now);
        self.octets_per_s = Some(octets_per_s).filter(|rate| *rate > 0);
    }

    /// Whether a batch of `octets` may go.
    pub(super) fn holds(&mut self, octets: usize, now: Moment) -> bool {
        self.fill(now);
        self.octets_per_s.is_none() || self.octets >= wanted(octets)
    }

    /// The backlog is limited.
    pub(super) fn limits(&self) -> bool {
        self.octets_per_s.is_some()
    }

    /// A batch went. A single record that is larger than the bucket empties it.
    pub(super) fn take(&mut self, octets: usize, now: Moment) {
        self.fill(now);
        self.octets = self.octets.saturating_sub(u64::try_from(octets).unwrap_or(u64::MAX));
    }

    /// When a batch of `octets` may go that may not now.
    pub(super) fn ready(&self, octets: usize) -> Option<Moment> {
        let rate = u128::from(self.octets_per_s?);
        let missing = u128::from(wanted(octets).saturating_sub(self.octets));
        let nanos = u64::try_from((missing * NANOS_PER_SECOND).div_ceil(rate)).unwrap_or(u64::MAX);
        Some(self.at + Duration::from_nanos(nanos))
    }

    /// Takes in what came since; a fraction of an octet is kept by not counting its time.
    fn fill(&mut self, now: Moment) {
        let Some(rate) = self.octets_per_s.map(u128::from) else {
            self.at = self.at.max(now);
            return;
        };
        let earned = now.since(self.at).as_nanos() * rate / NANOS_PER_SECOND;
        let room = BURST_OCTETS - self.octets;
        match u64::try_from(earned).ok().filter(|earned| *earned < room) {
            Some(earned) => {
                self.octets += earned;
                let nanos = u64::try_from(u128::from(earned) * NANOS_PER_SECOND / rate).unwrap_or(u64::MAX);
                self.at = self.at + Duration::from_nanos(nanos);
            }
            None => (self.octets, self.at) = (BURST_OCTETS, self.at.max(now)),
        }
    }
}

/// A batch that is larger than the bucket waits for a full one.
fn wanted(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX).min(BURST_OCTETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn none_named_is_unlimited() {
        let mut bucket = Bucket::new(at(0));
        for _ in 0..100 {
            assert!(bucket.holds(64 * 1024, at(0)));
            bucket.take(64 * 1024, at(0));
        }
        bucket.rate(1_000, at(0));
        assert!(!bucket.holds(1, at(0)));
        bucket.rate(0, at(0));
        assert!(bucket.holds(64 * 1024, at(0)));
    }

    #[test]
    fn i9_a_full_bucket_is_64_kib_and_it_fills_at_the_rate() {
        let mut bucket = Bucket::new(at(0));
        bucket.rate(1_000, at(0));
        assert!(bucket.holds(64 * 1024, at(0)));
        bucket.take(64 * 1024, at(0));
        assert_eq!(bucket.ready(16_000), Some(at(16_000)));
        assert!(!bucket.holds(16_000, at(15_999)));
        assert!(bucket.holds(16_000, at(16_000)));
        assert!(bucket.holds(64 * 1024, at(10_000_000)));
        bucket.take(64 * 1024, at(10_000_000));
        assert!(!bucket.holds(1, at(10_000_000)), "it never holds more");
        assert!(bucket.holds(1_000_000, at(20_000_000)), "one that is larger than the bucket goes when it is full");
    }

    proptest! {
        #[test]
        fn i9_no_span_of_time_sees_more_than_the_burst_and_the_rate(
            rate in 1_u32..100_000,
            steps in proptest::collection::vec((0_u64..3_000, 1_usize..20_000), 1..200),
        ) {
            let mut bucket = Bucket::new(at(0));
            bucket.rate(rate, at(0));
            let (mut now, mut sent) = (0, 0_u64);
            for (pause, octets) in steps {
                now += pause;
                if bucket.holds(octets, at(now)) {
                    bucket.take(octets, at(now));
                    sent += u64::try_from(octets).unwrap();
                } else {
                    let ready = bucket.ready(octets).unwrap();
                    prop_assert!(ready > at(now));
                    prop_assert!(bucket.holds(octets, ready), "it is ready when it says");
                    now = ready.as_nanos().div_ceil(1_000_000);
                }
                prop_assert!(sent <= BURST_OCTETS + now * u64::from(rate) / 1_000);
            }
        }
    }
}
