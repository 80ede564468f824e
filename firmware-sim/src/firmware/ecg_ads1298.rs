//! The 8-lead ECG: an ADS1298 on SPI, every conversion framed to a UART as it comes.
//!
//! Electrodes: channel 1 is LA − RA (lead I), channel 2 LL − RA (lead II), channels 3–8 are V1–V6 against the Wilson
//! terminal, which the chip makes of the three limb electrodes. Lead-off is sensed with direct current at each electrode.
//! A header frame, at the start and every 10 s, says what the samples mean.

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::InputPin;
use embedded_hal::spi::{Operation, SpiDevice};
use embedded_io::Write;
use kit_protocol::serial::ads1298::{DataFrame, GainCode, Header, Lead, Sample};

use super::Fault;

/// Conversions a second.
pub const RATE_HZ: u16 = 500;
/// A header frame every so many conversions: 10 s.
pub const HEADER_EVERY: u32 = 10 * RATE_HZ as u32;
/// Reference voltage, mV.
pub const REFERENCE_MV: u16 = 2400;

const RESET: u8 = 0x06;
const START: u8 = 0x08;
const RDATAC: u8 = 0x10;
const SDATAC: u8 = 0x11;
const RREG: u8 = 0x20;
const WREG: u8 = 0x40;
const ID: u8 = 0x00;
const ID_ADS1298: u8 = 0x92;

/// After power-up the part needs 2^18 of its clocks: 128 ms; after a reset 18: 9 µs.
const POWER_UP_MS: u32 = 150;
const RESET_US: u32 = 20;

/// The registers that are not left as the reset leaves them.
const SETTINGS: [(u8, u8); 11] = [
    (0x01, 0x86), // CONFIG1: high resolution, 500 a second
    (0x03, 0xcc), // CONFIG3: internal reference 2.4 V on, right-leg drive on, its reference internal
    (0x04, 0x03), // LOFF: direct current, 6 nA, threshold 95 %
    (0x05, 0x00), // CH1SET: gain 6, electrodes; the other seven stay so from the reset
    (0x0d, 0x06), // RLD_SENSP: the right leg is driven by LL …
    (0x0e, 0x02), // RLD_SENSN: … and RA
    (0x0f, 0xff), // LOFF_SENSP: LA, LL, V1–V6
    (0x10, 0x03), // LOFF_SENSN: RA, at both channels that use it
    (0x17, 0x02), // CONFIG4: lead-off comparators on
    (0x18, 0x08), // WCT1: the Wilson terminal from channel 1's positive input (LA) …
    (0x19, 0xca), // WCT2: … channel 1's negative (RA) and channel 2's positive (LL)
];

/// The firmware.
#[derive(Debug)]
pub struct EcgAds1298<SPI, DRDY, UART> {
    spi: SPI,
    data_ready: DRDY,
    uart: UART,
    counter: u32,
    until_header: u32,
    /// Conversions whose status word was none: a broken line to the part.
    broken: u32,
}

impl<SPI: SpiDevice, DRDY: InputPin, UART: Write> EcgAds1298<SPI, DRDY, UART> {
    /// Brings the part up and starts conversions.
    pub fn start(spi: SPI, data_ready: DRDY, uart: UART, delay: &mut impl DelayNs) -> Result<Self, Fault<SPI::Error>> {
        let mut firmware = Self { spi, data_ready, uart, counter: 0, until_header: 0, broken: 0 };
        delay.delay_ms(POWER_UP_MS);
        firmware.command(RESET)?;
        delay.delay_us(RESET_US);
        firmware.command(SDATAC)?;
        let identification = firmware.read(ID)?;
        if identification != ID_ADS1298 {
            return Err(Fault::Part { identification });
        }
        for (address, value) in SETTINGS {
            firmware.spi.write(&[WREG | address, 0, value]).map_err(Fault::Bus)?;
            if firmware.read(address)? != value {
                return Err(Fault::Register { address });
            }
        }
        firmware.command(RDATAC)?;
        firmware.command(START)?;
        Ok(firmware)
    }

    /// To be called when DRDY falls: fetches the conversion and frames it. True if there was one.
    pub fn service(&mut self) -> Result<bool, Fault<SPI::Error>> {
        if !self.data_ready.is_low().unwrap_or(false) {
            return Ok(false);
        }
        let mut octets = [0; Sample::OCTETS];
        self.spi.transaction(&mut [Operation::Read(&mut octets)]).map_err(Fault::Bus)?;
        if self.until_header == 0 {
            self.until_header = HEADER_EVERY;
            self.send(&header().encode())?;
        }
        self.until_header -= 1;
        let counter = self.counter;
        self.counter = counter.wrapping_add(1);
        match Sample::decode(&octets) {
            Ok(sample) => self.send(&DataFrame { counter, sample }.encode())?,
            Err(_) => self.broken = self.broken.saturating_add(1),
        }
        Ok(true)
    }

    /// The number that the next conversion gets.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Fault<SPI::Error>> {
        self.uart.write_all(frame).map_err(|_| Fault::Uart)
    }

    fn command(&mut self, command: u8) -> Result<(), Fault<SPI::Error>> {
        self.spi.write(&[command]).map_err(Fault::Bus)
    }

    fn read(&mut self, address: u8) -> Result<u8, Fault<SPI::Error>> {
        let mut octets = [RREG | address, 0, 0];
        self.spi.transfer_in_place(&mut octets).map_err(Fault::Bus)?;
        Ok(octets[2])
    }
}

/// What the samples mean.
#[must_use]
pub fn header() -> Header {
    Header { rate_hz: RATE_HZ, gain: GainCode(0), reference_mv: REFERENCE_MV, leads: Lead::EIGHT.to_vec() }
}
