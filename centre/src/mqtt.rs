//! The wire to the broker: rumqttc v5 over TLS, one fresh client for each connection.
//!
//! rumqttc keeps what it has not yet sent, or not seen acknowledged, in memory, and drops or repeats it as the session goes
//! (0.25.1: `pending` is cleared where the broker kept no session, a collision outlives its connection, queued PUBACKs are
//! dropped). So nothing is entrusted to it: any error of `poll` throws the whole client away with everything in flight. What
//! the broker has no PUBACK for, it delivers again; what a kit has no answer for, it sends again; both find the same numbers
//! settled. A message's PUBACK and answers go through the client that delivered it, so that none reaches a later connection.
//!
//! A batch is acknowledged to the broker (PUBACK) only after its commit and after its answers were handed over. Where the
//! database failed it is acknowledged as well, once the kit was told "later": the kit keeps the records, and a broker's
//! window full of messages that are never acknowledged would stop every other kit.

use std::sync::Arc;
use std::time::Duration;

use kit_protocol::uplink::id::Tenant;
use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, SignedType};
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Filter, LastWill, LastWillProperties, Packet, Publish, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing as Sent, TlsConfiguration};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::clock;
use crate::config::Config;
use crate::ingest::MESSAGE_OCTETS_MAX;
use crate::intake::{Message, Outgoing};
use crate::signature::{SigningKey, random};

/// What every kit publishes to.
const SUBSCRIPTIONS: [&str; 2] = ["tm/1/+/+/up/+", "tm/1/+/+/state"];
/// Messages that the broker may have delivered without an acknowledgement.
const RECEIVE_MAXIMUM: u16 = 64;
/// Deliveries that wait for the database. Above [`RECEIVE_MAXIMUM`], since rumqttd delivers 100 whatever it was told.
pub(crate) const INBOX_MESSAGES_MAX: usize = 256;
/// Answers on the wire without the broker's acknowledgement.
const INFLIGHT_MAX: u16 = 100;
/// Answers and acknowledgements handed to the client and not yet on the wire.
const REQUESTS_MAX: usize = 128;
/// How long the broker keeps the session, seconds.
const SESSION_EXPIRY_S: u32 = 86_400;
/// Ping interval; `poll` returns at least that often on a sound connection.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A `poll` that took so long hangs in a write that nobody reads.
const POLL_MAX: Duration = Duration::from_secs(90);
/// TCP, TLS and CONNACK together, seconds.
const CONNECT_MAX_S: u64 = 30;
/// Between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(60);
/// The will waits so long, so that a short cut is not announced, seconds.
const WILL_DELAY_S: u32 = 10;
/// Counters that one connection may use; its will has the last.
const COUNTERS_PER_CONNECTION: u64 = 1 << 20;
/// The longest wait before a connection is tried again.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// The same for the first failure.
const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);
/// A connection that lasted so long ends a row of failures.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// For the farewell at the end.
const FAREWELL_MAX: Duration = Duration::from_secs(3);
/// Octets of a publish beside topic and payload, at most (fixed header, lengths, packet id, no properties).
const PUBLISH_OVERHEAD_OCTETS: usize = 16;

/// A message, and the connection on which it wants its answers and its acknowledgement; or, without a message, the word that
/// it is time to ask for what is missing.
pub(crate) struct Delivery {
    pub(crate) message: Option<Message>,
    publish: Option<Publish>,
    client: AsyncClient,
    packet_octets_max: usize,
}

/// What a delivery led to, after its commit.
pub(crate) struct Reply {
    delivery: Delivery,
    answers: Vec<Outgoing>,
}

impl Delivery {
    pub(crate) fn replied(self, answers: Vec<Outgoing>) -> Reply {
        Reply { delivery: self, answers }
    }
}

/// Sends replies in their order. A reply whose connection is gone is dropped: the message comes again.
pub(crate) async fn send_replies(mut replies: mpsc::Receiver<Reply>) {
    while let Some(Reply { delivery, answers }) = replies.recv().await {
        if let Err(gone) = send_reply(&delivery, answers).await {
            debug!(%gone, "a reply outlived its connection");
        }
    }
}

async fn send_reply(delivery: &Delivery, answers: Vec<Outgoing>) -> Result<(), rumqttc::v5::ClientError> {
    for answer in answers {
        let octets = answer.topic.len() + answer.payload.len() + PUBLISH_OVERHEAD_OCTETS;
        if octets > delivery.packet_octets_max {
            // rumqttc would end the connection over it, and over the message that comes again, for ever.
            error!(octets, limit = delivery.packet_octets_max, topic = answer.topic, "the broker takes no answer of this size");
            continue;
        }
        delivery.client.publish(answer.topic, QoS::AtLeastOnce, false, answer.payload).await?;
    }
    match &delivery.publish {
        Some(publish) => delivery.client.ack(publish).await,
        None => Ok(()),
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Connection(Box<ConnectionError>),
    #[error("nothing moved for {} s", POLL_MAX.as_secs())]
    Stalled,
    #[error("the broker refused the subscription")]
    Subscription,
    #[error("the broker delivered more than {INBOX_MESSAGES_MAX} messages without an acknowledgement")]
    Overrun,
    #[error("the client's queue is full")]
    Queue,
    #[error("the ingest thread is gone")]
    IngestGone,
    #[error("stopped")]
    Stopped,
}

/// The link to the broker, from one connection to the next.
pub(crate) struct Link {
    config: Config,
    inbox: mpsc::Sender<Delivery>,
    stop: watch::Receiver<bool>,
    next_counter: u64,
    /// The broker confirmed the subscriptions of the session that it keeps.
    subscribed: bool,
}

impl Link {
    /// `first_counter` is the first that no announcement before has used.
    pub(crate) fn new(config: Config, inbox: mpsc::Sender<Delivery>, stop: watch::Receiver<bool>, first_counter: u64) -> Self {
        Self { config, inbox, stop, next_counter: first_counter, subscribed: false }
    }

    /// Keeps the connection until it is stopped, or until nobody takes the messages any more (`false`).
    pub(crate) async fn keep(mut self) -> bool {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            match self.connect().await {
                Ended::Stopped => return true,
                Ended::IngestGone => return false,
                ended => {
                    if began.elapsed() >= STABLE_AFTER {
                        failures = 0;
                    }
                    let delay = retry_delay(failures, random().map_or(u32::MAX, u32::from_be_bytes));
                    failures += 1;
                    warn!(reason = %ended, retry_ms = delay.as_millis(), "the connection to the broker ended");
                    tokio::select! {
                        () = sleep(delay) => {}
                        _ = self.stop.wait_for(|stop| *stop) => return true,
                    }
                }
            }
        }
    }

    /// One connection, from its first octet to its end; whatever was in flight ends with it.
    async fn connect(&mut self) -> Ended {
        let announcer = Announcer {
            tenants: self.config.tenants.clone(),
            drain_octets_per_s: self.config.drain_octets_per_s,
            signing: self.config.signing.clone(),
            counter: self.next_counter,
        };
        let options = options(&self.config, announcer.will(self.next_counter + COUNTERS_PER_CONNECTION - 1));
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let mut connection = Connection { client, events, announcer: Some(announcer), packet_octets_max: MESSAGE_OCTETS_MAX };
        let mut announcing = None;
        let ended = loop {
            match self.step(&mut connection).await {
                Ok(Some(task)) => announcing = Some(task),
                Ok(None) => {}
                Err(ended) => break ended,
            }
        };
        if let Some(task) = announcing {
            task.abort();
        }
        ended
    }

    /// Waits for one event and acts on it; gives the announcer's task once connected.
    async fn step(&mut self, connection: &mut Connection) -> Result<Option<tokio::task::JoinHandle<()>>, Ended> {
        let grace = if connection.announcer.is_some() { Duration::ZERO } else { FAREWELL_MAX };
        let mut stop = self.stop.clone();
        // Dropping `poll` half-way is safe only because the client is thrown away with it.
        let event = tokio::select! {
            event = timeout(POLL_MAX, connection.events.poll()) => event.map_err(|_| Ended::Stalled)?,
            () = stopped_for(&mut stop, grace) => return Err(Ended::Stopped),
        };
        match event.map_err(|error| Ended::Connection(Box::new(error)))? {
            Event::Incoming(Packet::ConnAck(connack)) => self.connected(connection, &connack),
            Event::Incoming(Packet::SubAck(suback)) => {
                let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                self.subscribed = suback.return_codes.iter().all(granted);
                if self.subscribed { Ok(None) } else { Err(Ended::Subscription) }
            }
            Event::Incoming(Packet::Publish(publish)) => self.deliver(connection, publish).map(|()| None),
            Event::Outgoing(Sent::Disconnect) => Err(Ended::Stopped),
            _ => Ok(None),
        }
    }

    fn connected(
        &mut self,
        connection: &mut Connection,
        connack: &ConnAck,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, Ended> {
        info!(session_present = connack.session_present, "connected to the broker");
        // Only a connection that came about has left a will, and announces.
        self.next_counter += COUNTERS_PER_CONNECTION;
        if let Some(limit) = connack.properties.as_ref().and_then(|properties| properties.max_packet_size) {
            connection.packet_octets_max = usize::try_from(limit).unwrap_or(usize::MAX).min(MESSAGE_OCTETS_MAX);
        }
        // A session that an earlier process left behind may lack the subscription, if it died before the broker's answer.
        if !connack.session_present || !self.subscribed {
            self.subscribed = false;
            let filters = SUBSCRIPTIONS.map(|topic| Filter::new(topic.to_owned(), QoS::AtLeastOnce));
            connection.client.try_subscribe_many(filters).map_err(|_| Ended::Queue)?;
        }
        let (client, stop) = (connection.client.clone(), self.stop.clone());
        let round = Round { client, inbox: self.inbox.clone(), packet_octets_max: connection.packet_octets_max };
        Ok(connection.announcer.take().map(|announcer| tokio::spawn(announcer.announce(round, stop))))
    }

    fn deliver(&self, connection: &Connection, publish: Publish) -> Result<(), Ended> {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let message = Some(Message { topic, payload: publish.payload.clone() });
        let client = connection.client.clone();
        let delivery = Delivery { message, publish: Some(publish), client, packet_octets_max: connection.packet_octets_max };
        self.inbox.try_send(delivery).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Ended::Overrun,
            mpsc::error::TrySendError::Closed(_) => Ended::IngestGone,
        })
    }
}

struct Connection {
    client: AsyncClient,
    events: EventLoop,
    /// Until it is connected.
    announcer: Option<Announcer>,
    packet_octets_max: usize,
}

/// Where a connection's regular work goes.
struct Round {
    client: AsyncClient,
    inbox: mpsc::Sender<Delivery>,
    packet_octets_max: usize,
}

impl Round {
    /// Has the kits asked for what is missing. Where others wait already, in the next round.
    fn ask_again(&self) {
        let (client, packet_octets_max) = (self.client.clone(), self.packet_octets_max);
        if self.inbox.try_send(Delivery { message: None, publish: None, client, packet_octets_max }).is_err() {
            debug!("the inbox is full: what is missing is asked for later");
        }
    }
}

async fn stopped_for(stop: &mut watch::Receiver<bool>, grace: Duration) {
    // A sender that is gone can stop nothing any more, and its owner is gone as well.
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(grace).await;
}

fn options(config: &Config, will: Option<LastWill>) -> MqttOptions {
    let broker = &config.broker;
    let mut options = MqttOptions::new(&broker.client_id, &broker.host, broker.port);
    let limit = u32::try_from(MESSAGE_OCTETS_MAX).unwrap_or(u32::MAX);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(broker.tls.clone())))
        .set_clean_start(false)
        .set_session_expiry_interval(Some(SESSION_EXPIRY_S))
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(limit))
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_manual_acks(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_MAX_S);
    if let Some(will) = will {
        options.set_last_will(will);
    }
    options
}

/// Full jitter: anything from nothing to a bound that doubles with each failure.
fn retry_delay(failures: u32, random: u32) -> Duration {
    let bound = RETRY_DELAY_FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(RETRY_DELAY_MAX);
    bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Says to the kits of each tenant that the centre is there: signed, retained, renewed every minute.
struct Announcer {
    tenants: Vec<Tenant>,
    drain_octets_per_s: u32,
    signing: Arc<SigningKey>,
    counter: u64,
}

impl Announcer {
    /// "offline", for when the connection dies. MQTT has one will for a connection: it is the first tenant's. The kits of
    /// the others learn it from the answers that do not come.
    fn will(&self, counter: u64) -> Option<LastWill> {
        let tenant = self.tenants.first()?;
        let (topic, payload) = self.sealed(tenant, false, counter)?;
        let properties = LastWillProperties {
            delay_interval: Some(WILL_DELAY_S),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        Some(LastWill::new(topic, payload, QoS::AtLeastOnce, true, Some(properties)))
    }

    async fn announce(mut self, round: Round, mut stop: watch::Receiver<bool>) {
        let client = &round.client;
        let mut ticks = interval(ANNOUNCE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let online = tokio::select! {
                _ = ticks.tick() => true,
                _ = stop.wait_for(|stop| *stop) => false,
            };
            for tenant in self.tenants.clone() {
                self.counter += 1;
                let Some((topic, payload)) = self.sealed(&tenant, online, self.counter) else { continue };
                if client.publish(topic, QoS::AtLeastOnce, true, payload).await.is_err() {
                    return;
                }
            }
            if !online {
                if let Err(gone) = client.disconnect().await {
                    debug!(%gone, "the connection ended before the farewell");
                }
                return;
            }
            round.ask_again();
        }
    }

    fn sealed(&self, tenant: &Tenant, online: bool, counter: u64) -> Option<(String, Vec<u8>)> {
        let topic = Topic::CentreState(tenant.clone()).name();
        let drain_octets_per_s = self.drain_octets_per_s;
        let state = wire::CentreState { online, time_us: clock::wall().0, counter, drain_octets_per_s };
        match signed::seal(self.signing.as_ref(), SignedType::CentreState, &topic, &state) {
            Ok(payload) => Some((topic, payload)),
            Err(trouble) => {
                error!(%trouble, "an announcement could not be signed");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_the_delay_is_spread_and_bounded() {
        assert_eq!(retry_delay(0, u32::MAX), Duration::from_secs(1));
        assert_eq!(retry_delay(3, u32::MAX), Duration::from_secs(8));
        assert_eq!(retry_delay(3, 0), Duration::ZERO);
        for failures in 6..100 {
            assert_eq!(retry_delay(failures, u32::MAX), RETRY_DELAY_MAX);
        }
    }

    #[test]
    fn the_will_outranks_every_announcement_of_its_connection() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signing = Arc::new(SigningKey::from_pkcs8(pair.serialized_der()).unwrap());
        let announcer = Announcer { tenants: vec!["centro".parse().unwrap()], drain_octets_per_s: 0, signing, counter: 7 };
        let will = announcer.will(99).unwrap();
        let keys = [announcer.signing.public().clone()];
        let topic = "tm/1/centro/centre/state";
        assert_eq!((&will.topic[..], will.retain, will.qos), (topic.as_bytes(), true, QoS::AtLeastOnce));
        let state: wire::CentreState =
            signed::open(&crate::signature::Keys(&keys), SignedType::CentreState, topic, &will.message).unwrap();
        assert_eq!((state.online, state.counter), (false, 99));
    }
}
