use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::elapsed_time::{ElapsedTime, TimeSource};
use kit_protocol::gatt::health_observation::{Component, Numeric, ObservationValue, SampleArray, SampleCounts, UnitCode};
use kit_protocol::gatt::health_observation_segment::Segmenter;
use kit_protocol::gatt::racp::{Count, Request, Response};
use kit_protocol::mder::{Number, float};
use kit_protocol::reading::{Quantity, Rate};
use proptest::prelude::*;

use super::*;
use crate::driver::{By, Command, DownReason, DriverError, LinkError, Output, Session};
use crate::text::hex;
use crate::transport::scripted::{Conversation, Given as Played, Step};

const ALL: [Endpoint; 6] = [FEATURES, ELAPSED_TIME, CONTROL_POINT, RECORD_ACCESS, STORED, LIVE];
/// Vector D02: philips-labs BLE-GHS-Server-Simulator 271f2aa, ElapsedTimeServiceTest.
const D02: &str = "22a66a002c000007000101";
/// Vectors H01–H03: by the layout of philips-labs BLE-GHS-Server-Simulator 271f2aa.
const H01: &str = "0118000300b84b020022a66a002c00000700200262000000";
const H02: &str = "0734000300044a020022a66a002c0000070003054a020001200f78000000064a020001200f50000000074a020001200f64000000";
const H03: &str = "04360003000101020022a66a002c00000700b210f40000fb00000000040000fd010208000000e9ffe9ff10008c001e019c01df01d101";
/// Vector H18: STMicroelectronics, STM32CubeWBA, BLE_GenericHealth example.
const H18: &str = "ff2f00420022729d2b2900000600013c4c020002010c000100b84b0200200262000000010c0001001a480200a00a62000000";

fn setup() -> Vec<Step> {
    vec![
        Step::Up(ALL.to_vec()),
        Step::Read(FEATURES, vec![0, 1, 0xb8, 0x4b, 2, 0]),
        Step::Read(ELAPSED_TIME, hex(D02)),
        Step::Subscribe(CONTROL_POINT),
        Step::Subscribe(RECORD_ACCESS),
        Step::Subscribe(STORED),
        Step::Subscribe(LIVE),
        asks(OpCode::COMBINED_REPORT, Selection::Last),
    ]
}

fn asks(op_code: OpCode, selection: Selection) -> Step {
    Step::Write(RECORD_ACCESS, Request { op_code, selection }.encode())
}

fn says(response: Response) -> Step {
    Step::Sends(RECORD_ACCESS, By::Indication, response.encode())
}

fn combined(records: u32) -> Step {
    says(Response::CombinedReport(Count::U32(records)))
}

fn answers(request: OpCode, code: ResponseCode) -> Step {
    says(Response::Code { request, code })
}

fn starts() -> [Step; 2] {
    [Step::Write(CONTROL_POINT, vec![1]), Step::Sends(CONTROL_POINT, By::Indication, vec![0x80])]
}

/// Set up, with nothing in the memory, and live.
fn listening() -> Vec<Step> {
    let mut script = setup();
    script.push(answers(OpCode::COMBINED_REPORT, ResponseCode::NO_RECORDS_FOUND));
    script.extend(starts());
    script.push(Step::Quiet);
    script
}

/// As the device cuts it; counters begin again with each observation.
fn sends(from: Endpoint, observation: &[u8]) -> Vec<Step> {
    let segments = Segmenter::default().segments(observation, 18);
    segments.into_iter().map(|segment| Step::Sends(from, By::Indication, segment)).collect()
}

fn live(observation: &[u8]) -> Vec<Step> {
    sends(LIVE, observation)
}

fn stored(record: u32, observation: &[u8]) -> Vec<Step> {
    sends(STORED, &[&record.to_le_bytes()[..], observation].concat())
}

fn play_with(start: Start, script: Vec<Step>) -> Vec<Played> {
    Conversation::play((DRIVER.session)(start), &script).unwrap()
}

/// What live observations give.
fn play(observations: &[Vec<u8>]) -> Vec<Played> {
    let mut script = listening();
    script.extend(observations.iter().flat_map(|observation| live(observation)));
    script.push(Step::Down(DownReason::Lost));
    play_with(Start::default(), script)
}

fn measured(given: &[Played]) -> Vec<&Measured> {
    given.iter().filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None }).collect()
}

fn errors(given: &[Played]) -> Vec<String> {
    given.iter().filter_map(|(_, output)| output.as_ref().err().map(ToString::to_string)).collect()
}

/// Recordings: leads, rate, samples; ended or not.
#[derive(Debug, PartialEq)]
struct Recorded {
    leads: Vec<&'static str>,
    rate: Rate,
    scale: Decimal,
    samples: Vec<i32>,
    ended: bool,
}

fn recordings(given: &[Played]) -> Vec<Recorded> {
    let mut recordings: Vec<(u32, Recorded)> = Vec::new();
    for (_, output) in given {
        match output {
            Ok((_, Output::Begin { recording, head })) => {
                let leads = head.channels.iter().map(|channel| channel.code.name().unwrap()).collect();
                let scale = head.channels[0].scale;
                recordings.push((*recording, Recorded { leads, rate: head.rate, scale, samples: vec![], ended: false }));
            }
            Ok((_, Output::Samples { recording, block })) => {
                let (number, recorded) = recordings.last_mut().unwrap();
                assert_eq!(number, recording);
                assert_eq!(usize::try_from(block.first).unwrap(), recorded.samples.len() / recorded.leads.len());
                recorded.samples.extend(&block.samples);
            }
            Ok((_, Output::End { recording })) => {
                let (number, recorded) = recordings.last_mut().unwrap();
                assert_eq!(number, recording);
                recorded.ended = true;
            }
            _ => {}
        }
    }
    recordings.into_iter().map(|(_, recorded)| recorded).collect()
}

fn at(seconds: u64) -> ElapsedTime {
    ElapsedTime { flags: ElapsedTime::UTC_SECONDS, count: seconds, source: TimeSource(1), offset_quarters: 0 }
}

fn observation(code: u32, time: Option<ElapsedTime>, value: ObservationValue) -> HealthObservation {
    HealthObservation {
        length: LengthCounts::AfterHeader,
        observation_type: Some(Mdc(code)),
        time,
        duration: None,
        status: None,
        id: None,
        patient: None,
        supplemental: None,
        derived_from: None,
        has_member: None,
        attributes: None,
        value,
    }
}

fn numeric(unit: u16, mantissa: i64, exponent: i8) -> ObservationValue {
    ObservationValue::Numeric(Numeric { unit: UnitCode(unit), number: Number::Finite(Decimal::new(mantissa, exponent)) })
}

/// So many samples of a lead at 100/s; each is its index and the lead.
fn ecg(code: u32, time: Option<ElapsedTime>, count: i16) -> Vec<u8> {
    let lead = i16::try_from(code - 131_328).unwrap() * 1_000;
    let array = SampleArray {
        unit: UnitCode(4_274),
        scale: Number::Finite(Decimal::new(244, -5)),
        offset: float(0),
        period: Number::Finite(Decimal::new(1, -2)),
        samples_per_period: 1,
        octets_per_sample: 2,
        counts: SampleCounts::Samples,
        octets: (0..count).flat_map(|index| (lead + index).to_le_bytes()).collect(),
    };
    observation(code, time, ObservationValue::SampleArray(array)).encode().unwrap()
}

#[test]
fn a_number_is_a_reading_with_its_time_and_the_clock_is_told() {
    let given = play(&[hex(H01)]);
    let [reading] = measured(&given)[..] else { panic!("{given:?}") };
    let quantity = Quantity::Number(Decimal::whole(98));
    assert_eq!(reading.values, [kit_protocol::reading::Value { code: Mdc::SPO2, quantity, unit: "%" }]);
    assert_eq!((reading.kind, reading.memory), (Kind::PulseOximetry, Memory::Live));
    assert_eq!(reading.device_time.unwrap().to_string(), "2023-05-24T06:26:46");
    let clock = |output: &Result<_, _>| matches!(output, Ok((_, Output::DeviceClock { device, .. })) if device.to_string() == "2023-05-24T06:26:46");
    assert!(clock(&given[0].1), "{given:?}");
}

#[test]
fn a_compound_is_one_reading_and_so_are_the_members_of_a_bundle_of_one_sort() {
    let given = play(&[hex(H02), hex(H18)]);
    let shape = |m: &Measured| {
        (m.kind, m.values.iter().map(|v| (v.code.name().unwrap(), v.quantity.clone(), v.unit)).collect::<Vec<_>>())
    };
    let whole = |number| Quantity::Number(Decimal::whole(number));
    let [pressure, oximetry] = measured(&given)[..] else { panic!("{given:?}") };
    let expected = vec![
        ("systolic", whole(120), "mm[Hg]"),
        ("diastolic", whole(80), "mm[Hg]"),
        ("mean-arterial-pressure", whole(100), "mm[Hg]"),
    ];
    assert_eq!(shape(pressure), (Kind::BloodPressure, expected));
    assert_eq!(shape(oximetry), (Kind::PulseOximetry, vec![("spo2", whole(98), "%"), ("pulse-rate", whole(98), "/min")]));
    assert_eq!(oximetry.device_time.unwrap().to_string(), "2021-11-20T11:50:10", "that of the bundle");
}

#[test]
fn the_numbers_of_a_spirometer_are_one_reading() {
    let part = |code, value| Component { code: Mdc(code), value };
    let components = vec![
        part(188_928, numeric(1_600, 435, -2)),
        part(152_586, numeric(1_600, 337, -2)),
        part(188_948, numeric(544, 775, -1)),
        part(152_584, numeric(3_040, 745, -2)),
    ];
    let value = ObservationValue::Compound(components);
    let given = play(&[observation(528_413, Some(at(1)), value).encode().unwrap()]);
    let [reading] = measured(&given)[..] else { panic!("{given:?}") };
    let names: Vec<_> = reading.values.iter().map(|v| (v.code.name().unwrap(), v.unit)).collect();
    assert_eq!((reading.kind, names), (Kind::Spirometry, vec![("fvc", "L"), ("fev1", "L"), ("fev1-fvc", "%"), ("pef", "L/s")]));
}

#[test]
fn what_no_reading_holds_is_refused_with_a_reason_that_names_it() {
    let unknown = observation(150_456, Some(at(1)), numeric(9_999, 1, 0)).encode().unwrap();
    let text = observation(150_456, None, ObservationValue::Text("Man".into())).encode().unwrap();
    let nameless = HealthObservation { observation_type: None, ..observation(1, None, numeric(544, 1, 0)) };
    let given = play(&[unknown, text, nameless.encode().unwrap(), hex(&H01.replace("011800", "011900")), hex(H01)]);
    assert_eq!(
        errors(&given),
        [
            "undecodable live health observation: unit code 272143 (term 9999 of partition 4) is not known",
            "undecodable live health observation: an observation of class string, which no reading holds",
            "undecodable live health observation: an observation that does not say what it observes",
            "undecodable live health observation: truncated at observation",
        ]
    );
    assert_eq!(measured(&given).len(), 1, "the rest goes on");
}

#[test]
fn absent_numbers_tests_and_old_timelines_are_said() {
    let none = ObservationValue::Numeric(Numeric { unit: UnitCode(544), number: float(0x007f_ffff) });
    let test = HealthObservation {
        status: Some(ObservationStatus(1 << 4 | 1)),
        time: Some(ElapsedTime { flags: 2, ..at(60) }),
        patient: Some(3),
        ..observation(150_456, None, numeric(544, 98, 0))
    };
    let given = play(&[observation(150_456, None, none).encode().unwrap(), test.encode().unwrap()]);
    assert_eq!(errors(&given), ["undecodable live health observation: no value in it: the measurement failed"]);
    let [reading] = measured(&given)[..] else { panic!("{given:?}") };
    assert_eq!(reading.status, ["invalid", "test-data", "time-not-on-current-timeline"]);
    assert!(kit_protocol::plausibility::NOT_THE_PATIENT.contains(&reading.status[1]));
    assert_eq!((reading.user_slot, reading.device_time.unwrap().to_string()), (Some(3), "2000-01-01T00:01:00".into()));
}

#[test]
fn a_sample_array_is_a_recording_with_its_digits() {
    let given = play(&[hex(H03)]);
    let expected = Recorded {
        leads: vec!["I"],
        rate: Rate { samples: 250, seconds: 1 },
        scale: Decimal::new(244, -5),
        samples: vec![-23, -23, 16, 140, 286, 412, 479, 465],
        ended: true,
    };
    assert_eq!(recordings(&given), [expected]);
    assert!(measured(&given).is_empty() && errors(&given).is_empty());
}

#[test]
fn signals_of_one_time_are_channels_and_runs_that_follow_each_other_go_on() {
    let second = |n: u64| [ecg(131_329, Some(at(n)), 100), ecg(131_330, Some(at(n)), 100)];
    let given = play(&[second(10), second(11), second(12), second(40)].concat());
    let all = recordings(&given);
    assert_eq!(all.iter().map(|r| (r.samples.len(), r.ended)).collect::<Vec<_>>(), [(600, true), (200, true)]);
    assert_eq!(all[0].leads, ["I", "II"]);
    assert_eq!(all[0].samples[..4], [1_000, 2_000, 1_001, 2_001]);
    assert_eq!(all[0].samples[200..202], [1_000, 2_000], "the second second begins");
}

#[test]
fn signals_without_a_time_are_recordings_of_their_own() {
    let given = play(&[ecg(131_329, None, 100), ecg(131_330, None, 100)]);
    assert_eq!(recordings(&given).iter().map(|r| (r.leads[0], r.ended)).collect::<Vec<_>>(), [("I", true), ("II", true)]);
}

#[test]
fn a_recording_that_does_not_go_on_ends() {
    let mut script = listening();
    script.extend(live(&ecg(131_329, Some(at(10)), 100)));
    script.push(Step::Wait(Duration::from_secs(60)));
    assert!(recordings(&play_with(Start::default(), script))[0].ended);
}

#[test]
fn thirty_seconds_in_one_observation_are_handed_over_as_there_is_room() {
    let mut script = listening();
    script.push(Step::HoldAnswers);
    script.extend(live(&ecg(131_329, Some(at(10)), 3_000)));
    script.extend([Step::Wait(Duration::from_secs(2)), Step::Down(DownReason::Lost), Step::Answer]);
    let given = play_with(Start::default(), script);
    let [recorded] = &recordings(&given)[..] else { panic!() };
    assert_eq!((recorded.samples.len(), recorded.ended), (3_000, true));
    assert!(errors(&given).is_empty(), "nothing is lost");
    let blocks = given.iter().filter(|(_, output)| matches!(output, Ok((_, Output::Samples { .. })))).count();
    assert_eq!(blocks, 30, "a second each");
}

#[test]
fn a_lost_segment_costs_its_observation_and_no_other() {
    let mut script = listening();
    let mut segments = live(&hex(H02));
    segments.remove(1);
    script.extend(segments);
    script.extend(live(&hex(H01)));
    let given = play_with(Start::default(), script);
    assert_eq!(errors(&given), ["undecodable live health observation: 1 segments of an observation are missing"]);
    assert_eq!(measured(&given).len(), 1);
}

#[test]
fn an_observation_that_does_not_end_is_given_up_in_bounded_time() {
    let mut script = listening();
    script.push(live(&hex(H02)).remove(0));
    script.extend([Step::Wait(SEGMENT_MAX), Step::Wait(SEGMENT_MAX)]);
    script.push(live(&hex(H02)).remove(0));
    script.push(Step::Down(DownReason::Lost));
    let given = play_with(Start::default(), script);
    assert_eq!(errors(&given), ["undecodable live health observation: an observation that did not end"; 2]);
}

#[test]
fn the_memory_is_read_above_the_last_durable_record_and_then_what_is_live() {
    let mut script = setup();
    script.extend(stored(60, &hex(H01)));
    script.extend([combined(1), asks(OpCode::COMBINED_REPORT, Selection::GreaterThanOrEqual(Bound::RecordNumber(51)))]);
    script.extend(stored(51, &hex(H02)));
    script.extend(stored(60, &hex(H01)));
    script.push(combined(2));
    script.extend(starts());
    script.push(Step::Quiet);
    let given = play_with(Start { last_record: Some(50), ..Start::default() }, script);
    let seen: Vec<_> = measured(&given).iter().map(|m| (m.record, m.memory)).collect();
    assert_eq!(seen, [(Some(51), Memory::Stored), (Some(60), Memory::Stored)]);
    assert!(given.iter().any(|(_, output)| matches!(output, Ok((_, Output::Memory { highest: Some(60) })))));
    assert!(errors(&given).is_empty());
}

#[test]
fn i4_a_memory_that_was_cleared_and_began_again_is_read_whole() {
    let mut script = setup();
    script.extend(stored(2, &hex(H01)));
    script.extend([combined(1), asks(OpCode::COMBINED_REPORT, Selection::All)]);
    let given = play_with(Start { last_record: Some(50), ..Start::default() }, script);
    assert!(given.iter().any(|(_, output)| matches!(output, Ok((_, Output::Memory { highest: Some(2) })))));
}

/// Numbers of records up to which nothing need be asked for again.
fn settled(given: &[Played]) -> Vec<u64> {
    measured(given).into_iter().filter(|measured| measured.in_order).filter_map(|measured| measured.record).collect()
}

fn reporting(highest: u32, from: u32) -> Vec<Step> {
    let mut script = setup();
    script.extend(stored(highest, &hex(H01)));
    let selection = Selection::GreaterThanOrEqual(Bound::RecordNumber(from));
    script.extend([combined(1), asks(OpCode::COMBINED_REPORT, selection)]);
    script
}

#[test]
fn i2_after_a_link_lost_in_a_memory_sent_newest_first_the_older_records_are_asked_for_again() {
    for (sent, expected) in [(&[53, 52, 51][..], &[][..]), (&[51, 52], &[51, 52]), (&[52, 53], &[53])] {
        let mut script = reporting(53, 51);
        script.extend(sent.iter().flat_map(|number| stored(*number, &hex(H01))));
        script.push(Step::Down(DownReason::Lost));
        let given = play_with(Start { last_record: Some(50), ..Start::default() }, script);
        assert_eq!(settled(&given), expected, "{sent:?}");
    }
}

#[test]
fn i2_a_record_whose_segment_was_lost_is_asked_for_again_though_others_followed() {
    let mut script = reporting(53, 51);
    script.extend(stored(51, &hex(H01)));
    let mut lost = stored(52, &hex(H01));
    lost.truncate(1);
    script.extend(lost);
    script.extend(stored(53, &hex(H01)));
    script.push(combined(3));
    script.push(Step::Down(DownReason::Lost));
    let given = play_with(Start { last_record: Some(50), ..Start::default() }, script);
    assert_eq!(settled(&given), [51]);
    assert!(!errors(&given).is_empty());
}

#[test]
fn a_device_that_knows_only_the_plain_report_is_asked_so() {
    let mut script = setup();
    script.extend([
        answers(OpCode::COMBINED_REPORT, ResponseCode::OP_CODE_NOT_SUPPORTED),
        asks(OpCode::REPORT, Selection::Last),
        answers(OpCode::REPORT, ResponseCode::OPERATOR_NOT_SUPPORTED),
        asks(OpCode::REPORT, Selection::All),
    ]);
    script.extend(stored(1, &hex(H01)));
    script.push(answers(OpCode::REPORT, ResponseCode::SUCCESS));
    script.extend(starts());
    assert_eq!(measured(&play_with(Start::default(), script)).len(), 1);
}

#[test]
fn i2a_a_stored_recording_ends_with_a_reading_of_its_record_behind_its_samples() {
    let mut script = setup();
    script.extend(stored(7, &hex(H01)));
    script.extend([combined(1), asks(OpCode::COMBINED_REPORT, Selection::All)]);
    script.extend(stored(6, &ecg(131_329, Some(at(10)), 1_000)));
    script.extend(stored(7, &ecg(131_329, Some(at(20)), 1_000)));
    script.push(combined(2));
    let given = play_with(Start::default(), script);
    let all = recordings(&given);
    assert_eq!(all.iter().map(|r| (r.samples.len(), r.ended)).collect::<Vec<_>>(), [(1_000, true); 2], "a recording a record");
    let readings = measured(&given);
    let said: Vec<_> = readings.iter().map(|m| (m.record, m.values[0].quantity.clone(), m.recording, m.kind)).collect();
    let ten = Quantity::Number(Decimal::whole(10));
    assert_eq!(said, [(Some(6), ten.clone(), Some(1), Kind::Ecg), (Some(7), ten, Some(2), Kind::Ecg)]);
    let order: Vec<_> = given
        .iter()
        .filter_map(|(_, output)| match output {
            Ok((_, Output::End { .. })) => Some("end"),
            Ok((_, Output::Measured(_))) => Some("reading"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["end", "reading", "end", "reading"]);
}

#[test]
fn stored_records_are_deleted_only_when_allowed_all_durable_and_none_missing() {
    let report = |count| {
        let mut script = setup();
        script.extend(stored(1, &hex(H01)));
        script.extend([combined(1), asks(OpCode::COMBINED_REPORT, Selection::All), Step::HoldAnswers]);
        script.extend(stored(1, &ecg(131_329, Some(at(10)), 1_000)));
        script.extend([combined(count), Step::Write(CONTROL_POINT, vec![1]), Step::Quiet, Step::Answer]);
        script
    };
    let deleting = || Start { may_delete: true, ..Start::default() };
    let mut whole = report(1);
    whole.extend([
        asks(OpCode::REPORT_NUMBER, Selection::All),
        says(Response::NumberOfStoredRecords(Count::U32(1))),
        asks(OpCode::DELETE, Selection::All),
        answers(OpCode::DELETE, ResponseCode::SUCCESS),
        Step::Quiet,
    ]);
    play_with(deleting(), whole);
    let mut missing = report(2);
    missing.push(Step::Quiet);
    let given = play_with(deleting(), missing);
    assert_eq!(errors(&given), ["undecodable record access control point: 1 records came of 2"]);
    let mut kept = report(1);
    kept.push(Step::Quiet);
    play_with(Start::default(), kept);
}

#[test]
fn what_is_live_is_asked_for_again_where_the_device_is_busy() {
    let mut script = setup();
    script.push(answers(OpCode::COMBINED_REPORT, ResponseCode::NO_RECORDS_FOUND));
    for attempt in 1..=ATTEMPTS_MAX {
        script.push(Step::Write(CONTROL_POINT, vec![1]));
        script.push(Step::Sends(CONTROL_POINT, By::Indication, vec![0x81]));
        script.extend([Step::Quiet, Step::Wait(RETRY_AFTER)]);
        if attempt == ATTEMPTS_MAX {
            script.push(Step::Quiet);
        }
    }
    script.extend(live(&hex(H01)));
    assert_eq!(measured(&play_with(Start::default(), script)).len(), 1, "what it sends by itself still counts");

    let mut silent = setup();
    silent.push(answers(OpCode::COMBINED_REPORT, ResponseCode::NO_RECORDS_FOUND));
    silent.extend([Step::Write(CONTROL_POINT, vec![1]), Step::Wait(ANSWER_MAX), Step::Close]);
    assert_eq!(errors(&play_with(Start::default(), silent)), ["protocol broken: the control point did not answer"]);
}

#[test]
fn a_device_with_live_observations_only_needs_no_more() {
    let script = vec![Step::Up(vec![LIVE]), Step::Fail(LinkError::Timeout), Step::Close];
    assert_eq!(errors(&play_with(Start::default(), script)).len(), 1);
    let mut script = vec![Step::Up(vec![LIVE]), Step::Subscribe(LIVE), Step::Quiet];
    script.extend(live(&hex(H01)));
    assert_eq!(measured(&play_with(Start::default(), script)).len(), 1);
    let given = play_with(Start::default(), vec![Step::Up(vec![FEATURES]), Step::Close]);
    assert!(matches!(given[0].1, Err(DriverError::NotThisDevice(_))));
}

proptest! {
    #[test]
    fn no_input_panics_and_only_what_is_allowed_is_written(
        said in proptest::collection::vec((2..6_usize, proptest::collection::vec(any::<u8>(), 0..60), any::<bool>(), 0..40_u64), 0..40),
    ) {
        let start = Start { may_delete: true, ..Start::default() };
        let mut session = HealthSensor::new(&start);
        let mut now = Moment::ZERO;
        session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &ALL });
        for (endpoint, mut octets, framed, seconds) in said {
            if framed {
                // A whole observation whose header fits, so that what is behind it is read.
                let length = u16::try_from(octets.len()).unwrap().to_le_bytes();
                let class = octets.first().copied().unwrap_or(1) % 10;
                octets = [&[3, class, length[0], length[1]], &octets[..]].concat();
            }
            session.handle_event(now, Event::Received { from: ALL[endpoint], octets: &octets, by: By::Indication });
            now = now + Duration::from_secs(seconds);
            session.handle_timeout(now);
            for _ in 0..100 {
                let Some(command) = session.poll_command() else { break };
                if let Command::Read(token, _) | Command::Subscribe(token, _) = command {
                    session.handle_event(now, Event::Done { command: token });
                }
                if let Command::Write { to, octets, .. } = command {
                    prop_assert!(DRIVER.allows(to, &octets).is_some());
                }
            }
            prop_assert!(session.poll_command().is_none());
            for _ in 0..1_000 {
                let Some(output) = session.poll_output() else { break };
                if let Ok((reading, _)) = output {
                    session.handle_event(now, Event::Stored { reading });
                }
            }
            prop_assert!(session.poll_output().is_none());
        }
    }
}
