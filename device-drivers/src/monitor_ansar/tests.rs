use super::*;
use crate::driver::{By, DownReason, Endpoint};
use crate::transport::scripted::{Conversation, Given, Step};

fn message(lines: &[&str]) -> Vec<u8> {
    let mut octets = b"\xffANSAR-B ".to_vec();
    octets.extend((0..200).map(|place| 100 + place % 50));
    octets.extend([7; 50]);
    octets.extend([86; 50]);
    octets.extend([90; 50]);
    octets.extend([251; 50]);
    lines.iter().for_each(|line| octets.extend(line.bytes().chain(*b"\r")));
    octets.push(0xfe);
    octets
}

/// The text that an Ivy 450C sent: mdpnp 1ae7f72.
fn captured() -> Vec<&'static str> {
    include_str!("../../../protocol/vectors/ansar_b_text.txt").lines().filter(|line| !line.starts_with('#')).collect()
}

fn sends(octets: Vec<u8>) -> Step {
    Step::Sends(Endpoint::SERIAL, By::Serial, octets)
}

/// One a second.
fn line(messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<Step> {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    messages.into_iter().for_each(|message| script.extend([sends(message), Step::Wait(Duration::from_secs(1))]));
    script
}

fn play(mut script: Vec<Step>) -> Vec<Given> {
    script.push(Step::Down(DownReason::Lost));
    Conversation::play((DRIVER.session)(Start::default()), &script).unwrap()
}

fn readings(given: &[Given]) -> Vec<String> {
    let text = |m: &Measured| {
        let values: Vec<_> = m
            .values
            .iter()
            .map(|value| match &value.quantity {
                Quantity::Number(number) => format!("{}={number}", value.code.name().unwrap()),
                _ => format!("{}=-", value.code.name().unwrap()),
            })
            .collect();
        let context: Vec<_> = m.context.iter().map(|context| context.value).collect();
        format!("{:?} {} {:?}{:?}", m.memory, values.join(" "), m.status, context)
    };
    given.iter().filter_map(|(_, output)| if let Ok((_, Output::Measured(m))) = output { Some(text(m)) } else { None }).collect()
}

fn story(given: &[Given]) -> Vec<String> {
    given
        .iter()
        .filter_map(|(_, output)| match output {
            Ok((_, Output::Begin { recording, head })) => {
                let channel = &head.channels[0];
                Some(format!("begin {recording} {} {} {}", channel.code.name().unwrap(), head.rate.samples, channel.filter))
            }
            Ok((_, Output::Samples { recording, block })) => {
                Some(format!("{recording}: {}+{}", block.first, block.samples.len()))
            }
            Ok((_, Output::End { recording })) => Some(format!("end {recording}")),
            Ok(_) => None,
            Err(DriverError::SamplesLost { recording, first, count }) => Some(format!("{recording}: lost {first}+{count}")),
            Err(DriverError::Resynchronised { skipped }) => Some(format!("skipped {skipped}")),
            Err(other) => Some(format!("{other}")),
        })
        .collect()
}

#[test]
fn the_captured_text_is_readings_and_its_waves_are_recordings_of_their_own_rates() {
    let given = play(line([message(&captured())]));
    assert_eq!(
        readings(&given),
        [
            "Live heart-rate=80 [][]",
            "Live respiratory-rate=35 [][]",
            "Live spo2=100 pulse-rate=80 [][]",
            "Stored systolic=121 diastolic=75 mean-arterial-pressure=92 pulse-rate-cuff=80 [][]",
            "Live invasive-systolic=111 invasive-diastolic=73 invasive-mean=88 [][\"p1\"]",
        ]
    );
    assert_eq!(
        story(&given),
        [
            "begin 1 II 200 DIAG",
            "begin 2 thoracic-impedance 50 ",
            "begin 3 pleth 50 ",
            "begin 4 invasive-pressure 50 ",
            "1: 0+200",
            "end 1",
            "2: 0+50",
            "end 2",
            "3: 0+50",
            "end 3",
            "4: 0+50",
            "end 4",
        ]
    );
    let first = |number| {
        given.iter().find_map(|(_, output)| match output {
            Ok((_, Output::Samples { recording, block })) if *recording == number => Some(block.samples[1]),
            _ => None,
        })
    };
    assert_eq!([first(1), first(2), first(3), first(4)], [Some(1), Some(7), Some(0), Some(10)], "each has its own zero");
}

#[test]
fn one_reading_of_a_parameter_comes_every_ten_seconds() {
    let given = play(line((0..25).map(|_| message(&["HR=1;80;ECG-I-MON;", "T1=1;36.60;;"]))));
    let readings = readings(&given);
    assert_eq!(readings.iter().filter(|text| text.contains("heart-rate")).count(), 3);
    assert_eq!(readings[1], "Live temperature=36.60 [][\"t1\"]");
    assert_eq!(story(&given).iter().filter(|text| text.starts_with("1: ")).count(), 25);
}

#[test]
fn a_cuff_is_read_when_its_values_change_or_come_back_and_the_first_are_old_ones() {
    let cuffs = ["121;75;92;80", "121;75;92;80", "130;80;97;78", ";;;", ";;;", "130;80;97;78", "130;80;97;78"];
    let lines = cuffs.map(|cuff| format!("NIBP=4;{cuff};;HIGH"));
    let given = play(line(lines.iter().map(|nibp| message(&["HR=1;;;", nibp]))));
    let pressures: Vec<_> = readings(&given).iter().map(|text| text[..19].to_string()).collect();
    assert_eq!(pressures, ["Stored systolic=121", "Live systolic=130 d", "Live systolic=130 d"]);
    assert!(readings(&given)[0].contains("[\"alarm\"]"));
}

#[test]
fn nothing_is_made_of_absent_fields() {
    let given =
        play(line([message(&["HR=1;;;", "RR=1;--;;", "SPO2=1;;PR= ;", "NIBP=4;;;;;;", "P2=3;;;;NO TRANSDUCER;", "T1=1;;;"])]));
    assert!(readings(&given).is_empty(), "{:?}", readings(&given));
    let half = play(line([message(&["HR=1;;;", "SPO2=1;;PR=80 ;"])]));
    assert_eq!(readings(&half), ["Live spo2=- pulse-rate=80 [][]"]);
}

#[test]
fn a_missing_message_and_a_garbled_one_end_the_recordings() {
    let good = || message(&["HR=1;80;ECG-II-DIAG;"]);
    let mut script = line([good()]);
    script.push(Step::Wait(Duration::from_secs(1)));
    script.push(sends(good()));
    script.push(Step::Wait(Duration::from_secs(1)));
    let mut cut = good();
    cut.drain(40..47);
    script.push(sends(cut));
    script.push(Step::Wait(Duration::from_millis(600)));
    script.push(sends(good()));
    let story = story(&play(script));
    let ecg: Vec<_> = story
        .iter()
        .filter(|text| ["1", "4", "7"].iter().any(|n| text.contains(&format!("{n}: ")) || text.contains(&format!("begin {n} "))))
        .collect();
    assert_eq!(
        ecg,
        [
            "begin 1 II 200 DIAG",
            "1: 0+200",
            "1: lost 200+0",
            "begin 4 II 200 DIAG",
            "4: 0+200",
            "4: lost 200+0",
            "begin 7 II 200 DIAG",
            "7: 0+200"
        ]
    );
}

#[test]
fn another_lead_is_another_recording_and_an_unknown_one_is_not_guessed() {
    let given = play(line(["ECG-II-DIAG", "ECG-III-MON", "LEADS OFF"].map(|label| message(&[&format!("HR=1;80;{label};")]))));
    let begins: Vec<_> = story(&given).into_iter().filter(|text| text.starts_with("begin") && text.contains(" 200 ")).collect();
    assert_eq!(begins, ["begin 1 II 200 DIAG", "begin 4 III 200 MON", "begin 5 ecg 200 LEADS OFF"]);
}

#[test]
fn a_line_that_carries_something_else_is_not_this_device() {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    script.extend((0..100).map(|_| sends(vec![0x41; 100])));
    script.push(Step::Close);
    assert!(story(&play(script)).iter().any(|text| text.starts_with("not a device")));
}

proptest::proptest! {
    #[test]
    fn random_octets_never_panic_and_outputs_stay_bounded(
        pieces in proptest::collection::vec((proptest::prelude::any::<bool>(), proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 0..5_u64), 0..20),
    ) {
        let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
        for (whole, noise, seconds) in pieces {
            script.extend(whole.then(|| sends(message(&captured()))));
            script.extend([sends(noise), Step::Wait(Duration::from_secs(seconds))]);
        }
        proptest::prop_assert!(play(script).len() < 20 * 40);
    }
}
