//! `convert`: a recording from one file format to another, digit for digit; no service needed.

use std::path::PathBuf;

use kit_protocol::decimal::Decimal;
use kit_protocol::file::derived_leads::with_derived;
use kit_protocol::reading::Rate;

use super::recording_file::{self, From, Stated, To};
use super::{Failure, print};

/// A recording from one file format to another.
#[derive(Debug, clap::Args)]
pub(super) struct Convert {
    /// The format that is read.
    #[arg(long)]
    from: From,
    /// The format that is written.
    #[arg(long)]
    to: To,
    /// Samples per second of a CSV, such as 500 or 75/2.
    #[arg(long, value_parser = recording_file::rate)]
    rate: Option<Rate>,
    /// What one digit of a CSV is worth in µV, such as 2.5.
    #[arg(long)]
    lsb_uv: Option<Decimal>,
    /// Add the limb leads that follow from two recorded ones, marked as derived.
    #[arg(long)]
    derived: bool,
    /// The file that is read.
    r#in: PathBuf,
    /// The file that is written.
    out: PathBuf,
}

impl Convert {
    /// Reads, writes and says what was written.
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.r#in == self.out {
            return Err(Failure::WrongUse("IN and OUT are the same file: name another".into()));
        }
        let stated = Stated { rate: self.rate, lsb_uv: self.lsb_uv };
        let mut recording = recording_file::read(self.from, &self.r#in, stated)?;
        if self.derived {
            recording = with_derived(&recording);
        }
        let written = recording_file::write(self.to, &recording, &self.out, "")?;
        let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        let Rate { samples, seconds } = recording.rate;
        let rate = if seconds == 1 { format!("{samples}") } else { format!("{samples}/{seconds}") };
        let (leads, frames) = (recording.channels.len(), recording.samples.len() / recording.channels.len().max(1));
        Ok(print::line(&format!("{leads} leads, {frames} samples each at {rate}/s: {}", names.join(", ")))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        convert: Convert,
    }

    fn convert(folder: &Path, arguments: &str) -> Result<(), String> {
        let words = arguments.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => folder.join(name).display().to_string(),
            None => word.to_string(),
        });
        let line =
            Line::try_parse_from(std::iter::once("convert".to_string()).chain(words)).map_err(|error| error.to_string())?;
        line.convert.run().map_err(|failure| match failure {
            Failure::WrongUse(what) => format!("2: {what}"),
            Failure::Failed(what) => format!("1: {what}"),
        })
    }

    fn text(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    const CSV: &str = "I,II,V1\n1,5,-9\n2,,-9\n-32000,7,8\n";

    #[test]
    fn a_recording_goes_round_all_formats_digit_for_digit() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(at.join("a.csv"), CSV).unwrap();
        convert(at, "--from csv --to edf --rate 75/2 --lsb-uv 2.44 @a.csv @a.edf").unwrap();
        convert(at, "--from edf --to flac @a.edf @a.flac").unwrap();
        convert(at, "--from flac --to wfdb @a.flac @b.hea").unwrap();
        convert(at, "--from wfdb --to csv @b.hea @b.csv").unwrap();
        assert_eq!(text(at, "b.csv"), CSV);
        assert!(text(at, "b.hea").starts_with("b 3 37.5 3\nb.flac 516 0.40983606557377049(0)/uV 16 0 1 "));
        convert(at, "--from wfdb --to fhir --derived @b.hea @b.json").unwrap();
        let json: serde_json::Value = serde_json::from_str(&text(at, "b.json")).unwrap();
        assert_eq!(json["component"][3]["code"]["text"], "III (derived)");
        assert_eq!(json["component"][4]["valueSampledData"]["data"], "-6 E 31993");
        assert_eq!(json["component"][4]["valueSampledData"]["factor"], 1.22);
    }

    #[test]
    fn derived_leads_stay_marked_through_every_format_and_are_not_derived_twice() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(at.join("a.csv"), "I,II\n1,5\n2,6\n").unwrap();
        convert(at, "--from csv --to flac --derived --rate 500 --lsb-uv 5 @a.csv @a.flac").unwrap();
        convert(at, "--from flac --to edf --derived @a.flac @a.edf").unwrap();
        convert(at, "--from edf --to wfdb @a.edf @a.hea").unwrap();
        convert(at, "--from wfdb --to csv @a.hea @b.csv").unwrap();
        let derived = "I,II,III (derived),aVR (derived),aVL (derived),aVF (derived)\n1,5,4,-6,-3,9\n2,6,4,-8,-2,10\n";
        assert_eq!(text(at, "b.csv"), derived);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::write(at.join("a.csv"), CSV).unwrap();
        std::fs::write(at.join("wide.csv"), "I\n40000\n").unwrap();
        std::fs::write(at.join("bad.csv"), "I,Q\n1,2\n").unwrap();
        convert(at, "--from csv --to edf --rate 500 --lsb-uv 1 @a.csv @a.edf").unwrap();
        for (arguments, expected) in [
            ("--from csv --to edf @a.csv @b", "2: a CSV says neither its rate nor what a digit is worth: add both"),
            ("--from csv --to edf --rate 500 @a.csv @b", "2: a CSV says neither"),
            ("--from csv --to edf --rate 0 --lsb-uv 1 @a.csv @b", "expected samples per second, such as 500 or 75/2"),
            ("--from csv --to edf --rate 500 --lsb-uv 1 @none.csv @b", "none.csv: cannot be read"),
            ("--from csv --to edf --rate 500 --lsb-uv 1 @bad.csv @b", "bad.csv: line 1: expected a header row with lead names"),
            (
                "--from csv --to edf --rate 500 --lsb-uv 1 @wide.csv @b",
                "1: lead I has samples that need more than 16 bits; use WFDB",
            ),
            ("--from csv --to wfdb --rate 500 --lsb-uv 1 @a.csv @b", "2: a WFDB record is named by its header"),
            ("--from csv --to wfdb --rate 500 --lsb-uv 1 @a.csv @b.c.hea", "2: a WFDB record is named by its header"),
            ("--from edf --to csv --rate 500 @a.edf @b", "2: EDF says its rate and scale itself"),
            ("--from edf --to csv @a.csv @b", "is it the format that --from names?"),
            ("--from scp --to csv @a.csv @b", "is it the format that --from names?"),
            ("--from flac --to csv @a.csv @b", "no whole FLAC file"),
            ("--from edf --to edf @a.edf @a.edf", "2: IN and OUT are the same file"),
            ("--from fhir --to csv @a.csv @b", "invalid value 'fhir' for '--from"),
        ] {
            let refused = convert(at, arguments).unwrap_err();
            assert!(refused.contains(expected), "{arguments}: {refused}");
        }
    }
}
