//! The devices: each a board with its parts, its firmware on it, a patient before it, and faults in its way.

pub mod advertising_scale;
pub mod blood_pressure_omron;
pub mod ecg_ads1298;
pub mod ecg_lepu;
pub mod glucose_meter;
pub mod health_sensor;
pub mod monitor_ansar;
pub mod monitor_pc300;
pub mod monitor_pc300_ble;
pub mod on_air;
pub mod oximeter_contec;
pub mod oximeter_line;
pub mod oximeter_nonin;
pub mod oximeter_viatom;
pub mod pulse_oximeter;
pub mod spirometer_flow;
pub mod vitals;

#[cfg(test)]
mod central;
mod finger;

use std::time::Duration;

use kit_protocol::reading::Measured;
use serde_json::json;

use self::advertising_scale::{Composition, Model as ScaleModel, Weight};
use self::oximeter_line::{BerryFive, ContecFive, Model as OximeterModel};
use self::vitals::{Model, Spot};
use crate::faults::Scenario;
use crate::firmware::oximeter_line::{Berry, Eight, Thirteen};
use crate::firmware::vitals::{Belt, Cuff, Scale, Thermometer};
use crate::link::gatt::Peripheral;
use crate::truth::{StreamHead, Truth};

/// How a device is met.
#[derive(Clone, Copy)]
pub enum Connection {
    /// By a serial line.
    Serial(fn(seed: u64, scenario: &Scenario) -> Box<dyn SerialDevice>),
    /// By Bluetooth Low Energy.
    Gatt(fn(seed: u64, scenario: &Scenario, truth: Truth) -> Box<dyn Peripheral>),
    /// By what it advertises, without a connection.
    Broadcast(fn(seed: u64, scenario: &Scenario, truth: Truth) -> Box<dyn Peripheral>),
}

/// A row of the table of devices.
#[derive(Clone, Copy)]
pub struct Device {
    /// Its name: that of its driver, and what tells it from others of the same driver.
    pub name: &'static str,
    /// The driver that speaks to it.
    pub driver: &'static str,
    /// How it is met.
    pub connection: Connection,
    /// What it speaks.
    pub protocol: &'static str,
    /// What it measures with.
    pub parts: &'static str,
}

/// Every device that can be simulated.
pub const DEVICES: &[Device] = &[
    spot::<Cuff>("Blood Pressure Service 0x1810", "cuff"),
    Device {
        name: "blood-pressure-omron",
        driver: "blood-pressure-omron",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(blood_pressure_omron::Monitor::new(seed, scenario, truth))),
        protocol: "Omron memory frames (HEM-7142T2)",
        parts: "cuff, EEPROM",
    },
    Device {
        name: "ecg-ads1298",
        driver: "ecg-ads1298",
        connection: Connection::Serial(|seed, scenario| Box::new(ecg_ads1298::Ecg::new(seed, scenario))),
        protocol: "ADS1298 frames, 8 leads × 500 Hz",
        parts: "ADS1298",
    },
    spot::<Belt>("Heart Rate Service 0x180D", "chest electrodes"),
    Device {
        name: "monitor-ansar",
        driver: "monitor-ansar",
        connection: Connection::Serial(|seed, scenario| Box::new(monitor_ansar::Monitor::new(seed, scenario))),
        protocol: "ANSAR-B",
        parts: "electrodes, XGZP6897D, pump, valve, TMP117, MAX30102",
    },
    Device {
        name: "monitor-pc300",
        driver: "monitor-pc300",
        connection: Connection::Serial(|seed, scenario| Box::new(monitor_pc300::Monitor::new(seed, scenario))),
        protocol: "Creative PC-300 frames (AA 55)",
        parts: "XGZP6897D, pump, valve, TMP117, MAX30102",
    },
    line::<Berry>("oximeter-berry", "Berry, 20 octets"),
    line::<BerryFive>("oximeter-berry", "BCI, 5 octets"),
    line::<ContecFive>("oximeter-contec", "Contec CMS50D+, 5 octets"),
    line::<Eight>("oximeter-nonin", "Nonin Data Format 8"),
    line::<Thirteen>("oximeter-nonin", "Nonin Data Format 13"),
    Device {
        name: "monitor-pc300-ble",
        driver: "monitor-pc300",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(monitor_pc300_ble::Monitor::new(seed, scenario, truth))),
        protocol: "Creative PC-300 frames (AA 55), service 0xFFF0",
        parts: "XGZP6897D, pump, valve, TMP117, MAX30102",
    },
    Device {
        name: "oximeter-contec",
        driver: "oximeter-contec",
        connection: Connection::Serial(|seed, scenario| Box::new(oximeter_contec::Oximeter::new(seed, scenario))),
        protocol: "Contec CMS50 protocol 7.0",
        parts: "MAX30102",
    },
    Device {
        name: "glucose-meter",
        driver: "glucose-meter",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(glucose_meter::Meter::new(seed, scenario, truth))),
        protocol: "Glucose Service 0x1808",
        parts: "strip",
    },
    Device {
        name: "health-sensor",
        driver: "health-sensor",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(health_sensor::Sensor::new(seed, scenario, truth))),
        protocol: "Generic Health Sensor Service 0x1840, Elapsed Time Service 0x183F",
        parts: "finger clip, cuff, electrodes, mouthpiece",
    },
    Device {
        name: "ecg-lepu",
        driver: "ecg-lepu",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(ecg_lepu::Recorder::new(seed, scenario, truth))),
        protocol: "Lepu A5 frames, 4 leads × 250 Hz",
        parts: "electrodes",
    },
    Device {
        name: "oximeter-nonin",
        driver: "oximeter-nonin",
        connection: Connection::Serial(|seed, scenario| Box::new(oximeter_nonin::Oximeter::new(seed, scenario))),
        protocol: "Nonin Data Format 2",
        parts: "MAX30102",
    },
    Device {
        name: "oximeter-viatom",
        driver: "oximeter-viatom",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(oximeter_viatom::Finger60::new(seed, scenario, truth))),
        protocol: "Viatom PC-60FW",
        parts: "MAX30102",
    },
    Device {
        name: "oximeter-viatom-o2ring",
        driver: "oximeter-viatom",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(oximeter_viatom::Ring::new(seed, scenario, truth))),
        protocol: "Viatom O2Ring",
        parts: "MAX30102",
    },
    Device {
        name: "pulse-oximeter",
        driver: "pulse-oximeter",
        connection: Connection::Gatt(|seed, scenario, truth| Box::new(pulse_oximeter::Oximeter::new(seed, scenario, truth))),
        protocol: "Pulse Oximeter Service 0x1822",
        parts: "MAX30102",
    },
    Device {
        name: "spirometer-flow",
        driver: "spirometer-flow",
        connection: Connection::Serial(|seed, scenario| Box::new(spirometer_flow::Spirometer::new(seed, scenario))),
        protocol: "flow frames, 2 ms",
        parts: "SDP800-500Pa",
    },
    spot::<Thermometer>("Health Thermometer Service 0x1809", "thermopile"),
    spot::<Scale>("Weight Scale Service 0x181D", "load cells"),
    broadcast::<Weight>("Xiaomi service data 0x181D", "load cells"),
    broadcast::<Composition>("Xiaomi service data 0x181B", "load cells, foot electrodes"),
];

/// The row of a device that measures now and then and indicates its results.
const fn spot<M: Model + 'static>(protocol: &'static str, parts: &'static str) -> Device {
    let connection = Connection::Gatt(|seed, scenario, truth| Box::new(Spot::<M>::new(seed, scenario, truth)));
    Device { name: M::NAME, driver: M::NAME, connection, protocol, parts }
}

/// The row of a scale that only advertises.
const fn broadcast<M: ScaleModel + 'static>(protocol: &'static str, parts: &'static str) -> Device {
    let connection =
        Connection::Broadcast(|seed, scenario, truth| Box::new(advertising_scale::Scale::<M>::new(seed, scenario, truth)));
    Device { name: M::NAME, driver: "weight-scale", connection, protocol, parts }
}

/// The row of a serial oximeter.
const fn line<M: OximeterModel + 'static>(driver: &'static str, protocol: &'static str) -> Device {
    let connection = Connection::Serial(|seed, scenario| Box::new(oximeter_line::Oximeter::<M>::new(seed, scenario)));
    Device { name: M::NAME, driver, connection, protocol, parts: "MAX30102" }
}

/// The device of this name.
#[must_use]
pub fn find(name: &str) -> Option<Device> {
    DEVICES.iter().copied().find(|device| device.name == name)
}

impl Device {
    /// How it is met, in a word.
    #[must_use]
    pub fn link(&self) -> &'static str {
        match self.connection {
            Connection::Serial(_) => "serial",
            Connection::Gatt(_) | Connection::Broadcast(_) => "ble",
        }
    }

    /// Its row as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        json!({"name": self.name, "driver": self.driver, "link": self.link(), "protocol": self.protocol, "parts": self.parts})
    }
}

/// Devices live in steps of this, whenever they are asked to, so that a run depends on its seed alone.
pub const STEP: Duration = Duration::from_millis(10);

/// A frame that a device sends, with what it carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Emission {
    /// When the device sent it, since the simulator's start.
    pub at: Duration,
    /// What goes onto the line.
    pub octets: Vec<u8>,
    /// What is whole once they were taken.
    pub carries: Vec<Carried>,
}

/// What a frame carries, for the truth.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    /// A row of samples.
    Row {
        /// Which of the device's streams, as [`SerialDevice::streams`] lists them.
        stream: usize,
        /// The device's own number of it.
        counter: Option<u32>,
        /// One integer a channel.
        values: Vec<i32>,
    },
    /// A spot measurement, as the device means it; when it was received is for the line to say.
    Reading {
        /// What it says.
        measured: Box<Measured>,
        /// For how long it waited in the device's memory before it was sent.
        waited: Duration,
    },
}

impl Carried {
    /// A spot measurement that is sent as it is made.
    #[must_use]
    pub fn live(measured: Measured) -> Self {
        Self::Reading { measured: Box::new(measured), waited: Duration::ZERO }
    }

    /// The device's number and the integers of a row of samples.
    #[must_use]
    pub fn row(self) -> Option<(Option<u32>, Vec<i32>)> {
        match self {
            Self::Row { counter, values, .. } => Some((counter, values)),
            Self::Reading { .. } => None,
        }
    }
}

/// A device on a serial line.
pub trait SerialDevice: Send {
    /// What its streams are; `device` is its name.
    fn streams(&self) -> Vec<StreamHead>;
    /// Lives on up to `now` (since the simulator's start) and hands over what it sends meanwhile, in order.
    fn advance(&mut self, now: Duration, emit: &mut dyn FnMut(Emission));
    /// Octets arrive from the line.
    fn receive(&mut self, octets: &[u8]);
}

/// Nanoseconds of a time since the simulator's start.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
