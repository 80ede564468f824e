//! What a night of an oximeter costs: 12 h out of the memory of a Contec, through driver and Recorder, in records and octets.

use std::time::Duration;

use device_drivers::driver::{By, Endpoint, Event, Security, Start};
use device_drivers::oximeter_contec::DRIVER;
use harness::bedside;
use kit_agent::acquisition::filing::Answer;
use kit_protocol::decimal::Decimal;
use kit_protocol::flac;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Quantity, Value};
use kit_protocol::serial::contec::{Message, Point, Segment};
use kit_protocol::uplink::wire::{self, record::Content};
use prost::Message as _;

const SECONDS: u32 = 12 * 3_600;
const OF: Segment = Segment { user: 0, segment: 0 };

/// A sleeper: slow swings, a finger that slips off now and then.
fn points() -> Vec<Option<Point>> {
    let point = |second: u32| {
        let swing = f64::from(second) / 60.0;
        let octet = |value: f64| u8::try_from(firmware_sim::noise::nearest(value)).ok();
        let valued = Point {
            spo2: octet(95.5 + 1.6 * swing.sin()),
            pulse_rate: octet(61.0 + 7.0 * (swing * 1.7).sin()),
            perfusion_index: None,
        };
        (second % 5_000 > 20).then_some(valued)
    };
    (0..SECONDS).map(point).collect()
}

fn octets_of(content: Content) -> usize {
    wire::Record { content: Some(content), ..wire::Record::default() }.encoded_len()
}

/// The records of one conversation in which the device sends its night.
fn conversation() -> Vec<Content> {
    let mut session = (DRIVER.session)(Start::default());
    let mut recorder = bedside::recorder(&DRIVER, wire::Source::Serial);
    let mut now = Moment::from_nanos(1_000_000_000);
    session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &[Endpoint::SERIAL] });
    let mut script = vec![
        Message::Segments { user: 0, count: 1 },
        Message::Length { of: OF, octets: SECONDS * 2 },
        Message::StartDate { of: OF, year: 2026, month: 11, day: 21 },
        Message::StartTime { of: OF, time: [21, 30, 0] },
    ];
    script.extend(points().chunks(3).map(|three| Message::Points([three[0], three[1], three[2]])));
    let mut contents = Vec::new();
    for message in script {
        now = now + Duration::from_micros(500);
        session.handle_event(now, Event::Received { from: Endpoint::SERIAL, octets: &message.encode(), by: By::Serial });
        loop {
            while let Some(command) = session.poll_command() {
                if let device_drivers::driver::Command::Write { token, .. } = command {
                    session.handle_event(now, Event::Done { command: token });
                }
            }
            while let Some(output) = session.poll_output() {
                recorder.take(now, output);
            }
            let mut answers = Vec::new();
            while let Some(filing) = recorder.poll_filing() {
                contents.push(filing.draft.content);
                answers.extend(filing.answers);
            }
            answers.extend(std::iter::from_fn(|| recorder.poll_answer()));
            if answers.is_empty() {
                break;
            }
            for answer in answers {
                session.handle_event(
                    now,
                    match answer {
                        Answer::Stored(reading) => Event::Stored { reading },
                        Answer::Refused(reading) => Event::Refused { reading },
                    },
                );
            }
        }
    }
    contents
}

/// As a reading each, which is what a point would be by itself.
fn as_readings() -> (usize, usize) {
    let number = |code, octet: Option<u8>, unit| {
        let quantity = Quantity::Number(Decimal::whole(octet.map_or(0, i64::from)));
        Value { code, quantity, unit }
    };
    let valued: Vec<Point> = points().into_iter().flatten().collect();
    let reading = |point: &Point| Measured {
        values: vec![number(Mdc::SPO2, point.spo2, "%"), number(Mdc::PULSE_RATE, point.pulse_rate, "/min")],
        device_time: Some(DateTime { year: 2026, month: 11, day: 21, hour: 21, minute: 30, second: 0 }),
        record: Some(848_611_800),
        memory: Memory::Stored,
        ..Measured::new(Kind::PulseOximetry, Moment::ZERO)
    };
    let octets =
        |point| octets_of(Content::Reading(kit_protocol::uplink::record::reading(&reading(point), wire::Source::Serial)));
    (valued.len(), valued.iter().map(octets).sum())
}

#[test]
fn i2a_a_night_is_some_hundred_records_each_second_in_its_place() {
    let contents = conversation();
    let segments: Vec<&wire::Segment> = contents
        .iter()
        .map(|content| if let Content::Segment(segment) = content { segment } else { panic!("{content:?}") })
        .collect();
    let mut samples = Vec::new();
    for (index, segment) in (0..).zip(&segments) {
        assert_eq!((segment.index, segment.recording.clone()), (index, segments[0].recording.clone()));
        assert_eq!(segment.first_sample, u64::try_from(samples.len() / 2).unwrap());
        samples.extend(flac::decode(&segment.flac).unwrap());
    }
    let expected: Vec<i32> = points()
        .into_iter()
        .flat_map(|point| point.map_or([0, 0], |point| [point.spo2.unwrap().into(), point.pulse_rate.unwrap().into()]))
        .collect();
    assert!(samples == expected && segments.last().unwrap().last);
    let octets: usize = contents.iter().map(|content| octets_of(content.clone())).sum();
    let (readings, octets_of_readings) = as_readings();
    println!(
        "12 h: {} records of {octets} octets in all; a reading a second: {readings} of {octets_of_readings}",
        contents.len()
    );
    assert!((144..=160).contains(&contents.len()), "{}", contents.len());
    assert!(octets * 20 < octets_of_readings, "{octets} of {octets_of_readings}");
    let again = conversation();
    let name = |contents: &[Content]| {
        contents
            .iter()
            .map(|c| if let Content::Segment(s) = c { (s.recording.clone(), s.index) } else { panic!() })
            .collect::<Vec<_>>()
    };
    assert_eq!(name(&again), name(&contents), "sent again it is the same recording");
}
