//! Weights that are advertised again and again, each a measurement once.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::mi_scale::MiScaleData;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};

/// A weight waits this long for the impedance of the same measurement.
const IMPEDANCE_MAX: Duration = Duration::from_secs(10);
/// An impedance of so many Ohm and more, or of none, was not measured: bare feet have some hundreds.
const IMPEDANCE_ABSURD: u16 = 3_000;

/// The measurement that is being advertised.
#[derive(Debug, Default)]
pub(super) struct Advertised {
    /// The last one, and until when it waits for its impedance; `None` where it was handed over.
    last: Option<(MiScaleData, Moment, Option<Moment>)>,
    /// The last octets that were no weight.
    undecodable: Vec<u8>,
}

impl Advertised {
    /// Whether these undecodable octets are not those of the last time.
    pub(super) fn is_news(&mut self, octets: &[u8]) -> bool {
        let news = self.undecodable != octets;
        self.undecodable = octets.to_vec();
        news
    }

    /// Takes in what was advertised and gives what is finished by it.
    pub(super) fn take(&mut self, now: Moment, data: &MiScaleData, may_add_impedance: bool) -> [Option<Measured>; 2] {
        if !data.is_result() {
            // The load changes, or is gone: no impedance comes any more.
            return [self.due(now, true), None];
        }
        let impedance = data.impedance.filter(|ohm| *ohm != 0 && *ohm < IMPEDANCE_ABSURD);
        let data = MiScaleData { impedance, ..*data };
        if let Some((last, _, waits)) = &mut self.last
            && same(last, &data)
        {
            if waits.is_some() && impedance.is_some() {
                *last = data;
                return [self.due(now, true), None];
            }
            return [None, None];
        }
        let before = self.due(now, true);
        let waits = (may_add_impedance && impedance.is_none()).then(|| now + IMPEDANCE_MAX);
        self.last = Some((data, now, waits));
        [before, waits.is_none().then(|| measured(now, &data))]
    }

    /// What has waited long enough.
    pub(super) fn due(&mut self, now: Moment, ends: bool) -> Option<Measured> {
        let (data, at, waits) = self.last.as_mut()?;
        waits.take_if(|until| ends || *until <= now)?;
        Some(measured(*at, data))
    }

    pub(super) fn until(&self) -> Option<Moment> {
        self.last.as_ref().and_then(|(.., waits)| *waits)
    }
}

fn same(one: &MiScaleData, other: &MiScaleData) -> bool {
    (one.time, one.weight, one.unit) == (other.time, other.weight, other.unit)
}

fn measured(now: Moment, data: &MiScaleData) -> Measured {
    let (weight, unit) = data.amount();
    let value = |code, decimal, unit| Value { code, quantity: Quantity::Number(decimal), unit };
    let impedance = data.impedance.map(|ohm| value(Mdc::BODY_IMPEDANCE, Decimal::whole(ohm.into()), "Ohm"));
    Measured {
        values: std::iter::once(value(Mdc::WEIGHT, weight, unit)).chain(impedance).collect(),
        device_time: Some(data.time),
        // The impedance comes later, or never: it makes no other measurement of it.
        octets: data.encode_weight().to_vec(),
        ..Measured::new(Kind::Weight, now)
    }
}
