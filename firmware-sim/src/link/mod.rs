//! What a driver meets: virtual links.

pub mod gatt;
