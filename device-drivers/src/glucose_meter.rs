//! Glucose meters of the Bluetooth Glucose Service (0x1808).
//!
//! Services: 0x1808 with Glucose Feature (0x2A51, read), Glucose Measurement (0x2A18) and Glucose Measurement Context
//! (0x2A34), both notified, and the Record Access Control Point (0x2A52, written and indicated).
//! Source: Bluetooth SIG, Glucose Service and Profile 1.0.1; quirks as the table says.
//!
//! Records have sequence numbers: the last record is asked for first, which tells the highest number in the memory, then
//! those above the last one that is durable, or all of them where the memory was cleared, and numbers began again, or wrapped
//! from 65535 to 0. What is known already the store tells by its origin. A measurement that announces a context waits for it,
//! in bounded time, then goes without. The context is no part of what makes a measurement the same one.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::glucose_feature::GlucoseFeature;
use kit_protocol::gatt::glucose_measurement::{Concentration, GlucoseMeasurement, SensorStatus};
use kit_protocol::gatt::glucose_measurement_context::GlucoseMeasurementContext;
use kit_protocol::gatt::racp::{Bound, OpCode, ResponseCode, Selection};
use kit_protocol::mder::Number;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Context, Kind, Measured, Memory, Quantity, Special, Value};

use crate::driver::{Allowed, Driver, Effect, Endpoint, Event, Link, Pairing, Quirk, Security, Start, Token, bluetooth};
use crate::session::gatt_session::{CURRENT_TIME, GattSession, OverGatt, Plan, earlier, sets_clock};
use crate::session::stored_records::{Reported, StoredRecords, may};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "glucose-meter",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(SERVICE)], names: &[], listens: &[MEASUREMENT] }],
    protocol: "Glucose Service 0x1808",
    gives: "glucose, type of sample, site, meal and what else the user told the meter; stored records",
    parameters: &[
        Mdc(160_020),
        Mdc(160_184),
        Mdc(160_188),
        Mdc(160_192),
        Mdc(160_196),
        Mdc(160_200),
        Mdc(160_204),
        Mdc(160_212),
        Mdc(160_364),
        Mdc(160_368),
        HBA1C,
        CARBOHYDRATES,
        MEDICATION,
        EXERCISE,
    ],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[
        may("report-stored-records", Effect::Ask, CONTROL_POINT, &[1]),
        may("delete-stored-records", Effect::Delete, CONTROL_POINT, &[2]),
        may("abort", Effect::Converse, CONTROL_POINT, &[3]),
        may("report-number-of-stored-records", Effect::Ask, CONTROL_POINT, &[4]),
        sets_clock(CURRENT_TIME),
        sets_clock(DATE_TIME),
        Allowed { name: "set-vendor-clock", effect: Effect::SetClock, to: VENDOR_CLOCK, at: 0, octets: &VENDOR_CLOCK_COMMAND },
    ],
    quirks: &[QUIRK_VENDOR_CLOCK],
    session: |start| Box::new(GlucoseMeter::new(&start)),
};

/// The clock of CareSens and other meters of i-SENS is set by a command of their own.
const QUIRK_VENDOR_CLOCK: Quirk = Quirk {
    name: "vendor-clock",
    manufacturer: "i-SENS",
    model: "",
    firmware: "",
    what: "the clock is set by C0 03 01 00 and a date time, written to 0xFFF1 of service 0xFFF0",
    vector: ("c0030100e2070b1d162d3b", "xDrip c2a0ba1, glucose meter TimeTx test: 2018-11-29 22:45:59"),
};

const SERVICE: u16 = 0x1808;
const MEASUREMENT: Endpoint = Endpoint::gatt(SERVICE, 0x2a18);
const CONTEXT: Endpoint = Endpoint::gatt(SERVICE, 0x2a34);
const FEATURE: Endpoint = Endpoint::gatt(SERVICE, 0x2a51);
const CONTROL_POINT: Endpoint = Endpoint::gatt(SERVICE, 0x2a52);
/// Some meters have their clock in the glucose service itself.
const DATE_TIME: Endpoint = Endpoint::gatt(SERVICE, 0x2a08);
const VENDOR_CLOCK: Endpoint = Endpoint::gatt(0xfff0, 0xfff1);
const VENDOR_CLOCK_COMMAND: [u8; 4] = [0xc0, 0x03, 0x01, 0x00];

const GLUCOSE: Mdc = Mdc(160_020);
const HBA1C: Mdc = Mdc(160_220);
const CARBOHYDRATES: Mdc = Mdc(8_417_764);
const MEDICATION: Mdc = Mdc(8_417_796);
const EXERCISE: Mdc = Mdc(8_417_760);
const DURATION: Mdc = Mdc(68_185);

/// The context before the measurement, the control point last: a device refuses a request whose answer it cannot send.
const PLAN: Plan = Plan {
    gives: "glucose measurement",
    measures: &[MEASUREMENT],
    reads: &[FEATURE],
    subscribes: &[CONTEXT, MEASUREMENT, CONTROL_POINT],
    clock: &[CURRENT_TIME, DATE_TIME],
};

/// A measurement waits so long for its context.
const CONTEXT_MAX: Duration = Duration::from_secs(2);
/// So many measurements wait for their contexts at most, and as many contexts are kept that came first.
const HELD_MAX: usize = 8;

/// ```text
/// Listening ─ set up ─▶ Probing ─ highest number ─▶ Listening, while the memory reports
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What comes is a measurement.
    Listening,
    /// What comes tells the highest number, and comes again.
    Probing { highest: Option<u16> },
}

struct GlucoseMeter {
    gatt: GattSession,
    memory: StoredRecords,
    stage: Stage,
    last_record: Option<u64>,
    held: VecDeque<Held>,
    /// Contexts that came before their measurements, with when they are let go of.
    early: VecDeque<(GlucoseMeasurementContext, Moment)>,
    vendor_clock: VendorClock,
}

/// A measurement that waits for its context.
#[derive(Debug)]
struct Held {
    measurement: GlucoseMeasurement,
    received: Moment,
    until: Moment,
    memory: Memory,
    /// Every record with a lower number came before it.
    in_order: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VendorClock {
    No,
    ToSet,
    Written { command: Token, time: DateTime, at: Moment },
}

impl OverGatt for GlucoseMeter {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn set_up(&mut self, now: Moment) {
        if self.gatt.subscribed(CONTROL_POINT) && self.gatt.subscribed(MEASUREMENT) {
            self.stage = Stage::Probing { highest: None };
            self.memory.report(now, &mut self.gatt, OpCode::REPORT, Selection::Last);
        } else {
            self.set_vendor_clock(now);
        }
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: FEATURE, octets, .. } => self.feature(octets),
            Event::Received { from: MEASUREMENT, octets, .. } => self.measurement(now, octets),
            Event::Received { from: CONTEXT, octets, .. } => self.context(now, octets),
            Event::Received { from: CONTROL_POINT, octets, .. } => {
                let reported = self.memory.response(now, &mut self.gatt, octets);
                self.reported(now, reported);
            }
            Event::Failed { command, .. } => {
                let reported = self.memory.failed(now, command);
                self.reported(now, reported);
            }
            Event::Done { command } => self.done(command),
            Event::Stored { reading } => self.memory.answered(now, &mut self.gatt, reading, true),
            Event::Refused { reading } => self.memory.answered(now, &mut self.gatt, reading, false),
            Event::Down { .. } => {
                self.memory.down();
                self.let_go(now, |_| true);
            }
            Event::Up { .. } | Event::Received { .. } => {}
        }
    }

    fn time_came(&mut self, now: Moment) {
        self.let_go(now, |held| held.until <= now);
        self.memory.handle_timeout(now, &mut self.gatt);
    }

    fn until(&self) -> Option<Moment> {
        let held = self.held.iter().map(|held| held.until).min();
        earlier(earlier(self.gatt.poll_timeout(), self.memory.until(&self.gatt)), held)
    }
}

/// The memory, and the clock behind it.
impl GlucoseMeter {
    fn new(start: &Start) -> Self {
        let vendor_clock = DRIVER.quirks.iter().any(|quirk| *quirk == QUIRK_VENDOR_CLOCK && quirk.fits(&start.about));
        Self {
            gatt: GattSession::new(PLAN, start),
            memory: StoredRecords::new(CONTROL_POINT, start.may_delete),
            stage: Stage::Listening,
            last_record: start.last_record,
            held: VecDeque::new(),
            early: VecDeque::new(),
            vendor_clock: if vendor_clock { VendorClock::ToSet } else { VendorClock::No },
        }
    }

    fn reported(&mut self, now: Moment, reported: Option<Reported>) {
        let Some(Reported { request, code }) = reported else { return };
        let Stage::Probing { highest } = std::mem::replace(&mut self.stage, Stage::Listening) else {
            let newer_only = matches!(request.selection, Selection::GreaterThanOrEqual(_));
            if newer_only && matches!(code, ResponseCode::OPERATOR_NOT_SUPPORTED | ResponseCode::OPERAND_NOT_SUPPORTED) {
                return self.memory.report(now, &mut self.gatt, OpCode::REPORT, Selection::All);
            }
            return self.set_vendor_clock(now);
        };
        let selection = match (code, highest) {
            (ResponseCode::NO_RECORDS_FOUND, _) => {
                self.gatt.outputs.memory(None);
                None
            }
            (ResponseCode::SERVER_BUSY | ResponseCode::PROCEDURE_NOT_COMPLETED, _) => None,
            (_, Some(highest)) => {
                self.gatt.outputs.memory(Some(highest.into()));
                self.memory.highest(highest.into());
                let newer = newer_than(self.last_record, highest);
                if newer.is_none() {
                    self.memory.nothing_newer();
                }
                newer
            }
            // It does not tell its last one: all of it, and the store tells what it knows.
            (_, None) => Some(Selection::All),
        };
        match selection {
            Some(selection) => self.memory.report(now, &mut self.gatt, OpCode::REPORT, selection),
            None => self.set_vendor_clock(now),
        }
    }

    /// The vendor's own command, once the memory was read: what is in it bears the time that the clock had before.
    fn set_vendor_clock(&mut self, now: Moment) {
        if self.vendor_clock != VendorClock::ToSet || !self.gatt.has(VENDOR_CLOCK) {
            return;
        }
        let Some(time) = self.gatt.time_to_set(now) else { return };
        let octets = [&VENDOR_CLOCK_COMMAND[..], &time.encode()].concat();
        let command = self.gatt.write(VENDOR_CLOCK, octets);
        self.vendor_clock = VendorClock::Written { command, time, at: now };
    }

    fn done(&mut self, done: Token) {
        if let VendorClock::Written { command, time, at } = self.vendor_clock
            && command == done
        {
            self.vendor_clock = VendorClock::No;
            self.gatt.outputs.device_clock(time, at);
        }
    }

    fn feature(&mut self, octets: &[u8]) {
        if let Err(error) = GlucoseFeature::decode(octets) {
            self.gatt.undecodable("glucose feature", error, octets);
        }
    }
}

/// What is asked for of a memory with this highest number: what is newer than the last durable record; nothing, where that is
/// the highest; all, where none is durable yet, or where numbers began again.
fn newer_than(last_record: Option<u64>, highest: u16) -> Option<Selection> {
    let Some(last) = last_record.filter(|last| *last <= highest.into()) else { return Some(Selection::All) };
    let next = u16::try_from(last + 1).ok().filter(|next| *next <= highest)?;
    Some(Selection::GreaterThanOrEqual(Bound::SequenceNumber(next)))
}

/// What it measures.
impl GlucoseMeter {
    fn measurement(&mut self, now: Moment, octets: &[u8]) {
        self.memory.goes_on(now);
        let reporting = self.memory.reporting();
        let decoded = GlucoseMeasurement::decode(octets);
        if let Stage::Probing { highest } = &mut self.stage {
            *highest = decoded.ok().map(|measurement| measurement.sequence_number).max(*highest);
            return;
        }
        let measurement = match decoded {
            Ok(measurement) => measurement,
            Err(error) => {
                self.memory.spoil();
                return self.gatt.undecodable("glucose measurement", error, octets);
            }
        };
        let memory = if reporting { Memory::Stored } else { Memory::Live };
        if reporting {
            self.memory.came();
        }
        let in_order = self.memory.in_order(measurement.sequence_number.into());
        let held = Held { measurement, received: now, until: now + CONTEXT_MAX, memory, in_order };
        let early = self.early.iter().position(|(context, _)| context.sequence_number == measurement.sequence_number);
        if let Some((context, _)) = early.and_then(|at| self.early.remove(at)) {
            return self.give(now, &held, Some(&context));
        }
        if !measurement.context_follows {
            return self.give(now, &held, None);
        }
        if self.held.len() >= HELD_MAX
            && let Some(oldest) = self.held.pop_front()
        {
            self.give(now, &oldest, None);
        }
        self.held.push_back(held);
    }

    fn context(&mut self, now: Moment, octets: &[u8]) {
        self.memory.goes_on(now);
        if matches!(self.stage, Stage::Probing { .. }) {
            return;
        }
        let context = match GlucoseMeasurementContext::decode(octets) {
            Ok(context) => context,
            Err(error) => return self.gatt.undecodable("glucose measurement context", error, octets),
        };
        let waits = self.held.iter().position(|held| held.measurement.sequence_number == context.sequence_number);
        match waits.and_then(|at| self.held.remove(at)) {
            Some(held) => self.give(now, &held, Some(&context)),
            None => {
                self.early.retain(|(_, until)| *until > now);
                if self.early.len() >= HELD_MAX {
                    self.early.pop_front();
                }
                self.early.push_back((context, now + CONTEXT_MAX));
            }
        }
    }

    /// Hands over, without a context, what has waited for one.
    fn let_go(&mut self, now: Moment, which: impl Fn(&Held) -> bool) {
        while let Some(at) = self.held.iter().position(&which) {
            if let Some(held) = self.held.remove(at) {
                self.give(now, &held, None);
            }
        }
    }

    fn give(&mut self, now: Moment, held: &Held, context: Option<&GlucoseMeasurementContext>) {
        let of_memory = held.memory == Memory::Stored;
        let Some(mut measured) = measured(held, context) else {
            // A measurement that failed has no value: one of the past is nothing to keep, and nobody can repeat it now.
            return match of_memory {
                true => self.memory.gave_nothing(now, &mut self.gatt),
                false => self.gatt.undecodable("glucose measurement", failure(&held.measurement), &same(&held.measurement)),
            };
        };
        // One that waits for its context is not handed over yet.
        let number = held.measurement.sequence_number;
        measured.in_order = held.in_order && self.held.iter().all(|other| other.measurement.sequence_number > number);
        match self.gatt.measured(measured) {
            Ok(token) if of_memory => self.memory.handed_over(now, &mut self.gatt, token),
            Ok(_) => {}
            Err(_) => self.memory.no_room(now, &mut self.gatt),
        }
    }
}

/// A measurement as a reading; `None` where it has no value.
fn measured(held: &Held, context: Option<&GlucoseMeasurementContext>) -> Option<Measured> {
    let measurement = &held.measurement;
    let concentration = measurement.concentration.filter(|concentration| is_measured(concentration.number))?;
    let mut values = vec![glucose(&concentration)];
    let mut circumstances: Vec<Context> = site(&concentration).into_iter().collect();
    if let Some(context) = context {
        values.extend(context_values(context));
        circumstances.extend(context_terms(context));
    }
    let control = concentration.is_control_solution().then_some("control-solution");
    Some(Measured {
        values,
        device_time: measurement.user_facing_time(),
        record: Some(measurement.sequence_number.into()),
        status: control.into_iter().chain(measurement.sensor_status.into_iter().flat_map(SensorStatus::terms)).collect(),
        context: circumstances,
        memory: held.memory,
        octets: same(measurement),
        ..Measured::new(Kind::Glucose, held.received)
    })
}

/// The octets of a measurement, whether a context is announced or not.
fn same(measurement: &GlucoseMeasurement) -> Vec<u8> {
    let same = GlucoseMeasurement { context_follows: false, ..*measurement };
    same.encode().expect("every number came as an SFLOAT, every code as a nibble")
}

/// Why a measurement has no value, in words for a technician.
fn failure(measurement: &GlucoseMeasurement) -> String {
    let said: Vec<_> = measurement.sensor_status.into_iter().flat_map(SensorStatus::terms).collect();
    match said.is_empty() {
        true => "no concentration in it: the measurement failed".into(),
        false => format!("no concentration in it: the measurement failed ({})", said.join(", ")),
    }
}

/// A number, or the meter's HI or LO.
fn is_measured(number: Number) -> bool {
    matches!(number, Number::Finite(_) | Number::Special(Special::PositiveInfinity | Special::NegativeInfinity))
}

fn glucose(concentration: &Concentration) -> Value {
    let (number, unit) = concentration.customary();
    Value { code: concentration.sample_type.code().unwrap_or(GLUCOSE), quantity: number.into(), unit }
}

fn site(concentration: &Concentration) -> Option<Context> {
    let term = concentration.location.term()?;
    let said = !["control-solution", "not-available"].contains(&term);
    said.then_some(Context { what: "site", value: term })
}

/// Numbers that the user told the meter.
fn context_values(context: &GlucoseMeasurementContext) -> Vec<Value> {
    let value = |code, number: Number, unit| Value { code, quantity: number.into(), unit };
    let whole =
        |code, number: i64, unit| Value { code, quantity: Quantity::Number(kit_protocol::decimal::Decimal::whole(number)), unit };
    let mut values = Vec::new();
    values.extend(context.carbohydrate.map(|eaten| value(CARBOHYDRATES, eaten.grams(), "g")));
    if let Some(exercise) = context.exercise {
        values.push(whole(EXERCISE, exercise.intensity_percent.into(), "%"));
        // The largest number means "longer than that".
        if exercise.duration_seconds < u16::MAX {
            values.push(whole(DURATION, exercise.duration_seconds.into(), "s"));
        }
    }
    values.extend(context.medication.map(|taken| {
        let (amount, unit) = taken.customary();
        value(MEDICATION, amount, unit)
    }));
    values.extend(context.hba1c.map(|hba1c| value(HBA1C, hba1c, "%")));
    values.retain(|value| !matches!(value.quantity, Quantity::Special(_)));
    values
}

/// Terms that the user told the meter; what it does not know is left out.
fn context_terms(context: &GlucoseMeasurementContext) -> Vec<Context> {
    let (tester, health) = context.tester_and_health.unzip();
    let terms = [
        ("meal", context.meal.and_then(|meal| meal.term())),
        ("carbohydrate", context.carbohydrate.and_then(|eaten| eaten.term())),
        ("medication", context.medication.and_then(|taken| taken.term())),
        ("tester", tester.and_then(|tester| tester.term())),
        ("health", health.and_then(|health| health.term())),
    ];
    let said = |(what, term): (&'static str, Option<&'static str>)| {
        term.filter(|term| *term != "not-available").map(|value| Context { what, value })
    };
    terms.into_iter().filter_map(said).collect()
}

#[cfg(test)]
mod tests;
