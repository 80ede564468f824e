//! Pulse oximeters of the Bluetooth Pulse Oximeter Service (0x1822).
//!
//! Services: 0x1822 with PLX Features (0x2A60, read), Spot-Check Measurement (0x2A5E, indicated), Continuous Measurement
//! (0x2A5F, notified) and, in devices with a memory, the Record Access Control Point (0x2A52, written and indicated).
//! Source: Bluetooth SIG, Pulse Oximeter Service and Profile 1.0.1. The service's control point knows neither sequence
//! numbers nor times: all stored records are asked for at each connection, and the store tells known ones by their origin.
//! That needs a time stamp, so the memory of a device without one is left alone: its records would double.
//! A spot check is a reading; of continuous values one every 10 s is (the usual averaging; fast and slow ones are left).
//! Records are deleted, where that is allowed, only when every one of a report is durable and the device still has as many.

use std::collections::BTreeSet;
use std::time::Duration;

use kit_protocol::gatt::plx_continuous::PlxContinuousMeasurement;
use kit_protocol::gatt::plx_features::{PlxFeatures, SupportedFeatures};
use kit_protocol::gatt::plx_spot_check::PlxSpotCheckMeasurement;
use kit_protocol::gatt::plx_status::{DeviceAndSensorStatus, MeasurementStatus};
use kit_protocol::gatt::racp::{OpCode, Request, Response, ResponseCode};
use kit_protocol::mder::Number;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Status, Value};

use crate::driver::{
    Allowed, Command, Driver, Effect, Endpoint, Event, Link, Pairing, Security, Session, Start, Token, bluetooth,
};
use crate::gatt_session::{ANSWER_MAX, CURRENT_TIME, GattSession, Given, Plan, earlier, sets_clock};

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
        racp("report-stored-records", Effect::Ask, &[1]),
        racp("delete-stored-records", Effect::Delete, &[2]),
        racp("abort", Effect::Converse, &[3]),
        racp("report-number-of-stored-records", Effect::Ask, &[4]),
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

const fn racp(name: &'static str, effect: Effect, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect, to: CONTROL_POINT, at: 0, octets }
}

/// One reading of continuous values every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// An abort is answered within this.
const ABORT_MAX: Duration = Duration::from_secs(5);
/// A procedure that the device could not do now is asked for again after this …
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// … and so often at most.
const ATTEMPTS_MAX: u8 = 3;

/// ```text
/// Listening ─ set up, with a memory that can be told apart ─▶ Asked{report} ◀─▶ Retrying
///               Asked{report} ─ reported ─▶ Settling ─ all Stored ─▶ Asked{number} ─▶ Asked{delete} ─▶ Listening
/// Asked ─ no answer, or no room ─▶ Aborting ─▶ closed
/// ```
/// Measurements are taken in at every stage. `Settling` is for deleting; where that is not allowed it is `Listening`.
#[derive(Debug)]
enum Stage {
    Listening,
    /// A procedure of the control point is under way.
    Asked {
        request: OpCode,
        command: Token,
        until: Moment,
        attempt: u8,
    },
    /// The report is to be asked for again.
    Retrying {
        at: Moment,
        attempt: u8,
    },
    /// The report is over; its records become durable.
    Settling,
    /// A procedure did not end: it is aborted, then the link is closed.
    Aborting {
        until: Moment,
        why: &'static str,
    },
}

struct PulseOximeter {
    stage: Stage,
    gatt: GattSession,
    interval: Duration,
    may_delete: bool,
    features: PlxFeatures,
    /// No continuous reading before this.
    next_reading: Option<Moment>,
    report: Report,
}

/// What came of the last report.
#[derive(Debug, Default)]
struct Report {
    records: u32,
    /// Not yet answered.
    awaited: BTreeSet<Token>,
    /// A record was undecodable or refused: nothing may be deleted.
    spoilt: bool,
}

impl Session for PulseOximeter {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        if self.gatt.handle_event(now, &event) && self.memory_can_be_told_apart() {
            self.ask(now, OpCode::REPORT, 1);
        }
        match event {
            Event::Received { from: FEATURES, octets, .. } => self.features(octets),
            Event::Received { from: SPOT_CHECK, octets, .. } => self.spot_check(now, octets),
            Event::Received { from: CONTINUOUS, octets, .. } => self.continuous(now, octets),
            Event::Received { from: CONTROL_POINT, octets, .. } => self.response(now, octets),
            // Where it was written the answer comes as an indication.
            Event::Failed { command, .. } => self.failed(now, command),
            Event::Stored { reading } => self.answered(now, reading, true),
            Event::Refused { reading } => self.answered(now, reading, false),
            Event::Down { .. } => self.stage = Stage::Listening,
            Event::Up { .. } | Event::Received { .. } | Event::Done { .. } => {}
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        self.gatt.handle_timeout(now);
        if self.until().is_none_or(|at| at > now) {
            return;
        }
        match self.stage {
            Stage::Asked { .. } => self.abort(now, "the control point did not answer"),
            Stage::Retrying { attempt, .. } => self.ask(now, OpCode::REPORT, attempt + 1),
            Stage::Aborting { why, .. } => self.gatt.give_up(why),
            Stage::Listening | Stage::Settling => {}
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.gatt.poll_command()
    }

    fn poll_output(&mut self) -> Option<Given> {
        self.gatt.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        earlier(self.gatt.poll_timeout(), self.until())
    }
}

impl PulseOximeter {
    fn new(start: &Start) -> Self {
        Self {
            stage: Stage::Listening,
            gatt: GattSession::new(PLAN, start),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            may_delete: start.may_delete,
            features: PlxFeatures::default(),
            next_reading: None,
            report: Report::default(),
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

    /// When the stage it is in has lasted too long.
    fn until(&self) -> Option<Moment> {
        match self.stage {
            _ if self.gatt.ended() => None,
            Stage::Asked { until, .. } | Stage::Aborting { until, .. } | Stage::Retrying { at: until, .. } => Some(until),
            Stage::Listening | Stage::Settling => None,
        }
    }
}

/// The device's memory.
impl PulseOximeter {
    fn ask(&mut self, now: Moment, request: OpCode, attempt: u8) {
        let asked = match request {
            OpCode::DELETE => Request::DELETE_ALL,
            OpCode::REPORT_NUMBER => Request::REPORT_NUMBER_OF_ALL,
            _ => {
                self.report = Report::default();
                Request::REPORT_ALL
            }
        };
        let command = self.write(&asked);
        self.stage = Stage::Asked { request, command, until: now + ANSWER_MAX, attempt };
    }

    fn write(&mut self, request: &Request) -> Token {
        self.gatt.write(CONTROL_POINT, request.encode())
    }

    fn failed(&mut self, now: Moment, failed: Token) {
        if let Stage::Asked { request, command, attempt, .. } = self.stage
            && command == failed
        {
            self.not_now(now, request, attempt);
        }
    }

    fn response(&mut self, now: Moment, octets: &[u8]) {
        let response = match Response::decode(octets) {
            Ok(response) => response,
            Err(error) => return self.gatt.undecodable("record access control point", error, octets),
        };
        match (&self.stage, response) {
            (Stage::Aborting { why, .. }, Response::Code { .. }) => self.gatt.give_up(why),
            (Stage::Asked { request: OpCode::REPORT_NUMBER, .. }, Response::NumberOfStoredRecords(count)) => {
                if count.number() == self.report.records && self.report.records > 0 {
                    self.ask(now, OpCode::DELETE, 1);
                } else {
                    // It holds what we have not got: the next connection asks for it.
                    self.stage = Stage::Listening;
                }
            }
            (Stage::Asked { request, attempt, .. }, Response::Code { request: answered, code }) if *request == answered => {
                let (request, attempt) = (*request, *attempt);
                match (request, code) {
                    (OpCode::REPORT, ResponseCode::SUCCESS) if self.may_delete => {
                        self.stage = Stage::Settling;
                        self.settle(now);
                    }
                    (_, ResponseCode::SERVER_BUSY | ResponseCode::PROCEDURE_NOT_COMPLETED) => self.not_now(now, request, attempt),
                    // Done, nothing there, or something that the device does not do: what it sends by itself still counts.
                    _ => self.stage = Stage::Listening,
                }
            }
            _ => {}
        }
    }

    fn not_now(&mut self, now: Moment, request: OpCode, attempt: u8) {
        self.stage = if request == OpCode::REPORT && attempt < ATTEMPTS_MAX {
            Stage::Retrying { at: now + RETRY_AFTER, attempt }
        } else {
            Stage::Listening
        };
    }

    fn abort(&mut self, now: Moment, why: &'static str) {
        self.write(&Request::ABORT);
        self.stage = Stage::Aborting { until: now + ABORT_MAX, why };
    }

    fn answered(&mut self, now: Moment, reading: Token, stored: bool) {
        if self.report.awaited.remove(&reading) {
            self.report.spoilt |= !stored;
            self.settle(now);
        }
    }

    /// Every record of the report is durable: they may be deleted, if the device still has as many.
    fn settle(&mut self, now: Moment) {
        if matches!(self.stage, Stage::Settling) && self.report.awaited.is_empty() {
            if self.report.spoilt || self.report.records == 0 {
                self.stage = Stage::Listening;
            } else {
                self.ask(now, OpCode::REPORT_NUMBER, 1);
            }
        }
    }

    fn reporting(&self) -> bool {
        matches!(self.stage, Stage::Asked { request: OpCode::REPORT, .. })
    }
}

/// What it measures.
impl PulseOximeter {
    fn spot_check(&mut self, now: Moment, octets: &[u8]) {
        let reporting = self.reporting();
        // A report that goes on is not late.
        if let Stage::Asked { until, .. } = &mut self.stage {
            *until = now + ANSWER_MAX;
        }
        let measurement = match PlxSpotCheckMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => {
                self.report.spoilt |= reporting;
                return self.gatt.undecodable("PLX spot-check measurement", error, octets);
            }
        };
        let memory = self.memory(&measurement, reporting);
        match self.gatt.measured(spot_check(now, &measurement, memory)) {
            Ok(token) if reporting => {
                self.report.records += u32::from(memory == Memory::Stored);
                self.report.awaited.insert(token);
            }
            Ok(_) => {}
            Err(_) if self.gatt.ended() || matches!(self.stage, Stage::Aborting { .. }) => {}
            // The record stays on the device: nothing was answered for it, and nothing will be deleted.
            Err(_) => self.abort(now, "measurements come faster than they can be stored"),
        }
    }

    /// Out of the memory: what says so, and what comes during a report from a device that never says so.
    fn memory(&self, measurement: &PlxSpotCheckMeasurement, reporting: bool) -> Memory {
        let says = |status: Option<MeasurementStatus>| status.is_some_and(|s| s.contains(MeasurementStatus::FROM_STORAGE));
        let would_say = says(self.features.measurement_status_support);
        if says(measurement.measurement_status) || (reporting && !would_say) { Memory::Stored } else { Memory::Live }
    }

    fn continuous(&mut self, now: Moment, octets: &[u8]) {
        let measurement = match PlxContinuousMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable("PLX continuous measurement", error, octets),
        };
        let unavailable = measurement.measurement_status.is_some_and(|s| s.contains(MeasurementStatus::UNAVAILABLE));
        let normal = measurement.normal;
        let nothing = [normal.spo2, normal.pulse_rate].iter().all(|number| !is_measured(*number));
        if unavailable || nothing || self.next_reading.is_some_and(|next| now < next) {
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
