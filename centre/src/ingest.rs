//! What to believe, what to store and what to answer, as pure functions: a message and what is known come in, a decision
//! comes out. `intake.rs` carries it out, `store.rs` keeps it, `mqtt.rs` brings the messages.
//!
//! ```text
//! topic, payload ─ open ─→ Opened ─ decide (with what the database knows of it) ─→ Decision ─ after the commit ─→ answers
//!                    └ Refusal: audited; a batch's sender is told to wait, a state is answered with nothing
//! ```

mod answer;
mod decision;

use std::collections::{BTreeMap, BTreeSet};

use kit_protocol::uplink::id::{EpochId, KitId, Lane, Nonce, Origin, RunId, Tenant};
use kit_protocol::uplink::record::used_numbers;
use kit_protocol::uplink::signed::{self, OpenError};
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, RejectReason, SignedType, definition::What};
use prost::Message as _;

pub use self::answer::{
    LaneSettled, RANGES_PER_SETTLED_MAX, REJECTS_PER_ANSWER_MAX, RESENDS_PER_ANSWER_MAX, answer_batch, answer_later,
    answer_refused, answer_state, ask_again,
};
pub use self::decision::{
    Decision, Effect, Fate, Known, RETRY_DATABASE, RETRY_SCHEMA, RETRY_UNKNOWN, Rejection, Standing, decide,
};
use crate::certificate::{Authority, Subject};
use crate::clock::WallTime;
use crate::keyring::Keyring;
use crate::signature::{DIGEST_OCTETS, Keys, PublicKey, sha256};

/// Octets of a message, at most; a kit's batch is at most 64 KiB.
pub const MESSAGE_OCTETS_MAX: usize = 256 * 1024;
/// Entries of a batch, at most, and definitions likewise: their rejections have to be told one by one.
pub const ENTRIES_MAX: usize = 4_096;
/// Epochs a state may name.
pub const EPOCHS_MAX: usize = 1_024;
/// The highest number of a lane: what a signed 64-bit column holds. A kit that counts a record a microsecond from 1 on
/// reaches it after 292,000 years.
pub const SEQ_MAX: u64 = i64::MAX as u64;

/// Who speaks: what the topic names and the signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The health authority.
    pub tenant: Tenant,
    /// The kit.
    pub kit: KitId,
}

/// What is wrong with a message of which nothing is taken; its name stands in the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A topic that carries nothing to the centre.
    Topic,
    /// More octets than [`MESSAGE_OCTETS_MAX`].
    TooBig,
    /// Not an envelope, or its body breaks the schema's rules.
    Malformed,
    /// A signed message of another type than its topic carries.
    WrongType,
    /// A key that was never enrolled for this kit, or was revoked.
    UnknownKey,
    /// The signature does not fit topic and body.
    BadSignature,
    /// The certificate is not the authority's, not valid, or not readable.
    Certificate,
    /// The certificate names another kit or tenant than the topic.
    Subject,
    /// The kit belongs to another tenant.
    Tenant,
    /// The body names another lane than the topic.
    Lane,
    /// The same key came with other octets.
    Conflict,
    /// The same number of the same run was defined in two ways.
    Redefined,
    /// A record names an assignment of another kit.
    ForeignAssignment,
    /// A gap or an epoch's end that cannot be.
    ImpossibleGap,
}

impl Fault {
    /// Its kebab-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::TooBig => "too-big",
            Self::Malformed => "malformed",
            Self::WrongType => "wrong-type",
            Self::UnknownKey => "unknown-key",
            Self::BadSignature => "bad-signature",
            Self::Certificate => "certificate",
            Self::Subject => "subject",
            Self::Tenant => "tenant",
            Self::Lane => "lane",
            Self::Conflict => "conflict",
            Self::Redefined => "redefined",
            Self::ForeignAssignment => "foreign-assignment",
            Self::ImpossibleGap => "impossible-gap",
        }
    }
}

/// Why a message was not taken. The detail names no value and no octet of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub fault: Fault,
    /// For a technician.
    pub detail: String,
}

impl Refusal {
    fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }
}

/// A message whose sender is certain.
#[derive(Clone, Debug)]
pub enum Opened {
    /// Records.
    Batch(Sender, Batch),
    /// A kit's state.
    State(Sender, Box<State>),
    /// A centre's own announcement, which the subscription to `tm/1/+/+/state` brings back: of no concern here.
    Announcement,
}

/// A batch that keeps the schema's rules.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Of every entry.
    pub epoch: EpochId,
    /// Of every entry; the topic's.
    pub lane: Lane,
    /// Of every entry.
    pub run: RunId,
    /// The kit's connection, echoed by the answer.
    pub nonce: Nonce,
    /// What its small numbers mean, from 1; `None` for a kind newer than this centre.
    pub definitions: BTreeMap<u32, Option<What>>,
    /// Ascending numbers from 1 to [`SEQ_MAX`].
    pub entries: Vec<Entry>,
}

/// One record of a batch.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// As it came, verbatim.
    pub octets: Vec<u8>,
    /// SHA-256 of the octets.
    pub digest: [u8; DIGEST_OCTETS],
    /// Decoded, or why it cannot be taken.
    pub record: Result<Record, RejectReason>,
}

/// A record with content that this centre knows.
#[derive(Clone, Debug)]
pub struct Record {
    /// As decoded; its content is there.
    pub wire: wire::Record,
    /// What makes the measurement the same one, where there is an origin.
    pub origin: Option<Origin>,
}

/// A kit's state.
#[derive(Clone, Debug)]
pub struct State {
    /// As the kit sent it.
    pub wire: wire::State,
    /// Its connection, echoed by the answer.
    pub nonce: Nonce,
    /// Every epoch it names, with the assignment it names for it.
    pub epochs: Vec<(EpochId, Option<String>)>,
    /// The key that signed it.
    pub key: PublicKey,
}

/// Opens a message: checks that topic, body, signature and certificate speak of the same kit, tenant and lane.
///
/// A batch is checked against the keys enrolled for its kit. A state signed by a key that is not enrolled is checked by the
/// certificate it carries, and that one against the authority; its key is then in [`State::key`], to be enrolled.
pub fn open(topic: &str, payload: &[u8], keyring: &Keyring, authority: &Authority, now: WallTime) -> Result<Opened, Refusal> {
    let (sender, lane) = match Topic::parse(topic) {
        Some(Topic::Up(tenant, kit, lane)) => (Sender { tenant, kit }, Some(lane)),
        Some(Topic::State(tenant, kit)) => (Sender { tenant, kit }, None),
        Some(Topic::CentreState(_)) => return Ok(Opened::Announcement),
        _ => return Err(Refusal::new(Fault::Topic, "not a topic that a kit publishes to")),
    };
    if payload.len() > MESSAGE_OCTETS_MAX {
        return Err(Refusal::new(Fault::TooBig, format!("{} octets", payload.len())));
    }
    if keyring.tenant(&sender.kit).is_some_and(|tenant| *tenant != sender.tenant) {
        return Err(Refusal::new(Fault::Tenant, "the kit is enrolled for another tenant"));
    }
    match lane {
        Some(lane) => {
            let keys = keyring.valid(&sender.kit);
            let message = signed::open(&Keys(keys), SignedType::Batch, topic, payload).map_err(refuse_envelope)?;
            Ok(Opened::Batch(sender, Batch::from_wire(message, lane)?))
        }
        None => open_state(sender, topic, payload, keyring, authority, now),
    }
}

fn open_state(
    sender: Sender,
    topic: &str,
    payload: &[u8],
    keyring: &Keyring,
    authority: &Authority,
    now: WallTime,
) -> Result<Opened, Refusal> {
    let unverified: wire::State = signed::peek(SignedType::State, payload).map_err(refuse_envelope)?;
    let subject = match unverified.certificate.as_slice() {
        [] => None,
        der => Some(Subject::read(der).map_err(|error| Refusal::new(Fault::Certificate, error.to_string()))?),
    };
    if subject.as_ref().is_some_and(|subject| subject.kit != sender.kit || subject.tenant != sender.tenant) {
        return Err(Refusal::new(Fault::Subject, "the certificate names another kit or tenant than the topic"));
    }
    let keys = keyring.valid(&sender.kit);
    let (message, key) = match signed::open(&Keys(keys), SignedType::State, topic, payload) {
        Ok(message) => {
            // An enrolled key stays good past its certificate's end: the kit must be able to deliver what it holds.
            let key = keyring.signer(&sender.kit, payload).ok_or_else(|| refuse_envelope(OpenError::Malformed))?;
            (message, key)
        }
        Err(OpenError::UnknownKey(id)) => {
            let subject = subject.ok_or_else(|| refuse_envelope(OpenError::UnknownKey(id)))?;
            if keyring.revoked(&sender.kit, &subject.key) {
                return Err(Refusal::new(Fault::UnknownKey, format!("the key {id} was revoked")));
            }
            authority
                .vouches(&unverified.certificate, now)
                .map_err(|error| Refusal::new(Fault::Certificate, error.to_string()))?;
            let keys = [subject.key];
            let message = signed::open(&Keys(&keys), SignedType::State, topic, payload).map_err(refuse_envelope)?;
            let [key] = keys;
            (message, key)
        }
        Err(error) => return Err(refuse_envelope(error)),
    };
    Ok(Opened::State(sender, Box::new(State::from_wire(message, key)?)))
}

fn refuse_envelope(error: OpenError) -> Refusal {
    let fault = match error {
        OpenError::Malformed => Fault::Malformed,
        OpenError::WrongType => Fault::WrongType,
        OpenError::UnknownKey(_) => Fault::UnknownKey,
        OpenError::BadSignature => Fault::BadSignature,
    };
    Refusal::new(fault, error.to_string())
}

impl Batch {
    /// Takes a batch apart; `lane` is the topic's.
    pub fn from_wire(message: wire::Batch, lane: Lane) -> Result<Self, Refusal> {
        let malformed = |detail: &str| Refusal::new(Fault::Malformed, detail);
        if message.lane != i32::from(lane.to_wire()) {
            return Err(Refusal::new(Fault::Lane, "the batch names another lane than the topic"));
        }
        if message.entries.len() > ENTRIES_MAX || message.definitions.len() > ENTRIES_MAX {
            return Err(malformed("more entries or definitions than the bound"));
        }
        let mut definitions = BTreeMap::new();
        for definition in message.definitions {
            let known = definitions.entry(definition.number).or_insert_with(|| definition.what.clone());
            if definition.number == 0 || *known != definition.what {
                return Err(malformed("a definition of the number 0, or two of one number"));
            }
        }
        let mut seq = message.first;
        let mut entries = Vec::with_capacity(message.entries.len());
        for (index, entry) in message.entries.into_iter().enumerate() {
            seq = match index {
                0 if entry.skipped == 0 => Some(seq),
                0 => None,
                _ => seq.checked_add(u64::from(entry.skipped) + 1),
            }
            .filter(|seq| (1..=SEQ_MAX).contains(seq))
            .ok_or_else(|| malformed("a number outside its bounds"))?;
            entries.push(Entry {
                seq,
                digest: sha256(&entry.record),
                record: Record::decode(&entry.record),
                octets: entry.record,
            });
        }
        Ok(Self {
            epoch: EpochId::from_slice(&message.epoch).ok_or_else(|| malformed("an epoch that is not 16 octets"))?,
            lane,
            run: RunId::from_slice(&message.run).ok_or_else(|| malformed("a run that is not 8 octets"))?,
            nonce: Nonce::from_slice(&message.nonce).ok_or_else(|| malformed("a nonce that is not 8 octets"))?,
            definitions,
            entries,
        })
    }
}

impl Record {
    /// Decodes a record's octets.
    ///
    /// Errors: [`RejectReason::Unreadable`] for what is no record, [`RejectReason::UnknownSchema`] for one with content
    /// that this centre does not know yet.
    pub fn decode(octets: &[u8]) -> Result<Self, RejectReason> {
        let wire = wire::Record::decode(octets).map_err(|_| RejectReason::Unreadable)?;
        if wire.content.is_none() {
            // Decoding drops the fields it does not know. Where nothing was dropped there is no content of any age.
            let newer = wire.encoded_len() != octets.len();
            return Err(if newer { RejectReason::UnknownSchema } else { RejectReason::Unreadable });
        }
        let origin = match wire.origin.as_slice() {
            [] => None,
            octets => Some(Origin::from_slice(octets).ok_or(RejectReason::Unreadable)?),
        };
        Ok(Self { wire, origin })
    }
}

impl State {
    fn from_wire(wire: wire::State, key: PublicKey) -> Result<Self, Refusal> {
        let malformed = |detail: &str| Refusal::new(Fault::Malformed, detail);
        if wire.epochs.len() > EPOCHS_MAX {
            return Err(malformed("more epochs than the bound"));
        }
        let nonce = Nonce::from_slice(&wire.nonce).ok_or_else(|| malformed("a nonce that is not 8 octets"))?;
        let mut epochs = Vec::with_capacity(wire.epochs.len());
        for epoch in &wire.epochs {
            let id = EpochId::from_slice(&epoch.epoch).ok_or_else(|| malformed("an epoch that is not 16 octets"))?;
            epochs.push((id, Some(epoch.assignment.clone()).filter(|id| !id.is_empty())));
        }
        Ok(Self { wire, nonce, epochs, key })
    }
}

impl Batch {
    /// Every number that the batch defines or a record of it uses.
    #[must_use]
    pub fn numbers(&self) -> BTreeSet<u32> {
        let records = self.entries.iter().filter_map(|entry| entry.record.as_ref().ok());
        let mut numbers: BTreeSet<u32> = self.definitions.keys().copied().collect();
        for record in records {
            used_numbers(&record.wire, |number, _| {
                numbers.insert(number);
            });
        }
        numbers
    }

    /// The assignment ids that its definitions, and those known from before, name.
    #[must_use]
    pub fn assignments<'a>(&'a self, known: &'a BTreeMap<u32, What>) -> BTreeSet<&'a str> {
        let what = self.definitions.values().flatten().chain(known.values());
        what.filter_map(|what| if let What::Assignment(it) = what { Some(it.id.as_str()) } else { None }).collect()
    }
}
