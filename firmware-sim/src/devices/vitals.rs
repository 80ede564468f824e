//! The cuff, the ear thermometer, the scale and the heart rate belt: a patient, an instrument, a radio.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::gatt::blood_pressure::{BloodPressureMeasurement, BloodPressureStatus, UserId};
use kit_protocol::gatt::temperature::{TemperatureMeasurement, TemperatureType};
use kit_protocol::gatt::weight::{MassResolution, WeightMeasurement, steps};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Context, Kind, Measured, Quantity, Special, Value};
use uuid::Uuid;

use super::on_air::{Board, Identity, Now, OnAir, Sent, Whole, number, service};
use crate::faults::Scenario;
use crate::firmware::spot_device::{BATTERY_LEVEL, DATE_TIME, Instrument, Record, Sensed, Settings, SpotDevice};
use crate::firmware::vitals::{Belt, Cuff, Scale, Thermometer};
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Properties, Service, bluetooth};
use crate::patient::Patient;
use crate::truth::Truth;

/// What tells one of these devices from another on its board.
pub trait Model: Instrument + Default + Send {
    /// Its name in the table of devices and in truth files.
    const NAME: &'static str;
    /// The driver that speaks to it.
    const DRIVER: &'static str = Self::NAME;
    /// Its model number, and the beginning of its name.
    const MODEL: &'static str;
    /// Its service.
    const SERVICE: u16;
    /// What can be read of that service.
    const READABLE: &'static [u16];
    /// Distinguishes its address from that of another with the same seed.
    const ADDRESS: u8;
    /// How it spends its time.
    const SETTINGS: Settings;
    /// A result as a driver hands it over; `None` for what is no result.
    fn measured(value: &[u8], made: Moment) -> Option<Measured>;
}

const SPOT: Settings =
    Settings { period_ms: 25_000, measure_ms: 6_000, advertise_ms: 12_000, idle_ms: 4_000, records_max: 30, watched: false };

impl Model for Cuff {
    const NAME: &'static str = "blood-pressure";
    const MODEL: &'static str = "SC-1";
    const SERVICE: u16 = 0x1810;
    const READABLE: &'static [u16] = &[0x2a49];
    const ADDRESS: u8 = 0x1e;
    const SETTINGS: Settings = SPOT;

    fn measured(value: &[u8], made: Moment) -> Option<Measured> {
        let m = BloodPressureMeasurement::decode(value).ok()?;
        let unit = m.unit.ucum();
        let pressures = [
            (Mdc::SYSTOLIC, m.systolic, unit),
            (Mdc::DIASTOLIC, m.diastolic, unit),
            (Mdc::MEAN_ARTERIAL_PRESSURE, m.mean_arterial_pressure, unit),
        ];
        let pulse = m.pulse_rate.map(|pulse| (Mdc::PULSE_RATE_CUFF, pulse, "/min"));
        let value = |(code, number, unit)| Value { code, quantity: Quantity::from(number), unit };
        Some(Measured {
            values: pressures.into_iter().chain(pulse).map(value).collect(),
            device_time: m.time_stamp,
            user_slot: m.user_id.and_then(UserId::slot),
            status: m.status.into_iter().flat_map(BloodPressureStatus::terms).collect(),
            ..Measured::new(Kind::BloodPressure, made)
        })
    }
}

impl Model for Thermometer {
    const NAME: &'static str = "thermometer";
    const MODEL: &'static str = "ST-1";
    const SERVICE: u16 = 0x1809;
    const READABLE: &'static [u16] = &[0x2a1d];
    const ADDRESS: u8 = 0x1f;
    const SETTINGS: Settings = Settings { measure_ms: 3_000, ..SPOT };

    fn measured(value: &[u8], made: Moment) -> Option<Measured> {
        let m = TemperatureMeasurement::decode(value).ok()?;
        let code = m.temperature_type.map_or(Mdc::BODY_TEMPERATURE, TemperatureType::code);
        let site = m.temperature_type.and_then(TemperatureType::term);
        Some(Measured {
            values: vec![Value { code, quantity: m.temperature.into(), unit: m.unit.ucum() }],
            device_time: m.time_stamp,
            context: site.map(|value| Context { what: "site", value }).into_iter().collect(),
            ..Measured::new(Kind::Temperature, made)
        })
    }
}

impl Model for Scale {
    const NAME: &'static str = "weight-scale";
    const MODEL: &'static str = "SW-1";
    const SERVICE: u16 = 0x181d;
    const READABLE: &'static [u16] = &[0x2a9e];
    const ADDRESS: u8 = 0x20;
    const SETTINGS: Settings = SPOT;

    fn measured(value: &[u8], made: Moment) -> Option<Measured> {
        let m = WeightMeasurement::decode(value).ok()?;
        // 0.1 kg, as its feature says.
        let weight = steps(m.weight, MassResolution(3).step(m.units));
        let quantity = weight.map_or(Quantity::Special(Special::NotAvailable), Quantity::Number);
        Some(Measured {
            values: vec![Value { code: Mdc::WEIGHT, quantity, unit: m.units.mass() }],
            device_time: m.time_stamp,
            user_slot: m.user_id.and_then(UserId::slot),
            ..Measured::new(Kind::Weight, made)
        })
    }
}

impl Model for Belt {
    const NAME: &'static str = "heart-rate";
    const MODEL: &'static str = "SH-1";
    const SERVICE: u16 = 0x180d;
    const READABLE: &'static [u16] = &[0x2a38];
    const ADDRESS: u8 = 0x21;
    const SETTINGS: Settings = SPOT;

    /// The values of a stream are not counted.
    fn measured(_value: &[u8], _made: Moment) -> Option<Measured> {
        None
    }
}

const BATTERY_SERVICE: u16 = 0x180f;

/// Such a device with its radio.
pub type Spot<M> = OnAir<SpotBoard<M>>;

/// Such a device.
pub struct SpotBoard<M: Model> {
    settings: Settings,
    patient: Patient,
    firmware: Option<SpotDevice<M>>,
    /// What the flash memory holds while the device is dark.
    flash: VecDeque<Record>,
}

impl<M: Model> OnAir<SpotBoard<M>> {
    /// The device of this seed, with the settings it comes with.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self::with_settings(seed, scenario, truth, M::SETTINGS)
    }

    /// The device of this seed, with other settings.
    #[must_use]
    pub fn with_settings(seed: u64, scenario: &Scenario, truth: Truth, settings: Settings) -> Self {
        let board = SpotBoard { settings, patient: Patient::new(seed), firmware: None, flash: VecDeque::new() };
        Self::with(board, seed, scenario, truth)
    }
}

impl<M: Model> Board for SpotBoard<M> {
    fn identity(&self) -> Identity {
        Identity {
            device: M::NAME,
            driver: M::DRIVER,
            model: M::MODEL,
            address: M::ADDRESS,
            pairing: PairingMethod::JustWorks,
            informs: true,
        }
    }

    fn services(&self) -> Vec<Service> {
        let measurement = if M::STREAMS { Properties::NOTIFY } else { Properties::INDICATE };
        let mut own = vec![(M::MEASUREMENT, measurement)];
        own.extend(M::DURING.map(|number| (number, Properties::NOTIFY)));
        own.extend(M::READABLE.iter().map(|number| (*number, Properties::READ)));
        own.extend((!M::STREAMS).then(|| (DATE_TIME, Properties::READ.and(Properties::WRITE))));
        vec![service(M::SERVICE, &own), service(BATTERY_SERVICE, &[(BATTERY_LEVEL, Properties::READ)])]
    }

    fn advertisement(&self, _now: Now) -> Option<Advertisement> {
        self.firmware.as_ref().filter(|firmware| firmware.advertising())?;
        Some(Advertisement { services: vec![bluetooth(M::SERVICE)], ..Advertisement::default() })
    }

    fn power_up(&mut self, _now: Now) {
        self.firmware = Some(SpotDevice::start(M::default(), self.settings, std::mem::take(&mut self.flash)));
    }

    fn power_down(&mut self) {
        if let Some(firmware) = self.firmware.take() {
            self.flash = firmware.records().clone();
        }
    }

    fn step(&mut self, now: Now, _scenario: &Scenario) {
        let sensed = sensed(&self.patient, now.at);
        self.firmware.iter_mut().for_each(|firmware| firmware.tick(now.up_ms, sensed));
    }

    fn set_clock(&mut self, at_power_up: Option<u64>) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_clock(at_power_up));
    }

    fn set_battery(&mut self, percent: u8) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_battery(percent));
    }

    fn take_made(&mut self, moment: Moment) -> Vec<(u64, Measured)> {
        let made = std::iter::from_fn(|| self.firmware.as_mut()?.take_made());
        made.filter_map(|record| Some((record.number, M::measured(&record.value, moment)?))).collect()
    }

    fn connected(&mut self, now: Now) {
        self.firmware.iter_mut().for_each(|firmware| firmware.connect(now.up_ms));
    }

    fn disconnected(&mut self, now: Now) {
        self.firmware.iter_mut().for_each(|firmware| firmware.disconnect(now.up_ms));
    }

    fn read(&mut self, now: Now, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        let value = self.firmware.as_mut().and_then(|firmware| firmware.read(now.up_ms, number(characteristic)));
        value.ok_or(AttError::ReadNotPermitted)
    }

    fn write(&mut self, now: Now, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        let written = self.firmware.as_mut().is_some_and(|firmware| firmware.write(now.up_ms, number(characteristic), value));
        if written { Ok(()) } else { Err(AttError::WriteNotPermitted) }
    }

    fn subscribed(&mut self, now: Now, characteristic: Uuid, on: bool) {
        self.firmware.iter_mut().for_each(|firmware| firmware.subscribe(now.up_ms, number(characteristic), on));
    }

    fn confirmed(&mut self, now: Now, _characteristic: Uuid) -> Whole {
        let number = self.firmware.as_mut().and_then(|firmware| firmware.confirmed(now.up_ms));
        Whole { results: number.into_iter().collect(), ..Whole::default() }
    }

    fn next(&mut self, now: Now) -> Option<Sent> {
        let message = self.firmware.as_mut()?.next_message(now.up_ms)?;
        let characteristic = bluetooth(message.characteristic);
        let outgoing = Outgoing { characteristic, value: message.value, confirmed: message.indication };
        Some(Sent { is_result: message.indication, ..Sent::plain(outgoing) })
    }

    fn hangs_up(&self, now: Now) -> bool {
        self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(now.up_ms))
    }
}

/// What the sensors say of the patient.
#[expect(clippy::cast_possible_truncation, reason = "a sensor has fewer digits than the patient")]
pub(super) fn sensed(patient: &Patient, at: Duration) -> Sensed {
    let vitals = patient.vitals(at.as_secs_f64());
    Sensed {
        systolic: vitals.systolic as f32,
        diastolic: vitals.diastolic as f32,
        heart_rate: vitals.heart_rate as f32,
        temperature: vitals.temperature as f32,
        weight: vitals.weight as f32,
    }
}

#[cfg(test)]
mod tests;
