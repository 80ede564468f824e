//! The other end of the air, in virtual time, for the tests of boards: it polls as a link does and confirms what is indicated.

use std::time::Duration;

use kit_protocol::moment::Moment;
use uuid::Uuid;

use crate::link::gatt::{AttError, POLL_PERIOD, Peripheral};

/// A device, and what was heard of it.
pub(super) struct Central<P> {
    pub(super) device: P,
    pub(super) now: Moment,
    pub(super) heard: Vec<(Uuid, Vec<u8>)>,
}

impl<P: Peripheral> Central<P> {
    pub(super) fn new(mut device: P) -> Self {
        let now = Moment::from_nanos(3_000_000_000);
        assert_eq!(device.advertising(now), None, "it begins to live");
        Self { device, now, heard: Vec::new() }
    }

    /// Waits until the device advertises, connects and subscribes.
    pub(super) fn connect(&mut self, to: &[Uuid]) {
        let found = (0..10_000).any(|_| {
            self.now = self.now + POLL_PERIOD;
            self.device.advertising(self.now).is_some()
        });
        assert!(found, "it never advertises");
        self.device.connected(self.now);
        to.iter().for_each(|characteristic| self.device.subscribed(self.now, *characteristic, true));
    }

    pub(super) fn write(&mut self, to: Uuid, octets: &[u8]) -> Result<(), AttError> {
        self.device.write(self.now, to, octets)
    }

    /// Nobody is connected for so long.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.device.advertising(self.now);
    }

    /// Takes what comes for so long; true if the device hung up meanwhile.
    pub(super) fn listen(&mut self, milliseconds: u64) -> bool {
        let until = self.now + Duration::from_millis(milliseconds);
        while self.now < until {
            self.now = self.now + POLL_PERIOD;
            while let Some(outgoing) = self.device.poll(self.now) {
                self.heard.push((outgoing.characteristic, outgoing.value));
                if outgoing.confirmed {
                    self.device.confirmed(self.now, outgoing.characteristic);
                }
            }
            if self.device.wants_disconnect(self.now) {
                self.device.disconnected(self.now);
                return true;
            }
        }
        false
    }

    pub(super) fn hang_up(&mut self) {
        self.device.disconnected(self.now);
    }

    /// What was heard since the last time, of one characteristic.
    pub(super) fn take(&mut self, of: Uuid) -> Vec<Vec<u8>> {
        let heard = std::mem::take(&mut self.heard);
        heard.into_iter().filter(|(from, _)| *from == of).map(|(_, octets)| octets).collect()
    }
}
