//! From the store to the centre and back: the shell around the planner.
//!
//! [`planner`] decides, [`batch`] builds, [`mqtt`] carries, [`tls`] knows whom to trust, [`shelf`] is the store. [`run`] ties
//! them together and decides nothing.

pub mod batch;
pub mod mqtt;
pub mod planner;
pub mod shelf;
mod shell;
#[cfg(test)]
#[path = "tests/simulation/mod.rs"]
mod simulation;
pub mod state;
pub mod status;
pub mod tls;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{KitId, Nonce, Tenant};
use kit_protocol::uplink::signed::{Signer, Verifier};
use kit_protocol::uplink::wire;
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc, watch};

use self::shelf::Shelf;
use self::state::About;
use self::status::SyncStatus;

/// The shell sleeps no longer than this, then looks at the clock: the runtime's timers stand still while the gateway sleeps.
pub const SLEEP_MAX: Duration = Duration::from_secs(30);
/// The store answers within this time, or the batch is tried later.
pub const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Everything that [`run`] needs.
pub struct SyncContext<S> {
    /// The kit's tenant, as in its certificate.
    pub tenant: Tenant,
    /// The kit, as in its certificate; the MQTT client id.
    pub kit: KitId,
    /// The broker's host, as its certificate names it.
    pub host: String,
    /// The broker's TCP port.
    pub port: u16,
    /// TLS for the next connection ([`tls::client_config`]); a new certificate is put here.
    pub tls: watch::Receiver<Arc<ClientConfig>>,
    /// What `state` says of the kit.
    pub about: About,
    /// The store.
    pub shelf: S,
    /// Devices that `state` names.
    pub devices: watch::Receiver<Vec<wire::Device>>,
    /// What is known of the wall clock.
    pub clock: Arc<dyn Fn() -> wire::Clock + Send + Sync>,
    /// CLOCK_BOOTTIME.
    pub now: Arc<dyn Fn() -> Moment + Send + Sync>,
    /// A fresh nonce, from the system's random numbers.
    pub nonce: Arc<dyn Fn() -> Nonce + Send + Sync>,
    /// Signs batches and `state` with the kit's key.
    pub signer: Arc<dyn Signer + Send + Sync>,
    /// Knows the centre's keys.
    pub verifier: Arc<dyn Verifier + Send + Sync>,
    /// Takes assignments whose signature holds, as signed octets.
    pub assignments: mpsc::Sender<Vec<u8>>,
    /// Told (`notify_one`) when a network interface comes up.
    pub interface_up: Arc<Notify>,
    /// For jitter only.
    pub jitter_seed: u64,
    /// Shows where sync stands.
    pub status: watch::Sender<SyncStatus>,
}

impl<S> fmt::Debug for SyncContext<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncContext").field("kit", &self.kit).field("host", &self.host).field("port", &self.port).finish()
    }
}

/// Keeps the kit in sync with the centre until `shutdown`, or until the store is gone.
///
/// It survives every fault of the network, the broker and the centre by itself; what it cannot mend it shows in the status.
pub async fn run<S: Shelf>(context: SyncContext<S>, shutdown: impl Future<Output = ()> + Send) {
    shell::Shell::new(context).run(shutdown).await;
}
