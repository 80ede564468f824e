//! ECG files that a person brings: Contec ECG90A, SCP-ECG (EN 1064), EDF and EDF+.
//!
//! They are told apart by their content. Source: [`kit_protocol::file`]. A file is taken in whole or not at all: its octets are
//! gathered up to its end, checked, and handed over block by block. Its samples are the file's own integers, its time is the
//! device's; it names no person here, whatever it names of one.
//! Of an EDF the ECG signals are taken, of one rate; what else it holds is passed over.
//! A row that the device itself marks as missing is a hole; in a row that lacks some leads, those are marked off. None of
//! these formats states a heart rate, so that a file gives a recording and no reading.

use kit_protocol::file::{FileError, ecg90a, edf, scp};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;

use crate::driver::{By, Command, Driver, DriverError, Event, Link, Output, Pairing, Security, Session, Token};
use crate::session::outputs::Outputs;
use crate::session::playback::{self, FILE_OCTETS_MAX, Playback, Source};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "ecg-file",
    version: "1",
    links: &[Link::File],
    protocol: "Contec ECG90A, SCP-ECG (EN 1064), EDF+",
    gives: "the ECG leads that the file holds, with its time",
    parameters: &Mdc::ECG_TWELVE_LEADS,
    security: Security::None,
    pairing: Pairing::None,
    memory: true,
    allowed: &[],
    quirks: &[],
    session: |_| Box::new(EcgFile { stage: Stage::Waiting, outputs: Outputs::of_ecg(None), close: false }),
};

/// Octets by which every format is told.
const BEGINNING_OCTETS: usize = 32;
/// The session's number of the one recording.
const RECORDING: u32 = 1;

/// ```text
/// Waiting ──Up──▶ Gathering ──Down──▶ Playing
///                     └─ no such file: NotThisDevice ──▶ Ended
/// ```
enum Stage {
    Waiting,
    /// The file's octets so far.
    Gathering(Vec<u8>),
    Playing(Box<Playback>),
    Ended,
}

struct EcgFile {
    stage: Stage,
    outputs: Outputs,
    close: bool,
}

impl Session for EcgFile {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match (&mut self.stage, event) {
            (Stage::Waiting, Event::Up { .. }) => self.stage = Stage::Gathering(Vec::new()),
            (Stage::Gathering(gathered), Event::Received { octets, by: By::File, .. }) => {
                if gathered.len().saturating_add(octets.len()) > FILE_OCTETS_MAX {
                    return self.give_up(DriverError::Undecodable {
                        what: "ECG file",
                        reason: format!("more than {FILE_OCTETS_MAX} octets"),
                        octets: Vec::new(),
                    });
                }
                gathered.extend_from_slice(octets);
                if gathered.len() >= BEGINNING_OCTETS && open(gathered).is_none() {
                    self.give_up(not_this());
                }
            }
            (Stage::Gathering(gathered), Event::Down { .. }) => {
                let octets = std::mem::take(gathered);
                self.open(now, octets);
            }
            (Stage::Waiting, Event::Down { .. }) => self.stage = Stage::Ended,
            (_, Event::Stored { reading } | Event::Refused { reading }) => self.outputs.answered(reading),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, _now: Moment) {}

    fn poll_command(&mut self) -> Option<Command> {
        std::mem::take(&mut self.close).then_some(Command::Close)
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        let playback = if let Stage::Playing(playback) = &mut self.stage { Some(&mut **playback) } else { None };
        playback::poll(&mut self.outputs, playback)
    }

    fn poll_timeout(&self) -> Option<Moment> {
        None
    }
}

/// How a file of a format begins, and how it is opened.
type Format = (fn(&[u8]) -> bool, Open);
type Open = fn(Vec<u8>) -> Result<Source, FileError>;

/// How a file that begins so is opened.
fn open(octets: &[u8]) -> Option<Open> {
    const FORMATS: [Format; 3] = [
        (scp::begins, |octets| scp::decode(&octets).map(Source::whole)),
        (edf::begins, |octets| Ok(Source::whole(edf::decode(&octets)?))),
        (ecg90a::begins, Source::ecg90a),
    ];
    FORMATS.into_iter().find(|(begins, _)| begins(octets)).map(|(_, open)| open)
}

fn not_this() -> DriverError {
    DriverError::NotThisDevice("no ECG file that is known".into())
}

impl EcgFile {
    fn open(&mut self, now: Moment, octets: Vec<u8>) {
        let Some(open) = open(&octets) else { return self.give_up(not_this()) };
        let playback = open(octets)
            .map_err(|error| error.to_string())
            .and_then(|source| Playback::begin(source, RECORDING, now, &mut self.outputs));
        match playback {
            Ok(playback) => self.stage = Stage::Playing(Box::new(playback)),
            // Its octets name a person, and are not kept.
            Err(reason) => self.give_up(DriverError::Undecodable { what: "ECG file", reason, octets: Vec::new() }),
        }
    }

    fn give_up(&mut self, error: DriverError) {
        self.outputs.error(error);
        self.close = true;
        self.stage = Stage::Ended;
    }
}

#[cfg(test)]
mod tests;
