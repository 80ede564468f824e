//! A simulated patient's lungs: flow-volume loops as a pure function of a seed, with the figures that they have.

use crate::noise::between;

/// How somebody blows, in general.
#[derive(Clone, Copy, Debug)]
pub struct Lungs {
    seed: u64,
    /// Forced vital capacity, L.
    capacity: f64,
    /// Of it, what empties slowly.
    slow: f64,
    /// Seconds in which the two parts empty.
    emptying: [f64; 2],
}

/// One manoeuvre: quiet, a breath in, a forced breath out, a breath in. All volumes and flows at BTPS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blow {
    /// Peak flow, L/s; it is reached within [`Blow::rise`], evenly.
    pub peak: f64,
    /// Seconds to peak flow.
    pub rise: f64,
    /// Seconds of breathing out.
    pub lasts: f64,
    /// Of the peak flow, what empties slowly.
    slow: f64,
    emptying: [f64; 2],
}

/// Quiet before it, s.
const QUIET: f64 = 0.5;
/// The breaths in before and after it, s.
const BREATH_IN: f64 = 1.4;
/// The pause at full lungs, s.
const HOLD: f64 = 0.1;

impl Lungs {
    /// The lungs of this seed: from a small obstructed to a large healthy pair.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let draw = |index: u64, from, to| between(seed, 0x1_0000 + index, from, to);
        let obstruction = draw(1, 0.0, 1.0);
        Self {
            seed,
            capacity: draw(0, 1.6, 6.2),
            slow: 0.15 + 0.35 * obstruction,
            emptying: [draw(2, 0.36, 0.55), 0.7 + 1.1 * obstruction],
        }
    }

    /// The manoeuvre of this number, from 0: never quite the one before.
    #[must_use]
    pub fn blow(&self, number: u64) -> Blow {
        let draw = |index: u64, from, to| between(self.seed, 0x2_0000 + number * 16 + index, from, to);
        let [fast, slow] = self.emptying.map(|seconds| seconds * draw(0, 0.97, 1.03));
        let rise = draw(1, 0.06, 0.11);
        // As much flow in each part as empties its share of the capacity.
        let wanted = self.capacity * draw(2, 0.975, 1.0);
        let (share_fast, share_slow) = (wanted * (1.0 - self.slow) / fast, wanted * self.slow / slow);
        let peak = wanted / (rise / 2.0 + wanted / (share_fast + share_slow));
        Blow { peak, rise, lasts: draw(3, 7.0, 9.0), slow: share_slow / (share_fast + share_slow), emptying: [fast, slow] }
    }
}

impl Blow {
    /// Seconds that it takes in all.
    #[must_use]
    pub fn span(&self) -> f64 {
        self.out() + self.lasts + BREATH_IN
    }

    /// When breathing out begins, s.
    fn out(&self) -> f64 {
        QUIET + BREATH_IN + HOLD
    }

    /// L/s, positive breathing out, so many seconds after its beginning.
    #[must_use]
    pub fn flow(&self, seconds: f64) -> f64 {
        let breath_in = |since: f64| {
            let height = std::f64::consts::FRAC_PI_2 * self.fvc() / BREATH_IN;
            if (0.0..BREATH_IN).contains(&since) { -height * (std::f64::consts::PI * since / BREATH_IN).sin() } else { 0.0 }
        };
        let since = seconds - self.out();
        match since {
            since if since < 0.0 => breath_in(seconds - QUIET),
            since if since < self.rise => self.peak * since / self.rise,
            since if since < self.lasts => self.emptying_flow(since - self.rise),
            since => breath_in(since - self.lasts),
        }
    }

    fn emptying_flow(&self, seconds: f64) -> f64 {
        let [fast, slow] = self.emptying.map(|emptying| (-seconds / emptying).exp());
        self.peak * ((1.0 - self.slow) * fast + self.slow * slow)
    }

    /// L that came out so many seconds after breathing out began: exact.
    #[must_use]
    pub fn exhaled(&self, seconds: f64) -> f64 {
        let since = seconds.min(self.lasts);
        if since < self.rise {
            return self.peak * since * since / (2.0 * self.rise);
        }
        let emptied = |emptying: f64| emptying * (1.0 - (-(since - self.rise) / emptying).exp());
        let [fast, slow] = self.emptying.map(emptied);
        self.peak * (self.rise / 2.0 + (1.0 - self.slow) * fast + self.slow * slow)
    }

    /// Forced vital capacity, L.
    #[must_use]
    pub fn fvc(&self) -> f64 {
        self.exhaled(self.lasts)
    }

    /// Volume of the first second, L: the tangent at the peak meets the start half the rise before it.
    #[must_use]
    pub fn fev1(&self) -> f64 {
        self.exhaled(self.rise / 2.0 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_out_is_the_integral_of_the_flow() {
        for seed in 0..20 {
            let blow = Lungs::new(seed).blow(seed % 3);
            let step = 0.000_1;
            let mut volume = 0.0;
            let mut count = 0_u32;
            while f64::from(count) * step < blow.lasts {
                volume += blow.flow(blow.out() + (f64::from(count) + 0.5) * step) * step;
                count += 1;
            }
            assert!((volume - blow.fvc()).abs() < 0.001, "seed {seed}: {volume} {}", blow.fvc());
        }
    }

    #[test]
    fn every_seed_is_a_person_and_no_two_blows_are_alike() {
        for seed in 0..300 {
            let (lungs, fvc) = (Lungs::new(seed), Lungs::new(seed).blow(0).fvc());
            let ratio = lungs.blow(0).fev1() / fvc;
            assert!((1.3..6.3).contains(&fvc) && (0.4..0.98).contains(&ratio), "seed {seed}: {fvc} {ratio}");
            assert!((1.0..14.0).contains(&lungs.blow(0).peak), "seed {seed}: {}", lungs.blow(0).peak);
            assert_ne!(lungs.blow(0), lungs.blow(1));
            assert!((lungs.blow(0).fvc() - lungs.blow(1).fvc()).abs() <= 0.16, "seed {seed}");
        }
    }
}
