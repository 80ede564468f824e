//! Which batch goes next: windows, shares, and the one probe while the centre is silent.

use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::uplink::id::{EpochId, Lane};

use super::back_off::{RETRY_DELAY_FIRST, RETRY_DELAY_MAX, full_jitter};
use super::centre::Reach;
use super::lane::Age;
use super::window::{Awaited, BATCH_OCTETS_FIRST, BATCH_OCTETS_MAX, OnWire, Span, WIRE_OCTETS_MAX};
use super::{Action, BATCH_RECORDS_MAX, Link, Planner, Send, Sent, Taken, Ticket, Trouble, Unsent};

/// A batch is not begun for less room than this, unless the wire is empty.
pub(super) const ROOM_OCTETS_MIN: usize = 512;
/// A lane whose batch could not be read or handed over waits this long.
pub(super) const FAILED_PAUSE: Duration = Duration::from_secs(2);

/// A batch that the shell is building.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preparing {
    send: Send,
    age: Age,
    probe: bool,
}

/// A record that waits for room; until it has it, nothing but urgent passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    lane: Lane,
    octets: usize,
}

/// The centre is silent: the backlog stops, one batch is tried again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    attempt: u32,
    pub due: Moment,
    pub probe: Option<Ticket>,
}

impl Stall {
    pub(super) fn new(now: Moment) -> Self {
        Self { attempt: 0, due: now, probe: None }
    }
}

/// What one more batch of a lane may take.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    octets: usize,
    alone: bool,
}

type Found = Option<(EpochId, Span)>;

impl Planner {
    /// The next batch, if one may go.
    pub(super) fn next_send(&mut self) -> Option<Send> {
        let reach = self.centre.reach(self.now);
        let Link::Up(up) = &self.link else { return None };
        if up.preparing.is_some() || reach == Reach::Offline || self.pause.holds() {
            return None;
        }
        if up.stall.is_some()
            && let Some(probe) = self.next_probe()
        {
            return Some(probe);
        }
        let Link::Up(up) = &self.link else { return None };
        if (reach == Reach::Presumed || self.pause.doubts()) && !up.acks.batches.is_empty() {
            return None;
        }
        let backlog = up.stall.is_none();
        self.forget_met_need();
        let allowed = Lane::ALL.map(|lane| self.allowance_past_need(lane));
        let mut found = Lane::ALL.map(|lane| match allowed[lane.index()] {
            Some(_) => self.candidates(lane, backlog),
            None => [None; 2],
        });
        self.keep_to_the_rate(&mut found);
        let index = self.lane_shares.choose(found.map(|ages| ages.iter().any(Option::is_some)))?;
        let age = self.age_shares[index].choose(found[index].map(|found| found.is_some()))?;
        let (epoch, span) = found[index][age]?;
        let mut allowance = allowed[index]?;
        if self.is_rated(Lane::ALL[index], Age::ALL[age]) {
            allowance.octets = allowance.octets.min(self.backlog_octets_max());
        }
        Some(self.prepare(epoch, Lane::ALL[index], Age::ALL[age], span, allowance, false))
    }

    /// Whether the centre's rate is for it: the backlog, and never what is urgent.
    fn is_rated(&self, lane: Lane, age: Age) -> bool {
        self.bucket.limits() && age == Age::Backlog && lane != Lane::Urgent
    }

    /// Octets of a batch that the centre's rate is for: small ones, so that it need not save up for long.
    pub(super) fn backlog_octets_max(&self) -> usize {
        self.size.limit().min(BATCH_OCTETS_FIRST)
    }

    /// Leaves out the backlog that must wait for the bucket.
    fn keep_to_the_rate(&mut self, found: &mut [[Found; 2]; 4]) {
        self.bucket_wanted = false;
        if self.bucket.holds(self.backlog_octets_max(), self.now) {
            return;
        }
        for (lane, ages) in Lane::ALL.into_iter().zip(found) {
            for (age, found) in Age::ALL.into_iter().zip(ages) {
                if self.is_rated(lane, age) && found.take().is_some() {
                    self.bucket_wanted = true;
                }
            }
        }
    }

    /// The oldest epoch's next numbers of a lane, live and backlog.
    fn candidates(&mut self, lane: Lane, backlog: bool) -> [Found; 2] {
        let now = self.now;
        Age::ALL.map(|age| {
            if age == Age::Backlog && !backlog {
                return None;
            }
            self.epochs.iter_mut().find_map(|plan| {
                let epoch = plan.epoch;
                plan.lane(lane).next_span(age, now).map(|span| (epoch, span))
            })
        })
    }

    /// The batch that waits longest for the centre, once more, when its time has come.
    fn next_probe(&mut self) -> Option<Send> {
        let now = self.now;
        let Link::Up(up) = &self.link else { return None };
        let stall = up.stall?;
        if now < stall.due || stall.probe.is_some_and(|probe| up.wire.holds(probe)) {
            return None;
        }
        let published = up.acks.batches.iter().filter_map(|(ticket, batch)| Some((batch.published?, *ticket, batch)));
        let (_, oldest, batch) = published.min_by_key(|(published, ticket, _)| (*published, *ticket))?;
        // It leaves the ack window for as much as it takes of it: a full one stops no probe.
        let room = up.wire.room(batch.lane == Lane::Urgent, now)?;
        let octets = room.octets.min(batch.octets.max(ROOM_OCTETS_MIN));
        if !room.empty && octets < ROOM_OCTETS_MIN {
            return None;
        }
        let allowance = Allowance { octets, alone: room.empty };
        let batch = self.release(oldest)?;
        let (first, last) = *batch.spans.first()?;
        let ceiling = RETRY_DELAY_FIRST.saturating_mul(1 << stall.attempt.min(6)).min(RETRY_DELAY_MAX);
        let due = now + full_jitter(ceiling, &mut self.rng).max(RETRY_DELAY_FIRST);
        if let Link::Up(up) = &mut self.link {
            up.stall = Some(Stall { attempt: stall.attempt.saturating_add(1), due, probe: None });
        }
        Some(self.prepare(batch.epoch, batch.lane, Age::Backlog, (first, last.saturating_add(1)), allowance, true))
    }

    fn prepare(&mut self, epoch: EpochId, lane: Lane, age: Age, span: Span, allowance: Allowance, probe: bool) -> Send {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let limit = self.size.limit();
        let packet_octets_max = self.packet_octets_max();
        let (from, before) = span;
        let send = Send {
            ticket,
            epoch,
            lane,
            from,
            before,
            records: BATCH_RECORDS_MAX,
            octets: allowance.octets.min(limit).min(packet_octets_max),
            alone: allowance.alone,
            packet_octets_max,
        };
        if let Link::Up(up) = &mut self.link {
            up.preparing = Some(Preparing { send, age, probe });
        }
        send
    }

    /// Octets of any publish that the broker takes.
    fn packet_octets_max(&self) -> usize {
        match &self.link {
            Link::Up(up) => up.broker.packet_octets_max.unwrap_or(WIRE_OCTETS_MAX).min(WIRE_OCTETS_MAX),
            _ => 0,
        }
    }

    /// What both windows leave to one more batch of `lane`.
    fn allowance(&self, lane: Lane) -> Option<Allowance> {
        let Link::Up(up) = &self.link else { return None };
        let urgent = lane == Lane::Urgent;
        let room = up.wire.room(urgent, self.now)?;
        let unacknowledged = up.acks.room(urgent);
        let octets = room.octets.min(unacknowledged);
        let alone = room.empty && unacknowledged >= BATCH_OCTETS_MAX;
        (alone || octets >= ROOM_OCTETS_MIN).then_some(Allowance { octets, alone })
    }

    /// The same, behind a record that waits for room: only urgent passes it.
    fn allowance_past_need(&self, lane: Lane) -> Option<Allowance> {
        let Link::Up(up) = &self.link else { return None };
        let passes = up.need.is_none_or(|need| lane == Lane::Urgent && need.lane != Lane::Urgent);
        if passes { self.allowance(lane) } else { None }
    }

    fn forget_met_need(&mut self) {
        let Link::Up(up) = &self.link else { return };
        let Some(need) = up.need else { return };
        let most = self.size.limit().min(self.packet_octets_max());
        let met = self.allowance(need.lane).is_some_and(|allowed| allowed.alone || need.octets <= allowed.octets.min(most));
        if met && let Link::Up(up) = &mut self.link {
            up.need = None;
        }
    }

    /// The batch that was being built, if `ticket` names it.
    fn take_preparing(&mut self, ticket: Ticket) -> Option<Preparing> {
        let Link::Up(up) = &mut self.link else { return None };
        up.preparing.take_if(|preparing| preparing.send.ticket == ticket)
    }

    /// A batch is on the wire.
    pub(super) fn sent(&mut self, sent: Sent) {
        let Some(Preparing { send, age, probe }) = self.take_preparing(sent.ticket) else { return };
        self.lane_shares.charge(send.lane.index(), sent.octets);
        self.age_shares[send.lane.index()].charge(age as usize, sent.octets);
        if self.is_rated(send.lane, age) {
            self.bucket.take(sent.octets, self.now);
        }
        self.lane_plan(send.epoch, send.lane, |plan| plan.sent(&sent.spans));
        let Link::Up(up) = &mut self.link else { return };
        let entry = OnWire { octets: sent.octets, urgent: send.lane == Lane::Urgent, batch: true, since: self.now };
        up.wire.put(sent.ticket, entry);
        let awaited = Awaited {
            epoch: send.epoch,
            lane: send.lane,
            run: sent.run,
            spans: sent.spans,
            octets: sent.octets,
            published: None,
        };
        up.acks.batches.insert(sent.ticket, awaited);
        if probe && let Some(stall) = &mut up.stall {
            stall.probe = Some(sent.ticket);
        }
    }

    /// A batch did not go.
    pub(super) fn unsent(&mut self, ticket: Ticket, why: Unsent) {
        let Some(Preparing { send, .. }) = self.take_preparing(ticket) else { return };
        let failed_until = self.now + FAILED_PAUSE;
        match why {
            Unsent::Nothing { next } => {
                self.lane_plan(send.epoch, send.lane, |plan| plan.nothing_before(send.from, next));
            }
            Unsent::NeedsRoom { octets } if !send.alone => {
                if let Link::Up(up) = &mut self.link {
                    up.need = Some(Need { lane: send.lane, octets });
                }
            }
            Unsent::TooBig { seq, octets } => {
                self.queue.push_back(Action::Quarantine(send.epoch, send.lane, seq, "too-big".to_owned()));
                self.queue.push_back(Action::Alarm(Trouble::TooBig(send.epoch, send.lane, seq, octets)));
            }
            Unsent::NeedsRoom { .. } | Unsent::Failed => {
                self.lane_plan(send.epoch, send.lane, |plan| plan.pause(failed_until));
            }
        }
    }

    /// The broker answered a publish.
    pub(super) fn published(&mut self, ticket: Ticket, taken: Taken) {
        let now = self.now;
        let Link::Up(up) = &mut self.link else { return };
        let Some(entry) = up.wire.take(ticket, now) else { return };
        if taken == Taken::NobodySubscribed {
            self.centre.nobody_subscribed(now);
        }
        if !entry.batch {
            return;
        }
        match taken {
            Taken::Yes => {
                self.size.puback(entry.octets, now);
                if let Some(batch) = up.acks.batches.get_mut(&ticket) {
                    batch.published = Some(now);
                    self.lane_refusals[batch.lane.index()].reset();
                }
            }
            Taken::NobodySubscribed => {
                self.size.puback(entry.octets, now);
                self.release(ticket);
            }
            Taken::Refused(reason) => {
                let Some(batch) = self.release(ticket) else { return };
                let delay = self.lane_refusals[batch.lane.index()].after_failure(true, &mut self.rng).max(RETRY_DELAY_FIRST);
                self.lane_plan(batch.epoch, batch.lane, |plan| plan.pause(now + delay));
                self.queue.push_back(Action::Alarm(Trouble::LaneRefused(batch.lane, reason)));
            }
        }
    }
}
