//! The driver table: one row a driver, standard first. `kit-agent drivers` prints it.

use crate::driver::Driver;

/// Every driver.
pub const DRIVERS: &[Driver] = &[
    crate::thermometer::DRIVER,
    crate::pulse_oximeter::DRIVER,
    crate::blood_pressure::DRIVER,
    crate::blood_pressure_omron::DRIVER,
    crate::heart_rate::DRIVER,
    crate::weight_scale::DRIVER,
    crate::glucose_meter::DRIVER,
    crate::health_sensor::DRIVER,
    crate::oximeter_nonin::DRIVER,
    crate::oximeter_contec::DRIVER,
    crate::oximeter_berry::DRIVER,
    crate::oximeter_viatom::DRIVER,
    crate::monitor_pc300::DRIVER,
    crate::monitor_ansar::DRIVER,
    crate::spirometer_contec::DRIVER,
    crate::spirometer_flow::DRIVER,
    crate::ecg_ads1298::DRIVER,
    crate::ecg_lepu::DRIVER,
    crate::ecg_file::DRIVER,
];

/// The driver of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name)
}

/// Whether a driver keeps to [`crate::driver::Start::recording_time`]: those of ECGs that stream.
#[must_use]
pub fn records_for_a_set_time(driver: &Driver) -> bool {
    [crate::ecg_ads1298::DRIVER.name, crate::ecg_lepu::DRIVER.name].contains(&driver.name)
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
