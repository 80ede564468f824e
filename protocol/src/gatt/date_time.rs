//! Date Time (0x2A08), and the seven octets of it inside other characteristics.

use core::fmt;

use crate::reader::{DecodeError, Reader};

/// A device's civil time, as it sent it.
///
/// Shape: year u16 · month · day · hours · minutes · seconds, little-endian, 7 octets. Units: as named; 0 in year, month
/// or day means unknown. Errors: [`DecodeError::Truncated`]; [`DecodeError::Value`] where a field is out of its range.
/// Source: Bluetooth SIG, GATT Specification Supplement, Date Time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    /// 1582–9999, or 0 for unknown.
    pub year: u16,
    /// 1–12, or 0 for unknown.
    pub month: u8,
    /// 1–31, or 0 for unknown.
    pub day: u8,
    /// 0–23.
    pub hour: u8,
    /// 0–59.
    pub minute: u8,
    /// 0–59.
    pub second: u8,
}

impl DateTime {
    /// Octets of the characteristic.
    pub const OCTETS: usize = 7;

    /// Reads it where it stands in another characteristic.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let date_time = Self {
            year: r.u16("year")?,
            month: r.u8("month")?,
            day: r.u8("day")?,
            hour: r.u8("hours")?,
            minute: r.u8("minutes")?,
            second: r.u8("seconds")?,
        };
        let in_range = date_time.year <= 9999
            && date_time.month <= 12
            && date_time.day <= 31
            && date_time.hour <= 23
            && date_time.minute <= 59
            && date_time.second <= 59;
        if in_range { Ok(date_time) } else { Err(DecodeError::Value { field: "date time" }) }
    }

    /// Decodes the characteristic by itself; nothing may follow it.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let date_time = Self::read(&mut r)?;
        r.finish()?;
        Ok(date_time)
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let [low, high] = self.year.to_le_bytes();
        [low, high, self.month, self.day, self.hour, self.minute, self.second]
    }

    /// Whether year, month and day are all known.
    #[must_use]
    pub fn date_known(&self) -> bool {
        self.year != 0 && self.month != 0 && self.day != 0
    }
}

impl fmt::Display for DateTime {
    /// `2024-06-15T17:17:27`; unknown parts as zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vector D01: Nordic Android-BLE-Common-Library, DateTimeDataCallbackTest; blessed-android.
    #[test]
    fn captured_times_decode_and_encode() {
        for (octets, text) in [
            ([0xe2, 0x07, 0x04, 0x11, 0x0f, 0x33, 0x00], "2018-04-17T15:51:00"),
            ([0x00, 0x00, 0x00, 0x00, 0x12, 0x1a, 0x20], "0000-00-00T18:26:32"),
            ([0xe4, 0x07, 0x01, 0x02, 0x0a, 0x15, 0x30], "2020-01-02T10:21:48"),
        ] {
            let decoded = DateTime::decode(&octets).unwrap();
            assert_eq!(decoded.to_string(), text);
            assert_eq!(decoded.encode(), octets);
        }
    }

    #[test]
    fn every_truncated_length_names_its_field() {
        let octets = [0xe2, 0x07, 0x04, 0x11, 0x0f, 0x33, 0x00];
        for length in 0..octets.len() {
            assert!(matches!(DateTime::decode(&octets[..length]), Err(DecodeError::Truncated { .. })));
        }
    }

    #[test]
    fn an_octet_too_many_is_refused() {
        assert_eq!(DateTime::decode(&[0xe2, 0x07, 4, 0x11, 0x0f, 0x33, 0, 0]), Err(DecodeError::Trailing { octets: 1 }));
    }

    #[test]
    fn a_field_out_of_range_is_refused() {
        assert_eq!(DateTime::decode(&[0xe2, 0x07, 13, 1, 0, 0, 0]), Err(DecodeError::Value { field: "date time" }));
        assert_eq!(DateTime::decode(&[0xe2, 0x07, 1, 1, 24, 0, 0]), Err(DecodeError::Value { field: "date time" }));
    }
}
