//! Drives a session as a hostile device and a careless transport would, from arbitrary octets; for the fuzz targets and the
//! property tests. What must hold for every session and whatever arrives is asserted here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::reading::{Memory, RecordingHead};

use crate::driver::{
    About, By, Command, DownReason, Driver, DriverError, Effect, Endpoint, Event, Link, LinkError, MEASUREMENTS_UNSTORED_MAX,
    Output, REMEMBERED_OCTETS_MAX, SIGNAL_UNSTORED_MAX, Security, Session, Start, Token, WRITE_OCTETS_MAX,
};
use crate::session::wave;

/// Commands or outputs that one event may lead to; more is a session that does not come to rest.
const PER_EVENT_MAX: usize = 4_096;
/// Commands that may await their answer.
const COMMANDS_MAX: usize = 64;
/// Timeouts in a row that all lie in the past; more is a session that wakes for nothing.
const WAKES_MAX: usize = 1_000;

/// Runs one conversation that `script` describes, octet by octet.
///
/// Panics where the session does what no session may: more unstored than the bounds, a write that its row does not allow,
/// samples outside a recording or not whole, a token twice, no end of commands, outputs or wakes.
pub fn exercise(driver: &Driver, script: &[u8]) {
    let mut script = Script(script);
    let start = start(script.octet());
    let mut bench = Bench::new(driver, start);
    // Most conversations begin as they should.
    if script.octet() >= 32 {
        bench.up(2);
        bench.settle();
    }
    while !script.0.is_empty() {
        bench.step(&mut script);
        bench.settle();
    }
    bench.event(Event::Down { reason: DownReason::Lost });
    bench.settle();
}

fn start(choice: u8) -> Start {
    let bit = |n: u8| choice >> n & 1 == 1;
    Start {
        about: About { model: bit(0).then(|| "BM85".to_owned()), ..About::default() },
        user_slot: bit(1).then_some(1),
        last_record: bit(2).then_some(7),
        remembered: bit(3).then(|| vec![choice; usize::from(choice)]),
        civil_time: bit(4).then_some(kit_protocol::gatt::date_time::DateTime {
            year: 2026,
            month: 11,
            day: 21,
            hour: 8,
            minute: 30,
            second: 0,
        }),
        unlock_key: None,
        recording_time: bit(7).then_some(Duration::from_secs(2)),
        may_delete: bit(5),
        may_set_clock: bit(6),
        stream_interval: bit(7).then(|| Duration::from_secs(1)),
    }
}

/// The octets that are left of the script; zeros at its end.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn octets(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Bench<'a> {
    driver: &'a Driver,
    session: Box<dyn Session>,
    may_delete: bool,
    may_set_clock: bool,
    now: Moment,
    endpoints: Vec<Endpoint>,
    commands: Vec<Token>,
    unstored: BTreeMap<Token, Duration>,
    measurements: usize,
    tokens: BTreeSet<Token>,
    recordings: BTreeMap<u32, RecordingHead>,
}

impl<'a> Bench<'a> {
    fn new(driver: &'a Driver, start: Start) -> Self {
        let (may_delete, may_set_clock) = (start.may_delete, start.may_set_clock);
        Self {
            driver,
            session: (driver.session)(start),
            may_delete,
            may_set_clock,
            now: Moment::ZERO,
            endpoints: endpoints(driver),
            commands: Vec::new(),
            unstored: BTreeMap::new(),
            measurements: 0,
            tokens: BTreeSet::new(),
            recordings: BTreeMap::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let (what, argument) = (script.octet(), script.octet());
        match what % 9 {
            0 => self.up(argument),
            1 | 2 => self.received(argument, script),
            3 => self.pass(Duration::from_millis(u64::from(argument) * 200)),
            4 => self.answer_commands(|command| Event::Done { command }),
            5 => self.answer_commands(|command| Event::Failed { command, error: LinkError::Timeout }),
            6 => self.answer_outputs(|reading| Event::Stored { reading }),
            7 if argument < 32 => self.answer_outputs(|reading| Event::Refused { reading }),
            7 => self.event(Event::Stored { reading: Token(argument.into()) }),
            _ if argument < 8 => self.event(Event::Down { reason: DownReason::Lost }),
            _ => self.event(Event::Done { command: Token(argument.into()) }),
        }
    }

    fn up(&mut self, choice: u8) {
        let has: Vec<Endpoint> = match choice % 4 {
            0 => Vec::new(),
            1 => self.endpoints.iter().copied().step_by(2).collect(),
            _ => self.endpoints.clone(),
        };
        self.event(Event::Up { mtu: 23 + u16::from(choice), security: Security::None, has: &has });
    }

    fn received(&mut self, choice: u8, script: &mut Script<'_>) {
        let count = usize::from(script.octet());
        let octets = script.octets(count);
        let place = usize::from(choice & 0x0f) % self.endpoints.len().max(1);
        let Some(from) = self.endpoints.get(place).copied() else { return };
        let by = match choice >> 4 & 3 {
            _ if from == Endpoint::SERIAL && choice & 0x40 == 0 => By::Serial,
            _ if from == Endpoint::SERIAL => By::File,
            0 => By::Notification,
            1 => By::Indication,
            2 => By::Read,
            _ => By::Advertisement,
        };
        self.event(Event::Received { from, octets, by });
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut wakes = 0;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.settle();
            wakes += 1;
            assert!(wakes < WAKES_MAX, "{}: it wakes for nothing", self.driver.name);
        }
        self.now = until;
    }

    fn event(&mut self, event: Event<'_>) {
        self.session.handle_event(self.now, event);
    }

    fn answer_commands<'e>(&mut self, answer: impl Fn(Token) -> Event<'e>) {
        for command in std::mem::take(&mut self.commands) {
            self.event(answer(command));
        }
    }

    fn answer_outputs<'e>(&mut self, answer: impl Fn(Token) -> Event<'e>) {
        self.measurements = 0;
        for reading in std::mem::take(&mut self.unstored).into_keys() {
            self.event(answer(reading));
        }
    }

    /// Polls the session until it rests.
    fn settle(&mut self) {
        for _ in 0..PER_EVENT_MAX {
            let command = self.session.poll_command();
            let output = self.session.poll_output();
            if command.is_none() && output.is_none() {
                return;
            }
            command.into_iter().for_each(|command| self.command(&command));
            output.into_iter().for_each(|output| self.output(output));
        }
        panic!("{}: it does not come to rest", self.driver.name);
    }

    fn command(&mut self, command: &Command) {
        let token = match command {
            Command::Subscribe(token, _) | Command::Read(token, _) | Command::Port(token, _) => *token,
            Command::Write { token, to, octets, .. } => {
                assert!(octets.len() <= WRITE_OCTETS_MAX, "{}: a write of {} octets", self.driver.name, octets.len());
                let row = self.driver.allows(*to, octets);
                let effect = row.map(|row| row.effect);
                assert!(effect.is_some(), "{}: writes {octets:02x?}, which no row allows", self.driver.name);
                assert!(effect != Some(Effect::Delete) || self.may_delete, "{}: deletes unasked", self.driver.name);
                assert!(effect != Some(Effect::SetClock) || self.may_set_clock, "{}: sets the clock unasked", self.driver.name);
                *token
            }
            Command::Close => return,
        };
        self.fresh(token);
        self.commands.push(token);
        assert!(self.commands.len() <= COMMANDS_MAX, "{}: too many commands await their answer", self.driver.name);
    }

    fn output(&mut self, output: Result<(Token, Output), DriverError>) {
        let (token, output) = match output {
            Ok(output) => output,
            Err(_) => return,
        };
        self.fresh(token);
        match output {
            Output::Measured(measured) => {
                assert!(
                    !measured.values.is_empty() || !measured.status.is_empty(),
                    "{}: a measurement of nothing",
                    self.driver.name
                );
                self.measurements += 1;
                assert!(self.measurements <= MEASUREMENTS_UNSTORED_MAX, "{}: too many measurements unstored", self.driver.name);
                self.unstored.insert(token, Duration::ZERO);
            }
            Output::Begin { recording, head } => {
                assert!(!head.channels.is_empty() && head.rate.samples > 0 && head.rate.seconds > 0, "{}", self.driver.name);
                assert!(self.recordings.insert(recording, head).is_none(), "{}: a recording begins twice", self.driver.name);
                self.session.handle_event(self.now, Event::Stored { reading: token });
            }
            Output::Samples { recording, block } => {
                let head = self.recordings.get(&recording).expect("samples only of a recording that began");
                let frames = block.samples.len() / head.channels.len();
                assert!(frames > 0 && block.samples.len() == frames * head.channels.len(), "{}: half a frame", self.driver.name);
                let frames = u64::try_from(frames).unwrap_or(u64::MAX);
                let span = if head.memory == Memory::Stored { wave::stored_span } else { wave::span }(frames, head.rate);
                self.unstored.insert(token, span);
                let unstored: Duration = self.unstored.values().sum();
                assert!(unstored <= SIGNAL_UNSTORED_MAX, "{}: {unstored:?} of signal unstored", self.driver.name);
            }
            Output::End { recording } => {
                assert!(self.recordings.remove(&recording).is_some(), "{}: what ends never began", self.driver.name);
                self.session.handle_event(self.now, Event::Stored { reading: token });
            }
            Output::Remember(octets) => {
                assert!(octets.len() <= REMEMBERED_OCTETS_MAX, "{}: remembers too much", self.driver.name);
                self.session.handle_event(self.now, Event::Stored { reading: token });
            }
            Output::DeviceClock { .. } | Output::Memory { .. } => {
                self.session.handle_event(self.now, Event::Stored { reading: token });
            }
        }
    }

    fn fresh(&mut self, token: Token) {
        assert!(self.tokens.insert(token), "{}: token {token:?} twice", self.driver.name);
    }
}

/// Everything that the driver may listen or write to, and its line.
fn endpoints(driver: &Driver) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = driver
        .links
        .iter()
        .flat_map(|link| match link {
            Link::Ble { listens, advertises, .. } => {
                listens.iter().copied().chain(advertises.iter().map(|service| Endpoint::advertised(*service))).collect()
            }
            Link::Serial(_) | Link::File => vec![Endpoint::SERIAL],
        })
        .chain(driver.allowed.iter().map(|row| row.to))
        .collect();
    endpoints.dedup();
    endpoints
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::DRIVERS;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn i9_no_device_and_no_link_brings_any_session_beyond_its_bounds(
            script in proptest::collection::vec(any::<u8>(), 0..2_000),
        ) {
            for driver in DRIVERS {
                exercise(driver, &script);
            }
        }
    }
}
