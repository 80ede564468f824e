//! What an O2Ring and its relations (CheckO2, SleepO2, KidsO2) answer over Bluetooth: frames with a CRC-8.
//!
//! Source: viatom-o2ring-ble 636b5d2 (GPL-3) and LepuBle 46c1de4, facts only. A request begins with AA, an answer with 55;
//! an answer does not say what was asked.

use alloc::vec::Vec;

use crc::{CRC_8_SMBUS, Crc, Table};

use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{self, Framing, Step, to_next};

/// A frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// A request; else an answer.
    pub request: bool,
    /// The command of a request, the status of an answer (0: done).
    pub code: u8,
    /// Which part of a file.
    pub block: u16,
    /// At most [`Frame::DATA_OCTETS_MAX`].
    pub data: Vec<u8>,
}

impl Frame {
    /// The command for the numbers of this moment ([`Live`]).
    pub const LIVE: u8 = 0x17;
    /// The command for them and the waveform since the last time ([`Wave`]).
    pub const WAVE: u8 = 0x1b;
    /// The most octets of data that are taken in.
    pub const DATA_OCTETS_MAX: usize = 512;

    /// A request without data.
    #[must_use]
    pub const fn request(command: u8) -> Self {
        Self { request: true, code: command, block: 0, data: Vec::new() }
    }

    /// Decodes one frame.
    ///
    /// Shape: AA or 55 · code · its complement · block (2) · length (2) · data · CRC-8 (polynomial 07) of all before it;
    /// little-endian, 8–520 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for another start, a code
    /// without its complement, a length above 512; [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let request = match r.u8("start")? {
            REQUEST => true,
            ANSWER => false,
            _ => return Err(DecodeError::Value { field: "start" }),
        };
        let code = r.u8("code")?;
        if r.u8("complement")? != !code {
            return Err(DecodeError::Value { field: "complement" });
        }
        let block = r.u16("block")?;
        let length = usize::from(r.u16("length")?);
        if length > Self::DATA_OCTETS_MAX {
            return Err(DecodeError::Value { field: "length" });
        }
        let data = r.take(length, "data")?.to_vec();
        let crc = r.u8("checksum")?;
        r.finish()?;
        let (covered, _) = octets.split_at_checked(HEAD_OCTETS + length).unwrap_or_default();
        if crc == CRC.checksum(covered) { Ok(Self { request, code, block, data }) } else { Err(DecodeError::Checksum) }
    }

    /// The octets of it; data past the 512th octet is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let data = self.data.get(..Self::DATA_OCTETS_MAX).unwrap_or(&self.data);
        let mut octets = Vec::from([if self.request { REQUEST } else { ANSWER }, self.code, !self.code]);
        octets.extend(self.block.to_le_bytes());
        octets.extend(u16::try_from(data.len()).unwrap_or(0).to_le_bytes());
        octets.extend(data);
        octets.push(CRC.checksum(&octets));
        octets
    }
}

const REQUEST: u8 = 0xaa;
const ANSWER: u8 = 0x55;
const HEAD_OCTETS: usize = 7;
static CRC: Crc<u8, Table<1>> = Crc::<u8, Table<1>>::new(&CRC_8_SMBUS);

/// Numbers of this moment. Shape, units, errors and source: see [`Numbers::live`] and [`Numbers::wave`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numbers {
    /// SpO2, %; 0 or 255 for none.
    pub spo2: u8,
    /// Pulse rate, /min; 0 or 65535 for none.
    pub pulse_rate: u16,
    /// Charge of the battery, %.
    pub battery: u8,
    /// Perfusion index, tenths of a percent.
    pub perfusion_index: u8,
    /// Whether it is worn.
    pub worn: bool,
    /// The waveform since the last answer; none with [`Numbers::live`].
    pub wave: Vec<u8>,
}

impl Numbers {
    /// Decodes the data of an answer to [`Frame::LIVE`].
    ///
    /// Shape: SpO2 · pulse rate · … · at 7 battery, 8 charging, 9 motion, 10 perfusion index, 11 worn · …; 12 octets at
    /// least, later ones are not known and let pass.
    /// Units: SpO2 and battery in `%`, pulse rate in `/min`, perfusion index in 0.1 `%`.
    /// Errors: [`DecodeError::Truncated`].
    /// Source: as the module.
    pub fn live(data: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(data);
        let (spo2, pulse_rate) = (r.u8("spo2")?, r.u8("pulse rate")?);
        r.take(5, "unknown")?;
        let battery = r.u8("battery")?;
        r.take(2, "charging and motion")?;
        let (perfusion_index, worn) = (r.u8("perfusion index")?, r.u8("worn")? != 0);
        Ok(Self { spo2, pulse_rate: pulse_rate.into(), battery, perfusion_index, worn, wave: Vec::new() })
    }

    /// Decodes the data of an answer to [`Frame::WAVE`].
    ///
    /// Shape: SpO2 · pulse rate (2) · battery · charging · perfusion index · worn (1) · unknown (3) · length (2) · waveform;
    /// little-endian, 12 octets and the waveform.
    /// Units: as [`Numbers::live`]; the waveform has none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`].
    /// Source: as the module.
    pub fn wave(data: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(data);
        let (spo2, pulse_rate, battery) = (r.u8("spo2")?, r.u16("pulse rate")?, r.u8("battery")?);
        r.u8("charging")?;
        let (perfusion_index, worn) = (r.u8("perfusion index")?, r.u8("worn")? == 1);
        r.take(3, "unknown")?;
        let length = usize::from(r.u16("length")?);
        let wave = r.take(length, "waveform")?.to_vec();
        r.finish()?;
        Ok(Self { spo2, pulse_rate, battery, perfusion_index, worn, wave })
    }

    /// The data of an answer to [`Frame::LIVE`]; a pulse rate above 255 becomes none.
    #[must_use]
    pub fn to_live(&self) -> Vec<u8> {
        let pulse_rate = u8::try_from(self.pulse_rate).unwrap_or(0);
        let worn = u8::from(self.worn);
        Vec::from([self.spo2, pulse_rate, 0, 0, 0, 0, 0, self.battery, 0, 0, self.perfusion_index, worn, 0])
    }

    /// The data of an answer to [`Frame::WAVE`].
    #[must_use]
    pub fn to_wave(&self) -> Vec<u8> {
        let [low, high] = self.pulse_rate.to_le_bytes();
        let mut data = Vec::from([self.spo2, low, high, self.battery, 0, self.perfusion_index, u8::from(self.worn), 0, 0, 0]);
        data.extend(u16::try_from(self.wave.len()).unwrap_or(0).to_le_bytes());
        data.extend(&self.wave);
        data
    }
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Frame>;

/// Finds frames in notifications: several may stand in one, and one over several. Taken by its CRC; where that does not fit,
/// the search goes on at the next octet.
pub type Framer = framer::Framer<Frames>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames;

impl Framing for Frames {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let length = match rest {
            [REQUEST | ANSWER, code, complement, ..] if *complement != !*code => return Step::Skip(1),
            [REQUEST | ANSWER, _, _, _, _, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])),
            [REQUEST | ANSWER, ..] => return Step::Wait,
            _ => return Step::Skip(to_next(rest, |octet| matches!(octet, REQUEST | ANSWER))),
        };
        if length > Frame::DATA_OCTETS_MAX {
            return Step::Skip(1);
        }
        let octets = HEAD_OCTETS + length + 1;
        match rest.get(..octets).map(Frame::decode) {
            None => Step::Wait,
            Some(Ok(frame)) => Step::take(octets, framer::Found::Frame(frame)),
            Some(Err(_)) => Step::Skip(1),
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
    use crate::promises::{every_other_length_is_refused, every_turned_bit_is_refused, found_in_pieces};
    use crate::vectors::vectors;

    #[test]
    fn frames_decode_and_encode_and_nothing_else_does() {
        for v in vectors(include_str!("../../vectors/o2ring.txt")) {
            let frame = Frame::decode(&v.octets).unwrap();
            let text = match (frame.request, Numbers::wave(&frame.data)) {
                (true, _) => format!("request {:02x}", frame.code),
                (false, Ok(n)) => {
                    format!("wave {} {} {} {} {} {:?}", n.spo2, n.pulse_rate, n.battery, n.perfusion_index, n.worn, n.wave)
                }
                (false, Err(_)) => {
                    let n = Numbers::live(&frame.data).unwrap();
                    format!("live {} {} {} {} {}", n.spo2, n.pulse_rate, n.battery, n.perfusion_index, n.worn)
                }
            };
            assert_eq!((text.as_str(), frame.encode()), (v.expected, v.octets.clone()), "{}", v.id);
            every_other_length_is_refused(&v.octets, Frame::decode);
            every_turned_bit_is_refused(&v.octets, Frame::decode);
        }
    }

    proptest! {
        #[test]
        fn numbers_survive_the_way_there_and_back(
            spo2: u8, pulse_rate in 0..=255_u16, battery: u8, perfusion_index: u8, worn: bool,
            wave in proptest::collection::vec(any::<u8>(), 0..130),
        ) {
            let numbers = Numbers { spo2, pulse_rate, battery, perfusion_index, worn, wave };
            prop_assert_eq!(Numbers::wave(&numbers.to_wave()), Ok(numbers.clone()));
            prop_assert_eq!(Numbers::live(&numbers.to_live()), Ok(Numbers { wave: Vec::new(), ..numbers.clone() }));
            let frame = Frame { request: false, code: 0, block: 0, data: numbers.to_wave() };
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn no_split_makes_a_difference(stream in proptest::collection::vec(any::<u8>(), 0..200), size in 1..20_usize) {
            let stream = [&stream[..], &Frame::request(Frame::WAVE).encode(), &stream[..]].concat();
            found_in_pieces::<Frames>(&stream, size);
            let _ = (Numbers::live(&stream), Numbers::wave(&stream));
        }
    }
}
