//! Body Composition Measurement (0x2A9C) and Body Composition Feature (0x2A9B).

use alloc::vec::Vec;

use super::blood_pressure::UserId;
use super::date_time::DateTime;
use super::weight::{HeightResolution, MassResolution, MeasurementUnits};
use crate::flags::{flag, terms_of_bits};
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// A Body Composition Measurement, its numbers as they are on the wire.
/// Shape, units, errors and source: see [`BodyCompositionMeasurement::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BodyCompositionMeasurement {
    /// Metric or imperial.
    pub units: MeasurementUnits,
    /// In 0.1 %; [`UNSUCCESSFUL`](super::weight::UNSUCCESSFUL) where there is none.
    pub body_fat_percentage: u16,
    /// When it was measured, by the device's clock.
    pub time_stamp: Option<DateTime>,
    /// The device's user.
    pub user_id: Option<UserId>,
    /// In kJ a day.
    pub basal_metabolism: Option<u16>,
    /// In 0.1 %.
    pub muscle_percentage: Option<u16>,
    /// In steps of [`MassResolution::step`], as every mass here.
    pub muscle_mass: Option<u16>,
    /// Mass without fat.
    pub fat_free_mass: Option<u16>,
    /// Mass without fat and bone.
    pub soft_lean_mass: Option<u16>,
    /// Mass of water.
    pub body_water_mass: Option<u16>,
    /// In 0.1 Ohm.
    pub impedance: Option<u16>,
    /// Weight.
    pub weight: Option<u16>,
    /// In steps of [`HeightResolution::step`].
    pub height: Option<u16>,
    /// It goes on in the next indication, or went on from the one before: both say so.
    pub multiple_packets: bool,
}

impl BodyCompositionMeasurement {
    /// Decodes a Body Composition Measurement value (0x2A9C).
    ///
    /// Shape: flags (2) · body fat percentage (2) · time stamp (7, if bit 1) · user number (1, if bit 2) · then, 2 octets
    /// each, if its bit 3–11 is set: basal metabolism, muscle percentage, muscle mass, fat free mass, soft lean mass, body
    /// water mass, impedance, weight, height; little-endian, 4–30 octets. Bit 12: more than one packet.
    /// Units: 0.1 %; kJ; 0.1 Ohm; kg and m, or (bit 0) `[lb_av]` and `[in_i]`, in the steps of the Body Composition Feature.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a time stamp out of range;
    /// [`DecodeError::Trailing`], unless a reserved flag (bits 13–15) is set.
    /// Source: Bluetooth SIG, Body Composition Service 1.0, §3.2.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u16("flags")?;
        let body_fat_percentage = r.u16("body fat percentage")?;
        let time_stamp = if flags & TIME_STAMP == 0 { None } else { Some(DateTime::read(&mut r)?) };
        let user_id = if flags & USER_ID == 0 { None } else { Some(UserId(r.u8("user id")?)) };
        let mut field = |bit: u16, name| if flags >> bit & 1 == 0 { Ok(None) } else { r.u16(name).map(Some) };
        let measurement = Self {
            units: if flags & IMPERIAL == 0 { MeasurementUnits::Si } else { MeasurementUnits::Imperial },
            body_fat_percentage,
            time_stamp,
            user_id,
            basal_metabolism: field(3, "basal metabolism")?,
            muscle_percentage: field(4, "muscle percentage")?,
            muscle_mass: field(5, "muscle mass")?,
            fat_free_mass: field(6, "fat free mass")?,
            soft_lean_mass: field(7, "soft lean mass")?,
            body_water_mass: field(8, "body water mass")?,
            impedance: field(9, "impedance")?,
            weight: field(10, "weight")?,
            height: field(11, "height")?,
            multiple_packets: flags & MULTIPLE_PACKETS != 0,
        };
        if flags & RESERVED == 0 {
            r.finish()?;
        }
        Ok(measurement)
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let fields = self.fields();
        let mut flags = flag(self.units == MeasurementUnits::Imperial, IMPERIAL)
            | flag(self.time_stamp.is_some(), TIME_STAMP)
            | flag(self.user_id.is_some(), USER_ID)
            | flag(self.multiple_packets, MULTIPLE_PACKETS);
        for (bit, field) in (3..).zip(fields) {
            flags |= flag(field.is_some(), 1 << bit);
        }
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.extend(flags.to_le_bytes());
        octets.extend(self.body_fat_percentage.to_le_bytes());
        octets.extend(self.time_stamp.iter().flat_map(DateTime::encode));
        octets.extend(self.user_id.map(|user| user.0));
        octets.extend(fields.iter().flatten().flat_map(|field| field.to_le_bytes()));
        octets
    }

    /// The fields of bits 3–11, in their order.
    fn fields(&self) -> [Option<u16>; 9] {
        [
            self.basal_metabolism,
            self.muscle_percentage,
            self.muscle_mass,
            self.fat_free_mass,
            self.soft_lean_mass,
            self.body_water_mass,
            self.impedance,
            self.weight,
            self.height,
        ]
    }

    /// Takes in what the next packet of the same measurement adds.
    #[must_use]
    pub fn joined(self, next: Self) -> Self {
        Self {
            time_stamp: self.time_stamp.or(next.time_stamp),
            user_id: self.user_id.or(next.user_id),
            basal_metabolism: self.basal_metabolism.or(next.basal_metabolism),
            muscle_percentage: self.muscle_percentage.or(next.muscle_percentage),
            muscle_mass: self.muscle_mass.or(next.muscle_mass),
            fat_free_mass: self.fat_free_mass.or(next.fat_free_mass),
            soft_lean_mass: self.soft_lean_mass.or(next.soft_lean_mass),
            body_water_mass: self.body_water_mass.or(next.body_water_mass),
            impedance: self.impedance.or(next.impedance),
            weight: self.weight.or(next.weight),
            height: self.height.or(next.height),
            ..self
        }
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 30;
}

const IMPERIAL: u16 = 1 << 0;
const TIME_STAMP: u16 = 1 << 1;
const USER_ID: u16 = 1 << 2;
const MULTIPLE_PACKETS: u16 = 1 << 12;
const RESERVED: u16 = 0xe000;

/// Body Composition Feature (0x2A9B). Shape, units, errors and source: see [`BodyCompositionFeature::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BodyCompositionFeature(pub u32);

impl BodyCompositionFeature {
    /// The term of bits 0–10.
    pub const TERMS: [Status; 11] = [
        "time-stamp-supported",
        "multiple-users-supported",
        "basal-metabolism-supported",
        "muscle-percentage-supported",
        "muscle-mass-supported",
        "fat-free-mass-supported",
        "soft-lean-mass-supported",
        "body-water-mass-supported",
        "impedance-supported",
        "weight-supported",
        "height-supported",
    ];

    /// Decodes a Body Composition Feature value (0x2A9B).
    ///
    /// Shape: 32 bits, little-endian, 4 octets: eleven features, mass resolution (bits 11–14), height resolution
    /// (bits 15–17); reserved bits are kept. Units: none.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`], unless a reserved bit is set.
    /// Source: Bluetooth SIG, Body Composition Service 1.0, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let feature = Self(r.u32("body composition feature")?);
        if feature.0 >> 18 == 0 {
            r.finish()?;
        }
        Ok(feature)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// What one digit of a mass is worth.
    #[must_use]
    pub const fn mass_resolution(self) -> MassResolution {
        MassResolution::lowest_of(self.0 >> 11)
    }

    /// What one digit of a height is worth.
    #[must_use]
    pub const fn height_resolution(self) -> HeightResolution {
        HeightResolution::lowest_of(self.0 >> 15)
    }

    /// The terms of the features, lowest bit first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0, &Self::TERMS)
    }
}
