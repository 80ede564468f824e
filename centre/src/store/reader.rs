//! Reading the database, from any process, while the service writes it.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use kit_protocol::uplink::id::{EpochId, KitId, Lane, RunId, Tenant};
use kit_protocol::uplink::record::{Definitions, RecordKey};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, RejectReason};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::spans::{self, Span};
use super::{BUSY_TIMEOUT, SCHEMA_VERSION, StoreError, column_lane, number, octets, parsed, read_span};
use crate::clock::WallTime;
use crate::signature::DIGEST_OCTETS;

/// Records that one look into the database takes.
const PAGE_RECORDS: i64 = 256;

/// The database, open for reading only.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this kit only.
    pub kit: Option<KitId>,
    /// Of this lane only.
    pub lane: Option<Lane>,
    /// Received by the centre at or after this time.
    pub since: Option<WallTime>,
}

/// A record as the centre holds it.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// The health authority of its kit.
    pub tenant: Tenant,
    /// Its kit.
    pub kit: KitId,
    /// Its epoch.
    pub epoch: EpochId,
    /// Its lane.
    pub lane: Lane,
    /// Its number.
    pub seq: u64,
    /// The run it was sealed under.
    pub run: RunId,
    /// SHA-256 of its octets.
    pub digest: [u8; DIGEST_OCTETS],
    /// Received by the centre, Unix time in microseconds.
    pub received_us: i64,
    /// What it says.
    pub record: wire::Record,
    /// What its small numbers mean.
    pub definitions: Arc<Definitions>,
}

impl StoredRecord {
    /// What names it everywhere.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        RecordKey { kit: self.kit.clone(), epoch: self.epoch, lane: self.lane, seq: self.seq }
    }
}

/// A kit as the centre knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct KitView {
    /// Its health authority.
    pub tenant: Tenant,
    /// Its id.
    pub kit: KitId,
    /// First heard of, Unix time in microseconds.
    pub first_seen_us: i64,
    /// Last heard of.
    pub last_seen_us: i64,
    /// Its last birth was not followed by that connection's will.
    pub online: bool,
    /// Its software.
    pub version: String,
    /// Its last state.
    pub state: Option<wire::State>,
    /// Records stored.
    pub records: u64,
    /// Numbers settled as duplicates of a stored origin.
    pub duplicates: u64,
    /// Records rejected for good and set aside.
    pub rejected: u64,
}

/// One lane of one epoch, as the centre knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// The health authority.
    pub tenant: Tenant,
    /// The kit.
    pub kit: KitId,
    /// The epoch.
    pub epoch: EpochId,
    /// The epoch's assignment; `None` for the `none` epoch, or before its first journal record came.
    pub assignment: Option<String>,
    /// The lane.
    pub lane: Lane,
    /// What an answer would say is settled.
    pub settlement: Settlement,
    /// The highest number that is settled.
    pub highest: u64,
    /// Numbers still to come: below the highest settled one, or below the end that the kit stated. Both ends in it.
    pub awaited: Vec<(u64, u64)>,
}

/// Numbers that will never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGap {
    /// The health authority.
    pub tenant: Tenant,
    /// The kit.
    pub kit: KitId,
    /// The epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
    /// Why, as a [`wire::GapReason`].
    pub reason: i32,
    /// When the centre learnt of it, Unix time in microseconds.
    pub declared_us: i64,
}

/// A record rejected for good, or settled as a duplicate (no reason).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The kit.
    pub kit: KitId,
    /// The epoch.
    pub epoch: EpochId,
    /// The lane.
    pub lane: Lane,
    /// Its number.
    pub seq: u64,
    /// Why it was rejected; `None` for a duplicate.
    pub reason: Option<RejectReason>,
    /// Its octets.
    pub octets: Vec<u8>,
}

/// A finding and how often it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The topic of the message.
    pub topic: String,
    /// What is wrong with it: the name of a [`crate::ingest::Fault`].
    pub what: String,
    /// For a technician.
    pub detail: String,
    /// First found, Unix time in microseconds.
    pub first_us: i64,
    /// Last found.
    pub last_us: i64,
    /// How often.
    pub count: u64,
}

/// How often a database that is being made is looked at within [`BUSY_TIMEOUT`].
const MAKING_LOOKS_MAX: u32 = 100;

impl Reader {
    /// Opens an existing database; one that is just being made is waited for.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let mut version = 0;
        for _ in 0..MAKING_LOOKS_MAX {
            version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
            if version != 0 {
                break;
            }
            std::thread::sleep(BUSY_TIMEOUT / MAKING_LOOKS_MAX);
        }
        // Nothing that is read here was changed by a later version.
        if (1..=SCHEMA_VERSION).contains(&version) { Ok(Self { connection }) } else { Err(StoreError::Version(version)) }
    }

    /// Stored records, in the order in which they were committed.
    #[must_use]
    pub fn records(&self, filter: Filter) -> Records<'_> {
        Records { reader: self, filter, after: 0, page: VecDeque::new(), ended: false }
    }

    /// Every kit, by id.
    pub fn kits(&self) -> Result<Vec<KitView>, StoreError> {
        let query = "SELECT k.tenant, k.kit, k.first_seen, k.last_seen, k.online, k.version, k.state,
                       (SELECT count(*) FROM records r JOIN epochs e ON e.id = r.epoch WHERE e.kit = k.id),
                       (SELECT count(*) FROM set_aside s JOIN epochs e ON e.id = s.epoch WHERE e.kit = k.id AND s.reason = 0),
                       (SELECT count(*) FROM set_aside s JOIN epochs e ON e.id = s.epoch WHERE e.kit = k.id AND s.reason <> 0)
                     FROM kits k ORDER BY k.kit";
        self.all(query, |row| {
            let state: Option<Vec<u8>> = row.get(6)?;
            Ok(KitView {
                tenant: parsed(row, 0)?,
                kit: parsed(row, 1)?,
                first_seen_us: row.get(2)?,
                last_seen_us: row.get(3)?,
                online: row.get(4)?,
                version: row.get(5)?,
                state: state.and_then(|state| wire::State::decode(state.as_slice()).ok()),
                records: number(row.get(7)?)?,
                duplicates: number(row.get(8)?)?,
                rejected: number(row.get(9)?)?,
            })
        })
    }

    /// Every lane of every epoch of which the centre knows a number.
    pub fn lanes(&self) -> Result<Vec<LaneView>, StoreError> {
        let query = "SELECT k.tenant, k.kit, e.epoch, e.assignment, l.lane, e.id,
                       (SELECT last FROM ends WHERE ends.epoch = e.id AND ends.lane = l.lane)
                     FROM (SELECT epoch, lane FROM spans UNION SELECT epoch, lane FROM ends) l
                       JOIN epochs e ON e.id = l.epoch JOIN kits k ON k.id = e.kit
                     ORDER BY k.kit, e.id, l.lane";
        self.all(query, |row| {
            let spans = self.spans(row.get(5)?, row.get(4)?)?;
            let highest = spans.last().map_or(0, |span| span.last);
            let end: Option<i64> = row.get(6)?;
            let end = end.map(number).transpose()?.unwrap_or(0);
            Ok(LaneView {
                tenant: parsed(row, 0)?,
                kit: parsed(row, 1)?,
                epoch: EpochId(octets(row, 2)?),
                assignment: row.get(3)?,
                lane: column_lane(row.get(4)?)?,
                highest,
                awaited: spans::holes(&spans, highest.max(end)),
                settlement: spans::settlement(spans, None),
            })
        })
    }

    /// Every declared gap.
    pub fn gaps(&self) -> Result<Vec<StoredGap>, StoreError> {
        let query = "SELECT k.tenant, k.kit, e.epoch, g.lane, g.first, g.last, g.reason, g.declared
                     FROM gaps g JOIN epochs e ON e.id = g.epoch JOIN kits k ON k.id = e.kit
                     ORDER BY k.kit, e.id, g.lane, g.first";
        self.all(query, |row| {
            Ok(StoredGap {
                tenant: parsed(row, 0)?,
                kit: parsed(row, 1)?,
                epoch: EpochId(octets(row, 2)?),
                lane: column_lane(row.get(3)?)?,
                first: number(row.get(4)?)?,
                last: number(row.get(5)?)?,
                reason: row.get(6)?,
                declared_us: row.get(7)?,
            })
        })
    }

    /// Everything that was settled without being stored.
    pub fn set_aside(&self) -> Result<Vec<RejectedRecord>, StoreError> {
        let query = "SELECT k.kit, e.epoch, s.lane, s.seq, s.reason, s.octets
                     FROM set_aside s JOIN epochs e ON e.id = s.epoch JOIN kits k ON k.id = e.kit
                     ORDER BY k.kit, e.id, s.lane, s.seq";
        self.all(query, |row| {
            let reason: i32 = row.get(4)?;
            Ok(RejectedRecord {
                kit: parsed(row, 0)?,
                epoch: EpochId(octets(row, 1)?),
                lane: column_lane(row.get(2)?)?,
                seq: number(row.get(3)?)?,
                reason: RejectReason::try_from(reason).ok().filter(|reason| *reason != RejectReason::Unspecified),
                octets: row.get(5)?,
            })
        })
    }

    /// What was not taken, and why.
    pub fn audit(&self) -> Result<Vec<AuditEntry>, StoreError> {
        self.all("SELECT topic, what, detail, first, last, count FROM audit ORDER BY id", |row| {
            Ok(AuditEntry {
                topic: row.get(0)?,
                what: row.get(1)?,
                detail: row.get(2)?,
                first_us: row.get(3)?,
                last_us: row.get(4)?,
                count: number(row.get(5)?)?,
            })
        })
    }

    fn all<T>(&self, query: &str, mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(read(row)?);
        }
        Ok(all)
    }

    fn spans(&self, epoch: i64, lane: i64) -> Result<Vec<Span>, StoreError> {
        let query = "SELECT first, last, run FROM spans WHERE epoch = ?1 AND lane = ?2 ORDER BY first";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query([epoch, lane])?;
        let mut spans = Vec::new();
        while let Some(row) = rows.next()? {
            spans.push(read_span(row)?);
        }
        Ok(spans)
    }

    fn definitions(&self, epoch: i64, run: RunId) -> Result<Arc<Definitions>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT octets FROM definitions WHERE epoch = ?1 AND run = ?2")?;
        let mut rows = statement.query(params![epoch, run.0])?;
        let mut definitions = Definitions::default();
        while let Some(row) = rows.next()? {
            let octets: Vec<u8> = row.get(0)?;
            let definition = wire::Definition::decode(octets.as_slice()).map_err(|_| StoreError::Unreadable("a definition"))?;
            definitions.extend([&definition]);
        }
        Ok(Arc::new(definitions))
    }
}

/// Stored records, read page by page; see [`Reader::records`].
#[derive(Debug)]
pub struct Records<'a> {
    reader: &'a Reader,
    filter: Filter,
    after: i64,
    page: VecDeque<StoredRecord>,
    ended: bool,
}

impl Records<'_> {
    fn read_page(&mut self) -> Result<(), StoreError> {
        let query = "SELECT r.id, k.tenant, k.kit, e.epoch, r.lane, r.seq, r.run, r.digest, r.received, r.octets, e.id
                     FROM records r JOIN epochs e ON e.id = r.epoch JOIN kits k ON k.id = r.kit
                     WHERE r.id > ?1 AND (?2 IS NULL OR k.kit = ?2) AND (?3 IS NULL OR r.lane = ?3) AND (?4 IS NULL OR r.received >= ?4)
                     ORDER BY r.id LIMIT ?5";
        let kit = self.filter.kit.as_ref().map(KitId::as_str);
        let lane = self.filter.lane.map(super::lane_column);
        let since = self.filter.since.map(|since| since.0);
        let mut statement = self.reader.connection.prepare_cached(query)?;
        let mut rows = statement.query(params![self.after, kit, lane, since, PAGE_RECORDS])?;
        // Definitions are read anew for each page: a run that still goes on may gain some.
        let mut definitions: HashMap<(i64, RunId), Arc<Definitions>> = HashMap::new();
        while let Some(row) = rows.next()? {
            self.after = row.get(0)?;
            let octets_of_record: Vec<u8> = row.get(9)?;
            let run = RunId(octets(row, 6)?);
            let epoch: i64 = row.get(10)?;
            let definitions = match definitions.get(&(epoch, run)) {
                Some(known) => known.clone(),
                None => definitions.entry((epoch, run)).or_insert(self.reader.definitions(epoch, run)?).clone(),
            };
            self.page.push_back(StoredRecord {
                tenant: parsed(row, 1)?,
                kit: parsed(row, 2)?,
                epoch: EpochId(octets(row, 3)?),
                lane: column_lane(row.get(4)?)?,
                seq: number(row.get(5)?)?,
                run,
                digest: octets(row, 7)?,
                received_us: row.get(8)?,
                record: wire::Record::decode(octets_of_record.as_slice()).map_err(|_| StoreError::Unreadable("a record"))?,
                definitions,
            });
        }
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<StoredRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.ended {
            match self.read_page() {
                Ok(()) => self.ended = self.page.is_empty(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}
