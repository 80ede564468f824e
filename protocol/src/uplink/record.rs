//! From what a driver hands over to what the outbox keeps, and back to what a listing shows.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::id::{EpochId, KitId, Lane};
use super::wire::{self, definition::What};
use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reading::{Channel, Kind, Measured, Memory, Quantity, Special, Value};

/// What names a record everywhere: I2's `(kit, epoch, lane, seq)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Which kit made it.
    pub kit: KitId,
    /// In which life of its outbox.
    pub epoch: EpochId,
    /// In which lane.
    pub lane: Lane,
    /// Under which number, from 1.
    pub seq: u64,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.kit, self.epoch, self.lane, self.seq)
    }
}

/// The small numbers of one epoch and what they stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions(BTreeMap<u32, What>);

impl Definitions {
    /// Takes in definitions; a number already known keeps its meaning.
    pub fn extend<'a>(&mut self, definitions: impl IntoIterator<Item = &'a wire::Definition>) {
        for definition in definitions {
            if let Some(what) = &definition.what {
                self.0.entry(definition.number).or_insert_with(|| what.clone());
            }
        }
    }

    /// Whether every number that `record` uses is defined, and as what it is used for.
    #[must_use]
    pub fn cover(&self, record: &wire::Record) -> bool {
        let mut whole = true;
        used_numbers(record, |number, kind| whole &= self.0.get(&number).is_some_and(|what| kind.fits(what)));
        whole
    }

    /// What a number stands for.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&What> {
        self.0.get(&number)
    }

    /// The device of that number.
    #[must_use]
    pub fn device(&self, number: u32) -> Option<&wire::Device> {
        match self.0.get(&number) {
            Some(What::Device(device)) => Some(device),
            _ => None,
        }
    }

    /// The driver of that number.
    #[must_use]
    pub fn driver(&self, number: u32) -> Option<&wire::Driver> {
        match self.0.get(&number) {
            Some(What::Driver(driver)) => Some(driver),
            _ => None,
        }
    }

    /// The clock of that number.
    #[must_use]
    pub fn clock(&self, number: u32) -> Option<&wire::Clock> {
        match self.0.get(&number) {
            Some(What::Clock(clock)) => Some(clock),
            _ => None,
        }
    }

    /// The assignment of that number.
    #[must_use]
    pub fn assignment(&self, number: u32) -> Option<&str> {
        match self.0.get(&number) {
            Some(What::Assignment(assignment)) => Some(&assignment.id),
            _ => None,
        }
    }

    /// When `record` was received, Unix time in microseconds, as the gateway's clock had it.
    #[must_use]
    pub fn received_us(&self, record: &wire::Record) -> Option<i64> {
        let clock = self.clock(record.clock)?;
        i64::try_from(record.boottime_ns / 1000).ok()?.checked_add(clock.offset_us)
    }
}

/// What a number in a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A device.
    Device,
    /// A driver.
    Driver,
    /// A clock.
    Clock,
    /// An assignment.
    Assignment,
}

impl Use {
    fn fits(self, what: &What) -> bool {
        matches!(
            (self, what),
            (Self::Device, What::Device(_))
                | (Self::Driver, What::Driver(_))
                | (Self::Clock, What::Clock(_))
                | (Self::Assignment, What::Assignment(_))
        )
    }
}

/// Calls `see` with every definition number that `record` uses; 0, which means "none", is left out.
pub fn used_numbers(record: &wire::Record, mut see: impl FnMut(u32, Use)) {
    use wire::record::Content;
    let mut used = |number: u32, kind: Use| {
        if number != 0 {
            see(number, kind);
        }
    };
    used(record.clock, Use::Clock);
    used(record.assignment, Use::Assignment);
    match &record.content {
        Some(Content::Reading(reading)) => {
            used(reading.device, Use::Device);
            used(reading.driver, Use::Driver);
        }
        Some(Content::Segment(segment)) => {
            used(segment.device, Use::Device);
            used(segment.driver, Use::Driver);
        }
        Some(Content::Missed(missed)) => {
            used(missed.device, Use::Device);
            used(missed.from_clock, Use::Clock);
        }
        Some(Content::Refusal(refusal)) => {
            used(refusal.device, Use::Device);
            used(refusal.driver, Use::Driver);
        }
        Some(Content::DeviceEvent(event)) => used(event.device, Use::Device),
        Some(Content::EpochOpened(opened)) => used(opened.assignment, Use::Assignment),
        Some(Content::EpochClosed(_) | Content::Gap(_)) | None => {}
    }
}

/// The reading of a measurement that arrived from `source`, or that we derived; its device and driver numbers are still to be set.
#[must_use]
pub fn reading(measured: &Measured, source: wire::Source) -> wire::Reading {
    let source = if measured.derived { wire::Source::Derived } else { source };
    wire::Reading {
        kind: kind_to_wire(measured.kind).into(),
        source: source.into(),
        performer: wire::Performer::Patient.into(),
        values: measured.values.iter().map(value).collect(),
        device_time: measured.device_time.map(date_time),
        record: measured.record,
        user: measured.user_slot.map(u32::from),
        status: measured.status.iter().map(ToString::to_string).collect(),
        memory: memory(measured.memory).into(),
        context: measured
            .context
            .iter()
            .map(|context| wire::Context { what: context.what.into(), value: context.value.into() })
            .collect(),
        ..wire::Reading::default()
    }
}

/// Live or stored, as the wire says it.
#[must_use]
pub fn memory(memory: Memory) -> wire::Memory {
    match memory {
        Memory::Live => wire::Memory::Live,
        Memory::Stored => wire::Memory::Stored,
    }
}

/// A value as the wire carries it, digits kept.
#[must_use]
pub fn value(value: &Value) -> wire::Value {
    use wire::value::Quantity as Wire;
    let (quantity, exponent) = match &value.quantity {
        Quantity::Number(decimal) => (Wire::Mantissa(decimal.mantissa), i32::from(decimal.exponent)),
        Quantity::Special(special) => (Wire::Special(special_to_wire(*special).into()), 0),
        Quantity::Code(code) => (Wire::Coded(code.0), 0),
        Quantity::Bits(bits) => (Wire::Bits(*bits), 0),
    };
    wire::Value { code: value.code.0, exponent, unit: String::from(value.unit), quantity: Some(quantity) }
}

/// The quantity of a value from the wire; `None` for one newer than we are.
#[must_use]
pub fn quantity(value: &wire::Value) -> Option<Quantity> {
    use wire::value::Quantity as Wire;
    Some(match value.quantity.as_ref()? {
        Wire::Mantissa(mantissa) => Quantity::Number(Decimal::new(*mantissa, i8::try_from(value.exponent).ok()?)),
        Wire::Special(special) => Quantity::Special(special_from_wire(*special)?),
        Wire::Coded(code) => Quantity::Code(Mdc(*code)),
        Wire::Bits(bits) => Quantity::Bits(*bits),
    })
}

/// A channel as the wire carries it.
#[must_use]
pub fn channel(channel: &Channel) -> wire::Channel {
    wire::Channel {
        code: channel.code.0,
        scale_mantissa: channel.scale.mantissa,
        scale_exponent: channel.scale.exponent.into(),
        unit: String::from(channel.unit),
        filter: channel.filter.clone(),
    }
}

/// A device's time as the wire carries it.
#[must_use]
pub fn date_time(time: DateTime) -> wire::DateTime {
    wire::DateTime {
        year: time.year.into(),
        month: time.month.into(),
        day: time.day.into(),
        hour: time.hour.into(),
        minute: time.minute.into(),
        second: time.second.into(),
    }
}

/// A device's time from the wire; `None` where a field is out of its range.
#[must_use]
pub fn date_time_from_wire(time: &wire::DateTime) -> Option<DateTime> {
    let octet = |field: u32| u8::try_from(field).ok();
    Some(DateTime {
        year: u16::try_from(time.year).ok()?,
        month: octet(time.month)?,
        day: octet(time.day)?,
        hour: octet(time.hour)?,
        minute: octet(time.minute)?,
        second: octet(time.second)?,
    })
}

const KINDS: [(Kind, wire::Kind); 12] = [
    (Kind::PulseOximetry, wire::Kind::PulseOximetry),
    (Kind::BloodPressure, wire::Kind::BloodPressure),
    (Kind::Temperature, wire::Kind::Temperature),
    (Kind::HeartRate, wire::Kind::HeartRate),
    (Kind::Weight, wire::Kind::Weight),
    (Kind::Glucose, wire::Kind::Glucose),
    (Kind::Spirometry, wire::Kind::Spirometry),
    (Kind::Ecg, wire::Kind::Ecg),
    (Kind::Pleth, wire::Kind::Pleth),
    (Kind::Respiration, wire::Kind::Respiration),
    (Kind::CuffPressure, wire::Kind::CuffPressure),
    (Kind::Other, wire::Kind::Other),
];

/// A kind as the wire names it.
#[must_use]
pub fn kind_to_wire(kind: Kind) -> wire::Kind {
    KINDS.iter().find(|(ours, _)| *ours == kind).map_or(wire::Kind::Other, |(_, wire)| *wire)
}

/// A kind from the wire; one newer than we are is `Other`.
#[must_use]
pub fn kind_from_wire(kind: i32) -> Kind {
    KINDS.iter().find(|(_, wire)| i32::from(*wire) == kind).map_or(Kind::Other, |(ours, _)| *ours)
}

const SPECIALS: [(Special, wire::Special); 6] = [
    (Special::NotANumber, wire::Special::Nan),
    (Special::NotAtThisResolution, wire::Special::Nres),
    (Special::PositiveInfinity, wire::Special::PositiveInfinity),
    (Special::NegativeInfinity, wire::Special::NegativeInfinity),
    (Special::Reserved, wire::Special::Reserved),
    (Special::NotAvailable, wire::Special::NotAvailable),
];

fn special_to_wire(special: Special) -> wire::Special {
    SPECIALS.iter().find(|(ours, _)| *ours == special).map_or(wire::Special::Reserved, |(_, wire)| *wire)
}

fn special_from_wire(special: i32) -> Option<Special> {
    SPECIALS.iter().find(|(_, wire)| i32::from(*wire) == special).map(|(ours, _)| *ours)
}

/// The octets that a measurement's origin is made of, before the HMAC: device identity, record number, device time, digest.
///
/// `None` where the measurement has neither a record number nor a time: it is never merged with another (I2a).
#[must_use]
pub fn origin_material(device: &str, measured: &Measured, digest: &[u8; 32]) -> Option<Vec<u8>> {
    if measured.record.is_none() && measured.device_time.is_none() {
        return None;
    }
    let mut octets = Vec::with_capacity(device.len() + 64);
    octets.extend_from_slice(device.as_bytes());
    octets.push(0);
    if let Some(record) = measured.record {
        octets.push(1);
        octets.extend_from_slice(&record.to_be_bytes());
    }
    if let Some(time) = measured.device_time {
        octets.push(2);
        octets.extend_from_slice(&time.encode());
    }
    octets.extend_from_slice(digest);
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use proptest::prelude::*;

    fn measured(record: Option<u64>, device_time: Option<DateTime>) -> Measured {
        Measured { device_time, record, memory: Memory::Stored, ..Measured::new(Kind::PulseOximetry, Moment::ZERO) }
    }

    #[test]
    fn i2a_a_measurement_with_neither_number_nor_time_has_no_origin() {
        assert_eq!(origin_material("d", &measured(None, None), &[0; 32]), None);
        let by_record = origin_material("d", &measured(Some(7), None), &[0; 32]);
        assert!(by_record.is_some());
        assert_ne!(by_record, origin_material("d", &measured(Some(8), None), &[0; 32]));
        assert_ne!(by_record, origin_material("e", &measured(Some(7), None), &[0; 32]));
        assert_ne!(by_record, origin_material("d", &measured(Some(7), None), &[1; 32]));
    }

    #[test]
    fn what_we_derived_does_not_pass_for_what_a_device_said() {
        let said = measured(None, None);
        let derived = Measured { derived: true, ..said.clone() };
        assert_eq!(reading(&said, wire::Source::Serial).source(), wire::Source::Serial);
        assert_eq!(reading(&derived, wire::Source::Serial).source(), wire::Source::Derived);
    }

    #[test]
    fn a_number_used_as_something_else_is_not_covered() {
        let mut definitions = Definitions::default();
        definitions.extend(&[wire::Definition { number: 1, what: Some(What::Driver(wire::Driver::default())) }]);
        assert!(definitions.cover(&wire::Record::default()));
        assert!(!definitions.cover(&wire::Record { clock: 1, ..Default::default() }));
        assert!(!definitions.cover(&wire::Record { clock: 2, ..Default::default() }));
    }

    proptest! {
        #[test]
        fn digits_survive_the_wire(mantissa in any::<i64>(), exponent in any::<i8>()) {
            let original = Value { code: Mdc(150_456), quantity: Quantity::Number(Decimal::new(mantissa, exponent)), unit: "%" };
            let encoded = prost::Message::encode_to_vec(&value(&original));
            let decoded = <wire::Value as prost::Message>::decode(encoded.as_slice()).unwrap();
            prop_assert_eq!(quantity(&decoded), Some(original.quantity));
        }
    }
}
