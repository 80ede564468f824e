use super::*;
use crate::promises::every_cut_is_refused;
use proptest::prelude::*;

fn channel(code: Mdc, scale: &str, unit: &'static str) -> Channel {
    Channel { code, scale: scale.parse().unwrap(), unit, filter: "HP:0.05Hz LP:150Hz N:50Hz".into() }
}

fn two_leads(samples: Vec<Option<i32>>) -> FileRecording {
    let device_time = Some(DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 3, second: 59 });
    let channels = vec![channel(Mdc::ECG_I, "1.25", "uV"), channel(Mdc::ECG_V1, "0.00244", "mV")];
    FileRecording { device_time, rate: Rate { samples: 5, seconds: 1 }, channels, samples }
}

fn ramp(frames: i32) -> Vec<Option<i32>> {
    (0..frames).flat_map(|n| [Some(n), Some(-n)]).collect()
}

fn cell(octets: &[u8], at: usize, width: usize) -> &str {
    core::str::from_utf8(&octets[at..at + width]).unwrap().trim_end()
}

#[test]
fn the_header_is_laid_out_as_the_standard_says() {
    let octets = encode(&two_leads(ramp(12)), "ecg ads1298").unwrap();
    let fields = [
        (0, 8, "0"),
        (8, 80, "X X X X"),
        (88, 80, "Startdate 21-NOV-2026 X X ecg_ads1298"),
        (168, 8, "21.11.26"),
        (176, 8, "08.03.59"),
        (184, 8, "1024"),
        (192, 44, "EDF+C"),
        (236, 8, "3"),
        (244, 8, "1"),
        (252, 4, "3"),
        (256, 16, "ECG I"),
        (272, 16, "ECG V1"),
        (288, 16, "EDF Annotations"),
        (544, 8, "uV"),
        (552, 8, "mV"),
        (568, 8, "-40960"),
        (592, 8, "40958.75"),
        (616, 8, "-32768"),
        (640, 8, "32767"),
        (664, 80, "HP:0.05Hz LP:150Hz N:50Hz"),
        (904, 8, "5"),
    ];
    for (at, width, text) in fields {
        assert_eq!(cell(&octets, at, width), text, "octet {at}");
    }
    // 0.00244 mV: the widest limits in eight characters.
    assert_eq!((cell(&octets, 576, 8), cell(&octets, 600, 8)), ("-79.9466", "79.95148"));
    assert_eq!((cell(&octets, 624, 8), cell(&octets, 648, 8)), ("-32765", "32767"));
    assert_eq!(octets[1024..1034], [0, 0, 1, 0, 2, 0, 3, 0, 4, 0]);
    assert_eq!(&octets[1044..1049], b"+0\x14\x14\0");
}

#[test]
fn what_is_written_is_read_back() {
    let recording = two_leads(ramp(12));
    assert_eq!(decode(&encode(&recording, "device").unwrap()), Ok(recording));
}

#[test]
fn a_hole_makes_it_edf_d_and_is_a_hole_again() {
    let mut samples = ramp(60);
    samples[14..80].fill(None);
    let recording = two_leads(samples);
    let octets = encode(&recording, "device").unwrap();
    assert_eq!(cell(&octets, 192, 44), "EDF+D");
    assert_eq!(cell(&octets, 236, 8), "6", "records of the hole are not written");
    assert_eq!(decode(&octets), Ok(recording));
}

#[test]
fn samples_missing_of_one_lead_are_named_and_far_off_the_trace() {
    let mut samples = ramp(10);
    samples[3] = None;
    samples[5] = None;
    let recording = two_leads(samples);
    let octets = encode(&recording, "device").unwrap();
    assert_eq!(cell(&octets, 192, 44), "EDF+C");
    assert_eq!(octets[1034 + 2..1034 + 4], (-32_765_i16).to_le_bytes());
    let text = String::from_utf8_lossy(&octets).into_owned();
    assert!(text.contains("+0.2\u{15}0.4\u{14}Samples missing@@ECG V1\u{14}"), "{text}");
    assert_eq!(decode(&octets), Ok(recording));
}

#[test]
fn an_unknown_start_is_written_as_unknown() {
    let recording = FileRecording { device_time: None, ..two_leads(ramp(5)) };
    let octets = encode(&recording, "").unwrap();
    assert_eq!(cell(&octets, 88, 80), "Startdate X X X X");
    assert_eq!(decode(&octets), Ok(recording));
}

#[test]
fn years_outside_two_digits_are_kept() {
    for year in [1984, 1985, 2084, 2085] {
        let mut recording = two_leads(ramp(5));
        recording.device_time = recording.device_time.map(|time| DateTime { year, ..time });
        assert_eq!(decode(&encode(&recording, "device").unwrap()), Ok(recording), "{year}");
    }
}

#[test]
fn every_scale_of_the_kit_s_devices_is_exact_and_the_zero_too() {
    let scales =
        ["1", "5", "1.25", "0.00244", "0.183", "4.88", "2.44", "0.5", "0.1", "0.00125", "3.05", "1.0", "0.0476837", "-1"];
    for scale in scales {
        let mut recording = two_leads(ramp(5));
        recording.channels.truncate(1);
        recording.samples.truncate(5);
        recording.channels[0].scale = scale.parse().unwrap();
        let octets = encode(&recording, "device").unwrap();
        let field = |at: usize| cell(&octets, at, 8).to_owned();
        // One signal and the annotations: physical limits from 464, digital from 496.
        let [low, high] = [field(464), field(480)].map(|text| text.parse::<f64>().unwrap());
        let [bottom, top] = [field(496), field(512)].map(|text| text.parse::<f64>().unwrap());
        let gain: f64 = (high - low) / (top - bottom);
        assert!((gain - scale.parse::<f64>().unwrap()).abs() < 1e-15 * gain.abs().max(1.0), "{scale}: {gain}");
        assert!((high / gain - top).abs() < 1e-6, "{scale}: a digit of 0 is 0");
        let read = decode(&octets).unwrap();
        assert!(read.channels[0].scale.compare(scale.parse().unwrap()).is_eq(), "{scale}: {}", read.channels[0].scale);
        assert_eq!(read.samples, recording.samples);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_next_step() {
    let mut wide = two_leads(ramp(5));
    wide.samples[1] = Some(32_768);
    assert!(encode(&wide, "device").unwrap_err().to_string().contains("V1 has samples that need more than 16 bits; use WFDB"));
    let mut fine = two_leads(ramp(5));
    fine.channels[1].scale = "0.047683721".parse().unwrap();
    fine.samples[1] = Some(20_000);
    assert!(matches!(encode(&fine, "device"), Err(EncodeError::Scale { .. })));
    let mut odd = two_leads(ramp(5));
    odd.rate = Rate { samples: 4_294_967_291, seconds: 4_294_967_279 };
    assert!(matches!(encode(&odd, "device"), Err(EncodeError::Rate { .. })));
    let mut ragged = two_leads(ramp(5));
    ragged.samples.pop();
    assert_eq!(encode(&ragged, "device"), Err(EncodeError::Shape));
    let empty = FileRecording { samples: vec![None; 10], ..two_leads(Vec::new()) };
    assert_eq!(encode(&empty, "device"), Err(EncodeError::Shape));
}

#[test]
fn records_are_about_a_second_whatever_the_rate() {
    let record = |samples, seconds| record_length(Rate { samples, seconds }).unwrap();
    assert_eq!(record(500, 1), (500, "1".into()));
    assert_eq!(record(1000, 2), (500, "1".into()));
    assert_eq!(record(75, 2), (75, "2".into()));
    assert_eq!(record(1000, 3), (1000, "3".into()));
    assert_eq!(record(49_987, 1000), (49_987, "1000".into()), "nothing shorter holds whole samples");
    assert_eq!(record(12_512, 100), (391, "3.125".into()), "125.12 Hz");
    assert_eq!(record(10_000, 64), (625, "4".into()), "156.25 Hz");
    assert_eq!(record(250_001, 1000).0 % 250_001, 0);
    assert_eq!(record(5_000, 13), (384, "0.9984".into()));
}

/// As other people's writers do it: no annotations, half a digit off zero, the micro sign, blanks, a second signal.
fn foreign(patch: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut octets = Vec::new();
    let columns = [
        ("0", 8),
        ("name of a person", 80),
        ("of a hospital", 80),
        ("02.03.04", 8),
        ("05.06.07", 8),
        ("768", 8),
        ("", 44),
        ("2", 8),
        ("0.5", 8),
        ("2", 4),
        ("EDF: ECG V1", 16),
        ("EEG Fpz-Cz", 16),
        ("AgCl", 80),
        ("", 80),
        ("mV", 8),
        ("mV", 8),
        ("-5.0", 8),
        ("-1", 8),
        ("+5.", 8),
        ("1", 8),
        ("0", 8),
        ("-2048", 8),
        ("1000", 8),
        ("2047", 8),
        ("LP:40Hz", 80),
        ("", 80),
        ("2", 8),
        ("3", 8),
        ("", 64),
    ];
    columns.iter().for_each(|(text, width)| field(&mut octets, text, *width));
    for sample in [500_i16, 501, 7, 7, 7, 400, 0, 7, 7, 7] {
        octets.extend_from_slice(&sample.to_le_bytes());
    }
    patch(&mut octets);
    octets
}

#[test]
fn an_edf_of_others_is_read_with_its_offset_and_without_its_names() {
    let recording = decode(&foreign(|_| ())).unwrap();
    assert_eq!(recording.channels, [Channel { filter: "LP:40Hz".into(), ..channel(Mdc::ECG_V1, "0.01", "mV") }]);
    assert_eq!(recording.rate, Rate { samples: 4, seconds: 1 });
    assert_eq!(recording.device_time.unwrap().to_string(), "2004-03-02T05:06:07");
    assert_eq!(recording.samples, [0, 1, -100, -500].map(Some));
    assert!(!format!("{recording:?}").contains("person"));
}

#[test]
fn hostile_headers_are_refused() {
    let with = |at: usize, text: &str| {
        decode(&foreign(|octets| {
            let mut cell = Vec::new();
            field(&mut cell, text, 8);
            octets[at..at + 8].copy_from_slice(&cell);
        }))
    };
    let refused = [
        (0, "1"),
        (184, "1024"),
        (184, "-256"),
        (236, "3"),
        (236, "1"),
        (236, "-2"),
        (236, "99999999"),
        (244, "0"),
        (244, "-1"),
        (244, "x"),
        (244, "1e20"),
        (448, "nV"),
        (464, "5"),
        (464, "NaN"),
        (464, "1e99"),
        (496, "1000"),
        (496, "2000"),
        (496, "-99999"),
        (512, "40000"),
        (688, "0"),
        (688, "99999999"),
        (688, "-2"),
    ];
    for (at, text) in refused {
        assert!(with(at, text).is_err(), "octet {at}: {text}");
    }
    assert!(with(236, "-1").is_ok(), "never closed, but whole");
    for count in ["0   ", "-1  ", "9999", "    "] {
        assert!(decode(&foreign(|octets| octets[252..256].copy_from_slice(count.as_bytes()))).is_err(), "{count}");
    }
    assert_eq!(decode(&foreign(|octets| octets[256..272].fill(b'?'))), Err(value("labels")));
    let two_rates = foreign(|octets| octets[272..288].copy_from_slice(b"ECG II          "));
    assert_eq!(decode(&two_rates), Err(value("samples in a data record")));
}

#[test]
fn a_leap_in_time_beyond_all_bounds_is_refused_and_so_are_records_that_overlap() {
    let mut samples = ramp(60);
    samples[14..80].fill(None);
    let octets = encode(&two_leads(samples), "device").unwrap();
    let at = octets.windows(3).position(|window| window == b"+8\x14").unwrap();
    for onset in [b"+9\x14", b"+0\x14", b"-8\x14"] {
        let mut changed = octets.clone();
        changed[at..at + 3].copy_from_slice(onset);
        assert_eq!(decode(&changed), Err(value("time-keeping annotation")), "{onset:?}");
    }
    let last = octets.windows(4).rposition(|window| window == b"+11\x14").unwrap();
    let mut far = octets.clone();
    far[last..last + 6].copy_from_slice(b"+9e9\x14\x14");
    assert_eq!(decode(&far), Err(value("time-keeping annotation")));
}

#[test]
fn every_truncated_length_and_every_appended_octet_is_refused() {
    let octets = encode(&two_leads(ramp(12)), "device").unwrap();
    every_cut_is_refused(&octets, decode);
    assert_eq!(decode(&[&octets[..], &[0]].concat()), Err(DecodeError::Trailing { octets: 1 }));
}

#[test]
fn labels_of_many_writers_name_their_leads() {
    for (label, code) in [
        ("ECG I", Mdc::ECG_I),
        ("ECG II", Mdc::ECG_II),
        ("II", Mdc::ECG_II),
        ("EDF: ECG V1", Mdc::ECG_V1),
        ("ECG-V6", Mdc::ECG_V6),
        ("Lead V3", Mdc::ECG_V3),
        ("EKG lead v2", Mdc::ECG_V2),
        ("AVR", Mdc::by_name("aVR").unwrap()),
        ("MDC_ECG_ELEC_POTL_AVF", Mdc::by_name("aVF").unwrap()),
        ("ECG", Mdc::ECG),
        ("ECG1", Mdc::ECG),
        ("EKG Chest", Mdc::ECG),
        ("Pleth", Mdc::PLETH),
    ] {
        assert_eq!(lead_code(label), Some(code), "{label}");
    }
    for label in ["", "EEG Fpz-Cz", "Leads", "EDF Annotations", "VI", "I-II"] {
        assert_eq!(lead_code(label), None, "{label}");
    }
}

prop_compose! {
    fn recording()(
        channels in 1_usize..5,
        rate in prop_oneof![Just((500_u32, 1_u32)), Just((75, 2)), Just((300, 1)), Just((1000, 3)), Just((7, 1)), Just((12_512, 100))],
        scale in prop_oneof![Just("1"), Just("5.00"), Just("0.00244"), Just("1.25")],
        frames in 1_usize..900,
    )(
        samples in proptest::collection::vec(proptest::option::weighted(0.95, -32_000_i32..32_000), channels * frames),
        holes in proptest::collection::vec((0..frames, 0..frames), 0..3),
        channels in Just(channels), rate in Just(rate), scale in Just(scale),
    ) -> FileRecording {
        let codes = [Mdc::ECG_I, Mdc::ECG_II, Mdc::ECG_V1, Mdc::by_name("aVR").unwrap()];
        let channels: Vec<Channel> = codes[..channels].iter().map(|code| channel(*code, scale, "uV")).collect();
        let mut samples = samples;
        for (from, count) in holes {
            let width = channels.len();
            samples.iter_mut().skip(from * width).take(count * width).for_each(|sample| *sample = None);
        }
        samples[0] = Some(1);
        FileRecording { device_time: None, rate: Rate { samples: rate.0, seconds: rate.1 }.reduced().unwrap(), channels, samples }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_recording_comes_back(recording in recording()) {
        let octets = encode(&recording, "device").unwrap();
        let mut expected = recording;
        expected.trim();
        let read = decode(&octets).unwrap();
        for (read, expected) in read.channels.iter().zip(&expected.channels) {
            prop_assert!(read.scale.compare(expected.scale).is_eq());
        }
        prop_assert_eq!((read.samples, read.rate), (expected.samples, expected.rate));
    }

    #[test]
    fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = decode(&octets);
    }

    #[test]
    fn no_change_of_a_file_panics(at in 0_usize..1200, octet in any::<u8>(), digits in "[-+.0-9eE ]{8}") {
        let mut samples = ramp(60);
        samples[14..80].fill(None);
        let mut octets = encode(&two_leads(samples), "device").unwrap();
        octets[at] = octet;
        let _ = decode(&octets);
        octets[at / 8 * 8..at / 8 * 8 + 8].copy_from_slice(digits.as_bytes());
        let _ = decode(&octets);
    }
}
