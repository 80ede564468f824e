use std::string::String;
use std::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::promises::{an_octet_more_is_trailing, every_cut_is_refused, every_turned_bit_is_refused, found, found_in_pieces};
use crate::vectors::vectors;

const VECTORS: &str = include_str!("../../../vectors/spirometer_flow_frames.txt");

/// The text of the vector file.
fn text(octets: &[u8]) -> (String, Vec<u8>) {
    match found::<Frames>(&[octets]).as_slice() {
        [Found::Flow(flow)] => (format!("flow {} {:?}", flow.counter, flow.samples), flow.encode()),
        [Found::Header(h)] => (
            format!(
                "header {} us scale {} btps {} {:?} session {} calibration {} factor {} ambient {}",
                h.interval_us,
                h.scale(),
                h.btps,
                h.bronchodilator,
                h.session,
                h.calibration,
                h.btps_factor,
                h.ambient_temperature
            ),
            h.encode(),
        ),
        [Found::Mark(m)] => {
            (format!("mark {:?} {} session {} counter {}", m.kind, m.manoeuvre, m.session, m.counter), m.encode())
        }
        [Found::Refused { error, octets }] => (format!("refused: {error}"), octets.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn vectors_are_read_and_written() {
    assert!(vectors(VECTORS).count() >= 6);
    for vector in vectors(VECTORS) {
        assert_eq!(text(&vector.octets), (vector.expected.into(), vector.octets.clone()), "{}", vector.id);
    }
}

fn decode(octets: &[u8]) -> Result<(), DecodeError> {
    match octets.get(1) {
        Some(&HEADER) => Header::decode(octets).map(|_| ()),
        Some(&MARK) => Mark::decode(octets).map(|_| ()),
        _ => Flow::decode(octets).map(|_| ()),
    }
}

#[test]
fn every_truncation_every_added_octet_and_every_turned_bit_is_refused() {
    for vector in vectors(VECTORS).filter(|vector| !vector.expected.starts_with("refused")) {
        every_cut_is_refused(&vector.octets, decode);
        an_octet_more_is_trailing(&vector.octets, decode);
        every_turned_bit_is_refused(&vector.octets, decode);
    }
}

#[test]
fn a_corrupted_frame_costs_no_other() {
    let frames: Vec<Vec<u8>> = vectors(VECTORS).map(|vector| vector.octets).collect();
    let whole = found::<Frames>(&[&frames.concat()]);
    assert_eq!(whole.len(), frames.len());
    for broken in 0..frames.len() {
        let mut some = frames.clone();
        let middle = some[broken].len() / 2;
        some[broken][middle] ^= 0x10;
        let mut expected = whole.clone();
        expected[broken] = Found::Skipped(u64::try_from(frames[broken].len()).unwrap());
        assert_eq!(found::<Frames>(&[&some.concat()]), expected, "{broken}");
    }
}

fn any_frame() -> impl Strategy<Value = Found> {
    let flow = (any::<u32>(), proptest::collection::vec(-0x80_0000..0x80_0000_i32, 1..=Flow::SAMPLES_MAX));
    let drug = prop_oneof![Just(Bronchodilator::NotStated), Just(Bronchodilator::Before), Just(Bronchodilator::After)];
    let header = (INTERVAL_US_MIN.., 1_u16.., any::<bool>(), drug, any::<(u32, u32, u16, i16)>());
    let kinds = [MarkKind::SessionBegins, MarkKind::ManoeuvreBegins, MarkKind::ManoeuvreEnds, MarkKind::SessionEnds];
    let mark = (0..4_usize, any::<(u8, u32, u32)>());
    prop_oneof![
        flow.prop_map(|(counter, samples)| Found::Flow(Flow { counter, samples })),
        header.prop_map(|(interval_us, scale_ul, btps, bronchodilator, rest)| {
            let (session, calibration, btps_factor, ambient_temperature) = rest;
            Found::Header(Header {
                interval_us,
                scale_ul,
                btps,
                bronchodilator,
                session,
                calibration,
                btps_factor,
                ambient_temperature,
            })
        }),
        mark.prop_map(move |(kind, (manoeuvre, session, counter))| {
            Found::Mark(Mark { kind: kinds[kind], manoeuvre, session, counter })
        }),
    ]
}

fn octets_of(found: &Found) -> Vec<u8> {
    match found {
        Found::Flow(flow) => flow.encode(),
        Found::Header(header) => header.encode(),
        Found::Mark(mark) => mark.encode(),
        Found::Refused { octets, .. } => octets.clone(),
        Found::Skipped(_) => vec![],
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_is_split(frames in proptest::collection::vec(any_frame(), 1..8), size in 1..80_usize) {
        let stream: Vec<u8> = frames.iter().flat_map(octets_of).collect();
        prop_assert_eq!(found_in_pieces::<Frames>(&stream, size), frames);
    }

    #[test]
    fn no_octets_panic_and_none_goes_missing(
        octets in proptest::collection::vec(prop_oneof![any::<u8>(), Just(FIRST), Just(FLOW), Just(HEADER), Just(MARK)], 0..300),
        size in 1..80_usize,
    ) {
        let whole = found_in_pieces::<Frames>(&octets, size);
        let count: usize = whole.iter().map(|found| match found {
            Found::Skipped(octets) => usize::try_from(*octets).unwrap(),
            frame => octets_of(frame).len(),
        }).sum();
        prop_assert_eq!(count, octets.len());
        let _decoded = decode(&octets);
    }
}
