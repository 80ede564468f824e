//! One life of the outbox under one assignment, or none: its keys, its database, its segment files, its lanes.
//!
//! Appending is in [`super::append`], reading in [`super::reading`]; here are opening, cursors, quarantine and marks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kit_protocol::uplink::id::{EpochId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use prost::Message;

use super::about::{self, About, Run, Summary};
use super::block::Block;
use super::deletion::{self, FILE_CLASSES};
use super::epochs::Options;
use super::filing::Definitions;
use super::gone::Gone;
use super::outbox::{Class, EpochView, LaneView, Mark, StoreError, stays_here};
use super::seal::{EpochSeal, RunSeal, SealError};
use super::segments::{Extent, SegmentFiles};
use super::sled::{Commit, Database, OpenError, Tree};

/// The first generation of an epoch's database. Generations past the first come with retention.
const GENERATION: &str = "q-000001";
/// Origins that pass from the closing epoch to the one that opens, the newest ones.
pub(crate) const ORIGINS_CARRIED_MAX: usize = 4_096;
/// And so many in one commit, at most: all at once they cost sled 16 MB that it does not give back.
const CARRIED_ORIGINS_PER_COMMIT: usize = 128;

const KEY_CLOSED: &[u8] = b"closed";
const KEY_CHECKED: &[u8] = b"checked";
const LABEL_MARK: &[u8] = b"mark";
const LABEL_DEFINITION: &[u8] = b"definition";
const LABEL_QUARANTINE: &[u8] = b"quarantine";

/// What passes from an epoch that closes to the one that opens.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) marks: Vec<Mark>,
    pub(crate) origins: Vec<Origin>,
}

/// One lane, as it is in memory.
#[derive(Debug, Default)]
pub(crate) struct LaneState {
    /// The number the next record gets.
    pub(crate) next: u64,
    /// Sealed octets of every record of the lane.
    pub(crate) octets: u64,
    /// Sealed octets that wait.
    pub(crate) waiting: u64,
    pub(crate) settled: Settlement,
    /// Spans that were never written and are declared so; ascending.
    pub(crate) never_written: Vec<(u64, u64)>,
    /// Numbers whose records were deleted.
    pub(crate) gone: Gone,
    /// Numbers that were sealed in this run but not committed: they are declared with the next append.
    pub(crate) burnt: Option<(u64, u64)>,
}

impl LaneState {
    /// The last number of the span without records, never written or deleted, that holds `seq`.
    pub(crate) fn without_record_until(&self, seq: u64) -> Option<u64> {
        let never_written = self.never_written.iter().find(|(first, last)| (*first..=*last).contains(&seq));
        never_written.map(|(_, last)| *last).or_else(|| self.gone.until(seq))
    }
}

/// One epoch, open.
pub(crate) struct Epoch {
    pub(crate) id: EpochId,
    pub(crate) about: About,
    pub(crate) options: Options,
    pub(crate) dir: PathBuf,
    pub(crate) seal: EpochSeal,
    pub(crate) db: Database,
    pub(crate) runs: Vec<Option<Run>>,
    /// Keys of the runs met so far, by index.
    run_seals: BTreeMap<u32, RunSeal>,
    /// The run of this opening, once it was drawn: its index in `runs`.
    pub(crate) run: Option<(u32, RunId)>,
    pub(crate) lanes: [LaneState; 4],
    pub(crate) definitions: Definitions,
    pub(crate) quarantine: BTreeMap<(Lane, u64), String>,
    pub(crate) plan: SegmentFiles,
    pub(crate) continuous: SegmentFiles,
    /// How long the kit has run, nanoseconds: the time that age is counted in. Told by the store.
    pub(crate) ran: u64,
    /// Takes no appends any more.
    pub(crate) closed: bool,
    /// Cursors that are not in the database yet.
    pub(crate) unsaved_cursors: bool,
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch({}, …)", self.id)
    }
}

/// Where an epoch's database lies.
pub(crate) fn database_path(dir: &Path) -> PathBuf {
    dir.join(GENERATION)
}

impl Epoch {
    /// Opens the epoch in `dir`, after the kit has run for `ran`; nothing is appended and no run drawn.
    pub(crate) fn open(
        options: &Options,
        ran: u64,
        id: EpochId,
        dir: &Path,
        seal: EpochSeal,
        about: About,
    ) -> Result<Self, OpenError> {
        let db = Database::open(&database_path(dir))?;
        let files = |class, key| -> Result<SegmentFiles, StoreError> {
            let extent = db.get(Tree::About, key)?.and_then(|value| decode_extent(&value));
            open_files(&db, dir, class, extent)
        };
        let unavailable = OpenError::Unavailable;
        let mut epoch = Self {
            id,
            about,
            options: options.clone(),
            dir: dir.to_path_buf(),
            seal,
            runs: about::read_runs(dir).map_err(unavailable)?,
            run_seals: BTreeMap::new(),
            run: None,
            lanes: Default::default(),
            definitions: Definitions::default(),
            quarantine: BTreeMap::new(),
            plan: files(Class::PlanWaveform, extent_key(Class::PlanWaveform)).map_err(unavailable)?,
            continuous: files(Class::ContinuousWaveform, extent_key(Class::ContinuousWaveform)).map_err(unavailable)?,
            closed: db.get(Tree::About, KEY_CLOSED).map_err(unavailable)?.is_some(),
            unsaved_cursors: false,
            ran,
            db,
        };
        epoch.load().map_err(|error| OpenError::Damaged(error.to_string()))?;
        Ok(epoch)
    }

    /// As listings and the planner see it.
    pub(crate) fn view(&self, open: bool) -> EpochView {
        EpochView {
            epoch: self.id,
            assignment: self.about.assignment.clone(),
            open,
            lanes: Lane::ALL.map(|lane| self.lane_view(lane)),
        }
    }

    /// Quarantined numbers with their reasons.
    pub(crate) fn quarantined(&self) -> Vec<(Lane, u64, String)> {
        self.quarantine.iter().map(|((lane, seq), reason)| (*lane, *seq, reason.clone())).collect()
    }

    /// Nothing was ever appended to it.
    pub(crate) fn is_unused(&self) -> bool {
        self.lanes.iter().all(|lane| lane.next == 1)
    }

    /// Makes cursors durable.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        let mut commit = Commit::default();
        self.put_cursors(&mut commit);
        self.db.commit(commit)?;
        self.unsaved_cursors = false;
        Ok(())
    }

    /// Leaves what listings need beside the database, so that it need not be opened for them. `settled_at` is when all of it
    /// was seen to be settled, if it was before.
    pub(crate) fn summarise(&mut self, settled_at: Option<u64>) -> Result<Summary, StoreError> {
        self.flush()?;
        let mut summary = Summary::new(self.id, &Lane::ALL.map(|lane| self.lane_view(lane)), &self.quarantined());
        summary.settled_at = self.is_settled().then(|| settled_at.unwrap_or(self.ran));
        [summary.oldest_plan, summary.oldest_continuous] = FILE_CLASSES.map(|class| self.oldest_written(class));
        about::write_summary(&self.dir, &self.seal, &summary)?;
        Ok(summary)
    }

    /// Merges what the centre settled.
    pub(crate) fn settle(&mut self, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        self.refuse_foreign(lane, settled)?;
        let mut merged = self.lane(lane).settled.clone();
        merged.merge(settled);
        self.take_cursor(lane, merged)
    }

    /// Replaces what is known to be settled.
    pub(crate) fn reset_settled(&mut self, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        self.refuse_foreign(lane, settled)?;
        self.take_cursor(lane, settled.clone())?;
        self.release_forgotten(lane)
    }

    /// Lets go what was quarantined and is not settled by the centre's database, unless it stays here.
    fn release_forgotten(&mut self, lane: Lane) -> Result<(), StoreError> {
        let settled = &self.lane(lane).settled;
        let of_lane = self.quarantine.iter().filter(|((of, _), _)| *of == lane);
        let forgotten = of_lane.filter(|((_, seq), reason)| !settled.contains(*seq) && !stays_here(reason));
        let forgotten: Vec<u64> = forgotten.map(|((_, seq), _)| *seq).collect();
        let mut commit = Commit::default();
        forgotten.iter().for_each(|seq| commit.remove(Tree::Quarantine, &lane_key(lane, *seq)));
        if !commit.is_empty() {
            self.put_cursors(&mut commit);
            self.db.commit(commit)?;
            self.unsaved_cursors = false;
        }
        forgotten.into_iter().for_each(|seq| drop(self.quarantine.remove(&(lane, seq))));
        Ok(())
    }

    /// Keeps a record from being sent.
    pub(crate) fn quarantine(&mut self, lane: Lane, seq: u64, reason: &str) -> Result<(), StoreError> {
        let sealed = self.seal.seal_loose(LABEL_QUARANTINE, reason.as_bytes()).map_err(about::no_random)?;
        let mut commit = Commit::default();
        commit.put(Tree::Quarantine, &lane_key(lane, seq), &sealed);
        self.put_cursors(&mut commit);
        self.db.commit(commit)?;
        self.unsaved_cursors = false;
        self.quarantine.insert((lane, seq), reason.to_owned());
        Ok(())
    }

    /// What was marked last under `label`.
    pub(crate) fn mark(&self, label: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(sealed) = self.db.get(Tree::Marks, &self.seal.name(label))? else { return Ok(None) };
        Ok(self.open_mark(&sealed).map(|mark| mark.value))
    }

    /// What passes on to the epoch that opens after this one.
    pub(crate) fn carried(&self) -> Result<Carried, StoreError> {
        let mut marks = Vec::new();
        for pair in self.db.from(Tree::Marks, &[])? {
            marks.extend(self.open_mark(&pair?.1));
        }
        let mut origins = Vec::new();
        for pair in self.db.from(Tree::Origins, &[])? {
            let (origin, order) = pair?;
            origins.extend(Origin::from_slice(&origin).zip(decode_u64(&order)));
        }
        origins.sort_unstable_by_key(|(_, order)| std::cmp::Reverse(*order));
        origins.truncate(ORIGINS_CARRIED_MAX);
        Ok(Carried { marks, origins: origins.into_iter().map(|(origin, _)| origin).collect() })
    }

    /// Takes in what the epoch before it carried; durable.
    pub(crate) fn take_carried(&self, carried: &Carried) -> Result<(), StoreError> {
        let mut commit = Commit::default();
        for mark in &carried.marks {
            self.put_mark(&mut commit, mark)?;
        }
        if !commit.is_empty() {
            self.db.commit(commit)?;
        }
        for origins in carried.origins.chunks(CARRIED_ORIGINS_PER_COMMIT) {
            let mut commit = Commit::default();
            for origin in origins {
                if self.db.get(Tree::Origins, &origin.0)?.is_none() {
                    commit.put(Tree::Origins, &origin.0, &0_u64.to_be_bytes());
                }
            }
            if !commit.is_empty() {
                self.db.commit(commit)?;
            }
        }
        Ok(())
    }

    pub(crate) fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane.index()]
    }

    pub(crate) fn lane_mut(&mut self, lane: Lane) -> &mut LaneState {
        &mut self.lanes[lane.index()]
    }

    /// The key of run `index`, derived once; `None` where its entry is damaged or missing.
    pub(crate) fn run_seal(&mut self, index: u32) -> Result<Option<&RunSeal>, SealError> {
        if !self.run_seals.contains_key(&index) {
            let run = usize::try_from(index).ok().and_then(|index| self.runs.get(index).copied()).flatten();
            let Some(run) = run else { return Ok(None) };
            self.run_seals.insert(index, self.seal.run(run.id, &run.salt, run.algorithm)?);
        }
        Ok(self.run_seals.get(&index))
    }

    /// The files of a class; single values have none and are never asked for.
    pub(crate) fn segment_files(&mut self, class: Class) -> &mut SegmentFiles {
        match class {
            Class::Value | Class::PlanWaveform => &mut self.plan,
            Class::ContinuousWaveform => &mut self.continuous,
        }
    }

    /// Whether `seq` is not to be sent though it is not settled.
    pub(crate) fn is_withheld(&self, lane: Lane, seq: u64) -> bool {
        self.quarantine.contains_key(&(lane, seq)) || self.lane(lane).without_record_until(seq).is_some()
    }

    /// Whether the centre has settled every number.
    pub(crate) fn is_settled(&self) -> bool {
        self.lanes.iter().all(|lane| lane.settled.settled_upto() + 1 >= lane.next)
    }

    /// Adds every lane's cursor.
    pub(crate) fn put_cursors(&self, commit: &mut Commit) {
        for lane in Lane::ALL {
            let cursor = self.lane(lane).settled.to_wire(self.id, lane).encode_to_vec();
            commit.put(Tree::Settled, &[lane_index(lane)], &cursor);
        }
    }

    /// Adds a mark.
    pub(crate) fn put_mark(&self, commit: &mut Commit, mark: &Mark) -> Result<(), StoreError> {
        let sealed = self.seal.seal_loose(LABEL_MARK, &encode_mark(mark)).map_err(about::no_random)?;
        commit.put(Tree::Marks, &self.seal.name(&mark.key), &sealed);
        Ok(())
    }

    /// Adds the definitions that are not on the disk.
    pub(crate) fn put_definitions(&self, commit: &mut Commit) -> Result<(), StoreError> {
        for definition in self.definitions.fresh() {
            let sealed = self.seal.seal_loose(LABEL_DEFINITION, &definition.encode_to_vec()).map_err(about::no_random)?;
            commit.put(Tree::Definitions, &definition.number.to_be_bytes(), &sealed);
        }
        Ok(())
    }

    /// Adds that the epoch takes no appends from here on.
    pub(crate) fn put_closed(commit: &mut Commit) {
        commit.put(Tree::About, KEY_CLOSED, &[1]);
    }

    /// Numbers below `next` that have no record and are not declared, by lane; looked for from the number up to which an
    /// earlier opening had looked.
    pub(crate) fn undeclared(&self) -> Result<Vec<(Lane, u64, u64)>, StoreError> {
        let checked = self.checked()?;
        let mut holes = Vec::new();
        for lane in Lane::ALL {
            let state = self.lane(lane);
            let from = checked[lane.index()];
            let mut present = self.spans(lane, from)?;
            present.extend(&state.never_written);
            present.extend(state.gone.spans().map(|(first, last, _)| (first, last)));
            present.sort_unstable();
            holes.extend(holes_between(from, state.next, &present).into_iter().map(|(first, last)| (lane, first, last)));
        }
        Ok(holes)
    }

    /// Adds that every number below `next` is accounted for.
    pub(crate) fn put_checked(commit: &mut Commit, next: &[u64; 4]) {
        let octets: Vec<u8> = next.iter().flat_map(|number| number.to_be_bytes()).collect();
        commit.put(Tree::About, KEY_CHECKED, &octets);
    }

    /// Sealed octets of every record the lane ever had below `seq`, as the value before it tells and as the one after it does:
    /// they differ by what was deleted between them.
    fn octets_below(&self, lane: Lane, seq: u64) -> Result<(u64, u64), StoreError> {
        let mut before = 0;
        if let Some((key, value)) = self.db.at_or_below(lane_tree(lane), &seq.to_be_bytes())? {
            let (Some(first), Some(block)) = (decode_u64(&key), Block::parse(&value)) else { return Ok((0, 0)) };
            before = block.before + block.octets_below(seq - first);
            if seq - first < u64::try_from(block.entries.len()).unwrap_or(u64::MAX) {
                return Ok((before, before));
            }
        }
        let next = self.db.from(lane_tree(lane), &seq.to_be_bytes())?.next().transpose()?;
        let after = next.and_then(|(_, value)| Block::parse(&value).map(|block| block.before));
        Ok((before, after.unwrap_or(before)))
    }

    /// The run under which record `seq` was sealed; `None` where there is no such record.
    pub(crate) fn run_of(&self, lane: Lane, seq: u64) -> Result<Option<RunId>, StoreError> {
        let Some((key, value)) = self.db.at_or_below(lane_tree(lane), &seq.to_be_bytes())? else { return Ok(None) };
        let (Some(first), Some(block)) = (decode_u64(&key), Block::parse(&value)) else { return Ok(None) };
        let holds_it = seq - first < u64::try_from(block.entries.len()).unwrap_or(u64::MAX);
        let run = usize::try_from(block.run).ok().and_then(|index| self.runs.get(index).copied()).flatten();
        Ok(run.filter(|_| holds_it).map(|run| run.id))
    }

    /// An older image of the store would take a newer one's acknowledgements for its own.
    pub(crate) fn refuse_foreign(&self, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        let named = settled.ranges().iter().map(|range| (range.last, range.run));
        for (seq, run) in std::iter::once((settled.settled_upto(), settled.settled_upto_run())).chain(named) {
            let foreign = StoreError::Foreign { epoch: self.id, lane, seq };
            if seq >= self.lane(lane).next {
                return Err(foreign);
            }
            let ours = if run.is_some() { self.run_of(lane, seq)? } else { None };
            if ours.is_some() && ours != run {
                return Err(foreign);
            }
        }
        Ok(())
    }

    fn take_cursor(&mut self, lane: Lane, settled: Settlement) -> Result<(), StoreError> {
        if self.lane(lane).settled == settled {
            return Ok(());
        }
        self.lane_mut(lane).settled = settled;
        self.count_waiting(lane)?;
        self.unsaved_cursors = true;
        // Where there is hardly any room the cursor waits in memory for the next append: what a cut takes back of it is
        // acknowledged again.
        if self.options.has_last_room() {
            let mut commit = Commit::default();
            self.put_cursors(&mut commit);
            self.db.write(commit)?;
            self.unsaved_cursors = false;
        }
        Ok(())
    }

    fn lane_view(&self, lane: Lane) -> LaneView {
        let state = self.lane(lane);
        LaneView { oldest: self.oldest(lane), next: state.next, settled: state.settled.clone(), octets: state.waiting }
    }

    /// The lowest number that waits to be sent.
    fn oldest(&self, lane: Lane) -> u64 {
        let state = self.lane(lane);
        let mut seq = state.settled.next_unsettled(0);
        while seq < state.next {
            let withheld_until = match state.without_record_until(seq) {
                Some(last) => last,
                None if self.quarantine.contains_key(&(lane, seq)) => seq,
                None => break,
            };
            seq = state.settled.next_unsettled(withheld_until);
        }
        seq.min(state.next)
    }

    pub(crate) fn count_waiting(&mut self, lane: Lane) -> Result<(), StoreError> {
        let state = self.lane(lane);
        let mut done = vec![(1, state.settled.settled_upto())];
        done.extend(state.settled.ranges().iter().map(|range| (range.first, range.last)));
        done.extend(state.gone.spans().map(|(first, last, _)| (first, last)));
        done.extend(&state.never_written);
        let mut octets = 0;
        for (first, last) in joined(done) {
            let upto = self.octets_below(lane, last.saturating_add(1))?.1;
            octets += upto.saturating_sub(self.octets_below(lane, first)?.0);
        }
        let waiting = state.octets.saturating_sub(octets);
        self.lane_mut(lane).waiting = waiting;
        Ok(())
    }

    fn load(&mut self) -> Result<(), StoreError> {
        for lane in Lane::ALL {
            self.load_lane(lane)?;
        }
        for pair in self.db.from(Tree::NeverWritten, &[])? {
            let (key, last) = pair?;
            if let (Some((lane, first)), Some(last)) = (decode_lane_key(&key), decode_u64(&last)) {
                self.lane_mut(lane).never_written.push((first, last));
            }
        }
        for pair in self.db.from(Tree::Gone, &[])? {
            let (key, value) = pair?;
            if let Some((lane, first)) = decode_lane_key(&key) {
                self.lane_mut(lane).gone.restore(first, &value);
            }
        }
        for pair in self.db.from(Tree::Definitions, &[])? {
            let opened = self.seal.open_loose(LABEL_DEFINITION, &pair?.1);
            match opened.map(|octets| wire::Definition::decode(octets.as_slice())) {
                Ok(Ok(wire::Definition { number, what: Some(what) })) => self.definitions.restore(number, what),
                _ => tracing::error!(epoch = %self.id, "a definition does not open; records that use it arrive without it"),
            }
        }
        for pair in self.db.from(Tree::Quarantine, &[])? {
            let (key, sealed) = pair?;
            let reason = self.seal.open_loose(LABEL_QUARANTINE, &sealed).unwrap_or_default();
            if let Some((lane, seq)) = decode_lane_key(&key) {
                self.quarantine.insert((lane, seq), String::from_utf8_lossy(&reason).into_owned());
            }
        }
        Lane::ALL.into_iter().try_for_each(|lane| self.count_waiting(lane))
    }

    fn load_lane(&mut self, lane: Lane) -> Result<(), StoreError> {
        let kept = self.db.get(Tree::Next, &[lane_index(lane)])?.and_then(|value| decode_u64(&value)).unwrap_or(1);
        let last = self.db.at_or_below(lane_tree(lane), &u64::MAX.to_be_bytes())?;
        let (mut after_last, mut octets) = (1, 0);
        if let Some((key, value)) = last {
            let block = Block::parse(&value).ok_or_else(|| StoreError::Broken(format!("the last value of {lane} is damaged")))?;
            after_last = decode_u64(&key).unwrap_or(0) + u64::try_from(block.entries.len()).unwrap_or(0);
            octets = block.before + block.octets_below(u64::MAX);
        }
        let cursor = self.db.get(Tree::Settled, &[lane_index(lane)])?;
        let cursor = cursor.and_then(|octets| wire::LaneSettlement::decode(octets.as_slice()).ok());
        let state = self.lane_mut(lane);
        state.next = kept.max(after_last);
        state.octets = octets;
        state.settled = cursor.as_ref().map(Settlement::from_wire).unwrap_or_default();
        Ok(())
    }

    fn checked(&self) -> Result<[u64; 4], StoreError> {
        let value = self.db.get(Tree::About, KEY_CHECKED)?.unwrap_or_default();
        let mut checked = [1; 4];
        for (number, octets) in checked.iter_mut().zip(value.chunks_exact(8)) {
            *number = decode_u64(octets).unwrap_or(1);
        }
        Ok(checked)
    }

    /// Spans of numbers that have a record, from `from` on. A value that does not parse counts up to the next one: its
    /// records were written, and turn out unreadable.
    fn spans(&self, lane: Lane, from: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let start =
            self.db.at_or_below(lane_tree(lane), &from.to_be_bytes())?.map_or(from, |(key, _)| decode_u64(&key).unwrap_or(from));
        let mut spans: Vec<(u64, u64)> = Vec::new();
        let mut open_ended = false;
        for pair in self.db.from(lane_tree(lane), &start.to_be_bytes())? {
            let (key, value) = pair?;
            let Some(first) = decode_u64(&key) else { continue };
            if let (true, Some(before)) = (open_ended, spans.last_mut()) {
                before.1 = first.saturating_sub(1);
            }
            let count = Block::parse(&value).map(|block| u64::try_from(block.entries.len()).unwrap_or(u64::MAX));
            open_ended = count.is_none();
            spans.push((first, first.saturating_add(count.unwrap_or(1)).saturating_sub(1)));
        }
        if let (true, Some(last)) = (open_ended, spans.last_mut()) {
            last.1 = last.1.max(self.lane(lane).next.saturating_sub(1));
        }
        Ok(spans)
    }

    fn open_mark(&self, sealed: &[u8]) -> Option<Mark> {
        decode_mark(&self.seal.open_loose(LABEL_MARK, sealed).ok()?)
    }
}

/// The tree of a lane's records.
pub(crate) fn lane_tree(lane: Lane) -> Tree {
    Tree::Lane(lane_index(lane))
}

/// A lane's place, as a key.
pub(crate) fn lane_index(lane: Lane) -> u8 {
    u8::try_from(lane.index()).unwrap_or(u8::MAX)
}

/// Key of one number of one lane. Shape: lane (1) · number (u64, big-endian).
pub(crate) fn lane_key(lane: Lane, seq: u64) -> [u8; 9] {
    let mut key = [lane_index(lane); 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Where the extent of a class's files stands.
pub(crate) fn extent_key(class: Class) -> &'static [u8] {
    match class {
        Class::Value | Class::PlanWaveform => b"extent-wp",
        Class::ContinuousWaveform => b"extent-wc",
    }
}

/// Shape: file (u32) · end (u64), big-endian.
pub(crate) fn encode_extent(extent: Extent) -> [u8; 12] {
    let mut octets = [0; 12];
    octets[..4].copy_from_slice(&extent.file.to_be_bytes());
    octets[4..].copy_from_slice(&extent.end.to_be_bytes());
    octets
}

fn decode_extent(octets: &[u8]) -> Option<Extent> {
    let (file, end) = octets.split_at_checked(4)?;
    Some(Extent { file: u32::from_be_bytes(file.try_into().ok()?), end: decode_u64(end)? })
}

pub(crate) fn decode_u64(octets: &[u8]) -> Option<u64> {
    octets.try_into().ok().map(u64::from_be_bytes)
}

fn decode_lane_key(key: &[u8]) -> Option<(Lane, u64)> {
    let (index, seq) = key.split_first()?;
    Some((*Lane::ALL.get(usize::from(*index))?, decode_u64(seq)?))
}

/// The segment files of a class, without those that are deleted: what a cut left of these is removed here.
fn open_files(db: &Database, dir: &Path, class: Class, extent: Option<Extent>) -> Result<SegmentFiles, StoreError> {
    let (contents, deleted) = deletion::load_files(db, class)?;
    let open = || {
        let mut files = SegmentFiles::open(dir, class, extent, contents)?;
        if !deleted.is_empty() {
            files.delete(&deleted)?;
        }
        Ok(files)
    };
    let files = open().map_err(|error: std::io::Error| super::files::disk_error("segment files", &error))?;
    let mut commit = Commit::default();
    deleted.iter().for_each(|file| commit.remove(Tree::Files, &deletion::file_key(class, *file)));
    if !commit.is_empty() {
        db.write(commit)?;
    }
    Ok(files)
}

/// Spans in order, those that touch or overlap as one.
fn joined(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.retain(|(first, last)| first <= last);
    spans.sort_unstable();
    spans.dedup_by(|(first, last), before| {
        let touches = *first <= before.1.saturating_add(1);
        if touches {
            before.1 = before.1.max(*last);
        }
        touches
    });
    spans
}

/// What `present` (ascending by first number) leaves out between `from` and `next`.
fn holes_between(from: u64, next: u64, present: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut expected = from.max(1);
    for (first, last) in present {
        if *first > expected && expected < next {
            holes.push((expected, (first - 1).min(next - 1)));
        }
        expected = expected.max(last.saturating_add(1));
    }
    if expected < next {
        holes.push((expected, next - 1));
    }
    holes
}

/// Shape: length of the label (u16, big-endian) · label · value.
fn encode_mark(mark: &Mark) -> Vec<u8> {
    let mut octets = Vec::with_capacity(2 + mark.key.len() + mark.value.len());
    octets.extend_from_slice(&u16::try_from(mark.key.len()).unwrap_or(u16::MAX).to_be_bytes());
    octets.extend_from_slice(mark.key.as_bytes());
    octets.extend_from_slice(&mark.value);
    octets
}

fn decode_mark(octets: &[u8]) -> Option<Mark> {
    let (length, rest) = octets.split_at_checked(2)?;
    let (label, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(length.try_into().ok()?)))?;
    Some(Mark { key: String::from_utf8(label.to_vec()).ok()?, value: value.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_holes_are_what_no_span_covers() {
        assert_eq!(holes_between(1, 1, &[]), []);
        assert_eq!(holes_between(1, 4, &[]), [(1, 3)]);
        assert_eq!(holes_between(1, 10, &[(1, 3), (6, 7)]), [(4, 5), (8, 9)]);
        assert_eq!(holes_between(5, 10, &[(1, 6), (7, 9)]), []);
        assert_eq!(holes_between(1, 5, &[(3, 9)]), [(1, 2)]);
        assert_eq!(holes_between(1, 9, &[(2, 7), (3, 4)]), [(1, 1), (8, 8)]);
    }

    #[test]
    fn spans_that_touch_are_one() {
        assert_eq!(joined(vec![(1, 0), (7, 9), (1, 4), (5, 5), (8, 20), (22, 22)]), [(1, 5), (7, 20), (22, 22)]);
    }

    #[test]
    fn a_mark_is_read_back_whatever_it_holds() {
        for mark in [Mark { key: "aa:bb/record".into(), value: vec![0, 1, 2] }, Mark { key: String::new(), value: vec![] }] {
            assert_eq!(decode_mark(&encode_mark(&mark)), Some(mark));
        }
        assert_eq!(decode_mark(&[0, 9, 1]), None);
    }
}
