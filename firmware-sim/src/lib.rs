//! The kit's devices in software: firmware on embedded-hal traits, simulated parts, virtual links.

pub mod link;
