//! The one JSON shape of readings, for command lines and truth files: any of them can be compared with any other.
//!
//! A line is exactly one of `{"reading":…}`, `{"refused":…}`, `{"resync":…}` or `{"measurement":…}`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reading::{Channel, Measured, Quantity, Rate, RecordingHead, Special, Value};
use crate::uplink::id::RecordingId;
use crate::uplink::record::{self, Definitions, RecordKey};
use crate::uplink::wire;

/// One line of a listing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// A reading, or a recording.
    Reading(Box<ReadingLine>),
    /// A measurement that was not taken.
    Refused(RefusedLine),
    /// Octets skipped to find the next frame.
    Resync(ResyncLine),
    /// A characteristic by itself, with the fields as the standard names them.
    Measurement(serde_json::Value),
}

impl Line {
    /// The line as text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A reading, before or after it has its key.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReadingLine {
    /// What sort it is.
    pub kind: String,
    /// The driver's name.
    pub driver: Option<String>,
    /// The device's stable identity.
    pub device: Option<String>,
    /// Its values.
    pub values: Vec<ValueLine>,
    /// The device's own time as it sent it, `2024-06-15T17:17:27`.
    pub device_time: Option<String>,
    /// The device's own record number.
    pub record: Option<u64>,
    /// The device's user slot.
    pub user: Option<u32>,
    /// Status in the standard's terms.
    pub status: Vec<String>,
    /// Circumstances that the device states: `{"site":"finger"}`; left out where it states none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// kit/epoch/lane/seq.
    pub key: Option<String>,
    /// The assignment's id.
    pub assignment: Option<String>,
    /// Reception at the gateway, RFC 3339 in UTC.
    pub received: Option<String>,
    /// The waveform it is, or belongs to.
    pub recording: Option<RecordingLine>,
}

/// One value: an exact decimal as text, or `null` with the reason.
#[derive(Clone, Debug, Serialize)]
pub struct ValueLine {
    /// MDC code.
    pub code: u32,
    /// Our name for it; `null` for a code newer than we are.
    pub name: Option<&'static str>,
    /// The decimal with every digit.
    pub value: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<&'static str>,
    /// UCUM.
    pub unit: String,
}

/// What a waveform is; its samples go to a file of their own.
#[derive(Clone, Debug, Serialize)]
pub struct RecordingLine {
    /// The recording's id, where it has one.
    pub id: Option<String>,
    /// Its leads or signals by name.
    pub leads: Vec<String>,
    /// Samples per second: a number, or "75/2" where it is not whole.
    pub rate: serde_json::Value,
    /// Samples per lead in this line.
    pub count: u64,
    /// Index of the first of them in the recording.
    pub first: u64,
    /// UCUM.
    pub unit: String,
    /// What one digit is worth, in `unit`.
    pub scale: String,
}

/// A measurement that was not taken as a reading.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedLine {
    /// The class of the reason.
    pub reason: String,
    /// What exactly; in `decode` only, never in a log.
    pub detail: String,
    /// What the device sent, in hexadecimal.
    pub octets: String,
}

/// Octets skipped to find the next frame.
#[derive(Clone, Debug, Serialize)]
pub struct ResyncLine {
    /// How many.
    pub skipped: u64,
}

/// Octets in lower-case hexadecimal.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn absent(special: Special) -> &'static str {
    match special {
        Special::NotANumber => "not-a-number",
        Special::PositiveInfinity => "positive-infinity",
        Special::NegativeInfinity => "negative-infinity",
        Special::NotAtThisResolution | Special::Reserved => "error",
        Special::NotAvailable => "not-available",
    }
}

fn value_line(code: Mdc, quantity: Option<&Quantity>, unit: &str) -> ValueLine {
    let (value, absent) = match quantity {
        Some(Quantity::Number(decimal)) => (Some(decimal.to_string()), None),
        Some(Quantity::Special(special)) => (None, Some(absent(*special))),
        Some(Quantity::Code(code)) => (Some(name(*code).map_or_else(|| code.0.to_string(), ToString::to_string)), None),
        Some(Quantity::Bits(bits)) => (Some(format!("{bits:#x}")), None),
        None => (None, Some("error")),
    };
    ValueLine { code: code.0, name: name(code), value, absent, unit: unit.to_string() }
}

fn name(code: Mdc) -> Option<&'static str> {
    code.name()
}

fn lead_name(code: u32) -> String {
    name(Mdc(code)).map_or_else(|| format!("{code}"), ToString::to_string)
}

fn rate_json(rate: Rate) -> serde_json::Value {
    match rate.seconds {
        1 => rate.samples.into(),
        seconds => format!("{}/{seconds}", rate.samples).into(),
    }
}

impl ValueLine {
    /// A value that was just decoded.
    #[must_use]
    pub fn new(value: &Value) -> Self {
        value_line(value.code, Some(&value.quantity), value.unit)
    }
}

impl ReadingLine {
    /// A measurement that has no key yet.
    #[must_use]
    pub fn measured(driver: &str, device: Option<&str>, measured: &Measured) -> Self {
        Self {
            kind: measured.kind.name().to_string(),
            driver: Some(driver.to_string()),
            device: device.map(ToString::to_string),
            values: measured.values.iter().map(ValueLine::new).collect(),
            device_time: measured.device_time.map(|time| time.to_string()),
            record: measured.record,
            user: measured.user_slot.map(u32::from),
            status: measured.status.iter().map(ToString::to_string).collect(),
            context: measured.context.iter().map(|context| (context.what.to_string(), context.value.to_string())).collect(),
            ..Self::default()
        }
    }

    /// A recording that has no key yet.
    #[must_use]
    pub fn recorded(driver: &str, device: Option<&str>, head: &RecordingHead, first: u64, count: u64) -> Self {
        let line = |channel: &Channel| (channel.unit, channel.scale.to_string());
        let (unit, scale) = head.channels.first().map(line).unwrap_or_default();
        Self {
            kind: head.kind.name().to_string(),
            driver: Some(driver.to_string()),
            device: device.map(ToString::to_string),
            device_time: head.device_time.map(|time| time.to_string()),
            recording: Some(RecordingLine {
                id: None,
                leads: head.channels.iter().map(|channel| lead_name(channel.code.0)).collect(),
                rate: rate_json(head.rate),
                count,
                first,
                unit: unit.to_string(),
                scale,
            }),
            ..Self::default()
        }
    }

    /// A stored record: a reading or a segment; `None` for a journal entry. `received` is its reception as text.
    #[must_use]
    pub fn stored(key: &RecordKey, record: &wire::Record, definitions: &Definitions, received: Option<String>) -> Option<Self> {
        use wire::record::Content;
        let line = match record.content.as_ref()? {
            Content::Reading(reading) => Self::from_reading(reading, definitions),
            Content::Segment(segment) => Self::from_segment(segment, definitions),
            _ => return None,
        };
        Some(Self {
            key: Some(key.to_string()),
            assignment: definitions.assignment(record.assignment).map(ToString::to_string),
            received,
            ..line
        })
    }

    fn from_reading(reading: &wire::Reading, definitions: &Definitions) -> Self {
        let value = |value: &wire::Value| value_line(Mdc(value.code), record::quantity(value).as_ref(), &value.unit);
        let time = |time: &wire::DateTime| record::date_time_from_wire(time).as_ref().map(DateTime::to_string);
        Self {
            kind: record::kind_from_wire(reading.kind).name().to_string(),
            driver: definitions.driver(reading.driver).map(|driver| driver.name.clone()),
            device: definitions.device(reading.device).map(|device| device.identity.clone()),
            values: reading.values.iter().map(value).collect(),
            device_time: reading.device_time.as_ref().and_then(time),
            record: reading.record,
            user: reading.user,
            status: reading.status.clone(),
            context: reading.context.iter().map(|context| (context.what.clone(), context.value.clone())).collect(),
            ..Self::default()
        }
    }

    fn from_segment(segment: &wire::Segment, definitions: &Definitions) -> Self {
        let time = |time: &wire::DateTime| record::date_time_from_wire(time).as_ref().map(DateTime::to_string);
        let scale = |channel: &wire::Channel| {
            let exponent = i8::try_from(channel.scale_exponent).unwrap_or(0);
            (channel.unit.clone(), Decimal::new(channel.scale_mantissa, exponent).to_string())
        };
        let (unit, scale) = segment.channels.first().map(scale).unwrap_or_default();
        Self {
            kind: record::kind_from_wire(segment.kind).name().to_string(),
            driver: definitions.driver(segment.driver).map(|driver| driver.name.clone()),
            device: definitions.device(segment.device).map(|device| device.identity.clone()),
            device_time: segment.device_time.as_ref().and_then(time),
            recording: Some(RecordingLine {
                id: RecordingId::from_slice(&segment.recording).map(|id| id.to_string()),
                leads: segment.channels.iter().map(|channel| lead_name(channel.code)).collect(),
                rate: rate_json(Rate { samples: segment.rate_numerator, seconds: segment.rate_denominator }),
                count: segment.samples.into(),
                first: segment.first_sample,
                unit,
                scale,
            }),
            ..Self::default()
        }
    }
}
