//! Carries out what `ingest.rs` decides: a group of messages in one commit, then their answers.

use std::sync::Arc;

use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, SignedType};
use tracing::{error, info, warn};

use crate::certificate::Authority;
use crate::clock::WallTime;
use crate::ingest::{self, Fault, Opened, Refusal, Sender};
use crate::keyring::Keyring;
use crate::signature::SigningKey;
use crate::store::{Store, StoreError, Transaction};

/// Characters of a topic that the audit keeps.
const AUDIT_TOPIC_CHARACTERS_MAX: usize = 96;

/// A message as the broker delivered it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its octets.
    pub payload: bytes::Bytes,
}

/// A message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its topic.
    pub topic: String,
    /// A `Signed` envelope.
    pub payload: Vec<u8>,
}

/// The receiving end without its network: one thread owns it.
#[derive(Debug)]
pub struct Intake {
    store: Store,
    keyring: Keyring,
    authority: Authority,
    signer: Arc<SigningKey>,
}

/// What a message led to; signed and sent only once the group is committed.
struct Outcome {
    sender: Sender,
    answers: Vec<wire::Answer>,
}

impl Intake {
    /// With every key that `store` knows.
    pub fn new(store: Store, authority: Authority, signer: Arc<SigningKey>) -> Result<Self, StoreError> {
        let keyring = store.keyring()?;
        Ok(Self { store, keyring, authority, signer })
    }

    /// The database.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Takes a group of messages in one commit, and gives each one's answers in its place.
    ///
    /// What is in an answer is on the disk. Where the database fails, the answers say "later" and settle nothing; the kit
    /// keeps its records and sends them again. A batch that cannot be believed is answered with a
    /// pause alone, a state with nothing.
    pub fn take(&mut self, group: &[Message], now: WallTime) -> Vec<Vec<Outgoing>> {
        let opened: Vec<_> = group.iter().map(|message| self.open(message, now)).collect();
        let outcomes = match commit(&mut self.store, group, &opened, now) {
            Ok(outcomes) => outcomes,
            // Perhaps one of them is to blame: alone, it harms nobody else (I6). A busy or full database harms everyone.
            Err(StoreError::Broken(_) | StoreError::Unreadable(_)) if group.len() > 1 => {
                return group.iter().flat_map(|message| self.take(std::slice::from_ref(message), now)).collect();
            }
            Err(trouble) => {
                error!(%trouble, messages = group.len(), "nothing of this group is stored; the kits send it again");
                opened.iter().map(later).collect()
            }
        };
        outcomes.into_iter().map(|outcome| outcome.map_or_else(Vec::new, |outcome| self.sign(&outcome))).collect()
    }

    /// Asks the kits that are there for what was acknowledged and is missing. An answer that gets lost is given again in the
    /// next round; on a new connection `Settled` says the same.
    pub fn ask_again(&mut self) -> Vec<Outgoing> {
        let asked = self.store.begin().and_then(|mut transaction| {
            let asked = transaction.asked()?;
            transaction.commit()?;
            Ok(asked)
        });
        let asked = asked.unwrap_or_else(|trouble| {
            error!(%trouble, "what is missing is asked for in the next round");
            Vec::new()
        });
        let outcomes = asked.into_iter().map(|asked| {
            info!(kit = %asked.sender.kit, spans = asked.resend.len(), "asked for what is missing");
            Outcome { answers: ingest::ask_again(asked.nonce, &asked.resend), sender: asked.sender }
        });
        outcomes.flat_map(|outcome| self.sign(&outcome)).collect()
    }

    /// Verifies a message. A key that a state brings counts from here on, for the rest of the group already; should the
    /// commit fail, the kit's next state brings it again.
    fn open(&mut self, message: &Message, now: WallTime) -> Result<Opened, Refusal> {
        let opened = ingest::open(&message.topic, &message.payload, &self.keyring, &self.authority, now)?;
        if let Opened::State(sender, state) = &opened {
            self.keyring.enrol(&sender.tenant, &sender.kit, state.key.clone(), false);
        }
        Ok(opened)
    }

    fn sign(&self, outcome: &Outcome) -> Vec<Outgoing> {
        let topic = Topic::Answer(outcome.sender.tenant.clone(), outcome.sender.kit.clone()).name();
        let sign = |answer| match signed::seal(self.signer.as_ref(), SignedType::Answer, &topic, answer) {
            Ok(payload) => Some(Outgoing { topic: topic.clone(), payload }),
            Err(trouble) => {
                error!(%trouble, "an answer could not be signed; the kit sends its records again");
                None
            }
        };
        outcome.answers.iter().filter_map(sign).collect()
    }
}

fn commit(
    store: &mut Store,
    group: &[Message],
    opened: &[Result<Opened, Refusal>],
    now: WallTime,
) -> Result<Vec<Option<Outcome>>, StoreError> {
    let mut transaction = store.begin()?;
    let mut outcomes = Vec::with_capacity(group.len());
    for (message, opened) in group.iter().zip(opened) {
        outcomes.push(match opened {
            Ok(opened) => store_one(&mut transaction, message, opened, now)?,
            Err(refusal) => {
                note(&mut transaction, message, refusal, now)?;
                let answer = ingest::answer_refused(&message.topic, &message.payload, refusal.fault);
                answer.map(|(sender, answer)| Outcome { sender, answers: vec![answer] })
            }
        });
    }
    transaction.commit()?;
    Ok(outcomes)
}

fn store_one(
    transaction: &mut Transaction<'_>,
    message: &Message,
    opened: &Opened,
    now: WallTime,
) -> Result<Option<Outcome>, StoreError> {
    match opened {
        Opened::Batch(sender, batch) => {
            let known = transaction.known(sender, batch)?;
            let decision = ingest::decide(&sender.kit, batch, &known);
            let settled = transaction.apply(sender, batch, &decision, now)?;
            for finding in &decision.findings {
                note(transaction, message, finding, now)?;
            }
            let answers = ingest::answer_batch(batch, &settled, &decision.rejections);
            Ok(Some(Outcome { sender: sender.clone(), answers }))
        }
        Opened::State(sender, state) => {
            let settled = transaction.note_state(sender, state, now)?;
            info!(kit = %sender.kit, offline = state.wire.offline, epochs = state.epochs.len(), "state");
            let answers = if state.wire.offline { Vec::new() } else { vec![ingest::answer_state(state, &settled)] };
            Ok(Some(Outcome { sender: sender.clone(), answers }))
        }
        Opened::Announcement => Ok(None),
    }
}

fn note(transaction: &mut Transaction<'_>, message: &Message, finding: &Refusal, now: WallTime) -> Result<(), StoreError> {
    let topic: String = message.topic.chars().take(AUDIT_TOPIC_CHARACTERS_MAX).collect();
    warn!(topic, fault = finding.fault.name(), detail = finding.detail, "not taken");
    // What stands on a topic that is none of ours is anybody's text; its name alone is kept out of the audit.
    let topic = if finding.fault == Fault::Topic { "" } else { topic.as_str() };
    transaction.audit(topic, finding, now)
}

fn later(opened: &Result<Opened, Refusal>) -> Option<Outcome> {
    match opened {
        Ok(Opened::Batch(sender, batch)) => Some(Outcome { sender: sender.clone(), answers: ingest::answer_later(batch) }),
        // A state is repeated every 30 s until it is answered, and so is a batch.
        Ok(Opened::State(..) | Opened::Announcement) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
