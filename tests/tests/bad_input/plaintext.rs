//! What the kit leaves on its disk and in its log, searched for what must not stand there.

use std::path::{Path, PathBuf};

use harness::plant::ASSIGNMENT;
use kit_centre::store::{Filter, Reader};
use kit_protocol::uplink::wire::record::Content;
use prost::Message;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::{Bench, flowing, layout, number};

const DEVICE: &str = "oximeter-nonin";
/// Octets of a segment's stream that are searched for: enough that no ciphertext holds them by chance.
const WINDOW_OCTETS: usize = 32;
/// Octets that a needle has at least.
const NEEDLE_OCTETS_MIN: usize = 6;

/// A file and what is in it.
struct Found(PathBuf, Vec<u8>);

fn files_below(folder: &Path) -> Vec<Found> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            let octets = std::fs::read(&path).unwrap();
            files.push(Found(path, octets));
        }
    }
    files
}

/// The files that hold a needle.
fn holders<'a>(files: &'a [Found], needle: &[u8]) -> Vec<&'a Path> {
    assert!(needle.len() >= NEEDLE_OCTETS_MIN, "{needle:?}");
    let holds = |octets: &[u8]| octets.windows(needle.len()).any(|window| window == needle);
    files.iter().filter(|Found(_, octets)| holds(octets)).map(|Found(path, _)| path.as_path()).collect()
}

/// Readings, and parts of waveforms, as the centre has them.
fn measured(database: &Path) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut readings, mut waves) = (Vec::new(), Vec::new());
    for stored in Reader::open(database).unwrap().records(Filter::default()) {
        match stored.unwrap().record.content {
            Some(Content::Reading(reading)) => {
                readings.extend(reading.values.iter().map(Message::encode_to_vec));
                readings.push(reading.encode_to_vec());
            }
            Some(Content::Segment(segment)) => {
                let middle =
                    |stream: &Vec<u8>| stream.get(stream.len() / 2..).and_then(|rest| rest.get(..WINDOW_OCTETS)).map(Vec::from);
                waves.extend(segment.flac.iter().filter_map(middle));
            }
            _ => {}
        }
    }
    (readings, waves)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_no_reading_name_or_key_stands_in_plaintext_in_the_kits_state_and_no_reading_or_key_in_its_log() {
    let mut layout = layout(&[DEVICE]);
    layout.stream_interval_s = Some(1);
    let mut bench = Bench::build(layout).await;
    bench.plant.hand_over().await.unwrap();
    let enough = |status: &serde_json::Value| flowing(status) && number(status, "/devices/0/readings") >= 2;
    bench.plant.status_until("readings and a segment are stored", enough).await.unwrap();
    bench.plant.settle().await.unwrap();

    let (readings, waves) = measured(&bench.plant.database());
    assert!(readings.len() >= 2 && !waves.is_empty());
    let pem = std::fs::read_to_string(bench.directory().join("authority/KIT-DEMO.key")).unwrap();
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_der().to_vec();
    let mut keys: Vec<Vec<u8>> = body.iter().map(|line| line.as_bytes().to_vec()).collect();
    keys.extend(der.chunks(WINDOW_OCTETS).filter(|chunk| chunk.len() == WINDOW_OCTETS).map(Vec::from));

    // Whoever stores in the clear is found out.
    let elsewhere = files_below(&bench.directory().join("centre"));
    assert!(readings.iter().all(|needle| !holders(&elsewhere, needle).is_empty()));
    assert!(!holders(&files_below(&bench.directory().join("authority")), &keys[0]).is_empty());

    let state = files_below(&bench.plant.state());
    assert!(state.iter().map(|Found(_, octets)| octets.len()).sum::<usize>() > 1_000);
    let names = [DEVICE.as_bytes().to_vec(), ASSIGNMENT.as_bytes().to_vec()];
    for needle in readings.iter().chain(&waves).chain(&keys).chain(&names) {
        assert_eq!(holders(&state, needle), Vec::<&Path>::new(), "{needle:?}");
    }
    for own in ["kek", "origin"] {
        let file = bench.plant.state().join("identity").join(own);
        assert_eq!(holders(&state, &std::fs::read(&file).unwrap()), [file.as_path()], "a secret is in its own file alone");
    }
    let log = bench.plant.log("agent");
    let log = [Found(log.clone(), std::fs::read(&log).unwrap())];
    assert_eq!(holders(&log, b"running").len(), 1, "it is the log");
    for needle in readings.iter().chain(&waves).chain(&keys) {
        assert_eq!(holders(&log, needle), Vec::<&Path>::new(), "{needle:?}");
    }
}
