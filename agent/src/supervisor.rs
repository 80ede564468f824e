//! Every task of the agent is started, restarted and stopped here.

mod orders;
mod syncing;
mod tasks;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kit_protocol::moment::Moment;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, RwLock, mpsc, watch};
use uuid::Uuid;

use crate::acquisition::keeper::{self, Shared};
use crate::acquisition::roster::Roster;
use crate::acquisition::surroundings::World;
use crate::acquisition::window::Windows;
use crate::api::server::{self, Api, Order};
use crate::api::status::{LinkStatus, Status, waiting};
use crate::clock::Clock;
use crate::config::{Broadcast, Config, Device, Place};
use crate::health;
use crate::identity::memories::Memories;
use crate::identity::tenure::Tenures;
use crate::identity::{Identity, IdentityError};
use crate::store::thread::{StoreHandle, StoreView};
use crate::sync::planner::Reach;
use crate::sync::status::SyncStatus;
use kit_protocol::uplink::id::Lane;
use orders::Orders;
use syncing::{start_sync, tls_config};
use tasks::Tasks;

/// Orders of the command line that wait, at most.
const ORDERS_MAX: usize = 4;
/// At the end the queue's thread gets this long to finish its commit.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(5);
/// A store that has not answered for so long is not fed the watchdog for.
const STORE_ANSWER_MAX: Duration = Duration::from_secs(15);

/// Why the service ended though nobody told it to.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// What the configuration names is not what it should be: trying again changes nothing.
    WrongConfiguration(String),
    /// Anything else.
    Failed(String),
}

impl From<String> for Stopped {
    fn from(what: String) -> Self {
        Self::Failed(what)
    }
}

impl From<IdentityError> for Stopped {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Configured { .. } => Self::WrongConfiguration(error.to_string()),
            IdentityError::Own(what) => Self::Failed(what),
        }
    }
}

/// Runs the service until it is told to stop.
///
/// One thread runs every task; the store has its own, since it waits for the disk.
pub(crate) fn run(config: Config) -> Result<(), Stopped> {
    start_log();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("the TLS provider was installed before");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(serve(config))
}

/// The story of a day goes to standard error; `KIT_LOG=debug` tells that of one session. No values, no keys, at any level.
fn start_log() {
    let level = match std::env::var("KIT_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        Ok("warn") => tracing::Level::WARN,
        _ => tracing::Level::INFO,
    };
    // A second start in one process (tests) keeps the first one's log.
    let _ = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level).with_ansi(false).try_init();
}

/// Everything that is shared while the agent runs.
struct Running {
    config: Config,
    clock: Arc<Clock>,
    started: Moment,
    store: StoreHandle,
    roster: Roster,
    windows: Windows,
    link: watch::Receiver<SyncStatus>,
}

async fn serve(config: Config) -> Result<(), Stopped> {
    let listener = listen(&config.socket).await?;
    let identity = Identity::load(&config)?;
    let clock = Arc::new(Clock::of_this_boot());
    let tls = tls_config(&identity, &clock)?;
    let store = identity.start_store(&config, &clock)?;
    let roster = Roster::default();
    let pausing = Arc::new(watch::Sender::new(false));
    let shared = Shared {
        store: store.clone(),
        world: World { clock: Arc::clone(&clock), origins: Arc::clone(&identity.origins) },
        roster: roster.clone(),
        pause: pausing.subscribe(),
        conversations: Arc::new(RwLock::new(())),
        central: Arc::new(Mutex::new(None)),
        services: services(&config),
        tenures: Arc::new(Tenures::load(config.state.join("identity").join("tenure"))),
        memories: Memories::in_folder(config.state.join("identity").join("memory")),
        windows: Windows::default(),
    };
    let mut tasks = Tasks::default();
    let link = start_sync(&mut tasks, &config, &identity, &shared, tls);
    for device in &config.devices {
        start_device(&mut tasks, device.clone(), &shared);
    }
    let (orders_in, orders_out) = mpsc::channel(ORDERS_MAX);
    let orders = Orders::new(&config, &identity, &shared, Arc::clone(&pausing));
    tasks.run("orders", orders.carry_out(orders_out));
    let (started, windows) = (crate::clock::now(), shared.windows.clone());
    let running = Arc::new(Running { config, clock, started, store: store.clone(), roster, windows, link });
    if let Some(listener) = listener {
        tasks.run("api", serve_api(Arc::clone(&running), listener, orders_in));
    }
    let watched = store.clone();
    tasks.run("watchdog", health::beat(async move || store_answers(&watched).await));

    tasks.run("readiness", tell_when_ready(store.view()));

    tracing::info!(kit = %running.config.kit, version = env!("CARGO_PKG_VERSION"), "running");
    let end = until_told_to_stop(&mut tasks).await;
    health::stopping();
    // Conversations are told to end by the same switch that an assignment uses; what they gave becomes durable first.
    pausing.send_replace(true);
    tasks.close(&shared.conversations).await;
    if tokio::time::timeout(STORE_CLOSE_MAX, store.close()).await.is_err() {
        tracing::warn!("the store did not close in time; what it had answered for is on the disk all the same");
    }
    tracing::info!("stopped");
    Ok(end?)
}

/// The services of every Bluetooth device of the kit: nothing else is scanned for. Empty: everything is.
fn services(config: &Config) -> Arc<[Uuid]> {
    let by_radio = config.devices.iter().filter(|device| matches!(device.place, Place::Address(_)));
    let services: Vec<&[Uuid]> = by_radio.map(|device| device.driver.advertises()).collect();
    // A device that advertises no service is found only where nothing is left out.
    if services.iter().any(|services| services.is_empty()) { Arc::default() } else { services.concat().into() }
}

fn start_device(tasks: &mut Tasks, device: Device, shared: &Shared) {
    let place = match &device.place {
        Place::Port(port) => port.display().to_string(),
        Place::Address(address) => address.to_string(),
        Place::Folder(folder) => folder.display().to_string(),
    };
    if device.broadcast == Some(Broadcast::InWindow) {
        shared.windows.add(&device.identity);
    }
    let at = shared.roster.add(&device.identity, device.driver.name, &place);
    let shared = shared.clone();
    tasks.keep_running("device", move || keeper::keep(device.clone(), at, shared.clone()));
}

async fn until_told_to_stop(tasks: &mut Tasks) -> Result<(), String> {
    let told = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut terminate, mut interrupt) = (told(SignalKind::terminate())?, told(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = tasks.first_end() => Err(ended),
    }
}

async fn store_answers(store: &StoreHandle) -> bool {
    tokio::time::timeout(STORE_ANSWER_MAX, store.mark("watchdog")).await.is_ok()
}

/// Ready is who can keep a reading: systemd is told once the store is open.
async fn tell_when_ready(mut view: watch::Receiver<StoreView>) {
    loop {
        let open = tokio::time::timeout(health::STARTING, view.wait_for(|view| view.trouble.is_none())).await.is_ok();
        if open {
            break;
        }
        let why = view.borrow().trouble.clone();
        health::starting(&why.unwrap_or_default());
    }
    health::ready();
    std::future::pending().await
}

/// The local API's socket; `None` where it cannot be had: measuring and sending go on without. Two agents never run over one
/// kit: they would take the devices, the store and the broker's session from each other.
async fn listen(socket: &Path) -> Result<Option<UnixListener>, String> {
    match server::listen(socket).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(format!("another agent runs and answers on {}; stop it first", socket.display()))
        }
        Err(error) => {
            tracing::error!(socket = %socket.display(), %error, "the local API cannot be served; check the folder's rights");
            Ok(None)
        }
    }
}

async fn serve_api(running: Arc<Running>, listener: UnixListener, orders: mpsc::Sender<Order>) {
    let (kit, store) = (running.config.kit.clone(), running.store.clone());
    let (windows, clock) = (running.windows.clone(), Arc::clone(&running.clock));
    let api = Api { kit, store, status: Box::new(move || running.status()), orders, windows, clock };
    if let Err(error) = server::serve(listener, api).await {
        // Measuring and sending go on: only status and listings are not to be had.
        tracing::error!(%error, "the local API cannot be served any more");
        std::future::pending::<()>().await;
    }
}

impl Running {
    fn status(&self) -> Status {
        let now = self.clock.now();
        let view = self.store.view().borrow().clone();
        let records: u64 = view.epochs.iter().flat_map(|epoch| Lane::ALL.map(|lane| waiting(epoch, lane))).sum();
        Status {
            kit: self.config.kit.to_string(),
            tenant: self.config.tenant.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            up_s: now.since(self.started).as_secs(),
            assignment: view.epochs.iter().find(|epoch| epoch.open).and_then(|epoch| epoch.assignment.clone()),
            clock: clock_word(&self.clock).into(),
            link: self.link_status(now),
            waiting: records,
            quarantined: u64::try_from(view.quarantined.len()).unwrap_or(u64::MAX),
            store_trouble: view.trouble,
            devices: self.roster.views(now),
        }
    }

    fn link_status(&self, now: Moment) -> LinkStatus {
        let link = self.link.borrow().clone();
        LinkStatus {
            connected: link.connected,
            broker: format!("{}:{}", self.config.broker.host, self.config.broker.port),
            settled: link.settled,
            centre_online: link.centre == Reach::Online,
            last_acknowledgement_age_s: link.last_acknowledged.map(|last| now.since(last).as_secs()),
            in_flight: link.wire_batches.try_into().unwrap_or(u64::MAX),
            paused: link.paused.map(str::to_owned),
            refusal: link.refusal,
            troubles: link.troubles.iter().map(ToString::to_string).collect(),
            octets_up: link.octets_up,
            octets_down: link.octets_down,
        }
    }
}

fn clock_word(clock: &Clock) -> &'static str {
    use kit_protocol::uplink::wire::ClockQuality;
    match ClockQuality::try_from(clock.stated().quality) {
        Ok(ClockQuality::Synced) => "synchronised",
        Ok(ClockQuality::Plausible) => "plausible",
        Ok(ClockQuality::Estimated) => "estimated",
        Ok(ClockQuality::Unknown) | Err(_) => "unknown",
    }
}
