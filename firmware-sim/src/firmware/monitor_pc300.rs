//! A multiparameter monitor as the PC-300 is: cuff with pump and valve, thermometer, oximeter; its frames on a UART.
//!
//! A cuff is inflated when the patient presses the button, and never by a word from the line. It falls slowly; then the valve
//! opens. Whatever happens, the pump stops and the valve opens at 295 mmHg, after 7 s without pressure and after 2 minutes.
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

use super::cuff_gauge::Gauge;
use super::max30102::{FIFO_SAMPLES, Light, Sensor};
use super::oscillometry::{self, Estimate, NoEstimate, SAMPLES_MAX, estimate};
use super::pulse_signal::{PulseSignal, whole};
use super::tmp117::Thermometer;
use super::{Fault, nearest};

/// A cuff is filled to this, mmHg.
const FULL_MMHG: f32 = 180.0;
/// It falls by so much a second.
const FALL_MMHG_PER_SECOND: f32 = 2.5;
/// The wide-open valve lets this share out a second: what its duty is reckoned by.
const VALVE_PER_SECOND: f32 = 3.0;
/// Below it there is nothing more to measure.
const EMPTY_MMHG: f32 = 40.0;
/// Above it the pressure is let out, whatever goes on.
const OVERPRESSURE_MMHG: f32 = 295.0;
/// A cuff that is wrapped has this …
const WRAPPED_MMHG: f32 = 30.0;
/// … after so long.
const WRAPPED_MS: u64 = 7_000;
/// A measurement takes no longer.
const MEASUREMENT_MAX_MS: u64 = 120_000;
/// Pressures come so often, ms.
const PRESSURE_MS: u64 = 1_000 / oscillometry::RATE_HZ as u64;
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

/// ```text
/// Idle ─button─▶ Inflating ─180 mmHg─▶ Falling ─40 mmHg─▶ (result) Idle
///                    └─ not wrapped, overpressure, too long ─▶ (error) Idle
/// ```
#[derive(Debug)]
enum Cuff {
    Idle,
    Inflating { since_ms: u64 },
    Falling { since_ms: u64, pressures: Vec<f32> },
}

#[derive(Clone, Copy, Debug)]
enum Warmth {
    Idle,
    Measuring { since_ms: u64, before: i16, steady: u8 },
}

/// What drives the cuff.
#[derive(Debug)]
pub struct Drives<P, V> {
    /// The pump.
    pub pump: P,
    /// The valve: the more duty, the wider.
    pub valve: V,
}

/// The firmware, on the buses of oximeter, thermometer and pressure sensor.
#[derive(Debug)]
pub struct MonitorPc300<O, T, G, P, V, U> {
    oximeter: Sensor<O>,
    thermometer: Thermometer<T>,
    gauge: Gauge<G>,
    drives: Drives<P, V>,
    uart: U,
    signal: PulseSignal,
    pleth: Vec<u8>,
    samples: u32,
    cuff: Cuff,
    last: Option<Result<Estimate, BloodPressureError>>,
    next_pressure_ms: u64,
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
            gauge: Gauge::new(gauge),
            drives,
            uart,
            signal: PulseSignal::default(),
            pleth: Vec::new(),
            samples: 0,
            cuff: Cuff::Idle,
            last: None,
            next_pressure_ms: 0,
            told_ms: 0,
            warmth: Warmth::Idle,
            next_oximetry_ms: 0,
            commands: aa55::Framer::default(),
            battery: 3,
        };
        monitor.release();
        monitor.oximeter.start()?;
        monitor.thermometer.start()?;
        Ok(monitor)
    }

    /// The patient presses the button of the cuff: it begins, or, while it measures, lets the pressure out.
    pub fn press_cuff(&mut self, now_ms: u64) {
        if !matches!(self.cuff, Cuff::Idle) {
            self.release();
            self.cuff = Cuff::Idle;
            return;
        }
        self.last = None;
        drive(&mut self.drives.valve, 0.0);
        drive(&mut self.drives.pump, 1.0);
        self.cuff = Cuff::Inflating { since_ms: now_ms };
        self.next_pressure_ms = now_ms;
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
        !matches!(self.cuff, Cuff::Idle)
    }

    /// To be called every 10 ms.
    pub fn service(&mut self, now_ms: u64) -> Result<(), Fault<B>> {
        self.answer()?;
        self.oximetry(now_ms)?;
        self.temperature(now_ms)?;
        self.pressure(now_ms)
    }

    fn release(&mut self) {
        drive(&mut self.drives.pump, 0.0);
        drive(&mut self.drives.valve, 1.0);
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
        if !self.measuring() || now_ms < self.next_pressure_ms {
            return Ok(());
        }
        self.next_pressure_ms = now_ms + PRESSURE_MS;
        let fetched = self.gauge.fetch()?;
        self.gauge.convert()?;
        let Some(pressure) = fetched else { return Ok(()) };
        if now_ms >= self.told_ms + TOLD_MS {
            self.told_ms = now_ms;
            let told = u16::try_from(nearest(pressure).max(0)).unwrap_or(0);
            self.send(&Message::CuffPressure(CuffPressure { pressure: told, pulse: false }))?;
        }
        if pressure >= OVERPRESSURE_MMHG {
            return self.fail(BloodPressureError::OVERPRESSURE);
        }
        match &mut self.cuff {
            Cuff::Idle => Ok(()),
            Cuff::Inflating { since_ms } => {
                let spent = now_ms.saturating_sub(*since_ms);
                if pressure >= FULL_MMHG {
                    drive(&mut self.drives.pump, 0.0);
                    self.cuff = Cuff::Falling { since_ms: *since_ms, pressures: Vec::new() };
                    Ok(())
                } else if spent >= WRAPPED_MS && pressure < WRAPPED_MMHG {
                    self.fail(BloodPressureError::CUFF_NOT_WRAPPED)
                } else if spent >= MEASUREMENT_MAX_MS / 4 {
                    self.fail(BloodPressureError::LEAK)
                } else {
                    Ok(())
                }
            }
            Cuff::Falling { since_ms, pressures } => {
                let late = now_ms.saturating_sub(*since_ms) >= MEASUREMENT_MAX_MS || pressures.len() >= SAMPLES_MAX;
                pressures.push(pressure);
                drive(&mut self.drives.valve, FALL_MMHG_PER_SECOND / pressure.max(EMPTY_MMHG) / VALVE_PER_SECOND);
                match (pressure < EMPTY_MMHG, late) {
                    (true, _) => self.finish(),
                    (false, true) => self.fail(BloodPressureError::TIME_OUT),
                    (false, false) => Ok(()),
                }
            }
        }
    }

    fn fail(&mut self, error: BloodPressureError) -> Result<(), Fault<B>> {
        self.release();
        self.cuff = Cuff::Idle;
        self.last = Some(Err(error));
        self.send(&Message::BloodPressureError(error))
    }

    fn finish(&mut self) -> Result<(), Fault<B>> {
        self.release();
        let Cuff::Falling { pressures, .. } = core::mem::replace(&mut self.cuff, Cuff::Idle) else { return Ok(()) };
        match estimate(&pressures) {
            Ok(found) => {
                self.last = Some(Ok(found));
                self.send(&Message::BloodPressure(blood_pressure(&found)))
            }
            Err(NoEstimate::NoPulse) => self.fail(BloodPressureError::NO_PULSE),
            Err(NoEstimate::Motion) => self.fail(BloodPressureError::MOTION),
            Err(NoEstimate::NoEnvelope) => self.fail(BloodPressureError::FAILED),
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

/// A drive at a share of its full duty; one that fails has failed for good, and nothing else can be done about it.
fn drive(drive: &mut impl SetDutyCycle, share: f32) {
    let duty = nearest(f32::from(drive.max_duty_cycle()) * share.clamp(0.0, 1.0));
    let _failed = drive.set_duty_cycle(u16::try_from(duty).unwrap_or(0));
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
