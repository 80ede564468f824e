//! The memory of a Contec of protocol 7.0: segments of one point a second.
//!
//! A device sends a whole night in some seconds and cannot be told to wait, so its points wait here until the store has
//! taken those before them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{self, Measured};
use kit_protocol::serial::contec::{Command, Message, Point, Segment};

use super::hundredths;
use crate::driver::Token;
use crate::streaming::{Io, Oximetry};

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
/// Seconds from the start of 1970 to that of 2000: before it no clock was set.
const SECONDS_TO_2000: i64 = 946_684_800;

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
#[derive(Clone, Copy, Debug, Default)]
struct About {
    of: Segment,
    octets: Option<u32>,
    date: Option<(u16, u8, u8)>,
    time: Option<[u8; 3]>,
    /// Points that came.
    points: u32,
    /// Octets of them, as its length counts.
    came: u32,
    /// Octets among them were lost.
    broken: bool,
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

    /// What stands for the number of its point: seconds since 2000.
    fn number(&self, point: u32) -> Option<u64> {
        u64::try_from(self.start()? + i64::from(point) - SECONDS_TO_2000).ok()
    }

    fn last_number(&self) -> Option<u64> {
        // Two octets a point, four where it has an index: the more of both.
        let points = self.octets? / 2;
        (points > 0).then(|| self.number(points - 1)).flatten()
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    point: Point,
    /// Seconds since 1970, where the segment has a time.
    at: Option<i64>,
}

/// The conversation about it.
#[derive(Debug)]
pub(super) struct Memory {
    stage: Stage,
    until: Moment,
    segments: Vec<About>,
    /// Points of the segment that comes. They carry no number of their own, so that one that is lost would move all behind it:
    /// where octets were lost among them, none counts, and they are asked for again in the next conversation.
    coming: Vec<Waiting>,
    points: VecDeque<Waiting>,
    /// We asked: what comes unasked then is of an earlier question, and of no segment that can be told.
    asked: bool,
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
            coming: Vec::new(),
            points: VecDeque::new(),
            asked: false,
            awaited: BTreeSet::new(),
            may_delete,
            spoilt: false,
        }
    }

    /// The number of segments was asked for.
    pub(super) fn begin(&mut self, now: Moment) {
        self.stage = Stage::Counting;
        self.asked = true;
        self.until = now + ANSWER_MAX;
    }

    pub(super) fn waits_until(&self) -> Option<Moment> {
        (self.stage != Stage::Idle).then_some(self.until)
    }

    /// Octets did not arrive.
    pub(super) fn spoil(&mut self) {
        if let Stage::Fetching { at } = self.stage {
            self.spoilt = true;
            self.coming.clear();
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
            Message::Length { of, octets } => self.about(of).octets = Some(octets),
            Message::StartDate { of, year, month, day } => self.about(of).date = Some((year, month, day)),
            Message::StartTime { of, time } => self.about(of).time = Some(time),
            Message::PointWithIndex(point) => self.take(now, Some(point), 4),
            Message::Points(points) => points.into_iter().for_each(|point| self.take(now, point, 2)),
            _ => return Next::Wait,
        }
        match self.stage {
            Stage::Describing { at } if self.segments.get(at).is_some_and(About::described) => self.describe(now, at + 1, io),
            Stage::Fetching { at } if self.segments.get(at).is_some_and(About::complete) => {
                self.points.extend(self.coming.drain(..));
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
            Stage::Fetching { at } => {
                // Fewer than announced, and no octet out of place: they stand where they are, and stay on the device too.
                self.spoilt = true;
                self.points.extend(self.coming.drain(..));
                self.fetch(now, at + 1)
            }
        }
    }

    /// Hands over points while there is room.
    pub(super) fn hand_over(&mut self, now: Moment, io: &mut Io) {
        while let Some(waiting) = self.points.front() {
            let Ok(token) = io.outputs.measured(measured(now, waiting)) else { return };
            self.awaited.insert(token);
            self.points.pop_front();
        }
    }

    pub(super) fn answered(&mut self, reading: Token, stored: bool) {
        if self.awaited.remove(&reading) {
            self.spoilt |= !stored;
        }
    }

    /// Everything came and is durable: what may be deleted, once.
    pub(super) fn delete(&mut self) -> Option<Vec<Command>> {
        let settled = self.stage == Stage::Idle && self.points.is_empty() && self.awaited.is_empty();
        if !settled || self.spoilt || !self.may_delete || self.segments.is_empty() {
            return None;
        }
        self.may_delete = false;
        let complete = self.segments.iter().all(|about| about.complete() && about.start().is_some());
        // The last one first: those before it keep their index.
        complete.then(|| self.segments.iter().rev().map(|about| Command::Delete(about.of)).collect())
    }

    fn about(&mut self, of: Segment) -> &mut About {
        let at = self.segments.iter().position(|about| about.of == of);
        // A recorded conversation names segments that were asked for by another; they take turns in one place.
        let at = at.unwrap_or_else(|| {
            self.spoilt = true;
            if self.segments.len() >= usize::from(SEGMENTS_MAX) {
                self.segments.pop();
            }
            self.segments.push(About { of, ..About::default() });
            self.segments.len() - 1
        });
        &mut self.segments[at]
    }

    fn describe(&mut self, now: Moment, at: usize, io: &mut Io) -> Next {
        if let Some(about) = self.segments.get(at) {
            self.stage = Stage::Describing { at };
            self.until = now + ANSWER_MAX;
            return Next::Ask(vec![Command::AskLength(about.of), Command::AskStart(about.of)]);
        }
        io.outputs.memory(self.segments.iter().filter_map(About::last_number).max());
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

    fn take(&mut self, now: Moment, point: Option<Point>, octets: u32) {
        self.until = now + ANSWER_MAX;
        let fetching = matches!(self.stage, Stage::Fetching { .. });
        let about = match self.stage {
            Stage::Fetching { at } => self.segments.get_mut(at),
            _ if self.asked => return,
            _ => self.segments.last_mut(),
        };
        let mut at = None;
        if let Some(about) = about {
            if about.broken {
                return;
            }
            about.came = about.came.saturating_add(octets);
            if point.is_some() {
                at = about.start().map(|start| start + i64::from(about.points));
                about.points = about.points.saturating_add(1);
            }
        }
        let valued = point.filter(|point| !numbers(point).is_empty());
        if let Some(point) = valued {
            let waiting = Waiting { point, at };
            match self.points.len() + self.coming.len() < POINTS_MAX {
                true if fetching => self.coming.push(waiting),
                true => self.points.push_back(waiting),
                false => {
                    self.spoilt = true;
                    self.spoil();
                }
            }
        }
    }
}

fn numbers(point: &Point) -> Oximetry {
    Oximetry {
        spo2: point.spo2,
        pulse_rate: point.pulse_rate.map(u16::from),
        perfusion_index: point.perfusion_index.map(|index| Some(hundredths(index))),
        ..Oximetry::default()
    }
}

fn measured(now: Moment, waiting: &Waiting) -> Measured {
    let Point { spo2, pulse_rate, perfusion_index } = waiting.point;
    let mut octets = vec![spo2.unwrap_or(0x7f), pulse_rate.unwrap_or(0xff)];
    octets.extend(perfusion_index.into_iter().flat_map(u16::to_le_bytes));
    Measured {
        device_time: waiting.at.and_then(DateTime::from_seconds),
        record: waiting.at.and_then(|at| u64::try_from(at - SECONDS_TO_2000).ok()),
        memory: reading::Memory::Stored,
        ..numbers(&waiting.point).measured(now, octets)
    }
}
