//! Where a target begins: the vectors of its device, and a file of its format. What has a checksum is found no other way.

use std::fs;
use std::path::Path;

use kit_protocol::decimal::Decimal;
use kit_protocol::file::{FileRecording, csv, ecg90a, edf, flac, lepu_er3, scp, wfdb};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Rate};

/// Drivers, and the vectors of what they hear.
const HEARS: &[(&str, &[&str])] = &[
    ("blood-pressure", &["blood_pressure", "blood_pressure_bm85"]),
    ("blood-pressure-omron", &["omron_frames", "omron_records"]),
    ("ecg-ads1298", &["ads1298_frames"]),
    ("ecg-file", &["scp_files", "scp_refused"]),
    ("ecg-lepu", &["lepu_frames"]),
    ("glucose-meter", &["glucose_measurement", "glucose_measurement_context", "racp_responses"]),
    ("health-sensor", &["health_observation", "elapsed_time", "racp_responses"]),
    ("heart-rate", &["heart_rate"]),
    ("monitor-pc300", &["aa55_frames", "pc300_messages"]),
    ("oximeter-berry", &["berry", "bci_frames"]),
    ("oximeter-contec", &["contec_v7", "bci_frames", "contec_bt"]),
    ("oximeter-nonin", &["nonin_df2_frames", "nonin_df2_packets", "nonin_df8", "nonin_df13"]),
    ("oximeter-viatom", &["pc60fw", "o2ring", "aa55_frames"]),
    ("pulse-oximeter", &["plx_continuous", "plx_spot_check", "plx_features", "racp_responses"]),
    ("spirometer-flow", &["spirometer_flow_frames"]),
    ("thermometer", &["temperature"]),
    ("weight-scale", &["weight", "body_composition", "mi_scale"]),
];

/// Writes the first inputs of every target into `corpus`, a folder a target.
pub(crate) fn write(corpus: &Path, vectors: &Path) -> std::io::Result<()> {
    for (driver, files) in HEARS {
        for file in *files {
            let text = fs::read_to_string(vectors.join(file).with_extension("txt"))?;
            for (number, octets) in text.lines().filter_map(octets).enumerate() {
                let name = format!("{file}-{number}");
                put(corpus, &format!("decode-{driver}"), &name, &[&[63], octets.as_slice()].concat())?;
                put(corpus, &format!("session-{driver}"), &name, &conversation(&octets))?;
            }
        }
    }
    for (target, name, octets) in files() {
        put(corpus, target, name, &octets)?;
    }
    Ok(())
}

fn put(corpus: &Path, target: &str, name: &str, octets: &[u8]) -> std::io::Result<()> {
    let folder = corpus.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), octets)
}

/// The octets of a vector's line.
fn octets(line: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = line.split('|').nth(1)?.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.is_empty() || line.starts_with('#') { None } else { digits.chunks(2).map(pair).collect() }
}

/// A script of `device_drivers::exercise`: the link is up, what is asked is answered, the octets come from each place, all is stored.
fn conversation(octets: &[u8]) -> Vec<u8> {
    let mut script = vec![0x70, 0x80];
    let mut then = |what: u8, argument: u8| script.extend([what, argument]);
    (0..6).for_each(|_| then(4, 0));
    for place in 0..4 {
        for chunk in octets.chunks(200) {
            script.extend([1, place, u8::try_from(chunk.len()).unwrap_or(u8::MAX)]);
            script.extend(chunk);
        }
        script.extend([4, 0, 6, 0, 3, 10]);
    }
    script
}

/// A short recording in every format.
fn files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let leads = [Mdc::ECG_I, Mdc::ECG_II].into_iter().chain((131_331..=131_336).map(Mdc));
    let eight = recording(leads.collect(), Rate { samples: 500, seconds: 1 }, Decimal::new(5, 0), "uV");
    let row = |samples: Result<Vec<u8>, _>| samples.unwrap_or_default();
    let two = recording(vec![Mdc::ECG_I, Mdc::ECG_II], Rate { samples: 50, seconds: 1 }, Decimal::new(125, -2), "uV");
    let contec = FileRecording { channels: ecg90a::channels(), rate: Rate { samples: 800, seconds: 1 }, ..eight.clone() };
    let er3 = |lead_type| {
        let channels = lepu_er3::channels(lead_type);
        let samples = eight.samples.iter().take(12 * channels.len()).copied().collect();
        FileRecording { device_time: None, rate: Rate { samples: 250, seconds: 1 }, channels, samples }
    };
    let mut all = vec![
        ("file-csv", "eight", csv::encode(&eight).into_bytes()),
        ("file-csv", "indexed", b"index,I,II\n3,1,-2\n7,5,\n".to_vec()),
        ("file-ecg90a", "eight", ecg90a::encode(&contec, 53).unwrap_or_default()),
        ("decode-ecg-file", "ecg90a", [vec![63], ecg90a::encode(&contec, 53).unwrap_or_default()].concat()),
        ("file-edf", "two", edf::encode(&two, "seed").unwrap_or_default()),
        ("file-flac", "eight", flac::encode(&eight).unwrap_or_default()),
    ];
    for lead_type in [lepu_er3::LeadType::TWELVE, lepu_er3::LeadType::SIX, lepu_er3::LeadType::FIVE] {
        let octets = lepu_er3::encode(&er3(lead_type), lead_type).unwrap_or_default();
        all.push(("file-lepu-er3", ["twelve", "six", "five"][usize::from(lead_type.0 % 3)], octets.clone()));
        all.push(("decode-ecg-lepu", ["er3-twelve", "er3-six", "er3-five"][usize::from(lead_type.0 % 3)], octets));
    }
    for differences in 0..3 {
        let octets = row(scp::encode(&eight, scp::Encoding::Huffman { differences }));
        all.push((
            "file-scp",
            ["huffman-0", "huffman-1", "huffman-2"][usize::from(differences)],
            [vec![differences], octets].concat(),
        ));
    }
    all.push(("file-scp", "raw", [vec![3], row(scp::encode(&eight, scp::Encoding::Raw))].concat()));
    for (name, packing) in [("plain", wfdb::Packing::Plain), ("flac", wfdb::Packing::Flac)] {
        if let Ok(record) = wfdb::encode(&eight, "seed", packing) {
            let mut octets = record.header.into_bytes();
            record.files.iter().for_each(|(_, file)| octets.extend([&[0], file.as_slice()].concat()));
            all.push(("file-wfdb", name, octets));
        }
    }
    all.into_iter().filter(|(.., octets)| octets.len() > 1).collect()
}

fn recording(codes: Vec<Mdc>, rate: Rate, scale: Decimal, unit: &'static str) -> FileRecording {
    let channels: Vec<Channel> = codes.into_iter().map(|code| Channel { code, scale, unit, filter: String::new() }).collect();
    let wave = (0..40 * i32::try_from(channels.len()).unwrap_or(0)).map(|at| Some(at * at * 31 % 997 - 480));
    let device_time = Some(DateTime { year: 2026, month: 11, day: 21, hour: 10, minute: 30, second: 0 });
    FileRecording { device_time, rate, samples: wave.collect(), channels }
}
