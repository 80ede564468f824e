//! How far a device's streams are durable: marks that the store keeps in the commits of its records.

use std::collections::BTreeMap;

use kit_protocol::reading::Kind;
use kit_protocol::uplink::wire;
use prost::Message;

/// How far a stream is durable; kept in the commit of each of its segments.
#[derive(Clone, PartialEq, Message)]
pub struct StreamMark {
    /// Where the last durable sample was received.
    #[prost(message, optional, tag = "1")]
    pub clock: Option<wire::Clock>,
    /// Reception of the last durable sample, ns of that boot.
    #[prost(uint64, tag = "2")]
    pub boottime_ns: u64,
    /// The device's counter of the last durable sample.
    #[prost(uint64, optional, tag = "3")]
    pub counter: Option<u64>,
    /// Its recording.
    #[prost(bytes = "vec", tag = "4")]
    pub recording: Vec<u8>,
    /// The device itself ended the recording there: nothing is missing after it.
    #[prost(bool, tag = "5")]
    pub ended: bool,
    /// The conversation that set it. No clock tells which of two came first: one without a battery begins in 1970 at each boot.
    #[prost(bytes = "vec", tag = "6")]
    pub conversation: Vec<u8>,
}

/// How far a device's streams were durable before this conversation.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// By kind of stream.
    pub streams: BTreeMap<Kind, StreamMark>,
    /// Since when an earlier conversation heard what it may not have stored: the beginning of the one before this, or of the
    /// first of several of which nothing came.
    pub opened: Option<StreamMark>,
    /// By kind, what stands for the last measurement that had neither number nor time.
    pub shown: BTreeMap<Kind, Vec<u8>>,
}

impl Marks {
    /// From where on a stream of that kind may have been heard and not stored.
    pub(super) fn before(&self, kind: Kind) -> Option<&StreamMark> {
        match (self.streams.get(&kind), &self.opened) {
            (Some(stream), _) if !stream.ended => Some(stream),
            (Some(ended), Some(opened)) if opened.conversation == ended.conversation => None,
            (_, opened) => opened.as_ref(),
        }
    }

    /// Since when the conversation before this one heard a device of which no stream began.
    pub(super) fn owed(&self) -> Option<&StreamMark> {
        let opened = self.opened.as_ref()?;
        self.streams.values().all(|stream| stream.conversation != opened.conversation).then_some(opened)
    }
}

/// What a session had remembered, and in which boot its moments count.
#[derive(Clone, PartialEq, Message)]
pub struct Remembered {
    /// The boot.
    #[prost(bytes = "vec", tag = "1")]
    pub boot_id: Vec<u8>,
    /// What the session gave.
    #[prost(bytes = "vec", tag = "2")]
    pub octets: Vec<u8>,
}

/// The key of what a device's session had remembered.
#[must_use]
pub fn remembered_key(device: &str) -> String {
    format!("{device}/remembered")
}

/// The key of the mark that says when a conversation began.
#[must_use]
pub fn opened_key(device: &str) -> String {
    format!("{device}/opened")
}

/// The key of a stream's mark.
#[must_use]
pub fn mark_key(device: &str, kind: Kind) -> String {
    format!("{device}/stream-{}", kind.name())
}

/// The key of what stands for the last measurement of a kind that had neither number nor time.
#[must_use]
pub fn shown_key(device: &str, kind: Kind) -> String {
    format!("{device}/shown-{}", kind.name())
}

/// The key of a device's highest durable record number.
#[must_use]
pub fn last_record_key(device: &str) -> String {
    format!("{device}/last-record")
}
