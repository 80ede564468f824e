//! Characteristics of cuffs, thermometers, scales and heart rate sensors, and of the services they share, by themselves.

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::battery_level::BatteryLevel;
use kit_protocol::gatt::blood_pressure::{BloodPressureFeature, BloodPressureMeasurement, BloodPressureStatus, UserId};
use kit_protocol::gatt::body_composition::{BodyCompositionFeature, BodyCompositionMeasurement};
use kit_protocol::gatt::current_time::CurrentTime;
use kit_protocol::gatt::device_information::{self, PnpId, SystemId};
use kit_protocol::gatt::heart_rate::{BodySensorLocation, HeartRateMeasurement};
use kit_protocol::gatt::mi_scale::MiScaleData;
use kit_protocol::gatt::temperature::{MeasurementInterval, TemperatureMeasurement, TemperatureType};
use kit_protocol::gatt::weight::{HeightResolution, MassResolution, WeightMeasurement, WeightScaleFeature, steps};
use kit_protocol::mder::Number;
use kit_protocol::reader::DecodeError;
use serde_json::{Map, Value, json};

use super::{date_time, number, term, terms};

type Decoded = Result<Value, DecodeError>;

pub(super) fn blood_pressure(octets: &[u8]) -> Decoded {
    let m = BloodPressureMeasurement::decode(octets)?;
    let mut fields = Map::new();
    number(&mut fields, "systolic", Some(m.systolic));
    number(&mut fields, "diastolic", Some(m.diastolic));
    number(&mut fields, "mean_arterial_pressure", Some(m.mean_arterial_pressure));
    Ok(pressure_rest(fields, &m))
}

pub(super) fn cuff_pressure(octets: &[u8]) -> Decoded {
    let m = BloodPressureMeasurement::decode(octets)?;
    let mut fields = Map::new();
    number(&mut fields, "current_cuff_pressure", Some(m.systolic));
    Ok(pressure_rest(fields, &m))
}

fn pressure_rest(mut fields: Map<String, Value>, m: &BloodPressureMeasurement) -> Value {
    fields.insert("unit".into(), json!(m.unit.ucum()));
    fields.insert("time_stamp".into(), json!(m.time_stamp.map(|time| time.to_string())));
    number(&mut fields, "pulse_rate", m.pulse_rate);
    fields.insert("user_id".into(), user(m.user_id));
    fields.insert("measurement_status".into(), terms(m.status.map(BloodPressureStatus::terms)));
    fields.into()
}

pub(super) fn blood_pressure_feature(octets: &[u8]) -> Decoded {
    BloodPressureFeature::decode(octets).map(|feature| json!({ "blood_pressure_feature": terms(Some(feature.terms())) }))
}

pub(super) fn temperature(octets: &[u8]) -> Decoded {
    let m = TemperatureMeasurement::decode(octets)?;
    let mut fields = Map::new();
    number(&mut fields, "temperature", Some(m.temperature));
    fields.insert("unit".into(), json!(m.unit.ucum()));
    fields.insert("time_stamp".into(), json!(m.time_stamp.map(|time| time.to_string())));
    fields.insert("temperature_type".into(), m.temperature_type.map_or(Value::Null, |site| term(site.term(), site.0)));
    Ok(fields.into())
}

pub(super) fn temperature_type(octets: &[u8]) -> Decoded {
    TemperatureType::decode(octets).map(|site| json!({ "temperature_type": term(site.term(), site.0) }))
}

pub(super) fn measurement_interval(octets: &[u8]) -> Decoded {
    MeasurementInterval::decode(octets).map(|interval| json!({ "measurement_interval": interval.0 }))
}

pub(super) fn heart_rate(octets: &[u8]) -> Decoded {
    let m = HeartRateMeasurement::decode(octets)?;
    Ok(json!({
        "heart_rate": m.heart_rate.per_minute().to_string(),
        "sensor_contact": m.sensor_contact.term(),
        "energy_expended": m.energy_expended,
        "rr_intervals": m.rr_intervals,
    }))
}

pub(super) fn body_sensor_location(octets: &[u8]) -> Decoded {
    BodySensorLocation::decode(octets).map(|location| json!({ "body_sensor_location": term(location.term(), location.0) }))
}

/// By the finest resolution: what one digit is worth, only the feature of the device says.
pub(super) fn weight(octets: &[u8]) -> Decoded {
    let m = WeightMeasurement::decode(octets)?;
    let mut fields = Map::new();
    amount(&mut fields, "weight", Some(m.weight), MassResolution::default().step(m.units));
    fields.insert("unit".into(), json!(m.units.mass()));
    fields.insert("time_stamp".into(), json!(m.time_stamp.map(|time| time.to_string())));
    fields.insert("user_id".into(), user(m.user_id));
    amount(&mut fields, "bmi", m.bmi_and_height.map(|both| both.bmi), TENTH);
    amount(&mut fields, "height", m.bmi_and_height.map(|both| both.height), HeightResolution::default().step(m.units));
    Ok(fields.into())
}

pub(super) fn weight_scale_feature(octets: &[u8]) -> Decoded {
    let feature = WeightScaleFeature::decode(octets)?;
    Ok(json!({
        "weight_scale_feature": terms(Some(feature.terms())),
        "weight_measurement_resolution": feature.weight_resolution().0,
        "height_measurement_resolution": feature.height_resolution().0,
    }))
}

/// By the finest resolution, as a weight.
pub(super) fn body_composition(octets: &[u8]) -> Decoded {
    let m = BodyCompositionMeasurement::decode(octets)?;
    let mass = MassResolution::default().step(m.units);
    let mut fields = Map::new();
    amount(&mut fields, "body_fat_percentage", Some(m.body_fat_percentage), TENTH);
    fields.insert("unit".into(), json!(m.units.mass()));
    fields.insert("time_stamp".into(), json!(m.time_stamp.map(|time| time.to_string())));
    fields.insert("user_id".into(), user(m.user_id));
    for (name, raw, step) in [
        ("basal_metabolism", m.basal_metabolism, Decimal::whole(1)),
        ("muscle_percentage", m.muscle_percentage, TENTH),
        ("muscle_mass", m.muscle_mass, mass),
        ("fat_free_mass", m.fat_free_mass, mass),
        ("soft_lean_mass", m.soft_lean_mass, mass),
        ("body_water_mass", m.body_water_mass, mass),
        ("impedance", m.impedance, TENTH),
        ("weight", m.weight, mass),
        ("height", m.height, HeightResolution::default().step(m.units)),
    ] {
        amount(&mut fields, name, raw, step);
    }
    fields.insert("multiple_packet_measurement".into(), json!(m.multiple_packets));
    Ok(fields.into())
}

pub(super) fn body_composition_feature(octets: &[u8]) -> Decoded {
    let feature = BodyCompositionFeature::decode(octets)?;
    Ok(json!({
        "body_composition_feature": terms(Some(feature.terms())),
        "mass_measurement_resolution": feature.mass_resolution().0,
        "height_measurement_resolution": feature.height_resolution().0,
    }))
}

/// What Xiaomi's scales advertise under the Weight Scale Service.
pub(super) fn advertised_weight(octets: &[u8]) -> Decoded {
    MiScaleData::decode_weight(octets).map(|data| mi_scale(&data))
}

/// What Xiaomi's scales advertise under the Body Composition Service.
pub(super) fn advertised_composition(octets: &[u8]) -> Decoded {
    MiScaleData::decode_composition(octets).map(|data| mi_scale(&data))
}

fn mi_scale(data: &MiScaleData) -> Value {
    let (weight, unit) = data.amount();
    json!({
        "weight": weight.to_string(),
        "unit": unit,
        "time_stamp": data.time.to_string(),
        "impedance": data.impedance,
        "stabilised": data.stabilised,
        "load_removed": data.removed,
    })
}

pub(super) fn current_time(octets: &[u8]) -> Decoded {
    let time = CurrentTime::decode(octets)?;
    let mut fields = date_time(&time.date_time);
    fields["day_of_week"] = json!(time.day_of_week);
    fields["fractions256"] = json!(time.fractions256);
    fields["adjust_reason"] = json!(time.adjust_reason.terms().collect::<Vec<_>>());
    Ok(fields)
}

pub(super) fn battery_level(octets: &[u8]) -> Decoded {
    BatteryLevel::decode(octets).map(|level| json!({ "battery_level": level.0, "low": level.is_low() }))
}

pub(super) fn text(octets: &[u8]) -> Decoded {
    device_information::text(octets).map(|text| json!({ "text": text }))
}

pub(super) fn system_id(octets: &[u8]) -> Decoded {
    SystemId::decode(octets).map(|id| {
        json!({
            "manufacturer_defined": format!("{:010x}", id.manufacturer_defined),
            "organizationally_unique": format!("{:06x}", id.organizationally_unique),
        })
    })
}

pub(super) fn pnp_id(octets: &[u8]) -> Decoded {
    PnpId::decode(octets).map(|id| {
        json!({
            "vendor_id_source": id.vendor_id_source,
            "vendor_id": id.vendor_id,
            "product_id": id.product_id,
            "product_version": id.product_version,
        })
    })
}

const TENTH: Decimal = Decimal::new(1, -1);

fn user(id: Option<UserId>) -> Value {
    json!(id.and_then(UserId::slot))
}

/// So many steps as text; `null` for a measurement that was unsuccessful beside its reason.
fn amount(fields: &mut Map<String, Value>, name: &str, raw: Option<u16>, step: Decimal) {
    let unsuccessful = Number::Special(kit_protocol::reading::Special::NotAvailable);
    number(fields, name, raw.map(|raw| steps(raw, step).map_or(unsuccessful, Number::Finite)));
}
