//! What the brokers do that everything else hangs on: mutual TLS, retained messages, wills, sessions, restarts. Each test runs
//! against the embedded broker, and against mosquitto where that is installed.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::path::PathBuf;
use std::time::Duration;

use harness::authority::{Authority, Identity, Validity};
use harness::broker::{Broker, Clients, Kind, Memory, mosquitto};
use harness::client::{self, Client};
use harness::process::Launcher;
use harness::proxy::{Cut, Proxy};
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, LastWillProperties, PubAckReason};
use rumqttc::{TlsConfiguration, Transport};

const UP: &str = "tm/1/centro/KIT-0001/up/vitals";
const STATE: &str = "tm/1/centro/KIT-0001/state";
const DOWN: &str = "tm/1/centro/KIT-0001/down/ack";

struct Bench {
    authority: Authority,
    broker: Broker,
    kit: Identity,
    centre: Identity,
    directory: tempfile::TempDir,
}

/// The brokers this machine has; what is skipped is said by name.
fn kinds(test: &str) -> Vec<Kind> {
    let mut kinds = vec![Kind::Embedded];
    if mosquitto::find().is_some() {
        kinds.push(Kind::Mosquitto);
    } else {
        harness::skip::skipped("mosquitto", test);
    }
    kinds
}

impl Bench {
    async fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(&directory.path().join("authority"), "authority").unwrap();
        let kit_id = "KIT-0001".parse().unwrap();
        let tenant = "centro".parse().unwrap();
        let kit = authority.kit(&kit_id, &tenant, Validity::Current).unwrap();
        let centre = authority.centre("centre-1").unwrap();
        let clients = Clients { kits: vec![(kit_id, tenant)], workers: vec!["centre-1".to_owned(), "centre-2".to_owned()] };
        let launcher = Launcher::new(PathBuf::from(env!("CARGO_BIN_EXE_demo")), directory.path().join("logs"));
        let identity = authority.broker(Validity::Current).unwrap();
        let broker = Broker::start(kind, &launcher, directory.path().join("broker"), identity, &clients).await.unwrap();
        Self { authority, broker, kit, centre, directory }
    }

    /// The kit, with a will that is sent so many seconds after it is lost.
    fn with_will(&self, port: u16, delay_seconds: u32) -> MqttOptions {
        let mut options = client::options(&self.kit, port);
        let properties = LastWillProperties {
            delay_interval: Some(delay_seconds),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        options.set_last_will(LastWill::new(STATE, "offline", QoS::AtLeastOnce, true, Some(properties)));
        options
    }

    fn connect(&self, identity: &Identity) -> Client {
        Client::new(client::options(identity, self.broker.address().port()))
    }
}

#[tokio::test]
async fn kit_and_centre_meet_over_mutual_tls_and_the_largest_batch_passes() {
    for kind in kinds("kit_and_centre_meet_over_mutual_tls_and_the_largest_batch_passes") {
        let bench = Bench::new(kind).await;
        let mut centre = bench.connect(&bench.centre);
        assert!(!centre.connected().await, "{kind:?}");
        centre.subscribe("tm/1/+/+/up/+").await;
        let mut kit = bench.connect(&bench.kit);
        kit.connected().await;
        kit.subscribe("tm/1/centro/KIT-0001/down/#").await;

        let batch = vec![0xA5; 64 * 1024];
        assert_eq!(kit.publish(UP, false, &batch).await, PubAckReason::Success, "{kind:?}");
        let arrived = centre.received().await;
        assert_eq!((arrived.topic.as_ref(), arrived.payload.len()), (UP.as_bytes(), batch.len()), "{kind:?}");
        centre.publish(DOWN, false, b"settled").await;
        assert_eq!(kit.received().await.payload.as_ref(), b"settled", "{kind:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_out_of_date_or_none_is_refused() {
    for kind in kinds("a_certificate_of_another_authority_or_out_of_date_or_none_is_refused") {
        let bench = Bench::new(kind).await;
        let elsewhere = Authority::new(&bench.directory.path().join("elsewhere"), "elsewhere").unwrap();
        let kit = "KIT-0002".parse().unwrap();
        let tenant = "centro".parse().unwrap();
        let mut stranger = elsewhere.kit(&kit, &tenant, Validity::Current).unwrap();
        stranger.authority = bench.kit.authority.clone();
        let expired = bench.authority.kit(&kit, &tenant, Validity::Expired).unwrap();
        for identity in [&stranger, &expired] {
            assert!(bench.connect(identity).refused().await, "{kind:?}");
        }
        let early = bench.authority.kit(&kit, &tenant, Validity::NotYet).unwrap();
        assert!(bench.connect(&early).refused().await, "{kind:?}");
        let mut nobody = client::options(&bench.kit, bench.broker.address().port());
        nobody.set_transport(Transport::tls_with_config(TlsConfiguration::Simple {
            ca: std::fs::read(&bench.kit.authority).unwrap(),
            alpn: None,
            client_auth: None,
        }));
        assert!(Client::new(nobody).refused().await, "{kind:?}");
        // And whoever is in order still gets in.
        bench.connect(&bench.kit).connected().await;
    }
}

#[tokio::test]
async fn a_retained_state_reaches_who_subscribes_later() {
    for kind in kinds("a_retained_state_reaches_who_subscribes_later") {
        let bench = Bench::new(kind).await;
        let mut kit = bench.connect(&bench.kit);
        kit.connected().await;
        kit.publish(STATE, true, b"old birth").await;
        kit.publish(STATE, true, b"birth").await;
        let mut centre = bench.connect(&bench.centre);
        centre.connected().await;
        centre.subscribe("tm/1/+/+/state").await;
        let state = centre.received().await;
        assert_eq!((state.payload.as_ref(), state.retain), (b"birth".as_ref(), true), "{kind:?}");
    }
}

#[tokio::test]
async fn a_will_comes_after_its_delay_and_stays_for_who_comes_later() {
    for kind in kinds("a_will_comes_after_its_delay_and_stays_for_who_comes_later") {
        let bench = Bench::new(kind).await;
        let mut centre = bench.connect(&bench.centre);
        centre.connected().await;
        centre.subscribe("tm/1/+/+/state").await;
        let proxy = Proxy::start(bench.broker.address(), 1).await.unwrap();
        let mut kit = Client::new(bench.with_will(proxy.address().port(), 1));
        kit.connected().await;
        kit.publish(STATE, true, b"birth").await;
        assert_eq!(centre.received().await.payload.as_ref(), b"birth", "{kind:?}");
        drop(kit);
        proxy.unplug();
        assert_eq!(centre.received().await.payload.as_ref(), b"offline", "{kind:?}");

        let mut late = bench.connect(&bench.authority.centre("centre-2").unwrap());
        late.connected().await;
        late.subscribe("tm/1/+/+/state").await;
        assert_eq!(late.received().await.payload.as_ref(), b"offline", "{kind:?}");
    }
}

#[tokio::test]
async fn a_will_is_withdrawn_when_the_kit_is_back_in_time() {
    for kind in kinds("a_will_is_withdrawn_when_the_kit_is_back_in_time") {
        let bench = Bench::new(kind).await;
        let mut centre = bench.connect(&bench.centre);
        centre.connected().await;
        centre.subscribe("tm/1/+/+/state").await;
        let proxy = Proxy::start(bench.broker.address(), 1).await.unwrap();
        let mut kit = Client::new(bench.with_will(proxy.address().port(), 3));
        kit.connected().await;
        proxy.cut(Cut::Reset);
        kit.connected().await;
        // A will that had been sent would arrive before what is published after its delay.
        tokio::time::sleep(Duration::from_secs(4)).await;
        kit.publish(STATE, true, b"birth").await;
        assert_eq!(centre.received().await.payload.as_ref(), b"birth", "{kind:?}");
    }
}

#[tokio::test]
async fn a_session_keeps_what_came_while_the_centre_was_away() {
    for kind in kinds("a_session_keeps_what_came_while_the_centre_was_away") {
        let bench = Bench::new(kind).await;
        let mut centre = bench.connect(&bench.centre);
        centre.connected().await;
        centre.subscribe("tm/1/+/+/up/+").await;
        drop(centre);
        let mut kit = bench.connect(&bench.kit);
        kit.connected().await;
        kit.publish(UP, false, b"meanwhile").await;
        let mut back = bench.connect(&bench.centre);
        // What was kept may come in the same octets as CONNACK: both are read here.
        assert!(back.connected().await, "{kind:?}");
        assert_eq!(back.received().await.payload.as_ref(), b"meanwhile", "{kind:?}");
    }
}

#[tokio::test]
async fn a_restart_keeps_the_session_only_where_the_broker_has_a_memory() {
    for kind in kinds("a_restart_keeps_the_session_only_where_the_broker_has_a_memory") {
        for memory in [Memory::Kept, Memory::Wiped] {
            let mut bench = Bench::new(kind).await;
            let mut centre = bench.connect(&bench.centre);
            centre.connected().await;
            centre.subscribe("tm/1/+/+/up/+").await;
            drop(centre);
            let mut kit = bench.connect(&bench.kit);
            kit.connected().await;
            kit.publish(UP, false, b"before").await;
            tokio::time::sleep(Duration::from_millis(1_500)).await; // mosquitto writes its changes down once a second at most
            bench.broker.restart(memory).await.unwrap();
            let session_present = bench.connect(&bench.centre).connected().await;
            let expected = kind == Kind::Mosquitto && memory == Memory::Kept;
            assert_eq!(session_present, expected, "{kind:?} {memory:?}");
        }
    }
}

#[tokio::test]
async fn i4_mosquitto_lets_no_kit_write_or_read_in_anothers_name() {
    if mosquitto::find().is_none() {
        return harness::skip::skipped("mosquitto", "i4_mosquitto_lets_no_kit_write_or_read_in_anothers_name");
    }
    let bench = Bench::new(Kind::Mosquitto).await;
    let mut kit = bench.connect(&bench.kit);
    kit.connected().await;
    assert_eq!(kit.publish("tm/1/centro/KIT-0002/up/vitals", false, b"x").await, PubAckReason::NotAuthorized);
    assert_eq!(kit.publish("tm/1/sudest/KIT-0001/up/vitals", false, b"x").await, PubAckReason::NotAuthorized);
    assert_eq!(kit.publish(DOWN, false, b"x").await, PubAckReason::NotAuthorized);
    assert_eq!(kit.publish(UP, false, b"x").await, PubAckReason::NoMatchingSubscribers);
}

/// rumqttd shakes hands in its accepting task; the harness and the demonstration must know it.
#[tokio::test]
async fn the_embedded_broker_survives_clients_that_leave_in_the_handshake() {
    let bench = Bench::new(Kind::Embedded).await;
    for _ in 0..20 {
        drop(tokio::net::TcpStream::connect(bench.broker.address()).await.unwrap());
    }
    bench.connect(&bench.kit).connected().await;
}
