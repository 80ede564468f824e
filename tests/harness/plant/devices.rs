//! The simulated devices: how each is started, and how the kit is told of it. The table is the simulator's own.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use firmware_sim::devices::{Connection, DEVICES};
use firmware_sim::faults::Scenario;
use firmware_sim::truth::Truth;

/// A device that can be simulated: a place in the simulator's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulated(usize);

/// Every device.
pub fn all() -> impl Iterator<Item = Simulated> {
    (0..DEVICES.len()).map(Simulated)
}

/// The device of that name.
pub fn find(name: &str) -> Option<Simulated> {
    all().find(|device| device.name() == name)
}

impl Simulated {
    /// The name of its simulation, and its identity in the kit.
    #[must_use]
    pub fn name(self) -> &'static str {
        DEVICES.get(self.0).map_or("", |device| device.name)
    }

    /// Its driver.
    fn driver(self) -> &'static str {
        DEVICES.get(self.0).map_or("", |device| device.driver)
    }

    /// Whether it is met on the virtual BlueZ.
    #[must_use]
    pub fn bluetooth(self) -> bool {
        DEVICES.get(self.0).is_some_and(|device| matches!(device.connection, Connection::Gatt(_)))
    }

    /// The arguments of `kit-sim`.
    pub fn arguments(self, places: &Places, seed: u64) -> Vec<OsString> {
        let link = if self.bluetooth() { "--bus" } else { "--pty" };
        vec![
            "device".into(),
            self.name().into(),
            link.into(),
            places.meeting_point(self).into(),
            "--seed".into(),
            seed.to_string().into(),
            "--truth".into(),
            places.truth(self).into(),
        ]
    }

    /// Its section of the kit's configuration.
    pub fn configuration(self, places: &Places, seed: u64) -> String {
        let place = match self.address(seed) {
            Some(address) => format!("address = \"{address}\""),
            None => format!("port = {}", quoted(&places.meeting_point(self))),
        };
        format!("\n[[device]]\nidentity = \"{}\"\ndriver = \"{}\"\n{place}\n", self.name(), self.driver())
    }

    /// The address of a Bluetooth device.
    fn address(self, seed: u64) -> Option<String> {
        let Connection::Gatt(make) = DEVICES.get(self.0)?.connection else { return None };
        let octets = make(seed, &Scenario::default(), Truth::none()).address();
        Some(octets.map(|octet| format!("{octet:02X}")).join(":"))
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where simulated devices are met and write down what they made.
#[derive(Clone, Debug)]
pub struct Places {
    /// A short path: sockets have at most 108 octets.
    pub links: PathBuf,
    /// The truth files' folder.
    pub truth: PathBuf,
}

impl Places {
    /// The socket of the virtual BlueZ.
    fn bus(&self) -> PathBuf {
        self.links.join("bus")
    }

    /// The D-Bus address of the virtual BlueZ.
    pub fn bus_address(&self) -> OsString {
        let mut address = OsString::from("unix:path=");
        address.push(self.bus());
        address
    }

    /// What must be there before the kit can meet the device: its serial port, or the bus.
    pub fn meeting_point(&self, device: Simulated) -> PathBuf {
        if device.bluetooth() { self.bus() } else { self.links.join(device.name()) }
    }

    /// What a device made.
    pub fn truth(&self, device: Simulated) -> PathBuf {
        self.truth.join(format!("{}.jsonl", device.name()))
    }
}

/// A path as a TOML string.
pub fn quoted(path: &Path) -> String {
    let escaped = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_met_where_the_kit_is_told() {
        let places = Places { links: "/tmp/l".into(), truth: "/tmp/t".into() };
        let serial = find("oximeter-nonin").unwrap();
        assert!(serial.configuration(&places, 1).contains("port = \"/tmp/l/oximeter-nonin\""));
        assert!(serial.arguments(&places, 1).contains(&"/tmp/l/oximeter-nonin".into()));
        let bluetooth = find("pulse-oximeter").unwrap();
        let configuration = bluetooth.configuration(&places, 1);
        let address = configuration.split("address = \"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((address.len(), address.matches(':').count()), (17, 5));
        assert!(bluetooth.arguments(&places, 1).contains(&"/tmp/l/bus".into()));
        assert_eq!(places.bus_address(), "unix:path=/tmp/l/bus");
    }
}
