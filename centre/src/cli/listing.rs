//! `kits` and `gaps`.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use kit_protocol::reading::Kind;
use kit_protocol::uplink::id::{KitId, Lane, RecordingId};
use kit_protocol::uplink::record::kind_from_wire;
use kit_protocol::uplink::wire::{self, GapReason, MissedReason, record::Content};
use serde::Serialize;

use super::{CliError, print, rfc3339};
use crate::store::{Filter, KitView, LaneView, Reader, StoredRecord};

/// How to list.
#[derive(Debug, Args)]
pub(super) struct Listing {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Of this kit only.
    #[arg(long)]
    kit: Option<KitId>,
}

#[derive(Serialize)]
struct KitLine {
    tenant: String,
    kit: String,
    online: bool,
    version: String,
    first_seen: Option<String>,
    last_seen: Option<String>,
    /// Of the epoch that the kit calls open.
    assignment: Option<String>,
    records: u64,
    duplicates: u64,
    rejected: u64,
    awaited: u64,
    epochs: Vec<EpochLine>,
}

#[derive(Serialize)]
struct EpochLine {
    epoch: String,
    assignment: Option<String>,
    lanes: BTreeMap<&'static str, LaneLine>,
}

#[derive(Serialize)]
struct LaneLine {
    /// Every number up to this one is settled.
    settled: u64,
    /// The highest number that is settled.
    highest: u64,
    /// Numbers between them, or below the lane's stated end, that have not come.
    awaited: u64,
}

/// A line of `gaps`: numbers declared gone, numbers awaited, or a span that was not measured.
#[derive(Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum GapLine {
    Gap {
        tenant: String,
        kit: String,
        epoch: String,
        lane: &'static str,
        first: u64,
        last: u64,
        count: u64,
        reason: &'static str,
        declared: Option<String>,
    },
    Awaited {
        tenant: String,
        kit: String,
        epoch: String,
        lane: &'static str,
        first: u64,
        last: u64,
        count: u64,
    },
    Missed {
        tenant: String,
        kit: String,
        key: String,
        device: Option<String>,
        kind: &'static str,
        recording: Option<String>,
        from: Option<String>,
        to: Option<String>,
        first: Option<u64>,
        last: Option<u64>,
        reason: &'static str,
    },
}

impl Listing {
    pub(super) fn kits(&self, reader: &Reader, output: &mut dyn Write) -> Result<(), CliError> {
        let lanes = reader.lanes()?;
        let kits = reader.kits()?.into_iter().filter(|kit| self.wants(&kit.kit));
        let lines: Vec<KitLine> = kits.map(|kit| KitLine::new(&kit, &lanes)).collect();
        if self.json {
            return Ok(lines.iter().try_for_each(|line| print::json(output, line))?);
        }
        let header = ["kit", "tenant", "state", "last heard of", "assignment", "records", "awaited", "rejected", "version"];
        let rows = lines.into_iter().map(KitLine::row).collect();
        Ok(print::table(output, &header, rows, "No kit has been heard of yet.")?)
    }

    pub(super) fn gaps(&self, reader: &Reader, output: &mut dyn Write) -> Result<(), CliError> {
        let mut lines: Vec<GapLine> = Vec::new();
        for gap in reader.gaps()?.into_iter().filter(|gap| self.wants(&gap.kit)) {
            lines.push(GapLine::Gap {
                tenant: gap.tenant.to_string(),
                kit: gap.kit.to_string(),
                epoch: gap.epoch.to_string(),
                lane: gap.lane.name(),
                first: gap.first,
                last: gap.last,
                count: gap.last - gap.first + 1,
                reason: gap_reason(gap.reason),
                declared: rfc3339(gap.declared_us),
            });
        }
        for lane in reader.lanes()?.into_iter().filter(|lane| self.wants(&lane.kit)) {
            lines.extend(lane.awaited.iter().map(|(first, last)| GapLine::awaited(&lane, *first, *last)));
        }
        let filter = Filter { kit: self.kit.clone(), lane: Some(Lane::Journal), since: None };
        for record in reader.records(filter) {
            let record = record?;
            if let Some(Content::Missed(missed)) = &record.record.content {
                lines.push(GapLine::missed(&record, missed));
            }
        }
        if self.json {
            return Ok(lines.iter().try_for_each(|line| print::json(output, line))?);
        }
        let header = ["kit", "what", "where", "from", "to", "count", "reason"];
        let rows = lines.into_iter().map(GapLine::row).collect();
        Ok(print::table(output, &header, rows, "Nothing is missing.")?)
    }

    fn wants(&self, kit: &KitId) -> bool {
        self.kit.as_ref().is_none_or(|wanted| wanted == kit)
    }
}

impl KitLine {
    fn new(kit: &KitView, lanes: &[LaneView]) -> Self {
        let mut epochs: Vec<EpochLine> = Vec::new();
        let mut awaited = 0;
        for lane in lanes.iter().filter(|lane| lane.kit == kit.kit) {
            let epoch = lane.epoch.to_string();
            if epochs.last().is_none_or(|last| last.epoch != epoch) {
                epochs.push(EpochLine { epoch, assignment: lane.assignment.clone(), lanes: BTreeMap::new() });
            }
            let line = LaneLine { settled: lane.settlement.settled_upto(), highest: lane.highest, awaited: count(&lane.awaited) };
            awaited += line.awaited;
            if let Some(epoch) = epochs.last_mut() {
                epoch.lanes.insert(lane.lane.name(), line);
            }
        }
        let open = kit.state.as_ref().and_then(|state| state.epochs.iter().find(|epoch| epoch.open));
        Self {
            tenant: kit.tenant.to_string(),
            kit: kit.kit.to_string(),
            online: kit.online,
            version: kit.version.clone(),
            first_seen: rfc3339(kit.first_seen_us),
            last_seen: rfc3339(kit.last_seen_us),
            assignment: open.map(|epoch| epoch.assignment.clone()).filter(|id| !id.is_empty()),
            records: kit.records,
            duplicates: kit.duplicates,
            rejected: kit.rejected,
            awaited,
            epochs,
        }
    }

    fn row(self) -> Vec<String> {
        vec![
            self.kit,
            self.tenant,
            if self.online { "online" } else { "offline" }.to_owned(),
            self.last_seen.unwrap_or_default(),
            self.assignment.unwrap_or_else(|| "none".to_owned()),
            self.records.to_string(),
            self.awaited.to_string(),
            self.rejected.to_string(),
            self.version,
        ]
    }
}

impl GapLine {
    fn awaited(lane: &LaneView, first: u64, last: u64) -> Self {
        Self::Awaited {
            tenant: lane.tenant.to_string(),
            kit: lane.kit.to_string(),
            epoch: lane.epoch.to_string(),
            lane: lane.lane.name(),
            first,
            last,
            count: last - first + 1,
        }
    }

    fn missed(record: &StoredRecord, missed: &wire::Missed) -> Self {
        let kind: Kind = kind_from_wire(missed.kind);
        let at = |clock: u32, boottime_ns: u64| {
            let offset = record.definitions.clock(clock)?.offset_us;
            rfc3339(i64::try_from(boottime_ns / 1_000).ok()?.checked_add(offset)?)
        };
        Self::Missed {
            tenant: record.tenant.to_string(),
            kit: record.kit.to_string(),
            key: record.key().to_string(),
            device: record.definitions.device(missed.device).map(|device| device.identity.clone()),
            kind: kind.name(),
            recording: RecordingId::from_slice(&missed.recording).map(|recording| recording.to_string()),
            from: at(missed.from_clock, missed.from_boottime_ns),
            to: at(record.record.clock, missed.to_boottime_ns),
            first: missed.first,
            last: missed.last,
            reason: missed_reason(missed.reason),
        }
    }

    fn row(self) -> Vec<String> {
        let short = |epoch: &str, lane: &str| format!("{}…/{lane}", epoch.get(..8).unwrap_or(epoch));
        match self {
            Self::Gap { kit, epoch, lane, first, last, count, reason, .. } => {
                let numbers = [first, last, count].map(|number| number.to_string());
                let [first, last, count] = numbers;
                vec![kit, "gone".to_owned(), short(&epoch, lane), first, last, count, reason.to_owned()]
            }
            Self::Awaited { kit, epoch, lane, first, last, count, .. } => {
                let [first, last, count] = [first, last, count].map(|number| number.to_string());
                vec![kit, "awaited".to_owned(), short(&epoch, lane), first, last, count, "not come yet".to_owned()]
            }
            Self::Missed { kit, device, from, to, first, last, reason, .. } => {
                let samples =
                    first.zip(last).map_or_else(String::new, |(first, last)| (last.saturating_sub(first) + 1).to_string());
                let place = device.unwrap_or_default();
                vec![
                    kit,
                    "missed".to_owned(),
                    place,
                    from.unwrap_or_default(),
                    to.unwrap_or_default(),
                    samples,
                    reason.to_owned(),
                ]
            }
        }
    }
}

fn count(spans: &[(u64, u64)]) -> u64 {
    spans.iter().map(|(first, last)| last - first + 1).sum()
}

fn gap_reason(reason: i32) -> &'static str {
    match GapReason::try_from(reason) {
        Ok(GapReason::NeverWritten) => "never-written",
        Ok(GapReason::Evicted) => "evicted",
        Ok(GapReason::LostWithStore) => "lost-with-store",
        Ok(GapReason::PurgedAfterAck) => "purged-after-ack",
        Ok(GapReason::Unreadable) => "unreadable",
        Ok(GapReason::Unspecified) | Err(_) => "unknown",
    }
}

fn missed_reason(reason: i32) -> &'static str {
    match MissedReason::try_from(reason) {
        Ok(MissedReason::AgentDown) => "agent-down",
        Ok(MissedReason::LinkLost) => "link-lost",
        Ok(MissedReason::Corrupt) => "corrupt",
        Ok(MissedReason::Evicted) => "evicted",
        Ok(MissedReason::Unspecified) | Err(_) => "unknown",
    }
}
