//! Units: the MDC codes that devices send, and UCUM, which is what is stored. Nothing is converted here.

use crate::nomenclature::Mdc;

/// One unit under both its names.
///
/// Shape: MDC (partition 4) · UCUM. Source: ISO/IEEE 11073-10101 units of measurement; L/s, uV and kJ by its prefix rule (a
/// decimal prefix adds to the base unit's term: k 3, h 2, c 17, m 18, µ 19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// MDC.
    pub code: Mdc,
    /// UCUM, case-sensitive.
    pub ucum: &'static str,
}

const fn unit(code: u32, ucum: &'static str) -> Unit {
    Unit { code: Mdc(code), ucum }
}

/// Every unit that we know. Where two codes have one UCUM unit, the usual one stands first.
pub const UNITS: &[Unit] = &[
    unit(262_656, "1"),
    unit(262_688, "%"),
    unit(264_864, "/min"), // beats
    unit(264_928, "/min"), // breaths
    unit(266_016, "mm[Hg]"),
    unit(265_987, "kPa"),
    unit(265_986, "hPa"),
    unit(268_192, "Cel"),
    unit(266_560, "[degF]"),
    unit(263_872, "g"),
    unit(263_875, "kg"),
    unit(263_890, "mg"),
    unit(263_904, "[lb_av]"),
    unit(264_096, "kg/m2"),
    unit(263_441, "cm"),
    unit(263_424, "m"),
    unit(263_520, "[in_i]"),
    unit(266_115, "kJ"),
    unit(266_432, "Ohm"),
    unit(264_274, "mg/dL"),
    unit(266_866, "mmol/L"),
    unit(263_744, "L"),
    unit(263_762, "mL"),
    unit(265_184, "L/s"),
    unit(265_201, "cL/s"),
    unit(265_216, "L/min"),
    unit(266_418, "mV"),
    unit(266_419, "uV"),
    unit(264_320, "s"),
    unit(264_338, "ms"),
];

/// The unit of an MDC code; `None` for one newer than we are.
#[must_use]
pub fn by_code(code: Mdc) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.code == code)
}

/// The unit of a UCUM string.
#[must_use]
pub fn by_ucum(ucum: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.ucum == ucum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_once_and_in_the_partition_of_units() {
        for (at, unit) in UNITS.iter().enumerate() {
            assert_eq!(unit.code.0 >> 16, 4, "{}", unit.ucum);
            assert!(UNITS[..at].iter().all(|before| before.code != unit.code), "{}", unit.ucum);
            assert_eq!(by_code(unit.code).map(|found| found.ucum), Some(unit.ucum));
        }
    }

    #[test]
    fn prefixes_follow_the_rule_of_10101() {
        let code = |ucum: &str| by_ucum(ucum).unwrap().code.0;
        assert_eq!(code("cL/s"), code("L/s") + 17, "FHIR's own spirometry example sends PEF in cL/s");
        assert_eq!(code("uV"), code("mV") + 1);
        assert_eq!(code("ms"), code("s") + 18);
        assert_eq!(code("kPa"), code("hPa") + 1);
    }

    #[test]
    fn ucum_is_case_sensitive_and_not_the_everyday_spelling() {
        for wrong in ["mmHg", "°C", "C", "bpm", "BPM", "l", "MG/DL", "µV", "lb"] {
            assert_eq!(by_ucum(wrong), None, "{wrong}");
        }
        assert_eq!(by_code(Mdc(264_320 + 1)), None);
    }
}
