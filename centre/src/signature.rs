//! ECDSA P-256 keys and SHA-256, by ring: who signed what came up, and the signature under what goes down.

use kit_protocol::uplink::id::KeyId;
use kit_protocol::uplink::signed::{OpenError, SIGNATURE_OCTETS, SignError, Signer, Verifier};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// Octets of a SHA-256 digest.
pub const DIGEST_OCTETS: usize = 32;
/// Octets of an uncompressed point of P-256: 0x04, x, y.
const POINT_OCTETS: usize = 65;
/// What stands before the point in every DER SubjectPublicKeyInfo of P-256 (RFC 5480 §2): id-ecPublicKey, secp256r1, and
/// a bit string of 65 octets. A key of any other shape is not ours.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a key was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the text of one key.
    #[error("expected a PEM file with an EC P-256 key (BEGIN PRIVATE KEY, PKCS#8, or BEGIN PUBLIC KEY)")]
    Pem,
    /// A key of another curve or algorithm.
    #[error("expected a key of the curve P-256")]
    Curve,
}

/// The SHA-256 of `octets`.
#[must_use]
pub fn sha256(octets: &[u8]) -> [u8; DIGEST_OCTETS] {
    let mut out = [0; DIGEST_OCTETS];
    out.copy_from_slice(digest(&SHA256, octets).as_ref());
    out
}

/// Random octets for names, and for spreading reconnections; `None` where the system gives none.
#[must_use]
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).ok()?;
    Some(octets)
}

/// The public half of a P-256 key.
///
/// Shape: SubjectPublicKeyInfo in DER, 91 octets. Source: RFC 5480.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: [u8; POINT_OCTETS],
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

impl PublicKey {
    /// From a SubjectPublicKeyInfo in DER. Errors: [`KeyError::Curve`] for any other algorithm, curve or form of point.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let point: [u8; POINT_OCTETS] =
            spki.strip_prefix(&SPKI_PREFIX).and_then(|point| point.try_into().ok()).ok_or(KeyError::Curve)?;
        if point.first() == Some(&4) { Ok(Self { point }) } else { Err(KeyError::Curve) }
    }

    /// From `BEGIN PUBLIC KEY`.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        Self::from_spki(&spki)
    }

    /// As DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), self.point.as_slice()].concat()
    }

    /// First 8 octets of SHA-256 of the DER.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let [a, b, c, d, e, f, g, h, ..] = sha256(&self.spki());
        KeyId([a, b, c, d, e, f, g, h])
    }

    /// Whether `signature` (r ‖ s) over `octets` is this key's.
    #[must_use]
    pub fn signed(&self, octets: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.point).verify(octets, signature).is_ok()
    }
}

/// Checks against a handful of keys, as those of one kit are.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a>(pub &'a [PublicKey]);

impl Verifier for Keys<'_> {
    fn verify(&self, key: KeyId, octets: &[u8], signature: &[u8]) -> Result<(), OpenError> {
        // Eight octets can collide by intent, so every key of that id may try.
        let mut known = self.0.iter().filter(|candidate| candidate.key_id() == key).peekable();
        if known.peek().is_none() {
            return Err(OpenError::UnknownKey(key));
        }
        if known.any(|candidate| candidate.signed(octets, signature)) { Ok(()) } else { Err(OpenError::BadSignature) }
    }
}

/// A P-256 key that signs.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.key_id())
    }
}

impl SigningKey {
    /// From `BEGIN PRIVATE KEY` (PKCS#8 with the public key in it, as openssl and rcgen write it).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        Self::from_pkcs8(key.secret_pkcs8_der())
    }

    /// From PKCS#8 in DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).map_err(|_| KeyError::Curve)?;
        let point = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Curve)?;
        Ok(Self { pair, public: PublicKey { point }, random })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl Signer for SigningKey {
    fn key_id(&self) -> KeyId {
        self.public.key_id()
    }

    fn sign(&self, octets: &[u8]) -> Result<[u8; SIGNATURE_OCTETS], SignError> {
        let signature = self.pair.sign(&self.random, octets).map_err(|_| SignError)?;
        signature.as_ref().try_into().map_err(|_| SignError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (SigningKey, rcgen::KeyPair) {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        (SigningKey::from_pem(&pair.serialize_pem()).unwrap(), pair)
    }

    #[test]
    fn the_key_id_is_that_of_the_public_key_in_pem() {
        let (signing, pair) = key();
        let public = PublicKey::from_pem(&pair.public_key_pem()).unwrap();
        assert_eq!(&public, signing.public());
        assert_eq!(public.spki().len(), 91);
        assert_eq!(public.key_id().0, sha256(&public.spki())[..8]);
        assert_eq!(PublicKey::from_spki(&public.spki()).unwrap(), public);
    }

    #[test]
    fn a_signature_fits_its_octets_and_no_others() {
        let (signing, _) = key();
        let signature = signing.sign(b"what was signed").unwrap();
        let keys = [signing.public().clone()];
        let verify = |octets: &[u8], signature: &[u8]| Keys(&keys).verify(signing.key_id(), octets, signature);
        assert_eq!(verify(b"what was signed", &signature), Ok(()));
        assert_eq!(verify(b"what was forged", &signature), Err(OpenError::BadSignature));
        assert_eq!(verify(b"what was signed", &signature[..63]), Err(OpenError::BadSignature));
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(b"what was signed", &flipped), Err(OpenError::BadSignature), "bit {bit}");
        }
    }

    #[test]
    fn another_key_is_unknown() {
        let (signing, _) = key();
        let (other, _) = key();
        let signature = signing.sign(b"octets").unwrap();
        let known = [other.public().clone()];
        assert_eq!(Keys(&known).verify(signing.key_id(), b"octets", &signature), Err(OpenError::UnknownKey(signing.key_id())));
        assert_eq!(Keys(&known).verify(other.key_id(), b"octets", &signature), Err(OpenError::BadSignature));
    }

    #[test]
    fn keys_of_other_curves_and_other_texts_are_refused() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(SigningKey::from_pem(&p384.serialize_pem()).unwrap_err(), KeyError::Curve);
        assert_eq!(PublicKey::from_pem(&p384.public_key_pem()).unwrap_err(), KeyError::Curve);
        assert_eq!(SigningKey::from_pem("no key").unwrap_err(), KeyError::Pem);
        assert_eq!(PublicKey::from_spki(&[]).unwrap_err(), KeyError::Curve);
    }
}
