//! What a device sends or shows once more is the same measurement, or the same recording.

use super::*;

/// A recording in the memory of a device that numbers its records and has no clock.
fn numbered(number: u64, octets: &[u8]) -> RecordingHead {
    let record = Some(number);
    RecordingHead { memory: Memory::Stored, continuous: false, record, octets: octets.to_vec(), ..head(1, 500) }
}

/// Origins of the segments that come of 10 s of signal under that head.
fn origins(recorder: &mut Recorder<Still>, session_number: u32, head: RecordingHead) -> Vec<Origin> {
    send(recorder, session_number, head, 5_000);
    recorder.take(at(0), Ok((Token(2), Output::End { recording: session_number })));
    filings(recorder).iter().map(|filing| filing.draft.origin.unwrap()).collect()
}

fn send(recorder: &mut Recorder<Still>, recording: u32, head: RecordingHead, frames: u64) {
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording, head })));
    for first in (0..frames).step_by(500) {
        recorder.take(at(0), Ok((Token(1), Output::Samples { recording, block: block(first, 500, 1, 8) })));
    }
}

#[test]
fn i2a_a_recording_without_a_time_is_named_by_its_number_and_octets() {
    let mut recorder = recorder(BTreeMap::new());
    let first = origins(&mut recorder, 1, numbered(7, &[1, 2]));
    assert_eq!(first.len(), 3);
    assert_eq!(first, origins(&mut recorder, 2, numbered(7, &[1, 2])), "all was asked for once more");
    assert_ne!(first, origins(&mut recorder, 3, numbered(8, &[1, 2])));
    assert_ne!(first, origins(&mut recorder, 4, numbered(7, &[1, 3])), "numbers began again");
}

#[test]
fn i2a_a_stored_recording_that_was_cut_off_leaves_no_piece_that_stands_for_a_whole_one() {
    let mut cut_off = recorder(BTreeMap::new());
    send(&mut cut_off, 1, numbered(7, &[1]), 2_500);
    cut_off.link_down();
    cut_off.finish();
    let before: Vec<_> = filings(&mut cut_off).iter().map(|filing| filing.draft.origin.unwrap()).collect();
    let whole = origins(&mut recorder(BTreeMap::new()), 1, numbered(7, &[1]));
    assert_eq!((before.len(), &before[..]), (1, &whole[..1]), "4 s of the 5 are durable, the rest comes again");
}

#[test]
fn a_reading_of_a_recording_that_has_ended_belongs_to_it() {
    let mut recorder = recorder(BTreeMap::new());
    for number in 1..=3 {
        send(&mut recorder, number, numbered(number.into(), &[]), 500);
        recorder.take(at(0), Ok((Token(2), Output::End { recording: number })));
    }
    let of_it = Measured { recording: Some(2), ..measured(Some(2)) };
    recorder.take(at(1), Ok((Token(3), Output::Measured(of_it))));
    let filed = filings(&mut recorder);
    let Content::Reading(reading) = &filed[3].draft.content else { panic!("{filed:?}") };
    assert_eq!(reading.recording, segment(&filed[1]).recording);
}

#[test]
fn i4_a_recording_above_the_last_number_of_another_patient_is_taken_and_one_below_stays_refused() {
    let memory = DeviceMemory { highest: Some(7), floor: Some(7), ended: 1, ..DeviceMemory::default() };
    let mut recorder = meter(memory);
    send(&mut recorder, 1, numbered(7, &[1]), 500);
    send(&mut recorder, 2, numbered(8, &[2]), 500);
    recorder.take(at(1), Ok((Token(5), Output::End { recording: 2 })));
    let filed = filings(&mut recorder);
    assert_eq!(filed.iter().map(segment).map(|segment| segment.samples).collect::<Vec<_>>(), [500]);
    // What was found to be another's is not counted again when it comes again.
    assert_eq!(recorder.others, 1);
    send(&mut recorder, 3, numbered(7, &[1]), 500);
    assert_eq!(recorder.others, 1);
}

/// A cuff reading as a monitor shows it: no number, no time.
fn shown(systolic: u8, memory: Memory) -> Measured {
    Measured { device_time: None, record: None, memory, octets: vec![systolic], kind: Kind::BloodPressure, ..measured(None) }
}

/// The readings of a conversation, and the marks that the next one begins with.
fn showing(marks: &Marks, given: &[Measured]) -> (usize, Marks) {
    let mut recorder = recorder_after(marks.clone());
    for measured in given {
        recorder.take(at(4), Ok((Token(1), Output::Measured(measured.clone()))));
    }
    let filed = filings(&mut recorder);
    let answers = filed.iter().map(|filing| filing.answers.len()).sum::<usize>();
    let at_once = std::iter::from_fn(|| recorder.poll_answer()).filter(|answer| *answer == Answer::Stored(Token(1))).count();
    assert_eq!(answers + at_once, given.len());
    let mut marks = marks.clone();
    for mark in filed.iter().flat_map(|filing| &filing.draft.marks) {
        assert_eq!(mark.key, shown_key("ecg-1", Kind::BloodPressure));
        marks.shown.insert(Kind::BloodPressure, mark.value.clone());
    }
    (filed.len(), marks)
}

#[test]
fn i2a_a_value_that_a_monitor_still_shows_is_no_second_reading_in_the_next_conversation() {
    let (first, marks) = showing(&Marks::default(), &[shown(121, Memory::Stored), shown(130, Memory::Live)]);
    assert_eq!(first, 2);
    let (again, marks) = showing(&marks, &[shown(130, Memory::Stored)]);
    assert_eq!(again, 0, "it is still there");
    let (new, marks) = showing(&marks, &[shown(130, Memory::Stored), shown(121, Memory::Live), shown(130, Memory::Live)]);
    assert_eq!(new, 2, "what was measured since is new, be it the same numbers");
    let (other, _) = showing(&marks, &[shown(121, Memory::Stored)]);
    assert_eq!(other, 1, "something else is shown than was last");
    let (live, _) = showing(&marks, &[shown(130, Memory::Live)]);
    assert_eq!(live, 1, "what was just measured is never taken for an old one");
}

#[test]
fn i4_a_time_that_tells_nothing_places_nothing() {
    let old = DateTime { year: 2025, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
    let mut recorder = meter(DeviceMemory::default());
    let clock = DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 0, second: 0 };
    recorder.take(at(5), Ok((Token(1), Output::DeviceClock { device: clock, at: at(5) })));
    let untold = |term, memory| Measured { status: vec![term], device_time: Some(old), memory, ..measured(None) };
    recorder.take(at(6), Ok((Token(2), Output::Measured(untold("device-clock-not-set", Memory::Live)))));
    recorder.take(at(6), Ok((Token(3), Output::Measured(untold("time-not-on-current-timeline", Memory::Stored)))));
    let filed = filings(&mut recorder);
    let Content::Reading(reading) = &filed[0].draft.content else { panic!("{filed:?}") };
    assert_eq!((filed.len(), filed[0].answers[0]), (1, Answer::Stored(Token(2))), "it was just measured");
    assert!(reading.device_time.is_some() && reading.device_offset_ms.is_none(), "the time stands as sent, and is not moved");
    recorder.finish();
    assert!(std::iter::from_fn(|| recorder.poll_answer()).any(|answer| answer == Answer::Refused(Token(3))));
}
