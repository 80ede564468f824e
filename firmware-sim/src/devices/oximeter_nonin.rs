//! The serial oximeter: a finger on a MAX30102, its firmware, a UART.

use std::time::Duration;

use super::finger::Finger;
use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Fault, Scenario};
use crate::firmware::oximeter_nonin::OximeterNonin;
use crate::noise::mixed;
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::parts::uart::Uart;
use crate::patient::Patient;
use crate::truth::StreamHead;
use kit_protocol::serial::nonin_df2::{FRAMES_PER_SECOND, Frame};

/// MDC_PULS_OXIM_PLETH.
const PLETH: u32 = 150_452;

/// The device.
pub struct Oximeter {
    seed: u64,
    scenario: Scenario,
    part: Shared<Max30102<Finger>>,
    uart: Shared<Uart>,
    firmware: Option<OximeterNonin<Bus<Finger>, Shared<Uart>>>,
    now: Duration,
    boots: u64,
}

impl Oximeter {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        let uart = Shared::new(Uart::default());
        let (part, scenario) = (part(seed, 0), scenario.clone());
        Self { seed, scenario, part, uart, firmware: None, now: Duration::ZERO, boots: 0 }
    }

    fn boot(&mut self) {
        self.part = part(self.seed, self.boots);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(self.now));
        // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
        self.firmware = OximeterNonin::start(Bus(self.part.clone()), self.uart.clone()).ok();
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        self.now = to;
        if self.scenario.during(to).any(|fault| fault == Fault::Reboot) {
            self.firmware = None;
            return;
        }
        if self.firmware.is_none() {
            self.boot();
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
        emit_frames(to, &sent, emit);
    }
}

/// Cuts what the UART sent into frames; an answer to a command is one octet by itself.
fn emit_frames(at: Duration, mut sent: &[u8], emit: &mut dyn FnMut(Emission)) {
    while let Some((first, rest)) = sent.split_first() {
        match sent.split_at_checked(Frame::OCTETS).map(|(frame, rest)| (Frame::decode(frame), frame, rest)) {
            Some((Ok(decoded), frame, after)) => {
                let row = Carried::Row { stream: 0, counter: None, values: vec![i32::from(decoded.pleth)] };
                emit(Emission { at, octets: frame.to_vec(), carries: vec![row] });
                sent = after;
            }
            _ => {
                emit(Emission { at, octets: vec![*first], carries: Vec::new() });
                sent = rest;
            }
        }
    }
}

fn part(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    let finger = Finger { patient: Patient::new(seed), on: true };
    // Each power-up has noise of its own, so that no run of samples comes twice.
    Shared::new(Max30102::new(finger, mixed(seed, boots)))
}

impl SerialDevice for Oximeter {
    fn streams(&self) -> Vec<StreamHead> {
        let device = "oximeter-nonin".to_owned();
        vec![StreamHead { device, kind: "pleth", channels: vec![PLETH], rate_hz: FRAMES_PER_SECOND, gathers: Duration::ZERO }]
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
    use kit_protocol::serial::nonin_df2::{FRAMES_PER_PACKET, Found, FrameStatus, Framer, Packet};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(device: &mut Oximeter, until: Duration) -> Vec<Frame> {
        let (mut octets, mut rows) = (Vec::new(), Vec::new());
        device.advance(until, &mut |emission| {
            octets.extend(emission.octets);
            rows.extend(emission.carries.into_iter().filter_map(Carried::row));
        });
        let mut frames = Vec::new();
        let mut framer = Framer::default();
        let mut take = |found| match found {
            Found::Frame(frame) => frames.push(frame),
            Found::Skipped(count) => panic!("{count} octets are no frame"),
        };
        framer.push(&octets, &mut take);
        framer.finish(&mut take);
        let pleth: Vec<_> = frames.iter().map(|frame| (None, vec![i32::from(frame.pleth)])).collect();
        assert_eq!(pleth, rows, "the truth is what is on the line");
        frames
    }

    fn packets(frames: &[Frame]) -> Vec<Packet> {
        let whole = frames.chunks_exact(FRAMES_PER_PACKET);
        whole.map(|frames| Packet::decode(frames.try_into().unwrap()).unwrap()).collect()
    }

    #[test]
    fn packets_decode_to_the_patients_values() {
        for seed in 0..12 {
            let mut device = Oximeter::new(seed, &Scenario::default());
            let packets = packets(&frames(&mut device, 61 * SECOND));
            assert!((181..=183).contains(&packets.len()), "three a second: {}", packets.len());
            let patient = Patient::new(seed);
            for (index, packet) in packets.iter().enumerate().skip(36) {
                let seconds = f64::from(u32::try_from(index).unwrap()) / 3.0;
                let spo2 = f64::from(packet.spo2.unwrap());
                let true_spo2 = patient.vitals(seconds).spo2;
                assert!((spo2 - true_spo2).abs() <= 2.0, "seed {seed} at {seconds}: {spo2} %, not {true_spo2}");
                let pulse = f64::from(packet.heart_rate_extended.unwrap());
                let true_pulse = (patient.beats(seconds - 0.4) - patient.beats(seconds - 7.4)) / 7.0 * 60.0;
                assert!((pulse - true_pulse).abs() <= 3.0, "seed {seed} at {seconds}: {pulse}/min, not {true_pulse}");
            }
        }
    }

    #[test]
    fn a_finger_off_gives_missing_values_and_an_alarm_until_it_is_back() {
        let scenario = Scenario::parse("at=20 fault=sensor-off for=5").unwrap();
        let packets = packets(&frames(&mut Oximeter::new(3, &scenario), 40 * SECOND));
        let off = packets[22 * 3];
        assert_eq!((off.heart_rate, off.spo2), (None, None));
        assert!(off.status[5].has(FrameStatus::SENSOR_ALARM));
        let back = packets[37 * 3];
        assert!(back.heart_rate.is_some() && back.spo2.is_some());
        assert!(!back.status[5].has(FrameStatus::SENSOR_ALARM));
    }

    #[test]
    fn perfusion_is_said_once_a_pulse() {
        let frames = frames(&mut Oximeter::new(3, &Scenario::default()), 40 * SECOND);
        let said = frames[20 * 75..].iter().filter(|frame| frame.status.perfusion().is_some()).count();
        let patient = Patient::new(3);
        let beats = crate::noise::nearest(patient.beats(40.0) - patient.beats(20.0));
        assert!((i64::try_from(said).unwrap() - beats).abs() <= 1, "{said} said, {beats} beats");
    }

    #[test]
    fn it_answers_the_commands_for_its_format() {
        let mut device = Oximeter::new(1, &Scenario::default());
        device.advance(SECOND, &mut |_| {});
        for (format, answer) in [(0x02, 0x06), (0x0d, 0x15)] {
            device.receive(&[0x02, 0x70, 0x02, 0x02, format, 0x03]);
            let mut answers = Vec::new();
            let until = device.now + STEP;
            device.advance(until, &mut |emission| {
                if emission.carries.is_empty() {
                    answers.extend(emission.octets);
                }
            });
            assert_eq!(answers, [answer]);
        }
    }

    #[test]
    fn a_reboot_begins_a_packet_anew() {
        let scenario = Scenario::parse("at=10.1 fault=reboot for=2").unwrap();
        let frames = frames(&mut Oximeter::new(1, &scenario), 20 * SECOND);
        let syncs: Vec<usize> = (0..frames.len()).filter(|index| frames[*index].status.sync()).collect();
        let odd = syncs.windows(2).filter(|pair| pair[1] - pair[0] != FRAMES_PER_PACKET).count();
        assert_eq!(odd, 1, "one packet was cut off");
        assert!((1340..=1352).contains(&frames.len()), "{}", frames.len());
    }
}
