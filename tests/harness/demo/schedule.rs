//! What is done to the kit, and when.

use std::time::Duration;

/// A cut lasts no longer.
const CUT_MAX: Duration = Duration::from_secs(10);
/// A killed agent is started again after so long.
pub(super) const DOWN: Duration = Duration::from_secs(1);

/// One thing that is done to the kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The network goes.
    Cut,
    /// The network is back.
    Mend,
    /// SIGKILL of the agent.
    Kill,
    /// The agent is started again.
    Start,
}

/// Everything that is done within `duration`, in order: one cut at a third and one kill at two thirds of it, and with more of
/// either the same in each share of the time.
pub(super) fn schedule(duration: Duration, cuts: u32, kills: u32) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    for cut in 0..cuts {
        let share = duration / cuts;
        let at = share * cut + share / 3;
        acts.extend([(at, Act::Cut), (at + CUT_MAX.min(share / 6), Act::Mend)]);
    }
    for kill in 0..kills {
        let share = duration / kills;
        let at = share * kill + share * 2 / 3;
        acts.extend([(at, Act::Kill), (at + DOWN.min(share / 6), Act::Start)]);
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: u64) -> Duration {
        Duration::from_secs(text)
    }

    #[test]
    fn one_minute_has_a_cut_of_ten_seconds_at_a_third_and_a_kill_at_two_thirds() {
        assert_eq!(
            schedule(seconds(60), 1, 1),
            [(seconds(20), Act::Cut), (seconds(30), Act::Mend), (seconds(40), Act::Kill), (seconds(41), Act::Start)]
        );
    }

    #[test]
    fn whatever_is_broken_is_mended_before_it_is_broken_again_and_before_the_end() {
        for (cuts, kills) in [(0, 0), (1, 0), (0, 1), (3, 2), (10, 10), (100, 100)] {
            let acts = schedule(seconds(60), cuts, kills);
            let (mut cut, mut down) = (false, false);
            for (at, act) in &acts {
                assert!(*at < seconds(60));
                let (state, expected) = match act {
                    Act::Cut => (&mut cut, false),
                    Act::Mend => (&mut cut, true),
                    Act::Kill => (&mut down, false),
                    Act::Start => (&mut down, true),
                };
                assert_eq!(*state, expected, "{cuts} {kills} {at:?} {act:?}");
                *state = !expected;
            }
            assert!(!cut && !down);
            assert_eq!(acts.len(), usize::try_from(2 * (cuts + kills)).unwrap());
        }
    }
}
