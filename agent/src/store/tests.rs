//! The store on a disk that was damaged, rolled back, filled, or cut at an awkward moment.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kit_protocol::uplink::id::{EpochId, Lane, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, EpochReason, record::Content};

use super::conformance::{ALL, append, copy_all, journal, options, value};
use super::epoch::{lane_index, lane_tree};
use super::epochs::{Options, Store};
use super::filing::Stamp;
use super::outbox::{Appended, Class, NewRecord, Outbox, StoreError};
use super::retention::Retention;
use super::seal::Kek;
use super::sled::{Commit, Tree};

fn store(dir: &Path) -> Store {
    Store::open(options(dir)).unwrap()
}

fn gaps(journal: &[(u64, Content)]) -> Vec<(wire::Lane, u64, u64, wire::GapReason)> {
    let gap = |content: &Content| match content {
        Content::Gap(gap) => Some((gap.lane(), gap.first, gap.last, gap.reason())),
        _ => None,
    };
    journal.iter().filter_map(|(_, content)| gap(content)).collect()
}

fn closed_with(journal: &[(u64, Content)], reason: EpochReason) -> Vec<(Vec<u8>, bool)> {
    let closed = |content: &Content| match content {
        Content::EpochClosed(closed) if closed.reason() == reason => {
            Some((closed.epoch.clone(), closed.ends.iter().all(|end| end.last.is_none())))
        }
        _ => None,
    };
    journal.iter().filter_map(|(_, content)| closed(content)).collect()
}

fn epoch_dir(dir: &Path, epoch: EpochId) -> PathBuf {
    dir.join("epochs").join(epoch.to_string())
}

/// Makes a database that does not open.
fn damage(epoch: &Path) {
    fs::write(epoch.join("q-000001/conf"), b"segment_size: nonsense\n....").unwrap();
}

fn segment(n: u8) -> NewRecord {
    NewRecord { class: Class::PlanWaveform, ..value(Lane::Waveforms, &[n; 500]) }
}

#[test]
fn i2_numbers_below_next_without_a_record_are_declared_once_and_never_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    append(&mut store, value(Lane::Vitals, b"one"));
    let epoch = store.open_epoch().0;
    let mut commit = Commit::default();
    commit.put(Tree::Next, &[lane_index(Lane::Vitals)], &5_u64.to_be_bytes());
    store.open_for_test().db.commit(commit).unwrap();
    drop(store);
    for _ in 0..2 {
        let mut store = self::store(dir.path());
        let expected = [(wire::Lane::Vitals, 2, 4, wire::GapReason::NeverWritten)];
        assert_eq!(gaps(&journal(&mut store, epoch)), expected);
        let view = store.epochs().pop().unwrap().lanes[Lane::Vitals.index()].clone();
        assert_eq!((view.oldest, view.next), (1, 5));
    }
    let mut store = self::store(dir.path());
    assert_eq!(append(&mut store, value(Lane::Vitals, b"five")), Appended::New { epoch, seq: 5 });
    assert_eq!(store.read(epoch, Lane::Vitals, 2, ALL).unwrap().records, [(5, b"five".to_vec())]);
}

#[test]
fn i2_next_falls_behind_no_record_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    for _ in 0..3 {
        append(&mut store, value(Lane::Vitals, b"r"));
    }
    let mut commit = Commit::default();
    commit.put(Tree::Next, &[lane_index(Lane::Vitals)], &1_u64.to_be_bytes());
    store.open_for_test().db.commit(commit).unwrap();
    drop(store);
    let mut store = self::store(dir.path());
    let epoch = store.open_epoch().0;
    assert_eq!(append(&mut store, value(Lane::Vitals, b"r")), Appended::New { epoch, seq: 4 });
}

#[test]
fn i2_a_number_given_again_after_the_store_was_rolled_back_is_sealed_under_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    drop(store(&live));
    let image = dir.path().join("image");
    copy_all(&live, &image);
    let mut seen: HashSet<(RunId, Lane, u64)> = HashSet::new();
    let mut ciphertexts: HashSet<Vec<u8>> = HashSet::new();
    for _ in 0..4 {
        fs::remove_dir_all(&live).unwrap();
        copy_all(&image, &live);
        for _ in 0..2 {
            let mut store = store(&live);
            for _ in 0..3 {
                let Appended::New { epoch, seq } = append(&mut store, value(Lane::Vitals, b"the same reading")) else {
                    panic!("known")
                };
                let run = store.sealed_under(epoch, Lane::Vitals, seq).unwrap().unwrap();
                assert!(seen.insert((run, Lane::Vitals, seq)), "a nonce met its key twice");
                let (_, sealed) =
                    store.open_for_test().db.at_or_below(lane_tree(Lane::Vitals), &seq.to_be_bytes()).unwrap().unwrap();
                assert!(ciphertexts.insert(sealed));
            }
        }
    }
    assert_eq!(seen.len(), 24);
}

#[test]
fn a_damaged_open_epoch_is_moved_aside_and_a_fresh_one_takes_its_assignment() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let lost = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut store, value(Lane::Vitals, b"lost unless salvaged"));
    drop(store);
    damage(&epoch_dir(dir.path(), lost));
    for _ in 0..2 {
        let mut store = self::store(dir.path());
        let (fresh, assignment) = store.open_epoch();
        assert_eq!(assignment, Some("A-1"));
        assert_ne!(fresh, lost);
        let journal = journal(&mut store, fresh);
        let Content::EpochOpened(opened) = &journal[0].1 else { panic!("{journal:?}") };
        assert_eq!((opened.reason(), opened.previous.as_slice()), (EpochReason::Damaged, &lost.0[..]));
        assert_eq!(closed_with(&journal, EpochReason::Damaged), [(lost.0.to_vec(), true)], "told once");
        append(&mut store, value(Lane::Vitals, b"life goes on"));
    }
    assert!(dir.path().join(format!("epochs/damaged-{lost}/q-000001/db")).exists(), "nothing of it is deleted");
}

#[test]
fn i4_a_cut_after_moving_aside_finds_the_assignment_in_what_was_moved() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let none = store.open_epoch().0;
    let lost = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    store.flush().unwrap();
    drop(store);
    let aside = dir.path().join(format!("epochs/damaged-{lost}"));
    fs::rename(epoch_dir(dir.path(), lost), &aside).unwrap();
    let mut store = self::store(dir.path());
    let (fresh, assignment) = store.open_epoch();
    assert_eq!(assignment, Some("A-1"));
    assert_eq!(closed_with(&journal(&mut store, fresh), EpochReason::Damaged), [(lost.0.to_vec(), true)]);
    drop(store);

    fs::write(epoch_dir(dir.path(), fresh).join("about"), b"does not open").unwrap();
    let mut store = self::store(dir.path());
    assert_eq!(store.open_epoch(), (none, None), "whose it was is unknown: nobody's, and there is one such epoch");
    assert_eq!(closed_with(&journal(&mut store, none), EpochReason::Damaged), [(fresh.0.to_vec(), true)]);
}

#[test]
fn a_cursor_that_is_known_opens_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let closed = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut store, value(Lane::Vitals, b"one"));
    let settled = Settlement::upto(1, Some(store.run()));
    store.settle(closed, Lane::Vitals, &settled).unwrap();
    store.switch_epoch(None, EpochReason::AssignmentEnd).unwrap();
    store.flush().unwrap();
    // Opening it would find it damaged and move it aside.
    damage(&epoch_dir(dir.path(), closed));
    store.reset_settled(closed, Lane::Vitals, &settled).unwrap();
    store.settle(closed, Lane::Vitals, &Settlement::upto(0, None)).unwrap();
    assert!(store.epochs().iter().any(|view| view.epoch == closed));
    assert_eq!(store.reset_settled(closed, Lane::Vitals, &Settlement::default()), Err(StoreError::NoEpoch(closed)));
}

#[test]
fn a_draining_epoch_that_is_damaged_is_moved_aside_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let lost = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut store, value(Lane::Vitals, b"one"));
    store.switch_epoch(Some("A-2"), EpochReason::AssignmentStart).unwrap();
    store.flush().unwrap();
    drop(store);
    damage(&epoch_dir(dir.path(), lost));
    let mut store = self::store(dir.path());
    assert!(store.epochs().iter().any(|view| view.epoch == lost), "listed by its summary, not opened");
    assert_eq!(store.read(lost, Lane::Vitals, 1, ALL).unwrap_err(), StoreError::NoEpoch(lost));
    assert!(!store.epochs().iter().any(|view| view.epoch == lost));
    let open = store.open_epoch().0;
    assert_eq!(closed_with(&journal(&mut store, open), EpochReason::Damaged), [(lost.0.to_vec(), true)]);
    append(&mut store, value(Lane::Vitals, b"life goes on"));
}

#[test]
fn a_drained_epoch_closes_its_database_and_keeps_what_is_known_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let drained = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut store, value(Lane::Vitals, b"one"));
    let run = store.run();
    store.switch_epoch(Some("A-2"), EpochReason::AssignmentStart).unwrap();
    store.settle(drained, Lane::Vitals, &Settlement::upto(1, Some(run))).unwrap();
    assert!(store.drains_for_test(), "its journal still waits");
    store.settle(drained, Lane::Journal, &Settlement::upto(2, None)).unwrap();
    assert!(!store.drains_for_test());
    assert!(store.epochs().iter().find(|view| view.epoch == drained).unwrap().drained());
    store.settle(drained, Lane::Vitals, &Settlement::upto(1, Some(run))).unwrap();
    assert!(!store.drains_for_test(), "what is known already does not open it");
    assert_eq!(store.read_local(drained, Lane::Vitals, 1, ALL).unwrap().records, [(1, b"one".to_vec())]);
}

#[test]
fn an_epoch_whose_key_is_damaged_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let lost = store.open_epoch().0;
    append(&mut store, value(Lane::Vitals, b"one"));
    drop(store);
    let path = epoch_dir(dir.path(), lost).join("key");
    let mut octets = fs::read(&path).unwrap();
    octets[20] ^= 1;
    fs::write(&path, octets).unwrap();
    let mut store = self::store(dir.path());
    let open = store.open_epoch().0;
    assert_eq!(closed_with(&journal(&mut store, open), EpochReason::Damaged), [(lost.0.to_vec(), true)]);
}

#[test]
fn another_key_encryption_key_or_kit_is_refused_and_moves_nothing_aside() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = store(dir.path()).open_epoch().0;
    for wrong in [
        Options { kek: Kek::new([6; 32]), ..options(dir.path()) },
        Options { kit: "KIT-0002".parse().unwrap(), ..options(dir.path()) },
    ] {
        assert!(matches!(Store::open(wrong), Err(StoreError::Broken(_))));
    }
    assert_eq!(store(dir.path()).open_epoch().0, epoch);
}

#[test]
fn a_store_is_opened_by_one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = store(dir.path());
    assert_eq!(Store::open(options(dir.path())).unwrap_err(), StoreError::Broken("another process has the store".into()));
    drop(held);
    store(dir.path());
}

#[test]
fn i4_a_cut_before_the_closing_leaves_the_old_epoch_open_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let open = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    let made = store.successor(Some("A-2"), EpochReason::AssignmentStart).unwrap().id;
    fs::create_dir_all(dir.path().join("epochs/new-00000000000000000000000000000000/q-000001")).unwrap();
    drop(store);
    let store = self::store(dir.path());
    assert_eq!(store.open_epoch(), (open, Some("A-1")));
    assert!(!epoch_dir(dir.path(), made).exists());
    assert_eq!(store.epochs().len(), 2);
}

#[test]
fn i4_a_cut_after_the_closing_goes_on_to_the_successor() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let old = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    let next = store.successor(Some("A-2"), EpochReason::AssignmentStart).unwrap();
    let made = next.id;
    store.close_for(&next, EpochReason::AssignmentStart).unwrap();
    drop((next, store));
    let mut store = self::store(dir.path());
    assert_eq!(store.open_epoch(), (made, Some("A-2")));
    assert!(matches!(journal(&mut store, made)[0].1, Content::EpochOpened(_)));
    assert!(matches!(journal(&mut store, old).last().unwrap().1, Content::EpochClosed(_)));
}

#[test]
fn i4_a_cut_after_the_closing_goes_on_to_the_none_epoch_when_an_assignment_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let none = store.open_epoch().0;
    store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    store.rest_for_test();
    let next = store.successor(None, EpochReason::AssignmentEnd).unwrap();
    store.close_for(&next, EpochReason::AssignmentEnd).unwrap();
    drop((next, store));
    let mut store = self::store(dir.path());
    assert_eq!(store.open_epoch(), (none, None));
    append(&mut store, value(Lane::Vitals, b"unassigned"));
}

#[test]
fn a_lost_pointer_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let open = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    store.flush().unwrap();
    drop(store);
    fs::write(dir.path().join("epochs/open"), b"not an id").unwrap();
    assert_eq!(self::store(dir.path()).open_epoch(), (open, Some("A-1")));
}

#[test]
fn i6_records_that_do_not_open_are_declared_once_and_the_others_flow() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let epoch = store.open_epoch().0;
    for n in 1..=4 {
        append(&mut store, segment(n));
    }
    drop(store);
    let path = epoch_dir(dir.path(), epoch).join("wp-000001");
    let mut octets = fs::read(&path).unwrap();
    let frame = octets.len() / 4;
    octets[frame + 100] ^= 1;
    octets.truncate(4 * frame - 10);
    fs::write(&path, octets).unwrap();

    let mut store = self::store(dir.path());
    let chunk = store.read(epoch, Lane::Waveforms, 1, ALL).unwrap();
    assert_eq!(chunk.records.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((chunk.unreadable, chunk.next), (vec![2, 4], 5));
    drop(store);
    let mut store = self::store(dir.path());
    assert_eq!(append(&mut store, segment(5)), Appended::New { epoch, seq: 5 });
    let chunk = store.read(epoch, Lane::Waveforms, 1, ALL).unwrap();
    assert_eq!((chunk.records.len(), chunk.unreadable), (2, vec![]), "they are not met again");
    assert_eq!(store.read(epoch, Lane::Waveforms, 4, ALL).unwrap().records.len(), 1, "a fresh file holds the next one");
    let unreadable = |seq| (wire::Lane::Waveforms, seq, seq, wire::GapReason::Unreadable);
    assert_eq!(gaps(&journal(&mut store, epoch)), [unreadable(2), unreadable(4)]);
    assert_eq!(store.quarantined().len(), 2);
}

#[test]
fn below_the_floor_appends_are_refused_and_all_else_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let epoch = store.open_epoch().0;
    append(&mut store, value(Lane::Vitals, b"one"));
    drop(store);
    let mut store = Store::open(Options { free_floor: u64::MAX / 2, ..options(dir.path()) }).unwrap();
    assert!(matches!(store.append(&[value(Lane::Vitals, b"two")]), Err(StoreError::Full(_))));
    assert_eq!(store.read(epoch, Lane::Vitals, 1, ALL).unwrap().records.len(), 1);
    store.settle(epoch, Lane::Vitals, &Settlement::upto(1, None)).unwrap();
    drop(store);
    let mut store = self::store(dir.path());
    assert_eq!(append(&mut store, value(Lane::Vitals, b"two")), Appended::New { epoch, seq: 2 });
}

/// A small disk of its own; needs the right to mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            _ => {
                eprintln!("SKIPPED: this machine does not let the test mount a tmpfs");
                None
            }
        }
    }

    /// Gives back the room that `file` takes. A process that another test has just forked still holds the file open until it
    /// execs, and a removed file's room comes back only when nobody has it open: so it is emptied first.
    fn free(&self, file: &Path) {
        assert!(file.starts_with(self.0.path()));
        fs::write(file, b"").unwrap();
        fs::remove_file(file).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).output());
    }
}

#[test]
fn i1_a_full_disk_refuses_appends_loses_nothing_and_takes_them_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let dir = disk.0.path().join("store");
    let mut store = store(&dir);
    let epoch = store.open_epoch().0;
    let mut stored = 0_u64;
    let refused = loop {
        match store.append(&[value(Lane::Vitals, &[9; 7_000])]) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    let fill = disk.0.path().join("fill");
    let room = super::files::room(&dir).unwrap();
    fs::write(&fill, vec![0; usize::try_from(room).unwrap() - (1 << 20)]).unwrap();
    let chunk = store.read(epoch, Lane::Vitals, 1, ALL).unwrap();
    assert_eq!(u64::try_from(chunk.records.len()).unwrap(), stored);
    drop(store);
    assert!(matches!(Store::open(options(&dir)), Err(StoreError::Full(_))), "no room to open, and nothing moved aside");
    disk.free(&fill);
    let mut store = self::store(&dir);
    assert_eq!(store.open_epoch().0, epoch);
    let chunk = store.read(epoch, Lane::Vitals, 1, ALL).unwrap();
    assert_eq!(u64::try_from(chunk.records.len()).unwrap(), stored);
}

#[test]
fn i1_a_disk_that_fills_within_a_commit_loses_nothing_that_was_told_and_burns_the_numbers() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let dir = disk.0.path().join("store");
    let mut store = store(&dir);
    let epoch = store.open_epoch().0;
    append(&mut store, segment(1));
    let room = super::files::room(&dir).unwrap();
    let fill = disk.0.path().join("fill");
    fs::write(&fill, vec![0; usize::try_from(room).unwrap()]).unwrap();
    // Past the check for room: another process took it in between. Segments meet the full disk before the database does.
    let group: Vec<_> = (0..20).map(|_| NewRecord { bytes: vec![7; 11_000], ..segment(2) }).collect();
    let refused = store.open_for_test().append_with(Commit::default(), &group).unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    disk.free(&fill);
    assert_eq!(append(&mut store, segment(3)), Appended::New { epoch, seq: 22 }, "no number is sealed twice in a run");
    let numbers: Vec<_> = store.read(epoch, Lane::Waveforms, 1, ALL).unwrap().records.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, [1, 22]);
    let expected = [(wire::Lane::Waveforms, 2, 21, wire::GapReason::NeverWritten)];
    assert_eq!(gaps(&journal(&mut store, epoch)), expected);
    drop(store);
    let mut store = self::store(&dir);
    assert_eq!(gaps(&journal(&mut store, epoch)), expected, "and is not declared again");
}

#[test]
fn i1_a_database_that_met_a_full_disk_opens_again_with_all_that_was_told() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let dir = disk.0.path().join("store");
    let mut store = store(&dir);
    let epoch = store.open_epoch().0;
    for n in 0..50 {
        append(&mut store, value(Lane::Vitals, &[n; 1_000]));
    }
    let fill = disk.0.path().join("fill");
    let room = usize::try_from(super::files::room(&dir).unwrap()).unwrap();
    fs::write(&fill, vec![0; room]).unwrap();
    let group: Vec<_> = (0..200).map(|_| value(Lane::Vitals, &[8; 7_000])).collect();
    let failed = store.open_for_test().append_with(Commit::default(), &group).unwrap_err();
    assert!(matches!(failed, StoreError::Broken(_)), "{failed}");
    drop(store);
    disk.free(&fill);
    let mut store = self::store(&dir);
    let chunk = store.read(epoch, Lane::Vitals, 1, ALL).unwrap();
    assert!(chunk.records.len() == 50 || chunk.records.len() == 250, "all of the group or none: {}", chunk.records.len());
    append(&mut store, value(Lane::Vitals, b"life goes on"));
}

fn continuous(n: u8) -> NewRecord {
    NewRecord { class: Class::ContinuousWaveform, ..segment(n) }
}

fn tidy(store: &mut Store) {
    while store.tidy().unwrap() {}
}

#[test]
fn i3_a_file_goes_once_it_is_settled_and_past_its_time_and_not_before() {
    const DAY_NS: u64 = 86_400_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(5 * DAY_NS));
    let open = |boot_began: u64| {
        let now = Arc::clone(&now);
        let stamp = Arc::new(move || {
            let clock = wire::Clock { boot_id: vec![7; 16], ..Default::default() };
            Stamp { boottime_ns: now.load(Ordering::Relaxed) - boot_began, clock }
        });
        Store::open(Options { stamp, retention: Retention::default(), ..options(dir.path()) }).unwrap()
    };
    let mut store = open(0);
    let epoch = store.open_epoch().0;
    append(&mut store, segment(1));
    append(&mut store, continuous(2));
    let files = |wanted: &[&str]| {
        let names = super::files::names(&epoch_dir(dir.path(), epoch)).unwrap();
        let names: Vec<_> = names.into_iter().filter(|name| name.starts_with("wc-") || name.starts_with("wp-")).collect();
        assert_eq!(names, wanted);
    };
    now.fetch_add(3 * DAY_NS, Ordering::Relaxed);
    tidy(&mut store);
    files(&["wc-000001", "wp-000001"]);
    store.settle(epoch, Lane::Waveforms, &Settlement::upto(2, None)).unwrap();
    append(&mut store, continuous(3));
    store.settle(epoch, Lane::Waveforms, &Settlement::upto(3, None)).unwrap();
    tidy(&mut store);
    files(&["wc-000001", "wp-000001"]);
    now.fetch_add(DAY_NS, Ordering::Relaxed);
    tidy(&mut store);
    store.flush().unwrap();
    drop(store);

    // Another boot, whose clock begins again.
    let mut store = open(9 * DAY_NS);
    tidy(&mut store);
    files(&["wc-000001", "wp-000001"]);
    now.fetch_add(DAY_NS, Ordering::Relaxed);
    tidy(&mut store);
    files(&["wp-000001"]);
    let numbers = |store: &mut Store| {
        let records = store.read_local(epoch, Lane::Waveforms, 1, ALL).unwrap().records;
        records.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&mut store), [1]);
    now.fetch_add(26 * DAY_NS, Ordering::Relaxed);
    tidy(&mut store);
    files(&[]);
    assert_eq!(append(&mut store, continuous(4)), Appended::New { epoch, seq: 4 });
    files(&["wc-000002"]);
}

#[test]
fn i3_a_cut_within_the_deletion_of_a_file_is_made_good_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let epoch = store.open_epoch().0;
    for n in 1..=3 {
        append(&mut store, continuous(n));
    }
    store.settle(epoch, Lane::Waveforms, &Settlement::upto(3, None)).unwrap();
    let path = epoch_dir(dir.path(), epoch).join("wc-000001");
    let octets = fs::read(&path).unwrap();
    tidy(&mut store);
    append(&mut store, continuous(4));
    // As it is between the commit and the unlinking.
    let mut commit = Commit::default();
    commit.put(Tree::Files, &super::deletion::file_key(Class::ContinuousWaveform, 1), &[0xFF]);
    store.open_for_test().db.commit(commit).unwrap();
    drop(store);
    fs::write(&path, octets).unwrap();
    for _ in 0..2 {
        let mut store = self::store(dir.path());
        assert!(!path.exists());
        let chunk = store.read_local(epoch, Lane::Waveforms, 1, ALL).unwrap();
        assert_eq!((chunk.records.len(), chunk.unreadable), (1, vec![]));
        assert_eq!(gaps(&journal(&mut store, epoch)), []);
    }
}

#[test]
fn i3_a_cut_within_the_deletion_of_an_epoch_is_made_good_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let old = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart).unwrap();
    append(&mut store, value(Lane::Vitals, b"one"));
    let open = store.switch_epoch(Some("A-2"), EpochReason::AssignmentStart).unwrap();
    store.settle(old, Lane::Vitals, &Settlement::upto(1, None)).unwrap();
    store.settle(old, Lane::Journal, &Settlement::upto(2, None)).unwrap();
    let image = dir.path().join("image");
    copy_all(&epoch_dir(dir.path(), old), &image);
    tidy(&mut store);
    assert!(!epoch_dir(dir.path(), old).exists());
    drop(store);
    // Before its directory is renamed, and before all of it is removed.
    for name in [old.to_string(), format!("gone-{old}")] {
        let there = dir.path().join("epochs").join(&name);
        copy_all(&image, &there);
        let store = self::store(dir.path());
        assert!(!there.exists(), "{name}");
        assert_eq!(store.open_epoch().0, open);
        assert_eq!(store.epochs().iter().filter(|view| view.epoch == old).count(), 1);
    }
    // What is known of deleted epochs is lost: nothing else is.
    fs::write(dir.path().join("bygone"), b"damaged").unwrap();
    assert_eq!(self::store(dir.path()).open_epoch().0, open);
}

#[test]
fn the_index_does_not_grow_with_what_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let epoch = store.open_epoch().0;
    for round in 1..=20_u64 {
        let group: Vec<_> = (0..50).map(continuous).collect();
        store.append(&group).unwrap();
        store.settle(epoch, Lane::Waveforms, &Settlement::upto(50 * round, None)).unwrap();
        tidy(&mut store);
    }
    let values = store.open_for_test().db.from(lane_tree(Lane::Waveforms), &[]).unwrap().count();
    assert_eq!(values, 1, "the lane's last");
    assert_eq!(store.open_for_test().db.from(Tree::Gone, &[]).unwrap().count(), 1);
    assert_eq!(store.open_for_test().db.from(Tree::Files, &[]).unwrap().count(), 0);
    assert_eq!(store.epochs().pop().unwrap().lanes[Lane::Waveforms.index()].octets, 0);
}
