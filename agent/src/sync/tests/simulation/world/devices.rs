//! What the kit appends: records, those that a device sends again, and the starts and ends of assignments.

use std::time::Duration;

use kit_protocol::uplink::id::{Lane, Origin};
use kit_protocol::uplink::wire::EpochReason;

use super::{Happening, Planted, World};
use crate::store::outbox::{Appended, NewRecord, Outbox, StoreError};
use crate::sync::simulation::kit::Kit;

impl World {
    pub(super) fn append(&mut self) -> Result<(), String> {
        if self.now < self.quiet_from {
            let pause = Duration::from_millis(self.rng.u64(100..5_000));
            self.put(pause, Happening::Append);
        }
        let Some(mut kit) = self.kit.take() else { return Ok(()) };
        let mut group = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            group.push(self.measure(&mut kit));
        }
        let done = self.append_group(&mut kit, &group);
        kit.shelf_changed(self.now);
        self.kit = Some(kit);
        done
    }

    /// One fresh record.
    pub(super) fn append_one(&mut self, lane: Lane) -> Result<(), String> {
        let Some(mut kit) = self.kit.take() else { return Ok(()) };
        let (id, octets) = (self.ledger.fresh(), self.octets_for(lane));
        let record = kit.record(id, lane, octets, None);
        let done = self.append_group(&mut kit, &[(id, lane, None, record)]);
        kit.shelf_changed(self.now);
        self.kit = Some(kit);
        done
    }

    fn octets_for(&mut self, lane: Lane) -> Vec<u8> {
        let count = match lane {
            Lane::Waveforms => self.rng.usize(200..11_000),
            _ => self.rng.usize(0..300),
        };
        vec![self.rng.u8(..); count]
    }

    /// A fresh record, or one that its device sends again.
    pub(super) fn measure(&mut self, kit: &mut Kit) -> (u64, Lane, Option<Origin>, NewRecord) {
        let lane = Lane::ALL[self.rng.choice([0, 1, 1, 1, 2, 2, 3]).unwrap()];
        let known = self.ledger.origins.len();
        let again = known > 0 && self.rng.u8(..) < 12;
        let (id, origin) = if again {
            let (id, origin) = self.ledger.origins[self.rng.usize(0..known)];
            let broken = self.planted == Some(Planted::OriginsDiffer);
            (id, Some(if broken { Origin(self.ledger.fresh().to_be_bytes()) } else { origin }))
        } else {
            let id = self.ledger.fresh();
            (id, self.rng.bool().then(|| Origin(id.to_be_bytes())))
        };
        let octets = self.octets_for(lane);
        (id, lane, origin, kit.record(id, lane, octets, origin))
    }

    pub(super) fn append_group(&mut self, kit: &mut Kit, group: &[(u64, Lane, Option<Origin>, NewRecord)]) -> Result<(), String> {
        if self.planted == Some(Planted::ToldTooEarly) {
            let id = self.ledger.fresh();
            self.ledger.told(id, "nowhere".to_owned(), None, None);
        }
        let records: Vec<NewRecord> = group.iter().map(|(.., record)| record.clone()).collect();
        match kit.outbox.append(&records) {
            Ok(answers) => {
                let broken = self.planted == Some(Planted::OldAssignment);
                let assignment = kit.outbox.open_epoch().1.filter(|_| !broken).map(str::to_owned);
                for ((id, lane, origin, _), answer) in group.iter().zip(answers) {
                    match answer {
                        Appended::New { epoch, seq } => {
                            let key = format!("{epoch}/{lane}/{seq}");
                            self.ledger.told(*id, key, assignment.as_deref(), *origin);
                            self.ledger.appended(*id, *lane, self.now);
                        }
                        Appended::Known if origin.is_some() => {}
                        Appended::Known => return Err("a record without an origin was known (I2a)".into()),
                    }
                }
                Ok(())
            }
            Err(StoreError::Full(_)) => Ok(()),
            Err(StoreError::Broken(_)) => {
                kit.reopen(&self.disk, self.now);
                let lost = group.iter().filter(|(_, _, origin, _)| origin.is_none());
                lost.for_each(|(id, ..)| self.ledger.perhaps(*id));
                self.send_again(kit, group)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the device was not told as stored it sends again, where it can.
    pub(super) fn send_again(&mut self, kit: &mut Kit, group: &[(u64, Lane, Option<Origin>, NewRecord)]) -> Result<(), String> {
        for (id, lane, origin, _) in group.iter().filter(|(_, _, origin, _)| origin.is_some()) {
            let record = kit.record(*id, *lane, Vec::new(), *origin);
            match kit.outbox.append(&[record]) {
                Ok(answers) => match answers[0] {
                    // The first one reached the disk, or it was told long ago, under the assignment of then.
                    Appended::Known => self.ledger.perhaps(*id),
                    Appended::New { epoch, seq } => {
                        let assignment = kit.outbox.open_epoch().1.map(str::to_owned);
                        self.ledger.told(*id, format!("{epoch}/{lane}/{seq}"), assignment.as_deref(), *origin);
                    }
                },
                Err(StoreError::Full(_)) => self.ledger.perhaps(*id),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// An assignment starts or ends.
    pub(super) fn switch(&mut self) {
        if self.now < self.quiet_from {
            let pause = Duration::from_secs(self.rng.u64(20..300));
            self.put(pause, Happening::Switch);
        }
        let Some(kit) = &mut self.kit else { return };
        let ended = kit.outbox.open_epoch().1.is_some() && self.rng.bool();
        self.assignments += u32::from(!ended);
        let name = format!("a-{}", self.assignments);
        let (assignment, reason) =
            if ended { (None, EpochReason::AssignmentEnd) } else { (Some(name.as_str()), EpochReason::AssignmentStart) };
        // A disk that is full takes it later; this kit has another patient then.
        if kit.outbox.switch_epoch(assignment, reason).is_ok() {
            kit.shelf_changed(self.now);
        }
    }
}
