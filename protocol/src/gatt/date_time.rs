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

    /// Seconds since the start of 2000, negative before it; `None` where the date is unknown or on no calendar.
    #[must_use]
    pub fn seconds_since_2000(&self) -> Option<i64> {
        if !self.date_known() || self.day > month_days(self.year, self.month) {
            return None;
        }
        let (year, month) = (i64::from(self.year), i64::from(self.month));
        // Years that begin in March end with the leap day.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let leap_days = year / 4 - year / 100 + year / 400;
        let days = year * 365 + leap_days + (month * 153 + 2) / 5 + i64::from(self.day) - 1;
        let of_day = i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Some((days - DAYS_TO_2000) * DAY_SECONDS + of_day)
    }

    /// The date and time so many seconds after the start of 2000; `None` outside the years 1582–9999.
    #[must_use]
    pub fn from_seconds_since_2000(seconds: i64) -> Option<Self> {
        let (day, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        let days = day.checked_add(DAYS_TO_2000)?;
        let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
        let month = (of_year * 5 + 2) / 153;
        let (year, civil_month) = (year_of_era + era * 400, if month < 10 { month + 3 } else { month - 9 });
        let year = if civil_month > 2 { year } else { year + 1 };
        let small = |number: i64| u8::try_from(number).ok();
        Some(Self {
            year: u16::try_from(year).ok().filter(|year| (1_582..=9_999).contains(year))?,
            month: small(civil_month)?,
            day: small(of_year - (month * 153 + 2) / 5 + 1)?,
            hour: small(of_day / 3_600)?,
            minute: small(of_day / 60 % 60)?,
            second: small(of_day % 60)?,
        })
    }

    /// So many minutes later; `None` where the date is unknown, on no calendar, or would be outside it.
    #[must_use]
    pub fn plus_minutes(&self, minutes: i16) -> Option<Self> {
        Self::from_seconds_since_2000(self.seconds_since_2000()? + i64::from(minutes) * 60)
    }

    /// Whether year, month and day are all known.
    #[must_use]
    pub fn date_known(&self) -> bool {
        self.year != 0 && self.month != 0 && self.day != 0
    }
}

const DAY_SECONDS: i64 = 86_400;
/// Days of the 400 years after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from the start of March of the year 0 to the start of 2000.
const DAYS_TO_2000: i64 = 730_425;

const fn month_days(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
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

    #[test]
    fn seconds_since_2000_are_those_of_the_calendar() {
        let at = |year, month, day| DateTime { year, month, day, hour: 0, minute: 0, second: 0 };
        for (time, seconds) in [
            (at(2000, 1, 1), 0),
            (at(2000, 2, 29), 59 * 86_400),
            (at(2000, 3, 1), 60 * 86_400),
            (at(1999, 12, 31), -86_400),
            (at(1970, 1, 1), -946_684_800),
            (DateTime { hour: 6, minute: 26, second: 46, ..at(2023, 5, 24) }, 738_224_806),
        ] {
            assert_eq!(time.seconds_since_2000(), Some(seconds), "{time}");
            assert_eq!(DateTime::from_seconds_since_2000(seconds), Some(time));
        }
        for none in [at(0, 1, 1), at(2026, 0, 1), at(2026, 1, 0), at(2026, 2, 29), at(1900, 2, 29), at(2026, 4, 31)] {
            assert_eq!(none.seconds_since_2000(), None, "{none}");
        }
        assert_eq!(DateTime::from_seconds_since_2000(i64::MAX), None);
        assert_eq!(DateTime::from_seconds_since_2000(i64::MIN), None);
    }

    #[test]
    fn every_day_of_five_centuries_comes_back() {
        for day in -36_525..146_097 {
            let seconds = day * 86_400 + 3_661;
            let time = DateTime::from_seconds_since_2000(seconds).unwrap();
            assert_eq!(time.seconds_since_2000(), Some(seconds), "{time}");
        }
    }

    #[test]
    fn minutes_are_added_across_midnight_and_new_year() {
        let time = DateTime { year: 2026, month: 12, day: 31, hour: 23, minute: 59, second: 30 };
        assert_eq!(time.plus_minutes(1).unwrap().to_string(), "2027-01-01T00:00:30");
        assert_eq!(time.plus_minutes(-1_440).unwrap().to_string(), "2026-12-30T23:59:30");
        assert_eq!(DateTime { day: 0, ..time }.plus_minutes(1), None);
    }
}
