//! From light to saturation and pulse: what an oximeter computes from each sample of red and infrared.
//!
//! The mean of each colour is followed slowly and taken away; what is left, smoothed, is the pulse wave. A beat is a
//! maximum of the infrared wave above half of the latest ones. Over a beat, the ratio of the two waves, each against its
//! mean, is the "ratio of ratios" R, and SpO2 = 110 − 25 R, the usual line for this sensor.

use super::max30102::{Light, RATE_HZ};
use super::nearest;

/// Below so many counts of infrared there is no finger: at 7.2 mA one gives about 100,000.
const FINGER_COUNTS_MIN: u32 = 20_000;
/// The mean follows in 2^-7 a sample: a corner at 0.12 Hz.
const MEAN_SHARE: f32 = 1.0 / 128.0;
/// Each of two smoothing stages: corners at 7 Hz.
const SMOOTH_SHARE: f32 = 0.35;
/// No two beats within this: 240 a minute.
const REFRACTORY_SAMPLES: u32 = RATE_HZ / 4;
/// Without a beat for this long there is no pulse.
const PULSELESS_SAMPLES: u32 = RATE_HZ * 3;
/// What is found before this is the filters settling.
const SETTLING_SAMPLES: u32 = RATE_HZ * 2;
/// A first guess of the wave's height, as a fraction of the mean.
const FIRST_HEIGHT: f32 = 0.005;
/// Beats remembered.
const BEATS: usize = 8;

/// One beat.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Beat {
    /// Samples since the beat before.
    pub interval: u32,
    /// Oxygen saturation over it, %.
    pub spo2: f32,
    /// Height of the infrared wave against its mean, %.
    pub perfusion: f32,
}

/// One colour: its slow mean, and what pulses.
#[derive(Clone, Copy, Debug, Default)]
struct Colour {
    mean: f32,
    first_stage: f32,
    wave: f32,
}

impl Colour {
    fn push(&mut self, counts: u32) {
        let counts = nearest_f32(counts);
        if self.mean == 0.0 {
            self.mean = counts;
        }
        self.mean += (counts - self.mean) * MEAN_SHARE;
        // Blood takes light away: the wave points up at systole.
        self.first_stage += (self.mean - counts - self.first_stage) * SMOOTH_SHARE;
        self.wave += (self.first_stage - self.wave) * SMOOTH_SHARE;
    }
}

/// The signal processing of an oximeter.
#[derive(Clone, Copy, Debug, Default)]
pub struct PulseSignal {
    red: Colour,
    infrared: Colour,
    /// Samples since the finger came.
    samples: u32,
    since_beat: u32,
    /// Height of the latest maxima.
    height: f32,
    above: bool,
    maximum: f32,
    since_maximum: u32,
    cross: f32,
    square: f32,
    beats: [Beat; BEATS],
    beats_found: usize,
}

impl PulseSignal {
    /// Takes in one sample; true where a beat was found.
    pub fn push(&mut self, light: Light) -> bool {
        if light.infrared < FINGER_COUNTS_MIN {
            *self = Self::default();
            return false;
        }
        self.red.push(light.red);
        self.infrared.push(light.infrared);
        self.samples = self.samples.saturating_add(1);
        self.since_beat = self.since_beat.saturating_add(1);
        self.since_maximum = self.since_maximum.saturating_add(1);
        self.cross += self.red.wave * self.infrared.wave;
        self.square += self.infrared.wave * self.infrared.wave;
        if self.samples == 1 {
            self.height = self.infrared.mean * FIRST_HEIGHT;
        }
        if self.since_beat > PULSELESS_SAMPLES {
            self.beats_found = 0;
            self.height = (self.height * 0.5).max(1.0);
            self.since_beat = RATE_HZ;
            self.above = false;
        }
        self.find_beat()
    }

    /// Whether a finger is on the sensor.
    #[must_use]
    pub fn finger(&self) -> bool {
        self.samples > 0
    }

    /// Whether there are enough beats to give numbers.
    #[must_use]
    pub fn tracking(&self) -> bool {
        self.beats_found >= 4
    }

    /// Beats found since the finger came or the pulse was lost.
    #[must_use]
    pub fn beats_found(&self) -> usize {
        self.beats_found
    }

    /// SpO2 over the last `beats` beats, %; `None` while not tracking.
    #[must_use]
    pub fn spo2(&self, beats: usize) -> Option<f32> {
        self.mean_of(beats, |beat| beat.spo2).map(|spo2| spo2.clamp(1.0, 100.0))
    }

    /// Pulse rate over the last `beats` beats, per minute; `None` while not tracking.
    #[must_use]
    pub fn pulse_rate(&self, beats: usize) -> Option<f32> {
        self.mean_of(beats, |beat| nearest_f32(beat.interval)).map(|interval| 60.0 * nearest_f32(RATE_HZ) / interval)
    }

    /// Perfusion (pulse amplitude index) over the last `beats` beats, %; `None` while not tracking.
    #[must_use]
    pub fn perfusion(&self, beats: usize) -> Option<f32> {
        self.mean_of(beats, |beat| beat.perfusion)
    }

    /// The pulse wave, 1 being the height of the latest beats; 0 without a finger.
    #[must_use]
    pub fn wave(&self) -> f32 {
        if self.height > 0.0 { self.infrared.wave / self.height } else { 0.0 }
    }

    fn mean_of(&self, beats: usize, of: impl Fn(&Beat) -> f32) -> Option<f32> {
        if !self.tracking() {
            return None;
        }
        let count = beats.clamp(1, BEATS).min(self.beats_found);
        let sum: f32 = self.beats.iter().take(count).map(of).sum();
        let divisor = nearest_f32(u32::try_from(count).unwrap_or(1));
        Some(sum / divisor)
    }

    /// A maximum is known to be one when the wave has fallen to half of it.
    fn find_beat(&mut self) -> bool {
        let wave = self.infrared.wave;
        if wave > self.height * 0.5 && (!self.above || wave > self.maximum) && self.since_beat >= REFRACTORY_SAMPLES {
            self.above = true;
            self.maximum = wave;
            self.since_maximum = 0;
        }
        if !self.above || wave > self.maximum * 0.5 {
            return false;
        }
        self.above = false;
        let interval = self.since_beat - self.since_maximum;
        let beat = self.beat(interval);
        self.height += (self.maximum - self.height) * 0.25;
        self.since_beat = self.since_maximum;
        self.cross = 0.0;
        self.square = 0.0;
        if self.samples < SETTLING_SAMPLES || interval < REFRACTORY_SAMPLES {
            return false;
        }
        // The first beat has no interval.
        self.beats_found = self.beats_found.saturating_add(1);
        if self.beats_found > 1 {
            self.beats.rotate_right(1);
            self.beats[0] = beat;
        } else {
            self.beats = [beat; BEATS];
        }
        true
    }

    fn beat(&self, interval: u32) -> Beat {
        let ratio = match (self.square > 0.0, self.red.mean > 0.0) {
            (true, true) => self.cross / self.square * self.infrared.mean / self.red.mean,
            _ => 0.0,
        };
        let perfusion = if self.infrared.mean > 0.0 { self.maximum / self.infrared.mean * 100.0 } else { 0.0 };
        Beat { interval, spo2: 110.0 - 25.0 * ratio, perfusion }
    }
}

/// Counts fit in 24 bits, so a float holds them exactly.
fn nearest_f32(value: u32) -> f32 {
    let bounded = value.min(1 << 24);
    f32::from(u16::try_from(bounded >> 12).unwrap_or(0)) * 4096.0 + f32::from(u16::try_from(bounded & 0xfff).unwrap_or(0))
}

/// The nearest whole number of a value that is a rate or a percentage.
#[must_use]
pub fn whole(value: f32) -> u16 {
    u16::try_from(nearest(value)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patient::Patient;

    fn light(patient: &Patient, seconds: f64) -> Light {
        let vitals = patient.vitals(seconds);
        let pulse = vitals.perfusion * patient.pleth(seconds);
        let ratio = (110.0 - vitals.spo2) / 25.0;
        let counts = |value: f64| u32::try_from(crate::noise::nearest(value)).unwrap();
        Light { red: counts(90_000.0 * (1.0 - ratio * pulse)), infrared: counts(110_000.0 * (1.0 - pulse)) }
    }

    #[test]
    fn numbers_follow_the_patient() {
        for seed in 0..40 {
            let patient = Patient::new(seed);
            let mut signal = PulseSignal::default();
            for sample in 0..6_000_u32 {
                let seconds = f64::from(sample) / f64::from(RATE_HZ);
                signal.push(light(&patient, seconds));
                if sample < 1_000 {
                    continue;
                }
                let truth = patient.vitals(seconds);
                let spo2 = f64::from(signal.spo2(4).unwrap());
                assert!((spo2 - truth.spo2).abs() < 1.0, "seed {seed} at {seconds}: {spo2}, not {}", truth.spo2);
                let beats_8 = (patient.beats(seconds - 0.5) - patient.beats(seconds - 7.0)) / 6.5 * 60.0;
                let pulse = f64::from(signal.pulse_rate(8).unwrap());
                assert!((pulse - beats_8).abs() < 3.0, "seed {seed} at {seconds}: {pulse}, not {beats_8}");
            }
        }
    }

    /// What the centre is promised of an oximeter: SpO2 within 2 %, the mean pulse of the last eight beats within 1/min.
    #[test]
    fn over_200_patients_saturation_is_within_2_percent_and_pulse_within_1_a_minute() {
        let (mut worst_spo2, mut worst_pulse) = ((0.0_f64, 0), (0.0_f64, 0));
        for seed in 0..200 {
            let patient = Patient::new(seed);
            let mut signal = PulseSignal::default();
            let mut beats = std::collections::VecDeque::new();
            let mut before = patient.beats(-0.22).floor();
            for sample in 0..4_000_u32 {
                let seconds = f64::from(sample) / f64::from(RATE_HZ);
                // The pulse wave's highest point comes 0.22 s and a sixth of a beat behind the R peak.
                let now = (patient.beats(seconds - 0.22) - 0.16).floor();
                if now > before {
                    before = now;
                    beats.push_front(seconds);
                    beats.truncate(9);
                }
                if !signal.push(light(&patient, seconds)) || sample < 1_500 {
                    continue;
                }
                let spo2 = (f64::from(signal.spo2(4).unwrap()) - patient.vitals(seconds).spo2).abs();
                let span = beats.front().unwrap() - beats.back().unwrap();
                let truth = f64::from(u32::try_from(beats.len() - 1).unwrap()) * 60.0 / span;
                let pulse = (f64::from(signal.pulse_rate(8).unwrap()) - truth).abs();
                worst_spo2 = if spo2 > worst_spo2.0 { (spo2, seed) } else { worst_spo2 };
                worst_pulse = if pulse > worst_pulse.0 { (pulse, seed) } else { worst_pulse };
            }
        }
        println!(
            "worst SpO2 {:.2} % (seed {}), worst pulse {:.2}/min (seed {})",
            worst_spo2.0, worst_spo2.1, worst_pulse.0, worst_pulse.1
        );
        assert!(worst_spo2.0 <= 2.0, "seed {}: {} %", worst_spo2.1, worst_spo2.0);
        assert!(worst_pulse.0 <= 1.0, "seed {}: {}/min", worst_pulse.1, worst_pulse.0);
    }

    #[test]
    fn without_a_finger_there_are_no_numbers() {
        let patient = Patient::new(1);
        let mut signal = PulseSignal::default();
        for sample in 0..1_000_u32 {
            signal.push(light(&patient, f64::from(sample) / 100.0));
        }
        assert!(signal.finger() && signal.tracking());
        signal.push(Light { red: 900, infrared: 1_000 });
        assert!(!signal.finger() && !signal.tracking());
        assert_eq!((signal.spo2(4), signal.pulse_rate(4)), (None, None));
    }

    #[test]
    fn a_finger_without_a_pulse_gives_no_numbers() {
        let mut signal = PulseSignal::default();
        for _ in 0..2_000 {
            signal.push(Light { red: 90_000, infrared: 110_000 });
        }
        assert!(signal.finger());
        assert_eq!(signal.spo2(4), None);
    }
}
