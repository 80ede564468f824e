use super::*;
use crate::driver::{By, DownReason, Output};
use crate::exercise::exercise;
use crate::text::{hex, numbers};
use crate::transport::scripted::{Conversation, Given, Step};

fn play(script: &[Step]) -> Vec<Given> {
    Conversation::play(Box::new(session(&Start::default())), script).unwrap_or_else(|error| panic!("{error}"))
}

fn readings(given: &[Given]) -> Vec<String> {
    let text = |given: &Given| match &given.1 {
        Ok((_, Output::Measured(m))) => Some(format!("{} {}", numbers(m), m.status.join(","))),
        _ => None,
    };
    given.iter().filter_map(text).collect()
}

fn samples(given: &[Given]) -> Vec<i32> {
    given
        .iter()
        .flat_map(|(_, o)| if let Ok((_, Output::Samples { block, .. })) = o { block.samples.clone() } else { vec![] })
        .collect()
}

/// Vectors X02 and X03: viatom_pc60fw.
#[test]
fn a_finger_oximeter_is_understood_however_its_frames_are_split_and_joined() {
    let stream = hex("aa550f06210200000045aa550f0801603e005000c008aa55f0030303f6aa550f07023b3835322fbd");
    for size in [1, 5, 12, 20, 100] {
        let mut script = vec![Step::Up(vec![UART_NOTIFIES]), Step::Subscribe(UART_NOTIFIES)];
        script.extend(stream.chunks(size).map(|part| Step::Sends(UART_NOTIFIES, By::Notification, part.to_vec())));
        script.push(Step::Down(DownReason::Lost));
        let given = play(&script);
        assert_eq!(readings(&given), ["96/62/8.0 "], "parts of {size}");
        assert_eq!(samples(&given), [59, 56, 53, 50, 47]);
        assert!(given.iter().all(|(_, output)| output.is_ok()));
    }
}

fn answer(numbers: &Numbers) -> Step {
    let frame = Frame { request: false, code: 0, block: 0, data: numbers.to_wave() };
    Step::Sends(RING_NOTIFIES, By::Notification, frame.encode())
}

fn asks(command: u8) -> Step {
    Step::Write(RING_WRITES, Frame::request(command).encode())
}

fn ring() -> Numbers {
    Numbers { spo2: 97, pulse_rate: 62, battery: 85, perfusion_index: 21, worn: true, wave: vec![10, 20, 30] }
}

/// An answer with so many samples.
fn waves(samples: usize) -> Step {
    answer(&Numbers { wave: vec![40; samples], ..ring() })
}

/// Recordings and what was lost of them, as a story.
fn story(given: &[Given]) -> Vec<String> {
    let told = |(_, output): &Given| match output {
        Ok((_, Output::Begin { recording, .. })) => Some(format!("begin {recording}")),
        Ok((_, Output::End { recording })) => Some(format!("end {recording}")),
        Err(DriverError::SamplesLost { recording, first, count }) => Some(format!("{recording} lost {count} at {first}")),
        _ => None,
    };
    given.iter().filter_map(told).collect()
}

const SECOND: Duration = Duration::from_secs(1);

fn opens() -> Vec<Step> {
    vec![Step::Up(vec![RING_NOTIFIES, RING_WRITES]), Step::Subscribe(RING_NOTIFIES), asks(Frame::WAVE)]
}

#[test]
fn a_ring_is_asked_once_a_second_and_its_numbers_are_a_reading_every_ten() {
    let mut script = opens();
    for _ in 0..12 {
        script.extend([waves(125), Step::Wait(SECOND), asks(Frame::WAVE)]);
    }
    script.push(Step::Down(DownReason::Lost));
    let given = play(&script);
    assert_eq!(readings(&given), ["97/62/2.1 ", "97/62/2.1 "]);
    assert_eq!(samples(&given).len(), 11 * 125, "what it kept before it was asked is not of this conversation");
    assert_eq!(story(&given), ["begin 1", "end 1"]);
}

#[test]
fn i3_what_a_ring_dropped_before_it_was_asked_again_is_declared_lost() {
    // What it kept before anybody asked is more than a second, and no answer comes at its very time.
    let mut script = opens();
    script.extend([waves(250), Step::Wait(SECOND), asks(Frame::WAVE), Step::Wait(SECOND / 4), waves(156)]);
    script.extend([Step::Wait(SECOND * 3 / 4), asks(Frame::WAVE), waves(94), Step::Wait(SECOND), asks(Frame::WAVE)]);
    assert_eq!(story(&play(&script)), ["begin 1"], "all of it came");
    // For almost three seconds it was asked in vain, or not heard: it keeps two.
    script.extend([Step::Wait(SECOND), asks(Frame::WAVE), Step::Wait(SECOND * 3 / 4), waves(250), waves(0)]);
    assert_eq!(story(&play(&script)), ["begin 1", "1 lost 0 at 250", "end 1", "begin 2", "end 2"]);
}

#[test]
fn i3_an_answer_that_may_be_all_that_a_ring_could_keep_begins_a_recording_of_its_own() {
    let mut script = opens();
    script.extend([waves(250), Step::Wait(SECOND), asks(Frame::WAVE), waves(125), Step::Wait(SECOND), asks(Frame::WAVE)]);
    // As a question or an answer was late, and two seconds of signal are not much longer than what has passed.
    script.extend([waves(250), Step::Wait(SECOND), asks(Frame::WAVE), waves(125), Step::Down(DownReason::Lost)]);
    assert_eq!(story(&play(&script)), ["begin 1", "1 lost 0 at 125", "end 1", "begin 2", "end 2"]);
}

#[test]
fn i3_a_ring_that_does_not_answer_for_a_while_gives_its_waveform_again_and_the_hole_is_declared() {
    let mut script = opens();
    script.extend([waves(250), Step::Wait(SECOND), asks(Frame::WAVE), waves(125)]);
    for _ in 0..6 {
        script.extend([Step::Wait(SECOND), asks(Frame::WAVE)]);
    }
    script.extend([waves(250), Step::Wait(SECOND), asks(Frame::WAVE), waves(125), Step::Down(DownReason::Lost)]);
    let given = play(&script);
    assert_eq!(story(&given), ["begin 1", "1 lost 0 at 125", "end 1", "begin 2", "end 2"]);
    assert_eq!(samples(&given).len(), 500);
}

#[test]
fn an_answer_with_a_waveform_that_comes_after_other_questions_is_still_one() {
    let mut script = opens();
    for command in [Frame::WAVE, Frame::WAVE, Frame::LIVE] {
        script.extend([Step::Wait(SECOND), asks(command)]);
    }
    script.extend([waves(125), Step::Wait(SECOND), asks(Frame::WAVE), waves(125), Step::Wait(SECOND), asks(Frame::WAVE)]);
    let given = play(&script);
    assert_eq!((readings(&given), samples(&given).len()), (vec!["97/62/2.1 ".to_owned()], 125));
}

#[test]
fn a_ring_that_is_not_worn_gives_no_number_and_a_low_battery_is_said() {
    let off = Numbers { spo2: 0, pulse_rate: 0, worn: false, ..ring() };
    assert!(readings(&play(&[opens(), vec![answer(&off)]].concat())).is_empty());
    let calibrating = Numbers { spo2: 255, pulse_rate: 65_535, ..ring() };
    assert!(readings(&play(&[opens(), vec![answer(&calibrating)]].concat())).is_empty());
    let low = Numbers { battery: 9, pulse_rate: 0, ..ring() };
    assert_eq!(readings(&play(&[opens(), vec![answer(&low)]].concat())), ["97/-/2.1 low-battery"]);
}

#[test]
fn a_ring_that_has_no_waveform_is_asked_for_numbers_and_a_dead_one_is_given_up() {
    let mut script = opens();
    for command in [Frame::WAVE, Frame::WAVE, Frame::LIVE] {
        script.extend([Step::Wait(Duration::from_secs(1)), asks(command)]);
    }
    let live = Frame { request: false, code: 0, block: 0, data: ring().to_live() };
    script.push(Step::Sends(RING_NOTIFIES, By::Notification, live.encode()));
    assert_eq!(readings(&play(&script)), ["97/62/2.1 "]);

    let mut silent = Conversation::new(Box::new(session(&Start::default())));
    opens().iter().for_each(|step| silent.step(step).unwrap());
    silent.step(&Step::Wait(Duration::from_secs(60))).unwrap();
    assert!(silent.given().iter().any(|(_, output)| matches!(output, Err(DriverError::Protocol(_)))));
}

proptest::proptest! {
    #[test]
    fn whatever_comes_the_session_keeps_to_its_bounds(script in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        exercise(&DRIVER, &script);
    }
}
