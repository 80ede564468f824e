//! From the store to the centre and back: what to send, the wire, and what is settled.

pub mod batch;
pub mod planner;
