//! The multiparameter monitor over Bluetooth: the same board as on a serial line, its frames cut to notifications.

use std::collections::VecDeque;

use kit_protocol::moment::Moment;
use kit_protocol::reading::Measured;
use uuid::Uuid;

use super::monitor_pc300::Monitor as Serial;
use super::on_air::{Board, Identity, Now, OnAir, Sample, Sent, Whole, service};
use super::{Carried, Emission, SerialDevice};
use crate::faults::Scenario;
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Properties, Service, bluetooth};
use crate::truth::{StreamHead, Truth};

const NAME: &str = "monitor-pc300-ble";
const SERVICE: u16 = 0xfff0;
const NOTIFIED: u16 = 0xfff1;
const WRITTEN: u16 = 0xfff2;
/// Octets of one notification.
const NOTIFICATION_OCTETS: usize = 20;
/// Notifications that wait; what does not fit is lost, the oldest first.
const NOTIFICATIONS_MAX: usize = 256;

/// The device with its radio.
pub type Monitor = OnAir<MonitorBoard>;

/// The device.
pub struct MonitorBoard {
    serial: Serial,
    listened: bool,
    sending: VecDeque<(Vec<u8>, Whole)>,
    made: Vec<(u64, Measured)>,
    results: u64,
    lost: Vec<Sample>,
}

impl OnAir<MonitorBoard> {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        let board = MonitorBoard {
            serial: Serial::new(seed, scenario),
            listened: false,
            sending: VecDeque::new(),
            made: Vec::new(),
            results: 0,
            lost: Vec::new(),
        };
        Self::with(board, seed, scenario, truth)
    }
}

impl MonitorBoard {
    /// A frame of the monitor, on its way if somebody listens. It keeps nothing for later.
    fn emitted(&mut self, moment: Moment, Emission { octets, carries, .. }: Emission) {
        let mut whole = Whole::default();
        for carried in carries {
            match carried {
                Carried::Row { stream, counter, values } => whole.samples.push(Sample { stream, counter, values }),
                Carried::Reading { measured, waited } => {
                    self.results += 1;
                    self.made.push((self.results, Measured { received: moment - waited, ..*measured }));
                    whole.results.push(self.results);
                }
            }
        }
        if !self.listened {
            return self.lost.append(&mut whole.samples);
        }
        let count = octets.len().div_ceil(NOTIFICATION_OCTETS);
        for (index, part) in octets.chunks(NOTIFICATION_OCTETS).enumerate() {
            let whole = if index + 1 == count { std::mem::take(&mut whole) } else { Whole::default() };
            self.sending.push_back((part.to_vec(), whole));
        }
        let over = self.sending.len().saturating_sub(NOTIFICATIONS_MAX);
        self.lost.extend(self.sending.drain(..over).flat_map(|(_, whole)| whole.samples));
    }

    fn forget_link(&mut self) {
        self.listened = false;
        self.lost.extend(self.sending.drain(..).flat_map(|(_, whole)| whole.samples));
    }
}

impl Board for MonitorBoard {
    fn identity(&self) -> Identity {
        let (pairing, informs) = (PairingMethod::JustWorks, false);
        Identity { device: NAME, driver: "monitor-pc300", model: "PC_300SNT", address: 0x26, pairing, informs }
    }

    fn streams(&self) -> Vec<StreamHead> {
        self.serial.streams().into_iter().map(|head| StreamHead { device: NAME.to_owned(), ..head }).collect()
    }

    fn services(&self) -> Vec<Service> {
        let writes = Properties { write: true, write_without_response: true, ..Properties::NONE };
        vec![service(SERVICE, &[(NOTIFIED, Properties::NOTIFY), (WRITTEN, writes)])]
    }

    fn advertisement(&self, _now: Now) -> Option<Advertisement> {
        Some(Advertisement { services: vec![bluetooth(SERVICE)], ..Advertisement::default() })
    }

    fn power_up(&mut self, _now: Now) {}

    /// The board is dark by the same scenario.
    fn power_down(&mut self) {
        self.forget_link();
    }

    fn step(&mut self, now: Now, _scenario: &Scenario) {
        let mut emissions = Vec::new();
        self.serial.advance(now.at, &mut |emission| emissions.push(emission));
        emissions.into_iter().for_each(|emission| self.emitted(now.moment, emission));
    }

    fn take_made(&mut self, _moment: Moment) -> Vec<(u64, Measured)> {
        std::mem::take(&mut self.made)
    }

    fn take_lost(&mut self, ends: bool) -> Vec<Sample> {
        if ends {
            self.forget_link();
        }
        std::mem::take(&mut self.lost)
    }

    fn connected(&mut self, _now: Now) {
        self.forget_link();
    }

    fn disconnected(&mut self, _now: Now) {
        self.forget_link();
    }

    fn write(&mut self, _now: Now, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        if characteristic != bluetooth(WRITTEN) {
            return Err(AttError::WriteNotPermitted);
        }
        self.serial.receive(value);
        Ok(())
    }

    fn subscribed(&mut self, _now: Now, characteristic: Uuid, on: bool) {
        if characteristic == bluetooth(NOTIFIED) {
            self.listened = on;
        }
    }

    fn next(&mut self, _now: Now) -> Option<Sent> {
        let (value, whole) = self.sending.pop_front()?;
        let outgoing = Outgoing { characteristic: bluetooth(NOTIFIED), value, confirmed: false };
        Some(Sent { outgoing, is_result: !whole.results.is_empty(), whole })
    }
}

#[cfg(test)]
mod tests;
