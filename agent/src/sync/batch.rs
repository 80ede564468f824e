//! From records to a batch: which of a chunk's records go, with the definitions they use, in a bounded packet. Pure.

use std::collections::BTreeSet;

use kit_protocol::uplink::id::{EpochId, Lane, Nonce};
use kit_protocol::uplink::wire;
use prost::Message;
use prost::encoding::encoded_len_varint;

use crate::store::outbox::Chunk;

/// Octets of a publish beside the batch and its topic, at most: MQTT's fixed header (5), topic length (2), packet id (2),
/// properties (1); of the signed envelope the key, length and type of its body (1 + 4), signature (2 + 64), key id (2 + 8)
/// and type (2).
pub const ENVELOPE_OCTETS: usize = 93;
/// Octets of a batch beside entries and definitions, at most: epoch, lane, run, nonce, first, each with its key.
pub const HEAD_OCTETS: usize = 18 + 2 + 10 + 10 + 11;

/// Where a batch belongs and how large its publish may be.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The epoch of the records.
    pub epoch: EpochId,
    /// Their lane.
    pub lane: Lane,
    /// The connection that the batch is sent on.
    pub nonce: Nonce,
    /// Octets of the topic's name.
    pub topic_octets: usize,
    /// Octets of the publish, at most; the first record always goes.
    pub octets_max: usize,
}

impl Frame {
    /// Octets that are left for entries and definitions.
    #[must_use]
    pub fn payload_octets(&self) -> usize {
        self.octets_max.saturating_sub(ENVELOPE_OCTETS + HEAD_OCTETS + self.topic_octets)
    }
}

/// A batch and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The message.
    pub batch: wire::Batch,
    /// Its numbers as spans, both ends in it, ascending.
    pub spans: Vec<(u64, u64)>,
    /// Octets of the publish, at most.
    pub octets: usize,
}

/// Builds a batch of as many of the chunk's records as fit, at least of the first.
///
/// Shape: entries ascending, each naming how many numbers were left out before it; definitions of every number that they
/// use, once. Errors: `None` where the chunk has no record.
#[must_use]
pub fn build(chunk: Chunk, frame: &Frame) -> Option<Built> {
    let (first, _) = *chunk.records.first()?;
    let mut entries = Vec::with_capacity(chunk.records.len());
    let mut definitions: Vec<wire::Definition> = Vec::new();
    let mut defined = BTreeSet::new();
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let mut octets = ENVELOPE_OCTETS + HEAD_OCTETS + frame.topic_octets;
    let mut expected = first;
    for (seq, record) in chunk.records {
        // More than u32 numbers left out cannot be said in an entry: the next batch begins there.
        let Ok(skipped) = u32::try_from(seq.saturating_sub(expected)) else { break };
        let fresh: Vec<&wire::Definition> = numbers_used(&record)
            .into_iter()
            .filter(|number| !defined.contains(number))
            .filter_map(|number| chunk.definitions.iter().find(|definition| definition.number == number))
            .collect();
        let more = entry_octets(skipped, record.len())
            + fresh.iter().map(|definition| field_octets(definition.encoded_len())).sum::<usize>();
        if !entries.is_empty() && octets + more > frame.octets_max {
            break;
        }
        octets += more;
        defined.extend(fresh.iter().map(|definition| definition.number));
        definitions.extend(fresh.into_iter().cloned());
        entries.push(wire::Entry { skipped, record });
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => spans.push((seq, seq)),
        }
        expected = seq.saturating_add(1);
    }
    let batch = wire::Batch {
        epoch: frame.epoch.0.to_vec(),
        lane: frame.lane.to_wire().into(),
        run: chunk.run.0.to_vec(),
        nonce: frame.nonce.0.to_vec(),
        definitions,
        first,
        entries,
    };
    Some(Built { batch, spans, octets })
}

/// Octets of one entry within the batch: its own key and length, the number left out, and the record.
fn entry_octets(skipped: u32, record: usize) -> usize {
    let skipped = if skipped == 0 { 0 } else { 1 + encoded_len_varint(skipped.into()) };
    field_octets(skipped + field_octets(record))
}

/// Octets of a length-delimited field with a key of one octet.
fn field_octets(length: usize) -> usize {
    1 + encoded_len_varint(u64::try_from(length).unwrap_or(u64::MAX)) + length
}

/// The definitions a record refers to. One that cannot be read refers to none: the centre will say so.
fn numbers_used(record: &[u8]) -> BTreeSet<u32> {
    use wire::record::Content;
    let Ok(record) = wire::Record::decode(record) else { return BTreeSet::new() };
    let of_content: &[u32] = match &record.content {
        Some(Content::Reading(reading)) => &[reading.device, reading.driver],
        Some(Content::Segment(segment)) => &[segment.device, segment.driver],
        Some(Content::EpochOpened(opened)) => &[opened.assignment],
        Some(Content::Missed(missed)) => &[missed.device, missed.from_clock],
        Some(Content::Refusal(refusal)) => &[refusal.device, refusal.driver],
        Some(Content::DeviceEvent(event)) => &[event.device],
        Some(Content::EpochClosed(_) | Content::Gap(_)) | None => &[],
    };
    [record.clock, record.assignment].iter().chain(of_content).copied().filter(|number| *number != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::uplink::id::{KeyId, RunId};
    use kit_protocol::uplink::signed::{self, SIGNATURE_OCTETS, SignError, Signer};
    use proptest::prelude::*;

    struct Stamp;

    impl Signer for Stamp {
        fn key_id(&self) -> KeyId {
            KeyId([7; 8])
        }
        fn sign(&self, _: &[u8]) -> Result<[u8; SIGNATURE_OCTETS], SignError> {
            Ok([9; SIGNATURE_OCTETS])
        }
    }

    fn reading(clock: u32, device: u32, status: &str) -> Vec<u8> {
        let reading = wire::Reading { device, driver: 3, status: vec![status.to_owned()], ..Default::default() };
        wire::Record { clock, content: Some(wire::record::Content::Reading(reading)), ..Default::default() }.encode_to_vec()
    }

    fn definitions() -> Vec<wire::Definition> {
        let device = |serial: &str| wire::Device { serial: serial.to_owned(), ..Default::default() };
        let what = [
            wire::definition::What::Clock(wire::Clock { boot_id: vec![1; 16], ..Default::default() }),
            wire::definition::What::Device(device("A")),
            wire::definition::What::Driver(wire::Driver { name: "oximeter".to_owned(), version: "1".to_owned() }),
            wire::definition::What::Device(device("B")),
        ];
        (1..).zip(what).map(|(number, what)| wire::Definition { number, what: Some(what) }).collect()
    }

    fn chunk(records: Vec<(u64, Vec<u8>)>) -> Chunk {
        let next = records.last().map_or(1, |(seq, _)| seq + 1);
        Chunk { run: RunId([4; 8]), records, unreadable: vec![], definitions: definitions(), next }
    }

    fn frame(octets_max: usize) -> Frame {
        Frame { epoch: EpochId([1; 16]), lane: Lane::Vitals, nonce: Nonce([2; 8]), topic_octets: 30, octets_max }
    }

    fn numbers(batch: &wire::Batch) -> Vec<u64> {
        let mut next = batch.first;
        batch
            .entries
            .iter()
            .map(|entry| {
                let seq = next + u64::from(entry.skipped);
                next = seq + 1;
                seq
            })
            .collect()
    }

    #[test]
    fn carries_the_definitions_that_its_records_use_and_no_others() {
        let built = build(chunk(vec![(5, reading(1, 2, "a")), (6, reading(1, 2, "b"))]), &frame(16_384)).unwrap();
        assert_eq!(built.batch.definitions.iter().map(|definition| definition.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((built.batch.first, built.spans), (5, vec![(5, 6)]));
    }

    #[test]
    fn i2_numbers_left_out_are_counted() {
        let records = [3, 4, 9, 12].map(|seq| (seq, reading(1, 4, "x"))).to_vec();
        let built = build(chunk(records.clone()), &frame(16_384)).unwrap();
        assert_eq!(numbers(&built.batch), [3, 4, 9, 12]);
        assert_eq!(built.spans, [(3, 4), (9, 9), (12, 12)]);
        let bytes: Vec<_> = built.batch.entries.into_iter().map(|entry| entry.record).collect();
        assert_eq!(bytes, records.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), "copied verbatim");
    }

    #[test]
    fn i6_a_record_that_cannot_be_read_goes_verbatim_and_the_first_always_goes() {
        let built = build(chunk(vec![(1, vec![0xFF; 20_000]), (2, reading(1, 2, ""))]), &frame(16_384)).unwrap();
        assert_eq!((built.spans, built.batch.definitions.len()), (vec![(1, 1)], 0));
        assert!(built.octets > 20_000);
        assert_eq!(build(chunk(vec![]), &frame(16_384)), None);
    }

    #[test]
    fn a_gap_of_more_than_u32_numbers_ends_the_batch() {
        let far = 2 + u64::from(u32::MAX) + 1;
        let built = build(chunk(vec![(1, vec![]), (far, vec![])]), &frame(16_384)).unwrap();
        assert_eq!(built.spans, [(1, 1)]);
    }

    proptest! {
        #[test]
        fn i9_the_publish_is_never_larger_than_said(
            sizes in proptest::collection::vec((0_usize..3000, 0_u64..3, 1_u32..5), 1..60),
            octets_max in 500_usize..70_000,
            first in prop_oneof![1_u64..100, (u64::MAX - 1000)..(u64::MAX - 500)],
        ) {
            let mut seq = first;
            let records: Vec<_> = sizes
                .iter()
                .map(|(size, skip, device)| {
                    seq += skip + 1;
                    (seq, reading(1, *device, &"x".repeat(*size)))
                })
                .collect();
            let chunk = chunk(records.clone());
            let frame = frame(octets_max);
            let built = build(chunk, &frame).unwrap();
            let topic = "t".repeat(frame.topic_octets);
            let sealed = signed::seal(&Stamp, wire::SignedType::Batch, &topic, &built.batch).unwrap();
            let publish = 1 + 4 + 2 + topic.len() + 2 + 1 + sealed.len();
            prop_assert!(publish <= built.octets, "{publish} > {}", built.octets);
            prop_assert!(built.octets <= octets_max || built.batch.entries.len() == 1);
            let taken = built.batch.entries.len();
            let expected: Vec<u64> = records[..taken].iter().map(|(seq, _)| *seq).collect();
            prop_assert_eq!(numbers(&built.batch), expected.clone());
            let spread: Vec<u64> = built.spans.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(spread, expected);
        }
    }
}
