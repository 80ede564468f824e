//! Two oximeters of Viatom's kinds on one sensor, a MAX30102 on I2C: a PC-60FW, which sends unasked, and an O2Ring, which
//! answers. Source: as `kit_protocol::serial::{pc60fw, o2ring}` name it; what a PC-60FW sends that nobody has explained is
//! sent here too.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use embedded_hal::i2c::I2c;
use kit_protocol::serial::o2ring::{self, Numbers};
use kit_protocol::serial::pc60fw::{Message, SAMPLES};
use kit_protocol::serial::{aa55, framer};

use super::max30102::{FIFO_SAMPLES, Light, RATE_HZ, Sensor};
use super::pulse_signal::{PulseSignal, whole};
use super::{Fault, nearest};

/// Samples a second of a PC-60FW's waveform: every other one of the sensor's.
pub const FINGER_RATE_HZ: u32 = 50;
/// Samples a second of an O2Ring's waveform.
pub const RING_RATE_HZ: u32 = 125;
/// Frames that wait to be sent; what does not fit is lost, the oldest first.
const FRAMES_MAX: usize = 32;
/// For so long an O2Ring keeps its waveform until it is asked.
pub const RING_KEEPS: Duration = Duration::from_secs(2);
/// The same in samples.
const RING_SAMPLES_MAX: usize = 250;
/// A frame of no known meaning, captured of a PC-60FW, comes once in so many numbers.
const UNEXPLAINED_EVERY: u32 = 10;
/// An answer to what it does not know.
const NOT_DONE: u8 = 0x01;

/// Octets to send, and the samples of the waveform in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What goes onto the air.
    pub octets: Vec<u8>,
    /// In order.
    pub samples: Vec<u8>,
}

/// The sensor and what is computed from it.
#[derive(Debug)]
struct Pulse<I2C> {
    sensor: Sensor<I2C>,
    signal: PulseSignal,
}

impl<I2C: I2c> Pulse<I2C> {
    fn start(bus: I2C) -> Result<Self, Fault<I2C::Error>> {
        let mut sensor = Sensor::new(bus);
        sensor.start()?;
        Ok(Self { sensor, signal: PulseSignal::default() })
    }

    /// Takes what the sensor has: for each sample the signal after it, and whether a beat was found.
    fn fetch(&mut self, mut each: impl FnMut(&PulseSignal, bool)) -> Result<(), Fault<I2C::Error>> {
        let mut samples = [Light::default(); FIFO_SAMPLES as usize];
        let mut fetched = 0;
        self.sensor.fetch(|light| {
            if let Some(slot) = samples.get_mut(fetched) {
                *slot = light;
                fetched += 1;
            }
        })?;
        for light in samples.iter().take(fetched) {
            let beat = self.signal.push(*light);
            each(&self.signal, beat);
        }
        Ok(())
    }
}

/// SpO2, pulse rate, perfusion in tenths; 0 where there is none.
fn numbers(signal: &PulseSignal) -> (u8, u16, u8) {
    let octet = |value: f32| u8::try_from(whole(value)).unwrap_or(u8::MAX);
    let tenths = signal.perfusion(8).map_or(0, |percent| octet(percent * 10.0));
    (signal.spo2(8).map_or(0, octet), signal.pulse_rate(8).map_or(0, whole), tenths)
}

/// Height of the wave with this foot and height.
fn pleth(signal: &PulseSignal, foot: f32, height: f32, most: i32) -> u8 {
    if signal.finger() { u8::try_from(nearest(foot + height * signal.wave()).clamp(0, most)).unwrap_or(0) } else { 0 }
}

/// A PC-60FW.
#[derive(Debug)]
pub struct FingerOximeter<I2C> {
    pulse: Pulse<I2C>,
    samples: u32,
    seconds: u32,
    beat: bool,
    wave: Vec<(u8, bool)>,
    sending: VecDeque<Frame>,
    lost: Vec<u8>,
}

impl<I2C: I2c> FingerOximeter<I2C> {
    /// Brings the sensor up.
    pub fn start(bus: I2C) -> Result<Self, Fault<I2C::Error>> {
        let pulse = Pulse::start(bus)?;
        let (wave, sending, lost) = (Vec::new(), VecDeque::new(), Vec::new());
        Ok(Self { pulse, samples: 0, seconds: 0, beat: false, wave, sending, lost })
    }

    /// To be called at least every 200 ms: takes what the sensor has and makes the frames that are due.
    pub fn service(&mut self) -> Result<(), Fault<I2C::Error>> {
        let Self { pulse, samples, seconds, beat, wave, sending, lost } = self;
        pulse.fetch(|signal, found| {
            *samples = samples.wrapping_add(1);
            *beat |= found;
            if samples.is_multiple_of(RATE_HZ / FINGER_RATE_HZ) {
                wave.push((pleth(signal, 30.0, 60.0, 127), core::mem::take(beat)));
            }
            if wave.len() >= SAMPLES {
                let frame = wave_frame(wave);
                wave.clear();
                queue(sending, lost, frame);
            }
            if samples.is_multiple_of(RATE_HZ) {
                *seconds = seconds.wrapping_add(1);
                for frame in each_second(signal, *seconds) {
                    queue(sending, lost, Frame { octets: frame.encode(), samples: Vec::new() });
                }
            }
        })
    }

    /// What it sends next, to whoever listens.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.sending.pop_front()
    }

    /// Nobody listens: what was to be sent is not.
    pub fn unheard(&mut self) {
        let unheard = core::mem::take(&mut self.sending);
        self.lost.extend(unheard.into_iter().flat_map(|frame| frame.samples));
    }

    /// Samples that were never sent.
    pub fn take_lost(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.lost)
    }
}

fn queue(sending: &mut VecDeque<Frame>, lost: &mut Vec<u8>, frame: Frame) {
    sending.push_back(frame);
    if sending.len() > FRAMES_MAX {
        lost.extend(sending.pop_front().into_iter().flat_map(|frame| frame.samples));
    }
}

fn wave_frame(wave: &[(u8, bool)]) -> Frame {
    let (mut pleth, mut beats) = ([0; SAMPLES], [false; SAMPLES]);
    for ((value, mark), (sample, beat)) in pleth.iter_mut().zip(&mut beats).zip(wave) {
        (*value, *mark) = (*sample, *beat);
    }
    let frame = Message::Wave { pleth, beats }.frame();
    Frame { octets: frame.map(|frame| frame.encode()).unwrap_or_default(), samples: pleth.into() }
}

fn each_second(signal: &PulseSignal, seconds: u32) -> impl Iterator<Item = aa55::Frame> {
    let (spo2, pulse_rate, perfusion_index) = numbers(signal);
    let numbers = Message::Numbers { spo2, pulse_rate, perfusion_index, rest: [0x00, 0xc0] }.frame();
    let unexplained = aa55::Frame { token: 0x0f, kind: 0x21, content: Vec::from([2, 0, 0, 0]) };
    numbers.into_iter().chain(seconds.is_multiple_of(UNEXPLAINED_EVERY).then_some(unexplained))
}

/// An O2Ring.
#[derive(Debug)]
pub struct RingOximeter<I2C> {
    pulse: Pulse<I2C>,
    battery: u8,
    /// Samples that are due, times the sensor's rate.
    due: u32,
    wave: VecDeque<u8>,
    lost: Vec<u8>,
    requests: o2ring::Framer,
}

impl<I2C: I2c> RingOximeter<I2C> {
    /// Brings the sensor up.
    pub fn start(bus: I2C) -> Result<Self, Fault<I2C::Error>> {
        let pulse = Pulse::start(bus)?;
        let (wave, lost, requests) = (VecDeque::new(), Vec::new(), o2ring::Framer::default());
        Ok(Self { pulse, battery: 90, due: 0, wave, lost, requests })
    }

    /// What the battery's gauge says, %.
    pub fn set_battery(&mut self, percent: u8) {
        self.battery = percent.min(100);
    }

    /// To be called at least every 200 ms: takes what the sensor has.
    pub fn service(&mut self) -> Result<(), Fault<I2C::Error>> {
        let Self { pulse, due, wave, lost, .. } = self;
        pulse.fetch(|signal, _beat| {
            *due += RING_RATE_HZ;
            while *due >= RATE_HZ {
                *due -= RATE_HZ;
                wave.push_back(pleth(signal, 60.0, 90.0, 200));
                if wave.len() > RING_SAMPLES_MAX {
                    lost.extend(wave.pop_front());
                }
            }
        })
    }

    /// Octets are written to it: gives its answers. What is no request of its own is met with silence.
    pub fn answer(&mut self, written: &[u8]) -> Vec<Frame> {
        let mut asked = Vec::new();
        self.requests.push(written, |found| {
            if let framer::Found::Frame(frame) = found
                && frame.request
            {
                asked.push(frame.code);
            }
        });
        asked.into_iter().map(|command| self.answer_to(command)).collect()
    }

    /// Samples that were never asked for in time.
    pub fn take_lost(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.lost)
    }

    /// What it still keeps of the waveform.
    pub fn take_wave(&mut self) -> Vec<u8> {
        self.wave.drain(..).collect()
    }

    fn answer_to(&mut self, command: u8) -> Frame {
        let (spo2, pulse_rate, perfusion_index) = numbers(&self.pulse.signal);
        let (battery, worn) = (self.battery, self.pulse.signal.finger());
        let numbers = Numbers { spo2, pulse_rate, battery, perfusion_index, worn, wave: Vec::new() };
        let (code, data, samples) = match command {
            o2ring::Frame::LIVE => (0, numbers.to_live(), Vec::new()),
            o2ring::Frame::WAVE => {
                let wave = self.take_wave();
                (0, Numbers { wave: wave.clone(), ..numbers }.to_wave(), wave)
            }
            _ => (NOT_DONE, Vec::new(), Vec::new()),
        };
        Frame { octets: o2ring::Frame { request: false, code, block: 0, data }.encode(), samples }
    }
}
