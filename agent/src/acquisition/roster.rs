//! What is known of each device right now, for `devices`, `status` and the centre.

use std::sync::{Arc, Mutex, MutexGuard};

use kit_protocol::moment::Moment;
use kit_protocol::uplink::wire;
use serde::{Deserialize, Serialize};

/// Where a device's conversation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not there: the port cannot be opened, or the device does not advertise.
    #[default]
    Waiting,
    /// Being connected.
    Connecting,
    /// In conversation.
    Connected,
    /// Closed while the assignment changes, or the agent stops.
    Paused,
}

/// One device, as listings show it. No clinical value stands here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its stable identity.
    pub identity: String,
    /// The driver that speaks to it.
    pub driver: String,
    /// Its port or address.
    pub place: String,
    /// Where the conversation stands.
    pub phase: Phase,
    /// Seconds since its last reading or block of signal; none yet: `null`.
    pub last_reading_age_s: Option<u64>,
    /// Readings stored since the agent started.
    pub readings: u64,
    /// Segments stored since the agent started.
    pub segments: u64,
    /// Measurements refused since the agent started.
    pub refused: u64,
    /// Of measurements in the device's memory, how many were found not to be the patient's since the agent started.
    #[serde(default)]
    pub not_the_patient: u64,
    /// Octets skipped to find the next frame since the agent started.
    pub skipped_octets: u64,
    /// What is wrong, and what to do.
    pub trouble: Option<String>,
}

/// Every device of the kit; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Vec<Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    view: DeviceView,
    known: wire::Device,
    last_reading: Option<Moment>,
}

impl Roster {
    /// Adds a device and gives its place in the roster.
    #[must_use]
    pub fn add(&self, identity: &str, driver: &str, place: &str) -> usize {
        let mut entries = self.lock();
        let view = DeviceView { identity: identity.into(), driver: driver.into(), place: place.into(), ..DeviceView::default() };
        entries.push(Entry { view, ..Entry::default() });
        entries.len() - 1
    }

    /// Changes what is known of a device.
    pub fn update(&self, at: usize, change: impl FnOnce(&mut DeviceView)) {
        if let Some(entry) = self.lock().get_mut(at) {
            change(&mut entry.view);
        }
    }

    /// The device stated who it is.
    pub fn introduce(&self, at: usize, device: wire::Device) {
        if let Some(entry) = self.lock().get_mut(at) {
            entry.known = device;
        }
    }

    /// A reading or a segment of it became durable.
    pub fn measured(&self, at: usize, now: Moment) {
        if let Some(entry) = self.lock().get_mut(at) {
            entry.last_reading = Some(now);
        }
    }

    /// How many readings and segments of it became durable since the agent started.
    #[must_use]
    pub fn stored(&self, at: usize) -> u64 {
        self.lock().get(at).map_or(0, |entry| entry.view.readings + entry.view.segments)
    }

    /// Every device as it stands at `now`.
    #[must_use]
    pub fn views(&self, now: Moment) -> Vec<DeviceView> {
        let view = |entry: &Entry| {
            let age = entry.last_reading.map(|last| now.since(last).as_secs());
            DeviceView { last_reading_age_s: age, ..entry.view.clone() }
        };
        self.lock().iter().map(view).collect()
    }

    /// Every device that stated who it is, for the kit's `state`.
    #[must_use]
    pub fn devices(&self) -> Vec<wire::Device> {
        self.lock().iter().map(|entry| entry.known.clone()).filter(|device| !device.identity.is_empty()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        match self.0.lock() {
            Ok(guard) => guard,
            // A task that panicked while counting leaves counts that are still good enough to show.
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
