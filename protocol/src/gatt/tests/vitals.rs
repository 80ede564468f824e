//! Vectors of the cuff, the thermometer, the scales and the heart rate sensor, run both ways, and what must be refused.

use proptest::prelude::*;

use super::super::blood_pressure::{
    BloodPressureFeature, BloodPressureMeasurement, BloodPressureStatus, Departures, PressureUnit, UserId,
};
use super::super::body_composition::{BodyCompositionFeature, BodyCompositionMeasurement};
use super::super::date_time::DateTime;
use super::super::device_information::{PnpId, SystemId, text};
use super::super::heart_rate::{BodySensorLocation, HeartRate, HeartRateMeasurement, SensorContact, rr_milliseconds};
use super::super::mi_scale::MiScaleData;
use super::super::temperature::{MeasurementInterval, TemperatureMeasurement, TemperatureType, TemperatureUnit};
use super::super::weight::{
    BmiAndHeight, HeightResolution, MassResolution, MeasurementUnits, UNSUCCESSFUL, WeightMeasurement, WeightScaleFeature, steps,
};
use crate::decimal::Decimal;
use crate::mder::{Number, float, sfloat};
use crate::nomenclature::Mdc;
use crate::promises::every_other_length_is_refused;
use crate::reader::DecodeError;
use crate::vectors::{Vector, vectors};

const BM85: Departures = Departures { big_endian_pulse_and_status: true, user_id_always: true };

fn number(number: Number) -> String {
    match number {
        Number::Finite(decimal) => decimal.to_string(),
        Number::Special(special) => format!("{special:?}"),
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn terms<'a>(terms: impl Iterator<Item = &'a str>) -> String {
    terms.collect::<Vec<_>>().join(",")
}

fn blood_pressure(m: &BloodPressureMeasurement) -> String {
    format!(
        "{}/{}/{} {} time={} pulse={} user={} status={}",
        number(m.systolic),
        number(m.diastolic),
        number(m.mean_arterial_pressure),
        m.unit.ucum(),
        or_dash(m.time_stamp),
        or_dash(m.pulse_rate.map(number)),
        or_dash(m.user_id.map(|user| user.0)),
        or_dash(m.status.map(|status| terms(status.terms()))),
    )
}

/// Runs a file of vectors both ways; those that are `invalid` must be refused, the others at every other length too.
fn run<M>(
    file: &'static str,
    decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    print: impl Fn(&M) -> String,
    encode: impl Fn(&M) -> Option<Vec<u8>>,
) {
    for Vector { id, octets, expected } in vectors(file) {
        match decode(&octets) {
            Ok(decoded) => {
                assert_eq!(print(&decoded), expected, "{id}");
                assert_eq!(encode(&decoded).as_deref(), Some(&*octets), "{id}");
            }
            Err(_) => assert_eq!(expected, "invalid", "{id}"),
        }
    }
}

fn refuses_every_other_length<M>(file: &'static str, decode: impl Fn(&[u8]) -> Result<M, DecodeError>) {
    for Vector { octets, .. } in vectors(file).filter(|v| v.expected != "invalid" && !v.expected.contains("reserved=1")) {
        every_other_length_is_refused(&octets, &decode);
    }
}

#[test]
fn blood_pressures_decode_and_encode() {
    let file = include_str!("../../../vectors/blood_pressure.txt");
    run(file, BloodPressureMeasurement::decode, blood_pressure, BloodPressureMeasurement::encode);
    refuses_every_other_length(file, BloodPressureMeasurement::decode);
}

#[test]
fn a_cuff_that_departs_from_the_standard_decodes_by_its_departures_only() {
    let file = include_str!("../../../vectors/blood_pressure_bm85.txt");
    for Vector { id, octets, expected } in vectors(file) {
        let decoded = BloodPressureMeasurement::decode_departing(&octets, BM85).expect(id);
        assert_eq!(blood_pressure(&decoded), expected, "{id}");
        assert_eq!(BloodPressureMeasurement::decode(&octets), Err(DecodeError::Trailing { octets: 1 }), "{id}");
    }
    refuses_every_other_length(file, |octets| BloodPressureMeasurement::decode_departing(octets, BM85));
}

#[test]
fn a_blood_pressure_with_octets_left_over_is_refused_whatever_reserved_flags_say() {
    for flags in [0x20, 0x40, 0x80, 0xe0] {
        assert!(BloodPressureMeasurement::decode(&[flags, 120, 0, 80, 0, 93, 0]).is_ok());
        assert_eq!(BloodPressureMeasurement::decode(&[flags, 120, 0, 80, 0, 93, 0, 1]), Err(DecodeError::Trailing { octets: 1 }));
    }
}

#[test]
fn every_bit_of_a_blood_pressure_status_and_feature_has_a_term() {
    assert_eq!(BloodPressureStatus(0xffff).terms().count(), 15, "two bits are one field");
    assert_eq!(
        terms(BloodPressureFeature::decode(&[0x21, 0x01]).unwrap().terms()),
        "body-movement-detection-supported,multiple-bonds-supported,user-facing-time-supported"
    );
    assert_eq!(BloodPressureFeature::decode(&[0x21, 0x01]).unwrap().encode(), [0x21, 0x01]);
    assert_eq!(BloodPressureFeature::decode(&[1]), Err(DecodeError::Truncated { field: "blood pressure feature" }));
    assert_eq!(BloodPressureFeature::decode(&[1, 0, 0]), Err(DecodeError::Trailing { octets: 1 }));
    assert!(BloodPressureFeature::decode(&[1, 0x80, 0]).is_ok());
    assert_eq!((UserId(3).slot(), UserId::UNKNOWN.slot()), (Some(3), None));
}

fn temperature(m: &TemperatureMeasurement) -> String {
    let site = m.temperature_type.map(|site| site.term().map_or_else(|| site.0.to_string(), Into::into));
    format!("{} {} time={} site={}", number(m.temperature), m.unit.ucum(), or_dash(m.time_stamp), or_dash(site))
}

#[test]
fn temperatures_decode_and_encode() {
    let file = include_str!("../../../vectors/temperature.txt");
    run(file, TemperatureMeasurement::decode, temperature, TemperatureMeasurement::encode);
    refuses_every_other_length(file, TemperatureMeasurement::decode);
    assert!(TemperatureMeasurement::decode(&[0x08, 0x69, 1, 0, 0xff, 1, 2]).is_ok(), "a reserved flag may announce them");
}

#[test]
fn every_site_has_a_term_and_a_code_of_the_table() {
    for site in 0..=u8::MAX {
        let site = TemperatureType(site);
        assert_eq!(site.term().is_some(), (1..=9).contains(&site.0));
        assert!(site.code().row().is_some_and(|row| row.units == ["Cel", "[degF]"]), "{site:?}");
        assert_eq!(TemperatureType::decode(&site.encode()), Ok(site));
    }
    assert_eq!((TemperatureType(4).code(), TemperatureType(77).code()), (Mdc(188_432), Mdc::BODY_TEMPERATURE));
    assert!(TemperatureType::decode(&[]).is_err() && TemperatureType::decode(&[1, 2]).is_err());
    assert_eq!(MeasurementInterval::decode(&[0x2c, 0x01]).map(MeasurementInterval::encode), Ok([0x2c, 0x01]));
    assert!(MeasurementInterval::decode(&[1]).is_err() && MeasurementInterval::decode(&[1, 2, 3]).is_err());
}

fn heart_rate(m: &HeartRateMeasurement) -> String {
    let intervals = |intervals: &[u16]| intervals.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    format!(
        "{} contact={} energy={} rr={}",
        m.heart_rate.per_minute(),
        or_dash(m.sensor_contact.term()),
        or_dash(m.energy_expended),
        intervals(&m.rr_intervals),
    )
}

#[test]
fn heart_rates_decode_and_encode() {
    let file = include_str!("../../../vectors/heart_rate.txt");
    run(file, HeartRateMeasurement::decode, heart_rate, |m| Some(m.encode()));
    assert_eq!(rr_milliseconds(1_024).to_string(), "1000.0000000");
    assert_eq!(rr_milliseconds(821).to_string(), "801.7578125");
    assert_eq!(BodySensorLocation::decode(&[1]).unwrap().term(), Some("chest"));
    assert_eq!(BodySensorLocation(7).term(), None);
    assert_eq!(BodySensorLocation(6).encode(), [6]);
    assert!(BodySensorLocation::decode(&[]).is_err() && BodySensorLocation::decode(&[1, 1]).is_err());
}

fn weight(m: &WeightMeasurement) -> String {
    let units = if m.units == MeasurementUnits::Si { "si" } else { "imperial" };
    format!(
        "{units} {} time={} user={} bmi={} reserved={:02x}",
        m.weight,
        or_dash(m.time_stamp),
        or_dash(m.user_id.map(|user| user.0)),
        or_dash(m.bmi_and_height.map(|both| format!("{}/{}", both.bmi, both.height))),
        m.reserved_flags,
    )
}

#[test]
fn weights_decode_and_encode() {
    let file = include_str!("../../../vectors/weight.txt");
    run(file, WeightMeasurement::decode, weight, |m| Some(m.encode()));
    refuses_every_other_length(file, WeightMeasurement::decode);
}

/// Vector W01: SpeziBluetooth c52a637, WeightScaleTests. The numbers of the resolutions: Weight Scale Service 1.0, §3.1.
#[test]
fn a_digit_of_a_weight_is_worth_what_the_feature_says() {
    let mass = |code, units| steps(120, MassResolution(code).step(units)).unwrap().to_string();
    let all = |units| [0, 7, 6, 5, 4, 3, 2, 1].map(|code| mass(code, units)).join(" ");
    assert_eq!(all(MeasurementUnits::Si), "0.600 0.600 1.20 2.40 6.00 12.0 24.0 60.0");
    assert_eq!(all(MeasurementUnits::Imperial), "1.20 1.20 2.40 6.00 12.0 24.0 60.0 120");
    let height = |code| steps(1_700, HeightResolution(code).step(MeasurementUnits::Si)).unwrap().to_string();
    assert_eq!([0, 3, 2, 1].map(height), ["1.700", "1.700", "8.500", "17.00"]);
    assert_eq!(steps(700, HeightResolution(0).step(MeasurementUnits::Imperial)), Some(Decimal::new(700, -1)));
    assert_eq!(steps(UNSUCCESSFUL, MassResolution(0).step(MeasurementUnits::Si)), None);
    assert_eq!(MassResolution(15).step(MeasurementUnits::Si), Decimal::new(5, -3));

    let feature = WeightScaleFeature::decode(&[0xb7, 0x01, 0, 0]).unwrap();
    assert_eq!((feature.weight_resolution(), feature.height_resolution()), (MassResolution(6), HeightResolution(3)));
    assert_eq!(terms(feature.terms()), "time-stamp-supported,multiple-users-supported,bmi-supported");
    assert_eq!(feature.encode(), [0xb7, 0x01, 0, 0]);
    assert!(WeightScaleFeature::decode(&[0, 0, 0]).is_err() && WeightScaleFeature::decode(&[0; 5]).is_err());
}

fn composition(m: &BodyCompositionMeasurement) -> String {
    let units = if m.units == MeasurementUnits::Si { "si" } else { "imperial" };
    let fields = [
        m.basal_metabolism,
        m.muscle_percentage,
        m.muscle_mass,
        m.fat_free_mass,
        m.soft_lean_mass,
        m.body_water_mass,
        m.impedance,
        m.weight,
        m.height,
    ];
    format!(
        "{units} fat={} time={} user={} fields={} more={}",
        m.body_fat_percentage,
        or_dash(m.time_stamp),
        or_dash(m.user_id.map(|user| user.0)),
        fields.map(or_dash).join(","),
        m.multiple_packets,
    )
}

#[test]
fn body_compositions_decode_and_encode() {
    let file = include_str!("../../../vectors/body_composition.txt");
    run(file, BodyCompositionMeasurement::decode, composition, |m| Some(m.encode()));
    refuses_every_other_length(file, BodyCompositionMeasurement::decode);
    let feature = BodyCompositionFeature::decode(&[0x01, 0xb1, 0x01, 0]).unwrap();
    assert_eq!((feature.mass_resolution(), feature.height_resolution()), (MassResolution(6), HeightResolution(3)));
    assert_eq!(terms(feature.terms()), "time-stamp-supported,impedance-supported");
    assert_eq!(feature.encode(), [0x01, 0xb1, 0x01, 0]);
    assert!(BodyCompositionFeature::decode(&[0; 3]).is_err() && BodyCompositionFeature::decode(&[0; 5]).is_err());
}

#[test]
fn packets_of_one_composition_are_joined_and_the_first_word_stands() {
    let first = BodyCompositionMeasurement { body_fat_percentage: 220, muscle_mass: Some(1), ..Default::default() };
    let next =
        BodyCompositionMeasurement { body_fat_percentage: 220, muscle_mass: Some(2), impedance: Some(3), ..Default::default() };
    let joined = first.joined(next);
    assert_eq!((joined.muscle_mass, joined.impedance, joined.body_fat_percentage), (Some(1), Some(3), 220));
}

fn mi_scale(m: &MiScaleData) -> String {
    let (amount, unit) = m.amount();
    format!("{amount} {unit} time={} impedance={} result={}", m.time, or_dash(m.impedance), m.is_result())
}

#[test]
fn advertised_weights_decode_and_encode() {
    let file = include_str!("../../../vectors/mi_scale.txt");
    let decode = |octets: &[u8]| match octets.len() {
        0..=10 => MiScaleData::decode_weight(octets),
        _ => MiScaleData::decode_composition(octets),
    };
    for Vector { id, octets, expected } in vectors(file) {
        let decoded = decode(&octets).expect(id);
        assert_eq!(mi_scale(&decoded), expected, "{id}");
        // Bit 1 of the first octet, and bit 2 of the second, have no meaning that we know: a scale sets them all the same.
        let (mut weight, mut both) = (decoded.encode_weight(), decoded.encode_composition());
        weight[0] |= octets[0] & 0x02;
        (both[0], both[1]) = (both[0] | octets[0] & 0x02, both[1] | octets[1] & 0x04);
        assert!(octets == weight || octets == both, "{id}");
    }
    for length in (0..20).filter(|length| *length != 10) {
        assert!(MiScaleData::decode_weight(&[0; 20][..length]).is_err());
    }
    for length in (0..20).filter(|length| *length != 13) {
        assert!(MiScaleData::decode_composition(&[0; 20][..length]).is_err());
    }
}

#[test]
fn device_information_is_text_and_numbers() {
    assert_eq!(text(b"Beurer GmbH\0\0"), Ok("Beurer GmbH"));
    assert_eq!(text(b"BM85  "), Ok("BM85"));
    assert_eq!(text(&[0xff, 0xfe]), Err(DecodeError::Value { field: "text" }));
    let id = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(SystemId::decode(&id), Ok(SystemId { manufacturer_defined: 0x05_0403_0201, organizationally_unique: 0x08_0706 }));
    assert_eq!(SystemId::decode(&id).unwrap().encode(), id);
    let pnp = [2, 0x0d, 0x05, 0x01, 0x00, 0x10, 0x01];
    assert_eq!(PnpId::decode(&pnp).unwrap().vendor_id, 0x050d);
    assert_eq!(PnpId::decode(&pnp).unwrap().encode(), pnp);
    for length in 0..8 {
        assert!(SystemId::decode(&id[..length]).is_err());
        assert_eq!(PnpId::decode(&id[..length]).is_ok(), length == 7);
    }
    assert!(PnpId::decode(&id).is_err() && SystemId::decode(&[0; 9]).is_err());
}

fn date_times() -> impl Strategy<Value = Option<DateTime>> {
    let fields = (0..=9999_u16, 0..=12_u8, 0..=31_u8, 0..=23_u8, 0..=59_u8, 0..=59_u8);
    proptest::option::of(fields.prop_map(|(year, month, day, hour, minute, second)| DateTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
    }))
}

fn units() -> impl Strategy<Value = MeasurementUnits> {
    prop_oneof![Just(MeasurementUnits::Si), Just(MeasurementUnits::Imperial)]
}

proptest! {
    #[test]
    fn blood_pressures_survive_the_way_there_and_back(
        numbers: [u16; 4], kilopascal: bool, time_stamp in date_times(), user: Option<u8>, status: Option<u16>, pulse: bool,
    ) {
        let [systolic, diastolic, mean_arterial_pressure, rate] = numbers.map(sfloat);
        let measurement = BloodPressureMeasurement {
            unit: if kilopascal { PressureUnit::Kilopascal } else { PressureUnit::MillimetreOfMercury },
            systolic, diastolic, mean_arterial_pressure, time_stamp,
            pulse_rate: pulse.then_some(rate), user_id: user.map(UserId), status: status.map(BloodPressureStatus),
        };
        let octets = measurement.encode().expect("every SFLOAT encodes");
        prop_assert!(octets.len() <= BloodPressureMeasurement::OCTETS_MAX);
        prop_assert_eq!(BloodPressureMeasurement::decode(&octets), Ok(measurement));
    }

    #[test]
    fn temperatures_survive_the_way_there_and_back(raw: u32, fahrenheit: bool, time_stamp in date_times(), site: Option<u8>) {
        let measurement = TemperatureMeasurement {
            unit: if fahrenheit { TemperatureUnit::Fahrenheit } else { TemperatureUnit::Celsius },
            temperature: float(raw), time_stamp, temperature_type: site.map(TemperatureType),
        };
        let octets = measurement.encode().expect("every FLOAT encodes");
        prop_assert_eq!(TemperatureMeasurement::decode(&octets), Ok(measurement));
    }

    #[test]
    fn heart_rates_survive_the_way_there_and_back(
        wide: bool, rate: u8, contact in 0..4_u8, energy_expended: Option<u16>, rr_intervals: Vec<u16>,
    ) {
        let heart_rate = if wide { HeartRate::U16(rate.into()) } else { HeartRate::U8(rate) };
        let measurement = HeartRateMeasurement { heart_rate, sensor_contact: SensorContact(contact), energy_expended, rr_intervals };
        prop_assert_eq!(HeartRateMeasurement::decode(&measurement.encode()), Ok(measurement));
    }

    #[test]
    fn weights_survive_the_way_there_and_back(
        units in units(), weight: u16, time_stamp in date_times(), user: Option<u8>, both: Option<(u16, u16)>, reserved in 0..16_u8,
    ) {
        let bmi_and_height = both.map(|(bmi, height)| BmiAndHeight { bmi, height });
        let measurement =
            WeightMeasurement { units, weight, time_stamp, user_id: user.map(UserId), bmi_and_height, reserved_flags: reserved << 4 };
        prop_assert_eq!(WeightMeasurement::decode(&measurement.encode()), Ok(measurement));
    }

    #[test]
    fn body_compositions_survive_the_way_there_and_back(
        units in units(), fat: u16, time_stamp in date_times(), user: Option<u8>, fields: [Option<u16>; 9], multiple_packets: bool,
    ) {
        let [basal_metabolism, muscle_percentage, muscle_mass, fat_free_mass, soft_lean_mass, body_water_mass, impedance, weight, height] =
            fields;
        let measurement = BodyCompositionMeasurement {
            units, body_fat_percentage: fat, time_stamp, user_id: user.map(UserId), basal_metabolism, muscle_percentage, muscle_mass,
            fat_free_mass, soft_lean_mass, body_water_mass, impedance, weight, height, multiple_packets,
        };
        prop_assert_eq!(BodyCompositionMeasurement::decode(&measurement.encode()), Ok(measurement));
    }

    #[test]
    fn no_input_panics(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = BloodPressureMeasurement::decode(&octets);
        let _ = BloodPressureMeasurement::decode_departing(&octets, BM85);
        let _ = BloodPressureFeature::decode(&octets);
        let _ = TemperatureMeasurement::decode(&octets);
        let _ = HeartRateMeasurement::decode(&octets);
        let _ = WeightMeasurement::decode(&octets);
        let _ = WeightScaleFeature::decode(&octets);
        let _ = BodyCompositionMeasurement::decode(&octets);
        let _ = BodyCompositionFeature::decode(&octets);
        let _ = MiScaleData::decode_weight(&octets);
        let _ = MiScaleData::decode_composition(&octets);
        let _ = text(&octets);
    }
}
