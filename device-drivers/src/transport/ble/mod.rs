//! Bluetooth Low Energy, through BlueZ: one [`Central`] a process, one [`Link`] a conversation.
//!
//! btleplug and its D-Bus connection live on a thread and a runtime of their own. That is what makes a Central one can be rid
//! of: the connection's task is never joined, so only the end of its runtime closes the connection, and only then does
//! bluetoothd end its discovery and its subscriptions. A subscription that nobody listens to any more is how readings are lost:
//! bluetoothd writes it again on the next link and confirms every indication to the device.
//!
//! What is known of BlueZ 5.66 and btleplug 0.13, and how this transport meets it:
//! - Values arrive as soon as a link is up, before services are resolved: the stream of values is made before the first
//!   subscription, kept as long as the Central, and listened to while connecting. What comes early is handed over after `Up`; if
//!   the device is gone again before it could be used, as a link that goes up, brings it, and goes down.
//! - A read is also told as a value: it is taken for what it is.
//! - `Connect` fails now and then with `Input/output error` right after a link ended, and waits long for a device that is
//!   silent: attempts are short and tried again, and only devices heard since their last link are tried.
//! - Some adapters fail a connection while they scan: scanning stops until the link is there. Otherwise it never does: many
//!   devices advertise for five seconds after a measurement. (With a dual-mode adapter BlueZ spends half of that time on Classic
//!   Bluetooth; `ControllerMode = le` in its main.conf mends it.)
//! - `connect` of bluez-async sometimes leaves a match rule on the bus, and a bus allows 512: a Central is worn out after
//!   [`CONNECTS_MAX`] connections, when it has no link open, and the caller opens a fresh one.
//! - Nothing tells that bluetoothd was restarted or an adapter pulled out: scanning is asked for again every
//!   [`HEALTH_PERIOD`]. If that is not refused, discovery had ended and subscriptions with it.
//!
//! A device that only advertises is never connected to: it is listened to, see [`Central::listen`].
//!
//! Pairing is not done here yet: a link reports [`Security::None`](crate::driver::Security::None).

mod air;
mod broadcast;
mod conversation;

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use self::air::Air;
pub use self::broadcast::SILENCE_MAX;
use super::{Address, Clock, Link};

/// A Central without open links is worn out after so many connections; one with open links after twice as many.
pub const CONNECTS_MAX: u32 = 200;
/// How often it is checked that bluetoothd and adapter are still there.
pub const HEALTH_PERIOD: Duration = Duration::from_secs(10);
/// bluetoothd and the adapter must answer within so long when a Central is opened.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The most calls of one Central that wait to be taken up.
const REQUESTS_MAX: usize = 16;

/// How a Central is opened.
#[derive(Clone)]
pub struct Options {
    /// The adapter, as in `hci0`; the first one without it.
    pub adapter: Option<String>,
    /// Services of the devices wanted: nothing else is reported by the adapter. Empty: everything is.
    pub services: Vec<Uuid>,
    /// The time of reception.
    pub clock: Clock,
}

/// Which device is wanted: one that advertises one of `services` and is `allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// A driver's services. Empty: any.
    pub services: Vec<Uuid>,
    /// Which of these devices.
    pub allowed: Allowed,
}

/// Which devices may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The first that is heard.
    Any,
    /// One of these.
    Addresses(Vec<Address>),
}

impl Wanted {
    /// Whether a device is meant.
    fn fits(&self, address: Address, mut services: impl Iterator<Item = Uuid>) -> bool {
        let allowed = match &self.allowed {
            Allowed::Any => true,
            Allowed::Addresses(addresses) => addresses.contains(&address),
        };
        allowed && (self.services.is_empty() || services.any(|service| self.services.contains(&service)))
    }
}

/// A device that is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its address.
    pub address: Address,
    /// The name that it advertises.
    pub name: Option<String>,
    /// What it advertises, and what it was found to have.
    pub services: Vec<Uuid>,
}

/// Why there is no Central, or no longer. In each case the way on is a fresh one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CentralError {
    /// There is no bluetoothd, no adapter or no permission: try again later, and tell a technician.
    #[error("Bluetooth is not available: {0}")]
    Unavailable(String),
    /// bluetoothd or the adapter went away while in use: try again soon.
    #[error("Bluetooth went away: {0}")]
    Gone(String),
    /// It served its time: open the next one at once.
    #[error("this connection to bluetoothd has served its time")]
    WornOut,
}

/// What is asked of the thread.
enum Request {
    Connect(Wanted, oneshot::Sender<Result<Link, CentralError>>),
    Find(Wanted, oneshot::Sender<Sighting>),
    Listen(Wanted, oneshot::Sender<Result<Link, CentralError>>),
}

/// The process's side of the radio. When it is dropped its links are closed, and its connection to bluetoothd.
pub struct Central {
    requests: mpsc::Sender<Request>,
    failure: watch::Receiver<Option<CentralError>>,
}

impl Central {
    /// Connects to bluetoothd, chooses the adapter, powers it and begins to scan. Waits until the Central that was there before
    /// has ended: two would undo what one alone sees to.
    ///
    /// Errors: [`CentralError::Unavailable`]. Must be called on a tokio runtime, which also delivers the last events of links.
    pub async fn open(options: Options) -> Result<Self, CentralError> {
        Self::open_for(options, CONNECTS_MAX).await
    }

    /// The same, worn out after `connects_max` connections.
    ///
    /// Errors: as [`Central::open`].
    pub async fn open_for(options: Options, connects_max: u32) -> Result<Self, CentralError> {
        let unavailable = |reason: String| CentralError::Unavailable(reason);
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (failing, failure) = watch::channel(None);
        let (opened, result) = oneshot::channel();
        let caller = Handle::current();
        std::thread::Builder::new()
            .name("ble".to_owned())
            .spawn(move || thread(Opening { options, connects_max, caller, failing }, inbox, opened))
            .map_err(|error| unavailable(error.to_string()))?;
        result.await.map_err(|_| unavailable("its thread ended".to_owned()))??;
        Ok(Self { requests, failure })
    }

    /// Waits until such a device is heard. It may already be in a conversation.
    ///
    /// Errors: any but [`CentralError::Unavailable`].
    pub async fn find(&self, wanted: &Wanted) -> Result<Sighting, CentralError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Find(wanted.clone(), answer)).await?;
        match answered.await {
            Ok(sighting) => Ok(sighting),
            Err(_) => Err(self.failed().await),
        }
    }

    /// Waits until such a device is heard that is in no conversation, connects, discovers and reads who it is. Devices that
    /// answer wrongly are tried again whenever they are heard. May be dropped at any time; what was begun is undone.
    ///
    /// Errors: any but [`CentralError::Unavailable`].
    pub async fn connect(&self, wanted: &Wanted) -> Result<Link, CentralError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Connect(wanted.clone(), answer)).await?;
        match answered.await {
            Ok(link) => link,
            Err(_) => Err(self.failed().await),
        }
    }

    /// Waits until such a device advertises data under one of `wanted.services`, and listens to it without connecting. The link
    /// is up for as long as that goes on; equal data comes once, however often it is repeated. No command can be carried out.
    ///
    /// Errors: any but [`CentralError::Unavailable`].
    pub async fn listen(&self, wanted: &Wanted) -> Result<Link, CentralError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Listen(wanted.clone(), answer)).await?;
        match answered.await {
            Ok(link) => link,
            Err(_) => Err(self.failed().await),
        }
    }

    async fn ask(&self, request: Request) -> Result<(), CentralError> {
        match self.requests.send(request).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failed().await),
        }
    }

    /// Waits until this Central is of no more use, and says why.
    pub async fn failed(&self) -> CentralError {
        let mut failure = self.failure.clone();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        failed.unwrap_or_else(|| CentralError::Gone("its thread ended".to_owned()))
    }
}

/// What a Central is opened with.
struct Opening {
    options: Options,
    connects_max: u32,
    caller: Handle,
    failing: watch::Sender<Option<CentralError>>,
}

/// Held while a Central lives.
static ONLY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The thread on which a Central lives; the end of its runtime closes the connection to bluetoothd.
fn thread(opening: Opening, inbox: mpsc::Receiver<Request>, opened: oneshot::Sender<Result<(), CentralError>>) {
    let unavailable = |reason: &str| CentralError::Unavailable(reason.to_owned());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(opened, CentralError::Unavailable(error.to_string())),
    };
    let Ok(only) = runtime.block_on(async { timeout(OPEN_TIMEOUT, ONLY.lock()).await }) else {
        return refuse(opened, unavailable("the one before has not ended"));
    };
    runtime.block_on(async {
        let opening = timeout(OPEN_TIMEOUT, Air::open(opening)).await;
        match opening.unwrap_or_else(|_| Err(unavailable("bluetoothd does not answer"))) {
            Ok((air, events)) => {
                if opened.send(Ok(())).is_ok() {
                    air.serve(events, inbox).await;
                }
            }
            Err(error) => refuse(opened, error),
        }
    });
    drop(runtime);
    drop(only);
}

fn refuse(opened: oneshot::Sender<Result<(), CentralError>>, error: CentralError) {
    if opened.send(Err(error)).is_err() {
        tracing::debug!("nobody waits for this Bluetooth central any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::bluetooth;

    const OURS: Address = Address([1, 2, 3, 4, 5, 6]);
    const OTHER: Address = Address([9, 9, 9, 9, 9, 9]);

    fn heard() -> impl Iterator<Item = Uuid> {
        [bluetooth(0x180a), bluetooth(0x1822)].into_iter()
    }

    #[test]
    fn i4_a_device_fits_only_with_a_driver_service_and_an_allowed_address() {
        let wanted = |services: &[u16], allowed: Allowed| {
            let services = services.iter().map(|service| bluetooth(*service)).collect();
            Wanted { services, allowed }
        };
        assert!(wanted(&[0x1822], Allowed::Any).fits(OTHER, heard()));
        assert!(wanted(&[], Allowed::Any).fits(OTHER, std::iter::empty()));
        assert!(!wanted(&[0x1809], Allowed::Any).fits(OURS, heard()));
        assert!(!wanted(&[0x1822], Allowed::Any).fits(OURS, std::iter::empty()));
        assert!(wanted(&[0x1822], Allowed::Addresses(vec![OURS])).fits(OURS, heard()));
        assert!(!wanted(&[0x1822], Allowed::Addresses(vec![OURS])).fits(OTHER, heard()));
        assert!(!wanted(&[0x1822], Allowed::Addresses(Vec::new())).fits(OURS, heard()));
    }

    #[test]
    fn a_central_that_cannot_be_opened_says_why() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Tests run where there is no system bus, or none with an adapter that has this name.
        let adapter = Some("no such adapter".to_owned());
        let clock: Clock = std::sync::Arc::new(|| kit_protocol::moment::Moment::ZERO);
        let options = Options { adapter, services: Vec::new(), clock };
        let error = runtime.block_on(Central::open(options)).err();
        assert!(matches!(error, Some(CentralError::Unavailable(_))), "{error:?}");
    }
}
