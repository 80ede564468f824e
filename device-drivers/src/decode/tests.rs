use kit_protocol::serial::ads1298::{GainCode, Header};

use super::*;
use crate::registry;
use crate::text;

fn lines(driver: Option<&str>, characteristic: Option<&str>, hex: &[&str]) -> Vec<String> {
    let driver = driver.map(|name| registry::find(name).unwrap());
    let characteristic = characteristic.map(|text| parse_characteristic(text).unwrap());
    let input = Input::Notifications(hex.iter().map(|hex| text::hex(hex)).collect());
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
    assert!(lines.len() == 3 && lines[2].starts_with(r#"{"refused":"#), "what is no value is no reading: {lines:?}");
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
    assert!(lines[2].contains("neither SpO2 nor pulse in it"), "{}", lines[2]);
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

/// Vectors G01 and G20 (react-native-ble-plx issue 652; Glucose Service 1.0.1), H01 and H10 (philips-labs' simulator; ST's).
#[test]
fn the_characteristics_of_meters_and_health_sensors_have_their_fields() {
    let one = |uuid: &str, hex: &str| lines(None, Some(uuid), &[hex]).remove(0);
    let said = |uuid: &str, hex: &str, parts: &[&str]| {
        let line = one(uuid, hex);
        parts.iter().for_each(|part| assert!(line.contains(part), "{part} in {line}"));
    };
    let g01 = r#"{"measurement":{"base_time":"2020-04-13T16:38:10","context_information_follows":false,"customary":{"unit":"mg/dL","value":"120"},"glucose_concentration":"0.00120","sample_location":"not-available","sensor_status_annunciation":null,"sequence_number":6,"time_offset":0,"type":"capillary-whole-blood","unit":"kg/L","user_facing_time":"2020-04-13T16:38:10"}}"#;
    assert_eq!(one("2a18", "030600e407040d10260a000078b0f1"), g01);
    said("2a34", "02060003", &[r#""meal":"fasting""#, r#""sequence_number":6"#, r#""hba1c":null"#]);
    said("2a51", "0004", &[r#"{"glucose_feature":["multiple-bond"]}"#]);
    let h01 = "0118000300b84b020022a66a002c00000700200262000000";
    let whole = [r#""length_counts":"everything""#, r#""value":"98""#, r#""ucum":"%""#, r#""time":"2023-05-24T06:26:46""#];
    said("2b8b", h01, &whole);
    said("2b8b", &format!("07{h01}"), &[&whole[..], &[r#""segment_counter":1"#]].concat());
    said("2b8b", "0118000300", &[r#""first_segment":true,"last_segment":false"#, r#""payload":"18000300""#]);
    said("2bdd", &format!("0305000000{h01}"), &[r#""record_number":5"#, r#""value":"98""#]);
    let h10 = "011b006300b84b020022729d2b290000060001013c4c0200200262000000";
    said("2b8b", h10, &[r#""length_counts":"after-header""#, r#""patient":1"#]);
    said("2bf2", "22a66a002c000007000101", &[r#""time":"2023-05-24T06:26:46""#, r#""clock_needs_to_be_set":true"#]);
    said("2bf3", "0001b84b0200", &[r#""name":"spo2""#]);
    said("2bf4", "80", &[r#"{"op_code":"success"}"#]);
    for (uuid, hex) in [("2a18", "1b0000e207041a0b091e1e00120501"), ("2b8b", ""), ("2bf4", "8000"), ("2bf2", "22")] {
        said(uuid, hex, &[r#"{"refused":{"reason":"undecodable""#]);
    }
}

#[test]
fn a_meter_and_a_health_sensor_give_their_readings() {
    let glucose = lines(Some("glucose-meter"), None, &["030600e407040d10260a000078b0f1", "020700e407040d10260a78b04a"]);
    let value = r#""values":[{"code":160184,"name":"glucose-capillary-whole-blood","value":"120","unit":"mg/dL"}],"device_time":"2020-04-13T16:38:10","record":6"#;
    assert!(glucose[0].contains(value), "{}", glucose[0]);
    assert!(glucose[1].contains(r#"{"refused":{"reason":"not-the-patient""#), "{}", glucose[1]);
    let segments = ["010118000300b84b020022a66a002c00000700", "06200262000000"];
    let sensor = lines(Some("health-sensor"), Some("2b8b"), &segments);
    assert!(sensor[0].contains(r#""name":"spo2","value":"98","unit":"%""#), "{}", sensor[0]);
    assert_eq!(sensor.len(), 1);
    let whole = segments[0][2..].to_owned() + &segments[1][2..];
    assert_eq!(lines(Some("health-sensor"), Some("2b8b"), &[&whole]), sensor, "one that was put together already");
    assert!(lines(Some("health-sensor"), Some("2bdd"), &[&format!("09000000{whole}")])[0].contains(r#""record":9"#));
}

#[test]
fn a_blood_pressure_keeps_its_parts_together() {
    let lines = lines(Some("blood-pressure"), Some("2a35"), &["167c0056006100e807060f11111b33000400", "1467003f004d0040000000"]);
    let reading = r#"{"reading":{"kind":"blood-pressure","driver":"blood-pressure","device":null,"values":[{"code":150021,"name":"systolic","value":"124","unit":"mm[Hg]"},{"code":150022,"name":"diastolic","value":"86","unit":"mm[Hg]"},{"code":150023,"name":"mean-arterial-pressure","value":"97","unit":"mm[Hg]"},{"code":149546,"name":"pulse-rate-cuff","value":"51","unit":"/min"}],"device_time":"2024-06-15T17:17:27","record":null,"user":null,"status":["irregular-pulse"],"key":null,"assignment":null,"received":null,"recording":null}}"#;
    assert_eq!(lines[0], reading);
    assert!(lines[1].contains(r#""value":"103""#) && lines[1].contains(r#""device_time":null"#));
    assert_eq!(lines.len(), 2);
}

/// Vectors B08–B11: Beurer BM85, blood-pressure-monitor-fl 17aba3d.
#[test]
fn a_cuff_that_departs_is_refused_by_the_standard_and_read_where_its_model_is_named() {
    for (hex, value, user) in [
        ("566a0047000000ea07080b121f00003f000000", "63", 0),
        ("56710049000000ea07080b1438000041010000", "65", 1),
        ("56770046000000ea07080b1439000057010040", "87", 1),
        ("56760050000000ea07080b141b00003c000004", "60", 0),
    ] {
        assert!(lines(Some("blood-pressure"), Some("2a35"), &[hex])[0].starts_with(r#"{"refused":{"reason":"undecodable""#));
        let input = Input::Notifications(vec![text::hex(hex)]);
        let options = Options { model: Some("BM85".into()), ..Options::default() };
        let decoded = decode(registry::find("blood-pressure"), Some(bluetooth(0x2a35)), &input, &options).unwrap();
        let line = decoded.lines[0].to_json();
        assert!(line.contains(&format!(r#""name":"pulse-rate-cuff","value":"{value}""#)), "{line}");
        assert!(line.contains(r#""name":"mean-arterial-pressure","value":null,"absent":"not-available""#), "{line}");
        assert!(line.contains(&format!(r#""user":{user}"#)), "{line}");
    }
}

#[test]
fn what_has_nothing_in_it_is_no_reading() {
    for (driver, characteristic, hex) in [
        ("blood-pressure", "2a35", "16ff07ff07ff07e80706170e230aff070000"),
        ("weight-scale", "2a9d", "00ffff"),
        ("weight-scale", "2a9c", "0000ffff"),
        ("thermometer", "2a1c", "00ffff7f00"),
        ("thermometer", "2a1c", "0000008000"),
        ("glucose-meter", "2a18", "020600e407040d10260aff0711"),
        ("glucose-meter", "2a18", "000600e407040d10260a"),
        ("health-sensor", "2b8b", "0115000300b84b020022a66a002c0000070020 02ffff7f00"),
    ] {
        let lines = lines(Some(driver), Some(characteristic), &[&hex.replace(' ', "")]);
        assert!(lines.len() == 1 && lines[0].contains("the measurement failed"), "{driver} {lines:?}");
    }
    let strip = &lines(Some("glucose-meter"), None, &["080600e407040d10260a1000"])[0];
    assert!(strip.contains("the measurement failed (strip-type-incorrect)"), "{strip}");
    for (driver, characteristic, hex, why) in [
        ("heart-rate", "2a37", "0000", "no heart rate in it"),
        ("pulse-oximeter", "2a5f", "00ff07ff07", "neither SpO2 nor pulse in it"),
        ("pulse-oximeter", "2a5f", "045f005a0000e0", "no measurement is available"),
        ("pulse-oximeter", "2a5e", "025f005a0000e0", "no measurement is available"),
    ] {
        let lines = lines(Some(driver), Some(characteristic), &[hex]);
        assert!(lines.len() == 1 && lines[0].contains("refused") && lines[0].contains(why), "{driver} {lines:?}");
    }
    assert!(lines(Some("thermometer"), Some("2a1e"), &["04530d00fe09"]).is_empty(), "an intermediate one is never a reading");
}

/// What public suites assert and should not: bluetooth-sig-python 27bdb3d (an SFLOAT's exponent with a bias; mmol/L where
/// mol/L are), philips-labs' simulator 271f2aa (a count of 100 ms).
#[test]
fn expectations_of_public_suites_that_are_wrong_are_not_ours() {
    for (driver, hex, detail) in [
        ("pulse-oximeter", "0062804880", "spo2 0.00000098 % is outside 1..100"),
        ("blood-pressure", "000a7008700970", "systolic 100000000 mm[Hg] is outside 30..300"),
        ("glucose-meter", "060100e307021b0b0a1e2cf111", "glucose-capillary-whole-blood 30000 mmol/L is outside 1..3000 mg/dL"),
    ] {
        let characteristic = if driver == "pulse-oximeter" { Some("2a5e") } else { None };
        let lines = lines(Some(driver), characteristic, &[hex]);
        assert!(lines.len() == 1 && lines[0].contains(detail), "{lines:?}");
    }
    // 2023-05-24 06:26:46, in counts of 100 ms (flags 26).
    let tenths = lines(Some("health-sensor"), Some("2b8b"), &["0118000300b84b0200267c2a04b801000700200262000000"]);
    assert!(tenths[0].contains(r#""device_time":"2023-05-24T06:26:46""#), "{tenths:?}");
}

#[test]
fn an_interval_that_no_heart_has_is_said_beside_a_heart_rate_that_stands() {
    let status = |hex: &str| lines(Some("heart-rate"), None, &[hex])[0].contains(r#""status":["rr-interval-implausible"]"#);
    assert_eq!(["10480004ffff", "104800040100", "104800040003", "0048"].map(status), [true, true, false, false]);
    let line = &lines(Some("heart-rate"), None, &["10480004ffff"])[0];
    assert!(line.contains(r#""value":"72""#) && line.contains(r#""value":"63999.0234375""#), "{line}");
}

#[test]
fn two_families_at_one_service_never_take_each_others_frames() {
    let notified = "0734594a-a8e7-4b1a-a6b1-cd5243059a57";
    // A live answer of an O2Ring, and a request for information of the A5 family with its answer's head.
    let ring = "aa17e8000000001b";
    let lepu = "a5e11e00020000bf";
    for (driver, hex) in [("ecg-lepu", ring), ("oximeter-viatom", lepu)] {
        let lines = lines(Some(driver), Some(notified), &[hex; 40]);
        assert!(!lines.iter().any(|line| line.contains("reading")), "{driver} {lines:?}");
    }
}

#[test]
fn temperatures_weights_and_heart_rates_have_their_codes_and_digits() {
    let ear = &lines(Some("thermometer"), Some("2a1c"), &["04530d00fe09"])[0];
    assert!(ear.contains(r#"{"code":150392,"name":"tympanic-temperature","value":"34.11","unit":"Cel"}"#), "{ear}");
    let weight = &lines(Some("weight-scale"), Some("2a9d"), &["0eb036e8070b1d17083902e6006b06"])[0];
    assert!(weight.contains(r#"{"code":188736,"name":"weight","value":"70.000","unit":"kg"}"#), "{weight}");
    assert!(weight.contains(r#""name":"height","value":"1.643","unit":"m""#) && weight.contains(r#""user":2"#), "{weight}");
    let rate = &lines(Some("heart-rate"), None, &["1e5532002100"])[0];
    assert!(rate.contains(r#""name":"heart-rate","value":"85""#), "{rate}");
    assert!(rate.contains(r#""name":"rr-interval","value":"32.2265625","unit":"ms""#), "{rate}");
    let cuff = &lines(Some("blood-pressure"), Some("2a36"), &["156ff0000000003c001200"])[0];
    assert!(cuff.contains(r#""kind":"cuff-pressure""#) && cuff.contains(r#""value":"11.1","unit":"kPa""#), "{cuff}");
}

/// Vectors S01, S03, S05: theengs/decoder d6fdd20.
#[test]
fn an_advertised_weight_is_a_reading_once_it_is_steady_and_while_it_is_there() {
    let weight =
        lines(Some("weight-scale"), Some("181d"), &["223e30e607020e10293a", "223e30e607020e10293a", "a22044b20701010a1a15"]);
    assert!(weight.len() == 1 && weight[0].contains(r#""value":"61.750","unit":"kg""#), "{weight:?}");
    assert!(lines(Some("weight-scale"), Some("181b"), &["0204b207010112101a0000a852"]).is_empty());
    let both = lines(Some("weight-scale"), Some("181b"), &["0224e807060f0a1e000000b036", "0226e807060f0a1e00fe01b036"]);
    assert!(both.len() == 1 && both[0].contains(r#""name":"body-impedance","value":"510","unit":"Ohm""#), "{both:?}");
}

#[test]
fn the_characteristics_of_vital_signs_have_their_fields() {
    let one = |characteristic, hex| lines(None, Some(characteristic), &[hex]).remove(0);
    assert_eq!(
        one("2a35", "1e8a00580078000000041114293b3c00012700"),
        r#"{"measurement":{"diastolic":"88","mean_arterial_pressure":"120","measurement_status":["body-movement","cuff-too-loose","irregular-pulse","improper-measurement-position"],"pulse_rate":"60","systolic":"138","time_stamp":"0000-04-17T20:41:59","unit":"mm[Hg]","user_id":1}}"#
    );
    assert!(one("2a36", "00d7f000000000").contains(r#""current_cuff_pressure":"21.5""#));
    assert!(
        one("2a1c", "06b00e00fedc070c050b321b04")
            .contains(r#""temperature":"37.60","temperature_type":"finger","time_stamp":"2012-12-05T11:50:27""#)
    );
    assert!(one("2a37", "1f0101320101000201ffff").contains(r#""rr_intervals":[1,258,65535]"#));
    assert!(one("2a9d", "00ffff").contains(r#""weight":null,"weight_absent":"not-available""#));
    assert!(one("2a9c", "0102dc00ac13").contains(r#""impedance":"503.6""#));
    assert!(one("2a2b", "e807060f11111b068002").contains(r#""day_of_week":6"#));
    assert_eq!(one("2a19", "09"), r#"{"measurement":{"battery_level":9,"low":true}}"#);
    assert_eq!(one("2a29", "426575726572"), r#"{"measurement":{"text":"Beurer"}}"#);
    assert!(one("181d", "a22044b20701010a1a15").contains(r#""load_removed":true"#));
    for refused in [("2a35", "03020304050607"), ("2a37", "170101"), ("2a9d", "00b0"), ("2a19", "65"), ("2a29", "ff")] {
        assert!(one(refused.0, refused.1).starts_with(r#"{"refused""#), "{refused:?}");
    }
}

#[test]
fn a_question_that_makes_no_sense_says_so() {
    let input = Input::Notifications(vec![vec![0]]);
    let ask = |driver: Option<&str>, characteristic: Option<u16>| {
        let driver = driver.map(|name| registry::find(name).unwrap());
        decode(driver, characteristic.map(bluetooth), &input, &Options::default()).unwrap_err()
    };
    assert_eq!(ask(None, None), WrongUse::NothingNamed);
    assert_eq!(ask(Some("ecg-ads1298"), Some(0x2a5e)), WrongUse::NoCharacteristics("ecg-ads1298"));
    assert!(matches!(ask(None, Some(0x2a99)), WrongUse::UnknownCharacteristic(..)));
    assert_eq!(parse_characteristic("2a5"), None);
}

#[test]
fn values_without_a_characteristic_are_of_the_first_that_the_driver_listens_to() {
    for (driver, characteristic, digits) in [
        ("thermometer", "2a1c", "06b00e00fedc070c050b321b04"),
        ("blood-pressure", "2a35", "1467003f004d0040000000"),
        ("pulse-oximeter", "2a5e", "0facf3bef5e8070b1d170839204022000066e3"),
        ("health-sensor", "2b8b", "0118000300b84b020022a66a002c00000700200262000000"),
    ] {
        let told = lines(Some(driver), Some(characteristic), &[digits]);
        assert!(told[0].starts_with(r#"{"reading""#), "{told:?}");
        assert_eq!(lines(Some(driver), None, &[digits]), told);
    }
}

fn ecg(octets: Vec<u8>, options: &Options) -> Decoded {
    decode(registry::find("ecg-ads1298"), None, &Input::Stream(octets), options).unwrap()
}

const BARE: &str = "c00000 000001 ffffff 7fffff 800000 0003e8 fffc18 01e240 fe1dc0";

#[test]
fn a_bare_conversion_is_a_recording_of_one_sample() {
    let decoded = ecg(text::hex(BARE), &Options::default());
    let expected = r#""recording":{"id":null,"leads":["I","II","V1","V2","V3","V4","V5","V6"],"rate":null,"count":1,"first":0,"unit":"1","scale":"1"}"#;
    assert!(decoded.lines[0].to_json().contains(expected), "{}", decoded.lines[0].to_json());
    assert!(decoded.lines[0].to_json().contains(r#""status":["saturated-V1","saturated-V2"]"#));
    assert_eq!(decoded.waves[0].rows().collect::<Vec<_>>(), ["1,-1,8388607,-8388608,1000,-1000,123456,-123456"]);

    let options = Options { rate_hz: Some(250), lsb_uv: "0.0477".parse().ok(), ..Options::default() };
    let said = ecg(text::hex(BARE), &options).lines[0].to_json();
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
    let decoded = ecg(text::hex(&BARE.replacen("c00000", "c20000", 1)), &Options::default());
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
            for characteristic in std::iter::once(None).chain(characteristics().map(Some)) {
                let _ = decode(Some(driver), characteristic, &Input::Stream(stream.clone()), &Options::default());
            }
        }
        for characteristic in characteristics() {
            let _ = decode(None, Some(characteristic), &Input::Stream(stream.clone()), &Options::default());
        }
    }
}

#[cfg(feature = "derive")]
#[test]
fn a_flow_is_a_reading_of_its_figures() {
    let blow = (0..2_500).map(|index| {
        let t = f64::from(index) * 0.002;
        if t < 0.08 { 8.0 * t / 0.08 } else { 8.0 * (-(t - 0.08) / 0.5).exp() }
    });
    let text: String = blow.map(|flow| format!("  {flow:.3}\r\n")).collect();
    let decode_flow = |text: String| {
        let input = Input::Flow { text, interval: Duration::from_millis(2) };
        decode(registry::find("spirometer-flow"), None, &input, &Options::default()).unwrap().lines
    };
    let lines = decode_flow(text.clone());
    assert_eq!(lines.len(), 1);
    let json = lines[0].to_json();
    for value in [
        r#"{"code":188928,"name":"fvc","value":"4.320","unit":"L"}"#,
        r#"{"code":152584,"name":"pef","value":"8.000","unit":"L/s"}"#,
        r#"{"code":188948,"name":"fev1-fvc","value":"86.4","unit":"%"}"#,
        r#"{"code":189020,"name":"back-extrapolated-volume","value":"0.080","unit":"L"}"#,
        r#""status":["fev1-acceptable","fvc-acceptable"]"#,
    ] {
        assert!(json.contains(value), "{value} in {json}");
    }
    let twice = decode_flow(format!("{text}{}{text}", "0\n".repeat(2_500)));
    assert_eq!(twice.len(), 3);
    assert!(twice[2].to_json().contains(r#""status":["best-of-session","grade-fev1-b","grade-fvc-b"]"#));
    for (wrong, why) in [
        ("0.1\nx\n", "line 2 is no number"),
        ("", "fewer than two samples"),
        ("0\n0\n0\n", "no forced expiration"),
        ("0\n651.6\n", "beyond what a person can breathe"),
    ] {
        let lines = decode_flow(wrong.into());
        assert!(matches!(&lines[..], [Line::Refused(refused)] if refused.detail.contains(why)), "{lines:?}");
    }
}

#[test]
fn a_flow_is_wrong_use_for_any_other_driver() {
    let input = Input::Flow { text: "0\n".into(), interval: Duration::from_millis(2) };
    for driver in [None, registry::find("oximeter-nonin")] {
        assert!(matches!(decode(driver, None, &input, &Options::default()), Err(WrongUse::NoFlow)));
    }
}

/// Vectors R08, R11, X01, X02 and R06: each variant is told by itself.
#[test]
fn every_oximeter_is_decoded_from_a_stream_or_a_characteristic() {
    let of = |driver: &str, characteristic: Option<&str>, digits: &str| {
        let characteristic = characteristic.map(|text| parse_characteristic(text).unwrap());
        let input = if characteristic.is_some() {
            Input::Notifications(vec![text::hex(digits)])
        } else {
            Input::Stream(text::hex(digits))
        };
        let decoded = decode(registry::find(driver), characteristic, &input, &Options::default()).unwrap();
        decoded.lines.iter().map(Line::to_json).collect::<Vec<_>>().join("\n")
    };
    let has = |text: &str, spo2: u8, pulse: u8| {
        let value = |name: &str, value: u8| text.contains(&format!(r#""name":"{name}","value":"{value}""#));
        assert!(value("spo2", spo2) && value("pulse-rate", pulse), "{text}");
    };
    has(&of("oximeter-contec", None, "018085c083c8e2b082018885c08382e2b082"), 98, 72);
    has(&of("oximeter-contec", None, "85404302628540430262"), 98, 130);
    has(&of("oximeter-contec", Some("ff02"), "eb010453637f0025eb000348093f"), 99, 83);
    has(&of("oximeter-berry", None, "85404302628540430262"), 98, 130);
    has(&of("oximeter-berry", None, "ffaa0108626148499e00140f2dd2029649556460"), 98, 72);
    has(&of("oximeter-viatom", Some("6e400003-b5a3-f393-e0a9-e50e24dcca9e"), "aa550f0801603e005000c008"), 96, 62);
    has(&of("oximeter-nonin", None, "0002000d000e20261121103000000200004800616303"), 97, 72);
    has(&of("oximeter-nonin", None, "80486120"), 97, 72);
    // Probe error: a waveform that is none, and no number.
    assert!(!of("oximeter-contec", None, "01e985c083ffffffff").contains("spo2"));
}

#[test]
fn a_recorded_download_of_a_contec_is_one_recording() {
    // A segment, its length, its date and time; two points and what fills the packet up.
    let stream = "0a808081 0880808086808080 07808080948e8892 1280808082a69280 0f88e2c8e1828080".replace(' ', "");
    let input = Input::Stream(text::hex(&stream));
    let decoded = decode(registry::find("oximeter-contec"), None, &input, &Options::default()).unwrap();
    let line = decoded.lines[0].to_json();
    assert!(line.contains(r#""leads":["spo2","pulse-rate"],"rate":1,"count":2"#), "{line}");
    assert!(line.contains(r#""device_time":"2014-08-18T02:38:18""#), "{line}");
    assert_eq!(decoded.waves[0].rows().collect::<Vec<_>>(), ["98,72", "97,130"]);
    assert_eq!(decoded.lines.len(), 1);
}

#[test]
fn a_record_of_a_contec_spirometer_is_a_reading() {
    let vectors = include_str!("../../../protocol/vectors/spirometer_contec.txt");
    let record = vectors.lines().find_map(|line| line.strip_prefix("S01 | ")?.split(' ').next()).unwrap();
    let lines = lines(Some("spirometer-contec"), Some("ff02"), &[&record[..40], &record[40..]]);
    assert!(lines[0].contains(r#""name":"fvc","value":"4.32","unit":"L""#), "{lines:?}");
    assert!(lines[0].contains(r#""device_time":"2026-03-14T09:26:53","record":300"#), "{lines:?}");
}

#[test]
fn an_ecg_file_is_a_recording_also_from_hexadecimal() {
    let header = "30303030303533000000323032302d31312d32342030373a31393a31330000000000000000000000ff0000";
    let file = format!("{header}de07fe07fb07ec07e807bb07ed07e707e007ff07fa07eb07e707bb07ed07e707{}", "00".repeat(37));
    let driver = registry::find("ecg-file");
    let inputs = [Input::Notifications(vec![text::hex(&file)]), Input::Stream(text::hex(&file))];
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
