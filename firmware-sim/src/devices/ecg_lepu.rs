//! The six-electrode ECG recorder: electrodes on a patient, its firmware, a radio.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::file::lepu_er3::LeadType;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use uuid::Uuid;

use crate::clock;
use crate::faults::{Electrode, Fault, Scenario};
use crate::firmware::calendar::{self, SECONDS_1970_TO_2000};
use crate::firmware::ecg_lepu::{CHANNELS, EcgLepu, RATE_HZ, Row as Conversion};
use crate::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service,
};
use crate::noise::{mixed, nearest, step};
use crate::patient::Patient;
use crate::recording;
use crate::truth::{Row, Stream, StreamHead, Truth};

/// The driver that speaks to it, and its name in truth files.
const NAME: &str = "ecg-lepu";
const SERVICE: Uuid = Uuid::from_u128(0x1483_9ac4_7d7e_415c_9a42_1673_40cf_2339);
const WRITTEN: Uuid = Uuid::from_u128(0x8b00_ace7_eb0b_49b0_bbe9_9aee_0a26_e1a3);
const NOTIFIED: Uuid = Uuid::from_u128(0x0734_594a_a8e7_4b1a_a6b1_cd52_4305_9a57);
/// Octets of one notification: frames are longer.
const NOTIFICATION_OCTETS: usize = 160;
/// One row every 4 ms.
const ROW: Duration = Duration::from_millis(4);
/// Digits of a millivolt.
const DIGITS_PER_MILLIVOLT: f64 = 409.6;
/// Noise, so that no run of rows comes twice.
const NOISE_DIGITS: u32 = 2;

/// The device.
pub struct Recorder {
    seed: u64,
    scenario: Scenario,
    patient: Patient,
    truth: Stream,
    firmware: Option<EcgLepu>,
    began: Option<Moment>,
    now: Duration,
    boots: u64,
    /// Its clock is off by so many seconds; `None`: not set.
    clock: Option<i64>,
    battery: Option<u8>,
    connected: bool,
    subscribed: bool,
    hang_up: bool,
    sending: VecDeque<Vec<u8>>,
    /// Rows of the answers that are being sent, with how many notifications are still to come before they are whole.
    carried: VecDeque<(usize, Vec<Conversion>)>,
}

impl Recorder {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        let channels = LeadType::SIX.channels().unwrap_or_default().iter().flatten().map(|code| code.0).collect();
        let head =
            StreamHead { device: NAME.to_owned(), kind: "ecg", channels, rate_hz: RATE_HZ.into(), gathers: Duration::ZERO };
        Self {
            seed,
            scenario: scenario.clone(),
            patient: Patient::new(seed),
            truth: Stream::new(truth, head),
            firmware: None,
            began: None,
            now: Duration::ZERO,
            boots: 0,
            clock: Some(0),
            battery: None,
            connected: false,
            subscribed: false,
            hang_up: false,
            sending: VecDeque::new(),
            carried: VecDeque::new(),
        }
    }

    /// Lives on up to `now`.
    fn live(&mut self, now: Moment) {
        let began = *self.began.get_or_insert(now);
        let until = now.since(began);
        while self.now + ROW <= until {
            let from = self.now;
            self.now += ROW;
            self.step(from);
        }
    }

    fn step(&mut self, from: Duration) {
        if self.scenario.during(self.now).any(|fault| fault == Fault::Reboot) {
            self.firmware = None;
            self.sending.clear();
            self.lose_carried();
            return;
        }
        if self.firmware.is_none() {
            self.boots += 1;
        }
        let digits = self.digits();
        let rate = u16::try_from(nearest(self.patient.vitals(self.now.as_secs_f64()).heart_rate)).unwrap_or(0);
        let firmware = self.firmware.get_or_insert_with(EcgLepu::start);
        for entry in self.scenario.beginning(from, self.now) {
            match entry.fault {
                Fault::Disconnect => self.hang_up = self.connected,
                Fault::Clock(off) => self.clock = off,
                Fault::Battery(percent) => self.battery = Some(percent),
                _ => {}
            }
        }
        if let Some(percent) = self.battery {
            firmware.set_battery(percent);
        }
        firmware.set_heart_rate(if digits.iter().all(Option::is_some) { rate } else { 0 });
        firmware.sample(digits);
    }

    /// V5, I, II, V1; `None` where an electrode that makes the lead is off.
    fn digits(&self) -> [Option<i16>; CHANNELS] {
        let seconds = self.now.as_secs_f64();
        let leads = if self.scenario.synthetic_signal { self.patient.ecg(seconds) } else { recording::ecg(seconds) };
        let off = |electrode| self.scenario.during(self.now).any(|fault| fault == Fault::LeadOff(electrode));
        let (right, left, leg) = (off(Electrode::RightArm), off(Electrode::LeftArm), off(Electrode::LeftLeg));
        let limb = right || left || leg;
        let rows = self.firmware.as_ref().map_or(0, EcgLepu::rows);
        // I, II, V1 … V6 of the signal, in the order of the channels.
        let channels =
            [(6, limb || off(Electrode::Chest(5))), (0, right || left), (1, right || leg), (2, limb || off(Electrode::Chest(1)))];
        let mut number = mixed(self.seed, self.boots).wrapping_add(u64::from(rows) * 4);
        channels.map(|(lead, off)| {
            number = number.wrapping_add(1);
            let digit = nearest(leads[lead] * DIGITS_PER_MILLIVOLT) + i64::from(step(self.seed, number, NOISE_DIGITS));
            (!off).then(|| i16::try_from(digit.clamp(-32_000, 32_000)).unwrap_or(0))
        })
    }

    fn time(&self) -> Option<DateTime> {
        let right = clock::wall_seconds().saturating_sub(SECONDS_1970_TO_2000);
        self.clock.map(|off| calendar::civil(right.saturating_add_signed(off)))
    }

    /// Answers whose last notification was never sent.
    fn lose_carried(&mut self) {
        let now = self.began.map_or(Moment::ZERO, |began| began + self.now);
        for (_, rows) in std::mem::take(&mut self.carried) {
            self.write_truth(&rows, now, false);
        }
    }

    fn write_truth(&mut self, rows: &[Conversion], at: Moment, delivered: bool) {
        for row in rows {
            let values = row.digits.map(i32::from).to_vec();
            let row = Row { at, counter: Some(row.number), values, delivered };
            if let Err(error) = self.truth.push(row) {
                eprintln!("kit-sim: the truth cannot be written: {error}");
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.lose_carried();
        if let Err(error) = self.truth.flush() {
            eprintln!("kit-sim: the truth cannot be written: {error}");
        }
    }
}

impl Peripheral for Recorder {
    fn name(&self) -> String {
        format!("ER3 {:04X}", self.seed & 0xffff)
    }

    fn address(&self) -> [u8; 6] {
        let [a, b, c, d, ..] = mixed(self.seed, 0xe303).to_be_bytes();
        [0x02, 0x1e, a, b, c, d]
    }

    fn services(&self) -> Vec<Service> {
        let writes = Properties { write: true, write_without_response: true, ..Properties::NONE };
        let characteristic = |uuid, properties| Characteristic { uuid, properties, needs_security: Security::None };
        let characteristics = vec![characteristic(WRITTEN, writes), characteristic(NOTIFIED, Properties::NOTIFY)];
        vec![Service { uuid: SERVICE, characteristics }]
    }

    fn pairing(&self) -> PairingMethod {
        PairingMethod::None
    }

    fn advertising(&mut self, now: Moment) -> Option<Advertisement> {
        self.live(now);
        self.firmware.as_ref().filter(|_| !self.connected)?;
        let fading = i16::try_from(step(self.seed, self.now.as_secs(), 4)).unwrap_or(0);
        let (local_name, services) = (Some(self.name()), vec![SERVICE]);
        Some(Advertisement { local_name, services, rssi: -60 + fading, ..Advertisement::default() })
    }

    fn connected(&mut self, now: Moment) {
        self.live(now);
        (self.connected, self.subscribed, self.hang_up) = (true, false, false);
    }

    fn disconnected(&mut self, now: Moment) {
        self.live(now);
        (self.connected, self.subscribed, self.hang_up) = (false, false, false);
        self.sending.clear();
        self.lose_carried();
    }

    fn read(&mut self, now: Moment, _characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        self.live(now);
        Err(AttError::ReadNotPermitted)
    }

    fn write(&mut self, now: Moment, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        self.live(now);
        if characteristic != WRITTEN {
            return Err(AttError::WriteNotPermitted);
        }
        let time = self.time();
        if let (true, Some(firmware)) = (self.subscribed, &mut self.firmware)
            && let Some(answer) = firmware.answer(value, time)
        {
            self.sending.extend(answer.octets.chunks(NOTIFICATION_OCTETS).map(<[u8]>::to_vec));
            self.carried.push_back((self.sending.len(), answer.rows));
        }
        Ok(())
    }

    fn subscribed(&mut self, now: Moment, characteristic: Uuid, on: bool) {
        self.live(now);
        if characteristic == NOTIFIED {
            self.subscribed = on;
        }
    }

    fn confirmed(&mut self, now: Moment, _characteristic: Uuid) {
        self.live(now);
    }

    fn poll(&mut self, now: Moment) -> Option<Outgoing> {
        self.live(now);
        let value = self.sending.pop_front()?;
        for (left, _) in &mut self.carried {
            *left -= 1;
        }
        while self.carried.front().is_some_and(|(left, _)| *left == 0) {
            if let Some((_, rows)) = self.carried.pop_front() {
                self.write_truth(&rows, now, true);
            }
        }
        Some(Outgoing { characteristic: NOTIFIED, value, confirmed: false })
    }

    fn wants_disconnect(&mut self, now: Moment) -> bool {
        self.live(now);
        // A device without power is silent; the radio notices.
        self.hang_up || self.firmware.is_none()
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::serial::framer::Found;
    use kit_protocol::serial::lepu::{Battery, Frame, FrameCommand, Framer, LiveNumbered};

    use super::*;

    /// Asks twice a second for so long, and gives what came.
    fn listen(seed: u64, scenario: &str, seconds: u64) -> Vec<LiveNumbered> {
        let mut device = Recorder::new(seed, &Scenario::parse(scenario).unwrap(), Truth::none());
        let (mut framer, mut live) = (Framer::default(), Vec::new());
        let at = |half: u64| Moment::from_nanos(1_000_000_000 + half * 500_000_000);
        assert!(device.advertising(at(0)).is_none() && device.advertising(at(1)).is_some());
        for half in 1..=2 * seconds {
            if !device.connected && device.advertising(at(half)).is_some() {
                device.connected(at(half));
                device.subscribed(at(half), NOTIFIED, true);
            }
            device.write(at(half), WRITTEN, &Frame::live_numbered(1).encode()).unwrap();
            while let Some(outgoing) = device.poll(at(half)) {
                framer.push(&outgoing.value, |found| match found {
                    Found::Frame(frame) => live.push(LiveNumbered::decode(&frame.content).unwrap()),
                    Found::Skipped(_) => panic!("skipped"),
                });
            }
            if device.connected && device.wants_disconnect(at(half)) {
                device.disconnected(at(half));
            }
        }
        live
    }

    #[test]
    fn every_row_comes_once_and_in_order() {
        let live = listen(1, "", 20);
        let mut next = 0;
        for answer in &live {
            assert_eq!(answer.first, next);
            next += u32::try_from(answer.samples.len() / CHANNELS).unwrap();
        }
        assert_eq!(next, 5_000);
    }

    #[test]
    fn the_recorded_ecg_comes_out_at_its_own_voltage() {
        let rows: Vec<i16> = listen(1, "", 10).into_iter().flat_map(|answer| answer.samples).collect();
        for (row, seconds) in rows.chunks(CHANNELS).zip((1..).map(|row| f64::from(row) * 0.004)) {
            let leads = recording::ecg(seconds);
            for (digit, lead) in row.iter().zip([6, 0, 1, 2]) {
                assert!((f64::from(*digit) - leads[lead] * DIGITS_PER_MILLIVOLT).abs() <= 2.6, "at {seconds} s, lead {lead}");
            }
        }
    }

    #[test]
    fn faults_are_in_what_it_says() {
        let live = listen(
            3,
            "at=2 fault=lead-off electrode=V5 for=2\nat=6 fault=lead-off electrode=RA for=2\nat=9 fault=battery percent=5",
            12,
        );
        let at = |second: usize| &live[second * 2];
        assert_eq!((at(1).leads_off, at(3).leads_off, at(3).channels_off()), (0, 1 << 10, 1));
        assert_eq!((at(7).channels_off(), at(10).battery), (0b1111, Battery { state: 3, percent: 5 }));
        assert!(at(1).heart_rate > 40 && at(7).heart_rate == 0);
    }

    #[test]
    fn a_reboot_counts_from_zero_and_a_hang_up_leaves_a_hole() {
        let live = listen(4, "at=4 fault=reboot for=2", 10);
        assert!(live.windows(2).any(|pair| pair[1].first < pair[0].first));
        let live = listen(4, "at=3.1 fault=disconnect", 10);
        assert!(live.last().unwrap().first > 2_000, "the counter goes on");
    }

    #[test]
    fn commands_that_erase_and_broken_frames_are_met_with_silence() {
        let mut device = Recorder::new(1, &Scenario::default(), Truth::none());
        let at = |half: u64| Moment::from_nanos(1_000_000_000 + half * 500_000_000);
        let _ = device.advertising(at(0));
        device.connected(at(1));
        device.subscribed(at(1), NOTIFIED, true);
        for command in [0x04, 0xe2, 0xe3, 0x03] {
            let frame = Frame { command: FrameCommand(command), kind: 0, sequence: 0, content: Vec::new() };
            device.write(at(2), WRITTEN, &frame.encode()).unwrap();
        }
        device.write(at(2), WRITTEN, &[0xa5, 6, 0xf9, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(device.poll(at(2)), None);
        assert!(device.write(at(2), NOTIFIED, &[]).is_err());
    }
}
