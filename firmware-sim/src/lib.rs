//! The kit's devices in software: firmware on embedded-hal traits, simulated parts, virtual links.
//!
//! A device is a board ([`devices`]) that joins [`parts`], simulated at the register, to the [`firmware`] that would run on
//! a microcontroller, before a [`patient`] made from a seed; it is met over a virtual [`link`], suffers [`faults`] by a
//! schedule, and what it really put on the link is written down ([`truth`]). The simulation never waits for whoever reads.

extern crate alloc;

pub mod cli;
pub mod clock;
pub mod devices;
pub mod ecg_files;
pub mod faults;
pub mod firmware;
pub mod link;
pub mod lungs;
pub mod noise;
pub mod parts;
pub mod patient;
pub mod recording;
pub mod run;
pub mod truth;

pub use cli::main;
pub use run::{Attachment, DeviceSpec, Handle, SimError, spawn, spawn_on_bus};
