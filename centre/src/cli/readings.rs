//! `readings`: what is stored, in the one JSON shape, or as a table; samples as CSV.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use kit_protocol::flac;
use kit_protocol::json::{Line, ReadingLine, RefusedLine, hex};
use kit_protocol::uplink::id::{KitId, Lane, RecordingId};
use kit_protocol::uplink::wire::{self, record::Content};

use super::{CliError, print, rfc3339, time};
use crate::clock::WallTime;
use crate::store::{Filter, Reader, StoredRecord};

/// Which readings, and how.
#[derive(Debug, Args)]
pub(super) struct Readings {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Of this kit only.
    #[arg(long)]
    kit: Option<KitId>,
    /// Received by the centre since: a time, a date (UTC), or how long ago (90m, 24h, 7d).
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Of this lane only: urgent, vitals, waveforms, or journal (refused measurements).
    #[arg(long, value_parser = lane)]
    lane: Option<Lane>,
    /// Of this recording only, by its id.
    #[arg(long, value_name = "ID")]
    recording: Option<RecordingId>,
    /// Write the recording's integers as CSV, one column a lead.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
}

fn lane(text: &str) -> Result<Lane, String> {
    Lane::from_name(text).ok_or_else(|| "expected urgent, vitals, waveforms or journal".to_owned())
}

/// What `--since` says, at `now`.
fn since(text: &str, now: WallTime) -> Result<WallTime, CliError> {
    let ago = text.char_indices().last().and_then(|(end, unit)| {
        let seconds: i64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let count: i64 = text.get(..end)?.parse().ok().filter(|count| *count >= 0)?;
        count.checked_mul(seconds)?.checked_mul(1_000_000)
    });
    match ago {
        Some(ago) => Ok(WallTime(now.0.saturating_sub(ago))),
        None => time(text).map_err(|expected| CliError::Usage(format!("--since: {expected}, or how long ago: 90m, 24h, 7d"))),
    }
}

impl Readings {
    pub(super) fn list(&self, reader: &Reader, now: WallTime, output: &mut dyn Write) -> Result<(), CliError> {
        let since = self.since.as_deref().map(|text| since(text, now)).transpose()?;
        let filter = Filter { kit: self.kit.clone(), lane: self.lane, since };
        let mut rows = Vec::new();
        let mut samples = Samples::default();
        for record in reader.records(filter) {
            let record = record?;
            let Some(line) = self.line(&record) else { continue };
            if let (Some(_), Some(Content::Segment(segment)), Line::Reading(reading)) =
                (&self.samples, &record.record.content, &line)
            {
                samples.take(&record, segment, reading)?;
            }
            if self.json {
                writeln!(output, "{}", line.to_json())?;
            } else {
                rows.push(row(&record, &line));
            }
        }
        if !self.json {
            let header = ["received", "kit", "device", "what", "values", "status", "key"];
            print::table(output, &header, rows, "There is no such reading.")?;
        }
        self.samples.as_deref().map_or(Ok(()), |path| samples.write(path))
    }

    fn line(&self, record: &StoredRecord) -> Option<Line> {
        let recording = match record.record.content.as_ref()? {
            Content::Reading(reading) => &reading.recording,
            Content::Segment(segment) => &segment.recording,
            // A refused measurement is no reading: it is shown to who asks for the journal.
            Content::Refusal(refusal) if self.lane == Some(Lane::Journal) => {
                let octets = hex(&refusal.octets);
                return Some(Line::Refused(RefusedLine { reason: refusal.reason.clone(), detail: String::new(), octets }));
            }
            _ => return None,
        };
        if self.recording.is_some_and(|wanted| RecordingId::from_slice(recording) != Some(wanted)) {
            return None;
        }
        let received = record.definitions.received_us(&record.record).and_then(rfc3339);
        let line = ReadingLine::stored(&record.key(), &record.record, &record.definitions, received)?;
        Some(Line::Reading(Box::new(line)))
    }
}

fn row(record: &StoredRecord, line: &Line) -> Vec<String> {
    let key = format!("{}/{}", record.lane, record.seq);
    match line {
        Line::Reading(reading) => {
            let values = reading.values.iter().map(|value| {
                let what = value.name.map_or_else(|| value.code.to_string(), ToOwned::to_owned);
                format!("{what} {} {}", value.value.as_deref().or(value.absent).unwrap_or("unknown"), value.unit)
            });
            let mut values: Vec<String> = values.collect();
            if let Some(recording) = &reading.recording {
                values.push(format!("{} samples of {} from {}", recording.count, recording.leads.join(", "), recording.first));
            }
            let received = reading.received.clone().unwrap_or_default();
            let device = reading.device.clone().unwrap_or_default();
            vec![
                received,
                record.kit.to_string(),
                device,
                reading.kind.clone(),
                values.join("; "),
                reading.status.join(", "),
                key,
            ]
        }
        Line::Refused(refused) => {
            let received = print::time(record.received_us);
            vec![
                received,
                record.kit.to_string(),
                String::new(),
                "refused".to_owned(),
                refused.reason.clone(),
                String::new(),
                key,
            ]
        }
        Line::Resync(_) | Line::Measurement(_) => vec![String::new(); 7],
    }
}

/// The segments of one recording, by their first sample: they may have come in any order.
#[derive(Default)]
struct Samples {
    of: Option<(KitId, Vec<u8>, Vec<String>)>,
    segments: BTreeMap<u64, (usize, Vec<Vec<u8>>)>,
}

impl Samples {
    fn take(&mut self, record: &StoredRecord, segment: &wire::Segment, line: &ReadingLine) -> Result<(), CliError> {
        let leads = line.recording.as_ref().map(|recording| recording.leads.clone()).unwrap_or_default();
        let of = (record.kit.clone(), segment.recording.clone(), leads);
        if self.of.get_or_insert_with(|| of.clone()) != &of {
            let id = |octets: &[u8]| RecordingId::from_slice(octets).map_or_else(String::new, |id| id.to_string());
            let first = self.of.as_ref().map_or_else(String::new, |(_, recording, _)| id(recording));
            let ids = format!("{first}, {}", id(&segment.recording));
            return Err(CliError::Usage(format!("--samples takes one recording, here are {ids}; choose with --recording ID")));
        }
        self.segments.insert(segment.first_sample, (segment.channels.len(), segment.flac.clone()));
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<(), CliError> {
        let Some((_, _, leads)) = &self.of else {
            return Err(CliError::Failed("there is no recording to write samples of".to_owned()));
        };
        let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", path.display()));
        let mut file = BufWriter::new(std::fs::File::create(path).map_err(|error| failed(&error))?);
        writeln!(file, "{}", leads.join(",")).map_err(|error| failed(&error))?;
        for (channels, streams) in self.segments.values() {
            let samples = flac::decode(streams).map_err(|error| failed(&error))?;
            for frame in samples.chunks((*channels).max(1)) {
                let frame: Vec<String> = frame.iter().map(ToString::to_string).collect();
                writeln!(file, "{}", frame.join(",")).map_err(|error| failed(&error))?;
            }
        }
        file.flush().map_err(|error| failed(&error))
    }
}
