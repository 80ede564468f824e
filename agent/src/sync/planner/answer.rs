//! What the centre says: settled, refused, and what its silence means.

use std::time::Duration;

use kit_protocol::uplink::id::{EpochId, Lane, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, RejectReason};

use super::send::Stall;
use super::window::{Awaited, Span};
use super::{ACK_WAIT_MAX, ANSWER_REJECTS_MAX, ANSWER_RESENDS_MAX, Action, Link, Planner, Ticket, Trouble};
use crate::store::outbox::CONFLICT;

/// The centre may ask to wait this long for a record, at most.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// And not less than this, so that a record does not go round in circles.
pub(super) const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// One batch that stays unacknowledged while others pass is sent again ever later, at most after this.
pub(super) const OVERDUE_AFTER_MAX: Duration = Duration::from_secs(600);
/// After a silence the centre works off what the broker kept for it, for this long.
pub(super) const GRACE: Duration = Duration::from_secs(10);

impl Planner {
    /// Takes in a verified answer. Before this connection's `Settled`, and with another nonce, it says nothing.
    pub(super) fn answer(&mut self, answer: &wire::Answer) {
        let expected = match &self.link {
            Link::Up(up) => answer.nonce == up.broker.nonce.0,
            _ => false,
        };
        if !expected {
            self.answers_dropped += 1;
            return;
        }
        self.centre.answered();
        if let Some(settled) = &answer.settled {
            self.take_settled(settled);
        }
        if let Some(pause) = &answer.pause {
            // It settles nothing, and a kit whose `state` is not believed gets no `Settled`.
            return self.take_pause(pause);
        }
        let Link::Up(up) = &mut self.link else { return };
        if !up.settled {
            self.answers_dropped += 1;
            return;
        }
        // Refusals first: what is refused for good counts as settled, and `upto` of the same answer may cover it.
        for reject in answer.reject.iter().take(ANSWER_REJECTS_MAX) {
            self.take_reject(reject);
        }
        for entry in &answer.ack {
            self.take_ack(entry);
        }
        for entry in answer.resend.iter().take(ANSWER_RESENDS_MAX) {
            self.take_resend(entry);
        }
    }

    /// The centre lost what it had acknowledged. What it acknowledges of it on the way is asked for once more.
    fn take_resend(&mut self, resend: &wire::Resend) {
        let Some((epoch, lane)) = self.place(&resend.epoch, resend.lane) else { return };
        let (first, last) = (resend.first, resend.last);
        let applies = |plan: &mut super::lane::LanePlan| first >= 1 && first <= last && last < plan.next() && !plan.rolled_back();
        if self.lane_plan(epoch, lane, applies) == Some(true) {
            self.lane_plan(epoch, lane, |plan| plan.take_back(first, last));
        } else {
            self.entries_ignored += 1;
        }
    }

    /// The centre's database, whole. Only this and `Resend` move settlement back.
    fn take_settled(&mut self, settled: &wire::Settled) {
        for entry in &settled.lanes {
            let Some((epoch, lane)) = self.place(&entry.epoch, entry.lane) else { continue };
            let known = Settlement::from_wire(entry);
            if self.is_of_this_store(epoch, lane, &known) {
                self.lane_plan(epoch, lane, |plan| plan.reset(known));
                self.collect(epoch, lane);
            }
        }
        self.pause.end();
        if let Link::Up(up) = &mut self.link {
            up.settled = true;
            up.state_answered = true;
            up.last_ack = self.now;
        }
    }

    fn take_ack(&mut self, entry: &wire::LaneSettlement) {
        let Some((epoch, lane)) = self.place(&entry.epoch, entry.lane) else { return };
        let more = Settlement::from_wire(entry);
        if !self.is_of_this_store(epoch, lane, &more) {
            return;
        }
        if self.lane_plan(epoch, lane, |plan| plan.settle(&more)) == Some(true) {
            self.last_acknowledged = Some(self.now);
            self.collect(epoch, lane);
            self.acknowledged();
        }
    }

    /// `false` where the centre knows numbers that this store has not given: the store was rolled back.
    fn is_of_this_store(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> bool {
        let known = settled.ranges().last().map_or(settled.settled_upto(), |range| range.last);
        let Some((next, marked)) = self.lane_plan(epoch, lane, |plan| (plan.next(), plan.rolled_back())) else { return false };
        if known >= next {
            self.store_is_older(epoch, lane, known);
        }
        known < next && !marked
    }

    /// Nothing of this lane is settled by the centre any more, and a person is told once.
    pub(super) fn store_is_older(&mut self, epoch: EpochId, lane: Lane, known: u64) {
        let first = self.lane_plan(epoch, lane, |plan| (!plan.rolled_back()).then(|| plan.next()));
        let Some(Some(next)) = first else { return };
        self.lane_plan(epoch, lane, super::lane::LanePlan::mark_rolled_back);
        self.queue.push_back(Action::Alarm(Trouble::StoreOlderThanCentre { epoch, lane, known, next }));
    }

    fn take_reject(&mut self, reject: &wire::Reject) {
        let Some((epoch, lane)) = self.place(&reject.epoch, reject.lane) else { return };
        let seq = reject.seq;
        let run = RunId::from_slice(&reject.run);
        let permanent = reject.retry_after_ms == 0;
        let applies = |plan: &mut super::lane::LanePlan| {
            seq >= 1 && seq < plan.next() && !plan.rolled_back() && (permanent || !plan.settled().contains(seq))
        };
        if self.lane_plan(epoch, lane, applies) != Some(true) || !self.take_out(epoch, lane, seq, run) {
            self.entries_ignored += 1;
            return;
        }
        if let Link::Up(up) = &mut self.link {
            up.last_ack = self.now;
        }
        if !permanent {
            let wait = Duration::from_millis(reject.retry_after_ms.into()).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
            let until = self.now + wait;
            self.lane_plan(epoch, lane, |plan| plan.hold(seq, until));
            return;
        }
        let reason = reason_name(reject.reason);
        self.queue.push_back(Action::Quarantine(epoch, lane, seq, reason.to_owned()));
        if reject.reason == i32::from(RejectReason::Conflict) {
            // Not settled by us: which of the two records is the right one is not ours to say.
            self.queue.push_back(Action::Alarm(Trouble::Conflict(epoch, lane, seq)));
            return;
        }
        self.lane_plan(epoch, lane, |plan| plan.settle_one(seq, run));
        self.queue.push_back(Action::Alarm(Trouble::Rejected(epoch, lane, seq, reason.to_owned())));
    }

    /// Takes one number out of what is under way. `false` where it went under another run than the answer names.
    fn take_out(&mut self, epoch: EpochId, lane: Lane, seq: u64, run: Option<RunId>) -> bool {
        let Link::Up(up) = &mut self.link else { return false };
        let holds = |batch: &Awaited| {
            batch.epoch == epoch && batch.lane == lane && batch.spans.iter().any(|(first, last)| (*first..=*last).contains(&seq))
        };
        let Some((&ticket, batch)) = up.acks.batches.iter_mut().find(|(_, batch)| holds(batch)) else { return true };
        if run.is_some_and(|run| run != batch.run) {
            return false;
        }
        let old = std::mem::take(&mut batch.spans);
        batch.spans = without(&old, seq);
        let left = batch.spans.clone();
        if left.is_empty() {
            up.acks.batches.remove(&ticket);
        }
        self.lane_plan(epoch, lane, |plan| {
            plan.arrived(&old);
            plan.sent(&left);
        });
        true
    }

    /// Lets go of what is settled now.
    fn collect(&mut self, epoch: EpochId, lane: Lane) {
        let Link::Up(up) = &mut self.link else { return };
        let Some(plan) = self.epochs.iter_mut().find(|plan| plan.epoch == epoch) else { return };
        let plan = plan.lane(lane);
        up.acks.batches.retain(|_, batch| {
            if batch.epoch != epoch || batch.lane != lane {
                return true;
            }
            let (settled, open): (Vec<Span>, Vec<Span>) = batch.spans.iter().partition(|span| plan.span_settled(**span));
            plan.arrived(&settled);
            batch.spans = open;
            !batch.spans.is_empty()
        });
    }

    /// The centre acknowledged something: it is there. After a silence it gets [`GRACE`] for what the broker kept for it;
    /// what it has not acknowledged by then was lost between them and is sent again.
    fn acknowledged(&mut self) {
        let now = self.now;
        self.pause.end();
        let Link::Up(up) = &mut self.link else { return };
        up.last_ack = now;
        if up.acks.batches.is_empty() {
            up.overdue_after = ACK_WAIT_MAX;
        }
        if up.stall.take().is_some() {
            let overdue_soon = now + GRACE - up.overdue_after;
            for published in up.acks.batches.values_mut().filter_map(|batch| batch.published.as_mut()) {
                *published = overdue_soon;
            }
        }
    }

    /// Notices that the centre is silent, or that it passed over one batch.
    pub(super) fn keep_ack_time(&mut self) {
        let now = self.now;
        let Link::Up(up) = &mut self.link else { return };
        let Some(oldest) = up.acks.oldest_published() else {
            let probing = up.stall.as_ref().and_then(|stall| stall.probe).is_some_and(|probe| up.wire.holds(probe));
            if !probing && up.preparing.is_none() {
                up.stall = None;
            }
            return;
        };
        if up.stall.is_some() {
            return;
        }
        if now.since(oldest.max(up.last_ack)) >= ACK_WAIT_MAX {
            up.stall = Some(Stall::new(now));
        } else if now.since(oldest) >= up.overdue_after {
            // What was passed over with it goes with it: published before the last answer, and not on its way any more.
            let before = (now - GRACE).min(up.last_ack);
            up.overdue_after = (up.overdue_after * 2).min(OVERDUE_AFTER_MAX);
            self.release_published_before(before);
        }
    }

    /// What the broker had at `before` or earlier, and the centre did not acknowledge, is to be sent again.
    pub(super) fn release_published_before(&mut self, before: kit_protocol::moment::Moment) {
        let Link::Up(up) = &self.link else { return };
        let overdue = |batch: &Awaited| batch.published.is_some_and(|published| published <= before);
        let tickets: Vec<Ticket> =
            up.acks.batches.iter().filter(|(_, batch)| overdue(batch)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.release(ticket);
        }
    }

    /// Puts a batch's records back among those to be sent.
    pub(super) fn release(&mut self, ticket: Ticket) -> Option<Awaited> {
        let Link::Up(up) = &mut self.link else { return None };
        let batch = up.acks.batches.remove(&ticket)?;
        self.lane_plan(batch.epoch, batch.lane, |plan| plan.release(&batch.spans));
        Some(batch)
    }

    /// The epoch and lane that an entry names, if the kit holds them.
    fn place(&mut self, epoch: &[u8], lane: i32) -> Option<(EpochId, Lane)> {
        let named = EpochId::from_slice(epoch).zip(Lane::from_wire(lane));
        let held = named.filter(|(epoch, _)| self.epochs.iter().any(|plan| plan.epoch == *epoch));
        if held.is_none() {
            self.entries_ignored += 1;
        }
        held
    }

    pub(super) fn lane_plan<T>(
        &mut self,
        epoch: EpochId,
        lane: Lane,
        f: impl FnOnce(&mut super::lane::LanePlan) -> T,
    ) -> Option<T> {
        self.epochs.iter_mut().find(|plan| plan.epoch == epoch).map(|plan| f(plan.lane(lane)))
    }
}

/// The reject's reason in the standard's manner, for listings.
fn reason_name(reason: i32) -> &'static str {
    match RejectReason::try_from(reason) {
        Ok(RejectReason::Conflict) => CONFLICT,
        Ok(RejectReason::TooBig) => "too-big",
        Ok(RejectReason::Unreadable) => "unreadable",
        Ok(RejectReason::UnknownSchema) => "unknown-schema",
        Ok(RejectReason::UnknownAssignment) => "unknown-assignment",
        Ok(RejectReason::Database) => "database",
        Ok(RejectReason::UndefinedNumber) => "undefined-number",
        Ok(RejectReason::Unspecified) | Err(_) => "unspecified",
    }
}

/// The numbers of `spans` without `seq`.
fn without(spans: &[Span], seq: u64) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len() + 1);
    for &(first, last) in spans {
        if !(first..=last).contains(&seq) {
            left.push((first, last));
            continue;
        }
        if first < seq {
            left.push((first, seq - 1));
        }
        if seq < last {
            left.push((seq + 1, last));
        }
    }
    left
}
