//! The MQTT broker between kit and centre: rumqttd embedded in this program, or a real mosquitto.
//!
//! Both run as a process of their own (rumqttd cannot be stopped inside one), on 127.0.0.1, with TLS and client
//! certificates. [`Broker`] is the handle that starts, kills and restarts either.

pub mod embedded;
pub mod mosquitto;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use kit_protocol::uplink::id::{KitId, Tenant};

use crate::authority::Identity;
use crate::process::{Launcher, Program};

/// The largest packet a broker takes; batches end at 64 KiB, and DESIGN leaves room above.
pub const PACKET_OCTETS_MAX: usize = 256 * 1024;
/// How long a broker may take to accept connections.
const READY_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(25);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// rumqttd 0.20: nothing to install, no memory over a restart, no access control.
    Embedded,
    /// mosquitto 2 with persistence and an access list per kit.
    Mosquitto,
}

/// What a broker keeps over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// What it had written down: nothing for the embedded one.
    Kept,
    /// Nothing: its disk was wiped.
    Wiped,
}

/// Who may connect; mosquitto's access list is written from it.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    /// Kits with their tenants.
    pub kits: Vec<(KitId, Tenant)>,
    /// Common names of the centre's workers.
    pub workers: Vec<String>,
}

/// Why a broker would not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No mosquitto on this machine.
    #[error("mosquitto is not installed: `apt-get install mosquitto`, or take the embedded broker")]
    NotInstalled,
    /// A file or process failed.
    #[error("the broker could not be started: {0}")]
    Io(#[from] std::io::Error),
    /// rumqttd refused its settings.
    #[error("the embedded broker ended: {0}")]
    Embedded(String),
    /// It runs, but accepts nobody.
    #[error("the broker accepts no connection on {0}; its log says why")]
    NotReady(SocketAddr),
}

/// A broker in its own process.
pub struct Broker {
    kind: Kind,
    address: SocketAddr,
    directory: PathBuf,
    identity: Identity,
    clients: Clients,
    launcher: Launcher,
    program: Option<Program>,
}

impl Broker {
    /// Starts one on a free port, with its files in `directory`, and waits until it accepts connections.
    pub async fn start(
        kind: Kind,
        launcher: &Launcher,
        directory: PathBuf,
        identity: Identity,
        clients: &Clients,
    ) -> Result<Self, BrokerError> {
        std::fs::create_dir_all(&directory)?;
        let address = free_address()?;
        if kind == Kind::Mosquitto {
            mosquitto::configure(&directory, address, &identity, clients)?;
        }
        let mut broker =
            Self { kind, address, directory, identity, clients: clients.clone(), launcher: launcher.clone(), program: None };
        broker.resume().await?;
        Ok(broker)
    }

    /// The certificate it shows.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its process runs.
    pub fn running(&mut self) -> bool {
        self.program.as_mut().is_some_and(|program| program.ended().is_none())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// SIGTERM: a broker with persistence writes down what it has.
    pub async fn stop(&mut self, within: Duration) {
        if let Some(mut program) = self.program.take() {
            program.terminate(within).await;
        }
    }

    /// Kills it if it runs, forgets or keeps its memory, and starts it on the same port.
    pub async fn restart(&mut self, memory: Memory) -> Result<(), BrokerError> {
        self.kill();
        if memory == Memory::Wiped && self.kind == Kind::Mosquitto {
            mosquitto::wipe(&self.directory)?;
        }
        self.resume().await
    }

    /// Kills it and starts it on the same port with another certificate, its memory kept.
    pub async fn restart_as(&mut self, identity: Identity) -> Result<(), BrokerError> {
        self.kill();
        self.identity = identity;
        if self.kind == Kind::Mosquitto {
            mosquitto::configure(&self.directory, self.address, &self.identity, &self.clients)?;
        }
        self.resume().await
    }

    async fn resume(&mut self) -> Result<(), BrokerError> {
        let mut program = match self.kind {
            Kind::Embedded => self.launcher.start("broker", "broker", &embedded::arguments(self.address, &self.identity))?,
            Kind::Mosquitto => self.launcher.start("mosquitto", "broker", &mosquitto::arguments(&self.directory)?)?,
        };
        let ready = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                if program.ended().is_some() {
                    return false;
                }
                tokio::time::sleep(LOOK).await;
            }
            true
        };
        if !tokio::time::timeout(READY_WITHIN, ready).await.unwrap_or(false) {
            return Err(BrokerError::NotReady(self.address));
        }
        self.program = Some(program);
        Ok(())
    }
}

/// An address on 127.0.0.1 that nobody listened on a moment ago.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
