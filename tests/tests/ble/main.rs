//! The agent's BLE transport against the virtual BlueZ: btleplug, bluez-async and libdbus run unchanged.
//!
//! libdbus reads the address of the system bus once per process, so each test starts itself again as a child process that has
//! `DBUS_SYSTEM_BUS_ADDRESS` set. The parent holds bluetoothd and the devices, which know the truth; the child is the agent and
//! writes down, line by line, what reached it.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod meter;
mod scales;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_drivers::driver::{By, Command, DownReason, Endpoint, LinkError, Token, bluetooth};
use device_drivers::transport::ble::{Allowed, Central, CentralError, Options, Wanted};
use device_drivers::transport::{Address, Identity, Link, Occurrence};
use firmware_sim::link::bluez::{Fault, VirtualBluez};
use firmware_sim::link::gatt::Peripheral;
use kit_protocol::moment::Moment;
use tokio::time::timeout;

use self::meter::{CONTROL, LEVEL, MEASUREMENT, Meter, Plan, SERVICE, Truth};

/// Set in a child process: where it writes down what reached it.
const CHILD: &str = "KIT_BLE_TEST_NOTES";
/// No step takes longer, however busy the machine is.
const STEP: Duration = Duration::from_secs(60);
const MEASURED: Endpoint = Endpoint::gatt(SERVICE, MEASUREMENT);
const BATTERY: Endpoint = Endpoint::gatt(0x180f, LEVEL);

fn plan(measurements: u16, hang_up: &[usize]) -> Plan {
    Plan { measurements, hang_up: hang_up.iter().copied().collect::<VecDeque<_>>(), windows: Vec::new() }
}

fn address(octet: u8) -> Address {
    Address([0xc0, 0xff, 0xee, 0, 0, octet])
}

// ---- the parent: bluetoothd, the devices and the truth ----

struct Kit {
    bluez: VirtualBluez,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Kit {
    fn new(peripherals: Vec<Box<dyn Peripheral>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let guard = runtime.enter();
        let bluez = VirtualBluez::start(&folder.path().join("bus"), peripherals).unwrap();
        drop(guard);
        Self { bluez, folder, runtime }
    }

    fn notes_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts this test again as an agent.
    fn start(&self, test: &str, notes: &str) -> Child {
        Process::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bluez.address())
            .env(CHILD, self.notes_path(notes))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs this test as an agent to its end; what it noted.
    fn run(&self, test: &str) -> Vec<String> {
        let mut child = self.start(test, "notes");
        let ended = child.wait().unwrap();
        let notes = self.notes("notes");
        assert!(ended.success(), "the agent failed; it noted {notes:?}");
        notes
    }

    fn notes(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.notes_path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn inflict(&self, fault: Fault) {
        self.runtime.block_on(self.bluez.inflict(fault));
    }

    /// Waits until so many lines are noted.
    fn wait_for_notes(&self, name: &str, count: usize) {
        let waiting = async {
            while self.notes(name).len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        self.runtime.block_on(async { timeout(STEP, waiting).await }).expect("the agent noted too little");
    }
}

fn numbers(notes: &[String]) -> Vec<u16> {
    notes.iter().filter_map(|line| line.parse().ok()).collect()
}

fn truth(of: &Arc<Mutex<Truth>>) -> Truth {
    of.lock().unwrap().clone()
}

// ---- the child: an agent ----

struct Agent {
    notes: File,
    measured: usize,
}

impl Agent {
    /// Runs `work` as an agent, in the child; `false` in the parent.
    fn run(work: impl AsyncFnOnce(&mut Self)) -> bool {
        let Ok(notes) = std::env::var(CHILD) else { return false };
        let notes = OpenOptions::new().create(true).append(true).open(Path::new(&notes)).unwrap();
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(work(&mut Self { notes, measured: 0 }));
        true
    }

    fn note(&mut self, line: impl std::fmt::Display) {
        writeln!(self.notes, "{line}").unwrap();
    }

    async fn next(&mut self, link: &mut Link) -> Occurrence {
        timeout(STEP, link.next()).await.expect("nothing happened").expect("the link had ended").what
    }

    /// Takes measurements until the link ends or `count` have come; notes each number. The reason, if the link ended.
    async fn measure(&mut self, link: &mut Link, count: usize) -> Option<DownReason> {
        let enough = self.measured.saturating_add(count);
        while self.measured < enough {
            match self.next(link).await {
                Occurrence::Received { from: MEASURED, octets, by: By::Indication } => {
                    self.note(u16::from_le_bytes([octets[1], octets[2]]));
                    self.measured += 1;
                }
                Occurrence::Done { .. } => {}
                Occurrence::Down { reason } => return Some(reason),
                other => panic!("{other:?}"),
            }
        }
        None
    }

    /// Connects, checks that `Up` comes first, subscribes to measurements.
    async fn connect(&mut self, central: &Central, wanted: &Wanted) -> Link {
        let mut link = timeout(STEP, central.connect(wanted)).await.expect("no link").unwrap();
        match self.next(&mut link).await {
            Occurrence::Up { mtu: 244, has, .. } => assert!(has.contains(&MEASURED)),
            other => panic!("{other:?}"),
        }
        link.carry_out(Command::Subscribe(Token(1), MEASURED)).await;
        link
    }
}

/// What a supervisor does: opens one Central after the other until there is a link.
async fn link_on_a_fresh_central(agent: &mut Agent) -> (Central, Link) {
    loop {
        if let Ok(central) = open().await
            && let Ok(mut link) = timeout(STEP, central.connect(&wanted(Allowed::Any))).await.expect("no link")
        {
            assert!(matches!(agent.next(&mut link).await, Occurrence::Up { .. }));
            link.carry_out(Command::Subscribe(Token(1), MEASURED)).await;
            return (central, link);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn options() -> Options {
    // Moments are not looked at here.
    Options { adapter: None, services: vec![bluetooth(SERVICE)], clock: Arc::new(|| Moment::ZERO) }
}

async fn open() -> Result<Central, CentralError> {
    Central::open(options()).await
}

fn wanted(allowed: Allowed) -> Wanted {
    Wanted { services: vec![bluetooth(SERVICE)], allowed }
}

// ---- what holds ----

#[test]
fn i2_a_link_that_is_lost_and_made_again_loses_no_indication() {
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        let found = timeout(STEP, central.find(&wanted(Allowed::Any))).await.unwrap().unwrap();
        assert_eq!((found.address, found.name.as_deref()), (address(1), Some("Meter 1")));
        for link_number in 0..5 {
            let mut link = agent.connect(&central, &wanted(Allowed::Any)).await;
            assert_eq!(
                link.identity(),
                &Identity {
                    address: Some(address(1)),
                    name: Some("Meter 1".to_owned()),
                    manufacturer: Some("Tuscan Meters".to_owned()),
                    model: Some("TM-1".to_owned()),
                    serial: Some("SN1".to_owned()),
                    firmware: Some("1.0".to_owned()),
                }
            );
            let (count, ended) = if link_number < 4 { (usize::MAX, Some(DownReason::Lost)) } else { (8, None) };
            assert_eq!(agent.measure(&mut link, count).await, ended);
        }
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(40, &[8, 8, 8, 8]));
    let kit = Kit::new(vec![meter]);
    let notes = kit.run("i2_a_link_that_is_lost_and_made_again_loses_no_indication");
    assert_eq!(numbers(&notes), (1..=40).collect::<Vec<u16>>());
    assert_eq!(truth(&known).links, 5);
}

#[test]
fn a_read_is_told_once_and_a_notification_of_the_same_octets_is_not_taken_for_it() {
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        let mut link = timeout(STEP, central.connect(&wanted(Allowed::Any))).await.unwrap().unwrap();
        assert!(matches!(agent.next(&mut link).await, Occurrence::Up { .. }));
        let read = |by| Occurrence::Received { from: BATTERY, octets: vec![77], by };
        link.carry_out(Command::Read(Token(1), BATTERY)).await;
        assert_eq!(agent.next(&mut link).await, read(By::Read));
        assert_eq!(agent.next(&mut link).await, Occurrence::Done { command: Token(1) });
        link.carry_out(Command::Subscribe(Token(2), BATTERY)).await;
        assert_eq!(agent.next(&mut link).await, Occurrence::Done { command: Token(2) });
        // From now on the device answers a read with a notification besides.
        for token in 3..23 {
            link.carry_out(Command::Read(Token(token), BATTERY)).await;
            let mut came = [agent.next(&mut link).await, agent.next(&mut link).await, agent.next(&mut link).await];
            came.sort_by_key(|event| match event {
                Occurrence::Received { by: By::Read, .. } => 0,
                Occurrence::Received { .. } => 1,
                _ => 2,
            });
            assert_eq!(came, [read(By::Read), read(By::Notification), Occurrence::Done { command: Token(token) }]);
        }
        let write = |token, octets: &[u8], response| Command::Write {
            token: Token(token),
            to: Endpoint::gatt(SERVICE, CONTROL),
            octets: octets.to_vec(),
            response,
        };
        link.carry_out(write(30, &[1, 1], true)).await;
        assert_eq!(agent.next(&mut link).await, Occurrence::Done { command: Token(30) });
        link.carry_out(write(31, &[0xff], true)).await;
        match agent.next(&mut link).await {
            Occurrence::Failed { command: Token(31), error: LinkError::Refused(why) } => assert!(why.contains("0x80"), "{why}"),
            other => panic!("{other:?}"),
        }
        link.carry_out(write(32, &[0; 245], false)).await;
        assert!(matches!(agent.next(&mut link).await, Occurrence::Failed { command: Token(32), .. }));
        let nowhere = Endpoint::gatt(0x1809, 0x2a1c);
        link.carry_out(Command::Subscribe(Token(33), nowhere)).await;
        assert_eq!(agent.next(&mut link).await, Occurrence::Failed { command: Token(33), error: LinkError::NoEndpoint(nowhere) });
        link.carry_out(Command::Close).await;
        assert_eq!(agent.next(&mut link).await, Occurrence::Down { reason: DownReason::Closed });
        assert_eq!(link.next().await, None);
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(0, &[]));
    let kit = Kit::new(vec![meter]);
    kit.run("a_read_is_told_once_and_a_notification_of_the_same_octets_is_not_taken_for_it");
    assert_eq!(truth(&known).written, [vec![1, 1], vec![0xff]]);
    assert_eq!((truth(&known).links, truth(&known).ended), (1, 1));
}

#[test]
fn two_devices_converse_at_once_and_each_is_who_it_is_taken_for() {
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        let one = wanted(Allowed::Addresses(vec![address(1)]));
        let (mut first, mut second) = (agent.connect(&central, &one).await, agent.connect(&central, &wanted(Allowed::Any)).await);
        assert_eq!(first.identity().serial.as_deref(), Some("SN1"));
        assert_eq!(second.identity().serial.as_deref(), Some("SN2"));
        for _ in 0..20 {
            assert_eq!(agent.measure(&mut first, 1).await, None);
            assert_eq!(agent.measure(&mut second, 1).await, None);
        }
    });
    if agent {
        return;
    }
    let (one, known_one) = Meter::with_truth(1, plan(20, &[]));
    let (two, known_two) = Meter::with_truth(2, plan(20, &[]));
    let kit = Kit::new(vec![one, two]);
    let notes = kit.run("two_devices_converse_at_once_and_each_is_who_it_is_taken_for");
    let both: Vec<u16> = (1..=20).flat_map(|number| [number, number]).collect();
    assert_eq!(numbers(&notes), both);
    assert_eq!((truth(&known_one).links, truth(&known_two).links), (1, 1));
}

#[test]
fn i10_an_agent_that_was_killed_finds_its_device_still_connected() {
    const NAME: &str = "i10_an_agent_that_was_killed_finds_its_device_still_connected";
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        let mut link = agent.connect(&central, &wanted(Allowed::Any)).await;
        while agent.measure(&mut link, 1).await.is_none() {}
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(u16::MAX, &[]));
    let kit = Kit::new(vec![meter]);
    let mut first = kit.start(NAME, "first");
    kit.wait_for_notes("first", 5);
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = kit.start(NAME, "second");
    kit.wait_for_notes("second", 5);
    second.kill().unwrap();
    second.wait().unwrap();
    let (before, after) = (numbers(&kit.notes("first")), numbers(&kit.notes("second")));
    let contiguous = |numbers: &[u16]| numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(contiguous(&before) && contiguous(&after), "{before:?} {after:?}");
    assert_eq!(truth(&known).links, 1, "the link outlives the agent");
    assert!(truth(&known).subscriptions >= 2, "the subscription does not");
    // What bluetoothd had confirmed and the killed agent had not yet written down: the radio's tail, no more.
    let tail = after[0] - before.last().unwrap() - 1;
    assert!(tail <= 3, "{tail} measurements went astray between {before:?} and {after:?}");
}

#[test]
fn a_device_that_advertises_for_five_seconds_is_caught_each_time() {
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        for _ in 0..2 {
            let mut link = agent.connect(&central, &wanted(Allowed::Any)).await;
            assert_eq!(agent.measure(&mut link, usize::MAX).await, Some(DownReason::Lost));
        }
    });
    if agent {
        return;
    }
    let seconds = Duration::from_secs;
    let windows = vec![(seconds(4), seconds(9)), (seconds(14), seconds(19)), (seconds(24), seconds(29))];
    let (meter, known) = Meter::with_truth(1, Plan { windows: windows.clone(), ..plan(40, &[20, 20]) });
    let kit = Kit::new(vec![meter]);
    let notes = kit.run("a_device_that_advertises_for_five_seconds_is_caught_each_time");
    assert_eq!(numbers(&notes), (1..=40).collect::<Vec<u16>>());
    // The device's own clock: both visits are within the windows in which it was first heard.
    let window = |at: &Duration| windows.iter().position(|(from, to)| (*from..*to).contains(at));
    let visits: Vec<_> = truth(&known).link_times.iter().map(window).collect();
    assert!(visits == [Some(0), Some(0)] || visits == [Some(0), Some(1)], "{visits:?}");
}

#[test]
fn i10_a_fresh_central_carries_on_after_bluetoothd_or_the_adapter_went() {
    let agent = Agent::run(async |agent| {
        for faults in 0..3 {
            let (central, mut link) = link_on_a_fresh_central(agent).await;
            assert_eq!(agent.measure(&mut link, 5).await, None);
            if faults < 2 {
                agent.note("ready");
                while agent.measure(&mut link, 1).await.is_none() {}
                assert!(matches!(timeout(STEP, central.failed()).await.unwrap(), CentralError::Gone(_)));
                assert!(matches!(central.connect(&wanted(Allowed::Any)).await, Err(CentralError::Gone(_))));
            }
        }
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(u16::MAX, &[]));
    let kit = Kit::new(vec![meter]);
    let mut child = kit.start("i10_a_fresh_central_carries_on_after_bluetoothd_or_the_adapter_went", "notes");
    let mut ready = |times: usize| {
        while kit.notes("notes").iter().filter(|line| *line == "ready").count() < times {
            assert_eq!(child.try_wait().unwrap(), None, "the agent ended early");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    ready(1);
    kit.inflict(Fault::DaemonKilled);
    std::thread::sleep(Duration::from_millis(500));
    kit.inflict(Fault::DaemonStarted);
    ready(2);
    kit.inflict(Fault::AdapterUnplugged);
    std::thread::sleep(Duration::from_millis(500));
    kit.inflict(Fault::AdapterPlugged);
    assert!(child.wait().unwrap().success(), "{:?}", kit.notes("notes"));
    assert_eq!(truth(&known).links, 3);
    let mut made = numbers(&kit.notes("notes"));
    // An indication that was delivered and not confirmed when its link ended comes again on the next.
    made.dedup();
    assert_eq!(made, (1..=made.last().copied().unwrap()).collect::<Vec<u16>>());
}

#[test]
fn i2_a_central_that_was_dropped_leaves_no_subscription_behind() {
    let agent = Agent::run(async |agent| {
        for _ in 0..3 {
            let central = open().await.unwrap();
            let mut link = agent.connect(&central, &wanted(Allowed::Any)).await;
            assert_eq!(agent.measure(&mut link, 10).await, None);
            link.carry_out(Command::Close).await;
            assert_eq!(agent.measure(&mut link, usize::MAX).await, Some(DownReason::Closed));
        }
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(u16::MAX, &[]));
    let kit = Kit::new(vec![meter]);
    let mut made = numbers(&kit.run("i2_a_central_that_was_dropped_leaves_no_subscription_behind"));
    // An indication that was delivered and not confirmed when its link ended comes again on the next.
    made.dedup();
    assert_eq!(made, (1..=made.last().copied().unwrap()).collect::<Vec<u16>>());
    let confirmed = truth(&known).confirmed.clone();
    assert!(confirmed.iter().all(|number| made.contains(number)), "{confirmed:?} {made:?}");
    assert_eq!(truth(&known).links, 3);
}

#[test]
fn i2_a_device_that_hangs_up_before_its_services_are_resolved_loses_nothing() {
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        while agent.measured < 10 {
            let mut link = agent.connect(&central, &wanted(Allowed::Any)).await;
            agent.note(format_args!("link {:?}", link.identity().serial));
            agent.measure(&mut link, 10 - agent.measured).await;
        }
    });
    if agent {
        return;
    }
    // bluetoothd subscribes again 30 ms into the second link, and the device says its one and goes, before services are
    // resolved; and so on the third.
    let (meter, known) = Meter::with_truth(1, plan(10, &[4, 1, 1]));
    let kit = Kit::new(vec![meter]);
    let notes = kit.run("i2_a_device_that_hangs_up_before_its_services_are_resolved_loses_nothing");
    let mut expected = vec!["link Some(\"SN1\")", "1", "2", "3", "4", "link Some(\"SN1\")", "5", "link Some(\"SN1\")", "6"];
    expected.extend(["link Some(\"SN1\")", "7", "8", "9", "10"]);
    assert_eq!(notes, expected, "each visit is a link of its own, and who came is known from the first");
    assert_eq!(truth(&known).links, 4);
}

#[test]
fn i2_a_central_that_is_worn_out_is_replaced_and_nothing_is_lost() {
    let agent = Agent::run(async |agent| {
        let mut centrals = 0;
        while agent.measured < 36 {
            let central = Central::open_for(options(), 4).await.unwrap();
            centrals += 1;
            let failed = loop {
                match timeout(STEP, central.connect(&wanted(Allowed::Any))).await.expect("no link") {
                    Ok(mut link) => {
                        link.carry_out(Command::Subscribe(Token(1), MEASURED)).await;
                        assert!(matches!(agent.next(&mut link).await, Occurrence::Up { .. }));
                        if agent.measure(&mut link, 36 - agent.measured).await.is_none() {
                            break None;
                        }
                    }
                    Err(error) => break Some(error),
                }
            };
            assert_eq!(failed, (agent.measured < 36).then_some(CentralError::WornOut));
        }
        assert!(centrals >= 2, "{centrals}");
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(36, &[6, 6, 6, 6, 6, 6]));
    let kit = Kit::new(vec![meter]);
    let notes = kit.run("i2_a_central_that_is_worn_out_is_replaced_and_nothing_is_lost");
    assert_eq!(numbers(&notes), (1..=36).collect::<Vec<u16>>());
    assert_eq!(truth(&known).links, 6);
}

#[test]
fn a_caller_that_gives_up_leaves_the_device_to_the_next() {
    let agent = Agent::run(async |agent| {
        let central = open().await.unwrap();
        // Dropped while it waits, while it connects, and when the link is already there.
        for patience in [0, 20, 60, 120, 180, 240, 300] {
            let any = wanted(Allowed::Any);
            drop(timeout(Duration::from_millis(patience), central.connect(&any)).await);
        }
        let mut link = agent.connect(&central, &wanted(Allowed::Any)).await;
        assert_eq!(agent.measure(&mut link, 3).await, None);
    });
    if agent {
        return;
    }
    let (meter, known) = Meter::with_truth(1, plan(3, &[]));
    let kit = Kit::new(vec![meter]);
    let notes = kit.run("a_caller_that_gives_up_leaves_the_device_to_the_next");
    assert_eq!(numbers(&notes), [1, 2, 3]);
    let (links, ended) = (truth(&known).links, truth(&known).ended);
    assert_eq!(links, ended + 1, "every link but the last was ended");
}
