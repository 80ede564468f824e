//! The store of the simulation: the contract of `Outbox`, in memory.

use std::collections::BTreeSet;

use kit_agent::store::outbox::{Chunk, EpochView, LaneView, ReadLimit};
use kit_protocol::uplink::id::{EpochId, Lane, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use prost::Message;

#[derive(Clone, Default)]
struct ShelfLane {
    records: Vec<(RunId, Vec<u8>)>,
    settled: Settlement,
    quarantined: BTreeSet<u64>,
}

impl ShelfLane {
    /// The lowest number that waits to be sent.
    fn oldest(&self) -> u64 {
        let mut seq = self.settled.next_unsettled(0);
        while self.quarantined.contains(&seq) {
            seq = self.settled.next_unsettled(seq);
        }
        seq
    }
}

struct ShelfEpoch {
    epoch: EpochId,
    lanes: [ShelfLane; 4],
}

/// The model store. It survives the agent.
pub(crate) struct ModelShelf {
    epochs: Vec<ShelfEpoch>,
    run: RunId,
    made: u64,
    /// What a power cut may bring back: settlement that was not on the disk yet.
    on_disk: Vec<[Settlement; 4]>,
}

impl ModelShelf {
    pub(crate) fn new() -> Self {
        let mut shelf = Self { epochs: Vec::new(), run: RunId([0; 8]), made: 0, on_disk: Vec::new() };
        shelf.switch_epoch();
        shelf
    }

    pub(crate) fn switch_epoch(&mut self) {
        let number = u8::try_from(self.epochs.len()).unwrap();
        self.epochs.push(ShelfEpoch { epoch: EpochId([number + 1; 16]), lanes: Default::default() });
    }

    /// Appends a record of its own content, about `octets` large; gives its key.
    pub(crate) fn append(&mut self, lane: Lane, octets: usize) -> (EpochId, Lane, u64) {
        self.made += 1;
        let status = vec![format!("{}", self.made), "x".repeat(octets)];
        let content = wire::record::Content::Reading(wire::Reading { device: 1, status, ..Default::default() });
        let record = wire::Record { clock: 2, content: Some(content), ..Default::default() };
        let run = self.run;
        let epoch = self.epochs.last_mut().unwrap();
        let records = &mut epoch.lanes[lane.index()].records;
        records.push((run, record.encode_to_vec()));
        (epoch.epoch, lane, u64::try_from(records.len()).unwrap())
    }

    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// The agent was killed: a new run; settlement that was not on the disk may be gone.
    pub(crate) fn reopen(&mut self, forget: bool) {
        self.run.0[0] = self.run.0[0].wrapping_add(1);
        if forget {
            for (epoch, settled) in self.epochs.iter_mut().zip(&self.on_disk) {
                for (lane, settled) in epoch.lanes.iter_mut().zip(settled) {
                    lane.settled = settled.clone();
                }
            }
        }
        self.sync();
    }

    fn sync(&mut self) {
        self.on_disk = self.epochs.iter().map(|epoch| epoch.lanes.each_ref().map(|lane| lane.settled.clone())).collect();
    }

    pub(crate) fn views(&self) -> Vec<EpochView> {
        let last = self.epochs.len() - 1;
        let view = |(index, epoch): (usize, &ShelfEpoch)| EpochView {
            epoch: epoch.epoch,
            assignment: None,
            open: index == last,
            lanes: epoch.lanes.each_ref().map(|lane| LaneView {
                oldest: lane.oldest(),
                next: u64::try_from(lane.records.len()).unwrap() + 1,
                settled: lane.settled.clone(),
                octets: 0,
            }),
        };
        self.epochs.iter().enumerate().map(view).collect()
    }

    fn lane(&mut self, epoch: EpochId, lane: Lane) -> &mut ShelfLane {
        &mut self.epochs.iter_mut().find(|known| known.epoch == epoch).unwrap().lanes[lane.index()]
    }

    pub(crate) fn read(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Chunk {
        let current = self.run;
        let lane = self.lane(epoch, lane);
        let mut chunk = Chunk { run: current, records: vec![], unreadable: vec![], definitions: definitions(), next: from };
        let mut octets = 0;
        while chunk.next < limit.before.min(u64::try_from(lane.records.len()).unwrap() + 1) {
            let seq = chunk.next;
            let (run, bytes) = &lane.records[usize::try_from(seq).unwrap() - 1];
            if !lane.settled.contains(seq) && !lane.quarantined.contains(&seq) {
                let full = octets + bytes.len() > limit.octets || chunk.records.len() >= limit.records || *run != chunk.run;
                if full && !chunk.records.is_empty() {
                    break;
                }
                chunk.run = *run;
                octets += bytes.len();
                chunk.records.push((seq, bytes.clone()));
            }
            chunk.next += 1;
        }
        chunk
    }

    pub(crate) fn settle(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) {
        self.lane(epoch, lane).settled.merge(settled);
        if self.made.is_multiple_of(3) {
            self.sync();
        }
    }

    pub(crate) fn reset_settled(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) {
        self.lane(epoch, lane).settled = settled.clone();
        self.sync();
    }

    pub(crate) fn quarantine(&mut self, epoch: EpochId, lane: Lane, seq: u64) {
        self.lane(epoch, lane).quarantined.insert(seq);
    }

    pub(crate) fn is_quarantined(&self, (epoch, lane, seq): (EpochId, Lane, u64)) -> bool {
        self.epochs.iter().any(|known| known.epoch == epoch && known.lanes[lane.index()].quarantined.contains(&seq))
    }

    /// Every key with its record's bytes.
    pub(crate) fn records(&self) -> impl Iterator<Item = ((EpochId, Lane, u64), &[u8])> {
        self.epochs.iter().flat_map(|epoch| {
            Lane::ALL.into_iter().flat_map(move |lane| {
                let records = &epoch.lanes[lane.index()].records;
                (1..).zip(records).map(move |(seq, (_, bytes))| ((epoch.epoch, lane, seq), bytes.as_slice()))
            })
        })
    }

    /// Whether everything is settled.
    pub(crate) fn at_rest(&self) -> bool {
        self.views().iter().all(EpochView::drained)
    }
}

fn definitions() -> Vec<wire::Definition> {
    let device = wire::Device { serial: "1".to_owned(), ..Default::default() };
    let clock = wire::Clock { boot_id: vec![1; 16], ..Default::default() };
    vec![
        wire::Definition { number: 1, what: Some(wire::definition::What::Device(device)) },
        wire::Definition { number: 2, what: Some(wire::definition::What::Clock(clock)) },
    ]
}
