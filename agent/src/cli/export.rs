//! `export`: the local record as files. Values always as a table; recordings as tables, EDF+ or WFDB, joined from their segments.

mod joined;
mod table;

use std::path::{Path, PathBuf};

use self::joined::{Joined, Joiner};
use self::table::Writer;
use super::listing::{for_each_page, time};
use super::recording_file::{self, To};
use super::{AgentPlace, Failure, print};
use crate::api::readings::PageLine;

/// The local record as files.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    agent: AgentPlace,
    /// The format of recordings; values always go to readings.csv.
    #[arg(long)]
    format: Format,
    /// Only what was received at or after this time, such as 2026-11-21T08:00:00Z.
    #[arg(long, value_parser = time)]
    since: Option<i64>,
    /// The folder to write to; it is made.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Integers, a column a lead.
    Csv,
    /// EDF+, 16 bits; a file an hour.
    Edf,
    /// WFDB records, packed as FLAC; one an hour.
    Wfdb,
    /// Not yet.
    Fhir,
}

impl Export {
    /// Writes the files and says what they hold.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let to = match self.format {
            Format::Csv => None,
            Format::Edf => Some((To::Edf, "edf")),
            Format::Wfdb => Some((To::Wfdb, "hea")),
            Format::Fhir => {
                return Err(Failure::WrongUse(
                    "the local record is not exported as FHIR yet: export it as wfdb, and make an Observation of a recording \
                     with `kit-agent convert --from wfdb --to fhir`"
                        .into(),
                ));
            }
        };
        let client = self.agent.client()?;
        let mut writer = Writer::new(&self.out, to.is_none())?;
        let mut recordings = Recordings { joiner: Joiner::default(), folder: &self.out, to, written: 0, refused: Vec::new() };
        for_each_page(&client, None, true, |page| {
            let wanted =
                |line: &&PageLine| self.since.is_none_or(|since| line.received_us.is_some_and(|received| received >= since));
            page.lines.into_iter().filter(|line| wanted(&line)).try_for_each(|line| {
                writer.line(&line)?;
                recordings.line(line)
            })
        })
        .await?;
        recordings.finish()?;
        let (values, rows) = writer.counts;
        let (tables, out) = (writer.recordings(), self.out.display());
        writer.finish()?;
        print::line(&match to {
            None => format!("{values} values in {out}/readings.csv; {rows} samples of {tables} recordings beside it."),
            Some(_) => format!("{values} values in {out}/readings.csv; {} files of recordings beside it.", recordings.written),
        })?;
        recordings.complain()
    }
}

/// Recordings on their way into files.
struct Recordings<'a> {
    joiner: Joiner,
    folder: &'a Path,
    /// The format and what its files' names end with; `None`: tables.
    to: Option<(To, &'static str)>,
    written: usize,
    /// What the format could not hold, and why.
    refused: Vec<String>,
}

impl Recordings<'_> {
    fn line(&mut self, line: PageLine) -> Result<(), Failure> {
        if self.to.is_none() {
            return Ok(());
        }
        self.joiner.take(line);
        self.write()
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.joiner.finish();
        self.write()
    }

    /// Writes what is whole. One that the format cannot hold does not keep the others from being written.
    fn write(&mut self) -> Result<(), Failure> {
        let Some((to, extension)) = self.to else { return Ok(()) };
        while let Some(Joined { name, driver, recording }) = self.joiner.poll() {
            let file = self.folder.join(format!("{name}.{extension}"));
            match recording_file::encoded(to, &recording, &file, &driver) {
                Ok(files) => {
                    files.save()?;
                    self.written += 1;
                }
                Err(Failure::Failed(why)) => self.refused.push(format!("{name} of {driver}: {why}")),
                Err(wrong_use) => return Err(wrong_use),
            }
        }
        Ok(())
    }

    fn complain(&self) -> Result<(), Failure> {
        let Some(first) = self.refused.first() else { return Ok(()) };
        let more = match self.refused.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Err(Failure::Failed(format!("not written: {first}{more}; export again with --format wfdb, which holds them")))
    }
}
