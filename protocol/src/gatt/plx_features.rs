//! PLX Features (0x2A60): what a pulse oximeter can do.

use alloc::vec::Vec;

use super::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use crate::flags::{flag, terms_of_bits};
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// The supported features of a pulse oximeter.
///
/// Shape: 16 bits, little-endian; reserved bits are kept. Units: none. Errors: none.
/// Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.3.1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SupportedFeatures(pub u16);

impl SupportedFeatures {
    /// Bit 0: [`PlxFeatures::measurement_status_support`] is present.
    pub const MEASUREMENT_STATUS: Self = Self(1 << 0);
    /// Bit 1: [`PlxFeatures::device_and_sensor_status_support`] is present.
    pub const DEVICE_AND_SENSOR_STATUS: Self = Self(1 << 1);
    /// Bit 2: it stores spot-check measurements, and gives them by the Record Access Control Point.
    pub const MEASUREMENT_STORAGE: Self = Self(1 << 2);
    /// Bit 3: spot-check measurements carry a time stamp.
    pub const TIME_STAMP: Self = Self(1 << 3);
    /// Bit 4: SpO2PR-Fast.
    pub const FAST: Self = Self(1 << 4);
    /// Bit 5: SpO2PR-Slow.
    pub const SLOW: Self = Self(1 << 5);
    /// Bit 6: pulse amplitude index.
    pub const PULSE_AMPLITUDE_INDEX: Self = Self(1 << 6);
    /// Bit 7: more than one bond.
    pub const MULTIPLE_BONDS: Self = Self(1 << 7);

    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 16] = [
        "measurement-status-support-present",
        "device-and-sensor-status-support-present",
        "measurement-storage-for-spot-check-measurements-supported",
        "time-stamp-for-spot-check-measurements-supported",
        "spo2pr-fast-metric-supported",
        "spo2pr-slow-metric-supported",
        "pulse-amplitude-index-field-supported",
        "multiple-bonds-supported",
        "reserved-8",
        "reserved-9",
        "reserved-10",
        "reserved-11",
        "reserved-12",
        "reserved-13",
        "reserved-14",
        "reserved-15",
    ];

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0.into(), &Self::TERMS)
    }
}

/// PLX Features. Shape, units, errors and source: see [`PlxFeatures::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlxFeatures {
    /// What it supports.
    pub supported_features: SupportedFeatures,
    /// Which bits of the measurement status it ever sets.
    pub measurement_status_support: Option<MeasurementStatus>,
    /// Which bits of the device and sensor status it ever sets.
    pub device_and_sensor_status_support: Option<DeviceAndSensorStatus>,
}

impl PlxFeatures {
    /// Decodes a PLX Features value (0x2A60).
    ///
    /// Shape: supported features (2) · measurement status support (2, if bit 0) · device and sensor status support (3, if
    /// bit 1); little-endian, 2–7 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Trailing`], unless a reserved feature
    /// bit is set, which may announce fields newer than this.
    /// Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.3.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let supported_features = SupportedFeatures(r.u16("supported features")?);
        let features = Self {
            supported_features,
            measurement_status_support: if supported_features.contains(SupportedFeatures::MEASUREMENT_STATUS) {
                Some(MeasurementStatus(r.u16("measurement status support")?))
            } else {
                None
            },
            device_and_sensor_status_support: if supported_features.contains(SupportedFeatures::DEVICE_AND_SENSOR_STATUS) {
                Some(DeviceAndSensorStatus(r.u24("device and sensor status support")?))
            } else {
                None
            },
        };
        if supported_features.0 & RESERVED == 0 {
            r.finish()?;
        }
        Ok(features)
    }

    /// The octets of it; bits 0 and 1 follow from the fields that are present.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let announced = SupportedFeatures::MEASUREMENT_STATUS.0 | SupportedFeatures::DEVICE_AND_SENSOR_STATUS.0;
        let supported = (self.supported_features.0 & !announced)
            | flag(self.measurement_status_support.is_some(), SupportedFeatures::MEASUREMENT_STATUS.0)
            | flag(self.device_and_sensor_status_support.is_some(), SupportedFeatures::DEVICE_AND_SENSOR_STATUS.0);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.extend(supported.to_le_bytes());
        octets.extend(self.measurement_status_support.iter().flat_map(|status| status.0.to_le_bytes()));
        octets.extend(self.device_and_sensor_status_support.iter().flat_map(|status| status.to_octets()));
        octets
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 7;
}

const RESERVED: u16 = 0xff00;
