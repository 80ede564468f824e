use kit_protocol::serial::berry::PacketStatus;

use super::*;
use crate::driver::{By, DownReason, DriverError, Output};
use crate::exercise::exercise;
use crate::text::numbers;
use crate::transport::scripted::{Conversation, Given, Step};

fn play(script: &[Step]) -> Vec<Given> {
    Conversation::play(Box::new(session(&Start::default())), script).unwrap_or_else(|error| panic!("{error}"))
}

fn story(given: &[Given]) -> Vec<String> {
    let text = |given: &Given| match &given.1 {
        Ok((_, Output::Measured(m))) => {
            format!("{} {}", numbers(m), m.status.join(","))
        }
        Ok((_, Output::Begin { head, .. })) => format!("begin {}", head.rate.samples),
        Ok((_, Output::Samples { block, .. })) => format!("{}+{}", block.first, block.samples.len()),
        Ok((_, Output::End { .. })) => "end".into(),
        Ok((_, other)) => format!("{other:?}"),
        Err(DriverError::SamplesLost { first, count, .. }) => format!("lost {first}+{count}"),
        Err(DriverError::Resynchronised { skipped }) => format!("skipped {skipped}"),
        Err(other) => format!("{other:?}"),
    };
    given.iter().map(text).collect()
}

fn packet(index: u8) -> Vec<u8> {
    let packet = Packet {
        index,
        status: PacketStatus(0),
        spo2: Some(97),
        spo2_real_time: Some(96),
        pulse_rate: Some(72),
        pulse_rate_real_time: Some(73),
        rr: 166,
        perfusion_index: Some(21),
        perfusion_index_real_time: None,
        pleth: index % 100,
        adc: 77,
        battery: 80,
        frequency: 100,
    };
    Twenty::Packet(packet).encode()
}

fn air(stream: &[u8], size: usize) -> Vec<Step> {
    let mut script = vec![Step::Up(vec![NOTIFIES, WRITES]), Step::Subscribe(NOTIFIES)];
    script.extend(stream.chunks(size).map(|part| Step::Sends(NOTIFIES, By::Notification, part.to_vec())));
    script.push(Step::Down(DownReason::Lost));
    script
}

#[test]
fn twenty_octets_give_numbers_with_rr_and_a_waveform_whose_holes_are_known() {
    let stream: Vec<u8> = (250..=255).chain(0..4).chain(9..12).flat_map(packet).collect();
    for size in [1, 20, 33] {
        let story = story(&play(&air(&stream, size)));
        assert_eq!(story, ["begin 100", "97/72/2.1/830 ", "0+10", "lost 10+5", "15+3", "end"], "parts of {size}");
    }
}

#[test]
fn five_octets_are_told_by_themselves_and_an_unplugged_probe_gives_no_number() {
    let good = [0x85, 0x40, 0x03, 0x48, 0x62];
    assert_eq!(story(&play(&air(&good.repeat(12), 7))), ["begin 100", "98/72 ", "0+12", "end"]);
    let unplugged = [0xa0, 0x00, 0x40, 0x7f, 0x7f];
    assert_eq!(story(&play(&air(&unplugged.repeat(6), 7))), ["begin 100", "0+6", "end"]);
}

#[test]
fn a_silent_device_is_asked_to_send_a_few_times() {
    let mut script = vec![Step::Up(vec![Endpoint::SERIAL])];
    for _ in 0..ASKED_MAX {
        script.extend([Step::Wait(SILENT), Step::Write(Endpoint::SERIAL, vec![0xf1])]);
    }
    script.extend([Step::Wait(Duration::from_secs(60)), Step::Quiet]);
    play(&script);
}

proptest::proptest! {
    #[test]
    fn whatever_comes_the_session_keeps_to_its_bounds(script in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        exercise(&DRIVER, &script);
    }
}
