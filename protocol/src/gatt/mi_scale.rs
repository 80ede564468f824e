//! Service data that Xiaomi's scales advertise under the Weight Scale (0x181D) and Body Composition (0x181B) services.
//!
//! No part of those services: the scale never connects for it, and repeats what it has until the load is gone.

use super::date_time::DateTime;
use crate::decimal::Decimal;
use crate::flags::flag;
use crate::reader::{DecodeError, Reader};

/// What such a scale advertises. Shape, units, errors and source: see [`MiScaleData::decode_weight`] and
/// [`MiScaleData::decode_composition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MiScaleData {
    /// The unit on its display.
    pub unit: MiScaleUnit,
    /// In 0.005 kg, or 0.01 lb, or 0.01 jin.
    pub weight: u16,
    /// The weight no longer changes.
    pub stabilised: bool,
    /// The load is gone; the weight is what was there.
    pub removed: bool,
    /// In Ohm, where it was measured.
    pub impedance: Option<u16>,
    /// When it was measured, by the scale's clock.
    pub time: DateTime,
}

/// The unit on the scale's display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MiScaleUnit {
    /// kg.
    Kilogram,
    /// lb.
    Pound,
    /// Half kilograms.
    Jin,
}

impl MiScaleData {
    /// Decodes what is advertised under 0x181D.
    ///
    /// Shape: control (1: bit 0 lb, bit 4 jin, bit 5 stabilised, bit 7 load removed) · weight u16 · date time (7);
    /// little-endian, 10 octets.
    /// Units: 0.005 kg, 0.01 lb or 0.01 jin a digit.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`]; [`DecodeError::Value`] for a time out of range.
    /// Source: captured by theengs/decoder d6fdd20 (tests/BLE/test_ble.cpp).
    pub fn decode_weight(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let control = r.u8("control")?;
        let weight = r.u16("weight")?;
        let time = DateTime::read(&mut r)?;
        r.finish()?;
        let (stabilised, removed) = (control & STABILISED != 0, control & REMOVED != 0);
        Ok(Self { unit: unit(control), weight, stabilised, removed, impedance: None, time })
    }

    /// Decodes what is advertised under 0x181B.
    ///
    /// Shape: unit (1: bit 0 lb, bit 4 jin) · control (1: bit 1 impedance, bit 5 stabilised, bit 7 load removed) · date time
    /// (7) · impedance u16 · weight u16; little-endian, 13 octets.
    /// Units: Ohm; weight as in [`MiScaleData::decode_weight`].
    /// Errors: as there.
    /// Source: as there; ble_monitor 5690220.
    pub fn decode_composition(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let (units, control) = (r.u8("unit")?, r.u8("control")?);
        let time = DateTime::read(&mut r)?;
        let (impedance, weight) = (r.u16("impedance")?, r.u16("weight")?);
        r.finish()?;
        Ok(Self {
            unit: unit(units),
            weight,
            stabilised: control & STABILISED != 0,
            removed: control & REMOVED != 0,
            impedance: (control & IMPEDANCE != 0).then_some(impedance),
            time,
        })
    }

    /// The octets under 0x181D; an impedance does not go there.
    #[must_use]
    pub fn encode_weight(&self) -> [u8; 10] {
        let [low, high] = self.weight.to_le_bytes();
        let [a, b, c, d, e, f, g] = self.time.encode();
        [unit_bits(self.unit) | self.control(), low, high, a, b, c, d, e, f, g]
    }

    /// The octets under 0x181B.
    #[must_use]
    pub fn encode_composition(&self) -> [u8; 13] {
        let [low, high] = self.weight.to_le_bytes();
        let [a, b, c, d, e, f, g] = self.time.encode();
        let [ohm, more] = self.impedance.unwrap_or(0).to_le_bytes();
        let measured = if self.impedance.is_some() { IMPEDANCE } else { 0 };
        [unit_bits(self.unit), self.control() | measured, a, b, c, d, e, f, g, ohm, more, low, high]
    }

    /// Whether it is a measurement: the weight is steady and the load still there.
    #[must_use]
    pub const fn is_result(&self) -> bool {
        self.stabilised && !self.removed
    }

    /// The weight with its UCUM unit; half kilograms exactly as kilograms.
    #[must_use]
    pub fn amount(&self) -> (Decimal, &'static str) {
        let raw = i64::from(self.weight);
        match self.unit {
            MiScaleUnit::Kilogram | MiScaleUnit::Jin => (Decimal::new(raw * 5, -3), "kg"),
            MiScaleUnit::Pound => (Decimal::new(raw, -2), "[lb_av]"),
        }
    }

    fn control(&self) -> u8 {
        flag(self.stabilised, STABILISED) | flag(self.removed, REMOVED)
    }
}

const POUND: u8 = 1 << 0;
const IMPEDANCE: u8 = 1 << 1;
const JIN: u8 = 1 << 4;
const STABILISED: u8 = 1 << 5;
const REMOVED: u8 = 1 << 7;

fn unit(bits: u8) -> MiScaleUnit {
    match bits {
        bits if bits & POUND != 0 => MiScaleUnit::Pound,
        bits if bits & JIN != 0 => MiScaleUnit::Jin,
        _ => MiScaleUnit::Kilogram,
    }
}

fn unit_bits(unit: MiScaleUnit) -> u8 {
    match unit {
        MiScaleUnit::Kilogram => 0,
        MiScaleUnit::Pound => POUND,
        MiScaleUnit::Jin => JIN,
    }
}
