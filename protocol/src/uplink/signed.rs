//! The signed envelope: everything that changes state at the other side travels in it.
//!
//! Which bytes are signed is decided here; who signs and checks them comes in as a [`Signer`] or a [`Verifier`], so that
//! this crate knows no cryptography.

use alloc::vec::Vec;

use prost::Message;

use super::id::KeyId;
use super::wire::{self, SignedType};

/// Octets of a signature: r ‖ s of ECDSA P-256.
pub const SIGNATURE_OCTETS: usize = 64;

/// Makes ECDSA P-256/SHA-256 signatures with one key.
pub trait Signer {
    /// First 8 octets of SHA-256 of the SubjectPublicKeyInfo.
    fn key_id(&self) -> KeyId;
    /// r ‖ s over `octets`.
    fn sign(&self, octets: &[u8]) -> Result<[u8; SIGNATURE_OCTETS], SignError>;
}

/// Checks signatures against the keys it knows.
pub trait Verifier {
    /// Whether `signature` over `octets` was made by the key `key`, which is known and not revoked.
    fn verify(&self, key: KeyId, octets: &[u8], signature: &[u8]) -> Result<(), OpenError>;
}

/// The signer could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not sign")]
pub struct SignError;

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not an envelope, or its body is not the message it claims.
    #[error("not a signed message")]
    Malformed,
    /// Another type of message than was asked for.
    #[error("a signed message of another type")]
    WrongType,
    /// A key that is not known here.
    #[error("signed by an unknown key {0}")]
    UnknownKey(KeyId),
    /// The signature does not fit.
    #[error("the signature does not fit")]
    BadSignature,
}

/// The octets that are signed: `"tm/1\0" ‖ type ‖ topic ‖ 0x00 ‖ body`.
#[must_use]
pub fn to_be_signed(kind: SignedType, topic: &str, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(10 + topic.len() + body.len());
    octets.extend_from_slice(b"tm/1\0");
    octets.extend_from_slice(&(kind as i32).to_be_bytes());
    octets.extend_from_slice(topic.as_bytes());
    octets.push(0);
    octets.extend_from_slice(body);
    octets
}

/// Signs `message` for `topic` and gives the envelope's octets.
pub fn seal(signer: &dyn Signer, kind: SignedType, topic: &str, message: &impl Message) -> Result<Vec<u8>, SignError> {
    let body = message.encode_to_vec();
    let signature = signer.sign(&to_be_signed(kind, topic, &body))?;
    let envelope = wire::Signed { body, signature: signature.to_vec(), key_id: signer.key_id().0.to_vec(), r#type: kind.into() };
    Ok(envelope.encode_to_vec())
}

/// Opens an envelope that came on `topic`: decodes, verifies, and decodes its body.
pub fn open<M: Message + Default>(verifier: &dyn Verifier, kind: SignedType, topic: &str, octets: &[u8]) -> Result<M, OpenError> {
    let envelope = wire::Signed::decode(octets).map_err(|_| OpenError::Malformed)?;
    if envelope.r#type != i32::from(kind) {
        return Err(OpenError::WrongType);
    }
    let key = KeyId::from_slice(&envelope.key_id).ok_or(OpenError::Malformed)?;
    verifier.verify(key, &to_be_signed(kind, topic, &envelope.body), &envelope.signature)?;
    M::decode(envelope.body.as_slice()).map_err(|_| OpenError::Malformed)
}

/// The body without any check of who signed it: for what must be read before its key can be known (a kit's state carries
/// its own certificate). Nothing may be done on its strength but choosing the key to verify with.
pub fn peek<M: Message + Default>(kind: SignedType, octets: &[u8]) -> Result<M, OpenError> {
    let envelope = wire::Signed::decode(octets).map_err(|_| OpenError::Malformed)?;
    if envelope.r#type != i32::from(kind) {
        return Err(OpenError::WrongType);
    }
    M::decode(envelope.body.as_slice()).map_err(|_| OpenError::Malformed)
}
