//! Where in a signal somebody breathes out with force.

use super::manoeuvre::EXPIRATION_ENOUGH;
use super::signal::Signal;

/// One breath out: indices into the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiration {
    /// Where it begins: the least volume before it, at most some seconds of quiet included.
    pub(super) start: usize,
    /// Where the most has come out, the first time.
    pub(super) end: usize,
    /// The last sample that still belongs to it: where breathing in begins, or quiet ends, or the signal does.
    pub(super) until: usize,
}

/// A breath in of so much ends a breath out, as a fraction of all that moved …
const TURN_FRACTION: f64 = 0.05;
/// … but never less or more than this, L.
const TURN_VOLUME: (f64, f64) = (0.02, 0.15);
/// At the end of a breath out volume may fall by so much before it is a breath in, L.
const WOBBLE: f64 = 0.01;
/// Less than so much, L …
const QUIET_VOLUME: f64 = 0.025;
/// … in so long, s: it is over, and a next one may begin. The standard's plateau is 1 s.
const QUIET_SECONDS: f64 = 2.0;
/// A breath out below this is none, L.
const VOLUME_MIN: f64 = 0.03;
/// A breath out with less peak flow is none, L/s.
const PEAK_MIN: f64 = 0.1;
/// Beside the largest breath of a signal only those count as forced that reach so much of its volume …
const FORCED_VOLUME: f64 = 0.3;
/// … and so much of the greatest peak flow: tidal breaths are far below.
const FORCED_PEAK: f64 = 0.4;

/// Every forced expiration, in order.
pub(super) fn forced_expirations(signal: &Signal) -> Vec<Expiration> {
    let all: Vec<Expiration> = breaths(signal).into_iter().flat_map(|breath| without_quiet(signal, breath)).collect();
    let measure = |e: &Expiration| (signal.volume[e.end] - signal.volume[e.start], peak(signal, e));
    let most = all.iter().map(measure).fold((VOLUME_MIN, PEAK_MIN), |most, m| (most.0.max(m.0), most.1.max(m.1)));
    let forced = |e: &Expiration| {
        let (volume, peak) = measure(e);
        volume >= VOLUME_MIN.max(FORCED_VOLUME * most.0) && peak >= PEAK_MIN.max(FORCED_PEAK * most.1)
    };
    all.into_iter().filter(forced).collect()
}

fn peak(signal: &Signal, expiration: &Expiration) -> f64 {
    signal.flow[expiration.start..=expiration.end].iter().copied().fold(0.0, f64::max)
}

/// From each least to the next greatest volume, with a turn between that is no wobble.
fn breaths(signal: &Signal) -> Vec<(usize, usize)> {
    let volume = &signal.volume;
    let (low, high) = super::signal::extremes(volume);
    let turn = (TURN_FRACTION * (high - low)).clamp(TURN_VOLUME.0, TURN_VOLUME.1);
    let mut breaths = Vec::new();
    let (mut least, mut most, mut out) = (0, 0, false);
    for at in 0..volume.len() {
        if volume[at] > volume[most] {
            most = at;
        }
        // The last of several equal ones: a breath begins where it begins, not where the one before ended.
        if !out && volume[at] <= volume[least] {
            least = at;
        }
        if out && volume[most] - volume[at] >= turn {
            let onset = (most..at).rev().find(|at| volume[most] - volume[*at] <= WOBBLE).unwrap_or(most);
            breaths.push((least, onset));
            (out, least) = (false, at);
        } else if !out && volume[at] - volume[least] >= turn {
            (out, most) = (true, at);
        }
    }
    if out {
        breaths.push((least, volume.len() - 1));
    }
    breaths
}

/// Cuts a breath out where it was quiet for long, and takes the quiet before it away.
fn without_quiet(signal: &Signal, (from, to): (usize, usize)) -> Vec<Expiration> {
    let window = signal.samples(QUIET_SECONDS);
    let quiet = |at: usize| at + window <= to && signal.volume[at + window] - signal.volume[at] < QUIET_VOLUME;
    let mut pieces = Vec::new();
    let mut at = from;
    while at < to {
        while at < to && quiet(at) {
            at += 1;
        }
        let start = at;
        // It has begun once so much has come out; only then can it be over.
        while at < to && signal.volume[at] - signal.volume[start] < QUIET_VOLUME {
            at += 1;
        }
        while at < to && !quiet(at) {
            at += 1;
        }
        let enough = start + signal.samples(EXPIRATION_ENOUGH);
        let mut until = (at + window).min(to);
        while quiet(at) && at < enough {
            until = at + window;
            at += 1;
        }
        let end = (start..=until).fold(start, |most, at| if signal.volume[at] > signal.volume[most] { at } else { most });
        if end > start {
            pieces.push(Expiration { start, end, until });
        }
        at = until.max(at + 1);
    }
    pieces
}
