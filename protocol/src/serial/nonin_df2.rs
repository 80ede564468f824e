//! Nonin serial data format 2: 75 frames a second of pulse waveform, and in every 25 of them SpO2 and pulse rate.
//!
//! Port: 9600 baud, 8 data bits, no parity. Source: Nonin, document 6470-000-01 (serial data formats); status bits as in
//! the tests of pufferfish-software f1e5e47 (Apache-2).

use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{Framing, Step};

/// Frames in a packet; the first has the sync bit.
pub const FRAMES_PER_PACKET: usize = 25;
/// Frames a second.
pub const FRAMES_PER_SECOND: u32 = 75;

/// STATUS octet of a frame. Shape: 8 bits, bit 7 always set. Units, errors: none. Source: as the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameStatus(pub u8);

impl FrameStatus {
    /// Bit 7: always set.
    pub const ALWAYS: u8 = 1 << 7;
    /// Bit 6: the sensor is not plugged in, or does not work.
    pub const SENSOR_DISCONNECT: u8 = 1 << 6;
    /// Bit 5: this pulse is marked as artifact.
    pub const ARTIFACT: u8 = 1 << 5;
    /// Bit 4: no good pulse signal for some beats.
    pub const OUT_OF_TRACK: u8 = 1 << 4;
    /// Bit 3: the sensor gives unusable data.
    pub const SENSOR_ALARM: u8 = 1 << 3;
    /// Bit 2: low perfusion of this pulse; with [`FrameStatus::GREEN`]: marginal.
    pub const RED: u8 = 1 << 2;
    /// Bit 1: good perfusion of this pulse; with [`FrameStatus::RED`]: marginal.
    pub const GREEN: u8 = 1 << 1;
    /// Bit 0: the first frame of a packet.
    pub const SYNC: u8 = 1 << 0;

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether it is a packet's first frame.
    #[must_use]
    pub const fn sync(self) -> bool {
        self.has(Self::SYNC)
    }

    /// Perfusion of the pulse, where the frame states one.
    #[must_use]
    pub const fn perfusion(self) -> Option<Perfusion> {
        match (self.has(Self::GREEN), self.has(Self::RED)) {
            (true, true) => Some(Perfusion::Yellow),
            (true, false) => Some(Perfusion::Green),
            (false, true) => Some(Perfusion::Red),
            (false, false) => None,
        }
    }
}

/// Amplitude of a pulse. Source: as the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Perfusion {
    /// High quality.
    Green,
    /// Marginal.
    Yellow,
    /// Low.
    Red,
}

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What the sensor meets.
    pub status: FrameStatus,
    /// The pulse waveform, 0–255, no unit.
    pub pleth: u8,
    /// What this octet is depends on the frame's place in its packet.
    pub float: u8,
}

impl Frame {
    /// Octets of a frame.
    pub const OCTETS: usize = 5;

    /// Decodes one frame.
    ///
    /// Shape: 01 · STATUS · PLETH · FLOAT · CHK, the sum of the four before it modulo 256; 5 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another first octet or a
    /// STATUS without bit 7; [`DecodeError::Checksum`].
    /// Source: Nonin 6470-000-01, data format 2.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let start = r.u8("start")?;
        let frame = Self { status: FrameStatus(r.u8("status")?), pleth: r.u8("pleth")?, float: r.u8("float")? };
        let checksum = r.u8("checksum")?;
        r.finish()?;
        match () {
            () if start != START => Err(DecodeError::Value { field: "start" }),
            () if !frame.status.has(FrameStatus::ALWAYS) => Err(DecodeError::Value { field: "status" }),
            () if checksum != frame.checksum() => Err(DecodeError::Checksum),
            () => Ok(frame),
        }
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::OCTETS] {
        [START, self.status.0, self.pleth, self.float, self.checksum()]
    }

    const fn checksum(&self) -> u8 {
        START.wrapping_add(self.status.0).wrapping_add(self.pleth).wrapping_add(self.float)
    }
}

const START: u8 = 1;

/// The values of one packet: 25 frames, a third of a second. Shape, units, errors and source: see [`Packet::decode`].
///
/// An absent value (pulse 511, SpO2 127) is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Pulse rate, average of 4 beats, /min.
    pub heart_rate: Option<u16>,
    /// SpO2, average of 4 beats, %.
    pub spo2: Option<u8>,
    /// Firmware revision of the oximeter.
    pub firmware: u8,
    /// The oximeter's packet counter, 14 bits.
    pub timer: u16,
    /// STAT2: see [`Packet::SMART_POINT`].
    pub status2: u8,
    /// SpO2 as the display holds it, %.
    pub spo2_display: Option<u8>,
    /// SpO2, fast response, %.
    pub spo2_fast: Option<u8>,
    /// SpO2, beat to beat, %.
    pub spo2_beat_to_beat: Option<u8>,
    /// Pulse rate, average of 8 beats, /min.
    pub heart_rate_extended: Option<u16>,
    /// SpO2, average of 8 beats, %.
    pub spo2_extended: Option<u8>,
    /// SpO2, average of 8 beats, as the display holds it, %.
    pub spo2_extended_display: Option<u8>,
    /// Pulse rate as the display holds it, /min.
    pub heart_rate_display: Option<u16>,
    /// Pulse rate, average of 8 beats, as the display holds it, /min.
    pub heart_rate_extended_display: Option<u16>,
    /// STATUS of each frame.
    pub status: [FrameStatus; FRAMES_PER_PACKET],
    /// The pulse waveform.
    pub pleth: [u8; FRAMES_PER_PACKET],
}

impl Packet {
    /// Bit of [`Packet::status2`]: the values are of the SmartPoint quality.
    pub const SMART_POINT: u8 = 1 << 5;
    /// Octets of a packet.
    pub const OCTETS: usize = FRAMES_PER_PACKET * Frame::OCTETS;

    /// Takes the values out of a packet's 25 frames.
    ///
    /// Shape: FLOAT of frame 1–2 heart rate, 3 SpO2, 4 firmware revision, 6–7 timer, 8 STAT2, 9 SpO2-D, 10 SpO2 fast,
    /// 11 SpO2 beat to beat, 14–15 E-HR, 16 E-SpO2, 17 E-SpO2-D, 20–21 HR-D, 22–23 E-HR-D; the others are reserved. Of two
    /// octets the first is the more significant, and each has 7 bits.
    /// Units: SpO2 in `%`, heart rates in `/min`.
    /// Errors: [`DecodeError::Value`] where the sync bit is not in the first frame, and there only.
    /// Source: Nonin 6470-000-01, data format 2.
    pub fn decode(frames: &[Frame; FRAMES_PER_PACKET]) -> Result<Self, DecodeError> {
        if frames.iter().enumerate().any(|(place, frame)| frame.status.sync() != (place == 0)) {
            return Err(DecodeError::Value { field: "sync" });
        }
        let floats = frames.map(|frame| frame.float);
        let [hr_msb, hr_lsb, spo2, firmware, _, timer_msb, timer_lsb, status2, spo2_d, fast, beat, _, _, rest @ ..] = floats;
        let [e_hr_msb, e_hr_lsb, e_spo2, e_spo2_d, _, _, hr_d_msb, hr_d_lsb, e_hr_d_msb, e_hr_d_lsb, _, _] = rest;
        Ok(Self {
            heart_rate: heart_rate(hr_msb, hr_lsb),
            spo2: saturation(spo2),
            firmware,
            timer: u16::from(timer_msb & 0x7f) << 7 | u16::from(timer_lsb & 0x7f),
            status2,
            spo2_display: saturation(spo2_d),
            spo2_fast: saturation(fast),
            spo2_beat_to_beat: saturation(beat),
            heart_rate_extended: heart_rate(e_hr_msb, e_hr_lsb),
            spo2_extended: saturation(e_spo2),
            spo2_extended_display: saturation(e_spo2_d),
            heart_rate_display: heart_rate(hr_d_msb, hr_d_lsb),
            heart_rate_extended_display: heart_rate(e_hr_d_msb, e_hr_d_lsb),
            status: frames.map(|frame| frame.status),
            pleth: frames.map(|frame| frame.pleth),
        })
    }

    /// The 25 frames of it; reserved octets are 0, and the sync bit stands where it belongs.
    #[must_use]
    pub fn encode(&self) -> [Frame; FRAMES_PER_PACKET] {
        let rates = [self.heart_rate, self.heart_rate_extended, self.heart_rate_display, self.heart_rate_extended_display];
        let [[hr_msb, hr_lsb], [e_msb, e_lsb], [d_msb, d_lsb], [ed_msb, ed_lsb]] = rates.map(rate_octets);
        let [timer_msb, timer_lsb] = halves(self.timer);
        let floats = [
            hr_msb,
            hr_lsb,
            saturation_octet(self.spo2),
            self.firmware,
            0,
            timer_msb,
            timer_lsb,
            self.status2,
            saturation_octet(self.spo2_display),
            saturation_octet(self.spo2_fast),
            saturation_octet(self.spo2_beat_to_beat),
            0,
            0,
            e_msb,
            e_lsb,
            saturation_octet(self.spo2_extended),
            saturation_octet(self.spo2_extended_display),
            0,
            0,
            d_msb,
            d_lsb,
            ed_msb,
            ed_lsb,
            0,
            0,
        ];
        let mut frames = [Frame { status: FrameStatus(FrameStatus::ALWAYS), pleth: 0, float: 0 }; FRAMES_PER_PACKET];
        let parts = self.status.iter().zip(self.pleth).zip(floats);
        for (place, (frame, ((status, pleth), float))) in frames.iter_mut().zip(parts).enumerate() {
            let sync = if place == 0 { FrameStatus::SYNC } else { 0 };
            *frame = Frame { status: FrameStatus(status.0 & !FrameStatus::SYNC | FrameStatus::ALWAYS | sync), pleth, float };
        }
        frames
    }

    /// The 125 octets of it, as they stand on the line.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        self.encode().iter().flat_map(Frame::encode).collect()
    }
}

const NO_HEART_RATE: u16 = 511;
const NO_SATURATION: u8 = 127;

fn heart_rate(msb: u8, lsb: u8) -> Option<u16> {
    let rate = u16::from(msb & 3) << 7 | u16::from(lsb & 0x7f);
    (rate != NO_HEART_RATE).then_some(rate)
}

fn saturation(octet: u8) -> Option<u8> {
    let saturation = octet & 0x7f;
    (saturation != NO_SATURATION).then_some(saturation)
}

fn rate_octets(rate: Option<u16>) -> [u8; 2] {
    halves(rate.unwrap_or(NO_HEART_RATE) & NO_HEART_RATE)
}

fn saturation_octet(saturation: Option<u8>) -> u8 {
    saturation.unwrap_or(NO_SATURATION) & 0x7f
}

/// Two octets of 7 bits, the more significant first.
fn halves(value: u16) -> [u8; 2] {
    let [low, _] = (value & 0x7f).to_le_bytes();
    let [high, _] = (value >> 7 & 0x7f).to_le_bytes();
    [high, low]
}

/// What a [`Framer`] finds.
pub type Found = super::framer::Found<Frame>;

/// Finds frames in a stream, however it is split: see [`Frames`].
pub type Framer = super::framer::Framer<Frames<Frame>>;

/// A frame of five octets of which the last is the sum of the others, in 25 of which a packet comes.
pub trait FiveOctets: Copy {
    /// Decodes one frame.
    fn five(octets: &[u8]) -> Result<Self, DecodeError>;
    /// Whether a frame may begin with this octet.
    fn begins(octet: u8) -> bool;
}

impl FiveOctets for Frame {
    fn five(octets: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(octets)
    }

    fn begins(octet: u8) -> bool {
        octet == START
    }
}

/// The framing of data formats 2 and 7. Shape, units, errors and source: see their frames.
///
/// The sum of four octets is a weak proof: one place in 256 fits by chance, and FLOAT is often 01. So a frame that directly
/// follows another is taken if the octet behind it begins the next one, or if frames do not go on one or two octets late,
/// as they would had that many been added inside it. After anything else a frame is taken if the one behind it fits too,
/// or if it stands in step (a multiple of 5 octets) with the last frame taken, at most [`IN_STEP_OCTETS_MAX`] back, and
/// one of the three behind it fits; of overlapping candidates the one with the most frames behind it in its step wins.
/// A corrupted frame costs itself, a lost octet the frame it stands in, an added one that or the frame before it, and
/// alternate good frames all count.
/// It waits for one octet behind a frame (1 ms, or the next frame), and for 28 octets to decide after a fault.
#[derive(Clone, Copy, Debug)]
pub struct Frames<F> {
    stage: Stage,
    of: PhantomData<F>,
}

impl<F> Default for Frames<F> {
    fn default() -> Self {
        Self { stage: Stage::Unknown, of: PhantomData }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No frame yet.
    Unknown,
    /// The next frame begins at the next octet.
    InStep,
    /// A frame was taken, then so many octets did not fit.
    Lost { skipped: usize },
}

/// How far back the last frame may be for its step to count: one packet.
pub const IN_STEP_OCTETS_MAX: usize = 125;
/// Frames in one step that are looked at.
const RUN_MAX: usize = 4;
/// Two overlapping candidates, the second with its whole run.
const WINDOW: usize = 2 * (Frame::OCTETS - 1) + RUN_MAX * Frame::OCTETS;

impl<F: FiveOctets> Framing for Frames<F> {
    type Found = super::framer::Found<F>;

    fn step(&mut self, rest: &[u8], ended: bool) -> Step<Self::Found> {
        if self.stage == Stage::InStep {
            match (F::five(rest.get(..Frame::OCTETS).unwrap_or(rest)), rest.get(Frame::OCTETS)) {
                (_, None) if !ended => return Step::Wait,
                (Ok(frame), None) => return Step::take(Frame::OCTETS, super::framer::Found::Frame(frame)),
                (Ok(frame), Some(next)) if F::begins(*next) => {
                    return Step::take(Frame::OCTETS, super::framer::Found::Frame(frame));
                }
                _ => self.stage = Stage::Lost { skipped: 0 },
            }
        }
        if rest.len() < WINDOW && !ended {
            return Step::Wait;
        }
        let before = self.start(rest);
        match before.and_then(|before| Some((before, first_frame::<F>(rest.get(before..)?)?))) {
            Some((before, frame)) => {
                self.stage = Stage::InStep;
                Step::Take { before, octets: Frame::OCTETS, found: super::framer::Found::Frame(frame) }
            }
            None => {
                // None of the first five places begins a frame.
                let none = rest.len().min(Frame::OCTETS);
                if let Stage::Lost { skipped } = &mut self.stage {
                    *skipped = skipped.saturating_add(none);
                }
                Step::Skip(none)
            }
        }
    }

    fn skipped(octets: u64) -> Self::Found {
        super::framer::Found::Skipped(octets)
    }
}

impl<F: FiveOctets> Frames<F> {
    /// Where the next frame begins, if within the first five places.
    fn start(&self, rest: &[u8]) -> Option<usize> {
        let candidate = |at: usize| {
            let mut fits = rest.get(at..)?.chunks_exact(Frame::OCTETS).take(RUN_MAX).map(|frame| F::five(frame).is_ok());
            let (first, second) = (fits.next()?, fits.next().unwrap_or(false));
            let behind = usize::from(second) + fits.filter(|fits| *fits).count();
            let skipped = if let Stage::Lost { skipped } = self.stage { Some(skipped.saturating_add(at)) } else { None };
            let in_step = skipped.is_some_and(|skipped| skipped.is_multiple_of(Frame::OCTETS) && skipped <= IN_STEP_OCTETS_MAX);
            let alone = skipped == Some(0) && !LATE.iter().any(|late| rest.get(*late..).is_some_and(two_frames::<F>));
            (first && (second || (in_step && (behind > 0 || alone)))).then_some((behind, in_step, at))
        };
        let (_, _, first) = (0..Frame::OCTETS).find_map(candidate)?;
        let overlapping = (first..first + Frame::OCTETS).filter_map(candidate);
        overlapping.max_by_key(|&(behind, in_step, at)| (behind, in_step, core::cmp::Reverse(at))).map(|(_, _, at)| at)
    }
}

/// Where frames go on if one or two octets were added inside the frame before.
const LATE: [usize; 2] = [Frame::OCTETS + 1, Frame::OCTETS + 2];

fn two_frames<F: FiveOctets>(octets: &[u8]) -> bool {
    first_frame::<F>(octets).is_some() && octets.get(Frame::OCTETS..).and_then(first_frame::<F>).is_some()
}

fn first_frame<F: FiveOctets>(octets: &[u8]) -> Option<F> {
    F::five(octets.get(..Frame::OCTETS)?).ok()
}

#[cfg(test)]
mod tests;
