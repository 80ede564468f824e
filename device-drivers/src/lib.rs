//! How to converse with each device of the kit.
//!
//! Sessions are pure state machines over the [`driver::Session`] trait; only `transport` touches a radio or a port.

pub mod decode;
#[cfg(feature = "derive")]
pub mod derive;
pub mod driver;
pub mod ecg_ads1298;
mod outputs;
pub mod oximeter_nonin;
pub mod pulse_oximeter;
pub mod registry;
pub mod transport;
mod wave;
