//! Truth against result: the physiology that went into a simulated device against the reading that the centre would show.
//!
//! 200 seeded patients a device, in virtual time: patient, part, firmware, octets, driver, Recorder, record, listing. The worst
//! case of each quantity is printed, and none may lie outside its tolerance. The truth is what was there while the device
//! measured: a value may lie within the tolerance of anything between the least and the greatest of that time.

use std::collections::BTreeMap;
use std::time::Duration;

use firmware_sim::patient::Patient;
use harness::bedside::{self, Visit};
use kit_agent::store::thread::Draft;
use kit_protocol::json::ReadingLine;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::uplink::id::{EpochId, KitId, Lane};
use kit_protocol::uplink::record::{Definitions, RecordKey};
use kit_protocol::uplink::wire::{self, record::Content};
use prost::Message as _;

/// Patients a device.
const PATIENTS: u64 = 200;

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

fn temperature(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).temperature
}

fn weight(patient: &Patient, seconds: f64) -> f64 {
    patient.vitals(seconds).weight
}

/// A visit to most devices; a cuff is pumped up and falls for most of a minute.
const VISIT: Duration = Duration::from_secs(60);
const VISIT_OF_CUFF: Duration = Duration::from_secs(100);

const PROMISES: &[Promise] = &[
    promise("body-composition-broadcast", Mdc::WEIGHT, weight, 0.01, 10),
    promise("monitor-pc300", Mdc::SYSTOLIC, systolic, 5.0, 45),
    promise("monitor-pc300", Mdc::DIASTOLIC, diastolic, 5.0, 45),
    promise("monitor-pc300", Mdc::PULSE_RATE_CUFF, pulse, 1.0, 45),
    promise("monitor-pc300", Mdc::BODY_TEMPERATURE, temperature, 0.1, 5),
    promise("monitor-pc300", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-nonin", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-nonin", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-viatom", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-viatom", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("oximeter-viatom-o2ring", Mdc::SPO2, spo2, 2.0, 12),
    promise("oximeter-viatom-o2ring", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("pulse-oximeter", Mdc::SPO2, spo2, 2.0, 12),
    promise("pulse-oximeter", Mdc::PULSE_RATE, pulse, 1.0, 12),
    promise("weight-scale-broadcast", Mdc::WEIGHT, weight, 0.01, 10),
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
        for seed in 0..PATIENTS {
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
            if off.abs() > promise.tolerance || u64::from(compared) < PATIENTS {
                broken.push(format!("{device} {name} {off:+.2} (seed {seed}), {compared} readings"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}
