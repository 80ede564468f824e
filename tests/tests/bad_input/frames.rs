//! Frames that are lost, turned, split and doubled on serial lines.

use std::time::Duration;

use firmware_sim::patient::Patient;
use harness::clock;
use harness::ledger::Fault;

use super::{Bench, layout, number};

const DEVICES: [&str; 2] = ["oximeter-nonin", "ecg-ads1298"];
/// From the devices' start; after it whole frames close the last span.
const SCENARIO: &str = "random seed=7 from=3 until=9 every=0.6 faults=drop,corrupt,split,duplicate";
/// The scenario, and some time after it.
const MEASURED_FOR: Duration = Duration::from_secs(12);
/// What a simulated oximeter may be off by, which averages over beats: octets that were taken for others would give anything.
const SPO2_TOLERANCE: f64 = 4.0;
const PULSE_TOLERANCE: f64 = 12.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_broken_frames_are_skipped_counted_and_declared_and_no_reading_is_wrong() {
    let scenario = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&scenario, SCENARIO).unwrap();
    let mut layout = layout(&DEVICES);
    layout.scenario = Some(scenario.path().to_path_buf());
    layout.stream_interval_s = Some(1);
    let seed = layout.seed;
    let mut bench = Bench::build(layout).await;
    let from_boottime_ns = clock::now().as_nanos();
    bench.plant.hand_over().await.unwrap();
    tokio::time::sleep(MEASURED_FOR).await;
    bench.plant.stop_devices().await;
    bench.plant.drained().await.unwrap();

    let asked = bench.asked(&["devices", "--json"]).await;
    for (line, device) in asked.out.lines().zip(DEVICES) {
        let view: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(view["identity"], device);
        assert!(number(&view, "/skipped_octets") > 0 && number(&view, "/segments") > 0, "{view}");
    }
    bench.plant.faults.push(Fault { from_boottime_ns, to_boottime_ns: clock::now().as_nanos() });
    let outcome = bench.plant.settle().await.unwrap();
    let balance = &outcome.balance;
    assert!(balance.holds(), "{balance:?}");
    for device in DEVICES {
        assert!(balance.missed.iter().any(|span| span.device == device && span.samples > 0), "{device}: {balance:?}");
        assert!(balance.devices[device].stored > 0, "{balance:?}");
    }
    assert!(balance.missed.iter().all(|span| span.reason == "corrupt"), "{:?}", balance.missed);
    assert_eq!(outcome.gathered.refused, 0);

    let truth = Patient::new(seed).vitals(0.0);
    let mut compared = 0;
    for reading in outcome.gathered.readings.iter().filter(|reading| reading.device == DEVICES[0]) {
        for ((_, value, unit), (expected, tolerance)) in
            reading.measurement.values.iter().zip([(truth.spo2, SPO2_TOLERANCE), (truth.heart_rate, PULSE_TOLERANCE)])
        {
            let Ok(value) = value.parse::<f64>() else { continue };
            assert!((value - expected).abs() <= tolerance, "{value} {unit}, where {expected} is true: {reading:?}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}
