//! A simulated patient: physiology as a pure function of a seed and a time, so that what a device reports can be compared
//! with what was there.

use std::f64::consts::TAU;

use crate::noise::between;

/// What is known of the patient at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vitals {
    /// Beats a minute, at this instant.
    pub heart_rate: f64,
    /// Oxygen saturation, %.
    pub spo2: f64,
    /// Core temperature, °C.
    pub temperature: f64,
    /// Systolic pressure, mmHg.
    pub systolic: f64,
    /// Diastolic pressure, mmHg.
    pub diastolic: f64,
    /// Breaths a minute.
    pub respiratory_rate: f64,
    /// Body weight, kg.
    pub weight: f64,
    /// Pulsatile part of the infrared light through a finger, as a fraction.
    pub perfusion: f64,
}

/// The eight independent leads I, II, V1–V6, in mV.
pub type Leads = [f64; 8];

/// One slow swing of the heart rate.
#[derive(Clone, Copy, Debug)]
struct Swing {
    hertz: f64,
    fraction: f64,
    phase: f64,
}

/// A patient, made from a seed.
#[derive(Clone, Copy, Debug)]
pub struct Patient {
    rest: Vitals,
    /// Respiratory sinus arrhythmia, Mayer waves and a slow drift: the variability of the heart rate.
    swings: [Swing; 3],
    drift_phase: f64,
}

impl Patient {
    /// The patient of this seed: an adult at rest, a little different for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let draw = |index, from, to| between(seed, index, from, to);
        let respiratory_rate = draw(5, 12.0, 18.0);
        let rest = Vitals {
            heart_rate: draw(0, 58.0, 88.0),
            spo2: draw(1, 93.5, 98.0),
            temperature: draw(2, 36.2, 37.1),
            systolic: draw(3, 108.0, 146.0),
            diastolic: draw(4, 64.0, 90.0),
            respiratory_rate,
            perfusion: draw(6, 0.02, 0.05),
            weight: draw(11, 52.0, 98.0),
        };
        let swing = |index, hertz, fraction| Swing { hertz, fraction, phase: draw(index, 0.0, TAU) };
        let swings = [swing(7, respiratory_rate / 60.0, 0.025), swing(8, 0.1, 0.015), swing(9, 0.011, 0.02)];
        Self { rest, swings, drift_phase: draw(10, 0.0, TAU) }
    }

    /// Heart rate, saturation, pressures and the rest, `seconds` after the simulation's start.
    #[must_use]
    pub fn vitals(&self, seconds: f64) -> Vitals {
        let variability: f64 = self.swings.iter().map(|s| s.fraction * (TAU * s.hertz * seconds + s.phase).cos()).sum();
        let slow = |period: f64, amount: f64| amount * (TAU * seconds / period + self.drift_phase).sin();
        Vitals {
            heart_rate: self.rest.heart_rate * (1.0 + variability),
            spo2: (self.rest.spo2 + slow(600.0, 0.6)).min(100.0),
            temperature: self.rest.temperature + slow(7200.0, 0.15),
            systolic: self.rest.systolic + slow(10.0, 2.0) + slow(1800.0, 4.0),
            diastolic: self.rest.diastolic + slow(10.0, 1.0) + slow(1800.0, 3.0),
            ..self.rest
        }
    }

    /// Heart beats since the start: whole at each R peak. The exact integral of the heart rate.
    #[must_use]
    pub fn beats(&self, seconds: f64) -> f64 {
        let rate = self.rest.heart_rate / 60.0;
        let swung: f64 = self
            .swings
            .iter()
            .map(|s| s.fraction * ((TAU * s.hertz * seconds + s.phase).sin() - s.phase.sin()) / (TAU * s.hertz))
            .sum();
        rate * (seconds + swung)
    }

    /// The blood in a fingertip: 0 at the foot of the pulse wave, about 1 at its peak, with the notch after it.
    #[must_use]
    pub fn pleth(&self, seconds: f64) -> f64 {
        /// The pulse wave reaches the finger this long after the R peak.
        const TRANSIT_SECONDS: f64 = 0.22;
        let at = seconds - TRANSIT_SECONDS;
        let phase = self.beats(at).rem_euclid(1.0);
        let wave = bump(phase, 0.16, 0.075) + 0.42 * bump(phase, 0.42, 0.13);
        let breath = (TAU * self.rest.respiratory_rate / 60.0 * at).sin();
        wave * (1.0 + 0.04 * breath) + 0.03 * breath
    }

    /// The ECG, mV: one turning heart dipole seen by all leads, so that they are consistent with each other.
    #[must_use]
    pub fn ecg(&self, seconds: f64) -> Leads {
        let phase = self.beats(seconds).rem_euclid(1.0);
        let mut dipole = [0.0; 3];
        for wave in WAVES {
            let size = bump(phase, wave.phase, wave.width);
            for (axis, amount) in dipole.iter_mut().zip(wave.millivolts) {
                *axis += amount * size;
            }
        }
        let wander = 0.05 * (TAU * self.rest.respiratory_rate / 60.0 * seconds).sin();
        LEADS_OF_DIPOLE.map(|lead| lead.iter().zip(dipole).map(|(a, b)| a * b).sum::<f64>() + wander * lead[1])
    }
}

/// A wave of the beat: where in it, how wide (both as a fraction of the beat), how strong to the left, down and back.
struct Wave {
    phase: f64,
    width: f64,
    millivolts: [f64; 3],
}

const WAVES: [Wave; 5] = [
    Wave { phase: -0.16, width: 0.026, millivolts: [0.06, 0.12, -0.02] },
    Wave { phase: -0.028, width: 0.010, millivolts: [-0.12, -0.06, -0.22] },
    Wave { phase: 0.0, width: 0.012, millivolts: [0.95, 0.85, 0.25] },
    Wave { phase: 0.032, width: 0.014, millivolts: [-0.12, -0.12, 0.45] },
    Wave { phase: 0.30, width: 0.045, millivolts: [0.25, 0.22, -0.16] },
];

/// I, II, V1–V6 from the Frank axes left, down, back. Source: Dower, Machado, Osborne 1980, "On deriving the
/// electrocardiogram from vectorcardiographic leads".
const LEADS_OF_DIPOLE: [[f64; 3]; 8] = [
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
];

/// A bell of height 1 around `centre`, on the circle of one beat.
fn bump(phase: f64, centre: f64, width: f64) -> f64 {
    let away = (phase - centre + 0.5).rem_euclid(1.0) - 0.5;
    (-0.5 * (away / width).powi(2)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_the_integral_of_the_heart_rate() {
        let patient = Patient::new(3);
        let step = 0.001;
        let summed: f64 = (0..60_000).map(|n| patient.vitals(f64::from(n) * step + step / 2.0).heart_rate / 60.0 * step).sum();
        assert!((summed - (patient.beats(60.0) - patient.beats(0.0))).abs() < 1e-4, "{summed}");
    }

    #[test]
    fn a_patient_is_the_same_every_time_and_differs_by_seed() {
        assert_eq!(Patient::new(1).vitals(12.5), Patient::new(1).vitals(12.5));
        assert_ne!(Patient::new(1).vitals(12.5), Patient::new(2).vitals(12.5));
        assert_eq!(Patient::new(1).ecg(12.5), Patient::new(1).ecg(12.5));
    }

    #[test]
    fn every_seed_is_an_adult_at_rest() {
        for seed in 0..200 {
            for minute in 0..60 {
                let v = Patient::new(seed).vitals(f64::from(minute) * 60.0);
                assert!((52.0..96.0).contains(&v.heart_rate), "seed {seed}: {v:?}");
                assert!((92.0..=100.0).contains(&v.spo2), "seed {seed}: {v:?}");
                assert!((35.9..37.4).contains(&v.temperature), "seed {seed}: {v:?}");
                assert!(v.systolic - v.diastolic > 10.0, "seed {seed}: {v:?}");
            }
        }
    }

    #[test]
    fn the_ecg_has_one_r_peak_a_beat_upright_in_ii_and_negative_in_v1() {
        let patient = Patient::new(5);
        let lead_ii: Vec<f64> = (0..20_000).map(|n| patient.ecg(f64::from(n) / 1000.0)[1]).collect();
        let peaks = (1..lead_ii.len() - 1)
            .filter(|&n| lead_ii[n] > 0.6 && lead_ii[n] >= lead_ii[n - 1] && lead_ii[n] > lead_ii[n + 1])
            .count();
        let expected = crate::noise::nearest(patient.beats(20.0));
        assert!((i64::try_from(peaks).unwrap() - expected).abs() <= 1, "{peaks} peaks, {expected} beats");
        let v1_lowest = (0..2_000).map(|n| patient.ecg(f64::from(n) / 1000.0)[2]).fold(0.0, f64::min);
        assert!(v1_lowest < -0.5, "rS in V1: {v1_lowest}");
    }
}
