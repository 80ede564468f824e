//! Exact decimals: a value keeps the digits it arrived with, since 36.60 is not 36.6.

use alloc::string::{String, ToString};
use core::cmp::Ordering;
use core::fmt;

/// `mantissa × 10^exponent`, with every digit the device sent.
///
/// Shape: mantissa i64, exponent i8. Units: those of the value it is part of.
/// Errors: [`DecimalError`] where text is no decimal number. Source: IEEE 11073-20601 FLOAT-Type; HL7 PHD IG 2.0.0
/// ("trailing zeros are information").
///
/// `==` compares digits (2.0 differs from 2.00); [`Decimal::compare`] compares amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// The digits.
    pub mantissa: i64,
    /// The power of ten.
    pub exponent: i8,
}

/// Text that is not a decimal number of at most 18 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a decimal number of at most 18 digits, such as 36.60")]
pub struct DecimalError;

impl Decimal {
    /// `mantissa × 10^exponent`.
    #[must_use]
    pub const fn new(mantissa: i64, exponent: i8) -> Self {
        Self { mantissa, exponent }
    }

    /// A whole number.
    #[must_use]
    pub const fn whole(number: i64) -> Self {
        Self::new(number, 0)
    }

    /// Compares amounts exactly: 2.0 equals 2.00.
    #[must_use]
    pub fn compare(self, other: Self) -> Ordering {
        let sign = self.mantissa.signum().cmp(&other.mantissa.signum());
        if sign != Ordering::Equal || self.mantissa == 0 {
            return sign;
        }
        let magnitude = |d: Self| i32::from(d.exponent) + i32::try_from(digits(d.mantissa)).unwrap_or(i32::MAX);
        let by_magnitude = magnitude(self).cmp(&magnitude(other));
        let by_amount = if by_magnitude == Ordering::Equal {
            // Equal magnitude: the exponents differ by at most the number of digits, so aligning fits in i128.
            let low = self.exponent.min(other.exponent);
            align(self, low).cmp(&align(other, low))
        } else {
            by_magnitude
        };
        match by_magnitude {
            Ordering::Equal => by_amount,
            _ if self.mantissa < 0 => by_amount.reverse(),
            _ => by_amount,
        }
    }

    /// For plots only: nothing that is stored or sent goes through it.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

fn digits(mantissa: i64) -> u32 {
    mantissa.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1)
}

fn align(d: Decimal, exponent: i8) -> i128 {
    let steps = u32::from((i16::from(d.exponent) - i16::from(exponent)).unsigned_abs());
    i128::from(d.mantissa).saturating_mul(10_i128.saturating_pow(steps))
}

impl fmt::Display for Decimal {
    /// Plain decimal notation: 200 × 10^-2 is `2.00`, 2 × 10^2 is `200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let figures = self.mantissa.unsigned_abs().to_string();
        if self.mantissa == 0 && self.exponent >= 0 {
            return f.write_str("0");
        }
        if self.exponent >= 0 {
            return write!(f, "{sign}{figures}{}", "0".repeat(usize::from(self.exponent.unsigned_abs())));
        }
        let places = usize::from(self.exponent.unsigned_abs());
        let padded = if figures.len() <= places {
            let mut zeros = "0".repeat(places + 1 - figures.len());
            zeros.push_str(&figures);
            zeros
        } else {
            figures
        };
        let (whole, fraction) = padded.split_at(padded.len() - places);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl core::str::FromStr for Decimal {
    type Err = DecimalError;
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let unsigned = whole.strip_prefix('-').unwrap_or(whole);
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if unsigned.is_empty() || !all_digits(unsigned) || !all_digits(fraction) || (text.contains('.') && fraction.is_empty()) {
            return Err(DecimalError);
        }
        if unsigned.len() + fraction.len() > 18 {
            return Err(DecimalError);
        }
        let mut joined = String::from(whole);
        joined.push_str(fraction);
        let mantissa = joined.parse().map_err(|_| DecimalError)?;
        let places = i8::try_from(fraction.len()).map_err(|_| DecimalError)?;
        Ok(Self::new(mantissa, -places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trailing_zeros_are_kept() {
        for (mantissa, exponent, text) in [
            (200, -2, "2.00"),
            (2, 0, "2"),
            (2, 2, "200"),
            (-511, -1, "-51.1"),
            (5, -3, "0.005"),
            (-5, -1, "-0.5"),
            (0, -2, "0.00"),
            (0, 3, "0"),
        ] {
            assert_eq!(Decimal::new(mantissa, exponent).to_string(), text);
        }
    }

    #[test]
    fn amounts_compare_whatever_their_digits() {
        let compare = |a: &str, b: &str| a.parse::<Decimal>().unwrap().compare(b.parse().unwrap());
        assert_eq!(compare("2.00", "2.0"), Ordering::Equal);
        assert_eq!(compare("-1.5", "-1.45"), Ordering::Less);
        assert_eq!(compare("-100", "-99.9"), Ordering::Less);
        assert_eq!(compare("0.00", "-0.01"), Ordering::Greater);
        assert_eq!(Decimal::new(1, 127).compare(Decimal::new(i64::MAX, -128)), Ordering::Greater);
    }

    #[test]
    fn text_that_is_no_decimal_is_refused() {
        for text in ["", "-", ".5", "5.", "1e3", "+1", "1,5", "1234567890123456789", "0x10"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(mantissa in -99_999_999_i64..99_999_999, exponent in -9_i8..=0) {
            let decimal = Decimal::new(mantissa, exponent);
            prop_assert_eq!(decimal.to_string().parse(), Ok(decimal));
        }
    }
}
