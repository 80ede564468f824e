//! A weight and a body composition as values, and the two halves of one reading put together.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::blood_pressure::UserId;
use kit_protocol::gatt::body_composition::{BodyCompositionFeature, BodyCompositionMeasurement};
use kit_protocol::gatt::weight::{UNSUCCESSFUL, WeightMeasurement, WeightScaleFeature, steps};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Special, Value};

use super::Half;

/// A half waits this long for its other half.
const OTHER_HALF_MAX: Duration = Duration::from_secs(3);
/// So many halves wait at most: a memory that is sent as all weights first, then all compositions.
const HALVES_MAX: usize = 64;

/// One digit of a percentage or a body mass index.
const TENTH: Decimal = Decimal::new(1, -1);

/// The half of a reading that a Weight Measurement is.
pub(super) fn of_weight(now: Moment, m: &WeightMeasurement, feature: WeightScaleFeature, octets: &[u8]) -> Half {
    let weight = value(Mdc::WEIGHT, m.weight, feature.weight_resolution().step(m.units), m.units.mass());
    let both = m.bmi_and_height.map(|both| {
        let height = feature.height_resolution().step(m.units);
        [
            or_absent(value(Mdc::BMI, both.bmi, TENTH, "kg/m2"), both.bmi),
            or_absent(value(Mdc::HEIGHT, both.height, height, m.units.length()), both.height),
        ]
    });
    let measured = Measured {
        values: std::iter::once(weight).chain(both.into_iter().flatten()).collect(),
        device_time: m.time_stamp,
        user_slot: m.user_id.and_then(UserId::slot),
        octets: octets.to_vec(),
        ..Measured::new(Kind::Weight, now)
    };
    Half { is_weight: true, time_stamp: m.time_stamp, user_id: m.user_id, measured }
}

/// The half of a reading that a Body Composition Measurement is; without a value where the device could measure none.
pub(super) fn of_composition(
    now: Moment,
    m: &BodyCompositionMeasurement,
    feature: BodyCompositionFeature,
    octets: &[u8],
) -> Half {
    let mass = feature.mass_resolution().step(m.units);
    let height = feature.height_resolution().step(m.units);
    let kilojoule = Decimal::whole(1);
    let fields = [
        (Mdc::WEIGHT, m.weight, mass, m.units.mass()),
        (Mdc::HEIGHT, m.height, height, m.units.length()),
        (Mdc::BODY_FAT, Some(m.body_fat_percentage), TENTH, "%"),
        (Mdc::BASAL_METABOLISM, m.basal_metabolism, kilojoule, "kJ"),
        (Mdc::MUSCLE, m.muscle_percentage, TENTH, "%"),
        (Mdc::MUSCLE_MASS, m.muscle_mass, mass, m.units.mass()),
        (Mdc::FAT_FREE_MASS, m.fat_free_mass, mass, m.units.mass()),
        (Mdc::SOFT_LEAN_MASS, m.soft_lean_mass, mass, m.units.mass()),
        (Mdc::BODY_WATER, m.body_water_mass, mass, m.units.mass()),
        (Mdc::BODY_IMPEDANCE, m.impedance, TENTH, "Ohm"),
    ];
    let present = fields.into_iter().filter_map(|(code, raw, step, unit)| Some((code, raw?, step, unit)));
    let measured_any = present.clone().any(|(_, raw, ..)| raw != UNSUCCESSFUL && raw != 0);
    let values = present.filter(|_| measured_any).map(|(code, raw, step, unit)| or_absent(value(code, raw, step, unit), raw));
    let measured = Measured {
        values: values.collect(),
        device_time: m.time_stamp,
        user_slot: m.user_id.and_then(UserId::slot),
        octets: octets.to_vec(),
        ..Measured::new(Kind::Weight, now)
    };
    Half { is_weight: false, time_stamp: m.time_stamp, user_id: m.user_id, measured }
}

fn value(code: Mdc, raw: u16, step: Decimal, unit: &'static str) -> Value {
    let quantity = steps(raw, step).map_or(Quantity::Special(Special::NotAvailable), Quantity::Number);
    Value { code, quantity, unit }
}

/// A scale that was not told a height, or could not measure the body, sends 0.
fn or_absent(value: Value, raw: u16) -> Value {
    if raw == 0 { Value { quantity: Quantity::Special(Special::NotAvailable), ..value } } else { value }
}

/// Halves that wait for their other half.
#[derive(Debug, Default)]
pub(super) struct Halves(Vec<(Half, Moment)>);

impl Halves {
    /// Takes in a half and gives what is whole, or has to go as it is because there are too many.
    pub(super) fn take(&mut self, now: Moment, half: Half) -> Vec<Measured> {
        if let Some(at) = self.0.iter().position(|(other, _)| other.belongs_to(&half)) {
            let (other, _) = self.0.remove(at);
            return vec![other.joined(half)];
        }
        self.0.push((half, now + OTHER_HALF_MAX));
        let over = self.0.len().saturating_sub(HALVES_MAX);
        self.0.drain(..over).map(|(half, _)| half.measured).collect()
    }

    /// Halves that have waited long enough.
    pub(super) fn due(&mut self, now: Moment, ends: bool) -> Vec<Measured> {
        let (due, waiting) = std::mem::take(&mut self.0).into_iter().partition(|(_, until)| ends || *until <= now);
        self.0 = waiting;
        due.into_iter().map(|(half, _): (Half, Moment)| half.measured).collect()
    }

    pub(super) fn until(&self) -> Option<Moment> {
        self.0.iter().map(|(_, until)| *until).min()
    }
}

impl Half {
    fn belongs_to(&self, other: &Self) -> bool {
        let same_user = self.user_id == other.user_id || self.user_id.is_none() || other.user_id.is_none();
        self.is_weight != other.is_weight && self.time_stamp == other.time_stamp && same_user
    }

    /// Both as one: what the weight says stands before what the composition says of the same.
    fn joined(self, other: Self) -> Measured {
        let (weight, composition) =
            if self.is_weight { (self.measured, other.measured) } else { (other.measured, self.measured) };
        let mut joined = weight;
        joined.user_slot = joined.user_slot.or(composition.user_slot);
        for value in composition.values {
            if joined.values.iter().all(|there| there.code != value.code) {
                joined.values.push(value);
            }
        }
        joined
    }
}
