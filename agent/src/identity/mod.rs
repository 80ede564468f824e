//! Who the kit is: its keys, the centre's keys, and the assignment it carries.

pub mod assignment;
pub mod keys;
pub mod origin;
pub mod secret;

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::Config;
use crate::store::thread::StoreHandle;
use crate::store::{FREE_FLOOR_OCTETS, Kek, Options, Stamp};
use keys::{CentreKeys, KitKey};
use origin::OriginKey;
use secret::SECRET_OCTETS;

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

impl Identity {
    /// Reads the files that the configuration names, and makes the kit's own secrets at its first start.
    pub fn load(config: &Config) -> Result<Self, String> {
        let own = config.state.join("identity");
        secret::make_directory(&own).map_err(|error| format!("{}: {error}; make it writable for the agent", own.display()))?;
        let text = |error: secret::SecretError| error.to_string();
        let key = KitKey::load(&config.broker.key).map_err(text)?;
        let certificate = read(&config.broker.certificate)?;
        let expected = || format!("{}: expected a certificate in PEM", config.broker.certificate.display());
        let certificate_der = CertificateDer::from_pem_slice(&certificate).map_err(|_| expected())?.to_vec();
        Ok(Self {
            key: Arc::new(key),
            centre: Arc::new(CentreKeys::load(&config.centre.keys).map_err(text)?),
            origins: Arc::new(OriginKey::new(&*secret::load_or_make(&own.join("origin")).map_err(text)?)),
            authority: read(&config.broker.authority)?.into(),
            certificate: certificate.into(),
            certificate_der,
            key_pem: Arc::new(Zeroizing::new(read(&config.broker.key)?)),
            kek: Arc::new(secret::load_or_make(&own.join("kek")).map_err(text)?),
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
        };
        StoreHandle::start(options).map_err(|error| format!("the store's thread: {error}"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
