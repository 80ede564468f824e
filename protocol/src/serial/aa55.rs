//! The frame of the Creative (Lepu) monitors and oximeters: AA 55, a token, a length, a CRC-8.
//!
//! PC-300 and PC-60FW speak it, by serial port and over Bluetooth; what the tokens mean is theirs. Source: LepuBle 46c1de4
//! and C102C/homehospital331 dbe70ab (facts only), which agree on length and CRC.

use alloc::vec::Vec;

use crc::{CRC_8_MAXIM_DOW, Crc, Table};

use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{self, Framing, Step, to_next};

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What it is about.
    pub token: u8,
    /// What of it.
    pub kind: u8,
    /// What it says.
    pub content: Vec<u8>,
}

impl Frame {
    /// The most octets of a frame's content: an ECG block of the PC-300 has 53.
    pub const CONTENT_OCTETS_MAX: usize = 62;
    /// The most octets of a frame.
    pub const OCTETS_MAX: usize = Self::CONTENT_OCTETS_MAX + OVERHEAD_OCTETS;

    /// Decodes one frame.
    ///
    /// Shape: AA 55 · token · length, that of all behind it · kind · content · CRC-8/MAXIM-DOW over all before it; 6 to 68
    /// octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another start or an
    /// impossible length; [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.take(START.len(), "start")? != START {
            return Err(DecodeError::Value { field: "start" });
        }
        let token = r.u8("token")?;
        let content_octets = content_octets(r.u8("length")?).ok_or(DecodeError::Value { field: "length" })?;
        let kind = r.u8("kind")?;
        let content = r.take(content_octets, "content")?;
        let crc = r.u8("checksum")?;
        r.finish()?;
        let (covered, _) = octets.split_at_checked(content_octets + OVERHEAD_OCTETS - 1).unwrap_or_default();
        if crc != CRC.checksum(covered) {
            return Err(DecodeError::Checksum);
        }
        Ok(Self { token, kind, content: content.to_vec() })
    }

    /// The octets of it; content past [`Frame::CONTENT_OCTETS_MAX`] is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let content = self.content.get(..Self::CONTENT_OCTETS_MAX).unwrap_or(&self.content);
        let length = u8::try_from(content.len()).unwrap_or(u8::MAX).saturating_add(KIND_AND_CRC_OCTETS);
        let mut octets = Vec::with_capacity(content.len() + OVERHEAD_OCTETS);
        octets.extend(START);
        octets.extend([self.token, length, self.kind]);
        octets.extend(content);
        octets.push(CRC.checksum(&octets));
        octets
    }
}

const START: [u8; 2] = [0xaa, 0x55];
/// Start, token, length, kind, CRC.
const OVERHEAD_OCTETS: usize = 6;
const KIND_AND_CRC_OCTETS: u8 = 2;
static CRC: Crc<u8, Table<1>> = Crc::<u8, Table<1>>::new(&CRC_8_MAXIM_DOW);

fn content_octets(length: u8) -> Option<usize> {
    let content = usize::from(length.checked_sub(KIND_AND_CRC_OCTETS)?);
    (content <= Frame::CONTENT_OCTETS_MAX).then_some(content)
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Frame>;

/// Finds frames in a stream, however it is split.
///
/// A frame is taken by its CRC; where that does not fit, the search goes on at the next octet, so that a corrupted frame, or
/// a start that was none, costs no good frame behind it. A start that is none is waited for at most 68 octets.
pub type Framer = framer::Framer<Aa55>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Aa55;

impl Framing for Aa55 {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let length = match rest {
            [0xaa] | [0xaa, 0x55] | [0xaa, 0x55, _] => return Step::Wait,
            [0xaa, 0x55, _, length, ..] => *length,
            _ => return Step::Skip(to_next(rest, |octet| octet == 0xaa)),
        };
        let Some(octets) = content_octets(length).map(|content| content + OVERHEAD_OCTETS) else { return Step::Skip(1) };
        let Some(frame) = rest.get(..octets) else { return Step::Wait };
        match Frame::decode(frame) {
            Ok(frame) => Step::take(octets, framer::Found::Frame(frame)),
            Err(_) => Step::Skip(1),
        }
    }

    fn skipped(octets: u64) -> Found {
        framer::Found::Skipped(octets)
    }
}

#[cfg(test)]
mod tests;
