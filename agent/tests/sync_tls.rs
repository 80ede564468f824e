//! TLS towards the broker, as two ends in memory: whom the kit trusts, and when it judges dates.

#![expect(clippy::unwrap_used, reason = "a test: what is missing here is the test's own mistake")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kit_agent::sync::tls::{JudgingClock, JudgingTimes, TlsError, client_config, refusal};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

const HOST: &str = "broker.example";
/// 2026-06-01T00:00:00Z, within the certificates' time.
const NOW: Duration = Duration::from_secs(1_780_272_000);
const YEAR_1970: Duration = Duration::from_secs(100);
const YEAR_2099: Duration = Duration::from_secs(4_070_908_800);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key, PEM; valid in 2026 only.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 12, 31);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

#[derive(Debug)]
struct Clock {
    times: JudgingTimes,
    plausible: AtomicU32,
}

impl JudgingClock for Clock {
    fn judging_times(&self) -> JudgingTimes {
        self.times
    }
    fn wall_clock_is_plausible(&self) {
        self.plausible.fetch_add(1, Ordering::Relaxed);
    }
}

/// What came of a handshake: the version, or why the kit refused; and how often the wall clock was found plausible.
struct Outcome {
    version: Result<ProtocolVersion, rustls::Error>,
    plausible: u32,
}

impl Outcome {
    fn text(&self) -> String {
        refusal(self.version.as_ref().unwrap_err(), HOST).unwrap()
    }
}

struct Case {
    trusts: Authority,
    broker: (String, String),
    broker_trusts: Option<Authority>,
    kit: (String, String),
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Case {
    fn honest() -> Self {
        let authority = Authority::new("the centre's");
        let (broker, kit) = (authority.issue(HOST), authority.issue("KIT-0001"));
        Self { trusts: authority, broker, broker_trusts: None, kit, versions: vec![&TLS13, &TLS12] }
    }

    fn handshake(&self, first: Duration, wall: Option<Duration>) -> Outcome {
        let clock = Arc::new(Clock { times: JudgingTimes { first, wall }, plausible: AtomicU32::new(0) });
        let authority = self.trusts.0.pem();
        let config = client_config(authority.as_bytes(), self.kit.0.as_bytes(), self.kit.1.as_bytes(), clock.clone()).unwrap();
        let mut kit = ClientConnection::new(config, ServerName::try_from(HOST).unwrap()).unwrap();
        let mut broker = ServerConnection::new(self.broker_config()).unwrap();
        let version = meet(&mut kit, &mut broker);
        Outcome { version, plausible: clock.plausible.load(Ordering::Relaxed) }
    }

    fn broker_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let trusted = self.broker_trusts.as_ref().unwrap_or(&self.trusts);
        roots.add(trusted.0.der().clone()).unwrap();
        let kits = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(self.broker.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.broker.1.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_details(provider, Arc::new(Broker2026))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_client_cert_verifier(kits)
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

/// The broker's own clock is right.
#[derive(Debug)]
struct Broker2026;

impl rustls::time_provider::TimeProvider for Broker2026 {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(NOW))
    }
}

/// Carries octets to and fro until both are content or the kit is not.
fn meet(kit: &mut ClientConnection, broker: &mut ServerConnection) -> Result<ProtocolVersion, rustls::Error> {
    for _ in 0..20 {
        let mut octets = Vec::new();
        while kit.wants_write() {
            kit.write_tls(&mut octets).unwrap();
        }
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            broker.read_tls(&mut rest).unwrap();
        }
        // What the broker finds wrong with the kit it says in an alert, which the kit reads.
        let _ = broker.process_new_packets();
        let mut octets = Vec::new();
        while broker.wants_write() {
            broker.write_tls(&mut octets).unwrap();
        }
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            kit.read_tls(&mut rest).unwrap();
        }
        kit.process_new_packets()?;
        if !kit.is_handshaking() && !broker.is_handshaking() {
            return Ok(kit.protocol_version().unwrap());
        }
    }
    Err(rustls::Error::HandshakeNotComplete)
}

#[test]
fn both_ends_show_a_certificate_and_speak_tls_1_3() {
    let outcome = Case::honest().handshake(NOW, None);
    assert_eq!(outcome.version.unwrap(), ProtocolVersion::TLSv1_3);
    assert_eq!(outcome.plausible, 0);
}

#[test]
fn a_broker_that_knows_only_tls_1_2_is_accepted() {
    let case = Case { versions: vec![&TLS12], ..Case::honest() };
    assert_eq!(case.handshake(NOW, None).version.unwrap(), ProtocolVersion::TLSv1_2);
}

#[test]
fn a_broker_of_another_authority_is_refused_and_the_status_says_so() {
    let case = Case { broker: Authority::new("someone's").issue(HOST), ..Case::honest() };
    assert!(case.handshake(NOW, Some(NOW)).text().contains("not signed by the authority"));
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let honest = Case::honest();
    let broker = honest.trusts.issue("elsewhere.example");
    let case = Case { broker, ..honest };
    assert!(case.handshake(NOW, None).text().contains("not made out to broker.example"));
}

#[test]
fn i8_a_kit_in_1970_judges_at_the_last_known_good_time() {
    let outcome = Case::honest().handshake(NOW, Some(YEAR_1970));
    assert!(outcome.version.is_ok());
    assert_eq!(outcome.plausible, 0, "the wall clock was not asked");
}

#[test]
fn i8_a_kit_from_the_depot_with_a_right_clock_connects_and_its_clock_is_plausible() {
    let outcome = Case::honest().handshake(YEAR_1970, Some(NOW));
    assert!(outcome.version.is_ok());
    assert_eq!(outcome.plausible, 1);
}

#[test]
fn a_clock_at_2099_locks_nothing_while_it_is_not_trusted() {
    assert!(Case::honest().handshake(NOW, Some(YEAR_2099)).version.is_ok());
    assert!(Case::honest().handshake(YEAR_2099, Some(NOW)).version.is_ok());
}

#[test]
fn a_certificate_out_of_its_time_by_every_clock_is_refused_and_the_status_says_how() {
    let early = Case::honest().handshake(YEAR_1970, Some(YEAR_1970));
    assert!(early.text().contains("not valid yet"));
    assert_eq!(early.plausible, 0);
    assert!(Case::honest().handshake(YEAR_2099, None).text().contains("expired"));
}

#[test]
fn the_second_look_is_for_dates_only() {
    let case = Case { broker: Authority::new("someone's").issue(HOST), ..Case::honest() };
    let outcome = case.handshake(YEAR_1970, Some(NOW));
    assert!(outcome.version.is_err());
    assert_eq!(outcome.plausible, 0);
}

#[test]
fn a_kit_whose_certificate_the_broker_does_not_accept_is_told_so() {
    let case = Case { broker_trusts: Some(Authority::new("another centre's")), ..Case::honest() };
    assert!(case.handshake(NOW, None).text().contains("does not accept the kit's certificate"));
}

#[test]
fn files_that_do_not_fit_are_named() {
    let honest = Case::honest();
    let clock = || Arc::new(Clock { times: JudgingTimes { first: NOW, wall: None }, plausible: AtomicU32::new(0) });
    let authority = honest.trusts.0.pem();
    let config = |authority: &str, certificate: &str, key: &str| {
        client_config(authority.as_bytes(), certificate.as_bytes(), key.as_bytes(), clock()).unwrap_err()
    };
    assert_eq!(config("", &honest.kit.0, &honest.kit.1), TlsError::NoAuthority);
    assert_eq!(config(&authority, "", &honest.kit.1), TlsError::NoCertificate);
    assert!(matches!(config(&authority, &honest.kit.0, ""), TlsError::Key(_)));
    assert!(matches!(config(&authority, &honest.kit.0, &honest.broker.1), TlsError::Key(_)), "another's key");
}
