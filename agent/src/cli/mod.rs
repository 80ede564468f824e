//! The command line: words to types, answers to tables or JSON lines, and the exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use.

mod assignment;
mod convert;
mod decode;
mod export;
mod listing;
mod measure;
mod plot;
mod print;
mod recording_file;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::api::client::Client;
use crate::config::{Config, SOCKET};
use crate::supervisor::Stopped;

/// Exit code where a command was used wrongly.
const WRONG_USE: u8 = 2;

/// The telemonitoring gateway: measures, keeps, and delivers each reading exactly once.
#[derive(Debug, Parser)]
#[command(name = "kit-agent", version, after_help = "This is not an emergency service.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The service.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// The kit at a glance: is data arriving?
    Status(Asked),
    /// What waits for the centre, lane by lane.
    Queue(Asked),
    /// The devices and how they are.
    Devices(Asked),
    /// The driver table.
    Drivers {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Readings of the local record.
    Readings(listing::Readings),
    /// Open a measurement window: what a scale that only advertises weighs in it is the patient's.
    Measure(measure::Measure),
    /// Octets of a device to readings; no service needed.
    Decode(decode::Decode),
    /// A recording from one file format to another; no service needed.
    Convert(convert::Convert),
    /// The local record as files.
    Export(export::Export),
    /// Activate or end an assignment; without either, show it.
    Assignment(assignment::Assignment),
}

/// A question to the running agent.
#[derive(Debug, clap::Args)]
struct Asked {
    #[command(flatten)]
    agent: AgentPlace,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Which agent is asked.
#[derive(Debug, clap::Args)]
struct AgentPlace {
    /// The agent's socket.
    #[arg(long, global = true, default_value = SOCKET)]
    socket: PathBuf,
    /// Take the socket from this configuration file.
    #[arg(long, global = true, conflicts_with = "socket")]
    config: Option<PathBuf>,
}

impl AgentPlace {
    fn client(&self) -> Result<Client, Failure> {
        let socket = match &self.config {
            Some(file) => Config::load(file).map_err(|error| Failure::WrongUse(error.to_string()))?.socket,
            None => self.socket.clone(),
        };
        Ok(Client::new(&socket))
    }
}

/// Why a command ended without having done its work.
#[derive(Debug)]
enum Failure {
    /// It was used wrongly: exit 2.
    WrongUse(String),
    /// It failed: exit 1.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs a command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version come this way too, and are no error.
            let code = if error.use_stderr() { WRONG_USE } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    match carry_out(parsed.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::WrongUse(what)) => complain(&what, ExitCode::from(WRONG_USE)),
        Err(Failure::Failed(what)) => complain(&what, ExitCode::FAILURE),
    }
}

fn complain(what: &str, code: ExitCode) -> ExitCode {
    use std::io::Write;
    // Where even standard error is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "kit-agent: {what}");
    code
}

fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { config: file } => {
            let config = Config::load(&file).map_err(|error| Failure::WrongUse(error.to_string()))?;
            crate::supervisor::run(config).map_err(|stopped| match stopped {
                Stopped::WrongConfiguration(what) => Failure::WrongUse(format!("{}: {what}", file.display())),
                Stopped::Failed(what) => Failure::Failed(what),
            })
        }
        Command::Drivers { json } => listing::drivers(json),
        Command::Decode(decode) => decode.run(),
        Command::Convert(convert) => convert.run(),
        Command::Status(asked) => in_runtime(listing::status(asked)),
        Command::Queue(asked) => in_runtime(listing::queue(asked)),
        Command::Devices(asked) => in_runtime(listing::devices(asked)),
        Command::Readings(readings) => in_runtime(readings.run()),
        Command::Measure(measure) => in_runtime(measure.run()),
        Command::Export(export) => in_runtime(export.run()),
        Command::Assignment(assignment) => in_runtime(assignment.run()),
    }
}

/// One thread is enough to ask a question.
fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
