use kit_protocol::serial::ads1298::{GainCode, Header};

use super::*;
use crate::registry;

fn octets(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn lines(driver: Option<&str>, characteristic: Option<&str>, hex: &[&str]) -> Vec<String> {
    let driver = driver.map(|name| registry::find(name).unwrap());
    let characteristic = characteristic.map(|text| parse_characteristic(text).unwrap());
    let input = Input::Notifications(hex.iter().map(|hex| octets(hex)).collect());
    let decoded = decode(driver, characteristic, &input, &Options::default()).unwrap();
    decoded.lines.iter().map(Line::to_json).collect()
}

/// Vector R01: pufferfish-software, TestPacketReceiver.
const R01: &str = "0181010083 01800148ca 01800161e3 01800130b2 0180010082 0180010082 0180010082 0180010082 01800161e3 \
    01800161e3 01800161e3 0180010082 0180010082 0180010082 01800148ca 01800161e3 01800161e3 0180010082 0180010082 0180010082 \
    01800148ca 0180010082 01800148ca 0180010082 0180010082";

#[test]
fn a_packet_of_the_serial_oximeter_is_a_reading_and_a_recording() {
    let lines = lines(Some("oximeter-nonin"), None, &[R01]);
    let reading = r#"{"reading":{"kind":"pulse-oximetry","driver":"oximeter-nonin","device":null,"values":[{"code":150456,"name":"spo2","value":"97","unit":"%"},{"code":149530,"name":"pulse-rate","value":"72","unit":"/min"}],"device_time":null,"record":null,"user":null,"status":[],"key":null,"assignment":null,"received":null,"recording":null}}"#;
    assert_eq!(lines[0], reading);
    assert!(lines[1].contains(r#""leads":["pleth"],"rate":75,"count":25,"first":0,"unit":"1","scale":"1""#), "{}", lines[1]);
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_corrupted_packet_is_a_resynchronisation_and_no_reading() {
    let corrupted = R01.replacen("01800161e3", "01800162e3", 1);
    let lines = lines(Some("oximeter-nonin"), None, &[&corrupted, &corrupted]);
    assert!(lines.iter().any(|line| line == r#"{"resync":{"skipped":5}}"#), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("spo2")), "{lines:?}");
}

#[test]
fn noise_before_a_packet_is_counted() {
    let noise = "aa".repeat(252);
    let lines = lines(Some("oximeter-nonin"), None, &[&noise, R01, R01]);
    assert_eq!(lines[0], r#"{"resync":{"skipped":252}}"#);
    assert!(lines[1].contains(r#""name":"spo2","value":"97""#));
}

#[test]
fn every_notification_of_an_oximeter_is_a_reading() {
    let lines = lines(Some("pulse-oximeter"), Some("2a5f"), &["00e8f384f3", "0064005a00", "00ff07ff07"]);
    assert_eq!(lines.len(), 2, "what is no value is no reading");
    assert!(lines[0].contains(r#""name":"spo2","value":"100.0""#));
    assert!(lines[1].contains(r#""name":"spo2","value":"100","#));
}

/// Vector P04: SpeziBluetooth, PLXTests.
#[test]
fn a_spot_check_keeps_time_and_status() {
    let lines =
        lines(Some("pulse-oximeter"), Some("00002a5e-0000-1000-8000-00805f9b34fb"), &["0facf3bef5e8070b1d170839204022000066e3"]);
    assert!(lines[0].contains(r#""device_time":"2024-11-29T23:08:57""#));
    assert!(lines[0].contains(r#"{"code":150448,"name":"perfusion-index","value":"8.70","unit":"%"}"#));
    assert!(lines[0].contains(r#""status":["measurement-ongoing","questionable-measurement-detected","#));
}

#[test]
fn what_is_implausible_or_undecodable_is_refused_with_its_octets() {
    let lines = lines(Some("pulse-oximeter"), Some("2a5e"), &["0065004800", "0161004800", "0000000000", "00fe074800"]);
    assert_eq!(lines[0], r#"{"refused":{"reason":"implausible","detail":"spo2 101 % is outside 1..100","octets":"0065004800"}}"#);
    let undecodable =
        r#"{"refused":{"reason":"undecodable","detail":"PLX spot-check measurement: truncated at year","octets":"0161004800"}}"#;
    assert_eq!(lines[1], undecodable);
    let absent = r#"{"code":150456,"name":"spo2","value":null,"absent":"not-available","unit":"%"}"#;
    assert!(lines[2].contains(absent), "{}", lines[2]);
    assert!(lines[3].contains(r#""absent":"positive-infinity""#), "{}", lines[3]);
}

#[test]
fn a_characteristic_by_itself_has_its_fields() {
    assert_eq!(
        lines(None, Some("2a5f"), &["1fdef3caf3caf35af5d4f3b2f220010000007ae3"]),
        [
            r#"{"measurement":{"device_and_sensor_status":[],"measurement_status":["measurement-ongoing","fully-qualified-data"],"pulse_amplitude_index":"8.90","pulse_rate":"97.0","spo2":"99.0","spo2pr_fast":{"pulse_rate":"137.0","spo2":"97.0"},"spo2pr_slow":{"pulse_rate":"69.0","spo2":"98.0"}}}"#
        ]
    );
    assert_eq!(
        lines(None, Some("0x2a52"), &["06000106", "05000201", "010301c800", "0600010c", "010302e20704110f3300"]),
        [
            r#"{"measurement":{"op_code":"response-code","operator":"null","request_op_code":"report-stored-records","response_code_value":"no-records-found"}}"#,
            r#"{"measurement":{"number_of_records":258,"op_code":"number-of-stored-records-response","operator":"null"}}"#,
            r#"{"measurement":{"op_code":"report-stored-records","operand":{"filter_type":"sequence-number","minimum":200},"operator":"greater-than-or-equal-to"}}"#,
            r#"{"measurement":{"op_code":"response-code","operator":"null","request_op_code":"report-stored-records","response_code_value":12}}"#,
            r#"{"measurement":{"op_code":"report-stored-records","operand":{"filter_type":"user-facing-time","minimum":"2018-04-17T15:51:00"},"operator":"greater-than-or-equal-to"}}"#,
        ]
    );
    assert_eq!(
        lines(None, Some("2a08"), &["e20704110f3300", "e207"]),
        [
            r#"{"measurement":{"date_time":"2018-04-17T15:51:00","day":17,"hours":15,"minutes":51,"month":4,"seconds":0,"year":2018}}"#,
            r#"{"refused":{"reason":"undecodable","detail":"truncated at month","octets":"e207"}}"#,
        ]
    );
    assert!(lines(None, Some("2a60"), &["a3004010800100"])[0].contains("multiple-bonds-supported"));
    assert!(lines(None, Some("2a5e"), &["00ff074800"])[0].contains(r#""spo2":null,"spo2_absent":"not-a-number""#));
    // With the driver too, where it does not listen to it.
    assert!(lines(Some("pulse-oximeter"), Some("2a52"), &["06000101"])[0].contains("success"));
}

#[test]
fn a_question_that_makes_no_sense_says_so() {
    let input = Input::Notifications(vec![vec![0]]);
    let ask = |driver: Option<&str>, characteristic: Option<u16>| {
        let driver = driver.map(|name| registry::find(name).unwrap());
        decode(driver, characteristic.map(bluetooth), &input, &Options::default()).unwrap_err()
    };
    assert_eq!(ask(None, None), WrongUse::NothingNamed);
    assert_eq!(ask(Some("pulse-oximeter"), None), WrongUse::WhichCharacteristic("pulse-oximeter"));
    assert_eq!(ask(Some("ecg-ads1298"), Some(0x2a5e)), WrongUse::NoCharacteristics("ecg-ads1298"));
    assert!(matches!(ask(None, Some(0x2a19)), WrongUse::UnknownCharacteristic(..)));
    assert_eq!(parse_characteristic("2a5"), None);
}

fn ecg(octets: Vec<u8>, options: &Options) -> Decoded {
    decode(registry::find("ecg-ads1298"), None, &Input::Stream(octets), options).unwrap()
}

const BARE: &str = "c00000 000001 ffffff 7fffff 800000 0003e8 fffc18 01e240 fe1dc0";

#[test]
fn a_bare_conversion_is_a_recording_of_one_sample() {
    let decoded = ecg(octets(BARE), &Options::default());
    let expected = r#""recording":{"id":null,"leads":["I","II","V1","V2","V3","V4","V5","V6"],"rate":null,"count":1,"first":0,"unit":"1","scale":"1"}"#;
    assert!(decoded.lines[0].to_json().contains(expected), "{}", decoded.lines[0].to_json());
    assert!(decoded.lines[0].to_json().contains(r#""status":["saturated-V1","saturated-V2"]"#));
    assert_eq!(decoded.waves[0].rows().collect::<Vec<_>>(), ["1,-1,8388607,-8388608,1000,-1000,123456,-123456"]);

    let options = Options { rate_hz: Some(250), lsb_uv: "0.0477".parse().ok(), ..Options::default() };
    let said = ecg(octets(BARE), &options).lines[0].to_json();
    assert!(said.contains(r#""rate":250"#) && said.contains(r#""unit":"uV","scale":"0.0477""#), "{said}");
}

#[test]
fn framed_conversions_with_their_header_say_what_they_mean() {
    let header = Header { rate_hz: 500, gain: GainCode(0), reference_mv: 2400, leads: vec![Lead::I, Lead::II] };
    let frame = |counter| DataFrame { counter, sample: ads1298::Sample::default() }.encode();
    let mut stream = header.encode();
    (0..700).chain(710..720).for_each(|counter| stream.extend(frame(counter)));
    let decoded = ecg(stream, &Options::default());
    let texts: Vec<_> = decoded.lines.iter().map(Line::to_json).collect();
    assert_eq!(texts.len(), 2);
    assert!(
        texts[0].contains(r#""leads":["I","II"],"rate":500,"count":700,"first":0,"unit":"uV","scale":"0.047683721505""#),
        "{}",
        texts[0]
    );
    assert!(texts[1].contains(r#""count":10,"first":710"#));
    assert_eq!(decoded.waves[0].samples.len(), 1_400);
}

#[test]
fn framed_conversions_without_a_header_need_to_be_told() {
    let frame = |counter| DataFrame { counter, sample: ads1298::Sample::default() }.encode();
    let stream: Vec<u8> = (0..20).flat_map(frame).collect();
    let untold = ecg(stream.clone(), &Options::default());
    assert!(untold.lines[0].to_json().contains("20 frames without a header frame"));
    let told = ecg(stream, &Options { rate_hz: Some(250), lsb_uv: Some(Decimal::new(5, -1)), ..Options::default() });
    assert!(told.lines[0].to_json().contains(r#""rate":250,"count":20"#));
}

#[test]
fn leads_that_are_off_are_said() {
    let decoded = ecg(octets(&BARE.replacen("c00000", "c20000", 1)), &Options::default());
    assert!(decoded.lines[0].to_json().contains(r#""lead-off-V4""#), "{}", decoded.lines[0].to_json());
}

#[test]
fn nothing_decodes_to_nothing() {
    assert!(ecg(Vec::new(), &Options::default()).lines.is_empty());
    assert!(lines(Some("oximeter-nonin"), None, &[""]).is_empty());
}

proptest::proptest! {
    #[test]
    fn no_input_panics(stream in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        for driver in registry::DRIVERS {
            for characteristic in [None, Some(bluetooth(0x2a5e)), Some(bluetooth(0x2a5f))] {
                let _ = decode(Some(driver), characteristic, &Input::Stream(stream.clone()), &Options::default());
            }
        }
        for characteristic in [0x2a08, 0x2a52, 0x2a5e, 0x2a5f, 0x2a60] {
            let _ = decode(None, Some(bluetooth(characteristic)), &Input::Stream(stream.clone()), &Options::default());
        }
    }
}

#[test]
fn an_ecg_file_is_a_recording_also_from_hexadecimal() {
    let header = "30303030303533000000323032302d31312d32342030373a31393a31330000000000000000000000ff0000";
    let file = format!("{header}de07fe07fb07ec07e807bb07ed07e707e007ff07fa07eb07e707bb07ed07e707{}", "00".repeat(37));
    let driver = registry::find("ecg-file");
    let inputs = [Input::Notifications(vec![octets(&file)]), Input::Stream(octets(&file))];
    for input in inputs {
        let decoded = decode(driver, None, &input, &Options::default()).unwrap();
        let line = decoded.lines[0].to_json();
        assert!(
            line.contains(
                r#""leads":["II","III","V1","V2","V3","V4","V5","V6"],"rate":800,"count":2,"first":0,"unit":"uV","scale":"5""#
            ),
            "{line}"
        );
        assert!(line.contains(r#""device_time":"2020-11-24T07:19:13""#), "{line}");
        let rows: Vec<_> = decoded.waves[0].rows().collect();
        assert_eq!(rows, ["-34,-2,-5,-20,-24,-69,-19,-25", "-32,-1,-6,-21,-25,-69,-19,-25"]);
    }
}

#[test]
fn a_notification_of_an_ecg_recorder_is_a_recording() {
    let frame = "a503fc01072600480001570c00000012000000000000000000000002000000e9ffddfff2ff0000e9ffdefff1ff44";
    let lines = lines(Some("ecg-lepu"), None, &[&frame[..40], &frame[40..]]);
    assert!(lines[0].contains(r#""name":"heart-rate","value":"72","unit":"/min""#), "{lines:?}");
    assert!(lines[1].contains(r#""leads":["V5","I","II","V1"],"rate":125,"count":2"#), "{lines:?}");
}
