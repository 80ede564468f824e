//! A test authority, kits that sign as real ones do, and a centre that takes what they send.

use std::path::PathBuf;
use std::sync::Arc;

use kit_protocol::uplink::id::{EpochId, KitId, Lane, Nonce, Origin, RunId, Tenant};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::signed;
use kit_protocol::uplink::topic::Topic;
use kit_protocol::uplink::wire::{self, SignedType, definition::What, record::Content};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::assignment::{Draft, issue};
use crate::certificate::Authority;
use crate::clock::WallTime;
use crate::intake::{Intake, Message, Outgoing};
use crate::signature::{Keys, PublicKey, SigningKey};
use crate::store::{Filter, Reader, Store, StoredRecord};

/// When the tests play: 2026-06-01.
pub(crate) const NOW: WallTime = WallTime(1_780_272_000_000_000);

pub(crate) struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl TestAuthority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Kit test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn trusted(&self) -> Authority {
        Authority::from_pem(&self.pem).unwrap()
    }

    /// A client certificate that is valid from `years.0` to `years.1`.
    pub(crate) fn certificate(&self, names: &[(DnType, &str)], key: &KeyPair, years: (i32, i32)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn kit(&self, tenant: &str, kit: &str) -> TestKit {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let names = [(DnType::CommonName, kit), (DnType::OrganizationName, tenant)];
        let certificate = self.certificate(&names, &pair, (2025, 2027));
        let key = SigningKey::from_pkcs8(pair.serialized_der()).unwrap();
        TestKit {
            tenant: tenant.parse().unwrap(),
            kit: kit.parse().unwrap(),
            key,
            certificate,
            epoch: EpochId([7; 16]),
            run: RunId([1; 8]),
            nonce: Nonce([9; 8]),
        }
    }
}

/// The standard definitions of a batch: 1 the clock, 2 the device, 3 the driver, 4 an assignment.
pub(crate) fn definitions(assignment: Option<&str>) -> Vec<wire::Definition> {
    let mut definitions = vec![
        (1, What::Clock(wire::Clock { boot_id: vec![5; 16], offset_us: NOW.0, quality: 3, error_ms: 10 })),
        (2, What::Device(wire::Device { identity: "SN-1".into(), ..wire::Device::default() })),
        (3, What::Driver(wire::Driver { name: "oximeter-nonin".into(), version: "1".into() })),
    ];
    if let Some(id) = assignment {
        definitions.push((4, What::Assignment(wire::AssignmentRef { id: id.into() })));
    }
    definitions.into_iter().map(|(number, what)| wire::Definition { number, what: Some(what) }).collect()
}

/// A reading that differs from every other by `value`.
pub(crate) fn reading(value: i64) -> wire::Record {
    let quantity = wire::value::Quantity::Mantissa(value);
    let value = wire::Value { code: 150_456, quantity: Some(quantity), exponent: 0, unit: "%".into() };
    let reading = wire::Reading { kind: 1, device: 2, driver: 3, values: vec![value], ..wire::Reading::default() };
    wire::Record { clock: 1, boottime_ns: 1_000, content: Some(Content::Reading(reading)), ..wire::Record::default() }
}

pub(crate) fn with_origin(mut record: wire::Record, origin: u64) -> wire::Record {
    record.origin = Origin(origin.to_be_bytes()).0.to_vec();
    record
}

pub(crate) fn journal(content: Content) -> wire::Record {
    wire::Record { clock: 1, content: Some(content), ..wire::Record::default() }
}

pub(crate) struct TestKit {
    pub(crate) tenant: Tenant,
    pub(crate) kit: KitId,
    pub(crate) key: SigningKey,
    pub(crate) certificate: Vec<u8>,
    pub(crate) epoch: EpochId,
    pub(crate) run: RunId,
    pub(crate) nonce: Nonce,
}

impl TestKit {
    /// As a kit seals: the octets of each record made once.
    pub(crate) fn body(&self, lane: Lane, records: &[(u64, Vec<u8>)], definitions: Vec<wire::Definition>) -> wire::Batch {
        let mut last: Option<u64> = None;
        let entries = records.iter().map(|(seq, record)| {
            let skipped = last.map_or(0, |last| u32::try_from(seq - last - 1).unwrap());
            last = Some(*seq);
            wire::Entry { skipped, record: record.clone() }
        });
        wire::Batch {
            epoch: self.epoch.0.to_vec(),
            lane: lane.to_wire().into(),
            run: self.run.0.to_vec(),
            nonce: self.nonce.0.to_vec(),
            first: records.first().map_or(1, |(seq, _)| *seq),
            entries: entries.collect(),
            definitions,
        }
    }

    pub(crate) fn up(&self, lane: Lane) -> String {
        Topic::Up(self.tenant.clone(), self.kit.clone(), lane).name()
    }

    pub(crate) fn sign(&self, kind: SignedType, topic: &str, body: &impl prost::Message) -> Message {
        let payload = signed::seal(&self.key, kind, topic, body).unwrap();
        Message { topic: topic.to_owned(), payload: payload.into() }
    }

    pub(crate) fn octets(&self, lane: Lane, records: &[(u64, Vec<u8>)], assignment: Option<&str>) -> Message {
        self.sign(SignedType::Batch, &self.up(lane), &self.body(lane, records, definitions(assignment)))
    }

    pub(crate) fn batch(&self, lane: Lane, records: &[(u64, wire::Record)]) -> Message {
        let octets: Vec<_> = records.iter().map(|(seq, record)| (*seq, record.encode_to_vec())).collect();
        self.octets(lane, &octets, None)
    }

    pub(crate) fn vitals(&self, numbers: impl IntoIterator<Item = u64>) -> Message {
        let records: Vec<_> = numbers.into_iter().map(|seq| (seq, reading(i64::try_from(seq).unwrap()))).collect();
        self.batch(Lane::Vitals, &records)
    }

    pub(crate) fn state_body(&self) -> wire::State {
        let epoch = wire::EpochState { epoch: self.epoch.0.to_vec(), open: true, ..wire::EpochState::default() };
        wire::State {
            version: "0.1.0".into(),
            nonce: self.nonce.0.to_vec(),
            certificate: self.certificate.clone(),
            epochs: vec![epoch],
            ..wire::State::default()
        }
    }

    pub(crate) fn state_topic(&self) -> String {
        Topic::State(self.tenant.clone(), self.kit.clone()).name()
    }

    pub(crate) fn state(&self) -> Message {
        self.sign(SignedType::State, &self.state_topic(), &self.state_body())
    }
}

pub(crate) struct TestCentre {
    pub(crate) authority: TestAuthority,
    pub(crate) intake: Intake,
    pub(crate) public: PublicKey,
    pub(crate) path: PathBuf,
    key: Arc<SigningKey>,
    _directory: tempfile::TempDir,
}

impl TestCentre {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("centre.db");
        let authority = TestAuthority::new();
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = Arc::new(SigningKey::from_pkcs8(pair.serialized_der()).unwrap());
        let public = key.public().clone();
        let intake = Intake::new(Store::open(&path).unwrap(), authority.trusted(), key.clone()).unwrap();
        Self { authority, intake, public, path, key, _directory: directory }
    }

    /// Ends the process and starts it again over the same database.
    pub(crate) fn restart(&mut self) {
        self.intake = Intake::new(Store::open(&self.path).unwrap(), self.authority.trusted(), self.key.clone()).unwrap();
    }

    /// A kit whose key is enrolled.
    pub(crate) fn kit(&mut self) -> TestKit {
        let kit = self.authority.kit("centro", "KIT-0001");
        assert_eq!(self.take(&kit.state()).len(), 1);
        kit
    }

    pub(crate) fn assign(&mut self, kit: &TestKit, id: &str) {
        let draft = Draft {
            tenant: kit.tenant.clone(),
            kit: kit.kit.clone(),
            id: Some(id.parse().unwrap()),
            patient: "p-1".parse().unwrap(),
            start: NOW,
            end: None,
        };
        issue(self.intake.store(), &draft, &self.key.clone(), NOW).unwrap();
    }

    /// Takes one message and opens its answers, signatures checked.
    pub(crate) fn take(&mut self, message: &Message) -> Vec<wire::Answer> {
        let [answers] = self.intake.take(std::slice::from_ref(message), NOW).try_into().unwrap();
        answers.iter().map(|answer| self.open(answer)).collect()
    }

    pub(crate) fn open(&self, answer: &Outgoing) -> wire::Answer {
        let keys = [self.public.clone()];
        signed::open(&Keys(&keys), SignedType::Answer, &answer.topic, &answer.payload).unwrap()
    }

    /// Takes one batch and gives its only answer.
    pub(crate) fn answer(&mut self, message: &Message) -> wire::Answer {
        let [answer] = self.take(message).try_into().unwrap();
        answer
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.path).unwrap()
    }

    pub(crate) fn records(&self) -> Vec<StoredRecord> {
        self.reader().records(Filter::default()).collect::<Result<_, _>>().unwrap()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<_> = self.records().into_iter().map(|record| record.seq).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.reader().audit().unwrap().into_iter().map(|entry| entry.what).collect()
    }
}

/// The settlement of the only lane that an answer names.
pub(crate) fn settled(answer: &wire::Answer) -> Settlement {
    let [lane] = answer.ack.as_slice() else { panic!("{} lanes", answer.ack.len()) };
    Settlement::from_wire(lane)
}

/// Number and reason of what an answer rejects, and whether it is for good.
pub(crate) fn rejects(answer: &wire::Answer) -> Vec<(u64, wire::RejectReason, bool)> {
    answer.reject.iter().map(|reject| (reject.seq, reject.reason(), reject.retry_after_ms == 0)).collect()
}
