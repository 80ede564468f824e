use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::racp::{Count, Request, Response, ResponseCode};
use kit_protocol::reading::{Quantity, Special};

use super::*;
use crate::driver::{By, Command, DownReason, DriverError, LinkError, MEASUREMENTS_UNSTORED_MAX, Output, Session};
use crate::session::stored_records::ATTEMPTS_MAX;
use crate::text::hex;
use crate::transport::scripted::{Conversation, Given, Step};

const ALL: [Endpoint; 4] = [FEATURES, CONTROL_POINT, SPOT_CHECK, CONTINUOUS];
/// Measurement status, memory, time stamps.
const WITH_MEMORY: &str = "0d006003";
/// Neither memory nor time stamps.
const PLAIN: &str = "0000";

fn setup(features: &str) -> Vec<Step> {
    vec![
        Step::Up(ALL.to_vec()),
        Step::Read(FEATURES, hex(features)),
        Step::Subscribe(CONTROL_POINT),
        Step::Subscribe(SPOT_CHECK),
        Step::Subscribe(CONTINUOUS),
    ]
}

fn indicates(from: Endpoint, octets: Vec<u8>) -> Step {
    Step::Sends(from, By::Indication, octets)
}

fn answers(request: OpCode, code: ResponseCode) -> Step {
    indicates(CONTROL_POINT, Response::Code { request, code }.encode())
}

fn asks(request: &Request) -> Step {
    Step::Write(CONTROL_POINT, request.encode())
}

fn record(minute: u8, stored: bool) -> Vec<u8> {
    let number = |n| Number::Finite(Decimal::whole(n));
    let status = MeasurementStatus::FULLY_QUALIFIED.0 | if stored { MeasurementStatus::FROM_STORAGE.0 } else { 0 };
    PlxSpotCheckMeasurement {
        spo2: number(97),
        pulse_rate: number(72),
        time_stamp: Some(DateTime { year: 2026, month: 11, day: 21, hour: 10, minute, second: 0 }),
        measurement_status: Some(MeasurementStatus(status)),
        device_and_sensor_status: None,
        pulse_amplitude_index: None,
        device_clock_not_set: false,
    }
    .encode()
    .unwrap()
}

fn play_with(start: Start, script: Vec<Step>) -> Vec<Given> {
    Conversation::play((DRIVER.session)(start), &script).unwrap()
}

fn play(script: Vec<Step>) -> Vec<Given> {
    play_with(Start::default(), script)
}

fn deleting() -> Start {
    Start { may_delete: true, ..Start::default() }
}

fn measured(given: &[Given]) -> Vec<&Measured> {
    given.iter().filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None }).collect()
}

fn errors(given: &[Given]) -> Vec<String> {
    given.iter().filter_map(|(_, output)| output.as_ref().err().map(ToString::to_string)).collect()
}

#[test]
fn the_memory_is_read_and_what_it_holds_is_stored_and_what_comes_after_is_live() {
    let mut script = setup(WITH_MEMORY);
    script.extend([
        asks(&Request::REPORT_ALL),
        indicates(SPOT_CHECK, record(1, true)),
        indicates(SPOT_CHECK, record(2, true)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Quiet,
        indicates(SPOT_CHECK, record(3, false)),
    ]);
    let given = play(script);
    let seen: Vec<_> = measured(&given).iter().map(|m| (m.device_time.unwrap().minute, m.memory)).collect();
    assert_eq!(seen, [(1, Memory::Stored), (2, Memory::Stored), (3, Memory::Live)]);
    assert!(errors(&given).is_empty());
}

#[test]
fn i2a_a_measurement_and_its_copy_out_of_the_memory_have_the_same_octets() {
    let mut script = setup(WITH_MEMORY);
    script.extend([asks(&Request::REPORT_ALL), indicates(SPOT_CHECK, record(1, false)), indicates(SPOT_CHECK, record(1, true))]);
    let given = play(script);
    let both = measured(&given);
    assert_eq!((both[0].memory, both[1].memory), (Memory::Live, Memory::Stored));
    assert_eq!((&both[0].octets, both[0].device_time), (&both[1].octets, both[1].device_time));
    assert!(both[1].status.contains(&"data-from-measurement-storage"));
}

#[test]
fn what_comes_during_a_report_of_a_device_that_never_says_so_is_stored() {
    let mut script = setup("0c00");
    script.extend([asks(&Request::REPORT_ALL), indicates(SPOT_CHECK, record(1, false))]);
    assert_eq!(measured(&play(script))[0].memory, Memory::Stored);
}

#[test]
fn the_memory_of_a_device_without_time_stamps_is_left_alone() {
    let mut script = setup("0400");
    script.extend([Step::Quiet, indicates(SPOT_CHECK, hex("0061004800"))]);
    let given = play(script);
    assert_eq!(measured(&given)[0].memory, Memory::Live);
    assert_eq!(measured(&given)[0].device_time, None);
}

#[test]
fn records_are_deleted_only_when_every_one_is_stored_and_the_device_has_no_more() {
    let mut script = setup(WITH_MEMORY);
    script.extend([
        Step::HoldAnswers,
        asks(&Request::REPORT_ALL),
        indicates(SPOT_CHECK, record(1, true)),
        indicates(SPOT_CHECK, record(2, true)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Wait(Duration::from_secs(3_600)),
        Step::Quiet,
        Step::Answer,
        asks(&Request::REPORT_NUMBER_OF_ALL),
        indicates(CONTROL_POINT, Response::NumberOfStoredRecords(Count::U16(2)).encode()),
        asks(&Request::DELETE_ALL),
        answers(OpCode::DELETE, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    assert_eq!(measured(&play_with(deleting(), script)).len(), 2);
}

#[test]
fn nothing_is_deleted_where_a_record_was_refused_undecodable_or_is_new() {
    let report = |records: Vec<Step>| {
        let mut script = setup(WITH_MEMORY);
        script.push(asks(&Request::REPORT_ALL));
        script.extend(records);
        script.push(answers(OpCode::REPORT, ResponseCode::SUCCESS));
        script
    };
    let mut refused =
        report(vec![Step::RefuseNext, indicates(SPOT_CHECK, record(1, true)), indicates(SPOT_CHECK, record(2, true))]);
    refused.push(Step::Quiet);
    play_with(deleting(), refused);

    let mut undecodable = report(vec![indicates(SPOT_CHECK, record(1, true)), indicates(SPOT_CHECK, vec![0x01, 0x61])]);
    undecodable.push(Step::Quiet);
    assert_eq!(errors(&play_with(deleting(), undecodable)).len(), 1);

    let mut newer = report(vec![indicates(SPOT_CHECK, record(1, true))]);
    newer.extend([
        asks(&Request::REPORT_NUMBER_OF_ALL),
        indicates(CONTROL_POINT, Response::NumberOfStoredRecords(Count::U16(2)).encode()),
        Step::Quiet,
    ]);
    play_with(deleting(), newer);

    let mut empty = report(vec![]);
    empty.push(Step::Quiet);
    play_with(deleting(), empty);
}

#[test]
fn nothing_is_deleted_unless_that_is_allowed() {
    let mut script = setup(WITH_MEMORY);
    script.extend([
        asks(&Request::REPORT_ALL),
        indicates(SPOT_CHECK, record(1, true)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Wait(Duration::from_secs(3_600)),
        Step::Quiet,
    ]);
    play(script);
}

#[test]
fn a_report_without_end_is_aborted_and_the_link_closed() {
    let mut script = setup(WITH_MEMORY);
    script.extend([
        asks(&Request::REPORT_ALL),
        Step::Wait(Duration::from_secs(29)),
        indicates(SPOT_CHECK, record(1, true)),
        Step::Wait(Duration::from_secs(29)),
        Step::Quiet,
        Step::Wait(Duration::from_secs(2)),
        asks(&Request::ABORT),
        answers(OpCode::ABORT, ResponseCode::SUCCESS),
        Step::Close,
    ]);
    let given = play(script);
    assert_eq!(errors(&given), ["protocol broken: the control point did not answer"]);
    assert_eq!(measured(&given).len(), 1, "what came stands");
}

#[test]
fn an_abort_that_is_not_answered_closes_the_link_too() {
    let mut script = setup(WITH_MEMORY);
    script.extend([
        asks(&Request::REPORT_ALL),
        Step::Wait(Duration::from_secs(36)),
        asks(&Request::ABORT),
        Step::Close,
        Step::Quiet,
    ]);
    assert_eq!(errors(&play(script)).len(), 1);
}

#[test]
fn a_device_that_is_busy_is_asked_again_and_then_left_alone() {
    let mut script = setup(WITH_MEMORY);
    for _ in 0..ATTEMPTS_MAX {
        script.extend([
            asks(&Request::REPORT_ALL),
            answers(OpCode::REPORT, ResponseCode::SERVER_BUSY),
            Step::Quiet,
            Step::Wait(Duration::from_secs(5)),
        ]);
    }
    script.extend([Step::Quiet, Step::Wait(Duration::from_secs(60)), Step::Quiet, indicates(SPOT_CHECK, record(1, false))]);
    assert_eq!(measured(&play(script)).len(), 1);
}

#[test]
fn a_request_that_the_device_refuses_or_does_not_know_costs_only_the_memory() {
    for code in [ResponseCode::NO_RECORDS_FOUND, ResponseCode::OP_CODE_NOT_SUPPORTED, ResponseCode::OPERATOR_NOT_SUPPORTED] {
        let mut script = setup(WITH_MEMORY);
        script.extend([
            asks(&Request::REPORT_ALL),
            answers(OpCode::REPORT, code),
            Step::Quiet,
            indicates(SPOT_CHECK, record(1, false)),
        ]);
        let given = play(script);
        assert_eq!((measured(&given).len(), errors(&given).len()), (1, 0), "{code:?}");
    }
    let mut script = setup(WITH_MEMORY);
    for _ in 0..ATTEMPTS_MAX {
        script.extend([Step::Fail(LinkError::Refused("CCCD".into())), Step::Wait(Duration::from_secs(5))]);
    }
    script.push(Step::Quiet);
    assert!(errors(&play(script)).is_empty());
}

#[test]
fn a_subscription_that_fails_costs_only_its_measurement() {
    let script = vec![
        Step::Up(ALL.to_vec()),
        Step::Fail(LinkError::Timeout),
        Step::Fail(LinkError::Timeout),
        Step::Subscribe(SPOT_CHECK),
        Step::Fail(LinkError::Refused("not permitted".into())),
        Step::Quiet,
        indicates(SPOT_CHECK, record(1, false)),
    ];
    assert_eq!(measured(&play(script)).len(), 1);
    let script = vec![Step::Up(vec![CONTINUOUS]), Step::Fail(LinkError::Timeout), Step::Close];
    assert_eq!(errors(&play(script)).len(), 1);
}

#[test]
fn a_device_without_measurements_is_another_device() {
    let given = play(vec![Step::Up(vec![FEATURES, CONTROL_POINT]), Step::Close]);
    assert!(matches!(given[0].1, Err(DriverError::NotThisDevice(_))));
}

#[test]
fn a_device_that_does_not_answer_is_given_up() {
    let given = play(vec![Step::Up(ALL.to_vec()), Step::Wait(Duration::from_secs(31))]);
    assert_eq!(errors(&given), ["protocol broken: a command was not answered"]);
}

#[test]
fn of_continuous_values_one_every_ten_seconds_is_a_reading() {
    let mut script = setup(PLAIN);
    for _ in 0..31 {
        script.extend([indicates(CONTINUOUS, hex("0064005a00")), Step::Wait(Duration::from_secs(1))]);
    }
    let given = play(script);
    let readings = measured(&given);
    assert_eq!(readings.len(), 4, "at 0, 10, 20 and 30 s");
    assert_eq!((readings[0].memory, readings[0].device_time), (Memory::Live, None));
}

#[test]
fn a_continuous_value_that_is_none_is_no_reading_and_a_doubtful_one_says_so() {
    let mut script = setup(PLAIN);
    script.extend([
        indicates(CONTINUOUS, hex("00ff07ff07")),
        indicates(CONTINUOUS, hex("0400000000a020")),
        indicates(CONTINUOUS, hex("0461004800a020")),
        indicates(CONTINUOUS, hex("0461004800a0c0")),
    ]);
    let given = play(script);
    let readings = measured(&given);
    assert_eq!(readings.len(), 1);
    let terms = ["measurement-ongoing", "validated-data", "questionable-measurement-detected", "invalid-measurement-detected"];
    assert_eq!(readings[0].status, terms);
}

/// Vector P04: SpeziBluetooth, PLXTests.
#[test]
fn a_spot_check_keeps_its_digits_time_status_and_perfusion() {
    let mut script = setup(PLAIN);
    script.push(indicates(SPOT_CHECK, hex("0facf3bef5e8070b1d170839204022000066e3")));
    let given = play(script);
    let reading = measured(&given)[0];
    let values: Vec<_> = reading.values.iter().map(|v| (v.code, v.quantity.clone(), v.unit)).collect();
    let number = |mantissa, exponent| Quantity::Number(Decimal::new(mantissa, exponent));
    let expected = [
        (Mdc::SPO2, number(940, -1), "%"),
        (Mdc::PULSE_RATE, number(1470, -1), "/min"),
        (Mdc::PERFUSION_INDEX, number(870, -2), "%"),
    ];
    assert_eq!(values, expected);
    assert_eq!(reading.device_time.unwrap().to_string(), "2024-11-29T23:08:57");
    let terms =
        ["measurement-ongoing", "questionable-measurement-detected", "equipment-malfunction-detected", "low-perfusion-detected"];
    assert_eq!(reading.status, terms);
}

#[test]
fn a_clock_that_was_never_set_is_kept_raw_with_its_status() {
    let mut script = setup(PLAIN);
    script.push(indicates(SPOT_CHECK, hex("1161004800d007010100002a")));
    let given = play(script);
    let reading = measured(&given)[0];
    assert_eq!(reading.device_time.unwrap().to_string(), "2000-01-01T00:00:42");
    assert_eq!(reading.status, ["device-clock-not-set"]);
}

#[test]
fn a_spot_check_without_numbers_or_marked_unavailable_is_an_attempt_and_refused_with_what_to_do() {
    let mut script = setup(PLAIN);
    script.extend(["00ff07ff07", "0000080008", "0000000000", "025f005a0000e0"].map(|octets| indicates(SPOT_CHECK, hex(octets))));
    script.push(indicates(SPOT_CHECK, hex("005f00ff07")));
    let given = play(script);
    let without = "undecodable PLX spot-check measurement: neither SpO2 nor pulse in it: is the finger in the sensor, and still?";
    let errors = errors(&given);
    assert_eq!(errors[..3], [without; 3]);
    assert!(errors.len() == 4 && errors[3].contains("no measurement is available"), "{errors:?}");
    let [half] = measured(&given)[..] else { panic!("{given:?}") };
    assert_eq!(half.values[1].quantity, Quantity::Special(Special::NotANumber), "SpO2 stands without a pulse");
}

#[test]
fn a_stored_attempt_is_neither_told_again_and_again_nor_kept_from_being_deleted() {
    let mut script = setup(WITH_MEMORY);
    let failed = PlxSpotCheckMeasurement {
        spo2: Number::Special(Special::NotANumber),
        pulse_rate: Number::Special(Special::NotANumber),
        ..PlxSpotCheckMeasurement::decode(&record(1, true)).unwrap()
    };
    script.extend([
        asks(&Request::REPORT_ALL),
        indicates(SPOT_CHECK, failed.encode().unwrap()),
        indicates(SPOT_CHECK, record(2, true)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        asks(&Request::REPORT_NUMBER_OF_ALL),
        indicates(CONTROL_POINT, Response::NumberOfStoredRecords(Count::U16(2)).encode()),
        asks(&Request::DELETE_ALL),
        answers(OpCode::DELETE, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    let given = play_with(deleting(), script);
    assert_eq!((measured(&given).len(), errors(&given)), (1, Vec::new()));
}

#[test]
fn what_is_undecodable_is_refused_with_its_octets_and_the_rest_goes_on() {
    let mut script = setup(PLAIN);
    script.extend([indicates(SPOT_CHECK, hex("0161004800")), indicates(SPOT_CHECK, record(1, false))]);
    let given = play(script);
    let undecodable = DriverError::Undecodable {
        what: "PLX spot-check measurement",
        reason: "truncated at year".into(),
        octets: hex("0161004800"),
    };
    assert_eq!(given[0].1, Err(undecodable));
    assert_eq!(measured(&given).len(), 1);
}

#[test]
fn a_store_that_stands_still_gets_no_more_than_its_bound_and_the_device_keeps_its_records() {
    let mut script = setup(WITH_MEMORY);
    script.extend([Step::HoldAnswers, asks(&Request::REPORT_ALL)]);
    script.extend((0..577_u16).map(|n| indicates(SPOT_CHECK, record((n % 60).try_into().unwrap(), true))));
    script.extend([asks(&Request::ABORT), answers(OpCode::ABORT, ResponseCode::SUCCESS), Step::Close]);
    let given = play_with(deleting(), script);
    assert_eq!(measured(&given).len(), MEASUREMENTS_UNSTORED_MAX);
}

#[test]
fn answers_after_the_link_is_down_are_taken_and_nothing_more_is_asked() {
    let mut script = setup(WITH_MEMORY);
    script.extend([
        Step::HoldAnswers,
        asks(&Request::REPORT_ALL),
        indicates(SPOT_CHECK, record(1, true)),
        Step::Down(DownReason::Lost),
        Step::Answer,
        Step::Wait(Duration::from_secs(100)),
        Step::Quiet,
    ]);
    assert_eq!(measured(&play_with(deleting(), script)).len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_input_panics_and_nothing_is_deleted_without_its_report(
        said in proptest::collection::vec((0..4_usize, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..24), 0..40_u64), 0..40),
    ) {
        let mut session = PulseOximeter::new(&deleting());
        let mut now = Moment::ZERO;
        session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &ALL });
        for (endpoint, octets, seconds) in said {
            session.handle_event(now, Event::Received { from: ALL[endpoint], octets: &octets, by: By::Indication });
            now = now + Duration::from_secs(seconds);
            session.handle_timeout(now);
            while let Some(command) = session.poll_command() {
                if let Command::Read(token, _) | Command::Subscribe(token, _) = command {
                    session.handle_event(now, Event::Done { command: token });
                }
                if let Command::Write { octets, .. } = command {
                    proptest::prop_assert!(octets != Request::DELETE_ALL.encode() || session.memory.records() > 0);
                }
            }
            while session.poll_output().is_some() {}
        }
    }
}
