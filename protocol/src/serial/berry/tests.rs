use proptest::prelude::*;

use super::*;
use crate::promises::{
    an_octet_more_is_trailing, every_cut_is_refused, every_turned_bit_is_refused, found, found_however_split, found_in_pieces,
    octets_in,
};
use crate::vectors::{octets, vectors};

fn text(twenty: &Twenty) -> String {
    let number = |number: Option<u8>| number.map_or_else(|| "-".into(), |number| number.to_string());
    match twenty {
        Twenty::Version { hardware: true, text } => format!("hardware {text}"),
        Twenty::Version { hardware: false, text } => format!("software {text}"),
        Twenty::Packet(p) => {
            let terms: Vec<_> = p.status.terms().chain((p.status.0 & PacketStatus::BEAT != 0).then_some("beat")).collect();
            format!(
                "packet {} spo2={}/{} pr={}/{} rr={} pi={}/{} pleth={} adc={} battery={} freq={} {}",
                p.index,
                number(p.spo2),
                number(p.spo2_real_time),
                number(p.pulse_rate),
                number(p.pulse_rate_real_time),
                p.rr,
                number(p.perfusion_index),
                number(p.perfusion_index_real_time),
                p.pleth,
                p.adc,
                p.battery,
                p.frequency,
                terms.join(",")
            )
        }
    }
}

fn frames(found: &[Found]) -> usize {
    found.iter().filter(|found| matches!(found, Found::Frame(_))).count()
}

#[test]
fn frames_decode_and_encode_and_nothing_else_does() {
    let mut stream = Vec::new();
    for v in vectors(include_str!("../../../vectors/berry.txt")) {
        let twenty = Twenty::decode(&v.octets).unwrap_or_else(|error| panic!("{}: {error}", v.id));
        assert_eq!(text(&twenty), v.expected, "{}", v.id);
        assert_eq!(twenty.encode(), v.octets, "{}", v.id);
        every_cut_is_refused(&v.octets, Twenty::decode);
        an_octet_more_is_trailing(&v.octets, Twenty::decode);
        every_turned_bit_is_refused(&v.octets, Twenty::decode);
        stream.extend(v.octets);
    }
    let whole = found_however_split::<Frames>(&stream);
    assert_eq!(frames(&whole), whole.len());
}

#[test]
fn a_corrupted_or_lost_or_added_octet_costs_its_own_packet_only() {
    let packet = octets("ffaa0108626148499e00140f2dd2029649556460");
    for at in 0..packet.len() {
        let stream = packet.repeat(3);
        let mut turned = stream.clone();
        turned[packet.len() + at] ^= 0x10;
        let (mut lost, mut added) = (stream.clone(), stream);
        lost.remove(packet.len() + at);
        added.insert(packet.len() + at, 0x77);
        assert_eq!(frames(&found::<Frames>(&[&turned])), 2, "octet {at} turned");
        assert_eq!(frames(&found::<Frames>(&[&lost])), 2, "octet {at} lost");
        // Before the first octet it stands between packets.
        assert_eq!(frames(&found::<Frames>(&[&added])), if at == 0 { 3 } else { 2 }, "one before octet {at}");
    }
}

/// Vector X06, of the same document: V1.00.00.00 among five octets.
#[test]
fn the_letters_of_a_version_are_no_numbers() {
    let stream = octets("8540430262 8540430262 ff56312e30 ff302e3030 ff2e303000 8540430262");
    let letters: Vec<u8> = found::<Frames>(&[&stream])
        .iter()
        .flat_map(|found| if let Found::Frame(Heard::Letters(letters)) = found { letters.to_vec() } else { Vec::new() })
        .collect();
    assert_eq!(letters, b"V1.00.00.00\0");
    let five = found::<Frames>(&[&stream]).iter().filter(|found| matches!(found, Found::Frame(Heard::Five(_)))).count();
    assert_eq!(five, 3);
}

#[test]
fn either_protocol_is_found_by_itself_and_after_the_other() {
    let (five, twenty) = (octets("8540430262"), octets("ffaa0108626148499e00140f2dd2029649556460"));
    let stream = [five.repeat(20), twenty.repeat(5), five.repeat(40)].concat();
    let (mut fives, mut twenties) = (0, 0);
    for found in found::<Frames>(&[&stream]) {
        match found {
            Found::Frame(Heard::Five(_)) => fives += 1,
            Found::Frame(Heard::Twenty(_)) => twenties += 1,
            _ => {}
        }
    }
    assert_eq!(twenties, 5);
    assert!((40..=60).contains(&fives), "{fives}");
    // A packet's own octets are never taken for five.
    let broken = [twenty.clone(), [&[0xff, 0x00, 0x00][..], &five.repeat(3)].concat(), twenty].concat();
    assert!(!found::<Frames>(&[&broken]).iter().any(|found| matches!(found, Found::Frame(Heard::Five(_)))));
}

proptest! {
    #[test]
    fn packets_survive_the_way_there_and_back(
        index: u8, status in 0..16_u8, spo2 in proptest::option::of(0..=100_u8), rate in proptest::option::of(0..=250_u8),
        rr: u16, pi in proptest::option::of(1..=200_u8), pleth in 0..=100_u8, adc: i32, battery in 0..=100_u8,
    ) {
        let packet = Packet {
            index, status: PacketStatus(status), spo2, spo2_real_time: spo2, pulse_rate: rate, pulse_rate_real_time: rate, rr,
            perfusion_index: pi, perfusion_index_real_time: pi, pleth, adc, battery, frequency: 100,
        };
        prop_assert_eq!(Packet::decode(&Twenty::Packet(packet).encode()), Ok(packet));
    }

    #[test]
    fn no_split_makes_a_difference_and_every_octet_is_counted(
        stream in proptest::collection::vec(any::<u8>(), 0..300), size in 1..30_usize,
    ) {
        let whole = found_in_pieces::<Frames>(&stream, size);
        prop_assert_eq!(octets_in(&whole, |heard| if matches!(heard, Heard::Twenty(_)) { 20 } else { 5 }), stream.len());
    }
}
