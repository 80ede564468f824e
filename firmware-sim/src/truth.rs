//! What was really put on the link, one JSON object a line, each written whole and at once.
//!
//! A stream gives `{"samples":{"device","kind","channels","rate","boottime_ns","first_counter","delivered","rows"}}` about
//! every half second: `channels` are MDC codes, `rate` is samples a second, `boottime_ns` is when the first row was put on
//! the link (CLOCK_BOOTTIME), `first_counter` the device's own number of it or null, `delivered` whether the link took every
//! frame of these rows unharmed (a row that nobody listened to, or that a fault swallowed, was made all the same); with
//! `"stored":true` they are out of a memory, and `measured_ns` is when the first was measured; `gathered_ms` is over how long
//! samples may have been made that were sent together.
//! A spot device gives `{"reading":{…},"boottime_ns","measured_ns","delivered"}`, the reading in the project's one JSON
//! shape: with true when the other end has confirmed the whole of it, with false at the end for what it never did.
//! A file gives `{"file":{"name","format","channels","rate","unit","scale","rows"}}` before it is written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kit_protocol::json::{Line, ReadingLine};
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Kind, Measured};
use serde_json::json;

use crate::clock;
use crate::firmware::calendar::SECONDS_1970_TO_2000;

/// A run of rows is written at the latest after this long.
const CHUNK: Duration = Duration::from_millis(500);
/// A row further than this from where the run's rate puts it begins a run of its own.
const DRIFT_MAX: Duration = Duration::from_millis(50);

/// Where the truth goes; devices of one process may share it.
#[derive(Clone, Debug, Default)]
pub struct Truth(Option<Arc<Mutex<File>>>);

impl Truth {
    /// Nowhere.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// To the end of this file.
    ///
    /// Errors: it cannot be opened.
    pub fn to(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// A spot measurement: delivered at `at`, or never.
    ///
    /// Errors: the line cannot be written.
    pub fn reading(&self, driver: &str, device: &str, measured: &Measured, at: Moment, delivered: bool) -> io::Result<()> {
        let line = Line::Reading(Box::new(ReadingLine::measured(driver, Some(device), measured)));
        let mut value: serde_json::Value = serde_json::from_str(&line.to_json())?;
        if let Some(object) = value.as_object_mut() {
            object.insert("boottime_ns".to_owned(), at.as_nanos().into());
            object.insert("measured_ns".to_owned(), measured.received.as_nanos().into());
            object.insert("delivered".to_owned(), delivered.into());
        }
        self.line(&value)
    }

    pub(crate) fn line(&self, value: &serde_json::Value) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut line = value.to_string();
        line.push('\n');
        file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// What a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// The device's name.
    pub device: String,
    /// The kind, in kebab-case.
    pub kind: &'static str,
    /// MDC codes.
    pub channels: Vec<u32>,
    /// Samples a second.
    pub rate_hz: u32,
    /// Samples that are sent together were made over so long at most: no time beside them is exacter.
    pub gathers: Duration,
}

impl StreamHead {
    /// Whether it is out of a memory, whose rows are sent again with every download: no live waveform is of this kind.
    fn is_stored(&self) -> bool {
        self.kind == Kind::PulseOximetry.name()
    }
}

/// When a row of a memory was measured: its number is its second since 2000, by a clock that is right.
fn measured(row: &Row) -> Option<u64> {
    let second = u64::from(row.counter?) + SECONDS_1970_TO_2000;
    Some((row.at - Duration::from_secs(clock::wall_seconds().saturating_sub(second))).as_nanos())
}

/// One row as it went onto the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When.
    pub at: Moment,
    /// The device's own number of it.
    pub counter: Option<u32>,
    /// One integer a channel.
    pub values: Vec<i32>,
    /// Whether the link took it whole and unharmed.
    pub delivered: bool,
}

/// A stream's truth, gathered into runs.
#[derive(Debug)]
pub struct Stream {
    truth: Truth,
    head: StreamHead,
    rows: Vec<Row>,
}

impl Stream {
    /// A stream's truth, empty.
    #[must_use]
    pub const fn new(truth: Truth, head: StreamHead) -> Self {
        Self { truth, head, rows: Vec::new() }
    }

    /// Takes in the next row.
    ///
    /// Errors: the run before it cannot be written.
    pub fn push(&mut self, row: Row) -> io::Result<()> {
        if !self.continues(&row) {
            self.flush()?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Writes what was gathered.
    ///
    /// Errors: it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let Some(first) = rows.first() else { return Ok(()) };
        let values: Vec<&Vec<i32>> = rows.iter().map(|row| &row.values).collect();
        self.truth.line(&json!({"samples": {
            "device": self.head.device,
            "kind": self.head.kind,
            "channels": self.head.channels,
            "rate": self.head.rate_hz,
            "boottime_ns": first.at.as_nanos(),
            "first_counter": first.counter,
            "delivered": first.delivered,
            "stored": self.head.is_stored(),
            "measured_ns": self.head.is_stored().then(|| measured(first)).flatten(),
            "gathered_ms": u64::try_from(self.head.gathers.as_millis()).unwrap_or(u64::MAX),
            "rows": values,
        }}))
    }

    /// Whether the row belongs to the run: next number, same fate, about when the rate says, and not too many yet.
    fn continues(&self, row: &Row) -> bool {
        let Some(first) = self.rows.first() else { return true };
        let Ok(count) = u32::try_from(self.rows.len()) else { return false };
        let span = Duration::from_secs(1) * count / self.head.rate_hz.max(1);
        let expected = first.at + span;
        let drift = expected.since(row.at).max(row.at.since(expected));
        span < CHUNK
            && drift <= DRIFT_MAX
            && row.delivered == first.delivered
            && row.counter == first.counter.map(|counter| counter.wrapping_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(file: &Path) -> Stream {
        let head =
            StreamHead { device: "d".to_owned(), kind: "pleth", channels: vec![150_452], rate_hz: 75, gathers: Duration::ZERO };
        Stream::new(Truth::to(file).unwrap(), head)
    }

    fn row(index: u32, counter: Option<u32>, delivered: bool) -> Row {
        let at = Moment::from_nanos(5_000_000_000) + Duration::from_secs(1) * index / 75;
        Row { at, counter, values: vec![i32::try_from(index).unwrap()], delivered }
    }

    fn lines(file: &Path) -> Vec<serde_json::Value> {
        std::fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn runs_are_cut_where_number_or_fate_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("truth");
        let mut stream = stream(&file);
        for index in 0..30 {
            let counter = if index < 10 { index } else { index + 100 };
            stream.push(row(index, Some(counter), index < 20)).unwrap();
        }
        stream.flush().unwrap();
        let runs = lines(&file);
        let shape: Vec<_> = runs
            .iter()
            .map(|run| {
                let samples = &run["samples"];
                (samples["first_counter"].as_u64(), samples["delivered"].as_bool(), samples["rows"].as_array().unwrap().len())
            })
            .collect();
        assert_eq!(shape, [(Some(0), Some(true), 10), (Some(110), Some(true), 10), (Some(120), Some(false), 10)]);
    }

    #[test]
    fn a_run_is_written_within_half_a_second_and_loses_no_row() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("truth");
        let mut stream = stream(&file);
        for index in 0..200 {
            stream.push(row(index, None, true)).unwrap();
        }
        stream.flush().unwrap();
        let runs = lines(&file);
        assert!(runs.iter().all(|run| run["samples"]["rows"].as_array().unwrap().len() <= 38));
        let values: Vec<u64> = runs
            .iter()
            .flat_map(|run| run["samples"]["rows"].as_array().unwrap().iter().map(|row| row[0].as_u64().unwrap()))
            .collect();
        assert_eq!(values, (0..200).collect::<Vec<_>>());
        assert_eq!(runs[1]["samples"]["boottime_ns"], 5_000_000_000_u64 + 38 * 13_333_333 + 12);
    }
}
