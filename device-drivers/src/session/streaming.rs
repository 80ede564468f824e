//! What every oximeter has that streams: one way to it, numbers now and then, the pulse waveform as a recording.
//!
//! A driver says what octets mean ([`Talk`]); the session around it finds the endpoint, subscribes, counts what belongs to
//! no frame, and ends. By a serial line there is nothing to subscribe to; over GATT the device is silent until then.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::plausibility;
use kit_protocol::reading::{Channel, Kind, Measured, Quantity, Rate, RecordingHead, Special, Status, Value};

use crate::driver::{By, Command, DriverError, Endpoint, Event, Output, PortSettings, Session, Start, Token, WRITE_OCTETS_MAX};
use crate::session::outputs::Outputs;
use crate::session::track::{Numbers, Track};
use crate::session::wave::Flags;

/// One reading every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// A subscription is answered within this: the time of an ATT transaction.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// After so long without a sample, what is gathered is handed over.
const GATHERED_MAX: Duration = Duration::from_secs(1);
/// After so long without a sample the recording is over: nobody can tell what a device did meanwhile.
const QUIET: Duration = Duration::from_secs(3);
/// Octets without a frame that prove that it is another device.
const STRANGE_OCTETS_MAX: usize = 9_600;

/// Commands that a link may owe an answer; more, and it carries nothing to the device.
const COMMANDS_UNANSWERED_MAX: usize = 32;

/// What a driver makes of octets.
pub(crate) trait Talk: Send {
    /// The endpoints that a device may be listened to at, with where it is written to.
    const LISTENS: &'static [(Endpoint, Option<Endpoint>)];
    /// What is not found on a line of another device.
    const WHAT: &'static str;

    /// Octets will come from here.
    fn up(&mut self, now: Moment, from: Endpoint, io: &mut Io);
    /// Octets came; whether anything of this device was among them.
    fn received(&mut self, now: Moment, octets: &[u8], io: &mut Io) -> bool;
    /// The link is down: what waits is decided on.
    fn finish(&mut self, now: Moment, io: &mut Io);
    /// A measurement is durable, or refused.
    fn answered(&mut self, _now: Moment, _reading: Token, _stored: bool, _io: &mut Io) {}
    /// The time that [`Talk::wakes`] names has come.
    fn timeout(&mut self, _now: Moment, _io: &mut Io) {}
    /// Nothing waits to be handed over: it may give more of what it holds back for that.
    fn refill(&mut self, _io: &mut Io) {}
    /// When it wants to be woken.
    fn wakes(&self) -> Option<Moment> {
        None
    }
}

/// What a driver does things with.
pub(crate) struct Io {
    pub(crate) outputs: Outputs,
    commands: VecDeque<Command>,
    /// Where octets come from.
    from: Option<Endpoint>,
    /// Where commands go to, where the device has that.
    to: Option<Endpoint>,
    ended: bool,
    octets_strange: usize,
    interval: Duration,
    /// No reading before this.
    next_reading: Option<Moment>,
    numbers: Numbers,
    pleth: Option<Pleth>,
    /// Commands that the link did not answer yet.
    unanswered: BTreeSet<Token>,
}

struct Pleth {
    rate: Rate,
    track: Track,
    last: Moment,
}

impl Io {
    /// Whether octets come from there.
    pub(crate) fn listens_to(&self, from: Endpoint) -> bool {
        self.from == Some(from)
    }

    /// Whether the device can be written to.
    pub(crate) fn writes(&self) -> bool {
        self.to.is_some()
    }

    pub(crate) fn write(&mut self, octets: Vec<u8>) {
        debug_assert!(octets.len() <= WRITE_OCTETS_MAX);
        if let Some(to) = self.to {
            let Some(token) = self.command() else { return };
            self.commands.push_back(Command::Write { token, to, octets, response: false });
        }
    }

    pub(crate) fn port(&mut self, settings: PortSettings) {
        let Some(token) = self.command() else { return };
        self.octets_strange = 0;
        self.commands.push_back(Command::Port(token, settings));
    }

    /// The token of one command more; `None` where the link is at its end, or takes commands and answers none.
    fn command(&mut self) -> Option<Token> {
        if self.unanswered.len() >= COMMANDS_UNANSWERED_MAX {
            self.broken_protocol("commands are not answered");
        }
        if self.ended {
            return None;
        }
        let token = self.outputs.token();
        self.unanswered.insert(token);
        Some(token)
    }

    pub(crate) fn not_this_device(&mut self, what: &str) {
        self.outputs.error(DriverError::NotThisDevice(what.into()));
        self.close();
    }

    pub(crate) fn broken_protocol(&mut self, why: &str) {
        self.outputs.error(DriverError::Protocol(why.into()));
        self.close();
    }

    fn close(&mut self) {
        self.commands.clear();
        self.commands.push_back(Command::Close);
        self.ended = true;
    }

    /// Takes in the numbers of one moment, if it is time again and there are any.
    pub(crate) fn numbers(&mut self, now: Moment, numbers: &Oximetry, octets: impl FnOnce() -> Vec<u8>) {
        if self.next_reading.is_some_and(|next| now < next) || numbers.is_empty() {
            return;
        }
        // Where nothing more can be taken in, the value is not taken: the next one comes with the next frame.
        let recording = self.pleth.as_ref().filter(|pleth| pleth.track.under_way()).and_then(|pleth| pleth.track.number());
        let measured = Measured { recording, ..numbers.measured(now, octets()) };
        if self.outputs.measured(measured).is_ok() {
            self.next_reading = Some(now + self.interval);
        }
    }

    /// The number of a recording beside the waveform.
    pub(crate) fn recording_number(&mut self) -> u32 {
        self.numbers.next()
    }

    /// Takes in one sample of the waveform.
    pub(crate) fn sample(&mut self, now: Moment, rate: Rate, sample: i32, artifact: bool) {
        if self.pleth.as_ref().is_some_and(|pleth| pleth.rate != rate || now.since(pleth.last) >= QUIET) {
            self.end_pleth();
        }
        let pleth = self.pleth.get_or_insert_with(|| Pleth { rate, track: Track::new(head(rate)), last: now });
        pleth.last = now;
        let flags = Flags { artifact, ..Flags::default() };
        pleth.track.push(&mut self.outputs, &mut self.numbers, now, std::iter::once(sample), flags);
    }

    /// So many samples never arrived.
    pub(crate) fn lost(&mut self, samples: u64) {
        if let Some(pleth) = &mut self.pleth {
            pleth.track.lost(&mut self.outputs, samples);
        }
    }

    /// Octets belong to no frame: whole frames were harmed, or nobody can tell how many.
    pub(crate) fn skipped(&mut self, now: Moment, octets: u64, frame_octets: u64) {
        match &mut self.pleth {
            Some(pleth) if octets.is_multiple_of(frame_octets) => pleth.track.lost(&mut self.outputs, octets / frame_octets),
            Some(_) => self.broken(),
            None => {}
        }
        self.outputs.skipped(now, octets);
    }

    /// Samples never arrived, and nobody can tell how many.
    pub(crate) fn broken(&mut self) {
        if let Some(mut pleth) = self.pleth.take() {
            pleth.track.broken(&mut self.outputs);
        }
    }

    /// The waveform ends here.
    pub(crate) fn end_pleth(&mut self) {
        if let Some(mut pleth) = self.pleth.take() {
            pleth.track.end(&mut self.outputs);
        }
    }

    fn quiet_at(&self) -> Option<Moment> {
        self.pleth.as_ref().map(|pleth| pleth.last + if pleth.track.gathers() { GATHERED_MAX } else { QUIET })
    }

    /// No sample came for some time.
    fn quiet(&mut self, now: Moment) {
        match &mut self.pleth {
            Some(pleth) if now.since(pleth.last) < QUIET => pleth.track.hand_over_gathered(&mut self.outputs),
            _ => self.end_pleth(),
        }
        self.outputs.tell_skipped(now, false);
    }
}

fn head(rate: Rate) -> RecordingHead {
    let channel = Channel { code: Mdc::PLETH, scale: Decimal::whole(1), unit: "1", filter: String::new() };
    RecordingHead::live(Kind::Pleth, vec![channel], rate)
}

/// The numbers of an oximeter at one moment; 0 means "none" with all of these makers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oximetry {
    /// %.
    pub(crate) spo2: Option<u8>,
    /// /min.
    pub(crate) pulse_rate: Option<u16>,
    /// %; `None` where the device has no such thing.
    pub(crate) perfusion_index: Option<Option<Decimal>>,
    /// ms.
    pub(crate) rr: Option<u16>,
    pub(crate) status: Vec<Status>,
}

impl Oximetry {
    fn spo2(&self) -> Option<u8> {
        self.spo2.filter(|spo2| *spo2 != 0)
    }

    fn pulse_rate(&self) -> Option<u16> {
        self.pulse_rate.filter(|rate| *rate != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spo2().is_none() && self.pulse_rate().is_none()
    }

    pub(crate) fn measured(&self, now: Moment, octets: Vec<u8>) -> Measured {
        let value = |code, number: Option<Decimal>, unit| Value {
            code,
            quantity: number.map_or(Quantity::Special(Special::NotAvailable), Quantity::Number),
            unit,
        };
        let mut values = vec![
            value(Mdc::SPO2, self.spo2().map(|spo2| Decimal::whole(spo2.into())), "%"),
            value(Mdc::PULSE_RATE, self.pulse_rate().map(|rate| Decimal::whole(rate.into())), "/min"),
        ];
        values.extend(self.perfusion_index.map(|index| value(Mdc::PERFUSION_INDEX, index, "%")));
        values.extend(self.rr.map(|rr| value(RR_INTERVAL, Some(Decimal::whole(rr.into())), "ms")));
        let mut status = self.status.clone();
        let doubtful = self.rr.is_some_and(|rr| !plausibility::is_rr_interval(Decimal::whole(rr.into())));
        status.extend(doubtful.then_some(plausibility::RR_INTERVAL_IMPLAUSIBLE));
        Measured { values, status, octets, ..Measured::new(Kind::PulseOximetry, now) }
    }
}

/// MDC_ECG_TIME_PD_RR_GL.
pub(crate) const RR_INTERVAL: Mdc = Mdc(147_240);

/// ```text
/// Waiting ──Up, serial──▶ Listening ──frame──▶ Streaming
///    └──Up, GATT──▶ Subscribing ──Done──▶ Listening
///    any ──Down──▶ Ended      └─ no frame in 9,600 octets: NotThisDevice ──▶ Ended
/// ```
#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    Subscribing {
        command: Token,
        from: Endpoint,
        until: Moment,
    },
    /// Octets may come, and no frame did.
    Listening {
        from: Endpoint,
    },
    /// Frames come.
    Streaming {
        from: Endpoint,
    },
    Ended,
}

/// The session.
pub(crate) struct Streaming<T> {
    stage: Stage,
    talk: T,
    io: Io,
    has: Vec<Endpoint>,
}

impl<T: Talk> Streaming<T> {
    pub(crate) fn new(talk: T, start: &Start) -> Self {
        let io = Io {
            outputs: Outputs::default(),
            commands: VecDeque::new(),
            from: None,
            to: None,
            ended: false,
            octets_strange: 0,
            interval: start.stream_interval.unwrap_or(INTERVAL),
            next_reading: None,
            numbers: Numbers::default(),
            pleth: None,
            unanswered: BTreeSet::new(),
        };
        Self { stage: Stage::Waiting, talk, io, has: Vec::new() }
    }

    fn up(&mut self, now: Moment, has: &[Endpoint]) {
        self.has = has.to_vec();
        let Some((from, _)) = T::LISTENS.iter().find(|(from, _)| has.contains(from)) else {
            self.io.not_this_device(T::WHAT);
            return;
        };
        if *from == Endpoint::SERIAL {
            return self.listen(now, *from);
        }
        let command = self.io.outputs.token();
        self.io.commands.push_back(Command::Subscribe(command, *from));
        self.stage = Stage::Subscribing { command, from: *from, until: now + ANSWER_MAX };
    }

    fn listen(&mut self, now: Moment, from: Endpoint) {
        let to = T::LISTENS.iter().find(|(listens, _)| *listens == from).and_then(|(_, to)| *to);
        self.io.from = Some(from);
        self.io.to = to.filter(|to| self.has.contains(to));
        self.stage = Stage::Listening { from };
        self.talk.up(now, from, &mut self.io);
    }

    fn received(&mut self, now: Moment, endpoint: Endpoint, octets: &[u8]) {
        let (Stage::Listening { from } | Stage::Streaming { from }) = self.stage else { return };
        if endpoint != from {
            return;
        }
        if self.talk.received(now, octets, &mut self.io) {
            self.stage = Stage::Streaming { from };
        } else if matches!(self.stage, Stage::Listening { .. }) {
            self.io.octets_strange = self.io.octets_strange.saturating_add(octets.len());
            if self.io.octets_strange > STRANGE_OCTETS_MAX {
                self.io.not_this_device(T::WHAT);
            }
        }
    }

    fn down(&mut self, now: Moment) {
        if matches!(self.stage, Stage::Listening { .. } | Stage::Streaming { .. }) {
            self.talk.finish(now, &mut self.io);
        }
        self.io.end_pleth();
        self.io.outputs.tell_skipped(now, true);
        self.io.commands.clear();
        self.stage = Stage::Ended;
    }

    /// A driver that closed the link hears nothing more.
    fn settle(&mut self, now: Moment) {
        if self.io.ended && !matches!(self.stage, Stage::Ended) {
            self.io.end_pleth();
            self.io.outputs.tell_skipped(now, true);
            self.stage = Stage::Ended;
        }
    }
}

impl<T: Talk> Session for Streaming<T> {
    fn handle_event(&mut self, now: Moment, event: Event<'_>) {
        if let Event::Done { command } | Event::Failed { command, .. } = event {
            self.io.unanswered.remove(&command);
        }
        match (self.stage, event) {
            (Stage::Waiting, Event::Up { has, .. }) => self.up(now, has),
            (_, Event::Received { from, octets, by: By::Serial | By::File | By::Notification }) => {
                self.received(now, from, octets);
            }
            (Stage::Subscribing { command, from, .. }, Event::Done { command: done }) if command == done => {
                self.listen(now, from);
            }
            (Stage::Subscribing { command, .. }, Event::Failed { command: failed, .. }) if command == failed => {
                self.io.broken_protocol("the device refused the subscription");
            }
            (_, Event::Stored { reading }) => {
                self.io.outputs.answered(reading);
                self.talk.answered(now, reading, true, &mut self.io);
            }
            (_, Event::Refused { reading }) => {
                self.io.outputs.answered(reading);
                self.talk.answered(now, reading, false, &mut self.io);
            }
            (Stage::Ended, _) => {}
            (_, Event::Down { .. }) => self.down(now),
            _ => {}
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Moment) {
        if matches!(self.stage, Stage::Subscribing { until, .. } if until <= now) {
            self.io.broken_protocol("the subscription was not answered");
        }
        // A driver that knows why nothing came says so before what came is ended.
        let listens = matches!(self.stage, Stage::Listening { .. } | Stage::Streaming { .. });
        if listens && self.talk.wakes().is_some_and(|at| at <= now) {
            self.talk.timeout(now, &mut self.io);
        }
        if self.io.quiet_at().is_some_and(|at| at <= now) {
            self.io.quiet(now);
        }
        self.settle(now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.io.commands.pop_front()
    }

    fn poll_output(&mut self) -> Option<Result<(Token, Output), DriverError>> {
        if self.io.outputs.is_empty() {
            self.talk.refill(&mut self.io);
        }
        self.io.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        match self.stage {
            Stage::Waiting | Stage::Ended => None,
            Stage::Subscribing { until, .. } => Some(until),
            Stage::Listening { .. } | Stage::Streaming { .. } => {
                [self.talk.wakes(), self.io.quiet_at()].into_iter().flatten().min()
            }
        }
    }
}
