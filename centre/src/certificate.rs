//! Whom a certificate names, and whether the kits' authority issued it.
//!
//! Two readers, each for what it is made for. The chain is checked by rustls's own client verifier (webpki over ring): it is
//! the code that checks the same certificate on the TLS side, with validity, basic constraints, key usage and signature, and
//! it reads no names. The names and the key come from x509-parser, which checks nothing.

use std::sync::Arc;
use std::time::Duration;

use kit_protocol::uplink::id::{KitId, Tenant};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::clock::WallTime;
use crate::signature::PublicKey;

/// Octets of a certificate, at most.
pub const CERTIFICATE_OCTETS_MAX: usize = 8 * 1024;

/// Why a certificate was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not an X.509 certificate, or larger than the bound.
    #[error("not an X.509 certificate")]
    Unreadable,
    /// CN or O is missing, stands twice, or is no kit id and tenant.
    #[error("the subject names no kit and tenant (CN and O)")]
    Subject,
    /// The key is not P-256.
    #[error("the key is not of the curve P-256")]
    Key,
    /// Not issued by the authority for clients, not valid now, or the chain does not hold.
    #[error("the authority does not vouch for it: {0}")]
    Chain(String),
    /// The file holds no certificate that can be an authority.
    #[error("expected a PEM file with the authority's certificate (BEGIN CERTIFICATE)")]
    NoAuthority,
}

/// Whom a certificate names. Nothing vouches for it until [`Authority::vouches`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// O.
    pub tenant: Tenant,
    /// CN.
    pub kit: KitId,
    /// The key it binds to that name.
    pub key: PublicKey,
}

impl Subject {
    /// Reads CN, O and the key out of a DER certificate.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let name = certificate.subject();
        Ok(Self {
            tenant: one(name.iter_organization())?.parse().map_err(|_| CertificateError::Subject)?,
            kit: common_name(name)?.parse().map_err(|_| CertificateError::Subject)?,
            key: PublicKey::from_spki(certificate.public_key().raw).map_err(|_| CertificateError::Key)?,
        })
    }
}

/// The common name of a DER certificate: the MQTT client id of whoever holds it.
pub fn common_name_of(der: &[u8]) -> Result<String, CertificateError> {
    Ok(common_name(parse(der)?.subject())?.to_owned())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > CERTIFICATE_OCTETS_MAX {
        return Err(CertificateError::Unreadable);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Unreadable),
    }
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Result<&'a str, CertificateError> {
    one(name.iter_common_name())
}

/// A name that stands twice could be read one way here and the other way by the broker: refused.
fn one<'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Result<&'a str, CertificateError> {
    match (attributes.next(), attributes.next()) {
        (Some(only), None) => only.as_str().map_err(|_| CertificateError::Subject),
        _ => Err(CertificateError::Subject),
    }
}

/// Who issues the kits' certificates.
#[derive(Clone, Debug)]
pub struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// From the PEM text of one or more authority certificates.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots_from_pem(pem)?), provider)
            .build()
            .map_err(|_| CertificateError::NoAuthority)?;
        Ok(Self { verifier })
    }

    /// Whether this authority issued the certificate for a client and it is valid at `now`.
    ///
    /// A kit's certificate is issued by the authority itself; there are no intermediates.
    pub fn vouches(&self, der: &[u8], now: WallTime) -> Result<(), CertificateError> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        match self.verifier.verify_client_cert(&CertificateDer::from(der), &[], now) {
            Ok(_) => Ok(()),
            Err(error) => Err(CertificateError::Chain(error.to_string())),
        }
    }
}

/// The trust anchors in a PEM text.
pub fn roots_from_pem(pem: &str) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| CertificateError::NoAuthority)?;
        roots.add(certificate).map_err(|_| CertificateError::NoAuthority)?;
    }
    if roots.is_empty() { Err(CertificateError::NoAuthority) } else { Ok(roots) }
}
