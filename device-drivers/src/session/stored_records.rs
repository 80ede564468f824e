//! Stored records by the Record Access Control Point (0x2A52): what every driver of a device with such a memory says to it.
//!
//! A driver's session holds a [`StoredRecords`] beside its [`GattSession`], tells it of every record that comes while a report
//! is under way, and hands it what the control point says. Records are deleted, where that is allowed, only when every one of
//! a report is durable, and the device still has as many of those that were asked for: none is deleted that was not reported.

use std::collections::BTreeSet;
use std::time::Duration;

use kit_protocol::gatt::racp::{OpCode, Request, Response, ResponseCode, Selection};
use kit_protocol::moment::Moment;

use crate::driver::{Allowed, Effect, Endpoint, Token};
use crate::session::gatt_session::{ANSWER_MAX, GattSession};

/// An abort is answered within this.
pub(crate) const ABORT_MAX: Duration = Duration::from_secs(5);
/// A procedure that the device could not do now is asked for again after this …
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);
/// … and so often at most.
pub(crate) const ATTEMPTS_MAX: u8 = 3;

/// A row for a request that a driver may write to its control point.
pub(crate) const fn may(name: &'static str, effect: Effect, to: Endpoint, op_code: &'static [u8]) -> Allowed {
    Allowed { name, effect, to, at: 0, octets: op_code }
}

/// ```text
/// Idle ─▶ Asked{report} ◀─▶ Retrying
///           └─ reported ─▶ Settling ─ all Stored ─▶ Asked{number} ─ as many ─▶ Asked{delete} ─▶ Idle
/// Asked ─ no answer, or no room ─▶ Aborting ─▶ closed
/// ```
/// `Settling` is for deleting; where that is not allowed it is `Idle`.
#[derive(Debug)]
enum Stage {
    Idle,
    /// A procedure of the control point is under way.
    Asked {
        request: Request,
        command: Token,
        until: Moment,
        attempt: u8,
    },
    /// The report is to be asked for again.
    Retrying {
        request: Request,
        at: Moment,
        attempt: u8,
    },
    /// The report is over; its records become durable.
    Settling,
    /// A procedure did not end: it is aborted, then the link is closed.
    Aborting {
        until: Moment,
        why: &'static str,
    },
}

/// The conversation about a device's memory.
#[derive(Debug)]
pub(crate) struct StoredRecords {
    control_point: Endpoint,
    may_delete: bool,
    stage: Stage,
    report: Report,
    /// The memory was read to its end: what comes by itself has the next number.
    whole: bool,
    /// The highest number in it before anything was asked for.
    highest: Option<u64>,
}

/// What came of the last report.
#[derive(Debug)]
struct Report {
    selection: Selection,
    records: u32,
    /// Records that came and were not handed over yet.
    held: u32,
    /// Not yet answered.
    awaited: BTreeSet<Token>,
    /// A record was undecodable or refused, or is missing: nothing may be deleted.
    spoilt: bool,
    /// The number of the last record that came.
    number: Option<u64>,
    /// Numbers only grew so far, and none is missing.
    ordered: bool,
    /// None is missing.
    complete: bool,
}

impl Report {
    fn of(selection: Selection) -> Self {
        Self {
            selection,
            records: 0,
            held: 0,
            awaited: BTreeSet::new(),
            spoilt: false,
            number: None,
            ordered: true,
            complete: true,
        }
    }
}

/// A report is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    /// What was asked for.
    pub(crate) request: Request,
    /// How it went; a device that is busy was asked again before.
    pub(crate) code: ResponseCode,
}

impl StoredRecords {
    pub(crate) fn new(control_point: Endpoint, may_delete: bool) -> Self {
        Self { control_point, may_delete, stage: Stage::Idle, report: Report::of(Selection::Null), whole: false, highest: None }
    }

    /// Asks for records. Where the operation is not one of reporting, nothing is deleted afterwards.
    pub(crate) fn report(&mut self, now: Moment, gatt: &mut GattSession, op_code: OpCode, selection: Selection) {
        self.ask(now, gatt, Request { op_code, selection }, 1);
    }

    /// Whether records of a report come.
    pub(crate) fn reporting(&self) -> bool {
        matches!(&self.stage, Stage::Asked { request, .. } if is_report(request.op_code))
    }

    /// Whether nothing more can be taken in: the conversation ends.
    pub(crate) fn aborting(&self) -> bool {
        matches!(self.stage, Stage::Aborting { .. })
    }

    /// So many records came of the last report.
    #[cfg(test)]
    pub(crate) fn records(&self) -> u32 {
        self.report.records
    }

    /// Something came that shows that the report goes on: it is not late.
    pub(crate) fn goes_on(&mut self, now: Moment) {
        if let Stage::Asked { until, .. } = &mut self.stage {
            *until = now + ANSWER_MAX;
        }
    }

    /// A record of the report came, and will be handed over.
    pub(crate) fn came(&mut self) {
        self.report.records = self.report.records.saturating_add(1);
        self.report.held += 1;
    }

    /// A record that came was handed over, under this token.
    pub(crate) fn handed_over(&mut self, now: Moment, gatt: &mut GattSession, token: Token) {
        self.await_answer(token);
        self.gave_nothing(now, gatt);
    }

    /// A record that came holds nothing to hand over.
    pub(crate) fn gave_nothing(&mut self, now: Moment, gatt: &mut GattSession) {
        self.report.held = self.report.held.saturating_sub(1);
        self.settle(now, gatt);
    }

    /// Something else that came during the report must be durable before anything is deleted.
    pub(crate) fn await_answer(&mut self, token: Token) {
        self.report.awaited.insert(token);
    }

    /// A record of the report is undecodable, or is missing.
    pub(crate) fn spoil(&mut self) {
        self.report.spoilt = true;
    }

    /// A record of the report was lost on its way: it is asked for again in the next conversation.
    pub(crate) fn missed(&mut self) {
        (self.report.ordered, self.report.complete) = (false, false);
        self.spoil();
    }

    /// Takes in a record's number and tells whether every one below it came before it. Where a device sends the newest first,
    /// none does: the rest would not be asked for again after a link that was lost.
    pub(crate) fn in_order(&mut self, number: u64) -> bool {
        if !self.reporting() {
            return self.whole;
        }
        if self.highest.is_some_and(|highest| number > highest) {
            // Measured just now, before what is older came.
            return false;
        }
        let before = self.report.number.replace(number);
        self.report.ordered &= before.is_none_or(|before| number > before);
        // The first one may be the newest, unless it is the one that was asked for.
        self.report.ordered && (before.is_some() || self.report.selection.begins_with(number))
    }

    /// The memory's highest number was told.
    pub(crate) fn highest(&mut self, number: u64) {
        self.highest = Some(number);
    }

    /// There is nothing in the memory that is not known.
    pub(crate) fn nothing_newer(&mut self) {
        self.whole = true;
    }

    /// Measurements come faster than they can be stored. They stay on the device: nothing was answered for them.
    pub(crate) fn no_room(&mut self, now: Moment, gatt: &mut GattSession) {
        if !gatt.ended() && !self.aborting() {
            self.abort(now, gatt, "measurements come faster than they can be stored");
        }
    }

    /// The link is down.
    pub(crate) fn down(&mut self) {
        self.stage = Stage::Idle;
    }

    /// A command failed. Where it was written, the answer comes as an indication.
    pub(crate) fn failed(&mut self, now: Moment, failed: Token) -> Option<Reported> {
        match &self.stage {
            Stage::Asked { command, .. } if *command == failed => self.not_now(now, ResponseCode::PROCEDURE_NOT_COMPLETED),
            _ => None,
        }
    }

    /// An output was answered.
    pub(crate) fn answered(&mut self, now: Moment, gatt: &mut GattSession, reading: Token, stored: bool) {
        if self.report.awaited.remove(&reading) {
            self.report.spoilt |= !stored;
            self.settle(now, gatt);
        }
    }

    /// When [`StoredRecords::handle_timeout`] is wanted.
    pub(crate) fn until(&self, gatt: &GattSession) -> Option<Moment> {
        match self.stage {
            _ if gatt.ended() => None,
            Stage::Asked { until, .. } | Stage::Aborting { until, .. } | Stage::Retrying { at: until, .. } => Some(until),
            Stage::Idle | Stage::Settling => None,
        }
    }

    /// Takes in that a time has come.
    pub(crate) fn handle_timeout(&mut self, now: Moment, gatt: &mut GattSession) {
        if self.until(gatt).is_none_or(|at| at > now) {
            return;
        }
        match &self.stage {
            Stage::Asked { .. } => self.abort(now, gatt, "the control point did not answer"),
            Stage::Retrying { request, attempt, .. } => {
                let (request, attempt) = (request.clone(), attempt + 1);
                self.ask(now, gatt, request, attempt);
            }
            Stage::Aborting { why, .. } => gatt.give_up(why),
            Stage::Idle | Stage::Settling => {}
        }
    }

    /// Takes in what the control point says. Gives what became of a report, once.
    pub(crate) fn response(&mut self, now: Moment, gatt: &mut GattSession, octets: &[u8]) -> Option<Reported> {
        let response = match Response::decode(octets) {
            Ok(response) => response,
            Err(error) => {
                gatt.undecodable("record access control point", error, octets);
                return None;
            }
        };
        match (&self.stage, response) {
            (Stage::Aborting { why, .. }, Response::Code { .. }) => gatt.give_up(why),
            (Stage::Asked { request, .. }, Response::NumberOfStoredRecords(count))
                if request.op_code == OpCode::REPORT_NUMBER =>
            {
                if count.number() == self.report.records && self.report.records > 0 {
                    let selection = self.report.selection.clone();
                    self.ask(now, gatt, Request { op_code: OpCode::DELETE, selection }, 1);
                } else {
                    // It holds what we have not got: the next connection asks for it.
                    self.stage = Stage::Idle;
                }
            }
            (Stage::Asked { request, .. }, Response::CombinedReport(count)) if request.op_code == OpCode::COMBINED_REPORT => {
                // The last one, asked for to know its number, is none that is handed over.
                if self.report.selection != Selection::Last && count.number() != self.report.records {
                    self.missed();
                    let reason = format!("{} records came of {}", self.report.records, count.number());
                    gatt.undecodable("record access control point", reason, octets);
                }
                return self.reported(now, gatt, ResponseCode::SUCCESS);
            }
            (Stage::Asked { request, .. }, Response::Code { request: answered, code }) if request.op_code == answered => {
                return match code {
                    ResponseCode::SERVER_BUSY | ResponseCode::PROCEDURE_NOT_COMPLETED => self.not_now(now, code),
                    _ => self.reported(now, gatt, code),
                };
            }
            _ => {}
        }
        None
    }
}

const fn is_report(op_code: OpCode) -> bool {
    matches!(op_code, OpCode::REPORT | OpCode::COMBINED_REPORT)
}

impl StoredRecords {
    fn ask(&mut self, now: Moment, gatt: &mut GattSession, request: Request, attempt: u8) {
        if is_report(request.op_code) {
            self.report = Report::of(request.selection.clone());
        }
        let command = gatt.write(self.control_point, request.encode());
        self.stage = Stage::Asked { request, command, until: now + ANSWER_MAX, attempt };
    }

    /// A procedure is over: done, nothing there, or something that the device does not do. What it sends by itself still counts.
    fn reported(&mut self, now: Moment, gatt: &mut GattSession, code: ResponseCode) -> Option<Reported> {
        let Stage::Asked { request, .. } = std::mem::replace(&mut self.stage, Stage::Idle) else { return None };
        if !is_report(request.op_code) {
            return None;
        }
        let all = code == ResponseCode::SUCCESS && request.selection != Selection::Last;
        self.whole |= code == ResponseCode::NO_RECORDS_FOUND || (all && self.report.complete);
        if code == ResponseCode::SUCCESS && self.may_delete && request.selection != Selection::Last {
            self.stage = Stage::Settling;
            self.settle(now, gatt);
        }
        Some(Reported { request, code })
    }

    fn not_now(&mut self, now: Moment, code: ResponseCode) -> Option<Reported> {
        let Stage::Asked { request, attempt, .. } = std::mem::replace(&mut self.stage, Stage::Idle) else { return None };
        if !is_report(request.op_code) {
            return None;
        }
        if attempt < ATTEMPTS_MAX {
            self.stage = Stage::Retrying { request, at: now + RETRY_AFTER, attempt };
            return None;
        }
        Some(Reported { request, code })
    }

    fn abort(&mut self, now: Moment, gatt: &mut GattSession, why: &'static str) {
        gatt.write(self.control_point, Request::ABORT.encode());
        self.stage = Stage::Aborting { until: now + ABORT_MAX, why };
    }

    /// Every record of the report is durable: they may be deleted, if the device still has as many.
    fn settle(&mut self, now: Moment, gatt: &mut GattSession) {
        let durable = self.report.held == 0 && self.report.awaited.is_empty();
        if matches!(self.stage, Stage::Settling) && durable {
            self.stage = Stage::Idle;
            if !self.report.spoilt && self.report.records > 0 {
                let selection = self.report.selection.clone();
                self.ask(now, gatt, Request { op_code: OpCode::REPORT_NUMBER, selection }, 1);
            }
        }
    }
}
