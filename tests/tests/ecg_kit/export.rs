//! `kit-agent export` of what two ECGs streamed: every sample is one that the device made, in its place.

use std::path::Path;
use std::time::Duration;

use harness::ledger::{Stream, StreamName, Truth};
use harness::plant::Plant;
use harness::plant::devices;
use kit_protocol::file::{FileRecording, csv, edf, wfdb};
use kit_protocol::reading::Rate;

const MEASURED_FOR: Duration = Duration::from_secs(8);
/// What is compared of each device at least, seconds.
const SECONDS_MIN: usize = 3;

fn made(plant: &Plant, name: &str) -> Stream {
    let mut truth = Truth::default();
    truth.add(name, &std::fs::read_to_string(plant.truth(devices::find(name).unwrap())).unwrap()).unwrap();
    truth.streams.remove(&StreamName { device: name.into(), kind: "ecg".into() }).unwrap()
}

/// The files of `folder` whose names end so.
fn files(folder: &Path, ends: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == ends) && !file.ends_with("readings.csv"));
    files.sort();
    files
}

fn read_wfdb(file: &Path) -> FileRecording {
    let header = wfdb::Header::decode(&std::fs::read(file).unwrap()).unwrap();
    let signals: Vec<Vec<u8>> = header.files().iter().map(|name| std::fs::read(file.with_file_name(name)).unwrap()).collect();
    header.recording(&signals).unwrap()
}

/// A table of `export`: `index`, and a column a lead.
fn read_table(file: &Path, leads: usize) -> Vec<i32> {
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').skip(1).map(|cell| cell.parse().unwrap()).collect::<Vec<i32>>());
    rows.inspect(|row| assert_eq!(row.len(), leads)).flatten().collect()
}

/// Frames of runs without a hole, each found as a whole in what the device made.
fn frames_that_were_made(recording: &[Option<i32>], stream: &Stream) -> usize {
    let mut frames = 0;
    for run in recording.chunk_by(|a, b| a.is_some() == b.is_some()).filter(|run| run[0].is_some()) {
        let run: Vec<i32> = run.iter().flatten().copied().collect();
        let count = run.len() / stream.channels;
        let found = (0..stream.len()).any(|first| stream.run(first, count) == Some(&run));
        assert!(found, "{count} frames that the device did not make so");
        frames += count;
    }
    frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_streamed_is_exported_sample_for_sample_or_refused_with_the_next_step() {
    let (mut plant, directory) = super::plant(&["ecg-ads1298", "ecg-lepu"]).await;
    plant.hand_over().await.unwrap();
    let with_segments = |status: &serde_json::Value| {
        let devices = status["devices"].as_array().unwrap();
        devices.iter().all(|device| device["segments"].as_u64().unwrap() > 0)
    };
    plant.status_until("segments of both", with_segments).await.unwrap();
    tokio::time::sleep(MEASURED_FOR).await;
    plant.stop_devices().await;
    plant.drained().await.unwrap();
    let (ads, lepu) = (made(&plant, "ecg-ads1298"), made(&plant, "ecg-lepu"));
    let out = |format: &str| directory.path().join(format!("as-{format}"));
    let mut said = Vec::new();
    for format in ["csv", "wfdb", "edf", "fhir"] {
        let folder = out(format);
        let output = plant.ask_kit(&["export", "--format", format, "--out", folder.to_str().unwrap()]).await.unwrap();
        said.push((output.status.code(), String::from_utf8(output.stderr).unwrap()));
    }
    plant.stop().await;

    assert_eq!((said[0].0, said[1].0), (Some(0), Some(0)), "{said:?}");
    let (mut of_ads, mut of_lepu, mut of_tables) = (0, 0, 0);
    for file in files(&out("wfdb"), "hea") {
        let recording = read_wfdb(&file);
        match recording.channels.len() {
            8 => of_ads += frames_that_were_made(&recording.samples, &ads),
            _ => of_lepu += frames_that_were_made(&recording.samples, &lepu),
        }
        let leads = recording.channels.len();
        let table = read_table(&out("csv").join(file.with_extension("csv").file_name().unwrap()), leads);
        assert!(table.iter().eq(recording.samples.iter().flatten()), "the table has the same");
        of_tables += table.len() / leads;
        let again = csv::decode(&csv::encode(&recording), recording.rate, recording.channels[0].scale, "uV").unwrap();
        assert_eq!(again.samples.len(), recording.samples.len());
    }
    println!("{of_ads} frames of the ADS1298, {of_lepu} of the ER3 compared");
    assert!(of_ads >= SECONDS_MIN * 500 && of_lepu >= SECONDS_MIN * 250);
    assert_eq!(of_tables, of_ads + of_lepu);

    // 24 bits and a scale of twelve places: not in EDF, and it is said what to do. The other recorder's 16 bits fit.
    assert_eq!(said[2].0, Some(1));
    assert!(said[2].1.contains("ecg-ads1298") && said[2].1.contains("--format wfdb"), "{}", said[2].1);
    let read: Vec<FileRecording> =
        files(&out("edf"), "edf").iter().map(|file| edf::decode(&std::fs::read(file).unwrap()).unwrap()).collect();
    let frames: usize = read.iter().map(|recording| frames_that_were_made(&recording.samples, &lepu)).sum();
    assert_eq!(frames, of_lepu);
    assert!(read.iter().all(|recording| recording.rate == Rate { samples: 250, seconds: 1 } && recording.device_time.is_some()));

    assert_eq!(said[3].0, Some(2));
    assert!(said[3].1.contains("convert --from wfdb --to fhir"), "{}", said[3].1);
}
