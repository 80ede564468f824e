//! Pulse oximeters of the Bluetooth Pulse Oximeter Service (0x1822).
//!
//! Services: 0x1822 with PLX Features (0x2A60, read), Spot-Check Measurement (0x2A5E, indicated), Continuous Measurement
//! (0x2A5F, notified) and, in devices with a memory, the Record Access Control Point (0x2A52, written and indicated).
//! Source: Bluetooth SIG, Pulse Oximeter Service and Profile 1.0.1. The service's control point knows neither sequence
//! numbers nor times: all stored records are asked for at each connection, and the store tells known ones by their origin.
//! That needs a time stamp, so the memory of a device without one is left alone: its records would double.
//! A spot check is a reading; of continuous values one every 10 s is (the usual averaging; fast and slow ones are left).
//! What has no number in it, or says that no measurement is available, is none: a spot check is refused as an attempt; the
//! next continuous value comes in a second, and only where every one is wanted is it refused.
//! Records are deleted, where that is allowed, only when every one of a report is durable and the device still has as many.

use std::time::Duration;

use kit_protocol::gatt::plx_continuous::PlxContinuousMeasurement;
use kit_protocol::gatt::plx_features::{PlxFeatures, SupportedFeatures};
use kit_protocol::gatt::plx_spot_check::PlxSpotCheckMeasurement;
use kit_protocol::gatt::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use kit_protocol::gatt::racp::{OpCode, Selection};
use kit_protocol::mder::Number;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Status, Value};

use crate::driver::{Driver, Effect, Endpoint, Event, Link, Pairing, Security, Start, bluetooth};
use crate::session::gatt_session::{CURRENT_TIME, GattSession, OverGatt, Plan, earlier, sets_clock};
use crate::session::stored_records::{StoredRecords, may};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "pulse-oximeter",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(SERVICE)], names: &[], listens: &[SPOT_CHECK, CONTINUOUS] }],
    protocol: "Pulse Oximeter Service 0x1822",
    gives: "SpO2, pulse, perfusion index, status; stored spot checks",
    parameters: &[Mdc::SPO2, Mdc::PULSE_RATE, Mdc::PERFUSION_INDEX],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[
        may("report-stored-records", Effect::Ask, CONTROL_POINT, &[1]),
        may("delete-stored-records", Effect::Delete, CONTROL_POINT, &[2]),
        may("abort", Effect::Converse, CONTROL_POINT, &[3]),
        may("report-number-of-stored-records", Effect::Ask, CONTROL_POINT, &[4]),
        sets_clock(CURRENT_TIME),
    ],
    quirks: &[],
    session: |start| Box::new(PulseOximeter::new(&start)),
};

const SERVICE: u16 = 0x1822;
const SPOT_CHECK: Endpoint = Endpoint::gatt(SERVICE, 0x2a5e);
const CONTINUOUS: Endpoint = Endpoint::gatt(SERVICE, 0x2a5f);
const FEATURES: Endpoint = Endpoint::gatt(SERVICE, 0x2a60);
const CONTROL_POINT: Endpoint = Endpoint::gatt(SERVICE, 0x2a52);

/// The control point first: a device refuses a request whose answer it cannot indicate.
const PLAN: Plan = Plan {
    gives: "pulse oximeter measurement",
    measures: &[SPOT_CHECK, CONTINUOUS],
    reads: &[FEATURES],
    subscribes: &[CONTROL_POINT, SPOT_CHECK, CONTINUOUS],
    clock: &[CURRENT_TIME],
};

/// One reading of continuous values every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// Measurements are taken in at every stage of the conversation about the memory.
struct PulseOximeter {
    gatt: GattSession,
    memory: StoredRecords,
    interval: Duration,
    features: PlxFeatures,
    /// No continuous reading before this.
    next_reading: Option<Moment>,
}

impl OverGatt for PulseOximeter {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn set_up(&mut self, now: Moment) {
        if self.memory_can_be_told_apart() {
            self.memory.report(now, &mut self.gatt, OpCode::REPORT, Selection::All);
        }
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: FEATURES, octets, .. } => self.features(octets),
            Event::Received { from: SPOT_CHECK, octets, .. } => self.spot_check(now, octets),
            Event::Received { from: CONTINUOUS, octets, .. } => self.continuous(now, octets),
            Event::Received { from: CONTROL_POINT, octets, .. } => {
                self.memory.response(now, &mut self.gatt, octets);
            }
            Event::Failed { command, .. } => {
                self.memory.failed(now, command);
            }
            Event::Stored { reading } => self.memory.answered(now, &mut self.gatt, reading, true),
            Event::Refused { reading } => self.memory.answered(now, &mut self.gatt, reading, false),
            Event::Down { .. } => self.memory.down(),
            Event::Up { .. } | Event::Received { .. } | Event::Done { .. } => {}
        }
    }

    fn time_came(&mut self, now: Moment) {
        self.memory.handle_timeout(now, &mut self.gatt);
    }

    fn until(&self) -> Option<Moment> {
        earlier(self.gatt.poll_timeout(), self.memory.until(&self.gatt))
    }
}

impl PulseOximeter {
    fn new(start: &Start) -> Self {
        Self {
            gatt: GattSession::new(PLAN, start),
            memory: StoredRecords::new(CONTROL_POINT, start.may_delete),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            features: PlxFeatures::default(),
            next_reading: None,
        }
    }

    fn features(&mut self, octets: &[u8]) {
        match PlxFeatures::decode(octets) {
            Ok(features) => self.features = features,
            Err(error) => self.gatt.undecodable("PLX features", error, octets),
        }
    }

    fn memory_can_be_told_apart(&self) -> bool {
        let SupportedFeatures(memory) = SupportedFeatures::MEASUREMENT_STORAGE;
        let SupportedFeatures(time) = SupportedFeatures::TIME_STAMP;
        self.features.supported_features.contains(SupportedFeatures(memory | time))
            && self.gatt.subscribed(CONTROL_POINT)
            && self.gatt.subscribed(SPOT_CHECK)
    }
}

/// What it measures.
impl PulseOximeter {
    fn spot_check(&mut self, now: Moment, octets: &[u8]) {
        let reporting = self.memory.reporting();
        self.memory.goes_on(now);
        let measurement = match PlxSpotCheckMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => {
                self.memory.spoil();
                return self.gatt.undecodable("PLX spot-check measurement", error, octets);
            }
        };
        let memory = self.memory_of(&measurement, reporting);
        let numbers = [measurement.spo2, measurement.pulse_rate];
        if let Some(why) = nothing(numbers, measurement.measurement_status) {
            // One of the past is nothing to keep, and nobody can repeat it now.
            return if reporting && memory == Memory::Stored {
                self.memory.came();
                self.memory.gave_nothing(now, &mut self.gatt);
            } else {
                self.gatt.undecodable("PLX spot-check measurement", why, octets);
            };
        }
        match self.gatt.measured(spot_check(now, &measurement, memory)) {
            Ok(token) if reporting && memory == Memory::Stored => {
                self.memory.came();
                self.memory.handed_over(now, &mut self.gatt, token);
            }
            Ok(token) if reporting => self.memory.await_answer(token),
            Ok(_) => {}
            Err(_) => self.memory.no_room(now, &mut self.gatt),
        }
    }

    /// Out of the memory: what says so, and what comes during a report from a device that never says so.
    fn memory_of(&self, measurement: &PlxSpotCheckMeasurement, reporting: bool) -> Memory {
        let says = |status: Option<MeasurementStatus>| status.is_some_and(|s| s.contains(MeasurementStatus::FROM_STORAGE));
        let would_say = says(self.features.measurement_status_support);
        if says(measurement.measurement_status) || (reporting && !would_say) { Memory::Stored } else { Memory::Live }
    }

    fn continuous(&mut self, now: Moment, octets: &[u8]) {
        let measurement = match PlxContinuousMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable("PLX continuous measurement", error, octets),
        };
        let numbers = [measurement.normal.spo2, measurement.normal.pulse_rate];
        if let Some(why) = nothing(numbers, measurement.measurement_status) {
            if self.interval.is_zero() {
                self.gatt.undecodable("PLX continuous measurement", why, octets);
            }
            return;
        }
        if self.next_reading.is_some_and(|next| now < next) {
            return;
        }
        // Where nothing more can be taken in, the value is not taken: the next one comes in a second.
        if self.gatt.measured(continuous(now, &measurement, octets)).is_ok() {
            self.next_reading = Some(now + self.interval);
        }
    }
}

fn spot_check(now: Moment, m: &PlxSpotCheckMeasurement, memory: Memory) -> Measured {
    let clock = m.device_clock_not_set.then_some("device-clock-not-set");
    // The same measurement comes first by itself and later out of the memory, which this bit alone tells apart.
    let bits = m.measurement_status.unwrap_or_default().0 & !MeasurementStatus::FROM_STORAGE.0;
    let same = PlxSpotCheckMeasurement { measurement_status: Some(MeasurementStatus(bits)), ..*m };
    Measured {
        values: values(m.spo2, m.pulse_rate, m.pulse_amplitude_index),
        device_time: m.time_stamp,
        status: status(m.measurement_status, m.device_and_sensor_status).chain(clock).collect(),
        memory,
        octets: same.encode().expect("every number came as an SFLOAT"),
        ..measured(now)
    }
}

fn continuous(now: Moment, m: &PlxContinuousMeasurement, octets: &[u8]) -> Measured {
    Measured {
        values: values(m.normal.spo2, m.normal.pulse_rate, m.pulse_amplitude_index),
        status: status(m.measurement_status, m.device_and_sensor_status).collect(),
        octets: octets.to_vec(),
        ..measured(now)
    }
}

fn measured(now: Moment) -> Measured {
    Measured::new(Kind::PulseOximetry, now)
}

/// Why a measurement is none, in words for a technician.
fn nothing(numbers: [Number; 2], status: Option<MeasurementStatus>) -> Option<&'static str> {
    if status.is_some_and(|status| status.contains(MeasurementStatus::UNAVAILABLE)) {
        return Some("the device says that no measurement is available: is the finger in the sensor, and still?");
    }
    let none = numbers.into_iter().all(|number| !is_measured(number));
    none.then_some("neither SpO2 nor pulse in it: is the finger in the sensor, and still?")
}

fn is_measured(number: Number) -> bool {
    matches!(number, Number::Finite(decimal) if decimal.mantissa != 0)
}

fn values(spo2: Number, pulse_rate: Number, index: Option<Number>) -> Vec<Value> {
    let value = |code, number: Number, unit| Value { code, quantity: number.into(), unit };
    let mut values = vec![value(Mdc::SPO2, spo2, "%"), value(Mdc::PULSE_RATE, pulse_rate, "/min")];
    values.extend(index.map(|index| value(Mdc::PERFUSION_INDEX, index, "%")));
    values
}

fn status(measurement: Option<MeasurementStatus>, sensor: Option<DeviceAndSensorStatus>) -> impl Iterator<Item = Status> {
    let measurement = measurement.into_iter().flat_map(MeasurementStatus::terms);
    measurement.chain(sensor.into_iter().flat_map(DeviceAndSensorStatus::terms))
}

#[cfg(test)]
mod tests;
