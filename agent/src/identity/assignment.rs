//! The assignment: a document that the centre signed. The kit activates it and never invents one (I4).

use kit_protocol::uplink::id::{KitId, Tenant};
use kit_protocol::uplink::signed::{self, OpenError, Verifier};
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{Assignment, SignedType};

/// Why an assignment was not activated, in words for whoever stands at the kit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// The signature does not hold.
    #[error("this document was not signed by the centre ({0}); ask the centre for it again")]
    NotTheCentre(OpenError),
    /// It names another kit.
    #[error("this document is for the kit {0}, not for this one; take the document of this kit")]
    AnotherKit(String),
    /// One with this or a higher counter was taken before.
    #[error("this document is older than one already taken here; ask the centre for a new one")]
    Old,
    /// Its time is over.
    #[error("this assignment ended; ask the centre for a new one")]
    Ended,
    /// It lacks its id.
    #[error("this document names no assignment; ask the centre for it again")]
    Nameless,
}

/// Opens and checks a signed assignment for this kit.
///
/// `counter` is the highest counter taken before; `now_us` is the wall clock where it is trusted.
pub fn open(
    octets: &[u8],
    verifier: &dyn Verifier,
    tenant: &Tenant,
    kit: &KitId,
    counter: u64,
    now_us: Option<i64>,
) -> Result<Assignment, AssignmentError> {
    let topic = Topic::Document(tenant.clone(), kit.clone()).name();
    let document: Assignment = match signed::open(verifier, SignedType::Assignment, &topic, octets) {
        Ok(document) => document,
        Err(error) => return Err(named_for_another(octets, kit).unwrap_or(AssignmentError::NotTheCentre(error))),
    };
    if document.kit != kit.as_str() || document.tenant != tenant.as_str() {
        return Err(AssignmentError::AnotherKit(document.kit));
    }
    if document.id.is_empty() || document.id.len() > 64 {
        return Err(AssignmentError::Nameless);
    }
    if document.counter <= counter {
        return Err(AssignmentError::Old);
    }
    if document.end_us != 0 && now_us.is_some_and(|now| now >= document.end_us) {
        return Err(AssignmentError::Ended);
    }
    Ok(document)
}

/// A document of another kit fails its signature here, since the topic is signed: say so rather than "forged".
fn named_for_another(octets: &[u8], kit: &KitId) -> Option<AssignmentError> {
    let claimed: Assignment = signed::peek(SignedType::Assignment, octets).ok()?;
    (claimed.kit != kit.as_str()).then_some(AssignmentError::AnotherKit(claimed.kit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::uplink::id::KeyId;
    use kit_protocol::uplink::signed::{SignError, Signer};

    /// A stand-in whose signature is a sum: what is checked here is which document is taken, not ECDSA.
    struct Sum;

    fn sum(octets: &[u8]) -> [u8; 64] {
        [octets.iter().fold(0_u8, |sum, octet| sum.wrapping_mul(31).wrapping_add(*octet)); 64]
    }

    impl Signer for Sum {
        fn key_id(&self) -> KeyId {
            KeyId([1; 8])
        }
        fn sign(&self, octets: &[u8]) -> Result<[u8; 64], SignError> {
            Ok(sum(octets))
        }
    }

    impl Verifier for Sum {
        fn verify(&self, _: KeyId, octets: &[u8], signature: &[u8]) -> Result<(), OpenError> {
            if signature == sum(octets) { Ok(()) } else { Err(OpenError::BadSignature) }
        }
    }

    fn document(kit: &str) -> (Vec<u8>, Tenant, KitId) {
        let (tenant, for_kit): (Tenant, KitId) = ("centro".parse().unwrap(), kit.parse().unwrap());
        let assignment = Assignment {
            id: "A-7".into(),
            tenant: "centro".into(),
            kit: kit.into(),
            patient: "P-1".into(),
            counter: 3,
            start_us: 0,
            end_us: 1_000,
        };
        let topic = Topic::Document(tenant.clone(), for_kit.clone()).name();
        (signed::seal(&Sum, SignedType::Assignment, &topic, &assignment).unwrap(), tenant, for_kit)
    }

    #[test]
    fn i4_only_this_kits_newest_signed_document_is_taken() {
        let (octets, tenant, kit) = document("KIT-0001");
        assert_eq!(open(&octets, &Sum, &tenant, &kit, 2, None).map(|a| a.id), Ok("A-7".into()));
        assert_eq!(open(&octets, &Sum, &tenant, &kit, 3, None), Err(AssignmentError::Old));
        assert_eq!(open(&octets, &Sum, &tenant, &kit, 2, Some(1_000)), Err(AssignmentError::Ended));
        let (other, ..) = document("KIT-0002");
        assert_eq!(open(&other, &Sum, &tenant, &kit, 2, None), Err(AssignmentError::AnotherKit("KIT-0002".into())));
        let mut forged = octets.clone();
        let last = forged.len() - 1;
        forged[last - 80] ^= 1;
        assert!(matches!(open(&forged, &Sum, &tenant, &kit, 2, None), Err(AssignmentError::NotTheCentre(_))));
        assert!(matches!(open(b"no document", &Sum, &tenant, &kit, 2, None), Err(AssignmentError::NotTheCentre(_))));
    }
}
