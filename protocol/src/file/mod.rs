//! One file per file format of recordings, theirs and ours to write.

use alloc::vec::Vec;

use crate::gatt::date_time::DateTime;
use crate::reading::{Channel, Rate};

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
