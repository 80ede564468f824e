//! What carries octets between a session and a device; only here is a radio or a port touched.
//!
//! Each transport hands out [`Link`]s: one conversation with one device, as owned values over two bounded channels. Whoever
//! holds the session pumps between the two, and needs to know nothing else:
//!
//! ```
//! # use device_drivers::driver::{Command, Session};
//! # use device_drivers::transport::Link;
//! # async fn pump(link: &mut Link, session: &mut dyn Session) {
//! loop {
//!     while let Some(command) = session.poll_command() {
//!         link.carry_out(command).await;
//!     }
//!     // poll_output and poll_timeout, then:
//!     let Some(event) = link.next().await else { break };
//!     session.handle_event(event.at, event.what.as_event());
//! }
//! # }
//! ```
//!
//! The first event is `Up`, the last is `Down`; between them every value that arrived on this connection comes exactly once, in
//! the order of arrival, with the moment at which it was taken from the radio or the port. A command gets one `Done` or
//! `Failed`, unless the link goes down first. To end a conversation without losing what is on its way, send
//! [`Command::Close`] and take events until `Down`; dropping a [`Link`] closes it too and drops what was not taken.

pub mod ble;
pub mod file;
pub mod scripted;
pub mod serial;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kit_protocol::moment::Moment;
use tokio::sync::mpsc;

use crate::driver::{By, Command, DownReason, Endpoint, Event, LinkError, Security, Token};

/// The most events that wait in the channel to the session.
pub const EVENTS_MAX: usize = 64;
/// The most commands that wait for the link.
pub const COMMANDS_MAX: usize = 32;
/// The most octets that wait, beyond the channel, for a session that is slow to take them; past it the link is ended, so that
/// nothing is confirmed to a device that nobody will see. Eight ECG leads at 500 Hz fill it in 15 s.
pub const BACKLOG_OCTETS_MAX: usize = 256 * 1024;
/// What one waiting event counts besides its octets.
const EVENT_OCTETS: usize = 64;
/// The most characters kept of a name that a device gives itself.
const TEXT_CHARACTERS_MAX: usize = 64;

/// Where a transport takes the time of reception from.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// A Bluetooth device address.
///
/// Shape: six octets, most significant first, as printed on labels.
/// Units: none. Errors: of the text, [`AddressError`]. Source: Bluetooth Core 5.4, Vol 6 Part B §1.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 6]);

/// Not six octets of two hexadecimal digits with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Bluetooth address reads like AA:BB:CC:DD:EE:FF")]
pub struct AddressError;

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or(AddressError)?, 16).map_err(|_| AddressError)?;
        }
        if parts.next().is_some() { Err(AddressError) } else { Ok(Self(octets)) }
    }
}

/// Who is at the other end of a link, as far as it says so itself.
///
/// Shape: texts of at most 64 characters, without control characters, absent where the device does not give them.
/// Units: none. Errors: none. Source: Bluetooth SIG, Device Information Service 1.1, §3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its Bluetooth address; `None` on a wire.
    pub address: Option<Address>,
    /// The name that it advertises.
    pub name: Option<String>,
    /// Manufacturer Name String (0x2A29).
    pub manufacturer: Option<String>,
    /// Model Number String (0x2A24).
    pub model: Option<String>,
    /// Serial Number String (0x2A25).
    pub serial: Option<String>,
    /// Firmware Revision String (0x2A26).
    pub firmware: Option<String>,
}

/// A device's own text, made fit to be shown: bounded, without control characters, `None` where nothing is left.
fn shown(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARACTERS_MAX).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What happened on a link: [`Event`] with its octets owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// Discovered and secured. Comes first, once.
    Up {
        /// Octets one write or notification may carry.
        mtu: u16,
        /// What the link reached.
        security: Security,
        /// What the device has.
        has: Vec<Endpoint>,
    },
    /// Octets arrived.
    Received {
        /// Where from.
        from: Endpoint,
        /// What.
        octets: Vec<u8>,
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
    /// The link ended. Comes last, once.
    Down {
        /// Why.
        reason: DownReason,
    },
}

impl Occurrence {
    /// The same, as a session takes it.
    #[must_use]
    pub fn as_event(&self) -> Event<'_> {
        match self {
            Self::Up { mtu, security, has } => Event::Up { mtu: *mtu, security: *security, has },
            Self::Received { from, octets, by } => Event::Received { from: *from, octets, by: *by },
            Self::Done { command } => Event::Done { command: *command },
            Self::Failed { command, error } => Event::Failed { command: *command, error: error.clone() },
            Self::Down { reason } => Event::Down { reason: *reason },
        }
    }

    fn octets(&self) -> usize {
        EVENT_OCTETS + if let Self::Received { octets, .. } = self { octets.len() } else { 0 }
    }
}

/// What happened, and when it was taken from the radio or the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// When.
    pub at: Moment,
    /// What.
    pub what: Occurrence,
}

/// One conversation with one device, as the holder of the session sees it.
pub struct Link {
    identity: Identity,
    events: mpsc::Receiver<LinkEvent>,
    commands: mpsc::Sender<Command>,
    clock: Clock,
    ended: bool,
}

/// The transport's end of a [`Link`]. A transport is a task that holds one and ends with it.
pub struct LinkEnd {
    /// What the session asks for, in order; `None` once the [`Link`] was dropped.
    pub commands: mpsc::Receiver<Command>,
    /// What happens on the link.
    pub outlet: Outlet,
}

/// Where a transport files what happens, and hands it over as the session takes it.
pub struct Outlet {
    events: mpsc::Sender<LinkEvent>,
    clock: Clock,
    backlog: VecDeque<LinkEvent>,
    backlog_octets: usize,
}

impl Link {
    /// A link and its other end, on which nothing has happened yet.
    #[must_use]
    pub fn new(identity: Identity, clock: Clock) -> (Self, LinkEnd) {
        let (event_sender, event_receiver) = mpsc::channel(EVENTS_MAX);
        let (command_sender, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let link = Self { identity, events: event_receiver, commands: command_sender, clock: Arc::clone(&clock), ended: false };
        let outlet = Outlet { events: event_sender, clock, backlog: VecDeque::new(), backlog_octets: 0 };
        (link, LinkEnd { commands: command_receiver, outlet })
    }

    /// Who is at the other end; known before the first event, so that the session can be opened for this model.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The next event; `None` after `Down`. Loses nothing when it is dropped before it is done.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        if self.ended {
            return None;
        }
        // A transport whose task died can say nothing more; what it had said comes first.
        let lost = || LinkEvent { at: (self.clock)(), what: Occurrence::Down { reason: DownReason::Lost } };
        let event = self.events.recv().await.unwrap_or_else(lost);
        self.ended = matches!(event.what, Occurrence::Down { .. });
        Some(event)
    }

    /// Hands a command to the device's end; waits while [`COMMANDS_MAX`] are under way. On a link that is down it does nothing:
    /// `Down` is then the next thing, or was the last, that [`Link::next`] gives.
    pub async fn carry_out(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("a command came after the link went down");
        }
    }
}

/// The session is too slow: more than [`BACKLOG_OCTETS_MAX`] wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

impl Outlet {
    /// Files what happened now.
    ///
    /// Errors: [`Overflow`]; it is filed all the same, and the transport ends the link.
    pub fn put(&mut self, what: Occurrence) -> Result<(), Overflow> {
        self.put_at(self.now(), what)
    }

    /// Files what happened at `at`.
    ///
    /// Errors: as [`Outlet::put`].
    pub fn put_at(&mut self, at: Moment, what: Occurrence) -> Result<(), Overflow> {
        self.backlog_octets += what.octets();
        self.backlog.push_back(LinkEvent { at, what });
        if self.backlog_octets > BACKLOG_OCTETS_MAX { Err(Overflow) } else { Ok(()) }
    }

    /// Whether anything is filed that [`Outlet::forward`] has not yet handed over.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Hands over one filed event when the session takes it; `false` once the [`Link`] was dropped. Loses nothing when it is
    /// dropped before it is done.
    pub async fn forward(&mut self) -> bool {
        let Ok(room) = self.events.reserve().await else { return false };
        if let Some(event) = self.backlog.pop_front() {
            self.backlog_octets -= event.what.octets();
            room.send(event);
        }
        true
    }

    /// The time of now, as events carry it.
    #[must_use]
    pub fn now(&self) -> Moment {
        (self.clock)()
    }

    /// Hands over all that is filed, then `Down`, unless the [`Link`] is dropped meanwhile.
    pub async fn finish(mut self, reason: DownReason) {
        // What is filed after an overflow is the last thing: it has its place.
        let _overflow = self.put(Occurrence::Down { reason });
        while self.is_pending() {
            if !self.forward().await {
                let dropped = self.backlog.iter().filter(|event| matches!(event.what, Occurrence::Received { .. })).count();
                if dropped > 0 {
                    tracing::warn!(dropped, "values arrived on a link that nobody listened to any more");
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Arc::new(|| Moment::from_nanos(7))
    }

    fn received(octets: usize) -> Occurrence {
        Occurrence::Received { from: Endpoint::SERIAL, octets: vec![0; octets], by: By::Serial }
    }

    #[test]
    fn an_address_reads_as_it_is_written_and_nothing_else_does() {
        let address: Address = "0a:1B:2c:3D:4e:5F".parse().unwrap();
        assert_eq!(address, Address([0x0a, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f]));
        assert_eq!(address.to_string(), "0A:1B:2C:3D:4E:5F");
        for wrong in ["", "0A:1B:2C:3D:4E", "0A:1B:2C:3D:4E:5F:60", "0A:1B:2C:3D:4E:5", "0A:1B:2C:3D:4E:+F", "0A-1B-2C-3D-4E-5F"]
        {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError), "{wrong}");
        }
    }

    #[test]
    fn a_devices_own_text_is_bounded_and_has_no_control_characters() {
        assert_eq!(shown(" 3230\u{0}\r\n").as_deref(), Some("3230"));
        assert_eq!(shown("\u{0}\u{0}"), None);
        assert_eq!(shown(&"ä".repeat(100)).unwrap().chars().count(), TEXT_CHARACTERS_MAX);
    }

    #[tokio::test]
    async fn a_slow_session_loses_nothing_up_to_the_bound_and_then_the_transport_is_told() {
        let (mut link, end) = Link::new(Identity::default(), clock());
        let mut outlet = end.outlet;
        let mut filed = 0;
        while outlet.put(received(1000)).is_ok() {
            filed += 1;
        }
        assert_eq!(filed, BACKLOG_OCTETS_MAX / (1000 + EVENT_OCTETS));
        let task = tokio::spawn(outlet.finish(DownReason::Lost));
        for _ in 0..=filed {
            assert_eq!(link.next().await.map(|event| event.what), Some(received(1000)));
        }
        assert_eq!(link.next().await.map(|event| event.what), Some(Occurrence::Down { reason: DownReason::Lost }));
        assert_eq!(link.next().await, None);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn i6_a_transport_that_dies_is_a_link_that_went_down() {
        let (mut link, mut end) = Link::new(Identity::default(), clock());
        end.outlet.put(received(1)).unwrap();
        assert!(end.outlet.forward().await);
        drop(end);
        assert_eq!(link.next().await.map(|event| event.what), Some(received(1)));
        assert_eq!(link.next().await.map(|event| event.what), Some(Occurrence::Down { reason: DownReason::Lost }));
        assert_eq!(link.next().await, None);
        link.carry_out(Command::Close).await;
    }
}
