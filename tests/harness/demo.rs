//! The demonstration: broker, centre, simulated devices and agent on this machine, with faults, and a ledger at the end.
//!
//! It starts itself again for each program, with a hidden first argument that names the role.

mod display;
mod measure;
mod options;
mod report;
mod run;
mod schedule;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::plant::PlantError;
use crate::{broker, process};

pub use options::Options;
pub use report::Ledger;

/// Exit code where the command line was wrong.
const WRONG_USE: u8 = 2;

/// Why the demonstration could not be carried through; the text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something that it is made of.
    #[error(transparent)]
    Plant(#[from] PlantError),
    /// Ctrl-C, or a termination.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let named = PlantError::io(doing);
        move |source| Self::Plant(named(source))
    }
}

/// Runs the demonstration, or the role that the hidden first argument names.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|first| first == process::ROLE) {
        let mut rest = arguments.into_iter().skip(2);
        let role = rest.next().unwrap_or_default();
        return play(&role.to_string_lossy(), &rest.next().unwrap_or_default(), rest);
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { WRONG_USE } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(DemoError::io("the runtime")).and_then(|runtime| runtime.block_on(run::run(options))) {
        Ok(balanced) => ExitCode::from(u8::from(!balanced)),
        Err(error) => complain(&error.to_string()),
    }
}

/// Plays a role until it ends; the process that started this one takes it along.
fn play(role: &str, parent: &std::ffi::OsStr, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if let Err(error) = process::die_with_parent(parent) {
        return complain(&error.to_string());
    }
    let named = |name: &str| std::iter::once(OsString::from(name));
    match role {
        "agent" => kit_agent::main(named("kit-agent").chain(arguments)),
        "centre" => kit_centre::main(named("kit-centre").chain(arguments)),
        "sim" => firmware_sim::main(named("kit-sim").chain(arguments)),
        "broker" => match broker::embedded::main(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string()),
        },
        "mosquitto" => complain(&broker::mosquitto::main(arguments).to_string()),
        _ => complain("no such role"),
    }
}

fn complain(what: &str) -> ExitCode {
    // Where even standard error is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "demo: {what}");
    ExitCode::FAILURE
}
