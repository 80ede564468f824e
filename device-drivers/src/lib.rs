//! How to converse with each device of the kit.
//!
//! Sessions are pure state machines over the [`driver::Session`] trait; only `transport` touches a radio or a port.

pub mod blood_pressure_omron;
pub mod decode;
pub mod driver;
pub mod ecg_ads1298;
mod gatt_session;
pub mod monitor_ansar;
pub mod monitor_pc300;
mod outputs;
pub mod oximeter_nonin;
pub mod pulse_oximeter;
pub mod registry;
mod track;
pub mod transport;
mod wave;
