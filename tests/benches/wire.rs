//! Octets on the wire, all overhead in: an ECG by lead and second, and a vital in a batch of 20, against their yardsticks.
//!
//! `cargo bench -p system-tests --bench wire`
#![expect(clippy::print_stdout, reason = "a measuring program")]

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use firmware_sim::recording;
use harness::bench::kit::{self, ASSIGNMENT, Batch, Kit};
use harness::bench::records::{self, is_segment};
use harness::bench::{Arguments, Failure, benchmark, float};
use kit_agent::store::thread::Draft;
use kit_protocol::decimal::Decimal;
use kit_protocol::flac;
use kit_protocol::reading::{Kind, RecordingHead};
use kit_protocol::serial::ads1298::Lead;
use kit_protocol::uplink::id::Lane;
use kit_protocol::uplink::wire::EpochReason;
use kit_protocol::uplink::wire::record::Content;
use serde_json::{Value, json};

const SECONDS: u32 = 30;
const RATE_HZ: u32 = 500;
const LEADS: usize = 8;
/// Octets of one batch: the least bound and the largest.
const BATCH_OCTETS: [usize; 2] = [16 * 1024, 64 * 1024];
/// Plaintext octets of a TLS record, at most, and what TLS 1.3 adds to each: header 5, content type 1, tag 16 (RFC 8446 §5.2).
const TLS_RECORD_OCTETS: usize = 16_384;
const TLS_OVERHEAD_OCTETS: usize = 22;
/// Octets of a TCP segment, and its headers: IPv4 20, TCP 20 with time stamps 12.
const SEGMENT_OCTETS: usize = 1_448;
const HEADER_OCTETS: usize = 52;

fn main() -> ExitCode {
    benchmark("wire", run)
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let kit = Kit::start(directory.path(), arguments.all("--broker").next()).await?;
    println!(
        "octets up: signed envelope, MQTT 5 publish with its topic ({}), TLS 1.3 record (+{TLS_OVERHEAD_OCTETS} for each \
         {TLS_RECORD_OCTETS}), IPv4 and TCP headers (+{HEADER_OCTETS} for each {SEGMENT_OCTETS}); acknowledgements are not in",
        kit.topic(Lane::Waveforms)
    );
    let one_microvolt = microvolts();
    let head = records::head(Kind::Ecg, &Lead::EIGHT.map(Lead::mdc), Decimal::whole(1), "uV", RATE_HZ);
    let drafts = records::of_samples("ecg-ads1298", &head, &one_microvolt)?;
    let of_part = records::of_device("ecg-ads1298", SECONDS + 1)?;
    let scale = "0.0477";
    println!(
        "\nECG of {SECONDS} s, {LEADS} leads, {RATE_HZ} Hz, 1 uV a digit: the recorded ECG (1.25 uV a digit), moved within its digit by uniform noise"
    );
    ecg(&kit, &directory.path().join("microvolt"), drafts, &head, "1").await?;
    println!(
        "\nthe same ECG at the ADS1298's own digit (gain 6, 2.4 V: 0.0477 uV) with its noise, through part, firmware, framing and driver"
    );
    ecg(&kit, &directory.path().join("part"), of_part, &head, scale).await?;
    vitals(&kit, &directory.path().join("vitals")).await
}

/// The recorded ECG in µV, interleaved.
fn microvolts() -> Vec<i32> {
    let mut random = fastrand::Rng::with_seed(1);
    let rows = (0..SECONDS * RATE_HZ).map(|row| recording::row(row.into()));
    let mut dithered = |digit: i16| f64::from(digit) * 1.25 + (random.f64() - 0.5) * 1.25;
    #[expect(clippy::cast_possible_truncation, reason = "16 bit times 1.25")]
    rows.flat_map(|row| row.map(|digit| dithered(digit).round() as i32)).collect()
}

/// One recording: live, a segment at a time, and out of a backlog.
async fn ecg(
    kit: &Kit,
    directory: &std::path::Path,
    drafts: Vec<Draft>,
    head: &RecordingHead,
    factor: &str,
) -> Result<(), Failure> {
    let segments: Vec<Draft> = drafts.into_iter().filter(is_segment).collect();
    let samples = samples(&segments)?;
    let lead_seconds = float(samples.len()) / f64::from(RATE_HZ);
    let seconds = lead_seconds / float(LEADS);
    let flac: usize = segments.iter().map(flac_octets).sum();
    println!(
        "  {} segments, {:.1} s; FLAC alone {:.2} bit a sample",
        segments.len(),
        seconds,
        float(flac) * 8.0 / float(samples.len())
    );
    let store = kit::store(directory).await?;
    store.switch_epoch(Some(ASSIGNMENT), EpochReason::AssignmentStart).await?;
    // One after the other, as they come: their order is their numbers'.
    for draft in segments {
        store.append(draft).await?;
    }
    let json = sampled_data(head, &samples, factor)?;
    let zipped = gzip(json.as_bytes());
    let raw_16 = overhead(samples.len() * 2, 40);
    let fhir = overhead(json.len(), 40);
    for (name, records, octets_max) in [
        ("live, a segment a batch", 1, BATCH_OCTETS[0]),
        ("backlog, batches of 16 KiB", usize::MAX, BATCH_OCTETS[0]),
        ("backlog, batches of 64 KiB", usize::MAX, BATCH_OCTETS[1]),
    ] {
        let batches = kit.batches(&store, Lane::Waveforms, records, |_| octets_max).await?;
        let octets = float(batches.iter().map(on_the_wire).sum());
        let gzip = zipped.map_or_else(
            || "gzip: not measured (no gzip here)".to_owned(),
            |zipped| format!("{:.3} x gzip -6 of it (budget 0.7)", octets / float(overhead(zipped, 40))),
        );
        println!(
            "  {name}: {:.0} octets a lead-second, {:.0} a second of 8 leads; {:.3} x raw 16 bit (budget 0.42), {:.3} x FHIR \
             SampledData (budget 0.22), {gzip}",
            octets / lead_seconds,
            octets / seconds,
            octets / float(raw_16),
            octets / float(fhir),
        );
    }
    store.close().await?;
    Ok(())
}

fn flac_octets(draft: &Draft) -> usize {
    if let Content::Segment(segment) = &draft.content { segment.flac.iter().map(Vec::len).sum() } else { 0 }
}

/// The samples of the segments, as any FLAC decoder gives them back.
fn samples(segments: &[Draft]) -> Result<Vec<i32>, Failure> {
    let mut samples = Vec::new();
    for draft in segments {
        if let Content::Segment(segment) = &draft.content
            && segment.samples > 0
        {
            samples.extend(flac::decode(&segment.flac)?);
        }
    }
    Ok(samples)
}

/// One Observation of the whole recording, a component a lead: FHIR's most compact form of it.
fn sampled_data(head: &RecordingHead, samples: &[i32], factor: &str) -> Result<String, Failure> {
    let factor: f64 = factor.parse()?;
    let component = |(lead, channel): (usize, &kit_protocol::reading::Channel)| {
        let data: Vec<String> = samples.iter().skip(lead).step_by(LEADS).map(i32::to_string).collect();
        json!({
            "code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": channel.code.0.to_string()}]},
            "valueSampledData": {
                "origin": {"value": 0, "system": "http://unitsofmeasure.org", "code": "uV"},
                "period": 2, "factor": factor, "dimensions": 1, "data": data.join(" "),
            },
        })
    };
    let components: Vec<Value> = head.channels.iter().enumerate().map(component).collect();
    let mut observation = observation("131328");
    observation["component"] = components.into();
    Ok(observation.to_string())
}

/// An Observation of the HL7 Personal Health Device guide (R4), without its value.
fn observation(code: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/uv/phd/StructureDefinition/PhdCompoundNumericObservation"]},
        "identifier": [{
            "system": "http://hl7.org/fhir/uv/phd/StructureDefinition/PhdBaseObservation",
            "value": format!("ED1BE3A08F42-patient-1-{code}-20261122103000.00"),
        }],
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs",
        }]}],
        "code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": code}]},
        "subject": {"reference": "Patient/patient-1"},
        "effectiveDateTime": "2026-11-22T10:30:00.123+01:00",
        "performer": [{"reference": "Patient/patient-1"}],
        "device": {"reference": "Device/oximeter-nonin"},
    })
}

/// SpO2 and pulse as the oximeter's driver gives them, 20 in a batch.
async fn vitals(kit: &Kit, directory: &std::path::Path) -> Result<(), Failure> {
    let drafts = records::of_device("oximeter-nonin", 205)?;
    let readings = drafts.into_iter().filter(|draft| matches!(draft.content, Content::Reading(_))).take(20);
    let store = kit::store(directory).await?;
    store.switch_epoch(Some(ASSIGNMENT), EpochReason::AssignmentStart).await?;
    for draft in readings {
        store.append(draft).await?;
    }
    let batches = kit.batches(&store, Lane::Vitals, 20, |_| BATCH_OCTETS[0]).await?;
    let [batch] = batches.as_slice() else { return Err("20 vitals are not one batch".into()) };
    let alone = kit.batches(&store, Lane::Vitals, 1, |_| BATCH_OCTETS[0]).await?;
    let alone = alone.first().map_or(0, on_the_wire);
    let each = float(on_the_wire(batch)) / float(batch.records);
    let fhir = spo2_and_pulse();
    println!("\na vital: SpO2 and pulse of oximeter-nonin, with the clock, device, driver and assignment that it names");
    println!("  in a batch of {}: {each:.1} octets (budget 120)", batch.records);
    println!("  {:.3} x the FHIR Observation as JSON, {} octets without any transport", each / float(fhir.len()), fhir.len());
    println!(
        "  alone in its batch: {alone} octets, {:.2} x the Observation with the same transport",
        float(alone) / float(overhead(fhir.len(), 40))
    );
    store.close().await?;
    Ok(())
}

/// The same reading as one Observation with two components.
fn spo2_and_pulse() -> String {
    let quantity = |mdc: &str, loinc: &str, value: i32, unit: &str| {
        json!({
            "code": {"coding": [
                {"system": "urn:iso:std:iso:11073:10101", "code": mdc}, {"system": "http://loinc.org", "code": loinc},
            ]},
            "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit},
        })
    };
    let mut observation = observation("150456");
    observation["component"] = json!([quantity("150456", "59408-5", 97, "%"), quantity("149530", "8867-4", 64, "/min")]);
    observation.to_string()
}

/// Octets of a publish, QoS 1: fixed header with its length, topic, packet id, no properties, payload (MQTT 5 §3.3).
fn publish_octets(payload: usize, topic: usize) -> usize {
    let rest = 2 + topic + 2 + 1 + payload;
    let length = if rest < 128 {
        1
    } else if rest < 16_384 {
        2
    } else if rest < 2_097_152 {
        3
    } else {
        4
    };
    1 + length + rest
}

/// With TLS and TCP; every publish begins a record and a segment of its own.
fn overhead(payload: usize, topic: usize) -> usize {
    let publish = publish_octets(payload, topic);
    let tls = publish + publish.div_ceil(TLS_RECORD_OCTETS) * TLS_OVERHEAD_OCTETS;
    tls + tls.div_ceil(SEGMENT_OCTETS) * HEADER_OCTETS
}

fn on_the_wire(batch: &Batch) -> usize {
    overhead(batch.payload.len(), batch.topic.len())
}

/// Octets of `gzip -6`; `None` where there is no gzip.
fn gzip(octets: &[u8]) -> Option<usize> {
    let mut child = Command::new("gzip").args(["-6", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut input = child.stdin.take()?;
    thread::scope(|scope| {
        scope.spawn(move || input.write_all(octets));
        child.wait_with_output().ok()
    })
    .filter(|output| output.status.success())
    .map(|output| output.stdout.len())
}
