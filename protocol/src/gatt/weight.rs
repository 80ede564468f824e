//! Weight Measurement (0x2A9D) and Weight Scale Feature (0x2A9E), and the resolutions that body composition shares.

use alloc::vec::Vec;

use super::blood_pressure::UserId;
use super::date_time::DateTime;
use crate::decimal::Decimal;
use crate::flags::{flag, terms_of_bits};
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// A mass, percentage or length that the device could not measure.
pub const UNSUCCESSFUL: u16 = 0xffff;

/// A Weight Measurement, its numbers as they are on the wire: what one digit is worth, the feature says.
/// Shape, units, errors and source: see [`WeightMeasurement::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightMeasurement {
    /// Metric or imperial.
    pub units: MeasurementUnits,
    /// Weight in steps of [`MassResolution::step`]; [`UNSUCCESSFUL`] where there is none.
    pub weight: u16,
    /// When it was measured, by the device's clock.
    pub time_stamp: Option<DateTime>,
    /// The device's user.
    pub user_id: Option<UserId>,
    /// Body mass index and height.
    pub bmi_and_height: Option<BmiAndHeight>,
    /// Flag bits 4–7, in their places: reserved, but a scale is known that uses bit 4.
    pub reserved_flags: u8,
}

/// Body mass index and height, which come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BmiAndHeight {
    /// In 0.1 kg/m2.
    pub bmi: u16,
    /// In steps of [`HeightResolution::step`].
    pub height: u16,
}

/// The system of units of a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MeasurementUnits {
    /// kg and m.
    #[default]
    Si,
    /// \[lb_av\] and \[in_i\].
    Imperial,
}

impl MeasurementUnits {
    /// UCUM of a mass.
    #[must_use]
    pub const fn mass(self) -> &'static str {
        match self {
            Self::Si => "kg",
            Self::Imperial => "[lb_av]",
        }
    }

    /// UCUM of a length.
    #[must_use]
    pub const fn length(self) -> &'static str {
        match self {
            Self::Si => "m",
            Self::Imperial => "[in_i]",
        }
    }
}

/// What one digit of a mass is worth. Source: Bluetooth SIG, Weight Scale Service 1.0, §3.1; Body Composition Service 1.0, §3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MassResolution(pub u8);

impl MassResolution {
    /// That of the lowest four bits of a feature.
    pub(super) const fn lowest_of(bits: u32) -> Self {
        let [low, ..] = bits.to_le_bytes();
        Self(low & 0x0f)
    }

    /// One digit; not specified, or a number newer than we are, is the finest.
    #[must_use]
    pub fn step(self, units: MeasurementUnits) -> Decimal {
        let (si, imperial) = match self.0 {
            1 => ((5, -1), (1, 0)),
            2 => ((2, -1), (5, -1)),
            3 => ((1, -1), (2, -1)),
            4 => ((5, -2), (1, -1)),
            5 => ((2, -2), (5, -2)),
            6 => ((1, -2), (2, -2)),
            _ => ((5, -3), (1, -2)),
        };
        decimal(if units == MeasurementUnits::Si { si } else { imperial })
    }
}

/// What one digit of a height is worth. Source: as [`MassResolution`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeightResolution(pub u8);

impl HeightResolution {
    /// That of the lowest three bits of a feature.
    pub(super) const fn lowest_of(bits: u32) -> Self {
        let [low, ..] = bits.to_le_bytes();
        Self(low & 0x07)
    }

    /// One digit; not specified, or a number newer than we are, is the finest.
    #[must_use]
    pub fn step(self, units: MeasurementUnits) -> Decimal {
        let (si, imperial) = match self.0 {
            1 => ((1, -2), (1, 0)),
            2 => ((5, -3), (5, -1)),
            _ => ((1, -3), (1, -1)),
        };
        decimal(if units == MeasurementUnits::Si { si } else { imperial })
    }
}

const fn decimal((mantissa, exponent): (i64, i8)) -> Decimal {
    Decimal::new(mantissa, exponent)
}

/// So many steps; `None` where the device could not measure.
#[must_use]
pub fn steps(raw: u16, step: Decimal) -> Option<Decimal> {
    (raw != UNSUCCESSFUL).then(|| Decimal::new(i64::from(raw) * step.mantissa, step.exponent))
}

impl WeightMeasurement {
    /// Decodes a Weight Measurement value (0x2A9D).
    ///
    /// Shape: flags (1) · weight (2) · time stamp (7, if bit 1) · user number (1, if bit 2) · body mass index (2) and height
    /// (2, both if bit 3); little-endian, 3–15 octets.
    /// Units: kg and m, or (bit 0) `[lb_av]` and `[in_i]`, in the steps of the Weight Scale Feature; body mass index in
    /// 0.1 kg/m2.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a time stamp out of range;
    /// [`DecodeError::Trailing`], unless a reserved flag (bits 4–7) is set.
    /// Source: Bluetooth SIG, Weight Scale Service 1.0, §3.2.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let measurement = Self {
            units: if flags & IMPERIAL == 0 { MeasurementUnits::Si } else { MeasurementUnits::Imperial },
            weight: r.u16("weight")?,
            time_stamp: if flags & TIME_STAMP == 0 { None } else { Some(DateTime::read(&mut r)?) },
            user_id: if flags & USER_ID == 0 { None } else { Some(UserId(r.u8("user id")?)) },
            bmi_and_height: match flags & BMI_AND_HEIGHT {
                0 => None,
                _ => Some(BmiAndHeight { bmi: r.u16("bmi")?, height: r.u16("height")? }),
            },
            reserved_flags: flags & RESERVED,
        };
        if measurement.reserved_flags == 0 {
            r.finish()?;
        }
        Ok(measurement)
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flags = flag(self.units == MeasurementUnits::Imperial, IMPERIAL)
            | flag(self.time_stamp.is_some(), TIME_STAMP)
            | flag(self.user_id.is_some(), USER_ID)
            | flag(self.bmi_and_height.is_some(), BMI_AND_HEIGHT)
            | (self.reserved_flags & RESERVED);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        octets.extend(self.weight.to_le_bytes());
        octets.extend(self.time_stamp.iter().flat_map(DateTime::encode));
        octets.extend(self.user_id.map(|user| user.0));
        if let Some(BmiAndHeight { bmi, height }) = self.bmi_and_height {
            octets.extend(bmi.to_le_bytes());
            octets.extend(height.to_le_bytes());
        }
        octets
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 15;
}

const IMPERIAL: u8 = 1 << 0;
const TIME_STAMP: u8 = 1 << 1;
const USER_ID: u8 = 1 << 2;
const BMI_AND_HEIGHT: u8 = 1 << 3;
const RESERVED: u8 = 0xf0;

/// Weight Scale Feature (0x2A9E). Shape, units, errors and source: see [`WeightScaleFeature::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WeightScaleFeature(pub u32);

impl WeightScaleFeature {
    /// The term of bits 0–2.
    pub const TERMS: [Status; 3] = ["time-stamp-supported", "multiple-users-supported", "bmi-supported"];

    /// Decodes a Weight Scale Feature value (0x2A9E).
    ///
    /// Shape: 32 bits, little-endian, 4 octets: three features, weight resolution (bits 3–6), height resolution (bits 7–9);
    /// reserved bits are kept. Units: none.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`], unless a reserved bit is set.
    /// Source: Bluetooth SIG, Weight Scale Service 1.0, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let feature = Self(r.u32("weight scale feature")?);
        if feature.0 >> 10 == 0 {
            r.finish()?;
        }
        Ok(feature)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// What one digit of a weight is worth.
    #[must_use]
    pub const fn weight_resolution(self) -> MassResolution {
        MassResolution::lowest_of(self.0 >> 3)
    }

    /// What one digit of a height is worth.
    #[must_use]
    pub const fn height_resolution(self) -> HeightResolution {
        HeightResolution::lowest_of(self.0 >> 7)
    }

    /// The terms of the features, lowest bit first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0, &Self::TERMS)
    }
}
