use kit_protocol::reading::Kind;

use super::*;
use crate::driver::{DownReason, LinkError, Security};
use crate::transport::scripted::{Conversation, Step as Play};

const SERVICE: u16 = 0x1809;
const FEATURE: Endpoint = Endpoint::gatt(SERVICE, 0x2a1d);
const FIRST: Endpoint = Endpoint::gatt(SERVICE, 0x2a1e);
const MEASUREMENT: Endpoint = Endpoint::gatt(SERVICE, 0x2a1c);
const CLOCK: Endpoint = Endpoint::gatt(SERVICE, 0x2a08);

const PLAN: Plan = Plan {
    gives: "temperature measurement",
    measures: &[MEASUREMENT],
    reads: &[FEATURE],
    subscribes: &[FIRST, MEASUREMENT],
    clock: &[CURRENT_TIME, CLOCK],
};

/// A driver that does nothing of its own.
struct Plain(GattSession);

impl OverGatt for Plain {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.0
    }

    fn happened(&mut self, _now: Moment, _event: Event<'_>) {}

    fn until(&self) -> Option<Moment> {
        self.0.poll_timeout()
    }
}

fn time(minute: u8, second: u8) -> DateTime {
    DateTime { year: 2026, month: 11, day: 21, hour: 10, minute, second }
}

fn setting() -> Start {
    Start { may_set_clock: true, civil_time: Some(time(30, 0)), ..Start::default() }
}

fn play(start: &Start, script: &[Play]) -> Vec<Given> {
    let session = Box::new(Plain(GattSession::new(PLAN, start)));
    Conversation::play(session, script).unwrap().into_iter().map(|(_, given)| given).collect()
}

fn clocks(given: &[Given]) -> Vec<(String, u64)> {
    let clock = |given: &Given| match given {
        Ok((_, Output::DeviceClock { device, at })) => Some((device.to_string(), at.as_nanos() / 1_000_000_000)),
        _ => None,
    };
    given.iter().filter_map(clock).collect()
}

#[test]
fn features_battery_and_clock_are_read_before_the_subscriptions_in_their_order() {
    let script = [
        Play::Up(vec![MEASUREMENT, FIRST, CLOCK, FEATURE, BATTERY_LEVEL]),
        Play::Read(FEATURE, vec![2]),
        Play::Read(BATTERY_LEVEL, vec![80]),
        Play::Read(CLOCK, time(29, 0).encode().to_vec()),
        Play::Subscribe(FIRST),
        Play::Subscribe(MEASUREMENT),
        Play::Wait(Duration::from_secs(3_600)),
        Play::Quiet,
    ];
    let given = play(&Start::default(), &script);
    assert_eq!(clocks(&given), [("2026-11-21T10:29:00".to_string(), 1)]);
    assert_eq!(given.len(), 1);
}

#[test]
fn what_the_device_does_not_have_or_refuses_is_passed_over() {
    let script = [
        Play::Up(vec![MEASUREMENT, FIRST, FEATURE]),
        Play::Fail(LinkError::Refused("not permitted".into())),
        Play::Fail(LinkError::Timeout),
        Play::Subscribe(MEASUREMENT),
        Play::Wait(Duration::from_secs(3_600)),
        Play::Quiet,
    ];
    assert!(play(&setting(), &script).is_empty());
}

#[test]
fn a_device_without_the_measurement_or_that_refuses_it_is_left() {
    let given = play(&Start::default(), &[Play::Up(vec![FEATURE, BATTERY_LEVEL]), Play::Close]);
    assert_eq!(given, [Err(DriverError::NotThisDevice("no temperature measurement to subscribe to".into()))]);
    let given = play(&Start::default(), &[Play::Up(vec![MEASUREMENT]), Play::Fail(LinkError::Timeout), Play::Close]);
    assert_eq!(given, [Err(DriverError::Protocol("the device refused every subscription".into()))]);
}

#[test]
fn i9_a_command_without_an_answer_ends_the_conversation_in_time() {
    let script = [Play::Up(vec![MEASUREMENT]), Play::Wait(Duration::from_secs(29)), Play::Wait(Duration::from_secs(2))];
    let given = play(&Start::default(), &script);
    assert_eq!(given, [Err(DriverError::Protocol("a command was not answered".into()))]);
}

#[test]
fn a_clock_is_set_only_once_nothing_comes_any_more_and_says_so() {
    let script = [
        Play::Up(vec![MEASUREMENT, CLOCK]),
        Play::Read(CLOCK, time(11, 0).encode().to_vec()),
        Play::Subscribe(MEASUREMENT),
        Play::Wait(Duration::from_millis(1_500)),
        Play::Sends(MEASUREMENT, By::Indication, vec![0]),
        Play::Wait(Duration::from_millis(1_500)),
        Play::Quiet,
        Play::Wait(Duration::from_secs(1)),
        Play::Write(CLOCK, time(30, 3).encode().to_vec()),
        Play::Wait(Duration::from_secs(100)),
        Play::Quiet,
    ];
    let given = play(&setting(), &script);
    assert_eq!(clocks(&given), [("2026-11-21T10:11:00".to_string(), 1), ("2026-11-21T10:30:03".to_string(), 4)]);
}

#[test]
fn a_clock_under_a_stream_of_values_is_set_after_a_minute() {
    let mut script = vec![
        Play::Up(vec![MEASUREMENT, CURRENT_TIME, CLOCK]),
        Play::Fail(LinkError::Refused("not permitted".into())),
        Play::Subscribe(MEASUREMENT),
    ];
    for _ in 0..60 {
        script.extend([Play::Quiet, Play::Sends(MEASUREMENT, By::Notification, vec![0]), Play::Wait(Duration::from_secs(1))]);
    }
    script.push(Play::Write(CURRENT_TIME, CurrentTime::set_to(time(31, 0)).encode().to_vec()));
    assert_eq!(clocks(&play(&setting(), &script)), [("2026-11-21T10:31:00".to_string(), 61)]);
}

#[test]
fn a_clock_that_is_right_or_not_ours_to_set_or_without_a_trusted_time_is_left_alone() {
    let allowed = setting();
    let forbidden = Start { may_set_clock: false, ..allowed.clone() };
    let untrusted = Start { civil_time: None, ..allowed.clone() };
    for (start, minute, second) in [(&allowed, 29, 52), (&allowed, 30, 10), (&forbidden, 11, 0), (&untrusted, 11, 0)] {
        let script = [
            Play::Up(vec![MEASUREMENT, CLOCK]),
            Play::Read(CLOCK, time(minute, second).encode().to_vec()),
            Play::Subscribe(MEASUREMENT),
            Play::Wait(Duration::from_secs(3_600)),
            Play::Quiet,
        ];
        assert_eq!(clocks(&play(start, &script)).len(), 1);
    }
}

#[test]
fn a_clock_that_was_never_set_is_no_clock() {
    let script = [
        Play::Up(vec![MEASUREMENT, CLOCK]),
        Play::Read(CLOCK, vec![0, 0, 0, 0, 12, 0, 0]),
        Play::Subscribe(MEASUREMENT),
        Play::Wait(Duration::from_secs(2)),
        Play::Fail(LinkError::Refused("not permitted".into())),
        Play::Wait(Duration::from_secs(100)),
        Play::Quiet,
    ];
    assert!(clocks(&play(&setting(), &script)).is_empty());
}

#[test]
fn a_low_battery_is_a_status_of_what_is_measured() {
    let mut session = GattSession::new(PLAN, &Start::default());
    let now = Moment::ZERO;
    session.handle_event(now, &Event::Up { mtu: 23, security: Security::None, has: &[MEASUREMENT, BATTERY_LEVEL] });
    for (level, expected) in [(100, &[][..]), (10, &["low-battery"]), (11, &[])] {
        session.handle_event(now, &Event::Received { from: BATTERY_LEVEL, octets: &[level], by: By::Read });
        session.measured(Measured::new(Kind::Temperature, now)).unwrap();
        assert!(matches!(session.outputs.poll(), Some(Ok((_, Output::Measured(m)))) if m.status == expected));
    }
    session.handle_event(now, &Event::Down { reason: DownReason::Lost });
    assert!(session.ended() && session.poll_command().is_none() && session.poll_timeout().is_none());
}
