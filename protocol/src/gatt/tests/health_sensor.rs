//! The vectors of health sensors, run both ways; segmentation; what must be refused.

use proptest::prelude::*;

use super::super::elapsed_time::{CurrentElapsedTime, ElapsedTime, TimeSource};
use super::super::health_observation::*;
use super::super::health_observation_segment::{Assembler, OBSERVATION_OCTETS_MAX, SegmentError, SegmentHeader, Segmenter};
use super::super::health_sensor_features::{GhsControlPoint, HealthSensorFeatures};
use super::{number, or_dash};
use crate::mder::{Number, float};
use crate::nomenclature::Mdc;
use crate::promises::{every_cut_is_refused, every_other_length_is_refused};
use crate::reader::DecodeError;
use crate::vectors::{hex, octets, vectors};

fn value(value: &ObservationValue) -> String {
    let codes = |codes: &[u32]| codes.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    match value {
        ObservationValue::Numeric(n) => format!("{}:{}", n.unit.code().0, number(n.number)),
        ObservationValue::Discrete(code) => code.to_string(),
        ObservationValue::Text(text) => format!("{text:?}"),
        ObservationValue::SampleArray(a) => {
            let samples: Vec<_> = a.samples().map(|sample| sample.to_string()).collect();
            let [scale, offset, period] = [a.scale, a.offset, a.period].map(number);
            let (unit, per) = (a.unit.code().0, a.samples_per_period);
            format!("{unit} x {scale} + {offset} each {period} / {per}: {}", samples.join(" "))
        }
        ObservationValue::DiscreteEvents(events) => codes(events),
        ObservationValue::StateEvents(e) => format!("{}/{}={}", hex(&e.supported), hex(&e.is_state), hex(&e.bits)),
        ObservationValue::Compound(components) => {
            let component = |c: &Component| format!("{}={}", c.code.0, self::value(&c.value));
            components.iter().map(component).collect::<Vec<_>>().join(" ")
        }
        ObservationValue::Tlvs(tlvs) => {
            let tlv = |t: &Tlv| format!("{}/{}={}", t.code.0, t.format, hex(&t.octets));
            tlvs.iter().map(tlv).collect::<Vec<_>>().join(" ")
        }
        ObservationValue::Bundle(members) => {
            let member = |m: &HealthObservation| {
                let code = or_dash(m.observation_type.map(|code| code.0.to_string()));
                format!("[{} {code} {}]", m.value.term(), self::value(&m.value))
            };
            members.iter().map(member).collect::<Vec<_>>().join(" ")
        }
    }
}

fn observation(o: &HealthObservation) -> String {
    format!(
        "{} {} {} {} {}",
        o.length.term(),
        o.value.term(),
        or_dash(o.observation_type.map(|code| code.0.to_string())),
        or_dash(o.time.and_then(|time| time.civil()).map(|time| time.to_string())),
        value(&o.value),
    )
}

fn vector(id: &str) -> Vec<u8> {
    let file = include_str!("../../../vectors/health_observation.txt");
    vectors(file).find(|v| v.id == id).expect(id).octets
}

#[test]
fn health_observations_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/health_observation.txt")) {
        match HealthObservation::decode(&v.octets) {
            Ok(decoded) => {
                assert_eq!(observation(&decoded), v.expected, "{}", v.id);
                assert_eq!(decoded.encode().as_deref().map(hex), Some(hex(&v.octets)), "{}", v.id);
                every_cut_is_refused(&v.octets, HealthObservation::decode);
                for more in 1..5 {
                    let longer = [v.octets.clone(), vec![0; more]].concat();
                    assert!(HealthObservation::decode(&longer).is_err(), "{} and {more}", v.id);
                }
            }
            Err(error) => assert_eq!(v.expected, "invalid", "{}: {error}", v.id),
        }
    }
}

#[test]
fn every_attribute_of_an_observation_is_read() {
    let o = HealthObservation::decode(&vector("H23")).unwrap();
    assert_eq!(o.duration, Some(float(10)));
    assert_eq!(o.status.map(|status| status.terms().collect()), Some(vec!["test-data"]));
    assert_eq!((o.id, o.patient), (Some(7), Some(2)));
    assert_eq!((o.supplemental, o.derived_from, o.has_member), (Some(vec![0xbbbb]), Some(vec![]), Some(vec![0x11])));
    let tlv = Tlv { code: Mdc(150_456), format: 4, octets: vec![0x62] };
    assert_eq!(o.attributes, Some(vec![tlv]));
}

#[test]
fn a_number_of_samples_may_count_octets_and_is_kept_so() {
    let octets = vector("H22");
    let decoded = HealthObservation::decode(&octets).unwrap();
    let ObservationValue::SampleArray(array) = &decoded.value else { panic!("{decoded:?}") };
    assert_eq!((array.counts, array.len()), (SampleCounts::Octets, 3));
    let mut samples = octets;
    samples[21] = 3;
    let decoded = HealthObservation::decode(&samples).unwrap();
    let ObservationValue::SampleArray(array) = &decoded.value else { panic!("{decoded:?}") };
    assert_eq!((array.counts, array.len()), (SampleCounts::Samples, 3));
    assert_eq!(decoded.encode(), Some(samples));
}

#[test]
fn samples_of_one_to_four_octets_have_their_sign() {
    let array = |octets_per_sample, octets: &[u8]| SampleArray {
        unit: UnitCode(0),
        scale: float(1),
        offset: float(0),
        period: float(1),
        samples_per_period: 1,
        octets_per_sample,
        counts: SampleCounts::Samples,
        octets: octets.to_vec(),
    };
    let samples = |width, octets: &[u8]| array(width, octets).samples().collect::<Vec<_>>();
    assert_eq!(samples(1, &[0x7f, 0x80]), [127, -128]);
    assert_eq!(samples(2, &[0xff, 0x7f, 0x00, 0x80]), [32_767, -32_768]);
    assert_eq!(samples(3, &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]), [8_388_607, -1]);
    assert_eq!(samples(4, &[0, 0, 0, 0x80]), [i32::MIN]);
}

#[test]
fn a_stored_observation_has_its_record_number_first() {
    let octets = [&[7, 1, 0, 0][..], &vector("H01")].concat();
    let stored = StoredHealthObservation::decode(&octets).unwrap();
    assert_eq!((stored.record, stored.encode()), (263, Some(octets.clone())));
    every_cut_is_refused(&octets, StoredHealthObservation::decode);
}

#[test]
fn elapsed_times_decode_and_encode() {
    for v in vectors(include_str!("../../../vectors/elapsed_time.txt")) {
        let current = CurrentElapsedTime::decode(&v.octets).expect(v.id);
        let time = current.time;
        let counts = match (time.is_tick_counter(), time.is_utc()) {
            (true, _) => "ticks",
            (_, true) => "utc",
            _ => "local",
        };
        let text = format!(
            "{counts} {} x {} {} zone={} current={} civil={} unset={}",
            time.count,
            time.resolution().term(),
            time.source.term().unwrap(),
            or_dash(time.has_offset().then(|| time.offset_quarters.to_string())),
            time.on_current_timeline(),
            or_dash(time.civil().map(|civil| civil.to_string())),
            current.needs_to_be_set(),
        );
        assert_eq!(text, v.expected, "{}", v.id);
        assert_eq!(current.encode().as_deref(), Some(&*v.octets), "{}", v.id);
        every_other_length_is_refused(&v.octets, CurrentElapsedTime::decode);
    }
}

#[test]
fn a_count_of_more_than_six_octets_is_not_encoded() {
    let time = ElapsedTime { flags: 0, count: ElapsedTime::COUNT_MAX + 1, source: TimeSource(0), offset_quarters: 0 };
    assert_eq!(time.encode(), None);
    assert_eq!(ElapsedTime { count: ElapsedTime::COUNT_MAX, ..time }.civil(), None, "past the year 9999");
}

#[test]
fn health_sensor_features_decode_and_encode() {
    let octets = octets("01 02 b84b0200 1a480200 01 04100100");
    let features = HealthSensorFeatures::decode(&octets).unwrap();
    assert_eq!(features.observation_types, [Mdc(150_456), Mdc(149_530)]);
    assert_eq!(features.specializations, Some(vec![0x0001_1004]));
    assert_eq!(features.encode(), Some(octets.clone()));
    every_other_length_is_refused(&octets, HealthSensorFeatures::decode);
    assert!(HealthSensorFeatures::decode(&[0x02, 0, 0xff]).is_ok(), "a reserved flag may announce it");
}

#[test]
fn the_control_point_is_one_octet() {
    assert_eq!(GhsControlPoint::decode(&[0x80]).unwrap().term(), Some("success"));
    assert_eq!(GhsControlPoint::decode(&[0x33]).unwrap().term(), None);
    assert_eq!(GhsControlPoint::START_LIVE.encode(), [1]);
    every_other_length_is_refused(&[1], GhsControlPoint::decode);
}

/// Vectors H04 and H05: by the layout of philips-labs BLE-GHS-Server-Simulator 271f2aa.
#[test]
fn observations_are_cut_into_segments_and_put_together_again() {
    let cases = [
        ("H01", 0, &["010118000300b84b020022a66a002c00000700", "06200262000000"][..]),
        (
            "H02",
            62,
            &[
                "f90734000300044a020022a66a002c00000700",
                "fc03054a020001200f78000000064a02000120",
                "020f50000000074a020001200f64000000",
            ],
        ),
    ];
    for (id, counter, segments) in cases {
        let whole = vector(id);
        let cut = Segmenter::starting_at(counter).segments(&whole, 18);
        assert_eq!(cut.iter().map(|segment| hex(segment)).collect::<Vec<_>>(), segments);
        let mut assembler = Assembler::default();
        let gathered: Vec<_> = cut.iter().map(|segment| assembler.push(segment)).collect();
        assert!(gathered[..cut.len() - 1].iter().all(|given| *given == (None, None)));
        assert_eq!(gathered.last(), Some(&(None, Some(whole))));
        assert!(!assembler.gathers());
    }
}

fn feed(assembler: &mut Assembler, segments: &[Vec<u8>]) -> (Vec<SegmentError>, Vec<Vec<u8>>) {
    let given: Vec<_> = segments.iter().map(|segment| assembler.push(segment)).collect();
    (given.iter().filter_map(|(error, _)| *error).collect(), given.into_iter().filter_map(|(_, whole)| whole).collect())
}

#[test]
fn an_observation_that_lost_a_segment_is_refused_once_and_the_next_is_whole() {
    let whole = vector("H02");
    for lost in 0..6 {
        let mut segmenter = Segmenter::starting_at(60);
        let mut segments = segmenter.segments(&whole, 9);
        assert_eq!(segments.len(), 6);
        segments.extend(segmenter.segments(&whole, 9));
        segments.remove(lost);
        let (errors, given) = feed(&mut Assembler::default(), &segments);
        let expected = if lost == 0 { SegmentError::WithoutBegin } else { SegmentError::Missing { missing: 1 } };
        assert_eq!((errors, given), (vec![expected], vec![whole.clone()]), "segment {lost}");
    }
}

#[test]
fn whole_observations_that_are_missing_are_told_and_a_counter_that_began_again_is_not() {
    let whole = vector("H01");
    let mut segmenter = Segmenter::starting_at(10);
    let mut cut = || segmenter.segments(&whole, 511);
    let (first, _lost, third) = (cut(), cut(), cut());
    let mut assembler = Assembler::default();
    let (errors, given) = feed(&mut assembler, &[first.clone(), third].concat());
    assert_eq!((errors, given.len()), (vec![SegmentError::Missing { missing: 1 }], 2));
    let (errors, given) = feed(&mut assembler, &[first.clone(), first, Segmenter::default().segments(&whole, 511)].concat());
    assert_eq!((errors, given.len()), (vec![], 3));
}

#[test]
fn what_is_gathered_is_bounded() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.push(&[]), (Some(SegmentError::Empty), None));
    let mut errors = Vec::new();
    for counter in 0..200_u8 {
        let mut segment = vec![SegmentHeader::new(counter == 0, false, counter).0];
        segment.resize(512, 0xaa);
        errors.extend(assembler.push(&segment).0);
    }
    assert_eq!(errors, [SegmentError::TooLong], "told once, the rest is let pass");
    assert!(!assembler.gathers());
    const { assert!(200 * 511 > OBSERVATION_OCTETS_MAX) };
    assert_eq!(assembler.push(&[SegmentHeader::new(true, true, 200).0, 1]), (None, Some(vec![1])));
}

#[test]
fn what_does_not_go_on_is_let_go_of() {
    let mut assembler = Assembler::default();
    assembler.push(&[SegmentHeader::new(true, false, 0).0, 1]);
    assert!(assembler.gathers() && assembler.give_up() && !assembler.gathers() && !assembler.give_up());
    assert_eq!(assembler.push(&[SegmentHeader::new(false, true, 1).0, 1]), (None, None), "the rest is let pass");
}

fn numbers() -> impl Strategy<Value = Number> {
    any::<u32>().prop_map(float)
}

fn arrays() -> impl Strategy<Value = SampleArray> {
    (any::<u16>(), numbers(), numbers(), numbers(), any::<u8>(), 1..=4_u8, 0..9_usize).prop_flat_map(
        |(unit, scale, offset, period, samples_per_period, octets_per_sample, count)| {
            let octets = proptest::collection::vec(any::<u8>(), count * usize::from(octets_per_sample));
            octets.prop_map(move |octets| SampleArray {
                unit: UnitCode(unit),
                scale,
                offset,
                period,
                samples_per_period,
                octets_per_sample,
                counts: SampleCounts::Samples,
                octets,
            })
        },
    )
}

fn simple_values() -> impl Strategy<Value = ObservationValue> {
    let masks = (0..5_usize).prop_flat_map(|size| {
        let mask = || proptest::collection::vec(any::<u8>(), size);
        (mask(), mask(), mask())
    });
    prop_oneof![
        (any::<u16>(), numbers()).prop_map(|(unit, number)| ObservationValue::Numeric(Numeric { unit: UnitCode(unit), number })),
        any::<u32>().prop_map(ObservationValue::Discrete),
        ".{0,9}".prop_map(ObservationValue::Text),
        arrays().prop_map(ObservationValue::SampleArray),
        proptest::collection::vec(any::<u32>(), 0..4).prop_map(ObservationValue::DiscreteEvents),
        masks
            .prop_map(|(supported, is_state, bits)| { ObservationValue::StateEvents(StateEvents { supported, is_state, bits }) }),
    ]
}

fn tlvs() -> impl Strategy<Value = Vec<Tlv>> {
    let tlv = (any::<u32>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..6)).prop_map(|(code, format, octets)| Tlv {
        code: Mdc(code),
        format,
        octets,
    });
    proptest::collection::vec(tlv, 0..3)
}

fn values() -> impl Strategy<Value = ObservationValue> {
    let component = (any::<u32>(), simple_values()).prop_map(|(code, value)| Component { code: Mdc(code), value });
    prop_oneof![
        4 => simple_values(),
        2 => proptest::collection::vec(component, 0..4).prop_map(ObservationValue::Compound),
        1 => tlvs().prop_map(ObservationValue::Tlvs),
    ]
}

prop_compose! {
    fn times()(flags: u8, count in 0..=ElapsedTime::COUNT_MAX, source: u8, offset_quarters: i8) -> ElapsedTime {
        ElapsedTime { flags, count, source: TimeSource(source), offset_quarters }
    }
}

fn lists() -> impl Strategy<Value = Option<Vec<u32>>> {
    proptest::option::of(proptest::collection::vec(any::<u32>(), 0..3))
}

prop_compose! {
    fn observations(everything: bool)(
        observation_type: Option<u32>, time in proptest::option::of(times()), duration in proptest::option::of(numbers()),
        status: Option<u16>, (id, patient) in any::<(Option<u32>, Option<u8>)>(),
        (supplemental, derived_from, has_member) in (lists(), lists(), lists()),
        attributes in proptest::option::of(tlvs()), value in values(),
    ) -> HealthObservation {
        HealthObservation {
            length: if everything { LengthCounts::Everything } else { LengthCounts::AfterHeader },
            observation_type: observation_type.map(Mdc),
            time, duration, status: status.map(ObservationStatus), id, patient, supplemental, derived_from, has_member,
            attributes, value,
        }
    }
}

fn all_observations() -> impl Strategy<Value = HealthObservation> {
    any::<bool>().prop_flat_map(|everything| {
        let bundle = (observations(everything), proptest::collection::vec(observations(everything), 0..3))
            .prop_map(|(outer, members)| HealthObservation { value: ObservationValue::Bundle(members), ..outer });
        prop_oneof![3 => observations(everything), 1 => bundle]
    })
}

proptest! {
    #[test]
    fn observations_survive_the_way_there_and_back(observation in all_observations()) {
        let octets = observation.encode().expect("everything fits");
        prop_assert_eq!(HealthObservation::decode(&octets), Ok(observation));
    }

    #[test]
    fn observations_survive_being_cut_anywhere(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..5), payload in 1..60_usize, counter: u8,
    ) {
        let mut segmenter = Segmenter::starting_at(counter);
        let segments: Vec<_> = bodies.iter().flat_map(|body| segmenter.segments(body, payload)).collect();
        let (errors, given) = feed(&mut Assembler::default(), &segments);
        prop_assert!(errors.is_empty());
        prop_assert_eq!(given, bodies);
    }

    #[test]
    fn no_input_panics(octets in proptest::collection::vec(any::<u8>(), 0..80), class: u8) {
        let _ = HealthObservation::decode(&octets);
        // With a header that fits, so that what is behind it is read.
        let length = u16::try_from(octets.len()).expect("short").to_le_bytes();
        let fitting = [&[class % 10, length[0], length[1]], &octets[..]].concat();
        if let Ok(observation) = HealthObservation::decode(&fitting) {
            prop_assert_eq!(observation.encode(), Some(fitting));
        }
        let _ = StoredHealthObservation::decode(&octets);
        let _ = HealthSensorFeatures::decode(&octets);
        let _ = CurrentElapsedTime::decode(&octets);
        let mut assembler = Assembler::default();
        octets.chunks(3).for_each(|segment| drop(assembler.push(segment)));
    }
}

#[test]
fn lengths_that_fit_neither_reading_are_named() {
    let mut octets = vector("H29");
    octets[1] = 9;
    assert_eq!(HealthObservation::decode(&octets), Err(DecodeError::Truncated { field: "observation" }));
    octets[1] = 7;
    assert_eq!(HealthObservation::decode(&octets), Err(DecodeError::Trailing { octets: 1 }));
}
