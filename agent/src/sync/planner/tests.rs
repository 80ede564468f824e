//! Every rule of the planner, one at a time.

use super::*;
use crate::store::outbox::LaneView;
use kit_protocol::uplink::settlement::Range;

const EPOCH: EpochId = EpochId([1; 16]);
const OLDER: EpochId = EpochId([2; 16]);
const RUN: RunId = RunId([9; 8]);
const NONCE: Nonce = Nonce([7; 8]);

/// A planner with a store of lanes that hold `next - 1` unsettled records each, every one of 1,000 octets in the batch.
struct Bench {
    planner: Planner,
    now: Moment,
    epochs: Vec<EpochView>,
    record_octets: usize,
    sends: Vec<Send>,
    actions: Vec<Action>,
}

fn epoch(id: EpochId, open: bool, nexts: [u64; 4]) -> EpochView {
    let lanes = nexts.map(|next| LaneView { oldest: 1, next, settled: Settlement::default(), octets: 0 });
    EpochView { epoch: id, assignment: None, open, lanes }
}

impl Bench {
    fn new(nexts: [u64; 4]) -> Self {
        Self::with_epochs(vec![epoch(EPOCH, true, nexts)])
    }

    fn with_epochs(epochs: Vec<EpochView>) -> Self {
        let now = Moment::ZERO + Duration::from_secs(1000);
        let mut bench =
            Self { planner: Planner::new(1, now), now, epochs, record_octets: 1000, sends: Vec::new(), actions: Vec::new() };
        bench.shelf();
        bench
    }

    fn connected(nexts: [u64; 4]) -> Self {
        let mut bench = Self::new(nexts);
        bench.up();
        bench
    }

    fn shelf(&mut self) {
        let epochs = self.epochs.clone();
        self.tell(Event::Shelf(&epochs));
    }

    fn tell(&mut self, event: Event<'_>) {
        self.planner.handle(event, self.now);
        self.act();
    }

    /// Does what the planner wants; batches hold as many records as fit.
    fn act(&mut self) {
        for _ in 0..10_000 {
            let Some(action) = self.planner.poll_action() else { return };
            if let Action::Send(send) = action {
                self.sends.push(send);
                let event = self.fill(send);
                self.planner.handle(event, self.now);
            } else {
                self.actions.push(action);
            }
        }
        panic!("the planner goes round in circles");
    }

    fn fill(&self, send: Send) -> Event<'static> {
        let fit = u64::try_from(send.octets / self.record_octets).unwrap();
        if fit == 0 && !send.alone {
            return Event::Unsent(send.ticket, Unsent::NeedsRoom { octets: self.record_octets });
        }
        let last = (send.from + fit.max(1) - 1).min(send.before - 1);
        let octets = usize::try_from(last - send.from + 1).unwrap() * self.record_octets;
        Event::Sent(Sent { ticket: send.ticket, run: RUN, spans: vec![(send.from, last)], octets })
    }

    fn up(&mut self) {
        self.up_with(65_535, None);
    }

    fn up_with(&mut self, receive_maximum: u16, packet_octets_max: Option<usize>) {
        assert!(self.actions.contains(&Action::Connect), "{:?}", self.actions);
        self.actions.clear();
        self.tell(Event::Up(Broker { nonce: NONCE, receive_maximum, packet_octets_max }));
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..10_000 {
            match self.planner.poll_timeout() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.tell(Event::Time);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the planner wants to be woken for ever");
    }

    fn puback(&mut self, send: usize) {
        let ticket = self.sends[send].ticket;
        self.tell(Event::Published(ticket, Taken::Yes));
    }

    /// The broker takes everything, and what is sent then.
    fn puback_all(&mut self) {
        while self.planner.overview().wire_batches > 0 {
            let sends: Vec<Ticket> = self.sends.iter().map(|send| send.ticket).collect();
            for ticket in sends {
                self.tell(Event::Published(ticket, Taken::Yes));
            }
        }
    }

    /// The tickets of `state` so far, all answered.
    fn take_states(&mut self) -> usize {
        let (states, others) =
            std::mem::take(&mut self.actions).into_iter().partition(|action| matches!(action, Action::PublishState(_)));
        self.actions = others;
        let states: Vec<Action> = states;
        for state in &states {
            if let Action::PublishState(ticket) = state {
                self.tell(Event::Published(*ticket, Taken::Yes));
            }
        }
        states.len()
    }

    fn settled(&mut self, upto: [u64; 4]) {
        let lanes = Lane::ALL.map(|lane| Settlement::upto(upto[lane.index()], None).to_wire(EPOCH, lane)).to_vec();
        self.answer(wire::Answer { settled: Some(wire::Settled { lanes }), ..Default::default() });
    }

    fn ack(&mut self, lane: Lane, upto: u64) {
        let ack = vec![Settlement::upto(upto, Some(RUN)).to_wire(EPOCH, lane)];
        self.answer(wire::Answer { ack, ..Default::default() });
    }

    fn reject(&mut self, lane: Lane, seq: u64, reason: wire::RejectReason, retry_after_ms: u32) {
        let reject = wire::Reject {
            epoch: EPOCH.0.to_vec(),
            lane: lane.to_wire().into(),
            seq,
            run: RUN.0.to_vec(),
            reason: reason.into(),
            retry_after_ms,
        };
        self.answer(wire::Answer { reject: vec![reject], ..Default::default() });
    }

    fn answer(&mut self, answer: wire::Answer) {
        self.tell(Event::Answer(&wire::Answer { nonce: NONCE.0.to_vec(), ..answer }));
    }

    fn sent_spans(&self, lane: Lane) -> Vec<(u64, u64)> {
        self.sends
            .iter()
            .filter(|send| send.lane == lane)
            .map(|send| {
                (send.from, send.before.min(send.from + u64::try_from(send.octets / self.record_octets).unwrap().max(1)) - 1)
            })
            .collect()
    }

    fn has(&self, wanted: &Action) -> bool {
        self.actions.contains(wanted)
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn state_goes_out_on_every_connection_and_every_thirty_seconds_until_settled() {
    let mut bench = Bench::connected([1; 4]);
    assert_eq!(bench.take_states(), 1);
    bench.pass(seconds(29));
    assert_eq!(bench.take_states(), 0);
    bench.pass(seconds(1));
    assert_eq!(bench.take_states(), 1);
    bench.pass(seconds(30));
    assert_eq!(bench.take_states(), 1);
    bench.settled([0; 4]);
    bench.pass(seconds(600));
    assert_eq!(bench.take_states(), 0);
    bench.tell(Event::StateChanged);
    assert_eq!(bench.take_states(), 1, "and when it changed");
}

#[test]
fn i2_answers_before_settled_or_with_another_nonce_say_nothing() {
    let mut bench = Bench::connected([1, 11, 1, 1]);
    bench.ack(Lane::Vitals, 10);
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals), Some(&Settlement::default()));
    bench.settled([0; 4]);
    let mut other = wire::Answer { nonce: vec![8; 8], ..Default::default() };
    other.ack.push(Settlement::upto(10, None).to_wire(EPOCH, Lane::Vitals));
    bench.tell(Event::Answer(&other));
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals), Some(&Settlement::default()));
    assert_eq!(bench.planner.overview().answers_dropped, 2);
    bench.ack(Lane::Vitals, 10);
    assert!(bench.has(&Action::Settle(EPOCH, Lane::Vitals, Settlement::upto(10, Some(RUN)))));
}

#[test]
fn i2_acknowledgements_merge_in_any_order() {
    let mut bench = Bench::connected([1, 31, 1, 1]);
    bench.settled([0; 4]);
    let mut later = Settlement::default();
    later.add(Range { first: 11, last: 20, run: Some(RUN) });
    bench.answer(wire::Answer { ack: vec![later.to_wire(EPOCH, Lane::Vitals)], ..Default::default() });
    bench.ack(Lane::Vitals, 10);
    bench.ack(Lane::Vitals, 5);
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals).unwrap().settled_upto(), 20);
}

#[test]
fn i2_a_store_that_was_opened_again_is_told_once_more_what_is_settled() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    bench.ack(Lane::Vitals, 5);
    let settle = Action::Settle(EPOCH, Lane::Vitals, Settlement::upto(5, Some(RUN)));
    assert!(bench.has(&settle));
    bench.actions.clear();
    bench.shelf();
    assert!(!bench.has(&settle), "a store that is a commit behind is no cause");
    bench.tell(Event::Shelf(&[]));
    bench.shelf();
    assert!(bench.has(&settle), "what a cut took back of it");
}

#[test]
fn i3_a_restored_centre_gets_again_what_it_lost_but_not_what_is_under_way() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    bench.puback(0);
    bench.ack(Lane::Vitals, 5);
    bench.sends.clear();
    bench.epochs[0].lanes[1].next = 9;
    bench.shelf();
    assert_eq!(bench.sent_spans(Lane::Vitals), [(6, 8)]);
    bench.settled([0, 2, 0, 0]);
    assert!(bench.has(&Action::ResetSettled(EPOCH, Lane::Vitals, Settlement::upto(2, None))));
    assert_eq!(bench.sent_spans(Lane::Vitals), [(6, 8), (3, 5)]);
}

fn resend(lane: Lane, first: u64, last: u64) -> wire::Answer {
    let resend = vec![wire::Resend { epoch: EPOCH.0.to_vec(), lane: lane.to_wire().into(), first, last }];
    wire::Answer { resend, ..Default::default() }
}

#[test]
fn i3_what_the_centre_asks_for_again_is_sent_again_and_the_store_is_told() {
    let mut bench = Bench::connected([1, 10, 1, 1]);
    bench.settled([0; 4]);
    bench.puback(0);
    bench.ack(Lane::Vitals, 9);
    bench.sends.clear();
    bench.answer(resend(Lane::Vitals, 3, 4));
    // What is settled above it the store leaves out.
    assert_eq!((bench.sends.len(), bench.sends[0].from), (1, 3));
    let mut left = Settlement::upto(2, None);
    left.add(Range { first: 5, last: 9, run: Some(RUN) });
    assert!(bench.has(&Action::ResetSettled(EPOCH, Lane::Vitals, left)));
    bench.sends.clear();
    bench.answer(resend(Lane::Vitals, 3, 4));
    assert!(bench.sends.is_empty(), "it is on its way");
    bench.ack(Lane::Vitals, 9);
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals), Some(&Settlement::upto(9, Some(RUN))));
}

#[test]
fn a_forged_replayed_or_absurd_request_to_send_again_changes_nothing() {
    let mut bench = Bench::connected([1, 10, 1, 1]);
    bench.answer(resend(Lane::Vitals, 3, 4));
    assert_eq!(bench.planner.overview().answers_dropped, 1, "before Settled");
    bench.settled([0, 9, 0, 0]);
    let settled = bench.planner.settled(EPOCH, Lane::Vitals).cloned();
    bench.tell(Event::Answer(&wire::Answer { nonce: vec![8; 8], ..resend(Lane::Vitals, 3, 4) }));
    for (first, last) in [(0, 4), (4, 3), (3, 10), (3, u64::MAX)] {
        bench.answer(resend(Lane::Vitals, first, last));
    }
    let elsewhere = wire::Resend { epoch: OLDER.0.to_vec(), lane: 2, first: 1, last: 2 };
    bench.answer(wire::Answer { resend: vec![elsewhere], ..Default::default() });
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals).cloned(), settled);
    assert_eq!(bench.planner.overview().entries_ignored, 5);
    assert!(bench.sent_spans(Lane::Vitals).iter().all(|(first, _)| *first == 1), "{:?}", bench.sends);
}

fn pause() -> wire::Answer {
    let pause = Some(wire::Pause { reason: wire::PauseReason::BadSignature.into() });
    wire::Answer { pause, ..Default::default() }
}

#[test]
fn i9_a_batch_that_is_not_believed_stops_all_for_a_bounded_while_and_is_tried_again_for_ever() {
    let mut bench = Bench::connected([1, 200, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.puback_all();
        bench.answer(pause());
        assert_eq!(bench.planner.overview().paused, Some("bad-signature"));
        assert_eq!(bench.planner.overview().ack_batches, 0, "what it had goes again");
        bench.answer(pause());
        bench.sends.clear();
        let began = bench.now;
        while bench.sends.is_empty() {
            let due = bench.planner.poll_timeout().unwrap();
            bench.pass(due.since(bench.now));
        }
        waits.push(bench.now.since(began).as_secs());
        assert_eq!((bench.sends.len(), bench.sends[0].from), (1, 1), "one at a time");
    }
    assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
    bench.puback_all();
    bench.ack(Lane::Vitals, 3);
    assert_eq!(bench.planner.overview().paused, None);
    assert!(bench.sends.len() > 1);
}

#[test]
fn a_forged_or_replayed_pause_has_no_effect() {
    let mut bench = Bench::connected([1, 1, 1, 1]);
    bench.settled([0; 4]);
    bench.answer(pause());
    assert_eq!(bench.planner.overview().paused, None, "nothing was sent that it could mean");
    bench.epochs[0].lanes[1].next = 50;
    bench.shelf();
    bench.tell(Event::Answer(&wire::Answer { nonce: vec![8; 8], ..pause() }));
    assert_eq!((bench.planner.overview().paused, bench.planner.overview().answers_dropped), (None, 1));
}

#[test]
fn a_pause_before_settled_counts_and_settled_or_a_new_connection_ends_it() {
    let mut bench = Bench::connected([1, 50, 1, 1]);
    bench.take_states();
    bench.puback_all();
    bench.answer(pause());
    assert_eq!(bench.planner.overview().paused, Some("bad-signature"));
    bench.sends.clear();
    bench.settled([0; 4]);
    assert_eq!(bench.planner.overview().paused, None, "the centre knows the key now");
    assert!(!bench.sends.is_empty());
    bench.puback_all();
    bench.answer(pause());
    bench.tell(Event::Down(Ended::Lost("cut".to_owned())));
    bench.pass(seconds(2));
    bench.sends.clear();
    bench.up();
    assert_eq!(bench.sends.len(), 1, "one is tried at once");
}

/// Octets of the backlog that went, of vitals: the lane has no live records.
fn backlog_octets(bench: &Bench) -> u64 {
    bench.sent_spans(Lane::Vitals).iter().map(|(first, last)| (last - first + 1) * 1_000).sum()
}

#[test]
fn i5_the_backlog_keeps_to_the_centres_rate_and_nothing_else_waits_for_it() {
    let mut bench = Bench::connected([1, 2_000, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.tell(Event::CentreState { online: true, counter: 7, drain_octets_per_s: 2_000 });
    let began = bench.now;
    let before = backlog_octets(&bench);
    for second in 0..120 {
        bench.pass(seconds(1));
        bench.puback_all();
        if second % 10 == 0 {
            for lane in [0, 1, 3] {
                bench.epochs[0].lanes[lane].next += 1;
            }
            let live = bench.sends.len();
            bench.shelf();
            assert_eq!(bench.sends.len(), live + 3, "urgent, live vitals and journal go at once");
            bench.puback_all();
        }
        let last =
            bench.sends.iter().filter(|send| send.lane == Lane::Vitals && send.before <= 2_000).map(|send| send.from).max();
        bench.ack(Lane::Vitals, last.unwrap_or(1) - 1);
        let sent: u64 = backlog_octets(&bench) - before;
        // And the live ones, some of them twice.
        let most = BURST_OCTETS + bench.now.since(began).as_secs() * 2_000 + 40_000;
        assert!(sent <= most, "{sent} > {most} after {second} s");
    }
    let sent = backlog_octets(&bench) - before;
    assert!(sent > 120 * 2_000, "and it uses it: {sent}");
    bench.tell(Event::CentreState { online: true, counter: 6, drain_octets_per_s: 1 });
    bench.tell(Event::CentreState { online: true, counter: 8, drain_octets_per_s: 0 });
    bench.puback_all();
    assert!(backlog_octets(&bench) - before > sent + 200_000, "no rate: as fast as it goes");
}

#[test]
fn i5_a_backlog_of_urgent_records_waits_for_no_rate() {
    let mut bench = Bench::new([500, 1, 1, 1]);
    bench.tell(Event::CentreState { online: true, counter: 7, drain_octets_per_s: 1 });
    bench.up();
    bench.settled([0; 4]);
    bench.puback_all();
    assert_eq!(bench.sent_spans(Lane::Urgent).last().map(|(_, last)| *last), Some(499));
}

#[test]
fn i2_a_centre_that_knows_numbers_to_come_settles_nothing_and_a_person_is_told() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0, 9, 0, 0]);
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals), Some(&Settlement::default()));
    let trouble = Trouble::StoreOlderThanCentre { epoch: EPOCH, lane: Lane::Vitals, known: 9, next: 6 };
    assert!(bench.has(&Action::Alarm(trouble)));
    bench.epochs[0].lanes[1].next = 20;
    bench.shelf();
    bench.ack(Lane::Vitals, 12);
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals), Some(&Settlement::default()), "nor does it later");
}

#[test]
fn i2_a_number_under_another_run_settles_nothing_more_and_a_person_is_told_once() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    bench.tell(Event::Foreign(EPOCH, Lane::Vitals, 2));
    bench.tell(Event::Foreign(EPOCH, Lane::Vitals, 3));
    let told = bench.actions.iter().filter(|action| matches!(action, Action::Alarm(Trouble::StoreOlderThanCentre { .. })));
    assert_eq!(told.count(), 1);
    bench.ack(Lane::Vitals, 5);
    assert_eq!(bench.planner.settled(EPOCH, Lane::Vitals), Some(&Settlement::default()));
}

#[test]
fn nothing_is_planned_before_the_store_is_open_and_what_is_in_it_then_is_backlog() {
    let mut bench = Bench::with_epochs(vec![]);
    assert!(!bench.has(&Action::Connect));
    bench.epochs = vec![epoch(EPOCH, true, [1, 40, 1, 1])];
    bench.shelf();
    bench.up();
    assert_eq!(bench.sends[0].before, 40);
    bench.epochs = vec![];
    bench.shelf();
    assert!(bench.planner.settled(EPOCH, Lane::Vitals).is_some(), "a store that is opened again is not an empty one");
}

#[test]
fn entries_for_what_the_kit_does_not_hold_are_ignored_and_counted() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    let mut strange = Settlement::upto(1, None).to_wire(OLDER, Lane::Vitals);
    let unknown_epoch = strange.clone();
    strange.epoch = EPOCH.0.to_vec();
    strange.lane = 77;
    bench.answer(wire::Answer { ack: vec![unknown_epoch, strange], ..Default::default() });
    assert_eq!(bench.planner.overview().entries_ignored, 2);
}

#[test]
fn i6_refused_for_good_is_quarantined_settled_and_told() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    bench.reject(Lane::Vitals, 3, wire::RejectReason::Unreadable, 0);
    assert!(bench.has(&Action::Quarantine(EPOCH, Lane::Vitals, 3, "unreadable".to_owned())));
    assert!(bench.has(&Action::Alarm(Trouble::Rejected(EPOCH, Lane::Vitals, 3, "unreadable".to_owned()))));
    assert!(bench.planner.settled(EPOCH, Lane::Vitals).unwrap().contains(3));
    let mut rest = Settlement::upto(2, Some(RUN));
    rest.add(Range { first: 4, last: 5, run: Some(RUN) });
    bench.answer(wire::Answer { ack: vec![rest.to_wire(EPOCH, Lane::Vitals)], ..Default::default() });
    assert_eq!(bench.planner.overview().ack_batches, 0, "the others of its batch are done");
}

#[test]
fn i2_a_conflict_is_quarantined_and_told_and_not_settled_by_us() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    bench.reject(Lane::Vitals, 3, wire::RejectReason::Conflict, 0);
    assert!(bench.has(&Action::Quarantine(EPOCH, Lane::Vitals, 3, "conflict".to_owned())));
    assert!(bench.has(&Action::Alarm(Trouble::Conflict(EPOCH, Lane::Vitals, 3))));
    assert!(!bench.planner.settled(EPOCH, Lane::Vitals).unwrap().contains(3));
}

#[test]
fn a_refusal_of_another_runs_record_is_not_ours() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.settled([0; 4]);
    let mut reject = wire::Reject { epoch: EPOCH.0.to_vec(), lane: wire::Lane::Vitals.into(), seq: 3, ..Default::default() };
    reject.run = vec![1; 8];
    bench.answer(wire::Answer { reject: vec![reject], ..Default::default() });
    assert!(!bench.actions.iter().any(|action| matches!(action, Action::Quarantine(..))));
}

#[test]
fn i6_refused_for_later_is_sent_again_after_its_delay_and_alone() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.puback(0);
    bench.reject(Lane::Vitals, 3, wire::RejectReason::Database, 5000);
    let mut rest = Settlement::upto(2, Some(RUN));
    rest.add(Range { first: 4, last: 5, run: Some(RUN) });
    bench.answer(wire::Answer { ack: vec![rest.to_wire(EPOCH, Lane::Vitals)], ..Default::default() });
    bench.sends.clear();
    bench.pass(Duration::from_millis(4999));
    assert!(bench.sends.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sends.len(), 1);
    assert_eq!(bench.sends[0].from, 3);
}

#[test]
fn i9_a_first_connection_sends_one_window_of_sixteen_kibibytes() {
    let bench = Bench::connected([1, 1000, 1, 1]);
    assert_eq!(bench.planner.overview().wire_octets, 16_000);
    assert!(bench.sends.iter().all(|send| send.octets <= BATCH_OCTETS_FIRST));
}

#[test]
fn i9_one_record_larger_than_the_window_goes_alone() {
    let mut bench = Bench::new([1, 3, 1, 1]);
    bench.record_octets = 20_000;
    bench.up();
    assert_eq!(bench.planner.overview().wire_batches, 1);
    assert_eq!(bench.planner.overview().wire_octets, 20_000);
    bench.puback(0);
    assert_eq!(bench.planner.overview().wire_octets, 20_000, "the second, once the first has its PUBACK");
}

#[test]
fn i5_a_large_record_that_needs_room_is_not_overtaken_by_small_ones_for_ever() {
    let mut bench = Bench::new([1, 200, 200, 1]);
    bench.record_octets = 100;
    bench.up();
    bench.record_octets = 12_000;
    let mut waveforms = 0;
    for round in 0..200 {
        if bench.sends.len() <= round {
            break;
        }
        let before = bench.sends.len();
        // Vitals are small, segments are large.
        bench.record_octets = if round % 2 == 0 { 100 } else { 12_000 };
        bench.puback(round);
        waveforms += bench.sends[before..].iter().filter(|send| send.lane == Lane::Waveforms).count();
    }
    assert!(waveforms > 0);
}

#[test]
fn i9_the_ack_window_holds_a_mebibyte_and_urgent_keeps_a_part_of_it() {
    let mut bench = Bench::connected([1, 5000, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    for send in 0..5000 {
        if bench.sends.len() <= send {
            break;
        }
        bench.now = bench.now + Duration::from_millis(10);
        bench.puback(send);
    }
    let full = bench.planner.overview();
    assert_eq!(full.wire_octets, 0);
    assert!((900_000..=ACK_OCTETS_MAX).contains(&full.ack_octets), "{full:?}");
    bench.epochs[0].lanes[0].next = 4;
    bench.shelf();
    assert_eq!(bench.sends.last().unwrap().lane, Lane::Urgent);
}

#[test]
fn i9_receive_maximum_and_packet_size_of_the_broker_are_kept() {
    let mut bench = Bench::new([1, 1000, 1, 1]);
    bench.record_octets = 500;
    bench.up_with(7, Some(20_000));
    assert!(bench.planner.overview().wire_batches <= 3);
    for send in 0..400 {
        if bench.sends.len() <= send {
            break;
        }
        bench.puback(send);
        assert!(bench.planner.overview().wire_batches <= 3);
    }
    assert!(bench.sends.iter().all(|send| send.octets <= 20_000 && send.packet_octets_max == 20_000));
    assert!(bench.sends.iter().any(|send| send.octets > BATCH_OCTETS_FIRST), "batches grew");
}

#[test]
fn a_broker_with_packets_under_sixteen_kibibytes_is_refused_with_a_line() {
    let mut bench = Bench::new([1, 10, 1, 1]);
    bench.up_with(100, Some(16_383));
    assert!(bench.has(&Action::Disconnect));
    let overview = bench.planner.overview();
    assert!(!overview.connected);
    assert!(overview.refusal.unwrap().contains("16383 octets"));
    assert!(bench.sends.is_empty());
}

#[test]
fn i6_a_record_larger_than_the_broker_takes_is_quarantined_and_the_others_flow() {
    let mut bench = Bench::new([1, 4, 1, 1]);
    bench.planner.handle(Event::Time, bench.now);
    bench.actions.clear();
    bench.actions.push(Action::Connect);
    let _ = bench.planner.poll_action();
    bench.planner.handle(Event::Up(Broker { nonce: NONCE, receive_maximum: 100, packet_octets_max: None }), bench.now);
    while let Some(action) = bench.planner.poll_action() {
        if let Action::Send(send) = action {
            bench.planner.handle(Event::Unsent(send.ticket, Unsent::TooBig { seq: 1, octets: 300_000 }), bench.now);
            break;
        }
    }
    // The store leaves number 1 out from now on.
    assert_eq!(bench.planner.poll_action(), Some(Action::Quarantine(EPOCH, Lane::Vitals, 1, "too-big".to_owned())));
    bench.act();
    assert!(bench.has(&Action::Alarm(Trouble::TooBig(EPOCH, Lane::Vitals, 1, 300_000))));
    assert_eq!(bench.sends.len(), 1);
}

#[test]
fn i9_no_puback_for_thirty_seconds_ends_the_connection() {
    let mut bench = Bench::connected([1, 1000, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    for send in 0..10 {
        bench.pass(seconds(29));
        bench.puback(send);
        bench.ack(Lane::Vitals, u64::try_from(send).unwrap() + 1);
    }
    assert!(bench.planner.overview().connected, "slow is not silent");
    bench.pass(seconds(30));
    assert!(bench.has(&Action::Disconnect));
    assert!(bench.planner.overview().refusal.unwrap().contains("30 s"));
}

#[test]
fn one_puback_that_never_comes_ends_the_connection_after_two_minutes() {
    let mut bench = Bench::connected([1, 5, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    for second in 0..119 {
        bench.pass(seconds(1));
        bench.epochs[0].lanes[0].next = second + 2;
        bench.shelf();
        bench.puback(bench.sends.len() - 1);
        bench.ack(Lane::Urgent, second + 1);
    }
    assert!(bench.planner.overview().connected);
    bench.pass(seconds(1));
    assert!(bench.has(&Action::Disconnect));
}

#[test]
fn i10_a_silent_centre_stops_the_backlog_and_is_probed_until_it_acknowledges() {
    let mut bench = Bench::connected([1, 5000, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.puback_all();
    bench.sends.clear();
    bench.pass(ACK_WAIT_MAX);
    assert!(bench.planner.overview().stalled && bench.planner.overview().connected);
    assert_eq!(bench.sends.len(), 1, "one probe");
    assert_eq!(bench.sends[0].from, 1, "what waits longest");
    bench.pass(seconds(20));
    assert_eq!(bench.sends.len(), 1, "not another one before the broker has the first");
    for _ in 0..300 {
        bench.puback_all();
        bench.pass(seconds(1));
    }
    let probes = bench.sends.len();
    assert!((5..40).contains(&probes), "{probes} in five minutes");
    bench.ack(Lane::Vitals, 16);
    assert!(!bench.planner.overview().stalled);
    assert!(bench.sends.len() > probes, "the backlog goes on");
}

#[test]
fn i5_live_goes_on_while_the_backlog_waits_for_a_silent_centre() {
    let mut bench = Bench::connected([1, 200, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.puback_all();
    bench.pass(ACK_WAIT_MAX);
    assert!(bench.planner.overview().stalled);
    bench.puback_all();
    bench.epochs[0].lanes[1].next = 201;
    bench.shelf();
    assert_eq!(bench.sends.last().unwrap().from, 200);
}

#[test]
fn after_a_silence_the_centre_may_work_off_what_the_broker_kept() {
    let mut bench = Bench::connected([1, 65, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.puback_all();
    assert_eq!(bench.sends.len(), 4);
    bench.pass(seconds(70));
    bench.puback_all();
    bench.ack(Lane::Vitals, 16);
    let sent = bench.sends.len();
    bench.pass(seconds(9));
    assert_eq!(bench.sends.len(), sent, "nothing is repeated yet");
    bench.ack(Lane::Vitals, 48);
    bench.pass(seconds(1));
    assert_eq!(bench.sent_spans(Lane::Vitals)[sent..], [(49, 64)], "what did not come was lost");
}

#[test]
fn i10_one_batch_that_the_centre_passed_over_is_sent_again() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.puback(0);
    bench.sends.clear();
    for second in 0..70 {
        bench.epochs[0].lanes[3].next = second + 2;
        bench.shelf();
        let newest = bench.sends.len() - 1;
        bench.puback(newest);
        bench.ack(Lane::Journal, second + 1);
        bench.pass(seconds(1));
    }
    assert_eq!(bench.sent_spans(Lane::Vitals), [(1, 5)], "once more");
    assert!(!bench.planner.overview().stalled);
}

#[test]
fn i10_a_batch_passed_over_a_little_later_is_sent_again_with_the_first() {
    let mut bench = Bench::connected([1, 6, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.puback(0);
    bench.sends.clear();
    for second in 0..70 {
        bench.epochs[0].lanes[3].next = second + 2;
        bench.epochs[0].lanes[1].next = if second < 5 { 6 } else { 8 };
        let before = bench.sends.len();
        bench.shelf();
        for sent in before..bench.sends.len() {
            bench.puback(sent);
        }
        bench.ack(Lane::Journal, second + 1);
        bench.pass(seconds(1));
    }
    assert_eq!(bench.sent_spans(Lane::Vitals), [(6, 7), (6, 7), (1, 5)], "both once more, the live one first");
}

#[test]
fn nobody_subscribed_counts_as_the_centre_offline_until_it_says_online() {
    let mut bench = Bench::connected([1, 200, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    let ticket = bench.sends[0].ticket;
    bench.tell(Event::Published(ticket, Taken::NobodySubscribed));
    assert_eq!(bench.planner.centre(), Reach::Offline);
    let before = bench.sends.len();
    for send in 1..before {
        bench.puback(send);
    }
    bench.pass(seconds(30));
    assert_eq!(bench.sends.len(), before, "nothing is sent to nobody");
    bench.tell(Event::CentreState { online: true, counter: 5, drain_octets_per_s: 0 });
    assert!(bench.sends.len() > before);
    assert_eq!(bench.sends[before].from, 1, "what nobody took goes first");
}

#[test]
fn a_centre_offline_for_ten_minutes_without_a_word_is_tried_one_batch_at_a_time() {
    let mut bench = Bench::new([1, 200, 1, 1]);
    bench.tell(Event::CentreState { online: false, counter: 5, drain_octets_per_s: 0 });
    bench.up();
    bench.take_states();
    bench.pass(seconds(29));
    assert!(bench.sends.is_empty());
    while bench.planner.centre() == Reach::Offline {
        assert!(bench.sends.is_empty());
        bench.pass(seconds(1));
        bench.take_states();
    }
    assert_eq!(bench.planner.centre(), Reach::Presumed);
    let one = bench.planner.overview();
    assert_eq!((one.wire_batches, bench.sends.len()), (1, 1));
    bench.puback(0);
    assert_eq!(bench.sends.len(), 1, "not before it is acknowledged");
    bench.settled([0; 4]);
    assert_eq!(bench.planner.centre(), Reach::Online);
    assert!(bench.sends.len() > 1);
}

#[test]
fn i6_a_lane_that_the_broker_refuses_waits_and_the_others_flow() {
    let mut bench = Bench::connected([1, 30, 1, 30]);
    bench.take_states();
    bench.settled([0; 4]);
    let vitals = bench.sends.iter().find(|send| send.lane == Lane::Vitals).unwrap().ticket;
    bench.tell(Event::Published(vitals, Taken::Refused("not authorised".to_owned())));
    assert!(bench.has(&Action::Alarm(Trouble::LaneRefused(Lane::Vitals, "not authorised".to_owned()))));
    assert_eq!(bench.sends.last().unwrap().lane, Lane::Journal);
    let journal = bench.sends.len() - 1;
    bench.puback(journal);
    bench.pass(seconds(61));
    assert_eq!(bench.sends.iter().filter(|send| send.lane == Lane::Vitals && send.from == 1).count(), 2, "tried again");
}

#[test]
fn lane_comes_before_epoch_and_the_oldest_epoch_first() {
    let mut bench = Bench::with_epochs(vec![epoch(OLDER, false, [2, 5, 1, 1]), epoch(EPOCH, true, [3, 4, 1, 1])]);
    bench.up();
    let order: Vec<_> = bench.sends.iter().map(|send| (send.lane, send.epoch)).collect();
    assert_eq!(order, [(Lane::Urgent, OLDER), (Lane::Urgent, EPOCH), (Lane::Vitals, OLDER), (Lane::Vitals, EPOCH)]);
}

#[test]
fn i5_live_has_three_parts_of_four_of_its_lane() {
    let mut bench = Bench::new([1, 1000, 1, 1]);
    bench.pass(seconds(1));
    bench.epochs[0].lanes[1].next = 2000;
    bench.shelf();
    bench.up();
    bench.take_states();
    bench.settled([0; 4]);
    for send in 0..60 {
        bench.now = bench.now + Duration::from_millis(100);
        bench.puback(send);
        let Send { from, before, .. } = bench.sends[send];
        let mut taken = Settlement::default();
        taken.add(Range { first: from, last: (from + 15).min(before - 1), run: Some(RUN) });
        bench.answer(wire::Answer { ack: vec![taken.to_wire(EPOCH, Lane::Vitals)], ..Default::default() });
    }
    let octets = |live: bool| -> usize {
        bench.sends[..60].iter().filter(|send| (send.from >= 1000) == live).map(|send| send.octets.min(16_384)).sum()
    };
    let share = octets(true) * 100 / (octets(true) + octets(false));
    assert!((65..=85).contains(&share), "{share} % live");
}

#[test]
fn i5_urgent_passes_a_full_wire_of_other_lanes() {
    let mut bench = Bench::new([1, 1, 1, 1000]);
    bench.record_octets = 1000;
    bench.up();
    bench.take_states();
    bench.epochs[0].lanes[0].next = 2;
    bench.shelf();
    bench.puback(0);
    assert!(bench.sends.iter().any(|send| send.lane == Lane::Urgent));
}

#[test]
fn everything_unsettled_is_sent_again_on_a_new_connection_and_nothing_else() {
    let mut bench = Bench::connected([1, 9, 1, 1]);
    bench.settled([0; 4]);
    bench.puback(0);
    bench.ack(Lane::Vitals, 3);
    bench.sends.clear();
    bench.tell(Event::Down(Ended::Lost("cut".to_owned())));
    bench.pass(seconds(2));
    bench.up();
    assert_eq!(bench.sent_spans(Lane::Vitals), [(4, 8)]);
    assert!(!bench.planner.overview().settled, "this connection's Settled has not come");
}

#[test]
fn an_interface_that_comes_up_is_tried_at_once() {
    let mut bench = Bench::new([1; 4]);
    for _ in 0..12 {
        bench.actions.clear();
        bench.tell(Event::Down(Ended::Refused("banned".to_owned())));
        assert!(bench.planner.overview().retry.is_some());
        while !bench.has(&Action::Connect) {
            bench.pass(seconds(1));
        }
    }
    bench.tell(Event::Down(Ended::Refused("banned".to_owned())));
    bench.actions.clear();
    bench.tell(Event::InterfaceUp);
    assert!(bench.has(&Action::Connect));
    assert_eq!(bench.planner.overview().refusal.as_deref(), Some("banned"), "until it is better");
}

#[test]
fn i9_a_connection_attempt_without_an_end_is_ended() {
    let mut bench = Bench::new([1; 4]);
    assert!(bench.has(&Action::Connect));
    bench.pass(CONNECT_WATCHDOG);
    assert!(bench.has(&Action::Disconnect));
    bench.actions.clear();
    bench.pass(seconds(1));
    assert!(bench.has(&Action::Connect));
}

#[test]
fn what_comes_late_from_a_connection_that_is_over_changes_nothing() {
    let mut bench = Bench::connected([1, 9, 1, 1]);
    let old = bench.sends[0].ticket;
    bench.tell(Event::Down(Ended::Lost("cut".to_owned())));
    let before = bench.planner.overview();
    bench.tell(Event::Published(old, Taken::NobodySubscribed));
    bench.tell(Event::Sent(Sent { ticket: old, run: RUN, spans: vec![(1, 8)], octets: 8000 }));
    bench.tell(Event::Up(Broker { nonce: NONCE, receive_maximum: 10, packet_octets_max: None }));
    assert_eq!(bench.planner.overview(), before);
    assert_eq!(bench.planner.centre(), Reach::Online);
}

#[test]
fn a_new_epoch_is_announced_and_sent() {
    let mut bench = Bench::connected([1, 2, 1, 1]);
    bench.take_states();
    bench.settled([0; 4]);
    bench.epochs[0].open = false;
    bench.epochs[0].epoch = OLDER;
    bench.epochs.insert(0, epoch(EPOCH, false, [1, 2, 1, 1]));
    bench.shelf();
    bench.puback(0);
    bench.puback(1);
    bench.pass(STATE_REPEAT);
    assert_eq!(bench.take_states(), 1);
    assert!(bench.sends.iter().any(|send| send.epoch == OLDER));
}

#[test]
fn a_store_that_cannot_be_read_is_asked_again_later_and_not_in_a_circle() {
    let mut bench = Bench::new([1, 2, 1, 1]);
    let _ = bench.planner.poll_action();
    bench.planner.handle(Event::Up(Broker { nonce: NONCE, receive_maximum: 100, packet_octets_max: None }), bench.now);
    let mut tries = 0;
    for _ in 0..20 {
        while let Some(action) = bench.planner.poll_action() {
            match action {
                Action::Send(send) => {
                    tries += 1;
                    bench.planner.handle(Event::Unsent(send.ticket, Unsent::Failed), bench.now);
                }
                Action::PublishState(ticket) => bench.planner.handle(Event::Published(ticket, Taken::Yes), bench.now),
                _ => {}
            }
        }
        bench.now = bench.now + seconds(1);
        bench.planner.handle(Event::Time, bench.now);
    }
    assert_eq!(tries, 10, "every two seconds");
}
