//! The outbox: sealed records on the disk until the centre has committed them.

pub mod outbox;
pub mod thread;
