//! Frames of Lepu and Viatom devices, A5 and the command twice, and what their ECG recorders answer in them.
//!
//! Source: LepuBle (Er1BleCmd, Er1BleResponse, Er1BleInterface, Er3BleCmd, Er3BleResponse, LepuDevice), facts only; the frame
//! also in viatom_bp2_ha a3d8de6 and viatom-o2ring-ble 636b5d2.
//! Devices of this family take commands that reset and erase them: none of those is written here.

use alloc::vec::Vec;

use crc::{CRC_8_SMBUS, Crc, Table};

use super::framer::{self, Framing, Step, to_next};
use crate::decimal::Decimal;
use crate::file::lepu_er3::{CHANNELS_MAX, LeadType, Rows};
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};

/// The most octets of content that a frame is believed to have: a second of eight channels at 250 Hz, twice.
pub const CONTENT_OCTETS_MAX: usize = 8_192;
const START: u8 = 0xa5;
/// Start, command twice, kind, sequence, length; CRC.
const FRAME_OCTETS_MIN: usize = 8;
/// x^8 + x^2 + x + 1, from 0.
static CRC: Crc<u8, Table<1>> = Crc::<u8, Table<1>>::new(&CRC_8_SMBUS);

/// What a frame asks for or answers. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameCommand(pub u8);

impl FrameCommand {
    /// The signal since the last answer, and the device's state: ER1, ER2 and the first ER3.
    pub const LIVE: Self = Self(0x03);
    /// The same of an ER3, numbered and packed.
    pub const LIVE_NUMBERED: Self = Self(0x06);
    /// What the device is, and its clock.
    pub const INFORMATION: Self = Self(0xe1);
}

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What it is about.
    pub command: FrameCommand,
    /// 0 in a request, 1 in an answer that is one.
    pub kind: u8,
    /// Counts requests, and wraps.
    pub sequence: u8,
    /// What the command says it is.
    pub content: Vec<u8>,
}

impl Frame {
    /// Decodes one frame.
    ///
    /// Shape: A5 · command (1) · its complement (1) · kind (1) · sequence (1) · length (2, little-endian) · content · CRC-8 with
    /// polynomial 07 over all before it.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`], [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start, a complement that is none, a length above [`CONTENT_OCTETS_MAX`].
    /// Source: see the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.u8("start")? != START {
            return Err(DecodeError::Value { field: "start" });
        }
        let command = r.u8("command")?;
        if r.u8("complement")? != !command {
            return Err(DecodeError::Value { field: "complement" });
        }
        let (kind, sequence, length) = (r.u8("kind")?, r.u8("sequence")?, usize::from(r.u16("length")?));
        if length > CONTENT_OCTETS_MAX {
            return Err(DecodeError::Value { field: "length" });
        }
        let content = r.take(length, "content")?.to_vec();
        let covered = octets.get(..octets.len() - r.rest().len()).unwrap_or_default();
        let crc = r.u8("crc")?;
        r.finish()?;
        if crc != CRC.checksum(covered) {
            return Err(DecodeError::Checksum);
        }
        Ok(Self { command: FrameCommand(command), kind, sequence, content })
    }

    /// The octets of it; content past [`CONTENT_OCTETS_MAX`] is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let content = self.content.get(..CONTENT_OCTETS_MAX).unwrap_or(&self.content);
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        let mut octets = alloc::vec![START, self.command.0, !self.command.0, self.kind, self.sequence];
        octets.extend(length.to_le_bytes());
        octets.extend(content);
        octets.push(CRC.checksum(&octets));
        octets
    }

    /// A request for the live signal: 125 samples a second.
    #[must_use]
    pub fn live(sequence: u8) -> Self {
        Self { command: FrameCommand::LIVE, kind: 0, sequence, content: alloc::vec![LIVE_RATE] }
    }

    /// A request for the numbered live signal.
    #[must_use]
    pub const fn live_numbered(sequence: u8) -> Self {
        Self { command: FrameCommand::LIVE_NUMBERED, kind: 0, sequence, content: Vec::new() }
    }

    /// A request for what the device is.
    #[must_use]
    pub const fn information(sequence: u8) -> Self {
        Self { command: FrameCommand::INFORMATION, kind: 0, sequence, content: Vec::new() }
    }
}

/// The octet of a live request: 125 Hz.
const LIVE_RATE: u8 = 0x7d;

/// The framing of a stream of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

/// Finds frames in a stream, however notifications split it.
pub type Framer = framer::Framer<Frames>;

impl Framing for Frames {
    type Found = framer::Found<Frame>;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Self::Found> {
        let length = match rest {
            [START, command, complement, ..] if *complement != !*command => {
                return Step::Skip(to_next(rest, |octet| octet == START));
            }
            [START, _, _, _, _, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])),
            [START, ..] => return Step::Wait,
            _ => return Step::Skip(to_next(rest, |octet| octet == START)),
        };
        if length > CONTENT_OCTETS_MAX {
            return Step::Skip(1);
        }
        let octets = FRAME_OCTETS_MIN + length;
        match rest.get(..octets).map(Frame::decode) {
            None => Step::Wait,
            Some(Ok(frame)) => Step::take(octets, framer::Found::Frame(frame)),
            Some(Err(_)) => Step::Skip(1),
        }
    }

    fn skipped(octets: u64) -> Self::Found {
        framer::Found::Skipped(octets)
    }
}

/// How the battery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Battery {
    /// 0 in use, 1 charging, 2 full, 3 low.
    pub state: u8,
    /// Percent.
    pub percent: u8,
}

impl Battery {
    /// The state that says that it is low.
    pub const LOW: u8 = 3;
}

/// What an ER1, ER2 or first ER3 answers to [`Frame::live`]. Shape, units, errors and source: see [`Live::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    /// Beats a minute; 0 where it knows none.
    pub heart_rate: u16,
    /// Bit 0 an R wave, bit 1 a bad, bit 2 a weak signal.
    pub flags: u8,
    /// The battery.
    pub battery: Battery,
    /// How long it has been recording, s.
    pub seconds: u32,
    /// Bits 0–3 now, 4–7 before: 0 idle, 1 preparing, 2 recording, 3 saving, 4 saved, 5 shorter than 30 s, 7 lead off.
    pub state: u8,
    /// Channels of a row: 1, or 4.
    pub channels: usize,
    /// Interleaved samples since the last answer; [`Live::LEAD_OFF`] where the lead is off.
    pub samples: Vec<i16>,
}

impl Live {
    /// The sample that means that the lead is off.
    pub const LEAD_OFF: i16 = i16::MAX;
    /// Samples a second and channel.
    pub const RATE_HZ: u16 = 125;
    /// One digit is 1.0035 × 1800 / (4096 × 178.74) mV = 3345/1355776 mV, here to 10^-15 mV, half-even.
    pub const SCALE: Decimal = Decimal::new(2_467_221_723_943, -15);
    /// Octets of the state before the samples.
    const STATE_OCTETS: usize = 20;

    /// Decodes the content of the answer.
    ///
    /// Shape: heart rate (2) · flags with the battery's state in bits 6–7 (1) · battery (1) · seconds (4) · state (1) · reserved
    /// (11) · number of rows (2) · rows of one or of four signed 16-bit samples; little-endian.
    /// Units: /min, %, s; digits of [`Live::SCALE`] mV.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Value`] where the samples are not as many as the rows need, of either
    /// number of channels.
    /// Source: see the module.
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(content);
        let mut state = Reader::new(r.take(Self::STATE_OCTETS, "state")?);
        let (heart_rate, flags, percent) = (state.u16("heart rate")?, state.u8("flags")?, state.u8("battery")?);
        let (seconds, run) = (state.u32("seconds")?, state.u8("state")?);
        let rows = usize::from(r.u16("number of rows")?);
        let samples = r.rest();
        let channels = [1, 4].into_iter().find(|channels| samples.len() == rows * channels * 2);
        let battery = Battery { state: flags >> 6, percent };
        Ok(Self {
            heart_rate,
            flags: flags & !BATTERY_STATE,
            battery,
            seconds,
            state: run,
            channels: channels.ok_or(DecodeError::Value { field: "number of rows" })?,
            samples: samples.chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(i16::from_le_bytes).collect(),
        })
    }

    /// The content of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        content.extend(self.heart_rate.to_le_bytes());
        content.extend([self.flags & !BATTERY_STATE | self.battery.state << 6, self.battery.percent]);
        content.extend(self.seconds.to_le_bytes());
        content.push(self.state);
        content.resize(Self::STATE_OCTETS, 0);
        content.extend(u16::try_from(self.samples.len() / self.channels.max(1)).unwrap_or(0).to_le_bytes());
        content.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        content
    }

    /// Whether the device says that its lead is off.
    #[must_use]
    pub const fn lead_off(&self) -> bool {
        self.state & 0b111 == 0b111
    }

    /// Whether it calls its signal bad or weak.
    #[must_use]
    pub const fn poor(&self) -> bool {
        self.flags & 0b110 != 0
    }
}

const BATTERY_STATE: u8 = 0b1100_0000;

/// What an ER3 answers to [`Frame::live_numbered`]. Shape, units, errors and source: see [`LiveNumbered::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LiveNumbered {
    /// Beats a minute; 0 where it knows none.
    pub heart_rate: u16,
    /// The battery.
    pub battery: Battery,
    /// Whether a cable is in.
    pub cable: bool,
    /// How long it has been recording, s.
    pub seconds: u32,
    /// The device's clock; `None` where it is not set.
    pub time: Option<DateTime>,
    /// Which cable.
    pub lead_type: LeadType,
    /// Bits 0–11: I, II, III, aVR, aVL, aVF, V1–V6 is off.
    pub leads_off: u16,
    /// Number of the first row.
    pub first: u32,
    /// Interleaved samples of the channels of the cable, in the order of [`LeadType::channels`].
    pub samples: Vec<i16>,
}

impl LiveNumbered {
    /// Samples a second and channel.
    pub const RATE_HZ: u16 = 250;
    const STATE_OCTETS: usize = 48;
    /// Serial number of the cable.
    const CABLE_OCTETS: usize = 15;

    /// Decodes the content of the answer.
    ///
    /// Shape: heart rate (2) · temperature (2), SpO2 (1), perfusion (1), pulse (2), respiration (2) of what may be plugged in,
    /// not taken in · state: bits 0–1 battery, 2 cable (2) · battery (1) · seconds (4) · year (2), month, day, hour, minute,
    /// second (1 each) · lead type (1) · the cable's serial number (15), not taken in · leads off (2) · reserved (6) · number of
    /// the first row (4) · number of rows (2) · rows as in a file ([`Rows::next`]), the first in full; little-endian.
    /// Units: /min, %, s; digits of [`crate::file::lepu_er3::SCALE`] mV.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`] where the rows are not as many as it says;
    /// [`DecodeError::Value`] for an unknown lead type with rows, or as [`Rows::next`].
    /// Source: see the module.
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(content);
        let mut state = Reader::new(r.take(Self::STATE_OCTETS, "state")?);
        let heart_rate = state.u16("heart rate")?;
        state.take(8, "what is plugged in")?;
        let flags = state.u16("flags")?;
        let (percent, seconds) = (state.u8("battery")?, state.u32("seconds")?);
        let time = DateTime::decode(state.take(DateTime::OCTETS, "time")?).ok().filter(DateTime::date_known);
        let lead_type = LeadType(state.u8("lead type")?);
        state.take(Self::CABLE_OCTETS, "cable")?;
        let leads_off = state.u16("leads off")?;
        let (first, rows) = (r.u32("number of the first row")?, r.u16("number of rows")?);
        let mut samples = Vec::new();
        if rows > 0 {
            let channels = lead_type.channels().ok_or(DecodeError::Value { field: "lead type" })?.len();
            let mut decoder = Rows::new(channels);
            for _ in 0..rows {
                let row = decoder.next(&mut r)?;
                samples.extend(row.iter().map(|sample| i16::try_from(*sample).unwrap_or(Live::LEAD_OFF)));
            }
        }
        r.finish()?;
        let battery = Battery { state: flags.to_le_bytes()[0] & 0b11, percent };
        Ok(Self { heart_rate, battery, cable: flags & CABLE != 0, seconds, time, lead_type, leads_off, first, samples })
    }

    /// The content of it, with nothing else plugged in; a lead type that is not known has no rows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let channels = self.lead_type.channels().map_or(0, <[_]>::len);
        let mut content = Vec::new();
        content.extend(self.heart_rate.to_le_bytes());
        content.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0]);
        content.extend((u16::from(self.battery.state & 0b11) | if self.cable { CABLE } else { 0 }).to_le_bytes());
        content.push(self.battery.percent);
        content.extend(self.seconds.to_le_bytes());
        content.extend(self.time.map_or([0; DateTime::OCTETS], |time| time.encode()));
        content.push(self.lead_type.0);
        content.extend([0; Self::CABLE_OCTETS]);
        content.extend(self.leads_off.to_le_bytes());
        content.resize(Self::STATE_OCTETS, 0);
        content.extend(self.first.to_le_bytes());
        let rows = self.samples.len().checked_div(channels).unwrap_or(0);
        content.extend(u16::try_from(rows).unwrap_or(0).to_le_bytes());
        let mut encoder = Rows::new(channels);
        for (index, row) in self.samples.chunks_exact(channels.max(1)).take(rows).enumerate() {
            encoder.write(row, index == 0, &mut content);
        }
        content
    }

    /// The channels of its cable whose lead is off by its flags, as bits in the order of a row. A limb off takes the chest leads
    /// with it, which are measured against the limbs.
    #[must_use]
    pub fn channels_off(&self) -> u32 {
        let off = |lead: Mdc| (0..12).any(|bit| self.leads_off >> bit & 1 == 1 && Mdc::ECG_TWELVE_LEADS.get(bit) == Some(&lead));
        let limb = off(Mdc::ECG_I) || off(Mdc::ECG_II);
        let channels = self.lead_type.channels().unwrap_or_default().iter().take(CHANNELS_MAX).enumerate();
        channels.fold(0, |bits, (at, lead)| {
            let chest = lead.is_some_and(|lead| lead != Mdc::ECG_I && lead != Mdc::ECG_II);
            bits | u32::from(!self.cable || lead.is_some_and(off) || (chest && limb)) << at
        })
    }
}

const CABLE: u16 = 0b100;

/// What a device answers to [`Frame::information`]. Shape, units, errors and source: see [`Information::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Information {
    /// Number of the device's type.
    pub device_type: u16,
    /// Its clock; `None` where it is not set.
    pub time: Option<DateTime>,
    /// Its serial number.
    pub serial: Vec<u8>,
}

impl Information {
    /// Decodes the content of the answer.
    ///
    /// Shape: hardware (1) · firmware (4) · boot loader (4) · branch (8) · file version (1) · reserved (2) · device type (2) ·
    /// protocol (2) · year (2), month, day, hour, minute, second (1 each) · most octets (2) · reserved (4) · length of the serial
    /// number (1) · serial number · reserved; little-endian.
    /// Units: none. Errors: [`DecodeError::Truncated`]; what follows the serial number is reserved and let pass.
    /// Source: LepuBle, LepuDevice; seen in vector V04.
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(content);
        r.take(20, "versions")?;
        let device_type = r.u16("device type")?;
        r.take(2, "protocol")?;
        let time = DateTime::decode(r.take(DateTime::OCTETS, "time")?).ok().filter(DateTime::date_known);
        r.take(6, "reserved")?;
        let length = r.u8("length of the serial number")?;
        Ok(Self { device_type, time, serial: r.take(length.into(), "serial number")?.to_vec() })
    }

    /// The content of it, without versions.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let serial = self.serial.get(..usize::from(u8::MAX)).unwrap_or(&self.serial);
        let mut content = alloc::vec![0; 20];
        content.extend(self.device_type.to_le_bytes());
        content.extend([1, 0]);
        content.extend(self.time.map_or([0; DateTime::OCTETS], |time| time.encode()));
        content.extend([0, 2, 0, 0, 0, 0, u8::try_from(serial.len()).unwrap_or(u8::MAX)]);
        content.extend(serial);
        content.extend([0; 4]);
        content
    }
}

#[cfg(test)]
mod tests;
