//! Codes of what is measured: MDC, with LOINC and UCUM beside them, as one data table.
//!
//! Source of the MDC codes: ISO/IEEE 11073-10101, as in the code table of Lamprey Networks' Health@Home and, for spirometry
//! and predicted values, the German survey against MDC release 2024-12-05 (medizininformatik-initiative); the two agree
//! wherever both list a code; invasive pressures, cuff pressure, temperature and impedance as in Mindray's table of HL7
//! interface codes (IHE PCD). LOINC: HL7 R4 vital signs, US Core, HL7 PHD IG 2.0.0, Automate-Medical/pft-ig 685caeb.

/// A code of IEEE 11073-10101 in its 32-bit form: partition × 65536 + term. One newer than we are is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mdc(pub u32);

impl Mdc {
    /// SpO2.
    pub const SPO2: Self = Self(150_456);
    /// Pulse rate of an oximeter.
    pub const PULSE_RATE: Self = Self(149_530);
    /// Pulse rate of a cuff.
    pub const PULSE_RATE_CUFF: Self = Self(149_546);
    /// Perfusion index (pulse amplitude).
    pub const PERFUSION_INDEX: Self = Self(150_448);
    /// Plethysmogram.
    pub const PLETH: Self = Self(150_452);
    /// Systolic pressure.
    pub const SYSTOLIC: Self = Self(150_021);
    /// Diastolic pressure.
    pub const DIASTOLIC: Self = Self(150_022);
    /// Mean arterial pressure.
    pub const MEAN_ARTERIAL_PRESSURE: Self = Self(150_023);
    /// Pressure in a cuff while it measures.
    pub const CUFF_PRESSURE: Self = Self(150_300);
    /// Body temperature, no site said.
    pub const BODY_TEMPERATURE: Self = Self(150_364);
    /// Weight.
    pub const WEIGHT: Self = Self(188_736);
    /// Height.
    pub const HEIGHT: Self = Self(188_740);
    /// Body mass index.
    pub const BMI: Self = Self(188_752);
    /// Body fat, as a fraction of the weight.
    pub const BODY_FAT: Self = Self(188_748);
    /// Body mass without fat.
    pub const FAT_FREE_MASS: Self = Self(188_756);
    /// Body mass without fat and bone.
    pub const SOFT_LEAN_MASS: Self = Self(188_760);
    /// Body water.
    pub const BODY_WATER: Self = Self(188_764);
    /// Basal metabolism.
    pub const BASAL_METABOLISM: Self = Self(188_768);
    /// Muscle, as a fraction of the weight.
    pub const MUSCLE: Self = Self(188_772);
    /// Mass of muscle.
    pub const MUSCLE_MASS: Self = Self(188_776);
    /// Impedance of the body.
    pub const BODY_IMPEDANCE: Self = Self(188_780);
    /// Heart rate, beat to beat.
    pub const HEART_RATE: Self = Self(147_842);
    /// RR interval.
    pub const RR_INTERVAL: Self = Self(147_240);
    /// Respiratory rate.
    pub const RESPIRATORY_RATE: Self = Self(151_562);
    /// ECG lead I.
    pub const ECG_I: Self = Self(131_329);
    /// ECG lead II.
    pub const ECG_II: Self = Self(131_330);
    /// ECG lead III.
    pub const ECG_III: Self = Self(131_389);
    /// ECG lead aVR.
    pub const ECG_AVR: Self = Self(131_390);
    /// ECG lead aVL.
    pub const ECG_AVL: Self = Self(131_391);
    /// ECG lead aVF.
    pub const ECG_AVF: Self = Self(131_392);
    /// ECG lead V1.
    pub const ECG_V1: Self = Self(131_331);
    /// ECG lead V2.
    pub const ECG_V2: Self = Self(131_332);
    /// ECG lead V3.
    pub const ECG_V3: Self = Self(131_333);
    /// ECG lead V4.
    pub const ECG_V4: Self = Self(131_334);
    /// ECG lead V5.
    pub const ECG_V5: Self = Self(131_335);
    /// ECG lead V6.
    pub const ECG_V6: Self = Self(131_336);
    /// An ECG potential whose lead is not known.
    pub const ECG: Self = Self(131_328);
    /// The leads of an ECG of twelve leads, in the order in which they are printed.
    pub const ECG_TWELVE_LEADS: [Self; 12] = [
        Self::ECG_I,
        Self::ECG_II,
        Self::ECG_III,
        Self::ECG_AVR,
        Self::ECG_AVL,
        Self::ECG_AVF,
        Self::ECG_V1,
        Self::ECG_V2,
        Self::ECG_V3,
        Self::ECG_V4,
        Self::ECG_V5,
        Self::ECG_V6,
    ];

    /// Its row of the table; `None` for a code newer than we are.
    #[must_use]
    pub fn row(self) -> Option<&'static Term> {
        TERMS.iter().find(|term| term.code == self)
    }

    /// Its name in listings; `None` for a code newer than we are.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|term| term.name)
    }

    /// The code of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        TERMS.iter().find(|term| term.name == name).map(|term| term.code)
    }
}

/// One row: a quantity or signal under every code that is sent for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// MDC.
    pub code: Mdc,
    /// Name in listings: kebab-case, but for ECG leads, which have their own.
    pub name: &'static str,
    /// MDC reference identifier; empty where we found none.
    pub reference: &'static str,
    /// LOINC; all of them are sent, and any is matched. Empty where none is neutral about the bronchodilator.
    pub loinc: &'static [&'static str],
    /// UCUM, the first being the usual; empty for what is no quantity.
    pub units: &'static [&'static str],
    /// What is sent besides for lung function.
    pub spirometry: Option<Spirometry>,
}

/// Further codes of a lung function parameter. MDC has no "percent of predicted"; LOINC has it for some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spirometry {
    /// MDC of the predicted value (partition 514).
    pub predicted: Option<Mdc>,
    /// LOINC of the predicted value.
    pub loinc_predicted: &'static [&'static str],
    /// LOINC of the percentage of the predicted value.
    pub loinc_percent: &'static [&'static str],
    /// LOINC of a measurement before a bronchodilator.
    pub loinc_before: &'static [&'static str],
    /// LOINC of a measurement after a bronchodilator.
    pub loinc_after: &'static [&'static str],
}

const fn row(
    code: u32,
    name: &'static str,
    reference: &'static str,
    loinc: &'static [&'static str],
    units: &'static [&'static str],
) -> Term {
    Term { code: Mdc(code), name, reference, loinc, units, spirometry: None }
}

const fn lung(term: Term, spirometry: Spirometry) -> Term {
    Term { spirometry: Some(spirometry), ..term }
}

const fn predicted(code: u32) -> Spirometry {
    Spirometry { predicted: Some(Mdc(code)), loinc_predicted: &[], loinc_percent: &[], loinc_before: &[], loinc_after: &[] }
}

/// Every quantity and signal that we name.
pub const TERMS: &[Term] = &[
    // Vital signs. SpO2 has two LOINC codes in use: 2708-6 is fixed by the R4 profile, 59408-5 names the pulse oximeter.
    row(150_456, "spo2", "MDC_PULS_OXIM_SAT_O2", &["2708-6", "59408-5"], &["%"]),
    row(149_530, "pulse-rate", "MDC_PULS_OXIM_PULS_RATE", &["8867-4"], &["/min"]),
    row(149_546, "pulse-rate-cuff", "MDC_PULS_RATE_NON_INV", &["8867-4"], &["/min"]),
    row(150_448, "perfusion-index", "MDC_PULS_OXIM_PERF_REL", &["61006-3"], &["%"]),
    row(150_452, "pleth", "MDC_PULS_OXIM_PLETH", &[], &["1"]),
    row(150_020, "blood-pressure", "MDC_PRESS_BLD_NONINV", &["85354-9"], &[]),
    row(150_021, "systolic", "MDC_PRESS_BLD_NONINV_SYS", &["8480-6"], &["mm[Hg]", "kPa"]),
    row(150_022, "diastolic", "MDC_PRESS_BLD_NONINV_DIA", &["8462-4"], &["mm[Hg]", "kPa"]),
    row(150_023, "mean-arterial-pressure", "MDC_PRESS_BLD_NONINV_MEAN", &["8478-0"], &["mm[Hg]", "kPa"]),
    row(150_300, "cuff-pressure", "MDC_PRESS_CUFF", &[], &["mm[Hg]", "kPa"]),
    row(150_016, "invasive-pressure", "MDC_PRESS_BLD", &[], &["mm[Hg]", "1"]),
    row(150_017, "invasive-systolic", "MDC_PRESS_BLD_SYS", &[], &["mm[Hg]"]),
    row(150_018, "invasive-diastolic", "MDC_PRESS_BLD_DIA", &[], &["mm[Hg]"]),
    row(150_019, "invasive-mean", "MDC_PRESS_BLD_MEAN", &[], &["mm[Hg]"]),
    row(150_344, "temperature", "MDC_TEMP", &[], &["Cel"]),
    row(150_364, "body-temperature", "MDC_TEMP_BODY", &["8310-5"], &["Cel", "[degF]"]),
    row(150_392, "tympanic-temperature", "MDC_TEMP_TYMP", &["8310-5"], &["Cel", "[degF]"]),
    row(188_424, "oral-temperature", "MDC_TEMP_ORAL", &["8310-5"], &["Cel", "[degF]"]),
    row(188_428, "ear-temperature", "MDC_TEMP_EAR", &["8310-5"], &["Cel", "[degF]"]),
    row(188_432, "finger-temperature", "MDC_TEMP_FINGER", &["8310-5"], &["Cel", "[degF]"]),
    row(188_452, "axillary-temperature", "MDC_TEMP_AXILLA", &["8310-5"], &["Cel", "[degF]"]),
    row(188_420, "rectal-temperature", "MDC_TEMP_RECT", &["8310-5"], &["Cel", "[degF]"]),
    // Toe, gut, cuff and body composition: ISO/IEEE 11073-10408, -10407 and -10420, as Antidote dbb2742, OpenICE 1ae7f72 and
    // the nomenclature of Lamprey Networks list them.
    row(188_448, "toe-temperature", "MDC_TEMP_TOE", &["8310-5"], &["Cel", "[degF]"]),
    row(188_456, "gastro-intestinal-temperature", "MDC_TEMP_GIT", &["8310-5"], &["Cel", "[degF]"]),
    row(188_736, "weight", "MDC_MASS_BODY_ACTUAL", &["29463-7"], &["kg", "[lb_av]"]),
    row(188_740, "height", "MDC_LEN_BODY_ACTUAL", &["8302-2"], &["cm", "m", "[in_i]"]),
    row(188_752, "bmi", "MDC_RATIO_MASS_BODY_LEN_SQ", &["39156-5"], &["kg/m2"]),
    row(188_748, "body-fat", "MDC_BODY_FAT", &[], &["%"]),
    row(188_756, "fat-free-mass", "MDC_MASS_BODY_FAT_FREE", &[], &["kg", "[lb_av]"]),
    row(188_760, "soft-lean-mass", "MDC_MASS_BODY_SOFT_LEAN", &[], &["kg", "[lb_av]"]),
    row(188_764, "body-water", "MDC_BODY_WATER", &[], &["kg", "[lb_av]"]),
    row(188_768, "basal-metabolism", "MDC_BASAL_METABOLISM", &[], &["kJ"]),
    row(188_772, "muscle", "MDC_BODY_MUSCLE", &[], &["%"]),
    row(188_776, "muscle-mass", "MDC_MASS_BODY_MUSCLE", &[], &["kg", "[lb_av]"]),
    row(188_780, "body-impedance", "MDC_BODY_ELECTRICAL_IMPEDANCE", &[], &["Ohm"]),
    // Glucose: the LOINC code depends on the unit, 2339-0 for mg/dL and 15074-8 for mmol/L; units are never converted.
    row(160_184, "glucose-capillary-whole-blood", "MDC_CONC_GLU_CAPILLARY_WHOLEBLOOD", &["2339-0", "15074-8"], GLUCOSE),
    row(160_188, "glucose-capillary-plasma", "MDC_CONC_GLU_CAPILLARY_PLASMA", &["41653-7"], GLUCOSE),
    // Further glucose codes, HbA1c and what a user tells a meter: ISO/IEEE 11073-10417, as in Freescale's nomenclature header.
    row(160_192, "glucose-venous-whole-blood", "MDC_CONC_GLU_VENOUS_WHOLEBLOOD", &[], GLUCOSE),
    row(160_196, "glucose-venous-plasma", "MDC_CONC_GLU_VENOUS_PLASMA", &[], GLUCOSE),
    row(160_200, "glucose-arterial-whole-blood", "MDC_CONC_GLU_ARTERIAL_WHOLEBLOOD", &[], GLUCOSE),
    row(160_204, "glucose-arterial-plasma", "MDC_CONC_GLU_ARTERIAL_PLASMA", &[], GLUCOSE),
    row(160_208, "glucose-control-solution", "MDC_CONC_GLU_CONTROL", &[], GLUCOSE),
    row(160_020, "glucose", "MDC_CONC_GLU_GEN", &[], GLUCOSE),
    row(68_185, "measurement-duration", "MDC_ATTR_TIME_PD_MSMT_ACTIVE", &[], &["s"]),
    row(160_220, "hba1c", "MDC_CONC_HBA1C", &[], &["%"]),
    row(8_417_760, "exercise", "MDC_CTXT_GLU_EXERCISE", &[], &["%"]),
    row(8_417_764, "carbohydrates", "MDC_CTXT_GLU_CARB", &[], &["g"]),
    row(8_417_796, "medication", "MDC_CTXT_MEDICATION", &[], &["mg", "mL"]),
    row(160_364, "glucose-undetermined-whole-blood", "MDC_CONC_GLU_UNDETERMINED_WHOLEBLOOD", &[], GLUCOSE),
    row(160_368, "glucose-undetermined-plasma", "MDC_CONC_GLU_UNDETERMINED_PLASMA", &[], GLUCOSE),
    row(160_212, "glucose-interstitial-fluid", "MDC_CONC_GLU_ISF", &["99504-3"], GLUCOSE),
    row(151_562, "respiratory-rate", "MDC_RESP_RATE", &["9279-1"], &["/min"]),
    row(151_780, "thoracic-impedance", "MDC_IMPED_TTHOR", &[], &["1"]),
    // Spirometry, volumes at BTPS. FEF25 counts the exhaled fraction: it is MEF75 of the continental convention.
    lung(
        row(188_928, "fvc", "MDC_VOL_AWAY_EXP_FORCED_CAPACITY", &["19868-9", "19870-5"], &["L"]),
        Spirometry {
            loinc_predicted: &["19869-7"],
            loinc_percent: &["19872-1"],
            loinc_before: &["19876-2"],
            loinc_after: &["19874-7"],
            ..predicted(33_743_360)
        },
    ),
    lung(
        row(152_586, "fev1", "MDC_VOL_AWAY_EXP_FORCED_1S", &["20150-9"], &["L"]),
        Spirometry {
            loinc_predicted: &["20149-1"],
            loinc_percent: &["20152-5"],
            loinc_before: &["20157-4"],
            loinc_after: &["20155-8"],
            ..predicted(33_707_018)
        },
    ),
    lung(
        row(188_948, "fev1-fvc", "MDC_RATIO_AWAY_EXP_FORCED_1S_FVC", &["19926-5"], &["%"]),
        Spirometry { loinc_predicted: &["19925-7"], loinc_after: &["69970-2"], ..predicted(33_743_380) },
    ),
    lung(row(152_587, "fev6", "MDC_VOL_AWAY_EXP_FORCED_6S", &[], &["L"]), predicted(33_707_019)),
    // PEF of a spirometer; 19935-6 is only for a peak-flow meter. 69977-7 is the percentage before a bronchodilator.
    lung(
        row(152_584, "pef", "MDC_FLOW_AWAY_EXP_FORCED_PEAK", &["33452-4"], &["L/s", "L/min"]),
        Spirometry { loinc_predicted: &["69974-4"], loinc_percent: &["69977-7"], ..predicted(33_707_016) },
    ),
    row(152_585, "pef-personal-best", "MDC_FLOW_AWAY_EXP_FORCED_PEAK_PB", &["83368-1"], &["L/s", "L/min"]),
    lung(row(188_964, "fef25", "MDC_FLOW_AWAY_EXP_FORCED_25_FVC", &[], &["L/s"]), predicted(33_743_396)),
    lung(row(188_968, "fef50", "MDC_FLOW_AWAY_EXP_FORCED_50_FVC", &[], &["L/s"]), predicted(33_743_400)),
    lung(row(188_972, "fef75", "MDC_FLOW_AWAY_EXP_FORCED_75_FVC", &[], &["L/s"]), predicted(33_743_404)),
    lung(
        row(188_960, "fef25-75", "MDC_FLOW_AWAY_EXP_FORCED_25_75_FVC", &[], &["L/s"]),
        Spirometry {
            loinc_predicted: &["69971-0"],
            loinc_before: &["69972-8"],
            loinc_after: &["69973-6"],
            ..predicted(33_743_392)
        },
    ),
    lung(row(189_016, "fet", "MDC_VOL_AWAY_EXP_FORCED_TIME", &["65819-5"], &["s"]), predicted(33_743_448)),
    lung(row(188_980, "fivc", "MDC_VOL_AWAY_INSP_FORCED_CAPACITY", &[], &["L"]), predicted(33_743_412)),
    lung(row(188_976, "pif", "MDC_FLOW_AWAY_INSP_FORCED_PEAK", &[], &["L/s"]), predicted(33_743_408)),
    lung(row(188_984, "fiv1", "MDC_VOL_AWAY_INSP_FORCED_1S", &[], &["L"]), predicted(33_743_416)),
    lung(row(189_020, "back-extrapolated-volume", "MDC_VOL_AWAY_EXTRAP", &[], &["L"]), predicted(33_743_452)),
    row(189_024, "btps-factor", "MDC_AWAY_BTPS", &[], &["1"]),
    row(188_508, "ambient-temperature", "MDC_TEMP_ROOM", &[], &["Cel"]),
    row(188_804, "ambient-humidity", "MDC_REL_HUMIDITY_AMBIENT", &[], &["%"]),
    row(152_836, "ambient-pressure", "MDC_PRESS_AIR_AMBIENT", &[], &["hPa"]),
    row(151_764, "flow", "MDC_FLOW_AWAY", &[], &["L/s"]),
    row(152_708, "volume", "MDC_VOL_AWAY", &[], &["L"]),
    // ECG.
    row(131_328, "ecg", "MDC_ECG_ELEC_POTL", &["11524-6"], POTENTIAL),
    row(131_329, "I", "MDC_ECG_ELEC_POTL_I", &[], POTENTIAL),
    row(131_330, "II", "MDC_ECG_ELEC_POTL_II", &[], POTENTIAL),
    row(131_389, "III", "MDC_ECG_ELEC_POTL_III", &[], POTENTIAL),
    row(131_390, "aVR", "MDC_ECG_ELEC_POTL_AVR", &[], POTENTIAL),
    row(131_391, "aVL", "MDC_ECG_ELEC_POTL_AVL", &[], POTENTIAL),
    row(131_392, "aVF", "MDC_ECG_ELEC_POTL_AVF", &[], POTENTIAL),
    row(131_331, "V1", "MDC_ECG_ELEC_POTL_V1", &[], POTENTIAL),
    row(131_332, "V2", "MDC_ECG_ELEC_POTL_V2", &[], POTENTIAL),
    row(131_333, "V3", "MDC_ECG_ELEC_POTL_V3", &[], POTENTIAL),
    row(131_334, "V4", "MDC_ECG_ELEC_POTL_V4", &[], POTENTIAL),
    row(131_335, "V5", "MDC_ECG_ELEC_POTL_V5", &[], POTENTIAL),
    row(131_336, "V6", "MDC_ECG_ELEC_POTL_V6", &[], POTENTIAL),
    row(131_395, "V", "MDC_ECG_ELEC_POTL_V", &[], POTENTIAL),
    row(147_842, "heart-rate", "MDC_ECG_HEART_RATE", &["8867-4"], &["/min"]),
    row(147_240, "rr-interval", "MDC_ECG_TIME_PD_RR_GL", &["8637-1"], &["ms"]),
    row(147_232, "qt-interval", "MDC_ECG_TIME_PD_QT_GL", &["8634-8"], &["ms"]),
    row(147_236, "qtc-interval", "MDC_ECG_TIME_PD_QTc", &["8636-3"], &["ms"]),
    // Never of our own making: only where a device says so.
    row(184_327, "rhythm", "MDC_ECG_STAT_RHY", &[], &[]),
    row(147_720, "atrial-fibrillation", "", &[], &[]),
    row(147_474, "sinus-rhythm", "", &[], &[]),
];

const GLUCOSE: &[&str] = &["mg/dL", "mmol/L"];
const POTENTIAL: &[&str] = &["mV", "uV"];

#[cfg(test)]
mod tests {
    use super::*;

    fn term(name: &str) -> &'static Term {
        TERMS.iter().find(|term| term.name == name).unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn codes_and_names_are_each_others_and_stand_once() {
        for term in TERMS {
            assert_eq!(Mdc::by_name(term.name), Some(term.code), "{}", term.name);
            assert_eq!(term.code.name(), Some(term.name), "{}", term.name);
        }
        let mut references: Vec<_> = TERMS.iter().map(|term| term.reference).filter(|reference| !reference.is_empty()).collect();
        let count = references.len();
        references.sort_unstable();
        references.dedup();
        assert_eq!(references.len(), count);
        assert_eq!(Mdc(1).name(), None);
        assert_eq!(Mdc::by_name("no-such-thing"), None);
    }

    #[test]
    fn the_codes_of_a_blood_pressure_and_a_saturation_are_the_published_ones() {
        let of = |name: &str| (term(name).code.0, term(name).loinc);
        assert_eq!(of("systolic"), (150_021, &["8480-6"][..]));
        assert_eq!(of("diastolic"), (150_022, &["8462-4"][..]));
        assert_eq!(of("spo2"), (150_456, &["2708-6", "59408-5"][..]), "both are sent, either is matched");
        assert_eq!(of("weight"), (188_736, &["29463-7"][..]));
    }

    fn all_loinc(term: &Term) -> Vec<&'static str> {
        let s = term.spirometry.unwrap_or_default();
        [term.loinc, s.loinc_predicted, s.loinc_percent, s.loinc_before, s.loinc_after].concat()
    }

    /// LOINC's check digit is mod 10 with doubled odd places; an MDC code under the system loinc.org has none.
    #[test]
    fn every_loinc_code_has_its_check_digit() {
        for code in TERMS.iter().flat_map(all_loinc) {
            let (number, check) = code.split_once('-').expect("digits, a hyphen, a check digit");
            let digits = number.bytes().rev().map(|digit| u32::from(digit - b'0'));
            let sum: u32 = digits.enumerate().map(|(place, d)| if place % 2 == 0 { 2 * d / 10 + 2 * d % 10 } else { d }).sum();
            assert_eq!(check.parse(), Ok((10 - sum % 10) % 10), "{code}");
        }
    }

    #[test]
    fn predicted_codes_are_the_measured_ones_in_partition_514() {
        for term in TERMS {
            if let Some(predicted) = term.spirometry.and_then(|spirometry| spirometry.predicted) {
                assert_eq!(predicted.0, (514 << 16) + (term.code.0 & 0xffff), "{}", term.name);
            }
        }
    }

    /// Mistakes seen in public code: each mislabels a clinical value.
    #[test]
    fn mistakes_seen_in_public_code_are_not_repeated() {
        assert_ne!(term("pef").code, Mdc((2 << 16) + 20_636));
        assert!(Mdc((2 << 16) + 20_636).name().is_none());
        for percent in ["33452-4", "19926-5"] {
            assert!(!all_loinc(term("fev1")).contains(&percent), "{percent} is no FEV1 in percent of predicted");
        }
        assert!(term("fef25-75").loinc.is_empty(), "69971-0 is the predicted one, the others say when");
        assert_eq!(term("fef25-75").spirometry.unwrap().loinc_predicted, ["69971-0"]);
        assert_eq!((term("III").code.0, term("aVR").code.0), (131_389, 131_390), "131389 is III");
        assert_eq!(Mdc(131_392).name(), Some("aVF"));
        assert!(term("fef25").loinc.is_empty() && Mdc::by_name("fev25").is_none(), "FEV25 of a slide is FEF25, mislabelled");
    }

    #[test]
    fn every_unit_of_the_table_is_known() {
        for unit in TERMS.iter().flat_map(|term| term.units) {
            assert!(crate::units::by_ucum(unit).is_some(), "{unit}");
        }
    }
}
