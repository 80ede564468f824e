//! What a driver is, and the session that holds one conversation with one device.
//!
//! Everything here is pure: octets, events and `now` come in as arguments; commands, measurements and the wish to be woken
//! come out as values. Drivers know no assignment, no key and no wall clock.

use core::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Measured, RecordingHead};
use uuid::Uuid;

/// At most so many measurements may await [`Event::Stored`]; then polling stops.
pub const MEASUREMENTS_UNSTORED_MAX: usize = 64;
/// At most so much signal may await [`Event::Stored`]; then polling stops.
pub const SIGNAL_UNSTORED_MAX: Duration = Duration::from_secs(10);
/// Of a recording out of a device's memory no second counts for less than so many samples, however far apart they were
/// measured: what waits is still in the memory, and only its room counts.
pub const STORED_SAMPLES_A_SECOND: u32 = 300;
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

    /// Data that a device advertises under a service's UUID.
    #[must_use]
    pub const fn advertised(service: Uuid) -> Self {
        Self { service, characteristic: Uuid::nil() }
    }

    /// Whether it is data that is advertised.
    #[must_use]
    pub const fn is_advertised(&self) -> bool {
        self.characteristic.is_nil() && !self.service.is_nil()
    }

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
    /// Service data of an advertisement, without a connection; the endpoint's characteristic is nil.
    Advertisement,
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
    /// The Recorder refused it, and has that on the disk, or will have it by the conversation's end where it is not the
    /// patient's: a device that may delete must keep it.
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
    /// What the device's clock said at `at`, read or just set: the coincident time stamp by which its times are moved. It
    /// comes before the measurements that it counts for; `Stored` at once.
    DeviceClock {
        /// The device's time.
        device: DateTime,
        /// The moment at which it was so.
        at: Moment,
    },
    /// The device's memory, before anything of it is asked for: the highest record number in it, `None` where it is empty.
    /// `Stored` at once.
    Memory {
        /// The highest record number.
        highest: Option<u64>,
    },
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

/// Who a device says that it is: what quirks are chosen by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The name that it advertises.
    pub name: Option<String>,
    /// Manufacturer Name String (0x2A29).
    pub manufacturer: Option<String>,
    /// Model Number String (0x2A24), or the one that the configuration names.
    pub model: Option<String>,
    /// Firmware Revision String (0x2A26).
    pub firmware: Option<String>,
}

/// A key that was written into a device at its pairing, and opens it at each conversation. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey(pub [u8; 16]);

impl core::fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("UnlockKey(…)")
    }
}

/// What a session is opened with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Who the device says that it is.
    pub about: About,
    /// The user slot bound at pairing.
    pub user_slot: Option<u8>,
    /// The key written at pairing, for devices that have one.
    pub unlock_key: Option<UnlockKey>,
    /// The highest record number that is already durable, and with it every record below ([`Measured::in_order`]).
    pub last_record: Option<u64>,
    /// What a session of this device last had remembered in this boot, so that its moments still count.
    pub remembered: Option<Vec<u8>>,
    /// Civil time as the session is opened, only from a trusted clock.
    pub civil_time: Option<DateTime>,
    /// May it delete the device's records once they are durable?
    pub may_delete: bool,
    /// May it set the device's clock?
    pub may_set_clock: bool,
    /// One reading of a continuous stream every so long.
    pub stream_interval: Option<Duration>,
    /// A stream is recorded for so long from its first sample on, and no more until the device begins anew; `None`: on and on.
    /// Only where [`crate::registry::records_for_a_set_time`] says so.
    pub recording_time: Option<Duration>,
}

/// A way to reach a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bluetooth Low Energy.
    Ble {
        /// Service UUIDs that such a device advertises; empty where it advertises none.
        advertises: &'static [Uuid],
        /// Beginnings of the names that it advertises, where the services do not tell it.
        names: &'static [&'static str],
        /// The characteristics that the driver listens to; the first is what `decode` takes values to be of, unless told.
        listens: &'static [Endpoint],
    },
    /// A serial port, opened so.
    Serial(PortSettings),
    /// A file that the device wrote.
    File,
}

/// How a BLE device is paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// A wire or a file: nothing to pair.
    None,
    /// Bonded as well as the device can: passkey, else Just Works, recorded as such.
    Bond,
}

/// What a write does to a device. Inflating a cuff, resetting and erasing have no name here: no driver may do them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It asks for something: records, identity, a state.
    Ask,
    /// It starts or stops what the device sends by itself.
    Stream,
    /// It opens or closes a session, or confirms what was received.
    Converse,
    /// It sets the device's clock: only where `may_set_clock` says so.
    SetClock,
    /// It deletes records: only where `may_delete` says so.
    Delete,
}

/// A write that a driver may make; what is on no row is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// In the protocol's words, kebab-case.
    pub name: &'static str,
    /// What it does.
    pub effect: Effect,
    /// Where to; [`Endpoint::SERIAL`] on a wire.
    pub to: Endpoint,
    /// Where in the octets the command stands …
    pub at: usize,
    /// … and what stands there.
    pub octets: &'static [u8],
}

impl Allowed {
    /// Whether this row is about such a write.
    fn covers(&self, to: Endpoint, octets: &[u8]) -> bool {
        self.to == to && octets.get(self.at..).is_some_and(|rest| rest.starts_with(self.octets))
    }
}

/// Where devices of one kind depart from their standard or manual: a row a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirk {
    /// In kebab-case.
    pub name: &'static str,
    /// What Manufacturer Name begins with; empty: any.
    pub manufacturer: &'static str,
    /// What Model Number, or else the advertised name, begins with; empty: any.
    pub model: &'static str,
    /// What Firmware Revision begins with; empty: any.
    pub firmware: &'static str,
    /// What it does.
    pub what: &'static str,
    /// The captured octets that show it, in hexadecimal, and where they are from.
    pub vector: (&'static str, &'static str),
}

impl Quirk {
    /// Whether such a device has it. Letters' case does not matter; a quirk of no manufacturer and no model has none.
    #[must_use]
    pub fn fits(&self, about: &About) -> bool {
        let begins = |text: &Option<String>, with: &str| {
            with.is_empty()
                || text.as_ref().and_then(|text| text.get(..with.len())).is_some_and(|text| text.eq_ignore_ascii_case(with))
        };
        let named = !self.manufacturer.is_empty() || !self.model.is_empty();
        named
            && begins(&about.manufacturer, self.manufacturer)
            && (begins(&about.model, self.model) || begins(&about.name, self.model))
            && begins(&about.firmware, self.firmware)
    }
}

/// One kind of device: a row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The driver table's name.
    pub name: &'static str,
    /// Raised when what it makes of the same octets changes.
    pub version: &'static str,
    /// How the device is reached; the usual way first.
    pub links: &'static [Link],
    /// The protocol, for listings.
    pub protocol: &'static str,
    /// What it gives, for listings.
    pub gives: &'static str,
    /// The codes of what it gives.
    pub parameters: &'static [Mdc],
    /// The least security; the transport reaches it before `Up`.
    pub security: Security,
    /// How it is paired.
    pub pairing: Pairing,
    /// Whether the device keeps records until they are deleted or overwritten.
    pub memory: bool,
    /// The writes that it may make.
    pub allowed: &'static [Allowed],
    /// What is known of models that depart from the standard.
    pub quirks: &'static [Quirk],
    /// Opens a conversation.
    pub session: fn(Start) -> Box<dyn Session>,
}

impl Driver {
    /// The row that allows a write; `None`: it must not be sent.
    #[must_use]
    pub fn allows(&self, to: Endpoint, octets: &[u8]) -> Option<&'static Allowed> {
        self.allowed.iter().find(|row| row.covers(to, octets))
    }

    /// The settings of its serial port, where it has one.
    #[must_use]
    pub fn port(&self) -> Option<PortSettings> {
        self.links.iter().find_map(|link| match link {
            Link::Serial(settings) => Some(*settings),
            Link::Ble { .. } | Link::File => None,
        })
    }

    /// Whether it is met by Bluetooth.
    #[must_use]
    pub fn by_radio(&self) -> bool {
        self.links.iter().any(|link| matches!(link, Link::Ble { .. }))
    }

    /// Whether it reads files.
    #[must_use]
    pub fn by_file(&self) -> bool {
        self.links.contains(&Link::File)
    }

    /// The services under which it takes data that is advertised; empty where its devices must be connected to.
    #[must_use]
    pub fn takes_advertised(&self) -> Vec<Uuid> {
        let listens = self.links.iter().filter_map(|link| match link {
            Link::Ble { listens, .. } => Some(*listens),
            Link::Serial(_) | Link::File => None,
        });
        listens.flatten().filter(|endpoint| endpoint.is_advertised()).map(|endpoint| endpoint.service).collect()
    }

    /// Service UUIDs that its devices advertise.
    #[must_use]
    pub fn advertises(&self) -> &'static [Uuid] {
        self.links
            .iter()
            .find_map(|link| match link {
                Link::Ble { advertises, .. } => Some(*advertises),
                Link::Serial(_) | Link::File => None,
            })
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quirk_is_of_the_models_that_it_names_only() {
        let quirk = Quirk { name: "big-endian-pulse", manufacturer: "", model: "BM85", firmware: "", what: "", vector: ("", "") };
        let about = |name: &str, model: &str| About { name: Some(name.into()), model: Some(model.into()), ..About::default() };
        assert!(quirk.fits(&about("", "bm85 BT")));
        assert!(quirk.fits(&about("BM85", "x")));
        assert!(!quirk.fits(&about("", "BM8")));
        assert!(!quirk.fits(&About::default()));
        assert!(!Quirk { model: "", ..quirk }.fits(&about("", "BM85")), "a quirk of nobody is of nobody");
    }

    #[test]
    fn i7_a_key_is_not_shown() {
        let start = Start { unlock_key: Some(UnlockKey([0xab; 16])), ..Start::default() };
        let text = format!("{start:?}");
        assert!(text.contains("UnlockKey(…)") && !text.contains("171") && !text.contains("ab, ab"), "{text}");
    }

    #[test]
    fn a_write_is_allowed_by_the_octets_at_its_place() {
        let row = Allowed { name: "report", effect: Effect::Ask, to: Endpoint::SERIAL, at: 1, octets: &[7, 8] };
        assert!(row.covers(Endpoint::SERIAL, &[0, 7, 8, 9]));
        for octets in [&[0, 7][..], &[7, 8, 9], &[], &[0]] {
            assert!(!row.covers(Endpoint::SERIAL, octets));
        }
        assert!(!row.covers(Endpoint::gatt(1, 2), &[0, 7, 8]));
    }
}
