//! Scales of the Bluetooth Weight Scale (0x181D) and Body Composition (0x181B) Services, and scales that only advertise.
//!
//! Services: 0x181D with Weight Scale Feature (0x2A9E, read) and Weight Measurement (0x2A9D, indicated); 0x181B with Body
//! Composition Feature (0x2A9B, read) and Body Composition Measurement (0x2A9C, indicated, also in two packets); Date Time
//! (0x2A08) in some. Sources: Bluetooth SIG, Weight Scale Service and Profile 1.0, Body Composition Service and Profile 1.0.
//! What one digit of a weight is worth, the feature says; a weight and a body composition of one time and user are one
//! reading. Where the device has both services a half waits for its other half for some seconds. The octets of the weight
//! alone make a reading the same one, so that it never doubles where its other half was lost.
//! A mass of 0xFFFF is a failed measurement: it is refused. Whether a measurement is new: see [`crate::session::liveness`].
//!
//! Xiaomi's scales advertise what they weigh as data of these services, again and again until the load is gone. What is
//! steady and not removed is a measurement, its repetitions are none. Where an impedance may follow it waits for that. Only a
//! weight that was seen to change before is new. The scale's time tells two weighings apart; where its clock was never set,
//! equal weights are two if the load was seen to go or change between them for some seconds.
//!
//! Known departures are [`Driver::quirks`].

mod advertised;
mod reading;

use std::time::Duration;

use kit_protocol::gatt::blood_pressure::UserId;
use kit_protocol::gatt::body_composition::{BodyCompositionFeature, BodyCompositionMeasurement};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::mi_scale::MiScaleData;
use kit_protocol::gatt::weight::{UNSUCCESSFUL, WeightMeasurement, WeightScaleFeature};
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::Measured;

use self::advertised::Advertised;
use self::reading::Halves;
use crate::driver::{Driver, Endpoint, Event, Link, Pairing, Quirk, Security, Start, bluetooth};
use crate::session::gatt_session::{CURRENT_TIME, GattSession, OverGatt, Plan, date_time, earlier, sets_clock};
use crate::session::liveness::Liveness;

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "weight-scale",
    version: "1",
    links: &[Link::Ble {
        advertises: &[bluetooth(WEIGHT_SCALE), bluetooth(BODY_COMPOSITION)],
        names: &[],
        listens: &[WEIGHT, COMPOSITION, ADVERTISED_WEIGHT, ADVERTISED_COMPOSITION],
    }],
    protocol: "Weight Scale Service 0x181D, Body Composition Service 0x181B",
    gives: "weight, height, BMI, body composition, impedance",
    parameters: &[
        Mdc::WEIGHT,
        Mdc::HEIGHT,
        Mdc::BMI,
        Mdc::BODY_FAT,
        Mdc::BASAL_METABOLISM,
        Mdc::MUSCLE,
        Mdc::MUSCLE_MASS,
        Mdc::FAT_FREE_MASS,
        Mdc::SOFT_LEAN_MASS,
        Mdc::BODY_WATER,
        Mdc::BODY_IMPEDANCE,
    ],
    security: Security::Unauthenticated,
    pairing: Pairing::Bond,
    memory: true,
    allowed: &[sets_clock(date_time(WEIGHT_SCALE)), sets_clock(CURRENT_TIME)],
    quirks: &[BELOW_ZERO],
    session: |start| Box::new(WeightScale::new(&start)),
};

const WEIGHT_SCALE: u16 = 0x181d;
const BODY_COMPOSITION: u16 = 0x181b;
const WEIGHT: Endpoint = Endpoint::gatt(WEIGHT_SCALE, 0x2a9d);
const WEIGHT_FEATURE: Endpoint = Endpoint::gatt(WEIGHT_SCALE, 0x2a9e);
const COMPOSITION: Endpoint = Endpoint::gatt(BODY_COMPOSITION, 0x2a9c);
const COMPOSITION_FEATURE: Endpoint = Endpoint::gatt(BODY_COMPOSITION, 0x2a9b);
const ADVERTISED_WEIGHT: Endpoint = Endpoint::advertised(bluetooth(WEIGHT_SCALE));
const ADVERTISED_COMPOSITION: Endpoint = Endpoint::advertised(bluetooth(BODY_COMPOSITION));

const PLAN: Plan = Plan {
    gives: "weight measurement",
    measures: &[WEIGHT, COMPOSITION, ADVERTISED_WEIGHT, ADVERTISED_COMPOSITION],
    reads: &[WEIGHT_FEATURE, COMPOSITION_FEATURE],
    subscribes: &[WEIGHT, COMPOSITION],
    clock: &[date_time(WEIGHT_SCALE), CURRENT_TIME],
};

const BELOW_ZERO: Quirk = Quirk {
    name: "below-zero-flag",
    manufacturer: "Detecto",
    model: "",
    firmware: "",
    what: "flag bit 4 means below zero: the weight is no weight; there is no Weight Scale Feature",
    vector: ("100000", "class V, Detecto 7550 owner's manual, rev E, Bluetooth interface"),
};
/// The flag of [`BELOW_ZERO`].
const BELOW_ZERO_FLAG: u8 = 1 << 4;

/// The second packet of a body composition comes within this.
const PACKET_MAX: Duration = Duration::from_secs(5);

struct WeightScale {
    gatt: GattSession,
    liveness: Liveness,
    below_zero_flag: bool,
    weight_feature: WeightScaleFeature,
    composition_feature: BodyCompositionFeature,
    halves: Halves,
    /// The first packet of a body composition of two, with its octets.
    packet: Option<(BodyCompositionMeasurement, Vec<u8>, Moment)>,
    advertised: Advertised,
}

impl OverGatt for WeightScale {
    fn gatt(&mut self) -> &mut GattSession {
        &mut self.gatt
    }

    fn happened(&mut self, now: Moment, event: Event<'_>) {
        match event {
            Event::Received { from: WEIGHT_FEATURE, octets, .. } => match WeightScaleFeature::decode(octets) {
                Ok(feature) => self.weight_feature = feature,
                Err(error) => self.gatt.undecodable("weight scale feature", error, octets),
            },
            Event::Received { from: COMPOSITION_FEATURE, octets, .. } => match BodyCompositionFeature::decode(octets) {
                Ok(feature) => self.composition_feature = feature,
                Err(error) => self.gatt.undecodable("body composition feature", error, octets),
            },
            Event::Received { from: WEIGHT, octets, .. } => self.weight(now, octets),
            Event::Received { from: COMPOSITION, octets, .. } => self.composition(now, octets),
            Event::Received { from: ADVERTISED_WEIGHT, octets, .. } => {
                self.advertised(now, octets, MiScaleData::decode_weight, false);
            }
            Event::Received { from: ADVERTISED_COMPOSITION, octets, .. } => {
                self.advertised(now, octets, MiScaleData::decode_composition, true);
            }
            Event::Down { .. } => self.due(now, true),
            _ => {}
        }
    }

    fn time_came(&mut self, now: Moment) {
        self.due(now, false);
    }

    fn until(&self) -> Option<Moment> {
        let packet = self.packet.as_ref().map(|(.., until)| *until);
        let waiting = earlier(earlier(self.halves.until(), packet), self.advertised.until());
        earlier(self.gatt.poll_timeout(), earlier(self.liveness.until(), waiting))
    }
}

impl WeightScale {
    fn new(start: &Start) -> Self {
        Self {
            gatt: GattSession::new(PLAN, start),
            liveness: Liveness::default(),
            below_zero_flag: BELOW_ZERO.fits(&start.about),
            weight_feature: WeightScaleFeature::default(),
            composition_feature: BodyCompositionFeature::default(),
            halves: Halves::default(),
            packet: None,
            advertised: Advertised::default(),
        }
    }

    fn weight(&mut self, now: Moment, octets: &[u8]) {
        const WHAT: &str = "weight measurement";
        let measurement = match WeightMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable(WHAT, error, octets),
        };
        if measurement.weight == UNSUCCESSFUL {
            return self.gatt.undecodable(WHAT, "no weight in it: the measurement failed", octets);
        }
        if self.below_zero_flag && measurement.reserved_flags & BELOW_ZERO_FLAG != 0 {
            return self.gatt.undecodable(WHAT, "the weight is below zero", octets);
        }
        let half = reading::of_weight(now, &measurement, self.weight_feature, octets);
        self.half(now, half);
    }

    fn composition(&mut self, now: Moment, octets: &[u8]) {
        const WHAT: &str = "body composition measurement";
        let measurement = match BodyCompositionMeasurement::decode(octets) {
            Ok(measurement) => measurement,
            Err(error) => return self.gatt.undecodable(WHAT, error, octets),
        };
        match self.packet.take() {
            Some((first, mut whole, _)) if measurement.multiple_packets => {
                whole.extend(octets);
                return self.whole_composition(now, &first.joined(measurement), &whole);
            }
            Some((first, whole, _)) => self.whole_composition(now, &first, &whole),
            None => {}
        }
        if measurement.multiple_packets {
            self.packet = Some((measurement, octets.to_vec(), now + PACKET_MAX));
        } else {
            self.whole_composition(now, &measurement, octets);
        }
    }

    fn whole_composition(&mut self, now: Moment, measurement: &BodyCompositionMeasurement, octets: &[u8]) {
        let half = reading::of_composition(now, measurement, self.composition_feature, octets);
        if half.measured.values.is_empty() {
            return self.gatt.undecodable("body composition measurement", "no value in it: the measurement failed", octets);
        }
        self.half(now, half);
    }

    /// A half, which is whole where the device has only one of the services.
    fn half(&mut self, now: Moment, half: Half) {
        if !(self.gatt.subscribed(WEIGHT) && self.gatt.subscribed(COMPOSITION)) {
            return self.take(now, half.measured);
        }
        for whole in self.halves.take(now, half) {
            self.take(now, whole);
        }
    }

    fn advertised(&mut self, now: Moment, octets: &[u8], decode: Decode, may_add_impedance: bool) {
        let data = match decode(octets) {
            Ok(data) => data,
            // It is advertised again and again: once is enough.
            Err(error) if self.advertised.is_news(octets) => {
                return self.gatt.undecodable("advertised weight", error, octets);
            }
            Err(_) => return,
        };
        for measured in self.advertised.take(now, &data, may_add_impedance, &mut self.liveness).into_iter().flatten() {
            self.gatt.take(measured);
        }
    }

    /// What has waited long enough.
    fn due(&mut self, now: Moment, ends: bool) {
        if let Some((first, whole, _)) = self.packet.take_if(|(.., until)| ends || *until <= now) {
            self.whole_composition(now, &first, &whole);
        }
        for whole in self.halves.due(now, ends) {
            self.take(now, whole);
        }
        if let Some(measured) = self.advertised.due(now, ends) {
            self.gatt.take(measured);
        }
        if let Some(measured) = self.liveness.alone(now, ends) {
            self.gatt.take(measured);
        }
    }

    fn take(&mut self, now: Moment, measured: Measured) {
        for measured in self.liveness.take(now, measured).into_iter().flatten() {
            self.gatt.take(measured);
        }
    }
}

type Decode = fn(&[u8]) -> Result<MiScaleData, kit_protocol::reader::DecodeError>;

/// A weight, or a body composition.
#[derive(Debug)]
struct Half {
    is_weight: bool,
    time_stamp: Option<DateTime>,
    user_id: Option<UserId>,
    measured: Measured,
}

#[cfg(test)]
mod tests;
