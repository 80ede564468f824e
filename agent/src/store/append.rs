//! Appending to an epoch: one group, one commit.
//!
//! Order: numbers, sealing, segment files and their fdatasync, then one transaction of the database (records, `next`,
//! origins, marks, definitions, cursors, extents), flush, fdatasync. Only then is anything told. A number that was sealed and
//! whose commit failed is never sealed again in the same run: it is declared as never written.

use std::collections::HashSet;

use kit_protocol::uplink::id::{Lane, Origin, RunId};
use kit_protocol::uplink::wire::{self, record::Content};

use super::about;
use super::block::{Entry, Packer, Pointer};
use super::deletion::{FILE_CLASSES, file_key};
use super::epoch::{Epoch, encode_extent, extent_key, lane_index, lane_key, lane_tree};
use super::files;
use super::filing::{file, gap, journal_draft};
use super::outbox::{Appended, Class, NewRecord, StoreError};
use super::seal::Place;
use super::sled::{Commit, Tree};

/// How a record's bytes are encoded: [`wire::Record`].
pub(crate) const SCHEMA: u8 = 1;

/// A record with its number, sealed.
struct Sealed {
    lane: Lane,
    seq: u64,
    class: Class,
    octets: Vec<u8>,
}

/// Where a sealed record is kept.
enum Kept {
    Inline(Vec<u8>),
    InFile(Pointer),
}

impl Epoch {
    /// Draws the run of this opening and writes what stands first in it: that the epoch opened, what was never written, and
    /// `also`. Until it succeeded nothing can be appended; it may be tried again.
    pub(crate) fn begin(&mut self, also: Vec<Content>) -> Result<(), StoreError> {
        if self.run.is_none() {
            let index = self.runs.len();
            let run = about::draw_run(&self.dir, index, self.options.boot)?;
            let number = u32::try_from(index).map_err(|_| StoreError::Broken("too many openings".into()))?;
            self.runs.push(Some(run));
            self.run = Some((number, run.id));
        }
        let mut own = Vec::new();
        if self.lane(Lane::Journal).next == 1 {
            own.push(Content::EpochOpened(wire::EpochOpened {
                epoch: self.id.0.to_vec(),
                assignment: 0,
                reason: self.about.reason,
                previous: self.about.previous.clone(),
                boot_id: self.options.boot.0.to_vec(),
            }));
        }
        let holes = self.undeclared()?;
        let mut commit = Commit::default();
        for (lane, first, last) in &holes {
            commit.put(Tree::NeverWritten, &lane_key(*lane, *first), &last.to_be_bytes());
            own.push(self.never_written(*lane, *first, *last));
        }
        let next = Lane::ALL.map(|lane| self.lane(lane).next);
        Self::put_checked(&mut commit, &next);
        own.extend(also);
        self.append_own(commit, own)?;
        for (lane, first, last) in holes {
            tracing::warn!(epoch = %self.id, %lane, first, last, "numbers without a record are declared as never written");
            self.lane_mut(lane).never_written.push((first, last));
        }
        Ok(())
    }

    /// Closes the epoch for appends: its last journal record says up to which number each lane goes.
    pub(crate) fn close(&mut self, reason: wire::EpochReason) -> Result<(), StoreError> {
        let ends = Lane::ALL.map(|lane| {
            let next = self.lane(lane).next;
            // The record that says so is itself the journal's last; numbers burnt before it are declared in front of it.
            let last = if lane == Lane::Journal { next + self.burnt_spans() } else { next - 1 };
            wire::LaneEnd { lane: lane.to_wire().into(), last: Some(last) }
        });
        let closed = wire::EpochClosed { epoch: self.id.0.to_vec(), ends: ends.to_vec(), reason: reason.into() };
        let mut commit = Commit::default();
        Self::put_closed(&mut commit);
        self.append_own(commit, vec![Content::EpochClosed(closed)])?;
        self.closed = true;
        Ok(())
    }

    /// Appends journal records of the store's own, together with `commit`. They may use the room that is kept for them.
    pub(crate) fn append_own(&mut self, commit: Commit, contents: Vec<Content>) -> Result<(), StoreError> {
        if !self.options.has_last_room() {
            return Err(self.options.full());
        }
        let records: Vec<_> = contents.into_iter().map(|content| self.file_own(content)).collect();
        self.append_with(commit, &records).map(|_| ())
    }

    /// Makes a group durable.
    pub(crate) fn append(&mut self, group: &[NewRecord]) -> Result<Vec<Appended>, StoreError> {
        let octets: usize = group.iter().map(|record| record.bytes.len()).sum();
        self.options.refuse_without_room(u64::try_from(octets).unwrap_or(u64::MAX))?;
        self.append_with(Commit::default(), group)
    }

    pub(super) fn append_with(&mut self, mut commit: Commit, group: &[NewRecord]) -> Result<Vec<Appended>, StoreError> {
        let Some((run_index, run)) = self.run else { return Err(StoreError::Broken("no run was drawn".into())) };
        if self.closed {
            return Err(StoreError::Broken(format!("epoch {} is closed", self.id)));
        }
        group.iter().try_for_each(NewRecord::check_size)?;
        let burnt = self.take_burnt();
        let declared: Vec<_> = burnt.iter().map(|(lane, first, last)| self.never_written(*lane, *first, *last)).collect();
        let declared: Vec<_> = declared.into_iter().map(|content| self.file_own(content)).collect();
        let before = Lane::ALL.map(|lane| self.lane(lane).next);

        let done = self.number_and_seal(run_index, declared.iter().chain(group)).and_then(|(mut answers, sealed)| {
            Self::put_origins(&mut commit, &before, group.iter().zip(answers.iter().skip(declared.len())));
            answers.drain(..declared.len());
            let kept = self.keep(run, sealed)?;
            let octets = self.put_records(&mut commit, run_index, kept);
            self.put_rest(&mut commit, &burnt, declared.iter().chain(group))?;
            if !commit.is_empty() {
                self.db.commit(commit)?;
            }
            Ok((answers, octets))
        });
        match done {
            Ok((answers, octets)) => {
                self.committed(octets, &burnt);
                Ok(answers)
            }
            Err(error) => {
                self.burn(before, &burnt)?;
                Err(error)
            }
        }
    }

    /// Numbers every record whose origin is not known, and seals it. From here on the numbers are used.
    fn number_and_seal<'a>(
        &mut self,
        run_index: u32,
        records: impl Iterator<Item = &'a NewRecord>,
    ) -> Result<(Vec<Appended>, Vec<Sealed>), StoreError> {
        let mut in_group: HashSet<Origin> = HashSet::new();
        let (mut answers, mut sealed) = (Vec::new(), Vec::new());
        for record in records {
            if let Some(origin) = record.origin
                && (!in_group.insert(origin) || self.db.get(Tree::Origins, &origin.0)?.is_some())
            {
                answers.push(Appended::Known);
                continue;
            }
            let seq = self.lane(record.lane).next;
            self.lane_mut(record.lane).next = seq + 1;
            let mut octets = Vec::new();
            let place = Place { lane: record.lane, seq, schema: SCHEMA };
            let seal = self.run_seal(run_index).map_err(about::no_random)?;
            let seal = seal.ok_or_else(|| StoreError::Broken("this opening's run is gone".into()))?;
            seal.seal(place, &record.bytes, &mut octets).map_err(about::no_random)?;
            sealed.push(Sealed { lane: record.lane, seq, class: record.class, octets });
            answers.push(Appended::New { epoch: self.id, seq });
        }
        Ok((answers, sealed))
    }

    /// Puts segments into their files, on the disk.
    fn keep(&mut self, run: RunId, sealed: Vec<Sealed>) -> Result<Vec<(Lane, u64, Kept)>, StoreError> {
        let full = |error: std::io::Error| files::disk_error("segment file", &error);
        let mut kept = Vec::with_capacity(sealed.len());
        for Sealed { lane, seq, class, octets } in sealed {
            let where_ = match class {
                Class::Value => Kept::Inline(octets),
                Class::PlanWaveform | Class::ContinuousWaveform => {
                    let place = Place { lane, seq, schema: SCHEMA };
                    let ran = self.ran;
                    Kept::InFile(self.segment_files(class).push(run, place, &octets, ran).map_err(full)?)
                }
            };
            kept.push((lane, seq, where_));
        }
        Ok(kept)
    }

    /// Adds the records and each lane's next number; gives each lane's octets after them.
    fn put_records(&self, commit: &mut Commit, run_index: u32, kept: Vec<(Lane, u64, Kept)>) -> [u64; 4] {
        Lane::ALL.map(|lane| {
            let mut packer = Packer::new(run_index, self.lane(lane).octets);
            let mut any = false;
            for (_, seq, where_) in kept.iter().filter(|(of, _, _)| *of == lane) {
                let entry = match where_ {
                    Kept::Inline(octets) => Entry::Inline(octets),
                    Kept::InFile(pointer) => Entry::InFile(*pointer),
                };
                packer.push(*seq, &entry);
                any = true;
            }
            let (values, octets) = packer.finish();
            for (first, value) in values {
                commit.put(lane_tree(lane), &first.to_be_bytes(), &value);
            }
            if any {
                commit.put(Tree::Next, &[lane_index(lane)], &self.lane(lane).next.to_be_bytes());
            }
            octets
        })
    }

    /// Adds the origins of what is new, with the order in which they came: the count of numbers given before.
    fn put_origins<'a>(commit: &mut Commit, before: &[u64; 4], records: impl Iterator<Item = (&'a NewRecord, &'a Appended)>) {
        let given: u64 = before.iter().sum();
        for (order, (record, appended)) in (given..).zip(records) {
            if let (Some(origin), Appended::New { .. }) = (record.origin, appended) {
                commit.put(Tree::Origins, &origin.0, &order.to_be_bytes());
            }
        }
    }

    /// Adds all that belongs to the same commit, and syncs the segment files before it.
    fn put_rest<'a>(
        &mut self,
        commit: &mut Commit,
        burnt: &[(Lane, u64, u64)],
        records: impl Iterator<Item = &'a NewRecord>,
    ) -> Result<(), StoreError> {
        for record in records {
            record.marks.iter().try_for_each(|mark| self.put_mark(commit, mark))?;
        }
        for (lane, first, last) in burnt {
            commit.put(Tree::NeverWritten, &lane_key(*lane, *first), &last.to_be_bytes());
        }
        self.put_definitions(commit)?;
        if self.unsaved_cursors {
            self.put_cursors(commit);
        }
        self.put_files(commit)
    }

    /// Syncs the segment files, and adds how far they go and what is in them.
    pub(super) fn put_files(&mut self, commit: &mut Commit) -> Result<(), StoreError> {
        for class in FILE_CLASSES {
            let extent = self.segment_files(class).sync().map_err(|error| files::disk_error("segment file", &error))?;
            if let Some(extent) = extent {
                commit.put(Tree::About, extent_key(class), &encode_extent(extent));
            }
            for (file, contents) in self.segment_files(class).fresh() {
                commit.put(Tree::Files, &file_key(class, file), &contents.encode());
            }
        }
        Ok(())
    }

    fn committed(&mut self, octets: [u64; 4], burnt: &[(Lane, u64, u64)]) {
        for (state, octets) in self.lanes.iter_mut().zip(octets) {
            state.waiting += octets.saturating_sub(state.octets);
            state.octets = octets;
        }
        for (lane, first, last) in burnt {
            self.lane_mut(*lane).never_written.push((*first, *last));
        }
        self.definitions.committed();
        self.unsaved_cursors = false;
        self.plan.committed();
        self.continuous.committed();
    }

    /// The numbers from `before` on were sealed and not committed, and those of `burnt` are still not declared.
    fn burn(&mut self, before: [u64; 4], burnt: &[(Lane, u64, u64)]) -> Result<(), StoreError> {
        for (lane, first, last) in burnt {
            self.lane_mut(*lane).burnt = Some((*first, *last));
        }
        for (state, first) in self.lanes.iter_mut().zip(before) {
            if state.next > first {
                let earlier = state.burnt.map_or(first, |(earlier, _)| earlier);
                state.burnt = Some((earlier, state.next - 1));
            }
        }
        let abandoned = self.plan.abandon().and_then(|()| self.continuous.abandon());
        abandoned.map_err(|error| StoreError::Broken(format!("segment files: {error}")))
    }

    fn take_burnt(&mut self) -> Vec<(Lane, u64, u64)> {
        let take = |lane: Lane| self.lane_mut(lane).burnt.take().map(|(first, last)| (lane, first, last));
        Lane::ALL.into_iter().filter_map(take).collect()
    }

    fn burnt_spans(&self) -> u64 {
        self.lanes.iter().map(|lane| u64::from(lane.burnt.is_some())).sum()
    }

    fn file_own(&mut self, content: Content) -> NewRecord {
        let draft = journal_draft((self.options.stamp)(), content);
        let assignment = self.about.assignment.clone();
        let definitions = &mut self.definitions;
        file(draft, assignment.as_deref(), &mut |what| definitions.number(what))
    }

    fn never_written(&self, lane: Lane, first: u64, last: u64) -> Content {
        gap(self.id, lane, (first, last), wire::GapReason::NeverWritten, (0, 0))
    }
}
