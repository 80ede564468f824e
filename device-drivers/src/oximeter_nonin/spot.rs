//! The data formats without a waveform, 8 and 13, and which format it is.
//!
//! Format 13 is known by its first packet, which has a sum; format 8, which has none, by three frames in a row: in a stream
//! of format 2 or 7 the octets of bit 7, five apart, cannot stand so. Until one of them is known, formats 2 and 7 are looked for as well.

use std::collections::VecDeque;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Measured, Memory};
use kit_protocol::serial::nonin_df13::{self, Command as Asks, Heard, SpotCheck};
use kit_protocol::serial::{framer, nonin_df8};

use crate::driver::{DriverError, Start};
use crate::session::outputs::Outputs;
use crate::session::streaming::{Io, Oximetry};

/// What a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Numbers, once a second.
    Eight,
    /// Spot checks.
    Thirteen,
}

/// What came.
#[derive(Debug)]
pub(super) enum Found {
    /// Numbers of this moment, and their octets.
    Numbers(Oximetry, Vec<u8>),
    /// A spot check.
    Check(Measured),
    /// Octets of no frame.
    Skipped(u64),
    /// A packet that is none.
    Refused(DriverError),
}

/// Frames of format 8 in a row that prove it.
const PROOF: usize = 3;
/// What models that have format 13 begin with.
const MODELS: [&str; 4] = ["9560", "3230", "Nonin 9560", "Nonin3230"];
const FORMAT_13: u8 = 13;

/// The conversation in these formats.
#[derive(Debug, Default)]
pub(super) struct Spot {
    format: Option<Format>,
    eight: nonin_df8::Framer,
    /// Frames of format 8 in a row, before it is known.
    row: Vec<nonin_df8::Frame>,
    thirteen: nonin_df13::Framer,
    found: VecDeque<Found>,
    /// What is asked once the link is up.
    asks: Vec<Asks>,
    /// Questions that wait for their answer, and since when.
    asked: VecDeque<(Asks, Moment)>,
}

impl Spot {
    pub(super) fn new(start: &Start) -> Self {
        let begins = |text: &Option<String>| text.as_ref().is_some_and(|text| MODELS.iter().any(|model| text.starts_with(model)));
        let mut asks = Vec::new();
        if begins(&start.about.model) || begins(&start.about.name) {
            asks.push(Asks::SelectFormat(FORMAT_13));
            asks.extend(start.civil_time.filter(|_| start.may_set_clock).map(Asks::SetTime));
        }
        Self { asks, ..Self::default() }
    }

    pub(super) fn format(&self) -> Option<Format> {
        self.format
    }

    pub(super) fn up(&mut self, now: Moment, io: &mut Io) {
        for asks in std::mem::take(&mut self.asks) {
            io.write(asks.encode());
            self.asked.push_back((asks, now));
        }
    }

    pub(super) fn poll(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// Takes in octets; whether anything of these formats was among them.
    pub(super) fn received(&mut self, now: Moment, octets: &[u8], outputs: &mut Outputs) -> bool {
        let octets = self.answers(octets, outputs);
        let before = self.found.len();
        if self.format != Some(Format::Eight) {
            let mut framer = std::mem::take(&mut self.thirteen);
            framer.push(octets, |found| self.thirteen(now, found));
            self.thirteen = framer;
        }
        if self.format != Some(Format::Thirteen) {
            let mut framer = std::mem::take(&mut self.eight);
            framer.push(octets, |found| self.eight(found));
            self.eight = framer;
        }
        self.found.len() > before
    }

    /// The link is down: few frames are enough now, if there is nothing else.
    pub(super) fn finish(&mut self) {
        let mut framer = std::mem::take(&mut self.eight);
        let mut skipped = false;
        framer.finish(|found| {
            skipped |= matches!(found, framer::Found::Skipped(_));
            self.eight(found);
        });
        if self.format.is_none() && !skipped {
            self.prove();
        }
    }

    /// Answers to what was asked stand before anything else.
    fn answers<'a>(&mut self, mut octets: &'a [u8], outputs: &mut Outputs) -> &'a [u8] {
        while let ([answer @ (Asks::ACK | Asks::NAK), rest @ ..], Some((asks, at))) = (octets, self.asked.front().copied()) {
            if let (Asks::SetTime(time), Asks::ACK) = (asks, *answer) {
                outputs.device_clock(time, at);
            }
            self.asked.pop_front();
            octets = rest;
        }
        octets
    }

    fn thirteen(&mut self, now: Moment, found: nonin_df13::Found) {
        match found {
            framer::Found::Frame(Heard::SpotCheck(check)) => {
                self.format = Some(Format::Thirteen);
                self.found.extend(measured(now, &check).map(Found::Check));
            }
            framer::Found::Frame(Heard::Refused(error)) => {
                let (reason, octets) = (error.to_string(), Vec::new());
                self.found.push_back(Found::Refused(DriverError::Undecodable { what: "Nonin spot check", reason, octets }));
            }
            framer::Found::Skipped(octets) if self.format == Some(Format::Thirteen) => {
                self.found.push_back(Found::Skipped(octets));
            }
            framer::Found::Skipped(_) => {}
        }
    }

    fn eight(&mut self, found: nonin_df8::Found) {
        match (found, self.format) {
            (framer::Found::Frame(frame), Some(Format::Eight)) => self.found.extend(numbers(&frame)),
            (framer::Found::Skipped(octets), Some(Format::Eight)) => self.found.push_back(Found::Skipped(octets)),
            (framer::Found::Frame(frame), None) => {
                self.row.push(frame);
                if self.row.len() >= PROOF {
                    self.prove();
                }
            }
            _ => self.row.clear(),
        }
    }

    fn prove(&mut self) {
        for frame in std::mem::take(&mut self.row) {
            self.format = Some(Format::Eight);
            self.found.extend(numbers(&frame));
        }
    }
}

fn numbers(frame: &nonin_df8::Frame) -> Option<Found> {
    let numbers =
        Oximetry { spo2: frame.spo2(), pulse_rate: frame.heart_rate(), status: frame.terms().collect(), ..Oximetry::default() };
    (!numbers.is_empty()).then(|| Found::Numbers(numbers, frame.encode().to_vec()))
}

fn measured(now: Moment, check: &SpotCheck) -> Option<Measured> {
    let numbers =
        Oximetry { spo2: check.spo2, pulse_rate: check.heart_rate, status: check.terms().collect(), ..Oximetry::default() };
    if numbers.is_empty() || check.has(SpotCheck::NO_MEASUREMENT) {
        return None;
    }
    // What it says of its way and of the battery changes when it is sent again.
    let same = SpotCheck { status: check.status & SpotCheck::SMART_POINT, ..*check };
    Some(Measured {
        device_time: Some(check.time).filter(DateTime::date_known),
        memory: if check.has(SpotCheck::FROM_MEMORY) { Memory::Stored } else { Memory::Live },
        ..numbers.measured(now, same.encode())
    })
}
