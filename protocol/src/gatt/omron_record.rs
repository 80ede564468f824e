//! A measurement in the memory of an Omron blood pressure monitor, and its clock.
//!
//! Source: omblepy 6631da8 and 91d0686 (hem-7322t, hem-7600t, hem-7361t), hass-omron d6758ed (MIT) and 337d99b, facts only.
//! Both layouts are one: the older monitors send the two octets of each 16-bit word the other way round.
//! The record's number stands at octet 10 (two captured records of a HEM-7142T2, six slots apart, have 70 and 76), and octet
//! 12 is the sum of the twelve before it (so in all three captured records): older readers of it took that sum for a number.

use crate::gatt::date_time::DateTime;
use crate::reader::{DecodeError, Reader};

/// Which octet of a word comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The less significant, in newer monitors.
    Little,
    /// The more significant, in older ones.
    Big,
}

/// One measurement. Shape, units, errors and source: see [`Record::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// mmHg, 25–250.
    pub systolic: u16,
    /// mmHg.
    pub diastolic: u8,
    /// /min.
    pub pulse_rate: u8,
    /// The monitor's time; `None` where it is no date.
    pub device_time: Option<DateTime>,
    /// The pulse was irregular.
    pub irregular: bool,
    /// The arm moved.
    pub movement: bool,
    /// The cuff sat well.
    pub cuff_fits: bool,
    /// 0 where the arm was held well, or nobody knows.
    pub position: u8,
    /// Counts the measurements; in the newer monitors only.
    pub number: Option<u16>,
    /// Whether the sum that stands behind the fields is theirs.
    pub sum_fits: bool,
}

impl Record {
    /// Octets of the fields.
    pub const OCTETS: usize = 14;
    /// Octets of a slot in monitors that leave two more.
    pub const OCTETS_LONG: usize = 16;

    /// Decodes one slot of the memory; `None` for an empty one.
    ///
    /// Shape, for [`Order::Little`]: systolic − 25 (above E1: empty) · diastolic · pulse rate · year − 2000 in 6 bits · u16
    /// with hour (bits 0–4), day (5–9), month (10–13), irregular (14), movement (15) · u16 with second (0–5), minute (6–11),
    /// cuff (12), position (14–15) · 2 octets · number u16 · sum · 1 octet; little-endian, 14 octets, or 16 of which the last
    /// two are left. An empty slot is FF or 0 throughout, or has a systolic above E1.
    /// Units: pressures in `mm[Hg]`, pulse rate in `/min`.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`].
    /// Source: as the module.
    pub fn decode(slot: &[u8], order: Order) -> Result<Option<Self>, DecodeError> {
        let mut r = Reader::new(slot);
        let mut octets = [0; Self::OCTETS];
        octets.copy_from_slice(r.take(Self::OCTETS, "record")?);
        if !r.rest().is_empty() {
            r.take(Self::OCTETS_LONG - Self::OCTETS, "record")?;
        }
        r.finish()?;
        let octets = in_order(octets, order);
        let [systolic, diastolic, pulse_rate, year, a, b, c, d, _, _, number_low, number_high, sum, _] = octets;
        if systolic > SYSTOLIC_MAX || octets.iter().take(8).skip(1).all(|octet| *octet == 0) {
            return Ok(None);
        }
        let (date, clock) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let bits = |word: u16, from: u32, count: u32| (word >> from & ((1 << count) - 1)).to_le_bytes()[0];
        let device_time = DateTime {
            year: 2_000 + u16::from(year & 0x3f),
            month: bits(date, 10, 4),
            day: bits(date, 5, 5),
            hour: bits(date, 0, 5),
            minute: bits(clock, 6, 6).min(59),
            // Some monitors count seconds to 63.
            second: bits(clock, 0, 6).min(59),
        };
        let counted = octets.iter().take(12).fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
        Ok(Some(Self {
            systolic: SYSTOLIC_OFFSET + u16::from(systolic),
            diastolic,
            pulse_rate,
            device_time: is_a_date(device_time).then_some(device_time),
            irregular: bits(date, 14, 1) == 1,
            movement: bits(date, 15, 1) == 1,
            cuff_fits: bits(clock, 12, 1) == 1,
            position: bits(clock, 14, 2),
            number: (order == Order::Little).then_some(u16::from_le_bytes([number_low, number_high])),
            sum_fits: counted == sum,
        }))
    }

    /// The octets of it, with their sum; a time that is none is 0.
    #[must_use]
    pub fn encode(&self, order: Order) -> [u8; Self::OCTETS] {
        let unset = DateTime { year: 2_000, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
        let time = self.device_time.unwrap_or(unset);
        let bit = |on: bool, at: u32| u16::from(on) << at;
        let field = |value: u8, at: u32| u16::from(value) << at;
        let date = field(time.hour, 0) | field(time.day, 5) | field(time.month, 10);
        let [a, b] = (date | bit(self.irregular, 14) | bit(self.movement, 15)).to_le_bytes();
        let clock = field(time.second, 0) | field(time.minute, 6) | bit(self.cuff_fits, 12);
        let [c, d] = (clock | field(self.position & 3, 14)).to_le_bytes();
        let [systolic, _] = self.systolic.saturating_sub(SYSTOLIC_OFFSET).min(SYSTOLIC_MAX.into()).to_le_bytes();
        let [year, _] = (time.year.saturating_sub(2_000) & 0x3f).to_le_bytes();
        let [low, high] = self.number.unwrap_or(0).to_le_bytes();
        let fields = [systolic, self.diastolic, self.pulse_rate, year, a, b, c, d, 0, 0, low, high];
        let sum = fields.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
        let [p, q, r, s, t, u, v, w, x, y, z, last] = fields;
        in_order([p, q, r, s, t, u, v, w, x, y, z, last, sum, 0], order)
    }
}

/// The highest systolic field; above it the slot is empty.
const SYSTOLIC_MAX: u8 = 0xe1;
const SYSTOLIC_OFFSET: u16 = 25;

fn in_order(mut octets: [u8; Record::OCTETS], order: Order) -> [u8; Record::OCTETS] {
    if order == Order::Big {
        octets.as_chunks_mut::<2>().0.iter_mut().for_each(|word| word.reverse());
    }
    octets
}

fn is_a_date(time: DateTime) -> bool {
    (1..=12).contains(&time.month) && (1..=31).contains(&time.day) && time.hour < 24
}

/// The clock of the monitor: 16 octets of its settings, of which the first eight are not the clock's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock {
    /// What stands before it, and is written back as it was.
    pub before: [u8; 8],
    /// The time.
    pub time: DateTime,
}

impl Clock {
    /// Octets of the block.
    pub const OCTETS: usize = 16;

    /// Decodes the block.
    ///
    /// Shape: 8 octets · year − 2000, month, day, hour, minute, second · the sum of the 14 · 1 octet.
    /// Units: as named.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Checksum`]; [`DecodeError::Value`] where
    /// it is no date.
    /// Source: hass-omron d6758ed, test_eeprom_time.py (a HEM-7382T1's block).
    pub fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(block);
        let mut before = [0; 8];
        before.copy_from_slice(r.take(8, "settings")?);
        let time = DateTime {
            year: 2_000 + u16::from(r.u8("year")?),
            month: r.u8("month")?,
            day: r.u8("day")?,
            hour: r.u8("hour")?,
            minute: r.u8("minute")?,
            second: r.u8("second")?.min(59),
        };
        let sum = r.u8("sum")?;
        r.u8("last")?;
        r.finish()?;
        let counted = block.iter().take(14).fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
        match () {
            () if counted != sum => Err(DecodeError::Checksum),
            () if !is_a_date(time) || time.minute > 59 => Err(DecodeError::Value { field: "clock" }),
            () => Ok(Self { before, time }),
        }
    }

    /// The octets of it; the last is 0.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::OCTETS] {
        let DateTime { year, month, day, hour, minute, second } = self.time;
        let [year, _] = year.saturating_sub(2_000).to_le_bytes();
        let mut octets = [0; Self::OCTETS];
        let fields = self.before.into_iter().chain([year, month, day, hour, minute, second]);
        octets.iter_mut().zip(fields).for_each(|(octet, field)| *octet = field);
        let sum = octets.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
        let [.., place, _] = &mut octets;
        *place = sum;
        octets
    }
}

#[cfg(test)]
mod tests;
