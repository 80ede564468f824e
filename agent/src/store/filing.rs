//! From a draft to the bytes of a record: small numbers for what repeats, encoded once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kit_protocol::uplink::id::{EpochId, Lane};
use kit_protocol::uplink::wire::definition::What;
use kit_protocol::uplink::wire::{self, record::Content};
use prost::Message;

use super::outbox::{Class, NewRecord};
use super::thread::Draft;

/// When something happened, as a record carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// Nanoseconds of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// The gateway's clock then.
    pub clock: wire::Clock,
}

/// The small numbers of one epoch.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    numbers: HashMap<What, u32>,
    by_number: BTreeMap<u32, What>,
    /// Given since the last commit.
    fresh: Vec<u32>,
}

impl Definitions {
    /// Takes in one that is on the disk.
    pub(crate) fn restore(&mut self, number: u32, what: What) {
        self.numbers.insert(what.clone(), number);
        self.by_number.insert(number, what);
    }

    /// The number that stands for `what`, given now where there is none.
    pub(crate) fn number(&mut self, what: &What) -> u32 {
        if let Some(number) = self.numbers.get(what) {
            return *number;
        }
        let number = self.by_number.last_key_value().map_or(1, |(last, _)| last + 1);
        self.restore(number, what.clone());
        self.fresh.push(number);
        number
    }

    /// Those that are not on the disk.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = wire::Definition> {
        self.fresh.iter().filter_map(|number| self.definition(*number))
    }

    /// They are on the disk now.
    pub(crate) fn committed(&mut self) {
        self.fresh.clear();
    }

    /// What `number` stands for, as the wire carries it.
    pub(crate) fn definition(&self, number: u32) -> Option<wire::Definition> {
        self.by_number.get(&number).map(|what| wire::Definition { number, what: Some(what.clone()) })
    }

    /// Every definition that these records use, ascending.
    pub(crate) fn used_by<'a>(&self, records: impl Iterator<Item = &'a [u8]>) -> Vec<wire::Definition> {
        let mut numbers = BTreeSet::new();
        records.for_each(|bytes| collect_numbers(bytes, &mut numbers));
        numbers.into_iter().filter_map(|number| self.definition(number)).collect()
    }
}

/// A journal record of the store's own.
pub(crate) fn journal_draft(stamp: Stamp, content: Content) -> Draft {
    Draft {
        lane: Lane::Journal,
        class: Class::Value,
        boottime_ns: stamp.boottime_ns,
        clock: stamp.clock,
        device: None,
        driver: None,
        from_clock: None,
        content,
        origin: None,
        marks: Vec::new(),
    }
}

/// That the numbers from `first` to `last` will never come. `times` are those of the oldest and the newest of them on
/// CLOCK_BOOTTIME, nanoseconds; zeros where they are not known.
pub(crate) fn gap(epoch: EpochId, lane: Lane, (first, last): (u64, u64), reason: wire::GapReason, times: (u64, u64)) -> Content {
    Content::Gap(wire::Gap {
        epoch: epoch.0.to_vec(),
        lane: lane.to_wire().into(),
        first,
        last,
        count: last.saturating_sub(first).saturating_add(1),
        reason: reason.into(),
        oldest_boottime_ns: times.0,
        newest_boottime_ns: times.1,
    })
}

/// Makes the record of `draft` under `assignment`; `define` gives small numbers.
pub(crate) fn file(draft: Draft, assignment: Option<&str>, define: &mut dyn FnMut(&What) -> u32) -> NewRecord {
    let Draft { lane, class, boottime_ns, clock, device, driver, from_clock, mut content, origin, marks } = draft;
    let assignment = assignment.map_or(0, |id| define(&What::Assignment(wire::AssignmentRef { id: id.to_owned() })));
    let clock = define(&What::Clock(clock));
    let numbers = Numbers {
        assignment,
        device: device.map_or(0, |device| define(&What::Device(device))),
        driver: driver.map_or(0, |driver| define(&What::Driver(driver))),
        from_clock: from_clock.map_or(0, |clock| define(&What::Clock(clock))),
    };
    number_content(&mut content, &numbers);
    let record = wire::Record {
        clock,
        boottime_ns,
        origin: origin.map_or_else(Vec::new, |origin| origin.0.to_vec()),
        assignment,
        content: Some(content),
    };
    NewRecord { lane, class, bytes: record.encode_to_vec(), origin, marks }
}

struct Numbers {
    assignment: u32,
    device: u32,
    driver: u32,
    from_clock: u32,
}

fn number_content(content: &mut Content, numbers: &Numbers) {
    match content {
        Content::Reading(reading) => (reading.device, reading.driver) = (numbers.device, numbers.driver),
        Content::Segment(segment) => (segment.device, segment.driver) = (numbers.device, numbers.driver),
        Content::Refusal(refusal) => (refusal.device, refusal.driver) = (numbers.device, numbers.driver),
        Content::Missed(missed) => (missed.device, missed.from_clock) = (numbers.device, numbers.from_clock),
        Content::DeviceEvent(event) => event.device = numbers.device,
        Content::EpochOpened(opened) => opened.assignment = numbers.assignment,
        Content::EpochClosed(_) | Content::Gap(_) => {}
    }
}

/// Adds the small numbers that a record uses.
fn collect_numbers(bytes: &[u8], numbers: &mut BTreeSet<u32>) {
    let Ok(record) = wire::Record::decode(bytes) else { return };
    numbers.extend([record.clock, record.assignment]);
    match &record.content {
        Some(Content::Reading(reading)) => numbers.extend([reading.device, reading.driver]),
        Some(Content::Segment(segment)) => numbers.extend([segment.device, segment.driver]),
        Some(Content::Refusal(refusal)) => numbers.extend([refusal.device, refusal.driver]),
        Some(Content::Missed(missed)) => numbers.extend([missed.device, missed.from_clock]),
        Some(Content::DeviceEvent(event)) => numbers.extend([event.device]),
        Some(Content::EpochOpened(opened)) => numbers.extend([opened.assignment]),
        Some(Content::EpochClosed(_) | Content::Gap(_)) | None => {}
    }
    numbers.remove(&0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::uplink::id::Origin;

    fn clock(offset_us: i64) -> wire::Clock {
        wire::Clock { boot_id: vec![1; 16], offset_us, ..Default::default() }
    }

    fn draft(content: Content) -> Draft {
        Draft {
            lane: Lane::Vitals,
            class: Class::Value,
            boottime_ns: 77,
            clock: clock(5),
            device: Some(wire::Device { identity: "SN-1".into(), ..Default::default() }),
            driver: Some(wire::Driver { name: "oximeter-nonin".into(), version: "1".into() }),
            from_clock: Some(clock(4)),
            content,
            origin: Some(Origin([8; 8])),
            marks: Vec::new(),
        }
    }

    fn decode(record: &NewRecord) -> wire::Record {
        wire::Record::decode(record.bytes.as_slice()).unwrap()
    }

    #[test]
    fn a_reading_names_clock_device_driver_and_assignment_by_number() {
        let mut definitions = Definitions::default();
        let filed = file(draft(Content::Reading(Default::default())), Some("A-1"), &mut |what| definitions.number(what));
        let record = decode(&filed);
        let Some(Content::Reading(reading)) = &record.content else { panic!("a reading") };
        let used = definitions.used_by([filed.bytes.as_slice()].into_iter());
        let what = |number: u32| used.iter().find(|one| one.number == number).and_then(|one| one.what.clone()).unwrap();
        assert_eq!(what(record.clock), What::Clock(clock(5)));
        assert_eq!(what(record.assignment), What::Assignment(wire::AssignmentRef { id: "A-1".into() }));
        assert!(matches!(what(reading.device), What::Device(device) if device.identity == "SN-1"));
        assert!(matches!(what(reading.driver), What::Driver(driver) if driver.name == "oximeter-nonin"));
        assert_eq!((record.boottime_ns, record.origin), (77, vec![8; 8]));
    }

    #[test]
    fn the_same_thing_gets_the_same_number_and_no_assignment_is_0() {
        let mut definitions = Definitions::default();
        let mut filed = |content| file(draft(content), None, &mut |what| definitions.number(what));
        let first = decode(&filed(Content::Missed(Default::default())));
        let second = decode(&filed(Content::Missed(Default::default())));
        assert_eq!(first, second);
        assert_eq!(first.assignment, 0);
        let Some(Content::Missed(missed)) = first.content else { panic!("missed") };
        assert_ne!(missed.from_clock, first.clock);
        assert_ne!(missed.device, 0);
    }

    #[test]
    fn every_content_gives_back_the_definitions_it_uses() {
        for content in [
            Content::Reading(Default::default()),
            Content::Segment(Default::default()),
            Content::EpochOpened(Default::default()),
            Content::EpochClosed(Default::default()),
            Content::Gap(Default::default()),
            Content::Missed(Default::default()),
            Content::Refusal(Default::default()),
            Content::DeviceEvent(Default::default()),
        ] {
            let mut definitions = Definitions::default();
            let filed = file(draft(content), Some("A-1"), &mut |what| definitions.number(what));
            let record = decode(&filed);
            let used: Vec<_> = definitions.used_by([filed.bytes.as_slice()].into_iter()).iter().map(|one| one.number).collect();
            assert!(used.contains(&record.clock) && used.contains(&record.assignment), "{record:?}");
            let named = match record.content.unwrap() {
                Content::Reading(one) => vec![one.device, one.driver],
                Content::Segment(one) => vec![one.device, one.driver],
                Content::Refusal(one) => vec![one.device, one.driver],
                Content::Missed(one) => vec![one.device, one.from_clock],
                Content::DeviceEvent(one) => vec![one.device],
                Content::EpochOpened(one) => vec![one.assignment],
                Content::EpochClosed(_) | Content::Gap(_) => vec![],
            };
            assert!(named.iter().all(|number| *number != 0 && used.contains(number)));
        }
    }

    #[test]
    fn definitions_are_fresh_until_they_are_committed() {
        let mut definitions = Definitions::default();
        definitions.restore(7, What::Clock(clock(1)));
        assert_eq!(definitions.number(&What::Clock(clock(1))), 7);
        assert_eq!(definitions.number(&What::Clock(clock(2))), 8);
        assert_eq!(definitions.fresh().map(|one| one.number).collect::<Vec<_>>(), [8]);
        definitions.committed();
        assert_eq!(definitions.fresh().count(), 0);
    }
}
