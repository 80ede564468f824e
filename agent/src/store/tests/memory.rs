//! An outbox in memory, for tests: the contract in its plainest form, with what a crash takes and leaves.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use kit_protocol::uplink::id::{BootId, EpochId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, EpochReason, definition::What, record::Content};

use super::filing::{Definitions, Stamp, file, gap, journal_draft};
use super::gone::{Fate, Gone};
use super::outbox::{Appended, Chunk, EpochView, LaneView, NewRecord, Outbox, ReadLimit, StoreError, stays_here};

/// What outlives a crash, and what a test may do to it.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    kept: Kept,
    /// Runs drawn so far, from which ids are made.
    openings: u64,
    /// Refuses appends.
    pub(crate) full: bool,
    /// Fails the next commit, before or after it reached the disk.
    pub(crate) fail_next_commit: Option<Fail>,
}

/// When a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fail {
    Before,
    After,
    Panic,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    epochs: Vec<Epoch>,
    open: usize,
    marks: BTreeMap<String, Vec<u8>>,
    origins: HashSet<Origin>,
    quarantine: BTreeMap<(EpochId, Lane, u64), String>,
}

#[derive(Clone, Debug)]
struct Epoch {
    id: EpochId,
    assignment: Option<String>,
    lanes: [LaneRecords; 4],
    definitions: Vec<wire::Definition>,
}

#[derive(Clone, Debug, Default)]
struct LaneRecords {
    records: BTreeMap<u64, (RunId, Arc<[u8]>)>,
    settled: Settlement,
    /// The last number given.
    last: u64,
    gone: Gone,
}

impl LaneRecords {
    fn next(&self) -> u64 {
        self.last + 1
    }

    fn is_settled(&self) -> bool {
        self.settled.settled_upto() >= self.last
    }

    /// Deletes what is settled.
    fn purge(&mut self) -> bool {
        let settled: Vec<u64> = self.records.keys().copied().filter(|seq| self.settled.contains(*seq)).collect();
        for seq in &settled {
            self.records.remove(seq);
            self.gone.mark(*seq, *seq, Fate::Acknowledged);
        }
        !settled.is_empty()
    }
}

/// The outbox over a [`Disk`].
#[derive(Debug)]
pub(crate) struct MemoryOutbox {
    disk: Arc<Mutex<Disk>>,
    live: Kept,
    definitions: Definitions,
    run: RunId,
}

impl MemoryOutbox {
    pub(crate) fn open(disk: &Arc<Mutex<Disk>>) -> Self {
        let (live, run) = {
            let mut disk = disk.lock().unwrap();
            disk.openings += 1;
            (disk.kept.clone(), RunId(disk.openings.to_be_bytes()))
        };
        let mut outbox = Self { disk: Arc::clone(disk), live, definitions: Definitions::default(), run };
        if outbox.live.epochs.is_empty() {
            outbox.begin(None, EpochReason::First, Vec::new());
        } else {
            outbox.restore_definitions();
        }
        outbox
    }

    fn restore_definitions(&mut self) {
        self.definitions = Definitions::default();
        for wire::Definition { number, what } in self.live.epochs[self.live.open].definitions.clone() {
            self.definitions.restore(number, what.unwrap());
        }
    }

    fn begin(&mut self, assignment: Option<&str>, reason: EpochReason, previous: Vec<u8>) {
        let mut id = EpochId([0xE0; 16]);
        id.0[15] = u8::try_from(self.live.epochs.len() + 1).unwrap();
        let lanes = Default::default();
        self.live.epochs.push(Epoch { id, assignment: assignment.map(str::to_owned), lanes, definitions: Vec::new() });
        self.live.open = self.live.epochs.len() - 1;
        self.definitions = Definitions::default();
        let opened = wire::EpochOpened {
            epoch: id.0.to_vec(),
            assignment: 0,
            reason: reason.into(),
            previous,
            boot_id: BootId([7; 16]).0.to_vec(),
        };
        self.append_own(Content::EpochOpened(opened));
    }

    fn append_own(&mut self, content: Content) {
        let stamp = Stamp { boottime_ns: 1, clock: wire::Clock { boot_id: vec![7; 16], ..Default::default() } };
        let assignment = self.current().assignment.clone();
        let definitions = &mut self.definitions;
        let record = file(journal_draft(stamp, content), assignment.as_deref(), &mut |what| definitions.number(what));
        self.take(&record);
        self.save();
    }

    fn current(&self) -> &Epoch {
        &self.live.epochs[self.live.open]
    }

    fn take(&mut self, record: &NewRecord) -> Appended {
        self.live.marks.extend(record.marks.iter().map(|mark| (mark.key.clone(), mark.value.clone())));
        if record.origin.is_some_and(|origin| !self.live.origins.insert(origin)) {
            return Appended::Known;
        }
        let fresh: Vec<_> = self.definitions.fresh().collect();
        self.definitions.committed();
        let epoch = &mut self.live.epochs[self.live.open];
        epoch.definitions.extend(fresh);
        let lane = &mut epoch.lanes[record.lane.index()];
        let seq = lane.next();
        lane.records.insert(seq, (self.run, record.bytes.as_slice().into()));
        lane.last = seq;
        Appended::New { epoch: epoch.id, seq }
    }

    fn save(&self) {
        self.disk.lock().unwrap().kept = self.live.clone();
    }

    fn epoch(&self, id: EpochId) -> Result<&Epoch, StoreError> {
        self.live.epochs.iter().find(|epoch| epoch.id == id).ok_or(StoreError::NoEpoch(id))
    }

    fn lane_mut(&mut self, id: EpochId, lane: Lane) -> Result<&mut LaneRecords, StoreError> {
        let epoch = self.live.epochs.iter_mut().find(|epoch| epoch.id == id).ok_or(StoreError::NoEpoch(id))?;
        Ok(&mut epoch.lanes[lane.index()])
    }

    fn refuse_foreign(&self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        let records = &self.epoch(epoch)?.lanes[lane.index()];
        let upto = (settled.settled_upto(), settled.settled_upto_run());
        for (seq, run) in settled.ranges().iter().map(|range| (range.last, range.run)).chain([upto]) {
            let other = records.records.get(&seq).is_some_and(|(ours, _)| run.is_some_and(|run| run != *ours));
            if other || seq >= records.next() {
                return Err(StoreError::Foreign { epoch, lane, seq });
            }
        }
        Ok(())
    }

    fn read_where(
        &self,
        epoch: EpochId,
        lane: Lane,
        from: u64,
        limit: ReadLimit,
        waits: impl Fn(u64) -> bool,
    ) -> Result<Chunk, StoreError> {
        let known = self.epoch(epoch)?;
        let mut chunk =
            Chunk { run: self.run, records: Vec::new(), unreadable: Vec::new(), definitions: Vec::new(), next: from.max(1) };
        let mut octets = 0;
        let records = &known.lanes[lane.index()].records;
        for (seq, (run, bytes)) in records.range(from.max(1)..).take_while(|(seq, _)| **seq < limit.before) {
            if waits(*seq) {
                let first = chunk.records.is_empty();
                let fits = chunk.records.len() < limit.records && octets + bytes.len() <= limit.octets;
                if !first && (!fits || *run != chunk.run) {
                    return Ok(Self::with_definitions(known, chunk));
                }
                (chunk.run, octets) = (*run, octets + bytes.len());
                chunk.records.push((*seq, bytes.to_vec()));
            }
            chunk.next = seq + 1;
        }
        chunk.next = chunk.next.max(known.lanes[lane.index()].next().min(limit.before));
        Ok(Self::with_definitions(known, chunk))
    }

    fn with_definitions(epoch: &Epoch, mut chunk: Chunk) -> Chunk {
        let mut definitions = Definitions::default();
        for definition in &epoch.definitions {
            definitions.restore(definition.number, definition.what.clone().unwrap());
        }
        chunk.definitions = definitions.used_by(chunk.records.iter().map(|(_, bytes)| bytes.as_slice()));
        chunk
    }

    fn view(&self, epoch: &Epoch, open: bool) -> EpochView {
        let lanes = Lane::ALL.map(|lane| {
            let records = &epoch.lanes[lane.index()];
            let waits =
                |seq: &u64| !records.settled.contains(*seq) && !self.live.quarantine.contains_key(&(epoch.id, lane, *seq));
            let unsettled = records.records.iter().filter(|(seq, _)| !records.settled.contains(**seq));
            LaneView {
                oldest: records.records.keys().copied().find(waits).unwrap_or(records.next()),
                next: records.next(),
                settled: records.settled.clone(),
                octets: unsettled.map(|(_, (_, bytes))| u64::try_from(bytes.len()).unwrap() + 16).sum(),
            }
        });
        EpochView { epoch: epoch.id, assignment: epoch.assignment.clone(), open, lanes }
    }
}

impl Outbox for MemoryOutbox {
    fn append(&mut self, group: &[NewRecord]) -> Result<Vec<Appended>, StoreError> {
        group.iter().try_for_each(NewRecord::check_size)?;
        let (full, fail) = {
            let mut disk = self.disk.lock().unwrap();
            (disk.full, disk.fail_next_commit.take())
        };
        if full {
            return Err(StoreError::Full("the disk of the test is full".into()));
        }
        match fail {
            Some(Fail::Before) => return Err(StoreError::Broken("failed before the commit".into())),
            Some(Fail::Panic) => panic!("the test's panic"),
            Some(Fail::After) | None => {}
        }
        let answers = group.iter().map(|record| self.take(record)).collect();
        self.save();
        if fail.is_some() { Err(StoreError::Broken("failed after the commit".into())) } else { Ok(answers) }
    }

    fn define(&mut self, what: &What) -> u32 {
        self.definitions.number(what)
    }

    fn read(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        let settled = self.epoch(epoch)?.lanes[lane.index()].settled.clone();
        let withheld: BTreeSet<_> = self.live.quarantine.keys().copied().collect();
        self.read_where(epoch, lane, from, limit, |seq| !settled.contains(seq) && !withheld.contains(&(epoch, lane, seq)))
    }

    fn settle(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        self.refuse_foreign(epoch, lane, settled)?;
        self.lane_mut(epoch, lane)?.settled.merge(settled);
        Ok(())
    }

    fn reset_settled(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        self.refuse_foreign(epoch, lane, settled)?;
        self.lane_mut(epoch, lane)?.settled = settled.clone();
        let asked_for = self.epoch(epoch)?.lanes[lane.index()].gone.asked_for_by(settled);
        for span in asked_for {
            self.append_own(gap(epoch, lane, span, wire::GapReason::PurgedAfterAck, (0, 0)));
            self.lane_mut(epoch, lane)?.gone.mark(span.0, span.1, Fate::Declared);
            self.save();
        }
        let forgotten = |(id, of, seq): &(EpochId, Lane, u64), reason: &str| {
            (*id, *of) == (epoch, lane) && !settled.contains(*seq) && !stays_here(reason)
        };
        let before = self.live.quarantine.len();
        self.live.quarantine.retain(|key, reason| !forgotten(key, reason));
        if self.live.quarantine.len() < before {
            self.save();
        }
        Ok(())
    }

    fn quarantine(&mut self, epoch: EpochId, lane: Lane, seq: u64, reason: &str) -> Result<(), StoreError> {
        self.epoch(epoch)?;
        self.live.quarantine.insert((epoch, lane, seq), reason.to_owned());
        self.save();
        Ok(())
    }

    fn quarantined(&self) -> Vec<(EpochId, Lane, u64, String)> {
        let quarantine = self.live.quarantine.iter();
        quarantine.map(|((epoch, lane, seq), reason)| (*epoch, *lane, *seq, reason.clone())).collect()
    }

    fn read_local(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        self.read_where(epoch, lane, from, limit, |_| true)
    }

    fn sealed_under(&mut self, epoch: EpochId, lane: Lane, seq: u64) -> Result<Option<RunId>, StoreError> {
        Ok(self.epoch(epoch)?.lanes[lane.index()].records.get(&seq).map(|(run, _)| *run))
    }

    fn epochs(&self) -> Vec<EpochView> {
        let others = self.live.epochs.iter().enumerate().filter(|(index, _)| *index != self.live.open);
        let mut views: Vec<_> = others.map(|(_, epoch)| self.view(epoch, false)).collect();
        views.push(self.view(self.current(), true));
        views
    }

    fn switch_epoch(&mut self, assignment: Option<&str>, reason: EpochReason) -> Result<EpochId, StoreError> {
        let open = self.current();
        let (id, was) = (open.id, open.assignment.clone());
        let repeated = matches!(reason, EpochReason::First | EpochReason::AssignmentStart | EpochReason::AssignmentEnd);
        if repeated && was.as_deref() == assignment {
            return Ok(id);
        }
        if was.is_some() {
            let last = |lane: Lane| open.lanes[lane.index()].next() - u64::from(lane != Lane::Journal);
            let ends = Lane::ALL.map(|lane| wire::LaneEnd { lane: lane.to_wire().into(), last: Some(last(lane)) });
            self.append_own(Content::EpochClosed(wire::EpochClosed {
                epoch: id.0.to_vec(),
                ends: ends.to_vec(),
                reason: reason.into(),
            }));
        }
        match self.live.epochs.iter().position(|epoch| assignment.is_none() && epoch.assignment.is_none()) {
            Some(none) => {
                self.live.open = none;
                self.restore_definitions();
                self.save();
            }
            None => self.begin(assignment, reason, id.0.to_vec()),
        }
        Ok(self.current().id)
    }

    fn open_epoch(&self) -> (EpochId, Option<&str>) {
        (self.current().id, self.current().assignment.as_deref())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.save();
        Ok(())
    }

    /// Here nothing has any time: waveforms that are settled go, and of an epoch that is settled whole, everything.
    fn tidy(&mut self) -> Result<bool, StoreError> {
        let open = self.live.open;
        let mut any = false;
        for (index, epoch) in self.live.epochs.iter_mut().enumerate() {
            let closed = index != open && epoch.assignment.is_some() && epoch.lanes.iter().all(LaneRecords::is_settled);
            for (lane, records) in Lane::ALL.into_iter().zip(&mut epoch.lanes) {
                any |= (closed || lane == Lane::Waveforms) && records.purge();
            }
        }
        self.save();
        Ok(any)
    }

    fn mark(&self, key: &str) -> Option<Vec<u8>> {
        self.live.marks.get(key).cloned()
    }

    fn run(&self) -> RunId {
        self.run
    }
}
