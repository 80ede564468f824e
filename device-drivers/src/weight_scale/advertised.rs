//! Weights that are advertised again and again, each a measurement once.

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::mi_scale::MiScaleData;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Kind, Measured, Quantity, Value};

use crate::session::liveness::Liveness;

/// A weight waits this long for the impedance of the same measurement.
const IMPEDANCE_MAX: Duration = Duration::from_secs(10);
/// An impedance of so many Ohm and more, or of none, was not measured: bare feet have some hundreds.
const IMPEDANCE_ABSURD: u16 = 3_000;
/// Nobody steps off, waits for the display and is weighed again in less: equal weights of a scale without a clock that come
/// closer are one.
const APART: Duration = Duration::from_secs(3);

/// The measurement that is being advertised.
#[derive(Debug, Default)]
pub(super) struct Advertised {
    last: Option<Last>,
    /// The last octets that were no weight.
    undecodable: Vec<u8>,
}

/// The last measurement.
#[derive(Debug)]
struct Last {
    data: MiScaleData,
    /// As it was when it was first heard: what is heard after it proves nothing about it.
    measured: Measured,
    /// Until when it waits for its impedance; `None` where it was handed over.
    waits: Option<Moment>,
    /// When it was last heard, and that something else was heard since.
    heard: Moment,
    broken: bool,
}

impl Advertised {
    /// Whether these undecodable octets are not those of the last time.
    pub(super) fn is_news(&mut self, octets: &[u8]) -> bool {
        let news = self.undecodable != octets;
        self.undecodable = octets.to_vec();
        news
    }

    /// Takes in what was advertised and gives what is finished by it.
    pub(super) fn take(
        &mut self,
        now: Moment,
        data: &MiScaleData,
        may_add_impedance: bool,
        liveness: &mut Liveness,
    ) -> [Option<Measured>; 2] {
        if !data.is_result() {
            // The load changes, or is gone: no impedance comes any more.
            let before = self.due(now, true);
            self.last.iter_mut().for_each(|last| last.broken = true);
            if !data.stabilised {
                liveness.measuring(now, time(data));
            }
            return [before, None];
        }
        let impedance = data.impedance.filter(|ohm| *ohm != 0 && *ohm < IMPEDANCE_ABSURD);
        let data = MiScaleData { impedance, ..*data };
        if let Some(last) = self.last.as_mut().filter(|last| last.is_still(now, &data)) {
            (last.heard, last.broken) = (now, false);
            if last.waits.is_some() && impedance.is_some() {
                last.data = data;
                last.measured.values = values(&data);
                return [self.due(now, true), None];
            }
            return [None, None];
        }
        let before = self.due(now, true);
        let measured = liveness.take_repeated(now, measured(now, &data));
        let waits = (may_add_impedance && impedance.is_none()).then(|| now + IMPEDANCE_MAX);
        let at_once = waits.is_none().then(|| measured.clone());
        self.last = Some(Last { data, measured, waits, heard: now, broken: false });
        [before, at_once]
    }

    /// What has waited long enough.
    pub(super) fn due(&mut self, now: Moment, ends: bool) -> Option<Measured> {
        let last = self.last.as_mut()?;
        last.waits.take_if(|until| ends || *until <= now)?;
        Some(last.measured.clone())
    }

    pub(super) fn until(&self) -> Option<Moment> {
        self.last.as_ref().and_then(|last| last.waits)
    }
}

impl Last {
    /// Whether that is this one, advertised again.
    fn is_still(&self, now: Moment, data: &MiScaleData) -> bool {
        let equal = (self.data.time, self.data.weight, self.data.unit) == (data.time, data.weight, data.unit);
        let another = time(data).is_none() && self.broken && now.since(self.heard) >= APART;
        equal && !another
    }
}

/// The scale's time, where its clock was set.
fn time(data: &MiScaleData) -> Option<DateTime> {
    Some(data.time).filter(|time| time.seconds().is_some())
}

fn values(data: &MiScaleData) -> Vec<Value> {
    let (weight, unit) = data.amount();
    let value = |code, decimal, unit| Value { code, quantity: Quantity::Number(decimal), unit };
    let impedance = data.impedance.map(|ohm| value(Mdc::BODY_IMPEDANCE, Decimal::whole(ohm.into()), "Ohm"));
    std::iter::once(value(Mdc::WEIGHT, weight, unit)).chain(impedance).collect()
}

fn measured(now: Moment, data: &MiScaleData) -> Measured {
    Measured {
        values: values(data),
        device_time: time(data),
        // The impedance comes later, or never: it makes no other measurement of it.
        octets: data.encode_weight().to_vec(),
        ..Measured::new(Kind::Weight, now)
    }
}
