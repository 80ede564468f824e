//! Thermometers of the Bluetooth Health Thermometer Service (0x1809).
//!
//! Services: 0x1809 with Temperature Measurement (0x2A1C, indicated), Temperature Type (0x2A1D, read), Intermediate
//! Temperature (0x2A1E, notified while it measures, never a result) and, in some, Date Time (0x2A08, read and written).
//! Source: Bluetooth SIG, Health Thermometer Service and Profile 1.0. The site of a measurement is its own, or else the
//! device's; a temperature bears the code of its site. An intermediate temperature proves that the next result is new;
//! otherwise see [`crate::session::liveness`]. What has no temperature in it was an attempt: it is refused.

use kit_protocol::gatt::temperature::{TemperatureMeasurement, TemperatureType};
use kit_protocol::mder::Number;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Context, Kind, Measured, Special, Value};

use crate::driver::{Driver, Endpoint, Event, Link, Pairing, Security, Start, bluetooth};
use crate::session::gatt_session::{CURRENT_TIME, GattSession, OverGatt, Plan, date_time, earlier, sets_clock};
use crate::session::liveness::Liveness;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "thermometer",
    version: "1",
    links: &[Link::Ble { advertises: &[bluetooth(SERVICE)], names: &[], listens: &[MEASUREMENT, INTERMEDIATE] }],
    protocol: "Health Thermometer Service 0x1809",
    gives: "temperature, site",
    parameters: &[
        Mdc::BODY_TEMPERATURE,
        Mdc(150_392),
        Mdc(188_420),
        Mdc(188_424),
        Mdc(188_428),
        Mdc(188_432),
        Mdc(188_448),
        Mdc(188_452),
        Mdc(188_456),
    ],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[sets_clock(date_time(SERVICE)), sets_clock(CURRENT_TIME)],
    quirks: &[],
    session: |start| Box::new(Thermometer::new(&start)),
};

const SERVICE: u16 = 0x1809;
const MEASUREMENT: Endpoint = Endpoint::gatt(SERVICE, 0x2a1c);
const TYPE: Endpoint = Endpoint::gatt(SERVICE, 0x2a1d);
const INTERMEDIATE: Endpoint = Endpoint::gatt(SERVICE, 0x2a1e);

const PLAN: Plan = Plan {
    gives: "temperature measurement",
    measures: &[MEASUREMENT, INTERMEDIATE],
    reads: &[TYPE],
    subscribes: &[INTERMEDIATE, MEASUREMENT],
    clock: &[date_time(SERVICE), CURRENT_TIME],
};

struct Thermometer {
    gatt: GattSession,
    liveness: Liveness,
    /// The device's site, for measurements that do not say theirs.
    site: Option<TemperatureType>,
}

impl OverGatt for Thermometer {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: TYPE, octets, .. } => match TemperatureType::decode(octets) {
                Ok(site) => self.site = Some(site),
                Err(error) => self.gatt.undecodable("temperature type", error, octets),
            },
            Event::Received { from: MEASUREMENT, octets, .. } => self.measurement(now, octets),
            Event::Received { from: INTERMEDIATE, octets, .. } => match TemperatureMeasurement::decode(octets) {
                Ok(intermediate) => self.liveness.measuring(now, intermediate.time_stamp),
                Err(error) => self.gatt.undecodable("intermediate temperature", error, octets),
            },
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

impl Thermometer {
    fn new(start: &Start) -> Self {
        Self { gatt: GattSession::new(PLAN, start), liveness: Liveness::default(), site: None }
    }

    fn measurement(&mut self, now: Moment, octets: &[u8]) {
        const WHAT: &str = "temperature measurement";
        let measurement = match TemperatureMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable(WHAT, error, octets),
        };
        if !is_measured(measurement.temperature) {
            return self.gatt.undecodable(WHAT, "no temperature in it: the measurement failed", octets);
        }
        let measured = measured(now, &measurement, self.site, octets);
        for measured in self.liveness.take(now, measured).into_iter().flatten() {
            self.gatt.take(measured);
        }
    }

    /// What came alone is live.
    fn alone(&mut self, now: Moment, ends: bool) {
        if let Some(measured) = self.liveness.alone(now, ends) {
            self.gatt.take(measured);
        }
    }
}

/// A temperature, or one that is above or below what the device can tell.
fn is_measured(temperature: Number) -> bool {
    matches!(temperature, Number::Finite(_) | Number::Special(Special::PositiveInfinity | Special::NegativeInfinity))
}

fn measured(now: Moment, m: &TemperatureMeasurement, site: Option<TemperatureType>, octets: &[u8]) -> Measured {
    let site = m.temperature_type.or(site);
    let code = site.map_or(Mdc::BODY_TEMPERATURE, TemperatureType::code);
    let context = site.and_then(TemperatureType::term).map(|term| Context { what: "site", value: term });
    Measured {
        values: vec![Value { code, quantity: m.temperature.into(), unit: m.unit.ucum() }],
        device_time: m.time_stamp,
        context: context.into_iter().collect(),
        octets: octets.to_vec(),
        ..Measured::new(Kind::Temperature, now)
    }
}

#[cfg(test)]
mod tests;
