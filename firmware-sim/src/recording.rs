//! A real ECG, recorded from a person, played without end: `data/README.md` names its source and licence.

use crate::patient::Leads;

static ROWS: &[u8] = include_bytes!("../data/ecg_8x5000_500hz.i16le");

/// Octets of a row: eight 16-bit integers.
const ROW_OCTETS: usize = 16;
/// Rows a second.
const RATE_HZ: f64 = 500.0;
/// One digit, mV.
const MILLIVOLTS: f64 = 0.001_25;
/// Played from the start up to here, then from [`SEAM_FIRST`] up to here again and again: where the recording meets itself
/// with the least jump.
const SEAM_LAST: u64 = 4064;
/// See [`SEAM_LAST`].
const SEAM_FIRST: u64 = 119;

/// The leads I, II, V1–V6 at `seconds`, in mV; between two rows, on the line from one to the other.
#[must_use]
pub fn ecg(seconds: f64) -> Leads {
    let position = (seconds * RATE_HZ).max(0.0);
    let whole = crate::noise::nearest(position.floor());
    let part = position - position.floor();
    let index = u64::try_from(whole).unwrap_or(0);
    let (this, next) = (row(index), row(index.saturating_add(1)));
    std::array::from_fn(|lead| (f64::from(this[lead]) * (1.0 - part) + f64::from(next[lead]) * part) * MILLIVOLTS)
}

/// The recorded integers of the row that is played as number `index`.
#[must_use]
pub fn row(index: u64) -> [i16; 8] {
    let index = if index < SEAM_LAST { index } else { SEAM_FIRST + (index - SEAM_LAST) % (SEAM_LAST - SEAM_FIRST) };
    let start = usize::try_from(index).unwrap_or(0) * ROW_OCTETS;
    std::array::from_fn(|lead| match ROWS.get(start + lead * 2..start + lead * 2 + 2) {
        Some(&[low, high]) => i16::from_le_bytes([low, high]),
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_whole() {
        assert_eq!(ROWS.len(), 5000 * ROW_OCTETS);
    }

    #[test]
    fn it_meets_itself_without_a_jump() {
        let largest = |from: u64, to: u64| {
            (from..to).flat_map(|n| (0..8).map(move |lead| (row(n + 1)[lead] - row(n)[lead]).abs())).max().unwrap()
        };
        assert!(largest(SEAM_LAST - 2, SEAM_LAST + 2) < 40, "{}", largest(SEAM_LAST - 2, SEAM_LAST + 2));
        assert_eq!(row(SEAM_LAST), row(SEAM_FIRST));
        assert_eq!(row(SEAM_LAST + (SEAM_LAST - SEAM_FIRST) * 1000 + 7), row(SEAM_FIRST + 7));
    }

    #[test]
    fn its_leads_are_those_of_a_heart() {
        let range = |lead: usize| {
            let values: Vec<i16> = (0..SEAM_LAST).map(|n| row(n)[lead]).collect();
            (*values.iter().min().unwrap(), *values.iter().max().unwrap())
        };
        assert_eq!(range(1), (-96, 910), "II upright");
        assert_eq!(range(2), (-895, 149), "V1 mostly negative");
    }
}
