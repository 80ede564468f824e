//! The figures of one forced expiration, and what speaks against it.

use super::detect::{Expiration, forced_expirations};
use super::signal::{Signal, extremes, mean};

/// What speaks against a manoeuvre, by itself.
///
/// Source: ATS/ERS 2019, table 7, as far as a flow signal shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Too much came out before time zero: a slow start.
    BackExtrapolatedVolumeTooLarge,
    /// Flow was shown where nothing flowed.
    FaultyZeroFlow,
    /// A cough in the first second.
    CoughInFirstSecond,
    /// The glottis closed in the first second.
    GlotticClosureInFirstSecond,
    /// The glottis closed, or the patient stopped at once, after the first second.
    GlotticClosure,
    /// It ended before the first second was over.
    ShorterThanOneSecond,
    /// More was breathed in after it than came out.
    InspirationExceedsExpiration,
    /// More than 2 s between the deepest breath in and time zero.
    HesitationTooLong,
}

impl Fault {
    /// As a status.
    #[must_use]
    pub const fn term(self) -> &'static str {
        match self {
            Self::BackExtrapolatedVolumeTooLarge => "back-extrapolated-volume-too-large",
            Self::FaultyZeroFlow => "faulty-zero-flow",
            Self::CoughInFirstSecond => "cough-in-first-second",
            Self::GlotticClosureInFirstSecond => "glottic-closure-in-first-second",
            Self::GlotticClosure => "glottic-closure",
            Self::ShorterThanOneSecond => "expiration-shorter-than-1-s",
            Self::InspirationExceedsExpiration => "inspiration-exceeds-expiration",
            Self::HesitationTooLong => "hesitation-too-long",
        }
    }
}

/// One forced expiration. Units: L, L/s and s; every number is finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Manoeuvre {
    /// Forced vital capacity.
    pub fvc: f64,
    /// Volume in the first second; `None` where it was over before.
    pub fev1: Option<f64>,
    /// Volume in the first six seconds; `None` where it was over before.
    pub fev6: Option<f64>,
    /// Peak flow.
    pub pef: f64,
    /// Flow when 25 % of FVC has come out.
    pub fef25: f64,
    /// Flow when 50 % of FVC has come out.
    pub fef50: f64,
    /// Flow when 75 % of FVC has come out.
    pub fef75: f64,
    /// Mean flow over the middle half of FVC.
    pub fef25_75: f64,
    /// Forced expiratory time, from time zero to where the most had come out.
    pub fet: f64,
    /// Back-extrapolated volume.
    pub bev: f64,
    /// From time zero to peak flow.
    pub time_to_peak: f64,
    /// From the end of the breath in before it to time zero; `None` where the signal has none.
    pub hesitation: Option<f64>,
    /// What was breathed in after it; `None` where that was no whole breath.
    pub fivc: Option<f64>,
    /// No more than 0.025 L came out in its last second.
    pub plateau: bool,
    /// Where time zero is in the signal, s.
    pub time_zero: f64,
    /// What speaks against it.
    pub faults: Vec<Fault>,
}

/// The most that may come out before time zero, as a fraction of FVC, or in L; the greater counts.
const BEV_MAX: (f64, f64) = (0.05, 0.100);
/// By how much the breath in after it may exceed FVC; as above.
const FIVC_EXCESS_MAX: (f64, f64) = (0.05, 0.100);
/// A zero offset beyond this is a fault, though it is taken away, L/s.
const OFFSET_MAX: f64 = 0.05;
/// The most that comes out in the last second of a plateau, L.
const PLATEAU_VOLUME: f64 = 0.025;
/// An expiration of so long needs no plateau, s.
pub(super) const EXPIRATION_ENOUGH: f64 = 15.0;
/// The longest pause before time zero, s.
const HESITATION_MAX: f64 = 2.0;
/// Flow below this is a breath in, L/s.
const INSPIRATION: f64 = -0.1;
/// A breath in of at least so much of FVC is an inspiratory capacity.
const FIVC_FRACTION: f64 = 0.5;
/// What rounding may add to a limit that is meant inclusively.
const ROUNDING: f64 = 1.0e-9;

/// Every forced expiration of a signal with its figures.
#[must_use]
pub fn manoeuvres(signal: &Signal) -> Vec<Manoeuvre> {
    let expirations = forced_expirations(signal);
    let last = signal.flow.len() - 1;
    let around = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| expirations.get(at)).map_or(0, |e| e.until);
        let after = expirations.get(at + 1).map_or(last, |e| e.start);
        (before, after)
    };
    expirations.iter().enumerate().map(|(at, expiration)| manoeuvre(signal, *expiration, around(at))).collect()
}

fn manoeuvre(signal: &Signal, e: Expiration, (before, after): (usize, usize)) -> Manoeuvre {
    let volume = |at: usize| signal.volume[at] - signal.volume[e.start];
    let exhaled = |time: f64| (signal.volume_at(time) - signal.volume[e.start]).clamp(0.0, volume(e.end));
    let fvc = volume(e.end);
    let peak = (e.start..=e.end).fold(e.start, |most, at| if signal.flow[at] > signal.flow[most] { at } else { most });
    let pef = signal.flow[peak];
    // The tangent at peak flow meets the volume at the start: time zero. A volume comes out, so peak flow is above 0.
    let time_zero = (signal.time(peak) - volume(peak) / pef).max(signal.time(e.start));
    let bev = exhaled(time_zero);
    let within = |seconds: f64| (time_zero + seconds <= signal.time(e.until)).then(|| exhaled(time_zero + seconds));
    let crossing = |fraction: f64| Crossing::of(signal, e, fraction * fvc);
    let [at25, at50, at75] = [0.25, 0.50, 0.75].map(crossing);
    let middle = (at75.time - at25.time).max(signal.interval);
    let inspired = |from: usize, to: usize| signal.volume[e.end] - extremes(&signal.volume[from.min(to)..=to]).0;
    let fivc = Some(inspired(e.end, after)).filter(|fivc| *fivc >= FIVC_FRACTION * fvc);
    let breath_in = (before..e.start.max(peak)).rev().find(|at| signal.flow[*at] < INSPIRATION);
    let second_before = e.until.saturating_sub(signal.samples(1.0));
    let mut manoeuvre = Manoeuvre {
        fvc,
        fev1: within(1.0),
        fev6: within(6.0),
        pef,
        fef25: at25.flow,
        fef50: at50.flow,
        fef75: at75.flow,
        fef25_75: 0.5 * fvc / middle,
        fet: (signal.time(e.end) - time_zero).max(0.0),
        bev,
        time_to_peak: (signal.time(peak) - time_zero).max(0.0),
        hesitation: breath_in.map(|at| (time_zero - signal.time(at)).max(0.0)),
        fivc,
        plateau: second_before >= peak && volume(e.end) - volume(second_before) <= PLATEAU_VOLUME + ROUNDING,
        time_zero,
        faults: Vec::new(),
    };
    manoeuvre.faults = faults(signal, e, peak, &manoeuvre);
    manoeuvre
}

/// Where a volume has come out.
struct Crossing {
    time: f64,
    flow: f64,
}

impl Crossing {
    fn of(signal: &Signal, e: Expiration, target: f64) -> Self {
        let volume = |at: usize| signal.volume[at] - signal.volume[e.start];
        let above = (e.start..=e.end).find(|at| volume(*at) >= target).unwrap_or(e.end);
        let below = above.saturating_sub(1).max(e.start);
        let rise = volume(above) - volume(below);
        let part = if rise > 0.0 { ((target - volume(below)) / rise).clamp(0.0, 1.0) } else { 0.0 };
        let between = |from: f64, to: f64| from + (to - from) * part;
        Self {
            time: between(signal.time(below), signal.time(above)),
            flow: between(signal.flow[below], signal.flow[above]).max(0.0),
        }
    }
}

fn faults(signal: &Signal, e: Expiration, peak: usize, m: &Manoeuvre) -> Vec<Fault> {
    let limit = |(fraction, volume): (f64, f64)| volume.max(fraction * m.fvc) + ROUNDING;
    let second = m.time_zero + 1.0;
    let smooth = Smoothed::of(signal, peak, e.until);
    let closed = smooth.closes(m.pef);
    let checks = [
        (Fault::BackExtrapolatedVolumeTooLarge, m.bev > limit(BEV_MAX)),
        (Fault::FaultyZeroFlow, signal.offset.abs() > OFFSET_MAX),
        (Fault::CoughInFirstSecond, smooth.coughs(m.pef, second)),
        (Fault::GlotticClosureInFirstSecond, closed.is_some_and(|at| at < second)),
        (Fault::GlotticClosure, closed.is_some_and(|at| at >= second)),
        (Fault::ShorterThanOneSecond, m.fev1.is_none()),
        (Fault::InspirationExceedsExpiration, m.fivc.is_some_and(|fivc| fivc - m.fvc > limit(FIVC_EXCESS_MAX))),
        (Fault::HesitationTooLong, m.hesitation.is_some_and(|hesitation| hesitation > HESITATION_MAX)),
    ];
    checks.into_iter().filter(|(_, found)| *found).map(|(fault, _)| fault).collect()
}

/// Means over this long are looked at, s: noise is shorter, a cough longer.
const SMOOTHING: f64 = 0.02;
/// After the peak, flow that rises by so much of it again is a cough.
const COUGH_RISE: f64 = 0.25;
/// … and by this at least, L/s.
const COUGH_RISE_MIN: f64 = 0.3;
/// Flow from which a closure is abrupt, as a fraction of peak flow …
const CLOSURE_FROM: f64 = 0.10;
/// … and in L/s; the greater counts.
const CLOSURE_FROM_MIN: f64 = 0.15;
/// Flow that is none, L/s.
const CLOSED: f64 = 0.03;
/// A closure takes no longer, s …
const CLOSURE_FALL: f64 = 0.1;
/// … and lasts this long at least, s.
const CLOSURE_LASTS: f64 = 0.1;

/// Flow after its peak in means of [`SMOOTHING`].
struct Smoothed {
    /// Time of each mean's middle, s.
    from: f64,
    step: f64,
    means: Vec<f64>,
}

impl Smoothed {
    fn of(signal: &Signal, peak: usize, until: usize) -> Self {
        let length = signal.samples(SMOOTHING).max(1);
        let step = super::signal::seconds(length, signal.interval);
        let means = signal.flow[peak..=until].chunks(length).map(mean).collect();
        Self { from: signal.time(peak) + step / 2.0, step, means }
    }

    fn time(&self, at: usize) -> f64 {
        self.from + super::signal::seconds(at, self.step)
    }

    fn count(&self, seconds: f64) -> usize {
        super::signal::samples(seconds, self.step).max(1)
    }

    /// Whether flow falls and rises again before `until`.
    fn coughs(&self, pef: f64, until: f64) -> bool {
        let rise = (COUGH_RISE * pef).max(COUGH_RISE_MIN);
        let mut least = f64::INFINITY;
        let first_second = self.means.iter().enumerate().take_while(|(at, _)| self.time(*at) <= until);
        first_second.map(|(_, mean)| *mean).any(|mean| {
            least = least.min(mean);
            mean - least >= rise
        })
    }

    /// When flow stops at once, and stays so for a while.
    fn closes(&self, pef: f64) -> Option<f64> {
        let from = (CLOSURE_FROM * pef).max(CLOSURE_FROM_MIN);
        let (fall, lasts) = (self.count(CLOSURE_FALL), self.count(CLOSURE_LASTS));
        (0..self.means.len()).find_map(|at| {
            let stays = self.means.get(at..at + lasts)?.iter().all(|mean| *mean <= CLOSED);
            let abrupt = self.means[at.saturating_sub(fall)..at].iter().any(|mean| *mean >= from);
            (stays && abrupt).then(|| self.time(at))
        })
    }
}
