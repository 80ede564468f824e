//! Cuffs of the Bluetooth Blood Pressure Service (0x1810).
//!
//! Services: 0x1810 with Blood Pressure Measurement (0x2A35, indicated), Intermediate Cuff Pressure (0x2A36, notified while
//! it measures) and, in some, Date Time (0x2A08, read and written). Source: Bluetooth SIG, Blood Pressure Service and
//! Profile 1.1.1. Such a cuff advertises for some seconds after a measurement and indicates everything that nobody took
//! yet, the newest last, then hangs up. A cuff measures in two ways: an intermediate pressure proves that the next result
//! is new; otherwise see [`crate::session::liveness`]. The feature characteristic (0x2A49) says nothing that changes what is done.
//! The cuff's pressure while it measures is one reading every 10 s. What has no pressure in it was an attempt: it is refused.
//!
//! Known departures are [`Driver::quirks`]; by the standard alone their octets are refused.

use std::time::Duration;

use kit_protocol::gatt::blood_pressure::{BloodPressureMeasurement, BloodPressureStatus, Departures, UserId};
use kit_protocol::mder::Number;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Value};

use crate::driver::{Driver, Endpoint, Event, Link, Pairing, Quirk, Security, Start, bluetooth};
use crate::session::gatt_session::{CURRENT_TIME, GattSession, OverGatt, Plan, date_time, earlier, sets_clock};
use crate::session::liveness::Liveness;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "blood-pressure",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(SERVICE)], names: &[], listens: &[MEASUREMENT, CUFF_PRESSURE] }],
    protocol: "Blood Pressure Service 0x1810",
    gives: "systolic, diastolic, mean pressure, pulse, status, user; cuff pressure while it measures",
    parameters: &[Mdc::SYSTOLIC, Mdc::DIASTOLIC, Mdc::MEAN_ARTERIAL_PRESSURE, Mdc::PULSE_RATE_CUFF, Mdc::CUFF_PRESSURE],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[sets_clock(date_time(SERVICE)), sets_clock(CURRENT_TIME)],
    quirks: &[SWAPPED],
    session: |start| Box::new(BloodPressure::new(&start)),
};

const SERVICE: u16 = 0x1810;
const MEASUREMENT: Endpoint = Endpoint::gatt(SERVICE, 0x2a35);
const CUFF_PRESSURE: Endpoint = Endpoint::gatt(SERVICE, 0x2a36);

const PLAN: Plan = Plan {
    gives: "blood pressure measurement",
    measures: &[MEASUREMENT, CUFF_PRESSURE],
    reads: &[],
    subscribes: &[CUFF_PRESSURE, MEASUREMENT],
    clock: &[date_time(SERVICE), CURRENT_TIME],
};

const SWAPPED: Quirk = Quirk {
    name: "swapped-pulse-and-status",
    manufacturer: "",
    model: "BM85",
    firmware: "",
    what: "pulse rate and status come big-endian, with a user number before the status that no flag announces; mean pressure 0",
    vector: (
        "566a0047000000ea07080b121f00003f000000",
        "Beurer BM85, blood-pressure-monitor-fl 17aba3d, ble_measurement_data_test",
    ),
};

/// One reading of the cuff's pressure every so long, where the configuration does not say.
const INTERVAL: Duration = Duration::from_secs(10);

struct BloodPressure {
    gatt: GattSession,
    departures: Departures,
    liveness: Liveness,
    interval: Duration,
    /// No reading of the cuff's pressure before this.
    next_pressure: Option<Moment>,
}

impl OverGatt for BloodPressure {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: MEASUREMENT, octets, .. } => self.measurement(now, octets),
            Event::Received { from: CUFF_PRESSURE, octets, .. } => self.cuff_pressure(now, octets),
            Event::Down { .. } => self.alone(now, true),
            _ => {}
        }
    }

    fn time_came(&mut self, now: Moment) {
        self.alone(now, false);
    }

    fn until(&self) -> Option<Moment> {
        earlier(self.gatt.poll_timeout(), self.liveness.until())
    }
}

impl BloodPressure {
    fn new(start: &Start) -> Self {
        let swapped = SWAPPED.fits(&start.about);
        Self {
            gatt: GattSession::new(PLAN, start),
            departures: Departures { big_endian_pulse_and_status: swapped, user_id_always: swapped },
            liveness: Liveness::default(),
            interval: start.stream_interval.unwrap_or(INTERVAL),
            next_pressure: None,
        }
    }

    fn measurement(&mut self, now: Moment, octets: &[u8]) {
        const WHAT: &str = "blood pressure measurement";
        let measurement = match BloodPressureMeasurement::decode_departing(octets, self.departures) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable(WHAT, error, octets),
        };
        if ![measurement.systolic, measurement.diastolic, measurement.mean_arterial_pressure].into_iter().any(is_pressure) {
            return self.gatt.undecodable(WHAT, "no pressure in it: the measurement failed", octets);
        }
        for measured in self.liveness.take(now, measured(now, &measurement, octets)).into_iter().flatten() {
            self.gatt.take(measured);
        }
    }

    /// What came alone is live.
    fn alone(&mut self, now: Moment, ends: bool) {
        if let Some(measured) = self.liveness.alone(now, ends) {
            self.gatt.take(measured);
        }
    }

    fn cuff_pressure(&mut self, now: Moment, octets: &[u8]) {
        let intermediate = match BloodPressureMeasurement::decode_departing(octets, self.departures) {
            Ok(intermediate) => intermediate,
            Err(error) => return self.gatt.undecodable("intermediate cuff pressure", error, octets),
        };
        self.liveness.measuring(now, intermediate.time_stamp);
        let due = self.next_pressure.is_none_or(|next| next <= now);
        if !due || !matches!(intermediate.systolic, Number::Finite(_)) {
            return;
        }
        let pressure = value(Mdc::CUFF_PRESSURE, intermediate.systolic, intermediate.unit.ucum());
        let measured = Measured {
            kind: Kind::CuffPressure,
            values: std::iter::once(pressure).chain(pulse(&intermediate)).collect(),
            ..measured(now, &intermediate, octets)
        };
        // Where nothing more can be taken in, the value is not taken: the next one comes at once.
        if self.gatt.measured(measured).is_ok() {
            self.next_pressure = Some(now + self.interval);
        }
    }
}

fn is_pressure(number: Number) -> bool {
    matches!(number, Number::Finite(decimal) if decimal.mantissa != 0)
}

fn measured(now: Moment, m: &BloodPressureMeasurement, octets: &[u8]) -> Measured {
    let unit = m.unit.ucum();
    let pressures = [
        value(Mdc::SYSTOLIC, m.systolic, unit),
        value(Mdc::DIASTOLIC, m.diastolic, unit),
        value(Mdc::MEAN_ARTERIAL_PRESSURE, m.mean_arterial_pressure, unit),
    ];
    Measured {
        values: pressures.into_iter().chain(pulse(m)).collect(),
        device_time: m.time_stamp,
        user_slot: m.user_id.and_then(UserId::slot),
        status: m.status.into_iter().flat_map(BloodPressureStatus::terms).collect(),
        octets: octets.to_vec(),
        ..Measured::new(Kind::BloodPressure, now)
    }
}

fn pulse(m: &BloodPressureMeasurement) -> Option<Value> {
    m.pulse_rate.map(|pulse| value(Mdc::PULSE_RATE_CUFF, pulse, "/min"))
}

fn value(code: Mdc, number: Number, unit: &'static str) -> Value {
    Value { code, quantity: number.into(), unit }
}

#[cfg(test)]
mod tests;
