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
        DEVICES.get(self.0).is_some_and(|device| matches!(device.connection, Connection::Gatt(_) | Connection::Broadcast(_)))
    }

    /// Whether it is listened to, and never connected to.
    pub fn only_advertises(self) -> bool {
        DEVICES.get(self.0).is_some_and(|device| matches!(device.connection, Connection::Broadcast(_)))
    }

    /// The arguments of `kit-sim` for a device on a serial line.
    pub fn arguments(self, places: &Places, seed: u64) -> Vec<OsString> {
        vec![
            "device".into(),
            self.name().into(),
            "--pty".into(),
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
        // Nobody is there who would open a measurement window.
        let more = if self.only_advertises() { "broadcast = true\nwindow = false\n" } else { "" };
        format!("\n[[device]]\nidentity = \"{}\"\ndriver = \"{}\"\n{place}\n{more}", self.name(), self.driver())
    }

    /// The address of a Bluetooth device.
    fn address(self, seed: u64) -> Option<String> {
        let (Connection::Gatt(make) | Connection::Broadcast(make)) = DEVICES.get(self.0)?.connection else { return None };
        let octets = make(seed, &Scenario::default(), Truth::none()).address();
        Some(octets.map(|octet| format!("{octet:02X}")).join(":"))
    }
}

/// The arguments of `kit-sim` for Bluetooth devices: they share the one virtual BlueZ.
pub fn bus_arguments(devices: &[Simulated], places: &Places, seed: u64) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["bus".into()];
    arguments.extend(devices.iter().map(|device| device.name().into()));
    let options: [OsString; 6] =
        ["--bus".into(), places.bus().into(), "--seed".into(), seed.to_string().into(), "--truth".into(), (&places.truth).into()];
    arguments.extend(options);
    arguments
}

/// Some of every sort, as a home has them: the demonstration's, where nothing else is asked for.
pub fn usual() -> impl Iterator<Item = Simulated> {
    ["oximeter-nonin", "ecg-ads1298", "blood-pressure", "thermometer", "glucose-meter", "spirometer-flow"]
        .into_iter()
        .filter_map(find)
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
    fn the_usual_devices_and_their_addresses_are_six() {
        assert_eq!(usual().count(), 6, "each of them can be simulated");
        let addresses: Vec<_> = all().filter_map(|device| device.address(1)).collect();
        let once: std::collections::BTreeSet<_> = addresses.iter().collect();
        assert_eq!(once.len(), addresses.len(), "devices on one bus are told apart");
    }

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
        let together = bus_arguments(&[bluetooth, find("thermometer").unwrap()], &places, 1);
        assert_eq!(together[..5], ["bus", "pulse-oximeter", "thermometer", "--bus", "/tmp/l/bus"]);
        assert_eq!(places.bus_address(), "unix:path=/tmp/l/bus");
    }
}
