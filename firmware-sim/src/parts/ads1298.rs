//! ADS1298: an ECG front end of eight channels with 24 bits each, on SPI.
//!
//! Registers, commands, modes, data-ready, the status word with its lead-off bits, gains and saturation, as in Texas
//! Instruments' data sheet SBAS459. Not simulated: daisy chain, respiration, pace detection, the supply and temperature
//! inputs of the multiplexers, and the settling of the digital filter beyond its delay.

use std::convert::Infallible;

use embedded_hal::digital::{ErrorType as PinErrorType, InputPin};
use embedded_hal::spi::{ErrorType as SpiErrorType, Operation, SpiDevice};

use super::Shared;
use crate::noise::step;

/// Channels.
pub const CHANNELS: usize = 8;
/// Octets of one conversion: the status word and eight samples of three octets.
pub const FRAME_OCTETS: usize = 27;
/// The highest code; the lowest is one below its negative.
pub const CODE_MAX: i32 = 0x7f_ffff;
/// Input-referred noise, most codes either way: a little below what the data sheet gives, so that signals stay legible.
pub const NOISE_CODES: u32 = 3;

const REGISTERS: usize = 26;
const ID: usize = 0x00;
const CONFIG1: usize = 0x01;
const CONFIG2: usize = 0x02;
const CONFIG3: usize = 0x03;
const LOFF: usize = 0x04;
const CH1SET: usize = 0x05;
const LOFF_SENSP: usize = 0x0f;
const LOFF_SENSN: usize = 0x10;
const LOFF_STATP: usize = 0x12;
const LOFF_STATN: usize = 0x13;
const GPIO: usize = 0x14;
const CONFIG4: usize = 0x17;

/// The value of ID: ADS1298.
const ID_ADS1298: u8 = 0x92;
/// Conversions from START to the first DRDY. Source: data sheet, settling time at 500 SPS (4 t_DR, rounded).
const SETTLING_PERIODS: u64 = 4;
/// The test signal is a square of ±VREF/2400 at f_CLK/2^21.
const TEST_SIGNAL_HALF_PERIOD_NS: u64 = 512_000_000;

/// What lies between the two inputs of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differential {
    /// Positive minus negative input, nV.
    pub nanovolts: i64,
    /// Nothing is connected to the positive input.
    pub positive_off: bool,
    /// Nothing is connected to the negative input.
    pub negative_off: bool,
}

/// The body that the electrodes are on.
pub trait Electrodes: Send {
    /// What the eight channels meet, `nanoseconds` after the simulation's start.
    fn at(&mut self, nanoseconds: u64) -> [Differential; CHANNELS];
}

/// What the next octet on SPI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Command,
    Count { address: usize, write: bool },
    Read { address: usize, left: usize },
    Write { address: usize, left: usize },
    Data { position: usize },
}

/// The part.
pub struct Ads1298<E> {
    electrodes: E,
    noise_seed: u64,
    now: u64,
    registers: [u8; REGISTERS],
    /// Read Data Continuous: the mode after power-up.
    continuous: bool,
    converting: bool,
    standby: bool,
    next_conversion: u64,
    conversions: u64,
    data_ready: bool,
    frame: [u8; FRAME_OCTETS],
    codes: [i32; CHANNELS],
    expect: Expect,
    /// Octets of the frame already clocked out in continuous mode.
    clocked_out: usize,
}

impl<E: Electrodes> Ads1298<E> {
    /// The part at power-up, on `electrodes`, with noise of its own.
    pub fn new(electrodes: E, noise_seed: u64) -> Self {
        Self {
            electrodes,
            noise_seed,
            now: 0,
            registers: reset_values(),
            continuous: true,
            converting: false,
            standby: false,
            next_conversion: 0,
            conversions: 0,
            data_ready: false,
            frame: empty_frame(),
            codes: [0; CHANNELS],
            expect: Expect::Command,
            clocked_out: FRAME_OCTETS,
        }
    }

    /// Lets time pass up to `now` (ns since the simulation's start), or up to the next conversion if that comes first.
    /// True if there was one: whoever does not fetch it before the next loses it.
    pub fn advance(&mut self, now: u64) -> bool {
        if !self.converting || self.standby || self.next_conversion > now {
            self.now = now.max(self.now);
            return false;
        }
        self.now = self.next_conversion;
        self.convert();
        self.next_conversion = self.now.saturating_add(self.period());
        true
    }

    /// The eight codes of the last conversion, for whoever wants to know what was really there.
    pub fn last_codes(&self) -> [i32; CHANNELS] {
        self.codes
    }

    /// The electrodes, for a board that moves them.
    pub fn electrodes(&mut self) -> &mut E {
        &mut self.electrodes
    }

    /// Samples a second that CONFIG1 asks for; `None` for the code that the data sheet reserves.
    pub fn rate_hz(&self) -> Option<u32> {
        let code = self.registers[CONFIG1] & 0x07;
        let high_resolution = self.registers[CONFIG1] & 0x80 != 0;
        match code {
            7 => None,
            code if high_resolution => Some(32_000 >> code),
            code => Some(16_000 >> code),
        }
    }

    fn period(&self) -> u64 {
        self.rate_hz().map_or(u64::MAX, |rate| 1_000_000_000 / u64::from(rate))
    }

    fn restart(&mut self) {
        self.data_ready = false;
        self.next_conversion = self.now.saturating_add(self.period().saturating_mul(SETTLING_PERIODS));
    }

    fn convert(&mut self) {
        let inputs = self.electrodes.at(self.now);
        let lead_off_works = self.registers[CONFIG4] & 0x02 != 0 && self.registers[LOFF] & 0x03 == 0x03;
        let (mut off_positive, mut off_negative) = (0_u8, 0_u8);
        for (channel, input) in inputs.iter().enumerate() {
            let bit = 1_u8 << channel;
            let pull_up = lead_off_works && input.positive_off && self.registers[LOFF_SENSP] & bit != 0;
            let pull_down = lead_off_works && input.negative_off && self.registers[LOFF_SENSN] & bit != 0;
            off_positive |= if pull_up { bit } else { 0 };
            off_negative |= if pull_down { bit } else { 0 };
            self.codes[channel] = self.code(channel, input, pull_up, pull_down);
        }
        self.registers[LOFF_STATP] = off_positive;
        self.registers[LOFF_STATN] = off_negative;
        self.frame = self.encode();
        self.clocked_out = 0;
        self.data_ready = true;
        self.conversions += 1;
    }

    /// The code of one channel: what its multiplexer connects, times its gain, against the reference.
    fn code(&self, channel: usize, input: &Differential, pull_up: bool, pull_down: bool) -> i32 {
        let setting = self.registers[CH1SET + channel];
        if setting & 0x80 != 0 {
            return 0;
        }
        let reference_on = self.registers[CONFIG3] & 0x80 != 0;
        if !reference_on {
            // Without its reference the converter compares with nothing.
            return CODE_MAX;
        }
        let reference_nanovolts: i64 = if self.registers[CONFIG3] & 0x20 == 0 { 2_400_000_000 } else { 4_000_000_000 };
        let nanovolts = match setting & 0x07 {
            0 if pull_up => reference_nanovolts,
            0 if pull_down => -reference_nanovolts,
            0 if input.positive_off || input.negative_off => self.hum(channel),
            0 => input.nanovolts,
            5 => self.test_signal(reference_nanovolts),
            _ => 0,
        };
        let index = self.conversions.wrapping_mul(CHANNELS as u64).wrapping_add(channel as u64);
        let noise = i64::from(step(self.noise_seed, index, NOISE_CODES));
        let scaled = nanovolts.saturating_mul(gain(setting)).saturating_mul(i64::from(CODE_MAX));
        let code = rounded_quotient(scaled, reference_nanovolts) + noise;
        i32::try_from(code.clamp(-i64::from(CODE_MAX) - 1, i64::from(CODE_MAX))).unwrap_or(CODE_MAX)
    }

    /// An open input without lead-off current picks up the mains.
    fn hum(&self, channel: usize) -> i64 {
        let turn = f64::from(u32::try_from(self.now % 20_000_000).unwrap_or(0)) / 20_000_000.0;
        crate::noise::nearest(3.0e6 * (1.0 + channel as f64 / 10.0) * (turn * std::f64::consts::TAU).sin())
    }

    fn test_signal(&self, reference_nanovolts: i64) -> i64 {
        let internal = self.registers[CONFIG2] & 0x10 != 0;
        let double = if self.registers[CONFIG2] & 0x04 != 0 { 2 } else { 1 };
        let sign = if (self.now / TEST_SIGNAL_HALF_PERIOD_NS).is_multiple_of(2) { 1 } else { -1 };
        if internal { sign * double * reference_nanovolts / 2400 } else { 0 }
    }

    fn encode(&self) -> [u8; FRAME_OCTETS] {
        let (positive, negative) = (self.registers[LOFF_STATP], self.registers[LOFF_STATN]);
        let mut frame = [0; FRAME_OCTETS];
        frame[0] = 0xc0 | positive >> 4;
        frame[1] = positive << 4 | negative >> 4;
        frame[2] = negative << 4 | self.registers[GPIO] >> 4;
        for (place, code) in frame[3..].chunks_exact_mut(3).zip(self.codes) {
            place.copy_from_slice(&code.to_be_bytes()[1..]);
        }
        frame
    }

    /// Chip select fell: the serial interface begins anew.
    fn select(&mut self) {
        self.expect = Expect::Command;
    }

    /// One octet in each direction.
    fn exchange(&mut self, octet: u8) -> u8 {
        match self.expect {
            Expect::Command if self.continuous => self.continuous_octet(octet),
            Expect::Command => {
                self.command(octet);
                0
            }
            Expect::Count { address, write } => {
                let left = usize::from(octet & 0x1f) + 1;
                self.expect = if write { Expect::Write { address, left } } else { Expect::Read { address, left } };
                0
            }
            Expect::Read { address, left } => {
                self.expect = next(address, left, |address, left| Expect::Read { address, left });
                self.registers.get(address).copied().unwrap_or(0)
            }
            Expect::Write { address, left } => {
                self.expect = next(address, left, |address, left| Expect::Write { address, left });
                self.write_register(address, octet);
                0
            }
            Expect::Data { position } => {
                self.data_ready = false;
                self.expect = if position + 1 < FRAME_OCTETS { Expect::Data { position: position + 1 } } else { Expect::Command };
                self.frame.get(position).copied().unwrap_or(0)
            }
        }
    }

    /// In Read Data Continuous mode every clock moves the frame out; only the commands that end the mode, or reset or stop
    /// the part, are heard: RREG, WREG and RDATA are not.
    fn continuous_octet(&mut self, octet: u8) -> u8 {
        match octet {
            SDATAC | RESET | STANDBY | WAKEUP | START | STOP => self.command(octet),
            _ => {}
        }
        self.data_ready = false;
        let out = self.frame.get(self.clocked_out).copied().unwrap_or(0);
        self.clocked_out = (self.clocked_out + 1).min(FRAME_OCTETS);
        out
    }

    fn command(&mut self, octet: u8) {
        match octet {
            WAKEUP => {
                let woken = std::mem::take(&mut self.standby);
                if woken && self.converting {
                    self.restart();
                }
            }
            STANDBY => self.standby = true,
            RESET => {
                self.registers = reset_values();
                self.continuous = true;
                self.frame = empty_frame();
                self.codes = [0; CHANNELS];
                if self.converting {
                    self.restart();
                }
            }
            START => {
                self.converting = true;
                self.restart();
            }
            STOP => self.converting = false,
            RDATAC => self.continuous = true,
            SDATAC => self.continuous = false,
            RDATA => self.expect = Expect::Data { position: 0 },
            _ if octet & 0xe0 == RREG => self.expect = Expect::Count { address: usize::from(octet & 0x1f), write: false },
            _ if octet & 0xe0 == WREG => self.expect = Expect::Count { address: usize::from(octet & 0x1f), write: true },
            _ => {}
        }
    }

    fn write_register(&mut self, address: usize, value: u8) {
        match address {
            ID | LOFF_STATP | LOFF_STATN => {}
            CONFIG1 => {
                self.registers[CONFIG1] = value;
                if self.converting {
                    self.restart();
                }
            }
            CONFIG3 => self.registers[CONFIG3] = value | 0x40,
            // The upper half shows the pins, all of them low inputs here.
            GPIO => self.registers[GPIO] = value & 0x0f,
            _ => {
                if let Some(register) = self.registers.get_mut(address) {
                    *register = value;
                }
            }
        }
    }
}

/// WAKEUP, out of standby.
const WAKEUP: u8 = 0x02;
/// STANDBY.
const STANDBY: u8 = 0x04;
/// RESET to the values at power-up.
const RESET: u8 = 0x06;
/// START, or restart, conversions.
const START: u8 = 0x08;
/// STOP conversions.
const STOP: u8 = 0x0a;
/// Enter Read Data Continuous mode.
const RDATAC: u8 = 0x10;
/// Leave Read Data Continuous mode.
const SDATAC: u8 = 0x11;
/// Read one frame.
const RDATA: u8 = 0x12;
/// Read registers, first octet.
const RREG: u8 = 0x20;
/// Write registers, first octet.
const WREG: u8 = 0x40;

fn reset_values() -> [u8; REGISTERS] {
    let mut registers = [0; REGISTERS];
    registers[ID] = ID_ADS1298;
    registers[CONFIG1] = 0x06;
    registers[CONFIG2] = 0x40;
    registers[CONFIG3] = 0x40;
    registers[GPIO] = 0x0f;
    registers
}

fn empty_frame() -> [u8; FRAME_OCTETS] {
    let mut frame = [0; FRAME_OCTETS];
    frame[0] = 0xc0;
    frame
}

fn next(address: usize, left: usize, more: impl Fn(usize, usize) -> Expect) -> Expect {
    if left > 1 { more(address + 1, left - 1) } else { Expect::Command }
}

fn gain(setting: u8) -> i64 {
    match setting >> 4 & 0x07 {
        0 | 7 => 6,
        code @ 1..=4 => i64::from(code),
        5 => 8,
        _ => 12,
    }
}

fn rounded_quotient(dividend: i64, divisor: i64) -> i64 {
    let half = if dividend < 0 { -divisor / 2 } else { divisor / 2 };
    dividend.saturating_add(half) / divisor
}

/// The firmware's end of the part's SPI.
pub struct Spi<E>(pub Shared<Ads1298<E>>);

impl<E> SpiErrorType for Spi<E> {
    type Error = Infallible;
}

impl<E: Electrodes> SpiDevice for Spi<E> {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        let mut part = self.0.lock();
        part.select();
        for operation in operations {
            match operation {
                Operation::Read(into) => into.iter_mut().for_each(|octet| *octet = part.exchange(0)),
                Operation::Write(from) => from.iter().for_each(|octet| {
                    part.exchange(*octet);
                }),
                Operation::Transfer(into, from) => {
                    for place in 0..into.len().max(from.len()) {
                        let received = part.exchange(from.get(place).copied().unwrap_or(0));
                        if let Some(slot) = into.get_mut(place) {
                            *slot = received;
                        }
                    }
                }
                Operation::TransferInPlace(both) => both.iter_mut().for_each(|octet| *octet = part.exchange(*octet)),
                Operation::DelayNs(_) => {}
            }
        }
        Ok(())
    }
}

/// The firmware's end of the part's DRDY pin: low when a conversion waits.
pub struct DataReady<E>(pub Shared<Ads1298<E>>);

impl<E> PinErrorType for DataReady<E> {
    type Error = Infallible;
}

impl<E> InputPin for DataReady<E> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(!self.0.lock().data_ready)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.lock().data_ready)
    }
}

#[cfg(test)]
mod tests;
