//! The two status bit sets of the Pulse Oximeter Service, with the standard's terms.

use crate::flags::terms_of_bits;
use crate::reading::Status;

/// Measurement Status of a PLX measurement.
///
/// Shape: 16 bits, little-endian; reserved bits are kept. Units: none. Errors: none.
/// Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.1.1.5 and §3.2.1.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeasurementStatus(pub u16);

impl MeasurementStatus {
    /// Bit 5: the measurement is still going on.
    pub const ONGOING: Self = Self(1 << 5);
    /// Bit 8: fully qualified data.
    pub const FULLY_QUALIFIED: Self = Self(1 << 8);
    /// Bit 9: out of the device's storage.
    pub const FROM_STORAGE: Self = Self(1 << 9);
    /// Bit 13: no measurement is available.
    pub const UNAVAILABLE: Self = Self(1 << 13);
    /// Bit 14: questionable.
    pub const QUESTIONABLE: Self = Self(1 << 14);
    /// Bit 15: invalid.
    pub const INVALID: Self = Self(1 << 15);

    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 16] = [
        "reserved-0",
        "reserved-1",
        "reserved-2",
        "reserved-3",
        "reserved-4",
        "measurement-ongoing",
        "early-estimated-data",
        "validated-data",
        "fully-qualified-data",
        "data-from-measurement-storage",
        "data-for-demonstration",
        "data-for-testing",
        "calibration-ongoing",
        "measurement-unavailable",
        "questionable-measurement-detected",
        "invalid-measurement-detected",
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

/// Device and Sensor Status of a PLX measurement.
///
/// Shape: 24 bits, little-endian; reserved bits are kept. Units: none. Errors: none.
/// Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1, §3.1.1.6 and §3.2.1.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeviceAndSensorStatus(pub u32);

impl DeviceAndSensorStatus {
    /// Bit 5: low perfusion.
    pub const LOW_PERFUSION: Self = Self(1 << 5);
    /// Bit 11: the sensor is not on the patient.
    pub const SENSOR_UNCONNECTED_TO_USER: Self = Self(1 << 11);
    /// Bit 15: the sensor is not plugged in.
    pub const SENSOR_DISCONNECTED: Self = Self(1 << 15);

    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 24] = [
        "extended-display-update-ongoing",
        "equipment-malfunction-detected",
        "signal-processing-irregularity-detected",
        "inadequate-signal-detected",
        "poor-signal-detected",
        "low-perfusion-detected",
        "erratic-signal-detected",
        "nonpulsatile-signal-detected",
        "questionable-pulse-detected",
        "signal-analysis-ongoing",
        "sensor-interference-detected",
        "sensor-unconnected-to-user",
        "unknown-sensor-connected",
        "sensor-displaced",
        "sensor-malfunctioning",
        "sensor-disconnected",
        "reserved-16",
        "reserved-17",
        "reserved-18",
        "reserved-19",
        "reserved-20",
        "reserved-21",
        "reserved-22",
        "reserved-23",
    ];

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0, &Self::TERMS)
    }

    /// The three octets of it.
    #[must_use]
    pub const fn to_octets(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_has_a_term_of_its_own() {
        let all: Vec<_> = MeasurementStatus(u16::MAX).terms().collect();
        assert_eq!(all, MeasurementStatus::TERMS);
        let all: Vec<_> = DeviceAndSensorStatus(0x00ff_ffff).terms().collect();
        assert_eq!(all, DeviceAndSensorStatus::TERMS);
    }

    #[test]
    fn the_named_bits_are_the_standards() {
        let terms: Vec<_> = MeasurementStatus(0x0120).terms().collect();
        assert_eq!(terms, ["measurement-ongoing", "fully-qualified-data"]);
        let terms: Vec<_> = DeviceAndSensorStatus(0x00_8820).terms().collect();
        assert_eq!(terms, ["low-perfusion-detected", "sensor-unconnected-to-user", "sensor-disconnected"]);
    }
}
