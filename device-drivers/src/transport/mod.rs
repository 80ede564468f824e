//! What carries octets between a session and a device; only here is a radio or a port touched.
//!
//! Every transport gives a [`Link`]: events of the device come out of it, commands of the session go into it. The shell
//! that pumps the one into the other is the agent's.

use std::sync::Arc;

use kit_protocol::moment::Moment;
use tokio::sync::mpsc;

use crate::driver::{By, Command, DownReason, Endpoint, Event, LinkError, Security, Token};

/// Events that wait for the session, at most; a transport that is not read for so long waits itself.
pub const LINK_EVENTS_MAX: usize = 256;
/// Commands that wait for the transport, at most.
pub const LINK_COMMANDS_MAX: usize = 32;

/// Reads CLOCK_BOOTTIME: transports state when octets arrived, and only the agent has a clock.
pub type MomentSource = Arc<dyn Fn() -> Moment + Send + Sync>;

/// What happened, owned; [`LinkEvent::as_event`] lends it to a session.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// Discovered and secured.
    Up {
        /// Octets one write or notification may carry.
        mtu: u16,
        /// What the link reached.
        security: Security,
        /// What the device has.
        has: Vec<Endpoint>,
        /// Who the device says it is.
        about: About,
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
    Done(Token),
    /// A command failed.
    Failed(Token, LinkError),
    /// The link ended; nothing follows.
    Down(DownReason),
}

/// What a device says of itself: Device Information (0x180A), or nothing over a wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Manufacturer Name String (0x2A29).
    pub manufacturer: Option<String>,
    /// Model Number String (0x2A24).
    pub model: Option<String>,
    /// Serial Number String (0x2A25).
    pub serial: Option<String>,
    /// Firmware Revision String (0x2A26).
    pub firmware: Option<String>,
}

impl LinkEvent {
    /// As a session takes it.
    #[must_use]
    pub fn as_event(&self) -> Event<'_> {
        match self {
            Self::Up { mtu, security, has, .. } => Event::Up { mtu: *mtu, security: *security, has },
            Self::Received { from, octets, by } => Event::Received { from: *from, octets, by: *by },
            Self::Done(command) => Event::Done { command: *command },
            Self::Failed(command, error) => Event::Failed { command: *command, error: error.clone() },
            Self::Down(reason) => Event::Down { reason: *reason },
        }
    }
}

/// A connected device. Dropping it ends the connection.
#[derive(Debug)]
pub struct Link {
    /// What happens, with the moment it arrived; `Up` comes first, `Down` last.
    pub events: mpsc::Receiver<(Moment, LinkEvent)>,
    /// What the device is asked; `Close` ends the link, and `Down { reason: Closed }` follows.
    pub commands: mpsc::Sender<Command>,
}
// NOTE from the lead, please remove this line: the Link above is the agreed interface (it stands on main); build ble.rs and serial.rs to it.
