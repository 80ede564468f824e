//! The quality cascade on the simulator's ECG, recorded and synthetic: each fault by its name, and no false alarm.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use device_drivers::derive::ecg_quality::{Finding, Quality, Stretch, judge};
use firmware_sim::noise;
use firmware_sim::patient::Patient;
use firmware_sim::recording;
use kit_protocol::decimal::Decimal;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Rate};

const LEADS: [&str; 8] = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"];
/// In every fault it is this lead that has it.
const V3: usize = 4;
/// Ten seconds, as a resting ECG.
const SECONDS: u32 = 10;

/// Ten seconds at `hertz` of 1 uV a digit, with 5 uV of noise.
struct Ecg {
    hertz: u32,
    samples: Vec<Option<i32>>,
    lead_off: u32,
    saturated: u32,
}

impl Ecg {
    fn new(hertz: u32, seed: u64, millivolts: impl Fn(f64) -> [f64; 8]) -> Self {
        let row = |n: u32| {
            let leads = millivolts(f64::from(n) / f64::from(hertz));
            let noise = move |lead: usize| noise::step(seed, u64::from(n) * 8 + lead as u64, 5);
            (0..8).map(move |lead| Some(i32::try_from(noise::nearest(leads[lead] * 1_000.0)).unwrap() + noise(lead)))
        };
        Self { hertz, samples: (0..SECONDS * hertz).flat_map(row).collect(), lead_off: 0, saturated: 0 }
    }

    fn recorded(hertz: u32, from: f64) -> Self {
        Self::new(hertz, 1, |seconds| recording::ecg(from + seconds))
    }

    fn synthetic(hertz: u32, seed: u64) -> Self {
        let patient = Patient::new(seed);
        Self::new(hertz, seed, |seconds| patient.ecg(seconds + 1.0))
    }

    /// V3 as `change` makes it of the time and what it was, uV.
    fn with(mut self, change: impl Fn(f64, f64) -> f64) -> Self {
        for (n, cell) in self.samples.iter_mut().skip(V3).step_by(8).enumerate() {
            let seconds = n as f64 / f64::from(self.hertz);
            *cell = cell.map(|sample| i32::try_from(noise::nearest(change(seconds, f64::from(sample)))).unwrap());
        }
        self
    }

    fn judged(&self) -> Quality {
        let channel = |name: &&str| Channel {
            code: Mdc::by_name(name).unwrap(),
            scale: Decimal::whole(1),
            unit: "uV",
            filter: String::new(),
        };
        let channels: Vec<Channel> = LEADS.iter().map(channel).collect();
        let rate = Rate { samples: self.hertz, seconds: 1 };
        judge(&Stretch { channels: &channels, rate, samples: &self.samples, lead_off: self.lead_off, saturated: self.saturated })
    }
}

/// V3 has it, and no other lead has anything.
fn only_v3(ecg: &Ecg, finding: Finding, what: &str) {
    let quality = ecg.judged();
    for (at, (_, found)) in quality.leads.iter().enumerate() {
        let expected = if at == V3 { finding } else { Finding::Acceptable };
        assert_eq!(*found, expected, "{what} at {} Hz: {}", ecg.hertz, LEADS[at]);
    }
    assert_eq!(quality.statuses(), [finding.status()], "{what}");
}

#[test]
fn each_fault_is_named_at_every_rate_in_the_recorded_and_the_synthetic_ecg() {
    type Change = fn(f64, f64) -> f64;
    let faults: [(&str, Finding, Change); 8] = [
        ("an electrode off without a flag", Finding::FlatLine, |_, _| 0.0),
        ("flat for its last three seconds", Finding::FlatLine, |t, v| if t < 7.0 { v } else { 40.0 }),
        ("clipped", Finding::Saturated, |t, v| if (2.0..2.2).contains(&t) { 5_000.0 } else { v }),
        ("an electrode that was moved", Finding::BaselineStep, |t, v| if t < 4.3 { v } else { v + 2_500.0 }),
        ("breathing hard", Finding::BaselineWander, |t, v| v + 900.0 * (t * 1.3).sin()),
        ("a lamp", Finding::MainsNoise, |t, v| v + 120.0 * (t * std::f64::consts::TAU * 50.1).sin()),
        ("shivering", Finding::MuscleNoise, |t, v| {
            v + f64::from(noise::step(9, noise::nearest(t * 4_000.0).unsigned_abs(), 300))
        }),
        ("no heart", Finding::NoQrs, |t, _| 150.0 * (t * 1.7).sin()),
    ];
    for hertz in [250, 500, 800, 1000] {
        for (what, finding, change) in faults {
            only_v3(&Ecg::recorded(hertz, 0.0).with(change), finding, what);
            only_v3(&Ecg::synthetic(hertz, 7).with(change), finding, what);
        }
    }
}

#[test]
fn missing_samples_and_the_device_s_own_flags_come_first() {
    let mut ecg = Ecg::recorded(500, 0.0);
    ecg.samples.iter_mut().skip(V3).step_by(8).take(500).for_each(|sample| *sample = None);
    only_v3(&ecg, Finding::MissingSamples, "a tenth is missing");
    let mut ecg = Ecg::recorded(500, 0.0).with(|_, _| 0.0);
    ecg.saturated = 1 << 1;
    ecg.lead_off = 1 << V3;
    assert_eq!(ecg.judged().statuses(), ["electrode-v3-off", "saturated"]);
    ecg.lead_off = 0xff;
    assert_eq!(ecg.judged().statuses(), ["electrode-ra-off"]);
}

#[test]
fn a_good_ecg_raises_no_alarm() {
    let (mut judged, mut alarms) = (0, Vec::new());
    let mut take = |what: String, ecg: &Ecg| {
        for (code, finding) in ecg.judged().leads {
            judged += 1;
            if finding != Finding::Acceptable {
                alarms.push(format!("{what}: {} {}", code.name().unwrap_or("?"), finding.status()));
            }
        }
    };
    for hertz in [125, 250, 500, 800, 1000] {
        for start in 0..8 {
            take(format!("recorded at {hertz} Hz from {start} s"), &Ecg::recorded(hertz, f64::from(start) * 1.7));
        }
    }
    for (seed, hertz) in (0..40).zip([250, 500, 1000].into_iter().cycle()) {
        take(format!("patient {seed}"), &Ecg::synthetic(hertz, seed));
    }
    println!("{} false alarms in {judged} leads", alarms.len());
    assert!(alarms.is_empty(), "{} of {judged}: {alarms:?}", alarms.len());
}
