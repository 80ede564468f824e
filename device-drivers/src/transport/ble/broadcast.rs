//! A device that only advertises: nobody connects to it, and what it says it repeats.
//!
//! Only what bluetoothd tells as it is heard counts. What it merely remembers of a device, from before this process or from an
//! earlier weighing, never becomes an event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kit_protocol::moment::Moment;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::sleep;
use uuid::Uuid;

use super::air::Air;
use super::{CentralError, Wanted};
use crate::driver::{By, Command, DownReason, Endpoint, LinkError, Security};
use crate::transport::{Address, Identity, Link, LinkEnd, Occurrence, Outlet, Overflow};

/// The most advertisements that wait for those who listen; beyond it the oldest go, and each is repeated anyhow.
pub(super) const ADVERTS_MAX: usize = 64;
/// A device that has been silent for so long has gone. Scanning stops for up to 12 s while another device is connected.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Services of one device whose data is kept for comparison, at most.
const SERVICES_MAX: usize = 8;
/// An advertisement is not written to, and carries 31 octets at most. Source: Bluetooth Core 5.4, Vol 6 Part B §2.3.1.3.
const MTU: u16 = 31;

/// What a device advertised.
pub(super) struct Advert {
    /// Whose address it bore: nothing proves that it is right.
    pub(super) address: Address,
    /// The name that the device advertises.
    pub(super) name: Option<String>,
    /// When it was heard.
    pub(super) at: Moment,
    /// By service.
    pub(super) data: BTreeMap<Uuid, Vec<u8>>,
}

/// Gives `answer` one link to a device that is wanted, and serves it until the device is silent.
pub(super) async fn serve(air: Arc<Air>, wanted: Wanted, mut answer: oneshot::Sender<Result<Link, CentralError>>) {
    let mut listener = Listener { wanted, adverts: air.adverts() };
    let first = tokio::select! {
        first = listener.next() => first,
        () = answer.closed() => return,
        error = air.failed() => {
            // Whoever asked may have gone.
            let _gone = answer.send(Err(error));
            return;
        }
    };
    let identity = Identity { address: Some(first.address), name: first.name.clone(), ..Identity::default() };
    let (link, end) = Link::new(identity, Arc::clone(&air.clock));
    if answer.send(Ok(link)).is_err() {
        return;
    }
    let LinkEnd { commands, mut outlet } = end;
    let reason = tokio::select! {
        reason = listener.follow(&first, commands, &mut outlet) => reason,
        _ = air.failed() => DownReason::Lost,
    };
    air.caller.spawn(outlet.finish(reason));
}

/// Who listens to which device.
struct Listener {
    wanted: Wanted,
    adverts: broadcast::Receiver<Arc<Advert>>,
}

impl Listener {
    /// What a device that is wanted advertises next.
    async fn next(&mut self) -> Arc<Advert> {
        loop {
            match self.adverts.recv().await {
                Ok(advert) if self.wanted.fits(advert.address, advert.data.keys().copied()) => return advert,
                // Those that were passed over are repeated.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Files what changes until the device is silent; why it ended.
    async fn follow(&mut self, first: &Advert, mut commands: mpsc::Receiver<Command>, outlet: &mut Outlet) -> DownReason {
        let advertised = |service: &Uuid| Endpoint::advertised(*service);
        let has = first.data.keys().filter(|service| self.wanted.services.contains(service)).map(advertised).collect();
        let mut said = BTreeMap::new();
        let up = outlet.put_at(first.at, Occurrence::Up { mtu: MTU, security: Security::None, has });
        let mut filed = up.and(self.file(first, &mut said, outlet));
        let mut silence = std::pin::pin!(sleep(SILENCE_MAX));
        loop {
            if filed.is_err() {
                tracing::warn!(address = %first.address, "the session is too slow; it is not listened to any more");
                return DownReason::Lost;
            }
            filed = tokio::select! {
                biased;
                open = outlet.forward(), if outlet.is_pending() => match open {
                    true => Ok(()),
                    false => return DownReason::Closed,
                },
                advert = self.next() => {
                    silence.set(sleep(SILENCE_MAX));
                    self.file(&advert, &mut said, outlet)
                }
                command = commands.recv() => match command {
                    Some(Command::Close) | None => return DownReason::Closed,
                    Some(command) => outlet.put(impossible(&command)),
                },
                () = &mut silence => return DownReason::Lost,
            };
        }
    }

    /// Files what a device advertises, where that is not what it said last.
    fn file(&self, advert: &Advert, said: &mut BTreeMap<Uuid, Vec<u8>>, outlet: &mut Outlet) -> Result<(), Overflow> {
        for (service, octets) in advert.data.iter().filter(|(service, _)| self.wanted.services.contains(service)) {
            if said.get(service) == Some(octets) || (said.len() >= SERVICES_MAX && !said.contains_key(service)) {
                continue;
            }
            said.insert(*service, octets.clone());
            let from = Endpoint::advertised(*service);
            outlet.put_at(advert.at, Occurrence::Received { from, octets: octets.clone(), by: By::Advertisement })?;
        }
        Ok(())
    }
}

/// Nothing can be asked of a device that nobody is connected to.
fn impossible(command: &Command) -> Occurrence {
    let (command, error) = match command {
        Command::Subscribe(token, endpoint) | Command::Read(token, endpoint) => (*token, LinkError::NoEndpoint(*endpoint)),
        Command::Write { token, to, .. } => (*token, LinkError::NoEndpoint(*to)),
        Command::Port(token, _) => (*token, LinkError::Refused("this is not a serial port".to_owned())),
        Command::Close => return Occurrence::Down { reason: DownReason::Closed },
    };
    Occurrence::Failed { command, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Token, bluetooth};
    use crate::transport::Clock;
    use crate::transport::ble::Allowed;

    const OURS: Address = Address([1, 2, 3, 4, 5, 6]);
    const STRANGER: Address = Address([9, 9, 9, 9, 9, 9]);
    const SCALE: Uuid = bluetooth(0x181d);

    fn advert(address: Address, second: u64, service: Uuid, octet: u8) -> Arc<Advert> {
        let data = BTreeMap::from([(service, vec![octet])]);
        Arc::new(Advert { address, name: None, at: Moment::from_nanos(second * 1_000_000_000), data })
    }

    fn listener(adverts: &broadcast::Sender<Arc<Advert>>) -> Listener {
        let wanted = Wanted { services: vec![SCALE], allowed: Allowed::Addresses(vec![OURS]) };
        Listener { wanted, adverts: adverts.subscribe() }
    }

    fn received(octet: u8) -> Occurrence {
        Occurrence::Received { from: Endpoint::advertised(SCALE), octets: vec![octet], by: By::Advertisement }
    }

    /// Plays adverts, each so many seconds after the one before, and commands; what the session's end sees, with its moments.
    async fn heard(adverts: Vec<(u64, Arc<Advert>)>, orders: Vec<Command>) -> Vec<(u64, Occurrence)> {
        let air = broadcast::Sender::new(ADVERTS_MAX);
        let mut listener = listener(&air);
        let clock: Clock = Arc::new(|| Moment::ZERO);
        let (mut link, end) = Link::new(Identity::default(), clock);
        let LinkEnd { commands, mut outlet } = end;
        let play = async {
            for (after, advert) in adverts {
                sleep(Duration::from_secs(after)).await;
                assert!(air.send(advert).is_ok(), "it listens");
            }
            for order in orders {
                link.carry_out(order).await;
            }
            let mut events = Vec::new();
            while let Some(event) = link.next().await {
                events.push((event.at.as_nanos() / 1_000_000_000, event.what));
            }
            events
        };
        let serve = async {
            let first = listener.next().await;
            let reason = listener.follow(&first, commands, &mut outlet).await;
            outlet.finish(reason).await;
        };
        tokio::join!(play, serve).0
    }

    fn up() -> Occurrence {
        Occurrence::Up { mtu: MTU, security: Security::None, has: vec![Endpoint::advertised(SCALE)] }
    }

    #[tokio::test(start_paused = true)]
    async fn i2a_what_is_advertised_again_and_again_comes_once_until_it_changes() {
        let said = [(0, 1), (0, 1), (1, 1), (1, 2), (1, 2), (1, 1), (19, 1)];
        let mut at = 10;
        let adverts = said.map(|(after, octet)| {
            at += after;
            (after, advert(OURS, at, SCALE, octet))
        });
        let expected = [(10, up()), (10, received(1)), (12, received(2)), (14, received(1))];
        let mut events = heard(adverts.to_vec(), Vec::new()).await;
        assert_eq!(events.pop().unwrap().1, Occurrence::Down { reason: DownReason::Lost });
        assert_eq!(events, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn i4_what_a_stranger_or_another_service_says_is_not_heard_and_keeps_nothing_up() {
        let battery = bluetooth(0x180f);
        let mut adverts = vec![(1, advert(STRANGER, 1, SCALE, 7)), (1, advert(OURS, 2, battery, 7))];
        adverts.push((1, advert(OURS, 3, SCALE, 1)));
        adverts.extend((0..4).map(|_| (6, advert(STRANGER, 9, SCALE, 8))));
        let events = heard(adverts, Vec::new()).await;
        let expected = [(3, up()), (3, received(1)), (0, Occurrence::Down { reason: DownReason::Lost })];
        assert_eq!(events, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_can_be_asked_of_it_and_a_session_may_close() {
        let orders = vec![Command::Read(Token(1), Endpoint::gatt(0x180f, 0x2a19)), Command::Close];
        let events = heard(vec![(0, advert(OURS, 1, SCALE, 1))], orders).await;
        let failed = Occurrence::Failed { command: Token(1), error: LinkError::NoEndpoint(Endpoint::gatt(0x180f, 0x2a19)) };
        assert!(events.contains(&(0, failed)), "{events:?}");
        assert_eq!(events.last().unwrap().1, Occurrence::Down { reason: DownReason::Closed });
    }
}
