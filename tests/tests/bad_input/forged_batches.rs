//! Batches in another kit's name. The embedded broker has no access list: what stands here is the centre's own wall.

use harness::authority::{Identity, Validity};
use harness::client::{self, Client};
use harness::plant::TENANT;
use kit_agent::identity::keys::KitKey;
use kit_centre::store::{Filter, Reader};
use kit_protocol::uplink::id::{KitId, Lane};
use kit_protocol::uplink::signed::{self, Signer};
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, SignedType, record::Content};
use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Bench, layout, until};

/// A kit as far as its messages go.
struct Kit {
    id: KitId,
    key: KitKey,
    identity: Identity,
    client: Client,
}

impl Kit {
    async fn enrol(bench: &Bench, id: &str) -> Self {
        let id: KitId = id.parse().unwrap();
        let identity = bench.plant.authority.kit(&id, &TENANT.parse().unwrap(), Validity::Current).unwrap();
        let mut client = Client::new(client::options(&identity, bench.plant.broker.address().port()));
        client.connected().await;
        let mut kit = Self { key: KitKey::load(&identity.key).unwrap(), id, identity, client };
        let topic = Topic::State(TENANT.parse().unwrap(), kit.id.clone()).name();
        let state = wire::State {
            boot_id: vec![1; 16],
            nonce: vec![2; 8],
            certificate: CertificateDer::from_pem_file(&kit.identity.certificate).unwrap().to_vec(),
            ..wire::State::default()
        };
        let state = signed::seal(&kit.key, SignedType::State, &topic, &state).unwrap();
        kit.client.publish(&topic, true, &state).await;
        kit
    }

    fn topic(&self) -> String {
        Topic::Up(TENANT.parse().unwrap(), self.id.clone(), Lane::Journal).name()
    }
}

/// A batch of one record, with this number.
fn batch(seq: u64) -> wire::Batch {
    let event = wire::DeviceEvent { device: 0, what: "connected".to_owned(), count: seq };
    let record = wire::Record { content: Some(Content::DeviceEvent(event)), ..wire::Record::default() };
    wire::Batch {
        epoch: vec![3; 16],
        lane: Lane::Journal.to_wire().into(),
        run: vec![4; 8],
        nonce: vec![2; 8],
        first: seq,
        entries: vec![wire::Entry { skipped: 0, record: record.encode_to_vec() }],
        ..wire::Batch::default()
    }
}

fn sealed(signer: &dyn Signer, topic: &str, seq: u64) -> Vec<u8> {
    signed::seal(signer, SignedType::Batch, topic, &batch(seq)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_batch_in_another_kits_name_is_stored_nowhere_and_audited() {
    let bench = Bench::build(layout(&[])).await;
    let mut victim = Kit::enrol(&bench, "KIT-0001").await;
    let mut thief = Kit::enrol(&bench, "KIT-0002").await;
    let (of_victim, of_thief) = (victim.topic(), thief.topic());
    let database = bench.plant.database();
    until("both kits are known", || (Reader::open(&database).ok()?.kits().ok()?.len() == 2).then_some(())).await;

    // Signed for the victim's topic by the thief's key; the thief's own batch on the victim's topic; the victim's batch on the
    // thief's; the victim's key named over the thief's signature; a sound batch with an octet of its signature turned.
    thief.client.publish(&of_victim, false, &sealed(&thief.key, &of_victim, 11)).await;
    thief.client.publish(&of_victim, false, &sealed(&thief.key, &of_thief, 12)).await;
    thief.client.publish(&of_thief, false, &sealed(&victim.key, &of_victim, 13)).await;
    let mut named = wire::Signed::decode(sealed(&thief.key, &of_victim, 14).as_slice()).unwrap();
    named.key_id = victim.key.key_id().0.to_vec();
    thief.client.publish(&of_victim, false, &named.encode_to_vec()).await;
    let mut turned = wire::Signed::decode(sealed(&victim.key, &of_victim, 15).as_slice()).unwrap();
    turned.signature[7] ^= 1;
    thief.client.publish(&of_victim, false, &turned.encode_to_vec()).await;
    // What is sound gets through all the while.
    victim.client.publish(&of_victim, false, &sealed(&victim.key, &of_victim, 1)).await;
    thief.client.publish(&of_thief, false, &sealed(&thief.key, &of_thief, 2)).await;

    let audit = until("everything was looked at", || {
        let reader = Reader::open(&database).ok()?;
        let stored = reader.records(Filter::default()).count();
        let audit = reader.audit().ok()?;
        (stored >= 2 && audit.iter().map(|entry| entry.count).sum::<u64>() >= 5).then_some(audit)
    })
    .await;
    let refused = |topic: &str, what: &str| -> u64 {
        audit.iter().filter(|entry| entry.topic == topic && entry.what == what).map(|entry| entry.count).sum()
    };
    assert_eq!(refused(&of_victim, "unknown-key"), 2, "{audit:?}");
    assert_eq!(refused(&of_victim, "bad-signature"), 2, "{audit:?}");
    assert_eq!(refused(&of_thief, "unknown-key"), 1, "{audit:?}");
    let reader = Reader::open(&database).unwrap();
    let mut stored: Vec<(String, u64)> = reader
        .records(Filter::default())
        .map(|record| record.unwrap())
        .map(|record| (record.kit.to_string(), record.seq))
        .collect();
    stored.sort();
    assert_eq!(stored, [("KIT-0001".to_owned(), 1), ("KIT-0002".to_owned(), 2)]);
}
