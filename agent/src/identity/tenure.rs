//! Since when an assignment is active, and how many have ended: what a device's memory is judged by (I4). It survives a wipe.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use kit_protocol::uplink::wire;
use prost::Message;
use ring::digest::{SHA256, digest};

use super::secret::write_durably;

/// Activations that are kept: the assignment that is active, and the one that is to become it.
const KEPT_MAX: usize = 2;

/// Since when an assignment is active.
#[derive(Clone, PartialEq, Message)]
pub struct Activation {
    /// What stands for its id: see [`named`].
    #[prost(string, tag = "1")]
    pub assignment: String,
    /// The gateway's clock then.
    #[prost(message, optional, tag = "2")]
    pub clock: Option<wire::Clock>,
    /// The moment, ns of that boot.
    #[prost(uint64, tag = "3")]
    pub boottime_ns: u64,
}

/// What stands for an assignment in this file, which is not sealed: hexadecimal, of the first 16 octets of its id's SHA-256.
fn named(id: &str) -> String {
    digest(&SHA256, id.as_bytes()).as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}

/// Under whom a conversation runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenure {
    /// The active assignment; `None`: everything is kept as unassigned.
    pub active: Option<Activation>,
    /// How many assignments have ended on this kit.
    pub ended: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Known {
    #[prost(uint64, tag = "1")]
    ended: u64,
    #[prost(message, repeated, tag = "2")]
    activations: Vec<Activation>,
}

/// The file of it.
#[derive(Debug)]
pub struct Tenures {
    path: PathBuf,
    known: Mutex<Known>,
}

impl Tenures {
    /// Reads the file. One that is not there, or damaged, knows of no activation: what is active then counts from when it is
    /// first asked for, and nothing that a device remembers from before is taken.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let read = std::fs::read(&path).ok().and_then(|octets| Known::decode(octets.as_slice()).ok());
        Self { path, known: Mutex::new(read.unwrap_or_default()) }
    }

    /// The assignment changes, `at` this moment: on the disk before this returns, and before the epoch changes. What a power cut
    /// leaves between the two lets less of a device's memory be taken, never more.
    ///
    /// Errors: what the disk says; nothing changed.
    pub fn change(&self, from: Option<&str>, to: Option<&str>, clock: wire::Clock, boottime_ns: u64) -> io::Result<()> {
        if from == to {
            return Ok(());
        }
        let mut known = self.known();
        let mut next = known.clone();
        next.ended += u64::from(from.is_some());
        let from = from.map(named);
        next.activations.retain(|activation| Some(&activation.assignment) == from.as_ref());
        next.activations.extend(to.map(|id| Activation { assignment: named(id), clock: Some(clock), boottime_ns }));
        debug_assert!(next.activations.len() <= KEPT_MAX, "of the one before and the one after");
        write_durably(&self.path, &next.encode_to_vec())?;
        *known = next;
        Ok(())
    }

    /// The tenure of the assignment that is active. One of which nobody knows since when begins now.
    pub fn of(&self, assignment: Option<&str>, clock: wire::Clock, boottime_ns: u64) -> Tenure {
        let mut known = self.known();
        let Some(id) = assignment else { return Tenure { active: None, ended: known.ended } };
        let id = named(id);
        let found = known.activations.iter().find(|activation| activation.assignment == id).cloned();
        let active = found.unwrap_or_else(|| {
            let begun = Activation { assignment: id, clock: Some(clock), boottime_ns };
            known.activations = vec![begun.clone()];
            // Records of a device's memory cannot be told from the last patient's any more.
            known.ended += 1;
            if let Err(error) = write_durably(&self.path, &known.encode_to_vec()) {
                tracing::warn!(%error, "since when the assignment is active could not be kept; it counts from this start");
            }
            begun
        });
        Tenure { active: Some(active), ended: known.ended }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        match self.known.lock() {
            Ok(guard) => guard,
            // It is changed whole or not at all.
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> wire::Clock {
        wire::Clock { boot_id: vec![1; 16], ..wire::Clock::default() }
    }

    fn since(tenure: &Tenure) -> Option<u64> {
        tenure.active.as_ref().map(|active| active.boottime_ns)
    }

    #[test]
    fn i4_an_activation_is_known_after_a_restart_and_a_power_cut_before_the_epoch_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tenure");
        let tenures = Tenures::load(path.clone());
        assert_eq!(tenures.of(None, clock(), 1), Tenure::default());
        tenures.change(None, Some("A-1"), clock(), 10).unwrap();
        tenures.change(Some("A-1"), Some("A-2"), clock(), 20).unwrap();
        let again = Tenures::load(path.clone());
        // The cut came before the epoch changed: the old one goes on, and is not taken for new.
        assert_eq!(since(&again.of(Some("A-1"), clock(), 30)), Some(10));
        let second = again.of(Some("A-2"), clock(), 30);
        assert_eq!((since(&second), second.ended), (Some(20), 1));
        again.change(Some("A-2"), Some("A-2"), clock(), 40).unwrap();
        assert_eq!(since(&again.of(Some("A-2"), clock(), 50)), Some(20), "activated twice is activated once");
        again.change(Some("A-2"), None, clock(), 60).unwrap();
        assert_eq!(Tenures::load(path).of(None, clock(), 70).ended, 2);
    }

    #[test]
    fn i4_an_assignment_of_which_nobody_knows_since_when_begins_when_it_is_first_met() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tenure");
        std::fs::write(&path, [0xff; 4]).unwrap();
        assert_eq!(since(&Tenures::load(path.clone()).of(Some("A-1"), clock(), 99)), Some(99));
        assert_eq!(since(&Tenures::load(path).of(Some("A-1"), clock(), 200)), Some(99));
    }
}
