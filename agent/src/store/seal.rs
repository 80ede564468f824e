//! Sealing: what reaches the disk is authenticated and unreadable without the epoch's key. There is one `seal` and one `open`.
//!
//! Each epoch has a root key, kept only wrapped under the kit's key-encryption key. Each opening of the store draws a *run*,
//! and with it a fresh key, HKDF(root, salt = 32 random octets, info = kit, epoch, algorithm), whose salt is durable before
//! the first seal: a number assigned again after a power cut never meets the same key. A record's nonce is
//! lane ‖ 0×3 ‖ seq; its associated data is kit, epoch, run, lane, seq and schema. What has no lane and number (definitions,
//! marks, cursors, files) is sealed under a key of its own with a random nonce.
//!
//! The one home of `ring` in the store. ring keeps its expanded keys until they are dropped and does not clear them; every
//! copy that is ours is cleared.

use std::fmt;

use kit_protocol::uplink::id::{EpochId, KitId, Lane, RunId};
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf, hmac};
use zeroize::Zeroizing;

/// Octets of a key.
pub const KEY_OCTETS: usize = 32;
/// Octets of a run's salt.
pub(crate) const SALT_OCTETS: usize = 32;
/// Octets that sealing a record adds: the tag.
pub(crate) const TAG_OCTETS: usize = 16;
/// Octets of the name that stands for a label in the database.
pub(crate) const NAME_OCTETS: usize = 16;
/// Octets before the ciphertext of what is sealed with a random nonce: algorithm, nonce.
const LOOSE_HEADER_OCTETS: usize = 1 + NONCE_LEN;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// It was not sealed under this key for this place, or it was changed since.
    #[error("does not open under this key")]
    DoesNotOpen,
    /// The operating system gave no random octets, or the key could not be made.
    #[error("the operating system gave no random octets")]
    NoRandom,
}

/// The kit's key-encryption key, which wraps every root key. Cleared when dropped.
#[derive(Clone)]
pub struct Kek(Zeroizing<[u8; KEY_OCTETS]>);

impl Kek {
    /// Takes the 32 octets of the systemd credential or key file.
    #[must_use]
    pub fn new(octets: [u8; KEY_OCTETS]) -> Self {
        Self(Zeroizing::new(octets))
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(…)")
    }
}

/// Which cipher; the octet stands in headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// AES-256-GCM, where the processor has instructions for it.
    Aes256Gcm,
    /// ChaCha20-Poly1305, elsewhere.
    ChaCha20Poly1305,
}

impl Algorithm {
    /// The faster one on this processor.
    pub(crate) fn of_this_processor() -> Self {
        #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
        let has_aes = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    pub(crate) fn to_octet(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    pub(crate) fn from_octet(octet: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|known| known.to_octet() == octet)
    }
}

/// What a record was sealed for; it opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its lane.
    pub(crate) lane: Lane,
    /// Its number.
    pub(crate) seq: u64,
    /// Which encoding its bytes have.
    pub(crate) schema: u8,
}

/// The keys of one epoch.
pub(crate) struct EpochSeal {
    kit: KitId,
    epoch: EpochId,
    root: Zeroizing<[u8; KEY_OCTETS]>,
    loose: Key,
    naming: hmac::Key,
}

impl EpochSeal {
    /// Keys for a fresh epoch, from a root key that never was before.
    pub(crate) fn fresh(kit: &KitId, epoch: EpochId) -> Result<Self, SealError> {
        let mut root = Zeroizing::new([0; KEY_OCTETS]);
        fill_random(&mut root[..])?;
        Self::from_root(kit, epoch, root)
    }

    /// The keys behind what [`EpochSeal::wrap`] gave.
    pub(crate) fn unwrap(kek: &Kek, kit: &KitId, epoch: EpochId, wrapped: &[u8]) -> Result<Self, SealError> {
        let plain = Zeroizing::new(open_loose(&kek.0, &context("wrap", kit, epoch), wrapped)?);
        let root = Zeroizing::new(<[u8; KEY_OCTETS]>::try_from(plain.as_slice()).map_err(|_| SealError::DoesNotOpen)?);
        Self::from_root(kit, epoch, root)
    }

    /// The root key, wrapped under the key-encryption key.
    pub(crate) fn wrap(&self, kek: &Kek) -> Result<Vec<u8>, SealError> {
        seal_loose(&kek.0, &context("wrap", &self.kit, self.epoch), self.root.as_slice())
    }

    /// The key of one run.
    pub(crate) fn run(&self, run: RunId, salt: &[u8; SALT_OCTETS], algorithm: Algorithm) -> Result<RunSeal, SealError> {
        let mut info = context("run", &self.kit, self.epoch);
        info.push(algorithm.to_octet());
        let key = Key::derive(&self.root, salt, &info, algorithm)?;
        let mut bound_to = context("record", &self.kit, self.epoch);
        bound_to.extend_from_slice(&run.0);
        Ok(RunSeal { key, bound_to })
    }

    /// Seals what has no lane and number; `label` says what it is, and it opens under no other.
    pub(crate) fn seal_loose(&self, label: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.loose.seal_with_random_nonce(label, plain)
    }

    /// Opens what [`EpochSeal::seal_loose`] gave for the same label.
    pub(crate) fn open_loose(&self, label: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let algorithm = sealed.first().copied().and_then(Algorithm::from_octet).ok_or(SealError::DoesNotOpen)?;
        if algorithm == self.loose.algorithm {
            return self.loose.open_with_its_nonce(label, sealed);
        }
        loose_key(&self.root, &self.kit, self.epoch, algorithm)?.open_with_its_nonce(label, sealed)
    }

    /// A name that stands for `label` in this epoch's database and tells nothing about it.
    pub(crate) fn name(&self, label: &str) -> [u8; NAME_OCTETS] {
        let tag = hmac::sign(&self.naming, label.as_bytes());
        let mut name = [0; NAME_OCTETS];
        name.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        name
    }

    fn from_root(kit: &KitId, epoch: EpochId, root: Zeroizing<[u8; KEY_OCTETS]>) -> Result<Self, SealError> {
        let loose = loose_key(&root, kit, epoch, Algorithm::of_this_processor())?;
        let mut naming = Zeroizing::new([0; KEY_OCTETS]);
        derive(&root, &[], &context("name", kit, epoch), &mut naming)?;
        let naming = hmac::Key::new(hmac::HMAC_SHA256, naming.as_slice());
        Ok(Self { kit: kit.clone(), epoch, root, loose, naming })
    }
}

impl fmt::Debug for EpochSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochSeal({}, …)", self.epoch)
    }
}

/// The key of one run: seals each number of each lane at most once.
pub(crate) struct RunSeal {
    key: Key,
    bound_to: Vec<u8>,
}

impl RunSeal {
    /// Appends `plain`, sealed for `place`, to `out`: the ciphertext and its tag. The caller never seals a place twice.
    pub(crate) fn seal(&self, place: Place, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let start = out.len();
        out.extend_from_slice(plain);
        self.key.seal(record_nonce(place), &self.associated(place), out, start)
    }

    /// Opens what was sealed for `place` under this run.
    pub(crate) fn open(&self, place: Place, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.key.open(record_nonce(place), &self.associated(place), sealed)
    }

    fn associated(&self, place: Place) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.bound_to.len() + 10);
        octets.extend_from_slice(&self.bound_to);
        octets.push(lane_octet(place.lane));
        octets.extend_from_slice(&place.seq.to_be_bytes());
        octets.push(place.schema);
        octets
    }
}

impl fmt::Debug for RunSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunSeal(…)")
    }
}

/// A value sealed under the key-encryption key itself, by which a store knows whether it was given its own key again.
pub(crate) fn seal_under_kek(kek: &Kek, label: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    seal_loose(&kek.0, label, plain)
}

/// Opens what [`seal_under_kek`] gave.
pub(crate) fn open_under_kek(kek: &Kek, label: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    open_loose(&kek.0, label, sealed)
}

/// Fills `octets` from the operating system.
pub(crate) fn fill_random(octets: &mut [u8]) -> Result<(), SealError> {
    SystemRandom::new().fill(octets).map_err(|_| SealError::NoRandom)
}

/// First octets of SHA-256, against torn or flipped bits where nothing is sealed.
pub(crate) fn check_octets<const N: usize>(octets: &[u8]) -> [u8; N] {
    let full = digest::digest(&digest::SHA256, octets);
    let mut check = [0; N];
    check.iter_mut().zip(full.as_ref()).for_each(|(to, from)| *to = *from);
    check
}

/// One AEAD key. The only place where octets are sealed and opened.
struct Key {
    algorithm: Algorithm,
    aead: LessSafeKey,
}

impl Key {
    fn derive(secret: &Zeroizing<[u8; KEY_OCTETS]>, salt: &[u8], info: &[u8], algorithm: Algorithm) -> Result<Self, SealError> {
        let mut octets = Zeroizing::new([0; KEY_OCTETS]);
        derive(secret, salt, info, &mut octets)?;
        let aead = match algorithm {
            Algorithm::Aes256Gcm => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let unbound = UnboundKey::new(aead, octets.as_slice()).map_err(|_| SealError::NoRandom)?;
        Ok(Self { algorithm, aead: LessSafeKey::new(unbound) })
    }

    /// Seals `octets[start..]` in place and appends the tag.
    fn seal(&self, nonce: [u8; NONCE_LEN], bound_to: &[u8], octets: &mut Vec<u8>, start: usize) -> Result<(), SealError> {
        let plain = octets.get_mut(start..).ok_or(SealError::DoesNotOpen)?;
        let tag = self
            .aead
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), plain)
            .map_err(|_| SealError::DoesNotOpen)?;
        octets.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(&self, nonce: [u8; NONCE_LEN], bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut octets = sealed.to_vec();
        let plain = self
            .aead
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), &mut octets)
            .map_err(|_| SealError::DoesNotOpen)?
            .len();
        octets.truncate(plain);
        Ok(octets)
    }

    /// Shape: algorithm (1) · nonce (12) · ciphertext · tag (16).
    fn seal_with_random_nonce(&self, label: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce)?;
        let mut octets = Vec::with_capacity(LOOSE_HEADER_OCTETS + plain.len() + TAG_OCTETS);
        octets.push(self.algorithm.to_octet());
        octets.extend_from_slice(&nonce);
        octets.extend_from_slice(plain);
        self.seal(nonce, label, &mut octets, LOOSE_HEADER_OCTETS)?;
        Ok(octets)
    }

    fn open_with_its_nonce(&self, label: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (header, ciphertext) = sealed.split_at_checked(LOOSE_HEADER_OCTETS).ok_or(SealError::DoesNotOpen)?;
        let nonce = header.get(1..).and_then(|nonce| nonce.try_into().ok()).ok_or(SealError::DoesNotOpen)?;
        self.open(nonce, label, ciphertext)
    }
}

/// The key for what has no lane and number, by algorithm.
fn loose_key(root: &Zeroizing<[u8; KEY_OCTETS]>, kit: &KitId, epoch: EpochId, algorithm: Algorithm) -> Result<Key, SealError> {
    let mut info = context("loose", kit, epoch);
    info.push(algorithm.to_octet());
    Key::derive(root, &[], &info, algorithm)
}

fn seal_loose(secret: &Zeroizing<[u8; KEY_OCTETS]>, label: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    Key::derive(secret, &[], b"tm/1/kek", Algorithm::of_this_processor())?.seal_with_random_nonce(label, plain)
}

fn open_loose(secret: &Zeroizing<[u8; KEY_OCTETS]>, label: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let algorithm = sealed.first().copied().and_then(Algorithm::from_octet).ok_or(SealError::DoesNotOpen)?;
    Key::derive(secret, &[], b"tm/1/kek", algorithm)?.open_with_its_nonce(label, sealed)
}

/// HKDF-SHA-256 (RFC 5869).
fn derive(
    secret: &Zeroizing<[u8; KEY_OCTETS]>,
    salt: &[u8],
    info: &[u8],
    out: &mut Zeroizing<[u8; KEY_OCTETS]>,
) -> Result<(), SealError> {
    let info = [info];
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret.as_slice());
    let material = pseudorandom.expand(&info, hkdf::HKDF_SHA256).map_err(|_| SealError::NoRandom)?;
    material.fill(out.as_mut_slice()).map_err(|_| SealError::NoRandom)
}

/// Names a use of a key, so that no two uses share one. Shape: `tm/1/` use · 0 · length of kit (1) · kit · epoch (16).
fn context(use_: &str, kit: &KitId, epoch: EpochId) -> Vec<u8> {
    let kit = kit.as_str().as_bytes();
    let mut octets = Vec::with_capacity(5 + use_.len() + 2 + kit.len() + epoch.0.len() + 24);
    octets.extend_from_slice(b"tm/1/");
    octets.extend_from_slice(use_.as_bytes());
    octets.push(0);
    octets.push(u8::try_from(kit.len()).unwrap_or(u8::MAX));
    octets.extend_from_slice(kit);
    octets.extend_from_slice(&epoch.0);
    octets
}

/// lane ‖ 0×3 ‖ seq, big-endian.
fn record_nonce(place: Place) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = lane_octet(place.lane);
    nonce[4..].copy_from_slice(&place.seq.to_be_bytes());
    nonce
}

/// The lane's number on the wire, which is never renumbered.
pub(crate) fn lane_octet(lane: Lane) -> u8 {
    u8::try_from(lane.to_wire() as i32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: EpochId = EpochId([7; 16]);
    const RUN: RunId = RunId([1; 8]);
    const SALT: [u8; SALT_OCTETS] = [9; SALT_OCTETS];

    fn kit() -> KitId {
        "KIT-0001".parse().unwrap()
    }

    fn place(lane: Lane, seq: u64) -> Place {
        Place { lane, seq, schema: 1 }
    }

    fn sealed(run: &RunSeal, place: Place, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        run.seal(place, plain, &mut out).unwrap();
        out
    }

    #[test]
    fn a_record_opens_only_in_its_place() {
        let seal = EpochSeal::fresh(&kit(), EPOCH).unwrap();
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let run = seal.run(RUN, &SALT, algorithm).unwrap();
            let here = place(Lane::Vitals, 5);
            let octets = sealed(&run, here, b"98 %");
            assert_eq!(octets.len(), 4 + TAG_OCTETS);
            assert_eq!(run.open(here, &octets).unwrap(), b"98 %");
            for elsewhere in [place(Lane::Vitals, 6), place(Lane::Urgent, 5), Place { schema: 2, ..here }] {
                assert_eq!(run.open(elsewhere, &octets), Err(SealError::DoesNotOpen));
            }
            let other_run = seal.run(RunId([2; 8]), &SALT, algorithm).unwrap();
            assert_eq!(other_run.open(here, &octets), Err(SealError::DoesNotOpen));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let seal = EpochSeal::fresh(&kit(), EPOCH).unwrap();
        let run = seal.run(RUN, &SALT, Algorithm::of_this_processor()).unwrap();
        let here = place(Lane::Journal, 1);
        let octets = sealed(&run, here, b"opened");
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(run.open(here, &flipped), Err(SealError::DoesNotOpen), "bit {bit}");
        }
        for length in 0..octets.len() {
            assert_eq!(run.open(here, &octets[..length]), Err(SealError::DoesNotOpen), "length {length}");
        }
    }

    #[test]
    fn another_salt_gives_another_key() {
        let seal = EpochSeal::fresh(&kit(), EPOCH).unwrap();
        let here = place(Lane::Vitals, 1);
        let first = sealed(&seal.run(RUN, &SALT, Algorithm::Aes256Gcm).unwrap(), here, b"same");
        let second = sealed(&seal.run(RUN, &[8; SALT_OCTETS], Algorithm::Aes256Gcm).unwrap(), here, b"same");
        assert_ne!(first, second);
    }

    #[test]
    fn a_root_key_is_unwrapped_only_by_its_own_kek_kit_and_epoch() {
        let kek = Kek::new([3; KEY_OCTETS]);
        let seal = EpochSeal::fresh(&kit(), EPOCH).unwrap();
        let wrapped = seal.wrap(&kek).unwrap();
        assert_eq!(wrapped.len(), LOOSE_HEADER_OCTETS + KEY_OCTETS + TAG_OCTETS);
        let again = EpochSeal::unwrap(&kek, &kit(), EPOCH, &wrapped).unwrap();
        assert_eq!(*again.root, *seal.root);
        assert!(EpochSeal::unwrap(&Kek::new([4; KEY_OCTETS]), &kit(), EPOCH, &wrapped).is_err());
        assert!(EpochSeal::unwrap(&kek, &"KIT-0002".parse().unwrap(), EPOCH, &wrapped).is_err());
        assert!(EpochSeal::unwrap(&kek, &kit(), EpochId([8; 16]), &wrapped).is_err());
    }

    #[test]
    fn what_has_no_number_opens_under_its_label_only_whatever_the_processor() {
        let seal = EpochSeal::fresh(&kit(), EPOCH).unwrap();
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let octets =
                loose_key(&seal.root, &kit(), EPOCH, algorithm).unwrap().seal_with_random_nonce(b"mark", b"record 186").unwrap();
            assert_eq!(seal.open_loose(b"mark", &octets).unwrap(), b"record 186");
            assert_eq!(seal.open_loose(b"definition", &octets), Err(SealError::DoesNotOpen));
            for length in 0..octets.len() {
                assert!(seal.open_loose(b"mark", &octets[..length]).is_err());
            }
        }
    }

    #[test]
    fn i7_debug_shows_no_key() {
        let seal = EpochSeal::fresh(&kit(), EPOCH).unwrap();
        let run = seal.run(RUN, &SALT, Algorithm::of_this_processor()).unwrap();
        let shown = format!("{:?} {:?} {:?}", Kek::new([0xAB; KEY_OCTETS]), seal, run);
        assert_eq!(shown, format!("Kek(…) EpochSeal({EPOCH}, …) RunSeal(…)"));
    }

    #[test]
    fn the_nonce_is_lane_three_zeros_and_the_number() {
        assert_eq!(record_nonce(place(Lane::Vitals, 0x0102)), [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
