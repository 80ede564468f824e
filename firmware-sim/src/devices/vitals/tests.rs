use kit_protocol::gatt::date_time::DateTime;

use std::time::Duration;

use super::*;
use crate::link::gatt::{POLL_PERIOD, Peripheral};

/// The other end of the air, in virtual time: it polls as a link does and confirms every indication at once.
struct Central<M: Model> {
    device: Spot<M>,
    now: Moment,
    indicated: Vec<Vec<u8>>,
    notified: Vec<Vec<u8>>,
}

impl<M: Model> Central<M> {
    fn new(scenario: &str, truth: Truth, settings: Settings) -> Self {
        let mut device = Spot::with_settings(7, &Scenario::parse(scenario).unwrap(), truth, settings);
        let now = Moment::from_nanos(3_000_000_000);
        assert_eq!(device.advertising(now), None, "it begins to live");
        Self { device, now, indicated: Vec::new(), notified: Vec::new() }
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.device.advertising(self.now);
    }

    /// Waits until the device advertises, and connects.
    fn connect(&mut self) {
        for _ in 0..10_000 {
            self.now = self.now + POLL_PERIOD;
            if self.device.advertising(self.now).is_some() {
                return self.device.connected(self.now);
            }
        }
        panic!("it never advertises");
    }

    fn subscribe(&mut self, numbers: &[u16]) {
        numbers.iter().for_each(|number| self.device.subscribed(self.now, bluetooth(*number), true));
    }

    /// Takes what comes for so long; true if the device hung up meanwhile.
    fn listen(&mut self, seconds: u64) -> bool {
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            self.now = self.now + POLL_PERIOD;
            while let Some(outgoing) = self.device.poll(self.now) {
                if !outgoing.confirmed {
                    self.notified.push(outgoing.value);
                    continue;
                }
                self.indicated.push(outgoing.value);
                if self.device.wants_disconnect(self.now) {
                    break;
                }
                self.device.confirmed(self.now, outgoing.characteristic);
            }
            if self.device.wants_disconnect(self.now) {
                self.device.disconnected(self.now);
                return true;
            }
        }
        false
    }
}

#[test]
fn results_that_nobody_took_come_one_after_the_other_once_each_and_it_hangs_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut central = Central::<Cuff>::new("", Truth::to(file.path()).unwrap(), SPOT);
    central.wait(60);
    central.connect();
    central.subscribe(&[Cuff::MEASUREMENT]);
    assert!(central.listen(30));
    assert!(central.indicated.len() >= 2, "{}", central.indicated.len());
    let vitals = Patient::new(7).vitals(30.0);
    for value in &central.indicated {
        let measured = Cuff::measured(value, central.now).unwrap();
        let Quantity::Number(systolic) = measured.values[0].quantity else { panic!("a number") };
        assert!((systolic.to_f64() - vitals.systolic).abs() < 12.0 && measured.device_time.is_some());
        assert_eq!(measured.user_slot, Some(1));
    }
    let made = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(made.lines().filter(|line| line.contains(r#""delivered":true"#)).count(), central.indicated.len());
}

#[test]
fn a_watched_cuff_tells_its_pressure_up_and_down_before_the_result() {
    let mut central = Central::<Cuff>::new("", Truth::none(), Settings { watched: true, ..SPOT });
    central.connect();
    central.subscribe(&[0x2a36, Cuff::MEASUREMENT]);
    central.listen(8);
    let pressure = |value: &Vec<u8>| BloodPressureMeasurement::decode(value).unwrap().systolic;
    let pressures: Vec<_> = central.notified.iter().map(pressure).map(Quantity::from).collect();
    assert!(pressures.len() >= 8 && central.indicated.len() == 1, "{pressures:?}");
    assert!(pressures.iter().all(|pressure| matches!(pressure, Quantity::Number(_))));
}

#[test]
fn a_clock_that_was_never_set_stamps_nothing_and_is_set_by_a_write() {
    let mut central = Central::<Thermometer>::new("at=0.02 fault=clock unset=1", Truth::none(), Thermometer::SETTINGS);
    central.connect();
    let clock = bluetooth(DATE_TIME);
    assert_eq!(central.device.read(central.now, clock), Ok(vec![0; 7]));
    central.subscribe(&[Thermometer::MEASUREMENT]);
    central.listen(2);
    assert_eq!(Thermometer::measured(&central.indicated[0], central.now).unwrap().device_time, None);
    let time = DateTime { year: 2026, month: 11, day: 21, hour: 10, minute: 0, second: 0 };
    assert_eq!(central.device.write(central.now, clock, &time.encode()), Ok(()));
    assert_eq!(central.device.read(central.now, clock), Ok(time.encode().to_vec()));
    for wrong in [&[0; 7][..], &[1, 2], &[]] {
        assert_eq!(central.device.write(central.now, clock, wrong), Err(AttError::WriteNotPermitted));
    }
}

#[test]
fn a_result_that_was_not_confirmed_comes_again_and_a_reboot_forgets_none() {
    let mut central = Central::<Scale>::new("at=1 fault=disconnect\nat=14 fault=reboot for=2", Truth::none(), SPOT);
    central.connect();
    central.subscribe(&[Scale::MEASUREMENT]);
    assert!(central.listen(5), "it hangs up with the result on the air");
    central.wait(10);
    central.connect();
    central.subscribe(&[Scale::MEASUREMENT]);
    central.listen(5);
    assert_eq!(central.indicated[0], central.indicated[1]);
    let weight = Scale::measured(&central.indicated[0], central.now).unwrap();
    let Quantity::Number(kilograms) = weight.values[0].quantity else { panic!("a number") };
    assert!((kilograms.to_f64() - Patient::new(7).vitals(0.0).weight).abs() < 0.06);
}

#[test]
fn a_belt_notifies_every_second_for_as_long_as_somebody_listens() {
    let mut central = Central::<Belt>::new("", Truth::none(), Belt::SETTINGS);
    central.connect();
    central.subscribe(&[Belt::MEASUREMENT]);
    assert!(!central.listen(20));
    assert!((19..=20).contains(&central.notified.len()), "{}", central.notified.len());
    assert!(central.indicated.is_empty());
}
