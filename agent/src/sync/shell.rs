//! The loop that does what the planner says.

use std::future::Future;
use std::time::Duration;

use kit_protocol::uplink::id::{KitId, Lane, Nonce, Tenant};
use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, SignedType};
use tokio::sync::watch;

use super::batch::{self, Frame};
use super::mqtt::{Connection, Endpoint, Limits, PublishError, WireEvent};
use super::planner::{Action, Broker, Ended, Event, Planner, Send, Sent, Ticket, Trouble, Unsent};
use super::shelf::Shelf;
use super::status::SyncStatus;
use super::{SLEEP_MAX, STORE_WAIT_MAX, SyncContext, state};
use crate::store::outbox::{ReadLimit, StoreError};
use crate::store::thread::StoreView;

/// The kit's topics by name.
#[derive(Debug)]
struct Topics {
    up: [String; 4],
    state: String,
    answer: String,
    document: String,
    centre: String,
}

impl Topics {
    fn new(tenant: &Tenant, kit: &KitId) -> Self {
        Self {
            up: Lane::ALL.map(|lane| Topic::Up(tenant.clone(), kit.clone(), lane).name()),
            state: Topic::State(tenant.clone(), kit.clone()).name(),
            answer: Topic::Answer(tenant.clone(), kit.clone()).name(),
            document: Topic::Document(tenant.clone(), kit.clone()).name(),
            centre: Topic::CentreState(tenant.clone()).name(),
        }
    }
}

/// The planner, the wire and the store, and the loop between them.
pub(super) struct Shell<S> {
    context: SyncContext<S>,
    topics: Topics,
    planner: Planner,
    view: watch::Receiver<StoreView>,
    connection: Option<Connection>,
    nonce: Option<Nonce>,
    status: SyncStatus,
    /// Octets of connections that are over: up, down.
    octets_before: (u64, u64),
}

impl<S: Shelf> Shell<S> {
    pub(super) fn new(context: SyncContext<S>) -> Self {
        Self {
            topics: Topics::new(&context.tenant, &context.kit),
            planner: Planner::new(context.jitter_seed, (context.now)()),
            view: context.shelf.view(),
            connection: None,
            nonce: None,
            status: SyncStatus { broker: format!("{}:{}", context.host, context.port), ..SyncStatus::default() },
            octets_before: (0, 0),
            context,
        }
    }

    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()> + std::marker::Send) {
        tokio::pin!(shutdown);
        let mut devices = self.context.devices.clone();
        let interface_up = self.context.interface_up.clone();
        let mut devices_known = true;
        self.shelf_changed();
        loop {
            // What is begun may be dropped at the end: the planner and its tickets end with it.
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.act() => {}
            }
            self.show();
            let pause = self.pause();
            tokio::select! {
                () = &mut shutdown => return,
                changed = self.view.changed() => match changed {
                    Ok(()) => self.shelf_changed(),
                    Err(_) => return,
                },
                event = next_of(&mut self.connection) => self.wire_event(event),
                () = interface_up.notified() => self.tell(Event::InterfaceUp),
                changed = devices.changed(), if devices_known => match changed {
                    Ok(()) => self.tell(Event::StateChanged),
                    Err(_) => devices_known = false,
                },
                () = tokio::time::sleep(pause) => self.tell(Event::Time),
            }
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        let now = (self.context.now)();
        self.planner.handle(event, now);
    }

    /// How long nothing is to be done, as far as is known.
    fn pause(&self) -> Duration {
        let now = (self.context.now)();
        self.planner.poll_timeout().map_or(SLEEP_MAX, |due| due.since(now)).min(SLEEP_MAX)
    }

    fn shelf_changed(&mut self) {
        let view = self.view.clone();
        let epochs = view.borrow();
        self.tell(Event::Shelf(&epochs.epochs));
        drop(epochs);
        self.view.mark_unchanged();
    }

    fn show(&mut self) {
        let overview = self.planner.overview();
        if overview.paused != self.status.paused {
            match overview.paused {
                Some(why) => tracing::warn!("the centre does not believe what this kit sends ({why}): tried again, ever later"),
                None => tracing::info!("the centre takes what this kit sends"),
            }
        }
        self.status.overview(overview, self.planner.centre());
        let (up, down) = self.connection.as_ref().map_or((0, 0), Connection::octets);
        self.status.octets_up = self.octets_before.0.saturating_add(up);
        self.status.octets_down = self.octets_before.1.saturating_add(down);
        let status = &self.status;
        self.context.status.send_if_modified(|shown| {
            let changed = shown != status;
            if changed {
                shown.clone_from(status);
            }
            changed
        });
    }

    /// Does everything that the planner wants now.
    async fn act(&mut self) {
        while let Some(action) = self.planner.poll_action() {
            match action {
                Action::Connect => self.connect(),
                Action::Disconnect => self.disconnect(),
                Action::PublishState(ticket) => self.publish_state(ticket),
                Action::Send(send) => {
                    let event = match self.send(send).await {
                        Ok(sent) => Event::Sent(sent),
                        Err(why) => Event::Unsent(send.ticket, why),
                    };
                    self.tell(event);
                }
                Action::Settle(epoch, lane, settled) => {
                    let done = within_store_wait(self.context.shelf.settle(epoch, lane, settled)).await;
                    self.store_did(done);
                }
                Action::ResetSettled(epoch, lane, settled) => {
                    let done = within_store_wait(self.context.shelf.reset_settled(epoch, lane, settled)).await;
                    self.store_did(done);
                }
                Action::Quarantine(epoch, lane, seq, reason) => {
                    let done = within_store_wait(self.context.shelf.quarantine(epoch, lane, seq, reason)).await;
                    self.store_did(done);
                }
                Action::Alarm(trouble) => self.alarm(trouble),
            }
        }
    }

    fn alarm(&mut self, trouble: Trouble) {
        tracing::error!("{trouble}");
        self.status.trouble(trouble);
    }

    /// What the store could not settle now, the centre says again on the next connection.
    fn store_did(&mut self, done: Result<(), StoreError>) {
        let Err(error) = done else { return };
        tracing::error!("{error}");
        self.status.store_trouble = Some(error.to_string());
        if let StoreError::Foreign { epoch, lane, seq } = error {
            self.tell(Event::Foreign(epoch, lane, seq));
        }
    }

    fn connect(&mut self) {
        self.disconnect();
        let nonce = (self.context.nonce)();
        let Some(endpoint) = self.endpoint(nonce) else {
            return self.tell(Event::Down(Ended::Lost("the kit's key could not sign".to_owned())));
        };
        tracing::debug!("connecting to {}", self.status.broker);
        self.nonce = Some(nonce);
        self.connection = Some(Connection::open(endpoint));
    }

    /// Whom the next connection is made to, and what is said when it breaks; `None` where the key cannot sign.
    fn endpoint(&self, nonce: Nonce) -> Option<Endpoint> {
        let will = state::offline(&self.context.about, nonce);
        let will = signed::seal(&*self.context.signer, SignedType::State, &self.topics.state, &will).ok()?;
        Some(Endpoint {
            host: self.context.host.clone(),
            port: self.context.port,
            client_id: self.context.kit.as_str().to_owned(),
            tls: self.context.tls.borrow().clone(),
            will: (self.topics.state.clone(), will),
            subscriptions: vec![self.topics.answer.clone(), self.topics.document.clone(), self.topics.centre.clone()],
        })
    }

    fn disconnect(&mut self) {
        self.nonce = None;
        if let Some(connection) = self.connection.take() {
            let (up, down) = connection.octets();
            self.octets_before.0 = self.octets_before.0.saturating_add(up);
            self.octets_before.1 = self.octets_before.1.saturating_add(down);
        }
    }

    fn publish_state(&mut self, ticket: Ticket) {
        let published = self.try_publish_state(ticket);
        if let Err(why) = published {
            self.disconnect();
            self.tell(Event::Down(Ended::Lost(why)));
        }
    }

    fn try_publish_state(&mut self, ticket: Ticket) -> Result<(), String> {
        let (Some(nonce), Some(connection)) = (self.nonce, &mut self.connection) else { return Err("no connection".to_owned()) };
        let clock = (self.context.clock)();
        let devices = self.context.devices.borrow();
        let state = state::online(&self.context.about, nonce, &self.view.borrow().epochs, &devices, clock);
        drop(devices);
        let payload = signed::seal(&*self.context.signer, SignedType::State, &self.topics.state, &state)
            .map_err(|_| "the kit's key could not sign".to_owned())?;
        connection.try_publish(ticket, &self.topics.state, payload, true).map(drop).map_err(|error| format!("state: {error}"))
    }

    /// Reads, builds, signs and publishes one batch.
    async fn send(&mut self, send: Send) -> Result<Sent, Unsent> {
        let nonce = self.nonce.ok_or(Unsent::Failed)?;
        let topic = &self.topics.up[send.lane.index()];
        let frame = Frame { epoch: send.epoch, lane: send.lane, nonce, topic_octets: topic.len(), octets_max: send.octets };
        let limit = ReadLimit { octets: frame.payload_octets(), records: send.records, before: send.before };
        let read = self.context.shelf.read(send.epoch, send.lane, send.from, limit);
        let chunk = match within_store_wait(read).await {
            Ok(chunk) => chunk,
            Err(error) => {
                self.store_did(Err(error));
                return Err(Unsent::Failed);
            }
        };
        let (run, next) = (chunk.run, chunk.next);
        let built = batch::build(chunk, &frame).ok_or(Unsent::Nothing { next })?;
        // Only a batch of one record can be larger than its frame.
        if built.octets > send.packet_octets_max {
            return Err(Unsent::TooBig { seq: built.batch.first, octets: built.octets });
        }
        if built.octets > send.octets && !send.alone {
            return Err(Unsent::NeedsRoom { octets: built.octets });
        }
        let payload = signed::seal(&*self.context.signer, SignedType::Batch, topic, &built.batch).map_err(|_| Unsent::Failed)?;
        let connection = self.connection.as_mut().ok_or(Unsent::Failed)?;
        match connection.try_publish(send.ticket, topic, payload, false) {
            Ok(octets) => Ok(Sent { ticket: send.ticket, run, spans: built.spans, octets }),
            Err(PublishError::TooBig { octets, .. }) => Err(Unsent::TooBig { seq: built.batch.first, octets }),
            Err(PublishError::NotTaken) => Err(Unsent::Failed),
        }
    }

    fn wire_event(&mut self, event: WireEvent) {
        match event {
            WireEvent::Up(limits) => self.up(limits),
            WireEvent::Published(ticket, taken) => self.tell(Event::Published(ticket, taken)),
            WireEvent::Received { topic, payload } => self.received(&topic, &payload),
            WireEvent::Down(ended) => {
                let (Ended::Lost(text) | Ended::Refused(text)) = &ended;
                tracing::info!("disconnected from {}: {text}", self.status.broker);
                self.disconnect();
                self.tell(Event::Down(ended));
            }
        }
    }

    fn up(&mut self, limits: Limits) {
        let Some(nonce) = self.nonce else { return };
        tracing::info!("connected to {}, session {}", self.status.broker, if limits.session_present { "kept" } else { "new" });
        let Limits { receive_maximum, packet_octets_max, .. } = limits;
        self.tell(Event::Up(Broker { nonce, receive_maximum, packet_octets_max }));
    }

    /// A message counts only when the centre signed it for the topic that it came on.
    fn received(&mut self, topic: &str, payload: &[u8]) {
        let verifier = self.context.verifier.clone();
        let opened = if topic == self.topics.answer {
            signed::open::<wire::Answer>(&*verifier, SignedType::Answer, topic, payload)
                .map(|answer| self.tell(Event::Answer(&answer)))
        } else if topic == self.topics.centre {
            signed::open::<wire::CentreState>(&*verifier, SignedType::CentreState, topic, payload).map(|state| {
                self.tell(Event::CentreState {
                    online: state.online,
                    counter: state.counter,
                    drain_octets_per_s: state.drain_octets_per_s,
                })
            })
        } else if topic == self.topics.document {
            signed::open::<wire::Assignment>(&*verifier, SignedType::Assignment, topic, payload)
                .map(|assignment| self.assignment(&assignment, payload))
        } else {
            Err(signed::OpenError::Malformed)
        };
        if let Err(error) = opened {
            self.status.messages_refused = self.status.messages_refused.saturating_add(1);
            tracing::warn!("a message on {topic} was not taken: {error}");
        }
    }

    fn assignment(&mut self, assignment: &wire::Assignment, payload: &[u8]) {
        let ours = assignment.kit == self.context.kit.as_str() && assignment.tenant == self.context.tenant.as_str();
        if !ours || self.context.assignments.try_send(payload.to_vec()).is_err() {
            self.status.messages_refused = self.status.messages_refused.saturating_add(1);
            tracing::warn!("an assignment was not taken: {}", if ours { "others wait" } else { "it names another kit" });
        }
    }
}

/// What the wire reports next; for ever nothing where there is none.
async fn next_of(connection: &mut Option<Connection>) -> WireEvent {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}

async fn within_store_wait<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Broken(format!("no answer within {} s", STORE_WAIT_MAX.as_secs()));
    tokio::time::timeout(STORE_WAIT_MAX, asked).await.unwrap_or_else(|error| Err(late(error)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kit_protocol::moment::Moment;
    use kit_protocol::uplink::id::{BootId, EpochId, KeyId};
    use kit_protocol::uplink::settlement::Settlement;
    use kit_protocol::uplink::signed::{OpenError, SIGNATURE_OCTETS, SignError, Signer, Verifier};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::sync::{Notify, mpsc};

    use super::super::planner::Reach;
    use super::super::state::About;
    use super::*;
    use crate::store::outbox::Chunk;

    /// A stand-in for ECDSA: what is checked here is what is taken, not how it was signed.
    struct Sum(u8);

    impl Signer for Sum {
        fn key_id(&self) -> KeyId {
            KeyId([self.0; 8])
        }
        fn sign(&self, octets: &[u8]) -> Result<[u8; SIGNATURE_OCTETS], SignError> {
            Ok([octets.iter().fold(self.0, |sum, octet| sum.wrapping_mul(31).wrapping_add(*octet)); SIGNATURE_OCTETS])
        }
    }

    impl Verifier for Sum {
        fn verify(&self, _: KeyId, octets: &[u8], signature: &[u8]) -> Result<(), OpenError> {
            let expected = self.sign(octets).map_err(|_| OpenError::BadSignature)?;
            if expected == signature { Ok(()) } else { Err(OpenError::BadSignature) }
        }
    }

    /// A store that only shows itself.
    struct Shown(watch::Receiver<StoreView>);

    impl Shelf for Shown {
        fn view(&self) -> watch::Receiver<StoreView> {
            self.0.clone()
        }
        async fn read(&self, epoch: EpochId, _: Lane, _: u64, _: ReadLimit) -> Result<Chunk, StoreError> {
            Err(StoreError::NoEpoch(epoch))
        }
        async fn settle(&self, _: EpochId, _: Lane, _: Settlement) -> Result<(), StoreError> {
            Ok(())
        }
        async fn reset_settled(&self, _: EpochId, _: Lane, _: Settlement) -> Result<(), StoreError> {
            Ok(())
        }
        async fn quarantine(&self, _: EpochId, _: Lane, _: u64, _: String) -> Result<(), StoreError> {
            Ok(())
        }
    }

    struct Bench {
        shell: Shell<Shown>,
        assignments: mpsc::Receiver<Vec<u8>>,
        status: watch::Receiver<SyncStatus>,
        store: watch::Sender<StoreView>,
    }

    const CENTRE: Sum = Sum(3);

    fn bench() -> Bench {
        let (store, view) = watch::channel(StoreView::default());
        let (assignments_in, assignments) = mpsc::channel(1);
        let (status_in, status) = watch::channel(SyncStatus::default());
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let context = SyncContext {
            tenant: "centro".parse().unwrap(),
            kit: "KIT-0001".parse().unwrap(),
            host: "localhost".to_owned(),
            port: 1,
            tls: watch::channel(Arc::new(tls)).1,
            about: About { version: "1".to_owned(), boot_id: BootId([1; 16]), certificate: vec![] },
            shelf: Shown(view),
            devices: watch::channel(Vec::new()).1,
            clock: Arc::new(wire::Clock::default),
            now: Arc::new(|| Moment::from_nanos(5)),
            nonce: Arc::new(|| Nonce([7; 8])),
            signer: Arc::new(Sum(1)),
            verifier: Arc::new(CENTRE),
            assignments: assignments_in,
            interface_up: Arc::new(Notify::new()),
            jitter_seed: 1,
            status: status_in,
        };
        Bench { shell: Shell::new(context), assignments, status, store }
    }

    fn assignment(kit: &str) -> wire::Assignment {
        wire::Assignment {
            id: "A-1".to_owned(),
            tenant: "centro".to_owned(),
            kit: kit.to_owned(),
            counter: 1,
            ..Default::default()
        }
    }

    #[test]
    fn i4_an_assignment_is_passed_on_as_signed_and_only_when_the_centre_signed_it_for_this_kit() {
        let mut bench = bench();
        let topic = "tm/1/centro/KIT-0001/down/document";
        let good = signed::seal(&CENTRE, SignedType::Assignment, topic, &assignment("KIT-0001")).unwrap();
        let another = signed::seal(&CENTRE, SignedType::Assignment, topic, &assignment("KIT-0002")).unwrap();
        let forged = signed::seal(&Sum(9), SignedType::Assignment, topic, &assignment("KIT-0001")).unwrap();
        let elsewhere =
            signed::seal(&CENTRE, SignedType::Assignment, "tm/1/centro/KIT-0002/down/document", &assignment("KIT-0001"));
        for octets in [&another, &forged, &elsewhere.unwrap(), &vec![0xFF; 40]] {
            bench.shell.received(topic, octets);
            assert!(bench.assignments.try_recv().is_err());
        }
        bench.shell.received("tm/1/centro/KIT-0001/else", &good);
        assert_eq!(bench.shell.status.messages_refused, 5);
        bench.shell.received(topic, &good);
        assert_eq!(bench.assignments.try_recv().unwrap(), good);
        bench.shell.received(topic, &good);
        bench.shell.received(topic, &good);
        assert_eq!(bench.shell.status.messages_refused, 6, "one waits, a second does not");
    }

    #[test]
    fn only_what_the_centre_signed_says_that_it_is_offline() {
        let mut bench = bench();
        let topic = "tm/1/centro/centre/state";
        let offline = wire::CentreState { online: false, counter: 5, ..Default::default() };
        bench.shell.received(topic, &signed::seal(&Sum(9), SignedType::CentreState, topic, &offline).unwrap());
        bench.shell.show();
        assert_eq!(bench.status.borrow().centre, Reach::Online);
        bench.shell.received(topic, &signed::seal(&CENTRE, SignedType::CentreState, topic, &offline).unwrap());
        bench.shell.show();
        assert_eq!(bench.status.borrow().centre, Reach::Offline);
    }

    #[tokio::test]
    async fn a_store_that_is_gone_ends_sync_and_so_does_shutdown() {
        let Bench { shell, store, .. } = bench();
        drop(store);
        shell.run(std::future::pending()).await;
        let Bench { shell, .. } = bench();
        shell.run(async {}).await;
    }

    #[test]
    fn the_will_is_signed_and_carries_the_connections_nonce() {
        let endpoint = bench().shell.endpoint(Nonce([7; 8])).unwrap();
        let (topic, will) = endpoint.will;
        assert_eq!(topic, "tm/1/centro/KIT-0001/state");
        let opened: wire::State = signed::open(&Sum(1), SignedType::State, &topic, &will).unwrap();
        assert!(opened.offline);
        assert_eq!(opened.nonce, [7; 8]);
        assert_eq!((endpoint.client_id.as_str(), endpoint.subscriptions.len()), ("KIT-0001", 3));
    }

    #[tokio::test]
    async fn state_goes_out_on_a_connection_only() {
        let mut bench = bench();
        assert!(bench.shell.try_publish_state(Ticket(1)).is_err());
        bench.shell.connect();
        assert_eq!(bench.shell.nonce, Some(Nonce([7; 8])));
        assert!(bench.shell.try_publish_state(Ticket(2)).is_ok());
        bench.shell.disconnect();
        bench.shell.show();
        assert!(bench.status.borrow().octets_up > 0, "counted beyond the connection");
    }
}
