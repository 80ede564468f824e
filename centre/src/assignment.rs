//! Assignments: a kit lent to one patient, as a document that only this centre can sign (I4).

use kit_protocol::uplink::id::{KitId, Tenant};
use kit_protocol::uplink::signed::{self, Signer};
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, SignedType};

use crate::clock::WallTime;
use crate::signature::{SigningKey, random};
use crate::store::{Store, StoreError};

/// Characters of an id, at most.
pub const ID_CHARACTERS_MAX: usize = 64;

/// The id of an assignment or of a patient: 1 to 64 of letters, digits, `.`, `_`, `-`.
///
/// A patient's is the centre's logical id, never a name or a tax code: the document carries no personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalId(String);

impl std::str::FromStr for LogicalId {
    type Err = AssignError;

    fn from_str(text: &str) -> Result<Self, AssignError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=ID_CHARACTERS_MAX).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AssignError::Id)
        }
    }
}

impl LogicalId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The kit's health authority.
    pub tenant: Tenant,
    /// The kit.
    pub kit: KitId,
    /// The assignment's id; a random one is drawn where there is none.
    pub id: Option<LogicalId>,
    /// The patient's logical id.
    pub patient: LogicalId,
    /// From when.
    pub start: WallTime,
    /// Until when; open where there is none.
    pub end: Option<WallTime>,
}

/// A document that a kit can start.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedAssignment {
    /// What was signed.
    pub assignment: wire::Assignment,
    /// The `Signed` envelope: the content of the file, and of `down/document`.
    pub envelope: Vec<u8>,
}

/// Why no assignment was signed.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// An id of other characters or length.
    #[error("expected 1 to {ID_CHARACTERS_MAX} of letters, digits, '.', '_' and '-'")]
    Id,
    /// An end before the start.
    #[error("the assignment would end before it starts")]
    Times,
    /// The id was given to an assignment before.
    #[error("there is an assignment {0} already: choose another --id")]
    Taken(String),
    /// The key or the system's random numbers failed.
    #[error("the document could not be signed")]
    Sign,
    /// The database did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs an assignment with the kit's next counter and keeps it, in one commit.
pub fn issue(store: &mut Store, draft: &Draft, signer: &SigningKey, now: WallTime) -> Result<SignedAssignment, AssignError> {
    let mut transaction = store.begin()?;
    let counter = transaction.next_document_counter(&draft.kit)?;
    let signed = sign(draft, counter, signer)?;
    if !transaction.keep_assignment(&signed, now)? {
        return Err(AssignError::Taken(signed.assignment.id));
    }
    transaction.commit()?;
    Ok(signed)
}

/// Signs an assignment under `counter`, which rises with every document for the kit.
pub fn sign(draft: &Draft, counter: u64, signer: &dyn Signer) -> Result<SignedAssignment, AssignError> {
    if draft.end.is_some_and(|end| end <= draft.start) {
        return Err(AssignError::Times);
    }
    let id = match &draft.id {
        Some(id) => id.as_str().to_owned(),
        None => format!("a-{:016x}", u64::from_be_bytes(random().ok_or(AssignError::Sign)?)),
    };
    let assignment = wire::Assignment {
        id,
        tenant: draft.tenant.to_string(),
        kit: draft.kit.to_string(),
        patient: draft.patient.0.clone(),
        counter,
        start_us: draft.start.0,
        end_us: draft.end.map_or(0, |end| end.0),
    };
    let topic = Topic::Document(draft.tenant.clone(), draft.kit.clone()).name();
    let envelope = signed::seal(signer, SignedType::Assignment, &topic, &assignment).map_err(|_| AssignError::Sign)?;
    Ok(SignedAssignment { assignment, envelope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Keys;

    fn draft() -> Draft {
        Draft {
            tenant: "centro".parse().unwrap(),
            kit: "KIT-0001".parse().unwrap(),
            id: None,
            patient: "p-17".parse().unwrap(),
            start: WallTime(1_000_000),
            end: None,
        }
    }

    fn key() -> SigningKey {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        SigningKey::from_pkcs8(pair.serialized_der()).unwrap()
    }

    #[test]
    fn i4_a_document_is_signed_for_one_kit_and_counts_up() {
        let (mut store, key) = (Store::in_memory().unwrap(), key());
        let first = issue(&mut store, &draft(), &key, WallTime(1)).unwrap();
        let second = issue(&mut store, &draft(), &key, WallTime(2)).unwrap();
        assert_eq!((first.assignment.counter, second.assignment.counter), (1, 2));
        assert_ne!(first.assignment.id, second.assignment.id);
        let keys = [key.public().clone()];
        let topic = "tm/1/centro/KIT-0001/down/document";
        let opened: wire::Assignment = signed::open(&Keys(&keys), SignedType::Assignment, topic, &first.envelope).unwrap();
        assert_eq!(opened, first.assignment);
        let elsewhere = "tm/1/centro/KIT-0002/down/document";
        assert!(signed::open::<wire::Assignment>(&Keys(&keys), SignedType::Assignment, elsewhere, &first.envelope).is_err());
    }

    #[test]
    fn an_id_is_given_once() {
        let (mut store, key) = (Store::in_memory().unwrap(), key());
        let draft = Draft { id: Some("a-1".parse().unwrap()), ..draft() };
        issue(&mut store, &draft, &key, WallTime(1)).unwrap();
        let other_kit = Draft { kit: "KIT-0002".parse().unwrap(), ..draft };
        assert!(matches!(issue(&mut store, &other_kit, &key, WallTime(2)), Err(AssignError::Taken(id)) if id == "a-1"));
    }

    #[test]
    fn an_end_before_the_start_and_odd_ids_are_refused() {
        let backwards = Draft { end: Some(WallTime(1_000_000)), ..draft() };
        assert!(matches!(sign(&backwards, 1, &key()), Err(AssignError::Times)));
        for text in ["", "two words", "è", &"x".repeat(65)] {
            assert!(text.parse::<LogicalId>().is_err(), "{text}");
        }
    }
}
