//! What cuffs, thermometers and scales have in common on the air: they measure, advertise for some seconds, indicate
//! everything that nobody confirmed yet, oldest first, and hang up.
//!
//! What is measured is an [`Instrument`]. Characteristics are their 16-bit numbers; time is milliseconds since power-up.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kit_protocol::gatt::battery_level::BatteryLevel;
use kit_protocol::gatt::date_time::DateTime;

use super::calendar::{civil, seconds};

/// Date Time.
pub const DATE_TIME: u16 = 0x2a08;
/// Battery Level.
pub const BATTERY_LEVEL: u16 = 0x2a19;

/// Values while it measures come this often, ms.
const DURING_MS: u64 = 500;

/// What the sensors of a device say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sensed {
    /// mmHg.
    pub systolic: f32,
    /// mmHg.
    pub diastolic: f32,
    /// /min.
    pub heart_rate: f32,
    /// °C.
    pub temperature: f32,
    /// kg.
    pub weight: f32,
}

/// What a device measures, and how it says it.
pub trait Instrument {
    /// The characteristic that it indicates results in, or (a stream) notifies values in.
    const MEASUREMENT: u16;
    /// The characteristic that it notifies values in while it measures.
    const DURING: Option<u16>;
    /// It has no results, only values for as long as a link is up.
    const STREAMS: bool;

    /// A result, or a stream's value; without a time where the clock was never set.
    fn result(&mut self, sensed: &Sensed, time: Option<DateTime>) -> Option<Vec<u8>>;
    /// A value while it measures, which it has done for `spent_ms` of `whole_ms`.
    fn during(&mut self, sensed: &Sensed, spent_ms: u64, whole_ms: u64) -> Option<Vec<u8>>;
    /// What is read of another characteristic.
    fn read(&self, characteristic: u16) -> Option<Vec<u8>>;
}

/// How the device spends its time, ms, and how much it remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A measurement begins this often.
    pub period_ms: u64,
    /// It takes this long.
    pub measure_ms: u64,
    /// The device then advertises for this long.
    pub advertise_ms: u64,
    /// It hangs up after this long without anything to say.
    pub idle_ms: u64,
    /// Results it keeps; the next overwrites the oldest.
    pub records_max: usize,
    /// It advertises while it measures too, so that it can be watched.
    pub watched: bool,
}

/// A result that nobody confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts this device's results; it is not on the air.
    pub number: u64,
    /// As it is indicated.
    pub value: Vec<u8>,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The characteristic.
    pub characteristic: u16,
    /// Its value.
    pub value: Vec<u8>,
    /// By indication; nothing more is sent until [`SpotDevice::confirmed`].
    pub indication: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Measuring { since_ms: u64 },
    Offering { until_ms: u64 },
    Resting,
}

/// The firmware.
#[derive(Debug)]
pub struct SpotDevice<I> {
    instrument: I,
    settings: Settings,
    phase: Phase,
    next_measurement_ms: u64,
    told_ms: u64,
    sensed: Sensed,
    /// Seconds since 2000 at power-up; `None`: the clock was never set.
    clock: Option<u64>,
    battery: BatteryLevel,
    records: VecDeque<Record>,
    numbers: u64,
    made: VecDeque<Record>,
    connected: bool,
    subscribed: Vec<u16>,
    last_traffic_ms: u64,
    awaiting: Option<u64>,
}

impl<I: Instrument> SpotDevice<I> {
    /// Power-up: the clock is not set, the memory is what it was before (`records`).
    pub fn start(instrument: I, settings: Settings, records: VecDeque<Record>) -> Self {
        let numbers = records.back().map_or(0, |record| record.number);
        Self {
            instrument,
            settings,
            phase: Phase::Resting,
            next_measurement_ms: 0,
            told_ms: 0,
            sensed: Sensed::default(),
            clock: None,
            battery: BatteryLevel(100),
            records,
            numbers,
            made: VecDeque::new(),
            connected: false,
            subscribed: Vec::new(),
            last_traffic_ms: 0,
            awaiting: None,
        }
    }

    /// Sets the clock: it was `seconds` after the start of 2000 at power-up; `None`: it has lost the time.
    pub fn set_clock(&mut self, seconds: Option<u64>) {
        self.clock = seconds;
    }

    /// What the battery's gauge says, %.
    pub fn set_battery(&mut self, percent: u8) {
        self.battery = BatteryLevel(percent.min(100));
    }

    /// What the memory holds, oldest first.
    #[must_use]
    pub fn records(&self) -> &VecDeque<Record> {
        &self.records
    }

    /// The next result made since the last call, for whoever keeps a record of what was made.
    pub fn take_made(&mut self) -> Option<Record> {
        self.made.pop_front()
    }

    /// To be called often: takes what the sensors say, and moves from measuring to offering to resting.
    pub fn tick(&mut self, now_ms: u64, sensed: Sensed) {
        self.sensed = sensed;
        if I::STREAMS {
            return;
        }
        match self.phase {
            Phase::Measuring { since_ms } if now_ms >= since_ms + self.settings.measure_ms => self.finish(now_ms),
            Phase::Offering { until_ms } if now_ms >= until_ms && !self.connected => self.phase = Phase::Resting,
            Phase::Resting if now_ms >= self.next_measurement_ms => {
                self.next_measurement_ms = now_ms + self.settings.period_ms;
                self.phase = Phase::Measuring { since_ms: now_ms };
            }
            Phase::Measuring { .. } | Phase::Offering { .. } | Phase::Resting => {}
        }
    }

    /// Whether it advertises.
    #[must_use]
    pub fn advertising(&self) -> bool {
        let seen = match self.phase {
            Phase::Measuring { .. } => self.settings.watched,
            Phase::Offering { .. } => true,
            Phase::Resting => I::STREAMS,
        };
        seen && !self.connected
    }

    /// A link came up.
    pub fn connect(&mut self, now_ms: u64) {
        self.connected = true;
        self.forget_link(now_ms);
    }

    /// The link ended: it is dark until the next measurement, if all was handed over.
    pub fn disconnect(&mut self, now_ms: u64) {
        self.connected = false;
        self.forget_link(now_ms);
        if self.records.is_empty() && matches!(self.phase, Phase::Offering { .. }) {
            self.phase = Phase::Resting;
        }
    }

    /// A client characteristic configuration was written.
    pub fn subscribe(&mut self, now_ms: u64, characteristic: u16, on: bool) {
        self.last_traffic_ms = now_ms;
        self.subscribed.retain(|there| *there != characteristic);
        if on {
            self.subscribed.push(characteristic);
        }
    }

    /// A read request; `None`: not permitted.
    pub fn read(&mut self, now_ms: u64, characteristic: u16) -> Option<Vec<u8>> {
        self.last_traffic_ms = now_ms;
        match characteristic {
            BATTERY_LEVEL => Some(self.battery.encode().to_vec()),
            // A clock that was never set says so by a date that is none.
            DATE_TIME => Some(self.time(now_ms).map_or_else(|| Vec::from([0; DateTime::OCTETS]), |time| time.encode().to_vec())),
            other => self.instrument.read(other),
        }
    }

    /// A write request: the clock is all that can be written. False: not permitted, or no time.
    pub fn write(&mut self, now_ms: u64, characteristic: u16, value: &[u8]) -> bool {
        self.last_traffic_ms = now_ms;
        let time = DateTime::decode(value).ok().filter(|_| characteristic == DATE_TIME);
        let Some(set) = time.as_ref().and_then(seconds) else { return false };
        self.clock = Some(set.saturating_sub(now_ms / 1_000));
        true
    }

    /// What it sends next.
    pub fn next_message(&mut self, now_ms: u64) -> Option<Message> {
        if !self.connected || self.awaiting.is_some() {
            return None;
        }
        let message = self.value_now(now_ms).or_else(|| self.oldest_record())?;
        self.last_traffic_ms = now_ms;
        Some(message)
    }

    /// The last indication was confirmed; gives the number of the result that it carried, which is forgotten.
    pub fn confirmed(&mut self, now_ms: u64) -> Option<u64> {
        self.last_traffic_ms = now_ms;
        let number = self.awaiting.take()?;
        self.records.retain(|record| record.number != number);
        Some(number)
    }

    /// Whether it hangs up: nothing said for a while, and no measurement going on.
    #[must_use]
    pub fn hangs_up(&self, now_ms: u64) -> bool {
        let busy = I::STREAMS || matches!(self.phase, Phase::Measuring { .. });
        self.connected && !busy && now_ms.saturating_sub(self.last_traffic_ms) >= self.settings.idle_ms
    }

    fn forget_link(&mut self, now_ms: u64) {
        self.subscribed.clear();
        self.awaiting = None;
        self.last_traffic_ms = now_ms;
    }

    fn finish(&mut self, now_ms: u64) {
        self.phase = Phase::Offering { until_ms: now_ms + self.settings.advertise_ms };
        self.last_traffic_ms = now_ms;
        let time = self.time(now_ms);
        let Some(value) = self.instrument.result(&self.sensed, time) else { return };
        self.numbers += 1;
        let record = Record { number: self.numbers, value };
        while self.records.len() >= self.settings.records_max.max(1) {
            self.records.pop_front();
        }
        self.records.push_back(record.clone());
        self.made.push_back(record);
    }

    fn time(&self, now_ms: u64) -> Option<DateTime> {
        self.clock.map(|at_power_up| civil(at_power_up + now_ms / 1_000))
    }

    fn value_now(&mut self, now_ms: u64) -> Option<Message> {
        let every = if I::STREAMS { 1_000 } else { DURING_MS };
        let characteristic = if I::STREAMS { Some(I::MEASUREMENT) } else { I::DURING };
        let characteristic = characteristic.filter(|number| self.subscribed.contains(number))?;
        if now_ms.saturating_sub(self.told_ms) < every {
            return None;
        }
        let value = match self.phase {
            _ if I::STREAMS => self.instrument.result(&self.sensed, None),
            Phase::Measuring { since_ms } => {
                self.instrument.during(&self.sensed, now_ms.saturating_sub(since_ms), self.settings.measure_ms)
            }
            Phase::Offering { .. } | Phase::Resting => None,
        }?;
        self.told_ms = now_ms;
        Some(Message { characteristic, value, indication: false })
    }

    fn oldest_record(&mut self) -> Option<Message> {
        let record = self.records.front().filter(|_| self.subscribed.contains(&I::MEASUREMENT))?;
        self.awaiting = Some(record.number);
        Some(Message { characteristic: I::MEASUREMENT, value: record.value.clone(), indication: true })
    }
}
