//! A real-time clock chip's idea of civil time: seconds since the start of 2000, and back to a date.

use kit_protocol::gatt::date_time::DateTime;

/// 2000-01-01T00:00:00 in seconds since 1970.
pub const SECONDS_1970_TO_2000: u64 = 946_684_800;

const DAY_SECONDS: u64 = 86_400;

/// The date and time of day `seconds` after the start of 2000; good until the end of 2099, the span of such chips.
#[must_use]
pub fn civil(seconds: u64) -> DateTime {
    let (mut days, second_of_day) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let mut year: u16 = 2000;
    while year < 2099 && days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let mut month: u8 = 1;
    while month < 12 && days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    let small = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    DateTime {
        year,
        month,
        day: small((days + 1).min(31)),
        hour: small(second_of_day / 3600),
        minute: small(second_of_day / 60 % 60),
        second: small(second_of_day % 60),
    }
}

/// Seconds since the start of 2000; `None` for a date that is unknown, before 2000, after 2099 or on no calendar.
#[must_use]
pub fn seconds(date_time: &DateTime) -> Option<u64> {
    let DateTime { year, month, day, hour, minute, second } = *date_time;
    if !(2000..=2099).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    if day == 0 || u64::from(day) > month_days(year, month) {
        return None;
    }
    let days: u64 = (2000..year).map(year_days).sum::<u64>() + (1..month).map(|m| month_days(year, m)).sum::<u64>();
    let of_day = u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);
    Some((days + u64::from(day) - 1) * DAY_SECONDS + of_day)
}

fn leap(year: u16) -> bool {
    // Every fourth year is one from 2000 to 2099.
    year.is_multiple_of(4)
}

fn year_days(year: u16) -> u64 {
    if leap(year) { 366 } else { 365 }
}

fn month_days(year: u16, month: u8) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_convert_both_ways() {
        for (unix, text) in [
            (946_684_800, "2000-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_718_471_847, "2024-06-15T17:17:27"),
            (1_795_305_599, "2026-11-21T23:59:59"),
            (4_102_444_799, "2099-12-31T23:59:59"),
        ] {
            let since_2000 = unix - SECONDS_1970_TO_2000;
            assert_eq!(civil(since_2000).to_string(), text);
            assert_eq!(seconds(&civil(since_2000)), Some(since_2000));
        }
    }

    #[test]
    fn every_day_of_the_century_comes_back() {
        for day in 0..36_525 {
            let at = day * DAY_SECONDS + 3_661;
            assert_eq!(seconds(&civil(at)), Some(at));
        }
    }

    #[test]
    fn dates_that_are_none_are_refused() {
        let good = civil(0);
        for bad in [
            DateTime { year: 0, ..good },
            DateTime { month: 0, ..good },
            DateTime { day: 0, ..good },
            DateTime { month: 2, day: 30, ..good },
            DateTime { year: 2100, ..good },
        ] {
            assert_eq!(seconds(&bad), None);
        }
    }
}
