//! The glucose meter: a finger, a strip, its firmware, a radio.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kit_protocol::gatt::glucose_measurement::GlucoseMeasurement;
use kit_protocol::gatt::glucose_measurement_context::Meal;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Context, Kind, Measured, Value};
use uuid::Uuid;

use super::STEP;
use crate::clock;
use crate::faults::{Fault, FrameFault, Scenario};
use crate::firmware::calendar::SECONDS_1970_TO_2000;
use crate::firmware::glucose_meter::{
    CONTEXT, CONTROL_POINT, CURRENT_TIME, FEATURE, GlucoseMeter, MEASUREMENT, Record, Sample, Settings,
};
use crate::link::gatt::{
    Advertisement, AttError, Characteristic, Outgoing, PairingMethod, Peripheral, Properties, Security, Service, bluetooth,
};
use crate::noise::{between, mixed, nearest, step};
use crate::truth::Truth;

const NAME: &str = "glucose-meter";
const GLUCOSE_SERVICE: u16 = 0x1808;
const CURRENT_TIME_SERVICE: u16 = 0x1805;
const DEVICE_INFORMATION: u16 = 0x180a;
const MANUFACTURER_NAME: u16 = 0x2a29;
const MODEL_NUMBER: u16 = 0x2a24;

/// A drop of blood every so long …
const PERIOD: Duration = Duration::from_secs(30);
/// … the first of them after this …
const FIRST: Duration = Duration::from_secs(8);
/// … and every tenth is control solution.
const CONTROL_EVERY: u64 = 10;
/// Records of an earlier patient are of days before, an hour apart, so many milliseconds each.
const EARLIER_EVERY_MS: u64 = 3_600_000;

/// The device.
pub struct Meter {
    seed: u64,
    scenario: Scenario,
    truth: Truth,
    firmware: Option<GlucoseMeter>,
    began: Option<Moment>,
    now: Duration,
    booted: Duration,
    drops: u64,
    /// What the flash memory holds while the device is dark.
    flash: VecDeque<Record>,
    undelivered: BTreeMap<u16, (Record, Moment)>,
    delivered: BTreeSet<u16>,
    hang_up: bool,
    hang_up_with_next: bool,
    last_record: Option<Outgoing>,
    again: Option<Outgoing>,
}

impl Meter {
    /// The meter of this seed; its memory holds so many records of an earlier patient as the scenario says.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self {
            seed,
            scenario: scenario.clone(),
            truth,
            firmware: None,
            began: None,
            now: Duration::ZERO,
            booted: Duration::ZERO,
            drops: 0,
            flash: earlier(seed, scenario.records),
            undelivered: BTreeMap::new(),
            delivered: BTreeSet::new(),
            hang_up: false,
            hang_up_with_next: false,
            last_record: None,
            again: None,
        }
    }

    /// Records that were sent on an open link, by number.
    #[must_use]
    pub fn delivered(&self) -> &BTreeSet<u16> {
        &self.delivered
    }

    fn live(&mut self, now: Moment) {
        let began = *self.began.get_or_insert(now);
        while self.now + STEP <= now.since(began) {
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
            self.booted = self.now;
            self.firmware = Some(GlucoseMeter::start(Settings::default(), std::mem::take(&mut self.flash)));
            self.set_clock(0);
        }
        let beginning: Vec<Fault> = self.scenario.beginning(from, self.now).map(|entry| entry.fault).collect();
        for fault in beginning {
            match fault {
                Fault::Disconnect => self.hang_up_with_next = true,
                Fault::Clock(Some(off)) => self.set_clock(off),
                Fault::Clock(None) => self.unset_clock(),
                Fault::Frame(FrameFault::Duplicate) => self.again.clone_from(&self.last_record),
                _ => {}
            }
        }
        let due = FIRST + PERIOD * u32::try_from(self.drops).unwrap_or(u32::MAX);
        if self.now >= due {
            let sample = sample(self.seed, self.drops);
            self.drops += 1;
            let at = self.milliseconds();
            if let Some(firmware) = &mut self.firmware {
                let record = firmware.measure(at, sample);
                self.undelivered.insert(record.measurement.sequence_number, (record, moment));
            }
        }
    }

    /// Sets the meter's clock right, but for so many seconds.
    fn set_clock(&mut self, off: i64) {
        let up = (self.now - self.booted).as_secs();
        let right = clock::wall_seconds().saturating_sub(SECONDS_1970_TO_2000).saturating_sub(up);
        if let Some(firmware) = &mut self.firmware {
            firmware.set_clock(right.saturating_add_signed(off));
        }
    }

    fn unset_clock(&mut self) {
        if let Some(firmware) = &mut self.firmware {
            firmware.set_clock(0);
        }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from((self.now - self.booted).as_millis()).unwrap_or(u64::MAX)
    }

    fn write_truth(&self, record: &Record, made: Moment, at: Moment, delivered: bool) {
        if let Err(error) = self.truth.reading(NAME, NAME, &measured(record, made), at, delivered) {
            eprintln!("kit-sim: the truth cannot be written: {error}");
        }
    }
}

impl Drop for Meter {
    /// What nobody took is put down as such.
    fn drop(&mut self) {
        for (record, made) in std::mem::take(&mut self.undelivered).values() {
            self.write_truth(record, *made, *made, false);
        }
    }
}

/// What is in the drop: between 75 and 190 mg/dL for blood.
fn sample(seed: u64, index: u64) -> Sample {
    let milligrams = u16::try_from(nearest(between(seed, 0x91c0 + index, 75.0, 190.0))).unwrap_or(0);
    let control_solution = index % CONTROL_EVERY == CONTROL_EVERY - 1;
    let meal = match index % 3 {
        0 => Some(Meal::FASTING),
        1 => Some(Meal::POSTPRANDIAL),
        _ => None,
    };
    Sample { milligrams_per_decilitre: milligrams, control_solution, meal: meal.filter(|_| !control_solution) }
}

/// The memory as another patient left it: measured in the days before.
fn earlier(seed: u64, records: usize) -> VecDeque<Record> {
    let count = u64::try_from(records).unwrap_or(0);
    let mut meter = GlucoseMeter::start(Settings { records_max: records, ..Settings::default() }, VecDeque::new());
    let now = clock::wall_seconds().saturating_sub(SECONDS_1970_TO_2000);
    meter.set_clock(now.saturating_sub((count + 24) * EARLIER_EVERY_MS / 1_000));
    (0..count).map(|index| meter.measure(index * EARLIER_EVERY_MS, sample(!seed, index))).collect()
}

/// A record as a driver hands it over.
fn measured(record: &Record, made: Moment) -> Measured {
    let GlucoseMeasurement { concentration, sequence_number, .. } = record.measurement;
    let value = |c: kit_protocol::gatt::glucose_measurement::Concentration| {
        let (number, unit) = c.customary();
        Some(Value { code: c.sample_type.code()?, quantity: number.into(), unit })
    };
    let control = concentration.is_some_and(|c| c.is_control_solution());
    let site = (!control).then_some(Context { what: "site", value: "finger" });
    let meal = record.context.and_then(|context| context.meal).and_then(|meal| meal.term());
    Measured {
        values: concentration.and_then(value).into_iter().collect(),
        device_time: record.measurement.user_facing_time(),
        record: Some(sequence_number.into()),
        status: control.then_some("control-solution").into_iter().collect(),
        context: site.into_iter().chain(meal.map(|value| Context { what: "meal", value })).collect(),
        ..Measured::new(Kind::Glucose, made)
    }
}

fn number(uuid: Uuid) -> u16 {
    let number = u16::try_from(uuid.as_u128() >> 96).unwrap_or(0);
    if bluetooth(number) == uuid { number } else { 0 }
}

impl Peripheral for Meter {
    fn name(&self) -> String {
        format!("GM-1 {:04X}", self.seed & 0xffff)
    }

    fn address(&self) -> [u8; 6] {
        let [a, b, c, d, ..] = mixed(self.seed, 0x61c0).to_be_bytes();
        [0x02, 0x1e, a, b, c, d]
    }

    fn services(&self) -> Vec<Service> {
        let service = |number, characteristics: &[(u16, Properties)]| Service {
            uuid: bluetooth(number),
            characteristics: characteristics
                .iter()
                .map(|(number, properties)| Characteristic {
                    uuid: bluetooth(*number),
                    properties: *properties,
                    needs_security: Security::None,
                })
                .collect(),
        };
        vec![
            service(
                GLUCOSE_SERVICE,
                &[
                    (MEASUREMENT, Properties::NOTIFY),
                    (CONTEXT, Properties::NOTIFY),
                    (FEATURE, Properties::READ),
                    (CONTROL_POINT, Properties::WRITE.and(Properties::INDICATE)),
                ],
            ),
            service(CURRENT_TIME_SERVICE, &[(CURRENT_TIME, Properties::READ.and(Properties::WRITE))]),
            service(DEVICE_INFORMATION, &[(MANUFACTURER_NAME, Properties::READ), (MODEL_NUMBER, Properties::READ)]),
        ]
    }

    fn pairing(&self) -> PairingMethod {
        PairingMethod::JustWorks
    }

    fn advertising(&mut self, now: Moment) -> Option<Advertisement> {
        self.live(now);
        let at = self.milliseconds();
        self.firmware.as_ref().filter(|firmware| firmware.advertising(at))?;
        let fading = i16::try_from(step(self.seed, self.now.as_secs(), 4)).unwrap_or(0);
        Some(Advertisement {
            local_name: Some(self.name()),
            services: vec![bluetooth(GLUCOSE_SERVICE)],
            rssi: -61 + fading,
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
        self.hang_up = false;
        if let Some(firmware) = &mut self.firmware {
            firmware.disconnect(at);
        }
    }

    fn read(&mut self, now: Moment, characteristic: Uuid) -> Result<Vec<u8>, AttError> {
        self.live(now);
        let at = self.milliseconds();
        match number(characteristic) {
            MANUFACTURER_NAME => Ok(b"Simulated Instruments".to_vec()),
            MODEL_NUMBER => Ok(b"GM-1".to_vec()),
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

    fn confirmed(&mut self, now: Moment, _: Uuid) {
        self.live(now);
        let at = self.milliseconds();
        if let Some(firmware) = &mut self.firmware {
            firmware.confirmed(at);
        }
    }

    fn poll(&mut self, now: Moment) -> Option<Outgoing> {
        self.live(now);
        let at = self.milliseconds();
        if self.hang_up {
            return None;
        }
        if let Some(again) = self.again.take() {
            return Some(again);
        }
        let (message, ends) = self.firmware.as_mut()?.next_message(at)?;
        let characteristic = bluetooth(message.characteristic);
        let outgoing = Outgoing { characteristic, value: message.value, confirmed: message.indication };
        if message.characteristic == MEASUREMENT {
            self.last_record = Some(outgoing.clone());
            if std::mem::take(&mut self.hang_up_with_next) {
                // The link ends with this record on it: nobody knows whether it came.
                self.hang_up = true;
                return None;
            }
        }
        if let Some(number) = ends {
            self.delivered.insert(number);
            if let Some((record, made)) = self.undelivered.remove(&number) {
                self.write_truth(&record, made, now, true);
            }
        }
        Some(outgoing)
    }

    fn wants_disconnect(&mut self, now: Moment) -> bool {
        self.live(now);
        let at = self.milliseconds();
        self.firmware.as_ref().is_none_or(|firmware| firmware.hangs_up(at)) || self.hang_up
    }
}

#[cfg(test)]
mod tests;
