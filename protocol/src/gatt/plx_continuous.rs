//! PLX Continuous Measurement (0x2A5F), which a pulse oximeter notifies, about once a second.

use alloc::vec::Vec;

use super::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use crate::flags::flag;
use crate::mder::{Number, encode_sfloat};
use crate::reader::{DecodeError, Reader};

/// SpO2 and pulse rate of one averaging. Shape: two SFLOATs (4 octets). Units: `%`, `/min`.
/// Errors: [`DecodeError::Truncated`]. Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spo2PulseRate {
    /// Oxygen saturation, %.
    pub spo2: Number,
    /// Pulse rate, /min.
    pub pulse_rate: Number,
}

impl Spo2PulseRate {
    fn read(r: &mut Reader<'_>, [spo2, pulse_rate]: [&'static str; 2]) -> Result<Self, DecodeError> {
        Ok(Self { spo2: r.sfloat(spo2)?, pulse_rate: r.sfloat(pulse_rate)? })
    }

    fn encode(self) -> Option<[u8; 4]> {
        let [a, b] = encode_sfloat(self.spo2)?.to_le_bytes();
        let [c, d] = encode_sfloat(self.pulse_rate)?.to_le_bytes();
        Some([a, b, c, d])
    }
}

/// A PLX Continuous Measurement. Shape, units, errors and source: see [`PlxContinuousMeasurement::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlxContinuousMeasurement {
    /// SpO2PR-Normal: the device's usual averaging.
    pub normal: Spo2PulseRate,
    /// SpO2PR-Fast.
    pub fast: Option<Spo2PulseRate>,
    /// SpO2PR-Slow.
    pub slow: Option<Spo2PulseRate>,
    /// How far the measurement is to be trusted.
    pub measurement_status: Option<MeasurementStatus>,
    /// What device and sensor met.
    pub device_and_sensor_status: Option<DeviceAndSensorStatus>,
    /// Pulse amplitude index (perfusion), %.
    pub pulse_amplitude_index: Option<Number>,
}

impl PlxContinuousMeasurement {
    /// Decodes a PLX Continuous Measurement value (0x2A5F).
    ///
    /// Shape: flags (1) · SpO2PR-Normal, two SFLOATs (4) · SpO2PR-Fast (4, if bit 0) · SpO2PR-Slow (4, if bit 1) ·
    /// measurement status (2, if bit 2) · device and sensor status (3, if bit 3) · pulse amplitude index, SFLOAT (2, if
    /// bit 4); little-endian, 5–20 octets.
    /// Units: `%` for SpO2 and pulse amplitude index, `/min` for pulse rates.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Trailing`], unless a reserved flag
    /// (bits 5–7) is set, which may announce fields newer than this.
    /// Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.2.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let measurement = Self {
            normal: Spo2PulseRate::read(&mut r, ["normal spo2", "normal pulse rate"])?,
            fast: match flags & FAST {
                0 => None,
                _ => Some(Spo2PulseRate::read(&mut r, ["fast spo2", "fast pulse rate"])?),
            },
            slow: match flags & SLOW {
                0 => None,
                _ => Some(Spo2PulseRate::read(&mut r, ["slow spo2", "slow pulse rate"])?),
            },
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
        };
        if flags & RESERVED == 0 {
            r.finish()?;
        }
        Ok(measurement)
    }

    /// The octets of it; `None` where a number's digits do not fit an SFLOAT.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let flags = flag(self.fast.is_some(), FAST)
            | flag(self.slow.is_some(), SLOW)
            | flag(self.measurement_status.is_some(), MEASUREMENT_STATUS)
            | flag(self.device_and_sensor_status.is_some(), DEVICE_AND_SENSOR_STATUS)
            | flag(self.pulse_amplitude_index.is_some(), PULSE_AMPLITUDE_INDEX);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        octets.extend(self.normal.encode()?);
        for pair in [self.fast, self.slow].into_iter().flatten() {
            octets.extend(pair.encode()?);
        }
        octets.extend(self.measurement_status.iter().flat_map(|status| status.0.to_le_bytes()));
        octets.extend(self.device_and_sensor_status.iter().flat_map(|status| status.to_octets()));
        if let Some(index) = self.pulse_amplitude_index {
            octets.extend(encode_sfloat(index)?.to_le_bytes());
        }
        Some(octets)
    }

    /// The most octets it has: as many as a notification carries at the smallest MTU, 23.
    pub const OCTETS_MAX: usize = 20;
}

const FAST: u8 = 1 << 0;
const SLOW: u8 = 1 << 1;
const MEASUREMENT_STATUS: u8 = 1 << 2;
const DEVICE_AND_SENSOR_STATUS: u8 = 1 << 3;
const PULSE_AMPLITUDE_INDEX: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;
