//! Origins: what makes a measurement the same one when a device sends it twice (I2a), without telling its value.

use kit_protocol::uplink::id::Origin;
use ring::digest::{Context, SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// The kit's own HMAC key: origins of two kits do not compare, and an origin does not give its octets away.
pub struct OriginKey {
    key: hmac::Key,
    random: SystemRandom,
}

impl std::fmt::Debug for OriginKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginKey(…)")
    }
}

impl OriginKey {
    /// From the kit's secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), random: SystemRandom::new() }
    }

    /// First 8 octets of HMAC-SHA-256.
    #[must_use]
    pub fn origin(&self, octets: &[u8]) -> Origin {
        let mut origin = [0; 8];
        origin.copy_from_slice(&hmac::sign(&self.key, octets).as_ref()[..8]);
        Origin(origin)
    }

    /// SHA-256.
    #[must_use]
    pub fn digest(&self, octets: &[u8]) -> [u8; 32] {
        let mut whole = [0; 32];
        whole.copy_from_slice(digest(&SHA256, octets).as_ref());
        whole
    }

    /// SHA-256 of what comes in pieces.
    #[must_use]
    pub fn digester(&self) -> Digester {
        Digester(Context::new(&SHA256))
    }

    /// Eight random octets, for ids.
    #[must_use]
    pub fn random_octets(&self) -> [u8; 8] {
        let mut octets = [0; 8];
        if self.random.fill(&mut octets).is_err() {
            // The kernel's generator does not fail once the system runs; an id that is merely unlikely to repeat will do.
            octets = fastrand::u64(..).to_be_bytes();
        }
        octets
    }
}

/// SHA-256 under way.
pub struct Digester(Context);

impl Digester {
    /// Takes in the next octets.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let mut whole = [0; 32];
        whole.copy_from_slice(self.0.finish().as_ref());
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2a_an_origin_depends_on_the_kits_key_and_every_octet() {
        let (one, other) = (OriginKey::new(&[1; 32]), OriginKey::new(&[2; 32]));
        assert_eq!(one.origin(b"octets"), one.origin(b"octets"));
        assert_ne!(one.origin(b"octets"), other.origin(b"octets"));
        assert_ne!(one.origin(b"octets"), one.origin(b"octetS"));
    }
}
