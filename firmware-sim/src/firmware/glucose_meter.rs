//! A glucose meter with a memory: a strip, a clock, the Glucose Service on the air.
//!
//! A drop on the strip makes a record with the next sequence number; the meter then advertises for some seconds, notifies the
//! new record to whoever subscribes, and keeps the last ones for the Record Access Control Point, with every operator that
//! the service knows. Characteristics are their 16-bit numbers here; time is milliseconds since power-up.
//! Source: Bluetooth SIG, Glucose Service 1.0.1; GATT Specification Supplement.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::current_time::CurrentTime;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::glucose_feature::GlucoseFeature;
use kit_protocol::gatt::glucose_measurement::{Concentration, ConcentrationUnit, GlucoseMeasurement, SampleLocation, SampleType};
use kit_protocol::gatt::glucose_measurement_context::{GlucoseMeasurementContext, Meal};
use kit_protocol::gatt::racp::{Bound, Count, OpCode, Request, Response, ResponseCode, Selection};
use kit_protocol::mder::Number;

use super::calendar;
use super::pulse_oximeter::{Message, Refusal};

/// Glucose Measurement.
pub const MEASUREMENT: u16 = 0x2a18;
/// Glucose Measurement Context.
pub const CONTEXT: u16 = 0x2a34;
/// Glucose Feature.
pub const FEATURE: u16 = 0x2a51;
/// Record Access Control Point.
pub const CONTROL_POINT: u16 = 0x2a52;
/// Current Time.
pub const CURRENT_TIME: u16 = 0x2a2b;

/// How the meter spends its time, ms, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// It advertises for this long after a measurement.
    pub advertise_ms: u64,
    /// It hangs up after this long without anything to say or to answer.
    pub idle_ms: u64,
    /// Records it keeps; the next overwrites the oldest.
    pub records_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { advertise_ms: 12_000, idle_ms: 3_000, records_max: 500 }
    }
}

/// A drop on the strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What is in it, mg/dL.
    pub milligrams_per_decilitre: u16,
    /// Control solution instead of blood.
    pub control_solution: bool,
    /// What the user presses afterwards.
    pub meal: Option<Meal>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it measured.
    pub measurement: GlucoseMeasurement,
    /// What the user told of it.
    pub context: Option<GlucoseMeasurementContext>,
}

impl Record {
    fn number(&self) -> u16 {
        self.measurement.sequence_number
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Subscriptions {
    measurement: bool,
    context: bool,
    control_point: bool,
}

/// The device.
#[derive(Debug)]
pub struct GlucoseMeter {
    settings: Settings,
    records: VecDeque<Record>,
    next_number: u16,
    clock: Clock,
    offering_until_ms: Option<u64>,
    connected: bool,
    subscriptions: Subscriptions,
    last_traffic_ms: u64,
    /// Not yet handed over to anyone.
    fresh: Option<u16>,
    /// What is to be sent of a report, or of a new record, with the number of the record that it ends.
    sending: VecDeque<(u16, Vec<u8>, Option<u16>)>,
    /// The operation of which `sending` is the report.
    reporting: Option<OpCode>,
    response: Option<Response>,
    awaiting: bool,
}

/// The meter's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// Seconds since 2000 at power-up.
    at_power_up: u64,
    /// What the user moved it by since, minutes.
    offset: i16,
}

impl GlucoseMeter {
    /// Power-up: the clock is at the start of 2000, the memory is what it was before (`records`).
    #[must_use]
    pub fn start(settings: Settings, records: VecDeque<Record>) -> Self {
        Self {
            settings,
            next_number: records.back().map_or(1, |record| record.number().wrapping_add(1)),
            records,
            clock: Clock { at_power_up: 0, offset: 0 },
            offering_until_ms: None,
            connected: false,
            subscriptions: Subscriptions::default(),
            last_traffic_ms: 0,
            fresh: None,
            sending: VecDeque::new(),
            reporting: None,
            response: None,
            awaiting: false,
        }
    }

    /// Sets the clock: it was `seconds` after the start of 2000 at power-up.
    pub fn set_clock(&mut self, seconds: u64) {
        self.clock.at_power_up = seconds;
    }

    /// A drop is on the strip: gives the record that it makes.
    pub fn measure(&mut self, now_ms: u64, sample: Sample) -> Record {
        let concentration = Concentration {
            number: Number::Finite(Decimal::new(sample.milligrams_per_decilitre.into(), -5)),
            unit: ConcentrationUnit::KilogramPerLitre,
            sample_type: if sample.control_solution { SampleType::CONTROL_SOLUTION } else { SampleType::CAPILLARY_WHOLE_BLOOD },
            location: if sample.control_solution { SampleLocation::CONTROL_SOLUTION } else { SampleLocation::FINGER },
        };
        let number = self.next_number;
        let context = sample.meal.map(|meal| GlucoseMeasurementContext {
            sequence_number: number,
            extended_flags: None,
            carbohydrate: None,
            meal: Some(meal),
            tester_and_health: None,
            exercise: None,
            medication: None,
            hba1c: None,
        });
        let measurement = GlucoseMeasurement {
            sequence_number: number,
            base_time: self.civil(now_ms),
            time_offset: Some(self.clock.offset),
            concentration: Some(concentration),
            sensor_status: None,
            context_follows: context.is_some(),
        };
        let record = Record { measurement, context };
        self.next_number = number.wrapping_add(1);
        while self.records.len() >= self.settings.records_max.max(1) {
            self.records.pop_front();
        }
        self.records.push_back(record.clone());
        self.fresh = Some(number);
        self.offering_until_ms = Some(now_ms + self.settings.advertise_ms);
        self.last_traffic_ms = now_ms;
        record
    }

    /// Whether it advertises.
    #[must_use]
    pub fn advertising(&self, now_ms: u64) -> bool {
        !self.connected && self.offering_until_ms.is_some_and(|until| now_ms < until)
    }

    /// What the memory holds, oldest first.
    #[must_use]
    pub fn records(&self) -> &VecDeque<Record> {
        &self.records
    }

    /// The memory is cleared and numbers begin again, as the user may do by its buttons.
    pub fn clear(&mut self) {
        self.records.clear();
        self.next_number = 1;
        self.fresh = None;
    }

    /// A link came up.
    pub fn connect(&mut self, now_ms: u64) {
        self.connected = true;
        self.forget_link(now_ms);
    }

    /// The link ended.
    pub fn disconnect(&mut self, now_ms: u64) {
        self.connected = false;
        self.forget_link(now_ms);
        if self.fresh.is_none() {
            self.offering_until_ms = None;
        }
    }

    /// A client characteristic configuration was written.
    pub fn subscribe(&mut self, now_ms: u64, characteristic: u16, on: bool) {
        self.last_traffic_ms = now_ms;
        match characteristic {
            MEASUREMENT => self.subscriptions.measurement = on,
            CONTEXT => self.subscriptions.context = on,
            CONTROL_POINT => self.subscriptions.control_point = on,
            _ => {}
        }
    }

    /// A read request.
    pub fn read(&mut self, now_ms: u64, characteristic: u16) -> Result<Vec<u8>, Refusal> {
        self.last_traffic_ms = now_ms;
        match characteristic {
            FEATURE => Ok(GlucoseFeature::default().encode().to_vec()),
            CURRENT_TIME => Ok(CurrentTime::set_to(self.user_facing(now_ms)).encode().to_vec()),
            _ => Err(Refusal::NotPermitted),
        }
    }

    /// A write request.
    pub fn write(&mut self, now_ms: u64, characteristic: u16, value: &[u8]) -> Result<(), Refusal> {
        self.last_traffic_ms = now_ms;
        match characteristic {
            CURRENT_TIME => self.write_clock(now_ms, value),
            CONTROL_POINT => self.write_request(value),
            _ => Err(Refusal::NotPermitted),
        }
    }

    /// What it sends next.
    pub fn next_message(&mut self, now_ms: u64) -> Option<(Message, Option<u16>)> {
        if !self.connected || self.awaiting {
            return None;
        }
        if self.sending.is_empty() && self.reporting.is_none() && self.subscriptions.measurement {
            let fresh = self.fresh.take();
            self.send_records(|number| Some(number) == fresh);
        }
        if let Some((characteristic, value, ends)) = self.sending.pop_front() {
            self.last_traffic_ms = now_ms;
            return Some((Message { characteristic, value, indication: false }, ends));
        }
        if let Some(request) = self.reporting.take() {
            self.response = Some(Response::Code { request, code: ResponseCode::SUCCESS });
        }
        let response = self.response.take()?;
        self.last_traffic_ms = now_ms;
        self.awaiting = true;
        Some((Message { characteristic: CONTROL_POINT, value: response.encode(), indication: true }, None))
    }

    /// The last indication was confirmed.
    pub fn confirmed(&mut self, now_ms: u64) {
        self.last_traffic_ms = now_ms;
        self.awaiting = false;
    }

    /// Whether it hangs up: nothing to say, nothing asked for a while.
    #[must_use]
    pub fn hangs_up(&self, now_ms: u64) -> bool {
        self.connected && now_ms.saturating_sub(self.last_traffic_ms) >= self.settings.idle_ms
    }

    fn forget_link(&mut self, now_ms: u64) {
        self.subscriptions = Subscriptions::default();
        self.sending.clear();
        self.reporting = None;
        self.response = None;
        self.awaiting = false;
        self.last_traffic_ms = now_ms;
    }

    fn civil(&self, now_ms: u64) -> DateTime {
        calendar::civil(self.clock.at_power_up + now_ms / 1_000)
    }

    fn user_facing(&self, now_ms: u64) -> DateTime {
        let base = self.civil(now_ms);
        base.plus_minutes(self.clock.offset).unwrap_or(base)
    }

    /// The base time goes on; the user's clock is so many minutes off it.
    fn write_clock(&mut self, now_ms: u64, value: &[u8]) -> Result<(), Refusal> {
        let time = CurrentTime::decode(value).map_err(|_| Refusal::Length)?.date_time;
        let base = self.civil(now_ms).seconds();
        let minutes = time.seconds().zip(base).map(|(to, from)| (to - from) / 60);
        match minutes.and_then(|minutes| i16::try_from(minutes).ok()) {
            Some(offset) => self.clock.offset = offset,
            // Too far for an offset: the base time begins anew.
            None => {
                let seconds = calendar::seconds(&time).ok_or(Refusal::NotPermitted)?;
                self.clock = Clock { at_power_up: seconds.saturating_sub(now_ms / 1_000), offset: 0 };
            }
        }
        Ok(())
    }

    fn write_request(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let Some(&op_code) = value.first() else { return Err(Refusal::Length) };
        let op_code = OpCode(op_code);
        let busy = self.reporting.is_some() || self.response.is_some() || self.awaiting;
        if !self.subscriptions.control_point || (op_code == OpCode::REPORT && !self.subscriptions.measurement) {
            return Err(Refusal::NotSubscribed);
        }
        if busy && op_code != OpCode::ABORT {
            return Err(Refusal::InProgress);
        }
        let code = match Request::decode(value) {
            Ok(request) => self.carry_out(&request),
            Err(_) if op_code.is_response() => Some(ResponseCode::OP_CODE_NOT_SUPPORTED),
            Err(_) => Some(ResponseCode::INVALID_OPERAND),
        };
        if let Some(code) = code {
            self.response = Some(Response::Code { request: op_code, code });
        }
        Ok(())
    }

    /// Gives the response's code, where it is not another response or a report.
    fn carry_out(&mut self, request: &Request) -> Option<ResponseCode> {
        let op_code = request.op_code;
        if op_code == OpCode::ABORT {
            if request.selection != Selection::Null {
                return Some(ResponseCode::INVALID_OPERATOR);
            }
            self.sending.clear();
            self.reporting = None;
            return Some(ResponseCode::SUCCESS);
        }
        if !matches!(op_code, OpCode::REPORT | OpCode::DELETE | OpCode::REPORT_NUMBER) {
            return Some(ResponseCode::OP_CODE_NOT_SUPPORTED);
        }
        let selected = match self.selected(&request.selection) {
            Ok(selected) => selected,
            Err(code) => return Some(code),
        };
        match op_code {
            OpCode::REPORT_NUMBER => {
                let count = u16::try_from(selected.len()).unwrap_or(u16::MAX);
                self.response = Some(Response::NumberOfStoredRecords(Count::U16(count)));
                None
            }
            _ if selected.is_empty() => Some(ResponseCode::NO_RECORDS_FOUND),
            OpCode::DELETE => {
                self.records.retain(|record| !selected.contains(&record.number()));
                self.fresh = self.fresh.filter(|number| !selected.contains(number));
                Some(ResponseCode::SUCCESS)
            }
            _ => {
                self.send_records(|number| selected.contains(&number));
                self.fresh = self.fresh.filter(|number| !selected.contains(number));
                self.reporting = Some(op_code);
                None
            }
        }
    }

    fn selected(&self, selection: &Selection) -> Result<Vec<u16>, ResponseCode> {
        let numbers = || self.records.iter().map(Record::number);
        Ok(match selection {
            Selection::All => numbers().collect(),
            Selection::First => numbers().next().into_iter().collect(),
            Selection::Last => numbers().next_back().into_iter().collect(),
            Selection::LessThanOrEqual(Bound::SequenceNumber(to)) => numbers().filter(|number| number <= to).collect(),
            Selection::GreaterThanOrEqual(Bound::SequenceNumber(from)) => numbers().filter(|number| number >= from).collect(),
            Selection::WithinRange(Bound::SequenceNumber(from), Bound::SequenceNumber(to)) if from <= to => {
                numbers().filter(|number| (from..=to).contains(&number)).collect()
            }
            Selection::WithinRange(Bound::SequenceNumber(_), _) => return Err(ResponseCode::INVALID_OPERAND),
            Selection::Null => return Err(ResponseCode::INVALID_OPERATOR),
            Selection::LessThanOrEqual(_) | Selection::GreaterThanOrEqual(_) | Selection::WithinRange(..) => {
                return Err(ResponseCode::OPERAND_NOT_SUPPORTED);
            }
            Selection::Other { operator: 2..=4, .. } => return Err(ResponseCode::OPERAND_NOT_SUPPORTED),
            Selection::Other { .. } => return Err(ResponseCode::OPERATOR_NOT_SUPPORTED),
        })
    }

    /// Puts the records of these numbers onto the way, each with its context behind it.
    fn send_records(&mut self, which: impl Fn(u16) -> bool) {
        for record in self.records.iter().filter(|record| which(record.number())) {
            let context = record.context.filter(|_| self.subscriptions.context).and_then(|context| context.encode());
            let number = Some(record.number());
            let Some(value) = record.measurement.encode() else { continue };
            self.sending.push_back((MEASUREMENT, value, number.filter(|_| context.is_none())));
            self.sending.extend(context.map(|value| (CONTEXT, value, number)));
        }
    }
}
