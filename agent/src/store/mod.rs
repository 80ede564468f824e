//! The outbox: sealed records on the disk until the centre has committed them.
//!
//! [`outbox`] is the contract, [`epochs`] the store that keeps it, [`thread`] the one blocking thread that owns a store and
//! how the rest of the agent speaks to it. Below: an epoch ([`epoch`](self), `append`, `reading`), its database (`sled`), its
//! segment files (`segments`), its small files (`about`), and the sealing of all of it ([`seal`]).

mod about;
mod append;
mod block;
mod bygone;
#[cfg(test)]
#[path = "tests/conformance.rs"]
mod conformance;
mod deletion;
mod epoch;
pub mod epochs;
mod files;
pub mod filing;
mod gone;
#[cfg(test)]
#[path = "tests/memory.rs"]
pub(crate) mod memory;
pub mod outbox;
mod reading;
mod retention;
pub mod seal;
mod segments;
mod sled;
#[cfg(test)]
mod tests;
pub mod thread;

pub use epochs::{FREE_FLOOR_OCTETS, Options, StampSource, Store};
pub use filing::Stamp;
pub use retention::Retention;
pub use seal::Kek;
