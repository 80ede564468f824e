//! How to converse with each device of the kit.
//!
//! Sessions are pure state machines over the [`driver::Session`] trait; only `transport` touches a radio or a port.

pub mod blood_pressure;
pub mod blood_pressure_omron;
pub mod decode;
#[cfg(feature = "derive")]
pub mod derive;
pub mod driver;
pub mod ecg_ads1298;
pub mod ecg_file;
pub mod ecg_lepu;
pub mod exercise;
pub mod glucose_meter;
pub mod health_sensor;
pub mod heart_rate;
pub mod monitor_ansar;
pub mod monitor_pc300;
pub mod oximeter_berry;
pub mod oximeter_contec;
pub mod oximeter_nonin;
pub mod oximeter_viatom;
pub mod pulse_oximeter;
pub mod registry;
mod session;
pub mod spirometer_contec;
pub mod spirometer_flow;
#[cfg(test)]
#[path = "tests/text.rs"]
mod text;
pub mod thermometer;
#[cfg(feature = "transport")]
pub mod transport;
pub mod weight_scale;
