//! What a firmware needs of an XGZP6897D pressure sensor: begin a conversion, fetch its pressure. Source: CFSensor data sheet.

use embedded_hal::i2c::I2c;

use super::Fault;

const ADDRESS: u8 = 0x6d;
const CONTROL: u8 = 0x30;
const CONVERT: u8 = 0x0a;
const CONVERTING: u8 = 0x08;
const PRESSURE: u8 = 0x06;
/// 128 counts a pascal (the 40 kPa part), 133.322 Pa a mmHg.
const COUNTS_PER_MMHG: f32 = 17_065.2;

/// The sensor on its bus.
#[derive(Debug)]
pub struct Gauge<I2C> {
    bus: I2C,
}

impl<I2C: I2c> Gauge<I2C> {
    /// The sensor, untouched.
    pub const fn new(bus: I2C) -> Self {
        Self { bus }
    }

    /// Begins a conversion; it takes 10 ms.
    pub fn convert(&mut self) -> Result<(), Fault<I2C::Error>> {
        self.bus.write(ADDRESS, &[CONTROL, CONVERT]).map_err(Fault::Bus)
    }

    /// The pressure of the last conversion, mmHg; `None` while it goes on.
    pub fn fetch(&mut self) -> Result<Option<f32>, Fault<I2C::Error>> {
        let mut control = [0];
        self.bus.write_read(ADDRESS, &[CONTROL], &mut control).map_err(Fault::Bus)?;
        if control[0] & CONVERTING != 0 {
            return Ok(None);
        }
        let mut octets = [0; 3];
        self.bus.write_read(ADDRESS, &[PRESSURE], &mut octets).map_err(Fault::Bus)?;
        let [high, middle, low] = octets;
        let high = f32::from(i8::from_le_bytes([high]));
        Ok(Some((high * 65_536.0 + f32::from(u16::from_be_bytes([middle, low]))) / COUNTS_PER_MMHG))
    }
}
