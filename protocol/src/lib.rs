//! What the bytes of the kit's devices, and of the wire to the centre, mean.
//!
//! `no_std` + `alloc`: no I/O, no clock, no async, no logging. Decoders take octets and give measurements; encoders are
//! their inverse, for the simulated devices and for round-trip tests. The feature `flac` alone needs std.
#![cfg_attr(not(any(test, feature = "flac")), no_std)]
#![warn(clippy::indexing_slicing)]

extern crate alloc;

pub mod decimal;
pub mod file;
#[cfg(feature = "flac")]
pub mod flac;
mod flags;
pub mod gatt;
#[cfg(feature = "json")]
pub mod json;
pub mod mder;
pub mod moment;
pub mod nomenclature;
pub mod plausibility;
pub mod reader;
pub mod reading;
pub mod serial;
pub mod units;
pub mod uplink;

#[cfg(test)]
#[path = "tests/promises.rs"]
mod promises;
#[cfg(test)]
#[path = "tests/vectors.rs"]
mod vectors;
