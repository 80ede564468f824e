//! A simulated device beside its driver, in virtual time: what the kit files of what the device says.
//!
//! The device lives in steps of 10 ms; a link between the two carries octets at once, as strict as a radio or a line: nothing
//! arrives from what was not subscribed to, what the device refuses fails, an indication is confirmed when it was taken.
//! The session's outputs go through the Recorder, and count as durable when it files them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use device_drivers::driver::{
    About, By, Command, DownReason, Driver, Effect, Endpoint, Event, LinkError, Security, Session, Start, Token, UnlockKey,
};
use device_drivers::registry;
use device_drivers::transport::ble::SILENCE_MAX;
use firmware_sim::devices::{self, Carried, Connection, Emission, STEP, SerialDevice};
use firmware_sim::faults::Scenario;
use firmware_sim::link::gatt::{Characteristic, Outgoing, Peripheral, Service, bluetooth};
use firmware_sim::truth::{Row, Stream, Truth};
use kit_agent::acquisition::belonging::{Judge, Slots};
use kit_agent::acquisition::filing::Answer;
use kit_agent::acquisition::marks::{Marks, last_record_key};
use kit_agent::acquisition::recorder::{Conversation, Recorder};
use kit_agent::acquisition::surroundings::World;
use kit_agent::clock::Clock;
use kit_agent::identity::memories::DeviceMemory;
use kit_agent::identity::origin::OriginKey;
use kit_agent::identity::tenure::Tenure;
use kit_agent::store::thread::Draft;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::uplink::wire::{self, MissedReason};
use uuid::Uuid;

use crate::bench::Failure;

/// The ATT MTU of the air, octets.
const MTU: u16 = 247;

/// How a device is attended to.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The device's seed: patient, noise, address.
    pub seed: u64,
    /// What goes wrong.
    pub scenario: Scenario,
    /// For how long.
    pub span: Duration,
    /// One reading of a continuous stream every so long.
    pub reading_every: Duration,
    /// Civil time at the start, where the kit's clock is trusted: the device's may then be set.
    pub civil_time: Option<DateTime>,
    /// Whether the device's records may be deleted once they are durable.
    pub may_delete: bool,
    /// The key that was written into the device at its pairing.
    pub unlock_key: Option<[u8; 16]>,
    /// Where the device's truth goes; of a line its streams only.
    pub truth: Truth,
}

impl Visit {
    /// A visit of so long, without faults.
    #[must_use]
    pub fn of(seed: u64, span: Duration) -> Self {
        Self {
            seed,
            scenario: Scenario::default(),
            span,
            reading_every: Duration::from_secs(10),
            civil_time: None,
            may_delete: false,
            unlock_key: None,
            truth: Truth::none(),
        }
    }
}

/// What came of a visit.
#[derive(Debug)]
pub struct Filed {
    /// When it began: the zero of the patient's time.
    pub began: Moment,
    /// What was filed, in order.
    pub drafts: Vec<Draft>,
}

/// What the kit files of a simulated device in one visit, in order; a measurement that the device sent twice is filed once.
pub fn attend(name: &str, visit: &Visit) -> Result<Filed, Failure> {
    let device = devices::find(name).ok_or_else(|| format!("no simulated device {name}"))?;
    let driver = registry::find(device.driver).ok_or_else(|| format!("no driver {}", device.driver))?;
    let mut bedside = Bedside::new(driver, visit);
    match device.connection {
        Connection::Serial(make) => bedside.by_line(&mut *make(visit.seed, &visit.scenario))?,
        Connection::Gatt(make) => bedside.by_radio(&mut *make(visit.seed, &visit.scenario, visit.truth.clone())),
        Connection::Broadcast(make) => bedside.by_ear(&mut *make(visit.seed, &visit.scenario, visit.truth.clone())),
    }
    Ok(bedside.filed())
}

/// The same of a Bluetooth device that stands in no table: another model, other settings.
pub fn attend_to(driver: &str, device: &mut dyn Peripheral, visit: &Visit) -> Result<Filed, Failure> {
    let driver = registry::find(driver).ok_or_else(|| format!("no driver {driver}"))?;
    let mut bedside = Bedside::new(driver, visit);
    bedside.by_radio(device);
    Ok(bedside.filed())
}

/// What a device on the air says in a conversation with its driver.
#[derive(Debug)]
pub struct Overheard {
    /// What it has.
    pub has: Vec<Endpoint>,
    /// What it sent, when, and from where.
    pub values: Vec<(Moment, Endpoint, Vec<u8>)>,
}

/// Listens to a Bluetooth device in a visit; what it said in its last conversation, or advertised.
pub fn overhear(device: &devices::Device, span: Duration) -> Result<Overheard, Failure> {
    let driver = registry::find(device.driver).ok_or_else(|| format!("no driver {}", device.driver))?;
    let visit = Visit::of(1, span);
    let mut bedside = Bedside::new(driver, &visit);
    let has = match device.connection {
        Connection::Serial(_) => return Err("it is on a line".into()),
        Connection::Gatt(make) => {
            let mut device = make(visit.seed, &visit.scenario, Truth::none());
            bedside.by_radio(&mut *device);
            endpoints(&*device)
        }
        Connection::Broadcast(make) => {
            bedside.by_ear(&mut *make(visit.seed, &visit.scenario, Truth::none()));
            driver.takes_advertised().into_iter().map(Endpoint::advertised).collect()
        }
    };
    let began = bedside.began;
    let from_zero = |(at, from, octets): (Moment, Endpoint, Vec<u8>)| (Moment::ZERO + at.since(began), from, octets);
    Ok(Overheard { has, values: bedside.heard.into_iter().map(from_zero).collect() })
}

fn endpoints(device: &dyn Peripheral) -> Vec<Endpoint> {
    let of_service = |service: &Service| {
        let service_uuid = service.uuid;
        let endpoint = move |each: &Characteristic| Endpoint { service: service_uuid, characteristic: each.uuid };
        service.characteristics.iter().map(endpoint).collect::<Vec<_>>()
    };
    device.services().iter().flat_map(of_service).collect()
}

/// The world of a Recorder that runs in virtual time.
#[must_use]
pub fn world() -> World {
    World { clock: Arc::new(Clock::of_this_boot()), origins: Arc::new(OriginKey::new(&[9; 32])) }
}

/// A Recorder of a device that was never met before.
#[must_use]
pub fn recorder(driver: &Driver, source: wire::Source) -> Recorder<World> {
    let conversation = Conversation {
        device: wire::Device {
            identity: driver.name.into(),
            link: if source == wire::Source::Ble { "ble" } else { "serial" }.into(),
            security: "none".into(),
            ..wire::Device::default()
        },
        driver: wire::Driver { name: driver.name.into(), version: driver.version.into() },
        source,
        file: None,
    };
    let judge = Judge::new(Tenure::default(), DeviceMemory::default(), Slots::default(), false, false);
    Recorder::new(conversation, world(), Marks::default(), None, MissedReason::AgentDown, judge)
}

/// One device's link, session and Recorder.
struct Bedside<'a> {
    driver: &'static Driver,
    visit: &'a Visit,
    began: Moment,
    now: Moment,
    talk: Option<Talk>,
    last_record: Option<u64>,
    origins: BTreeSet<[u8; 8]>,
    drafts: Vec<Draft>,
    /// What arrived by radio.
    heard: Vec<(Moment, Endpoint, Vec<u8>)>,
}

/// A conversation under way.
struct Talk {
    session: Box<dyn Session>,
    recorder: Recorder<World>,
    subscribed: BTreeSet<Uuid>,
    commands: Vec<Command>,
}

impl<'a> Bedside<'a> {
    fn new(driver: &'static Driver, visit: &'a Visit) -> Self {
        let began = crate::clock::now();
        Self {
            driver,
            visit,
            began,
            now: began,
            talk: None,
            last_record: None,
            origins: BTreeSet::new(),
            drafts: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn filed(mut self) -> Filed {
        self.end(DownReason::Closed);
        Filed { began: self.began, drafts: self.drafts }
    }

    /// The device on a line that stays plugged in.
    fn by_line(&mut self, device: &mut dyn SerialDevice) -> Result<(), Failure> {
        let mut streams: Vec<Stream> =
            device.streams().into_iter().map(|head| Stream::new(self.visit.truth.clone(), head)).collect();
        self.up(wire::Source::Serial, &[Endpoint::SERIAL]);
        while self.now.since(self.began) < self.visit.span {
            self.pass(STEP);
            for command in self.commands() {
                match command {
                    Command::Write { token, octets, .. } => {
                        device.receive(&octets);
                        self.event(Event::Done { command: token });
                    }
                    Command::Port(token, _) | Command::Subscribe(token, _) => self.event(Event::Done { command: token }),
                    Command::Read(command, from) => self.event(Event::Failed { command, error: LinkError::NoEndpoint(from) }),
                    Command::Close => {
                        self.end(DownReason::Closed);
                        return Ok(());
                    }
                }
            }
            let mut sent = Vec::new();
            device.advance(self.now.since(self.began), &mut |emission| sent.push(emission));
            for Emission { octets, carries, .. } in sent {
                for carried in carries {
                    if let Carried::Row { stream, counter, values } = carried
                        && let Some(stream) = streams.get_mut(stream)
                    {
                        stream.push(Row { at: self.now, counter, values, delivered: true })?;
                    }
                }
                self.event(Event::Received { from: Endpoint::SERIAL, octets: &octets, by: By::Serial });
            }
        }
        streams.iter_mut().try_for_each(Stream::flush)?;
        Ok(())
    }

    /// The device on the air: connected to whenever it advertises.
    fn by_radio(&mut self, device: &mut dyn Peripheral) {
        let has = endpoints(device);
        while self.now.since(self.began) < self.visit.span {
            self.pass(STEP);
            if self.talk.is_none() {
                if device.advertising(self.now).is_none() {
                    continue;
                }
                device.connected(self.now);
                device.agreed_mtu(self.now, MTU);
                self.about(device);
                self.up(wire::Source::Ble, &has);
            }
            self.serve(device);
            while let Some(outgoing) = device.poll(self.now) {
                self.arrives(device, &has, &outgoing);
                self.serve(device);
            }
            if self.talk.is_some() && device.wants_disconnect(self.now) {
                device.disconnected(self.now);
                self.end(DownReason::Lost);
            }
        }
        device.disconnected(self.now);
    }

    /// The device that only advertises: listened to, as the transport does, from its first word to its silence.
    fn by_ear(&mut self, device: &mut dyn Peripheral) {
        let services = self.driver.takes_advertised();
        let mut said: BTreeMap<Uuid, Vec<u8>> = BTreeMap::new();
        let mut heard = self.now;
        while self.now.since(self.began) < self.visit.span {
            self.pass(STEP);
            // A session asks nothing of whom nobody is connected to; what it asks is refused.
            for command in self.commands() {
                match command {
                    Command::Close => self.end(DownReason::Closed),
                    Command::Read(command, from) | Command::Subscribe(command, from) => {
                        self.event(Event::Failed { command, error: LinkError::NoEndpoint(from) });
                    }
                    Command::Write { token, to, .. } => {
                        self.event(Event::Failed { command: token, error: LinkError::NoEndpoint(to) })
                    }
                    Command::Port(command, _) => {
                        let error = LinkError::Refused("it is no serial port".into());
                        self.event(Event::Failed { command, error });
                    }
                }
            }
            let advertisement = device.advertising(self.now);
            let data = advertisement.into_iter().flat_map(|advertisement| advertisement.service_data);
            let data: Vec<_> = data.filter(|(service, _)| services.contains(service)).collect();
            if data.is_empty() {
                if self.talk.is_some() && self.now.since(heard) >= SILENCE_MAX {
                    self.end(DownReason::Lost);
                }
                continue;
            }
            heard = self.now;
            if self.talk.is_none() {
                said.clear();
                let has: Vec<_> = data.iter().map(|(service, _)| Endpoint::advertised(*service)).collect();
                self.up(wire::Source::Ble, &has);
            }
            for (service, octets) in data {
                if said.insert(service, octets.clone()).as_ref() != Some(&octets) {
                    let from = Endpoint::advertised(service);
                    self.event(Event::Received { from, octets: &octets, by: By::Advertisement });
                }
            }
        }
    }

    fn arrives(&mut self, device: &mut dyn Peripheral, has: &[Endpoint], outgoing: &Outgoing) {
        let subscribed = self.talk.as_ref().is_some_and(|talk| talk.subscribed.contains(&outgoing.characteristic));
        let Some(from) = has.iter().find(|each| each.characteristic == outgoing.characteristic) else { return };
        if !subscribed {
            return;
        }
        let by = if outgoing.confirmed { By::Indication } else { By::Notification };
        self.event(Event::Received { from: *from, octets: &outgoing.value, by });
        if outgoing.confirmed {
            device.confirmed(self.now, outgoing.characteristic);
        }
    }

    /// Carries out what the session wants of the device.
    fn serve(&mut self, device: &mut dyn Peripheral) {
        loop {
            let commands = self.commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                let answer = match command {
                    Command::Subscribe(token, to) => {
                        device.subscribed(self.now, to.characteristic, true);
                        self.talk.iter_mut().for_each(|talk| {
                            talk.subscribed.insert(to.characteristic);
                        });
                        (token, Ok(()))
                    }
                    Command::Read(token, from) => {
                        let value = device.read(self.now, from.characteristic);
                        if let Ok(octets) = &value {
                            self.event(Event::Received { from, octets, by: By::Read });
                        }
                        (token, value.map(|_| ()))
                    }
                    Command::Write { token, to, octets, .. } => (token, device.write(self.now, to.characteristic, &octets)),
                    Command::Port(token, _) => (token, Ok(())),
                    Command::Close => {
                        device.disconnected(self.now);
                        return self.end(DownReason::Closed);
                    }
                };
                match answer {
                    (command, Ok(())) => self.event(Event::Done { command }),
                    (command, Err(error)) => {
                        self.event(Event::Failed { command, error: LinkError::Refused(error.to_string()) });
                    }
                }
            }
        }
    }

    /// Reads who the device is, as the transport does before a session is opened.
    fn about(&mut self, device: &mut dyn Peripheral) {
        let now = self.now;
        let mut text = |number| device.read(now, bluetooth(number)).ok().and_then(|octets| String::from_utf8(octets).ok());
        let about = About { manufacturer: text(0x2a29), model: text(0x2a24), firmware: text(0x2a26), name: Some(device.name()) };
        self.open(about, wire::Source::Ble);
    }

    fn open(&mut self, about: About, source: wire::Source) {
        let start = Start {
            about,
            last_record: self.last_record,
            civil_time: self.visit.civil_time,
            may_delete: self.visit.may_delete,
            may_set_clock: self.visit.civil_time.is_some(),
            unlock_key: self.visit.unlock_key.map(UnlockKey),
            stream_interval: Some(self.visit.reading_every),
            ..Start::default()
        };
        let session = (self.driver.session)(start);
        let recorder = recorder(self.driver, source);
        self.talk = Some(Talk { session, recorder, subscribed: BTreeSet::new(), commands: Vec::new() });
    }

    fn up(&mut self, source: wire::Source, has: &[Endpoint]) {
        if self.talk.is_none() {
            self.open(About::default(), source);
        }
        self.event(Event::Up { mtu: MTU, security: Security::None, has });
    }

    fn end(&mut self, reason: DownReason) {
        self.event(Event::Down { reason });
        if let Some(talk) = &mut self.talk {
            talk.recorder.finish();
        }
        self.settle();
        self.talk = None;
    }

    /// So much time goes by, with every timeout that the session asked for.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.talk.as_ref().and_then(|talk| talk.session.poll_timeout()).filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let now = self.now;
            self.talk.iter_mut().for_each(|talk| talk.session.handle_timeout(now));
            self.settle();
        }
        self.now = until;
    }

    fn event(&mut self, event: Event<'_>) {
        let now = self.now;
        if let Event::Received { from, octets, by: By::Notification | By::Indication | By::Advertisement } = event {
            self.heard.push((now, from, octets.to_vec()));
        }
        if let Some(talk) = &mut self.talk {
            talk.session.handle_event(now, event);
        }
        self.settle();
    }

    /// What the session wants, but for writes that its row does not allow: those fail, as they do in the agent.
    fn commands(&mut self) -> Vec<Command> {
        let commands = self.talk.as_mut().map(|talk| std::mem::take(&mut talk.commands)).unwrap_or_default();
        let (allowed, forbidden): (Vec<_>, Vec<_>) = commands.into_iter().partition(|command| self.allows(command));
        for command in forbidden {
            if let Command::Write { token, .. } = command {
                self.event(Event::Failed { command: token, error: LinkError::Refused("no row allows it".into()) });
            }
        }
        allowed
    }

    fn allows(&self, command: &Command) -> bool {
        let Command::Write { to, octets, .. } = command else { return true };
        match self.driver.allows(*to, octets).map(|row| row.effect) {
            Some(Effect::Delete) => self.visit.may_delete,
            Some(Effect::SetClock) => self.visit.civil_time.is_some(),
            Some(Effect::Ask | Effect::Stream | Effect::Converse) => true,
            None => false,
        }
    }

    fn settle(&mut self) {
        let Some(talk) = &mut self.talk else { return };
        let last_record = last_record_key(self.driver.name);
        loop {
            talk.commands.extend(std::iter::from_fn(|| talk.session.poll_command()));
            while let Some(output) = talk.session.poll_output() {
                talk.recorder.take(self.now, output);
            }
            let mut answers = Vec::new();
            while let Some(filing) = talk.recorder.poll_filing() {
                answers.extend(filing.answers);
                let known = filing.draft.origin.is_some_and(|origin| !self.origins.insert(origin.0));
                let marked = filing.draft.marks.iter().find(|mark| mark.key == last_record);
                let number = marked.and_then(|mark| mark.value.as_slice().try_into().ok()).map(u64::from_be_bytes);
                self.last_record = number.or(self.last_record);
                self.drafts.extend((!known).then_some(filing.draft));
            }
            answers.extend(std::iter::from_fn(|| talk.recorder.poll_answer()));
            if answers.is_empty() {
                return;
            }
            for answer in answers {
                talk.session.handle_event(self.now, answered(answer));
            }
        }
    }
}

fn answered(answer: Answer) -> Event<'static> {
    match answer {
        Answer::Stored(reading) => Event::Stored { reading },
        Answer::Refused(reading) => Event::Refused { reading },
    }
}

/// The token of a test's own output.
#[must_use]
pub fn token(number: usize) -> Token {
    Token(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use firmware_sim::devices::blood_pressure_omron::Monitor;
    use firmware_sim::firmware::blood_pressure_omron::hem_7322t;
    use kit_protocol::uplink::wire::record::Content;

    use super::*;

    #[test]
    fn every_simulated_device_gives_something_to_its_driver_and_refuses_nothing() {
        for device in devices::DEVICES {
            let drafts = attend(device.name, &Visit::of(7, Duration::from_secs(90))).unwrap().drafts;
            let measured = drafts.iter().filter(|draft| matches!(draft.content, Content::Reading(_) | Content::Segment(_)));
            assert!(measured.count() > 0, "{} gives nothing", device.name);
            let refused = drafts.iter().find(|draft| matches!(draft.content, Content::Refusal(_)));
            assert!(refused.is_none(), "{}: {:?}", device.name, refused.map(|draft| &draft.content));
        }
    }

    /// Users of the pressures in a visit to an Omron HEM-7322T, which is opened by the key of its pairing.
    fn users_of_an_omron(key: Option<[u8; 16]>) -> BTreeSet<Option<u32>> {
        let model = hem_7322t([0x5a; 16]);
        let visit = Visit { unlock_key: key, ..Visit::of(3, Duration::from_secs(90)) };
        let mut device = Monitor::with_settings(visit.seed, &visit.scenario, Truth::none(), model);
        let drafts = attend_to("blood-pressure-omron", &mut device, &visit).unwrap().drafts;
        let user = |draft: &Draft| match &draft.content {
            Content::Reading(reading) => Some(reading.user),
            _ => None,
        };
        drafts.iter().filter_map(user).collect()
    }

    #[test]
    fn a_monitor_that_is_opened_by_a_key_gives_each_users_pressures_to_who_has_it_and_nothing_to_others() {
        assert_eq!(users_of_an_omron(Some([0x5a; 16])), BTreeSet::from([Some(1), Some(2)]));
        assert!(users_of_an_omron(Some([0x5b; 16])).is_empty());
        assert!(users_of_an_omron(None).is_empty());
    }
}
