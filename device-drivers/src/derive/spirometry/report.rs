//! Figures as values of a reading: volumes to 0.001 L, flows to 0.001 L/s, ratios to 0.1 %, times to 0.01 s.

use kit_protocol::decimal::Decimal;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Quantity, Special, Status, Value};

use super::manoeuvre::Manoeuvre;
use super::session::{Judged, Summary, Verdict};

/// Values and statuses of one manoeuvre.
///
/// The ratio is FEV1/FVC in percent, never the percentage of a predicted value.
#[must_use]
pub fn manoeuvre_reading(judged: &Judged) -> (Vec<Value>, Vec<Status>) {
    let m = &judged.manoeuvre;
    let verdicts = [
        match judged.fev1 {
            Verdict::Acceptable => "fev1-acceptable",
            Verdict::Usable => "fev1-usable",
            Verdict::NotUsable => "fev1-not-usable",
        },
        match judged.fvc {
            Verdict::Acceptable => "fvc-acceptable",
            Verdict::Usable => "fvc-usable",
            Verdict::NotUsable => "fvc-not-usable",
        },
    ];
    let end = (!judged.end_of_forced_expiration).then_some("end-of-forced-expiration-not-reached");
    let status = m.faults.iter().map(|fault| fault.term()).chain(end).chain(verdicts).collect();
    (values(m.fvc, m.fev1, m), status)
}

/// Values and statuses of a session: its best values and its grades; `None` where nothing in it is usable.
#[must_use]
pub fn session_reading(summary: &Summary) -> Option<(Vec<Value>, Vec<Status>)> {
    let best = summary.best.as_ref()?;
    let status = vec!["best-of-session", summary.fev1_grade.fev1_term(), summary.fvc_grade.fvc_term()];
    Some((values(best.fvc, best.fev1, &best.others), status))
}

fn values(fvc: f64, fev1: Option<f64>, m: &Manoeuvre) -> Vec<Value> {
    let mut values = vec![
        value("fvc", Some(fvc), 3, "L"),
        value("fev1", fev1, 3, "L"),
        value("fev1-fvc", fev1.map(|fev1| 100.0 * fev1 / fvc), 1, "%"),
    ];
    values.extend(m.fev6.map(|fev6| value("fev6", Some(fev6), 3, "L")));
    values.extend([
        value("pef", Some(m.pef), 3, "L/s"),
        value("fef25", Some(m.fef25), 3, "L/s"),
        value("fef50", Some(m.fef50), 3, "L/s"),
        value("fef75", Some(m.fef75), 3, "L/s"),
        value("fef25-75", Some(m.fef25_75), 3, "L/s"),
        value("fet", Some(m.fet), 2, "s"),
        value("back-extrapolated-volume", Some(m.bev), 3, "L"),
    ]);
    values.extend(m.fivc.map(|fivc| value("fivc", Some(fivc), 3, "L")));
    values
}

fn value(name: &str, number: Option<f64>, places: u8, unit: &'static str) -> Value {
    let code = Mdc::by_name(name).expect("a name of the code table, which a test goes through");
    let absent = Quantity::Special(Special::NotAvailable);
    let quantity = number.and_then(|number| rounded(number, places)).map_or(absent, Quantity::Number);
    Value { code, quantity, unit }
}

/// To the nearest; `None` for what is no number.
fn rounded(number: f64, places: u8) -> Option<Decimal> {
    let places = i8::try_from(places).ok()?;
    let scaled = (number * 10_f64.powi(places.into())).round();
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and the figures are far from it")]
    scaled.is_finite().then(|| Decimal::new(scaled as i64, -places))
}
