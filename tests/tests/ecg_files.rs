//! ECG files of real devices, which are too large to ship: read from the folder that `$KIT_DATA` names.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::path::Path;

use kit_protocol::file::{FileRecording, ecg90a, scp};

/// The octets of a file; `None` where the folder is not named.
fn data(test: &str, name: &str) -> Option<Vec<u8>> {
    match std::env::var_os("KIT_DATA") {
        Some(folder) => Some(std::fs::read(Path::new(&folder).join(name)).unwrap()),
        None => {
            harness::skip::skipped("KIT_DATA", test);
            None
        }
    }
}

fn row(recording: &FileRecording, index: usize) -> Vec<i32> {
    let leads = recording.channels.len();
    recording.samples[index * leads..][..leads].iter().map(|sample| sample.unwrap()).collect()
}

fn leads(recording: &FileRecording) -> Vec<&str> {
    recording.channels.iter().map(|channel| channel.code.name().unwrap()).collect()
}

/// Vector E10: ecg-contec b4af68c, 0000053.ECG.
#[test]
fn a_recording_of_an_ecg90a_is_read_and_written_bit_for_bit() {
    let Some(octets) = data("a_recording_of_an_ecg90a_is_read_and_written_bit_for_bit", "0000053.ECG") else { return };
    let recording = ecg90a::decode(&octets).unwrap();
    assert_eq!(recording.device_time.unwrap().to_string(), "2020-11-24T07:19:13");
    assert_eq!(leads(&recording), ["II", "III", "V1", "V2", "V3", "V4", "V5", "V6"]);
    assert_eq!(recording.samples.len(), 29_748 * 8);
    assert_eq!(row(&recording, 0), [-34, -2, -5, -20, -24, -69, -19, -25]);
    assert_eq!(row(&recording, 1), [-32, -1, -6, -21, -25, -69, -19, -25]);
    assert_eq!(row(&recording, 2), [-29, 0, -6, -21, -25, -69, -19, -25]);
    assert_eq!(row(&recording, 1_000), [-32, -2, -6, -17, -27, -58, -16, -18]);
    assert!(ecg90a::encode(&recording, 53).unwrap() == octets, "the octets that the device wrote");
}

/// Vector E20: demo.scp of ecg-contec b4af68c and SCP-Tools 265e08e.
#[test]
fn a_raw_scp_ecg_is_read_with_its_leads_and_scale() {
    let Some(octets) = data("a_raw_scp_ecg_is_read_with_its_leads_and_scale", "demo.scp") else { return };
    let recording = scp::decode(&octets).unwrap();
    assert_eq!(leads(&recording), ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]);
    assert_eq!((recording.rate.samples, recording.rate.seconds, recording.samples.len()), (1_000, 1, 80_000));
    assert_eq!((recording.channels[0].scale.to_string().as_str(), recording.channels[0].unit), ("0.183", "uV"));
    let lead = |lead: usize, count: usize| (0..count).map(|index| row(&recording, index)[lead]).collect::<Vec<_>>();
    assert_eq!(lead(0, 5), [254, 246, 251, 223, 251]);
    assert_eq!(lead(1, 5), [429, 435, 435, 434, 448]);
    assert_eq!(lead(2, 3), [152, 160, 161]);
    assert_eq!(lead(7, 3), [253, 258, 262]);
    // Under Huffman codes, in any order of differences, it is the same recording.
    for differences in 0..=2 {
        let encoded = scp::encode(&recording, scp::Encoding::Huffman { differences }).unwrap();
        assert!(scp::decode(&encoded).unwrap() == recording && (differences == 0 || encoded.len() < octets.len()));
    }
}
