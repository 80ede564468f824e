//! Scales that only advertise, on the virtual BlueZ, before a whole agent: what somebody weighs is in the local record once,
//! whatever is repeated, whoever is killed; what a stranger's scale says, and what nobody asked for, is not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use firmware_sim::devices::advertising_scale::{Composition, Scale, Weight};
use firmware_sim::faults::Scenario;
use firmware_sim::firmware::advertising_scale::Settings;
use firmware_sim::link::bluez::VirtualBluez;
use firmware_sim::link::gatt::Peripheral;
use firmware_sim::truth::Truth;
use harness::authority::{Authority, Validity};
use harness::process::{Launcher, Program};
use kit_protocol::moment::Moment;
use serde_json::Value;
use tokio::time::timeout;

use super::STEP;

/// Somebody is weighed every seven seconds, and the weight shown for long enough that an agent that was killed finds it again.
const QUICK: Settings = Settings { period_ms: 7_000, settle_ms: 700, impedance_ms: None, steady_ms: 4_500, dark_ms: 500 };
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// An agent with two scales of its own; the centre is away.
struct Home {
    folder: tempfile::TempDir,
    launcher: Launcher,
    bus: OsString,
}

impl Home {
    fn new(folder: tempfile::TempDir, bus: &str, devices: &str) -> Self {
        let at = folder.path();
        let authority = Authority::new(&at.join("authority"), "authority").unwrap();
        let (kit, tenant) = harness::plant::names();
        let identity = authority.kit(&kit, &tenant, Validity::Current).unwrap();
        let signing = authority.signing_key("signing").unwrap();
        let path = |path: &Path| path.display().to_string();
        let text = format!(
            "kit = \"{kit}\"\ntenant = \"{tenant}\"\nstate = \"{state}\"\nsocket = \"{socket}\"\n\
             [broker]\nhost = \"localhost\"\nport = 1\nauthority = \"{authority}\"\ncertificate = \"{certificate}\"\n\
             key = \"{key}\"\n[centre]\nkeys = [\"{centre}\"]\n{devices}",
            state = path(&at.join("kit")),
            socket = path(&at.join("agent")),
            authority = path(&identity.authority),
            certificate = path(&identity.certificate),
            key = path(&identity.key),
            centre = path(&signing.public),
        );
        std::fs::create_dir_all(at.join("kit")).unwrap();
        std::fs::write(at.join("kit.toml"), text).unwrap();
        let launcher = Launcher::new(PathBuf::from(env!("CARGO_BIN_EXE_demo")), at.join("logs"));
        Self { folder, launcher, bus: bus.into() }
    }

    fn configuration(&self) -> OsString {
        self.folder.path().join("kit.toml").into()
    }

    fn agent(&self) -> Program {
        let arguments: [OsString; 3] = ["run".into(), "--config".into(), self.configuration()];
        let bus = [("DBUS_SYSTEM_BUS_ADDRESS", self.bus.clone())];
        self.launcher.start_with("agent", "agent", &arguments, &bus).unwrap()
    }

    async fn ask(&self, words: &[&str]) -> Output {
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.extend(["--config".into(), self.configuration()]);
        self.launcher.to_its_end("agent", &arguments).await.unwrap()
    }

    /// The local record of a device; `None` while the agent does not answer.
    async fn readings(&self, device: &str) -> Option<Vec<Value>> {
        let said = self.ask(&["readings", "--json"]).await;
        let readings = lines(&said.stdout).into_iter().map(|line| line["reading"].clone());
        said.status.success().then(|| readings.filter(|reading| reading["device"] == device).collect())
    }

    /// Waits until a device has so many.
    async fn measured(&self, device: &str, count: usize) {
        let waiting = async {
            while self.readings(device).await.is_none_or(|readings| readings.len() < count) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let log = || std::fs::read_to_string(self.launcher.log("agent")).unwrap_or_default();
        assert!(timeout(STEP, waiting).await.is_ok(), "{device} never has {count} readings; the agent said {}", log());
    }

    async fn view(&self, device: &str) -> Value {
        let said = self.ask(&["devices", "--json"]).await;
        lines(&said.stdout).into_iter().find(|view| view["identity"] == device).unwrap_or_default()
    }
}

fn lines(text: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(text).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What makes a weighing this one: when, by the scale's clock, and what.
fn weighing(reading: &Value) -> (String, String) {
    (reading["device_time"].as_str().unwrap().to_owned(), reading["values"][0]["value"].as_str().unwrap().to_owned())
}

/// What a scale weighed, and when that was, by this machine's clock.
fn truth(file: &Path) -> BTreeMap<(String, String), Moment> {
    let weighed = |line: Value| (weighing(&line["reading"]), Moment::from_nanos(line["measured_ns"].as_u64().unwrap()));
    lines(&std::fs::read(file).unwrap()).into_iter().map(weighed).collect()
}

fn section(identity: &str, scale: &dyn Peripheral, more: &str) -> String {
    let address = scale.address().map(|octet| format!("{octet:02X}")).join(":");
    format!("[[device]]\nidentity = \"{identity}\"\ndriver = \"weight-scale\"\naddress = \"{address}\"\nbroadcast = true\n{more}")
}

#[test]
fn i2a_i4_a_weighing_that_is_repeated_over_a_kill_counts_once_and_one_that_nobody_asked_for_not_at_all() {
    let (folder, truths) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let none = Scenario::default();
    let truth_file = truths.path().join("weights");
    let own = Scale::<Weight>::with_settings(1, &none, Truth::to(&truth_file).unwrap(), QUICK);
    let stranger = Scale::<Weight>::with_settings(2, &none, Truth::none(), QUICK);
    let bare_feet = Settings { impedance_ms: Some(1_500), ..QUICK };
    let shared = Scale::<Composition>::with_settings(3, &none, Truth::none(), bare_feet);
    let absent = Scale::<Weight>::new(4, &none, Truth::none());
    let devices = section("own", &own, "window = false\n") + &section("shared", &shared, "") + &section("absent", &absent, "");
    let scales: Vec<Box<dyn Peripheral>> = vec![Box::new(own), Box::new(stranger), Box::new(shared)];

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let guard = runtime.enter();
    let bluez = VirtualBluez::start(&folder.path().join("bus"), scales).unwrap();
    drop(guard);
    let home = Home::new(folder, &bluez.address(), &devices);
    let (killed, again, stopped) = runtime.block_on(async {
        let mut agent = home.agent();
        home.measured("own", 1).await;
        // It is on the air still: the next agent hears the same.
        agent.kill();
        let killed = harness::clock::now();
        let mut agent = home.agent();
        home.measured("own", 1).await;
        let again = harness::clock::now();

        let refused = home.ask(&["measure", "own"]).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains("own needs no measurement window"), "{said}");
        let in_vain = home.ask(&["measure", "absent", "--for", "5s"]);
        let (measured, in_vain) = tokio::join!(home.ask(&["measure", "shared", "--for", "25s", "--json"]), in_vain);
        let said = String::from_utf8_lossy(&in_vain.stderr).into_owned();
        assert!(in_vain.status.code() == Some(1) && said.contains("the device was not heard; bring it nearer"), "{said}");
        let said = String::from_utf8_lossy(&measured.stderr).into_owned();
        assert!(measured.status.success() && said.contains("No assignment is active"), "{said}");
        let values: Vec<Value> = lines(&measured.stdout).iter().map(|line| line["reading"]["values"].clone()).collect();
        let names = |values: &Value| values.as_array().unwrap().iter().map(|value| value["name"].clone()).collect::<Vec<_>>();
        assert_eq!(values.iter().map(names).collect::<Vec<_>>(), [["weight", "body-impedance"]]);

        home.measured("own", 3).await;
        let counted = home.readings("shared").await.unwrap();
        assert_eq!(counted.len(), 1, "the window has its reading; whoever stands on it before and after is another");
        assert_eq!(home.view("shared").await["readings"], 1);
        let stopped = harness::clock::now();
        let own: Vec<_> = home.readings("own").await.unwrap().iter().map(weighing).collect();
        agent.terminate(ENDS_WITHIN).await;
        (killed, again, (stopped, own))
    });
    let (stopped, own) = stopped;
    drop(bluez);
    // With its runtime the scales end, and write down what they weighed.
    drop(runtime);
    let weighed = truth(&truth_file);
    let mut once = own.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), own.len(), "one of them twice: {own:?}");
    let unknown: Vec<_> = own.iter().filter(|reading| !weighed.contains_key(*reading)).collect();
    assert!(unknown.is_empty(), "nobody weighed {unknown:?}, only {weighed:?}");
    // Whole weighings that an agent could hear: not across the kill, and not at the end.
    let span = Duration::from_millis(QUICK.settle_ms + 1_000);
    let heard = |at: Moment| at + span < killed || (again + span < at && at + span < stopped);
    let first = weighed.iter().find(|(reading, _)| own.contains(reading)).map(|(_, at)| *at).unwrap();
    let lost: Vec<_> = weighed.iter().filter(|(reading, at)| **at >= first && heard(**at) && !own.contains(reading)).collect();
    assert!(lost.is_empty(), "{lost:?} of {weighed:?}, killed {killed:?}, back {again:?}, stopped {stopped:?}");
    assert!(own.len() >= 3);
}
