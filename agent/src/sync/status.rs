//! Where sync stands, for `status` and the local page. No reading, no key.

use std::collections::VecDeque;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::Nonce;

use super::planner::{Overview, Reach, Trouble};

/// Troubles that are shown, at most: the latest.
pub const TROUBLES_MAX: usize = 8;

/// Where sync stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncStatus {
    /// The broker took us in.
    pub connected: bool,
    /// The broker, as `host:port`.
    pub broker: String,
    /// This connection's nonce.
    pub nonce: Option<Nonce>,
    /// The centre said what it has, on this connection.
    pub settled: bool,
    /// Whether the centre takes records.
    pub centre: Reach,
    /// When the centre last acknowledged something.
    pub last_acknowledged: Option<Moment>,
    /// Batches that the broker has not taken yet.
    pub wire_batches: usize,
    /// Octets of those.
    pub wire_octets: usize,
    /// Batches that the centre has not acknowledged yet.
    pub ack_batches: usize,
    /// Octets of those.
    pub ack_octets: usize,
    /// The backlog waits until the centre acknowledges again.
    pub stalled: bool,
    /// Why the centre does not believe the kit's batches.
    pub paused: Option<&'static str>,
    /// Why there is no connection, in words with a next step.
    pub refusal: Option<String>,
    /// When the next attempt is due.
    pub retry: Option<Moment>,
    /// What a person must look at, the latest last.
    pub troubles: VecDeque<Trouble>,
    /// Why the store could not do what sync asked, the last time it could not.
    pub store_trouble: Option<String>,
    /// Octets of MQTT publishes to the broker since the start.
    pub octets_up: u64,
    /// Octets of MQTT publishes from the broker since the start.
    pub octets_down: u64,
    /// Messages from the broker that were not signed by the centre, or not for us.
    pub messages_refused: u64,
    /// Answers dropped: another connection's nonce, or before `Settled`.
    pub answers_dropped: u64,
}

impl Default for SyncStatus {
    fn default() -> Self {
        Self {
            connected: false,
            broker: String::new(),
            nonce: None,
            settled: false,
            centre: Reach::Online,
            last_acknowledged: None,
            wire_batches: 0,
            wire_octets: 0,
            ack_batches: 0,
            ack_octets: 0,
            stalled: false,
            paused: None,
            refusal: None,
            retry: None,
            troubles: VecDeque::new(),
            store_trouble: None,
            octets_up: 0,
            octets_down: 0,
            messages_refused: 0,
            answers_dropped: 0,
        }
    }
}

impl SyncStatus {
    /// Takes in what the planner shows.
    pub(super) fn overview(&mut self, overview: Overview, centre: Reach) {
        self.connected = overview.connected;
        self.nonce = overview.nonce;
        self.settled = overview.settled;
        self.centre = centre;
        self.last_acknowledged = overview.last_acknowledged;
        self.wire_batches = overview.wire_batches;
        self.wire_octets = overview.wire_octets;
        self.ack_batches = overview.ack_batches;
        self.ack_octets = overview.ack_octets;
        self.stalled = overview.stalled;
        self.paused = overview.paused;
        self.refusal = overview.refusal;
        self.retry = overview.retry;
        self.answers_dropped = overview.answers_dropped;
    }

    /// Keeps the latest troubles, each once.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        self.troubles.retain(|known| *known != trouble);
        self.troubles.push_back(trouble);
        while self.troubles.len() > TROUBLES_MAX {
            self.troubles.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::uplink::id::{EpochId, Lane};

    #[test]
    fn i9_troubles_are_bounded_and_each_is_shown_once() {
        let mut status = SyncStatus::default();
        for seq in 0..100 {
            status.trouble(Trouble::Conflict(EpochId([1; 16]), Lane::Vitals, seq));
            status.trouble(Trouble::Conflict(EpochId([1; 16]), Lane::Vitals, seq));
        }
        assert_eq!(status.troubles.len(), TROUBLES_MAX);
        assert_eq!(status.troubles.back(), Some(&Trouble::Conflict(EpochId([1; 16]), Lane::Vitals, 99)));
    }
}
