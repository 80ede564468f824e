use kit_protocol::gatt::current_time::CurrentTime;
use kit_protocol::gatt::glucose_measurement_context::GlucoseMeasurementContext;
use kit_protocol::gatt::racp::{Bound, Count, OpCode, Request, Response, ResponseCode, Selection};

use super::*;
use crate::link::gatt::POLL_PERIOD;

/// The other end of the air, in virtual time.
struct Central {
    device: Meter,
    now: Moment,
    measurements: Vec<GlucoseMeasurement>,
    contexts: Vec<GlucoseMeasurementContext>,
    responses: Vec<Response>,
}

impl Central {
    fn new(scenario: &str, truth: Truth) -> Self {
        let device = Meter::new(1, &Scenario::parse(scenario).unwrap(), truth);
        let now = Moment::from_nanos(3_000_000_000);
        Self { device, now, measurements: Vec::new(), contexts: Vec::new(), responses: Vec::new() }
    }

    /// Waits until the device advertises, connects and subscribes to everything.
    fn connect(&mut self) {
        let found = (0..10_000).any(|_| {
            self.now = self.now + POLL_PERIOD;
            self.device.advertising(self.now).is_some()
        });
        assert!(found, "it never advertises");
        self.device.connected(self.now);
        for number in [CONTROL_POINT, CONTEXT, MEASUREMENT] {
            self.device.subscribed(self.now, bluetooth(number), true);
        }
    }

    fn ask(&mut self, op_code: OpCode, selection: Selection) -> Result<(), AttError> {
        self.device.write(self.now, bluetooth(CONTROL_POINT), &Request { op_code, selection }.encode())
    }

    /// Takes what comes for so long; true if the device hung up meanwhile.
    fn listen(&mut self, milliseconds: u64) -> bool {
        let until = self.now + Duration::from_millis(milliseconds);
        while self.now < until {
            self.now = self.now + POLL_PERIOD;
            while let Some(outgoing) = self.device.poll(self.now) {
                match number(outgoing.characteristic) {
                    MEASUREMENT => self.measurements.push(GlucoseMeasurement::decode(&outgoing.value).unwrap()),
                    CONTEXT => self.contexts.push(GlucoseMeasurementContext::decode(&outgoing.value).unwrap()),
                    _ => self.responses.push(Response::decode(&outgoing.value).unwrap()),
                }
                if outgoing.confirmed {
                    self.device.confirmed(self.now, outgoing.characteristic);
                }
            }
            if self.device.wants_disconnect(self.now) {
                self.device.disconnected(self.now);
                return true;
            }
        }
        false
    }

    fn numbers(&self) -> Vec<u16> {
        self.measurements.iter().map(|m| m.sequence_number).collect()
    }
}

fn code(request: OpCode, code: ResponseCode) -> Response {
    Response::Code { request, code }
}

fn from(number: u16) -> Selection {
    Selection::GreaterThanOrEqual(Bound::SequenceNumber(number))
}

#[test]
fn a_new_measurement_comes_by_itself_with_its_context_and_then_it_hangs_up() {
    let mut central = Central::new("", Truth::none());
    central.connect();
    assert!(central.listen(6_000), "it hangs up when idle");
    assert_eq!((central.numbers(), central.contexts.len()), (vec![1], 1));
    assert!(central.measurements[0].context_follows);
    assert_eq!(central.contexts[0].sequence_number, 1);
    let milligrams = sample(1, 0).milligrams_per_decilitre;
    let (number, unit) = central.measurements[0].concentration.unwrap().customary();
    let expected = kit_protocol::decimal::Decimal::whole(milligrams.into());
    assert_eq!((number, unit), (kit_protocol::mder::Number::Finite(expected), "mg/dL"));
}

#[test]
fn i4_the_memory_may_hold_an_earlier_patients_records_of_days_before() {
    let mut central = Central::new("records=50", Truth::none());
    central.connect();
    central.ask(OpCode::REPORT, Selection::Last).unwrap();
    central.listen(200);
    assert_eq!((central.numbers(), &central.responses[..]), (vec![51], &[code(OpCode::REPORT, ResponseCode::SUCCESS)][..]));
    central.measurements.clear();
    central.ask(OpCode::REPORT, Selection::All).unwrap();
    central.listen(1_000);
    assert_eq!(central.numbers(), (1..=51).collect::<Vec<_>>());
    let times: Vec<_> = central.measurements.iter().map(|m| m.user_facing_time().unwrap()).collect();
    let day_before = times[50].seconds().unwrap() - 86_400;
    assert!(times[..50].iter().all(|time| time.seconds().unwrap() < day_before + 3_600));
}

#[test]
fn the_control_point_knows_every_operator_and_refuses_as_the_standard_says() {
    let mut central = Central::new("records=5", Truth::none());
    central.connect();
    central.listen(200);
    central.measurements.clear();
    for (selection, expected) in [
        (from(4), vec![4, 5, 6]),
        (Selection::LessThanOrEqual(Bound::SequenceNumber(2)), vec![1, 2]),
        (Selection::WithinRange(Bound::SequenceNumber(2), Bound::SequenceNumber(3)), vec![2, 3]),
        (Selection::First, vec![1]),
        (Selection::Last, vec![6]),
    ] {
        central.measurements.clear();
        central.ask(OpCode::REPORT, selection.clone()).unwrap();
        assert_eq!(central.ask(OpCode::REPORT_NUMBER, Selection::All), Err(AttError::ProcedureInProgress));
        central.listen(300);
        assert_eq!(central.numbers(), expected);
        central.responses.clear();
        central.ask(OpCode::REPORT_NUMBER, selection).unwrap();
        central.listen(100);
        let count = Count::U16(u16::try_from(expected.len()).unwrap());
        assert_eq!(central.responses, [Response::NumberOfStoredRecords(count)]);
    }
    for (op_code, selection, expected) in [
        (OpCode::REPORT, from(7), ResponseCode::NO_RECORDS_FOUND),
        (OpCode::REPORT, Selection::Null, ResponseCode::INVALID_OPERATOR),
        (OpCode::REPORT, Selection::GreaterThanOrEqual(Bound::RecordNumber(1)), ResponseCode::OPERAND_NOT_SUPPORTED),
        (OpCode::COMBINED_REPORT, Selection::All, ResponseCode::OP_CODE_NOT_SUPPORTED),
        (OpCode(9), Selection::All, ResponseCode::OP_CODE_NOT_SUPPORTED),
        (OpCode::DELETE, from(6), ResponseCode::SUCCESS),
        (OpCode::ABORT, Selection::Null, ResponseCode::SUCCESS),
    ] {
        central.responses.clear();
        central.ask(op_code, selection).unwrap();
        central.listen(100);
        assert_eq!(central.responses, [code(op_code, expected)]);
    }
    let fresh = Central::new("", Truth::none());
    let mut unsubscribed = fresh;
    unsubscribed.device.connected(unsubscribed.now);
    unsubscribed.device.live(unsubscribed.now + Duration::from_secs(1));
    assert_eq!(unsubscribed.ask(OpCode::REPORT, Selection::All), Err(AttError::NotSubscribed));
}

#[test]
fn a_record_on_a_link_that_ended_is_still_in_the_memory_and_truth_says_what_came() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("truth");
    let mut central = Central::new("at=1 fault=disconnect", Truth::to(&file).unwrap());
    central.connect();
    assert!(central.listen(1_000), "it hangs up with the record");
    assert!(central.measurements.is_empty());
    central.connect();
    central.ask(OpCode::REPORT, Selection::All).unwrap();
    central.listen(500);
    assert!(central.numbers().contains(&1));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#""record":1"#) && text.contains(r#""delivered":true"#), "{text}");
}

#[test]
fn the_clock_is_written_and_every_tenth_drop_is_control_solution() {
    let mut central = Central::new("at=0 fault=clock unset=1", Truth::none());
    central.connect();
    let time = CurrentTime::decode(&central.device.read(central.now, bluetooth(CURRENT_TIME)).unwrap()).unwrap().date_time;
    assert_eq!(time.year, 2000);
    let set = CurrentTime::set_to(kit_protocol::gatt::date_time::DateTime { year: 2026, ..time });
    central.device.write(central.now, bluetooth(CURRENT_TIME), &set.encode()).unwrap();
    let time = CurrentTime::decode(&central.device.read(central.now, bluetooth(CURRENT_TIME)).unwrap()).unwrap().date_time;
    assert_eq!(time.year, 2026);
    let control: Vec<_> = (0..30).filter(|index| sample(7, *index).control_solution).collect();
    assert_eq!(control, [9, 19, 29]);
}
