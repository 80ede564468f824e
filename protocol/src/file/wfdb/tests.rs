use super::*;
use crate::promises::turned;
use proptest::prelude::*;

fn channel(code: Mdc, scale: &str) -> Channel {
    Channel { code, scale: scale.parse().unwrap(), unit: "mV", filter: "HP:0.05Hz LP:150Hz".into() }
}

fn three_leads(samples: Vec<Option<i32>>) -> FileRecording {
    let device_time = Some(DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 3, second: 59 });
    let channels = vec![channel(Mdc::ECG_I, "0.00125"), channel(Mdc::ECG_V1, "0.00244"), channel(Mdc::ECG_V6, "0.005")];
    FileRecording { device_time, rate: Rate { samples: 500, seconds: 1 }, channels, samples }
}

fn read(record: &Record) -> Result<FileRecording, DecodeError> {
    let header = Header::decode(record.header.as_bytes())?;
    assert_eq!(header.files(), record.files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    header.recording(&record.files.iter().map(|(_, octets)| octets.clone()).collect::<Vec<_>>())
}

#[test]
fn the_header_says_gain_first_value_and_checksum() {
    let samples = [Some(100), Some(-3), Some(7), Some(200), None, Some(-9)].to_vec();
    let record = encode(&three_leads(samples), "visit 1", Packing::Flac).unwrap();
    let expected = "visit_1 3 500 2 08:03:59 21/11/2026\n\
        visit_1.flac 516 800(0)/mV 16 0 100 300 0 I\n\
        visit_1.flac 516 409.83606557377049(0)/mV 16 0 -3 32765 0 V1\n\
        visit_1.flac 516 200(0)/mV 16 0 7 -2 0 V6\n\
        # filter I HP:0.05Hz LP:150Hz\n# filter V1 HP:0.05Hz LP:150Hz\n# filter V6 HP:0.05Hz LP:150Hz\n";
    assert_eq!(record.header, expected);
}

#[test]
fn what_is_written_is_read_back_in_every_format() {
    for packing in [Packing::Plain, Packing::Flac] {
        for widest in [32_767, 32_768, 8_388_607] {
            let row = |n: i32| [Some(n), (n % 11 != 0).then_some(-n), Some(widest * (n % 3 - 1))];
            let recording = three_leads((0..5_000).flat_map(row).collect());
            let record = encode(&recording, "r", packing).unwrap();
            assert_eq!(record.header.contains("24 0 "), widest > 32_767, "the lowest number of 16 bits means missing");
            assert_eq!(read(&record), Ok(recording));
        }
    }
}

#[test]
fn twelve_leads_are_two_flac_files_and_one_plain_one() {
    let mut recording = three_leads((0..1200).map(Some).collect());
    recording.channels = vec![channel(Mdc::ECG_I, "0.005"); 12];
    let record = encode(&recording, "r", Packing::Flac).unwrap();
    assert_eq!(record.files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["r.flac", "r_2.flac"]);
    assert_eq!(read(&record), Ok(recording.clone()));
    let record = encode(&recording, "r", Packing::Plain).unwrap();
    assert_eq!(record.files.len(), 1);
    assert_eq!(read(&record), Ok(recording));
}

#[test]
fn rates_that_have_no_end_come_back() {
    for (samples, seconds) in [(75, 2), (1000, 3), (1, 7), (44_100, 17)] {
        let recording = FileRecording { rate: Rate { samples, seconds }, ..three_leads(vec![Some(1); 6]) };
        let record = encode(&recording, "r", Packing::Plain).unwrap();
        assert_eq!(record.header.contains("# rate"), !matches!(seconds, 2), "{}", record.header);
        assert_eq!(read(&record).unwrap().rate, recording.rate);
    }
}

/// As header(5) and signal(5) describe records of the MIT-BIH Arrhythmia Database; two samples in three octets.
#[test]
fn format_212_and_a_baseline_are_read() {
    let header =
        "100 2 360 3 0:0:0 1/2/1990\n100.dat 212 200(1024)/mV 11 1024 995 -3 0 MLII\n100.dat 212 200 11 1024 1011 0 0 V5\n";
    // 995, 1011; -1, 2047; -2048 (missing), 5.
    let octets = vec![0xe3, 0x33, 0xf3, 0xff, 0x7f, 0xff, 0x00, 0x08, 0x05];
    let header = header
        .replace(" -3 0 MLII", &format!(" {} 0 MLII", 995 - 1 - 2048))
        .replace(" 0 0 V5", &format!(" {} 0 V5", 1011 + 2047 + 5));
    let recording = Header::decode(header.as_bytes()).unwrap().recording(&[octets]).unwrap();
    assert_eq!(
        recording.samples,
        [Some(995 - 1024), Some(1011 - 1024), Some(-1 - 1024), Some(2047 - 1024), None, Some(5 - 1024)]
    );
    assert_eq!(recording.channels.iter().map(|channel| channel.code).collect::<Vec<_>>(), [Mdc::ECG, Mdc::ECG_V5]);
    assert_eq!(recording.channels[0].scale.to_string(), "0.005");
    assert_eq!(recording.device_time.unwrap().to_string(), "1990-02-01T00:00:00");
}

#[test]
fn what_we_do_not_read_is_refused() {
    let header = |record: &str, signal: &str| Header::decode(format!("{record}\n{signal}\n").as_bytes());
    assert!(header("r 1 500 2", "r.dat 16 200").is_ok());
    for (record, signal) in [
        ("r/2 1 500 2", "r.dat 16"),
        ("r", "r.dat 16"),
        ("r 0 500 2", "r.dat 16"),
        ("r 9999 500 2", "r.dat 16"),
        ("r 2 500 2", "r.dat 16"),
        ("r 1 0 2", "r.dat 16"),
        ("r 1 x 2", "r.dat 16"),
        ("r 1 500 -2", "r.dat 16"),
        ("r 1 500 99999999999", "r.dat 16"),
        ("r 1 500 2", "../r.dat 16"),
        ("r 1 500 2", "/etc/passwd 16"),
        ("r 1 500 2", ".. 16"),
        ("r 1 500 2", "- 16"),
        ("r 1 500 2", "~ 0"),
        ("r 1 500 2", "r.dat"),
        ("r 1 500 2", "r.dat 61"),
        ("r 1 500 2", "r.dat 16x2"),
        ("r 1 500 2", "r.dat 16:3"),
        ("r 1 500 2", "r.dat 16 2x"),
        ("r 1 500 2", "r.dat 16 200(1"),
        ("r 1 500 2", "r.dat 16 200 16 z"),
    ] {
        assert!(header(record, signal).is_err(), "{record}; {signal}");
    }
    let other = header("r 1 500 1", "r.dat 16 200/mmHg 16 0 0 0 0 ABP").unwrap();
    assert_eq!(other.recording(&[vec![0, 0]]), Err(value("description")));
}

#[test]
fn lengths_and_sums_that_do_not_fit_are_refused() {
    let recording = three_leads((0..300).map(Some).collect());
    let record = encode(&recording, "r", Packing::Plain).unwrap();
    let header = Header::decode(record.header.as_bytes()).unwrap();
    let octets = record.files[0].1.clone();
    for length in 0..octets.len() {
        assert_eq!(header.recording(&[octets[..length].to_vec()]), Err(DecodeError::Truncated { field: "samples" }));
    }
    assert_eq!(header.recording(&[[&octets[..], &[0]].concat()]), Err(DecodeError::Trailing { octets: 1 }));
    for (bit, turned) in turned(&octets) {
        assert_eq!(header.recording(&[turned]), Err(DecodeError::Checksum), "bit {bit}");
    }
    assert_eq!(header.recording(&[]), Err(DecodeError::Truncated { field: "signal file" }));
    let record = encode(&recording, "r", Packing::Flac).unwrap();
    let header = Header::decode(record.header.as_bytes()).unwrap();
    let octets = record.files[0].1.clone();
    for length in 0..octets.len() {
        assert_eq!(header.recording(&[octets[..length].to_vec()]), Err(DecodeError::Checksum));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_samples_come_back(
        samples in proptest::collection::vec(proptest::option::weighted(0.9, -8_388_607_i32..8_388_608), 3..600),
        plain in any::<bool>(),
    ) {
        let mut samples = samples;
        samples.truncate(samples.len() / 3 * 3);
        let recording = three_leads(samples);
        let packing = if plain { Packing::Plain } else { Packing::Flac };
        prop_assert_eq!(read(&encode(&recording, "r", packing).unwrap()), Ok(recording));
    }

    #[test]
    fn no_octets_panic(header in proptest::collection::vec(any::<u8>(), 0..300), file in proptest::collection::vec(any::<u8>(), 0..99)) {
        if let Ok(header) = Header::decode(&header) {
            let _ = header.recording(&[file]);
        }
    }

    #[test]
    fn no_header_of_the_right_words_panics(
        record in "r [0-9]{1,2} [0-9./(-]{1,6} [0-9]{0,5} [0-9:]{0,8} [0-9/]{0,10}",
        signal in "r.dat (16|24|212|516|524)[+x:0-9]{0,3} [0-9.e(/)mVu-]{0,12} [0-9 -]{0,20}",
        file in proptest::collection::vec(any::<u8>(), 0..99),
    ) {
        if let Ok(header) = Header::decode(format!("{record}\n{signal}\n").as_bytes()) {
            let _ = header.recording(&[file]);
        }
    }
}
