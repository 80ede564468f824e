//! The 8-lead ECG: electrodes on a patient, an ADS1298, its firmware, a UART.

use std::time::Duration;

use kit_protocol::serial::ads1298::Lead;

use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Electrode, Fault, Scenario};
use crate::firmware::ecg_ads1298::{EcgAds1298, RATE_HZ};
use crate::noise::{mixed, nearest};
use crate::parts::ads1298::{Ads1298, CHANNELS, DataReady, Differential, Electrodes, Spi};
use crate::parts::uart::Uart;
use crate::parts::{Delay, Shared};
use crate::patient::Patient;
use crate::recording;
use crate::truth::StreamHead;

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
            emit(Emission { at: to, octets, carries: vec![Carried::Row { stream: 0, counter: Some(counter), values }] });
        }
    }
}

fn part(seed: u64, boots: u64, scenario: &Scenario) -> Part {
    let patient = scenario.synthetic_signal.then(|| Patient::new(seed));
    // Each power-up has noise of its own, so that no run of samples comes twice.
    Shared::new(Ads1298::new(Body { patient, off: Vec::new() }, mixed(seed, boots)))
}

impl SerialDevice for Ecg {
    fn streams(&self) -> Vec<StreamHead> {
        let channels = Lead::EIGHT.iter().map(|lead| lead.mdc().0).collect();
        vec![StreamHead {
            device: "ecg-ads1298".to_owned(),
            kind: "ecg",
            channels,
            rate_hz: RATE_HZ.into(),
            gathers: Duration::ZERO,
        }]
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kit_protocol::serial::ads1298::{DataFrame, Found, Framer, Header, SAMPLE_MAX};

    use super::*;
    use crate::firmware::ecg_ads1298::header;
    use crate::parts::ads1298::NOISE_CODES;

    const SECOND: Duration = Duration::from_secs(1);

    struct Run {
        data: Vec<DataFrame>,
        headers: Vec<Header>,
        rows: Vec<(Option<u32>, Vec<i32>)>,
        skipped: u64,
    }

    fn run(seed: u64, scenario: &str, seconds: u32) -> Run {
        let mut device = Ecg::new(seed, &Scenario::parse(scenario).unwrap());
        let (mut octets, mut rows) = (Vec::new(), Vec::new());
        device.advance(SECOND * seconds, &mut |emission| {
            octets.extend(emission.octets);
            rows.extend(emission.carries.into_iter().filter_map(Carried::row));
        });
        let mut run = Run { data: Vec::new(), headers: Vec::new(), rows, skipped: 0 };
        let mut framer = Framer::default();
        let mut take = |found| match found {
            Found::Data(frame) => run.data.push(frame),
            Found::Header(header) => run.headers.push(header),
            Found::Skipped(count) => run.skipped += count,
            Found::Refused { .. } => panic!("refused"),
        };
        framer.push(&octets, &mut take);
        framer.finish(&mut take);
        run
    }

    #[test]
    fn every_frame_carries_what_the_part_converted() {
        let run = run(1, "", 21);
        assert_eq!(run.skipped, 0);
        assert_eq!(run.data.len(), (21_000 - 10 - 8) / 2 + 1, "10 ms to power up, four periods to settle");
        let decoded: Vec<_> = run.data.iter().map(|frame| (Some(frame.counter), frame.sample.channels.to_vec())).collect();
        assert_eq!(decoded, run.rows);
        assert!(run.data.iter().zip(0..).all(|(frame, counter)| frame.counter == counter));
        assert_eq!(run.headers, vec![header(); 3], "at the start and every 10 s");
    }

    #[test]
    fn the_recorded_ecg_comes_out_at_its_own_voltage() {
        let run = run(1, "", 30);
        let microvolts = header().scale().unwrap().to_f64();
        for (index, frame) in run.data.iter().enumerate() {
            let time = (f64::from(u32::try_from(index).unwrap()) + 4.0 + 5.0) * 0.002;
            let recorded = recording::ecg(time);
            for (code, millivolts) in frame.sample.channels.iter().zip(recorded) {
                let away = f64::from(*code) * microvolts - millivolts * 1000.0;
                assert!(away.abs() <= f64::from(NOISE_CODES + 1) * microvolts, "sample {index}: {away} uV");
            }
        }
    }

    #[test]
    fn no_run_of_rows_comes_twice() {
        let run = run(1, "at=30 fault=reboot for=1", 90);
        let mut seen = HashSet::new();
        for window in run.data.windows(4) {
            let values: Vec<[i32; 8]> = window.iter().map(|frame| frame.sample.channels).collect();
            assert!(seen.insert(values), "at {}", window[0].counter);
        }
    }

    #[test]
    fn an_electrode_off_is_in_the_status_of_its_channels() {
        let scenario = "at=2 fault=lead-off electrode=V3 for=2\nat=5 fault=lead-off electrode=RA for=2";
        let run = run(1, scenario, 8);
        let at = |seconds: usize| run.data[seconds * 500].sample;
        assert_eq!((at(1).lead_off.positive, at(1).lead_off.negative), (0, 0));
        assert_eq!((at(3).lead_off.positive, at(3).lead_off.negative), (1 << 4, 0));
        assert_eq!(at(3).channels[4], SAMPLE_MAX);
        assert_eq!((at(6).lead_off.positive, at(6).lead_off.negative), (0, 0b11));
        let chest: Vec<i32> = run.data[6 * 500..6 * 500 + 10].iter().map(|frame| frame.sample.channels[2]).collect();
        let swing = chest.iter().max().unwrap() - chest.iter().min().unwrap();
        assert!(swing > 20_000, "the mains are in the chest leads: {swing}");
        assert_eq!((at(7).lead_off.positive, at(7).lead_off.negative), (0, 0));
    }

    #[test]
    fn a_reboot_is_dark_and_counts_from_zero() {
        let run = run(1, "at=3 fault=reboot for=2", 8);
        let restart = run.data.iter().skip(1).position(|frame| frame.counter == 0).unwrap() + 1;
        assert!((1480..=1500).contains(&restart), "{restart}");
        assert!((1480..=1500).contains(&(run.data.len() - restart)), "{}", run.data.len());
        assert_eq!(run.headers.len(), 2);
    }

    #[test]
    fn the_synthetic_signal_is_the_patients() {
        let run = run(9, "signal=synthetic", 5);
        let microvolts = header().scale().unwrap().to_f64();
        let patient = Patient::new(9);
        let at = |index: usize| (f64::from(u32::try_from(index).unwrap()) + 9.0) * 0.002;
        for (index, frame) in run.data.iter().enumerate() {
            let away = f64::from(frame.sample.channels[1]) * microvolts - patient.ecg(at(index))[1] * 1000.0;
            assert!(away.abs() < 0.3, "sample {index}: {away} uV");
        }
    }

    #[test]
    fn a_run_depends_on_its_seed_and_not_on_how_it_is_asked_for() {
        let collect = |steps: &[u32]| {
            let mut device = Ecg::new(4, &Scenario::default());
            let mut all = Vec::new();
            for milliseconds in steps {
                device.advance(Duration::from_millis((*milliseconds).into()), &mut |emission| all.push(emission));
            }
            all
        };
        assert_eq!(collect(&[1000]), collect(&[3, 17, 400, 401, 999, 1000]));
    }
}
