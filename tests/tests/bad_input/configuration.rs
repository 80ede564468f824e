//! A wrong configuration: one line that names the file, the place in it and what was expected, and exit code 2.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::authority::{Authority, Validity};
use harness::process::Launcher;

use super::{PROGRAM, Said};

const KIT: &str = r#"kit = "KIT-0001"
tenant = "centro"
state = "state"
socket = "socket"

[broker]
host = "localhost"
port = 8883
authority = "authority.pem"
certificate = "KIT-0001.pem"
key = "KIT-0001.key"

[centre]
keys = ["signing.pub.pem"]

[[device]]
identity = "finger"
driver = "oximeter-nonin"
port = "/dev/null"
"#;

const CENTRE: &str = r#"database = "centre.db"
tenants = ["centro"]

[broker]
host = "localhost"
port = 8883
authority = "authority.pem"
certificate = "centre-1.pem"
key = "centre-1.key"

[kits]
authority = "authority.pem"

[signing]
key = "signing.key"
"#;

/// What of the kit's text is replaced by what, and what the line says of it.
const WRONG_KITS: [(&str, &str, &str); 16] = [
    ("KIT-0001\"\nten", "kit 1\"\nten", "1: kit: a kit id is 4 to 32 of A-Z, 0-9 and -"),
    ("\"centro\"", "\"Centro\"", "2: tenant: "),
    ("tenant = \"centro\"\n", "", "1: missing field `tenant`"),
    ("state = \"state\"", "state = 3", "3: state: invalid type: integer `3`, expected "),
    ("state = \"state\"", "state = ", "3: state: "),
    ("\"localhost\"", "\"mqtts://localhost\"", "7: broker.host: expected a host name or an IP address, without port or scheme"),
    ("8883", "70000", "8: broker.port: expected a TCP port, 1 to 65535"),
    ("8883", "\"8883\"", "8: broker.port: invalid type: string \"8883\", expected "),
    ("authority = \"authority.pem\"\n", "", "6: broker: missing field `authority`"),
    ("keys =", "kyes =", "14: centre.kyes: unknown field `kyes`, expected `keys`"),
    (
        "[\"signing.pub.pem\"]",
        "\"signing.pub.pem\"",
        "14: centre.keys: invalid type: string \"signing.pub.pem\", expected a list",
    ),
    ("\"oximeter-nonin\"", "\"toaster\"", "16: device: driver: expected one of "),
    ("port = \"/dev/null\"", "folder = \"/tmp\"", "16: device: port: the driver oximeter-nonin needs a serial port"),
    ("\"finger\"", "\"\"", "16: device: identity: expected 1 to 64 characters"),
    (
        "port = \"/dev/null\"\n",
        "port = \"/dev/null\"\nstream_interval_s = 0\n",
        "16: device: stream_interval_s: expected 1 to 3600 seconds",
    ),
    (
        "port = \"/dev/null\"\n",
        "port = \"/dev/null\"\n[[device]]\nidentity = \"finger\"\ndriver = \"oximeter-nonin\"\nport = \"/dev/zero\"\n",
        "20: device: identity: another device is finger already; give this one another",
    ),
];

const WRONG_CENTRES: [(&str, &str, &str); 10] = [
    ("database = \"centre.db\"\n", "", " database: expected the database's file name, found nothing"),
    ("[\"centro\"]", "[\"Centro\"]", " tenants: expected a list of tenants"),
    ("[\"centro\"]", "[]", " tenants: expected a list of tenants"),
    ("\"localhost\"", "7", " broker.host: expected a host name or address, found 7"),
    ("8883", "0", " broker.port: expected a port number from 1 to 65535, found 0"),
    ("8883", "\"8883\"", " broker.port: expected a port number from 1 to 65535, found \"8883\""),
    ("port = 8883", "prot = 1\nport = 8883", " broker.prot: expected no such key"),
    ("[kits]", "[kit]", " kits: expected a section [kits], found nothing"),
    ("[signing]", "[signing", " line 14: expected TOML"),
    ("tenants = ", "tenants = [", " line 4: expected TOML"),
];

/// A folder with every file that both configurations name.
struct Folder {
    folder: tempfile::TempDir,
    launcher: Launcher,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "authority").unwrap();
        authority.kit(&"KIT-0001".parse().unwrap(), &"centro".parse().unwrap(), Validity::Current).unwrap();
        authority.centre("centre-1").unwrap();
        authority.signing_key("signing").unwrap();
        let launcher = Launcher::new(PathBuf::from(PROGRAM), folder.path().join("logs"));
        Self { folder, launcher }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The one line that `role` complains with over a configuration of these octets, without its beginning, which names program
    /// and file.
    async fn complaint(&self, role: &str, octets: &[u8]) -> String {
        let file = self.file("wrong.toml");
        std::fs::write(&file, octets).unwrap();
        self.complaint_over(role, &file).await
    }

    async fn complaint_over(&self, role: &str, file: &Path) -> String {
        let said = Said::of(&self.launcher.to_its_end(role, &["run", "--config", &file.to_string_lossy()]).await.unwrap());
        assert_eq!(said.code, Some(2), "{said:?}");
        let beginning = format!("kit-{role}: {}:", file.display());
        let line = said.complaint().strip_prefix(&beginning).unwrap_or_else(|| panic!("{beginning}… and not {said:?}"));
        line.to_owned()
    }

    fn exposed(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.file(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

#[tokio::test]
async fn a_wrong_configuration_of_the_kit_is_one_line_with_file_line_key_and_what_was_expected() {
    let folder = Folder::new();
    for (from, to, line) in WRONG_KITS {
        let said = folder.complaint("agent", replaced(KIT, from, to).as_bytes()).await;
        assert!(said.starts_with(line), "{line}… and not {said}");
    }
    assert!(folder.complaint("agent", b"").await.starts_with("1: missing field `kit`"));
    assert!(folder.complaint("agent", b"\xff\xfe").await.contains("cannot be read"));
    assert!(folder.complaint_over("agent", &folder.file("none.toml")).await.contains("cannot be read"));
}

#[tokio::test]
async fn a_wrong_configuration_of_the_centre_is_one_line_with_file_key_and_what_was_expected() {
    let folder = Folder::new();
    for (from, to, line) in WRONG_CENTRES {
        let said = folder.complaint("centre", replaced(CENTRE, from, to).as_bytes()).await;
        assert!(said.starts_with(line), "{line}… and not {said}");
    }
    assert!(folder.complaint("centre", b"\xff\xfe").await.contains("cannot be read"));
    assert!(folder.complaint_over("centre", &folder.file("none.toml")).await.contains("cannot be read"));
}

#[tokio::test]
async fn i7_a_key_that_others_may_read_is_refused() {
    let folder = Folder::new();
    for (role, text, key, name) in [
        ("agent", KIT, "broker.key", "KIT-0001.key"),
        ("centre", CENTRE, "broker.key", "centre-1.key"),
        ("centre", CENTRE, "signing.key", "signing.key"),
    ] {
        folder.exposed(name, 0o640);
        let expected = format!(" {key}: {}: others may read this key; make it 0600", folder.file(name).display());
        let said = folder.complaint(role, text.as_bytes()).await;
        assert!(said.starts_with(&expected), "{expected}… and not {said}");
        folder.exposed(name, 0o600);
    }
}

#[tokio::test]
async fn a_file_that_the_configuration_names_and_that_is_not_there_or_not_what_it_should_be_is_named_with_its_key() {
    let folder = Folder::new();
    for (role, text, key, name) in [
        ("agent", KIT, "broker.authority", "authority.pem"),
        ("agent", KIT, "broker.certificate", "KIT-0001.pem"),
        ("agent", KIT, "broker.key", "KIT-0001.key"),
        ("agent", KIT, "centre.keys", "signing.pub.pem"),
        ("centre", CENTRE, "broker.authority", "authority.pem"),
        ("centre", CENTRE, "broker.certificate", "centre-1.pem"),
        ("centre", CENTRE, "broker.key", "centre-1.key"),
        ("centre", CENTRE, "signing.key", "signing.key"),
    ] {
        let sound = std::fs::read(folder.file(name)).unwrap();
        std::fs::write(folder.file(name), "not PEM").unwrap();
        let said = folder.complaint(role, text.as_bytes()).await;
        assert!(said.starts_with(&format!(" {key}: ")), "{role} {name}: {said}");
        std::fs::remove_file(folder.file(name)).unwrap();
        let said = folder.complaint(role, text.as_bytes()).await;
        assert!(said.starts_with(&format!(" {key}: ")) && said.contains(name), "{role} {name}: {said}");
        std::fs::write(folder.file(name), sound).unwrap();
        folder.exposed(name, 0o600);
    }
}
