//! The telemonitoring gateway: measures, keeps, and delivers each reading exactly once.

pub mod acquisition;
pub mod api;
mod cli;
pub mod clock;
pub mod config;
mod health;
pub mod identity;
pub mod store;
mod supervisor;
pub mod sync;

pub use cli::main;
