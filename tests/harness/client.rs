//! A plain MQTT client, for tests that ask a broker themselves or send what no kit would.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet, PubAckReason, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};

use crate::authority::Identity;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How `identity` connects to a broker on this machine: its session is kept for a day.
#[must_use]
pub fn options(identity: &Identity, port: u16) -> MqttOptions {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path| std::fs::read(path).unwrap();
    let mut options = MqttOptions::new(identity.name.clone(), "localhost", port);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Simple {
        ca: read(&identity.authority),
        alpn: None,
        client_auth: Some((read(&identity.certificate), read(&identity.key))),
    }));
    options.set_keep_alive(Duration::from_secs(5));
    options.set_clean_start(false);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(86_400);
    properties.max_packet_size = Some(256 * 1024);
    options.set_connect_properties(properties);
    options
}

/// A connection of its own to a broker.
pub struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    /// With these options; nothing is sent before something is waited for.
    #[must_use]
    pub fn new(options: MqttOptions) -> Self {
        let (client, events) = AsyncClient::new(options, 16);
        Self { client, events }
    }

    /// The next packet that `wanted` takes something from; errors of the connection are retried like a kit would.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
        let mut failed = None;
        let found = async {
            loop {
                match self.events.poll().await {
                    Ok(Event::Incoming(packet)) => {
                        if let Some(found) = wanted(packet) {
                            return found;
                        }
                    }
                    Ok(Event::Outgoing(_)) => {}
                    Err(error) => {
                        failed = Some(error);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("never came: {what}; the last error was {failed:?}"))
    }

    /// Waits until the broker takes it in; whether it kept a session.
    pub async fn connected(&mut self) -> bool {
        self.until("CONNACK", |packet| match packet {
            Packet::ConnAck(ack) => Some(ack.session_present),
            _ => None,
        })
        .await
    }

    /// The first end of the connection is an error, and no CONNACK came before it.
    pub async fn refused(&mut self) -> bool {
        let first = tokio::time::timeout(PATIENCE, self.events.poll()).await.unwrap();
        first.is_err()
    }

    /// Subscribes, and waits until that counts.
    pub async fn subscribe(&mut self, filter: &str) {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        self.until("SUBACK", |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    }

    /// Publishes, and waits for what the broker says.
    pub async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) -> PubAckReason {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload.to_vec()).unwrap();
        self.until("PUBACK", |packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    /// Waits for a message.
    pub async fn received(&mut self) -> Publish {
        self.until("a message", |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }
}
