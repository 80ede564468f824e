use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::plx_continuous::PlxContinuousMeasurement;
use kit_protocol::gatt::plx_features::PlxFeatures;
use kit_protocol::gatt::plx_spot_check::PlxSpotCheckMeasurement;
use kit_protocol::gatt::plx_status::MeasurementStatus;
use kit_protocol::gatt::racp::{Count, OpCode, Request, Response, ResponseCode, Selection};
use kit_protocol::mder::Number;

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::link::gatt::{POLL_PERIOD, Peripheral};

/// The other end of the air, in virtual time: it polls as a link does and confirms every indication at once.
struct Central {
    device: Oximeter,
    now: Moment,
    confirms: bool,
    spot_checks: Vec<PlxSpotCheckMeasurement>,
    continuous: Vec<PlxContinuousMeasurement>,
    responses: Vec<Response>,
    battery: Vec<u8>,
}

impl Central {
    fn new(seed: u64, scenario: &str, truth: Truth) -> Self {
        let device = Oximeter::new(seed, &Scenario::parse(scenario).unwrap(), truth);
        let now = Moment::from_nanos(3_000_000_000);
        let (spot_checks, continuous, responses, battery) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { device, now, confirms: true, spot_checks, continuous, responses, battery }
    }

    /// Waits until the device advertises, and connects.
    fn connect(&mut self) {
        for _ in 0..10_000 {
            self.now = self.now + POLL_PERIOD;
            if self.device.advertising(self.now).is_some() {
                self.device.connected(self.now);
                return;
            }
        }
        panic!("it never advertises");
    }

    fn subscribe(&mut self, number: u16) {
        self.device.subscribed(self.now, bluetooth(number), true);
    }

    fn ask(&mut self, request: &Request) -> Result<(), AttError> {
        self.device.write(self.now, bluetooth(CONTROL_POINT), &request.encode())
    }

    /// Takes what comes for so long; true if the device hung up meanwhile.
    fn listen(&mut self, milliseconds: u64) -> bool {
        let until = self.now + Duration::from_millis(milliseconds);
        while self.now < until {
            self.now = self.now + POLL_PERIOD;
            while let Some(outgoing) = self.device.poll(self.now) {
                self.take(&outgoing);
                if outgoing.confirmed {
                    if !self.confirms || self.device.wants_disconnect(self.now) {
                        break;
                    }
                    self.device.confirmed(self.now, outgoing.characteristic);
                }
            }
            if self.device.wants_disconnect(self.now) {
                self.device.disconnected(self.now);
                return true;
            }
        }
        false
    }

    fn take(&mut self, outgoing: &Outgoing) {
        match number(outgoing.characteristic) {
            SPOT_CHECK => self.spot_checks.push(PlxSpotCheckMeasurement::decode(&outgoing.value).unwrap()),
            CONTINUOUS => self.continuous.push(PlxContinuousMeasurement::decode(&outgoing.value).unwrap()),
            CONTROL_POINT => self.responses.push(Response::decode(&outgoing.value).unwrap()),
            BATTERY_LEVEL => self.battery.extend(&outgoing.value),
            other => panic!("{other:04x}"),
        }
    }
}

fn code(request: OpCode, code: ResponseCode) -> Response {
    Response::Code { request, code }
}

fn decimal(number: Number) -> Decimal {
    match number {
        Number::Finite(decimal) => decimal,
        Number::Special(special) => panic!("{special:?}"),
    }
}

fn from_storage(measurement: &PlxSpotCheckMeasurement) -> bool {
    measurement.measurement_status.unwrap().contains(MeasurementStatus::FROM_STORAGE)
}

/// Truth lines: device time and whether delivered.
fn truth_lines(file: &std::path::Path) -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(file).unwrap();
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["reading"]["kind"], "pulse-oximetry");
        assert!(value["boottime_ns"].as_u64().unwrap() >= value["measured_ns"].as_u64().unwrap());
        (value["reading"]["device_time"].as_str().unwrap().to_owned(), value["delivered"].as_bool().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn a_spot_check_is_indicated_with_the_patients_values() {
    for seed in 0..10 {
        let mut central = Central::new(seed, "", Truth::none());
        central.connect();
        central.subscribe(SPOT_CHECK);
        central.listen(500);
        let [spot] = central.spot_checks[..] else { panic!("{} spot checks", central.spot_checks.len()) };
        let vitals = Patient::new(seed).vitals(5.0);
        let spo2 = decimal(spot.spo2).to_f64();
        assert!((spo2 - vitals.spo2).abs() <= 2.0, "seed {seed}: {spo2} %, not {}", vitals.spo2);
        let patient = Patient::new(seed);
        let mean_pulse = (patient.beats(7.5) - patient.beats(2.0)) / 5.5 * 60.0;
        let pulse = decimal(spot.pulse_rate).to_f64();
        assert!((pulse - mean_pulse).abs() <= 3.0, "seed {seed}: {pulse}/min, not {mean_pulse}");
        let perfusion = decimal(spot.pulse_amplitude_index.unwrap());
        assert_eq!(perfusion.exponent, -1);
        assert!(!from_storage(&spot) && !spot.device_clock_not_set && spot.time_stamp.unwrap().date_known());
    }
}

#[test]
fn stored_records_are_reported_as_stored_and_equal_otherwise() {
    let mut central = Central::new(1, "", Truth::none());
    for _ in 0..3 {
        central.connect();
        central.subscribe(SPOT_CHECK);
        assert!(central.listen(6_000), "it hangs up when idle");
    }
    let live = std::mem::take(&mut central.spot_checks);
    assert_eq!(live.len(), 3);
    central.connect();
    central.subscribe(CONTROL_POINT);
    central.subscribe(SPOT_CHECK);
    central.ask(&Request::REPORT_NUMBER_OF_ALL).unwrap();
    central.listen(200);
    assert_eq!(central.responses, [Response::NumberOfStoredRecords(Count::U16(4))]);
    central.spot_checks.clear();
    central.ask(&Request::REPORT_ALL).unwrap();
    central.listen(1_000);
    assert_eq!(central.responses[1], code(OpCode::REPORT, ResponseCode::SUCCESS));
    assert!(central.spot_checks.iter().all(from_storage));
    let stored: Vec<_> = central
        .spot_checks
        .iter()
        .map(|spot| PlxSpotCheckMeasurement { measurement_status: Some(MeasurementStatus::FULLY_QUALIFIED), ..*spot })
        .collect();
    assert_eq!(stored[..3], live);
    assert_eq!(stored.len(), 4);
    central.ask(&Request::DELETE_ALL).unwrap();
    central.listen(200);
    central.ask(&Request::REPORT_ALL).unwrap();
    central.listen(200);
    assert_eq!(central.responses[2], code(OpCode::DELETE, ResponseCode::SUCCESS));
    assert_eq!(central.responses[3], code(OpCode::REPORT, ResponseCode::NO_RECORDS_FOUND));
}

#[test]
fn the_control_point_refuses_as_the_standard_says() {
    let mut central = Central::new(1, "", Truth::none());
    central.connect();
    assert_eq!(central.ask(&Request::REPORT_ALL), Err(AttError::NotSubscribed));
    central.subscribe(CONTROL_POINT);
    assert_eq!(central.ask(&Request::REPORT_ALL), Err(AttError::NotSubscribed), "the measurement's own subscription is missing");
    central.subscribe(SPOT_CHECK);
    for (request, expected) in [
        (Request { op_code: OpCode::REPORT, selection: Selection::Last }, ResponseCode::OPERATOR_NOT_SUPPORTED),
        (Request { op_code: OpCode::REPORT, selection: Selection::Null }, ResponseCode::INVALID_OPERATOR),
        (Request { op_code: OpCode(9), selection: Selection::All }, ResponseCode::OP_CODE_NOT_SUPPORTED),
        (Request::ABORT, ResponseCode::SUCCESS),
    ] {
        central.responses.clear();
        central.ask(&request).unwrap();
        central.listen(100);
        assert_eq!(central.responses, [code(request.op_code, expected)]);
    }
    assert_eq!(central.device.write(central.now, bluetooth(CONTROL_POINT), &[]), Err(AttError::InvalidLength));
    central.ask(&Request::REPORT_ALL).unwrap();
    assert_eq!(central.ask(&Request::REPORT_NUMBER_OF_ALL), Err(AttError::ProcedureInProgress));
    central.ask(&Request::ABORT).unwrap();
    central.responses.clear();
    central.listen(100);
    assert_eq!(central.responses, [code(OpCode::ABORT, ResponseCode::SUCCESS)], "an aborted report has no response of its own");
}

#[test]
fn continuous_values_come_each_second_while_it_measures_on_an_open_link() {
    let mut central = Central::new(1, "", Truth::none());
    central.connect();
    central.subscribe(CONTINUOUS);
    // A link that reads now and then stays up until the next measurement.
    for _ in 0..15 {
        central.listen(2_000);
        assert!(central.device.read(central.now, bluetooth(BATTERY_LEVEL)).is_ok());
    }
    assert!((7..=16).contains(&central.continuous.len()), "{}", central.continuous.len());
    let last = central.continuous.last().unwrap();
    assert!(last.measurement_status.unwrap().contains(MeasurementStatus::ONGOING));
    assert!((decimal(last.normal.spo2).to_f64() - Patient::new(1).vitals(25.0).spo2).abs() <= 2.0);
    let first = central.continuous[0];
    assert!(first.measurement_status.unwrap().contains(MeasurementStatus::UNAVAILABLE), "no pulse is found in one second");
}

#[test]
fn truth_says_what_was_confirmed_and_what_never_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("truth");
    let mut central = Central::new(1, "", Truth::to(&file).unwrap());
    central.connect();
    central.subscribe(SPOT_CHECK);
    central.listen(6_000);
    // The second one meets a link whose confirmations get lost.
    central.confirms = false;
    central.connect();
    central.subscribe(SPOT_CHECK);
    central.listen(6_000);
    let times: Vec<String> = central.spot_checks.iter().map(|spot| spot.time_stamp.unwrap().to_string()).collect();
    assert_eq!(truth_lines(&file), [(times[0].clone(), true)]);
    drop(central);
    assert_eq!(truth_lines(&file), [(times[0].clone(), true), (times[1].clone(), false)]);
}

#[test]
fn a_record_cut_off_by_a_disconnect_is_reported_from_memory_at_the_next_link() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("truth");
    let mut central = Central::new(1, "at=1 fault=disconnect", Truth::to(&file).unwrap());
    central.connect();
    central.subscribe(SPOT_CHECK);
    assert!(central.listen(1_000), "it hangs up with the record");
    assert_eq!(central.spot_checks.len(), 1);
    assert_eq!(truth_lines(&file), []);
    central.connect();
    central.subscribe(CONTROL_POINT);
    central.subscribe(SPOT_CHECK);
    central.ask(&Request::REPORT_ALL).unwrap();
    central.listen(500);
    assert!(truth_lines(&file).iter().any(|(_, delivered)| *delivered));
    assert_eq!(truth_lines(&file)[0].0, central.spot_checks[0].time_stamp.unwrap().to_string());
}

#[test]
fn a_confirmed_record_may_come_twice() {
    let mut central = Central::new(1, "at=9.5 fault=duplicate", Truth::none());
    central.connect();
    central.subscribe(SPOT_CHECK);
    central.listen(2_500);
    assert_eq!(central.spot_checks.len(), 2);
    assert_eq!(central.spot_checks[0], central.spot_checks[1]);
}

#[test]
fn clock_battery_and_finger_go_wrong_as_the_scenario_says() {
    let scenario = "at=0 fault=clock unset=1\nat=10 fault=battery percent=9\nat=18 fault=sensor-off for=20";
    let mut central = Central::new(1, scenario, Truth::none());
    central.connect();
    central.subscribe(SPOT_CHECK);
    central.subscribe(BATTERY_LEVEL);
    central.listen(6_000);
    let spot = central.spot_checks[0];
    assert!(spot.device_clock_not_set);
    assert_eq!(spot.time_stamp.unwrap().year, 2000);
    assert_eq!(central.battery, [9]);
    // The second measurement finds no finger: it advertises without a record.
    central.connect();
    central.subscribe(SPOT_CHECK);
    central.listen(1_000);
    assert_eq!(central.spot_checks.len(), 1);
}

#[test]
fn a_reboot_keeps_the_memory() {
    let mut central = Central::new(1, "at=30 fault=reboot for=3", Truth::none());
    central.connect();
    central.subscribe(SPOT_CHECK);
    central.listen(25_000);
    central.spot_checks.clear();
    let until = central.now + Duration::from_secs(24);
    while central.now < until {
        central.now = central.now + POLL_PERIOD;
        central.device.advertising(central.now);
    }
    central.connect();
    central.subscribe(CONTROL_POINT);
    central.subscribe(SPOT_CHECK);
    central.ask(&Request::REPORT_ALL).unwrap();
    central.listen(1_000);
    let stored = central.spot_checks.iter().filter(|spot| from_storage(spot)).count();
    assert_eq!(stored, 3, "one handed over before, one that nobody came for, one after the reboot");
    assert_eq!(central.responses, [code(OpCode::REPORT, ResponseCode::SUCCESS)]);
}

#[test]
fn it_says_what_it_is() {
    let mut central = Central::new(12, "", Truth::none());
    central.connect();
    let mut read = |number| central.device.read(central.now, bluetooth(number));
    let features = PlxFeatures::decode(&read(FEATURES).unwrap()).unwrap();
    assert_eq!(features, crate::firmware::pulse_oximeter::features());
    assert_eq!(read(0x2a25).unwrap(), b"00000012");
    assert_eq!(read(SPOT_CHECK), Err(AttError::RequestNotSupported));
    let addresses: BTreeSet<_> =
        (0..100).map(|seed| Oximeter::new(seed, &Scenario::default(), Truth::none()).address()).collect();
    assert_eq!(addresses.len(), 100);
}
