//! A recording as CSV: a header row with the lead names, integers below, a row a sample and a column a lead.
//!
//! An empty cell is a missing sample. A first column `index` numbers the rows from 0; numbers left out are a hole. A derived lead
//! is `III (derived)`. Rate and scale are not in the file.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::derived_leads::marked_name;
use super::{CHANNELS_MAX, FileRecording, SAMPLES_MAX, lead_code};
use crate::decimal::Decimal;
use crate::reading::{Channel, Rate};

/// Where a CSV is none of a recording, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {expected}")]
pub struct CsvError {
    /// From 1.
    pub line: usize,
    /// What was expected.
    pub expected: &'static str,
}

const HEADER: &str = "expected a header row with lead names, such as I,II,V1,V2,V3,V4,V5,V6";
const INDEX: &str = "expected an index above that of the line before";
const CELL: &str = "expected whole numbers (digits of the device, not millivolts), or nothing where a sample is missing";
const COLUMNS: &str = "expected as many columns as the header row has";
const HOLE: &str = "the index leaves out more samples than such a file may miss; cut the recording at its holes";
const TOO_LONG: &str = "the recording is longer than one file may be; cut it into hours";

/// Samples that an index may leave out, however short the file is.
const MISSING_MAX: usize = 1_000_000;
/// A sample is at least this long: a digit and what ends its cell. An index may leave out nine times as many as there can be.
const SAMPLE_OCTETS_MIN: usize = 2;
const MISSING_TIMES_MAX: usize = 9;

/// Decodes a CSV whose rate and scale are known from elsewhere.
///
/// Shape: module documentation. Units: `scale` × `unit` a digit. Errors: [`CsvError`] with the line.
/// Source: RFC 4180; this project.
pub fn decode(text: &str, rate: Rate, scale: Decimal, unit: &'static str) -> Result<FileRecording, CsvError> {
    let mut lines = (1..).zip(text.trim_start_matches('\u{feff}').lines());
    let error = |line: usize, expected: &'static str| CsvError { line, expected };
    let (_, header) = lines.next().ok_or(error(1, HEADER))?;
    let names: Vec<&str> = header.split(',').map(|name| name.trim().trim_matches('"')).collect();
    let indexed = names.first().is_some_and(|name| name.eq_ignore_ascii_case("index"));
    let channel = |name: &&str| {
        let lead = name.trim_end_matches("(derived)");
        let filter = if lead == *name { String::new() } else { String::from("derived from others") };
        lead_code(lead).map(|code| Channel { code, scale, unit, filter })
    };
    let channels: Option<Vec<Channel>> = names.iter().skip(usize::from(indexed)).map(channel).collect();
    let channels = channels.filter(|channels| (1..=CHANNELS_MAX).contains(&channels.len())).ok_or(error(1, HEADER))?;
    let width = channels.len();
    let missing_max = text.len() / SAMPLE_OCTETS_MIN * MISSING_TIMES_MAX + MISSING_MAX;
    let mut missing = 0;
    let mut samples: Vec<Option<i32>> = Vec::new();
    for (line, row) in lines {
        let mut cells = row.split(',').map(str::trim);
        if indexed {
            let index: usize = cells.next().and_then(|cell| cell.parse().ok()).ok_or(error(line, INDEX))?;
            if index < samples.len() / width {
                return Err(error(line, INDEX));
            }
            if index > SAMPLES_MAX / width {
                return Err(error(line, TOO_LONG));
            }
            missing += index * width - samples.len();
            if missing > missing_max {
                return Err(error(line, HOLE));
            }
            samples.resize(index * width, None);
        }
        let before = samples.len();
        for cell in cells {
            let sample = if cell.is_empty() { None } else { Some(cell.parse().map_err(|_| error(line, CELL))?) };
            samples.push(sample);
        }
        if samples.len() - before != width {
            return Err(error(line, COLUMNS));
        }
        if samples.len() > SAMPLES_MAX {
            return Err(error(line, TOO_LONG));
        }
    }
    if samples.is_empty() { Err(error(2, CELL)) } else { Ok(FileRecording { device_time: None, rate, channels, samples }) }
}

/// Encodes a recording, without an index.
#[must_use]
pub fn encode(recording: &FileRecording) -> String {
    let mut text = recording.channels.iter().map(marked_name).collect::<Vec<_>>().join(",");
    text.push('\n');
    for row in recording.samples.chunks(recording.channels.len().max(1)) {
        for (at, sample) in row.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            if let Some(sample) = sample {
                text.push_str(&sample.to_string());
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    const RATE: Rate = Rate { samples: 500, seconds: 1 };

    fn read(text: &str) -> Result<FileRecording, CsvError> {
        decode(text, RATE, Decimal::whole(5), "uV")
    }

    #[test]
    fn an_index_that_jumps_is_a_hole() {
        let recording = read("index,I,V1\r\n0,1,2\r\n3,,4\r\n").unwrap();
        assert_eq!(recording.samples, [Some(1), Some(2), None, None, None, None, None, Some(4)]);
        assert_eq!(encode(&recording), "I,V1\n1,2\n,\n,\n,4\n");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, expected) in [
            ("", 1, HEADER),
            ("1,2\n3,4\n", 1, HEADER),
            ("I,Fpz\n1,2\n", 1, HEADER),
            ("index\n1\n", 1, HEADER),
            ("I,II\n", 2, CELL),
            ("I,II\n1,2\n1\n", 3, COLUMNS),
            ("I,II\n1,2\n1,2,3\n", 3, COLUMNS),
            ("I,II\n1,0.25\n", 2, CELL),
            ("index,I\n1,2\n1,3\n", 3, INDEX),
            ("index,I\nx,2\n", 2, INDEX),
            ("index,I\n99999999999,2\n", 2, TOO_LONG),
            ("index,I\n0,1\n29000000,2\n", 3, HOLE),
            ("index,I\n600000,1\n1200000,2\n", 3, HOLE),
        ] {
            assert_eq!(read(text), Err(CsvError { line, expected }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec(proptest::option::weighted(0.8, any::<i32>()), 1..60), wide in any::<bool>()) {
            let header = if wide { "I,II" } else { "V6" };
            let width = if wide { 2 } else { 1 };
            let mut samples = samples;
            samples.resize(samples.len().next_multiple_of(width), None);
            let recording = FileRecording { samples, ..read(&format!("{header}\n{}\n", if wide { "0,0" } else { "0" })).unwrap() };
            prop_assert_eq!(read(&encode(&recording)), Ok(recording));
        }

        #[test]
        fn no_text_panics(text in "[I,V1-9\n x\"index]{0,80}") {
            let _ = read(&text);
        }
    }
}
