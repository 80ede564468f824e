//! The record around the sections: checksums, lengths and pointers, none of which is believed.

use alloc::vec::Vec;

use crc::{CRC_16_IBM_3740, Crc, Table};

use super::{FileError, NotEncodable};
use crate::reader::{DecodeError, Reader};

/// CRC-CCITT with FFFF before the first octet.
static CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_IBM_3740);
/// CRC and size of the file.
const HEADER_OCTETS: usize = 6;
const SECTION_HEADER_OCTETS: usize = 16;
const POINTER_OCTETS: usize = 10;
/// The most sections, the manufacturer's own included.
const SECTIONS_MAX: usize = 256;
/// What section 0 has in its reserved octets.
const MARK: &[u8; 6] = b"SCPECG";
const MARK_AT: usize = HEADER_OCTETS + 10;
/// Sections 0–11 have pointers, whether they are there or not.
const NUMBERED: u16 = 12;
/// Version of section and protocol: 1.3.
const VERSIONS: [u8; 2] = [13, 13];

pub(super) fn begins(octets: &[u8]) -> bool {
    octets.get(MARK_AT..MARK_AT + MARK.len()) == Some(MARK)
}

/// The sections of a file whose checksums fit.
pub(super) struct Sections<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Sections<'a> {
    /// What a section holds behind its header; `None` where it is not there.
    pub(super) fn content(&self, number: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == number).map(|(_, content)| *content)
    }
}

pub(super) fn sections(octets: &[u8]) -> Result<Sections<'_>, FileError> {
    let mut r = Reader::new(octets);
    let (crc, size) = (r.u16("crc")?, r.u32("size")?);
    if !begins(octets) {
        return Err(DecodeError::Value { field: "mark of section 0" }.into());
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    match octets.len() {
        length if length < size => return Err(DecodeError::Truncated { field: "file" }.into()),
        length if length > size => return Err(DecodeError::Trailing { octets: length - size }.into()),
        _ => {}
    }
    if CRC.checksum(octets.get(2..).unwrap_or_default()) != crc {
        return Err(DecodeError::Checksum.into());
    }
    let mut taken: Vec<(usize, usize)> = Vec::new();
    let mut known = Vec::new();
    for Pointer { number, length, start } in pointers(octets)? {
        let wrong = |what| FileError::Section { section: number, what };
        let end = start.checked_add(length).filter(|end| *end <= octets.len()).ok_or(wrong("it reaches past the file's end"))?;
        if start < HEADER_OCTETS || taken.iter().any(|(from, to)| start < *to && *from < end) {
            return Err(wrong("it lies over something else"));
        }
        if known.iter().any(|(other, _)| *other == number) {
            return Err(wrong("it is there twice"));
        }
        taken.push((start, end));
        known.push((number, content(number, octets.get(start..end).unwrap_or_default())?));
    }
    Ok(Sections(known))
}

struct Pointer {
    number: u16,
    length: usize,
    /// Counted from 0.
    start: usize,
}

/// The pointers of section 0 to sections that are there, its own first.
fn pointers(octets: &[u8]) -> Result<Vec<Pointer>, FileError> {
    let wrong = |what| FileError::Section { section: 0, what };
    let mut r = Reader::new(octets.get(HEADER_OCTETS..).unwrap_or_default());
    r.take(4, "crc and number")?;
    let own = usize::try_from(r.u32("length")?).unwrap_or(usize::MAX);
    let section = octets.get(HEADER_OCTETS..).and_then(|rest| rest.get(..own)).ok_or(wrong("it reaches past the file's end"))?;
    let list = section.get(SECTION_HEADER_OCTETS..).unwrap_or_default();
    if !list.len().is_multiple_of(POINTER_OCTETS) || !(1..=SECTIONS_MAX).contains(&(list.len() / POINTER_OCTETS)) {
        return Err(wrong("its length is not that of its pointers"));
    }
    let mut pointers = Vec::new();
    for pointer in list.chunks_exact(POINTER_OCTETS) {
        let mut r = Reader::new(pointer);
        let (number, length, index) = (r.u16("number")?, r.u32("length")?, r.u32("index")?);
        if length == 0 {
            continue;
        }
        let start = index.checked_sub(1).ok_or(FileError::Section { section: number, what: "its index is 0" })?;
        let whole = |number| usize::try_from(number).unwrap_or(usize::MAX);
        pointers.push(Pointer { number, length: whole(length), start: whole(start) });
    }
    match pointers.first() {
        Some(Pointer { number: 0, length, start: HEADER_OCTETS }) if *length == own => Ok(pointers),
        _ => Err(wrong("its first pointer is not its own")),
    }
}

/// Shape: CRC over what follows (2) · number (2) · length with this header (4) · versions (2) · reserved (6) · content.
fn content(number: u16, section: &[u8]) -> Result<&[u8], FileError> {
    let wrong = |what| FileError::Section { section: number, what };
    let mut r = Reader::new(section);
    let short = |_: DecodeError| wrong("it is shorter than a header");
    let crc = r.u16("crc").map_err(short)?;
    let covered = r.rest();
    let (own, length) = (r.u16("number").map_err(short)?, r.u32("length").map_err(short)?);
    r.take(8, "versions").map_err(short)?;
    if own != number {
        return Err(wrong("it has another number than its pointer"));
    }
    if usize::try_from(length) != Ok(section.len()) {
        return Err(wrong("it has another length than its pointer"));
    }
    if CRC.checksum(covered) != crc {
        return Err(wrong("its checksum does not fit"));
    }
    Ok(r.rest())
}

/// The octets of a file with these sections, in ascending order; empty ones are left out. Sections are of even length.
pub(super) fn encode(sections: &[(u16, &[u8])]) -> Result<Vec<u8>, NotEncodable> {
    let long = |_| NotEncodable("so many octets");
    let own = SECTION_HEADER_OCTETS + POINTER_OCTETS * usize::from(NUMBERED);
    let (mut list, mut rest, mut at) = (Vec::new(), Vec::new(), HEADER_OCTETS + own);
    let mut point = |number: u16, length: usize, at: usize| -> Result<(), NotEncodable> {
        list.extend(number.to_le_bytes());
        list.extend(u32::try_from(length).map_err(long)?.to_le_bytes());
        list.extend(u32::try_from(if length == 0 { 0 } else { at + 1 }).map_err(long)?.to_le_bytes());
        Ok(())
    };
    point(0, own, HEADER_OCTETS)?;
    for number in 1..NUMBERED {
        let content = sections.iter().find(|(known, _)| *known == number).map_or(&[][..], |(_, content)| content);
        if content.is_empty() {
            point(number, 0, 0)?;
            continue;
        }
        let section = section(number, content)?;
        point(number, section.len(), at)?;
        at += section.len();
        rest.extend(section);
    }
    let pointers = section(0, &list)?;
    let mut file = Vec::new();
    file.extend(u32::try_from(HEADER_OCTETS + pointers.len() + rest.len()).map_err(long)?.to_le_bytes());
    file.extend(pointers);
    file.extend(rest);
    let crc = CRC.checksum(&file);
    Ok([&crc.to_le_bytes()[..], &file].concat())
}

fn section(number: u16, content: &[u8]) -> Result<Vec<u8>, NotEncodable> {
    let padding = content.len() % 2;
    let length = u32::try_from(SECTION_HEADER_OCTETS + content.len() + padding).map_err(|_| NotEncodable("so many octets"))?;
    let mut covered = Vec::new();
    covered.extend(number.to_le_bytes());
    covered.extend(length.to_le_bytes());
    covered.extend(VERSIONS);
    covered.extend(if number == 0 { *MARK } else { [0; 6] });
    covered.extend(content);
    covered.resize(covered.len() + padding, 0);
    let crc = CRC.checksum(&covered);
    Ok([&crc.to_le_bytes()[..], &covered].concat())
}
