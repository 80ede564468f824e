//! The monitor with a memory: an arm (for two users, another's too), a cuff, its firmware, a radio.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::omron_record::Record;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Quantity, Value};
use uuid::Uuid;

use super::on_air::{Board, Identity, Now, OnAir, Sent, Whole, service_of};
use crate::clock;
use crate::faults::{Fault, Scenario};
use crate::firmware::blood_pressure_omron::{Eeprom, HEM_7142T2, Notification, OmronMonitor, Settings, Stored};
use crate::firmware::calendar::SECONDS_1970_TO_2000;
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Properties, Security, Service, bluetooth};
use crate::noise::nearest;
use crate::patient::Patient;
use crate::truth::Truth;

const NAME: &str = "blood-pressure-omron";
/// A user measures so often, the first time after this; every third time it is the other one, where there is one.
const PERIOD: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_secs(8);
const OTHER_EVERY: u64 = 3;
/// Records of an earlier patient are of days before, an hour apart.
const EARLIER_EVERY_MS: u64 = 3_600_000;

/// Service of newer models, and of older ones.
const MODERN: Uuid = bluetooth(0xfe4a);
const CLASSIC: Uuid = Uuid::from_u128(0xecbe3980_c9a2_11e1_b1bd_0002a5d5c51b);
const NOTIFIED: [Uuid; 4] = [
    Uuid::from_u128(0x49123040_aee8_11e1_a74d_0002a5d5c51b),
    Uuid::from_u128(0x4d0bf320_aee8_11e1_a0d9_0002a5d5c51b),
    Uuid::from_u128(0x5128ce60_aee8_11e1_b84b_0002a5d5c51b),
    Uuid::from_u128(0x560f1420_aee8_11e1_8184_0002a5d5c51b),
];
const WRITTEN: [Uuid; 4] = [
    Uuid::from_u128(0xdb5b55e0_aee7_11e1_965e_0002a5d5c51b),
    Uuid::from_u128(0xe0b8a060_aee7_11e1_92f4_0002a5d5c51b),
    Uuid::from_u128(0x0ae12b00_aee8_11e1_a192_0002a5d5c51b),
    Uuid::from_u128(0x10e1ba60_aee8_11e1_89e5_0002a5d5c51b),
];
const UNLOCK: Uuid = Uuid::from_u128(0xb305b680_aee7_11e1_a730_0002a5d5c51b);

/// The device with its radio.
pub type Monitor = OnAir<MonitorBoard>;

/// The device.
pub struct MonitorBoard {
    settings: Settings,
    patients: [Patient; 2],
    measurements: u64,
    firmware: Option<OmronMonitor>,
    /// What the memory holds while the device is dark.
    eeprom: Eeprom,
    made: Vec<Stored>,
    subscribed: Vec<Uuid>,
}

impl OnAir<MonitorBoard> {
    /// A HEM-7142T2 of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self::with_settings(seed, scenario, truth, HEM_7142T2)
    }

    /// Another model of this seed; its memory holds so many records of an earlier patient as the scenario says.
    #[must_use]
    pub fn with_settings(seed: u64, scenario: &Scenario, truth: Truth, settings: Settings) -> Self {
        let board = MonitorBoard {
            settings,
            patients: [Patient::new(seed), Patient::new(!seed)],
            measurements: 0,
            firmware: None,
            eeprom: earlier(seed, scenario.records, settings),
            made: Vec::new(),
            subscribed: Vec::new(),
        };
        Self::with(board, seed, scenario, truth)
    }
}

/// The memory as another patient left it: measured in the days before.
fn earlier(seed: u64, records: usize, settings: Settings) -> Eeprom {
    let count = u64::try_from(records).unwrap_or(0);
    let mut monitor = OmronMonitor::start(settings, Eeprom::default());
    let now = clock::wall_seconds().saturating_sub(SECONDS_1970_TO_2000);
    monitor.set_clock(Some(now.saturating_sub((count + 24) * EARLIER_EVERY_MS / 1_000)));
    let patient = Patient::new(seed ^ 0x5555);
    for index in 0..count {
        monitor.measure(index * EARLIER_EVERY_MS, 0, record(&patient, Duration::from_secs(index * 3_600), false));
    }
    monitor.eeprom()
}

/// What the cuff finds.
fn record(patient: &Patient, at: Duration, moved: bool) -> Record {
    let vitals = patient.vitals(at.as_secs_f64());
    let octet = |value: f64| u8::try_from(nearest(value)).unwrap_or(u8::MAX);
    Record {
        systolic: u16::try_from(nearest(vitals.systolic)).unwrap_or(0),
        diastolic: octet(vitals.diastolic),
        pulse_rate: octet(vitals.heart_rate),
        device_time: None,
        irregular: false,
        movement: moved,
        cuff_fits: true,
        position: 0,
        number: None,
        sum_fits: true,
    }
}

/// A record as a driver hands it over.
fn measured(stored: &Stored, moment: Moment) -> Measured {
    let Stored { user, record, .. } = stored;
    let value = |code, number: u16, unit| Value { code, quantity: Quantity::Number(Decimal::whole(number.into())), unit };
    Measured {
        values: vec![
            value(Mdc::SYSTOLIC, record.systolic, "mm[Hg]"),
            value(Mdc::DIASTOLIC, record.diastolic.into(), "mm[Hg]"),
            value(Mdc::PULSE_RATE_CUFF, record.pulse_rate.into(), "/min"),
        ],
        device_time: record.device_time,
        record: record.number.map(u64::from),
        user_slot: u8::try_from(user + 1).ok(),
        status: record.movement.then_some("body-movement").into_iter().collect(),
        memory: Memory::Stored,
        ..Measured::new(Kind::BloodPressure, moment)
    }
}

impl MonitorBoard {
    fn service(&self) -> Uuid {
        if self.settings.channels == 1 { MODERN } else { CLASSIC }
    }

    fn characteristics<'a>(&self, all: &'a [Uuid; 4]) -> impl Iterator<Item = &'a Uuid> {
        all.iter().take(self.settings.channels)
    }
}

impl Board for MonitorBoard {
    fn identity(&self) -> Identity {
        let pairing = PairingMethod::JustWorks;
        Identity { device: NAME, driver: NAME, model: self.settings.model, address: 0x23, pairing, informs: true }
    }

    fn services(&self) -> Vec<Service> {
        let writes = Properties { write: true, write_without_response: true, ..Properties::NONE };
        let notified = self.characteristics(&NOTIFIED).map(|uuid| (*uuid, Properties::NOTIFY));
        let written = self.characteristics(&WRITTEN).map(|uuid| (*uuid, writes));
        let unlock = [(UNLOCK, writes.and(Properties::NOTIFY))];
        vec![service_of(self.service(), Security::Unauthenticated, notified.chain(written).chain(unlock))]
    }

    fn advertisement(&self, now: Now) -> Option<Advertisement> {
        self.firmware.as_ref().filter(|firmware| firmware.advertising(now.up_ms))?;
        Some(Advertisement { services: vec![self.service()], ..Advertisement::default() })
    }

    fn power_up(&mut self, _now: Now) {
        self.firmware = Some(OmronMonitor::start(self.settings, std::mem::take(&mut self.eeprom)));
    }

    fn power_down(&mut self) {
        if let Some(firmware) = self.firmware.take() {
            self.eeprom = firmware.eeprom();
        }
    }

    fn step(&mut self, now: Now, scenario: &Scenario) {
        let due = FIRST + PERIOD * u32::try_from(self.measurements).unwrap_or(u32::MAX);
        if now.at < due {
            return;
        }
        self.measurements += 1;
        let others = self.settings.users.len() > 1 && self.measurements.is_multiple_of(OTHER_EVERY);
        let user = usize::from(others);
        let moved = scenario.during(now.at).any(|fault| fault == Fault::Motion);
        let Some(patient) = self.patients.get(user) else { return };
        let record = record(patient, now.at, moved);
        let stored = self.firmware.as_mut().and_then(|firmware| firmware.measure(now.up_ms, user, record));
        self.made.extend(stored);
    }

    fn set_clock(&mut self, at_power_up: Option<u64>) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_clock(at_power_up));
    }

    fn take_made(&mut self, moment: Moment) -> Vec<(u64, Measured)> {
        self.made.drain(..).map(|stored| (stored.number, measured(&stored, moment))).collect()
    }

    fn connected(&mut self, now: Now) {
        self.subscribed.clear();
        self.firmware.iter_mut().for_each(|firmware| firmware.connect(now.up_ms));
    }

    fn disconnected(&mut self, now: Now) {
        self.subscribed.clear();
        self.firmware.iter_mut().for_each(|firmware| firmware.disconnect(now.up_ms));
    }

    fn write(&mut self, now: Now, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        let channel = self.characteristics(&WRITTEN).position(|uuid| *uuid == characteristic);
        let firmware = self.firmware.as_mut().ok_or(AttError::RequestNotSupported)?;
        match channel {
            Some(channel) => firmware.write(now.up_ms, channel, value),
            None if characteristic == UNLOCK => firmware.unlock(now.up_ms, value),
            None => return Err(AttError::WriteNotPermitted),
        }
        Ok(())
    }

    fn subscribed(&mut self, _now: Now, characteristic: Uuid, on: bool) {
        self.subscribed.retain(|there| *there != characteristic);
        if on {
            self.subscribed.push(characteristic);
        }
    }

    fn next(&mut self, now: Now) -> Option<Sent> {
        // What nobody subscribed to is not sent.
        loop {
            let (notification, results) = self.firmware.as_mut()?.next_notification(now.up_ms)?;
            let (characteristic, value) = match notification {
                Notification::Unlock(value) => (UNLOCK, value),
                Notification::Data(channel, value) => (*NOTIFIED.get(channel)?, value),
            };
            if self.subscribed.contains(&characteristic) {
                let outgoing = Outgoing { characteristic, value, confirmed: false };
                let is_result = characteristic != UNLOCK;
                return Some(Sent { outgoing, is_result, whole: Whole { results, ..Whole::default() } });
            }
        }
    }

    fn hangs_up(&self, now: Now) -> bool {
        self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(now.up_ms))
    }
}

#[cfg(test)]
mod tests;
