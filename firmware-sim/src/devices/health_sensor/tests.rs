use kit_protocol::gatt::health_observation::StoredHealthObservation;
use kit_protocol::gatt::health_observation_segment::Assembler;
use kit_protocol::gatt::health_sensor_features::GhsControlPoint;
use kit_protocol::gatt::racp::{Count, OpCode, Request, Response, ResponseCode, Selection};

use super::super::central::Central;
use super::*;
use crate::link::gatt::Peripheral as _;

const EVERYTHING: [Uuid; 4] = [bluetooth(LIVE), bluetooth(STORED), bluetooth(GHS_CONTROL_POINT), bluetooth(CONTROL_POINT)];

fn central(scenario: &str) -> Central<Sensor> {
    Central::new(Sensor::new(2, &Scenario::parse(scenario).unwrap(), Truth::none()))
}

fn start(central: &mut Central<Sensor>) {
    central.write(bluetooth(GHS_CONTROL_POINT), &GhsControlPoint::START_LIVE.encode()).unwrap();
}

/// The whole observations of these segments.
fn assembled(segments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut assembler = Assembler::default();
    let mut whole = Vec::new();
    for segment in segments {
        let (error, octets) = assembler.push(&segment);
        assert!(error.is_none(), "{error:?}");
        whole.extend(octets);
    }
    whole
}

fn live(central: &mut Central<Sensor>) -> Vec<HealthObservation> {
    assembled(central.take(bluetooth(LIVE))).iter().map(|octets| HealthObservation::decode(octets).unwrap()).collect()
}

/// Reports of the memory, with how they went.
fn report(central: &mut Central<Sensor>, op_code: OpCode, selection: Selection) -> (Vec<StoredHealthObservation>, Response) {
    central.write(bluetooth(CONTROL_POINT), &Request { op_code, selection }.encode()).unwrap();
    // It hangs up soon after it has answered.
    let answered = (0..1_000).any(|_| {
        central.listen(10);
        central.heard.iter().any(|(from, _)| *from == bluetooth(CONTROL_POINT))
    });
    assert!(answered, "no response");
    let heard = std::mem::take(&mut central.heard);
    let of = |number: u16| heard.iter().filter(move |(from, _)| *from == bluetooth(number)).map(|(_, octets)| octets.clone());
    let records = assembled(of(STORED).collect());
    let response = of(CONTROL_POINT).next_back().unwrap();
    let records = records.iter().map(|octets| StoredHealthObservation::decode(octets).unwrap()).collect();
    (records, Response::decode(&response).unwrap())
}

fn numeric(value: &ObservationValue) -> f64 {
    let ObservationValue::Numeric(numeric) = value else { panic!("{value:?}") };
    let kit_protocol::mder::Number::Finite(number) = numeric.number else { panic!("{numeric:?}") };
    number.to_f64()
}

#[test]
fn what_is_observed_comes_live_to_who_started_it_and_is_the_patients() {
    let mut central = central("");
    central.connect(&EVERYTHING);
    start(&mut central);
    central.listen(60_000);
    let heard = live(&mut central);
    let patient = Patient::new(2);
    let of = |code: Mdc| heard.iter().filter(|observation| observation.observation_type == Some(code)).collect::<Vec<_>>();
    let spo2 = of(Mdc::SPO2);
    assert!((5..=7).contains(&spo2.len()), "every ten seconds: {}", spo2.len());
    assert!((numeric(&spo2[0].value) - patient.vitals(4.0).spo2).abs() <= 1.0);
    let [pressure] = of(Mdc(150_020))[..] else { panic!("one pressure") };
    let ObservationValue::Compound(parts) = &pressure.value else { panic!("{pressure:?}") };
    assert!((numeric(&parts[0].value) - patient.vitals(12.0).systolic).abs() <= 1.0);
    let [blow] = of(Mdc(528_413))[..] else { panic!("one blow") };
    let ObservationValue::Compound(parts) = &blow.value else { panic!("{blow:?}") };
    assert!((numeric(&parts[0].value) - Lungs::new(2).blow(0).fvc()).abs() <= 0.01);
}

#[test]
fn an_ecg_has_ten_seconds_of_both_leads_however_small_the_segments() {
    for mtu in [23, 185] {
        let mut central = central("signal=synthetic");
        central.connect(&EVERYTHING);
        central.device.agreed_mtu(central.now, mtu);
        start(&mut central);
        central.listen(90_000);
        assert!(central.heard.iter().all(|(_, octets)| octets.len() <= usize::from(mtu) - 3), "{mtu}");
        let heard = live(&mut central);
        let ecg = heard.iter().find(|observation| observation.observation_type == Some(Mdc::ECG)).unwrap();
        let ObservationValue::Compound(parts) = &ecg.value else { panic!("{ecg:?}") };
        for (lead, part) in parts.iter().enumerate() {
            let ObservationValue::SampleArray(array) = &part.value else { panic!("{part:?}") };
            assert_eq!((part.code, array.len()), (ECG_LEADS[lead], 2_500));
            let last = Patient::new(2).ecg(ECG_AT.as_secs_f64() - 0.004)[lead] * DIGITS_PER_MILLIVOLT;
            assert!((f64::from(array.samples().last().unwrap()) - last).abs() <= 4.0, "{mtu}, lead {lead}");
        }
    }
}

#[test]
fn what_nobody_started_is_stored_and_reported_with_its_number_as_often_as_it_is_asked_for() {
    let mut central = central("");
    central.wait(25);
    central.connect(&EVERYTHING);
    let (records, response) = report(&mut central, OpCode::COMBINED_REPORT, Selection::All);
    let numbers: Vec<u32> = records.iter().map(|record| record.record).collect();
    assert_eq!(numbers[..7], [1, 2, 3, 4, 5, 6, 7], "three times the oximeter, the cuff once");
    assert_eq!(response, Response::CombinedReport(Count::U32(u32::try_from(records.len()).unwrap())));
    let (again, _) = report(&mut central, OpCode::COMBINED_REPORT, Selection::All);
    assert_eq!(again[..7], records[..7]);
    let (last, response) = report(&mut central, OpCode::REPORT, Selection::Last);
    assert_eq!(last.len(), 1);
    assert_eq!(response, Response::Code { request: OpCode::REPORT, code: ResponseCode::SUCCESS });
}

#[test]
fn what_a_link_cut_off_is_stored_and_not_lost() {
    let mut central = central("");
    central.connect(&EVERYTHING);
    start(&mut central);
    central.listen(30_500);
    central.take(bluetooth(LIVE));
    // The ECG is on its way: three segments of some hundred.
    let sent = (0..1_000).filter_map(|_| {
        central.now = central.now + Duration::from_millis(10);
        let outgoing = central.device.poll(central.now)?;
        central.device.confirmed(central.now, outgoing.characteristic);
        Some(outgoing.characteristic)
    });
    assert_eq!(sent.take(3).collect::<Vec<_>>(), [bluetooth(LIVE); 3]);
    central.hang_up();
    central.connect(&EVERYTHING);
    let (records, _) = report(&mut central, OpCode::COMBINED_REPORT, Selection::All);
    assert!(records.iter().any(|record| record.observation.observation_type == Some(Mdc::ECG)), "{}", records.len());
}

#[test]
fn it_asks_for_encryption_and_refuses_what_it_does_not_know() {
    let mut central = central("");
    central.connect(&[]);
    let services = central.device.services();
    let sensor = services.iter().find(|service| service.uuid == bluetooth(HEALTH_SENSOR_SERVICE)).unwrap();
    assert!(sensor.characteristics.iter().all(|each| each.needs_security == Security::Unauthenticated));
    assert!(central.write(bluetooth(GHS_CONTROL_POINT), &[1]).is_err(), "nobody would hear the answer");
    assert!(central.write(bluetooth(LIVE), &[1]).is_err());
    central.device.subscribed(central.now, bluetooth(GHS_CONTROL_POINT), true);
    central.write(bluetooth(GHS_CONTROL_POINT), &[0x77]).unwrap();
    central.listen(100);
    assert_eq!(central.take(bluetooth(GHS_CONTROL_POINT)), [GhsControlPoint::ERROR.encode().to_vec()]);
}

#[test]
fn it_hangs_up_on_who_asks_nothing_and_keeps_what_it_has_through_a_reboot() {
    let mut central = central("at=30 fault=reboot for=2");
    central.connect(&EVERYTHING);
    assert!(central.listen(15_000), "nothing was asked");
    central.wait(25);
    central.connect(&EVERYTHING);
    let (records, _) = report(&mut central, OpCode::COMBINED_REPORT, Selection::All);
    assert_eq!(records[0].record, 1);
    let times: Vec<_> = records.iter().map(|record| record.observation.time.and_then(|time| time.civil())).collect();
    assert!(times.iter().all(Option::is_some) && times.is_sorted_by_key(|time| time.and_then(|time| time.seconds())));
}

#[test]
fn a_finger_off_makes_no_observation() {
    let mut central = central("at=1 fault=sensor-off for=40");
    central.connect(&EVERYTHING);
    start(&mut central);
    central.listen(30_000);
    assert!(live(&mut central).iter().all(|observation| observation.observation_type != Some(Mdc::SPO2)));
}
