//! One file per GATT characteristic.
//!
//! One policy for octets behind the last known field: they are refused ([`DecodeError::Trailing`]), since a device that
//! departs from the standard shows itself that way, unless a reserved flag is set, which may announce them.
//!
//! [`DecodeError::Trailing`]: crate::reader::DecodeError::Trailing

pub mod battery_level;
pub mod current_time;
pub mod date_time;
pub mod plx_continuous;
pub mod plx_features;
pub mod plx_spot_check;
pub mod plx_status;
pub mod racp;

#[cfg(test)]
mod tests;
