//! One file per file format of recordings, theirs and ours to write.

pub mod csv;
pub mod derived_leads;
pub mod ecg90a;
pub mod edf;
#[cfg(feature = "flac")]
pub mod flac;
pub mod lepu_er3;
pub mod sampled_data;
pub mod scp;
pub mod svg;
#[cfg(feature = "flac")]
pub mod wfdb;

use alloc::string::String;
use alloc::vec::Vec;

use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::{Mdc, TERMS};
use crate::reader::DecodeError;
use crate::reading::{Channel, Rate};

/// Samples of a recording in one file, over all its channels, at most: an hour of eight leads at 1000 Hz and a little more.
pub const SAMPLES_MAX: usize = 30_000_000;
/// Channels of a recording in one file, at most.
pub const CHANNELS_MAX: usize = 256;

/// A recording as a file holds it.
///
/// Shape: `samples` interleaved, one integer a channel in the order of `channels`, exactly as in the file; `None` marks a sample
/// that the file itself marks as missing. Units: each channel's scale and unit. Names of persons in a file are never taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecording {
    /// When its first sample was, by the clock of what wrote it.
    pub device_time: Option<DateTime>,
    /// Samples per second and channel.
    pub rate: Rate,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// Interleaved samples.
    pub samples: Vec<Option<i32>>,
}

/// Why a recording cannot be written in a format, with the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No channel, no sample, more than the bounds, or not a whole number of frames.
    #[error("the recording is empty, too long for one file, or has rows of unequal length")]
    Shape,
    /// A sample has more bits than the format has.
    #[error("lead {lead} has samples that need more than {bits} bits; {instead}")]
    Width {
        /// Of this lead.
        lead: String,
        /// What the format has.
        bits: u8,
        /// What to do.
        instead: &'static str,
    },
    /// What one digit is worth cannot be written in the format's fields without loss.
    #[error("the scale {scale} of lead {lead} cannot be written exactly in this format; use WFDB or CSV")]
    Scale {
        /// Of this lead.
        lead: String,
        /// What one digit is worth.
        scale: Decimal,
    },
    /// More channels than the format has.
    #[error("{channels} leads are more than the {most} that this format has; use WFDB or CSV")]
    Channels {
        /// The recording's.
        channels: usize,
        /// The format's.
        most: usize,
    },
    /// Nothing to draw.
    #[error("no lead is a voltage: only those can be drawn at 10 mm/mV")]
    NoVoltage,
    /// The rate cannot be written in the format's fields.
    #[error("the rate of {} samples in {} s cannot be written in this format; use CSV", rate.samples, rate.seconds)]
    Rate {
        /// The recording's.
        rate: Rate,
    },
}

impl FileRecording {
    /// Samples per channel. Errors: [`EncodeError::Shape`].
    pub fn frames(&self) -> Result<usize, EncodeError> {
        let channels = self.channels.len();
        let bounded = (1..=CHANNELS_MAX).contains(&channels) && (1..=SAMPLES_MAX).contains(&self.samples.len());
        if !bounded || !self.samples.len().is_multiple_of(channels) || self.rate.samples == 0 || self.rate.seconds == 0 {
            return Err(EncodeError::Shape);
        }
        Ok(self.samples.len() / channels)
    }

    /// One channel's samples in their order.
    pub fn channel(&self, at: usize) -> impl Iterator<Item = Option<i32>> + '_ {
        self.samples.iter().skip(at).step_by(self.channels.len().max(1)).copied()
    }

    /// Frames at the end in which every channel is missing say nothing: they are left out.
    pub(crate) fn trim(&mut self) {
        let channels = self.channels.len().max(1);
        let frames =
            self.samples.chunks(channels).rposition(|frame| frame.iter().any(Option::is_some)).map_or(0, |last| last + 1);
        self.samples.truncate(frames * channels);
    }
}

impl Rate {
    /// The same rate in smallest numbers; `None` where it is none.
    #[must_use]
    pub fn reduced(self) -> Option<Self> {
        let (mut a, mut b) = (self.samples, self.seconds);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        (self.samples != 0 && self.seconds != 0).then(|| Self { samples: self.samples / a, seconds: self.seconds / a })
    }

    /// `samples × 10^-places` in a second, in smallest numbers; `None` where it does not fit.
    pub(crate) fn of_fraction(samples: i128, seconds: i128) -> Option<Self> {
        let (mut a, mut b) = (samples, seconds);
        while b != 0 {
            (a, b) = (b, a.checked_rem(b)?);
        }
        let part = |number: i128| u32::try_from(number.checked_div(a)?).ok().filter(|number| *number != 0);
        Some(Self { samples: part(samples)?, seconds: part(seconds)? })
    }
}

/// Significant digits that are kept of a quotient that has no end.
pub(crate) const QUOTIENT_DIGITS: u32 = 15;
/// Places of an exact quotient, at most.
const EXACT_PLACES: u32 = 17;

/// `number ÷ divisor` as a decimal: exact where it ends within 17 places, else nearest with that many significant digits. No
/// trailing zeros. `None` where the divisor is 0 or the quotient is out of range.
pub(crate) fn quotient(number: Decimal, divisor: Decimal, digits: u32) -> Option<Decimal> {
    let (n, d) = (i128::from(number.mantissa), i128::from(divisor.mantissa));
    let base = i32::from(number.exponent) - i32::from(divisor.exponent);
    if d == 0 {
        return None;
    }
    let scaled = |places: u32| 10_i128.checked_pow(places).and_then(|power| n.checked_mul(power));
    let exact = (0..=EXACT_PLACES).find_map(|places| scaled(places).filter(|n| n % d == 0).map(|n| (n / d, places)));
    let (mantissa, places) = match exact {
        Some(found) => found,
        None => (0..=37).find_map(|places| {
            let quotient = rounded(scaled(places)?, d)?;
            let digits_now = quotient.unsigned_abs().checked_ilog10().map_or(0, |log| log + 1);
            (digits_now >= digits).then_some((quotient, places))
        })?,
    };
    let mut exponent = base - i32::try_from(places).ok()?;
    let mut mantissa = i64::try_from(mantissa).ok()?;
    while mantissa != 0 && mantissa % 10 == 0 {
        (mantissa, exponent) = (mantissa / 10, exponent + 1);
    }
    // 200 rather than 2 × 10^2: plain digits.
    while (1..=12).contains(&exponent) {
        (mantissa, exponent) = (mantissa.checked_mul(10)?, exponent - 1);
    }
    Some(Decimal::new(mantissa, i8::try_from(exponent).ok()?))
}

/// The whole number nearest to `n ÷ d`; a half goes towards zero.
pub(crate) fn rounded(n: i128, d: i128) -> Option<i128> {
    let (quotient, rest) = (n.checked_div(d)?, n.checked_rem(d)?);
    let beyond_half = rest.unsigned_abs().checked_mul(2)? > d.unsigned_abs();
    let away = if (n < 0) == (d < 0) { 1 } else { -1 };
    Some(if beyond_half { quotient + away } else { quotient })
}

/// A name as ECG files write it, to its code: `ECG V1`, `EDF: ECG V1`, `Lead II`, `avr`, and the names of the code table.
///
/// `None` where it names none of ours; an ECG whose lead is not said is [`Mdc::ECG`].
#[must_use]
pub fn lead_code(label: &str) -> Option<Mdc> {
    let mut rest = label.trim();
    for prefix in ["EDF:", "ECG", "EKG", "LEAD", "MDC_ECG_ELEC_POTL_"] {
        if let Some((head, tail)) = rest.split_at_checked(prefix.len())
            && head.eq_ignore_ascii_case(prefix)
            && (prefix.ends_with([':', '_']) || tail.is_empty() || tail.starts_with([' ', '-', '_', ':']))
        {
            rest = tail.trim_start_matches([' ', '-', '_', ':']);
        }
    }
    let stated = TERMS.iter().find(|term| !rest.is_empty() && term.name.eq_ignore_ascii_case(rest)).map(|term| term.code);
    let upper = label.to_ascii_uppercase();
    stated.or_else(|| (upper.contains("ECG") || upper.contains("EKG")).then_some(Mdc::ECG))
}

/// Its name in files; codes newer than we are by their number.
#[must_use]
pub fn lead_name(code: Mdc) -> String {
    code.name().map_or_else(|| alloc::format!("{}", code.0), String::from)
}

/// Whether it is an ECG lead or an ECG whose lead is not said.
#[must_use]
pub fn is_ecg(code: Mdc) -> bool {
    code.row().is_some_and(|row| row.reference.starts_with("MDC_ECG_ELEC_POTL"))
}

/// Why a file is not taken in. Nothing of it is then: a recording is whole or it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The octets are not those of the format.
    #[error(transparent)]
    Octets(#[from] DecodeError),
    /// A section of the file contradicts itself or another.
    #[error("section {section}: {what}")]
    Section {
        /// Its number.
        section: u16,
        /// What does not fit.
        what: &'static str,
    },
    /// A lead's octets are not as many as its samples need: a length that ran over its 16 bits shows so.
    #[error("section {section}, lead {lead}: {octets} octets, where its samples need {needed}")]
    LeadOctets {
        /// The section's number.
        section: u16,
        /// The lead, from 1.
        lead: usize,
        /// How many there are.
        octets: usize,
        /// How many there would have to be.
        needed: usize,
    },
    /// What the file uses loses digits, or is read differently by different readers.
    #[error("{0} cannot be reconstructed exactly")]
    NotExact(&'static str),
    /// More samples than are taken in.
    #[error("more than {maximum} samples")]
    TooLong {
        /// How many are, of all channels together.
        maximum: usize,
    },
}

/// Why a recording cannot be written in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the format cannot hold {0}")]
pub struct NotEncodable(pub &'static str);
