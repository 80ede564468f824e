//! The driver table: one row a driver, standard first. `kit-agent drivers` prints it.

use crate::driver::Driver;
use crate::{ecg_ads1298, ecg_file, ecg_lepu, oximeter_nonin, pulse_oximeter};

/// Every driver.
pub const DRIVERS: &[Driver] =
    &[pulse_oximeter::DRIVER, oximeter_nonin::DRIVER, ecg_ads1298::DRIVER, ecg_lepu::DRIVER, ecg_file::DRIVER];

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
