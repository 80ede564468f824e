//! Firmware of the devices, one file each, on embedded-hal and embedded-io traits: nothing here knows a board, a thread, a
//! clock or std. Time comes as ticks of the part that samples, or as milliseconds since power-up.

pub mod advertising_scale;
pub mod blood_pressure_omron;
pub mod calendar;
pub mod cuff;
pub mod cuff_gauge;
pub mod ecg_ads1298;
pub mod ecg_lepu;
pub mod glucose_meter;
pub mod health_sensor;
pub mod max30102;
pub mod monitor_ansar;
pub mod monitor_pc300;
pub mod oscillometry;
pub mod oximeter_contec;
pub mod oximeter_line;
pub mod oximeter_nonin;
pub mod oximeter_viatom;
pub mod pulse_oximeter;
pub mod pulse_signal;
pub mod spirometer_flow;
pub mod spot_device;
pub mod tmp117;
pub mod vitals;

/// Why a device does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<B> {
    /// The bus to the part failed.
    Bus(B),
    /// Another part answers, or none.
    Part {
        /// Its identification register.
        identification: u8,
    },
    /// A register does not keep what is written to it.
    Register {
        /// Which.
        address: u8,
    },
    /// The UART failed.
    Uart,
}

/// The nearest whole number; what does not fit is the nearest that does.
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is what is wanted")]
pub(crate) fn nearest(value: f32) -> i32 {
    let half = if value < 0.0 { -0.5 } else { 0.5 };
    (value + half) as i32
}

#[cfg(test)]
mod tests {
    const FILES: &[(&str, &str)] = &[
        ("advertising_scale", include_str!("advertising_scale.rs")),
        ("blood_pressure_omron", include_str!("blood_pressure_omron.rs")),
        ("calendar", include_str!("calendar.rs")),
        ("cuff", include_str!("cuff.rs")),
        ("cuff_gauge", include_str!("cuff_gauge.rs")),
        ("ecg_ads1298", include_str!("ecg_ads1298.rs")),
        ("glucose_meter", include_str!("glucose_meter.rs")),
        ("health_sensor", include_str!("health_sensor.rs")),
        ("ecg_lepu", include_str!("ecg_lepu.rs")),
        ("max30102", include_str!("max30102.rs")),
        ("monitor_ansar", include_str!("monitor_ansar.rs")),
        ("monitor_pc300", include_str!("monitor_pc300.rs")),
        ("oscillometry", include_str!("oscillometry.rs")),
        ("oximeter_contec", include_str!("oximeter_contec.rs")),
        ("oximeter_line", include_str!("oximeter_line.rs")),
        ("oximeter_nonin", include_str!("oximeter_nonin.rs")),
        ("oximeter_viatom", include_str!("oximeter_viatom.rs")),
        ("pulse_oximeter", include_str!("pulse_oximeter.rs")),
        ("pulse_signal", include_str!("pulse_signal.rs")),
        ("spirometer_flow", include_str!("spirometer_flow.rs")),
        ("spot_device", include_str!("spot_device.rs")),
        ("vitals", include_str!("vitals.rs")),
        ("tmp117", include_str!("tmp117.rs")),
    ];

    #[test]
    fn firmware_uses_nothing_that_a_microcontroller_lacks() {
        for (name, text) in FILES {
            let firmware = text.split("#[cfg(test)]").next().unwrap();
            for absent in ["std::", "println!", "format!", "crate::"] {
                assert!(!firmware.contains(absent), "{name} names {absent}");
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_saturates() {
        for (value, whole) in [(0.4, 0), (0.5, 1), (-0.5, -1), (97.49, 97), (1.0e20, i32::MAX), (f32::NAN, 0)] {
            assert_eq!(super::nearest(value), whole);
        }
    }
}
