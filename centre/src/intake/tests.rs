use std::collections::{BTreeMap, BTreeSet};

use kit_protocol::uplink::id::{EpochId, Lane, Nonce, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, GapReason, PauseReason, RejectReason, SignedType, record::Content};
use proptest::prelude::*;
use prost::Message as _;
use rcgen::{DnType, KeyPair};

use super::*;
use crate::fixture::{NOW, TestAuthority, TestCentre, TestKit, definitions, journal, reading, rejects, settled, with_origin};
use crate::signature::SigningKey;

fn gap(kit: &TestKit, lane: Lane, first: u64, last: u64) -> wire::Record {
    journal(Content::Gap(wire::Gap {
        epoch: kit.epoch.0.to_vec(),
        lane: lane.to_wire().into(),
        first,
        last,
        count: last - first + 1,
        reason: GapReason::NeverWritten.into(),
        ..wire::Gap::default()
    }))
}

fn lane_of(answer: &wire::Answer, lane: Lane) -> Settlement {
    let lanes = answer.ack.iter().chain(answer.settled.iter().flat_map(|settled| &settled.lanes));
    let [lane] = lanes.filter(|it| it.lane() == lane.to_wire()).collect::<Vec<_>>().try_into().unwrap();
    Settlement::from_wire(lane)
}

// ---- exactly once ------------------------------------------------------------------------------------------------------

#[test]
fn i2_a_batch_is_stored_and_acknowledged_with_its_run_and_nonce() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let answer = centre.answer(&kit.vitals(1..=20));
    assert_eq!(answer.nonce, kit.nonce.0);
    assert_eq!(settled(&answer), Settlement::upto(20, Some(kit.run)));
    assert_eq!(centre.numbers(), (1..=20).collect::<Vec<_>>());
    let record = &centre.records()[4];
    assert_eq!((record.seq, record.run, &record.record), (5, kit.run, &reading(5)));
    assert_eq!(record.definitions.device(2).unwrap().identity, "SN-1");
    assert_eq!(record.definitions.driver(3).unwrap().name, "oximeter-nonin");
    assert_eq!(record.definitions.clock(1).unwrap().error_ms, 10);
    assert_eq!(record.digest, crate::signature::sha256(&reading(5).encode_to_vec()));
}

#[test]
fn i2_a_batch_that_comes_a_hundred_times_is_stored_once_and_acknowledged_each_time() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let message = kit.vitals(1..=20);
    for _ in 0..100 {
        assert_eq!(settled(&centre.answer(&message)), Settlement::upto(20, Some(kit.run)));
    }
    assert_eq!(centre.numbers(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn i2_an_answer_that_was_lost_with_the_process_is_given_again() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let message = kit.vitals(1..=20);
    drop(centre.take(&message)); // committed, and the process ends before the answer is out
    centre.restart();
    assert_eq!(settled(&centre.answer(&message)), Settlement::upto(20, Some(kit.run)));
    assert_eq!(centre.numbers().len(), 20);
}

#[test]
fn i2_what_is_settled_is_told_after_a_restart_and_nothing_of_unknown_epochs() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals(1..=20));
    centre.take(&kit.vitals(24..=30));
    centre.restart();
    kit.nonce = Nonce([3; 8]);
    let mut body = kit.state_body();
    let unknown = EpochId([8; 16]);
    body.epochs.push(wire::EpochState { epoch: unknown.0.to_vec(), ..wire::EpochState::default() });
    let answer = centre.answer(&kit.sign(SignedType::State, &kit.state_topic(), &body));
    assert_eq!(answer.nonce, [3; 8]);
    let lanes = answer.settled.unwrap().lanes;
    assert_eq!(lanes.len(), 8);
    for lane in &lanes {
        let told = Settlement::from_wire(lane);
        if lane.epoch == kit.epoch.0 && lane.lane() == wire::Lane::Vitals {
            assert_eq!((told.settled_upto(), told.settled_upto_run()), (20, Some(kit.run)));
            assert!(told.contains(24) && told.contains(30) && !told.contains(23) && !told.contains(31));
        } else {
            assert_eq!(told, Settlement::default());
        }
    }
}

#[test]
fn i2_the_same_key_with_other_octets_is_a_conflict_and_changes_nothing() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals(1..=3));
    kit.run = RunId([2; 8]);
    let answer = centre.answer(&kit.batch(Lane::Vitals, &[(3, reading(99)), (4, reading(4))]));
    assert_eq!(rejects(&answer), [(3, RejectReason::Conflict, true)]);
    assert_eq!(answer.reject[0].run, kit.run.0, "the run of the record that was sent");
    assert_eq!(settled(&answer), Settlement::upto(4, Some(kit.run)));
    assert_eq!(centre.records()[2].record, reading(3));
    assert_eq!(centre.faults(), ["conflict"]);
}

#[test]
fn i2_the_acknowledgement_names_the_run_of_each_range() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals([1, 2, 5, 6]));
    kit.run = RunId([2; 8]);
    let told = settled(&centre.answer(&kit.vitals([7, 8, 10])));
    assert_eq!((told.settled_upto(), told.settled_upto_run()), (2, Some(RunId([1; 8]))));
    let ranges: Vec<_> = told.ranges().iter().map(|range| (range.first, range.last, range.run.unwrap().0[0])).collect();
    assert_eq!(ranges, [(5, 6, 1), (7, 8, 2), (10, 10, 2)]);
}

#[test]
fn i2_two_lanes_and_two_epochs_do_not_mix() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals(1..=3));
    let other_lane = centre.answer(&kit.batch(Lane::Urgent, &[(1, reading(50))]));
    assert_eq!(settled(&other_lane).settled_upto(), 1);
    kit.epoch = EpochId([8; 16]);
    let other_epoch = centre.answer(&kit.batch(Lane::Vitals, &[(1, reading(60)), (2, reading(61))]));
    assert_eq!(settled(&other_epoch).settled_upto(), 2);
    assert_eq!(centre.records().len(), 6);
}

#[test]
fn i2_two_kits_with_the_same_epoch_and_numbers_do_not_mix() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let other = centre.authority.kit("centro", "KIT-0002");
    centre.take(&other.state());
    centre.take(&kit.vitals(1..=3));
    let answer = centre.answer(&other.batch(Lane::Vitals, &[(1, reading(77))]));
    assert_eq!((rejects(&answer), settled(&answer).settled_upto()), (vec![], 1));
    assert_eq!(centre.records().len(), 4);
}

#[test]
fn i2a_a_known_origin_is_settled_and_stored_once() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.batch(Lane::Vitals, &[(1, with_origin(reading(1), 7)), (2, with_origin(reading(2), 8))]));
    kit.epoch = EpochId([8; 16]);
    let again = kit.batch(Lane::Vitals, &[(1, with_origin(reading(1), 7)), (2, with_origin(reading(3), 9))]);
    for _ in 0..2 {
        let answer = centre.answer(&again);
        assert_eq!((rejects(&answer), settled(&answer)), (vec![], Settlement::upto(2, Some(kit.run))));
    }
    assert_eq!(centre.records().len(), 3);
    assert_eq!(centre.reader().kits().unwrap()[0].duplicates, 1);
}

#[test]
fn i2a_two_of_one_origin_in_one_batch_are_stored_once() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let twice = kit.batch(
        Lane::Vitals,
        &[(1, with_origin(reading(1), 7)), (2, with_origin(reading(1), 7)), (3, reading(1)), (4, reading(1))],
    );
    assert_eq!(settled(&centre.answer(&twice)).settled_upto(), 4);
    assert_eq!(centre.numbers(), [1, 3, 4], "without an origin nothing is merged");
}

#[test]
fn i2a_another_kits_origin_is_another_measurement() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let other = centre.authority.kit("centro", "KIT-0002");
    centre.take(&other.state());
    centre.take(&kit.batch(Lane::Vitals, &[(1, with_origin(reading(1), 7))]));
    centre.take(&other.batch(Lane::Vitals, &[(1, with_origin(reading(1), 7))]));
    assert_eq!(centre.records().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn i2_any_order_repetition_and_overlap_of_batches_stores_each_key_once(
        batches in proptest::collection::vec((1_u64..40, proptest::collection::btree_set(0_u64..12, 1..8), any::<bool>()), 1..25),
        groups in proptest::collection::vec(1_usize..6, 1..25),
    ) {
        let mut centre = TestCentre::new();
        let kit = centre.kit();
        let mut sent: BTreeMap<Lane, BTreeSet<u64>> = BTreeMap::new();
        let messages: Vec<Message> = batches.iter().map(|(first, offsets, urgent)| {
            let lane = if *urgent { Lane::Urgent } else { Lane::Vitals };
            let numbers: BTreeSet<u64> = offsets.iter().map(|offset| first + offset).collect();
            sent.entry(lane).or_default().extend(&numbers);
            let records: Vec<_> = numbers.into_iter().map(|seq| (seq, reading(i64::try_from(seq).unwrap()))).collect();
            kit.batch(lane, &records)
        }).collect();
        let mut rest = messages.as_slice();
        for size in groups.iter().copied().cycle() {
            let (group, after) = rest.split_at(size.min(rest.len()));
            let answers = centre.intake.take(group, NOW);
            prop_assert_eq!(answers.len(), group.len());
            for answer in answers.iter().flatten() {
                prop_assert!(centre.open(answer).reject.is_empty());
            }
            rest = after;
            if rest.is_empty() { break; }
        }
        let mut stored: Vec<(Lane, u64)> = centre.records().iter().map(|record| (record.lane, record.seq)).collect();
        stored.sort_unstable();
        let expected: Vec<(Lane, u64)> = sent.iter().flat_map(|(lane, numbers)| numbers.iter().map(|seq| (*lane, *seq))).collect();
        prop_assert_eq!(stored, expected);
        centre.restart();
        let answer = centre.answer(&kit.state());
        for (lane, numbers) in &sent {
            let told = lane_of(&answer, *lane);
            for seq in 1..60 {
                prop_assert_eq!(told.contains(seq), numbers.contains(&seq), "{} {}", lane, seq);
            }
        }
    }
}

// ---- gaps --------------------------------------------------------------------------------------------------------------

#[test]
fn i2_a_declared_gap_settles_its_numbers_in_the_answer_to_its_journal_batch() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.vitals([1, 2, 6]));
    let answer = centre.answer(&kit.batch(Lane::Journal, &[(1, gap(&kit, Lane::Vitals, 3, 5))]));
    assert_eq!(lane_of(&answer, Lane::Journal).settled_upto(), 1);
    assert_eq!(lane_of(&answer, Lane::Vitals), Settlement::upto(6, Some(kit.run)));
    let gaps = centre.reader().gaps().unwrap();
    assert_eq!((gaps.len(), gaps[0].first, gaps[0].last, gaps[0].reason), (1, 3, 5, GapReason::NeverWritten.into()));
    centre.take(&kit.batch(Lane::Journal, &[(1, gap(&kit, Lane::Vitals, 3, 5))]));
    assert_eq!(centre.reader().gaps().unwrap().len(), 1);
}

#[test]
fn i2_the_run_of_a_number_that_was_declared_gone_is_not_named() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.vitals([1, 2]));
    let answer = centre.answer(&kit.batch(Lane::Journal, &[(1, gap(&kit, Lane::Vitals, 3, 5))]));
    assert_eq!(lane_of(&answer, Lane::Vitals), Settlement::upto(5, None));
}

#[test]
fn a_record_that_comes_after_its_gap_is_stored() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.batch(Lane::Journal, &[(1, gap(&kit, Lane::Vitals, 1, 3))]));
    let answer = centre.answer(&kit.vitals([2]));
    assert_eq!(settled(&answer).settled_upto(), 3);
    assert_eq!(centre.reader().records(crate::store::Filter { lane: Some(Lane::Vitals), ..Default::default() }).count(), 1);
}

#[test]
fn a_gap_that_cannot_be_settles_nothing_and_is_audited() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let impossible = [gap(&kit, Lane::Vitals, 0, 0), {
        let mut record = gap(&kit, Lane::Vitals, 3, 5);
        if let Some(Content::Gap(gap)) = &mut record.content {
            gap.last = u64::MAX;
        }
        record
    }];
    let records: Vec<_> = (1..).zip(impossible).collect();
    let answer = centre.answer(&kit.batch(Lane::Journal, &records));
    assert_eq!(settled(&answer).settled_upto(), 2, "the journal's own numbers are stored");
    assert!(centre.reader().gaps().unwrap().is_empty());
    assert_eq!(centre.faults(), ["impossible-gap"]);
}

#[test]
fn an_epoch_that_ended_in_order_still_drains_and_a_lost_one_is_all_gaps() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals([1, 2, 5]));
    let ended = kit.epoch;
    kit.epoch = EpochId([8; 16]);
    let closed = |reason: wire::EpochReason| {
        let end = |lane: Lane, last| wire::LaneEnd { lane: lane.to_wire().into(), last };
        let ends = vec![end(Lane::Vitals, Some(7)), end(Lane::Urgent, None)];
        journal(Content::EpochClosed(wire::EpochClosed { epoch: ended.0.to_vec(), ends, reason: reason.into() }))
    };
    centre.take(&kit.batch(Lane::Journal, &[(1, closed(wire::EpochReason::AssignmentEnd))]));
    assert!(centre.reader().gaps().unwrap().is_empty());
    let vitals = |centre: &TestCentre| {
        centre.reader().lanes().unwrap().into_iter().find(|lane| lane.epoch == ended && lane.lane == Lane::Vitals).unwrap()
    };
    assert_eq!(vitals(&centre).awaited, [(3, 4), (6, 7)]);
    let answer = centre.answer(&kit.batch(Lane::Journal, &[(2, closed(wire::EpochReason::Damaged))]));
    assert!(lane_of(&answer, Lane::Vitals).contains(7));
    let gaps: Vec<_> = centre.reader().gaps().unwrap().iter().map(|gap| (gap.first, gap.last, gap.reason)).collect();
    let lost = i32::from(GapReason::LostWithStore);
    assert_eq!(gaps, [(3, 4, lost), (6, 7, lost)]);
    assert!(vitals(&centre).awaited.is_empty());
}

#[test]
fn a_lane_with_more_holes_than_an_answer_names_still_tells_what_just_came() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let scattered: Vec<u64> = (1..200).map(|n| n * 2).collect();
    for numbers in scattered.chunks(20) {
        let told = settled(&centre.answer(&kit.vitals(numbers.iter().copied())));
        assert!(numbers.iter().all(|seq| told.contains(*seq)), "{numbers:?}");
    }
    let all: Vec<u64> = (1..=401).filter(|seq| !scattered.contains(seq)).collect();
    let mut last = Settlement::default();
    for numbers in all.chunks(50) {
        last = settled(&centre.answer(&kit.vitals(numbers.iter().copied())));
    }
    assert_eq!(last, Settlement::upto(401, Some(kit.run)).clone());
}

// ---- who speaks --------------------------------------------------------------------------------------------------------

/// An answer to wait, and nothing else, to the fixture's connection.
fn paused(reason: PauseReason) -> wire::Answer {
    let pause = Some(wire::Pause { reason: reason.into() });
    wire::Answer { nonce: vec![9; 8], pause, ..wire::Answer::default() }
}

/// What must be refused, stored as nothing and audited; a batch's sender is told to wait, and nothing else.
fn refused(centre: &mut TestCentre, message: &Message, fault: &str) {
    let answers = centre.take(message);
    let pause = match fault {
        "unknown-key" => Some(PauseReason::UnknownKey),
        "bad-signature" => Some(PauseReason::BadSignature),
        "lane" => Some(PauseReason::WrongName),
        _ => None,
    };
    let pause = pause.filter(|_| message.topic.contains("/up/"));
    assert_eq!(answers, pause.map(paused).into_iter().collect::<Vec<_>>(), "{fault}");
    assert!(centre.records().is_empty(), "{fault} is not stored");
    assert_eq!(centre.faults(), [fault]);
}

#[test]
fn a_forged_signature_is_audited_and_answered_with_a_pause_without_numbers() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let mut envelope = wire::Signed::decode(kit.vitals([1]).payload).unwrap();
    envelope.signature[10] ^= 1;
    let message = Message { topic: kit.up(Lane::Vitals), payload: envelope.encode_to_vec().into() };
    refused(&mut centre, &message, "bad-signature");
}

#[test]
fn a_body_changed_under_its_signature_is_refused() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let mut envelope = wire::Signed::decode(kit.vitals([1]).payload).unwrap();
    let mut body = wire::Batch::decode(envelope.body.as_slice()).unwrap();
    body.entries[0].record = reading(2).encode_to_vec();
    envelope.body = body.encode_to_vec();
    let message = Message { topic: kit.up(Lane::Vitals), payload: envelope.encode_to_vec().into() };
    refused(&mut centre, &message, "bad-signature");
}

#[test]
fn a_batch_moved_to_another_lanes_topic_is_refused() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let message = Message { topic: kit.up(Lane::Urgent), ..kit.vitals([1]) };
    refused(&mut centre, &message, "bad-signature");
}

#[test]
fn a_batch_whose_body_names_another_lane_is_refused() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let body = kit.body(Lane::Vitals, &[(1, reading(1).encode_to_vec())], definitions(None));
    let message = kit.sign(SignedType::Batch, &kit.up(Lane::Urgent), &body);
    refused(&mut centre, &message, "lane");
}

#[test]
fn a_kit_cannot_speak_on_another_kits_topic() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let mut other = centre.authority.kit("centro", "KIT-0002");
    centre.take(&other.state());
    other.kit = kit.kit.clone();
    refused(&mut centre, &other.vitals([1]), "unknown-key");
    centre.take(&other.state());
    assert_eq!(centre.faults(), ["unknown-key", "subject"]);
}

#[test]
fn a_kit_of_one_tenant_cannot_speak_for_another() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    // The authority would have to err for this certificate to be: the same kit under another tenant.
    let twin = centre.authority.kit("sudest", kit.kit.as_str());
    refused(&mut centre, &twin.state(), "tenant");
    let message = Message { topic: "tm/1/sudest/KIT-0001/up/vitals".into(), ..kit.vitals([1]) };
    assert!(centre.take(&message).is_empty());
    assert_eq!(centre.faults(), ["tenant", "tenant"]);
}

#[test]
fn a_kit_that_never_showed_its_certificate_is_unknown() {
    let mut centre = TestCentre::new();
    let kit = centre.authority.kit("centro", "KIT-0001");
    refused(&mut centre, &kit.vitals([1]), "unknown-key");
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let mut centre = TestCentre::new();
    let kit = TestAuthority::new().kit("centro", "KIT-0001");
    refused(&mut centre, &kit.state(), "certificate");
}

#[test]
fn a_certificate_out_of_its_time_is_refused_but_an_enrolled_key_stays_good() {
    let mut centre = TestCentre::new();
    let kit = centre.authority.kit("centro", "KIT-0001");
    let years_later = WallTime(NOW.0 + 2 * 366 * 86_400 * 1_000_000);
    assert!(centre.intake.take(&[kit.state()], years_later)[0].is_empty());
    assert!(centre.intake.take(&[kit.state()], WallTime(0))[0].is_empty());
    assert_eq!(centre.intake.take(&[kit.state()], NOW)[0].len(), 1);
    assert_eq!(centre.intake.take(&[kit.state()], years_later)[0].len(), 1);
    assert_eq!(centre.intake.take(&[kit.vitals([1])], years_later)[0].len(), 1);
}

#[test]
fn a_state_signed_by_another_key_than_its_certificates_is_refused() {
    let mut centre = TestCentre::new();
    let mut kit = centre.authority.kit("centro", "KIT-0001");
    let thief = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    kit.key = SigningKey::from_pkcs8(thief.serialized_der()).unwrap();
    refused(&mut centre, &kit.state(), "unknown-key");
}

#[test]
fn a_certificate_with_two_names_or_none_is_refused() {
    let mut centre = TestCentre::new();
    let mut kit = centre.authority.kit("centro", "KIT-0001");
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    kit.key = SigningKey::from_pkcs8(pair.serialized_der()).unwrap();
    kit.certificate = centre.authority.certificate(&[(DnType::CommonName, "KIT-0001")], &pair, (2025, 2027));
    refused(&mut centre, &kit.state(), "certificate");
    kit.certificate = vec![0x30, 0x03, 1, 2, 3];
    assert!(centre.take(&kit.state()).is_empty());
}

#[test]
fn a_renewed_key_is_enrolled_beside_the_old_one() {
    let mut centre = TestCentre::new();
    let old = centre.kit();
    let new = centre.authority.kit("centro", "KIT-0001");
    assert_eq!(centre.take(&new.state()).len(), 1);
    centre.restart();
    centre.take(&old.vitals([1]));
    centre.take(&new.vitals([2]));
    assert_eq!(centre.numbers(), [1, 2]);
}

#[test]
fn a_will_of_an_older_connection_changes_nothing_and_is_not_answered() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    let will = |kit: &TestKit| {
        let body = wire::State { offline: true, nonce: kit.nonce.0.to_vec(), ..wire::State::default() };
        kit.sign(SignedType::State, &kit.state_topic(), &body)
    };
    let old_will = will(&kit);
    kit.nonce = Nonce([4; 8]);
    centre.take(&kit.state());
    assert!(centre.take(&old_will).is_empty());
    assert!(centre.reader().kits().unwrap()[0].online);
    centre.take(&will(&kit));
    assert!(!centre.reader().kits().unwrap()[0].online);
}

#[test]
fn no_octets_on_any_topic_are_a_panic() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let sound = kit.vitals([1, 2, 3]).payload;
    let mut messages: Vec<Message> = Vec::new();
    for topic in ["tm/1/centro/KIT-0001/up/vitals", "tm/1/centro/KIT-0001/state", "tm/1/centro/centre/state", "elsewhere", ""] {
        messages.extend((0..sound.len()).step_by(7).map(|end| Message { topic: topic.into(), payload: sound.slice(..end) }));
    }
    messages.extend((0..sound.len() * 8).step_by(5).map(|bit| {
        let mut octets = sound.to_vec();
        octets[bit / 8] ^= 1 << (bit % 8);
        Message { topic: kit.up(Lane::Vitals), payload: octets.into() }
    }));
    messages.push(Message { topic: kit.up(Lane::Vitals), payload: vec![0; ingest::MESSAGE_OCTETS_MAX + 1].into() });
    for group in messages.chunks(64) {
        assert!(centre.intake.take(group, NOW).iter().flatten().all(|answer| centre.open(answer).reject.is_empty()));
    }
    // A flipped bit in a part of the envelope that is not signed and not used may leave the batch whole; a changed record
    // may never get in.
    assert!(centre.records().iter().all(|record| record.record == reading(i64::try_from(record.seq).unwrap())));
}

#[test]
fn a_signed_batch_that_breaks_the_schemas_rules_is_refused() {
    let sound = |kit: &TestKit| {
        kit.body(Lane::Vitals, &[(1, reading(1).encode_to_vec()), (2, reading(2).encode_to_vec())], definitions(None))
    };
    let breaks: [fn(&mut wire::Batch); 8] = [
        |batch| batch.epoch.truncate(15),
        |batch| batch.run.push(0),
        |batch| batch.nonce.clear(),
        |batch| batch.first = 0,
        |batch| batch.first = u64::MAX,
        |batch| batch.entries[0].skipped = 1,
        |batch| batch.definitions[0].number = 0,
        |batch| batch.definitions[0].number = 2,
    ];
    for (index, break_it) in breaks.into_iter().enumerate() {
        let mut centre = TestCentre::new();
        let kit = centre.kit();
        let mut body = sound(&kit);
        break_it(&mut body);
        let message = kit.sign(SignedType::Batch, &kit.up(Lane::Vitals), &body);
        let answers = centre.take(&message);
        // Without a nonce there is nothing to answer with.
        let expected = if body.nonce.is_empty() { vec![] } else { vec![paused(PauseReason::Malformed)] };
        assert_eq!(answers, expected, "{index}");
        assert_eq!((centre.records().len(), centre.faults()), (0, vec!["malformed".to_owned()]), "{index}");
    }
}

#[test]
fn a_centres_own_announcement_is_no_finding() {
    let mut centre = TestCentre::new();
    let message = Message { topic: "tm/1/centro/centre/state".into(), payload: vec![1, 2].into() };
    assert!(centre.take(&message).is_empty());
    assert!(centre.faults().is_empty());
}

#[test]
fn the_audit_counts_what_comes_again() {
    let mut centre = TestCentre::new();
    let kit = centre.authority.kit("centro", "KIT-0001");
    for _ in 0..5 {
        centre.take(&kit.vitals([1]));
    }
    let audit = centre.reader().audit().unwrap();
    assert_eq!((audit.len(), audit[0].count, audit[0].topic.as_str()), (1, 5, "tm/1/centro/KIT-0001/up/vitals"));
}

// ---- what is rejected --------------------------------------------------------------------------------------------------

#[test]
fn i6_octets_that_are_no_record_are_rejected_for_good_and_the_others_flow() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let records = [(1, reading(1).encode_to_vec()), (2, vec![0xff; 9]), (3, Vec::new()), (4, reading(4).encode_to_vec())];
    let message = kit.octets(Lane::Vitals, &records, None);
    for _ in 0..2 {
        let answer = centre.answer(&message);
        assert_eq!(rejects(&answer), [(2, RejectReason::Unreadable, true), (3, RejectReason::Unreadable, true)]);
        assert_eq!(settled(&answer).settled_upto(), 4);
    }
    assert_eq!(centre.numbers(), [1, 4]);
    let aside = centre.reader().set_aside().unwrap();
    assert_eq!((aside.len(), aside[0].reason, aside[0].octets.len()), (2, Some(RejectReason::Unreadable), 9));
    let answer = centre.answer(&kit.batch(Lane::Vitals, &[(2, reading(2))]));
    assert_eq!(rejects(&answer), [(2, RejectReason::Conflict, true)]);
}

#[test]
fn a_record_of_a_newer_schema_is_for_later_and_not_settled() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    // Field 20, of wire type 2: content that this schema reserves.
    let newer = [vec![0x08, 0x01, 0xa2, 0x01, 0x02], vec![0x08, 0x01]].concat();
    let answer = centre.answer(&kit.octets(Lane::Vitals, &[(1, newer), (2, reading(2).encode_to_vec())], None));
    assert_eq!(rejects(&answer), [(1, RejectReason::UnknownSchema, false)]);
    let told = settled(&answer);
    assert!(!told.contains(1) && told.contains(2));
    assert_eq!(centre.numbers(), [2]);
}

#[test]
fn a_number_without_a_fitting_definition_is_for_later_and_taken_once_it_has_one() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let octets = [(1, reading(1).encode_to_vec())];
    let mut without_driver = definitions(None);
    without_driver.retain(|definition| definition.number != 3);
    let mut driver_is_a_clock = definitions(None);
    driver_is_a_clock[2].what = driver_is_a_clock[0].what.clone();
    let mut of_a_newer_kind = definitions(None);
    of_a_newer_kind[2].what = None;
    for (run, wrong) in (1..).zip([without_driver, of_a_newer_kind]) {
        let kit = TestKit { run: RunId([run; 8]), ..centre.authority.kit("centro", "KIT-0001") };
        centre.take(&kit.state());
        let body = kit.body(Lane::Vitals, &octets, wrong);
        let answer = centre.answer(&kit.sign(SignedType::Batch, &kit.up(Lane::Vitals), &body));
        assert_eq!(rejects(&answer), [(1, RejectReason::UndefinedNumber, false)]);
        assert_eq!(settled(&answer), Settlement::default());
    }
    let other_run = TestKit { run: RunId([3; 8]), ..centre.authority.kit("centro", "KIT-0001") };
    centre.take(&other_run.state());
    let body = other_run.body(Lane::Vitals, &octets, driver_is_a_clock);
    let answer = centre.answer(&other_run.sign(SignedType::Batch, &other_run.up(Lane::Vitals), &body));
    assert_eq!(rejects(&answer), [(1, RejectReason::UndefinedNumber, false)]);
    assert!(centre.records().is_empty());
    assert_eq!(settled(&centre.answer(&kit.vitals([1]))).settled_upto(), 1);
}

#[test]
fn i4_one_number_with_two_meanings_in_one_run_never_stores_a_record_under_either() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals([1]));
    let mut other_device = definitions(None);
    if let Some(wire::definition::What::Device(device)) = &mut other_device[1].what {
        device.identity = "SN-2".into();
    }
    let send = |centre: &mut TestCentre, kit: &TestKit| {
        let body = kit.body(Lane::Vitals, &[(2, reading(2).encode_to_vec())], other_device.clone());
        centre.answer(&kit.sign(SignedType::Batch, &kit.up(Lane::Vitals), &body))
    };
    let answer = send(&mut centre, &kit);
    assert_eq!(rejects(&answer), [(2, RejectReason::Conflict, true)]);
    assert_eq!((settled(&answer).settled_upto(), centre.faults()), (1, vec!["redefined".to_owned()]));
    // In another run the number is free to mean something else, and each record keeps its own meaning.
    kit.run = RunId([2; 8]);
    assert_eq!(settled(&send(&mut centre, &kit)).settled_upto(), 2);
    let devices: Vec<_> = centre.records().iter().map(|record| record.definitions.device(2).unwrap().identity.clone()).collect();
    assert_eq!(devices, ["SN-1", "SN-2"]);
}

#[test]
fn a_device_may_be_described_better_later() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.vitals([1]));
    let mut described = definitions(None);
    if let Some(wire::definition::What::Device(device)) = &mut described[1].what {
        device.firmware = "1.2".into();
    }
    let body = kit.body(Lane::Vitals, &[(2, reading(2).encode_to_vec())], described);
    let answer = centre.answer(&kit.sign(SignedType::Batch, &kit.up(Lane::Vitals), &body));
    assert_eq!((rejects(&answer), settled(&answer).settled_upto()), (vec![], 2));
}

#[test]
fn i4_an_unknown_assignment_is_for_later_and_taken_once_it_was_signed_here() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let record = wire::Record { assignment: 4, ..reading(1) };
    let message = kit.octets(Lane::Vitals, &[(1, record.encode_to_vec()), (2, reading(2).encode_to_vec())], Some("a-1"));
    let answer = centre.answer(&message);
    assert_eq!(rejects(&answer), [(1, RejectReason::UnknownAssignment, false)]);
    assert_eq!(centre.numbers(), [2]);
    centre.assign(&kit, "a-1");
    let answer = centre.answer(&message);
    assert_eq!((rejects(&answer), settled(&answer).settled_upto()), (vec![], 2));
    let stored = centre.records();
    assert_eq!(stored[1].definitions.assignment(stored[1].record.assignment), Some("a-1"));
}

#[test]
fn i4_another_kits_assignment_is_rejected_for_good_and_audited() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let other = centre.authority.kit("centro", "KIT-0002");
    centre.assign(&other, "a-2");
    let record = wire::Record { assignment: 4, ..reading(1) };
    let message = kit.octets(Lane::Vitals, &[(1, record.encode_to_vec()), (2, reading(2).encode_to_vec())], Some("a-2"));
    for _ in 0..2 {
        let answer = centre.answer(&message);
        assert_eq!(rejects(&answer), [(1, RejectReason::UnknownAssignment, true)]);
        assert_eq!(settled(&answer).settled_upto(), 2);
    }
    assert_eq!((centre.numbers(), centre.faults()), (vec![2], vec!["foreign-assignment".to_owned()]));
}

#[test]
fn an_epochs_assignment_is_that_of_its_first_journal_record() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.assign(&kit, "a-1");
    let opened = wire::EpochOpened { epoch: kit.epoch.0.to_vec(), assignment: 4, reason: 2, ..wire::EpochOpened::default() };
    centre.take(&kit.octets(Lane::Journal, &[(1, journal(Content::EpochOpened(opened)).encode_to_vec())], Some("a-1")));
    assert_eq!(centre.reader().lanes().unwrap()[0].assignment.as_deref(), Some("a-1"));
}

#[test]
fn rejections_beyond_one_answer_go_into_further_ones() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let records: Vec<_> = (1..=300).map(|seq| (seq, vec![0xff])).collect();
    let answers = centre.take(&kit.octets(Lane::Vitals, &records, None));
    assert_eq!(answers.iter().map(|answer| answer.reject.len()).collect::<Vec<_>>(), [128, 128, 44]);
    assert!(answers.iter().all(|answer| answer.nonce == kit.nonce.0));
    assert_eq!(answers.iter().filter(|answer| !answer.ack.is_empty()).count(), 1);
}

// ---- trouble -----------------------------------------------------------------------------------------------------------

#[test]
fn i3_a_locked_database_answers_later_and_settles_nothing() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    let mut other = Store::open(&centre.path).unwrap();
    let held = other.begin().unwrap();
    let answer = centre.answer(&kit.vitals([1, 2]));
    assert_eq!(rejects(&answer), [(1, RejectReason::Database, false), (2, RejectReason::Database, false)]);
    assert!(answer.ack.is_empty());
    drop(held);
    assert_eq!(settled(&centre.answer(&kit.vitals([1, 2]))).settled_upto(), 2);
}

#[test]
fn i3_a_full_database_answers_later_settles_nothing_and_goes_on_when_there_is_room() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.intake.store().limit_pages(40).unwrap();
    let large = |seq: u64| {
        let refusal = wire::Refusal { device: 2, driver: 3, reason: "undecodable".into(), octets: vec![7; 6_000] };
        kit.batch(Lane::Journal, &[(seq, journal(Content::Refusal(refusal)))])
    };
    let mut taken = 0;
    let answer = loop {
        let answer = centre.answer(&large(taken + 1));
        if !answer.reject.is_empty() {
            break answer;
        }
        taken += 1;
        assert!(taken < 100, "the bound was never met");
    };
    assert_eq!(rejects(&answer), [(taken + 1, RejectReason::Database, false)]);
    assert_eq!(centre.numbers().len(), usize::try_from(taken).unwrap());
    centre.intake.store().limit_pages(4_000).unwrap();
    assert_eq!(settled(&centre.answer(&large(taken + 1))).settled_upto(), taken + 1);
}

#[test]
fn a_state_and_the_batch_behind_it_may_come_in_one_group() {
    let mut centre = TestCentre::new();
    let kit = centre.authority.kit("centro", "KIT-0001");
    let answers = centre.intake.take(&[kit.state(), kit.vitals([1]), kit.vitals([2])], NOW);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(centre.numbers(), [1, 2]);
}

#[test]
fn a_counter_is_never_given_twice() {
    let mut centre = TestCentre::new();
    let first = centre.intake.store().reserve_counters(NOW).unwrap();
    centre.restart();
    let second = centre.intake.store().reserve_counters(WallTime(0)).unwrap();
    assert!(first > 0 && second >= first + (1 << 36));
    let later = WallTime(NOW.0 + (1 << 50));
    assert_eq!(i64::try_from(centre.intake.store().reserve_counters(later).unwrap()).unwrap(), later.0 + 1);
}

// ---- what was acknowledged and is missing ----------------------------------------------------------------------------

/// A connection's nonce, and the spans that are asked for on it.
type Ask = (Vec<u8>, Vec<(u64, u64)>);

impl TestCentre {
    /// Takes records off the disk behind the centre's back.
    fn lose(&self, statement: &str) {
        rusqlite::Connection::open(&self.path).unwrap().execute_batch(statement).unwrap();
    }

    fn take_back(&mut self) -> Vec<(u64, u64)> {
        let mut transaction = self.intake.store().begin().unwrap();
        let missing = transaction.take_back_missing(&"KIT-0001".parse().unwrap()).unwrap();
        transaction.commit().unwrap();
        missing.iter().map(|missing| (missing.first, missing.last)).collect()
    }

    /// What one round asks for.
    fn asks(&mut self) -> Vec<Ask> {
        let answers = self.intake.ask_again();
        answers
            .iter()
            .map(|answer| self.open(answer))
            .map(|answer| (answer.nonce, answer.resend.iter().map(|resend| (resend.first, resend.last)).collect()))
            .collect()
    }
}

#[test]
fn i3_what_was_acknowledged_and_is_missing_is_asked_for_until_it_is_there() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.vitals(1..=20));
    assert_eq!((centre.take_back(), centre.asks()), (vec![], vec![]));
    centre.lose("DELETE FROM records WHERE seq IN (4, 5, 9, 20)");
    assert_eq!(settled(&centre.answer(&kit.vitals([21]))).settled_upto(), 21, "nobody has noticed yet");
    assert_eq!(centre.take_back(), [(4, 5), (9, 9), (20, 20)]);
    assert_eq!(centre.take_back(), [], "once");
    let asked = vec![(kit.nonce.0.to_vec(), vec![(4, 5), (9, 9), (20, 20)])];
    assert_eq!((centre.asks(), centre.asks()), (asked.clone(), asked));
    let answer = centre.answer(&kit.vitals([5, 9]));
    let left = settled(&answer);
    assert_eq!((left.settled_upto(), left.settled_upto_run()), (3, Some(kit.run)));
    assert!([5, 8, 9, 19, 21].iter().all(|seq| left.contains(*seq)) && !left.contains(4) && !left.contains(20));
    assert_eq!(centre.asks(), [(kit.nonce.0.to_vec(), vec![(4, 4), (20, 20)])]);
    let answer = centre.answer(&kit.vitals([4, 20]));
    assert_eq!(settled(&answer), Settlement::upto(21, Some(kit.run)));
    assert_eq!((centre.asks(), centre.take_back()), (vec![], vec![]));
    assert_eq!(centre.numbers(), (1..=21).collect::<Vec<_>>());
}

#[test]
fn what_is_set_aside_or_declared_gone_is_not_missing_and_ends_the_asking() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.batch(Lane::Vitals, &[(1, with_origin(reading(1), 7)), (2, with_origin(reading(1), 7)), (3, reading(3))]));
    let gap = |first, last| {
        let epoch = kit.epoch.0.to_vec();
        journal(Content::Gap(wire::Gap { epoch, lane: 2, first, last, count: 1, reason: 4, ..wire::Gap::default() }))
    };
    centre.take(&kit.batch(Lane::Journal, &[(1, gap(4, 6))]));
    assert_eq!(centre.take_back(), []);
    centre.lose("DELETE FROM records WHERE lane = 1 AND seq = 3");
    assert_eq!(centre.take_back(), [(3, 3)]);
    centre.take(&kit.batch(Lane::Journal, &[(2, gap(3, 3))]));
    assert_eq!(centre.asks(), [], "the kit has it no more");
}

#[test]
fn a_kit_that_is_away_is_asked_on_its_next_connection_by_settled() {
    let mut centre = TestCentre::new();
    let mut kit = centre.kit();
    centre.take(&kit.vitals(1..=5));
    let will = wire::State { offline: true, ..kit.state_body() };
    centre.take(&kit.sign(SignedType::State, &kit.state_topic(), &will));
    centre.lose("DELETE FROM records WHERE seq = 2");
    assert_eq!(centre.take_back(), [(2, 2)]);
    assert_eq!(centre.asks(), []);
    kit.nonce.0 = [3; 8];
    let answer = centre.answer(&kit.state());
    let vitals = answer.settled.unwrap().lanes.into_iter().find(|lane| lane.lane == 2).unwrap();
    assert_eq!((vitals.upto, vitals.ranges[0].first), (1, 3));
    assert_eq!(centre.asks(), [(vec![3; 8], vec![(2, 2)])]);
}

#[test]
fn i9_a_thousand_holes_are_asked_for_in_bounded_answers() {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.vitals(1..=1_000));
    centre.lose("DELETE FROM records WHERE seq % 2 = 0");
    assert_eq!(centre.take_back().len(), 500);
    let asked = centre.asks();
    assert!(asked.iter().all(|(_, spans)| spans.len() <= ingest::RESENDS_PER_ANSWER_MAX));
    assert_eq!(asked.iter().map(|(_, spans)| spans.len()).sum::<usize>(), 500);
}
