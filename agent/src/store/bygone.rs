//! Epochs that are deleted: how far their numbers went and what the centre had of them, so that it can be told when it asks.
//!
//! One small file, `bygone`, sealed under the key-encryption key (an epoch's own key goes with it) and replaced whole. It is on
//! the disk before the epoch is removed.

use std::path::PathBuf;

use kit_protocol::uplink::id::{EpochId, Lane};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use prost::Message;

use super::about::{self, About};
use super::epochs::Options;
use super::files::{self, disk_error};
use super::gone::{Fate, Gone};
use super::outbox::{EpochView, LaneView, StoreError};
use super::seal::{Kek, open_under_kek, seal_under_kek};

/// Deleted epochs that are remembered, at most; the oldest are forgotten.
pub(crate) const BYGONE_EPOCHS_MAX: usize = 64;
const LABEL: &[u8] = b"epochs that are deleted";

/// One epoch that is deleted.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bygone {
    #[prost(bytes = "vec", tag = "1")]
    epoch: Vec<u8>,
    #[prost(uint64, tag = "2")]
    ordinal: u64,
    #[prost(string, optional, tag = "3")]
    assignment: Option<String>,
    /// By [`Lane::index`].
    #[prost(message, repeated, tag = "4")]
    lanes: Vec<BygoneLane>,
}

#[derive(Clone, PartialEq, Message)]
struct BygoneLane {
    #[prost(message, optional, tag = "1")]
    settled: Option<wire::LaneSettlement>,
    #[prost(uint64, tag = "2")]
    next: u64,
    /// What gaps in the journal name.
    #[prost(message, repeated, tag = "3")]
    declared: Vec<Span>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint64, tag = "2")]
    last: u64,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    epochs: Vec<Bygone>,
}

impl Bygone {
    /// Of an epoch all of whose records are settled.
    pub(crate) fn new(id: EpochId, about: &About, lanes: &[LaneView; 4]) -> Self {
        let lane = |lane: Lane| {
            let view = &lanes[lane.index()];
            BygoneLane { settled: Some(view.settled.to_wire(id, lane)), next: view.next, declared: Vec::new() }
        };
        Self {
            epoch: id.0.to_vec(),
            ordinal: about.ordinal,
            assignment: about.assignment.clone(),
            lanes: Lane::ALL.into_iter().map(lane).collect(),
        }
    }

    /// Takes in what the centre settled, which is nothing new.
    pub(crate) fn settle(&mut self, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        self.refuse_foreign(lane, settled)?;
        let mut merged = self.settled(lane);
        merged.merge(settled);
        self.put_settled(lane, &merged);
        Ok(())
    }

    /// Numbers that the epoch never gave.
    pub(crate) fn refuse_foreign(&self, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
        let seq = settled.ranges().last().map_or(settled.settled_upto(), |range| range.last);
        if seq < self.next(lane) {
            return Ok(());
        }
        Err(StoreError::Foreign { epoch: self.id().unwrap_or(EpochId([0; 16])), lane, seq })
    }

    /// The number after the lane's last.
    pub(crate) fn next(&self, lane: Lane) -> u64 {
        self.lanes.get(lane.index()).map_or(1, |lane| lane.next.max(1))
    }

    /// Every number of the lane, and which of them gaps name.
    pub(crate) fn gone(&self, lane: Lane) -> Gone {
        let mut gone = Gone::default();
        gone.mark(1, self.next(lane) - 1, Fate::Acknowledged);
        let declared = self.lanes.get(lane.index()).into_iter().flat_map(|lane| &lane.declared);
        declared.for_each(|span| gone.mark(span.first, span.last, Fate::Declared));
        gone
    }

    fn id(&self) -> Option<EpochId> {
        EpochId::from_slice(&self.epoch)
    }

    fn settled(&self, lane: Lane) -> Settlement {
        let settled = self.lanes.get(lane.index()).and_then(|lane| lane.settled.as_ref());
        settled.map(Settlement::from_wire).unwrap_or_default()
    }

    fn put_settled(&mut self, lane: Lane, settled: &Settlement) {
        let id = self.id();
        if let (Some(id), Some(known)) = (id, self.lanes.get_mut(lane.index())) {
            known.settled = Some(settled.to_wire(id, lane));
        }
    }

    fn view(&self) -> Option<EpochView> {
        let lane = |lane: Lane| {
            let next = self.next(lane);
            LaneView { oldest: next, next, settled: self.settled(lane), octets: 0 }
        };
        Some(EpochView { epoch: self.id()?, assignment: self.assignment.clone(), open: false, lanes: Lane::ALL.map(lane) })
    }
}

/// All of them, the oldest first.
#[derive(Debug)]
pub(crate) struct Bygones {
    path: PathBuf,
    kek: Kek,
    epochs: Vec<Bygone>,
}

impl Bygones {
    /// Those of the store of `options`. A file that does not open is as good as none: nothing is lost by it but the telling.
    pub(crate) fn open(options: &Options) -> Result<Self, StoreError> {
        let path = options.dir.join("bygone");
        let sealed = files::read(&path).map_err(|error| disk_error("bygone", &error))?;
        let opened = sealed.as_ref().map(|sealed| {
            let octets = open_under_kek(&options.kek, LABEL, sealed).ok()?;
            Some(File::decode(octets.as_slice()).ok()?.epochs)
        });
        if opened == Some(None) {
            tracing::warn!("what is known of deleted epochs does not open");
        }
        Ok(Self { path, kek: options.kek.clone(), epochs: opened.flatten().unwrap_or_default() })
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EpochId> + '_ {
        self.epochs.iter().filter_map(Bygone::id)
    }

    /// As listings and the planner see them, each with its place among the kit's epochs.
    pub(crate) fn views(&self) -> impl Iterator<Item = (u64, EpochView)> + '_ {
        self.epochs.iter().filter_map(|bygone| Some((bygone.ordinal, bygone.view()?)))
    }

    /// One of them.
    pub(crate) fn get_mut(&mut self, id: EpochId) -> Option<&mut Bygone> {
        self.epochs.iter_mut().find(|bygone| bygone.epoch == id.0)
    }

    /// One more; durable.
    pub(crate) fn add(&mut self, bygone: Bygone) -> Result<(), StoreError> {
        self.epochs.retain(|known| known.epoch != bygone.epoch);
        self.epochs.push(bygone);
        let too_many = self.epochs.len().saturating_sub(BYGONE_EPOCHS_MAX);
        self.epochs.drain(..too_many);
        self.save()
    }

    /// What the centre's database holds of a lane, and what gaps name of it from here on; durable.
    pub(crate) fn reset(
        &mut self,
        id: EpochId,
        lane: Lane,
        settled: &Settlement,
        named: &[(u64, u64)],
    ) -> Result<(), StoreError> {
        let Some(bygone) = self.get_mut(id) else { return Err(StoreError::NoEpoch(id)) };
        bygone.put_settled(lane, settled);
        if named.is_empty() {
            return Ok(());
        }
        let mut gone = bygone.gone(lane);
        named.iter().for_each(|(first, last)| gone.mark(*first, *last, Fate::Declared));
        let declared = gone.spans().filter(|(_, _, fate)| *fate == Fate::Declared);
        let declared = declared.map(|(first, last, _)| Span { first, last }).collect();
        if let Some(known) = bygone.lanes.get_mut(lane.index()) {
            known.declared = declared;
        }
        self.save()
    }

    fn save(&self) -> Result<(), StoreError> {
        let file = File { epochs: self.epochs.clone() };
        let sealed = seal_under_kek(&self.kek, LABEL, &file.encode_to_vec()).map_err(about::no_random)?;
        files::replace(&self.path, &sealed).map_err(|error| disk_error("bygone", &error))
    }
}
