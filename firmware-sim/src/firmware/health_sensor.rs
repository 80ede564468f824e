//! A generic health sensor: a bedside box that observes SpO2, pulse, pressures, an ECG and a forced expiration, and says all
//! of it in observations of IEEE 11073-10206 over the Generic Health Sensor Service.
//!
//! What is observed while somebody has started live observations on an open link goes out live, in segments, each indicated
//! and confirmed; everything else, and what a link that ended cut off, is stored under its number and reported by the Record
//! Access Control Point, combined or plain. Characteristics are their 16-bit numbers here; time is milliseconds since
//! power-up. Source: Bluetooth SIG, Generic Health Sensor Service 1.0, Elapsed Time Service 1.0, as the codecs name them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::elapsed_time::{CurrentElapsedTime, ElapsedTime, TimeSource};
use kit_protocol::gatt::health_observation::{
    Component, HealthObservation, LengthCounts, Numeric, ObservationValue, SampleArray, SampleCounts, StoredHealthObservation,
    UnitCode,
};
use kit_protocol::gatt::health_observation_segment::Segmenter;
use kit_protocol::gatt::health_sensor_features::{GhsControlPoint, HealthSensorFeatures};
use kit_protocol::gatt::racp::{Bound, Count, OpCode, Request, Response, ResponseCode, Selection};
use kit_protocol::mder::Number;
use kit_protocol::nomenclature::Mdc;

use super::nearest;
use super::pulse_oximeter::{Message, Refusal};

/// Live Health Observations.
pub const LIVE: u16 = 0x2b8b;
/// Stored Health Observations.
pub const STORED: u16 = 0x2bdd;
/// Health Sensor Features.
pub const FEATURES: u16 = 0x2bf3;
/// GHS Control Point.
pub const GHS_CONTROL_POINT: u16 = 0x2bf4;
/// Record Access Control Point.
pub const CONTROL_POINT: u16 = 0x2a52;
/// Current Elapsed Time.
pub const ELAPSED_TIME: u16 = 0x2bf2;

/// Samples a second of the ECG.
pub const ECG_RATE_HZ: u32 = 250;
/// One digit of it, mV.
pub const ECG_DIGIT: Decimal = Decimal::new(1, -3);
/// Its leads.
pub const ECG_LEADS: [Mdc; 2] = [Mdc::ECG_I, Mdc::ECG_II];

/// Records that it keeps; the next overwrites the oldest.
const RECORDS_MAX: usize = 200;
/// It hangs up after this long without a word, where nobody waits for live observations.
const IDLE_MS: u64 = 10_000;
/// The ATT MTU until another is agreed on.
const MTU_LEAST: u16 = 23;
/// Octets of a value that are ATT's and the segment's header.
const SEGMENT_OVERHEAD: u16 = 3 + 1;

/// Units: terms of partition 4.
const PERCENT: UnitCode = UnitCode(544);
const PER_MINUTE: UnitCode = UnitCode(2_720);
const MILLIMETRE_OF_MERCURY: UnitCode = UnitCode(3_872);
const MILLIVOLT: UnitCode = UnitCode(4_274);
const LITRE: UnitCode = UnitCode(1_600);
const LITRE_PER_SECOND: UnitCode = UnitCode(3_040);

const BLOOD_PRESSURE: Mdc = Mdc(150_020);
/// MDC_DEV_SPEC_PROFILE_SPIROMETER: what the compound of the figures is called.
const SPIROMETRY: Mdc = Mdc(528_413);
/// FVC, FEV1, FEV1/FVC, PEF.
const FIGURES: [(Mdc, UnitCode); 4] =
    [(Mdc(188_928), LITRE), (Mdc(152_586), LITRE), (Mdc(188_948), PERCENT), (Mdc(152_584), LITRE_PER_SECOND)];

/// What came out of a forced expiration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Forced vital capacity, L.
    pub fvc: f32,
    /// Volume of the first second, L.
    pub fev1: f32,
    /// Peak flow, L/s.
    pub pef: f32,
}

/// An observation with its number, which is its record's where it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts the observations.
    pub number: u32,
    /// What was observed.
    pub observation: HealthObservation,
}

/// What has arrived whole with the last confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The observation.
    pub record: Record,
    /// Out of the memory.
    pub stored: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Subscriptions {
    live: bool,
    stored: bool,
    ghs_control_point: bool,
    control_point: bool,
}

/// An observation on its way.
#[derive(Debug)]
struct Sending {
    record: Record,
    stored: bool,
    /// Asked for as the last record, to learn its number.
    probe: bool,
    segments: VecDeque<Vec<u8>>,
}

/// A report under way.
#[derive(Debug)]
struct Report {
    operation: OpCode,
    probe: bool,
    numbers: VecDeque<u32>,
    sent: u32,
}

/// The firmware.
#[derive(Debug)]
pub struct HealthSensor {
    /// Seconds since 2000 at power-up; `None`: the clock was never set.
    clock: Option<u64>,
    records: VecDeque<Record>,
    /// To be sent live, oldest first.
    live: VecDeque<Record>,
    numbers: u32,
    made: VecDeque<Record>,
    connected: bool,
    started: bool,
    mtu: u16,
    subscriptions: Subscriptions,
    last_traffic_ms: u64,
    sending: Option<Sending>,
    report: Option<Report>,
    responses: VecDeque<(u16, Vec<u8>)>,
    awaiting: bool,
    live_segments: Segmenter,
    stored_segments: Segmenter,
}

impl HealthSensor {
    /// Power-up: the clock is not set, the memory is what it was before.
    #[must_use]
    pub fn start(records: VecDeque<Record>, numbers: u32) -> Self {
        Self {
            clock: None,
            numbers: records.back().map_or(numbers, |record| record.number.max(numbers)),
            records,
            live: VecDeque::new(),
            made: VecDeque::new(),
            connected: false,
            started: false,
            mtu: MTU_LEAST,
            subscriptions: Subscriptions::default(),
            last_traffic_ms: 0,
            sending: None,
            report: None,
            responses: VecDeque::new(),
            awaiting: false,
            live_segments: Segmenter::default(),
            stored_segments: Segmenter::default(),
        }
    }

    /// Sets the clock: it was `seconds` after the start of 2000 at power-up; `None`: it has lost the time.
    pub fn set_clock(&mut self, seconds: Option<u64>) {
        self.clock = seconds;
    }

    /// What the memory holds after a power cut, oldest first: also what was on its way; with the last number given.
    #[must_use]
    pub fn memory(mut self) -> (VecDeque<Record>, u32) {
        self.store_live();
        (self.records, self.numbers)
    }

    /// The next observation made since the last call.
    pub fn take_made(&mut self) -> Option<Record> {
        self.made.pop_front()
    }

    /// What nobody was sent yet, and the memory.
    pub fn held(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().chain(&self.live)
    }

    /// The finger was on the oximeter: two observations.
    pub fn observe_oximetry(&mut self, now_ms: u64, spo2: f32, pulse_rate: f32) {
        self.observe(now_ms, Mdc::SPO2, numeric(spo2, 0, PERCENT));
        self.observe(now_ms, Mdc::PULSE_RATE, numeric(pulse_rate, 0, PER_MINUTE));
    }

    /// The cuff has measured, mmHg: systolic, diastolic, mean, one observation.
    pub fn observe_pressure(&mut self, now_ms: u64, pressures: [f32; 3]) {
        let codes = [Mdc::SYSTOLIC, Mdc::DIASTOLIC, Mdc::MEAN_ARTERIAL_PRESSURE];
        let part = |(code, pressure)| Component { code, value: numeric(pressure, 0, MILLIMETRE_OF_MERCURY) };
        let parts = codes.into_iter().zip(pressures).map(part).collect();
        self.observe(now_ms, BLOOD_PRESSURE, ObservationValue::Compound(parts));
    }

    /// The patient has blown: the figures, one observation.
    pub fn observe_expiration(&mut self, now_ms: u64, figures: Figures) {
        let ratio = if figures.fvc > 0.0 { figures.fev1 / figures.fvc * 100.0 } else { 0.0 };
        let values = [(figures.fvc, -2), (figures.fev1, -2), (ratio, -1), (figures.pef, -2)];
        let part = |((code, unit), (value, exponent))| Component { code, value: numeric(value, exponent, unit) };
        let parts = FIGURES.into_iter().zip(values).map(part).collect();
        self.observe(now_ms, SPIROMETRY, ObservationValue::Compound(parts));
    }

    /// The electrodes have been on: samples of both leads, in [`ECG_DIGIT`], the last of them now; one observation.
    pub fn observe_ecg(&mut self, now_ms: u64, samples: &[[i16; ECG_LEADS.len()]]) {
        let array = |lead: usize| SampleArray {
            unit: MILLIVOLT,
            scale: Number::Finite(ECG_DIGIT),
            offset: Number::Finite(Decimal::whole(0)),
            period: Number::Finite(Decimal::new(4, -3)),
            samples_per_period: 1,
            octets_per_sample: 2,
            counts: SampleCounts::Samples,
            octets: samples.iter().filter_map(|row| row.get(lead)).flat_map(|sample| sample.to_le_bytes()).collect(),
        };
        let part = |(lead, code)| Component { code, value: ObservationValue::SampleArray(array(lead)) };
        let parts = ECG_LEADS.into_iter().enumerate().map(part).collect();
        let lasts_ms = u64::try_from(samples.len()).unwrap_or(0) * 1_000 / u64::from(ECG_RATE_HZ);
        self.observe(now_ms.saturating_sub(lasts_ms), Mdc::ECG, ObservationValue::Compound(parts));
    }

    /// Whether it advertises: always, while nobody is connected.
    #[must_use]
    pub const fn advertising(&self) -> bool {
        !self.connected
    }

    /// A link came up.
    pub fn connect(&mut self, now_ms: u64) {
        self.connected = true;
        self.mtu = MTU_LEAST;
        self.forget_link(now_ms);
    }

    /// The link agreed on an ATT MTU.
    pub fn agree_mtu(&mut self, octets: u16) {
        self.mtu = octets.max(MTU_LEAST);
    }

    /// The link ended: what was on its way is stored.
    pub fn disconnect(&mut self, now_ms: u64) {
        self.connected = false;
        self.forget_link(now_ms);
    }

    /// A client characteristic configuration was written.
    pub fn subscribe(&mut self, now_ms: u64, characteristic: u16, on: bool) {
        self.last_traffic_ms = now_ms;
        match characteristic {
            LIVE => self.subscriptions.live = on,
            STORED => self.subscriptions.stored = on,
            GHS_CONTROL_POINT => self.subscriptions.ghs_control_point = on,
            CONTROL_POINT => self.subscriptions.control_point = on,
            _ => {}
        }
    }

    /// A read request.
    pub fn read(&mut self, now_ms: u64, characteristic: u16) -> Result<Vec<u8>, Refusal> {
        self.last_traffic_ms = now_ms;
        match characteristic {
            FEATURES => features().encode().ok_or(Refusal::NotPermitted),
            ELAPSED_TIME => {
                let clock_status = u8::from(self.clock.is_none());
                let current = CurrentElapsedTime { time: self.time(now_ms), clock_status, clock_capabilities: 0 };
                current.encode().ok_or(Refusal::NotPermitted)
            }
            _ => Err(Refusal::NotPermitted),
        }
    }

    /// A write request.
    pub fn write(&mut self, now_ms: u64, characteristic: u16, value: &[u8]) -> Result<(), Refusal> {
        self.last_traffic_ms = now_ms;
        match characteristic {
            GHS_CONTROL_POINT => self.write_ghs(value),
            CONTROL_POINT => self.write_request(value),
            _ => Err(Refusal::NotPermitted),
        }
    }

    /// What it sends next, and whether an observation ends with it. All of it is indicated.
    pub fn next_message(&mut self, now_ms: u64) -> Option<(Message, bool)> {
        if !self.connected || self.awaiting {
            return None;
        }
        let (characteristic, value, ends) = self.next_segment().or_else(|| {
            let (characteristic, value) = self.responses.pop_front()?;
            Some((characteristic, value, false))
        })?;
        self.awaiting = true;
        self.last_traffic_ms = now_ms;
        Some((Message { characteristic, value, indication: true }, ends))
    }

    /// The last indication was confirmed; gives the observation that has arrived whole with it.
    pub fn confirmed(&mut self, now_ms: u64) -> Option<Arrived> {
        self.last_traffic_ms = now_ms;
        if !core::mem::take(&mut self.awaiting) {
            return None;
        }
        let Sending { record, stored, probe, .. } = self.sending.take_if(|sending| sending.segments.is_empty())?;
        if !stored {
            self.live.retain(|live| live.number != record.number);
        }
        (!probe).then_some(Arrived { record, stored })
    }

    /// Whether it hangs up: nothing asked for a while, and nobody waits for what is live.
    #[must_use]
    pub const fn hangs_up(&self, now_ms: u64) -> bool {
        self.connected && !self.started && now_ms.saturating_sub(self.last_traffic_ms) >= IDLE_MS
    }

    fn observe(&mut self, now_ms: u64, code: Mdc, value: ObservationValue) {
        self.numbers = self.numbers.wrapping_add(1);
        let observation = HealthObservation {
            length: LengthCounts::AfterHeader,
            observation_type: Some(code),
            time: Some(self.time(now_ms)),
            duration: None,
            status: None,
            id: None,
            patient: None,
            supplemental: None,
            derived_from: None,
            has_member: None,
            attributes: None,
            value,
        };
        let record = Record { number: self.numbers, observation };
        self.made.push_back(record.clone());
        if self.connected && self.started && self.subscriptions.live {
            self.live.push_back(record);
        } else {
            self.store(record);
        }
    }

    fn store(&mut self, record: Record) {
        if self.records.len() >= RECORDS_MAX {
            self.records.pop_front();
        }
        let at = self.records.partition_point(|before| before.number < record.number);
        self.records.insert(at, record);
    }

    fn store_live(&mut self) {
        for record in core::mem::take(&mut self.live) {
            self.store(record);
        }
    }

    /// Ticks since power-up where the clock was never set.
    fn time(&self, now_ms: u64) -> ElapsedTime {
        /// A count of ticks, 1 ms each.
        const TICKS_MS: u8 = 0x09;
        match self.clock {
            Some(at_power_up) => ElapsedTime {
                flags: ElapsedTime::UTC_SECONDS,
                count: (at_power_up + now_ms / 1_000).min(ElapsedTime::COUNT_MAX),
                source: TimeSource(6),
                offset_quarters: 0,
            },
            None => {
                let count = now_ms.min(ElapsedTime::COUNT_MAX);
                ElapsedTime { flags: TICKS_MS, count, source: TimeSource(7), offset_quarters: 0 }
            }
        }
    }

    fn forget_link(&mut self, now_ms: u64) {
        self.subscriptions = Subscriptions::default();
        self.started = false;
        self.sending = None;
        self.report = None;
        self.responses.clear();
        self.awaiting = false;
        self.store_live();
        self.last_traffic_ms = now_ms;
    }
}

/// What it sends.
impl HealthSensor {
    fn next_segment(&mut self) -> Option<(u16, Vec<u8>, bool)> {
        if self.sending.is_none() {
            self.sending = self.next_reported().or_else(|| self.next_live());
        }
        let sending = self.sending.as_mut()?;
        let segment = sending.segments.pop_front()?;
        Some((if sending.stored { STORED } else { LIVE }, segment, sending.segments.is_empty()))
    }

    fn payload(&self) -> usize {
        usize::from(self.mtu - SEGMENT_OVERHEAD)
    }

    /// The next record of a running report; at its end, how it went.
    fn next_reported(&mut self) -> Option<Sending> {
        let payload = self.payload();
        let report = self.report.as_mut()?;
        while let Some(number) = report.numbers.pop_front() {
            let Some(record) = self.records.iter().find(|record| record.number == number).cloned() else { continue };
            let stored = StoredHealthObservation { record: number, observation: record.observation.clone() };
            let Some(octets) = stored.encode() else { continue };
            report.sent += 1;
            let segments = self.stored_segments.segments(&octets, payload).into();
            return Some(Sending { record, stored: true, probe: report.probe, segments });
        }
        let Report { operation, sent, .. } = self.report.take()?;
        let response = if operation == OpCode::COMBINED_REPORT {
            Response::CombinedReport(Count::U32(sent))
        } else {
            Response::Code { request: operation, code: ResponseCode::SUCCESS }
        };
        self.responses.push_back((CONTROL_POINT, response.encode()));
        None
    }

    fn next_live(&mut self) -> Option<Sending> {
        // What was asked for is answered first.
        let record = self.live.front().filter(|_| self.responses.is_empty())?.clone();
        let octets = record.observation.encode()?;
        let segments = self.live_segments.segments(&octets, self.payload()).into();
        Some(Sending { record, stored: false, probe: false, segments })
    }
}

/// What it is asked.
impl HealthSensor {
    fn write_ghs(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let asked = GhsControlPoint::decode(value).map_err(|_| Refusal::Length)?;
        if !self.subscriptions.ghs_control_point {
            return Err(Refusal::NotSubscribed);
        }
        let answer = match asked {
            GhsControlPoint::START_LIVE if self.report.is_some() => GhsControlPoint::SERVER_BUSY,
            GhsControlPoint::START_LIVE if self.subscriptions.live => {
                self.started = true;
                GhsControlPoint::SUCCESS
            }
            GhsControlPoint::STOP_LIVE => {
                self.started = false;
                // The one on its way goes out; the others are kept.
                let on_its_way = self.sending.as_ref().filter(|sending| !sending.stored).and_then(|_| self.live.pop_front());
                self.store_live();
                self.live.extend(on_its_way);
                GhsControlPoint::SUCCESS
            }
            _ => GhsControlPoint::ERROR,
        };
        self.responses.push_back((GHS_CONTROL_POINT, answer.encode().to_vec()));
        Ok(())
    }

    fn write_request(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let Some(&op_code) = value.first() else { return Err(Refusal::Length) };
        let op_code = OpCode(op_code);
        let reports = matches!(op_code, OpCode::REPORT | OpCode::COMBINED_REPORT);
        if !self.subscriptions.control_point || (reports && !self.subscriptions.stored) {
            return Err(Refusal::NotSubscribed);
        }
        let busy = self.report.is_some() || self.responses.iter().any(|(from, _)| *from == CONTROL_POINT);
        if busy && op_code != OpCode::ABORT {
            return Err(Refusal::InProgress);
        }
        let response = match Request::decode(value) {
            Ok(request) => self.carry_out(&request),
            Err(_) if op_code.is_response() => Some(code(op_code, ResponseCode::OP_CODE_NOT_SUPPORTED)),
            Err(_) => Some(code(op_code, ResponseCode::INVALID_OPERAND)),
        };
        self.responses.extend(response.map(|response| (CONTROL_POINT, response.encode())));
        Ok(())
    }

    /// The answer; none yet to a report that begins.
    fn carry_out(&mut self, request: &Request) -> Option<Response> {
        let operation = request.op_code;
        if operation == OpCode::ABORT {
            let null = request.selection == Selection::Null;
            if null {
                self.report = None;
            }
            return Some(code(operation, if null { ResponseCode::SUCCESS } else { ResponseCode::INVALID_OPERATOR }));
        }
        if !matches!(operation, OpCode::REPORT | OpCode::COMBINED_REPORT | OpCode::DELETE | OpCode::REPORT_NUMBER) {
            return Some(code(operation, ResponseCode::OP_CODE_NOT_SUPPORTED));
        }
        let selected = match self.selected(&request.selection) {
            Ok(selected) => selected,
            Err(refusal) => return Some(code(operation, refusal)),
        };
        match operation {
            OpCode::REPORT_NUMBER => {
                let count = u32::try_from(selected.len()).unwrap_or(u32::MAX);
                Some(Response::NumberOfStoredRecords(Count::U32(count)))
            }
            _ if selected.is_empty() => Some(code(operation, ResponseCode::NO_RECORDS_FOUND)),
            OpCode::DELETE => {
                self.records.retain(|record| !selected.contains(&record.number));
                Some(code(operation, ResponseCode::SUCCESS))
            }
            _ => {
                let probe = request.selection == Selection::Last;
                self.report = Some(Report { operation, probe, numbers: selected.into(), sent: 0 });
                None
            }
        }
    }

    fn selected(&self, selection: &Selection) -> Result<Vec<u32>, ResponseCode> {
        let numbers = || self.records.iter().map(|record| record.number);
        Ok(match selection {
            Selection::All => numbers().collect(),
            Selection::First => numbers().next().into_iter().collect(),
            Selection::Last => numbers().next_back().into_iter().collect(),
            Selection::LessThanOrEqual(Bound::RecordNumber(to)) => numbers().filter(|number| number <= to).collect(),
            Selection::GreaterThanOrEqual(Bound::RecordNumber(from)) => numbers().filter(|number| number >= from).collect(),
            Selection::WithinRange(Bound::RecordNumber(from), Bound::RecordNumber(to)) if from <= to => {
                numbers().filter(|number| (from..=to).contains(&number)).collect()
            }
            Selection::WithinRange(Bound::RecordNumber(_), _) => return Err(ResponseCode::INVALID_OPERAND),
            Selection::Null => return Err(ResponseCode::INVALID_OPERATOR),
            Selection::LessThanOrEqual(_) | Selection::GreaterThanOrEqual(_) | Selection::WithinRange(..) => {
                return Err(ResponseCode::OPERAND_NOT_SUPPORTED);
            }
            Selection::Other { operator: 2..=4, .. } => return Err(ResponseCode::OPERAND_NOT_SUPPORTED),
            Selection::Other { .. } => return Err(ResponseCode::OPERATOR_NOT_SUPPORTED),
        })
    }
}

fn features() -> HealthSensorFeatures {
    let observation_types = [Mdc::SPO2, Mdc::PULSE_RATE, BLOOD_PRESSURE, Mdc::ECG, SPIROMETRY].into();
    HealthSensorFeatures { observation_types, specializations: None, reserved_flags: 0 }
}

fn code(request: OpCode, code: ResponseCode) -> Response {
    Response::Code { request, code }
}

/// `value` with as many decimal places as the exponent says.
fn numeric(value: f32, exponent: i8, unit: UnitCode) -> ObservationValue {
    let scale = match exponent {
        -2 => 100.0,
        -1 => 10.0,
        _ => 1.0,
    };
    let number = Number::Finite(Decimal::new(nearest(value * scale).into(), exponent));
    ObservationValue::Numeric(Numeric { unit, number })
}
