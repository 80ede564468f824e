//! What is settled and past its time goes, a step at a time; a centre that asks for it afterwards is told.

use std::fs;

use kit_protocol::uplink::id::{EpochId, Lane};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;

use super::{GAPS_PER_COMMIT_MAX, GONE, Options, Resting, Store};
use crate::store::bygone::Bygone;
use crate::store::deletion::FILE_CLASSES;
use crate::store::files::{self, disk_error};
use crate::store::filing::gap;
use crate::store::outbox::StoreError;
use crate::store::retention::{self, Retention};
use crate::store::sled::Commit;

impl Store {
    /// [`Outbox::tidy`](super::Outbox::tidy).
    pub(super) fn tidy_a_step(&mut self) -> Result<bool, StoreError> {
        if !self.options.has_last_room() {
            return Ok(false);
        }
        self.tell_time();
        self.ran.save((self.options.stamp)().boottime_ns, false)?;
        for epoch in std::iter::once(&mut self.open).chain(&mut self.draining) {
            if let Some((class, files)) = epoch.files_past_their_time() {
                epoch.delete_files(class, &files)?;
                return Ok(true);
            }
        }
        self.rest_if_drained()?;
        let (retention, ran) = (&self.options.retention, self.open.ran);
        let is_open = |id: &EpochId| self.draining.as_ref().is_some_and(|epoch| epoch.id == *id);
        let mut closed = self.resting.iter().filter(|(id, _)| !is_open(id));
        if let Some((id, _)) = closed.clone().find(|(_, resting)| resting.is_past(retention, ran)) {
            self.delete_epoch(*id)?;
        } else if let Some((id, _)) = closed.find(|(_, resting)| resting.is_due(retention, ran)) {
            self.delete_files_of_resting(*id)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Tells the epochs how long the kit has run.
    pub(super) fn tell_time(&mut self) {
        let ran = self.ran.at((self.options.stamp)().boottime_ns);
        self.open.ran = ran;
        if let Some(epoch) = &mut self.draining {
            epoch.ran = ran;
        }
    }

    /// Declares what was deleted and is not settled by what the centre's database holds.
    pub(super) fn declare_asked_for(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        let known = self.with_database(epoch)?;
        known.refuse_foreign(lane, settled)?;
        let asked_for = known.lane(lane).gone.asked_for_by(settled);
        if asked_for.is_empty() {
            return Ok(());
        }
        self.declare_purged(epoch, lane, &asked_for)?;
        self.with_database(epoch)?.mark_declared(lane, &asked_for)
    }

    /// Opens an epoch that is settled, deletes what is past its time, and notes when it was settled.
    fn delete_files_of_resting(&mut self, id: EpochId) -> Result<(), StoreError> {
        let epoch = match self.with_database(id) {
            // It was damaged, and is moved aside.
            Err(StoreError::NoEpoch(_)) => return Ok(()),
            other => other?,
        };
        while let Some((class, files)) = epoch.files_past_their_time() {
            epoch.delete_files(class, &files)?;
        }
        self.rest()
    }

    /// Deletes an epoch whole. What is known of its numbers is on the disk first.
    fn delete_epoch(&mut self, id: EpochId) -> Result<(), StoreError> {
        let resting = self.resting.get(&id).ok_or(StoreError::NoEpoch(id))?;
        tracing::info!(epoch = %id, "an epoch is settled and past its time, and is deleted");
        self.bygone.add(Bygone::new(id, &resting.about, &resting.lanes))?;
        self.resting.remove(&id);
        remove_epoch(&self.options, id)
    }

    /// The centre's database does not hold what was deleted here: what it lacks is declared.
    pub(super) fn reset_bygone(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        let Some(bygone) = self.bygone.get_mut(epoch) else { return Err(StoreError::NoEpoch(epoch)) };
        bygone.refuse_foreign(lane, settled)?;
        let asked_for = bygone.gone(lane).asked_for_by(settled);
        if !asked_for.is_empty() {
            self.declare_purged(epoch, lane, &asked_for)?;
        }
        self.bygone.reset(epoch, lane, settled, &asked_for)
    }

    fn declare_purged(&mut self, epoch: EpochId, lane: Lane, spans: &[(u64, u64)]) -> Result<(), StoreError> {
        tracing::warn!(%epoch, %lane, spans = spans.len(), "the centre asks for records that were deleted once it had them");
        self.begin_if_not_begun()?;
        for spans in spans.chunks(GAPS_PER_COMMIT_MAX) {
            let gap = |span: &(u64, u64)| gap(epoch, lane, *span, wire::GapReason::PurgedAfterAck, (0, 0));
            self.open.append_own(Commit::default(), spans.iter().map(gap).collect())?;
        }
        Ok(())
    }
}

impl Resting {
    /// Whether its database is to be opened, to delete a file that is past its time or to note that all of it is settled.
    fn is_due(&self, retention: &Retention, ran: u64) -> bool {
        let past = |(class, oldest): (_, Option<u64>)| oldest.is_some_and(|at| retention::is_past(at, retention.of(class), ran));
        self.is_settled() && (self.settled_at.is_none() || FILE_CLASSES.into_iter().zip(self.oldest).any(past))
    }

    /// Whether the whole epoch is past its time. The `none` epoch never is.
    fn is_past(&self, retention: &Retention, ran: u64) -> bool {
        let past = |at| retention::is_past(at, retention.epochs, ran);
        self.about.assignment.is_some() && self.is_settled() && self.settled_at.is_some_and(past)
    }
}

/// Removes an epoch from the disk. Cut in the middle, the next opening goes on.
pub(super) fn remove_epoch(options: &Options, id: EpochId) -> Result<(), StoreError> {
    let gone = options.epochs_dir().join(format!("{GONE}{id}"));
    let remove = || {
        fs::rename(options.epoch_dir(id), &gone)?;
        files::sync_parent(&gone)?;
        fs::remove_dir_all(&gone)
    };
    remove().map_err(|error| disk_error("deleting an epoch", &error))
}
