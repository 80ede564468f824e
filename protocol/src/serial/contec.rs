//! Contec CMS50 oximeters on a serial line: the packets of protocol 7.0 and the older five octets, told apart by themselves.
//!
//! Ports: 115,200 baud for 7.0, 19,200 for the older ones, 8 data bits, no parity. A packet's first octet alone has no bit 7;
//! its second one carries bit 7 of those behind it. There is no checksum: a turned bit that is no bit 7 cannot be seen.
//! Source: Contec, "Communication protocol of pulse oximeter V7.0" (in CMS50FW 60cfff1, Apache-2); cms50ew 7db65e4 for the
//! length of a segment, timegrid/CMS50Dplus7 070343e for padding and the second between stored points; the layout of
//! [`Message::StartDate`] and [`Message::StartTime`] as in OSCAR's loader, without a capture of ours.

use alloc::vec::Vec;

use super::bci;
use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{self, Framing, Step};

/// Frames a second of either protocol.
pub const FRAMES_PER_SECOND: u32 = 60;
/// The device stops sending unless it hears [`Command::KeepAlive`] this often, in seconds.
pub const KEEP_ALIVE_SECONDS: u32 = 5;

/// A packet of protocol 7.0. Shape, units, errors and source: see [`Packet::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// What it is, 0–127.
    pub kind: u8,
    /// At most [`Packet::DATA_OCTETS_MAX`].
    pub data: Vec<u8>,
}

impl Packet {
    /// The most octets of data: as many as the second octet has bits for.
    pub const DATA_OCTETS_MAX: usize = 7;
    /// The most octets.
    pub const OCTETS_MAX: usize = 2 + Self::DATA_OCTETS_MAX;

    /// Decodes one packet.
    ///
    /// Shape: kind, without bit 7 · bit 7 of octet n of the data in bit n, with bit 7 · data, each with bit 7; 3–9 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] where a bit 7 is out of place.
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let (kind, high) = (r.u8("kind")?, r.u8("high bits")?);
        let data = r.rest();
        if data.is_empty() {
            return Err(DecodeError::Truncated { field: "data" });
        }
        if let Some(octets @ 1..) = data.len().checked_sub(Self::DATA_OCTETS_MAX) {
            return Err(DecodeError::Trailing { octets });
        }
        if kind & BIT_7 != 0 {
            return Err(DecodeError::Value { field: "kind" });
        }
        if octets.iter().skip(1).any(|octet| octet & BIT_7 == 0) {
            return Err(DecodeError::Value { field: "bit 7" });
        }
        let data = data.iter().enumerate().map(|(at, octet)| octet & !BIT_7 | (high >> at & 1) << 7).collect();
        Ok(Self { kind, data })
    }

    /// The octets of it; data past the seventh octet is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let data = || self.data.iter().take(Self::DATA_OCTETS_MAX);
        let high = data().enumerate().fold(BIT_7, |high, (at, octet)| high | octet >> 7 << at);
        [self.kind & !BIT_7, high].into_iter().chain(data().map(|octet| octet | BIT_7)).collect()
    }
}

const BIT_7: u8 = 0x80;

/// What a device says sixty times a second. Shape, units, errors and source: see [`Message::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Realtime {
    /// Signal strength, 0–8; 15 for an invalid signal.
    pub signal: u8,
    /// The pulse is being searched for too long.
    pub searching_too_long: bool,
    /// SpO2 is low.
    pub low_spo2: bool,
    /// A beat.
    pub beat: bool,
    /// The probe does not work, or is off.
    pub probe_error: bool,
    /// The pulse waveform, 0–127, no unit.
    pub pleth: u8,
    /// A pulse is searched for.
    pub searching: bool,
    /// Bar graph, 0–15.
    pub bar: u8,
    /// Pulse rate, /min.
    pub pulse_rate: Option<u8>,
    /// SpO2, %.
    pub spo2: Option<u8>,
    /// Perfusion index, hundredths of a percent.
    pub perfusion_index: Option<u16>,
}

/// One second of what a device stored. Source: as the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// SpO2, %.
    pub spo2: Option<u8>,
    /// Pulse rate, /min.
    pub pulse_rate: Option<u8>,
    /// Perfusion index, hundredths of a percent.
    pub perfusion_index: Option<u16>,
}

/// Which stored segment. Source: as the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Of which user.
    pub user: u8,
    /// Its index.
    pub segment: u8,
}

/// A packet's meaning. Shape, units, errors and source: see [`Message::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// 01: sixty a second, after [`Command::Start`].
    Realtime(Realtime),
    /// 07: the date on which a segment begins.
    StartDate {
        /// Which.
        of: Segment,
        /// Year.
        year: u16,
        /// Month.
        month: u8,
        /// Day.
        day: u8,
    },
    /// 12: the time at which a segment begins.
    StartTime {
        /// Which.
        of: Segment,
        /// Hours, minutes, seconds.
        time: [u8; 3],
    },
    /// 08: how long a segment is.
    Length {
        /// Which.
        of: Segment,
        /// Octets of its points: two a point, four where it has a perfusion index.
        octets: u32,
    },
    /// 09: a point with its perfusion index.
    PointWithIndex(Point),
    /// 0A: how many segments a user has.
    Segments {
        /// Which user.
        user: u8,
        /// How many.
        count: u8,
    },
    /// 0D: the device ends the conversation.
    Disconnected {
        /// Why.
        reason: u8,
    },
    /// 0F: three points; `None` fills up the last packet.
    Points([Option<Point>; 3]),
    /// Anything else.
    Other(Packet),
}

impl Message {
    /// Decodes a packet's data.
    ///
    /// Shape of the data: 01 status, waveform (bit 7: searching), bar graph (bit 4: no perfusion index), pulse rate, SpO2,
    /// perfusion index (2) · 07 user, segment, century, year, month, day · 12 user, segment, hours, minutes, seconds, 0 ·
    /// 08 user, segment, octets (4) · 09 SpO2, pulse rate, perfusion index (2) · 0A user, count · 0D reason · 0F three of
    /// SpO2, pulse rate; little-endian.
    /// Units: SpO2 in `%`, pulse rates in `/min`, perfusion index in 0.01 `%`; 127, 255 and 65535 are absent.
    /// Errors: as [`Packet::decode`]; [`DecodeError::Truncated`], [`DecodeError::Trailing`] for data of another length;
    /// [`DecodeError::Value`] for a year of 100 or more in its century.
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let packet = Packet::decode(octets)?;
        match length(packet.kind).map(|expected| octets.len().checked_sub(expected)) {
            Some(None) => return Err(DecodeError::Truncated { field: "data" }),
            Some(Some(octets @ 1..)) => return Err(DecodeError::Trailing { octets }),
            _ => {}
        }
        let mut r = Reader::new(&packet.data);
        let message = match packet.kind {
            0x01 => Self::Realtime(Realtime::read(&mut r)?),
            0x07 => Self::StartDate { of: segment(&mut r)?, year: year(&mut r)?, month: r.u8("month")?, day: r.u8("day")? },
            0x08 => Self::Length { of: segment(&mut r)?, octets: r.u32("octets")? },
            0x09 => {
                let (spo2, pulse_rate) = (saturation(r.u8("spo2")?), rate(r.u8("pulse rate")?));
                Self::PointWithIndex(Point { spo2, pulse_rate, perfusion_index: index(r.u16("perfusion index")?) })
            }
            0x0a => Self::Segments { user: r.u8("user")?, count: r.u8("count")? },
            0x0d => Self::Disconnected { reason: r.u8("reason")? },
            0x0f => Self::Points([stored(&mut r)?, stored(&mut r)?, stored(&mut r)?]),
            0x12 => {
                let of = segment(&mut r)?;
                let time = [r.u8("hours")?, r.u8("minutes")?, r.u8("seconds")?];
                r.u8("reserved")?;
                Self::StartTime { of, time }
            }
            _ => return Ok(Self::Other(packet)),
        };
        r.finish()?;
        Ok(message)
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, data) = match self {
            Self::Realtime(realtime) => (0x01, realtime.data().to_vec()),
            Self::StartDate { of, year, month, day } => {
                let [century, year] = [year / 100, year % 100].map(|part| u8::try_from(part).unwrap_or(0));
                (0x07, Vec::from([of.user, of.segment, century, year, *month, *day]))
            }
            Self::StartTime { of, time: [hour, minute, second] } => {
                (0x12, Vec::from([of.user, of.segment, *hour, *minute, *second, 0]))
            }
            Self::Length { of, octets } => {
                let [a, b, c, d] = octets.to_le_bytes();
                (0x08, Vec::from([of.user, of.segment, a, b, c, d]))
            }
            Self::PointWithIndex(point) => {
                let [low, high] = point.perfusion_index.unwrap_or(NO_INDEX).to_le_bytes();
                let [spo2, pulse_rate] = point_octets(Some(*point));
                (0x09, Vec::from([spo2, pulse_rate, low, high]))
            }
            Self::Segments { user, count } => (0x0a, Vec::from([*user, *count])),
            Self::Disconnected { reason } => (0x0d, Vec::from([*reason])),
            Self::Points(points) => (0x0f, points.iter().copied().flat_map(point_octets).collect()),
            Self::Other(packet) => return packet.encode(),
        };
        Packet { kind, data }.encode()
    }
}

impl Realtime {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (status, wave, bar) = (r.u8("status")?, r.u8("waveform")?, r.u8("bar graph")?);
        let (pulse_rate, spo2, perfusion_index) = (r.u8("pulse rate")?, r.u8("spo2")?, r.u16("perfusion index")?);
        Ok(Self {
            signal: status & 0x0f,
            searching_too_long: status & 0x10 != 0,
            low_spo2: status & 0x20 != 0,
            beat: status & 0x40 != 0,
            probe_error: status & 0x80 != 0,
            pleth: wave & 0x7f,
            searching: wave & 0x80 != 0,
            bar: bar & 0x0f,
            pulse_rate: rate(pulse_rate),
            spo2: saturation(spo2),
            perfusion_index: index(perfusion_index).filter(|_| bar & INDEX_INVALID == 0),
        })
    }

    fn data(&self) -> [u8; Packet::DATA_OCTETS_MAX] {
        let bit = |said: bool, bit: u8| if said { bit } else { 0 };
        let status = self.signal & 0x0f
            | bit(self.searching_too_long, 0x10)
            | bit(self.low_spo2, 0x20)
            | bit(self.beat, 0x40)
            | bit(self.probe_error, 0x80);
        let [low, high] = self.perfusion_index.unwrap_or(NO_INDEX).to_le_bytes();
        [
            status,
            self.pleth & 0x7f | bit(self.searching, 0x80),
            self.bar & 0x0f,
            self.pulse_rate.unwrap_or(NO_PULSE_RATE),
            self.spo2.unwrap_or(NO_SPO2),
            low,
            high,
        ]
    }
}

const INDEX_INVALID: u8 = 0x10;
const NO_PULSE_RATE: u8 = 0xff;
const NO_SPO2: u8 = 0x7f;
const NO_INDEX: u16 = 0xffff;

fn saturation(octet: u8) -> Option<u8> {
    (octet != NO_SPO2).then_some(octet)
}

fn rate(octet: u8) -> Option<u8> {
    (octet != NO_PULSE_RATE).then_some(octet)
}

fn index(value: u16) -> Option<u16> {
    (value != NO_INDEX).then_some(value)
}

fn segment(r: &mut Reader<'_>) -> Result<Segment, DecodeError> {
    Ok(Segment { user: r.u8("user")?, segment: r.u8("segment")? })
}

/// A century and the year in it, 0–99: of another one nobody can tell which year is meant.
fn year(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    let (century, year) = (r.u8("century")?, r.u8("year")?);
    if year >= 100 { Err(DecodeError::Value { field: "year" }) } else { Ok(u16::from(century) * 100 + u16::from(year)) }
}

/// Two zeros fill up the last packet.
fn stored(r: &mut Reader<'_>) -> Result<Option<Point>, DecodeError> {
    let octets = (r.u8("spo2")?, r.u8("pulse rate")?);
    let point = |(spo2, pulse_rate)| Point { spo2: saturation(spo2), pulse_rate: rate(pulse_rate), perfusion_index: None };
    Ok((octets != (0, 0)).then(|| point(octets)))
}

fn point_octets(point: Option<Point>) -> [u8; 2] {
    point.map_or([0, 0], |point| [point.spo2.unwrap_or(NO_SPO2), point.pulse_rate.unwrap_or(NO_PULSE_RATE)])
}

/// What a host asks for. Shape: a packet 7D whose data is the code, user and segment where it names them, and zeros.
/// Units, errors: none. Source: as the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// A1: sixty times a second what is measured.
    Start,
    /// A2: no more of that.
    Stop,
    /// A3: how many segments a user has.
    AskSegments(Segment),
    /// A4: how long a segment is.
    AskLength(Segment),
    /// A5: when a segment begins.
    AskStart(Segment),
    /// A6: a segment's points.
    StartStored(Segment),
    /// A7: no more of them.
    StopStored,
    /// AE: deletes a segment.
    Delete(Segment),
    /// AF: the host is there.
    KeepAlive,
}

impl Command {
    /// The octet that every command begins with.
    pub const KIND: u8 = 0x7d;
    /// Octets of a command.
    pub const OCTETS: usize = Packet::OCTETS_MAX;

    /// The octets of it.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let (code, of) = match self {
            Self::Start => (0xa1, None),
            Self::Stop => (0xa2, None),
            Self::AskSegments(of) => (0xa3, Some(of)),
            Self::AskLength(of) => (0xa4, Some(of)),
            Self::AskStart(of) => (0xa5, Some(of)),
            Self::StartStored(of) => (0xa6, Some(of)),
            Self::StopStored => (0xa7, None),
            Self::Delete(of) => (0xae, Some(of)),
            Self::KeepAlive => (0xaf, None),
        };
        let Segment { user, segment } = of.unwrap_or_default();
        Packet { kind: Self::KIND, data: Vec::from([code, user, segment, 0, 0, 0, 0]) }.encode()
    }

    /// The command that a packet is; `None` where it is none of these.
    #[must_use]
    pub fn of(packet: &Packet) -> Option<Self> {
        let (Self::KIND, &[code, user, segment, ..]) = (packet.kind, packet.data.as_slice()) else { return None };
        let of = Segment { user, segment };
        Some(match code {
            0xa1 => Self::Start,
            0xa2 => Self::Stop,
            0xa3 => Self::AskSegments(of),
            0xa4 => Self::AskLength(of),
            0xa5 => Self::AskStart(of),
            0xa6 => Self::StartStored(of),
            0xa7 => Self::StopStored,
            0xae => Self::Delete(of),
            0xaf => Self::KeepAlive,
            _ => return None,
        })
    }
}

/// What stands on the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A packet of protocol 7.0.
    Message(Message),
    /// The older five octets.
    Frame(bci::Frame),
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Heard>;

/// Finds packets and frames in a stream, however it is split.
///
/// A packet whose length is known is taken when it is there (what is measured when the octet behind it begins the next one,
/// so that an added octet shows); any other with the octet that begins the next. Five octets are taken so too, the first
/// time only if five more follow. What has a bit 7 out of place costs itself only.
pub type Framer = framer::Framer<Frames>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    /// Frames of five octets were found.
    five: bool,
}

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], ended: bool) -> Step<Found> {
        if rest.first().is_some_and(|first| first & BIT_7 != 0) {
            return self.frame(rest, ended);
        }
        let octets = 1 + rest.iter().skip(1).take(Packet::OCTETS_MAX - 1).take_while(|octet| **octet & BIT_7 != 0).count();
        // Where what begins with this octet ends: at its full length, or at the next octet that begins something.
        let ends = octets == Packet::OCTETS_MAX || octets < rest.len() || ended;
        let kind = rest.first().copied().unwrap_or_default();
        let expected = length(kind);
        let behind = rest.get(expected.unwrap_or(octets));
        match expected {
            Some(expected) if octets >= expected && kind != REALTIME => self.message(rest, expected),
            Some(expected) if octets >= expected && behind.is_some_and(|behind| behind & BIT_7 == 0) => {
                self.message(rest, expected)
            }
            Some(expected) if octets >= expected && behind.is_none() && ended => self.message(rest, expected),
            Some(expected) if octets >= expected && behind.is_none() => Step::Wait,
            None if ends && octets > 2 => self.message(rest, octets),
            _ if ends => Step::Skip(1),
            _ => Step::Wait,
        }
    }

    fn skipped(octets: u64) -> Found {
        framer::Found::Skipped(octets)
    }
}

impl Frames {
    fn message(&mut self, rest: &[u8], octets: usize) -> Step<Found> {
        match rest.get(..octets).map(Message::decode) {
            Some(Ok(message)) => {
                self.five = false;
                Step::take(octets, framer::Found::Frame(Heard::Message(message)))
            }
            _ => Step::Skip(1),
        }
    }

    fn frame(&mut self, rest: &[u8], ended: bool) -> Step<Found> {
        match bci::Frame::at_front(rest, if self.five { 1 } else { 2 }, ended) {
            None => Step::Wait,
            Some(true) if let Some(Ok(frame)) = rest.get(..bci::Frame::OCTETS).map(bci::Frame::decode) => {
                self.five = true;
                Step::take(bci::Frame::OCTETS, framer::Found::Frame(Heard::Frame(frame)))
            }
            // Octets without bit 7 behind one that begins no frame may begin a packet.
            Some(_) => Step::Skip(1),
        }
    }
}

const REALTIME: u8 = 0x01;

/// Octets of a packet of this kind, where they are always as many.
const fn length(kind: u8) -> Option<usize> {
    Some(match kind {
        0x01 | Command::KIND => 9,
        0x07 | 0x08 | 0x0f | 0x12 => 8,
        0x09 => 6,
        0x0a => 4,
        0x0d => 3,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
