//! The kit's signing key, and the centre's keys whose signatures count.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kit_protocol::uplink::id::KeyId;
use kit_protocol::uplink::signed::{OpenError, SIGNATURE_OCTETS, SignError, Signer, Verifier};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use zeroize::Zeroizing;

use super::secret::{SecretError, refuse_exposed};

/// DER before the 65 octets of an uncompressed P-256 point in a SubjectPublicKeyInfo. Source: RFC 5480 §2.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07, 0x03, 0x42, 0x00,
];

fn key_id(spki: &[u8]) -> KeyId {
    let mut id = [0; 8];
    id.copy_from_slice(&digest(&SHA256, spki).as_ref()[..8]);
    KeyId(id)
}

/// The kit's identity key: ECDSA P-256. It signs batches and state.
pub struct KitKey {
    pair: EcdsaKeyPair,
    id: KeyId,
    random: SystemRandom,
}

impl std::fmt::Debug for KitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KitKey({})", self.id)
    }
}

impl KitKey {
    /// Reads a PKCS#8 PEM file that only its owner may read.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let name = || path.display().to_string();
        let mut file = File::open(path).map_err(|error| SecretError::File(name(), error))?;
        refuse_exposed(path, &file)?;
        let mut pem = Zeroizing::new(Vec::new());
        file.read_to_end(&mut pem).map_err(|error| SecretError::File(name(), error))?;
        let expected = || SecretError::Content(name(), "a P-256 private key in PKCS#8 PEM");
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| expected())?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &random)
            .map_err(|_| expected())?;
        let spki = [&P256_SPKI_PREFIX, pair.public_key().as_ref()].concat();
        Ok(Self { id: key_id(&spki), pair, random })
    }
}

impl Signer for KitKey {
    fn key_id(&self) -> KeyId {
        self.id
    }

    fn sign(&self, octets: &[u8]) -> Result<[u8; SIGNATURE_OCTETS], SignError> {
        let signature = self.pair.sign(&self.random, octets).map_err(|_| SignError)?;
        signature.as_ref().try_into().map_err(|_| SignError)
    }
}

/// The centre's public keys, pinned at provisioning.
#[derive(Clone, Debug, Default)]
pub struct CentreKeys {
    /// Key id and uncompressed point.
    keys: Vec<(KeyId, Vec<u8>)>,
}

impl CentreKeys {
    /// Reads public-key PEM files; there must be at least one.
    pub fn load(paths: &[PathBuf]) -> Result<Self, SecretError> {
        let keys = paths.iter().map(|path| Self::load_one(path)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(SecretError::Content("centre.keys".into(), "at least one public key of the centre"));
        }
        Ok(Self { keys })
    }

    fn load_one(path: &Path) -> Result<(KeyId, Vec<u8>), SecretError> {
        let name = || path.display().to_string();
        let pem = std::fs::read(path).map_err(|error| SecretError::File(name(), error))?;
        let expected = || SecretError::Content(name(), "a P-256 public key in PEM");
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(&pem).map_err(|_| expected())?;
        let point = spki.as_ref().strip_prefix(&P256_SPKI_PREFIX).filter(|point| point.len() == 65).ok_or_else(expected)?;
        Ok((key_id(spki.as_ref()), point.to_vec()))
    }
}

impl Verifier for CentreKeys {
    fn verify(&self, key: KeyId, octets: &[u8], signature: &[u8]) -> Result<(), OpenError> {
        let (_, point) = self.keys.iter().find(|(known, _)| *known == key).ok_or(OpenError::UnknownKey(key))?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(octets, signature).map_err(|_| OpenError::BadSignature)
    }
}
