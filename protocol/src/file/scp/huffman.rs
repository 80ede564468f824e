//! Huffman codes of section 2, and the bits that are read and written by them.
//!
//! Bits stand in octets highest first. A table gives the bits of a code reversed: its lowest bit comes first.

use alloc::vec::Vec;

use super::FileError;
use crate::reader::{DecodeError, Reader};

/// The number of tables that means the standard's default one.
pub(super) const DEFAULT_TABLE: u16 = 19_999;
/// Octets of a code in section 2.
const CODE_OCTETS: usize = 9;
/// The most codes of all tables together.
const CODES_MAX: usize = 4_096;
/// The longest code before the bits that follow it.
const PREFIX_BITS_MAX: u8 = 32;
/// The most bits that follow a code.
const VALUE_BITS_MAX: u8 = 16;

/// One code. Shape, units, errors and source: see [`Tables::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Bits of the code itself.
    pub prefix_bits: u8,
    /// Bits with those of the value that follows it.
    pub bits: u8,
    /// 0: `value` is the number of the table that counts from here, the first being 1.
    pub mode: u8,
    /// What the code means.
    pub value: i16,
    /// The code, its first bit lowest.
    pub base: u32,
}

const fn plain(bits: u8, value: i16, base: u32) -> Code {
    Code { prefix_bits: bits, bits, mode: 1, value, base }
}

/// The default table. Source: EN 1064, C.2.7.4, as PixelMed's DefaultHuffmanTable and ecg-contec's huffman.py give it.
pub(super) const DEFAULT: [Code; 19] = [
    plain(1, 0, 0),
    plain(3, 1, 1),
    plain(3, -1, 5),
    plain(4, 2, 3),
    plain(4, -2, 11),
    plain(5, 3, 7),
    plain(5, -3, 23),
    plain(6, 4, 15),
    plain(6, -4, 47),
    plain(7, 5, 31),
    plain(7, -5, 95),
    plain(8, 6, 63),
    plain(8, -6, 191),
    plain(9, 7, 127),
    plain(9, -7, 383),
    plain(10, 8, 255),
    plain(10, -8, 767),
    Code { prefix_bits: 10, bits: 18, mode: 1, value: 0, base: 511 },
    Code { prefix_bits: 10, bits: 26, mode: 1, value: 0, base: 1_023 },
];

/// The tables of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(Vec<Tree>);

/// A table as a tree: from each node, where the bits 0 and 1 lead.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree(Vec<[Node; 2]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Nothing,
    Inner(usize),
    Leaf(Code),
}

impl Tables {
    /// Decodes the content of section 2; `None` where it has no table: samples are as they are.
    ///
    /// Shape: number of tables (2), 19999 for the default one · for each: number of codes (2), for each code its bits (1), bits
    /// with those of the value behind it (1), mode (1; 0 switches tables), value (2, signed), code (4, first bit lowest);
    /// little-endian.
    /// Units: none. Errors: [`FileError::Section`] where it is too short, has more codes than are taken in, a code of no or too
    /// many bits, codes that begin one with another, or a switch to a table that is not there; [`FileError::NotExact`] for a
    /// code that has both a value and bits behind it, which readers take differently.
    /// Source: EN 1064, section 2, as in the ECG Toolkit's SCPSection2.cs and biosig's scp-decode.cpp.
    pub fn decode(content: &[u8]) -> Result<Option<Self>, FileError> {
        let short = |_: DecodeError| wrong("it is too short for its tables");
        let mut r = Reader::new(content);
        let count = r.u16("number of tables").map_err(short)?;
        if count == DEFAULT_TABLE {
            return Self::of(&[&DEFAULT]).map(Some);
        }
        let (mut tables, mut codes) = (Vec::new(), 0);
        for _ in 0..count {
            let count = usize::from(r.u16("number of codes").map_err(short)?);
            codes += count;
            if codes > CODES_MAX || count == 0 {
                return Err(wrong("a table has no code, or there are more than 4,096"));
            }
            let octets = r.take(count * CODE_OCTETS, "codes").map_err(short)?;
            tables.push(octets.chunks_exact(CODE_OCTETS).map(Code::read).collect::<Result<Vec<_>, _>>().map_err(short)?);
        }
        let tables: Vec<&[Code]> = tables.iter().map(Vec::as_slice).collect();
        if tables.is_empty() { Ok(None) } else { Self::of(&tables).map(Some) }
    }

    /// Tables of these codes. Errors: as [`Tables::decode`].
    pub fn of(tables: &[&[Code]]) -> Result<Self, FileError> {
        let trees = tables.iter().map(|codes| Tree::of(codes, tables.len())).collect::<Result<_, _>>()?;
        Ok(Self(trees))
    }

    /// Reads `count` values; the first table counts at the beginning. What is left of the last octets is let pass: lead data
    /// are filled up to an even number of octets.
    pub(super) fn values(
        &self,
        octets: &[u8],
        count: usize,
        mut value: impl FnMut(i32) -> Result<(), FileError>,
    ) -> Result<(), Ended> {
        let (mut bits, mut tree) = (Bits { octets, at: 0 }, self.0.first().ok_or(Ended::Unknown)?);
        let mut read = 0;
        while read < count {
            let code = tree.next(&mut bits)?;
            if code.mode == 0 {
                let number = usize::try_from(code.value).ok().and_then(|number| number.checked_sub(1));
                tree = number.and_then(|number| self.0.get(number)).ok_or(Ended::Unknown)?;
                continue;
            }
            let follows = code.bits - code.prefix_bits;
            let number = if follows == 0 { code.value.into() } else { bits.signed(follows)? };
            value(number).map_err(Ended::Refused)?;
            read += 1;
        }
        let unread = (octets.len() * 8).saturating_sub(bits.at);
        if unread >= PADDING_BITS_MAX { Err(Ended::TooMany) } else { Ok(()) }
    }
}

/// Bits that may be left behind the last value: less than two octets.
const PADDING_BITS_MAX: usize = 16;

/// Why values could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The bits end before the values do.
    Short,
    /// More than padding is left.
    TooMany,
    /// Bits that are no code.
    Unknown,
    /// A value was not taken.
    Refused(FileError),
}

const fn wrong(what: &'static str) -> FileError {
    FileError::Section { section: 2, what }
}

impl Code {
    fn read(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        Ok(Self {
            prefix_bits: r.u8("bits of the code")?,
            bits: r.u8("bits")?,
            mode: r.u8("mode")?,
            value: i16::from_le_bytes(r.u16("value")?.to_le_bytes()),
            base: r.u32("code")?,
        })
    }

    fn check(&self, tables: usize) -> Result<(), FileError> {
        let follows = self.bits.checked_sub(self.prefix_bits);
        if !(1..=PREFIX_BITS_MAX).contains(&self.prefix_bits) || follows.is_none_or(|bits| bits > VALUE_BITS_MAX) {
            return Err(wrong("a code has no bits, or too many"));
        }
        if self.mode == 0 {
            let there = usize::try_from(self.value).is_ok_and(|number| (1..=tables).contains(&number));
            return if there && follows == Some(0) { Ok(()) } else { Err(wrong("a code switches to a table that is not there")) };
        }
        if follows != Some(0) && self.value != 0 {
            return Err(FileError::NotExact("a Huffman code with both a value and bits behind it"));
        }
        Ok(())
    }
}

impl Tree {
    fn of(codes: &[Code], tables: usize) -> Result<Self, FileError> {
        let twice = wrong("a code begins with another");
        let mut nodes = alloc::vec![[Node::Nothing; 2]];
        for code in codes {
            code.check(tables)?;
            let mut at = 0;
            for bit in 0..code.prefix_bits {
                let side = usize::from(code.base >> bit & 1 == 1);
                let (fresh, last) = (nodes.len(), bit + 1 == code.prefix_bits);
                let node = nodes.get_mut(at).and_then(|node| node.get_mut(side)).ok_or(twice)?;
                match (*node, last) {
                    (Node::Nothing, true) => *node = Node::Leaf(*code),
                    (Node::Nothing, false) => {
                        *node = Node::Inner(fresh);
                        nodes.push([Node::Nothing; 2]);
                        at = fresh;
                    }
                    (Node::Inner(next), false) => at = next,
                    (Node::Inner(_), true) | (Node::Leaf(_), _) => return Err(twice),
                }
            }
        }
        Ok(Self(nodes))
    }

    fn next(&self, bits: &mut Bits<'_>) -> Result<Code, Ended> {
        let mut at = 0;
        loop {
            let side = usize::from(bits.next()?);
            match self.0.get(at).and_then(|node| node.get(side)) {
                Some(Node::Inner(next)) => at = *next,
                Some(Node::Leaf(code)) => return Ok(*code),
                _ => return Err(Ended::Unknown),
            }
        }
    }
}

struct Bits<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn next(&mut self) -> Result<bool, Ended> {
        let octet = self.octets.get(self.at / 8).ok_or(Ended::Short)?;
        let bit = octet >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Ok(bit)
    }

    /// Two's complement.
    fn signed(&mut self, bits: u8) -> Result<i32, Ended> {
        let mut number = if self.next()? { -1 } else { 0 };
        for _ in 1..bits {
            number = number << 1 | i32::from(self.next()?);
        }
        Ok(number)
    }
}

/// Values under the default table, filled up with zeros to an even number of octets.
pub(super) fn encode(values: impl Iterator<Item = i16>) -> Vec<u8> {
    let mut writer = Writer::default();
    for value in values {
        let code = DEFAULT.iter().find(|code| code.bits == code.prefix_bits && code.value == value);
        let following = if i8::try_from(value).is_ok() { 8 } else { 16 };
        let code = code.or_else(|| DEFAULT.iter().find(|code| code.bits == code.prefix_bits + following));
        let Some(code) = code else { continue };
        (0..code.prefix_bits).for_each(|bit| writer.push(code.base >> bit & 1 == 1));
        (0..code.bits - code.prefix_bits).rev().for_each(|bit| writer.push(value >> bit & 1 == 1));
    }
    if !writer.octets.len().is_multiple_of(2) {
        writer.octets.push(0);
    }
    writer.octets
}

#[derive(Default)]
struct Writer {
    octets: Vec<u8>,
    /// Bits of the last octet that are taken.
    taken: u8,
}

impl Writer {
    fn push(&mut self, bit: bool) {
        if self.taken == 0 {
            self.octets.push(0);
        }
        if let Some(last) = self.octets.last_mut() {
            *last |= u8::from(bit) << (7 - self.taken);
        }
        self.taken = (self.taken + 1) % 8;
    }
}
