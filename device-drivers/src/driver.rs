//! What a driver is, and the session that holds one conversation with one device.
//!
//! Everything here is pure: octets, events and `now` come in as arguments; commands, measurements and the wish to be woken
//! come out as values. Drivers know no assignment, no key and no wall clock.

use core::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Block, Measured, RecordingHead};
use uuid::Uuid;

/// At most so many measurements may await [`Event::Stored`]; then polling stops.
pub const MEASUREMENTS_UNSTORED_MAX: usize = 64;
/// At most so much signal may await [`Event::Stored`]; then polling stops.
pub const SIGNAL_UNSTORED_MAX: Duration = Duration::from_secs(10);
/// The most octets that a session has remembered.
pub const REMEMBERED_OCTETS_MAX: usize = 128;
/// The most octets one command writes.
pub const WRITE_OCTETS_MAX: usize = 512;

/// A number that ties an answer to what asked for it; each is used once in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

/// Where octets come from and go to. A serial port has one: [`Endpoint::SERIAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// GATT service.
    pub service: Uuid,
    /// GATT characteristic.
    pub characteristic: Uuid,
}

impl Endpoint {
    /// The one endpoint of a serial port or a file.
    pub const SERIAL: Self = Self { service: Uuid::nil(), characteristic: Uuid::nil() };

    /// A characteristic of a service by their 16-bit numbers.
    #[must_use]
    pub const fn gatt(service: u16, characteristic: u16) -> Self {
        Self { service: bluetooth(service), characteristic: bluetooth(characteristic) }
    }
}

/// The UUID of a 16-bit number. Source: Bluetooth Core 5.4, Vol 3 Part B §2.5.1.
#[must_use]
pub const fn bluetooth(number: u16) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_1000_8000_0080_5f9b_34fb | ((number as u128) << 96))
}

/// How octets arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Unconfirmed GATT notification.
    Notification,
    /// Confirmed GATT indication.
    Indication,
    /// The answer to a read.
    Read,
    /// A serial port.
    Serial,
    /// A file.
    File,
}

/// The security a link reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// No encryption, or a wire.
    #[default]
    None,
    /// Encrypted, Just Works.
    Unauthenticated,
    /// Encrypted, with a passkey or numeric comparison.
    Authenticated,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The device or the radio ended it.
    Lost,
    /// We ended it.
    Closed,
    /// The port or the file is at its end.
    End,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The device has no such endpoint.
    #[error("the device has no {0:?}")]
    NoEndpoint(Endpoint),
    /// The device or the radio refused.
    #[error("the link refused: {0}")]
    Refused(String),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

/// What happened on the link.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Discovered and secured; a serial port has one endpoint.
    Up {
        /// Octets one write or notification may carry.
        mtu: u16,
        /// What the link reached.
        security: Security,
        /// What the device has.
        has: &'a [Endpoint],
    },
    /// Octets arrived.
    Received {
        /// Where from.
        from: Endpoint,
        /// What.
        octets: &'a [u8],
        /// How.
        by: By,
    },
    /// A command was carried out.
    Done {
        /// Which.
        command: Token,
    },
    /// A command failed.
    Failed {
        /// Which.
        command: Token,
        /// Why.
        error: LinkError,
    },
    /// The Recorder has it on the disk; each output gets exactly one of `Stored` and `Refused`.
    Stored {
        /// Which.
        reading: Token,
    },
    /// The Recorder refused it, and has that on the disk.
    Refused {
        /// Which.
        reading: Token,
    },
    /// The link ended. Outputs not yet answered are still answered.
    Down {
        /// Why.
        reason: DownReason,
    },
}

/// Serial port settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Bits per second.
    pub baud: u32,
    /// Even parity instead of none; always 8 data bits and 1 stop bit.
    pub even_parity: bool,
}

/// What the transport is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Turn notifications or indications on.
    Subscribe(Token, Endpoint),
    /// Read a value; it arrives as `Received { by: Read }`, then `Done`.
    Read(Token, Endpoint),
    /// Write a value.
    Write {
        /// Answered by `Done` or `Failed`.
        token: Token,
        /// Where to.
        to: Endpoint,
        /// At most [`WRITE_OCTETS_MAX`].
        octets: Vec<u8>,
        /// With response.
        response: bool,
    },
    /// Set the serial port.
    Port(Token, PortSettings),
    /// End the conversation.
    Close,
}

/// What a session finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A measurement.
    Measured(Measured),
    /// A recording begins, under the session's own number for it.
    Begin {
        /// The session's number of this recording.
        recording: u32,
        /// Its channels and rate.
        head: RecordingHead,
    },
    /// A run of its samples; answered `Stored` when the segment with its last sample is on the disk.
    Samples {
        /// Which recording.
        recording: u32,
        /// The samples.
        block: Block,
    },
    /// A recording ends.
    End {
        /// Which.
        recording: u32,
    },
    /// What the next conversation in this boot is opened with ([`Start::remembered`]), in place of what was remembered before:
    /// at most [`REMEMBERED_OCTETS_MAX`], no clinical value. Kept with the next record; `Refused` where none came any more.
    Remember(Vec<u8>),
}

/// Why a device could not give a measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// Octets that are no measurement: kept as a refusal, the conversation goes on.
    #[error("undecodable {what}: {reason}")]
    Undecodable {
        /// The characteristic or frame.
        what: &'static str,
        /// The missing field, or what does not fit.
        reason: String,
        /// What the device sent; never in a log.
        octets: Vec<u8>,
    },
    /// Octets were skipped to find the next frame: counted, the conversation goes on.
    #[error("skipped {skipped} octets to the next frame")]
    Resynchronised {
        /// How many octets.
        skipped: u64,
    },
    /// Samples never arrived: the recorder declares the span missed, up to the next block of this recording, or, where the
    /// recording ends first, up to the first block of the next.
    #[error("{count} samples of recording {recording} never arrived")]
    SamplesLost {
        /// The session's number of the recording.
        recording: u32,
        /// The device's counter of the first lost sample; its index in the recording where the device has no counter.
        first: u64,
        /// How many; 0 where nobody can tell.
        count: u64,
    },
    /// The device is not what this driver speaks to: close, try another.
    #[error("not a device for this driver: {0}")]
    NotThisDevice(String),
    /// The device does not answer as its protocol says: close, connect again.
    #[error("protocol broken: {0}")]
    Protocol(String),
}

/// One conversation with one device.
///
/// A caller hands in events, then polls commands and outputs until both are `None`, then sleeps until `poll_timeout`.
pub trait Session: Send {
    /// Takes in what happened on the link at `now`.
    fn handle_event(&mut self, now: Moment, event: Event<'_>);
    /// Takes in that the time `poll_timeout` asked for has come.
    fn handle_timeout(&mut self, now: Moment);
    /// What the transport is to do next; `None` when there is nothing.
    fn poll_command(&mut self) -> Option<Command>;
    /// The next finished measurement or block of samples, or why the device could not give one.
    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>>;
    /// When `handle_timeout` is wanted.
    fn poll_timeout(&self) -> Option<Moment>;
}

/// What a session is opened with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The model, where Device Information or the configuration names it.
    pub model: Option<String>,
    /// The user slot bound at pairing.
    pub user_slot: Option<u8>,
    /// The highest record number that is already durable.
    pub last_record: Option<u64>,
    /// What a session of this device last had remembered in this boot, so that its moments still count.
    pub remembered: Option<Vec<u8>>,
    /// Civil time, only from a trusted clock.
    pub civil_time: Option<DateTime>,
    /// May it delete the device's records once they are durable?
    pub may_delete: bool,
    /// May it set the device's clock?
    pub may_set_clock: bool,
    /// One reading of a continuous stream every so long.
    pub stream_interval: Option<Duration>,
}

/// How a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bluetooth Low Energy: devices that advertise one of these services.
    Ble {
        /// Advertised service UUIDs.
        services: &'static [u16],
    },
    /// A serial port, opened so.
    Serial(PortSettings),
}

/// How a BLE device is paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// A wire or a file: nothing to pair.
    None,
    /// Bonded as well as the device can: passkey, else Just Works, recorded as such.
    Bond,
}

/// One kind of device: a row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The driver table's name.
    pub name: &'static str,
    /// Raised when what it makes of the same octets changes.
    pub version: &'static str,
    /// How the device is reached.
    pub link: Link,
    /// The protocol, for listings.
    pub protocol: &'static str,
    /// What it gives, for listings.
    pub gives: &'static str,
    /// The least security; the transport reaches it before `Up`.
    pub security: Security,
    /// How it is paired.
    pub pairing: Pairing,
    /// Whether the device keeps records until they are deleted or overwritten.
    pub memory: bool,
    /// Opens a conversation.
    pub session: fn(Start) -> Box<dyn Session>,
}
