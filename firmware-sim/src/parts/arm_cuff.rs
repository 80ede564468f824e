//! A cuff on an arm: pump, valve and a pressure sensor (CFSensor XGZP6897D on I2C, 40 kPa range).
//!
//! The cuff has a compliance that falls as it fills, a leak, and a valve that lets air out by its opening; the artery below
//! it moves the pressure with every beat, most at the mean pressure (the oscillometric envelope). Source of the registers:
//! CFSensor, XGZP6897D data sheet V2.x: conversion by 0A to register 30, bit 3 clears when it is done, 24 bits in 06–08.

use std::time::Duration;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation, SevenBitAddress};
use embedded_hal::pwm;

use super::Shared;
use crate::noise::{nearest, step, unit};
use crate::patient::Patient;

/// The sensor's address.
pub const ADDRESS: SevenBitAddress = 0x6d;
/// Counts a pascal of the 40 kPa part.
pub const COUNTS_PER_PASCAL: f64 = 128.0;
const PASCALS_PER_MMHG: f64 = 133.322;
const CONTROL: u8 = 0x30;
const CONVERT: u8 = 0x0a;
const CONVERTING: u8 = 0x08;
const PRESSURE: u8 = 0x06;
/// A conversion takes this long, ns.
const CONVERSION_NS: u64 = 10_000_000;
/// The pump, flat out, raises a full cuff by so much a second, mmHg; an empty one slower, since it takes more air.
const PUMP_MMHG_PER_SECOND: f64 = 25.0;
/// The valve, wide open, lowers the pressure by this share of it a second.
const VALVE_PER_SECOND: f64 = 3.0;
/// An honest cuff leaks this share of its pressure a second.
const LEAK_PER_SECOND: f64 = 0.002;
/// One that is not wrapped lets all out.
const LOOSE_PER_SECOND: f64 = 5.0;
/// Steps of the physics, ns.
const STEP_NS: u64 = 1_000_000;
/// The artery moves the pressure by so much at its strongest, mmHg.
const OSCILLATION_MMHG: f64 = 2.6;
/// Counts of noise.
const NOISE_COUNTS: u32 = 900;
/// Duty cycles count to this.
const DUTY_MAX: u16 = 10_000;

/// The artery's movement at the systolic and at the diastolic pressure, as a share of that at the mean. Source: L. A. Geddes
/// et al., "Characterization of the oscillometric method", Ann. Biomed. Eng. 10 (1982): about 0.5 and 0.8, spread by person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratios {
    /// At the systolic pressure.
    pub systolic: f64,
    /// At the diastolic pressure.
    pub diastolic: f64,
}

impl Ratios {
    /// A person's own.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { systolic: 0.50 + 0.02 * (2.0 * unit(seed, 901) - 1.0), diastolic: 0.80 + 0.015 * (2.0 * unit(seed, 902) - 1.0) }
    }
}

/// What is wrong with the arm or the cuff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// The patient moves.
    pub motion: bool,
    /// The cuff is not wrapped.
    pub loose: bool,
    /// The valve does not open, and the pump does not stop.
    pub stuck: bool,
    /// The artery does not pulse under the cuff.
    pub pulseless: bool,
}

/// The part.
pub struct ArmCuff {
    patient: Patient,
    ratios: Ratios,
    noise_seed: u64,
    now: u64,
    /// Of the cuff above the air around it, without the artery's movement.
    pressure: f64,
    pump: u16,
    valve: u16,
    trouble: Trouble,
    converted_at: Option<u64>,
    conversions: u64,
    counts: i32,
    pointer: u8,
    /// The highest pressure it ever had.
    highest: f64,
}

impl ArmCuff {
    /// An empty cuff on this patient's arm.
    #[must_use]
    pub fn new(seed: u64, noise_seed: u64) -> Self {
        Self {
            patient: Patient::new(seed),
            ratios: Ratios::of(seed),
            noise_seed,
            now: 0,
            pressure: 0.0,
            pump: 0,
            valve: DUTY_MAX,
            trouble: Trouble::default(),
            converted_at: None,
            conversions: 0,
            counts: 0,
            pointer: 0,
            highest: 0.0,
        }
    }

    /// Lets time pass up to `now` (ns since the simulation's start).
    pub fn advance(&mut self, now: u64) {
        while self.now + STEP_NS <= now {
            self.now += STEP_NS;
            self.flow(Duration::from_nanos(STEP_NS).as_secs_f64());
        }
    }

    /// What is wrong from now on.
    pub fn trouble(&mut self, trouble: Trouble) {
        self.trouble = trouble;
    }

    /// The pressure in it, mmHg, without the artery's movement.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        self.pressure
    }

    /// The highest pressure it ever had, mmHg.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// Without power the pump stands still and the valve is open.
    pub fn power_off(&mut self) {
        self.pump = 0;
        self.valve = DUTY_MAX;
    }

    fn flow(&mut self, seconds: f64) {
        let share = |duty: u16| f64::from(duty) / f64::from(DUTY_MAX);
        // A cuff takes more air for the first 50 mmHg than for the rest.
        let filled = (0.25 + self.pressure / 60.0).min(1.0);
        let pump = if self.trouble.stuck { 1.0 } else { share(self.pump) };
        let valve = if self.trouble.stuck { 0.0 } else { share(self.valve) };
        let loose = if self.trouble.loose { LOOSE_PER_SECOND } else { 0.0 };
        let out = self.pressure * (valve * VALVE_PER_SECOND + LEAK_PER_SECOND + loose);
        self.pressure = (self.pressure + seconds * (pump * PUMP_MMHG_PER_SECOND * filled - out)).max(0.0);
        self.highest = self.highest.max(self.pressure);
    }

    /// What the artery, and a patient who moves, add to the pressure.
    fn movement(&self, seconds: f64) -> f64 {
        let vitals = self.patient.vitals(seconds);
        let mean = vitals.diastolic + (vitals.systolic - vitals.diastolic) / 3.0;
        let away = self.pressure - mean;
        let (span, ratio) = if away > 0.0 {
            (vitals.systolic - mean, self.ratios.systolic)
        } else {
            (mean - vitals.diastolic, self.ratios.diastolic)
        };
        // A bell on each side of the mean, with the person's ratio at the systolic and at the diastolic pressure.
        let bell = (ratio.ln() * (away / span.max(1.0)).powi(2)).exp();
        let pulse = if self.trouble.pulseless { 0.0 } else { OSCILLATION_MMHG * bell * self.patient.pleth(seconds) };
        let motion = if self.trouble.motion { 9.0 * (7.3 * seconds).sin() * (1.9 * seconds).cos() } else { 0.0 };
        if self.pressure > 5.0 { pulse + motion } else { 0.0 }
    }

    fn convert(&mut self) {
        self.conversions += 1;
        let at = Duration::from_nanos(self.now).as_secs_f64();
        let pascals = (self.pressure + self.movement(at)) * PASCALS_PER_MMHG;
        let counts = nearest(pascals * COUNTS_PER_PASCAL) + i64::from(step(self.noise_seed, self.conversions, NOISE_COUNTS));
        self.counts = i32::try_from(counts.clamp(-0x80_0000, 0x7f_ffff)).unwrap_or(0);
        self.converted_at = Some(self.now + CONVERSION_NS);
    }

    fn register(&self, address: u8) -> u8 {
        let [_, high, middle, low] = self.counts.to_be_bytes();
        let done = self.converted_at.is_none_or(|at| self.now >= at);
        match address {
            CONTROL if !done => CONVERT,
            CONTROL => CONVERT & !CONVERTING,
            // What a conversion brings stands there when it is done.
            PRESSURE | 0x07 | 0x08 if !done => 0,
            PRESSURE => high,
            0x07 => middle,
            0x08 => low,
            _ => 0,
        }
    }
}

/// The firmware's end of the sensor's I2C.
#[derive(Clone)]
pub struct Bus(pub Shared<ArmCuff>);

impl ErrorType for Bus {
    type Error = ErrorKind;
}

impl I2c for Bus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if address != ADDRESS {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        let mut part = self.0.lock();
        for operation in operations {
            match operation {
                Operation::Write([CONTROL, CONVERT]) => part.convert(),
                Operation::Write(octets) => part.pointer = octets.first().copied().unwrap_or(part.pointer),
                Operation::Read(into) => {
                    for octet in into.iter_mut() {
                        *octet = part.register(part.pointer);
                        part.pointer = part.pointer.wrapping_add(1);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The pump's drive.
#[derive(Clone)]
pub struct Pump(pub Shared<ArmCuff>);

/// The valve's drive: the more duty, the wider; without power it is as it was left.
#[derive(Clone)]
pub struct Valve(pub Shared<ArmCuff>);

impl pwm::ErrorType for Pump {
    type Error = core::convert::Infallible;
}

impl pwm::ErrorType for Valve {
    type Error = core::convert::Infallible;
}

impl pwm::SetDutyCycle for Pump {
    fn max_duty_cycle(&self) -> u16 {
        DUTY_MAX
    }

    fn set_duty_cycle(&mut self, duty: u16) -> Result<(), Self::Error> {
        self.0.lock().pump = duty.min(DUTY_MAX);
        Ok(())
    }
}

impl pwm::SetDutyCycle for Valve {
    fn max_duty_cycle(&self) -> u16 {
        DUTY_MAX
    }

    fn set_duty_cycle(&mut self, duty: u16) -> Result<(), Self::Error> {
        self.0.lock().valve = duty.min(DUTY_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal::pwm::SetDutyCycle;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn read(part: &Shared<ArmCuff>) -> f64 {
        let mut bus = Bus(part.clone());
        bus.write(ADDRESS, &[CONTROL, CONVERT]).unwrap();
        let mut busy = [0];
        bus.write_read(ADDRESS, &[CONTROL], &mut busy).unwrap();
        assert_eq!(busy[0] & CONVERTING, CONVERTING, "a conversion takes its time");
        let now = part.lock().now;
        part.lock().advance(now + 2 * CONVERSION_NS);
        bus.write_read(ADDRESS, &[CONTROL], &mut busy).unwrap();
        assert_eq!(busy[0] & CONVERTING, 0);
        let mut octets = [0; 3];
        bus.write_read(ADDRESS, &[PRESSURE], &mut octets).unwrap();
        let counts = i32::from_be_bytes([octets[0], octets[1], octets[2], 0]) >> 8;
        f64::from(counts) / COUNTS_PER_PASCAL / PASCALS_PER_MMHG
    }

    #[test]
    fn the_pump_fills_the_valve_empties_and_the_sensor_says_so() {
        let part = Shared::new(ArmCuff::new(1, 1));
        assert!(read(&part).abs() < 0.2, "an empty cuff");
        Valve(part.clone()).set_duty_cycle(0).unwrap();
        Pump(part.clone()).set_duty_cycle(DUTY_MAX).unwrap();
        part.lock().advance(6 * SECOND_NS);
        let full = part.lock().pressure();
        assert!((60.0..200.0).contains(&full), "{full}");
        assert!((read(&part) - part.lock().pressure()).abs() < 5.0);
        Pump(part.clone()).set_duty_cycle(0).unwrap();
        Valve(part.clone()).set_duty_cycle(DUTY_MAX).unwrap();
        part.lock().advance(10 * SECOND_NS);
        assert!(part.lock().pressure() < 1.0);
        assert!(Bus(part).write(0x48, &[0]).is_err());
    }

    #[test]
    fn the_artery_moves_the_pressure_most_at_the_mean() {
        let cuff = |pressure| ArmCuff { pressure, ..ArmCuff::new(3, 1) };
        let largest = |pressure: f64| (0..200_u32).map(|n| cuff(pressure).movement(f64::from(n) / 100.0)).fold(0.0, f64::max);
        let vitals = Patient::new(3).vitals(1.0);
        let mean = vitals.diastolic + (vitals.systolic - vitals.diastolic) / 3.0;
        let at_mean = largest(mean);
        assert!((0.42..0.62).contains(&(largest(vitals.systolic) / at_mean)));
        assert!((0.70..0.92).contains(&(largest(vitals.diastolic) / at_mean)));
        assert!(largest(mean + 60.0) < 0.5 * at_mean);
    }
}
