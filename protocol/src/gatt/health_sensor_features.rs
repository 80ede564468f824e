//! Health Sensor Features (0x2BF3) and the GHS Control Point (0x2BF4).

use alloc::vec::Vec;

use crate::flags::flag;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};

/// What a health sensor observes, and what it is. Shape, units, errors and source: see [`HealthSensorFeatures::decode`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HealthSensorFeatures {
    /// The types of its observations.
    pub observation_types: Vec<Mdc>,
    /// Its specialisations with their versions: term · version, as IEEE 11073-10101 numbers them.
    pub specializations: Option<Vec<u32>>,
    /// Flags other than bit 0, kept.
    pub reserved_flags: u8,
}

impl HealthSensorFeatures {
    /// Decodes a Health Sensor Features value (0x2BF3).
    ///
    /// Shape: flags (1) · number of observation types (1) · types (4 each) · number of specialisations (1) · specialisations
    /// (4 each, both if bit 0); little-endian, 2–2043 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`], unless a reserved flag is set.
    /// Source: Bluetooth SIG, Generic Health Sensor Service 1.0, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let flags = r.u8("flags")?;
        let observation_types = codes(&mut r, "observation types")?.into_iter().map(Mdc).collect();
        let specializations = match flags & SPECIALIZATIONS {
            0 => None,
            _ => Some(codes(&mut r, "device specializations")?),
        };
        let reserved_flags = flags & !SPECIALIZATIONS;
        if reserved_flags == 0 {
            r.finish()?;
        }
        Ok(Self { observation_types, specializations, reserved_flags })
    }

    /// The octets of it; `None` where there are more than 255 of either.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut octets = Vec::from([self.reserved_flags | flag(self.specializations.is_some(), SPECIALIZATIONS)]);
        octets.push(u8::try_from(self.observation_types.len()).ok()?);
        octets.extend(self.observation_types.iter().flat_map(|code| code.0.to_le_bytes()));
        if let Some(specializations) = &self.specializations {
            octets.push(u8::try_from(specializations.len()).ok()?);
            octets.extend(specializations.iter().flat_map(|code| code.to_le_bytes()));
        }
        Some(octets)
    }
}

const SPECIALIZATIONS: u8 = 1;

/// A number of codes (1), then the codes (4 each).
pub(super) fn codes(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<u32>, DecodeError> {
    let count = usize::from(r.u8(field)?);
    // What is not there is not allocated for.
    let octets = r.take(count * 4, field)?;
    let mut r = Reader::new(octets);
    (0..count).map(|_| r.u32(field)).collect()
}

/// What is written to the GHS Control Point, or indicated by it. One newer than we are is kept.
///
/// Shape: one octet. Units: none. Errors: see [`GhsControlPoint::decode`].
/// Source: Bluetooth SIG, Generic Health Sensor Service 1.0, §3.4; numbers as in philips-labs
/// BLE-GHS-Server-Simulator@271f2aa.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GhsControlPoint(pub u8);

impl GhsControlPoint {
    /// Start sending live observations.
    pub const START_LIVE: Self = Self(0x01);
    /// Stop sending live observations.
    pub const STOP_LIVE: Self = Self(0x02);
    /// Done.
    pub const SUCCESS: Self = Self(0x80);
    /// The device is busy.
    pub const SERVER_BUSY: Self = Self(0x81);
    /// The command is none, or could not be carried out.
    pub const ERROR: Self = Self(0x82);

    /// Decodes it; nothing may follow the octet.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let code = Self(r.u8("op code")?);
        r.finish()?;
        Ok(code)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 1] {
        [self.0]
    }

    /// The standard's term in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub const fn term(self) -> Option<&'static str> {
        Some(match self {
            Self::START_LIVE => "start-sending-live-observations",
            Self::STOP_LIVE => "stop-sending-live-observations",
            Self::SUCCESS => "success",
            Self::SERVER_BUSY => "server-busy",
            Self::ERROR => "error",
            _ => return None,
        })
    }
}
