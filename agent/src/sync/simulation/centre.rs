//! A centre in its plainest form: a table by key, what it has said it settled, and what never may be.

use std::collections::{BTreeMap, HashMap, HashSet};

use kit_protocol::uplink::id::{EpochId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::{Range, Settlement};
use kit_protocol::uplink::wire::{self, RejectReason, definition::What, record::Content};
use prost::Message as _;

/// How long a kit is asked to wait for the database.
const LATER_MS: u32 = 5_000;
/// Every so many records one is such that no centre can take it.
const POISON_EVERY: u64 = 61;

/// Names a record for the ledger: the records of the run carry it as their time of reception.
pub(super) type Id = u64;

/// Whether the centre refuses this record for good.
pub(super) fn is_poison(id: Id) -> bool {
    id.is_multiple_of(POISON_EVERY)
}

/// One lane of one epoch.
type LaneOf = (EpochId, Lane);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    run: RunId,
    octets: Vec<u8>,
    pub(super) id: Id,
    pub(super) assignment: Option<String>,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    Duplicate,
    Rejected,
}

/// What is on the centre's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    pub(super) lanes: BTreeMap<LaneOf, BTreeMap<u64, Stored>>,
    origins: HashSet<Origin>,
}

/// The centre.
#[derive(Debug, Default)]
pub(super) struct Centre {
    pub(super) up: bool,
    pub(super) database: Database,
    /// Of `centre/state`.
    pub(super) counter: u64,
    /// Refuses everything for now.
    pub(super) trouble: bool,
}

impl Centre {
    /// Commits a batch and gives what is answered; what the kit did wrong otherwise.
    pub(super) fn take(&mut self, batch: &wire::Batch) -> Result<wire::Answer, String> {
        let epoch = EpochId::from_slice(&batch.epoch).ok_or("a batch without an epoch")?;
        let lane = Lane::from_wire(batch.lane).ok_or("a batch without a lane")?;
        let run = RunId::from_slice(&batch.run).ok_or("a batch without a run")?;
        let names = assignments(batch);
        let mut answer = wire::Answer { nonce: batch.nonce.clone(), ..wire::Answer::default() };
        let mut seq = batch.first;
        for (index, entry) in batch.entries.iter().enumerate() {
            seq += if index == 0 { 0 } else { u64::from(entry.skipped) + 1 };
            let reject = |reason: RejectReason, retry_after_ms| wire::Reject {
                epoch: batch.epoch.clone(),
                lane: batch.lane,
                seq,
                run: batch.run.clone(),
                reason: reason.into(),
                retry_after_ms,
            };
            if self.trouble {
                answer.reject.push(reject(RejectReason::Database, LATER_MS));
                continue;
            }
            let stored = self.database.store((epoch, lane), seq, run, &entry.record, &names)?;
            if stored == Fate::Rejected {
                answer.reject.push(reject(RejectReason::Unreadable, 0));
            }
        }
        answer.ack.push(self.database.settled((epoch, lane)).to_wire(epoch, lane));
        Ok(answer)
    }

    /// The answer to a kit's `state`: all that is known of the epochs it names.
    pub(super) fn settled(&self, nonce: &[u8], epochs: &[EpochId]) -> wire::Answer {
        let lanes = epochs.iter().flat_map(|epoch| Lane::ALL.map(|lane| (*epoch, lane)));
        let lanes = lanes.map(|of| self.database.settled(of).to_wire(of.0, of.1)).collect();
        wire::Answer { nonce: nonce.to_vec(), settled: Some(wire::Settled { lanes }), ..wire::Answer::default() }
    }
}

impl Database {
    fn store(
        &mut self,
        of: LaneOf,
        seq: u64,
        run: RunId,
        octets: &[u8],
        names: &HashMap<u32, Option<String>>,
    ) -> Result<Fate, String> {
        let lane = self.lanes.entry(of).or_default();
        if let Some(known) = lane.get(&seq) {
            let same = known.octets == octets && known.run == run;
            return if same { Ok(known.fate) } else { Err(format!("number {seq} of {of:?} came with other octets (I2)")) };
        }
        let record = wire::Record::decode(octets).map_err(|error| format!("number {seq} of {of:?}: {error}"))?;
        let assignment = match record.assignment {
            0 => None,
            number => names.get(&number).cloned().ok_or_else(|| format!("number {seq} of {of:?}: {number} is not defined"))?,
        };
        if !names.contains_key(&record.clock) {
            return Err(format!("number {seq} of {of:?}: its clock is not defined"));
        }
        let origin = Origin::from_slice(&record.origin);
        let of_ledger = !matches!(record.content, Some(Content::EpochOpened(_) | Content::EpochClosed(_)) | None);
        let fate = if of_ledger && is_poison(record.boottime_ns) {
            Fate::Rejected
        } else if origin.is_some_and(|origin| !self.origins.insert(origin)) {
            Fate::Duplicate
        } else {
            Fate::Stored
        };
        let id = if of_ledger { record.boottime_ns } else { 0 };
        lane.insert(seq, Stored { run, octets: octets.to_vec(), id, assignment, fate });
        Ok(fate)
    }

    /// What is settled of a lane.
    pub(super) fn settled(&self, of: LaneOf) -> Settlement {
        let mut settled = Settlement::default();
        for (seq, stored) in self.lanes.get(&of).into_iter().flatten() {
            settled.add(Range { first: *seq, last: *seq, run: Some(stored.run) });
        }
        settled
    }
}

/// What the batch's numbers mean, where it is an assignment.
fn assignments(batch: &wire::Batch) -> HashMap<u32, Option<String>> {
    let name = |definition: &wire::Definition| match &definition.what {
        Some(What::Assignment(assignment)) => (definition.number, Some(assignment.id.clone())),
        _ => (definition.number, None),
    };
    batch.definitions.iter().map(name).collect()
}
