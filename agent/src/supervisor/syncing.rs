//! Starts sync with what it needs of the rest of the agent.

use std::sync::Arc;
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::Nonce;
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc, watch};

use super::tasks::Tasks;
use crate::acquisition::keeper::Shared;
use crate::acquisition::roster::Roster;
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::{Identity, IdentityError};
use crate::sync::state::About;
use crate::sync::status::SyncStatus;
use crate::sync::tls::{self, TlsError};
use crate::sync::{self, SyncContext};

/// Documents of the centre that wait, at most.
const DOCUMENTS_MAX: usize = 4;
/// The devices named in `state` are looked at so often.
const DEVICES_PERIOD: Duration = Duration::from_secs(5);

/// Whom the kit trusts, and as whom it comes.
pub(super) fn tls_config(identity: &Identity, clock: &Arc<Clock>) -> Result<Arc<ClientConfig>, IdentityError> {
    let config = tls::client_config(&identity.authority, &identity.certificate, &identity.key_pem, Arc::clone(clock) as _);
    config.map_err(|error| {
        let key = match error {
            TlsError::NoAuthority | TlsError::Authority(_) => "broker.authority",
            TlsError::NoCertificate => "broker.certificate",
            TlsError::Key(_) => "broker.key",
        };
        IdentityError::Configured { key, problem: error.to_string() }
    })
}

/// Starts sync, and gives where it stands.
pub(super) fn start_sync(
    tasks: &mut Tasks,
    config: &Config,
    identity: &Identity,
    shared: &Shared,
    tls: Arc<ClientConfig>,
) -> watch::Receiver<SyncStatus> {
    let clock = Arc::clone(&shared.world.clock);
    let (_fixed, tls) = watch::channel(tls);
    let (status, link) = watch::channel(SyncStatus::default());
    let (devices_in, devices) = watch::channel(Vec::new());
    let (assignments, documents) = mpsc::channel(DOCUMENTS_MAX);
    let origins = Arc::clone(&shared.world.origins);
    let context = {
        let (config, identity, shared) = (config.clone(), identity.clone(), shared.clone());
        move || SyncContext {
            tenant: config.tenant.clone(),
            kit: config.kit.clone(),
            host: config.broker.host.clone(),
            port: config.broker.port,
            tls: tls.clone(),
            about: About {
                version: env!("CARGO_PKG_VERSION").into(),
                boot_id: clock.boot_id(),
                certificate: identity.certificate_der.clone(),
            },
            shelf: shared.store.clone(),
            devices: devices.clone(),
            clock: {
                let clock = Arc::clone(&clock);
                Arc::new(move || clock.stated())
            },
            now: Arc::new(crate::clock::now as fn() -> Moment),
            nonce: {
                let origins = Arc::clone(&origins);
                Arc::new(move || Nonce(origins.random_octets()))
            },
            signer: identity.key.clone(),
            verifier: identity.centre.clone(),
            assignments: assignments.clone(),
            interface_up: Arc::new(Notify::new()),
            jitter_seed: u64::from_be_bytes(origins.random_octets()),
            status: status.clone(),
        }
    };
    tasks.keep_running("sync", move || sync::run(context(), std::future::pending()));
    tasks.run("device list", announce_devices(shared.roster.clone(), devices_in));
    tasks.run("documents", tell_of_documents(documents));
    link
}

/// Keeps the list of devices that `state` names.
async fn announce_devices(roster: Roster, devices: watch::Sender<Vec<kit_protocol::uplink::wire::Device>>) {
    loop {
        let known = roster.devices();
        devices.send_if_modified(|told| {
            let changed = *told != known;
            *told = known;
            changed
        });
        tokio::time::sleep(DEVICES_PERIOD).await;
    }
}

/// An assignment that arrives is told of, not activated: whoever hands the kit over does that.
async fn tell_of_documents(mut documents: mpsc::Receiver<Vec<u8>>) {
    while documents.recv().await.is_some() {
        tracing::info!("the centre sent an assignment; activate it with `kit-agent assignment start FILE`");
    }
    std::future::pending().await
}
