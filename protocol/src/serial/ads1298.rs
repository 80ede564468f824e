//! Frames of an ADS1298 analogue front end (8 channels of 24 bits) on a serial line.
//!
//! Port: 921,600 baud, 8 data bits, no parity, or CDC-ACM. A header frame comes at the start and every 10 s. The 27 octets
//! inside are the chip's; the framing around them is this project's own, since the chip has none.
//! Source of the 27 octets and of the scale: Texas Instruments, ADS1298 data sheet SBAS459, "Data Format" and "Data Retrieval".

use alloc::vec::Vec;

use crc::{CRC_16_IBM_3740, Crc, Table};

use crate::decimal::Decimal;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{Framing, Step, to_next};

/// Channels of the chip.
pub const CHANNELS: usize = 8;
/// The largest sample: the input is at or past positive full scale.
pub const SAMPLE_MAX: i32 = 0x7f_ffff;
/// The smallest sample: the input is at or past negative full scale.
pub const SAMPLE_MIN: i32 = -0x80_0000;

/// The status word before the samples. Shape: 1100 · LOFF_STATP (8) · LOFF_STATN (8) · GPIO (4), 24 bits, big-endian.
///
/// Bit n of a lead-off octet is channel n + 1. Source: ADS1298 data sheet, "Data Output".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeadOff {
    /// LOFF_STATP: the electrode at the positive input is off.
    pub positive: u8,
    /// LOFF_STATN: the electrode at the negative input is off.
    pub negative: u8,
    /// The four GPIO pins.
    pub gpio: u8,
}

/// What the chip gives at each conversion. Shape, units, errors and source: see [`Sample::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Which electrodes are off.
    pub lead_off: LeadOff,
    /// One signed 24-bit integer a channel; one digit is [`Header::scale`].
    pub channels: [i32; CHANNELS],
}

impl Sample {
    /// Octets of it.
    pub const OCTETS: usize = 27;

    /// Decodes the 27 octets that the chip shifts out.
    ///
    /// Shape: status (3) · 8 × signed 24-bit integer (3 each); big-endian.
    /// Units: digits; see [`Header::scale`].
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] where the status does not begin
    /// with 1100, as on a broken SPI line that reads all 0 or all 1.
    /// Source: ADS1298 data sheet, "Data Output".
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let sample = Self::read(&mut r)?;
        r.finish()?;
        Ok(sample)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [high, middle, low] = [r.u8("status")?, r.u8("status")?, r.u8("status")?];
        let mut channels = [0; CHANNELS];
        for channel in &mut channels {
            *channel = r.i24_be("channel")?;
        }
        if high >> 4 != STATUS_START {
            return Err(DecodeError::Value { field: "status" });
        }
        let lead_off = LeadOff { positive: high << 4 | middle >> 4, negative: middle << 4 | low >> 4, gpio: low & 0x0f };
        Ok(Self { lead_off, channels })
    }

    /// The octets of it; samples are cut to 24 bits.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let LeadOff { positive, negative, gpio } = self.lead_off;
        let status = [STATUS_START << 4 | positive >> 4, positive << 4 | negative >> 4, negative << 4 | gpio & 0x0f];
        let samples = self.channels.iter().flat_map(|channel| {
            let [_, high, middle, low] = channel.to_be_bytes();
            [high, middle, low]
        });
        let mut octets = [0; Self::OCTETS];
        octets.iter_mut().zip(status.into_iter().chain(samples)).for_each(|(octet, value)| *octet = value);
        octets
    }
}

const STATUS_START: u8 = 0b1100;

/// One conversion with its number. Shape, units, errors and source: see [`DataFrame::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DataFrame {
    /// Counts conversions, and wraps.
    pub counter: u32,
    /// What the chip gave.
    pub sample: Sample,
}

impl DataFrame {
    /// Octets of a frame.
    pub const OCTETS: usize = 35;

    /// Decodes a data frame.
    ///
    /// Shape: A5 5A · counter (4, little-endian) · the chip's octets (27) · CRC-16/CCITT-FALSE over counter and octets (2,
    /// little-endian); 35 octets.
    /// Units: as [`Sample::decode`].
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start, or as [`Sample::decode`].
    /// Source: this project's framing.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.take(2, "start")? != DATA_START {
            return Err(DecodeError::Value { field: "start" });
        }
        let covered = r.take(4 + Sample::OCTETS, "counter and octets")?;
        let crc = r.u16("crc")?;
        r.finish()?;
        if crc != CRC.checksum(covered) {
            return Err(DecodeError::Checksum);
        }
        let mut r = Reader::new(covered);
        Ok(Self { counter: r.u32("counter")?, sample: Sample::read(&mut r)? })
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let [counter, sample] = [&self.counter.to_le_bytes()[..], &self.sample.encode()[..]];
        let mut digest = CRC.digest();
        digest.update(counter);
        digest.update(sample);
        let crc = digest.finalize().to_le_bytes();
        let parts = DATA_START.iter().chain(counter).chain(sample).chain(&crc);
        let mut octets = [0; Self::OCTETS];
        octets.iter_mut().zip(parts).for_each(|(octet, value)| *octet = *value);
        octets
    }
}

/// Gain of the chip's amplifiers: bits 6–4 of CHnSET. A code written without the shift (1–6) means the same.
///
/// Source: ADS1298 data sheet, "CHnSET".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GainCode(pub u8);

impl GainCode {
    /// The register's code and the gain it means.
    pub const GAINS: [(u8, u8); 7] = [(0x00, 6), (0x10, 1), (0x20, 2), (0x30, 3), (0x40, 4), (0x50, 8), (0x60, 12)];

    /// The gain; `None` for a code that the data sheet does not have.
    #[must_use]
    pub fn gain(self) -> Option<u8> {
        let code = if self.0 <= 6 { self.0 << 4 } else { self.0 };
        Self::GAINS.into_iter().find(|(known, _)| *known == code).map(|(_, gain)| gain)
    }

    /// The code of a gain; `None` for one that the chip does not have.
    #[must_use]
    pub fn of(gain: u8) -> Option<Self> {
        Self::GAINS.into_iter().find(|(_, known)| *known == gain).map(|(code, _)| Self(code))
    }
}

/// A lead, by its code in SCP-ECG. One newer than we are is kept.
///
/// Source: EN 1064 (SCP-ECG), table of lead codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lead(pub u8);

impl Lead {
    /// Lead I.
    pub const I: Self = Self(1);
    /// Lead II.
    pub const II: Self = Self(2);
    /// Leads I, II, V1–V6.
    pub const EIGHT: [Self; CHANNELS] = [Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self(7), Self(8)];

    /// Its code in IEEE 11073-10101; one that is not known is an ECG potential without a lead.
    #[must_use]
    pub const fn mdc(self) -> Mdc {
        Mdc(match self.0 {
            1 => 131_329,
            2 => 131_330,
            v @ 3..=8 => 131_328 + v as u32,
            61 => 131_389,
            62 => 131_390,
            63 => 131_391,
            64 => 131_392,
            _ => 131_328,
        })
    }

    /// Whether it is measured against the Wilson terminal, which all three limb electrodes make.
    #[must_use]
    pub const fn precordial(self) -> bool {
        matches!(self.0, 3..=8)
    }
}

/// What the samples mean. Shape, units, errors and source: see [`Header::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Conversions a second.
    pub rate_hz: u16,
    /// Gain of the amplifiers.
    pub gain: GainCode,
    /// Reference voltage, mV.
    pub reference_mv: u16,
    /// The leads of the first channels; channels without a lead are not connected.
    pub leads: Vec<Lead>,
}

impl Header {
    /// The most octets a header frame has: eight leads.
    pub const OCTETS_MAX: usize = 19;

    /// Decodes a header frame.
    ///
    /// Shape: A5 5B · length (1), the octets from rate to lead codes · rate (2) · gain code (1) · VREF (2) · number of leads
    /// (1), 1–8 · lead codes (1 each) · CRC-16/CCITT-FALSE over length to lead codes (2); little-endian, 12–19 octets.
    /// Units: rate in Hz, VREF in mV.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start, a length that does not fit the number of leads, a rate or VREF of 0, an unknown gain code.
    /// Source: this project's framing.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.take(2, "start")? != HEADER_START {
            return Err(DecodeError::Value { field: "start" });
        }
        let covered = r.rest();
        let length = usize::from(r.u8("length")?);
        let mut fields = Reader::new(r.take(length, "leads")?);
        let crc = r.u16("crc")?;
        r.finish()?;
        if crc != CRC.checksum(covered.get(..=length).unwrap_or_default()) {
            return Err(DecodeError::Checksum);
        }
        let header = Self {
            rate_hz: fields.u16("rate")?,
            gain: GainCode(fields.u8("gain code")?),
            reference_mv: fields.u16("vref")?,
            leads: {
                let count = fields.u8("number of leads")?;
                fields.take(count.into(), "leads")?.iter().map(|code| Lead(*code)).collect()
            },
        };
        fields.finish()?;
        match () {
            () if header.rate_hz == 0 => Err(DecodeError::Value { field: "rate" }),
            () if header.gain.gain().is_none() => Err(DecodeError::Value { field: "gain code" }),
            () if header.reference_mv == 0 => Err(DecodeError::Value { field: "vref" }),
            () if !(1..=CHANNELS).contains(&header.leads.len()) => Err(DecodeError::Value { field: "number of leads" }),
            () => Ok(header),
        }
    }

    /// The octets of it; leads past the eighth are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let leads = self.leads.iter().take(CHANNELS).map(|lead| lead.0);
        let count = u8::try_from(leads.len()).unwrap_or(0);
        let mut octets = Vec::with_capacity(Self::OCTETS_MAX);
        octets.extend(HEADER_START);
        octets.push(FIELDS_OCTETS + count);
        octets.extend(self.rate_hz.to_le_bytes());
        octets.push(self.gain.0);
        octets.extend(self.reference_mv.to_le_bytes());
        octets.push(count);
        octets.extend(leads);
        let crc = CRC.checksum(octets.get(HEADER_START.len()..).unwrap_or_default());
        octets.extend(crc.to_le_bytes());
        octets
    }

    /// What one digit is worth, in `uV`: VREF / gain / (2^23 − 1), rounded half-even to 10^-12 uV.
    ///
    /// At full scale the rounding is under a ten-thousandth of a digit. `None` for an unknown gain code.
    /// Source: ADS1298 data sheet, "Data Format".
    #[must_use]
    pub fn scale(&self) -> Option<Decimal> {
        // mV → 10^-12 uV is 10^15; the largest, 65,535 mV at gain 1, keeps well inside i64 after the division.
        let numerator = i128::from(self.reference_mv) * 1_000_000_000_000_000;
        let denominator = i128::from(self.gain.gain()?) * i128::from(SAMPLE_MAX);
        let (quotient, remainder) = (numerator / denominator, numerator % denominator);
        let up = match (2 * remainder).cmp(&denominator) {
            core::cmp::Ordering::Less => 0,
            core::cmp::Ordering::Equal => quotient & 1,
            core::cmp::Ordering::Greater => 1,
        };
        Some(Decimal::new(i64::try_from(quotient + up).ok()?, -12))
    }
}

const DATA_START: [u8; 2] = [0xa5, 0x5a];
const HEADER_START: [u8; 2] = [0xa5, 0x5b];
/// Octets of a header's fields without lead codes.
const FIELDS_OCTETS: u8 = 6;
/// Start, length and CRC of a header frame.
const HEADER_FRAMING_OCTETS: usize = 5;
static CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_IBM_3740);

/// What a [`Framer`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A data frame.
    Data(DataFrame),
    /// A header frame.
    Header(Header),
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

/// Finds frames in a stream, however it is split.
///
/// A frame begins with its two octets and is taken by its CRC; where that does not fit, the search goes on at the next
/// octet, so that a corrupted frame, or a start that was none, costs no good frame behind it. A start that is none is
/// waited for at most 35 octets, 0.8 ms at 921,600 baud plus the time until the next frame.
pub type Framer = super::framer::Framer<Frames>;

/// This framing. Shape, units, errors and source: see [`DataFrame::decode`] and [`Header::decode`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let (octets, header) = match rest {
            [0xa5] | [0xa5, 0x5b] => return Step::Wait,
            [0xa5, 0x5a, ..] => (DataFrame::OCTETS, false),
            [0xa5, 0x5b, length, ..] if (FIELDS_OCTETS + 1..=FIELDS_OCTETS + 8).contains(length) => {
                (HEADER_FRAMING_OCTETS + usize::from(*length), true)
            }
            _ => return Step::Skip(to_next(rest, |octet| octet == 0xa5)),
        };
        let Some(frame) = rest.get(..octets) else { return Step::Wait };
        let found = if header { Header::decode(frame).map(Found::Header) } else { DataFrame::decode(frame).map(Found::Data) };
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
