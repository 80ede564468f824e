//! The PC-60FW and the O2Ring: a finger on a MAX30102, its firmware, a radio.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::nomenclature::Mdc;
use uuid::Uuid;

use super::finger::Finger;
use super::nanoseconds;
use super::on_air::{Board, Identity, Now, OnAir, Sample, Sent, Whole, service_of};
use crate::faults::{Fault, Scenario};
use crate::firmware::oximeter_viatom::{FINGER_RATE_HZ, FingerOximeter, Frame, RING_KEEPS, RING_RATE_HZ, RingOximeter};
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Properties, Security, Service};
use crate::noise::mixed;
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::patient::Patient;
use crate::truth::{StreamHead, Truth};

const DRIVER: &str = "oximeter-viatom";
const FINGER: &str = "oximeter-viatom";
const RING: &str = "oximeter-viatom-o2ring";
/// Octets of one notification of the ring: its answers are longer.
const NOTIFICATION_OCTETS: usize = 20;

const UART: Uuid = Uuid::from_u128(0x6e400001_b5a3_f393_e0a9_e50e24dcca9e);
const UART_WRITTEN: Uuid = Uuid::from_u128(0x6e400002_b5a3_f393_e0a9_e50e24dcca9e);
const UART_NOTIFIED: Uuid = Uuid::from_u128(0x6e400003_b5a3_f393_e0a9_e50e24dcca9e);
const RING_SERVICE: Uuid = Uuid::from_u128(0x14839ac4_7d7e_415c_9a42_167340cf2339);
const RING_WRITTEN: Uuid = Uuid::from_u128(0x8b00ace7_eb0b_49b0_bbe9_9aee0a26e1a3);
const RING_NOTIFIED: Uuid = Uuid::from_u128(0x0734594a_a8e7_4b1a_a6b1_cd5243059a57);

const WRITES: Properties = Properties { write: true, write_without_response: true, ..Properties::NONE };

/// The sensor with a finger on it.
struct Part {
    seed: u64,
    boots: u64,
    part: Shared<Max30102<Finger>>,
}

impl Part {
    fn new(seed: u64) -> Self {
        Self { seed, boots: 0, part: part(seed, 0) }
    }

    /// Power comes to it.
    fn boot(&mut self, at: Duration) -> Bus<Finger> {
        self.part = part(self.seed, self.boots);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(at));
        Bus(self.part.clone())
    }

    fn advance(&mut self, at: Duration, scenario: &Scenario) {
        let mut part = self.part.lock();
        part.optics().on = !scenario.during(at).any(|fault| fault == Fault::SensorOff);
        part.advance(nanoseconds(at));
    }
}

fn part(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    Shared::new(Max30102::new(Finger { patient: Patient::new(seed), on: true }, mixed(seed, boots)))
}

fn head(device: &str, rate_hz: u32, gathers: Duration) -> StreamHead {
    StreamHead { device: device.to_owned(), kind: "pleth", channels: vec![Mdc::PLETH.0], rate_hz, gathers }
}

fn rows(samples: Vec<u8>) -> Vec<Sample> {
    samples.into_iter().map(|sample| Sample { stream: 0, counter: None, values: vec![sample.into()] }).collect()
}

fn whole(samples: Vec<u8>) -> Whole {
    Whole { results: Vec::new(), samples: rows(samples) }
}

/// A PC-60FW with its radio.
pub type Finger60 = OnAir<FingerBoard>;

/// A PC-60FW.
pub struct FingerBoard {
    part: Part,
    firmware: Option<FingerOximeter<Bus<Finger>>>,
    listened: bool,
}

impl OnAir<FingerBoard> {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self::with(FingerBoard { part: Part::new(seed), firmware: None, listened: false }, seed, scenario, truth)
    }
}

impl Board for FingerBoard {
    fn identity(&self) -> Identity {
        let (pairing, informs) = (PairingMethod::None, false);
        Identity { device: FINGER, driver: DRIVER, model: "PC-60F_SN", address: 0x24, pairing, informs }
    }

    fn streams(&self) -> Vec<StreamHead> {
        vec![head(FINGER, FINGER_RATE_HZ, Duration::ZERO)]
    }

    fn services(&self) -> Vec<Service> {
        vec![service_of(UART, Security::None, [(UART_WRITTEN, WRITES), (UART_NOTIFIED, Properties::NOTIFY)])]
    }

    fn advertisement(&self, _now: Now) -> Option<Advertisement> {
        Some(Advertisement { services: vec![UART], ..Advertisement::default() })
    }

    fn power_up(&mut self, now: Now) {
        // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
        self.firmware = FingerOximeter::start(self.part.boot(now.at)).ok();
    }

    fn power_down(&mut self) {
        self.firmware = None;
    }

    fn step(&mut self, now: Now, scenario: &Scenario) {
        self.part.advance(now.at, scenario);
        let Some(firmware) = &mut self.firmware else { return };
        // A bus that fails leaves the device silent, as a broken one is.
        let _silent = firmware.service();
        if !self.listened {
            firmware.unheard();
        }
    }

    fn take_lost(&mut self, ends: bool) -> Vec<Sample> {
        let Some(firmware) = &mut self.firmware else { return Vec::new() };
        if ends {
            firmware.unheard();
        }
        rows(firmware.take_lost())
    }

    fn connected(&mut self, _now: Now) {
        self.listened = false;
    }

    fn disconnected(&mut self, _now: Now) {
        self.listened = false;
    }

    /// Nothing that is written to it is understood.
    fn write(&mut self, _now: Now, characteristic: Uuid, _value: &[u8]) -> Result<(), AttError> {
        if characteristic == UART_WRITTEN { Ok(()) } else { Err(AttError::WriteNotPermitted) }
    }

    fn subscribed(&mut self, _now: Now, characteristic: Uuid, on: bool) {
        if characteristic == UART_NOTIFIED {
            self.listened = on;
        }
    }

    fn next(&mut self, _now: Now) -> Option<Sent> {
        let Frame { octets, samples } = self.firmware.as_mut().filter(|_| self.listened)?.next_frame()?;
        let outgoing = Outgoing { characteristic: UART_NOTIFIED, value: octets, confirmed: false };
        Some(Sent { outgoing, is_result: true, whole: whole(samples) })
    }

    fn hangs_up(&self, _now: Now) -> bool {
        self.firmware.is_none()
    }
}

/// An O2Ring with its radio.
pub type Ring = OnAir<RingBoard>;

/// An O2Ring.
pub struct RingBoard {
    part: Part,
    firmware: Option<RingOximeter<Bus<Finger>>>,
    listened: bool,
    /// Notifications of its answers, with the samples that are whole with each.
    sending: VecDeque<(Vec<u8>, Vec<u8>)>,
    lost: Vec<u8>,
}

impl OnAir<RingBoard> {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        let (sending, lost) = (VecDeque::new(), Vec::new());
        let board = RingBoard { part: Part::new(seed), firmware: None, listened: false, sending, lost };
        Self::with(board, seed, scenario, truth)
    }
}

impl RingBoard {
    fn forget_answers(&mut self) {
        self.lost.extend(self.sending.drain(..).flat_map(|(_, samples)| samples));
    }
}

impl Board for RingBoard {
    fn identity(&self) -> Identity {
        let (pairing, informs) = (PairingMethod::None, false);
        Identity { device: RING, driver: DRIVER, model: "O2Ring", address: 0x25, pairing, informs }
    }

    fn streams(&self) -> Vec<StreamHead> {
        vec![head(RING, RING_RATE_HZ, RING_KEEPS)]
    }

    fn services(&self) -> Vec<Service> {
        vec![service_of(RING_SERVICE, Security::None, [(RING_WRITTEN, WRITES), (RING_NOTIFIED, Properties::NOTIFY)])]
    }

    fn advertisement(&self, _now: Now) -> Option<Advertisement> {
        Some(Advertisement { services: vec![RING_SERVICE], ..Advertisement::default() })
    }

    fn power_up(&mut self, now: Now) {
        self.firmware = RingOximeter::start(self.part.boot(now.at)).ok();
    }

    fn power_down(&mut self) {
        self.forget_answers();
        if let Some(mut firmware) = self.firmware.take() {
            self.lost.extend(firmware.take_lost());
            self.lost.extend(firmware.take_wave());
        }
    }

    fn step(&mut self, now: Now, scenario: &Scenario) {
        self.part.advance(now.at, scenario);
        if let Some(firmware) = &mut self.firmware {
            let _silent = firmware.service();
        }
    }

    fn set_battery(&mut self, percent: u8) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_battery(percent));
    }

    fn take_lost(&mut self, ends: bool) -> Vec<Sample> {
        if ends {
            self.forget_answers();
        }
        let mut lost = std::mem::take(&mut self.lost);
        if let Some(firmware) = &mut self.firmware {
            lost.extend(firmware.take_lost());
            lost.extend(ends.then(|| firmware.take_wave()).into_iter().flatten());
        }
        rows(lost)
    }

    fn connected(&mut self, _now: Now) {
        self.listened = false;
    }

    fn disconnected(&mut self, _now: Now) {
        self.listened = false;
        self.forget_answers();
    }

    fn write(&mut self, _now: Now, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        if characteristic != RING_WRITTEN {
            return Err(AttError::WriteNotPermitted);
        }
        let Some(firmware) = self.firmware.as_mut().filter(|_| self.listened) else { return Ok(()) };
        for Frame { octets, samples } in firmware.answer(value) {
            let count = octets.len().div_ceil(NOTIFICATION_OCTETS);
            for (index, part) in octets.chunks(NOTIFICATION_OCTETS).enumerate() {
                let samples = if index + 1 == count { samples.clone() } else { Vec::new() };
                self.sending.push_back((part.to_vec(), samples));
            }
        }
        Ok(())
    }

    fn subscribed(&mut self, _now: Now, characteristic: Uuid, on: bool) {
        if characteristic == RING_NOTIFIED {
            self.listened = on;
        }
    }

    fn next(&mut self, _now: Now) -> Option<Sent> {
        let (value, samples) = self.sending.pop_front()?;
        let outgoing = Outgoing { characteristic: RING_NOTIFIED, value, confirmed: false };
        Some(Sent { outgoing, is_result: !samples.is_empty(), whole: whole(samples) })
    }

    fn hangs_up(&self, _now: Now) -> bool {
        self.firmware.is_none()
    }
}

#[cfg(test)]
mod tests;
