//! The centre's database (SQLite, WAL, `synchronous=FULL`): one [`Transaction`] per group of messages, and nothing is
//! answered before its commit has returned. [`Reader`] reads it from any process while the service writes.

mod reader;
mod resends;
mod spans;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use kit_protocol::uplink::id::{EpochId, KitId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, GapReason, RejectReason, definition::What};
use prost::Message as _;
use rusqlite::{Connection, ErrorCode, Row, ToSql, TransactionBehavior, params};

pub use self::reader::{AuditEntry, Filter, KitView, LaneView, Reader, Records, RejectedRecord, StoredGap, StoredRecord};
pub use self::resends::{Asked, Missing, RESENDS_PER_ROUND_MAX};
use self::spans::Span;
use crate::assignment::SignedAssignment;
use crate::clock::WallTime;
use crate::ingest::{Batch, Decision, Effect, Entry, Fate, Known, Refusal, Sender, Standing, State};
use crate::keyring::Keyring;
use crate::signature::PublicKey;

/// The schema's version, kept in `user_version`.
const SCHEMA_VERSION: i64 = 2;
/// How long a write waits for another process's (`kit-centre assign`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Different findings that the audit keeps; further ones are counted together.
const AUDIT_ROWS_MAX: i64 = 100_000;
/// Counters that one opening of the database reserves for signed announcements.
const COUNTERS_PER_OPENING: i64 = 1 << 36;
/// Spans that an answer needs: the prefix, and as many ranges as it may name.
const SPANS_PER_ANSWER_MAX: i64 = 65;
/// No limit, as SQLite writes it.
const ALL: i64 = -1;
/// The reason of a number that is settled as a duplicate, in `set_aside`.
const DUPLICATE: i32 = 0;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it: try again.
    #[error("the database is busy")]
    Busy,
    /// The disk, or the database's own bound, is full: try again later.
    #[error("no room for the database: {0}")]
    Full(String),
    /// Written by a newer kit-centre, or no database of one.
    #[error("the database has schema version {0}, this program knows {SCHEMA_VERSION}")]
    Version(i64),
    /// What it holds is not what was written.
    #[error("the database holds something unreadable: {0}")]
    Unreadable(&'static str),
    /// Anything else SQLite says.
    #[error("the database failed: {0}")]
    Broken(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            _ => Self::Broken(error),
        }
    }
}

/// The database, open for writing.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens it, making it where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::prepare(Connection::open(path)?)
    }

    /// A database that ends with the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(64);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        if !(0..=SCHEMA_VERSION).contains(&version) {
            return Err(StoreError::Version(version));
        }
        let steps = [include_str!("store/schema.sql"), include_str!("store/resends.sql")];
        for step in steps.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
        Ok(Self { connection })
    }

    /// Bounds the database's size, in pages of 4,096 octets; past it every write fails as on a full disk.
    pub fn limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        Ok(self.connection.pragma_update(None, "max_page_count", pages)?)
    }

    /// Every enrolled key.
    pub fn keyring(&self) -> Result<Keyring, StoreError> {
        let mut keyring = Keyring::default();
        let mut statement =
            self.connection.prepare("SELECT tenant, kit.kit, spki, revoked FROM keys JOIN kits kit ON kit.id = keys.kit")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key = PublicKey::from_spki(&row.get::<_, Vec<u8>>(2)?).map_err(|_| StoreError::Unreadable("a key"))?;
            keyring.enrol(&parsed(row, 0)?, &parsed(row, 1)?, key, row.get::<_, Option<i64>>(3)?.is_some());
        }
        Ok(keyring)
    }

    /// Reserves a block of counters that no opening before has used, and gives the first.
    ///
    /// They follow the wall clock where it is ahead, so that a database made anew goes on above what was announced before.
    pub fn reserve_counters(&mut self, now: WallTime) -> Result<u64, StoreError> {
        let query = "INSERT INTO meta (name, value) VALUES ('counter', max(0, ?2) + ?1)
                     ON CONFLICT (name) DO UPDATE SET value = max(value, ?2) + ?1 RETURNING value - ?1 + 1";
        number(self.connection.query_row(query, [COUNTERS_PER_OPENING, now.0], |row| row.get(0))?)
    }

    /// Begins a group. What is not committed is as if it had never been.
    pub fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(Transaction { sql: self.connection.transaction_with_behavior(TransactionBehavior::Immediate)? })
    }
}

/// Writes that become durable together.
#[derive(Debug)]
pub struct Transaction<'a> {
    sql: rusqlite::Transaction<'a>,
}

/// An epoch's row.
#[derive(Clone, Copy, Debug)]
struct EpochRow(i64);

impl Transaction<'_> {
    /// Makes it durable: once this has returned, its answers may go out.
    pub fn commit(self) -> Result<(), StoreError> {
        Ok(self.sql.commit()?)
    }

    /// What is known of everything that `batch` names.
    pub fn known(&self, sender: &Sender, batch: &Batch) -> Result<Known, StoreError> {
        let Some(kit) = self.find_kit(&sender.kit)? else { return Ok(Known::default()) };
        let mut known = Known { origins: self.known_origins(kit, batch)?, ..Known::default() };
        if let Some(epoch) = self.find_epoch(kit, batch.epoch)? {
            // Every number of a record or of what was set aside is in a span, and most batches bring only new ones.
            let range = batch.entries.first().zip(batch.entries.last()).map(|(first, last)| (first.seq, last.seq));
            let seen = range.map_or(Ok(Vec::new()), |range| self.spans_touching(epoch, batch.lane, range, ALL))?;
            for entry in &batch.entries {
                let settled = seen.iter().any(|span| (span.first..=span.last).contains(&entry.seq));
                if settled && let Some(standing) = self.standing(epoch, batch.lane, entry.seq)? {
                    known.numbers.insert(entry.seq, standing);
                }
            }
            known.definitions = self.definitions(epoch, batch)?;
        }
        for id in batch.assignments(&known.definitions) {
            let owner = self.one("SELECT kit FROM assignments WHERE id = ?1", [id], |row| parsed(row, 0))?;
            if let Some(owner) = owner {
                known.assignments.insert(id.to_owned(), owner);
            }
        }
        Ok(known)
    }

    /// Carries out a decision about `batch`, and gives the lanes of epochs whose settlement it touched.
    pub fn apply(
        &mut self,
        sender: &Sender,
        batch: &Batch,
        decision: &Decision,
        now: WallTime,
    ) -> Result<Vec<(EpochId, Lane, Settlement)>, StoreError> {
        let kit = self.kit(sender, now)?;
        let epoch = self.epoch(kit, batch.epoch)?;
        for (number, what) in &decision.define {
            let definition = wire::Definition { number: *number, what: Some(what.clone()) };
            let query = "INSERT INTO definitions (epoch, run, number, octets) VALUES (?1, ?2, ?3, ?4)";
            self.write(query, params![epoch.0, batch.run.0, number, definition.encode_to_vec()])?;
        }
        let mut settled: Option<Span> = None;
        for (index, fate) in &decision.settle {
            let Some(entry) = batch.entries.get(*index) else { continue };
            self.keep(kit, epoch, batch, entry, *fate, now)?;
            settled = match settled {
                Some(span) if span.last + 1 == entry.seq => Some(Span { last: entry.seq, ..span }),
                before => {
                    self.settle(epoch, batch.lane, before)?;
                    Some(Span { first: entry.seq, last: entry.seq, run: Some(batch.run) })
                }
            };
        }
        self.settle(epoch, batch.lane, settled)?;
        let mut touched = vec![(batch.epoch, batch.lane)];
        for effect in &decision.effects {
            touched.extend(self.effect(kit, effect, now)?);
        }
        touched.sort_unstable();
        touched.dedup();
        let of_interest = batch.entries.first().zip(batch.entries.last()).map(|(first, last)| (first.seq, last.seq));
        let lanes = touched.into_iter().map(|(epoch, lane)| {
            let interest = of_interest.filter(|_| (epoch, lane) == (batch.epoch, batch.lane));
            Ok((epoch, lane, self.settlement(&sender.kit, epoch, lane, interest)?))
        });
        lanes.collect()
    }

    /// Keeps a kit's state and its key, and gives what is settled of every lane of every epoch it names.
    pub fn note_state(
        &mut self,
        sender: &Sender,
        state: &State,
        now: WallTime,
    ) -> Result<Vec<(EpochId, Lane, Settlement)>, StoreError> {
        let kit = self.kit(sender, now)?;
        let enrol = "INSERT OR IGNORE INTO keys (kit, spki, enrolled) VALUES (?1, ?2, ?3)";
        self.write(enrol, params![kit, state.key.spki(), now.0])?;
        if state.wire.offline {
            // A will speaks only for the connection it was left with.
            self.write("UPDATE kits SET online = 0 WHERE id = ?1 AND nonce = ?2", params![kit, state.nonce.0])?;
            return Ok(Vec::new());
        }
        let birth = "UPDATE kits SET online = 1, nonce = ?2, version = ?3, state = ?4, last_seen = ?5 WHERE id = ?1";
        self.write(birth, params![kit, state.nonce.0, state.wire.version, state.wire.encode_to_vec(), now.0])?;
        let mut settled = Vec::new();
        for (epoch, assignment) in &state.epochs {
            if let Some(assignment) = assignment {
                self.epoch(kit, *epoch)?;
                let name = "UPDATE epochs SET assignment = ?3 WHERE kit = ?1 AND epoch = ?2 AND assignment IS NULL";
                self.write(name, params![kit, epoch.0, assignment])?;
            }
            for lane in Lane::ALL {
                settled.push((*epoch, lane, self.settlement(&sender.kit, *epoch, lane, None)?));
            }
        }
        Ok(settled)
    }

    /// What is settled of one lane; nothing where nothing is known. Ranges that touch `of_interest` are named first.
    pub fn settlement(
        &self,
        kit: &KitId,
        epoch: EpochId,
        lane: Lane,
        of_interest: Option<(u64, u64)>,
    ) -> Result<Settlement, StoreError> {
        let Some(kit) = self.find_kit(kit)? else { return Ok(Settlement::default()) };
        let Some(epoch) = self.find_epoch(kit, epoch)? else { return Ok(Settlement::default()) };
        let mut spans = self.spans_touching(epoch, lane, (1, u64::MAX), SPANS_PER_ANSWER_MAX)?;
        if let Some(around) = of_interest {
            let highest = spans.last().map_or(0, |span| span.last);
            let interesting = self.spans_touching(epoch, lane, around, SPANS_PER_ANSWER_MAX)?;
            spans.extend(interesting.into_iter().filter(|span| span.first > highest));
        }
        Ok(spans::settlement(spans, of_interest))
    }

    /// Keeps a finding; equal ones are counted. Nothing clinical goes in here.
    pub fn audit(&mut self, topic: &str, finding: &Refusal, now: WallTime) -> Result<(), StoreError> {
        let again = "UPDATE audit SET count = count + 1, last = ?4 WHERE topic = ?1 AND what = ?2 AND detail = ?3";
        let what = finding.fault.name();
        if self.write(again, params![topic, what, finding.detail, now.0])? > 0 {
            return Ok(());
        }
        let rows: i64 = self.sql.query_row("SELECT coalesce(max(id), 0) FROM audit", [], |row| row.get(0))?;
        let (topic, detail) = if rows < AUDIT_ROWS_MAX { (topic, finding.detail.as_str()) } else { ("", "the audit is full") };
        let insert = "INSERT INTO audit (topic, what, detail, first, last) VALUES (?1, ?2, ?3, ?4, ?4)
                      ON CONFLICT (topic, what, detail) DO UPDATE SET count = count + 1, last = ?4";
        self.write(insert, params![topic, what, detail, now.0])?;
        Ok(())
    }

    /// The counter of the next document for `kit`.
    pub fn next_document_counter(&self, kit: &KitId) -> Result<u64, StoreError> {
        let query = "SELECT coalesce(max(counter), 0) + 1 FROM assignments WHERE kit = ?1";
        number(self.sql.query_row(query, [kit.as_str()], |row| row.get(0))?)
    }

    /// Keeps a signed assignment; `false` where its id is taken.
    pub fn keep_assignment(&mut self, signed: &SignedAssignment, now: WallTime) -> Result<bool, StoreError> {
        let it = &signed.assignment;
        let insert = "INSERT OR IGNORE INTO assignments (id, tenant, kit, patient, counter, start_us, end_us, signed, document)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let counter = column(it.counter);
        let values = params![it.id, it.tenant, it.kit, it.patient, counter, it.start_us, it.end_us, now.0, signed.envelope];
        Ok(self.write(insert, values)? == 1)
    }

    // ---- rows ----------------------------------------------------------------------------------------------------

    fn write(&self, query: &str, values: &[&dyn ToSql]) -> Result<usize, StoreError> {
        Ok(self.sql.prepare_cached(query)?.execute(values)?)
    }

    fn one<T>(
        &self,
        query: &str,
        values: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.sql.prepare_cached(query)?;
        let mut rows = statement.query(values)?;
        rows.next()?.map(read).transpose()
    }

    fn find_kit(&self, kit: &KitId) -> Result<Option<i64>, StoreError> {
        self.one("SELECT id FROM kits WHERE kit = ?1", [kit.as_str()], |row| Ok(row.get(0)?))
    }

    fn kit(&self, sender: &Sender, now: WallTime) -> Result<i64, StoreError> {
        if let Some(kit) = self.find_kit(&sender.kit)? {
            self.write("UPDATE kits SET last_seen = ?2 WHERE id = ?1", params![kit, now.0])?;
            return Ok(kit);
        }
        let insert = "INSERT INTO kits (kit, tenant, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)";
        self.write(insert, params![sender.kit.as_str(), sender.tenant.as_str(), now.0])?;
        Ok(self.sql.last_insert_rowid())
    }

    fn find_epoch(&self, kit: i64, epoch: EpochId) -> Result<Option<EpochRow>, StoreError> {
        let query = "SELECT id FROM epochs WHERE kit = ?1 AND epoch = ?2";
        self.one(query, params![kit, epoch.0], |row| Ok(EpochRow(row.get(0)?)))
    }

    fn epoch(&self, kit: i64, epoch: EpochId) -> Result<EpochRow, StoreError> {
        if let Some(row) = self.find_epoch(kit, epoch)? {
            return Ok(row);
        }
        self.write("INSERT INTO epochs (kit, epoch) VALUES (?1, ?2)", params![kit, epoch.0])?;
        Ok(EpochRow(self.sql.last_insert_rowid()))
    }

    fn standing(&self, epoch: EpochRow, lane: Lane, seq: u64) -> Result<Option<Standing>, StoreError> {
        let key = params![epoch.0, lane_column(lane), column(seq)];
        let stored = "SELECT digest, run FROM records WHERE epoch = ?1 AND lane = ?2 AND seq = ?3";
        let found = self
            .one(stored, key, |row| Ok(Standing { digest: octets(row, 0)?, run: RunId(octets(row, 1)?), fate: Fate::Stored }))?;
        if found.is_some() {
            return Ok(found);
        }
        let aside = "SELECT digest, run, reason FROM set_aside WHERE epoch = ?1 AND lane = ?2 AND seq = ?3";
        self.one(aside, key, |row| {
            let fate = match row.get(2)? {
                DUPLICATE => Fate::Duplicate,
                reason => Fate::Rejected(RejectReason::try_from(reason).unwrap_or(RejectReason::Unreadable)),
            };
            Ok(Standing { digest: octets(row, 0)?, run: RunId(octets(row, 1)?), fate })
        })
    }

    fn known_origins(&self, kit: i64, batch: &Batch) -> Result<BTreeSet<Origin>, StoreError> {
        let origins = batch.entries.iter().filter_map(|entry| entry.record.as_ref().ok().and_then(|record| record.origin));
        let mut known = BTreeSet::new();
        for origin in origins {
            let query = "SELECT 1 FROM records WHERE kit = ?1 AND origin = ?2";
            if self.one(query, params![kit, origin.0], |_| Ok(()))?.is_some() {
                known.insert(origin);
            }
        }
        Ok(known)
    }

    fn definitions(&self, epoch: EpochRow, batch: &Batch) -> Result<BTreeMap<u32, What>, StoreError> {
        let mut known = BTreeMap::new();
        for number in batch.numbers() {
            let query = "SELECT octets FROM definitions WHERE epoch = ?1 AND run = ?2 AND number = ?3";
            let found = self.one(query, params![epoch.0, batch.run.0, number], |row| Ok(row.get::<_, Vec<u8>>(0)?))?;
            if let Some(octets) = found {
                let definition =
                    wire::Definition::decode(octets.as_slice()).map_err(|_| StoreError::Unreadable("a definition"))?;
                known.extend(definition.what.map(|what| (number, what)));
            }
        }
        Ok(known)
    }

    fn keep(&self, kit: i64, epoch: EpochRow, batch: &Batch, entry: &Entry, fate: Fate, now: WallTime) -> Result<(), StoreError> {
        let (lane, seq) = (lane_column(batch.lane), column(entry.seq));
        let reason = match fate {
            Fate::Stored => {
                let origin = entry.record.as_ref().ok().and_then(|record| record.origin).map(|origin| origin.0);
                let insert = "INSERT INTO records (kit, epoch, lane, seq, run, digest, received, origin, octets)
                              VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
                let values = params![kit, epoch.0, lane, seq, batch.run.0, entry.digest, now.0, origin, entry.octets];
                self.write(insert, values)?;
                return Ok(());
            }
            Fate::Duplicate => DUPLICATE,
            Fate::Rejected(reason) => reason.into(),
        };
        let insert = "INSERT INTO set_aside (epoch, lane, seq, run, digest, received, reason, octets)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.write(insert, params![epoch.0, lane, seq, batch.run.0, entry.digest, now.0, reason, entry.octets])?;
        Ok(())
    }

    fn effect(&self, kit: i64, effect: &Effect, now: WallTime) -> Result<Vec<(EpochId, Lane)>, StoreError> {
        match effect {
            Effect::Opened { epoch, assignment } => {
                let row = self.epoch(kit, *epoch)?;
                self.write("UPDATE epochs SET assignment = ?2 WHERE id = ?1", params![row.0, assignment])?;
                Ok(Vec::new())
            }
            Effect::Gone { epoch, lane, first, last, reason, oldest_boottime_ns, newest_boottime_ns } => {
                let row = self.epoch(kit, *epoch)?;
                self.gap(row, *lane, (*first, *last), *reason, (*oldest_boottime_ns, *newest_boottime_ns), now)?;
                Ok(vec![(*epoch, *lane)])
            }
            Effect::Closed { epoch, ends, lost, reason } => {
                let row = self.epoch(kit, *epoch)?;
                self.write("UPDATE epochs SET closed = ?2 WHERE id = ?1", params![row.0, reason])?;
                for (lane, last) in ends {
                    let insert = "INSERT OR REPLACE INTO ends (epoch, lane, last) VALUES (?1, ?2, ?3)";
                    self.write(insert, params![row.0, lane_column(*lane), last.map(column)])?;
                    if *lost {
                        self.declare_lost(row, *lane, *last, now)?;
                    }
                }
                Ok(ends.iter().filter(|_| *lost).map(|(lane, _)| (*epoch, *lane)).collect())
            }
        }
    }

    /// Declares every number up to `last` that has not come as lost with the store; where the kit does not know `last`,
    /// up to the highest number that came.
    fn declare_lost(&self, epoch: EpochRow, lane: Lane, last: Option<u64>, now: WallTime) -> Result<(), StoreError> {
        let spans = self.spans_touching(epoch, lane, (1, u64::MAX), ALL)?;
        let last = last.or_else(|| spans.last().map(|span| span.last)).unwrap_or(0);
        for hole in spans::holes(&spans, last) {
            self.gap(epoch, lane, hole, GapReason::LostWithStore.into(), (0, 0), now)?;
        }
        Ok(())
    }

    fn gap(
        &self,
        epoch: EpochRow,
        lane: Lane,
        gone: (u64, u64),
        reason: i32,
        times: (u64, u64),
        now: WallTime,
    ) -> Result<(), StoreError> {
        let insert =
            "INSERT OR IGNORE INTO gaps (epoch, lane, first, last, reason, oldest_boottime_ns, newest_boottime_ns, declared)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (first, last) = gone;
        let values =
            params![epoch.0, lane_column(lane), column(first), column(last), reason, column(times.0), column(times.1), now.0];
        self.write(insert, values)?;
        self.settle(epoch, lane, Some(Span { first, last, run: None }))
    }

    // ---- spans ---------------------------------------------------------------------------------------------------

    /// Settles numbers; what was settled before keeps its run.
    fn settle(&self, epoch: EpochRow, lane: Lane, new: Option<Span>) -> Result<(), StoreError> {
        let Some(new) = new else { return Ok(()) };
        let before = self.spans_touching(epoch, lane, (new.first.saturating_sub(1), new.last.saturating_add(1)), ALL)?;
        let mut after = spans::fill(&before, new);
        let mut gone: Vec<u64> = before.iter().map(|span| span.first).collect();
        // The prefix may now reach spans of another run further up, each of which may touch the next.
        while let [prefix] = after.as_slice()
            && prefix.first == 1
            && let Some(next) = self.span_at(epoch, lane, prefix.last.saturating_add(1))?
        {
            gone.push(next.first);
            after = spans::join(&[*prefix, next]);
        }
        for first in gone {
            let delete = "DELETE FROM spans WHERE epoch = ?1 AND lane = ?2 AND first = ?3";
            self.write(delete, params![epoch.0, lane_column(lane), column(first)])?;
        }
        after.into_iter().try_for_each(|span| self.insert_span(epoch, lane, span))
    }

    fn insert_span(&self, epoch: EpochRow, lane: Lane, span: Span) -> Result<(), StoreError> {
        let insert = "INSERT INTO spans (epoch, lane, first, last, run) VALUES (?1, ?2, ?3, ?4, ?5)";
        let run = span.run.map(|run| run.0);
        self.write(insert, params![epoch.0, lane_column(lane), column(span.first), column(span.last), run])?;
        Ok(())
    }

    /// The lowest spans that hold a number of `within`, ascending.
    fn spans_touching(&self, epoch: EpochRow, lane: Lane, within: (u64, u64), at_most: i64) -> Result<Vec<Span>, StoreError> {
        // Spans are disjoint, so only the last one that begins before `first` can reach into it.
        let query = "SELECT first, last, run FROM spans
                     WHERE epoch = ?1 AND lane = ?2 AND last >= ?3 AND first <= ?4 AND first >= coalesce(
                       (SELECT max(first) FROM spans WHERE epoch = ?1 AND lane = ?2 AND first <= ?3), 0)
                     ORDER BY first LIMIT ?5";
        let mut statement = self.sql.prepare_cached(query)?;
        let mut rows = statement.query(params![epoch.0, lane_column(lane), column(within.0), column(within.1), at_most])?;
        let mut spans = Vec::new();
        while let Some(row) = rows.next()? {
            spans.push(read_span(row)?);
        }
        Ok(spans)
    }

    fn span_at(&self, epoch: EpochRow, lane: Lane, first: u64) -> Result<Option<Span>, StoreError> {
        let query = "SELECT first, last, run FROM spans WHERE epoch = ?1 AND lane = ?2 AND first = ?3";
        self.one(query, params![epoch.0, lane_column(lane), column(first)], read_span)
    }
}

// ---- columns ---------------------------------------------------------------------------------------------------------

fn read_span(row: &Row<'_>) -> Result<Span, StoreError> {
    let run: Option<Vec<u8>> = row.get(2)?;
    let run = run.map(|run| RunId::from_slice(&run).ok_or(StoreError::Unreadable("a run"))).transpose()?;
    Ok(Span { first: number(row.get(0)?)?, last: number(row.get(1)?)?, run })
}

fn lane_column(lane: Lane) -> i64 {
    // A lane's index is below 4.
    i64::try_from(lane.index()).unwrap_or(i64::MAX)
}

fn column_lane(column: i64) -> Result<Lane, StoreError> {
    let lane = usize::try_from(column).ok().and_then(|index| Lane::ALL.get(index).copied());
    lane.ok_or(StoreError::Unreadable("a lane"))
}

/// A number as a column holds it; what no lane can reach is the highest that one can.
fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(column: i64) -> Result<u64, StoreError> {
    u64::try_from(column).map_err(|_| StoreError::Unreadable("a number"))
}

fn octets<const N: usize>(row: &Row<'_>, index: usize) -> Result<[u8; N], StoreError> {
    Ok(row.get(index)?)
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    row.get::<_, String>(index)?.parse().map_err(|_| StoreError::Unreadable("a name"))
}
