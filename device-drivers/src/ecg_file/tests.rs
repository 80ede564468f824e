use kit_protocol::decimal::Decimal;
use kit_protocol::file::{FileRecording, ecg90a, scp};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::reading::{Memory, Rate};
use proptest::prelude::*;

use super::*;
use crate::driver::{DownReason, Endpoint, Start};
use crate::session::playback::RECORDING_MAX;
use crate::transport::scripted::{Conversation, Given, Step};

fn play(pieces: &[&[u8]]) -> Vec<Given> {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    script.extend(pieces.iter().map(|piece| Step::Sends(Endpoint::SERIAL, By::File, piece.to_vec())));
    script.push(Step::Down(DownReason::End));
    Conversation::play((DRIVER.session)(Start::default()), &script).unwrap()
}

fn time() -> DateTime {
    DateTime { year: 2020, month: 11, day: 24, hour: 7, minute: 19, second: 13 }
}

fn recorded(samples: Vec<Option<i32>>) -> FileRecording {
    FileRecording { device_time: Some(time()), rate: ecg90a::RATE, channels: ecg90a::channels(), samples }
}

fn ecg90a(samples: Vec<Option<i32>>) -> Vec<u8> {
    ecg90a::encode(&recorded(samples), 7).unwrap()
}

fn ramp(rows: i32) -> Vec<Option<i32>> {
    (0..rows).flat_map(|row| (0..8).map(move |lead| Some(row % 1_000 - 100 * lead))).collect()
}

/// Leads, samples, and how many of them were handed over in blocks that say so.
fn story(given: &[Given]) -> Vec<String> {
    given
        .iter()
        .map(|(_, output)| match output {
            Ok((_, Output::Begin { head, .. })) => {
                assert!(!head.continuous && head.memory == Memory::Stored);
                let leads: Vec<_> = head.channels.iter().map(|channel| channel.code.name().unwrap()).collect();
                let time = head.device_time.map_or("-".into(), |time| time.to_string());
                format!("begin {} {}/{} {time}", leads.join(","), head.rate.samples, head.rate.seconds)
            }
            Ok((_, Output::Samples { block, .. })) => format!("{}+{} off {:b}", block.first, block.samples.len(), block.lead_off),
            Ok((_, Output::End { .. })) => "end".into(),
            Ok((_, Output::Measured(measured))) => format!("found {}", measured.status.join(",")),
            Ok((_, other)) => format!("{other:?}"),
            Err(error) => error.to_string(),
        })
        .collect()
}

fn samples(given: &[Given]) -> Vec<i32> {
    given
        .iter()
        .filter_map(|(_, output)| match output {
            Ok((_, Output::Samples { block, .. })) => Some(block.samples.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

const EIGHT: &str = "begin II,III,V1,V2,V3,V4,V5,V6 800/1 2020-11-24T07:19:13";

#[test]
fn a_file_is_one_recording_bit_for_bit() {
    let file = ecg90a(ramp(1_000));
    let given = play(&[&file]);
    assert_eq!(story(&given), [EIGHT, "0+3200 off 0", "400+3200 off 0", "800+1600 off 0", "end"]);
    let expected: Vec<i32> = ramp(1_000).into_iter().flatten().collect();
    assert!(samples(&given) == expected);
}

#[test]
fn every_split_gives_the_same() {
    let file = ecg90a(ramp(20));
    let whole = story(&play(&[&file]));
    for split in 0..=file.len() {
        let (front, behind) = file.split_at(split);
        assert_eq!(story(&play(&[front, behind])), whole, "{split}");
    }
}

#[test]
fn an_scp_ecg_is_told_by_its_content() {
    let channels = ecg90a::channels().into_iter().take(2).collect();
    let rate = Rate { samples: 500, seconds: 1 };
    let recording = FileRecording { rate, channels, samples: ramp(40)[..80].to_vec(), ..recorded(Vec::new()) };
    let file = scp::encode(&recording, scp::Encoding::Huffman { differences: 2 }).unwrap();
    let given = play(&[&file]);
    assert_eq!(story(&given), ["begin II,III 500/1 2020-11-24T07:19:13", "0+80 off 0", "end"]);
    assert!(samples(&given).into_iter().map(Some).eq(recording.samples));
}

#[test]
fn an_edf_is_told_by_its_content_and_keeps_its_holes() {
    let channels = ecg90a::channels().into_iter().take(2).collect();
    let rate = Rate { samples: 250, seconds: 1 };
    let mut samples = ramp(1_000)[..2 * 1_000].to_vec();
    samples[2 * 300..2 * 310].fill(None);
    samples[2 * 700] = None;
    let recording = FileRecording { rate, channels, samples, ..recorded(Vec::new()) };
    let file = edf::encode(&recording, "recorder").unwrap();
    let given = play(&[&file[..20], &file[20..]]);
    let told = story(&given);
    assert_eq!((told[0].as_str(), told.last().unwrap().as_str()), ("begin II,III 250/1 2020-11-24T07:19:13", "end"));
    assert!(told.contains(&"250+100 off 0".into()) && told.contains(&"310+250 off 0".into()), "{told:?}");
    assert!(told.contains(&"700+2 off 1".into()), "{told:?}");
    let there = recording.samples.iter().flatten().count();
    assert_eq!(samples_of(&given), there + 1, "one that is missing beside one that is not is marked");
    assert_eq!(story(&play(&[&file[..file.len() - 1]])), ["undecodable ECG file: truncated at data records"]);
}

fn samples_of(given: &[Given]) -> usize {
    samples(given).len()
}

#[test]
fn a_row_without_samples_is_a_hole_and_a_lead_without_one_is_off() {
    let mut rows = ramp(10);
    rows[3 * 8..5 * 8].fill(None);
    rows[7 * 8 + 2] = None;
    let given = play(&[&ecg90a(rows)]);
    assert_eq!(story(&given), [EIGHT, "0+24 off 0", "5+16 off 0", "7+8 off 100", "8+16 off 0", "end"]);
    assert_eq!(samples(&given)[40 + 2], ecg90a::MISSING, "as the device wrote it");
}

#[test]
fn a_lead_that_was_never_there_is_not_recorded() {
    let rows: Vec<_> = (0..4).flat_map(|row| [Some(row), Some(-row), None, None, None, None, None, None]).collect();
    let given = play(&[&ecg90a(rows)]);
    assert_eq!(story(&given), ["begin II,III 800/1 2020-11-24T07:19:13", "0+8 off 0", "end"]);
    assert_eq!(story(&play(&[&ecg90a(vec![None; 16])])), ["undecodable ECG file: no sample of any lead, or too many leads"]);
}

#[test]
fn a_file_that_is_cut_or_none_is_refused_without_its_octets() {
    let mut file = ecg90a(ramp(20));
    file[32..39].copy_from_slice(b"ROSSI M");
    let given = play(&[&file[..200]]);
    assert_eq!(story(&given), ["undecodable ECG file: truncated at footer"]);
    assert!(matches!(&given[0].1, Err(DriverError::Undecodable { octets, .. }) if octets.is_empty()), "they name a person");
    let strange = "not a device for this driver: no ECG file that is known";
    assert_eq!(story(&play(&[&[0x55; 64]])), [strange]);
    assert_eq!(story(&play(&[&[0x55; 10]])), [strange]);
    assert_eq!(story(&play(&[])), [strange]);
}

#[test]
fn a_recording_longer_than_a_day_is_refused() {
    let rows = usize::try_from(RECORDING_MAX.as_secs() * 2 + 1).unwrap();
    let rate = Rate { samples: 2, seconds: 1 };
    let channels = ecg90a::channels().into_iter().take(1).collect();
    let day = FileRecording { rate, channels, samples: vec![Some(1); rows], ..recorded(Vec::new()) };
    let begin = |recording| Playback::begin(Source::whole(recording), 1, Moment::ZERO, &mut Outputs::default());
    assert_eq!(begin(day.clone()).err().as_deref(), Some("longer than 24 h"));
    assert!(begin(FileRecording { samples: vec![Some(1); rows - 1], ..day }).is_ok());
}

/// 30 s: more than may await its answer.
#[test]
fn nothing_is_lost_while_the_recorder_is_slow() {
    let file = ecg90a(ramp(24_000));
    let mut conversation = Conversation::new((DRIVER.session)(Start::default()));
    let mut step = |step| conversation.step(&step).unwrap();
    step(Step::HoldAnswers);
    step(Step::Up(vec![Endpoint::SERIAL]));
    step(Step::Sends(Endpoint::SERIAL, By::File, file));
    step(Step::Down(DownReason::End));
    step(Step::Answer);
    let given = conversation.given();
    assert_eq!(samples(given).len(), 24_000 * 8);
    assert_eq!(story(given).last().map(String::as_str), Some("end"));
    assert!(given.iter().all(|(_, output)| output.is_ok()));
}

#[test]
fn scales_are_the_files() {
    let given = play(&[&ecg90a(ramp(1))]);
    let Ok((_, Output::Begin { head, .. })) = &given[0].1 else { panic!("{given:?}") };
    assert!(head.channels.iter().all(|channel| channel.scale == Decimal::whole(5) && channel.unit == "uV"));
}

proptest! {
    #[test]
    fn no_octets_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6), good in any::<bool>()) {
        let mut pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let file = ecg90a(ramp(3));
        if good {
            pieces.insert(0, &file);
        }
        prop_assert!(play(&pieces).len() <= 3);
    }
}
