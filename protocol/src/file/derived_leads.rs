//! The limb leads that follow from two recorded ones. Computed at display and export only, never stored or sent.
//!
//! III = II − I, aVR = −(I + II) ÷ 2, aVL = I − II ÷ 2, aVF = II − I ÷ 2 (Einthoven, Goldberger), and the same from I and III or
//! from II and III.
//!
//! **No rounding**: an augmented lead is written in half digits, so its scale is half the recorded one and its integers are
//! exact. A device that derives in whole digits truncates; its figures differ from these by up to one of its digits.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{FileRecording, lead_name};
use crate::decimal::Decimal;
use crate::nomenclature::Mdc;
use crate::reading::Channel;

/// What a derived channel says in place of a filter; the leads follow.
const MARK: &str = "derived from ";

/// Twice the share of the first and of the second recorded lead.
struct Rule {
    lead: &'static str,
    doubled: (i32, i32),
}

const fn rule(lead: &'static str, first: i32, second: i32) -> Rule {
    Rule { lead, doubled: (first, second) }
}

const FROM: [(&str, &str, [Rule; 4]); 3] = [
    ("I", "II", [rule("III", -2, 2), rule("aVR", -1, -1), rule("aVL", 2, -1), rule("aVF", -1, 2)]),
    ("I", "III", [rule("II", 2, 2), rule("aVR", -2, -1), rule("aVL", 1, -1), rule("aVF", 1, 2)]),
    ("II", "III", [rule("I", 2, -2), rule("aVR", -2, 1), rule("aVL", 1, -2), rule("aVF", 1, 1)]),
];

/// Whether a channel was derived here, or is read from a file that says so.
#[must_use]
pub fn is_derived(channel: &Channel) -> bool {
    channel.filter.starts_with(MARK)
}

/// The name of a channel in listings and files that have no other place for the mark.
#[must_use]
pub fn marked_name(channel: &Channel) -> String {
    if is_derived(channel) { format!("{} (derived)", lead_name(channel.code)) } else { lead_name(channel.code) }
}

/// The recording with the limb leads that follow from it, each after the recorded ones and marked.
///
/// What is recorded is left as it is. Where fewer than two of I, II, III are recorded, or in different scales, nothing is added:
/// those leads were not recorded. A sample is missing where one that it follows from is.
#[must_use]
pub fn with_derived(recording: &FileRecording) -> FileRecording {
    let at = |name: &str| recording.channels.iter().position(|channel| channel.code.name() == Some(name));
    let pair = FROM.iter().find_map(|(first, second, rules)| Some((at(first)?, at(second)?, rules)));
    let Some((first, second, rules)) = pair else { return recording.clone() };
    let (Some(a), Some(b)) = (recording.channels.get(first), recording.channels.get(second)) else { return recording.clone() };
    let Some(halved) = half(a.scale).filter(|_| a.unit == b.unit && a.scale.compare(b.scale).is_eq()) else {
        return recording.clone();
    };
    let wanted: Vec<(&Rule, Mdc)> =
        rules.iter().filter(|rule| at(rule.lead).is_none()).filter_map(|rule| Some((rule, Mdc::by_name(rule.lead)?))).collect();
    let mut channels = recording.channels.clone();
    channels.extend(wanted.iter().map(|(rule, code)| Channel {
        code: *code,
        scale: if rule.whole() { a.scale } else { halved },
        unit: a.unit,
        filter: format!("{MARK}{} and {}", lead_name(a.code), lead_name(b.code)),
    }));
    let mut samples = Vec::with_capacity(recording.samples.len() / recording.channels.len() * channels.len());
    for row in recording.samples.chunks(recording.channels.len()) {
        let recorded = (row.get(first).copied().flatten(), row.get(second).copied().flatten());
        samples.extend_from_slice(row);
        samples.extend(wanted.iter().map(|(rule, _)| rule.apply(recorded)));
    }
    FileRecording { channels, samples, ..recording.clone() }
}

impl Rule {
    /// Whether whole digits of the recorded leads give whole digits of this one.
    fn whole(&self) -> bool {
        self.doubled.0 % 2 == 0 && self.doubled.1 % 2 == 0
    }

    fn apply(&self, recorded: (Option<i32>, Option<i32>)) -> Option<i32> {
        let divisor = if self.whole() { 2 } else { 1 };
        let first = recorded.0?.checked_mul(self.doubled.0 / divisor)?;
        first.checked_add(recorded.1?.checked_mul(self.doubled.1 / divisor)?)
    }
}

/// Half of it, exactly; `None` where that has too many digits.
fn half(scale: Decimal) -> Option<Decimal> {
    match scale.mantissa % 2 {
        0 => Some(Decimal::new(scale.mantissa / 2, scale.exponent)),
        _ => Some(Decimal::new(scale.mantissa.checked_mul(5)?, scale.exponent.checked_sub(1)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Rate;
    use proptest::prelude::*;

    fn recording(leads: &[&str], samples: Vec<Option<i32>>) -> FileRecording {
        let channel = |name: &&str| Channel {
            code: Mdc::by_name(name).unwrap(),
            scale: "1.25".parse().unwrap(),
            unit: "uV",
            filter: String::new(),
        };
        FileRecording {
            device_time: None,
            rate: Rate { samples: 500, seconds: 1 },
            channels: leads.iter().map(channel).collect(),
            samples,
        }
    }

    /// In half digits, so that all are whole numbers.
    fn in_halves(recording: &FileRecording, lead: &str) -> Vec<Option<i32>> {
        let at = recording.channels.iter().position(|channel| lead_name(channel.code) == lead).unwrap();
        let factor = if recording.channels[at].scale == "0.625".parse().unwrap() { 1 } else { 2 };
        recording.channel(at).map(|sample| sample.map(|sample| sample * factor)).collect()
    }

    #[test]
    fn six_limb_leads_of_two_exactly_to_half_a_digit() {
        let derived = with_derived(&recording(&["I", "II", "V1"], [3, 10, 7].map(Some).to_vec()));
        let names: Vec<String> = derived.channels.iter().map(marked_name).collect();
        assert_eq!(names, ["I", "II", "V1", "III (derived)", "aVR (derived)", "aVL (derived)", "aVF (derived)"]);
        assert_eq!(derived.samples, [3, 10, 7, 7, -13, -4, 17].map(Some));
        let scales: Vec<String> = derived.channels.iter().map(|channel| alloc::format!("{}", channel.scale)).collect();
        assert_eq!(scales, ["1.25", "1.25", "1.25", "1.25", "0.625", "0.625", "0.625"]);
    }

    #[test]
    fn what_was_recorded_is_never_replaced_and_what_cannot_be_known_is_not_recorded() {
        let names = |leads: &[&str]| {
            let samples = vec![Some(1); leads.len()];
            with_derived(&recording(leads, samples)).channels.iter().map(|channel| lead_name(channel.code)).collect::<Vec<_>>()
        };
        assert_eq!(names(&["II", "III", "V1"]), ["II", "III", "V1", "I", "aVR", "aVL", "aVF"]);
        assert_eq!(names(&["I", "II", "aVF"]), ["I", "II", "aVF", "III", "aVR", "aVL"]);
        assert_eq!(names(&["II", "V1", "V5"]), ["II", "V1", "V5"]);
        let mut other_scale = recording(&["I", "II"], vec![Some(1); 2]);
        other_scale.channels[1].scale = "5".parse().unwrap();
        assert_eq!(with_derived(&other_scale), other_scale);
    }

    #[test]
    fn a_missing_sample_makes_what_follows_from_it_missing() {
        let derived = with_derived(&recording(&["I", "II"], vec![Some(1), None, Some(1), Some(2)]));
        assert_eq!(derived.samples[..6], [Some(1), None, None, None, None, None]);
        assert!(derived.samples[6..].iter().all(Option::is_some));
    }

    proptest! {
        #[test]
        fn every_pair_gives_the_same_six_leads(first in -9_000_000..9_000_000_i32, second in -9_000_000..9_000_000_i32) {
            let third = second - first;
            let from = |leads: [&str; 2], samples: [i32; 2]| with_derived(&recording(&leads, samples.map(Some).to_vec()));
            let all = [from(["I", "II"], [first, second]), from(["I", "III"], [first, third]), from(["II", "III"], [second, third])];
            for lead in ["I", "II", "III", "aVR", "aVL", "aVF"] {
                let halves = all.each_ref().map(|recording| in_halves(recording, lead));
                prop_assert!(halves.iter().all(|one| *one == halves[0]), "{lead}: {halves:?}");
            }
        }
    }
}
