//! Keeps one device in conversation: connects, holds the conversation, waits, connects again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use device_drivers::driver::{About, Start};
use device_drivers::transport::ble::{self, Allowed, Central, CentralError, Wanted};
use device_drivers::transport::{Clock as Moments, Identity, Link, LinkEvent, Occurrence, file, serial};
use kit_protocol::reading::Kind;
use kit_protocol::uplink::wire::{self, MissedReason};
use prost::Message;
use tokio::sync::{Mutex, RwLock, watch};
use uuid::Uuid;

use super::belonging::{Judge, Slots};
use super::marks::{Marks, Remembered, StreamMark, last_record_key, mark_key, opened_key, remembered_key, shown_key};
use super::recorder::{Conversation, Recorder};
use super::roster::{Phase, Roster};
use super::session::{Conclusion, Ended, Surface, Writes, converse, stopped};
use super::surroundings::World;
use super::window::Windows;
use crate::config::{Broadcast, Device, Place};
use crate::identity::memories::Memories;
use crate::identity::tenure::{Tenure, Tenures};
use crate::store::outbox::StoreError;
use crate::store::thread::StoreHandle;

/// A device that cannot be reached is tried again after this, doubling.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// And at most after this: looking for a port costs little, and what a device sends meanwhile is lost.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A conversation that its session closes, and that gave nothing, is begun again after twice as long, at most so long: the
/// device is another, or does not keep to its protocol.
const STRANGE_RETRY_MAX: Duration = Duration::from_secs(30);
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
    /// The services of every Bluetooth device of the kit.
    pub services: Arc<[Uuid]>,
    /// Since when an assignment is active.
    pub tenures: Arc<Tenures>,
    /// What is known of each device's memory.
    pub memories: Memories,
    /// Measurement windows of devices that only advertise.
    pub windows: Windows,
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
        let stored_before = shared.roster.stored(at);
        let ended = attend(&device, at, &shared, hole).await;
        drop(held);
        match ended {
            Ok(ended) => {
                hole = MissedReason::LinkLost;
                let gave_nothing = shared.roster.stored(at) == stored_before;
                retry = match ended {
                    Ended::Closed if gave_nothing => (retry * 2).min(STRANGE_RETRY_MAX),
                    // A scale on which nobody is weighed: what comes next must not be missed.
                    Ended::LinkDown if device.broadcast.is_some() => RETRY_MIN,
                    Ended::LinkDown if gave_nothing => (retry * 2).min(RETRY_MAX),
                    Ended::Closed | Ended::LinkDown | Ended::Stopped => RETRY_MIN,
                };
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
    // A Bluetooth device is waited for until it advertises, a file until it is there.
    let phase = if matches!(device.place, Place::Port(_)) { Phase::Connecting } else { Phase::Waiting };
    shared.roster.update(at, |view| view.phase = phase);
    let mut pause = shared.pause.clone();
    let connected = tokio::select! {
        link = connect(device, shared) => link,
        () = stopped(&mut pause) => return Ok(Ended::Stopped),
    };
    let Met { mut link, arrival } = connected?;
    let first = tokio::select! {
        first = up(&mut link) => first?,
        () = stopped(&mut pause) => return Ok(Ended::Stopped),
    };
    let mut about = about(link.identity());
    about.model = device.model.clone().or(about.model);
    let civil_time = shared.world.clock.trusted_civil();
    let may_set_clock = device.set_clock && civil_time.is_some();
    let identity = introduce(device, link.identity(), &first);
    shared.roster.introduce(at, identity.clone());
    shared.roster.update(at, |view| {
        view.phase = Phase::Connected;
        view.trouble = None;
    });
    tracing::info!(device = %device.identity, driver = device.driver.name, "connected");

    let store_down = |error: StoreError| error.to_string();
    let marks = Marks {
        streams: stream_marks(&shared.store, &device.identity).await.map_err(store_down)?,
        opened: mark(&shared.store, &opened_key(&device.identity)).await.map_err(store_down)?,
        shown: shown(&shared.store, &device.identity).await.map_err(store_down)?,
    };
    let durable = last_record(&shared.store, &device.identity).await.map_err(store_down)?;
    let (tenure, memory) = (tenure(shared), shared.memories.of(&device.identity));
    let last_record = Judge::asked_up_to(&tenure, &memory, durable);
    let slots = Slots { bound: device.user_slot, shared: device.shared };
    let judge = Judge::new(tenure, memory, slots, device.driver.memory, arrival.is_some());
    let judge = match device.broadcast {
        Some(broadcast) => judge.of_broadcast(broadcast == Broadcast::InWindow),
        None => judge,
    };
    let start = Start {
        about,
        user_slot: device.user_slot,
        last_record,
        // Kept at pairing, which is not done here yet.
        unlock_key: None,
        remembered: remembered(shared, &device.identity).await.map_err(store_down)?,
        stream_interval: Some(device.stream_interval),
        recording_time: device.recording_time,
        civil_time,
        may_delete: device.delete_records,
        may_set_clock,
    };
    let mut session = (device.driver.session)(start);
    session.handle_event(first.at, first.what.as_event());
    let conversation = Conversation {
        device: identity,
        driver: wire::Driver { name: device.driver.name.into(), version: device.driver.version.into() },
        source: match device.place {
            Place::Address(_) => wire::Source::Ble,
            Place::Port(_) => wire::Source::Serial,
            Place::Folder(_) => wire::Source::File,
        },
        file: arrival.as_ref().map(|arrival| arrival.digest),
    };
    let recorder = Recorder::new(conversation, shared.world.clone(), marks, durable, hole, judge);
    let surface = Surface {
        store: &shared.store,
        clock: &shared.world.clock,
        roster: &shared.roster,
        at,
        memories: &shared.memories,
        windows: &shared.windows,
        device: &device.identity,
        writes: Writes { driver: device.driver, may_delete: device.delete_records, may_set_clock },
        stop: shared.pause.clone(),
    };
    let conclusion = converse(link, session, recorder, surface).await;
    let ended = conclusion.ended;
    tracing::info!(device = %device.identity, ?ended, "conversation ended");
    match arrival {
        Some(arrival) => put_away(arrival.file, &conclusion).map(|()| ended),
        None => Ok(ended),
    }
}

/// What is met, and the file where it is one.
struct Met {
    link: Link,
    arrival: Option<Arrived>,
}

/// A file that is read.
struct Arrived {
    file: file::Arrival,
    digest: [u8; 32],
}

impl From<Link> for Met {
    fn from(link: Link) -> Self {
        Self { link, arrival: None }
    }
}

/// Waits for a whole file in the folder, and begins to read it.
async fn arrive(folder: &Path, shared: &Shared, moments: Moments) -> Result<Met, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}; make the folder, and let the agent read it", folder.display());
    let file = file::next(folder).await.map_err(unreadable)?;
    let mut digest = shared.world.origins.digester();
    let opened = file.read(|chunk| digest.update(chunk)).and_then(|()| file.link(moments));
    match opened {
        Ok(link) => Ok(Met { link, arrival: Some(Arrived { file, digest: digest.finish() }) }),
        Err(error) => {
            let why = format!("a file cannot be read ({error}); look into the folder `refused`");
            file.refused().map_err(|error| format!("{why}, where it could not be moved ({error})"))?;
            Err(why)
        }
    }
}

/// Moves a file to where it belongs now. One that was interrupted stays, and is read again: what of it is durable is known.
fn put_away(file: file::Arrival, conclusion: &Conclusion) -> Result<(), String> {
    let Conclusion { ended, given, stored, refused, failures } = *conclusion;
    if ended == Ended::Stopped || stored + refused < given {
        return Ok(());
    }
    let whole = stored > 0 && refused == 0 && failures == 0;
    let moved = if whole { file.done() } else { file.refused() };
    match moved {
        Ok(_) if whole => Ok(()),
        Ok(_) => Err("a file gave nothing, or not all of it was taken; look into the folder `refused`".into()),
        Err(error) => Err(format!("a file that was read cannot be moved ({error}); let the agent write into the folder")),
    }
}

/// Under whom a conversation that begins now runs: the epoch does not change before it ends.
fn tenure(shared: &Shared) -> Tenure {
    let view = shared.store.view();
    let assignment = view.borrow().epochs.iter().find(|epoch| epoch.open).and_then(|epoch| epoch.assignment.clone());
    let clock = &shared.world.clock;
    shared.tenures.of(assignment.as_deref(), clock.stated(), clock.now().as_nanos())
}

/// Waits for the device to be discovered and secured.
async fn up(link: &mut Link) -> Result<LinkEvent, String> {
    match tokio::time::timeout(UP_WAIT_MAX, link.next()).await {
        Ok(Some(event)) if matches!(event.what, Occurrence::Up { .. }) => Ok(event),
        Ok(_) => Err("the device went away before it could be read; keep it near the gateway and measure again".into()),
        Err(_) => Err("the device did not answer; switch it off and on".into()),
    }
}

async fn connect(device: &Device, shared: &Shared) -> Result<Met, String> {
    let clock = Arc::clone(&shared.world.clock);
    let moments: Moments = Arc::new(move || clock.now());
    match &device.place {
        Place::Port(port) => {
            // The configuration does not parse into a port for a driver without one.
            let settings = device.driver.port().ok_or("the driver does not fit the device's place")?;
            serial::open(port, settings, moments)
                .map(Met::from)
                .map_err(|error| format!("{error}; plug the device in, and check the port's rights"))
        }
        Place::Address(address) => {
            let allowed = Allowed::Addresses(vec![*address]);
            let services = match device.broadcast {
                Some(_) => device.driver.takes_advertised(),
                None => device.driver.advertises().to_vec(),
            };
            let wanted = Wanted { services, allowed };
            meet_by_radio(&wanted, device.broadcast.is_some(), shared, moments).await.map(Met::from)
        }
        Place::Folder(folder) => arrive(folder, shared, moments).await,
    }
}

/// Connects, or listens, through the one Central of the process; one that is of no more use is replaced at the next try.
async fn meet_by_radio(wanted: &Wanted, only_advertises: bool, shared: &Shared, moments: Moments) -> Result<Link, String> {
    let central = central(shared, moments).await?;
    let met = if only_advertises { central.listen(wanted).await } else { central.connect(wanted).await };
    match met {
        Ok(link) => Ok(link),
        Err(error) => {
            let mut slot = shared.central.lock().await;
            if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, &central)) {
                *slot = None;
            }
            Err(by_radio(&error))
        }
    }
}

async fn central(shared: &Shared, clock: Moments) -> Result<Arc<Central>, String> {
    let mut slot = shared.central.lock().await;
    if let Some(central) = &*slot {
        return Ok(Arc::clone(central));
    }
    let opened = Central::open(ble::Options { adapter: None, services: shared.services.to_vec(), clock }).await;
    let central = Arc::new(opened.map_err(|error| by_radio(&error))?);
    *slot = Some(Arc::clone(&central));
    Ok(central)
}

fn by_radio(error: &CentralError) -> String {
    match error {
        CentralError::Unavailable(_) => format!("{error}; check that the Bluetooth adapter is plugged in and bluetoothd runs"),
        CentralError::Gone(_) | CentralError::WornOut => format!("{error}; trying again"),
    }
}

fn about(identity: &Identity) -> About {
    let Identity { name, manufacturer, model, firmware, .. } = identity.clone();
    About { name, manufacturer, model, firmware }
}

fn introduce(device: &Device, about: &Identity, up: &LinkEvent) -> wire::Device {
    use device_drivers::driver::Security;
    let security = match up.what {
        Occurrence::Up { security: Security::Authenticated, .. } => "authenticated",
        Occurrence::Up { security: Security::Unauthenticated, .. } => "unauthenticated",
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
            Place::Folder(_) => "file",
            Place::Address(_) => "ble",
        }
        .into(),
        security: security.into(),
    }
}

/// How far each stream of the device is durable.
async fn stream_marks(store: &StoreHandle, identity: &str) -> Result<BTreeMap<Kind, StreamMark>, StoreError> {
    let mut marks = BTreeMap::new();
    for (kind, _) in Kind::NAMES {
        if let Some(mark) = mark(store, &mark_key(identity, kind)).await? {
            marks.insert(kind, mark);
        }
    }
    Ok(marks)
}

/// What the device last gave without number or time.
async fn shown(store: &StoreHandle, identity: &str) -> Result<BTreeMap<Kind, Vec<u8>>, StoreError> {
    let mut shown = BTreeMap::new();
    for (kind, _) in Kind::NAMES {
        shown.extend(store.mark(&shown_key(identity, kind)).await?.map(|octets| (kind, octets)));
    }
    Ok(shown)
}

async fn mark(store: &StoreHandle, key: &str) -> Result<Option<StreamMark>, StoreError> {
    let octets = store.mark(key).await?;
    Ok(octets.and_then(|octets| StreamMark::decode(octets.as_slice()).ok()))
}

async fn last_record(store: &StoreHandle, identity: &str) -> Result<Option<u64>, StoreError> {
    let octets = store.mark(&last_record_key(identity)).await?;
    Ok(octets.and_then(|octets| octets.try_into().ok()).map(u64::from_be_bytes))
}

/// What the device's session had remembered in this boot: its moments mean nothing in another.
async fn remembered(shared: &Shared, identity: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let octets = shared.store.mark(&remembered_key(identity)).await?;
    let remembered = octets.and_then(|octets| Remembered::decode(octets.as_slice()).ok());
    let this_boot = shared.world.clock.boot_id();
    Ok(remembered.filter(|remembered| remembered.boot_id == this_boot.0).map(|remembered| remembered.octets))
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
