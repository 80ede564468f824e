//! The reference centre: takes what the kits send, stores each record exactly once, and says so only after its commit.
//!
//! `ingest` decides (pure), `store` keeps, `intake` joins the two, `mqtt` brings the messages and sends the answers.

pub mod assignment;
pub mod certificate;
mod cli;
pub mod clock;
pub mod config;
pub mod ingest;
pub mod intake;
pub mod keyring;
mod mqtt;
mod service;
pub mod signature;
pub mod store;

#[cfg(test)]
#[path = "tests/fixture.rs"]
mod fixture;

pub use self::service::{RunError, run};

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command that `arguments` name, the program's own name first, and gives its exit code: 0 done, 1 failed, 2 wrong
/// use.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::main(arguments)
}
