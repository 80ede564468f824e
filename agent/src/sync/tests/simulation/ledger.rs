//! What was told as stored, and where it must be at the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{Lane, Origin};
use kit_protocol::uplink::wire;
use prost::Message as _;

use super::centre::{Database, Fate, Id, is_poison};

/// The first number of the ledger's records: the store's own journal records have smaller times.
const FIRST: Id = 1_000;

/// Where a record is on the kit, and under which assignment.
#[derive(Debug)]
struct Told {
    key: String,
    assignment: Option<String>,
}

/// The books of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    next: Id,
    /// What `append` answered.
    told: HashMap<Id, Told>,
    /// What may be on the disk although `append` failed.
    perhaps: HashSet<Id>,
    /// Urgent records that are not at the centre, since when.
    urgent: HashMap<Id, Moment>,
    urgent_wait: Duration,
    /// Origins of what was told, to be sent again by their devices.
    pub(super) origins: Vec<(Id, Origin)>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            next: FIRST,
            told: HashMap::new(),
            perhaps: HashSet::new(),
            urgent: HashMap::new(),
            urgent_wait: Duration::ZERO,
            origins: Vec::new(),
        }
    }

    pub(super) fn fresh(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    pub(super) fn told(&mut self, id: Id, key: String, assignment: Option<&str>, origin: Option<Origin>) {
        self.told.insert(id, Told { key, assignment: assignment.map(str::to_owned) });
        self.origins.extend(origin.map(|origin| (id, origin)));
    }

    pub(super) fn appended(&mut self, id: Id, lane: Lane, now: Moment) {
        if lane == Lane::Urgent {
            self.urgent.insert(id, now);
        }
    }

    /// The centre has committed a batch.
    pub(super) fn committed(&mut self, batch: &wire::Batch, now: Moment) {
        for record in batch.entries.iter().filter_map(|entry| wire::Record::decode(entry.record.as_slice()).ok()) {
            if let Some(since) = self.urgent.remove(&record.boottime_ns) {
                self.urgent_wait = self.urgent_wait.max(now.since(since));
            }
        }
    }

    /// The longest wait of an urgent record, those that still wait included.
    pub(super) fn urgent_wait(&self, now: Moment) -> Duration {
        self.urgent.values().map(|since| now.since(*since)).fold(self.urgent_wait, Duration::max)
    }

    pub(super) fn perhaps(&mut self, id: Id) {
        self.perhaps.insert(id);
    }

    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// What of all that was told is not at the centre, by its key on the kit; and whether anything there is double, made by
    /// nothing or under another name.
    pub(super) fn missing(&self, database: &Database) -> Result<Vec<&str>, String> {
        let mut found: HashMap<Id, u32> = HashMap::new();
        for ((epoch, lane), records) in &database.lanes {
            for (seq, stored) in records {
                let id = stored.id;
                if id < FIRST {
                    continue;
                }
                let key = format!("{epoch}/{lane}/{seq}");
                match self.told.get(&id) {
                    Some(Told { assignment, .. }) if *assignment != stored.assignment => {
                        return Err(format!("{key} is under {:?}, and was told under {assignment:?} (I4)", stored.assignment));
                    }
                    None if !self.perhaps.contains(&id) => return Err(format!("{key} was made by nothing")),
                    _ => {}
                }
                if stored.fate == Fate::Duplicate {
                    return Err(format!("{key} was appended although its origin was known (I2a)"));
                }
                if (stored.fate == Fate::Rejected) != is_poison(id) {
                    return Err(format!("{key} has another fate than it should"));
                }
                let count = found.entry(id).or_default();
                *count += 1;
                if *count > 1 {
                    return Err(format!("{key} is at the centre twice (I2)"));
                }
            }
        }
        Ok(self.told.iter().filter(|(id, _)| !found.contains_key(id)).map(|(_, told)| told.key.as_str()).collect())
    }
}
