//! `kit-sim`: simulated devices from the command line.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::clock;
use crate::devices::DEVICES;
use crate::ecg_files::{EcgFile, Format};
use crate::faults::Scenario;
use crate::firmware::calendar;
use crate::run::{Attachment, DeviceSpec, Handle, SimError, spawn, spawn_on_bus};
use crate::truth::Truth;

/// How often it is checked that the device still runs.
const CHECK: Duration = Duration::from_millis(200);

/// Simulated devices of the telemonitoring kit.
#[derive(Debug, Parser)]
#[command(name = "kit-sim", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a device until it is stopped (SIGTERM or Ctrl-C).
    Device(DeviceArguments),
    /// Writes ECG files, as recorders of several makers would of the same patient, and ends.
    EcgFiles(EcgFilesArguments),
    /// Runs several Bluetooth devices around one virtual BlueZ until they are stopped.
    Bus(BusArguments),
    /// Names the devices.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct DeviceArguments {
    /// Its name, as `list` gives it.
    name: String,
    /// The path of its serial port.
    #[arg(long, value_name = "PATH", required_unless_present = "bus", conflicts_with = "bus")]
    pty: Option<PathBuf>,
    /// The socket of its virtual BlueZ.
    #[arg(long, value_name = "SOCKET")]
    bus: Option<PathBuf>,
    /// Patient, noise and address.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What goes wrong, and when.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Where to write what was really put on the link, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct EcgFilesArguments {
    /// The folder to write into.
    #[arg(long)]
    folder: PathBuf,
    /// The formats; all of them, unless said.
    #[arg(long, value_enum)]
    format: Vec<Format>,
    /// How long each is.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Patient and noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write what each file holds, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BusArguments {
    /// Their names, as `list` gives them.
    #[arg(required = true)]
    names: Vec<String>,
    /// The socket of their virtual BlueZ.
    #[arg(long, value_name = "SOCKET")]
    bus: PathBuf,
    /// Patient, noise and addresses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What goes wrong with each of them, and when.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The folder in which to write what each really put on its link, in a file NAME.jsonl.
    #[arg(long, value_name = "FOLDER")]
    truth: Option<PathBuf>,
}

/// Runs `kit-sim`. Exit codes: 0 done, 1 failed, 2 wrong use.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match arguments.command {
        Command::List { json } => list(json),
        Command::Device(arguments) => device(arguments),
        Command::EcgFiles(arguments) => ecg_files(arguments),
        Command::Bus(arguments) => bus(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, what }) => {
            eprintln!("kit-sim: {what}");
            ExitCode::from(code)
        }
    }
}

/// Why it ended, and with which exit code.
struct Failure {
    code: u8,
    what: String,
}

impl Failure {
    fn failed(what: impl ToString) -> Self {
        Self { code: 1, what: what.to_string() }
    }

    fn wrong_use(what: impl ToString) -> Self {
        Self { code: 2, what: what.to_string() }
    }
}

fn list(json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for device in DEVICES {
        let line = if json {
            device.to_json().to_string()
        } else {
            format!("{:16} {:7} {:34} {}", device.name, device.link(), device.protocol, device.parts)
        };
        writeln!(out, "{line}").map_err(Failure::failed)?;
    }
    Ok(())
}

fn ecg_files(arguments: EcgFilesArguments) -> Result<(), Failure> {
    let EcgFilesArguments { folder, format, seconds, seed, truth } = arguments;
    let truth = truth.as_deref().map_or(Ok(Truth::none()), Truth::to).map_err(Failure::wrong_use)?;
    let began = calendar::civil(clock::wall_seconds().saturating_sub(calendar::SECONDS_1970_TO_2000));
    let formats = if format.is_empty() { Format::value_variants().to_vec() } else { format };
    for format in formats {
        let file = EcgFile::of(format, seed, seconds, began).map_err(Failure::failed)?;
        // Said first: a file that is there is known.
        file.tell(&truth).map_err(Failure::failed)?;
        file.write(&folder).map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    }
    Ok(())
}

fn scenario(path: Option<&Path>) -> Result<Scenario, Failure> {
    let Some(path) = path else { return Ok(Scenario::default()) };
    let named = |what: &dyn std::fmt::Display| Failure::wrong_use(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    Scenario::parse(&text).map_err(|error| named(&error))
}

fn truth(path: Option<&Path>) -> Result<Truth, Failure> {
    let Some(path) = path else { return Ok(Truth::none()) };
    Truth::to(path).map_err(|error| Failure::wrong_use(format!("{}: {error}", path.display())))
}

fn device(arguments: DeviceArguments) -> Result<(), Failure> {
    let (scenario, truth) = (scenario(arguments.scenario.as_deref())?, truth(arguments.truth.as_deref())?);
    let attachment = match (arguments.pty, arguments.bus) {
        (Some(path), _) => Attachment::Pty(path),
        (None, Some(path)) => Attachment::Bus(path),
        (None, None) => return Err(Failure::wrong_use("give --pty PATH or --bus SOCKET")),
    };
    let spec = DeviceSpec { name: arguments.name, attachment, seed: arguments.seed, scenario, truth };
    until_stopped(|| spawn(spec))
}

fn bus(arguments: BusArguments) -> Result<(), Failure> {
    let scenario = scenario(arguments.scenario.as_deref())?;
    let spec = |name: String| {
        let file = arguments.truth.as_ref().map(|folder| folder.join(format!("{name}.jsonl")));
        let (attachment, truth) = (Attachment::Bus(arguments.bus.clone()), truth(file.as_deref())?);
        Ok(DeviceSpec { name, attachment, seed: arguments.seed, scenario: scenario.clone(), truth })
    };
    let specs = arguments.names.into_iter().map(spec).collect::<Result<Vec<_>, Failure>>()?;
    until_stopped(|| spawn_on_bus(&arguments.bus, specs))
}

fn until_stopped(start: impl FnOnce() -> Result<Handle, SimError>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(async {
        // Before the device is there, so that no signal finds the default action.
        let signal = |kind| tokio::signal::unix::signal(kind).map_err(Failure::failed);
        let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
        let handle = start().map_err(Failure::wrong_use)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = finished(&handle) => {}
        }
        handle.stop().map_err(Failure::failed)
    })
}

async fn finished(handle: &Handle) {
    while !handle.is_finished() {
        tokio::time::sleep(CHECK).await;
    }
}
