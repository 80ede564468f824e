//! A serial oximeter of Contec's protocol 7.0: a finger on a MAX30102, its firmware, a UART, and a night in its memory.

use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::serial::contec::{FRAMES_PER_SECOND, Message, Packet, Point};

use super::finger::Finger;
use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Fault, Scenario};
use crate::firmware::oximeter_contec::{OximeterContec, POINTS, Stored};
use crate::noise::{mixed, nearest};
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::parts::uart::Uart;
use crate::patient::Patient;
use crate::truth::StreamHead;

/// Seconds from the start of 1970 to that of 2000.
const SECONDS_TO_2000: i64 = 946_684_800;
/// What the memory holds, seconds.
const STORED_SECONDS: u32 = 120;
/// When that began.
const STORED_START: DateTime = DateTime { year: 2026, month: 11, day: 20, hour: 23, minute: 10, second: 0 };

/// Its streams: the waveform, and what the memory holds.
const PLETH: usize = 0;
const STORED: usize = 1;

/// The device.
pub struct Oximeter {
    seed: u64,
    scenario: Scenario,
    part: Shared<Max30102<Finger>>,
    uart: Shared<Uart>,
    firmware: Option<OximeterContec<Bus<Finger>, Shared<Uart>>>,
    /// What the memory holds while the device is dark.
    stored: Option<Stored>,
    now: Duration,
    boots: u64,
}

impl Oximeter {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self {
            seed,
            scenario: scenario.clone(),
            part: part(seed, 0),
            uart: Shared::new(Uart::default()),
            firmware: None,
            stored: Some(stored(seed)),
            now: Duration::ZERO,
            boots: 0,
        }
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        self.now = to;
        if self.scenario.during(to).any(|fault| fault == Fault::Reboot) {
            if let Some(firmware) = self.firmware.take() {
                self.stored = firmware.stored().cloned();
            }
            return;
        }
        if self.firmware.is_none() {
            self.part = part(self.seed, self.boots);
            self.boots += 1;
            self.part.lock().advance(nanoseconds(to));
            // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
            self.firmware = OximeterContec::start(Bus(self.part.clone()), self.uart.clone(), self.stored.take()).ok();
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
        self.emit_packets(to, &sent, emit);
    }

    /// Cuts what the UART sent into packets: each begins with the octet without bit 7.
    fn emit_packets(&self, at: Duration, sent: &[u8], emit: &mut dyn FnMut(Emission)) {
        let packets = || sent.chunk_by(|_, next| next & 0x80 != 0).map(|packet| (packet, Message::decode(packet)));
        let of_memory = packets().filter(|(_, message)| matches!(message, Ok(Message::Points(_)))).count();
        let mut point = self.sent_up_to().saturating_sub(of_memory * POINTS);
        for (packet, message) in packets() {
            let carries = match message {
                Ok(Message::Realtime(realtime)) => {
                    vec![Carried::Row { stream: PLETH, counter: None, values: vec![i32::from(realtime.pleth)] }]
                }
                Ok(Message::Points(points)) => {
                    let first = point;
                    point += POINTS;
                    let numbered = points.iter().zip(first..).filter_map(|(point, number)| Some((point.as_ref()?, number)));
                    numbered.map(|(point, number)| remembered(point, number)).collect()
                }
                _ => Vec::new(),
            };
            debug_assert!(packet.len() <= Packet::OCTETS_MAX);
            emit(Emission { at, octets: packet.to_vec(), carries });
        }
    }

    /// Places for points that were sent of the segment that is under way, or that was sent last.
    fn sent_up_to(&self) -> usize {
        let Some(firmware) = &self.firmware else { return 0 };
        let all = firmware.stored().map_or(0, |stored| stored.points.len().div_ceil(POINTS) * POINTS);
        firmware.next_stored().unwrap_or(all)
    }
}

/// A stored point, as the device sends it: its number is its second since 2000.
fn remembered(point: &Point, number: usize) -> Carried {
    let at = STORED_START.seconds().zip(i64::try_from(number).ok()).map(|(start, number)| start + number - SECONDS_TO_2000);
    let values = vec![point.spo2.unwrap_or(0x7f).into(), point.pulse_rate.unwrap_or(0xff).into()];
    Carried::Row { stream: STORED, counter: at.and_then(|at| u32::try_from(at).ok()), values }
}

/// The night before: the same patient, earlier.
fn stored(seed: u64) -> Stored {
    let patient = Patient::new(seed);
    let point = |second: u32| {
        let vitals = patient.vitals(-f64::from(STORED_SECONDS - second));
        let small = |value: f64| u8::try_from(nearest(value)).ok();
        Point { spo2: small(vitals.spo2), pulse_rate: small(vitals.heart_rate), perfusion_index: None }
    };
    Stored { start: STORED_START, points: (0..STORED_SECONDS).map(point).collect() }
}

fn part(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    let finger = Finger { patient: Patient::new(seed), on: true };
    Shared::new(Max30102::new(finger, mixed(seed, boots)))
}

impl SerialDevice for Oximeter {
    fn streams(&self) -> Vec<StreamHead> {
        let device = "oximeter-contec".to_owned();
        let stored = vec![Mdc::SPO2.0, Mdc::PULSE_RATE.0];
        vec![
            StreamHead {
                device: device.clone(),
                kind: "pleth",
                channels: vec![Mdc::PLETH.0],
                rate_hz: FRAMES_PER_SECOND,
                gathers: Duration::ZERO,
            },
            StreamHead { device, kind: "pulse-oximetry", channels: stored, rate_hz: 1, gathers: Duration::ZERO },
        ]
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
    use kit_protocol::serial::contec::{Command, Segment};

    use super::*;

    fn run(device: &mut Oximeter, seconds: u64) -> Vec<Message> {
        let mut messages = Vec::new();
        let until = device.now + Duration::from_secs(seconds);
        device.advance(until, &mut |emission| messages.push(Message::decode(&emission.octets).unwrap()));
        messages
    }

    fn realtime(messages: &[Message]) -> Vec<kit_protocol::serial::contec::Realtime> {
        messages.iter().filter_map(|m| if let Message::Realtime(r) = m { Some(*r) } else { None }).collect()
    }

    #[test]
    fn it_sends_when_told_to_and_stops_when_nobody_is_there() {
        let mut device = Oximeter::new(5, &Scenario::default());
        assert!(run(&mut device, 2).is_empty());
        device.receive(&Command::Start.encode());
        let sent = realtime(&run(&mut device, 8));
        assert!((470..=481).contains(&sent.len()), "sixty a second: {}", sent.len());
        assert!(run(&mut device, 10).len() < 200, "it heard nothing for 10 s");
        device.receive(&Command::Start.encode());
        for _ in 0..4 {
            device.receive(&Command::KeepAlive.encode());
            assert!(realtime(&run(&mut device, 5)).len() >= 299);
        }
    }

    #[test]
    fn numbers_follow_the_patient_and_a_finger_off_has_none() {
        let scenario = Scenario::parse("at=30 fault=sensor-off for=5").unwrap();
        let mut device = Oximeter::new(7, &scenario);
        let mut sent = Vec::new();
        for _ in 0..7 {
            device.receive(&Command::Start.encode());
            sent.extend(realtime(&run(&mut device, 5)));
        }
        let (good, off) = (sent[25 * 60], sent[33 * 60]);
        let truth = Patient::new(7).vitals(25.0);
        assert!((f64::from(good.spo2.unwrap()) - truth.spo2).abs() <= 2.0);
        assert!((f64::from(good.pulse_rate.unwrap()) - truth.heart_rate).abs() <= 5.0);
        assert!(off.probe_error && off.spo2.is_none() && off.pulse_rate.is_none());
    }

    #[test]
    fn every_stored_point_stands_in_the_truth_with_its_time() {
        let mut device = Oximeter::new(3, &Scenario::default());
        device.receive(&Command::StartStored(Segment::default()).encode());
        let mut told = Vec::new();
        device.advance(Duration::from_secs(2), &mut |emission| told.extend(emission.carries));
        let numbers: Vec<Option<u32>> = told.into_iter().filter_map(Carried::row).map(|(number, _)| number).collect();
        let start = u32::try_from(STORED_START.seconds().unwrap() - SECONDS_TO_2000).unwrap();
        assert_eq!(numbers, (start..start + STORED_SECONDS).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn its_memory_is_told_sent_and_deleted() {
        let mut device = Oximeter::new(3, &Scenario::default());
        let of = Segment::default();
        for command in [Command::AskSegments(of), Command::AskLength(of), Command::AskStart(of), Command::StartStored(of)] {
            device.receive(&command.encode());
        }
        let messages = run(&mut device, 2);
        assert_eq!(messages[0], Message::Segments { user: 0, count: 1 });
        assert_eq!(messages[1], Message::Length { of, octets: 240 });
        assert_eq!(messages.iter().filter(|m| matches!(m, Message::Points(_))).count(), 40);
        device.receive(&Command::Delete(of).encode());
        device.receive(&Command::AskSegments(of).encode());
        assert_eq!(run(&mut device, 1), [Message::Segments { user: 0, count: 0 }]);
    }
}
