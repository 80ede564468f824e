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

    /// Seconds since the start of 1970, by the clock that it is of; `None` where the date is unknown or on no calendar.
    ///
    /// Source: the Gregorian calendar, 400 years of which are 146,097 days.
    #[must_use]
    pub fn seconds(&self) -> Option<i64> {
        if !self.date_known() || self.day > month_days(self.year, self.month) {
            return None;
        }
        let before: u16 = (1..self.month).map(|month| u16::from(month_days(self.year, month))).sum();
        let days = days_before(self.year) + i64::from(before) + i64::from(self.day) - 1;
        let of_day = i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Some(days * DAY_SECONDS + of_day)
    }

    /// The time so many seconds after the start of 1970; `None` outside the years 1582–9999.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        let (days, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        // The year by the mean one, which is at most one off.
        let estimate = u16::try_from(1970 + days.checked_mul(400)?.div_euclid(146_097)).ok()?;
        let year = (estimate.saturating_sub(1)..=estimate.saturating_add(1)).rfind(|year| days_before(*year) <= days)?;
        if !(1582..=9999).contains(&year) {
            return None;
        }
        let mut day = u16::try_from(days - days_before(year)).ok()?;
        let mut month = 1;
        while day >= u16::from(month_days(year, month)) {
            day -= u16::from(month_days(year, month));
            month += 1;
        }
        let part = |number: i64| u8::try_from(number).ok();
        Some(Self {
            year,
            month,
            day: u8::try_from(day + 1).ok()?,
            hour: part(of_day / 3_600)?,
            minute: part(of_day / 60 % 60)?,
            second: part(of_day % 60)?,
        })
    }

    /// So many minutes later; `None` where the date is unknown, on no calendar, or would be outside it.
    #[must_use]
    pub fn plus_minutes(&self, minutes: i16) -> Option<Self> {
        Self::from_seconds(self.seconds()? + i64::from(minutes) * 60)
    }

    /// Day of the week, Monday being 1; `None` where the date is unknown or on no calendar.
    #[must_use]
    pub fn weekday(&self) -> Option<u8> {
        // 1970 began on a Thursday.
        let days = self.seconds()?.div_euclid(DAY_SECONDS);
        u8::try_from((days + 3).rem_euclid(7) + 1).ok()
    }

    /// Whether year, month and day are all known.
    #[must_use]
    pub fn date_known(&self) -> bool {
        self.year != 0 && self.month != 0 && self.day != 0
    }
}

const DAY_SECONDS: i64 = 86_400;

/// Days from the start of 1970 to the start of this year.
fn days_before(year: u16) -> i64 {
    let past = i64::from(year) - 1;
    past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) - 719_162
}

fn month_days(year: u16, month: u8) -> u8 {
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
    use crate::promises::every_cut_is_truncated;

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
        every_cut_is_truncated(&[0xe2, 0x07, 0x04, 0x11, 0x0f, 0x33, 0x00], DateTime::decode);
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
    fn known_times_are_so_many_seconds_after_1970_and_on_their_weekday() {
        for (text, octets, seconds, weekday) in [
            ("1970-01-01T00:00:00", [0xb2, 0x07, 1, 1, 0, 0, 0], 0, 4),
            ("2000-02-29T00:00:00", [0xd0, 0x07, 2, 29, 0, 0, 0], 951_782_400, 2),
            ("2024-06-15T17:17:27", [0xe8, 0x07, 6, 15, 17, 17, 27], 1_718_471_847, 6),
            ("1582-10-15T00:00:00", [0x2e, 0x06, 10, 15, 0, 0, 0], -12_219_292_800, 5),
            ("9999-12-31T23:59:59", [0x0f, 0x27, 12, 31, 23, 59, 59], 253_402_300_799, 5),
        ] {
            let time = DateTime::decode(&octets).unwrap();
            assert_eq!((time.to_string().as_str(), time.seconds(), time.weekday()), (text, Some(seconds), Some(weekday)));
            assert_eq!(DateTime::from_seconds(seconds), Some(time));
        }
    }

    #[test]
    fn a_date_that_is_unknown_or_on_no_calendar_is_no_number_of_seconds() {
        let good = DateTime { year: 2026, month: 2, day: 28, hour: 0, minute: 0, second: 0 };
        for none in [DateTime { year: 0, ..good }, DateTime { month: 0, ..good }, DateTime { day: 0, ..good }] {
            assert_eq!((none.seconds(), none.weekday()), (None, None));
        }
        assert_eq!(DateTime { day: 29, ..good }.seconds(), None);
        assert!(
            DateTime { year: 2000, day: 29, ..good }.seconds().is_some()
                && DateTime { year: 1900, day: 29, ..good }.seconds().is_none()
        );
        for seconds in [i64::MIN, -20_000_000_000, 253_402_300_800, i64::MAX] {
            assert_eq!(DateTime::from_seconds(seconds), None, "{seconds}");
        }
    }

    #[test]
    fn minutes_are_added_across_midnight_and_new_year() {
        let time = DateTime { year: 2026, month: 12, day: 31, hour: 23, minute: 59, second: 30 };
        assert_eq!(time.plus_minutes(1).unwrap().to_string(), "2027-01-01T00:00:30");
        assert_eq!(time.plus_minutes(-1_440).unwrap().to_string(), "2026-12-30T23:59:30");
        assert_eq!(DateTime { day: 0, ..time }.plus_minutes(1), None);
    }

    proptest::proptest! {
        #[test]
        fn seconds_and_dates_are_each_others(seconds in -12_219_292_800_i64..253_402_300_800) {
            proptest::prop_assert_eq!(DateTime::from_seconds(seconds).and_then(|time| time.seconds()), Some(seconds));
        }
    }
}
