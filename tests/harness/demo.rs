//! The demonstration: everything on this machine.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{broker, process};

/// Runs the demonstration, or the role that the hidden first argument names.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next().is_some_and(|first| first == process::ROLE) {
        return role(&arguments.next().unwrap_or_default().to_string_lossy(), arguments);
    }
    ExitCode::from(2)
}

fn role(name: &str, mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if let Err(error) = process::die_with_parent(&arguments.next().unwrap_or_default()) {
        return failed(&error.to_string());
    }
    match name {
        "broker" => match broker::embedded::main(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
        "mosquitto" => failed(&broker::mosquitto::main(arguments).to_string()),
        _ => failed("no such role"),
    }
}

fn failed(why: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "demo: {why}");
    ExitCode::FAILURE
}
