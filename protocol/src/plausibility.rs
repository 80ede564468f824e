//! What cannot be a measurement of a living person: the table, and what is done by it.
//!
//! Refusing is for what is physically impossible, not for what is alarming. A clinician must sign [`RANGES`] before use on
//! patients. Components that a device sends as 0 for "none" become absent, and the rest of the reading stands; "HI" and
//! "LO" of a meter (±INF) are readings. An ECG is never refused.

use alloc::format;
use alloc::string::String;

use crate::decimal::Decimal;
use crate::nomenclature::Mdc;
use crate::reading::{Quantity, Special, Status, Value};

/// The bounds of one quantity, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which quantity.
    pub code: Mdc,
    /// UCUM of the bounds.
    pub unit: &'static str,
    /// The least that is plausible.
    pub low: Decimal,
    /// The most that is plausible.
    pub high: Decimal,
}

const fn range(code: u32, unit: &'static str, low: Decimal, high: Decimal) -> Range {
    Range { code: Mdc(code), unit, low, high }
}

const fn n(whole: i64) -> Decimal {
    Decimal::whole(whole)
}

/// Every quantity that has bounds.
pub const RANGES: &[Range] = &[
    range(150_021, "mm[Hg]", n(30), n(300)),
    range(150_022, "mm[Hg]", n(10), n(250)),
    range(150_023, "mm[Hg]", n(10), n(280)),
    range(150_456, "%", n(1), n(100)),
    range(149_530, "/min", n(10), n(350)),
    range(149_546, "/min", n(10), n(350)),
    range(147_842, "/min", n(10), n(350)),
    range(150_364, "Cel", n(20), n(45)),
    range(150_392, "Cel", n(20), n(45)),
    range(188_420, "Cel", n(20), n(45)),
    range(188_424, "Cel", n(20), n(45)),
    range(188_428, "Cel", n(20), n(45)),
    range(188_452, "Cel", n(20), n(45)),
    range(188_456, "Cel", n(20), n(45)),
    // Finger, toe and skin may be much colder than the body.
    range(188_432, "Cel", n(5), n(45)),
    range(188_448, "Cel", n(5), n(45)),
    range(150_388, "Cel", n(5), n(45)),
    // A probe somewhere on the body.
    range(150_344, "Cel", n(5), n(45)),
    // A cuff at rest may say a little below zero.
    range(150_300, "mm[Hg]", n(-20), n(350)),
    range(188_736, "kg", Decimal::new(3, -1), n(650)),
    range(188_740, "cm", n(25), n(275)),
    range(160_020, "mg/dL", n(1), n(3_000)),
    range(160_184, "mg/dL", n(1), n(3_000)),
    range(160_188, "mg/dL", n(1), n(3_000)),
    range(160_192, "mg/dL", n(1), n(3_000)),
    range(160_196, "mg/dL", n(1), n(3_000)),
    range(160_200, "mg/dL", n(1), n(3_000)),
    range(160_204, "mg/dL", n(1), n(3_000)),
    range(160_212, "mg/dL", n(1), n(3_000)),
    range(160_364, "mg/dL", n(1), n(3_000)),
    range(160_368, "mg/dL", n(1), n(3_000)),
    range(151_562, "/min", n(1), n(150)),
    range(188_928, "L", Decimal::new(5, -2), n(12)),
    range(152_586, "L", Decimal::new(5, -2), n(12)),
    range(152_584, "L/s", Decimal::new(1, -1), n(20)),
    range(188_948, "%", n(5), n(100)),
];

/// How another unit compares with the one of the bounds: `value × value_factor` against `bound × bound_factor + offset`.
struct Conversion {
    unit: &'static str,
    to: &'static str,
    value_factor: Decimal,
    bound_factor: Decimal,
    offset: Decimal,
}

const fn conversion(unit: &'static str, to: &'static str, value: Decimal, bound: Decimal, offset: i64) -> Conversion {
    Conversion { unit, to, value_factor: value, bound_factor: bound, offset: n(offset) }
}

/// Exact: the conventional millimetre of mercury, the international pound; glucose by 180.156 g/mol.
const CONVERSIONS: &[Conversion] = &[
    conversion("kPa", "mm[Hg]", n(1), Decimal::new(133_322_387_415, -12), 0),
    conversion("[degF]", "Cel", n(1), Decimal::new(18, -1), 32),
    conversion("[lb_av]", "kg", Decimal::new(45_359_237, -8), n(1), 0),
    conversion("mmol/L", "mg/dL", Decimal::new(180_156, -4), n(1), 0),
    conversion("m", "cm", n(100), n(1), 0),
    conversion("[in_i]", "cm", Decimal::new(254, -2), n(1), 0),
    conversion("L/min", "L/s", n(1), n(60), 0),
    conversion("cL/s", "L/s", n(1), n(100), 0),
];

/// Shortest and longest time between two beats, ms: a heart cannot beat sooner, nobody outlives a longer pause.
const RR_INTERVALS: [Decimal; 2] = [n(150), n(30_000)];

/// Said of a reading with an RR interval outside of that: the sensor missed beats or made some up. Heart rate and the other
/// intervals stand, and the interval is kept as it was sent.
pub const RR_INTERVAL_IMPLAUSIBLE: Status = "rr-interval-implausible";

/// Whether a heart may have had this interval between two beats, ms.
#[must_use]
pub fn is_rr_interval(milliseconds: Decimal) -> bool {
    let [shortest, longest] = RR_INTERVALS;
    !milliseconds.compare(shortest).is_lt() && !milliseconds.compare(longest).is_gt()
}

/// Who states the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedBy {
    /// A device.
    Device,
    /// A person, by hand: a diastolic pressure may be 0 (the sounds go on to 0).
    Hand,
}

/// Why a measurement is not a patient's reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its class, without a value: `implausible`, `not-the-patient`.
    pub class: &'static str,
    /// What is wrong, as "systolic 182400 mm[Hg] is outside 30..300": it holds a clinical value, so it is for `decode` and the
    /// sealed journal only, never for a log.
    pub detail: String,
}

/// Statuses by which a device itself says that this is nobody's measurement.
pub const NOT_THE_PATIENT: &[Status] = &["control-solution", "data-for-demonstration", "data-for-testing", "test-data"];

/// Makes absent components absent, then says what speaks against the measurement, if anything.
pub fn accept(values: &mut [Value], status: &[Status], stated_by: StatedBy) -> Result<(), Refusal> {
    if let Some(term) = status.iter().find(|term| NOT_THE_PATIENT.contains(term)) {
        return Err(Refusal { class: "not-the-patient", detail: format!("the device marks it as {term}") });
    }
    make_absent(values, status);
    let implausible = |detail| Refusal { class: "implausible", detail };
    values.iter().try_for_each(|value| within_range(value, stated_by)).map_err(implausible)?;
    diastolic_below_systolic(values).map_err(implausible)
}

/// Statuses that say that there is nothing to measure.
const PROBE_OFF: &[Status] = &[
    "sensor-disconnect",
    "sensor-disconnected",
    "sensor-unconnected-to-user",
    "sensor-displaced",
    "sensor-alarm",
    "measurement-unavailable",
];

/// Pulse 0 and mean pressure 0 mean "none"; so does SpO2 0 where the probe is off or there is no pulse.
fn make_absent(values: &mut [Value], status: &[Status]) {
    for value in &mut *values {
        let zero_is_none = [Mdc::PULSE_RATE, Mdc::PULSE_RATE_CUFF, Mdc::MEAN_ARTERIAL_PRESSURE].contains(&value.code);
        if zero_is_none && is_zero(value) {
            value.quantity = Quantity::Special(Special::NotAvailable);
        }
    }
    let pulseless = |value: &Value| value.code == Mdc::PULSE_RATE && matches!(value.quantity, Quantity::Special(_));
    let probe_off = status.iter().any(|term| PROBE_OFF.contains(term)) || values.iter().any(pulseless);
    for value in values {
        if probe_off && value.code == Mdc::SPO2 && is_zero(value) {
            value.quantity = Quantity::Special(Special::NotAvailable);
        }
    }
}

fn is_zero(value: &Value) -> bool {
    matches!(value.quantity, Quantity::Number(Decimal { mantissa: 0, .. }))
}

fn within_range(value: &Value, stated_by: StatedBy) -> Result<(), String> {
    let Quantity::Number(number) = value.quantity else { return Ok(()) };
    let Some(range) = RANGES.iter().find(|range| range.code == value.code) else { return Ok(()) };
    let low = match (value.code, stated_by) {
        (Mdc::DIASTOLIC, StatedBy::Hand) => n(0),
        _ => range.low,
    };
    let name = value.code.name().unwrap_or("value");
    let outside = |number: Decimal, [low, high]: [Decimal; 2]| number.compare(low).is_lt() || number.compare(high).is_gt();
    if value.unit == range.unit {
        return match outside(number, [low, range.high]) {
            true => Err(format!("{name} {number} {} is outside {low}..{}", value.unit, range.high)),
            false => Ok(()),
        };
    }
    let Some(conversion) = CONVERSIONS.iter().find(|c| c.unit == value.unit && c.to == range.unit) else {
        return Err(format!("{name} in {} cannot be compared with {}", value.unit, range.unit));
    };
    match conversion.apply(number, [low, range.high]) {
        Some((number, bounds)) if !outside(number, bounds) => Ok(()),
        _ => Err(format!("{name} {number} {} is outside {low}..{} {}", value.unit, range.high, range.unit)),
    }
}

impl Conversion {
    /// Value and bounds, comparable; `None` where the value has so many digits that it is none of a device.
    fn apply(&self, value: Decimal, bounds: [Decimal; 2]) -> Option<(Decimal, [Decimal; 2])> {
        let bound = |bound| plus(times(bound, self.bound_factor)?, self.offset);
        let [low, high] = bounds;
        Some((times(value, self.value_factor)?, [bound(low)?, bound(high)?]))
    }
}

fn times(a: Decimal, b: Decimal) -> Option<Decimal> {
    Some(Decimal::new(a.mantissa.checked_mul(b.mantissa)?, a.exponent.checked_add(b.exponent)?))
}

/// Adds a whole number to a decimal with places.
fn plus(a: Decimal, whole: Decimal) -> Option<Decimal> {
    let shift = 10_i64.checked_pow(u32::from(a.exponent.min(0).unsigned_abs()))?;
    Some(Decimal::new(a.mantissa.checked_add(whole.mantissa.checked_mul(shift)?)?, a.exponent))
}

fn diastolic_below_systolic(values: &[Value]) -> Result<(), String> {
    let number = |code: Mdc| {
        values.iter().find(|value| value.code == code).and_then(|value| match value.quantity {
            Quantity::Number(number) => Some((number, value.unit)),
            _ => None,
        })
    };
    match (number(Mdc::SYSTOLIC), number(Mdc::DIASTOLIC)) {
        (Some((systolic, unit)), Some((diastolic, same))) if unit == same && diastolic.compare(systolic).is_gt() => {
            Err(format!("diastolic {diastolic} {unit} is above systolic {systolic} {unit}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, number: &str, unit: &'static str) -> Value {
        let quantity = Quantity::Number(number.parse().expect("a decimal"));
        Value { code: Mdc::by_name(name).expect("a name of the table"), quantity, unit }
    }

    fn judge(name: &str, number: &str, unit: &'static str) -> Result<(), String> {
        accept(&mut [value(name, number, unit)], &[], StatedBy::Device).map_err(|refusal| refusal.detail)
    }

    #[test]
    fn an_absurd_value_is_refused_with_its_reason() {
        assert_eq!(judge("systolic", "182400", "mm[Hg]").unwrap_err(), "systolic 182400 mm[Hg] is outside 30..300");
        assert_eq!(judge("weight", "0.299", "kg").unwrap_err(), "weight 0.299 kg is outside 0.3..650");
        assert_eq!(judge("systolic", "45.0", "kPa").unwrap_err(), "systolic 45.0 kPa is outside 30..300 mm[Hg]");
        assert_eq!(judge("spo2", "97", "1").unwrap_err(), "spo2 in 1 cannot be compared with %");
    }

    #[test]
    fn both_bounds_are_plausible_and_what_is_past_them_is_not() {
        for (name, unit, low, high, below, above) in [
            ("systolic", "mm[Hg]", "30", "300", "29.9", "300.1"),
            ("diastolic", "mm[Hg]", "10", "250", "9", "251"),
            ("mean-arterial-pressure", "mm[Hg]", "10", "280", "9", "281"),
            ("spo2", "%", "1", "100.0", "0.9", "100.1"),
            ("pulse-rate", "/min", "10", "350", "9", "351"),
            ("body-temperature", "Cel", "20.0", "45.00", "19.9", "45.01"),
            ("body-temperature", "[degF]", "68", "113", "67.9", "113.1"),
            ("finger-temperature", "Cel", "5", "45", "4.9", "45.1"),
            ("weight", "kg", "0.30", "650", "0.29", "651"),
            ("weight", "[lb_av]", "0.67", "1433", "0.66", "1433.1"),
            ("height", "cm", "25", "275", "24", "276"),
            ("height", "m", "0.250", "2.750", "0.249", "2.751"),
            ("height", "[in_i]", "9.9", "108.2", "9.8", "108.3"),
            ("glucose-capillary-plasma", "mg/dL", "1", "3000", "0", "3001"),
            ("glucose-capillary-plasma", "mmol/L", "0.06", "166.5", "0.05", "166.6"),
            ("respiratory-rate", "/min", "1", "150", "0", "151"),
            ("fvc", "L", "0.05", "12", "0.04", "12.01"),
            ("fev1", "L", "0.05", "12", "0.04", "12.01"),
            ("pef", "L/s", "0.1", "20", "0.09", "20.1"),
            ("pef", "L/min", "6", "1200", "5", "1201"),
            ("pef", "cL/s", "10", "2000", "9", "2001"),
            ("fev1-fvc", "%", "5", "100", "4", "101"),
            ("systolic", "kPa", "4.0", "39.99", "3.9", "40.0"),
        ] {
            for number in [low, high] {
                assert_eq!(judge(name, number, unit), Ok(()), "{name} {number} {unit}");
            }
            for number in [below, above, "-1"] {
                assert!(judge(name, number, unit).is_err(), "{name} {number} {unit}");
            }
        }
    }

    #[test]
    fn a_diastolic_above_the_systolic_is_refused() {
        let mut values = [value("systolic", "110", "mm[Hg]"), value("diastolic", "120", "mm[Hg]")];
        let error = accept(&mut values, &[], StatedBy::Device).unwrap_err().detail;
        assert_eq!(error, "diastolic 120 mm[Hg] is above systolic 110 mm[Hg]");
    }

    #[test]
    fn a_diastolic_of_zero_is_plausible_by_hand_only() {
        let mut values = [value("systolic", "110", "mm[Hg]"), value("diastolic", "0", "mm[Hg]")];
        assert_eq!(accept(&mut values, &[], StatedBy::Hand), Ok(()));
        assert!(accept(&mut values, &[], StatedBy::Device).is_err());
    }

    #[test]
    fn a_component_that_is_zero_for_none_is_absent_and_the_rest_stands() {
        let absent = Quantity::Special(Special::NotAvailable);
        let mut cuff = [
            value("systolic", "120", "mm[Hg]"),
            value("mean-arterial-pressure", "0", "mm[Hg]"),
            value("pulse-rate-cuff", "0.0", "/min"),
        ];
        assert_eq!(accept(&mut cuff, &[], StatedBy::Device), Ok(()));
        assert_eq!(cuff[0], value("systolic", "120", "mm[Hg]"));
        assert_eq!((&cuff[1].quantity, &cuff[2].quantity), (&absent, &absent));

        let mut off = [value("spo2", "0", "%"), value("pulse-rate", "72", "/min")];
        assert_eq!(accept(&mut off.clone(), &["sensor-disconnected"], StatedBy::Device), Ok(()));
        assert!(accept(&mut off, &[], StatedBy::Device).is_err(), "0 % with a pulse and the probe on is no measurement");
        let mut nothing = [value("spo2", "0", "%"), value("pulse-rate", "0", "/min")];
        assert_eq!(accept(&mut nothing, &[], StatedBy::Device), Ok(()));
        assert!(nothing.iter().all(|value| value.quantity == absent));
    }

    #[test]
    fn an_interval_between_beats_has_its_bounds() {
        for (text, plausible) in
            [("0.9765625", false), ("149.9", false), ("150", true), ("30000.0", true), ("63999.0234375", false)]
        {
            assert_eq!(is_rr_interval(text.parse().unwrap()), plausible, "{text}");
        }
    }

    #[test]
    fn high_and_low_of_a_meter_are_readings() {
        for special in [Special::PositiveInfinity, Special::NegativeInfinity, Special::NotANumber] {
            let mut values = [Value { quantity: Quantity::Special(special), ..value("glucose-capillary-plasma", "1", "mg/dL") }];
            assert_eq!(accept(&mut values, &[], StatedBy::Device), Ok(()));
            assert_eq!(values[0].quantity, Quantity::Special(special));
        }
    }

    #[test]
    fn what_has_no_bounds_passes() {
        assert_eq!(judge("perfusion-index", "0.02", "%"), Ok(()));
        assert_eq!(judge("I", "-99999", "uV"), Ok(()));
    }
}
