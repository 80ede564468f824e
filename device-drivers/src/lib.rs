//! How to converse with each device of the kit.
//!
//! Sessions are pure state machines over the [`driver::Session`] trait; only `transport` touches a radio or a port.

pub mod decode;
pub mod driver;
pub mod ecg_ads1298;
pub mod ecg_file;
pub mod ecg_lepu;
mod gatt_session;
mod outputs;
pub mod oximeter_nonin;
mod playback;
pub mod pulse_oximeter;
pub mod registry;
pub mod transport;
mod wave;
