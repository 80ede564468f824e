//! The instruments of a cuff, a thermometer, a scale and a heart rate belt: what they sense, as their services say it.
//!
//! Sources: Bluetooth SIG, Blood Pressure Service 1.1.1, Health Thermometer Service 1.0, Weight Scale Service 1.0, Heart Rate
//! Service 1.0.

use alloc::vec::Vec;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::blood_pressure::{
    BloodPressureFeature, BloodPressureMeasurement, BloodPressureStatus, PressureUnit, UserId,
};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::heart_rate::{BodySensorLocation, HeartRate, HeartRateMeasurement, SensorContact};
use kit_protocol::gatt::temperature::{TemperatureMeasurement, TemperatureType, TemperatureUnit};
use kit_protocol::gatt::weight::{MeasurementUnits, WeightMeasurement, WeightScaleFeature};
use kit_protocol::mder::Number;

use super::nearest;
use super::spot_device::{Instrument, Sensed};

/// The highest pressure that the cuff is pumped to, above the systolic one, mmHg.
const PUMPED_ABOVE: f32 = 30.0;

/// A cuff with two users; the first is this patient.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuff;

impl Instrument for Cuff {
    const MEASUREMENT: u16 = 0x2a35;
    const DURING: Option<u16> = Some(0x2a36);
    const STREAMS: bool = false;

    fn result(&mut self, sensed: &Sensed, time: Option<DateTime>) -> Option<Vec<u8>> {
        let (systolic, diastolic) = (nearest(sensed.systolic), nearest(sensed.diastolic));
        BloodPressureMeasurement {
            unit: PressureUnit::MillimetreOfMercury,
            systolic: whole(systolic),
            diastolic: whole(diastolic),
            mean_arterial_pressure: whole((systolic + 2 * diastolic) / 3),
            time_stamp: time,
            pulse_rate: Some(whole(nearest(sensed.heart_rate))),
            user_id: Some(UserId(1)),
            status: Some(BloodPressureStatus::default()),
        }
        .encode()
    }

    /// Up in the first third, then down.
    fn during(&mut self, sensed: &Sensed, spent_ms: u64, whole_ms: u64) -> Option<Vec<u8>> {
        let top = sensed.systolic + PUMPED_ABOVE;
        let permille = u16::try_from(spent_ms.saturating_mul(1_000) / whole_ms.max(1)).unwrap_or(1_000).min(1_000);
        let part = f32::from(permille) / 1_000.0;
        let pressure = if part < 0.33 { top * part / 0.33 } else { top * (1.0 - part) / 0.67 };
        let unused = Number::Special(kit_protocol::reading::Special::NotANumber);
        BloodPressureMeasurement {
            unit: PressureUnit::MillimetreOfMercury,
            systolic: whole(nearest(pressure)),
            diastolic: unused,
            mean_arterial_pressure: unused,
            time_stamp: None,
            pulse_rate: None,
            user_id: None,
            status: None,
        }
        .encode()
    }

    fn read(&self, characteristic: u16) -> Option<Vec<u8>> {
        // Body movement, cuff fit, irregular pulse; one bond.
        (characteristic == 0x2a49).then(|| BloodPressureFeature(0x0007).encode().to_vec())
    }
}

/// An ear thermometer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thermometer;

impl Thermometer {
    fn value(sensed: &Sensed, time: Option<DateTime>) -> Option<Vec<u8>> {
        let temperature = Decimal::new(nearest(sensed.temperature * 10.0).into(), -1);
        TemperatureMeasurement {
            unit: TemperatureUnit::Celsius,
            temperature: Number::Finite(temperature),
            time_stamp: time,
            temperature_type: Some(TemperatureType(9)),
        }
        .encode()
    }
}

impl Instrument for Thermometer {
    const MEASUREMENT: u16 = 0x2a1c;
    const DURING: Option<u16> = Some(0x2a1e);
    const STREAMS: bool = false;

    fn result(&mut self, sensed: &Sensed, time: Option<DateTime>) -> Option<Vec<u8>> {
        Self::value(sensed, time)
    }

    fn during(&mut self, sensed: &Sensed, _spent_ms: u64, _whole_ms: u64) -> Option<Vec<u8>> {
        Self::value(sensed, None)
    }

    fn read(&self, characteristic: u16) -> Option<Vec<u8>> {
        (characteristic == 0x2a1d).then(|| TemperatureType(9).encode().to_vec())
    }
}

/// A scale of 0.1 kg.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scale;

impl Instrument for Scale {
    const MEASUREMENT: u16 = 0x2a9d;
    const DURING: Option<u16> = None;
    const STREAMS: bool = false;

    fn result(&mut self, sensed: &Sensed, time: Option<DateTime>) -> Option<Vec<u8>> {
        let weight = WeightMeasurement {
            units: MeasurementUnits::Si,
            weight: u16::try_from(nearest(sensed.weight * 10.0)).ok()?,
            time_stamp: time,
            user_id: Some(UserId(1)),
            bmi_and_height: None,
            reserved_flags: 0,
        };
        Some(weight.encode())
    }

    fn during(&mut self, _sensed: &Sensed, _spent_ms: u64, _whole_ms: u64) -> Option<Vec<u8>> {
        None
    }

    fn read(&self, characteristic: u16) -> Option<Vec<u8>> {
        // Time stamps, several users, 0.1 kg.
        (characteristic == 0x2a9e).then(|| WeightScaleFeature(0x1b).encode().to_vec())
    }
}

/// A chest belt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Belt;

impl Instrument for Belt {
    const MEASUREMENT: u16 = 0x2a37;
    const DURING: Option<u16> = None;
    const STREAMS: bool = true;

    fn result(&mut self, sensed: &Sensed, _time: Option<DateTime>) -> Option<Vec<u8>> {
        let rate = sensed.heart_rate.max(1.0);
        let measurement = HeartRateMeasurement {
            heart_rate: HeartRate::U8(u8::try_from(nearest(rate)).ok()?),
            sensor_contact: SensorContact::DETECTED,
            energy_expended: None,
            rr_intervals: u16::try_from(nearest(60.0 * 1_024.0 / rate)).into_iter().collect(),
        };
        Some(measurement.encode())
    }

    fn during(&mut self, _sensed: &Sensed, _spent_ms: u64, _whole_ms: u64) -> Option<Vec<u8>> {
        None
    }

    fn read(&self, characteristic: u16) -> Option<Vec<u8>> {
        (characteristic == 0x2a38).then(|| BodySensorLocation(1).encode().to_vec())
    }
}

fn whole(number: i32) -> Number {
    Number::Finite(Decimal::whole(number.into()))
}
