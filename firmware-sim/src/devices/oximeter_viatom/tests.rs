use kit_protocol::serial::aa55;
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::o2ring::{self, Numbers};
use kit_protocol::serial::pc60fw::Message;

use super::super::central::Central;
use super::*;
use crate::link::gatt::Peripheral as _;

fn finger(seed: u64, scenario: &str) -> Central<Finger60> {
    Central::new(Finger60::new(seed, &Scenario::parse(scenario).unwrap(), Truth::none()))
}

/// Every message of a PC-60FW that has a meaning.
fn messages(notified: Vec<Vec<u8>>) -> Vec<Message> {
    let (mut framer, mut messages) = (aa55::Framer::default(), Vec::new());
    for octets in notified {
        framer.push(&octets, |found| match found {
            Found::Frame(frame) => messages.extend(Message::of(&frame).ok()),
            Found::Skipped(_) => panic!("skipped"),
        });
    }
    messages
}

#[test]
fn a_pc_60fw_sends_unasked_to_who_listens_and_to_nobody_else() {
    let mut central = finger(5, "");
    central.connect(&[]);
    assert!(!central.listen(5_000) && central.heard.is_empty(), "nobody subscribed");
    central.device.subscribed(central.now, UART_NOTIFIED, true);
    central.listen(20_000);
    let heard = messages(central.take(UART_NOTIFIED));
    let waves = heard.iter().filter(|message| matches!(message, Message::Wave { .. })).count();
    assert!((198..=201).contains(&waves), "five samples of fifty a second: {waves}");
    let Some(Message::Numbers { spo2, pulse_rate, .. }) =
        heard.iter().rfind(|message| matches!(message, Message::Numbers { .. })).cloned()
    else {
        panic!("no numbers")
    };
    let vitals = Patient::new(5).vitals(25.0);
    assert!((f64::from(spo2) - vitals.spo2).abs() <= 2.0 && (f64::from(pulse_rate) - vitals.heart_rate).abs() <= 5.0);
}

#[test]
fn a_pc_60fw_takes_what_is_written_without_a_word() {
    let mut central = finger(5, "");
    central.connect(&[UART_NOTIFIED]);
    central.write(UART_WRITTEN, &[0xaa, 0x55, 0x0f, 0x02, 0x01, 0x00]).unwrap();
    assert!(central.write(UART_NOTIFIED, &[1]).is_err());
    assert!(central.device.read(central.now, UART_NOTIFIED).is_err());
}

#[test]
fn a_finger_off_a_pc_60fw_has_no_number() {
    let mut central = finger(6, "at=20 fault=sensor-off for=10");
    central.connect(&[UART_NOTIFIED]);
    central.listen(28_000);
    let heard = messages(central.take(UART_NOTIFIED));
    let last = heard.iter().rfind(|message| matches!(message, Message::Numbers { .. }));
    assert!(matches!(last, Some(Message::Numbers { spo2: 0, pulse_rate: 0, .. })), "{last:?}");
}

fn ring(seed: u64, scenario: &str) -> Central<Ring> {
    Central::new(Ring::new(seed, &Scenario::parse(scenario).unwrap(), Truth::none()))
}

/// Asks a ring and gives the content of its answers.
fn ask(central: &mut Central<Ring>, code: u8) -> Vec<o2ring::Frame> {
    let request = o2ring::Frame { request: true, code, block: 0, data: Vec::new() };
    central.write(RING_WRITTEN, &request.encode()).unwrap();
    central.listen(200);
    let (mut framer, mut answers) = (o2ring::Framer::default(), Vec::new());
    for octets in central.take(RING_NOTIFIED) {
        assert!(octets.len() <= NOTIFICATION_OCTETS);
        framer.push(&octets, |found| answers.extend(if let Found::Frame(frame) = found { Some(frame) } else { None }));
    }
    answers
}

#[test]
fn a_ring_answers_and_says_nothing_unasked() {
    let mut central = ring(7, "");
    central.connect(&[RING_NOTIFIED]);
    central.listen(15_000);
    assert!(central.heard.is_empty());
    let [answer] = &ask(&mut central, o2ring::Frame::LIVE)[..] else { panic!("one answer") };
    let numbers = Numbers::live(&answer.data).unwrap();
    let vitals = Patient::new(7).vitals(15.0);
    assert!(numbers.worn && (f64::from(numbers.spo2) - vitals.spo2).abs() <= 2.0);
}

#[test]
fn a_ring_gives_its_wave_once_and_keeps_two_seconds_of_it() {
    let mut central = ring(7, "");
    central.connect(&[RING_NOTIFIED]);
    central.listen(10_000);
    let wave = |answers: &[o2ring::Frame]| Numbers::wave(&answers[0].data).unwrap().wave.len();
    assert_eq!(wave(&ask(&mut central, o2ring::Frame::WAVE)), 250);
    let since = wave(&ask(&mut central, o2ring::Frame::WAVE));
    assert!((20..=30).contains(&since), "a fifth of a second: {since}");
}

#[test]
fn a_ring_refuses_what_it_does_not_know_and_tells_its_battery() {
    let mut central = ring(7, "at=2 fault=battery percent=9");
    central.connect(&[RING_NOTIFIED]);
    central.listen(4_000);
    assert_eq!(ask(&mut central, 0x03)[0].code, 1);
    assert_eq!(Numbers::live(&ask(&mut central, o2ring::Frame::LIVE)[0].data).unwrap().battery, 9);
}
