//! A TMP117 thermometer on I2C, at the register. Source: Texas Instruments, TMP117 data sheet SNOS D82.

use std::time::Duration;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation, SevenBitAddress};

use super::Shared;
use crate::noise::{nearest, step};
use crate::patient::Patient;

/// Its address with ADD0 to ground.
pub const ADDRESS: SevenBitAddress = 0x48;
const TEMPERATURE: u8 = 0x00;
const CONFIGURATION: u8 = 0x01;
const DEVICE_ID: u8 = 0x0f;
const IDENTIFICATION: u16 = 0x0117;
/// Digits a degree.
const DIGITS_PER_DEGREE: f64 = 128.0;
/// Before the first conversion the register says −256 °C.
const NOTHING_YET: u16 = 0x8000;
const DATA_READY: u16 = 1 << 13;
const SHUTDOWN: u16 = 1 << 10;
const MODE: u16 = 3 << 10;
/// Continuous conversion, one a second of eight averaged: the state after reset.
const RESET: u16 = 0x0220;
const CONVERSION_NS: u64 = 1_000_000_000;
/// The probe takes on the body's warmth with this time constant, s.
const WARM_UP_SECONDS: f64 = 4.0;
const ROOM_CELSIUS: f64 = 23.0;
const NOISE_DIGITS: u32 = 1;

/// The part.
pub struct Tmp117 {
    patient: Patient,
    noise_seed: u64,
    now: u64,
    /// When the probe came to the body.
    touched: Option<u64>,
    next: u64,
    conversions: u64,
    configuration: u16,
    digits: u16,
    pointer: u8,
}

impl Tmp117 {
    /// The part at power-up.
    #[must_use]
    pub fn new(seed: u64, noise_seed: u64) -> Self {
        Self {
            patient: Patient::new(seed),
            noise_seed,
            now: 0,
            touched: None,
            next: CONVERSION_NS,
            conversions: 0,
            configuration: RESET,
            digits: NOTHING_YET,
            pointer: 0,
        }
    }

    /// Lets time pass up to `now` (ns since the simulation's start).
    pub fn advance(&mut self, now: u64) {
        while self.next <= now {
            if self.configuration & MODE != SHUTDOWN {
                self.now = self.next;
                self.convert();
            }
            self.next += CONVERSION_NS;
        }
        self.now = now.max(self.now);
    }

    /// The probe is on the body, or off it.
    pub fn touch(&mut self, on: bool) {
        self.touched = on.then(|| self.touched.unwrap_or(self.now));
    }

    fn convert(&mut self) {
        self.conversions += 1;
        let at = Duration::from_nanos(self.now).as_secs_f64();
        let celsius = self.touched.map_or(ROOM_CELSIUS, |since| {
            let held = Duration::from_nanos(self.now - since).as_secs_f64();
            let body = self.patient.vitals(at).temperature;
            body + (ROOM_CELSIUS - body) * (-held / WARM_UP_SECONDS).exp()
        });
        let digits = nearest(celsius * DIGITS_PER_DEGREE) + i64::from(step(self.noise_seed, self.conversions, NOISE_DIGITS));
        self.digits = u16::try_from(digits & 0xffff).unwrap_or(NOTHING_YET);
        self.configuration |= DATA_READY;
    }

    fn read(&mut self) -> u16 {
        match self.pointer {
            TEMPERATURE => {
                self.configuration &= !DATA_READY;
                self.digits
            }
            CONFIGURATION => {
                let configuration = self.configuration;
                self.configuration &= !DATA_READY;
                configuration
            }
            DEVICE_ID => IDENTIFICATION,
            _ => 0,
        }
    }
}

/// The firmware's end of the part's I2C.
#[derive(Clone)]
pub struct Bus(pub Shared<Tmp117>);

impl ErrorType for Bus {
    type Error = ErrorKind;
}

impl I2c for Bus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if address != ADDRESS {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        let mut part = self.0.lock();
        for operation in operations {
            match operation {
                Operation::Write([CONFIGURATION, high, low]) => {
                    part.configuration = u16::from_be_bytes([*high, *low]) & !DATA_READY
                }
                Operation::Write(octets) => part.pointer = octets.first().copied().unwrap_or(part.pointer),
                Operation::Read(into) => {
                    let octets = part.read().to_be_bytes();
                    into.iter_mut().zip(octets).for_each(|(slot, octet)| *slot = octet);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_converts_once_a_second_and_reading_clears_data_ready() {
        let part = Shared::new(Tmp117::new(1, 1));
        let mut bus = Bus(part.clone());
        let read = |bus: &mut Bus, register| {
            let mut octets = [0; 2];
            bus.write_read(ADDRESS, &[register], &mut octets).unwrap();
            u16::from_be_bytes(octets)
        };
        assert_eq!(read(&mut bus, DEVICE_ID), IDENTIFICATION);
        assert_eq!(read(&mut bus, TEMPERATURE), NOTHING_YET);
        part.lock().touch(true);
        part.lock().advance(40 * CONVERSION_NS);
        assert_eq!(read(&mut bus, CONFIGURATION) & DATA_READY, DATA_READY);
        assert_eq!(read(&mut bus, CONFIGURATION) & DATA_READY, 0);
        let celsius = f64::from(read(&mut bus, TEMPERATURE)) / DIGITS_PER_DEGREE;
        assert!((celsius - Patient::new(1).vitals(40.0).temperature).abs() < 0.03, "{celsius}");
        bus.write(ADDRESS, &[CONFIGURATION, 0x04, 0x00]).unwrap();
        part.lock().touch(false);
        part.lock().advance(60 * CONVERSION_NS);
        assert_eq!(read(&mut bus, CONFIGURATION) & DATA_READY, 0, "in shutdown nothing is converted");
        assert!(bus.write(0x49, &[0]).is_err());
    }
}
