//! What the kit believes of the centre: there, gone, or gone so long without a word that it is tried.

use std::time::Duration;

use kit_protocol::moment::Moment;

/// `offline` that was not renewed for this long counts as online, one probe batch at a time.
pub const OFFLINE_FOR: Duration = Duration::from_secs(600);

/// Whether the centre takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing says that it does not.
    Online,
    /// It said so, or nobody subscribes to the kit's topics.
    Offline,
    /// It said so long ago: one batch at a time is tried.
    Presumed,
}

/// What was heard last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Centre {
    offline_since: Option<Moment>,
    counter: Option<u64>,
}

impl Centre {
    /// Takes in a verified `centre/state`; one that is older than another, or repeated, says nothing (`false`).
    pub(super) fn state(&mut self, online: bool, counter: u64, now: Moment) -> bool {
        if self.counter.is_some_and(|known| counter <= known) {
            return false;
        }
        self.counter = Some(counter);
        self.offline_since = (!online).then_some(now);
        true
    }

    /// The broker found nobody who subscribes (PUBACK 0x10).
    pub(super) fn nobody_subscribed(&mut self, now: Moment) {
        self.offline_since = Some(now);
    }

    /// It answered.
    pub(super) fn answered(&mut self) {
        self.offline_since = None;
    }

    pub(super) fn reach(&self, now: Moment) -> Reach {
        match self.offline_since {
            None => Reach::Online,
            Some(since) if now.since(since) < OFFLINE_FOR => Reach::Offline,
            Some(_) => Reach::Presumed,
        }
    }

    /// When [`Self::reach`] changes by itself.
    pub(super) fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        self.offline_since.map(|since| since + OFFLINE_FOR).filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn offline_that_is_not_renewed_for_ten_minutes_is_presumed_online() {
        let mut centre = Centre::default();
        assert_eq!(centre.reach(at(0)), Reach::Online);
        centre.state(false, 7, at(10));
        assert_eq!(centre.reach(at(609)), Reach::Offline);
        assert_eq!(centre.poll_timeout(at(609)), Some(at(610)));
        assert_eq!(centre.reach(at(610)), Reach::Presumed);
        centre.state(false, 8, at(620));
        assert_eq!(centre.reach(at(1219)), Reach::Offline, "renewed");
        centre.state(true, 9, at(1220));
        assert_eq!(centre.reach(at(1220)), Reach::Online);
    }

    #[test]
    fn a_retained_or_replayed_state_is_not_a_new_one() {
        let mut centre = Centre::default();
        assert!(centre.state(true, 9, at(0)));
        assert!(!centre.state(false, 8, at(1)));
        assert!(!centre.state(false, 9, at(2)));
        assert_eq!(centre.reach(at(3)), Reach::Online);
    }
}
