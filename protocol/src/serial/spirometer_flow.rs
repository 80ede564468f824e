//! Frames of the kit's flow spirometer on a serial line: this project's own framing, since its sensor has none.
//!
//! Port: 115,200 baud, 8 data bits, no parity, or CDC-ACM. The device sends unasked, and flow only during manoeuvres. A header
//! frame comes when a session begins, again before each manoeuvre, and at least once a second within it; marks say where sessions and manoeuvres begin and end.
//!
//! | frame | start | then |
//! | --- | --- | --- |
//! | flow | A6 5A | counter (4) · number of samples (1), 1–20 · samples, signed 24-bit (3 each) · CRC (2) |
//! | header | A6 5B | length (1), 17 · interval (2) · scale (2) · flags (1) · session (4) · calibration (4) · BTPS factor (2) · ambient temperature (2) · CRC (2) |
//! | mark | A6 5C | kind (1) · manoeuvre (1) · session (4) · counter of the next sample (4) · CRC (2) |
//!
//! Everything is little-endian; the CRC is CRC-16/CCITT-FALSE over what stands between start and CRC.
//! Source: this project's framing.

use alloc::vec::Vec;

use crc::{CRC_16_IBM_3740, Crc, Table};

use crate::decimal::Decimal;
use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{Framing, Step, to_next};

const FIRST: u8 = 0xa6;
const FLOW: u8 = 0x5a;
const HEADER: u8 = 0x5b;
const MARK: u8 = 0x5c;
static CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_IBM_3740);

/// What stands between start and CRC.
fn covered<'a>(octets: &'a [u8], second: u8, length: usize) -> Result<Reader<'a>, DecodeError> {
    let mut r = Reader::new(octets);
    if r.take(2, "start")? != [FIRST, second] {
        return Err(DecodeError::Value { field: "start" });
    }
    let covered = r.take(length, "content")?;
    let crc = r.u16("crc")?;
    r.finish()?;
    if crc == CRC.checksum(covered) { Ok(Reader::new(covered)) } else { Err(DecodeError::Checksum) }
}

fn framed(second: u8, covered: &[&[u8]]) -> Vec<u8> {
    let mut octets = Vec::from([FIRST, second]);
    covered.iter().for_each(|part| octets.extend_from_slice(part));
    let crc = CRC.checksum(octets.get(2..).unwrap_or_default());
    octets.extend(crc.to_le_bytes());
    octets
}

/// A run of flow. Shape, units, errors and source: see [`Flow::decode`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Counts samples since the device was switched on, and wraps: that of the first sample here.
    pub counter: u32,
    /// Positive as the patient breathes out; one digit is [`Header::scale`].
    pub samples: Vec<i32>,
}

impl Flow {
    /// The most samples of one frame.
    pub const SAMPLES_MAX: usize = 20;
    /// The most octets of one frame.
    pub const OCTETS_MAX: usize = Self::octets(Self::SAMPLES_MAX);

    const fn octets(samples: usize) -> usize {
        9 + 3 * samples
    }

    /// Decodes a flow frame.
    ///
    /// Shape: A6 5A · counter (4) · number of samples (1), 1–20 · samples, signed 24-bit (3 each) · CRC (2); 12–69 octets.
    /// Units: digits; see [`Header::scale`].
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`], [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start or another number of samples.
    /// Source: this project's framing.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let count = usize::from(*octets.get(6).ok_or(DecodeError::Truncated { field: "number of samples" })?);
        if !(1..=Self::SAMPLES_MAX).contains(&count) {
            return Err(DecodeError::Value { field: "number of samples" });
        }
        let mut r = covered(octets, FLOW, 5 + 3 * count)?;
        let (counter, _) = (r.u32("counter")?, r.u8("number of samples")?);
        let samples = (0..count).map(|_| r.i24("sample")).collect::<Result<_, _>>()?;
        Ok(Self { counter, samples })
    }

    /// The octets of it; samples past the twentieth are left out, and each is cut to 24 bits.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let samples = self.samples.iter().take(Self::SAMPLES_MAX);
        let count = u8::try_from(samples.len()).unwrap_or(0);
        let cut = samples.flat_map(|sample| {
            let [low, middle, high, _] = sample.to_le_bytes();
            [low, middle, high]
        });
        framed(FLOW, &[&self.counter.to_le_bytes(), &[count], &cut.collect::<Vec<_>>()])
    }
}

/// Before or after a bronchodilator, as the operator set it on the device. Shape: bits 1–2 of the flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bronchodilator {
    /// Not stated.
    #[default]
    NotStated,
    /// Before it.
    Before,
    /// After it.
    After,
}

/// What samples mean. Shape, units, errors and source: see [`Header::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Header {
    /// Time between samples, µs.
    pub interval_us: u16,
    /// What one digit is worth, µL/s.
    pub scale_ul: u16,
    /// Samples are brought to body temperature and pressure, saturated with water.
    pub btps: bool,
    /// Before or after a bronchodilator.
    pub bronchodilator: Bronchodilator,
    /// Counts this device's sessions.
    pub session: u32,
    /// Which calibration of the sensor is used.
    pub calibration: u32,
    /// What flow was multiplied by to bring it to BTPS, 10^-4.
    pub btps_factor: u16,
    /// Temperature of the room, 0.01 °C.
    pub ambient_temperature: i16,
}

impl Header {
    /// Octets of a frame.
    pub const OCTETS: usize = 22;
    const LENGTH: u8 = 17;

    /// Decodes a header frame.
    ///
    /// Shape: A6 5B · length (1), 17 · interval (2) · scale (2) · flags (1): 0 BTPS, 1–2 bronchodilator (0 not stated, 1
    /// before, 2 after) · session (4) · calibration (4) · BTPS factor (2) · ambient temperature, signed (2) · CRC (2).
    /// Units: interval in µs, scale in µL/s, factor in 10^-4, temperature in 0.01 °C.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`], [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start or length, an interval below 200 µs, a scale of 0, flags that have no meaning: what they would change of
    /// the samples is not known.
    /// Source: this project's framing.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = covered(octets, HEADER, 1 + usize::from(Self::LENGTH))?;
        if r.u8("length")? != Self::LENGTH {
            return Err(DecodeError::Value { field: "length" });
        }
        let (interval_us, scale_ul, flags) = (r.u16("interval")?, r.u16("scale")?, r.u8("flags")?);
        let header = Self {
            interval_us,
            scale_ul,
            btps: flags & 1 == 1,
            bronchodilator: match flags >> 1 {
                0 => Bronchodilator::NotStated,
                1 => Bronchodilator::Before,
                2 => Bronchodilator::After,
                _ => return Err(DecodeError::Value { field: "flags" }),
            },
            session: r.u32("session")?,
            calibration: r.u32("calibration")?,
            btps_factor: r.u16("btps factor")?,
            ambient_temperature: i16::from_le_bytes(r.u16("ambient temperature")?.to_le_bytes()),
        };
        match () {
            () if interval_us < INTERVAL_US_MIN => Err(DecodeError::Value { field: "interval" }),
            () if scale_ul == 0 => Err(DecodeError::Value { field: "scale" }),
            () => Ok(header),
        }
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bronchodilator = match self.bronchodilator {
            Bronchodilator::NotStated => 0,
            Bronchodilator::Before => 1,
            Bronchodilator::After => 2,
        };
        let flags = u8::from(self.btps) | bronchodilator << 1;
        framed(
            HEADER,
            &[
                &[Self::LENGTH],
                &self.interval_us.to_le_bytes(),
                &self.scale_ul.to_le_bytes(),
                &[flags],
                &self.session.to_le_bytes(),
                &self.calibration.to_le_bytes(),
                &self.btps_factor.to_le_bytes(),
                &self.ambient_temperature.to_le_bytes(),
            ],
        )
    }

    /// What one digit is worth, in `L/s`.
    #[must_use]
    pub fn scale(&self) -> Decimal {
        Decimal::new(self.scale_ul.into(), -6)
    }
}

/// No sensor samples faster, µs.
const INTERVAL_US_MIN: u16 = 200;

/// What begins or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MarkKind {
    /// A session: one patient, some manoeuvres. Number 1.
    #[default]
    SessionBegins,
    /// A manoeuvre. Number 2.
    ManoeuvreBegins,
    /// A manoeuvre. Number 3.
    ManoeuvreEnds,
    /// A session. Number 4.
    SessionEnds,
}

/// Where something begins or ends. Shape, units, errors and source: see [`Mark::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// What.
    pub kind: MarkKind,
    /// Which manoeuvre of the session, from 1; for a session the number of its manoeuvres so far.
    pub manoeuvre: u8,
    /// Counts this device's sessions.
    pub session: u32,
    /// Counter of the next sample: whoever misses samples before an end knows it by this.
    pub counter: u32,
}

impl Mark {
    /// Octets of a frame.
    pub const OCTETS: usize = 14;

    /// Decodes a mark frame.
    ///
    /// Shape: A6 5C · kind (1), 1–4 · manoeuvre (1) · session (4) · counter (4) · CRC (2). Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`], [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start or kind.
    /// Source: this project's framing.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = covered(octets, MARK, 10)?;
        let kind = match r.u8("kind")? {
            1 => MarkKind::SessionBegins,
            2 => MarkKind::ManoeuvreBegins,
            3 => MarkKind::ManoeuvreEnds,
            4 => MarkKind::SessionEnds,
            _ => return Err(DecodeError::Value { field: "kind" }),
        };
        Ok(Self { kind, manoeuvre: r.u8("manoeuvre")?, session: r.u32("session")?, counter: r.u32("counter")? })
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            MarkKind::SessionBegins => 1,
            MarkKind::ManoeuvreBegins => 2,
            MarkKind::ManoeuvreEnds => 3,
            MarkKind::SessionEnds => 4,
        };
        framed(MARK, &[&[kind, self.manoeuvre], &self.session.to_le_bytes(), &self.counter.to_le_bytes()])
    }
}

/// What a [`Framer`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A run of flow.
    Flow(Flow),
    /// What samples mean.
    Header(Header),
    /// Where something begins or ends.
    Mark(Mark),
    /// A frame whose CRC fits and whose content does not.
    Refused {
        /// Why.
        error: DecodeError,
        /// The frame.
        octets: Vec<u8>,
    },
    /// So many octets before the next frame (or before the end) belong to none.
    Skipped(u64),
}

/// Finds frames in a stream, however it is split. A start that is none is waited for at most 69 octets.
pub type Framer = super::framer::Framer<Frames>;

/// This framing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let octets = match rest {
            [FIRST] | [FIRST, FLOW] => return Step::Wait,
            [FIRST, FLOW, behind @ ..] => match behind.get(4).map(|count| usize::from(*count)) {
                None => return Step::Wait,
                Some(count @ 1..=Flow::SAMPLES_MAX) => Flow::octets(count),
                Some(_) => return Step::Skip(to_next(rest, |octet| octet == FIRST)),
            },
            [FIRST, HEADER, ..] => Header::OCTETS,
            [FIRST, MARK, ..] => Mark::OCTETS,
            _ => return Step::Skip(to_next(rest, |octet| octet == FIRST)),
        };
        let Some(frame) = rest.get(..octets) else { return Step::Wait };
        let found = match frame {
            [_, HEADER, ..] => Header::decode(frame).map(Found::Header),
            [_, MARK, ..] => Mark::decode(frame).map(Found::Mark),
            _ => Flow::decode(frame).map(Found::Flow),
        };
        match found {
            Ok(found) => Step::take(octets, found),
            Err(DecodeError::Checksum) => Step::Skip(1),
            Err(error) => Step::take(octets, Found::Refused { error, octets: frame.to_vec() }),
        }
    }

    fn skipped(octets: u64) -> Found {
        Found::Skipped(octets)
    }
}

#[cfg(test)]
mod tests;
