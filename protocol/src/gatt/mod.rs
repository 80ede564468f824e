//! One file per GATT characteristic.
//!
//! One policy for octets behind the last known field: they are refused ([`DecodeError::Trailing`]), since a device that
//! departs from the standard shows itself that way, unless a reserved flag is set, which may announce them. A blood pressure
//! refuses them even then: a cuff is known that sets a reserved flag and sends its pulse the wrong way round.
//!
//! [`DecodeError::Trailing`]: crate::reader::DecodeError::Trailing

pub mod battery_level;
pub mod blood_pressure;
pub mod body_composition;
pub mod contec_spirometer;
pub mod current_time;
pub mod date_time;
pub mod device_information;
pub mod elapsed_time;
pub mod glucose_feature;
pub mod glucose_measurement;
pub mod glucose_measurement_context;
pub mod health_observation;
pub mod health_observation_segment;
pub mod health_sensor_features;
pub mod heart_rate;
pub mod mi_scale;
pub mod omron_memory;
pub mod omron_record;
pub mod plx_continuous;
pub mod plx_features;
pub mod plx_spot_check;
pub mod plx_status;
pub mod racp;
pub mod temperature;
pub mod weight;

#[cfg(test)]
mod tests;
