//! The vectors of glucose meters, run both ways, and what must be refused.

use proptest::prelude::*;

use super::super::date_time::DateTime;
use super::super::glucose_feature::GlucoseFeature;
use super::super::glucose_measurement::{
    Concentration, ConcentrationUnit, GlucoseMeasurement, SampleLocation, SampleType, SensorStatus,
};
use super::super::glucose_measurement_context::{
    Carbohydrate, Exercise, GlucoseMeasurementContext, Health, Meal, Medication, Tester,
};
use super::{date_times, joined, number, or_dash};
use crate::mder::sfloat;
use crate::nomenclature::Mdc;
use crate::promises::every_other_length_is_refused;
use crate::vectors::vectors;

fn or_code(term: Option<&'static str>, code: u8) -> String {
    term.map_or_else(|| code.to_string(), Into::into)
}

fn measurement(m: &GlucoseMeasurement) -> String {
    let concentration = |c: Concentration| {
        let (value, unit) = c.customary();
        let (of, from) = (or_code(c.sample_type.term(), c.sample_type.0), or_code(c.location.term(), c.location.0));
        format!("{} {unit} {of} {from}", number(value))
    };
    format!(
        "seq={} base={} offset={} {} status={} context={} user={}",
        m.sequence_number,
        m.base_time,
        or_dash(m.time_offset.map(|offset| offset.to_string())),
        or_dash(m.concentration.map(concentration)),
        joined(m.sensor_status.map(SensorStatus::terms)),
        m.context_follows,
        or_dash(m.user_facing_time().map(|time| time.to_string())),
    )
}

fn context(c: &GlucoseMeasurementContext) -> String {
    let carbohydrate = |c: Carbohydrate| format!("{} {} g", or_code(c.term(), c.id), number(c.grams()));
    let medication = |m: Medication| {
        let (amount, unit) = m.customary();
        format!("{} {} {unit}", or_code(m.term(), m.id), number(amount))
    };
    let tester =
        |(tester, health): (Tester, Health)| format!("{}/{}", or_code(tester.term(), tester.0), or_code(health.term(), health.0));
    format!(
        "seq={} carbohydrate={} meal={} tester={} exercise={} medication={} hba1c={}",
        c.sequence_number,
        or_dash(c.carbohydrate.map(carbohydrate)),
        or_dash(c.meal.map(|meal| or_code(meal.term(), meal.0))),
        or_dash(c.tester_and_health.map(tester)),
        or_dash(c.exercise.map(|e| format!("{} s {} %", e.duration_seconds, e.intensity_percent))),
        or_dash(c.medication.map(medication)),
        or_dash(c.hba1c.map(number)),
    )
}

#[test]
fn glucose_measurements_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/glucose_measurement.txt")) {
        match GlucoseMeasurement::decode(&v.octets) {
            Ok(decoded) => {
                assert_eq!(measurement(&decoded), v.expected, "{}", v.id);
                assert_eq!(decoded.encode().as_deref(), Some(&*v.octets), "{}", v.id);
                every_other_length_is_refused(&v.octets, GlucoseMeasurement::decode);
            }
            Err(error) => assert_eq!(v.expected, "invalid", "{}: {error}", v.id),
        }
    }
}

#[test]
fn glucose_contexts_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/glucose_measurement_context.txt")) {
        match GlucoseMeasurementContext::decode(&v.octets) {
            Ok(decoded) => {
                assert_eq!(context(&decoded), v.expected, "{}", v.id);
                assert_eq!(decoded.encode().as_deref(), Some(&*v.octets), "{}", v.id);
                every_other_length_is_refused(&v.octets, GlucoseMeasurementContext::decode);
            }
            Err(error) => assert_eq!(v.expected, "invalid", "{}: {error}", v.id),
        }
    }
}

#[test]
fn octets_that_a_reserved_flag_may_announce_are_let_pass() {
    let measurement = [0x20, 6, 0, 0xe4, 7, 4, 13, 16, 38, 10, 0xaa];
    assert!(GlucoseMeasurement::decode(&measurement).is_ok());
    assert!(GlucoseMeasurementContext::decode(&[0x80, 6, 0, 1, 0xaa]).is_ok());
    assert!(GlucoseMeasurementContext::decode(&[0x80, 6, 0, 0, 0xaa]).is_err());
}

#[test]
fn every_type_of_sample_has_its_code_and_control_solution_is_told() {
    let codes: Vec<_> = (0..=15).filter_map(|code| SampleType(code).code()).collect();
    let expected = [160_184, 160_188, 160_192, 160_196, 160_200, 160_204, 160_364, 160_368, 160_212, 160_208];
    assert_eq!(codes, expected.map(Mdc));
    assert!(codes.iter().all(|code| code.name().is_some()));
    let of = |sample_type, location| Concentration {
        number: sfloat(100),
        unit: ConcentrationUnit::MolePerLitre,
        sample_type: SampleType(sample_type),
        location: SampleLocation(location),
    };
    let control: Vec<_> = (0..=15).filter(|code| of(*code, 1).is_control_solution()).collect();
    assert_eq!(control, [10]);
    assert!(of(1, 4).is_control_solution(), "some meters say it by the location only");
}

#[test]
fn a_code_that_is_no_nibble_is_not_encoded() {
    let decoded = GlucoseMeasurement::decode(&[2, 6, 0, 0xe4, 7, 4, 13, 16, 38, 10, 0x78, 0xb0, 0xf1]).unwrap();
    let concentration = Concentration { sample_type: SampleType(16), ..decoded.concentration.unwrap() };
    assert_eq!(GlucoseMeasurement { concentration: Some(concentration), ..decoded }.encode(), None);
}

#[test]
fn glucose_features_decode_and_encode() {
    let features = GlucoseFeature::decode(&[0x02, 0x04]).unwrap();
    assert_eq!(features.terms().collect::<Vec<_>>(), ["sensor-malfunction-detection", "multiple-bond"]);
    assert_eq!(features.encode(), [0x02, 0x04]);
    every_other_length_is_refused(&[0x02, 0x04], GlucoseFeature::decode);
}

fn concentrations() -> impl Strategy<Value = Concentration> {
    (any::<u16>(), any::<bool>(), 0..16_u8, 0..16_u8).prop_map(|(number, molar, sample_type, location)| Concentration {
        number: sfloat(number),
        unit: if molar { ConcentrationUnit::MolePerLitre } else { ConcentrationUnit::KilogramPerLitre },
        sample_type: SampleType(sample_type),
        location: SampleLocation(location),
    })
}

prop_compose! {
    fn measurements()(
        sequence_number: u16, base_time in date_times(), time_offset: Option<i16>,
        concentration in proptest::option::of(concentrations()), status: Option<u16>, context_follows: bool,
    ) -> GlucoseMeasurement {
        let sensor_status = status.map(SensorStatus);
        GlucoseMeasurement { sequence_number, base_time, time_offset, concentration, sensor_status, context_follows }
    }
}

prop_compose! {
    fn contexts()(
        sequence_number: u16, extended_flags: Option<u8>, carbohydrate: Option<(u8, u16)>, meal: Option<u8>,
        tester in proptest::option::of((0..16_u8, 0..16_u8)), exercise: Option<(u16, u8)>,
        medication: Option<(u8, u16, bool)>, hba1c: Option<u16>,
    ) -> GlucoseMeasurementContext {
        GlucoseMeasurementContext {
            sequence_number,
            extended_flags,
            carbohydrate: carbohydrate.map(|(id, amount)| Carbohydrate { id, amount: sfloat(amount) }),
            meal: meal.map(Meal),
            tester_and_health: tester.map(|(tester, health)| (Tester(tester), Health(health))),
            exercise: exercise
                .map(|(duration_seconds, intensity_percent)| Exercise { duration_seconds, intensity_percent }),
            medication: medication.map(|(id, amount, in_litres)| Medication { id, amount: sfloat(amount), in_litres }),
            hba1c: hba1c.map(sfloat),
        }
    }
}

proptest! {
    #[test]
    fn measurements_survive_the_way_there_and_back(measurement in measurements()) {
        let octets = measurement.encode().expect("every SFLOAT encodes");
        prop_assert!(octets.len() <= GlucoseMeasurement::OCTETS_MAX);
        prop_assert_eq!(GlucoseMeasurement::decode(&octets), Ok(measurement));
    }

    #[test]
    fn contexts_survive_the_way_there_and_back(context in contexts()) {
        let octets = context.encode().expect("every SFLOAT encodes");
        prop_assert!(octets.len() <= GlucoseMeasurementContext::OCTETS_MAX);
        prop_assert_eq!(GlucoseMeasurementContext::decode(&octets), Ok(context));
    }

    #[test]
    fn no_input_panics(octets in proptest::collection::vec(any::<u8>(), 0..40), minutes: i16) {
        if let Ok(measurement) = GlucoseMeasurement::decode(&octets) {
            let _ = measurement.user_facing_time();
        }
        let _ = GlucoseMeasurementContext::decode(&octets);
        let _ = GlucoseFeature::decode(&octets);
        let _ = DateTime::decode(&octets).map(|time| time.plus_minutes(minutes));
    }
}
