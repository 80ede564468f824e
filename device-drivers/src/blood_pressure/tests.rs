use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::reading::{Memory, Quantity};

use super::*;
use crate::driver::{About, By, DownReason, DriverError, Output};
use crate::session::gatt_session::BATTERY_LEVEL;
use crate::text::hex;
use crate::transport::scripted::{Conversation, Given, Step};

const CLOCK: Endpoint = date_time(SERVICE);
/// Class R: vectors B01 and B15.
const STAMPED: &str = "167c0056006100e807060f11111b33000000";
const UNSTAMPED: &str = "1467003f004d0040000000";

fn up() -> Vec<Step> {
    vec![Step::Up(vec![MEASUREMENT, CUFF_PRESSURE]), Step::Subscribe(CUFF_PRESSURE), Step::Subscribe(MEASUREMENT)]
}

fn indicates(octets: &str) -> Step {
    Step::Sends(MEASUREMENT, By::Indication, hex(octets))
}

fn cuff(octets: &str) -> Step {
    Step::Sends(CUFF_PRESSURE, By::Notification, hex(octets))
}

fn play(start: Start, script: Vec<Step>) -> Vec<Given> {
    Conversation::play((DRIVER.session)(start), &script).unwrap()
}

fn results(given: &[Given]) -> Vec<&Measured> {
    let measured = |(_, output): &'_ Given| matches!(output, Ok((_, Output::Measured(m))) if m.kind == Kind::BloodPressure);
    let result = given.iter().filter(|given| measured(given));
    result.filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None }).collect()
}

#[test]
fn stored_results_come_one_after_the_other_and_keep_their_times() {
    let mut script = up();
    script.extend([indicates(STAMPED), indicates("167c0056006100e807060f12111b33000000"), Step::Down(DownReason::Lost)]);
    let given = play(Start::default(), script);
    let seen: Vec<_> = results(&given).iter().map(|m| (m.device_time.unwrap().hour, m.memory)).collect();
    assert_eq!(seen, [(17, Memory::Stored), (18, Memory::Stored)]);
    let value = |m: &Measured, at: usize| (m.values[at].code, m.values[at].quantity.clone(), m.values[at].unit);
    let number = |n| Quantity::Number(Decimal::whole(n));
    assert_eq!(value(results(&given)[0], 0), (Mdc::SYSTOLIC, number(124), "mm[Hg]"));
    assert_eq!(value(results(&given)[0], 3), (Mdc::PULSE_RATE_CUFF, number(51), "/min"));
}

#[test]
fn a_result_after_intermediate_pressures_is_live_and_one_pressure_every_ten_seconds_is_a_reading() {
    let mut script = up();
    for _ in 0..31 {
        script.extend([cuff("00d7f000000000"), Step::Wait(Duration::from_secs(1))]);
    }
    script.extend([indicates(STAMPED), indicates(STAMPED)]);
    let given = play(Start::default(), script);
    let memories: Vec<_> = results(&given).iter().map(|m| m.memory).collect();
    assert_eq!(memories, [Memory::Live, Memory::Stored]);
    assert_eq!(given.len() - 2, 4, "at 0, 10, 20 and 30 s");
}

#[test]
fn i2a_a_result_and_its_copy_have_the_same_octets() {
    let mut script = up();
    script.extend([indicates(STAMPED), indicates(STAMPED)]);
    let given = play(Start::default(), script);
    assert_eq!(results(&given)[0].octets, results(&given)[1].octets);
}

#[test]
fn a_result_without_time_is_live_where_it_comes_alone_and_is_not_lost_with_the_link() {
    let mut script = up();
    script.extend([indicates(UNSTAMPED), Step::Wait(Duration::from_secs(2))]);
    assert_eq!(results(&play(Start::default(), script))[0].memory, Memory::Live);
    let mut script = up();
    script.extend([indicates(UNSTAMPED), Step::Down(DownReason::Lost)]);
    assert_eq!(results(&play(Start::default(), script))[0].memory, Memory::Live);
    let mut script = up();
    script.extend([indicates(UNSTAMPED), indicates(UNSTAMPED)]);
    assert!(results(&play(Start::default(), script)).iter().all(|m| m.memory == Memory::Stored));
}

#[test]
fn a_failed_measurement_and_octets_left_over_are_refused_and_the_rest_goes_on() {
    let mut script = up();
    script.extend([
        indicates("16ff07ff07ff07e80706170e230aff070000"),
        indicates("566a0047000000ea07080b121f00003f000000"),
        cuff("00"),
        indicates(STAMPED),
    ]);
    let given = play(Start::default(), script);
    let errors: Vec<_> = given.iter().filter_map(|(_, output)| output.as_ref().err().map(ToString::to_string)).collect();
    assert_eq!(
        errors,
        [
            "undecodable blood pressure measurement: no pressure in it: the measurement failed",
            "undecodable blood pressure measurement: 1 octets too many",
            "undecodable intermediate cuff pressure: truncated at systolic",
        ]
    );
    assert_eq!(results(&given).len(), 1);
}

#[test]
fn a_known_departure_is_read_by_the_model_that_has_it() {
    let about = About { name: Some("BM85".into()), ..About::default() };
    let mut script = up();
    script.extend([indicates("56760050000000ea07080b141b00003c000004"), Step::Quiet]);
    let given = play(Start { about, ..Start::default() }, script);
    let result = results(&given)[0];
    assert_eq!((result.user_slot, &*result.status), (Some(0), &["irregular-pulse"][..]));
}

#[test]
fn every_quirk_shows_in_its_vector() {
    for quirk in DRIVER.quirks {
        assert!(BloodPressureMeasurement::decode(&hex(quirk.vector.0)).is_err(), "{}", quirk.name);
    }
}

#[test]
fn the_clock_is_read_first_and_set_after_the_results_and_the_battery_is_told() {
    let time = |hour| DateTime { year: 2024, month: 6, day: 15, hour, minute: 0, second: 0 };
    let start = Start { may_set_clock: true, civil_time: Some(time(19)), ..Start::default() };
    let script = vec![
        Step::Up(vec![MEASUREMENT, CLOCK, BATTERY_LEVEL]),
        Step::Read(BATTERY_LEVEL, vec![5]),
        Step::Read(CLOCK, time(18).encode().to_vec()),
        Step::Subscribe(MEASUREMENT),
        indicates(STAMPED),
        Step::Quiet,
        Step::Wait(Duration::from_secs(2)),
        Step::Write(CLOCK, DateTime { second: 2, ..time(19) }.encode().to_vec()),
    ];
    let given = play(start, script);
    assert_eq!(results(&given)[0].status, ["low-battery"]);
    let clocks = |given: &Given| matches!(given.1, Ok((_, Output::DeviceClock { .. })));
    assert_eq!(given.iter().map(clocks).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn every_write_to_a_clock_is_allowed_and_no_other() {
    assert!(DRIVER.allows(CLOCK, &[1]).is_some() && DRIVER.allows(CURRENT_TIME, &[1]).is_some());
    assert!(DRIVER.allows(MEASUREMENT, &[1]).is_none());
}

#[test]
fn a_device_without_a_cuff_is_another_device() {
    let given = play(Start::default(), vec![Step::Up(vec![BATTERY_LEVEL]), Step::Close]);
    assert!(matches!(given[0].1, Err(DriverError::NotThisDevice(_))));
}
