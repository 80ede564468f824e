//! Why an ECG cannot be read: a cascade of rules that names the electrode or the fault, lead by lead. Nothing is dropped for it.
//!
//! ```text
//! device says "off" → missing samples → flat → at the end of its range → jumps → wanders → mains → muscle → no QRS → acceptable
//! ```
//!
//! The first rule that holds is the lead's finding, so that the patient hears what to do: press this electrode on, lie still,
//! move away from the lamp. Thresholds follow the rule-based entries of the PhysioNet/Computing in Cardiology Challenge 2011
//! (Langley et al. 2011: flat baseline, saturation, drift, amplitude, steep slope); each constant says what it is. Works from
//! 250 to 1000 samples a second, on at least two seconds. Which rhythm it is, nobody asks here.

use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Rate};

/// Seconds that are needed to judge.
pub const SECONDS_MIN: usize = 2;
/// Samples a second that are needed to judge: the mains must be seen.
const HERTZ_MIN: u32 = 100;
/// Samples that may be missing, as a share.
const MISSING_SHARE_MAX: f64 = 0.05;
/// A lead that stays inside this is flat, uV: two digits of a 5 uV recorder.
const FLAT_MICROVOLTS: f64 = 10.0;
/// For so long, s: longer than from T to P at 30 beats a minute.
const FLAT_SECONDS: f64 = 2.0;
/// A lead that holds its extreme value for so long is at the end of its range, s.
const SATURATED_SECONDS: f64 = 0.05;
/// And that far from its middle, uV: a clipped wave, not a plateau.
const SATURATED_MICROVOLTS: f64 = 1_000.0;
/// A baseline that jumps by so much is a moved electrode, uV.
const STEP_MICROVOLTS: f64 = 1_500.0;
/// Seconds each side of a jump over which the baseline is taken, and between them.
const STEP_SECONDS: (f64, f64) = (0.25, 0.04);
/// The baseline of a second may differ so much from that of another, uV (1 cm of paper).
const WANDER_MICROVOLTS: f64 = 1_000.0;
/// Mains frequency in Europe, Hz.
const MAINS_HZ: f64 = 50.0;
/// Peak of the mains in a lead, uV.
const MAINS_MICROVOLTS: f64 = 60.0;
/// Or so much of the lead's power, as a share, from [`MAINS_LEAST_MICROVOLTS`] on.
const MAINS_SHARE: f64 = 0.2;
/// Below this no share of it disturbs, uV.
const MAINS_LEAST_MICROVOLTS: f64 = 25.0;
/// Root mean square of what is faster than about 25 Hz between the QRS complexes, uV.
const MUSCLE_MICROVOLTS: f64 = 50.0;
/// Steepness between beats and in them: least ratio of their powers.
const QRS_RATIO: f64 = 6.0;
/// Window over which steepness is summed, s: a QRS complex.
const QRS_SECONDS: f64 = 0.1;
/// The steepest tenths of a second of a lead with beats reach this at least, uV² over 10 ms: 1 mV/s, a third of a flat T wave's
/// slope in a QRS complex of 100 uV.
const QRS_STEEPNESS: f64 = 100.0;
/// What is slower than a lead with QRS complexes anywhere can be, uV from lowest to highest.
const QRS_MICROVOLTS: f64 = 100.0;

/// An electrode of the ten-wire cable; those of a six-wire one have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Electrode {
    /// Right arm.
    RightArm,
    /// Left arm.
    LeftArm,
    /// Left leg.
    LeftLeg,
    /// Two or more of the limbs: which cannot be told.
    Limbs,
    /// V1–V6.
    Chest(u8),
}

impl Electrode {
    /// In kebab-case.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::RightArm => "electrode-ra-off",
            Self::LeftArm => "electrode-la-off",
            Self::LeftLeg => "electrode-ll-off",
            Self::Limbs => "electrode-limb-off",
            Self::Chest(1) => "electrode-v1-off",
            Self::Chest(2) => "electrode-v2-off",
            Self::Chest(3) => "electrode-v3-off",
            Self::Chest(4) => "electrode-v4-off",
            Self::Chest(5) => "electrode-v5-off",
            Self::Chest(6) => "electrode-v6-off",
            Self::Chest(_) => "electrode-chest-off",
        }
    }
}

/// What a lead was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It can be read.
    Acceptable,
    /// The device says that an electrode of it is off.
    ElectrodeOff,
    /// Too many samples are missing.
    MissingSamples,
    /// It stands still.
    FlatLine,
    /// It is at the end of its range.
    Saturated,
    /// Its baseline jumps.
    BaselineStep,
    /// Its baseline wanders.
    BaselineWander,
    /// Mains.
    MainsNoise,
    /// Muscles.
    MuscleNoise,
    /// No beat can be seen.
    NoQrs,
    /// Too short to tell.
    TooShort,
}

impl Finding {
    /// The cascade: of two stretches the lead is as the earlier rule says; what can be read comes last.
    const CASCADE: [Self; 11] = [
        Self::ElectrodeOff,
        Self::MissingSamples,
        Self::FlatLine,
        Self::Saturated,
        Self::BaselineStep,
        Self::BaselineWander,
        Self::MainsNoise,
        Self::MuscleNoise,
        Self::NoQrs,
        Self::TooShort,
        Self::Acceptable,
    ];

    fn rank(self) -> usize {
        Self::CASCADE.iter().position(|finding| *finding == self).unwrap_or(Self::CASCADE.len())
    }

    /// In kebab-case.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Acceptable => "acceptable",
            Self::ElectrodeOff => "electrode-off",
            Self::MissingSamples => "missing-samples",
            Self::FlatLine => "flat-line",
            Self::Saturated => "saturated",
            Self::BaselineStep => "baseline-step",
            Self::BaselineWander => "baseline-wander",
            Self::MainsNoise => "mains-noise",
            Self::MuscleNoise => "muscle-noise",
            Self::NoQrs => "no-qrs",
            Self::TooShort => "too-short",
        }
    }
}

/// A recording, or a part of it, to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Its channels.
    pub channels: &'a [Channel],
    /// Samples per second and channel.
    pub rate: Rate,
    /// Interleaved samples.
    pub samples: &'a [Option<i32>],
    /// Bit n: the device says that an electrode of channel n is off.
    pub lead_off: u32,
    /// Bit n: the device says that channel n is saturated.
    pub saturated: u32,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Each channel's finding, in their order.
    pub leads: Vec<(Mdc, Finding)>,
    /// Electrodes to press on, the limbs first.
    pub electrodes: Vec<Electrode>,
}

impl Quality {
    /// Every lead can be read.
    #[must_use]
    pub fn acceptable(&self) -> bool {
        self.leads.iter().all(|(_, finding)| *finding == Finding::Acceptable)
    }

    /// Of two stretches of one recording: of each lead, and of the electrodes, what was found in either.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for ((_, finding), (_, others)) in self.leads.iter_mut().zip(other.leads) {
            *finding = if finding.rank() <= others.rank() { *finding } else { others };
        }
        self.electrodes.extend(other.electrodes);
        self.electrodes.sort();
        self.electrodes.dedup();
        self
    }

    /// Statuses of the recording, each once: electrodes first, then what else was found; `acceptable` alone where nothing was.
    #[must_use]
    pub fn statuses(&self) -> Vec<&'static str> {
        let of_leads = self.leads.iter().map(|(_, finding)| *finding);
        let told =
            of_leads.filter(|finding| !matches!(finding, Finding::Acceptable | Finding::ElectrodeOff)).map(Finding::status);
        let mut statuses: Vec<&'static str> = self.electrodes.iter().map(|electrode| electrode.status()).collect();
        for status in told {
            if !statuses.contains(&status) {
                statuses.push(status);
            }
        }
        if statuses.is_empty() {
            statuses.push(if self.acceptable() { Finding::Acceptable } else { Finding::ElectrodeOff }.status());
        }
        statuses
    }
}

/// Whether an ECG of that rate can be judged at all.
#[must_use]
pub fn can_judge(rate: Rate) -> bool {
    rate.samples / rate.seconds.max(1) >= HERTZ_MIN
}

/// Judges a stretch of an ECG.
#[must_use]
pub fn judge(stretch: &Stretch<'_>) -> Quality {
    let raised = |bits: u32, at: usize| bits.checked_shr(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1;
    let off = |at: usize| raised(stretch.lead_off, at);
    let finding = |at: usize| match Lead::of(stretch, at) {
        _ if off(at) => Finding::ElectrodeOff,
        Err(finding) => finding,
        Ok(_) if raised(stretch.saturated, at) => Finding::Saturated,
        Ok(lead) => lead.finding(),
    };
    let leads = stretch.channels.iter().enumerate().map(|(at, channel)| (channel.code, finding(at))).collect();
    Quality { leads, electrodes: electrodes(stretch.channels, off) }
}

/// Which electrodes explain the leads that are off: the fewest that do.
///
/// I needs both arms, II the right arm and the left leg, III the left arm and the left leg; the chest leads need their own
/// electrode and, by Wilson's terminal, all three limbs.
fn electrodes(channels: &[Channel], off: impl Fn(usize) -> bool) -> Vec<Electrode> {
    let state = |name: &str| channels.iter().position(|channel| channel.code.name() == Some(name)).map(&off);
    let limb = match (state("I"), state("II"), state("III")) {
        (Some(true), Some(true), Some(true)) => Some(Electrode::Limbs),
        (Some(true), Some(true), _) => Some(Electrode::RightArm),
        (Some(true), _, Some(true)) => Some(Electrode::LeftArm),
        (_, Some(true), Some(true)) => Some(Electrode::LeftLeg),
        (Some(true), Some(false), _) => Some(Electrode::LeftArm),
        (Some(false), Some(true), _) => Some(Electrode::LeftLeg),
        (Some(true), ..) | (_, Some(true), _) | (.., Some(true)) => Some(Electrode::Limbs),
        _ => None,
    };
    let chest = |number: u8| match number {
        1 => state("V1"),
        2 => state("V2"),
        3 => state("V3"),
        4 => state("V4"),
        5 => state("V5"),
        _ => state("V6"),
    };
    let recorded: Vec<(u8, bool)> = (1..=6).filter_map(|number| chest(number).map(|off| (number, off))).collect();
    // All of them with a limb: Wilson's terminal is gone, and their own electrodes may be well.
    let by_terminal = limb.is_some() && recorded.iter().all(|(_, off)| *off);
    let own = recorded.iter().filter(|(_, off)| *off && !by_terminal).map(|(number, _)| Electrode::Chest(*number));
    limb.into_iter().chain(own).collect()
}

/// One lead in uV, without its mean; a missing sample is as the one before it.
struct Lead {
    microvolts: Vec<f64>,
    hertz: f64,
}

impl Lead {
    fn of(stretch: &Stretch<'_>, at: usize) -> Result<Self, Finding> {
        let width = stretch.channels.len().max(1);
        let digits = || stretch.samples.iter().skip(at).step_by(width);
        let (count, missing) = (number(digits().count()), number(digits().filter(|sample| sample.is_none()).count()));
        let hertz = f64::from(stretch.rate.samples) / f64::from(stretch.rate.seconds.max(1));
        if count > 0.0 && missing > count * MISSING_SHARE_MAX {
            return Err(Finding::MissingSamples);
        }
        if count < hertz * number(SECONDS_MIN) || !can_judge(stretch.rate) {
            return Err(Finding::TooShort);
        }
        let factor = stretch
            .channels
            .get(at)
            .map_or(1.0, |channel| channel.scale.to_f64() * if channel.unit == "mV" { 1_000.0 } else { 1.0 });
        let first = digits().flatten().next().copied().unwrap_or(0);
        let held = digits().scan(first, |last, sample| {
            *last = sample.unwrap_or(*last);
            Some(f64::from(*last) * factor)
        });
        let mut microvolts: Vec<f64> = held.collect();
        let mean = mean(&microvolts);
        microvolts.iter_mut().for_each(|value| *value -= mean);
        Ok(Self { microvolts, hertz })
    }

    fn samples(&self, seconds: f64) -> usize {
        let most = self.microvolts.len().max(1);
        (1..=most).find(|count| number(*count) >= seconds * self.hertz).unwrap_or(most)
    }

    fn finding(&self) -> Finding {
        let (peak, share) = self.mains();
        match () {
            () if self.flat() => Finding::FlatLine,
            () if self.saturated() => Finding::Saturated,
            () if self.step() > STEP_MICROVOLTS => Finding::BaselineStep,
            () if self.wander() > WANDER_MICROVOLTS => Finding::BaselineWander,
            () if peak > MAINS_MICROVOLTS || (peak > MAINS_LEAST_MICROVOLTS && share > MAINS_SHARE) => Finding::MainsNoise,
            () if self.muscle() > MUSCLE_MICROVOLTS => Finding::MuscleNoise,
            () if !self.beats() => Finding::NoQrs,
            () => Finding::Acceptable,
        }
    }

    /// Anywhere for [`FLAT_SECONDS`].
    fn flat(&self) -> bool {
        let wanted = self.samples(FLAT_SECONDS);
        let (mut low, mut high, mut run) = (f64::MAX, f64::MIN, 0);
        for value in &self.microvolts {
            (low, high, run) = (low.min(*value), high.max(*value), run + 1);
            if high - low > FLAT_MICROVOLTS {
                (low, high, run) = (*value, *value, 1);
            }
            if run >= wanted {
                return true;
            }
        }
        false
    }

    /// Holds its highest or lowest value for [`SATURATED_SECONDS`].
    fn saturated(&self) -> bool {
        let (low, high) = range(&self.microvolts);
        let wanted = self.samples(SATURATED_SECONDS);
        let held = |extreme: f64| {
            let at_end = |value: &f64| (value - extreme).abs() < f64::EPSILON;
            extreme.abs() > SATURATED_MICROVOLTS
                && self
                    .microvolts
                    .chunk_by(|a, b| at_end(a) == at_end(b))
                    .any(|run| run.len() >= wanted && run.first().is_some_and(at_end))
        };
        held(low) || held(high)
    }

    /// The largest difference of the baselines before and after a moment.
    fn step(&self) -> f64 {
        let (side, gap) = (self.samples(STEP_SECONDS.0), self.samples(STEP_SECONDS.1));
        let windows = self.microvolts.windows(2 * side + gap).step_by(gap.max(1));
        let mut sorted = Vec::with_capacity(side);
        let mut level = |part: &[f64]| {
            sorted.clear();
            sorted.extend_from_slice(part);
            middle(&mut sorted)
        };
        let mut difference = |window: &[f64]| {
            (level(window.get(..side).unwrap_or(window)) - level(window.get(side + gap..).unwrap_or(window))).abs()
        };
        windows.fold(0.0, |most: f64, window| most.max(difference(window)))
    }

    /// Between the means of seconds.
    fn wander(&self) -> f64 {
        let means: Vec<f64> = self.microvolts.chunks_exact(self.samples(1.0)).map(mean).collect();
        let (low, high) = range(&means);
        high - low
    }

    /// Peak at [`MAINS_HZ`], uV, and its share of the lead's power: the median of seconds.
    fn mains(&self) -> (f64, f64) {
        let seconds = || self.microvolts.chunks_exact(self.samples(1.0));
        let peak = |second: &[f64]| {
            let level = mean(second);
            let (mut sine, mut cosine) = (0.0, 0.0);
            for (at, value) in second.iter().enumerate() {
                let angle = std::f64::consts::TAU * MAINS_HZ * number(at) / self.hertz;
                sine += (value - level) * angle.sin();
                cosine += (value - level) * angle.cos();
            }
            2.0 * sine.hypot(cosine) / number(second.len())
        };
        let share = |second: &[f64]| {
            let level = mean(second);
            let power = second.iter().map(|value| (value - level).powi(2)).sum::<f64>() / number(second.len().max(1));
            peak(second).powi(2) / 2.0 / power.max(1.0)
        };
        let (peaks, shares): (Vec<f64>, Vec<f64>) = seconds().map(|second| (peak(second), share(second))).unzip();
        (median(peaks), median(shares))
    }

    /// Between QRS complexes: the median of tenths of a second of what a mean over a mains period leaves.
    fn muscle(&self) -> f64 {
        let period = self.samples(1.0 / MAINS_HZ);
        let fast: Vec<f64> =
            self.microvolts.windows(period).map(|window| window.get(period / 2).copied().unwrap_or(0.0) - mean(window)).collect();
        let power = |window: &[f64]| window.iter().map(|value| value * value).sum::<f64>() / number(window.len().max(1));
        median(fast.chunks_exact(self.samples(0.1)).map(power).collect()).sqrt()
    }

    /// Steepness comes in beats: its strongest windows stand far above the quiet ones.
    fn beats(&self) -> bool {
        let apart = self.samples(0.01);
        let slopes: Vec<f64> =
            self.microvolts.windows(apart + 1).filter_map(|w| Some((w.last()? - w.first()?).powi(2))).collect();
        let width = self.samples(QRS_SECONDS);
        let mut powers: Vec<f64> = slopes.windows(width).step_by((width / 5).max(1)).map(mean).collect();
        powers.sort_by(f64::total_cmp);
        let at = |share: usize| powers.get(powers.len() * share / 100).copied().unwrap_or(0.0);
        let (low, high) = range(&self.microvolts);
        high - low > QRS_MICROVOLTS && at(95) > QRS_STEEPNESS.max(QRS_RATIO * at(20))
    }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / number(values.len()) }
}

fn median(mut values: Vec<f64>) -> f64 {
    middle(&mut values)
}

/// The median; the values are sorted for it.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn channels(names: &[&str]) -> Vec<Channel> {
        let channel = |name: &&str| Channel {
            code: Mdc::by_name(name).unwrap(),
            scale: kit_protocol::decimal::Decimal::whole(1),
            unit: "uV",
            filter: String::new(),
        };
        names.iter().map(channel).collect()
    }

    const EIGHT: [&str; 8] = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"];

    #[test]
    fn leads_that_are_off_name_the_electrode() {
        let named = |leads: &[&str], off: &[&str]| {
            let channels = channels(leads);
            let off: Vec<usize> = off.iter().map(|name| leads.iter().position(|lead| lead == name).unwrap()).collect();
            electrodes(&channels, |at| off.contains(&at)).into_iter().map(Electrode::status).collect::<Vec<_>>()
        };
        assert_eq!(named(&EIGHT, &[]), [""; 0]);
        assert_eq!(named(&EIGHT, &["V3"]), ["electrode-v3-off"]);
        assert_eq!(named(&EIGHT, &EIGHT), ["electrode-ra-off"], "I, II and all chest leads");
        assert_eq!(named(&EIGHT, &["I", "V1", "V2", "V3", "V4", "V5", "V6"]), ["electrode-la-off"]);
        assert_eq!(named(&EIGHT, &["II", "V1", "V2", "V3", "V4", "V5", "V6"]), ["electrode-ll-off"]);
        assert_eq!(named(&EIGHT, &["I", "V3"]), ["electrode-la-off", "electrode-v3-off"], "of a device without the terminal");
        assert_eq!(named(&["II", "III", "V1"], &["II", "III", "V1"]), ["electrode-ll-off"]);
        assert_eq!(named(&["I", "II", "III"], &["I", "II", "III"]), ["electrode-limb-off"]);
        assert_eq!(named(&["I"], &["I"]), ["electrode-limb-off"]);
    }

    #[test]
    fn what_is_too_short_or_full_of_holes_is_said_so() {
        let channels = channels(&["II"]);
        let judged = |samples: &[Option<i32>]| {
            let stretch =
                Stretch { channels: &channels, rate: Rate { samples: 250, seconds: 1 }, samples, lead_off: 0, saturated: 0 };
            judge(&stretch).statuses()
        };
        assert_eq!(judged(&[Some(1); 499]), ["too-short"]);
        assert_eq!(judged(&[Some(1); 500]), ["flat-line"]);
        assert_eq!(judged(&[]), ["too-short"]);
        let holes: Vec<Option<i32>> = (0..1000).map(|n| (n % 10 != 0).then_some(n)).collect();
        assert_eq!(judged(&holes), ["missing-samples"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_samples_panic(
            samples in proptest::collection::vec(proptest::option::weighted(0.97, any::<i32>()), 0..3000),
            (lead_off, saturated) in any::<(u32, u32)>(),
            rate in prop_oneof![Just(0_u32), Just(1), Just(250), Just(1000), Just(u32::MAX)],
        ) {
            let channels = channels(&["I", "II", "V1"]);
            let rate = Rate { samples: rate, seconds: 1 };
            let quality = judge(&Stretch { channels: &channels, rate, samples: &samples, lead_off, saturated });
            prop_assert_eq!(quality.leads.len(), 3);
            prop_assert!(!quality.statuses().is_empty());
        }
    }
}
