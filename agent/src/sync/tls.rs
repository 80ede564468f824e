//! TLS towards the broker: TLS 1.3, 1.2 at least, both sides with a certificate, dates judged by a clock that may be wrong.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// TLS sessions that are kept for a quicker handshake: one broker.
const SESSIONS_MAX: usize = 2;
/// Certificates of one chain or one set of anchors, at most.
const CERTIFICATES_MAX: usize = 32;

/// When certificates are judged.
///
/// A kit without a clock of its own starts in 1970, and a wrong one may say 2099: as long as the clock is not trusted,
/// dates are judged at the last known good time, moved on by the time since boot, and only if that fails on a date once
/// more at the wall clock.
pub trait JudgingClock: fmt::Debug + Send + Sync {
    /// The times at which to judge, in order.
    fn judging_times(&self) -> JudgingTimes;
    /// A certificate was good at the wall clock alone: the wall clock is plausible, not trusted.
    fn wall_clock_is_plausible(&self);
}

/// Times since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgingTimes {
    /// The trusted clock, or the last known good time moved on by the time since.
    pub first: Duration,
    /// The wall clock, while it is not trusted.
    pub wall: Option<Duration>,
}

/// Why there can be no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate of an authority could be read.
    #[error("no certificate authority in the trust file: PEM certificates are expected")]
    NoAuthority,
    /// The kit's certificate could not be read.
    #[error("no certificate in the kit's certificate file: PEM is expected")]
    NoCertificate,
    /// The kit's key could not be read, or is not the certificate's.
    #[error("the kit's private key does not fit: {0}")]
    Key(String),
    /// The anchors cannot be used.
    #[error("the certificate authority cannot be used: {0}")]
    Authority(String),
}

/// The client's side of TLS: trusts `authority` only, shows `certificate`, checks the host's name.
///
/// Shape: PEM texts. Errors: [`TlsError`], naming which of the three.
pub fn client_config(
    authority: &[u8],
    certificate: &[u8],
    key: &[u8],
    clock: Arc<dyn JudgingClock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(authority, clock, provider.clone())?;
    let chain = certificates(certificate);
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key("no PEM key found".to_owned()))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsError::Authority(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::Key(error.to_string()))?;
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).take(CERTIFICATES_MAX).filter_map(Result::ok).collect()
}

/// Everything that rustls' own verifier checks, at times of our choosing.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    clock: Arc<dyn JudgingClock>,
}

impl Verifier {
    fn new(authority: &[u8], clock: Arc<dyn JudgingClock>, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(authority));
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| TlsError::Authority(error.to_string()))?;
        Ok(Self { inner, clock })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = |time: Duration| {
            let time = UnixTime::since_unix_epoch(time);
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, time)
        };
        let times = self.clock.judging_times();
        match (judge(times.first), times.wall) {
            (Err(error), Some(wall)) if is_about_dates(&error) => {
                let judged = judge(wall)?;
                self.clock.wall_clock_is_plausible();
                Ok(judged)
            }
            (judged, _) => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_about_dates(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let rustls::Error::InvalidCertificate(certificate) = error else { return false };
    matches!(certificate, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

/// What a person is told of a TLS error with `host`; `None` where it says nothing about certificates.
#[must_use]
pub fn refusal(error: &rustls::Error, host: &str) -> Option<String> {
    use CertificateError as Bad;
    let text = match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "the broker's certificate is not signed by the authority in the kit's trust file: check which broker this is"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the broker's certificate is not made out to {host}: check the broker's address in the configuration")
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the broker's certificate has expired: it must be renewed at the centre, or the gateway's clock is wrong".to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the broker's certificate is not valid yet: check the gateway's clock".to_owned()
        }
        rustls::Error::InvalidCertificate(other) => format!("the broker's certificate is not accepted: {other}"),
        rustls::Error::AlertReceived(alert) => alert_text(*alert)?,
        _ => return None,
    };
    Some(text)
}

/// What the broker says of the kit's certificate (RFC 8446 §6.2).
fn alert_text(alert: AlertDescription) -> Option<String> {
    let text = match alert {
        AlertDescription::CertificateExpired => "the broker says that the kit's certificate has expired: renew it",
        AlertDescription::CertificateRevoked => "the broker says that the kit's certificate was revoked: provision the kit again",
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "the broker does not accept the kit's certificate: provision the kit again"
        }
        AlertDescription::CertificateRequired | AlertDescription::AccessDenied => {
            "the broker wants a certificate that the kit lacks"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl JudgingClock for Fixed {
        fn judging_times(&self) -> JudgingTimes {
            JudgingTimes { first: Duration::from_secs(1), wall: None }
        }
        fn wall_clock_is_plausible(&self) {}
    }

    #[test]
    fn files_that_hold_no_pem_are_named() {
        let error = client_config(b"nothing", b"", b"", Arc::new(Fixed)).unwrap_err();
        assert_eq!(error, TlsError::NoAuthority);
    }

    #[test]
    fn a_certificate_of_another_authority_is_told_apart_from_a_lost_link() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(refusal(&unknown, "broker").unwrap().contains("is not signed by"));
        let revoked = rustls::Error::AlertReceived(AlertDescription::CertificateRevoked);
        assert!(refusal(&revoked, "broker").unwrap().contains("revoked"));
        assert_eq!(refusal(&rustls::Error::HandshakeNotComplete, "broker"), None);
        assert!(is_about_dates(&rustls::Error::InvalidCertificate(CertificateError::Expired)));
        assert!(!is_about_dates(&unknown));
    }
}
