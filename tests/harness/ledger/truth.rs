//! What was really there: the lines a simulated device writes, one JSON object each.
//!
//! `{"reading":{…},"boottime_ns":n,"measured_ns":n,"delivered":true}` is a spot measurement, put on the link and measured then; `{"samples":{"device","kind","channels","rate",
//! "boottime_ns","first_counter","delivered","rows":[[…]]}}` is a run of a stream's samples, a row for each moment and in it an
//! integer for each channel; with `"stored":true` they are out of a memory, which sends them with every download, and the first was measured at `measured_ns`; `gathered_ms` is
//! over how long samples may have been made that were sent together; `delivered` is whether somebody listened and no fault harmed them (they were made all the same).

use std::collections::BTreeMap;

use serde_json::Value;

use super::units;

/// What a reading says, as far as two that say the same are the same: kind, values with their digits, the device's own time and
/// number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Measurement {
    /// The kind, kebab-case.
    pub kind: String,
    /// MDC code, decimal text (or `absent: why`), unit.
    pub values: Vec<(u64, String, String)>,
    /// The device's own time, as it sent it.
    pub device_time: Option<String>,
    /// The device's own record number.
    pub record: Option<u64>,
}

impl Measurement {
    /// Takes it from the one JSON shape of readings; `None` where a field is missing or of another type.
    #[must_use]
    pub fn from_json(reading: &Value) -> Option<Self> {
        let values = reading.get("values")?.as_array()?.iter().map(|value| {
            let text = match value.get("value") {
                Some(Value::String(text)) => text.clone(),
                _ => format!("absent: {}", value.get("absent").and_then(Value::as_str).unwrap_or("unknown")),
            };
            let unit = value.get("unit").and_then(Value::as_str).unwrap_or_default();
            Some((value.get("code")?.as_u64()?, text, unit.to_owned()))
        });
        Some(Self {
            kind: reading.get("kind")?.as_str()?.to_owned(),
            values: values.collect::<Option<Vec<_>>>()?,
            device_time: reading.get("device_time").and_then(Value::as_str).map(str::to_owned),
            record: reading.get("record").and_then(Value::as_u64),
        })
    }

    /// What stands for a stored reading that could not be taken apart; it equals nothing that was made.
    #[must_use]
    pub fn unreadable() -> Self {
        Self { kind: "unreadable".to_owned(), values: Vec::new(), device_time: None, record: None }
    }

    /// The device named it by number or time, so that a second one is the same one.
    #[must_use]
    pub fn named(&self) -> bool {
        self.device_time.is_some() || self.record.is_some()
    }
}

/// A spot measurement that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeReading {
    /// The device.
    pub device: String,
    /// What it says.
    pub measurement: Measurement,
    /// When it was put on the link, ns of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// When it was measured: before that, by as long as it waited in the device's memory.
    pub measured_ns: u64,
    /// Wholly delivered on an open link.
    pub delivered: bool,
}

/// Which stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// The device.
    pub device: String,
    /// The kind of waveform, kebab-case.
    pub kind: String,
}

/// Every sample a stream put on the link, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Integers of one sample.
    pub channels: usize,
    /// When each sample was sent, ns of CLOCK_BOOTTIME.
    pub boottimes_ns: Vec<u64>,
    /// The device's counter at each sample; empty where it sends none.
    pub counters: Vec<u64>,
    /// When each sample was measured, ns of CLOCK_BOOTTIME: before it was sent, by as long as it waited in a memory.
    pub measured_ns: Vec<u64>,
    /// Over how long samples may have been made that were sent together, ns.
    pub gathered_ns: u64,
    /// Whether the link took each sample whole.
    pub delivered: Vec<bool>,
    /// Interleaved samples.
    pub values: Vec<i32>,
}

impl Stream {
    /// Samples (per channel).
    #[must_use]
    pub fn len(&self) -> usize {
        self.boottimes_ns.len()
    }

    /// Whether nothing was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.boottimes_ns.is_empty()
    }

    /// A memory sends what it holds with every download: it is one row, delivered if it was once.
    fn sent_again(&mut self, counter: Option<u64>, delivered: bool) -> bool {
        let known = counter.and_then(|counter| self.counters.iter().rposition(|known| *known == counter));
        let Some(known) = known.and_then(|known| self.delivered.get_mut(known)) else { return false };
        *known |= delivered;
        true
    }

    /// The integers of `count` samples from `first` on; `None` past the end.
    #[must_use]
    pub fn run(&self, first: usize, count: usize) -> Option<&[i32]> {
        self.values.get(first.checked_mul(self.channels)?..first.checked_add(count)?.checked_mul(self.channels)?)
    }
}

/// What the devices made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Spot measurements.
    pub readings: Vec<MadeReading>,
    /// Streams.
    pub streams: BTreeMap<StreamName, Stream>,
}

/// Why a truth file was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("truth of {device}, line {line}: {what}")]
pub struct TruthError {
    /// The device.
    pub device: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Truth {
    /// Adds the lines of one device's file; `device` is the name the kit knows it by, whatever the file calls it.
    ///
    /// A last line without its end was cut off with the simulator and is left out.
    pub fn add(&mut self, device: &str, text: &str) -> Result<(), TruthError> {
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        for (index, line) in whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what| TruthError { device: device.to_owned(), line: index + 1, what };
            let value: Value = serde_json::from_str(line).map_err(|_| wrong("not JSON"))?;
            if let Some(reading) = value.get("reading") {
                let boottime_ns = value.get("boottime_ns").and_then(Value::as_u64).ok_or(wrong("no boottime_ns"))?;
                self.readings.push(MadeReading {
                    device: device.to_owned(),
                    measurement: Measurement::from_json(reading).ok_or(wrong("not a reading"))?,
                    boottime_ns,
                    measured_ns: value.get("measured_ns").and_then(Value::as_u64).unwrap_or(boottime_ns),
                    delivered: value.get("delivered").and_then(Value::as_bool).ok_or(wrong("no delivered"))?,
                });
            } else if let Some(samples) = value.get("samples") {
                self.add_samples(device, samples).map_err(wrong)?;
            } else {
                return Err(wrong("neither reading nor samples"));
            }
        }
        Ok(())
    }

    fn add_samples(&mut self, device: &str, samples: &Value) -> Result<(), &'static str> {
        let kind = samples.get("kind").and_then(Value::as_str).ok_or("no kind")?.to_owned();
        let rate = samples.get("rate").and_then(Value::as_f64).filter(|rate| *rate > 0.0).ok_or("no rate")?;
        let boottime_ns = samples.get("boottime_ns").and_then(Value::as_u64).ok_or("no boottime_ns")?;
        let first_counter = samples.get("first_counter").and_then(Value::as_u64);
        let stored = samples.get("stored").and_then(Value::as_bool).unwrap_or(false);
        let measured_ns = samples.get("measured_ns").and_then(Value::as_u64).unwrap_or(boottime_ns);
        let gathered_ms = samples.get("gathered_ms").and_then(Value::as_u64).unwrap_or(0);
        let delivered = samples.get("delivered").and_then(Value::as_bool).ok_or("no delivered")?;
        let rows = samples.get("rows").and_then(Value::as_array).ok_or("no rows")?;
        let stream = self.streams.entry(StreamName { device: device.to_owned(), kind }).or_default();
        stream.gathered_ns = gathered_ms.saturating_mul(1_000_000);
        let period = std::time::Duration::from_secs_f64(1.0 / rate);
        for (index, row) in rows.iter().enumerate() {
            let row = row.as_array().ok_or("a row is not a list")?;
            if stream.is_empty() {
                stream.channels = row.len();
            }
            if row.len() != stream.channels || row.is_empty() {
                return Err("a row of another length");
            }
            let counter = first_counter.map(|first| first.wrapping_add(units(index)));
            if stored && stream.sent_again(counter, delivered) {
                continue;
            }
            let after = u32::try_from(index).map_err(|_| "too many rows")?;
            stream.delivered.push(delivered);
            let after = super::nanoseconds(period * after);
            stream.boottimes_ns.push(boottime_ns.saturating_add(after));
            stream.measured_ns.push(measured_ns.saturating_add(after));
            stream.counters.extend(counter);
            for value in row {
                let value = value.as_i64().and_then(|value| i32::try_from(value).ok()).ok_or("a sample is not an integer")?;
                stream.values.push(value);
            }
        }
        if stream.counters.is_empty() || stream.counters.len() == stream.len() {
            Ok(())
        } else {
            Err("a counter in some lines and not in others")
        }
    }
}
