//! The driver table: one row a driver, standard first. `kit-agent drivers` prints it.

use crate::driver::Driver;
use crate::{blood_pressure_omron, ecg_ads1298, monitor_ansar, monitor_pc300, oximeter_nonin, pulse_oximeter};

/// Every driver.
pub const DRIVERS: &[Driver] = &[
    pulse_oximeter::DRIVER,
    blood_pressure_omron::DRIVER,
    oximeter_nonin::DRIVER,
    monitor_pc300::DRIVER,
    monitor_ansar::DRIVER,
    ecg_ads1298::DRIVER,
];

/// The driver of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_once_and_are_found() {
        for (at, driver) in DRIVERS.iter().enumerate() {
            assert!(DRIVERS[..at].iter().all(|before| before.name != driver.name), "{}", driver.name);
            assert!(find(driver.name).is_some_and(|found| found.name == driver.name));
        }
        assert!(find("no-such-driver").is_none());
    }
}
