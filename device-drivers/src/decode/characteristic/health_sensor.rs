//! The characteristics of the Generic Health Sensor and Elapsed Time Services by themselves.

use kit_protocol::gatt::elapsed_time::{CurrentElapsedTime, ElapsedTime};
use kit_protocol::gatt::health_observation::{
    HealthObservation, ObservationStatus, ObservationValue, SampleArray, StoredHealthObservation, Tlv, UnitCode,
};
use kit_protocol::gatt::health_observation_segment::SegmentHeader;
use kit_protocol::gatt::health_sensor_features::{GhsControlPoint, HealthSensorFeatures};
use kit_protocol::json::hex;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reader::{DecodeError, Reader};
use kit_protocol::units;
use serde_json::{Map, Value, json};

use super::{number, term, terms};

/// 0x2B8B: a segment; where it is a whole observation, that too. Without a segment header, an observation by itself.
pub(super) fn live(octets: &[u8]) -> Result<Value, DecodeError> {
    if let Ok(whole) = HealthObservation::decode(octets) {
        return Ok(json!({ "observation": observation(&whole) }));
    }
    segment(octets, |payload| HealthObservation::decode(payload).map(|o| json!({ "observation": observation(&o) })))
}

/// 0x2BDD: as 0x2B8B, with the record's number.
pub(super) fn stored(octets: &[u8]) -> Result<Value, DecodeError> {
    let fields = |stored: &StoredHealthObservation| json!({ "record_number": stored.record, "observation": observation(&stored.observation) });
    if let Ok(whole) = StoredHealthObservation::decode(octets) {
        return Ok(fields(&whole));
    }
    segment(octets, |payload| StoredHealthObservation::decode(payload).map(|stored| fields(&stored)))
}

fn segment(octets: &[u8], whole: impl Fn(&[u8]) -> Result<Value, DecodeError>) -> Result<Value, DecodeError> {
    let mut r = Reader::new(octets);
    let header = SegmentHeader(r.u8("segmentation header")?);
    let mut fields = json!({ "payload": hex(r.rest()) });
    if header.first() && header.last() {
        fields = whole(r.rest())?;
    }
    fields["segmentation_header"] =
        json!({ "first_segment": header.first(), "last_segment": header.last(), "segment_counter": header.counter() });
    Ok(fields)
}

/// 0x2BF2.
pub(super) fn current_elapsed_time(octets: &[u8]) -> Result<Value, DecodeError> {
    let current = CurrentElapsedTime::decode(octets)?;
    let mut fields = elapsed_time(&current.time);
    fields["clock_status"] = json!(current.clock_status);
    fields["clock_needs_to_be_set"] = json!(current.needs_to_be_set());
    fields["clock_capabilities"] = json!(current.clock_capabilities);
    Ok(fields)
}

/// 0x2BF3.
pub(super) fn features(octets: &[u8]) -> Result<Value, DecodeError> {
    let features = HealthSensorFeatures::decode(octets)?;
    let types: Vec<_> = features.observation_types.iter().map(|code| coded(*code)).collect();
    Ok(json!({
        "supported_observation_types": types,
        "supported_device_specializations": features.specializations,
    }))
}

/// 0x2BF4.
pub(super) fn control_point(octets: &[u8]) -> Result<Value, DecodeError> {
    GhsControlPoint::decode(octets).map(|code| json!({ "op_code": term(code.term(), code.0) }))
}

/// `time` is the civil time of the count itself; the zone is beside it.
fn elapsed_time(time: &ElapsedTime) -> Value {
    json!({
        "time_value": time.count,
        "time_resolution": time.resolution().term(),
        "tick_counter": time.is_tick_counter(),
        "utc": time.is_utc(),
        "time": time.civil().map(|civil| civil.to_string()),
        "time_sync_source_type": term(time.source.term(), time.source.0),
        "tz_dst_offset": time.has_offset().then_some(time.offset_quarters),
        "current_timeline": time.on_current_timeline(),
    })
}

fn coded(code: Mdc) -> Value {
    json!({ "code": code.0, "name": code.name() })
}

fn unit(unit: UnitCode) -> Value {
    json!({ "code": unit.code().0, "ucum": units::by_code(unit.code()).map(|known| known.ucum) })
}

/// `length_counts` says how the length field was read: `after-header`, as the standard has it, or `everything`.
fn observation(o: &HealthObservation) -> Value {
    let mut fields = Map::new();
    fields.insert("observation_class_type".into(), json!(o.value.term()));
    fields.insert("length_counts".into(), json!(o.length.term()));
    fields.insert("observation_type".into(), json!(o.observation_type.map(coded)));
    fields.insert("time_stamp".into(), json!(o.time.as_ref().map(elapsed_time)));
    if o.duration.is_some() {
        number(&mut fields, "measurement_duration", o.duration);
    }
    let mut optional = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.into(), value);
        }
    };
    optional("measurement_status", o.status.map(|status| terms(Some(ObservationStatus::terms(status)))));
    optional("object_id", o.id.map(Value::from));
    optional("patient", o.patient.map(Value::from));
    let codes = |codes: &Vec<u32>| codes.iter().map(|code| coded(Mdc(*code))).collect::<Vec<_>>().into();
    optional("supplemental_information", o.supplemental.as_ref().map(codes));
    optional("derived_from", o.derived_from.as_ref().map(|ids| json!(ids)));
    optional("has_member", o.has_member.as_ref().map(|ids| json!(ids)));
    optional("tlvs", o.attributes.as_ref().map(|attributes| tlvs(attributes)));
    fields.insert("value".into(), value(&o.value));
    fields.into()
}

fn value(of: &ObservationValue) -> Value {
    match of {
        ObservationValue::Numeric(numeric) => {
            let mut fields = Map::new();
            fields.insert("unit".into(), unit(numeric.unit));
            number(&mut fields, "value", Some(numeric.number));
            fields.into()
        }
        ObservationValue::Discrete(code) => coded(Mdc(*code)),
        ObservationValue::Text(text) => json!(text),
        ObservationValue::SampleArray(array) => sample_array(array),
        ObservationValue::DiscreteEvents(events) => events.iter().map(|code| coded(Mdc(*code))).collect::<Vec<_>>().into(),
        ObservationValue::StateEvents(events) => json!({
            "supported_mask_bits": hex(&events.supported),
            "state_or_event_mask_bits": hex(&events.is_state),
            "bits": hex(&events.bits),
        }),
        ObservationValue::Compound(components) => {
            let component = |component: &kit_protocol::gatt::health_observation::Component| {
                json!({
                    "component_type": coded(component.code),
                    "component_class": component.value.term(),
                    "value": value(&component.value),
                })
            };
            components.iter().map(component).collect::<Vec<_>>().into()
        }
        ObservationValue::Tlvs(list) => tlvs(list),
        ObservationValue::Bundle(members) => members.iter().map(observation).collect::<Vec<_>>().into(),
    }
}

fn sample_array(array: &SampleArray) -> Value {
    let mut fields = Map::new();
    fields.insert("unit".into(), unit(array.unit));
    number(&mut fields, "scale_factor", Some(array.scale));
    number(&mut fields, "offset", Some(array.offset));
    number(&mut fields, "sample_period", Some(array.period));
    fields.insert("samples_per_period".into(), json!(array.samples_per_period));
    fields.insert("bytes_per_sample".into(), json!(array.octets_per_sample));
    fields.insert("number_of_samples".into(), json!(array.len()));
    fields.insert("samples".into(), array.samples().collect::<Vec<_>>().into());
    fields.into()
}

fn tlvs(list: &[Tlv]) -> Value {
    let tlv = |tlv: &Tlv| json!({ "type": coded(tlv.code), "format_type": tlv.format, "value": hex(&tlv.octets) });
    list.iter().map(tlv).collect::<Vec<_>>().into()
}
