//! Truth against result: the physiology that went into a simulated device against the reading that the centre would show.
//!
//! 200 seeded patients a device (50 where one device is simulated as several others are, so that all of it takes seconds), in
//! virtual time: patient, part, firmware, octets, driver, Recorder, record, listing. The worst case of each quantity is
//! printed, and none may lie outside its tolerance. The truth is what was there while the device measured: a value may lie
//! within the tolerance of anything between the least and the greatest of that time.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use firmware_sim::devices::spirometer_flow::BLOWS;
use firmware_sim::faults::Scenario;
use firmware_sim::lungs::Lungs;
use firmware_sim::patient::Patient;
use firmware_sim::truth::Truth;
use harness::bedside::{self, Visit};
use harness::ledger;
use kit_agent::store::thread::Draft;
use kit_protocol::decimal::Decimal;
use kit_protocol::flac;
use kit_protocol::json::ReadingLine;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::uplink::id::{EpochId, KitId, Lane};
use kit_protocol::uplink::record::{Definitions, RecordKey};
use kit_protocol::uplink::wire::{self, record::Content};
use prost::Message as _;

/// Patients a device …
const PATIENTS: u64 = 200;
/// … and of one that shares its sensor and what is computed of it with others here, or takes long.
const PATIENTS_FEWER: u64 = 50;
const FEWER: [&str; 5] = ["monitor-ansar", "oximeter-berry", "oximeter-contec", "oximeter-nonin-df8", "thermometer"];
/// Patients who blow, and whose ECG is recorded.
const PATIENTS_WHO_BLOW: u64 = 25;
const PATIENTS_WITH_ECG: u64 = 10;

/// A quantity that a device measures, and how far it may be off.
struct Promise {
    device: &'static str,
    code: Mdc,
    truth: fn(&Patient, f64) -> f64,
    tolerance: f64,
    /// The device averages over so long before it gives the value.
    window: Duration,
}

const fn promise(device: &'static str, code: Mdc, truth: fn(&Patient, f64) -> f64, tolerance: f64, window_s: u64) -> Promise {
    Promise { device, code, truth, tolerance, window: Duration::from_secs(window_s) }
}

/// The mean of the heart rate over the last 2.5 s: four beats, the shortest that a device averages.
fn pulse(patient: &Patient, seconds: f64) -> f64 {
    const MEAN_S: f64 = 2.5;
    60.0 * (patient.beats(seconds) - patient.beats(seconds - MEAN_S)) / MEAN_S
}

fn spo2(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).spo2
}

fn systolic(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).systolic
}

fn diastolic(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).diastolic
}

fn breaths(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).respiratory_rate
}

fn temperature(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).temperature
}

fn weight(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).weight
}

/// A visit to most devices; a cuff is pumped up and falls for most of a minute.
const VISIT: Duration = Duration::from_secs(60);
const VISIT_OF_CUFF: Duration = Duration::from_secs(100);

const TYMPANIC_TEMPERATURE: Mdc = Mdc(150_392);
const PROBE_TEMPERATURE: Mdc = Mdc(150_344);

const PROMISES: &[Promise] = &[
    promise("body-composition-broadcast", Mdc::WEIGHT, weight, 0.01, 10),
    promise("monitor-ansar", Mdc::SYSTOLIC, systolic, 5.0, 45),
    promise("monitor-ansar", Mdc::DIASTOLIC, diastolic, 5.0, 45),
    promise("monitor-ansar", Mdc::PULSE_RATE_CUFF, pulse, 1.0, 45),
    promise("monitor-ansar", Mdc::HEART_RATE, pulse, 1.0, 12),
    promise("monitor-ansar", Mdc::RESPIRATORY_RATE, breaths, 1.0, 25),
    promise("monitor-ansar", Mdc::SPO2, spo2, 2.0, 12),
    promise("monitor-ansar", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("monitor-ansar", PROBE_TEMPERATURE, temperature, 0.1, 5),
    promise("monitor-pc300", Mdc::SYSTOLIC, systolic, 5.0, 45),
    promise("monitor-pc300", Mdc::DIASTOLIC, diastolic, 5.0, 45),
    promise("monitor-pc300", Mdc::PULSE_RATE_CUFF, pulse, 1.0, 45),
    promise("monitor-pc300", Mdc::BODY_TEMPERATURE, temperature, 0.1, 5),
    promise("monitor-pc300", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-berry", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-berry", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-contec", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-contec", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-nonin-df8", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-nonin-df8", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-nonin", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-nonin", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-viatom", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-viatom", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-viatom-o2ring", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-viatom-o2ring", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("pulse-oximeter", Mdc::SPO2, spo2, 2.0, 12),
    promise("pulse-oximeter", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("weight-scale-broadcast", Mdc::WEIGHT, weight, 0.01, 10),
    promise("thermometer", TYMPANIC_TEMPERATURE, temperature, 0.1, 5),
];

/// The reading as the centre lists it: through the record's own bytes.
fn at_the_centre(draft: &Draft) -> Option<ReadingLine> {
    let Content::Reading(mut reading) = draft.content.clone() else { return None };
    (reading.device, reading.driver) = (1, 2);
    let what = |number, what| wire::Definition { number, what: Some(what) };
    let mut definitions = Definitions::default();
    definitions.extend(&[
        what(1, wire::definition::What::Device(draft.device.clone()?)),
        what(2, wire::definition::What::Driver(draft.driver.clone()?)),
    ]);
    let record = wire::Record { content: Some(Content::Reading(reading)), ..wire::Record::default() };
    let record = wire::Record::decode(record.encode_to_vec().as_slice()).ok()?;
    let key = RecordKey { kit: "KIT-0001".parse::<KitId>().ok()?, epoch: EpochId([1; 16]), lane: Lane::Vitals, seq: 1 };
    ReadingLine::stored(&key, &record, &definitions, None)
}

/// How far off a value is: 0 between the least and the greatest that was there.
fn off(value: f64, patient: &Patient, promise: &Promise, received_s: f64) -> f64 {
    let window = promise.window.as_secs_f64();
    let there: Vec<f64> = (0..=48)
        .map(|step| received_s - window * f64::from(step) / 48.0)
        .map(|at| (promise.truth)(patient, at.max(0.0)))
        .collect();
    let least = there.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = there.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if value < least { value - least } else { (value - greatest).max(0.0) }
}

#[test]
fn what_the_centre_shows_is_what_the_patient_had() {
    let mut devices: BTreeMap<&str, Vec<&Promise>> = BTreeMap::new();
    for promise in PROMISES {
        devices.entry(promise.device).or_default().push(promise);
    }
    let mut broken = Vec::new();
    for (device, promises) in devices {
        let mut worst: Vec<(f64, u64)> = vec![(0.0, 0); promises.len()];
        let mut compared = vec![0_u32; promises.len()];
        let visit = if device.starts_with("monitor") { VISIT_OF_CUFF } else { VISIT };
        let patients = if FEWER.contains(&device) { PATIENTS_FEWER } else { PATIENTS };
        for seed in 0..patients {
            let patient = Patient::new(seed);
            let filed = bedside::attend(device, &Visit::of(seed, visit)).unwrap();
            for draft in &filed.drafts {
                let Some(line) = at_the_centre(draft) else { continue };
                let received_s = Duration::from_nanos(draft.boottime_ns - filed.began.as_nanos()).as_secs_f64();
                for (index, promise) in promises.iter().enumerate() {
                    let named = line.values.iter().find(|value| value.code == promise.code.0);
                    let Some(value) = named.and_then(|value| value.value.as_ref()?.parse::<f64>().ok()) else { continue };
                    compared[index] += 1;
                    let off = off(value, &patient, promise, received_s);
                    if off.abs() > worst[index].0.abs() {
                        worst[index] = (off, seed);
                    }
                }
            }
        }
        for ((promise, (off, seed)), compared) in promises.iter().zip(worst).zip(compared) {
            let name = promise.code.name().unwrap_or("?");
            println!("{device}: {name} worst {off:+.2} of {:.2} allowed (seed {seed}, {compared} readings)", promise.tolerance);
            if off.abs() > promise.tolerance || u64::from(compared) < patients {
                broken.push(format!("{device} {name} {off:+.2} (seed {seed}), {compared} readings"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// A session of three blows, and its end.
const VISIT_OF_BLOWS: Duration = Duration::from_secs(54);

#[test]
fn what_was_blown_is_what_the_centre_shows() {
    let mut worst = (0.0, String::new());
    for seed in 0..PATIENTS_WHO_BLOW {
        let filed = bedside::attend("spirometer-flow", &Visit::of(seed, VISIT_OF_BLOWS)).unwrap();
        let lines: Vec<ReadingLine> = filed.drafts.iter().filter_map(at_the_centre).collect();
        let value = |line: &ReadingLine, name: &str| {
            line.values.iter().find(|value| value.name == Some(name))?.value.as_ref()?.parse::<f64>().ok()
        };
        let figures: Vec<(f64, f64)> =
            lines.iter().filter_map(|line| Some((value(line, "fvc")?, value(line, "fev1")?))).collect();
        let blows: Vec<_> = (0..BLOWS).map(|number| Lungs::new(seed).blow(number)).collect();
        assert_eq!(figures.len(), blows.len() + 1, "seed {seed}: three manoeuvres and their session");
        for (blow, (fvc, fev1)) in blows.iter().zip(figures) {
            for (name, out, really) in [("FVC", fvc, blow.fvc()), ("FEV1", fev1, blow.fev1())] {
                let part = (out - really).abs() / 0.05_f64.max(0.03 * really);
                if part > worst.0 {
                    worst = (part, format!("{name} {out:.3} L of {really:.3} L (seed {seed})"));
                }
            }
        }
    }
    println!("spirometer-flow: worst of {PATIENTS_WHO_BLOW} patients {}, {:.0} % of what is allowed", worst.1, 100.0 * worst.0);
    assert!(worst.0 <= 1.0, "{}", worst.1);
}

/// An ECG device: when its sample of a number was converted, and how far its noise and its last digit move a sample, µV.
struct Electrocardiograph {
    device: &'static str,
    converted: fn(f64) -> f64,
    microvolts: f64,
}

/// The first conversion of an ADS1298 is over after nine periods of 2 ms; an ER3's after one of 4 ms.
const ELECTROCARDIOGRAPHS: [Electrocardiograph; 2] = [
    Electrocardiograph { device: "ecg-ads1298", converted: |number| (number + 9.0) * 0.002, microvolts: 0.4 },
    Electrocardiograph { device: "ecg-lepu", converted: |number| (number + 1.0) * 0.004, microvolts: 6.5 },
];

/// Of I, II, V1–V6 the one of this code.
fn lead(code: u32) -> usize {
    [Mdc::ECG_I, Mdc::ECG_II, Mdc::ECG_V1, Mdc::ECG_V2, Mdc::ECG_V3, Mdc::ECG_V4, Mdc::ECG_V5, Mdc::ECG_V6]
        .iter()
        .position(|lead| lead.0 == code)
        .unwrap()
}

#[test]
fn ecg_samples_are_those_that_were_converted_and_scaled_the_patients() {
    const VISIT: Duration = Duration::from_secs(15);
    let scenario = Scenario::parse("signal=synthetic").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for Electrocardiograph { device, converted, microvolts } in ELECTROCARDIOGRAPHS {
        let (mut worst, mut samples) = (0.0_f64, 0);
        for seed in 0..PATIENTS_WITH_ECG {
            let file = folder.path().join(format!("{device}-{seed}"));
            let visit = Visit { scenario: scenario.clone(), truth: Truth::to(&file).unwrap(), ..Visit::of(seed, VISIT) };
            let filed = bedside::attend(device, &visit).unwrap();
            let mut truth = ledger::Truth::default();
            truth.add(device, &std::fs::read_to_string(&file).unwrap()).unwrap();
            let stream = truth.streams.into_values().next().unwrap();
            let patient = Patient::new(seed);
            let mut frames = 0;
            for draft in &filed.drafts {
                let Content::Segment(segment) = &draft.content else { continue };
                let integers = flac::decode(&segment.flac).unwrap();
                let counter = segment.device_counter.unwrap();
                let first = stream.counters.iter().position(|known| *known == counter).unwrap();
                let count = integers.len() / segment.channels.len();
                assert!(stream.run(first, count) == Some(&integers[..]), "{device}, seed {seed}, from {counter}");
                frames += count;
                for (row, number) in integers.chunks(segment.channels.len()).zip(u32::try_from(counter).unwrap()..) {
                    let truth = patient.ecg(converted(number.into()));
                    for (integer, channel) in row.iter().zip(&segment.channels) {
                        assert_eq!(channel.unit, if device == "ecg-lepu" { "mV" } else { "uV" });
                        let unit = if channel.unit == "mV" { 1_000.0 } else { 1.0 };
                        let exponent = i8::try_from(channel.scale_exponent).unwrap();
                        let scale = Decimal::new(channel.scale_mantissa, exponent).to_f64();
                        let away = f64::from(*integer) * scale * unit - truth[lead(channel.code)] * 1_000.0;
                        worst = worst.max(away.abs());
                    }
                }
            }
            assert!(frames * 10 >= stream.len() * 9, "{device}, seed {seed}: {frames} of {}", stream.len());
            samples += frames * stream.channels;
        }
        println!(
            "{device}: {samples} samples of {PATIENTS_WITH_ECG} patients as converted; worst {worst:.2} uV of {microvolts:.2} allowed"
        );
        assert!(worst <= microvolts, "{device}: {worst}");
    }
}
