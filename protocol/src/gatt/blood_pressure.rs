//! Blood Pressure Measurement (0x2A35), Intermediate Cuff Pressure (0x2A36) and Blood Pressure Feature (0x2A49).

use alloc::vec::Vec;

use super::date_time::DateTime;
use crate::flags::{flag, terms_of_bits};
use crate::mder::{Number, encode_sfloat};
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// A Blood Pressure Measurement. Shape, units, errors and source: see [`BloodPressureMeasurement::decode`].
///
/// An Intermediate Cuff Pressure (0x2A36) has the same octets: the cuff pressure stands in `systolic`, and what stands in
/// `diastolic` and `mean_arterial_pressure` is unused. Source: Blood Pressure Service 1.1.1, §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BloodPressureMeasurement {
    /// Unit of the three pressures.
    pub unit: PressureUnit,
    /// Systolic pressure.
    pub systolic: Number,
    /// Diastolic pressure.
    pub diastolic: Number,
    /// Mean arterial pressure.
    pub mean_arterial_pressure: Number,
    /// When it was measured, by the device's clock.
    pub time_stamp: Option<DateTime>,
    /// Pulse rate, /min.
    pub pulse_rate: Option<Number>,
    /// The device's user.
    pub user_id: Option<UserId>,
    /// What the device met.
    pub status: Option<BloodPressureStatus>,
}

/// The unit of a pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PressureUnit {
    /// mm[Hg].
    #[default]
    MillimetreOfMercury,
    /// kPa.
    Kilopascal,
}

impl PressureUnit {
    /// Its UCUM code.
    #[must_use]
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::MillimetreOfMercury => "mm[Hg]",
            Self::Kilopascal => "kPa",
        }
    }
}

/// The number of a device's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub u8);

impl UserId {
    /// The device does not know its user.
    pub const UNKNOWN: Self = Self(0xff);

    /// The user slot, where the device knows it.
    #[must_use]
    pub fn slot(self) -> Option<u8> {
        (self != Self::UNKNOWN).then_some(self.0)
    }
}

/// Measurement Status of a blood pressure.
///
/// Shape: 16 bits, little-endian; reserved bits are kept. Units: none. Errors: none.
/// Source: Bluetooth SIG, Blood Pressure Service 1.1.1, §3.1.1.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BloodPressureStatus(pub u16);

impl BloodPressureStatus {
    /// Bit 1: the cuff was too loose.
    pub const CUFF_TOO_LOOSE: Self = Self(1 << 1);
    /// Bit 2: the pulse was irregular.
    pub const IRREGULAR_PULSE: Self = Self(1 << 2);

    /// The term of each bit, lowest first; bits 3 and 4 are one field of four values.
    pub const TERMS: [Status; 16] = [
        "body-movement",
        "cuff-too-loose",
        "irregular-pulse",
        "pulse-rate-exceeds-upper-limit",
        "pulse-rate-less-than-lower-limit",
        "improper-measurement-position",
        "reserved-6",
        "reserved-7",
        "reserved-8",
        "reserved-9",
        "reserved-10",
        "reserved-11",
        "reserved-12",
        "reserved-13",
        "reserved-14",
        "reserved-15",
    ];

    /// The terms of what is set, lowest bit first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        const RANGE: u16 = 3 << 3;
        let both = (self.0 & RANGE == RANGE).then_some("pulse-rate-range-reserved");
        let bits = if both.is_some() { self.0 & !RANGE } else { self.0 };
        terms_of_bits(bits.into(), &Self::TERMS).chain(both)
    }
}

/// How a cuff's octets depart from the standard.
///
/// Class R, Beurer BM85 (blood-pressure-monitor-fl, 17aba3d): pulse rate and status come big-endian, and a user number that
/// no flag announces stands before the status; flag bit 6 is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Departures {
    /// Pulse rate and measurement status are big-endian.
    pub big_endian_pulse_and_status: bool,
    /// There is a user number, whatever the flags say.
    pub user_id_always: bool,
}

impl BloodPressureMeasurement {
    /// Decodes a Blood Pressure Measurement (0x2A35) or Intermediate Cuff Pressure (0x2A36) value.
    ///
    /// Shape: flags (1) · systolic, diastolic and mean arterial pressure, SFLOAT (2 each) · time stamp (7, if bit 1) · pulse
    /// rate, SFLOAT (2, if bit 2) · user number (1, if bit 3) · measurement status (2, if bit 4); little-endian, 7–19 octets.
    /// Units: `mm[Hg]`, or (bit 0) `kPa`, for the pressures; `/min` for the pulse rate.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a time stamp out of range;
    /// [`DecodeError::Trailing`], reserved flags or not.
    /// Source: Bluetooth SIG, Blood Pressure Service 1.1.1, §3.1 and §3.2.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_departing(value, Departures::default())
    }

    /// The same, of a cuff that departs from the standard.
    pub fn decode_departing(value: &[u8], departures: Departures) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let big_endian = departures.big_endian_pulse_and_status;
        let word = |r: &mut Reader<'_>, field| if big_endian { r.u16_be(field) } else { r.u16(field) };
        let measurement = Self {
            unit: if flags & KILOPASCAL == 0 { PressureUnit::MillimetreOfMercury } else { PressureUnit::Kilopascal },
            systolic: r.sfloat("systolic")?,
            diastolic: r.sfloat("diastolic")?,
            mean_arterial_pressure: r.sfloat("mean arterial pressure")?,
            time_stamp: if flags & TIME_STAMP == 0 { None } else { Some(DateTime::read(&mut r)?) },
            pulse_rate: match flags & PULSE_RATE {
                0 => None,
                _ => Some(crate::mder::sfloat(word(&mut r, "pulse rate")?)),
            },
            user_id: match flags & USER_ID {
                0 if !departures.user_id_always => None,
                _ => Some(UserId(r.u8("user id")?)),
            },
            status: match flags & STATUS {
                0 => None,
                _ => Some(BloodPressureStatus(word(&mut r, "measurement status")?)),
            },
        };
        r.finish()?;
        Ok(measurement)
    }

    /// The octets of it, by the standard; `None` where a number's digits do not fit an SFLOAT.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let flags = flag(self.unit == PressureUnit::Kilopascal, KILOPASCAL)
            | flag(self.time_stamp.is_some(), TIME_STAMP)
            | flag(self.pulse_rate.is_some(), PULSE_RATE)
            | flag(self.user_id.is_some(), USER_ID)
            | flag(self.status.is_some(), STATUS);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        for pressure in [self.systolic, self.diastolic, self.mean_arterial_pressure] {
            octets.extend(encode_sfloat(pressure)?.to_le_bytes());
        }
        octets.extend(self.time_stamp.iter().flat_map(DateTime::encode));
        if let Some(pulse) = self.pulse_rate {
            octets.extend(encode_sfloat(pulse)?.to_le_bytes());
        }
        octets.extend(self.user_id.map(|user| user.0));
        octets.extend(self.status.iter().flat_map(|status| status.0.to_le_bytes()));
        Some(octets)
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 19;
}

const KILOPASCAL: u8 = 1 << 0;
const TIME_STAMP: u8 = 1 << 1;
const PULSE_RATE: u8 = 1 << 2;
const USER_ID: u8 = 1 << 3;
const STATUS: u8 = 1 << 4;

/// Blood Pressure Feature (0x2A49). Shape, units, errors and source: see [`BloodPressureFeature::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BloodPressureFeature(pub u16);

impl BloodPressureFeature {
    /// Bit 5: more than one bond.
    pub const MULTIPLE_BONDS: Self = Self(1 << 5);

    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 16] = [
        "body-movement-detection-supported",
        "cuff-fit-detection-supported",
        "irregular-pulse-detection-supported",
        "pulse-rate-range-detection-supported",
        "measurement-position-detection-supported",
        "multiple-bonds-supported",
        "e2e-crc-supported",
        "user-data-service-supported",
        "user-facing-time-supported",
        "reserved-9",
        "reserved-10",
        "reserved-11",
        "reserved-12",
        "reserved-13",
        "reserved-14",
        "reserved-15",
    ];

    /// Decodes a Blood Pressure Feature value (0x2A49).
    ///
    /// Shape: 16 bits, little-endian, 2 octets; reserved bits are kept. Units: none.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`], unless a reserved bit is set.
    /// Source: Bluetooth SIG, Blood Pressure Service 1.1.1, §3.3.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let feature = Self(r.u16("blood pressure feature")?);
        if feature.0 & 0xfe00 == 0 {
            r.finish()?;
        }
        Ok(feature)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0.into(), &Self::TERMS)
    }
}
