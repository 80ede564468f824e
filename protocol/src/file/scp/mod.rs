//! SCP-ECG (EN 1064), versions 1 and 2: resting ECGs of any lead set, in full, as differences, under Huffman codes, and as what is
//! left after the reference beat was subtracted.
//!
//! Source: EN 1064:2005 as the following take it, facts only: the default Huffman table and the example of the standard, which
//! PixelMed (com.pixelmed.scpecg) and ecg-contec b4af68c carry; section layouts as in biosig4c++ (sopen_scp_read.c,
//! scp-decode.cpp) and the Thoraxcentrum's ECG Toolkit (SCPSection2.cs, SCPSection4.cs). Where these readers disagree the
//! file is refused: [`FileError::NotExact`].
//! Only the sections that make a recording are read: 1 (time, filters; never a name), 2, 3, 4, 5 and 6.

mod compressed;
mod huffman;
mod record;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::{FileError, FileRecording, NotEncodable};
use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::{Channel, Rate};
use crate::serial::ads1298::Lead;

pub use huffman::{Code, Tables};

/// The most samples of all leads together: 12 leads of 5 minutes at 1 kHz, where the format is for seconds.
pub const SAMPLES_MAX: usize = 12 * 300 * 1_000;
/// The most leads.
pub const LEADS_MAX: usize = 32;

/// Whether octets begin as such a file does.
#[must_use]
pub fn begins(octets: &[u8]) -> bool {
    record::begins(octets)
}

/// Decodes a file.
///
/// Shape: CRC-CCITT (2) · size (4) · sections, each with its CRC, number, length and versions (16) before its content; section 0
/// points to the others. Little-endian, but for the bits of Huffman codes, whose first is the highest.
/// Units: samples in digits of the amplitude multiplier, which is in nV; the interval is in us.
/// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`], [`DecodeError::Checksum`] of the file;
/// [`FileError::Section`] where a section's CRC, number or length lies, sections lie over each other, or their content does not
/// fit; [`FileError::LeadOctets`]; [`FileError::NotExact`] for bimodal compression, a reference beat at another rate or
/// scale, and leads of different spans; [`FileError::TooLong`].
/// Source: see the module.
pub fn decode(octets: &[u8]) -> Result<FileRecording, FileError> {
    let sections = record::sections(octets)?;
    let acquisition = sections.content(1).map(acquisition).transpose()?.unwrap_or_default();
    let tables = sections.content(2).map(Tables::decode).transpose()?.flatten();
    let leads = leads(sections.content(3).ok_or(missing(3))?)?;
    let rhythm = compressed::Data::read(6, sections.content(6).ok_or(missing(6))?, leads.codes.len())?;
    let samples = compressed::rhythm(&leads, &rhythm, &sections, tables.as_ref())?;
    let channel = |code: &u8| Channel {
        code: Lead(*code).mdc(),
        scale: Decimal::new(rhythm.multiplier_nv.into(), -3),
        unit: "uV",
        filter: acquisition.filter.clone(),
    };
    Ok(FileRecording {
        device_time: acquisition.time,
        rate: rate(rhythm.interval_us),
        channels: leads.codes.iter().map(channel).collect(),
        samples: samples.into_iter().map(Some).collect(),
    })
}

const fn missing(section: u16) -> FileError {
    FileError::Section { section, what: "it is missing" }
}

/// Samples a second of an interval in us, exactly.
fn rate(interval_us: u16) -> Rate {
    let (mut a, mut b) = (1_000_000, u32::from(interval_us));
    while b > 0 {
        (a, b) = (b, a % b);
    }
    Rate { samples: 1_000_000 / a.max(1), seconds: u32::from(interval_us) / a.max(1) }
}

/// What section 1 says of how the ECG was taken.
#[derive(Default)]
struct Acquisition {
    time: Option<DateTime>,
    /// In the words of EDF+: `HP:0.05Hz LP:150Hz N:50Hz`.
    filter: String,
}

const DATE: u8 = 25;
const TIME: u8 = 26;
const BASELINE_FILTER: u8 = 27;
const LOW_PASS_FILTER: u8 = 28;
const FILTERS: u8 = 29;
const END_OF_TAGS: u8 = 255;

/// Shape: tag (1) · length (2) · value, up to tag 255. Every tag but the five that are named is passed over unread.
fn acquisition(content: &[u8]) -> Result<Acquisition, FileError> {
    let wrong = |what| FileError::Section { section: 1, what };
    let (mut r, mut date, mut time) = (Reader::new(content), None, None);
    let mut filters = [None; 3];
    loop {
        let tag = r.u8("tag").map_err(|_| wrong("its tags do not end"))?;
        let length = r.u16("length").map_err(|_| wrong("its tags do not end"))?;
        let value = r.take(length.into(), "value").map_err(|_| wrong("a tag is longer than the section"))?;
        match (tag, value) {
            (END_OF_TAGS, _) => break,
            (DATE, value) => date = Some(<[u8; 4]>::try_from(value).map_err(|_| wrong("its date is not of four octets"))?),
            (TIME, value) => time = Some(<[u8; 3]>::try_from(value).map_err(|_| wrong("its time is not of three octets"))?),
            (BASELINE_FILTER, [low, high]) => filters[0] = Some(u16::from_le_bytes([*low, *high])),
            (LOW_PASS_FILTER, [low, high]) => filters[1] = Some(u16::from_le_bytes([*low, *high])),
            (FILTERS, [bits]) => filters[2] = Some(u16::from(*bits)),
            _ => {}
        }
    }
    let time = date.zip(time).map(|([a, b, c, d], [e, f, g])| DateTime::decode(&[a, b, c, d, e, f, g])).transpose();
    Ok(Acquisition { time: time.map_err(|_| wrong("its time is none"))?.filter(DateTime::date_known), filter: filter(filters) })
}

/// Hundredths of Hz, Hz, and bits: 0 a notch at 60 Hz, 1 at 50 Hz.
fn filter([baseline, low_pass, bits]: [Option<u16>; 3]) -> String {
    let mut filter = String::new();
    // Writing to a String cannot fail.
    let mut add = |text: core::fmt::Arguments<'_>| {
        let _ = write!(filter, "{}{text}", if filter.is_empty() { "" } else { " " });
    };
    if let Some(hundredths) = baseline.filter(|hundredths| *hundredths > 0) {
        add(format_args!("HP:{}Hz", Decimal::new(hundredths.into(), -2)));
    }
    if let Some(hertz) = low_pass.filter(|hertz| *hertz > 0) {
        add(format_args!("LP:{hertz}Hz"));
    }
    for (bit, hertz) in [(0, 60), (1, 50)] {
        if bits.is_some_and(|bits| bits >> bit & 1 == 1) {
            add(format_args!("N:{hertz}Hz"));
        }
    }
    filter
}

/// What section 3 says.
pub(crate) struct Leads {
    /// SCP-ECG codes.
    codes: Vec<u8>,
    /// Number of the first sample; they count from 1.
    first: u32,
    /// How many samples each has.
    samples: usize,
    /// The reference beat was subtracted.
    subtracted: bool,
}

/// Shape: number of leads (1) · flags (1) · for each lead: first sample (4), last sample (4), code (1).
///
/// Samples count from 1. A writer that begins at 0 means by the last one how many there are (captured vector E20).
fn leads(content: &[u8]) -> Result<Leads, FileError> {
    let wrong = |what| FileError::Section { section: 3, what };
    let truncated = |_: DecodeError| wrong("it is too short for its leads");
    let mut r = Reader::new(content);
    let (count, flags) = (usize::from(r.u8("number of leads").map_err(truncated)?), r.u8("flags").map_err(truncated)?);
    if !(1..=LEADS_MAX).contains(&count) {
        return Err(wrong("it has no lead, or more than 32"));
    }
    let (mut codes, mut span) = (Vec::with_capacity(count), None);
    for _ in 0..count {
        let lead = (r.u32("first sample").map_err(truncated)?, r.u32("last sample").map_err(truncated)?);
        codes.push(r.u8("lead").map_err(truncated)?);
        if *span.get_or_insert(lead) != lead {
            return Err(FileError::NotExact("a recording whose leads have different spans"));
        }
    }
    let (first, last) = span.unwrap_or_default();
    let samples = usize::try_from((u64::from(last) + 1).saturating_sub(u64::from(first.max(1)))).unwrap_or(usize::MAX);
    if samples == 0 {
        return Err(wrong("its leads end before they begin"));
    }
    if samples.saturating_mul(count) > SAMPLES_MAX {
        return Err(FileError::TooLong { maximum: SAMPLES_MAX });
    }
    Ok(Leads { codes, first: first.max(1), samples, subtracted: flags & 1 == 1 })
}

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are, 16 bits each.
    Raw,
    /// As differences of this order (0–2) under the default Huffman table.
    Huffman {
        /// 0, 1 or 2.
        differences: u8,
    },
}

/// The octets of a recording, with a time and nothing of a person.
///
/// Errors: [`NotEncodable`] for leads without a code, different scales, a scale that is not whole nV below 65,536, an interval
/// that is not whole us below 65,536, a missing sample, one outside 16 bits, more than 65,535 octets a lead (the length has
/// 16 bits: vector E22 shows what becomes of one that runs over), or differences outside 16 bits.
pub fn encode(recording: &FileRecording, encoding: Encoding) -> Result<Vec<u8>, NotEncodable> {
    let codes: Vec<u8> = recording
        .channels
        .iter()
        .map(|channel| code(channel.code))
        .collect::<Option<_>>()
        .ok_or(NotEncodable("a lead without a code"))?;
    if codes.is_empty() || codes.len() > LEADS_MAX || !recording.samples.len().is_multiple_of(codes.len()) {
        return Err(NotEncodable("no lead, too many, or rows that are not whole"));
    }
    let samples: Vec<i16> = recording
        .samples
        .iter()
        .map(|sample| sample.and_then(|sample| i16::try_from(sample).ok()))
        .collect::<Option<_>>()
        .ok_or(NotEncodable("a missing sample, or one outside 16 bits"))?;
    let (multiplier, interval) = (multiplier(&recording.channels)?, interval(recording.rate)?);
    let count = u32::try_from(samples.len() / codes.len()).map_err(|_| NotEncodable("so many samples"))?;
    let mut definitions = Vec::new();
    definitions
        .extend([u8::try_from(codes.len()).unwrap_or(u8::MAX), 0b100 | u8::try_from(codes.len() << 3 & 0xff).unwrap_or(0)]);
    for code in &codes {
        definitions.extend(1_u32.to_le_bytes());
        definitions.extend(count.to_le_bytes());
        definitions.push(*code);
    }
    let rhythm = compressed::encode(&samples, codes.len(), multiplier, interval, encoding)?;
    let default_table = huffman::DEFAULT_TABLE.to_le_bytes();
    let tables = if encoding == Encoding::Raw { &[][..] } else { &default_table };
    record::encode(&[(1, &time_tags(recording.device_time)), (2, tables), (3, &definitions), (6, &rhythm)])
}

fn time_tags(time: Option<DateTime>) -> Vec<u8> {
    let mut tags = Vec::new();
    if let Some([a, b, c, d, e, f, g]) = time.map(|time| time.encode()) {
        tags.extend([DATE, 4, 0, a, b, c, d, TIME, 3, 0, e, f, g]);
    }
    tags.extend([END_OF_TAGS, 0, 0]);
    tags
}

fn code(lead: Mdc) -> Option<u8> {
    (0..=u8::MAX).find(|code| Lead(*code).mdc() == lead)
}

/// In nV.
fn multiplier(channels: &[Channel]) -> Result<u16, NotEncodable> {
    let scale = |channel: &Channel| {
        let steps = i32::from(channel.scale.exponent) + if channel.unit == "mV" { 6 } else { 3 };
        let known = matches!(channel.unit, "mV" | "uV");
        let power = 10_i64.checked_pow(steps.unsigned_abs()).filter(|_| known)?;
        let mantissa = channel.scale.mantissa;
        if steps >= 0 { mantissa.checked_mul(power) } else { (mantissa % power == 0).then_some(mantissa / power) }
    };
    let first = channels.first().and_then(scale);
    let same = channels.iter().all(|channel| scale(channel) == first);
    first.filter(|_| same).and_then(|nv| u16::try_from(nv).ok()).filter(|nv| *nv > 0).ok_or(NotEncodable("such scales"))
}

/// In us.
fn interval(rate: Rate) -> Result<u16, NotEncodable> {
    let us = u64::from(rate.seconds) * 1_000_000;
    let samples = u64::from(rate.samples);
    let whole = samples > 0 && us % samples == 0;
    whole
        .then(|| us / samples.max(1))
        .and_then(|us| u16::try_from(us).ok())
        .filter(|us| *us > 0)
        .ok_or(NotEncodable("such a rate"))
}

#[cfg(test)]
mod tests;
