//! The demonstration from beginning to end.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::display::{Display, Link, Row, Snapshot};
use super::measure::{percentile, pss_kib};
use super::report::{self, AckMs, Ledger};
use super::schedule::{Act, schedule};
use super::{DemoError, Options};
use crate::ledger::{Balance, Truth};
use crate::plant::devices::Simulated;
use crate::plant::gather::Live;
use crate::plant::{DRAIN_WITHIN, DRAINED_FOR, Layout, Outcome, Plant, PlantError, Said};

/// The display is drawn so often.
const TICK: Duration = Duration::from_millis(250);
/// Memory is measured, and the centre's database read, so often.
const SAMPLE: Duration = Duration::from_secs(1);

/// Carries it out; `true` if the ledger balances.
pub(super) async fn run(options: Options) -> Result<bool, DemoError> {
    let listen = |kind| signal(kind).map_err(DemoError::io("listening for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        done = carry_out(&options) => done,
        _ = interrupt.recv() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    }
}

async fn carry_out(options: &Options) -> Result<bool, DemoError> {
    let temporary = tempfile::Builder::new().prefix("kit-demo-").tempdir().map_err(DemoError::io("a temporary folder"))?;
    let directory = options.keep.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&directory).map_err(DemoError::io(format!("{}", directory.display())))?;
    let directory = directory.canonicalize().map_err(DemoError::io(format!("{}", directory.display())))?;

    let mut display = Display::new(options.json);
    let outcome = perform(options, &directory, &mut display).await;
    if !matches!(outcome, Ok(true)) && options.keep.is_none() {
        // What the programs wrote says why; it must not go with the temporary folder.
        display.say(&format!("Everything is kept in {}.", temporary.keep().display()));
    }
    outcome
}

async fn perform(options: &Options, directory: &Path, display: &mut Display) -> Result<bool, DemoError> {
    display.say("Starting broker, centre, agent and devices.");
    let program = std::env::current_exe().map_err(DemoError::io("finding this program"))?;
    let layout = Layout { broker: options.broker(), seed: options.seed, ..Layout::new(program, options.devices.clone()) };
    let mut plant = Plant::build(layout, directory).await?;
    plant.hand_over().await?;
    let mut stage = Stage { options, plant, display, truth: TruthTail::default(), live: Live::default(), pss_peak_kib: 0 };
    stage.perform().await
}

/// Everything between the first device and the verdict.
struct Stage<'a> {
    options: &'a Options,
    plant: Plant,
    display: &'a mut Display,
    truth: TruthTail,
    live: Live,
    pss_peak_kib: u64,
}

impl Stage<'_> {
    async fn perform(&mut self) -> Result<bool, DemoError> {
        self.measure().await?;
        self.display.say("The devices have ended; waiting until the centre has everything.");
        self.plant.stop_devices().await;
        self.drain().await?;
        self.plant.stop().await;
        let (ledger, balance) = self.balance()?;
        self.tell(&ledger, &balance).map_err(DemoError::io("the output"))?;
        Ok(balance.holds())
    }

    /// The devices measure, and the schedule is carried out.
    async fn measure(&mut self) -> Result<(), DemoError> {
        let start = Instant::now();
        let mut acts = schedule(self.options.duration(), self.options.cuts, self.options.kills).into_iter().peekable();
        let mut link = Link::Up;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sampled: Option<Instant> = None;
        while start.elapsed() < self.options.duration() {
            let next = acts.peek().map_or(Duration::MAX, |(at, _)| *at);
            tokio::select! {
                _ = ticks.tick() => {}
                () = tokio::time::sleep(next.saturating_sub(start.elapsed())) => {}
            }
            while let Some((_, act)) = acts.next_if(|(at, _)| start.elapsed() >= *at) {
                link = self.act(act, link)?;
            }
            if self.plant.check().await? {
                self.display.say("The broker ended by itself and was started again.");
            }
            if sampled.is_none_or(|at| at.elapsed() >= SAMPLE) {
                sampled = Some(Instant::now());
                self.sample()?;
            }
            let said = self.plant.ask().await;
            self.show("measuring", start.elapsed(), link, said);
        }
        Ok(())
    }

    fn act(&mut self, act: Act, link: Link) -> Result<Link, DemoError> {
        match act {
            Act::Cut => {
                self.plant.cut();
                self.display.say("✂ The network is cut.");
                Ok(Link::Cut)
            }
            Act::Mend => {
                self.plant.mend();
                self.display.say("The network is back.");
                Ok(if link == Link::Cut { Link::Up } else { link })
            }
            Act::Kill => {
                self.plant.kill_agent();
                self.display.say("✝ The agent is killed (SIGKILL).");
                Ok(Link::AgentDown)
            }
            Act::Start => {
                self.plant.start_agent()?;
                self.display.say("The agent starts again.");
                Ok(Link::Up)
            }
        }
    }

    fn sample(&mut self) -> Result<(), DemoError> {
        if let Some(kib) = self.plant.agent_process().and_then(pss_kib) {
            self.pss_peak_kib = self.pss_peak_kib.max(kib);
        }
        for device in &self.options.devices {
            self.truth.read(*device, &self.plant.truth(*device))?;
        }
        self.live.look(&self.plant.database());
        Ok(())
    }

    fn show(&mut self, phase: &'static str, elapsed: Duration, link: Link, said: Option<Said>) {
        let rows = self.options.devices.iter().map(|device| {
            let arrived = self.live.of(device.name());
            let (made, streams) = self.truth.made(*device);
            Row { device: device.name().to_owned(), made, stored: if streams { arrived.samples } else { arrived.readings } }
        });
        let snapshot = Snapshot {
            phase,
            elapsed,
            total: self.options.duration(),
            link,
            connected: said.is_some_and(|said| said.connected),
            rows: rows.collect(),
            waiting: said.map(|said| said.waiting),
            acknowledged_ago: said.and_then(|said| said.acknowledged_ago),
            octets_up: self.plant.octets_up(),
            pss_kib: self.plant.agent_process().and_then(pss_kib).unwrap_or(0),
        };
        self.display.show(&snapshot);
    }

    /// Waits until the kit has nothing left to send; what it could not send in time is then missing.
    async fn drain(&mut self) -> Result<(), DemoError> {
        let start = Instant::now();
        let mut empty_since: Option<Instant> = None;
        while start.elapsed() < DRAIN_WITHIN && empty_since.is_none_or(|since| since.elapsed() < DRAINED_FOR) {
            tokio::time::sleep(TICK).await;
            self.plant.check().await?;
            self.sample()?;
            let said = self.plant.ask().await;
            let empty = said.is_some_and(|said| said.waiting == 0 && said.connected);
            empty_since = if empty { empty_since.or(Some(Instant::now())) } else { None };
            self.show("draining", self.options.duration(), Link::Up, said);
        }
        Ok(())
    }

    fn balance(&self) -> Result<(Ledger, Balance), DemoError> {
        let Outcome { gathered, balance } = self.plant.compare()?;
        let ledger = Ledger {
            seed: self.options.seed,
            made: balance.made,
            stored: balance.stored,
            missing: balance.missing,
            double: balance.double,
            wrong_assignment: balance.wrong_assignment,
            missed: balance.missed.clone(),
            gaps: gathered.gaps,
            undelivered: balance.undelivered,
            refused: gathered.refused,
            cuts: self.options.cuts,
            kills: self.options.kills,
            wipes: 0,
            octets_up: self.plant.octets_up(),
            readings_by_device: balance.devices.iter().map(|(device, share)| (device.clone(), share.records)).collect(),
            pss_peak_kib: self.pss_peak_kib,
            ack_ms: AckMs { p50: percentile(&gathered.delays_ms, 50), p99: percentile(&gathered.delays_ms, 99) },
        };
        Ok((ledger, balance))
    }

    fn tell(&mut self, ledger: &Ledger, balance: &Balance) -> std::io::Result<()> {
        for finding in &balance.findings {
            self.display.say(&format!("  {finding}"));
        }
        let mut out = std::io::stdout().lock();
        if self.options.json {
            writeln!(out, "{}", serde_json::to_string(ledger)?)
        } else {
            write!(out, "{}", report::text(ledger, balance))
        }
    }
}

/// The truth files, read as they grow.
#[derive(Default)]
struct TruthTail {
    truth: Truth,
    read: std::collections::HashMap<&'static str, u64>,
}

impl TruthTail {
    /// Takes in the whole lines that were added.
    fn read(&mut self, device: Simulated, path: &Path) -> Result<(), DemoError> {
        let Ok(mut file) = std::fs::File::open(path) else { return Ok(()) };
        let from = self.read.entry(device.name()).or_default();
        let mut text = String::new();
        let read = file.seek(SeekFrom::Start(*from)).and_then(|_| file.read_to_string(&mut text));
        read.map_err(DemoError::io(format!("{}", path.display())))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        *from += u64::try_from(whole).unwrap_or(0);
        Ok(self.truth.add(device.name(), text.get(..whole).unwrap_or_default()).map_err(PlantError::from)?)
    }

    /// Units made, and whether they are samples of streams.
    fn made(&self, device: Simulated) -> (u64, bool) {
        let samples: usize = self
            .truth
            .streams
            .iter()
            .filter(|(name, _)| name.device == device.name())
            .map(|(_, stream)| stream.values.len())
            .sum();
        if samples > 0 {
            return (u64::try_from(samples).unwrap_or(u64::MAX), true);
        }
        let readings = self.truth.readings.iter().filter(|made| made.device == device.name() && made.delivered).count();
        (u64::try_from(readings).unwrap_or(u64::MAX), false)
    }
}
