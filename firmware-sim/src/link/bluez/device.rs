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

use super::attributes::Operation;
use super::bus::{Bus, Call, ClientId, OBJECT_MANAGER, Properties, Refusal};
use super::known::Known;
use super::table::{Object, Table, object};
use crate::link::gatt::{Advertisement, PairingMethod, Peripheral, Security};

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
/// From `Disconnect` to the end of the link. Source: BlueZ 5.66, `DISCONNECT_TIMER`.
const DISCONNECT_DELAY: Duration = Duration::from_secs(2);
/// A device that was never connected is forgotten so long after it was last heard. Source: `TemporaryTimeout` in main.conf.
const TEMPORARY_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connected,
    Rearmed,
    Resolved,
}

/// A device's link.
pub(super) enum Link {
    Down { since: Option<Moment> },
    Connecting { since: Moment, answered: Option<Moment>, call: Option<Call> },
    Up { since: Moment, stage: Stage, closing: Option<Moment> },
}

struct Pairing {
    call: Call,
    /// The serial number of the question put to the client's agent.
    asked: Option<u32>,
}

/// A device within reach of the adapter.
pub(super) struct Device {
    pub(super) peripheral: Box<dyn Peripheral>,
    address: String,
    /// Its object.
    pub(super) path: String,
    adapter: String,
    pub(super) table: Table,
    known: Option<Known>,
    pub(super) link: Link,
    pub(super) security: Security,
    /// Whether its attributes were discovered; their objects stay when the link ends.
    pub(super) exported: bool,
    on_air: bool,
    pub(super) operations: VecDeque<Operation>,
    pub(super) confirming: Option<(Moment, Uuid)>,
    pub(super) subscribers: BTreeMap<usize, BTreeSet<ClientId>>,
    pub(super) armed: BTreeSet<usize>,
    pub(super) values: BTreeMap<usize, Vec<u8>>,
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

    pub(super) fn is_connected(&self) -> bool {
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

    fn properties(&self) -> Properties {
        let mut properties = self.known.as_ref().map(|known| known.properties(&self.address)).unwrap_or_default();
        properties.insert("Connected", Value::from(self.is_connected()));
        properties.insert("ServicesResolved", Value::from(self.is_resolved()));
        properties.insert("Adapter", object(&self.adapter));
        properties
    }

    pub(super) fn tell(&self, bus: &mut Bus, properties: &Properties) {
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
    pub(super) fn heard(&mut self, now: Moment, advertisement: &Advertisement, rssi: i16, bus: &mut Bus) {
        let new = self.known.is_none();
        let known = self.known.get_or_insert_with(Known::new);
        let changed = known.hear(now, advertisement, rssi);
        if new {
            added(bus, &self.path, DEVICE, self.properties());
        } else if !changed.is_empty() {
            self.tell(bus, &changed);
        }
    }

    /// Discovery ended: the signal strength is no longer known.
    pub(super) fn discovery_ended(&mut self, bus: &mut Bus) {
        if self.known.as_mut().is_some_and(Known::forget_rssi) {
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

    pub(super) fn bonded(&mut self, security: Security, bus: &mut Bus) {
        self.security = security;
        if let Some(known) = &mut self.known {
            known.paired = true;
        }
        self.tell(bus, &Properties::from([("Paired", Value::from(true)), ("Bonded", Value::from(true))]));
    }

    /// Sets `Trusted`, `Blocked` or `Alias`.
    pub(super) fn set(&mut self, property: &str, value: &Value<'_>, bus: &mut Bus) -> Result<(), Refusal> {
        let told = self.known.as_mut().and_then(|known| known.set(property, value)).ok_or_else(Refusal::invalid_arguments)?;
        self.tell(bus, &told);
        Ok(())
    }

    /// A client's connection ended: its sessions end with it, and the link stays.
    pub(super) fn client_left(&mut self, now: Moment, client: ClientId, bus: &mut Bus) {
        self.client_left_attributes(now, client, bus);
        self.disconnects.retain(|call| call.client != client);
        if self.pairing.as_ref().is_some_and(|pairing| pairing.call.client == client) {
            self.pairing = None;
        }
        if let Link::Connecting { call, .. } = &mut self.link {
            call.take_if(|call| call.client == client);
        }
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
        self.peripheral.agreed_mtu(now, super::table::MTU);
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

    fn services_resolved(&mut self, bus: &mut Bus) {
        if !std::mem::replace(&mut self.exported, true) {
            for (path, interface, properties) in self.attributes() {
                added(bus, &path, interface, properties);
            }
        }
        let mut changed = Properties::from([("ServicesResolved", Value::from(true))]);
        let name = self.peripheral.name();
        if let Some(known) = &mut self.known {
            changed.extend(known.learn(self.table.service_uuids(), Some(name)));
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
        let mut stored = self.known.take().filter(|known| !known.temporary);
        stored.as_mut().map(Known::forget_rssi);
        self.forgotten();
        self.known = stored;
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
