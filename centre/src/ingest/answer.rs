//! What is answered, once it is on the disk.

use kit_protocol::uplink::id::{EpochId, Lane, Nonce};
use kit_protocol::uplink::settlement::{RANGES_MAX, Settlement};
use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, PauseReason, RejectReason, SignedType};

use super::decision::{RETRY_DATABASE, Rejection};
use super::{Batch, Fault, Sender, State};

/// Rejections in one answer; further ones go into further answers.
pub const REJECTS_PER_ANSWER_MAX: usize = 128;
/// Spans asked for again in one answer; further ones go into further answers.
pub const RESENDS_PER_ANSWER_MAX: usize = 64;
/// Ranges above `upto` in one `Settled`, over all of its lanes.
pub const RANGES_PER_SETTLED_MAX: usize = 256;

/// What is settled of one lane of one epoch.
pub type LaneSettled = (EpochId, Lane, Settlement);

/// The answers to a batch, after its commit: what is settled of the lanes it touched, and what is rejected.
#[must_use]
pub fn answer_batch(batch: &Batch, settled: &[LaneSettled], rejections: &[Rejection]) -> Vec<wire::Answer> {
    let ack: Vec<_> = settled.iter().map(|(epoch, lane, settlement)| settlement.to_wire(*epoch, *lane)).collect();
    let mut reject = rejections.iter().map(|rejection| rejection.to_wire(batch)).peekable();
    let mut answers = Vec::new();
    let mut ack = Some(ack);
    while ack.is_some() || reject.peek().is_some() {
        answers.push(wire::Answer {
            nonce: batch.nonce.0.to_vec(),
            ack: ack.take().unwrap_or_default(),
            reject: reject.by_ref().take(REJECTS_PER_ANSWER_MAX).collect(),
            ..wire::Answer::default()
        });
    }
    answers
}

/// The answers to a batch that the database could not take: everything later, nothing settled.
#[must_use]
pub fn answer_later(batch: &Batch) -> Vec<wire::Answer> {
    let retry_after = Some(RETRY_DATABASE);
    let entries = batch.entries.iter();
    let rejections: Vec<_> =
        entries.map(|entry| Rejection { seq: entry.seq, reason: RejectReason::Database, retry_after }).collect();
    answer_batch(batch, &[], &rejections)
}

/// The answer to a state: all that the database knows of the epochs it names. `settled` holds every lane of them.
#[must_use]
pub fn answer_state(state: &State, settled: &[LaneSettled]) -> wire::Answer {
    let mut ranges_left = RANGES_PER_SETTLED_MAX;
    let lanes = settled.iter().map(|(epoch, lane, settlement)| {
        let mut lane = settlement.to_wire(*epoch, *lane);
        lane.ranges.truncate(ranges_left.min(RANGES_MAX));
        ranges_left -= lane.ranges.len();
        lane
    });
    let settled = wire::Settled { lanes: lanes.collect() };
    wire::Answer { nonce: state.nonce.0.to_vec(), settled: Some(settled), ..wire::Answer::default() }
}

/// The answer to a batch that was refused: whom it goes to, and that it waits. `None` where there is nobody to answer, or no
/// nonce to answer with. It rests on what nobody vouches for, so it names no number, and a kit heeds it on its own connection
/// only, for a while of its own.
#[must_use]
pub fn answer_refused(topic: &str, payload: &[u8], fault: Fault) -> Option<(Sender, wire::Answer)> {
    let Some(Topic::Up(tenant, kit, _)) = Topic::parse(topic) else { return None };
    let reason = match fault {
        Fault::UnknownKey => PauseReason::UnknownKey,
        Fault::BadSignature => PauseReason::BadSignature,
        Fault::Malformed | Fault::WrongType => PauseReason::Malformed,
        Fault::Lane => PauseReason::WrongName,
        _ => return None,
    };
    let batch: wire::Batch = signed::peek(SignedType::Batch, payload).ok()?;
    let nonce = Nonce::from_slice(&batch.nonce)?.0.to_vec();
    let pause = Some(wire::Pause { reason: reason.into() });
    Some((Sender { tenant, kit }, wire::Answer { nonce, pause, ..wire::Answer::default() }))
}

/// Numbers of a kit that are asked for again, for the connection with this nonce.
#[must_use]
pub fn ask_again(nonce: Nonce, resend: &[wire::Resend]) -> Vec<wire::Answer> {
    let answer =
        |some: &[wire::Resend]| wire::Answer { nonce: nonce.0.to_vec(), resend: some.to_vec(), ..wire::Answer::default() };
    resend.chunks(RESENDS_PER_ANSWER_MAX).map(answer).collect()
}

impl Rejection {
    fn to_wire(&self, batch: &Batch) -> wire::Reject {
        let delay = self.retry_after.map_or(0, |delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX));
        wire::Reject {
            epoch: batch.epoch.0.to_vec(),
            lane: batch.lane.to_wire().into(),
            seq: self.seq,
            run: batch.run.0.to_vec(),
            reason: self.reason.into(),
            retry_after_ms: delay,
        }
    }
}
