//! The local record, page by page: the readings that were measured here stay readable here.

use kit_protocol::decimal::Decimal;
use kit_protocol::flac;
use kit_protocol::json::{Line, ReadingLine, hex};
use kit_protocol::uplink::id::{EpochId, KitId, Lane};
use kit_protocol::uplink::record::{Definitions, RecordKey};
use kit_protocol::uplink::wire::{self, record::Content};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::store::outbox::{Chunk, ReadLimit, StoreError};
use crate::store::thread::StoreHandle;

/// Records of one page, at most.
const PAGE_RECORDS_MAX: usize = 200;
/// Octets of records of one page, at most: 20 segments.
const PAGE_OCTETS_MAX: usize = 256 * 1024;

/// Which page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageQuery {
    /// Of which epoch.
    pub epoch: String,
    /// Of which lane.
    pub lane: String,
    /// From which number on.
    pub from: u64,
    /// With the samples of segments.
    #[serde(default)]
    pub samples: bool,
}

/// A page of lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Each with its line in the one JSON shape.
    pub lines: Vec<PageLine>,
    /// Where the next page begins; `null`: this was the last.
    pub next: Option<u64>,
}

/// A reading or a segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageLine {
    /// `{"reading":…}`, as text: its fields keep their order.
    pub line: String,
    /// Reception, Unix microseconds, where the clock is known.
    pub received_us: Option<i64>,
    /// Interleaved samples of a segment, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<i32>>,
    /// What they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<SegmentHead>,
}

/// What the samples of a segment are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHead {
    /// The recording's id.
    pub recording: String,
    /// Index of its first sample in the recording.
    pub first: u64,
    /// Samples per second and channel: so many …
    pub rate_samples: u32,
    /// … in so many seconds.
    pub rate_seconds: u32,
    /// Its channels.
    pub channels: Vec<ChannelHead>,
    /// The recording ends with it.
    pub last: bool,
}

/// A channel of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelHead {
    /// MDC code.
    pub code: u32,
    /// What one digit is worth, exactly.
    pub scale: String,
    /// In which unit: UCUM.
    pub unit: String,
    /// The filter that the device states.
    pub filter: String,
}

impl SegmentHead {
    fn of(segment: &wire::Segment) -> Self {
        let channel = |channel: &wire::Channel| ChannelHead {
            code: channel.code,
            scale: Decimal::new(channel.scale_mantissa, i8::try_from(channel.scale_exponent).unwrap_or(0)).to_string(),
            unit: channel.unit.clone(),
            filter: channel.filter.clone(),
        };
        Self {
            recording: hex(&segment.recording),
            first: segment.first_sample,
            rate_samples: segment.rate_numerator,
            rate_seconds: segment.rate_denominator,
            channels: segment.channels.iter().map(channel).collect(),
            last: segment.last,
        }
    }
}

impl PageLine {
    /// The line's fields; `null` where it is none of ours.
    #[must_use]
    pub fn fields(&self) -> serde_json::Value {
        serde_json::from_str(&self.line).unwrap_or_default()
    }
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Not an epoch or lane.
    #[error("no such epoch or lane")]
    Query,
    /// The store could not read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads one page.
pub async fn page(store: &StoreHandle, kit: &KitId, query: &PageQuery) -> Result<Page, PageError> {
    let epoch: EpochId = query.epoch.parse().map_err(|_| PageError::Query)?;
    let lane = Lane::from_name(&query.lane).ok_or(PageError::Query)?;
    let limit = ReadLimit { octets: PAGE_OCTETS_MAX, records: PAGE_RECORDS_MAX, before: u64::MAX };
    let chunk = store.read_local(epoch, lane, query.from, limit).await?;
    let last = chunk.records.is_empty() && chunk.unreadable.is_empty();
    let lines = lines(kit, epoch, lane, &chunk, query.samples);
    Ok(Page { lines, next: (!last).then_some(chunk.next) })
}

fn lines(kit: &KitId, epoch: EpochId, lane: Lane, chunk: &Chunk, samples: bool) -> Vec<PageLine> {
    let mut definitions = Definitions::default();
    definitions.extend(&chunk.definitions);
    let line = |(seq, bytes): &(u64, Vec<u8>)| {
        let record = wire::Record::decode(bytes.as_slice()).ok()?;
        let key = RecordKey { kit: kit.clone(), epoch, lane, seq: *seq };
        let received_us = definitions.received_us(&record);
        let reading = ReadingLine::stored(&key, &record, &definitions, received_us.and_then(rfc3339))?;
        let (samples, head) = match &record.content {
            Some(Content::Segment(segment)) if samples => (flac::decode(&segment.flac).ok(), Some(SegmentHead::of(segment))),
            _ => (None, None),
        };
        Some(PageLine { line: Line::Reading(Box::new(reading)).to_json(), received_us, samples, head })
    };
    chunk.records.iter().filter_map(line).collect()
}

/// Unix microseconds as RFC 3339 in UTC.
#[must_use]
pub fn rfc3339(us: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(us).ok().map(|timestamp| timestamp.to_string())
}
