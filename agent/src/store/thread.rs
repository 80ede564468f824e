//! The one blocking thread that owns the outbox: group commit, and the filing of drafts into records.

use kit_protocol::uplink::id::{EpochId, Lane, Origin};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use tokio::sync::{mpsc, oneshot, watch};

use super::outbox::{Appended, Chunk, Class, EpochView, Mark, ReadLimit, StoreError};

/// A record before it has its small numbers: the store resolves them against the open epoch, encodes once, appends.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its lane.
    pub lane: Lane,
    /// Where its bytes are kept.
    pub class: Class,
    /// Reception, nanoseconds of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// The gateway's clock at reception.
    pub clock: wire::Clock,
    /// Becomes `device` of the content.
    pub device: Option<wire::Device>,
    /// Becomes `driver` of the content.
    pub driver: Option<wire::Driver>,
    /// Becomes `from_clock` of a `Missed`.
    pub from_clock: Option<wire::Clock>,
    /// The content, its small numbers still 0.
    pub content: wire::record::Content,
    /// What makes the measurement the same one.
    pub origin: Option<Origin>,
    /// Kept in the same commit.
    pub marks: Vec<Mark>,
}

/// What the store's thread is asked.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the method of StoreHandle by that name")]
pub enum Request {
    Append(Box<Draft>, oneshot::Sender<Result<Appended, StoreError>>),
    Read(EpochId, Lane, u64, ReadLimit, oneshot::Sender<Result<Chunk, StoreError>>),
    ReadLocal(EpochId, Lane, u64, ReadLimit, oneshot::Sender<Result<Chunk, StoreError>>),
    Settle(EpochId, Lane, Settlement, oneshot::Sender<Result<(), StoreError>>),
    ResetSettled(EpochId, Lane, Settlement, oneshot::Sender<Result<(), StoreError>>),
    Quarantine(EpochId, Lane, u64, String, oneshot::Sender<Result<(), StoreError>>),
    SwitchEpoch(Option<String>, wire::EpochReason, oneshot::Sender<Result<EpochId, StoreError>>),
    Mark(String, oneshot::Sender<Option<Vec<u8>>>),
}

/// How the rest of the agent speaks to the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<StoreView>,
}

/// What the store looks like after its last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreView {
    /// Every epoch, oldest first; the open one last.
    pub epochs: Vec<EpochView>,
    /// Quarantined numbers with their reasons.
    pub quarantined: Vec<(EpochId, Lane, u64, String)>,
    /// Why appends are refused, where they are.
    pub trouble: Option<String>,
}
