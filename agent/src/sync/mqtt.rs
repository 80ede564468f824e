//! The MQTT 5 wire, by rumqttc: a lossy wire and never a queue.
//!
//! Numbers in comments are those of the pitfalls of rumqttc 0.25.1 below; each is met where it stands.
//!
//! | # | pitfall | met by |
//! | --- | --- | --- |
//! | 1, 2 | without a session, un-acknowledged and never-sent publishes are dropped silently | a new event loop for every connection; the planner resends from what is unsettled |
//! | 3 | an oversized publish is resent for ever; 10 KiB is the default limit | limits set, size checked before the publish |
//! | 4, 7 | after an error a collision stays, and packet ids are used again | state dies with the connection |
//! | 5 | packet ids end at the inflight limit, subscriptions share them | limit four times the window; nothing is published before SUBACK |
//! | 6 | `publish` names no packet id | first in, first out: `Outgoing::Publish` is matched in order |
//! | 8 | DUP is never set on a repetition | nothing relies on it: the centre knows records by their key |
//! | 9 | publishing in the polling task deadlocks | own task; `try_publish` only |
//! | 10 | `poll` is not known to be cancel safe | it is never in a `select!`; the task is ended as a whole |
//! | 11 | a half-open link is found after two pings | keep-alive of 25 s, and the planner's 30 s without a PUBACK |
//! | 12 | the connect time-out is 5 s, a flush has none | 30 s, and the planner's watchdog |
//! | 13 | `poll` reconnects at once | it is not called again after an error; the planner backs off |
//! | 14 | subscriptions are not restored | made on every connection |
//! | 15 | 65,535 inflight publishes are allocated | limit set |
//! | 16 | queued PUBACKs are lost on reconnecting | answers and documents may come twice |
//! | 17 | rustls-webpki 0.102 is linked | for one error variant only; certificates are verified by rustls |
//! | 18 | aws-lc-rs comes with the default features | without a default provider, ring given |
//! | 19 | the TLS configuration is read at each connect | given with each connect |
//! | 20 | pending publishes have no time to live | there are none |

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Filter, LastWill, LastWillProperties, Packet, PubAck, PubAckReason, Publish, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError, TlsError, mqttbytes};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::planner::{Ended, Taken, Ticket, WIRE_BATCHES_MAX};
use super::tls;

/// Pings when nothing else was sent. (11)
pub const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// TCP, TLS and CONNACK together, at most. (12)
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// From SUBSCRIBE to SUBACK, at most.
pub const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// The broker keeps our session, and what the centre sent meanwhile, for a day.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(86_400);
/// The broker waits this long before it tells everyone that we are gone.
pub const WILL_DELAY: Duration = Duration::from_secs(60);
/// Publishes rumqttc may have under way: four times the window, so that packet ids do not come round. (5, 15)
const INFLIGHT_MAX: u16 = 64;
/// Publishes that wait for rumqttc: the window, and `state`. (1)
const REQUESTS_MAX: usize = WIRE_BATCHES_MAX + 8;
/// Events that wait for the shell.
const EVENTS_MAX: usize = 64;
/// Octets of a packet that the broker may send us. (3)
const INCOMING_OCTETS_MAX: u32 = 256 * 1024;
/// Publishes that the broker may send us before we answer them.
const INCOMING_MAX: u16 = 32;
/// Receive Maximum where CONNACK names none (MQTT 5 §3.2.2.3.3).
const RECEIVE_MAXIMUM_DEFAULT: u16 = 65_535;
/// rumqttc's size of a publish leaves out the packet id while there is none.
const PACKET_ID_OCTETS: usize = 2;

/// Whom to connect to, and as whom.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address; the broker's certificate is made out to it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// MQTT client id: the kit's.
    pub client_id: String,
    /// TLS of this connection.
    pub tls: Arc<ClientConfig>,
    /// Topic and payload that the broker publishes, retained, a minute after we are gone.
    pub will: (String, Vec<u8>),
    /// What to subscribe to, at least once delivery.
    pub subscriptions: Vec<String>,
}

/// What CONNACK said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Publishes the broker takes without having answered them.
    pub receive_maximum: u16,
    /// Octets of the largest packet it takes, where it has a bound.
    pub packet_octets_max: Option<usize>,
    /// It had kept our session.
    pub session_present: bool,
}

/// What the wire reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireEvent {
    /// Connected, and the subscriptions stand.
    Up(Limits),
    /// PUBACK.
    Published(Ticket, Taken),
    /// A message on one of the subscriptions.
    Received {
        /// Its topic.
        topic: String,
        /// Its octets.
        payload: Bytes,
    },
    /// The connection is over, and all it knew with it.
    Down(Ended),
}

/// Why a publish was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Larger than the broker takes.
    #[error("a packet of {octets} octets, the broker takes {max}")]
    TooBig {
        /// Its octets.
        octets: usize,
        /// The broker's bound.
        max: usize,
    },
    /// The wire takes no more, or is gone.
    #[error("the wire takes no more")]
    NotTaken,
}

/// One connection, from the attempt to its end.
#[derive(Debug)]
pub struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Polled>,
    task: JoinHandle<()>,
    /// Tickets that rumqttc has not given a packet id yet, in order. (6)
    unnumbered: VecDeque<Ticket>,
    numbered: HashMap<u16, Ticket>,
    packet_octets_max: Option<usize>,
    octets_up: u64,
    octets_down: u64,
}

impl Connection {
    /// Begins to connect; the outcome comes from [`Self::next`].
    #[must_use]
    pub fn open(endpoint: Endpoint) -> Self {
        let subscriptions = endpoint.subscriptions.clone();
        let host = endpoint.host.clone();
        let (client, event_loop) = AsyncClient::new(options(endpoint), REQUESTS_MAX);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        // An own task that only polls. (9)
        let task = tokio::spawn(poll_to_the_end(event_loop, client.clone(), subscriptions, host, sender));
        Self {
            client,
            events,
            task,
            unnumbered: VecDeque::new(),
            numbered: HashMap::new(),
            packet_octets_max: None,
            octets_up: 0,
            octets_down: 0,
        }
    }

    /// Hands a publish to the wire, without waiting; gives its octets.
    pub fn try_publish(&mut self, ticket: Ticket, topic: &str, payload: Vec<u8>, retain: bool) -> Result<usize, PublishError> {
        let publish = Publish::new(topic, QoS::AtLeastOnce, payload, None);
        let octets = publish.size() + PACKET_ID_OCTETS;
        // One packet that is too large would end every connection. (3)
        if let Some(max) = self.packet_octets_max.filter(|max| octets > *max) {
            return Err(PublishError::TooBig { octets, max });
        }
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, publish.payload).map_err(|_| PublishError::NotTaken)?;
        self.unnumbered.push_back(ticket);
        self.octets_up = self.octets_up.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        Ok(octets)
    }

    /// What the wire reports next. Cancel safe. After `Down` nothing comes.
    pub async fn next(&mut self) -> WireEvent {
        loop {
            let Some(polled) = self.events.recv().await else {
                // The polling task ended without a word: it panicked.
                return WireEvent::Down(Ended::Lost("the MQTT client failed".to_owned()));
            };
            if let Some(event) = self.take_in(polled) {
                return event;
            }
        }
    }

    /// Octets of MQTT publishes so far: up, down.
    #[must_use]
    pub fn octets(&self) -> (u64, u64) {
        (self.octets_up, self.octets_down)
    }

    fn take_in(&mut self, polled: Polled) -> Option<WireEvent> {
        match polled {
            Polled::Up(limits) => {
                self.packet_octets_max = limits.packet_octets_max;
                Some(WireEvent::Up(limits))
            }
            Polled::Numbered(packet_id) => {
                if let Some(ticket) = self.unnumbered.pop_front() {
                    self.numbered.insert(packet_id, ticket);
                }
                None
            }
            Polled::Acknowledged(packet_id, taken) => {
                self.numbered.remove(&packet_id).map(|ticket| WireEvent::Published(ticket, taken))
            }
            Polled::Received(publish) => {
                self.octets_down = self.octets_down.saturating_add(u64::try_from(publish.size()).unwrap_or(u64::MAX));
                let topic = String::from_utf8(publish.topic.to_vec()).ok()?;
                Some(WireEvent::Received { topic, payload: publish.payload })
            }
            Polled::Down(ended) => Some(WireEvent::Down(ended)),
        }
    }
}

impl Drop for Connection {
    /// The task ends as a whole, and with it rumqttc's queues and the socket. (1, 4, 7, 10) No DISCONNECT is sent: it would
    /// withdraw the will.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the polling task passes on.
#[derive(Debug)]
enum Polled {
    Up(Limits),
    Numbered(u16),
    Acknowledged(u16, Taken),
    Received(Publish),
    Down(Ended),
}

fn options(endpoint: Endpoint) -> MqttOptions {
    let mut options = MqttOptions::new(endpoint.client_id, endpoint.host, endpoint.port);
    let (topic, payload) = endpoint.will;
    let will = LastWillProperties {
        delay_interval: Some(seconds(WILL_DELAY)),
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(endpoint.tls))) // 18, 19
        .set_keep_alive(KEEP_ALIVE) // 11
        .set_clean_start(false)
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs()) // 12
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX) // 5, 15
        .set_request_channel_capacity(REQUESTS_MAX)
        .set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true, Some(will)))
        .set_session_expiry_interval(Some(seconds(SESSION_EXPIRY)))
        .set_max_packet_size(Some(INCOMING_OCTETS_MAX)) // 3
        .set_receive_maximum(Some(INCOMING_MAX));
    options.set_network_options(network);
    options
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

/// Connects, subscribes, and polls until the connection ends, once. (13)
async fn poll_to_the_end(
    mut event_loop: EventLoop,
    client: AsyncClient,
    subscriptions: Vec<String>,
    host: String,
    events: mpsc::Sender<Polled>,
) {
    let ended = match connect(&mut event_loop, &client, subscriptions, &host, &events).await {
        Err(ended) => ended,
        Ok(()) => loop {
            match event_loop.poll().await {
                Ok(event) => {
                    if let Some(polled) = translate(event)
                        && events.send(polled).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) => break ended_by(&error, &host),
            }
        },
    };
    // The shell may be gone already; then nobody needs to know.
    let _ = events.send(Polled::Down(ended)).await;
}

/// CONNECT, CONNACK, SUBSCRIBE, SUBACK. Nothing is published before, so that no packet id meets a subscription's. (5, 14)
async fn connect(
    event_loop: &mut EventLoop,
    client: &AsyncClient,
    subscriptions: Vec<String>,
    host: &str,
    events: &mpsc::Sender<Polled>,
) -> Result<(), Ended> {
    let limits = loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => break limits_of(&connack),
            Ok(_) => {}
            Err(error) => return Err(ended_by(&error, host)),
        }
    };
    // A broker that names a keep-alive of nothing would make rumqttc ping without a pause.
    if event_loop.options.keep_alive() < KEEP_ALIVE {
        event_loop.options.set_keep_alive(event_loop.options.keep_alive().max(Duration::from_secs(5)));
    }
    let filters = subscriptions.into_iter().map(|topic| Filter::new(topic, QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Ended::Lost("the MQTT client takes no subscription".to_owned()))?;
    let subscribed = async {
        // Messages of a kept session may come before SUBACK.
        let mut early = VecDeque::new();
        loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::SubAck(suback))) => {
                    let refused = suback.return_codes.iter().any(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                    return if refused {
                        Err(Ended::Refused("the broker refuses the kit's subscriptions: check its access list".to_owned()))
                    } else {
                        Ok(early)
                    };
                }
                Ok(event) => {
                    if early.len() < EVENTS_MAX {
                        early.extend(translate(event));
                    }
                }
                Err(error) => return Err(ended_by(&error, host)),
            }
        }
    };
    // The future is dropped with the connection when the time is over: nothing of it is polled again. (10)
    let early = tokio::time::timeout(SUBSCRIBE_TIMEOUT, subscribed)
        .await
        .map_err(|_| Ended::Lost("the broker did not answer the subscription".to_owned()))??;
    for polled in std::iter::once(Polled::Up(limits)).chain(early) {
        if events.send(polled).await.is_err() {
            return Err(Ended::Lost("the shell is gone".to_owned()));
        }
    }
    Ok(())
}

fn limits_of(connack: &ConnAck) -> Limits {
    let properties = connack.properties.as_ref();
    Limits {
        receive_maximum: properties.and_then(|said| said.receive_max).unwrap_or(RECEIVE_MAXIMUM_DEFAULT),
        packet_octets_max: properties.and_then(|said| said.max_packet_size).map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
        session_present: connack.session_present,
    }
}

fn translate(event: Event) -> Option<Polled> {
    match event {
        Event::Outgoing(Outgoing::Publish(packet_id)) => Some(Polled::Numbered(packet_id)),
        Event::Incoming(Packet::PubAck(puback)) => Some(Polled::Acknowledged(puback.pkid, taken(&puback))),
        Event::Incoming(Packet::Publish(publish)) => Some(Polled::Received(publish)),
        _ => None,
    }
}

fn taken(puback: &PubAck) -> Taken {
    match puback.reason {
        PubAckReason::Success => Taken::Yes,
        PubAckReason::NoMatchingSubscribers => Taken::NobodySubscribed,
        PubAckReason::NotAuthorized => Taken::Refused("not authorised".to_owned()),
        PubAckReason::QuotaExceeded => Taken::Refused("quota exceeded".to_owned()),
        PubAckReason::TopicNameInvalid => Taken::Refused("topic name invalid".to_owned()),
        PubAckReason::PayloadFormatInvalid => Taken::Refused("payload format invalid".to_owned()),
        PubAckReason::PacketIdentifierInUse => Taken::Refused("packet identifier in use".to_owned()),
        PubAckReason::ImplementationSpecificError => Taken::Refused("implementation specific error".to_owned()),
        PubAckReason::UnspecifiedError => Taken::Refused("unspecified error".to_owned()),
    }
}

/// Whether the other side refused us, or the link broke; in words for a technician.
fn ended_by(error: &ConnectionError, host: &str) -> Ended {
    match error {
        ConnectionError::ConnectionRefused(code) => Ended::Refused(connack_text(*code)),
        ConnectionError::Tls(TlsError::TLS(error)) => by_tls(error, host),
        ConnectionError::Tls(TlsError::Io(error)) | ConnectionError::Io(error) => by_io(error, host),
        ConnectionError::MqttState(StateError::Io(error)) => by_io(error, host),
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(error))) => by_io(error, host),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            Ended::Lost(format!("the broker ended the connection: {reason_code:?}"))
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => Ended::Lost(format!("{host} closed the connection")),
        ConnectionError::Timeout(_) => Ended::Lost(format!("{host} did not answer within {} s", CONNECT_TIMEOUT.as_secs())),
        other => Ended::Lost(other.to_string()),
    }
}

fn by_tls(error: &rustls::Error, host: &str) -> Ended {
    tls::refusal(error, host).map_or_else(|| Ended::Lost(format!("TLS with {host}: {error}")), Ended::Refused)
}

fn by_io(error: &io::Error, host: &str) -> Ended {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Ended::Lost(format!("{host} closed the connection"));
    }
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    of_tls.map_or_else(|| Ended::Lost(format!("no connection to {host}: {error}")), |error| by_tls(error, host))
}

fn connack_text(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
            "the broker does not let this kit in: check its access list and the kit's certificate".to_owned()
        }
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => {
            "the broker does not accept the kit's id as client id".to_owned()
        }
        ConnectReturnCode::Banned => "the broker has banned this kit".to_owned(),
        other => format!("the broker refuses the connection: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (Connection, mpsc::Sender<Polled>) {
        let (client, event_loop) = AsyncClient::new(MqttOptions::new("KIT-0001", "localhost", 1), REQUESTS_MAX);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let keeps_requests = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(event_loop);
        });
        let connection = Connection {
            client,
            events,
            task: keeps_requests,
            unnumbered: VecDeque::new(),
            numbered: HashMap::new(),
            packet_octets_max: None,
            octets_up: 0,
            octets_down: 0,
        };
        (connection, sender)
    }

    fn endpoint(port: u16) -> Endpoint {
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
            client_id: "KIT-0001".to_owned(),
            tls: Arc::new(tls),
            will: ("will".to_owned(), vec![1]),
            subscriptions: vec!["t".to_owned()],
        }
    }

    #[test]
    fn i9_no_default_of_rumqttc_is_relied_on() {
        let options = options(endpoint(1));
        assert!(!options.clean_start(), "1: a session that the broker keeps is not thrown away");
        assert_eq!(options.max_packet_size(), Some(INCOMING_OCTETS_MAX), "3");
        assert_eq!(options.get_outgoing_inflight_upper_limit(), Some(INFLIGHT_MAX), "5, 15");
        assert!(usize::from(INFLIGHT_MAX) >= 4 * WIRE_BATCHES_MAX, "5: packet ids do not come round");
        assert_eq!(options.request_channel_capacity(), REQUESTS_MAX, "6");
        assert_eq!(options.keep_alive(), KEEP_ALIVE, "11");
        let of_network = options.network_options().connection_timeout();
        assert_eq!((options.connection_timeout(), of_network), (CONNECT_TIMEOUT.as_secs(), CONNECT_TIMEOUT.as_secs()), "12");
        assert!(!options.manual_acks(), "16: what is taken is acknowledged by rumqttc itself, before it can be queued");
        assert!(matches!(options.transport(), Transport::Tls(TlsConfiguration::Rustls(_))), "18, 19: ours, of this connection");
    }

    #[tokio::test]
    async fn after_an_error_the_connection_ends_and_nothing_connects_again_by_itself() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hangs_up = tokio::task::spawn_blocking(move || {
            drop(listener.accept().unwrap());
            listener
        });
        let mut connection = Connection::open(endpoint(port));
        assert!(matches!(connection.next().await, WireEvent::Down(Ended::Lost(_))));
        let listener = hangs_up.await.unwrap();
        assert!(connection.events.recv().await.is_none(), "the task is at its end");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "13: and knocked once");
    }

    #[tokio::test]
    async fn a_new_connection_knows_nothing_of_the_one_before() {
        let (mut before, polled) = connection();
        before.try_publish(Ticket(1), "t", vec![0; 10], false).unwrap();
        polled.send(Polled::Numbered(1)).await.unwrap();
        polled.send(Polled::Down(Ended::Lost("cut".to_owned()))).await.unwrap();
        assert!(matches!(before.next().await, WireEvent::Down(_)));
        let (mut after, polled) = connection();
        after.try_publish(Ticket(2), "t", vec![0; 10], false).unwrap();
        polled.send(Polled::Acknowledged(1, Taken::Yes)).await.unwrap();
        polled.send(Polled::Numbered(1)).await.unwrap();
        polled.send(Polled::Acknowledged(1, Taken::Yes)).await.unwrap();
        assert_eq!(after.next().await, WireEvent::Published(Ticket(2), Taken::Yes), "4, 7: and of no other");
    }

    #[tokio::test]
    async fn packet_ids_are_matched_in_order_and_pubacks_in_any() {
        let (mut connection, polled) = connection();
        for ticket in 1..=3 {
            connection.try_publish(Ticket(ticket), "t", vec![0; 10], false).unwrap();
        }
        for packet_id in [11, 12, 13] {
            polled.send(Polled::Numbered(packet_id)).await.unwrap();
        }
        polled.send(Polled::Acknowledged(13, Taken::NobodySubscribed)).await.unwrap();
        polled.send(Polled::Acknowledged(99, Taken::Yes)).await.unwrap();
        polled.send(Polled::Acknowledged(11, Taken::Yes)).await.unwrap();
        assert_eq!(connection.next().await, WireEvent::Published(Ticket(3), Taken::NobodySubscribed));
        assert_eq!(connection.next().await, WireEvent::Published(Ticket(1), Taken::Yes));
        drop(polled);
        assert!(matches!(connection.next().await, WireEvent::Down(Ended::Lost(_))));
    }

    #[tokio::test]
    async fn i6_a_packet_larger_than_the_broker_takes_never_reaches_rumqttc() {
        let (mut connection, polled) = connection();
        let limits = Limits { receive_maximum: 20, packet_octets_max: Some(1000), session_present: false };
        polled.send(Polled::Up(limits)).await.unwrap();
        assert_eq!(connection.next().await, WireEvent::Up(limits));
        let error = connection.try_publish(Ticket(1), "topic", vec![0; 1000], false).unwrap_err();
        assert_eq!(error, PublishError::TooBig { octets: 1013, max: 1000 });
        assert_eq!(connection.octets(), (0, 0));
        assert!(connection.try_publish(Ticket(2), "topic", vec![0; 900], false).is_ok());
    }

    #[tokio::test]
    async fn i9_the_wire_takes_no_more_than_its_bound_and_says_so() {
        let (mut connection, _polled) = connection();
        for ticket in 0..u64::try_from(REQUESTS_MAX).unwrap() {
            connection.try_publish(Ticket(ticket), "t", vec![], false).unwrap();
        }
        assert_eq!(connection.try_publish(Ticket(99), "t", vec![], false), Err(PublishError::NotTaken));
    }

    #[test]
    fn a_refusal_is_told_apart_from_a_lost_link() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        assert!(matches!(ended_by(&refused, "h"), Ended::Refused(_)));
        let stranger = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let stranger = ConnectionError::Tls(TlsError::Io(io::Error::new(io::ErrorKind::InvalidData, stranger)));
        assert!(matches!(ended_by(&stranger, "h"), Ended::Refused(text) if text.contains("not signed by")));
        let lost = ConnectionError::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(ended_by(&lost, "h"), Ended::Lost(_)));
    }
}
