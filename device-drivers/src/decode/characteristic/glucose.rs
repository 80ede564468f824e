//! The characteristics of the Glucose Service by themselves.

use kit_protocol::gatt::glucose_feature::GlucoseFeature;
use kit_protocol::gatt::glucose_measurement::{ConcentrationUnit, GlucoseMeasurement, SensorStatus};
use kit_protocol::gatt::glucose_measurement_context::GlucoseMeasurementContext;
use kit_protocol::reader::DecodeError;
use serde_json::{Map, Value, json};

use super::{number, term, terms};

/// 0x2A18. `glucose_concentration` is in `unit` as sent; `customary` is what people read.
pub(super) fn measurement(octets: &[u8]) -> Result<Value, DecodeError> {
    let m = GlucoseMeasurement::decode(octets)?;
    let mut fields = Map::new();
    fields.insert("sequence_number".into(), json!(m.sequence_number));
    fields.insert("base_time".into(), json!(m.base_time.to_string()));
    fields.insert("time_offset".into(), json!(m.time_offset));
    fields.insert("user_facing_time".into(), json!(m.user_facing_time().map(|time| time.to_string())));
    number(&mut fields, "glucose_concentration", m.concentration.map(|c| c.number));
    let unit = m.concentration.map(|c| match c.unit {
        ConcentrationUnit::KilogramPerLitre => "kg/L",
        ConcentrationUnit::MolePerLitre => "mol/L",
    });
    fields.insert("unit".into(), json!(unit));
    let customary = m.concentration.map(|c| {
        let (value, unit) = c.customary();
        let mut fields = Map::new();
        number(&mut fields, "value", Some(value));
        fields.insert("unit".into(), json!(unit));
        fields
    });
    fields.insert("customary".into(), json!(customary));
    fields.insert("type".into(), json!(m.concentration.map(|c| term(c.sample_type.term(), c.sample_type.0))));
    fields.insert("sample_location".into(), json!(m.concentration.map(|c| term(c.location.term(), c.location.0))));
    fields.insert("sensor_status_annunciation".into(), terms(m.sensor_status.map(SensorStatus::terms)));
    fields.insert("context_information_follows".into(), json!(m.context_follows));
    Ok(fields.into())
}

/// 0x2A34. Amounts are in kg, or L where `medication_unit` says so, as sent.
pub(super) fn context(octets: &[u8]) -> Result<Value, DecodeError> {
    let c = GlucoseMeasurementContext::decode(octets)?;
    let mut fields = Map::new();
    fields.insert("sequence_number".into(), json!(c.sequence_number));
    fields.insert("extended_flags".into(), json!(c.extended_flags));
    fields.insert("carbohydrate_id".into(), json!(c.carbohydrate.map(|eaten| term(eaten.term(), eaten.id))));
    number(&mut fields, "carbohydrate", c.carbohydrate.map(|eaten| eaten.amount));
    fields.insert("meal".into(), json!(c.meal.map(|meal| term(meal.term(), meal.0))));
    let (tester, health) = c.tester_and_health.unzip();
    fields.insert("tester".into(), json!(tester.map(|tester| term(tester.term(), tester.0))));
    fields.insert("health".into(), json!(health.map(|health| term(health.term(), health.0))));
    fields.insert("exercise_duration".into(), json!(c.exercise.map(|exercise| exercise.duration_seconds)));
    fields.insert("exercise_intensity".into(), json!(c.exercise.map(|exercise| exercise.intensity_percent)));
    fields.insert("medication_id".into(), json!(c.medication.map(|taken| term(taken.term(), taken.id))));
    number(&mut fields, "medication", c.medication.map(|taken| taken.amount));
    let unit = c.medication.map(|taken| if taken.in_litres { "L" } else { "kg" });
    fields.insert("medication_unit".into(), json!(unit));
    number(&mut fields, "hba1c", c.hba1c);
    Ok(fields.into())
}

/// 0x2A51.
pub(super) fn feature(octets: &[u8]) -> Result<Value, DecodeError> {
    GlucoseFeature::decode(octets).map(|features| json!({ "glucose_feature": terms(Some(features.terms())) }))
}
