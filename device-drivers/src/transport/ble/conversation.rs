//! One conversation with one device: connecting, discovering, and then octets both ways until the link ends.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use btleplug::api::{CharPropFlags, Characteristic, Peripheral as _, ValueNotification, WriteType};
use btleplug::platform::Peripheral;
use futures_util::{FutureExt as _, StreamExt as _};
use kit_protocol::moment::Moment;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::air::{Air, Claim, Connection, Values};
use super::{CentralError, Wanted};
use crate::driver::{By, Command, DownReason, Endpoint, LinkError, Security, Token, WRITE_OCTETS_MAX};
use crate::transport::{Address, Identity, Link, LinkEnd, Occurrence, Outlet, Overflow, shown};

/// A device that was just heard answers within so long, services resolved.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);
/// Attempts on one sighting; after them the device must be heard again.
const ATTEMPTS_MAX: u32 = 4;
/// Before the second attempt; doubled before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Listing services and characteristics, which bluetoothd has by then, takes at most so long.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// A read, a write or a subscription takes at most so long.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// bluetoothd takes 2 s to end a link.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the answer to `Disconnect` to the notice that the link is down.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);
/// What an attribute protocol packet needs for itself, octets. Source: Bluetooth Core 5.4, Vol 3 Part F §3.4.7.1.
const ATT_HEADER_OCTETS: u16 = 3;

/// Device Information: its characteristics, in the order of [`Identity`]'s fields.
const DEVICE_INFORMATION: [Endpoint; 4] = [
    Endpoint::gatt(0x180a, 0x2a29),
    Endpoint::gatt(0x180a, 0x2a24),
    Endpoint::gatt(0x180a, 0x2a25),
    Endpoint::gatt(0x180a, 0x2a26),
];

/// A value with the moment of its reception.
type Early = (Moment, ValueNotification);

/// What a device turned out to have.
struct Found {
    characteristics: HashMap<Endpoint, Characteristic>,
    has: Vec<Endpoint>,
    mtu: u16,
    identity: Identity,
}

impl Found {
    /// How a characteristic sends; `None` where it does not by itself. BlueZ prefers notifications where there are both.
    fn by(&self, endpoint: Endpoint) -> Option<By> {
        let properties = self.characteristics.get(&endpoint)?.properties;
        if properties.contains(CharPropFlags::NOTIFY) {
            Some(By::Notification)
        } else {
            properties.contains(CharPropFlags::INDICATE).then_some(By::Indication)
        }
    }
}

/// A claimed device and its values.
struct Conversation {
    air: Arc<Air>,
    claim: Claim,
    values: Values,
    connection: watch::Receiver<Connection>,
    /// How many links had ended when this one began.
    losses: u64,
    /// Values that came while connecting.
    early: VecDeque<Early>,
}

/// Gives `answer` one link to a device that is wanted, and serves it to its end.
pub(super) async fn serve(air: Arc<Air>, wanted: Wanted, mut answer: oneshot::Sender<Result<Link, CentralError>>) {
    // Values of links that ended before anybody could take them, by device. They go to this caller or to nobody: another may
    // come when the device is with another patient.
    let mut kept: HashMap<Address, VecDeque<Early>> = HashMap::new();
    loop {
        let claim = tokio::select! {
            claim = air.claim(&wanted) => claim,
            () = answer.closed() => return dropped(kept.values().map(VecDeque::len).sum()),
            error = air.failed() => {
                // Whoever asked may have gone.
                let _gone = answer.send(Err(error));
                return;
            }
        };
        let address = claim.address;
        let early = kept.remove(&address).unwrap_or_default();
        let mut conversation = match Conversation::begin(&air, claim, early).await {
            Ok(conversation) => conversation,
            Err(error) => {
                air.fail(CentralError::Gone(error.to_string()));
                continue;
            }
        };
        let found = tokio::select! {
            found = conversation.bring_up() => found,
            () = answer.closed() => return dropped(conversation.undo().await.len()),
            _ = air.failed() => Err("Bluetooth went away".to_owned()),
        };
        match found {
            Ok(found) => {
                let (link, end) = Link::new(found.identity.clone(), Arc::clone(&air.clock));
                if answer.send(Ok(link)).is_err() {
                    return dropped(conversation.undo().await.len());
                }
                return conversation.run(end, &found).await;
            }
            Err(reason) => {
                tracing::debug!(%address, reason, "no conversation with this device; waiting to hear it again");
                kept.insert(address, conversation.undo().await);
            }
        }
    }
}

fn dropped(values: usize) {
    if values > 0 {
        tracing::warn!(values, "values came on a link that nobody took");
    }
}

impl Conversation {
    /// Sees to it that values are listened to before there can be any.
    async fn begin(air: &Arc<Air>, mut claim: Claim, early: VecDeque<Early>) -> Result<Self, btleplug::Error> {
        let values = match claim.values.take() {
            Some(values) => values,
            None => claim.peripheral.notifications().await?,
        };
        let connection = claim.connection.clone();
        let losses = connection.borrow().losses;
        Ok(Self { air: Arc::clone(air), claim, values, connection, losses, early })
    }

    /// Awaits `work` and keeps the values that come meanwhile.
    async fn hold<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(value) = self.values.next() => self.early.push_back(((self.air.clock)(), value)),
                outcome = &mut work => return outcome,
            }
        }
    }

    /// Connects and discovers, with some patience.
    async fn bring_up(&mut self) -> Result<Found, String> {
        let mut delay = RETRY_DELAY;
        for attempt in 1.. {
            match self.attempt().await {
                Ok(found) => return Ok(found),
                Err(reason) if attempt == ATTEMPTS_MAX => return Err(reason),
                Err(reason) => tracing::debug!(address = %self.claim.address, attempt, reason, "connecting failed"),
            }
            self.disconnect().await;
            self.hold(sleep(delay)).await;
            delay *= 2;
        }
        Err("not tried".to_owned())
    }

    async fn attempt(&mut self) -> Result<Found, String> {
        self.air.count_connect().map_err(|error| error.to_string())?;
        self.losses = self.connection.borrow().losses;
        let (air, peripheral, connection) = (Arc::clone(&self.air), self.claim.peripheral.clone(), self.connection.clone());
        self.hold(connect(&air, &peripheral, connection)).await?;
        let discovering = peripheral.discover_services_with_timeout(DISCOVER_TIMEOUT);
        self.hold(discovering).await.map_err(|error| error.to_string())?;
        let mut found = Found {
            has: Vec::new(),
            characteristics: HashMap::new(),
            mtu: peripheral.mtu().saturating_sub(ATT_HEADER_OCTETS),
            identity: Identity { address: Some(self.claim.address), name: self.claim.name.clone(), ..Identity::default() },
        };
        for characteristic in peripheral.characteristics() {
            let endpoint = Endpoint { service: characteristic.service_uuid, characteristic: characteristic.uuid };
            found.has.push(endpoint);
            found.characteristics.insert(endpoint, characteristic);
        }
        let [manufacturer, model, serial, firmware] = self.device_information(&found).await;
        found.identity = Identity { manufacturer, model, serial, firmware, ..found.identity };
        if self.connection.borrow().losses == self.losses { Ok(found) } else { Err("the link was lost".to_owned()) }
    }

    async fn device_information(&mut self, found: &Found) -> [Option<String>; 4] {
        let mut texts = [const { None }; 4];
        for (text, endpoint) in texts.iter_mut().zip(DEVICE_INFORMATION) {
            let readable = |characteristic: &&Characteristic| characteristic.properties.contains(CharPropFlags::READ);
            if let Some(characteristic) = found.characteristics.get(&endpoint).filter(readable) {
                let peripheral = self.claim.peripheral.clone();
                let read = self.hold(timeout(OPERATION_TIMEOUT, peripheral.read(characteristic))).await;
                *text = read.ok().and_then(Result::ok).and_then(|octets| shown(&String::from_utf8_lossy(&octets)));
            }
        }
        texts
    }

    /// Ends the link, or the attempt at one.
    async fn disconnect(&mut self) {
        let peripheral = self.claim.peripheral.clone();
        let (mut connection, losses) = (self.connection.clone(), self.losses);
        self.hold(async move {
            let was_up = connection.borrow().up;
            match timeout(DISCONNECT_TIMEOUT, peripheral.disconnect()).await {
                Ok(Ok(())) if was_up => {
                    // bluetoothd answers a moment before it tells that the link is down.
                    let _late = timeout(NOTICE_TIMEOUT, connection.wait_for(|now| now.losses != losses)).await;
                }
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "disconnecting failed"),
                Err(_) => tracing::debug!("disconnecting took too long"),
            }
        })
        .await;
    }

    /// Undoes what was begun and gives the device back; what it had sent meanwhile, and been told was received, is left.
    async fn undo(mut self) -> VecDeque<Early> {
        self.disconnect().await;
        self.drain();
        let early = std::mem::take(&mut self.early);
        let air = Arc::clone(&self.air);
        self.give_back();
        air.listen().await;
        early
    }

    /// Takes what has arrived and not been looked at. Values come before the notice that their link is down.
    fn drain(&mut self) {
        while let Some(Some(value)) = self.values.next().now_or_never() {
            self.early.push_back(((self.air.clock)(), value));
        }
    }

    /// Gives the device back with its values, for the next conversation.
    fn give_back(mut self) {
        self.claim.values = Some(self.values);
    }

    /// Serves the link to its end; the last events are delivered from the caller's runtime.
    async fn run(mut self, end: LinkEnd, found: &Found) {
        let LinkEnd { mut commands, outlet } = end;
        let mut exchange = Exchange { found, outlet, running: None, reading: None };
        let up = Occurrence::Up { mtu: found.mtu, security: Security::None, has: found.has.clone() };
        let mut filed = exchange.outlet.put(up);
        let reason = loop {
            if let Err(Overflow) = filed.and_then(|()| exchange.take_all(&mut self.early)) {
                tracing::warn!(address = %self.claim.address, "the session is too slow; the link is ended");
                break DownReason::Lost;
            }
            let (outlet, running) = (&mut exchange.outlet, &mut exchange.running);
            filed = tokio::select! {
                biased;
                open = outlet.forward(), if outlet.is_pending() => match open {
                    true => Ok(()),
                    false => break DownReason::Closed,
                },
                value = self.values.next() => match value {
                    Some(value) => exchange.take((self.air.clock)(), value),
                    None => break DownReason::Lost,
                },
                () = lost(&mut self.connection, self.losses) => break DownReason::Lost,
                _ = self.air.failed() => break DownReason::Lost,
                answered = answer(running), if running.is_some() => {
                    self.drain();
                    exchange.take_all(&mut self.early).and(exchange.answered(answered))
                }
                command = commands.recv(), if running.is_none() => match command {
                    Some(Command::Close) | None => break DownReason::Closed,
                    Some(command) => exchange.start(&self.claim.peripheral, command),
                },
            };
        };
        self.end(exchange, reason).await;
    }

    /// Ends the link if it is up and delivers what came until then.
    async fn end(mut self, mut exchange: Exchange<'_>, reason: DownReason) {
        if self.connection.borrow().losses == self.losses {
            self.disconnect().await;
        }
        self.drain();
        exchange.running = None;
        // What is filed after an overflow came before the link was down: it has its place.
        let _overflow = exchange.take_all(&mut self.early).and_then(|()| exchange.release(None));
        self.air.caller.spawn(exchange.outlet.finish(reason));
        self.give_back();
    }
}

/// Connects and waits until services are resolved. Scanning stops until the link is there.
async fn connect(air: &Air, peripheral: &Peripheral, mut connection: watch::Receiver<Connection>) -> Result<(), String> {
    let losses = connection.borrow().losses;
    let quiet = air.quiet().await;
    let mut attempt = std::pin::pin!(peripheral.connect_with_timeout(CONNECT_TIMEOUT));
    let early = tokio::select! {
        outcome = &mut attempt => Some(outcome),
        _ = connection.wait_for(|now| now.up) => None,
    };
    air.resume(quiet).await;
    let outcome = match early {
        Some(outcome) => outcome,
        None => tokio::select! {
            outcome = &mut attempt => outcome,
            () = lost(&mut connection, losses) => return Err("the link was lost at once".to_owned()),
        },
    };
    outcome.map_err(|error| error.to_string())
}

/// Waits until more links have ended than `losses`.
async fn lost(connection: &mut watch::Receiver<Connection>, losses: u64) {
    if connection.wait_for(|now| now.losses != losses).await.is_err() {
        tracing::debug!("the device was forgotten with its link");
    }
}

/// What a command came to.
struct Answered {
    command: Token,
    outcome: Result<Option<Vec<u8>>, LinkError>,
}

type Running = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Awaits the command that is under way. It is not under way any more afterwards.
async fn answer(running: &mut Option<Running>) -> Answered {
    match running {
        Some(work) => {
            let answered = work.await;
            *running = None;
            answered
        }
        None => std::future::pending().await,
    }
}

/// Octets with the moment of their reception.
type Stamped = (Moment, Vec<u8>);

/// The traffic of a link that is up: one command at a time, values as they come.
struct Exchange<'f> {
    found: &'f Found,
    outlet: Outlet,
    running: Option<Running>,
    /// The characteristic that is being read, with the values of it that came meanwhile: one of them may be the answer, which
    /// bluetoothd also tells as a value.
    reading: Option<(Endpoint, Vec<Stamped>)>,
}

impl Exchange<'_> {
    fn take_all(&mut self, values: &mut VecDeque<Early>) -> Result<(), Overflow> {
        // Every value is filed, also past an overflow.
        let mut filed = Ok(());
        for (at, value) in values.drain(..) {
            filed = self.take(at, value).and(filed);
        }
        filed
    }

    /// Files a value. What does not send by itself was read.
    fn take(&mut self, at: Moment, value: ValueNotification) -> Result<(), Overflow> {
        let from = Endpoint { service: value.service_uuid, characteristic: value.uuid };
        let Some(by) = self.found.by(from) else { return Ok(()) };
        match &mut self.reading {
            Some((reading, meanwhile)) if *reading == from => {
                meanwhile.push((at, value.value));
                Ok(())
            }
            _ => self.outlet.put_at(at, Occurrence::Received { from, octets: value.value, by }),
        }
    }

    /// Files the values that waited for a read to be answered, without the answer itself.
    fn release(&mut self, answer: Option<&[u8]>) -> Result<(), Overflow> {
        let Some((from, mut meanwhile)) = self.reading.take() else { return Ok(()) };
        let Some(by) = self.found.by(from) else { return Ok(()) };
        let echo = answer.and_then(|answer| meanwhile.iter().position(|(_, octets)| octets == answer));
        if let Some(echo) = echo {
            meanwhile.remove(echo);
        }
        let mut filed = Ok(());
        for (at, octets) in meanwhile {
            filed = self.outlet.put_at(at, Occurrence::Received { from, octets, by }).and(filed);
        }
        filed
    }

    /// Files what a command came to.
    fn answered(&mut self, answered: Answered) -> Result<(), Overflow> {
        let from = self.reading.as_ref().map(|(endpoint, _)| *endpoint);
        let octets = answered.outcome.as_ref().ok().and_then(Option::as_deref);
        let mut filed = self.release(octets);
        let command = answered.command;
        let done = match answered.outcome {
            Ok(octets) => {
                if let (Some(from), Some(octets)) = (from, octets) {
                    filed = self.outlet.put(Occurrence::Received { from, octets, by: By::Read }).and(filed);
                }
                Occurrence::Done { command }
            }
            Err(error) => Occurrence::Failed { command, error },
        };
        self.outlet.put(done).and(filed)
    }

    /// Begins a command.
    fn start(&mut self, peripheral: &Peripheral, command: Command) -> Result<(), Overflow> {
        let peripheral = peripheral.clone();
        let refuse = |command, error| Occurrence::Failed { command, error };
        let at = |endpoint: Endpoint| self.found.characteristics.get(&endpoint).cloned().ok_or(LinkError::NoEndpoint(endpoint));
        let refused = match command {
            Command::Subscribe(command, endpoint) => match at(endpoint) {
                Ok(characteristic) => {
                    self.running = Some(run(command, async move { peripheral.subscribe(&characteristic).await.map(|()| None) }));
                    return Ok(());
                }
                Err(error) => refuse(command, error),
            },
            Command::Read(command, endpoint) => match at(endpoint) {
                Ok(characteristic) => {
                    self.running = Some(run(command, async move { peripheral.read(&characteristic).await.map(Some) }));
                    self.reading = Some((endpoint, Vec::new()));
                    return Ok(());
                }
                Err(error) => refuse(command, error),
            },
            Command::Write { token, to, octets, response } => {
                let room = if response { WRITE_OCTETS_MAX } else { WRITE_OCTETS_MAX.min(usize::from(self.found.mtu)) };
                let kind = if response { WriteType::WithResponse } else { WriteType::WithoutResponse };
                match at(to) {
                    Ok(_) if octets.len() > room => {
                        refuse(token, LinkError::Refused(format!("{} octets, at most {room} fit", octets.len())))
                    }
                    Ok(characteristic) => {
                        let work = async move { peripheral.write(&characteristic, &octets, kind).await.map(|()| None) };
                        self.running = Some(run(token, work));
                        return Ok(());
                    }
                    Err(error) => refuse(token, error),
                }
            }
            Command::Port(command, _) => refuse(command, LinkError::Refused("this is not a serial port".to_owned())),
            Command::Close => return Ok(()),
        };
        self.outlet.put(refused)
    }
}

/// A command's work, bounded in time.
fn run(command: Token, work: impl Future<Output = btleplug::Result<Option<Vec<u8>>>> + Send + 'static) -> Running {
    Box::pin(async move {
        let outcome = match timeout(OPERATION_TIMEOUT, work).await {
            Ok(outcome) => outcome.map_err(|error| LinkError::Refused(error.to_string())),
            Err(_) => Err(LinkError::Timeout),
        };
        Answered { command, outcome }
    })
}
