//! The centre of the simulation: stores by key, settles what it committed, rejects poison, can be restored to yesterday.

use std::collections::{BTreeMap, BTreeSet};

use kit_protocol::uplink::id::{EpochId, Lane, Nonce, RunId};
use kit_protocol::uplink::settlement::{Range, Settlement};
use kit_protocol::uplink::wire;

pub(crate) type Key = (EpochId, Lane, u64);

/// What the centre does with a record of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// Refuses it for good.
    Permanent,
    /// Refuses it this many times, then takes it.
    Later(u8),
}

#[derive(Clone, Default)]
pub(crate) struct ModelCentre {
    stored: BTreeMap<Key, (RunId, Vec<u8>)>,
    rejected: BTreeSet<Key>,
    settled: BTreeMap<(EpochId, Lane), Settlement>,
}

impl ModelCentre {
    /// Takes in a batch; commits, then answers.
    pub(crate) fn batch(&mut self, batch: &wire::Batch, poison: &mut BTreeMap<Key, Poison>) -> (wire::Answer, Vec<Key>) {
        let epoch = EpochId::from_slice(&batch.epoch).unwrap();
        let lane = Lane::from_wire(batch.lane).unwrap();
        let run = RunId::from_slice(&batch.run).unwrap();
        let mut answer = wire::Answer { nonce: batch.nonce.clone(), ..Default::default() };
        let mut committed = Vec::new();
        let mut seq = batch.first;
        for entry in &batch.entries {
            seq += u64::from(entry.skipped);
            let key = (epoch, lane, seq);
            match poison.get_mut(&key) {
                Some(Poison::Permanent) => {
                    self.rejected.insert(key);
                    self.settle(key, run);
                    answer.reject.push(reject(key, run, wire::RejectReason::TooBig, 0));
                }
                Some(Poison::Later(times)) if *times > 0 && !self.stored.contains_key(&key) => {
                    *times -= 1;
                    answer.reject.push(reject(key, run, wire::RejectReason::Database, 1000 + u32::from(*times) * 9000));
                }
                _ => {
                    let known = self.stored.entry(key).or_insert_with(|| (run, entry.record.clone()));
                    assert_eq!(known, &(run, entry.record.clone()), "another record under the key {key:?}");
                    self.settle(key, run);
                    committed.push(key);
                }
            }
            seq += 1;
        }
        answer.ack.push(self.settlement(epoch, lane).to_wire(epoch, lane));
        (answer, committed)
    }

    /// Answers `state` with all that the database knows.
    pub(crate) fn state(&self, nonce: Nonce, epochs: &[EpochId]) -> wire::Answer {
        let lanes = epochs.iter().flat_map(|epoch| Lane::ALL.map(|lane| self.settlement(*epoch, lane).to_wire(*epoch, lane)));
        wire::Answer { nonce: nonce.0.to_vec(), settled: Some(wire::Settled { lanes: lanes.collect() }), ..Default::default() }
    }

    fn settle(&mut self, (epoch, lane, seq): Key, run: RunId) {
        self.settled.entry((epoch, lane)).or_default().add(Range { first: seq, last: seq, run: Some(run) });
    }

    fn settlement(&self, epoch: EpochId, lane: Lane) -> Settlement {
        self.settled.get(&(epoch, lane)).cloned().unwrap_or_default()
    }

    pub(crate) fn stored(&self, key: &Key) -> Option<&[u8]> {
        self.stored.get(key).map(|(_, bytes)| bytes.as_slice())
    }

    pub(crate) fn stored_count(&self) -> usize {
        self.stored.len()
    }

    pub(crate) fn has_settled(&self, key: &Key) -> bool {
        self.stored.contains_key(key) || self.rejected.contains(key)
    }

    pub(crate) fn octets(&self, lane: Lane) -> usize {
        self.stored.iter().filter(|((_, of, _), _)| *of == lane).map(|(_, (_, bytes))| bytes.len()).sum()
    }
}

fn reject((epoch, lane, seq): Key, run: RunId, reason: wire::RejectReason, retry_after_ms: u32) -> wire::Reject {
    wire::Reject {
        epoch: epoch.0.to_vec(),
        lane: lane.to_wire().into(),
        seq,
        run: run.0.to_vec(),
        reason: reason.into(),
        retry_after_ms,
    }
}
