//! Devices of the Bluetooth Generic Health Sensor Service (0x1840), which carries any observation of IEEE 11073-10206.
//!
//! Services: 0x1840 with Health Sensor Features (0x2BF3, read), Live Health Observations (0x2B8B) and Stored Health
//! Observations (0x2BDD, with a record number), both indicated or notified in segments, the GHS Control Point (0x2BF4,
//! written and indicated) that starts what is live, and the Record Access Control Point (0x2A52); the Elapsed Time Service
//! (0x183F) with Current Elapsed Time (0x2BF2, read).
//! Source: Bluetooth SIG, Generic Health Sensor Service 1.0 and Profile 1.0, Elapsed Time Service 1.0; layouts as two open
//! implementations have them (see `kit_protocol::gatt::health_observation`).
//!
//! Numbers, codes and bits become readings by their MDC codes, compound observations one reading each, members of a bundle of
//! one sort one reading; sample arrays of one time become the channels of one recording, and live ones that follow each
//! other go on as one. An observation that no reading holds (text, attributes, a unit that is not known) is refused with its
//! reason. A stored recording ends with a reading that bears its record number, behind its samples: where that is durable,
//! they are. Stored records are asked for by the combined report above the last durable number, or all of them.

mod observed;
mod signals;

use std::time::Duration;

use kit_protocol::gatt::elapsed_time::CurrentElapsedTime;
use kit_protocol::gatt::health_observation::{HealthObservation, LengthCounts, ObservationStatus, StoredHealthObservation};
use kit_protocol::gatt::health_observation_segment::Assembler;
use kit_protocol::gatt::health_sensor_features::{GhsControlPoint, HealthSensorFeatures};
use kit_protocol::gatt::racp::{Bound, OpCode, ResponseCode, Selection};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory};

use crate::driver::{Allowed, Driver, Effect, Endpoint, Event, Link, Pairing, Security, Start, Token, bluetooth};
use crate::session::gatt_session::{ANSWER_MAX, GattSession, OverGatt, Plan, earlier};
use crate::session::stored_records::{ATTEMPTS_MAX, RETRY_AFTER, Reported, StoredRecords, may};
use observed::{Observed, observed};
use signals::{About, Signals};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "health-sensor",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(SERVICE)], names: &[], listens: &[LIVE, STORED] }],
    protocol: "Generic Health Sensor Service 0x1840, Elapsed Time Service 0x183F",
    gives: "any observation: vital signs, ECG and other sample arrays, spirometry; stored records",
    parameters: &[
        Mdc::SPO2,
        Mdc::PULSE_RATE,
        Mdc::SYSTOLIC,
        Mdc::DIASTOLIC,
        Mdc::MEAN_ARTERIAL_PRESSURE,
        Mdc::ECG_I,
        Mdc::ECG_II,
        Mdc(188_928),
        Mdc(152_586),
        Mdc(152_584),
        Mdc(151_764),
    ],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[
        may("report-stored-records", Effect::Ask, RECORD_ACCESS, &[1]),
        may("delete-stored-records", Effect::Delete, RECORD_ACCESS, &[2]),
        may("abort", Effect::Converse, RECORD_ACCESS, &[3]),
        may("report-number-of-stored-records", Effect::Ask, RECORD_ACCESS, &[4]),
        may("combined-report", Effect::Ask, RECORD_ACCESS, &[7]),
        Allowed { name: "start-sending-live-observations", effect: Effect::Stream, to: CONTROL_POINT, at: 0, octets: &[1] },
    ],
    quirks: &[],
    session: |start| Box::new(HealthSensor::new(&start)),
};

const SERVICE: u16 = 0x1840;
const LIVE: Endpoint = Endpoint::gatt(SERVICE, 0x2b8b);
const STORED: Endpoint = Endpoint::gatt(SERVICE, 0x2bdd);
const FEATURES: Endpoint = Endpoint::gatt(SERVICE, 0x2bf3);
const CONTROL_POINT: Endpoint = Endpoint::gatt(SERVICE, 0x2bf4);
const RECORD_ACCESS: Endpoint = Endpoint::gatt(SERVICE, 0x2a52);
const ELAPSED_TIME: Endpoint = Endpoint::gatt(0x183f, 0x2bf2);

const PLAN: Plan = Plan {
    gives: "health observation",
    measures: &[LIVE, STORED],
    reads: &[FEATURES, ELAPSED_TIME],
    subscribes: &[CONTROL_POINT, RECORD_ACCESS, STORED, LIVE],
    clock: &[],
};

/// An observation whose next segment does not come within this is given up.
const SEGMENT_MAX: Duration = Duration::from_secs(30);

/// ```text
/// SettingUp ─▶ Probing ─ highest number, or none is told ─▶ Reporting ─▶ Starting ◀─▶ Retrying
///                                                                         Starting ─▶ Listening
/// ```
/// Observations are taken in at every stage; those that only tell the highest number come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    SettingUp,
    Probing {
        highest: Option<u32>,
    },
    Reporting,
    /// What is live was asked for.
    Starting {
        command: Token,
        until: Moment,
        attempt: u8,
    },
    /// It is to be asked for again.
    Retrying {
        at: Moment,
        attempt: u8,
    },
    Listening,
}

struct HealthSensor {
    gatt: GattSession,
    memory: StoredRecords,
    stage: Stage,
    last_record: Option<u64>,
    live: Incoming,
    stored: Incoming,
    signals: Signals,
}

/// An observation that is on its way.
#[derive(Debug, Default)]
struct Incoming {
    assembler: Assembler,
    until: Option<Moment>,
}

impl OverGatt for HealthSensor {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn set_up(&mut self, now: Moment) {
        if self.gatt.subscribed(RECORD_ACCESS) && self.gatt.subscribed(STORED) {
            self.stage = Stage::Probing { highest: None };
            self.memory.report(now, &mut self.gatt, OpCode::COMBINED_REPORT, Selection::Last);
        } else {
            self.start_live(now, 1);
        }
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: FEATURES, octets, .. } => {
                if let Err(error) = HealthSensorFeatures::decode(octets) {
                    self.gatt.undecodable("health sensor features", error, octets);
                }
            }
            Event::Received { from: ELAPSED_TIME, octets, .. } => self.elapsed_time(now, octets),
            Event::Received { from: LIVE, octets, .. } => self.segment(now, Memory::Live, octets),
            Event::Received { from: STORED, octets, .. } => self.segment(now, Memory::Stored, octets),
            Event::Received { from: CONTROL_POINT, octets, .. } => self.control_point(now, octets),
            Event::Received { from: RECORD_ACCESS, octets, .. } => {
                let reported = self.memory.response(now, &mut self.gatt, octets);
                self.reported(now, reported);
            }
            Event::Failed { command, .. } => self.failed(now, command),
            Event::Stored { reading } => self.memory.answered(now, &mut self.gatt, reading, true),
            Event::Refused { reading } => self.memory.answered(now, &mut self.gatt, reading, false),
            Event::Down { .. } => self.down(now),
            Event::Up { .. } | Event::Received { .. } | Event::Done { .. } => {}
        }
        self.pump(now);
    }

    fn time_came(&mut self, now: Moment) {
        self.memory.handle_timeout(now, &mut self.gatt);
        match self.stage {
            Stage::Starting { until, .. } if until <= now && !self.gatt.ended() => {
                self.gatt.give_up("the control point did not answer");
                self.stage = Stage::Listening;
            }
            Stage::Retrying { at, attempt } if at <= now && !self.gatt.ended() => self.start_live(now, attempt + 1),
            _ => {}
        }
        for memory in [Memory::Live, Memory::Stored] {
            if self.incoming(memory).until.is_some_and(|until| until <= now) {
                self.give_up_incoming(memory);
            }
        }
        self.signals.handle_timeout(now, &mut self.gatt.outputs);
        self.pump(now);
    }

    fn until(&self) -> Option<Moment> {
        let stage = match self.stage {
            _ if self.gatt.ended() => None,
            Stage::Starting { until, .. } | Stage::Retrying { at: until, .. } => Some(until),
            Stage::SettingUp | Stage::Probing { .. } | Stage::Reporting | Stage::Listening => None,
        };
        let waits = [self.memory.until(&self.gatt), stage, self.live.until, self.stored.until, self.signals.until()];
        waits.into_iter().fold(self.gatt.poll_timeout(), earlier)
    }
}

/// The conversation.
impl HealthSensor {
    fn new(start: &Start) -> Self {
        Self {
            gatt: GattSession::new(PLAN, start),
            memory: StoredRecords::new(RECORD_ACCESS, start.may_delete),
            stage: Stage::SettingUp,
            last_record: start.last_record,
            live: Incoming::default(),
            stored: Incoming::default(),
            signals: Signals::default(),
        }
    }

    fn elapsed_time(&mut self, now: Moment, octets: &[u8]) {
        match CurrentElapsedTime::decode(octets) {
            Ok(current) => {
                if let Some(device) = current.time.civil() {
                    self.gatt.outputs.device_clock(device, now);
                }
            }
            Err(error) => self.gatt.undecodable("current elapsed time", error, octets),
        }
    }

    fn reported(&mut self, now: Moment, reported: Option<Reported>) {
        let Some(Reported { request, code }) = reported else { return };
        if code == ResponseCode::OP_CODE_NOT_SUPPORTED && request.op_code == OpCode::COMBINED_REPORT {
            return self.memory.report(now, &mut self.gatt, OpCode::REPORT, request.selection);
        }
        let Stage::Probing { highest } = self.stage else { return self.start_live(now, 1) };
        self.stage = Stage::Reporting;
        let selection = match (code, highest) {
            (ResponseCode::NO_RECORDS_FOUND, _) => {
                self.gatt.outputs.memory(None);
                None
            }
            (ResponseCode::SERVER_BUSY | ResponseCode::PROCEDURE_NOT_COMPLETED, _) => None,
            (_, Some(highest)) => {
                self.gatt.outputs.memory(Some(highest.into()));
                self.memory.highest(highest.into());
                newer_than(self.last_record.filter(|last| *last <= highest.into())).filter(|selection| match selection {
                    Selection::GreaterThanOrEqual(Bound::RecordNumber(next)) => *next <= highest,
                    _ => true,
                })
            }
            // It does not tell its last one: a recording that comes again could not be told to be the same.
            (_, None) => newer_than(self.last_record),
        };
        match selection {
            Some(selection) => self.memory.report(now, &mut self.gatt, request.op_code, selection),
            None => self.start_live(now, 1),
        }
    }

    fn start_live(&mut self, now: Moment, attempt: u8) {
        self.stage = Stage::Listening;
        if self.gatt.subscribed(CONTROL_POINT) && self.gatt.subscribed(LIVE) {
            let command = self.gatt.write(CONTROL_POINT, GhsControlPoint::START_LIVE.encode().to_vec());
            self.stage = Stage::Starting { command, until: now + ANSWER_MAX, attempt };
        }
    }

    fn control_point(&mut self, now: Moment, octets: &[u8]) {
        match (GhsControlPoint::decode(octets), self.stage) {
            (Err(error), _) => self.gatt.undecodable("GHS control point", error, octets),
            (Ok(GhsControlPoint::SERVER_BUSY), Stage::Starting { attempt, .. }) => self.live_not_now(now, attempt),
            // Started, or not to be started: what comes by itself still counts.
            (Ok(_), Stage::Starting { .. }) => self.stage = Stage::Listening,
            (Ok(_), _) => {}
        }
    }

    fn failed(&mut self, now: Moment, failed: Token) {
        match self.stage {
            Stage::Starting { command, attempt, .. } if command == failed => self.live_not_now(now, attempt),
            _ => {
                let reported = self.memory.failed(now, failed);
                self.reported(now, reported);
            }
        }
    }

    fn live_not_now(&mut self, now: Moment, attempt: u8) {
        self.stage = if attempt < ATTEMPTS_MAX { Stage::Retrying { at: now + RETRY_AFTER, attempt } } else { Stage::Listening };
    }

    fn down(&mut self, now: Moment) {
        self.stage = Stage::Listening;
        for memory in [Memory::Live, Memory::Stored] {
            self.give_up_incoming(memory);
        }
        self.signals.finish(now, &mut self.gatt.outputs);
        self.memory.down();
    }
}

/// All, or what is above the last durable record; `None`: there is no number above it.
fn newer_than(last_record: Option<u64>) -> Option<Selection> {
    let Some(last) = last_record else { return Some(Selection::All) };
    let next = u32::try_from(last.checked_add(1)?).ok()?;
    Some(Selection::GreaterThanOrEqual(Bound::RecordNumber(next)))
}

/// What it observes.
impl HealthSensor {
    fn incoming(&mut self, memory: Memory) -> &mut Incoming {
        match memory {
            Memory::Live => &mut self.live,
            Memory::Stored => &mut self.stored,
        }
    }

    fn segment(&mut self, now: Moment, memory: Memory, octets: &[u8]) {
        if memory == Memory::Stored {
            self.memory.goes_on(now);
        }
        let incoming = self.incoming(memory);
        let (error, whole) = incoming.assembler.push(octets);
        incoming.until = incoming.assembler.gathers().then(|| now + SEGMENT_MAX);
        if let Some(error) = error {
            if memory == Memory::Stored {
                self.memory.missed();
            }
            self.refuse(memory, error, octets);
        }
        match (whole, memory) {
            (Some(whole), Memory::Live) => match HealthObservation::decode(&whole) {
                Ok(observation) => self.observation(now, memory, None, observation, &whole),
                Err(error) => self.refuse(memory, error, &whole),
            },
            (Some(whole), Memory::Stored) => match StoredHealthObservation::decode(&whole) {
                Ok(stored) => self.stored_observation(now, stored, &whole),
                Err(error) => self.refuse(memory, error, &whole),
            },
            (None, _) => {}
        }
    }

    fn stored_observation(&mut self, now: Moment, stored: StoredHealthObservation, octets: &[u8]) {
        if let Stage::Probing { highest } = &mut self.stage {
            *highest = Some(stored.record).max(*highest);
        } else {
            self.observation(now, Memory::Stored, Some(stored.record), stored.observation, octets);
        }
    }

    fn observation(
        &mut self,
        now: Moment,
        memory: Memory,
        record: Option<u32>,
        mut observation: HealthObservation,
        octets: &[u8],
    ) {
        let Observed { readings, arrays } = match observed(&observation) {
            Ok(observed) => observed,
            Err(reason) => return self.refuse(memory, reason, octets),
        };
        let has_signals = arrays.iter().any(|array| !array.samples.is_empty());
        // A failed one of the past is nothing to keep, and nobody can repeat it now.
        if readings.is_empty() && !has_signals && !(memory == Memory::Stored && self.memory.reporting()) {
            return self.refuse(memory, "no value in it: the measurement failed", octets);
        }
        if memory == Memory::Stored {
            self.memory.came();
        }
        let in_order = record.is_none_or(|record| self.memory.in_order(record.into()));
        // What the length counts is the device's habit, no part of what was measured.
        observation.length = LengthCounts::AfterHeader;
        let old_time = observation.time.filter(|time| !time.is_tick_counter() && !time.on_current_timeline());
        let mut status: Vec<_> = observation.status.into_iter().flat_map(ObservationStatus::terms).collect();
        status.extend(old_time.map(|_| "time-not-on-current-timeline"));
        let about = Measured {
            device_time: observation.time.and_then(|time| time.civil()),
            record: record.map(u64::from),
            in_order,
            user_slot: observation.patient,
            status,
            memory,
            octets: observation.encode().unwrap_or_else(|| octets.to_vec()),
            ..Measured::new(Kind::Other, now)
        };
        for (index, (kind, values)) in (0_u8..=u8::MAX).zip(readings) {
            let mut octets = about.octets.clone();
            // Readings of one bundle are not each other's.
            octets.extend((index > 0).then_some(index));
            // Signals of this record, or of one before it, are handed over later.
            let in_order = in_order && !has_signals && !self.signals.hold_a_record();
            self.hand_over(now, Measured { kind, values, octets, in_order, ..about.clone() });
        }
        if has_signals {
            self.signals.push(now, &About { time: observation.time, measured: about }, arrays, &mut self.gatt.outputs);
        } else if memory == Memory::Stored {
            self.memory.gave_nothing(now, &mut self.gatt);
        }
    }

    fn hand_over(&mut self, now: Moment, measured: Measured) {
        let stored = measured.memory == Memory::Stored;
        match self.gatt.measured(measured) {
            Ok(token) if stored => self.memory.await_answer(token),
            Ok(_) => {}
            Err(_) => self.memory.no_room(now, &mut self.gatt),
        }
    }

    /// Signals are handed over as there is room for them.
    fn pump(&mut self, now: Moment) {
        for handed_over in self.signals.pump(&mut self.gatt.outputs) {
            match handed_over {
                Some(token) => self.memory.handed_over(now, &mut self.gatt, token),
                None => self.memory.no_room(now, &mut self.gatt),
            }
        }
    }

    fn give_up_incoming(&mut self, memory: Memory) {
        let incoming = self.incoming(memory);
        incoming.until = None;
        if incoming.assembler.give_up() {
            if memory == Memory::Stored {
                self.memory.missed();
            }
            self.refuse(memory, "an observation that did not end", &[]);
        }
    }

    fn refuse(&mut self, memory: Memory, reason: impl ToString, octets: &[u8]) {
        if memory == Memory::Stored {
            self.memory.spoil();
            if matches!(self.stage, Stage::Probing { .. }) {
                return;
            }
        }
        let what = if memory == Memory::Live { "live health observation" } else { "stored health observation" };
        self.gatt.undecodable(what, reason, octets);
    }
}

#[cfg(test)]
mod tests;
