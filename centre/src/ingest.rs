//! What to believe, what to store and what to answer, as pure functions: a message and what is known come in, a decision
//! comes out. `intake.rs` carries it out, `store.rs` keeps it, `mqtt.rs` brings the messages.
//!
//! ```text
//! topic, payload ─ open ─→ Opened ─ decide (with what the database knows of it) ─→ Decision ─ after the commit ─→ answers
//!                    └ Refusal: audited, answered with nothing
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kit_protocol::uplink::id::{EpochId, KitId, Lane, Nonce, Origin, RunId, Tenant};
use kit_protocol::uplink::settlement::{RANGES_MAX, Settlement};
use kit_protocol::uplink::signed::{self, OpenError};
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, RejectReason, SignedType, definition::What, record::Content};
use prost::Message as _;

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
/// Rejections in one answer; further ones go into further answers.
pub const REJECTS_PER_ANSWER_MAX: usize = 128;
/// Ranges above `upto` in one `Settled`, over all of its lanes.
pub const RANGES_PER_SETTLED_MAX: usize = 256;

/// After database trouble.
pub const RETRY_DATABASE: Duration = Duration::from_secs(10);
/// Until the assignment's document is known here, or the numbers are defined.
pub const RETRY_UNKNOWN: Duration = Duration::from_secs(60);
/// Until the centre was updated.
pub const RETRY_SCHEMA: Duration = Duration::from_secs(3_600);

/// Who speaks: what the topic names and the signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The health authority.
    pub tenant: Tenant,
    /// The kit.
    pub kit: KitId,
}

/// What is wrong with a message that is answered with nothing; its name stands in the audit.
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

    /// Every definition it uses: the number, and whether a definition is of the sort that belongs there.
    fn uses(&self) -> Vec<(u32, Sort)> {
        let mut uses = vec![(self.wire.clock, Sort::Clock), (self.wire.assignment, Sort::Assignment)];
        match &self.wire.content {
            Some(Content::Reading(it)) => uses.extend([(it.device, Sort::Device), (it.driver, Sort::Driver)]),
            Some(Content::Segment(it)) => uses.extend([(it.device, Sort::Device), (it.driver, Sort::Driver)]),
            Some(Content::Refusal(it)) => uses.extend([(it.device, Sort::Device), (it.driver, Sort::Driver)]),
            Some(Content::Missed(it)) => uses.extend([(it.device, Sort::Device), (it.from_clock, Sort::Clock)]),
            Some(Content::DeviceEvent(it)) => uses.push((it.device, Sort::Device)),
            Some(Content::EpochOpened(it)) => uses.push((it.assignment, Sort::Assignment)),
            Some(Content::EpochClosed(_) | Content::Gap(_)) | None => {}
        }
        uses.retain(|(number, _)| *number != 0);
        uses
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Clock,
    Assignment,
    Device,
    Driver,
}

impl Sort {
    fn fits(self, what: Option<&What>) -> bool {
        matches!(
            (self, what),
            (Self::Clock, Some(What::Clock(_)))
                | (Self::Assignment, Some(What::Assignment(_)))
                | (Self::Device, Some(What::Device(_)))
                | (Self::Driver, Some(What::Driver(_)))
        )
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

// ---- deciding --------------------------------------------------------------------------------------------------------

/// What the database knows about the keys, numbers, origins and assignments that a batch names.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By sequence number, of the batch's epoch and lane.
    pub numbers: BTreeMap<u64, Standing>,
    /// By number, of the batch's epoch and run.
    pub definitions: BTreeMap<u32, What>,
    /// Which of the batch's origins are stored under any key of this kit.
    pub origins: BTreeSet<Origin>,
    /// By id, which kit an assignment was signed for.
    pub assignments: BTreeMap<String, KitId>,
}

/// What became of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// SHA-256 of the octets that came first.
    pub digest: [u8; DIGEST_OCTETS],
    /// The run under which they came.
    pub run: RunId,
    /// What was done with them.
    pub fate: Fate,
}

/// What is done with a record whose number is settled by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Stored.
    Stored,
    /// Its origin is stored under another key: kept out, settled.
    Duplicate,
    /// Rejected for good, its octets set aside.
    Rejected(RejectReason),
}

/// What a stored record says about numbers or epochs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Numbers that will never come.
    Gone {
        /// Of this epoch,
        epoch: EpochId,
        /// of this lane,
        lane: Lane,
        /// from this one
        first: u64,
        /// to this one.
        last: u64,
        /// As the kit states it.
        reason: i32,
        /// Reception of the oldest, nanoseconds of CLOCK_BOOTTIME; 0 unknown.
        oldest_boottime_ns: u64,
        /// Reception of the newest.
        newest_boottime_ns: u64,
    },
    /// An epoch began.
    Opened {
        /// Which.
        epoch: EpochId,
        /// Its assignment's id; `None` for the `none` epoch.
        assignment: Option<String>,
    },
    /// An epoch takes no more records.
    Closed {
        /// Which.
        epoch: EpochId,
        /// The last number of each lane; `None` where the kit does not know it.
        ends: Vec<(Lane, Option<u64>)>,
        /// The store is gone: what has not come by now is lost.
        lost: bool,
        /// As the kit states it.
        reason: i32,
    },
}

/// A record that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its number.
    pub seq: u64,
    /// The run of the record that holds this number here: its own, but for a conflict.
    pub run: RunId,
    /// Why.
    pub reason: RejectReason,
    /// When to try again; `None` is for good.
    pub retry_after: Option<Duration>,
}

/// What to do about a batch.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The batch's definitions that are not known yet.
    pub define: Vec<(u32, What)>,
    /// Index of each entry whose number is settled now, with its fate.
    pub settle: Vec<(usize, Fate)>,
    /// What the stored ones among them say, in their order.
    pub effects: Vec<Effect>,
    /// What is answered beside the settlement.
    pub rejections: Vec<Rejection>,
    /// What goes into the audit.
    pub findings: Vec<Refusal>,
}

impl Batch {
    /// Every number that the batch defines or a record of it uses.
    #[must_use]
    pub fn numbers(&self) -> BTreeSet<u32> {
        let records = self.entries.iter().filter_map(|entry| entry.record.as_ref().ok());
        let used = records.flat_map(|record| record.uses().into_iter().map(|(number, _)| number));
        self.definitions.keys().copied().chain(used).collect()
    }

    /// The assignment ids that its definitions, and those known from before, name.
    #[must_use]
    pub fn assignments<'a>(&'a self, known: &'a BTreeMap<u32, What>) -> BTreeSet<&'a str> {
        let what = self.definitions.values().flatten().chain(known.values());
        what.filter_map(|what| if let What::Assignment(it) = what { Some(it.id.as_str()) } else { None }).collect()
    }
}

/// Decides about every record of a verified batch. Invariants I2, I2a and the centre's part of I4.
#[must_use]
pub fn decide(kit: &KitId, batch: &Batch, known: &Known) -> Decision {
    let mut decision = Decision::default();
    let redefined = redefined(batch, known, &mut decision);
    let mut origins = known.origins.clone();
    for (index, entry) in batch.entries.iter().enumerate() {
        let reject = |reason, retry_after| Rejection { seq: entry.seq, run: batch.run, reason, retry_after };
        if let Some(standing) = known.numbers.get(&entry.seq) {
            decision.again(entry, standing);
            continue;
        }
        let record = match &entry.record {
            Ok(record) => record,
            Err(RejectReason::UnknownSchema) => {
                decision.rejections.push(reject(RejectReason::UnknownSchema, Some(RETRY_SCHEMA)));
                continue;
            }
            Err(reason) => {
                decision.set_aside(index, reject(*reason, None));
                continue;
            }
        };
        match resolve(record, kit, batch, known, &redefined) {
            Ok(()) => {}
            Err(Unresolved::Later(reason)) => {
                decision.rejections.push(reject(reason, Some(RETRY_UNKNOWN)));
                continue;
            }
            Err(Unresolved::Redefined) => {
                // Two meanings of one number in one run: the kit's store was rolled back, and it must learn so. Nothing is
                // settled by this, since the record itself is sound.
                decision.rejections.push(reject(RejectReason::Conflict, None));
                continue;
            }
            Err(Unresolved::Foreign(id)) => {
                decision.findings.push(Refusal::new(Fault::ForeignAssignment, format!("assignment {id} is another kit's")));
                decision.set_aside(index, reject(RejectReason::UnknownAssignment, None));
                continue;
            }
        }
        if record.origin.is_some_and(|origin| !origins.insert(origin)) {
            decision.settle.push((index, Fate::Duplicate));
            continue;
        }
        decision.settle.push((index, Fate::Stored));
        decision.effect_of(&record.wire, batch, known);
    }
    decision
}

/// Numbers to which the batch gives another meaning than they have in its run; the new ones are marked for keeping.
fn redefined(batch: &Batch, known: &Known, decision: &mut Decision) -> BTreeSet<u32> {
    let mut redefined = BTreeSet::new();
    for (number, what) in &batch.definitions {
        // What cannot be read yet is not kept: it comes again with every batch that uses it.
        let Some(what) = what else { continue };
        match known.definitions.get(number) {
            None => decision.define.push((*number, what.clone())),
            Some(before) if same_meaning(before, what) => {}
            Some(_) => {
                decision.findings.push(Refusal::new(Fault::Redefined, format!("number {number} of run {}", batch.run)));
                redefined.insert(*number);
            }
        }
    }
    redefined
}

/// What a number means in the batch's run.
fn meaning<'a>(number: u32, batch: &'a Batch, known: &'a Known) -> Option<&'a What> {
    match batch.definitions.get(&number) {
        Some(what) => what.as_ref(),
        None => known.definitions.get(&number),
    }
}

/// Whether two definitions of one number are about the same thing.
///
/// A device is its identity; what else is said of it may be refined, or be said by a newer program that knows more.
fn same_meaning(before: &What, after: &What) -> bool {
    match (before, after) {
        (What::Device(before), What::Device(after)) => before.identity == after.identity,
        _ => before == after,
    }
}

enum Unresolved {
    Later(RejectReason),
    Redefined,
    Foreign(String),
}

/// Whether everything that the record points to is known, and its assignment is this kit's.
fn resolve(record: &Record, kit: &KitId, batch: &Batch, known: &Known, redefined: &BTreeSet<u32>) -> Result<(), Unresolved> {
    for (number, sort) in record.uses() {
        if redefined.contains(&number) {
            return Err(Unresolved::Redefined);
        }
        let what = meaning(number, batch, known);
        if !sort.fits(what) {
            return Err(Unresolved::Later(RejectReason::UndefinedNumber));
        }
        if let Some(What::Assignment(assignment)) = what {
            match known.assignments.get(&assignment.id) {
                None => return Err(Unresolved::Later(RejectReason::UnknownAssignment)),
                Some(owner) if owner != kit => return Err(Unresolved::Foreign(assignment.id.clone())),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

impl Decision {
    /// A number that is settled already came again.
    fn again(&mut self, entry: &Entry, standing: &Standing) {
        let reject = |reason| Rejection { seq: entry.seq, run: standing.run, reason, retry_after: None };
        if standing.digest != entry.digest {
            self.findings.push(Refusal::new(Fault::Conflict, format!("number {} came with other octets", entry.seq)));
            self.rejections.push(reject(RejectReason::Conflict));
        } else if let Fate::Rejected(reason) = standing.fate {
            self.rejections.push(reject(reason));
        }
    }

    fn set_aside(&mut self, index: usize, rejection: Rejection) {
        self.settle.push((index, Fate::Rejected(rejection.reason)));
        self.rejections.push(rejection);
    }

    fn effect_of(&mut self, record: &wire::Record, batch: &Batch, known: &Known) {
        let effect = match &record.content {
            Some(Content::Gap(gap)) => gone(gap),
            Some(Content::EpochOpened(opened)) => opened_epoch(opened, batch, known),
            Some(Content::EpochClosed(closed)) => closed_epoch(closed),
            _ => return,
        };
        match effect {
            Some(effect) => self.effects.push(effect),
            None => self.findings.push(Refusal::new(Fault::ImpossibleGap, "a gap or an epoch's end that cannot be")),
        }
    }
}

fn gone(gap: &wire::Gap) -> Option<Effect> {
    if gap.first == 0 || gap.last < gap.first || gap.last > SEQ_MAX {
        return None;
    }
    Some(Effect::Gone {
        epoch: EpochId::from_slice(&gap.epoch)?,
        lane: Lane::from_wire(gap.lane)?,
        first: gap.first,
        last: gap.last,
        reason: gap.reason,
        oldest_boottime_ns: gap.oldest_boottime_ns,
        newest_boottime_ns: gap.newest_boottime_ns,
    })
}

fn opened_epoch(opened: &wire::EpochOpened, batch: &Batch, known: &Known) -> Option<Effect> {
    let assignment = match meaning(opened.assignment, batch, known) {
        Some(What::Assignment(it)) => Some(it.id.clone()),
        _ => None,
    };
    Some(Effect::Opened { epoch: EpochId::from_slice(&opened.epoch)?, assignment })
}

/// An epoch that ended in order still drains, so its end settles nothing; one whose store is gone has nothing more to give.
fn closed_epoch(closed: &wire::EpochClosed) -> Option<Effect> {
    let ends = closed.ends.iter().filter_map(|end| Lane::from_wire(end.lane).map(|lane| (lane, end.last)));
    let ends: Vec<_> = ends.collect();
    if ends.iter().any(|(_, last)| last.is_some_and(|last| last > SEQ_MAX)) {
        return None;
    }
    let lost = closed.reason == i32::from(wire::EpochReason::Damaged);
    Some(Effect::Closed { epoch: EpochId::from_slice(&closed.epoch)?, ends, lost, reason: closed.reason })
}

// ---- answering -------------------------------------------------------------------------------------------------------

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
            settled: None,
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
        entries.map(|entry| Rejection { seq: entry.seq, run: batch.run, reason: RejectReason::Database, retry_after }).collect();
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
    wire::Answer { nonce: state.nonce.0.to_vec(), ack: Vec::new(), reject: Vec::new(), settled: Some(settled) }
}

impl Rejection {
    fn to_wire(&self, batch: &Batch) -> wire::Reject {
        let delay = self.retry_after.map_or(0, |delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX));
        wire::Reject {
            epoch: batch.epoch.0.to_vec(),
            lane: batch.lane.to_wire().into(),
            seq: self.seq,
            run: self.run.0.to_vec(),
            reason: self.reason.into(),
            retry_after_ms: delay,
        }
    }
}
