//! Segments of health observations: Live (0x2B8B) and Stored Health Observations (0x2BDD) cut what they carry in pieces.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// The first octet of every segment.
///
/// Shape: bit 0 first segment, bit 1 last segment, bits 2–7 a counter that goes on from one observation to the next, 63 to 0.
/// Units: none. Errors: none. Source: Bluetooth SIG, Generic Health Sensor Service 1.0, §3.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentHeader(pub u8);

impl SegmentHeader {
    /// The header of these parts; the counter is taken modulo 64.
    #[must_use]
    pub const fn new(first: bool, last: bool, counter: u8) -> Self {
        Self((counter % COUNTERS) << 2 | (last as u8) << 1 | first as u8)
    }

    /// Whether an observation begins with it.
    #[must_use]
    pub const fn first(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether an observation ends with it.
    #[must_use]
    pub const fn last(self) -> bool {
        self.0 & 2 != 0
    }

    /// 0–63.
    #[must_use]
    pub const fn counter(self) -> u8 {
        self.0 >> 2
    }
}

/// Segments are counted modulo this.
const COUNTERS: u8 = 64;

/// The most octets of an observation that are gathered: the length field of one has two octets, its header three, the record
/// number of a stored one four.
pub const OBSERVATION_OCTETS_MAX: usize = 65_535 + 3 + 4;

/// Why what was gathered is no observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// A segment without its header.
    #[error("a segment without octets")]
    Empty,
    /// Segments are missing in the middle or at the end of an observation.
    #[error("{missing} segments of an observation are missing")]
    Missing {
        /// How many at least; counted modulo 64.
        missing: u8,
    },
    /// An observation that never began: its first segment is missing.
    #[error("a segment of an observation that never began")]
    WithoutBegin,
    /// More octets than an observation can have.
    #[error("an observation of more than {OBSERVATION_OCTETS_MAX} octets")]
    TooLong,
}

/// Puts segments together again; bounded by [`OBSERVATION_OCTETS_MAX`].
///
/// After an error it waits for the next first segment: that is refused once, and what follows of it is not.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    gathered: Vec<u8>,
    /// An observation has begun and not ended.
    gathers: bool,
    /// The counter that the next segment has.
    next: Option<u8>,
    /// The rest of an observation that was refused is being let pass.
    refused: bool,
}

impl Assembler {
    /// Takes in a segment. Gives an observation where it ends one. An error says what was lost; the segment itself is taken
    /// in all the same where it begins an observation.
    pub fn push(&mut self, segment: &[u8]) -> (Option<SegmentError>, Option<Vec<u8>>) {
        let Some((header, payload)) = segment.split_first() else { return (Some(SegmentError::Empty), None) };
        let header = SegmentHeader(*header);
        let error = self.fits(header).err();
        self.next = Some((header.counter() + 1) % COUNTERS);
        if header.first() {
            self.gathered.clear();
            self.refused = false;
        } else if error.is_some() || !self.gathers {
            self.drop_observation(!header.last());
            return (error, None);
        }
        self.gathers = true;
        self.gathered.extend(payload);
        if self.gathered.len() > OBSERVATION_OCTETS_MAX {
            self.drop_observation(!header.last());
            return (Some(SegmentError::TooLong), None);
        }
        if header.last() {
            self.gathers = false;
            return (error, Some(core::mem::take(&mut self.gathered)));
        }
        (error, None)
    }

    /// Whether an observation has begun and not ended.
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.gathers
    }

    /// Lets go of what has begun and does not go on; whether there was any.
    pub fn give_up(&mut self) -> bool {
        let gathers = self.gathers;
        if gathers {
            self.drop_observation(true);
        }
        gathers
    }

    fn fits(&self, header: SegmentHeader) -> Result<(), SegmentError> {
        let missing = self.next.map_or(0, |next| (COUNTERS + header.counter() - next) % COUNTERS);
        match (self.gathers, header.first()) {
            (true, true) => Err(SegmentError::Missing { missing: missing.max(1) }),
            (true, false) if missing > 0 => Err(SegmentError::Missing { missing }),
            // Whole observations are missing; a counter that went back is one that began again.
            (false, true) if (1..=COUNTERS / 2).contains(&missing) && header.counter() > 0 => {
                Err(SegmentError::Missing { missing })
            }
            (false, false) if !self.refused => Err(SegmentError::WithoutBegin),
            _ => Ok(()),
        }
    }

    fn drop_observation(&mut self, rest_comes: bool) {
        // The buffer of a long one is not kept.
        self.gathered = Vec::new();
        self.gathers = false;
        self.refused = rest_comes;
    }
}

/// Cuts observations into segments, counting on from one to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segmenter {
    counter: u8,
}

/// Octets that a segment carries besides its header.
const PAYLOAD_OCTETS: RangeInclusive<usize> = 1..=511;

impl Segmenter {
    /// Whose next segment has this counter.
    #[must_use]
    pub const fn starting_at(counter: u8) -> Self {
        Self { counter: counter % COUNTERS }
    }

    /// The segments of an observation, each of at most `payload` octets (1–511) and its header.
    pub fn segments(&mut self, observation: &[u8], payload: usize) -> Vec<Vec<u8>> {
        let payload = payload.clamp(*PAYLOAD_OCTETS.start(), *PAYLOAD_OCTETS.end());
        let count = observation.len().div_ceil(payload);
        let mut segments = Vec::with_capacity(count);
        for (index, part) in observation.chunks(payload).enumerate() {
            let header = SegmentHeader::new(index == 0, index + 1 == count, self.counter);
            self.counter = (self.counter + 1) % COUNTERS;
            let mut segment = Vec::with_capacity(part.len() + 1);
            segment.push(header.0);
            segment.extend(part);
            segments.push(segment);
        }
        segments
    }
}
