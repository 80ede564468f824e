//! Multi-lead recordings of the Lepu/Viatom ER3 family: four or eight channels at 250 Hz, stored as differences.
//!
//! Source: the layout of a file that a device wrote (LepuDemo d1e5815, W20240111145412: CRC and 123,750 rows verified), the
//! meaning of its fields and of the lead types in LepuBle (Er3WaveFile, Er3Decompress, Er3BleInterface), facts only.

use alloc::string::String;
use alloc::vec::Vec;

use crc::{CRC_16_IBM_3740, Crc, Table};

use super::{FileError, FileRecording, NotEncodable};
use crate::decimal::Decimal;
use crate::nomenclature::Mdc;
use crate::reader::{DecodeError, Reader};
use crate::reading::{Channel, Rate};

/// The most channels: twelve leads have eight independent ones.
pub const CHANNELS_MAX: usize = 8;
/// Samples a second.
pub const RATE: Rate = Rate { samples: 250, seconds: 1 };
/// One digit is 1/409.6 mV, exactly.
pub const SCALE: Decimal = Decimal::new(244_140_625, -11);
/// What the device writes while a lead is off, as a digit like the others.
pub const LEAD_OFF: i32 = 0x7fff;

const HEADER_OCTETS: usize = 10;
const TRAILER_OCTETS: usize = 20;
/// Zeros between CRC and magic.
const TRAILER_ZEROS: usize = 10;
const MAGIC: u32 = 0xa55a_0438;
/// A row whose channels the mask beside it names as absolute.
const ABSOLUTE: u8 = 0x80;
static CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_IBM_3740);

/// Which electrode cable is in. One newer than we are is refused: nobody could name its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeadType(pub u8);

impl LeadType {
    /// Twelve leads.
    pub const TWELVE: Self = Self(0);
    /// Six electrodes: I, II, V1, V5.
    pub const SIX: Self = Self(1);
    /// Five electrodes: the captured recording.
    pub const FIVE: Self = Self(2);

    /// The lead of each channel in the order of a row; `None` is a channel without an electrode.
    ///
    /// Five electrodes leave the first channel to V5, as the application that came with the captured recording names it; it is
    /// flat there, and no flag says so.
    #[must_use]
    pub const fn channels(self) -> Option<&'static [Option<Mdc>]> {
        const I: Option<Mdc> = Some(Mdc::ECG_I);
        const II: Option<Mdc> = Some(Mdc::ECG_II);
        const V1: Option<Mdc> = Some(Mdc::ECG_V1);
        const V5: Option<Mdc> = Some(Mdc::ECG_V5);
        Some(match self.0 {
            0 => &[Some(Mdc::ECG_V6), I, II, V1, Some(Mdc::ECG_V2), Some(Mdc::ECG_V3), Some(Mdc::ECG_V4), V5],
            1 | 2 | 7 => &[V5, I, II, V1],
            3 => &[None, None, II, None],
            4 => &[None, I, None, None],
            5 => &[None, I, II, None],
            6 => &[V5, I, II, None],
            _ => return None,
        })
    }
}

/// What a file says of itself, without its samples: a long one is read row by row ([`Rows`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The cable.
    pub lead_type: LeadType,
    /// Where in the file its rows stand.
    pub body: core::ops::Range<usize>,
    /// Rows of samples.
    pub rows: usize,
    /// How long it lasted, s.
    pub duration_s: u32,
}

/// Reads what a file says of itself, and checks every row of it.
///
/// Shape: version (1) · type (1) · lead type (1) · reserved (7) · rows ([`Rows::next`]) · duration (4) ·
/// CRC-16/CCITT-FALSE over header and rows (2) · zeros (10) · 38 04 5a a5; little-endian.
/// Units: duration in s; samples in digits of [`SCALE`] mV.
/// Errors: [`DecodeError::Truncated`], [`DecodeError::Checksum`]; [`DecodeError::Value`] for another magic, an unknown lead
/// type, no row, or a sample past 16 bits.
/// Source: see the module.
pub fn contents(octets: &[u8]) -> Result<Contents, FileError> {
    let covered = octets.len().checked_sub(TRAILER_OCTETS).ok_or(DecodeError::Truncated { field: "trailer" })?;
    let mut trailer = Reader::new(octets.get(covered..).unwrap_or_default());
    let duration_s = trailer.u32("duration")?;
    let crc = trailer.u16("crc")?;
    trailer.take(TRAILER_ZEROS, "zeros")?;
    if trailer.u32("magic")? != MAGIC {
        return Err(DecodeError::Value { field: "magic" }.into());
    }
    let file = octets.get(..covered).unwrap_or_default();
    if CRC.checksum(file) != crc {
        return Err(DecodeError::Checksum.into());
    }
    let mut r = Reader::new(file);
    let header = r.take(HEADER_OCTETS, "header")?;
    let lead_type = LeadType(header.get(2).copied().unwrap_or(u8::MAX));
    let channels = lead_type.channels().ok_or(DecodeError::Value { field: "lead type" })?.len();
    let (mut rows, mut decoder) = (0, Rows::new(channels));
    while !r.rest().is_empty() {
        decoder.next(&mut r)?;
        rows += 1;
    }
    if rows == 0 {
        return Err(DecodeError::Value { field: "number of rows" }.into());
    }
    Ok(Contents { lead_type, body: HEADER_OCTETS..covered, rows, duration_s })
}

/// Rows of differences, one after the other. A new one begins at 0 in every channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    channels: usize,
    last: [i32; CHANNELS_MAX],
}

impl Rows {
    /// With so many channels.
    #[must_use]
    pub const fn new(channels: usize) -> Self {
        Self { channels: if channels < CHANNELS_MAX { channels } else { CHANNELS_MAX }, last: [0; CHANNELS_MAX] }
    }

    /// Reads the next row.
    ///
    /// Shape: a signed octet a channel, its difference from the row before; or 0x80 · mask (1), then for each channel whose bit
    /// is set its sample (i16, little-endian), for each other its difference. Bits past the last channel mean nothing.
    /// Units: digits; [`LEAD_OFF`] where the lead is off.
    /// Errors: [`DecodeError::Truncated`]; [`DecodeError::Value`] for 0x80 as a difference, which the device never writes, and
    /// for a sample past 16 bits.
    /// Source: see the module.
    pub fn next(&mut self, r: &mut Reader<'_>) -> Result<&[i32], DecodeError> {
        let mut first = Some(r.u8("difference")?);
        let mask = if first == Some(ABSOLUTE) { Some(r.u8("mask")?) } else { None };
        if mask.is_some() {
            first = None;
        }
        for (channel, last) in self.last.iter_mut().take(self.channels).enumerate() {
            if mask.is_some_and(|mask| mask >> channel & 1 == 1) {
                *last = i16::from_le_bytes(r.u16("sample")?.to_le_bytes()).into();
                continue;
            }
            let octet = match first.take() {
                Some(octet) => octet,
                None => r.u8("difference")?,
            };
            if octet == ABSOLUTE {
                return Err(DecodeError::Value { field: "difference" });
            }
            *last = i16::try_from(*last + i32::from(i8::from_le_bytes([octet])))
                .map_err(|_| DecodeError::Value { field: "sample" })?
                .into();
        }
        Ok(self.last.get(..self.channels).unwrap_or_default())
    }

    /// Writes a row as the device does: in full at the beginning, then what is too far from the row before, else differences.
    pub fn write(&mut self, row: &[i16], begins: bool, octets: &mut Vec<u8>) {
        let row = || row.iter().map(|sample| i32::from(*sample)).chain(core::iter::repeat(0));
        let difference = |(sample, last): (i32, &i32)| i8::try_from(sample - last).ok().filter(|d| *d != i8::MIN);
        let mut mask = if begins { u8::MAX } else { 0 };
        for (channel, pair) in row().zip(&self.last).take(self.channels).enumerate() {
            mask |= u8::from(difference(pair).is_none()) << channel;
        }
        if mask != 0 {
            octets.extend([ABSOLUTE, mask]);
        }
        for (channel, (sample, last)) in row().zip(&mut self.last).take(self.channels).enumerate() {
            match difference((sample, &*last)) {
                Some(difference) if mask >> channel & 1 == 0 => octets.extend(difference.to_le_bytes()),
                _ => octets.extend(i16::try_from(sample).unwrap_or(0).to_le_bytes()),
            }
            *last = sample;
        }
    }
}

/// The channels that a recording of this cable has.
#[must_use]
pub fn channels(lead_type: LeadType) -> Vec<Channel> {
    let channel = |code: &Mdc| Channel { code: *code, scale: SCALE, unit: "mV", filter: String::new() };
    lead_type.channels().unwrap_or_default().iter().flatten().map(channel).collect()
}

/// Decodes a whole file; channels without an electrode are left out. Shape, units, errors and source: see [`contents`].
pub fn decode(octets: &[u8]) -> Result<FileRecording, FileError> {
    let Contents { lead_type, body, rows, .. } = contents(octets)?;
    let named = lead_type.channels().unwrap_or_default();
    let (mut r, mut decoder) = (Reader::new(octets.get(body).unwrap_or_default()), Rows::new(named.len()));
    let mut samples = Vec::new();
    for _ in 0..rows {
        let row = decoder.next(&mut r)?.iter().zip(named).filter(|(_, lead)| lead.is_some());
        samples.extend(row.map(|(sample, _)| Some(*sample).filter(|sample| *sample != LEAD_OFF)));
    }
    Ok(FileRecording { device_time: None, rate: RATE, channels: channels(lead_type), samples })
}

/// The octets of a recording with this cable; channels without an electrode are flat, the format keeps no time.
///
/// Errors: [`NotEncodable`] for other leads, rate or scale, a row that is not whole, or a sample outside 16 bits or that would
/// mean none.
pub fn encode(recording: &FileRecording, lead_type: LeadType) -> Result<Vec<u8>, NotEncodable> {
    let named = lead_type.channels().ok_or(NotEncodable("a lead type that it does not have"))?;
    let leads = recording.channels.len();
    if recording.channels != channels(lead_type) || recording.rate != RATE {
        return Err(NotEncodable("other leads, rate or scale than the device's own"));
    }
    if recording.samples.is_empty() || !recording.samples.len().is_multiple_of(leads.max(1)) {
        return Err(NotEncodable("a row that is not whole"));
    }
    let mut octets = alloc::vec![2, 4, lead_type.0, 0, 0, 0, 0, 0, 1, 0];
    let mut encoder = Rows::new(named.len());
    for (index, row) in recording.samples.chunks(leads.max(1)).enumerate() {
        let (mut samples, mut full) = (row.iter(), [0; CHANNELS_MAX]);
        for (place, _) in full.iter_mut().zip(named).filter(|(_, lead)| lead.is_some()) {
            *place = sample(samples.next().copied().flatten())?;
        }
        encoder.write(&full, index == 0, &mut octets);
    }
    let crc = CRC.checksum(&octets);
    let rows = recording.samples.len() / leads.max(1);
    let seconds = u32::try_from(rows).unwrap_or(u32::MAX) / RATE.samples;
    octets.extend(seconds.to_le_bytes());
    octets.extend(crc.to_le_bytes());
    octets.extend([0; TRAILER_ZEROS]);
    octets.extend(MAGIC.to_le_bytes());
    Ok(octets)
}

fn sample(sample: Option<i32>) -> Result<i16, NotEncodable> {
    let wide = NotEncodable("a sample outside 16 bits, or one that would mean none");
    match sample {
        Some(LEAD_OFF) => Err(wide),
        _ => i16::try_from(sample.unwrap_or(LEAD_OFF)).map_err(|_| wide),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::{every_cut_is_refused, turned};
    use crate::vectors::{octets, vectors};

    fn file(header: &str, body: &[u8]) -> Vec<u8> {
        let mut file = [octets(header), body.to_vec()].concat();
        let crc = CRC.checksum(&file);
        file.extend(octets("ef010000"));
        file.extend(crc.to_le_bytes());
        file.extend(octets("0000000000000000000038045aa5"));
        file
    }

    const HEADER: &str = "02040200000000000100";

    fn recorded(lead_type: LeadType, samples: Vec<Option<i32>>) -> FileRecording {
        FileRecording { device_time: None, rate: RATE, channels: channels(lead_type), samples }
    }

    #[test]
    fn captured_rows_decode_and_encode() {
        for v in vectors(include_str!("../../vectors/lepu_er3_rows.txt")) {
            let file = file(HEADER, &v.octets);
            let recording = decode(&file).unwrap();
            let leads: Vec<_> = recording.channels.iter().map(|channel| channel.code.name().unwrap()).collect();
            assert_eq!(leads, ["V5", "I", "II", "V1"]);
            let samples: Vec<_> = recording.samples.iter().map(|s| s.map_or("-".into(), |s| std::format!("{s}"))).collect();
            let rows: Vec<_> = samples.chunks(4).map(|row| row.join(",")).collect();
            assert_eq!(rows.join(" "), v.expected, "{}", v.id);
            let written = encode(&recording, LeadType::FIVE).unwrap();
            assert_eq!(written[..file.len() - TRAILER_OCTETS], file[..file.len() - TRAILER_OCTETS], "{}", v.id);
            assert_eq!(written[file.len() - 16..], file[file.len() - 16..], "{}: the CRC too", v.id);
        }
    }

    #[test]
    fn a_digit_is_exactly_its_fraction_of_a_millivolt() {
        assert_eq!(SCALE.to_string(), "0.00244140625");
        assert_eq!(SCALE.mantissa * 4_096, 10_i64.pow(12), "1/409.6 mV");
    }

    #[test]
    fn channels_without_an_electrode_are_left_out() {
        let body = octets("80ff 0100 0200 0300 0400");
        let leads = |lead_type: &str| {
            let decoded = decode(&file(&std::format!("0204{lead_type}00000000000100"), &body)).unwrap();
            let named = decoded.channels.iter().map(|channel| channel.code.name().unwrap());
            named.zip(decoded.samples).map(|(lead, sample)| std::format!("{lead}={}", sample.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(leads("03"), ["II=3"]);
        assert_eq!(leads("05"), ["I=2", "II=3"]);
        assert_eq!(leads("06"), ["V5=1", "I=2", "II=3"]);
        assert_eq!(leads("07"), ["V5=1", "I=2", "II=3", "V1=4"]);
        let unknown = decode(&file("02040800000000000100", &body));
        assert_eq!(unknown, Err(DecodeError::Value { field: "lead type" }.into()));
    }

    #[test]
    fn every_truncated_length_appended_octet_and_turned_bit_is_refused() {
        let file = file(HEADER, &octets("80ff0000e9ffddfff2ff 000001ff 000003fd"));
        every_cut_is_refused(&file, decode);
        assert!(decode(&[&file[..], &[0]].concat()).is_err());
        let zeros_and_duration =
            |at: usize| (file.len() - 20..file.len() - 16).contains(&at) || (file.len() - 14..file.len() - 4).contains(&at);
        for (bit, turned) in turned(&file).filter(|(bit, _)| !zeros_and_duration(bit / 8)) {
            assert!(decode(&turned).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_the_device_never_writes_is_refused() {
        for (body, field) in
            [("00 80 00 00", "difference"), ("80ff ff7f 0000 0000 0000 01 00 00 00", "sample"), ("", "number of rows")]
        {
            assert_eq!(decode(&file(HEADER, &octets(body))), Err(DecodeError::Value { field }.into()), "{body}");
        }
        assert!(matches!(decode(&file(HEADER, &[0, 0, 0])), Err(FileError::Octets(DecodeError::Truncated { .. }))));
        let good = recorded(LeadType::FIVE, vec![Some(1); 4]);
        assert!(encode(&good, LeadType(9)).is_err());
        assert!(encode(&good, LeadType::TWELVE).is_err());
        for samples in [vec![], vec![Some(1); 3], vec![Some(LEAD_OFF); 4], vec![Some(40_000); 4]] {
            assert!(encode(&recorded(LeadType::FIVE, samples), LeadType::FIVE).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            lead_type in (0_u8..8).prop_map(LeadType),
            digits in prop::collection::vec(prop_oneof![-40_i32..40, -32_768_i32..32_767], 8..200),
            off in any::<prop::sample::Index>(),
        ) {
            let leads = channels(lead_type).len();
            let mut samples: Vec<_> = digits[..digits.len() / leads * leads].iter().map(|digit| Some(*digit)).collect();
            let off = off.index(samples.len());
            samples[off] = None;
            let recording = recorded(lead_type, samples);
            prop_assert_eq!(decode(&encode(&recording, lead_type).unwrap()), Ok(recording));
        }

        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&octets);
            let _ = decode(&file(HEADER, &octets));
        }
    }
}
