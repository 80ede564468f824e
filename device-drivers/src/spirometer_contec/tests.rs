use proptest::prelude::*;

use super::*;
use crate::driver::{By, DownReason};
use crate::transport::scripted::{Conversation, Given, Step};

fn record(number: u16, fvc: u16) -> Vec<u8> {
    let time = DateTime { year: 2026, month: 3, day: 14, hour: 9, minute: 26, second: 53 };
    let fields = [fvc, 310, 373, 864, 425, 0, 800, 640, 433, 217, 394, 80, 8];
    Record { kind: 1, number, time, sex: 1, age: 61, height: 171, standard: 1, drug: true, fields }.encode()
}

fn sends(octets: &[u8]) -> Step {
    Step::Sends(NOTIFIED, By::Notification, octets.to_vec())
}

fn writes(request: Request) -> Step {
    Step::Write(WRITTEN, request.encode())
}

/// Up to the number of records.
fn handshake(count: u8) -> Vec<Step> {
    vec![
        Step::Up(vec![WRITTEN, NOTIFIED]),
        Step::Subscribe(NOTIFIED),
        writes(Request::Begin),
        sends(&[0xf0, 0x00]),
        writes(Request::Second),
        sends(&[0xf2, 0, 0, 0, 0, 0, 0, 0]),
        writes(Request::Third),
        sends(&[&[0xe4][..], &[0; 22]].concat()),
        writes(Request::Count),
        sends(&[0xe0, count, 0, 0, 0, 0, 0, 0, 0, 0]),
    ]
}

/// A record in three pieces and its curve of three samples, with a tail that means nothing.
fn one(number: u16, octets: &[u8], request: Request) -> Vec<Step> {
    let curve = [&[0xe2, number.to_le_bytes()[0], 0, 3, 0][..], &[0x55; 24]].concat();
    let mut steps = vec![writes(request)];
    steps.extend(octets.chunks(20).map(sends));
    steps.push(writes(Request::Curve));
    steps.extend(curve.chunks(20).map(sends));
    steps.push(sends(&[0x12, 0x34]));
    steps.push(Step::Wait(TAIL));
    steps
}

fn play(start: Start, steps: Vec<Step>) -> Vec<Given> {
    Conversation::play((DRIVER.session)(start), &steps).unwrap()
}

#[test]
fn records_come_with_their_numbers_and_are_kept() {
    let mut steps = handshake(2);
    steps.extend(one(1, &record(1, 432), Request::First));
    steps.extend(one(2, &record(2, 440), Request::Next));
    steps.extend([writes(Request::Keep), Step::Close]);
    let given = play(Start::default(), steps);
    assert_eq!(given.len(), 3);
    assert!(matches!(given[0].1, Ok((_, Output::Memory { highest: Some(2) }))));
    let Ok((_, Output::Measured(m))) = &given[2].1 else { panic!("{:?}", given[2]) };
    assert_eq!(
        (m.record, m.memory, m.device_time.unwrap().to_string().as_str()),
        (Some(2), Memory::Stored, "2026-03-14T09:26:53")
    );
    assert_eq!(m.context, [Context { what: "bronchodilator", value: "after" }]);
    let number = |mantissa, exponent| Quantity::Number(kit_protocol::decimal::Decimal::new(mantissa, exponent));
    assert_eq!((&m.values[0].quantity, &m.values[2].quantity), (&number(440, -2), &number(864, -1)));
    assert_eq!(m.values[3].quantity, Quantity::Special(Special::NotAvailable), "FEV6 was not measured");
}

#[test]
fn i1_records_are_deleted_only_when_they_may_be_and_every_one_is_durable() {
    let may = Start { may_delete: true, ..Start::default() };
    let story = |record_octets: &[u8], before: Vec<Step>, after: Vec<Step>| {
        let mut steps = handshake(1);
        steps.extend(before);
        steps.extend(one(1, record_octets, Request::First));
        steps.extend(after);
        play(may.clone(), steps)
    };
    let good = record(1, 432);
    story(&good, vec![], vec![writes(Request::Delete), Step::Close]);
    story(&good, vec![Step::HoldAnswers], vec![Step::Quiet, Step::Answer, writes(Request::Delete), Step::Close]);
    story(&good, vec![Step::HoldAnswers], vec![Step::Wait(SETTLING_MAX), writes(Request::Keep), Step::Close]);
    story(&good, vec![Step::RefuseNext], vec![writes(Request::Keep), Step::Close]);
    let mut bad = good.clone();
    bad[18] ^= 1;
    let given = story(&bad, vec![], vec![writes(Request::Keep), Step::Close]);
    assert!(matches!(given[1].1, Err(DriverError::Undecodable { .. })));
}

#[test]
fn an_empty_memory_is_told_and_left() {
    let mut steps = handshake(0);
    steps.extend([writes(Request::Keep), Step::Close]);
    assert!(matches!(play(Start::default(), steps)[0].1, Ok((_, Output::Memory { highest: None }))));
}

#[test]
fn the_clock_is_set_only_where_it_may_be() {
    let time = DateTime { year: 2026, month: 11, day: 22, hour: 2, minute: 5, second: 59 };
    let steps = |last| {
        let begin = [Step::Up(vec![NOTIFIED]), Step::Subscribe(NOTIFIED), writes(Request::Begin), sends(&[0xf0, 0x00])];
        begin.into_iter().chain([last]).collect::<Vec<_>>()
    };
    let start = |may_set_clock| Start { civil_time: Some(time), may_set_clock, ..Start::default() };
    let given = play(start(true), steps(writes(Request::SetTime(time))));
    assert!(matches!(given[0].1, Ok((_, Output::DeviceClock { device, .. })) if device == time));
    assert!(play(start(false), steps(writes(Request::Second))).is_empty());
}

#[test]
fn every_write_is_on_the_list() {
    let time = DateTime { year: 2026, month: 11, day: 22, hour: 2, minute: 5, second: 59 };
    for request in
        [Request::Begin, Request::Second, Request::Third, Request::Count, Request::First, Request::Next, Request::Curve]
    {
        let effect = DRIVER.allows(WRITTEN, &request.encode()).unwrap().effect;
        assert!(matches!(effect, Effect::Ask | Effect::Converse), "{request:?}");
    }
    assert_eq!(DRIVER.allows(WRITTEN, &Request::SetTime(time).encode()).unwrap().effect, Effect::SetClock);
    assert_eq!(DRIVER.allows(WRITTEN, &Request::Delete.encode()).unwrap().effect, Effect::Delete);
    assert_eq!(DRIVER.allows(WRITTEN, &Request::Keep.encode()).unwrap().effect, Effect::Converse);
    assert!(DRIVER.allows(WRITTEN, &[0x93, 0x13]).is_none(), "93 deletes at once");
}

#[test]
fn silence_and_messages_of_no_kind_end_the_conversation() {
    let begin = || vec![Step::Up(vec![NOTIFIED]), Step::Subscribe(NOTIFIED), writes(Request::Begin)];
    for last in [Step::Wait(ANSWER_MAX), sends(&[0x55])] {
        let mut steps = begin();
        steps.extend([last, Step::Close]);
        assert!(matches!(play(Start::default(), steps)[0].1, Err(DriverError::Protocol(_))));
    }
    let given = play(Start::default(), vec![Step::Up(vec![]), Step::Close]);
    assert!(matches!(given[0].1, Err(DriverError::NotThisDevice(_))));
}

proptest! {
    #[test]
    fn no_octets_and_no_order_of_events_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..50),
                (0..7_usize, proptest::collection::vec(0..128_u8, 50)).prop_map(|(kind, mut octets)| {
                    octets[0] = [0xf0, 0xf3, 0xf2, 0xe4, 0xe0, 0xe1, 0xe2][kind];
                    octets
                }),
                (1..4_u16).prop_map(|number| record(number, 400)),
            ],
            0..30,
        ),
        pause in 0..20_u64,
    ) {
        let mut session = Spirometer::new(&Start { may_delete: true, ..Start::default() });
        let mut now = Moment::ZERO;
        session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &[NOTIFIED] });
        for piece in pieces {
            for _ in 0..20 {
                match session.poll_command() {
                    Some(Command::Subscribe(command, _) | Command::Write { token: command, .. }) => {
                        session.handle_event(now, Event::Done { command });
                    }
                    _ => break,
                }
            }
            while let Some(output) = session.poll_output() {
                if let Ok((reading, _)) = output {
                    session.handle_event(now, Event::Stored { reading });
                }
            }
            now = now + Duration::from_secs(pause);
            session.handle_timeout(now);
            session.handle_event(now, Event::Received { from: NOTIFIED, octets: &piece, by: By::Notification });
            prop_assert!(session.waiting.len() <= 200);
        }
        session.handle_event(now, Event::Down { reason: DownReason::Lost });
        prop_assert_eq!(session.poll_timeout(), None);
    }
}
