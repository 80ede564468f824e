//! The flow spirometer: a patient who blows three times a session, a pneumotach, its sensor, the firmware, a UART.

use std::time::Duration;

use kit_protocol::serial::spirometer_flow::{Bronchodilator, Flow};

use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Fault, Scenario};
use crate::firmware::spirometer_flow::{Calibration, SpirometerFlow};
use crate::lungs::{Blow, Lungs};
use crate::noise::{between, mixed};
use crate::parts::sdp8xx::{Air, Bus, Sdp8xx};
use crate::parts::uart::Uart;
use crate::parts::{Delay, Shared};
use crate::truth::StreamHead;

/// Blows of one session.
pub const BLOWS: u64 = 3;
/// From one press of the button to the next: a blow and the rest after it.
const BLOW_EVERY: Duration = Duration::from_secs(17);
/// From the beginning of one session to the next.
const SESSION_EVERY: Duration = Duration::from_secs(90);
/// The first press of the button.
const FIRST_PRESS: Duration = Duration::from_secs(1);
/// The patient blows so long after the button: the zero is taken by then.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// The firmware's tick.
const TICK: Duration = Duration::from_millis(2);
/// The flow's MDC code.
const FLOW: u32 = 151_764;

/// What the pneumotach has before it.
pub struct Pneumotach {
    linear: f64,
    quadratic: f64,
    /// °C of the room, and of the gas at the sensor.
    temperature: f64,
    /// What a litre of that gas is at BTPS.
    btps: f64,
    /// The blow under way and when it began, ns.
    blow: Option<(u64, Blow)>,
}

/// What one litre of saturated gas at this temperature is at BTPS. Source: Magnus' formula for water vapour.
fn btps_factor(celsius: f64) -> f64 {
    let vapour = |celsius: f64| 6.112 * (17.62 * celsius / (243.12 + celsius)).exp();
    (1_013.25 - vapour(celsius)) / (1_013.25 - vapour(37.0)) * 310.15 / (273.15 + celsius)
}

impl Air for Pneumotach {
    fn pressure(&mut self, nanoseconds: u64) -> f64 {
        let Some((since, blow)) = self.blow else { return 0.0 };
        let seconds = Duration::from_nanos(nanoseconds.saturating_sub(since)).as_secs_f64();
        let flow = blow.flow(seconds) / self.btps;
        (self.linear + self.quadratic * flow.abs()) * flow
    }

    fn temperature(&mut self, _nanoseconds: u64) -> f64 {
        self.temperature
    }
}

type Part = Shared<Sdp8xx<Pneumotach>>;
type Firmware = SpirometerFlow<Bus<Pneumotach>, Delay, Shared<Uart>>;

/// The device.
pub struct Spirometer {
    seed: u64,
    scenario: Scenario,
    lungs: Lungs,
    part: Part,
    uart: Shared<Uart>,
    firmware: Option<Firmware>,
    /// The last session's number: it outlives the power.
    session: u32,
    now: Duration,
    boots: u64,
    blows: u64,
}

impl Spirometer {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self {
            seed,
            scenario: scenario.clone(),
            lungs: Lungs::new(seed),
            part: part(seed, 0),
            uart: Shared::new(Uart::default()),
            firmware: None,
            session: 0,
            now: Duration::ZERO,
            boots: 0,
            blows: 0,
        }
    }

    /// The patient's lungs: what really came out of them.
    #[must_use]
    pub fn lungs(&self) -> Lungs {
        self.lungs
    }

    /// What the pneumotach was calibrated to be: within 0.4 % of what it is.
    fn calibration(&self) -> Calibration {
        let error = between(self.seed, 0x3_0003, 0.996, 1.004);
        let [linear, quadratic] = pneumotach(self.seed).map(|pascal| f32_of(pascal * error));
        Calibration { number: u32::try_from(self.seed & 0xffff).unwrap_or(0), linear, quadratic }
    }

    fn boot(&mut self) {
        self.part = part(self.seed, self.boots);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(self.now));
        let started = SpirometerFlow::start(Bus(self.part.clone()), Delay, self.uart.clone(), self.calibration(), self.session);
        self.firmware = started.ok();
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        let dark = self.scenario.during(to).any(|fault| fault == Fault::Reboot);
        if dark {
            self.session = self.firmware.take().map_or(self.session, |firmware| firmware.session());
            self.now = to;
            return;
        }
        if self.firmware.is_none() {
            self.boot();
        }
        while self.now < to {
            self.now += TICK;
            self.part.lock().advance(nanoseconds(self.now));
            self.patient();
            let Some(firmware) = &mut self.firmware else { continue };
            if firmware.tick().is_err() {
                // What the watchdog of a real one does.
                self.session = firmware.session();
                self.firmware = None;
                return;
            }
            self.send(emit);
        }
    }

    /// The patient and the button, by the clock.
    fn patient(&mut self) {
        let Some(firmware) = &mut self.firmware else { return };
        let Some(since) = self.now.checked_sub(FIRST_PRESS) else { return };
        let in_session = Duration::from_nanos(nanoseconds(since) % nanoseconds(SESSION_EVERY));
        let number = in_session.as_millis() / BLOW_EVERY.as_millis();
        let in_blow = Duration::from_millis(u64::try_from(in_session.as_millis() % BLOW_EVERY.as_millis()).unwrap_or(0));
        // The simulated UART takes everything.
        let _sent = match (number < u128::from(BLOWS), in_blow) {
            (true, Duration::ZERO) => {
                let side = if mixed(self.seed, since.as_secs() / SESSION_EVERY.as_secs()) & 1 == 0 {
                    Bronchodilator::Before
                } else {
                    Bronchodilator::After
                };
                if number == 0 {
                    firmware.set_bronchodilator(side);
                }
                firmware.press()
            }
            (true, PATIENCE) if firmware.ready() => {
                let blow = self.lungs.blow(self.blows);
                self.blows += 1;
                self.part.lock().air().blow = Some((nanoseconds(self.now), blow));
                Ok(())
            }
            (false, Duration::ZERO) if number == u128::from(BLOWS) => firmware.finish(),
            _ => Ok(()),
        };
    }

    fn send(&mut self, emit: &mut dyn FnMut(Emission)) {
        let octets = self.uart.lock().take_sent();
        // Marks and headers that stand before a flow frame go with it, which the reader cannot tell.
        let carries = flows(&octets)
            .flat_map(|flow| {
                flow.samples.into_iter().zip(flow.counter..).map(|(sample, counter)| Carried::Row {
                    stream: 0,
                    counter: Some(counter),
                    values: vec![sample],
                })
            })
            .collect();
        if !octets.is_empty() {
            emit(Emission { at: self.now, octets, carries });
        }
    }
}

/// The flow frames in what a firmware sent at once.
fn flows(octets: &[u8]) -> impl Iterator<Item = Flow> {
    use kit_protocol::serial::spirometer_flow::{Found, Framer};
    let (mut flows, mut framer) = (Vec::new(), Framer::default());
    framer.push(octets, |found| {
        if let Found::Flow(flow) = found {
            flows.push(flow);
        }
    });
    flows.into_iter()
}

/// Pa in L/s and in (L/s)² of this device's pneumotach.
fn pneumotach(seed: u64) -> [f64; 2] {
    [between(seed, 0x3_0000, 20.0, 23.0), between(seed, 0x3_0001, 0.5, 0.7)]
}

fn part(seed: u64, boots: u64) -> Part {
    let [linear, quadratic] = pneumotach(seed);
    let temperature = between(seed, 0x3_0002, 17.0, 29.0);
    let offset = between(seed, 0x3_0004 + boots, -0.2, 0.2);
    Shared::new(Sdp8xx::new(
        Pneumotach { linear, quadratic, temperature, btps: btps_factor(temperature), blow: None },
        mixed(seed, boots),
        offset,
    ))
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are more than a calibration has")]
fn f32_of(value: f64) -> f32 {
    value as f32
}

impl SerialDevice for Spirometer {
    fn streams(&self) -> Vec<StreamHead> {
        vec![StreamHead {
            device: "spirometer-flow".to_owned(),
            kind: "spirometry",
            channels: vec![FLOW],
            rate_hz: 500,
            gathers: Duration::ZERO,
        }]
    }

    fn advance(&mut self, now: Duration, emit: &mut dyn FnMut(Emission)) {
        while self.now + STEP <= now {
            self.step(self.now + STEP, emit);
        }
    }

    fn receive(&mut self, _octets: &[u8]) {
        // This device listens to nobody.
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::serial::spirometer_flow::{Found, Framer, MarkKind};

    use super::*;

    type Rows = Vec<(Option<u32>, Vec<i32>)>;

    fn run(seed: u64, scenario: &str, seconds: u64) -> (Vec<Found>, Rows) {
        let mut device = Spirometer::new(seed, &Scenario::parse(scenario).unwrap());
        let (mut octets, mut rows) = (Vec::new(), Vec::new());
        device.advance(Duration::from_secs(seconds), &mut |emission| {
            octets.extend(emission.octets);
            rows.extend(emission.carries.into_iter().filter_map(Carried::row));
        });
        let (mut found, mut framer) = (Vec::new(), Framer::default());
        framer.push(&octets, |one| found.push(one));
        framer.finish(|one| found.push(one));
        (found, rows)
    }

    fn marks(found: &[Found]) -> Vec<(MarkKind, u8)> {
        found
            .iter()
            .filter_map(|one| match one {
                Found::Mark(mark) => Some((mark.kind, mark.manoeuvre)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_session_is_three_manoeuvres_between_its_marks() {
        use MarkKind::{ManoeuvreBegins, ManoeuvreEnds, SessionBegins, SessionEnds};
        let (found, rows) = run(4, "", 60);
        let begun_and_ended = |number| [(ManoeuvreBegins, number), (ManoeuvreEnds, number)];
        let expected: Vec<_> =
            [(SessionBegins, 0)].into_iter().chain((1..=3).flat_map(begun_and_ended)).chain([(SessionEnds, 3)]).collect();
        assert_eq!(marks(&found), expected);
        assert!(found.iter().all(|one| !matches!(one, Found::Skipped(_) | Found::Refused { .. })));
        assert!(rows.iter().zip(0..).all(|((counter, _), index)| *counter == Some(index)), "no number is left out");
        let sent: usize = found.iter().map(|one| if let Found::Flow(flow) = one { flow.samples.len() } else { 0 }).sum();
        assert_eq!(sent, rows.len());
    }

    #[test]
    fn flow_is_brought_to_btps_and_to_zero() {
        for seed in 0..5 {
            let (found, rows) = run(seed, "", 18);
            let header = found.iter().find_map(|one| if let Found::Header(header) = one { Some(*header) } else { None }).unwrap();
            assert!(header.btps && (10_300..11_500).contains(&header.btps_factor), "{header:?}");
            let quiet: Vec<i32> = rows.iter().take(200).map(|(_, values)| values[0]).collect();
            let mean = f64::from(quiet.iter().sum::<i32>()) / 200.0;
            assert!(mean.abs() < 1.0, "seed {seed}: {mean} mL/s where nothing flows");
            let peak = rows.iter().map(|(_, values)| values[0]).max().unwrap();
            let really = Lungs::new(seed).blow(0).peak;
            assert!((f64::from(peak) / 1_000.0 / really - 1.0).abs() < 0.025, "seed {seed}: {peak} mL/s of {really} L/s");
        }
    }

    #[test]
    fn a_reboot_in_a_blow_ends_nothing_and_the_next_session_has_the_next_number() {
        let (found, _) = run(1, "at=6 fault=reboot for=2", 30);
        assert_eq!(marks(&found)[2].0, MarkKind::SessionBegins, "{:?}", marks(&found));
        let mut sessions: Vec<u32> =
            found.iter().filter_map(|one| if let Found::Header(header) = one { Some(header.session) } else { None }).collect();
        // A header comes each second of a blow.
        sessions.dedup();
        assert_eq!(sessions, [1, 2]);
    }

    #[test]
    fn a_run_depends_on_its_seed_and_not_on_how_it_is_asked_for() {
        let collect = |steps: u64| {
            let (mut device, mut all) = (Spirometer::new(3, &Scenario::default()), Vec::new());
            for step in 1..=steps {
                device
                    .advance(Duration::from_secs(12) * u32::try_from(step).unwrap() / u32::try_from(steps).unwrap(), &mut |e| {
                        all.push(e)
                    });
            }
            all
        };
        assert_eq!(collect(1), collect(37));
        assert!(
            collect(1) != {
                let (mut d, mut a) = (Spirometer::new(4, &Scenario::default()), Vec::new());
                d.advance(Duration::from_secs(12), &mut |e| a.push(e));
                a
            }
        );
    }
}
