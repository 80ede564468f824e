//! Everything that runs: files, certificates, broker, network, centre, simulated devices, agent.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit_agent::api::client::Client;
use kit_protocol::uplink::id::{KitId, Tenant};

use super::devices::{Places, Simulated, quoted};
use super::{DemoError, Options};
use crate::authority::{Authority, Identity, SigningKey, Validity};
use crate::broker::{Broker, Clients, Memory};
use crate::clock;
use crate::ledger::{Fault, Period};
use crate::process::{Launcher, Program};
use crate::proxy::{Conditions, Proxy};

const KIT: &str = "KIT-DEMO";
const TENANT: &str = "centro";
const WORKER: &str = "centre-1";
const ASSIGNMENT: &str = "demo-1";
/// How long a program may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a program may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long the agent may take to answer a question before the display goes on without.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// What the agent says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) connected: bool,
    pub(super) waiting: u64,
    pub(super) acknowledged_ago: Option<Duration>,
}

/// All of it; whatever still runs is killed when this is dropped.
pub(super) struct Plant {
    launcher: Launcher,
    places: Places,
    directory: PathBuf,
    agent: Option<Program>,
    devices: Vec<(Simulated, Program)>,
    centre: Program,
    broker: Broker,
    proxy: Proxy,
    client: Client,
    /// When the agent could not listen.
    pub(super) faults: Vec<Fault>,
    /// Whose readings they are.
    pub(super) periods: Vec<Period>,
    /// When the agent was first ready.
    pub(super) listening_from_ns: u64,
    /// Sockets and ports, under a path that is short enough for them.
    _links: tempfile::TempDir,
}

impl Plant {
    /// Starts everything, in the order in which a kit is handed over: the devices begin last.
    pub(super) async fn build(options: &Options, directory: &Path) -> Result<Self, DemoError> {
        let links = tempfile::Builder::new().prefix("kit-").tempdir().map_err(DemoError::io("a folder for sockets"))?;
        let places = Places { links: links.path().to_path_buf(), truth: directory.join("truth") };
        for folder in ["kit", "centre", "truth"] {
            std::fs::create_dir_all(directory.join(folder)).map_err(DemoError::io(format!("{}", directory.display())))?;
        }
        let own = std::env::current_exe().map_err(DemoError::io("finding this program"))?;
        let launcher = Launcher::new(own, directory.join("logs"));

        let authority = Authority::new(&directory.join("authority"), "authority")?;
        let (kit, tenant) = names();
        let of_the_kit = authority.kit(&kit, &tenant, Validity::Current)?;
        let of_the_centre = authority.centre(WORKER)?;
        let signing = authority.signing_key("signing")?;
        let clients = Clients { kits: vec![(kit, tenant.clone())], workers: vec![WORKER.to_owned()] };
        let of_the_broker = authority.broker(Validity::Current)?;
        let broker = Broker::start(options.broker(), &launcher, directory.join("broker"), of_the_broker, &clients).await?;
        let proxy = Proxy::start(broker.address(), options.seed).await.map_err(DemoError::io("the network between"))?;

        super::centre::configure(directory, broker.address(), &tenant, &of_the_centre, &signing)?;
        let document = directory.join("assignment");
        let assign = super::centre::assign(directory, KIT, ASSIGNMENT, &document);
        to_its_end(&launcher, "centre", "assign", &assign).await?;
        let run = super::centre::run(directory);
        let centre = launcher.start("centre", "centre", &run).map_err(DemoError::io("starting the centre"))?;
        let socket = links.path().join("agent");
        write_configuration(options, directory, &places, &proxy, &of_the_kit, &signing, &socket)?;
        let mut plant = Self {
            launcher,
            places,
            directory: directory.to_path_buf(),
            agent: None,
            devices: Vec::new(),
            centre,
            broker,
            proxy,
            client: Client::new(&socket),
            faults: Vec::new(),
            periods: Vec::new(),
            listening_from_ns: 0,
            _links: links,
        };
        plant.hand_over(options, &document).await?;
        Ok(plant)
    }

    /// Starts the agent, gives it its assignment, and then lets the devices begin.
    async fn hand_over(&mut self, options: &Options, document: &Path) -> Result<(), DemoError> {
        // The agent looks for its adapter when it starts; serial devices may come later.
        for device in options.devices.iter().filter(|device| device.bluetooth()) {
            self.start_device(*device, options.seed).await?;
        }
        self.start_agent()?;
        self.agent_answers().await?;
        let configuration = self.configuration();
        let arguments: [OsString; 5] =
            ["assignment".into(), "--config".into(), configuration.into(), "start".into(), document.into()];
        to_its_end(&self.launcher, "agent", "assignment", &arguments).await?;
        let now = clock::now().as_nanos();
        self.periods.push(Period { from_boottime_ns: now, assignment: Some(ASSIGNMENT.to_owned()) });
        self.listening_from_ns = now;
        for device in options.devices.iter().filter(|device| !device.bluetooth()) {
            self.start_device(*device, options.seed).await?;
        }
        Ok(())
    }

    async fn start_device(&mut self, device: Simulated, seed: u64) -> Result<(), DemoError> {
        let arguments = device.arguments(&self.places, seed);
        let mut program = self.launch("sim", device.name(), &arguments, &[])?;
        let there = self.places.meeting_point(device);
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
            return Err(self.complaint(device.name(), "does not appear"));
        }
        self.devices.push((device, program));
        Ok(())
    }

    /// Starts the agent.
    pub(super) fn start_agent(&mut self) -> Result<(), DemoError> {
        let arguments: [OsString; 3] = ["run".into(), "--config".into(), self.configuration().into()];
        let bus = [("DBUS_SYSTEM_BUS_ADDRESS", self.places.bus_address())];
        self.agent = Some(self.launch("agent", "agent", &arguments, &bus)?);
        if let Some(fault) = self.faults.last_mut().filter(|fault| fault.to_boottime_ns == u64::MAX) {
            fault.to_boottime_ns = clock::now().as_nanos();
        }
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill_agent(&mut self) {
        self.faults.push(Fault { from_boottime_ns: clock::now().as_nanos(), to_boottime_ns: u64::MAX });
        self.agent = None;
    }

    /// The network goes: connections are reset and new ones refused.
    pub(super) fn cut(&self) {
        self.proxy.unplug();
    }

    /// The network is back.
    pub(super) fn mend(&self) {
        self.proxy.set(Conditions::default());
    }

    /// What the agent says of itself; `None` while it does not answer.
    pub(super) async fn ask(&self) -> Option<Said> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.client.get::<serde_json::Value>("/status"));
        let status = asked.await.ok()?.ok()?;
        let link = status.get("link")?;
        Some(Said {
            connected: link.get("connected")?.as_bool()?,
            waiting: status.get("waiting")?.as_u64()?,
            acknowledged_ago: link.get("last_acknowledgement_age_s").and_then(serde_json::Value::as_u64).map(Duration::from_secs),
        })
    }

    /// The agent's process id, while it runs.
    pub(super) fn agent_process(&self) -> Option<u32> {
        self.agent.as_ref().map(Program::id)
    }

    /// Octets from kit to broker so far.
    pub(super) fn octets_up(&self) -> u64 {
        self.proxy.counts().octets_up
    }

    /// The centre's database.
    pub(super) fn database(&self) -> PathBuf {
        super::centre::database(&self.directory)
    }

    /// The truth file of a device.
    pub(super) fn truth(&self, device: Simulated) -> PathBuf {
        self.places.truth(device)
    }

    /// Checks that everything still runs that should. A broker that ended is started again, and `true` says so.
    pub(super) async fn check(&mut self) -> Result<bool, DemoError> {
        let mut ended: Option<&str> = None;
        if self.centre.ended().is_some() {
            ended = Some("centre");
        }
        if self.agent.as_mut().is_some_and(|agent| agent.ended().is_some()) {
            ended = Some("agent");
        }
        for (device, program) in &mut self.devices {
            if program.ended().is_some() {
                ended = Some(device.name());
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
    pub(super) async fn stop_devices(&mut self) {
        for (_, program) in &mut self.devices {
            program.terminate(END_WITHIN).await;
        }
        self.devices.clear();
    }

    /// Ends the rest, agent first.
    pub(super) async fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.terminate(END_WITHIN).await;
        }
        self.centre.terminate(END_WITHIN).await;
        self.broker.stop(END_WITHIN).await;
    }

    async fn agent_answers(&mut self) -> Result<(), DemoError> {
        let start = tokio::time::Instant::now();
        while self.ask().await.is_none() {
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
    ) -> Result<Program, DemoError> {
        self.launcher.start_with(role, name, arguments, environment).map_err(DemoError::io(format!("starting {name}")))
    }

    fn complaint(&self, program: &str, what: &str) -> DemoError {
        complaint(&self.launcher, program, what)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("kit.toml")
    }
}

/// Runs a program that ends by itself, and wants it to have done its work.
async fn to_its_end(launcher: &Launcher, role: &str, name: &str, arguments: &[OsString]) -> Result<(), DemoError> {
    let mut program = launcher.start(role, name, arguments).map_err(DemoError::io(format!("starting {name}")))?;
    match program.wait(READY_WITHIN).await {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(complaint(launcher, name, "failed")),
        None => Err(complaint(launcher, name, "does not end")),
    }
}

fn complaint(launcher: &Launcher, program: &str, what: &str) -> DemoError {
    let log = launcher.log(program);
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let last = said.lines().last().unwrap_or("nothing").to_owned();
    DemoError::Program {
        program: program.to_owned(),
        what: format!("{what} (it last said: {last})"),
        log: log.display().to_string(),
    }
}

/// The kit and its health authority.
fn names() -> (KitId, Tenant) {
    let kit = KIT.parse().expect("KIT is upper case letters and a dash");
    let tenant = TENANT.parse().expect("TENANT is lower case letters");
    (kit, tenant)
}

fn write_configuration(
    options: &Options,
    directory: &Path,
    places: &Places,
    proxy: &Proxy,
    identity: &Identity,
    signing: &SigningKey,
    socket: &Path,
) -> Result<(), DemoError> {
    let mut text = format!(
        "kit = \"{KIT}\"\n\
         tenant = \"{TENANT}\"\n\
         state = {state}\n\
         socket = {socket}\n\
         \n[broker]\n\
         host = \"localhost\"\n\
         port = {port}\n\
         authority = {authority}\n\
         certificate = {certificate}\n\
         key = {key}\n\
         \n[centre]\n\
         keys = [{centre}]\n",
        state = quoted(&directory.join("kit")),
        socket = quoted(socket),
        port = proxy.address().port(),
        authority = quoted(&identity.authority),
        certificate = quoted(&identity.certificate),
        key = quoted(&identity.key),
        centre = quoted(&signing.public),
    );
    for device in &options.devices {
        text += &device.configuration(places, options.seed);
    }
    std::fs::write(directory.join("kit.toml"), text).map_err(DemoError::io("the kit's configuration"))
}
