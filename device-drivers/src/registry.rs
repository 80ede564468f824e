//! The driver table: one row a driver, standard first. `kit-agent drivers` prints it.

use crate::driver::Driver;

/// Every driver.
pub const DRIVERS: &[Driver] = &[];

/// The driver of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name)
}
