//! Which keys speak for which kit.

use std::collections::HashMap;

use kit_protocol::uplink::id::{KeyId, KitId, Tenant};
use kit_protocol::uplink::wire;
use prost::Message as _;

use crate::signature::PublicKey;

/// Every key that was ever enrolled, by kit. It is read from the database at the start, so that signatures can be checked,
/// and batches answered, while the database gives trouble.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    kits: HashMap<KitId, KitKeys>,
}

#[derive(Clone, Debug)]
struct KitKeys {
    tenant: Tenant,
    valid: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

impl Keyring {
    /// Takes in a key of `kit`, once.
    pub fn enrol(&mut self, tenant: &Tenant, kit: &KitId, key: PublicKey, revoked: bool) {
        let keys = self.kits.entry(kit.clone()).or_insert_with(|| KitKeys {
            tenant: tenant.clone(),
            valid: Vec::new(),
            revoked: Vec::new(),
        });
        let list = if revoked { &mut keys.revoked } else { &mut keys.valid };
        if !list.contains(&key) {
            list.push(key);
        }
    }

    /// The tenant for which `kit` was enrolled.
    #[must_use]
    pub fn tenant(&self, kit: &KitId) -> Option<&Tenant> {
        self.kits.get(kit).map(|keys| &keys.tenant)
    }

    /// The keys whose signature counts as the kit's.
    #[must_use]
    pub fn valid(&self, kit: &KitId) -> &[PublicKey] {
        self.kits.get(kit).map_or(&[], |keys| &keys.valid)
    }

    /// Whether `key` was taken from the kit.
    #[must_use]
    pub fn revoked(&self, kit: &KitId, key: &PublicKey) -> bool {
        self.kits.get(kit).is_some_and(|keys| keys.revoked.contains(key))
    }

    /// The key that an envelope names as its signer's, among the kit's valid ones.
    #[must_use]
    pub fn signer(&self, kit: &KitId, envelope: &[u8]) -> Option<PublicKey> {
        let id = KeyId::from_slice(&wire::Signed::decode(envelope).ok()?.key_id)?;
        self.valid(kit).iter().find(|key| key.key_id() == id).cloned()
    }
}
