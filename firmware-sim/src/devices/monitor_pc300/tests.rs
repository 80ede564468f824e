use kit_protocol::serial::pc300::{BloodPressure, BloodPressureError};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn messages(device: &mut Monitor, until: Duration) -> Vec<(Duration, Message)> {
    let mut messages = Vec::new();
    device.advance(until, &mut |emission| {
        let frame = Frame::decode(&emission.octets).unwrap();
        messages.push((emission.at, Message::decode(&frame).unwrap()));
    });
    messages
}

fn pressures(messages: &[(Duration, Message)]) -> Vec<(Duration, Result<BloodPressure, BloodPressureError>)> {
    let result = |(at, message): &(Duration, Message)| match message {
        Message::BloodPressure(m) => Some((*at, Ok(*m))),
        Message::BloodPressureError(error) => Some((*at, Err(*error))),
        _ => None,
    };
    messages.iter().filter_map(result).collect()
}

/// The worst that was met, with its seed.
#[derive(Default)]
struct Worst {
    error: f64,
    seed: u64,
}

impl std::fmt::Debug for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.2} (seed {})", self.error, self.seed)
    }
}

impl Worst {
    fn take(&mut self, seed: u64, error: f64) {
        if error.abs() > self.error.abs() {
            *self = Self { error, seed };
        }
    }
}

/// Physiology in, numbers out: SYS and DIA within 5 mmHg, pulse within 1/min, temperature within 0.1 Cel, SpO2 within 2 %.
#[test]
fn two_hundred_patients_are_measured_as_they_are() {
    let [mut systolic, mut diastolic, mut pulse, mut temperature, mut spo2] = std::array::from_fn(|_| Worst::default());
    for seed in 0..200 {
        let patient = Patient::new(seed);
        let mut device = Monitor::new(seed, &Scenario::default());
        let messages = messages(&mut device, 100 * SECOND);
        let [(_, Ok(pressure))] = pressures(&messages)[..] else { panic!("seed {seed}: {:?}", pressures(&messages)) };
        let found = device.firmware.as_ref().and_then(|f| f.last_pressure()).unwrap().unwrap();
        // The fall begins when the cuff is full; a sample is 20 ms.
        let told = messages.iter().rfind(|(_, m)| matches!(m, Message::CuffPressure(c) if c.pressure >= 178)).unwrap().0;
        let time = |sample: usize| told.as_secs_f64() - 0.8 + 0.02 * f64::from(u32::try_from(sample).unwrap());
        let mean = |value: fn(crate::patient::Vitals) -> f64| {
            let (from, to) = (time(found.first), time(found.last));
            (0..100).map(|n| value(patient.vitals(from + (to - from) * f64::from(n) / 100.0))).sum::<f64>() / 100.0
        };
        systolic.take(seed, f64::from(pressure.systolic) - mean(|v| v.systolic));
        diastolic.take(seed, f64::from(pressure.diastolic) - mean(|v| v.diastolic));
        let (from, to) = (time(found.first), time(found.last));
        pulse.take(seed, f64::from(pressure.pulse_rate) - 60.0 * (patient.beats(to) - patient.beats(from)) / (to - from));
        for (at, message) in &messages {
            match message {
                Message::Temperature(m) if m.state == TemperatureState::Done => {
                    let celsius = 30.0 + f64::from(m.hundredths_above_30.unwrap()) / 100.0;
                    temperature.take(seed, celsius - patient.vitals(at.as_secs_f64()).temperature);
                }
                Message::Oximetry(m) if at.as_secs() > 12 => {
                    spo2.take(seed, f64::from(m.spo2.unwrap()) - patient.vitals(at.as_secs_f64()).spo2);
                }
                _ => {}
            }
        }
        let done = |m: &&(Duration, Message)| matches!(m.1, Message::Temperature(t) if t.state == TemperatureState::Done);
        assert_eq!(messages.iter().filter(done).count(), 2, "seed {seed}");
    }
    println!("worst of 200: SYS {systolic:?} DIA {diastolic:?} pulse {pulse:?} temperature {temperature:?} SpO2 {spo2:?}");
    assert!(systolic.error.abs() <= 5.0, "systolic {systolic:?}");
    assert!(diastolic.error.abs() <= 5.0, "diastolic {diastolic:?}");
    assert!(pulse.error.abs() <= 1.0, "pulse {pulse:?}");
    assert!(temperature.error.abs() <= 0.1, "temperature {temperature:?}");
    assert!(spo2.error.abs() <= 2.0, "SpO2 {spo2:?}");
}

#[test]
fn a_cuff_is_never_inflated_by_a_word_from_the_line() {
    let mut device = Monitor::new(1, &Scenario::default());
    let until = 115 * SECOND;
    messages(&mut device, until);
    assert!(!device.firmware.as_ref().unwrap().measuring());
    let before = device.cuff.lock().pressure();
    for token in [0x40, 0x42, 0x43] {
        for kind in 0..8 {
            device.receive(&Frame { token, kind, content: Vec::new() }.encode());
            let until = device.now + 100 * Duration::from_millis(1);
            messages(&mut device, until);
        }
    }
    assert!(device.cuff.lock().pressure() <= before + 0.1);
    assert!(!device.firmware.as_ref().unwrap().measuring());
    device.receive(&[0xaa, 0x55, 0xff, 0x02, 0x02, 0x28]);
    let until = device.now + SECOND;
    let answers = messages(&mut device, until);
    assert!(answers.iter().any(|(_, m)| matches!(m, Message::DeviceInformation(d) if d.battery == Some(3))));
}

#[test]
fn a_patient_who_moves_has_no_pressure() {
    let scenario = Scenario::parse("at=10 fault=motion for=80").unwrap();
    let results = pressures(&messages(&mut Monitor::new(4, &scenario), 119 * SECOND));
    assert_eq!(results.iter().map(|(_, result)| *result).collect::<Vec<_>>(), [Err(BloodPressureError::MOTION)]);
}

/// Runs one measurement with this trouble and gives what came of it, the highest pressure, and the pressure at its end.
fn troubled(trouble: Trouble) -> (Option<BloodPressureError>, f64, f64) {
    let mut device = Monitor::new(2, &Scenario::default());
    device.boot();
    let mut firmware = device.firmware.take().unwrap();
    firmware.press_cuff(0);
    device.cuff.lock().trouble(trouble);
    for tick in 1..14_000_u64 {
        device.now = Duration::from_millis(10 * tick);
        device.advance_parts();
        firmware.service(10 * tick).unwrap();
        if !firmware.measuring() {
            device.cuff.lock().trouble(Trouble::default());
        }
    }
    let error = firmware.last_pressure().and_then(|result| result.err());
    let cuff = device.cuff.lock();
    (error, cuff.highest(), cuff.pressure())
}

#[test]
fn whatever_goes_wrong_the_pressure_is_let_out() {
    for (trouble, expected, most) in [
        (Trouble { loose: true, ..Trouble::default() }, BloodPressureError::CUFF_NOT_WRAPPED, 30.0),
        (Trouble { stuck: true, ..Trouble::default() }, BloodPressureError::OVERPRESSURE, 300.0),
        (Trouble { pulseless: true, ..Trouble::default() }, BloodPressureError::NO_PULSE, 200.0),
    ] {
        let (error, highest, left) = troubled(trouble);
        assert_eq!(error, Some(expected), "{trouble:?}");
        assert!(highest <= most, "{trouble:?}: {highest}");
        assert!(left < 1.0, "{trouble:?}: {left}");
    }
}

#[test]
fn a_reboot_lets_the_pressure_out() {
    let scenario = Scenario::parse("at=8 fault=reboot for=4").unwrap();
    let mut device = Monitor::new(2, &scenario);
    messages(&mut device, 7 * SECOND);
    assert!(device.cuff.lock().pressure() > 50.0);
    messages(&mut device, 20 * SECOND);
    assert!(device.cuff.lock().pressure() < 5.0);
}

#[test]
fn a_finger_off_gives_no_value_and_a_low_battery_is_told() {
    let scenario = Scenario::parse("at=20 fault=sensor-off for=10\nat=30 fault=battery percent=9").unwrap();
    let mut device = Monitor::new(3, &scenario);
    let off = messages(&mut device, 29 * SECOND);
    assert!(off.iter().any(|(at, m)| at.as_secs() > 22 && matches!(m, Message::Oximetry(o) if o.probe_off && o.spo2.is_none())));
    messages(&mut device, 31 * SECOND);
    device.receive(&[0xaa, 0x55, 0xff, 0x02, 0x02, 0x28]);
    let answers = messages(&mut device, 32 * SECOND);
    assert!(answers.iter().any(|(_, m)| matches!(m, Message::DeviceInformation(d) if d.battery == Some(0))));
}
