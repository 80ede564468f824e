//! A bedside monitor as the Ivy 450C is: electrodes, oximeter, cuff and temperature probe; once a second a message of ANSAR-B
//! on a UART, a second of waves and a line of text a parameter. It listens to nobody.
//!
//! A parameter without a value has an empty field. The cuff's values stay on the line until the next measurement begins; the
//! invasive channels have no transducer, the second probe and the gas bench are not there. Time is milliseconds since power-up.
//! Source: as `kit_protocol::serial::ansar_b` names it; the text's fields as in its captured message.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use embedded_hal::i2c::I2c;
use embedded_hal::pwm::SetDutyCycle;
use embedded_io::Write;
use kit_protocol::serial::ansar_b::{ECG_SAMPLES, Line, Message, WAVE_SAMPLES, Waves};

use super::cuff::{Cuff, Drives};
use super::max30102::{FIFO_SAMPLES, Light, Sensor};
use super::oscillometry::Estimate;
use super::pulse_signal::{PulseSignal, whole};
use super::tmp117::Thermometer;
use super::{Fault, nearest};

/// [`MonitorAnsar::service`] is called so often, ms.
pub const TICK_MS: u64 = 10;
/// ECG samples of a tick.
pub const ECG_OF_TICK: usize = ECG_SAMPLES / TICKS;
/// Ticks of a message, and from one sample of the other waves to the next.
const TICKS: usize = 100;
const WAVE_TICKS: usize = TICKS / WAVE_SAMPLES;
/// Beats and breaths that a rate is taken over.
const BEATS: usize = 8;
const BREATHS: usize = 4;
/// Of one and the same wave no second one begins within so many samples: a quarter of a second, and one and a half.
const REFRACTORY_BEAT: u32 = 50;
const REFRACTORY_BREATH: u32 = 75;
/// Without a beat, a breath, for so many samples there is no rate: 3 s and 20 s.
const BEATLESS: u32 = 600;
const APNEA: u32 = 1_000;
/// Before so many samples nobody knows how high a wave is: 2 s and 6 s.
const SETTLING_HEART: u16 = 400;
const SETTLING_CHEST: u16 = 300;
/// A beat and a breath are at least so high, digits.
const HEIGHT_MIN: f32 = 12.0;
/// A temperature is shown when so many conversions in a row …
const STEADY_CONVERSIONS: u8 = 4;
/// … differ from the one before by no more, 1/128 °C.
const STEADY_DIGITS: u16 = 1;
/// Digits of the pulse wave's height.
const PLETH_DIGITS: f32 = 60.0;

/// What the analog inputs say at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Lead II, 0.02 mV a digit, zero at [`Waves::ECG_ZERO`]; `None`: an electrode is off.
    pub ecg: Option<[u8; ECG_OF_TICK]>,
    /// Impedance of the chest; `None` as above.
    pub impedance: Option<u8>,
}

/// Finds waves that rise above half of the height of those before, and how far apart they are.
#[derive(Clone, Copy, Debug)]
struct Rhythm<const N: usize> {
    refractory: u32,
    silence: u32,
    /// Samples that its middle is the mean of, of as many as are waited for before a wave counts.
    samples: u16,
    settling: u16,
    /// The signal's middle, and how high it rises above it.
    mean: f32,
    height: f32,
    above: bool,
    since: u32,
    intervals: [u32; N],
    found: usize,
}

impl<const N: usize> Rhythm<N> {
    const fn new(refractory: u32, silence: u32, settling: u16) -> Self {
        Self {
            refractory,
            silence,
            samples: 0,
            settling,
            mean: 0.0,
            height: 0.0,
            above: false,
            since: 0,
            intervals: [0; N],
            found: 0,
        }
    }

    fn push(&mut self, sample: f32) {
        /// The middle is the mean of so many samples, and the height falls by half in about as many.
        const SLOWLY: u16 = 2_048;
        self.samples = (self.samples + 1).min(SLOWLY);
        self.mean += (sample - self.mean) / f32::from(self.samples);
        let wave = sample - self.mean;
        self.height = (self.height * (1.0 - 1.0 / f32::from(SLOWLY))).max(wave);
        self.since = self.since.saturating_add(1);
        if self.since > self.silence {
            self.found = 0;
        }
        let high = wave > self.height * 0.6;
        let settled = self.samples >= self.settling && self.height >= HEIGHT_MIN;
        if high && !self.above && settled && self.since >= self.refractory {
            // The first one has no interval.
            if self.found > 0 {
                self.intervals.rotate_right(1);
                self.intervals[0] = self.since;
            }
            self.found = self.found.saturating_add(1);
            self.since = 0;
        }
        self.above = if self.above { wave > self.height * 0.3 } else { high };
    }

    /// A minute's, at so many samples a second, over the last `N`; `None` before there are as many.
    fn rate(&self, samples_a_second: u16) -> Option<u16> {
        if self.found <= N {
            return None;
        }
        let sum: u32 = self.intervals.iter().sum();
        let sum = f32::from(u16::try_from(sum).ok()?);
        let count = f32::from(u16::try_from(N).ok()?);
        Some(whole(60.0 * f32::from(samples_a_second) * count / sum))
    }
}

/// The firmware, on the buses of oximeter, thermometer and pressure sensor.
#[derive(Debug)]
pub struct MonitorAnsar<O, T, G, P, V, U> {
    oximeter: Sensor<O>,
    thermometer: Thermometer<T>,
    cuff: Cuff<G, P, V>,
    uart: U,
    signal: PulseSignal,
    heart: Rhythm<BEATS>,
    chest: Rhythm<BREATHS>,
    tick: usize,
    waves: Waves,
    pressure: Option<Estimate>,
    /// The last conversion, how many like it came in a row, and what is shown.
    warmth: (i16, u8, Option<i16>),
}

impl<B, O, T, G, P, V, U> MonitorAnsar<O, T, G, P, V, U>
where
    O: I2c<Error = B>,
    T: I2c<Error = B>,
    G: I2c<Error = B>,
    P: SetDutyCycle,
    V: SetDutyCycle,
    U: Write,
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
            heart: Rhythm::new(REFRACTORY_BEAT, BEATLESS, SETTLING_HEART),
            chest: Rhythm::new(REFRACTORY_BREATH, APNEA, SETTLING_CHEST),
            tick: 0,
            waves: still(),
            pressure: None,
            warmth: (i16::MIN, 0, None),
        };
        monitor.oximeter.start()?;
        monitor.thermometer.start()?;
        Ok(monitor)
    }

    /// The patient, or a nurse, presses the button of the cuff: it begins, and what it showed before goes; or, while it
    /// measures, it lets the pressure out.
    pub fn press_cuff(&mut self, now_ms: u64) {
        if self.cuff.press(now_ms) {
            self.pressure = None;
        }
    }

    /// What the cuff's line shows.
    #[must_use]
    pub const fn pressure(&self) -> Option<&Estimate> {
        self.pressure.as_ref()
    }

    /// Whether the cuff is at work.
    #[must_use]
    pub const fn measuring(&self) -> bool {
        self.cuff.measuring()
    }

    /// To be called every [`TICK_MS`]. True where a message was sent.
    pub fn service(&mut self, now_ms: u64, inputs: Inputs) -> Result<bool, Fault<B>> {
        self.oximetry()?;
        self.temperature()?;
        if let Some(over) = self.cuff.service(now_ms)?.and_then(|progress| progress.over) {
            self.pressure = over.ok();
        }
        self.sample(inputs);
        self.tick += 1;
        if self.tick < TICKS {
            return Ok(false);
        }
        self.tick = 0;
        let message = Message { waves: core::mem::replace(&mut self.waves, still()), lines: self.lines() };
        self.uart.write_all(&message.encode()).map_err(|_| Fault::Uart)?;
        Ok(true)
    }

    fn oximetry(&mut self) -> Result<(), Fault<B>> {
        let mut samples = [Light::default(); FIFO_SAMPLES as usize];
        let mut fetched = 0;
        self.oximeter.fetch(|light| {
            if let Some(slot) = samples.get_mut(fetched) {
                *slot = light;
                fetched += 1;
            }
        })?;
        for light in samples.iter().take(fetched) {
            self.signal.push(*light);
        }
        Ok(())
    }

    fn temperature(&mut self) -> Result<(), Fault<B>> {
        let Some(digits) = self.thermometer.fetch()? else { return Ok(()) };
        let (before, steady, shown) = self.warmth;
        let near = before != i16::MIN && digits.abs_diff(before) <= STEADY_DIGITS;
        let steady = if near { steady.saturating_add(1) } else { 0 };
        self.warmth = (digits, steady, if steady >= STEADY_CONVERSIONS { Some(digits) } else { shown });
        Ok(())
    }

    fn sample(&mut self, inputs: Inputs) {
        match inputs.ecg {
            Some(ecg) => {
                for (slot, sample) in self.waves.ecg.iter_mut().skip(self.tick * ECG_OF_TICK).zip(ecg) {
                    *slot = sample;
                    self.heart.push(f32::from(sample));
                }
            }
            None => self.heart = Rhythm::new(REFRACTORY_BEAT, BEATLESS, SETTLING_HEART),
        }
        if !self.tick.is_multiple_of(WAVE_TICKS) {
            return;
        }
        let place = self.tick / WAVE_TICKS;
        match (inputs.impedance, self.waves.respiration.get_mut(place)) {
            (Some(impedance), Some(slot)) => {
                *slot = impedance;
                self.chest.push(f32::from(impedance));
            }
            _ => self.chest = Rhythm::new(REFRACTORY_BREATH, APNEA, SETTLING_CHEST),
        }
        if let Some(slot) = self.waves.pleth.get_mut(place).filter(|_| self.signal.finger()) {
            let digits = f32::from(Waves::PLETH_ZERO) + PLETH_DIGITS * self.signal.wave();
            *slot = u8::try_from(nearest(digits).clamp(0, 250)).unwrap_or(0);
        }
    }

    fn lines(&self) -> Vec<Line> {
        let number = |number: Option<u16>| number.map_or_else(String::new, |number| number.to_string());
        let over = |value: fn(&Estimate) -> f32| number(self.pressure.as_ref().map(|found| whole(value(found))));
        let rate = number(self.signal.pulse_rate(8).map(whole));
        let nothing = String::new;
        let no_transducer = || [nothing(), nothing(), nothing(), "NO TRANSDUCER".into(), nothing()];
        Vec::from([
            line("HR", 1, [number(self.heart.rate(ECG_HZ)), "ECG-II-DIAG".into(), nothing()]),
            line("RR", 1, [number(self.chest.rate(WAVE_HZ)), nothing(), nothing()]),
            line("ETCO2", 1, [nothing(), nothing(), nothing()]),
            line("SPO2", 1, [number(self.signal.spo2(8).map(whole)), ["PR=", &rate, " "].concat(), nothing()]),
            line(
                "NIBP",
                4,
                [over(|e| e.systolic), over(|e| e.diastolic), over(|e| e.mean), over(|e| e.pulse_rate), nothing(), nothing()],
            ),
            line("P1", 3, no_transducer()),
            line("P2", 3, no_transducer()),
            line("T1", 1, [self.warmth.2.map_or_else(nothing, celsius), nothing(), nothing()]),
            line("T2", 1, [nothing(), nothing(), nothing()]),
        ])
    }
}

const ECG_HZ: u16 = 200;
const WAVE_HZ: u16 = 50;
const _: () = assert!(ECG_SAMPLES == ECG_HZ as usize && WAVE_SAMPLES == WAVE_HZ as usize);

/// Waves of inputs to which nothing is connected: each at its zero.
const fn still() -> Waves {
    Waves {
        ecg: [Waves::ECG_ZERO; ECG_SAMPLES],
        respiration: [0; WAVE_SAMPLES],
        pleth: [Waves::PLETH_ZERO; WAVE_SAMPLES],
        pressure_1: [Waves::PRESSURE_1_ZERO; WAVE_SAMPLES],
        pressure_2: [Waves::PRESSURE_2_ZERO; WAVE_SAMPLES],
    }
}

fn line<const N: usize>(name: &str, status: u8, fields: [String; N]) -> Line {
    Line { name: name.into(), status, fields: fields.into() }
}

/// Tenths of a degree out of 1/128 °C.
fn celsius(digits: i16) -> String {
    let tenths = nearest(f32::from(digits) * 10.0 / 128.0);
    [(tenths / 10).to_string(), (tenths % 10).abs().to_string()].join(".")
}
