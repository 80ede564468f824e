//! The local API over a Unix socket: what the command line asks of the running agent. Nothing listens on the network.

pub mod client;
pub mod readings;
pub mod server;
pub mod status;
