//! Synthetic blows with known answers. The ATS's own waveforms are too large to ship: `tests/tests/spirometry.rs` reads them.

use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::Quantity;
use proptest::prelude::*;

use super::*;

const INTERVAL: f64 = 0.002;

/// A flow over time: pieces of a shape each, one after the other.
#[derive(Default)]
struct Flow(Vec<f64>);

impl Flow {
    fn then(mut self, seconds: f64, shape: impl Fn(f64) -> f64) -> Self {
        let count = signal::samples(seconds, INTERVAL);
        self.0.extend((0..count).map(|at| shape(signal::seconds(at, INTERVAL))));
        self
    }

    fn still(self, seconds: f64) -> Self {
        self.then(seconds, |_| 0.0)
    }

    /// So much, evenly, over so long; below 0 it is a breath in.
    fn even(self, volume: f64, seconds: f64) -> Self {
        self.then(seconds, |_| volume / seconds)
    }

    /// Flow rises evenly to `pef` within `rise` and then empties exponentially: `pef × rise / 2 + pef × tau` comes out in all.
    fn blow(self, pef: f64, rise: f64, tau: f64, seconds: f64) -> Self {
        self.then(seconds, |t| if t < rise { pef * t / rise } else { pef * (-(t - rise) / tau).exp() })
    }

    fn manoeuvres(&self) -> Vec<Manoeuvre> {
        manoeuvres(&Signal::from_flow(&self.0, INTERVAL).unwrap())
    }

    fn only(&self) -> Manoeuvre {
        let mut all = self.manoeuvres();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

fn near(a: f64, b: f64, by: f64) {
    assert!((a - b).abs() <= by, "{a} is not {b}");
}

fn judged(manoeuvre: Manoeuvre) -> Judged {
    Session::default().add(manoeuvre).unwrap().clone()
}

const PEF: f64 = 8.0;
const RISE: f64 = 0.08;
const TAU: f64 = 0.5;

fn good() -> Flow {
    Flow::default().still(1.0).even(-4.3, 1.5).blow(PEF, RISE, TAU, 7.0)
}

#[test]
fn exponential_emptying_has_the_figures_that_it_was_made_of() {
    let m = good().only();
    let (risen, emptied) = (PEF * RISE / 2.0, PEF * TAU);
    near(m.fvc, risen + emptied, 0.001);
    near(m.pef, PEF, 0.001);
    // The tangent at the peak meets the start half the rise before it; by then a quarter of what rises has come out.
    near(m.bev, risen / 4.0, 0.001);
    near(m.time_to_peak, RISE / 2.0, 0.001);
    near(m.fev1.unwrap(), risen + emptied * (1.0 - (-(1.0 - RISE / 2.0) / TAU).exp()), 0.002);
    near(m.fev6.unwrap(), risen + emptied * (1.0 - (-(6.0 - RISE / 2.0) / TAU).exp()), 0.002);
    let flow_at = |fraction: f64| (risen + emptied - fraction * m.fvc) / TAU;
    near(m.fef25, flow_at(0.25), 0.01);
    near(m.fef50, flow_at(0.50), 0.01);
    near(m.fef75, flow_at(0.75), 0.01);
    near(m.fef25_75, 0.5 * m.fvc / (TAU * 3.0_f64.ln()), 0.01);
    assert!(m.plateau && m.faults.is_empty(), "{m:?}");
    let judged = judged(m);
    assert_eq!((judged.fev1, judged.fvc), (Verdict::Acceptable, Verdict::Acceptable));
}

#[test]
fn the_interval_does_not_matter() {
    let whole = good();
    let m = whole.only();
    for every in [2, 5] {
        let sparse: Vec<f64> = whole.0.iter().step_by(every).copied().collect();
        let interval = INTERVAL * signal::seconds(every, 1.0);
        let found = manoeuvres(&Signal::from_flow(&sparse, interval).unwrap());
        near(found[0].fvc, m.fvc, 0.01);
        near(found[0].fev1.unwrap(), m.fev1.unwrap(), 0.02);
        near(found[0].pef, m.pef, 0.2);
    }
}

#[test]
fn a_volume_gives_what_its_flow_gives() {
    let flow = good();
    let signal = Signal::from_flow(&flow.0, INTERVAL).unwrap();
    let of_volume = manoeuvres(&Signal::from_volume(&signal.volume, INTERVAL).unwrap());
    let of_flow = flow.only();
    near(of_volume[0].fvc, of_flow.fvc, 0.001);
    near(of_volume[0].fev1.unwrap(), of_flow.fev1.unwrap(), 0.02);
    near(of_volume[0].bev, of_flow.bev, 0.02);
    near(of_volume[0].fef50, of_flow.fef50, 0.05);
    assert!(of_volume[0].pef <= of_flow.pef, "the slope over 80 ms is no more than the steepest");
    near(of_volume[0].pef, of_flow.pef, 0.6);
}

#[test]
fn a_slow_start_is_told_and_makes_both_values_unusable() {
    let m = Flow::default().still(1.0).blow(PEF, 0.9, TAU, 8.0).only();
    assert!(m.bev > 0.05 * m.fvc && m.bev > 0.1);
    assert_eq!(m.faults, [Fault::BackExtrapolatedVolumeTooLarge]);
    let judged = judged(m);
    assert_eq!((judged.fev1, judged.fvc), (Verdict::NotUsable, Verdict::NotUsable));
}

#[test]
fn the_limit_of_the_extrapolated_volume_is_a_tenth_of_a_litre_in_small_lungs() {
    // 0.08 L of 1.2 L is over 5 %, and under 0.100 L.
    let m = Flow::default().still(1.0).blow(2.0, 0.32, 0.44, 6.0).only();
    assert!(m.bev > 0.05 * m.fvc && m.bev < 0.1, "{m:?}");
    assert!(m.faults.is_empty(), "{m:?}");
}

#[test]
fn who_stops_early_has_a_usable_fvc_and_an_acceptable_fev1() {
    let m = Flow::default().still(1.0).even(-4.3, 1.5).blow(PEF, RISE, 0.9, 1.6).even(-2.0, 1.0).only();
    assert!(!m.plateau && m.fev1.is_some() && m.fev6.is_none());
    let judged = judged(m);
    assert_eq!((judged.fev1, judged.fvc), (Verdict::Acceptable, Verdict::Usable));
    assert!(manoeuvre_reading(&judged).1.contains(&"end-of-forced-expiration-not-reached"));
}

#[test]
fn who_stops_within_the_second_has_no_fev1() {
    let m = Flow::default().still(1.0).blow(PEF, RISE, 0.9, 0.7).even(-3.0, 1.0).only();
    assert_eq!((m.fev1, m.plateau), (None, false));
    assert!(m.faults.contains(&Fault::ShorterThanOneSecond), "{m:?}");
    let judged = judged(m);
    assert_eq!(judged.fev1, Verdict::NotUsable);
    let (values, _) = manoeuvre_reading(&judged);
    let absent = values.iter().filter(|value| matches!(value.quantity, Quantity::Special(_))).count();
    assert_eq!(absent, 2, "FEV1 and its ratio");
}

#[test]
fn a_long_expiration_needs_no_plateau() {
    let m = Flow::default().still(1.0).blow(3.0, RISE, 0.6, 1.0).then(16.0, |_| 0.04).even(-2.0, 1.0).only();
    assert!(!m.plateau && m.fet > 15.0, "{m:?}");
    assert_eq!(judged(m).fvc, Verdict::Acceptable);
}

#[test]
fn as_much_as_before_is_an_end_too() {
    let short = || Flow::default().still(1.0).even(-4.3, 1.5).blow(PEF, RISE, 0.5, 1.7).even(-2.0, 1.0).only();
    let mut session = Session::default();
    assert_eq!(session.add(short()).unwrap().fvc, Verdict::Usable);
    assert_eq!(session.add(short()).unwrap().fvc, Verdict::Acceptable, "within 0.150 L of the largest before");
}

#[test]
fn a_cough_in_the_first_second_is_told_and_one_after_it_is_none_of_fev1s() {
    let cough = |at: f64| {
        let flow = |t: f64| {
            let base = if t < RISE { PEF * t / RISE } else { PEF * (-(t - RISE) / 1.0).exp() };
            if (at..at + 0.06).contains(&t) {
                0.1
            } else if (at + 0.06..at + 0.12).contains(&t) {
                base * 0.9
            } else {
                base
            }
        };
        Flow::default().still(1.0).then(9.0, flow).only()
    };
    assert!(cough(0.4).faults.contains(&Fault::CoughInFirstSecond));
    assert_eq!(judged(cough(0.4)).fev1, Verdict::NotUsable);
    assert_eq!(judged(cough(0.4)).fvc, Verdict::Acceptable, "a cough leaves FVC alone");
    assert!(!cough(1.5).faults.contains(&Fault::CoughInFirstSecond));
    assert_eq!(judged(cough(1.5)).fev1, Verdict::Acceptable);
}

#[test]
fn a_closed_glottis_is_told_by_when_it_closes() {
    let closed = |at: f64| {
        let flow = |t: f64| {
            if t < RISE {
                PEF * t / RISE
            } else if t < at {
                PEF * (-(t - RISE) / 1.5).exp()
            } else {
                0.0
            }
        };
        Flow::default().still(1.0).even(-5.0, 1.5).then(at + 1.5, flow).even(-3.0, 1.0).only()
    };
    assert!(closed(0.6).faults.contains(&Fault::GlotticClosureInFirstSecond));
    let late = closed(1.6);
    assert_eq!(late.faults, [Fault::GlotticClosure]);
    assert!(late.plateau, "a plateau that is none of the lung's");
    let judged = judged(late);
    assert_eq!((judged.fev1, judged.fvc), (Verdict::Acceptable, Verdict::Usable));
}

#[test]
fn more_breathed_in_than_out_speaks_against_it() {
    let m = Flow::default().still(1.0).even(-3.0, 1.0).blow(PEF, RISE, 0.4, 6.0).even(-4.2, 2.0).still(0.5).only();
    near(m.fivc.unwrap(), 4.2, 0.01);
    assert_eq!(m.faults, [Fault::InspirationExceedsExpiration]);
    let judged = judged(m);
    assert_eq!((judged.fev1, judged.fvc), (Verdict::Usable, Verdict::Usable));
}

#[test]
fn whoever_waits_too_long_at_full_lungs_is_told() {
    let waits = |seconds: f64| Flow::default().still(1.0).even(-4.0, 1.5).still(seconds).blow(PEF, RISE, TAU, 7.0).only();
    near(waits(1.0).hesitation.unwrap(), 1.0 + RISE / 2.0, 0.01);
    assert!(waits(1.0).faults.is_empty());
    assert_eq!(waits(3.0).faults, [Fault::HesitationTooLong]);
}

#[test]
fn a_zero_offset_before_the_effort_is_taken_away_and_a_large_one_told() {
    let clean = good();
    for (offset, told) in [(0.02, false), (-0.03, false), (0.08, true)] {
        let shifted = Flow(clean.0.iter().map(|flow| flow + offset).collect());
        let m = shifted.only();
        near(m.fvc, clean.only().fvc, 0.002);
        assert_eq!(m.faults.contains(&Fault::FaultyZeroFlow), told, "{offset}");
    }
}

#[test]
fn a_slow_first_breath_is_no_offset() {
    // A recorded curve that begins at exactly 0 and creeps: as in the ATS waveforms.
    let m = Flow::default().then(0.8, |t| 0.008 * t).blow(PEF, RISE, TAU, 6.0).only();
    near(m.fvc, PEF * RISE / 2.0 + PEF * TAU + 0.004 * 0.64, 0.001);
}

#[test]
fn noise_moves_the_figures_by_little() {
    let clean = good();
    let noise = |at: usize| f64::from(u32::try_from(at * 7_919 % 101).unwrap()) / 101.0 - 0.5;
    let noisy = Flow(clean.0.iter().enumerate().map(|(at, flow)| flow + 0.06 * noise(at)).collect());
    let (a, b) = (clean.only(), noisy.only());
    near(a.fvc, b.fvc, 0.01);
    near(a.fev1.unwrap(), b.fev1.unwrap(), 0.01);
    near(a.pef, b.pef, 0.04);
    near(a.bev, b.bev, 0.01);
    assert!(b.faults.is_empty() && b.plateau, "{b:?}");
}

#[test]
fn tidal_breaths_before_and_after_are_not_forced() {
    let tidal = |flow: Flow| (0..4).fold(flow, |flow, _| flow.even(-0.6, 1.2).even(0.6, 1.8));
    let flow = tidal(tidal(Flow::default().still(1.0)).even(-3.9, 1.5).blow(PEF, RISE, TAU, 7.0).even(-4.0, 2.0));
    near(flow.only().fvc, PEF * RISE / 2.0 + PEF * TAU, 0.01);
}

#[test]
fn several_blows_in_one_stream_are_found_with_and_without_the_breath_between() {
    let blows = |between: fn(Flow) -> Flow| {
        let one = |flow: Flow, pef: f64| between(flow).blow(pef, RISE, TAU, 6.0);
        [8.0, 7.6, 7.9].into_iter().fold(Flow::default().still(1.0), one).manoeuvres()
    };
    for found in [blows(|flow| flow.still(3.0).even(-4.0, 1.5)), blows(|flow| flow.still(5.0))] {
        assert_eq!(found.len(), 3, "{found:?}");
        for (m, pef) in found.iter().zip([8.0, 7.6, 7.9]) {
            near(m.pef, pef, 0.01);
            near(m.fvc, pef * RISE / 2.0 + pef * TAU, 0.03);
            assert!(m.faults.is_empty(), "{m:?}");
        }
    }
}

#[test]
fn the_best_of_a_session_are_the_largest_and_the_rest_of_the_largest_sum() {
    let mut session = Session::default();
    // Volumes 4.32, 4.26 and 4.36; the slowest of them has the largest FVC and the smallest FEV1.
    for (pef, tau) in [(8.0, 0.5), (7.9, 0.499), (5.5, 0.753)] {
        session.add(Flow::default().still(1.0).even(-5.0, 1.5).blow(pef, RISE, tau, 9.0).only()).unwrap();
    }
    let summary = session.summary();
    let best = summary.best.clone().unwrap();
    near(best.fvc, session.judged()[2].manoeuvre.fvc, 1e-12);
    near(best.fev1.unwrap(), session.judged()[0].manoeuvre.fev1.unwrap(), 1e-12);
    near(best.others.pef, 8.0, 0.001);
    assert_eq!((summary.fev1_grade, summary.fvc_grade), (Grade::A, Grade::A));
    let (values, status) = session_reading(&summary).unwrap();
    assert_eq!(status, ["best-of-session", "grade-fev1-a", "grade-fvc-a"]);
    let number = |name: &str| match values.iter().find(|value| value.code == Mdc::by_name(name).unwrap()).unwrap().quantity {
        Quantity::Number(number) => number.to_string(),
        ref other => panic!("{other:?}"),
    };
    assert_eq!((number("pef").as_str(), number("fvc").len(), number("fev1-fvc").len()), ("8.000", 5, 4));
}

#[test]
fn grades_are_of_the_number_and_the_distance_of_the_two_largest() {
    for (values, usable, young, grade) in [
        (&[4.0, 3.9, 3.2][..], 3, false, Grade::A),
        (&[3.85, 4.0], 2, false, Grade::B),
        (&[3.81, 4.0, 1.0], 3, false, Grade::C),
        (&[4.0, 3.76], 2, false, Grade::D),
        (&[4.0, 3.74, 3.7], 3, false, Grade::E),
        (&[4.0], 1, false, Grade::E),
        (&[], 1, false, Grade::U),
        (&[], 0, false, Grade::F),
        (&[0.9, 0.79], 2, true, Grade::C),
        (&[0.9, 0.80], 2, true, Grade::B),
        (&[2.0, 1.81, 1.0], 3, true, Grade::A),
    ] {
        assert_eq!(Grade::of(values.to_vec(), usable, young), grade, "{values:?} {usable} {young}");
    }
}

#[test]
fn a_session_of_unusable_blows_gives_no_values_and_grade_f() {
    let mut session = Session::default();
    session.add(Flow::default().still(1.0).blow(PEF, 0.9, TAU, 8.0).only()).unwrap();
    let summary = session.summary();
    assert_eq!((summary.fev1_grade, summary.fvc_grade, summary.best.is_none()), (Grade::F, Grade::F, true));
    assert!(session_reading(&summary).is_none());
    assert!(session_reading(&Session::default().summary()).is_none());
}

#[test]
fn a_session_has_an_end() {
    let (mut session, blow) = (Session::default(), good().only());
    let taken = (0..100).filter(|_| session.add(blow.clone()).is_some()).count();
    assert_eq!(taken, MANOEUVRES_MAX);
}

#[test]
fn what_is_no_signal_is_refused() {
    let refused = |flow: &[f64], interval: f64| Signal::from_flow(flow, interval).unwrap_err();
    assert_eq!(refused(&[], 0.002), SignalError::TooShort);
    assert_eq!(refused(&[1.0], 0.002), SignalError::TooShort);
    assert_eq!(refused(&[0.0, f64::NAN], 0.002), SignalError::NotANumber { index: 1 });
    assert_eq!(refused(&[f64::INFINITY, 0.0], 0.002), SignalError::NotANumber { index: 0 });
    assert_eq!(refused(&[0.0, 0.0, 851.6], 0.002), SignalError::Absurd { index: 2 }, "L/min where L/s is meant");
    for interval in [0.0, -0.002, 1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(&[0.0, 1.0], interval), SignalError::Interval);
    }
    assert_eq!(refused(&vec![0.0; SAMPLES_MAX + 1], 0.002), SignalError::TooLong);
}

#[test]
fn silence_and_breathing_in_are_no_manoeuvre() {
    assert!(Flow::default().still(5.0).manoeuvres().is_empty());
    assert!(Flow::default().even(-4.0, 2.0).still(2.0).manoeuvres().is_empty());
    assert!(Flow::default().even(0.02, 0.5).still(2.0).manoeuvres().is_empty(), "20 mL is nobody's breath");
}

proptest! {
    #[test]
    fn no_signal_panics_and_every_figure_is_within_what_went_in(
        flow in proptest::collection::vec(prop_oneof![4 => -14.0..14.0_f64, 1 => Just(0.0), 1 => -40.0..40.0_f64], 2..600),
        hold in 1_usize..40,
        interval in prop_oneof![Just(0.002), Just(0.01), 0.0002..0.1_f64],
        as_volume in any::<bool>(),
    ) {
        let held: Vec<f64> = flow.iter().flat_map(|value| std::iter::repeat_n(*value, hold)).collect();
        let signal = if as_volume { Signal::from_volume(&held, interval) } else { Signal::from_flow(&held, interval) }.unwrap();
        let most = signal.flow.iter().copied().fold(0.0, f64::max);
        let out: f64 = signal.volume.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0)).sum();
        let mut session = Session::default();
        for m in manoeuvres(&signal) {
            let figures = [m.fvc, m.pef, m.fef25, m.fef50, m.fef75, m.fef25_75, m.fet, m.bev, m.time_to_peak, m.time_zero];
            prop_assert!(figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0), "{m:?}");
            prop_assert!(m.fvc > 0.0 && m.fvc <= out + 1e-6 && m.bev <= m.fvc, "{m:?}");
            prop_assert!([m.pef, m.fef25, m.fef50, m.fef75].iter().all(|flow| *flow <= most + 1e-9), "{m:?}");
            prop_assert!([m.fev1, m.fev6].into_iter().flatten().all(|volume| (0.0..=m.fvc).contains(&volume)), "{m:?}");
            prop_assert!(m.fet <= signal.time(held.len()), "{m:?}");
            let Some(judged) = session.add(m) else { break };
            let (values, status) = manoeuvre_reading(judged);
            prop_assert!(values.len() >= 10 && status.len() >= 2);
        }
        prop_assert!(session.summary().best.is_none() || session_reading(&session.summary()).is_some());
    }
}
