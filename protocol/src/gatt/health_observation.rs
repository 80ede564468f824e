//! A health observation as the Generic Health Sensor Service carries it, live (0x2B8B) and stored (0x2BDD), reassembled.
//!
//! Layout: Bluetooth SIG, Generic Health Sensor Service 1.0, §3.2, after IEEE 11073-10206; confirmed by two implementations:
//! philips-labs BLE-GHS-Server-Simulator@271f2aa and ST's STM32CubeWBA health sensor (qualified with PTS 5.3). They differ in
//! what the length field counts: ST's leaves out class and length, the simulator counts them. Both are read, and kept apart.

use alloc::string::String;
use alloc::vec::Vec;

use super::elapsed_time::ElapsedTime;
use super::health_sensor_features::codes;
use crate::flags::{flag, terms_of_bits};
use crate::mder::{Number, encode_float};
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// Octets of class and length.
const HEADER_OCTETS: usize = 3;

/// A health observation. Shape, units, errors and source: see [`HealthObservation::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthObservation {
    /// What the length field counted.
    pub length: LengthCounts,
    /// What was observed; a bundle has none.
    pub observation_type: Option<Mdc>,
    /// When, by the device's count.
    pub time: Option<ElapsedTime>,
    /// For how long, s.
    pub duration: Option<Number>,
    /// How far it is to be trusted.
    pub status: Option<ObservationStatus>,
    /// The device's own number of it, for others to point at.
    pub id: Option<u32>,
    /// The device's number of the patient.
    pub patient: Option<u8>,
    /// Circumstances, by code.
    pub supplemental: Option<Vec<u32>>,
    /// Numbers of the observations that it was derived from.
    pub derived_from: Option<Vec<u32>>,
    /// Numbers of the observations that are part of it.
    pub has_member: Option<Vec<u32>>,
    /// What else is said of it.
    pub attributes: Option<Vec<Tlv>>,
    /// What it is.
    pub value: ObservationValue,
}

/// What the length field counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LengthCounts {
    /// What follows it.
    #[default]
    AfterHeader,
    /// Class and length too.
    Everything,
}

impl LengthCounts {
    /// In kebab-case.
    #[must_use]
    pub const fn term(self) -> &'static str {
        match self {
            Self::AfterHeader => "after-header",
            Self::Everything => "everything",
        }
    }

    const fn of_header(self) -> usize {
        match self {
            Self::AfterHeader => 0,
            Self::Everything => HEADER_OCTETS,
        }
    }
}

/// What an observation is, by its class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObservationValue {
    /// Class 1.
    Numeric(Numeric),
    /// Class 2: a code.
    Discrete(u32),
    /// Class 3: length (2) · UTF-8.
    Text(String),
    /// Class 4.
    SampleArray(SampleArray),
    /// Class 5: a number (1) of codes (4 each).
    DiscreteEvents(Vec<u32>),
    /// Class 6.
    StateEvents(StateEvents),
    /// Class 7: a number (1) of components.
    Compound(Vec<Component>),
    /// Class 8: a number (1) of attributes.
    Tlvs(Vec<Tlv>),
    /// Class 255: a number (1) of observations, none of them a bundle.
    Bundle(Vec<HealthObservation>),
}

/// A number. Shape: unit, a term of partition 4 (2) · FLOAT (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Numeric {
    /// Unit.
    pub unit: UnitCode,
    /// How much.
    pub number: Number,
}

/// A unit: a term of partition 4 of IEEE 11073-10101.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitCode(pub u16);

impl UnitCode {
    /// With its partition.
    #[must_use]
    pub const fn code(self) -> Mdc {
        Mdc(4 << 16 | self.0 as u32)
    }
}

/// A part of a compound observation. Shape: code (4) · class of the value (1), 1–6 · value as of an observation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Component {
    /// What it is.
    pub code: Mdc,
    /// Its value.
    pub value: ObservationValue,
}

/// A typed value. Shape: type (4) · length (2) · format (1) · value, so many octets as the length says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlv {
    /// What it is.
    pub code: Mdc,
    /// In which format, as the GATT presentation formats are numbered.
    pub format: u8,
    /// As it came.
    pub octets: Vec<u8>,
}

/// States or events, a bit each. Shape: octets of each mask (1) · supported · state or event · values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateEvents {
    /// Which bits the device supports.
    pub supported: Vec<u8>,
    /// Which bits are states; the others are events.
    pub is_state: Vec<u8>,
    /// The bits.
    pub bits: Vec<u8>,
}

/// Samples at equal intervals.
///
/// Shape: unit (2) · scale, FLOAT (4) · offset, FLOAT (4) · sample period, FLOAT (4) · samples in a period (1) · octets of a
/// sample (1), 1–4 · their number (4) · samples, two's complement, little-endian.
/// Units: a sample × scale + offset is in the unit; the period in s.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SampleArray {
    /// Of scale and offset.
    pub unit: UnitCode,
    /// What one digit is worth.
    pub scale: Number,
    /// What the digit 0 is.
    pub offset: Number,
    /// The sample period, s.
    pub period: Number,
    /// Samples in a period.
    pub samples_per_period: u8,
    /// 1–4.
    pub octets_per_sample: u8,
    /// What the number before the samples counted.
    pub counts: SampleCounts,
    /// As they came, a whole number of samples.
    pub octets: Vec<u8>,
}

/// What the number before the samples of a sample array counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SampleCounts {
    /// Samples.
    #[default]
    Samples,
    /// Octets, as philips-labs' simulator does it.
    Octets,
}

impl SampleArray {
    /// How many samples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len() / usize::from(self.octets_per_sample.max(1))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The samples as the device sent them.
    pub fn samples(&self) -> impl Iterator<Item = i32> + '_ {
        let width = usize::from(self.octets_per_sample.max(1));
        self.octets.chunks_exact(width).map(|octets| {
            let sign = octets.last().is_some_and(|last| last & 0x80 != 0);
            let mut wide = if sign { [0xff; 4] } else { [0; 4] };
            wide.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
            i32::from_le_bytes(wide)
        })
    }

    fn read(r: &mut Reader<'_>, rest_is_samples: bool) -> Result<Self, DecodeError> {
        let mut array = Self {
            unit: UnitCode(r.u16("unit")?),
            scale: r.float("scale factor")?,
            offset: r.float("offset")?,
            period: r.float("sample period")?,
            samples_per_period: r.u8("samples per period")?,
            octets_per_sample: r.u8("octets per sample")?,
            counts: SampleCounts::Samples,
            octets: Vec::new(),
        };
        let width = usize::from(array.octets_per_sample);
        if !(1..=4).contains(&width) {
            return Err(DecodeError::Value { field: "octets per sample" });
        }
        let count = usize::try_from(r.u32("number of samples")?).map_err(|_| DecodeError::Truncated { field: "samples" })?;
        let rest = r.rest().len();
        let samples = count.checked_mul(width).ok_or(DecodeError::Truncated { field: "samples" })?;
        if rest_is_samples && rest == count && rest != samples && count.is_multiple_of(width) {
            array.counts = SampleCounts::Octets;
        }
        let octets = if array.counts == SampleCounts::Octets { count } else { samples };
        array.octets = r.take(octets, "samples")?.to_vec();
        Ok(array)
    }

    fn write(&self, octets: &mut Vec<u8>) -> Option<()> {
        octets.extend(self.unit.0.to_le_bytes());
        for number in [self.scale, self.offset, self.period] {
            octets.extend(encode_float(number)?.to_le_bytes());
        }
        octets.extend([self.samples_per_period, self.octets_per_sample]);
        let count = if self.counts == SampleCounts::Octets { self.octets.len() } else { self.len() };
        octets.extend(u32::try_from(count).ok()?.to_le_bytes());
        octets.extend(&self.octets);
        Some(())
    }
}

/// Measurement status of an observation.
///
/// Shape: 16 bits, little-endian; reserved bits are kept. Units: none. Errors: none.
/// Source: Bluetooth SIG, Generic Health Sensor Service 1.0, §3.2.2; bits as in ST's STM32CubeWBA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservationStatus(pub u16);

impl ObservationStatus {
    /// Bit 0: invalid.
    pub const INVALID: Self = Self(1 << 0);
    /// Bit 4: a test, of nobody.
    pub const TEST_DATA: Self = Self(1 << 4);

    /// The term of each bit, lowest first.
    pub const TERMS: [Status; 16] = [
        "invalid",
        "questionable",
        "not-available",
        "calibrating",
        "test-data",
        "early-estimate",
        "manually-entered",
        "setting",
        "reserved-8",
        "reserved-9",
        "reserved-10",
        "reserved-11",
        "reserved-12",
        "reserved-13",
        "threshold-error",
        "thresholding-disabled",
    ];

    /// The terms of the bits that are set, lowest first.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        terms_of_bits(self.0.into(), &Self::TERMS)
    }
}

impl HealthObservation {
    /// Decodes a reassembled health observation.
    ///
    /// Shape: class (1) · length (2) · flags (2) · type (4, if bit 0) · time (9, bit 1) · duration, FLOAT (4, bit 2) · status
    /// (2, bit 3) · id (4, bit 4) · patient (1, bit 5) · supplemental information (bit 6), derived from (bit 7) and has
    /// member (bit 8), each a number (1) of codes or ids (4 each) · attributes, a number (1) of them (bit 9) · value by
    /// class; little-endian.
    /// Units: s for the duration; values as sent.
    /// Errors: [`DecodeError::Truncated`] and [`DecodeError::Trailing`], where the length fits neither reading of it or
    /// contents do not fit the length; [`DecodeError::Value`] for a class or a reserved flag (bits 10–15) newer than this,
    /// since nobody knows how long its field is, a bundle in a bundle, text that is no UTF-8, samples of more than 4 octets.
    /// Source: see the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        r.u8("class")?;
        let length = usize::from(r.u16("length")?);
        let counts = match r.rest().len() {
            rest if rest == length => LengthCounts::AfterHeader,
            rest if rest + HEADER_OCTETS == length => LengthCounts::Everything,
            rest if rest < length => return Err(DecodeError::Truncated { field: "observation" }),
            rest => return Err(DecodeError::Trailing { octets: rest - length }),
        };
        let mut r = Reader::new(octets);
        let observation = Self::read(&mut r, counts, true)?;
        r.finish()?;
        Ok(observation)
    }

    fn read(r: &mut Reader<'_>, counts: LengthCounts, may_be_bundle: bool) -> Result<Self, DecodeError> {
        let class = r.u8("class")?;
        let length = usize::from(r.u16("length")?);
        let length = length.checked_sub(counts.of_header()).ok_or(DecodeError::Value { field: "length" })?;
        let mut r = Reader::new(r.take(length, "observation")?);
        let flags = r.u16("flags")?;
        if flags & RESERVED != 0 || (class == BUNDLE && !may_be_bundle) {
            return Err(DecodeError::Value { field: if class == BUNDLE { "class" } else { "flags" } });
        }
        let has = |bit: u16| flags & bit != 0;
        let observation = Self {
            length: counts,
            observation_type: if has(TYPE) { Some(Mdc(r.u32("observation type")?)) } else { None },
            time: if has(TIME) { Some(ElapsedTime::read(&mut r)?) } else { None },
            duration: if has(DURATION) { Some(r.float("measurement duration")?) } else { None },
            status: if has(STATUS) { Some(ObservationStatus(r.u16("measurement status")?)) } else { None },
            id: if has(ID) { Some(r.u32("observation id")?) } else { None },
            patient: if has(PATIENT) { Some(r.u8("patient")?) } else { None },
            supplemental: if has(SUPPLEMENTAL) { Some(codes(&mut r, "supplemental information")?) } else { None },
            derived_from: if has(DERIVED_FROM) { Some(codes(&mut r, "derived from")?) } else { None },
            has_member: if has(HAS_MEMBER) { Some(codes(&mut r, "has member")?) } else { None },
            attributes: if has(TLVS) { Some(read_tlvs(&mut r)?) } else { None },
            value: match class {
                BUNDLE => ObservationValue::Bundle(read_members(&mut r, counts)?),
                7 => ObservationValue::Compound(read_components(&mut r)?),
                8 => ObservationValue::Tlvs(read_tlvs(&mut r)?),
                class => ObservationValue::read(&mut r, class, true)?,
            },
        };
        r.finish()?;
        Ok(observation)
    }

    /// The octets of it; `None` where a number's digits do not fit a FLOAT, a list has more than 255 members or anything is
    /// longer than its length can say.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut octets = Vec::from([self.value.class(), 0, 0]);
        let flags = flag(self.observation_type.is_some(), TYPE)
            | flag(self.time.is_some(), TIME)
            | flag(self.duration.is_some(), DURATION)
            | flag(self.status.is_some(), STATUS)
            | flag(self.id.is_some(), ID)
            | flag(self.patient.is_some(), PATIENT)
            | flag(self.supplemental.is_some(), SUPPLEMENTAL)
            | flag(self.derived_from.is_some(), DERIVED_FROM)
            | flag(self.has_member.is_some(), HAS_MEMBER)
            | flag(self.attributes.is_some(), TLVS);
        octets.extend(flags.to_le_bytes());
        octets.extend(self.observation_type.iter().flat_map(|code| code.0.to_le_bytes()));
        if let Some(time) = &self.time {
            octets.extend(time.encode()?);
        }
        if let Some(duration) = self.duration {
            octets.extend(encode_float(duration)?.to_le_bytes());
        }
        octets.extend(self.status.iter().flat_map(|status| status.0.to_le_bytes()));
        octets.extend(self.id.iter().flat_map(|id| id.to_le_bytes()));
        octets.extend(self.patient);
        for list in [&self.supplemental, &self.derived_from, &self.has_member].into_iter().flatten() {
            write_codes(&mut octets, list)?;
        }
        if let Some(attributes) = &self.attributes {
            write_tlvs(&mut octets, attributes)?;
        }
        self.value.write(&mut octets)?;
        let length = octets.len() - HEADER_OCTETS + self.length.of_header();
        let length = u16::try_from(length).ok()?.to_le_bytes();
        octets.iter_mut().skip(1).zip(length).for_each(|(to, from)| *to = from);
        Some(octets)
    }
}

impl ObservationValue {
    /// The number of its class.
    #[must_use]
    pub const fn class(&self) -> u8 {
        match self {
            Self::Numeric(_) => 1,
            Self::Discrete(_) => 2,
            Self::Text(_) => 3,
            Self::SampleArray(_) => 4,
            Self::DiscreteEvents(_) => 5,
            Self::StateEvents(_) => 6,
            Self::Compound(_) => 7,
            Self::Tlvs(_) => 8,
            Self::Bundle(_) => BUNDLE,
        }
    }

    /// The standard's term for its class in kebab-case.
    #[must_use]
    pub const fn term(&self) -> &'static str {
        match self {
            Self::Numeric(_) => "numeric",
            Self::Discrete(_) => "simple-discrete",
            Self::Text(_) => "string",
            Self::SampleArray(_) => "sample-array",
            Self::DiscreteEvents(_) => "compound-discrete-event",
            Self::StateEvents(_) => "compound-state-event",
            Self::Compound(_) => "compound",
            Self::Tlvs(_) => "tlv-encoded",
            Self::Bundle(_) => "observation-bundle",
        }
    }

    /// A value of classes 1–6, which are also those of components.
    fn read(r: &mut Reader<'_>, class: u8, rest_is_value: bool) -> Result<Self, DecodeError> {
        Ok(match class {
            1 => Self::Numeric(Numeric { unit: UnitCode(r.u16("unit")?), number: r.float("value")? }),
            2 => Self::Discrete(r.u32("value")?),
            3 => {
                let length = usize::from(r.u16("string length")?);
                let text = core::str::from_utf8(r.take(length, "string")?);
                Self::Text(text.map_err(|_| DecodeError::Value { field: "string" })?.into())
            }
            4 => Self::SampleArray(SampleArray::read(r, rest_is_value)?),
            5 => Self::DiscreteEvents(codes(r, "discrete events")?),
            6 => {
                let size = usize::from(r.u8("mask size")?);
                Self::StateEvents(StateEvents {
                    supported: r.take(size, "supported mask")?.to_vec(),
                    is_state: r.take(size, "state or event mask")?.to_vec(),
                    bits: r.take(size, "states and events")?.to_vec(),
                })
            }
            _ => return Err(DecodeError::Value { field: "class" }),
        })
    }

    fn write(&self, octets: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Numeric(Numeric { unit, number }) => {
                octets.extend(unit.0.to_le_bytes());
                octets.extend(encode_float(*number)?.to_le_bytes());
            }
            Self::Discrete(code) => octets.extend(code.to_le_bytes()),
            Self::Text(text) => {
                octets.extend(u16::try_from(text.len()).ok()?.to_le_bytes());
                octets.extend(text.bytes());
            }
            Self::SampleArray(array) => array.write(octets)?,
            Self::DiscreteEvents(list) => write_codes(octets, list)?,
            Self::StateEvents(events) => {
                octets.push(u8::try_from(events.bits.len()).ok()?);
                for mask in [&events.supported, &events.is_state, &events.bits] {
                    octets.extend((mask.len() == events.bits.len()).then_some(mask)?);
                }
            }
            Self::Compound(components) => {
                octets.push(u8::try_from(components.len()).ok()?);
                for component in components {
                    octets.extend(component.code.0.to_le_bytes());
                    octets.push(component.value.class());
                    component.value.write(octets)?;
                }
            }
            Self::Tlvs(list) => write_tlvs(octets, list)?,
            Self::Bundle(members) => {
                octets.push(u8::try_from(members.len()).ok()?);
                for member in members {
                    octets.extend(member.encode()?);
                }
            }
        }
        Some(())
    }
}

fn read_components(r: &mut Reader<'_>) -> Result<Vec<Component>, DecodeError> {
    let count = r.u8("number of components")?;
    let component = |_| {
        let code = Mdc(r.u32("component type")?);
        let class = r.u8("component class")?;
        Ok(Component { code, value: ObservationValue::read(r, class, false)? })
    };
    (0..count).map(component).collect()
}

fn read_members(r: &mut Reader<'_>, counts: LengthCounts) -> Result<Vec<HealthObservation>, DecodeError> {
    let count = r.u8("number of observations")?;
    (0..count).map(|_| HealthObservation::read(r, counts, false)).collect()
}

fn read_tlvs(r: &mut Reader<'_>) -> Result<Vec<Tlv>, DecodeError> {
    let count = r.u8("number of attributes")?;
    let tlv = |_| {
        let (code, length) = (Mdc(r.u32("attribute type")?), r.u16("attribute length")?);
        let format = r.u8("attribute format")?;
        Ok(Tlv { code, format, octets: r.take(length.into(), "attribute value")?.to_vec() })
    };
    (0..count).map(tlv).collect()
}

fn write_codes(octets: &mut Vec<u8>, codes: &[u32]) -> Option<()> {
    octets.push(u8::try_from(codes.len()).ok()?);
    octets.extend(codes.iter().flat_map(|code| code.to_le_bytes()));
    Some(())
}

fn write_tlvs(octets: &mut Vec<u8>, tlvs: &[Tlv]) -> Option<()> {
    octets.push(u8::try_from(tlvs.len()).ok()?);
    for tlv in tlvs {
        octets.extend(tlv.code.0.to_le_bytes());
        octets.extend(u16::try_from(tlv.octets.len()).ok()?.to_le_bytes());
        octets.push(tlv.format);
        octets.extend(&tlv.octets);
    }
    Some(())
}

/// A stored observation (0x2BDD), reassembled. Shape: record number (4) · observation. Errors: as [`HealthObservation::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredHealthObservation {
    /// The device's number of the record.
    pub record: u32,
    /// The observation.
    pub observation: HealthObservation,
}

impl StoredHealthObservation {
    /// Decodes it.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        Ok(Self { record: r.u32("record number")?, observation: HealthObservation::decode(r.rest())? })
    }

    /// The octets of it; `None` where the observation has none.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut octets = self.record.to_le_bytes().to_vec();
        octets.extend(self.observation.encode()?);
        Some(octets)
    }
}

const BUNDLE: u8 = 0xff;
const TYPE: u16 = 1 << 0;
const TIME: u16 = 1 << 1;
const DURATION: u16 = 1 << 2;
const STATUS: u16 = 1 << 3;
const ID: u16 = 1 << 4;
const PATIENT: u16 = 1 << 5;
const SUPPLEMENTAL: u16 = 1 << 6;
const DERIVED_FROM: u16 = 1 << 7;
const HAS_MEMBER: u16 = 1 << 8;
const TLVS: u16 = 1 << 9;
const RESERVED: u16 = 0xfc00;
