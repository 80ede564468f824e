//! The whole kit on one machine: a certificate authority, brokers, a network that fails on request, the ledger that says
//! whether every sample arrived exactly once, and the demonstration that joins them.

pub mod authority;
pub mod bedside;
pub mod bench;
pub mod broker;
pub mod client;
pub mod clock;
pub mod demo;
pub mod disk;
pub mod ledger;
pub mod plant;
pub mod process;
pub mod proxy;
pub mod skip;
