//! What goes wrong in one run, and when: all of it drawn from a seed.

use std::time::Duration;

/// How long records are made, and until when faults begin.
pub(super) const BUSY: Duration = Duration::from_secs(600);
/// Faults of one run, at most.
const FAULTS_MAX: usize = 12;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) what: What,
}

/// What a fault does while it lasts, or at its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// Connections break and none is made.
    Cut,
    /// Nothing passes, and nobody is told.
    Stall,
    /// The broker says no to the kit.
    Refuse,
    /// PUBACKs get lost on a connection that stands.
    LosePubacks,
    /// PUBACKs come twice.
    RepeatPubacks,
    /// PUBACKs come late and in another order.
    ReorderPubacks,
    /// The centre's answers get lost.
    LoseAnswers,
    /// Everything comes to the centre twice.
    RepeatDeliveries,
    /// The broker is down, and remembers.
    BrokerDown,
    /// The broker is down, and forgets all that it had.
    BrokerWiped,
    /// The centre is away, the broker keeps its messages.
    CentreDown,
    /// The centre is away, and the broker knows of nobody who wants its messages.
    CentreForgotten,
    /// The centre dies with a message taken and not committed.
    CentreDiesBeforeCommit,
    /// The centre dies with a message committed and not answered.
    CentreDiesAfterCommit,
    /// The centre comes back with yesterday's database: that of the fault's beginning.
    CentreRestored,
    /// Records are gone from the centre's database, and at the fault's end it notices, and asks for them.
    CentreLosesRecords,
    /// The centre cannot believe the kit's batches.
    CentreDisbelieves,
    /// The centre's database takes nothing: later.
    DatabaseTrouble,
    /// SIGKILL, and a start at the end of it.
    KitKilled,
    /// The next commit fails before it reaches the disk.
    CommitFailsBefore,
    /// The next commit fails after it reached the disk.
    CommitFailsAfter,
    /// The disk is full.
    DiskFull,
}

impl What {
    pub(super) const ALL: [Self; 22] = [
        Self::Cut,
        Self::Stall,
        Self::Refuse,
        Self::LosePubacks,
        Self::RepeatPubacks,
        Self::ReorderPubacks,
        Self::LoseAnswers,
        Self::RepeatDeliveries,
        Self::BrokerDown,
        Self::BrokerWiped,
        Self::CentreDown,
        Self::CentreForgotten,
        Self::CentreDiesBeforeCommit,
        Self::CentreDiesAfterCommit,
        Self::CentreRestored,
        Self::CentreLosesRecords,
        Self::CentreDisbelieves,
        Self::DatabaseTrouble,
        Self::KitKilled,
        Self::CommitFailsBefore,
        Self::CommitFailsAfter,
        Self::DiskFull,
    ];
}

/// The faults of a seed, in the order of their beginnings.
pub(super) fn schedule(seed: u64) -> Vec<Fault> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x05ce_da11);
    let mut faults: Vec<Fault> = (0..rng.usize(0..=FAULTS_MAX))
        .map(|_| Fault {
            at: Duration::from_millis(rng.u64(0..u64::try_from(BUSY.as_millis()).unwrap())),
            // Short ones more often than long ones.
            lasts: Duration::from_millis(1 << rng.u32(2..18)),
            what: What::ALL[rng.usize(0..What::ALL.len())],
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// The shortest schedule found that still fails: without each fault in turn, for as long as that helps.
pub(super) fn shortest(mut faults: Vec<Fault>, fails: impl Fn(&[Fault]) -> bool) -> Vec<Fault> {
    loop {
        let shorter = (0..faults.len()).map(|left_out| {
            let kept = faults.iter().enumerate().filter(|(index, _)| *index != left_out);
            kept.map(|(_, fault)| *fault).collect::<Vec<_>>()
        });
        match shorter.into_iter().find(|faults| fails(faults)) {
            Some(found) => faults = found,
            None => return faults,
        }
    }
}
