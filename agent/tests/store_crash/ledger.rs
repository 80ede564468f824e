//! Made = stored: what was told is there, once, under its key, and every number is accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kit_agent::store::Store;
use kit_agent::store::outbox::{Outbox, ReadLimit};
use kit_protocol::uplink::id::Lane;
use kit_protocol::uplink::wire::{self, record::Content};
use prost::Message;

use super::writer::{Key, number, options};

const ALL: ReadLimit = ReadLimit { octets: usize::MAX, records: usize::MAX, before: u64::MAX };

/// Opens the store in `dir` and checks it against what was `told`; gives how many records it holds.
pub(crate) fn check(dir: &Path, told: &BTreeMap<u64, Key>, story: &str) -> usize {
    // A thread of the store may still hold the lock for a moment after its last handle went.
    let mut store = loop {
        match Store::open(options(dir)) {
            Ok(store) => break store,
            Err(error) if error.to_string().contains("another process") => std::thread::yield_now(),
            Err(error) => panic!("{story}: the store does not open: {error}"),
        }
    };
    let mut found: BTreeMap<u64, Key> = BTreeMap::new();
    let mut present: BTreeSet<Key> = BTreeSet::new();
    let mut declared: Vec<wire::Gap> = Vec::new();
    let views = store.epochs();
    for view in &views {
        for lane in Lane::ALL {
            let mut from = 1;
            loop {
                let chunk = store.read_local(view.epoch, lane, from, ALL).unwrap();
                assert_eq!(chunk.unreadable, Vec::<u64>::new(), "{story}: records of {lane} do not open");
                for (seq, bytes) in &chunk.records {
                    assert!(present.insert((view.epoch, lane, *seq)), "{story}: {lane} {seq} twice");
                    match (number(bytes), wire::Record::decode(bytes.as_slice()).unwrap().content) {
                        (Some(n), _) => {
                            let twice = found.insert(n, (view.epoch, lane, *seq));
                            assert_eq!(twice, None, "{story}: record {n} is stored twice");
                        }
                        (None, Some(Content::Gap(gap))) => declared.push(gap),
                        (None, _) => {}
                    }
                }
                if chunk.records.is_empty() {
                    break;
                }
                from = chunk.next;
            }
        }
    }
    let lost: Vec<_> = told.iter().filter(|(n, key)| found.get(n) != Some(key)).collect();
    assert!(lost.is_empty(), "{story}: {} of {} told records are not there, the first {:?}", lost.len(), told.len(), lost[0]);
    for view in &store.epochs() {
        for lane in Lane::ALL {
            for seq in 1..view.lanes[lane.index()].next {
                let is_declared = || {
                    declared.iter().any(|gap| {
                        gap.epoch == view.epoch.0 && gap.lane() == lane.to_wire() && (gap.first..=gap.last).contains(&seq)
                    })
                };
                assert!(present.contains(&(view.epoch, lane, seq)) || is_declared(), "{story}: {lane} {seq} is unaccounted for");
            }
        }
    }
    let names: Vec<_> = std::fs::read_dir(dir.join("epochs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("damaged")), "{story}: an epoch was moved aside");
    found.len()
}
