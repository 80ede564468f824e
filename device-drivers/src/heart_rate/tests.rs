use super::*;
use crate::driver::{By, Output};
use crate::transport::scripted::{Conversation, Step};

fn play(script: Vec<Step>) -> Vec<Measured> {
    let given = Conversation::play((DRIVER.session)(Start::default()), &script).unwrap();
    let measured = |output| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None };
    given.into_iter().filter_map(|(_, output)| measured(output)).collect()
}

fn up() -> Vec<Step> {
    vec![Step::Up(vec![MEASUREMENT, LOCATION]), Step::Read(LOCATION, vec![1]), Step::Subscribe(MEASUREMENT)]
}

fn notifies(octets: Vec<u8>) -> Step {
    Step::Sends(MEASUREMENT, By::Notification, octets)
}

#[test]
fn one_reading_every_ten_seconds_has_all_rr_intervals_since_the_one_before() {
    let mut script = up();
    for second in 0..21_u8 {
        script.extend([notifies(vec![0x16, 60 + second, second, 4]), Step::Wait(Duration::from_secs(1))]);
    }
    let readings = play(script);
    let counts: Vec<_> = readings.iter().map(|m| m.values.len() - 1).collect();
    assert_eq!(counts, [1, 10, 10], "at 0, 10 and 20 s");
    let first: Vec<_> = readings[1].values.iter().take(3).map(|value| (value.code, value.quantity.clone())).collect();
    let number = |mantissa, exponent| Quantity::Number(Decimal::new(mantissa, exponent));
    let interval = |raw| (Mdc::RR_INTERVAL, Quantity::Number(rr_milliseconds(raw)));
    assert_eq!(first, [(Mdc::HEART_RATE, number(70, 0)), interval(1_025), interval(1_026)]);
    assert_eq!((readings[0].context[0].value, readings[0].status.len()), ("chest", 0));
}

#[test]
fn a_sensor_off_the_skin_is_a_status_and_no_rate_is_no_reading() {
    let mut script = up();
    script.extend([notifies(vec![0, 0]), notifies(vec![4, 61])]);
    let readings = play(script);
    assert_eq!((readings.len(), &*readings[0].status), (1, &["sensor-contact-not-detected"][..]));
}

#[test]
fn i9_rr_intervals_without_a_rate_do_not_pile_up() {
    let mut script = up();
    script.extend((0..100).map(|_| notifies([&[0x10, 0][..], &[0, 4].repeat(10)].concat())));
    script.push(notifies(vec![0, 60]));
    assert_eq!(play(script)[0].values.len(), 1 + RR_INTERVALS_MAX);
}
