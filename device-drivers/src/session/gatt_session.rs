//! What every conversation over GATT has: features to read, subscriptions to make in order, a clock, a battery.
//!
//! A driver's session holds a [`GattSession`] and is [`OverGatt`]: the conversation takes in every event first, and the driver
//! goes on where all is set up. Nothing here knows a service: what to read and subscribe to is the driver's [`Plan`].
//!
//! What a measurement means, a feature says: one that comes before everything is read waits for that. BlueZ keeps a link up while
//! its user is restarted, and a device that is subscribed to goes on.
//!
//! The device's clock is read before the first subscription, so that its times can be moved, and set only when nothing has
//! come for a while: what is still in its memory bears the time that the clock had before.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::gatt::battery_level::BatteryLevel;
use kit_protocol::gatt::current_time::CurrentTime;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::Measured;

use crate::driver::{Allowed, By, Command, DriverError, Effect, Endpoint, Event, Output, Session, Start, Token};
use crate::session::outputs::{Full, Outputs};

/// A command is answered within this: the time of an ATT transaction.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The clock is set when nothing has come for this long …
const QUIET: Duration = Duration::from_secs(2);
/// … or so long after the set-up, whatever comes.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(60);
/// Packets that wait for what is read first, at most.
const EARLY_MAX: usize = 64;
/// A clock that is off by no more than this is left alone: setting it breaks its timeline.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(10);

/// Battery Level of the Battery Service.
pub(crate) const BATTERY_LEVEL: Endpoint = Endpoint::gatt(0x180f, 0x2a19);
/// Current Time of the Current Time Service.
pub(crate) const CURRENT_TIME: Endpoint = Endpoint::gatt(0x1805, 0x2a2b);

/// Date Time, where it stands in another service.
pub(crate) const fn date_time(service: u16) -> Endpoint {
    Endpoint::gatt(service, 0x2a08)
}

/// The row that allows to set a clock.
pub(crate) const fn sets_clock(to: Endpoint) -> Allowed {
    Allowed { name: "set-clock", effect: Effect::SetClock, to, at: 0, octets: &[] }
}

/// A session over GATT: what its driver adds to the conversation that it holds.
pub(crate) trait OverGatt {
    /// The conversation.
    fn gatt(&mut self) -> &mut GattSession;
    /// The last step of the set-up is done.
    fn set_up(&mut self, _now: Moment) {}
    /// Takes in what happened, once the conversation has.
    fn happened(&mut self, now: Moment, event: Event<'_>);
    /// Takes in that a time has come, once the conversation has.
    fn time_came(&mut self, _now: Moment) {}
    /// When something is due, in the conversation or here.
    fn until(&self) -> Option<Moment>;
}

impl<T: OverGatt + Send> Session for T {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        if self.gatt().keeps_early(now, &event) {
            return;
        }
        if self.gatt().handle_event(now, &event) {
            self.set_up(now);
        }
        self.happened(now, event);
        while let Some(Early { at, from, octets, by }) = self.gatt().take_early() {
            self.gatt().handle_event(at, &Event::Received { from, octets: &octets, by });
            self.happened(at, Event::Received { from, octets: &octets, by });
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        self.gatt().handle_timeout(now);
        self.time_came(now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.gatt().poll_command()
    }

    fn poll_output(&mut self) -> Option<Given> {
        self.gatt().outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.until()
    }
}

/// What a driver has set up. What the device does not have is passed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What it measures, for the message that a device has nothing of it.
    pub(crate) gives: &'static str,
    /// Where measurements come from: a device without any is another device, and one that refuses all is given up.
    pub(crate) measures: &'static [Endpoint],
    /// What is read first.
    pub(crate) reads: &'static [Endpoint],
    /// What is subscribed to, in this order; [`Plan::measures`] are among it.
    pub(crate) subscribes: &'static [Endpoint],
    /// Where the device's clock may stand; the first that it has counts.
    pub(crate) clock: &'static [Endpoint],
}

/// ```text
/// Waiting ─Up─▶ SettingUp{read …} ─▶ SettingUp{subscribe …} ─▶ Ready ─▶ Ended
/// ```
#[derive(Debug)]
enum Stage {
    Waiting,
    SettingUp { command: Token, step: Step, rest: VecDeque<Step>, until: Moment },
    Ready,
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(Endpoint),
    Subscribe(Endpoint),
}

/// A packet that came before what it means was read.
#[derive(Debug)]
pub(crate) struct Early {
    at: Moment,
    from: Endpoint,
    octets: Vec<u8>,
    by: By,
}

/// A conversation: how far it is set up, what it wants and what it gave.
#[derive(Debug)]
pub(crate) struct GattSession {
    pub(crate) outputs: Outputs,
    plan: Plan,
    stage: Stage,
    commands: VecDeque<Command>,
    has: Vec<Endpoint>,
    subscribed: Vec<Endpoint>,
    early: VecDeque<Early>,
    clock: Clock,
    battery: Option<BatteryLevel>,
}

/// The device's clock, and ours to set it by.
#[derive(Debug, Default)]
struct Clock {
    may_set: bool,
    /// Civil time as the session was opened.
    civil: Option<DateTime>,
    /// The moment of that: the first that the session hears of.
    opened: Option<Moment>,
    /// Where the device's clock stands.
    at: Option<Endpoint>,
    /// What it said last, and when.
    said: Option<(DateTime, Moment)>,
    setting: Setting,
    /// It is set by then, however much comes.
    latest: Moment,
}

#[derive(Clone, Copy, Debug, Default)]
enum Setting {
    #[default]
    Never,
    At(Moment),
    Written {
        command: Token,
        time: DateTime,
        at: Moment,
        until: Moment,
    },
}

impl GattSession {
    pub(crate) fn new(plan: Plan, start: &Start) -> Self {
        Self {
            outputs: Outputs::default(),
            plan,
            stage: Stage::Waiting,
            commands: VecDeque::new(),
            has: Vec::new(),
            subscribed: Vec::new(),
            early: VecDeque::new(),
            clock: Clock { may_set: start.may_set_clock, civil: start.civil_time, ..Clock::default() },
            battery: None,
        }
    }

    /// Takes in what happened; true where that was the last step of the set-up.
    pub(crate) fn handle_event(&mut self, now: Moment, event: &Event<'_>) -> bool {
        self.clock.opened.get_or_insert(now);
        match event {
            Event::Up { has, .. } if matches!(self.stage, Stage::Waiting) => return self.up(now, has),
            Event::Received { from, octets, by } => self.received(now, *from, octets, *by),
            Event::Done { command } => return self.answered(now, *command, true),
            Event::Failed { command, .. } => return self.answered(now, *command, false),
            Event::Stored { reading } | Event::Refused { reading } => self.outputs.answered(*reading),
            Event::Down { .. } => {
                self.commands.clear();
                self.refuse_early();
                self.stage = Stage::Ended;
            }
            Event::Up { .. } => {}
        }
        false
    }

    /// Takes in that a time has come.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        match (&self.stage, self.clock.setting) {
            (Stage::Ready, Setting::At(_)) => self.set_clock(now),
            _ => self.give_up("a command was not answered"),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        match (&self.stage, &self.clock.setting) {
            (Stage::SettingUp { until, .. }, _) | (Stage::Ready, Setting::At(until) | Setting::Written { until, .. }) => {
                Some(*until)
            }
            (Stage::Waiting | Stage::Ready | Stage::Ended, _) => None,
        }
    }

    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether the conversation is over.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    pub(crate) fn has(&self, endpoint: Endpoint) -> bool {
        self.has.contains(&endpoint)
    }

    pub(crate) fn subscribed(&self, to: Endpoint) -> bool {
        self.subscribed.contains(&to)
    }

    /// Takes in a measurement and gives the token it will be answered by; it says where the battery is low.
    pub(crate) fn measured(&mut self, mut measured: Measured) -> Result<Token, Full> {
        measured.status.extend(self.battery.filter(|level| level.is_low()).map(|_| "low-battery"));
        self.outputs.measured(measured)
    }

    /// Takes in a measurement that comes once: where there is no room the link is closed, and the device keeps the rest.
    pub(crate) fn take(&mut self, measured: Measured) {
        if self.measured(measured).is_err() && !self.ended() {
            self.give_up("measurements come faster than they can be stored");
        }
    }

    /// Writes with response.
    pub(crate) fn write(&mut self, to: Endpoint, octets: Vec<u8>) -> Token {
        let token = self.outputs.token();
        self.commands.push_back(Command::Write { token, to, octets, response: true });
        token
    }

    /// Civil time, where the session was opened with it from a trusted clock and may set the device's.
    pub(crate) fn time_to_set(&self, now: Moment) -> Option<DateTime> {
        self.clock.civil_at(now).filter(|_| self.clock.may_set)
    }

    /// Writes without response.
    pub(crate) fn write_without_response(&mut self, to: Endpoint, octets: Vec<u8>) -> Token {
        let token = self.outputs.token();
        self.commands.push_back(Command::Write { token, to, octets, response: false });
        token
    }

    pub(crate) fn close(&mut self) {
        self.refuse_early();
        self.commands.push_back(Command::Close);
        self.stage = Stage::Ended;
    }

    /// The device does not do as its protocol says: it is told, and the link closed.
    pub(crate) fn give_up(&mut self, why: &str) {
        self.outputs.error(DriverError::Protocol(why.into()));
        self.close();
    }

    pub(crate) fn undecodable(&mut self, what: &'static str, reason: impl ToString, octets: &[u8]) {
        self.outputs.error(DriverError::Undecodable { what, reason: reason.to_string(), octets: octets.to_vec() });
    }
}

/// Setting up.
impl GattSession {
    fn up(&mut self, now: Moment, has: &[Endpoint]) -> bool {
        self.has = has.to_vec();
        if !self.plan.measures.iter().any(|endpoint| self.has(*endpoint)) {
            self.outputs.error(DriverError::NotThisDevice(format!("no {} to subscribe to", self.plan.gives)));
            self.close();
            return false;
        }
        // What is advertised needs no subscription.
        let advertised = self.plan.measures.iter().filter(|endpoint| endpoint.characteristic.is_nil() && self.has(**endpoint));
        self.subscribed = advertised.copied().collect();
        self.clock.at = self.plan.clock.iter().copied().find(|endpoint| self.has(*endpoint));
        let reads = self.plan.reads.iter().copied().chain([BATTERY_LEVEL]).chain(self.clock.at).map(Step::Read);
        let subscribes = self.plan.subscribes.iter().copied().map(Step::Subscribe);
        let there = |step: &Step| match step {
            Step::Read(endpoint) | Step::Subscribe(endpoint) => self.has(*endpoint),
        };
        let steps = reads.chain(subscribes).filter(there).collect();
        self.next_step(now, steps)
    }

    fn next_step(&mut self, now: Moment, mut rest: VecDeque<Step>) -> bool {
        if let Some(step) = rest.pop_front() {
            let command = self.outputs.token();
            self.commands.push_back(match step {
                Step::Read(from) => Command::Read(command, from),
                Step::Subscribe(to) => Command::Subscribe(command, to),
            });
            self.stage = Stage::SettingUp { command, step, rest, until: now + ANSWER_MAX };
            return false;
        }
        if !self.plan.measures.iter().any(|endpoint| self.subscribed(*endpoint)) {
            self.give_up("the device refused every subscription");
            return false;
        }
        self.stage = Stage::Ready;
        self.clock.latest = now + QUIET_WAIT_MAX;
        self.clock.setting = if self.clock.wants_setting(now) { Setting::At(now + QUIET) } else { Setting::Never };
        true
    }

    fn answered(&mut self, now: Moment, answered: Token, done: bool) -> bool {
        match (&mut self.stage, self.clock.setting) {
            (Stage::SettingUp { command, step, rest, .. }, _) if *command == answered => {
                if let (Step::Subscribe(to), true) = (*step, done) {
                    self.subscribed.push(to);
                }
                let rest = std::mem::take(rest);
                return self.next_step(now, rest);
            }
            (Stage::Ready, Setting::Written { command, time, at, .. }) if command == answered => {
                self.clock.setting = Setting::Never;
                if done {
                    self.clock_said(time, at);
                }
            }
            _ => {}
        }
        false
    }

    /// Keeps a measurement that comes while it is still being read what measurements mean.
    fn keeps_early(&mut self, now: Moment, event: &Event<'_>) -> bool {
        let Event::Received { from, octets, by } = event else { return false };
        let reading = matches!(self.stage, Stage::SettingUp { step: Step::Read(_), .. });
        if !reading || *by == By::Read || !self.plan.measures.contains(from) {
            return false;
        }
        self.early.push_back(Early { at: now, from: *from, octets: octets.to_vec(), by: *by });
        if self.early.len() > EARLY_MAX {
            self.give_up("it sends before it has said what that means");
        }
        true
    }

    /// The next of them, once everything is read.
    fn take_early(&mut self) -> Option<Early> {
        let reading = matches!(self.stage, Stage::SettingUp { step: Step::Read(_), .. });
        if reading { None } else { self.early.pop_front() }
    }

    /// What never got its meaning is no reading, and the centre sees the attempt.
    fn refuse_early(&mut self) {
        for Early { octets, .. } in std::mem::take(&mut self.early) {
            self.undecodable("measurement", "the link ended before the device had said what it means", &octets);
        }
    }

    fn received(&mut self, now: Moment, from: Endpoint, octets: &[u8], by: By) {
        if let Setting::At(at) = &mut self.clock.setting
            && by != By::Read
        {
            *at = (now + QUIET).min(self.clock.latest);
        }
        if from == BATTERY_LEVEL {
            match BatteryLevel::decode(octets) {
                Ok(level) => self.battery = Some(level),
                Err(error) => self.undecodable("battery level", error, octets),
            }
        } else if Some(from) == self.clock.at {
            let said = match from {
                CURRENT_TIME => CurrentTime::decode(octets).map(|time| time.date_time),
                _ => DateTime::decode(octets),
            };
            match said {
                // A clock that was never set says so by a date that is none.
                Ok(time) if time.seconds().is_some() => self.clock_said(time, now),
                Ok(_) => {}
                Err(error) => self.undecodable("device clock", error, octets),
            }
        }
    }
}

/// The clock.
impl GattSession {
    fn clock_said(&mut self, device: DateTime, at: Moment) {
        self.clock.said = Some((device, at));
        self.outputs.device_clock(device, at);
    }

    fn set_clock(&mut self, now: Moment) {
        self.clock.setting = Setting::Never;
        let (Some(time), Some(to)) = (self.clock.civil_at(now), self.clock.at) else { return };
        let octets = match to {
            CURRENT_TIME => CurrentTime::set_to(time).encode().to_vec(),
            _ => time.encode().to_vec(),
        };
        let command = self.write(to, octets);
        self.clock.setting = Setting::Written { command, time, at: now, until: now + ANSWER_MAX };
    }
}

impl Clock {
    fn civil_at(&self, now: Moment) -> Option<DateTime> {
        later(self.civil?, now.since(self.opened?))
    }

    fn wants_setting(&self, now: Moment) -> bool {
        let (true, Some(civil), Some(_)) = (self.may_set, self.civil_at(now), self.at) else { return false };
        let said = self.said.and_then(|(time, at)| later(time, now.since(at)));
        let off = said.and_then(|said| Some(said.seconds()?.abs_diff(civil.seconds()?)));
        off.is_none_or(|seconds| seconds > CLOCK_OFF_MAX.as_secs())
    }
}

fn later(time: DateTime, span: Duration) -> Option<DateTime> {
    DateTime::from_seconds(time.seconds()?.checked_add(i64::try_from(span.as_secs()).ok()?)?)
}

/// The earlier of two times at which a session wants to be woken.
pub(crate) fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a session hands over.
pub(crate) type Given = Result<(Token, Output), DriverError>;

#[cfg(test)]
mod tests;
