//! ECG files, as recorders of several makers would write them of the same patient: Contec ECG90A, SCP-ECG, EDF+, Lepu ER3.
//!
//! Each recorder has its own leads, rate and scale; the heart before them is one. Noise of a few digits makes every file's
//! samples its own.

use std::io;
use std::path::Path;

use clap::ValueEnum;
use kit_protocol::decimal::Decimal;
use kit_protocol::file::lepu_er3::LeadType;
use kit_protocol::file::{EncodeError, FileRecording, NotEncodable, ecg90a, edf, lepu_er3, scp};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Channel, Rate};
use serde_json::json;

use crate::noise;
use crate::patient::{Leads, Patient};
use crate::truth::Truth;

/// Noise of each sample, digits.
const NOISE_DIGITS: u32 = 2;

/// A maker's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Contec ECG90A: II, III, V1–V6 at 800/s.
    Ecg90a,
    /// SCP-ECG with Huffman codes: I, II, V1–V6 at 500/s.
    Scp,
    /// EDF+: I, II, V1–V6 at 500/s.
    Edf,
    /// Lepu ER3, six electrodes: V5, I, II, V1 at 250/s.
    Er3,
}

impl Format {
    /// Its name, and what its files' names end with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ecg90a => "ecg90a",
            Self::Scp => "scp",
            Self::Edf => "edf",
            Self::Er3 => "er3",
        }
    }

    /// The driver that reads it.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Ecg90a | Self::Scp | Self::Edf => "ecg-file",
            Self::Er3 => "ecg-lepu",
        }
    }

    fn rate(self) -> Rate {
        match self {
            Self::Ecg90a => ecg90a::RATE,
            Self::Scp | Self::Edf => Rate { samples: 500, seconds: 1 },
            Self::Er3 => lepu_er3::RATE,
        }
    }

    fn channels(self) -> Vec<Channel> {
        const EIGHT: [Mdc; 8] =
            [Mdc::ECG_I, Mdc::ECG_II, Mdc::ECG_V1, Mdc::ECG_V2, Mdc::ECG_V3, Mdc::ECG_V4, Mdc::ECG_V5, Mdc::ECG_V6];
        let of =
            |scale: Decimal| EIGHT.iter().map(|code| Channel { code: *code, scale, unit: "uV", filter: String::new() }).collect();
        match self {
            Self::Ecg90a => ecg90a::channels(),
            Self::Scp => of(Decimal::new(2_500, -3)),
            Self::Edf => of(Decimal::new(5, 0)),
            Self::Er3 => lepu_er3::channels(LeadType::SIX),
        }
    }
}

/// A file that was not written yet.
#[derive(Clone, Debug)]
pub struct EcgFile {
    /// Its name.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// What it holds.
    pub recording: FileRecording,
    octets: Vec<u8>,
}

/// The recorder cannot write it.
#[derive(Debug, thiserror::Error)]
pub enum EcgFileError {
    /// Not in this format.
    #[error(transparent)]
    Format(#[from] NotEncodable),
    /// Not as EDF.
    #[error(transparent)]
    Edf(#[from] EncodeError),
}

impl EcgFile {
    /// The patient of this seed, so many seconds from `began` on by the recorder's clock.
    ///
    /// Errors: more than the format holds.
    pub fn of(format: Format, seed: u64, seconds: u32, began: DateTime) -> Result<Self, EcgFileError> {
        let (rate, channels) = (format.rate(), format.channels());
        let patient = Patient::new(seed);
        let row = |index: u32| {
            let leads = patient.ecg(1.0 + f64::from(index) * f64::from(rate.seconds) / f64::from(rate.samples));
            let sample = move |(at, channel): (u64, &Channel)| {
                let digits = noise::nearest(millivolts(&leads, channel.code) / in_millivolts(channel));
                let noise = noise::step(seed ^ u64::from(rate.samples), u64::from(index) * 64 + at, NOISE_DIGITS);
                Some(i32::try_from(digits).unwrap_or(0) + noise)
            };
            (0..).zip(&channels).map(sample).collect::<Vec<_>>()
        };
        let samples = (0..seconds * rate.samples / rate.seconds).flat_map(row).collect();
        let time = Some(began).filter(|_| format != Format::Er3);
        let recording = FileRecording { device_time: time, rate, channels, samples };
        let octets = match format {
            Format::Ecg90a => ecg90a::encode(&recording, u32::try_from(seed % 10_000_000).unwrap_or(0))?,
            Format::Scp => scp::encode(&recording, scp::Encoding::Huffman { differences: 2 })?,
            Format::Edf => edf::encode(&recording, "kit-sim")?,
            Format::Er3 => lepu_er3::encode(&recording, LeadType::SIX)?,
        };
        Ok(Self { name: format!("ecg-{seed}.{}", format.name()), format, recording, octets })
    }

    /// Writes it into the folder: whole, or not at all.
    ///
    /// Errors: it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let unfinished = folder.join(format!(".{}", self.name));
        std::fs::write(&unfinished, &self.octets)?;
        std::fs::rename(unfinished, folder.join(&self.name))
    }

    /// Tells the truth of it.
    ///
    /// Errors: it cannot be written.
    pub fn tell(&self, truth: &Truth) -> io::Result<()> {
        let FileRecording { rate, channels, samples, .. } = &self.recording;
        let rows: Vec<&[Option<i32>]> = samples.chunks(channels.len().max(1)).collect();
        let codes: Vec<u32> = channels.iter().map(|channel| channel.code.0).collect();
        let scale = |channel: &Channel| (channel.unit, channel.scale.to_string());
        let (unit, scale) = channels.first().map(scale).unwrap_or_default();
        truth.line(&json!({"file": {
            "name": self.name,
            "format": self.format.name(),
            "channels": codes,
            "rate": [rate.samples, rate.seconds],
            "unit": unit,
            "scale": scale,
            "rows": rows,
        }}))
    }
}

/// What a lead measures of the heart.
fn millivolts(leads: &Leads, code: Mdc) -> f64 {
    let [i, ii, chest @ ..] = leads;
    match code.name() {
        Some("I") => *i,
        Some("II") => *ii,
        Some("III") => ii - i,
        Some(name) => name
            .strip_prefix('V')
            .and_then(|number| number.parse::<usize>().ok())
            .and_then(|number| chest.get(number.wrapping_sub(1)).copied())
            .unwrap_or(0.0),
        None => 0.0,
    }
}

fn in_millivolts(channel: &Channel) -> f64 {
    channel.scale.to_f64() * if channel.unit == "uV" { 0.001 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: DateTime = DateTime { year: 2026, month: 11, day: 22, hour: 8, minute: 30, second: 5 };

    #[test]
    fn every_format_is_read_as_it_was_meant_and_is_the_same_every_time() {
        type Decode = fn(&[u8]) -> FileRecording;
        let decoders: [(Format, Decode); 4] = [
            (Format::Ecg90a, |octets| ecg90a::decode(octets).unwrap()),
            (Format::Scp, |octets| scp::decode(octets).unwrap()),
            (Format::Edf, |octets| edf::decode(octets).unwrap()),
            (Format::Er3, |octets| lepu_er3::decode(octets).unwrap()),
        ];
        for (format, decode) in decoders {
            let file = EcgFile::of(format, 3, 10, BEGAN).unwrap();
            let read = decode(&file.octets);
            assert!(read.samples == file.recording.samples, "{format:?}");
            assert_eq!((read.device_time, read.rate), (file.recording.device_time, file.recording.rate));
            assert_eq!(EcgFile::of(format, 3, 10, BEGAN).unwrap().octets, file.octets);
            assert_ne!(EcgFile::of(format, 4, 10, BEGAN).unwrap().octets, file.octets);
        }
    }

    #[test]
    fn one_heart_beats_before_all_of_them() {
        let peak = |format| {
            let recording = EcgFile::of(format, 3, 2, BEGAN).unwrap().recording;
            let at = recording.channels.iter().position(|channel| channel.code == Mdc::ECG_II).unwrap();
            let (index, digits) = recording.channel(at).flatten().enumerate().max_by_key(|(_, sample)| *sample).unwrap();
            let seconds = index as f64 / f64::from(recording.rate.samples);
            (seconds, f64::from(digits) * in_millivolts(&recording.channels[at]))
        };
        let (seconds, height) = peak(Format::Ecg90a);
        for format in [Format::Scp, Format::Edf, Format::Er3] {
            let (others_seconds, others_height) = peak(format);
            assert!((seconds - others_seconds).abs() < 0.02, "{format:?}: {seconds} s, {others_seconds} s");
            assert!((height - others_height).abs() < 0.05, "{format:?}: {height} mV, {others_height} mV");
        }
    }
}
