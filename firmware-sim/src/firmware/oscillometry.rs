//! From a cuff's pressure while it falls to systolic, mean and diastolic pressure and pulse rate.
//!
//! The pulse is what is left of the pressure when its slow fall is taken away. Beats are found from the strongest one
//! outwards; the height of each over the pressure at which it was is the oscillometric envelope. Its maximum is at the mean
//! pressure; the systolic and diastolic pressures are where it has fallen to characteristic shares of it. Source: L. A.
//! Geddes et al., Ann. Biomed. Eng. 10 (1982).

use alloc::vec::Vec;

/// Samples a second.
pub const RATE_HZ: u16 = 50;
/// The envelope at the systolic and at the diastolic pressure, as a share of its maximum.
const SYSTOLIC_SHARE: f32 = 0.50;
const DIASTOLIC_SHARE: f32 = 0.80;
/// Beats are followed while they are above this share of the strongest.
const FOLLOWED_SHARE: f32 = 0.15;
/// Under this height, mmHg, there is no pulse.
const HEIGHT_MIN: f32 = 0.4;
/// Above it, nobody's artery moves a cuff so: the patient moved.
const HEIGHT_MAX: f32 = 6.0;
/// Fewer beats than this are no envelope.
const BEATS_MIN: usize = 8;
/// More samples than this are not kept: 120 s.
pub const SAMPLES_MAX: usize = 120 * RATE_HZ as usize;
/// The slow fall is the mean of so many samples: two seconds.
const FALL_SAMPLES: usize = 2 * RATE_HZ as usize;
/// Periods that are looked for, samples: 200 to 40 a minute.
const PERIODS: core::ops::RangeInclusive<usize> = 15..=75;

/// A measured pressure, mmHg and /min.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Systolic.
    pub systolic: f32,
    /// Mean.
    pub mean: f32,
    /// Diastolic.
    pub diastolic: f32,
    /// Pulse rate over the beats from `first` to `last`.
    pub pulse_rate: f32,
    /// The sample of the first beat …
    pub first: usize,
    /// … and of the last.
    pub last: usize,
    /// The beats came unevenly.
    pub irregular: bool,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEstimate {
    /// No pulse was found.
    NoPulse,
    /// The patient moved.
    Motion,
    /// The envelope does not fall to its shares on both sides.
    NoEnvelope,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    at: usize,
    pressure: f32,
    height: f32,
}

/// What the pressures (mmHg, [`RATE_HZ`]) of a deflation say.
pub fn estimate(pressures: &[f32]) -> Result<Estimate, NoEstimate> {
    let (fall, wave) = split(pressures);
    let strongest = strongest(&wave).ok_or(NoEstimate::NoPulse)?;
    let height = swing(&wave, strongest.saturating_sub(FALL_SAMPLES / 2), strongest + FALL_SAMPLES / 2);
    match height {
        height if height < HEIGHT_MIN => return Err(NoEstimate::NoPulse),
        height if height > HEIGHT_MAX => return Err(NoEstimate::Motion),
        _ => {}
    }
    let period = period(&wave, strongest).ok_or(NoEstimate::Motion)?;
    let beats = beats(&fall, &wave, strongest, period);
    if beats.len() < BEATS_MIN {
        return Err(NoEstimate::Motion);
    }
    let irregular = unevenness(&beats, period);
    if irregular > 0.4 {
        return Err(NoEstimate::Motion);
    }
    let envelope = smoothed(&beats);
    let (mean, top) = maximum(&envelope).ok_or(NoEstimate::NoEnvelope)?;
    let above = |beat: &&Beat| beat.pressure > mean;
    let below = |beat: &&Beat| beat.pressure < mean;
    let systolic = crossing(envelope.iter().rev().filter(above), mean, top, SYSTOLIC_SHARE);
    let diastolic = crossing(envelope.iter().filter(below), mean, top, DIASTOLIC_SHARE);
    let (Some(systolic), Some(diastolic)) = (systolic, diastolic) else { return Err(NoEstimate::NoEnvelope) };
    let (first, last) = (beats.first().map_or(0, |beat| beat.at), beats.last().map_or(0, |beat| beat.at));
    let seconds = count(last.saturating_sub(first)) / f32::from(RATE_HZ);
    let pulse_rate = 60.0 * count(beats.len().saturating_sub(1)) / seconds.max(0.1);
    Ok(Estimate { systolic, mean, diastolic, pulse_rate, first, last, irregular: irregular > 0.2 })
}

/// The slow fall, and what is left.
fn split(pressures: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut sums = Vec::with_capacity(pressures.len() + 1);
    sums.push(0.0_f64);
    for pressure in pressures {
        sums.push(sums.last().copied().unwrap_or(0.0) + f64::from(*pressure));
    }
    let half = FALL_SAMPLES / 2;
    let sum = |at: usize| sums.get(at).copied().unwrap_or(0.0);
    // As many samples on both sides, fewer at the ends, so that a straight fall leaves nothing.
    let mean = |at: usize| {
        let side = half.min(at).min(pressures.len() - 1 - at);
        let total = sum(at + side + 1) - sum(at - side);
        narrow(total) / count(2 * side + 1)
    };
    let fall: Vec<f32> = (0..pressures.len()).map(mean).collect();
    let wave = pressures.iter().zip(&fall).map(|(pressure, fall)| pressure - fall).collect();
    (fall, wave)
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of pressures needs no more digits than a pressure")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// Counts are far below 2^16 here.
fn count(value: usize) -> f32 {
    f32::from(u16::try_from(value).unwrap_or(u16::MAX))
}

fn swing(wave: &[f32], from: usize, to: usize) -> f32 {
    let part = wave.get(from..to.min(wave.len())).unwrap_or_default();
    let (low, high) = part.iter().fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    (high - low).max(0.0)
}

/// Where the wave is highest; its ends, where nothing can be taken away, are left out.
fn strongest(wave: &[f32]) -> Option<usize> {
    let inside = wave.len().checked_sub(FALL_SAMPLES)?;
    let candidates = wave.iter().enumerate().take(inside).skip(FALL_SAMPLES);
    candidates.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(at, _)| at)
}

/// By which shift the wave around its strongest place is most like itself.
fn period(wave: &[f32], around: usize) -> Option<usize> {
    let from = around.saturating_sub(4 * usize::from(RATE_HZ));
    let part = wave.get(from..(around + 4 * usize::from(RATE_HZ)).min(wave.len()))?;
    let likeness = |shift: usize| -> f32 {
        let pairs = part.iter().zip(part.iter().skip(shift));
        pairs.map(|(one, other)| one * other).sum::<f32>() / count(part.len().saturating_sub(shift).max(1))
    };
    let own = likeness(0);
    let best = PERIODS.map(|shift| (shift, likeness(shift))).max_by(|one, other| one.1.total_cmp(&other.1))?;
    // Twice the period is as like: the shortest that is nearly as good is the one.
    let shortest = PERIODS
        .map(|shift| (shift, likeness(shift)))
        .find(|(shift, value)| *value > 0.85 * best.1 && likeness(shift + 1) <= *value && likeness(shift - 1) <= *value);
    (best.1 > 0.4 * own).then(|| shortest.unwrap_or(best).0)
}

fn beats(fall: &[f32], wave: &[f32], strongest: usize, period: usize) -> Vec<Beat> {
    let beat = |at: usize| {
        let low = wave.get(at.saturating_sub(period * 3 / 5)..at)?.iter().copied().fold(f32::MAX, f32::min);
        Some(Beat { at, pressure: *fall.get(at)?, height: wave.get(at)? - low })
    };
    let peak = |from: usize, to: usize| {
        let candidates = wave.iter().enumerate().take(to).skip(from);
        candidates.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(at, _)| at)
    };
    let Some(top) = beat(strongest) else { return Vec::new() };
    let (near, far) = (period * 13 / 20, period * 27 / 20);
    let inside = FALL_SAMPLES / 2..wave.len().saturating_sub(FALL_SAMPLES / 2);
    let mut found = Vec::from([top]);
    let mut at = strongest;
    while let Some(before) = at.checked_sub(far).and_then(|from| beat(peak(from, at - near)?)) {
        if before.height < FOLLOWED_SHARE * top.height || !inside.contains(&before.at) || before.at >= at {
            break;
        }
        at = before.at;
        found.insert(0, before);
    }
    at = strongest;
    while let Some(after) = peak(at + near, at + far).and_then(beat) {
        if after.height < FOLLOWED_SHARE * top.height || !inside.contains(&after.at) || after.at <= at {
            break;
        }
        at = after.at;
        found.push(after);
    }
    found
}

/// The largest step between neighbouring intervals, as a share of the period.
fn unevenness(beats: &[Beat], period: usize) -> f32 {
    let intervals: Vec<usize> = beats.windows(2).map(|pair| pair.iter().map(|beat| beat.at).fold(0, |a, b| b - a)).collect();
    let steps = intervals.windows(2).map(|pair| pair.iter().copied().fold(0, usize::abs_diff));
    count(steps.max().unwrap_or(0)) / count(period.max(1))
}

/// Heights with some of their neighbours: breathing moves them by a few percent.
fn smoothed(beats: &[Beat]) -> Vec<Beat> {
    const WEIGHTS: [f32; 5] = [1.0, 2.0, 3.0, 2.0, 1.0];
    let smooth = |at: usize| {
        let near = WEIGHTS.iter().enumerate().filter_map(|(place, weight)| {
            let beat = beats.get((at + place).checked_sub(2)?)?;
            Some((*weight, beat))
        });
        let (weights, pressures, heights) = near.fold((0.0, 0.0, 0.0), |(w, p, h), (weight, beat)| {
            (w + weight, p + weight * beat.pressure, h + weight * beat.height)
        });
        beats.get(at).map(|beat| Beat { pressure: pressures / weights, height: heights / weights, ..*beat })
    };
    (0..beats.len()).filter_map(smooth).collect()
}

/// The pressure and the height of the envelope's maximum: where a parabola through the three highest has its own.
fn maximum(envelope: &[Beat]) -> Option<(f32, f32)> {
    let (at, top) = envelope.iter().enumerate().max_by(|(_, one), (_, other)| one.height.total_cmp(&other.height))?;
    let (before, after) = (envelope.get(at.checked_sub(1)?)?, envelope.get(at + 1)?);
    let curve = before.height - 2.0 * top.height + after.height;
    let shift = if curve < 0.0 { 0.5 * (before.height - after.height) / curve } else { 0.0 };
    let pressure = if shift < 0.0 {
        top.pressure - shift * (before.pressure - top.pressure)
    } else {
        top.pressure + shift * (after.pressure - top.pressure)
    };
    Some((pressure, top.height))
}

/// Where the envelope, followed away from its maximum, falls to a share of it.
fn crossing<'a>(beats: impl Iterator<Item = &'a Beat>, mean: f32, top: f32, share: f32) -> Option<f32> {
    let mut before = (mean, top);
    for beat in beats {
        if beat.height < share * top {
            let (pressure, height) = before;
            let part = (height - share * top) / (height - beat.height).max(f32::EPSILON);
            return Some(pressure + part * (beat.pressure - pressure));
        }
        before = (beat.pressure, beat.height);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_of_a_smooth_fall_or_of_too_little() {
        let fall: Vec<f32> = (0..3_000_u16).map(|n| 180.0 - f32::from(n) * 0.045).collect();
        assert_eq!(estimate(&fall), Err(NoEstimate::NoPulse));
        for length in [0, 1, 50, 150, 205] {
            assert!(estimate(fall.get(..length).unwrap_or_default()).is_err(), "{length}");
        }
    }
}
