//! The bounds-checked cursor that every decoder reads through.

use crate::mder::{Number, float, sfloat};

/// Why octets are not what a decoder expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The octets end before this field.
    #[error("truncated at {field}")]
    Truncated {
        /// The missing field.
        field: &'static str,
    },
    /// Octets are left over after the last field.
    #[error("{octets} octets too many")]
    Trailing {
        /// How many.
        octets: usize,
    },
    /// A field has a value that the standard does not allow.
    #[error("{field} has a value that the standard does not allow")]
    Value {
        /// The field.
        field: &'static str,
    },
    /// The checksum does not fit.
    #[error("the checksum does not fit")]
    Checksum,
}

/// A cursor over the octets of one value. Little-endian unless a name says `_be`.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of `octets`.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// Octets not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            octets => Err(DecodeError::Trailing { octets }),
        }
    }

    /// The next `count` octets.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One octet.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(u8::from_le_bytes)
    }

    /// Two octets.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Two octets, big-endian.
    pub fn u16_be(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Three octets.
    pub fn u24(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// Three octets, two's complement.
    pub fn i24(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(|[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8)
    }

    /// Three octets, big-endian, two's complement.
    pub fn i24_be(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(|[a, b, c]| i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// Four octets.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Six octets.
    pub fn u48(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(|[a, b, c, d, e, f]| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// One octet, two's complement.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.array(field).map(i8::from_le_bytes)
    }

    /// Two octets, two's complement.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_le_bytes)
    }

    /// FLOAT-Type, four octets.
    pub fn float(&mut self, field: &'static str) -> Result<Number, DecodeError> {
        self.u32(field).map(float)
    }

    /// SFLOAT-Type, two octets.
    pub fn sfloat(&mut self, field: &'static str) -> Result<Number, DecodeError> {
        self.u16(field).map(sfloat)
    }
}
