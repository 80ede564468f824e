//! Current Time (0x2A2B): a device's clock, as it is read and set.

use super::date_time::DateTime;
use crate::flags::terms_of_bits;
use crate::reader::{DecodeError, Reader};

/// A Current Time value. Shape, units, errors and source: see [`CurrentTime::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CurrentTime {
    /// Date and time of day.
    pub date_time: DateTime,
    /// 1 Monday … 7 Sunday, 0 unknown.
    pub day_of_week: u8,
    /// 1/256 of a second.
    pub fractions256: u8,
    /// Why it was last adjusted.
    pub adjust_reason: AdjustReason,
}

/// Why a clock was adjusted: a bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AdjustReason(pub u8);

impl AdjustReason {
    /// Bit 1: by an external reference.
    pub const EXTERNAL_REFERENCE: Self = Self(1 << 1);

    /// The term of each bit, lowest first.
    pub const TERMS: [&'static str; 8] = [
        "manual-time-update",
        "external-reference-time-update",
        "change-of-time-zone",
        "change-of-dst",
        "reserved-4",
        "reserved-5",
        "reserved-6",
        "reserved-7",
    ];

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = &'static str> {
        terms_of_bits(self.0.into(), &Self::TERMS)
    }
}

impl CurrentTime {
    /// Octets of the characteristic.
    pub const OCTETS: usize = 10;

    /// This time, set by an external reference at the start of a second.
    #[must_use]
    pub fn set_to(date_time: DateTime) -> Self {
        let day_of_week = date_time.weekday().unwrap_or(0);
        Self { date_time, day_of_week, fractions256: 0, adjust_reason: AdjustReason::EXTERNAL_REFERENCE }
    }

    /// Decodes a Current Time value (0x2A2B).
    ///
    /// Shape: date time (7) · day of week (1) · fractions256 (1) · adjust reason (1); little-endian, 10 octets.
    /// Units: as named.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Value`] for a date, time or day of the
    /// week out of range; [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Current Time Service 1.1, §3.1; GATT Specification Supplement, Current Time.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let time = Self {
            date_time: DateTime::read(&mut r)?,
            day_of_week: r.u8("day of week")?,
            fractions256: r.u8("fractions256")?,
            adjust_reason: AdjustReason(r.u8("adjust reason")?),
        };
        r.finish()?;
        if time.day_of_week > 7 { Err(DecodeError::Value { field: "day of week" }) } else { Ok(time) }
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let [a, b, c, d, e, f, g] = self.date_time.encode();
        [a, b, c, d, e, f, g, self.day_of_week, self.fractions256, self.adjust_reason.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class D, by the layout of Current Time Service 1.1: Saturday 2024-06-15 17:17:27.5.
    const OCTETS: [u8; 10] = [0xe8, 0x07, 6, 15, 17, 17, 27, 6, 128, 0x02];

    #[test]
    fn a_time_decodes_and_encodes() {
        let time = CurrentTime::decode(&OCTETS).unwrap();
        assert_eq!(time.date_time.to_string(), "2024-06-15T17:17:27");
        assert_eq!((time.day_of_week, time.fractions256), (6, 128));
        assert_eq!(time.adjust_reason.terms().collect::<Vec<_>>(), ["external-reference-time-update"]);
        assert_eq!(time.encode(), OCTETS);
        assert_eq!(CurrentTime::set_to(time.date_time).encode(), [0xe8, 0x07, 6, 15, 17, 17, 27, 6, 0, 0x02]);
    }

    #[test]
    fn every_other_length_is_refused() {
        crate::promises::every_other_length_is_refused(&OCTETS, CurrentTime::decode);
    }

    #[test]
    fn a_day_that_no_week_has_is_refused() {
        let mut octets = OCTETS;
        octets[7] = 8;
        assert_eq!(CurrentTime::decode(&octets), Err(DecodeError::Value { field: "day of week" }));
    }

    proptest::proptest! {
        #[test]
        fn what_decodes_encodes_to_itself_and_nothing_panics(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..14)) {
            if let Ok(time) = CurrentTime::decode(&octets) {
                proptest::prop_assert_eq!(&time.encode()[..], &octets);
            }
        }
    }
}
