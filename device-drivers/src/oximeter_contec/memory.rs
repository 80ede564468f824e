//! The memory of a Contec of protocol 7.0: segments of one point a second, each a recording.
//!
//! A device sends a whole night in some seconds and cannot be told to wait, so its points wait here until the store has
//! taken those before them. A segment counts when all of it has come: its points carry no number of their own. One that ends
//! early without a word is asked for once more; what comes twice alike is what the device holds.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::serial::contec::{Command, Message, Point, Segment};

use super::trend::{Advance, HandingOver, SECONDS_TO_2000, Trend, number};
use crate::driver::Token;
use crate::session::streaming::Io;

/// A question is answered, and points go on, within this.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Segments that are asked for, at most.
const SEGMENTS_MAX: u8 = 16;
/// The users that a device may have.
const USER_MAX: u8 = 0x7f;
/// Points that wait, at most: three days.
const POINTS_MAX: usize = 3 * 86_400;
/// The user and segment that are asked for first.
pub(super) const FIRST: Segment = Segment { user: 0, segment: 0 };

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More will come.
    Wait,
    /// These are asked.
    Ask(Vec<Command>),
    /// There is nothing more in it.
    Done,
}

/// ```text
/// Counting ─ number ─▶ Describing{0} ─▶ … ─▶ Fetching{0} ─▶ … ─▶ Idle
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not asked, or over.
    Idle,
    /// How many segments are there?
    Counting,
    /// How long is this one, and when does it begin?
    Describing { at: usize },
    /// Its points come.
    Fetching { at: usize },
}

/// What is known of a segment.
#[derive(Clone, Debug, Default)]
struct About {
    of: Segment,
    octets: Option<u32>,
    date: Option<(u16, u8, u8)>,
    time: Option<[u8; 3]>,
    /// Octets of its points that came, as its length counts.
    came: u32,
    /// Octets among them were lost.
    broken: bool,
    /// What came of it, and was less than announced.
    short: Option<Trend>,
}

impl About {
    /// When it begins, in seconds since 1970 by the device's clock.
    fn start(&self) -> Option<i64> {
        let ((year, month, day), [hour, minute, second]) = (self.date?, self.time?);
        // What is on no clock is read back as it is refused everywhere else.
        let start = DateTime { year, month, day, hour, minute, second };
        DateTime::decode(&start.encode()).ok()?.seconds().filter(|seconds| *seconds >= SECONDS_TO_2000)
    }

    fn described(&self) -> bool {
        self.octets.is_some() && self.date.is_some() && self.time.is_some()
    }

    fn complete(&self) -> bool {
        self.octets.is_some_and(|octets| self.came >= octets)
    }

    /// What stands for its number, where it has points.
    fn number(&self) -> Option<u64> {
        self.octets.filter(|octets| *octets > 0).and_then(|_| number(self.start()?))
    }
}

/// The conversation about it.
#[derive(Debug)]
pub(super) struct Memory {
    stage: Stage,
    until: Moment,
    segments: Vec<About>,
    /// Points of the segment that comes. They carry no number of their own, so that one that is lost would move all behind it:
    /// where octets were lost among them, none counts, and they are asked for again in the next conversation.
    coming: Trend,
    /// Segments that came whole and wait, with when they begin.
    waiting: VecDeque<(i64, Trend)>,
    /// Points of those.
    points: usize,
    handing_over: Option<HandingOver>,
    /// Handed over and not yet answered.
    awaited: BTreeSet<Token>,
    may_delete: bool,
    /// Something of it did not come, or was refused: nothing may be deleted.
    spoilt: bool,
}

impl Memory {
    pub(super) fn new(may_delete: bool) -> Self {
        Self {
            stage: Stage::Idle,
            until: Moment::ZERO,
            segments: Vec::new(),
            coming: Trend::default(),
            waiting: VecDeque::new(),
            points: 0,
            handing_over: None,
            awaited: BTreeSet::new(),
            may_delete,
            spoilt: false,
        }
    }

    /// The number of segments was asked for.
    pub(super) fn begin(&mut self, now: Moment) {
        self.stage = Stage::Counting;
        self.until = now + ANSWER_MAX;
    }

    pub(super) fn waits_until(&self) -> Option<Moment> {
        (self.stage != Stage::Idle).then_some(self.until)
    }

    /// Octets did not arrive.
    pub(super) fn spoil(&mut self) {
        if let Stage::Fetching { at } = self.stage {
            self.spoilt = true;
            self.coming = Trend::default();
            self.segments.iter_mut().skip(at).take(1).for_each(|about| about.broken = true);
        }
    }

    /// Takes in what the device says of its memory, asked or not.
    pub(super) fn message(&mut self, now: Moment, message: &Message, io: &mut Io) -> Next {
        match *message {
            Message::Segments { user, count } if self.stage == Stage::Counting && user <= USER_MAX => {
                let of = |segment| About { of: Segment { user, segment }, ..About::default() };
                self.segments = (0..count.min(SEGMENTS_MAX)).map(of).collect();
                self.spoilt |= count > SEGMENTS_MAX;
                return self.describe(now, 0, io);
            }
            Message::Length { of, octets } => self.learn(of, |about| about.octets = Some(octets)),
            Message::StartDate { of, year, month, day } => self.learn(of, |about| about.date = Some((year, month, day))),
            Message::StartTime { of, time } => self.learn(of, |about| about.time = Some(time)),
            Message::PointWithIndex(point) => self.take(now, Some(point), true),
            Message::Points(points) => points.into_iter().for_each(|point| self.take(now, point, false)),
            _ => return Next::Wait,
        }
        match self.stage {
            Stage::Describing { at } if self.segments.get(at).is_some_and(About::described) => self.describe(now, at + 1, io),
            Stage::Fetching { at } if self.segments.get(at).is_some_and(About::complete) => {
                let came = std::mem::take(&mut self.coming);
                self.keep(at, came);
                self.fetch(now, at + 1)
            }
            _ => Next::Wait,
        }
    }

    /// The device did not answer, or the points ended.
    pub(super) fn timeout(&mut self, now: Moment, io: &mut Io) -> Next {
        match self.stage {
            Stage::Idle => Next::Wait,
            Stage::Counting => self.done(),
            Stage::Describing { at } => self.describe(now, at + 1, io),
            Stage::Fetching { at } => self.ended_early(now, at),
        }
    }

    /// Fewer points than announced, and no octet out of place.
    fn ended_early(&mut self, now: Moment, at: usize) -> Next {
        let came = std::mem::take(&mut self.coming);
        let Some(about) = self.segments.get_mut(at) else { return self.done() };
        match about.short.take() {
            None if !about.broken && !came.points.is_empty() => {
                (about.short, about.came) = (Some(came), 0);
                return self.fetch(now, at);
            }
            Some(before) if !about.broken && before.equals(&came) => self.keep(at, came),
            _ => {}
        }
        self.spoilt = true;
        self.fetch(now, at + 1)
    }

    /// A segment has come: it is handed over in its turn.
    fn keep(&mut self, at: usize, came: Trend) {
        let trend = came.without_filling();
        match self.segments.get(at).and_then(About::start) {
            _ if trend.points.is_empty() => {}
            Some(start) => {
                self.points += trend.points.len();
                self.waiting.push_back((start, trend));
            }
            // The device said something else of it meanwhile.
            None => self.spoilt = true,
        }
    }

    /// Hands over the next block. Called where nothing else waits: what is measured meanwhile finds its room.
    pub(super) fn hand_over(&mut self, io: &mut Io) {
        if self.handing_over.is_none()
            && let Some((start, trend)) = self.waiting.pop_front()
        {
            self.points -= trend.points.len();
            let recording = io.recording_number();
            self.handing_over = Some(HandingOver::begin(trend, start, recording, &mut io.outputs));
        }
        match self.handing_over.as_mut().map(|handing_over| handing_over.advance(&mut io.outputs)) {
            Some(Advance::Block(token)) => {
                self.spoilt |= token.is_none();
                self.awaited.extend(token);
            }
            Some(Advance::Ended) => self.handing_over = None,
            None => {}
        }
    }

    pub(super) fn answered(&mut self, reading: Token, stored: bool) {
        if self.awaited.remove(&reading) {
            self.spoilt |= !stored;
        }
    }

    /// Everything came and is durable: what may be deleted, once.
    pub(super) fn delete(&mut self) -> Option<Vec<Command>> {
        let handed_over = self.waiting.is_empty() && self.handing_over.is_none();
        let settled = self.stage == Stage::Idle && handed_over && self.awaited.is_empty();
        if !settled || self.spoilt || !self.may_delete || self.segments.is_empty() {
            return None;
        }
        self.may_delete = false;
        let complete = self.segments.iter().all(|about| about.complete() && about.start().is_some());
        // The last one first: those before it keep their index.
        complete.then(|| self.segments.iter().rev().map(|about| Command::Delete(about.of)).collect())
    }

    /// The device says something of a segment. Of one that was never counted nothing is asked, whatever it says.
    fn learn(&mut self, of: Segment, learn: impl FnOnce(&mut About)) {
        match self.segments.iter_mut().find(|about| about.of == of) {
            Some(about) => learn(about),
            None => self.spoilt = true,
        }
    }

    fn describe(&mut self, now: Moment, at: usize, io: &mut Io) -> Next {
        if let Some(about) = self.segments.get(at) {
            self.stage = Stage::Describing { at };
            self.until = now + ANSWER_MAX;
            return Next::Ask(vec![Command::AskLength(about.of), Command::AskStart(about.of)]);
        }
        io.outputs.memory(self.segments.iter().filter_map(About::number).max());
        self.fetch(now, 0)
    }

    /// Asks for the next segment that has points and a time.
    fn fetch(&mut self, now: Moment, from: usize) -> Next {
        let wanted = |about: &About| about.start().is_some() && about.octets.is_some_and(|octets| octets > 0);
        let next = self.segments.iter().enumerate().skip(from).find(|(_, about)| wanted(about));
        let Some((at, about)) = next else { return self.done() };
        self.stage = Stage::Fetching { at };
        self.until = now + ANSWER_MAX;
        Next::Ask(vec![Command::StopStored, Command::StartStored(about.of)])
    }

    fn done(&mut self) -> Next {
        self.stage = Stage::Idle;
        Next::Done
    }

    /// Takes in a point of the segment that is asked for; what comes unasked is of no segment that can be told.
    fn take(&mut self, now: Moment, point: Option<Point>, indexed: bool) {
        let Stage::Fetching { at } = self.stage else { return };
        self.until = now + ANSWER_MAX;
        let Some(about) = self.segments.get_mut(at).filter(|about| !about.broken) else { return };
        about.came = about.came.saturating_add(if indexed { 4 } else { 2 });
        if self.points + self.coming.points.len() < POINTS_MAX {
            self.coming.push(now, point, indexed);
        } else {
            self.spoil();
        }
    }
}
