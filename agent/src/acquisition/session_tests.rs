use std::collections::VecDeque;
use std::sync::Mutex;

use device_drivers::driver::{By, DownReason, Endpoint, Output, Token};
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
            Event::Stored { reading } => self.answered.lock().unwrap().push(reading),
            _ => {}
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
            let (memories, device) = (&memories, "thermometer");
            let surface = Surface { store: &store, clock: &clock, roster: &roster, at, memories, device, stop: stopping };
            converse(link, Box::new(session), recorder, surface).await
        })
    };
    end.outlet.finish(DownReason::Lost).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!conversation.is_finished() && answered.lock().unwrap().is_empty(), "an hour without room");

    disk.lock().unwrap().full = false;
    assert_eq!(conversation.await.unwrap(), Ended::LinkDown);
    assert_eq!(*answered.lock().unwrap(), [Token(1), Token(2)]);
    let vitals = |epochs: &[crate::store::outbox::EpochView]| epochs[0].lanes[Lane::Vitals.index()].next - 1;
    assert_eq!(vitals(&view.borrow_and_update().epochs), 2);
}
