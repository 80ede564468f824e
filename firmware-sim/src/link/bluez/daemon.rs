//! bluetoothd as a value: calls and time come in, messages for clients go out over the [`Bus`].

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use kit_protocol::moment::Moment;
use uuid::Uuid;
use zbus::fdo;
use zbus::message::{Message, Type};
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

use super::Fault;
use super::attributes::Work;
use super::bus::{Answer, Bus, Call, ClientId, OBJECT_MANAGER, Options, Outcome, PROPERTIES, Properties, Refusal};
use super::device::{DEVICE, Device, added, removed};
use super::table::{CHARACTERISTIC, Object};
use crate::link::gatt::{Advertisement, Peripheral};

const ROOT: &str = "/org/bluez";
const ADAPTER_PATH: &str = "/org/bluez/hci0";
const ADAPTER: &str = "org.bluez.Adapter1";
const AGENT_MANAGER: &str = "org.bluez.AgentManager1";
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
const ADAPTER_ADDRESS: &str = "00:AA:01:00:00:42";

/// A device within reach is heard this often.
const ADVERTISING_INTERVAL: Duration = Duration::from_millis(100);
/// How far signal strength wanders around what the device is heard at, dB.
const FADING_DB: i16 = 4;

/// What one client's discovery asks for; no UUIDs means any.
type Filter = BTreeSet<Uuid>;

/// bluetoothd with one adapter.
pub(super) struct Daemon {
    /// Whom it serves.
    pub(super) bus: Bus,
    plugged: bool,
    powered: bool,
    alias: String,
    filters: BTreeMap<ClientId, Filter>,
    discovering: BTreeSet<ClientId>,
    /// What `Discovering` was last told to be.
    told_discovering: bool,
    agents: Vec<(ClientId, String)>,
    devices: Vec<Device>,
    heard: Moment,
    fading: fastrand::Rng,
}

impl Daemon {
    /// An adapter with these devices around it; none is known yet.
    pub(super) fn new(peripherals: Vec<Box<dyn Peripheral>>) -> Self {
        let mut bus = Bus::default();
        bus.set_serving(true);
        Self {
            bus,
            plugged: true,
            powered: true,
            alias: "kit".to_owned(),
            filters: BTreeMap::new(),
            discovering: BTreeSet::new(),
            told_discovering: false,
            agents: Vec::new(),
            devices: peripherals.into_iter().map(|peripheral| Device::new(ADAPTER_PATH, peripheral)).collect(),
            heard: Moment::ZERO,
            fading: fastrand::Rng::with_seed(0x626c_6500),
        }
    }

    /// A client connected.
    pub(super) fn joined(&mut self, client: ClientId) {
        self.bus.joined(client);
    }

    /// A client's connection ended: discovery, subscriptions and agent were its own, links are everybody's.
    pub(super) fn left(&mut self, now: Moment, client: ClientId) {
        self.bus.left(client);
        self.agents.retain(|(owner, _)| *owner != client);
        self.filters.remove(&client);
        self.discovering.remove(&client);
        self.discovery_changed();
        for device in &mut self.devices {
            device.client_left(now, client, &mut self.bus);
        }
    }

    /// A message of a client.
    pub(super) fn message(&mut self, now: Moment, client: ClientId, message: Message) {
        match message.message_type() {
            Type::MethodCall => {
                let call = Call { client, message };
                let outcome = self.bus.call(&call).unwrap_or_else(|| self.method(now, &call));
                self.bus.conclude(&call, outcome);
            }
            Type::MethodReturn | Type::Error => self.answered(&message),
            Type::Signal => {}
        }
    }

    /// A client answered a question of ours.
    fn answered(&mut self, message: &Message) {
        let Some(serial) = message.header().reply_serial() else { return };
        let passkey = message.body().deserialize::<u32>().ok().filter(|_| message.message_type() == Type::MethodReturn);
        for device in &mut self.devices {
            device.agent_answered(serial.get(), passkey, &mut self.bus);
        }
    }

    /// Moves everything on to `now`.
    pub(super) fn tick(&mut self, now: Moment) {
        if now.since(self.heard) >= ADVERTISING_INTERVAL {
            self.heard = now;
            self.listen(now);
        }
        let agent = self.agents.last().cloned();
        for device in &mut self.devices {
            device.tick(now, agent.as_ref(), &mut self.bus);
            if device.is_expired(now) {
                device.forget(now, &mut self.bus);
            }
        }
    }

    /// Devices advertise whether or not anybody listens; only with discovery on does a client learn of it.
    fn listen(&mut self, now: Moment) {
        let receiving = self.plugged && self.powered && self.bus.serving();
        for device in &mut self.devices {
            let advertisement = device.listen(now).filter(|_| receiving);
            let wanted = |advertisement: &Advertisement| {
                self.discovering.iter().any(|client| {
                    self.filters.get(client).is_none_or(|filter| {
                        filter.is_empty() || advertisement.services.iter().any(|service| filter.contains(service))
                    })
                })
            };
            if let Some(advertisement) = advertisement.filter(wanted) {
                let rssi = advertisement.rssi.saturating_add(self.fading.i16(-FADING_DB..=FADING_DB));
                device.heard(now, &advertisement, rssi, &mut self.bus);
            }
        }
    }

    /// Something goes wrong, or right again.
    pub(super) fn suffer(&mut self, now: Moment, fault: &Fault) {
        match fault {
            Fault::AdapterUnplugged if self.plugged => {
                self.plugged = false;
                for (path, interface, _) in self.objects().into_iter().rev().filter(|(path, ..)| path.starts_with(ADAPTER_PATH)) {
                    removed(&mut self.bus, &path, interface);
                }
                self.orphan(now);
            }
            Fault::AdapterPlugged if !self.plugged => {
                self.plugged = true;
                for (path, interface, properties) in
                    self.objects().into_iter().filter(|(path, ..)| path.starts_with(ADAPTER_PATH))
                {
                    added(&mut self.bus, &path, interface, properties);
                }
            }
            Fault::DaemonKilled if self.bus.serving() => {
                self.orphan(now);
                self.agents.clear();
                self.bus.set_serving(false);
            }
            Fault::DaemonStarted => self.bus.set_serving(true),
            Fault::LinkLost(address) => self.each(*address, |device, bus| device.link_ended(now, bus)),
            Fault::Mute(address, mute) => self.each(*address, |device, _| device.mute = *mute),
            Fault::AdapterUnplugged | Fault::AdapterPlugged | Fault::DaemonKilled => {}
        }
    }

    fn each(&mut self, address: [u8; 6], act: impl Fn(&mut Device, &mut Bus)) {
        let address = address.map(|octet| format!("{octet:02X}")).join(":");
        for device in self.devices.iter_mut().filter(|device| device.address() == address) {
            act(device, &mut self.bus);
        }
    }

    fn orphan(&mut self, now: Moment) {
        self.discovering.clear();
        self.told_discovering = false;
        self.filters.clear();
        for device in &mut self.devices {
            device.orphaned(now, &mut self.bus);
        }
    }

    // ---- objects ----

    fn objects(&self) -> Vec<Object> {
        let mut objects = vec![(ROOT.to_owned(), AGENT_MANAGER, Properties::new())];
        if self.plugged {
            objects.push((ADAPTER_PATH.to_owned(), ADAPTER, self.adapter_properties()));
            objects.extend(self.devices.iter().flat_map(Device::objects));
        }
        objects
    }

    fn adapter_properties(&self) -> Properties {
        Properties::from([
            ("Address", Value::from(ADAPTER_ADDRESS)),
            ("AddressType", Value::from("public")),
            ("Name", Value::from("kit")),
            ("Alias", Value::from(self.alias.clone())),
            ("Class", Value::from(0u32)),
            ("Powered", Value::from(self.powered)),
            ("Discoverable", Value::from(false)),
            ("DiscoverableTimeout", Value::from(180u32)),
            ("Pairable", Value::from(false)),
            ("PairableTimeout", Value::from(0u32)),
            ("Discovering", Value::from(!self.discovering.is_empty())),
            ("UUIDs", Value::from(Vec::<String>::new())),
            ("Modalias", Value::from("usb:v1D6Bp0246d0542")),
        ])
    }

    // ---- methods ----

    fn method(&mut self, now: Moment, call: &Call) -> Outcome {
        let (path, member) = (call.path(), call.member());
        match call.interface().as_deref() {
            Some(INTROSPECTABLE) => self.introspect(call, &path),
            Some(OBJECT_MANAGER) if path == "/" && member == "GetManagedObjects" => self.managed_objects(call),
            Some(PROPERTIES) => self.properties_method(now, call, &path, &member),
            Some(ADAPTER) if path == ADAPTER_PATH && self.plugged => self.adapter_method(now, call, &member),
            Some(AGENT_MANAGER) if path == ROOT => self.agent_method(call, &member),
            Some(DEVICE) if self.plugged => self.device_method(now, call, &path, &member),
            Some(CHARACTERISTIC) if self.plugged => self.characteristic_method(now, call, &path, &member),
            _ => Err(Refusal::unknown_method(call)),
        }
    }

    /// The XML of one object: its interfaces, and the names of the objects below it.
    fn introspect(&self, call: &Call, path: &str) -> Outcome {
        let objects = self.objects();
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let children: BTreeSet<&str> = objects
            .iter()
            .filter_map(|(object, ..)| object.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .filter(|child| !child.is_empty())
            .collect();
        let own: Vec<&Object> = objects.iter().filter(|(object, ..)| object == path).collect();
        if own.is_empty() && children.is_empty() {
            return Err(Refusal::unknown_method(call));
        }
        let mut xml = String::from("<node>");
        for interface in [INTROSPECTABLE, PROPERTIES].into_iter().chain(own.iter().map(|(_, interface, _)| *interface)) {
            // Writing to a String cannot fail.
            let _infallible = write!(xml, "<interface name=\"{interface}\"></interface>");
        }
        for child in children {
            let _infallible = write!(xml, "<node name=\"{child}\"/>");
        }
        xml.push_str("</node>");
        self.bus.answer(call, &xml)
    }

    fn managed_objects(&self, call: &Call) -> Outcome {
        let mut tree: HashMap<OwnedObjectPath, BTreeMap<&str, Properties>> = HashMap::new();
        for (path, interface, properties) in self.objects() {
            let path = ObjectPath::try_from(path).unwrap_or_default().into();
            let interfaces = tree.entry(path).or_default();
            interfaces.insert(INTROSPECTABLE, Properties::new());
            interfaces.insert(PROPERTIES, Properties::new());
            interfaces.insert(interface, properties);
        }
        self.bus.answer(call, &tree)
    }

    fn properties_method(&mut self, now: Moment, call: &Call, path: &str, member: &str) -> Outcome {
        let of = |interface: &str| {
            let found = self.objects().into_iter().find(|(object, held, _)| object == path && *held == interface);
            found.map(|(_, _, properties)| properties).ok_or_else(|| Refusal::unknown_method(call))
        };
        let body = call.message.body();
        match member {
            "GetAll" => self.bus.answer(call, &of(&body.deserialize::<String>().map_err(bad_arguments)?)?),
            "Get" => {
                let (interface, property) = body.deserialize::<(String, String)>().map_err(bad_arguments)?;
                let value = of(&interface)?.remove(property.as_str());
                let missing = || Refusal::bus(&fdo::Error::InvalidArgs(format!("No such property '{property}'")));
                self.bus.answer(call, &value.ok_or_else(missing)?)
            }
            "Set" => {
                let (interface, property, value) = body.deserialize::<(String, String, OwnedValue)>().map_err(bad_arguments)?;
                of(&interface)?;
                self.set(now, path, &interface, &property, &value)?;
                self.bus.answer(call, &())
            }
            _ => Err(Refusal::unknown_method(call)),
        }
    }

    fn set(&mut self, now: Moment, path: &str, interface: &str, property: &str, value: &Value<'_>) -> Result<(), Refusal> {
        match (interface, property, value) {
            (ADAPTER, "Powered", Value::Bool(powered)) => self.set_powered(now, *powered),
            (ADAPTER, "Alias", Value::Str(alias)) => {
                self.alias = alias.to_string();
                self.bus.changed(path, ADAPTER, &Properties::from([("Alias", Value::from(alias.to_string()))]), &[]);
            }
            (DEVICE, ..) => {
                if let Some(device) = self.devices.iter_mut().find(|device| device.path == path) {
                    device.set(property, value, &mut self.bus)?;
                }
            }
            _ => return Err(Refusal::bus(&fdo::Error::PropertyReadOnly(format!("Property '{property}' is not writable")))),
        }
        Ok(())
    }

    fn set_powered(&mut self, now: Moment, powered: bool) {
        if powered == self.powered {
            return;
        }
        self.powered = powered;
        if !powered {
            for device in &mut self.devices {
                device.link_ended(now, &mut self.bus);
            }
            self.discovering.clear();
            self.discovery_changed();
        }
        self.bus.changed(ADAPTER_PATH, ADAPTER, &Properties::from([("Powered", Value::from(powered))]), &[]);
    }

    fn adapter_method(&mut self, now: Moment, call: &Call, member: &str) -> Outcome {
        let body = call.message.body();
        match member {
            "SetDiscoveryFilter" => {
                let options: Options = body.deserialize().map_err(|_| Refusal::invalid_arguments())?;
                self.filters.insert(call.client, filter(&options)?);
            }
            "StartDiscovery" if !self.powered => return Err(Refusal::bluez("NotReady", "Resource Not Ready")),
            "StartDiscovery" if !self.discovering.insert(call.client) => return Err(Refusal::in_progress()),
            "StartDiscovery" => self.discovery_changed(),
            "StopDiscovery" if !self.discovering.remove(&call.client) => {
                return Err(Refusal::failed("No discovery started"));
            }
            "StopDiscovery" => self.discovery_changed(),
            "RemoveDevice" => {
                let path: OwnedObjectPath = body.deserialize().map_err(|_| Refusal::invalid_arguments())?;
                let found = self.devices.iter_mut().find(|device| device.path == path.as_str() && device.is_known());
                let device = found.ok_or_else(|| Refusal::bluez("DoesNotExist", "Does Not Exist"))?;
                device.forget(now, &mut self.bus);
            }
            _ => return Err(Refusal::unknown_method(call)),
        }
        self.bus.answer(call, &())
    }

    /// A client began or ended discovery; it is told only when the adapter began or ended listening.
    fn discovery_changed(&mut self) {
        let discovering = !self.discovering.is_empty();
        if std::mem::replace(&mut self.told_discovering, discovering) == discovering {
            return;
        }
        let told = Properties::from([("Discovering", Value::from(discovering))]);
        self.bus.changed(ADAPTER_PATH, ADAPTER, &told, &[]);
        if !discovering {
            for device in &mut self.devices {
                device.discovery_ended(&mut self.bus);
            }
        }
    }

    fn agent_method(&mut self, call: &Call, member: &str) -> Outcome {
        let body = call.message.body();
        let path = |path: Result<OwnedObjectPath, _>| {
            path.map(|path| path.to_string()).map_err(|_: zbus::Error| Refusal::invalid_arguments())
        };
        match member {
            "RegisterAgent" => {
                let (agent, _capability) =
                    body.deserialize::<(OwnedObjectPath, String)>().map_err(|_| Refusal::invalid_arguments())?;
                if self.agents.iter().any(|(client, _)| *client == call.client) {
                    return Err(Refusal::bluez("AlreadyExists", "Already Exists"));
                }
                self.agents.insert(0, (call.client, agent.to_string()));
            }
            "RequestDefaultAgent" => {
                let agent = (call.client, path(body.deserialize())?);
                let found = self.agents.iter().position(|held| *held == agent);
                let position = found.ok_or_else(|| Refusal::bluez("DoesNotExist", "Does Not Exist"))?;
                self.agents.remove(position);
                self.agents.push(agent);
            }
            "UnregisterAgent" => {
                let agent = (call.client, path(body.deserialize())?);
                self.agents.retain(|held| *held != agent);
            }
            _ => return Err(Refusal::unknown_method(call)),
        }
        self.bus.answer(call, &())
    }

    fn device_method(&mut self, now: Moment, call: &Call, path: &str, member: &str) -> Outcome {
        let powered = self.powered;
        let found = self.devices.iter_mut().find(|device| device.path == path && device.is_known());
        let device = found.ok_or_else(|| Refusal::unknown_method(call))?;
        match member {
            "Connect" | "Pair" if !powered => return Err(Refusal::bluez("NotReady", "Resource Not Ready")),
            "Connect" => device.connect(now, call, &mut self.bus),
            "Disconnect" => device.disconnect(now, call, &mut self.bus),
            "Pair" => device.pair(now, call, &mut self.bus),
            "CancelPairing" => device.cancel_pairing(call, &mut self.bus),
            _ => return Err(Refusal::unknown_method(call)),
        }
        Ok(Answer::Later)
    }

    fn characteristic_method(&mut self, now: Moment, call: &Call, path: &str, member: &str) -> Outcome {
        let found = self.devices.iter_mut().find_map(|device| device.characteristic(path).map(|index| (device, index)));
        let (device, characteristic) = found.ok_or_else(|| Refusal::unknown_method(call))?;
        let body = call.message.body();
        match member {
            "ReadValue" => device.request(now, call, characteristic, Work::Read)?,
            "WriteValue" => {
                let (value, options) = body.deserialize::<(Vec<u8>, Options)>().map_err(|_| Refusal::invalid_arguments())?;
                let command = matches!(options.get("type").map(|kind| &**kind), Some(Value::Str(kind)) if kind == "command");
                device.request(now, call, characteristic, Work::Write { value, command })?;
            }
            "StartNotify" => device.start_notify(now, call, characteristic, &mut self.bus)?,
            "StopNotify" => {
                device.stop_notify(now, call.client, characteristic, &mut self.bus)?;
                return self.bus.answer(call, &());
            }
            "AcquireNotify" | "AcquireWrite" => return Err(Refusal::bluez("NotSupported", "Operation is not supported")),
            _ => return Err(Refusal::unknown_method(call)),
        }
        Ok(Answer::Later)
    }
}

fn bad_arguments(error: zbus::Error) -> Refusal {
    Refusal::bus(&fdo::Error::InvalidArgs(error.to_string()))
}

/// The service UUIDs of a discovery filter. Source: BlueZ 5.66, `doc/adapter-api.txt`.
fn filter(options: &Options) -> Result<Filter, Refusal> {
    let Some(uuids) = options.get("UUIDs") else { return Ok(Filter::new()) };
    let uuids: Vec<String> = uuids.try_clone().and_then(TryInto::try_into).map_err(|_| Refusal::invalid_arguments())?;
    uuids.iter().map(|uuid| Uuid::parse_str(uuid).map_err(|_| Refusal::invalid_arguments())).collect()
}
