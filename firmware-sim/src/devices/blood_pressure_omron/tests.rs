use kit_protocol::gatt::omron_memory::{Assembler, Frame, FrameKind, channels};
use kit_protocol::gatt::omron_record::Order;

use super::super::central::Central;
use super::*;
use crate::firmware::blood_pressure_omron::hem_7322t;
use crate::link::gatt::Peripheral as _;

const KEY: [u8; 16] = [0x5a; 16];

fn central(scenario: &str, settings: Settings) -> Central<Monitor> {
    Central::new(Monitor::with_settings(3, &Scenario::parse(scenario).unwrap(), Truth::none(), settings))
}

fn everything() -> Vec<Uuid> {
    NOTIFIED.into_iter().chain([UNLOCK]).collect()
}

/// What it answers to an unlocking.
fn unlock(central: &mut Central<Monitor>, octets: &[u8]) -> Vec<Vec<u8>> {
    central.write(UNLOCK, octets).unwrap();
    central.listen(100);
    central.take(UNLOCK)
}

/// What it replies to a frame; `None`: nothing.
fn ask(central: &mut Central<Monitor>, count: usize, kind: FrameKind, address: u16, size: u8) -> Option<Frame> {
    let frame = Frame { kind, address, size, payload: Vec::new(), result: 0 };
    for (channel, part) in channels(&frame.encode(), count) {
        central.write(WRITTEN[channel], part).unwrap();
    }
    central.listen(100);
    let mut assembler = Assembler::new(count);
    let heard = std::mem::take(&mut central.heard);
    heard.into_iter().find_map(|(from, octets)| {
        let channel = NOTIFIED.iter().position(|uuid| *uuid == from)?;
        assembler.push(channel, &octets)?.ok()
    })
}

fn decoded(settings: Settings, reply: &Frame) -> Record {
    Record::decode(&reply.payload, settings.order).unwrap().unwrap()
}

/// Opens it, reads the first record of a user, and closes it.
fn first_record(central: &mut Central<Monitor>, settings: Settings, user: usize) -> Record {
    let count = settings.channels;
    assert_eq!(ask(central, count, FrameKind::OPEN, 0, 0).unwrap().kind, FrameKind::OPEN.reply());
    let octets = u8::try_from(settings.slot_octets).unwrap();
    let reply = ask(central, count, FrameKind::READ, settings.users[user], octets).unwrap();
    assert_eq!(ask(central, count, FrameKind::CLOSE, 0, 0).unwrap().kind, FrameKind::CLOSE.reply());
    decoded(settings, &reply)
}

#[test]
fn a_token_opens_a_newer_one_and_its_record_is_the_patients() {
    let mut central = central("", HEM_7142T2);
    central.connect(&everything());
    let answers = unlock(&mut central, &[0x11, 1, 2, 3, 4]);
    assert_eq!(answers[0][..6], [0x91, 0, 1, 2, 3, 4], "it repeats the token");
    let record = first_record(&mut central, HEM_7142T2, 0);
    let vitals = Patient::new(3).vitals(FIRST.as_secs_f64());
    assert!((f64::from(record.systolic) - vitals.systolic).abs() <= 1.0, "{record:?}");
    assert_eq!((record.number, record.movement), (Some(1), false));
}

#[test]
fn only_the_key_of_its_pairing_opens_an_older_one() {
    let settings = hem_7322t(KEY);
    let mut central = central("", settings);
    central.connect(&everything());
    let wrong: Vec<u8> = [&[0x01][..], &[0x5b; 16]].concat();
    assert_eq!(unlock(&mut central, &wrong)[0][..2], [0x81, 1]);
    assert_eq!(ask(&mut central, 4, FrameKind::OPEN, 0, 0), None, "it stays shut");
    let key: Vec<u8> = [&[0x01][..], &KEY].concat();
    assert_eq!(unlock(&mut central, &key)[0][..2], [0x81, 0]);
    assert_eq!(settings.order, Order::Big);
    assert!(first_record(&mut central, settings, 0).systolic > 90);
}

#[test]
fn two_users_have_records_of_their_own() {
    let settings = hem_7322t(KEY);
    let mut central = central("", settings);
    central.wait(75);
    central.connect(&everything());
    let key: Vec<u8> = [&[0x01][..], &KEY].concat();
    for (user, patient, at) in [(0, Patient::new(3), FIRST), (1, Patient::new(!3), FIRST + 2 * PERIOD)] {
        unlock(&mut central, &key);
        let record = first_record(&mut central, settings, user);
        let vitals = patient.vitals(at.as_secs_f64());
        assert!((f64::from(record.systolic) - vitals.systolic).abs() <= 1.0, "user {user}: {record:?}");
    }
}

#[test]
fn it_advertises_only_after_a_measurement_and_hangs_up_when_nothing_is_asked() {
    let mut central = central("", HEM_7142T2);
    central.wait(6);
    assert!(central.device.advertising(central.now).is_none(), "nobody measured yet");
    central.connect(&everything());
    assert!(central.listen(5_000), "nothing was asked");
    central.wait(1);
    assert!(central.device.advertising(central.now).is_some(), "what was not read is offered still");
    central.wait(12);
    assert!(central.device.advertising(central.now).is_none());
}

#[test]
fn no_frame_erases_and_none_is_answered_that_is_not_for_it() {
    let mut central = central("", HEM_7142T2);
    central.connect(&everything());
    unlock(&mut central, &[0x11, 1, 2, 3, 4]);
    ask(&mut central, 1, FrameKind::OPEN, 0, 0).unwrap();
    let users = HEM_7142T2.users[0];
    let payload = vec![0xff; 14];
    let erase = Frame { kind: FrameKind::WRITE, address: users, size: 14, payload, result: 0 };
    central.write(WRITTEN[0], &erase.encode()).unwrap();
    central.listen(100);
    central.heard.clear();
    let kept = ask(&mut central, 1, FrameKind::READ, users, 14).unwrap();
    assert!(decoded(HEM_7142T2, &kept).systolic > 90);
    let beyond = ask(&mut central, 1, FrameKind::READ, 0xfff0, 14).unwrap();
    assert_eq!(beyond.kind, FrameKind::CLOSE.reply(), "it refuses");
    central.write(WRITTEN[0], &[1, 2, 3]).unwrap();
    central.listen(100);
    assert!(central.heard.is_empty());
}

#[test]
fn a_motion_is_told_with_the_record_and_a_memory_of_another_is_there() {
    let mut central = central("records=5\nat=7 fault=motion for=5", HEM_7142T2);
    central.connect(&everything());
    unlock(&mut central, &[0x11, 1, 2, 3, 4]);
    ask(&mut central, 1, FrameKind::OPEN, 0, 0).unwrap();
    let record = |central: &mut Central<Monitor>, slot: u16| {
        let address = HEM_7142T2.users[0] + slot * HEM_7142T2.slot_octets;
        decoded(HEM_7142T2, &ask(central, 1, FrameKind::READ, address, 14).unwrap())
    };
    let (earlier, moved) = (record(&mut central, 4), record(&mut central, 5));
    assert!(!earlier.movement && moved.movement);
    assert!(earlier.device_time.unwrap().seconds() < moved.device_time.unwrap().seconds());
}
