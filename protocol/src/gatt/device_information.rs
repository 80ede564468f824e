//! Device Information: the strings (0x2A24–0x2A29), System ID (0x2A23) and PnP ID (0x2A50).

use core::str;

use crate::reader::{DecodeError, Reader};

/// The text of Manufacturer Name, Model Number, Serial Number, or a revision.
///
/// Shape: UTF-8, of any length. Units: none. What follows a NUL is let go: devices pad with it.
/// Errors: [`DecodeError::Value`] where it is no UTF-8.
/// Source: Bluetooth SIG, Device Information Service 1.1, §3.1–3.6.
pub fn text(value: &[u8]) -> Result<&str, DecodeError> {
    let end = value.iter().position(|octet| *octet == 0).unwrap_or(value.len());
    let padded = value.get(..end).unwrap_or(value);
    str::from_utf8(padded).map(str::trim_end).map_err(|_| DecodeError::Value { field: "text" })
}

/// System ID. Shape, units, errors and source: see [`SystemId::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SystemId {
    /// 40 bits of the manufacturer's own.
    pub manufacturer_defined: u64,
    /// 24 bits that the IEEE gave to the manufacturer.
    pub organizationally_unique: u32,
}

impl SystemId {
    /// Decodes a System ID value (0x2A23).
    ///
    /// Shape: manufacturer defined (5) · organizationally unique (3); little-endian, 8 octets. Units: none.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Device Information Service 1.1, §3.7.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let (low, high) = (r.u32("manufacturer defined")?, r.u8("manufacturer defined")?);
        let organizationally_unique = r.u24("organizationally unique")?;
        r.finish()?;
        Ok(Self { manufacturer_defined: u64::from(low) | u64::from(high) << 32, organizationally_unique })
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 8] {
        let [a, b, c, d, e, ..] = self.manufacturer_defined.to_le_bytes();
        let [x, y, z, _] = self.organizationally_unique.to_le_bytes();
        [a, b, c, d, e, x, y, z]
    }
}

/// PnP ID. Shape, units, errors and source: see [`PnpId::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PnpId {
    /// 1: numbers of the Bluetooth SIG; 2: of the USB forum.
    pub vendor_id_source: u8,
    /// Who made it.
    pub vendor_id: u16,
    /// What it is.
    pub product_id: u16,
    /// Which version.
    pub product_version: u16,
}

impl PnpId {
    /// Decodes a PnP ID value (0x2A50).
    ///
    /// Shape: vendor id source (1) · vendor id (2) · product id (2) · product version (2); little-endian, 7 octets.
    /// Units: none. Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Device Information Service 1.1, §3.9.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let id = Self {
            vendor_id_source: r.u8("vendor id source")?,
            vendor_id: r.u16("vendor id")?,
            product_id: r.u16("product id")?,
            product_version: r.u16("product version")?,
        };
        r.finish()?;
        Ok(id)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 7] {
        let ([a, b], [c, d], [e, f]) =
            (self.vendor_id.to_le_bytes(), self.product_id.to_le_bytes(), self.product_version.to_le_bytes());
        [self.vendor_id_source, a, b, c, d, e, f]
    }
}
