//! Glucose Feature (0x2A51): what a meter can tell of its measurements.

use crate::flags::terms_of_bits;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// What a glucose meter supports. Shape, units, errors and source: see [`GlucoseFeature::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GlucoseFeature(pub u16);

impl GlucoseFeature {
    /// Bit 10: it keeps bonds with several collectors.
    pub const MULTIPLE_BOND: Self = Self(1 << 10);

    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 16] = [
        "low-battery-detection-during-measurement",
        "sensor-malfunction-detection",
        "sensor-sample-size",
        "sensor-strip-insertion-error-detection",
        "sensor-strip-type-error-detection",
        "sensor-result-high-low-detection",
        "sensor-temperature-high-low-detection",
        "sensor-read-interrupt-detection",
        "general-device-fault",
        "time-fault",
        "multiple-bond",
        "reserved-11",
        "reserved-12",
        "reserved-13",
        "reserved-14",
        "reserved-15",
    ];

    /// Decodes a Glucose Feature value (0x2A51).
    ///
    /// Shape: 16 bits, little-endian, 2 octets; reserved bits are kept.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`].
    /// Source: Bluetooth SIG, Glucose Service 1.0.1, §3.3.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        let features = Self(r.u16("glucose feature")?);
        r.finish()?;
        Ok(features)
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0.into(), &Self::TERMS)
    }
}
