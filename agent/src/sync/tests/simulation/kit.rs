//! The kit: the planner over an outbox in memory, and the shell between them without its runtime.

use std::sync::{Arc, Mutex};

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane, Nonce, Origin, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, record::Content};

use super::broker::{ConnectionId, Publish};
use super::centre::Id;
use crate::store::filing::file;
use crate::store::memory::{Disk, MemoryOutbox};
use crate::store::outbox::{Class, NewRecord, Outbox, ReadLimit, StoreError};
use crate::store::thread::Draft;
use crate::sync::batch::{self, Frame};
use crate::sync::planner::{Action, Event, Planner, Send, Sent, Ticket, Trouble, Unsent};

/// Octets of the topics' names.
const TOPIC_OCTETS: usize = 40;
/// Actions between two events, at most.
const ACTIONS_MAX: usize = 10_000;

/// A kit that is switched on.
pub(super) struct Kit {
    pub(super) outbox: MemoryOutbox,
    pub(super) planner: Planner,
    pub(super) connection: Option<(ConnectionId, Nonce)>,
    /// What it settled by the centre's word since it was last looked at.
    pub(super) settled: Vec<(EpochId, Lane, Settlement)>,
}

/// What the kit asks of the world.
#[derive(Debug)]
pub(super) enum Wish {
    Connect,
    Disconnect,
    Publish { ticket: Ticket, publish: Publish, octets: usize },
}

impl Kit {
    pub(super) fn start(disk: &Arc<Mutex<Disk>>, seed: u64, now: Moment) -> Self {
        let mut kit =
            Self { outbox: MemoryOutbox::open(disk), planner: Planner::new(seed, now), connection: None, settled: Vec::new() };
        kit.shelf_changed(now);
        kit
    }

    /// What the store's thread does after a commit that failed: opens the store again.
    pub(super) fn reopen(&mut self, disk: &Arc<Mutex<Disk>>, now: Moment) {
        self.planner.handle(Event::Shelf(&[]), now);
        self.outbox = MemoryOutbox::open(disk);
        self.shelf_changed(now);
    }

    pub(super) fn shelf_changed(&mut self, now: Moment) {
        let epochs = self.outbox.epochs();
        self.planner.handle(Event::Shelf(&epochs), now);
    }

    /// Makes a record of `octets` random octets that the ledger knows by `id`.
    pub(super) fn record(&mut self, id: Id, lane: Lane, octets: Vec<u8>, origin: Option<Origin>) -> NewRecord {
        let (content, class) = match lane {
            Lane::Waveforms => {
                let segment = wire::Segment { flac: vec![octets], ..wire::Segment::default() };
                (Content::Segment(segment), Class::PlanWaveform)
            }
            Lane::Journal => (Content::DeviceEvent(wire::DeviceEvent::default()), Class::Value),
            Lane::Urgent | Lane::Vitals => {
                let reading = wire::Reading { recording: octets, ..wire::Reading::default() };
                (Content::Reading(reading), Class::Value)
            }
        };
        let draft = Draft {
            lane,
            class,
            boottime_ns: id,
            clock: wire::Clock { boot_id: vec![7; 16], ..wire::Clock::default() },
            device: Some(wire::Device { identity: format!("device-{}", id % 5), ..wire::Device::default() }),
            driver: None,
            from_clock: None,
            content,
            origin,
            marks: Vec::new(),
        };
        let assignment = self.outbox.open_epoch().1.map(str::to_owned);
        let outbox = &mut self.outbox;
        file(draft, assignment.as_deref(), &mut |what| outbox.define(what))
    }

    /// Does what the planner wants; what the world has to do comes out.
    pub(super) fn act(&mut self, now: Moment) -> Result<Vec<Wish>, String> {
        let mut wishes = Vec::new();
        for _ in 0..ACTIONS_MAX {
            let Some(action) = self.planner.poll_action() else { return Ok(wishes) };
            match action {
                Action::Connect => wishes.push(Wish::Connect),
                Action::Disconnect => wishes.push(Wish::Disconnect),
                Action::PublishState(ticket) => {
                    let Some((_, nonce)) = self.connection else { return Err("state without a connection".into()) };
                    let epochs = self.outbox.epochs().iter().map(|view| view.epoch).collect();
                    let publish = Publish::State { nonce: nonce.0.to_vec(), epochs };
                    wishes.push(Wish::Publish { ticket, publish, octets: 600 });
                }
                Action::Send(send) => {
                    let event = match self.send(send) {
                        Ok((sent, batch)) => {
                            let (ticket, octets) = (sent.ticket, sent.octets);
                            wishes.push(Wish::Publish { ticket, publish: Publish::Batch(batch), octets });
                            Event::Sent(sent)
                        }
                        Err(why) => Event::Unsent(send.ticket, why),
                    };
                    self.planner.handle(event, now);
                }
                Action::Settle(epoch, lane, settled) => {
                    let done = self.outbox.settle(epoch, lane, &settled);
                    self.settled.push((epoch, lane, settled));
                    self.store_did(done, now);
                }
                Action::ResetSettled(epoch, lane, settled) => {
                    let done = self.outbox.reset_settled(epoch, lane, &settled);
                    self.store_did(done, now);
                }
                Action::Quarantine(epoch, lane, seq, reason) => {
                    let done = self.outbox.quarantine(epoch, lane, seq, &reason);
                    self.store_did(done, now);
                }
                Action::Alarm(Trouble::Rejected(..)) => {}
                Action::Alarm(trouble) => return Err(format!("an alarm without a cause: {trouble}")),
            }
        }
        Err("the planner goes round in circles (I9)".into())
    }

    fn store_did(&mut self, done: Result<(), StoreError>, now: Moment) {
        if let Err(StoreError::Foreign { epoch, lane, seq }) = done {
            self.planner.handle(Event::Foreign(epoch, lane, seq), now);
        }
        self.shelf_changed(now);
    }

    fn send(&mut self, send: Send) -> Result<(Sent, wire::Batch), Unsent> {
        let (_, nonce) = self.connection.ok_or(Unsent::Failed)?;
        let Send { epoch, lane, .. } = send;
        let frame = Frame { epoch, lane, nonce, topic_octets: TOPIC_OCTETS, octets_max: send.octets };
        let limit = ReadLimit { octets: frame.payload_octets(), records: send.records, before: send.before };
        let chunk = self.outbox.read(epoch, lane, send.from, limit).map_err(|_| Unsent::Failed)?;
        let (run, next): (RunId, u64) = (chunk.run, chunk.next);
        let built = batch::build(chunk, &frame).ok_or(Unsent::Nothing { next })?;
        if built.octets > send.packet_octets_max {
            return Err(Unsent::TooBig { seq: built.batch.first, octets: built.octets });
        }
        if built.octets > send.octets && !send.alone {
            return Err(Unsent::NeedsRoom { octets: built.octets });
        }
        Ok((Sent { ticket: send.ticket, run, spans: built.spans, octets: built.octets }, built.batch))
    }
}
