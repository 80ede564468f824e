//! A device's attributes as BlueZ shows them: one object for each service, characteristic and descriptor.
//!
//! Source: BlueZ 5.66, `src/gatt-client.c` and `doc/gatt-api.txt`; object names are the attribute handles in hexadecimal.

use std::collections::BTreeMap;

use uuid::Uuid;
use zbus::zvariant::Value;

use super::bus::Properties;
use crate::link::gatt::{Properties as Allows, Security, Service, bluetooth};

/// Interface of a service's object.
pub(super) const SERVICE: &str = "org.bluez.GattService1";
/// Interface of a characteristic's object.
pub(super) const CHARACTERISTIC: &str = "org.bluez.GattCharacteristic1";
/// Interface of a descriptor's object.
const DESCRIPTOR: &str = "org.bluez.GattDescriptor1";

/// BlueZ keeps the Generic Access service to itself.
const GENERIC_ACCESS: Uuid = bluetooth(0x1800);
const CLIENT_CHARACTERISTIC_CONFIGURATION: Uuid = bluetooth(0x2902);
/// Where a device's own services begin, after Generic Access and Generic Attribute.
const FIRST_HANDLE: u16 = 0x000a;
/// The ATT MTU that the virtual link agrees on, octets.
pub(super) const MTU: u16 = 247;

/// One object below a device, with its interface and its properties.
pub(super) type Object = (String, &'static str, Properties);

/// A characteristic and its place.
pub(super) struct Characteristic {
    /// Its object.
    pub(super) path: String,
    /// Its UUID, by which the peripheral knows it.
    pub(super) uuid: Uuid,
    /// What it allows.
    pub(super) allows: Allows,
    /// The least security it answers at.
    pub(super) needs: Security,
    service: String,
    descriptor: Option<String>,
}

/// Every service of one device.
pub(super) struct Table {
    device: String,
    services: Vec<(String, Uuid)>,
    /// Every characteristic, in the order of handles.
    pub(super) characteristics: Vec<Characteristic>,
}

impl Table {
    /// Gives each attribute of `services` its handle and its object below `device`.
    pub(super) fn new(device: &str, services: &[Service]) -> Self {
        let mut table = Self { device: device.to_owned(), services: Vec::new(), characteristics: Vec::new() };
        let mut handle = FIRST_HANDLE;
        let mut next = || {
            let this = handle;
            handle += 1;
            this
        };
        for service in services.iter().filter(|service| service.uuid != GENERIC_ACCESS) {
            let service_path = format!("{device}/service{:04x}", next());
            for shown in &service.characteristics {
                let path = format!("{service_path}/char{:04x}", next());
                next(); // the value has a handle of its own, and no object
                let sends = shown.properties.notify || shown.properties.indicate;
                let descriptor = sends.then(|| format!("{path}/desc{:04x}", next()));
                table.characteristics.push(Characteristic {
                    path,
                    uuid: shown.uuid,
                    allows: shown.properties,
                    needs: shown.needs_security,
                    service: service_path.clone(),
                    descriptor,
                });
            }
            table.services.push((service_path, service.uuid));
        }
        table
    }

    /// The characteristic at an object's path.
    pub(super) fn at(&self, path: &str) -> Option<usize> {
        self.characteristics.iter().position(|characteristic| characteristic.path == path)
    }

    /// The characteristic of that UUID.
    pub(super) fn of(&self, uuid: Uuid) -> Option<usize> {
        self.characteristics.iter().position(|characteristic| characteristic.uuid == uuid)
    }

    /// UUIDs of all services.
    pub(super) fn service_uuids(&self) -> impl Iterator<Item = Uuid> {
        self.services.iter().map(|(_, uuid)| *uuid)
    }

    /// Every object with its properties; `values` and `notifying` are by characteristic.
    pub(super) fn objects(&self, values: &BTreeMap<usize, Vec<u8>>, notifying: impl Fn(usize) -> bool) -> Vec<Object> {
        let mut objects: Vec<Object> = Vec::new();
        for (path, uuid) in &self.services {
            let properties = Properties::from([
                ("UUID", Value::from(uuid.to_string())),
                ("Device", object(&self.device)),
                ("Primary", Value::from(true)),
                ("Includes", Value::from(Vec::<zbus::zvariant::ObjectPath<'static>>::new())),
            ]);
            objects.push((path.clone(), SERVICE, properties));
        }
        for (index, characteristic) in self.characteristics.iter().enumerate() {
            let properties = characteristic.properties(values.get(&index), notifying(index));
            objects.push((characteristic.path.clone(), CHARACTERISTIC, properties));
            if let Some(path) = &characteristic.descriptor {
                let properties = Properties::from([
                    ("UUID", Value::from(CLIENT_CHARACTERISTIC_CONFIGURATION.to_string())),
                    ("Characteristic", object(&characteristic.path)),
                ]);
                objects.push((path.clone(), DESCRIPTOR, properties));
            }
        }
        objects
    }
}

impl Characteristic {
    /// Whether it sends values by itself.
    pub(super) fn sends(&self) -> bool {
        self.allows.notify || self.allows.indicate
    }

    fn flags(&self) -> Vec<String> {
        let Allows { read, write, write_without_response, notify, indicate } = self.allows;
        let flags = [
            (read, "read"),
            (write_without_response, "write-without-response"),
            (write, "write"),
            (notify, "notify"),
            (indicate, "indicate"),
        ];
        flags.into_iter().filter(|(allowed, _)| *allowed).map(|(_, flag)| flag.to_owned()).collect()
    }

    /// As BlueZ shows it: `Value` only once there is one, `Notifying` where it can, the `Acquired` flags where those calls exist.
    fn properties(&self, value: Option<&Vec<u8>>, notifying: bool) -> Properties {
        let mut properties = Properties::from([
            ("UUID", Value::from(self.uuid.to_string())),
            ("Service", object(&self.service)),
            ("Flags", Value::from(self.flags())),
            ("MTU", Value::from(MTU)),
        ]);
        if let Some(value) = value {
            properties.insert("Value", Value::from(value.clone()));
        }
        if self.sends() {
            properties.insert("Notifying", Value::from(notifying));
        }
        if self.allows.notify {
            properties.insert("NotifyAcquired", Value::from(false));
        }
        if self.allows.write_without_response {
            properties.insert("WriteAcquired", Value::from(false));
        }
        properties
    }
}

/// An object path as a value; a text that is none becomes the root.
pub(super) fn object(path: &str) -> Value<'static> {
    let path = zbus::zvariant::ObjectPath::try_from(path.to_owned()).unwrap_or_default();
    Value::from(path)
}
