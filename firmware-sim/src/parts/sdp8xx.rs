//! SDP800-500Pa: a differential pressure sensor on I2C, here across a pneumotach.
//!
//! Commands of 16 bits, words with a CRC-8 each, continuous measurement with and without averaging, triggered measurement,
//! the scale factor, product identifier and stop as in Sensirion's data sheet (SDP8xx Digital, 1.1). A part that measures
//! continuously answers every other command but stop with no acknowledgement, as the data sheet says; a value that is not
//! there yet is not acknowledged either. Not simulated: sleep, clock stretching, the mass flow calibration.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

use super::Shared;
use crate::noise::{nearest, step};

/// The part's address.
pub const ADDRESS: u8 = 0x25;
/// Digits a Pa.
pub const SCALE: i16 = 60;
/// Noise of one conversion, most digits either way.
pub const NOISE_DIGITS: u32 = 2;

/// Conversions come this often, ns.
const CONVERSION: u64 = 500_000;
/// The first value after a start, ns.
const FIRST_VALUE: u64 = 8_000_000;
/// A triggered measurement takes so long, ns.
const TRIGGERED: u64 = 45_000_000;
/// Product number of the SDP800-500Pa.
const PRODUCT: u32 = 0x0302_010a;

const START_AVERAGING: u16 = 0x3615;
const START: u16 = 0x361e;
const TRIGGER: u16 = 0x362f;
const STOP: u16 = 0x3ff9;
const IDENTIFY: [u16; 2] = [0x367c, 0xe102];

/// The air before the part's two ports.
pub trait Air: Send {
    /// Pa between the ports, `nanoseconds` after the simulation's start.
    fn pressure(&mut self, nanoseconds: u64) -> f64;
    /// °C in the part.
    fn temperature(&mut self, nanoseconds: u64) -> f64;
}

/// What the part is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Idle,
    /// Until then it measures once.
    Triggered {
        until: u64,
    },
    /// Since then it measures on; with averaging, of everything since the last read.
    Continuous {
        since: u64,
        averaging: bool,
    },
    /// It was asked for its identifier: how many of the two commands came.
    Identifying(usize),
}

/// The part.
pub struct Sdp8xx<A> {
    air: A,
    noise_seed: u64,
    offset: f64,
    now: u64,
    mode: Mode,
    conversions: u64,
    sum: f64,
    count: u32,
    last: f64,
}

impl<A: Air> Sdp8xx<A> {
    /// The part at power-up in `air`, with noise of its own, and `offset` Pa that it shows where there is no pressure.
    pub fn new(air: A, noise_seed: u64, offset: f64) -> Self {
        Self { air, noise_seed, offset, now: 0, mode: Mode::Idle, conversions: 0, sum: 0.0, count: 0, last: 0.0 }
    }

    /// Lets time pass up to `now` (ns since the simulation's start).
    pub fn advance(&mut self, now: u64) {
        let first = self.now / CONVERSION + 1;
        for conversion in first..=now / CONVERSION {
            let at = conversion * CONVERSION;
            self.now = at;
            if let Mode::Continuous { since, .. } = self.mode
                && at >= since + FIRST_VALUE - CONVERSION
            {
                self.convert(at);
            }
        }
        self.now = now.max(self.now);
    }

    /// The air, for a board that moves it.
    pub fn air(&mut self) -> &mut A {
        &mut self.air
    }

    fn convert(&mut self, at: u64) {
        let noise = f64::from(step(self.noise_seed, self.conversions, NOISE_DIGITS));
        self.conversions += 1;
        self.last = (self.air.pressure(at) + self.offset) * f64::from(SCALE) + noise;
        self.sum += self.last;
        self.count += 1;
    }

    fn command(&mut self, command: u16) -> Result<(), ErrorKind> {
        let refused = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data);
        self.mode = match (self.mode, command) {
            (Mode::Continuous { .. } | Mode::Idle, STOP) => Mode::Idle,
            (Mode::Continuous { .. } | Mode::Triggered { .. }, _) => return Err(refused),
            (_, START | START_AVERAGING) => {
                (self.sum, self.count) = (0.0, 0);
                Mode::Continuous { since: self.now, averaging: command == START_AVERAGING }
            }
            (_, TRIGGER) => Mode::Triggered { until: self.now + TRIGGERED },
            (Mode::Idle, command) if command == IDENTIFY[0] => Mode::Identifying(1),
            (Mode::Identifying(1), command) if command == IDENTIFY[1] => Mode::Identifying(2),
            _ => return Err(refused),
        };
        Ok(())
    }

    /// What a read gives: words, each with its CRC; `None`: nothing is there, which is not acknowledged.
    fn words(&mut self) -> Option<Vec<u16>> {
        match self.mode {
            Mode::Identifying(2) => {
                self.mode = Mode::Idle;
                let [a, b, c, d] = PRODUCT.to_be_bytes();
                let number = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
                let [_, _, _, _, e, f, g, h] = self.noise_seed.to_be_bytes();
                let serial = [0, 0, u16::from_be_bytes([e, f]), u16::from_be_bytes([g, h])];
                Some(number.into_iter().chain(serial).collect())
            }
            Mode::Triggered { until } if self.now >= until => {
                self.mode = Mode::Idle;
                self.convert(self.now);
                Some(self.measurement(self.last))
            }
            Mode::Continuous { averaging, .. } if self.count > 0 => {
                let value = if averaging { self.sum / f64::from(self.count) } else { self.last };
                (self.sum, self.count) = (0.0, 0);
                Some(self.measurement(value))
            }
            _ => None,
        }
    }

    fn measurement(&mut self, digits: f64) -> Vec<u16> {
        let word = |value: i64| {
            let value = value.clamp(i16::MIN.into(), i16::MAX.into());
            u16::from_be_bytes(i16::try_from(value).unwrap_or(0).to_be_bytes())
        };
        let temperature = self.air.temperature(self.now) * 200.0;
        vec![word(nearest(digits)), word(nearest(temperature)), word(SCALE.into())]
    }
}

/// CRC-8 of Sensirion: polynomial 31, start FF.
fn crc(octets: [u8; 2]) -> u8 {
    octets
        .into_iter()
        .fold(0xff, |crc, octet| (0..8).fold(crc ^ octet, |crc: u8, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x31 }))
}

/// The firmware's end of the part's I2C.
pub struct Bus<A>(pub Shared<Sdp8xx<A>>);

impl<A> ErrorType for Bus<A> {
    type Error = ErrorKind;
}

impl<A: Air> I2c for Bus<A> {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if address != ADDRESS {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        let mut part = self.0.lock();
        for operation in operations {
            match operation {
                Operation::Write(octets) => match octets {
                    [high, low] => part.command(u16::from_be_bytes([*high, *low]))?,
                    _ => return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data)),
                },
                Operation::Read(into) => {
                    let words = part.words().ok_or(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address))?;
                    let octets = words.into_iter().map(u16::to_be_bytes).flat_map(|word| [word[0], word[1], crc(word)]);
                    // Whoever reads on after the last word reads ones.
                    into.iter_mut().zip(octets.chain(std::iter::repeat(0xff))).for_each(|(slot, octet)| *slot = octet);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Constant(f64);

    impl Air for Constant {
        fn pressure(&mut self, _nanoseconds: u64) -> f64 {
            self.0
        }
        fn temperature(&mut self, _nanoseconds: u64) -> f64 {
            23.5
        }
    }

    fn part(pressure: f64) -> (Shared<Sdp8xx<Constant>>, Bus<Constant>) {
        let part = Shared::new(Sdp8xx::new(Constant(pressure), 3, 0.0));
        (part.clone(), Bus(part))
    }

    #[test]
    fn the_crc_is_the_data_sheets() {
        assert_eq!(crc([0xbe, 0xef]), 0x92);
    }

    #[test]
    fn a_value_has_scale_temperature_and_three_checksums() {
        let (part, mut bus) = part(-100.0);
        bus.write(ADDRESS, &[0x36, 0x1e]).unwrap();
        let mut octets = [0; 9];
        assert!(bus.read(ADDRESS, &mut octets).is_err(), "the first value takes 8 ms");
        part.lock().advance(9_000_000);
        bus.read(ADDRESS, &mut octets).unwrap();
        let word = |at: usize| i16::from_be_bytes([octets[at], octets[at + 1]]);
        assert!((word(0) + 6_000).abs() <= 2, "{}", word(0));
        assert_eq!((word(3), word(6)), (4_700, SCALE));
        assert!([0, 3, 6].into_iter().all(|at| crc([octets[at], octets[at + 1]]) == octets[at + 2]));
        assert!(bus.read(ADDRESS, &mut octets).is_err(), "each value is there once");
    }

    #[test]
    fn a_part_that_measures_takes_stop_and_nothing_else() {
        let (_, mut bus) = part(0.0);
        bus.write(ADDRESS, &[0x36, 0x15]).unwrap();
        assert!(bus.write(ADDRESS, &[0x36, 0x7c]).is_err());
        assert!(bus.write(ADDRESS, &[0x36, 0x15]).is_err());
        bus.write(ADDRESS, &[0x3f, 0xf9]).unwrap();
        bus.write(ADDRESS, &[0x36, 0x7c]).unwrap();
        bus.write(ADDRESS, &[0xe1, 0x02]).unwrap();
        let mut octets = [0; 18];
        bus.read(ADDRESS, &mut octets).unwrap();
        assert_eq!((octets[0], octets[1]), (0x03, 0x02));
        assert!(bus.write(0x26, &[0x36, 0x15]).is_err(), "nobody is there");
    }

    #[test]
    fn pressure_beyond_the_range_saturates() {
        let (part, mut bus) = part(900.0);
        bus.write(ADDRESS, &[0x36, 0x15]).unwrap();
        part.lock().advance(20_000_000);
        let mut octets = [0; 9];
        bus.read(ADDRESS, &mut octets).unwrap();
        assert_eq!(i16::from_be_bytes([octets[0], octets[1]]), i16::MAX);
    }
}
