//! Who the kit is: its keys, the centre's keys, and the assignment it carries.

pub mod assignment;
pub mod keys;
pub mod memories;
pub mod origin;
pub mod secret;
pub mod tenure;

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::Config;
use crate::store::thread::StoreHandle;
use crate::store::{FREE_FLOOR_OCTETS, Kek, Options, Retention, Stamp};
use keys::{CentreKeys, KitKey};
use origin::OriginKey;
use secret::{SECRET_OCTETS, SecretError};

/// Everything that says who this kit is; cheap to clone.
#[derive(Clone)]
pub struct Identity {
    /// Signs batches and state.
    pub key: Arc<KitKey>,
    /// The centre's keys.
    pub centre: Arc<CentreKeys>,
    /// Makes origins.
    pub origins: Arc<OriginKey>,
    /// PEM of the authorities that may sign the broker's certificate.
    pub authority: Arc<[u8]>,
    /// PEM of the kit's certificate.
    pub certificate: Arc<[u8]>,
    /// DER of the kit's certificate.
    pub certificate_der: Vec<u8>,
    /// PEM of the kit's key, for TLS.
    pub key_pem: Arc<Zeroizing<Vec<u8>>>,
    kek: Arc<Zeroizing<[u8; SECRET_OCTETS]>>,
}

/// Why the kit does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file that the configuration names is not there, or is not what it should be: trying again changes nothing.
    #[error("{key}: {problem}")]
    Configured {
        /// The configuration's key, as `section.key`.
        key: &'static str,
        /// The file, and what was expected.
        problem: String,
    },
    /// The kit's own secrets cannot be read or made.
    #[error("{0}")]
    Own(String),
}

impl Identity {
    /// Reads the files that the configuration names, and makes the kit's own secrets at its first start.
    pub fn load(config: &Config) -> Result<Self, IdentityError> {
        let configured = |key| move |problem: SecretError| IdentityError::Configured { key, problem: problem.to_string() };
        let key = KitKey::load(&config.broker.key).map_err(configured("broker.key"))?;
        let key_pem = read(&config.broker.key).map_err(configured("broker.key"))?;
        let certificate = read(&config.broker.certificate).map_err(configured("broker.certificate"))?;
        let certificate_der = CertificateDer::from_pem_slice(&certificate)
            .map_err(|_| SecretError::Content(config.broker.certificate.display().to_string(), "a certificate in PEM"))
            .map_err(configured("broker.certificate"))?;
        let authority = read(&config.broker.authority).map_err(configured("broker.authority"))?;
        let centre = CentreKeys::load(&config.centre.keys).map_err(configured("centre.keys"))?;

        let own = config.state.join("identity");
        let unwritable = |error| IdentityError::Own(format!("{}: {error}; make it writable for the agent", own.display()));
        secret::make_directory(&own).map_err(unwritable)?;
        let secret = |name| secret::load_or_make(&own.join(name)).map_err(|error| IdentityError::Own(error.to_string()));
        Ok(Self {
            key: Arc::new(key),
            centre: Arc::new(centre),
            origins: Arc::new(OriginKey::new(&*secret("origin")?)),
            authority: authority.into(),
            certificate: certificate.into(),
            certificate_der: certificate_der.to_vec(),
            key_pem: Arc::new(Zeroizing::new(key_pem)),
            kek: Arc::new(secret("kek")?),
        })
    }

    /// Starts the store's thread over the kit's state directory.
    pub fn start_store(&self, config: &Config, clock: &Arc<Clock>) -> Result<StoreHandle, String> {
        let stated = Arc::clone(clock);
        let options = Options {
            dir: config.state.clone(),
            kit: config.kit.clone(),
            kek: Kek::new(**self.kek),
            boot: clock.boot_id(),
            stamp: Arc::new(move || Stamp { boottime_ns: stated.now().as_nanos(), clock: stated.stated() }),
            free_floor: FREE_FLOOR_OCTETS,
            retention: Retention::default(),
        };
        StoreHandle::start(options).map_err(|error| format!("the store's thread: {error}"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    std::fs::read(path).map_err(|error| SecretError::File(path.display().to_string(), error))
}
