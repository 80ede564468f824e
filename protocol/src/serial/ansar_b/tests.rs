use proptest::prelude::*;

use super::*;
use crate::promises::{an_octet_more_is_trailing, every_cut_is_refused, found, found_however_split, octets_in};

/// The text of the first of 27 messages that an Ivy 450C sent: mdpnp 1ae7f72 (BSD-2), Ivy450C.1.data. Class R.
const CAPTURED: &str = include_str!("../../../vectors/ansar_b_text.txt");

fn captured_lines() -> Vec<&'static str> {
    CAPTURED.lines().filter(|line| !line.starts_with('#')).collect()
}

fn waves(first: u8) -> Waves {
    let count = |place: usize| u8::try_from(place % 200).unwrap().wrapping_add(first);
    Waves {
        ecg: core::array::from_fn(count),
        respiration: core::array::from_fn(count),
        pleth: core::array::from_fn(count),
        pressure_1: core::array::from_fn(count),
        pressure_2: core::array::from_fn(count),
    }
}

fn octets(first: u8, lines: &[&str]) -> Vec<u8> {
    let mut octets = START.to_vec();
    let w = waves(first);
    octets.extend(w.ecg);
    [w.respiration, w.pleth, w.pressure_1, w.pressure_2].iter().for_each(|wave| octets.extend(wave));
    lines.iter().for_each(|line| octets.extend(line.bytes().chain(*b"\r")));
    octets.push(END);
    octets
}

#[test]
fn the_captured_text_runs_both_ways() {
    let octets = octets(7, &captured_lines());
    let message = Message::decode(&octets).unwrap();
    assert_eq!(message.encode(), octets);
    assert_eq!(message.waves, waves(7));
    let numbers = |name: &str, count| -> Vec<_> {
        let line = message.line(name).unwrap();
        (0..count).map(|place| line.number(place).map_or_else(|| "-".into(), |number| number.to_string())).collect()
    };
    assert_eq!(numbers("HR", 1), ["80"]);
    assert_eq!(message.line("HR").unwrap().text(1), "ECG-II-DIAG");
    assert_eq!(numbers("RR", 1), ["35"]);
    assert_eq!(numbers("ETCO2", 1), ["-"]);
    assert_eq!(numbers("SPO2", 1), ["100"]);
    assert_eq!(message.line("SPO2").unwrap().text(1), "PR=80");
    assert_eq!(numbers("NIBP", 4), ["121", "75", "92", "80"]);
    assert_eq!(message.line("NIBP").unwrap().status, 4);
    assert_eq!(numbers("P1", 3), ["111", "73", "88"]);
    assert_eq!(numbers("P2", 4), ["-", "-", "-", "-"]);
    assert_eq!(message.line("P2").unwrap().text(3), "NO TRANSDUCER");
    assert_eq!(numbers("T1", 1), ["-"]);
    assert_eq!(message.lines.len(), 9);
}

#[test]
fn every_truncated_length_and_every_octet_more_is_refused() {
    let whole = octets(7, &captured_lines());
    every_cut_is_refused(&whole, Message::decode);
    an_octet_more_is_trailing(&whole, Message::decode);
}

#[test]
fn text_that_is_none_is_refused() {
    for lines in
        [&["1;80;ECG-II-DIAG;"][..], &["RR=1;35;;"], &["HR=;80;"], &["HR=1"], &["HR=1;80;", "hr=1;2;"], &[], &["HR=999;1;"]]
    {
        assert_eq!(Message::decode(&octets(0, lines)), Err(DecodeError::Value { field: "text" }), "{lines:?}");
    }
}

fn good(first: u8) -> Vec<u8> {
    octets(first, &captured_lines())
}

fn message(first: u8) -> Found {
    framer::Found::Frame(Message::decode(&good(first)).unwrap())
}

#[test]
fn every_split_gives_the_same() {
    let stream = [b"\xff\xffANS".to_vec(), good(1), good(2)].concat();
    assert_eq!(found_however_split::<AnsarB>(&stream), [framer::Found::Skipped(5), message(1), message(2)]);
}

/// Wherever octets get lost: the message that lost them is none, but the ones around it are found.
#[test]
fn a_message_that_lost_octets_costs_itself() {
    let whole = good(2);
    for lost in 1..=3 {
        for at in 0..FIXED_OCTETS - 3 {
            let cut = [&whole[..at], &whole[at + lost..]].concat();
            let all = found::<AnsarB>(&[&[good(1), cut.clone(), good(3)].concat()]);
            let length = u64::try_from(cut.len()).unwrap();
            assert_eq!(all, [message(1), framer::Found::Skipped(length), message(3)], "{lost} lost at {at}");
        }
    }
    for length in 1..whole.len() {
        let all = found::<AnsarB>(&[&[&whole[..length], &good(3)].concat()]);
        assert_eq!(all, [framer::Found::Skipped(u64::try_from(length).unwrap()), message(3)], "{length}");
    }
}

#[test]
fn text_without_an_end_is_not_waited_for() {
    let mut framer = Framer::default();
    let endless = [&good(1)[..FIXED_OCTETS], &[b'A'; 5_000]].concat();
    framer.push(&endless, |_| {});
    let mut after = Vec::new();
    framer.push(&good(2), |f| after.push(f));
    assert_eq!(after.last(), Some(&message(2)));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(first: u8, status: u8, fields in proptest::collection::vec("[ -:<-~]{0,8}", 1..6)) {
        let line = |name: &str| Line { name: name.into(), status, fields: fields.clone() };
        let message = Message { waves: waves(first), lines: vec![line("HR"), line("P1")] };
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn no_octets_panic_and_none_goes_missing(
        pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
    ) {
        let stream: Vec<u8> = pieces.iter().flat_map(|(whole, noise)| if *whole { good(9) } else { noise.clone() }).collect();
        prop_assert_eq!(octets_in(&found::<AnsarB>(&[&stream]), |frame| frame.encode().len()), stream.len());
    }
}
