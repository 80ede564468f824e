//! What every format becomes: values with their codes, digits and units, and the reading that carries them.

use alloc::string::String;
use alloc::vec::Vec;

use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::moment::Moment;
use crate::nomenclature::Mdc;

/// What sort of measurement a reading or recording is. Shape: one word of the JSON `kind`. Source: the driver table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SpO2 and pulse of an oximeter.
    PulseOximetry,
    /// Systolic, diastolic, mean, pulse of a cuff.
    BloodPressure,
    /// Body temperature.
    Temperature,
    /// Heart rate and RR intervals.
    HeartRate,
    /// Weight and body composition.
    Weight,
    /// Blood glucose.
    Glucose,
    /// Spirometry parameters or a flow curve.
    Spirometry,
    /// An electrocardiogram.
    Ecg,
    /// A plethysmogram.
    Pleth,
    /// Respiration.
    Respiration,
    /// Intermediate cuff pressure.
    CuffPressure,
    /// Anything else a device states with its own code.
    Other,
}

impl Kind {
    /// Every kind with its kebab-case name.
    pub const NAMES: [(Self, &'static str); 12] = [
        (Self::PulseOximetry, "pulse-oximetry"),
        (Self::BloodPressure, "blood-pressure"),
        (Self::Temperature, "temperature"),
        (Self::HeartRate, "heart-rate"),
        (Self::Weight, "weight"),
        (Self::Glucose, "glucose"),
        (Self::Spirometry, "spirometry"),
        (Self::Ecg, "ecg"),
        (Self::Pleth, "pleth"),
        (Self::Respiration, "respiration"),
        (Self::CuffPressure, "cuff-pressure"),
        (Self::Other, "other"),
    ];

    /// Its kebab-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }
}

/// A value that is not a number.
///
/// Source: IEEE 11073-20601 FLOAT-Type and SFLOAT-Type special values; `NotAvailable` is ours for an absent component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// NaN: not a number.
    NotANumber,
    /// NRes: not at this resolution.
    NotAtThisResolution,
    /// +INFINITY; a meter's "HI".
    PositiveInfinity,
    /// −INFINITY; a meter's "LO".
    NegativeInfinity,
    /// Reserved for future use.
    Reserved,
    /// The component is absent: probe off, MAP 0.
    NotAvailable,
}

/// One quantity, as the device stated it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// A number with every digit it arrived with.
    Number(Decimal),
    /// Not a number.
    Special(Special),
    /// A code as the value.
    Code(Mdc),
    /// A bit string.
    Bits(u32),
}

/// One value of a reading. Shape: code · quantity · unit. Units: UCUM as sent, never converted here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    /// What was measured.
    pub code: Mdc,
    /// How much.
    pub quantity: Quantity,
    /// In which unit: UCUM; empty for codes and bit strings.
    pub unit: &'static str,
}

/// Whether a device sent it unasked or out of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Sent unasked, as it was measured.
    #[default]
    Live,
    /// Out of the device's memory.
    Stored,
}

/// A status term of the standard, in kebab-case.
pub type Status = &'static str;

/// With one of these, a measurement's device time cannot be placed among others. Source: Pulse Oximeter Service 1.0,
/// PLX Spot-check Measurement flags bit 4; Elapsed Time Service 1.0, flags bit 5 cleared.
pub const TIME_TELLS_NOTHING: [Status; 2] = ["device-clock-not-set", "time-not-on-current-timeline"];

/// Something about the circumstances of a measurement that the device states. Shape: what and its value, in kebab-case, as the
/// standard names them: `("site", "finger")`, `("meal", "fasting")`, `("bronchodilator", "after")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Context {
    /// What it is about: `site`, `arm`, `posture`, `meal`, `bronchodilator`, `activity`.
    pub what: &'static str,
    /// What the device says of it.
    pub value: &'static str,
}

/// One decoded measurement, as a driver hands it over: no device, no assignment, no key, no gateway time yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// What sort it is.
    pub kind: Kind,
    /// Its values; those of a compound reading (blood pressure) stay together.
    pub values: Vec<Value>,
    /// The device's own time, as it sent it.
    pub device_time: Option<DateTime>,
    /// The device's own record number.
    pub record: Option<u64>,
    /// Whether every record with a lower number was handed over before it: once it is durable, none up to it need be asked for
    /// again.
    pub in_order: bool,
    /// The device's user slot.
    pub user_slot: Option<u8>,
    /// Status in the standard's terms.
    pub status: Vec<Status>,
    /// Its circumstances, where the device states them.
    pub context: Vec<Context>,
    /// Sent unasked, or out of the device's memory.
    pub memory: Memory,
    /// When it was received: the arrival of its last octet.
    pub received: Moment,
    /// The octets that make it the same measurement when the device sends it again (fields that change are left out).
    pub octets: Vec<u8>,
    /// The recording of this session that it belongs to, by the driver's own number.
    pub recording: Option<u32>,
    /// We computed it (from a recording, from raw samples); the device did not state it.
    pub derived: bool,
}

impl Measured {
    /// Whether it says nothing of a patient, only of a recording, how well it can be read: by statuses, without a value.
    #[must_use]
    pub const fn is_judgement(&self) -> bool {
        self.derived && self.recording.is_some() && self.values.is_empty() && !self.status.is_empty()
    }

    /// A live measurement of that kind, received at that moment, of which nothing else is known yet.
    #[must_use]
    pub const fn new(kind: Kind, received: Moment) -> Self {
        Self {
            kind,
            values: Vec::new(),
            device_time: None,
            record: None,
            in_order: true,
            user_slot: None,
            status: Vec::new(),
            context: Vec::new(),
            memory: Memory::Live,
            received,
            octets: Vec::new(),
            recording: None,
            derived: false,
        }
    }

    /// The device's own time, unless its status says that it tells nothing: that time was never set, or set anew since.
    #[must_use]
    pub fn usable_time(&self) -> Option<DateTime> {
        self.device_time.filter(|_| !self.status.iter().any(|term| TIME_TELLS_NOTHING.contains(term)))
    }
}

/// One channel of a recording. Shape: code · scale. Units: one digit is `scale` × `unit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The lead or signal.
    pub code: Mdc,
    /// What one digit is worth.
    pub scale: Decimal,
    /// In which unit: UCUM.
    pub unit: &'static str,
    /// The filter the device states; empty where it states none.
    pub filter: String,
}

/// Samples per second, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Samples.
    pub samples: u32,
    /// In so many seconds.
    pub seconds: u32,
}

/// How a recording begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingHead {
    /// What sort of waveform.
    pub kind: Kind,
    /// Its channels, always named; no code assumes a layout.
    pub channels: Vec<Channel>,
    /// Samples per second and channel.
    pub rate: Rate,
    /// Whether it goes on until the device or a person stops it, rather than for a set time.
    pub continuous: bool,
    /// The device's own time of its first sample, as it sent it.
    pub device_time: Option<DateTime>,
    /// Live, or out of the device's memory or a file.
    pub memory: Memory,
    /// The device's own record number.
    pub record: Option<u64>,
    /// Of a stored one, the octets that make it the same recording when the device sends it again; empty where none do.
    pub octets: Vec<u8>,
}

impl RecordingHead {
    /// A live stream that goes on, of which nothing else is known.
    #[must_use]
    pub const fn live(kind: Kind, channels: Vec<Channel>, rate: Rate) -> Self {
        Self { kind, channels, rate, continuous: true, device_time: None, memory: Memory::Live, record: None, octets: Vec::new() }
    }
}

/// A run of samples without a hole.
///
/// Shape: `samples` interleaved, one integer a channel in the order of the head, as the device sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Index of the first sample in the recording; a jump against the block before means samples were lost.
    pub first: u64,
    /// The device's own counter at the first sample, where it sends one.
    pub device_counter: Option<u64>,
    /// When the first sample was received.
    pub received: Moment,
    /// Interleaved samples.
    pub samples: Vec<i32>,
    /// Bit n: channel n has an electrode off throughout this block.
    pub lead_off: u32,
    /// Bit n: channel n is saturated throughout this block.
    pub saturated: u32,
    /// The probe is off, or the signal is marked as artifact, throughout this block.
    pub artifact: bool,
}
