//! What a health observation says, as values of readings and runs of samples.

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::health_observation::{HealthObservation, Numeric, ObservationValue, SampleArray, StateEvents, UnitCode};
use kit_protocol::mder::Number;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Quantity, Rate, Special, Value};
use kit_protocol::units;

/// What was found in an observation.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Values that belong together, with what sort of reading they are.
    pub(super) readings: Vec<(Kind, Vec<Value>)>,
    /// Signals.
    pub(super) arrays: Vec<Array>,
}

/// A run of samples of one signal, with what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Array {
    pub(super) code: Mdc,
    pub(super) unit: &'static str,
    pub(super) scale: Decimal,
    pub(super) rate: Rate,
    pub(super) samples: Vec<i32>,
}

/// Reads an observation, and its members. Errors: what no reading can hold, in words for a technician.
pub(super) fn observed(observation: &HealthObservation) -> Result<Observed, String> {
    let mut observed = Observed::default();
    take(observation, &mut observed)?;
    // Members of a bundle that are of one sort, as SpO2 and pulse, are one reading.
    let mut together: Vec<(Kind, Vec<Value>)> = Vec::new();
    for (kind, values) in observed.readings {
        match together.iter_mut().find(|(same, _)| *same == kind && kind != Kind::Other) {
            Some((_, gathered)) => gathered.extend(values),
            None => together.push((kind, values)),
        }
    }
    let measured = |value: &Value| value.quantity != Quantity::Special(Special::NotAvailable);
    together.retain(|(_, values)| values.iter().any(measured));
    Ok(Observed { readings: together, arrays: observed.arrays })
}

fn take(observation: &HealthObservation, observed: &mut Observed) -> Result<(), String> {
    let code = observation.observation_type;
    match &observation.value {
        ObservationValue::Bundle(members) => members.iter().try_for_each(|member| take(member, observed)),
        ObservationValue::Compound(components) => {
            let mut values = Vec::new();
            for component in components {
                take_value(component.code, &component.value, &mut values, &mut observed.arrays)?;
            }
            push(code.map(kind).filter(|kind| *kind != Kind::Other), values, observed);
            Ok(())
        }
        value => {
            let code = code.ok_or("an observation that does not say what it observes")?;
            let mut values = Vec::new();
            take_value(code, value, &mut values, &mut observed.arrays)?;
            push(None, values, observed);
            Ok(())
        }
    }
}

/// The kind is that of the whole, or else of its first value.
fn push(whole: Option<Kind>, values: Vec<Value>, observed: &mut Observed) {
    if let Some(first) = values.first() {
        observed.readings.push((whole.unwrap_or_else(|| kind(first.code)), values));
    }
}

fn take_value(code: Mdc, value: &ObservationValue, values: &mut Vec<Value>, arrays: &mut Vec<Array>) -> Result<(), String> {
    let coded = |event: &u32| Value { code, quantity: Quantity::Code(Mdc(*event)), unit: "" };
    match value {
        ObservationValue::Numeric(Numeric { unit, number }) => {
            values.push(Value { code, quantity: quantity(*number), unit: ucum(*unit)? });
        }
        ObservationValue::Discrete(event) => values.push(coded(event)),
        ObservationValue::DiscreteEvents(events) => values.extend(events.iter().map(coded)),
        ObservationValue::StateEvents(StateEvents { supported, bits, .. }) => {
            let bits = bits.iter().zip(supported).map(|(bit, supported)| bit & supported);
            let word = bits.rev().try_fold(0_u32, |word, octet| Some(word.checked_mul(256)? | u32::from(octet)));
            let word = word.ok_or("states and events of more than 32 bits")?;
            values.push(Value { code, quantity: Quantity::Bits(word), unit: "" });
        }
        ObservationValue::SampleArray(array) => arrays.push(Array::of(code, array)?),
        ObservationValue::Text(_) | ObservationValue::Tlvs(_) | ObservationValue::Compound(_) | ObservationValue::Bundle(_) => {
            return Err(format!("an observation of class {}, which no reading holds", value.term()));
        }
    }
    Ok(())
}

/// Numbers that are none are absent; a device's "higher" or "lower" than it can tell stands.
fn quantity(number: Number) -> Quantity {
    match number {
        Number::Finite(decimal) => Quantity::Number(decimal),
        Number::Special(special @ (Special::PositiveInfinity | Special::NegativeInfinity)) => Quantity::Special(special),
        Number::Special(_) => Quantity::Special(Special::NotAvailable),
    }
}

fn ucum(unit: UnitCode) -> Result<&'static str, String> {
    let known = units::by_code(unit.code()).map(|unit| unit.ucum);
    known.ok_or_else(|| format!("unit code {} (term {} of partition 4) is not known", unit.code().0, unit.0))
}

impl Array {
    fn of(code: Mdc, array: &SampleArray) -> Result<Self, String> {
        let unit = ucum(array.unit)?;
        let (Number::Finite(scale), Number::Finite(offset)) = (array.scale, array.offset) else {
            return Err("samples whose scale or offset is no number".into());
        };
        let rate = rate(array.samples_per_period, array.period).ok_or("samples whose period is no length of time")?;
        let (scale, samples) = without_offset(scale, offset, array).ok_or("samples whose scale and offset do not fit")?;
        Ok(Self { code, unit, scale, rate, samples })
    }
}

/// Samples a second, exactly, in lowest terms.
fn rate(samples: u8, period: Number) -> Option<Rate> {
    let Number::Finite(Decimal { mantissa, exponent }) = period else { return None };
    let mut samples = u64::from(samples);
    let mut seconds = u64::try_from(mantissa).ok()?;
    let ten = 10_u64.checked_pow(exponent.unsigned_abs().into())?;
    if exponent < 0 {
        samples = samples.checked_mul(ten)?;
    } else {
        seconds = seconds.checked_mul(ten)?;
    }
    let common = divisor(samples, seconds);
    let part = |number: u64| u32::try_from(number.checked_div(common)?).ok().filter(|part| *part > 0);
    Some(Rate { samples: part(samples)?, seconds: part(seconds)? })
}

/// A channel has a scale and no offset: where there is one, both are put in terms of what divides them, exactly.
fn without_offset(scale: Decimal, offset: Decimal, array: &SampleArray) -> Option<(Decimal, Vec<i32>)> {
    if scale.mantissa == 0 {
        return None;
    }
    if offset.mantissa == 0 {
        return Some((scale, array.samples().collect()));
    }
    let exponent = scale.exponent.min(offset.exponent);
    let aligned = |number: Decimal| {
        let places = u32::try_from(i16::from(number.exponent) - i16::from(exponent)).ok()?;
        number.mantissa.checked_mul(10_i64.checked_pow(places)?)
    };
    let (scale, offset) = (aligned(scale)?, aligned(offset)?);
    let digit = i64::try_from(divisor(scale.unsigned_abs(), offset.unsigned_abs())).ok()?;
    let (times, plus) = (scale / digit, offset / digit);
    let moved = |sample: i32| i32::try_from(i64::from(sample).checked_mul(times)?.checked_add(plus)?).ok();
    let samples: Option<Vec<i32>> = array.samples().map(moved).collect();
    Some((Decimal::new(digit, exponent), samples?))
}

/// The greatest common divisor; never 0 unless both are.
fn divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// What sort of reading or recording a code makes.
pub(super) fn kind(code: Mdc) -> Kind {
    match code.0 {
        150_456 | 149_530 | 150_448 => Kind::PulseOximetry,
        150_452 => Kind::Pleth,
        150_020..=150_023 | 149_546 => Kind::BloodPressure,
        150_364 | 150_388 | 150_392 | 188_420..=188_456 => Kind::Temperature,
        147_842 | 147_240 => Kind::HeartRate,
        188_736..=188_752 => Kind::Weight,
        160_020..=160_220 | 160_364 | 160_368 => Kind::Glucose,
        151_562 => Kind::Respiration,
        151_680 | 151_764 | 152_584..=152_587 | 152_708 | 188_928..=189_024 => Kind::Spirometry,
        131_328..=131_395 | 147_232 | 147_236 => Kind::Ecg,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::gatt::health_observation::SampleCounts;

    fn number(mantissa: i64, exponent: i8) -> Number {
        Number::Finite(Decimal::new(mantissa, exponent))
    }

    #[test]
    fn rates_are_exact_fractions_in_lowest_terms() {
        for (samples, period, rate_of) in [
            (1, number(4, -3), Some((250, 1))),
            (1, number(2, -3), Some((500, 1))),
            (1, number(78_125, -7), Some((128, 1))),
            (1, number(3, -2), Some((100, 3))),
            (4, number(1, -1), Some((40, 1))),
            (1, number(2, 1), Some((1, 20))),
            (0, number(1, 0), None),
            (1, number(0, 0), None),
            (1, number(-4, -3), None),
            (1, number(1, -20), None),
            (1, Number::Special(Special::NotANumber), None),
        ] {
            assert_eq!(rate(samples, period).map(|rate| (rate.samples, rate.seconds)), rate_of, "{samples} in {period:?}");
        }
    }

    fn array(scale: Number, offset: Number, octets: &[u8]) -> SampleArray {
        SampleArray {
            unit: UnitCode(4_274),
            scale,
            offset,
            period: number(4, -3),
            samples_per_period: 1,
            octets_per_sample: 2,
            counts: SampleCounts::Samples,
            octets: octets.to_vec(),
        }
    }

    #[test]
    fn an_offset_goes_into_the_samples_exactly_or_not_at_all() {
        let of = |scale, offset, octets: &[u8]| Array::of(Mdc::ECG_I, &array(scale, offset, octets));
        let plain = of(number(244, -5), number(0, 0), &[0xe9, 0xff, 16, 0]).unwrap();
        assert_eq!((plain.scale, plain.samples, plain.unit), (Decimal::new(244, -5), vec![-23, 16], "mV"));
        // 0.5 × sample + 0.2 is 0.1 × (5 × sample + 2).
        let moved = of(number(5, -1), number(2, -1), &[1, 0, 0xff, 0xff]).unwrap();
        assert_eq!((moved.scale, moved.samples), (Decimal::new(1, -1), vec![7, -3]));
        let whole = of(number(2, -3), number(-4, 0), &[0, 0, 1, 0]).unwrap();
        assert_eq!((whole.scale, whole.samples), (Decimal::new(2, -3), vec![-2_000, -1_999]));
        assert!(of(number(1, -100), number(1, 100), &[]).is_err());
        assert!(of(number(1, -9), number(8, 0), &[0, 0]).is_err(), "no i32");
        assert!(of(number(0, 0), number(1, 0), &[0, 0]).is_err());
        assert!(of(Number::Special(Special::NotANumber), number(1, 0), &[]).is_err());
    }

    #[test]
    fn every_named_code_of_a_vital_sign_has_its_kind() {
        for (name, expected) in [
            ("spo2", Kind::PulseOximetry),
            ("pulse-rate-cuff", Kind::BloodPressure),
            ("ear-temperature", Kind::Temperature),
            ("bmi", Kind::Weight),
            ("glucose-undetermined-plasma", Kind::Glucose),
            ("fvc", Kind::Spirometry),
            ("pef", Kind::Spirometry),
            ("flow", Kind::Spirometry),
            ("V", Kind::Ecg),
            ("rhythm", Kind::Other),
        ] {
            assert_eq!(kind(Mdc::by_name(name).unwrap()), expected, "{name}");
        }
    }
}
