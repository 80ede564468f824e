//! `state`: what the kit tells the centre of itself on every connection, and the will that speaks when it is gone.

use kit_protocol::uplink::id::{BootId, Lane, Nonce};
use kit_protocol::uplink::wire;

use crate::store::outbox::EpochView;

/// Devices named in `state`, at most.
pub const DEVICES_MAX: usize = 64;

/// What does not change while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The agent's version.
    pub version: String,
    /// This boot.
    pub boot_id: BootId,
    /// The kit's certificate, DER.
    pub certificate: Vec<u8>,
}

/// The kit is here, with these epochs and devices.
#[must_use]
pub fn online(about: &About, nonce: Nonce, epochs: &[EpochView], devices: &[wire::Device], clock: wire::Clock) -> wire::State {
    wire::State {
        epochs: epochs.iter().map(epoch_state).collect(),
        devices: devices.iter().take(DEVICES_MAX).cloned().collect(),
        clock: Some(clock),
        ..common(about, nonce, false)
    }
}

/// The will: the connection with this nonce is gone.
#[must_use]
pub fn offline(about: &About, nonce: Nonce) -> wire::State {
    common(about, nonce, true)
}

fn common(about: &About, nonce: Nonce, offline: bool) -> wire::State {
    wire::State {
        version: about.version.clone(),
        boot_id: about.boot_id.0.to_vec(),
        nonce: nonce.0.to_vec(),
        certificate: about.certificate.clone(),
        offline,
        ..wire::State::default()
    }
}

fn epoch_state(view: &EpochView) -> wire::EpochState {
    let lanes = Lane::ALL.iter().zip(&view.lanes).map(|(lane, view)| wire::LaneState {
        lane: lane.to_wire().into(),
        oldest: view.oldest,
        next: view.next,
        acknowledged: view.settled.settled_upto(),
    });
    wire::EpochState {
        epoch: view.epoch.0.to_vec(),
        assignment: view.assignment.clone().unwrap_or_default(),
        open: view.open,
        lanes: lanes.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::outbox::LaneView;
    use kit_protocol::uplink::id::EpochId;
    use kit_protocol::uplink::settlement::Settlement;

    #[test]
    fn names_every_epoch_and_lane_and_shares_its_nonce_with_the_will() {
        let about = About { version: "1.0".to_owned(), boot_id: BootId([3; 16]), certificate: vec![1, 2] };
        let lane = LaneView { oldest: 5, next: 9, settled: Settlement::upto(4, None), octets: 100 };
        let lanes = [lane.clone(), lane.clone(), lane.clone(), lane];
        let epoch = EpochView { epoch: EpochId([1; 16]), assignment: Some("A-1".to_owned()), open: true, lanes };
        let here = online(&about, Nonce([8; 8]), &[epoch], &vec![wire::Device::default(); 100], wire::Clock::default());
        assert_eq!((here.epochs.len(), here.epochs[0].lanes.len(), here.devices.len()), (1, 4, DEVICES_MAX));
        let vitals = &here.epochs[0].lanes[1];
        assert_eq!((vitals.lane, vitals.oldest, vitals.next, vitals.acknowledged), (wire::Lane::Vitals.into(), 5, 9, 4));
        let gone = offline(&about, Nonce([8; 8]));
        assert!(gone.offline && !here.offline);
        assert_eq!(gone.nonce, here.nonce);
    }
}
