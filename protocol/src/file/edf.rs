//! EDF and EDF+: the European Data Format, 16 bits a sample.
//!
//! ```text
//! header   256 octets: version, patient, recording, start, header size, "EDF+C"/"EDF+D", records, their duration, signals
//!          256 octets a signal: label, transducer, unit, physical and digital limits, filters, samples a record
//! records  of a fixed duration: for each signal its samples, i16 little-endian; "EDF Annotations" holds text
//! ```
//!
//! **Scale.** One digit is `(physical max − physical min) ÷ (digital max − digital min)`. What is written is chosen so that
//! this quotient is the channel's scale exactly and a digit of 0 is 0; where eight characters do not suffice, it is refused.
//!
//! **Holes.** EDF has no value for "missing". A frame that no channel has makes the file EDF+D: where the hole is longer than
//! the rest of its record, the next record begins after it; what is filled inside a record is named by an annotation
//! `Samples missing` (`Samples missing@@ECG V1` where it is one lead only) with onset and duration, and filled with the
//! digital minimum, far off the trace rather than a flat line. Both are read back as missing.
//!
//! **Width.** EDF has 16 bits. A recording that needs more is refused: WFDB format 524 keeps 24 bits.
//!
//! No names of persons are read or written: patient is `X X X X`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::{
    CHANNELS_MAX, EncodeError, FileRecording, QUOTIENT_DIGITS, SAMPLES_MAX, is_ecg, lead_code, lead_name, quotient, rounded,
};
use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::{Channel, Rate};
use crate::units;

/// Octets of the header, and of the part of each signal.
const HEADER_OCTETS: usize = 256;
/// Octets of a data record, at most; other people's readers stop here too.
const RECORD_OCTETS_MAX: usize = 10 * 1024 * 1024;
/// Seconds of a data record, where the rate allows a choice.
const RECORD_SECONDS: u32 = 1;
/// Seconds of a data record that the rate may ask for, before a shorter one is sought.
const RECORD_SECONDS_MAX: u32 = 10;
/// The label of a signal of annotations. Source: EDF+ §2.2.1.
const ANNOTATIONS: &str = "EDF Annotations";
/// What we write of filled samples.
const MISSING: &str = "Samples missing";
/// Ends an onset or a text of an annotation list.
const END_OF_TEXT: u8 = 0x14;
/// Precedes a duration.
const BEFORE_DURATION: u8 = 0x15;
/// Decimal places of onsets and durations, s.
const TIME_PLACES: u32 = 7;
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// Whether a file begins so: version 0 in eight characters.
#[must_use]
pub fn begins(octets: &[u8]) -> bool {
    octets.starts_with(b"0       ")
}

/// Decodes an EDF, EDF+C or EDF+D file.
///
/// Shape: module documentation. ECG signals are taken where there are any, else those of our code table; others, and
/// annotations other than ours, are passed over. Samples are the file's integers, moved by whole digits where the file's zero
/// is not a digit of 0 (half a digit is left as it is).
/// Units: as the file states them, UCUM; a scale without end keeps 15 digits.
/// Errors: [`DecodeError::Truncated`]; [`DecodeError::Trailing`] octets after the last record; [`DecodeError::Value`] for limits
/// that define no scale, signals of several rates, records that overlap, none of our signals, or more than [`SAMPLES_MAX`].
/// Source: Kemp et al. 1992 (EDF); Kemp and Olivan 2003 (EDF+), with its further specifications.
pub fn decode(octets: &[u8]) -> Result<FileRecording, DecodeError> {
    let mut r = Reader::new(octets);
    let header = Header::read(&mut r)?;
    let record_octets = header.signals.iter().map(|signal| signal.samples * 2).sum::<usize>();
    let records = match header.records {
        Some(records) => records,
        // Never closed: as many as there are.
        None => r.rest().len() / record_octets,
    };
    let body = r.take(records.checked_mul(record_octets).ok_or(VALUE_RECORDS)?, "data records")?;
    r.finish()?;
    let taken = header.taken()?;
    let Some(first) = taken.first().and_then(|at| header.signals.get(*at)) else { return Err(value("labels")) };
    let rate = header.rate(first.samples)?;
    let annotations: Vec<Vec<Annotation>> = body.chunks(record_octets).map(|record| header.annotations(record)).collect();
    let starts = header.starts(records, first.samples, rate, &annotations)?;
    let frames = starts.last().map_or(0, |last| last + first.samples);
    if frames == 0 || frames.saturating_mul(taken.len()) > SAMPLES_MAX {
        return Err(VALUE_RECORDS);
    }
    let mut samples = vec![None; frames * taken.len()];
    for (record, start) in body.chunks(record_octets).zip(&starts) {
        header.fill(record, &taken, samples.get_mut(start * taken.len()..).unwrap_or_default())?;
    }
    let channels = taken.iter().filter_map(|at| header.signals.get(*at)).map(Signal::channel).collect::<Result<Vec<_>, _>>()?;
    let mut recording = FileRecording { device_time: header.start, rate, channels, samples };
    header.unfill(&taken, &annotations, &mut recording);
    recording.trim();
    Ok(recording)
}

const VALUE_RECORDS: DecodeError = DecodeError::Value { field: "number of data records" };

const fn value(field: &'static str) -> DecodeError {
    DecodeError::Value { field }
}

/// What the header says.
struct Header {
    start: Option<DateTime>,
    discontinuous: bool,
    records: Option<usize>,
    duration: Decimal,
    signals: Vec<Signal>,
}

struct Signal {
    label: String,
    unit: Option<&'static str>,
    physical: (Decimal, Decimal),
    digital: (i64, i64),
    filter: String,
    samples: usize,
}

/// One entry of an annotation list.
struct Annotation {
    onset: Decimal,
    duration: Option<Decimal>,
    text: String,
    keeps_time: bool,
}

impl Header {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if text(r.take(8, "version")?) != "0" {
            return Err(value("version"));
        }
        r.take(80, "patient")?;
        let recording = text(r.take(80, "recording")?);
        let (date, time) = (text(r.take(8, "start date")?), text(r.take(8, "start time")?));
        let octets = whole(r.take(8, "header octets")?, "header octets")?;
        let reserved = text(r.take(44, "reserved")?);
        let records = whole(r.take(8, "number of data records")?, "number of data records")?;
        let duration = number(r.take(8, "duration")?).ok_or(value("duration"))?;
        let count = whole(r.take(4, "number of signals")?, "number of signals")?;
        let signals = usize::try_from(count).ok().filter(|count| (1..=CHANNELS_MAX).contains(count));
        let signals = signals.ok_or(value("number of signals"))?;
        if usize::try_from(octets) != Ok(HEADER_OCTETS * (signals + 1)) {
            return Err(value("header octets"));
        }
        let records = match records {
            -1 => None,
            records => Some(usize::try_from(records).map_err(|_| VALUE_RECORDS)?),
        };
        Ok(Self {
            start: start(&recording, &date, &time),
            discontinuous: reserved.starts_with("EDF+D"),
            records,
            duration,
            signals: Signal::read_all(r, signals)?,
        })
    }

    /// Which signals are taken: of one rate, the ECG where there is one.
    fn taken(&self) -> Result<Vec<usize>, DecodeError> {
        let codes = || self.signals.iter().enumerate().filter_map(|(at, signal)| signal.code().map(|code| (at, code)));
        let ecg: Vec<usize> = codes().filter(|(_, code)| is_ecg(*code)).map(|(at, _)| at).collect();
        let taken = if ecg.is_empty() { codes().map(|(at, _)| at).collect() } else { ecg };
        let samples = |at: &usize| self.signals.get(*at).map(|signal| signal.samples);
        match taken.first().map(samples) {
            None => Err(value("labels")),
            Some(first) if taken.iter().all(|at| samples(at) == first) => Ok(taken),
            Some(_) => Err(value("samples in a data record")),
        }
    }

    fn rate(&self, samples: usize) -> Result<Rate, DecodeError> {
        let (numerator, denominator) = fraction(self.duration).ok_or(value("duration"))?;
        let samples = i128::try_from(samples).ok().and_then(|samples| samples.checked_mul(denominator));
        samples.and_then(|samples| Rate::of_fraction(samples, numerator)).ok_or(value("duration"))
    }

    fn annotations(&self, record: &[u8]) -> Vec<Annotation> {
        let mut found = Vec::new();
        let mut at = 0;
        for signal in &self.signals {
            let end = at + signal.samples * 2;
            if signal.label == ANNOTATIONS {
                parse_annotations(record.get(at..end).unwrap_or_default(), &mut found);
            }
            at = end;
        }
        found
    }

    /// The index of each record's first sample.
    fn starts(&self, records: usize, length: usize, rate: Rate, lists: &[Vec<Annotation>]) -> Result<Vec<usize>, DecodeError> {
        if !self.discontinuous {
            return (0..records).map(|at| at.checked_mul(length).ok_or(VALUE_RECORDS)).collect();
        }
        let onset = |list: &Vec<Annotation>| list.iter().find(|one| one.keeps_time).map(|one| one.onset);
        let first = lists.first().and_then(onset).ok_or(value("time-keeping annotation"))?;
        let mut starts: Vec<usize> = Vec::with_capacity(records);
        for list in lists {
            let onset = onset(list).ok_or(value("time-keeping annotation"))?;
            let start = index(onset, first, rate).ok_or(value("time-keeping annotation"))?;
            if start > SAMPLES_MAX || starts.last().is_some_and(|last| start < last + length) {
                return Err(value("time-keeping annotation"));
            }
            starts.push(start);
        }
        Ok(starts)
    }

    /// The record's samples of the signals taken, interleaved into `frames`.
    fn fill(&self, record: &[u8], taken: &[usize], frames: &mut [Option<i32>]) -> Result<(), DecodeError> {
        let mut at = 0;
        for (signal_at, signal) in self.signals.iter().enumerate() {
            let end = at + signal.samples * 2;
            if let Some(column) = taken.iter().position(|taken| *taken == signal_at) {
                let shift = signal.shift()?;
                let octets = record.get(at..end).unwrap_or_default();
                let cells = frames.iter_mut().skip(column).step_by(taken.len());
                for (cell, pair) in cells.zip(octets.chunks_exact(2)) {
                    let sample = pair.try_into().map_or(0, i16::from_le_bytes);
                    *cell = Some(i32::from(sample).checked_add(shift).ok_or(value("physical limits"))?);
                }
            }
            at = end;
        }
        Ok(())
    }

    /// What an annotation of ours names is missing again.
    fn unfill(&self, taken: &[usize], lists: &[Vec<Annotation>], recording: &mut FileRecording) {
        let Some(zero) = lists.first().and_then(|list| list.iter().find(|one| one.keeps_time)).map(|one| one.onset) else {
            return;
        };
        let columns = taken.len();
        for annotation in lists.iter().flatten() {
            let Some(of) = annotation.text.strip_prefix(MISSING) else { continue };
            let run = (index(annotation.onset, zero, recording.rate), annotation.duration);
            let (Some(first), Some(duration)) = run else { continue };
            let Some(count) = index(duration, Decimal::whole(0), recording.rate) else { continue };
            let rows = recording.samples.chunks_mut(columns).skip(first).take(count);
            let label = of.strip_prefix("@@");
            let named = |at: &usize| self.signals.get(*at).is_some_and(|signal| label.is_none_or(|label| label == signal.label));
            for row in rows {
                row.iter_mut().zip(taken).filter(|(_, at)| named(at)).for_each(|(cell, _)| *cell = None);
            }
        }
    }
}

impl Signal {
    fn read_all(r: &mut Reader<'_>, count: usize) -> Result<Vec<Self>, DecodeError> {
        let mut column = |width: usize, field: &'static str| -> Result<Vec<&[u8]>, DecodeError> {
            Ok(r.take(width * count, field)?.chunks(width).collect())
        };
        let labels = column(16, "labels")?;
        column(80, "transducers")?;
        let dimensions = column(8, "physical dimensions")?;
        let physical = (column(8, "physical minimum")?, column(8, "physical maximum")?);
        let digital = (column(8, "digital minimum")?, column(8, "digital maximum")?);
        let filters = column(80, "filters")?;
        let lengths = column(8, "samples in a data record")?;
        column(32, "reserved")?;
        let cell = |cells: &[&[u8]], at: usize| cells.get(at).map(|octets| (*octets).to_vec()).unwrap_or_default();
        let signal = |at: usize| {
            let limit = |cells: &[&[u8]], field| number(&cell(cells, at)).ok_or(value(field));
            let digit = |cells: &[&[u8]], field| whole(&cell(cells, at), field);
            let samples = digit(&lengths, "samples in a data record")?;
            let samples = usize::try_from(samples).ok().filter(|samples| (1..=RECORD_OCTETS_MAX / 2).contains(samples));
            Ok(Self {
                label: text(&cell(&labels, at)),
                unit: unit(&cell(&dimensions, at)),
                physical: (limit(&physical.0, "physical minimum")?, limit(&physical.1, "physical maximum")?),
                digital: (digit(&digital.0, "digital minimum")?, digit(&digital.1, "digital maximum")?),
                filter: text(&cell(&filters, at)),
                samples: samples.ok_or(value("samples in a data record"))?,
            })
        };
        (0..count).map(signal).collect()
    }

    /// `None` for annotations and for what is none of ours.
    fn code(&self) -> Option<Mdc> {
        self.unit.and_then(|_| lead_code(&self.label)).filter(|_| self.label != ANNOTATIONS)
    }

    fn channel(&self) -> Result<Channel, DecodeError> {
        let (code, unit) = (self.code().ok_or(value("labels"))?, self.unit.ok_or(value("physical dimensions"))?);
        Ok(Channel { code, scale: self.scale()?, unit, filter: self.filter.clone() })
    }

    /// The spans of the limits: physical as mantissa and places, digital.
    fn spans(&self) -> Result<(i128, i8, i128), DecodeError> {
        let (low, high, exponent) = aligned(self.physical).ok_or(value("physical limits"))?;
        let digits = i128::from(self.digital.1) - i128::from(self.digital.0);
        let in_16_bits = |digit: i64| (-32_768..=32_767).contains(&digit);
        if !in_16_bits(self.digital.0) || !in_16_bits(self.digital.1) || digits <= 0 {
            return Err(value("digital limits"));
        }
        if high == low { Err(value("physical limits")) } else { Ok((high - low, exponent, digits)) }
    }

    fn scale(&self) -> Result<Decimal, DecodeError> {
        let (span, exponent, digits) = self.spans()?;
        let parts = i64::try_from(span).ok().zip(i64::try_from(digits).ok());
        let scale =
            parts.and_then(|(span, digits)| quotient(Decimal::new(span, exponent), Decimal::whole(digits), QUOTIENT_DIGITS));
        scale.ok_or(value("physical limits"))
    }

    /// What is added to a digit so that 0 is 0: physical max ÷ scale − digital max.
    fn shift(&self) -> Result<i32, DecodeError> {
        let (span, _, digits) = self.spans()?;
        let (_, high, _) = aligned(self.physical).ok_or(value("physical limits"))?;
        let shift = high.checked_mul(digits).and_then(|n| n.checked_sub(i128::from(self.digital.1).checked_mul(span)?));
        let shift = shift.and_then(|n| rounded(n, span)).and_then(|shift| i32::try_from(shift).ok());
        shift.ok_or(value("physical limits"))
    }
}

/// Two decimals over one exponent.
fn aligned((low, high): (Decimal, Decimal)) -> Option<(i128, i128, i8)> {
    let exponent = low.exponent.min(high.exponent);
    let to = |d: Decimal| {
        let steps = u32::from((i16::from(d.exponent) - i16::from(exponent)).unsigned_abs());
        i128::from(d.mantissa).checked_mul(10_i128.checked_pow(steps)?)
    };
    Some((to(low)?, to(high)?, exponent))
}

/// A positive decimal as numerator and denominator.
fn fraction(d: Decimal) -> Option<(i128, i128)> {
    let power = 10_i128.checked_pow(u32::from(d.exponent.unsigned_abs()))?;
    let mantissa = i128::from(d.mantissa);
    let parts = if d.exponent < 0 { (mantissa, power) } else { (mantissa.checked_mul(power)?, 1) };
    (d.mantissa > 0).then_some(parts)
}

/// The sample index of a point in time, counted from `zero`; `None` before it.
fn index(onset: Decimal, zero: Decimal, rate: Rate) -> Option<usize> {
    let (zero, onset, exponent) = aligned((zero, onset))?;
    let power = 10_i128.checked_pow(u32::from(exponent.unsigned_abs()))?;
    let (up, down) = if exponent < 0 { (1, power) } else { (power, 1) };
    let samples = onset.checked_sub(zero)?.checked_mul(i128::from(rate.samples))?.checked_mul(up)?;
    rounded(samples, i128::from(rate.seconds).checked_mul(down)?).and_then(|index| usize::try_from(index).ok())
}

/// A text field; what is no printable ASCII becomes a question mark.
fn text(octets: &[u8]) -> String {
    let printable = |octet: &u8| if (0x20..0x7f).contains(octet) { char::from(*octet) } else { '?' };
    octets.iter().map(printable).collect::<String>().trim().to_owned()
}

fn whole(octets: &[u8], field: &'static str) -> Result<i64, DecodeError> {
    let text = text(octets);
    text.strip_prefix('+').unwrap_or(&text).parse().map_err(|_| value(field))
}

/// A decimal number as these headers hold it: also `+5`, `5.`, `.5` and `1E-3`.
fn number(octets: &[u8]) -> Option<Decimal> {
    let text = text(octets);
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let power: i8 = power.strip_prefix('+').unwrap_or(power).parse().ok().filter(|power| (-20..=20).contains(power))?;
    let digits = digits.strip_prefix('+').unwrap_or(digits).trim_end_matches('.');
    let digits = match digits.strip_prefix("-.").map(|rest| ("-0.", rest)).or(digits.strip_prefix('.').map(|rest| ("0.", rest))) {
        Some((head, rest)) => format!("{head}{rest}"),
        None => digits.to_owned(),
    };
    let decimal: Decimal = digits.parse().ok()?;
    Some(Decimal::new(decimal.mantissa, decimal.exponent.checked_add(power)?))
}

fn unit(octets: &[u8]) -> Option<&'static str> {
    // Two spellings of the micro sign, in Latin-1 and in UTF-8.
    match octets.trim_ascii_end() {
        [0xb5, b'V'] | [0xc2, 0xb5, b'V'] => Some("uV"),
        other => units::by_ucum(&text(other)).map(|unit| unit.ucum),
    }
}

/// When the first record begins: the date of EDF+ with four digits of the year, else EDF's with two; `None` where neither is one.
fn start(recording: &str, date: &str, time: &str) -> Option<DateTime> {
    let parts = |text: &str| -> Option<[u8; 3]> {
        let numbers: Option<Vec<u8>> = text.split(['.', ':', '-', '/']).map(|part| part.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let [hour, minute, second] = parts(time)?;
    let stated = recording.strip_prefix("Startdate ").map(|rest| rest.split(' ').next().unwrap_or(""));
    let (year, month, day) = match stated {
        Some("X") => return None,
        Some(stated) => {
            let mut words = stated.split('-');
            let (day, month, year) = (words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?);
            let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? + 1;
            (year, u8::try_from(month).ok()?, day)
        }
        None => {
            let [day, month, year] = parts(date)?;
            // Clipping date of EDF: 85–99 are of the last century.
            (u16::from(year) + if year >= 85 { 1900 } else { 2000 }, month, day)
        }
    };
    let known =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour <= 23 && minute <= 59 && second <= 59 && year <= 9999;
    known.then_some(DateTime { year, month, day, hour, minute, second })
}

/// Time-stamped annotation lists; what is none ends the list. Source: EDF+ §2.2.2.
fn parse_annotations(octets: &[u8], found: &mut Vec<Annotation>) {
    let mut keeps_time = !found.iter().any(|one| one.keeps_time);
    for list in octets.split(|octet| *octet == 0).filter(|list| !list.is_empty()) {
        let mut parts = list.split(|octet| *octet == END_OF_TEXT);
        let Some(head) = parts.next() else { return };
        let mut times = head.split(|octet| *octet == BEFORE_DURATION).map(number);
        let Some(Some(onset)) = times.next() else { return };
        let duration = times.next().flatten();
        for part in parts {
            let text = text(part);
            if keeps_time || !text.is_empty() {
                found.push(Annotation { onset, duration, text, keeps_time });
            }
            keeps_time = false;
        }
    }
}

/// Encodes a recording as EDF+.
///
/// Shape: module documentation; EDF+C, or EDF+D where all channels are missing together for a while. `equipment` stands in the
/// header in place of a name, blanks as underscores. A start that is not known is written as `X` and 01.01.85.
/// Units: as they are; scales exactly.
/// Errors: [`EncodeError::Shape`]; [`EncodeError::Width`] over 16 bits; [`EncodeError::Scale`] and [`EncodeError::Rate`] where the
/// eight characters of a field do not hold them exactly.
/// Source: as [`decode`].
pub fn encode(recording: &FileRecording, equipment: &str) -> Result<Vec<u8>, EncodeError> {
    recording.frames()?;
    let mut recording = recording.clone();
    recording.trim();
    let recording = &recording;
    let channels = recording.channels.len();
    let limits = (0..channels).map(|at| Limits::of(recording, at)).collect::<Result<Vec<_>, _>>()?;
    let (length, duration) = record_length(recording.rate)?;
    let starts = record_starts(recording, length)?;
    let lists: Vec<Vec<u8>> = starts.iter().map(|start| annotation_list(recording, *start, length)).collect();
    let list_octets = lists.iter().map(Vec::len).max().unwrap_or(0).next_multiple_of(2);
    if length * 2 * channels + list_octets > RECORD_OCTETS_MAX {
        return Err(EncodeError::Rate { rate: recording.rate });
    }
    let whole_hole = recording.samples.chunks(channels).any(|frame| frame.iter().all(Option::is_none));
    let kind = if whole_hole { "EDF+D" } else { "EDF+C" };
    let mut octets = Vec::new();
    write_header(&mut octets, recording, equipment, kind, (starts.len(), &duration))?;
    write_signals(&mut octets, recording, &limits, length, list_octets / 2)?;
    for (start, list) in starts.iter().zip(&lists) {
        for (at, limits) in limits.iter().enumerate() {
            let samples = recording.channel(at).skip(*start).chain(core::iter::repeat(None)).take(length);
            for sample in samples {
                octets.extend_from_slice(&limits.digit(sample).to_le_bytes());
            }
        }
        octets.extend_from_slice(list);
        octets.resize(octets.len() + list_octets - list.len(), 0);
    }
    Ok(octets)
}

/// The limits of one signal, as they stand in the header.
struct Limits {
    digital: (i16, i16),
    physical: (String, String),
}

impl Limits {
    /// The widest ones whose quotient is the scale exactly, and which hold every sample.
    fn of(recording: &FileRecording, at: usize) -> Result<Self, EncodeError> {
        let Some(channel) = recording.channels.get(at) else { return Err(EncodeError::Shape) };
        let lead = || lead_name(channel.code);
        let (low, high) =
            recording.channel(at).flatten().fold((-1, 1), |(low, high), sample| (sample.min(low), sample.max(high)));
        let (Ok(low), Ok(high)) = (i16::try_from(low), i16::try_from(high)) else {
            return Err(EncodeError::Width { lead: lead(), bits: 16, instead: "use WFDB, whose format 524 has 24 bits" });
        };
        let unwritable = || EncodeError::Scale { lead: lead(), scale: channel.scale };
        if channel.scale.mantissa == 0 {
            return Err(unwritable());
        }
        let lowest = (i16::MIN..=low).find_map(|digit| product(channel.scale, digit).map(|text| (digit, text)));
        let highest = (high..=i16::MAX).rev().find_map(|digit| product(channel.scale, digit).map(|text| (digit, text)));
        if let (Some((bottom, bottom_text)), Some((top, top_text))) = (lowest, highest) {
            return Ok(Self { digital: (bottom, top), physical: (bottom_text, top_text) });
        }
        Err(unwritable())
    }

    /// What stands for a sample; the lowest where there is none.
    fn digit(&self, sample: Option<i32>) -> i16 {
        sample.and_then(|sample| i16::try_from(sample).ok()).unwrap_or(self.digital.0)
    }
}

/// `scale × digit` in eight characters; `None` where they do not hold it exactly.
fn product(scale: Decimal, digit: i16) -> Option<String> {
    let mut mantissa = scale.mantissa.checked_mul(i64::from(digit))?;
    let mut exponent = scale.exponent;
    while mantissa % 10 == 0 && mantissa != 0 {
        (mantissa, exponent) = (mantissa / 10, exponent.checked_add(1)?);
    }
    // As many characters at least: no need to print what cannot fit.
    if !(-8..=8).contains(&exponent) {
        return None;
    }
    let text = Decimal::new(mantissa, exponent).to_string();
    (text.len() <= 8).then_some(text)
}

/// Samples of a record and its duration, s: exact in eight characters, about a second.
fn record_length(rate: Rate) -> Result<(usize, String), EncodeError> {
    let unwritable = EncodeError::Rate { rate };
    let Some(reduced) = rate.reduced() else { return Err(unwritable) };
    let (samples, seconds) = if reduced.seconds <= RECORD_SECONDS_MAX {
        (u64::from(reduced.samples), Decimal::whole(i64::from(reduced.seconds)))
    } else {
        shorter_record(reduced).ok_or(unwritable.clone())?
    };
    let (text, samples) = (seconds.to_string(), usize::try_from(samples).map_err(|_| unwritable.clone())?);
    if text.len() > 8 || samples > RECORD_OCTETS_MAX / 2 { Err(unwritable) } else { Ok((samples, text)) }
}

/// The multiple nearest to a second of the shortest span that holds whole samples and ends in decimals.
fn shorter_record(rate: Rate) -> Option<(u64, Decimal)> {
    let mut odd = rate.samples;
    for prime in [2, 5] {
        while odd.is_multiple_of(prime) {
            odd /= prime;
        }
    }
    let unit = quotient(Decimal::whole(i64::from(rate.seconds)), Decimal::whole(i64::from(rate.samples / odd)), QUOTIENT_DIGITS)?;
    let (numerator, denominator) = fraction(unit)?;
    let units = (i128::from(RECORD_SECONDS) * denominator / numerator).max(1);
    let mantissa = i64::try_from(units).ok()?.checked_mul(unit.mantissa)?;
    Some((u64::from(odd).checked_mul(u64::try_from(units).ok()?)?, Decimal::new(mantissa, unit.exponent)))
}

/// The index of each record's first sample: after a hole, the first that is there.
fn record_starts(recording: &FileRecording, length: usize) -> Result<Vec<usize>, EncodeError> {
    let channels = recording.channels.len();
    let frames = recording.samples.len() / channels;
    let mut starts = Vec::new();
    let mut at = 0;
    while at < frames {
        starts.push(at);
        at += length;
        let ahead = recording.samples.get(at * channels..).unwrap_or_default();
        at += ahead.chunks(channels).take_while(|frame| frame.iter().all(Option::is_none)).count();
    }
    if starts.is_empty() { Err(EncodeError::Shape) } else { Ok(starts) }
}

/// The record's time, and what in it is filled.
fn annotation_list(recording: &FileRecording, start: usize, length: usize) -> Vec<u8> {
    let mut octets = format!("+{}", seconds(start, recording.rate)).into_bytes();
    octets.extend_from_slice(&[END_OF_TEXT, END_OF_TEXT, 0]);
    let channels = recording.channels.len();
    let runs: Vec<Vec<(usize, usize)>> = (0..channels).map(|at| missing_runs(recording, at, start, length)).collect();
    let alike = runs.iter().all(|run| Some(run) == runs.first());
    for (channel, runs) in recording.channels.iter().zip(&runs).take(if alike { 1 } else { channels }) {
        let text = if alike { MISSING.to_owned() } else { format!("{MISSING}@@{}", label(channel.code)) };
        for (first, count) in runs {
            let (onset, duration) = (seconds(*first, recording.rate), seconds(*count, recording.rate));
            octets.extend_from_slice(format!("+{onset}\u{15}{duration}\u{14}{text}\u{14}\0").as_bytes());
        }
    }
    octets
}

/// First index and number of each run of samples that the record fills.
fn missing_runs(recording: &FileRecording, at: usize, start: usize, length: usize) -> Vec<(usize, usize)> {
    let samples = recording.channel(at).skip(start).chain(core::iter::repeat(None)).take(length);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in (start..).zip(samples).filter(|(_, sample)| sample.is_none()) {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == index => *count += 1,
            _ => runs.push((index, 1)),
        }
    }
    runs
}

/// So many samples' time, s, to 100 ns.
fn seconds(samples: usize, rate: Rate) -> String {
    let power = 10_i128.pow(TIME_PLACES);
    let parts = i128::try_from(samples).ok().and_then(|n| n.checked_mul(i128::from(rate.seconds))?.checked_mul(power));
    let mut mantissa = parts.and_then(|n| rounded(n, i128::from(rate.samples))).and_then(|n| i64::try_from(n).ok()).unwrap_or(0);
    let mut places = -7;
    while places < 0 && mantissa % 10 == 0 {
        (mantissa, places) = (mantissa / 10, places + 1);
    }
    Decimal::new(mantissa, places).to_string()
}

fn label(code: Mdc) -> String {
    if is_ecg(code) && code != Mdc::ECG { format!("ECG {}", lead_name(code)) } else { lead_name(code).replace("ecg", "ECG") }
}

/// Left-justified, blanks after it; what is no printable ASCII becomes a question mark, what is too long is cut.
fn field(octets: &mut Vec<u8>, text: &str, width: usize) {
    let printable = text.chars().map(|c| u8::try_from(c).ok().filter(|octet| (0x20..0x7f).contains(octet)).unwrap_or(b'?'));
    octets.extend(printable.chain(core::iter::repeat(b' ')).take(width));
}

fn write_header(
    octets: &mut Vec<u8>,
    recording: &FileRecording,
    equipment: &str,
    kind: &str,
    (records, duration): (usize, &str),
) -> Result<(), EncodeError> {
    let signals = recording.channels.len() + 1;
    let equipment = if equipment.trim().is_empty() { "X".to_owned() } else { equipment.trim().replace(' ', "_") };
    let time = recording.device_time.filter(DateTime::date_known);
    let month = |time: DateTime| MONTHS.get(usize::from(time.month).wrapping_sub(1)).copied().unwrap_or("JAN");
    let (stated, date, clock) = match time {
        None => ("X".to_owned(), "01.01.85".to_owned(), "00.00.00".to_owned()),
        Some(t) => (
            format!("{:02}-{}-{:04}", t.day, month(t), t.year),
            // Outside 1985–2084 two digits say nothing: EDF+ §2.1.3.4.
            if (1985..=2084).contains(&t.year) {
                format!("{:02}.{:02}.{:02}", t.day, t.month, t.year % 100)
            } else {
                format!("{:02}.{:02}.yy", t.day, t.month)
            },
            format!("{:02}.{:02}.{:02}", t.hour, t.minute, t.second),
        ),
    };
    let records = records.to_string();
    if records.len() > 8 {
        return Err(EncodeError::Shape);
    }
    let columns = [
        ("0", 8),
        ("X X X X", 80),
        (&format!("Startdate {stated} X X {equipment}"), 80),
        (&date, 8),
        (&clock, 8),
        (&(HEADER_OCTETS * (signals + 1)).to_string(), 8),
        (kind, 44),
        (&records, 8),
        (duration, 8),
        (&signals.to_string(), 4),
    ];
    columns.iter().for_each(|(text, width)| field(octets, text, *width));
    Ok(())
}

fn write_signals(
    octets: &mut Vec<u8>,
    recording: &FileRecording,
    limits: &[Limits],
    length: usize,
    list_length: usize,
) -> Result<(), EncodeError> {
    let mut column = |width: usize, of: &dyn Fn(&Channel, &Limits) -> String, of_annotations: &str| {
        recording.channels.iter().zip(limits).for_each(|(channel, limits)| field(octets, &of(channel, limits), width));
        field(octets, of_annotations, width);
    };
    column(16, &|channel, _| label(channel.code), ANNOTATIONS);
    column(80, &|_, _| String::new(), "");
    column(8, &|channel, _| channel.unit.to_owned(), "");
    column(8, &|_, limits| limits.physical.0.clone(), "-1");
    column(8, &|_, limits| limits.physical.1.clone(), "1");
    column(8, &|_, limits| limits.digital.0.to_string(), "-32768");
    column(8, &|_, limits| limits.digital.1.to_string(), "32767");
    column(80, &|channel, _| channel.filter.clone(), "");
    column(8, &|_, _| length.to_string(), &list_length.to_string());
    column(32, &|_, _| String::new(), "");
    Ok(())
}

#[cfg(test)]
mod tests;
