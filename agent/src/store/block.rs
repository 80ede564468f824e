//! How records lie in the database: consecutive numbers of one commit share a value, so that a group of small records costs
//! a few writes and not one each.
//!
//! Shape of a value: version (1) · index of the run in the epoch's list (u32) · sealed octets of the lane before this value
//! (u64) · entries. An entry is its length (u16, top bit clear) and a sealed record, or (top bit set) the length of a record
//! and where it lies in a segment file: class (1) · file (u32) · offset (u32). The value's key is the number of its first
//! entry (u64), the others follow on. All big-endian.

use super::outbox::{Class, VALUE_SEALED_OCTETS_MAX};

/// Octets of a value, at most. A leaf of the database holds 17 values before it splits and becomes a file of its own, which
/// is never synced, past 131,020 octets (sled 0.34.7 at segments of 512 KiB): 17 of these fit with their keys.
pub(crate) const VALUE_OCTETS_MAX: usize = VALUE_SEALED_OCTETS_MAX + HEADER_OCTETS + LENGTH_OCTETS;
const _: () = assert!(17 * (VALUE_OCTETS_MAX + 32) < 131_020);

const VERSION: u8 = 1;
const HEADER_OCTETS: usize = 1 + 4 + 8;
const LENGTH_OCTETS: usize = 2;
const POINTER_OCTETS: usize = 1 + 4 + 4;
const IN_FILE: u16 = 1 << 15;

/// Where a sealed segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// In which kind of file.
    pub(crate) class: Class,
    /// The file's number.
    pub(crate) file: u32,
    /// Where its frame begins, octets from the file's start.
    pub(crate) offset: u32,
    /// Sealed octets.
    pub(crate) octets: u16,
}

/// One record, as the database holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// Its sealed octets.
    Inline(&'a [u8]),
    /// Where they lie.
    InFile(Pointer),
}

impl Entry<'_> {
    /// Sealed octets of the record.
    pub(crate) fn sealed_octets(&self) -> u64 {
        match self {
            Self::Inline(sealed) => u64::try_from(sealed.len()).unwrap_or(u64::MAX),
            Self::InFile(pointer) => u64::from(pointer.octets),
        }
    }
}

/// A value, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    /// Index of the run in the epoch's list.
    pub(crate) run: u32,
    /// Sealed octets of the lane before this value.
    pub(crate) before: u64,
    /// Its records, the first under the value's key.
    pub(crate) entries: Vec<Entry<'a>>,
}

impl<'a> Block<'a> {
    /// Takes a value apart; `None` where it is not one of ours.
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = value.split_at_checked(HEADER_OCTETS)?;
        if header[0] != VERSION {
            return None;
        }
        let run = u32::from_be_bytes(header[1..5].try_into().ok()?);
        let before = u64::from_be_bytes(header[5..13].try_into().ok()?);
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at_checked(LENGTH_OCTETS)?;
            let length = u16::from_be_bytes(length.try_into().ok()?);
            let (entry, after) = if length & IN_FILE == 0 {
                let (sealed, after) = after.split_at_checked(usize::from(length))?;
                (Entry::Inline(sealed), after)
            } else {
                let (octets, after) = after.split_at_checked(POINTER_OCTETS)?;
                (Entry::InFile(parse_pointer(octets, length & !IN_FILE)?), after)
            };
            entries.push(entry);
            rest = after;
        }
        (!entries.is_empty()).then_some(Self { run, before, entries })
    }

    /// Sealed octets of its entries below index `upto`.
    pub(crate) fn octets_below(&self, upto: u64) -> u64 {
        let upto = usize::try_from(upto).unwrap_or(usize::MAX);
        self.entries.iter().take(upto).map(Entry::sealed_octets).sum()
    }
}

/// Packs consecutive records into values.
#[derive(Debug)]
pub(crate) struct Packer {
    run: u32,
    /// Sealed octets of the lane before the next record.
    before: u64,
    values: Vec<(u64, Vec<u8>)>,
}

impl Packer {
    /// For records of `run`, after `before` sealed octets of the lane.
    pub(crate) fn new(run: u32, before: u64) -> Self {
        Self { run, before, values: Vec::new() }
    }

    /// Adds record `seq`, the one after the record added before it.
    pub(crate) fn push(&mut self, seq: u64, entry: &Entry<'_>) {
        let needed = LENGTH_OCTETS + encoded_octets(entry);
        if self.values.last().is_none_or(|(_, value)| value.len() + needed > VALUE_OCTETS_MAX) {
            self.values.push((seq, self.header()));
        }
        if let Some((_, value)) = self.values.last_mut() {
            write_entry(value, entry);
        }
        self.before += entry.sealed_octets();
    }

    /// The values with their keys, and the sealed octets of the lane after them.
    pub(crate) fn finish(self) -> (Vec<(u64, Vec<u8>)>, u64) {
        (self.values, self.before)
    }

    fn header(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend_from_slice(&self.run.to_be_bytes());
        value.extend_from_slice(&self.before.to_be_bytes());
        value
    }
}

fn encoded_octets(entry: &Entry<'_>) -> usize {
    match entry {
        Entry::Inline(sealed) => sealed.len(),
        Entry::InFile(_) => POINTER_OCTETS,
    }
}

fn write_entry(value: &mut Vec<u8>, entry: &Entry<'_>) {
    match entry {
        Entry::Inline(sealed) => {
            let length = u16::try_from(sealed.len()).unwrap_or(0) & !IN_FILE;
            value.extend_from_slice(&length.to_be_bytes());
            value.extend_from_slice(sealed);
        }
        Entry::InFile(pointer) => {
            value.extend_from_slice(&(pointer.octets | IN_FILE).to_be_bytes());
            value.push(class_octet(pointer.class));
            value.extend_from_slice(&pointer.file.to_be_bytes());
            value.extend_from_slice(&pointer.offset.to_be_bytes());
        }
    }
}

fn parse_pointer(octets: &[u8], length: u16) -> Option<Pointer> {
    Some(Pointer {
        class: [Class::PlanWaveform, Class::ContinuousWaveform].into_iter().find(|class| class_octet(*class) == octets[0])?,
        file: u32::from_be_bytes(octets[1..5].try_into().ok()?),
        offset: u32::from_be_bytes(octets[5..9].try_into().ok()?),
        octets: length,
    })
}

pub(crate) fn class_octet(class: Class) -> u8 {
    match class {
        Class::Value => 0,
        Class::PlanWaveform => 1,
        Class::ContinuousWaveform => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTER: Pointer = Pointer { class: Class::ContinuousWaveform, file: 3, offset: 70_000, octets: 12_000 };

    #[test]
    fn what_is_packed_is_parsed_back() {
        let mut packer = Packer::new(4, 100);
        packer.push(8, &Entry::Inline(b"first"));
        packer.push(9, &Entry::InFile(POINTER));
        packer.push(10, &Entry::Inline(b""));
        let (values, octets) = packer.finish();
        assert_eq!(octets, 100 + 5 + 12_000);
        let [(8, value)] = values.as_slice() else { panic!("one value under 8: {values:?}") };
        let block = Block::parse(value).unwrap();
        assert_eq!(
            block,
            Block { run: 4, before: 100, entries: vec![Entry::Inline(b"first"), Entry::InFile(POINTER), Entry::Inline(b"")] }
        );
        assert_eq!((block.octets_below(0), block.octets_below(2), block.octets_below(9)), (0, 12_005, 12_005));
    }

    #[test]
    fn a_value_stays_within_its_bound_and_the_largest_record_fits() {
        let largest = vec![0; VALUE_SEALED_OCTETS_MAX];
        let mut packer = Packer::new(1, 0);
        for seq in 1..=300 {
            packer.push(seq, &Entry::Inline(&largest[..200]));
        }
        packer.push(301, &Entry::Inline(&largest));
        let (values, octets) = packer.finish();
        assert_eq!(octets, 300 * 200 + 7_600);
        assert!(values.len() > 8);
        let mut expected = 1;
        for (seq, value) in &values {
            assert!(value.len() <= VALUE_OCTETS_MAX);
            assert_eq!(*seq, expected);
            expected += u64::try_from(Block::parse(value).unwrap().entries.len()).unwrap();
        }
        assert_eq!(expected, 302);
    }

    #[test]
    fn what_is_cut_or_not_ours_is_not_parsed_as_whole() {
        let mut packer = Packer::new(4, 100);
        packer.push(8, &Entry::Inline(b"first"));
        packer.push(9, &Entry::InFile(POINTER));
        let (values, _) = packer.finish();
        let value = &values[0].1;
        let first_entry_end = HEADER_OCTETS + LENGTH_OCTETS + 5;
        for length in (0..value.len()).filter(|length| *length != first_entry_end) {
            assert_eq!(Block::parse(&value[..length]), None, "length {length}");
        }
        let mut newer = value.clone();
        newer[0] = 9;
        assert_eq!(Block::parse(&newer), None);
    }
}
