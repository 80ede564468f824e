//! What is computed of a device's signal and stated by no device: a feature of its own (`derive`), since it makes clinical
//! numbers. Pure: a signal in, numbers out; `f64` inside, exact decimals out.

pub mod ecg_quality;
pub mod spirometry;
