//! PLX Spot-Check Measurement (0x2A5E), which a pulse oximeter indicates.

use alloc::vec::Vec;

use super::date_time::DateTime;
use super::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use crate::flags::flag;
use crate::mder::{Number, encode_sfloat};
use crate::reader::{DecodeError, Reader};

/// A PLX Spot-Check Measurement. Shape, units, errors and source: see [`PlxSpotCheckMeasurement::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlxSpotCheckMeasurement {
    /// Oxygen saturation, %.
    pub spo2: Number,
    /// Pulse rate, /min.
    pub pulse_rate: Number,
    /// When it was measured, by the device's clock.
    pub time_stamp: Option<DateTime>,
    /// How far the measurement is to be trusted.
    pub measurement_status: Option<MeasurementStatus>,
    /// What device and sensor met.
    pub device_and_sensor_status: Option<DeviceAndSensorStatus>,
    /// Pulse amplitude index (perfusion), %.
    pub pulse_amplitude_index: Option<Number>,
    /// The device says that its clock was never set: `time_stamp` is no civil time.
    pub device_clock_not_set: bool,
}

impl PlxSpotCheckMeasurement {
    /// Decodes a PLX Spot-Check Measurement value (0x2A5E).
    ///
    /// Shape: flags (1) · SpO2, SFLOAT (2) · pulse rate, SFLOAT (2) · time stamp (7, if bit 0) · measurement status (2, if
    /// bit 1) · device and sensor status (3, if bit 2) · pulse amplitude index, SFLOAT (2, if bit 3); little-endian,
    /// 5–19 octets. Bit 4: the device's clock is not set.
    /// Units: `%` for SpO2 and pulse amplitude index, `/min` for the pulse rate.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a time stamp out of range;
    /// [`DecodeError::Trailing`], unless a reserved flag (bits 5–7) is set, which may announce fields newer than this.
    /// Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let measurement = Self {
            spo2: r.sfloat("spo2")?,
            pulse_rate: r.sfloat("pulse rate")?,
            time_stamp: if flags & TIME_STAMP == 0 { None } else { Some(DateTime::read(&mut r)?) },
            measurement_status: match flags & MEASUREMENT_STATUS {
                0 => None,
                _ => Some(MeasurementStatus(r.u16("measurement status")?)),
            },
            device_and_sensor_status: match flags & DEVICE_AND_SENSOR_STATUS {
                0 => None,
                _ => Some(DeviceAndSensorStatus(r.u24("device and sensor status")?)),
            },
            pulse_amplitude_index: match flags & PULSE_AMPLITUDE_INDEX {
                0 => None,
                _ => Some(r.sfloat("pulse amplitude index")?),
            },
            device_clock_not_set: flags & DEVICE_CLOCK_NOT_SET != 0,
        };
        if flags & RESERVED == 0 {
            r.finish()?;
        }
        Ok(measurement)
    }

    /// The octets of it; `None` where a number's digits do not fit an SFLOAT.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let flags = flag(self.time_stamp.is_some(), TIME_STAMP)
            | flag(self.measurement_status.is_some(), MEASUREMENT_STATUS)
            | flag(self.device_and_sensor_status.is_some(), DEVICE_AND_SENSOR_STATUS)
            | flag(self.pulse_amplitude_index.is_some(), PULSE_AMPLITUDE_INDEX)
            | flag(self.device_clock_not_set, DEVICE_CLOCK_NOT_SET);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        octets.extend(encode_sfloat(self.spo2)?.to_le_bytes());
        octets.extend(encode_sfloat(self.pulse_rate)?.to_le_bytes());
        octets.extend(self.time_stamp.iter().flat_map(DateTime::encode));
        octets.extend(self.measurement_status.iter().flat_map(|status| status.0.to_le_bytes()));
        octets.extend(self.device_and_sensor_status.iter().flat_map(|status| status.to_octets()));
        if let Some(index) = self.pulse_amplitude_index {
            octets.extend(encode_sfloat(index)?.to_le_bytes());
        }
        Some(octets)
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 19;
}

const TIME_STAMP: u8 = 1 << 0;
const MEASUREMENT_STATUS: u8 = 1 << 1;
const DEVICE_AND_SENSOR_STATUS: u8 = 1 << 2;
const PULSE_AMPLITUDE_INDEX: u8 = 1 << 3;
const DEVICE_CLOCK_NOT_SET: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;
