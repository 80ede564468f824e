//! How far several manoeuvres agree.

/// A grade, of FEV1 or of FVC. Source: ATS/ERS 2019, table 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Three acceptable or more, the two largest within 0.150 L.
    A,
    /// Two acceptable, within 0.150 L.
    B,
    /// Two or more, within 0.200 L.
    C,
    /// Two or more, within 0.250 L.
    D,
    /// Two or more, further apart; or one.
    E,
    /// None acceptable, one usable or more.
    U,
    /// None acceptable, none usable.
    F,
}

/// How far the two largest may be apart for A and B, for C, for D, in L: over 6 years of age, and up to 6.
const APART: [(f64, f64); 3] = [(0.150, 0.100), (0.200, 0.150), (0.250, 0.200)];
/// Up to 6 years of age this much of the largest counts instead, where it is more.
const APART_FRACTION: f64 = 0.10;
/// What rounding may add to a limit that is meant inclusively.
const ROUNDING: f64 = 1.0e-9;

/// The repeatability that the standard asks for, L, of values up to `largest`.
pub(super) fn repeatability(largest: f64, young: bool) -> f64 {
    limit(APART[0], largest, young)
}

fn limit((older, younger): (f64, f64), largest: f64, young: bool) -> f64 {
    ROUNDING + if young { younger.max(APART_FRACTION * largest) } else { older }
}

impl Grade {
    /// Of acceptable values (in any order) and the number of usable ones.
    pub(super) fn of(mut acceptable: Vec<f64>, usable: usize, young: bool) -> Self {
        acceptable.sort_by(|a, b| b.total_cmp(a));
        match (acceptable.as_slice(), usable) {
            ([], 0) => Self::F,
            ([], _) => Self::U,
            ([_], _) => Self::E,
            ([largest, second, rest @ ..], _) => {
                let within = APART.map(|apart| largest - second <= limit(apart, *largest, young));
                match within {
                    [true, ..] if rest.is_empty() => Self::B,
                    [true, ..] => Self::A,
                    [_, true, _] => Self::C,
                    [_, _, true] => Self::D,
                    _ => Self::E,
                }
            }
        }
    }

    /// As a status of FEV1.
    #[must_use]
    pub const fn fev1_term(self) -> &'static str {
        match self {
            Self::A => "grade-fev1-a",
            Self::B => "grade-fev1-b",
            Self::C => "grade-fev1-c",
            Self::D => "grade-fev1-d",
            Self::E => "grade-fev1-e",
            Self::U => "grade-fev1-u",
            Self::F => "grade-fev1-f",
        }
    }

    /// As a status of FVC.
    #[must_use]
    pub const fn fvc_term(self) -> &'static str {
        match self {
            Self::A => "grade-fvc-a",
            Self::B => "grade-fvc-b",
            Self::C => "grade-fvc-c",
            Self::D => "grade-fvc-d",
            Self::E => "grade-fvc-e",
            Self::U => "grade-fvc-u",
            Self::F => "grade-fvc-f",
        }
    }
}
