//! Serial oximeters that differ in what they say only: a MAX30102 on I2C, frames on a UART.
//!
//! Contec's CMS50D+ and Berry's BCI (five octets, the same shape, other bits), Berry's own twenty octets, Nonin's data format 8
//! (numbers once a second) and format 13 (spot checks with their time, some of them stored). Sources: as the codecs say.

use alloc::vec::Vec;

use embedded_hal::i2c::I2c;
use embedded_io::{Read, ReadReady, Write};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::serial::berry::{self, PacketStatus, RR_MILLISECONDS, Twenty};
use kit_protocol::serial::nonin_df13::{Command, SpotCheck};
use kit_protocol::serial::{bci, contec, nonin_df8};

use super::max30102::{FIFO_SAMPLES, Light, RATE_HZ, Sensor};
use super::pulse_signal::{PulseSignal, whole};
use super::{Fault, nearest};

/// What a device says, and when.
pub trait Speech {
    /// So many times a second.
    fn rate_hz(&self) -> u32;
    /// What is due now; `beat`: one was found since the last time.
    fn say(&mut self, signal: &PulseSignal, beat: bool) -> Vec<u8>;
    /// An octet came from the host: the answer to what it completes.
    fn hear(&mut self, _octet: u8) -> Vec<u8> {
        Vec::new()
    }
}

/// The firmware.
#[derive(Debug)]
pub struct OximeterLine<I2C, UART, S> {
    sensor: Sensor<I2C>,
    uart: UART,
    signal: PulseSignal,
    speech: S,
    /// Parts of a frame's time that are due, times the sensor's rate.
    due: u32,
    beat: bool,
}

impl<I2C: I2c, UART: Write + Read + ReadReady, S: Speech> OximeterLine<I2C, UART, S> {
    /// Brings the sensor up.
    pub fn start(bus: I2C, uart: UART, speech: S) -> Result<Self, Fault<I2C::Error>> {
        let mut sensor = Sensor::new(bus);
        sensor.start()?;
        Ok(Self { sensor, uart, signal: PulseSignal::default(), speech, due: 0, beat: false })
    }

    /// What it says, with what it remembers.
    pub const fn speech(&self) -> &S {
        &self.speech
    }

    /// To be called at least every 200 ms: takes what the sensor has and sends what is due.
    pub fn service(&mut self) -> Result<(), Fault<I2C::Error>> {
        while self.uart.read_ready().map_err(|_| Fault::Uart)? {
            let mut octet = [0];
            if self.uart.read(&mut octet).map_err(|_| Fault::Uart)? == 0 {
                break;
            }
            let answer = self.speech.hear(octet[0]);
            self.uart.write_all(&answer).map_err(|_| Fault::Uart)?;
        }
        let mut samples = [Light::default(); FIFO_SAMPLES as usize];
        let mut count = 0;
        self.sensor.fetch(|light| {
            if let Some(slot) = samples.get_mut(count) {
                *slot = light;
                count += 1;
            }
        })?;
        for light in samples.iter().take(count) {
            self.beat |= self.signal.push(*light);
            self.due += self.speech.rate_hz();
            if self.due >= RATE_HZ {
                self.due -= RATE_HZ;
                let said = self.speech.say(&self.signal, core::mem::take(&mut self.beat));
                self.uart.write_all(&said).map_err(|_| Fault::Uart)?;
            }
        }
        Ok(())
    }
}

fn octet(value: f32) -> Option<u8> {
    u8::try_from(whole(value)).ok()
}

/// The waveform of seven bits; flat without a finger.
fn wave(signal: &PulseSignal, most: i32) -> u8 {
    if signal.finger() { u8::try_from(nearest(40.0 + 50.0 * signal.wave()).clamp(0, most)).unwrap_or(0) } else { 0 }
}

/// Whose five octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Five {
    /// Contec's CMS50D+: 60 a second.
    Contec,
    /// Berry's BCI: 100 a second.
    Berry,
}

impl Speech for Five {
    fn rate_hz(&self) -> u32 {
        match self {
            Self::Contec => contec::FRAMES_PER_SECOND,
            Self::Berry => berry::BCI_FRAMES_PER_SECOND,
        }
    }

    fn say(&mut self, signal: &PulseSignal, beat: bool) -> Vec<u8> {
        let (finger, tracking) = (signal.finger(), signal.tracking());
        // Contec says in the first octet that the finger is out, Berry in the third.
        let (out_status, out_bar) = match self {
            Self::Contec => (0x10, 0x00),
            Self::Berry => (0x10, 0x10),
        };
        let (status, bar) = match (finger, tracking) {
            (false, _) => (out_status, out_bar),
            (true, false) => (0, 0x20),
            (true, true) => (8, u8::try_from(nearest(15.0 * signal.wave()).clamp(0, 15)).unwrap_or(0)),
        };
        let beat = if beat { 0x40 } else { 0 };
        let frame = bci::Frame {
            status: 0x80 | status | beat,
            pleth: wave(signal, 127),
            bar,
            pulse_rate: signal.pulse_rate(8).and_then(octet).unwrap_or(0xff),
            spo2: signal.spo2(4).and_then(octet).unwrap_or(0x7f),
        };
        frame.encode().into()
    }
}

/// Berry's twenty octets.
#[derive(Clone, Copy, Debug)]
pub struct Berry {
    /// Counts packets.
    index: u8,
    /// Packets a second; 0: it was told to stop.
    frequency: u8,
}

impl Default for Berry {
    fn default() -> Self {
        Self { index: 0, frequency: 100 }
    }
}

impl Speech for Berry {
    fn rate_hz(&self) -> u32 {
        self.frequency.into()
    }

    fn say(&mut self, signal: &PulseSignal, beat: bool) -> Vec<u8> {
        let status = match (signal.finger(), signal.tracking()) {
            (false, _) => 2,
            (true, false) => 4,
            (true, true) if beat => PacketStatus::BEAT,
            (true, true) => 0,
        };
        let index = |value: f32| octet(value * 10.0).filter(|index| *index > 0);
        let rr = signal.pulse_rate(1).map_or(0, |rate| whole(60_000.0 / rate) / RR_MILLISECONDS);
        let packet = berry::Packet {
            index: self.index,
            status: PacketStatus(status),
            spo2: signal.spo2(4).and_then(octet),
            spo2_real_time: signal.spo2(1).and_then(octet),
            pulse_rate: signal.pulse_rate(8).and_then(octet),
            pulse_rate_real_time: signal.pulse_rate(1).and_then(octet),
            rr,
            perfusion_index: signal.perfusion(4).and_then(index),
            perfusion_index_real_time: signal.perfusion(1).and_then(index),
            pleth: wave(signal, 100),
            adc: nearest(1_000.0 * signal.wave()),
            battery: 80,
            frequency: self.frequency,
        };
        self.index = self.index.wrapping_add(1);
        Twenty::Packet(packet).encode()
    }

    fn hear(&mut self, octet: u8) -> Vec<u8> {
        let text = |hardware, text: &str| Twenty::Version { hardware, text: text.into() }.encode();
        match berry::Command(octet) {
            berry::Command::HZ_50 => self.frequency = 50,
            berry::Command::HZ_100 => self.frequency = 100,
            berry::Command::HZ_1 => self.frequency = 1,
            berry::Command::STOP => self.frequency = 0,
            berry::Command::SOFTWARE => return text(false, "V1.04.00.36"),
            berry::Command::HARDWARE => return text(true, "V2.0"),
            // 200 a second is more than this sensor samples.
            _ => {}
        }
        Vec::new()
    }
}

/// Nonin's data format 8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eight;

impl Speech for Eight {
    fn rate_hz(&self) -> u32 {
        1
    }

    fn say(&mut self, signal: &PulseSignal, _beat: bool) -> Vec<u8> {
        let (status, status2) = match (signal.finger(), signal.tracking()) {
            (false, _) => (0x20, 0x08),
            (true, false) => (0x20, 0x00),
            (true, true) => (0x00, 0x20),
        };
        let frame = nonin_df8::Frame {
            status,
            heart_rate: signal.pulse_rate(4).map_or(511, whole),
            spo2: signal.spo2(4).and_then(octet).unwrap_or(127),
            status2,
        };
        frame.encode().into()
    }
}

/// A spot check is made of a finger that was followed for so long, s …
const STEADY_SECONDS: u32 = 10;
/// … and another so long after it, s.
const AGAIN_SECONDS: u32 = 30;
const COMMAND_OCTETS_MAX: usize = 10;

/// Nonin's data format 13, as in a 9560: what it stored, and then a spot check now and then.
#[derive(Clone, Debug)]
pub struct Thirteen {
    /// Its clock, s of 1970; `None` where it was never set.
    clock: Option<i64>,
    stored: Vec<SpotCheck>,
    steady: u32,
    selected: bool,
    command: Vec<u8>,
}

impl Thirteen {
    /// With these in its memory, and its clock at this time.
    #[must_use]
    pub const fn new(stored: Vec<SpotCheck>, clock: Option<i64>) -> Self {
        Self { clock, stored, steady: 0, selected: true, command: Vec::new() }
    }

    /// What its memory still holds.
    #[must_use]
    pub fn stored(&self) -> &[SpotCheck] {
        &self.stored
    }

    /// Its clock, s of 1970.
    #[must_use]
    pub const fn clock(&self) -> Option<i64> {
        self.clock
    }

    fn obey(&mut self) -> u8 {
        match self.command.as_slice() {
            [_, 0x70, ..] => {
                let format = self.command.get(4).copied();
                // It has the other formats too, and what they say is another device here.
                self.selected |= format == Some(13);
                if format == Some(13) { Command::ACK } else { Command::NAK }
            }
            [_, 0x72, _, year, month, day, hour, minute, second, _] => {
                let year = 2_000 + u16::from(*year);
                let time = DateTime { year, month: *month, day: *day, hour: *hour, minute: *minute, second: *second };
                match DateTime::decode(&time.encode()).ok().and_then(|time| time.seconds()) {
                    Some(seconds) => {
                        self.clock = Some(seconds);
                        Command::ACK
                    }
                    None => Command::NAK,
                }
            }
            _ => Command::NAK,
        }
    }
}

impl Speech for Thirteen {
    fn rate_hz(&self) -> u32 {
        1
    }

    fn say(&mut self, signal: &PulseSignal, _beat: bool) -> Vec<u8> {
        self.clock = self.clock.map(|seconds| seconds + 1);
        if !self.selected {
            return Vec::new();
        }
        if !self.stored.is_empty() {
            let mut check = self.stored.remove(0);
            check.status |= SpotCheck::FROM_MEMORY;
            return check.encode();
        }
        self.steady = if signal.tracking() { self.steady + 1 } else { 0 };
        if self.steady < STEADY_SECONDS || !(self.steady - STEADY_SECONDS).is_multiple_of(AGAIN_SECONDS) {
            return Vec::new();
        }
        let unset = DateTime { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
        let check = SpotCheck {
            time: self.clock.and_then(DateTime::from_seconds).unwrap_or(unset),
            hundredths: 0,
            status: SpotCheck::SMART_POINT,
            heart_rate: signal.pulse_rate(4).map(whole),
            spo2: signal.spo2(4).and_then(octet),
        };
        check.encode()
    }

    fn hear(&mut self, octet: u8) -> Vec<u8> {
        if self.command.is_empty() && octet != 0x02 {
            return Vec::new();
        }
        self.command.push(octet);
        // 02 · code · length · data · 03; the length of a format's choice counts itself out by one octet more.
        let whole = match self.command.get(1) {
            Some(0x70) => 6,
            Some(0x72) => 10,
            Some(_) => 0,
            None => COMMAND_OCTETS_MAX,
        };
        if self.command.len() < whole {
            return Vec::new();
        }
        let answer = if octet == 0x03 { self.obey() } else { Command::NAK };
        self.command.clear();
        Vec::from([answer])
    }
}
