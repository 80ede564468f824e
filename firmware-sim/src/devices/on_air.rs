//! What every device on the air has in common: it lives in steps, suffers what the scenario says, says who it is, hangs up
//! with a result on the way, and puts down what became of its results and samples.
//!
//! What tells one from another is its [`Board`]: its parts and firmware, a radio's requests in, what it sends out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::reading::Measured;
use uuid::Uuid;

use super::STEP;
use crate::clock;
use crate::faults::{Fault, FrameFault, Scenario};
use crate::firmware::calendar::SECONDS_1970_TO_2000;
use crate::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service, bluetooth,
};
use crate::noise::{mixed, step};
use crate::truth::{Row, Stream, StreamHead, Truth};

/// What a board has, as the air shows it.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its name in the table of devices and in truth files.
    pub device: &'static str,
    /// The driver that speaks to it.
    pub driver: &'static str,
    /// Its model number, and the beginning of the name that it advertises.
    pub model: &'static str,
    /// Distinguishes its address from that of another with the same seed.
    pub address: u8,
    /// How it pairs.
    pub pairing: PairingMethod,
    /// Whether it has the Device Information Service.
    pub informs: bool,
}

/// When something happens to a board.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the simulator's start: the patient's time.
    pub at: Duration,
    /// Milliseconds since power-up: the firmware's time.
    pub up_ms: u64,
    /// On the gateway's clock.
    pub moment: Moment,
}

/// A row of samples on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which of [`Board::streams`].
    pub stream: usize,
    /// The device's own number of it.
    pub counter: Option<u32>,
    /// One integer a channel.
    pub values: Vec<i32>,
}

/// What a board sends, and what is whole once it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What goes onto the air.
    pub outgoing: Outgoing,
    /// A result is in it, or its end: what a disconnection and a duplication befall.
    pub is_result: bool,
    /// What is whole with it; of an indication [`Board::confirmed`] says it.
    pub whole: Whole,
}

/// What has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Results, by number.
    pub results: Vec<u64>,
    /// Samples.
    pub samples: Vec<Sample>,
}

impl Sent {
    /// Octets that carry no result.
    #[must_use]
    pub const fn plain(outgoing: Outgoing) -> Self {
        Self { outgoing, is_result: false, whole: Whole { results: Vec::new(), samples: Vec::new() } }
    }
}

/// What tells one device on the air from another: its parts, its firmware, its patient.
pub trait Board: Send {
    /// Who it is.
    fn identity(&self) -> Identity;
    /// Its streams, for the truth.
    fn streams(&self) -> Vec<StreamHead> {
        Vec::new()
    }
    /// Its services, but for Device Information.
    fn services(&self) -> Vec<Service>;
    /// What it advertises, name and signal strength apart; `None` while it is silent.
    fn advertisement(&self, now: Now) -> Option<Advertisement>;

    /// Power comes.
    fn power_up(&mut self, now: Now);
    /// Power goes.
    fn power_down(&mut self);
    /// Lives on to `now`, one [`STEP`] after the last time.
    fn step(&mut self, now: Now, scenario: &Scenario);
    /// Its clock showed so many seconds since 2000 at power-up; `None`: it has lost the time.
    fn set_clock(&mut self, _at_power_up: Option<u64>) {}
    /// Its battery holds so many percent.
    fn set_battery(&mut self, _percent: u8) {}
    /// Results that were made, or are told otherwise now, by number.
    fn take_made(&mut self, _moment: Moment) -> Vec<(u64, Measured)> {
        Vec::new()
    }
    /// Samples that will never be sent; with the simulation's end all that were not.
    fn take_lost(&mut self, _ends: bool) -> Vec<Sample> {
        Vec::new()
    }

    /// A link came up.
    fn connected(&mut self, now: Now);
    /// The link ended.
    fn disconnected(&mut self, now: Now);
    /// The link agreed on an ATT MTU.
    fn agreed_mtu(&mut self, _octets: u16) {}
    /// A read request.
    fn read(&mut self, _now: Now, _characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        Err(AttError::ReadNotPermitted)
    }
    /// A write request or command.
    fn write(&mut self, _now: Now, _characteristic: Uuid, _value: &[u8]) -> Result<(), AttError> {
        Err(AttError::WriteNotPermitted)
    }
    /// A client characteristic configuration was written.
    fn subscribed(&mut self, now: Now, characteristic: Uuid, on: bool);
    /// The last indication was confirmed; gives what is whole with it.
    fn confirmed(&mut self, _now: Now, _characteristic: Uuid) -> Whole {
        Whole::default()
    }
    /// What it sends next.
    fn next(&mut self, now: Now) -> Option<Sent>;
    /// Whether it hangs up.
    fn hangs_up(&self, _now: Now) -> bool {
        false
    }
}

/// A fault's result: hang up before it has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HangUp {
    #[default]
    No,
    /// With the next result that is sent.
    WithNextResult,
    /// It was sent: now.
    Now,
}

/// A device on the air.
pub struct OnAir<B: Board> {
    board: B,
    seed: u64,
    scenario: Scenario,
    truth: Truth,
    streams: Vec<(Stream, u32)>,
    /// When the simulation began, by the gateway's clock.
    began: Option<Moment>,
    /// The same, s of 1970.
    began_wall: u64,
    now: Duration,
    booted: Duration,
    powered: bool,
    linked: bool,
    /// Results that nobody has yet.
    waiting: BTreeMap<u64, Measured>,
    delivered: BTreeSet<u64>,
    hang_up: HangUp,
    /// A result that was sent and is sent once more, as if its confirmation had been lost.
    again: Option<Outgoing>,
    last_result: Option<Outgoing>,
}

impl<B: Board> OnAir<B> {
    /// This board with its radio.
    pub fn with(board: B, seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        let streams = board.streams().into_iter().map(|head| (head.rate_hz, Stream::new(truth.clone(), head)));
        Self {
            streams: streams.map(|(rate, stream)| (stream, rate)).collect(),
            board,
            seed,
            scenario: scenario.clone(),
            truth,
            began: None,
            began_wall: 0,
            now: Duration::ZERO,
            booted: Duration::ZERO,
            powered: false,
            linked: false,
            waiting: BTreeMap::new(),
            delivered: BTreeSet::new(),
            hang_up: HangUp::No,
            again: None,
            last_result: None,
        }
    }

    fn now(&self) -> Now {
        let up_ms = u64::try_from((self.now.saturating_sub(self.booted)).as_millis()).unwrap_or(u64::MAX);
        Now { at: self.now, up_ms, moment: self.began.map_or(Moment::ZERO, |began| began + self.now) }
    }

    /// Lives on up to `now`.
    fn live(&mut self, now: Moment) -> Now {
        if self.began.is_none() {
            self.began_wall = clock::wall_seconds();
        }
        let began = *self.began.get_or_insert(now);
        let until = now.since(began);
        while self.now + STEP <= until {
            let from = self.now;
            self.now += STEP;
            self.step(from);
        }
        self.now()
    }

    fn step(&mut self, from: Duration) {
        if self.scenario.during(self.now).any(|fault| fault == Fault::Reboot) {
            if std::mem::take(&mut self.powered) {
                self.board.power_down();
            }
            return;
        }
        if !self.powered {
            self.powered = true;
            self.booted = self.now;
            let now = self.now();
            self.board.power_up(now);
            self.set_clock(0);
        }
        let beginning: Vec<Fault> = self.scenario.beginning(from, self.now).map(|entry| entry.fault).collect();
        for fault in beginning {
            match fault {
                Fault::Disconnect => self.hang_up = HangUp::WithNextResult,
                Fault::Clock(Some(off)) => self.set_clock(off),
                Fault::Clock(None) => self.board.set_clock(None),
                Fault::Battery(percent) => self.board.set_battery(percent),
                Fault::Frame(FrameFault::Duplicate) => self.again.clone_from(&self.last_result),
                _ => {}
            }
        }
        let now = self.now();
        self.board.step(now, &self.scenario);
        self.take_made();
        let lost = self.board.take_lost(false);
        self.put_down(lost, now.moment, false);
    }

    /// Sets the device's clock right, but for so many seconds.
    fn set_clock(&mut self, off: i64) {
        let right = self.began_wall.saturating_sub(SECONDS_1970_TO_2000).saturating_add(self.booted.as_secs());
        self.board.set_clock(Some(right.saturating_add_signed(off)));
    }
}

/// The truth.
impl<B: Board> OnAir<B> {
    fn take_made(&mut self) {
        let made = self.board.take_made(self.now().moment);
        self.waiting.extend(made.into_iter().filter(|(number, _)| !self.delivered.contains(number)));
    }

    fn arrived(&mut self, whole: Whole, at: Moment) {
        self.take_made();
        self.put_down(whole.samples, at, true);
        for number in whole.results {
            self.delivered.insert(number);
            if let Some(measured) = self.waiting.remove(&number) {
                self.write_reading(&measured, at, true);
            }
        }
    }

    fn write_reading(&self, measured: &Measured, at: Moment, delivered: bool) {
        let Identity { driver, device, .. } = self.board.identity();
        told(self.truth.reading(driver, device, measured, at, delivered));
    }

    /// Samples that come together are as far apart as they were made: their order in time is theirs.
    fn put_down(&mut self, samples: Vec<Sample>, moment: Moment, delivered: bool) {
        let mut counts = vec![0_u32; self.streams.len()];
        for Sample { stream, counter, values } in samples {
            let (Some((to, rate_hz)), Some(count)) = (self.streams.get_mut(stream), counts.get_mut(stream)) else { continue };
            let at = moment + Duration::from_secs(1) * *count / (*rate_hz).max(1);
            *count += 1;
            told(to.push(Row { at, counter, values, delivered }));
        }
    }
}

impl<B: Board> Drop for OnAir<B> {
    /// What nobody has is put down as such.
    fn drop(&mut self) {
        let lost = self.board.take_lost(true);
        self.put_down(lost, self.now().moment, false);
        self.take_made();
        for measured in std::mem::take(&mut self.waiting).values() {
            self.write_reading(measured, measured.received, false);
        }
        self.streams.iter_mut().for_each(|(stream, _)| told(stream.flush()));
    }
}

fn told(written: io::Result<()>) {
    if let Err(error) = written {
        eprintln!("kit-sim: the truth cannot be written: {error}");
    }
}

const DEVICE_INFORMATION: u16 = 0x180a;
const MANUFACTURER_NAME: u16 = 0x2a29;
const MODEL_NUMBER: u16 = 0x2a24;
const SERIAL_NUMBER: u16 = 0x2a25;
const FIRMWARE_REVISION: u16 = 0x2a26;

impl<B: Board> Peripheral for OnAir<B> {
    fn name(&self) -> String {
        format!("{} {:04X}", self.board.identity().model, self.seed & 0xffff)
    }

    fn address(&self) -> [u8; 6] {
        let [a, b, c, d, ..] = mixed(self.seed, 0xadd0).to_be_bytes();
        [0x02, self.board.identity().address, a, b, c, d]
    }

    fn services(&self) -> Vec<Service> {
        let mut services = self.board.services();
        let read = [MANUFACTURER_NAME, MODEL_NUMBER, SERIAL_NUMBER, FIRMWARE_REVISION];
        let information = service(DEVICE_INFORMATION, &read.map(|number| (number, Properties::READ)));
        services.extend(self.board.identity().informs.then_some(information));
        services
    }

    fn pairing(&self) -> PairingMethod {
        self.board.identity().pairing
    }

    fn advertising(&mut self, now: Moment) -> Option<Advertisement> {
        let now = self.live(now);
        if !self.powered || self.linked {
            return None;
        }
        let advertisement = self.board.advertisement(now)?;
        let fading = i16::try_from(step(self.seed, now.at.as_secs(), 4)).unwrap_or(0);
        Some(Advertisement { local_name: Some(self.name()), rssi: -59 + fading, ..advertisement })
    }

    fn connected(&mut self, now: Moment) {
        let now = self.live(now);
        self.again = None;
        self.linked = true;
        if self.powered {
            self.board.connected(now);
        }
    }

    fn agreed_mtu(&mut self, now: Moment, octets: u16) {
        self.live(now);
        self.board.agreed_mtu(octets);
    }

    fn disconnected(&mut self, now: Moment) {
        let now = self.live(now);
        self.again = None;
        self.linked = false;
        if self.hang_up == HangUp::Now {
            self.hang_up = HangUp::No;
        }
        if self.powered {
            self.board.disconnected(now);
        }
    }

    fn read(&mut self, now: Moment, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        let now = self.live(now);
        let Identity { model, informs, .. } = self.board.identity();
        match number(characteristic) {
            _ if !self.powered => Err(AttError::RequestNotSupported),
            MANUFACTURER_NAME if informs => Ok(b"Simulated Instruments".to_vec()),
            MODEL_NUMBER if informs => Ok(model.into()),
            SERIAL_NUMBER if informs => Ok(format!("{:08}", self.seed % 100_000_000).into_bytes()),
            FIRMWARE_REVISION if informs => Ok(env!("CARGO_PKG_VERSION").into()),
            _ => self.board.read(now, characteristic),
        }
    }

    fn write(&mut self, now: Moment, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        let now = self.live(now);
        if self.powered { self.board.write(now, characteristic, value) } else { Err(AttError::RequestNotSupported) }
    }

    fn subscribed(&mut self, now: Moment, characteristic: Uuid, on: bool) {
        let now = self.live(now);
        if self.powered {
            self.board.subscribed(now, characteristic, on);
        }
    }

    fn confirmed(&mut self, now: Moment, characteristic: Uuid) {
        let now = self.live(now);
        if !self.powered {
            return;
        }
        let whole = self.board.confirmed(now, characteristic);
        self.arrived(whole, now.moment);
    }

    fn poll(&mut self, now: Moment) -> Option<Outgoing> {
        let now = self.live(now);
        if self.hang_up == HangUp::Now || !self.powered || !self.linked {
            return None;
        }
        if let Some(again) = self.again.take() {
            return Some(again);
        }
        let Sent { outgoing, is_result, whole } = self.board.next(now)?;
        let cut_off = is_result && self.hang_up == HangUp::WithNextResult;
        if is_result {
            self.last_result = Some(outgoing.clone());
        }
        if cut_off {
            self.hang_up = HangUp::Now;
        }
        if cut_off && !outgoing.confirmed {
            // The link ends with it on the air: nobody knows whether it came.
            self.put_down(whole.samples, now.moment, false);
            return None;
        }
        if !outgoing.confirmed {
            self.arrived(whole, now.moment);
        }
        Some(outgoing)
    }

    fn wants_disconnect(&mut self, now: Moment) -> bool {
        let now = self.live(now);
        // A device without power is silent; the radio notices.
        !self.powered || self.board.hangs_up(now) || self.hang_up == HangUp::Now
    }
}

/// The 16-bit number of a characteristic; 0 for one that has none.
#[must_use]
pub fn number(uuid: Uuid) -> u16 {
    let number = u16::try_from(uuid.as_u128() >> 96).unwrap_or(0);
    if bluetooth(number) == uuid { number } else { 0 }
}

/// A service and its characteristics by their 16-bit numbers, open to everyone.
#[must_use]
pub fn service(number: u16, characteristics: &[(u16, Properties)]) -> Service {
    let characteristic = |(number, properties): &(u16, Properties)| (bluetooth(*number), *properties);
    service_of(bluetooth(number), Security::None, characteristics.iter().map(characteristic))
}

/// A service and its characteristics, which answer at this security.
#[must_use]
pub fn service_of(uuid: Uuid, needs: Security, characteristics: impl IntoIterator<Item = (Uuid, Properties)>) -> Service {
    let characteristic = |(uuid, properties)| Characteristic { uuid, properties, needs_security: needs };
    Service { uuid, characteristics: characteristics.into_iter().map(characteristic).collect() }
}
