//! The flow spirometer: a differential pressure sensor (SDP800-500Pa) across a pneumotach, every 2 ms framed to a UART.
//!
//! Before each blow the patient holds still and the sensor's zero is taken. Pressure becomes flow by the pneumotach's
//! calibration, and flow is brought to BTPS: what is breathed out by the temperature at the sensor and saturated, what is
//! breathed in alike, since it is warmed on its way back. Source of the BTPS factor: ATS/ERS 2019, "BTPS correction"; of water
//! vapour's pressure: the usual tables.

use alloc::vec::Vec;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;
use embedded_io::Write;
use kit_protocol::serial::spirometer_flow::{Bronchodilator, Flow, Header, Mark, MarkKind};
use sdp8xx::states::ContinuousSamplingState;
use sdp8xx::{DifferentialPressure, ProductIdentifier, Sdp8xx, SdpError};

use super::{Fault, nearest};

/// Time between samples, µs.
pub const INTERVAL_US: u16 = 2_000;
/// What one digit is worth, µL/s.
pub const SCALE_UL: u16 = 1_000;
/// The sensor's address.
const ADDRESS: u8 = 0x25;
/// Product number of the SDP800-500Pa, without its revision.
const PRODUCT: [u8; 3] = [0x03, 0x02, 0x01];
/// Samples of one frame: 20 ms.
const FRAME_SAMPLES: usize = 10;
/// Ticks until the sensor's first value: 10 ms.
const WARM_UP_TICKS: u32 = 5;
/// Ticks that the zero is taken over: 0.5 s.
const ZERO_TICKS: u32 = 250;
/// Pressure that is none while the zero is taken, Pa.
const ZERO_SPREAD: f32 = 2.0;
/// Reads that may fail one after the other: 20 ms.
const FAILURES_MAX: u32 = 10;

/// Breathed out so much, it is a blow, mL.
const BLOW_ML: f32 = 200.0;
/// Breathed in so much after it, the blow is over, mL …
const BREATH_IN_ML: f32 = 300.0;
/// … or with less than this in [`STILL_TICKS`], mL.
const STILL_ML: f32 = 10.0;
/// 3 s.
const STILL_TICKS: u32 = 1_500;
/// The longest that a manoeuvre is streamed: 60 s.
const MANOEUVRE_TICKS: u32 = 30_000;

/// What the pneumotach makes of flow: `linear × Q + quadratic × Q²` Pa, Q in L/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Its number.
    pub number: u32,
    /// Pa in L/s.
    pub linear: f32,
    /// Pa in (L/s)².
    pub quadratic: f32,
}

impl Calibration {
    /// L/s at a pressure: the root of the quadratic, by Newton's method.
    fn flow(&self, pascal: f32) -> f32 {
        let size = if pascal < 0.0 { -pascal } else { pascal };
        let mut flow = size / self.linear;
        for _ in 0..6 {
            let excess = (self.linear + self.quadratic * flow) * flow - size;
            flow -= excess / (self.linear + 2.0 * self.quadratic * flow);
        }
        if pascal < 0.0 { -flow } else { flow }
    }
}

/// Pressure of saturated water vapour, hPa, every 5 °C from 0.
const VAPOUR: [f32; 9] = [6.11, 8.72, 12.28, 17.05, 23.39, 31.69, 42.46, 56.27, 73.84];
/// Of the air, hPa: the device has no barometer, and 3 % of pressure are 0.1 % of the factor.
const AMBIENT_PRESSURE: f32 = 1_013.0;
/// Of water vapour at 37 °C, hPa.
const BODY_VAPOUR: f32 = 62.8;

/// What a volume of saturated gas at this temperature is multiplied by to be at BTPS.
#[must_use]
pub fn btps_factor(celsius: f32) -> f32 {
    let celsius = celsius.clamp(0.0, 39.9);
    let mut vapour = VAPOUR[0];
    let mut from = 0.0;
    for pair in VAPOUR.windows(2) {
        if celsius >= from && celsius < from + 5.0 {
            vapour = pair[0] + (pair[1] - pair[0]) * (celsius - from) / 5.0;
        }
        from += 5.0;
    }
    (AMBIENT_PRESSURE - vapour) / (AMBIENT_PRESSURE - BODY_VAPOUR) * 310.15 / (273.15 + celsius)
}

/// What the device is at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Between blows.
    Resting,
    /// The zero is taken.
    Zeroing { ticks: u32, sum: f32, low: f32, high: f32 },
    /// A blow is streamed.
    Blowing(Progress),
}

/// How far a blow is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Progress {
    ticks: u32,
    /// mL breathed out since the least.
    out: f32,
    /// mL breathed in since the most.
    back: f32,
    /// It was a blow.
    blown: bool,
    still_ticks: u32,
    still_ml: f32,
}

/// The firmware.
#[derive(Debug)]
pub struct SpirometerFlow<I2C, D, UART> {
    sensor: Sdp8xx<I2C, D, ContinuousSamplingState<DifferentialPressure>>,
    uart: UART,
    calibration: Calibration,
    phase: Phase,
    warm_up: u32,
    failures: u32,
    zero: f32,
    factor: f32,
    session: u32,
    manoeuvre: u8,
    in_session: bool,
    bronchodilator: Bronchodilator,
    counter: u32,
    waiting: Vec<i32>,
    /// Frames of flow since the last header.
    unheaded: usize,
    /// Of the sensor, at the last zeroing.
    celsius: f32,
}

impl<I2C: I2c, D: DelayNs, UART: Write> SpirometerFlow<I2C, D, UART> {
    /// Power-up: finds the sensor and lets it measure on. `session`: the last session's number, from the device's memory.
    pub fn start(bus: I2C, delay: D, uart: UART, calibration: Calibration, session: u32) -> Result<Self, Fault<I2C::Error>> {
        let mut sensor = Sdp8xx::new(bus, ADDRESS, delay);
        let ProductIdentifier { product_number, .. } = sensor.read_product_id().map_err(fault)?;
        let expected = sdp8xx::product_info::ProductVariant::from(u32::from_be_bytes([PRODUCT[0], PRODUCT[1], PRODUCT[2], 0]));
        if core::mem::discriminant(&product_number) != core::mem::discriminant(&expected) {
            return Err(Fault::Part { identification: 0 });
        }
        Ok(Self {
            sensor: sensor.start_sampling_differential_pressure(true).map_err(fault)?,
            uart,
            calibration,
            phase: Phase::Resting,
            warm_up: WARM_UP_TICKS,
            failures: 0,
            zero: 0.0,
            factor: 1.0,
            session,
            manoeuvre: 0,
            in_session: false,
            bronchodilator: Bronchodilator::NotStated,
            counter: 0,
            waiting: Vec::with_capacity(FRAME_SAMPLES),
            unheaded: 0,
            celsius: 0.0,
        })
    }

    /// The operator says which side of the bronchodilator the next session is on.
    pub fn set_bronchodilator(&mut self, bronchodilator: Bronchodilator) {
        self.bronchodilator = bronchodilator;
    }

    /// The button: the zero is taken, then a manoeuvre is streamed. It begins a session where none is under way.
    pub fn press(&mut self) -> Result<(), Fault<I2C::Error>> {
        if !self.in_session {
            self.in_session = true;
            self.session = self.session.wrapping_add(1);
            self.manoeuvre = 0;
            self.mark(MarkKind::SessionBegins)?;
        }
        self.phase = zeroing();
        Ok(())
    }

    /// The button, held: the session is over.
    pub fn finish(&mut self) -> Result<(), Fault<I2C::Error>> {
        if core::mem::take(&mut self.in_session) {
            self.mark(MarkKind::SessionEnds)?;
        }
        Ok(())
    }

    /// Whether the patient may blow: the zero is taken.
    pub fn ready(&self) -> bool {
        matches!(self.phase, Phase::Blowing(_))
    }

    /// The last session's number, which outlives the power.
    pub fn session(&self) -> u32 {
        self.session
    }

    /// The number that the next sample gets.
    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// To be called every 2 ms: reads the sensor, and streams where a manoeuvre is under way.
    pub fn tick(&mut self) -> Result<(), Fault<I2C::Error>> {
        if self.warm_up > 0 {
            self.warm_up -= 1;
            return Ok(());
        }
        let sample = match self.sensor.read_continuous_sample() {
            Ok(sample) => sample,
            // A value that was spoilt on the bus is left out while it is not streamed; in a blow it makes it worthless.
            Err(error) => {
                self.failures += 1;
                return if self.failures > FAILURES_MAX || self.ready() { Err(fault(error)) } else { Ok(()) };
            }
        };
        self.failures = 0;
        match self.phase {
            Phase::Resting => Ok(()),
            Phase::Zeroing { ticks, sum, low, high } => {
                self.take_zero(ticks + 1, sum, low, high, sample.value, sample.temperature)
            }
            Phase::Blowing(progress) => {
                let flow = self.calibration.flow(sample.value - self.zero) * self.factor;
                self.stream(flow, progress)
            }
        }
    }

    fn take_zero(
        &mut self,
        ticks: u32,
        sum: f32,
        low: f32,
        high: f32,
        pascal: f32,
        celsius: f32,
    ) -> Result<(), Fault<I2C::Error>> {
        let (sum, low, high) = (sum + pascal, low.min(pascal), high.max(pascal));
        if high - low > ZERO_SPREAD {
            // Somebody breathes: from the start.
            self.phase = zeroing();
        } else if ticks < ZERO_TICKS {
            self.phase = Phase::Zeroing { ticks, sum, low, high };
        } else {
            self.zero = sum * INVERSE_ZERO_TICKS;
            self.factor = btps_factor(celsius);
            self.manoeuvre = self.manoeuvre.saturating_add(1);
            self.celsius = celsius;
            self.send_header()?;
            self.mark(MarkKind::ManoeuvreBegins)?;
            self.phase = Phase::Blowing(Progress::default());
        }
        Ok(())
    }

    fn send_header(&mut self) -> Result<(), Fault<I2C::Error>> {
        self.unheaded = 0;
        let header = self.header(self.celsius);
        self.send(&header.encode())
    }

    fn header(&self, celsius: f32) -> Header {
        Header {
            interval_us: INTERVAL_US,
            scale_ul: SCALE_UL,
            btps: true,
            bronchodilator: self.bronchodilator,
            session: self.session,
            calibration: self.calibration.number,
            btps_factor: u16::try_from(nearest(self.factor * 10_000.0)).unwrap_or(u16::MAX),
            ambient_temperature: i16::try_from(nearest(celsius * 100.0)).unwrap_or(i16::MAX),
        }
    }

    fn stream(&mut self, litres: f32, mut progress: Progress) -> Result<(), Fault<I2C::Error>> {
        self.waiting.push(nearest(litres * 1_000.0));
        if self.waiting.len() >= FRAME_SAMPLES {
            self.send_waiting()?;
        }
        // 2 ms of L/s are twice as many mL.
        let over = progress.goes_on(2.0 * litres);
        self.phase = Phase::Blowing(progress);
        if over {
            self.send_waiting()?;
            self.mark(MarkKind::ManoeuvreEnds)?;
            self.phase = Phase::Resting;
        }
        Ok(())
    }

    fn send_waiting(&mut self) -> Result<(), Fault<I2C::Error>> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let samples = core::mem::take(&mut self.waiting);
        let flow = Flow { counter: self.counter, samples };
        self.counter = self.counter.wrapping_add(u32::try_from(flow.samples.len()).unwrap_or(0));
        self.unheaded += 1;
        if self.unheaded >= HEADER_EVERY_FRAMES {
            self.send_header()?;
        }
        self.send(&flow.encode())
    }

    fn mark(&mut self, kind: MarkKind) -> Result<(), Fault<I2C::Error>> {
        let mark = Mark { kind, manoeuvre: self.manoeuvre, session: self.session, counter: self.counter };
        self.send(&mark.encode())
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Fault<I2C::Error>> {
        self.uart.write_all(frame).map_err(|_| Fault::Uart)
    }
}

/// Whoever begins to listen within a manoeuvre knows within a second what the flow means: 50 frames of 10 samples of 2 ms.
const HEADER_EVERY_FRAMES: usize = 50;
/// One part in [`ZERO_TICKS`].
const INVERSE_ZERO_TICKS: f32 = 0.004;

fn zeroing() -> Phase {
    Phase::Zeroing { ticks: 0, sum: 0.0, low: f32::MAX, high: f32::MIN }
}

impl Progress {
    /// Takes in what came out within a tick, mL; whether the manoeuvre is over.
    fn goes_on(&mut self, millilitres: f32) -> bool {
        self.ticks += 1;
        self.out = (self.out + millilitres).max(0.0);
        self.blown |= self.out >= BLOW_ML;
        self.back = if self.blown { (self.back - millilitres).max(0.0) } else { 0.0 };
        self.still_ml += if millilitres < 0.0 { -millilitres } else { millilitres };
        self.still_ticks += 1;
        if self.still_ml > STILL_ML {
            (self.still_ticks, self.still_ml) = (0, 0.0);
        }
        (self.blown && (self.back >= BREATH_IN_ML && self.still_ticks >= END_TICKS || self.still_ticks >= STILL_TICKS))
            || self.ticks >= MANOEUVRE_TICKS
    }
}

/// After a breath in it is over once nothing flows any more: 20 ms.
const END_TICKS: u32 = 10;

fn fault<I2C: I2c>(error: SdpError<I2C>) -> Fault<I2C::Error> {
    match error {
        SdpError::Device(sensirion_i2c::i2c::Error::I2cRead(error) | sensirion_i2c::i2c::Error::I2cWrite(error)) => {
            Fault::Bus(error)
        }
        _ => Fault::Part { identification: 0 },
    }
}
