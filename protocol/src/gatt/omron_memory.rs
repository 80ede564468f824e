//! Omron's way to a blood pressure monitor's memory over GATT: frames on up to four characteristics each way.
//!
//! Source: omblepy e14ee5a, hass-omron d6758ed and 4671dac (MIT), facts only. Older monitors have four characteristics each
//! way and put 16 octets on each; newer ones have one and put a whole frame on it.

use alloc::vec::Vec;

use crate::reader::{DecodeError, Reader};

/// What a frame is: a code over its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKind(pub u16);

impl FrameKind {
    /// Opens the memory.
    pub const OPEN: Self = Self(0x0000);
    /// Reads a run of octets.
    pub const READ: Self = Self(0x0100);
    /// Writes a run of octets.
    pub const WRITE: Self = Self(0x01c0);
    /// Closes the memory; as a reply also the refusal of anything.
    pub const CLOSE: Self = Self(0x0f00);

    /// The kind of the reply to it.
    #[must_use]
    pub const fn reply(self) -> Self {
        Self(self.0 | 0x8000)
    }
}

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Where in the memory.
    pub address: u16,
    /// How many octets: of the payload, or to be read.
    pub size: u8,
    /// What is written, or was read.
    pub payload: Vec<u8>,
    /// 0: well. What else it may be no source says.
    pub result: u8,
}

impl Frame {
    /// The most octets of a payload.
    pub const PAYLOAD_OCTETS_MAX: usize = FRAME_OCTETS_MAX - OVERHEAD_OCTETS;

    /// Opens the memory: 0800000000100018.
    #[must_use]
    pub const fn open() -> Self {
        Self { kind: FrameKind::OPEN, address: 0, size: 0x10, payload: Vec::new(), result: 0 }
    }

    /// Closes it: 080f000000000007.
    #[must_use]
    pub const fn close() -> Self {
        Self { kind: FrameKind::CLOSE, address: 0, size: 0, payload: Vec::new(), result: 0 }
    }

    /// Reads `size` octets at `address`.
    #[must_use]
    pub const fn read(address: u16, size: u8) -> Self {
        Self { kind: FrameKind::READ, address, size, payload: Vec::new(), result: 0 }
    }

    /// Writes octets at `address`, at most [`Frame::PAYLOAD_OCTETS_MAX`].
    #[must_use]
    pub fn write(address: u16, octets: &[u8]) -> Self {
        let payload = octets.get(..Self::PAYLOAD_OCTETS_MAX).unwrap_or(octets).to_vec();
        let size = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        Self { kind: FrameKind::WRITE, address, size, payload, result: 0 }
    }

    /// Decodes one frame.
    ///
    /// Shape: length, that of all · kind u16 · address u16 · size · payload · result · the XOR of all before it; big-endian,
    /// 8 to 64 octets. The payload has `size` octets, or none: in requests to read, in control frames, and where a read is
    /// refused.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], also for a payload shorter than its size (it is never filled up) and for a read
    /// that brought nothing and is no refusal; [`DecodeError::Trailing`]; [`DecodeError::Value`] for an impossible length;
    /// [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let length = usize::from(r.u8("length")?);
        if !(OVERHEAD_OCTETS..=FRAME_OCTETS_MAX).contains(&length) {
            return Err(DecodeError::Value { field: "length" });
        }
        match octets.len().checked_sub(length) {
            None => return Err(DecodeError::Truncated { field: "frame" }),
            Some(0) => {}
            Some(octets) => return Err(DecodeError::Trailing { octets }),
        }
        let (kind, address, size) = (FrameKind(r.u16_be("kind")?), r.u16_be("address")?, r.u8("size")?);
        let payload = r.take(length - OVERHEAD_OCTETS, "payload")?;
        let result = r.u8("result")?;
        if octets.iter().fold(0, |xor, octet| xor ^ octet) != 0 {
            return Err(DecodeError::Checksum);
        }
        let nothing_read = kind == FrameKind::READ.reply() && result == 0 && size > 0;
        match (payload.len(), usize::from(size)) {
            (0, _) if nothing_read => Err(DecodeError::Truncated { field: "payload" }),
            (payload, size) if payload != 0 && payload < size => Err(DecodeError::Truncated { field: "payload" }),
            (payload, size) if payload > size => Err(DecodeError::Trailing { octets: payload - size }),
            _ => Ok(Self { kind, address, size, payload: payload.to_vec(), result }),
        }
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let payload = self.payload.get(..Self::PAYLOAD_OCTETS_MAX).unwrap_or(&self.payload);
        let mut octets = Vec::with_capacity(OVERHEAD_OCTETS + payload.len());
        octets.push(u8::try_from(OVERHEAD_OCTETS + payload.len()).unwrap_or(u8::MAX));
        octets.extend(self.kind.0.to_be_bytes());
        octets.extend(self.address.to_be_bytes());
        octets.push(self.size);
        octets.extend(payload);
        octets.push(self.result);
        octets.push(octets.iter().fold(0, |xor, octet| xor ^ octet));
        octets
    }

    /// Whether it says that something did not work: its result, or, in the reply that refuses, its first octet.
    #[must_use]
    pub fn refusal(&self) -> Option<u8> {
        let refuses = self.kind == FrameKind::CLOSE.reply();
        let code = self.payload.first().copied().filter(|_| refuses).unwrap_or(self.result);
        (code != 0).then_some(code)
    }
}

/// Octets on one of four characteristics.
pub const CHANNEL_OCTETS: usize = 16;
/// Characteristics each way, at most.
pub const CHANNELS_MAX: usize = 4;
/// The most octets of a frame: four characteristics full.
pub const FRAME_OCTETS_MAX: usize = CHANNELS_MAX * CHANNEL_OCTETS;
/// Length, kind, address, size, result, XOR.
const OVERHEAD_OCTETS: usize = 8;

/// Cuts a frame's octets for so many characteristics: 16 octets on each of several, all on a single one.
pub fn channels(octets: &[u8], count: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let width = if count > 1 { CHANNEL_OCTETS } else { octets.len().max(1) };
    octets.chunks(width).enumerate()
}

/// Puts frames together out of what the characteristics notify. What came before a first characteristic's octets is dropped
/// with them, and so is a frame that is none.
#[derive(Clone, Debug)]
pub struct Assembler {
    single: bool,
    parts: [Option<Vec<u8>>; CHANNELS_MAX],
}

impl Assembler {
    /// For a device with so many characteristics to listen to.
    #[must_use]
    pub const fn new(channels: usize) -> Self {
        Self { single: channels <= 1, parts: [None, None, None, None] }
    }

    /// Takes in what a characteristic notified; gives the frame that it completes, or why it is none.
    ///
    /// Octets behind a frame's declared length fill the last characteristic and are left out.
    pub fn push(&mut self, channel: usize, octets: &[u8]) -> Option<Result<Frame, DecodeError>> {
        if self.single {
            let whole = octets.first().and_then(|length| octets.get(..usize::from(*length)));
            return Some(Frame::decode(whole.unwrap_or(octets)));
        }
        if channel == 0 {
            self.parts = Default::default();
        }
        let octets = octets.get(..CHANNEL_OCTETS).unwrap_or(octets);
        *self.parts.get_mut(channel)? = Some(octets.to_vec());
        let length = usize::from(*self.parts.first()?.as_ref()?.first()?);
        let needed = length.div_ceil(CHANNEL_OCTETS);
        if length < OVERHEAD_OCTETS || needed > CHANNELS_MAX {
            self.parts = Default::default();
            return Some(Err(DecodeError::Value { field: "length" }));
        }
        let parts: Option<Vec<&[u8]>> = self.parts.iter().take(needed).map(Option::as_deref).collect();
        let mut frame = parts?.concat();
        frame.truncate(length);
        self.parts = Default::default();
        Some(Frame::decode(&frame))
    }
}

#[cfg(test)]
mod tests;
