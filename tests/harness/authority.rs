//! A certificate authority made on the spot: P-256 keys and PEM files in one directory, keys readable by their owner alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit_protocol::uplink::id::{KitId, Tenant};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

use crate::clock;

/// How long a certificate made here is good for; a demonstration or test lasts minutes.
const VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// Certificates begin so long ago, so that a clock that is a little behind accepts them.
const MARGIN: Duration = Duration::from_secs(86_400);

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday for 30 days.
    Current,
    /// It ended yesterday.
    Expired,
    /// It begins tomorrow.
    NotYet,
}

/// One holder's files, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The common name.
    pub name: String,
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key (PKCS#8), mode 0600.
    pub key: PathBuf,
    /// The authority that others are checked against.
    pub authority: PathBuf,
}

/// A key pair for signatures, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// The private key (PKCS#8), mode 0600.
    pub key: PathBuf,
    /// The public key.
    pub public: PathBuf,
}

/// Why an authority could not issue.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A certificate authority whose files stand in one directory.
pub struct Authority {
    directory: PathBuf,
    certificate: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority called `name` and writes `DIR/NAME.pem`; its key never reaches the disk.
    pub fn new(directory: &Path, name: &str) -> Result<Self, AuthorityError> {
        let mut params = params(name, None, Validity::Current);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?;
        std::fs::create_dir_all(directory).map_err(|source| AuthorityError::File { path: directory.to_path_buf(), source })?;
        let certificate = directory.join(format!("{name}.pem"));
        write(&certificate, &issuer.pem(), 0o644)?;
        Ok(Self { directory: directory.to_path_buf(), certificate, issuer })
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A broker's certificate for `localhost` and 127.0.0.1.
    pub fn broker(&self, validity: Validity) -> Result<Identity, AuthorityError> {
        let mut params = params("broker", None, validity);
        params.subject_alt_names = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("broker", params)
    }

    /// A kit's certificate: common name = kit, organisation = tenant.
    pub fn kit(&self, kit: &KitId, tenant: &Tenant, validity: Validity) -> Result<Identity, AuthorityError> {
        self.client(kit.as_str(), tenant.as_str(), validity)
    }

    /// A centre worker's certificate; its organisation is `centre`.
    pub fn centre(&self, worker: &str) -> Result<Identity, AuthorityError> {
        self.client(worker, "centre", Validity::Current)
    }

    /// A key for signatures that no certificate vouches for, as `NAME.key` and, for who checks them, `NAME.pub.pem`.
    pub fn signing_key(&self, name: &str) -> Result<SigningKey, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let files = SigningKey {
            key: self.directory.join(format!("{name}.key")),
            public: self.directory.join(format!("{name}.pub.pem")),
        };
        write(&files.key, &key.serialize_pem(), 0o600)?;
        write(&files.public, &key.public_key_pem(), 0o644)?;
        Ok(files)
    }

    /// rumqttd takes nothing but letters and digits as an organisation.
    fn client(&self, name: &str, organisation: &str, validity: Validity) -> Result<Identity, AuthorityError> {
        let mut params = params(name, Some(organisation), validity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, params)
    }

    fn issue(&self, name: &str, mut params: CertificateParams) -> Result<Identity, AuthorityError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity = Identity {
            name: name.to_owned(),
            certificate: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
            authority: self.certificate.clone(),
        };
        write(&identity.certificate, &certificate.pem(), 0o644)?;
        write(&identity.key, &key.serialize_pem(), 0o600)?;
        Ok(identity)
    }
}

fn params(name: &str, organisation: Option<&str>, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organisation) = organisation {
        params.distinguished_name.push(DnType::OrganizationName, organisation);
    }
    let now = date_time_ymd(1970, 1, 1) + clock::since_1970();
    (params.not_before, params.not_after) = match validity {
        Validity::Current => (now - MARGIN, now + VALIDITY),
        Validity::Expired => (now - MARGIN - VALIDITY, now - MARGIN),
        Validity::NotYet => (now + MARGIN, now + VALIDITY),
    };
    params
}

/// Writes a file that is never, not even for a moment, readable by more than `mode` says.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let at = |source| AuthorityError::File { path: path.to_path_buf(), source };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(at)?;
    file.write_all(text.as_bytes()).map_err(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path(), "authority").unwrap();
        let kit = authority.kit(&"KIT-0001".parse().unwrap(), &"centro".parse().unwrap(), Validity::Current).unwrap();
        let mode = std::fs::metadata(&kit.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(std::fs::read_to_string(&kit.key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(kit.authority, authority.certificate());
    }
}
