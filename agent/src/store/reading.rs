//! Reading an epoch: consecutive records of one run, opened.

use kit_protocol::uplink::id::{Lane, RunId};

use super::about;
use super::append::SCHEMA;
use super::block::{Block, Entry};
use super::epoch::{Epoch, decode_u64, lane_tree};
use super::outbox::{Chunk, ReadLimit, StoreError};
use super::seal::Place;

/// Unreadable numbers that one read tells of, at most; the next read goes on behind them.
pub(crate) const UNREADABLE_MAX: usize = 256;

/// Which records a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that wait to be sent.
    Waiting,
    /// Every one, settled, quarantined or not.
    All,
}

/// A chunk in the making.
struct Reading {
    run: Option<(u32, RunId)>,
    records: Vec<(u64, Vec<u8>)>,
    octets: usize,
    unreadable: Vec<u64>,
    next: u64,
}

impl Epoch {
    /// Records from `from` on, within `limit`.
    pub(crate) fn read(&mut self, lane: Lane, from: u64, limit: ReadLimit, which: Which) -> Result<Chunk, StoreError> {
        let end = self.lane(lane).next.min(limit.before);
        let from = match which {
            Which::Waiting => self.lane(lane).settled.next_unsettled(from.max(1) - 1),
            Which::All => from.max(1),
        };
        let mut reading = Reading { run: None, records: Vec::new(), octets: 0, unreadable: Vec::new(), next: from };
        let tree = lane_tree(lane);
        let start = self.db.at_or_below(tree, &from.to_be_bytes())?.map_or(from, |(key, _)| decode_u64(&key).unwrap_or(from));
        let mut values = self.db.from(tree, &start.to_be_bytes())?.peekable();
        while let Some(pair) = values.next() {
            let (key, value) = pair?;
            let Some(first) = decode_u64(&key) else { continue };
            if first >= end {
                break;
            }
            let goes_on = match Block::parse(&value) {
                Some(block) => self.read_block(&mut reading, lane, first, &block, end, limit, which)?,
                None => {
                    let after = match values.peek() {
                        Some(Ok((key, _))) => decode_u64(key).unwrap_or(end),
                        _ => end,
                    };
                    let lost = reading.next.max(first)..after.min(end);
                    lost.into_iter().all(|seq| self.lose(&mut reading, lane, seq, which))
                }
            };
            if !goes_on {
                return Ok(self.chunk(reading));
            }
        }
        reading.next = reading.next.max(end);
        Ok(self.chunk(reading))
    }

    /// Takes the records of one value; false where the chunk ends within it.
    #[expect(clippy::too_many_arguments, reason = "the read's own arguments, handed on")]
    fn read_block(
        &mut self,
        reading: &mut Reading,
        lane: Lane,
        first: u64,
        block: &Block<'_>,
        end: u64,
        limit: ReadLimit,
        which: Which,
    ) -> Result<bool, StoreError> {
        let run = usize::try_from(block.run).ok().and_then(|index| self.runs.get(index).copied()).flatten().map(|run| run.id);
        for (seq, entry) in (first..end).zip(&block.entries) {
            if seq < reading.next {
                continue;
            }
            if self.is_left_out(lane, seq, which) {
                reading.next = seq + 1;
                continue;
            }
            let opened = match run {
                Some(run) => self.open_entry(lane, seq, block.run, run, entry)?.map(|bytes| (run, bytes)),
                None => None,
            };
            let Some((run, bytes)) = opened else {
                if !self.lose(reading, lane, seq, which) {
                    return Ok(false);
                }
                continue;
            };
            let another_run = reading.run.is_some_and(|(index, _)| index != block.run);
            let too_many = !reading.records.is_empty()
                && (reading.records.len() >= limit.records || reading.octets + bytes.len() > limit.octets);
            if another_run || too_many {
                return Ok(false);
            }
            reading.run = Some((block.run, run));
            reading.octets += bytes.len();
            reading.records.push((seq, bytes));
            reading.next = seq + 1;
        }
        Ok(true)
    }

    fn is_left_out(&self, lane: Lane, seq: u64, which: Which) -> bool {
        match which {
            Which::Waiting => self.lane(lane).settled.contains(seq) || self.is_withheld(lane, seq),
            Which::All => self.lane(lane).gone.until(seq).is_some(),
        }
    }

    fn open_entry(
        &mut self,
        lane: Lane,
        seq: u64,
        run_index: u32,
        run: RunId,
        entry: &Entry<'_>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let place = Place { lane, seq, schema: SCHEMA };
        let in_file;
        let sealed = match entry {
            Entry::Inline(sealed) => *sealed,
            Entry::InFile(pointer) => match self.segment_files(pointer.class).read(*pointer, run, place) {
                Some(sealed) => {
                    in_file = sealed;
                    in_file.as_slice()
                }
                None => return Ok(None),
            },
        };
        let seal = self.run_seal(run_index).map_err(about::no_random)?;
        Ok(seal.and_then(|seal| seal.open(place, sealed).ok()))
    }

    /// Notes a number that does not open; false where there are enough of them.
    fn lose(&self, reading: &mut Reading, lane: Lane, seq: u64, which: Which) -> bool {
        if self.is_left_out(lane, seq, which) {
            reading.next = seq + 1;
            return true;
        }
        if reading.unreadable.len() >= UNREADABLE_MAX {
            return false;
        }
        reading.unreadable.push(seq);
        reading.next = seq + 1;
        true
    }

    fn chunk(&self, reading: Reading) -> Chunk {
        let definitions = self.definitions.used_by(reading.records.iter().map(|(_, bytes)| bytes.as_slice()));
        let run = reading.run.or(self.run).map_or(RunId([0; 8]), |(_, run)| run);
        Chunk { run, records: reading.records, unreadable: reading.unreadable, definitions, next: reading.next }
    }
}
