//! Keeps one device in conversation: connects, holds the conversation, waits, connects again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use device_drivers::driver::{Link as LinkKind, Start};
use device_drivers::transport::ble::Central;
use device_drivers::transport::{About, Link, LinkEvent, MomentSource, serial};
use kit_protocol::reading::Kind;
use kit_protocol::uplink::wire::{self, MissedReason};
use prost::Message;
use tokio::sync::{Mutex, RwLock, watch};

use super::recorder::{Conversation, Recorder, StreamMark, last_record_key, mark_key};
use super::roster::{Phase, Roster};
use super::session::{Ended, Surface, converse, stopped};
use super::surroundings::World;
use crate::config::{Device, Place};
use crate::store::thread::StoreHandle;

/// A device that cannot be reached is tried again after this, doubling.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// And at most after this: a spot device advertises for some seconds only.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A connection that is made but never comes up is given up.
const UP_WAIT_MAX: Duration = Duration::from_secs(45);

/// What every keeper shares.
#[derive(Clone)]
pub struct Shared {
    /// Where records go.
    pub store: StoreHandle,
    /// Clocks, ids, HMAC.
    pub world: World,
    /// What is shown of the devices.
    pub roster: Roster,
    /// True: every conversation must end (the assignment changes, or the agent stops).
    pub pause: watch::Receiver<bool>,
    /// Held for reading by every conversation; who holds it for writing knows that there is none.
    pub conversations: Arc<RwLock<()>>,
    /// The one Bluetooth central, made when first needed and again after it failed.
    pub central: Arc<Mutex<Option<Arc<Central>>>>,
}

/// Keeps the device in conversation until the task is dropped.
pub async fn keep(device: Device, at: usize, shared: Shared) {
    let mut retry = RETRY_MIN;
    let mut hole = MissedReason::AgentDown;
    loop {
        let mut pause = shared.pause.clone();
        if pause.wait_for(|paused| !*paused).await.is_err() {
            return;
        }
        let conversations = Arc::clone(&shared.conversations);
        let held = conversations.read().await;
        if *shared.pause.borrow() {
            continue;
        }
        let ended = attend(&device, at, &shared, hole).await;
        drop(held);
        match ended {
            Ok(ended) => {
                hole = MissedReason::LinkLost;
                retry = RETRY_MIN;
                let phase = if ended == Ended::Stopped { Phase::Paused } else { Phase::Waiting };
                shared.roster.update(at, |view| view.phase = phase);
            }
            Err(trouble) => {
                shared.roster.update(at, |view| {
                    view.phase = Phase::Waiting;
                    view.trouble = Some(trouble);
                });
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            () = stopped(&mut pause) => {}
        }
    }
}

/// Connects and holds one conversation.
async fn attend(device: &Device, at: usize, shared: &Shared, hole: MissedReason) -> Result<Ended, String> {
    shared.roster.update(at, |view| view.phase = Phase::Connecting);
    let mut pause = shared.pause.clone();
    let connected = tokio::select! {
        link = connect(device, shared) => link,
        () = stopped(&mut pause) => return Ok(Ended::Stopped),
    };
    let mut link = connected?;
    let about = tokio::select! {
        about = up(&mut link) => about?,
        () = stopped(&mut pause) => return Ok(Ended::Stopped),
    };
    let (first, about) = about;
    let identity = introduce(device, &about, &first);
    shared.roster.introduce(at, identity.clone());
    shared.roster.update(at, |view| {
        view.phase = Phase::Connected;
        view.trouble = None;
    });
    tracing::info!(device = %device.identity, driver = device.driver.name, "connected");

    let marks = stream_marks(&shared.store, &device.identity).await;
    let last_record = last_record(&shared.store, &device.identity).await;
    let start = Start {
        model: about.model.clone(),
        user_slot: device.user_slot,
        last_record,
        stream_interval: Some(device.stream_interval),
        ..Start::default()
    };
    let mut session = (device.driver.session)(start);
    session.handle_event(shared.world.clock.now(), first.as_event());
    let conversation = Conversation {
        device: identity,
        driver: wire::Driver { name: device.driver.name.into(), version: device.driver.version.into() },
        source: match device.driver.link {
            LinkKind::Ble { .. } => wire::Source::Ble,
            LinkKind::Serial(_) => wire::Source::Serial,
        },
    };
    let recorder = Recorder::new(conversation, shared.world.clone(), marks, last_record, hole);
    let surface = Surface { store: &shared.store, clock: &shared.world.clock, roster: &shared.roster, at, stop: shared.pause.clone() };
    let ended = converse(link, session, recorder, surface).await;
    tracing::info!(device = %device.identity, ?ended, "conversation ended");
    Ok(ended)
}

/// Waits for the device to be discovered and secured.
async fn up(link: &mut Link) -> Result<(LinkEvent, About), String> {
    match tokio::time::timeout(UP_WAIT_MAX, link.events.recv()).await {
        Ok(Some((_, event @ LinkEvent::Up { .. }))) => {
            let LinkEvent::Up { about, .. } = &event else { return Err(String::new()) };
            let about = about.clone();
            Ok((event, about))
        }
        Ok(_) => Err("the device went away before it could be read; keep it near the gateway and measure again".into()),
        Err(_) => Err("the device did not answer; switch it off and on".into()),
    }
}

async fn connect(device: &Device, shared: &Shared) -> Result<Link, String> {
    let clock = Arc::clone(&shared.world.clock);
    let moments: MomentSource = Arc::new(move || clock.now());
    match (&device.place, device.driver.link) {
        (Place::Port(port), LinkKind::Serial(settings)) => {
            serial::open(port, settings, moments).map_err(|error| format!("{}: {error}; plug the device in, and check the port's rights", port.display()))
        }
        (Place::Address(address), LinkKind::Ble { .. }) => {
            let central = central(shared, moments).await?;
            match central.connect(address, device.driver).await {
                Ok(link) => Ok(link),
                Err(error) => {
                    if error.central_lost() {
                        *shared.central.lock().await = None;
                    }
                    Err(format!("{error}; measure with the device near the gateway"))
                }
            }
        }
        (Place::Port(_), LinkKind::Ble { .. }) | (Place::Address(_), LinkKind::Serial(_)) => {
            // The configuration does not parse into this; a driver whose link changed would be told here.
            Err("the driver does not fit the device's place".into())
        }
    }
}

async fn central(shared: &Shared, moments: MomentSource) -> Result<Arc<Central>, String> {
    let mut slot = shared.central.lock().await;
    if let Some(central) = &*slot {
        return Ok(Arc::clone(central));
    }
    let central = Central::new(moments).await.map_err(|error| format!("Bluetooth: {error}; check that the adapter is plugged in"))?;
    let central = Arc::new(central);
    *slot = Some(Arc::clone(&central));
    Ok(central)
}

fn introduce(device: &Device, about: &About, up: &LinkEvent) -> wire::Device {
    use device_drivers::driver::Security;
    let security = match up {
        LinkEvent::Up { security: Security::Authenticated, .. } => "authenticated",
        LinkEvent::Up { security: Security::Unauthenticated, .. } => "unauthenticated",
        _ => "none",
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    wire::Device {
        identity: device.identity.clone(),
        manufacturer: text(&about.manufacturer),
        model: text(&about.model),
        serial: text(&about.serial),
        firmware: text(&about.firmware),
        link: match device.place {
            Place::Port(_) => "serial",
            Place::Address(_) => "ble",
        }
        .into(),
        security: security.into(),
    }
}

/// How far each stream of the device is durable.
async fn stream_marks(store: &StoreHandle, identity: &str) -> BTreeMap<Kind, StreamMark> {
    let mut marks = BTreeMap::new();
    for (kind, _) in Kind::NAMES {
        let octets = store.mark(&mark_key(identity, kind)).await;
        if let Some(mark) = octets.and_then(|octets| StreamMark::decode(octets.as_slice()).ok()) {
            marks.insert(kind, mark);
        }
    }
    marks
}

async fn last_record(store: &StoreHandle, identity: &str) -> Option<u64> {
    let octets = store.mark(&last_record_key(identity)).await?;
    octets.try_into().ok().map(u64::from_be_bytes)
}
