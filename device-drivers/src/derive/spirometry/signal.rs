//! A flow or a volume over time, checked and brought to zero: what everything else is computed of.

/// The most samples of one signal: half an hour at 500 Hz.
pub const SAMPLES_MAX: usize = 900_000;
/// The shortest time between samples, s.
pub const INTERVAL_SECONDS_MIN: f64 = 0.000_2;
/// The longest time between samples, s: the standard asks for 100 Hz at least, some devices give 10.
pub const INTERVAL_SECONDS_MAX: f64 = 0.1;
/// A flow beyond this is no breath, L/s: the standard asks instruments for ± 14.
const FLOW_MAX: f64 = 40.0;
/// A volume beyond this is no lung's, L; a running volume may drift.
const VOLUME_MAX: f64 = 1_000.0;

/// Flow and volume over time; flow is positive as the patient breathes out.
#[derive(Clone, Debug)]
pub struct Signal {
    /// Seconds between samples.
    pub(super) interval: f64,
    /// L/s, zero offset taken away.
    pub(super) flow: Vec<f64>,
    /// L breathed out since the first sample.
    pub(super) volume: Vec<f64>,
    /// The zero offset that was found before the first effort, L/s.
    pub(super) offset: f64,
}

/// Why numbers are no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Fewer than two samples.
    #[error("fewer than two samples")]
    TooShort,
    /// More than [`SAMPLES_MAX`].
    #[error("more than {SAMPLES_MAX} samples")]
    TooLong,
    /// Samples too near each other or too far apart.
    #[error("samples must be 0.2 to 100 ms apart")]
    Interval,
    /// Not a number, or infinite.
    #[error("sample {index} is not a number")]
    NotANumber {
        /// Which sample, from 0.
        index: usize,
    },
    /// No lung does that.
    #[error("sample {index} is beyond what a person can breathe")]
    Absurd {
        /// Which sample, from 0.
        index: usize,
    },
}

impl Signal {
    /// From flow.
    ///
    /// Shape: one number a sample, positive as the patient breathes out, `interval` seconds apart. Units: L/s.
    /// Errors: see [`SignalError`]. Volume is the integral by the trapezoid rule.
    pub fn from_flow(flow: &[f64], interval: f64) -> Result<Self, SignalError> {
        check(flow, interval, FLOW_MAX)?;
        let offset = zero_offset(flow, interval);
        let flow: Vec<f64> = flow.iter().map(|flow| flow - offset).collect();
        let mut volume = Vec::with_capacity(flow.len());
        let mut sum = 0.0;
        volume.push(sum);
        for pair in flow.windows(2) {
            sum += (pair[0] + pair[1]) / 2.0 * interval;
            volume.push(sum);
        }
        Ok(Self { interval, flow, volume, offset })
    }

    /// From volume.
    ///
    /// Shape: one number a sample, rising as the patient breathes out. Units: L. Errors: see [`SignalError`].
    /// Flow is the slope over 80 ms, which is also what the largest slope is sought over.
    pub fn from_volume(volume: &[f64], interval: f64) -> Result<Self, SignalError> {
        check(volume, interval, VOLUME_MAX)?;
        let reach = samples(0.040, interval).max(1);
        let last = volume.len() - 1;
        let slope = |at: usize| {
            let (from, to) = (at.saturating_sub(reach), (at + reach).min(last));
            (volume[to] - volume[from]) / (seconds(to - from, interval))
        };
        let flow = (0..volume.len()).map(slope).collect();
        let first = volume[0];
        Ok(Self { interval, flow, volume: volume.iter().map(|volume| volume - first).collect(), offset: 0.0 })
    }

    /// Volume at a time between samples, L.
    pub(super) fn volume_at(&self, time: f64) -> f64 {
        let last = self.volume.len() - 1;
        let at = (time / self.interval).max(0.0);
        let below = floor(at).min(last);
        let above = (below + 1).min(last);
        let part = (at - seconds(below, 1.0)).clamp(0.0, 1.0);
        self.volume[below] + (self.volume[above] - self.volume[below]) * part
    }

    /// Time of a sample, s.
    pub(super) fn time(&self, at: usize) -> f64 {
        seconds(at, self.interval)
    }

    /// Samples in so many seconds.
    pub(super) fn samples(&self, time: f64) -> usize {
        samples(time, self.interval)
    }
}

fn check(values: &[f64], interval: f64, most: f64) -> Result<(), SignalError> {
    if !(INTERVAL_SECONDS_MIN..=INTERVAL_SECONDS_MAX).contains(&interval) {
        return Err(SignalError::Interval);
    }
    match values.len() {
        0 | 1 => return Err(SignalError::TooShort),
        count if count > SAMPLES_MAX => return Err(SignalError::TooLong),
        _ => {}
    }
    for (index, value) in values.iter().enumerate() {
        if !value.is_finite() {
            return Err(SignalError::NotANumber { index });
        }
        if value.abs() > most {
            return Err(SignalError::Absurd { index });
        }
    }
    Ok(())
}

/// Flow from here on is breath and no offset, L/s.
const BREATH: f64 = 0.3;
/// What is quiet for so long shows the zero, s.
const QUIET_SECONDS: f64 = 0.5;
/// Means of so long are compared, s …
const MEAN_SECONDS: f64 = 0.05;
/// … and differ by no more than this where it is quiet, L/s.
const QUIET_SPREAD: f64 = 0.01;

/// What the instrument shows where nothing flows, before the first effort: the mean of the last quiet half second there.
/// What has a zero in it and nothing below was brought to zero already: what is above zero in it is the first breath.
fn zero_offset(flow: &[f64], interval: f64) -> f64 {
    let before = flow.iter().position(|flow| flow.abs() > BREATH).unwrap_or(0);
    let (mean_of, quiet) = (samples(MEAN_SECONDS, interval).max(1), samples(QUIET_SECONDS, interval));
    let zeroed = flow[..before].contains(&0.0) && flow[..before].iter().all(|flow| *flow >= 0.0);
    if zeroed {
        return 0.0;
    }
    let means: Vec<f64> = flow[..before].chunks_exact(mean_of).map(mean).collect();
    let run = quiet.div_ceil(mean_of).max(2);
    for (at, window) in means.windows(run).enumerate().rev() {
        let (low, high) = extremes(window);
        if high - low <= QUIET_SPREAD {
            return mean(&flow[at * mean_of..(at + run) * mean_of]);
        }
    }
    0.0
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / seconds(values.len().max(1), 1.0)
}

/// The least and the most; of nothing, both 0.
pub(super) fn extremes(values: &[f64]) -> (f64, f64) {
    let first = values.first().copied().unwrap_or(0.0);
    values.iter().fold((first, first), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// Signals have at most [`SAMPLES_MAX`] samples, which a float counts exactly.
pub(super) fn seconds(count: usize, interval: f64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * interval
}

/// Whole samples in a time, to the nearest.
pub(super) fn samples(time: f64, interval: f64) -> usize {
    floor(time / interval + 0.5)
}

#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is what is wanted")]
fn floor(value: f64) -> usize {
    value as usize
}
