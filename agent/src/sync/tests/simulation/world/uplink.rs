//! From the kit's planner over the link and the broker to the centre, and back.

use std::time::Duration;

use kit_protocol::uplink::id::Nonce;
use kit_protocol::uplink::wire;

use super::wire::Wire;
use super::{Happening, INTAKE, Planted, World};
use crate::sync::planner::{self, Ended, Event, Taken, Ticket};
use crate::sync::simulation::broker::{ConnectionId, Down, Publish};
use crate::sync::simulation::kit::Wish;
use crate::sync::simulation::schedule::What;

impl World {
    pub(super) fn kit_acts(&mut self) -> Result<(), String> {
        let Some(kit) = &mut self.kit else { return Ok(()) };
        let wishes = kit.act(self.now)?;
        for (epoch, lane, settled) in std::mem::take(&mut kit.settled) {
            let ever = self.ever.get(&(epoch, lane));
            let last = settled.ranges().last().map_or(settled.settled_upto(), |range| range.last);
            let invented = (1..=last).find(|seq| settled.contains(*seq) && ever.is_none_or(|ever| !ever.contains(seq)));
            if let Some(seq) = invented {
                return Err(format!("{epoch}/{lane}/{seq} was settled and never committed (I3)"));
            }
        }
        let overview = kit.planner.overview();
        if overview.ack_batches > planner::ACK_BATCHES_MAX || overview.ack_octets > planner::ACK_OCTETS_MAX {
            return Err(format!("a window is larger than its bound (I9): {overview:?}"));
        }
        for wish in wishes {
            match wish {
                Wish::Connect => self.connect(),
                Wish::Disconnect => self.kit_hangs_up(),
                Wish::Publish { ticket, publish, octets } => self.kit_publishes(ticket, publish, octets)?,
            }
        }
        Ok(())
    }

    pub(super) fn connect(&mut self) {
        self.kit_hangs_up();
        self.connections += 1;
        let connection = self.connections;
        let nonce = Nonce((self.connections ^ 0x5a5a_0000_0000_0000).to_be_bytes());
        if let Some(kit) = &mut self.kit {
            kit.connection = Some((connection, nonce));
        }
        self.wire = Wire::new(self.limits);
        self.put(self.delay * 3, Happening::Connected(connection));
    }

    pub(super) fn connected(&mut self, connection: ConnectionId) {
        let Some((known, nonce)) = self.kit.as_ref().and_then(|kit| kit.connection) else { return };
        if known != connection {
            return;
        }
        if self.during(What::Cut) || !self.broker.up {
            return self.kit_lost(connection, "no route to host");
        }
        if self.during(What::Refuse) {
            self.drop_kit_connection();
            return self.tell(Event::Down(Ended::Refused("not authorised".to_owned())));
        }
        let (receive_maximum, packet_octets_max) = self.limits;
        for down in self.broker.accept(connection) {
            self.send_down(connection, down);
        }
        self.tell(Event::Up(planner::Broker { nonce, receive_maximum, packet_octets_max }));
    }

    pub(super) fn kit_hangs_up(&mut self) {
        if let Some(connection) = self.drop_kit_connection() {
            self.put(self.delay, Happening::BrokerNotices(connection));
        }
    }

    pub(super) fn drop_kit_connection(&mut self) -> Option<ConnectionId> {
        self.kit.as_mut().and_then(|kit| kit.connection.take()).map(|(connection, _)| connection)
    }

    pub(super) fn kit_lost(&mut self, connection: ConnectionId, why: &str) {
        if self.kit.as_ref().and_then(|kit| kit.connection).is_some_and(|(known, _)| known == connection) {
            self.drop_kit_connection();
            self.tell(Event::Down(Ended::Lost(why.to_owned())));
        }
    }

    pub(super) fn kit_publishes(&mut self, ticket: Ticket, publish: Publish, octets: usize) -> Result<(), String> {
        let Some((connection, _)) = self.kit.as_ref().and_then(|kit| kit.connection) else { return Ok(()) };
        self.wire.put(self.now, ticket, &publish, octets)?;
        if let Publish::Batch(batch) = &publish {
            self.sent += batch.entries.len();
        }
        let octets = u64::try_from(octets).unwrap();
        self.link_free = self.link_free.max(self.now) + Duration::from_micros(octets * 1_000_000 / self.octets_per_second);
        let after = self.link_free.since(self.now) + self.delay;
        self.put(after, Happening::ToBroker { connection, ticket, publish });
        Ok(())
    }

    pub(super) fn kit_receives(&mut self, connection: ConnectionId, down: Down) {
        let current = self.kit.as_ref().and_then(|kit| kit.connection).is_some_and(|(known, _)| known == connection);
        if !current {
            return;
        }
        match down {
            Down::Puback { ticket, nobody } => {
                self.wire.take(self.now, ticket);
                let taken = if nobody { Taken::NobodySubscribed } else { Taken::Yes };
                self.tell(Event::Published(ticket, taken));
            }
            Down::Answer { id, answer } => {
                self.broker.taken(id);
                self.tell(Event::Answer(&answer));
            }
            Down::CentreState { online, counter, drain_octets_per_s } => {
                self.tell(Event::CentreState { online, counter, drain_octets_per_s });
            }
        }
    }

    pub(super) fn broker_receives(&mut self, connection: ConnectionId, ticket: Ticket, publish: Publish) {
        // What was on its way when the connection broke may still arrive, unless the next one was quicker.
        let arrives = match self.broker.kit {
            Some(known) => known == connection,
            None => self.rng.bool(),
        };
        if !self.broker.up || !arrives {
            return;
        }
        let nobody = self.broker.published(publish);
        self.put(INTAKE, Happening::CentreTakes);
        if self.broker.kit != Some(connection) || self.during(What::LosePubacks) && self.rng.bool() {
            return;
        }
        let copies = if self.during(What::RepeatPubacks) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.during(What::ReorderPubacks) { self.rng.u64(0..5_000) } else { 0 };
            let after = self.delay + Duration::from_millis(late);
            self.put(after, Happening::ToKit { connection, down: Down::Puback { ticket, nobody } });
        }
    }

    pub(super) fn send_down(&mut self, connection: ConnectionId, down: Down) {
        self.put(self.delay, Happening::ToKit { connection, down });
    }

    pub(super) fn answer(&mut self, answer: wire::Answer) {
        if self.during(What::LoseAnswers) && self.rng.bool() {
            return;
        }
        if let (Some(connection), Some(down)) = (self.broker.kit, self.broker.answer(answer)) {
            self.send_down(connection, down);
        }
    }

    pub(super) fn break_connections(&mut self) {
        let on_link = |happening: &Happening| matches!(happening, Happening::ToKit { .. } | Happening::Connected(_));
        self.queue.retain(|_, happening| !matches!(happening, Happening::ToKit { .. }));
        self.held.retain(|happening| !on_link(happening));
        self.broker.kit = None;
        if let Some((connection, _)) = self.kit.as_ref().and_then(|kit| kit.connection) {
            self.put(Duration::from_millis(50), Happening::KitNotices(connection));
        }
    }

    pub(super) fn centre_takes(&mut self) -> Result<(), String> {
        if !self.centre.up || !self.broker.up {
            return Ok(());
        }
        let Some(publish) = self.broker.for_centre.front().cloned() else { return Ok(()) };
        if self.during(What::CentreDiesBeforeCommit) {
            return self.centre_dies(What::CentreDiesBeforeCommit);
        }
        let copies = if self.during(What::RepeatDeliveries) { 2 } else { 1 };
        for _ in 0..copies {
            let answer = self.commit(&publish)?;
            if self.during(What::CentreDiesAfterCommit) {
                return self.centre_dies(What::CentreDiesAfterCommit);
            }
            self.answer(answer);
        }
        self.broker.for_centre.pop_front();
        self.put(INTAKE, Happening::CentreTakes);
        Ok(())
    }

    pub(super) fn commit(&mut self, publish: &Publish) -> Result<wire::Answer, String> {
        match publish {
            Publish::State { nonce, epochs } => Ok(self.centre.settled(nonce, epochs)),
            Publish::Batch(batch) if self.during(What::CentreDisbelieves) => {
                let pause = Some(wire::Pause { reason: wire::PauseReason::UnknownKey.into() });
                Ok(wire::Answer { nonce: batch.nonce.clone(), pause, ..wire::Answer::default() })
            }
            Publish::Batch(batch) => {
                let answer = self.centre.take(batch)?;
                if self.planted == Some(Planted::CentreForgets) {
                    self.centre.database.lanes.values_mut().next().map(std::collections::BTreeMap::pop_last);
                }
                self.ledger.committed(batch, self.now);
                for (of, records) in &self.centre.database.lanes {
                    let ever = self.ever.entry(*of).or_default();
                    if ever.len() < records.len() || !records.keys().all(|seq| ever.contains(seq)) {
                        ever.extend(records.keys());
                    }
                }
                Ok(answer)
            }
        }
    }

    /// It dies once, and comes back.
    pub(super) fn centre_dies(&mut self, of: What) -> Result<(), String> {
        self.active.remove(&of);
        self.centre.up = false;
        let away = Duration::from_millis(self.rng.u64(500..20_000));
        self.put(away, Happening::CentreReturns);
        Ok(())
    }

    pub(super) fn centre_returns(&mut self) {
        let away = [What::CentreDown, What::CentreForgotten].into_iter().any(|what| self.during(what));
        if away {
            return;
        }
        self.centre.up = true;
        if self.broker.up {
            self.broker.subscribe_centre();
            self.announce(true);
            self.put(INTAKE, Happening::CentreTakes);
        }
    }

    pub(super) fn announce(&mut self, online: bool) {
        if !self.broker.up || online && !self.centre.up {
            return;
        }
        self.centre.counter += 1;
        if let (Some(connection), Some(down)) =
            (self.broker.kit, self.broker.retain(online, self.centre.counter, self.drain_octets_per_s))
        {
            self.send_down(connection, down);
        }
    }
}
