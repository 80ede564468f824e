//! A fingertip on an oximeter's sensor.

use std::time::Duration;

use crate::parts::max30102::{Optics, Reflectance};
use crate::patient::Patient;

/// Photocurrent from a finger, nA for each mA of LED current: about 100,000 counts of 18 bits at 7.2 mA and 4096 nA.
const FINGER: Reflectance = Reflectance { red: 180.0, infrared: 220.0 };
/// From the window alone.
const BARE: Reflectance = Reflectance { red: 1.5, infrared: 1.8 };

/// The patient's fingertip, on the sensor or off it.
pub(super) struct Finger {
    pub(super) patient: Patient,
    pub(super) on: bool,
}

impl Optics for Finger {
    /// The more oxygen, the less the pulse shows in red: R = (110 − SpO2) / 25, the usual line for this sensor.
    fn at(&mut self, nanoseconds: u64) -> Reflectance {
        if !self.on {
            return BARE;
        }
        let seconds = Duration::from_nanos(nanoseconds).as_secs_f64();
        let vitals = self.patient.vitals(seconds);
        let pulse = vitals.perfusion * self.patient.pleth(seconds);
        let ratio = (110.0 - vitals.spo2) / 25.0;
        Reflectance { red: FINGER.red * (1.0 - ratio * pulse), infrared: FINGER.infrared * (1.0 - pulse) }
    }
}
