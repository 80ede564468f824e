//! The world around a kit: what happens next, and the end. One thread, and no clock but its own.

mod devices;
mod faults;
mod uplink;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane};

use super::broker::{Broker, ConnectionId, Down, Publish};
use super::centre::{Centre, Database};
use super::kit::Kit;
use super::ledger::Ledger;
use super::schedule::{BUSY, Fault, What};
use crate::store::memory::Disk;
use crate::store::outbox::Outbox;
use crate::sync::planner::{Event, Ticket};
use wire::Wire;

/// Steps of one run, at most.
const STEPS_MAX: usize = 400_000;
/// After the last fault everything is at the centre within this, and what the link needs for it.
const RECOVERY_MAX: Duration = Duration::from_secs(780);
/// The centre renews its state at this pace.
const RENEWAL: Duration = Duration::from_secs(60);
/// Records of each lane that a full kit has at its start.
const BACKLOG: usize = 400;
/// The centre takes a message in this time.
const INTAKE: Duration = Duration::from_millis(4);

/// What is broken on purpose: a run that finds nothing wrong then proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// The centre acknowledges a batch and loses its last record.
    CentreForgets,
    /// A device's measurement gets another origin when it is sent again.
    OriginsDiffer,
    /// A record is told as stored and is not on the disk.
    ToldTooEarly,
    /// An assignment's records are taken for those of the one before.
    OldAssignment,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) steps: usize,
    pub(super) records: usize,
    pub(super) connections: u64,
    /// From the last fault's end, or the last record, to the moment when all was at the centre.
    pub(super) recovery: Duration,
    /// Records in batches.
    pub(super) sent: usize,
    /// Records that wait for nobody: refused for good.
    pub(super) quarantined: usize,
    /// Records at the centre, by lane.
    pub(super) stored: [usize; 4],
    /// From an urgent record's commit on the kit to that at the centre, at most.
    pub(super) urgent_wait: Duration,
}

#[derive(Debug)]
enum Happening {
    Append,
    AppendUrgent,
    Switch,
    Begins(usize),
    Ends(usize),
    Connected(ConnectionId),
    ToBroker { connection: ConnectionId, ticket: Ticket, publish: Publish },
    ToKit { connection: ConnectionId, down: Down },
    KitNotices(ConnectionId),
    BrokerNotices(ConnectionId),
    CentreTakes,
    CentreReturns,
    CentreRenews,
    Look,
    Stop,
}

pub(super) struct World {
    now: Moment,
    rng: fastrand::Rng,
    queue: BTreeMap<(Moment, u64), Happening>,
    serial: u64,
    faults: Vec<Fault>,
    active: HashMap<What, u32>,
    /// What a stalled link holds.
    held: Vec<Happening>,
    disk: Arc<Mutex<Disk>>,
    kit: Option<Kit>,
    broker: Broker,
    centre: Centre,
    backup: Option<Database>,
    /// What the centre ever committed.
    ever: BTreeMap<(EpochId, Lane), BTreeSet<u64>>,
    ledger: Ledger,
    connections: u64,
    limits: (u16, Option<usize>),
    octets_per_second: u64,
    delay: Duration,
    /// What the centre wants of the backlog; 0: as fast as it goes.
    drain_octets_per_s: u32,
    link_free: Moment,
    assignments: u32,
    quiet_from: Moment,
    planted: Option<Planted>,
    wire: Wire,
    sent: usize,
    /// The kit has a backlog when it starts.
    full: bool,
}

/// Runs a seed against a schedule.
pub(super) fn run(seed: u64, faults: &[Fault]) -> Result<Figures, String> {
    World::new(seed, faults, None).run()
}

/// A minute on a 2G link, every lane full, and an urgent record every three seconds.
pub(super) fn run_full(seed: u64) -> Result<Figures, String> {
    let mut world = World::new(seed, &[], None);
    (world.octets_per_second, world.delay, world.limits) = (2_500, Duration::from_millis(300), (65_535, None));
    world.drain_octets_per_s = 0;
    world.queue.retain(|_, happening| matches!(happening, Happening::CentreReturns));
    world.put(Duration::from_secs(60), Happening::Stop);
    for second in (1..60).step_by(3) {
        world.put(Duration::from_secs(second), Happening::AppendUrgent);
    }
    world.full = true;
    world.run()
}

/// The same with something broken.
pub(super) fn run_broken(seed: u64, planted: Planted) -> Result<Figures, String> {
    World::new(seed, &[], Some(planted)).run()
}

impl World {
    fn new(seed: u64, faults: &[Fault], planted: Option<Planted>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let start = Moment::ZERO + Duration::from_secs(100);
        let last = faults.iter().map(|fault| fault.at + fault.lasts).max().unwrap_or_default();
        let limits = (rng.choice([8, 20, 200, 65_535]).unwrap(), rng.choice([None, Some(20_000), Some(40_000)]).unwrap());
        let mut world = Self {
            now: start,
            octets_per_second: rng.choice([2_500, 20_000, 1_000_000]).unwrap(),
            delay: Duration::from_millis(rng.choice([5, 40, 600]).unwrap()),
            drain_octets_per_s: match seed % 4 {
                2 => 4_000,
                3 => 40_000,
                _ => 0,
            },
            limits,
            queue: BTreeMap::new(),
            serial: 0,
            faults: faults.to_vec(),
            active: HashMap::new(),
            held: Vec::new(),
            disk: Arc::default(),
            kit: None,
            broker: Broker::new(),
            centre: Centre { up: true, ..Centre::default() },
            backup: None,
            ever: BTreeMap::new(),
            ledger: Ledger::new(),
            connections: 0,
            link_free: start,
            assignments: 0,
            quiet_from: start + BUSY.max(last),
            rng,
            planted,
            wire: Wire::default(),
            sent: 0,
            full: false,
        };
        for (index, fault) in faults.iter().enumerate() {
            world.put(fault.at, Happening::Begins(index));
            world.put(fault.at + fault.lasts, Happening::Ends(index));
        }
        world.put(Duration::ZERO, Happening::CentreReturns);
        world.put(Duration::ZERO, Happening::CentreRenews);
        world.put(Duration::from_secs(1), Happening::Append);
        world.put(Duration::from_secs(30), Happening::Switch);
        world.put(world.quiet_from.since(start), Happening::Look);
        world
    }

    fn run(mut self) -> Result<Figures, String> {
        self.kit = Some(Kit::start(&self.disk, self.rng.u64(..), self.now));
        if self.full {
            [Lane::Vitals, Lane::Waveforms, Lane::Journal]
                .repeat(BACKLOG)
                .into_iter()
                .try_for_each(|lane| self.append_one(lane))?;
        }
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > STEPS_MAX {
                return Err("it does not come to rest (I9)".into());
            }
            self.kit_acts()?;
            let wake = self.kit.as_ref().and_then(|kit| kit.planner.poll_timeout());
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            if let Some(wake) = wake.filter(|wake| next.is_none_or(|next| *wake < next)) {
                self.now = self.now.max(wake);
                self.tell(Event::Time);
                continue;
            }
            let Some(((at, _), happening)) = self.queue.pop_first() else { return Err("nothing happens any more".into()) };
            self.now = self.now.max(at);
            if let Some(recovery) = self.happens(happening)? {
                return Ok(self.figures(steps, recovery));
            }
        }
    }

    fn figures(&self, steps: usize, recovery: Duration) -> Figures {
        Figures {
            steps,
            records: self.ledger.len(),
            connections: self.connections,
            recovery,
            sent: self.sent,
            stored: Lane::ALL.map(|lane| {
                let of_lane = self.centre.database.lanes.iter().filter(|((_, of), _)| *of == lane);
                of_lane.map(|(_, records)| records.len()).sum()
            }),
            quarantined: self.kit.as_ref().map_or(0, |kit| kit.outbox.quarantined().len()),
            urgent_wait: self.ledger.urgent_wait(self.now),
        }
    }

    fn put(&mut self, after: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.now + after, self.serial), happening);
    }

    fn during(&self, what: What) -> bool {
        self.active.get(&what).is_some_and(|count| *count > 0)
    }

    fn tell(&mut self, event: Event<'_>) {
        if let Some(kit) = &mut self.kit {
            kit.planner.handle(event, self.now);
        }
    }

    fn happens(&mut self, happening: Happening) -> Result<Option<Duration>, String> {
        match happening {
            Happening::Append => self.append()?,
            Happening::AppendUrgent => self.append_one(Lane::Urgent)?,
            Happening::Switch => self.switch(),
            Happening::Begins(index) => self.begins(self.faults[index].what),
            Happening::Ends(index) => self.ends(self.faults[index].what),
            Happening::CentreTakes => self.centre_takes()?,
            Happening::CentreReturns => self.centre_returns(),
            Happening::CentreRenews => {
                self.announce(true);
                if self.centre.up && self.broker.up {
                    self.centre.resend().into_iter().for_each(|answer| self.answer(answer));
                }
                self.put(RENEWAL, Happening::CentreRenews);
            }
            Happening::KitNotices(connection) => self.kit_lost(connection, "connection reset"),
            Happening::BrokerNotices(connection) => self.broker.kit = self.broker.kit.filter(|known| *known != connection),
            Happening::Look => return self.look(),
            Happening::Stop => return Ok(Some(Duration::ZERO)),
            on_link if self.during(What::Stall) => self.held.push(on_link),
            Happening::Connected(connection) => self.connected(connection),
            Happening::ToBroker { connection, ticket, publish } => self.broker_receives(connection, ticket, publish),
            Happening::ToKit { connection, down } => self.kit_receives(connection, down),
        }
        Ok(None)
    }

    /// Whether all is where it must be; what must never be is looked for in any case.
    fn look(&mut self) -> Result<Option<Duration>, String> {
        let missing = self.ledger.missing(&self.centre.database)?;
        let drained = self.kit.as_ref().is_some_and(|kit| kit.outbox.epochs().iter().all(|view| view.drained()));
        let since = self.now.since(self.quiet_from);
        if missing.is_empty() && drained {
            return Ok(Some(since));
        }
        let waits: u64 =
            self.kit.iter().flat_map(|kit| kit.outbox.epochs()).flat_map(|view| view.lanes).map(|lane| lane.octets).sum();
        let rate = match self.drain_octets_per_s {
            0 => self.octets_per_second,
            drain => self.octets_per_second.min(drain.into()),
        };
        let link = Duration::from_secs(2 * waits / rate);
        if since > RECOVERY_MAX + link {
            let overview = self.kit.as_ref().map(|kit| kit.planner.overview());
            let (few, all) = (&missing[..missing.len().min(5)], self.ledger.len());
            return Err(format!(
                "{} of {all} records missing {since:?} after the last fault: {few:?} {overview:?}",
                missing.len()
            ));
        }
        self.put(Duration::from_secs(1), Happening::Look);
        Ok(None)
    }
}
