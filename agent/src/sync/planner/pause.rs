//! The centre could not believe a batch: nothing is sent for a while, then one batch at a time until one is acknowledged.

use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::wire::{self, PauseReason};

use super::{Link, Planner};

/// The first time batches are not believed, none is sent for this long.
pub const PAUSE_FIRST: Duration = Duration::from_secs(30);
/// It doubles each time, to this at most: it is tried again for ever.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Whether batches are believed. It outlives connections, so that one that comes and goes does not begin anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// Times in a row, without an acknowledgement between them.
    count: u32,
    reason: PauseReason,
    until: Option<Moment>,
}

impl Pause {
    fn begin(&mut self, reason: PauseReason, now: Moment) {
        let wait = PAUSE_FIRST.saturating_mul(1 << self.count.min(8)).min(PAUSE_MAX);
        *self = Self { count: self.count.saturating_add(1), reason, until: Some(now + wait) };
    }

    /// The centre believes the kit.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// A new connection, with a fresh `state`: tried at once.
    pub(super) fn connected(&mut self) {
        self.until = None;
    }

    /// Takes in that the time has come.
    pub(super) fn handle_timeout(&mut self, now: Moment) {
        self.until = self.until.filter(|until| now < *until);
    }

    /// Nothing is sent.
    pub(super) fn holds(&self) -> bool {
        self.until.is_some()
    }

    /// One batch at a time.
    pub(super) fn doubts(&self) -> bool {
        self.count > 0
    }

    /// Why, for `status`; nothing where batches are believed.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.doubts().then(|| reason_name(self.reason))
    }

    /// When [`Self::handle_timeout`] is wanted.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.until
    }
}

impl Planner {
    /// The centre did not believe a batch of this connection. It names none, so all that it may have had go again.
    pub(super) fn take_pause(&mut self, pause: &wire::Pause) {
        let Link::Up(up) = &self.link else { return };
        if up.acks.batches.is_empty() {
            self.entries_ignored += 1;
            return;
        }
        self.release_published_before(self.now);
        // Those that were on their way with it are not believed either, and that is no news.
        if !self.pause.holds() {
            self.pause.begin(pause.reason(), self.now);
        }
    }
}

fn reason_name(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::UnknownKey => "unknown-key",
        PauseReason::BadSignature => "bad-signature",
        PauseReason::Malformed => "malformed",
        PauseReason::WrongName => "wrong-name",
        PauseReason::Unspecified => "unspecified",
    }
}
