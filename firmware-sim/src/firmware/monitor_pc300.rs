//! A multiparameter monitor as the PC-300 is: cuff with pump and valve, thermometer, oximeter; its frames on a UART.
//!
//! A cuff is inflated when the patient presses the button, and never by a word from the line.
//! Time is milliseconds since power-up. Source: LepuBle 46c1de4 (facts only) for frames, errors and limits.

use alloc::vec::Vec;

use embedded_hal::i2c::I2c;
use embedded_hal::pwm::SetDutyCycle;
use embedded_io::{Read, ReadReady, Write};
use kit_protocol::serial::aa55::{self, Frame};
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::pc300::{
    BloodPressure, BloodPressureError, CuffPressure, DeviceInformation, Message, Oximetry, Temperature, TemperatureState,
};

use super::cuff::{Cuff, Drives, Trouble};
use super::max30102::{FIFO_SAMPLES, Light, Sensor};
use super::oscillometry::Estimate;
use super::pulse_signal::{PulseSignal, whole};
use super::tmp117::Thermometer;
use super::{Fault, nearest};

/// The pressure is told so often, ms.
const TOLD_MS: u64 = 200;
/// A thermometer that found no value after so long says so.
const TEMPERATURE_MAX_MS: u64 = 60_000;
/// A temperature is found when so many conversions in a row …
const STEADY_CONVERSIONS: u8 = 4;
/// … differ from the one before by no more, 1/128 °C.
const STEADY_DIGITS: u16 = 1;
/// SpO2 and pulse come so often, ms.
const OXIMETRY_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Warmth {
    Idle,
    Measuring { since_ms: u64, before: i16, steady: u8 },
}

/// The firmware, on the buses of oximeter, thermometer and pressure sensor.
#[derive(Debug)]
pub struct MonitorPc300<O, T, G, P, V, U> {
    oximeter: Sensor<O>,
    thermometer: Thermometer<T>,
    cuff: Cuff<G, P, V>,
    uart: U,
    signal: PulseSignal,
    pleth: Vec<u8>,
    samples: u32,
    last: Option<Result<Estimate, BloodPressureError>>,
    told_ms: u64,
    warmth: Warmth,
    next_oximetry_ms: u64,
    commands: aa55::Framer,
    battery: u8,
}

impl<B, O, T, G, P, V, U> MonitorPc300<O, T, G, P, V, U>
where
    O: I2c<Error = B>,
    T: I2c<Error = B>,
    G: I2c<Error = B>,
    P: SetDutyCycle,
    V: SetDutyCycle,
    U: Write + Read + ReadReady,
{
    /// Brings the parts up: the pump is still, the valve open.
    pub fn start(buses: (O, T, G), drives: Drives<P, V>, uart: U) -> Result<Self, Fault<B>> {
        let (oximeter, thermometer, gauge) = buses;
        let mut monitor = Self {
            oximeter: Sensor::new(oximeter),
            thermometer: Thermometer::new(thermometer),
            cuff: Cuff::start(gauge, drives),
            uart,
            signal: PulseSignal::default(),
            pleth: Vec::new(),
            samples: 0,
            last: None,
            told_ms: 0,
            warmth: Warmth::Idle,
            next_oximetry_ms: 0,
            commands: aa55::Framer::default(),
            battery: 3,
        };
        monitor.oximeter.start()?;
        monitor.thermometer.start()?;
        Ok(monitor)
    }

    /// The patient presses the button of the cuff: it begins, or, while it measures, lets the pressure out.
    pub fn press_cuff(&mut self, now_ms: u64) {
        if self.cuff.press(now_ms) {
            self.last = None;
        }
    }

    /// The patient takes the thermometer out of its holder.
    pub fn press_thermometer(&mut self, now_ms: u64) {
        self.warmth = Warmth::Measuring { since_ms: now_ms, before: i16::MIN, steady: 0 };
    }

    /// What the battery's gauge says, 0–3.
    pub fn set_battery(&mut self, level: u8) {
        self.battery = level.min(3);
    }

    /// The last measurement of the cuff, once it is over.
    #[must_use]
    pub const fn last_pressure(&self) -> Option<&Result<Estimate, BloodPressureError>> {
        self.last.as_ref()
    }

    /// Whether the cuff is at work.
    #[must_use]
    pub const fn measuring(&self) -> bool {
        self.cuff.measuring()
    }

    /// To be called every 10 ms.
    pub fn service(&mut self, now_ms: u64) -> Result<(), Fault<B>> {
        self.answer()?;
        self.oximetry(now_ms)?;
        self.temperature(now_ms)?;
        self.pressure(now_ms)
    }

    fn send(&mut self, message: &Message) -> Result<(), Fault<B>> {
        self.uart.write_all(&message.encode().encode()).map_err(|_| Fault::Uart)
    }

    fn answer(&mut self) -> Result<(), Fault<B>> {
        let mut asked = false;
        while self.uart.read_ready().map_err(|_| Fault::Uart)? {
            let mut octet = [0];
            if self.uart.read(&mut octet).map_err(|_| Fault::Uart)? == 0 {
                break;
            }
            self.commands.push(&octet, |found| {
                asked |= matches!(found, Found::Frame(Frame { token: 0xff, kind: 2, .. }));
            });
        }
        if asked {
            let information = DeviceInformation { software: 0x10, hardware: 0x10, battery: Some(self.battery) };
            self.send(&Message::DeviceInformation(information))?;
        }
        Ok(())
    }
}

/// The cuff.
impl<B, O, T, G, P, V, U> MonitorPc300<O, T, G, P, V, U>
where
    O: I2c<Error = B>,
    T: I2c<Error = B>,
    G: I2c<Error = B>,
    P: SetDutyCycle,
    V: SetDutyCycle,
    U: Write + Read + ReadReady,
{
    fn pressure(&mut self, now_ms: u64) -> Result<(), Fault<B>> {
        let Some(progress) = self.cuff.service(now_ms)? else { return Ok(()) };
        if now_ms >= self.told_ms + TOLD_MS {
            self.told_ms = now_ms;
            let told = u16::try_from(nearest(progress.pressure).max(0)).unwrap_or(0);
            self.send(&Message::CuffPressure(CuffPressure { pressure: told, pulse: false }))?;
        }
        match progress.over {
            None => Ok(()),
            Some(Ok(found)) => {
                self.last = Some(Ok(found));
                self.send(&Message::BloodPressure(blood_pressure(&found)))
            }
            Some(Err(trouble)) => {
                let error = error(trouble);
                self.last = Some(Err(error));
                self.send(&Message::BloodPressureError(error))
            }
        }
    }
}

/// The thermometer and the oximeter.
impl<B, O, T, G, P, V, U> MonitorPc300<O, T, G, P, V, U>
where
    O: I2c<Error = B>,
    T: I2c<Error = B>,
    G: I2c<Error = B>,
    P: SetDutyCycle,
    V: SetDutyCycle,
    U: Write + Read + ReadReady,
{
    fn temperature(&mut self, now_ms: u64) -> Result<(), Fault<B>> {
        let Warmth::Measuring { since_ms, before, steady } = self.warmth else { return Ok(()) };
        let Some(digits) = self.thermometer.fetch()? else { return Ok(()) };
        let near = before != i16::MIN && digits.abs_diff(before) <= STEADY_DIGITS;
        let steady = if near { steady + 1 } else { 0 };
        let value = hundredths_above_30(digits);
        let state = match () {
            () if steady >= STEADY_CONVERSIONS && value.is_some() => TemperatureState::Done,
            () if now_ms.saturating_sub(since_ms) >= TEMPERATURE_MAX_MS => TemperatureState::TimedOut,
            () => TemperatureState::Measuring,
        };
        self.warmth = match state {
            TemperatureState::Measuring => Warmth::Measuring { since_ms, before: digits, steady },
            _ => Warmth::Idle,
        };
        let hundredths_above_30 = if state == TemperatureState::TimedOut { None } else { value };
        self.send(&Message::Temperature(Temperature { state, probe_off: false, hundredths_above_30 }))
    }

    fn oximetry(&mut self, now_ms: u64) -> Result<(), Fault<B>> {
        let mut samples = [Light::default(); FIFO_SAMPLES as usize];
        let mut fetched = 0;
        self.oximeter.fetch(|light| {
            if let Some(slot) = samples.get_mut(fetched) {
                *slot = light;
                fetched += 1;
            }
        })?;
        for light in samples.iter().take(fetched) {
            let beat = self.signal.push(*light);
            self.samples = self.samples.wrapping_add(1);
            // The sensor's 100 samples a second, every other one, two to a frame.
            if self.signal.finger() && self.samples.is_multiple_of(2) {
                let value = u8::try_from(nearest(40.0 + 60.0 * self.signal.wave()).clamp(0, 127)).unwrap_or(0);
                self.pleth.push(value | u8::from(beat) << 7);
            }
            if self.pleth.len() >= 2 {
                let samples = core::mem::take(&mut self.pleth);
                self.send(&Message::Pleth(samples))?;
            }
        }
        if now_ms >= self.next_oximetry_ms {
            self.next_oximetry_ms = now_ms + OXIMETRY_MS;
            let octet = |value: f32| u8::try_from(whole(value)).unwrap_or(u8::MAX);
            let message = Oximetry {
                spo2: self.signal.spo2(8).map(octet),
                pulse_rate: self.signal.pulse_rate(8).map(whole),
                perfusion_tenths: self.signal.perfusion(8).map(|percent| octet(percent * 10.0)),
                probe_off: !self.signal.finger(),
                searching: self.signal.finger() && !self.signal.tracking(),
            };
            self.send(&Message::Oximetry(message))?;
        }
        Ok(())
    }
}

const fn error(trouble: Trouble) -> BloodPressureError {
    match trouble {
        Trouble::NotWrapped => BloodPressureError::CUFF_NOT_WRAPPED,
        Trouble::Leak => BloodPressureError::LEAK,
        Trouble::Overpressure => BloodPressureError::OVERPRESSURE,
        Trouble::TimeOut => BloodPressureError::TIME_OUT,
        Trouble::NoPulse => BloodPressureError::NO_PULSE,
        Trouble::Motion => BloodPressureError::MOTION,
        Trouble::NoEnvelope => BloodPressureError::FAILED,
    }
}

fn hundredths_above_30(digits: i16) -> Option<u16> {
    let hundredths = nearest(f32::from(digits) * 100.0 / 128.0) - 3_000;
    u16::try_from(hundredths).ok().filter(|hundredths| *hundredths > 0)
}

fn blood_pressure(found: &Estimate) -> BloodPressure {
    let octet = |value: f32| u8::try_from(whole(value)).unwrap_or(u8::MAX);
    BloodPressure {
        systolic: whole(found.systolic),
        mean: octet(found.mean),
        diastolic: octet(found.diastolic),
        pulse_rate: octet(found.pulse_rate),
        irregular: found.irregular,
    }
}
