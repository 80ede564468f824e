use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use kit_protocol::moment::Moment;
use uuid::Uuid;
use zbus::message::{Message, Type};
use zbus::zvariant::{DynamicType, ObjectPath, OwnedObjectPath, OwnedValue, Value};

use super::Fault;
use super::bus::{BLUEZ_NAME, BUS_NAME, ClientId, MATCH_RULES_MAX};
use super::daemon::Daemon;
use crate::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service, bluetooth,
};
use core::time::Duration;

const ADAPTER: &str = "/org/bluez/hci0";
const DEVICE: &str = "/org/bluez/hci0/dev_00_00_00_00_00_07";
const INDICATED: &str = "/org/bluez/hci0/dev_00_00_00_00_00_07/service000a/char000b";
const SECRET: &str = "/org/bluez/hci0/dev_00_00_00_00_00_07/service000a/char000e";
const ONE: ClientId = ClientId(1);
const TWO: ClientId = ClientId(2);
const MEASUREMENT: Uuid = bluetooth(0x2a1c);

/// What the test and the device share.
#[derive(Default)]
struct Shared {
    silent: bool,
    linked: bool,
    subscribed: bool,
    to_send: u8,
    confirmed: u8,
    log: Vec<&'static str>,
}

struct Probe {
    shared: Arc<Mutex<Shared>>,
    sent: u8,
}

impl Peripheral for Probe {
    fn name(&self) -> String {
        "Probe".to_owned()
    }
    fn address(&self) -> [u8; 6] {
        [0, 0, 0, 0, 0, 7]
    }
    fn services(&self) -> Vec<Service> {
        let shown = |uuid, properties, needs_security| Characteristic { uuid, properties, needs_security };
        vec![Service {
            uuid: bluetooth(0x1809),
            characteristics: vec![
                shown(MEASUREMENT, Properties::INDICATE, Security::None),
                shown(bluetooth(0x2a1d), Properties::READ, Security::Authenticated),
            ],
        }]
    }
    fn pairing(&self) -> PairingMethod {
        PairingMethod::Passkey(123_456)
    }
    fn advertising(&mut self, _: Moment) -> Option<Advertisement> {
        let shared = self.shared.lock().unwrap();
        let services = vec![bluetooth(0x1809)];
        (!shared.silent && !shared.linked).then(|| Advertisement { services, rssi: -70, ..Advertisement::default() })
    }
    fn connected(&mut self, _: Moment) {
        let mut shared = self.shared.lock().unwrap();
        shared.linked = true;
        shared.log.push("connected");
    }
    fn disconnected(&mut self, _: Moment) {
        let mut shared = self.shared.lock().unwrap();
        (shared.linked, shared.subscribed) = (false, false);
        shared.log.push("disconnected");
    }
    fn read(&mut self, _: Moment, _: Uuid) -> Result<Vec<u8>, AttError> {
        Ok(vec![2])
    }
    fn write(&mut self, _: Moment, _: Uuid, _: &[u8]) -> Result<(), AttError> {
        Err(AttError::WriteNotPermitted)
    }
    fn subscribed(&mut self, _: Moment, _: Uuid, on: bool) {
        let mut shared = self.shared.lock().unwrap();
        shared.subscribed = on;
        shared.log.push(if on { "subscribed" } else { "unsubscribed" });
    }
    fn confirmed(&mut self, _: Moment, _: Uuid) {
        self.shared.lock().unwrap().confirmed += 1;
    }
    fn poll(&mut self, _: Moment) -> Option<Outgoing> {
        let shared = self.shared.lock().unwrap();
        (self.sent < shared.to_send).then(|| {
            self.sent += 1;
            Outgoing { characteristic: MEASUREMENT, value: vec![self.sent], confirmed: true }
        })
    }
    fn wants_disconnect(&mut self, _: Moment) -> bool {
        false
    }
}

/// bluetoothd in virtual time, with one device and what was sent to clients.
struct Bench {
    daemon: Daemon,
    now: Moment,
    device: Arc<Mutex<Shared>>,
    sent: Vec<(ClientId, Message)>,
}

impl Bench {
    fn new() -> Self {
        let device = Arc::new(Mutex::new(Shared::default()));
        let probe = Probe { shared: Arc::clone(&device), sent: 0 };
        let daemon = Daemon::new(vec![Box::new(probe)]);
        let mut bench = Self { daemon, now: Moment::ZERO, device, sent: Vec::new() };
        for client in [ONE, TWO] {
            bench.daemon.joined(client);
            bench.call(client, BUS_NAME, "/org/freedesktop/DBus", BUS_NAME, "Hello", &()).unwrap();
            for rule in ["type='signal',sender='org.bluez',path_namespace='/org/bluez/hci0'", "type='signal',path='/'"] {
                bench.call(client, BUS_NAME, "/org/freedesktop/DBus", BUS_NAME, "AddMatch", &rule).unwrap();
            }
        }
        bench
    }

    fn device(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.device.lock().unwrap()
    }

    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now = self.now + super::TICK;
            self.daemon.tick(self.now);
            self.sent.extend(self.daemon.bus.take_out());
            assert!(self.daemon.bus.take_faults().is_empty());
        }
    }

    /// Calls without waiting; the serial number that the answer will name.
    fn begin<B: serde::Serialize + DynamicType>(
        &mut self,
        client: ClientId,
        (to, path, interface, member): (&str, &str, &str, &str),
        body: &B,
    ) -> u32 {
        let call = Message::method_call(path, member).unwrap().destination(to).unwrap().interface(interface).unwrap();
        let message = call.build(body).unwrap();
        let serial = message.primary_header().serial_num().get();
        self.daemon.message(self.now, client, message);
        self.sent.extend(self.daemon.bus.take_out());
        serial
    }

    /// The answer to a call, if it has come: its body, or the name and text of the error.
    fn answer(&self, serial: u32) -> Option<Result<Message, String>> {
        let answers = |message: &Message| message.header().reply_serial().is_some_and(|answered| answered.get() == serial);
        let (_, message) = self.sent.iter().find(|(_, message)| answers(message))?;
        Some(match message.message_type() {
            Type::Error => {
                let name = message.header().error_name().unwrap().to_string();
                Err(format!("{name}: {}", message.body().deserialize::<String>().unwrap()))
            }
            _ => Ok(message.clone()),
        })
    }

    fn call<B: serde::Serialize + DynamicType>(
        &mut self,
        client: ClientId,
        to: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, String> {
        let serial = self.begin(client, (to, path, interface, member), body);
        for _ in 0..300 {
            if let Some(answer) = self.answer(serial) {
                return answer;
            }
            self.wait(super::TICK);
        }
        panic!("{member} was not answered");
    }

    fn bluez(&mut self, client: ClientId, path: &str, interface: &str, member: &str) -> Result<Message, String> {
        self.call(client, BLUEZ_NAME, path, &format!("org.bluez.{interface}"), member, &())
    }

    fn discover(&mut self, client: ClientId) {
        self.bluez(client, ADAPTER, "Adapter1", "StartDiscovery").unwrap();
        self.wait(Duration::from_millis(200));
    }

    fn connect(&mut self, client: ClientId) {
        self.bluez(client, DEVICE, "Device1", "Connect").unwrap();
        self.wait(Duration::from_millis(300));
    }

    fn objects(&mut self) -> HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedValue>>> {
        let manager = "org.freedesktop.DBus.ObjectManager";
        let answer = self.call(ONE, BLUEZ_NAME, "/", manager, "GetManagedObjects", &()).unwrap();
        answer.body().deserialize().unwrap()
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> Option<OwnedValue> {
        let interface = format!("org.bluez.{interface}");
        let path = OwnedObjectPath::try_from(path).unwrap();
        self.objects().remove(&path)?.remove(&interface)?.remove(name)
    }

    /// Values of `PropertiesChanged` that a client was told of a property, in order; forgets all that was sent.
    fn told(&mut self, client: ClientId, path: &str, name: &str) -> Vec<OwnedValue> {
        let mut values = Vec::new();
        for (to, message) in std::mem::take(&mut self.sent) {
            let header = message.header();
            let changed = header.member().is_some_and(|member| member.as_str() == "PropertiesChanged");
            if to == client && changed && header.path().is_some_and(|of| of.as_str() == path) {
                let body = message.body();
                let (_, mut changed, _): (String, HashMap<String, OwnedValue>, Vec<String>) = body.deserialize().unwrap();
                values.extend(changed.remove(name));
            }
        }
        values
    }
}

#[test]
fn what_btleplug_must_find_is_there_and_services_are_found_by_introspection() {
    let mut bench = Bench::new();
    for name in ["Address", "AddressType", "Name", "Alias", "Modalias", "Powered", "Discovering"] {
        assert!(bench.property(ADAPTER, "Adapter1", name).is_some(), "{name}");
    }
    bench.discover(ONE);
    let always = ["Address", "AddressType", "Paired", "Connected", "ServicesResolved", "Trusted", "Blocked", "LegacyPairing"];
    for name in always.into_iter().chain(["UUIDs", "Alias", "RSSI", "Adapter", "Bonded"]) {
        assert!(bench.property(DEVICE, "Device1", name).is_some(), "{name}");
    }
    bench.connect(ONE);
    let introspect = |bench: &mut Bench, path: &str| {
        let answer = bench.call(ONE, BLUEZ_NAME, path, "org.freedesktop.DBus.Introspectable", "Introspect", &()).unwrap();
        answer.body().deserialize::<String>().unwrap()
    };
    assert!(introspect(&mut bench, DEVICE).contains("<node name=\"service000a\"/>"));
    let service = introspect(&mut bench, &format!("{DEVICE}/service000a"));
    assert!(service.contains("<node name=\"char000b\"/><node name=\"char000e\"/>"), "{service}");
    assert!(introspect(&mut bench, INDICATED).contains("<node name=\"desc000d\"/>"));
    assert!(bench.property(INDICATED, "GattCharacteristic1", "NotifyAcquired").is_none());
    assert!(bench.property(INDICATED, "GattCharacteristic1", "Value").is_none());
}

#[test]
fn each_connection_may_hold_512_match_rules_and_no_more() {
    let mut bench = Bench::new();
    let rule = "type='signal',sender='org.bluez',path_namespace='/org/bluez/hci0'";
    let mut change = |client, method| bench.call(client, BUS_NAME, "/org/freedesktop/DBus", BUS_NAME, method, &rule).map(drop);
    for _ in 2..MATCH_RULES_MAX {
        assert_eq!(change(ONE, "AddMatch"), Ok(()));
    }
    assert!(change(ONE, "AddMatch").unwrap_err().starts_with("org.freedesktop.DBus.Error.LimitsExceeded"));
    assert_eq!(change(TWO, "AddMatch"), Ok(()));
    assert_eq!(change(ONE, "RemoveMatch"), Ok(()));
    assert_eq!(change(ONE, "AddMatch"), Ok(()));
}

#[test]
fn discovery_belongs_to_a_client_and_signal_strength_to_discovery() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    let again = bench.bluez(ONE, ADAPTER, "Adapter1", "StartDiscovery").unwrap_err();
    assert_eq!(again, "org.bluez.Error.InProgress: Operation already in progress");
    bench.discover(TWO);
    bench.bluez(ONE, ADAPTER, "Adapter1", "StopDiscovery").unwrap();
    assert!(bench.property(DEVICE, "Device1", "RSSI").is_some());
    let now = bench.now;
    bench.daemon.left(now, TWO);
    assert!(bench.property(DEVICE, "Device1", "RSSI").is_none());
    let none = bench.bluez(ONE, ADAPTER, "Adapter1", "StopDiscovery").unwrap_err();
    assert_eq!(none, "org.bluez.Error.Failed: No discovery started");
    assert_eq!(bench.told(ONE, ADAPTER, "Discovering").len(), 2, "on once, off once");
}

#[test]
fn a_discovery_filter_hides_devices_with_other_services() {
    let mut bench = Bench::new();
    let filter = |uuid: u16| BTreeMap::from([("UUIDs", Value::from(vec![bluetooth(uuid).to_string()]))]);
    let set = |bench: &mut Bench, uuid| {
        bench.call(ONE, BLUEZ_NAME, ADAPTER, "org.bluez.Adapter1", "SetDiscoveryFilter", &filter(uuid)).unwrap();
    };
    set(&mut bench, 0x1822);
    bench.discover(ONE);
    assert!(bench.property(DEVICE, "Device1", "RSSI").is_none());
    set(&mut bench, 0x1809);
    bench.wait(Duration::from_millis(200));
    assert!(bench.property(DEVICE, "Device1", "RSSI").is_some());
}

#[test]
fn a_device_that_was_never_connected_is_forgotten_and_one_that_was_is_not() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    bench.bluez(ONE, ADAPTER, "Adapter1", "StopDiscovery").unwrap();
    bench.wait(Duration::from_secs(29));
    assert!(bench.property(DEVICE, "Device1", "Address").is_some());
    bench.wait(Duration::from_secs(2));
    assert!(bench.property(DEVICE, "Device1", "Address").is_none());
    bench.discover(ONE);
    bench.connect(ONE);
    bench.bluez(ONE, DEVICE, "Device1", "Disconnect").unwrap();
    bench.bluez(ONE, ADAPTER, "Adapter1", "StopDiscovery").unwrap();
    bench.wait(Duration::from_secs(60));
    assert!(bench.property(DEVICE, "Device1", "Address").is_some());
    let remove = ObjectPath::try_from(DEVICE).unwrap();
    bench.call(ONE, BLUEZ_NAME, ADAPTER, "org.bluez.Adapter1", "RemoveDevice", &remove).unwrap();
    assert!(bench.property(DEVICE, "Device1", "Address").is_none());
}

#[test]
fn a_silent_device_is_waited_for_and_given_up_after_the_kernels_time() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    bench.device().silent = true;
    bench.wait(Duration::from_millis(200));
    let connect = (BLUEZ_NAME, DEVICE, "org.bluez.Device1", "Connect");
    let first = bench.begin(ONE, connect, &());
    let second = bench.begin(TWO, connect, &());
    assert_eq!(bench.answer(second).unwrap().unwrap_err(), "org.bluez.Error.InProgress: Operation already in progress");
    bench.wait(Duration::from_secs(19));
    assert!(bench.answer(first).is_none());
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.answer(first).unwrap().unwrap_err(), "org.bluez.Error.Failed: le-connection-abort-by-local");
    let third = bench.begin(ONE, connect, &());
    bench.wait(Duration::from_secs(5));
    bench.device().silent = false;
    bench.wait(Duration::from_millis(200));
    assert!(bench.answer(third).unwrap().is_ok());
    assert_eq!(bench.told(ONE, DEVICE, "Connected").len(), 1);
}

#[test]
fn subscriptions_are_written_again_before_services_are_resolved_and_indications_confirmed_without_a_listener() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    bench.connect(ONE);
    bench.bluez(ONE, INDICATED, "GattCharacteristic1", "StartNotify").unwrap();
    bench.bluez(ONE, INDICATED, "GattCharacteristic1", "StartNotify").unwrap();
    bench.device().to_send = 2;
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.told(ONE, INDICATED, "Value").len(), 2);
    let now = bench.now;
    bench.daemon.suffer(now, &Fault::LinkLost([0, 0, 0, 0, 0, 7]));
    let early = bench.bluez(ONE, DEVICE, "Device1", "Connect").unwrap_err();
    assert_eq!(early, "org.bluez.Error.Failed: Input/output error");
    bench.wait(Duration::from_millis(100));
    bench.device().to_send = 4;
    bench.bluez(ONE, DEVICE, "Device1", "Connect").unwrap();
    bench.sent.clear();
    bench.wait(Duration::from_millis(90));
    assert!(bench.device().confirmed >= 3, "already confirmed");
    assert_eq!(bench.told(ONE, DEVICE, "ServicesResolved").len(), 0, "and not yet resolved");
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.told(ONE, DEVICE, "ServicesResolved").len(), 1);

    let now = bench.now;
    bench.daemon.left(now, ONE);
    assert!(bench.device().linked, "the link is everybody's");
    assert_eq!(bench.device().log.last(), Some(&"unsubscribed"));
    bench.device().to_send = 5;
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.told(TWO, INDICATED, "Value").len(), 0);
    assert_eq!(bench.device().confirmed, 5, "bluetoothd confirms what nobody asked for");
}

#[test]
fn disconnecting_takes_two_seconds_in_which_values_still_come() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    bench.connect(ONE);
    bench.bluez(ONE, INDICATED, "GattCharacteristic1", "StartNotify").unwrap();
    bench.sent.clear();
    let ending = bench.begin(ONE, (BLUEZ_NAME, DEVICE, "org.bluez.Device1", "Disconnect"), &());
    let refused = bench.bluez(TWO, INDICATED, "GattCharacteristic1", "StartNotify").unwrap_err();
    assert_eq!(refused, "org.bluez.Error.NotConnected: Not Connected");
    bench.device().to_send = 1;
    bench.wait(Duration::from_millis(1900));
    assert!(bench.answer(ending).is_none());
    assert_eq!(bench.told(ONE, INDICATED, "Value").len(), 1);
    bench.wait(Duration::from_millis(200));
    assert!(bench.answer(ending).unwrap().is_ok());
    assert!(!bench.device().linked);
    let read = bench.bluez(ONE, SECRET, "GattCharacteristic1", "ReadValue").unwrap_err();
    assert_eq!(read, "org.bluez.Error.Failed: Not connected");
}

#[test]
fn a_protected_value_needs_the_passkey_that_the_clients_agent_gives() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    bench.connect(ONE);
    let options: BTreeMap<&str, Value<'_>> = BTreeMap::new();
    let read = (BLUEZ_NAME, SECRET, "org.bluez.GattCharacteristic1", "ReadValue");
    let pair = (BLUEZ_NAME, DEVICE, "org.bluez.Device1", "Pair");
    let denied = bench.begin(ONE, read, &options);
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.answer(denied).unwrap().unwrap_err(), "org.bluez.Error.NotPermitted: Not paired");
    let agent = (ObjectPath::try_from("/agent").unwrap(), "KeyboardDisplay");
    bench.call(ONE, BLUEZ_NAME, "/org/bluez", "org.bluez.AgentManager1", "RegisterAgent", &agent).unwrap();
    for (passkey, outcome) in [(111_111, "org.bluez.Error.AuthenticationFailed: Authentication Failed"), (123_456, "")] {
        bench.sent.clear();
        let pairing = bench.begin(ONE, pair, &());
        bench.wait(Duration::from_millis(100));
        let asked = bench.sent.iter().find(|(_, message)| message.message_type() == Type::MethodCall).unwrap().1.clone();
        let answer = Message::method_return(&asked.header()).unwrap().build(&(passkey as u32)).unwrap();
        let now = bench.now;
        bench.daemon.message(now, ONE, answer);
        bench.wait(Duration::from_millis(100));
        assert_eq!(bench.answer(pairing).unwrap().err().unwrap_or_default(), outcome);
    }
    let allowed = bench.begin(ONE, read, &options);
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.answer(allowed).unwrap().unwrap().body().deserialize::<Vec<u8>>().unwrap(), [2]);
    assert_eq!(bench.property(SECRET, "GattCharacteristic1", "Value"), Some(Value::from(vec![2u8]).try_into().unwrap()));
}

#[test]
fn when_bluetoothd_dies_calls_find_no_service_and_afterwards_only_what_was_stored() {
    let mut bench = Bench::new();
    bench.discover(ONE);
    bench.connect(ONE);
    let waiting = bench.begin(ONE, (BLUEZ_NAME, DEVICE, "org.bluez.Device1", "Disconnect"), &());
    let now = bench.now;
    bench.daemon.suffer(now, &Fault::DaemonKilled);
    bench.wait(super::TICK);
    assert!(bench.answer(waiting).unwrap().unwrap_err().starts_with("org.freedesktop.DBus.Error.NoReply"));
    assert!(!bench.device().linked);
    let gone = bench.bluez(ONE, DEVICE, "Device1", "Connect").unwrap_err();
    assert!(gone.starts_with("org.freedesktop.DBus.Error.ServiceUnknown"), "{gone}");
    bench.daemon.suffer(now, &Fault::DaemonStarted);
    assert!(bench.property(DEVICE, "Device1", "Address").is_some());
    assert!(bench.property(INDICATED, "GattCharacteristic1", "UUID").is_none());
    assert!(bench.bluez(ONE, ADAPTER, "Adapter1", "StartDiscovery").is_ok(), "discovery had ended");
    let now = bench.now;
    bench.daemon.suffer(now, &Fault::AdapterUnplugged);
    assert!(bench.property(ADAPTER, "Adapter1", "Address").is_none());
    bench.daemon.suffer(now, &Fault::AdapterPlugged);
    assert!(bench.property(ADAPTER, "Adapter1", "Address").is_some());
}
