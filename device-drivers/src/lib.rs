//! How to converse with each device of the kit.
//!
//! Sessions are pure state machines over the [`driver::Session`] trait; only `transport` touches a radio or a port.

pub mod driver;
pub mod registry;
pub mod transport;
