use kit_protocol::reading::{Memory, Quantity};
use proptest::prelude::*;

use super::*;
use crate::driver::{DownReason, Endpoint};
use crate::transport::scripted::{Conversation, Given, Step};

const HEADER: Header = Header {
    interval_us: 2_000,
    scale_ul: 1_000,
    btps: true,
    bronchodilator: Bronchodilator::Before,
    session: 7,
    calibration: 1,
    btps_factor: 10_800,
    ambient_temperature: 2_300,
};

/// A breath in, a rise of 80 ms to `pef` and an exponential emptying over 6 s, in mL/s.
fn blow(pef: f64) -> Vec<i32> {
    let at = |index: i32| {
        let t = f64::from(index) * 0.002;
        let litres = if t < 0.5 {
            0.0
        } else if t < 2.0 {
            -3.0
        } else if t < 2.08 {
            pef * (t - 2.0) / 0.08
        } else {
            pef * (-(t - 2.08) / 0.5).exp()
        };
        #[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
        let millilitres = (litres * 1_000.0).round() as i32;
        millilitres
    };
    (0..4_000).map(at).collect()
}

fn mark(kind: MarkKind, manoeuvre: u8, counter: u32) -> Vec<u8> {
    Mark { kind, manoeuvre, session: HEADER.session, counter }.encode()
}

/// The frames of one manoeuvre; `counter` is its first sample's.
fn manoeuvre(number: u8, counter: u32, samples: &[i32]) -> Vec<Vec<u8>> {
    let end = counter.wrapping_add(u32::try_from(samples.len()).unwrap());
    let flow = samples
        .chunks(10)
        .zip(0..)
        .map(|(samples, at)| Flow { counter: counter.wrapping_add(10 * at), samples: samples.to_vec() }.encode());
    let before = [HEADER.encode(), mark(MarkKind::ManoeuvreBegins, number, counter)];
    before.into_iter().chain(flow).chain([mark(MarkKind::ManoeuvreEnds, number, end)]).collect()
}

fn session(pefs: &[f64]) -> Vec<Vec<u8>> {
    let mut frames = vec![mark(MarkKind::SessionBegins, 0, 0)];
    for ((pef, number), counter) in pefs.iter().zip(1..).zip((0..).step_by(4_000)) {
        frames.extend(manoeuvre(number, counter, &blow(*pef)));
    }
    let count = u8::try_from(pefs.len()).unwrap();
    frames.push(mark(MarkKind::SessionEnds, count, 4_000 * u32::from(count)));
    frames
}

fn play(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Given> {
    let sends = pieces.into_iter().map(|octets| Step::Sends(Endpoint::SERIAL, By::Serial, octets));
    let script: Vec<Step> =
        std::iter::once(Step::Up(vec![Endpoint::SERIAL])).chain(sends).chain([Step::Down(DownReason::Lost)]).collect();
    Conversation::play((DRIVER.session)(Start::default()), &script).unwrap()
}

/// Recordings with their runs of samples, readings by their first values and statuses, errors.
fn story(given: &[Given]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (_, output) in given {
        let line = match output {
            Ok((_, Output::Begin { recording, head })) => format!("begin {recording} at {} Hz", head.rate.samples),
            Ok((_, Output::Samples { recording, block })) => {
                let (first, last) = (block.first, block.first + u64::try_from(block.samples.len()).unwrap());
                let run = format!("{recording}: {first}..");
                match lines.last_mut() {
                    Some(line) if line.ends_with(&format!("..{first}")) => {
                        line.truncate(line.rfind("..").unwrap() + 2);
                        *line += &last.to_string();
                        continue;
                    }
                    _ => format!("{run}{last}"),
                }
            }
            Ok((_, Output::End { recording })) => format!("end {recording}"),
            Ok((_, Output::Measured(m))) => {
                let number = |value: &Value| match &value.quantity {
                    Quantity::Number(number) => number.to_string(),
                    other => format!("{other:?}"),
                };
                let numbers: Vec<_> = m.values.iter().take(2).map(number).collect();
                format!("{:?} {} of {:?}", m.status, numbers.join(" "), m.recording)
            }
            Ok((_, other)) => format!("{other:?}"),
            Err(DriverError::SamplesLost { recording, first, count }) => format!("{recording}: lost {first}+{count}"),
            Err(other) => other.to_string(),
        };
        lines.push(line);
    }
    lines
}

#[cfg(feature = "derive")]
#[test]
fn a_session_gives_curves_figures_and_its_best_with_grades() {
    let given = play(session(&[8.0, 7.8, 7.9]));
    assert_eq!(
        story(&given),
        [
            "begin 1 at 500 Hz",
            "1: 0..4000",
            "end 1",
            r#"["fev1-acceptable", "fvc-acceptable"] 4.320 3.734 of Some(1)"#,
            "begin 2 at 500 Hz",
            "2: 0..4000",
            "end 2",
            r#"["fev1-acceptable", "fvc-acceptable"] 4.212 3.640 of Some(2)"#,
            "begin 3 at 500 Hz",
            "3: 0..4000",
            "end 3",
            r#"["fev1-acceptable", "fvc-acceptable"] 4.266 3.687 of Some(3)"#,
            r#"["best-of-session", "grade-fev1-a", "grade-fvc-a"] 4.320 3.734 of None"#,
        ]
    );
    let context = [Context { what: "bronchodilator", value: "before" }];
    for (_, output) in &given {
        if let Ok((_, Output::Measured(m))) = output {
            assert_eq!((m.context.as_slice(), m.memory, m.record, m.device_time), (&context[..], Memory::Live, None, None));
            assert!(m.derived, "the device gave a flow, these are ours");
        }
    }
}

#[cfg(not(feature = "derive"))]
#[test]
fn without_the_engine_the_curves_are_all_there_is() {
    let story = story(&play(session(&[8.0, 7.8])));
    assert_eq!(story, ["begin 1 at 500 Hz", "1: 0..4000", "end 1", "begin 2 at 500 Hz", "2: 0..4000", "end 2"]);
}

#[test]
fn the_curve_is_recorded_digit_by_digit() {
    let given = play(session(&[8.0]));
    let samples: Vec<i32> = given
        .iter()
        .filter_map(|(_, output)| match output {
            Ok((_, Output::Samples { block, .. })) => Some(block.samples.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(samples, blow(8.0));
}

#[test]
fn no_split_makes_a_difference() {
    let stream = session(&[8.0]).concat();
    let whole = story(&play([stream.clone()]));
    for size in [1_usize, 7, 33, 1_000] {
        assert_eq!(story(&play(stream.chunks(size).map(<[u8]>::to_vec))), whole, "{size}");
    }
}

#[test]
fn a_manoeuvre_with_a_hole_is_recorded_and_refused() {
    let mut frames = manoeuvre(1, 0, &blow(8.0));
    frames.remove(102);
    let story = story(&play(frames));
    let refused = "undecodable spirometry manoeuvre: 10 of its samples never arrived";
    assert_eq!(story, ["begin 1 at 500 Hz", "1: 0..1000", "1: lost 1000+10", "1: 1010..4000", "end 1", refused]);
}

#[test]
fn samples_that_never_arrive_before_the_end_are_known_by_its_mark() {
    let mut frames = manoeuvre(1, 0, &blow(8.0));
    frames.remove(401);
    let story = story(&play(frames));
    assert_eq!(story[2..], ["1: lost 3990+10", "end 1", "undecodable spirometry manoeuvre: 10 of its samples never arrived"]);
}

#[test]
fn a_lost_end_is_found_by_the_next_beginning_and_a_lost_beginning_is_refused() {
    let mut frames = session(&[8.0, 7.8]);
    frames.remove(403);
    assert_eq!(story(&play(frames)), story(&play(session(&[8.0, 7.8]))), "the next mark says that nothing is missing");
    let mut frames = manoeuvre(1, 0, &blow(8.0));
    frames.remove(1);
    assert_eq!(story(&play(frames)).last().unwrap(), "undecodable spirometry manoeuvre: its beginning never arrived");
}

#[test]
fn a_link_that_ends_in_a_manoeuvre_ends_its_recording() {
    let mut frames = manoeuvre(1, 0, &blow(8.0));
    frames.truncate(202);
    assert_eq!(
        story(&play(frames)),
        ["begin 1 at 500 Hz", "1: 0..2000", "end 1", "undecodable spirometry manoeuvre: its end never arrived"]
    );
}

#[test]
fn frames_that_come_twice_count_once() {
    let frames = session(&[8.0]);
    let twice: Vec<Vec<u8>> = frames.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect();
    let recorded = |given: Vec<Given>| story(&given).into_iter().filter(|line| line.starts_with("1: ")).collect::<Vec<_>>();
    assert_eq!(recorded(play(twice)), recorded(play(frames)));
}

#[test]
fn a_silent_line_ends_a_manoeuvre_and_later_the_session() {
    let mut session = Spirometer::new();
    let at = |seconds: u64| Moment::from_nanos(seconds * 1_000_000_000);
    session.handle_event(at(0), Event::Up { mtu: 0, security: Security::None, has: &[Endpoint::SERIAL] });
    let receive = |session: &mut Spirometer, at: Moment, octets: &[u8]| {
        session.handle_event(at, Event::Received { from: Endpoint::SERIAL, octets, by: By::Serial });
    };
    let frames = manoeuvre(1, 0, &blow(8.0));
    receive(&mut session, at(1), &frames.concat());
    #[cfg(feature = "derive")]
    assert_eq!(session.poll_timeout(), Some(at(1) + SESSION_SILENCE));
    receive(&mut session, at(60), &manoeuvre(2, 4_000, &blow(7.9))[..100].concat());
    assert_eq!(session.poll_timeout(), Some(at(60) + MANOEUVRE_SILENCE));
    session.handle_timeout(at(63));
    let mut outputs = 0;
    while let Some(output) = session.poll_output() {
        outputs += 1;
        if let Ok((token, _)) = output {
            session.handle_event(at(63), Event::Stored { reading: token });
        }
    }
    assert!(outputs > 20);
    #[cfg(feature = "derive")]
    {
        session.handle_timeout(session.poll_timeout().unwrap());
        let best = session.poll_output().unwrap().unwrap().1;
        assert!(matches!(best, Output::Measured(m) if m.status.contains(&"grade-fvc-e")));
    }
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn another_side_of_the_bronchodilator_is_another_session() {
    let mut frames = session(&[8.0]);
    frames.pop();
    let after = Header { bronchodilator: Bronchodilator::After, ..HEADER };
    frames.extend(
        manoeuvre(1, 4_000, &blow(8.4)).into_iter().map(|frame| if frame == HEADER.encode() { after.encode() } else { frame }),
    );
    let sides: Vec<_> = play(frames)
        .iter()
        .filter_map(|(_, output)| match output {
            Ok((_, Output::Measured(m))) => Some((m.context[0].value, m.status.contains(&"best-of-session"))),
            _ => None,
        })
        .collect();
    let expected = [("before", false), ("before", true), ("after", false), ("after", true)];
    assert_eq!(sides, if cfg!(feature = "derive") { &expected[..] } else { &[] });
}

#[test]
fn a_device_that_is_none_is_let_go() {
    let story = story(&play([vec![0x55; 30_000]]));
    assert!(story[0].contains("not a device"), "{story:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_octets_and_no_order_of_events_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                3 => (0..410_usize).prop_map(|at| session(&[8.0])[at % 405].clone()),
                1 => proptest::collection::vec(any::<u8>(), 0..60),
                1 => (any::<u32>(), 1..20_usize).prop_map(|(counter, count)| Flow { counter, samples: vec![900; count] }.encode()),
                1 => (any::<u32>(), 0..4_usize).prop_map(|(counter, kind)| {
                    let kinds = [MarkKind::SessionBegins, MarkKind::ManoeuvreBegins, MarkKind::ManoeuvreEnds, MarkKind::SessionEnds];
                    mark(kinds[kind], 1, counter)
                }),
            ],
            0..40,
        ),
        pauses in proptest::collection::vec(0..2_000_u64, 40),
    ) {
        let mut session = Spirometer::new();
        let mut now = Moment::ZERO;
        session.handle_event(now, Event::Up { mtu: 0, security: Security::None, has: &[Endpoint::SERIAL] });
        let mut outputs = 0;
        for (piece, pause) in pieces.iter().zip(pauses) {
            now = now + Duration::from_secs(pause / 2 * (pause % 2));
            session.handle_timeout(now);
            session.handle_event(now, Event::Received { from: Endpoint::SERIAL, octets: piece, by: By::Serial });
            while let Some(output) = session.poll_output() {
                outputs += 1;
                if let Ok((token, _)) = output {
                    session.handle_event(now, Event::Stored { reading: token });
                }
            }
        }
        session.handle_event(now, Event::Down { reason: DownReason::Lost });
        prop_assert!(outputs <= 12 * pieces.len());
    }
}
