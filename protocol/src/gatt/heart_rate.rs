//! Heart Rate Measurement (0x2A37) and Body Sensor Location (0x2A38).

use alloc::vec::Vec;

use crate::decimal::Decimal;
use crate::flags::flag;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// A Heart Rate Measurement. Shape, units, errors and source: see [`HeartRateMeasurement::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeartRateMeasurement {
    /// Heart rate, /min, in the width it came in.
    pub heart_rate: HeartRate,
    /// Whether the sensor is on the skin.
    pub sensor_contact: SensorContact,
    /// Energy expended since it was last reset, kJ.
    pub energy_expended: Option<u16>,
    /// RR intervals, oldest first, in 1/1024 s.
    pub rr_intervals: Vec<u16>,
}

/// A heart rate, which comes in one octet or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeartRate {
    /// In one octet.
    U8(u8),
    /// In two.
    U16(u16),
}

impl HeartRate {
    /// Beats a minute.
    #[must_use]
    pub fn per_minute(self) -> u16 {
        match self {
            Self::U8(rate) => rate.into(),
            Self::U16(rate) => rate,
        }
    }
}

/// The two flag bits about the sensor's contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SensorContact(pub u8);

impl SensorContact {
    /// The device can tell, and there is none.
    pub const NOT_DETECTED: Self = Self(2);
    /// The device can tell, and there is contact.
    pub const DETECTED: Self = Self(3);

    /// Its term; `None` where the device cannot tell.
    #[must_use]
    pub fn term(self) -> Option<Status> {
        match self {
            Self::NOT_DETECTED => Some("sensor-contact-not-detected"),
            Self::DETECTED => Some("sensor-contact-detected"),
            _ => None,
        }
    }
}

/// An RR interval in ms, exactly: 1/1024 s is 0.9765625 ms.
#[must_use]
pub fn rr_milliseconds(interval: u16) -> Decimal {
    Decimal::new(i64::from(interval) * 9_765_625, -7)
}

impl HeartRateMeasurement {
    /// Decodes a Heart Rate Measurement value (0x2A37).
    ///
    /// Shape: flags (1) · heart rate (1, or 2 if bit 0) · energy expended (2, if bit 3) · RR intervals (2 each, at least
    /// one, to the end, if bit 4); little-endian. Bits 1 and 2: sensor contact.
    /// Units: `/min`; kJ; 1/1024 s.
    /// Errors: [`DecodeError::Truncated`], naming the missing field, also for half an interval, or none where some are announced; [`DecodeError::Trailing`]
    /// where no RR intervals are announced, unless a reserved flag (bits 5–7) is set.
    /// Source: Bluetooth SIG, Heart Rate Service 1.0, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let heart_rate = match flags & WIDE {
            0 => HeartRate::U8(r.u8("heart rate")?),
            _ => HeartRate::U16(r.u16("heart rate")?),
        };
        let energy_expended = if flags & ENERGY == 0 { None } else { Some(r.u16("energy expended")?) };
        let mut rr_intervals = Vec::new();
        // Announced, there is at least one.
        while flags & RR != 0 && (rr_intervals.is_empty() || !r.rest().is_empty()) {
            rr_intervals.push(r.u16("RR interval")?);
        }
        if flags & RESERVED == 0 {
            r.finish()?;
        }
        Ok(Self { heart_rate, sensor_contact: SensorContact(flags >> 1 & 3), energy_expended, rr_intervals })
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flags = flag(matches!(self.heart_rate, HeartRate::U16(_)), WIDE)
            | (self.sensor_contact.0 & 3) << 1
            | flag(self.energy_expended.is_some(), ENERGY)
            | flag(!self.rr_intervals.is_empty(), RR);
        let mut octets = Vec::from([flags]);
        match self.heart_rate {
            HeartRate::U8(rate) => octets.push(rate),
            HeartRate::U16(rate) => octets.extend(rate.to_le_bytes()),
        }
        octets.extend(self.energy_expended.iter().flat_map(|energy| energy.to_le_bytes()));
        octets.extend(self.rr_intervals.iter().flat_map(|interval| interval.to_le_bytes()));
        octets
    }
}

const WIDE: u8 = 1 << 0;
const ENERGY: u8 = 1 << 3;
const RR: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// Where a heart rate sensor is worn. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodySensorLocation(pub u8);

impl BodySensorLocation {
    /// The terms, by number.
    pub const TERMS: [&'static str; 7] = ["other", "chest", "wrist", "finger", "hand", "ear-lobe", "foot"];

    /// Decodes a Body Sensor Location value (0x2A38).
    ///
    /// Shape: 1 octet. Units: none. Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Heart Rate Service 1.0, §3.2.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let location = Self(r.u8("body sensor location")?);
        r.finish()?;
        Ok(location)
    }

    /// The octet of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 1] {
        [self.0]
    }

    /// The standard's term; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        Self::TERMS.get(usize::from(self.0)).copied()
    }
}
