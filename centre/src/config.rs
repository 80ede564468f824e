//! The configuration file, as types that cannot be wrong: whoever holds a [`Config`] need not check it again.
//!
//! ```toml
//! database = "centre.db"            # paths are relative to this file
//! tenants = ["centro"]              # the health authorities it serves
//! drain_octets_per_s = 0            # what it asks of a kit's backlog; 0: not limited
//!
//! [broker]
//! host = "mqtt.example.org"
//! port = 8883
//! authority = "ca.pem"              # who issued the broker's certificate
//! certificate = "centre.pem"        # this worker's; its common name is the MQTT client id
//! key = "centre.key"
//!
//! [kits]
//! authority = "ca.pem"              # who issues the kits' certificates
//!
//! [signing]
//! key = "signing.key"               # P-256, PKCS#8: signs answers, announcements and documents
//! ```

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kit_protocol::uplink::id::Tenant;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::{Authority, common_name_of, roots_from_pem};
use crate::signature::SigningKey;

/// Octets of a configuration, certificate or key file, at most.
const FILE_OCTETS_MAX: u64 = 1024 * 1024;
/// Tenants of one centre, at most.
const TENANTS_MAX: usize = 64;

/// What a centre needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database's file.
    pub database: PathBuf,
    /// Whose kits it serves; the first one's announcement is also its last will. Never empty.
    pub tenants: Vec<Tenant>,
    /// What it asks of a kit's backlog, octets a second; 0: not limited.
    pub drain_octets_per_s: u32,
    /// Where the messages come from.
    pub broker: Broker,
    /// Who issues the kits' certificates.
    pub kits: Authority,
    /// Signs answers, announcements and documents.
    pub signing: Arc<SigningKey>,
}

/// A broker, and who this centre is to it.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Host name or address, as its certificate has it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// MQTT client id: the common name of the certificate.
    pub client_id: String,
    /// Trust in the broker, and this centre's certificate.
    pub tls: Arc<ClientConfig>,
}

/// A wrong configuration: one line that names file, key and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// The key, as `section.key`; empty where it is about the file itself.
    pub key: String,
    /// What was expected, and what was found.
    pub problem: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.file.display(), self.problem),
            key => write!(f, "{}: {key}: {}", self.file.display(), self.problem),
        }
    }
}

/// The file's own content: what it says, before the files that it names are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    /// See [`Config::database`].
    pub database: PathBuf,
    /// See [`Config::tenants`].
    pub tenants: Vec<Tenant>,
    drain_octets_per_s: u32,
    host: String,
    port: u16,
    broker_authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    kits_authority: PathBuf,
    signing_key: PathBuf,
}

impl ConfigFile {
    /// Reads `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_file(path).map_err(|problem| ConfigError { file: path.to_owned(), key: String::new(), problem })?;
        Self::parse(path, &text)
    }

    /// Parses `text`; `path` is where it came from, for errors and relative paths.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table = text.parse::<toml::Table>().map_err(|error| {
            let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
            let problem = format!("line {line}: expected TOML, {}", error.message().replace('\n', " "));
            ConfigError { file: path.to_owned(), key: String::new(), problem }
        })?;
        let mut root = Section { file: path, name: "", table };
        let mut broker = root.section("broker")?;
        let mut kits = root.section("kits")?;
        let mut signing = root.section("signing")?;
        let file = Self {
            path: path.to_owned(),
            database: root.path("database", "the database's file name")?,
            tenants: root.tenants()?,
            drain_octets_per_s: root.number("drain_octets_per_s", "octets a second, 0 for no limit", Some(0))?,
            host: broker.text("host", "a host name or address")?,
            port: broker.number("port", "a port number from 1 to 65535", None)?,
            broker_authority: broker.path("authority", "a PEM file with the certificate of the broker's authority")?,
            certificate: broker.path("certificate", "a PEM file with this centre's certificate")?,
            key: broker.path("key", "a PEM file with the certificate's key")?,
            kits_authority: kits.path("authority", "a PEM file with the certificate of the kits' authority")?,
            signing_key: signing.path("key", "a PEM file with a P-256 key (PKCS#8)")?,
        };
        if file.port == 0 {
            return Err(broker.wrong("port", "expected a port number from 1 to 65535, found 0"));
        }
        [root, broker, kits, signing].into_iter().try_for_each(Section::end)?;
        Ok(file)
    }

    /// Reads the files it names.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let broker_authority = self.pem("broker.authority", &self.broker_authority)?;
        let certificate = self.pem("broker.certificate", &self.certificate)?;
        let key = self.secret("broker.key", &self.key)?;
        let roots =
            roots_from_pem(&broker_authority).map_err(|error| self.wrong("broker.authority", &self.broker_authority, &error))?;
        let chain = certificates(&certificate).ok_or_else(|| {
            self.wrong("broker.certificate", &self.certificate, &"expected a PEM file with a certificate (BEGIN CERTIFICATE)")
        })?;
        let leaf = chain.first().map_or(&[][..], |leaf| leaf.as_ref());
        let client_id = common_name_of(leaf).map_err(|error| self.wrong("broker.certificate", &self.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| self.wrong("broker.key", &self.key, &"expected a PEM file with a private key (BEGIN PRIVATE KEY)"))?;
        let tls = tls(roots, chain, key).map_err(|error| {
            self.wrong("broker.key", &self.key, &format!("expected the key of {}: {error}", self.certificate.display()))
        })?;
        let kits = Authority::from_pem(&self.pem("kits.authority", &self.kits_authority)?)
            .map_err(|error| self.wrong("kits.authority", &self.kits_authority, &error))?;
        Ok(Config {
            database: self.database.clone(),
            tenants: self.tenants.clone(),
            drain_octets_per_s: self.drain_octets_per_s,
            broker: Broker { host: self.host.clone(), port: self.port, client_id, tls: Arc::new(tls) },
            kits,
            signing: Arc::new(self.signing_key()?),
        })
    }

    /// Reads the signing key alone.
    pub fn signing_key(&self) -> Result<SigningKey, ConfigError> {
        let pem = self.secret("signing.key", &self.signing_key)?;
        SigningKey::from_pem(&pem).map_err(|error| self.wrong("signing.key", &self.signing_key, &error))
    }

    fn pem(&self, key: &str, path: &Path) -> Result<String, ConfigError> {
        read_file(path).map_err(|problem| self.wrong(key, path, &problem))
    }

    /// A file that nobody but its owner may read.
    fn secret(&self, key: &str, path: &Path) -> Result<String, ConfigError> {
        let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o077 != 0) {
            let problem = "others may read this key; make it 0600 (chmod 600) and consider it disclosed";
            return Err(self.wrong(key, path, &problem));
        }
        self.pem(key, path)
    }

    fn wrong(&self, key: &str, path: &Path, problem: &dyn fmt::Display) -> ConfigError {
        let problem = format!("{}: {problem}", path.display());
        ConfigError { file: self.path.clone(), key: key.to_owned(), problem }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let octets = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if octets > FILE_OCTETS_MAX {
        return Err(format!("expected at most {FILE_OCTETS_MAX} octets, found {octets}"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().ok()?;
    if chain.is_empty() { None } else { Some(chain) }
}

/// TLS 1.3, 1.2 accepted, mutual authentication, ring.
fn tls(
    roots: rustls::RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
}

impl Broker {
    /// From PEM texts: the broker's authority, and this centre's certificate and key.
    ///
    /// Errors: what is wrong with them, in one line.
    pub fn new(host: &str, port: u16, authority: &str, certificate: &str, key: &str) -> Result<Self, String> {
        let roots = roots_from_pem(authority).map_err(|error| error.to_string())?;
        let chain = certificates(certificate).ok_or("no certificate")?;
        let client_id = common_name_of(chain.first().map_or(&[][..], |leaf| leaf.as_ref())).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        let tls = tls(roots, chain, key).map_err(|error| error.to_string())?;
        Ok(Self { host: host.to_owned(), port, client_id, tls: Arc::new(tls) })
    }
}

/// A table of the file, from which keys are taken; what is left at the end is no key of ours.
struct Section<'a> {
    file: &'a Path,
    name: &'static str,
    table: toml::Table,
}

impl<'a> Section<'a> {
    fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let key = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        ConfigError { file: self.file.to_owned(), key, problem: problem.into() }
    }

    fn expected(&self, key: &str, expected: &str, found: Option<&toml::Value>) -> ConfigError {
        let found = found.map_or_else(|| "nothing".to_owned(), |found| serde_json::to_string(found).unwrap_or_default());
        self.wrong(key, format!("expected {expected}, found {found}"))
    }

    fn section(&mut self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        match self.table.remove(name) {
            Some(toml::Value::Table(table)) => Ok(Section { file: self.file, name, table }),
            other => Err(self.expected(name, &format!("a section [{name}]"), other.as_ref())),
        }
    }

    fn text(&mut self, key: &str, expected: &str) -> Result<String, ConfigError> {
        match self.table.remove(key) {
            Some(toml::Value::String(text)) if !text.is_empty() && !text.contains(char::is_whitespace) => Ok(text),
            other => Err(self.expected(key, expected, other.as_ref())),
        }
    }

    fn path(&mut self, key: &str, expected: &str) -> Result<PathBuf, ConfigError> {
        match self.table.remove(key) {
            Some(toml::Value::String(text)) if !text.is_empty() => {
                Ok(self.file.parent().map_or_else(|| PathBuf::from(&text), |directory| directory.join(&text)))
            }
            other => Err(self.expected(key, expected, other.as_ref())),
        }
    }

    fn number<T: TryFrom<i64>>(&mut self, key: &str, expected: &str, absent: Option<T>) -> Result<T, ConfigError> {
        match (self.table.remove(key), absent) {
            (None, Some(absent)) => Ok(absent),
            (Some(toml::Value::Integer(number)), _) => {
                T::try_from(number).map_err(|_| self.expected(key, expected, Some(&toml::Value::Integer(number))))
            }
            (other, _) => Err(self.expected(key, expected, other.as_ref())),
        }
    }

    fn tenants(&mut self) -> Result<Vec<Tenant>, ConfigError> {
        let expected = "a list of tenants, each 2 to 16 of a-z and 0-9, such as [\"centro\"]";
        let found = self.table.remove("tenants");
        let texts = found.as_ref().and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut tenants: Vec<Tenant> = Vec::with_capacity(texts.len());
        for text in texts {
            let tenant = text.as_str().and_then(|text| text.parse().ok());
            tenants.push(tenant.ok_or_else(|| self.expected("tenants", expected, found.as_ref()))?);
        }
        if !(1..=TENANTS_MAX).contains(&tenants.len()) {
            return Err(self.expected("tenants", expected, found.as_ref()));
        }
        Ok(tenants)
    }

    fn end(self) -> Result<(), ConfigError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, "expected no such key; is it misspelt, or in another section?")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
database = "centre.db"
tenants = ["centro", "sudest"]
[broker]
host = "localhost"
port = 8883
authority = "ca.pem"
certificate = "/etc/centre.pem"
key = "centre.key"
[kits]
authority = "ca.pem"
[signing]
key = "signing.key"
"#;

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse(Path::new("/srv/centre.toml"), text)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let file = parse(SOUND).unwrap();
        assert_eq!(file.database, Path::new("/srv/centre.db"));
        assert_eq!(file.certificate, Path::new("/etc/centre.pem"));
        assert_eq!((file.tenants.len(), file.port, file.drain_octets_per_s), (2, 8883, 0));
    }

    #[test]
    fn a_wrong_value_is_one_line_naming_file_key_and_what_was_expected() {
        for (from, to, line) in [
            ("8883", "\"x\"", "/srv/centre.toml: broker.port: expected a port number from 1 to 65535, found \"x\""),
            ("8883", "70000", "/srv/centre.toml: broker.port: expected a port number from 1 to 65535, found 70000"),
            ("8883", "0", "/srv/centre.toml: broker.port: expected a port number from 1 to 65535, found 0"),
            ("host = \"localhost\"", "", "/srv/centre.toml: broker.host: expected a host name or address, found nothing"),
            ("[kits]", "[kit]", "/srv/centre.toml: kits: expected a section [kits], found nothing"),
            (
                "port =",
                "prot = 1\nport =",
                "/srv/centre.toml: broker.prot: expected no such key; is it misspelt, or in another section?",
            ),
            (
                "\"sudest\"",
                "\"Sud Est\"",
                "/srv/centre.toml: tenants: expected a list of tenants, each 2 to 16 of a-z and 0-9, such as [\"centro\"], found [\"centro\",\"Sud Est\"]",
            ),
        ] {
            assert_eq!(parse(&SOUND.replace(from, to)).unwrap_err().to_string(), line);
        }
        let syntax = parse("database = \n").unwrap_err().to_string();
        assert!(syntax.starts_with("/srv/centre.toml: line 1: expected TOML, ") && !syntax.contains('\n'), "{syntax}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("centre.toml");
        let error = ConfigFile::parse(&path, SOUND).unwrap().load().unwrap_err().to_string();
        let expected =
            format!("{}: broker.authority: {}: cannot be read: ", path.display(), directory.path().join("ca.pem").display());
        assert!(error.starts_with(&expected), "{error}");
    }
}
