//! The command line: words to types, answers to tables or JSON lines, and the exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use, a wrong configuration among it.

mod assign;
mod listing;
mod print;
mod readings;
mod resend;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing::Level;

use crate::assignment::AssignError;
use crate::clock::{self, WallTime};
use crate::config::{ConfigError, ConfigFile};
use crate::service::{self, RunError};
use crate::store::{Reader, StoreError};

/// Exit code where a command was used wrongly.
const WRONG_USE: u8 = 2;
/// Where the configuration is looked for.
const CONFIG: &str = "/etc/kit-centre/centre.toml";

/// The receiving end of the telemonitoring kits: stores each record once, and says so only after its commit.
#[derive(Debug, Parser)]
#[command(name = "kit-centre", version, after_help = "This is not an emergency service.")]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where configuration and database are.
#[derive(Debug, Args)]
struct Place {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The database, in place of the configuration's; listings need nothing else.
    #[arg(long, global = true, value_name = "FILE")]
    database: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The service: takes what the kits send, until it is stopped.
    Run,
    /// Every kit: is it there, and has it delivered?
    Kits(listing::Listing),
    /// Stored readings and recordings.
    Readings(readings::Readings),
    /// Numbers that will never come or have not come yet, and spans that kits could not measure.
    Gaps(listing::Listing),
    /// Sign an assignment: a kit lent to one patient.
    Assign(assign::Assign),
    /// Look for records that were acknowledged and are missing, and have the kit send them again.
    Resend(resend::Resend),
}

/// Why a command failed; the text says what to do next where there is something to do.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// Wrong use: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Wrong configuration: exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Exit code 1, as all below.
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Assign(#[from] AssignError),
    #[error("writing failed: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command that `arguments` name, the program's own name first.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and go to standard output with exit code 0.
            let code = if error.use_stderr() { WRONG_USE } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let done = run(&arguments, &mut output).and_then(|()| Ok(output.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`| head`).
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let said = writeln!(io::stderr(), "kit-centre: {error}");
            match error {
                CliError::Usage(_) | CliError::Config(_) if said.is_ok() => ExitCode::from(WRONG_USE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments, output: &mut dyn Write) -> Result<(), CliError> {
    let place = &arguments.place;
    match &arguments.command {
        Command::Run => serve(place),
        Command::Kits(listing) => listing.kits(&place.reader()?, output),
        Command::Readings(readings) => readings.list(&place.reader()?, clock::wall(), output),
        Command::Gaps(listing) => listing.gaps(&place.reader()?, output),
        Command::Assign(assign) => assign.sign(place, clock::wall(), output),
        Command::Resend(resend) => resend.ask(place, output),
    }
}

impl Place {
    fn database(&self) -> Result<PathBuf, CliError> {
        match &self.database {
            Some(database) => Ok(database.clone()),
            None => Ok(ConfigFile::read(&self.config)?.database),
        }
    }

    fn reader(&self) -> Result<Reader, CliError> {
        let database = self.database()?;
        open(&database)
    }
}

fn open(database: &Path) -> Result<Reader, CliError> {
    if !database.exists() {
        let path = database.display();
        return Err(CliError::Failed(format!("there is no database {path} yet; `kit-centre run` makes it")));
    }
    Ok(Reader::open(database)?)
}

fn serve(place: &Place) -> Result<(), CliError> {
    let mut config = ConfigFile::read(&place.config)?.load()?;
    if let Some(database) = &place.database {
        config.database.clone_from(database);
    }
    // A second subscriber, where another part of the process has set one, changes nothing.
    let logging = tracing_subscriber::fmt().with_max_level(Level::INFO).with_writer(io::stderr).try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(service::run(config, stop_signal()));
    drop(logging);
    Ok(served?)
}

/// Ready at SIGINT or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the signals end the process at once, which loses nothing either.
        _ => std::future::pending().await,
    }
}

/// A time as a person writes it: RFC 3339, or a date, which is its midnight in UTC.
fn time(text: &str) -> Result<WallTime, String> {
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let midnight = text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(midnight.timestamp())
    });
    let expected = || "expected a time such as 2026-06-01T08:00:00+02:00, or a date".to_owned();
    moment.map(|moment| WallTime(moment.as_microsecond())).ok_or_else(expected)
}

/// A time as listings write it: RFC 3339 in UTC, microseconds.
fn rfc3339(microseconds: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(microseconds).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests;
