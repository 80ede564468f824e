//! What the centre acknowledged and does not have: found, taken back from what is settled, and asked for again.

use kit_protocol::uplink::id::{EpochId, KitId, Lane, Nonce, Tenant};
use kit_protocol::uplink::wire;
use rusqlite::params;

use super::spans::{self, Span};
use super::{ALL, EpochRow, StoreError, Transaction, column, column_lane, lane_column, number, octets, parsed};
use crate::ingest::Sender;

/// Spans that one round asks for, at most, over all kits: the next round asks for those that are missing then.
pub const RESENDS_PER_ROUND_MAX: i64 = 4_096;

/// Acknowledged numbers of one lane whose records are not there; both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Of this epoch,
    pub epoch: EpochId,
    /// of this lane,
    pub lane: Lane,
    /// from this number
    pub first: u64,
    /// to this one.
    pub last: u64,
}

/// What a kit that is there is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Whom.
    pub sender: Sender,
    /// Of its connection.
    pub nonce: Nonce,
    /// What.
    pub resend: Vec<wire::Resend>,
}

impl Transaction<'_> {
    /// Looks for numbers of `kit` that are settled although there is neither a record, nor one set aside, nor a gap; they
    /// are settled no more, and asked for until they are.
    pub fn take_back_missing(&mut self, kit: &KitId) -> Result<Vec<Missing>, StoreError> {
        let Some(kit) = self.find_kit(kit)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (row, epoch) in self.epochs_of(kit)? {
            for lane in Lane::ALL {
                let settled = self.spans_touching(row, lane, (1, u64::MAX), ALL)?;
                for (first, last) in spans::missing(&settled, &self.kept(row, lane)?) {
                    self.take_back(row, lane, first, last)?;
                    found.push(Missing { epoch, lane, first, last });
                }
            }
        }
        Ok(found)
    }

    /// What is still missing, by the kits that are there. What came, or was declared gone, is no longer asked for.
    pub fn asked(&mut self) -> Result<Vec<Asked>, StoreError> {
        let mut asked: Vec<Asked> = Vec::new();
        for (row, Missing { epoch, lane, first, last }) in self.resends()? {
            let settled = self.spans_touching(row, lane, (first, last), ALL)?;
            let missing: Vec<_> = spans::holes(&settled, last).into_iter().filter(|(_, to)| *to >= first).collect();
            if missing.is_empty() {
                let delete = "DELETE FROM resends WHERE epoch = ?1 AND lane = ?2 AND first = ?3";
                self.write(delete, params![row.0, lane_column(lane), column(first)])?;
                continue;
            }
            let Some((sender, nonce)) = self.present(row)? else { continue };
            let resend = missing.into_iter().map(|(from, to)| wire::Resend {
                epoch: epoch.0.to_vec(),
                lane: lane.to_wire().into(),
                first: from.max(first),
                last: to,
            });
            match asked.iter_mut().find(|asked| asked.sender == sender) {
                Some(asked) => asked.resend.extend(resend),
                None => asked.push(Asked { sender, nonce, resend: resend.collect() }),
            }
        }
        Ok(asked)
    }

    fn epochs_of(&self, kit: i64) -> Result<Vec<(EpochRow, EpochId)>, StoreError> {
        let mut statement = self.sql.prepare_cached("SELECT id, epoch FROM epochs WHERE kit = ?1 ORDER BY id")?;
        let mut rows = statement.query([kit])?;
        let mut epochs = Vec::new();
        while let Some(row) = rows.next()? {
            epochs.push((EpochRow(row.get(0)?), EpochId(octets(row, 1)?)));
        }
        Ok(epochs)
    }

    /// The numbers of which there is something, as spans that do not touch.
    fn kept(&self, epoch: EpochRow, lane: Lane) -> Result<Vec<(u64, u64)>, StoreError> {
        let query = "SELECT seq, seq FROM records WHERE epoch = ?1 AND lane = ?2
                     UNION ALL SELECT seq, seq FROM set_aside WHERE epoch = ?1 AND lane = ?2
                     UNION ALL SELECT first, last FROM gaps WHERE epoch = ?1 AND lane = ?2 ORDER BY 1";
        let mut statement = self.sql.prepare_cached(query)?;
        let mut rows = statement.query(params![epoch.0, lane_column(lane)])?;
        let mut kept: Vec<(u64, u64)> = Vec::new();
        while let Some(row) = rows.next()? {
            let (first, last) = (number(row.get(0)?)?, number(row.get(1)?)?);
            match kept.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => kept.push((first, last)),
            }
        }
        Ok(kept)
    }

    fn take_back(&self, epoch: EpochRow, lane: Lane, first: u64, last: u64) -> Result<(), StoreError> {
        for span in self.spans_touching(epoch, lane, (first, last), ALL)? {
            let delete = "DELETE FROM spans WHERE epoch = ?1 AND lane = ?2 AND first = ?3";
            self.write(delete, params![epoch.0, lane_column(lane), column(span.first)])?;
            if span.first < first {
                // The prefix has the run of its last number only.
                let run = match span.first {
                    1 => self.standing(epoch, lane, first - 1)?.map(|standing| standing.run),
                    _ => span.run,
                };
                self.insert_span(epoch, lane, Span { last: first - 1, run, ..span })?;
            }
            if span.last > last {
                self.insert_span(epoch, lane, Span { first: last + 1, ..span })?;
            }
        }
        let insert = "INSERT OR REPLACE INTO resends (epoch, lane, first, last) VALUES (?1, ?2, ?3, ?4)";
        self.write(insert, params![epoch.0, lane_column(lane), column(first), column(last)])?;
        Ok(())
    }

    fn resends(&self) -> Result<Vec<(EpochRow, Missing)>, StoreError> {
        let query = "SELECT r.epoch, e.epoch, r.lane, r.first, r.last FROM resends r JOIN epochs e ON e.id = r.epoch
                     JOIN kits k ON k.id = e.kit WHERE k.online = 1 ORDER BY r.epoch, r.lane, r.first LIMIT ?1";
        let mut statement = self.sql.prepare_cached(query)?;
        let mut rows = statement.query([RESENDS_PER_ROUND_MAX])?;
        let mut resends = Vec::new();
        while let Some(row) = rows.next()? {
            let lane = column_lane(row.get(2)?)?;
            let (first, last) = (number(row.get(3)?)?, number(row.get(4)?)?);
            resends.push((EpochRow(row.get(0)?), Missing { epoch: EpochId(octets(row, 1)?), lane, first, last }));
        }
        Ok(resends)
    }

    /// The kit of an epoch and the nonce of its connection, where it is there.
    fn present(&self, epoch: EpochRow) -> Result<Option<(Sender, Nonce)>, StoreError> {
        let query = "SELECT k.tenant, k.kit, k.nonce FROM kits k JOIN epochs e ON e.kit = k.id
                     WHERE e.id = ?1 AND k.online = 1 AND k.nonce IS NOT NULL";
        self.one(query, [epoch.0], |row| {
            let (tenant, kit): (Tenant, KitId) = (parsed(row, 0)?, parsed(row, 1)?);
            Ok((Sender { tenant, kit }, Nonce(octets(row, 2)?)))
        })
    }
}
