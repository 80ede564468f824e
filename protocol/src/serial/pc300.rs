//! What the multiparameter monitor PC-300 (Creative, Lepu) says in its frames ([`aa55`]).
//!
//! The monitor sends unasked: while a cuff inflates its pressure, then the result or why there is none; SpO2 and pulse once a
//! second with the pulse wave; temperature, glucose, and a one-lead ECG in blocks of 25 samples. Source: LepuBle 46c1de4
//! (Pc300BleResponse, Pc300BleInterface) and C102C/homehospital331 dbe70ab (PC300.java), facts only; where only one of them
//! says it, it is the first.
//!
//! [`aa55`]: crate::serial::aa55

use alloc::vec::Vec;

use crate::reader::{DecodeError, Reader};
use crate::serial::aa55::Frame;

/// Samples in one ECG block.
pub const ECG_SAMPLES: usize = 25;
/// ECG samples a second.
pub const ECG_RATE_HZ: u32 = 150;
/// Pulse wave samples a second: 25 frames of two.
pub const PLETH_RATE_HZ: u32 = 50;

/// A cuff's pressure while it measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CuffPressure {
    /// mmHg, 0–4095.
    pub pressure: u16,
    /// A pulse was just felt.
    pub pulse: bool,
}

/// A measured blood pressure, mmHg and /min; mean and pulse rate 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BloodPressure {
    /// 0–32767.
    pub systolic: u16,
    /// Mean arterial pressure.
    pub mean: u8,
    /// Diastolic.
    pub diastolic: u8,
    /// Pulse rate.
    pub pulse_rate: u8,
    /// The pulse was irregular.
    pub irregular: bool,
}

/// Why there is no blood pressure: a code over its number, 0–127; bit 7 names the cuff module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BloodPressureError(pub u8);

impl BloodPressureError {
    /// Under 30 mmHg after 7 s of pumping.
    pub const CUFF_NOT_WRAPPED: Self = Self(1);
    /// Over 295 mmHg.
    pub const OVERPRESSURE: Self = Self(2);
    /// No pulse was found.
    pub const NO_PULSE: Self = Self(3);
    /// The patient moved or spoke.
    pub const MOTION: Self = Self(4);
    /// The numbers make no sense.
    pub const FAILED: Self = Self(5);
    /// Air leaks.
    pub const LEAK: Self = Self(6);
    /// It took longer than it may.
    pub const TIME_OUT: Self = Self(12);

    /// Its number without the bit of the module.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0 & 0x7f
    }

    /// What it means, for a technician.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self.number() {
            1 => "the cuff is not well wrapped: under 30 mmHg after 7 s",
            2 => "overpressure: over 295 mmHg",
            3 => "no valid pulse was found",
            4 => "the patient moved or spoke",
            5 => "the measurement failed",
            6 => "the cuff leaks",
            7 => "the self-test failed",
            8 => "the valve does not open",
            9 => "the signal is saturated",
            10 => "the air system leaks",
            11 => "pump, converter or sensor failed",
            12 => "the measurement took too long",
            14 | 15 => "the battery is low",
            _ => "an error that this version does not know",
        }
    }
}

/// Saturation and pulse. A value that there is none of is 0 on the wire and `None` here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oximetry {
    /// %.
    pub spo2: Option<u8>,
    /// /min.
    pub pulse_rate: Option<u16>,
    /// Perfusion index in tenths of a percent.
    pub perfusion_tenths: Option<u8>,
    /// The probe is off, or no finger is in it.
    pub probe_off: bool,
    /// The pulse is searched for.
    pub searching: bool,
}

/// How far a thermometer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TemperatureState {
    /// It waits.
    #[default]
    Standby,
    /// It measures; the value is on its way.
    Measuring,
    /// It is done.
    Done,
    /// It found no value in time.
    TimedOut,
}

/// A thermometer's state and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Temperature {
    /// How far it is.
    pub state: TemperatureState,
    /// The probe is not plugged in.
    pub probe_off: bool,
    /// Hundredths of a degree Celsius above 30.00, where the frame has a value; see [`Temperature::TOO_HOT`].
    pub hundredths_above_30: Option<u16>,
}

impl Temperature {
    /// The value by which it says that what it touches is too hot to measure.
    pub const TOO_HOT: u16 = 0x0520;
}

/// The unit a glucose meter states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GlucoseUnit {
    /// mmol/L, in tenths.
    MillimolesPerLitre,
    /// mg/dL.
    MilligramsPerDecilitre,
}

/// A glucose meter's result, passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Glucose {
    /// The meter says "low".
    pub low: bool,
    /// The meter says "high".
    pub high: bool,
    /// In which unit.
    pub unit: GlucoseUnit,
    /// The digits: tenths of mmol/L, or mg/dL; `None` where the frame has no value.
    pub digits: Option<u16>,
}

/// A block of the ECG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EcgBlock {
    /// Counts blocks, one octet; 0 while the monitor prepares.
    pub sequence: u8,
    /// Samples have 12 bits, not 8.
    pub twelve_bits: bool,
    /// As sent: 0–255 around 128, or 0–4095 around 2048.
    pub samples: [u16; ECG_SAMPLES],
    /// /min, 0 where there is none.
    pub heart_rate: u8,
    /// An electrode is off.
    pub lead_off: bool,
}

/// What the monitor makes of an ECG: a code over its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EcgFinding(pub u8);

/// The end of an ECG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EcgResult {
    /// What the monitor makes of it.
    pub finding: EcgFinding,
    /// /min, 0 where there is none.
    pub heart_rate: u8,
}

/// Versions and battery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeviceInformation {
    /// Nibbles of the software version, most significant first.
    pub software: u8,
    /// Nibbles of the hardware version.
    pub hardware: u8,
    /// 0 (empty) to 3, where the frame states it.
    pub battery: Option<u8>,
}

/// One thing the monitor says. Shape, units, errors and source: see [`Message::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// 42: while a cuff measures.
    CuffPressure(CuffPressure),
    /// 43/01.
    BloodPressure(BloodPressure),
    /// 43/02.
    BloodPressureError(BloodPressureError),
    /// 52/01: the pulse wave, samples of 7 bits; bit 7 marks a beat.
    Pleth(Vec<u8>),
    /// 53/01.
    Oximetry(Oximetry),
    /// 72/01.
    Temperature(Temperature),
    /// 73.
    Glucose(Glucose),
    /// E2/01: a glucose value whose unit the frame does not state.
    GlucoseWithoutUnit(u16),
    /// 30/01: an ECG begins.
    EcgStarted,
    /// 30/02: it is over.
    EcgStopped,
    /// 32: a block of it.
    EcgBlock(EcgBlock),
    /// 33: the monitor's finding.
    EcgResult(EcgResult),
    /// 34: counts per mV of 12-bit samples, where it is not [`Message::ECG_GAIN`].
    EcgGain(u16),
    /// FF/02, FF/04: versions and battery.
    DeviceInformation(DeviceInformation),
    /// D0: it switches itself off.
    PowerOff,
    /// Anything else, left as it is.
    Other(Frame),
}

impl Message {
    /// Counts per mV of 12-bit samples, unless the monitor states another.
    pub const ECG_GAIN: u16 = 394;
    /// Tenths of counts per mV of 8-bit samples.
    pub const ECG_GAIN_8_BITS_TENTHS: u16 = 285;

    /// What a frame means.
    ///
    /// Shape: by token and kind. 42: bit 4 of the first octet pulse, 12 bits pressure. 43/01: bit 7 irregular, 15 bits
    /// systolic, mean, diastolic, pulse rate. 43/02: error. 52/01: samples. 53/01: SpO2 · pulse rate u16 · perfusion · flags
    /// (bit 1 probe off, bit 2 searching). 72/01: bits 5–6 state, bit 4 probe off · value u16, where there is one. 73: bits
    /// 4–5 result, bit 0 unit · value (mg/dL binary; mmol/L four decimal digits, two an octet), where there is one. 32:
    /// sequence · 25 samples, bit 7 of the first octet of which says 12 bits · heart rate · bit 7 lead off. 33: finding ·
    /// reserved · heart rate. 34: gain. Numbers of two octets are big-endian, but for the pulse rate.
    /// Units: as named at each field.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for digits that are none.
    /// Source: as the module.
    pub fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&frame.content);
        let message = match (frame.token, frame.kind) {
            (0x42, _) => Self::CuffPressure(cuff_pressure(&mut r)?),
            (0x43, 1) => Self::BloodPressure(blood_pressure(&mut r)?),
            (0x43, 2) => Self::BloodPressureError(BloodPressureError(r.u8("error")?)),
            (0x52, 1) if !frame.content.is_empty() => return Ok(Self::Pleth(frame.content.clone())),
            (0x53, 1) => Self::Oximetry(oximetry(&mut r)?),
            (0x72, 1) => Self::Temperature(temperature(&mut r)?),
            (0x73, _) => Self::Glucose(glucose(&mut r)?),
            (0xe2, 1) => Self::GlucoseWithoutUnit(r.u16_be("glucose")?),
            (0x30, 1) => return Ok(Self::EcgStarted),
            (0x30, 2) => return Ok(Self::EcgStopped),
            (0x32, _) => Self::EcgBlock(ecg_block(&mut r)?),
            (0x33, _) => Self::EcgResult(ecg_result(&mut r)?),
            (0x34, _) => Self::EcgGain(r.u16_be("gain")?),
            (0xff, 2 | 4) => Self::DeviceInformation(device_information(&mut r)?),
            (0xd0, _) => return Ok(Self::PowerOff),
            _ => return Ok(Self::Other(frame.clone())),
        };
        r.finish()?;
        Ok(message)
    }

    /// The frame of it.
    #[must_use]
    pub fn encode(&self) -> Frame {
        let frame = |token, kind, content| Frame { token, kind, content };
        match self {
            Self::CuffPressure(CuffPressure { pressure, pulse }) => {
                let [high, low] = (pressure & 0x0fff).to_be_bytes();
                frame(0x42, 1, Vec::from([high | u8::from(*pulse) << 4, low]))
            }
            Self::BloodPressure(m) => {
                let [high, low] = (m.systolic & 0x7fff).to_be_bytes();
                let high = high | u8::from(m.irregular) << 7;
                frame(0x43, 1, Vec::from([high, low, m.mean, m.diastolic, m.pulse_rate]))
            }
            Self::BloodPressureError(error) => frame(0x43, 2, Vec::from([error.0])),
            Self::Pleth(samples) => frame(0x52, 1, samples.clone()),
            Self::Oximetry(m) => frame(0x53, 1, oximetry_octets(m)),
            Self::Temperature(m) => frame(0x72, 1, temperature_octets(m)),
            Self::Glucose(m) => frame(0x73, 1, glucose_octets(m)),
            Self::GlucoseWithoutUnit(value) => frame(0xe2, 1, value.to_be_bytes().to_vec()),
            Self::EcgStarted => frame(0x30, 1, Vec::new()),
            Self::EcgStopped => frame(0x30, 2, Vec::new()),
            Self::EcgBlock(block) => frame(0x32, 1, ecg_block_octets(block)),
            Self::EcgResult(m) => frame(0x33, 1, Vec::from([m.finding.0, 0, m.heart_rate])),
            Self::EcgGain(gain) => frame(0x34, 1, gain.to_be_bytes().to_vec()),
            Self::DeviceInformation(m) => {
                let mut octets = Vec::from([m.software, m.hardware]);
                octets.extend(m.battery.map(|battery| battery & 0x0f));
                frame(0xff, 2, octets)
            }
            Self::PowerOff => frame(0xd0, 1, Vec::new()),
            Self::Other(frame) => frame.clone(),
        }
    }
}

impl EcgFinding {
    /// Nothing irregular.
    pub const NOTHING_IRREGULAR: Self = Self(0);

    /// What the monitor suspects, in kebab-case; `None` for one newer than we are.
    #[must_use]
    pub const fn term(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "no-irregular-rhythm-found",
            0x01 => "suspected-a-little-fast-beat",
            0x02 => "suspected-fast-beat",
            0x03 => "suspected-short-run-of-fast-beat",
            0x04 => "suspected-a-little-slow-beat",
            0x05 => "suspected-slow-beat",
            0x06 => "suspected-short-beat-interval",
            0x07 => "suspected-irregular-beat-interval",
            0x08 => "suspected-fast-beat-with-short-beat-interval",
            0x09 => "suspected-slow-beat-with-short-beat-interval",
            0x0a => "suspected-slow-beat-with-irregular-beat-interval",
            0x0b => "waveform-baseline-wander",
            0x0c => "suspected-fast-beat-with-baseline-wander",
            0x0d => "suspected-slow-beat-with-baseline-wander",
            0x0e => "suspected-short-beat-interval-with-baseline-wander",
            0x0f => "suspected-irregular-beat-interval-with-baseline-wander",
            0xe0 => "no-ecg-result",
            0xff => "poor-signal",
            _ => return None,
        })
    }
}

fn cuff_pressure(r: &mut Reader<'_>) -> Result<CuffPressure, DecodeError> {
    let word = r.u16_be("cuff pressure")?;
    Ok(CuffPressure { pressure: word & 0x0fff, pulse: word & 0x1000 != 0 })
}

fn blood_pressure(r: &mut Reader<'_>) -> Result<BloodPressure, DecodeError> {
    let word = r.u16_be("systolic")?;
    Ok(BloodPressure {
        systolic: word & 0x7fff,
        irregular: word & 0x8000 != 0,
        mean: r.u8("mean")?,
        diastolic: r.u8("diastolic")?,
        pulse_rate: r.u8("pulse rate")?,
    })
}

const PROBE_OFF: u8 = 1 << 1;
const SEARCHING: u8 = 1 << 2;

fn oximetry(r: &mut Reader<'_>) -> Result<Oximetry, DecodeError> {
    let (spo2, pulse_rate, perfusion) = (r.u8("spo2")?, r.u16("pulse rate")?, r.u8("perfusion index")?);
    let flags = r.u8("flags")?;
    Ok(Oximetry {
        spo2: (spo2 != 0).then_some(spo2),
        pulse_rate: (pulse_rate != 0).then_some(pulse_rate),
        perfusion_tenths: (perfusion != 0).then_some(perfusion),
        probe_off: flags & PROBE_OFF != 0,
        searching: flags & SEARCHING != 0,
    })
}

fn oximetry_octets(m: &Oximetry) -> Vec<u8> {
    let [low, high] = m.pulse_rate.unwrap_or(0).to_le_bytes();
    let flags = if m.probe_off { PROBE_OFF } else { 0 } | if m.searching { SEARCHING } else { 0 };
    Vec::from([m.spo2.unwrap_or(0), low, high, m.perfusion_tenths.unwrap_or(0), flags])
}

fn temperature(r: &mut Reader<'_>) -> Result<Temperature, DecodeError> {
    let flags = r.u8("flags")?;
    let state = match flags >> 5 & 0x03 {
        0 => TemperatureState::Standby,
        1 => TemperatureState::Measuring,
        2 => TemperatureState::Done,
        _ => TemperatureState::TimedOut,
    };
    let value = if r.rest().is_empty() { None } else { Some(r.u16_be("temperature")?) };
    Ok(Temperature { state, probe_off: flags & 0x10 != 0, hundredths_above_30: value })
}

fn temperature_octets(m: &Temperature) -> Vec<u8> {
    let state = match m.state {
        TemperatureState::Standby => 0,
        TemperatureState::Measuring => 1 << 5,
        TemperatureState::Done => 2 << 5,
        TemperatureState::TimedOut => 3 << 5,
    };
    let mut octets = Vec::from([state | u8::from(m.probe_off) << 4]);
    octets.extend(m.hundredths_above_30.iter().flat_map(|value| value.to_be_bytes()));
    octets
}

fn glucose(r: &mut Reader<'_>) -> Result<Glucose, DecodeError> {
    let flags = r.u8("flags")?;
    let unit = if flags & 1 == 0 { GlucoseUnit::MillimolesPerLitre } else { GlucoseUnit::MilligramsPerDecilitre };
    let digits = match (r.rest().is_empty(), unit) {
        (true, _) => None,
        (false, GlucoseUnit::MilligramsPerDecilitre) => Some(r.u16_be("glucose")?),
        (false, GlucoseUnit::MillimolesPerLitre) => Some(decimal_digits(r.u16_be("glucose")?)?),
    };
    Ok(Glucose { low: flags >> 4 & 3 == 1, high: flags >> 4 & 3 == 2, unit, digits })
}

/// Four decimal digits, one a nibble.
fn decimal_digits(word: u16) -> Result<u16, DecodeError> {
    let nibbles = [word >> 12, word >> 8 & 0x0f, word >> 4 & 0x0f, word & 0x0f];
    match nibbles.iter().all(|digit| *digit <= 9) {
        true => Ok(nibbles.iter().fold(0, |number, digit| number * 10 + digit)),
        false => Err(DecodeError::Value { field: "glucose" }),
    }
}

fn glucose_octets(m: &Glucose) -> Vec<u8> {
    let (unit, digits) = match m.unit {
        GlucoseUnit::MilligramsPerDecilitre => (1, m.digits),
        GlucoseUnit::MillimolesPerLitre => {
            let nibbles = |n: u16| (n / 1000 % 10) << 12 | (n / 100 % 10) << 8 | (n / 10 % 10) << 4 | (n % 10);
            (0, m.digits.map(nibbles))
        }
    };
    let result = if m.low { 1 << 4 } else { 0 } | if m.high { 2 << 4 } else { 0 };
    let mut octets = Vec::from([result | unit]);
    octets.extend(digits.iter().flat_map(|digits| digits.to_be_bytes()));
    octets
}

fn ecg_block(r: &mut Reader<'_>) -> Result<EcgBlock, DecodeError> {
    let sequence = r.u8("sequence")?;
    let twelve_bits = r.rest().first().is_some_and(|octet| octet & 0x80 != 0);
    let mut samples = [0; ECG_SAMPLES];
    for sample in &mut samples {
        *sample = r.u16_be("samples")? & 0x0fff;
    }
    let heart_rate = r.u8("heart rate")?;
    Ok(EcgBlock { sequence, twelve_bits, samples, heart_rate, lead_off: r.u8("flags")? & 0x80 != 0 })
}

fn ecg_block_octets(block: &EcgBlock) -> Vec<u8> {
    let mut octets = Vec::from([block.sequence]);
    let digit = if block.twelve_bits { 0x8000 } else { 0 };
    octets.extend(block.samples.iter().flat_map(|sample| (sample & 0x0fff | digit).to_be_bytes()));
    octets.extend([block.heart_rate, u8::from(block.lead_off) << 7]);
    octets
}

fn ecg_result(r: &mut Reader<'_>) -> Result<EcgResult, DecodeError> {
    let finding = EcgFinding(r.u8("finding")?);
    r.u8("reserved")?;
    Ok(EcgResult { finding, heart_rate: r.u8("heart rate")? })
}

/// Two octets of software version where the frame has four: the first two nibbles are kept.
fn device_information(r: &mut Reader<'_>) -> Result<DeviceInformation, DecodeError> {
    let long = r.rest().len() == 4;
    let software = r.u8("software version")?;
    if long {
        r.u8("software version")?;
    }
    let hardware = r.u8("hardware version")?;
    let battery = if r.rest().is_empty() { None } else { Some(r.u8("battery")? & 0x0f) };
    Ok(DeviceInformation { software, hardware, battery })
}

#[cfg(test)]
mod tests;
