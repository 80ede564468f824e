//! The generic health sensor: a patient with a finger, an arm, electrodes and a mouthpiece, the box's firmware, a radio.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::health_observation::{HealthObservation, ObservationValue};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Quantity, Value};
use kit_protocol::units;
use uuid::Uuid;

use super::STEP;
use super::on_air::{Board, Identity, Now, OnAir, Sample, Sent, Whole, number, service, service_of};
use crate::faults::{Fault, Scenario};
use crate::firmware::health_sensor::{
    Arrived, CONTROL_POINT, ECG_LEADS, ECG_RATE_HZ, ELAPSED_TIME, FEATURES, Figures, GHS_CONTROL_POINT, HealthSensor, LIVE,
    Record, STORED,
};
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Properties, Security, Service, bluetooth};
use crate::lungs::Lungs;
use crate::noise::{mixed, nearest, step};
use crate::patient::Patient;
use crate::recording;
use crate::truth::{StreamHead, Truth};

const NAME: &str = "health-sensor";
const HEALTH_SENSOR_SERVICE: u16 = 0x1840;
const ELAPSED_TIME_SERVICE: u16 = 0x183f;

/// SpO2 and pulse come so often …
const OXIMETRY_EVERY: Duration = Duration::from_secs(10);
/// … and everything else once in this, so long after its beginning.
const ROUND: Duration = Duration::from_secs(60);
const PRESSURE_AT: Duration = Duration::from_secs(12);
const ECG_AT: Duration = Duration::from_secs(31);
const EXPIRATION_AT: Duration = Duration::from_secs(43);
/// An ECG lasts.
const ECG_LASTS: Duration = Duration::from_secs(10);
const ECG_ROWS: u32 = 10 * ECG_RATE_HZ;
/// Digits of a millivolt.
const DIGITS_PER_MILLIVOLT: f64 = 1_000.0;
/// Noise, so that no run of samples comes twice.
const NOISE_DIGITS: u32 = 3;
/// How long a recording lasts, MDC_ATTR_TIME_PD_MSMT_ACTIVE.
const DURATION: Mdc = Mdc(68_185);

/// The device with its radio.
pub type Sensor = OnAir<SensorBoard>;

/// The device.
pub struct SensorBoard {
    seed: u64,
    synthetic_signal: bool,
    patient: Patient,
    lungs: Lungs,
    blows: u64,
    firmware: Option<HealthSensor>,
    /// What the flash memory holds while the device is dark, and the last number given.
    flash: (VecDeque<Record>, u32),
    /// Results that are stored and were told to be so, with the moment of their making.
    made: Vec<(u64, Measured)>,
    /// Observations that have arrived, by number.
    arrived: BTreeSet<u32>,
}

impl OnAir<SensorBoard> {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        let board = SensorBoard {
            seed,
            synthetic_signal: scenario.synthetic_signal,
            patient: Patient::new(seed),
            lungs: Lungs::new(seed),
            blows: 0,
            firmware: None,
            flash: (VecDeque::new(), 0),
            made: Vec::new(),
            arrived: BTreeSet::new(),
        };
        Self::with(board, seed, scenario, truth)
    }
}

impl SensorBoard {
    /// Both leads over the last ten seconds, 1 µV a digit.
    fn ecg(&self, at: Duration) -> Vec<[i16; ECG_LEADS.len()]> {
        let row = |index: u32| {
            let seconds = at.as_secs_f64() - f64::from(ECG_ROWS - index) / f64::from(ECG_RATE_HZ);
            let leads = if self.synthetic_signal { self.patient.ecg(seconds) } else { recording::ecg(seconds) };
            let place = mixed(self.seed, at.as_secs()).wrapping_add(u64::from(index) * 2);
            let digit = |(lead, number): (f64, u64)| {
                let noise = step(self.seed, place.wrapping_add(number), NOISE_DIGITS);
                i16::try_from(nearest(lead * DIGITS_PER_MILLIVOLT) + i64::from(noise)).unwrap_or(0)
            };
            [digit((leads[0], 0)), digit((leads[1], 1))]
        };
        (0..ECG_ROWS).map(row).collect()
    }

    fn samples(record: &Record) -> Vec<Sample> {
        let ObservationValue::Compound(parts) = &record.observation.value else { return Vec::new() };
        let leads: Vec<Vec<i32>> = parts
            .iter()
            .filter_map(|part| match &part.value {
                ObservationValue::SampleArray(array) => Some(array.samples().collect()),
                _ => None,
            })
            .collect();
        let rows = leads.first().map_or(0, Vec::len);
        let row = |index: usize| leads.iter().filter_map(|lead| lead.get(index).copied()).collect();
        (0..rows).map(|index| Sample { stream: 0, counter: None, values: row(index) }).collect()
    }
}

fn due(at: Duration, every: Duration, after: Duration) -> bool {
    at.as_millis() % every.as_millis() == after.as_millis() % every.as_millis()
}

#[expect(clippy::cast_possible_truncation, reason = "a sensor has fewer digits than the patient")]
fn f32_of(value: f64) -> f32 {
    value as f32
}

/// An observation as a driver hands it over; a live recording is none.
fn measured(record: &Record, stored: bool, moment: Moment) -> Option<Measured> {
    let HealthObservation { observation_type, time, value, .. } = &record.observation;
    let mut values = Vec::new();
    let mut take = |code: Mdc, value: &ObservationValue| match value {
        ObservationValue::Numeric(numeric) => {
            let unit = units::by_code(numeric.unit.code()).map_or("", |unit| unit.ucum);
            values.push(Value { code, quantity: numeric.number.into(), unit });
        }
        // A stored recording ends with a reading that says how long it is.
        ObservationValue::SampleArray(_) if stored && code == ECG_LEADS[0] => {
            let seconds = i64::from(ECG_ROWS / ECG_RATE_HZ);
            values.push(Value { code: DURATION, quantity: Quantity::Number(Decimal::whole(seconds)), unit: "s" });
        }
        _ => {}
    };
    let code = (*observation_type)?;
    match value {
        ObservationValue::Compound(parts) => parts.iter().for_each(|part| take(part.code, &part.value)),
        value => take(code, value),
    }
    let kind = match code {
        Mdc::SPO2 | Mdc::PULSE_RATE => Kind::PulseOximetry,
        Mdc::ECG => Kind::Ecg,
        Mdc(150_020) => Kind::BloodPressure,
        _ => Kind::Spirometry,
    };
    (!values.is_empty()).then(|| Measured {
        values,
        device_time: time.and_then(|time| time.civil()),
        record: stored.then_some(record.number.into()),
        memory: if stored { Memory::Stored } else { Memory::Live },
        ..Measured::new(kind, moment)
    })
}

impl Board for SensorBoard {
    fn identity(&self) -> Identity {
        let pairing = PairingMethod::JustWorks;
        Identity { device: NAME, driver: NAME, model: "GH-1", address: 0x22, pairing, informs: true }
    }

    fn streams(&self) -> Vec<StreamHead> {
        let channels = ECG_LEADS.iter().map(|code| code.0).collect();
        vec![StreamHead { device: NAME.to_owned(), kind: "ecg", channels, rate_hz: ECG_RATE_HZ, gathers: ECG_LASTS }]
    }

    fn services(&self) -> Vec<Service> {
        let control = Properties::WRITE.and(Properties::INDICATE);
        let own = [
            (LIVE, Properties::INDICATE),
            (STORED, Properties::INDICATE),
            (FEATURES, Properties::READ),
            (GHS_CONTROL_POINT, control),
            (CONTROL_POINT, control),
        ];
        let own = own.map(|(number, properties)| (bluetooth(number), properties));
        // Nothing of a patient leaves it unencrypted.
        let sensor = service_of(bluetooth(HEALTH_SENSOR_SERVICE), Security::Unauthenticated, own);
        vec![sensor, service(ELAPSED_TIME_SERVICE, &[(ELAPSED_TIME, Properties::READ)])]
    }

    fn advertisement(&self, _now: Now) -> Option<Advertisement> {
        self.firmware.as_ref().filter(|firmware| firmware.advertising())?;
        Some(Advertisement { services: vec![bluetooth(HEALTH_SENSOR_SERVICE)], ..Advertisement::default() })
    }

    fn power_up(&mut self, _now: Now) {
        let (records, numbers) = std::mem::take(&mut self.flash);
        self.firmware = Some(HealthSensor::start(records, numbers));
    }

    fn power_down(&mut self) {
        if let Some(firmware) = self.firmware.take() {
            self.flash = firmware.memory();
        }
    }

    fn step(&mut self, now: Now, scenario: &Scenario) {
        let off = scenario.during(now.at).any(|fault| fault == Fault::SensorOff);
        let vitals = self.patient.vitals(now.at.as_secs_f64());
        let ecg = (now.at > ECG_AT - STEP && due(now.at, ROUND, ECG_AT)).then(|| self.ecg(now.at));
        let Some(firmware) = &mut self.firmware else { return };
        if !off && due(now.at, OXIMETRY_EVERY, Duration::from_secs(4)) {
            firmware.observe_oximetry(now.up_ms, f32_of(vitals.spo2), f32_of(vitals.heart_rate));
        }
        if due(now.at, ROUND, PRESSURE_AT) {
            let mean = (vitals.systolic + 2.0 * vitals.diastolic) / 3.0;
            firmware.observe_pressure(now.up_ms, [vitals.systolic, vitals.diastolic, mean].map(f32_of));
        }
        if let Some(rows) = ecg {
            firmware.observe_ecg(now.up_ms, &rows);
        }
        if due(now.at, ROUND, EXPIRATION_AT) {
            let blow = self.lungs.blow(self.blows);
            self.blows += 1;
            let figures = Figures { fvc: f32_of(blow.fvc()), fev1: f32_of(blow.fev1()), pef: f32_of(blow.peak) };
            firmware.observe_expiration(now.up_ms, figures);
        }
    }

    fn set_clock(&mut self, at_power_up: Option<u64>) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_clock(at_power_up));
    }

    fn take_made(&mut self, moment: Moment) -> Vec<(u64, Measured)> {
        let made = std::iter::from_fn(|| self.firmware.as_mut()?.take_made());
        let made = made.filter_map(|record| Some((record.number.into(), measured(&record, false, moment)?)));
        let mut made: Vec<_> = made.collect();
        made.append(&mut self.made);
        made
    }

    /// What it holds at the end nobody was sent.
    fn take_lost(&mut self, ends: bool) -> Vec<Sample> {
        if !ends {
            return Vec::new();
        }
        let dark = self.flash.0.iter();
        let held = dark.chain(self.firmware.iter().flat_map(HealthSensor::held));
        held.filter(|record| !self.arrived.contains(&record.number)).flat_map(Self::samples).collect()
    }

    fn connected(&mut self, now: Now) {
        self.firmware.iter_mut().for_each(|firmware| firmware.connect(now.up_ms));
    }

    fn disconnected(&mut self, now: Now) {
        self.firmware.iter_mut().for_each(|firmware| firmware.disconnect(now.up_ms));
    }

    fn agreed_mtu(&mut self, octets: u16) {
        self.firmware.iter_mut().for_each(|firmware| firmware.agree_mtu(octets));
    }

    fn read(&mut self, now: Now, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        let firmware = self.firmware.as_mut().ok_or(AttError::RequestNotSupported)?;
        Ok(firmware.read(now.up_ms, number(characteristic))?)
    }

    fn write(&mut self, now: Now, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        let firmware = self.firmware.as_mut().ok_or(AttError::RequestNotSupported)?;
        Ok(firmware.write(now.up_ms, number(characteristic), value)?)
    }

    fn subscribed(&mut self, now: Now, characteristic: Uuid, on: bool) {
        self.firmware.iter_mut().for_each(|firmware| firmware.subscribe(now.up_ms, number(characteristic), on));
    }

    fn confirmed(&mut self, now: Now, _characteristic: Uuid) -> Whole {
        let arrived = self.firmware.as_mut().and_then(|firmware| firmware.confirmed(now.up_ms));
        let Some(Arrived { record, stored }) = arrived else { return Whole::default() };
        // What the memory reports again was told before.
        if !self.arrived.insert(record.number) {
            return Whole::default();
        }
        let number = record.number.into();
        if stored {
            self.made.extend(measured(&record, true, now.moment).map(|measured| (number, measured)));
        }
        Whole { results: vec![number], samples: Self::samples(&record) }
    }

    fn next(&mut self, now: Now) -> Option<Sent> {
        let (message, ends) = self.firmware.as_mut()?.next_message(now.up_ms)?;
        let outgoing =
            Outgoing { characteristic: bluetooth(message.characteristic), value: message.value, confirmed: message.indication };
        Some(Sent { is_result: ends, ..Sent::plain(outgoing) })
    }

    fn hangs_up(&self, now: Now) -> bool {
        self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(now.up_ms))
    }
}

#[cfg(test)]
mod tests;
