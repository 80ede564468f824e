//! Heart rate sensors of the Bluetooth Heart Rate Service (0x180D).
//!
//! Services: 0x180D with Heart Rate Measurement (0x2A37, notified about every second) and Body Sensor Location (0x2A38,
//! read). Source: Bluetooth SIG, Heart Rate Service and Profile 1.0. One reading every 10 s: the heart rate of that moment
//! and every RR interval since the reading before, oldest first, as values of the reading: they are a list of measured
//! numbers of their own, no signal of a fixed rate, so no recording. An interval is sent in 1/1024 s and kept in ms,
//! exactly (0.9765625 ms a digit). A heart rate of 0 is no measurement: the next one comes in a second, and only where every
//! one is wanted is it refused. Energy expended is no vital sign and left.

use std::collections::VecDeque;
use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::heart_rate::{BodySensorLocation, HeartRateMeasurement, SensorContact, rr_milliseconds};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::plausibility;
use kit_protocol::reading::{Context, Kind, Measured, Quantity, Value};

use crate::driver::{Driver, Endpoint, Event, Link, Pairing, Security, Start, bluetooth};
use crate::session::gatt_session::{CURRENT_TIME, GattSession, OverGatt, Plan, sets_clock};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "heart-rate",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(SERVICE)], names: &[], listens: &[MEASUREMENT] }],
    protocol: "Heart Rate Service 0x180D",
    gives: "heart rate, RR intervals, sensor contact",
    parameters: &[Mdc::HEART_RATE, Mdc::RR_INTERVAL],
    security: Security::None,
    pairing: Pairing::Bond,
    memory: false,
    allowed: &[sets_clock(CURRENT_TIME)],
    quirks: &[],
    session: |start| Box::new(HeartRate::new(&start)),
};

const SERVICE: u16 = 0x180d;
const MEASUREMENT: Endpoint = Endpoint::gatt(SERVICE, 0x2a37);
const LOCATION: Endpoint = Endpoint::gatt(SERVICE, 0x2a38);

const PLAN: Plan = Plan {
    gives: "heart rate measurement",
    measures: &[MEASUREMENT],
    reads: &[LOCATION],
    subscribes: &[MEASUREMENT],
    clock: &[CURRENT_TIME],
};

/// One reading every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);
/// A reading has so many RR intervals at most, the newest: a minute of the fastest heart.
const RR_INTERVALS_MAX: usize = 350;

struct HeartRate {
    gatt: GattSession,
    interval: Duration,
    location: Option<BodySensorLocation>,
    /// RR intervals since the last reading.
    rr_intervals: VecDeque<u16>,
    /// No reading before this.
    next_reading: Option<Moment>,
}

impl OverGatt for HeartRate {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: LOCATION, octets, .. } => match BodySensorLocation::decode(octets) {
                Ok(location) => self.location = Some(location),
                Err(error) => self.gatt.undecodable("body sensor location", error, octets),
            },
            Event::Received { from: MEASUREMENT, octets, .. } => self.measurement(now, octets),
            _ => {}
        }
    }

    fn until(&self) -> Option<Moment> {
        self.gatt.poll_timeout()
    }
}

impl HeartRate {
    fn new(start: &Start) -> Self {
        Self {
            gatt: GattSession::new(PLAN, start),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            location: None,
            rr_intervals: VecDeque::new(),
            next_reading: None,
        }
    }

    fn measurement(&mut self, now: Moment, octets: &[u8]) {
        let measurement = match HeartRateMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable("heart rate measurement", error, octets),
        };
        self.rr_intervals.extend(&measurement.rr_intervals);
        let over = self.rr_intervals.len().saturating_sub(RR_INTERVALS_MAX);
        self.rr_intervals.drain(..over);
        if measurement.heart_rate.per_minute() == 0 {
            if self.interval.is_zero() {
                self.gatt.undecodable("heart rate measurement", "no heart rate in it: is the sensor on the skin?", octets);
            }
            return;
        }
        if self.next_reading.is_some_and(|next| now < next) {
            return;
        }
        // Where nothing more can be taken in, the value is not taken: the next one comes in a second.
        if self.gatt.measured(self.reading(now, &measurement, octets)).is_ok() {
            self.rr_intervals.clear();
            self.next_reading = Some(now + self.interval);
        }
    }

    fn reading(&self, now: Moment, m: &HeartRateMeasurement, octets: &[u8]) -> Measured {
        let value = |code, decimal, unit| Value { code, quantity: Quantity::Number(decimal), unit };
        let rate = value(Mdc::HEART_RATE, Decimal::whole(m.heart_rate.per_minute().into()), "/min");
        let intervals = self.rr_intervals.iter().map(|interval| value(Mdc::RR_INTERVAL, rr_milliseconds(*interval), "ms"));
        let doubtful = !self.rr_intervals.iter().all(|interval| plausibility::is_rr_interval(rr_milliseconds(*interval)));
        let location = self.location.and_then(BodySensorLocation::term);
        Measured {
            values: std::iter::once(rate).chain(intervals).collect(),
            // That it is as it should be is no status.
            status: Some(m.sensor_contact)
                .filter(|contact| *contact != SensorContact::DETECTED)
                .and_then(SensorContact::term)
                .into_iter()
                .chain(doubtful.then_some(plausibility::RR_INTERVAL_IMPLAUSIBLE))
                .collect(),
            context: location.map(|location| Context { what: "site", value: location }).into_iter().collect(),
            octets: octets.to_vec(),
            ..Measured::new(Kind::HeartRate, now)
        }
    }
}

#[cfg(test)]
mod tests;
