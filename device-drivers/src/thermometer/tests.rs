use std::time::Duration;

use kit_protocol::reading::Memory;

use super::*;
use crate::driver::{By, Output};
use crate::text::hex;
use crate::transport::scripted::{Conversation, Step};

fn play(script: Vec<Step>) -> Vec<Measured> {
    let given = Conversation::play((DRIVER.session)(Start::default()), &script).unwrap();
    let measured = |output| if let Ok((_, Output::Measured(m))) = output { Some(m) } else { None };
    given.into_iter().filter_map(|(_, output)| measured(output)).collect()
}

fn up() -> Vec<Step> {
    vec![
        Step::Up(vec![MEASUREMENT, TYPE, INTERMEDIATE]),
        Step::Read(TYPE, vec![6]),
        Step::Subscribe(INTERMEDIATE),
        Step::Subscribe(MEASUREMENT),
    ]
}

/// Vector T03: Nordic; T01: Pyle PHTM60BT.
#[test]
fn a_temperature_bears_the_code_of_its_own_site_or_of_the_devices() {
    let mut script = up();
    for octets in ["06b00e00fedc070c050b321b04", "02b00e00fedc070c050b321b"] {
        script.push(Step::Sends(MEASUREMENT, By::Indication, hex(octets)));
    }
    let readings = play(script);
    let sites: Vec<_> = readings.iter().map(|m| (m.values[0].code.name().unwrap(), m.context[0].value)).collect();
    assert_eq!(sites, [("finger-temperature", "finger"), ("oral-temperature", "mouth")]);
    assert!(readings.iter().all(|m| m.memory == Memory::Stored));
    let without = vec![
        Step::Up(vec![MEASUREMENT]),
        Step::Subscribe(MEASUREMENT),
        Step::Sends(MEASUREMENT, By::Indication, hex("00690100ff")),
        Step::Wait(Duration::from_secs(1)),
    ];
    let reading = &play(without)[0];
    assert_eq!((reading.values[0].code, reading.context.len(), reading.memory), (Mdc::BODY_TEMPERATURE, 0, Memory::Live));
}

#[test]
fn an_intermediate_temperature_is_no_reading_and_proves_the_next_one_live() {
    let mut script = up();
    script.extend([
        Step::Sends(INTERMEDIATE, By::Notification, hex("00690100ff")),
        Step::Sends(MEASUREMENT, By::Indication, hex("06b00e00fedc070c050b321b04")),
    ]);
    let readings = play(script);
    assert_eq!((readings.len(), readings[0].memory), (1, Memory::Live));
}

#[test]
fn a_temperature_that_is_out_of_the_devices_range_is_an_infinity_and_none_is_refused() {
    let mut script = up();
    script.extend([
        Step::Sends(MEASUREMENT, By::Indication, hex("02feff7f00dc070c050b321b")),
        Step::Sends(MEASUREMENT, By::Indication, hex("02ffff7f00dc070c050b321b")),
        Step::Sends(MEASUREMENT, By::Indication, hex("0200008000dc070c050b321b")),
        Step::Sends(MEASUREMENT, By::Indication, hex("0201008000dc070c050b321b")),
    ]);
    assert_eq!(play(script).len(), 1);
}
