//! How fast the centre takes records: verified, decided, committed and answered, against bare inserts of the same rows.
//!
//! `taskset -c 0 cargo run --release -p kit-centre --example ingest_rate [DIR [RECORDS]]`
//!
//! Batches of 20 vitals, signed as a kit signs them, in groups of 64 messages (the broker's window) and one by one. Both sides
//! write to DIR with WAL and `synchronous=FULL`, and commit as often.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kit_centre::certificate::Authority;
use kit_centre::clock;
use kit_centre::intake::{Intake, Message};
use kit_centre::signature::{SigningKey, sha256};
use kit_centre::store::Store;
use kit_protocol::uplink::signed;
use kit_protocol::uplink::wire::{self, SignedType, definition::What, record::Content};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

type Failure = Box<dyn std::error::Error>;

const RECORDS_PER_BATCH: usize = 20;
const GROUP_MESSAGES: usize = 64;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = tempfile::tempdir_in(arguments.next().unwrap_or_else(|| ".".to_owned()))?;
    let records: usize = arguments.next().map_or(Ok(40_000), |records| records.parse())?;
    let mut output = std::io::stdout().lock();
    for (name, group, records) in [("groups of 64 messages", GROUP_MESSAGES, records), ("one message at a time", 1, records / 8)]
    {
        let place = directory.path().join(format!("group-{group}"));
        std::fs::create_dir(&place)?;
        let Prepared { centre, state, batches, octets } = prepare(&place, records)?;
        let ingest = ingest(centre, &state, &batches, group)?;
        let bare = bare(&place.join("bare.db"), &octets, group * RECORDS_PER_BATCH)?;
        let rate = |span: Duration| octets.len() as f64 / span.as_secs_f64();
        let (ingest, bare) = (rate(ingest), rate(bare));
        writeln!(output, "{name}: {ingest:.0} records/s ingested, {bare:.0} records/s bare insert, ratio {:.2}", ingest / bare)?;
    }
    Ok(())
}

fn ingest(mut centre: Intake, state: &Message, batches: &[Message], group: usize) -> Result<Duration, Failure> {
    centre.take(std::slice::from_ref(state), clock::wall());
    let began = clock::monotonic();
    for group in batches.chunks(group) {
        let answers = centre.take(group, clock::wall());
        if answers.iter().any(Vec::is_empty) {
            return Err("a batch was not answered".into());
        }
    }
    Ok(began.elapsed())
}

/// The database's own speed: the same rows, made beforehand, into the same table with its indexes.
fn bare(path: &Path, octets: &[Vec<u8>], records_per_commit: usize) -> Result<Duration, Failure> {
    drop(Store::open(path)?);
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "INSERT INTO kits (id, kit, tenant, first_seen, last_seen) VALUES (1, 'KIT-0001', 'centro', 0, 0);
         INSERT INTO epochs (id, kit, epoch) VALUES (1, 1, x'00');",
    )?;
    let rows: Vec<_> =
        (1_i64..).zip(octets).map(|(seq, octets)| (seq, sha256(octets), sha256(&seq.to_be_bytes()), octets)).collect();
    let began = clock::monotonic();
    for group in rows.chunks(records_per_commit) {
        let transaction = connection.transaction()?;
        for (seq, digest, origin, octets) in group {
            let insert = "INSERT INTO records (kit, epoch, lane, seq, run, digest, received, origin, octets)
                          VALUES (1, 1, 1, ?1, x'0101010101010101', ?2, 1, ?3, ?4)";
            transaction.prepare_cached(insert)?.execute(rusqlite::params![seq, digest, &origin[..8], octets])?;
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}

struct Prepared {
    centre: Intake,
    state: Message,
    batches: Vec<Message>,
    octets: Vec<Vec<u8>>,
}

fn prepare(place: &Path, records: usize) -> Result<Prepared, Failure> {
    let pair = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    let authority_key = pair()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(params, authority_key);
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "KIT-0001");
    params.distinguished_name.push(DnType::OrganizationName, "centro");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let kit_key = pair()?;
    let certificate = params.signed_by(&kit_key, &issuer)?.der().to_vec();
    let kit = SigningKey::from_pkcs8(kit_key.serialized_der())?;
    let centre = Arc::new(SigningKey::from_pkcs8(pair()?.serialized_der())?);
    let intake = Intake::new(Store::open(&place.join("centre.db"))?, Authority::from_pem(&authority)?, centre)?;

    let sign = |kind, topic: &str, octets: Vec<u8>| -> Result<Message, Failure> {
        let envelope = match kind {
            SignedType::State => signed::seal(&kit, kind, topic, &wire::State::decode(octets.as_slice())?)?,
            _ => signed::seal(&kit, kind, topic, &wire::Batch::decode(octets.as_slice())?)?,
        };
        Ok(Message { topic: topic.to_owned(), payload: envelope.into() })
    };
    let state = wire::State { nonce: vec![1; 8], certificate, ..wire::State::default() };
    let state = sign(SignedType::State, "tm/1/centro/KIT-0001/state", state.encode_to_vec())?;
    let octets: Vec<Vec<u8>> = (0..records).map(|number| vital(u64::try_from(number).unwrap_or(0))).collect();
    let batches = octets.chunks(RECORDS_PER_BATCH).zip((1_u64..).step_by(RECORDS_PER_BATCH)).map(|(records, first)| {
        let entries = records.iter().map(|record| wire::Entry { skipped: 0, record: record.clone() }).collect();
        let (epoch, run, nonce) = (vec![1; 16], vec![1; 8], vec![1; 8]);
        let batch =
            wire::Batch { epoch, lane: wire::Lane::Vitals.into(), run, nonce, definitions: definitions(), first, entries };
        sign(SignedType::Batch, "tm/1/centro/KIT-0001/up/vitals", batch.encode_to_vec())
    });
    let batches = batches.collect::<Result<_, _>>()?;
    Ok(Prepared { centre: intake, state, batches, octets })
}

fn definitions() -> Vec<wire::Definition> {
    let clock = wire::Clock { boot_id: vec![1; 16], offset_us: 1_780_272_000_000_000, quality: 3, error_ms: 10 };
    let device = wire::Device { identity: "nonin-3012345".into(), manufacturer: "Nonin".into(), ..wire::Device::default() };
    let driver = wire::Driver { name: "oximeter-nonin".into(), version: "0.1.0".into() };
    let what = [What::Clock(clock), What::Device(device), What::Driver(driver)];
    (1..).zip(what).map(|(number, what)| wire::Definition { number, what: Some(what) }).collect()
}

/// SpO2 and pulse, with an origin, as a spot check has one.
fn vital(number: u64) -> Vec<u8> {
    let value = |code, unit: &str| wire::Value {
        code,
        quantity: Some(wire::value::Quantity::Mantissa(i64::try_from(number % 40).unwrap_or(0) + 60)),
        exponent: 0,
        unit: unit.into(),
    };
    let values = vec![value(150_456, "%"), value(149_530, "/min")];
    let reading = wire::Reading { kind: 1, device: 2, driver: 3, values, ..wire::Reading::default() };
    let origin = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
    let content = Some(Content::Reading(reading));
    wire::Record { clock: 1, boottime_ns: number * 1_000_000_000, origin, content, ..wire::Record::default() }.encode_to_vec()
}
