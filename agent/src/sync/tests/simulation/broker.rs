//! A broker: sessions that outlive connections, QoS 1 both ways, retained states; and what it forgets.

use std::collections::VecDeque;

use kit_protocol::uplink::id::EpochId;
use kit_protocol::uplink::wire;

use crate::sync::planner::Ticket;

/// One connection of the kit.
pub(super) type ConnectionId = u64;

/// What a kit publishes.
#[derive(Clone, Debug)]
pub(super) enum Publish {
    Batch(wire::Batch),
    State { nonce: Vec<u8>, epochs: Vec<EpochId> },
}

/// What the kit gets.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Puback { ticket: Ticket, nobody: bool },
    Answer { id: u64, answer: wire::Answer },
    CentreState { online: bool, counter: u64, drain_octets_per_s: u32 },
}

/// The broker.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) up: bool,
    /// The kit's connection, as the broker sees it.
    pub(super) kit: Option<ConnectionId>,
    /// Answers that the kit has not taken yet.
    session: VecDeque<(u64, wire::Answer)>,
    session_present: bool,
    next_answer: u64,
    /// Whether anybody subscribes to the kit's topics.
    pub(super) centre_subscribed: bool,
    /// What the centre has not acknowledged yet.
    pub(super) for_centre: VecDeque<Publish>,
    retained_kit: Option<Publish>,
    retained_centre: Option<(bool, u64, u32)>,
}

impl Broker {
    /// One that is up and has nothing.
    pub(super) fn new() -> Self {
        Self { up: true, ..Self::default() }
    }

    /// Forgets everything, as one without persistence or with an empty disk does.
    pub(super) fn wipe(&mut self) {
        *self = Self { up: self.up, next_answer: self.next_answer, ..Self::default() };
    }

    /// The kit is there and subscribes: what it gets at once.
    pub(super) fn accept(&mut self, connection: ConnectionId) -> Vec<Down> {
        self.kit = Some(connection);
        self.session_present = true;
        let retained = self.retained_centre.map(|(online, counter, drain_octets_per_s)| Down::CentreState {
            online,
            counter,
            drain_octets_per_s,
        });
        let kept = self.session.iter().map(|(id, answer)| Down::Answer { id: *id, answer: answer.clone() });
        kept.chain(retained).collect()
    }

    /// The kit publishes; whether nobody wants it.
    pub(super) fn published(&mut self, publish: Publish) -> bool {
        if let Publish::State { .. } = publish {
            self.retained_kit = Some(publish.clone());
        }
        if self.centre_subscribed {
            self.for_centre.push_back(publish);
        }
        !self.centre_subscribed
    }

    /// The centre subscribes, once more or anew: it gets the retained state.
    pub(super) fn subscribe_centre(&mut self) {
        self.centre_subscribed = true;
        self.for_centre.extend(self.retained_kit.clone());
    }

    /// The centre publishes an answer; what goes to the kit now.
    pub(super) fn answer(&mut self, answer: wire::Answer) -> Option<Down> {
        if !self.session_present {
            return None;
        }
        self.next_answer += 1;
        self.session.push_back((self.next_answer, answer.clone()));
        self.kit.map(|_| Down::Answer { id: self.next_answer, answer })
    }

    /// The kit has taken an answer.
    pub(super) fn taken(&mut self, id: u64) {
        self.session.retain(|(known, _)| *known != id);
    }

    /// The centre renews its state; what goes to the kit now.
    pub(super) fn retain(&mut self, online: bool, counter: u64, drain_octets_per_s: u32) -> Option<Down> {
        self.retained_centre = Some((online, counter, drain_octets_per_s));
        self.kit.map(|_| Down::CentreState { online, counter, drain_octets_per_s })
    }
}
