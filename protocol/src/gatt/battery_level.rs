//! Battery Level (0x2A19).

use crate::reader::{DecodeError, Reader};

/// How full a device's battery is, %. Shape, units, errors and source: see [`BatteryLevel::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatteryLevel(pub u8);

impl BatteryLevel {
    /// At this level and below the battery is low: devices warn of it at 10 % to 20 %, and stop some measurements later.
    pub const LOW: Self = Self(10);

    /// Decodes a Battery Level value (0x2A19).
    ///
    /// Shape: level (1), 1 octet. Units: %.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`]; [`DecodeError::Value`] above 100.
    /// Source: Bluetooth SIG, Battery Service 1.0, §3.1.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let level = r.u8("level")?;
        r.finish()?;
        if level > 100 { Err(DecodeError::Value { field: "level" }) } else { Ok(Self(level)) }
    }

    /// The octet of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 1] {
        [self.0]
    }

    /// Whether it is time to change or charge the battery.
    #[must_use]
    pub fn is_low(self) -> bool {
        self <= Self::LOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_decodes_and_encodes_and_nothing_else_does() {
        for octet in 0..=u8::MAX {
            match BatteryLevel::decode(&[octet]) {
                Ok(level) => assert_eq!(level.encode(), [octet]),
                Err(error) => assert!(octet > 100 && error == DecodeError::Value { field: "level" }),
            }
        }
        assert_eq!(BatteryLevel::decode(&[]), Err(DecodeError::Truncated { field: "level" }));
        assert_eq!(BatteryLevel::decode(&[50, 0]), Err(DecodeError::Trailing { octets: 1 }));
    }

    #[test]
    fn ten_percent_is_low() {
        assert!(BatteryLevel(10).is_low() && BatteryLevel(0).is_low() && !BatteryLevel(11).is_low());
    }
}
