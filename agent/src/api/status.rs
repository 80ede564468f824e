//! What `status`, `queue` and `devices` say, as the API carries it. No clinical value and no name of a person.

use serde::{Deserialize, Serialize};

use crate::acquisition::roster::DeviceView;
use crate::store::outbox::EpochView;
use crate::store::thread::StoreView;
use kit_protocol::uplink::id::Lane;

/// The kit at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The kit's id.
    pub kit: String,
    /// The health authority.
    pub tenant: String,
    /// The agent's version.
    pub version: String,
    /// Seconds since the agent started.
    pub up_s: u64,
    /// The active assignment; `null`: none, readings are kept as unassigned.
    pub assignment: Option<String>,
    /// How the wall clock is judged.
    pub clock: String,
    /// The link to the centre.
    pub link: LinkStatus,
    /// Records that wait for the centre, over all epochs and lanes.
    pub waiting: u64,
    /// Records kept from being sent, for a technician to look at.
    pub quarantined: u64,
    /// What is wrong with the store, and what to do.
    pub store_trouble: Option<String>,
    /// The devices.
    pub devices: Vec<DeviceView>,
}

/// The link to the centre at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Connected to the broker.
    pub connected: bool,
    /// `host:port` of the broker.
    pub broker: String,
    /// The centre has said what it holds since this connection began.
    pub settled: bool,
    /// The centre says that it is online.
    pub centre_online: bool,
    /// Seconds since the centre last acknowledged anything.
    pub last_acknowledgement_age_s: Option<u64>,
    /// Batches on the wire.
    pub in_flight: u64,
    /// Why there is no link, and what to do.
    pub refusal: Option<String>,
    /// Why the centre does not believe what the kit sends; nothing is sent for a while then, and tried again.
    #[serde(default)]
    pub paused: Option<String>,
    /// What a person must look at, the latest last.
    pub troubles: Vec<String>,
    /// Octets published since the start.
    pub octets_up: u64,
    /// Octets received since the start.
    pub octets_down: u64,
}

/// One lane of one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueLine {
    /// The epoch's id.
    pub epoch: String,
    /// Its assignment; `null`: none.
    pub assignment: Option<String>,
    /// Takes appends.
    pub open: bool,
    /// The lane.
    pub lane: String,
    /// The lowest number that waits.
    pub oldest: u64,
    /// The number the next record gets.
    pub next: u64,
    /// Everything up to here is settled by the centre.
    pub acknowledged: u64,
    /// Records that wait.
    pub waiting: u64,
    /// Octets that wait, as sealed on the disk.
    pub octets: u64,
    /// Records kept from being sent.
    pub quarantined: u64,
}

/// Records of a lane that wait.
#[must_use]
pub fn waiting(epoch: &EpochView, lane: Lane) -> u64 {
    let view = &epoch.lanes[lane.index()];
    let settled_above: u64 = view.settled.ranges().iter().map(|range| range.last - range.first + 1).sum();
    view.next.saturating_sub(view.settled.settled_upto() + 1).saturating_sub(settled_above)
}

/// The queue, lane by lane.
#[must_use]
pub fn queue(view: &StoreView) -> Vec<QueueLine> {
    let lines = view.epochs.iter().flat_map(|epoch| Lane::ALL.map(|lane| (epoch, lane)));
    lines
        .map(|(epoch, lane)| {
            let lane_view = &epoch.lanes[lane.index()];
            let quarantined = view.quarantined.iter().filter(|(of, in_lane, ..)| *of == epoch.epoch && *in_lane == lane).count();
            QueueLine {
                epoch: epoch.epoch.to_string(),
                assignment: epoch.assignment.clone(),
                open: epoch.open,
                lane: lane.name().into(),
                oldest: lane_view.oldest,
                next: lane_view.next,
                acknowledged: lane_view.settled.settled_upto(),
                waiting: waiting(epoch, lane),
                octets: lane_view.octets,
                quarantined: u64::try_from(quarantined).unwrap_or(u64::MAX),
            }
        })
        .collect()
}
