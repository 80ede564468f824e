use kit_protocol::file::FileRecording;
use proptest::prelude::*;

use super::*;
use crate::driver::{About, DownReason, LinkError};
use crate::transport::scripted::{Conversation, Given, Step};

const HAS: [Endpoint; 2] = [WRITTEN, NOTIFIED];

fn start(name: &str) -> Start {
    Start { about: About { name: Some(name.into()), ..About::default() }, ..Start::default() }
}

fn sends(frame: &Frame) -> Step {
    Step::Sends(NOTIFIED, By::Notification, frame.encode())
}

fn asks(frame: &Frame) -> Step {
    Step::Write(WRITTEN, frame.encode())
}

fn answer(command: FrameCommand, content: Vec<u8>) -> Frame {
    Frame { command, kind: 1, sequence: 0, content }
}

fn information() -> Frame {
    let time = kit_protocol::gatt::date_time::DateTime { year: 2026, month: 11, day: 21, hour: 10, minute: 30, second: 0 };
    answer(FrameCommand::INFORMATION, Information { device_type: 3, time: Some(time), serial: b"1".to_vec() }.encode())
}

/// An answer of an ER3: rows from `first`, in which every channel is the row's number and its own.
fn er3(first: u32, rows: u32) -> LiveNumbered {
    let row = |row: u32| (0..4).map(move |channel| i16::try_from(row % 5_000 * 4 + channel).unwrap());
    LiveNumbered {
        heart_rate: 0,
        battery: Battery { state: 0, percent: 80 },
        cable: true,
        seconds: 1,
        time: None,
        lead_type: LeadType::SIX,
        leads_off: 0,
        first,
        samples: (first..first + rows).flat_map(row).collect(),
    }
}

fn numbered(live: &LiveNumbered) -> Step {
    sends(&answer(FrameCommand::LIVE_NUMBERED, live.encode()))
}

fn er1(samples: &[i16]) -> Live {
    let battery = Battery { state: 0, percent: 80 };
    Live { heart_rate: 0, flags: 0, battery, seconds: 1, state: 2, channels: 1, samples: samples.to_vec() }
}

fn plain(live: &Live) -> Step {
    sends(&answer(FrameCommand::LIVE, live.encode()))
}

const HALF: Step = Step::Wait(ASK_EVERY);

/// Set up, with the information given.
fn opened() -> Vec<Step> {
    vec![Step::Up(HAS.to_vec()), Step::Subscribe(NOTIFIED), asks(&Frame::information(0)), sends(&information())]
}

fn play(name: &str, steps: impl IntoIterator<Item = Step>) -> Vec<Given> {
    let script: Vec<_> = opened().into_iter().chain(steps).chain([Step::Down(DownReason::Lost)]).collect();
    Conversation::play((DRIVER.session)(start(name)), &script).unwrap()
}

fn story(given: &[Given]) -> Vec<String> {
    given
        .iter()
        .map(|(_, output)| match output {
            Ok((_, Output::Begin { recording, head })) => {
                let leads: Vec<_> = head.channels.iter().map(|channel| channel.code.name().unwrap()).collect();
                format!("begin {recording} {} {} {}", leads.join(","), head.rate.samples, head.channels[0].scale)
            }
            Ok((_, Output::Samples { recording, block })) => {
                let counter = block.device_counter.map_or(String::new(), |counter| format!(" @{counter}"));
                let artifact = if block.artifact { " artifact" } else { "" };
                let off = if block.lead_off == 0 { String::new() } else { format!(" off {:b}", block.lead_off) };
                format!("{recording}: {}+{}{counter}{off}{artifact}", block.first, block.samples.len())
            }
            Ok((_, Output::End { recording })) => format!("end {recording}"),
            Ok((_, Output::Measured(m))) if m.is_judgement() => format!("found of {:?}", m.recording),
            Ok((_, Output::Measured(m))) => {
                let Quantity::Number(rate) = m.values[0].quantity else { panic!("{m:?}") };
                format!("heart rate {rate} {} {:?}", m.status.join(","), m.recording)
            }
            Ok((_, Output::DeviceClock { device, .. })) => format!("clock {device}"),
            Ok((_, other)) => format!("{other:?}"),
            Err(DriverError::SamplesLost { recording, first, count }) => format!("{recording}: lost {first}+{count}"),
            Err(error) => error.to_string(),
        })
        .collect()
}

fn asked(sequence: u8) -> Step {
    asks(&Frame::live_numbered(sequence))
}

const CLOCK: &str = "clock 2026-11-21T10:30:00";
const FOUR: &str = "begin 1 V5,I,II,V1 250 0.00244140625";

#[test]
fn an_er3_is_asked_twice_a_second_and_recorded_by_its_numbers() {
    let given = play(
        "ER3 0017",
        [
            HALF,
            asked(1),
            numbered(&er3(1_000, 125)),
            Step::Quiet,
            HALF,
            asked(2),
            numbered(&er3(1_125, 125)),
            HALF,
            asked(3),
            numbered(&er3(1_250, 10)),
        ],
    );
    assert_eq!(story(&given), [CLOCK, FOUR, "1: 0+500 @1000", "1: 125+500 @1125", "1: 250+40 @1250", "end 1"]);
    for (_, output) in &given {
        if let Ok((_, Output::Samples { block, .. })) = output {
            let first = i32::try_from(block.device_counter.unwrap()).unwrap() * 4;
            assert!(block.samples.iter().copied().eq((first..).take(block.samples.len())), "bit for bit");
        }
    }
}

#[test]
fn i4_what_a_device_gathered_before_the_link_came_up_is_not_recorded() {
    let given = play("ER3", [HALF, asked(1), numbered(&er3(1_000, 375)), HALF, asked(2), numbered(&er3(1_375, 125))]);
    assert_eq!(story(&given), [CLOCK, FOUR, "1: 0+500 @1250", "1: 125+500 @1375", "end 1"]);
}

#[test]
fn a_hole_in_the_numbers_is_counted_and_numbers_that_go_back_begin_anew() {
    let given = play(
        "ER3",
        [
            HALF,
            asked(1),
            numbered(&er3(0, 10)),
            numbered(&er3(0, 10)),
            HALF,
            asked(2),
            numbered(&er3(30, 10)),
            HALF,
            asked(3),
            numbered(&er3(0, 5)),
        ],
    );
    assert_eq!(
        story(&given),
        [
            CLOCK,
            FOUR,
            "1: 0+40 @0",
            "1: lost 10+20",
            "1: 30+40 @30",
            "1: lost 40+0",
            "end 1",
            &FOUR.replace(" 1 ", " 2 "),
            "2: 0+20 @0",
            "end 2"
        ],
        "the same answer twice is one"
    );
}

#[test]
fn leads_that_are_off_say_so() {
    let mut off = er3(0, 4);
    off.leads_off = 1 << 10;
    off.samples[7] = Live::LEAD_OFF;
    let mut limb = er3(4, 2);
    limb.leads_off = 2;
    let given = play("ER3", [HALF, asked(1), numbered(&off), numbered(&limb)]);
    let expected = [CLOCK, FOUR, "1: 0+4 @0 off 1", "1: 1+4 @1 off 1001", "1: 2+8 @2 off 1", "1: 4+8 @4 off 1101", "end 1"];
    assert_eq!(story(&given), expected);
}

#[test]
fn channels_without_an_electrode_are_not_recorded() {
    let mut three = er3(0, 2);
    three.lead_type = LeadType(5);
    let given = play("ER3", [HALF, asked(1), numbered(&three)]);
    assert_eq!(story(&given), [CLOCK, "begin 1 I,II 250 0.00244140625", "1: 0+4 @0", "end 1"]);
}

#[test]
fn an_er1_has_one_lead_and_no_numbers() {
    let mut idle = er1(&[32_767, 32_767]);
    idle.state = 7;
    let mut bad = er1(&[1, 2]);
    (bad.flags, bad.heart_rate, bad.battery.state) = (2, 71, 3);
    let given = play(
        "ER1",
        [
            HALF,
            asks(&Frame::live(1)),
            plain(&er1(&[-23, -20, 140])),
            HALF,
            asks(&Frame::live(2)),
            plain(&idle),
            HALF,
            asks(&Frame::live(3)),
            plain(&bad),
        ],
    );
    let expected = [
        CLOCK,
        "begin 1 ecg 125 0.002467221723943",
        "1: 0+3",
        "1: 3+2 off 1",
        "heart rate 71 low-battery,poor-signal Some(1)",
        "1: 5+2 artifact",
        "end 1",
    ];
    assert_eq!(story(&given), expected);
    let two = play("ER2", [HALF, asks(&Frame::live(1)), plain(&er1(&[1]))]);
    assert_eq!(story(&two)[1], "begin 1 I 125 0.002467221723943");
    let four = Live { channels: 4, ..er1(&[1, 2, 3, 4]) };
    let first_er3 = play("ER1", [HALF, asks(&Frame::live(1)), plain(&four)]);
    assert_eq!(story(&first_er3)[1..3], ["begin 1 V5,I,II,V1 125 0.002467221723943", "1: 0+4"]);
}

#[test]
fn an_answer_that_never_came_is_a_hole_that_nobody_can_count() {
    let given = play(
        "ER1",
        [
            HALF,
            asks(&Frame::live(1)),
            plain(&er1(&[1, 2])),
            HALF,
            asks(&Frame::live(2)),
            Step::Wait(ANSWER_MAX + ASK_EVERY),
            asks(&Frame::live(3)),
            plain(&er1(&[3])),
        ],
    );
    assert_eq!(story(&given)[2..], ["1: 0+2", "1: lost 2+0", "1: 2+1", "end 1"]);
}

#[test]
fn the_request_that_a_device_does_not_know_is_not_kept_to() {
    let wait = Step::Wait(ANSWER_MAX + ASK_EVERY);
    let given = play("Viatom", [HALF, asks(&Frame::live(1)), wait.clone(), asked(2), numbered(&er3(0, 1)), HALF, asked(3)]);
    assert_eq!(story(&given), [CLOCK, FOUR, "1: 0+4 @0", "end 1"]);
    let mut silent = vec![Step::Up(HAS.to_vec()), Step::Subscribe(NOTIFIED), asks(&Frame::information(0))];
    for sequence in 1..MISSED_MAX {
        silent.push(wait.clone());
        silent.push(asks(&if sequence % 2 == 1 { Frame::live(sequence) } else { Frame::live_numbered(sequence) }));
    }
    silent.extend([wait, Step::Close, Step::Wait(Duration::from_secs(60)), Step::Quiet]);
    let given = Conversation::play((DRIVER.session)(start("ER1")), &silent).unwrap();
    assert_eq!(story(&given), ["protocol broken: the device does not answer"]);
}

#[test]
fn what_cannot_be_read_is_refused_and_the_conversation_goes_on() {
    let broken = answer(FrameCommand::LIVE_NUMBERED, vec![0; 60]);
    let mut bits = numbered(&er3(5, 5));
    let Step::Sends(_, _, octets) = &mut bits else { panic!("sends") };
    octets[20] ^= 1;
    let given = play("ER3", [HALF, asked(1), sends(&broken), bits, HALF, asked(2), numbered(&er3(5, 1))]);
    let story = story(&given);
    assert!(story[1].starts_with("undecodable Lepu answer"), "{story:?}");
    assert!(story.contains(&"1: 0+4 @5".to_string()), "{story:?}");
}

#[test]
fn a_link_that_fails_or_is_anothers_is_given_up() {
    let given = Conversation::play((DRIVER.session)(start("ER3")), &[Step::Up(vec![Endpoint::gatt(1, 2)]), Step::Close]).unwrap();
    assert!(story(&given)[0].starts_with("not a device for this driver"));
    let failing = [
        opened(),
        vec![
            HALF,
            Step::Fail(LinkError::Timeout),
            HALF,
            asks(&Frame::live(2)),
            numbered(&er3(0, 1)),
            Step::Down(DownReason::Lost),
        ],
    ]
    .concat();
    assert_eq!(story(&Conversation::play((DRIVER.session)(start("ER3")), &failing).unwrap())[1], FOUR);
}

#[test]
fn only_what_asks_may_be_written() {
    for command in [0x03_u8, 0x06, 0xe1] {
        let frame = Frame { command: FrameCommand(command), kind: 0, sequence: 9, content: Vec::new() };
        assert!(DRIVER.allows(WRITTEN, &frame.encode()).is_some_and(|row| row.effect == Effect::Ask));
    }
    for command in [0x00_u8, 0x04, 0x08, 0x09, 0x0a, 0xe2, 0xe3, 0xea, 0xeb, 0xec, 0xee, 0xf2] {
        let frame = Frame { command: FrameCommand(command), kind: 0, sequence: 9, content: Vec::new() };
        assert!(DRIVER.allows(WRITTEN, &frame.encode()).is_none(), "{command:02x}");
    }
}

fn file(octets: Vec<u8>) -> Vec<String> {
    let script = [Step::Up(vec![Endpoint::SERIAL]), Step::Sends(Endpoint::SERIAL, By::File, octets), Step::Down(DownReason::End)];
    story(&Conversation::play((DRIVER.session)(Start::default()), &script).unwrap())
}

#[test]
fn a_file_of_an_er3_is_one_recording() {
    let channels = lepu_er3::channels(LeadType::FIVE);
    let mut samples: Vec<_> = (0..4_000).map(Some).collect();
    samples[4 * 600 + 1] = None;
    samples[4 * 700..4 * 701].fill(None);
    let recording = FileRecording { device_time: None, rate: lepu_er3::RATE, channels, samples };
    let octets = lepu_er3::encode(&recording, LeadType::FIVE).unwrap();
    let blocks =
        ["0+500", "125+500", "250+500", "375+500", "500+400", "600+4 off 10", "601+396", "701+500", "826+500", "951+196"];
    let expected: Vec<String> = std::iter::once(FOUR.to_string())
        .chain(blocks.iter().map(|block| format!("1: {block}")))
        .chain(["found of Some(1)".into(), "end 1".into()])
        .collect();
    assert_eq!(file(octets.clone()), expected);
    assert_eq!(file(octets[..300].to_vec()), ["undecodable ER3 file: magic has a value that the standard does not allow"]);
}

#[test]
fn recorded_frames_are_taken_as_if_they_came_now() {
    let frames = [er3(0, 125), er3(125, 3)].map(|live| answer(FrameCommand::LIVE_NUMBERED, live.encode()).encode()).concat();
    assert_eq!(file(frames), [FOUR, "1: 0+500 @0", "1: 125+12 @125", "end 1"]);
}

proptest! {
    #[test]
    fn no_sequence_of_events_panics_or_goes_on_for_ever(
        name in prop::sample::select(vec!["ER1", "ER3", "?"]),
        events in prop::collection::vec((0_u8..6, any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let mut session = (DRIVER.session)(start(name));
        let mut now = Moment::ZERO;
        let mut given = 0;
        for (what, number, octets) in events {
            now = now + Duration::from_millis(u64::from(number % 3_000));
            match what {
                0 => session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &HAS }),
                1 => session.handle_event(now, Event::Received { from: NOTIFIED, octets: &octets, by: By::Notification }),
                2 => {
                    let live = answer(FrameCommand::LIVE_NUMBERED, er3(number.into(), 4).encode()).encode();
                    session.handle_event(now, Event::Received { from: NOTIFIED, octets: &live, by: By::Notification });
                }
                3 => session.handle_event(now, Event::Failed { command: Token(number.into()), error: LinkError::Timeout }),
                4 => session.handle_event(now, Event::Done { command: Token(u32::from(number % 9)) }),
                _ => session.handle_event(now, Event::Down { reason: DownReason::Lost }),
            }
            session.handle_timeout(now);
            let mut commands = 0;
            while let Some(command) = session.poll_command() {
                commands += 1;
                if let Command::Write { to, octets, .. } = command {
                    prop_assert!(DRIVER.allows(to, &octets).is_some());
                }
            }
            prop_assert!(commands < 10);
            while session.poll_output().is_some() {
                given += 1;
            }
        }
        prop_assert!(given < 1_000);
    }
}
