//! The 8-lead ECG: electrodes on a patient, an ADS1298, its firmware, a UART.

use std::time::Duration;

use kit_protocol::serial::ads1298::Lead;

use super::{Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Electrode, Fault, Scenario};
use crate::firmware::ecg_ads1298::{EcgAds1298, RATE_HZ};
use crate::noise::{mixed, nearest};
use crate::parts::ads1298::{Ads1298, CHANNELS, DataReady, Differential, Electrodes, Spi};
use crate::parts::uart::Uart;
use crate::parts::{Delay, Shared};
use crate::patient::Patient;
use crate::recording;

/// What the electrodes pick up: the recorded ECG or the patient's computed one, where they are on.
pub struct Body {
    patient: Option<Patient>,
    off: Vec<Electrode>,
}

impl Electrodes for Body {
    fn at(&mut self, time: u64) -> [Differential; CHANNELS] {
        let seconds = Duration::from_nanos(time).as_secs_f64();
        let leads = self.patient.map_or_else(|| recording::ecg(seconds), |patient| patient.ecg(seconds));
        let off = |electrode| self.off.contains(&electrode);
        let (right_arm, left_arm, left_leg) = (off(Electrode::RightArm), off(Electrode::LeftArm), off(Electrode::LeftLeg));
        let terminal = right_arm || left_arm || left_leg;
        std::array::from_fn(|channel| {
            // A chest lead is measured against all three limbs: one of them off, and the mains are in it.
            let mains = if terminal && channel >= 2 { 0.9 * mains(seconds) } else { 0.0 };
            let chest = u8::try_from(channel).map_or(0, |channel| channel.saturating_sub(1));
            Differential {
                nanovolts: nearest((leads[channel] + mains) * 1.0e6),
                positive_off: match channel {
                    0 => left_arm,
                    1 => left_leg,
                    _ => off(Electrode::Chest(chest)),
                },
                negative_off: channel < 2 && right_arm,
            }
        })
    }
}

fn mains(seconds: f64) -> f64 {
    (std::f64::consts::TAU * 50.0 * seconds).sin()
}

type Part = Shared<Ads1298<Body>>;
type Firmware = EcgAds1298<Spi<Body>, DataReady<Body>, Shared<Uart>>;

/// The device.
pub struct Ecg {
    seed: u64,
    scenario: Scenario,
    part: Part,
    uart: Shared<Uart>,
    firmware: Option<Firmware>,
    now: Duration,
    boots: u64,
}

impl Ecg {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        let (part, uart) = (part(seed, 0, scenario), Shared::new(Uart::default()));
        Self { seed, scenario: scenario.clone(), part, uart, firmware: None, now: Duration::ZERO, boots: 0 }
    }

    /// The codes of the part's last conversion.
    #[must_use]
    pub fn last_codes(&self) -> [i32; CHANNELS] {
        self.part.lock().last_codes()
    }

    /// Powers the board up, with a part as it comes from power-up.
    fn boot(&mut self) {
        self.part = part(self.seed, self.boots, &self.scenario);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(self.now));
        let (spi, data_ready) = (Spi(self.part.clone()), DataReady(self.part.clone()));
        // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
        self.firmware = EcgAds1298::start(spi, data_ready, self.uart.clone(), &mut Delay).ok();
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        let dark = self.scenario.during(to).any(|fault| fault == Fault::Reboot);
        self.now = to;
        match (dark, self.firmware.is_some()) {
            (true, _) => {
                self.firmware = None;
                return;
            }
            (false, false) => self.boot(),
            (false, true) => {}
        }
        let off = self.scenario.during(to).filter_map(|fault| match fault {
            Fault::LeadOff(electrode) => Some(electrode),
            _ => None,
        });
        self.part.lock().electrodes().off = off.collect();
        let Some(firmware) = &mut self.firmware else { return };
        while self.part.lock().advance(nanoseconds(to)) {
            let counter = firmware.counter();
            if !firmware.service().unwrap_or(false) {
                continue;
            }
            let values = self.part.lock().last_codes().to_vec();
            // A header frame may stand before the data frame: they go as one, which the reader cannot tell.
            let octets = self.uart.lock().take_sent();
            emit(Emission { at: to, octets, row: Some((Some(counter), values)) });
        }
    }
}

fn part(seed: u64, boots: u64, scenario: &Scenario) -> Part {
    let patient = scenario.synthetic_signal.then(|| Patient::new(seed));
    // Each power-up has noise of its own, so that no run of samples comes twice.
    Shared::new(Ads1298::new(Body { patient, off: Vec::new() }, mixed(seed, boots)))
}

impl SerialDevice for Ecg {
    fn stream(&self) -> crate::truth::StreamHead {
        crate::truth::StreamHead {
            device: "ecg-ads1298".to_owned(),
            kind: "ecg",
            channels: Lead::EIGHT.iter().map(|lead| lead.mdc().0).collect(),
            rate_hz: RATE_HZ.into(),
        }
    }

    fn advance(&mut self, now: Duration, emit: &mut dyn FnMut(Emission)) {
        while self.now + STEP <= now {
            self.step(self.now + STEP, emit);
        }
    }

    fn receive(&mut self, _octets: &[u8]) {
        // This device listens to nobody.
    }
}
