//! What a firmware needs of a MAX30102: start it, and fetch what its FIFO holds. Source: Maxim data sheet 19-7740.

use embedded_hal::i2c::I2c;

use super::Fault;

const ADDRESS: u8 = 0x57;
const FIFO_WRITE_POINTER: u8 = 0x04;
const OVERFLOW_COUNTER: u8 = 0x05;
const FIFO_DATA: u8 = 0x07;
const FIFO_CONFIG: u8 = 0x08;
const MODE_CONFIG: u8 = 0x09;
const SPO2_CONFIG: u8 = 0x0a;
const LED1_AMPLITUDE: u8 = 0x0c;
const LED2_AMPLITUDE: u8 = 0x0d;
const PART_ID: u8 = 0xff;

const PART_ID_MAX30102: u8 = 0x15;
const RESET: u8 = 0x40;
const SHUTDOWN: u8 = 0x80;
const MODE_SPO2: u8 = 0x03;
/// No averaging, roll over when full.
const FIFO_ROLLOVER: u8 = 0x10;
/// 4096 nA, 100 a second, 411 µs: 18 bits.
const RANGE_4096_RATE_100_WIDTH_411: u8 = 0x27;
/// 7.2 mA.
const LED_AMPLITUDE: u8 = 0x24;

/// Samples a second that [`Sensor::start`] asks for.
pub const RATE_HZ: u32 = 100;
/// The most samples that one fetch can bring: the FIFO's size.
pub const FIFO_SAMPLES: u8 = 32;

/// One sample: 18 bits of each colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Light {
    /// 660 nm.
    pub red: u32,
    /// 880 nm.
    pub infrared: u32,
}

/// The sensor on its bus.
#[derive(Debug)]
pub struct Sensor<I2C> {
    bus: I2C,
}

impl<I2C: I2c> Sensor<I2C> {
    /// The sensor, untouched.
    pub const fn new(bus: I2C) -> Self {
        Self { bus }
    }

    /// Resets and configures it: both colours, [`RATE_HZ`].
    pub fn start(&mut self) -> Result<(), Fault<I2C::Error>> {
        let identification = self.read(PART_ID)?;
        if identification != PART_ID_MAX30102 {
            return Err(Fault::Part { identification });
        }
        // The reset bit clears itself; the part does not always acknowledge the write that sets it, but must the next.
        self.write(MODE_CONFIG, RESET)?;
        for (register, value) in [
            (FIFO_CONFIG, FIFO_ROLLOVER),
            (SPO2_CONFIG, RANGE_4096_RATE_100_WIDTH_411),
            (LED1_AMPLITUDE, LED_AMPLITUDE),
            (LED2_AMPLITUDE, LED_AMPLITUDE),
        ] {
            self.write(register, value)?;
            if self.read(register)? != value {
                return Err(Fault::Register { address: register });
            }
        }
        self.bus.write(ADDRESS, &[FIFO_WRITE_POINTER, 0, 0, 0]).map_err(Fault::Bus)?;
        self.write(MODE_CONFIG, MODE_SPO2)
    }

    /// Puts it to sleep: both LEDs dark.
    pub fn stop(&mut self) -> Result<(), Fault<I2C::Error>> {
        self.write(MODE_CONFIG, SHUTDOWN)
    }

    /// Hands over what the FIFO holds, oldest first.
    pub fn fetch(&mut self, mut each: impl FnMut(Light)) -> Result<(), Fault<I2C::Error>> {
        let mut pointers = [0; 3];
        self.bus.write_read(ADDRESS, &[FIFO_WRITE_POINTER], &mut pointers).map_err(Fault::Bus)?;
        let [write, overflowed, read] = pointers;
        let waiting = match (write.wrapping_sub(read)) % FIFO_SAMPLES {
            0 if overflowed > 0 => FIFO_SAMPLES,
            waiting => waiting,
        };
        for _ in 0..waiting {
            let mut octets = [0; 6];
            self.bus.write_read(ADDRESS, &[FIFO_DATA], &mut octets).map_err(Fault::Bus)?;
            let [a, b, c, d, e, f] = octets;
            let counts = |high, middle, low| u32::from_be_bytes([0, high, middle, low]) & 0x3_ffff;
            each(Light { red: counts(a, b, c), infrared: counts(d, e, f) });
        }
        Ok(())
    }

    fn read(&mut self, register: u8) -> Result<u8, Fault<I2C::Error>> {
        let mut octet = [0];
        self.bus.write_read(ADDRESS, &[register], &mut octet).map_err(Fault::Bus)?;
        Ok(octet[0])
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), Fault<I2C::Error>> {
        self.bus.write(ADDRESS, &[register, value]).map_err(Fault::Bus)
    }
}

/// The overflow counter stands between the two pointers, so one read of three octets has all of them.
const _: () = assert!(OVERFLOW_COUNTER == FIFO_WRITE_POINTER + 1);
