use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex as Lock;

use device_drivers::driver::{By, Command, Driver, DriverError, Event, Link as Way, Output, Pairing, Security, Session, Token};
use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Measured, Memory, Quantity, Value};
use kit_protocol::uplink::id::Lane;

use super::*;
use crate::clock::Clock;
use crate::identity::origin::OriginKey;
use crate::store::memory::{Disk, MemoryOutbox};

/// A file of temperatures, an octet each, numbered; 0xff is none.
#[derive(Default)]
struct TemperatureFile {
    given: VecDeque<Result<(Token, Output), DriverError>>,
    count: u32,
}

impl Session for TemperatureFile {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        let Event::Received { octets, by: By::File, .. } = event else { return };
        for octet in octets {
            self.count += 1;
            let quantity = Quantity::Number(Decimal::new(i64::from(*octet), 0));
            let measured = Measured {
                values: vec![Value { code: Mdc(150_364), quantity, unit: "Cel" }],
                record: Some(self.count.into()),
                octets: vec![*octet],
                memory: Memory::Stored,
                ..Measured::new(Kind::Other, now)
            };
            self.given.push_back(match octet {
                0xff => Err(DriverError::Undecodable { what: "octet", reason: "ff".into(), octets: vec![*octet] }),
                _ => Ok((Token(self.count), Output::Measured(measured))),
            });
        }
    }
    fn handle_timeout(&mut self, _: Moment) {}
    fn poll_command(&mut self) -> Option<Command> {
        None
    }
    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        self.given.pop_front()
    }
    fn poll_timeout(&self) -> Option<Moment> {
        None
    }
}

static DRIVER: Driver = Driver {
    name: "temperature-file",
    version: "1",
    links: &[Way::File],
    protocol: "",
    gives: "",
    parameters: &[],
    security: Security::None,
    pairing: Pairing::None,
    memory: true,
    allowed: &[],
    quirks: &[],
    session: |_| Box::<TemperatureFile>::default(),
};

fn device(folder: &Path) -> Device {
    Device {
        identity: "files".into(),
        driver: &DRIVER,
        place: Place::Folder(folder.to_path_buf()),
        stream_interval: Duration::from_secs(10),
        recording_time: None,
        user_slot: None,
        shared: false,
        model: None,
        delete_records: false,
        set_clock: false,
        broadcast: None,
    }
}

/// The agent's side over a disk that stays.
fn start(state: &Path, disk: &Arc<Lock<Disk>>) -> (Shared, watch::Sender<bool>) {
    let disk = Arc::clone(disk);
    let (pausing, pause) = watch::channel(false);
    let shared = Shared {
        store: StoreHandle::start_with(move || Ok(MemoryOutbox::open(&disk))).unwrap(),
        world: World { clock: Arc::new(Clock::of_this_boot()), origins: Arc::new(OriginKey::new(&[7; 32])) },
        roster: Roster::default(),
        pause,
        conversations: Arc::default(),
        central: Arc::default(),
        services: Arc::default(),
        tenures: Arc::new(Tenures::load(state.join("tenure"))),
        memories: Memories::in_folder(state.join("memory")),
        windows: Windows::default(),
    };
    (shared, pausing)
}

fn vitals(shared: &Shared) -> u64 {
    let view = shared.store.view();
    let view = view.borrow();
    view.epochs.first().map_or(0, |epoch| epoch.lanes[Lane::Vitals.index()].next - 1)
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn i2a_a_file_is_done_once_everything_it_gave_is_stored_and_read_again_it_gives_no_doubles() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Arc::<Lock<Disk>>::default();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::write(at("a"), [36, 37, 38]).unwrap();
    for round in 1..=2_u64 {
        let (shared, _pausing) = start(state.path(), &disk);
        let place = shared.roster.add("files", "temperature-file", "folder");
        let task = tokio::spawn(keep(device(folder.path()), place, shared.clone()));
        until(|| at("done/a").exists()).await;
        assert_eq!(vitals(&shared), 3, "round {round}");
        task.abort();
        // A restart before it was moved: it lies there as if nothing had happened.
        std::fs::rename(at("done/a"), at("a")).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_which_something_is_refused_is_kept_apart_and_one_on_a_full_disk_waits() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Arc::<Lock<Disk>>::default();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let (shared, pausing) = start(state.path(), &disk);
    let place = shared.roster.add("files", "temperature-file", "folder");
    let task = tokio::spawn(keep(device(folder.path()), place, shared.clone()));
    std::fs::write(at("bad"), [36, 0xff]).unwrap();
    until(|| at("refused/bad").exists()).await;
    assert_eq!(vitals(&shared), 1);
    std::fs::write(at("empty"), []).unwrap();
    until(|| at("refused/empty").exists()).await;
    disk.lock().unwrap().full = true;
    std::fs::write(at("good"), [39]).unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(at("good").exists(), "nothing is answered, so nothing is done");
    pausing.send_replace(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(at("good").exists(), "interrupted");
    disk.lock().unwrap().full = false;
    pausing.send_replace(false);
    until(|| at("done/good").exists()).await;
    assert_eq!(vitals(&shared), 2);
    task.abort();
}
