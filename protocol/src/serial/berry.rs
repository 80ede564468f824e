//! Berry oximeters: twenty octets with a sum, or BCI's five ([`bci`]), told apart by themselves.
//!
//! Port: 115,200 baud, 8 data bits, no parity, or over Bluetooth. Source: Shanghai Berry, protocol document in
//! SpO2-BLE-for-Android 2962435.

use alloc::string::String;
use alloc::vec::Vec;

use super::bci;
use crate::flags::terms_of_some;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;
use crate::serial::framer::{self, Framing, Step, to_next};

/// BCI's frames come so often.
pub const BCI_FRAMES_PER_SECOND: u32 = 100;

/// STATUS of a packet. Shape: 8 bits. Units, errors: none. Source: as the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PacketStatus(pub u8);

impl PacketStatus {
    /// Bit 3: a beat.
    pub const BEAT: u8 = 8;
    /// What the bits say.
    const TERMS: [(u8, Status); 3] = [(1, "probe-unplugged"), (2, "finger-out"), (4, "no-signal")];

    /// The terms of the bits that are set; a beat is none.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_some(self.0, &Self::TERMS)
    }

    /// Whether the waveform is no pulse.
    #[must_use]
    pub const fn unusable(self) -> bool {
        self.0 & 7 != 0
    }
}

/// What is measured. Shape, units, errors and source: see [`Packet::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Counts packets.
    pub index: u8,
    /// What the sensor meets.
    pub status: PacketStatus,
    /// SpO2, averaged, %.
    pub spo2: Option<u8>,
    /// SpO2, unaveraged, %.
    pub spo2_real_time: Option<u8>,
    /// Pulse rate, averaged, /min.
    pub pulse_rate: Option<u8>,
    /// Pulse rate, unaveraged, /min.
    pub pulse_rate_real_time: Option<u8>,
    /// The last interval between two beats, in 5 ms; 0 for none.
    pub rr: u16,
    /// Perfusion index, averaged, tenths of a percent.
    pub perfusion_index: Option<u8>,
    /// Perfusion index, unaveraged, tenths of a percent.
    pub perfusion_index_real_time: Option<u8>,
    /// The pulse waveform, 0–100, no unit.
    pub pleth: u8,
    /// Infrared light, as converted.
    pub adc: i32,
    /// Charge of the battery, %.
    pub battery: u8,
    /// Packets a second: 1, 50, 100, 200.
    pub frequency: u8,
}

/// Milliseconds in one unit of [`Packet::rr`].
pub const RR_MILLISECONDS: u16 = 5;

/// A frame of twenty octets. Shape, units, errors and source: see [`Packet::decode`] and [`Twenty::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Twenty {
    /// What is measured.
    Packet(Packet),
    /// A version.
    Version {
        /// Of the hardware; else of the software.
        hardware: bool,
        /// Its text.
        text: String,
    },
}

impl Packet {
    /// Octets of a packet.
    pub const OCTETS: usize = 20;

    /// Decodes a packet.
    ///
    /// Shape: FF AA · index · STATUS · SpO2 (2) · pulse rate (2) · RR (2) · perfusion index (2) · waveform · ADC (4) · battery ·
    /// frequency · sum of all before it modulo 256; little-endian, 20 octets. Of SpO2, pulse rate and perfusion index the
    /// first octet is averaged, the second is not.
    /// Units: SpO2 in `%`, pulse rates in `/min`, RR in 5 `ms`, perfusion index in 0.1 `%`, battery in `%`; 127, 255 and, of
    /// a perfusion index, 0 are absent.
    /// Errors: as [`Twenty::decode`]; [`DecodeError::Value`] for a version.
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        match Twenty::decode(octets)? {
            Twenty::Packet(packet) => Ok(packet),
            Twenty::Version { .. } => Err(DecodeError::Value { field: "status" }),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let saturation = |octet: u8| (octet != NO_SPO2).then_some(octet);
        let rate = |octet: u8| (octet != NO_PULSE_RATE).then_some(octet);
        let index = |octet: u8| (octet != 0).then_some(octet);
        Ok(Self {
            index: r.u8("index")?,
            status: PacketStatus(r.u8("status")?),
            spo2: saturation(r.u8("spo2")?),
            spo2_real_time: saturation(r.u8("spo2")?),
            pulse_rate: rate(r.u8("pulse rate")?),
            pulse_rate_real_time: rate(r.u8("pulse rate")?),
            rr: r.u16("rr")?,
            perfusion_index: index(r.u8("perfusion index")?),
            perfusion_index_real_time: index(r.u8("perfusion index")?),
            pleth: r.u8("waveform")?,
            adc: i32::from_le_bytes(r.u32("adc")?.to_le_bytes()),
            battery: r.u8("battery")?,
            frequency: r.u8("frequency")?,
        })
    }
}

impl Twenty {
    /// Decodes a frame.
    ///
    /// Shape: a packet ([`Packet::decode`]), or FF AA · 53 (software) or 48 (hardware) · text, filled up with 0 · sum; a
    /// version is told from a packet of that index by its first letter, which no status has; 20 octets.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another start or a text
    /// that is none; [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.take(2, "start")? != START {
            return Err(DecodeError::Value { field: "start" });
        }
        let fields = r.take(Packet::OCTETS - 3, "fields")?;
        let checksum = r.u8("checksum")?;
        r.finish()?;
        if checksum != sum(octets.get(..Packet::OCTETS - 1).unwrap_or_default()) {
            return Err(DecodeError::Checksum);
        }
        match fields {
            [kind @ (SOFTWARE | HARDWARE), text @ ..] if text.first().is_some_and(|first| *first >= b' ') => {
                let end = text.iter().position(|octet| *octet == 0).unwrap_or(text.len());
                let (text, filling) = text.split_at_checked(end).unwrap_or_default();
                let plain = text.iter().all(|octet| matches!(octet, b' '..=b'~')) && filling.iter().all(|octet| *octet == 0);
                let text = core::str::from_utf8(text).ok().filter(|_| plain).ok_or(DecodeError::Value { field: "version" })?;
                Ok(Self::Version { hardware: *kind == HARDWARE, text: text.into() })
            }
            fields => Packet::read(&mut Reader::new(fields)).map(Self::Packet),
        }
    }

    /// The octets of it; a text is cut to 16 octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::from(START);
        match self {
            Self::Packet(p) => {
                octets.extend([p.index, p.status.0]);
                octets.extend([p.spo2, p.spo2_real_time].map(|spo2| spo2.unwrap_or(NO_SPO2)));
                octets.extend([p.pulse_rate, p.pulse_rate_real_time].map(|rate| rate.unwrap_or(NO_PULSE_RATE)));
                octets.extend(p.rr.to_le_bytes());
                octets.extend([p.perfusion_index, p.perfusion_index_real_time].map(Option::unwrap_or_default));
                octets.push(p.pleth);
                octets.extend(p.adc.to_le_bytes());
                octets.extend([p.battery, p.frequency]);
            }
            Self::Version { hardware, text } => {
                octets.push(if *hardware { HARDWARE } else { SOFTWARE });
                octets.extend(text.bytes().take(Packet::OCTETS - 4));
                octets.resize(Packet::OCTETS - 1, 0);
            }
        }
        octets.push(sum(&octets));
        octets
    }
}

const START: [u8; 2] = [0xff, 0xaa];
const SOFTWARE: u8 = b'S';
const HARDWARE: u8 = b'H';
const NO_SPO2: u8 = 0x7f;
const NO_PULSE_RATE: u8 = 0xff;

fn sum(octets: &[u8]) -> u8 {
    octets.iter().fold(0, |sum: u8, octet| sum.wrapping_add(*octet))
}

/// What a host asks for: one octet. Source: as the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command(pub u8);

impl Command {
    /// Packets 50 a second.
    pub const HZ_50: Self = Self(0xf0);
    /// Packets 100 a second.
    pub const HZ_100: Self = Self(0xf1);
    /// Packets 200 a second.
    pub const HZ_200: Self = Self(0xf2);
    /// A packet a second.
    pub const HZ_1: Self = Self(0xf3);
    /// No more packets.
    pub const STOP: Self = Self(0xf6);
    /// The software's version.
    pub const SOFTWARE: Self = Self(0xff);
    /// The hardware's version.
    pub const HARDWARE: Self = Self(0xfe);
    /// Five octets from now on.
    pub const BCI: Self = Self(0xe0);
    /// Twenty octets from now on.
    pub const BERRY: Self = Self(0xe1);
}

/// What stands on the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Twenty octets.
    Twenty(Twenty),
    /// Five octets.
    Five(bci::Frame),
    /// Four letters of a version, as it comes among five octets: they are no numbers.
    Letters([u8; 4]),
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Heard>;

/// Finds frames of either protocol in a stream, however it is split.
///
/// Twenty octets are taken by their sum; where that does not fit, the search goes on at the next octet. Five octets, which
/// have none, are taken where frame follows frame, and where twenty have been found only after 60 octets without any.
pub type Framer = framer::Framer<Frames>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames(Stage);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Unknown,
    /// Frames of five octets were found.
    Five,
    /// Twenty octets were found, so many octets ago.
    Twenty { ago: usize },
}

/// Octets without a packet of twenty after which five are looked for again.
const TWENTY_AGO_MAX: usize = 60;

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], ended: bool) -> Step<Found> {
        match rest {
            [0xff] if !ended => return Step::Wait,
            [0xff, 0xaa, ..] => match rest.get(..Packet::OCTETS).map(Twenty::decode) {
                None if !ended => return Step::Wait,
                Some(Ok(twenty)) => {
                    self.0 = Stage::Twenty { ago: 0 };
                    return Step::take(Packet::OCTETS, framer::Found::Frame(Heard::Twenty(twenty)));
                }
                _ => {}
            },
            _ => {}
        }
        if let Stage::Twenty { ago } = self.0 {
            let skipped = to_next(rest, |octet| octet == 0xff).min(TWENTY_AGO_MAX + 1 - ago);
            let ago = ago.saturating_add(skipped);
            self.0 = if ago > TWENTY_AGO_MAX { Stage::Unknown } else { Stage::Twenty { ago } };
            return Step::Skip(skipped);
        }
        let frames = if self.0 == Stage::Five { 1 } else { 2 };
        match (bci::Frame::at_front(rest, frames, ended), rest.get(..bci::Frame::OCTETS)) {
            (None, _) => Step::Wait,
            (Some(true), Some([0xff, a, b, c, d])) => {
                Step::take(bci::Frame::OCTETS, framer::Found::Frame(Heard::Letters([*a, *b, *c, *d])))
            }
            (Some(true), Some(octets)) if let Ok(frame) = bci::Frame::decode(octets) => {
                self.0 = Stage::Five;
                Step::take(bci::Frame::OCTETS, framer::Found::Frame(Heard::Five(frame)))
            }
            _ => Step::Skip(to_next(rest, |octet| octet & 0x80 != 0)),
        }
    }

    fn skipped(octets: u64) -> Found {
        framer::Found::Skipped(octets)
    }
}

#[cfg(test)]
mod tests;
