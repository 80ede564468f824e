//! A scale that only advertises: somebody steps on, the weight settles, is shown for some seconds, is kept on the display for a
//! while after the load is gone, and then it is dark. It says what it shows again and again, and listens to nobody.
//!
//! Its frames are those of Xiaomi's scales. Time is milliseconds since power-up.

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::mi_scale::{MiScaleData, MiScaleUnit};

use super::calendar::civil;
use super::nearest;

/// Digits of the display in a kilogram.
const DIGITS: f32 = 200.0;
/// The weight swings by so many kilograms when somebody steps on.
const SWING: f32 = 1.5;
/// And changes so often until it is steady, ms.
const CHANGE_MS: u64 = 300;

/// What stands on the scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// kg.
    pub weight: f32,
    /// Between bare feet, Ohm.
    pub impedance: u16,
}

/// How it spends its time, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Somebody steps on this often.
    pub period_ms: u64,
    /// The weight is steady after this long.
    pub settle_ms: u64,
    /// The impedance is known so long after that; `None`: it measures none.
    pub impedance_ms: Option<u64>,
    /// The load is gone so long after the weight was steady.
    pub steady_ms: u64,
    /// It is dark so long after that.
    pub dark_ms: u64,
}

/// A weighing that is finished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighing {
    /// Counts this scale's weighings; it is not on the air.
    pub number: u64,
    /// As it is advertised.
    pub data: MiScaleData,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Dark,
    Settling { since_ms: u64 },
    Steady { since_ms: u64, data: MiScaleData, told: bool },
    Gone { since_ms: u64, data: MiScaleData },
}

/// The firmware.
#[derive(Clone, Debug)]
pub struct AdvertisingScale {
    settings: Settings,
    phase: Phase,
    load: Load,
    next_ms: u64,
    /// Seconds since 2000 at power-up; `None`: the clock was never set.
    clock: Option<u64>,
    numbers: u64,
    made: Option<Weighing>,
}

impl AdvertisingScale {
    /// Power-up: the clock is not set. Weighings are counted on from `numbers`.
    #[must_use]
    pub fn start(settings: Settings, numbers: u64) -> Self {
        let (phase, load) = (Phase::Dark, Load::default());
        Self { settings, phase, load, next_ms: settings.period_ms / 4, clock: None, numbers, made: None }
    }

    /// Sets the clock: it was `seconds` after the start of 2000 at power-up; `None`: it has lost the time.
    pub fn set_clock(&mut self, seconds: Option<u64>) {
        self.clock = seconds;
    }

    /// Power goes. Gives how many weighings there were, and the one that was steady, and said to be, before all of it was known.
    #[must_use]
    pub fn stop(mut self) -> (u64, Option<Weighing>) {
        if let Phase::Steady { data, told: false, .. } = self.phase {
            self.numbers += 1;
            return (self.numbers, Some(Weighing { number: self.numbers, data }));
        }
        (self.numbers, self.made)
    }

    /// The weighing that was finished since the last call.
    pub fn take_made(&mut self) -> Option<Weighing> {
        self.made.take()
    }

    /// To be called often: takes what stands on the scale while somebody does.
    pub fn tick(&mut self, now_ms: u64, load: Load) {
        let Settings { period_ms, settle_ms, impedance_ms, steady_ms, dark_ms } = self.settings;
        self.load = load;
        match self.phase {
            Phase::Dark if now_ms >= self.next_ms => {
                self.next_ms = now_ms + period_ms;
                self.phase = Phase::Settling { since_ms: now_ms };
            }
            Phase::Settling { since_ms } if now_ms >= since_ms + settle_ms => {
                let data = MiScaleData { stabilised: true, ..self.shown(now_ms, load.weight) };
                self.phase = Phase::Steady { since_ms: now_ms, data, told: false };
            }
            Phase::Steady { since_ms, mut data, told: false } if now_ms >= since_ms + impedance_ms.unwrap_or(0) => {
                data.impedance = impedance_ms.map(|_| load.impedance);
                self.numbers += 1;
                self.made = Some(Weighing { number: self.numbers, data });
                self.phase = Phase::Steady { since_ms, data, told: true };
            }
            Phase::Steady { since_ms, data, .. } if now_ms >= since_ms + steady_ms => {
                self.phase = Phase::Gone { since_ms: now_ms, data: MiScaleData { removed: true, ..data } };
            }
            Phase::Gone { since_ms, .. } if now_ms >= since_ms + dark_ms => self.phase = Phase::Dark,
            Phase::Dark | Phase::Settling { .. } | Phase::Steady { .. } | Phase::Gone { .. } => {}
        }
    }

    /// What it advertises now; `None` while it is dark.
    #[must_use]
    pub fn advertised(&self, now_ms: u64) -> Option<MiScaleData> {
        match self.phase {
            Phase::Dark => None,
            Phase::Settling { since_ms } => {
                let spent = (now_ms - since_ms) / CHANGE_MS;
                let up = if spent.is_multiple_of(2) { SWING } else { -SWING };
                let left = u16::try_from(spent + 1).map_or(f32::MAX, f32::from);
                Some(self.shown(now_ms, (self.load.weight + up / left).max(0.0)))
            }
            Phase::Steady { data, .. } | Phase::Gone { data, .. } => Some(data),
        }
    }

    fn shown(&self, now_ms: u64, kilograms: f32) -> MiScaleData {
        let never_set = DateTime { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
        MiScaleData {
            unit: MiScaleUnit::Kilogram,
            weight: u16::try_from(nearest(kilograms * DIGITS)).unwrap_or(u16::MAX),
            stabilised: false,
            removed: false,
            impedance: None,
            time: self.clock.map_or(never_set, |at_power_up| civil(at_power_up + now_ms / 1_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings =
        Settings { period_ms: 20_000, settle_ms: 2_000, impedance_ms: Some(1_000), steady_ms: 5_000, dark_ms: 3_000 };

    #[test]
    fn a_weighing_changes_is_steady_is_removed_and_goes_dark() {
        let mut scale = AdvertisingScale::start(SETTINGS, 0);
        scale.set_clock(Some(800_000_000));
        let (mut said, mut made) = (Vec::new(), Vec::new());
        for now_ms in (0..40_000).step_by(10) {
            scale.tick(now_ms, Load { weight: 70.0, impedance: 510 });
            made.extend(scale.take_made());
            let data = scale.advertised(now_ms);
            if said.last() != Some(&data) {
                said.push(data);
            }
        }
        assert_eq!(made.iter().map(|weighing| weighing.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((made[0].data.weight, made[0].data.impedance), (14_000, Some(510)));
        let results: Vec<_> = said.iter().flatten().filter(|data| data.is_result()).map(|data| data.impedance).collect();
        assert_eq!(results, [None, Some(510), None, Some(510)]);
        let provisional = said.iter().flatten().filter(|data| !data.stabilised).count();
        assert!(provisional >= 8, "{provisional}");
        assert!(said.iter().flatten().any(|data| data.removed) && said.iter().filter(|data| data.is_none()).count() >= 2);
        assert_ne!(made[0].data.time, made[1].data.time);
    }

    #[test]
    fn a_weight_that_was_steady_when_the_power_went_was_told_without_the_impedance() {
        let mut scale = AdvertisingScale::start(SETTINGS, 4);
        for now_ms in (0..=7_500).step_by(10) {
            scale.tick(now_ms, Load { weight: 70.0, impedance: 510 });
        }
        let data = scale.advertised(7_500).unwrap();
        assert!(data.stabilised && scale.take_made().is_none());
        assert_eq!(scale.stop(), (5, Some(Weighing { number: 5, data })));
    }

    #[test]
    fn a_scale_whose_clock_was_never_set_says_no_time() {
        let mut scale = AdvertisingScale::start(Settings { impedance_ms: None, ..SETTINGS }, 7);
        for now_ms in (0..9_000).step_by(10) {
            scale.tick(now_ms, Load { weight: 70.0, impedance: 510 });
        }
        let made = scale.take_made().unwrap();
        assert_eq!((made.number, made.data.impedance, made.data.time.seconds()), (8, None, None));
    }
}
