//! What a Contec CMS50D-BT notifies: frames of numbers and frames of the waveform, each with a sum.
//!
//! Started by [`START`]. Source: OxiVis, issue 2 (captured octets with the numbers on the display). How often frames come is
//! not stated there.

use alloc::vec::Vec;

use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{self, Framing, Step, to_next};

/// What starts the device's notifications.
pub const START: [u8; 3] = [0x9b, 0x01, 0x1c];

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// The waveform.
    Wave {
        /// Not known what; 03 in the capture.
        unknown: u8,
        /// The pulse waveform, 0–127, no unit.
        pleth: u8,
        /// Bar graph.
        bar: u8,
    },
    /// Numbers.
    Numbers {
        /// Not known what; 04 in the capture.
        unknown: u8,
        /// Pulse rate, /min; 127 for none.
        pulse_rate: u8,
        /// SpO2, %; 127 for none.
        spo2: u8,
        /// Not known what; 7F 00 in the capture.
        rest: [u8; 2],
    },
}

impl Frame {
    /// Decodes one frame.
    ///
    /// Shape: EB 00 · unknown · waveform · bar graph · sum, or EB 01 · unknown · pulse rate · SpO2 · unknown (2) · sum; the
    /// sum is that of all octets before it modulo 128, so that a turned bit 7 of the first octet alone cannot be seen by it.
    /// Units: pulse rate in `/min`, SpO2 in `%`.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another start or an octet
    /// with bit 7 behind it; [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.u8("start")? != FIRST {
            return Err(DecodeError::Value { field: "start" });
        }
        let frame = match r.u8("kind")? {
            WAVE => Self::Wave { unknown: r.u8("unknown")?, pleth: r.u8("waveform")?, bar: r.u8("bar graph")? },
            NUMBERS => Self::Numbers {
                unknown: r.u8("unknown")?,
                pulse_rate: r.u8("pulse rate")?,
                spo2: r.u8("spo2")?,
                rest: [r.u8("unknown")?, r.u8("unknown")?],
            },
            _ => return Err(DecodeError::Value { field: "kind" }),
        };
        let checksum = r.u8("checksum")?;
        r.finish()?;
        if octets.iter().skip(1).any(|octet| octet & 0x80 != 0) {
            return Err(DecodeError::Value { field: "bit 7" });
        }
        let (covered, _) = octets.split_at_checked(octets.len() - 1).unwrap_or_default();
        if checksum == sum(covered) { Ok(frame) } else { Err(DecodeError::Checksum) }
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = match *self {
            Self::Wave { unknown, pleth, bar } => Vec::from([FIRST, WAVE, unknown, pleth, bar]),
            Self::Numbers { unknown, pulse_rate, spo2, rest: [a, b] } => {
                Vec::from([FIRST, NUMBERS, unknown, pulse_rate, spo2, a, b])
            }
        };
        octets.iter_mut().skip(1).for_each(|octet| *octet &= 0x7f);
        octets.push(sum(&octets));
        octets
    }
}

const FIRST: u8 = 0xeb;
const WAVE: u8 = 0;
const NUMBERS: u8 = 1;
/// A number that is none.
pub const NONE: u8 = 0x7f;

fn sum(octets: &[u8]) -> u8 {
    octets.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet)) & 0x7f
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Frame>;

/// Finds frames in notifications: several may stand in one, and one over several. Taken by its sum; where that does not fit,
/// the search goes on at the next octet.
pub type Framer = framer::Framer<Frames>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let octets = match rest {
            [FIRST] => return Step::Wait,
            [FIRST, WAVE, ..] => 6,
            [FIRST, NUMBERS, ..] => 8,
            _ => return Step::Skip(to_next(rest, |octet| octet == FIRST)),
        };
        match rest.get(..octets).map(Frame::decode) {
            None => Step::Wait,
            Some(Ok(frame)) => Step::take(octets, framer::Found::Frame(frame)),
            Some(Err(_)) => Step::Skip(1),
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
    use crate::promises::{every_other_length_is_refused, every_turned_bit_is_refused, found, found_however_split};
    use crate::vectors::vectors;

    #[test]
    fn frames_decode_and_encode_and_nothing_else_does() {
        let mut stream = Vec::new();
        for v in vectors(include_str!("../../vectors/contec_bt.txt")) {
            let frame = Frame::decode(&v.octets).unwrap();
            let text = match frame {
                Frame::Wave { pleth, bar, .. } => format!("pleth={pleth} bar={bar}"),
                Frame::Numbers { pulse_rate, spo2, .. } => format!("pr={pulse_rate} spo2={spo2}"),
            };
            assert_eq!((text.as_str(), frame.encode()), (v.expected, v.octets.clone()), "{}", v.id);
            every_other_length_is_refused(&v.octets, Frame::decode);
            every_turned_bit_is_refused(&v.octets, Frame::decode);
            stream.extend(v.octets);
        }
        let whole = found_however_split::<Frames>(&stream);
        assert!(whole.len() > 1 && whole.iter().all(|found| matches!(found, Found::Frame(_))));
    }

    proptest! {
        #[test]
        fn frames_survive_the_way_there_and_back(values in proptest::array::uniform4(0..0x80_u8), wave: bool) {
            let [unknown, a, b, c] = values;
            let frame = if wave {
                Frame::Wave { unknown, pleth: a, bar: b }
            } else {
                Frame::Numbers { unknown, pulse_rate: a, spo2: b, rest: [c, 0] }
            };
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Frame::decode(&octets);
            let _ = found::<Frames>(&[&octets]);
        }
    }
}
