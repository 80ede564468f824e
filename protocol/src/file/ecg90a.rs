//! Recordings of the Contec ECG90A: eight leads, 800 Hz, 5 uV a digit.
//!
//! Source: ecg-contec b4af68c (header, leads, scale, the row of zeros that ends the data), seen in its recording 0000053.ECG.
//! The format has no checksum and no length: a file that was cut shows by the missing footer, a turned bit does not show.

use alloc::string::String;
use alloc::vec::Vec;

use super::{FileError, FileRecording, NotEncodable};
use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::{Channel, Rate};

/// Its leads; I and the augmented ones are derived from the first two.
pub const LEADS: [Mdc; CHANNELS] =
    [Mdc::ECG_II, Mdc::ECG_III, Mdc::ECG_V1, Mdc::ECG_V2, Mdc::ECG_V3, Mdc::ECG_V4, Mdc::ECG_V5, Mdc::ECG_V6];
/// Samples a second.
pub const RATE: Rate = Rate { samples: 800, seconds: 1 };
/// What the device writes where it has no sample, as a digit like the others.
pub const MISSING: i32 = 0x6800 - ZERO;

const CHANNELS: usize = 8;
/// The sample that means 0 uV.
const ZERO: i32 = 2048;
const HEADER_OCTETS: usize = 43;
const FOOTER_OCTETS: usize = 37;
const ROW_OCTETS: usize = 2 * CHANNELS;
/// Where the time stands, and how long it is with the zero after it.
const TIME_AT: usize = 10;
const TIME_OCTETS: usize = 20;

/// What a file says of itself, without its samples: a long one is read row by row ([`row`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// When it began, by the device's clock; `None` where that is not set.
    pub device_time: Option<DateTime>,
    /// Rows of samples.
    pub rows: usize,
}

/// Whether octets begin as such a file does; the format has no mark but the time in its header.
#[must_use]
pub fn begins(octets: &[u8]) -> bool {
    octets.get(TIME_AT..TIME_AT + TIME_OCTETS).is_some_and(|text| time(text).is_ok())
}

/// Reads what a file says of itself, and checks that it is whole.
///
/// Shape: case number, text ended by zero (8) · unknown (2) · time `YYYY-MM-DD HH:MM:SS`, ended by zero (20) · unknown (2) ·
/// name, sex, age and weight (11), never taken in · rows of 8 × u16 · footer (37), which begins with a row of zeros;
/// little-endian.
/// Units: a sample less 2048 is digits of 5 uV; 0x6800 is none.
/// Errors: [`DecodeError::Truncated`] where header or footer is missing, [`DecodeError::Trailing`] behind the footer,
/// [`DecodeError::Value`] for another time or no row.
/// Source: see the module.
pub fn contents(octets: &[u8]) -> Result<Contents, FileError> {
    let mut r = Reader::new(octets);
    let header = r.take(HEADER_OCTETS, "header")?;
    let text = header.get(TIME_AT..TIME_AT + TIME_OCTETS).unwrap_or_default();
    let device_time = Some(time(text)?).filter(DateTime::date_known);
    let ends = r.rest().chunks_exact(ROW_OCTETS).position(|row| row.iter().all(|octet| *octet == 0));
    let rows = ends.ok_or(DecodeError::Truncated { field: "footer" })?;
    r.take(rows.saturating_mul(ROW_OCTETS), "rows")?;
    r.take(FOOTER_OCTETS, "footer")?;
    r.finish()?;
    if rows == 0 {
        return Err(DecodeError::Value { field: "number of rows" }.into());
    }
    Ok(Contents { device_time, rows })
}

/// One row of a file; `None` where there is none.
#[must_use]
pub fn row(octets: &[u8], index: usize) -> Option<[Option<i32>; CHANNELS]> {
    let start = HEADER_OCTETS.checked_add(index.checked_mul(ROW_OCTETS)?)?;
    let mut r = Reader::new(octets.get(start..start.checked_add(ROW_OCTETS)?)?);
    let mut samples = [None; CHANNELS];
    for sample in &mut samples {
        let digit = i32::from(r.u16("sample").ok()?) - ZERO;
        *sample = Some(digit).filter(|digit| *digit != MISSING);
    }
    Some(samples)
}

/// The channels of every such file.
#[must_use]
pub fn channels() -> Vec<Channel> {
    let channel = |code| Channel { code, scale: Decimal::whole(5), unit: "uV", filter: String::new() };
    LEADS.into_iter().map(channel).collect()
}

/// Decodes a whole file. Shape, units, errors and source: see [`contents`].
pub fn decode(octets: &[u8]) -> Result<FileRecording, FileError> {
    let Contents { device_time, rows } = contents(octets)?;
    let samples = (0..rows).filter_map(|index| row(octets, index)).flatten().collect();
    Ok(FileRecording { device_time, rate: RATE, channels: channels(), samples })
}

/// The octets of a recording under a case number (seven digits), with no name, sex, age or weight.
///
/// Errors: [`NotEncodable`] for other leads, rate or scale, for a sample that does not fit 16 bits or would mean none, and for
/// a row that would read as the end.
pub fn encode(recording: &FileRecording, case: u32) -> Result<Vec<u8>, NotEncodable> {
    if recording.channels != channels() || recording.rate != RATE {
        return Err(NotEncodable("other leads, rate or scale than the device's own"));
    }
    if case > 9_999_999 {
        return Err(NotEncodable("a case number of more than seven digits"));
    }
    let unset = DateTime { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
    let DateTime { year, month, day, hour, minute, second } = recording.device_time.unwrap_or(unset);
    let mut octets =
        alloc::format!("{case:07}\0\0\0{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}").into_bytes();
    octets.resize(HEADER_OCTETS - 3, 0);
    octets.extend([0xff, 0, 0]);
    for row in recording.samples.chunks(CHANNELS) {
        let start = octets.len();
        for sample in row {
            octets.extend(word(*sample)?.to_le_bytes());
        }
        let written = octets.get(start..).unwrap_or_default();
        if written.len() != ROW_OCTETS || written.iter().all(|octet| *octet == 0) {
            return Err(NotEncodable("a row that is not whole, or reads as the end"));
        }
    }
    octets.resize(octets.len() + FOOTER_OCTETS, 0);
    Ok(octets)
}

fn word(sample: Option<i32>) -> Result<u16, NotEncodable> {
    let wide = NotEncodable("a sample outside 16 bits, or one that would mean none");
    match sample {
        Some(MISSING) => Err(wide),
        _ => u16::try_from(sample.unwrap_or(MISSING).saturating_add(ZERO)).map_err(|_| wide),
    }
}

/// `YYYY-MM-DD HH:MM:SS` and a zero.
fn time(text: &[u8]) -> Result<DateTime, DecodeError> {
    let mut r = Reader::new(text);
    let time = DateTime {
        year: digits(&mut r, 4, b'-')?,
        month: narrow(digits(&mut r, 2, b'-')?),
        day: narrow(digits(&mut r, 2, b' ')?),
        hour: narrow(digits(&mut r, 2, b':')?),
        minute: narrow(digits(&mut r, 2, b':')?),
        second: narrow(digits(&mut r, 2, 0)?),
    };
    // The ranges are the characteristic's.
    DateTime::decode(&time.encode())
}

fn narrow(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn digits(r: &mut Reader<'_>, count: usize, end: u8) -> Result<u16, DecodeError> {
    let mut number = 0;
    for octet in r.take(count, "time")? {
        let digit = octet.checked_sub(b'0').filter(|digit| *digit <= 9).ok_or(DecodeError::Value { field: "time" })?;
        number = number * 10 + u16::from(digit);
    }
    if r.u8("time")? == end { Ok(number) } else { Err(DecodeError::Value { field: "time" }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::{hex, octets, vectors};

    fn file(rows: &str) -> Vec<u8> {
        let mut file = octets("30303030303533000000323032302d31312d32342030373a31393a31330000000000000000000000ff0000");
        file.extend(octets(rows));
        file.extend([0; FOOTER_OCTETS]);
        file
    }

    fn recorded(samples: Vec<Option<i32>>) -> FileRecording {
        let device_time = DateTime { year: 2020, month: 11, day: 24, hour: 7, minute: 19, second: 13 };
        FileRecording { device_time: Some(device_time), rate: RATE, channels: channels(), samples }
    }

    #[test]
    fn captured_rows_decode_and_encode() {
        for v in vectors(include_str!("../../vectors/ecg90a_rows.txt")) {
            let file = file(&hex(&v.octets));
            let recording = decode(&file).unwrap();
            let samples: Vec<_> = recording.samples.iter().map(|s| s.map_or("-".into(), |s| std::format!("{s}"))).collect();
            assert_eq!(samples.join(" "), v.expected, "{}", v.id);
            assert_eq!(recording.device_time.unwrap().to_string(), "2020-11-24T07:19:13");
            assert_eq!(encode(&recording, 53).unwrap(), file, "{}", v.id);
        }
    }

    #[test]
    fn nothing_of_the_person_is_taken_in() {
        let mut named = file("de07fe07fb07ec07e807bb07ed07e707");
        named[32..43].copy_from_slice(b"ROSSI M\0\x01\x48\x50");
        assert_eq!(decode(&named), decode(&file("de07fe07fb07ec07e807bb07ed07e707")));
    }

    #[test]
    fn every_truncated_length_and_every_appended_octet_is_refused() {
        let file = file(&"de07fe07fb07ec07e807bb07ed07e707".repeat(5));
        for length in 0..file.len() {
            assert!(matches!(decode(&file[..length]), Err(FileError::Octets(DecodeError::Truncated { .. }))), "{length}");
        }
        for more in 1..20 {
            let longer = [&file[..], &vec![1; more]].concat();
            assert_eq!(decode(&longer), Err(DecodeError::Trailing { octets: more }.into()));
        }
    }

    #[test]
    fn a_file_without_rows_or_with_another_time_is_refused() {
        assert_eq!(decode(&file("")), Err(DecodeError::Value { field: "number of rows" }.into()));
        for (at, with) in [(10, b'x'), (14, b'/'), (16, b'3'), (29, b'0')] {
            let mut other = file("de07fe07fb07ec07e807bb07ed07e707");
            other[at] = with;
            assert!(matches!(decode(&other), Err(FileError::Octets(DecodeError::Value { .. }))), "{at}");
            assert!(!begins(&other));
        }
        let mut unset = file("de07fe07fb07ec07e807bb07ed07e707");
        unset[10..29].copy_from_slice(b"0000-00-00 00:00:00");
        assert_eq!(decode(&unset).unwrap().device_time, None);
        assert!(begins(&unset));
    }

    #[test]
    fn what_the_format_cannot_hold_is_not_written() {
        let other_rate = FileRecording { rate: Rate { samples: 500, seconds: 1 }, ..recorded(vec![Some(1); 8]) };
        assert!(encode(&other_rate, 1).is_err());
        for samples in [vec![Some(1); 7], vec![Some(-ZERO); 8], vec![Some(MISSING); 8], vec![Some(70_000); 8]] {
            assert!(encode(&recorded(samples), 1).is_err());
        }
        assert!(encode(&recorded(vec![Some(1); 8]), 10_000_000).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(rows in prop::collection::vec(prop::array::uniform8(prop::option::of(-2047_i32..=2047)), 1..40)) {
            let recording = recorded(rows.concat());
            prop_assert_eq!(decode(&encode(&recording, 7).unwrap()), Ok(recording));
        }

        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..200), rows in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&octets);
            let _ = decode(&file(&hex(&rows)));
        }
    }
}
