//! Glucose Measurement (0x2A18), which a glucose meter notifies.

use alloc::vec::Vec;

use super::date_time::DateTime;
use crate::decimal::Decimal;
use crate::flags::{flag, terms_of_bits};
use crate::mder::{Number, encode_sfloat};
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// A Glucose Measurement. Shape, units, errors and source: see [`GlucoseMeasurement::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlucoseMeasurement {
    /// The device's number of this record; it wraps from 65535 to 0.
    pub sequence_number: u16,
    /// The device's clock, as it stood before the user last moved it.
    pub base_time: DateTime,
    /// Minutes to add to the base time for the time that the user saw.
    pub time_offset: Option<i16>,
    /// The concentration with what it was measured in; absent where the measurement failed.
    pub concentration: Option<Concentration>,
    /// What device and strip met.
    pub sensor_status: Option<SensorStatus>,
    /// A Glucose Measurement Context of the same number follows.
    pub context_follows: bool,
}

/// A glucose concentration. Shape: SFLOAT (2) · type, low nibble, and sample location, high nibble (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concentration {
    /// The number as sent, in [`ConcentrationUnit`].
    pub number: Number,
    /// In which unit.
    pub unit: ConcentrationUnit,
    /// Of which fluid.
    pub sample_type: SampleType,
    /// From where.
    pub location: SampleLocation,
}

/// The unit of a concentration as sent (flag 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConcentrationUnit {
    /// kg/L.
    KilogramPerLitre,
    /// mol/L.
    MolePerLitre,
}

impl Concentration {
    /// The concentration in the unit that people use: kg/L × 10⁵ is mg/dL, mol/L × 10³ is mmol/L, exactly, digits kept.
    #[must_use]
    pub fn customary(&self) -> (Number, &'static str) {
        match self.unit {
            ConcentrationUnit::KilogramPerLitre => (shifted(self.number, 5), "mg/dL"),
            ConcentrationUnit::MolePerLitre => (shifted(self.number, 3), "mmol/L"),
        }
    }

    /// Whether it is a check of the meter with control solution: of nobody's blood.
    #[must_use]
    pub fn is_control_solution(&self) -> bool {
        self.sample_type == SampleType::CONTROL_SOLUTION || self.location == SampleLocation::CONTROL_SOLUTION
    }
}

/// The number × 10^`places`: the digits are the same. An SFLOAT's exponent is −8 … 7, so that nothing is out of range.
pub(super) fn shifted(number: Number, places: i8) -> Number {
    match number {
        Number::Finite(Decimal { mantissa, exponent }) => Number::Finite(Decimal::new(mantissa, exponent.saturating_add(places))),
        special @ Number::Special(_) => special,
    }
}

/// What was sampled. One newer than we are is kept.
///
/// Source: Bluetooth SIG, Glucose Service 1.0.1, §3.1.1.5; MDC codes: ISO/IEEE 11073-10417, as in Freescale's and
/// Lamprey's nomenclature headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SampleType(pub u8);

impl SampleType {
    /// Capillary whole blood.
    pub const CAPILLARY_WHOLE_BLOOD: Self = Self(1);
    /// Control solution.
    pub const CONTROL_SOLUTION: Self = Self(10);

    const ROWS: [(&'static str, Mdc); 10] = [
        ("capillary-whole-blood", Mdc(160_184)),
        ("capillary-plasma", Mdc(160_188)),
        ("venous-whole-blood", Mdc(160_192)),
        ("venous-plasma", Mdc(160_196)),
        ("arterial-whole-blood", Mdc(160_200)),
        ("arterial-plasma", Mdc(160_204)),
        ("undetermined-whole-blood", Mdc(160_364)),
        ("undetermined-plasma", Mdc(160_368)),
        ("interstitial-fluid", Mdc(160_212)),
        ("control-solution", Mdc(160_208)),
    ];

    fn row(self) -> Option<&'static (&'static str, Mdc)> {
        Self::ROWS.get(usize::from(self.0).checked_sub(1)?)
    }

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        self.row().map(|(term, _)| *term)
    }

    /// The code of a concentration in it; `None` for one newer than we are.
    #[must_use]
    pub fn code(self) -> Option<Mdc> {
        self.row().map(|(_, code)| *code)
    }
}

/// Where it was sampled. One newer than we are is kept. Source: as [`SampleType`], §3.1.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SampleLocation(pub u8);

impl SampleLocation {
    /// A finger.
    pub const FINGER: Self = Self(1);
    /// Control solution.
    pub const CONTROL_SOLUTION: Self = Self(4);
    /// The device does not know.
    pub const NOT_AVAILABLE: Self = Self(15);

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub const fn term(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "finger",
            2 => "alternate-site-test",
            3 => "earlobe",
            4 => "control-solution",
            15 => "not-available",
            _ => return None,
        })
    }
}

/// Sensor Status Annunciation.
///
/// Shape: 16 bits, little-endian; reserved bits are kept. Units: none. Errors: none.
/// Source: Bluetooth SIG, Glucose Service 1.0.1, §3.1.1.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SensorStatus(pub u16);

impl SensorStatus {
    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 16] = [
        "device-battery-low",
        "sensor-malfunction",
        "sample-size-insufficient",
        "strip-insertion-error",
        "strip-type-incorrect",
        "sensor-result-too-high",
        "sensor-result-too-low",
        "sensor-temperature-too-high",
        "sensor-temperature-too-low",
        "sensor-read-interrupted",
        "general-device-fault",
        "time-fault",
        "reserved-12",
        "reserved-13",
        "reserved-14",
        "reserved-15",
    ];

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0.into(), &Self::TERMS)
    }
}

impl GlucoseMeasurement {
    /// Decodes a Glucose Measurement value (0x2A18).
    ///
    /// Shape: flags (1) · sequence number (2) · base time (7) · time offset, two's complement (2, if bit 0) · concentration,
    /// SFLOAT (2) · type and sample location (1, both if bit 1) · sensor status annunciation (2, if bit 3); little-endian,
    /// 10–17 octets. Bit 2: mol/L instead of kg/L. Bit 4: a context follows.
    /// Units: `kg/L` or `mol/L`; minutes for the offset.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a base time out of range;
    /// [`DecodeError::Trailing`], unless a reserved flag (bits 5–7) is set, which may announce fields newer than this.
    /// Source: Bluetooth SIG, Glucose Service 1.0.1, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let measurement = Self {
            sequence_number: r.u16("sequence number")?,
            base_time: DateTime::read(&mut r)?,
            time_offset: if flags & TIME_OFFSET == 0 { None } else { Some(r.i16("time offset")?) },
            concentration: if flags & CONCENTRATION == 0 { None } else { Some(Concentration::read(&mut r, flags)?) },
            sensor_status: match flags & SENSOR_STATUS {
                0 => None,
                _ => Some(SensorStatus(r.u16("sensor status annunciation")?)),
            },
            context_follows: flags & CONTEXT_FOLLOWS != 0,
        };
        if flags & RESERVED == 0 {
            r.finish()?;
        }
        Ok(measurement)
    }

    /// The octets of it; `None` where a number's digits do not fit an SFLOAT, or type or location no nibble.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let molar = self.concentration.is_some_and(|c| c.unit == ConcentrationUnit::MolePerLitre);
        let flags = flag(self.time_offset.is_some(), TIME_OFFSET)
            | flag(self.concentration.is_some(), CONCENTRATION)
            | flag(molar, MOLE_PER_LITRE)
            | flag(self.sensor_status.is_some(), SENSOR_STATUS)
            | flag(self.context_follows, CONTEXT_FOLLOWS);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        octets.extend(self.sequence_number.to_le_bytes());
        octets.extend(self.base_time.encode());
        octets.extend(self.time_offset.iter().flat_map(|offset| offset.to_le_bytes()));
        if let Some(concentration) = &self.concentration {
            concentration.write(&mut octets)?;
        }
        octets.extend(self.sensor_status.iter().flat_map(|status| status.0.to_le_bytes()));
        Some(octets)
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 17;

    /// The time that the user saw on the device: base time and offset; `None` where the date was never set.
    #[must_use]
    pub fn user_facing_time(&self) -> Option<DateTime> {
        self.base_time.plus_minutes(self.time_offset.unwrap_or(0))
    }
}

impl Concentration {
    fn read(r: &mut Reader<'_>, flags: u8) -> Result<Self, DecodeError> {
        let number = r.sfloat("glucose concentration")?;
        let nibbles = r.u8("type and sample location")?;
        Ok(Self {
            number,
            unit: match flags & MOLE_PER_LITRE {
                0 => ConcentrationUnit::KilogramPerLitre,
                _ => ConcentrationUnit::MolePerLitre,
            },
            sample_type: SampleType(nibbles & 0x0f),
            location: SampleLocation(nibbles >> 4),
        })
    }

    fn write(&self, octets: &mut Vec<u8>) -> Option<()> {
        if self.sample_type.0 > 0x0f || self.location.0 > 0x0f {
            return None;
        }
        octets.extend(encode_sfloat(self.number)?.to_le_bytes());
        octets.push(self.sample_type.0 | self.location.0 << 4);
        Some(())
    }
}

const TIME_OFFSET: u8 = 1 << 0;
const CONCENTRATION: u8 = 1 << 1;
const MOLE_PER_LITRE: u8 = 1 << 2;
const SENSOR_STATUS: u8 = 1 << 3;
const CONTEXT_FOLLOWS: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;
