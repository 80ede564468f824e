//! A kit, a broker and a centre for a benchmark: certificates made on the spot, the broker and the centre in processes of
//! their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kit_agent::clock::Clock;
use kit_agent::identity::keys::{CentreKeys, KitKey};
use kit_agent::identity::origin::OriginKey;
use kit_agent::store::outbox::ReadLimit;
use kit_agent::store::thread::StoreHandle;
use kit_agent::store::{Kek, Options, Retention, Stamp};
use kit_agent::sync::batch::{self, Built, Frame};
use kit_agent::sync::state::About;
use kit_agent::sync::status::SyncStatus;
use kit_agent::sync::{SyncContext, tls};
use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{KitId, Lane, Nonce, Tenant};
use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::SignedType;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::{Notify, mpsc, watch};

use super::Failure;
use crate::authority::{Authority, Identity, SigningKey, Validity};
use crate::broker::{Broker, Clients, Kind, mosquitto};
use crate::process::{Launcher, Program};

/// The kit of every benchmark; as long as ids are in practice.
pub const KIT: &str = "KIT-0001";
const TENANT: &str = "centro";
const WORKER: &str = "centre-1";
/// The assignment's id, where one is active.
pub const ASSIGNMENT: &str = "assignment-1";
/// How long a program that ends by itself may take.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A kit with its files, and a broker.
pub struct Kit {
    directory: PathBuf,
    launcher: Launcher,
    id: KitId,
    tenant: Tenant,
    identity: Identity,
    signing: SigningKey,
    centre: Identity,
    broker: Broker,
}

impl Kit {
    /// Makes everything in `directory` and starts the broker: mosquitto where there is one, unless `kind` says which.
    pub async fn start(directory: &Path, kind: Option<&str>) -> Result<Self, Failure> {
        let kind = match kind {
            Some("embedded") => Kind::Embedded,
            Some("mosquitto") => Kind::Mosquitto,
            Some(other) => return Err(format!("--broker {other}: expected embedded or mosquitto").into()),
            None if mosquitto::find().is_some() => Kind::Mosquitto,
            None => Kind::Embedded,
        };
        let launcher = Launcher::new(std::env::current_exe()?, directory.join("logs"));
        let (id, tenant): (KitId, Tenant) = (KIT.parse()?, TENANT.parse()?);
        let authority = Authority::new(&directory.join("authority"), "authority")?;
        let clients = Clients { kits: vec![(id.clone(), tenant.clone())], workers: vec![WORKER.to_owned()] };
        let of_the_broker = authority.broker(Validity::Current)?;
        let kit = Self {
            broker: Broker::start(kind, &launcher, directory.join("broker"), of_the_broker, &clients).await?,
            identity: authority.kit(&id, &tenant, Validity::Current)?,
            signing: authority.signing_key("signing")?,
            centre: authority.centre(WORKER)?,
            directory: directory.to_path_buf(),
            launcher,
            id,
            tenant,
        };
        kit.configure_centre()?;
        Ok(kit)
    }

    /// The broker, in words.
    #[must_use]
    pub fn broker_name(&self) -> &'static str {
        match self.broker.kind() {
            Kind::Embedded => "rumqttd (embedded)",
            Kind::Mosquitto => "mosquitto 2, persistence on",
        }
    }

    /// Where the broker listens.
    #[must_use]
    pub fn broker(&self) -> std::net::SocketAddr {
        self.broker.address()
    }

    /// What starts programs out of this one.
    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    fn configure_centre(&self) -> Result<(), Failure> {
        let Identity { certificate, key, authority, .. } = &self.centre;
        std::fs::create_dir_all(self.directory.join("centre"))?;
        let text = format!(
            "database = \"{directory}/centre/centre.db\"\ntenants = [\"{TENANT}\"]\n\
             [broker]\nhost = \"localhost\"\nport = {port}\nauthority = \"{authority}\"\ncertificate = \"{certificate}\"\n\
             key = \"{key}\"\n[kits]\nauthority = \"{authority}\"\n[signing]\nkey = \"{signing}\"\n",
            directory = self.directory.display(),
            port = self.broker.address().port(),
            authority = authority.display(),
            certificate = certificate.display(),
            key = key.display(),
            signing = self.signing.key.display(),
        );
        Ok(std::fs::write(self.centre_configuration(), text)?)
    }

    fn centre_configuration(&self) -> PathBuf {
        self.directory.join("centre.toml")
    }

    /// Starts the centre.
    pub fn start_centre(&self) -> Result<Program, Failure> {
        let configuration = self.centre_configuration();
        Ok(self.launcher.start("centre", "centre", &["run".as_ref(), "--config".as_ref(), configuration.as_os_str()])?)
    }

    /// Lets the centre sign an assignment, and gives its document.
    pub async fn assignment(&self) -> Result<PathBuf, Failure> {
        let document = self.directory.join("assignment");
        let (out, configuration) = (document.display().to_string(), self.centre_configuration().display().to_string());
        let arguments = ["assign", KIT, "--out", &out, "--config", &configuration, "--patient", "patient-1", "--id", ASSIGNMENT];
        let mut program = self.launcher.start("centre", "assign", &arguments)?;
        match program.wait(END_WITHIN).await {
            Some(status) if status.success() => Ok(document),
            _ => Err(format!("the centre signed no assignment; see {}", self.launcher.log("assign").display()).into()),
        }
    }

    /// The agent's configuration, without devices; `state` is its directory and `socket` its local API's.
    #[must_use]
    pub fn agent_configuration(&self, state: &Path, socket: &Path) -> String {
        format!(
            "kit = \"{KIT}\"\ntenant = \"{TENANT}\"\nstate = \"{state}\"\nsocket = \"{socket}\"\n\
             [broker]\nhost = \"localhost\"\nport = {port}\nauthority = \"{authority}\"\ncertificate = \"{certificate}\"\n\
             key = \"{key}\"\n[centre]\nkeys = [\"{centre}\"]\n",
            state = state.display(),
            socket = socket.display(),
            port = self.broker.address().port(),
            authority = self.identity.authority.display(),
            certificate = self.identity.certificate.display(),
            key = self.identity.key.display(),
            centre = self.signing.public.display(),
        )
    }

    /// A client's TLS as the agent has it.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let read = |path: &Path| std::fs::read(path);
        let (authority, certificate) = (read(&self.identity.authority)?, read(&self.identity.certificate)?);
        Ok(tls::client_config(&authority, &certificate, &read(&self.identity.key)?, Arc::new(Clock::of_this_boot()))?)
    }

    /// Everything sync needs, and where it shows what it does. It connects to `localhost` on `port`.
    pub fn sync(
        &self,
        store: &StoreHandle,
        port: u16,
    ) -> Result<(SyncContext<StoreHandle>, watch::Receiver<SyncStatus>), Failure> {
        let clock = Arc::new(Clock::of_this_boot());
        let random = Arc::new(OriginKey::new(&[3; 32]));
        let certificate = std::fs::read(&self.identity.certificate)?;
        let certificate = CertificateDer::from_pem_slice(&certificate).map_err(|_| "no certificate in the kit's file")?;
        let (status, shown) = watch::channel(SyncStatus::default());
        let context = SyncContext {
            tenant: self.tenant.clone(),
            kit: self.id.clone(),
            host: "localhost".to_owned(),
            port,
            tls: watch::channel(self.tls()?).1,
            about: About { version: "0".to_owned(), boot_id: clock.boot_id(), certificate: certificate.to_vec() },
            shelf: store.clone(),
            devices: watch::channel(Vec::new()).1,
            clock: Arc::new(move || clock.stated()),
            now: Arc::new(kit_agent::clock::now as fn() -> Moment),
            nonce: Arc::new(move || Nonce(random.random_octets())),
            signer: Arc::new(KitKey::load(&self.identity.key)?),
            verifier: Arc::new(CentreKeys::load(std::slice::from_ref(&self.signing.public))?),
            assignments: mpsc::channel(1).0,
            interface_up: Arc::new(Notify::new()),
            jitter_seed: 1,
            status,
        };
        Ok((context, shown))
    }

    /// The topic of a lane.
    #[must_use]
    pub fn topic(&self, lane: Lane) -> String {
        Topic::Up(self.tenant.clone(), self.id.clone(), lane).name()
    }

    /// Everything that waits in a lane, as the batches that sync would build of it, signed: at most `records` in each, and at
    /// most as many octets as `octets_max` says of the batch by that number.
    pub async fn batches(
        &self,
        store: &StoreHandle,
        lane: Lane,
        records: usize,
        octets_max: impl Fn(usize) -> usize,
    ) -> Result<Vec<Batch>, Failure> {
        let key = KitKey::load(&self.identity.key)?;
        let topic = self.topic(lane);
        let epoch = store.view().borrow().epochs.last().ok_or("the store has no epoch")?.epoch;
        let (mut from, mut batches) = (1, Vec::new());
        loop {
            let octets_max = octets_max(batches.len());
            let frame = Frame { epoch, lane, nonce: Nonce([7; 8]), topic_octets: topic.len(), octets_max };
            let limit = ReadLimit { octets: frame.payload_octets(), records, before: u64::MAX };
            let chunk = store.read(epoch, lane, from, limit).await?;
            let Some(Built { batch, spans, .. }) = batch::build(chunk, &frame) else { return Ok(batches) };
            from = spans.last().map_or(from, |(_, last)| *last) + 1;
            let payload = signed::seal(&key, SignedType::Batch, &topic, &batch)?;
            batches.push(Batch { topic: topic.clone(), records: batch.entries.len(), payload: payload.into() });
        }
    }
}

/// A batch as it is published.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its topic.
    pub topic: String,
    /// Its records.
    pub records: usize,
    /// The signed envelope.
    pub payload: Bytes,
}

/// A store in `directory`, open for appends.
pub async fn store(directory: &Path) -> Result<StoreHandle, Failure> {
    let clock = Arc::new(Clock::of_this_boot());
    let boot = clock.boot_id();
    let store = StoreHandle::start(Options {
        dir: directory.to_path_buf(),
        kit: KIT.parse()?,
        kek: Kek::new([5; 32]),
        boot,
        stamp: Arc::new(move || Stamp { boottime_ns: clock.now().as_nanos(), clock: clock.stated() }),
        free_floor: 0,
        retention: Retention::default(),
    })?;
    store.view().wait_for(|view| view.trouble.is_none()).await?;
    Ok(store)
}
