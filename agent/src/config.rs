//! The configuration: text becomes types that cannot be wrong, and nobody checks again.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use device_drivers::driver::{Driver, Effect};
use device_drivers::transport::Address;
use kit_protocol::uplink::id::{KitId, Tenant};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use toml::Spanned;

/// Devices one kit may have, at most.
pub const DEVICES_MAX: usize = 32;
/// Characters of a model's name, at most.
const MODEL_CHARACTERS_MAX: usize = 64;
/// Where the local API listens unless the configuration says otherwise.
pub const SOCKET: &str = "/run/kit-agent/kit-agent.sock";
/// A stream of spot values gives one reading so often, unless the device says otherwise.
const STREAM_INTERVAL: Duration = Duration::from_secs(10);

/// Everything the agent is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The kit's id: MQTT client id and certificate common name.
    #[serde(deserialize_with = "parsed")]
    pub kit: KitId,
    /// The health authority: the certificate's organisation.
    #[serde(deserialize_with = "parsed")]
    pub tenant: Tenant,
    /// Directory of everything the agent keeps.
    #[serde(deserialize_with = "path")]
    pub state: PathBuf,
    /// The Unix socket of the local API.
    #[serde(default = "default_socket", deserialize_with = "path")]
    pub socket: PathBuf,
    /// The broker.
    pub broker: Broker,
    /// The centre.
    pub centre: Centre,
    /// The devices.
    #[serde(skip)]
    pub devices: Vec<Device>,
    /// The devices as they stand in the text, until they are taken from here.
    #[serde(default, rename = "device")]
    device_texts: Vec<Spanned<DeviceText>>,
}

/// How the broker is reached. There is no plaintext.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Host name or address, as the broker's certificate names it.
    #[serde(deserialize_with = "host")]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port", deserialize_with = "port")]
    pub port: u16,
    /// PEM file of the authorities that may sign the broker's certificate.
    #[serde(deserialize_with = "path")]
    pub authority: PathBuf,
    /// PEM file of the kit's certificate.
    #[serde(deserialize_with = "path")]
    pub certificate: PathBuf,
    /// PEM file of the kit's private key, PKCS#8, readable by the agent alone.
    #[serde(deserialize_with = "path")]
    pub key: PathBuf,
}

/// The centre.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Centre {
    /// PEM files of the public keys whose signatures count.
    #[serde(deserialize_with = "keys")]
    pub keys: Vec<PathBuf>,
}

/// A device of the kit.
#[derive(Clone, Debug)]
pub struct Device {
    /// The device's stable identity in every reading.
    pub identity: String,
    /// Which driver speaks to it.
    pub driver: &'static Driver,
    /// Where it is.
    pub place: Place,
    /// One reading of a continuous stream so often.
    pub stream_interval: Duration,
    /// A stream is recorded for so long, whenever the device begins; `None`: for as long as it sends.
    pub recording_time: Option<Duration>,
    /// Its user slot bound at pairing.
    pub user_slot: Option<u8>,
    /// Others use it too: what names no slot is not the patient's.
    pub shared: bool,
    /// Its model, where the device does not tell it, or not rightly: quirks are chosen by it.
    pub model: Option<String>,
    /// Its records are deleted once they are durable.
    pub delete_records: bool,
    /// Its clock is set, where the gateway's is trusted.
    pub set_clock: bool,
    /// It is never connected to: what it advertises is taken.
    pub broadcast: Option<Broadcast>,
}

/// When what a device advertises counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// In a measurement window, which `kit-agent measure` opens.
    InWindow,
    /// As it comes: nobody but the patient stands on it.
    AsItComes,
}

/// Where a device is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A serial port.
    Port(PathBuf),
    /// A Bluetooth address.
    Address(Address),
    /// A folder into which its files are put.
    Folder(PathBuf),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceText {
    identity: Option<String>,
    driver: String,
    port: Option<PathBuf>,
    address: Option<String>,
    folder: Option<PathBuf>,
    stream_interval_s: Option<u32>,
    recording_seconds: Option<u32>,
    user_slot: Option<u8>,
    #[serde(default)]
    shared: bool,
    model: Option<String>,
    #[serde(default)]
    delete_records: bool,
    set_clock: Option<bool>,
    #[serde(default)]
    broadcast: bool,
    window: Option<bool>,
}

/// The one place that is given, where the driver can be met so.
fn place(driver: &Driver, port: Option<PathBuf>, address: Option<String>, folder: Option<PathBuf>) -> Result<Place, String> {
    let ways = [
        (driver.port().is_some(), "port", "a serial port, such as \"/dev/ttyUSB0\""),
        (driver.by_radio(), "address", "a Bluetooth address, such as \"F0:F1:F2:F3:F4:F5\""),
        (driver.by_file(), "folder", "a folder, such as \"/var/lib/kit-agent/ecg\""),
    ];
    match (port, address, folder) {
        (Some(port), None, None) if driver.port().is_some() => Ok(Place::Port(port)),
        (None, Some(address), None) if driver.by_radio() => {
            Ok(Place::Address(address.parse().map_err(|error| format!("address: {error}"))?))
        }
        (None, None, Some(folder)) if driver.by_file() && !folder.as_os_str().is_empty() => Ok(Place::Folder(folder)),
        _ => {
            let fits: Vec<_> = ways.into_iter().filter(|(fits, ..)| *fits).collect();
            let key = fits.first().map_or("port", |(_, key, _)| key);
            let wanted: Vec<&str> = fits.iter().map(|(.., what)| *what).collect();
            let rest = if wanted.len() == 1 { ", and nothing else" } else { ", one of them" };
            Err(format!("{key}: the driver {} needs {}{rest}", driver.name, wanted.join(", or else ")))
        }
    }
}

/// Whether it is listened to instead of connected to, and when that counts; what such a device cannot do is said.
fn broadcast(driver: &Driver, text: &DeviceText) -> Result<Option<Broadcast>, String> {
    if !text.broadcast {
        return match text.window {
            None => Ok(None),
            Some(_) => Err("window: only a device with broadcast = true has one; leave it out".into()),
        };
    }
    if driver.takes_advertised().is_empty() {
        let registry = device_drivers::registry::DRIVERS.iter();
        let fit: Vec<_> = registry.filter(|driver| !driver.takes_advertised().is_empty()).map(|driver| driver.name).collect();
        let fit = fit.join(", ");
        return Err(format!("broadcast: the driver {} takes nothing that is advertised, only {fit}; leave it out", driver.name));
    }
    if text.address.is_none() {
        return Err("broadcast: what is advertised needs the device's Bluetooth address".into());
    }
    if text.user_slot.is_some() {
        return Err("user_slot: what is advertised names no user; leave it out, and keep the measurement window".into());
    }
    if text.set_clock == Some(true) || text.delete_records {
        return Err("broadcast: such a device is never connected to; leave set_clock and delete_records out".into());
    }
    Ok(Some(if text.window == Some(false) { Broadcast::AsItComes } else { Broadcast::InWindow }))
}

impl TryFrom<DeviceText> for Device {
    type Error = String;

    fn try_from(text: DeviceText) -> Result<Self, String> {
        let known = || device_drivers::registry::DRIVERS.iter().map(|driver| driver.name).collect::<Vec<_>>().join(", ");
        let driver = device_drivers::registry::find(&text.driver)
            .ok_or_else(|| format!("driver: expected one of {}, not {:?}", known(), text.driver))?;
        let broadcast = broadcast(driver, &text)?;
        let place = place(driver, text.port, text.address, text.folder)?;
        let stream_interval = match text.stream_interval_s {
            None => STREAM_INTERVAL,
            Some(seconds @ 1..=3600) => Duration::from_secs(seconds.into()),
            Some(_) => return Err("stream_interval_s: expected 1 to 3600 seconds".into()),
        };
        let recording_time = match text.recording_seconds {
            None => None,
            Some(_) if !device_drivers::registry::records_for_a_set_time(driver) => {
                return Err(format!(
                    "recording_seconds: the driver {} records no stream for a set time; leave it out",
                    driver.name
                ));
            }
            Some(seconds @ 5..=3600) => Some(Duration::from_secs(seconds.into())),
            Some(_) => return Err("recording_seconds: expected 5 to 3600 seconds, such as 10 or 30".into()),
        };
        let identity = text.identity.unwrap_or_else(|| match &place {
            Place::Port(port) => format!("{}@{}", driver.name, port.file_name().unwrap_or(port.as_os_str()).display()),
            Place::Address(address) => address.to_string(),
            Place::Folder(folder) => format!("{}@{}", driver.name, folder.file_name().unwrap_or(folder.as_os_str()).display()),
        });
        if identity.is_empty() || identity.len() > 64 || identity.contains(['/', '\n']) {
            return Err("identity: expected 1 to 64 characters without / or line ends".into());
        }
        if text.shared && text.user_slot.is_none() {
            return Err("shared: a device that others use too needs the patient's user_slot".into());
        }
        if text.delete_records && !driver.allowed.iter().any(|row| row.effect == Effect::Delete) {
            return Err(format!("delete_records: the driver {} deletes none; leave it out", driver.name));
        }
        if text.model.as_ref().is_some_and(|model| model.trim().is_empty() || model.chars().count() > MODEL_CHARACTERS_MAX) {
            return Err(format!("model: expected 1 to {MODEL_CHARACTERS_MAX} characters, as the device would say it"));
        }
        Ok(Self {
            identity,
            driver,
            place,
            stream_interval,
            recording_time,
            user_slot: text.user_slot,
            shared: text.shared,
            model: text.model,
            delete_records: text.delete_records,
            set_clock: broadcast.is_none() && text.set_clock.unwrap_or(true),
            broadcast,
        })
    }
}

fn default_socket() -> PathBuf {
    SOCKET.into()
}

fn default_port() -> u16 {
    8883
}

fn parsed<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.as_os_str().is_empty() { Err(de::Error::custom("expected a path")) } else { Ok(path) }
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match i64::deserialize(deserializer)?.try_into() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(de::Error::custom("expected a TCP port, 1 to 65535")),
    }
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let keys = Vec::<PathBuf>::deserialize(deserializer)?;
    if keys.is_empty() || keys.iter().any(|key| key.as_os_str().is_empty()) {
        return Err(de::Error::custom("expected the path of at least one public key of the centre"));
    }
    Ok(keys)
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = text.len() <= 253
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if name || text.parse::<IpAddr>().is_ok() {
        Ok(text)
    } else {
        Err(de::Error::custom("expected a host name or an IP address, without port or scheme"))
    }
}

/// Every device, or where in the text the one stands that is wrong, and how.
fn devices(texts: Vec<Spanned<DeviceText>>) -> Result<Vec<Device>, (usize, String)> {
    let mut devices: Vec<Device> = Vec::new();
    for text in texts {
        let wrong = |what: String| (text.span().start, what);
        let device = Device::try_from(text.get_ref().clone()).map_err(wrong)?;
        if devices.len() >= DEVICES_MAX {
            return Err(wrong(format!("expected at most {DEVICES_MAX} devices")));
        }
        if devices.iter().any(|other| other.place == device.place) {
            return Err(wrong("another device has this place already".into()));
        }
        if devices.iter().any(|other| other.identity == device.identity) {
            return Err(wrong(format!("identity: another device is {} already; give this one another", device.identity)));
        }
        devices.push(device);
    }
    Ok(devices)
}

/// One line: the file, the place in it, what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads and parses a file; relative paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|error| ConfigError(format!("{}: cannot be read: {error}", file.display())))?;
        let mut config = Self::parse(&text).map_err(|error| ConfigError(format!("{}:{error}", file.display())))?;
        config.make_absolute(file.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// Parses the text of a configuration; the error says `line: key: what was expected`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let at = |offset: usize, what: &str| {
            let (line, key) = locate(text, offset);
            ConfigError(format!("{line}: {key}{what}"))
        };
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', " ").replace("expected a sequence", "expected a list, [\"…\"] or [[…]]");
            match error.span() {
                // What is missing at the top is missing in the whole text, and no key of it is to blame.
                Some(span) if span.start == 0 && message.starts_with("missing field") && header(text).is_none() => {
                    ConfigError(format!("1: {message}"))
                }
                Some(span) => at(span.start, &message),
                None => ConfigError(format!(" {message}")),
            }
        })?;
        let texts = std::mem::take(&mut config.device_texts);
        config.devices = devices(texts).map_err(|(offset, what)| at(offset, &what))?;
        Ok(config)
    }

    fn make_absolute(&mut self, folder: &Path) {
        let paths =
            [&mut self.state, &mut self.socket, &mut self.broker.authority, &mut self.broker.certificate, &mut self.broker.key];
        for path in paths.into_iter().chain(&mut self.centre.keys) {
            *path = folder.join(&*path);
        }
        for device in &mut self.devices {
            if let Place::Port(path) | Place::Folder(path) = &mut device.place {
                *path = folder.join(&*path);
            }
        }
    }
}

/// The line of an offset, and the key that stands there as `section.key: `.
fn locate(text: &str, offset: usize) -> (usize, String) {
    let before = text.get(..offset).unwrap_or(text);
    let line_number = before.matches('\n').count() + 1;
    let line = text.lines().nth(line_number - 1).unwrap_or("");
    let section = header(line).or_else(|| before.lines().rev().find_map(header));
    let key = line.split_once('=').filter(|_| header(line).is_none()).map(|(key, _)| key.trim().to_string());
    let path = [section, key].into_iter().flatten().collect::<Vec<_>>().join(".");
    (line_number, if path.is_empty() { path } else { format!("{path}: ") })
}

/// The section that a line opens.
fn header(line: &str) -> Option<String> {
    line.trim().strip_prefix('[').map(|rest| rest.trim_matches(['[', ']', ' ']).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
kit = "KIT-0001"
tenant = "centro"
state = "/var/lib/kit-agent"

[broker]
host = "broker.example"
authority = "ca.pem"
certificate = "kit.pem"
key = "kit.key"

[centre]
keys = ["centre.pub.pem"]

[[device]]
driver = "oximeter-nonin"
port = "/dev/ttyUSB0"
"#;

    fn error(from: &str, to: &str) -> String {
        assert!(WHOLE.contains(from), "{from}");
        Config::parse(&WHOLE.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_configuration_is_taken() {
        let config = Config::parse(WHOLE).unwrap();
        assert_eq!(config.broker.port, 8883);
        assert_eq!(config.devices[0].place, Place::Port("/dev/ttyUSB0".into()));
        assert_eq!(config.devices[0].identity, "oximeter-nonin@ttyUSB0");
    }

    #[test]
    fn what_is_wrong_is_named_with_line_key_and_expectation() {
        assert_eq!(error("KIT-0001", "kit 1"), "2: kit: a kit id is 4 to 32 of A-Z, 0-9 and -");
        assert_eq!(error("\"broker.example\"", "5"), "7: broker.host: invalid type: integer `5`, expected a string");
        assert_eq!(error("tenant = \"centro\"\n", ""), " missing field `tenant`".replacen(' ', "1: ", 1));
        assert!(error("broker.example", "mqtts://broker").contains("7: broker.host: expected a host name"));
        assert!(error("oximeter-nonin", "toaster").contains("driver: expected one of "));
        assert!(error("port = \"/dev/ttyUSB0\"", "folder = \"/tmp\"").contains("needs a serial port"));
        assert_eq!(Config::parse("tenant = \"centro\"\n").unwrap_err().to_string(), "1: missing field `kit`");
        assert!(error("keys =", "kyes =").contains("13: centre.kyes: unknown field `kyes`"));
    }

    #[test]
    fn each_mistake_has_its_own_line() {
        let second = |driver: &str, place: &str| {
            error("port = \"/dev/ttyUSB0\"", &format!("port = \"/dev/ttyUSB0\"\n[[device]]\ndriver = \"{driver}\"\n{place}"))
        };
        let expected = [
            (error("\"/var/lib/kit-agent\"", "\"\""), "4: state: expected a path"),
            (error("authority =", "port = 0\nauthority ="), "8: broker.port: expected a TCP port, 1 to 65535"),
            (error("authority =", "port = 99999\nauthority ="), "8: broker.port: expected a TCP port, 1 to 65535"),
            (error("[\"centre.pub.pem\"]", "[]"), "13: centre.keys: expected the path of at least one public key of the centre"),
            (error("[[device]]", "[device]"), "15: device: invalid type: map, expected a list, [\"…\"] or [[…]]"),
            (second("oximeter-nonin", "port = \"/dev/ttyUSB0\""), "18: device: another device has this place already"),
            (
                second("oximeter-nonin", "port = \"/dev/left/ttyUSB0\""),
                "18: device: identity: another device is oximeter-nonin@ttyUSB0 already; give this one another",
            ),
            (
                second("pulse-oximeter", "address = \"F0:F1\""),
                "18: device: address: a Bluetooth address reads like AA:BB:CC:DD:EE:FF",
            ),
        ];
        for (met, expected) in expected {
            assert_eq!(met, expected);
        }
    }

    #[test]
    fn what_a_device_may_be_told_is_parsed_strictly() {
        let radio = |more: &str| {
            let place = format!("driver = \"pulse-oximeter\"\naddress = \"F0:F1:F2:F3:F4:F5\"\n{more}");
            let whole = WHOLE.replace("driver = \"oximeter-nonin\"\nport = \"/dev/ttyUSB0\"", &place);
            Config::parse(&whole).map(|config| config.devices[0].clone()).map_err(|error| error.to_string())
        };
        let ecg = |more: &str| {
            let place = format!("driver = \"ecg-ads1298\"\nport = \"/dev/ttyACM0\"\n{more}");
            let whole = WHOLE.replace("driver = \"oximeter-nonin\"\nport = \"/dev/ttyUSB0\"", &place);
            Config::parse(&whole).map(|config| config.devices[0].recording_time).map_err(|error| error.to_string())
        };
        assert_eq!(ecg(""), Ok(None));
        assert_eq!(ecg("recording_seconds = 30"), Ok(Some(Duration::from_secs(30))));
        assert!(ecg("recording_seconds = 4").unwrap_err().contains("expected 5 to 3600 seconds, such as 10 or 30"));
        let plain = radio("").unwrap();
        assert!(!plain.delete_records && plain.set_clock && !plain.shared && plain.model.is_none());
        let told = radio("model = \"BM85\"\nuser_slot = 2\nshared = true\ndelete_records = true\nset_clock = false").unwrap();
        assert_eq!((told.model.as_deref(), told.user_slot, told.shared), (Some("BM85"), Some(2), true));
        assert!(told.delete_records && !told.set_clock);
        for (more, expected) in [
            ("recording_seconds = 10", "recording_seconds: the driver pulse-oximeter records no stream for a set time"),
            ("shared = true", "shared: a device that others use too"),
            ("model = \" \"", "model: expected 1 to 64"),
            ("user_slot = 256", "invalid value: integer `256`"),
            ("delete_records = \"yes\"", "expected a boolean"),
            ("delete-records = true", "unknown field `delete-records`"),
        ] {
            let met = radio(more).unwrap_err();
            assert!(met.contains(expected), "{met}");
        }
        let nonin = error("port = \"/dev/ttyUSB0\"", "port = \"/dev/ttyUSB0\"\ndelete_records = true");
        assert!(nonin.contains("delete_records: the driver oximeter-nonin deletes none"), "{nonin}");
    }

    #[test]
    fn i4_a_device_that_only_advertises_needs_a_window_unless_it_is_said_that_it_does_not() {
        let scale = |driver: &str, more: &str| {
            let place = format!("driver = \"{driver}\"\naddress = \"F0:F1:F2:F3:F4:F5\"\n{more}");
            let whole = WHOLE.replace("driver = \"oximeter-nonin\"\nport = \"/dev/ttyUSB0\"", &place);
            let config = Config::parse(&whole).map_err(|error| error.to_string());
            config.map(|config| (config.devices[0].broadcast, config.devices[0].set_clock))
        };
        assert_eq!(scale("weight-scale", ""), Ok((None, true)));
        assert_eq!(scale("weight-scale", "broadcast = true"), Ok((Some(Broadcast::InWindow), false)));
        assert_eq!(scale("weight-scale", "broadcast = true\nwindow = false"), Ok((Some(Broadcast::AsItComes), false)));
        for (driver, more, expected) in [
            (
                "thermometer",
                "broadcast = true",
                "broadcast: the driver thermometer takes nothing that is advertised, only weight-scale",
            ),
            ("weight-scale", "window = true", "window: only a device with broadcast = true has one"),
            ("weight-scale", "broadcast = true\nuser_slot = 1", "user_slot: what is advertised names no user"),
            ("weight-scale", "broadcast = true\nset_clock = true", "broadcast: such a device is never connected to"),
        ] {
            let met = scale(driver, more).unwrap_err();
            assert!(met.contains(expected), "{met}");
        }
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kit.toml");
        std::fs::write(&file, WHOLE.replace("/dev/ttyUSB0", "ecg")).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.devices[0].place, Place::Port(folder.path().join("ecg")));
        assert_eq!(config.broker.key, folder.path().join("kit.key"));
        assert_eq!(config.state, Path::new("/var/lib/kit-agent"));
        assert_eq!(Config::load(&folder.path().join("none.toml")).unwrap_err().to_string().lines().count(), 1);
    }
}
