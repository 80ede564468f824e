//! One file per GATT characteristic.

pub mod date_time;
