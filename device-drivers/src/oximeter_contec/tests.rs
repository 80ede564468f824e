use kit_protocol::plausibility::{StatedBy, accept};
use kit_protocol::reading::{Block, Measured, Memory as Source, Quantity, RecordingHead};
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

/// Samples of the waveform.
fn samples(given: &[Given]) -> usize {
    let count = |given: &Given| if let Ok((_, Output::Samples { block, .. })) = &given.1 { block.samples.len() } else { 0 };
    given.iter().map(count).sum::<usize>() - stored_samples(given).len()
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

/// What of a memory was handed over: each recording's head, with its blocks.
fn recordings(given: &[Given]) -> Vec<(RecordingHead, Vec<Block>)> {
    let mut all: Vec<(u32, RecordingHead, Vec<Block>)> = Vec::new();
    for (_, output) in given {
        match output {
            Ok((_, Output::Begin { recording, head })) if head.memory == Source::Stored => {
                all.push((*recording, head.clone(), Vec::new()));
            }
            Ok((_, Output::Samples { recording, block })) => {
                let of = all.iter_mut().find(|(number, ..)| number == recording);
                of.into_iter().for_each(|(_, _, blocks)| blocks.push(block.clone()));
            }
            _ => {}
        }
    }
    all.into_iter().map(|(_, head, blocks)| (head, blocks)).collect()
}

/// Its samples, if there is one recording.
fn stored_samples(given: &[Given]) -> Vec<i32> {
    recordings(given).into_iter().flat_map(|(_, blocks)| blocks).flat_map(|block| block.samples).collect()
}

#[test]
fn a_stored_segment_is_one_recording_with_its_time_of_a_point_a_second() {
    let given = play(&Start::default(), &stored(&[[point(97), point(96), point(95)], [point(94), None, None]]));
    let told = given.iter().find_map(|(_, o)| if let Ok((_, Output::Memory { highest })) = o { Some(*highest) } else { None });
    let [(head, blocks)] = &recordings(&given)[..] else { panic!("{given:?}") };
    assert_eq!(head.device_time.unwrap().to_string(), "2026-11-21T22:15:30");
    assert_eq!((told, head.continuous), (Some(head.record), false));
    assert_eq!((head.rate.samples, head.rate.seconds), (1, 1));
    let channels: Vec<_> = head.channels.iter().map(|channel| (channel.code.name().unwrap(), channel.unit)).collect();
    assert_eq!(channels, [("spo2", "%"), ("pulse-rate", "/min")]);
    // The last packet was filled up.
    assert_eq!(blocks[0].samples, [97, 70, 96, 70, 95, 70, 94, 70]);
    assert_eq!((blocks.len(), blocks[0].device_counter, blocks[0].lead_off), (1, head.record, 0));
    assert!(measured(&given).is_empty());
}

#[test]
fn seconds_without_a_value_keep_their_place_and_are_flagged() {
    let given = play(&Start::default(), &stored(&[[point(97), None, point(0x7f)], [None, None, point(95)]]));
    let [(_, blocks)] = &recordings(&given)[..] else { panic!("{given:?}") };
    let flagged: Vec<_> = blocks.iter().map(|block| (block.first, block.lead_off, block.samples.clone())).collect();
    let expected = [
        (0, 0b00, vec![97, 70]),
        (1, 0b11, vec![0, 0]),
        (2, 0b01, vec![0x7f, 70]),
        (3, 0b11, vec![0, 0, 0, 0]),
        (5, 0b00, vec![95, 70]),
    ];
    assert_eq!(flagged, expected);
}

#[test]
fn points_with_an_index_have_a_third_channel() {
    let mut script = stored(&[]);
    let at = script.iter().position(|step| matches!(step, Step::Sends(_, _, octets) if octets[0] == 0x08)).unwrap();
    script[at] = sends(Message::Length { of: OF, octets: 8 }.encode());
    let end = script.len() - 2;
    let with = |index| Message::PointWithIndex(Point { perfusion_index: index, ..point(97).unwrap() }).encode();
    script.splice(end..end, [sends(with(Some(560))), sends(with(None))]);
    let given = play(&Start::default(), &script);
    let [(head, blocks)] = &recordings(&given)[..] else { panic!("{given:?}") };
    let index = &head.channels[2];
    assert_eq!((index.code.name(), index.unit, index.scale), (Some("perfusion-index"), "%", Decimal::new(1, -2)));
    let flagged: Vec<_> = blocks.iter().map(|block| (block.lead_off, block.samples.clone())).collect();
    assert_eq!(flagged, [(0, vec![97, 70, 560]), (0b100, vec![97, 70, 65_535])]);
}

#[test]
fn i2a_a_memory_that_is_read_again_gives_the_same_recording_and_a_longer_one_another() {
    let name = |points: &[[Option<Point>; 3]]| {
        let [(head, blocks)] = &recordings(&play(&Start::default(), &stored(points)))[..] else { panic!("no recording") };
        (head.octets.clone(), head.device_time, head.record, blocks.clone())
    };
    let short = [[point(97), point(96), point(95)]];
    assert_eq!(name(&short), name(&short));
    let long = name(&[short[0], short[0]]);
    assert_eq!((long.1, long.2), (name(&short).1, name(&short).2));
    assert_ne!(long.0, name(&short).0, "no point of it is taken for known");
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

    assert_eq!([deletes(&points, false), deletes(&points, true)], [true, false], "its block is refused");
}

/// Whether the segment is deleted where all that is handed over is answered `Stored`, or its samples are refused.
fn deletes(points: &[[Option<Point>; 3]], refuse: bool) -> bool {
    let mut session = session(&Start { may_delete: true, ..Start::default() });
    let now = Moment::ZERO;
    session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &[Endpoint::SERIAL] });
    let mut deleted = false;
    for step in stored(points) {
        let Step::Sends(from, by, octets) = step else { continue };
        session.handle_event(now, Event::Received { from, octets: &octets, by });
        let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
        for (reading, output) in outputs.into_iter().flatten() {
            let refused = refuse && matches!(output, Output::Samples { .. });
            session.handle_event(now, if refused { Event::Refused { reading } } else { Event::Stored { reading } });
        }
        while let Some(command) = session.poll_command() {
            deleted |= matches!(command, crate::driver::Command::Write { octets, .. } if octets == Command::Delete(OF).encode());
        }
    }
    deleted
}

/// A segment of six points of which the second packet never comes, as often as it is asked for.
fn ends_early(asked: &[&[[Option<Point>; 3]]]) -> Vec<Step> {
    let mut script = stored(&[[point(97), point(96), point(95)], [point(94), point(93), point(92)]]);
    script.truncate(script.len() - 4);
    for (again, points) in asked.iter().enumerate() {
        if again > 0 {
            script.extend([writes(Command::StopStored), writes(Command::StartStored(OF))]);
        }
        script.extend(points.iter().map(|points| sends(Message::Points(*points).encode())));
        script.push(Step::Wait(Duration::from_millis(2_100)));
    }
    script.extend([writes(Command::StopStored), writes(Command::Start), Step::Quiet]);
    script
}

#[test]
fn a_segment_that_ends_early_is_asked_for_once_more_and_stays_on_the_device() {
    let may = Start { may_delete: true, ..Start::default() };
    let short = [[point(97), point(96), point(95)]];
    let other = [[point(97), point(96), point(90)]];
    let alike = play(&may, &ends_early(&[&short, &short]));
    assert_eq!(stored_samples(&alike), [97, 70, 96, 70, 95, 70]);
    assert!(stored_samples(&play(&may, &ends_early(&[&short, &other]))).is_empty(), "nobody knows which is right");
    assert!(stored_samples(&play(&may, &ends_early(&[&[]]))).is_empty());
}

#[test]
fn a_segment_that_comes_whole_when_it_is_asked_for_again_is_taken_once() {
    let (short, whole) = ([[point(97), point(96), point(95)]], [[point(97), point(96), point(95)], [point(94); 3]]);
    let mut script = ends_early(&[&short, &whole]);
    // It does not wait for what has come.
    script.retain(|step| !matches!(step, Step::Quiet));
    let at = script.iter().rposition(|step| matches!(step, Step::Wait(_))).unwrap();
    script.remove(at);
    let given = play(&Start::default(), &script);
    assert_eq!((recordings(&given).len(), stored_samples(&given).len()), (1, 12));
}

#[test]
fn a_segment_with_octets_lost_in_it_gives_no_point_at_a_wrong_time() {
    let mut script = stored(&[[point(97), point(96), point(95)], [point(94), point(93), point(92)]]);
    // Before its last packet: half of another one.
    let at = script.len() - 3;
    script.insert(at, sends(vec![0x0f, 0x80, 0x80]));
    let given = play(&Start::default(), &script[..at + 2]);
    assert!(recordings(&given).is_empty());
}

#[test]
fn a_night_waits_for_a_store_that_is_slow_and_nothing_of_it_is_lost() {
    let points: Vec<_> = (0..10_000).map(|_| [point(97), point(96), point(95)]).collect();
    let mut script = stored(&points);
    script.insert(0, Step::HoldAnswers);
    let held = play(&Start::default(), &script);
    assert_eq!(stored_samples(&held).len(), 2 * 10 * trend::BLOCK_POINTS, "so much may await its answer");
    script.push(Step::Answer);
    let given = play(&Start::default(), &script);
    let [(_, blocks)] = &recordings(&given)[..] else { panic!("one night") };
    assert_eq!((blocks.len(), stored_samples(&given).len()), (100, 60_000));
}

#[test]
fn what_is_measured_while_a_night_waits_finds_its_room() {
    let points: Vec<_> = (0..10_000).map(|_| [point(97), point(96), point(95)]).collect();
    let mut script = stored(&points);
    script.insert(0, Step::HoldAnswers);
    script.extend((0..120_u8).map(|number| sends(realtime(number % 100))));
    script.extend([Step::Answer, Step::Down(DownReason::Lost)]);
    let given = play(&Start::default(), &script);
    assert!(!given.iter().any(|(_, output)| matches!(output, Err(DriverError::SamplesLost { .. }))));
    assert_eq!(samples(&given), 120);
}

/// Found by the fuzz target `session-oximeter-contec`: the prefix of a question about user 135 was one that no row allows.
#[test]
fn a_segment_that_was_never_counted_is_not_asked_for() {
    let far = Segment { user: 0x87, segment: 0xff };
    let mut script = opens();
    script.extend([
        sends(Message::Length { of: far, octets: 6 }.encode()),
        sends(Message::StartDate { of: far, year: 2026, month: 11, day: 21 }.encode()),
        sends(Message::StartTime { of: far, time: [22, 15, 30] }.encode()),
        Step::Quiet,
        sends(Message::Segments { user: 0, count: 1 }.encode()),
        writes(Command::AskLength(OF)),
        writes(Command::AskStart(OF)),
        sends(Message::Length { of: far, octets: 6 }.encode()),
        sends(Message::StartTime { of: Segment { user: 0, segment: 1 }, time: [22, 15, 30] }.encode()),
        Step::Wait(Duration::from_secs(3)),
        writes(Command::StopStored),
        writes(Command::Start),
        Step::Quiet,
    ]);
    assert!(recordings(&play(&Start { may_delete: true, ..Start::default() }, &script)).is_empty());
    // As it was found.
    let script = [
        0x45, 0x70, 0x80, 0x92, 0x28, 0x80, 0x04, 0x3a, 0x06, 0x00, 0x08, 0x03, 0x21, 0x12, 0x80, 0x0a, 0x80, 0x80, 0x82, 0xa6,
        0x92, 0x04, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xdc, 0x00, 0x01,
        0x00, 0x08, 0x12, 0x80, 0x82, 0x80, 0x84, 0x08, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0x80,
        0xff, 0x82, 0xa6, 0x92, 0x80, 0x04, 0x00, 0x06, 0x00, 0x03, 0x0a,
    ];
    exercise(&DRIVER, &script);
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
