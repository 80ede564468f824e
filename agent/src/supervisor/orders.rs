//! What the command line asks the agent to do, one at a time: activate an assignment, end it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kit_protocol::uplink::id::{KitId, Tenant};
use kit_protocol::uplink::wire::{ClockQuality, EpochReason};
use tokio::sync::{RwLock, mpsc, watch};

use crate::acquisition::keeper::Shared;
use crate::acquisition::window::Windows;
use crate::api::server::Order;
use crate::clock::{Clock, unix_us};
use crate::config::Config;
use crate::identity::keys::CentreKeys;
use crate::identity::secret::write_durably;
use crate::identity::tenure::Tenures;
use crate::identity::{Identity, assignment};
use crate::store::thread::StoreHandle;

/// Every conversation is closed within this before an epoch changes (I4).
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Carries orders out.
pub(super) struct Orders {
    tenant: Tenant,
    kit: KitId,
    counter_file: PathBuf,
    centre: Arc<CentreKeys>,
    clock: Arc<Clock>,
    store: StoreHandle,
    pausing: Arc<watch::Sender<bool>>,
    conversations: Arc<RwLock<()>>,
    tenures: Arc<Tenures>,
    windows: Windows,
}

impl Orders {
    pub(super) fn new(config: &Config, identity: &Identity, shared: &Shared, pausing: Arc<watch::Sender<bool>>) -> Self {
        Self {
            tenant: config.tenant.clone(),
            kit: config.kit.clone(),
            counter_file: config.state.join("identity").join("assignment-counter"),
            centre: Arc::clone(&identity.centre),
            clock: Arc::clone(&shared.world.clock),
            store: shared.store.clone(),
            pausing,
            conversations: Arc::clone(&shared.conversations),
            tenures: Arc::clone(&shared.tenures),
            windows: shared.windows.clone(),
        }
    }

    /// Until nobody can order any more.
    pub(super) async fn carry_out(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            // Whoever asked may have gone: the order is carried out all the same.
            match order {
                Order::StartAssignment(document, answer) => drop(answer.send(self.start(&document).await)),
                Order::EndAssignment(answer) => drop(answer.send(self.end().await)),
            }
        }
        std::future::pending().await
    }

    async fn start(&self, document: &[u8]) -> Result<String, String> {
        let trusted = ClockQuality::try_from(self.clock.stated().quality) == Ok(ClockQuality::Synced);
        let now = trusted.then(unix_us);
        let counter = self.counter()?;
        let opened = assignment::open(document, &*self.centre, &self.tenant, &self.kit, counter, now);
        let assignment = opened.map_err(|error| error.to_string())?;
        self.switch(Some(assignment.id.clone()), EpochReason::AssignmentStart).await?;
        // After the epoch: a power cut between the two lets the same document be given again, which changes nothing.
        write_durably(&self.counter_file, assignment.counter.to_string().as_bytes())
            .map_err(|error| format!("the assignment is active, but {}: {error}", self.counter_file.display()))?;
        Ok(format!("Assignment {} is active.", assignment.id))
    }

    async fn end(&self) -> Result<String, String> {
        let Some(id) = self.active() else { return Err("no assignment is active here; nothing was changed".into()) };
        self.switch(None, EpochReason::AssignmentEnd).await?;
        Ok(format!("Assignment {id} has ended; readings are now kept as unassigned."))
    }

    /// Closes every conversation, changes the epoch, lets them begin again: never are two epochs open for appends.
    async fn switch(&self, assignment: Option<String>, reason: EpochReason) -> Result<(), String> {
        self.pausing.send_replace(true);
        self.windows.close_all();
        let closed = tokio::time::timeout(CLOSE_MAX, self.conversations.write()).await;
        let switched = match closed {
            Ok(_none_open) => self.change(assignment, reason).await,
            Err(_) => Err("a device did not let go in 5 seconds; nothing was changed, try again".into()),
        };
        self.pausing.send_replace(false);
        switched
    }

    /// Since when it is active is known before it is: by that a device's memory is judged.
    async fn change(&self, assignment: Option<String>, reason: EpochReason) -> Result<(), String> {
        // Only a store that is open tells which one is active.
        self.store.mark("tenure").await.map_err(|error| format!("{error}; nothing was changed, try again"))?;
        let (clock, now) = (self.clock.stated(), self.clock.now().as_nanos());
        self.tenures.change(self.active().as_deref(), assignment.as_deref(), clock, now).map_err(|error| {
            format!("since when it is active could not be kept ({error}); nothing was changed, free the disk")
        })?;
        match self.store.switch_epoch(assignment.as_deref(), reason).await {
            Ok(_) => Ok(()),
            // The epoch did change: what failed came after that, and is made good with the next record.
            Err(_) if self.active() == assignment => Ok(()),
            // A disk that failed in the middle of it may have changed it or not: once it opens again that is seen.
            Err(error) => Err(format!("{error}; ask `kit-agent assignment` which one is active, then try again")),
        }
    }

    /// The active assignment, as the store shows it.
    fn active(&self) -> Option<String> {
        let view = self.store.view();
        let view = view.borrow();
        view.epochs.iter().find(|epoch| epoch.open).and_then(|epoch| epoch.assignment.clone())
    }

    /// The highest counter taken before, 0 where none was. One that cannot be read is not taken for 0: an old document would
    /// be taken for a new one.
    fn counter(&self) -> Result<u64, String> {
        let unusable = |why: String| format!("{}: {why}; nothing was changed", self.counter_file.display());
        match std::fs::read_to_string(&self.counter_file) {
            Ok(text) => text.trim().parse().map_err(|_| unusable("expected a number".into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(unusable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::store::memory::{Disk, MemoryOutbox};

    fn orders(folder: &Path, disk: &Arc<Mutex<Disk>>) -> Orders {
        let disk = Arc::clone(disk);
        Orders {
            tenant: "centro".parse().unwrap(),
            kit: "KIT-0001".parse().unwrap(),
            counter_file: folder.join("assignment-counter"),
            centre: Arc::new(CentreKeys::default()),
            clock: Arc::new(Clock::of_this_boot()),
            store: StoreHandle::start_with(move || Ok(MemoryOutbox::open(&disk))).unwrap(),
            pausing: Arc::new(watch::Sender::new(false)),
            conversations: Arc::new(RwLock::new(())),
            tenures: Arc::new(Tenures::load(folder.join("tenure"))),
            windows: Windows::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i4_an_epoch_changes_only_when_no_conversation_is_open_and_pausing_ends_either_way() {
        let folder = tempfile::tempdir().unwrap();
        let orders = orders(folder.path(), &Arc::default());
        let stubborn = Arc::clone(&orders.conversations).read_owned().await;
        let refused = orders.switch(Some("A-1".into()), EpochReason::AssignmentStart).await.unwrap_err();
        assert!(refused.contains("nothing was changed") && !*orders.pausing.borrow(), "{refused}");
        assert_eq!(orders.active(), None);
        drop(stubborn);
        orders.switch(Some("A-1".into()), EpochReason::AssignmentStart).await.unwrap();
        assert_eq!((orders.active().as_deref(), *orders.pausing.borrow()), (Some("A-1"), false));
        orders.switch(Some("A-1".into()), EpochReason::AssignmentStart).await.unwrap();
        assert!(orders.end().await.unwrap().contains("A-1 has ended"));
        assert_eq!(orders.active(), None);
    }

    #[tokio::test]
    async fn i4_a_counter_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let orders = orders(folder.path(), &Arc::default());
        assert_eq!(orders.counter(), Ok(0));
        write_durably(&orders.counter_file, b"17").unwrap();
        assert_eq!(orders.counter(), Ok(17));
        write_durably(&orders.counter_file, b"seventeen").unwrap();
        assert!(orders.start(b"any").await.unwrap_err().contains("expected a number; nothing was changed"));
        std::fs::remove_file(&orders.counter_file).unwrap();
        std::fs::create_dir(&orders.counter_file).unwrap();
        assert!(orders.counter().is_err());
    }
}
