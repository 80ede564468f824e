use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::current_time::CurrentTime;
use kit_protocol::gatt::glucose_measurement::{ConcentrationUnit, SampleLocation, SampleType};
use kit_protocol::gatt::racp::{Count, Request, Response};
use proptest::prelude::*;

use super::*;
use crate::driver::{About, By, Command, DownReason, DriverError, MEASUREMENTS_UNSTORED_MAX, Output, Session};
use crate::session::gatt_session::ANSWER_MAX;
use crate::session::stored_records::{ATTEMPTS_MAX, RETRY_AFTER};
use crate::text::hex;
use crate::transport::scripted::{Conversation, Given as Played, Step};

const ALL: [Endpoint; 4] = [FEATURE, CONTEXT, MEASUREMENT, CONTROL_POINT];

fn time(hour: u8, minute: u8) -> DateTime {
    DateTime { year: 2026, month: 11, day: 21, hour, minute, second: 0 }
}

fn measurement(sequence_number: u16, context_follows: bool) -> GlucoseMeasurement {
    let concentration = Concentration {
        number: Number::Finite(Decimal::new(i64::from(sequence_number % 100) + 80, -5)),
        unit: ConcentrationUnit::KilogramPerLitre,
        sample_type: SampleType::CAPILLARY_WHOLE_BLOOD,
        location: SampleLocation::FINGER,
    };
    GlucoseMeasurement {
        sequence_number,
        base_time: time(7, u8::try_from(sequence_number % 60).unwrap()),
        time_offset: Some(0),
        concentration: Some(concentration),
        sensor_status: None,
        context_follows,
    }
}

fn notifies(measurement: &GlucoseMeasurement) -> Step {
    Step::Sends(MEASUREMENT, By::Notification, measurement.encode().unwrap())
}

fn record(sequence_number: u16) -> Step {
    notifies(&measurement(sequence_number, false))
}

/// A context that says "fasting".
fn context(sequence_number: u16) -> Step {
    let [low, high] = sequence_number.to_le_bytes();
    Step::Sends(CONTEXT, By::Notification, vec![0x02, low, high, 3])
}

fn says(response: Response) -> Step {
    Step::Sends(CONTROL_POINT, By::Indication, response.encode())
}

fn answers(request: OpCode, code: ResponseCode) -> Step {
    says(Response::Code { request, code })
}

fn asks(op_code: OpCode, selection: Selection) -> Step {
    Step::Write(CONTROL_POINT, Request { op_code, selection }.encode())
}

fn from(number: u16) -> Selection {
    Selection::GreaterThanOrEqual(Bound::SequenceNumber(number))
}

fn setup() -> Vec<Step> {
    vec![
        Step::Up(ALL.to_vec()),
        Step::Read(FEATURE, vec![0, 0]),
        Step::Subscribe(CONTEXT),
        Step::Subscribe(MEASUREMENT),
        Step::Subscribe(CONTROL_POINT),
        asks(OpCode::REPORT, Selection::Last),
    ]
}

/// Set up, with a memory whose last record has this number.
fn probed(highest: u16) -> Vec<Step> {
    let mut script = setup();
    script.extend([record(highest), answers(OpCode::REPORT, ResponseCode::SUCCESS)]);
    script
}

fn after(last_record: u64) -> Start {
    Start { last_record: Some(last_record), ..Start::default() }
}

fn deleting() -> Start {
    Start { may_delete: true, ..Start::default() }
}

fn play_with(start: Start, script: Vec<Step>) -> Vec<Played> {
    Conversation::play((DRIVER.session)(start), &script).unwrap()
}

fn measured(given: &[Played]) -> Vec<&Measured> {
    given.iter().filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None }).collect()
}

fn numbers(given: &[Played]) -> Vec<u64> {
    measured(given).iter().filter_map(|m| m.record).collect()
}

fn highest(given: &[Played]) -> Vec<Option<u64>> {
    given.iter().filter_map(|(_, o)| if let Ok((_, Output::Memory { highest })) = o { Some(*highest) } else { None }).collect()
}

fn errors(given: &[Played]) -> Vec<String> {
    given.iter().filter_map(|(_, output)| output.as_ref().err().map(ToString::to_string)).collect()
}

#[test]
fn a_memory_is_read_from_its_beginning_and_what_comes_after_is_live() {
    let mut script = probed(3);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        record(1),
        record(2),
        record(3),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Quiet,
        record(4),
    ]);
    let given = play_with(Start::default(), script);
    let seen: Vec<_> = measured(&given).iter().map(|m| (m.record.unwrap(), m.memory)).collect();
    let stored = Memory::Stored;
    assert_eq!(seen, [(1, stored), (2, stored), (3, stored), (4, Memory::Live)]);
    assert_eq!(highest(&given), [Some(3)], "told before anything of the memory");
    assert!(matches!(given[0].1, Ok((_, Output::Memory { .. }))));
    assert!(errors(&given).is_empty());
}

#[test]
fn only_what_is_newer_than_the_last_durable_record_is_asked_for() {
    let mut script = probed(60);
    script.extend([
        asks(OpCode::REPORT, from(51)),
        record(51),
        record(60),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    assert_eq!(numbers(&play_with(after(50), script)), [51, 60]);

    let mut nothing_new = probed(50);
    nothing_new.push(Step::Quiet);
    assert!(numbers(&play_with(after(50), nothing_new)).is_empty());
}

#[test]
fn i4_a_memory_that_was_cleared_and_began_again_is_read_whole_and_its_highest_number_told() {
    let mut script = probed(2);
    script.extend([asks(OpCode::REPORT, Selection::All), record(1), record(2), answers(OpCode::REPORT, ResponseCode::SUCCESS)]);
    let given = play_with(after(50), script);
    assert_eq!((highest(&given), numbers(&given)), (vec![Some(2)], vec![1, 2]));
    assert!(measured(&given).iter().all(|m| m.memory == Memory::Stored), "the recorder decides whose they are");
}

#[test]
fn i4_the_records_of_an_earlier_patient_are_stored_ones_and_the_highest_is_told_before_them() {
    let mut script = probed(51);
    script.push(asks(OpCode::REPORT, Selection::All));
    script.extend((2..=51).map(record));
    script.push(answers(OpCode::REPORT, ResponseCode::SUCCESS));
    let given = play_with(Start::default(), script);
    assert!(matches!(given[0].1, Ok((_, Output::Memory { highest: Some(51) }))));
    let seen = measured(&given);
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|m| m.memory == Memory::Stored && m.device_time.is_some() && m.record.is_some()));
}

#[test]
fn numbers_wrap_from_65535_to_0() {
    let mut script = probed(1);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        record(65_535),
        record(0),
        record(1),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
    ]);
    assert_eq!(numbers(&play_with(after(65_534), script)), [65_535, 0, 1]);
    assert_eq!(newer_than(Some(65_535), 65_535), None);
    assert_eq!(newer_than(Some(65_534), 65_535), Some(from(65_535)));
    assert_eq!(newer_than(Some(1 << 40), 3), Some(Selection::All));
}

#[test]
fn an_empty_memory_says_so_and_what_comes_is_live() {
    let mut script = setup();
    script.extend([answers(OpCode::REPORT, ResponseCode::NO_RECORDS_FOUND), Step::Quiet, record(1)]);
    let given = play_with(after(50), script);
    assert_eq!((highest(&given), measured(&given)[0].memory), (vec![None], Memory::Live));
}

#[test]
fn a_meter_that_cannot_tell_its_last_record_is_read_whole() {
    for code in [ResponseCode::OPERATOR_NOT_SUPPORTED, ResponseCode::INVALID_OPERATOR] {
        let mut script = setup();
        script.extend([
            answers(OpCode::REPORT, code),
            asks(OpCode::REPORT, Selection::All),
            record(51),
            answers(OpCode::REPORT, ResponseCode::SUCCESS),
            Step::Quiet,
        ]);
        let given = play_with(after(50), script);
        assert_eq!((highest(&given), numbers(&given)), (vec![], vec![51]));
    }
}

#[test]
fn a_meter_that_knows_no_numbers_to_filter_by_is_read_whole() {
    let mut script = probed(60);
    script.extend([
        asks(OpCode::REPORT, from(51)),
        answers(OpCode::REPORT, ResponseCode::OPERATOR_NOT_SUPPORTED),
        asks(OpCode::REPORT, Selection::All),
        record(60),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    assert_eq!(numbers(&play_with(after(50), script)), [60]);
}

#[test]
fn i2a_a_record_is_the_same_measurement_live_stored_and_sent_again_with_or_without_its_context() {
    let mut script = probed(7);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        notifies(&measurement(7, true)),
        context(7),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        notifies(&measurement(7, true)),
        Step::Wait(CONTEXT_MAX),
        record(7),
    ]);
    let given = play_with(Start::default(), script);
    let [with, without, unannounced] = measured(&given)[..] else { panic!("{given:?}") };
    assert_eq!((with.context.len(), without.context.len()), (2, 1));
    for again in [without, unannounced] {
        assert_eq!((&with.octets, with.record, with.device_time), (&again.octets, again.record, again.device_time));
    }
}

#[test]
fn i2a_a_meter_that_resends_everything_gives_the_same_measurements_again() {
    let report = || {
        let mut script = probed(3);
        script.push(asks(OpCode::REPORT, Selection::All));
        script.extend([1, 2, 3, 1, 2, 3].map(record));
        script.push(answers(OpCode::REPORT, ResponseCode::SUCCESS));
        play_with(Start::default(), script)
    };
    let (one, two) = (report(), report());
    let same = |given: &[Played]| measured(given).iter().map(|m| (m.octets.clone(), m.record)).collect::<Vec<_>>();
    assert_eq!(same(&one), same(&two));
    assert_eq!(same(&one)[..3], same(&one)[3..]);
}

#[test]
fn a_link_lost_in_the_middle_of_a_report_goes_on_from_the_last_durable_record() {
    let mut script = probed(5);
    script.extend([asks(OpCode::REPORT, Selection::All), record(1), record(2), Step::Down(DownReason::Lost), Step::Quiet]);
    assert_eq!(numbers(&play_with(Start::default(), script)), [1, 2]);
    let mut script = probed(5);
    script.extend([
        asks(OpCode::REPORT, from(3)),
        record(3),
        record(4),
        record(5),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    assert_eq!(numbers(&play_with(after(2), script)), [3, 4, 5]);
}

/// Numbers of records up to which nothing need be asked for again.
fn settled(given: &[Played]) -> Vec<u64> {
    measured(given).into_iter().filter(|measured| measured.in_order).filter_map(|measured| measured.record).collect()
}

#[test]
fn i2_after_a_link_lost_in_a_memory_sent_newest_first_the_older_records_are_asked_for_again() {
    let report = |selection: Selection, sent: &[u16], after: Option<u64>| {
        let mut script = probed(9);
        script.push(asks(OpCode::REPORT, selection));
        script.extend(sent.iter().map(|number| record(*number)));
        script.push(Step::Down(DownReason::Lost));
        let given = play_with(Start { last_record: after, ..Start::default() }, script);
        (numbers(&given).len(), settled(&given))
    };
    assert_eq!(report(Selection::All, &[9, 8, 7], None), (3, Vec::new()));
    assert_eq!(report(from(6), &[9, 8, 7, 6], Some(5)), (4, Vec::new()));
    assert_eq!(report(Selection::All, &[1, 2, 3], None), (3, vec![2, 3]), "the second shows that they grow");
    assert_eq!(report(from(6), &[6, 7, 9], Some(5)), (3, vec![6, 7, 9]), "the first is the one that was asked for");
    assert_eq!(report(from(6), &[7, 8, 6, 9], Some(5)), (4, vec![8]), "8 came after 7, and nothing after 6");
}

#[test]
fn i2_a_new_measurement_does_not_hide_a_memory_that_was_not_read() {
    let mut in_the_middle = probed(9);
    in_the_middle.extend([asks(OpCode::REPORT, from(6)), record(6), record(10), record(7), Step::Down(DownReason::Lost)]);
    assert_eq!(settled(&play_with(after(5), in_the_middle)), [6, 7], "8 and 9 are still to come");

    let mut read = probed(9);
    read.extend([asks(OpCode::REPORT, from(9)), record(9), answers(OpCode::REPORT, ResponseCode::SUCCESS), record(10)]);
    assert_eq!(settled(&play_with(after(8), read)), [9, 10]);
    let mut known = probed(9);
    known.push(record(10));
    assert_eq!(settled(&play_with(after(9), known)), [10]);
}

#[test]
fn i2_a_measurement_that_waits_for_its_context_is_not_passed_by_a_number_that_settles_it() {
    let mut script = probed(3);
    script.extend([asks(OpCode::REPORT, from(1)), notifies(&measurement(1, true)), record(2), Step::Down(DownReason::Lost)]);
    let given = play_with(after(0), script);
    assert_eq!((numbers(&given), settled(&given)), (vec![2, 1], vec![1]));
}

#[test]
fn a_context_belongs_to_its_number_whichever_comes_first() {
    let mut script = probed(3);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        notifies(&measurement(1, true)),
        notifies(&measurement(2, true)),
        context(3),
        context(2),
        context(1),
        notifies(&measurement(3, true)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
    ]);
    let given = play_with(Start::default(), script);
    assert_eq!(numbers(&given), [2, 1, 3]);
    let fasting = Context { what: "meal", value: "fasting" };
    assert!(measured(&given).iter().all(|m| m.context.contains(&fasting)));
}

#[test]
fn a_context_that_comes_late_or_never_is_waited_for_in_bounded_time() {
    let mut script = probed(2);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        notifies(&measurement(1, true)),
        Step::Wait(Duration::from_secs(1)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        context(1),
        notifies(&measurement(2, true)),
        Step::Wait(CONTEXT_MAX),
        context(2),
    ]);
    let given = play_with(Start::default(), script);
    let contexts: Vec<_> = measured(&given).iter().map(|m| (m.record.unwrap(), m.context.len())).collect();
    assert_eq!(contexts, [(1, 2), (2, 1)], "the site is of the measurement itself");

    let mut script = probed(1);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        notifies(&measurement(1, true)),
        Step::Down(DownReason::Lost),
        Step::Quiet,
    ]);
    assert_eq!(numbers(&play_with(Start::default(), script)), [1], "what came stands");
}

#[test]
fn more_measurements_than_are_held_go_without_their_contexts() {
    let mut script = probed(20);
    script.push(asks(OpCode::REPORT, Selection::All));
    script.extend((1..=20).map(|number| notifies(&measurement(number, true))));
    script.extend((1..=20).map(context));
    let given = play_with(Start::default(), script);
    assert_eq!(numbers(&given), (1..=20).collect::<Vec<_>>());
    assert_eq!(measured(&given).iter().filter(|m| m.context.len() == 2).count(), HELD_MAX);
}

#[test]
fn control_solution_failures_and_numbers_that_are_none_are_no_readings_of_a_patient() {
    let plain = measurement(1, false);
    let of = |concentration| GlucoseMeasurement { concentration, ..plain };
    let concentration = plain.concentration.unwrap();
    let number = |special| of(Some(Concentration { number: Number::Special(special), ..concentration }));
    let mut script = probed(1);
    script.extend([asks(OpCode::REPORT, Selection::All), answers(OpCode::REPORT, ResponseCode::SUCCESS)]);
    let control = Concentration { sample_type: SampleType::CONTROL_SOLUTION, ..concentration };
    script.extend(
        [of(Some(control)), of(None), number(Special::NotANumber), number(Special::PositiveInfinity)].iter().map(notifies),
    );
    let given = play_with(Start::default(), script);
    let [control, high] = measured(&given)[..] else { panic!("{given:?}") };
    assert_eq!(control.status, ["control-solution"]);
    assert!(kit_protocol::plausibility::NOT_THE_PATIENT.contains(&control.status[0]));
    assert_eq!(high.values[0].quantity, Quantity::Special(Special::PositiveInfinity), "HI is a reading");
}

/// Vector G01: react-native-ble-plx issue 652; G03's status: Nordic, GlucoseMeasurementDataCallbackTest.
#[test]
fn a_measurement_keeps_its_digits_code_time_site_and_status() {
    let mut script = probed(1);
    script.extend([asks(OpCode::REPORT, Selection::All), answers(OpCode::REPORT, ResponseCode::SUCCESS)]);
    script.extend(
        ["030600e407040d10260a000078b0f1", "0b0700e307021b0b0a1efbff37c0120501"]
            .map(|digits| Step::Sends(MEASUREMENT, By::Notification, hex(digits))),
    );
    let given = play_with(Start::default(), script);
    let [one, two] = measured(&given)[..] else { panic!("{given:?}") };
    let value = |code, number, unit| Value { code: Mdc(code), quantity: Quantity::Number(Decimal::whole(number)), unit };
    assert_eq!(one.values, [value(160_184, 120, "mg/dL")]);
    assert_eq!((one.device_time.unwrap().to_string(), &one.context[..]), ("2020-04-13T16:38:10".into(), &[][..]));
    assert_eq!(two.device_time.unwrap().to_string(), "2019-02-27T11:05:30", "base time and offset: what the user saw");
    assert_eq!(two.status, ["device-battery-low", "sample-size-insufficient", "sensor-temperature-too-low"]);
    assert_eq!(two.context, [Context { what: "site", value: "finger" }]);
}

#[test]
fn what_the_user_told_the_meter_is_kept() {
    let mut script = probed(1);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        notifies(&measurement(7, true)),
        Step::Sends(CONTEXT, By::Notification, hex("5f0700023ce0025108076401").into_iter().chain(hex("05a045f0")).collect()),
    ]);
    let given = play_with(Start::default(), script);
    let [reading] = measured(&given)[..] else { panic!("{given:?}") };
    let values: Vec<_> = reading.values[1..].iter().map(|v| (v.code.name().unwrap(), v.quantity.clone(), v.unit)).collect();
    let number = |mantissa, exponent| Quantity::Number(Decimal::new(mantissa, exponent));
    let expected = [
        ("carbohydrates", number(60, 1), "g"),
        ("exercise", number(100, 0), "%"),
        ("measurement-duration", number(1_800, 0), "s"),
        ("medication", number(5, 0), "mg"),
        ("hba1c", number(69, -1), "%"),
    ];
    assert_eq!(values, expected);
    let terms: Vec<_> = reading.context.iter().map(|context| (context.what, context.value)).collect();
    let expected = [
        ("site", "finger"),
        ("meal", "postprandial"),
        ("carbohydrate", "lunch"),
        ("medication", "rapid-acting-insulin"),
        ("tester", "self"),
        ("health", "no-health-issues"),
    ];
    assert_eq!(terms, expected);
}

#[test]
fn records_are_deleted_only_where_allowed_all_stored_and_only_those_that_were_asked_for() {
    let mut script = probed(52);
    script.extend([
        Step::HoldAnswers,
        asks(OpCode::REPORT, from(51)),
        record(51),
        notifies(&measurement(52, true)),
        answers(OpCode::REPORT, ResponseCode::SUCCESS),
        Step::Quiet,
        Step::Wait(CONTEXT_MAX),
        Step::Quiet,
        Step::Answer,
        asks(OpCode::REPORT_NUMBER, from(51)),
        says(Response::NumberOfStoredRecords(Count::U16(2))),
        asks(OpCode::DELETE, from(51)),
        answers(OpCode::DELETE, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    play_with(Start { last_record: Some(50), ..deleting() }, script);

    let reported = |records: Vec<Step>| {
        let mut script = probed(2);
        script.push(asks(OpCode::REPORT, Selection::All));
        script.extend(records);
        script.push(answers(OpCode::REPORT, ResponseCode::SUCCESS));
        script
    };
    let with = |mut script: Vec<Step>, more: Vec<Step>| {
        script.extend(more);
        script.push(Step::Quiet);
        script
    };
    play_with(Start::default(), with(reported(vec![record(1), record(2)]), vec![]));
    play_with(deleting(), with(reported(vec![]), vec![]));
    play_with(deleting(), with(reported(vec![Step::RefuseNext, record(1), record(2)]), vec![]));
    let undecodable = Step::Sends(MEASUREMENT, By::Notification, vec![0x02, 1]);
    play_with(deleting(), with(reported(vec![undecodable, record(2)]), vec![]));
    let newer = vec![asks(OpCode::REPORT_NUMBER, Selection::All), says(Response::NumberOfStoredRecords(Count::U16(3)))];
    play_with(deleting(), with(reported(vec![record(1), record(2)]), newer));
}

#[test]
fn a_busy_meter_is_asked_again_and_then_left_alone() {
    let mut script = setup();
    for attempt in 1..=ATTEMPTS_MAX {
        script.extend([answers(OpCode::REPORT, ResponseCode::PROCEDURE_NOT_COMPLETED), Step::Quiet, Step::Wait(RETRY_AFTER)]);
        if attempt < ATTEMPTS_MAX {
            script.push(asks(OpCode::REPORT, Selection::Last));
        }
    }
    script.extend([Step::Quiet, record(9)]);
    let given = play_with(Start::default(), script);
    assert_eq!((numbers(&given), highest(&given), settled(&given)), (vec![9], vec![], vec![]), "1 to 8 are still to come");
}

#[test]
fn a_report_that_does_not_go_on_is_aborted_and_the_link_closed() {
    let mut script = probed(2);
    script.extend([
        asks(OpCode::REPORT, Selection::All),
        Step::Wait(Duration::from_secs(29)),
        record(1),
        Step::Wait(Duration::from_secs(29)),
        Step::Quiet,
        Step::Wait(ANSWER_MAX),
        asks(OpCode::ABORT, Selection::Null),
        Step::Close,
    ]);
    let given = play_with(Start::default(), script);
    assert_eq!((numbers(&given), errors(&given)), (vec![1], vec!["protocol broken: the control point did not answer".into()]));
}

#[test]
fn a_store_that_stands_still_gets_no_more_than_its_bound() {
    let mut script = probed(600);
    script.extend([Step::HoldAnswers, asks(OpCode::REPORT, Selection::All)]);
    script.extend((0..577).map(record));
    script.extend([asks(OpCode::ABORT, Selection::Null), answers(OpCode::ABORT, ResponseCode::SUCCESS), Step::Close]);
    assert_eq!(measured(&play_with(deleting(), script)).len(), MEASUREMENTS_UNSTORED_MAX);
}

#[test]
fn a_meter_without_control_point_gives_what_it_sends_by_itself() {
    let script = vec![Step::Up(vec![MEASUREMENT]), Step::Subscribe(MEASUREMENT), Step::Quiet, record(5)];
    assert_eq!(numbers(&play_with(Start::default(), script)), [5]);
    let given = play_with(Start::default(), vec![Step::Up(vec![FEATURE, CONTROL_POINT]), Step::Close]);
    assert!(matches!(given[0].1, Err(DriverError::NotThisDevice(_))));
}

fn trusted() -> Start {
    let about = About { manufacturer: Some("i-SENS, Inc.".into()), ..About::default() };
    Start { about, may_set_clock: true, civil_time: Some(time(8, 0)), ..Start::default() }
}

/// Vector G08: xDrip c2a0ba1, glucose meter TimeTx test, gives the shape of the command.
#[test]
fn the_clock_of_an_i_sens_meter_is_set_by_its_own_command_once_its_memory_was_read() {
    let has = || {
        let mut script = setup();
        script[0] = Step::Up([&ALL[..], &[VENDOR_CLOCK]].concat());
        script.extend([answers(OpCode::REPORT, ResponseCode::NO_RECORDS_FOUND)]);
        script
    };
    let mut set = has();
    let octets = [&VENDOR_CLOCK_COMMAND[..], &time(8, 0).encode()].concat();
    assert!(hex(QUIRK_VENDOR_CLOCK.vector.0).starts_with(&VENDOR_CLOCK_COMMAND));
    assert_eq!(octets.len(), hex(QUIRK_VENDOR_CLOCK.vector.0).len());
    set.extend([Step::Write(VENDOR_CLOCK, octets), Step::Quiet]);
    let given = play_with(trusted(), set);
    assert!(
        given.iter().any(|(_, output)| matches!(output, Ok((_, Output::DeviceClock { device, .. })) if *device == time(8, 0)))
    );
    for start in [
        Start { about: About::default(), ..trusted() },
        Start { may_set_clock: false, ..trusted() },
        Start { civil_time: None, ..trusted() },
    ] {
        let mut untouched = has();
        untouched.push(Step::Quiet);
        play_with(start, untouched);
    }
}

#[test]
fn the_clock_of_a_conforming_meter_is_read_and_set() {
    let mut script = setup();
    script[0] = Step::Up([&ALL[..], &[CURRENT_TIME]].concat());
    script.insert(2, Step::Read(CURRENT_TIME, CurrentTime::set_to(time(7, 0)).encode().to_vec()));
    script.extend([answers(OpCode::REPORT, ResponseCode::NO_RECORDS_FOUND), Step::Wait(Duration::from_secs(2))]);
    let two_later = DateTime { second: 2, ..time(8, 0) };
    script.push(Step::Write(CURRENT_TIME, CurrentTime::set_to(two_later).encode().to_vec()));
    let given = play_with(Start { about: About::default(), ..trusted() }, script);
    let clocks = given.iter().filter(|(_, output)| matches!(output, Ok((_, Output::DeviceClock { .. })))).count();
    assert_eq!(clocks, 2, "what it said, and what it was set to");
}

proptest! {
    #[test]
    fn no_input_panics_and_only_what_is_allowed_is_written(
        said in proptest::collection::vec((0..4_usize, proptest::collection::vec(any::<u8>(), 0..24), 0..40_u64), 0..40),
        last_record: Option<u64>,
    ) {
        let start = Start { may_delete: true, last_record, ..trusted() };
        let mut session = GlucoseMeter::new(&start);
        let mut now = Moment::ZERO;
        session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &ALL });
        for (endpoint, octets, seconds) in said {
            session.handle_event(now, Event::Received { from: ALL[endpoint], octets: &octets, by: By::Notification });
            now = now + Duration::from_secs(seconds);
            session.handle_timeout(now);
            for _ in 0..100 {
                let Some(command) = session.poll_command() else { break };
                if let Command::Read(token, _) | Command::Subscribe(token, _) = command {
                    session.handle_event(now, Event::Done { command: token });
                }
                if let Command::Write { to, octets, .. } = command {
                    prop_assert!(DRIVER.allows(to, &octets).is_some());
                    prop_assert!(octets.first() != Some(&OpCode::DELETE.0) || session.memory.records() > 0);
                }
            }
            prop_assert!(session.poll_command().is_none());
            prop_assert!(session.held.len() <= HELD_MAX && session.early.len() <= HELD_MAX);
            while session.poll_output().is_some() {}
        }
    }
}
