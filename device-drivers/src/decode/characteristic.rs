//! One characteristic by itself, with its fields as the standard names them.

mod glucose;
mod health_sensor;
mod vitals;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::plx_continuous::{PlxContinuousMeasurement, Spo2PulseRate};
use kit_protocol::gatt::plx_features::{PlxFeatures, SupportedFeatures};
use kit_protocol::gatt::plx_spot_check::PlxSpotCheckMeasurement;
use kit_protocol::gatt::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use kit_protocol::gatt::racp::{Bound, OpCode, Request, Response, Selection};
use kit_protocol::json::{ValueLine, hex};
use kit_protocol::mder::Number;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reader::DecodeError;
use kit_protocol::reading::{Status, Value as ReadingValue};
use kit_protocol::serial::nonin_3230;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::driver::bluetooth;
use crate::oximeter_nonin;

type Decoder = fn(&[u8]) -> Result<Value, DecodeError>;

/// Every characteristic that is decoded by itself.
const DECODERS: &[(u16, Decoder)] = &[
    (0x181b, vitals::advertised_composition),
    (0x181d, vitals::advertised_weight),
    (0x2a00, vitals::text),
    (0x2a08, |octets| DateTime::decode(octets).map(|time| date_time(&time))),
    (0x2a18, glucose::measurement),
    (0x2a19, vitals::battery_level),
    (0x2a1c, vitals::temperature),
    (0x2a1d, vitals::temperature_type),
    (0x2a1e, vitals::temperature),
    (0x2a21, vitals::measurement_interval),
    (0x2a23, vitals::system_id),
    (0x2a24, vitals::text),
    (0x2a25, vitals::text),
    (0x2a26, vitals::text),
    (0x2a27, vitals::text),
    (0x2a28, vitals::text),
    (0x2a29, vitals::text),
    (0x2a2b, vitals::current_time),
    (0x2a34, glucose::context),
    (0x2a35, vitals::blood_pressure),
    (0x2a36, vitals::cuff_pressure),
    (0x2a37, vitals::heart_rate),
    (0x2a38, vitals::body_sensor_location),
    (0x2a49, vitals::blood_pressure_feature),
    (0x2a50, vitals::pnp_id),
    (0x2a51, glucose::feature),
    (0x2a52, control_point),
    (0x2a5e, |octets| PlxSpotCheckMeasurement::decode(octets).map(|m| spot_check(&m))),
    (0x2a5f, |octets| PlxContinuousMeasurement::decode(octets).map(|m| continuous(&m))),
    (0x2a60, |octets| PlxFeatures::decode(octets).map(|features| plx_features(&features))),
    (0x2a9b, vitals::body_composition_feature),
    (0x2a9c, vitals::body_composition),
    (0x2a9d, vitals::weight),
    (0x2a9e, vitals::weight_scale_feature),
    (0x2b8b, health_sensor::live),
    (0x2bdd, health_sensor::stored),
    (0x2bf2, health_sensor::current_elapsed_time),
    (0x2bf3, health_sensor::features),
    (0x2bf4, health_sensor::control_point),
];

/// Makers' own characteristics that are decoded by themselves.
const OF_MAKERS: &[(Uuid, Decoder)] =
    &[(oximeter_nonin::CONTINUOUS_OXIMETRY, |octets| nonin_3230::Oximetry::decode(octets).map(|m| nonin_oximetry(&m)))];

/// The decoder of a characteristic; `None` where the project has none.
pub(super) fn decoder(characteristic: Uuid) -> Option<Decoder> {
    if let Some((_, decoder)) = OF_MAKERS.iter().find(|(uuid, _)| *uuid == characteristic) {
        return Some(*decoder);
    }
    DECODERS.iter().find(|(number, _)| bluetooth(*number) == characteristic).map(|(_, decoder)| *decoder)
}

/// Every characteristic that is decoded by itself.
pub(super) fn all() -> impl Iterator<Item = Uuid> {
    DECODERS.iter().map(|(number, _)| bluetooth(*number)).chain(OF_MAKERS.iter().map(|(uuid, _)| *uuid))
}

/// The numbers of all that are decoded, for the message of wrong use.
pub(super) fn known() -> String {
    let of_makers = OF_MAKERS.iter().map(|(uuid, _)| uuid.to_string());
    DECODERS.iter().map(|(number, _)| format!("{number:04x}")).chain(of_makers).collect::<Vec<_>>().join(", ")
}

fn nonin_oximetry(m: &nonin_3230::Oximetry) -> Value {
    json!({
        "spo2": m.spo2,
        "pulse_rate": m.pulse_rate,
        "pulse_amplitude_index": Decimal::new(m.pulse_amplitude_index.into(), -2).to_string(),
        "counter": m.counter,
        "battery_voltage": Decimal::new(m.battery.into(), -1).to_string(),
        "status": m.terms().collect::<Vec<_>>(),
    })
}

fn spot_check(m: &PlxSpotCheckMeasurement) -> Value {
    let mut fields = Map::new();
    number(&mut fields, "spo2", Some(m.spo2));
    number(&mut fields, "pulse_rate", Some(m.pulse_rate));
    fields.insert("time_stamp".into(), json!(m.time_stamp.map(|time| time.to_string())));
    statuses(&mut fields, m.measurement_status, m.device_and_sensor_status);
    number(&mut fields, "pulse_amplitude_index", m.pulse_amplitude_index);
    fields.insert("device_clock_not_set".into(), json!(m.device_clock_not_set));
    fields.into()
}

/// `spo2` and `pulse_rate` are the standard's SpO2PR-Normal.
fn continuous(m: &PlxContinuousMeasurement) -> Value {
    let mut fields = pair(m.normal);
    fields.insert("spo2pr_fast".into(), json!(m.fast.map(pair)));
    fields.insert("spo2pr_slow".into(), json!(m.slow.map(pair)));
    statuses(&mut fields, m.measurement_status, m.device_and_sensor_status);
    number(&mut fields, "pulse_amplitude_index", m.pulse_amplitude_index);
    fields.into()
}

fn pair(pair: Spo2PulseRate) -> Map<String, Value> {
    let mut fields = Map::new();
    number(&mut fields, "spo2", Some(pair.spo2));
    number(&mut fields, "pulse_rate", Some(pair.pulse_rate));
    fields
}

/// The exact decimal as text; a special value is `null` beside its reason, as in a reading.
fn number(fields: &mut Map<String, Value>, name: &str, number: Option<Number>) {
    let line = number.map(|number| ValueLine::new(&ReadingValue { code: Mdc(0), quantity: number.into(), unit: "" }));
    let (value, absent) = line.map_or((None, None), |line| (line.value, line.absent));
    fields.insert(name.into(), json!(value));
    if let Some(reason) = absent {
        fields.insert(format!("{name}_absent"), json!(reason));
    }
}

fn terms(terms: Option<impl Iterator<Item = Status>>) -> Value {
    json!(terms.map(Iterator::collect::<Vec<_>>))
}

fn statuses(fields: &mut Map<String, Value>, measurement: Option<MeasurementStatus>, sensor: Option<DeviceAndSensorStatus>) {
    fields.insert("measurement_status".into(), terms(measurement.map(MeasurementStatus::terms)));
    fields.insert("device_and_sensor_status".into(), terms(sensor.map(DeviceAndSensorStatus::terms)));
}

fn plx_features(features: &PlxFeatures) -> Value {
    json!({
        "supported_features": terms(Some(SupportedFeatures::terms(features.supported_features))),
        "measurement_status_support": terms(features.measurement_status_support.map(MeasurementStatus::terms)),
        "device_and_sensor_status_support": terms(features.device_and_sensor_status_support.map(DeviceAndSensorStatus::terms)),
    })
}

fn date_time(time: &DateTime) -> Value {
    let DateTime { year, month, day, hour, minute, second } = time;
    json!({
        "date_time": time.to_string(),
        "year": year, "month": month, "day": day, "hours": hour, "minutes": minute, "seconds": second,
    })
}

/// A request or a response, which its op code tells.
fn control_point(octets: &[u8]) -> Result<Value, DecodeError> {
    if octets.first().is_some_and(|code| OpCode(*code).is_response()) {
        return Response::decode(octets).map(|response| racp_response(&response));
    }
    Request::decode(octets).map(|request| racp_request(&request))
}

fn term(term: Option<&'static str>, code: u8) -> Value {
    term.map_or(json!(code), |term| json!(term))
}

fn racp_request(request: &Request) -> Value {
    let operand = match &request.selection {
        Selection::Null | Selection::All | Selection::First | Selection::Last => Value::Null,
        Selection::LessThanOrEqual(bound) => filter(bound, "maximum", bound),
        Selection::GreaterThanOrEqual(bound) => filter(bound, "minimum", bound),
        Selection::WithinRange(low, high) => {
            let mut fields = filter(low, "minimum", low);
            fields["maximum"] = filter(high, "maximum", high)["maximum"].take();
            fields
        }
        Selection::Other { operand, .. } => json!(hex(operand)),
    };
    json!({
        "op_code": term(request.op_code.term(), request.op_code.0),
        "operator": term(request.selection.term(), request.selection.operator()),
        "operand": operand,
    })
}

fn filter(bound: &Bound, name: &str, value: &Bound) -> Value {
    let filter_type = if matches!(bound, Bound::UserFacingTime(_)) { "user-facing-time" } else { "sequence-number" };
    let value = match value {
        Bound::SequenceNumber(number) => json!(number),
        Bound::RecordNumber(number) => json!(number),
        Bound::UserFacingTime(time) => json!(time.to_string()),
    };
    json!({ "filter_type": filter_type, name: value })
}

fn racp_response(response: &Response) -> Value {
    let op_code = match response {
        Response::NumberOfStoredRecords(_) => OpCode::NUMBER_RESPONSE,
        Response::Code { .. } => OpCode::RESPONSE,
        Response::CombinedReport(_) => OpCode::COMBINED_REPORT_RESPONSE,
    };
    let mut fields = json!({ "op_code": op_code.term(), "operator": "null" });
    match response {
        Response::NumberOfStoredRecords(count) | Response::CombinedReport(count) => {
            fields["number_of_records"] = json!(count.number());
        }
        Response::Code { request, code } => {
            fields["request_op_code"] = term(request.term(), request.0);
            fields["response_code_value"] = term(code.term(), code.0);
        }
    }
    fields
}
