//! The world as the Recorder asks it: clock, random ids, HMAC and digest.

use std::sync::Arc;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{Origin, RecordingId};
use kit_protocol::uplink::wire;

use super::recorder::Surroundings;
use crate::clock::Clock;
use crate::identity::origin::OriginKey;

/// The real one.
#[derive(Clone)]
pub struct World {
    /// The clocks.
    pub clock: Arc<Clock>,
    /// The key of origins.
    pub origins: Arc<OriginKey>,
}

impl Surroundings for World {
    fn clock(&self) -> wire::Clock {
        self.clock.stated()
    }

    fn civil(&self, at: Moment) -> Option<DateTime> {
        self.clock.civil(at)
    }

    fn recording_id(&mut self) -> RecordingId {
        RecordingId(self.origins.random_octets())
    }

    fn origin(&self, octets: &[u8]) -> Origin {
        self.origins.origin(octets)
    }

    fn digest(&self, octets: &[u8]) -> [u8; 32] {
        self.origins.digest(octets)
    }
}
