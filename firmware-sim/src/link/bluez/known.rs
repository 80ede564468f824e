//! What bluetoothd knows of a device for which it has an object, and how it tells it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use kit_protocol::moment::Moment;
use uuid::Uuid;
use zbus::zvariant::{Type, Value};

use super::bus::Properties;
use crate::link::gatt::Advertisement;

/// What bluetoothd knows of a device for which it has an object.
#[derive(Default)]
pub(super) struct Known {
    /// Forgotten when it is not heard for a while; not so once a client connected to it.
    pub(super) temporary: bool,
    /// When it was last heard.
    pub(super) heard: Moment,
    /// Bonded.
    pub(super) paired: bool,
    rssi: Option<i16>,
    name: Option<String>,
    uuids: BTreeSet<Uuid>,
    manufacturer_data: BTreeMap<u16, Vec<u8>>,
    service_data: BTreeMap<Uuid, Vec<u8>>,
    trusted: bool,
    blocked: bool,
    alias: Option<String>,
}

impl Known {
    /// Of a device that is heard for the first time.
    pub(super) fn new() -> Self {
        Self { temporary: true, ..Self::default() }
    }

    /// Takes in an advertisement; what is to be told of it. RSSI is told when it is another number, manufacturer and service
    /// data every time, since duplicates were asked for.
    pub(super) fn hear(&mut self, now: Moment, advertisement: &Advertisement, rssi: i16) -> Properties {
        let mut changed = Properties::new();
        self.heard = now;
        if self.rssi.replace(rssi) != Some(rssi) {
            changed.insert("RSSI", Value::from(rssi));
        }
        changed.extend(self.learn(advertisement.services.iter().copied(), advertisement.local_name.clone()));
        if !advertisement.manufacturer_data.is_empty() {
            self.manufacturer_data.extend(advertisement.manufacturer_data.iter().cloned());
            changed.insert("ManufacturerData", by_key(&self.manufacturer_data, |company| *company));
        }
        if !advertisement.service_data.is_empty() {
            self.service_data.extend(advertisement.service_data.iter().cloned());
            changed.insert("ServiceData", by_key(&self.service_data, ToString::to_string));
        }
        changed
    }

    /// Takes in services and a name; what is to be told of them.
    pub(super) fn learn(&mut self, services: impl Iterator<Item = Uuid>, name: Option<String>) -> Properties {
        let mut changed = Properties::new();
        let before = self.uuids.len();
        self.uuids.extend(services);
        if self.uuids.len() != before {
            changed.insert("UUIDs", Value::from(self.uuid_texts()));
        }
        if let Some(name) = name.filter(|name| self.name.as_ref() != Some(name)) {
            changed.insert("Name", Value::from(name.clone()));
            if self.alias.is_none() {
                changed.insert("Alias", Value::from(name.clone()));
            }
            self.name = Some(name);
        }
        changed
    }

    /// Signal strength is known only while discovery is on; whether it was.
    pub(super) fn forget_rssi(&mut self) -> bool {
        self.rssi.take().is_some()
    }

    /// Sets what a client may set: `Trusted`, `Blocked`, `Alias`; what is to be told of it.
    pub(super) fn set(&mut self, property: &str, value: &Value<'_>) -> Option<Properties> {
        let told = match (property, value) {
            ("Trusted", Value::Bool(trusted)) => {
                self.trusted = *trusted;
                ("Trusted", Value::from(*trusted))
            }
            ("Blocked", Value::Bool(blocked)) => {
                self.blocked = *blocked;
                ("Blocked", Value::from(*blocked))
            }
            ("Alias", Value::Str(alias)) => {
                self.alias = Some(alias.to_string());
                ("Alias", Value::from(alias.to_string()))
            }
            _ => return None,
        };
        Some(Properties::from([told]))
    }

    /// What `Device1` shows of it; what is not known is left out.
    pub(super) fn properties(&self, address: &str) -> Properties {
        let fallback = || address.replace(':', "-");
        let alias = self.alias.clone().or_else(|| self.name.clone()).unwrap_or_else(fallback);
        let mut properties = Properties::from([
            ("Address", Value::from(address.to_owned())),
            ("AddressType", Value::from("public")),
            ("Alias", Value::from(alias)),
            ("Paired", Value::from(self.paired)),
            ("Bonded", Value::from(self.paired)),
            ("Trusted", Value::from(self.trusted)),
            ("Blocked", Value::from(self.blocked)),
            ("LegacyPairing", Value::from(false)),
            ("UUIDs", Value::from(self.uuid_texts())),
        ]);
        properties.extend(self.name.iter().map(|name| ("Name", Value::from(name.clone()))));
        properties.extend(self.rssi.map(|rssi| ("RSSI", Value::from(rssi))));
        if !self.manufacturer_data.is_empty() {
            properties.insert("ManufacturerData", by_key(&self.manufacturer_data, |company| *company));
        }
        if !self.service_data.is_empty() {
            properties.insert("ServiceData", by_key(&self.service_data, ToString::to_string));
        }
        properties
    }

    fn uuid_texts(&self) -> Vec<String> {
        self.uuids.iter().map(ToString::to_string).collect()
    }
}

/// A dictionary of octets, with keys as D-Bus has them.
fn by_key<K, D>(data: &BTreeMap<K, Vec<u8>>, key: impl Fn(&K) -> D) -> Value<'static>
where
    D: Into<Value<'static>> + Type + Eq + Hash,
{
    let data: HashMap<D, Value<'static>> = data.iter().map(|(own, octets)| (key(own), Value::from(octets.clone()))).collect();
    Value::from(data)
}
