//! A whole kit on this machine: files, certificates, broker, network, centre, simulated devices, agent, each in a process of its
//! own, and what may be done to them.

pub mod centre;
pub mod devices;
pub mod gather;
mod kit;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use kit_agent::api::client::Client;
use kit_protocol::uplink::id::{KitId, Tenant};
use serde_json::Value;

use crate::authority::{Authority, AuthorityError, Validity};
use crate::broker::{Broker, BrokerError, Clients, Kind, Memory};
use crate::clock;
use crate::ledger::{self, Balance, Fault, Period, Run, Truth, TruthError};
use crate::process::{Launcher, Program};
use crate::proxy::{Conditions, Proxy};
use devices::{Places, Simulated};
use gather::{Gathered, gather};

/// The kit.
pub const KIT: &str = "KIT-DEMO";
/// Its health authority.
pub const TENANT: &str = "centro";
/// The assignment that [`Plant::hand_over`] starts.
pub const ASSIGNMENT: &str = "demo-1";
/// How long a program may take to get ready.
pub const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the queue may take to empty once the devices have ended.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(90);
/// The queue counts as empty when it was so throughout this time.
pub const DRAINED_FOR: Duration = Duration::from_secs(2);
const WORKER: &str = "centre-1";
/// How long a program may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long the agent may take to answer a question before the display goes on without.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// Why a plant could not be built or went wrong; the text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum PlantError {
    /// A file or process.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What a simulator wrote down.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The centre's database.
    #[error("the centre's database: {0}")]
    Centre(String),
    /// A program that should run ended, or did not get ready.
    #[error("{program} {what}; its log is {log}")]
    Program {
        /// Which.
        program: String,
        /// What it did.
        what: String,
        /// Where to look.
        log: String,
    },
}

impl PlantError {
    /// Names what was being done when a file or process failed.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// What a plant is made of.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The executable that plays the roles: the demonstration.
    pub program: PathBuf,
    /// Which broker.
    pub broker: Kind,
    /// Decides what the devices measure.
    pub seed: u64,
    /// The devices.
    pub devices: Vec<Simulated>,
    /// What goes wrong with the devices: a scenario's file.
    pub scenario: Option<PathBuf>,
    /// Seconds between the readings of a stream, where not the agent's own.
    pub stream_interval_s: Option<u32>,
    /// The agent's state, where not in the plant's directory.
    pub state: Option<PathBuf>,
}

impl Layout {
    /// The usual: the embedded broker and devices without a fault.
    #[must_use]
    pub fn new(program: PathBuf, devices: Vec<Simulated>) -> Self {
        Self { program, broker: Kind::Embedded, seed: 1, devices, scenario: None, stream_interval_s: None, state: None }
    }
}

/// What the agent says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Connected to the broker.
    pub connected: bool,
    /// Records that wait.
    pub waiting: u64,
    /// How long ago the centre last acknowledged something.
    pub acknowledged_ago: Option<Duration>,
}

/// All of it; whatever still runs is killed when this is dropped.
pub struct Plant {
    layout: Layout,
    launcher: Launcher,
    places: Places,
    directory: PathBuf,
    agent: Option<Program>,
    /// By name; the Bluetooth devices are one program.
    devices: Vec<(&'static str, Program)>,
    centre: Program,
    /// Issues every certificate of the plant.
    pub authority: Authority,
    /// Between kit and centre.
    pub broker: Broker,
    /// The kit's network.
    pub proxy: Proxy,
    client: Client,
    /// When the agent could not listen.
    pub faults: Vec<Fault>,
    /// Whose readings they are.
    pub periods: Vec<Period>,
    /// When the agent was first ready.
    pub listening_from_ns: u64,
    /// Sockets and ports, under a path that is short enough for them.
    _links: tempfile::TempDir,
}

/// What is in the centre in the end, and how it compares with what was made.
#[derive(Debug)]
pub struct Outcome {
    /// What the centre has, beyond what was compared.
    pub gathered: Gathered,
    /// The ledger.
    pub balance: Balance,
}

impl Plant {
    /// Makes the files and starts broker, network and centre; neither agent nor devices run yet.
    pub async fn build(layout: Layout, directory: &Path) -> Result<Self, PlantError> {
        let links = tempfile::Builder::new().prefix("kit-").tempdir().map_err(PlantError::io("a folder for sockets"))?;
        let places = Places { links: links.path().to_path_buf(), truth: directory.join("truth") };
        for folder in ["kit", "centre", "truth"] {
            std::fs::create_dir_all(directory.join(folder)).map_err(PlantError::io(format!("{}", directory.display())))?;
        }
        let launcher = Launcher::new(layout.program.clone(), directory.join("logs"));

        let authority = Authority::new(&directory.join("authority"), "authority")?;
        let (kit, tenant) = names();
        let of_the_kit = authority.kit(&kit, &tenant, Validity::Current)?;
        let of_the_centre = authority.centre(WORKER)?;
        let signing = authority.signing_key("signing")?;
        let clients = Clients { kits: vec![(kit, tenant.clone())], workers: vec![WORKER.to_owned()] };
        let of_the_broker = authority.broker(Validity::Current)?;
        let broker = Broker::start(layout.broker, &launcher, directory.join("broker"), of_the_broker, &clients).await?;
        let proxy = Proxy::start(broker.address(), layout.seed).await.map_err(PlantError::io("the network between"))?;

        centre::configure(directory, broker.address(), &tenant, &of_the_centre, &signing)?;
        let centre =
            launcher.start("centre", "centre", &centre::run(directory)).map_err(PlantError::io("starting the centre"))?;
        let socket = links.path().join("agent");
        let text = kit::configuration(&layout, directory, &places, &proxy, &of_the_kit, &signing, &socket);
        std::fs::write(directory.join("kit.toml"), text).map_err(PlantError::io("the kit's configuration"))?;
        Ok(Self {
            layout,
            launcher,
            places,
            directory: directory.to_path_buf(),
            agent: None,
            devices: Vec::new(),
            centre,
            authority,
            broker,
            proxy,
            client: Client::new(&socket),
            faults: Vec::new(),
            periods: Vec::new(),
            listening_from_ns: 0,
            _links: links,
        })
    }

    /// Starts the agent, gives it its assignment, and then lets the devices begin.
    pub async fn hand_over(&mut self) -> Result<(), PlantError> {
        // The agent looks for its adapter when it starts; serial devices may come later.
        self.start_devices(Simulated::bluetooth).await?;
        self.start_agent()?;
        self.agent_answers().await?;
        let document = self.sign_assignment(KIT, ASSIGNMENT).await?;
        let started = self.ask_kit(&["assignment", "start", &document.to_string_lossy()]).await?;
        if !started.status.success() {
            return Err(complaint(&self.launcher, "agent", &String::from_utf8_lossy(&started.stderr)));
        }
        let now = clock::now().as_nanos();
        self.periods.push(Period { from_boottime_ns: now, assignment: Some(ASSIGNMENT.to_owned()) });
        self.listening_from_ns = now;
        self.start_devices(|device| !device.bluetooth()).await
    }

    /// Starts the devices that are wanted, and waits until the kit can meet them.
    pub async fn start_devices(&mut self, wanted: impl Fn(Simulated) -> bool) -> Result<(), PlantError> {
        let (bluetooth, serial): (Vec<Simulated>, Vec<Simulated>) =
            self.layout.devices.iter().filter(|device| wanted(**device)).partition(|device| device.bluetooth());
        if let Some(first) = bluetooth.first() {
            let arguments = devices::bus_arguments(&bluetooth, &self.places, self.layout.seed);
            // One of several has its own name in logs and complaints.
            let name = if bluetooth.len() == 1 { first.name() } else { "bluetooth" };
            self.start_simulator(name, arguments, self.places.meeting_point(*first)).await?;
        }
        for device in serial {
            let arguments = device.arguments(&self.places, self.layout.seed);
            self.start_simulator(device.name(), arguments, self.places.meeting_point(device)).await?;
        }
        Ok(())
    }

    async fn start_simulator(
        &mut self,
        name: &'static str,
        mut arguments: Vec<OsString>,
        there: PathBuf,
    ) -> Result<(), PlantError> {
        if let Some(scenario) = &self.layout.scenario {
            arguments.extend(["--scenario".into(), scenario.into()]);
        }
        let mut program = self.launch("sim", name, &arguments, &[])?;
        let ready = async {
            while !there.exists() {
                if program.ended().is_some() {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
            true
        };
        if !tokio::time::timeout(READY_WITHIN, ready).await.unwrap_or(false) {
            return Err(self.complaint(name, "does not appear"));
        }
        self.devices.push((name, program));
        Ok(())
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) -> Result<(), PlantError> {
        let arguments: [OsString; 3] = ["run".into(), "--config".into(), self.configuration().into()];
        let bus = [("DBUS_SYSTEM_BUS_ADDRESS", self.places.bus_address())];
        self.agent = Some(self.launch("agent", "agent", &arguments, &bus)?);
        if let Some(fault) = self.faults.last_mut().filter(|fault| fault.to_boottime_ns == u64::MAX) {
            fault.to_boottime_ns = clock::now().as_nanos();
        }
        Ok(())
    }

    /// The centre signs an assignment for `kit`; the document is its own file.
    pub async fn sign_assignment(&self, kit: &str, assignment: &str) -> Result<PathBuf, PlantError> {
        let document = self.directory.join(format!("{kit}-{assignment}.assignment"));
        let arguments = centre::assign(&self.directory, kit, assignment, &document);
        let signed = self.launcher.to_its_end("centre", &arguments).await.map_err(PlantError::io("asking the centre"))?;
        if signed.status.success() {
            Ok(document)
        } else {
            Err(complaint(&self.launcher, "centre", &String::from_utf8_lossy(&signed.stderr)))
        }
    }

    /// Asks the agent a question of its command line.
    pub async fn ask_kit(&self, words: &[&str]) -> Result<Output, PlantError> {
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.extend(["--config".into(), self.configuration().into()]);
        self.launcher.to_its_end("agent", &arguments).await.map_err(PlantError::io("asking the agent"))
    }

    /// SIGKILL.
    pub fn kill_agent(&mut self) {
        self.faults.push(Fault { from_boottime_ns: clock::now().as_nanos(), to_boottime_ns: u64::MAX });
        self.agent = None;
    }

    /// The network goes: connections are reset and new ones refused.
    pub fn cut(&self) {
        self.proxy.unplug();
    }

    /// The network is back.
    pub fn mend(&self) {
        self.proxy.set(Conditions::default());
    }

    /// What the agent says of itself; `None` while it does not answer.
    pub async fn ask(&self) -> Option<Said> {
        let status = self.status().await?;
        let link = status.get("link")?;
        Some(Said {
            connected: link.get("connected")?.as_bool()?,
            waiting: status.get("waiting")?.as_u64()?,
            acknowledged_ago: link.get("last_acknowledgement_age_s").and_then(Value::as_u64).map(Duration::from_secs),
        })
    }

    /// `status` in full; `None` while it does not answer.
    pub async fn status(&self) -> Option<Value> {
        tokio::time::timeout(ANSWER_WITHIN, self.client.get::<Value>("/status")).await.ok()?.ok()
    }

    /// Waits until `status` is as wanted, and gives it; how long at most is [`DRAIN_WITHIN`].
    pub async fn status_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, PlantError> {
        let start = tokio::time::Instant::now();
        let mut last = Value::Null;
        while start.elapsed() < DRAIN_WITHIN {
            self.check().await?;
            if let Some(status) = self.status().await {
                if wanted(&status) {
                    return Ok(status);
                }
                last = status;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(self.complaint("agent", &format!("never came to this: {what}; its status is {last}")))
    }

    /// Waits until the agent has had nothing left to send for a while.
    pub async fn drained(&mut self) -> Result<(), PlantError> {
        let start = tokio::time::Instant::now();
        let mut empty_since: Option<tokio::time::Instant> = None;
        while empty_since.is_none_or(|since| since.elapsed() < DRAINED_FOR) {
            if start.elapsed() > DRAIN_WITHIN {
                let status = self.status().await.unwrap_or_default();
                return Err(self.complaint("agent", &format!("still has something to send; its status is {status}")));
            }
            tokio::time::sleep(LOOK).await;
            self.check().await?;
            let empty = self.ask().await.is_some_and(|said| said.waiting == 0 && said.connected);
            empty_since = if empty { empty_since.or(Some(tokio::time::Instant::now())) } else { None };
        }
        Ok(())
    }

    /// Ends everything once the centre has what the devices made, and compares.
    pub async fn settle(&mut self) -> Result<Outcome, PlantError> {
        self.stop_devices().await;
        self.drained().await?;
        self.stop().await;
        self.compare()
    }

    /// Compares what the devices made with what the centre has.
    pub fn compare(&self) -> Result<Outcome, PlantError> {
        let mut truth = Truth::default();
        for device in &self.layout.devices {
            let path = self.truth(*device);
            // A device that never began has no file.
            let text = if path.exists() { std::fs::read_to_string(&path) } else { Ok(String::new()) };
            truth.add(device.name(), &text.map_err(PlantError::io(format!("{}", path.display())))?)?;
        }
        let mut gathered = gather(&self.database())?;
        let run = Run {
            truth,
            readings: std::mem::take(&mut gathered.readings),
            segments: std::mem::take(&mut gathered.segments),
            missed: std::mem::take(&mut gathered.missed),
            faults: self.faults.clone(),
            periods: self.periods.clone(),
            advertised: self.layout.devices.iter().filter(|device| device.only_advertises()).map(ToString::to_string).collect(),
            listening_from_ns: self.listening_from_ns,
        };
        let mut balance = ledger::compare(&run);
        for device in &self.layout.devices {
            balance.devices.entry(device.name().to_owned()).or_default();
        }
        gathered.readings = run.readings;
        gathered.segments = run.segments;
        gathered.missed = run.missed;
        Ok(Outcome { gathered, balance })
    }

    /// The agent's process id, while it runs.
    pub fn agent_process(&self) -> Option<u32> {
        self.agent.as_ref().map(Program::id)
    }

    /// Octets from kit to broker so far.
    pub fn octets_up(&self) -> u64 {
        self.proxy.counts().octets_up
    }

    /// The centre's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        centre::database(&self.directory)
    }

    /// The truth file of a device.
    pub fn truth(&self, device: Simulated) -> PathBuf {
        self.places.truth(device)
    }

    /// Checks that everything still runs that should. A broker that ended is started again, and `true` says so.
    pub async fn check(&mut self) -> Result<bool, PlantError> {
        let mut ended: Option<&str> = None;
        if self.centre.ended().is_some() {
            ended = Some("centre");
        }
        if self.agent.as_mut().is_some_and(|agent| agent.ended().is_some()) {
            ended = Some("agent");
        }
        for (name, program) in &mut self.devices {
            if program.ended().is_some() {
                ended = Some(name);
            }
        }
        if let Some(program) = ended {
            return Err(self.complaint(program, "ended by itself"));
        }
        if self.broker.running() {
            return Ok(false);
        }
        self.broker.restart(Memory::Kept).await?;
        Ok(true)
    }

    /// Ends the simulated devices: what they have said until now is all there is.
    pub async fn stop_devices(&mut self) {
        for (_, program) in &mut self.devices {
            program.terminate(END_WITHIN).await;
        }
        self.devices.clear();
    }

    /// Ends the rest, agent first.
    pub async fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.terminate(END_WITHIN).await;
        }
        self.centre.terminate(END_WITHIN).await;
        self.broker.stop(END_WITHIN).await;
    }

    /// Waits until the agent answers questions and has its store open.
    pub async fn agent_answers(&mut self) -> Result<(), PlantError> {
        let start = tokio::time::Instant::now();
        let open = |status: Value| status["store_trouble"] != "opening";
        while !self.status().await.is_some_and(open) {
            if self.agent.as_mut().is_some_and(|agent| agent.ended().is_some()) {
                return Err(self.complaint("agent", "ended by itself"));
            }
            if start.elapsed() > READY_WITHIN {
                return Err(self.complaint("agent", "does not answer"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn launch(
        &self,
        role: &str,
        name: &str,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
    ) -> Result<Program, PlantError> {
        self.launcher.start_with(role, name, arguments, environment).map_err(PlantError::io(format!("starting {name}")))
    }

    fn complaint(&self, program: &str, what: &str) -> PlantError {
        complaint(&self.launcher, program, what)
    }

    /// The kit's configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("kit.toml")
    }

    /// The agent's state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        kit::state(&self.layout, &self.directory)
    }

    /// What a program printed.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.launcher.log(name)
    }
}

fn complaint(launcher: &Launcher, program: &str, what: &str) -> PlantError {
    let log = launcher.log(program);
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let last = said.lines().last().unwrap_or("nothing").to_owned();
    PlantError::Program {
        program: program.to_owned(),
        what: format!("{what} (it last said: {last})"),
        log: log.display().to_string(),
    }
}

/// The kit and its health authority.
#[must_use]
pub fn names() -> (KitId, Tenant) {
    let kit = KIT.parse().expect("KIT is upper case letters and a dash");
    let tenant = TENANT.parse().expect("TENANT is lower case letters");
    (kit, tenant)
}
