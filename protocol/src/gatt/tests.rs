//! The captured and derived vectors of the characteristics, run both ways, and what must be refused.

mod glucose;
mod health_sensor;
mod vitals;

use proptest::prelude::*;

use super::date_time::DateTime;
use super::plx_continuous::{PlxContinuousMeasurement, Spo2PulseRate};
use super::plx_features::{PlxFeatures, SupportedFeatures};
use super::plx_spot_check::PlxSpotCheckMeasurement;
use super::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use super::racp::{Bound, Count, OpCode, Request, Response, ResponseCode, Selection};
use crate::mder::{Number, sfloat};
use crate::promises::every_other_length_is_refused;
use crate::reading::Status;
use crate::vectors::{hex, vectors};

fn number(number: Number) -> String {
    match number {
        Number::Finite(decimal) => decimal.to_string(),
        Number::Special(special) => format!("{special:?}"),
    }
}

fn joined(terms: Option<impl Iterator<Item = Status>>) -> String {
    terms.map_or_else(|| "-".into(), |terms| terms.collect::<Vec<_>>().join(","))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

fn spot_check(m: &PlxSpotCheckMeasurement) -> String {
    format!(
        "spo2={} pulse_rate={} time={} status={} sensor={} index={} clock-not-set={}",
        number(m.spo2),
        number(m.pulse_rate),
        or_dash(m.time_stamp.map(|time| time.to_string())),
        joined(m.measurement_status.map(MeasurementStatus::terms)),
        joined(m.device_and_sensor_status.map(DeviceAndSensorStatus::terms)),
        or_dash(m.pulse_amplitude_index.map(number)),
        m.device_clock_not_set,
    )
}

fn continuous(m: &PlxContinuousMeasurement) -> String {
    let pair = |pair: Spo2PulseRate| format!("{}/{}", number(pair.spo2), number(pair.pulse_rate));
    format!(
        "normal={} fast={} slow={} status={} sensor={} index={}",
        pair(m.normal),
        or_dash(m.fast.map(pair)),
        or_dash(m.slow.map(pair)),
        joined(m.measurement_status.map(MeasurementStatus::terms)),
        joined(m.device_and_sensor_status.map(DeviceAndSensorStatus::terms)),
        or_dash(m.pulse_amplitude_index.map(number)),
    )
}

fn request(request: &Request) -> String {
    let op_code = match request.op_code {
        OpCode::REPORT => "REPORT".into(),
        OpCode::DELETE => "DELETE".into(),
        OpCode::ABORT => "ABORT".into(),
        OpCode::REPORT_NUMBER => "REPORT_NUMBER".into(),
        OpCode(other) => other.to_string(),
    };
    let bound = |bound: &Bound| match bound {
        Bound::UserFacingTime(time) => format!("UserFacingTime({time})"),
        number => format!("{number:?}"),
    };
    let selection = match &request.selection {
        Selection::LessThanOrEqual(to) => format!("LessThanOrEqual({})", bound(to)),
        Selection::GreaterThanOrEqual(from) => format!("GreaterThanOrEqual({})", bound(from)),
        Selection::WithinRange(low, high) => format!("WithinRange({}, {})", bound(low), bound(high)),
        Selection::Other { operator, operand } => format!("Other({operator}, {})", hex(operand)),
        plain => format!("{plain:?}"),
    };
    format!("{op_code} {selection}")
}

fn response(response: &Response) -> String {
    let or_number = |term: Option<&'static str>, code: u8| term.map_or_else(|| code.to_string(), Into::into);
    match response {
        Response::NumberOfStoredRecords(count) => format!("number {}", count.number()),
        Response::CombinedReport(count) => format!("combined {}", count.number()),
        Response::Code { request, code } => {
            format!("{} {}", or_number(request.term(), request.0), or_number(code.term(), code.0))
        }
    }
}

#[test]
fn plx_spot_checks_decode_and_encode() {
    for v in vectors(include_str!("../../vectors/plx_spot_check.txt")) {
        let decoded = PlxSpotCheckMeasurement::decode(&v.octets).expect(v.id);
        assert_eq!(spot_check(&decoded), v.expected, "{}", v.id);
        assert_eq!(decoded.encode().as_deref(), Some(&*v.octets), "{}", v.id);
        every_other_length_is_refused(&v.octets, PlxSpotCheckMeasurement::decode);
    }
}

#[test]
fn plx_continuous_measurements_decode_and_encode() {
    for v in vectors(include_str!("../../vectors/plx_continuous.txt")) {
        let decoded = PlxContinuousMeasurement::decode(&v.octets).expect(v.id);
        assert_eq!(continuous(&decoded), v.expected, "{}", v.id);
        assert_eq!(decoded.encode().as_deref(), Some(&*v.octets), "{}", v.id);
        every_other_length_is_refused(&v.octets, PlxContinuousMeasurement::decode);
    }
}

#[test]
fn plx_features_decode_and_encode() {
    for v in vectors(include_str!("../../vectors/plx_features.txt")) {
        let decoded = PlxFeatures::decode(&v.octets).expect(v.id);
        let text = format!(
            "{:04x} {} {}",
            decoded.supported_features.0,
            or_dash(decoded.measurement_status_support.map(|status| format!("{:04x}", status.0))),
            or_dash(decoded.device_and_sensor_status_support.map(|status| format!("{:06x}", status.0))),
        );
        assert_eq!(text, v.expected, "{}", v.id);
        assert_eq!(decoded.encode(), v.octets, "{}", v.id);
        every_other_length_is_refused(&v.octets, PlxFeatures::decode);
    }
}

#[test]
fn racp_responses_decode_and_encode() {
    for v in vectors(include_str!("../../vectors/racp_responses.txt")) {
        match Response::decode(&v.octets) {
            Ok(decoded) => {
                assert_eq!(response(&decoded), v.expected, "{}", v.id);
                assert_eq!(decoded.encode(), v.octets, "{}", v.id);
                assert!(Request::decode(&v.octets).is_err(), "{}: a response is no request", v.id);
            }
            Err(_) => assert_eq!(v.expected, "invalid", "{}", v.id),
        }
    }
}

#[test]
fn racp_requests_decode_and_encode() {
    for v in vectors(include_str!("../../vectors/racp_requests.txt")) {
        match Request::decode(&v.octets) {
            Ok(decoded) => {
                assert_eq!(request(&decoded), v.expected, "{}", v.id);
                assert_eq!(decoded.encode(), v.octets, "{}", v.id);
                assert!(Response::decode(&v.octets).is_err(), "{}: a request is no response", v.id);
            }
            Err(_) => assert_eq!(v.expected, "invalid", "{}", v.id),
        }
    }
}

/// Vector B12: a cuff that departs from the standard shows itself by an octet that is left over.
#[test]
fn octets_that_a_reserved_flag_may_announce_are_let_pass() {
    let value = [0x20, 0x61, 0x00, 0x48, 0x00, 0xaa, 0xbb];
    assert!(PlxContinuousMeasurement::decode(&value).is_ok());
    assert!(PlxSpotCheckMeasurement::decode(&value).is_ok());
}

#[test]
fn a_number_that_fits_no_sfloat_is_not_encoded() {
    let measurement = PlxContinuousMeasurement {
        normal: Spo2PulseRate { spo2: Number::Finite(crate::decimal::Decimal::new(97_125, -3)), pulse_rate: sfloat(72) },
        fast: None,
        slow: None,
        measurement_status: None,
        device_and_sensor_status: None,
        pulse_amplitude_index: None,
    };
    assert_eq!(measurement.encode(), None);
}

fn date_times() -> impl Strategy<Value = DateTime> {
    (0..=9999_u16, 0..=12_u8, 0..=31_u8, 0..=23_u8, 0..=59_u8, 0..=59_u8)
        .prop_map(|(year, month, day, hour, minute, second)| DateTime { year, month, day, hour, minute, second })
}

fn measurement_statuses() -> impl Strategy<Value = Option<MeasurementStatus>> {
    proptest::option::of(any::<u16>().prop_map(MeasurementStatus))
}

fn sensor_statuses() -> impl Strategy<Value = Option<DeviceAndSensorStatus>> {
    proptest::option::of((0..1_u32 << 24).prop_map(DeviceAndSensorStatus))
}

fn pairs() -> impl Strategy<Value = Spo2PulseRate> {
    (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Spo2PulseRate { spo2: sfloat(a), pulse_rate: sfloat(b) })
}

fn bounds() -> impl Strategy<Value = Bound> {
    prop_oneof![
        any::<u16>().prop_map(Bound::SequenceNumber),
        any::<u32>().prop_map(Bound::RecordNumber),
        date_times().prop_map(Bound::UserFacingTime),
    ]
}

fn ranges() -> impl Strategy<Value = (Bound, Bound)> {
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(a, b)| (Bound::SequenceNumber(a), Bound::SequenceNumber(b))),
        any::<(u32, u32)>().prop_map(|(a, b)| (Bound::RecordNumber(a), Bound::RecordNumber(b))),
        (date_times(), date_times()).prop_map(|(a, b)| (Bound::UserFacingTime(a), Bound::UserFacingTime(b))),
    ]
}

fn selections() -> impl Strategy<Value = Selection> {
    prop_oneof![
        Just(Selection::Null),
        Just(Selection::All),
        Just(Selection::First),
        Just(Selection::Last),
        bounds().prop_map(Selection::LessThanOrEqual),
        bounds().prop_map(Selection::GreaterThanOrEqual),
        ranges().prop_map(|(low, high)| Selection::WithinRange(low, high)),
        (7_u8.., any::<Vec<u8>>()).prop_map(|(operator, operand)| Selection::Other { operator, operand }),
    ]
}

fn counts() -> impl Strategy<Value = Count> {
    prop_oneof![any::<u8>().prop_map(Count::U8), any::<u16>().prop_map(Count::U16), any::<u32>().prop_map(Count::U32)]
}

proptest! {
    #[test]
    fn spot_checks_survive_the_way_there_and_back(
        pair in pairs(), time_stamp in proptest::option::of(date_times()), measurement_status in measurement_statuses(),
        device_and_sensor_status in sensor_statuses(), index in proptest::option::of(any::<u16>()), unset: bool,
    ) {
        let measurement = PlxSpotCheckMeasurement {
            spo2: pair.spo2, pulse_rate: pair.pulse_rate, time_stamp, measurement_status, device_and_sensor_status,
            pulse_amplitude_index: index.map(sfloat), device_clock_not_set: unset,
        };
        let octets = measurement.encode().expect("every SFLOAT encodes");
        prop_assert!(octets.len() <= PlxSpotCheckMeasurement::OCTETS_MAX);
        prop_assert_eq!(PlxSpotCheckMeasurement::decode(&octets), Ok(measurement));
    }

    #[test]
    fn continuous_measurements_survive_the_way_there_and_back(
        normal in pairs(), fast in proptest::option::of(pairs()), slow in proptest::option::of(pairs()),
        measurement_status in measurement_statuses(), device_and_sensor_status in sensor_statuses(),
        index in proptest::option::of(any::<u16>()),
    ) {
        let measurement = PlxContinuousMeasurement {
            normal, fast, slow, measurement_status, device_and_sensor_status, pulse_amplitude_index: index.map(sfloat),
        };
        let octets = measurement.encode().expect("every SFLOAT encodes");
        prop_assert!(octets.len() <= PlxContinuousMeasurement::OCTETS_MAX);
        prop_assert_eq!(PlxContinuousMeasurement::decode(&octets), Ok(measurement));
    }

    #[test]
    fn features_survive_the_way_there_and_back(
        bits: u16, measurement_status_support in measurement_statuses(), device_and_sensor_status_support in sensor_statuses(),
    ) {
        let bits = (bits & !3) | u16::from(measurement_status_support.is_some())
            | u16::from(device_and_sensor_status_support.is_some()) << 1;
        let features = PlxFeatures {
            supported_features: SupportedFeatures(bits), measurement_status_support, device_and_sensor_status_support,
        };
        prop_assert_eq!(PlxFeatures::decode(&features.encode()), Ok(features));
    }

    #[test]
    fn racp_requests_survive_the_way_there_and_back(op_code in 0..=4_u8, selection in selections()) {
        let request = Request { op_code: OpCode(op_code), selection };
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn racp_responses_survive_the_way_there_and_back(request: u8, code: u8, count in counts()) {
        for response in [
            Response::Code { request: OpCode(request), code: ResponseCode(code) },
            Response::NumberOfStoredRecords(count),
            Response::CombinedReport(count),
        ] {
            prop_assert_eq!(Response::decode(&response.encode()), Ok(response));
        }
    }

    #[test]
    fn no_input_panics(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = PlxSpotCheckMeasurement::decode(&octets);
        let _ = PlxContinuousMeasurement::decode(&octets);
        let _ = PlxFeatures::decode(&octets);
        let _ = Request::decode(&octets);
        let _ = Response::decode(&octets);
        let _ = DateTime::decode(&octets);
    }
}
