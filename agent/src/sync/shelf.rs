//! What sync asks of the store.

use std::future::Future;

use kit_protocol::uplink::id::{EpochId, Lane};
use kit_protocol::uplink::settlement::Settlement;
use tokio::sync::watch;

use crate::store::outbox::{Chunk, ReadLimit, StoreError};
use crate::store::thread::{StoreHandle, StoreView};

/// The store, as sync sees it; each is the [`crate::store::outbox::Outbox`] method by that name.
pub trait Shelf: Send + Sync {
    /// What the store looks like after each commit.
    fn view(&self) -> watch::Receiver<StoreView>;

    /// Unsettled records from `from` on; all of one run. What will not open is quarantined and declared by the store.
    fn read(
        &self,
        epoch: EpochId,
        lane: Lane,
        from: u64,
        limit: ReadLimit,
    ) -> impl Future<Output = Result<Chunk, StoreError>> + Send;

    /// Takes in what the centre settled.
    fn settle(&self, epoch: EpochId, lane: Lane, settled: Settlement) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces what is known by what the centre's database says.
    fn reset_settled(
        &self,
        epoch: EpochId,
        lane: Lane,
        settled: Settlement,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Keeps a record from being sent again, with its reason.
    fn quarantine(
        &self,
        epoch: EpochId,
        lane: Lane,
        seq: u64,
        reason: String,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Shelf for StoreHandle {
    fn view(&self) -> watch::Receiver<StoreView> {
        Self::view(self)
    }

    async fn read(&self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        Self::read(self, epoch, lane, from, limit).await
    }

    async fn settle(&self, epoch: EpochId, lane: Lane, settled: Settlement) -> Result<(), StoreError> {
        Self::settle(self, epoch, lane, settled).await
    }

    async fn reset_settled(&self, epoch: EpochId, lane: Lane, settled: Settlement) -> Result<(), StoreError> {
        Self::reset_settled(self, epoch, lane, settled).await
    }

    async fn quarantine(&self, epoch: EpochId, lane: Lane, seq: u64, reason: String) -> Result<(), StoreError> {
        Self::quarantine(self, epoch, lane, seq, &reason).await
    }
}
