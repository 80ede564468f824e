//! What a driver meets: virtual links.

pub mod bluez;
pub mod gatt;
pub mod serial;
