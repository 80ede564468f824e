//! A simulated device for these tests: it numbers its measurements and keeps the truth about them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use firmware_sim::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service, bluetooth,
};
use kit_protocol::moment::Moment;
use uuid::Uuid;

/// Its own service, one that other devices have too.
pub(crate) const SERVICE: u16 = 0x1822;
/// Indicates a measurement: flags, number as u16, three octets of padding.
pub(crate) const MEASUREMENT: u16 = 0x2a5e;
/// Can be read, and notifies.
pub(crate) const LEVEL: u16 = 0x2a19;
/// Can be written.
pub(crate) const CONTROL: u16 = 0x2a52;
const BATTERY: u16 = 0x180f;
const INFORMATION: u16 = 0x180a;

/// What the device knows to have happened.
#[derive(Clone, Default)]
pub(crate) struct Truth {
    /// Every number whose indication was confirmed, in order.
    pub(crate) confirmed: Vec<u16>,
    /// How many links there were.
    pub(crate) links: usize,
    /// How many links ended.
    pub(crate) ended: usize,
    /// When links came up, since the first question.
    pub(crate) link_times: Vec<Duration>,
    /// What was written.
    pub(crate) written: Vec<Vec<u8>>,
    /// How often measurements were subscribed to.
    pub(crate) subscriptions: usize,
}

/// How a device behaves.
#[derive(Clone)]
pub(crate) struct Plan {
    /// How many measurements it makes in all.
    pub(crate) measurements: u16,
    /// After so many measurements on a link, it hangs up; after the last entry never.
    pub(crate) hang_up: VecDeque<usize>,
    /// When it advertises, since the first question; always if empty.
    pub(crate) windows: Vec<(Duration, Duration)>,
}

/// The device.
pub(crate) struct Meter {
    octet: u8,
    plan: Plan,
    truth: Arc<Mutex<Truth>>,
    begun: Option<Moment>,
    linked: bool,
    subscribed: bool,
    level_subscribed: bool,
    level_due: bool,
    next: u16,
    on_this_link: usize,
    waiting: bool,
}

impl Meter {
    /// A device whose address ends in `octet`, and where it keeps the truth.
    pub(crate) fn with_truth(octet: u8, plan: Plan) -> (Box<dyn Peripheral>, Arc<Mutex<Truth>>) {
        let truth = Arc::new(Mutex::new(Truth::default()));
        let meter = Self {
            octet,
            plan,
            truth: Arc::clone(&truth),
            begun: None,
            linked: false,
            subscribed: false,
            level_subscribed: false,
            level_due: false,
            next: 1,
            on_this_link: 0,
            waiting: false,
        };
        (Box::new(meter), truth)
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    fn since_begun(&mut self, now: Moment) -> Duration {
        now.since(*self.begun.get_or_insert(now))
    }
}

fn characteristic(number: u16, properties: Properties) -> Characteristic {
    Characteristic { uuid: bluetooth(number), properties, needs_security: Security::None }
}

impl Peripheral for Meter {
    fn name(&self) -> String {
        format!("Meter {}", self.octet)
    }

    fn address(&self) -> [u8; 6] {
        [0xc0, 0xff, 0xee, 0, 0, self.octet]
    }

    fn services(&self) -> Vec<Service> {
        let readable = |number| characteristic(number, Properties::READ);
        vec![
            Service { uuid: bluetooth(0x1800), characteristics: vec![readable(0x2a00)] },
            Service { uuid: bluetooth(INFORMATION), characteristics: [0x2a29, 0x2a24, 0x2a25, 0x2a26].map(readable).to_vec() },
            Service {
                uuid: bluetooth(BATTERY),
                characteristics: vec![characteristic(LEVEL, Properties::READ.and(Properties::NOTIFY))],
            },
            Service {
                uuid: bluetooth(SERVICE),
                characteristics: vec![
                    characteristic(MEASUREMENT, Properties::INDICATE),
                    characteristic(CONTROL, Properties::WRITE.and(Properties::INDICATE)),
                ],
            },
        ]
    }

    fn pairing(&self) -> PairingMethod {
        PairingMethod::None
    }

    fn advertising(&mut self, now: Moment) -> Option<Advertisement> {
        let since = self.since_begun(now);
        let open = self.plan.windows.is_empty() || self.plan.windows.iter().any(|(from, to)| (*from..*to).contains(&since));
        let services = vec![bluetooth(SERVICE)];
        (open && !self.linked).then(|| Advertisement {
            local_name: Some(self.name()),
            services,
            rssi: -60,
            ..Advertisement::default()
        })
    }

    fn connected(&mut self, now: Moment) {
        let since = self.since_begun(now);
        self.linked = true;
        self.on_this_link = 0;
        let mut truth = self.truth();
        truth.links += 1;
        truth.link_times.push(since);
    }

    fn disconnected(&mut self, _: Moment) {
        self.linked = false;
        self.subscribed = false;
        self.level_subscribed = false;
        self.waiting = false;
        self.truth().ended += 1;
    }

    fn read(&mut self, _: Moment, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        let text = |text: &str| Ok(text.as_bytes().to_vec());
        match characteristic {
            uuid if uuid == bluetooth(0x2a29) => text("Tuscan Meters\0"),
            uuid if uuid == bluetooth(0x2a24) => text("TM-1"),
            uuid if uuid == bluetooth(0x2a25) => text(&format!("SN{}", self.octet)),
            uuid if uuid == bluetooth(0x2a26) => text("1.0"),
            uuid if uuid == bluetooth(LEVEL) => {
                self.level_due = self.level_subscribed;
                Ok(vec![77])
            }
            _ => Err(AttError::ReadNotPermitted),
        }
    }

    fn write(&mut self, _: Moment, _: Uuid, value: &[u8]) -> Result<(), AttError> {
        self.truth().written.push(value.to_vec());
        if value == [0xff] { Err(AttError::Application(0x80)) } else { Ok(()) }
    }

    fn subscribed(&mut self, _: Moment, characteristic: Uuid, on: bool) {
        if characteristic == bluetooth(MEASUREMENT) {
            self.subscribed = on;
            self.truth().subscriptions += usize::from(on);
        } else if characteristic == bluetooth(LEVEL) {
            self.level_subscribed = on;
        }
    }

    fn confirmed(&mut self, _: Moment, characteristic: Uuid) {
        assert_eq!(characteristic, bluetooth(MEASUREMENT));
        assert!(self.waiting, "a confirmation of nothing");
        self.waiting = false;
        let number = self.next;
        self.truth().confirmed.push(number);
        self.next += 1;
        self.on_this_link += 1;
    }

    fn poll(&mut self, _: Moment) -> Option<Outgoing> {
        if std::mem::take(&mut self.level_due) {
            return Some(Outgoing { characteristic: bluetooth(LEVEL), value: vec![77], confirmed: false });
        }
        if !self.subscribed || self.waiting || self.next > self.plan.measurements || self.hangs_up() {
            return None;
        }
        self.waiting = true;
        let [low, high] = self.next.to_le_bytes();
        Some(Outgoing { characteristic: bluetooth(MEASUREMENT), value: vec![0, low, high, 0, 0, 0], confirmed: true })
    }

    fn wants_disconnect(&mut self, _: Moment) -> bool {
        let hangs_up = self.hangs_up();
        if hangs_up {
            self.plan.hang_up.pop_front();
        }
        hangs_up
    }
}

impl Meter {
    fn hangs_up(&self) -> bool {
        self.linked && self.plan.hang_up.front().is_some_and(|after| self.on_this_link >= *after)
    }
}
