//! rumqttd 0.20 in this program: MQTT 5 over TLS, client certificates demanded.
//!
//! What it lacks, from its source and `tests/broker.rs`: memory over a restart, access control, session expiry, Receive
//! Maximum, and `No matching subscribers` in a PUBACK. It takes the tenant from the certificate's organisation (letters and
//! digits only) and makes `tenant.client` of the client id, so that equal ids of two tenants do not meet. TLS handshakes are
//! done one after the other in the accepting task: a client that stalls in its handshake keeps everyone else out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings, TlsConfig};

use super::{BrokerError, PACKET_OCTETS_MAX};
use crate::authority::Identity;

/// Octets of one segment of a filter's log in memory.
const SEGMENT_OCTETS: usize = 8 * 1024 * 1024;
/// Segments a filter keeps; a session that lags further behind loses what is older.
const SEGMENTS: usize = 8;
/// How long a client may take from its handshake to CONNECT, milliseconds.
const CONNECT_WITHIN_MS: u16 = 10_000;
const CONNECTIONS_MAX: usize = 1_000;

/// The arguments of the role `broker`.
#[must_use]
pub fn arguments(listen: SocketAddr, identity: &Identity) -> [OsString; 4] {
    [
        listen.to_string().into(),
        identity.authority.clone().into(),
        identity.certificate.clone().into(),
        identity.key.clone().into(),
    ]
}

/// The role `broker`: serves until it fails. A panic in one of rumqttd's threads ends the process rather than leave a broker
/// that accepts nobody (its lock of pending wills stays poisoned), so that its supervisor can start it again.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Result<(), BrokerError> {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(70);
    }));
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let [listen, authority, certificate, key] = &arguments[..] else {
        return Err(BrokerError::Embedded("expected an address, an authority, a certificate and a key".to_owned()));
    };
    let listen = listen.to_string_lossy().parse().map_err(|_| BrokerError::Embedded("not an address".to_owned()))?;
    let identity = Identity {
        name: "broker".to_owned(),
        certificate: PathBuf::from(certificate),
        key: PathBuf::from(key),
        authority: PathBuf::from(authority),
    };
    serve(listen, &identity)
}

/// Serves in this thread until it fails; it cannot be stopped.
pub fn serve(listen: SocketAddr, identity: &Identity) -> Result<(), BrokerError> {
    rumqttd::Broker::new(config(listen, identity)).start().map_err(|error| BrokerError::Embedded(error.to_string()))
}

fn config(listen: SocketAddr, identity: &Identity) -> Config {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let server = ServerSettings {
        name: "tls".to_owned(),
        listen,
        tls: Some(TlsConfig::Rustls {
            capath: Some(text(&identity.authority)),
            certpath: text(&identity.certificate),
            keypath: text(&identity.key),
        }),
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_WITHIN_MS,
            max_payload_size: PACKET_OCTETS_MAX,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    Config {
        router: RouterConfig {
            max_connections: CONNECTIONS_MAX,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_OCTETS,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("tls".to_owned(), server)])),
        ..Config::default()
    }
}
