use std::time::Duration;

use kit_protocol::serial::aa55::{Frame, Framer};
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::pc300::Message;

use super::super::central::Central;
use super::*;
use crate::link::gatt::Peripheral as _;

const THERE: Uuid = bluetooth(NOTIFIED);

fn central(seed: u64, scenario: &str) -> Central<Monitor> {
    Central::new(Monitor::new(seed, &Scenario::parse(scenario).unwrap(), Truth::none()))
}

fn messages(notified: &[Vec<u8>]) -> Vec<Message> {
    let (mut framer, mut messages) = (Framer::default(), Vec::new());
    for octets in notified {
        assert!(octets.len() <= NOTIFICATION_OCTETS);
        framer.push(octets, |found| match found {
            Found::Frame(frame) => messages.extend(Message::decode(&frame)),
            Found::Skipped(_) => panic!("skipped"),
        });
    }
    messages
}

#[test]
fn over_the_air_it_says_what_it_says_on_a_line() {
    let mut central = central(4, "");
    central.connect(&[THERE]);
    central.listen(30_000);
    let air = messages(&central.take(THERE));
    let mut line = Vec::new();
    Serial::new(4, &Scenario::default()).advance(Duration::from_secs(30), &mut |emission| {
        line.extend(Message::decode(&Frame::decode(&emission.octets).unwrap()));
    });
    // It is met some time after it was switched on.
    let first = line.iter().position(|message| *message == air[0]).unwrap();
    assert!(air.len() > 500 && line[first..].iter().zip(&air).all(|(one, other)| one == other));
}

#[test]
fn what_was_measured_while_nobody_listened_is_gone() {
    let mut central = central(4, "");
    central.connect(&[]);
    central.listen(100_000);
    assert!(central.heard.is_empty());
    central.device.subscribed(central.now, THERE, true);
    central.listen(2_000);
    let heard = messages(&central.take(THERE));
    assert!(!heard.iter().any(|message| matches!(message, Message::BloodPressure(_))), "the cuff was done before");
    assert!(heard.iter().any(|message| matches!(message, Message::Oximetry(_))));
}

#[test]
fn it_answers_who_it_is_and_a_cuff_is_never_inflated_by_a_word() {
    let mut central = central(4, "");
    central.connect(&[THERE]);
    central.listen(105_000);
    central.take(THERE);
    central.write(bluetooth(WRITTEN), &[0xaa, 0x55, 0xff, 0x02, 0x02, 0x28]).unwrap();
    for kind in 0..4 {
        central.write(bluetooth(WRITTEN), &Frame { token: 0x40, kind, content: Vec::new() }.encode()).unwrap();
    }
    assert!(central.write(THERE, &[1]).is_err());
    central.listen(5_000);
    let heard = messages(&central.take(THERE));
    assert!(heard.iter().any(|message| matches!(message, Message::DeviceInformation(_))));
    assert!(!heard.iter().any(|message| matches!(message, Message::CuffPressure(_))), "its next turn is at 120 s");
}

#[test]
fn a_reboot_ends_the_link_and_it_is_met_again() {
    let mut central = central(4, "at=20 fault=reboot for=3");
    central.connect(&[THERE]);
    assert!(central.listen(30_000), "the radio notices");
    central.connect(&[THERE]);
    central.heard.clear();
    assert!(!central.listen(5_000));
    assert!(!messages(&central.take(THERE)).is_empty());
}
