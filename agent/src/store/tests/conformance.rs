//! What every outbox keeps, as one suite that each backend passes: the in-memory one and the one on the disk.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit_protocol::uplink::id::{BootId, EpochId, Lane, Origin};
use kit_protocol::uplink::settlement::{Range, Settlement};
use kit_protocol::uplink::wire::{self, EpochReason, definition::What, record::Content};
use prost::Message;

use super::Retention;
use super::epochs::{Options, Store};
use super::filing::Stamp;
use super::memory::{Disk, MemoryOutbox};
use super::outbox::{Appended, CONFLICT, Class, Mark, NewRecord, Outbox, ReadLimit, StoreError};
use super::seal::Kek;

/// Opens outboxes over one disk.
trait Rig: Default {
    type Kept: Outbox;
    fn open(&mut self) -> Self::Kept;
    /// What is left of `outbox` after SIGKILL at this moment, opened again.
    fn crash(&mut self, outbox: Self::Kept) -> Self::Kept;
    /// The same after a clean end.
    fn reopen(&mut self, mut outbox: Self::Kept) -> Self::Kept {
        outbox.flush().unwrap();
        drop(outbox);
        self.open()
    }
}

#[derive(Default)]
struct InMemory(Arc<Mutex<Disk>>);

impl Rig for InMemory {
    type Kept = MemoryOutbox;
    fn open(&mut self) -> MemoryOutbox {
        MemoryOutbox::open(&self.0)
    }
    fn crash(&mut self, outbox: MemoryOutbox) -> MemoryOutbox {
        drop(outbox);
        self.open()
    }
}

struct OnDisk {
    dir: tempfile::TempDir,
    crashes: u32,
}

impl Default for OnDisk {
    fn default() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), crashes: 0 }
    }
}

impl Rig for OnDisk {
    type Kept = Store;
    fn open(&mut self) -> Store {
        Store::open(options(&self.dir.path().join(self.crashes.to_string()))).unwrap()
    }
    /// What the kernel was given is there after SIGKILL; what only the process held is not.
    fn crash(&mut self, outbox: Store) -> Store {
        let was = self.dir.path().join(self.crashes.to_string());
        self.crashes += 1;
        copy_all(&was, &self.dir.path().join(self.crashes.to_string()));
        drop(outbox);
        self.open()
    }
}

pub(super) fn options(dir: &Path) -> Options {
    let clock = wire::Clock { boot_id: vec![7; 16], ..Default::default() };
    Options {
        dir: dir.to_path_buf(),
        kit: "KIT-0001".parse().unwrap(),
        kek: Kek::new([5; 32]),
        boot: BootId([7; 16]),
        stamp: Arc::new(move || Stamp { boottime_ns: 1, clock: clock.clone() }),
        free_floor: 0,
        retention: Retention { epochs: Duration::ZERO, plan_waveforms: Duration::ZERO, continuous_waveforms: Duration::ZERO },
    }
}

pub(super) fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(super) fn value(lane: Lane, bytes: &[u8]) -> NewRecord {
    NewRecord { lane, class: Class::Value, bytes: bytes.to_vec(), origin: None, marks: Vec::new() }
}

pub(super) const ALL: ReadLimit = ReadLimit { octets: usize::MAX, records: usize::MAX, before: u64::MAX };

pub(super) fn append(outbox: &mut impl Outbox, record: NewRecord) -> Appended {
    outbox.append(&[record]).unwrap()[0]
}

fn seq(appended: Appended) -> u64 {
    match appended {
        Appended::New { seq, .. } => seq,
        Appended::Known => panic!("known"),
    }
}

fn texts(outbox: &mut impl Outbox, lane: Lane) -> Vec<(u64, String)> {
    let epoch = outbox.open_epoch().0;
    let mut texts = Vec::new();
    let mut from = 1;
    loop {
        let chunk = outbox.read(epoch, lane, from, ALL).unwrap();
        if chunk.records.is_empty() {
            return texts;
        }
        texts.extend(chunk.records.iter().map(|(seq, bytes)| (*seq, String::from_utf8_lossy(bytes).into_owned())));
        from = chunk.next;
    }
}

pub(super) fn journal(outbox: &mut impl Outbox, epoch: EpochId) -> Vec<(u64, Content)> {
    let mut journal = Vec::new();
    let mut from = 1;
    loop {
        let chunk = outbox.read_local(epoch, Lane::Journal, from, ALL).unwrap();
        if chunk.records.is_empty() {
            return journal;
        }
        for (seq, bytes) in &chunk.records {
            journal.push((*seq, wire::Record::decode(bytes.as_slice()).unwrap().content.unwrap()));
        }
        from = chunk.next;
    }
}

fn i1_what_was_returned_survives_a_crash<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    for n in 1..=40_u64 {
        assert_eq!(seq(append(&mut outbox, value(Lane::Vitals, format!("r{n}").as_bytes()))), n);
        if n % 8 == 0 {
            outbox = rig.crash(outbox);
            let expected: Vec<_> = (1..=n).map(|n| (n, format!("r{n}"))).collect();
            assert_eq!(texts(&mut outbox, Lane::Vitals), expected);
        }
    }
}

fn i1_every_class_and_lane_is_read_back<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let classes = [Class::Value, Class::PlanWaveform, Class::ContinuousWaveform];
    let group: Vec<_> = Lane::ALL
        .into_iter()
        .flat_map(|lane| classes.map(|class| NewRecord { class, ..value(lane, format!("{lane} {class:?}").as_bytes()) }))
        .collect();
    outbox.append(&group).unwrap();
    let mut outbox = rig.crash(outbox);
    for lane in [Lane::Urgent, Lane::Vitals, Lane::Waveforms] {
        let expected: Vec<_> = (1..).zip(classes.map(|class| format!("{lane} {class:?}"))).collect();
        assert_eq!(texts(&mut outbox, lane), expected);
    }
}

fn i2_numbers_go_on_after_everything_was_settled_and_the_store_reopened<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    for n in 1..=3 {
        assert_eq!(seq(append(&mut outbox, value(Lane::Urgent, b"u"))), n);
    }
    let epoch = outbox.open_epoch().0;
    outbox.settle(epoch, Lane::Urgent, &Settlement::upto(3, Some(outbox.run()))).unwrap();
    let mut outbox = rig.reopen(outbox);
    assert_eq!(texts(&mut outbox, Lane::Urgent), []);
    assert_eq!(seq(append(&mut outbox, value(Lane::Urgent, b"u"))), 4);
}

fn i2_each_opening_has_its_run_and_a_chunk_holds_one<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let first = outbox.run();
    append(&mut outbox, value(Lane::Vitals, b"one"));
    append(&mut outbox, value(Lane::Vitals, b"two"));
    let mut outbox = rig.crash(outbox);
    let second = outbox.run();
    assert_ne!(first, second);
    append(&mut outbox, value(Lane::Vitals, b"three"));
    let epoch = outbox.open_epoch().0;
    let chunk = outbox.read(epoch, Lane::Vitals, 1, ALL).unwrap();
    assert_eq!((chunk.run, chunk.records.len(), chunk.next), (first, 2, 3));
    let chunk = outbox.read(epoch, Lane::Vitals, chunk.next, ALL).unwrap();
    assert_eq!((chunk.run, chunk.records.len(), chunk.next), (second, 1, 4));
    assert_eq!(outbox.sealed_under(epoch, Lane::Vitals, 2).unwrap(), Some(first));
    assert_eq!(outbox.sealed_under(epoch, Lane::Vitals, 4).unwrap(), None);
}

fn i2a_a_known_origin_is_appended_once_within_a_group_later_after_a_crash_and_in_the_next_epoch<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let origin = |n: u8| NewRecord { origin: Some(Origin([n; 8])), ..value(Lane::Vitals, &[n]) };
    let answers = outbox.append(&[origin(1), origin(2), origin(1)]).unwrap();
    assert_eq!(answers[2], Appended::Known);
    assert_eq!(seq(answers[1]), 2);
    assert_eq!(append(&mut outbox, origin(2)), Appended::Known);
    let mut outbox = rig.crash(outbox);
    assert_eq!(append(&mut outbox, origin(1)), Appended::Known);
    assert_eq!(seq(append(&mut outbox, origin(3))), 3);
    outbox.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    let mut outbox = rig.crash(outbox);
    assert_eq!(append(&mut outbox, origin(3)), Appended::Known);
    assert_eq!(seq(append(&mut outbox, origin(4))), 1);
    assert_eq!(seq(append(&mut outbox, value(Lane::Vitals, &[4]))), 2, "without an origin nothing is merged");
}

fn i3_what_is_settled_is_not_sent_again_and_stays_as_local_record<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    for n in 1..=6 {
        append(&mut outbox, value(Lane::Vitals, format!("r{n}").as_bytes()));
    }
    let run = Some(outbox.run());
    let mut settled = Settlement::upto(2, run);
    settled.add(Range { first: 4, last: 5, run });
    outbox.settle(epoch, Lane::Vitals, &settled).unwrap();
    let left = [(3, "r3".to_owned()), (6, "r6".to_owned())];
    assert_eq!(texts(&mut outbox, Lane::Vitals), left);
    outbox.settle(epoch, Lane::Vitals, &Settlement::upto(1, run)).unwrap();
    assert_eq!(texts(&mut outbox, Lane::Vitals), left, "a late acknowledgement takes nothing back");
    let view = outbox.epochs().pop().unwrap().lanes[Lane::Vitals.index()].clone();
    assert_eq!((view.oldest, view.next, view.octets), (3, 7, 2 * (2 + 16)));
    let mut outbox = rig.reopen(outbox);
    assert_eq!(texts(&mut outbox, Lane::Vitals), left);
    assert_eq!(outbox.read_local(epoch, Lane::Vitals, 1, ALL).unwrap().records.len(), 6);
    outbox.reset_settled(epoch, Lane::Vitals, &Settlement::upto(1, run)).unwrap();
    assert_eq!(texts(&mut outbox, Lane::Vitals).len(), 5, "the centre was restored to an earlier state");
    outbox.settle(epoch, Lane::Vitals, &Settlement::upto(6, run)).unwrap();
    let view = outbox.epochs().pop().unwrap().lanes[Lane::Vitals.index()].clone();
    assert_eq!((view.oldest, view.octets), (7, 0));
}

fn i2_a_settlement_of_numbers_that_were_never_given_settles_nothing<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    append(&mut outbox, value(Lane::Vitals, b"one"));
    append(&mut outbox, value(Lane::Vitals, b"two"));
    let foreign_run = Some(kit_protocol::uplink::id::RunId([0xFE; 8]));
    for (settled, seq) in [(Settlement::upto(3, None), 3), (Settlement::upto(2, foreign_run), 2)] {
        let refused = Err(StoreError::Foreign { epoch, lane: Lane::Vitals, seq });
        assert_eq!(outbox.settle(epoch, Lane::Vitals, &settled), refused);
        assert_eq!(outbox.reset_settled(epoch, Lane::Vitals, &settled), refused);
    }
    assert_eq!(texts(&mut outbox, Lane::Vitals).len(), 2);
}

fn i6_a_quarantined_record_is_not_sent_and_the_others_flow<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    for n in 1..=3 {
        append(&mut outbox, value(Lane::Vitals, format!("r{n}").as_bytes()));
    }
    outbox.quarantine(epoch, Lane::Vitals, 1, "too big for the broker").unwrap();
    let mut outbox = rig.crash(outbox);
    assert_eq!(texts(&mut outbox, Lane::Vitals), [(2, "r2".to_owned()), (3, "r3".to_owned())]);
    assert_eq!(outbox.quarantined(), [(epoch, Lane::Vitals, 1, "too big for the broker".to_owned())]);
    assert_eq!(outbox.read_local(epoch, Lane::Vitals, 1, ALL).unwrap().records.len(), 3);
    assert_eq!(outbox.epochs().pop().unwrap().lanes[Lane::Vitals.index()].oldest, 2);
}

fn i2_what_the_centre_refused_and_no_longer_knows_waits_again<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    for n in 1..=3 {
        append(&mut outbox, value(Lane::Vitals, format!("r{n}").as_bytes()));
    }
    outbox.quarantine(epoch, Lane::Vitals, 1, "unreadable").unwrap();
    outbox.quarantine(epoch, Lane::Vitals, 2, CONFLICT).unwrap();
    outbox.reset_settled(epoch, Lane::Vitals, &Settlement::upto(1, Some(outbox.run()))).unwrap();
    assert_eq!(texts(&mut outbox, Lane::Vitals), [(3, "r3".to_owned())], "it is settled");
    outbox.reset_settled(epoch, Lane::Vitals, &Settlement::default()).unwrap();
    let mut outbox = rig.crash(outbox);
    assert_eq!(texts(&mut outbox, Lane::Vitals), [(1, "r1".to_owned()), (3, "r3".to_owned())]);
    assert_eq!(outbox.quarantined(), [(epoch, Lane::Vitals, 2, CONFLICT.to_owned())], "another record has its number");
}

fn i6_a_record_past_its_bound_is_refused_and_none_of_its_group_is_kept<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let fits = value(Lane::Vitals, &[1; 7_600 - 16]);
    let too_big = value(Lane::Vitals, &[1; 7_600 - 15]);
    assert_eq!(outbox.append(&[fits.clone(), too_big]), Err(StoreError::TooBig { octets: 7_601, max: 7_600 }));
    let segment = NewRecord { class: Class::PlanWaveform, ..value(Lane::Waveforms, &[1; 12_000 - 15]) };
    assert_eq!(outbox.append(&[segment]), Err(StoreError::TooBig { octets: 12_001, max: 12_000 }));
    assert_eq!(texts(&mut outbox, Lane::Vitals), []);
    assert_eq!(seq(append(&mut outbox, fits)), 1);
    let segment = NewRecord { class: Class::PlanWaveform, ..value(Lane::Waveforms, &[1; 12_000 - 16]) };
    assert_eq!(seq(append(&mut outbox, segment)), 1);
}

fn a_read_keeps_its_limits_and_always_gives_the_first_record<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    for n in 0..10_u8 {
        append(&mut outbox, value(Lane::Vitals, &[n; 100]));
    }
    let mut numbers = |from, limit| {
        let chunk = outbox.read(epoch, Lane::Vitals, from, limit).unwrap();
        (chunk.records.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), chunk.next)
    };
    assert_eq!(numbers(1, ReadLimit { octets: 1, ..ALL }), (vec![1], 2));
    assert_eq!(numbers(2, ReadLimit { octets: 300, ..ALL }), (vec![2, 3, 4], 5));
    assert_eq!(numbers(5, ReadLimit { records: 2, ..ALL }), (vec![5, 6], 7));
    assert_eq!(numbers(0, ReadLimit { before: 4, ..ALL }), (vec![1, 2, 3], 4));
    assert_eq!(numbers(11, ALL), (vec![], 11));
    let unknown = EpochId([1; 16]);
    assert_eq!(outbox.read(unknown, Lane::Vitals, 1, ALL).unwrap_err(), StoreError::NoEpoch(unknown));
}

fn an_epoch_opens_and_closes_in_its_own_journal<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let none = outbox.open_epoch().0;
    let started = outbox.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut outbox, value(Lane::Vitals, b"one"));
    append(&mut outbox, value(Lane::Vitals, b"two"));
    assert_eq!(outbox.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap(), started, "repeated");
    let other = outbox.switch_epoch(Some("A-2"), EpochReason::AssignmentStart).unwrap();
    let mut outbox = rig.crash(outbox);

    let first = journal(&mut outbox, none);
    let Content::EpochOpened(opened) = &first[0].1 else { panic!("{first:?}") };
    assert_eq!((opened.reason(), opened.previous.len(), opened.assignment), (EpochReason::First, 0, 0));
    let records = journal(&mut outbox, started);
    let [(1, Content::EpochOpened(opened)), (2, Content::EpochClosed(closed))] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!((opened.epoch.as_slice(), opened.previous.as_slice()), (&started.0[..], &none.0[..]));
    assert_ne!(opened.assignment, 0);
    let ends: Vec<_> = closed.ends.iter().map(|end| (end.lane(), end.last)).collect();
    let expected = [
        (wire::Lane::Urgent, Some(0)),
        (wire::Lane::Vitals, Some(2)),
        (wire::Lane::Waveforms, Some(0)),
        (wire::Lane::Journal, Some(2)),
    ];
    assert_eq!(ends, expected);
    let records = journal(&mut outbox, other);
    let Content::EpochOpened(opened) = &records[0].1 else { panic!("{records:?}") };
    assert_eq!(opened.previous, started.0);
    let views = outbox.epochs();
    let shown: Vec<_> = views.iter().map(|view| (view.epoch, view.assignment.as_deref(), view.open)).collect();
    assert_eq!(shown, [(none, None, false), (started, Some("A-1"), false), (other, Some("A-2"), true)]);
}

fn i4_the_none_epoch_is_one_and_goes_on_above_its_own_numbers<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let none = outbox.open_epoch().0;
    append(&mut outbox, value(Lane::Vitals, b"before"));
    let mark = |value: u8| Mark { key: "SN-1/record".into(), value: vec![value] };
    append(&mut outbox, NewRecord { marks: vec![mark(1)], ..value(Lane::Vitals, b"marked") });
    outbox.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    assert_eq!(outbox.mark("SN-1/record"), Some(vec![1]), "marks pass on");
    append(&mut outbox, NewRecord { marks: vec![mark(2)], ..value(Lane::Vitals, b"the patient's") });
    assert_eq!(outbox.switch_epoch(None, EpochReason::AssignmentEnd).unwrap(), none);
    assert_eq!(outbox.mark("SN-1/record"), Some(vec![2]));
    assert_eq!(seq(append(&mut outbox, value(Lane::Vitals, b"after"))), 3);
    let mut outbox = rig.crash(outbox);
    assert_eq!(outbox.open_epoch(), (none, None));
    let numbered = [(1, "before"), (2, "marked"), (3, "after")].map(|(seq, text)| (seq, text.to_owned()));
    assert_eq!(texts(&mut outbox, Lane::Vitals), numbered);
    assert!(!journal(&mut outbox, none).iter().any(|(_, content)| matches!(content, Content::EpochClosed(_))));
    assert_eq!(outbox.epochs().iter().filter(|view| view.open).count(), 1);
}

fn a_closed_epoch_is_read_settled_and_drained<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let started = outbox.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut outbox, value(Lane::Vitals, b"one"));
    let run = outbox.run();
    outbox.switch_epoch(None, EpochReason::AssignmentEnd).unwrap();
    let mut outbox = rig.reopen(outbox);
    let waits = |outbox: &R::Kept| !outbox.epochs().iter().find(|view| view.epoch == started).unwrap().drained();
    assert!(waits(&outbox));
    assert_eq!(outbox.read(started, Lane::Vitals, 1, ALL).unwrap().records, [(1, b"one".to_vec())]);
    outbox.settle(started, Lane::Vitals, &Settlement::upto(1, Some(run))).unwrap();
    outbox.settle(started, Lane::Journal, &Settlement::upto(2, None)).unwrap();
    assert!(!waits(&outbox));
    let outbox = rig.reopen(outbox);
    assert!(!waits(&outbox));
}

fn marks_are_kept_with_their_record_and_with_one_that_is_known<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let marked = |value: u8| NewRecord {
        origin: Some(Origin([1; 8])),
        marks: vec![Mark { key: "SN-1/record".into(), value: vec![value] }],
        ..self::value(Lane::Vitals, b"r")
    };
    append(&mut outbox, marked(1));
    assert_eq!(append(&mut outbox, marked(2)), Appended::Known);
    let outbox = rig.crash(outbox);
    assert_eq!(outbox.mark("SN-1/record"), Some(vec![2]));
    assert_eq!(outbox.mark("SN-2/record"), None);
}

fn definitions_come_with_the_records_that_use_them<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let what = What::Device(wire::Device { identity: "SN-1".into(), ..Default::default() });
    let number = outbox.define(&what);
    assert_eq!(outbox.define(&what), number);
    let reading = wire::Reading { device: number, ..Default::default() };
    let record = wire::Record { content: Some(Content::Reading(reading)), ..Default::default() };
    append(&mut outbox, value(Lane::Vitals, &record.encode_to_vec()));
    let mut outbox = rig.crash(outbox);
    let epoch = outbox.open_epoch().0;
    let chunk = outbox.read(epoch, Lane::Vitals, 1, ALL).unwrap();
    assert_eq!(chunk.definitions, [wire::Definition { number, what: Some(what.clone()) }]);
    assert_eq!(outbox.define(&what), number);
}

fn tidy(outbox: &mut impl Outbox) -> u32 {
    let mut steps = 0;
    while outbox.tidy().unwrap() {
        steps += 1;
        assert!(steps < 100, "tidying ends");
    }
    steps
}

fn gaps(journal: &[(u64, Content)], of: EpochId) -> Vec<(wire::Lane, u64, u64, wire::GapReason)> {
    let gap = |content: &Content| match content {
        Content::Gap(gap) if gap.epoch == of.0 => Some((gap.lane(), gap.first, gap.last, gap.reason())),
        _ => None,
    };
    journal.iter().filter_map(|(_, content)| gap(content)).collect()
}

fn i3_only_what_is_settled_is_deleted_and_its_numbers_stay_settled<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    let segment = |n: u8| {
        let class = if n.is_multiple_of(2) { Class::ContinuousWaveform } else { Class::PlanWaveform };
        NewRecord { class, origin: Some(Origin([n; 8])), ..value(Lane::Waveforms, &[n; 300]) }
    };
    for n in 1..=4 {
        append(&mut outbox, segment(n));
    }
    append(&mut outbox, value(Lane::Vitals, b"stays"));
    assert_eq!(tidy(&mut outbox), 0, "nothing is settled");
    outbox.settle(epoch, Lane::Waveforms, &Settlement::upto(4, Some(outbox.run()))).unwrap();
    outbox.settle(epoch, Lane::Vitals, &Settlement::upto(1, None)).unwrap();
    assert!(tidy(&mut outbox) > 0);
    for n in 5..=6 {
        append(&mut outbox, segment(n));
    }
    assert_eq!(tidy(&mut outbox), 0);
    for _ in 0..2 {
        let numbers = |chunk: super::outbox::Chunk| {
            assert_eq!(chunk.unreadable, Vec::<u64>::new());
            chunk.records.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>()
        };
        assert_eq!(numbers(outbox.read_local(epoch, Lane::Waveforms, 1, ALL).unwrap()), [5, 6]);
        assert_eq!(numbers(outbox.read(epoch, Lane::Waveforms, 1, ALL).unwrap()), [5, 6]);
        assert_eq!(numbers(outbox.read_local(epoch, Lane::Vitals, 1, ALL).unwrap()), [1]);
        let view = outbox.epochs().pop().unwrap().lanes[Lane::Waveforms.index()].clone();
        assert_eq!((view.oldest, view.next, view.octets), (5, 7, 2 * 316));
        assert_eq!(outbox.sealed_under(epoch, Lane::Waveforms, 2).unwrap(), None);
        assert_eq!(gaps(&journal(&mut outbox, epoch), epoch), [], "they are not taken for numbers that were never written");
        outbox = rig.crash(outbox);
    }
    assert_eq!(append(&mut outbox, segment(1)), Appended::Known, "what is deleted is known all the same");
    assert_eq!(append(&mut outbox, segment(7)), Appended::New { epoch, seq: 7 });
}

fn i3_a_restored_centre_is_told_once_of_what_was_deleted<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let epoch = outbox.open_epoch().0;
    for n in 0..6_u8 {
        append(&mut outbox, NewRecord { class: Class::ContinuousWaveform, ..value(Lane::Waveforms, &[n; 300]) });
    }
    outbox.settle(epoch, Lane::Waveforms, &Settlement::upto(6, None)).unwrap();
    tidy(&mut outbox);
    let mut restored = Settlement::upto(2, None);
    restored.add(Range { first: 5, last: 5, run: None });
    let purged = |first, last| (wire::Lane::Waveforms, first, last, wire::GapReason::PurgedAfterAck);
    for _ in 0..2 {
        outbox.reset_settled(epoch, Lane::Waveforms, &restored).unwrap();
        assert_eq!(gaps(&journal(&mut outbox, epoch), epoch), [purged(3, 4), purged(6, 6)]);
        let view = outbox.epochs().pop().unwrap().lanes[Lane::Waveforms.index()].clone();
        assert_eq!((view.oldest, view.octets), (7, 0), "they do not wait");
        assert_eq!(outbox.read(epoch, Lane::Waveforms, 1, ALL).unwrap().records, []);
        outbox = rig.crash(outbox);
    }
    outbox.reset_settled(epoch, Lane::Waveforms, &Settlement::default()).unwrap();
    let told = [purged(3, 4), purged(6, 6), purged(1, 2), purged(5, 5)];
    assert_eq!(gaps(&journal(&mut outbox, epoch), epoch), told, "restored further back still");
}

fn i3_an_epoch_that_is_settled_goes_whole_and_is_answered_for<R: Rig>() {
    let mut rig = R::default();
    let mut outbox = rig.open();
    let waits = outbox.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut outbox, value(Lane::Vitals, b"waits"));
    let settled = outbox.switch_epoch(Some("A-2"), EpochReason::AssignmentStart).unwrap();
    for _ in 0..3 {
        append(&mut outbox, value(Lane::Vitals, b"settled"));
    }
    let open = outbox.switch_epoch(Some("A-3"), EpochReason::AssignmentStart).unwrap();
    outbox.settle(settled, Lane::Vitals, &Settlement::upto(3, None)).unwrap();
    assert_eq!(tidy(&mut outbox), 0, "its journal waits");
    outbox.settle(settled, Lane::Journal, &Settlement::upto(2, None)).unwrap();
    assert!(tidy(&mut outbox) > 0);
    let mut outbox = rig.crash(outbox);
    assert_eq!(outbox.read(waits, Lane::Vitals, 1, ALL).unwrap().records, [(1, b"waits".to_vec())]);
    let chunk = outbox.read_local(settled, Lane::Vitals, 1, ALL).unwrap();
    assert_eq!((chunk.records, chunk.unreadable, chunk.next), (vec![], vec![], 4));
    assert_eq!(outbox.sealed_under(settled, Lane::Vitals, 2).unwrap(), None);
    let view = outbox.epochs().into_iter().find(|view| view.epoch == settled).unwrap();
    assert_eq!((view.lanes[Lane::Vitals.index()].next, view.drained(), view.open), (4, true, false));
    let foreign = StoreError::Foreign { epoch: settled, lane: Lane::Vitals, seq: 4 };
    assert_eq!(outbox.settle(settled, Lane::Vitals, &Settlement::upto(4, None)), Err(foreign.clone()));
    assert_eq!(outbox.reset_settled(settled, Lane::Vitals, &Settlement::upto(4, None)), Err(foreign));
    outbox.settle(settled, Lane::Vitals, &Settlement::upto(3, None)).unwrap();
    let purged = |first, last| (wire::Lane::Vitals, first, last, wire::GapReason::PurgedAfterAck);
    for _ in 0..2 {
        outbox.reset_settled(settled, Lane::Vitals, &Settlement::upto(1, None)).unwrap();
        assert_eq!(gaps(&journal(&mut outbox, open), settled), [purged(2, 3)]);
        outbox = rig.crash(outbox);
    }
    outbox.reset_settled(settled, Lane::Vitals, &Settlement::default()).unwrap();
    assert_eq!(gaps(&journal(&mut outbox, open), settled), [purged(2, 3), purged(1, 1)]);
    assert_eq!(tidy(&mut outbox), 0);
}

macro_rules! conform {
    ($rig:ident, $module:ident: $($name:ident),* $(,)?) => {
        mod $module {
            $(#[test]
            fn $name() {
                super::$name::<super::$rig>();
            })*
        }
    };
}

macro_rules! both_conform {
    ($($name:ident),* $(,)?) => {
        conform!(InMemory, in_memory: $($name),*);
        conform!(OnDisk, on_disk: $($name),*);
    };
}

both_conform!(
    i1_what_was_returned_survives_a_crash,
    i1_every_class_and_lane_is_read_back,
    i2_numbers_go_on_after_everything_was_settled_and_the_store_reopened,
    i2_each_opening_has_its_run_and_a_chunk_holds_one,
    i2a_a_known_origin_is_appended_once_within_a_group_later_after_a_crash_and_in_the_next_epoch,
    i3_what_is_settled_is_not_sent_again_and_stays_as_local_record,
    i2_a_settlement_of_numbers_that_were_never_given_settles_nothing,
    i6_a_quarantined_record_is_not_sent_and_the_others_flow,
    i2_what_the_centre_refused_and_no_longer_knows_waits_again,
    i6_a_record_past_its_bound_is_refused_and_none_of_its_group_is_kept,
    a_read_keeps_its_limits_and_always_gives_the_first_record,
    an_epoch_opens_and_closes_in_its_own_journal,
    i4_the_none_epoch_is_one_and_goes_on_above_its_own_numbers,
    a_closed_epoch_is_read_settled_and_drained,
    marks_are_kept_with_their_record_and_with_one_that_is_known,
    definitions_come_with_the_records_that_use_them,
    i3_only_what_is_settled_is_deleted_and_its_numbers_stay_settled,
    i3_a_restored_centre_is_told_once_of_what_was_deleted,
    i3_an_epoch_that_is_settled_goes_whole_and_is_answered_for,
);
