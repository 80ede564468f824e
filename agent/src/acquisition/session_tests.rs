use std::collections::VecDeque;
use std::sync::Mutex;

use device_drivers::driver::{Allowed, By, DownReason, Endpoint, Output, Pairing, Security, Token};
use device_drivers::transport::Identity;
use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};
use kit_protocol::uplink::id::Lane;
use kit_protocol::uplink::wire::{self, MissedReason};

use super::*;
use crate::acquisition::belonging::{Judge, Slots};
use crate::acquisition::marks::Marks;
use crate::acquisition::recorder::Conversation;
use crate::acquisition::surroundings::World;
use crate::identity::memories::{DeviceMemory, Memories};
use crate::identity::origin::OriginKey;
use crate::identity::tenure::Tenure;
use crate::store::memory::{Disk, MemoryOutbox};

/// A thermometer: every octet is a temperature.
#[derive(Default)]
struct Thermometer {
    given: VecDeque<Result<(Token, Output), DriverError>>,
    tokens: u32,
    answered: Arc<Mutex<Vec<Token>>>,
    wants: VecDeque<Command>,
    failed: Arc<Mutex<Vec<Token>>>,
}

impl Session for Thermometer {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { octets, .. } => {
                for octet in octets {
                    self.tokens += 1;
                    self.given.push_back(Ok((Token(self.tokens), Output::Measured(temperature(now, *octet)))));
                }
            }
            Event::Failed { command, error: LinkError::Refused(_) } => self.failed.lock().unwrap().push(command),
            Event::Stored { reading } => self.answered.lock().unwrap().push(reading),
            _ => {}
        }
    }
    fn handle_timeout(&mut self, _: Moment) {}
    fn poll_command(&mut self) -> Option<Command> {
        self.wants.pop_front()
    }
    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        self.given.pop_front()
    }
    fn poll_timeout(&self) -> Option<Moment> {
        None
    }
}

const DRIVER: Driver = Driver {
    name: "thermometer",
    version: "1",
    links: &[],
    protocol: "",
    gives: "",
    parameters: &[],
    security: Security::None,
    pairing: Pairing::None,
    memory: false,
    allowed: &[row("ask", Effect::Ask, &[1]), row("set-clock", Effect::SetClock, &[2]), row("delete", Effect::Delete, &[3])],
    quirks: &[],
    session: |_| Box::<Thermometer>::default(),
};

const fn row(name: &'static str, effect: Effect, octets: &'static [u8]) -> Allowed {
    Allowed { name, effect, to: Endpoint::SERIAL, at: 0, octets }
}

fn writes(driver: &'static Driver) -> Writes {
    Writes { driver, may_delete: false, may_set_clock: false }
}

fn judge() -> Judge {
    Judge::new(Tenure::default(), DeviceMemory::default(), Slots::default(), false, false)
}

fn temperature(received: Moment, octet: u8) -> Measured {
    let quantity = Quantity::Number(Decimal::new(octet.into(), 0));
    Measured {
        values: vec![Value { code: Mdc(150_364), quantity, unit: "Cel" }],
        octets: vec![octet],
        ..Measured::new(Kind::Other, received)
    }
}

#[tokio::test(start_paused = true)]
async fn i1_what_a_device_said_before_it_left_waits_for_a_full_disk() {
    let disk = Arc::<Mutex<Disk>>::default();
    let opened = Arc::clone(&disk);
    let store = StoreHandle::start_with(move || Ok(MemoryOutbox::open(&opened))).unwrap();
    let clock = Arc::new(Clock::of_this_boot());
    let world = World { clock: Arc::clone(&clock), origins: Arc::new(OriginKey::new(&[7; 32])) };
    let roster = Roster::default();
    let at = roster.add("thermometer", "thermometer", "here");
    let (_stop, stopping) = watch::channel(false);
    let (link, mut end) = Link::new(Identity::default(), Arc::new(|| Moment::from_nanos(7)));
    let received = Occurrence::Received { from: Endpoint::SERIAL, octets: vec![36, 37], by: By::Serial };
    end.outlet.put(received).unwrap();
    disk.lock().unwrap().full = true;

    let session = Thermometer::default();
    let answered = Arc::clone(&session.answered);
    let of = Conversation {
        device: wire::Device::default(),
        driver: wire::Driver::default(),
        source: wire::Source::Serial,
        file: None,
    };
    let recorder = Recorder::new(of, world, Marks::default(), None, MissedReason::AgentDown, judge());
    let mut view = store.view();
    let conversation = {
        let (store, clock, roster) = (store.clone(), Arc::clone(&clock), roster.clone());
        tokio::spawn(async move {
            let memories = Memories::in_folder(std::path::PathBuf::from("/dev/null/none"));
            let windows = Windows::default();
            let surface = Surface {
                store: &store,
                clock: &clock,
                roster: &roster,
                at,
                memories: &memories,
                windows: &windows,
                device: "thermometer",
                writes: writes(&DRIVER),
                stop: stopping,
            };
            converse(link, Box::new(session), recorder, surface).await
        })
    };
    end.outlet.finish(DownReason::Lost).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!conversation.is_finished() && answered.lock().unwrap().is_empty(), "an hour without room");

    disk.lock().unwrap().full = false;
    let Conclusion { ended, given, stored, refused, failures } = conversation.await.unwrap();
    assert_eq!((ended, given, stored, refused, failures), (Ended::LinkDown, 2, 2, 0, 0));
    assert_eq!(*answered.lock().unwrap(), [Token(1), Token(2)]);
    let vitals = |epochs: &[crate::store::outbox::EpochView]| epochs[0].lanes[Lane::Vitals.index()].next - 1;
    assert_eq!(vitals(&view.borrow_and_update().epochs), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_no_row_allows_or_nobody_permitted_never_reaches_the_link() {
    let write = |token: u32, octets: &[u8]| Command::Write {
        token: Token(token),
        to: Endpoint::SERIAL,
        octets: octets.to_vec(),
        response: false,
    };
    for (may_delete, may_set_clock, sent) in [(false, false, vec![1]), (true, false, vec![1, 3]), (false, true, vec![1, 2])] {
        let store = StoreHandle::start_with(|| Ok(MemoryOutbox::open(&Arc::default()))).unwrap();
        let clock = Arc::new(Clock::of_this_boot());
        let world = World { clock: Arc::clone(&clock), origins: Arc::new(OriginKey::new(&[7; 32])) };
        let roster = Roster::default();
        let at = roster.add("thermometer", "thermometer", "here");
        let (_stop, stopping) = watch::channel(false);
        let (link, mut end) = Link::new(Identity::default(), Arc::new(|| Moment::from_nanos(7)));
        let octets: [&[u8]; 5] = [&[1, 9], &[2, 9], &[3, 9], &[4, 9], &[]];
        let wants = (1..).zip(octets).map(|(token, octets)| write(token, octets)).collect();
        let session = Thermometer { wants, ..Thermometer::default() };
        let failed = Arc::clone(&session.failed);
        let of = Conversation {
            device: wire::Device::default(),
            driver: wire::Driver::default(),
            source: wire::Source::Serial,
            file: None,
        };
        let recorder = Recorder::new(of, world, Marks::default(), None, MissedReason::AgentDown, judge());
        let memories = Memories::in_folder(std::path::PathBuf::from("/dev/null/none"));
        let surface = Surface {
            store: &store,
            clock: &clock,
            roster: &roster,
            at,
            memories: &memories,
            windows: &Windows::default(),
            device: "thermometer",
            writes: Writes { may_delete, may_set_clock, ..writes(&DRIVER) },
            stop: stopping,
        };
        let device = async {
            let mut written = Vec::new();
            for _ in &sent {
                if let Some(Command::Write { token, .. }) = end.commands.recv().await {
                    written.push(token.0);
                }
            }
            end.outlet.finish(DownReason::Lost).await;
            while let Some(command) = end.commands.recv().await {
                assert_eq!(command, Command::Close);
            }
            written
        };
        let (written, ended) = tokio::join!(device, converse(link, Box::new(session), recorder, surface));
        assert_eq!((written, ended.ended), (sent.clone(), Ended::LinkDown));
        let refused: Vec<u32> = (1..=5).filter(|token| !sent.contains(token)).collect();
        assert_eq!(failed.lock().unwrap().iter().map(|token| token.0).collect::<Vec<_>>(), refused);
        let journal = store.view().borrow().epochs[0].lanes[Lane::Journal.index()].next;
        assert!(journal > u64::try_from(refused.len()).unwrap(), "each is in the journal");
    }
}
