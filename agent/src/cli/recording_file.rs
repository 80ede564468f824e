//! Recordings in files of every format: what `convert` reads and both `convert` and `export` write.

use std::path::{Path, PathBuf};

use kit_protocol::decimal::Decimal;
use kit_protocol::file::wfdb::{self, Packing};
use kit_protocol::file::{FileError, FileRecording, csv, ecg90a, edf, flac, sampled_data, scp};
use kit_protocol::reading::Rate;

use super::{Failure, plot};

/// Octets of a file that is read, at most.
const FILE_OCTETS_MAX: u64 = 512 * 1024 * 1024;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum From {
    /// Integers, a column a lead; needs --rate and --lsb-uv.
    Csv,
    /// FLAC; one that this program did not write needs --lsb-uv.
    Flac,
    /// EDF, EDF+C, EDF+D.
    Edf,
    /// A WFDB record: its .hea file.
    Wfdb,
    /// SCP-ECG (EN 1064).
    Scp,
    /// Contec ECG90A.
    Ecg90a,
}

/// A format that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum To {
    /// Integers, a column a lead.
    Csv,
    /// FLAC with lead names, scale and rate in its comments.
    Flac,
    /// EDF+, 16 bits.
    Edf,
    /// A WFDB record, packed as FLAC: a .hea file and signal files beside it.
    Wfdb,
    /// A FHIR Observation with SampledData.
    Fhir,
    /// A drawing at 25 mm/s and 10 mm/mV, the first 30 s.
    Svg,
}

/// What a file does not say itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stated {
    pub(super) rate: Option<Rate>,
    pub(super) lsb_uv: Option<Decimal>,
}

/// `500` or `75/2`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let (samples, seconds) = text.split_once('/').unwrap_or((text, "1"));
    let rate = samples.parse().ok().zip(seconds.parse().ok()).map(|(samples, seconds)| Rate { samples, seconds });
    rate.and_then(Rate::reduced).ok_or_else(|| "expected samples per second, such as 500 or 75/2".into())
}

/// Reads a recording.
pub(super) fn read(from: From, file: &Path, stated: Stated) -> Result<FileRecording, Failure> {
    let octets = octets(file)?;
    let says_itself = |name: &str| {
        if stated.rate.is_some() || stated.lsb_uv.is_some() {
            return Err(Failure::WrongUse(format!("{name} says its rate and scale itself: leave --rate and --lsb-uv out")));
        }
        Ok(())
    };
    let damaged = |error: FileError| Failure::Failed(format!("{}: {error}; is it the format that --from names?", file.display()));
    match from {
        From::Csv => read_csv(file, octets, stated),
        From::Flac => read_flac(file, &octets, stated),
        From::Edf => says_itself("EDF").and_then(|()| edf::decode(&octets).map_err(|error| damaged(error.into()))),
        From::Scp => says_itself("SCP-ECG").and_then(|()| scp::decode(&octets).map_err(damaged)),
        From::Ecg90a => says_itself("ECG90A").and_then(|()| ecg90a::decode(&octets).map_err(damaged)),
        From::Wfdb => {
            says_itself("WFDB")?;
            let header = wfdb::Header::decode(&octets).map_err(|error| damaged(error.into()))?;
            let beside = |name: &&str| self::octets(&file.with_file_name(name));
            let files = header.files().iter().map(beside).collect::<Result<Vec<_>, _>>()?;
            header.recording(&files).map_err(|error| damaged(error.into()))
        }
    }
}

fn octets(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::WrongUse(format!("{}: cannot be read: {error}", file.display()));
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_OCTETS_MAX {
        return Err(Failure::Failed(format!("{}: longer than {FILE_OCTETS_MAX} octets; cut it into hours", file.display())));
    }
    std::fs::read(file).map_err(unreadable)
}

fn read_csv(file: &Path, octets: Vec<u8>, stated: Stated) -> Result<FileRecording, Failure> {
    let (Some(rate), Some(lsb_uv)) = (stated.rate, stated.lsb_uv) else {
        return Err(Failure::WrongUse(
            "a CSV says neither its rate nor what a digit is worth: add both, such as --rate 500 --lsb-uv 2.5".into(),
        ));
    };
    let text = String::from_utf8(octets).map_err(|_| Failure::Failed(format!("{}: expected text in UTF-8", file.display())))?;
    csv::decode(&text, rate, lsb_uv, "uV").map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

fn read_flac(file: &Path, octets: &[u8], stated: Stated) -> Result<FileRecording, Failure> {
    let decoded = flac::decode(octets);
    let mut recording = decoded.map_err(|error| Failure::Failed(format!("{}: no whole FLAC file ({error})", file.display())))?;
    let mute = recording.channels.iter().all(|channel| channel.unit == "1");
    match (mute, stated.lsb_uv) {
        (true, None) => {
            return Err(Failure::WrongUse("this FLAC does not say what a digit is worth: add it, such as --lsb-uv 2.5".into()));
        }
        (false, Some(_)) => return Err(Failure::WrongUse("this FLAC says its scale itself: leave --lsb-uv out".into())),
        (true, Some(lsb_uv)) => {
            for channel in &mut recording.channels {
                (channel.scale, channel.unit) = (lsb_uv, "uV");
            }
        }
        (false, None) => {}
    }
    recording.rate = stated.rate.unwrap_or(recording.rate);
    Ok(recording)
}

/// Writes a recording and says which files it became. `equipment` names the device or driver where the format has a place for it.
pub(super) fn write(to: To, recording: &FileRecording, file: &Path, equipment: &str) -> Result<Vec<PathBuf>, Failure> {
    encoded(to, recording, file, equipment)?.save()
}

/// A recording's files, not yet written, in the order in which they are.
pub(super) struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    /// Writes them and says which they are.
    pub(super) fn save(self) -> Result<Vec<PathBuf>, Failure> {
        let save = |(file, octets): (PathBuf, Vec<u8>)| match std::fs::write(&file, octets) {
            Ok(()) => Ok(file),
            Err(error) => Err(Failure::Failed(format!("{}: cannot be written: {error}", file.display()))),
        };
        self.0.into_iter().map(save).collect()
    }
}

/// Encodes a recording. [`Failure::Failed`]: the format cannot hold it.
pub(super) fn encoded(to: To, recording: &FileRecording, file: &Path, equipment: &str) -> Result<Files, Failure> {
    let octets = match to {
        To::Csv => csv::encode(recording).into_bytes(),
        To::Flac => flac::encode(recording)?,
        To::Edf => edf::encode(recording, equipment)?,
        To::Fhir => sampled_data::encode(recording)?.into_bytes(),
        To::Svg => plot::drawn(recording)?.into_bytes(),
        To::Wfdb => return encoded_wfdb(recording, file),
    };
    Ok(Files(vec![(file.to_path_buf(), octets)]))
}

fn encoded_wfdb(recording: &FileRecording, file: &Path) -> Result<Files, Failure> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|stem| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        file.extension().is_some_and(|extension| extension == "hea") && stem.chars().all(plain)
    });
    let stem = stem.ok_or_else(|| {
        Failure::WrongUse("a WFDB record is named by its header: letters, digits, _ or - and .hea, such as visit-1.hea".into())
    })?;
    let record = wfdb::encode(recording, stem, Packing::Flac)?;
    let mut files: Vec<_> = record.files.into_iter().map(|(name, octets)| (file.with_file_name(name), octets)).collect();
    // The header last: where it stands, what it names does too.
    files.push((file.to_path_buf(), record.header.into_bytes()));
    Ok(Files(files))
}
