//! ECG files of four makers in a folder of the kit: at the centre once, bit for bit, whatever is killed and dropped again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firmware_sim::ecg_files::{EcgFile, Format};
use harness::plant::Plant;
use kit_centre::store::{Filter, Reader};
use kit_protocol::flac;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::uplink::wire::{self, record::Content};

const FORMATS: [Format; 4] = [Format::Ecg90a, Format::Scp, Format::Edf, Format::Er3];
const BEGAN: DateTime = DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 30, second: 5 };
const SECONDS: u32 = 12;

/// Segments of a recording by their index, each with the index of its first sample.
type Segments = BTreeMap<u32, (u64, Vec<i32>)>;

/// What the centre has of recordings and of what was found of them.
#[derive(Default)]
struct AtCentre {
    recordings: BTreeMap<Vec<u8>, Segments>,
    /// Segments that came twice.
    doubles: usize,
    /// Recordings that something was found of, and what.
    found: Vec<(Vec<u8>, Vec<String>)>,
    missed: usize,
    refused: usize,
}

fn at_centre(plant: &Plant) -> AtCentre {
    let mut all = AtCentre::default();
    for stored in Reader::open(&plant.database()).unwrap().records(Filter::default()) {
        match stored.unwrap().record.content {
            Some(Content::Segment(segment)) => {
                let samples = flac::decode(&segment.flac).unwrap();
                let of_recording = all.recordings.entry(segment.recording).or_default();
                all.doubles += usize::from(of_recording.insert(segment.index, (segment.first_sample, samples)).is_some());
            }
            Some(Content::Reading(reading)) => {
                assert_eq!(reading.source, i32::from(wire::Source::Derived));
                all.found.push((reading.recording, reading.status));
            }
            Some(Content::Missed(_)) => all.missed += 1,
            Some(Content::Refusal(_)) => all.refused += 1,
            _ => {}
        }
    }
    all
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().unwrap().is_file()).map(|e| e.file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2a_a_file_is_taken_once_bit_for_bit_however_often_it_is_dropped_and_the_agent_killed() {
    let (mut plant, directory) = super::plant(&[]).await;
    let folder = |driver: &str| directory.path().join(driver);
    let mut configuration = std::fs::read_to_string(plant.configuration()).unwrap();
    for driver in ["ecg-file", "ecg-lepu"] {
        std::fs::create_dir(folder(driver)).unwrap();
        configuration += &format!("\n[[device]]\ndriver = \"{driver}\"\nfolder = \"{driver}\"\n");
    }
    std::fs::write(plant.configuration(), configuration).unwrap();
    let files = FORMATS.map(|format| EcgFile::of(format, 5, SECONDS, BEGAN).unwrap());
    let drop_all = || files.iter().for_each(|file| file.write(&folder(file.format.driver())).unwrap());
    let waiting = || ["ecg-file", "ecg-lepu"].iter().map(|driver| names(&folder(driver)).len()).sum::<usize>();

    drop_all();
    plant.start_agent().unwrap();
    super::until("one file is done", || waiting() < FORMATS.len()).await;
    plant.kill_agent();
    plant.start_agent().unwrap();
    super::until("all files are done", || waiting() == 0).await;
    plant.kill_agent();
    drop_all();
    plant.start_agent().unwrap();
    super::until("all files are done again", || waiting() == 0).await;
    plant.agent_answers().await.unwrap();
    plant.drained().await.unwrap();
    plant.stop().await;

    let refused = names(&folder("ecg-file").join("refused")).len() + names(&folder("ecg-lepu").join("refused")).len();
    let done = names(&folder("ecg-file").join("done")).len() + names(&folder("ecg-lepu").join("done")).len();
    assert_eq!((done, refused), (2 * FORMATS.len(), 0));
    let all = at_centre(&plant);
    assert_eq!((all.doubles, all.missed, all.refused), (0, 0, 0));
    let joined = |segments: &Segments| segments.values().flat_map(|(_, s)| s.clone()).collect::<Vec<i32>>();
    let stored: BTreeSet<Vec<i32>> = all.recordings.values().map(joined).collect();
    let expected = files.iter().map(|file| file.recording.samples.iter().map(|sample| sample.unwrap()).collect());
    assert!(stored == expected.collect::<BTreeSet<Vec<i32>>>(), "{} recordings, not the four that were dropped", stored.len());
    assert_eq!(all.recordings.len(), FORMATS.len());
    let found: BTreeSet<&Vec<u8>> = all.found.iter().map(|(recording, _)| recording).collect();
    assert!(all.found.len() == FORMATS.len() && found.into_iter().eq(all.recordings.keys()), "{:?}", all.found);
    assert!(all.found.iter().all(|(_, status)| status == &["acceptable"]), "{:?}", all.found);
}
