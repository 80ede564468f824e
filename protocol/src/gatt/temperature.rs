//! Temperature Measurement (0x2A1C), Intermediate Temperature (0x2A1E), Temperature Type (0x2A1D) and Measurement Interval
//! (0x2A21).

use alloc::vec::Vec;

use super::date_time::DateTime;
use crate::flags::flag;
use crate::mder::{Number, encode_float};
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};

/// A Temperature Measurement; an Intermediate Temperature (0x2A1E) has the same octets and is no result.
/// Shape, units, errors and source: see [`TemperatureMeasurement::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemperatureMeasurement {
    /// Unit of the temperature.
    pub unit: TemperatureUnit,
    /// The temperature.
    pub temperature: Number,
    /// When it was measured, by the device's clock.
    pub time_stamp: Option<DateTime>,
    /// Where on the body.
    pub temperature_type: Option<TemperatureType>,
}

/// The unit of a temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TemperatureUnit {
    /// Cel.
    #[default]
    Celsius,
    /// \[degF\].
    Fahrenheit,
}

impl TemperatureUnit {
    /// Its UCUM code.
    #[must_use]
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Celsius => "Cel",
            Self::Fahrenheit => "[degF]",
        }
    }
}

/// Where on the body a temperature was measured. One newer than we are is kept.
///
/// Shape: 1 octet. Units: none. Source: Bluetooth SIG, GATT Specification Supplement, Temperature Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemperatureType(pub u8);

impl TemperatureType {
    /// Each site with its number, its term, and the code of a temperature taken there.
    const SITES: [(u8, &'static str, Mdc); 9] = [
        (1, "armpit", Mdc(188_452)),
        (2, "body", Mdc(150_364)),
        (3, "ear", Mdc(188_428)),
        (4, "finger", Mdc(188_432)),
        (5, "gastro-intestinal-tract", Mdc(188_456)),
        (6, "mouth", Mdc(188_424)),
        (7, "rectum", Mdc(188_420)),
        (8, "toe", Mdc(188_448)),
        (9, "tympanum", Mdc(150_392)),
    ];

    /// Decodes a Temperature Type value (0x2A1D).
    ///
    /// Shape: 1 octet. Units: none. Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Health Thermometer Service 1.0, §3.2.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let site = Self(r.u8("temperature type")?);
        r.finish()?;
        Ok(site)
    }

    /// The octet of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 1] {
        [self.0]
    }

    /// The standard's term; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        Self::SITES.into_iter().find(|(number, ..)| *number == self.0).map(|(_, term, _)| term)
    }

    /// The code of a temperature taken there; the body's where the site is newer than we are.
    #[must_use]
    pub fn code(self) -> Mdc {
        Self::SITES.into_iter().find(|(number, ..)| *number == self.0).map_or(Mdc::BODY_TEMPERATURE, |(.., code)| code)
    }
}

impl TemperatureMeasurement {
    /// Decodes a Temperature Measurement (0x2A1C) or Intermediate Temperature (0x2A1E) value.
    ///
    /// Shape: flags (1) · temperature, FLOAT (4) · time stamp (7, if bit 1) · temperature type (1, if bit 2); little-endian,
    /// 5–13 octets.
    /// Units: `Cel`, or (bit 0) `[degF]`.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a time stamp out of range;
    /// [`DecodeError::Trailing`], unless a reserved flag (bits 3–7) is set.
    /// Source: Bluetooth SIG, Health Thermometer Service 1.0, §3.1 and §3.3.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let measurement = Self {
            unit: if flags & FAHRENHEIT == 0 { TemperatureUnit::Celsius } else { TemperatureUnit::Fahrenheit },
            temperature: r.float("temperature")?,
            time_stamp: if flags & TIME_STAMP == 0 { None } else { Some(DateTime::read(&mut r)?) },
            temperature_type: if flags & TYPE == 0 { None } else { Some(TemperatureType(r.u8("temperature type")?)) },
        };
        if flags & RESERVED == 0 {
            r.finish()?;
        }
        Ok(measurement)
    }

    /// The octets of it; `None` where the temperature's digits do not fit a FLOAT.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let flags = flag(self.unit == TemperatureUnit::Fahrenheit, FAHRENHEIT)
            | flag(self.time_stamp.is_some(), TIME_STAMP)
            | flag(self.temperature_type.is_some(), TYPE);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        octets.extend(encode_float(self.temperature)?.to_le_bytes());
        octets.extend(self.time_stamp.iter().flat_map(DateTime::encode));
        octets.extend(self.temperature_type.map(|site| site.0));
        Some(octets)
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 13;
}

const FAHRENHEIT: u8 = 1 << 0;
const TIME_STAMP: u8 = 1 << 1;
const TYPE: u8 = 1 << 2;
const RESERVED: u8 = 0xf8;

/// Measurement Interval (0x2A21): seconds between two measurements, 0 for none by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeasurementInterval(pub u16);

impl MeasurementInterval {
    /// Decodes a Measurement Interval value (0x2A21).
    ///
    /// Shape: u16, little-endian, 2 octets. Units: s. Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Health Thermometer Service 1.0, §3.4.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let interval = Self(r.u16("measurement interval")?);
        r.finish()?;
        Ok(interval)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }
}
