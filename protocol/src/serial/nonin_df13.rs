//! Nonin serial data format 13: a spot check with its time, and the commands of the oximeters that have it (9560, 3230).
//!
//! Port: 9600 baud, 8 data bits, no parity, or Bluetooth. Source: Nonin, 9560 Bluetooth specification in NoninPulseOx
//! 6153426.

use alloc::vec::Vec;

use crate::flags::terms_of_some;
use crate::gatt::date_time::DateTime;
use crate::reader::{DecodeError, Reader};
use crate::reading::Status;
use crate::serial::framer::{self, Framing, Step, to_next};

/// A spot check. Shape, units, errors and source: see [`SpotCheck::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpotCheck {
    /// When it was made, by the device's clock.
    pub time: DateTime,
    /// Hundredths of its second.
    pub hundredths: u8,
    /// Status: see [`SpotCheck::FROM_MEMORY`] and [`SpotCheck::terms`].
    pub status: u16,
    /// Pulse rate, /min.
    pub heart_rate: Option<u16>,
    /// SpO2, %.
    pub spo2: Option<u8>,
}

impl SpotCheck {
    /// Bit 9: of SmartPoint quality.
    pub const SMART_POINT: u16 = 1 << 9;
    /// Bit 8: nothing was measured.
    pub const NO_MEASUREMENT: u16 = 1 << 8;
    /// Bit 4: out of the device's memory.
    pub const FROM_MEMORY: u16 = 1 << 4;
    /// Bit 0: the battery is low.
    pub const LOW_BATTERY: u16 = 1;
    /// Octets of a packet without further data.
    pub const OCTETS: usize = 22;
    /// The most octets of a packet's data that are taken in.
    pub const DATA_OCTETS_MAX: usize = 64;

    /// Decodes one packet.
    ///
    /// Shape: 00 02 · type 00 0D (2) · length (2) · century, year, month, day, hours, minutes, seconds, hundredths (BCD) ·
    /// status (2) · pulse rate (2) · reserved · SpO2 · data of later devices · sum of the data modulo 256 · 03; big-endian,
    /// 22 octets or more.
    /// Units: pulse rate in `/min`, SpO2 in `%`; 511 and 127 are absent.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another start, type, length
    /// or end, and where a digit is none or the time is on no clock; [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.take(START.len(), "start")? != START {
            return Err(DecodeError::Value { field: "start" });
        }
        let length = usize::from(r.u16_be("length")?);
        if !(DATA_OCTETS..=Self::DATA_OCTETS_MAX).contains(&length) {
            return Err(DecodeError::Value { field: "length" });
        }
        let data = r.take(length, "data")?;
        let (checksum, end) = (r.u8("checksum")?, r.u8("end")?);
        r.finish()?;
        if checksum != sum(data) {
            return Err(DecodeError::Checksum);
        }
        if end != END {
            return Err(DecodeError::Value { field: "end" });
        }
        let mut r = Reader::new(data);
        let (century, year) = (bcd(&mut r, "century")?, bcd(&mut r, "year")?);
        let [month, day] = [bcd(&mut r, "month")?, bcd(&mut r, "day")?];
        let [hour, minute, second] = [bcd(&mut r, "hours")?, bcd(&mut r, "minutes")?, bcd(&mut r, "seconds")?];
        let time = DateTime { year: u16::from(century) * 100 + u16::from(year), month, day, hour, minute, second };
        let hundredths = bcd(&mut r, "hundredths")?;
        let (status, heart_rate) = (r.u16_be("status")?, r.u16_be("heart rate")? & NO_HEART_RATE);
        r.u8("reserved")?;
        let spo2 = r.u8("spo2")?;
        Ok(Self {
            time: DateTime::decode(&time.encode())?,
            hundredths,
            status,
            heart_rate: (heart_rate != NO_HEART_RATE).then_some(heart_rate),
            spo2: (spo2 != NO_SPO2).then_some(spo2),
        })
    }

    /// The octets of it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let DateTime { year, month, day, hour, minute, second } = self.time;
        let [century, year] = [year / 100, year % 100].map(|part| u8::try_from(part).unwrap_or(0));
        let mut data: Vec<u8> = [century, year, month, day, hour, minute, second, self.hundredths].map(to_bcd).into();
        data.extend(self.status.to_be_bytes());
        data.extend(self.heart_rate.unwrap_or(NO_HEART_RATE).to_be_bytes());
        data.extend([0, self.spo2.unwrap_or(NO_SPO2)]);
        let mut octets = Vec::from(START);
        octets.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        octets.extend(&data);
        octets.extend([sum(&data), END]);
        octets
    }

    /// Whether all of these bits are set.
    #[must_use]
    pub const fn has(&self, bits: u16) -> bool {
        self.status & bits == bits
    }

    /// What the status says; where it came from is no term.
    pub fn terms(&self) -> impl Iterator<Item = Status> {
        terms_of_some(
            self.status,
            &[(Self::SMART_POINT, "smart-point"), (Self::NO_MEASUREMENT, "no-measurement"), (Self::LOW_BATTERY, "low-battery")],
        )
    }
}

const START: [u8; 4] = [0x00, 0x02, 0x00, 0x0d];
const END: u8 = 0x03;
const DATA_OCTETS: usize = 14;
const NO_HEART_RATE: u16 = 511;
const NO_SPO2: u8 = 127;

fn sum(octets: &[u8]) -> u8 {
    octets.iter().fold(0, |sum: u8, octet| sum.wrapping_add(*octet))
}

fn bcd(r: &mut Reader<'_>, field: &'static str) -> Result<u8, DecodeError> {
    let octet = r.u8(field)?;
    let (tens, ones) = (octet >> 4, octet & 0x0f);
    if tens > 9 || ones > 9 { Err(DecodeError::Value { field }) } else { Ok(tens * 10 + ones) }
}

const fn to_bcd(number: u8) -> u8 {
    16 * (number / 10 % 10) + number % 10
}

/// What a host asks for. Shape: 02 · code · length · data · 03. Source: as the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// 70: sends in this data format from now on.
    SelectFormat(u8),
    /// 72: sets the clock.
    SetTime(DateTime),
}

impl Command {
    /// The answer to a command that was carried out.
    pub const ACK: u8 = 0x06;
    /// The answer to one that was not.
    pub const NAK: u8 = 0x15;

    /// The octets of it; a year before 2000 or after 2099 becomes 2000.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::SelectFormat(format) => Vec::from([0x02, 0x70, 0x02, 0x02, format, END]),
            Self::SetTime(DateTime { year, month, day, hour, minute, second }) => {
                let year = year.checked_sub(2000).and_then(|year| u8::try_from(year).ok()).filter(|year| *year < 100);
                Vec::from([0x02, 0x72, 0x06, year.unwrap_or(0), month, day, hour, minute, second, END])
            }
        }
    }
}

/// What stands on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A spot check.
    SpotCheck(SpotCheck),
    /// A packet whose sum fits and whose content does not.
    Refused(DecodeError),
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Heard>;

/// Finds packets in a stream, however it is split; answers to commands are skipped. Taken by its sum and end; where they do
/// not fit, the search goes on at the next octet.
pub type Framer = framer::Framer<Frames>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let begins = rest.iter().zip(START).all(|(octet, start)| *octet == start);
        if !begins {
            return Step::Skip(to_next(rest, |octet| octet == START[0]));
        }
        let Some([high, low]) = rest.get(START.len()..START.len() + 2) else { return Step::Wait };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(DATA_OCTETS..=SpotCheck::DATA_OCTETS_MAX).contains(&length) {
            return Step::Skip(1);
        }
        let octets = SpotCheck::OCTETS - DATA_OCTETS + length;
        let Some(packet) = rest.get(..octets) else { return Step::Wait };
        match SpotCheck::decode(packet) {
            Ok(check) => Step::take(octets, framer::Found::Frame(Heard::SpotCheck(check))),
            Err(DecodeError::Checksum | DecodeError::Value { field: "end" }) => Step::Skip(1),
            Err(error) => Step::take(octets, framer::Found::Frame(Heard::Refused(error))),
        }
    }

    fn skipped(octets: u64) -> Found {
        framer::Found::Skipped(octets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::{every_other_length_is_refused, every_turned_bit_is_refused, found_however_split, found_in_pieces};
    use crate::vectors::{octets, vectors};

    #[test]
    fn packets_decode_and_encode_and_nothing_else_does() {
        for v in vectors(include_str!("../../vectors/nonin_df13.txt")) {
            let Ok(check) = SpotCheck::decode(&v.octets) else {
                assert_eq!(v.expected, "invalid", "{}", v.id);
                continue;
            };
            let number = |number: Option<u16>| number.map_or_else(|| "-".into(), |number| number.to_string());
            let memory = if check.has(SpotCheck::FROM_MEMORY) { "memory" } else { "live" };
            let terms: Vec<_> = check.terms().collect();
            let (hr, spo2) = (number(check.heart_rate), number(check.spo2.map(u16::from)));
            let text = format!("{} {memory} hr={hr} spo2={spo2} {}", check.time, terms.join(","));
            assert_eq!((text.as_str(), check.encode()), (v.expected, v.octets.clone()), "{}", v.id);
            every_other_length_is_refused(&v.octets, SpotCheck::decode);
            every_turned_bit_is_refused(&v.octets, SpotCheck::decode);
            let stream = [&[Command::ACK][..], &v.octets, &v.octets].concat();
            let twice = [Found::Skipped(1), Found::Frame(Heard::SpotCheck(check)), Found::Frame(Heard::SpotCheck(check))];
            assert_eq!(found_however_split::<Frames>(&stream), twice, "{}", v.id);
        }
    }

    /// Vectors R04 and R05: Nonin's 9560 specification.
    #[test]
    fn commands_are_those_of_the_specification() {
        let time = DateTime { year: 2050, month: 12, day: 31, hour: 14, minute: 30, second: 15 };
        assert_eq!(Command::SetTime(DateTime { day: 31, month: 12, ..time }).encode().len(), 10);
        // The vector's 0c1f is month 12, day 31.
        assert_eq!(Command::SetTime(time).encode(), octets("027206320c1f0e1e0f03"));
        assert_eq!(Command::SelectFormat(13).encode(), octets("027002020d03"));
        assert_eq!(Command::SelectFormat(2).encode(), octets("027002020203"));
    }

    proptest! {
        #[test]
        fn no_split_makes_a_difference(stream in proptest::collection::vec(any::<u8>(), 0..100), size in 1..30_usize) {
            let packet = octets("0002000d000e20261121103000000200004800616303");
            let stream = [&stream[..], &packet, &stream].concat();
            found_in_pieces::<Frames>(&stream, size);
        }
    }
}
