//! Numbers that look random and are a pure function of a seed and a place: the same run, sample for sample, every time.

/// A well-mixed 64-bit number of `seed` and `index`. Source: splitmix64 (Steele, Lea, Flood 2014).
#[must_use]
pub fn mixed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Between 0 (included) and 1 (excluded).
#[must_use]
pub fn unit(seed: u64, index: u64) -> f64 {
    let top = u32::try_from(mixed(seed, index) >> 32).unwrap_or(0);
    f64::from(top) / (f64::from(u32::MAX) + 1.0)
}

/// Between `from` (included) and `to` (excluded).
#[must_use]
pub fn between(seed: u64, index: u64, from: f64, to: f64) -> f64 {
    from + unit(seed, index) * (to - from)
}

/// A whole number from `-most` to `most`, more often near zero: the sum of two uniform ones.
#[must_use]
pub fn step(seed: u64, index: u64, most: u32) -> i32 {
    let wide = i64::from(most) + 1;
    let bits = mixed(seed, index);
    let (one, other) = (i64::try_from(bits >> 33).unwrap_or(0), i64::try_from(bits & 0x7fff_ffff).unwrap_or(0));
    i32::try_from((one % wide) - (other % wide)).unwrap_or(0)
}

/// The nearest whole number; what does not fit is the nearest that does.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is what is wanted")]
pub fn nearest(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_bounded_and_the_same_every_time() {
        let run: Vec<i32> = (0..10_000).map(|index| step(7, index, 3)).collect();
        assert!(run.iter().all(|value| (-3..=3).contains(value)));
        assert!(run.contains(&-3) && run.contains(&3));
        assert_eq!(run, (0..10_000).map(|index| step(7, index, 3)).collect::<Vec<_>>());
        assert_ne!(run, (0..10_000).map(|index| step(8, index, 3)).collect::<Vec<_>>());
    }

    #[test]
    fn uniform_numbers_fill_their_range() {
        let (low, high) = (0..10_000).map(|index| unit(1, index)).fold((1.0_f64, 0.0_f64), |(l, h), u| (l.min(u), h.max(u)));
        assert!((0.0..0.01).contains(&low) && (0.99..1.0).contains(&high));
    }
}
