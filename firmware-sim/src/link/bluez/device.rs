//! One device as bluetoothd knows it: its object, its link, and what goes over it.
//!
//! A link is `Down`, then `Connecting` until the device advertises and answers, then `Up`, in which bluetoothd first writes
//! again what clients subscribed to on an earlier link, and only then reports that the services are resolved.
//! Source: BlueZ 5.66, `src/device.c` and `src/gatt-client.c`; times and order as measured against bluetoothd 5.66.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kit_protocol::moment::Moment;
use uuid::Uuid;
use zbus::zvariant::Value;

use super::bus::{Bus, Call, ClientId, OBJECT_MANAGER, Properties, Refusal};
use super::table::{CHARACTERISTIC, Object, Table, object};
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Peripheral, Security};

/// Interface of a device's object.
pub(super) const DEVICE: &str = "org.bluez.Device1";

/// The kernel gives up a connection attempt after so long. Source: Linux 6.1, `HCI_LE_CONN_TIMEOUT`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// From the advertisement that is answered to the link.
const CONNECT_DELAY: Duration = Duration::from_millis(50);
/// A connection attempt sooner than this after the last link fails with `Input/output error`.
const SETTLE: Duration = Duration::from_millis(50);
/// From the link to the subscriptions that BlueZ writes again.
const REARM_DELAY: Duration = Duration::from_millis(30);
/// From the link to `ServicesResolved`, where attributes are discovered anew.
const DISCOVER_DELAY: Duration = Duration::from_millis(200);
/// From the link to `ServicesResolved`, where attributes are cached.
const RESOLVE_DELAY: Duration = Duration::from_millis(100);
/// A request and its response: one connection interval.
const INTERVAL: Duration = Duration::from_millis(30);
/// From `Disconnect` to the end of the link. Source: BlueZ 5.66, `DISCONNECT_TIMER`.
const DISCONNECT_DELAY: Duration = Duration::from_secs(2);
/// A device that was never connected is forgotten so long after it was last heard. Source: `TemporaryTimeout` in main.conf.
const TEMPORARY_TIMEOUT: Duration = Duration::from_secs(30);
/// The most notifications in one connection event.
const BURST_MAX: usize = 8;

/// What bluetoothd knows of a device for which it has an object.
#[derive(Default)]
struct Known {
    temporary: bool,
    heard: Moment,
    rssi: Option<i16>,
    name: Option<String>,
    uuids: BTreeSet<Uuid>,
    manufacturer_data: BTreeMap<u16, Vec<u8>>,
    service_data: BTreeMap<Uuid, Vec<u8>>,
    paired: bool,
    trusted: bool,
    blocked: bool,
    alias: Option<String>,
}

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connected,
    Rearmed,
    Resolved,
}

enum Link {
    Down { since: Option<Moment> },
    Connecting { since: Moment, answered: Option<Moment>, call: Option<Call> },
    Up { since: Moment, stage: Stage, closing: Option<Moment> },
}

/// What an operation does when its time comes.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// `ReadValue`.
    Read,
    /// `WriteValue` with these octets; a command is not confirmed and may not fail.
    Write { value: Vec<u8>, command: bool },
    /// `StartNotify`: the client characteristic configuration is written.
    Subscribe,
}

struct Operation {
    due: Moment,
    call: Call,
    characteristic: usize,
    work: Work,
}

struct Pairing {
    call: Call,
    /// The serial number of the question put to the client's agent.
    asked: Option<u32>,
}

/// A device within reach of the adapter.
pub(super) struct Device {
    peripheral: Box<dyn Peripheral>,
    address: String,
    /// Its object.
    pub(super) path: String,
    adapter: String,
    table: Table,
    known: Option<Known>,
    link: Link,
    security: Security,
    exported: bool,
    on_air: bool,
    operations: VecDeque<Operation>,
    confirming: Option<(Moment, Uuid)>,
    subscribers: BTreeMap<usize, BTreeSet<ClientId>>,
    armed: BTreeSet<usize>,
    values: BTreeMap<usize, Vec<u8>>,
    disconnects: Vec<Call>,
    pairing: Option<Pairing>,
    /// A fault: the link stays up and nothing comes over it.
    pub(super) mute: bool,
}

impl Device {
    /// A device that nobody has heard yet.
    pub(super) fn new(adapter: &str, peripheral: Box<dyn Peripheral>) -> Self {
        let address = peripheral.address().map(|octet| format!("{octet:02X}")).join(":");
        let path = format!("{adapter}/dev_{}", address.replace(':', "_"));
        let table = Table::new(&path, &peripheral.services());
        Self {
            peripheral,
            address,
            path,
            adapter: adapter.to_owned(),
            table,
            known: None,
            link: Link::Down { since: None },
            security: Security::None,
            exported: false,
            on_air: false,
            operations: VecDeque::new(),
            confirming: None,
            subscribers: BTreeMap::new(),
            armed: BTreeSet::new(),
            values: BTreeMap::new(),
            disconnects: Vec::new(),
            pairing: None,
            mute: false,
        }
    }

    /// Its address, as in `AA:BB:CC:DD:EE:FF`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether bluetoothd has an object for it.
    pub(super) fn is_known(&self) -> bool {
        self.known.is_some()
    }

    fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    fn is_resolved(&self) -> bool {
        matches!(self.link, Link::Up { stage: Stage::Resolved, .. })
    }

    /// The objects of this device, services and characteristics included once they were discovered.
    pub(super) fn objects(&self) -> Vec<Object> {
        if self.known.is_none() {
            return Vec::new();
        }
        let mut objects = vec![(self.path.clone(), DEVICE, self.properties())];
        if self.exported {
            objects.extend(self.attributes());
        }
        objects
    }

    fn attributes(&self) -> Vec<Object> {
        self.table.objects(&self.values, |index| self.subscribers.get(&index).is_some_and(|clients| !clients.is_empty()))
    }

    /// What `Device1` shows; what bluetoothd does not know is left out.
    fn properties(&self) -> Properties {
        let Some(known) = &self.known else { return Properties::new() };
        let fallback = || self.address.replace(':', "-");
        let alias = known.alias.clone().or_else(|| known.name.clone()).unwrap_or_else(fallback);
        let mut properties = Properties::from([
            ("Address", Value::from(self.address.clone())),
            ("AddressType", Value::from("public")),
            ("Alias", Value::from(alias)),
            ("Paired", Value::from(known.paired)),
            ("Bonded", Value::from(known.paired)),
            ("Trusted", Value::from(known.trusted)),
            ("Blocked", Value::from(known.blocked)),
            ("LegacyPairing", Value::from(false)),
            ("Connected", Value::from(self.is_connected())),
            ("ServicesResolved", Value::from(self.is_resolved())),
            ("UUIDs", Value::from(texts(&known.uuids))),
            ("Adapter", object(&self.adapter)),
        ]);
        if let Some(name) = &known.name {
            properties.insert("Name", Value::from(name.clone()));
        }
        if let Some(rssi) = known.rssi {
            properties.insert("RSSI", Value::from(rssi));
        }
        if !known.manufacturer_data.is_empty() {
            properties.insert("ManufacturerData", manufacturer_data(&known.manufacturer_data));
        }
        if !known.service_data.is_empty() {
            properties.insert("ServiceData", service_data(&known.service_data));
        }
        properties
    }

    fn tell(&self, bus: &mut Bus, properties: &Properties) {
        bus.changed(&self.path, DEVICE, properties, &[]);
    }

    // ---- what the radio hears ----

    /// Asks the device what it advertises at `now`.
    pub(super) fn listen(&mut self, now: Moment) -> Option<Advertisement> {
        let advertisement = if self.is_connected() { None } else { self.peripheral.advertising(now) };
        self.on_air = advertisement.is_some();
        advertisement
    }

    /// An advertisement passed the discovery filter: the object appears, or what changed is told.
    ///
    /// RSSI is told when it is another number; manufacturer and service data every time, since duplicates were asked for.
    pub(super) fn heard(&mut self, now: Moment, advertisement: &Advertisement, rssi: i16, bus: &mut Bus) {
        let new = self.known.is_none();
        let known = self.known.get_or_insert_with(|| Known { temporary: true, ..Known::default() });
        let mut changed = Properties::new();
        known.heard = now;
        if known.rssi.replace(rssi) != Some(rssi) {
            changed.insert("RSSI", Value::from(rssi));
        }
        let uuids = known.uuids.len();
        known.uuids.extend(&advertisement.services);
        if known.uuids.len() != uuids {
            changed.insert("UUIDs", Value::from(texts(&known.uuids)));
        }
        if advertisement.local_name.is_some() && advertisement.local_name != known.name {
            known.name.clone_from(&advertisement.local_name);
            changed.extend(known.name.iter().flat_map(|name| ["Name", "Alias"].map(|key| (key, Value::from(name.clone())))));
        }
        if !advertisement.manufacturer_data.is_empty() {
            known.manufacturer_data.extend(advertisement.manufacturer_data.iter().cloned());
            changed.insert("ManufacturerData", manufacturer_data(&known.manufacturer_data));
        }
        if !advertisement.service_data.is_empty() {
            known.service_data.extend(advertisement.service_data.iter().cloned());
            changed.insert("ServiceData", service_data(&known.service_data));
        }
        if new {
            added(bus, &self.path, DEVICE, self.properties());
        } else if !changed.is_empty() {
            self.tell(bus, &changed);
        }
    }

    /// Discovery ended: the signal strength is no longer known.
    pub(super) fn discovery_ended(&mut self, bus: &mut Bus) {
        if self.known.as_mut().and_then(|known| known.rssi.take()).is_some() {
            bus.changed(&self.path, DEVICE, &Properties::new(), &["RSSI"]);
        }
    }

    // ---- methods of Device1 ----

    /// `Connect`: answered when the link is up, or when the kernel gives up.
    pub(super) fn connect(&mut self, now: Moment, call: &Call, bus: &mut Bus) {
        match &mut self.link {
            Link::Up { .. } => bus.reply(call, &()),
            Link::Connecting { call: Some(_), .. } => bus.refuse(call, &Refusal::in_progress()),
            Link::Connecting { call: waiting, .. } => *waiting = Some(call.clone()),
            Link::Down { since: Some(since) } if now.since(*since) < SETTLE => {
                bus.refuse(call, &Refusal::failed("Input/output error"));
            }
            Link::Down { .. } => {
                self.link = Link::Connecting { since: now, answered: None, call: Some(call.clone()) };
                self.keep();
            }
        }
    }

    fn keep(&mut self) {
        if let Some(known) = &mut self.known {
            known.temporary = false;
        }
    }

    /// `Disconnect`: cancels an attempt, or ends the link after BlueZ's timer and answers then.
    pub(super) fn disconnect(&mut self, now: Moment, call: &Call, bus: &mut Bus) {
        match &mut self.link {
            Link::Down { .. } => bus.reply(call, &()),
            Link::Connecting { call: waiting, .. } => {
                if let Some(waiting) = waiting.take() {
                    bus.refuse(&waiting, &Refusal::failed("Cancelled"));
                }
                self.link = Link::Down { since: None };
                bus.reply(call, &());
            }
            Link::Up { closing, .. } => {
                closing.get_or_insert(now + DISCONNECT_DELAY);
                self.disconnects.push(call.clone());
            }
        }
    }

    /// `Pair`: connects where need be, then asks the agent for a passkey where the device wants one.
    pub(super) fn pair(&mut self, now: Moment, call: &Call, bus: &mut Bus) {
        if self.known.as_ref().is_some_and(|known| known.paired) {
            return bus.refuse(call, &Refusal::bluez("AlreadyExists", "Already Exists"));
        }
        if self.pairing.is_some() {
            return bus.refuse(call, &Refusal::in_progress());
        }
        if matches!(self.link, Link::Down { .. }) {
            self.link = Link::Connecting { since: now, answered: None, call: None };
            self.keep();
        }
        self.pairing = Some(Pairing { call: call.clone(), asked: None });
    }

    /// `CancelPairing`.
    pub(super) fn cancel_pairing(&mut self, call: &Call, bus: &mut Bus) {
        match self.pairing.take() {
            Some(pairing) => {
                bus.refuse(&pairing.call, &Refusal::bluez("AuthenticationCanceled", "Authentication Canceled"));
                bus.reply(call, &());
            }
            None => bus.refuse(call, &Refusal::bluez("DoesNotExist", "Does Not Exist")),
        }
    }

    /// What a client's agent answered; `None` where it refused.
    pub(super) fn agent_answered(&mut self, serial: u32, passkey: Option<u32>, bus: &mut Bus) {
        let asked = self.pairing.as_ref().is_some_and(|pairing| pairing.asked == Some(serial));
        if asked {
            let right = matches!(self.peripheral.pairing(), PairingMethod::Passkey(wanted) if passkey == Some(wanted));
            self.pairing_ended(right.then_some(Security::Authenticated), bus);
        }
    }

    fn pairing_ended(&mut self, reached: Option<Security>, bus: &mut Bus) {
        let Some(pairing) = self.pairing.take() else { return };
        match reached {
            Some(security) => {
                self.bonded(security, bus);
                bus.reply(&pairing.call, &());
            }
            None => bus.refuse(&pairing.call, &Refusal::bluez("AuthenticationFailed", "Authentication Failed")),
        }
    }

    fn bonded(&mut self, security: Security, bus: &mut Bus) {
        self.security = security;
        if let Some(known) = &mut self.known {
            known.paired = true;
        }
        self.tell(bus, &Properties::from([("Paired", Value::from(true)), ("Bonded", Value::from(true))]));
    }

    /// Sets `Trusted`, `Blocked` or `Alias`.
    pub(super) fn set(&mut self, property: &str, value: &Value<'_>, bus: &mut Bus) -> Result<(), Refusal> {
        let Some(known) = &mut self.known else { return Err(Refusal::invalid_arguments()) };
        let told = match (property, value) {
            ("Trusted", Value::Bool(trusted)) => {
                known.trusted = *trusted;
                ("Trusted", Value::from(*trusted))
            }
            ("Blocked", Value::Bool(blocked)) => {
                known.blocked = *blocked;
                ("Blocked", Value::from(*blocked))
            }
            ("Alias", Value::Str(alias)) => {
                known.alias = Some(alias.to_string());
                ("Alias", Value::from(alias.to_string()))
            }
            _ => return Err(Refusal::invalid_arguments()),
        };
        self.tell(bus, &Properties::from([told]));
        Ok(())
    }

    // ---- methods of GattCharacteristic1 ----

    /// The characteristic at an object's path.
    pub(super) fn characteristic(&self, path: &str) -> Option<usize> {
        self.table.at(path).filter(|_| self.exported)
    }

    /// Queues a request; requests of one link are carried out one after the other.
    pub(super) fn request(&mut self, now: Moment, call: &Call, characteristic: usize, work: Work) -> Result<(), Refusal> {
        let allows = self.table.characteristics[characteristic].allows;
        let allowed = match &work {
            Work::Read => allows.read,
            Work::Write { command: true, .. } => allows.write_without_response,
            Work::Write { command: false, .. } => allows.write,
            Work::Subscribe => allows.notify || allows.indicate,
        };
        if !self.is_connected() {
            return Err(Refusal::failed("Not connected"));
        }
        if !allowed {
            return Err(match work {
                Work::Read => Refusal::bluez("NotPermitted", "Read not permitted"),
                _ => Refusal::bluez("NotSupported", "Operation is not supported"),
            });
        }
        let after = self.operations.back().map_or(now, |last| last.due.max(now));
        self.operations.push_back(Operation { due: after + INTERVAL, call: call.clone(), characteristic, work });
        Ok(())
    }

    /// `StartNotify`: one session a client and characteristic, kept over links and written again on each.
    pub(super) fn start_notify(&mut self, now: Moment, call: &Call, characteristic: usize, bus: &mut Bus) -> Result<(), Refusal> {
        if !self.table.characteristics[characteristic].sends() {
            return Err(Refusal::bluez("NotSupported", "Operation is not supported"));
        }
        if matches!(self.link, Link::Up { closing: Some(_), .. }) {
            return Err(Refusal::bluez("NotConnected", "Not Connected"));
        }
        let new = self.subscribers.entry(characteristic).or_default().insert(call.client);
        if new && self.is_connected() && !self.armed.contains(&characteristic) {
            return self.request(now, call, characteristic, Work::Subscribe);
        }
        bus.reply(call, &());
        Ok(())
    }

    /// `StopNotify`.
    pub(super) fn stop_notify(
        &mut self,
        now: Moment,
        client: ClientId,
        characteristic: usize,
        bus: &mut Bus,
    ) -> Result<(), Refusal> {
        if !self.subscribers.entry(characteristic).or_default().remove(&client) {
            return Err(Refusal::failed("No notify session started"));
        }
        self.disarm_if_unused(now, characteristic, bus);
        Ok(())
    }

    /// A client's connection ended: its sessions end with it, and the link stays.
    pub(super) fn client_left(&mut self, now: Moment, client: ClientId, bus: &mut Bus) {
        let of_client = |clients: &mut BTreeSet<ClientId>| clients.remove(&client);
        let ended: Vec<usize> =
            self.subscribers.iter_mut().filter_map(|(index, clients)| of_client(clients).then_some(*index)).collect();
        for characteristic in ended {
            self.disarm_if_unused(now, characteristic, bus);
        }
        self.operations.retain(|operation| operation.call.client != client);
        self.disconnects.retain(|call| call.client != client);
        if self.pairing.as_ref().is_some_and(|pairing| pairing.call.client == client) {
            self.pairing = None;
        }
        if let Link::Connecting { call, .. } = &mut self.link {
            call.take_if(|call| call.client == client);
        }
    }

    fn disarm_if_unused(&mut self, now: Moment, characteristic: usize, bus: &mut Bus) {
        if self.subscribers.get(&characteristic).is_some_and(|clients| !clients.is_empty()) {
            return;
        }
        if self.armed.remove(&characteristic) && self.is_connected() {
            self.peripheral.subscribed(now, self.table.characteristics[characteristic].uuid, false);
        }
        self.told_notifying(characteristic, false, bus);
    }

    fn told_notifying(&self, characteristic: usize, notifying: bool, bus: &mut Bus) {
        let path = &self.table.characteristics[characteristic].path;
        bus.changed(path, CHARACTERISTIC, &Properties::from([("Notifying", Value::from(notifying))]), &[]);
    }

    // ---- what time brings ----

    /// Moves link, requests and values on to `now`. `agent` is the client whose agent answers for passkeys.
    pub(super) fn tick(&mut self, now: Moment, agent: Option<&(ClientId, String)>, bus: &mut Bus) {
        self.move_link(now, bus);
        if !self.is_connected() {
            return;
        }
        self.move_pairing(agent, bus);
        self.carry_out_due(now, bus);
        self.exchange_values(now, bus);
        if self.peripheral.wants_disconnect(now) {
            self.link_ended(now, bus);
        }
    }

    fn move_link(&mut self, now: Moment, bus: &mut Bus) {
        match &mut self.link {
            Link::Down { .. } => {}
            Link::Connecting { since, answered, call } => match answered {
                None if self.on_air => *answered = Some(now),
                Some(answered) if now.since(*answered) >= CONNECT_DELAY => {
                    let call = call.take();
                    self.link_came_up(now, bus);
                    if let Some(call) = call {
                        bus.reply(&call, &());
                    }
                }
                None if now.since(*since) >= CONNECT_TIMEOUT => {
                    if let Some(call) = call.take() {
                        bus.refuse(&call, &Refusal::failed("le-connection-abort-by-local"));
                    }
                    self.link = Link::Down { since: None };
                    if let Some(pairing) = self.pairing.take() {
                        bus.refuse(&pairing.call, &Refusal::bluez("ConnectionAttemptFailed", "Page Timeout"));
                    }
                }
                _ => {}
            },
            Link::Up { closing: Some(at), .. } if now >= *at => self.link_ended(now, bus),
            Link::Up { since, stage: stage @ Stage::Connected, .. } if now.since(*since) >= REARM_DELAY => {
                *stage = Stage::Rearmed;
                self.rearm(now, bus);
            }
            Link::Up { since, stage: stage @ Stage::Rearmed, .. } => {
                let delay = if self.exported { RESOLVE_DELAY } else { DISCOVER_DELAY };
                if now.since(*since) >= delay {
                    *stage = Stage::Resolved;
                    self.services_resolved(bus);
                }
            }
            Link::Up { .. } => {}
        }
    }

    fn link_came_up(&mut self, now: Moment, bus: &mut Bus) {
        self.link = Link::Up { since: now, stage: Stage::Connected, closing: None };
        self.on_air = false;
        let paired = self.known.as_ref().is_some_and(|known| known.paired);
        self.security = if paired { self.bond() } else { Security::None };
        self.peripheral.connected(now);
        self.tell(bus, &Properties::from([("Connected", Value::from(true))]));
    }

    /// The security that a bond with this device gives again.
    fn bond(&self) -> Security {
        match self.peripheral.pairing() {
            PairingMethod::None => Security::None,
            PairingMethod::JustWorks => Security::Unauthenticated,
            PairingMethod::Passkey(_) => Security::Authenticated,
        }
    }

    fn rearm(&mut self, now: Moment, bus: &mut Bus) {
        let wanted: Vec<usize> =
            self.subscribers.iter().filter(|(_, clients)| !clients.is_empty()).map(|(index, _)| *index).collect();
        for characteristic in wanted {
            if self.security >= self.table.characteristics[characteristic].needs {
                self.arm(now, characteristic, bus);
            }
        }
    }

    fn arm(&mut self, now: Moment, characteristic: usize, bus: &mut Bus) {
        if self.armed.insert(characteristic) {
            self.peripheral.subscribed(now, self.table.characteristics[characteristic].uuid, true);
            self.told_notifying(characteristic, true, bus);
        }
    }

    fn services_resolved(&mut self, bus: &mut Bus) {
        if !std::mem::replace(&mut self.exported, true) {
            for (path, interface, properties) in self.attributes() {
                added(bus, &path, interface, properties);
            }
        }
        let mut changed = Properties::from([("ServicesResolved", Value::from(true))]);
        if let Some(known) = &mut self.known {
            let before = known.uuids.len();
            known.uuids.extend(self.table.service_uuids());
            if known.uuids.len() != before {
                changed.insert("UUIDs", Value::from(texts(&known.uuids)));
            }
            let name = Some(self.peripheral.name());
            if known.name != name {
                known.name = name;
                changed.extend(known.name.iter().map(|name| ("Name", Value::from(name.clone()))));
            }
        }
        self.tell(bus, &changed);
    }

    /// The link ends, whoever ended it: requests fail, subscriptions on the device are gone, clients keep their sessions.
    pub(super) fn link_ended(&mut self, now: Moment, bus: &mut Bus) {
        if !self.is_connected() {
            return;
        }
        let resolved = self.is_resolved();
        self.link = Link::Down { since: Some(now) };
        self.security = Security::None;
        self.armed.clear();
        self.confirming = None;
        self.peripheral.disconnected(now);
        for operation in std::mem::take(&mut self.operations) {
            bus.refuse(&operation.call, &Refusal::failed("Operation failed"));
        }
        self.pairing_ended(None, bus);
        for call in std::mem::take(&mut self.disconnects) {
            bus.reply(&call, &());
        }
        if resolved {
            self.tell(bus, &Properties::from([("ServicesResolved", Value::from(false))]));
        }
        self.tell(bus, &Properties::from([("Connected", Value::from(false))]));
    }

    fn move_pairing(&mut self, agent: Option<&(ClientId, String)>, bus: &mut Bus) {
        if !self.is_resolved() || self.pairing.as_ref().is_none_or(|pairing| pairing.asked.is_some()) {
            return;
        }
        match (self.peripheral.pairing(), agent) {
            (PairingMethod::JustWorks, _) => self.pairing_ended(Some(Security::Unauthenticated), bus),
            (PairingMethod::Passkey(_), Some((client, agent))) => {
                let body = zbus::zvariant::ObjectPath::try_from(self.path.as_str()).unwrap_or_default();
                let asked = bus.ask(*client, agent, "org.bluez.Agent1", "RequestPasskey", &body);
                match (asked, &mut self.pairing) {
                    (Some(serial), Some(pairing)) => pairing.asked = Some(serial),
                    _ => self.pairing_ended(None, bus),
                }
            }
            (PairingMethod::Passkey(_), None) | (PairingMethod::None, _) => self.pairing_ended(None, bus),
        }
    }

    fn carry_out_due(&mut self, now: Moment, bus: &mut Bus) {
        while self.operations.front().is_some_and(|operation| operation.due <= now) {
            let Some(operation) = self.operations.pop_front() else { return };
            if let Err(refusal) = self.carry_out(now, &operation, bus) {
                if matches!(operation.work, Work::Subscribe) {
                    self.subscribers.entry(operation.characteristic).or_default().remove(&operation.call.client);
                }
                bus.refuse(&operation.call, &refusal);
            }
        }
    }

    fn carry_out(&mut self, now: Moment, operation: &Operation, bus: &mut Bus) -> Result<(), Refusal> {
        let index = operation.characteristic;
        let (uuid, needs) = (self.table.characteristics[index].uuid, self.table.characteristics[index].needs);
        if self.security < needs {
            self.raise_security(needs, bus)?;
        }
        match &operation.work {
            Work::Read => {
                let value = self.peripheral.read(now, uuid).map_err(att_refusal)?;
                self.signal_value(index, value.clone(), bus);
                bus.reply(&operation.call, &value);
            }
            Work::Write { value, command: true } => {
                // A command has no response: the sender never learns what became of it.
                let _unheard = self.peripheral.write(now, uuid, value);
                bus.reply(&operation.call, &());
            }
            Work::Write { value, command: false } => {
                self.peripheral.write(now, uuid, value).map_err(att_refusal)?;
                bus.reply(&operation.call, &());
            }
            Work::Subscribe => {
                self.arm(now, index, bus);
                bus.reply(&operation.call, &());
            }
        }
        Ok(())
    }

    /// A request met "insufficient authentication": the kernel pairs by itself where nobody need be asked.
    fn raise_security(&mut self, needs: Security, bus: &mut Bus) -> Result<(), Refusal> {
        if needs <= Security::Unauthenticated && self.peripheral.pairing() == PairingMethod::JustWorks {
            self.bonded(Security::Unauthenticated, bus);
            return Ok(());
        }
        Err(Refusal::bluez("NotPermitted", "Not paired"))
    }

    /// BlueZ stores each value and tells it, even one that equals the last, and even one that was read.
    fn signal_value(&mut self, characteristic: usize, value: Vec<u8>, bus: &mut Bus) {
        let path = &self.table.characteristics[characteristic].path;
        bus.changed(path, CHARACTERISTIC, &Properties::from([("Value", Value::from(value.clone()))]), &[]);
        self.values.insert(characteristic, value);
    }

    /// Takes what the device sends. bluetoothd confirms every indication, whether or not any client has asked for it.
    fn exchange_values(&mut self, now: Moment, bus: &mut Bus) {
        if self.mute {
            return;
        }
        if let Some((_, uuid)) = self.confirming.take_if(|(due, _)| *due <= now) {
            self.peripheral.confirmed(now, uuid);
        }
        for _ in 0..BURST_MAX {
            if self.confirming.is_some() {
                return;
            }
            let Some(Outgoing { characteristic, value, confirmed }) = self.peripheral.poll(now) else { return };
            if confirmed {
                self.confirming = Some((now + INTERVAL, characteristic));
            }
            if let Some(index) = self.table.of(characteristic).filter(|index| self.armed.contains(index)) {
                self.signal_value(index, value, bus);
            }
        }
    }

    /// Whether bluetoothd forgets it now.
    pub(super) fn is_expired(&self, now: Moment) -> bool {
        let idle = matches!(self.link, Link::Down { .. });
        idle && self.known.as_ref().is_some_and(|known| known.temporary && now.since(known.heard) >= TEMPORARY_TIMEOUT)
    }

    /// bluetoothd forgets it: the link ends, its objects go.
    pub(super) fn forget(&mut self, now: Moment, bus: &mut Bus) {
        self.link_ended(now, bus);
        for (path, interface, _) in self.objects().into_iter().rev() {
            removed(bus, &path, interface);
        }
        self.forgotten();
    }

    /// bluetoothd died or its adapter went: what was not stored is gone, no property change says so, and the bus answers the
    /// calls that are left. Source: dbus-daemon 1.14, `bus/connection.c`.
    pub(super) fn orphaned(&mut self, now: Moment, bus: &mut Bus) {
        if self.is_connected() {
            self.peripheral.disconnected(now);
        }
        let connecting = if let Link::Connecting { call, .. } = &mut self.link { call.take() } else { None };
        let requests = self.operations.drain(..).map(|operation| operation.call);
        let left = connecting.into_iter().chain(requests).chain(self.disconnects.drain(..));
        let text = "Message recipient disconnected from message bus without replying".to_owned();
        let refusal = Refusal::bus(&zbus::fdo::Error::NoReply(text));
        for call in left.chain(self.pairing.take().map(|pairing| pairing.call)) {
            bus.refuse(&call, &refusal);
        }
        let stored = self.known.take().filter(|known| !known.temporary);
        self.forgotten();
        self.known = stored.map(|known| Known { rssi: None, ..known });
    }

    fn forgotten(&mut self) {
        self.known = None;
        self.link = Link::Down { since: None };
        self.security = Security::None;
        self.exported = false;
        self.operations.clear();
        self.confirming = None;
        self.subscribers.clear();
        self.armed.clear();
        self.values.clear();
        self.disconnects.clear();
        self.pairing = None;
    }
}

/// `InterfacesAdded` of one interface.
pub(super) fn added(bus: &mut Bus, path: &str, interface: &str, properties: Properties) {
    let path = zbus::zvariant::ObjectPath::try_from(path).unwrap_or_default();
    let interfaces = BTreeMap::from([(interface, properties)]);
    bus.signal("/", OBJECT_MANAGER, "InterfacesAdded", &(path, interfaces));
}

/// `InterfacesRemoved` of one interface.
pub(super) fn removed(bus: &mut Bus, path: &str, interface: &str) {
    let path = zbus::zvariant::ObjectPath::try_from(path).unwrap_or_default();
    bus.signal("/", OBJECT_MANAGER, "InterfacesRemoved", &(path, [interface].as_slice()));
}

/// How BlueZ words an ATT error. Source: BlueZ 5.66, `src/gatt-client.c`, `create_gatt_dbus_error`.
fn att_refusal(error: AttError) -> Refusal {
    match error {
        AttError::ReadNotPermitted => Refusal::bluez("NotPermitted", "Read not permitted"),
        AttError::WriteNotPermitted => Refusal::bluez("NotPermitted", "Write not permitted"),
        AttError::InsufficientAuthentication => Refusal::bluez("NotPermitted", "Not paired"),
        AttError::InvalidLength => Refusal::bluez("InvalidArguments", "Invalid Length"),
        AttError::RequestNotSupported => Refusal::bluez("NotSupported", "Operation is not supported"),
        other => Refusal::failed(&format!("Operation failed with ATT error: 0x{:02x}", other.code())),
    }
}

fn texts(uuids: &BTreeSet<Uuid>) -> Vec<String> {
    uuids.iter().map(ToString::to_string).collect()
}

fn manufacturer_data(data: &BTreeMap<u16, Vec<u8>>) -> Value<'static> {
    let data: std::collections::HashMap<u16, Value<'static>> =
        data.iter().map(|(company, octets)| (*company, Value::from(octets.clone()))).collect();
    Value::from(data)
}

fn service_data(data: &BTreeMap<Uuid, Vec<u8>>) -> Value<'static> {
    let data: std::collections::HashMap<String, Value<'static>> =
        data.iter().map(|(service, octets)| (service.to_string(), Value::from(octets.clone()))).collect();
    Value::from(data)
}
