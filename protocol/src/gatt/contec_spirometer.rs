//! Messages of Contec's spirometers (SP family) over their own service: vendor service 0xFF12, written to 0xFF01, notified by
//! 0xFF02. Octets carry 7 bits; the first octet of a message, bit 7 set, says what it is.
//!
//! **Experimental**: one source, and no capture. Source: tikhonp/contec-spirometer-ios-app@fa13a7f, for the facts; its maker's
//! manual names the parameters. The sum at the end of a record (all octets before it, 7 bits of it) is checked here as it is
//! made there for what is written; that source itself does not look at it.

use alloc::vec::Vec;

use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::reader::{DecodeError, Reader};

/// The sum of octets that stands behind them: bit 7 of it is not there, and bit 7 of the octets does not count in it.
#[must_use]
pub fn sum(octets: &[u8]) -> u8 {
    octets.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet)) & 0x7f
}

fn with_sum(octets: &[u8]) -> Vec<u8> {
    let mut all = octets.to_vec();
    all.push(sum(octets));
    all
}

/// What is written to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// 80: the conversation begins.
    Begin,
    /// 83: the clock is set to this.
    SetTime(DateTime),
    /// 82: goes on after F3.
    Second,
    /// 94: goes on after F2.
    Third,
    /// 90: the predicted values came; how many records are there?
    Count,
    /// 91 00: the first record.
    First,
    /// 92: the record came; its curve.
    Curve,
    /// 91 01: the next record.
    Next,
    /// 91 7E: that was all; the records are kept.
    Keep,
    /// 91 7F: that was all; the records are deleted.
    Delete,
}

impl Request {
    /// The octets of it.
    ///
    /// Shape: a first octet with bit 7, content, sum (1); `Begin` and `Count` have their own second octet. Units: none.
    /// Source: see the module.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Begin => Vec::from([0x80, 0x00]),
            Self::SetTime(time) => {
                let [year, _] = time.year.saturating_sub(2000).to_le_bytes();
                with_sum(&[0x83, year & 0x7f, time.month & 0x0f, time.day, time.hour, time.minute, time.second, 0, 0])
            }
            Self::Second => with_sum(&[0x82]),
            Self::Third => with_sum(&[0x94]),
            Self::Count => Vec::from([0x90, 0x10]),
            Self::First => with_sum(&[0x91, 0x00, 0x01]),
            Self::Curve => with_sum(&[0x92, 0x00]),
            Self::Next => with_sum(&[0x91, 0x01, 0x01]),
            Self::Keep => with_sum(&[0x91, 0x7e, 0x01]),
            Self::Delete => with_sum(&[0x91, 0x7f, 0x01]),
        }
    }
}

/// A stored manoeuvre. Shape, units, errors and source: see [`Record::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// 1 is a forced manoeuvre; 2 vital capacity, 3 and 4 ventilation, whose fields mean something else.
    pub kind: u8,
    /// The device's number of it, 14 bits.
    pub number: u16,
    /// When it was, by the device's clock.
    pub time: DateTime,
    /// Male 0, female 1, as set on the device.
    pub sex: u8,
    /// Years, as set on the device.
    pub age: u8,
    /// cm, as set on the device.
    pub height: u16,
    /// Reference equation: 1 ECCS, 2 Knudson, 3 USA.
    pub standard: u8,
    /// After a bronchodilator.
    pub drug: bool,
    /// The 13 fields behind it, as sent: FVC, FEV0.5, FEV1, FEV1/FVC, FEV3, FEV6, PEF, FEF25, FEF50, FEF75, FEF25-75, time to
    /// peak flow, extrapolated volume.
    pub fields: [u16; 13],
}

impl Record {
    /// Octets of it.
    pub const OCTETS: usize = 44;
    /// [`Record::kind`] of a forced manoeuvre.
    pub const FORCED: u8 = 1;

    /// Decodes a record.
    ///
    /// Shape: E1 · (1) · kind (1) · number (2 × 7 bits, low first) · year − 2000, month, day, hours, minutes, seconds (1 each) ·
    /// sex (1) · age (1) · height (2 × 7) · standard (1) · drug (1) · 13 fields (2 × 7 each) · sum (1); 44 octets.
    /// Units: volumes 0.01 L, flows 0.01 L/s, FEV1/FVC 0.1 %, height cm; see [`Record::volume`] and [`Record::ratio`].
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Checksum`]; [`DecodeError::Value`] for
    /// another start or a date that is none. A bit 7 turned is not seen by the sum and changes nothing but the start.
    /// Source: see the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let covered = r.take(Self::OCTETS - 1, "record")?;
        let checksum = r.u8("sum")?;
        r.finish()?;
        let mut r = Seven(Reader::new(covered));
        if r.0.u8("start")? != RECORD {
            return Err(DecodeError::Value { field: "start" });
        }
        if checksum & 0x7f != sum(covered) {
            return Err(DecodeError::Checksum);
        }
        r.one("reserved")?;
        let (kind, number) = (r.one("kind")?, r.two("number")?);
        let time = DateTime {
            year: 2000 + u16::from(r.one("year")?),
            month: r.one("month")?,
            day: r.one("day")?,
            hour: r.one("hours")?,
            minute: r.one("minutes")?,
            second: r.one("seconds")?,
        };
        let known = (1..=12).contains(&time.month) && (1..=31).contains(&time.day);
        if !known || time.hour > 23 || time.minute > 59 || time.second > 59 {
            return Err(DecodeError::Value { field: "time" });
        }
        let (sex, age, height) = (r.one("sex")?, r.one("age")?, r.two("height")?);
        let (standard, drug) = (r.one("standard")?, r.one("drug")? != 0);
        let mut fields = [0; 13];
        for field in &mut fields {
            *field = r.two("field")?;
        }
        Ok(Self { kind, number, time, sex, age, height, standard, drug, fields })
    }

    /// The octets of it; numbers are cut to their bits.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let two = |value: u16| [(value & 0x7f).to_le_bytes()[0], (value >> 7 & 0x7f).to_le_bytes()[0]];
        let time = self.time;
        let [year, _] = time.year.saturating_sub(2000).to_le_bytes();
        let mut octets = Vec::from([RECORD, 0, self.kind & 0x7f]);
        octets.extend(two(self.number));
        octets.extend([year & 0x7f, time.month, time.day, time.hour, time.minute, time.second]);
        octets.extend([self.sex & 0x7f, self.age & 0x7f]);
        octets.extend(two(self.height));
        octets.extend([self.standard & 0x7f, u8::from(self.drug)]);
        self.fields.iter().for_each(|field| octets.extend(two(*field)));
        with_sum(&octets)
    }

    /// A volume in L or a flow in L/s.
    #[must_use]
    pub const fn volume(field: u16) -> Decimal {
        Decimal::new(field as i64, -2)
    }

    /// A ratio in %.
    #[must_use]
    pub const fn ratio(field: u16) -> Decimal {
        Decimal::new(field as i64, -1)
    }
}

const RECORD: u8 = 0xe1;

/// Octets of which bit 7 does not count.
struct Seven<'a>(Reader<'a>);

impl Seven<'_> {
    fn one(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.0.u8(field).map(|octet| octet & 0x7f)
    }

    fn two(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from(self.one(field)?) | u16::from(self.one(field)?) << 7)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::{an_octet_more_is_trailing, every_cut_is_refused, turned};
    use crate::vectors::{hex, vectors};

    fn requests() -> Vec<Request> {
        let time = DateTime { year: 2026, month: 11, day: 22, hour: 2, minute: 5, second: 59 };
        let (begins, rest) = (
            [Request::Begin, Request::SetTime(time), Request::Second, Request::Third, Request::Count],
            [Request::First, Request::Curve, Request::Next, Request::Keep, Request::Delete],
        );
        begins.into_iter().chain(rest).collect()
    }

    fn text(record: &Record) -> String {
        let Record { kind, number, time, sex, age, height, standard, drug, fields } = record;
        format!(
            "record kind={kind} number={number} time={time} sex={sex} age={age} height={height} standard={standard} \
             drug={drug} fields={fields:?}"
        )
    }

    fn request_text(request: &Request) -> String {
        match request {
            Request::SetTime(time) => format!("request SetTime {time}"),
            other => format!("request {other:?}"),
        }
    }

    #[test]
    fn vectors_are_read_and_written() {
        for v in vectors(include_str!("../../vectors/spirometer_contec.txt")) {
            match (v.expected.split(' ').next(), Record::decode(&v.octets)) {
                (Some("record"), Ok(record)) => {
                    assert_eq!(text(&record), v.expected, "{}", v.id);
                    assert_eq!(hex(&record.encode()), hex(&v.octets), "{}", v.id);
                }
                (Some("request"), Err(_)) => {
                    let request = requests().into_iter().find(|request| request.encode() == v.octets);
                    assert_eq!(request.as_ref().map(request_text).as_deref(), Some(v.expected), "{}", v.id);
                }
                (Some("refused"), Err(_)) => {}
                (_, decoded) => panic!("{}: {decoded:?}", v.id),
            }
        }
    }

    fn record() -> Record {
        let time = DateTime { year: 2026, month: 3, day: 14, hour: 9, minute: 26, second: 53 };
        let fields = [432, 310, 373, 864, 425, 431, 800, 640, 433, 217, 394, 80, 8];
        Record { kind: 1, number: 300, time, sex: 1, age: 61, height: 171, standard: 1, drug: false, fields }
    }

    #[test]
    fn a_record_is_made_of_seven_bits() {
        let octets = record().encode();
        assert_eq!(octets.len(), Record::OCTETS);
        assert_eq!(octets[..11], [0xe1, 0, 1, 44, 2, 26, 3, 14, 9, 26, 53]);
        assert_eq!(octets[17..19], [48, 3]);
        assert!(octets[1..].iter().all(|octet| *octet < 0x80));
        assert_eq!(Record::decode(&octets), Ok(record()));
        assert_eq!((Record::volume(432), Record::ratio(864)), (Decimal::new(432, -2), Decimal::new(864, -1)));
    }

    #[test]
    fn requests_end_in_their_sum() {
        let time = DateTime { year: 2026, month: 11, day: 22, hour: 2, minute: 5, second: 59 };
        for (request, octets) in [
            (Request::Begin, &[0x80, 0x00][..]),
            (Request::SetTime(time), &[0x83, 26, 11, 22, 2, 5, 59, 0, 0, 0x00]),
            (Request::Second, &[0x82, 0x02]),
            (Request::Third, &[0x94, 0x14]),
            (Request::Count, &[0x90, 0x10]),
            (Request::First, &[0x91, 0x00, 0x01, 0x12]),
            (Request::Curve, &[0x92, 0x00, 0x12]),
            (Request::Next, &[0x91, 0x01, 0x01, 0x13]),
            (Request::Keep, &[0x91, 0x7e, 0x01, 0x10]),
            (Request::Delete, &[0x91, 0x7f, 0x01, 0x11]),
        ] {
            assert_eq!(request.encode(), octets, "{request:?}");
        }
    }

    #[test]
    fn every_truncation_and_every_turned_bit_but_the_eighth_is_refused() {
        let octets = record().encode();
        every_cut_is_refused(&octets, Record::decode);
        an_octet_more_is_trailing(&octets, Record::decode);
        for (bit, turned) in turned(&octets).filter(|(bit, _)| bit % 8 < 7 || *bit < 8) {
            assert!(Record::decode(&turned).is_err(), "{bit}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            kind in 0..128_u8, number in 0..0x4000_u16, month in 1..=12_u8, day in 1..=31_u8, year in 2000..2128_u16,
            fields in proptest::array::uniform13(0..0x4000_u16), drug in any::<bool>(), height in 0..0x4000_u16,
        ) {
            let time = DateTime { year, month, day, hour: 23, minute: 59, second: 0 };
            let record = Record { kind, number, time, fields, drug, height, ..record() };
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _decoded = Record::decode(&octets);
        }
    }
}
