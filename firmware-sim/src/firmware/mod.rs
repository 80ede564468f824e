//! Firmware of the devices, one file each, on embedded-hal and embedded-io traits: nothing here knows a board, a thread, a
//! clock or std. Time comes as ticks of the part that samples, or as milliseconds since power-up.

pub mod calendar;
pub mod ecg_ads1298;
pub mod max30102;
pub mod oximeter_nonin;
pub mod pulse_oximeter;
pub mod pulse_signal;

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
