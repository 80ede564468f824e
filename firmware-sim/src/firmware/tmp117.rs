//! What a firmware needs of a TMP117: that it is one, and its temperature. Source: Texas Instruments SNOS D82.
//!
//! Own lines, since the crate `tmp117` brings its own register and state machinery for what are three transactions here.

use embedded_hal::i2c::I2c;

use super::Fault;

const ADDRESS: u8 = 0x48;
const TEMPERATURE: u8 = 0x00;
const CONFIGURATION: u8 = 0x01;
const DEVICE_ID: u8 = 0x0f;
const IDENTIFICATION: u16 = 0x0117;
const DATA_READY: u16 = 1 << 13;

/// The thermometer on its bus.
#[derive(Debug)]
pub struct Thermometer<I2C> {
    bus: I2C,
}

impl<I2C: I2c> Thermometer<I2C> {
    /// The thermometer, untouched.
    pub const fn new(bus: I2C) -> Self {
        Self { bus }
    }

    /// Makes sure that it is one; after power-up it converts once a second by itself.
    pub fn start(&mut self) -> Result<(), Fault<I2C::Error>> {
        let [high, low] = self.read(DEVICE_ID)?.to_be_bytes();
        match u16::from_be_bytes([high & 0x0f, low]) {
            IDENTIFICATION => Ok(()),
            _ => Err(Fault::Part { identification: low }),
        }
    }

    /// The temperature in 1/128 °C, once for each conversion.
    pub fn fetch(&mut self) -> Result<Option<i16>, Fault<I2C::Error>> {
        if self.read(CONFIGURATION)? & DATA_READY == 0 {
            return Ok(None);
        }
        Ok(Some(i16::from_be_bytes(self.read(TEMPERATURE)?.to_be_bytes())))
    }

    fn read(&mut self, register: u8) -> Result<u16, Fault<I2C::Error>> {
        let mut octets = [0; 2];
        self.bus.write_read(ADDRESS, &[register], &mut octets).map_err(Fault::Bus)?;
        Ok(u16::from_be_bytes(octets))
    }
}
