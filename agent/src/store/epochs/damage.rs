//! What does not open: epochs are moved aside, records are declared; nothing is deleted.

use std::fs;

use kit_protocol::uplink::id::{EpochId, Lane};
use kit_protocol::uplink::wire::{self, EpochReason, record::Content};

use super::{DAMAGED, Options, Store, epoch_names};
use crate::store::about;
use crate::store::files::{self, disk_error};
use crate::store::filing::gap;
use crate::store::outbox::{DOES_NOT_OPEN, StoreError};
use crate::store::seal::EpochSeal;
use crate::store::sled::Commit;

impl Store {
    /// Declares records that do not open, and sends them no more.
    pub(super) fn declare_unreadable(&mut self, epoch: EpochId, lane: Lane, numbers: &[u64]) -> Result<(), StoreError> {
        self.begin_if_not_begun()?;
        let known = self.with_database(epoch)?;
        let fresh: Vec<u64> = numbers.iter().copied().filter(|seq| !known.is_withheld(lane, *seq)).collect();
        let gap = |span| gap(epoch, lane, span, wire::GapReason::Unreadable, (0, 0));
        let gaps: Vec<Content> = spans(&fresh).into_iter().map(gap).collect();
        if gaps.is_empty() {
            return Ok(());
        }
        self.open.append_own(Commit::default(), gaps)?;
        let known = self.with_database(epoch)?;
        fresh.into_iter().try_for_each(|seq| known.quarantine(lane, seq, DOES_NOT_OPEN))
    }
}

/// The assignment of an epoch that was moved aside, where its papers still open.
pub(super) fn assignment_of_damaged(options: &Options, id: EpochId) -> Option<String> {
    let dir = options.epochs_dir().join(format!("{DAMAGED}{id}"));
    let wrapped = files::read(&dir.join("key")).ok()??;
    let seal = EpochSeal::unwrap(&options.kek, &options.kit, id, &wrapped).ok()?;
    about::read_about(&dir, &seal)?.assignment
}

/// Takes an epoch out of the way; nothing of it is deleted.
pub(super) fn move_aside(options: &Options, id: EpochId, why: &str) -> Result<(), StoreError> {
    tracing::error!(epoch = %id, why, "an epoch does not open and is moved aside; what it held unsent waits for salvage");
    let aside = options.epochs_dir().join(format!("{DAMAGED}{id}"));
    fs::rename(options.epoch_dir(id), &aside).map_err(|error| disk_error("moving an epoch aside", &error))?;
    files::sync_parent(&aside).map_err(|error| disk_error("moving an epoch aside", &error))
}

/// Epochs that were moved aside and that no journal has told of.
pub(super) fn undeclared_damage(options: &Options) -> Result<Vec<EpochId>, StoreError> {
    let names = epoch_names(options)?;
    let undeclared = names.iter().filter(|name| !options.epochs_dir().join(name).join("declared").exists());
    Ok(undeclared.filter_map(|name| name.strip_prefix(DAMAGED)?.parse().ok()).collect())
}

/// Ascending numbers as spans.
fn spans(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for seq in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => spans.push((*seq, *seq)),
        }
    }
    spans
}

/// What the open epoch's journal says of one that was moved aside: up to which number it went is unknown.
pub(super) fn lost_with_store(id: EpochId) -> wire::EpochClosed {
    let ends = Lane::ALL.map(|lane| wire::LaneEnd { lane: lane.to_wire().into(), last: None });
    wire::EpochClosed { epoch: id.0.to_vec(), ends: ends.to_vec(), reason: EpochReason::Damaged.into() }
}
