//! FLOAT-Type and SFLOAT-Type of the medical device encoding rules, with their special values.

use crate::decimal::Decimal;
use crate::reading::{Quantity, Special};

/// A FLOAT or SFLOAT: a decimal with its digits, or a special value.
///
/// Source: IEEE 11073-20601 §F.6 and F.7; the specials are told by the mantissa with exponent 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// A number with every digit it arrived with.
    Finite(Decimal),
    /// Not a number.
    Special(Special),
}

impl From<Number> for Quantity {
    fn from(number: Number) -> Self {
        match number {
            Number::Finite(decimal) => Self::Number(decimal),
            Number::Special(special) => Self::Special(special),
        }
    }
}

/// Decodes a FLOAT-Type: mantissa i24, exponent i8 in the top octet.
#[must_use]
pub fn float(raw: u32) -> Number {
    let [a, b, c, exponent] = raw.to_le_bytes();
    let exponent = i8::from_le_bytes([exponent]);
    let mantissa = i32::from_le_bytes([0, a, b, c]) >> 8;
    special(i64::from(mantissa), exponent, 1 << 23).unwrap_or(Number::Finite(Decimal::new(mantissa.into(), exponent)))
}

/// Decodes an SFLOAT-Type: mantissa i12, exponent i4 in the top bits.
#[must_use]
pub fn sfloat(raw: u16) -> Number {
    let word = i16::from_le_bytes(raw.to_le_bytes());
    let mantissa = (word << 4) >> 4;
    let exponent = i8::try_from(word >> 12).unwrap_or(0);
    special(mantissa.into(), exponent, 1 << 11).unwrap_or(Number::Finite(Decimal::new(mantissa.into(), exponent)))
}

/// The special value of a mantissa of which `half` is half the range.
fn special(mantissa: i64, exponent: i8, half: i64) -> Option<Number> {
    if exponent != 0 {
        return None;
    }
    let which = match mantissa {
        m if m == half - 1 => Special::NotANumber,
        m if m == -half => Special::NotAtThisResolution,
        m if m == half - 2 => Special::PositiveInfinity,
        m if m == -half + 2 => Special::NegativeInfinity,
        m if m == -half + 1 => Special::Reserved,
        _ => return None,
    };
    Some(Number::Special(which))
}

/// Encodes a FLOAT-Type; `None` where the digits do not fit, or the result would read as a special value.
#[must_use]
pub fn encode_float(number: Number) -> Option<u32> {
    let (mantissa, exponent) = parts(number, 1 << 23)?;
    let raw = (u32::from(exponent.to_le_bytes()[0]) << 24) | (u32::try_from(mantissa & 0x00ff_ffff).ok()?);
    (float(raw) == number).then_some(raw)
}

/// Encodes an SFLOAT-Type; `None` where the digits do not fit, or the result would read as a special value.
#[must_use]
pub fn encode_sfloat(number: Number) -> Option<u16> {
    let (mantissa, exponent) = parts(number, 1 << 11)?;
    if !(-8..8).contains(&exponent) {
        return None;
    }
    let raw = (u16::from(exponent.to_le_bytes()[0] & 0x0f) << 12) | (u16::try_from(mantissa & 0x0fff).ok()?);
    (sfloat(raw) == number).then_some(raw)
}

fn parts(number: Number, half: i64) -> Option<(i64, i8)> {
    Some(match number {
        Number::Finite(decimal) if (-half..half).contains(&decimal.mantissa) => (decimal.mantissa, decimal.exponent),
        Number::Finite(_) | Number::Special(Special::NotAvailable) => return None,
        Number::Special(Special::NotANumber) => (half - 1, 0),
        Number::Special(Special::NotAtThisResolution) => (-half, 0),
        Number::Special(Special::PositiveInfinity) => (half - 2, 0),
        Number::Special(Special::NegativeInfinity) => (-half + 2, 0),
        Number::Special(Special::Reserved) => (-half + 1, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: Number) -> String {
        match number {
            Number::Finite(decimal) => decimal.to_string(),
            Number::Special(special) => format!("{special:?}"),
        }
    }

    /// Vectors F01–F09: HL7/phd float table; blessed-android BluetoothBytesParser; antidote pulse oximeter.
    #[test]
    fn published_floats_keep_their_digits() {
        for (raw, expected) in [
            (0x0000_0002, "2"),
            (0xff00_0014, "2.0"),
            (0xfe00_00c8, "2.00"),
            (0x0100_0002, "20"),
            (0x0200_0002, "200"),
            (0x0000_04d2, "1234"),
            (0x00ff_fb2e, "-1234"),
            (0xfc03_fe01, "26.1633"),
            (0x04fd_02ff, "-1958410000"),
            (0xfe00_1e2d, "77.25"),
            (0xfe00_1f68, "80.40"),
            (0x007f_ffff, "NotANumber"),
            (0x0080_0000, "NotAtThisResolution"),
            (0x007f_fffe, "PositiveInfinity"),
            (0x0080_0002, "NegativeInfinity"),
            (0x0080_0001, "Reserved"),
        ] {
            assert_eq!(text(float(raw)), expected, "{raw:08x}");
            assert_eq!(encode_float(float(raw)), Some(raw), "{raw:08x}");
        }
    }

    #[test]
    fn published_sfloats_keep_their_digits() {
        for (raw, expected) in [
            (0x0002, "2"),
            (0xf014, "2.0"),
            (0xe0c8, "2.00"),
            (0x1002, "20"),
            (0x2002, "200"),
            (0x04d2, "1234"),
            (0x0b2e, "-1234"),
            (0xfe01, "-51.1"),
            (0x02ff, "767"),
            (0xf3cf, "97.5"),
            (0xf321, "80.1"),
            (0x07ff, "NotANumber"),
            (0x0800, "NotAtThisResolution"),
            (0x07fe, "PositiveInfinity"),
            (0x0802, "NegativeInfinity"),
            (0x0801, "Reserved"),
        ] {
            assert_eq!(text(sfloat(raw)), expected, "{raw:04x}");
            assert_eq!(encode_sfloat(sfloat(raw)), Some(raw), "{raw:04x}");
        }
    }

    #[test]
    fn every_sfloat_encodes_to_itself() {
        for raw in 0..=u16::MAX {
            assert_eq!(encode_sfloat(sfloat(raw)), Some(raw), "{raw:04x}");
        }
    }

    #[test]
    fn digits_that_do_not_fit_are_not_encoded() {
        assert_eq!(encode_sfloat(Number::Finite(Decimal::new(2048, 0))), None);
        assert_eq!(encode_sfloat(Number::Finite(Decimal::new(2047, 0))), None, "would read as NaN");
        assert_eq!(encode_sfloat(Number::Finite(Decimal::new(1, 8))), None);
        assert_eq!(encode_float(Number::Special(Special::NotAvailable)), None);
    }
}
