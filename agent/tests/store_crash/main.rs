//! The store under SIGKILL and under simulated power cuts: what was told as stored is there, once, under its key.
//!
//! A child process (this binary again) appends and tells on a pipe what it was told; it is killed, or its writes are recorded
//! and replayed up to a cut; then the store is opened and the ledger drawn up.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it should be")]

mod kill;
mod ledger;
mod plaintext;
mod power_loss;
mod replay;
mod writer;
