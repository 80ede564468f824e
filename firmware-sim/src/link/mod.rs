//! What a driver meets: virtual links.

pub mod gatt;
pub mod serial;
