//! What a Nonin 3230 or a WristOx2 3150 notifies once a second: the Nonin Continuous Oximetry Characteristic.
//!
//! Service 46A970E0-0D5F-11E2-8B5E-0002A5D5C51B, notified at 0AAD7EA0-0D60-11E2-8E3C-0002A5D5C51B. Source: Nonin
//! 113142-000-02 as swift-async_pulse_ox (maurovm) reads it, and nonin-3230-ble dff81d5.

use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// One value. Shape, units, errors and source: see [`Oximetry::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Oximetry {
    /// What the device says of itself: see [`Oximetry::terms`].
    pub status: u8,
    /// Voltage of the battery, 0.1 V.
    pub battery: u8,
    /// Pulse amplitude index, 0.01 %.
    pub pulse_amplitude_index: u16,
    /// Seconds since it began to measure.
    pub counter: u16,
    /// SpO2, %.
    pub spo2: Option<u8>,
    /// Pulse rate, /min.
    pub pulse_rate: Option<u16>,
}

impl Oximetry {
    /// Octets of a value.
    pub const OCTETS: usize = 10;
    /// Bit 0: the display shows these numbers now.
    pub const SYNCHRONISED: u8 = 0x01;
    /// Bit 1: the pulse is weak: 0.3 % or less.
    pub const WEAK: u8 = 0x02;
    /// Bit 2: of SmartPoint quality.
    pub const SMART_POINT: u8 = 0x04;
    /// Bit 3: no consecutive good pulses.
    pub const SEARCHING: u8 = 0x08;
    /// Bit 4: the finger is placed correctly.
    pub const CORRECT_CHECK: u8 = 0x10;
    /// Bit 5: the battery is low.
    pub const LOW_BATTERY: u8 = 0x20;
    /// Bit 6: the connection is encrypted.
    pub const ENCRYPTED: u8 = 0x40;

    /// Decodes one value.
    ///
    /// Shape: length, 10 · status · battery · pulse amplitude index (2) · counter (2) · SpO2 · pulse rate (2); big-endian,
    /// 10 octets. Devices newer than this document may send more, and say so in the length: those are refused.
    /// Units: SpO2 in `%`, pulse rate in `/min`; 127 and 511 are absent.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another length.
    /// Source: as the module.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(value);
        if usize::from(r.u8("length")?) != Self::OCTETS {
            return Err(DecodeError::Value { field: "length" });
        }
        let oximetry = Self {
            status: r.u8("status")?,
            battery: r.u8("battery")?,
            pulse_amplitude_index: r.u16_be("pulse amplitude index")?,
            counter: r.u16_be("counter")?,
            spo2: Some(r.u8("spo2")?).filter(|spo2| *spo2 != NO_SPO2),
            pulse_rate: Some(r.u16_be("pulse rate")?).filter(|rate| *rate != NO_PULSE_RATE),
        };
        r.finish()?;
        Ok(oximetry)
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let [index_high, index_low] = self.pulse_amplitude_index.to_be_bytes();
        let [counter_high, counter_low] = self.counter.to_be_bytes();
        let [rate_high, rate_low] = self.pulse_rate.unwrap_or(NO_PULSE_RATE).to_be_bytes();
        let spo2 = self.spo2.unwrap_or(NO_SPO2);
        [LENGTH, self.status, self.battery, index_high, index_low, counter_high, counter_low, spo2, rate_high, rate_low]
    }

    /// What the status says of the measurement.
    pub fn terms(&self) -> impl Iterator<Item = Status> {
        let (set, clear) = (self.status, !self.status);
        [
            ("low-perfusion", set & Self::WEAK),
            ("smart-point", set & Self::SMART_POINT),
            ("searching", set & Self::SEARCHING),
            ("finger-out", clear & Self::CORRECT_CHECK),
            ("low-battery", set & Self::LOW_BATTERY),
        ]
        .into_iter()
        .filter(|(_, stated)| *stated != 0)
        .map(|(term, _)| term)
    }
}

const LENGTH: u8 = 10;
const NO_SPO2: u8 = 127;
const NO_PULSE_RATE: u16 = 511;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::every_other_length_is_refused;
    use crate::vectors::vectors;

    #[test]
    fn values_decode_and_encode_and_nothing_else_does() {
        for v in vectors(include_str!("../../vectors/nonin_3230.txt")) {
            let Ok(m) = Oximetry::decode(&v.octets) else {
                assert_eq!(v.expected, "invalid", "{}", v.id);
                continue;
            };
            let number = |number: Option<u16>| number.map_or_else(|| "-".into(), |number| std::format!("{number}"));
            let text = std::format!(
                "status={:02x} battery={} pai={} counter={} spo2={} pr={} {}",
                m.status,
                m.battery,
                m.pulse_amplitude_index,
                m.counter,
                number(m.spo2.map(u16::from)),
                number(m.pulse_rate),
                m.terms().collect::<Vec<_>>().join(","),
            );
            assert_eq!((text.as_str(), &m.encode()[..]), (v.expected, &v.octets[..]), "{}", v.id);
            every_other_length_is_refused(&v.octets, Oximetry::decode);
        }
    }

    proptest! {
        #[test]
        fn values_survive_the_way_there_and_back(octets: [u8; 10]) {
            let value = [&[10][..], &octets[1..]].concat();
            prop_assert_eq!(Oximetry::decode(&value).unwrap().encode()[..].to_vec(), value);
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Oximetry::decode(&octets);
        }
    }
}
