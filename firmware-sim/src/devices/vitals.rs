//! The cuff, the ear thermometer, the scale and the heart rate belt: a patient, an instrument, a radio.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kit_protocol::gatt::blood_pressure::{BloodPressureMeasurement, BloodPressureStatus, UserId};
use kit_protocol::gatt::temperature::{TemperatureMeasurement, TemperatureType};
use kit_protocol::gatt::weight::{MassResolution, WeightMeasurement, steps};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Context, Kind, Measured, Quantity, Special, Value};
use uuid::Uuid;

use super::STEP;
use crate::clock;
use crate::faults::{Fault, FrameFault, Scenario};
use crate::firmware::calendar::SECONDS_1970_TO_2000;
use crate::firmware::spot_device::{BATTERY_LEVEL, DATE_TIME, Instrument, Record, Sensed, Settings, SpotDevice};
use crate::firmware::vitals::{Belt, Cuff, Scale, Thermometer};
use crate::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service, bluetooth,
};
use crate::noise::mixed;
use crate::patient::Patient;
use crate::truth::Truth;

/// What tells one of these devices from another on its board.
pub trait Model: Instrument + Default + Send {
    /// The driver that speaks to it, and its name in truth files.
    const NAME: &'static str;
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
const DEVICE_INFORMATION: u16 = 0x180a;
const MANUFACTURER_NAME: u16 = 0x2a29;
const MODEL_NUMBER: u16 = 0x2a24;
const SERIAL_NUMBER: u16 = 0x2a25;
const FIRMWARE_REVISION: u16 = 0x2a26;

/// A fault's record: hang up before its confirmation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HangUp {
    #[default]
    No,
    WithNextRecord,
    Now,
}

/// The device.
pub struct Spot<M: Model> {
    seed: u64,
    settings: Settings,
    scenario: Scenario,
    truth: Truth,
    patient: Patient,
    firmware: Option<SpotDevice<M>>,
    /// When the simulation began, by the gateway's clock.
    began: Option<Moment>,
    now: Duration,
    booted: Duration,
    /// What the flash memory holds while the device is dark.
    flash: VecDeque<Record>,
    /// Results that nobody confirmed yet, with the moment they were made.
    undelivered: BTreeMap<u64, (Record, Moment)>,
    hang_up: HangUp,
    /// A result that was confirmed and is sent once more, as if the confirmation had been lost.
    again: Option<Outgoing>,
    last_record: Option<Outgoing>,
}

impl<M: Model> Spot<M> {
    /// The device of this seed, with the settings it comes with.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self::with_settings(seed, scenario, truth, M::SETTINGS)
    }

    /// The device of this seed, with other settings.
    #[must_use]
    pub fn with_settings(seed: u64, scenario: &Scenario, truth: Truth, settings: Settings) -> Self {
        Self {
            seed,
            settings,
            scenario: scenario.clone(),
            truth,
            patient: Patient::new(seed),
            firmware: None,
            began: None,
            now: Duration::ZERO,
            booted: Duration::ZERO,
            flash: VecDeque::new(),
            undelivered: BTreeMap::new(),
            hang_up: HangUp::No,
            again: None,
            last_record: None,
        }
    }

    /// Lives on up to `now`.
    fn live(&mut self, now: Moment) {
        let began = *self.began.get_or_insert(now);
        let until = now.since(began);
        while self.now + STEP <= until {
            let from = self.now;
            self.now += STEP;
            self.step(from, began + self.now);
        }
    }

    fn step(&mut self, from: Duration, moment: Moment) {
        if self.scenario.during(self.now).any(|fault| fault == Fault::Reboot) {
            if let Some(firmware) = self.firmware.take() {
                self.flash = firmware.records().clone();
            }
            return;
        }
        if self.firmware.is_none() {
            self.booted = self.now;
            self.firmware = Some(SpotDevice::start(M::default(), self.settings, std::mem::take(&mut self.flash)));
            self.set_clock(0);
        }
        let beginning: Vec<Fault> = self.scenario.beginning(from, self.now).map(|entry| entry.fault).collect();
        for fault in beginning {
            self.suffer(fault);
        }
        let (at, sensed) = (self.milliseconds(), self.sensed());
        let Some(firmware) = &mut self.firmware else { return };
        firmware.tick(at, sensed);
        while let Some(record) = firmware.take_made() {
            self.undelivered.insert(record.number, (record, moment));
        }
    }

    /// What the sensors say of the patient now.
    #[expect(clippy::cast_possible_truncation, reason = "a sensor has fewer digits than the patient")]
    fn sensed(&self) -> Sensed {
        let vitals = self.patient.vitals(self.now.as_secs_f64());
        Sensed {
            systolic: vitals.systolic as f32,
            diastolic: vitals.diastolic as f32,
            heart_rate: vitals.heart_rate as f32,
            temperature: vitals.temperature as f32,
            weight: vitals.weight as f32,
        }
    }

    /// Sets the device's clock right, but for so many seconds.
    fn set_clock(&mut self, off: i64) {
        let up = (self.now - self.booted).as_secs();
        let right = clock::wall_seconds().saturating_sub(SECONDS_1970_TO_2000).saturating_sub(up);
        if let Some(firmware) = &mut self.firmware {
            firmware.set_clock(Some(right.saturating_add_signed(off)));
        }
    }

    fn suffer(&mut self, fault: Fault) {
        match (fault, &mut self.firmware) {
            (Fault::Disconnect, _) => self.hang_up = HangUp::WithNextRecord,
            (Fault::Clock(Some(off)), _) => self.set_clock(off),
            (Fault::Clock(None), Some(firmware)) => firmware.set_clock(None),
            (Fault::Battery(percent), Some(firmware)) => firmware.set_battery(percent),
            (Fault::Frame(FrameFault::Duplicate), _) => self.again.clone_from(&self.last_record),
            _ => {}
        }
    }

    /// Milliseconds since power-up: the firmware's time.
    fn milliseconds(&self) -> u64 {
        u64::try_from((self.now - self.booted).as_millis()).unwrap_or(u64::MAX)
    }

    fn write_truth(&self, record: &Record, made: Moment, at: Moment, delivered: bool) {
        let Some(measured) = M::measured(&record.value, made) else { return };
        if let Err(error) = self.truth.reading(M::NAME, M::NAME, &measured, at, delivered) {
            eprintln!("kit-sim: the truth cannot be written: {error}");
        }
    }
}

impl<M: Model> Drop for Spot<M> {
    /// What nobody confirmed is put down as such.
    fn drop(&mut self) {
        for (record, made) in std::mem::take(&mut self.undelivered).values() {
            self.write_truth(record, *made, *made, false);
        }
    }
}

/// The 16-bit number of a characteristic; 0 for one that has none.
fn number(uuid: Uuid) -> u16 {
    let number = u16::try_from(uuid.as_u128() >> 96).unwrap_or(0);
    if bluetooth(number) == uuid { number } else { 0 }
}

impl<M: Model> Peripheral for Spot<M> {
    fn name(&self) -> String {
        format!("{} {:04X}", M::MODEL, self.seed & 0xffff)
    }

    fn address(&self) -> [u8; 6] {
        let [a, b, c, d, ..] = mixed(self.seed, 0xadd0).to_be_bytes();
        [0x02, M::ADDRESS, a, b, c, d]
    }

    fn services(&self) -> Vec<Service> {
        let characteristic =
            |number, properties| Characteristic { uuid: bluetooth(number), properties, needs_security: Security::None };
        let read = |numbers: &[u16]| numbers.iter().map(|number| characteristic(*number, Properties::READ)).collect::<Vec<_>>();
        let measurement = if M::STREAMS { Properties::NOTIFY } else { Properties::INDICATE };
        let mut own = vec![characteristic(M::MEASUREMENT, measurement)];
        own.extend(M::DURING.map(|number| characteristic(number, Properties::NOTIFY)));
        own.extend(read(M::READABLE));
        own.extend((!M::STREAMS).then(|| characteristic(DATE_TIME, Properties::READ.and(Properties::WRITE))));
        let information = read(&[MANUFACTURER_NAME, MODEL_NUMBER, SERIAL_NUMBER, FIRMWARE_REVISION]);
        vec![
            Service { uuid: bluetooth(M::SERVICE), characteristics: own },
            Service { uuid: bluetooth(DEVICE_INFORMATION), characteristics: information },
            Service { uuid: bluetooth(BATTERY_SERVICE), characteristics: read(&[BATTERY_LEVEL]) },
        ]
    }

    fn pairing(&self) -> PairingMethod {
        PairingMethod::JustWorks
    }

    fn advertising(&mut self, now: Moment) -> Option<Advertisement> {
        self.live(now);
        self.firmware.as_ref().filter(|firmware| firmware.advertising())?;
        Some(Advertisement {
            local_name: Some(self.name()),
            services: vec![bluetooth(M::SERVICE)],
            rssi: -60,
            ..Advertisement::default()
        })
    }

    fn connected(&mut self, now: Moment) {
        self.live(now);
        let at = self.milliseconds();
        self.again = None;
        if let Some(firmware) = &mut self.firmware {
            firmware.connect(at);
        }
    }

    fn disconnected(&mut self, now: Moment) {
        self.live(now);
        let at = self.milliseconds();
        self.again = None;
        if self.hang_up == HangUp::Now {
            self.hang_up = HangUp::No;
        }
        if let Some(firmware) = &mut self.firmware {
            firmware.disconnect(at);
        }
    }

    fn read(&mut self, now: Moment, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        self.live(now);
        let at = self.milliseconds();
        match number(characteristic) {
            MANUFACTURER_NAME => Ok(b"Simulated Instruments".to_vec()),
            MODEL_NUMBER => Ok(M::MODEL.into()),
            SERIAL_NUMBER => Ok(format!("{:08}", self.seed % 100_000_000).into_bytes()),
            FIRMWARE_REVISION => Ok(env!("CARGO_PKG_VERSION").into()),
            number => {
                let value = self.firmware.as_mut().and_then(|firmware| firmware.read(at, number));
                value.ok_or(AttError::ReadNotPermitted)
            }
        }
    }

    fn write(&mut self, now: Moment, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        self.live(now);
        let at = self.milliseconds();
        let written = self.firmware.as_mut().is_some_and(|firmware| firmware.write(at, number(characteristic), value));
        if written { Ok(()) } else { Err(AttError::WriteNotPermitted) }
    }

    fn subscribed(&mut self, now: Moment, characteristic: Uuid, on: bool) {
        self.live(now);
        let at = self.milliseconds();
        if let Some(firmware) = &mut self.firmware {
            firmware.subscribe(at, number(characteristic), on);
        }
    }

    fn confirmed(&mut self, now: Moment, _characteristic: Uuid) {
        self.live(now);
        let at = self.milliseconds();
        let confirmed = self.firmware.as_mut().and_then(|firmware| firmware.confirmed(at));
        if let Some((record, made)) = confirmed.and_then(|number| self.undelivered.remove(&number)) {
            self.write_truth(&record, made, now, true);
        }
    }

    fn poll(&mut self, now: Moment) -> Option<Outgoing> {
        self.live(now);
        let at = self.milliseconds();
        if self.hang_up == HangUp::Now {
            return None;
        }
        let firmware = self.firmware.as_mut()?;
        let outgoing = match self.again.take() {
            Some(again) => again,
            None => {
                let message = firmware.next_message(at)?;
                Outgoing {
                    characteristic: bluetooth(message.characteristic),
                    value: message.value,
                    confirmed: message.indication,
                }
            }
        };
        if outgoing.confirmed {
            self.last_record = Some(outgoing.clone());
            if self.hang_up == HangUp::WithNextRecord {
                self.hang_up = HangUp::Now;
            }
        }
        Some(outgoing)
    }

    fn wants_disconnect(&mut self, now: Moment) -> bool {
        self.live(now);
        let at = self.milliseconds();
        // A device without power is silent; the radio notices.
        let idle = self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(at));
        idle || self.hang_up == HangUp::Now
    }
}

#[cfg(test)]
mod tests;
