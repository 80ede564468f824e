use std::os::unix::fs::PermissionsExt;

use kit_protocol::flac;
use kit_protocol::uplink::id::Lane;
use kit_protocol::uplink::signed;
use kit_protocol::uplink::wire::{self, SignedType, record::Content};

use super::*;
use crate::fixture::{TestCentre, TestKit, definitions, journal, reading};
use crate::signature::{Keys, SigningKey};

/// What a command writes, or how it fails.
fn said(words: &[&str]) -> Result<String, CliError> {
    let arguments = Arguments::try_parse_from(std::iter::once(&"kit-centre").chain(words)).unwrap();
    let mut output = Vec::new();
    run(&arguments, &mut output)?;
    Ok(String::from_utf8(output).unwrap())
}

fn lines(words: &[&str]) -> Vec<serde_json::Value> {
    said(words).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn segment(first: u64, samples: &[i32]) -> wire::Record {
    let channel =
        |code| wire::Channel { code, scale_mantissa: 5, scale_exponent: -1, unit: "uV".into(), ..wire::Channel::default() };
    let segment = wire::Segment {
        recording: vec![6; 8],
        first_sample: first,
        samples: u32::try_from(samples.len() / 2).unwrap(),
        rate_numerator: 500,
        rate_denominator: 1,
        channels: vec![channel(131_329), channel(131_330)],
        flac: flac::encode(samples, 2, 500).unwrap(),
        device: 2,
        driver: 3,
        kind: wire::Kind::Ecg.into(),
        ..wire::Segment::default()
    };
    wire::Record { clock: 1, content: Some(Content::Segment(segment)), ..wire::Record::default() }
}

fn centre_with_readings() -> (TestCentre, TestKit) {
    let mut centre = TestCentre::new();
    let kit = centre.kit();
    centre.take(&kit.vitals([1, 2, 5]));
    centre.take(&kit.batch(Lane::Waveforms, &[(2, segment(3, &[7, 8, 9, 10]))]));
    centre.take(&kit.batch(Lane::Waveforms, &[(1, segment(0, &[1, -2, 3, -4, 5, -6]))]));
    let missed = wire::Missed { device: 2, from_clock: 1, first: Some(10), last: Some(19), reason: 1, ..wire::Missed::default() };
    let gap = wire::Gap { epoch: kit.epoch.0.to_vec(), lane: 2, first: 3, last: 3, count: 1, reason: 1, ..wire::Gap::default() };
    let refusal = wire::Refusal { device: 2, driver: 3, reason: "implausible".into(), octets: vec![0xfe] };
    let entries = [Content::Missed(missed), Content::Gap(gap), Content::Refusal(refusal)];
    let records: Vec<_> = (1..).zip(entries.map(journal)).collect();
    centre.take(&kit.batch(Lane::Journal, &records));
    (centre, kit)
}

#[test]
fn readings_are_written_in_the_one_json_shape() {
    let (centre, kit) = centre_with_readings();
    let database = centre.path.to_str().unwrap();
    let all = lines(&["readings", "--json", "--database", database]);
    assert_eq!(all.len(), 5);
    let first = &all[0]["reading"];
    assert_eq!(first["kind"], "pulse-oximetry");
    assert_eq!((&first["device"], &first["driver"]), (&"SN-1".into(), &"oximeter-nonin".into()));
    assert_eq!((&first["values"][0]["code"], &first["values"][0]["value"]), (&150_456.into(), &"1".into()));
    assert_eq!(first["key"], format!("KIT-0001/{}/vitals/1", kit.epoch));
    assert_eq!(first["received"], "2026-06-01T00:00:00.000001Z");
    let vitals = ["readings", "--json", "--database", database, "--lane", "vitals", "--kit", "KIT-0001"];
    assert_eq!(lines(&vitals).len(), 3);
    assert!(lines(&["readings", "--json", "--database", database, "--kit", "KIT-0002"]).is_empty());
    assert!(lines(&["readings", "--json", "--database", database, "--since", "1h"]).is_empty(), "the test plays in another time");
    assert_eq!(lines(&["readings", "--json", "--database", database, "--since", "2026-06-01"]).len(), 5);
    let refused = lines(&["readings", "--json", "--database", database, "--lane", "journal"]);
    assert_eq!(refused, [serde_json::json!({"refused": {"reason": "implausible", "detail": "", "octets": "fe"}})]);
    assert!(said(&["readings", "--database", database]).unwrap().contains("SN-1"));
}

#[test]
fn samples_are_written_in_their_order_whatever_came_first() {
    let (centre, _) = centre_with_readings();
    let out = centre.path.with_extension("csv");
    let words = ["readings", "--json", "--database", centre.path.to_str().unwrap(), "--samples", out.to_str().unwrap()];
    let listed = lines(&words);
    assert_eq!(listed[3]["reading"]["recording"]["first"], 3);
    let csv = std::fs::read_to_string(&out).unwrap();
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(rows, ["1,-2", "3,-4", "5,-6", "7,8", "9,10"]);
    assert_eq!(csv.lines().next().unwrap().split(',').count(), 2);
    let id = "0606060606060606";
    assert_eq!(lines(&["readings", "--json", "--database", centre.path.to_str().unwrap(), "--recording", id]).len(), 2);
}

#[test]
fn gaps_names_what_is_gone_what_is_awaited_and_what_was_missed() {
    let (centre, kit) = centre_with_readings();
    let database = centre.path.to_str().unwrap();
    let all = lines(&["gaps", "--json", "--database", database]);
    let what: Vec<_> = all.iter().map(|line| line["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["gap", "awaited", "missed"]);
    assert_eq!((&all[0]["first"], &all[0]["reason"]), (&3.into(), &"never-written".into()));
    assert_eq!((&all[1]["first"], &all[1]["last"], &all[1]["lane"]), (&4.into(), &4.into(), &"vitals".into()));
    assert_eq!((&all[2]["device"], &all[2]["reason"], &all[2]["last"]), (&"SN-1".into(), &"agent-down".into(), &19.into()));
    assert_eq!(all[2]["key"], format!("KIT-0001/{}/journal/1", kit.epoch));
    assert!(said(&["gaps", "--database", database, "--kit", "KIT-0009"]).unwrap().contains("Nothing is missing"));
}

#[test]
fn kits_says_what_arrived() {
    let (centre, _) = centre_with_readings();
    let kits = lines(&["kits", "--json", "--database", centre.path.to_str().unwrap()]);
    assert_eq!(kits.len(), 1);
    let kit = &kits[0];
    assert_eq!(
        (&kit["kit"], &kit["online"], &kit["records"], &kit["awaited"]),
        (&"KIT-0001".into(), &true.into(), &8.into(), &1.into())
    );
    assert_eq!(kit["epochs"][0]["lanes"]["vitals"], serde_json::json!({"settled": 3, "highest": 5, "awaited": 1}));
    assert!(said(&["kits", "--database", centre.path.to_str().unwrap()]).unwrap().contains("KIT-0001"));
}

#[test]
fn i4_an_assignment_is_signed_kept_and_written() {
    let (mut centre, kit) = centre_with_readings();
    let directory = centre.path.parent().unwrap().to_owned();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = SigningKey::from_pkcs8(pair.serialized_der()).unwrap().public().clone();
    let key = directory.join("signing.key");
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = directory.join("centre.toml");
    let text = "database = \"centre.db\"\ntenants = [\"centro\", \"sudest\"]\n[broker]\nhost = \"h\"\nport = 1\nauthority = \"a\"\n\
                certificate = \"c\"\nkey = \"k\"\n[kits]\nauthority = \"a\"\n[signing]\nkey = \"signing.key\"\n";
    std::fs::write(&config, text).unwrap();
    let out = directory.join("signed");
    let [config, out_text] = [&config, &out].map(|path| path.to_str().unwrap());
    let words = [
        "assign",
        "KIT-0001",
        "--patient",
        "p-17",
        "--id",
        "a-17",
        "--start",
        "2026-05-01",
        "--out",
        out_text,
        "--config",
        config,
    ];
    assert!(said(&words).unwrap().contains("a-17 for patient p-17 from 2026-05-01T00:00:00Z"));
    let document = std::fs::read(&out).unwrap();
    let topic = "tm/1/centro/KIT-0001/down/document";
    let opened: wire::Assignment = signed::open(&Keys(&[public]), SignedType::Assignment, topic, &document).unwrap();
    assert_eq!((opened.id.as_str(), opened.patient.as_str(), opened.counter, opened.end_us), ("a-17", "p-17", 1, 0));
    assert!(said(&words).unwrap_err().to_string().contains("there is an assignment a-17 already"));
    // The running service takes records under it at once.
    let record = wire::Record { assignment: 4, ..reading(9) };
    let body = kit.body(Lane::Urgent, &[(1, prost::Message::encode_to_vec(&record))], definitions(Some("a-17")));
    assert!(centre.answer(&kit.sign(SignedType::Batch, &kit.up(Lane::Urgent), &body)).reject.is_empty());

    let file = directory.join("input.json");
    std::fs::write(&file, r#"{"patient": "p-18", "start": "2026-05-02T08:00:00+02:00"}"#).unwrap();
    let input = file.to_str().unwrap();
    let from_file = said(&["assign", "KIT-0001", input, "--out", out_text, "--config", config]).unwrap();
    assert!(from_file.contains("for patient p-18 from 2026-05-02T06:00:00Z"), "{from_file}");
    std::fs::write(&file, "patient = \"p-19\"\nend = \"2027-01-01\"\n").unwrap();
    assert!(said(&["assign", "KIT-0001", input, "--out", out_text, "--config", config]).unwrap().contains("until 2027-01-01"));
    std::fs::write(&file, "patient = \"p-19\"\nname = \"x\"\n").unwrap();
    for words in [
        &["assign", "KIT-0001", input, "--config", config][..],
        &["assign", "KIT-0001", "--config", config],
        &["assign", "KIT-0001", "--patient", "two words", "--config", config],
        &["assign", "KIT-0001", "--patient", "p", "--start", "soon", "--config", config],
        &["assign", "KIT-0001", "--patient", "p", "--tenant", "sudest", "--config", config],
        &["assign", "KIT-0002", "--patient", "p", "--config", config],
    ] {
        assert!(matches!(said(words), Err(CliError::Usage(_))), "{words:?}");
    }
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let missing = said(&["kits", "--database", "/nowhere/centre.db"]).unwrap_err();
    assert!(matches!(&missing, CliError::Failed(text) if text.contains("kit-centre run")), "{missing}");
    assert!(matches!(said(&["run", "--config", "/nowhere/centre.toml"]), Err(CliError::Config(_))));
    let (centre, _) = centre_with_readings();
    let since = said(&["readings", "--since", "yesterday", "--database", centre.path.to_str().unwrap()]);
    assert!(matches!(since, Err(CliError::Usage(_))));
    assert_eq!(main(["kit-centre", "no-such-command"].map(OsString::from)), ExitCode::from(WRONG_USE));
    assert_eq!(main(["kit-centre", "kits", "--database", "/nowhere"].map(OsString::from)), ExitCode::FAILURE);
    assert_eq!(main(["kit-centre", "run", "--config", "/nowhere"].map(OsString::from)), ExitCode::from(WRONG_USE));
}

#[test]
fn resend_finds_what_is_missing_and_says_so() {
    let (centre, kit) = centre_with_readings();
    let database = centre.path.to_str().unwrap();
    let words = ["resend", "KIT-0001", "--database", database];
    assert_eq!(said(&words).unwrap(), "KIT-0001: nothing is missing of what was acknowledged\n");
    rusqlite::Connection::open(&centre.path).unwrap().execute("DELETE FROM records WHERE lane = 1 AND seq = 2", []).unwrap();
    let first = said(&words).unwrap();
    assert!(first.starts_with(&format!("{}/vitals 2 to 2: asked for again", kit.epoch)), "{first}");
    assert!(matches!(said(&["resend", "KIT-0002", "--database", database]), Err(CliError::Usage(_))));
    rusqlite::Connection::open(&centre.path).unwrap().execute("DELETE FROM records WHERE lane = 1 AND seq = 1", []).unwrap();
    let line = lines(&["resend", "KIT-0001", "--json", "--database", database]);
    assert_eq!(line, [serde_json::json!({"epoch": kit.epoch.to_string(), "lane": "vitals", "first": 1, "last": 1})]);
}
