//! The multiparameter monitor: an arm in a cuff, a finger on a MAX30102, a TMP117 on the body, the firmware, a UART.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};
use kit_protocol::serial::aa55::{Frame, Framer};
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::pc300::{Message, PLETH_RATE_HZ, TemperatureState};

use super::finger::Finger;
use super::{Carried, Emission, STEP, SerialDevice, nanoseconds};
use crate::faults::{Fault, Scenario};
use crate::firmware::cuff::Drives;
use crate::firmware::monitor_pc300::MonitorPc300;
use crate::noise::mixed;
use crate::parts::Shared;
use crate::parts::arm_cuff::{self, ArmCuff, Pump, Trouble, Valve};
use crate::parts::max30102::{self, Max30102};
use crate::parts::tmp117::{self, Tmp117};
use crate::parts::uart::Uart;
use crate::patient::Patient;
use crate::truth::StreamHead;

/// The patient presses the cuff's button this often …
const CUFF_EVERY: Duration = Duration::from_secs(120);
/// … and takes the thermometer this often, this long after the start.
const THERMOMETER_EVERY: Duration = Duration::from_secs(60);
const THERMOMETER_AFTER: Duration = Duration::from_secs(5);
/// Battery level that the frames call empty, of a battery this low.
const BATTERY_LOW_PERCENT: u8 = 15;

type Firmware = MonitorPc300<max30102::Bus<Finger>, tmp117::Bus, arm_cuff::Bus, Pump, Valve, Shared<Uart>>;

/// The device.
pub struct Monitor {
    seed: u64,
    scenario: Scenario,
    oximeter: Shared<Max30102<Finger>>,
    thermometer: Shared<Tmp117>,
    cuff: Shared<ArmCuff>,
    uart: Shared<Uart>,
    firmware: Option<Firmware>,
    framer: Framer,
    now: Duration,
    boots: u64,
}

impl Monitor {
    /// The device of this seed.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self {
            seed,
            scenario: scenario.clone(),
            oximeter: oximeter(seed, 0),
            thermometer: Shared::new(Tmp117::new(seed, mixed(seed, 0x7e))),
            cuff: Shared::new(ArmCuff::new(seed, mixed(seed, 0xcf))),
            uart: Shared::new(Uart::default()),
            firmware: None,
            framer: Framer::default(),
            now: Duration::ZERO,
            boots: 0,
        }
    }

    fn boot(&mut self) {
        self.oximeter = oximeter(self.seed, self.boots);
        self.boots += 1;
        self.advance_parts();
        let buses =
            (max30102::Bus(self.oximeter.clone()), tmp117::Bus(self.thermometer.clone()), arm_cuff::Bus(self.cuff.clone()));
        let drives = Drives { pump: Pump(self.cuff.clone()), valve: Valve(self.cuff.clone()) };
        // Simulated parts always come up; if they did not, the device would stay silent, as a broken one does.
        self.firmware = MonitorPc300::start(buses, drives, self.uart.clone()).ok();
    }

    fn advance_parts(&mut self) {
        let now = nanoseconds(self.now);
        self.oximeter.lock().advance(now);
        self.thermometer.lock().advance(now);
        self.cuff.lock().advance(now);
    }

    fn step(&mut self, to: Duration, emit: &mut dyn FnMut(Emission)) {
        self.now = to;
        if self.scenario.during(to).any(|fault| fault == Fault::Reboot) {
            // Without power the valve falls open.
            self.firmware = None;
            self.framer = Framer::default();
            self.cuff.lock().power_off();
            return self.advance_parts();
        }
        if self.firmware.is_none() {
            self.boot();
        }
        self.oximeter.lock().optics().on = !self.scenario.during(to).any(|fault| fault == Fault::SensorOff);
        let motion = self.scenario.during(to).any(|fault| fault == Fault::Motion);
        self.cuff.lock().trouble(Trouble { motion, ..Trouble::default() });
        self.advance_parts();
        let battery = self.scenario.beginning(to.saturating_sub(STEP), to).find_map(|entry| match entry.fault {
            Fault::Battery(percent) => Some(if percent <= BATTERY_LOW_PERCENT { 0 } else { 3 }),
            _ => None,
        });
        if let Some(firmware) = &mut self.firmware {
            let at = u64::try_from(to.as_millis()).unwrap_or(u64::MAX);
            battery.into_iter().for_each(|level| firmware.set_battery(level));
            if every(to, CUFF_EVERY, STEP) {
                firmware.press_cuff(at);
            }
            if every(to, THERMOMETER_EVERY, THERMOMETER_AFTER) {
                self.thermometer.lock().touch(true);
                firmware.press_thermometer(at);
            }
            // A bus that fails leaves the device silent, as a broken one is.
            let _silent = firmware.service(at);
        }
        let sent = self.uart.lock().take_sent();
        self.framer.push(&sent, |found| {
            if let Found::Frame(frame) = found {
                let carries = carried(&frame);
                emit(Emission { at: to, octets: frame.encode(), carries });
            }
        });
    }
}

fn every(now: Duration, period: Duration, after: Duration) -> bool {
    now.checked_sub(after).is_some_and(|since| since.as_millis().is_multiple_of(period.as_millis()))
}

fn oximeter(seed: u64, boots: u64) -> Shared<Max30102<Finger>> {
    Shared::new(Max30102::new(Finger { patient: Patient::new(seed), on: true }, mixed(seed, boots)))
}

/// What is whole with a frame: samples of the pulse wave, or a result.
fn carried(frame: &Frame) -> Vec<Carried> {
    let number = |code, value: i64, unit| Value { code, quantity: Quantity::Number(Decimal::whole(value)), unit };
    let reading = |kind, values| vec![Carried::live(Measured { values, ..Measured::new(kind, Moment::ZERO) })];
    match Message::decode(frame) {
        Ok(Message::Pleth(samples)) => {
            let row = |sample: &u8| Carried::Row { stream: 0, counter: None, values: vec![i32::from(sample & 0x7f)] };
            samples.iter().map(row).collect()
        }
        Ok(Message::BloodPressure(m)) => reading(
            Kind::BloodPressure,
            vec![
                number(Mdc::SYSTOLIC, m.systolic.into(), "mm[Hg]"),
                number(Mdc::DIASTOLIC, m.diastolic.into(), "mm[Hg]"),
                number(Mdc::MEAN_ARTERIAL_PRESSURE, m.mean.into(), "mm[Hg]"),
                number(Mdc::PULSE_RATE_CUFF, m.pulse_rate.into(), "/min"),
            ],
        ),
        Ok(Message::Temperature(m)) if m.state == TemperatureState::Done => {
            let hundredths = 3_000 + i64::from(m.hundredths_above_30.unwrap_or(0));
            let quantity = Quantity::Number(Decimal::new(hundredths, -2));
            reading(Kind::Temperature, vec![Value { code: Mdc::BODY_TEMPERATURE, quantity, unit: "Cel" }])
        }
        _ => Vec::new(),
    }
}

impl SerialDevice for Monitor {
    fn streams(&self) -> Vec<StreamHead> {
        let device = "monitor-pc300".to_owned();
        vec![StreamHead { device, kind: "pleth", channels: vec![Mdc::PLETH.0], rate_hz: PLETH_RATE_HZ, gathers: Duration::ZERO }]
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
mod tests;
