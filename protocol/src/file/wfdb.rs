//! WFDB records, the format of PhysioNet: a header of text (`.hea`) and signal files beside it.
//!
//! ```text
//! record line   name · signals · samples/s · samples a signal · HH:MM:SS · DD/MM/YYYY
//! signal line   file · format · gain(baseline)/unit · bits · zero · first value · checksum · 0 · lead      (one a signal)
//! comments      "# …": what the header has no field for
//! ```
//!
//! Formats: 16 and 24 (integers, little-endian), 212 (read only: two samples in three octets), 516 and 524 (FLAC of 16 and 24
//! bits, at most 8 signals a file). The gain is digits per unit, with 17 digits where it has no end.
//!
//! **Missing samples** are the format's own: the lowest number. So a recording in which that number is a sample is written wider.
//! A recording is one record, whatever its holes: no segments.
//!
//! Ours in comments: `# rate 1000/3` where the rate has no end, `# filter V1 LP:150Hz`. Names of persons are neither read nor
//! written: other comments are passed over.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::flac::{bits, missing, parse_rate};
use super::{CHANNELS_MAX, EncodeError, FileRecording, QUOTIENT_DIGITS, SAMPLES_MAX, lead_code, lead_name, quotient};
use crate::decimal::Decimal;
use crate::flac::{self, File};
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::{Channel, Rate};
use crate::units;

/// Octets of a header, at most.
pub const HEADER_OCTETS_MAX: usize = 256 * 1024;
/// Significant digits of a gain that has no end: what a double holds.
const GAIN_DIGITS: u32 = 17;
/// Digits per millivolt where a header says nothing. Source: WFDB, header(5), "ADC gain".
const GAIN_WHERE_NONE_IS_STATED: i64 = 200;

/// How signal files are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Formats 16 and 24.
    Plain,
    /// Formats 516 and 524.
    Flac,
}

/// A record's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The header, for `name.hea`.
    pub header: String,
    /// Signal files, each with its name.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A header that was read; its signal files are read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    start: Option<DateTime>,
    rate: Rate,
    frames: Option<usize>,
    signals: Vec<Signal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signal {
    file: String,
    format: Format,
    offset: usize,
    scale: Decimal,
    baseline: i32,
    unit: Option<&'static str>,
    checksum: Option<i32>,
    lead: String,
    filter: String,
}

/// A format of a signal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain16,
    Plain24,
    Packed212,
    Flac16,
    Flac24,
}

impl Format {
    const NUMBERS: [(Self, u32); 5] =
        [(Self::Plain16, 16), (Self::Plain24, 24), (Self::Packed212, 212), (Self::Flac16, 516), (Self::Flac24, 524)];

    fn number(self) -> u32 {
        Self::NUMBERS.iter().find(|(format, _)| *format == self).map_or(0, |(_, number)| *number)
    }

    fn missing(self) -> i32 {
        match self {
            Self::Packed212 => -2_048,
            Self::Plain16 | Self::Flac16 => missing(16),
            Self::Plain24 | Self::Flac24 => missing(24),
        }
    }

    /// Octets of so many samples; `None` where the length does not say how many there are.
    fn octets(self, samples: usize) -> Option<usize> {
        match self {
            Self::Plain16 => samples.checked_mul(2),
            Self::Plain24 => samples.checked_mul(3),
            Self::Packed212 => samples.checked_mul(3).map(|thirds| thirds.div_ceil(2)),
            Self::Flac16 | Self::Flac24 => None,
        }
    }
}

const fn value(field: &'static str) -> DecodeError {
    DecodeError::Value { field }
}

impl Header {
    /// Decodes a header.
    ///
    /// Shape: module documentation. Units: those stated, mV where none is. Errors: [`DecodeError::Truncated`] lines;
    /// [`DecodeError::Value`] for what we do not read: records of several segments, several samples a frame, skew, other
    /// formats, file names that name a place. Source: WFDB Applications Guide, header(5) and signal(5).
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        if octets.len() > HEADER_OCTETS_MAX {
            return Err(value("header"));
        }
        let text = core::str::from_utf8(octets).map_err(|_| value("header"))?;
        let (comments, lines): (Vec<&str>, Vec<&str>) =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
        let mut lines = lines.into_iter();
        let record = lines.next().ok_or(DecodeError::Truncated { field: "record line" })?;
        let mut words = record.split_ascii_whitespace();
        let name = words.next().unwrap_or("");
        if name.contains('/') {
            return Err(value("number of segments"));
        }
        let count: usize = words.next().and_then(|word| word.parse().ok()).ok_or(value("number of signals"))?;
        let rate = words.next().map_or(Some(Rate { samples: 250, seconds: 1 }), stated_rate);
        let frames = match words.next().map(str::parse) {
            None | Some(Ok(0)) => None,
            Some(Ok(frames)) => Some(frames),
            Some(Err(_)) => return Err(value("number of samples")),
        };
        let start = words.next().zip(words.next()).and_then(|(time, date)| start(time, date));
        if !(1..=CHANNELS_MAX).contains(&count) || frames.is_some_and(|frames: usize| frames.saturating_mul(count) > SAMPLES_MAX)
        {
            return Err(value("number of signals"));
        }
        let mut signals = Vec::with_capacity(count);
        for _ in 0..count {
            let line = lines.next().ok_or(DecodeError::Truncated { field: "signal line" })?;
            signals.push(Signal::decode(line)?);
        }
        let mut header = Self { start, rate: rate.ok_or(value("sampling frequency"))?, frames, signals };
        comments.iter().for_each(|comment| header.comment(comment));
        Ok(header)
    }

    /// The names of the signal files, which stand beside the header.
    #[must_use]
    pub fn files(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for signal in &self.signals {
            if names.last() != Some(&signal.file.as_str()) {
                names.push(&signal.file);
            }
        }
        names
    }

    /// What we write into comments.
    fn comment(&mut self, comment: &str) {
        let mut words = comment.trim_start_matches('#').trim().splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("rate"), Some(text), None) => {
                if let Some(rate) = parse_rate(text) {
                    self.rate = rate;
                }
            }
            (Some("filter"), Some(lead), Some(text)) => {
                self.signals.iter_mut().filter(|signal| signal.lead == lead).for_each(|signal| signal.filter = text.into());
            }
            _ => {}
        }
    }

    /// Decodes the signal files, in the order of [`Header::files`].
    ///
    /// Errors: [`DecodeError::Truncated`] and [`DecodeError::Trailing`] where a file's length is not the stated one;
    /// [`DecodeError::Checksum`], which is a sum of 16 bits: it does not see the upper third of 24; [`DecodeError::Value`].
    pub fn recording(&self, files: &[Vec<u8>]) -> Result<FileRecording, DecodeError> {
        let names = self.files();
        if names.len() != files.len() {
            return Err(DecodeError::Truncated { field: "signal file" });
        }
        let mut columns: Vec<Vec<i32>> = Vec::with_capacity(self.signals.len());
        let mut frames = self.frames;
        for (name, octets) in names.iter().zip(files) {
            let group: Vec<&Signal> = self.signals.iter().skip(columns.len()).take_while(|signal| signal.file == *name).collect();
            let samples = unpack(&group, octets, frames)?;
            let in_file = samples.len() / group.len().max(1);
            if in_file * self.signals.len() > SAMPLES_MAX || *frames.get_or_insert(in_file) != in_file {
                return Err(value("number of samples"));
            }
            columns.extend((0..group.len()).map(|at| samples.iter().skip(at).step_by(group.len()).copied().collect()));
        }
        self.signals.iter().zip(&columns).try_for_each(|(signal, column)| signal.check(column))?;
        self.interleaved(&columns, frames.unwrap_or(0))
    }

    fn interleaved(&self, columns: &[Vec<i32>], frames: usize) -> Result<FileRecording, DecodeError> {
        let taken = || self.signals.iter().zip(columns).filter_map(|(signal, column)| Some((signal, signal.code()?, column)));
        let channel = |(signal, code, _): (&Signal, Mdc, &Vec<i32>)| Channel {
            code,
            scale: signal.scale,
            unit: signal.unit.unwrap_or("mV"),
            filter: signal.filter.clone(),
        };
        let channels: Vec<Channel> = taken().map(channel).collect();
        let mut samples = vec![None; frames * channels.len()];
        for (at, (signal, _, column)) in taken().enumerate() {
            for (cell, sample) in samples.iter_mut().skip(at).step_by(channels.len()).zip(column) {
                if *sample != signal.format.missing() {
                    *cell = Some(sample.checked_sub(signal.baseline).ok_or(value("baseline"))?);
                }
            }
        }
        let recording = FileRecording { device_time: self.start, rate: self.rate, channels, samples };
        if recording.frames().is_ok() { Ok(recording) } else { Err(value("description")) }
    }
}

impl Signal {
    fn decode(line: &str) -> Result<Self, DecodeError> {
        let mut words = line.split_ascii_whitespace();
        let file = words.next().unwrap_or("");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !file.chars().all(plain) || file.starts_with('.') || file == "-" {
            return Err(value("file name"));
        }
        let (format, offset) = stated_format(words.next().ok_or(DecodeError::Truncated { field: "format" })?)?;
        let gain = stated_gain(words.next().unwrap_or("0"))?;
        let mut number = |field: &'static str| match words.next().map(str::parse::<i32>) {
            None => Ok(None),
            Some(number) => number.map(Some).map_err(|_| value(field)),
        };
        number("ADC resolution")?;
        let zero = number("ADC zero")?;
        number("initial value")?;
        let checksum = number("checksum")?;
        number("block size")?;
        let lead = words.collect::<Vec<_>>().join(" ");
        let (scale, baseline, unit) = gain;
        let baseline = baseline.or(zero).unwrap_or(0);
        Ok(Self { file: file.into(), format, offset, scale, baseline, unit, checksum, lead, filter: String::new() })
    }

    /// A voltage whose lead is not said, or is one of ambulatory monitors (`MLII`), is an ECG; others are none of ours.
    fn code(&self) -> Option<Mdc> {
        self.unit?;
        let ambulatory = ["", "ML", "MV", "CM", "D3", "D4"].iter().any(|prefix| match *prefix {
            "" => self.lead.is_empty(),
            prefix => self.lead.starts_with(prefix),
        });
        lead_code(&self.lead).or((ambulatory && matches!(self.unit, Some("mV" | "uV"))).then_some(Mdc::ECG))
    }

    fn check(&self, column: &[i32]) -> Result<(), DecodeError> {
        let fits = |stated: i32| stated.rem_euclid(1 << 16) == i32::from(checksum(column.iter().copied())).rem_euclid(1 << 16);
        if self.checksum.is_none_or(fits) { Ok(()) } else { Err(DecodeError::Checksum) }
    }
}

/// `16`, `516`, `212+100`; `x2` and `:3` are more than we read.
fn stated_format(word: &str) -> Result<(Format, usize), DecodeError> {
    let (word, offset) = word.split_once('+').unwrap_or((word, "0"));
    let word = word.strip_suffix(":0").unwrap_or(word);
    let word = word.strip_suffix("x1").unwrap_or(word);
    let number: u32 = word.parse().map_err(|_| value("format"))?;
    let format = Format::NUMBERS.iter().find(|(_, known)| *known == number).map(|(format, _)| *format);
    Ok((format.ok_or(value("format"))?, offset.parse().map_err(|_| value("byte offset"))?))
}

/// `200(1024)/mV` as what one digit is worth, the baseline, the unit.
fn stated_gain(word: &str) -> Result<(Decimal, Option<i32>, Option<&'static str>), DecodeError> {
    let (word, unit) = word.split_once('/').unwrap_or((word, "mV"));
    let unit = if unit == "mmHg" { "mm[Hg]" } else { unit };
    let (gain, baseline) = match word.split_once('(') {
        None => (word, None),
        Some((gain, rest)) => {
            (gain, Some(rest.strip_suffix(')').and_then(|digits| digits.parse().ok()).ok_or(value("baseline"))?))
        }
    };
    let (digits, power) = gain.split_once(['e', 'E']).unwrap_or((gain, "0"));
    let power: i8 =
        power.strip_prefix('+').unwrap_or(power).parse().ok().filter(|power| (-20..=20).contains(power)).ok_or(value("gain"))?;
    let digits: Decimal = digits.trim_end_matches('.').parse().map_err(|_| value("gain"))?;
    let stated = Decimal::new(digits.mantissa, digits.exponent.checked_add(power).ok_or(value("gain"))?);
    let gain = if stated.mantissa == 0 { Decimal::whole(GAIN_WHERE_NONE_IS_STATED) } else { stated };
    let scale = quotient(Decimal::whole(1), gain, QUOTIENT_DIGITS).ok_or(value("gain"))?;
    Ok((scale, baseline, units::by_ucum(unit).map(|unit| unit.ucum)))
}

/// `500`, `37.5`, `360/360(0)`: what stands after the slash counts for a counter.
fn stated_rate(word: &str) -> Option<Rate> {
    let decimal: Decimal = word.split('/').next()?.trim_end_matches('.').parse().ok()?;
    let power = 10_i128.checked_pow(u32::from(decimal.exponent.unsigned_abs()))?;
    // As many digits as fit, since the rate is a fraction of 32 bits.
    let (mut samples, mut seconds) = (i128::from(decimal.mantissa), power);
    while Rate::of_fraction(samples, seconds).is_none() && seconds >= 10 {
        (samples, seconds) = (samples / 10, seconds / 10);
    }
    Rate::of_fraction(samples, seconds)
}

fn start(time: &str, date: &str) -> Option<DateTime> {
    let numbers = |text: &str, between: char| text.split(between).map(|part| part.parse().ok()).collect::<Option<Vec<u16>>>();
    let whole_seconds = time.split('.').next()?;
    let [hour, minute, second] = numbers(whole_seconds, ':')?.try_into().ok()?;
    let [day, month, year] = <[u16; 3]>::try_from(numbers(date, '/')?).ok()?;
    let octet = |number: u16| u8::try_from(number).ok();
    let time = DateTime {
        year,
        month: octet(month)?,
        day: octet(day)?,
        hour: octet(hour)?,
        minute: octet(minute)?,
        second: octet(second)?,
    };
    DateTime::decode(&time.encode()).ok().filter(DateTime::date_known)
}

/// The interleaved samples of one signal file.
fn unpack(group: &[&Signal], octets: &[u8], frames: Option<usize>) -> Result<Vec<i32>, DecodeError> {
    let Some(first) = group.first() else { return Err(value("file name")) };
    if group.iter().any(|signal| signal.format != first.format || signal.offset != first.offset) {
        return Err(value("format"));
    }
    let mut r = Reader::new(octets);
    let (format, width) = (first.format, group.len());
    match format {
        Format::Flac16 | Format::Flac24 => {
            let file = File::decode(octets, SAMPLES_MAX).map_err(|_| DecodeError::Checksum)?;
            let bits = if format == Format::Flac16 { 16 } else { 24 };
            if file.channels == width && file.bits == bits && first.offset == 0 { Ok(file.samples) } else { Err(value("format")) }
        }
        Format::Plain16 | Format::Plain24 | Format::Packed212 => {
            r.take(first.offset, "byte offset")?;
            let samples = match frames {
                Some(frames) => frames.checked_mul(width),
                None => Some(r.rest().len() / format.octets(2).unwrap_or(1) * 2 / width * width),
            };
            let samples = samples.filter(|samples| *samples <= SAMPLES_MAX).ok_or(value("number of samples"))?;
            let body = r.take(format.octets(samples).ok_or(value("number of samples"))?, "samples")?;
            r.finish()?;
            let mut unpacked = match format {
                Format::Plain16 => {
                    body.chunks_exact(2).map(|octets| octets.try_into().map_or(0, i16::from_le_bytes).into()).collect()
                }
                Format::Plain24 => body.chunks_exact(3).map(i24).collect(),
                _ => body.chunks(3).flat_map(twelve_bits).collect::<Vec<_>>(),
            };
            unpacked.truncate(samples);
            Ok(unpacked)
        }
    }
}

fn i24(octets: &[u8]) -> i32 {
    match octets {
        [a, b, c] => i32::from_le_bytes([0, *a, *b, *c]) >> 8,
        _ => 0,
    }
}

/// Low octets of the first and the third, their upper four bits in the second. The last may stand alone in two octets.
fn twelve_bits(octets: &[u8]) -> [i32; 2] {
    let signed = |low: u8, high: u8| (i32::from(high & 0x0f) << 8 | i32::from(low)) << 20 >> 20;
    match octets {
        [first, both, second, ..] => [signed(*first, *both), signed(*second, both >> 4)],
        [first, both] => [signed(*first, *both), 0],
        _ => [0, 0],
    }
}

/// The sum of a signal's samples in 16 bits.
fn checksum(samples: impl Iterator<Item = i32>) -> i16 {
    let sum = samples.fold(0_i32, i32::wrapping_add);
    let [low, high, ..] = sum.to_le_bytes();
    i16::from_le_bytes([low, high])
}

/// Encodes a recording as a WFDB record of that name (what is no letter, digit or hyphen becomes an underscore).
///
/// Shape: module documentation; one file plain, one for every 8 leads as FLAC. Units: as they are.
/// Errors: [`EncodeError::Shape`]; [`EncodeError::Width`] over 24 bits; [`EncodeError::Scale`] of 0.
/// Source: as [`Header::decode`].
pub fn encode(recording: &FileRecording, name: &str, packing: Packing) -> Result<Record, EncodeError> {
    let frames = recording.frames()?;
    let wide = bits(recording)? == 24;
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let format = match (packing, wide) {
        (Packing::Plain, false) => Format::Plain16,
        (Packing::Plain, true) => Format::Plain24,
        (Packing::Flac, false) => Format::Flac16,
        (Packing::Flac, true) => Format::Flac24,
    };
    let channels = recording.channels.len();
    let group = if packing == Packing::Flac { flac::CHANNELS_MAX } else { channels };
    let file_name = |at: usize| match (packing, at / group) {
        (Packing::Plain, _) => format!("{name}.dat"),
        (Packing::Flac, 0) => format!("{name}.flac"),
        (Packing::Flac, nth) => format!("{name}_{}.flac", nth + 1),
    };
    let mut header = record_line(recording, &name, frames);
    for (at, channel) in recording.channels.iter().enumerate() {
        header.push_str(&signal_line(recording, at, channel, &file_name(at), format)?);
    }
    for channel in recording.channels.iter().filter(|channel| !channel.filter.is_empty()) {
        let text: String = channel.filter.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        header.push_str(&format!("# filter {} {}\n", lead_name(channel.code), text.trim()));
    }
    let pack = |start: usize| {
        let width = group.min(channels - start);
        let rows = recording.samples.chunks(channels).flat_map(|row| row.iter().skip(start).take(width));
        let samples: Vec<i32> = rows.map(|sample| sample.unwrap_or(format.missing())).collect();
        Ok((file_name(start), pack(samples, width, format, recording.rate)?))
    };
    let files = (0..channels).step_by(group).map(pack).collect::<Result<_, EncodeError>>()?;
    Ok(Record { header, files })
}

fn record_line(recording: &FileRecording, name: &str, frames: usize) -> String {
    let Rate { samples, seconds } = recording.rate;
    let (number, divisor) = (Decimal::whole(i64::from(samples)), Decimal::whole(i64::from(seconds)));
    let rate = quotient(number, divisor, QUOTIENT_DIGITS).map_or_else(|| samples.to_string(), |rate| rate.to_string());
    let mut line = format!("{name} {} {rate} {frames}", recording.channels.len());
    if let Some(t) = recording.device_time.filter(DateTime::date_known) {
        line.push_str(&format!(" {:02}:{:02}:{:02} {:02}/{:02}/{:04}", t.hour, t.minute, t.second, t.day, t.month, t.year));
    }
    line.push('\n');
    if stated_rate(&rate) != recording.rate.reduced() {
        line.push_str(&format!("# rate {samples}/{seconds}\n"));
    }
    line
}

fn signal_line(
    recording: &FileRecording,
    at: usize,
    channel: &Channel,
    file: &str,
    format: Format,
) -> Result<String, EncodeError> {
    let lead = lead_name(channel.code);
    let gain = quotient(Decimal::whole(1), channel.scale, GAIN_DIGITS);
    let gain = gain.ok_or_else(|| EncodeError::Scale { lead: lead.clone(), scale: channel.scale })?;
    let digits = || recording.channel(at).map(|sample| sample.unwrap_or(format.missing()));
    let unit = if channel.unit == "mm[Hg]" { "mmHg" } else { channel.unit };
    let bits = if format.missing() == missing(16) { 16 } else { 24 };
    let (first, sum) = (digits().next().unwrap_or(0), checksum(digits()));
    Ok(format!("{file} {} {gain}(0)/{unit} {bits} 0 {first} {sum} 0 {lead}\n", format.number()))
}

fn pack(samples: Vec<i32>, channels: usize, format: Format, rate: Rate) -> Result<Vec<u8>, EncodeError> {
    let low_octets = |count: usize| samples.iter().flat_map(move |sample| sample.to_le_bytes().into_iter().take(count)).collect();
    match format {
        Format::Plain16 => Ok(low_octets(2)),
        Format::Plain24 | Format::Packed212 => Ok(low_octets(3)),
        Format::Flac16 | Format::Flac24 => {
            let bits = if format == Format::Flac16 { 16 } else { 24 };
            let rate_hz = rate.samples.div_ceil(rate.seconds);
            File { channels, bits, rate_hz, samples, comments: Vec::new() }.encode().map_err(|_| EncodeError::Shape)
        }
    }
}

#[cfg(test)]
mod tests;
