use proptest::prelude::*;

use super::*;
use crate::promises::{every_cut_is_refused, every_turned_bit_is_refused};
use crate::vectors::{hex, vectors};

fn text(recording: &FileRecording) -> String {
    let FileRecording { device_time, rate, channels, samples } = recording;
    let leads: Vec<_> = channels.iter().map(|channel| channel.code.name().unwrap_or("ecg")).collect();
    let rows: Vec<_> = samples
        .chunks(channels.len())
        .map(|row| row.iter().map(|sample| std::format!("{}", sample.unwrap())).collect::<Vec<_>>().join(","))
        .collect();
    assert!(channels.iter().all(|channel| channel.unit == "uV" && channel.scale == channels[0].scale));
    std::format!(
        "{} {}/{} {} {:?} {} {}",
        device_time.map_or("-".into(), |time| std::format!("{time}")),
        rate.samples,
        rate.seconds,
        channels[0].scale,
        channels[0].filter,
        leads.join(","),
        rows.join(" "),
    )
}

#[test]
fn files_of_another_program_decode() {
    for v in vectors(include_str!("../../../vectors/scp_files.txt")) {
        assert!(begins(&v.octets));
        let decoded = decode(&v.octets).unwrap_or_else(|error| panic!("{}: {error}", v.id));
        assert_eq!(text(&decoded), v.expected, "{}", v.id);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    for v in vectors(include_str!("../../../vectors/scp_refused.txt")) {
        let refused = decode(&v.octets).expect_err(v.id);
        assert_eq!(std::format!("{refused}"), v.expected, "{}", v.id);
    }
}

#[test]
fn the_example_of_the_standard_decodes_and_encodes() {
    for v in vectors(include_str!("../../../vectors/scp_huffman.txt")) {
        let expected: Vec<i16> = v.expected.split(' ').map(|number| number.parse().unwrap()).collect();
        let count = u8::try_from(expected.len()).unwrap();
        // One lead, so that its octets are the example's.
        let leads = [&[1, 4 | 1 << 3, 1, 0, 0, 0, count, 0, 0, 0, 1][..]].concat();
        let length = u8::try_from(v.octets.len()).unwrap();
        let data = [&[0x88, 0x13, 0xd0, 0x07, 2, 0, length, 0][..], &v.octets].concat();
        let file = record::encode(&[(1, &[255, 0, 0]), (2, &19_999_u16.to_le_bytes()), (3, &leads), (6, &data)]).unwrap();
        let decoded = decode(&file).unwrap();
        assert_eq!(decoded.samples, expected.iter().map(|sample| Some(i32::from(*sample))).collect::<Vec<_>>(), "{}", v.id);
        let encoded = encode(&decoded, Encoding::Huffman { differences: 2 }).unwrap();
        let place = encoded.windows(14).position(|window| window == &v.octets[..14]);
        assert!(place.is_some(), "{}: {}", v.id, hex(&encoded));
    }
}

#[test]
fn a_persons_name_is_nowhere() {
    let named = vectors(include_str!("../../../vectors/scp_files.txt")).next().unwrap();
    assert!(named.octets.windows(5).any(|window| window == b"ROSSI"));
    assert!(!std::format!("{:?}", decode(&named.octets)).contains("ROSSI"));
}

fn example() -> Vec<u8> {
    vectors(include_str!("../../../vectors/scp_files.txt")).next().unwrap().octets
}

#[test]
fn every_truncated_length_appended_octet_and_turned_bit_is_refused() {
    let file = example();
    every_cut_is_refused(&file, decode);
    assert_eq!(decode(&[&file[..], &[0]].concat()), Err(DecodeError::Trailing { octets: 1 }.into()));
    every_turned_bit_is_refused(&file, decode);
}

fn recorded(leads: &[u32], samples: Vec<Option<i32>>) -> FileRecording {
    let device_time = DateTime { year: 2026, month: 11, day: 21, hour: 10, minute: 30, second: 0 };
    let channel = |code: &u32| Channel { code: Mdc(*code), scale: Decimal::new(2_500, -3), unit: "uV", filter: String::new() };
    FileRecording {
        device_time: Some(device_time),
        rate: Rate { samples: 500, seconds: 1 },
        channels: leads.iter().map(channel).collect(),
        samples,
    }
}

#[test]
fn what_the_format_cannot_hold_is_not_written() {
    let good = recorded(&[131_329], vec![Some(1); 4]);
    let raw = |recording: &FileRecording| encode(recording, Encoding::Raw);
    assert!(raw(&good).is_ok());
    assert!(raw(&FileRecording { samples: vec![None; 4], ..good.clone() }).is_err());
    assert!(raw(&FileRecording { samples: vec![Some(40_000); 4], ..good.clone() }).is_err());
    assert!(raw(&FileRecording { samples: vec![Some(1); 32_768], ..good.clone() }).is_err(), "the length has 16 bits");
    assert!(raw(&FileRecording { rate: Rate { samples: 300, seconds: 1 }, ..good.clone() }).is_err());
    assert!(raw(&FileRecording { rate: Rate { samples: 0, seconds: 1 }, ..good.clone() }).is_err());
    assert!(encode(&good, Encoding::Huffman { differences: 3 }).is_err());
    let jump = recorded(&[131_329], vec![Some(-32_768), Some(32_767), Some(0)]);
    assert!(encode(&jump, Encoding::Huffman { differences: 1 }).is_err());
    for (scale, unit) in
        [(Decimal::new(1, -4), "uV"), (Decimal::whole(66), "uV"), (Decimal::whole(0), "uV"), (Decimal::whole(5), "1")]
    {
        let mut other = good.clone();
        other.channels[0] = Channel { scale, unit, ..other.channels[0].clone() };
        assert!(raw(&other).is_err(), "{scale} {unit}");
    }
    let mut millivolts = good.clone();
    millivolts.channels[0] = Channel { scale: Decimal::new(25, -4), unit: "mV", ..millivolts.channels[0].clone() };
    assert_eq!(raw(&millivolts), raw(&good), "0.0025 mV are 2.500 uV");
    assert!(raw(&recorded(&[150_456], vec![Some(1)])).is_err(), "no lead");
}

#[test]
fn intervals_become_exact_rates() {
    for (interval, samples, seconds) in
        [(1_000, 1_000, 1), (2_000, 500, 1), (1_250, 800, 1), (3_333, 1_000_000, 3_333), (4_000, 250, 1)]
    {
        assert_eq!(rate(interval), Rate { samples, seconds });
        assert_eq!(super::interval(rate(interval)), Ok(interval));
    }
}

/// An ECG's digits: small steps, now and then a large one.
fn digits() -> impl Strategy<Value = Vec<Option<i32>>> {
    let step = prop_oneof![8 => -8_i32..=8, 2 => -120_i32..120, 1 => -3_000_i32..3_000];
    prop::collection::vec(step, 3..240).prop_map(|steps| {
        let mut last = 0_i32;
        let next = |step: i32| {
            last = (last + step).clamp(-8_000, 8_000);
            Some(last)
        };
        steps.into_iter().map(next).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(digits in digits(), order in 0_u8..=2, raw in any::<bool>()) {
        let samples = digits[..digits.len() / 3 * 3].to_vec();
        let recording = recorded(&[131_329, 131_330, 131_336], samples);
        let encoding = if raw { Encoding::Raw } else { Encoding::Huffman { differences: order } };
        prop_assert_eq!(decode(&encode(&recording, encoding).unwrap()), Ok(recording));
    }

    #[test]
    fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&octets);
    }

    /// Content that its checksums vouch for.
    #[test]
    fn no_content_of_a_section_panics(
        mut section in prop::collection::vec(any::<u8>(), 0..120),
        number in 1_u16..=6,
        small in any::<bool>(),
    ) {
        if small {
            section.iter_mut().for_each(|octet| *octet %= 4);
        }
        let beat = vectors(include_str!("../../../vectors/scp_files.txt")).find(|v| v.id == "E34").unwrap().octets;
        let sections = record::sections(&beat).unwrap();
        let contents: Vec<(u16, &[u8])> = (1..=6)
            .map(|known| (known, if known == number { &section[..] } else { sections.content(known).unwrap() }))
            .collect();
        let _ = decode(&record::encode(&contents).unwrap());
    }

    #[test]
    fn no_table_panics_or_loops(content in prop::collection::vec(0_u8..4, 2..200), data in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some(tables)) = Tables::decode(&content) {
            let _ = tables.values(&data, 1_000, |_| Ok(()));
        }
    }
}
