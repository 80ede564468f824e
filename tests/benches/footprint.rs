//! Memory and CPU of the real agent while its devices stream: TLS up, Bluetooth on, ECG of 8 leads × 500 Hz, an oximeter's
//! stream, and spot checks over Bluetooth.
//!
//! ```text
//! cargo build --release -p kit-agent
//! cargo bench -p system-tests --bench footprint -- [--agent PATH] [--warm 60] [--seconds 30] [--days 7]
//!     [--unassigned] [--env NAME=VALUE]… [--without DEVICE]… [--maps 12] [--dir DIR]
//! ```
//!
//! `--days` stores a backlog first and leaves the centre away, so that the backlog stays while TLS is up; with `--unassigned` it
//! came before the assignment, which begins over it.
#![expect(clippy::print_stdout, reason = "a measuring program")]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use firmware_sim::devices::{Connection, DEVICES};
use firmware_sim::faults::Scenario;
use firmware_sim::truth::Truth;
use harness::bench::kit::{ASSIGNMENT, Kit};
use harness::bench::process::{self, Memory};
use harness::bench::records::{self, Backlog};
use harness::bench::{Arguments, Failure, benchmark, float};
use harness::clock;
use harness::process::Program;
use kit_agent::api::client::Client;
use kit_agent::clock::Clock;
use kit_agent::config::Config;
use kit_agent::identity::Identity;
use kit_protocol::uplink::wire::EpochReason;

const SEED: u64 = 1;
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
const BUDGET_MB: f64 = 12.0;

fn main() -> ExitCode {
    benchmark("footprint", run)
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let agent = agent(arguments)?;
    let directory = match arguments.all("--dir").next() {
        Some(base) => tempfile::tempdir_in(base)?,
        None => tempfile::tempdir()?,
    };
    let days = arguments.number("--days", 0_usize)?;
    let kit = Kit::start(directory.path(), arguments.all("--broker").next()).await?;
    let document = kit.assignment().await?;
    let centre = if days == 0 { Some(kit.start_centre()?) } else { None };
    let links = tempfile::Builder::new().prefix("kit-").tempdir()?;
    let devices = devices(arguments);
    let configuration = configure(&kit, directory.path(), links.path(), &devices)?;
    if days > 0 {
        store_backlog(&configuration, days, arguments.flag("--unassigned")).await?;
    }
    let mut programs = Vec::new();
    for name in &devices {
        programs.push(start_device(&kit, links.path(), name).await?);
    }
    let environment: Vec<(&str, &str)> = arguments.all("--env").filter_map(|pair| pair.split_once('=')).collect();
    let mut running = Running::start(&agent, &configuration, links.path(), &environment, &directory.path().join("agent.log"))?;
    let client = Client::new(&links.path().join("agent"));
    running.answers(&client).await?;
    let status = Command::new(&agent)
        .arg("assignment")
        .args(["--config".as_ref(), configuration.as_os_str(), "start".as_ref(), document.as_os_str()])
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err("the agent took no assignment".into());
    }
    println!(
        "agent: {}; broker: {}; devices: {}; backlog: {days} days, centre {}; environment: {}",
        agent.file_name().unwrap_or_default().display(),
        kit.broker_name(),
        devices.join(", "),
        if centre.is_some() { "there" } else { "away" },
        if environment.is_empty() { "as it is".to_owned() } else { format!("{environment:?}") },
    );
    let (warm, seconds) = (arguments.number("--warm", 60_u64)?, arguments.number("--seconds", 30_u64)?);
    let process = running.child.id();
    tokio::time::sleep(Duration::from_secs(warm)).await;
    sample(process, seconds).await?;
    said(&client).await?;
    for (name, kib) in process::mappings(process)?.into_iter().take(arguments.number("--maps", 12)?) {
        println!("  {kib:>6} KiB  {name}");
    }
    println!("  threads: {}", process::threads(process)?.join(", "));
    Ok(())
}

/// The agent: as told, or beside this program's own target directory.
fn agent(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let beside = own.ancestors().nth(2).map(|release| release.join("kit-agent"));
    let agent = arguments.all("--agent").next().map(PathBuf::from).or(beside).ok_or("no agent")?;
    if agent.is_file() {
        Ok(agent)
    } else {
        Err(format!("{}: build it with `cargo build --release -p kit-agent`", agent.display()).into())
    }
}

fn devices(arguments: &Arguments) -> Vec<&'static str> {
    let without: Vec<&str> = arguments.all("--without").collect();
    DEVICES.iter().map(|device| device.name).filter(|name| !without.contains(name)).collect()
}

/// Writes the kit's configuration with its devices.
fn configure(kit: &Kit, directory: &Path, links: &Path, devices: &[&str]) -> Result<PathBuf, Failure> {
    let state = directory.join("kit");
    std::fs::create_dir_all(&state)?;
    let mut text = kit.agent_configuration(&state, &links.join("agent"));
    for name in devices {
        let device = firmware_sim::devices::find(name).ok_or("no such device")?;
        let place = match device.connection {
            Connection::Serial(_) => format!("port = \"{}\"", links.join(name).display()),
            Connection::Gatt(make) | Connection::Broadcast(make) => {
                let address = make(SEED, &Scenario::default(), Truth::none()).address();
                format!("address = \"{}\"", address.map(|octet| format!("{octet:02X}")).join(":"))
            }
        };
        let driver = device.driver;
        write!(text, "\n[[device]]\nidentity = \"{name}\"\ndriver = \"{driver}\"\n{place}\n")?;
        if matches!(device.connection, Connection::Broadcast(_)) {
            text += "broadcast = true\nwindow = false\n";
        }
    }
    let file = directory.join("kit.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Fills the kit's own store before the agent has it.
async fn store_backlog(configuration: &Path, days: usize, unassigned: bool) -> Result<(), Failure> {
    let config = Config::load(configuration)?;
    let store = Identity::load(&config)?.start_store(&config, &std::sync::Arc::new(Clock::of_this_boot()))?;
    // Under the assignment that is given to the agent afterwards, as the backlog of a patient is.
    if !unassigned {
        store.switch_epoch(Some(ASSIGNMENT), EpochReason::AssignmentStart).await?;
    }
    records::append(&store, records::of_backlog(&Backlog::of_days(days))?).await?;
    store.close().await?;
    Ok(())
}

async fn start_device(kit: &Kit, links: &Path, name: &str) -> Result<Program, Failure> {
    let device = firmware_sim::devices::find(name).ok_or("no such device")?;
    let (option, place) = match device.connection {
        Connection::Serial(_) => ("--pty", links.join(name)),
        Connection::Gatt(_) | Connection::Broadcast(_) => ("--bus", links.join("bus")),
    };
    let arguments: [OsString; 6] =
        ["device".into(), name.into(), option.into(), place.clone().into(), "--seed".into(), SEED.to_string().into()];
    let program = kit.launcher().start("sim", name, &arguments)?;
    let there = async {
        while !place.exists() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(READY_WITHIN, there).await.map_err(|_| format!("{name} does not appear"))?;
    Ok(program)
}

/// The agent; killed when this is dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(
        agent: &Path,
        configuration: &Path,
        links: &Path,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self, Failure> {
        let log = std::fs::File::create(log)?;
        let mut bus = OsString::from("unix:path=");
        bus.push(links.join("bus"));
        let child = Command::new(agent)
            .args(["run".as_ref(), "--config".as_ref(), configuration.as_os_str()])
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child })
    }

    async fn answers(&mut self, client: &Client) -> Result<(), Failure> {
        let answered = async {
            while client.get::<serde_json::Value>("/status").await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, answered).await.map_err(|_| "the agent does not answer".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has already gone.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Samples each second, and prints what came of it.
async fn sample(process: u32, seconds: u64) -> Result<(), Failure> {
    let (start, cpu, written) = (clock::instant(), process::cpu(process)?, process::written(process)?);
    let mut memories: Vec<Memory> = Vec::new();
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        memories.push(process::memory(process)?);
    }
    let time = start.elapsed().as_secs_f64();
    let cpu = (process::cpu(process)? - cpu).as_secs_f64();
    let written = process::written(process)? - written;
    memories.sort_by_key(|memory| memory.pss);
    let (Some(median), Some(peak)) = (memories.get(memories.len() / 2), memories.last()) else { return Err("no sample".into()) };
    let megabytes = |kib: u64| float(usize::try_from(kib).unwrap_or(usize::MAX)) * 1024.0 / 1e6;
    println!(
        "  PSS {:.2} MB in the median, {:.2} MB at its peak: {:.2} x the budget of {BUDGET_MB} MB; in the median {:.2} MB anonymous and {:.2} MB of files",
        megabytes(median.pss),
        megabytes(peak.pss),
        megabytes(median.pss) / BUDGET_MB,
        megabytes(median.anonymous),
        megabytes(median.file),
    );
    let written = float(usize::try_from(written)?);
    println!(
        "  CPU {:.2} % of one core (budget 2 %), {:.0} octets a second handed to write(2), files and sockets",
        cpu / time * 100.0,
        written / time
    );
    Ok(())
}

/// What the agent says of itself: that it was connected, and to how many devices.
async fn said(client: &Client) -> Result<(), Failure> {
    let status: serde_json::Value = client.get("/status").await?;
    println!(
        "  the agent says: connected {}, centre online {}, {} records waiting, devices {}",
        status["link"]["connected"],
        status["link"]["centre_online"],
        status["waiting"],
        status["devices"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|device| format!("{} {}", device["identity"], device["phase"]))
            .collect::<Vec<_>>()
            .join(", "),
    );
    Ok(())
}
