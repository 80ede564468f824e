//! The serial oximeter: a finger on a MAX30102, its firmware, a UART.

use std::time::Duration;

use super::finger::Finger;
use super::{Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Fault, Scenario};
use crate::firmware::oximeter_nonin::OximeterNonin;
use crate::noise::mixed;
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::parts::uart::Uart;
use crate::patient::Patient;
use crate::truth::StreamHead;
use kit_protocol::serial::nonin_df2::{FRAMES_PER_SECOND, Frame};

/// MDC_PULS_OXIM_PLETH.
const PLETH: u32 = 150_452;

/// The device.
pub struct Oximeter {
    seed: u64,
    scenario: Scenario,
    part: Shared<Max30102<Finger>>,
    uart: Shared<Uart>,
    firmware: Option<OximeterNonin<Bus<Finger>, Shared<Uart>>>,
    now: Duration,
    boots: u64,
}

impl Oximeter {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        let uart = Shared::new(Uart::default());
        let (part, scenario) = (part(seed, 0), scenario.clone());
        Self { seed, scenario, part, uart, firmware: None, now: Duration::ZERO, boots: 0 }
    }

    fn boot(&mut self) {
        self.part = part(self.seed, self.boots);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(self.now));
        // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
        self.firmware = OximeterNonin::start(Bus(self.part.clone()), self.uart.clone()).ok();
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        self.now = to;
        if self.scenario.during(to).any(|fault| fault == Fault::Reboot) {
            self.firmware = None;
            return;
        }
        if self.firmware.is_none() {
            self.boot();
        }
        {
            let mut part = self.part.lock();
            part.optics().on = !self.scenario.during(to).any(|fault| fault == Fault::SensorOff);
            part.advance(nanoseconds(to));
        }
        if let Some(firmware) = &mut self.firmware {
            // A bus that fails leaves the device silent, as a broken one is.
            let _silent = firmware.service();
        }
        let sent = self.uart.lock().take_sent();
        emit_frames(to, &sent, emit);
    }
}

/// Cuts what the UART sent into frames; an answer to a command is one octet by itself.
fn emit_frames(at: Duration, mut sent: &[u8], emit: &mut dyn FnMut(Emission)) {
    while let Some((first, rest)) = sent.split_first() {
        match sent.split_at_checked(Frame::OCTETS).map(|(frame, rest)| (Frame::decode(frame), frame, rest)) {
            Some((Ok(decoded), frame, after)) => {
                let row = Some((None, vec![i32::from(decoded.pleth)]));
                emit(Emission { at, octets: frame.to_vec(), row });
                sent = after;
            }
            _ => {
                emit(Emission { at, octets: vec![*first], row: None });
                sent = rest;
            }
        }
    }
}

fn part(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    let finger = Finger { patient: Patient::new(seed), on: true };
    // Each power-up has noise of its own, so that no run of samples comes twice.
    Shared::new(Max30102::new(finger, mixed(seed, boots)))
}

impl SerialDevice for Oximeter {
    fn stream(&self) -> StreamHead {
        let device = "oximeter-nonin".to_owned();
        StreamHead { device, kind: "pleth", channels: vec![PLETH], rate_hz: FRAMES_PER_SECOND }
    }

    fn advance(&mut self, now: Duration, emit: &mut dyn FnMut(Emission)) {
        while self.now + STEP <= now {
            self.step(self.now + STEP, emit);
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        self.uart.lock().receive(octets);
    }
}
