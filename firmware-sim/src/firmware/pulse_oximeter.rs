//! A spot-check pulse oximeter with a memory: a MAX30102 on I2C, the Pulse Oximeter Service on the air.
//!
//! It measures for some seconds, advertises for some seconds, indicates the new measurement to whoever subscribes, and
//! keeps the last ones for the Record Access Control Point. While it measures on an open link it notifies continuous
//! values each second. Characteristics are their 16-bit numbers here; time is milliseconds since power-up.
//! Source: Bluetooth SIG, Pulse Oximeter Service 1.0.1; GATT Specification Supplement.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use embedded_hal::i2c::I2c;
use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::plx_continuous::{PlxContinuousMeasurement, Spo2PulseRate};
use kit_protocol::gatt::plx_features::{PlxFeatures, SupportedFeatures};
use kit_protocol::gatt::plx_spot_check::PlxSpotCheckMeasurement;
use kit_protocol::gatt::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use kit_protocol::gatt::racp::{Count, OpCode, Request, Response, ResponseCode, Selection};
use kit_protocol::mder::Number;
use kit_protocol::reading::Special;

use super::Fault;
use super::calendar::civil;
use super::max30102::Sensor;
use super::nearest;
use super::pulse_signal::PulseSignal;

/// PLX Spot-Check Measurement.
pub const SPOT_CHECK: u16 = 0x2a5e;
/// PLX Continuous Measurement.
pub const CONTINUOUS: u16 = 0x2a5f;
/// PLX Features.
pub const FEATURES: u16 = 0x2a60;
/// Record Access Control Point.
pub const CONTROL_POINT: u16 = 0x2a52;
/// Battery Level.
pub const BATTERY_LEVEL: u16 = 0x2a19;

/// Continuous values come this often, ms.
const CONTINUOUS_MS: u64 = 1_000;
/// Numbers of fewer beats than this are not a spot check.
const BEATS_MIN: usize = 5;

/// How the device spends its time, ms, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A measurement begins this often.
    pub period_ms: u64,
    /// It takes this long, or at most twice as long where the pulse is hard to find.
    pub measure_ms: u64,
    /// The device then advertises for this long.
    pub advertise_ms: u64,
    /// It hangs up after this long without anything to say or to answer.
    pub idle_ms: u64,
    /// Records it keeps; the next overwrites the oldest.
    pub records_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { period_ms: 20_000, measure_ms: 8_000, advertise_ms: 12_000, idle_ms: 3_000, records_max: 40 }
    }
}

/// One spot check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts this device's spot checks; it is not on the air.
    pub number: u64,
    /// What it measured, as it indicates it when it is new.
    pub measurement: PlxSpotCheckMeasurement,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The characteristic.
    pub characteristic: u16,
    /// Its value.
    pub value: Vec<u8>,
    /// By indication; nothing more is sent until [`PulseOximeter::confirmed`].
    pub indication: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such characteristic, or not to be read or written.
    NotPermitted,
    /// The value has no octets.
    Length,
    /// What the answer needs is not subscribed to.
    NotSubscribed,
    /// A procedure is running.
    InProgress,
}

/// What the device is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A finger is on it, since then.
    Measuring { since_ms: u64, notified_ms: u64 },
    /// It advertises until then, or a link is up.
    Offering { until_ms: u64 },
    /// Dark until the next measurement.
    Resting,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Subscriptions {
    spot_check: bool,
    continuous: bool,
    control_point: bool,
    battery: bool,
}

/// The firmware.
#[derive(Debug)]
pub struct PulseOximeter<I2C> {
    sensor: Sensor<I2C>,
    settings: Settings,
    signal: PulseSignal,
    phase: Phase,
    next_measurement_ms: u64,
    clock: Clock,
    battery_percent: u8,
    battery_told: u8,
    records: VecDeque<Record>,
    numbers: u64,
    /// The newest record, while it was never confirmed.
    fresh: Option<u64>,
    measured: VecDeque<Record>,
    connected: bool,
    subscriptions: Subscriptions,
    last_traffic_ms: u64,
    /// Records that a running report still owes.
    report: Option<VecDeque<u64>>,
    response: Option<Response>,
    /// The record that an indication carries which is not confirmed yet.
    awaiting: Option<(u16, Option<u64>)>,
}

/// The device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// Seconds since 2000 at power-up.
    at_power_up: u64,
    set: bool,
}

impl<I2C: I2c> PulseOximeter<I2C> {
    /// Power-up: the clock is at the start of 2000 and not set, the memory is what it was before (`records`).
    pub fn start(bus: I2C, settings: Settings, records: VecDeque<Record>) -> Result<Self, Fault<I2C::Error>> {
        let mut sensor = Sensor::new(bus);
        sensor.start()?;
        sensor.stop()?;
        let numbers = records.back().map_or(0, |record| record.number);
        Ok(Self {
            sensor,
            settings,
            signal: PulseSignal::default(),
            phase: Phase::Resting,
            next_measurement_ms: 0,
            clock: Clock { at_power_up: 0, set: false },
            battery_percent: 100,
            battery_told: 100,
            records,
            numbers,
            fresh: None,
            measured: VecDeque::new(),
            connected: false,
            subscriptions: Subscriptions::default(),
            last_traffic_ms: 0,
            report: None,
            response: None,
            awaiting: None,
        })
    }

    /// Sets the clock: it was `seconds` after the start of 2000 at power-up.
    pub fn set_clock(&mut self, seconds: u64) {
        self.clock = Clock { at_power_up: seconds, set: true };
    }

    /// The clock has lost the time: it begins again at the start of 2000.
    pub fn unset_clock(&mut self) {
        self.clock = Clock { at_power_up: 0, set: false };
    }

    /// What the battery's gauge says, %.
    pub fn set_battery(&mut self, percent: u8) {
        self.battery_percent = percent.min(100);
    }

    /// To be called at least every 200 ms: samples, and moves from measuring to offering to resting.
    pub fn tick(&mut self, now_ms: u64) -> Result<(), Fault<I2C::Error>> {
        match self.phase {
            Phase::Measuring { since_ms, .. } => {
                let signal = &mut self.signal;
                self.sensor.fetch(|light| {
                    signal.push(light);
                })?;
                let spent = now_ms.saturating_sub(since_ms);
                let found = self.signal.beats_found() >= BEATS_MIN;
                if (spent >= self.settings.measure_ms && found) || spent >= 2 * self.settings.measure_ms {
                    self.finish(now_ms)?;
                }
            }
            Phase::Offering { until_ms } if now_ms >= until_ms => self.phase = Phase::Resting,
            Phase::Offering { .. } => {}
            Phase::Resting if now_ms >= self.next_measurement_ms => {
                self.next_measurement_ms = now_ms + self.settings.period_ms;
                self.signal = PulseSignal::default();
                self.sensor.start()?;
                self.phase = Phase::Measuring { since_ms: now_ms, notified_ms: now_ms };
            }
            Phase::Resting => {}
        }
        Ok(())
    }

    /// Whether it advertises.
    #[must_use]
    pub fn advertising(&self) -> bool {
        matches!(self.phase, Phase::Offering { .. }) && !self.connected
    }

    /// Whether it measures.
    #[must_use]
    pub fn measuring(&self) -> bool {
        matches!(self.phase, Phase::Measuring { .. })
    }

    /// The next spot check finished since the last call, for whoever keeps a record of what was made.
    pub fn take_measured(&mut self) -> Option<Record> {
        self.measured.pop_front()
    }

    /// What the memory holds, oldest first.
    #[must_use]
    pub fn records(&self) -> &VecDeque<Record> {
        &self.records
    }

    /// A link came up.
    pub fn connect(&mut self, now_ms: u64) {
        self.connected = true;
        self.forget_link(now_ms);
    }

    /// The link ended: with nothing new left to hand over, it is dark until the next measurement.
    pub fn disconnect(&mut self, now_ms: u64) {
        self.connected = false;
        self.forget_link(now_ms);
        if self.fresh.is_none() && matches!(self.phase, Phase::Offering { .. }) {
            self.phase = Phase::Resting;
        }
    }

    /// A client characteristic configuration was written.
    pub fn subscribe(&mut self, now_ms: u64, characteristic: u16, on: bool) {
        self.last_traffic_ms = now_ms;
        match characteristic {
            SPOT_CHECK => self.subscriptions.spot_check = on,
            CONTINUOUS => self.subscriptions.continuous = on,
            CONTROL_POINT => self.subscriptions.control_point = on,
            BATTERY_LEVEL => self.subscriptions.battery = on,
            _ => {}
        }
    }

    /// A read request.
    pub fn read(&mut self, now_ms: u64, characteristic: u16) -> Result<Vec<u8>, Refusal> {
        self.last_traffic_ms = now_ms;
        match characteristic {
            FEATURES => Ok(features().encode()),
            BATTERY_LEVEL => Ok(Vec::from([self.battery_percent])),
            _ => Err(Refusal::NotPermitted),
        }
    }

    /// A write request.
    pub fn write(&mut self, now_ms: u64, characteristic: u16, value: &[u8]) -> Result<(), Refusal> {
        self.last_traffic_ms = now_ms;
        if characteristic != CONTROL_POINT {
            return Err(Refusal::NotPermitted);
        }
        let Some(&op_code) = value.first() else { return Err(Refusal::Length) };
        let (op_code, request) = (OpCode(op_code), Request::decode(value));
        let busy = self.report.is_some() || self.response.is_some();
        let abort = op_code == OpCode::ABORT;
        if !self.subscriptions.control_point || (op_code == OpCode::REPORT && !self.subscriptions.spot_check) {
            return Err(Refusal::NotSubscribed);
        }
        if busy && !abort {
            return Err(Refusal::InProgress);
        }
        self.response = match request {
            Ok(request) => self.carry_out(&request),
            Err(_) if op_code.is_response() => Some(answer(op_code, ResponseCode::OP_CODE_NOT_SUPPORTED)),
            Err(_) => Some(answer(op_code, ResponseCode::INVALID_OPERAND)),
        };
        Ok(())
    }

    /// What it sends next.
    pub fn next_message(&mut self, now_ms: u64) -> Option<Message> {
        if !self.connected || self.awaiting.is_some() {
            return None;
        }
        let message =
            self.report_next().or_else(|| self.respond()).or_else(|| self.offer_fresh()).or_else(|| self.notify(now_ms))?;
        self.last_traffic_ms = now_ms;
        Some(message)
    }

    /// The last indication of this characteristic was confirmed; gives the number of the record that it carried.
    pub fn confirmed(&mut self, now_ms: u64, characteristic: u16) -> Option<u64> {
        self.last_traffic_ms = now_ms;
        let (_, record) = self.awaiting.take_if(|(awaited, _)| *awaited == characteristic)?;
        if record.is_some() && record == self.fresh {
            self.fresh = None;
        }
        record
    }

    /// Whether it hangs up: nothing to say, nothing asked for a while, and no measurement going on.
    #[must_use]
    pub fn hangs_up(&self, now_ms: u64) -> bool {
        let idle = now_ms.saturating_sub(self.last_traffic_ms) >= self.settings.idle_ms;
        self.connected && idle && !self.measuring()
    }

    fn forget_link(&mut self, now_ms: u64) {
        self.subscriptions = Subscriptions::default();
        self.report = None;
        self.response = None;
        self.awaiting = None;
        self.last_traffic_ms = now_ms;
    }

    /// A measurement ends: with a record, or with nothing where no pulse was found.
    fn finish(&mut self, now_ms: u64) -> Result<(), Fault<I2C::Error>> {
        self.sensor.stop()?;
        self.phase = Phase::Offering { until_ms: now_ms + self.settings.advertise_ms };
        self.last_traffic_ms = now_ms;
        let (Some(spo2), Some(pulse_rate)) = (self.signal.spo2(8), self.signal.pulse_rate(8)) else { return Ok(()) };
        self.numbers += 1;
        let measurement = PlxSpotCheckMeasurement {
            spo2: finite(spo2, 0),
            pulse_rate: finite(pulse_rate, 0),
            time_stamp: Some(self.civil(now_ms)),
            measurement_status: Some(MeasurementStatus::FULLY_QUALIFIED),
            device_and_sensor_status: Some(DeviceAndSensorStatus::default()),
            pulse_amplitude_index: self.signal.perfusion(8).map(|perfusion| finite(perfusion * 10.0, -1)),
            device_clock_not_set: !self.clock.set,
        };
        let record = Record { number: self.numbers, measurement };
        while self.records.len() >= self.settings.records_max.max(1) {
            self.records.pop_front();
        }
        self.records.push_back(record.clone());
        self.fresh = Some(record.number);
        self.measured.push_back(record);
        Ok(())
    }

    fn civil(&self, now_ms: u64) -> DateTime {
        civil(self.clock.at_power_up + now_ms / 1_000)
    }

    fn carry_out(&mut self, request: &Request) -> Option<Response> {
        let code = match (request.op_code, &request.selection) {
            (OpCode::ABORT, Selection::Null) => {
                self.report = None;
                ResponseCode::SUCCESS
            }
            (OpCode::REPORT, Selection::All) if !self.records.is_empty() => {
                self.report = Some(self.records.iter().map(|record| record.number).collect());
                return None;
            }
            (OpCode::REPORT_NUMBER, Selection::All) => {
                let count = u16::try_from(self.records.len()).unwrap_or(u16::MAX);
                return Some(Response::NumberOfStoredRecords(Count::U16(count)));
            }
            (OpCode::DELETE, Selection::All) if !self.records.is_empty() => {
                self.records.clear();
                self.fresh = None;
                ResponseCode::SUCCESS
            }
            (OpCode::REPORT | OpCode::DELETE, Selection::All) => ResponseCode::NO_RECORDS_FOUND,
            (OpCode::ABORT, _) | (OpCode::REPORT | OpCode::DELETE | OpCode::REPORT_NUMBER, Selection::Null) => {
                ResponseCode::INVALID_OPERATOR
            }
            (OpCode::REPORT | OpCode::DELETE | OpCode::REPORT_NUMBER, _) => ResponseCode::OPERATOR_NOT_SUPPORTED,
            _ => ResponseCode::OP_CODE_NOT_SUPPORTED,
        };
        Some(answer(request.op_code, code))
    }

    /// The next record of a running report; at its end, that it went well.
    fn report_next(&mut self) -> Option<Message> {
        let report = self.report.as_mut()?;
        let Some(number) = report.pop_front() else {
            self.report = None;
            self.response = Some(answer(OpCode::REPORT, ResponseCode::SUCCESS));
            return None;
        };
        let mut measurement = self.records.iter().find(|record| record.number == number)?.measurement;
        let status = measurement.measurement_status.unwrap_or_default();
        measurement.measurement_status = Some(MeasurementStatus(status.0 | MeasurementStatus::FROM_STORAGE.0));
        self.indicate_record(number, &measurement)
    }

    fn respond(&mut self) -> Option<Message> {
        let response = self.response.take()?;
        self.awaiting = Some((CONTROL_POINT, None));
        Some(Message { characteristic: CONTROL_POINT, value: response.encode(), indication: true })
    }

    fn offer_fresh(&mut self) -> Option<Message> {
        let number = self.fresh.filter(|_| self.subscriptions.spot_check)?;
        let measurement = self.records.iter().find(|record| record.number == number)?.measurement;
        self.indicate_record(number, &measurement)
    }

    fn indicate_record(&mut self, number: u64, measurement: &PlxSpotCheckMeasurement) -> Option<Message> {
        let value = measurement.encode()?;
        self.awaiting = Some((SPOT_CHECK, Some(number)));
        Some(Message { characteristic: SPOT_CHECK, value, indication: true })
    }

    fn notify(&mut self, now_ms: u64) -> Option<Message> {
        if self.subscriptions.battery && self.battery_told != self.battery_percent {
            self.battery_told = self.battery_percent;
            let value = Vec::from([self.battery_percent]);
            return Some(Message { characteristic: BATTERY_LEVEL, value, indication: false });
        }
        let Phase::Measuring { notified_ms, .. } = &mut self.phase else { return None };
        if !self.subscriptions.continuous || now_ms.saturating_sub(*notified_ms) < CONTINUOUS_MS {
            return None;
        }
        *notified_ms = now_ms;
        let value = continuous(&self.signal).encode()?;
        Some(Message { characteristic: CONTINUOUS, value, indication: false })
    }
}

/// What the device can do.
#[must_use]
pub fn features() -> PlxFeatures {
    PlxFeatures {
        supported_features: SupportedFeatures(
            SupportedFeatures::MEASUREMENT_STATUS.0
                | SupportedFeatures::DEVICE_AND_SENSOR_STATUS.0
                | SupportedFeatures::MEASUREMENT_STORAGE.0
                | SupportedFeatures::TIME_STAMP.0
                | SupportedFeatures::PULSE_AMPLITUDE_INDEX.0,
        ),
        measurement_status_support: Some(MeasurementStatus(
            MeasurementStatus::ONGOING.0
                | MeasurementStatus::FULLY_QUALIFIED.0
                | MeasurementStatus::FROM_STORAGE.0
                | MeasurementStatus::UNAVAILABLE.0,
        )),
        device_and_sensor_status_support: Some(DeviceAndSensorStatus::SENSOR_UNCONNECTED_TO_USER),
    }
}

/// The value of this second, NaN and "unavailable" while there is none.
fn continuous(signal: &PulseSignal) -> PlxContinuousMeasurement {
    let none = Number::Special(Special::NotANumber);
    let number = |value: Option<f32>| value.map_or(none, |value| finite(value, 0));
    let unavailable = if signal.tracking() { 0 } else { MeasurementStatus::UNAVAILABLE.0 };
    let off = if signal.finger() { 0 } else { DeviceAndSensorStatus::SENSOR_UNCONNECTED_TO_USER.0 };
    PlxContinuousMeasurement {
        normal: Spo2PulseRate { spo2: number(signal.spo2(4)), pulse_rate: number(signal.pulse_rate(4)) },
        fast: None,
        slow: None,
        measurement_status: Some(MeasurementStatus(MeasurementStatus::ONGOING.0 | unavailable)),
        device_and_sensor_status: Some(DeviceAndSensorStatus(off)),
        pulse_amplitude_index: signal.perfusion(4).map(|perfusion| finite(perfusion * 10.0, -1)),
    }
}

fn answer(request: OpCode, code: ResponseCode) -> Response {
    Response::Code { request, code }
}

/// `mantissa × 10^exponent`, the mantissa rounded to what an SFLOAT holds.
fn finite(mantissa: f32, exponent: i8) -> Number {
    Number::Finite(Decimal::new(i64::from(nearest(mantissa).clamp(0, 2_000)), exponent))
}
