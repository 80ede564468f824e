//! The wire window, counted by the other side (I9).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::Lane;
use kit_protocol::uplink::wire;

use crate::sync::planner::{self, Ticket};
use crate::sync::simulation::broker::Publish;

/// The planner's two seconds, and its buckets of 100 ms.
const RECENT: Duration = Duration::from_millis(2_100);

/// What is between the kit and its broker on one connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    receive_maximum: usize,
    packet_octets_max: Option<usize>,
    on_wire: BTreeMap<Ticket, OnWire>,
    acknowledged: VecDeque<(Moment, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct OnWire {
    octets: usize,
    lane: Option<Lane>,
}

impl Wire {
    pub(super) fn new((receive_maximum, packet_octets_max): (u16, Option<usize>)) -> Self {
        Self { receive_maximum: receive_maximum.into(), packet_octets_max, ..Self::default() }
    }

    /// A publish goes; what it breaks.
    pub(super) fn put(&mut self, now: Moment, ticket: Ticket, publish: &Publish, octets: usize) -> Result<(), String> {
        self.acknowledged.retain(|(at, _)| now.since(*at) <= RECENT);
        if let Publish::Batch(batch) = publish {
            self.fits(batch, octets)?;
        }
        let lane = match publish {
            Publish::Batch(batch) => Lane::from_wire(batch.lane),
            Publish::State { .. } => None,
        };
        self.on_wire.insert(ticket, OnWire { octets, lane });
        let batches = || self.on_wire.values().filter_map(|entry| entry.lane);
        let allowed = planner::WIRE_BATCHES_MAX.min(self.receive_maximum - planner::RECEIVE_MAXIMUM_SPARE);
        let others = batches().filter(|lane| *lane != Lane::Urgent).count();
        let others_allowed = allowed.saturating_sub(planner::WIRE_BATCHES_URGENT).max(1);
        if batches().count() > allowed || others > others_allowed || self.on_wire.len() > self.receive_maximum {
            return Err(format!("{} publishes on the wire, {others} of them not urgent (I9)", self.on_wire.len()));
        }
        Ok(())
    }

    /// No batch is larger than the window leaves, unless it is one record and nothing else is on the wire.
    fn fits(&self, batch: &wire::Batch, octets: usize) -> Result<(), String> {
        let batches = self.on_wire.values().filter(|entry| entry.lane.is_some());
        let on_wire: usize = batches.map(|entry| entry.octets).sum();
        let acknowledged: usize = self.acknowledged.iter().map(|(_, octets)| octets).sum();
        let window = acknowledged.clamp(planner::WIRE_OCTETS_MIN, planner::WIRE_OCTETS_MAX);
        let lone = batch.entries.len() == 1 && on_wire == 0;
        let largest = self.packet_octets_max.unwrap_or(usize::MAX).min(planner::BATCH_OCTETS_MAX);
        if octets > largest || !lone && on_wire + octets > window {
            return Err(format!("{on_wire} octets on the wire, {octets} more, window {window}, packet {largest} (I9)"));
        }
        Ok(())
    }

    /// Its PUBACK came.
    pub(super) fn take(&mut self, now: Moment, ticket: Ticket) {
        if let Some(entry) = self.on_wire.remove(&ticket).filter(|entry| entry.lane.is_some()) {
            self.acknowledged.push_back((now, entry.octets));
        }
    }
}
