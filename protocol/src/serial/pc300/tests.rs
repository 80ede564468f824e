use proptest::prelude::*;

use super::*;
use crate::vectors::vectors;

fn meaning(message: &Message) -> String {
    match message {
        Message::CuffPressure(m) => format!("cuff {} pulse {}", m.pressure, m.pulse),
        Message::BloodPressure(m) => {
            format!("bp {}/{} mean {} pulse {} irregular {}", m.systolic, m.diastolic, m.mean, m.pulse_rate, m.irregular)
        }
        Message::BloodPressureError(error) => format!("bp error {}", error.number()),
        Message::Pleth(samples) => format!("pleth {samples:?}"),
        Message::Oximetry(m) => format!(
            "spo2 {:?} pulse {:?} pi {:?} off {} searching {}",
            m.spo2, m.pulse_rate, m.perfusion_tenths, m.probe_off, m.searching
        ),
        Message::Temperature(m) => format!("temperature {:?} {:?} off {}", m.state, m.hundredths_above_30, m.probe_off),
        Message::Glucose(m) => format!("glucose {:?} {:?} low {} high {}", m.digits, m.unit, m.low, m.high),
        Message::EcgBlock(b) => format!("ecg {} bits {} first {} off {}", b.sequence, b.twelve_bits, b.samples[0], b.lead_off),
        other => format!("{other:?}"),
    }
}

#[test]
fn vectors_run_both_ways() {
    for vector in vectors(include_str!("../../../vectors/pc300_messages.txt")) {
        let frame = Frame::decode(&vector.octets).unwrap_or_else(|error| panic!("{}: {error}", vector.id));
        let Ok(message) = Message::decode(&frame) else {
            assert_eq!(vector.expected, "invalid", "{}", vector.id);
            continue;
        };
        assert_eq!(meaning(&message), vector.expected, "{}", vector.id);
        assert_eq!(message.encode().encode(), vector.octets, "{}", vector.id);
    }
}

/// One message of every sort that has content.
fn samples() -> Vec<Message> {
    let mut samples = [2048; ECG_SAMPLES];
    samples[3] = 4095;
    vec![
        Message::CuffPressure(CuffPressure { pressure: 182, pulse: true }),
        Message::BloodPressure(BloodPressure { systolic: 124, mean: 97, diastolic: 86, pulse_rate: 51, irregular: true }),
        Message::BloodPressureError(BloodPressureError::MOTION),
        Message::Oximetry(Oximetry { spo2: Some(97), pulse_rate: Some(300), perfusion_tenths: Some(85), ..Oximetry::default() }),
        Message::Temperature(Temperature { state: TemperatureState::Done, probe_off: false, hundredths_above_30: Some(660) }),
        Message::Glucose(Glucose { low: false, high: false, unit: GlucoseUnit::MillimolesPerLitre, digits: Some(56) }),
        Message::EcgBlock(EcgBlock { sequence: 7, twelve_bits: true, samples, heart_rate: 72, lead_off: false }),
        Message::EcgResult(EcgResult { finding: EcgFinding(7), heart_rate: 72 }),
        Message::EcgGain(394),
    ]
}

#[test]
fn every_truncated_content_and_every_octet_more_is_refused() {
    for message in samples() {
        let frame = message.encode();
        for length in 0..frame.content.len() {
            let cut = Frame { content: frame.content[..length].to_vec(), ..frame.clone() };
            // A thermometer or a glucose meter may say its state without a value.
            if length == 1 && [0x72, 0x73].contains(&frame.token) {
                continue;
            }
            assert!(matches!(Message::decode(&cut), Err(DecodeError::Truncated { .. })), "{message:?} cut to {length}");
        }
        let more = Frame { content: [frame.content.clone(), vec![0]].concat(), ..frame };
        assert_eq!(Message::decode(&more), Err(DecodeError::Trailing { octets: 1 }), "{message:?}");
    }
}

#[test]
fn digits_that_are_none_are_refused() {
    let frame = Frame { token: 0x73, kind: 1, content: vec![0, 0x0a, 0x10] };
    assert_eq!(Message::decode(&frame), Err(DecodeError::Value { field: "glucose" }));
}

proptest! {
    #[test]
    fn what_is_decoded_is_decoded_again_from_its_own_octets(
        token in prop_oneof![Just(0x42), Just(0x43), Just(0x52), Just(0x53), Just(0x72), Just(0x73), Just(0xe2), Just(0x30), Just(0x32), Just(0x33), Just(0x34), Just(0xff), any::<u8>()],
        kind in 0..6_u8,
        content in prop_oneof![proptest::collection::vec(any::<u8>(), 0..8), proptest::collection::vec(any::<u8>(), 53)],
    ) {
        let frame = Frame { token, kind, content };
        if let Ok(message) = Message::decode(&frame) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }
}
