//! A centre in its plainest form: a table by key, what it has said it settled, and what never may be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kit_protocol::uplink::id::{EpochId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::{Range, Settlement};
use kit_protocol::uplink::wire::{self, RejectReason, definition::What, record::Content};
use prost::Message as _;

use crate::sync::planner::ANSWER_RESENDS_MAX;

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
pub(super) type LaneOf = (EpochId, Lane);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    run: RunId,
    octets: Vec<u8>,
    origin: Option<Origin>,
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
    /// What is gone from the database: it is still said to be settled, until that is noticed.
    pub(super) lost: BTreeMap<LaneOf, BTreeMap<u64, RunId>>,
    /// What was noticed, to be asked for until it is there.
    pub(super) asked: BTreeSet<(LaneOf, u64)>,
    /// Of the kit's connection.
    pub(super) nonce: Vec<u8>,
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
        answer.ack.push(self.settled_of((epoch, lane)).to_wire(epoch, lane));
        Ok(answer)
    }

    /// Every `every`th record vanishes from the disk.
    pub(super) fn lose(&mut self, every: usize) {
        for (of, records) in &mut self.database.lanes {
            let gone: Vec<u64> = records.keys().copied().step_by(every).collect();
            for seq in gone {
                let Some(record) = records.remove(&seq) else { continue };
                self.lost.entry(*of).or_default().insert(seq, record.run);
                self.database.origins.retain(|origin| record.origin != Some(*origin));
            }
        }
    }

    /// It notices what it lost.
    pub(super) fn notice_loss(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        self.asked.extend(lost.into_iter().flat_map(|(of, numbers)| numbers.into_keys().map(move |seq| (of, seq))));
    }

    /// What it asks for again.
    pub(super) fn resend(&mut self) -> Vec<wire::Answer> {
        let Self { asked, database, .. } = self;
        asked.retain(|(of, seq)| database.lanes.get(of).is_none_or(|records| !records.contains_key(seq)));
        let resend: Vec<_> = asked
            .iter()
            .map(|((epoch, lane), seq)| wire::Resend {
                epoch: epoch.0.to_vec(),
                lane: lane.to_wire().into(),
                first: *seq,
                last: *seq,
            })
            .collect();
        let answer = |resend: &[wire::Resend]| wire::Answer {
            nonce: self.nonce.clone(),
            resend: resend.to_vec(),
            ..wire::Answer::default()
        };
        resend.chunks(ANSWER_RESENDS_MAX).map(answer).collect()
    }

    /// What it says is settled of a lane.
    fn settled_of(&self, of: LaneOf) -> Settlement {
        let mut settled = self.database.settled(of);
        for (seq, run) in self.lost.get(&of).into_iter().flatten() {
            settled.add(Range { first: *seq, last: *seq, run: Some(*run) });
        }
        settled
    }

    /// The answer to a kit's `state`: all that is known of the epochs it names.
    pub(super) fn settled(&mut self, nonce: &[u8], epochs: &[EpochId]) -> wire::Answer {
        self.nonce = nonce.to_vec();
        let lanes = epochs.iter().flat_map(|epoch| Lane::ALL.map(|lane| (*epoch, lane)));
        let lanes = lanes.map(|of| self.settled_of(of).to_wire(of.0, of.1)).collect();
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
        lane.insert(seq, Stored { run, octets: octets.to_vec(), origin, id, assignment, fate });
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
