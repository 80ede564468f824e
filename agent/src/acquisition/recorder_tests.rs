use super::*;
use crate::store::outbox::SEGMENT_SEALED_OCTETS_MAX;
use kit_protocol::decimal::Decimal;
use kit_protocol::flac;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Memory, Rate};

#[path = "recorder_again_tests.rs"]
mod again;

use crate::acquisition::belonging::Slots;
use crate::identity::tenure::{Activation, Tenure};

/// Counts recordings and states a fixed clock.
struct Still(u8);

impl Surroundings for Still {
    fn clock(&self) -> wire::Clock {
        wire::Clock { boot_id: vec![1; 16], offset_us: 5, ..wire::Clock::default() }
    }
    fn civil(&self, _: Moment) -> Option<DateTime> {
        None
    }
    fn recording_id(&mut self) -> RecordingId {
        self.0 += 1;
        RecordingId([self.0; 8])
    }
    fn origin(&self, octets: &[u8]) -> Origin {
        let mut origin = [0; 8];
        for (at, octet) in octets.iter().enumerate() {
            origin[at % 8] ^= octet.rotate_left(u32::try_from(at % 7).unwrap());
        }
        Origin(origin)
    }
    fn digest(&self, octets: &[u8]) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        digest
    }
}

fn recorder(streams: BTreeMap<Kind, StreamMark>) -> Recorder<Still> {
    recorder_after(Marks { streams, ..Marks::default() })
}

fn recorder_after(marks: Marks) -> Recorder<Still> {
    let conversation = Conversation {
        device: wire::Device { identity: "ecg-1".into(), ..wire::Device::default() },
        driver: wire::Driver { name: "ecg-ads1298".into(), version: "1".into() },
        source: wire::Source::Serial,
        file: None,
    };
    let judge = Judge::new(Tenure::default(), DeviceMemory::default(), Slots::default(), true, false);
    Recorder::new(conversation, Still(0), marks, None, MissedReason::AgentDown, judge)
}

fn head(leads: u32, rate: u32) -> RecordingHead {
    let channel = |code| Channel { code: Mdc(131_329 + code), scale: Decimal::new(1, 0), unit: "uV", filter: String::new() };
    RecordingHead::live(Kind::Ecg, (0..leads).map(channel).collect(), Rate { samples: rate, seconds: 1 })
}

fn at(second: u64) -> Moment {
    Moment::from_nanos(second * 1_000_000_000)
}

/// `count` frames whose samples are noise of `bits` bits.
fn block(first: u64, count: usize, leads: usize, bits: u32) -> Block {
    let mut state = 0x9e37_79b9_u32 ^ u32::try_from(first).unwrap();
    let noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as i32) >> (32 - bits)
    };
    Block {
        first,
        device_counter: Some(first + 1_000),
        received: Moment::from_nanos(first * 2_000_000),
        samples: std::iter::repeat_with(noise).take(count * leads).collect(),
        lead_off: 0,
        saturated: 0,
        artifact: false,
    }
}

/// Everything filed but what the device did.
fn filings(recorder: &mut Recorder<Still>) -> Vec<Filing> {
    let event = |filing: &Filing| matches!(filing.draft.content, Content::DeviceEvent(_));
    std::iter::from_fn(|| recorder.poll_filing()).filter(|filing| !event(filing)).collect()
}

/// The marks that are on the disk once everything filed is.
fn marks(filed: &[Filing], before: &Marks) -> Marks {
    let mut marks = before.clone();
    for mark in filed.iter().flat_map(|filing| &filing.draft.marks) {
        let value = StreamMark::decode(mark.value.as_slice()).unwrap();
        if mark.key == opened_key("ecg-1") {
            marks.opened = Some(value);
        } else {
            assert_eq!(mark.key, mark_key("ecg-1", Kind::Ecg));
            marks.streams.insert(Kind::Ecg, value);
        }
    }
    marks
}

fn conversation(number: u8, marks: &Marks) -> Recorder<Still> {
    let mut recorder = recorder_after(marks.clone());
    recorder.id = RecordingId([number; 8]);
    recorder
}

fn everything(recorder: &mut Recorder<Still>) -> Vec<Filing> {
    std::iter::from_fn(|| recorder.poll_filing()).collect()
}

fn missed(filed: &[Filing]) -> Vec<(u64, u64)> {
    let span = |filing: &Filing| match &filing.draft.content {
        Content::Missed(missed) => Some((missed.from_boottime_ns / 1_000_000, missed.to_boottime_ns / 1_000_000)),
        _ => None,
    };
    filed.iter().filter_map(span).collect()
}

fn segment(filing: &Filing) -> &wire::Segment {
    match &filing.draft.content {
        Content::Segment(segment) => segment,
        other => panic!("not a segment: {other:?}"),
    }
}

fn samples_of(filings: &[Filing]) -> Vec<i32> {
    filings
        .iter()
        .filter(|filing| matches!(filing.draft.content, Content::Segment(_)))
        .flat_map(|f| flac::decode(&segment(f).flac).unwrap())
        .collect()
}

#[test]
fn i1_every_sample_is_in_exactly_one_segment_and_every_output_answered_once() {
    for bits in [6, 14, 22] {
        let mut recorder = recorder(BTreeMap::new());
        let mut expected = Vec::new();
        recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(8, 500) })));
        for n in 0..30_u32 {
            let block = block(u64::from(n) * 333, 333, 8, bits);
            expected.extend_from_slice(&block.samples);
            recorder.take(at(0), Ok((Token(n + 1), Output::Samples { recording: 1, block })));
        }
        recorder.take(at(30), Ok((Token(99), Output::End { recording: 1 })));
        let filed = filings(&mut recorder);
        assert_eq!(samples_of(&filed), expected, "{bits} bits");
        let mut answered: Vec<u32> = filed
            .iter()
            .flat_map(|f| &f.answers)
            .map(|answer| match answer {
                Answer::Stored(token) => token.0,
                Answer::Refused(token) => panic!("refused {token:?}"),
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..=30).chain([99]).collect::<Vec<_>>());
        let mut next = 0;
        for (index, filing) in filed.iter().enumerate() {
            let segment = segment(filing);
            assert_eq!((segment.index, segment.first_sample), (u32::try_from(index).unwrap(), next));
            assert_eq!(segment.device_counter, Some(next + 1_000));
            assert!(segment.samples >= 16 && segment.samples <= 2_016);
            assert!(filing.draft.marks.len() == 1 && segment.encoded_len() + 100 < SEGMENT_SEALED_OCTETS_MAX);
            next += u64::from(segment.samples);
        }
        assert!(segment(filed.last().unwrap()).last);
    }
}

#[test]
fn i1_what_a_silent_stream_left_pending_does_not_wait_for_more() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    assert_eq!(recorder.poll_timeout(), None);
    recorder.take(at(1), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 500, 1, 14) })));
    let due = recorder.poll_timeout().unwrap();
    assert_eq!(due.as_nanos(), 5_998_000_000);
    recorder.handle_timeout(at(5));
    assert!(filings(&mut recorder).is_empty());
    recorder.handle_timeout(due);
    let filed = filings(&mut recorder);
    assert_eq!((filed.len(), segment(&filed[0]).samples, segment(&filed[0]).last), (1, 500, false));
    assert_eq!((filed[0].answers.len(), recorder.poll_timeout()), (2, None));
    recorder.take(at(9), Ok((Token(2), Output::End { recording: 1 })));
    assert!(segment(&filings(&mut recorder)[0]).last);
}

#[test]
fn a_block_is_answered_only_with_the_segment_that_holds_its_last_sample() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    recorder.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 1_500, 1, 8) })));
    assert!(filings(&mut recorder).is_empty(), "3 s of 4");
    recorder.take(at(3), Ok((Token(2), Output::Samples { recording: 1, block: block(1_500, 1_000, 1, 8) })));
    let filed = filings(&mut recorder);
    assert_eq!(filed.len(), 1);
    assert_eq!(filed[0].answers, [Answer::Stored(Token(0)), Answer::Stored(Token(1))]);
    assert_eq!(segment(&filed[0]).samples, 2_000);
}

#[test]
fn i3_a_hole_ends_the_segment_and_is_declared_missed() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    recorder.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 500, 1, 8) })));
    recorder.take(at(1), Err(DriverError::SamplesLost { recording: 1, first: 1_500, count: 40 }));
    recorder.take(at(1), Ok((Token(2), Output::Samples { recording: 1, block: block(540, 500, 1, 8) })));
    recorder.link_down();
    recorder.finish();
    let filed = filings(&mut recorder);
    assert_eq!(segment(&filed[0]).samples, 500);
    let Content::Missed(missed) = &filed[1].draft.content else { panic!("no Missed") };
    assert_eq!((missed.first, missed.last), (Some(1_500), Some(1_539)));
    assert_eq!((missed.from_boottime_ns, missed.to_boottime_ns), (499 * 2_000_000, 540 * 2_000_000));
    assert_eq!(segment(&filed[2]).first_sample, 540);
}

#[test]
fn samples_lost_at_a_recordings_end_are_missed_up_to_the_next_one() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    recorder.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 500, 1, 8) })));
    recorder.take(at(1), Err(DriverError::SamplesLost { recording: 1, first: 1_500, count: 0 }));
    recorder.take(at(1), Ok((Token(2), Output::End { recording: 1 })));
    let filed = filings(&mut recorder);
    let mark = StreamMark::decode(filed[0].draft.marks[0].value.as_slice()).unwrap();
    assert!(segment(&filed[0]).last && !mark.ended, "the recording ends, the stream does not");

    let next = Block { device_counter: Some(7), received: at(5), ..block(0, 500, 1, 8) };
    recorder.take(at(5), Ok((Token(3), Output::Begin { recording: 2, head: head(1, 500) })));
    recorder.take(at(5), Ok((Token(4), Output::Samples { recording: 2, block: next })));
    let filed = filings(&mut recorder);
    let Content::Missed(missed) = &filed[0].draft.content else { panic!("no Missed") };
    assert_eq!((missed.from_boottime_ns, missed.to_boottime_ns), (499 * 2_000_000, at(5).as_nanos()));
    assert_eq!((missed.first, missed.last, missed.reason()), (None, None, MissedReason::Corrupt));
}

#[test]
fn i3_after_a_restart_the_first_frame_closes_the_span_from_the_last_durable_one() {
    let mut first = recorder(BTreeMap::new());
    first.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    first.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 2_500, 1, 8) })));
    let filed = filings(&mut first);
    let mark = StreamMark::decode(filed[0].draft.marks[0].value.as_slice()).unwrap();
    assert_eq!((mark.counter, mark.ended), (Some(2_999), false));

    let mut second = recorder(BTreeMap::from([(Kind::Ecg, mark)]));
    second.take(at(9), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    second.take(at(9), Ok((Token(1), Output::Samples { recording: 1, block: block(4_000, 500, 1, 8) })));
    let filed = filings(&mut second);
    let Content::Missed(missed) = &filed[0].draft.content else { panic!("no Missed") };
    assert_eq!((missed.first, missed.last), (Some(3_000), Some(4_999)));
    assert_eq!(missed.from_boottime_ns, 1_999 * 2_000_000);
    assert_eq!(missed.reason, i32::from(MissedReason::AgentDown));
    assert!(filed[0].draft.from_clock.is_some());
}

#[test]
fn a_recording_that_the_device_ended_leaves_no_hole_behind() {
    let mut first = recorder(BTreeMap::new());
    first.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    first.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 100, 1, 8) })));
    first.take(at(1), Ok((Token(2), Output::End { recording: 1 })));
    let filed = filings(&mut first);
    let mark = StreamMark::decode(filed[0].draft.marks[0].value.as_slice()).unwrap();
    assert!(mark.ended && segment(&filed[0]).last);

    let mut second = recorder(BTreeMap::from([(Kind::Ecg, mark)]));
    second.take(at(9), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    second.take(at(9), Ok((Token(1), Output::Samples { recording: 1, block: block(4_000, 2_500, 1, 8) })));
    assert!(filings(&mut second).iter().all(|filing| matches!(filing.draft.content, Content::Segment(_))));
}

#[test]
fn i3_what_was_heard_and_not_stored_before_a_kill_is_missed_from_the_moment_it_was_first_heard() {
    let mut killed = recorder(BTreeMap::new());
    killed.heard(at(3));
    killed.heard(at(4));
    let filed = everything(&mut killed);
    assert_eq!(filed.len(), 1, "only that it began");
    let marks = marks(&filed, &Marks::default());

    let mut second = recorder_after(marks);
    second.take(at(9), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    second.take(at(9), Ok((Token(1), Output::Samples { recording: 1, block: block(4_000, 500, 1, 8) })));
    let filed = filings(&mut second);
    assert_eq!(missed(&filed), [(3_000, 8_000)]);
    let Content::Missed(missed) = &filed[0].draft.content else { panic!("no Missed") };
    assert_eq!((missed.first, missed.last), (None, None));
}

#[test]
fn i3_killed_twice_before_anything_is_durable_the_first_time_it_was_heard_still_counts() {
    let mut known = Marks::default();
    for number in 1..=2_u8 {
        let mut killed = conversation(number, &known);
        killed.heard(at(3 * u64::from(number)));
        known = marks(&everything(&mut killed), &known);
    }
    let mut third = conversation(3, &known);
    third.heard(at(9));
    third.take(at(9), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    known = marks(&everything(&mut third), &known);
    third.take(at(9), Ok((Token(1), Output::Samples { recording: 1, block: block(4_500, 500, 1, 8) })));
    assert_eq!(missed(&everything(&mut third)), [(3_000, 9_000)]);

    // Killed once more, before its first segment.
    let mut fourth = conversation(4, &known);
    fourth.heard(at(20));
    assert_eq!(marks(&everything(&mut fourth), &known).opened.unwrap().boottime_ns, at(20).as_nanos(), "the stream owes now");
    fourth.take(at(20), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    fourth.take(at(20), Ok((Token(1), Output::Samples { recording: 1, block: block(10_000, 500, 1, 8) })));
    assert_eq!(missed(&everything(&mut fourth)), [(3_000, 20_000)]);
}

#[test]
fn i3_a_recording_begun_after_the_device_ended_one_is_missed_from_there() {
    let mut killed = conversation(1, &Marks::default());
    killed.heard(at(0));
    killed.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    killed.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 500, 1, 8) })));
    killed.take(at(1), Ok((Token(2), Output::End { recording: 1 })));
    let ended = marks(&everything(&mut killed), &Marks::default());
    assert_eq!(ended.before(Kind::Ecg), None, "the device itself ended it");

    killed.take(at(1), Ok((Token(3), Output::Begin { recording: 2, head: head(1, 500) })));
    let known = marks(&everything(&mut killed), &ended);
    killed.take(at(1), Ok((Token(4), Output::Samples { recording: 2, block: block(500, 500, 1, 8) })));
    assert!(everything(&mut killed).is_empty(), "1 s of 4: killed before its first segment");

    let mut second = conversation(2, &known);
    second.take(at(9), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    second.take(at(9), Ok((Token(1), Output::Samples { recording: 1, block: block(4_500, 500, 1, 8) })));
    assert_eq!(missed(&everything(&mut second)), [(998, 9_000)]);
}

#[test]
fn i3_a_clock_that_began_in_1970_again_hides_no_span() {
    let mark = |offset_us, second: u64, conversation: u8, ended| StreamMark {
        clock: Some(wire::Clock { offset_us, ..wire::Clock::default() }),
        boottime_ns: at(second).as_nanos(),
        conversation: vec![conversation],
        ended,
        ..StreamMark::default()
    };
    let ended_in_2026 = mark(1_790_000_000_000_000, 50, 1, true);
    let opened_in_1970 = mark(0, 7, 2, false);
    let streams = BTreeMap::from([(Kind::Ecg, ended_in_2026)]);
    let marks = Marks { streams, opened: Some(opened_in_1970.clone()), ..Marks::default() };
    assert_eq!(marks.before(Kind::Ecg), Some(&opened_in_1970));
}

#[test]
fn samples_lost_twice_before_the_next_block_are_one_hole() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    recorder.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 500, 1, 8) })));
    for (first, count) in [(1_500, 40), (1_540, 60)] {
        recorder.take(at(1), Err(DriverError::SamplesLost { recording: 1, first, count }));
    }
    recorder.take(at(1), Ok((Token(2), Output::Samples { recording: 1, block: block(600, 500, 1, 8) })));
    recorder.finish();
    let filed = filings(&mut recorder);
    let Content::Missed(missed) = &filed[1].draft.content else { panic!("no Missed") };
    assert_eq!((missed.first, missed.last), (Some(1_500), Some(1_599)));
}

#[test]
fn i6_samples_that_no_stream_can_hold_are_refused_and_missed_and_the_others_stored() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    for n in 0..6_u32 {
        let mut block = block(u64::from(n) * 500, 500, 1, 8);
        block.samples[100] = if n == 2 { i32::MAX } else { 0 };
        recorder.take(at(0), Ok((Token(n + 1), Output::Samples { recording: 1, block })));
    }
    recorder.take(at(6), Ok((Token(7), Output::End { recording: 1 })));
    let filed = filings(&mut recorder);
    let (mut stored, mut lost, mut answered) = (0, 0, Vec::new());
    for filing in &filed {
        match &filing.draft.content {
            Content::Segment(segment) => stored += u64::from(segment.samples),
            Content::Missed(missed) => lost += missed.last.unwrap() - missed.first.unwrap() + 1,
            Content::Refusal(_) => {}
            other => panic!("{other:?}"),
        }
        answered.extend(filing.answers.iter().map(|answer| match answer {
            Answer::Stored(token) | Answer::Refused(token) => token.0,
        }));
    }
    assert_eq!(stored + lost, 3_000);
    assert!((1..=32).contains(&lost), "{lost} samples were given up for one");
    answered.sort_unstable();
    assert_eq!(answered, (0..=7).collect::<Vec<_>>());
    assert!(segment(filed.last().unwrap()).last);
}

#[test]
fn one_late_read_does_not_shift_the_signal_behind_it() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    for n in 0..12_u64 {
        let late = [2_000_000_000, 1_000_000_000].get(usize::try_from(n).unwrap()).copied().unwrap_or(0);
        let on_time = block(n * 500, 500, 1, 8);
        let block = Block { received: Moment::from_nanos(on_time.received.as_nanos() + late), ..on_time };
        recorder.take(at(n), Ok((Token(1), Output::Samples { recording: 1, block })));
    }
    for filing in filings(&mut recorder) {
        let segment = segment(&filing);
        assert_eq!(segment.first_boottime_ns, segment.first_sample * 2_000_000);
    }
}

#[test]
fn lead_off_is_told_by_lead_and_span() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(2, 500) })));
    for (n, lead_off) in [0, 2, 2, 0].into_iter().enumerate() {
        let first = n * 100;
        let block = Block { lead_off, ..block(u64::try_from(first).unwrap(), 100, 2, 8) };
        recorder.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block })));
    }
    recorder.take(at(1), Ok((Token(2), Output::End { recording: 1 })));
    let filed = filings(&mut recorder);
    let expected = wire::SampleFlag { flag: wire::sample_flag::Flag::LeadOff.into(), channel: 1, first: 100, count: 200 };
    assert_eq!(segment(&filed[0]).flags, [expected]);
}

fn measured(record: Option<u64>) -> Measured {
    let value = Value { code: Mdc(150_456), quantity: Quantity::Number(Decimal::new(970, -1)), unit: "%" };
    Measured {
        values: vec![value],
        device_time: record.map(|_| DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 0, second: 0 }),
        record,
        status: vec!["fully-qualified-data"],
        memory: Memory::Stored,
        octets: vec![1, 2, 3],
        ..Measured::new(Kind::PulseOximetry, at(4))
    }
}

#[test]
fn i2a_a_measurement_sent_twice_has_one_origin_and_the_highest_number_is_kept() {
    let mut recorder = recorder(BTreeMap::new());
    for (second, number) in [(4, Some(7)), (5, Some(7)), (6, Some(6)), (7, None), (8, None)] {
        let measured = Measured { received: at(second), ..measured(number) };
        recorder.take(at(second), Ok((Token(1), Output::Measured(measured))));
    }
    let filed = filings(&mut recorder);
    assert_eq!(filed[0].draft.origin, filed[1].draft.origin);
    assert_ne!(filed[0].draft.origin, filed[2].draft.origin);
    assert!(
        filed[3].draft.origin.is_some() && filed[3].draft.origin != filed[4].draft.origin,
        "received twice: two measurements"
    );
    assert_eq!(filed[0].draft.marks, [Mark { key: "ecg-1/last-record".into(), value: 7_u64.to_be_bytes().to_vec() }]);
    assert!(filed[1].draft.marks.is_empty() && filed[2].draft.marks.is_empty());
}

#[test]
fn i8_a_reading_is_filed_whatever_gateway_and_device_say_of_the_time() {
    // The gateway's clock stands at 1970 all the while.
    let mut recorder = recorder(BTreeMap::new());
    for (number, year) in (1..).zip([0, 1582, 1970, 2026, 2099, 9999]) {
        let measured = measured(Some(number));
        let device_time = measured.device_time.map(|time| DateTime { year, ..time });
        recorder.take(at(4), Ok((Token(1), Output::Measured(Measured { device_time, ..measured }))));
        let filed = filings(&mut recorder);
        let Content::Reading(reading) = &filed[0].draft.content else { panic!("{year}: {filed:?}") };
        assert_eq!(reading.device_time.map(|time| time.year), Some(u32::from(year)), "as the device sent it");
        assert_eq!(filed[0].draft.clock, Still(0).clock());
        assert_eq!(filed[0].answers, [Answer::Stored(Token(1))]);
    }
}

#[test]
fn i6_what_cannot_be_decoded_is_a_durable_refusal() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(4), Err(DriverError::Undecodable { what: "plx", reason: "truncated".into(), octets: vec![9; 20_000] }));
    let filed = filings(&mut recorder);
    let Content::Refusal(refusal) = &filed[0].draft.content else { panic!("no refusal") };
    assert_eq!((refusal.reason.as_str(), refusal.octets.len()), ("undecodable", REFUSED_OCTETS_MAX));
    assert_eq!(filed[0].draft.lane, Lane::Journal);
}

#[test]
fn i6_the_implausible_and_the_absent_are_refusals_and_the_rest_of_a_reading_stands() {
    let mut recorder = recorder(BTreeMap::new());
    let spo2 = |mantissa| Value { code: Mdc(150_456), quantity: Quantity::Number(Decimal::new(mantissa, 0)), unit: "%" };
    let pulse = |mantissa| Value { code: Mdc(149_530), quantity: Quantity::Number(Decimal::new(mantissa, 0)), unit: "/min" };
    for (n, values) in [vec![spo2(101), pulse(60)], vec![spo2(0), pulse(0)], vec![spo2(97), pulse(0)]].into_iter().enumerate() {
        let measured = Measured { values, ..measured(Some(n as u64)) };
        recorder.take(at(4), Ok((Token(u32::try_from(n).unwrap()), Output::Measured(measured))));
    }
    let filed = filings(&mut recorder);
    let reason = |filing: &Filing| match &filing.draft.content {
        Content::Refusal(refusal) => refusal.reason.clone(),
        Content::Reading(reading) => format!("reading of {}", reading.values.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(filed.iter().map(reason).collect::<Vec<_>>(), ["implausible", "absent", "reading of 2"]);
    assert_eq!(filed[0].answers, [Answer::Refused(Token(0))]);
    assert_eq!(filed[2].answers, [Answer::Stored(Token(2))]);
    let marks: Vec<_> = filed.iter().flat_map(|filing| &filing.draft.marks).map(|mark| mark.value.clone()).collect();
    assert_eq!(marks, [0_u64, 1, 2].map(|number| number.to_be_bytes().to_vec()), "what is refused is not asked for again");
}

#[test]
fn i2_a_record_that_came_before_ones_with_lower_numbers_does_not_keep_them_from_being_asked_for() {
    let mut recorder = recorder(BTreeMap::new());
    for (number, in_order) in [(9, false), (8, false), (3, true), (12, false), (4, true)] {
        let measured = Measured { in_order, ..measured(Some(number)) };
        recorder.take(at(4), Ok((Token(1), Output::Measured(measured))));
    }
    let filed = filings(&mut recorder);
    let marks: Vec<_> = filed.iter().flat_map(|filing| &filing.draft.marks).map(|mark| mark.value.clone()).collect();
    assert_eq!((filed.len(), marks), (5, [3_u64, 4].map(|number| number.to_be_bytes().to_vec()).to_vec()));
}

#[test]
fn an_end_after_the_link_went_down_is_answered_once() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    recorder.link_down();
    recorder.finish();
    recorder.take(at(1), Ok((Token(1), Output::End { recording: 1 })));
    assert_eq!(filings(&mut recorder).len(), 1, "the begin is answered with an empty last segment");
    assert_eq!(recorder.poll_answer(), Some(Answer::Stored(Token(1))));
    assert_eq!(recorder.poll_answer(), None);
}

#[test]
fn what_a_session_remembers_goes_with_the_next_record_and_each_is_answered_once() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(1), Output::Remember(vec![1]))));
    recorder.take(at(0), Ok((Token(2), Output::Remember(vec![2]))));
    assert!(recorder.poll_filing().is_none(), "no commit of its own");
    recorder.take(at(4), Ok((Token(3), Output::Measured(measured(None)))));
    let filing = recorder.poll_filing().unwrap();
    let kept = filing.draft.marks.iter().find(|mark| mark.key == remembered_key("ecg-1")).unwrap();
    let expected = Remembered { boot_id: vec![1; 16], octets: vec![2] };
    assert_eq!(Remembered::decode(kept.value.as_slice()).unwrap(), expected);
    assert_eq!(filing.answers, [Answer::Stored(Token(3)), Answer::Stored(Token(2))]);
    recorder.take(at(5), Ok((Token(4), Output::Remember(vec![3]))));
    recorder.finish();
    let due: Vec<_> = std::iter::from_fn(|| recorder.poll_answer()).collect();
    assert_eq!(due, [Answer::Refused(Token(4)), Answer::Refused(Token(1))]);
}

/// A meter's record, numbered and without a time.
fn record(number: u64) -> Measured {
    Measured { device_time: None, record: Some(number), octets: vec![1, u8::try_from(number).unwrap()], ..measured(Some(number)) }
}

/// A conversation with a meter under the second assignment, after what is known of its memory.
fn meter(memory: DeviceMemory) -> Recorder<Still> {
    let active = Activation { assignment: "A-2".into(), clock: Some(Still(0).clock()), boottime_ns: 0 };
    let tenure = Tenure { active: Some(active), ended: 1 };
    Recorder { judge: Judge::new(tenure, memory, Slots::default(), true, false), ..recorder(BTreeMap::new()) }
}

/// What came of a conversation: numbers stored, answers, and what the journal says.
fn outcome(recorder: &mut Recorder<Still>) -> (Vec<u64>, Vec<Answer>, Vec<(String, u64)>) {
    recorder.finish();
    let (mut stored, mut answers, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for filing in std::iter::from_fn(|| recorder.poll_filing()) {
        match &filing.draft.content {
            Content::Reading(reading) => stored.extend(reading.record),
            Content::DeviceEvent(event) => events.push((event.what.clone(), event.count)),
            other => panic!("{other:?}"),
        }
        answers.extend(filing.answers);
    }
    answers.extend(std::iter::from_fn(|| recorder.poll_answer()));
    (stored, answers, events)
}

fn say(recorder: &mut Recorder<Still>, highest: u64, records: impl Iterator<Item = u64>) {
    recorder.take(at(5), Ok((Token(9_999), Output::Memory { highest: Some(highest) })));
    for number in records {
        recorder.take(at(6), Ok((Token(u32::try_from(number).unwrap()), Output::Measured(record(number)))));
    }
}

#[test]
fn i4_a_meter_with_50_records_of_a_previous_patient_gives_none_and_the_first_new_one_counts_also_after_it_was_cleared() {
    let mut first = meter(DeviceMemory { highest: Some(30), floor: Some(0), ended: 0, ..Default::default() });
    say(&mut first, 50, 1..=50);
    let (stored, answers, events) = outcome(&mut first);
    assert!(stored.is_empty());
    let refused = |answers: &[Answer]| answers.iter().filter(|answer| matches!(answer, Answer::Refused(_))).count();
    assert_eq!((answers.len(), refused(&answers)), (51, 50));
    assert_eq!(events, [(NOT_THE_PATIENT.to_owned(), 50)], "one event, without values");

    // The agent starts again: what it knows comes from the file.
    let mut second = meter(first.poll_memory(true).unwrap());
    say(&mut second, 51, 1..=51);
    let (stored, _, events) = outcome(&mut second);
    assert_eq!((stored, events), (vec![51], Vec::new()), "the fifty were counted");

    let mut third = meter(second.poll_memory(true).unwrap());
    third.last_record = Some(51);
    third.take(at(5), Ok((Token(1), Output::Memory { highest: Some(1) })));
    let again = Measured { octets: vec![7, 7], ..record(1) };
    third.take(at(6), Ok((Token(2), Output::Measured(again))));
    let filing = third.poll_filing().unwrap();
    assert!(matches!(&filing.draft.content, Content::Reading(reading) if reading.record == Some(1)));
    assert_eq!(filing.draft.marks[0].value, 1_u64.to_be_bytes(), "what is durable begins again too");
}

#[test]
fn i4_what_may_be_anothers_waits_for_a_clock_and_is_refused_where_none_comes() {
    let time = |minute| DateTime { year: 2026, month: 11, day: 21, hour: 8, minute, second: 0 };
    let dated = |minute, received| Measured {
        device_time: Some(time(minute)),
        received: at(received),
        octets: vec![minute],
        memory: Memory::Stored,
        ..measured(None)
    };
    let mut asked = meter(DeviceMemory::default());
    asked.take(at(3_600), Ok((Token(1), Output::Measured(dated(50, 3_600)))));
    assert!(asked.poll_filing().is_none() && asked.poll_answer().is_none(), "nobody knows");
    assert_eq!(asked.poll_timeout(), Some(at(3_610)));
    asked.take(at(3_601), Ok((Token(2), Output::DeviceClock { device: time(59), at: at(3_601) })));
    let filing = asked.poll_filing().unwrap();
    let Content::Reading(reading) = &filing.draft.content else { panic!("{filing:?}") };
    assert_eq!(filing.answers, [Answer::Stored(Token(1))]);
    assert!(reading.device_offset_ms.is_some() && asked.poll_timeout().is_none());

    let mut in_vain = meter(DeviceMemory::default());
    in_vain.take(at(3_600), Ok((Token(1), Output::Measured(dated(50, 3_600)))));
    in_vain.handle_timeout(at(3_609));
    assert_eq!(in_vain.poll_answer(), None);
    in_vain.handle_timeout(at(3_610));
    assert_eq!(in_vain.poll_answer(), Some(Answer::Refused(Token(1))));
    assert_eq!(outcome(&mut in_vain).2, [(NOT_THE_PATIENT.to_owned(), 1)]);
}

#[test]
fn i4_no_more_than_32_measurements_wait_for_a_clock() {
    let mut recorder = meter(DeviceMemory::default());
    for number in 0..40_u8 {
        let dated = Measured { octets: vec![number], record: None, ..measured(Some(1)) };
        recorder.take(at(4), Ok((Token(number.into()), Output::Measured(dated))));
    }
    assert_eq!(std::iter::from_fn(|| recorder.poll_answer()).count(), 8);
    recorder.finish();
    assert_eq!(std::iter::from_fn(|| recorder.poll_answer()).count(), 32);
}

#[test]
fn i4_a_recording_of_another_patient_is_refused_whole_and_counted_once() {
    let mut recorder = meter(DeviceMemory::default());
    recorder.take(at(5), Ok((Token(1), Output::DeviceClock { device: measured(Some(1)).device_time.unwrap(), at: at(5) })));
    let before = DateTime { year: 2025, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
    let head = RecordingHead { memory: Memory::Stored, device_time: Some(before), ..head(1, 500) };
    recorder.take(at(6), Ok((Token(2), Output::Begin { recording: 1, head })));
    recorder.take(at(6), Ok((Token(3), Output::Samples { recording: 1, block: block(0, 500, 1, 8) })));
    let of_it = Measured { recording: Some(1), memory: Memory::Live, ..measured(None) };
    recorder.take(at(6), Ok((Token(4), Output::End { recording: 1 })));
    recorder.take(at(6), Ok((Token(5), Output::Measured(of_it))));
    let (stored, answers, events) = outcome(&mut recorder);
    assert!(stored.is_empty());
    let refused = [2, 3, 4, 5].map(|token| Answer::Refused(Token(token)));
    assert!(refused.iter().all(|answer| answers.contains(answer)) && answers.len() == 5, "{answers:?}");
    assert_eq!(events, [(NOT_THE_PATIENT.to_owned(), 2)]);
}

#[test]
fn i2a_a_recording_out_of_a_memory_is_the_same_one_when_it_is_sent_again() {
    let time = DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 0, second: 0 };
    let sent = |recorder: &mut Recorder<Still>, device_time| {
        let head = RecordingHead { memory: Memory::Stored, continuous: false, device_time, ..head(1, 500) };
        recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head })));
        recorder.take(at(0), Ok((Token(1), Output::Samples { recording: 1, block: block(0, 5_000, 1, 8) })));
        recorder.take(at(0), Ok((Token(2), Output::End { recording: 1 })));
        let filed = filings(recorder);
        assert!(filed.iter().all(|filing| filing.draft.marks.is_empty()), "a memory is no stream");
        filed.iter().map(|filing| filing.draft.origin.unwrap()).collect::<Vec<_>>()
    };
    let mut recorder = recorder(BTreeMap::new());
    let first = sent(&mut recorder, Some(time));
    assert_eq!(first.len(), 3);
    assert_eq!(first, sent(&mut recorder, Some(time)));
    assert_ne!(first, sent(&mut recorder, None), "what nothing names is never merged");
}

#[test]
fn i3_holes_of_a_noisy_line_are_one_record_for_each_4_s_and_come_before_the_segments_between_them() {
    let mut recorder = recorder(BTreeMap::new());
    recorder.take(at(0), Ok((Token(0), Output::Begin { recording: 1, head: head(1, 500) })));
    // 20 s, of which every 50th frame is lost.
    let mut tokens = 1;
    for first in (0..10_000_u64).step_by(50) {
        if first > 0 {
            recorder.take(at(0), Err(DriverError::SamplesLost { recording: 1, first: first + 1_000 - 1, count: 1 }));
        }
        recorder.take(at(0), Ok((Token(tokens), Output::Samples { recording: 1, block: block(first, 49, 1, 8) })));
        tokens += 1;
    }
    recorder.take(at(20), Ok((Token(tokens), Output::End { recording: 1 })));
    let filed = filings(&mut recorder);
    let (mut stored, mut declared, mut records, mut owed_from) = (0, 0, 0, 0);
    for filing in &filed {
        match &filing.draft.content {
            Content::Segment(segment) => {
                let first = segment.first_sample;
                assert!(first <= owed_from, "a segment from {first} before the hole at {owed_from} is declared");
                stored += u64::from(segment.samples);
            }
            Content::Missed(missed) => {
                records += 1;
                declared += missed.count.unwrap_or_else(|| missed.last.unwrap() - missed.first.unwrap() + 1);
                assert!(missed.to_boottime_ns - missed.from_boottime_ns <= 4_200_000_000);
                owed_from = missed.last.unwrap() + 1 - 1_000;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((stored, declared), (200 * 49, 199));
    assert!((5..=7).contains(&records), "{records} records for 20 s");
    let answered: BTreeSet<u32> =
        filed.iter().flat_map(|filing| &filing.answers).map(|answer| answer.refused()).map(token).collect();
    assert_eq!(answered, (0..=tokens).collect());
}

fn token(answer: Answer) -> u32 {
    match answer {
        Answer::Stored(token) | Answer::Refused(token) => token.0,
    }
}
