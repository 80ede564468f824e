//! Deciding about the records of a verified batch: stored, again, duplicate, rejected for good or for later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kit_protocol::uplink::id::{EpochId, KitId, Lane, Origin, RunId};
use kit_protocol::uplink::record::{Definitions, Use, used_numbers};
use kit_protocol::uplink::wire::{self, RejectReason, definition::What, record::Content};

use super::{Batch, Entry, Fault, Record, Refusal, SEQ_MAX};
use crate::signature::DIGEST_OCTETS;

/// After database trouble.
pub const RETRY_DATABASE: Duration = Duration::from_secs(10);
/// Until the assignment's document is known here, or the numbers are defined.
pub const RETRY_UNKNOWN: Duration = Duration::from_secs(60);
/// Until the centre was updated.
pub const RETRY_SCHEMA: Duration = Duration::from_secs(3_600);

/// What the database knows about the keys, numbers, origins and assignments that a batch names.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By sequence number, of the batch's epoch and lane.
    pub numbers: BTreeMap<u64, Standing>,
    /// By number, of the batch's epoch and run.
    pub definitions: BTreeMap<u32, What>,
    /// Which of the batch's origins are stored under any key of this kit.
    pub origins: BTreeSet<Origin>,
    /// By id, which kit an assignment was signed for.
    pub assignments: BTreeMap<String, KitId>,
}

/// What became of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// SHA-256 of the octets that came first.
    pub digest: [u8; DIGEST_OCTETS],
    /// The run under which they came.
    pub run: RunId,
    /// What was done with them.
    pub fate: Fate,
}

/// What is done with a record whose number is settled by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Stored.
    Stored,
    /// Its origin is stored under another key: kept out, settled.
    Duplicate,
    /// Rejected for good, its octets set aside.
    Rejected(RejectReason),
}

/// What a stored record says about numbers or epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Numbers that will never come.
    Gone {
        /// Of this epoch,
        epoch: EpochId,
        /// of this lane,
        lane: Lane,
        /// from this one
        first: u64,
        /// to this one.
        last: u64,
        /// As the kit states it.
        reason: i32,
        /// Reception of the oldest, nanoseconds of CLOCK_BOOTTIME; 0 unknown.
        oldest_boottime_ns: u64,
        /// Reception of the newest.
        newest_boottime_ns: u64,
    },
    /// An epoch began.
    Opened {
        /// Which.
        epoch: EpochId,
        /// Its assignment's id; `None` for the `none` epoch.
        assignment: Option<String>,
    },
    /// An epoch takes no more records.
    Closed {
        /// Which.
        epoch: EpochId,
        /// The last number of each lane; `None` where the kit does not know it.
        ends: Vec<(Lane, Option<u64>)>,
        /// The store is gone: what has not come by now is lost.
        lost: bool,
        /// As the kit states it.
        reason: i32,
    },
}

/// A record that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its number.
    pub seq: u64,
    /// Why.
    pub reason: RejectReason,
    /// When to try again; `None` is for good.
    pub retry_after: Option<Duration>,
}

/// What to do about a batch.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The batch's definitions that are not known yet.
    pub define: Vec<(u32, What)>,
    /// Index of each entry whose number is settled now, with its fate.
    pub settle: Vec<(usize, Fate)>,
    /// What the stored ones among them say, in their order.
    pub effects: Vec<Effect>,
    /// What is answered beside the settlement.
    pub rejections: Vec<Rejection>,
    /// What goes into the audit.
    pub findings: Vec<Refusal>,
}

/// Decides about every record of a verified batch. Invariants I2, I2a and the centre's part of I4.
#[must_use]
pub fn decide(kit: &KitId, batch: &Batch, known: &Known) -> Decision {
    let mut decision = Decision::default();
    let redefined = redefined(batch, known, &mut decision);
    let judge = Judge { kit, known, definitions: definitions(batch, known), redefined };
    let mut origins = known.origins.clone();
    for (index, entry) in batch.entries.iter().enumerate() {
        let reject = |reason, retry_after| Rejection { seq: entry.seq, reason, retry_after };
        if let Some(standing) = known.numbers.get(&entry.seq) {
            decision.again(entry, standing);
            continue;
        }
        let record = match &entry.record {
            Ok(record) => record,
            Err(RejectReason::UnknownSchema) => {
                decision.rejections.push(reject(RejectReason::UnknownSchema, Some(RETRY_SCHEMA)));
                continue;
            }
            Err(reason) => {
                decision.set_aside(index, reject(*reason, None));
                continue;
            }
        };
        match judge.resolve(record) {
            Ok(()) => {}
            Err(Unresolved::Later(reason)) => {
                decision.rejections.push(reject(reason, Some(RETRY_UNKNOWN)));
                continue;
            }
            Err(Unresolved::Redefined) => {
                // Two meanings of one number in one run: the kit's store was rolled back, and it must learn so. Nothing is
                // settled by this, since the record itself is sound.
                decision.rejections.push(reject(RejectReason::Conflict, None));
                continue;
            }
            Err(Unresolved::Foreign(id)) => {
                decision.findings.push(Refusal::new(Fault::ForeignAssignment, format!("assignment {id} is another kit's")));
                decision.set_aside(index, reject(RejectReason::UnknownAssignment, None));
                continue;
            }
        }
        if record.origin.is_some_and(|origin| !origins.insert(origin)) {
            decision.settle.push((index, Fate::Duplicate));
            continue;
        }
        decision.settle.push((index, Fate::Stored));
        decision.effect_of(&record.wire, &judge.definitions);
    }
    decision
}

/// Numbers to which the batch gives another meaning than they have in its run; the new ones are marked for keeping.
fn redefined(batch: &Batch, known: &Known, decision: &mut Decision) -> BTreeSet<u32> {
    let mut redefined = BTreeSet::new();
    for (number, what) in &batch.definitions {
        // What cannot be read yet is not kept: it comes again with every batch that uses it.
        let Some(what) = what else { continue };
        match known.definitions.get(number) {
            None => decision.define.push((*number, what.clone())),
            Some(before) if same_meaning(before, what) => {}
            Some(_) => {
                decision.findings.push(Refusal::new(Fault::Redefined, format!("number {number} of run {}", batch.run)));
                redefined.insert(*number);
            }
        }
    }
    redefined
}

/// What the numbers of the batch's run mean.
fn definitions(batch: &Batch, known: &Known) -> Definitions {
    let carried = batch.definitions.iter().map(|(number, what)| (*number, what.clone()));
    let before = known.definitions.iter().map(|(number, what)| (*number, Some(what.clone())));
    let all: Vec<_> = carried.chain(before).map(|(number, what)| wire::Definition { number, what }).collect();
    let mut definitions = Definitions::default();
    definitions.extend(&all);
    definitions
}

/// Whether two definitions of one number are about the same thing.
///
/// A device is its identity; what else is said of it may be refined, or be said by a newer program that knows more.
fn same_meaning(before: &What, after: &What) -> bool {
    match (before, after) {
        (What::Device(before), What::Device(after)) => before.identity == after.identity,
        _ => before == after,
    }
}

enum Unresolved {
    Later(RejectReason),
    Redefined,
    Foreign(String),
}

/// What every record of one batch is judged by.
struct Judge<'a> {
    kit: &'a KitId,
    known: &'a Known,
    definitions: Definitions,
    redefined: BTreeSet<u32>,
}

impl Judge<'_> {
    /// Whether everything that the record points to is known, and its assignment is this kit's.
    fn resolve(&self, record: &Record) -> Result<(), Unresolved> {
        let mut redefined = false;
        let mut assignments = Vec::new();
        used_numbers(&record.wire, |number, used_as| {
            redefined |= self.redefined.contains(&number);
            if used_as == Use::Assignment {
                assignments.push(number);
            }
        });
        if redefined {
            return Err(Unresolved::Redefined);
        }
        if !self.definitions.cover(&record.wire) {
            return Err(Unresolved::Later(RejectReason::UndefinedNumber));
        }
        for id in assignments.into_iter().filter_map(|number| self.definitions.assignment(number)) {
            match self.known.assignments.get(id) {
                None => return Err(Unresolved::Later(RejectReason::UnknownAssignment)),
                Some(owner) if owner != self.kit => return Err(Unresolved::Foreign(id.to_owned())),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Decision {
    /// A number that is settled already came again.
    fn again(&mut self, entry: &Entry, standing: &Standing) {
        let reject = |reason| Rejection { seq: entry.seq, reason, retry_after: None };
        if standing.digest != entry.digest {
            self.findings.push(Refusal::new(Fault::Conflict, format!("number {} came with other octets", entry.seq)));
            self.rejections.push(reject(RejectReason::Conflict));
        } else if let Fate::Rejected(reason) = standing.fate {
            self.rejections.push(reject(reason));
        }
    }

    fn set_aside(&mut self, index: usize, rejection: Rejection) {
        self.settle.push((index, Fate::Rejected(rejection.reason)));
        self.rejections.push(rejection);
    }

    fn effect_of(&mut self, record: &wire::Record, definitions: &Definitions) {
        let effect = match &record.content {
            Some(Content::Gap(gap)) => gone(gap),
            Some(Content::EpochOpened(opened)) => opened_epoch(opened, definitions),
            Some(Content::EpochClosed(closed)) => closed_epoch(closed),
            _ => return,
        };
        match effect {
            Some(effect) => self.effects.push(effect),
            None => self.findings.push(Refusal::new(Fault::ImpossibleGap, "a gap or an epoch's end that cannot be")),
        }
    }
}

fn gone(gap: &wire::Gap) -> Option<Effect> {
    if gap.first == 0 || gap.last < gap.first || gap.last > SEQ_MAX {
        return None;
    }
    Some(Effect::Gone {
        epoch: EpochId::from_slice(&gap.epoch)?,
        lane: Lane::from_wire(gap.lane)?,
        first: gap.first,
        last: gap.last,
        reason: gap.reason,
        oldest_boottime_ns: gap.oldest_boottime_ns,
        newest_boottime_ns: gap.newest_boottime_ns,
    })
}

fn opened_epoch(opened: &wire::EpochOpened, definitions: &Definitions) -> Option<Effect> {
    let assignment = definitions.assignment(opened.assignment).map(str::to_owned);
    Some(Effect::Opened { epoch: EpochId::from_slice(&opened.epoch)?, assignment })
}

/// An epoch that ended in order still drains, so its end settles nothing; one whose store is gone has nothing more to give.
fn closed_epoch(closed: &wire::EpochClosed) -> Option<Effect> {
    let ends = closed.ends.iter().filter_map(|end| Lane::from_wire(end.lane).map(|lane| (lane, end.last)));
    let ends: Vec<_> = ends.collect();
    if ends.iter().any(|(_, last)| last.is_some_and(|last| last > SEQ_MAX)) {
        return None;
    }
    let lost = closed.reason == i32::from(wire::EpochReason::Damaged);
    Some(Effect::Closed { epoch: EpochId::from_slice(&closed.epoch)?, ends, lost, reason: closed.reason })
}
