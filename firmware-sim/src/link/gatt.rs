//! The trait by which a simulated BLE device meets a link: what a radio would carry, as values.
//!
//! A peripheral is pure: `now` and octets come in, what it advertises and sends comes out. The link owns the thread, calls
//! `poll` and `advertising` at least every [`POLL_PERIOD`], and never waits for the centre of the conversation to keep up.

use core::time::Duration;

use kit_protocol::moment::Moment;
use uuid::Uuid;

/// A link asks its peripherals what they want at least this often.
pub const POLL_PERIOD: Duration = Duration::from_millis(20);
/// The most octets a characteristic's value has. Source: Bluetooth Core 5.4, Vol 3 Part F §3.2.9.
pub const VALUE_OCTETS_MAX: usize = 512;

/// The UUID of a 16-bit number. Source: Bluetooth Core 5.4, Vol 3 Part B §2.5.1.
#[must_use]
pub const fn bluetooth(number: u16) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_1000_8000_0080_5f9b_34fb | ((number as u128) << 96))
}

/// What a characteristic allows. Source: Bluetooth Core 5.4, Vol 3 Part G §3.3.1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// May be read.
    pub read: bool,
    /// May be written with response.
    pub write: bool,
    /// May be written without response.
    pub write_without_response: bool,
    /// Sends unconfirmed notifications.
    pub notify: bool,
    /// Sends confirmed indications.
    pub indicate: bool,
}

impl Properties {
    /// Read only.
    pub const READ: Self = Self { read: true, ..Self::NONE };
    /// Write with response only.
    pub const WRITE: Self = Self { write: true, ..Self::NONE };
    /// Notify only.
    pub const NOTIFY: Self = Self { notify: true, ..Self::NONE };
    /// Indicate only.
    pub const INDICATE: Self = Self { indicate: true, ..Self::NONE };
    /// Nothing.
    pub const NONE: Self = Self { read: false, write: false, write_without_response: false, notify: false, indicate: false };

    /// Both what this and what `other` allows.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            write_without_response: self.write_without_response || other.write_without_response,
            notify: self.notify || other.notify,
            indicate: self.indicate || other.indicate,
        }
    }
}

/// A characteristic, as discovery shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characteristic {
    /// Its UUID, once in a service.
    pub uuid: Uuid,
    /// What it allows.
    pub properties: Properties,
    /// The least security it answers at; below it the link answers [`AttError::InsufficientAuthentication`] itself.
    pub needs_security: Security,
}

/// A primary service, as discovery shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its UUID, once on a device.
    pub uuid: Uuid,
    /// Its characteristics.
    pub characteristics: Vec<Characteristic>,
}

/// The security a link reached. Source: Bluetooth Core 5.4, Vol 3 Part C §10.2.1, LE security mode 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Level 1: nothing.
    #[default]
    None,
    /// Level 2: encrypted, Just Works.
    Unauthenticated,
    /// Levels 3 and 4: encrypted, with a passkey or numeric comparison.
    Authenticated,
}

/// How the device pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairingMethod {
    /// It does not pair at all.
    None,
    /// Just Works.
    JustWorks,
    /// It shows, or has on its label, this six-digit passkey.
    Passkey(u32),
}

/// What a device advertises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// The complete local name, where it sends one.
    pub local_name: Option<String>,
    /// Advertised services.
    pub services: Vec<Uuid>,
    /// Manufacturer data by company number.
    pub manufacturer_data: Vec<(u16, Vec<u8>)>,
    /// Service data by service.
    pub service_data: Vec<(Uuid, Vec<u8>)>,
    /// Signal strength at the gateway, dBm.
    pub rssi: i16,
}

/// What a peripheral sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// From which characteristic.
    pub characteristic: Uuid,
    /// At most [`VALUE_OCTETS_MAX`].
    pub value: Vec<u8>,
    /// An indication: the link calls [`Peripheral::confirmed`] once it was confirmed, and polls nothing more until then.
    pub confirmed: bool,
}

/// Why a peripheral refuses. Source: Bluetooth Core 5.4, Vol 3 Part F §3.4.1.1; Core Specification Supplement 11, Part B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttError {
    /// 0x02.
    #[error("read not permitted")]
    ReadNotPermitted,
    /// 0x03.
    #[error("write not permitted")]
    WriteNotPermitted,
    /// 0x05.
    #[error("insufficient authentication")]
    InsufficientAuthentication,
    /// 0x06.
    #[error("request not supported")]
    RequestNotSupported,
    /// 0x0a.
    #[error("attribute not found")]
    AttributeNotFound,
    /// 0x0d.
    #[error("invalid attribute value length")]
    InvalidLength,
    /// 0xfd.
    #[error("client characteristic configuration descriptor improperly configured")]
    NotSubscribed,
    /// 0xfe.
    #[error("procedure already in progress")]
    ProcedureInProgress,
    /// 0x80–0x9f, the profile's own.
    #[error("application error {0:#04x}")]
    Application(u8),
}

impl AttError {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ReadNotPermitted => 0x02,
            Self::WriteNotPermitted => 0x03,
            Self::InsufficientAuthentication => 0x05,
            Self::RequestNotSupported => 0x06,
            Self::AttributeNotFound => 0x0a,
            Self::InvalidLength => 0x0d,
            Self::NotSubscribed => 0xfd,
            Self::ProcedureInProgress => 0xfe,
            Self::Application(code) => code,
        }
    }
}

/// A simulated BLE device, as the radio sees it.
pub trait Peripheral: Send {
    /// The device name (0x2A00).
    fn name(&self) -> String;
    /// The public device address, most significant octet first.
    fn address(&self) -> [u8; 6];
    /// Its services.
    fn services(&self) -> Vec<Service>;
    /// How it pairs.
    fn pairing(&self) -> PairingMethod;
    /// What it advertises at `now`; `None` while it is silent, always so while connected.
    fn advertising(&mut self, now: Moment) -> Option<Advertisement>;
    /// A link to it came up; subscriptions of the link before are gone until `subscribed` says otherwise.
    fn connected(&mut self, now: Moment);
    /// The link agreed on an ATT MTU; before that it is 23.
    fn agreed_mtu(&mut self, _now: Moment, _octets: u16) {}
    /// The link ended, whoever ended it. An indication not confirmed by now never will be.
    fn disconnected(&mut self, now: Moment);
    /// A read request.
    fn read(&mut self, now: Moment, characteristic: Uuid) -> Result<Vec<u8>, AttError>;
    /// A write request or command.
    fn write(&mut self, now: Moment, characteristic: Uuid, value: &[u8]) -> Result<(), AttError>;
    /// The client characteristic configuration was written: notifications or indications on or off.
    fn subscribed(&mut self, now: Moment, characteristic: Uuid, on: bool);
    /// The last indication of this characteristic was confirmed.
    fn confirmed(&mut self, now: Moment, characteristic: Uuid);
    /// The next notification or indication to send; called until `None`.
    fn poll(&mut self, now: Moment) -> Option<Outgoing>;
    /// Whether the device hangs up now.
    fn wants_disconnect(&mut self, now: Moment) -> bool;
}
