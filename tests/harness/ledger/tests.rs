use super::*;
use serde_json::json;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 100 * SECOND;
const RATE: u64 = 50;
const CHANNELS: usize = 2;

/// A noisy stream of so many seconds, sent in blocks of a fifth of a second.
fn truth_lines(seconds: u64, counter: bool) -> String {
    truth_lines_heard(seconds, counter, 0)
}

/// To which nobody listened for so many seconds.
fn truth_lines_heard(seconds: u64, counter: bool, from_second: u64) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    for block in 0..seconds * 5 {
        let rows: Vec<[i32; CHANNELS]> = (0..10).map(|_| [random.i32(-500..500), random.i32(-500..500)]).collect();
        let line = json!({"samples": {
            "device": "as the simulator calls it", "kind": "ecg", "channels": ["I", "II"], "rate": RATE,
            "boottime_ns": START + block * SECOND / 5, "first_counter": counter.then_some(block * 10),
            "delivered": block >= from_second * 5, "rows": rows,
        }});
        text += &format!("{line}\n");
    }
    text
}

/// A run whose centre has everything, in segments of a second.
fn perfect(seconds: u64, counter: bool) -> Run {
    perfect_of(&truth_lines(seconds, counter), seconds)
}

fn perfect_of(lines: &str, seconds: u64) -> Run {
    let mut truth = Truth::default();
    truth.add("ecg", lines).unwrap();
    let stream = truth.streams.values().next().unwrap();
    let per_segment = usize::try_from(RATE).unwrap();
    let segments =
        (0..usize::try_from(seconds).unwrap()).map(|index| segment(stream, index * per_segment, per_segment)).collect();
    Run {
        segments,
        periods: vec![Period { from_boottime_ns: START, assignment: Some("a-1".to_owned()) }],
        listening_from_ns: START,
        truth,
        ..Run::default()
    }
}

/// The stored segment of `count` samples from `first` on, received 30 ms after it was sent.
fn segment(stream: &Stream, first: usize, count: usize) -> StoredSegment {
    StoredSegment {
        key: format!("e/waveforms/{first}"),
        device: "ecg".to_owned(),
        kind: "ecg".to_owned(),
        assignment: Some("a-1".to_owned()),
        boottime_ns: stream.boottimes_ns[first] + 30_000_000,
        first_counter: stream.counters.get(first).copied(),
        channels: CHANNELS,
        values: stream.run(first, count).unwrap().to_vec(),
    }
}

fn both(test: impl Fn(bool)) {
    [true, false].into_iter().for_each(test);
}

fn of_seconds(seconds: u64) -> u64 {
    seconds * RATE * 2
}

#[test]
fn a_perfect_run_balances() {
    both(|counter| {
        let balance = compare(&perfect(10, counter));
        assert!(balance.holds() && balance.findings.is_empty(), "{:?}", balance.findings);
        assert_eq!((balance.made, balance.stored), (of_seconds(10), of_seconds(10)));
        assert_eq!(balance.devices["ecg"], Share { made: of_seconds(10), stored: of_seconds(10), records: 10 });
    });
}

#[test]
fn a_planted_loss_is_missing() {
    both(|counter| {
        let mut run = perfect(10, counter);
        run.segments.remove(4);
        let balance = compare(&run);
        assert_eq!((balance.missing, balance.double, balance.stored), (of_seconds(1), 0, of_seconds(9)));
        assert_eq!(balance.made, balance.stored + balance.missing);
        assert!(!balance.holds());
    });
}

#[test]
fn a_planted_double_is_double() {
    both(|counter| {
        let mut run = perfect(10, counter);
        run.segments.push(run.segments[3].clone());
        let balance = compare(&run);
        assert_eq!((balance.missing, balance.double), (0, of_seconds(1)));
    });
}

#[test]
fn an_overlap_of_two_segments_is_double_by_its_length() {
    both(|counter| {
        let mut run = perfect(10, counter);
        let stream = run.truth.streams.values().next().unwrap();
        run.segments.push(segment(stream, 95, 10));
        let balance = compare(&run);
        assert_eq!((balance.missing, balance.double), (0, 20));
    });
}

#[test]
fn a_wrong_value_is_missing_and_made_by_nothing() {
    both(|counter| {
        let mut run = perfect(10, counter);
        run.segments[2].values[7] += 1;
        let balance = compare(&run);
        assert_eq!((balance.missing, balance.double), (of_seconds(1), of_seconds(1)));
    });
}

#[test]
fn a_segment_that_bridges_a_hole_is_made_by_nothing() {
    both(|counter| {
        let mut run = perfect(10, counter);
        let stream = run.truth.streams.values().next().unwrap();
        let mut bridged = segment(stream, 100, 20);
        bridged.values.extend_from_slice(stream.run(125, 25).unwrap());
        run.segments[2] = bridged;
        assert_eq!(compare(&run).missing, of_seconds(1));
    });
}

#[test]
fn an_equal_run_elsewhere_in_time_is_not_its_place() {
    let mut run = perfect(10, false);
    run.segments[2].boottime_ns += 2 * SECOND;
    assert_eq!(compare(&run).missing, of_seconds(1));
}

fn missed(from_second: u64, to_second: u64, counters: Option<(u64, u64)>) -> StoredMissed {
    StoredMissed {
        device: "ecg".to_owned(),
        kind: "ecg".to_owned(),
        reason: "agent-down".to_owned(),
        from_boottime_ns: START + from_second * SECOND,
        to_boottime_ns: START + to_second * SECOND,
        counters,
    }
}

/// Two seconds lost to a kill, and declared.
fn killed(counter: bool) -> Run {
    let mut run = perfect(20, counter);
    run.segments.drain(5..7);
    run.missed.push(missed(5, 7, counter.then_some((5 * RATE, 7 * RATE - 1))));
    run.faults.push(Fault { from_boottime_ns: START + 5 * SECOND, to_boottime_ns: START + 6 * SECOND });
    run
}

#[test]
fn what_the_kit_declares_missed_is_missed() {
    both(|counter| {
        let balance = compare(&killed(counter));
        assert!(balance.holds(), "{:?}", balance.findings);
        assert_eq!(balance.missed[0].samples, of_seconds(2));
        assert_eq!(balance.made, balance.stored + balance.missed[0].samples);
    });
}

#[test]
fn a_missed_span_longer_than_its_fault_allows_excuses_nothing() {
    both(|counter| {
        let mut run = perfect(20, counter);
        run.segments.drain(5..13);
        run.missed.push(missed(5, 13, counter.then_some((5 * RATE, 13 * RATE - 1))));
        run.faults.push(Fault { from_boottime_ns: START + 5 * SECOND, to_boottime_ns: START + 6 * SECOND });
        let balance = compare(&run);
        assert!((balance.missed[0].seconds - 8.0).abs() < 0.21 && (balance.missed[0].allowed_seconds - 7.0).abs() < 1e-9);
        assert_eq!((balance.missing, balance.missed[0].samples), (of_seconds(8), 0));
    });
}

#[test]
fn a_device_that_pauses_within_a_missed_span_does_not_make_it_longer() {
    let mut run = killed(true);
    let (resumes, pause) = (START + 7 * SECOND, 9 * SECOND);
    let later = |at: &mut u64| *at += if *at >= resumes { pause } else { 0 };
    run.truth.streams.values_mut().for_each(|stream| stream.boottimes_ns.iter_mut().for_each(later));
    run.segments.iter_mut().for_each(|segment| later(&mut segment.boottime_ns));
    run.missed[0].to_boottime_ns += pause;
    let balance = compare(&run);
    assert!(balance.holds(), "{:?}", balance.findings);
    assert_eq!(balance.missed[0].samples, of_seconds(2));
    assert!((balance.missed[0].seconds - 2.0).abs() < 0.21, "{}", balance.missed[0].seconds);
}

#[test]
fn a_missed_span_without_a_fault_excuses_nothing() {
    let mut run = killed(true);
    run.faults.clear();
    assert_eq!(compare(&run).missing, of_seconds(2));
}

#[test]
fn a_missed_span_covers_no_loss_outside_it() {
    both(|counter| {
        let mut run = killed(counter);
        run.segments.remove(12);
        assert_eq!(compare(&run).missing, of_seconds(1));
    });
}

#[test]
fn a_missed_span_of_another_device_excuses_nothing() {
    let mut run = killed(true);
    run.missed[0].device = "oximeter".to_owned();
    assert_eq!(compare(&run).missing, of_seconds(2));
}

#[test]
fn what_was_sent_to_nobody_at_first_is_undelivered_but_not_for_long() {
    let unheard = |seconds: u64| {
        let mut run = perfect_of(&truth_lines_heard(20, true, seconds), 20);
        run.segments.drain(..usize::try_from(seconds).unwrap());
        compare(&run)
    };
    let balance = unheard(2);
    assert_eq!((balance.undelivered, balance.missing, balance.made), (of_seconds(2), 0, of_seconds(18)));
    assert_eq!(unheard(8).missing, of_seconds(2), "six seconds are enough to begin listening");
}

#[test]
fn what_was_heard_before_the_first_stored_sample_is_missing_but_for_the_first_frames() {
    let mut run = perfect(20, true);
    run.segments.drain(..3);
    let balance = compare(&run);
    assert_eq!((balance.undelivered, balance.missing), (of_seconds(1), of_seconds(2)));
}

#[test]
fn a_stream_of_which_nothing_came_is_all_missing() {
    let mut run = perfect_of(&truth_lines_heard(5, true, 5), 5);
    run.segments.clear();
    assert_eq!(compare(&run).missing, of_seconds(5));
}

#[test]
fn i4_a_segment_under_another_assignment_is_found() {
    let mut run = perfect(10, true);
    run.segments[1].assignment = None;
    run.segments[2].assignment = Some("a-2".to_owned());
    let balance = compare(&run);
    assert_eq!((balance.wrong_assignment, balance.missing), (of_seconds(2), 0));
    assert!(!balance.holds());
}

fn pulse(value: &str, record: Option<u64>) -> serde_json::Value {
    json!({"kind": "pulse-oximetry", "driver": "pulse-oximeter", "device": null, "values": [
        {"code": 150_456, "name": "spo2", "value": value, "unit": "%"},
        {"code": 149_530, "name": "pulse", "value": null, "absent": "not-a-number", "unit": "/min"},
    ], "device_time": null, "record": record, "user": null, "status": [], "key": null})
}

/// Spot measurements, one each ten seconds, all at the centre.
fn spot(readings: &[(&str, Option<u64>, bool)]) -> Run {
    let mut text = String::new();
    let mut stored = Vec::new();
    for (index, (value, record, delivered)) in readings.iter().enumerate() {
        let boottime_ns = START + units(index) * 10 * SECOND;
        let reading = pulse(value, *record);
        stored.push(StoredReading {
            derived: false,
            key: format!("e/vitals/{index}"),
            device: "oximeter".to_owned(),
            assignment: Some("a-1".to_owned()),
            boottime_ns: boottime_ns + 50_000_000,
            measurement: Measurement::from_json(&reading).unwrap(),
        });
        text += &format!("{}\n", json!({"reading": reading, "boottime_ns": boottime_ns, "delivered": delivered}));
    }
    let mut truth = Truth::default();
    truth.add("oximeter", &text).unwrap();
    let periods = vec![Period { from_boottime_ns: START, assignment: Some("a-1".to_owned()) }];
    Run { truth, readings: stored, periods, listening_from_ns: START, ..Run::default() }
}

#[test]
fn equal_values_at_different_times_are_different_measurements() {
    let mut run = spot(&[("97", None, true), ("97", None, true), ("96", None, true)]);
    let balance = compare(&run);
    assert!(balance.holds() && balance.stored == 3, "{:?}", balance.findings);
    // One lost and another doubled must not cancel out.
    run.readings[1] = run.readings[0].clone();
    let balance = compare(&run);
    assert_eq!((balance.missing, balance.double), (1, 1));
}

#[test]
fn a_reading_with_a_number_is_one_however_often_it_was_sent_and_whenever_it_came() {
    let mut run = spot(&[("97", Some(1), false), ("97", Some(1), true)]);
    run.readings.truncate(1);
    run.readings[0].boottime_ns += 3_600 * SECOND;
    let balance = compare(&run);
    assert!(balance.holds());
    assert_eq!((balance.made, balance.stored, balance.undelivered), (1, 1, 0));
}

#[test]
fn i2a_a_reading_with_a_number_stored_twice_is_double() {
    let mut run = spot(&[("97", Some(1), true), ("95", Some(2), true)]);
    run.readings.push(run.readings[0].clone());
    assert_eq!(compare(&run).double, 1);
}

#[test]
fn a_changed_digit_is_missing_and_made_by_nothing() {
    let mut run = spot(&[("97.0", None, true)]);
    run.readings[0].measurement.values[0].1 = "97".to_owned();
    let balance = compare(&run);
    assert_eq!((balance.missing, balance.double), (1, 1));
}

#[test]
fn what_met_a_closed_link_is_undelivered() {
    let mut run = spot(&[("97", None, true), ("96", None, false)]);
    run.readings.truncate(1);
    let balance = compare(&run);
    assert!(balance.holds());
    assert_eq!((balance.made, balance.undelivered), (1, 1));
}

#[test]
fn the_values_of_a_stream_are_not_counted() {
    let mut run = perfect(10, true);
    let mut of_the_stream = spot(&[("97", None, true)]).readings.remove(0);
    of_the_stream.device = "ecg".to_owned();
    run.readings.push(of_the_stream);
    let balance = compare(&run);
    assert!(balance.holds());
    assert_eq!(balance.devices["ecg"].records, 11);
}

#[test]
fn a_truth_file_cut_off_in_its_last_line_is_read_up_to_there() {
    let whole = truth_lines(2, true);
    let mut truth = Truth::default();
    truth.add("ecg", &whole[..whole.len() - 5]).unwrap();
    assert_eq!(truth.streams.values().next().unwrap().len(), 90);
    assert_eq!(
        Truth::default().add("ecg", "{\"else\":1}\n"),
        Err(TruthError { device: "ecg".to_owned(), line: 1, what: "neither reading nor samples" })
    );
}

/// A spot measurement that waited in the device's memory, and the run in which the assignment changed meanwhile.
fn remembered(stored_under: Option<&str>) -> Balance {
    let reading = json!({"kind": "pulse-oximetry", "device_time": "2026-11-22T08:00:00", "record": null,
        "values": [{"code": 150_456, "value": "97", "unit": "%"}]});
    let line = json!({"reading": reading, "boottime_ns": 60 * SECOND, "measured_ns": 20 * SECOND, "delivered": true});
    let mut truth = Truth::default();
    truth.add("oximeter", &format!("{line}\n")).unwrap();
    let period =
        |second: u64, assignment: &str| Period { from_boottime_ns: second * SECOND, assignment: Some(assignment.to_owned()) };
    let readings = stored_under.map(|assignment| StoredReading {
        derived: false,
        key: "e/vitals/1".to_owned(),
        device: "oximeter".to_owned(),
        assignment: Some(assignment.to_owned()),
        boottime_ns: 60 * SECOND,
        measurement: truth.readings[0].measurement.clone(),
    });
    let periods = vec![period(10, "a-1"), period(40, "a-2")];
    compare(&Run { readings: readings.into_iter().collect(), periods, truth, ..Run::default() })
}

#[test]
fn i4_what_a_memory_gave_of_the_last_patient_is_the_kits_to_refuse_and_wrong_under_the_next() {
    let refused = remembered(None);
    assert_eq!((refused.made, refused.missing, refused.not_the_patient), (0, 0, 1));
    assert!(refused.holds());
    let wrong = remembered(Some("a-2"));
    assert_eq!((wrong.wrong_assignment, wrong.holds()), (1, false), "{:?}", wrong.findings);
}

#[test]
fn a_night_of_another_patient_is_neither_missing_nor_the_patients() {
    let line = json!({"samples": {
        "device": "oximeter", "kind": "ecg", "channels": ["a", "b"], "rate": 1, "boottime_ns": 110 * SECOND,
        "measured_ns": 20 * SECOND, "first_counter": 7, "stored": true, "delivered": true, "rows": [[1, 2], [3, 4], [5, 6]],
    }});
    let mut run = Run {
        periods: vec![Period { from_boottime_ns: START, assignment: Some("a-1".to_owned()) }],
        listening_from_ns: START,
        ..Run::default()
    };
    run.truth.add("ecg", &format!("{line}\n")).unwrap();
    let balance = compare(&run);
    assert!(balance.holds() && balance.made == 0, "{:?}", balance.findings);
    assert_eq!(balance.not_the_patient, 6);
    let stream = run.truth.streams.values().next().unwrap();
    run.segments = vec![segment(stream, 0, 3)];
    assert_eq!(compare(&run).wrong_assignment, 6);
}

#[test]
fn samples_that_were_gathered_and_sent_together_are_placed_by_their_values() {
    // Two seconds at once, of which the second ones stand at the time of those that come a second later.
    let mut random = fastrand::Rng::with_seed(3);
    let mut lines = String::new();
    for (at, count) in [(102, 100), (103, 50), (104, 50), (104, 10)] {
        let rows: Vec<[i32; CHANNELS]> = (0..count).map(|_| [random.i32(-500..500), random.i32(-500..500)]).collect();
        let line = json!({"samples": {
            "device": "ring", "kind": "ecg", "channels": ["a", "b"], "rate": RATE, "boottime_ns": at * SECOND,
            "gathered_ms": 2_000, "delivered": true, "rows": rows,
        }});
        lines += &format!("{line}\n");
    }
    let mut run = perfect_of(&lines, 4);
    run.segments = vec![(0, 150, 100), (150, 60, 102)]
        .into_iter()
        .map(|(first, count, at)| StoredSegment {
            boottime_ns: at * SECOND,
            ..segment(run.truth.streams.values().next().unwrap(), first, count)
        })
        .collect();
    let balance = compare(&run);
    assert!(balance.holds(), "{:?}", balance.findings);
    assert_eq!(balance.stored, 420);
    run.segments[1].values[5] += 1_000;
    assert!(!compare(&run).holds());
}

#[test]
fn a_weighing_that_was_advertised_while_the_kit_listened_is_missing_where_it_is_not_there() {
    let weighing = |at: u64| {
        let values = json!([{"code": 188_736, "value": "84.7", "unit": "kg"}]);
        let line = json!({
            "reading": {"kind": "weight", "values": values, "device_time": format!("2026-11-22T06:10:{at}")},
            "boottime_ns": START + at * SECOND, "delivered": false,
        });
        format!("{line}\n")
    };
    let missing = |at: u64, faults: Vec<Fault>| {
        let mut run = Run { faults, advertised: ["scale".to_owned()].into(), ..perfect(60, true) };
        run.truth.add("scale", &weighing(at)).unwrap();
        let balance = compare(&run);
        assert_eq!(balance.missing + balance.undelivered, 1);
        balance.missing
    };
    let fault = Fault { from_boottime_ns: START + 34 * SECOND, to_boottime_ns: START + 35 * SECOND };
    assert_eq!(missing(30, Vec::new()), 1);
    assert_eq!(missing(30, vec![fault]), 0, "the kit was down while it was advertised");
    assert_eq!(missing(50, vec![fault]), 0, "it began while the kit came up");
    assert_eq!(missing(52, vec![fault]), 1);
    assert_eq!((missing(12, Vec::new()), missing(57, Vec::new())), (0, 0), "as the kit began and as the devices ended");
}

#[test]
fn what_a_device_kept_as_it_ended_was_asked_for_by_nobody_and_more_than_it_keeps_is_missing() {
    let with_tail = |gathered_ms: u64, count: u64| {
        let rows: Vec<[i32; CHANNELS]> = (0..count).map(|_| [1, 2]).collect();
        let tail = json!({"samples": {
            "device": "ring", "kind": "ecg", "channels": ["I", "II"], "rate": RATE, "boottime_ns": START + 4 * SECOND,
            "gathered_ms": gathered_ms, "delivered": false, "rows": rows,
        }});
        let balance = compare(&perfect_of(&format!("{}{tail}\n", truth_lines(4, false)), 4));
        (balance.missing, balance.undelivered)
    };
    assert_eq!(with_tail(2_000, 60), (0, 120));
    assert_eq!(with_tail(2_000, 160), (320, 0));
    assert_eq!(with_tail(0, 10), (20, 0), "a device that keeps nothing has sent it");
}
