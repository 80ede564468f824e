//! One file per file format of recordings, theirs and ours to write.

use alloc::vec::Vec;

use crate::gatt::date_time::DateTime;
use crate::reader::DecodeError;
use crate::reading::{Channel, Rate};

pub mod ecg90a;
pub mod lepu_er3;
pub mod scp;

/// A recording as a file holds it.
///
/// Shape: `samples` interleaved, one integer a channel in the order of `channels`, exactly as in the file; `None` marks a sample
/// that the file itself marks as missing. Units: each channel's scale and unit. Names of persons in a file are never taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecording {
    /// When its first sample was, by the clock of what wrote it.
    pub device_time: Option<DateTime>,
    /// Samples per second and channel.
    pub rate: Rate,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// Interleaved samples.
    pub samples: Vec<Option<i32>>,
}

/// Why a file is not taken in. Nothing of it is then: a recording is whole or it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The octets are not those of the format.
    #[error(transparent)]
    Octets(#[from] DecodeError),
    /// A section of the file contradicts itself or another.
    #[error("section {section}: {what}")]
    Section {
        /// Its number.
        section: u16,
        /// What does not fit.
        what: &'static str,
    },
    /// A lead's octets are not as many as its samples need: a length that ran over its 16 bits shows so.
    #[error("section {section}, lead {lead}: {octets} octets, where its samples need {needed}")]
    LeadOctets {
        /// The section's number.
        section: u16,
        /// The lead, from 1.
        lead: usize,
        /// How many there are.
        octets: usize,
        /// How many there would have to be.
        needed: usize,
    },
    /// What the file uses loses digits, or is read differently by different readers.
    #[error("{0} cannot be reconstructed exactly")]
    NotExact(&'static str),
    /// More samples than are taken in.
    #[error("more than {maximum} samples")]
    TooLong {
        /// How many are, of all channels together.
        maximum: usize,
    },
}

/// Why a recording cannot be written in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the format cannot hold {0}")]
pub struct NotEncodable(pub &'static str);
