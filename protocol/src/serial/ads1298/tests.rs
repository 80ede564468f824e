use proptest::prelude::*;

use super::*;
use crate::promises::{every_cut_is_refused, every_cut_is_truncated, found, found_however_split, turned};
use crate::vectors::{Vector, octets, vectors};

fn text(found: &Found) -> String {
    match found {
        Found::Data(DataFrame { counter, sample }) => {
            let LeadOff { positive, negative, gpio } = sample.lead_off;
            format!("data {counter} off={positive:02x}/{negative:02x} gpio={gpio} {:?}", sample.channels)
        }
        Found::Header(header) => {
            let leads: Vec<_> = header.leads.iter().map(|lead| lead.0.to_string()).collect();
            format!(
                "header {} Hz gain {} vref {} leads {} scale {}",
                header.rate_hz,
                header.gain.gain().unwrap(),
                header.reference_mv,
                leads.join(","),
                header.scale().unwrap(),
            )
        }
        other => format!("{other:?}"),
    }
}

fn captured() -> impl Iterator<Item = Vector> {
    vectors(include_str!("../../../vectors/ads1298_frames.txt"))
}

fn all_found(octets: &[u8]) -> Vec<Found> {
    found::<Frames>(&[octets])
}

#[test]
fn frames_decode_and_encode() {
    for v in captured() {
        let found = all_found(&v.octets);
        assert_eq!(found.iter().map(text).collect::<Vec<_>>(), [v.expected], "{}", v.id);
        match &found[0] {
            Found::Data(frame) => assert_eq!(frame.encode()[..], v.octets, "{}", v.id),
            Found::Header(header) => assert_eq!(header.encode(), v.octets, "{}", v.id),
            other => panic!("{}: {other:?}", v.id),
        }
    }
}

#[test]
fn the_chips_octets_decode_by_themselves() {
    let frame = octets("c8142f00a55a005aa500a555ffffd600000700000800000900000a");
    let sample = Sample::decode(&frame).unwrap();
    assert_eq!(sample.lead_off, LeadOff { positive: 0x81, negative: 0x42, gpio: 0x0f });
    assert_eq!(sample.channels, [42330, 23205, 42325, -42, 7, 8, 9, 10]);
    assert_eq!(sample.encode()[..], frame);
    every_cut_is_truncated(&frame, Sample::decode);
    assert_eq!(Sample::decode(&[0xff; 27]), Err(DecodeError::Value { field: "status" }));
    assert_eq!(Sample::decode(&[0; 27]), Err(DecodeError::Value { field: "status" }));
}

#[test]
fn a_frame_with_any_bit_flipped_or_any_octet_missing_is_no_frame() {
    for v in captured() {
        for (bit, turned) in turned(&v.octets) {
            let skipped = Found::Skipped(v.octets.len().try_into().unwrap());
            assert_eq!(all_found(&turned), [skipped], "{} bit {bit}", v.id);
        }
        every_cut_is_refused(&v.octets, DataFrame::decode);
        every_cut_is_refused(&v.octets, Header::decode);
    }
}

fn stream() -> (Vec<u8>, Vec<DataFrame>) {
    let frames: Vec<_> = (0..40_u32)
        .map(|counter| DataFrame {
            counter,
            // Every third sample holds the start of a frame.
            sample: Sample {
                lead_off: LeadOff::default(),
                channels: [0xa55a, 0x5aa5, -1, i32::try_from(counter).unwrap(), 0x5b_a55a, 0x5a_a55b, 0xa5, 0x5a],
            },
        })
        .collect();
    (frames.iter().flat_map(DataFrame::encode).collect(), frames)
}

fn data(found: &[Found]) -> Vec<DataFrame> {
    found.iter().filter_map(|found| if let Found::Data(frame) = found { Some(*frame) } else { None }).collect()
}

fn skipped(found: &[Found]) -> u64 {
    found.iter().map(|found| if let Found::Skipped(octets) = found { *octets } else { 0 }).sum()
}

#[test]
fn any_flipped_bit_and_any_dropped_octet_costs_its_own_frame_only() {
    let (octets, truth) = stream();
    for at in 35 * 5..35 * 10 {
        let mut expected = truth.clone();
        expected.remove(at / 35);
        for bit in 0..8 {
            let mut flipped = octets.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(data(&all_found(&flipped)), expected, "octet {at} bit {bit}");
        }
        let mut dropped = octets.clone();
        dropped.remove(at);
        let found = all_found(&dropped);
        assert_eq!(data(&found), expected, "octet {at} dropped");
        assert_eq!(skipped(&found), 34, "octet {at} dropped");
    }
}

#[test]
fn what_is_found_does_not_depend_on_the_splits() {
    let (mut octets, _) = stream();
    let header = captured().find(|v| v.id == "N04").unwrap().octets;
    octets.splice(350..350, header);
    octets.remove(77);
    octets[300] ^= 1;
    octets.insert(500, 0xa5);
    octets.truncate(700);
    let whole = found_however_split::<Frames>(&octets);
    assert!(data(&whole).len() > 10 && skipped(&whole) > 0);
}

#[test]
fn a_stream_that_begins_anywhere_is_joined_at_its_next_frame() {
    let (octets, truth) = stream();
    for at in 0..70 {
        assert_eq!(data(&all_found(&octets[at..])), truth[at.div_ceil(35)..], "from {at}");
    }
}

#[test]
fn a_frame_whose_crc_fits_and_whose_content_does_not_is_refused_by_itself() {
    let mut frame = DataFrame::default().encode();
    frame[6] = 0x30;
    let crc = CRC.checksum(&frame[2..33]).to_le_bytes();
    frame[33..].copy_from_slice(&crc);
    let refused = Found::Refused { error: DecodeError::Value { field: "status" }, octets: frame.to_vec() };
    let good = DataFrame { counter: 1, ..DataFrame::default() };
    assert_eq!(all_found(&[frame, good.encode()].concat()), [refused, Found::Data(good)]);

    let unknown_gain = Header { rate_hz: 500, gain: GainCode(0x70), reference_mv: 2400, leads: Lead::EIGHT.to_vec() }.encode();
    let refused = Found::Refused { error: DecodeError::Value { field: "gain code" }, octets: unknown_gain.clone() };
    assert_eq!(all_found(&unknown_gain), [refused]);
}

#[test]
fn leads_have_the_codes_of_11073() {
    let codes = Lead::EIGHT.map(|lead| lead.mdc().0);
    assert_eq!(codes, [131_329, 131_330, 131_331, 131_332, 131_333, 131_334, 131_335, 131_336]);
    assert_eq!([61, 62, 63, 64].map(|code| Lead(code).mdc().0), [131_389, 131_390, 131_391, 131_392]);
    assert_eq!(Lead(99).mdc().0, 131_328);
}

#[test]
fn every_gain_has_its_code_and_back() {
    for gain in [1, 2, 3, 4, 6, 8, 12] {
        assert_eq!(GainCode::of(gain).unwrap().gain(), Some(gain));
    }
    assert_eq!(GainCode(6).gain(), Some(12), "without the shift of the register");
    assert_eq!(GainCode(0x70).gain(), None);
    assert_eq!(GainCode::of(5), None);
}

fn samples() -> impl Strategy<Value = Sample> {
    (any::<(u8, u8)>(), 0..16_u8, proptest::array::uniform8(SAMPLE_MIN..=SAMPLE_MAX))
        .prop_map(|((positive, negative), gpio, channels)| Sample { lead_off: LeadOff { positive, negative, gpio }, channels })
}

proptest! {
    #[test]
    fn data_frames_survive_the_way_there_and_back(counter: u32, sample in samples()) {
        let frame = DataFrame { counter, sample };
        prop_assert_eq!(DataFrame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn headers_survive_the_way_there_and_back(
        rate_hz in 1_u16.., gain in 0..7_usize, reference_mv in 1_u16.., leads in proptest::collection::vec(any::<u8>(), 1..=8),
    ) {
        let gain = GainCode(GainCode::GAINS[gain].0);
        let header = Header { rate_hz, gain, reference_mv, leads: leads.into_iter().map(Lead).collect() };
        prop_assert!(header.scale().unwrap().mantissa > 0);
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn every_octet_is_in_a_frame_or_counted(
        parts in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50),
            (any::<u32>(), samples()).prop_map(|(counter, sample)| DataFrame { counter, sample }.encode().to_vec()),
            Just(vec![0xa5, 0x5a]), Just(vec![0xa5, 0x5b, 7]), Just(vec![0xa5]),
        ], 0..20),
    ) {
        let octets = parts.concat();
        let found = all_found(&octets);
        let framed: u64 = found.iter().map(|found| match found {
            Found::Data(_) => 35,
            Found::Header(header) => u64::try_from(11 + header.leads.len()).unwrap(),
            Found::Refused { octets, .. } => u64::try_from(octets.len()).unwrap(),
            Found::Skipped(_) => 0,
        }).sum();
        prop_assert_eq!(framed + skipped(&found), u64::try_from(octets.len()).unwrap());
        // No whole frame is lost to what stands before it.
        prop_assert_eq!(data(&found).len(), parts.iter().filter(|part| part.len() == 35 && DataFrame::decode(part).is_ok()).count());
    }
}
