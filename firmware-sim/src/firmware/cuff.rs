//! A cuff on an arm as an oscillometric monitor works it: pump, valve and pressure sensor.
//!
//! It is filled quickly and falls slowly; then the valve opens. Whatever happens, the pump stops and the valve opens at
//! 295 mmHg, after 7 s without pressure and after 2 minutes. Time is milliseconds since power-up.
//! Source: LepuBle 46c1de4 (facts only) for limits and what may go wrong.

use alloc::vec::Vec;

use embedded_hal::i2c::I2c;
use embedded_hal::pwm::SetDutyCycle;

use super::cuff_gauge::Gauge;
use super::oscillometry::{self, Estimate, NoEstimate, SAMPLES_MAX, estimate};
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

/// What drives the cuff.
#[derive(Debug)]
pub struct Drives<P, V> {
    /// The pump.
    pub pump: P,
    /// The valve: the more duty, the wider.
    pub valve: V,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The pressure does not rise: nobody wears it.
    NotWrapped,
    /// It rises too slowly.
    Leak,
    /// It rose too far.
    Overpressure,
    /// It did not fall in time.
    TimeOut,
    /// No pulse was found in it.
    NoPulse,
    /// The arm moved.
    Motion,
    /// The pulse has no shape that tells pressures.
    NoEnvelope,
}

/// What a look at the sensor brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The pressure, mmHg.
    pub pressure: f32,
    /// The measurement is over.
    pub over: Option<Result<Estimate, Trouble>>,
}

/// ```text
/// Idle ─button─▶ Inflating ─180 mmHg─▶ Falling ─40 mmHg─▶ (result) Idle
///                    └─ not wrapped, overpressure, too long ─▶ (trouble) Idle
/// ```
#[derive(Debug)]
enum Stage {
    Idle,
    Inflating { since_ms: u64 },
    Falling { since_ms: u64, pressures: Vec<f32> },
}

/// The cuff with what works it.
#[derive(Debug)]
pub struct Cuff<G, P, V> {
    gauge: Gauge<G>,
    drives: Drives<P, V>,
    stage: Stage,
    next_pressure_ms: u64,
}

impl<G: I2c, P: SetDutyCycle, V: SetDutyCycle> Cuff<G, P, V> {
    /// The cuff at power-up: the pump is still, the valve open.
    pub fn start(gauge: G, drives: Drives<P, V>) -> Self {
        let mut cuff = Self { gauge: Gauge::new(gauge), drives, stage: Stage::Idle, next_pressure_ms: 0 };
        cuff.release();
        cuff
    }

    /// The patient presses the button: a measurement begins, or, while one goes on, the pressure is let out. True where one
    /// began.
    pub fn press(&mut self, now_ms: u64) -> bool {
        if self.measuring() {
            self.release();
            return false;
        }
        drive(&mut self.drives.valve, 0.0);
        drive(&mut self.drives.pump, 1.0);
        self.stage = Stage::Inflating { since_ms: now_ms };
        self.next_pressure_ms = now_ms;
        true
    }

    /// Whether it is at work.
    #[must_use]
    pub const fn measuring(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// To be called every 10 ms; gives something where the sensor did.
    pub fn service(&mut self, now_ms: u64) -> Result<Option<Progress>, Fault<G::Error>> {
        if !self.measuring() || now_ms < self.next_pressure_ms {
            return Ok(None);
        }
        self.next_pressure_ms = now_ms + PRESSURE_MS;
        let fetched = self.gauge.fetch()?;
        self.gauge.convert()?;
        let Some(pressure) = fetched else { return Ok(None) };
        let over = self.felt(now_ms, pressure);
        if over.is_some() {
            self.release();
        }
        Ok(Some(Progress { pressure, over }))
    }

    fn felt(&mut self, now_ms: u64, pressure: f32) -> Option<Result<Estimate, Trouble>> {
        if pressure >= OVERPRESSURE_MMHG {
            return Some(Err(Trouble::Overpressure));
        }
        match &mut self.stage {
            Stage::Idle => None,
            Stage::Inflating { since_ms } => {
                let spent = now_ms.saturating_sub(*since_ms);
                if pressure >= FULL_MMHG {
                    drive(&mut self.drives.pump, 0.0);
                    self.stage = Stage::Falling { since_ms: *since_ms, pressures: Vec::new() };
                    None
                } else if spent >= WRAPPED_MS && pressure < WRAPPED_MMHG {
                    Some(Err(Trouble::NotWrapped))
                } else {
                    (spent >= MEASUREMENT_MAX_MS / 4).then_some(Err(Trouble::Leak))
                }
            }
            Stage::Falling { since_ms, pressures } => {
                let late = now_ms.saturating_sub(*since_ms) >= MEASUREMENT_MAX_MS || pressures.len() >= SAMPLES_MAX;
                pressures.push(pressure);
                drive(&mut self.drives.valve, FALL_MMHG_PER_SECOND / pressure.max(EMPTY_MMHG) / VALVE_PER_SECOND);
                match (pressure < EMPTY_MMHG, late) {
                    (true, _) => Some(estimate(pressures).map_err(Trouble::from)),
                    (false, true) => Some(Err(Trouble::TimeOut)),
                    (false, false) => None,
                }
            }
        }
    }

    fn release(&mut self) {
        self.stage = Stage::Idle;
        drive(&mut self.drives.pump, 0.0);
        drive(&mut self.drives.valve, 1.0);
    }
}

impl From<NoEstimate> for Trouble {
    fn from(none: NoEstimate) -> Self {
        match none {
            NoEstimate::NoPulse => Self::NoPulse,
            NoEstimate::Motion => Self::Motion,
            NoEstimate::NoEnvelope => Self::NoEnvelope,
        }
    }
}

/// A drive at a share of its full duty; one that fails has failed for good, and nothing else can be done about it.
fn drive(drive: &mut impl SetDutyCycle, share: f32) {
    let duty = nearest(f32::from(drive.max_duty_cycle()) * share.clamp(0.0, 1.0));
    let _failed = drive.set_duty_cycle(u16::try_from(duty).unwrap_or(0));
}
