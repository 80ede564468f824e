use super::*;
use crate::driver::{By, DownReason, LinkError};
use crate::transport::scripted::{Conversation, Given, Step};
use kit_protocol::serial::pc300::{BloodPressureError, DeviceInformation, EcgFinding};

fn octets(message: &Message) -> Vec<u8> {
    message.encode().encode()
}

fn says(message: &Message) -> Step {
    Step::Sends(Endpoint::SERIAL, By::Serial, octets(message))
}

fn on_the_wire(messages: &[Message]) -> Vec<Step> {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL]), Step::Write(Endpoint::SERIAL, ASK_INFORMATION.to_vec())];
    script.extend(messages.iter().map(says));
    script
}

fn play(mut script: Vec<Step>) -> Vec<Given> {
    script.push(Step::Down(DownReason::Lost));
    Conversation::play((DRIVER.session)(Start::default()), &script).unwrap()
}

fn text(given: &[Given]) -> Vec<String> {
    let quantity = |value: &Value| match &value.quantity {
        Quantity::Number(number) => format!("{}={number}", value.code.name().unwrap()),
        other => format!("{}={other:?}", value.code.name().unwrap()),
    };
    given
        .iter()
        .map(|(_, output)| match output {
            Ok((_, Output::Measured(m))) => {
                let values: Vec<_> = m.values.iter().map(quantity).collect();
                format!("{} {} {:?}", m.kind.name(), values.join(" "), m.status)
            }
            Ok((_, Output::Begin { recording, head })) => format!("begin {recording} {}", head.kind.name()),
            Ok((_, Output::Samples { recording, block })) => {
                let off = if block.lead_off != 0 { " off" } else { "" };
                let artifact = if block.artifact { " artifact" } else { "" };
                format!("{recording}: {}+{}{off}{artifact}", block.first, block.samples.len())
            }
            Ok((_, Output::End { recording })) => format!("end {recording}"),
            Ok((_, other)) => format!("{other:?}"),
            Err(DriverError::Undecodable { what, reason, .. }) => format!("refused {what}: {reason}"),
            Err(DriverError::Resynchronised { skipped }) => format!("skipped {skipped}"),
            Err(DriverError::SamplesLost { recording, first, count }) => format!("{recording}: lost {first}+{count}"),
            Err(other) => format!("{other}"),
        })
        .collect()
}

fn pressure() -> BloodPressure {
    BloodPressure { systolic: 124, mean: 97, diastolic: 86, pulse_rate: 51, irregular: true }
}

fn oximetry(spo2: u8) -> Message {
    Message::Oximetry(Oximetry { spo2: Some(spo2), pulse_rate: Some(59), perfusion_tenths: Some(85), ..Oximetry::default() })
}

#[test]
fn results_are_readings_with_their_digits() {
    let messages = [
        Message::BloodPressure(pressure()),
        Message::BloodPressure(BloodPressure { mean: 0, pulse_rate: 0, irregular: false, ..pressure() }),
        Message::Temperature(Temperature { state: TemperatureState::Done, probe_off: false, hundredths_above_30: Some(660) }),
        Message::Glucose(Glucose { low: false, high: false, unit: GlucoseUnit::MillimolesPerLitre, digits: Some(56) }),
        Message::Glucose(Glucose { low: false, high: true, unit: GlucoseUnit::MilligramsPerDecilitre, digits: None }),
        Message::DeviceInformation(DeviceInformation { battery: Some(0), ..DeviceInformation::default() }),
        oximetry(98),
    ];
    let expected = [
        "blood-pressure systolic=124 diastolic=86 mean-arterial-pressure=97 pulse-rate-cuff=51 [\"irregular-pulse\"]",
        "blood-pressure systolic=124 diastolic=86 mean-arterial-pressure=Special(NotAvailable) pulse-rate-cuff=Special(NotAvailable) []",
        "temperature body-temperature=36.60 []",
        "glucose glucose-undetermined-whole-blood=5.6 []",
        "glucose glucose-undetermined-whole-blood=Special(PositiveInfinity) [\"glucose-high\"]",
        "pulse-oximetry spo2=98 pulse-rate=59 perfusion-index=8.5 [\"low-battery\"]",
    ];
    assert_eq!(text(&play(on_the_wire(&messages))), expected);
}

#[test]
fn what_gave_no_value_is_a_refusal_with_its_reason() {
    let temperature =
        |state, hundredths_above_30| Message::Temperature(Temperature { state, probe_off: false, hundredths_above_30 });
    let messages = [
        Message::BloodPressureError(BloodPressureError(0x84)),
        temperature(TemperatureState::Measuring, Some(500)),
        temperature(TemperatureState::Standby, None),
        temperature(TemperatureState::TimedOut, None),
        temperature(TemperatureState::Done, Some(Temperature::TOO_HOT)),
        Message::GlucoseWithoutUnit(56),
        Message::Other(Frame { token: 0x43, kind: 1, content: vec![1] }),
    ];
    let expected = [
        "refused blood pressure: the patient moved or spoke",
        "refused temperature: the thermometer found no value in time",
        "refused temperature: what the thermometer touches is too hot",
        "refused glucose: the monitor does not state its unit",
        "refused PC-300 frame: truncated at systolic",
    ];
    assert_eq!(text(&play(on_the_wire(&messages))), expected);
}

#[test]
fn one_reading_of_spo2_comes_every_ten_seconds_and_none_without_a_value() {
    let mut script = on_the_wire(&[Message::Oximetry(Oximetry { probe_off: true, ..Oximetry::default() })]);
    for second in 0..25 {
        script.push(says(&oximetry(90 + second % 10)));
        script.push(Step::Wait(Duration::from_secs(1)));
    }
    assert_eq!(play(script).len(), 3);
}

#[test]
fn the_pulse_wave_is_a_recording_that_ends_at_a_hole() {
    let wave = Message::Pleth(vec![59, 0xb8]);
    let mut script = on_the_wire(&[]);
    for _ in 0..30 {
        script.extend([says(&wave), Step::Wait(Duration::from_millis(40))]);
    }
    let mut corrupted = octets(&wave);
    corrupted[5] ^= 4;
    script.push(Step::Sends(Endpoint::SERIAL, By::Serial, corrupted));
    script.extend([says(&wave), Step::Wait(Duration::from_secs(3)), says(&wave)]);
    let given = play(script);
    let expected = [
        "begin 1 pleth",
        "1: 0+50",
        "1: 50+10",
        "1: lost 60+0",
        "end 1",
        "skipped 8",
        "begin 2 pleth",
        "2: 0+2",
        "end 2",
        "begin 3 pleth",
        "3: 0+2",
        "end 3",
    ];
    assert_eq!(text(&given), expected);
    let Ok((_, Output::Samples { block, .. })) = &given[1].1 else { panic!("{given:?}") };
    assert_eq!(block.samples[..4], [59, 0x38, 59, 0x38], "bit 7 marks the beat");
}

fn block(sequence: u8, twelve_bits: bool, lead_off: bool) -> Message {
    let middle = if twelve_bits { 2048 } else { 128 };
    let samples = std::array::from_fn(|place| middle + u16::try_from(place).unwrap());
    Message::EcgBlock(EcgBlock { sequence, twelve_bits, samples, heart_rate: 0, lead_off })
}

#[test]
fn an_ecg_is_a_recording_with_its_holes_and_a_finding() {
    let mut messages = vec![Message::EcgStarted, Message::EcgGain(500), block(0, true, false)];
    messages.extend([1, 2, 4].map(|sequence| block(sequence, true, sequence == 4)));
    messages.push(Message::EcgResult(EcgResult { finding: EcgFinding(7), heart_rate: 72 }));
    messages.extend([254, 255, 0, 1].map(|sequence| block(sequence, false, false)));
    messages.push(Message::EcgStopped);
    let given = play(on_the_wire(&messages));
    let expected = [
        "begin 1 ecg",
        "1: 0+50",
        "1: lost 50+25",
        "1: 75+25 off",
        "end 1",
        "heart-rate heart-rate=72 [\"suspected-irregular-beat-interval\"]",
        "begin 2 ecg",
        "2: 0+100",
        "end 2",
    ];
    assert_eq!(text(&given), expected);
    let heads: Vec<_> = given
        .iter()
        .filter_map(|(_, output)| if let Ok((_, Output::Begin { head, .. })) = output { Some(head) } else { None })
        .map(|head| (head.channels[0].scale.to_string(), head.rate.samples))
        .collect();
    assert_eq!(heads, [("2.000000000".into(), 150), ("35.087719298".to_string(), 150)]);
    let Ok((_, Output::Samples { block, .. })) = &given[1].1 else { panic!("{given:?}") };
    assert_eq!(block.samples[..3], [0, 1, 2]);
    let recording =
        given.iter().find_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { m.recording } else { None });
    assert_eq!(recording, Some(1));
}

#[test]
fn over_the_radio_it_subscribes_asks_once_and_takes_frames_however_they_are_cut() {
    let mut script = vec![Step::Up(vec![NOTIFY, WRITE]), Step::Subscribe(NOTIFY), Step::Write(WRITE, ASK_INFORMATION.to_vec())];
    let stream = [octets(&Message::BloodPressure(pressure())), octets(&oximetry(97))].concat();
    script.extend(stream.chunks(5).map(|chunk| Step::Sends(NOTIFY, By::Notification, chunk.to_vec())));
    script.push(Step::Quiet);
    assert_eq!(play(script).len(), 2);
}

#[test]
fn what_is_no_pc300_is_said_to_be_none() {
    let gives = |script: Vec<Step>| text(&play(script));
    assert!(gives(vec![Step::Up(vec![Endpoint::gatt(0x1810, 0x2a35)]), Step::Close])[0].starts_with("not a device"));
    let mut script = on_the_wire(&[]);
    script.extend((0..50).map(|_| Step::Sends(Endpoint::SERIAL, By::Serial, vec![0x11; 100])));
    assert!(gives(script).iter().any(|line| line.starts_with("not a device")));
    let refused = vec![Step::Up(vec![NOTIFY]), Step::Fail(LinkError::Timeout), Step::Close];
    assert!(gives(refused)[0].starts_with("protocol broken"));
}

#[test]
fn no_write_that_inflates_sets_or_erases_is_allowed() {
    for token in 0..=u8::MAX {
        for kind in 0..=u8::MAX {
            let octets = Frame { token, kind, content: Vec::new() }.encode();
            for to in [WRITE, Endpoint::SERIAL] {
                assert_eq!(DRIVER.allows(to, &octets).is_some(), (token, kind) == (0xff, 2), "{token:02x}/{kind:02x}");
            }
        }
    }
    assert!(DRIVER.allows(WRITE, &ASK_INFORMATION).is_some());
}

proptest::proptest! {
    #[test]
    fn random_events_never_panic_and_outputs_stay_bounded(
        events in proptest::collection::vec((0..8_u8, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..70), 0..4_u64), 0..60),
    ) {
        let mut session = Monitor::new(&Start::default());
        let (mut now, mut outputs) = (Moment::ZERO, 0_usize);
        for (event, octets, seconds) in events {
            now = now + Duration::from_secs(seconds);
            let framed = |token| Frame { token, kind: 1, content: octets.clone() }.encode();
            let sent = match event {
                0 => framed(0x32),
                1 => framed(0x52),
                2 => framed(0x43),
                _ => octets.clone(),
            };
            match event {
                5 => session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &[NOTIFY] }),
                6 => session.handle_event(now, Event::Done { command: Token(u32::from(octets.len() > 9)) }),
                7 => session.handle_timeout(now),
                _ => session.handle_event(now, Event::Received { from: NOTIFY, octets: &sent, by: By::Notification }),
            }
            while let Some(output) = session.poll_output() {
                outputs += 1;
                if let Ok((token, _)) = output {
                    session.handle_event(now, Event::Stored { reading: token });
                }
            }
            while session.poll_command().is_some() {}
        }
        proptest::prop_assert!(outputs < 60 * 80);
    }
}
