//! The spot-check oximeter: a finger on a MAX30102, its firmware, a radio.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};
use uuid::Uuid;

use super::finger::Finger;
use super::{STEP, nanoseconds};
use crate::clock;
use crate::faults::{Fault, Scenario};
use crate::firmware::calendar::SECONDS_1970_TO_2000;
use crate::firmware::pulse_oximeter::{
    BATTERY_LEVEL, CONTINUOUS, CONTROL_POINT, FEATURES, PulseOximeter, Record, Refusal, SPOT_CHECK, Settings,
};
use crate::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service, bluetooth,
};
use crate::noise::{mixed, step};
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::patient::Patient;
use crate::truth::Truth;

/// The driver that speaks to it, and its name in truth files.
const NAME: &str = "pulse-oximeter";
const PLX_SERVICE: u16 = 0x1822;
const BATTERY_SERVICE: u16 = 0x180f;
const DEVICE_INFORMATION: u16 = 0x180a;
const MANUFACTURER_NAME: u16 = 0x2a29;
const MODEL_NUMBER: u16 = 0x2a24;
const SERIAL_NUMBER: u16 = 0x2a25;
const FIRMWARE_REVISION: u16 = 0x2a26;

/// Codes of the values: MDC_PULS_OXIM_SAT_O2, MDC_PULS_OXIM_PULS_RATE, MDC_PULS_OXIM_PERF_REL.
const SPO2: Mdc = Mdc(150_456);
const PULSE_RATE: Mdc = Mdc(149_530);
const PERFUSION: Mdc = Mdc(150_448);

/// A fault's record: hang up before its confirmation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HangUp {
    #[default]
    No,
    /// With the next record that is sent.
    WithNextRecord,
    /// It was sent: now.
    Now,
}

/// The device.
pub struct Oximeter {
    seed: u64,
    settings: Settings,
    scenario: Scenario,
    truth: Truth,
    part: Shared<Max30102<Finger>>,
    firmware: Option<PulseOximeter<Bus<Finger>>>,
    /// When the simulation began, by the gateway's clock.
    began: Option<Moment>,
    now: Duration,
    booted: Duration,
    boots: u64,
    /// What the flash memory holds while the device is dark.
    flash: VecDeque<Record>,
    /// Spot checks that nobody confirmed yet, with the moment they were made.
    undelivered: BTreeMap<u64, (Record, Moment)>,
    delivered: BTreeSet<u64>,
    hang_up: HangUp,
    /// A record that was confirmed and is sent once more, as if the confirmation had been lost.
    again: Option<Outgoing>,
    last_record: Option<Outgoing>,
}

impl Oximeter {
    /// The device of this seed, with the settings it comes with.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self::with_settings(seed, scenario, truth, Settings::default())
    }

    /// The device of this seed, with other settings.
    #[must_use]
    pub fn with_settings(seed: u64, scenario: &Scenario, truth: Truth, settings: Settings) -> Self {
        Self {
            seed,
            settings,
            scenario: scenario.clone(),
            truth,
            part: part(seed, 0),
            firmware: None,
            began: None,
            now: Duration::ZERO,
            booted: Duration::ZERO,
            boots: 0,
            flash: VecDeque::new(),
            undelivered: BTreeMap::new(),
            delivered: BTreeSet::new(),
            hang_up: HangUp::No,
            again: None,
            last_record: None,
        }
    }

    /// Spot checks that were confirmed, by number.
    #[must_use]
    pub fn delivered(&self) -> &BTreeSet<u64> {
        &self.delivered
    }

    /// Lives on up to `now`.
    fn live(&mut self, now: Moment) {
        let began = *self.began.get_or_insert(now);
        let until = now.since(began);
        while self.now + STEP <= until {
            let from = self.now;
            self.now += STEP;
            self.step(from, began + self.now);
        }
    }

    fn step(&mut self, from: Duration, moment: Moment) {
        if self.scenario.during(self.now).any(|fault| fault == Fault::Reboot) {
            if let Some(firmware) = self.firmware.take() {
                self.flash = firmware.records().clone();
            }
            return;
        }
        if self.firmware.is_none() {
            self.boot();
        }
        let beginning: Vec<Fault> = self.scenario.beginning(from, self.now).map(|entry| entry.fault).collect();
        for fault in beginning {
            self.suffer(fault);
        }
        {
            let mut part = self.part.lock();
            part.optics().on = !self.scenario.during(self.now).any(|fault| fault == Fault::SensorOff);
            part.advance(nanoseconds(self.now));
        }
        let at = self.milliseconds();
        let Some(firmware) = &mut self.firmware else { return };
        // A bus that fails leaves the device silent, as a broken one is.
        let _silent = firmware.tick(at);
        while let Some(record) = firmware.take_measured() {
            self.undelivered.insert(record.number, (record, moment));
        }
    }

    fn boot(&mut self) {
        self.part = part(self.seed, self.boots);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(self.now));
        self.booted = self.now;
        let records = std::mem::take(&mut self.flash);
        // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
        self.firmware = PulseOximeter::start(Bus(self.part.clone()), self.settings, records).ok();
        self.set_clock(0);
    }

    /// Sets the device's clock right, but for so many seconds.
    fn set_clock(&mut self, off: i64) {
        let up = (self.now - self.booted).as_secs();
        let right = clock::wall_seconds().saturating_sub(SECONDS_1970_TO_2000).saturating_sub(up);
        if let Some(firmware) = &mut self.firmware {
            firmware.set_clock(right.saturating_add_signed(off));
        }
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Disconnect => self.hang_up = HangUp::WithNextRecord,
            Fault::Clock(Some(off)) => self.set_clock(off),
            Fault::Clock(None) => {
                if let Some(firmware) = &mut self.firmware {
                    firmware.unset_clock();
                }
            }
            Fault::Battery(percent) => {
                if let Some(firmware) = &mut self.firmware {
                    firmware.set_battery(percent);
                }
            }
            Fault::Frame(crate::faults::FrameFault::Duplicate) => self.again.clone_from(&self.last_record),
            _ => {}
        }
    }

    /// Milliseconds since power-up: the firmware's time.
    fn milliseconds(&self) -> u64 {
        u64::try_from((self.now - self.booted).as_millis()).unwrap_or(u64::MAX)
    }

    fn write_truth(&self, record: &Record, made: Moment, at: Moment, delivered: bool) {
        let measured = measured(record, made);
        if let Err(error) = self.truth.reading(NAME, NAME, &measured, at, delivered) {
            eprintln!("kit-sim: the truth cannot be written: {error}");
        }
    }
}

impl Drop for Oximeter {
    /// What nobody confirmed is put down as such.
    fn drop(&mut self) {
        for (record, made) in std::mem::take(&mut self.undelivered).values() {
            self.write_truth(record, *made, *made, false);
        }
    }
}

fn part(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    let finger = Finger { patient: Patient::new(seed), on: true };
    Shared::new(Max30102::new(finger, mixed(seed, boots)))
}

/// A spot check as a driver hands it over.
fn measured(record: &Record, made: Moment) -> Measured {
    let measurement = &record.measurement;
    let value = |code, number: kit_protocol::mder::Number, unit| Value { code, quantity: Quantity::from(number), unit };
    let mut values = vec![value(SPO2, measurement.spo2, "%"), value(PULSE_RATE, measurement.pulse_rate, "/min")];
    values.extend(measurement.pulse_amplitude_index.map(|index| value(PERFUSION, index, "%")));
    Measured {
        values,
        device_time: measurement.time_stamp,
        status: measurement.measurement_status.iter().flat_map(|status| status.terms()).collect(),
        ..Measured::new(Kind::PulseOximetry, made)
    }
}

/// The 16-bit number of a characteristic; 0 for one that has none.
fn number(uuid: Uuid) -> u16 {
    let number = u16::try_from(uuid.as_u128() >> 96).unwrap_or(0);
    if bluetooth(number) == uuid { number } else { 0 }
}

impl From<Refusal> for AttError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotPermitted => Self::RequestNotSupported,
            Refusal::Length => Self::InvalidLength,
            Refusal::NotSubscribed => Self::NotSubscribed,
            Refusal::InProgress => Self::ProcedureInProgress,
        }
    }
}

impl Peripheral for Oximeter {
    fn name(&self) -> String {
        format!("SO-1 {:04X}", self.seed & 0xffff)
    }

    fn address(&self) -> [u8; 6] {
        let [a, b, c, d, ..] = mixed(self.seed, 0xadd0).to_be_bytes();
        [0x02, 0x1d, a, b, c, d]
    }

    fn services(&self) -> Vec<Service> {
        let characteristic =
            |(number, properties)| Characteristic { uuid: bluetooth(number), properties, needs_security: Security::None };
        let service = |number, characteristics: &[(u16, Properties)]| Service {
            uuid: bluetooth(number),
            characteristics: characteristics.iter().copied().map(characteristic).collect(),
        };
        vec![
            service(
                PLX_SERVICE,
                &[
                    (SPOT_CHECK, Properties::INDICATE),
                    (CONTINUOUS, Properties::NOTIFY),
                    (FEATURES, Properties::READ),
                    (CONTROL_POINT, Properties::WRITE.and(Properties::INDICATE)),
                ],
            ),
            service(
                DEVICE_INFORMATION,
                &[
                    (MANUFACTURER_NAME, Properties::READ),
                    (MODEL_NUMBER, Properties::READ),
                    (SERIAL_NUMBER, Properties::READ),
                    (FIRMWARE_REVISION, Properties::READ),
                ],
            ),
            service(BATTERY_SERVICE, &[(BATTERY_LEVEL, Properties::READ.and(Properties::NOTIFY))]),
        ]
    }

    fn pairing(&self) -> PairingMethod {
        PairingMethod::JustWorks
    }

    fn advertising(&mut self, now: Moment) -> Option<Advertisement> {
        self.live(now);
        self.firmware.as_ref().filter(|firmware| firmware.advertising())?;
        let fading = i16::try_from(step(self.seed, self.now.as_secs(), 4)).unwrap_or(0);
        Some(Advertisement {
            local_name: Some(self.name()),
            services: vec![bluetooth(PLX_SERVICE)],
            rssi: -58 + fading,
            ..Advertisement::default()
        })
    }

    fn connected(&mut self, now: Moment) {
        self.live(now);
        let at = self.milliseconds();
        self.again = None;
        if let Some(firmware) = &mut self.firmware {
            firmware.connect(at);
        }
    }

    fn disconnected(&mut self, now: Moment) {
        self.live(now);
        let at = self.milliseconds();
        self.again = None;
        if self.hang_up == HangUp::Now {
            self.hang_up = HangUp::No;
        }
        if let Some(firmware) = &mut self.firmware {
            firmware.disconnect(at);
        }
    }

    fn read(&mut self, now: Moment, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        self.live(now);
        let at = self.milliseconds();
        let text = |text: String| Ok(text.into_bytes());
        match number(characteristic) {
            MANUFACTURER_NAME => text("Simulated Instruments".to_owned()),
            MODEL_NUMBER => text("SO-1".to_owned()),
            SERIAL_NUMBER => text(format!("{:08}", self.seed % 100_000_000)),
            FIRMWARE_REVISION => text(env!("CARGO_PKG_VERSION").to_owned()),
            number => match &mut self.firmware {
                Some(firmware) => Ok(firmware.read(at, number)?),
                None => Err(AttError::RequestNotSupported),
            },
        }
    }

    fn write(&mut self, now: Moment, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        self.live(now);
        let at = self.milliseconds();
        match &mut self.firmware {
            Some(firmware) => Ok(firmware.write(at, number(characteristic), value)?),
            None => Err(AttError::RequestNotSupported),
        }
    }

    fn subscribed(&mut self, now: Moment, characteristic: Uuid, on: bool) {
        self.live(now);
        let at = self.milliseconds();
        if let Some(firmware) = &mut self.firmware {
            firmware.subscribe(at, number(characteristic), on);
        }
    }

    fn confirmed(&mut self, now: Moment, characteristic: Uuid) {
        self.live(now);
        let at = self.milliseconds();
        let Some(number) = self.firmware.as_mut().and_then(|firmware| firmware.confirmed(at, number(characteristic))) else {
            return;
        };
        self.delivered.insert(number);
        if let Some((record, made)) = self.undelivered.remove(&number) {
            self.write_truth(&record, made, now, true);
        }
    }

    fn poll(&mut self, now: Moment) -> Option<Outgoing> {
        self.live(now);
        let at = self.milliseconds();
        if self.hang_up == HangUp::Now {
            return None;
        }
        let firmware = self.firmware.as_mut()?;
        let outgoing = match self.again.take() {
            Some(again) => again,
            None => {
                let message = firmware.next_message(at)?;
                let characteristic = bluetooth(message.characteristic);
                Outgoing { characteristic, value: message.value, confirmed: message.indication }
            }
        };
        if number(outgoing.characteristic) == SPOT_CHECK {
            self.last_record = Some(outgoing.clone());
            if self.hang_up == HangUp::WithNextRecord {
                self.hang_up = HangUp::Now;
            }
        }
        Some(outgoing)
    }

    fn wants_disconnect(&mut self, now: Moment) -> bool {
        self.live(now);
        let at = self.milliseconds();
        // A device without power is silent; the radio notices.
        let idle = self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(at));
        idle || self.hang_up == HangUp::Now
    }
}

#[cfg(test)]
mod tests;
