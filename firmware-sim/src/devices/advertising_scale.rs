//! Scales that only advertise: one that weighs, and one that measures the body's impedance too.
//!
//! Nobody confirms what is advertised, so the truth never says of a weighing that it was delivered: one that reached the kit is
//! there once, one that did not is nobody's loss but the patient's, who weighs again.

use std::marker::PhantomData;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::mi_scale::MiScaleData;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};
use uuid::Uuid;

use super::on_air::{Board, Identity, Now, OnAir, Sample, Sent};
use super::vitals::sensed;
use crate::faults::Scenario;
use crate::firmware::advertising_scale::{AdvertisingScale, Load, Settings, Weighing};
use crate::link::gatt::{Advertisement, PairingMethod, Service, bluetooth};
use crate::noise::between;
use crate::patient::Patient;
use crate::truth::Truth;

/// What tells one of these scales from the other.
pub trait Model: Send {
    /// Its name in the table of devices and in truth files.
    const NAME: &'static str;
    /// Its model number, and the beginning of its name.
    const MODEL: &'static str;
    /// The service under which it advertises what it weighs.
    const SERVICE: u16;
    /// Distinguishes its address from that of another with the same seed.
    const ADDRESS: u8;
    /// How it spends its time.
    const SETTINGS: Settings;
    /// Its octets.
    fn octets(data: &MiScaleData) -> Vec<u8>;
}

const WEIGHS: Settings = Settings { period_ms: 25_000, settle_ms: 3_000, impedance_ms: None, steady_ms: 6_000, dark_ms: 6_000 };

/// It weighs.
#[derive(Clone, Copy, Debug)]
pub struct Weight;

impl Model for Weight {
    const NAME: &'static str = "weight-scale-broadcast";
    const MODEL: &'static str = "MI_SCALE";
    const SERVICE: u16 = 0x181d;
    const ADDRESS: u8 = 0x30;
    const SETTINGS: Settings = WEIGHS;

    fn octets(data: &MiScaleData) -> Vec<u8> {
        data.encode_weight().to_vec()
    }
}

/// It measures the impedance too.
#[derive(Clone, Copy, Debug)]
pub struct Composition;

impl Model for Composition {
    const NAME: &'static str = "body-composition-broadcast";
    const MODEL: &'static str = "MIBCS";
    const SERVICE: u16 = 0x181b;
    const ADDRESS: u8 = 0x31;
    const SETTINGS: Settings = Settings { impedance_ms: Some(3_000), ..WEIGHS };

    fn octets(data: &MiScaleData) -> Vec<u8> {
        data.encode_composition().to_vec()
    }
}

/// Such a scale with its radio.
pub type Scale<M> = OnAir<ScaleBoard<M>>;

/// Such a scale.
pub struct ScaleBoard<M> {
    settings: Settings,
    patient: Patient,
    impedance: u16,
    firmware: Option<AdvertisingScale>,
    /// Weighings before the power went, and the one in which it went.
    numbers: u64,
    cut_off: Option<Weighing>,
    model: PhantomData<M>,
}

impl<M: Model> Scale<M> {
    /// The scale of this seed, with the settings it comes with.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, truth: Truth) -> Self {
        Self::with_settings(seed, scenario, truth, M::SETTINGS)
    }

    /// The scale of this seed, with other settings.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred Ohm")]
    pub fn with_settings(seed: u64, scenario: &Scenario, truth: Truth, settings: Settings) -> Self {
        let impedance = between(seed, 0x0b1a, 420.0, 620.0) as u16;
        let patient = Patient::new(seed);
        let board = ScaleBoard { settings, patient, impedance, firmware: None, numbers: 0, cut_off: None, model: PhantomData };
        Self::with(board, seed, scenario, truth)
    }
}

impl<M: Model> Board for ScaleBoard<M> {
    fn identity(&self) -> Identity {
        let pairing = PairingMethod::None;
        Identity { device: M::NAME, driver: "weight-scale", model: M::MODEL, address: M::ADDRESS, pairing, informs: false }
    }

    fn services(&self) -> Vec<Service> {
        Vec::new()
    }

    fn advertisement(&self, now: Now) -> Option<Advertisement> {
        let data = self.firmware.as_ref()?.advertised(now.up_ms)?;
        let service = bluetooth(M::SERVICE);
        let service_data = vec![(service, M::octets(&data))];
        Some(Advertisement { services: vec![service], service_data, ..Advertisement::default() })
    }

    fn power_up(&mut self, _now: Now) {
        self.firmware = Some(AdvertisingScale::start(self.settings, self.numbers));
    }

    fn power_down(&mut self) {
        if let Some(firmware) = self.firmware.take() {
            (self.numbers, self.cut_off) = firmware.stop();
        }
    }

    fn step(&mut self, now: Now, _scenario: &Scenario) {
        let load = Load { weight: sensed(&self.patient, now.at).weight, impedance: self.impedance };
        self.firmware.iter_mut().for_each(|firmware| firmware.tick(now.up_ms, load));
    }

    fn set_clock(&mut self, at_power_up: Option<u64>) {
        self.firmware.iter_mut().for_each(|firmware| firmware.set_clock(at_power_up));
    }

    fn take_made(&mut self, moment: Moment) -> Vec<(u64, Measured)> {
        let made = self.cut_off.take().into_iter().chain(self.firmware.as_mut().and_then(AdvertisingScale::take_made));
        made.map(|weighing| (weighing.number, measured(&weighing.data, moment))).collect()
    }

    /// At the end it is as if power went.
    fn take_lost(&mut self, ends: bool) -> Vec<Sample> {
        if ends {
            self.power_down();
        }
        Vec::new()
    }

    fn connected(&mut self, _now: Now) {}

    fn disconnected(&mut self, _now: Now) {}

    fn subscribed(&mut self, _now: Now, _characteristic: Uuid, _on: bool) {}

    fn next(&mut self, _now: Now) -> Option<Sent> {
        None
    }
}

/// A weighing as a driver hands it over.
fn measured(data: &MiScaleData, made: Moment) -> Measured {
    let value = |code, decimal, unit| Value { code, quantity: Quantity::Number(decimal), unit };
    let (weight, unit) = data.amount();
    let impedance = data.impedance.map(|ohm| value(Mdc::BODY_IMPEDANCE, Decimal::whole(ohm.into()), "Ohm"));
    Measured {
        values: std::iter::once(value(Mdc::WEIGHT, weight, unit)).chain(impedance).collect(),
        device_time: Some(data.time).filter(|time| time.seconds().is_some()),
        ..Measured::new(Kind::Weight, made)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::gatt::Peripheral;

    fn advertised<M: Model>(scenario: &str, seconds: u64) -> Vec<Option<Vec<u8>>> {
        let mut scale = Scale::<M>::new(7, &Scenario::parse(scenario).unwrap(), Truth::none());
        assert!(scale.services().is_empty(), "there is nothing to connect for");
        let steps = (0..seconds * 10).map(|tenth| Moment::from_nanos(5_000_000_000) + Duration::from_millis(tenth * 100));
        let data = |advertisement: Advertisement| advertisement.service_data.into_iter().map(|(_, octets)| octets).next();
        let mut said: Vec<_> = steps.map(|now| scale.advertising(now).and_then(data)).collect();
        said.dedup();
        said
    }

    #[test]
    fn a_scale_says_what_it_weighs_and_is_dark_in_between() {
        let said = advertised::<Weight>("", 50);
        let results: Vec<_> = said.iter().flatten().map(|octets| MiScaleData::decode_weight(octets).unwrap()).collect();
        assert_eq!(results.iter().filter(|data| data.is_result()).count(), 2);
        assert!(results.iter().any(|data| data.removed) && results.iter().filter(|data| !data.stabilised).count() > 10);
        assert!(said.iter().filter(|data| data.is_none()).count() >= 3);
        let weight = Patient::new(7).vitals(20.0).weight;
        for data in results.iter().filter(|data| data.is_result()) {
            assert!((f64::from(data.weight) / 200.0 - weight).abs() < 0.01, "{data:?} of {weight} kg");
        }
    }

    #[test]
    fn a_body_composition_scale_adds_the_impedance() {
        let said = advertised::<Composition>("", 30);
        let results = said.iter().flatten().map(|octets| MiScaleData::decode_composition(octets).unwrap());
        let impedances: Vec<_> = results.filter(MiScaleData::is_result).map(|data| data.impedance.is_some()).collect();
        assert_eq!(impedances, [false, true]);
    }
}
