use kit_protocol::plausibility::{StatedBy, accept};
use kit_protocol::reading::{Measured, Memory as Source, Quantity};
use kit_protocol::serial::contec::{Packet, Point, Segment};

use super::*;
use crate::driver::{By, DownReason, DriverError, Event, Output, Session as _};
use crate::exercise::exercise;
use crate::transport::scripted::{Conversation, Given, Step};

fn sends(octets: Vec<u8>) -> Step {
    Step::Sends(Endpoint::SERIAL, By::Serial, octets)
}

fn writes(command: Command) -> Step {
    Step::Write(Endpoint::SERIAL, command.encode())
}

fn realtime(pleth: u8) -> Vec<u8> {
    let realtime = Realtime {
        signal: 5,
        searching_too_long: false,
        low_spo2: false,
        beat: false,
        probe_error: false,
        pleth,
        searching: false,
        bar: 3,
        pulse_rate: Some(72),
        spo2: Some(98),
        perfusion_index: Some(560),
    };
    Message::Realtime(realtime).encode()
}

fn opens() -> Vec<Step> {
    vec![
        Step::Up(vec![Endpoint::SERIAL]),
        writes(Command::StopStored),
        writes(Command::Stop),
        writes(Command::AskSegments(memory::FIRST)),
    ]
}

fn play(start: &Start, script: &[Step]) -> Vec<Given> {
    Conversation::play(Box::new(session(start)), script).unwrap_or_else(|error| panic!("{error}"))
}

fn measured(given: &[Given]) -> Vec<&Measured> {
    given.iter().filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None }).collect()
}

fn samples(given: &[Given]) -> usize {
    let count = |given: &Given| if let Ok((_, Output::Samples { block, .. })) = &given.1 { block.samples.len() } else { 0 };
    given.iter().map(count).sum()
}

fn text(m: &Measured) -> String {
    let values: Vec<_> = m
        .values
        .iter()
        .map(|v| match &v.quantity {
            Quantity::Number(number) => format!("{}={number}", v.code.name().unwrap_or("?")),
            other => format!("{}={other:?}", v.code.name().unwrap_or("?")),
        })
        .collect();
    values.join(" ")
}

const OF: Segment = memory::FIRST;

/// A device with one segment of these points, begun on 2026-11-21 at 22:15:30.
fn stored(points: &[[Option<Point>; 3]]) -> Vec<Step> {
    let octets = u32::try_from(points.len() * 6).unwrap();
    let mut script = opens();
    script.extend([
        sends(Message::Segments { user: 0, count: 1 }.encode()),
        writes(Command::AskLength(OF)),
        writes(Command::AskStart(OF)),
        sends(Message::Length { of: OF, octets }.encode()),
        sends(Message::StartDate { of: OF, year: 2026, month: 11, day: 21 }.encode()),
        sends(Message::StartTime { of: OF, time: [22, 15, 30] }.encode()),
        writes(Command::StopStored),
        writes(Command::StartStored(OF)),
    ]);
    script.extend(points.iter().map(|points| sends(Message::Points(*points).encode())));
    script.extend([writes(Command::StopStored), writes(Command::Start)]);
    script
}

fn point(spo2: u8) -> Option<Point> {
    Some(Point { spo2: Some(spo2), pulse_rate: Some(70), perfusion_index: None })
}

#[test]
fn what_is_measured_is_a_reading_every_ten_seconds_and_a_waveform_and_the_device_hears_from_us() {
    let mut script = opens();
    script.extend([sends(Message::Segments { user: 0, count: 0 }.encode()), writes(Command::StopStored), writes(Command::Start)]);
    for number in 0..720_u32 {
        script.push(Step::Wait(Duration::from_nanos(16_666_667)));
        script.push(sends(realtime(u8::try_from(number % 100).unwrap())));
        if number == 301 || number == 602 {
            script.push(writes(Command::KeepAlive));
        }
    }
    script.push(Step::Down(DownReason::Lost));
    let given = play(&Start::default(), &script);
    let readings = measured(&given);
    assert_eq!(readings.len(), 2);
    assert_eq!(text(readings[0]), "spo2=98 pulse-rate=72 perfusion-index=5.60");
    assert_eq!((readings[0].memory, samples(&given)), (Source::Live, 720));
}

#[test]
fn what_was_stored_comes_with_its_time_and_is_marked_so() {
    let given = play(&Start::default(), &stored(&[[point(97), point(96), point(95)], [point(94), None, None]]));
    let told = given.iter().find_map(|(_, o)| if let Ok((_, Output::Memory { highest })) = o { Some(*highest) } else { None });
    let readings = measured(&given);
    assert_eq!(readings.iter().map(|m| m.memory).collect::<Vec<_>>(), [Source::Stored; 4]);
    let times: Vec<_> = readings.iter().map(|m| m.device_time.unwrap().to_string()).collect();
    assert_eq!((times[0].as_str(), times[3].as_str()), ("2026-11-21T22:15:30", "2026-11-21T22:15:33"));
    let numbers: Vec<_> = readings.iter().map(|m| m.record.unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    // The length counts the filling too: six points may be there.
    assert_eq!(told, Some(Some(numbers[0] + 5)));
    assert_eq!(text(readings[1]), "spo2=96 pulse-rate=70");
}

#[test]
fn i2a_a_memory_that_is_read_again_gives_the_same_octets_times_and_numbers() {
    let script = stored(&[[point(97), point(96), point(95)]]);
    let key =
        |given: &[Given]| -> Vec<_> { measured(given).iter().map(|m| (m.octets.clone(), m.device_time, m.record)).collect() };
    assert_eq!(key(&play(&Start::default(), &script)), key(&play(&Start::default(), &script)));
}

#[test]
fn segments_are_deleted_only_where_that_is_allowed_and_all_of_them_is_durable() {
    let points = [[point(97), point(96), point(95)]];
    let may = Start { may_delete: true, ..Start::default() };
    let mut allowed = stored(&points);
    allowed.insert(0, Step::HoldAnswers);
    allowed.extend([Step::Quiet, Step::Answer, writes(Command::Delete(OF)), Step::Quiet]);
    play(&may, &allowed);

    let mut forbidden = stored(&points);
    forbidden.push(Step::Quiet);
    play(&Start::default(), &forbidden);

    let mut refused = stored(&points);
    refused.insert(0, Step::RefuseNext);
    // The memory's number is refused, if one may say so: a point then.
    refused.push(Step::Quiet);
    let mut conversation = Conversation::new(Box::new(session(&may)));
    let mut script = stored(&points);
    let at = script.len() - 3;
    script.insert(at, Step::RefuseNext);
    script.push(Step::Quiet);
    for step in &script {
        conversation.step(step).unwrap();
    }
}

#[test]
fn a_segment_that_does_not_come_whole_is_kept_on_the_device() {
    let may = Start { may_delete: true, ..Start::default() };
    let mut script = stored(&[[point(97), point(96), point(95)], [point(94), point(93), point(92)]]);
    // The second packet is lost: the points end early.
    script.truncate(script.len() - 3);
    script.extend([Step::Wait(Duration::from_secs(3)), writes(Command::StopStored), writes(Command::Start), Step::Quiet]);
    let given = play(&may, &script);
    assert_eq!(measured(&given).len(), 3);
}

#[test]
fn a_segment_with_octets_lost_in_it_gives_no_point_at_a_wrong_time() {
    let mut script = stored(&[[point(97), point(96), point(95)], [point(94), point(93), point(92)]]);
    // Before its last packet: half of another one.
    let at = script.len() - 3;
    script.insert(at, sends(vec![0x0f, 0x80, 0x80]));
    let given = play(&Start::default(), &script[..at + 2]);
    assert_eq!(measured(&given).len(), 0);
}

#[test]
fn a_night_waits_for_a_store_that_is_slow_and_nothing_of_it_is_lost() {
    let points: Vec<_> = (0..2_000).map(|_| [point(97), point(96), point(95)]).collect();
    let mut script = stored(&points);
    script.insert(0, Step::HoldAnswers);
    script.push(Step::Answer);
    assert_eq!(measured(&play(&Start::default(), &script)).len(), 6_000);
}

#[test]
fn a_clock_that_was_never_set_leaves_the_segment_on_the_device() {
    let mut script = opens();
    script.extend([
        sends(Message::Segments { user: 0, count: 1 }.encode()),
        writes(Command::AskLength(OF)),
        writes(Command::AskStart(OF)),
        sends(Message::Length { of: OF, octets: 6 }.encode()),
        sends(Message::StartDate { of: OF, year: 2026, month: 0, day: 21 }.encode()),
        sends(Message::StartTime { of: OF, time: [22, 15, 30] }.encode()),
        writes(Command::StopStored),
        writes(Command::Start),
        Step::Quiet,
    ]);
    play(&Start { may_delete: true, ..Start::default() }, &script);
}

#[test]
fn an_old_device_is_found_at_the_other_speed() {
    let mut conversation = Conversation::new(Box::new(session(&Start::default())));
    opens().iter().for_each(|step| conversation.step(step).unwrap());
    conversation.step(&Step::Wait(Duration::from_secs(4))).unwrap();
    // The port is set.
    conversation.step(&Step::Fail(crate::driver::LinkError::Timeout)).unwrap();
    for _ in 0..700 {
        conversation.step(&Step::Wait(Duration::from_nanos(16_666_667))).unwrap();
        conversation.step(&sends(vec![0x85, 0x40, 0x43, 0x02, 0x62])).unwrap();
    }
    conversation.step(&Step::Quiet).unwrap();
    conversation.step(&Step::Down(DownReason::Lost)).unwrap();
    let given = conversation.given();
    assert_eq!(text(measured(given)[0]), "spo2=98 pulse-rate=130");
    assert_eq!((measured(given).len(), samples(given)), (2, 700));
}

#[test]
fn a_line_on_which_nothing_comes_is_given_up() {
    let mut conversation = Conversation::new(Box::new(session(&Start::default())));
    conversation.step(&Step::Up(vec![Endpoint::SERIAL])).unwrap();
    conversation.step(&Step::Wait(Duration::from_secs(60))).unwrap();
    let errors = conversation.given().iter().filter(|(_, o)| matches!(o, Err(DriverError::NotThisDevice(_)))).count();
    assert_eq!(errors, 1);
}

#[test]
fn absent_values_and_statuses_leave_no_false_number() {
    // R08.3: probe error, everything absent. R11.2 with numbers: finger out.
    let mut script = opens();
    for _ in 0..3 {
        script.push(sends(vec![0x01, 0xe9, 0x85, 0xc0, 0x83, 0xff, 0xff, 0xff, 0xff]));
    }
    script.push(Step::Down(DownReason::Lost));
    let given = play(&Start::default(), &script);
    assert!(measured(&given).is_empty());
    let artifact = given.iter().any(|(_, o)| matches!(o, Ok((_, Output::Samples { block, .. })) if block.artifact));
    assert!(artifact);
    let said = Oximetry { spo2: Some(0), pulse_rate: Some(61), ..Oximetry::default() }.measured(Moment::ZERO, Vec::new());
    assert_eq!(text(&said), "spo2=Special(NotAvailable) pulse-rate=61");
    assert!(accept(&mut said.values.clone(), &[], StatedBy::Device).is_ok());
}

/// Vectors X01: OxiVis, issue 2.
#[test]
fn over_bluetooth_numbers_and_waveform_come_in_any_split() {
    let stream =
        [&[0xeb, 0x01, 0x04, 0x53, 0x63, 0x7f, 0x00, 0x25][..], &[0xeb, 0x00, 0x03, 0x48, 0x09, 0x3f].repeat(5)].concat();
    for size in [1, 3, 7, 20] {
        let mut script = vec![Step::Up(vec![NOTIFIES, WRITES]), Step::Subscribe(NOTIFIES)];
        script.push(Step::Write(WRITES, vec![0x9b, 0x01, 0x1c]));
        script.extend(stream.chunks(size).map(|part| Step::Sends(NOTIFIES, By::Notification, part.to_vec())));
        script.push(Step::Down(DownReason::Lost));
        let given = play(&Start::default(), &script);
        assert_eq!((text(measured(&given)[0]).as_str(), samples(&given)), ("spo2=99 pulse-rate=83", 5));
    }
}

#[test]
fn a_lost_packet_is_declared_and_the_waveform_goes_on() {
    let mut script = opens();
    let mut stream = (0..9).flat_map(realtime).collect::<Vec<_>>();
    stream[4 * 9 + 3] &= 0x7f;
    script.extend([sends(stream), Step::Down(DownReason::Lost)]);
    let given = play(&Start::default(), &script);
    let lost: Vec<_> = given.iter().filter(|(_, o)| matches!(o, Err(DriverError::SamplesLost { .. }))).collect();
    assert_eq!((lost.len(), samples(&given)), (1, 8), "{lost:?}");
}

#[test]
fn commands_are_those_that_the_row_allows() {
    for command in
        [Command::Start, Command::AskSegments(OF), Command::Delete(Segment { user: 1, segment: 2 }), Command::KeepAlive]
    {
        assert!(DRIVER.allows(Endpoint::SERIAL, &command.encode()).is_some(), "{command:?}");
    }
    let set_time = Packet { kind: 0x7d, data: vec![0xb1, 1, 2, 3, 0, 0, 0] }.encode();
    assert!(DRIVER.allows(Endpoint::SERIAL, &set_time).is_none());
}

proptest::proptest! {
    #[test]
    fn whatever_comes_the_session_keeps_to_its_bounds(script in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        exercise(&DRIVER, &script);
    }
}

/// Found by the fuzz target `session-oximeter-contec`: the device was told that we are there again and again.
#[test]
fn i9_a_link_that_answers_no_command_is_given_up() {
    let mut session = session(&Start::default());
    session.handle_event(Moment::ZERO, Event::Up { mtu: 23, security: Security::None, has: &[Endpoint::SERIAL] });
    let (mut now, mut commands) = (Moment::ZERO, 0);
    for _ in 0..200 {
        let octets = realtime(64);
        session.handle_event(now, Event::Received { from: Endpoint::SERIAL, octets: &octets, by: By::Serial });
        while let Some(command) = session.poll_command() {
            commands += 1;
            if matches!(command, crate::driver::Command::Close) {
                let mut outputs = std::iter::from_fn(|| session.poll_output());
                assert!(outputs.any(|output| output == Err(DriverError::Protocol("commands are not answered".into()))));
                assert!(commands <= 40, "{commands} commands");
                return;
            }
        }
        now = now + KEEP_ALIVE;
        session.handle_timeout(now);
    }
    panic!("{commands} commands, and no end");
}
