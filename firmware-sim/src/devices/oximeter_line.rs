//! Serial oximeters that differ in what they say only: a finger on a MAX30102, the firmware, a UART.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Memory, Quantity, Value};
use kit_protocol::serial::nonin_df13::SpotCheck;
use kit_protocol::serial::{bci, berry, nonin_df8};

use super::finger::Finger;
use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::clock;
use crate::faults::{Fault, Scenario};
use crate::firmware::oximeter_line::{Berry, Eight, Five, OximeterLine, Speech, Thirteen};
use crate::noise::{mixed, nearest};
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::parts::uart::Uart;
use crate::patient::Patient;
use crate::truth::StreamHead;

/// Spot checks in the memory of a device, and how far apart they were made.
const STORED: u32 = 3;
const STORED_EVERY_SECONDS: u32 = 3_600;

/// What a clock says that was never set.
const NEVER_SET: DateTime = DateTime { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 };

/// A model: what it says, and what a frame of it carries.
pub trait Model: Speech + Send + Sized {
    /// Its name in the table.
    const NAME: &'static str;
    /// Octets of a frame.
    const FRAME_OCTETS: usize;
    /// Samples a second of its waveform; 0 where it has none.
    const WAVE_HZ: u32;

    /// As it is when it is bought, or when its battery was changed: `before` is what it remembered.
    /// It is `right`, s of 1970, as the simulator starts.
    fn boot(seed: u64, scenario: &Scenario, now: Duration, right: i64, before: Option<&Self>) -> Self;
    /// What is whole with these octets, which are a frame, sent when a clock that is right says `right` (s of 1970); `None` where
    /// they are none.
    fn carries(frame: &[u8], right: i64) -> Option<Vec<Carried>>;
}

fn row(sample: u8) -> Vec<Carried> {
    vec![Carried::Row { stream: 0, counter: None, values: vec![i32::from(sample)] }]
}

/// Contec's CMS50D+.
pub struct ContecFive(Five);
/// Berry's BCI.
pub struct BerryFive(Five);

macro_rules! speaks {
    ($model:ty) => {
        impl Speech for $model {
            fn rate_hz(&self) -> u32 {
                self.0.rate_hz()
            }

            fn say(&mut self, signal: &crate::firmware::pulse_signal::PulseSignal, beat: bool) -> Vec<u8> {
                self.0.say(signal, beat)
            }
        }
    };
}

speaks!(ContecFive);
speaks!(BerryFive);

impl Model for ContecFive {
    const NAME: &'static str = "oximeter-contec-5";
    const FRAME_OCTETS: usize = bci::Frame::OCTETS;
    const WAVE_HZ: u32 = kit_protocol::serial::contec::FRAMES_PER_SECOND;

    fn boot(_seed: u64, _scenario: &Scenario, _now: Duration, _right: i64, _before: Option<&Self>) -> Self {
        Self(Five::Contec)
    }

    fn carries(frame: &[u8], _right: i64) -> Option<Vec<Carried>> {
        bci::Frame::decode(frame).ok().map(|frame| row(frame.pleth))
    }
}

impl Model for BerryFive {
    const NAME: &'static str = "oximeter-berry-bci";
    const FRAME_OCTETS: usize = bci::Frame::OCTETS;
    const WAVE_HZ: u32 = berry::BCI_FRAMES_PER_SECOND;

    fn boot(_seed: u64, _scenario: &Scenario, _now: Duration, _right: i64, _before: Option<&Self>) -> Self {
        Self(Five::Berry)
    }

    fn carries(frame: &[u8], right: i64) -> Option<Vec<Carried>> {
        ContecFive::carries(frame, right)
    }
}

impl Model for Berry {
    const NAME: &'static str = "oximeter-berry";
    const FRAME_OCTETS: usize = berry::Packet::OCTETS;
    const WAVE_HZ: u32 = 100;

    fn boot(_seed: u64, _scenario: &Scenario, _now: Duration, _right: i64, _before: Option<&Self>) -> Self {
        Self::default()
    }

    fn carries(frame: &[u8], _right: i64) -> Option<Vec<Carried>> {
        match berry::Twenty::decode(frame).ok()? {
            berry::Twenty::Packet(packet) => Some(row(packet.pleth)),
            berry::Twenty::Version { .. } => Some(Vec::new()),
        }
    }
}

impl Model for Eight {
    const NAME: &'static str = "oximeter-nonin-df8";
    const FRAME_OCTETS: usize = nonin_df8::Frame::OCTETS;
    const WAVE_HZ: u32 = 0;

    fn boot(_seed: u64, _scenario: &Scenario, _now: Duration, _right: i64, _before: Option<&Self>) -> Self {
        Self
    }

    fn carries(frame: &[u8], _right: i64) -> Option<Vec<Carried>> {
        // The numbers of a stream are not counted in the truth.
        nonin_df8::Frame::decode(frame).ok().map(|_| Vec::new())
    }
}

impl Model for Thirteen {
    const NAME: &'static str = "oximeter-nonin-df13";
    const FRAME_OCTETS: usize = SpotCheck::OCTETS;
    const WAVE_HZ: u32 = 0;

    fn boot(seed: u64, scenario: &Scenario, now: Duration, right: i64, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            return Self::new(before.stored().to_vec(), before.clock());
        }
        let offset = scenario.during(now).find_map(|fault| if let Fault::Clock(offset) = fault { Some(offset) } else { None });
        let clock = offset.map_or(Some(right), |offset| offset.map(|offset| right + offset));
        Self::new(stored(seed, right), clock)
    }

    fn carries(frame: &[u8], right: i64) -> Option<Vec<Carried>> {
        let check = SpotCheck::decode(frame).ok()?;
        let stored = check.has(SpotCheck::FROM_MEMORY);
        let number = |code, value: Option<i64>, unit| {
            value.map(|value| Value { code, quantity: Quantity::Number(Decimal::whole(value)), unit })
        };
        let values =
            [number(Mdc::SPO2, check.spo2.map(i64::from), "%"), number(Mdc::PULSE_RATE, check.heart_rate.map(i64::from), "/min")];
        let measured = Measured {
            values: values.into_iter().flatten().collect(),
            device_time: Some(check.time).filter(DateTime::date_known),
            memory: if stored { Memory::Stored } else { Memory::Live },
            ..Measured::new(Kind::PulseOximetry, Moment::ZERO)
        };
        let waited = if stored { before(&check.time, right) } else { Duration::ZERO };
        Some(vec![Carried::Reading { measured: Box::new(measured), waited }])
    }
}

/// How long ago it was.
fn before(time: &DateTime, right: i64) -> Duration {
    let seconds = time.seconds().and_then(|seconds| u64::try_from(right - seconds).ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// The spot checks of the night before: the same patient, earlier.
fn stored(seed: u64, right: i64) -> Vec<SpotCheck> {
    let patient = Patient::new(seed);
    let check = |number: u32| {
        let before = (STORED - number) * STORED_EVERY_SECONDS;
        let vitals = patient.vitals(-f64::from(before));
        SpotCheck {
            time: DateTime::from_seconds(right - i64::from(before)).unwrap_or(NEVER_SET),
            hundredths: 0,
            status: SpotCheck::SMART_POINT,
            heart_rate: u16::try_from(nearest(vitals.heart_rate)).ok(),
            spo2: u8::try_from(nearest(vitals.spo2)).ok(),
        }
    };
    (0..STORED).map(check).collect()
}

/// The device.
pub struct Oximeter<M> {
    seed: u64,
    scenario: Scenario,
    part: Shared<Max30102<Finger>>,
    uart: Shared<Uart>,
    firmware: Option<OximeterLine<Bus<Finger>, Shared<Uart>, M>>,
    /// What it remembers while it is dark.
    before: Option<M>,
    now: Duration,
    boots: u64,
    /// When the simulator started, s of 1970.
    started: i64,
}

impl<M: Model> Oximeter<M> {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self {
            seed,
            scenario: scenario.clone(),
            part: part(seed, 0),
            uart: Shared::new(Uart::default()),
            firmware: None,
            before: None,
            now: Duration::ZERO,
            boots: 0,
            started: i64::try_from(clock::wall_seconds()).unwrap_or(i64::MAX),
        }
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        self.now = to;
        if self.scenario.during(to).any(|fault| fault == Fault::Reboot) {
            if let Some(firmware) = self.firmware.take() {
                self.before = Some(M::boot(self.seed, &self.scenario, to, self.started, Some(firmware.speech())));
            }
            return;
        }
        if self.firmware.is_none() {
            self.part = part(self.seed, self.boots);
            self.boots += 1;
            self.part.lock().advance(nanoseconds(to));
            let speech = self.before.take().unwrap_or_else(|| M::boot(self.seed, &self.scenario, to, self.started, None));
            // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
            self.firmware = OximeterLine::start(Bus(self.part.clone()), self.uart.clone(), speech).ok();
        }
        {
            let mut part = self.part.lock();
            part.optics().on = !self.scenario.during(to).any(|fault| fault == Fault::SensorOff);
            part.advance(nanoseconds(to));
        }
        if let Some(firmware) = &mut self.firmware {
            // A bus that fails leaves the device silent, as a broken one is.
            let _silent = firmware.service();
        }
        let sent = self.uart.lock().take_sent();
        let right = self.started.saturating_add_unsigned(to.as_secs());
        emit_frames::<M>(to, right, &sent, emit);
    }
}

/// Cuts what the UART sent into frames; an answer to a command is one octet by itself.
fn emit_frames<M: Model>(at: Duration, right: i64, mut sent: &[u8], emit: &mut dyn FnMut(Emission)) {
    while let Some((first, rest)) = sent.split_first() {
        let frame =
            sent.split_at_checked(M::FRAME_OCTETS).and_then(|(frame, rest)| Some((M::carries(frame, right)?, frame, rest)));
        match frame {
            Some((carries, frame, after)) => {
                emit(Emission { at, octets: frame.to_vec(), carries });
                sent = after;
            }
            None => {
                emit(Emission { at, octets: vec![*first], carries: Vec::new() });
                sent = rest;
            }
        }
    }
}

fn part(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    // Each power-up has noise of its own, so that no run of samples comes twice.
    Shared::new(Max30102::new(Finger { patient: Patient::new(seed), on: true }, mixed(seed, boots)))
}

impl<M: Model> SerialDevice for Oximeter<M> {
    fn streams(&self) -> Vec<StreamHead> {
        let head = StreamHead {
            device: M::NAME.to_owned(),
            kind: "pleth",
            channels: vec![Mdc::PLETH.0],
            rate_hz: M::WAVE_HZ,
            gathers: Duration::ZERO,
        };
        if M::WAVE_HZ > 0 { vec![head] } else { Vec::new() }
    }

    fn advance(&mut self, now: Duration, emit: &mut dyn FnMut(Emission)) {
        while self.now + STEP <= now {
            self.step(self.now + STEP, emit);
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        self.uart.lock().receive(octets);
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::serial::nonin_df13::Command;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run<M: Model>(device: &mut Oximeter<M>, until: Duration) -> Vec<Emission> {
        let mut sent = Vec::new();
        device.advance(until, &mut |emission| sent.push(emission));
        sent
    }

    fn rows<M: Model>(seconds: u32) -> usize {
        let sent = run(&mut Oximeter::<M>::new(5, &Scenario::default()), SECOND * seconds);
        sent.into_iter().flat_map(|emission| emission.carries).filter_map(Carried::row).count()
    }

    #[test]
    fn waveforms_come_at_their_rate() {
        for (count, rate) in [(rows::<ContecFive>(10), 60), (rows::<BerryFive>(10), 100), (rows::<Berry>(10), 100)] {
            assert!((rate * 10 - 2..=rate * 10 + 2).contains(&count), "{count} rows of {rate} a second");
        }
        assert_eq!((rows::<Eight>(10), rows::<Thirteen>(10)), (0, 0));
    }

    #[test]
    fn numbers_follow_the_patient_and_a_finger_off_has_none() {
        let scenario = Scenario::parse("at=30 fault=sensor-off for=5").unwrap();
        let sent = run(&mut Oximeter::<ContecFive>::new(7, &scenario), 34 * SECOND);
        let at = |seconds: u64| {
            let emission = sent.iter().find(|emission| emission.at >= Duration::from_secs(seconds)).unwrap();
            bci::Frame::decode(&emission.octets).unwrap()
        };
        let truth = Patient::new(7).vitals(25.0);
        assert!((f64::from(at(25).spo2().unwrap()) - truth.spo2).abs() <= 2.0);
        assert!((f64::from(at(25).pulse_rate().unwrap()) - truth.heart_rate).abs() <= 5.0);
        assert!(at(33).contec().finger_out && at(33).spo2().is_none() && at(33).pulse_rate().is_none());
        let berry = run(&mut Oximeter::<Berry>::new(7, &scenario), 34 * SECOND);
        let off = berry::Packet::decode(&berry.last().unwrap().octets).unwrap();
        assert!(off.status.unusable() && off.spo2.is_none() && off.pulse_rate.is_none());
        let eight = run(&mut Oximeter::<Eight>::new(7, &scenario), 34 * SECOND);
        let off = nonin_df8::Frame::decode(&eight.last().unwrap().octets).unwrap();
        assert_eq!((off.spo2(), off.heart_rate()), (None, None));
    }

    #[test]
    fn a_berry_keeps_to_the_rate_that_it_is_asked_for_and_says_its_versions() {
        let mut device = Oximeter::<Berry>::new(1, &Scenario::default());
        run(&mut device, SECOND);
        device.receive(&[berry::Command::HZ_50.0, berry::Command::SOFTWARE.0]);
        let sent = run(&mut device, 2 * SECOND);
        let versions = sent.iter().filter(|e| matches!(berry::Twenty::decode(&e.octets), Ok(berry::Twenty::Version { .. })));
        assert_eq!(versions.count(), 1);
        assert!((50..=53).contains(&sent.len()), "{}", sent.len());
        device.receive(&[berry::Command::STOP.0]);
        run(&mut device, 2 * SECOND + 2 * STEP);
        assert!(run(&mut device, 4 * SECOND).is_empty());
    }

    fn checks(sent: &[Emission]) -> Vec<SpotCheck> {
        sent.iter().filter_map(|emission| SpotCheck::decode(&emission.octets).ok()).collect()
    }

    #[test]
    fn what_is_stored_comes_first_and_once_then_a_check_every_half_minute() {
        let mut device = Oximeter::<Thirteen>::new(4, &Scenario::default());
        let sent = checks(&run(&mut device, 60 * SECOND));
        let stored: Vec<bool> = sent.iter().map(|check| check.has(SpotCheck::FROM_MEMORY)).collect();
        assert_eq!(stored[..4], [true, true, true, false], "{stored:?}");
        assert!((4..=6).contains(&sent.len()), "{}", sent.len());
        let truth = Patient::new(4).vitals(20.0);
        assert!((f64::from(sent[3].spo2.unwrap()) - truth.spo2).abs() <= 2.0);
        assert!(sent.windows(2).all(|pair| pair[0].time.seconds() < pair[1].time.seconds()));
    }

    #[test]
    fn what_is_stored_is_told_to_have_been_measured_when_it_was() {
        let mut waits = Vec::new();
        Oximeter::<Thirteen>::new(4, &Scenario::default()).advance(60 * SECOND, &mut |emission| {
            waits.extend(emission.carries.into_iter().filter_map(|carried| match carried {
                Carried::Reading { measured, waited } => Some((measured.memory, waited)),
                Carried::Row { .. } => None,
            }));
        });
        let hours: Vec<_> = waits.iter().map(|(memory, waited)| (*memory, waited.as_secs() / 3_600)).collect();
        assert_eq!(hours[..4], [(Memory::Stored, 3), (Memory::Stored, 2), (Memory::Stored, 1), (Memory::Live, 0)]);
    }

    #[test]
    fn a_9560_answers_what_it_is_asked_and_its_clock_is_set() {
        let scenario = Scenario::parse("at=0 fault=clock unset=1").unwrap();
        let mut device = Oximeter::<Thirteen>::new(4, &scenario);
        run(&mut device, 2 * SECOND);
        let set = Command::SetTime(DateTime { year: 2026, month: 11, day: 22, hour: 9, minute: 0, second: 0 });
        for (command, answer) in
            [(Command::SelectFormat(13), Command::ACK), (Command::SelectFormat(8), Command::NAK), (set, Command::ACK)]
        {
            device.receive(&command.encode());
            let until = device.now + STEP;
            let sent = run(&mut device, until);
            assert_eq!(sent.iter().map(|e| e.octets.clone()).filter(|o| o.len() == 1).collect::<Vec<_>>(), [[answer]]);
        }
        let sent = checks(&run(&mut device, 40 * SECOND));
        let live = sent.iter().find(|check| !check.has(SpotCheck::FROM_MEMORY)).unwrap();
        assert_eq!((live.time.year, live.time.month, live.time.day, live.time.hour), (2026, 11, 22, 9));
    }

    #[test]
    fn a_reboot_keeps_the_memory_and_the_clock() {
        let scenario = Scenario::parse("at=2.5 fault=reboot for=2").unwrap();
        let sent = checks(&run(&mut Oximeter::<Thirteen>::new(4, &scenario), 20 * SECOND));
        assert_eq!(sent.iter().filter(|check| check.has(SpotCheck::FROM_MEMORY)).count(), 3);
    }
}
