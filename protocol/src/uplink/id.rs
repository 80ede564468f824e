//! Names of things on the wire: kits, tenants, epochs, runs, nonces, lanes.

use alloc::string::{String, ToString};
use core::fmt;

use super::wire;

macro_rules! octets_id {
    ($(#[$doc:meta])* $name:ident, $octets:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $octets]);

        impl $name {
            /// Takes it from a field of the wire; `None` where the length differs.
            #[must_use]
            pub fn from_slice(octets: &[u8]) -> Option<Self> {
                octets.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut octets = [0; $octets];
                if text.len() != 2 * $octets {
                    return Err(IdError::Hex);
                }
                for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let digits = core::str::from_utf8(pair).map_err(|_| IdError::Hex)?;
                    *octet = u8::from_str_radix(digits, 16).map_err(|_| IdError::Hex)?;
                }
                Ok(Self(octets))
            }
        }
    };
}

octets_id!(
    /// One life of the outbox under one assignment, or none: 16 random octets.
    EpochId, 16
);
octets_id!(
    /// One opening of the store: 8 random octets, durable before anything was sealed under it.
    RunId, 8
);
octets_id!(
    /// One connection to the broker: 8 random octets.
    Nonce, 8
);
octets_id!(
    /// One recording of a waveform: 8 random octets.
    RecordingId, 8
);
octets_id!(
    /// One boot of the gateway: the kernel's random boot id.
    BootId, 16
);
octets_id!(
    /// First 8 octets of SHA-256 of a SubjectPublicKeyInfo.
    KeyId, 8
);
octets_id!(
    /// What makes a measurement the same one when a device sends it twice: an HMAC, no value in it.
    Origin, 8
);

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not the expected number of hexadecimal digits.
    #[error("expected hexadecimal digits of the right length")]
    Hex,
    /// A kit id that is not `[A-Z0-9-]{4,32}`.
    #[error("a kit id is 4 to 32 of A-Z, 0-9 and -")]
    Kit,
    /// A tenant that is not `[a-z0-9]{2,16}`.
    #[error("a tenant is 2 to 16 of a-z and 0-9")]
    Tenant,
}

/// A kit: MQTT client id and certificate common name, `[A-Z0-9-]{4,32}`, unique over all tenants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KitId(String);

/// A health authority, the certificate's organisation: `[a-z0-9]{2,16}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(String);

impl core::str::FromStr for KitId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'-';
        if (4..=32).contains(&text.len()) && text.bytes().all(allowed) { Ok(Self(text.to_string())) } else { Err(IdError::Kit) }
    }
}

impl core::str::FromStr for Tenant {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        if (2..=16).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_string()))
        } else {
            Err(IdError::Tenant)
        }
    }
}

impl KitId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tenant {
    /// The tenant as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stream of records with its own sequence numbers. The order is that of their share of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A limit was crossed, or the nurse marked it before the start.
    Urgent,
    /// Single values and spirometry parameters.
    Vitals,
    /// Every recording's segments.
    Waveforms,
    /// Audit, gaps, epochs, time corrections, refusals, device events.
    Journal,
}

impl Lane {
    /// Every lane, urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::Vitals, Self::Waveforms, Self::Journal];

    /// Its name in topics and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Vitals => "vitals",
            Self::Waveforms => "waveforms",
            Self::Journal => "journal",
        }
    }

    /// Its place in [`Lane::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The lane of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.name() == name)
    }

    /// The lane of a wire message; `None` for one newer than we are.
    #[must_use]
    pub fn from_wire(lane: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.to_wire() as i32 == lane)
    }

    /// As the wire names it.
    #[must_use]
    pub const fn to_wire(self) -> wire::Lane {
        match self {
            Self::Urgent => wire::Lane::Urgent,
            Self::Vitals => wire::Lane::Vitals,
            Self::Waveforms => wire::Lane::Waveforms,
            Self::Journal => wire::Lane::Journal,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
