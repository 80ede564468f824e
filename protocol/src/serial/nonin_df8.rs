//! Nonin serial data format 8: four octets a second with SpO2 and pulse rate.
//!
//! Port: 9600 baud, 8 data bits, no parity. The first octet alone has bit 7; there is no checksum, so a turned bit that is no
//! bit 7 cannot be seen. Source: Nonin, 9560 Bluetooth specification in NoninPulseOx 6153426; bits 6 of the first and 1 of
//! the last octet as in javautilityclasses (drphrozen).

use crate::flags::terms_of_some;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;
use crate::serial::framer::{self, Framing, Step};

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// STATUS without the pulse rate's bits.
    pub status: u8,
    /// Pulse rate, average of 4 beats, /min; 511 for none.
    pub heart_rate: u16,
    /// SpO2, average of 4 beats, %; 127 for none.
    pub spo2: u8,
    /// STAT2.
    pub status2: u8,
}

impl Frame {
    /// Octets of a frame.
    pub const OCTETS: usize = 4;
    /// Terms of the bits of [`Frame::status`].
    const STATUS: [(u8, Status); 5] = [
        (0x40, "sensor-disconnect"),
        (0x20, "out-of-track"),
        (0x10, "low-perfusion"),
        (0x08, "marginal-perfusion"),
        (0x04, "artifact"),
    ];
    /// Terms of the bits of [`Frame::status2`].
    const STATUS2: [(u8, Status); 4] =
        [(0x20, "smart-point"), (0x08, "sensor-alarm"), (0x02, "critical-battery"), (0x01, "low-battery")];

    /// Decodes one frame.
    ///
    /// Shape: STATUS (bit 7 set; bits 0–1 the pulse rate's bits 7–8) · pulse rate, low 7 bits · SpO2 · STAT2, none of the
    /// three with bit 7; 4 octets.
    /// Units: SpO2 in `%`, pulse rate in `/min`.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] where a bit 7 is out of place.
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let (status, rate, spo2, status2) = (r.u8("status")?, r.u8("heart rate")?, r.u8("spo2")?, r.u8("status 2")?);
        r.finish()?;
        if status & BIT_7 == 0 || (rate | spo2 | status2) & BIT_7 != 0 {
            return Err(DecodeError::Value { field: "bit 7" });
        }
        let heart_rate = u16::from(status & 3) << 7 | u16::from(rate);
        Ok(Self { status: status & !BIT_7 & !3, heart_rate, spo2, status2 })
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let [low, high] = (self.heart_rate << 1 & 0x3ff).to_le_bytes();
        [self.status & !3 | BIT_7 | high, low >> 1, self.spo2 & !BIT_7, self.status2 & !BIT_7]
    }

    /// SpO2, %, where there is one.
    #[must_use]
    pub fn spo2(&self) -> Option<u8> {
        (self.spo2 != NO_SPO2).then_some(self.spo2)
    }

    /// Pulse rate, /min, where there is one.
    #[must_use]
    pub fn heart_rate(&self) -> Option<u16> {
        (self.heart_rate != NO_HEART_RATE).then_some(self.heart_rate)
    }

    /// What the status bits say.
    pub fn terms(&self) -> impl Iterator<Item = Status> {
        terms_of_some(self.status, &Self::STATUS).chain(terms_of_some(self.status2, &Self::STATUS2))
    }
}

const BIT_7: u8 = 0x80;
const NO_HEART_RATE: u16 = 511;
const NO_SPO2: u8 = 127;

/// What a [`Framer`] finds.
pub type Found = framer::Found<Frame>;

/// Finds frames in a stream, however it is split. A frame is taken when the next one begins behind it, or at the end; the
/// first only with another behind it, which is a second later.
pub type Framer = framer::Framer<Frames>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    found: bool,
}

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], ended: bool) -> Step<Found> {
        let frames = if self.found { 1 } else { 2 };
        let wanted = frames * Frame::OCTETS;
        let looked_at = rest.get(..wanted.min(rest.len())).unwrap_or_default();
        let fits = looked_at.iter().enumerate().all(|(at, octet)| (octet & BIT_7 != 0) == (at % Frame::OCTETS == 0));
        match rest.get(..Frame::OCTETS).map(Frame::decode) {
            _ if !fits => Step::Skip(1),
            Some(Ok(frame)) if rest.len() >= wanted || (ended && rest.len() == Frame::OCTETS) => {
                self.found = true;
                Step::take(Frame::OCTETS, framer::Found::Frame(frame))
            }
            _ => Step::Wait,
        }
    }

    fn skipped(octets: u64) -> Found {
        framer::Found::Skipped(octets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::{every_other_length_is_refused, found, found_in_pieces};
    use crate::vectors::vectors;

    #[test]
    fn frames_decode_and_encode_and_nothing_else_does() {
        for v in vectors(include_str!("../../vectors/nonin_df8.txt")) {
            let frame = Frame::decode(&v.octets).unwrap();
            let number = |number: Option<u16>| number.map_or_else(|| "-".into(), |number| number.to_string());
            let terms: Vec<_> = frame.terms().collect();
            let text =
                format!("hr={} spo2={} {}", number(frame.heart_rate()), number(frame.spo2().map(u16::from)), terms.join(","));
            assert_eq!((text.as_str(), &frame.encode()[..]), (v.expected, &v.octets[..]), "{}", v.id);
            every_other_length_is_refused(&v.octets, Frame::decode);
            for octet in 0..4 {
                let mut turned = v.octets.clone();
                turned[octet] ^= 0x80;
                assert!(Frame::decode(&turned).is_err(), "{} octet {octet}", v.id);
            }
            assert_eq!(found::<Frames>(&[&v.octets]), [Found::Frame(frame)], "one by itself");
        }
    }

    #[test]
    fn a_lost_octet_costs_its_own_frame_only() {
        let stream = [0x80, 0x48, 0x61, 0x20].repeat(5);
        for at in 8..12 {
            let mut lost = stream.clone();
            lost.remove(at);
            let frames = found::<Frames>(&[&lost]).iter().filter(|found| matches!(found, Found::Frame(_))).count();
            assert!((3..=4).contains(&frames), "{at}: {frames}");
        }
    }

    proptest! {
        #[test]
        fn no_split_makes_a_difference(stream in proptest::collection::vec(any::<u8>(), 0..100), size in 1..9_usize) {
            found_in_pieces::<Frames>(&stream, size);
        }

        #[test]
        fn frames_survive_the_way_there_and_back(status in 0..0x20_u8, heart_rate in 0..=511_u16, spo2 in 0..=127_u8, status2 in 0..=127_u8) {
            let frame = Frame { status: status << 2, heart_rate, spo2, status2 };
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }
    }
}
