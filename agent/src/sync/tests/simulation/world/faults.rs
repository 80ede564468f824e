//! What each fault does.

use std::time::Duration;

use super::{Happening, World};
use crate::store::memory::Fail;
use crate::sync::simulation::kit::Kit;
use crate::sync::simulation::schedule::What;

impl World {
    pub(super) fn begins(&mut self, what: What) {
        *self.active.entry(what).or_default() += 1;
        match what {
            What::Cut => self.break_connections(),
            What::BrokerDown | What::BrokerWiped => {
                self.broker.up = false;
                self.break_connections();
                if what == What::BrokerWiped {
                    self.broker.wipe();
                }
            }
            What::CentreDown | What::CentreForgotten => {
                if self.rng.bool() {
                    self.announce(false);
                }
                self.centre.up = false;
                if what == What::CentreForgotten {
                    self.broker.centre_subscribed = false;
                    self.broker.for_centre.clear();
                }
            }
            What::CentreRestored => self.backup = Some(self.centre.database.clone()),
            What::CentreLosesRecords => {
                let every = self.rng.usize(1..9);
                self.centre.lose(every);
            }
            What::DatabaseTrouble => self.centre.trouble = true,
            What::KitKilled => {
                self.kit_hangs_up();
                self.kit = None;
            }
            What::CommitFailsBefore => self.disk.lock().unwrap().fail_next_commit = Some(Fail::Before),
            What::CommitFailsAfter => self.disk.lock().unwrap().fail_next_commit = Some(Fail::After),
            What::DiskFull => self.disk.lock().unwrap().full = true,
            _ => {}
        }
    }

    pub(super) fn ends(&mut self, what: What) {
        if let Some(count) = self.active.get_mut(&what) {
            *count = count.saturating_sub(1);
        }
        if self.during(what) {
            return;
        }
        match what {
            What::Stall => {
                for happening in std::mem::take(&mut self.held) {
                    self.put(Duration::ZERO, happening);
                }
            }
            What::BrokerDown | What::BrokerWiped if !self.during(What::BrokerDown) && !self.during(What::BrokerWiped) => {
                self.broker.up = true;
                let after = Duration::from_millis(self.rng.u64(100..4_000));
                self.put(after, Happening::CentreReturns);
            }
            What::CentreDown | What::CentreForgotten => self.centre_returns(),
            What::CentreRestored => {
                if let Some(backup) = self.backup.take() {
                    self.centre.database = backup;
                    self.centre.up = false;
                    self.put(Duration::from_secs(2), Happening::CentreReturns);
                }
            }
            What::CentreLosesRecords => self.centre.notice_loss(),
            What::DatabaseTrouble => self.centre.trouble = false,
            What::KitKilled => self.kit = Some(Kit::start(&self.disk, self.rng.u64(..), self.now)),
            What::DiskFull => self.disk.lock().unwrap().full = false,
            _ => {}
        }
    }
}
