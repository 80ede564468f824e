use super::*;
use crate::driver::{About, By, DownReason, LinkError, Output};
use crate::text::{hex, numbers};
use crate::transport::scripted::{Conversation, Given as Gave, Step};

const O01: &str = "6558541a331ade1800004c00ba00";
const O02: &str = "6457431a7316161c000046001900";
/// Vector O05, a HEM-7382T1's.
const CLOCK: &str = "c6a40100000000001a070f113b13fa00";

fn start(model: &str) -> Start {
    Start { about: About { model: Some(model.into()), ..About::default() }, ..Start::default() }
}

/// A monitor with this memory: answers a session in virtual time, and takes down what was written.
struct Monitor {
    conversation: Conversation,
    memory: Vec<u8>,
    modern: bool,
}

fn reply(request: &Frame, memory: &[u8]) -> Frame {
    let kind = request.kind.reply();
    let at = usize::from(request.address);
    let payload = match request.kind {
        FrameKind::READ => memory[at..at + usize::from(request.size)].to_vec(),
        _ => Vec::new(),
    };
    Frame { kind, payload, result: 0, ..request.clone() }
}

impl Monitor {
    fn new(start: Start, modern: bool) -> Self {
        let memory = vec![0xff; 0x2000];
        Self { conversation: Conversation::new((DRIVER.session)(start)), memory, modern }
    }

    fn put(&mut self, at: usize, slot: &[u8]) {
        self.memory[at..at + slot.len()].copy_from_slice(slot);
    }

    fn step(&mut self, step: Step) {
        self.conversation.step(&step).unwrap();
    }

    fn up(&mut self) {
        let (rx, tx, unlock): (&[_], &[_], _) =
            if self.modern { (&[MODERN_RX], &[MODERN_TX], MODERN_UNLOCK) } else { (&CLASSIC_RX, &CLASSIC_TX, CLASSIC_UNLOCK) };
        self.step(Step::Up([rx, tx, &[unlock]].concat()));
        rx.iter().for_each(|endpoint| self.step(Step::Subscribe(*endpoint)));
        self.step(Step::Subscribe(unlock));
    }

    /// The session must ask this; it gets its answer.
    fn exchange(&mut self, request: &Frame) {
        self.asked(request);
        let answer = reply(request, &self.memory).encode();
        let (rx, count): (&[_], _) = if self.modern { (&[MODERN_RX], 1) } else { (&CLASSIC_RX, 4) };
        for (channel, part) in channels(&answer, count) {
            self.step(Step::Sends(rx[channel], By::Notification, part.to_vec()));
        }
    }

    fn asked(&mut self, request: &Frame) {
        let (tx, count): (&[_], _) = if self.modern { (&[MODERN_TX], 1) } else { (&CLASSIC_TX, 4) };
        for (channel, part) in channels(&request.encode(), count) {
            assert!(DRIVER.allows(tx[channel], part).is_some(), "{request:?}");
            self.step(Step::Write(tx[channel], part.to_vec()));
        }
    }

    fn read_all(&mut self, from: u16, octets: u16, block: u8) {
        let mut at = 0;
        while at < octets {
            let size = u8::try_from(u16::from(block).min(octets - at)).unwrap();
            self.exchange(&Frame::read(from + at, size));
            at += u16::from(size);
        }
    }
}

fn text(given: &[Gave]) -> Vec<String> {
    given
        .iter()
        .map(|(_, output)| match output {
            Ok((_, Output::Measured(m))) => {
                let time = m.device_time.map_or_else(String::new, |time| time.to_string());
                format!("{} {time} #{:?} user {:?} {:?} {:?}", numbers(m), m.record, m.user_slot, m.status, m.memory)
            }
            Ok((_, Output::DeviceClock { device, .. })) => format!("clock {device}"),
            Ok((_, Output::Memory { highest })) => format!("highest {highest:?}"),
            Ok((_, other)) => format!("{other:?}"),
            Err(error) => error.to_string(),
        })
        .collect()
}

/// A HEM-7142T2: token, one characteristic each way.
fn modern(start: Start) -> Monitor {
    let mut monitor = Monitor::new(start, true);
    monitor.put(0x02e8 + 7 * 14, &hex(O02));
    monitor.put(0x02e8 + 13 * 14, &hex(O01));
    monitor.put(0x028c, &hex(CLOCK));
    monitor.up();
    // 1 s after boot, in nanoseconds, little-endian.
    let mut token = vec![0x11, 0x00, 0xca, 0x9a, 0x3b];
    token.resize(20, 0);
    monitor.step(Step::Write(MODERN_UNLOCK, token));
    monitor.step(Step::Sends(MODERN_UNLOCK, By::Notification, hex("910000ca9a3b")));
    monitor.exchange(&Frame::open());
    monitor
}

#[test]
fn a_memory_is_read_whole_and_handed_over_with_its_highest_number_first() {
    let mut monitor = modern(start("HEM-7142T2-Z"));
    monitor.exchange(&Frame::read(0x028c, 16));
    monitor.read_all(0x02e8, 14 * 14, 42);
    monitor.exchange(&Frame::close());
    monitor.step(Step::Close);
    monitor.step(Step::Down(DownReason::Closed));
    assert_eq!(
        text(monitor.conversation.given()),
        [
            "clock 2026-07-15T17:59:19",
            "highest Some(76)",
            "125/87/67 2026-05-19T19:48:22 #Some(70) user Some(1) [] Stored",
            "126/88/84 2026-06-17T19:35:30 #Some(76) user Some(1) [] Stored",
        ]
    );
}

#[test]
fn a_clock_that_is_off_is_set_in_its_block_and_nowhere_else() {
    let civil = DateTime { year: 2026, month: 8, day: 1, hour: 12, minute: 0, second: 0 };
    let mut monitor = modern(Start { may_set_clock: true, civil_time: Some(civil), ..start("HEM-7142T2") });
    monitor.exchange(&Frame::read(0x028c, 16));
    monitor.read_all(0x02e8, 14 * 14, 42);
    let block = Clock { time: civil, ..Clock::decode(&hex(CLOCK)).unwrap() };
    monitor.exchange(&Frame::write(0x02d0, &block.encode()));
    monitor.exchange(&Frame::close());
    monitor.step(Step::Close);
    assert!(text(monitor.conversation.given()).contains(&"clock 2026-08-01T12:00:00".to_string()));
    let elsewhere = Frame::write(0x02e8, &[0xff; 16]).encode();
    assert!(DRIVER.allows(MODERN_TX, &elsewhere).is_none(), "a record must never be written over");
    for octets in [&[0x02][..], &[0x00; 17]] {
        assert!(DRIVER.allows(CLASSIC_UNLOCK, octets).is_none(), "a key must not be programmed here");
    }
}

/// A HEM-7155T: key, four characteristics each way, two users.
fn classic(user_slot: Option<u8>) -> Monitor {
    let start = Start { unlock_key: Some(UnlockKey([7; 16])), user_slot, ..start("HEM-7155T") };
    let mut monitor = Monitor::new(start, false);
    monitor.put(0x0098, &[hex(O01), vec![0; 2]].concat());
    monitor.put(0x0458 + 16, &[hex(O02), vec![0; 2]].concat());
    monitor.up();
    monitor.step(Step::Write(CLASSIC_UNLOCK, [&[1][..], &[7; 16]].concat()));
    monitor
}

#[test]
fn each_user_has_records_and_a_bound_one_only_is_asked_for() {
    let read = |user_slot, areas: &[u16]| {
        let mut monitor = classic(user_slot);
        monitor.step(Step::Sends(CLASSIC_UNLOCK, By::Notification, vec![0x81, 0]));
        monitor.exchange(&Frame::open());
        monitor.exchange(&Frame::read(0x003c, 16));
        areas.iter().for_each(|area| monitor.read_all(*area, 60 * 16, 16));
        monitor.exchange(&Frame::close());
        monitor.step(Step::Close);
        text(monitor.conversation.given())
    };
    let first = "126/88/84 2026-06-17T19:35:30 #Some(76) user Some(1) [] Stored";
    let second = "125/87/67 2026-05-19T19:48:22 #Some(70) user Some(2) [] Stored";
    assert_eq!(read(None, &[0x0098, 0x0458]), ["highest Some(76)", first, second]);
    assert_eq!(read(Some(2), &[0x0458]), ["highest Some(70)", second]);
}

#[test]
fn a_wrong_key_and_none_at_all_are_said() {
    let mut monitor = classic(None);
    monitor.step(Step::Sends(CLASSIC_UNLOCK, By::Notification, vec![0x81, 1]));
    monitor.step(Step::Close);
    assert!(text(monitor.conversation.given())[0].contains("did not take the key"));
    let mut without = Monitor::new(start("HEM-7155T"), false);
    without.step(Step::Up([&CLASSIC_RX[..], &CLASSIC_TX].concat()));
    without.step(Step::Close);
    assert!(text(without.conversation.given())[0].contains("pair it again"));
}

#[test]
fn a_model_without_a_map_is_not_spoken_to() {
    for (model, has) in [("HEM-9999T", [&CLASSIC_RX[..], &CLASSIC_TX].concat()), ("HEM-7155T", vec![MODERN_RX, MODERN_TX])] {
        let mut monitor = Monitor::new(start(model), false);
        monitor.step(Step::Up(has));
        monitor.step(Step::Close);
        monitor.step(Step::Quiet);
        assert!(text(monitor.conversation.given())[0].starts_with("not a device"), "{model}");
    }
}

#[test]
fn a_reply_that_is_none_or_anothers_is_ignored_and_the_request_repeated() {
    let mut monitor = modern(start("HEM-7142T2"));
    let request = Frame::read(0x028c, 16);
    monitor.asked(&request);
    let other = reply(&Frame::read(0x02e8, 16), &monitor.memory).encode();
    let mut short = reply(&request, &monitor.memory).encode();
    short.truncate(12);
    for wrong in [other, short, vec![0x04, 0x81, 0, 5], vec![]] {
        monitor.step(Step::Sends(MODERN_RX, By::Notification, wrong));
    }
    monitor.step(Step::Quiet);
    monitor.step(Step::Wait(REPLY_MAX));
    monitor.exchange(&request);
    monitor.asked(&Frame::read(0x02e8, 42));
    for _ in 1..ATTEMPTS_MAX {
        monitor.step(Step::Wait(REPLY_MAX));
        monitor.asked(&Frame::read(0x02e8, 42));
    }
    monitor.step(Step::Wait(REPLY_MAX));
    monitor.step(Step::Close);
    let given = text(monitor.conversation.given());
    assert_eq!(given, ["clock 2026-07-15T17:59:19", "protocol broken: the monitor did not answer"], "nothing half-read is given");
}

#[test]
fn octets_out_of_a_file_are_frames_or_records() {
    let mut monitor = Monitor::new(Start::default(), true);
    monitor.step(Step::Up(vec![MODERN_RX]));
    let frame = Frame { kind: FrameKind::READ.reply(), address: 0x02e8, size: 28, payload: hex(&[O01, O02].concat()), result: 0 };
    for value in [frame.encode(), hex(O01), hex("5b781a4819d71b42000014006996"), vec![0xff; 14], vec![9; 5]] {
        monitor.step(Step::Sends(MODERN_RX, By::Notification, value));
    }
    let given = text(monitor.conversation.given());
    assert_eq!(given.len(), 5, "{given:?}");
    assert_eq!(given[3], "145/91/72 2026-06-14T23:45:02 #None user None [] Stored");
    assert!(given[4].contains("neither a frame nor a record"));
}

#[test]
fn a_refused_subscription_ends_it() {
    let mut monitor = Monitor::new(start("HEM-7142T2"), true);
    monitor.step(Step::Up(vec![MODERN_RX, MODERN_TX]));
    monitor.step(Step::Fail(LinkError::Timeout));
    monitor.step(Step::Close);
}

proptest::proptest! {
    #[test]
    fn random_events_never_panic_and_outputs_stay_bounded(
        events in proptest::collection::vec((0..7_u8, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..70), 0..8_u64), 0..80),
    ) {
        let mut session = BloodPressure::new(start("HEM-7142T2"));
        let (mut now, mut outputs) = (Moment::ZERO, 0_usize);
        for (event, octets, seconds) in events {
            now = now + Duration::from_secs(seconds);
            let frame = Frame { kind: FrameKind(0x8100), address: 0x02e8, size: 42, payload: octets.clone(), result: 0 }.encode();
            let receive = |from, octets| Event::Received { from, octets, by: By::Notification };
            match event {
                0 => session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &[MODERN_RX, MODERN_TX] }),
                1 => session.handle_event(now, Event::Done { command: Token(u32::try_from(octets.len()).unwrap() % 8) }),
                2 => session.handle_event(now, receive(MODERN_UNLOCK, &[0x91, 0])),
                3 => session.handle_event(now, receive(MODERN_RX, &frame)),
                4 => session.handle_event(now, receive(MODERN_RX, &octets)),
                _ => session.handle_timeout(now),
            }
            while let Some(output) = session.poll_output() {
                outputs += 1;
                if let Ok((token, _)) = output {
                    session.handle_event(now, Event::Stored { reading: token });
                }
            }
            while session.poll_command().is_some() {}
        }
        proptest::prop_assert!(outputs < 80 * 8);
    }
}
