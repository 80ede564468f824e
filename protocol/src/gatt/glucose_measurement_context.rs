//! Glucose Measurement Context (0x2A34): what the user told the meter about a measurement.

use alloc::vec::Vec;

use super::glucose_measurement::shifted;
use crate::flags::flag;
use crate::mder::{Number, encode_sfloat};
use crate::reader::{DecodeError, Reader};

/// A Glucose Measurement Context. Shape, units, errors and source: see [`GlucoseMeasurementContext::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlucoseMeasurementContext {
    /// That of the measurement it belongs to.
    pub sequence_number: u16,
    /// Reserved for future use: kept.
    pub extended_flags: Option<u8>,
    /// What was eaten or drunk.
    pub carbohydrate: Option<Carbohydrate>,
    /// When, with respect to a meal.
    pub meal: Option<Meal>,
    /// Who tested (low nibble), and how the patient was (high nibble).
    pub tester_and_health: Option<(Tester, Health)>,
    /// Exercise before it.
    pub exercise: Option<Exercise>,
    /// Medication taken.
    pub medication: Option<Medication>,
    /// HbA1c, %.
    pub hba1c: Option<Number>,
}

/// What was eaten or drunk. Shape: id (1) · amount, SFLOAT (2). Units: kg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Carbohydrate {
    /// At which meal: 1 breakfast … 7 brunch.
    pub id: u8,
    /// How much, kg.
    pub amount: Number,
}

impl Carbohydrate {
    /// The amount in grams, digits kept.
    #[must_use]
    pub fn grams(&self) -> Number {
        shifted(self.amount, 3)
    }

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        term(&["breakfast", "lunch", "dinner", "snack", "drink", "supper", "brunch"], self.id)
    }
}

/// When, with respect to a meal. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meal(pub u8);

impl Meal {
    /// Before a meal.
    pub const PREPRANDIAL: Self = Self(1);
    /// After a meal.
    pub const POSTPRANDIAL: Self = Self(2);
    /// Fasting.
    pub const FASTING: Self = Self(3);

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        term(&["preprandial", "postprandial", "fasting", "casual", "bedtime"], self.0)
    }
}

/// Who tested. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tester(pub u8);

impl Tester {
    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        match self.0 {
            15 => Some("not-available"),
            code => term(&["self", "health-care-professional", "lab-test"], code),
        }
    }
}

/// How the patient was. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Health(pub u8);

impl Health {
    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(self) -> Option<&'static str> {
        match self.0 {
            15 => Some("not-available"),
            code => {
                let terms = ["minor-health-issues", "major-health-issues", "during-menses", "under-stress", "no-health-issues"];
                term(&terms, code)
            }
        }
    }
}

/// Exercise. Shape: duration (2) · intensity (1). Units: s, %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exercise {
    /// How long, s; 65535 is longer than that.
    pub duration_seconds: u16,
    /// How hard, %.
    pub intensity_percent: u8,
}

/// Medication. Shape: id (1) · amount, SFLOAT (2). Units: kg, or (bit 5) L.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Medication {
    /// Which: 1 rapid acting insulin … 5 pre-mixed insulin.
    pub id: u8,
    /// How much.
    pub amount: Number,
    /// In litres instead of kilograms.
    pub in_litres: bool,
}

impl Medication {
    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        let terms = [
            "rapid-acting-insulin",
            "short-acting-insulin",
            "intermediate-acting-insulin",
            "long-acting-insulin",
            "pre-mixed-insulin",
        ];
        term(&terms, self.id)
    }

    /// The amount in mg or mL, digits kept, with its unit.
    #[must_use]
    pub fn customary(&self) -> (Number, &'static str) {
        if self.in_litres { (shifted(self.amount, 3), "mL") } else { (shifted(self.amount, 6), "mg") }
    }
}

/// The term of a code that counts from 1.
fn term(terms: &[&'static str], code: u8) -> Option<&'static str> {
    terms.get(usize::from(code).checked_sub(1)?).copied()
}

impl GlucoseMeasurementContext {
    /// Decodes a Glucose Measurement Context value (0x2A34).
    ///
    /// Shape: flags (1) · sequence number (2) · extended flags (1, if bit 7) · carbohydrate id (1) and amount, SFLOAT (2,
    /// both if bit 0) · meal (1, if bit 1) · tester and health (1, if bit 2) · exercise duration (2) and intensity (1, both
    /// if bit 3) · medication id (1) and amount, SFLOAT (2, both if bit 4) · HbA1c, SFLOAT (2, if bit 6); little-endian,
    /// 3–17 octets. Bit 5: the medication's amount is in litres instead of kilograms.
    /// Units: kg of carbohydrate, s and % of exercise, kg or L of medication, % of HbA1c.
    /// Errors: [`DecodeError::Truncated`], naming the missing field; [`DecodeError::Trailing`], unless an extended flag is
    /// set, which may announce fields newer than this.
    /// Source: Bluetooth SIG, Glucose Service 1.0.1, §3.2. That the tester is the low nibble, and health the high one: Nordic
    /// Android-BLE-Common-Library@c078e25 (`GlucoseMeasurementContextResponse`) and Cypress' CySmart; Wireshark shows them the
    /// other way round.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let has = |bit: u8| flags & bit != 0;
        let sequence_number = r.u16("sequence number")?;
        let context = Self {
            sequence_number,
            extended_flags: if has(EXTENDED_FLAGS) { Some(r.u8("extended flags")?) } else { None },
            carbohydrate: if has(CARBOHYDRATE) {
                Some(Carbohydrate { id: r.u8("carbohydrate id")?, amount: r.sfloat("carbohydrate")? })
            } else {
                None
            },
            meal: if has(MEAL) { Some(Meal(r.u8("meal")?)) } else { None },
            tester_and_health: if has(TESTER_AND_HEALTH) {
                let nibbles = r.u8("tester and health")?;
                Some((Tester(nibbles & 0x0f), Health(nibbles >> 4)))
            } else {
                None
            },
            exercise: if has(EXERCISE) {
                let duration_seconds = r.u16("exercise duration")?;
                Some(Exercise { duration_seconds, intensity_percent: r.u8("exercise intensity")? })
            } else {
                None
            },
            medication: if has(MEDICATION) {
                let (id, amount) = (r.u8("medication id")?, r.sfloat("medication")?);
                Some(Medication { id, amount, in_litres: has(MEDICATION_IN_LITRES) })
            } else {
                None
            },
            hba1c: if has(HBA1C) { Some(r.sfloat("hba1c")?) } else { None },
        };
        if context.extended_flags.is_none_or(|extended| extended == 0) {
            r.finish()?;
        }
        Ok(context)
    }

    /// The octets of it; `None` where a number's digits do not fit an SFLOAT, or tester or health no nibble.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let flags = flag(self.carbohydrate.is_some(), CARBOHYDRATE)
            | flag(self.meal.is_some(), MEAL)
            | flag(self.tester_and_health.is_some(), TESTER_AND_HEALTH)
            | flag(self.exercise.is_some(), EXERCISE)
            | flag(self.medication.is_some(), MEDICATION)
            | flag(self.medication.is_some_and(|medication| medication.in_litres), MEDICATION_IN_LITRES)
            | flag(self.hba1c.is_some(), HBA1C)
            | flag(self.extended_flags.is_some(), EXTENDED_FLAGS);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.push(flags);
        octets.extend(self.sequence_number.to_le_bytes());
        octets.extend(self.extended_flags);
        if let Some(Carbohydrate { id, amount }) = self.carbohydrate {
            octets.push(id);
            octets.extend(encode_sfloat(amount)?.to_le_bytes());
        }
        octets.extend(self.meal.map(|meal| meal.0));
        if let Some((tester, health)) = self.tester_and_health {
            if tester.0 > 0x0f || health.0 > 0x0f {
                return None;
            }
            octets.push(tester.0 | health.0 << 4);
        }
        if let Some(Exercise { duration_seconds, intensity_percent }) = self.exercise {
            octets.extend(duration_seconds.to_le_bytes());
            octets.push(intensity_percent);
        }
        if let Some(Medication { id, amount, .. }) = self.medication {
            octets.push(id);
            octets.extend(encode_sfloat(amount)?.to_le_bytes());
        }
        if let Some(hba1c) = self.hba1c {
            octets.extend(encode_sfloat(hba1c)?.to_le_bytes());
        }
        Some(octets)
    }

    /// The most octets it has.
    pub const OCTETS_MAX: usize = 17;
}

const CARBOHYDRATE: u8 = 1 << 0;
const MEAL: u8 = 1 << 1;
const TESTER_AND_HEALTH: u8 = 1 << 2;
const EXERCISE: u8 = 1 << 3;
const MEDICATION: u8 = 1 << 4;
const MEDICATION_IN_LITRES: u8 = 1 << 5;
const HBA1C: u8 = 1 << 6;
const EXTENDED_FLAGS: u8 = 1 << 7;
