//! An ECG recorder of the ER3 kind: four channels at 250 Hz, numbered, kept for two seconds and sent when they are asked for.
//!
//! It answers what the ER3 answers and is silent to everything else: a frame whose checksum does not fit, another command.
//! Source: as `kit_protocol::serial::lepu` names it. Rows come from outside, one every 4 ms since power-up.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kit_protocol::file::lepu_er3::LeadType;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::serial::lepu::{Battery, Frame, FrameCommand, Information, Live, LiveNumbered};

/// Samples a second.
pub const RATE_HZ: u16 = LiveNumbered::RATE_HZ;
/// Channels of a row: V5, I, II, V1.
pub const CHANNELS: usize = 4;
/// Rows that it keeps: two seconds.
const ROWS_MAX: usize = 500;
/// Rows in one answer: one second.
const ROWS_IN_ANSWER_MAX: usize = 250;
/// Below so many percent the battery is low.
const LOW_PERCENT: u8 = 10;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// One digit a channel.
    pub digits: [i16; CHANNELS],
}

/// What an answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The octets of the frame.
    pub octets: Vec<u8>,
    /// The rows in it.
    pub rows: Vec<Row>,
}

/// The firmware.
#[derive(Clone, Debug)]
pub struct EcgLepu {
    rows: VecDeque<Row>,
    next: u32,
    battery_percent: u8,
    /// Bits as in [`LiveNumbered::leads_off`].
    leads_off: u16,
    heart_rate: u16,
}

impl EcgLepu {
    /// As it powers up.
    #[must_use]
    pub const fn start() -> Self {
        Self { rows: VecDeque::new(), next: 0, battery_percent: 88, leads_off: 0, heart_rate: 0 }
    }

    /// Rows since power-up.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.next
    }

    /// The battery holds so many percent.
    pub const fn set_battery(&mut self, percent: u8) {
        self.battery_percent = percent;
    }

    /// What the analysis says.
    pub const fn set_heart_rate(&mut self, beats_a_minute: u16) {
        self.heart_rate = beats_a_minute;
    }

    /// Takes in the next conversion: `None` where the lead is off. The oldest row goes where there is no room.
    pub fn sample(&mut self, digits: [Option<i16>; CHANNELS]) {
        self.leads_off = digits.iter().zip(BITS).fold(0, |bits, (digit, bit)| bits | u16::from(digit.is_none()) << bit);
        if self.rows.len() >= ROWS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(Row { number: self.next, digits: digits.map(|digit| digit.unwrap_or(Live::LEAD_OFF)) });
        self.next = self.next.wrapping_add(1);
    }

    /// What it answers to octets that were written; `time` is its clock's.
    pub fn answer(&mut self, written: &[u8], time: Option<DateTime>) -> Option<Answer> {
        let request = Frame::decode(written).ok()?;
        let (content, rows) = match request.command {
            FrameCommand::LIVE_NUMBERED => {
                let count = self.rows.len().min(ROWS_IN_ANSWER_MAX);
                let rows: Vec<Row> = self.rows.drain(..count).collect();
                (self.live(&rows, time), rows)
            }
            FrameCommand::INFORMATION => {
                (Information { device_type: 3, time, serial: b"2611000017".to_vec() }.encode(), Vec::new())
            }
            _ => return None,
        };
        let octets = Frame { command: request.command, kind: 1, sequence: request.sequence, content }.encode();
        Some(Answer { octets, rows })
    }

    fn live(&self, rows: &[Row], time: Option<DateTime>) -> Vec<u8> {
        let state = if self.battery_percent < LOW_PERCENT { Battery::LOW } else { 0 };
        LiveNumbered {
            heart_rate: self.heart_rate,
            battery: Battery { state, percent: self.battery_percent },
            cable: true,
            seconds: self.next / u32::from(RATE_HZ),
            time,
            lead_type: LeadType::SIX,
            leads_off: self.leads_off,
            first: rows.first().map_or(self.next, |row| row.number),
            samples: rows.iter().flat_map(|row| row.digits).collect(),
        }
        .encode()
    }
}

/// The flag of each channel: V5, I, II, V1.
const BITS: [u16; CHANNELS] = [10, 0, 1, 6];
