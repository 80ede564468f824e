//! Who is served next: deficit round robin in octets, so that urgent comes first and nobody starves (I5).

/// Octets that a weight of one earns in a round. Small against a batch, so that a lane that was idle is served at once.
pub(super) const QUANTUM_OCTETS: i64 = 1024;

/// Shares of the link for `N` queues, the preferred one first.
///
/// A queue is served while its credit is above zero and pays afterwards what it sent, since a batch's size is known only
/// once it is built. When every queue that wants something has spent its credit, all earn their quantum. An idle queue
/// keeps one quantum at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares<const N: usize> {
    quanta: [i64; N],
    credit: [i64; N],
}

impl<const N: usize> Shares<N> {
    /// Shares in proportion to `weights`, all at least 1.
    pub(super) fn new(weights: [u32; N]) -> Self {
        let quanta = weights.map(|weight| i64::from(weight.max(1)) * QUANTUM_OCTETS);
        Self { quanta, credit: quanta }
    }

    /// Which of those that want something is served next.
    pub(super) fn choose(&mut self, wants: [bool; N]) -> Option<usize> {
        if !wants.contains(&true) {
            return None;
        }
        loop {
            let served = (0..N).find(|&queue| wants[queue] && self.credit[queue] > 0);
            if served.is_some() {
                return served;
            }
            for (credit, quantum) in self.credit.iter_mut().zip(self.quanta) {
                *credit = (*credit + quantum).min(quantum);
            }
        }
    }

    /// Takes `octets` from what `queue` may send.
    pub(super) fn charge(&mut self, queue: usize, octets: usize) {
        if let Some(credit) = self.credit.get_mut(queue) {
            *credit = credit.saturating_sub(i64::try_from(octets).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets_served<const N: usize>(weights: [u32; N], sizes: [usize; N], rounds: usize) -> [usize; N] {
        let mut shares = Shares::new(weights);
        let mut served = [0; N];
        for _ in 0..rounds {
            let queue = shares.choose([true; N]).unwrap();
            shares.charge(queue, sizes[queue]);
            served[queue] += sizes[queue];
        }
        served
    }

    #[test]
    fn i5_octets_follow_the_weights_whatever_the_batches_size() {
        for sizes in [[100, 100, 100, 100], [65_536, 300, 65_536, 300], [300, 16_000, 65_536, 12_000]] {
            let served = octets_served([8, 4, 2, 1], sizes, 40_000);
            let whole: usize = served.iter().sum();
            for (octets, weight) in served.iter().zip([8.0, 4.0, 2.0, 1.0]) {
                #[expect(clippy::cast_precision_loss, reason = "a ratio in a test")]
                let share = *octets as f64 / whole as f64;
                assert!((share - weight / 15.0).abs() < 0.02, "{served:?}");
            }
        }
    }

    #[test]
    fn i5_urgent_that_was_idle_is_served_at_once() {
        let mut shares = Shares::new([8, 4, 2, 1]);
        for _ in 0..1000 {
            let queue = shares.choose([false, true, true, true]).unwrap();
            shares.charge(queue, 65_536);
        }
        assert_eq!(shares.choose([true; 4]), Some(0));
    }

    #[test]
    fn an_idle_queue_saves_no_more_than_one_quantum() {
        let mut shares = Shares::new([3, 1]);
        for _ in 0..1000 {
            let queue = shares.choose([false, true]).unwrap();
            shares.charge(queue, 1024);
        }
        let mut first = 0;
        for _ in 0..8 {
            let queue = shares.choose([true, true]).unwrap();
            shares.charge(queue, 1024);
            first += usize::from(queue == 0);
        }
        assert!(first < 8, "the other one is served too");
        assert_eq!(shares.choose([false, false]), None);
    }
}
