//! The air around the adapter: which devices are heard, which are in a conversation, and whether anything is heard at all.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use btleplug::api::{Central as _, CentralEvent, CentralState, Manager as _, Peripheral as _, ScanFilter, ValueNotification};
use btleplug::platform::{Adapter, Manager, Peripheral, PeripheralId};
use futures_util::{Stream, StreamExt as _};
use kit_protocol::moment::Moment;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::broadcast::{ADVERTS_MAX, Advert};
use super::conversation;
use super::{CentralError, HEALTH_PERIOD, Opening, Request, Sighting, Wanted};
use crate::transport::{Address, Clock, Identity, shown};

/// The most devices that are remembered; the one heard longest ago is forgotten first.
const SEEN_MAX: usize = 256;
/// bluetoothd must answer within so long what it knows of a device.
const LEARN_TIMEOUT: Duration = Duration::from_secs(3);
/// bluetoothd must answer within so long when scanning begins or ends.
const SCAN_TIMEOUT: Duration = Duration::from_secs(5);
/// Beginning to scan is tried so often before the adapter is taken for gone.
const SCAN_ATTEMPTS_MAX: u32 = 5;
/// Between these attempts.
const SCAN_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Links are given so long to be ended when a Central ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens around the adapter.
pub(super) type Events = Pin<Box<dyn Stream<Item = CentralEvent> + Send>>;
/// Values of one device.
pub(super) type Values = Pin<Box<dyn Stream<Item = ValueNotification> + Send>>;

/// What a conversation watches of its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// Whether there is one.
    pub(super) up: bool,
    /// How many have ended.
    pub(super) losses: u64,
}

/// A device that was heard.
struct Seen {
    peripheral: Peripheral,
    address: Address,
    name: Option<String>,
    services: BTreeSet<Uuid>,
    /// Heard since its last link ended or its last attempt began.
    heard: bool,
    /// The higher, the later it was heard.
    order: u64,
    connection: watch::Sender<Connection>,
    claimed: bool,
    values: Option<Values>,
    identity: Option<Identity>,
}

#[derive(Default)]
struct Table {
    devices: HashMap<PeripheralId, Seen>,
    order: u64,
}

/// The adapter and what is known around it.
pub(super) struct Air {
    adapter: Adapter,
    filter: ScanFilter,
    /// The time of reception.
    pub(super) clock: Clock,
    /// Where the last events of a link are delivered from.
    pub(super) caller: Handle,
    table: Mutex<Table>,
    changed: watch::Sender<()>,
    /// Whether scanning is on; held while it is to be off.
    scanning: tokio::sync::Mutex<bool>,
    connects: AtomicU32,
    connects_max: u32,
    failing: watch::Sender<Option<CentralError>>,
    /// What devices advertise, for those who listen.
    adverts: broadcast::Sender<Arc<Advert>>,
}

/// A device taken for one conversation; given back when this is dropped.
pub(super) struct Claim {
    air: Arc<Air>,
    id: PeripheralId,
    /// The device.
    pub(super) peripheral: Peripheral,
    /// Its address.
    pub(super) address: Address,
    /// The name that it advertises.
    pub(super) name: Option<String>,
    /// Its link.
    pub(super) connection: watch::Receiver<Connection>,
    /// Its values; `None` only until the first conversation made the stream.
    pub(super) values: Option<Values>,
    /// Who it was found to be in the last conversation.
    pub(super) identity: Option<Identity>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(seen) = self.air.table().devices.get_mut(&self.id) {
            seen.claimed = false;
            seen.values = self.values.take();
            seen.identity = self.identity.take();
        }
        self.air.changed.send_replace(());
    }
}

impl Air {
    /// Opens the adapter and begins to scan.
    pub(super) async fn open(opening: Opening) -> Result<(Arc<Self>, Events), CentralError> {
        let Opening { options, connects_max, caller, failing } = opening;
        let unavailable = |error: btleplug::Error| CentralError::Unavailable(error.to_string());
        let manager = Manager::new().await.map_err(unavailable)?;
        let adapter = choose(&manager, options.adapter.as_deref()).await?;
        let events = adapter.events().await.map_err(unavailable)?;
        let air = Arc::new(Self {
            adapter,
            filter: ScanFilter { services: options.services },
            clock: options.clock,
            caller,
            table: Mutex::default(),
            changed: watch::Sender::new(()),
            scanning: tokio::sync::Mutex::new(false),
            connects: AtomicU32::new(0),
            connects_max,
            failing,
            adverts: broadcast::Sender::new(ADVERTS_MAX),
        });
        air.listen().await;
        match air.failing.borrow().clone() {
            Some(error) => Err(CentralError::Unavailable(error.to_string())),
            None => Ok((Arc::clone(&air), events)),
        }
    }

    /// Serves requests until the Central is dropped or fails; then ends every conversation.
    pub(super) async fn serve(self: Arc<Self>, mut events: Events, mut inbox: mpsc::Receiver<Request>) {
        let mut tasks = JoinSet::new();
        let mut health = Box::pin(self.watch_health());
        let ended = loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(Request::Connect(wanted, answer)) => {
                        tasks.spawn(conversation::serve(Arc::clone(&self), wanted, answer));
                    }
                    Some(Request::Find(wanted, answer)) => {
                        tasks.spawn(Arc::clone(&self).answer_find(wanted, answer));
                    }
                    Some(Request::Listen(wanted, answer)) => {
                        tasks.spawn(super::broadcast::serve(Arc::clone(&self), wanted, answer));
                    }
                    None => break CentralError::Gone("it was closed".to_owned()),
                },
                event = events.next() => match event {
                    Some(event) => self.dispatch(event).await,
                    None => break CentralError::Gone("the bus is gone".to_owned()),
                },
                error = &mut health => break error,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => report(ended),
                error = self.failed() => break error,
            }
        };
        self.fail(ended);
        drop(inbox);
        // A check that is under way holds what conversations need to end.
        drop(health);
        let farewell = async {
            while !tasks.is_empty() {
                tokio::select! {
                    Some(event) = events.next() => self.dispatch(event).await,
                    Some(ended) = tasks.join_next() => report(ended),
                    else => break,
                }
            }
        };
        if timeout(FAREWELL_TIMEOUT, farewell).await.is_err() {
            tracing::warn!("Bluetooth conversations did not end in time");
        }
    }

    /// Declares the Central useless; the first reason stays.
    pub(super) fn fail(&self, error: CentralError) {
        self.failing.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::info!(%error, "this Bluetooth central ends");
                *failure = Some(error);
            }
            first
        });
    }

    /// Waits until the Central is useless.
    pub(super) async fn failed(&self) -> CentralError {
        let mut failure = self.failing.subscribe();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        failed.unwrap_or_else(|| CentralError::Gone("it was closed".to_owned()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- who is there ----

    async fn dispatch(&self, event: CentralEvent) {
        let at = (self.clock)();
        let advertised = match &event {
            CentralEvent::ServiceDataAdvertisement { id, service_data } if self.adverts.receiver_count() > 0 => {
                Some((id.clone(), service_data.clone()))
            }
            _ => None,
        };
        match event {
            CentralEvent::DeviceDiscovered(id) | CentralEvent::ServicesAdvertisement { id, .. } => self.learn(&id).await,
            CentralEvent::RssiUpdate { id, .. }
            | CentralEvent::ManufacturerDataAdvertisement { id, .. }
            | CentralEvent::ServiceDataAdvertisement { id, .. }
                if !self.heard_again(&id) =>
            {
                self.learn(&id).await;
            }
            CentralEvent::DeviceConnected(id) => {
                if !self.table().devices.contains_key(&id) {
                    self.learn(&id).await;
                }
                self.connection(&id, true);
            }
            CentralEvent::DeviceDisconnected(id) => self.connection(&id, false),
            CentralEvent::StateUpdate(CentralState::PoweredOff) => {
                self.fail(CentralError::Gone("the adapter was switched off".to_owned()));
            }
            _ => {}
        }
        if let Some((id, data)) = advertised {
            self.tell(at, &id, data);
        }
    }

    /// Tells those who listen what a device advertises.
    fn tell(&self, at: Moment, id: &PeripheralId, data: HashMap<Uuid, Vec<u8>>) {
        let table = self.table();
        let Some(seen) = table.devices.get(id) else { return };
        let (address, name) = (seen.address, seen.name.clone());
        // Nobody listens any more: nobody misses it.
        let _nobody = self.adverts.send(Arc::new(Advert { address, name, at, data: data.into_iter().collect() }));
    }

    /// What devices advertise from now on.
    pub(super) fn adverts(&self) -> broadcast::Receiver<Arc<Advert>> {
        self.adverts.subscribe()
    }

    /// A known device was heard; `false` if it is not known.
    fn heard_again(&self, id: &PeripheralId) -> bool {
        let mut table = self.table();
        table.order += 1;
        let order = table.order;
        let Some(seen) = table.devices.get_mut(id) else { return false };
        seen.order = order;
        let news = !std::mem::replace(&mut seen.heard, true);
        drop(table);
        if news {
            self.changed.send_replace(());
        }
        true
    }

    /// Asks bluetoothd what it knows of a device. Signal strength tells a device that is heard from one that is remembered.
    async fn learn(&self, id: &PeripheralId) {
        let known = self.table().devices.get(id).map(|seen| seen.peripheral.clone());
        let ask = async {
            let peripheral = match known {
                Some(peripheral) => peripheral,
                None => self.adapter.peripheral(id).await.ok()?,
            };
            let properties = peripheral.properties().await.ok()??;
            Some((peripheral, properties))
        };
        let Ok(Some((peripheral, properties))) = timeout(LEARN_TIMEOUT, ask).await else { return };
        let mut table = self.table();
        table.order += 1;
        let order = table.order;
        table.make_room_for(id);
        let seen = table.devices.entry(id.clone()).or_insert_with(|| Seen {
            address: Address(peripheral.address().into_inner()),
            peripheral,
            name: None,
            services: BTreeSet::new(),
            heard: false,
            order,
            connection: watch::Sender::new(Connection::default()),
            claimed: false,
            values: None,
            identity: None,
        });
        seen.name = properties.advertisement_name.as_deref().and_then(shown);
        seen.services.extend(properties.services);
        if properties.rssi.is_some() && !seen.connection.borrow().up {
            seen.heard = true;
            seen.order = order;
        }
        drop(table);
        self.changed.send_replace(());
    }

    fn connection(&self, id: &PeripheralId, up: bool) {
        if let Some(seen) = self.table().devices.get_mut(id) {
            seen.heard = false;
            seen.connection.send_modify(|connection| {
                connection.losses += u64::from(!up);
                connection.up = up;
            });
        }
        self.changed.send_replace(());
    }

    // ---- claims ----

    /// Waits for such a device that is heard, or connected already, and in no conversation.
    pub(super) async fn claim(self: &Arc<Self>, wanted: &Wanted) -> Claim {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(claim) = self.try_claim(wanted) {
                return claim;
            }
            // The sender lives as long as `self`.
            let _alive = changed.changed().await;
        }
    }

    fn try_claim(self: &Arc<Self>, wanted: &Wanted) -> Option<Claim> {
        let mut table = self.table();
        let (id, seen) = table
            .devices
            .iter_mut()
            .filter(|(_, seen)| !seen.claimed && (seen.heard || seen.connection.borrow().up))
            .filter(|(_, seen)| wanted.fits(seen.address, seen.services.iter().copied()))
            .max_by_key(|(_, seen)| seen.order)?;
        seen.claimed = true;
        seen.heard = false;
        Some(Claim {
            air: Arc::clone(self),
            id: id.clone(),
            peripheral: seen.peripheral.clone(),
            address: seen.address,
            name: seen.name.clone(),
            connection: seen.connection.subscribe(),
            values: seen.values.take(),
            identity: seen.identity.clone(),
        })
    }

    async fn answer_find(self: Arc<Self>, wanted: Wanted, mut answer: tokio::sync::oneshot::Sender<Sighting>) {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(sighting) = self.sighting(&wanted) {
                // Whoever asked may have gone.
                let _gone = answer.send(sighting);
                return;
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = self.failed() => return,
                () = answer.closed() => return,
            }
        }
    }

    fn sighting(&self, wanted: &Wanted) -> Option<Sighting> {
        let table = self.table();
        let fitting = table
            .devices
            .values()
            .filter(|seen| seen.heard || seen.connection.borrow().up)
            .filter(|seen| wanted.fits(seen.address, seen.services.iter().copied()));
        let seen = fitting.max_by_key(|seen| seen.order)?;
        Some(Sighting { address: seen.address, name: seen.name.clone(), services: seen.services.iter().copied().collect() })
    }

    /// Counts a connection; fails the Central when it has made its share.
    pub(super) fn count_connect(&self) -> Result<(), CentralError> {
        let connects = self.connects.fetch_add(1, Ordering::Relaxed);
        let conversations = self.table().devices.values().filter(|seen| seen.claimed).count();
        if connects / 2 >= self.connects_max || (connects >= self.connects_max && conversations <= 1) {
            self.fail(CentralError::WornOut);
            return Err(CentralError::WornOut);
        }
        Ok(())
    }

    // ---- scanning ----

    /// Stops scanning for as long as the guard is held.
    pub(super) async fn quiet(&self) -> tokio::sync::MutexGuard<'_, bool> {
        let mut scanning = self.scanning.lock().await;
        if std::mem::replace(&mut *scanning, false) {
            // What is not on needs no stopping, and what cannot be stopped is found out by the next health check.
            let _stopped = timeout(SCAN_TIMEOUT, self.adapter.stop_scan()).await;
        }
        scanning
    }

    /// Scans, if it does not already.
    pub(super) async fn listen(&self) {
        let scanning = self.scanning.lock().await;
        self.resume(scanning).await;
    }

    /// Scans again after [`Air::quiet`].
    pub(super) async fn resume(&self, mut scanning: tokio::sync::MutexGuard<'_, bool>) {
        let mut last = String::new();
        for _ in 0..SCAN_ATTEMPTS_MAX {
            if *scanning || self.failing.borrow().is_some() {
                return;
            }
            match self.start_scan().await {
                Ok(()) => *scanning = true,
                Err(error) => {
                    last = error;
                    sleep(SCAN_RETRY_DELAY).await;
                }
            }
        }
        if !*scanning {
            self.fail(CentralError::Gone(format!("the adapter does not scan: {last}")));
        }
    }

    async fn start_scan(&self) -> Result<(), String> {
        match timeout(SCAN_TIMEOUT, self.adapter.start_scan(self.filter.clone())).await {
            Ok(started) => started.map_err(|error| error.to_string()),
            Err(_) => Err("bluetoothd does not answer".to_owned()),
        }
    }

    /// Returns when bluetoothd or the adapter is gone, or was.
    async fn watch_health(&self) -> CentralError {
        loop {
            sleep(HEALTH_PERIOD).await;
            let mut scanning = self.scanning.lock().await;
            let began = self.start_scan().await;
            match (began, *scanning) {
                (Ok(()), true) => return CentralError::Gone("scanning had ended: bluetoothd was restarted".to_owned()),
                (Ok(()), false) => *scanning = true,
                // Refused because it is on already, or because nobody is there: the adapter's own answer tells which.
                (Err(refused), _) => match timeout(SCAN_TIMEOUT, self.adapter.adapter_info()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return CentralError::Gone(error.to_string()),
                    Err(_) => return CentralError::Gone(refused),
                },
            }
        }
    }
}

impl Table {
    fn make_room_for(&mut self, id: &PeripheralId) {
        if self.devices.len() < SEEN_MAX || self.devices.contains_key(id) {
            return;
        }
        let idle = self.devices.iter().filter(|(_, seen)| !seen.claimed && seen.values.is_none());
        if let Some(oldest) = idle.min_by_key(|(_, seen)| seen.order).map(|(id, _)| id.clone()) {
            self.devices.remove(&oldest);
        }
    }
}

/// The adapter of that name, or the first by name.
async fn choose(manager: &Manager, name: Option<&str>) -> Result<Adapter, CentralError> {
    let adapters = manager.adapters().await.map_err(|error| CentralError::Unavailable(error.to_string()))?;
    let mut named = Vec::new();
    for adapter in adapters {
        // An adapter that goes at this moment is none.
        if let Ok(info) = adapter.adapter_info().await {
            let own = info.split_whitespace().next().unwrap_or_default().to_owned();
            named.push((own, adapter));
        }
    }
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    let found = named.into_iter().find(|(own, _)| name.is_none_or(|name| own == name));
    found.map(|(_, adapter)| adapter).ok_or_else(|| CentralError::Unavailable("there is no such adapter".to_owned()))
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a Bluetooth conversation panicked; its link is down");
    }
}
