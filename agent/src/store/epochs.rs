//! The store: every epoch of the kit, one of them open, at most one other with its database open at a time.
//!
//! ```text
//! lock                  held for as long as the store is open
//! kek                   a known text sealed under the key-encryption key: a store given another key refuses to open
//! epochs/open           which epoch takes appends; replacing it is the moment of a switch
//! epochs/<id>/          see `about.rs` (small files), `sled.rs` (q-000001), `segments.rs` (wp-, wc-)
//! epochs/new-<id>/      an epoch in the making; removed at the next opening
//! epochs/gone-<id>/     an epoch that is being deleted; removed at the next opening
//! bygone                see `bygone.rs`: epochs that are deleted
//! ran                   see `retention.rs`: how long the kit has run
//! epochs/damaged-<id>/  an epoch that would not open, kept for salvage; `declared` in it once the journal told of it
//! ```
//!
//! **The `none` epoch.** A kit has one for as long as it stands. It is never closed: when an assignment begins it *rests*,
//! without an `EpochClosed`, since its last append is not past, and drains like any other; when the assignment ends it is
//! opened for appends again, under a new run and above its own numbers. Never are two epochs open for appends.
//!
//! **A switch** makes the successor whole first, then closes the open epoch, then replaces `epochs/open`. Cut before the
//! closing, the successor was never used and is removed; cut after it, the next opening goes on to the successor.
//!
//! **Retention**, a step at a time ([`Outbox::tidy`]): segment files that are settled and past their time, then whole epochs.
//! Their numbers stay settled; a centre that was restored to an earlier state and asks for them is told by a gap.
//!
//! Absent: quota and drop order, generations past the first, `identity/origins`, rollback of the store, salvage.
//! Their seams: `Options::refuse_without_room` (room before a commit), `GENERATION` and `Carried` in `epoch.rs`,
//! [`StoreError::Foreign`], and `damaged-<id>` with `runs` beside the database and self-describing frames in segment files.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use kit_protocol::uplink::id::{BootId, EpochId, KitId, Lane, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{EpochReason, definition::What, record::Content};

use super::about::{self, About, Summary};
use super::bygone::Bygones;
use super::epoch::{Epoch, database_path};
use super::files::{self, Lock, disk_error};
use super::filing::Stamp;
use super::outbox::{Appended, Chunk, EpochView, LaneView, NewRecord, Outbox, ReadLimit, StoreError};
use super::reading::Which;
use super::retention::{Ran, Retention};
use super::seal::{EpochSeal, Kek, fill_random, open_under_kek, seal_under_kek};
use super::sled::{Database, OpenError};

/// Free octets below which appends are refused, where the configuration says nothing else.
pub const FREE_FLOOR_OCTETS: u64 = 200 << 20;
/// Free octets below which appends are refused whatever the configuration says: sled must never meet a full disk, and its
/// own thread goes on for a while, by segments of 512 KiB.
const APPEND_ROOM_OCTETS: u64 = 8 << 20;
/// Free octets below which the store writes nothing of its own: gaps, cursors, epochs.
const LAST_ROOM_OCTETS: u64 = 4 << 20;
/// Free octets below which the store is not opened: recovery writes a snapshot and clears a segment or two.
const OPEN_ROOM_OCTETS: u64 = 2 << 20;
/// A commit may take so many times its records' octets of disk: records, pages rewritten with them, segments' ends.
const ROOM_PER_OCTET: u64 = 4;

mod damage;
mod tidying;

use damage::{assignment_of_damaged, lost_with_store, move_aside, undeclared_damage};
use tidying::remove_epoch;

const NEW: &str = "new-";
const DAMAGED: &str = "damaged-";
const GONE: &str = "gone-";
/// Gaps that one commit declares, at most.
const GAPS_PER_COMMIT_MAX: usize = 256;
const KEK_TEXT: &[u8] = b"the key-encryption key of this store";

/// Tells when it is, as a record carries it.
pub type StampSource = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// What a store is opened with.
#[derive(Clone)]
pub struct Options {
    /// The store's own directory; made where it is not there.
    pub dir: PathBuf,
    /// Whose records these are.
    pub kit: KitId,
    /// Wraps every root key.
    pub kek: Kek,
    /// This boot of the gateway.
    pub boot: BootId,
    /// For the journal records that the store writes itself.
    pub stamp: StampSource,
    /// Free octets below which appends are refused: [`FREE_FLOOR_OCTETS`].
    pub free_floor: u64,
    /// How long what is acknowledged stays here.
    pub retention: Retention,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("dir", &self.dir).field("kit", &self.kit).finish_non_exhaustive()
    }
}

impl Options {
    /// Refuses an append of `octets` where the disk has no room for it. Making room first comes with the quota.
    pub(crate) fn refuse_without_room(&self, octets: u64) -> Result<(), StoreError> {
        let needed = self.free_floor.max(APPEND_ROOM_OCTETS).saturating_add(octets.saturating_mul(ROOM_PER_OCTET));
        let room = files::room(&self.dir).map_err(|error| disk_error("statvfs", &error))?;
        if room >= needed { Ok(()) } else { Err(StoreError::Full(format!("{room} octets are free, {needed} are needed"))) }
    }

    /// Whether there is room for the store's own small writes.
    pub(crate) fn has_last_room(&self) -> bool {
        self.has_room(LAST_ROOM_OCTETS)
    }

    fn has_room(&self, octets: u64) -> bool {
        files::room(&self.dir).is_ok_and(|room| room >= octets)
    }

    /// What is said where there is not.
    pub(crate) fn full(&self) -> StoreError {
        StoreError::Full(format!("fewer than {LAST_ROOM_OCTETS} octets are free"))
    }

    fn epochs_dir(&self) -> PathBuf {
        self.dir.join("epochs")
    }

    fn epoch_dir(&self, id: EpochId) -> PathBuf {
        self.epochs_dir().join(id.to_string())
    }
}

/// An epoch whose database need not be open.
#[derive(Debug)]
struct Resting {
    about: About,
    lanes: [LaneView; 4],
    quarantined: Vec<(Lane, u64, String)>,
    /// How long the kit had run when all of it was settled, nanoseconds.
    settled_at: Option<u64>,
    /// And when the last record of its oldest file came, of plan and of continuous waveforms.
    oldest: [Option<u64>; 2],
}

impl Resting {
    fn new(about: About, summary: &Summary) -> Self {
        let quarantined = summary.quarantined().map(|(lane, seq, reason)| (lane, seq, reason.to_owned())).collect();
        let (settled_at, oldest) = (summary.settled_at, [summary.oldest_plan, summary.oldest_continuous]);
        Self { about, lanes: summary.lanes(), quarantined, settled_at, oldest }
    }

    fn is_settled(&self) -> bool {
        self.lanes.iter().all(|lane| lane.settled.settled_upto() + 1 >= lane.next)
    }
}

/// What was found on the disk of one epoch.
type Found = BTreeMap<EpochId, (EpochSeal, About)>;

/// The outbox of the kit, on sled and segment files.
#[derive(Debug)]
pub struct Store {
    options: Options,
    open: Epoch,
    /// The other epoch whose database is open.
    draining: Option<Epoch>,
    /// Every epoch but the open one.
    resting: BTreeMap<EpochId, Resting>,
    /// Epochs whose records are deleted.
    bygone: Bygones,
    ran: Ran,
    _lock: Lock,
}

impl Store {
    /// Opens the store, or makes it.
    ///
    /// What will not open is moved aside and a fresh epoch begins. Errors: [`StoreError::Full`] and [`StoreError::Broken`]
    /// where the disk does not let us, another process has the store, or the key-encryption key is not the store's; it may be
    /// tried again.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let lock = prepare(&options)?;
        let boottime_ns = (options.stamp)().boottime_ns;
        let mut ran = Ran::open(&options.dir, boottime_ns)?;
        let bygone = Bygones::open(&options)?;
        for id in bygone.ids().filter(|id| options.epoch_dir(*id).exists()) {
            remove_epoch(&options, id)?;
        }
        let mut found = find(&options)?;
        let pointed = read_pointer(&options);
        let mut open = open_pointed(&options, ran.at(boottime_ns), &mut found, pointed)?;
        ran.is_past(open.latest_written());
        let has_run = ran.at(boottime_ns);
        open.ran = has_run;
        if open.closed {
            open = go_on_to_successor(&options, has_run, &mut found, open)?;
        }
        write_pointer(&options, pointed, open.id)?;
        let mut resting = BTreeMap::new();
        for (id, (seal, about)) in found {
            if let Some(one) = summarised(&options, has_run, id, seal, about)? {
                resting.insert(id, one);
            }
        }
        let mut store = Self { options, open, draining: None, resting, bygone, ran, _lock: lock };
        match store.begin() {
            // What waits can be read and sent though nothing can be appended.
            Err(StoreError::Full(text)) => tracing::warn!(text, "the disk has no room; the store opens for reading"),
            other => other?,
        }
        Ok(store)
    }

    /// Draws the open epoch's run and writes its first records, and tells of epochs that were moved aside.
    fn begin(&mut self) -> Result<(), StoreError> {
        let undeclared = undeclared_damage(&self.options)?;
        let contents = undeclared.iter().map(|id| Content::EpochClosed(lost_with_store(*id))).collect();
        self.open.begin(contents)?;
        for id in undeclared {
            let path = self.options.epochs_dir().join(format!("{DAMAGED}{id}")).join("declared");
            files::replace(&path, b"").map_err(|error| disk_error("declared", &error))?;
        }
        Ok(())
    }

    fn begin_if_not_begun(&mut self) -> Result<(), StoreError> {
        if self.open.run.is_none() { self.begin() } else { Ok(()) }
    }

    /// The epoch with its database open; the one that was open before rests.
    fn with_database(&mut self, id: EpochId) -> Result<&mut Epoch, StoreError> {
        if id == self.open.id {
            return Ok(&mut self.open);
        }
        let about = self.resting.get(&id).ok_or(StoreError::NoEpoch(id))?.about.clone();
        if self.draining.as_ref().is_none_or(|epoch| epoch.id != id) {
            self.rest()?;
            self.draining = Some(self.open_resting(id, about)?);
        }
        self.draining.as_mut().ok_or(StoreError::NoEpoch(id))
    }

    /// The cursor of an epoch whose database is closed, so that it need not be opened for what it knows.
    fn cursor_of_resting(&self, id: EpochId, lane: Lane) -> Option<&Settlement> {
        let resting = self.resting.get(&id).filter(|_| self.draining.as_ref().is_none_or(|epoch| epoch.id != id))?;
        Some(&resting.lanes[lane.index()].settled)
    }

    /// Opens an epoch's database; one that is damaged is moved aside and declared.
    fn open_resting(&mut self, id: EpochId, about: About) -> Result<Epoch, StoreError> {
        let opened = match read_seal(&self.options, id)? {
            Some(seal) => Epoch::open(&self.options, self.open.ran, id, &self.options.epoch_dir(id), seal, about),
            None => Err(OpenError::Damaged("its key does not open".into())),
        };
        match opened {
            Ok(epoch) => Ok(epoch),
            Err(OpenError::Unavailable(error)) => Err(error),
            Err(OpenError::Damaged(text)) => {
                move_aside(&self.options, id, &text)?;
                self.resting.remove(&id);
                self.begin()?;
                Err(StoreError::NoEpoch(id))
            }
        }
    }

    /// Closes the database of the draining epoch once nothing of it waits: an open one is memory and a thread for nothing.
    fn rest_if_drained(&mut self) -> Result<(), StoreError> {
        let drained = self.draining.as_ref().is_some_and(|epoch| epoch.view(false).drained());
        if drained { self.rest() } else { Ok(()) }
    }

    /// Closes the database of the draining epoch and keeps what listings need.
    fn rest(&mut self) -> Result<(), StoreError> {
        if let Some(mut epoch) = self.draining.take() {
            epoch.ran = self.open.ran;
            let settled_at = self.resting.get(&epoch.id).and_then(|resting| resting.settled_at);
            let summary = epoch.summarise(settled_at)?;
            self.resting.insert(epoch.id, Resting::new(epoch.about.clone(), &summary));
        }
        Ok(())
    }

    /// Reads, quarantines what does not open, and declares it.
    fn read_from(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit, which: Which) -> Result<Chunk, StoreError> {
        if let Some(next) = self.bygone.get_mut(epoch).map(|bygone| bygone.next(lane)) {
            let next = next.min(limit.before).max(from);
            return Ok(Chunk { run: self.run(), records: vec![], unreadable: vec![], definitions: vec![], next });
        }
        let chunk = self.with_database(epoch)?.read(lane, from, limit, which)?;
        if !chunk.unreadable.is_empty() {
            tracing::error!(%epoch, %lane, count = chunk.unreadable.len(), "records do not open and are declared as gaps");
            match self.declare_unreadable(epoch, lane, &chunk.unreadable) {
                // Without room they are met, and declared, again.
                Err(StoreError::Full(_)) => {}
                other => other?,
            }
        }
        Ok(chunk)
    }

    /// Hands on to `next` what passes from epoch to epoch, and closes the open one, unless it is the `none` epoch that rests.
    pub(super) fn close_for(&mut self, next: &Epoch, reason: EpochReason) -> Result<Summary, StoreError> {
        next.take_carried(&self.open.carried()?)?;
        if self.open.about.assignment.is_some() || next.about.assignment.is_none() {
            self.open.close(reason)?;
        }
        self.open.summarise(None)
    }

    /// Removes an epoch that was made for a switch that did not happen: it must not be taken for a successor later.
    fn discard_unused(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        if self.resting.contains_key(&epoch.id) || !epoch.is_unused() {
            return Ok(());
        }
        let dir = epoch.dir.clone();
        drop(epoch);
        fs::remove_dir_all(&dir).map_err(|error| disk_error("an epoch that was never used", &error))
    }

    #[cfg(test)]
    pub(super) fn open_for_test(&mut self) -> &mut Epoch {
        &mut self.open
    }

    #[cfg(test)]
    pub(super) fn drains_for_test(&self) -> bool {
        self.draining.is_some()
    }

    #[cfg(test)]
    pub(super) fn rest_for_test(&mut self) {
        self.rest().expect("the draining epoch rests");
    }

    /// An epoch for `assignment` that takes appends as soon as it is pointed to: the resting `none` epoch, or a fresh one.
    pub(super) fn successor(&mut self, assignment: Option<&str>, reason: EpochReason) -> Result<Epoch, StoreError> {
        let resting_none = self.resting.iter().find(|(_, one)| one.about.assignment.is_none()).map(|(id, _)| *id);
        if let (None, Some(id), true) = (assignment, resting_none, reason != EpochReason::RolledBack) {
            let about = self.resting.get(&id).ok_or(StoreError::NoEpoch(id))?.about.clone();
            match self.open_resting(id, about) {
                Err(StoreError::NoEpoch(_)) => {}
                other => return other,
            }
        }
        let highest = self.resting.values().map(|one| one.about.ordinal).fold(self.open.about.ordinal, u64::max);
        let about = About {
            ordinal: highest + 1,
            assignment: assignment.map(str::to_owned),
            reason: reason.into(),
            previous: self.open.id.0.to_vec(),
        };
        create(&self.options, self.open.ran, about)
    }
}

impl Outbox for Store {
    fn append(&mut self, group: &[NewRecord]) -> Result<Vec<Appended>, StoreError> {
        self.begin_if_not_begun()?;
        self.tell_time();
        self.open.append(group)
    }

    fn define(&mut self, what: &What) -> u32 {
        self.open.definitions.number(what)
    }

    fn read(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        self.read_from(epoch, lane, from, limit, Which::Waiting)
    }

    fn settle(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        let merged = |known: &Settlement| {
            let mut merged = known.clone();
            merged.merge(settled);
            merged == *known
        };
        if let Some(bygone) = self.bygone.get_mut(epoch) {
            return bygone.settle(lane, settled);
        }
        if self.cursor_of_resting(epoch, lane).is_some_and(merged) {
            return Ok(());
        }
        self.tell_time();
        self.with_database(epoch)?.settle(lane, settled)?;
        self.rest_if_drained()
    }

    fn reset_settled(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        if self.bygone.get_mut(epoch).is_some() {
            return self.reset_bygone(epoch, lane, settled);
        }
        if self.cursor_of_resting(epoch, lane) == Some(settled) {
            return Ok(());
        }
        self.tell_time();
        self.declare_asked_for(epoch, lane, settled)?;
        self.with_database(epoch)?.reset_settled(lane, settled)
    }

    fn quarantine(&mut self, epoch: EpochId, lane: Lane, seq: u64, reason: &str) -> Result<(), StoreError> {
        if self.bygone.get_mut(epoch).is_some() {
            return Ok(());
        }
        self.with_database(epoch)?.quarantine(lane, seq, reason)
    }

    fn quarantined(&self) -> Vec<(EpochId, Lane, u64, String)> {
        let mut all = Vec::new();
        for (id, resting) in &self.resting {
            let live = self.draining.as_ref().filter(|epoch| epoch.id == *id).map(Epoch::quarantined);
            let numbers = live.unwrap_or_else(|| resting.quarantined.clone());
            all.extend(numbers.into_iter().map(|(lane, seq, reason)| (*id, lane, seq, reason)));
        }
        all.extend(self.open.quarantined().into_iter().map(|(lane, seq, reason)| (self.open.id, lane, seq, reason)));
        all
    }

    fn read_local(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        self.read_from(epoch, lane, from, limit, Which::All)
    }

    fn sealed_under(&mut self, epoch: EpochId, lane: Lane, seq: u64) -> Result<Option<RunId>, StoreError> {
        if self.bygone.get_mut(epoch).is_some() {
            return Ok(None);
        }
        self.with_database(epoch)?.run_of(lane, seq)
    }

    fn epochs(&self) -> Vec<EpochView> {
        let mut views: Vec<(u64, EpochView)> = self.bygone.views().collect();
        for (id, resting) in &self.resting {
            let live = self.draining.as_ref().filter(|epoch| epoch.id == *id).map(|epoch| epoch.view(false));
            let view = live.unwrap_or_else(|| EpochView {
                epoch: *id,
                assignment: resting.about.assignment.clone(),
                open: false,
                lanes: resting.lanes.clone(),
            });
            views.push((resting.about.ordinal, view));
        }
        views.sort_by_key(|(ordinal, _)| *ordinal);
        let mut views: Vec<_> = views.into_iter().map(|(_, view)| view).collect();
        views.push(self.open.view(true));
        views
    }

    fn switch_epoch(&mut self, assignment: Option<&str>, reason: EpochReason) -> Result<EpochId, StoreError> {
        let repeated = matches!(reason, EpochReason::First | EpochReason::AssignmentStart | EpochReason::AssignmentEnd);
        if repeated && self.open.about.assignment.as_deref() == assignment {
            return Ok(self.open.id);
        }
        if !self.options.has_last_room() {
            return Err(self.options.full());
        }
        self.begin_if_not_begun()?;
        self.rest()?;
        let next = self.successor(assignment, reason)?;
        let closed = self.close_for(&next, reason);
        if closed.is_err() && !self.open.closed {
            self.discard_unused(next)?;
            return closed.map(|_| self.open.id);
        }
        let summary = closed?;
        write_pointer(&self.options, Some(self.open.id), next.id)?;
        self.resting.remove(&next.id);
        let before = std::mem::replace(&mut self.open, next);
        self.resting.insert(before.id, Resting::new(before.about.clone(), &summary));
        self.draining = Some(before);
        self.begin()?;
        Ok(self.open.id)
    }

    fn open_epoch(&self) -> (EpochId, Option<&str>) {
        (self.open.id, self.open.about.assignment.as_deref())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.tell_time();
        self.rest()?;
        self.ran.save((self.options.stamp)().boottime_ns, true)?;
        self.open.flush()
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        self.tidy_a_step()
    }

    fn mark(&self, key: &str) -> Option<Vec<u8>> {
        self.open.mark(key).unwrap_or_else(|error| {
            tracing::warn!(%error, "a mark could not be read");
            None
        })
    }

    fn run(&self) -> RunId {
        self.open.run.map_or(RunId([0; 8]), |(_, run)| run)
    }
}

/// Makes the directories, takes the lock, removes what was in the making, and looks whether there is room to open at all.
fn prepare(options: &Options) -> Result<Lock, StoreError> {
    let epochs = options.epochs_dir();
    files::make_directory(&epochs).map_err(|error| disk_error("the store's directory", &error))?;
    let lock = files::lock(&options.dir.join("lock")).map_err(|error| disk_error("lock", &error))?;
    let lock = lock.ok_or_else(|| StoreError::Broken("another process has the store".into()))?;
    if !options.has_room(OPEN_ROOM_OCTETS) {
        return Err(StoreError::Full(format!("fewer than {OPEN_ROOM_OCTETS} octets are free")));
    }
    for name in epoch_names(options)?.iter().filter(|name| name.starts_with(NEW) || name.starts_with(GONE)) {
        fs::remove_dir_all(epochs.join(name)).map_err(|error| disk_error(name, &error))?;
    }
    files::sync_directory(&options.dir).map_err(|error| disk_error("the store's directory", &error))?;
    Ok(lock)
}

/// Every epoch whose key and papers open. One whose do not is moved aside, unless the key-encryption key is the wrong one.
fn find(options: &Options) -> Result<Found, StoreError> {
    let mut found = Found::new();
    let mut without_key = Vec::new();
    let mut without_papers = Vec::new();
    for id in epoch_names(options)?.iter().filter_map(|name| name.parse::<EpochId>().ok()) {
        let Some(seal) = read_seal(options, id)? else {
            without_key.push(id);
            continue;
        };
        match about::read_about(&options.epoch_dir(id), &seal) {
            Some(about) => drop(found.insert(id, (seal, about))),
            None => without_papers.push(id),
        }
    }
    let some_key_opens = !found.is_empty() || !without_papers.is_empty();
    check_kek(options, some_key_opens, !without_key.is_empty())?;
    for id in without_key.into_iter().chain(without_papers) {
        move_aside(options, id, "its key or its papers do not open")?;
    }
    Ok(found)
}

/// A store that was given another key must not take every epoch for damaged.
fn check_kek(options: &Options, some_key_opens: bool, some_does_not: bool) -> Result<(), StoreError> {
    let path = options.dir.join("kek");
    let label = options.kit.as_str().as_bytes();
    let kept = files::read(&path).map_err(|error| disk_error("kek", &error))?;
    let opens = kept.as_ref().is_some_and(|sealed| open_under_kek(&options.kek, label, sealed).is_ok());
    if opens {
        return Ok(());
    }
    if !some_key_opens && (some_does_not || kept.is_some()) {
        return Err(StoreError::Broken("the key-encryption key or the kit id is not this store's".into()));
    }
    let sealed = seal_under_kek(&options.kek, label, KEK_TEXT).map_err(about::no_random)?;
    files::replace(&path, &sealed).map_err(|error| disk_error("kek", &error))
}

/// Opens the epoch that takes appends. A damaged one is moved aside and a fresh one takes its place; with none at all, the
/// kit's first begins.
fn open_pointed(options: &Options, ran: u64, found: &mut Found, pointed: Option<EpochId>) -> Result<Epoch, StoreError> {
    let ordinal = found.values().map(|(_, about)| about.ordinal).max().unwrap_or(0) + 1;
    let mut fresh = About { ordinal, assignment: None, reason: EpochReason::First.into(), previous: Vec::new() };
    let chosen = match pointed {
        Some(id) if found.contains_key(&id) => Some(id),
        Some(lost) => {
            fresh.reason = EpochReason::Damaged.into();
            fresh.previous = lost.0.to_vec();
            fresh.assignment = assignment_of_damaged(options, lost);
            none_epoch(found).filter(|_| fresh.assignment.is_none())
        }
        None => without_summary(options, found, |_| true),
    };
    if let Some((id, (seal, about))) = chosen.and_then(|id| found.remove_entry(&id)) {
        match Epoch::open(options, ran, id, &options.epoch_dir(id), seal, about.clone()) {
            Ok(epoch) => return Ok(epoch),
            Err(OpenError::Unavailable(error)) => return Err(error),
            Err(OpenError::Damaged(text)) => {
                move_aside(options, id, &text)?;
                fresh.assignment = about.assignment;
                fresh.reason = EpochReason::Damaged.into();
                fresh.previous = id.0.to_vec();
            }
        }
    }
    create(options, ran, fresh)
}

/// A cut fell between the closing of an epoch and the pointing to the next one.
fn go_on_to_successor(options: &Options, ran: u64, found: &mut Found, mut closed: Epoch) -> Result<Epoch, StoreError> {
    closed.summarise(None)?;
    let made = without_summary(options, found, |about| about.previous == closed.id.0.as_slice());
    let (id, about) = (closed.id, closed.about.clone());
    let carried = closed.carried()?;
    let seal = read_seal(options, id)?.ok_or_else(|| StoreError::Broken("the closed epoch's key is gone".into()))?;
    drop(closed);
    let next = match made.or(none_epoch(found)).and_then(|next| found.remove_entry(&next)) {
        Some((next, (seal, about))) => match Epoch::open(options, ran, next, &options.epoch_dir(next), seal, about.clone()) {
            Ok(epoch) => epoch,
            Err(OpenError::Unavailable(error)) => return Err(error),
            Err(OpenError::Damaged(text)) => {
                move_aside(options, next, &text)?;
                create(options, ran, About { reason: EpochReason::Damaged.into(), previous: next.0.to_vec(), ..about })?
            }
        },
        None => {
            let ordinal = found.values().map(|(_, about)| about.ordinal).fold(about.ordinal, u64::max) + 1;
            let reason = EpochReason::AssignmentEnd.into();
            create(options, ran, About { ordinal, assignment: None, reason, previous: id.0.to_vec() })?
        }
    };
    next.take_carried(&carried)?;
    found.insert(id, (seal, about));
    Ok(next)
}

/// The latest of those epochs that never rested or closed.
fn without_summary(options: &Options, found: &Found, wanted: impl Fn(&About) -> bool) -> Option<EpochId> {
    let without = |id: &EpochId| !options.epoch_dir(*id).join("summary").exists();
    let candidates = found.iter().filter(|(id, (_, about))| wanted(about) && without(id));
    candidates.max_by_key(|(_, (_, about))| about.ordinal).map(|(id, _)| *id)
}

fn none_epoch(found: &Found) -> Option<EpochId> {
    found.iter().find(|(_, (_, about))| about.assignment.is_none()).map(|(id, _)| *id)
}

/// What listings need of an epoch that does not take appends; `None` where it was made for a switch that never happened,
/// and is removed, or is damaged, and is moved aside.
fn summarised(options: &Options, ran: u64, id: EpochId, seal: EpochSeal, about: About) -> Result<Option<Resting>, StoreError> {
    let dir = options.epoch_dir(id);
    if let Some(summary) = about::read_summary(&dir, &seal) {
        return Ok(Some(Resting::new(about, &summary)));
    }
    let mut epoch = match Epoch::open(options, ran, id, &dir, seal, about) {
        Ok(epoch) => epoch,
        Err(OpenError::Unavailable(error)) => return Err(error),
        Err(OpenError::Damaged(text)) => {
            move_aside(options, id, &text)?;
            return Ok(None);
        }
    };
    if epoch.is_unused() {
        drop(epoch);
        fs::remove_dir_all(&dir).map_err(|error| disk_error("an epoch that was never used", &error))?;
        return Ok(None);
    }
    let summary = epoch.summarise(None)?;
    Ok(Some(Resting::new(epoch.about.clone(), &summary)))
}

/// Makes a fresh epoch and opens it. It is whole before it gets its name, and takes appends once it is pointed to.
fn create(options: &Options, ran: u64, about: About) -> Result<Epoch, StoreError> {
    let mut id = EpochId([0; 16]);
    fill_random(&mut id.0).map_err(about::no_random)?;
    let seal = EpochSeal::fresh(&options.kit, id).map_err(about::no_random)?;
    let making = options.epochs_dir().join(format!("{NEW}{id}"));
    let dir = options.epoch_dir(id);
    let unavailable = |error| match error {
        OpenError::Unavailable(error) => error,
        OpenError::Damaged(text) => StoreError::Broken(format!("a fresh database does not open: {text}")),
    };
    files::make_directory(&making).map_err(|error| disk_error("a fresh epoch", &error))?;
    drop(Database::open(&database_path(&making)).map_err(unavailable)?);
    about::write_identity(&making, &seal, &options.kek, &about)?;
    fs::rename(&making, &dir).map_err(|error| disk_error("a fresh epoch", &error))?;
    files::sync_parent(&dir).map_err(|error| disk_error("a fresh epoch", &error))?;
    Epoch::open(options, ran, id, &dir, seal, about).map_err(unavailable)
}

fn epoch_names(options: &Options) -> Result<Vec<String>, StoreError> {
    files::names(&options.epochs_dir()).map_err(|error| disk_error("epochs", &error))
}

/// The epoch's keys; `None` where the file is missing or does not open.
fn read_seal(options: &Options, id: EpochId) -> Result<Option<EpochSeal>, StoreError> {
    let wrapped = files::read(&options.epoch_dir(id).join("key")).map_err(|error| disk_error("key", &error))?;
    Ok(wrapped.and_then(|wrapped| EpochSeal::unwrap(&options.kek, &options.kit, id, &wrapped).ok()))
}

fn pointer_path(options: &Options) -> PathBuf {
    options.epochs_dir().join("open")
}

fn read_pointer(options: &Options) -> Option<EpochId> {
    let octets = files::read(&pointer_path(options)).ok()??;
    std::str::from_utf8(&octets).ok()?.trim_end().parse().ok()
}

fn write_pointer(options: &Options, was: Option<EpochId>, is: EpochId) -> Result<(), StoreError> {
    if was == Some(is) {
        return Ok(());
    }
    files::replace(&pointer_path(options), format!("{is}\n").as_bytes()).map_err(|error| disk_error("open", &error))
}
