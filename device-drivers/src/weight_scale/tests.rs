use kit_protocol::reading::Memory;

use super::*;
use crate::driver::{About, By, Command, DownReason, DriverError, Output};
use crate::text::hex;
use crate::transport::scripted::{Conversation, Step};

fn play_with(start: Start, script: Vec<Step>) -> (Vec<Measured>, Vec<String>) {
    let given = Conversation::play((DRIVER.session)(start), &script).unwrap();
    let errors = given.iter().filter_map(|(_, output)| output.as_ref().err().map(ToString::to_string)).collect();
    let measured = |output| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None };
    (given.into_iter().filter_map(|(_, output)| measured(output)).collect(), errors)
}

fn play(script: Vec<Step>) -> Vec<Measured> {
    play_with(Start::default(), script).0
}

fn both() -> Vec<Step> {
    vec![Step::Up(vec![WEIGHT, COMPOSITION]), Step::Subscribe(WEIGHT), Step::Subscribe(COMPOSITION)]
}

fn weighs(octets: &str) -> Step {
    Step::Sends(WEIGHT, By::Indication, hex(octets))
}

fn composes(octets: &str) -> Step {
    Step::Sends(COMPOSITION, By::Indication, hex(octets))
}

fn names(measured: &Measured) -> Vec<String> {
    let one = |value: &kit_protocol::reading::Value| match &value.quantity {
        kit_protocol::reading::Quantity::Number(number) => format!("{}={number} {}", value.code.name().unwrap(), value.unit),
        absent => format!("{}={absent:?}", value.code.name().unwrap()),
    };
    measured.values.iter().map(one).collect()
}

const STAMP: &str = "e8070b1d170839";

#[test]
fn what_one_digit_is_worth_the_feature_says() {
    let script = vec![
        Step::Up(vec![WEIGHT, WEIGHT_FEATURE]),
        Step::Read(WEIGHT_FEATURE, vec![3 << 3, 1, 0, 0]),
        Step::Subscribe(WEIGHT),
        weighs(&format!("0ab802{STAMP}e6000000")),
    ];
    assert_eq!(names(&play(script)[0]), ["weight=69.6 kg", "bmi=23.0 kg/m2", "height=Special(NotAvailable)"]);
}

#[test]
fn a_weight_that_comes_before_the_feature_waits_for_it() {
    let early = weighs(&format!("0ab802{STAMP}e6000000"));
    let up = Step::Up(vec![WEIGHT, WEIGHT_FEATURE]);
    let read = Step::Read(WEIGHT_FEATURE, vec![3 << 3, 1, 0, 0]);
    let given = play(vec![up.clone(), early.clone(), read, Step::Subscribe(WEIGHT)]);
    assert_eq!(names(&given[0]), ["weight=69.6 kg", "bmi=23.0 kg/m2", "height=Special(NotAvailable)"]);
    let script = [up, early, Step::Down(DownReason::Lost)];
    let told = Conversation::play((DRIVER.session)(Start::default()), &script).unwrap();
    let refused =
        matches!(&told[..], [(_, Err(DriverError::Undecodable { reason, .. }))] if reason.contains("had said what it means"));
    assert!(refused, "{told:?}");
}

#[test]
fn a_weight_and_a_composition_of_one_time_are_one_reading() {
    for turned in [false, true] {
        let mut halves = vec![weighs(&format!("06b036{STAMP}02")), composes(&format!("0602dc00{STAMP}02ac13"))];
        if turned {
            halves.reverse();
        }
        let mut script = both();
        script.extend(halves);
        let readings = play(script);
        assert_eq!(names(&readings[0]), ["weight=70.000 kg", "body-fat=22.0 %", "body-impedance=503.6 Ohm"]);
        assert_eq!((readings.len(), readings[0].user_slot, readings[0].memory), (1, Some(2), Memory::Stored));
    }
}

#[test]
fn i2a_a_half_whose_other_half_was_lost_is_the_same_measurement() {
    let weight = format!("02b036{STAMP}");
    let mut whole = both();
    whole.extend([weighs(&weight), composes(&format!("0202dc00{STAMP}ac13"))]);
    let mut half = both();
    half.extend([weighs(&weight), Step::Down(DownReason::Lost)]);
    assert_eq!(play(whole)[0].octets, play(half)[0].octets);
}

#[test]
fn halves_of_other_times_or_users_wait_and_go_alone() {
    let mut script = both();
    script.extend([
        weighs(&format!("06b036{STAMP}02")),
        composes(&format!("0602dc00{STAMP}03ac13")),
        composes("0202dc00e8070b1d170900ac13"),
        Step::Wait(Duration::from_millis(2_900)),
        Step::Quiet,
        Step::Wait(Duration::from_millis(200)),
    ]);
    assert_eq!(play(script).len(), 3);
}

#[test]
fn a_composition_in_two_packets_is_one() {
    let script = vec![
        Step::Up(vec![COMPOSITION]),
        Step::Subscribe(COMPOSITION),
        composes(&format!("0210dc00{STAMP}")),
        composes("0012dc00ac13"),
        composes(&format!("0210dc00{STAMP}")),
        Step::Wait(Duration::from_secs(6)),
    ];
    let readings = play(script);
    assert_eq!(names(&readings[0]), ["body-fat=22.0 %", "body-impedance=503.6 Ohm"]);
    assert_eq!(names(&readings[1]), ["body-fat=22.0 %"], "the second packet never came");
}

#[test]
fn a_failed_measurement_is_no_reading() {
    let mut script = both();
    script.extend([weighs("00ffff"), composes("0000ffff"), composes("0002ffffffff"), Step::Wait(Duration::from_secs(60))]);
    let (readings, errors) = play_with(Start::default(), script);
    assert_eq!((readings.len(), errors.len()), (0, 3));
}

#[test]
fn a_weight_below_zero_is_refused_where_the_flag_means_that() {
    let about = About { manufacturer: Some("Detecto".into()), ..About::default() };
    let script = vec![Step::Up(vec![WEIGHT]), Step::Subscribe(WEIGHT), weighs("100000"), weighs("00b036")];
    let (_, errors) = play_with(Start { about, ..Start::default() }, script);
    assert_eq!(errors, ["undecodable weight measurement: the weight is below zero"]);
}

fn advertises(octets: &str) -> Step {
    let from = if octets.len() == 20 { ADVERTISED_WEIGHT } else { ADVERTISED_COMPOSITION };
    Step::Sends(from, By::Advertisement, hex(octets))
}

fn heard() -> Vec<Step> {
    vec![Step::Up(vec![ADVERTISED_WEIGHT, ADVERTISED_COMPOSITION])]
}

#[test]
fn an_advertised_weight_is_one_measurement_and_live_where_it_was_seen_to_change() {
    let mut script = heard();
    script.extend([advertises("021430e607020e10293a"), advertises("223e30e607020e10293a"), Step::Wait(Duration::from_secs(1))]);
    script.extend((0..100).map(|_| advertises("223e30e607020e10293a")));
    script.extend([advertises("a23e30e607020e10293a"), advertises("223e30e607020e11003a")]);
    let readings = play(script);
    let memories: Vec<_> = readings.iter().map(|m| m.memory).collect();
    assert_eq!(memories, [Memory::Live, Memory::Stored], "of the second nobody saw it change");
    assert_eq!(names(&readings[0]), ["weight=61.750 kg"]);
}

#[test]
fn a_weight_waits_for_its_impedance_and_goes_alone_where_none_comes() {
    let steady = "0224e807060f0a1e000000b036";
    let mut with = heard();
    with.extend([
        advertises(steady),
        Step::Wait(Duration::from_secs(5)),
        advertises("0226e807060f0a1e00fe01b036"),
        advertises(steady),
    ]);
    let mut gone = heard();
    gone.extend([advertises(steady), advertises("02a4e807060f0a1e000000b036")]);
    let mut never = heard();
    never.extend([advertises(steady), Step::Wait(Duration::from_secs(11))]);
    let all = [play(with), play(gone), play(never)];
    assert!(all.iter().all(|readings| readings.len() == 1));
    assert_eq!(names(&all[0][0]), ["weight=70.000 kg", "body-impedance=510 Ohm"]);
    assert_eq!(all.map(|readings| readings[0].octets.clone()).iter().filter(|octets| octets.len() == 10).count(), 3);
}

#[test]
fn i4_what_changes_after_a_weight_was_heard_does_not_make_it_new() {
    let mut script = heard();
    script.extend([
        // Whoever weighed before is still on the air; somebody else steps on.
        advertises("0224e807060f0a1e000000b036"),
        advertises("0204e807060f0a1e280000a013"),
        advertises("0226e807060f0a1e2dfe018813"),
    ]);
    let readings = play(script);
    assert_eq!(readings.iter().map(|m| m.memory).collect::<Vec<_>>(), [Memory::Stored, Memory::Live]);
}

#[test]
fn i2a_equal_weights_of_a_scale_without_a_clock_are_two_only_after_a_pause() {
    let steady = "223e3000000000000000";
    let gone = "a23e3000000000000000";
    let changing = "021e0000000000000000";
    let mut script = heard();
    let pause = |seconds| Step::Wait(Duration::from_secs(seconds));
    script.extend([advertises(changing), advertises(steady), advertises(gone), pause(2), advertises(steady), pause(60)]);
    script.extend([advertises(steady), advertises(gone), pause(4), advertises(changing), advertises(steady)]);
    script.extend([pause(20), advertises(steady)]);
    let readings = play(script);
    assert_eq!(readings.len(), 2);
    assert!(readings.iter().all(|m| (m.memory, m.device_time) == (Memory::Live, None)), "{readings:?}");
}

#[test]
fn advertised_octets_that_are_no_weight_are_told_once() {
    let mut script = heard();
    script.extend((0..50).map(|_| advertises("0224e8")));
    assert_eq!(play_with(Start::default(), script).1.len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_sequence_of_events_panics_or_never_ends(
        said in proptest::collection::vec((0..6_usize, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..24), 0..9_000_u64), 0..60),
    ) {
        let all = [WEIGHT, COMPOSITION, ADVERTISED_WEIGHT, ADVERTISED_COMPOSITION, WEIGHT_FEATURE, COMPOSITION_FEATURE];
        for driver in crate::registry::DRIVERS.iter().filter(|driver| driver.by_radio()) {
            let endpoints: Vec<_> = driver.links.iter().flat_map(|link| match link {
                Link::Ble { listens, .. } => listens.to_vec(),
                _ => Vec::new(),
            }).chain(all).collect();
            let mut session = (driver.session)(Start { may_set_clock: true, ..Start::default() });
            let mut now = Moment::ZERO;
            session.handle_event(now, Event::Up { mtu: 23, security: Security::None, has: &endpoints });
            for (endpoint, octets, milliseconds) in &said {
                session.handle_event(now, Event::Received { from: endpoints[*endpoint], octets, by: By::Indication });
                now = now + Duration::from_millis(*milliseconds);
                for _ in 0..100 {
                    let Some(at) = session.poll_timeout().filter(|at| *at <= now) else { break };
                    session.handle_timeout(at);
                }
                proptest::prop_assert!(session.poll_timeout().is_none_or(|at| at > now), "{} never rests", driver.name);
                while let Some(command) = session.poll_command() {
                    if let Command::Read(token, _) | Command::Subscribe(token, _) = command {
                        session.handle_event(now, Event::Done { command: token });
                    }
                }
                let given = std::iter::from_fn(|| session.poll_output()).take(200).count();
                proptest::prop_assert!(given < 200);
            }
            session.handle_event(now, Event::Down { reason: DownReason::Lost });
        }
    }
}
