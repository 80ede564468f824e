//! The local record as tables that a spreadsheet opens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::readings::PageLine;

/// `readings.csv`, and, where samples are wanted in it, a file a recording.
pub(super) struct Writer {
    folder: PathBuf,
    readings: BufWriter<File>,
    recordings: BTreeMap<String, BufWriter<File>>,
    /// Values, and rows of samples.
    pub(super) counts: (u64, u64),
    with_samples: bool,
}

impl Writer {
    pub(super) fn new(folder: &Path, with_samples: bool) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut readings = BufWriter::new(File::create(folder.join("readings.csv"))?);
        writeln!(readings, "received,device,driver,device_time,record,name,code,value,unit,status,assignment,key")?;
        Ok(Self { folder: folder.to_path_buf(), readings, recordings: BTreeMap::new(), counts: (0, 0), with_samples })
    }

    pub(super) fn line(&mut self, line: &PageLine) -> std::io::Result<()> {
        let fields = line.fields();
        let reading = &fields["reading"];
        for value in reading["values"].as_array().into_iter().flatten() {
            self.value(reading, value)?;
        }
        match (&line.samples, reading["recording"].as_object()) {
            (Some(samples), Some(recording)) if self.with_samples => self.samples(recording, samples),
            _ => Ok(()),
        }
    }

    fn value(&mut self, reading: &Value, value: &Value) -> std::io::Result<()> {
        let status: Vec<&str> = reading["status"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let amount = value["value"].as_str().or(value["absent"].as_str()).unwrap_or("");
        let fields = [
            plain(&reading["received"]),
            plain(&reading["device"]),
            plain(&reading["driver"]),
            plain(&reading["device_time"]),
            plain(&reading["record"]),
            plain(&value["name"]),
            plain(&value["code"]),
            amount.to_string(),
            plain(&value["unit"]),
            status.join(" "),
            plain(&reading["assignment"]),
            plain(&reading["key"]),
        ];
        self.counts.0 += 1;
        writeln!(self.readings, "{}", fields.map(|field| quoted(&field)).join(","))
    }

    /// A recording's integers: a header row with the lead names, a column a lead; `index` shows where samples are missing.
    fn samples(&mut self, recording: &serde_json::Map<String, Value>, samples: &[i32]) -> std::io::Result<()> {
        let leads: Vec<String> = recording["leads"].as_array().into_iter().flatten().map(plain).collect();
        let id = plain(&recording["id"]);
        if !self.recordings.contains_key(&id) {
            let mut file = BufWriter::new(File::create(self.folder.join(format!("recording-{id}.csv")))?);
            writeln!(file, "index,{}", leads.join(","))?;
            self.recordings.insert(id.clone(), file);
        }
        let Some(file) = self.recordings.get_mut(&id) else { return Ok(()) };
        let first = recording["first"].as_u64().unwrap_or(0);
        for (index, frame) in (first..).zip(samples.chunks(leads.len().max(1))) {
            let columns: Vec<String> = frame.iter().map(ToString::to_string).collect();
            writeln!(file, "{index},{}", columns.join(","))?;
            self.counts.1 += 1;
        }
        Ok(())
    }

    /// Recordings that became a file.
    pub(super) fn recordings(&self) -> usize {
        self.recordings.len()
    }

    pub(super) fn finish(mut self) -> std::io::Result<()> {
        self.readings.flush()?;
        self.recordings.values_mut().try_for_each(Write::flush)
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// RFC 4180.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_string() }
}
