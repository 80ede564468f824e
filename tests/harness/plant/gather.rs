//! What the centre has, out of its database: in full for the ledger, and counted as it grows for the display.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use kit_centre::clock::WallTime;
use kit_centre::store::{Filter, Reader, StoredRecord};
use kit_protocol::flac;
use kit_protocol::json::ReadingLine;
use kit_protocol::uplink::id::{EpochId, Lane};
use kit_protocol::uplink::record::{self, Definitions, RecordKey};
use kit_protocol::uplink::wire::{self, record::Content};

use super::PlantError;
use crate::ledger::{Measurement, Period, StoredGap, StoredMissed, StoredReading, StoredSegment};

/// Everything the ledger needs.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Readings.
    pub readings: Vec<StoredReading>,
    /// Segments, decoded.
    pub segments: Vec<StoredSegment>,
    /// Spans that the kit declared missed.
    pub missed: Vec<StoredMissed>,
    /// Numbers that the kit declared gone.
    pub gaps: Vec<StoredGap>,
    /// Since when whose readings they are, by the kit's own journal, in order.
    pub periods: Vec<Period>,
    /// Measurements that the kit refused.
    pub refused: u64,
    /// From a reading's reception at the gateway to the centre's commit, milliseconds, ascending.
    pub delays_ms: Vec<u64>,
}

/// Reads the whole database.
pub fn gather(database: &Path) -> Result<Gathered, PlantError> {
    let reader = open(database)?;
    let mut gathered = Gathered::default();
    for stored in reader.records(Filter::default()) {
        gathered.take(&stored.map_err(failed)?);
    }
    for gap in reader.gaps().map_err(failed)? {
        let reason = wire::GapReason::try_from(gap.reason).unwrap_or_default();
        gathered.gaps.push(StoredGap {
            epoch: gap.epoch.to_string(),
            lane: gap.lane.to_string(),
            first: gap.first,
            last: gap.last,
            reason: kebab(reason.as_str_name(), "GAP_REASON_"),
        });
    }
    gathered.delays_ms.sort_unstable();
    gathered.periods.sort_by_key(|period| (period.from_boottime_ns, period.assignment.is_some()));
    Ok(gathered)
}

impl Gathered {
    fn take(&mut self, stored: &StoredRecord) {
        let definitions = &*stored.definitions;
        let key = RecordKey { kit: stored.kit.clone(), epoch: stored.epoch, lane: stored.lane, seq: stored.seq };
        let assignment = definitions.assignment(stored.record.assignment).map(str::to_owned);
        let device = |number| definitions.device(number).map_or_else(|| "unknown".to_owned(), |device| device.identity.clone());
        match &stored.record.content {
            Some(Content::Reading(reading)) => {
                let line = ReadingLine::stored(&key, &stored.record, definitions, None);
                let json = serde_json::to_value(line).unwrap_or_default();
                self.delays_ms.extend(delay_ms(stored, definitions));
                self.readings.push(StoredReading {
                    key: key.to_string(),
                    device: device(reading.device),
                    assignment,
                    boottime_ns: stored.record.boottime_ns,
                    derived: reading.source() == wire::Source::Derived,
                    measurement: Measurement::from_json(&json).unwrap_or_else(Measurement::unreadable),
                });
            }
            Some(Content::Segment(segment)) => self.segments.push(StoredSegment {
                key: key.to_string(),
                device: device(segment.device),
                kind: record::kind_from_wire(segment.kind).name().to_owned(),
                assignment,
                boottime_ns: segment.first_boottime_ns,
                first_counter: segment.device_counter,
                channels: segment.channels.len(),
                // What does not decode has no samples: whatever it held is then missing.
                values: flac::decode(&segment.flac).unwrap_or_default(),
            }),
            Some(Content::Missed(missed)) => {
                let reason = wire::MissedReason::try_from(missed.reason).unwrap_or_default();
                self.missed.push(StoredMissed {
                    device: device(missed.device),
                    kind: record::kind_from_wire(missed.kind).name().to_owned(),
                    reason: kebab(reason.as_str_name(), "MISSED_REASON_"),
                    from_boottime_ns: missed.from_boottime_ns,
                    to_boottime_ns: missed.to_boottime_ns,
                    counters: missed.first.zip(missed.last),
                });
            }
            Some(Content::EpochOpened(_)) => {
                self.periods.push(Period { from_boottime_ns: stored.record.boottime_ns, assignment });
            }
            // What no epoch opens again goes on in the one of no assignment.
            Some(Content::EpochClosed(_)) => {
                self.periods.push(Period { from_boottime_ns: stored.record.boottime_ns, assignment: None });
            }
            Some(Content::Refusal(_)) => self.refused += 1,
            _ => {}
        }
    }
}

/// Units at the centre, counted as they come.
#[derive(Debug, Default)]
pub struct Live {
    since: Option<i64>,
    seen: HashSet<(EpochId, Lane, u64)>,
    counts: BTreeMap<String, Arrived>,
}

/// What came of one device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// Readings.
    pub readings: u64,
    /// Of streams, per channel.
    pub samples: u64,
}

impl Live {
    /// Counts what came since the last look; a database that is busy or not there yet is looked at again next time.
    pub fn look(&mut self, database: &Path) {
        let Ok(reader) = open(database) else { return };
        let filter = Filter { since: self.since.map(WallTime), ..Filter::default() };
        for stored in reader.records(filter).map_while(Result::ok) {
            self.since = self.since.max(Some(stored.received_us));
            if self.seen.insert((stored.epoch, stored.lane, stored.seq)) {
                self.count(&stored);
            }
        }
    }

    fn count(&mut self, stored: &StoredRecord) {
        let definitions = &*stored.definitions;
        let mut of = |number: u32, readings: u64, samples: u64| {
            if let Some(device) = definitions.device(number) {
                let arrived = self.counts.entry(device.identity.clone()).or_default();
                arrived.readings += readings;
                arrived.samples += samples;
            }
        };
        match &stored.record.content {
            Some(Content::Reading(reading)) => of(reading.device, 1, 0),
            Some(Content::Segment(segment)) => {
                let channels = u64::try_from(segment.channels.len()).unwrap_or(u64::MAX);
                of(segment.device, 0, u64::from(segment.samples).saturating_mul(channels));
            }
            _ => {}
        }
    }

    /// What came of a device.
    pub fn of(&self, device: &str) -> Arrived {
        self.counts.get(device).copied().unwrap_or_default()
    }
}

fn open(database: &Path) -> Result<Reader, PlantError> {
    Reader::open(database).map_err(failed)
}

fn failed(error: kit_centre::store::StoreError) -> PlantError {
    PlantError::Centre(error.to_string())
}

fn delay_ms(stored: &StoredRecord, definitions: &Definitions) -> Option<u64> {
    let received = definitions.received_us(&stored.record)?;
    u64::try_from(stored.received_us.saturating_sub(received)).ok().map(|delay| delay / 1_000)
}

/// `GAP_REASON_NEVER_WRITTEN` as `never-written`.
fn kebab(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_names_of_listings() {
        assert_eq!(kebab(wire::GapReason::NeverWritten.as_str_name(), "GAP_REASON_"), "never-written");
        assert_eq!(kebab(wire::MissedReason::AgentDown.as_str_name(), "MISSED_REASON_"), "agent-down");
    }
}
