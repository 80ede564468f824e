use proptest::prelude::*;

use super::*;
use crate::promises::{every_cut_is_truncated, turned};
use crate::vectors::vectors;

fn text(record: Option<Record>) -> String {
    record.map_or_else(
        || "empty".into(),
        |r| {
            let time = r.device_time.map_or_else(|| "-".into(), |time| time.to_string());
            let number = r.number.map_or_else(|| "-".into(), |number| number.to_string());
            let [irregular, movement, cuff, sum] = [r.irregular, r.movement, r.cuff_fits, r.sum_fits].map(u8::from);
            let pressures = format!("{}/{} pulse {}", r.systolic, r.diastolic, r.pulse_rate);
            format!("{pressures} at {time} irregular {irregular} movement {movement} cuff {cuff} number {number} sum {sum}")
        },
    )
}

#[test]
fn vectors_run_both_ways() {
    for vector in vectors(include_str!("../../../vectors/omron_records.txt")) {
        let (order, expected) = vector.expected.split_once(' ').unwrap();
        let order = if order == "big" { Order::Big } else { Order::Little };
        let record = Record::decode(&vector.octets, order).unwrap();
        assert_eq!(text(record), expected, "{}", vector.id);
        if let Some(record) = record.filter(|record| record.sum_fits) {
            let again = record.encode(order);
            assert_eq!(Record::decode(&again, order), Ok(Some(record)), "{}", vector.id);
            if order == Order::Little {
                assert_eq!(again[..], vector.octets[..], "{}", vector.id);
            }
        }
    }
}

/// Vector O05: a HEM-7382T1's clock block.
#[test]
fn the_captured_clock_runs_both_ways() {
    let block = crate::vectors::octets("c6a40100000000001a070f113b13fa00");
    let clock = Clock::decode(&block).unwrap();
    assert_eq!(clock.time.to_string(), "2026-07-15T17:59:19");
    assert_eq!(clock.encode()[..], block[..]);
    every_cut_is_truncated(&block, Clock::decode);
    for (bit, turned) in turned(&block).take(14 * 8) {
        assert_eq!(Clock::decode(&turned), Err(DecodeError::Checksum), "bit {bit}");
    }
}

#[test]
fn a_slot_of_another_size_is_refused() {
    for length in (0..20).filter(|length| ![Record::OCTETS, Record::OCTETS_LONG].contains(length)) {
        assert!(Record::decode(&vec![1; length], Order::Little).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn what_is_decoded_is_decoded_again_from_its_own_octets(slot in proptest::collection::vec(any::<u8>(), 14), big: bool) {
        let order = if big { Order::Big } else { Order::Little };
        if let Some(record) = Record::decode(&slot, order).unwrap() {
            let again = Record::decode(&record.encode(order), order).unwrap();
            // A time that was none is written as 0.
            if record.device_time.is_some() {
                prop_assert_eq!(again, Some(Record { sum_fits: true, ..record }));
            }
        }
    }
}
