//! Several manoeuvres of one person, one after the other: what each is worth, and the best of them.

use super::grade::{Grade, repeatability};
use super::manoeuvre::{EXPIRATION_ENOUGH, Fault, Manoeuvre};

/// The most manoeuvres of one session: the standard stops at eight, children may need more.
pub const MANOEUVRES_MAX: usize = 32;

/// Who blows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Age in years; unknown counts as over 6.
    pub age_years: Option<u8>,
}

impl Subject {
    /// The standard's limits for children.
    const YOUNG_YEARS: u8 = 6;

    fn young(self) -> bool {
        self.age_years.is_some_and(|age| age <= Self::YOUNG_YEARS)
    }
}

/// What a value is worth. Source: ATS/ERS 2019, table 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It meets every criterion.
    Acceptable,
    /// It may be used where nothing better comes.
    Usable,
    /// Neither.
    NotUsable,
}

/// A manoeuvre with what it is worth in its session.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its figures.
    pub manoeuvre: Manoeuvre,
    /// What its FEV1 is worth.
    pub fev1: Verdict,
    /// What its FVC is worth.
    pub fvc: Verdict,
    /// It came to an end: a plateau, 15 s, or as much as any before it.
    pub end_of_forced_expiration: bool,
}

/// The manoeuvres so far.
#[derive(Clone, Debug, Default)]
pub struct Session {
    subject: Subject,
    judged: Vec<Judged>,
}

/// The session's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// The largest FVC.
    pub fvc: f64,
    /// The largest FEV1; `None` where none is usable.
    pub fev1: Option<f64>,
    /// The manoeuvre with the largest sum of FEV1 and FVC: all other figures are its.
    pub others: Manoeuvre,
}

/// What a session comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its values, of acceptable manoeuvres or, where there are none, of usable ones; `None` where there are neither.
    pub best: Option<Best>,
    /// How far FEV1 repeats.
    pub fev1_grade: Grade,
    /// How far FVC repeats.
    pub fvc_grade: Grade,
    /// How many manoeuvres there were.
    pub manoeuvres: usize,
}

impl Session {
    /// A session of that person.
    #[must_use]
    pub const fn new(subject: Subject) -> Self {
        Self { subject, judged: Vec::new() }
    }

    /// Takes in the next manoeuvre and says what it is worth; `None` where there is no room for more.
    pub fn add(&mut self, manoeuvre: Manoeuvre) -> Option<&Judged> {
        if self.judged.len() >= MANOEUVRES_MAX {
            return None;
        }
        let before = self.judged.iter().filter(|judged| judged.fvc != Verdict::NotUsable).map(|judged| judged.manoeuvre.fvc);
        let largest = before.reduce(f64::max);
        let judged = judge(manoeuvre, largest, self.subject.young());
        self.judged.push(judged);
        self.judged.last()
    }

    /// The manoeuvres so far, in order.
    #[must_use]
    pub fn judged(&self) -> &[Judged] {
        &self.judged
    }

    /// What they come to.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let young = self.subject.young();
        let fev1 = self.values(|judged| judged.fev1, |m| m.fev1);
        let fvc = self.values(|judged| judged.fvc, |m| Some(m.fvc));
        Summary {
            best: self.best(&fev1, &fvc),
            fev1_grade: Grade::of(fev1.acceptable, fev1.usable.len(), young),
            fvc_grade: Grade::of(fvc.acceptable, fvc.usable.len(), young),
            manoeuvres: self.judged.len(),
        }
    }

    fn values(&self, verdict: impl Fn(&Judged) -> Verdict, value: impl Fn(&Manoeuvre) -> Option<f64>) -> Values {
        let of = |wanted: &[Verdict]| {
            self.judged.iter().filter(|j| wanted.contains(&verdict(j))).filter_map(|j| value(&j.manoeuvre)).collect()
        };
        Values { acceptable: of(&[Verdict::Acceptable]), usable: of(&[Verdict::Acceptable, Verdict::Usable]) }
    }

    fn best(&self, fev1: &Values, fvc: &Values) -> Option<Best> {
        let sum = |judged: &&Judged| judged.manoeuvre.fev1.unwrap_or(0.0) + judged.manoeuvre.fvc;
        let others = |least: Verdict| {
            let good = self.judged.iter().filter(|judged| judged.fev1 <= least && judged.fvc <= least);
            good.max_by(|a, b| sum(a).total_cmp(&sum(b)))
        };
        let any = self.judged.iter().filter(|judged| judged.fvc <= Verdict::Usable);
        let others = others(Verdict::Acceptable)
            .or_else(|| others(Verdict::Usable))
            .or_else(|| any.max_by(|a, b| sum(a).total_cmp(&sum(b))))?;
        Some(Best { fvc: fvc.largest()?, fev1: fev1.largest(), others: others.manoeuvre.clone() })
    }
}

struct Values {
    acceptable: Vec<f64>,
    /// The acceptable ones among them.
    usable: Vec<f64>,
}

impl Values {
    fn largest(&self) -> Option<f64> {
        let of = |values: &[f64]| values.iter().copied().reduce(f64::max);
        of(&self.acceptable).or_else(|| of(&self.usable))
    }
}

fn judge(manoeuvre: Manoeuvre, largest_before: Option<f64>, young: bool) -> Judged {
    let has = |fault: Fault| manoeuvre.faults.contains(&fault);
    let start = !has(Fault::BackExtrapolatedVolumeTooLarge) && !has(Fault::FaultyZeroFlow);
    let as_before = largest_before.is_some_and(|largest| manoeuvre.fvc >= largest - repeatability(largest, young));
    let end = manoeuvre.plateau || manoeuvre.fet >= EXPIRATION_ENOUGH || as_before;
    let inspiration = !has(Fault::InspirationExceedsExpiration);
    let open = !has(Fault::GlotticClosureInFirstSecond);
    let verdict = |acceptable: bool, usable: bool| match (acceptable, usable) {
        (true, _) => Verdict::Acceptable,
        (false, true) => Verdict::Usable,
        (false, false) => Verdict::NotUsable,
    };
    let fev1_usable = start && open && !has(Fault::CoughInFirstSecond) && !has(Fault::ShorterThanOneSecond);
    let fvc_usable = start && open;
    let fev1 = verdict(fev1_usable && inspiration, fev1_usable);
    let fvc = verdict(fvc_usable && inspiration && end && !has(Fault::GlotticClosure), fvc_usable);
    Judged { manoeuvre, fev1, fvc, end_of_forced_expiration: end }
}
