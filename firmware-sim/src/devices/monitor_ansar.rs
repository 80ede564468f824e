//! The bedside monitor of ANSAR-B: electrodes on the chest, an arm in a cuff, a finger on a MAX30102, a TMP117 on the skin, the
//! firmware, a UART.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};
use kit_protocol::serial::ansar_b::{ECG_SAMPLES, Message, WAVE_SAMPLES, Waves};

use super::finger::Finger;
use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Electrode, Fault, Scenario};
use crate::firmware::cuff::Drives;
use crate::firmware::monitor_ansar::{ECG_OF_TICK, Inputs, MonitorAnsar, TICK_MS};
use crate::noise::{mixed, nearest, step};
use crate::parts::Shared;
use crate::parts::arm_cuff::{self, ArmCuff, Pump, Trouble, Valve};
use crate::parts::max30102::{self, Max30102};
use crate::parts::tmp117::{self, Tmp117};
use crate::parts::uart::Uart;
use crate::patient::Patient;
use crate::truth::StreamHead;

const NAME: &str = "monitor-ansar";
/// The cuff's button is pressed this often, this long after the start.
const CUFF_EVERY: Duration = Duration::from_secs(120);
const CUFF_AFTER: Duration = Duration::from_secs(10);
/// Digits of a millivolt of the ECG.
const DIGITS_PER_MILLIVOLT: f64 = 50.0;
/// The impedance's middle and how far a breath moves it, digits.
const IMPEDANCE: (f64, f64) = (120.0, 70.0);
/// Noise, so that no run of samples comes twice.
const NOISE_DIGITS: u32 = 2;
/// Of the independent leads the second.
const LEAD_II: usize = 1;

const ECG: usize = 0;
const RESPIRATION: usize = 1;
const PLETH: usize = 2;
/// MDC code of the chest's impedance.
const THORACIC_IMPEDANCE: u32 = 151_780;

type Firmware = MonitorAnsar<max30102::Bus<Finger>, tmp117::Bus, arm_cuff::Bus, Pump, Valve, Shared<Uart>>;

/// The device.
pub struct Monitor {
    seed: u64,
    scenario: Scenario,
    patient: Patient,
    oximeter: Shared<Max30102<Finger>>,
    thermometer: Shared<Tmp117>,
    cuff: Shared<ArmCuff>,
    uart: Shared<Uart>,
    firmware: Option<Firmware>,
    /// What the cuff's line showed in the message before.
    shown: Option<[Decimal; 4]>,
    now: Duration,
    boots: u64,
}

impl Monitor {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self {
            seed,
            scenario: scenario.clone(),
            patient: Patient::new(seed),
            oximeter: oximeter(seed, 0),
            thermometer: Shared::new(Tmp117::new(seed, mixed(seed, 0x7e))),
            cuff: Shared::new(ArmCuff::new(seed, mixed(seed, 0xcf))),
            uart: Shared::new(Uart::default()),
            firmware: None,
            shown: None,
            now: Duration::ZERO,
            boots: 0,
        }
    }

    fn boot(&mut self) {
        self.oximeter = oximeter(self.seed, self.boots);
        self.boots += 1;
        self.shown = None;
        self.advance_parts();
        let buses =
            (max30102::Bus(self.oximeter.clone()), tmp117::Bus(self.thermometer.clone()), arm_cuff::Bus(self.cuff.clone()));
        let drives = Drives { pump: Pump(self.cuff.clone()), valve: Valve(self.cuff.clone()) };
        // Simulated parts always come up; if they did not, the device would stay silent, as a broken one does.
        self.firmware = MonitorAnsar::start(buses, drives, self.uart.clone()).ok();
        self.thermometer.lock().touch(true);
    }

    fn advance_parts(&mut self) {
        let now = nanoseconds(self.now);
        self.oximeter.lock().advance(now);
        self.thermometer.lock().advance(now);
        self.cuff.lock().advance(now);
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        self.now = to;
        if self.scenario.during(to).any(|fault| fault == Fault::Reboot) {
            // Without power the valve falls open.
            self.firmware = None;
            self.cuff.lock().power_off();
            return self.advance_parts();
        }
        if self.firmware.is_none() {
            self.boot();
        }
        self.oximeter.lock().optics().on = !self.scenario.during(to).any(|fault| fault == Fault::SensorOff);
        let motion = self.scenario.during(to).any(|fault| fault == Fault::Motion);
        self.cuff.lock().trouble(Trouble { motion, ..Trouble::default() });
        self.advance_parts();
        let inputs = self.inputs(to);
        let Some(firmware) = &mut self.firmware else { return };
        let at = u64::try_from(to.as_millis()).unwrap_or(u64::MAX);
        let since = to.checked_sub(CUFF_AFTER).map(|since| since.as_millis());
        if since.is_some_and(|since| since.is_multiple_of(CUFF_EVERY.as_millis())) {
            firmware.press_cuff(at);
        }
        // A bus that fails leaves the device silent, as a broken one is.
        if firmware.service(at, inputs).unwrap_or(false) {
            let octets = self.uart.lock().take_sent();
            let carries = self.carried(&octets);
            emit(Emission { at: to, octets, carries });
        }
    }

    /// What the analog inputs convert in the tick that ends then.
    fn inputs(&self, to: Duration) -> Inputs {
        let off = |electrode| self.scenario.during(to).any(|fault| fault == Fault::LeadOff(electrode));
        // Lead II is between the right arm and the left leg; the chest's impedance is measured between the arms.
        let ecg_off = off(Electrode::RightArm) || off(Electrode::LeftLeg);
        let chest_off = off(Electrode::RightArm) || off(Electrode::LeftArm);
        let noise = |place: u64| f64::from(step(mixed(self.seed, self.boots), place, NOISE_DIGITS));
        let tick = u64::try_from(to.as_millis()).unwrap_or(0) / TICK_MS;
        let octet = |digits: f64| u8::try_from(nearest(digits).clamp(0, 255)).unwrap_or(0);
        let ecg = std::array::from_fn(|index| {
            let place = tick * u64::try_from(ECG_OF_TICK).unwrap_or(1) + u64::try_from(index).unwrap_or(0);
            let ago = Duration::from_millis(TICK_MS) / 2 * u32::try_from(ECG_OF_TICK - 1 - index).unwrap_or(0);
            let millivolts = self.patient.ecg((to - ago).as_secs_f64())[LEAD_II];
            octet(f64::from(Waves::ECG_ZERO) + millivolts * DIGITS_PER_MILLIVOLT + noise(2 * place))
        });
        let seconds = to.as_secs_f64();
        let breath = (std::f64::consts::TAU * self.patient.vitals(seconds).respiratory_rate / 60.0 * seconds).sin();
        let impedance = octet(IMPEDANCE.0 + IMPEDANCE.1 * breath + noise(2 * tick + 1));
        Inputs { ecg: (!ecg_off).then_some(ecg), impedance: (!chest_off).then_some(impedance) }
    }

    /// What is whole with a message: a second of the waves, and what the cuff found since the one before.
    fn carried(&mut self, octets: &[u8]) -> Vec<Carried> {
        let Ok(message) = Message::decode(octets) else { return Vec::new() };
        let waves = &message.waves;
        let of = |stream: usize, samples: &[u8], zero: u8| -> Vec<Carried> {
            let row = |sample: &u8| Carried::Row { stream, counter: None, values: vec![i32::from(*sample) - i32::from(zero)] };
            samples.iter().map(row).collect()
        };
        let mut carries = of(ECG, &waves.ecg, Waves::ECG_ZERO);
        carries.extend(of(RESPIRATION, &waves.respiration, 0));
        carries.extend(of(PLETH, &waves.pleth, Waves::PLETH_ZERO));
        let shown = message.line("NIBP").and_then(|line| {
            let numbers: Option<Vec<Decimal>> = (0..4).map(|place| line.number(place)).collect();
            <[Decimal; 4]>::try_from(numbers?).ok()
        });
        let new = shown.filter(|_| shown != self.shown);
        self.shown = shown;
        carries.extend(new.map(|numbers| Carried::live(pressure(numbers))));
        carries
    }
}

fn oximeter(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    Shared::new(Max30102::new(Finger { patient: Patient::new(seed), on: true }, mixed(seed, boots)))
}

fn pressure(numbers: [Decimal; 4]) -> Measured {
    let codes = [
        (Mdc::SYSTOLIC, "mm[Hg]"),
        (Mdc::DIASTOLIC, "mm[Hg]"),
        (Mdc::MEAN_ARTERIAL_PRESSURE, "mm[Hg]"),
        (Mdc::PULSE_RATE_CUFF, "/min"),
    ];
    let value = |((code, unit), number)| Value { code, quantity: Quantity::Number(number), unit };
    Measured { values: codes.into_iter().zip(numbers).map(value).collect(), ..Measured::new(Kind::BloodPressure, Moment::ZERO) }
}

impl SerialDevice for Monitor {
    fn streams(&self) -> Vec<StreamHead> {
        let rate = |samples: usize| u32::try_from(samples).unwrap_or(1);
        let head = |kind, code, rate_hz| StreamHead {
            device: NAME.to_owned(),
            kind,
            channels: vec![code],
            rate_hz,
            gathers: Duration::ZERO,
        };
        vec![
            head("ecg", Mdc::ECG_II.0, rate(ECG_SAMPLES)),
            head("respiration", THORACIC_IMPEDANCE, rate(WAVE_SAMPLES)),
            head("pleth", Mdc::PLETH.0, rate(WAVE_SAMPLES)),
        ]
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
    use super::*;

    fn messages(scenario: &str, seed: u64, seconds: u64) -> Vec<(Duration, Message)> {
        let mut device = Monitor::new(seed, &Scenario::parse(scenario).unwrap());
        let mut messages = Vec::new();
        device.advance(Duration::from_secs(seconds), &mut |emission| {
            messages.push((emission.at, Message::decode(&emission.octets).unwrap()));
        });
        messages
    }

    fn number(message: &Message, line: &str) -> Option<f64> {
        message.line(line).unwrap().number(0).map(Decimal::to_f64)
    }

    #[test]
    fn a_message_a_second_has_the_lines_of_the_captured_one() {
        let messages = messages("", 1, 10);
        let names: Vec<_> = messages[9].1.lines.iter().map(|line| (line.name.as_str(), line.status, line.fields.len())).collect();
        let captured = [("HR", 1, 3), ("RR", 1, 3), ("ETCO2", 1, 3), ("SPO2", 1, 3), ("NIBP", 4, 6), ("P1", 3, 5), ("P2", 3, 5)];
        assert_eq!(names[..7], captured);
        assert_eq!(names[7..], [("T1", 1, 3), ("T2", 1, 3)]);
        let at: Vec<_> = messages.iter().map(|(at, _)| at.as_millis()).collect();
        assert_eq!(at, (1..=10).map(|second| second * 1_000).collect::<Vec<_>>());
        assert!(messages.iter().all(|(_, message)| message.encode().len() < 960), "it fits in a second of 9,600 baud");
    }

    #[test]
    fn its_numbers_are_the_patients() {
        for seed in 0..20 {
            let patient = Patient::new(seed);
            let messages = messages("", seed, 90);
            let (at, last) = messages.last().unwrap();
            let vitals = patient.vitals(at.as_secs_f64());
            let near = |line, truth: f64, most: f64| {
                let shown = number(last, line).unwrap_or_else(|| panic!("seed {seed}: no {line}"));
                assert!((shown - truth).abs() <= most, "seed {seed}: {line} {shown} of {truth}");
            };
            near("HR", vitals.heart_rate, 6.0);
            near("RR", vitals.respiratory_rate, 1.0);
            near("SPO2", vitals.spo2, 2.0);
            near("NIBP", vitals.systolic, 10.0);
            near("T1", vitals.temperature, 0.15);
        }
    }

    #[test]
    fn a_number_is_absent_until_it_is_known() {
        let messages = messages("", 3, 90);
        let first = &messages[0].1;
        assert!(["HR", "RR", "SPO2", "NIBP", "T1"].iter().all(|line| number(first, line).is_none()));
        // The probe is warm when its temperature stands; what it shows before would be the room's.
        assert!(messages.iter().filter_map(|(_, message)| number(message, "T1")).all(|celsius| celsius > 35.5));
        let shown = messages.iter().find(|(_, message)| number(message, "NIBP").is_some()).unwrap().0;
        assert!((Duration::from_secs(40)..Duration::from_secs(90)).contains(&shown), "{shown:?}");
    }

    #[test]
    fn an_electrode_or_a_finger_off_leaves_its_numbers_out_and_its_wave_flat() {
        let scenario = "at=30 fault=lead-off electrode=RA for=5\nat=40 fault=sensor-off for=5";
        let messages = messages(scenario, 4, 46);
        let at = |second: usize| &messages[second - 1].1;
        assert!(number(at(29), "HR").is_some() && number(at(29), "SPO2").is_some());
        assert_eq!((number(at(33), "HR"), number(at(33), "RR")), (None, None));
        assert!(number(at(33), "SPO2").is_some() && at(33).waves.ecg == [Waves::ECG_ZERO; ECG_SAMPLES]);
        assert_eq!((number(at(44), "SPO2"), at(44).line("SPO2").unwrap().text(1)), (None, "PR="));
        assert_eq!(at(44).waves.pleth, [Waves::PLETH_ZERO; WAVE_SAMPLES]);
    }

    #[test]
    fn a_pressure_is_told_once_stays_on_the_line_and_goes_when_the_next_begins() {
        let mut device = Monitor::new(5, &Scenario::default());
        let (mut told, mut shown) = (Vec::new(), Vec::new());
        device.advance(Duration::from_secs(135), &mut |emission| {
            let reading = |carried: &Carried| matches!(carried, Carried::Reading { .. });
            told.extend(emission.carries.iter().any(reading).then_some(emission.at));
            shown.push(number(&Message::decode(&emission.octets).unwrap(), "NIBP").is_some());
        });
        let [at] = told[..] else { panic!("{told:?}") };
        let first = usize::try_from(at.as_secs()).unwrap() - 1;
        assert!(shown[first..129].iter().all(|shown| *shown) && !shown[first - 1]);
        assert!(!shown[130..].contains(&true), "the second measurement began at 130 s");
    }

    #[test]
    fn a_patient_who_moves_has_no_pressure_and_a_reboot_lets_it_out() {
        let moving = messages("at=11 fault=motion for=100", 6, 110);
        assert!(moving.iter().all(|(_, message)| number(message, "NIBP").is_none()));
        let mut device = Monitor::new(6, &Scenario::parse("at=18 fault=reboot for=4").unwrap());
        device.advance(Duration::from_secs(17), &mut |_| {});
        assert!(device.cuff.lock().pressure() > 50.0);
        let mut sent = Vec::new();
        device.advance(Duration::from_secs(30), &mut |emission| sent.push(emission.at));
        assert!(device.cuff.lock().pressure() < 5.0);
        assert!(sent.iter().all(|at| *at <= Duration::from_secs(18) || *at >= Duration::from_secs(22)), "{sent:?}");
    }

    #[test]
    fn every_wave_stands_in_the_truth_as_it_was_sent() {
        let mut device = Monitor::new(7, &Scenario::default());
        let mut rows = [0_usize; 3];
        device.advance(Duration::from_secs(5), &mut |emission| {
            let message = Message::decode(&emission.octets).unwrap();
            let mut ecg = Vec::new();
            for carried in emission.carries {
                let Carried::Row { stream, values, .. } = carried else { continue };
                rows[stream] += 1;
                ecg.extend((stream == ECG).then(|| u8::try_from(values[0] + i32::from(Waves::ECG_ZERO)).unwrap()));
            }
            assert_eq!(ecg, message.waves.ecg);
        });
        assert_eq!(rows, [1_000, 250, 250]);
        assert_eq!(device.streams().len(), 3);
    }
}
