//! The queue that a record leaves only once the centre has committed it.
//!
//! [`Outbox`] is the contract every backend keeps; `sled.rs` is the one the kit runs, behind one blocking thread
//! ([`super::thread`]). Everything is synchronous: what `append` returned is on the disk.

use kit_protocol::uplink::id::{EpochId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;

use super::seal::TAG_OCTETS;

/// Sealed octets of one segment, at most.
pub const SEGMENT_SEALED_OCTETS_MAX: usize = 12_000;
/// Sealed octets of anything that goes into sled, at most: larger values would become blob files, which sled never syncs.
pub const VALUE_SEALED_OCTETS_MAX: usize = 7_600;
/// Octets of a mark, key and value together, at most.
pub const MARK_OCTETS_MAX: usize = 1_024;

/// Where a record's bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Values, journal: in the database.
    Value,
    /// A segment of a recording of the plan, or an urgent one: in a `wp-` file.
    PlanWaveform,
    /// A segment of a continuous waveform: in a `wc-` file.
    ContinuousWaveform,
}

/// What the Recorder keeps of a device in the record's own commit: how far it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which device and what of it, as `device-identity/what`.
    pub key: String,
    /// Opaque to the store; no clinical value.
    pub value: Vec<u8>,
}

/// A record to be made durable.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Its lane.
    pub lane: Lane,
    /// Where its bytes are kept.
    pub class: Class,
    /// The encoded [`wire::Record`], made once.
    pub bytes: Vec<u8>,
    /// What makes the measurement the same one; a known origin is not appended again.
    pub origin: Option<Origin>,
    /// Kept in the same commit.
    pub marks: Vec<Mark>,
}

impl NewRecord {
    /// Whether it fits its class's bound once sealed, and its marks theirs; [`StoreError::TooBig`] where not. One that does
    /// not fit is refused with its whole group, so it is asked for before it joins one.
    pub fn check_size(&self) -> Result<(), StoreError> {
        for mark in &self.marks {
            let octets = mark.key.len() + mark.value.len();
            if octets > MARK_OCTETS_MAX {
                return Err(StoreError::TooBig { octets, max: MARK_OCTETS_MAX });
            }
        }
        let max = match self.class {
            Class::Value => VALUE_SEALED_OCTETS_MAX,
            Class::PlanWaveform | Class::ContinuousWaveform => SEGMENT_SEALED_OCTETS_MAX,
        };
        let octets = self.bytes.len() + TAG_OCTETS;
        if octets <= max { Ok(()) } else { Err(StoreError::TooBig { octets, max }) }
    }
}

/// What became of one record of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is on the disk under this key.
    New {
        /// The open epoch.
        epoch: EpochId,
        /// Its number in its lane.
        seq: u64,
    },
    /// Its origin was already there: nothing was appended (I2a).
    Known,
}

/// How much one `read` may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Octets of records, at most; the first record is always given.
    pub octets: usize,
    /// Records, at most.
    pub records: usize,
    /// No number at or past this one.
    pub before: u64,
}

/// Consecutive records of one lane and one run, opened (decrypted), with the definitions they use.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The run they were sealed under; that of this opening where there are none.
    pub run: RunId,
    /// Ascending numbers, each with the bytes made at append. Settled numbers are left out.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Numbers met on the way that would not open (damage). The store quarantines them and declares them as
    /// `Gap{UNREADABLE}` in the open epoch's journal itself.
    pub unreadable: Vec<u64>,
    /// Every definition of the epoch that the records use.
    pub definitions: Vec<wire::Definition>,
    /// Where to read on.
    pub next: u64,
}

/// One lane of an epoch, as listings and the planner see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// The lowest number that waits to be sent: not settled, not quarantined, not declared as never written; `next` where
    /// none does.
    pub oldest: u64,
    /// The number the next record gets.
    pub next: u64,
    /// What the centre settled.
    pub settled: Settlement,
    /// Octets that wait, as sealed.
    pub octets: u64,
}

/// One epoch the kit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochView {
    /// Its id.
    pub epoch: EpochId,
    /// The assignment's id; `None` for the `none` epoch.
    pub assignment: Option<String>,
    /// Takes appends.
    pub open: bool,
    /// By [`Lane::index`].
    pub lanes: [LaneView; 4],
}

impl EpochView {
    /// Nothing of it waits any more.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.lanes.iter().all(|lane| lane.oldest >= lane.next)
    }
}

/// Why the store could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk has no room: the append is refused, what was stored stays.
    #[error("no room on the disk ({0}): free some of it")]
    Full(String),
    /// The record is larger than its bound: quarantined by the caller.
    #[error("a record of {octets} octets is larger than {max}")]
    TooBig {
        /// Its octets.
        octets: usize,
        /// The bound.
        max: usize,
    },
    /// The store is damaged or gone; it is opened again (and moved aside if that fails).
    #[error("the store failed: {0}")]
    Broken(String),
    /// No such epoch on this kit.
    #[error("no epoch {0} here")]
    NoEpoch(EpochId),
    /// The centre settled a number that this store never gave, or gave under another run: the store was rolled back to an
    /// older image. Nothing was settled.
    #[error("the centre settled number {seq} of {lane} in epoch {epoch}, which this store did not give under that run")]
    Foreign {
        /// Whose number it would be.
        epoch: EpochId,
        /// Whose number it would be.
        lane: Lane,
        /// The number.
        seq: u64,
    },
}

/// Quarantined because its octets do not open; it is declared as a gap.
pub const DOES_NOT_OPEN: &str = "does-not-open";
/// Quarantined because the centre holds another record under its number.
pub const CONFLICT: &str = "conflict";

/// Whether a record that is quarantined for `reason` is never sent again, whatever the centre knows.
#[must_use]
pub fn stays_here(reason: &str) -> bool {
    [CONFLICT, DOES_NOT_OPEN].contains(&reason)
}

/// A queue of sealed records that survives power loss. Invariants I1, I2, I3, I7.
pub trait Outbox: Send {
    /// Makes a group durable in one commit (fdatasync) and numbers it; all of it or none of it.
    fn append(&mut self, group: &[NewRecord]) -> Result<Vec<Appended>, StoreError>;

    /// The number that stands for `what` in the open epoch; a new one is durable with the next append.
    fn define(&mut self, what: &wire::definition::What) -> u32;

    /// Unsettled records from `from` on; all of one run.
    fn read(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError>;

    /// Takes in what the centre settled: maximum and union with what is known. Records stay as local record. It is on the
    /// disk with the next append; what a cut takes back is acknowledged again. [`StoreError::Foreign`] settles nothing.
    fn settle(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError>;

    /// Replaces what is known by what the centre's database says; only this moves a cursor back. A quarantined number that it
    /// does not settle waits again, unless it stays with the kit ([`stays_here`]): a centre that was restored to an earlier
    /// state does not know that it refused it, and its number must not stay open for ever.
    fn reset_settled(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError>;

    /// Keeps a record from being sent again, with its reason; it stays readable through `read_local`. Its number is not
    /// settled by this: only the centre settles numbers.
    fn quarantine(&mut self, epoch: EpochId, lane: Lane, seq: u64, reason: &str) -> Result<(), StoreError>;

    /// Quarantined numbers with their reasons, by epoch.
    fn quarantined(&self) -> Vec<(EpochId, Lane, u64, String)>;

    /// Local record: every record of the lane, settled or not, from `from` on.
    fn read_local(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError>;

    /// The run under which the record of that number was sealed; `None` where there is no such record. Tells whether a commit
    /// that failed has reached the disk all the same.
    fn sealed_under(&mut self, epoch: EpochId, lane: Lane, seq: u64) -> Result<Option<RunId>, StoreError>;

    /// Every epoch, oldest first; the open one last.
    fn epochs(&self) -> Vec<EpochView>;

    /// Closes the open epoch for appends and opens one for `assignment`: a fresh one, or, for none, the kit's one `none`
    /// epoch again. Where the open epoch is that assignment's already and the reason is its start or end, nothing happens:
    /// an activation may be repeated after a crash.
    fn switch_epoch(&mut self, assignment: Option<&str>, reason: wire::EpochReason) -> Result<EpochId, StoreError>;

    /// The open epoch and the assignment's id it was opened for.
    fn open_epoch(&self) -> (EpochId, Option<&str>);

    /// Makes durable what was not waited for; called before a clean end.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Deletes some of what is settled and past its time, in one step, each whole; `true` where there may be more. What is not
    /// settled is never deleted by this. Deleted numbers stay settled and are given by no read; where `reset_settled` shows that
    /// the centre does not hold them any more, they are declared as `Gap{PURGED_AFTER_ACK}` in the open epoch's journal, once.
    fn tidy(&mut self) -> Result<bool, StoreError>;

    /// What was marked last under `key`; marks pass from epoch to epoch.
    fn mark(&self, key: &str) -> Option<Vec<u8>>;

    /// The run of this opening in the open epoch; zeros until its first append, where the disk was full at the opening.
    fn run(&self) -> RunId;
}
