//! Deleting segment files whole: what is settled and past its time.
//!
//! One commit says which numbers are gone, takes their places out of the index and marks the file as deleted; then the file is
//! unlinked; then its mark goes. A cut before the commit left everything as it was; one after it is made good at the next
//! opening.

use std::collections::BTreeMap;

use kit_protocol::uplink::id::Lane;

use super::block::{Block, Entry, class_octet};
use super::epoch::{Epoch, decode_u64, lane_tree};
use super::files::disk_error;
use super::gone::{Fate, Gone};
use super::outbox::{Class, StoreError};
use super::retention;
use super::segments::{Contents, SegmentFiles};
use super::sled::{Commit, Database, Tree};

/// The classes whose records lie in files.
pub(crate) const FILE_CLASSES: [Class; 2] = [Class::PlanWaveform, Class::ContinuousWaveform];
/// Files that one commit deletes, at most.
pub(crate) const FILES_PER_COMMIT_MAX: usize = 16;

/// Stands in place of the contents of a file that is deleted.
const DELETED: &[u8] = &[0xFF];

/// Key of one segment file. Shape: class (1) · number (u32, big-endian).
pub(crate) fn file_key(class: Class, file: u32) -> [u8; 5] {
    let mut key = [class_octet(class); 5];
    key[1..].copy_from_slice(&file.to_be_bytes());
    key
}

/// What is in each file of `class`, and which are deleted, though a cut may have left them.
pub(crate) fn load_files(db: &Database, class: Class) -> Result<(BTreeMap<u32, Contents>, Vec<u32>), StoreError> {
    let (mut contents, mut deleted) = (BTreeMap::new(), Vec::new());
    for pair in db.from(Tree::Files, &file_key(class, 0))? {
        let (key, value) = pair?;
        let Some((of, number)) = key.split_first() else { continue };
        let Ok(number) = number.try_into().map(u32::from_be_bytes) else { continue };
        if *of != class_octet(class) {
            break;
        }
        if value == DELETED {
            deleted.push(number);
        } else {
            // One that does not decode is left out: what is in its file is not known, and it stays.
            contents.extend(Contents::decode(&value).map(|one| (number, one)));
        }
    }
    Ok((contents, deleted))
}

/// What deleting some files means for the index.
struct Survey {
    /// By [`Lane::index`]: gone numbers with those of the files.
    gone: [Gone; 4],
    /// Values all of whose records are gone, by their keys.
    emptied: Vec<(Lane, u64)>,
}

impl Epoch {
    /// When the last record of the oldest file of `class` came; `None` where there is no file.
    pub(crate) fn oldest_written(&self, class: Class) -> Option<u64> {
        self.files(class).contents().values().map(|contents| contents.written).min()
    }

    /// When the last record of any file came.
    pub(crate) fn latest_written(&self) -> u64 {
        let files = FILE_CLASSES.into_iter().flat_map(|class| self.files(class).contents().values());
        files.map(|contents| contents.written).max().unwrap_or(0)
    }

    /// Some files of one class that are settled and past their time.
    pub(crate) fn files_past_their_time(&self) -> Option<(Class, Vec<u32>)> {
        FILE_CLASSES.into_iter().find_map(|class| {
            let time = self.options.retention.of(class);
            let is_due =
                |contents: &Contents| retention::is_past(contents.written, time, self.ran) && self.is_file_settled(contents);
            let due = self.files(class).contents().iter().filter(|(_, contents)| is_due(contents)).map(|(file, _)| *file);
            let due: Vec<u32> = due.take(FILES_PER_COMMIT_MAX).collect();
            (!due.is_empty()).then_some((class, due))
        })
    }

    /// Whether every number from the first to the last of each lane in the file is settled, or has no record.
    fn is_file_settled(&self, contents: &Contents) -> bool {
        Lane::ALL.into_iter().all(|lane| {
            let (first, last) = contents.lanes[lane.index()];
            let state = self.lane(lane);
            let mut seq = state.settled.next_unsettled(first.max(1) - 1);
            while let Some(until) = (seq <= last).then(|| state.without_record_until(seq)).flatten() {
                seq = state.settled.next_unsettled(until);
            }
            seq > last
        })
    }

    /// Deletes files whose records are all settled.
    pub(crate) fn delete_files(&mut self, class: Class, files: &[u32]) -> Result<(), StoreError> {
        let survey = self.survey(class, files)?;
        let mut commit = Commit::default();
        for (lane, gone) in Lane::ALL.into_iter().zip(&survey.gone) {
            gone.put_changes(&self.lane(lane).gone, lane, &mut commit);
        }
        for (lane, first) in &survey.emptied {
            commit.remove(lane_tree(*lane), &first.to_be_bytes());
        }
        for file in files {
            commit.put(Tree::Files, &file_key(class, *file), DELETED);
        }
        self.segment_files(class).leave(files);
        self.put_files(&mut commit)?;
        self.db.commit(commit)?;
        self.plan.committed();
        self.continuous.committed();
        for (lane, gone) in Lane::ALL.into_iter().zip(survey.gone) {
            self.lane_mut(lane).gone = gone;
            self.count_waiting(lane)?;
        }
        self.unlink(class, files)
    }

    /// A gap in the journal names these numbers now.
    pub(crate) fn mark_declared(&mut self, lane: Lane, spans: &[(u64, u64)]) -> Result<(), StoreError> {
        let mut gone = self.lane(lane).gone.clone();
        spans.iter().for_each(|(first, last)| gone.mark(*first, *last, Fate::Declared));
        let mut commit = Commit::default();
        gone.put_changes(&self.lane(lane).gone, lane, &mut commit);
        if !commit.is_empty() {
            self.db.commit(commit)?;
            self.lane_mut(lane).gone = gone;
        }
        Ok(())
    }

    /// Unlinks what the database says is deleted, and then forgets of it.
    pub(super) fn unlink(&mut self, class: Class, files: &[u32]) -> Result<(), StoreError> {
        self.segment_files(class).delete(files).map_err(|error| disk_error("a segment file", &error))?;
        let mut commit = Commit::default();
        files.iter().for_each(|file| commit.remove(Tree::Files, &file_key(class, *file)));
        self.db.write(commit)
    }

    fn files(&self, class: Class) -> &SegmentFiles {
        match class {
            Class::Value | Class::PlanWaveform => &self.plan,
            Class::ContinuousWaveform => &self.continuous,
        }
    }

    fn survey(&self, class: Class, files: &[u32]) -> Result<Survey, StoreError> {
        let mut survey = Survey { gone: Lane::ALL.map(|lane| self.lane(lane).gone.clone()), emptied: Vec::new() };
        let contents: Vec<Contents> = files.iter().filter_map(|file| self.files(class).contents().get(file).copied()).collect();
        for lane in Lane::ALL {
            let spans = contents.iter().map(|contents| contents.lanes[lane.index()]).filter(|(first, _)| *first > 0);
            let Some((first, last)) = spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))) else { continue };
            let gone = &mut survey.gone[lane.index()];
            let values = self.mark_in(lane, (first, last), class, files, gone)?;
            // The lane's last value stays: how many octets the lane ever had is counted on from it.
            let newest = self.db.at_or_below(lane_tree(lane), &u64::MAX.to_be_bytes())?.and_then(|(key, _)| decode_u64(&key));
            let is_empty = |(first, end): &(u64, u64)| gone.until(*first).is_some_and(|until| until + 1 >= *end);
            let emptied = values.iter().filter(|value| is_empty(value) && Some(value.0) != newest);
            survey.emptied.extend(emptied.map(|(first, _)| (lane, *first)));
        }
        Ok(survey)
    }

    /// Marks the lane's numbers that lie in `files`, and gives the values that were looked through: first number and end.
    fn mark_in(
        &self,
        lane: Lane,
        (first, last): (u64, u64),
        class: Class,
        files: &[u32],
        gone: &mut Gone,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let tree = lane_tree(lane);
        let at_or_below = |seq: u64| -> Result<u64, StoreError> {
            Ok(self.db.at_or_below(tree, &seq.to_be_bytes())?.and_then(|(key, _)| decode_u64(&key)).unwrap_or(seq))
        };
        // The value before them too: it may have stayed as the lane's last when its own records were deleted.
        let start = at_or_below(at_or_below(first)?.saturating_sub(1))?;
        let mut values = Vec::new();
        for pair in self.db.from(tree, &start.to_be_bytes())? {
            let (key, value) = pair?;
            let Some(at) = decode_u64(&key).filter(|at| *at <= last) else { break };
            let Some(block) = Block::parse(&value) else { continue };
            let mut seq = at;
            for entry in &block.entries {
                if let Entry::InFile(pointer) = entry
                    && pointer.class == class
                    && files.contains(&pointer.file)
                {
                    gone.mark(seq, seq, Fate::Acknowledged);
                }
                seq += 1;
            }
            values.push((at, seq));
        }
        Ok(values)
    }
}
