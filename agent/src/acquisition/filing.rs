//! What the Recorder gives: a record to be appended, and the answers that are due once it is durable.

use device_drivers::driver::Token;

use crate::store::thread::Draft;

/// What is to become durable, and whom to tell.
#[derive(Debug)]
pub struct Filing {
    /// The record.
    pub draft: Draft,
    /// The session's outputs that are answered when it is durable.
    pub answers: Vec<Answer>,
}

/// One output's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is on the disk.
    Stored(Token),
    /// It was refused, and that is on the disk.
    Refused(Token),
}

impl Answer {
    /// The same output, refused.
    #[must_use]
    pub fn refused(self) -> Self {
        match self {
            Self::Stored(token) | Self::Refused(token) => Self::Refused(token),
        }
    }
}
