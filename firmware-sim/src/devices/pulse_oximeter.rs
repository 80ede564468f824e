//! The spot-check oximeter: a finger on a MAX30102, its firmware, a radio.

use std::collections::VecDeque;

use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};
use uuid::Uuid;

use super::finger::Finger;
use super::nanoseconds;
use super::on_air::{Board, Identity, Now, OnAir, Sent, Whole, number, service};
use crate::faults::{Fault, Scenario};
use crate::firmware::pulse_oximeter::{
    BATTERY_LEVEL, CONTINUOUS, CONTROL_POINT, FEATURES, PulseOximeter, Record, Refusal, SPOT_CHECK, Settings,
};
use crate::link::gatt::{Advertisement, AttError, Outgoing, PairingMethod, Properties, Service, bluetooth};
use crate::noise::mixed;
use crate::parts::Shared;
use crate::parts::max30102::{Bus, Max30102};
use crate::patient::Patient;
use crate::truth::Truth;

const NAME: &str = "pulse-oximeter";
const PLX_SERVICE: u16 = 0x1822;
const BATTERY_SERVICE: u16 = 0x180f;

/// Codes of the values: MDC_PULS_OXIM_SAT_O2, MDC_PULS_OXIM_PULS_RATE, MDC_PULS_OXIM_PERF_REL.
const SPO2: Mdc = Mdc(150_456);
const PULSE_RATE: Mdc = Mdc(149_530);
const PERFUSION: Mdc = Mdc(150_448);

/// The device with its radio.
pub type Oximeter = OnAir<OximeterBoard>;

/// The device.
pub struct OximeterBoard {
    seed: u64,
    settings: Settings,
    part: Shared<Max30102<Finger>>,
    firmware: Option<PulseOximeter<Bus<Finger>>>,
    boots: u64,
    /// What the flash memory holds while the device is dark.
    flash: VecDeque<Record>,
}

impl OnAir<OximeterBoard> {
    /// The device of this seed, with the settings it comes with.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        let (settings, flash) = (Settings::default(), VecDeque::new());
        let board = OximeterBoard { seed, settings, part: part(seed, 0), firmware: None, boots: 0, flash };
        Self::with(board, seed, scenario, truth)
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

impl Board for OximeterBoard {
    fn identity(&self) -> Identity {
        let pairing = PairingMethod::JustWorks;
        Identity { device: NAME, driver: NAME, model: "SO-1", address: 0x1d, pairing, informs: true }
    }

    fn services(&self) -> Vec<Service> {
        let plx = [
            (SPOT_CHECK, Properties::INDICATE),
            (CONTINUOUS, Properties::NOTIFY),
            (FEATURES, Properties::READ),
            (CONTROL_POINT, Properties::WRITE.and(Properties::INDICATE)),
        ];
        let battery = [(BATTERY_LEVEL, Properties::READ.and(Properties::NOTIFY))];
        vec![service(PLX_SERVICE, &plx), service(BATTERY_SERVICE, &battery)]
    }

    fn advertisement(&self, _now: Now) -> Option<Advertisement> {
        self.firmware.as_ref().filter(|firmware| firmware.advertising())?;
        Some(Advertisement { services: vec![bluetooth(PLX_SERVICE)], ..Advertisement::default() })
    }

    fn power_up(&mut self, now: Now) {
        self.part = part(self.seed, self.boots);
        self.boots += 1;
        self.part.lock().advance(nanoseconds(now.at));
        let records = std::mem::take(&mut self.flash);
        // A simulated part always comes up; if it did not, the device would stay silent, as a broken one does.
        self.firmware = PulseOximeter::start(Bus(self.part.clone()), self.settings, records).ok();
    }

    fn power_down(&mut self) {
        if let Some(firmware) = self.firmware.take() {
            self.flash = firmware.records().clone();
        }
    }

    fn step(&mut self, now: Now, scenario: &Scenario) {
        {
            let mut part = self.part.lock();
            part.optics().on = !scenario.during(now.at).any(|fault| fault == Fault::SensorOff);
            part.advance(nanoseconds(now.at));
        }
        if let Some(firmware) = &mut self.firmware {
            // A bus that fails leaves the device silent, as a broken one is.
            let _silent = firmware.tick(now.up_ms);
        }
    }

    fn set_clock(&mut self, at_power_up: Option<u64>) {
        match (&mut self.firmware, at_power_up) {
            (Some(firmware), Some(seconds)) => firmware.set_clock(seconds),
            (Some(firmware), None) => firmware.unset_clock(),
            (None, _) => {}
        }
    }

    fn set_battery(&mut self, percent: u8) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_battery(percent));
    }

    fn take_made(&mut self, moment: Moment) -> Vec<(u64, Measured)> {
        let made = std::iter::from_fn(|| self.firmware.as_mut()?.take_measured());
        made.map(|record| (record.number, measured(&record, moment))).collect()
    }

    fn connected(&mut self, now: Now) {
        self.firmware.iter_mut().for_each(|firmware| firmware.connect(now.up_ms));
    }

    fn disconnected(&mut self, now: Now) {
        self.firmware.iter_mut().for_each(|firmware| firmware.disconnect(now.up_ms));
    }

    fn read(&mut self, now: Now, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        let firmware = self.firmware.as_mut().ok_or(AttError::RequestNotSupported)?;
        Ok(firmware.read(now.up_ms, number(characteristic))?)
    }

    fn write(&mut self, now: Now, characteristic: Uuid, value: &[u8]) -> Result<(), AttError> {
        let firmware = self.firmware.as_mut().ok_or(AttError::RequestNotSupported)?;
        Ok(firmware.write(now.up_ms, number(characteristic), value)?)
    }

    fn subscribed(&mut self, now: Now, characteristic: Uuid, on: bool) {
        self.firmware.iter_mut().for_each(|firmware| firmware.subscribe(now.up_ms, number(characteristic), on));
    }

    fn confirmed(&mut self, now: Now, characteristic: Uuid) -> Whole {
        let number = self.firmware.as_mut().and_then(|firmware| firmware.confirmed(now.up_ms, number(characteristic)));
        Whole { results: number.into_iter().collect(), ..Whole::default() }
    }

    fn next(&mut self, now: Now) -> Option<Sent> {
        let message = self.firmware.as_mut()?.next_message(now.up_ms)?;
        let characteristic = bluetooth(message.characteristic);
        let outgoing = Outgoing { characteristic, value: message.value, confirmed: message.indication };
        Some(Sent { is_result: message.characteristic == SPOT_CHECK, ..Sent::plain(outgoing) })
    }

    fn hangs_up(&self, now: Now) -> bool {
        self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(now.up_ms))
    }
}

#[cfg(test)]
mod tests;
