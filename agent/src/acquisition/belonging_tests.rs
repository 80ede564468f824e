use std::collections::BTreeSet;

use kit_protocol::reading::Kind;

use super::*;
use crate::identity::tenure::Activation;

/// 2026-11-22T00:00:00Z, Unix seconds: when this boot began, by a right clock.
const BOOT_UNIX_S: i64 = 1_795_305_600;
const HOUR: i64 = 3_600;

fn clock(quality: ClockQuality) -> wire::Clock {
    wire::Clock { boot_id: vec![1; 16], offset_us: BOOT_UNIX_S * 1_000_000, quality: quality.into(), error_ms: 0 }
}

/// A time of the device's, in seconds since this boot by a right clock.
fn civil(second: i64) -> DateTime {
    let civil = jiff::Timestamp::from_second(BOOT_UNIX_S + second).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let octet = |field: i8| u8::try_from(field).unwrap();
    DateTime {
        year: u16::try_from(civil.year()).unwrap(),
        month: octet(civil.month()),
        day: octet(civil.day()),
        hour: octet(civil.hour()),
        minute: octet(civil.minute()),
        second: octet(civil.second()),
    }
}

fn at(second: i64) -> Moment {
    Moment::from_nanos(u64::try_from(second).unwrap() * 1_000_000_000)
}

/// An assignment, the second on this kit, active since that second of this boot.
fn since(second: i64) -> Tenure {
    let active =
        Activation { assignment: "A-2".into(), clock: Some(clock(ClockQuality::Synced)), boottime_ns: at(second).as_nanos() };
    Tenure { active: Some(active), ended: 1 }
}

/// A conversation with a device that keeps records, and the gateway's clock.
struct Talk {
    judge: Judge,
    quality: ClockQuality,
}

impl Talk {
    fn new(tenure: Tenure, memory: DeviceMemory) -> Self {
        let judge = Judge::new(tenure, memory, Slots::default(), true, false);
        Self { judge, quality: ClockQuality::Synced }
    }

    fn after(self, tenure: Tenure) -> Self {
        Self::new(tenure, self.judge.memory)
    }

    fn clock_says(&mut self, device: i64, second: i64) {
        let clock = clock(self.quality);
        self.judge.clock(civil(device), at(second), &clock);
    }

    fn judged(&mut self, measured: &Measured) -> Whose {
        let clock = clock(self.quality);
        let known = is_known(&clock);
        let seconds = i64::try_from(measured.received.as_nanos() / 1_000_000_000).unwrap();
        let now = Now { clock: &clock, civil: known.then(|| civil(seconds)) };
        let mut name = [0; 8];
        let number = measured.record.unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let time = measured.device_time.and_then(super::seconds).unwrap_or(0);
        name.copy_from_slice(&(number ^ time.unsigned_abs()).to_be_bytes());
        let named = measured.record.is_some() || measured.device_time.is_some();
        self.judge.measured(measured, named.then_some(Origin(name)), &now)
    }

    fn live(&mut self, device: i64, received: i64) -> Whose {
        let measured = Measured { device_time: Some(civil(device)), ..Measured::new(Kind::BloodPressure, at(received)) };
        self.judge.stirred(at(received));
        self.judged(&measured)
    }

    fn stored(&mut self, device: Option<i64>, record: Option<u64>, received: i64) -> Whose {
        let measured = Measured {
            device_time: device.map(civil),
            record,
            memory: Memory::Stored,
            ..Measured::new(Kind::Glucose, at(received))
        };
        self.judged(&measured)
    }
}

#[test]
fn i4_a_devices_time_moved_by_its_offset_decides_before_its_numbers() {
    // The device is two hours fast; the patient's assignment began at 10:00.
    let mut talk = Talk::new(since(10 * HOUR), DeviceMemory::default());
    talk.clock_says(13 * HOUR, 11 * HOUR);
    for (device, whose) in [
        (12 * HOUR - 2, Whose::NotThePatient),
        (12 * HOUR, Whose::Ours),
        (12 * HOUR + 1_800, Whose::Ours),
        (11 * HOUR, Whose::NotThePatient),
    ] {
        assert_eq!(talk.stored(Some(device), Some(9), 11 * HOUR), whose, "{device}");
    }
    assert_eq!(talk.judge.offset_ms(&clock(ClockQuality::Synced)), Some(-2 * HOUR * 1_000));
}

#[test]
fn i4_no_wall_clock_is_needed_within_a_boot() {
    let mut talk = Talk::new(since(10 * HOUR), DeviceMemory::default());
    talk.quality = ClockQuality::Unknown;
    talk.clock_says(400 * 24 * HOUR, 11 * HOUR);
    assert_eq!(talk.stored(Some(400 * 24 * HOUR - 1_800), None, 11 * HOUR), Whose::Ours);
    assert_eq!(talk.stored(Some(400 * 24 * HOUR - 2 * HOUR), None, 11 * HOUR), Whose::NotThePatient);
}

#[test]
fn i4_an_activation_before_this_boot_is_placed_by_both_clocks_or_not_at_all() {
    let mut tenure = since(0);
    // Two hours before this boot, by clocks that are known to within half an hour.
    if let Some(active) = &mut tenure.active {
        let plausible = wire::Clock { error_ms: 1_800_000, ..clock(ClockQuality::Plausible) };
        active.clock = Some(wire::Clock { boot_id: vec![9; 16], offset_us: (BOOT_UNIX_S - 2 * HOUR) * 1_000_000, ..plausible });
    }
    let judged = |quality, device| {
        let mut talk = Talk::new(tenure.clone(), DeviceMemory::default());
        talk.quality = quality;
        talk.clock_says(HOUR, HOUR);
        talk.stored(Some(device), None, HOUR)
    };
    let expected = [
        (60, Whose::Ours, Whose::Ours),
        (-HOUR, Whose::Ours, Whose::Unknown),
        (-2 * HOUR, Whose::Unknown, Whose::Unknown),
        (-3 * HOUR, Whose::NotThePatient, Whose::Unknown),
    ];
    for (device, known, unknown) in expected {
        assert_eq!(judged(ClockQuality::Synced, device), known, "{device}, with a clock");
        assert_eq!(judged(ClockQuality::Unknown, device), unknown, "{device}, without");
    }
}

#[test]
fn i4_a_memory_without_times_gives_what_is_above_the_highest_number_seen_after_the_last_patient() {
    let mut first = Talk::new(since(0), DeviceMemory { highest: Some(40), floor: Some(10), ended: 0, ..Default::default() });
    assert_eq!(first.stored(None, Some(41), 5), Whose::Unknown, "seen before the last patient left: tells nothing");
    assert!(!first.judge.memory(Some(50)));
    assert_eq!(first.stored(None, Some(50), 6), Whose::NotThePatient);
    assert_eq!(first.stored(None, Some(51), 6), Whose::Ours);

    let mut second = first.after(since(0));
    assert!(!second.judge.memory(Some(53)));
    assert_eq!(second.stored(None, Some(52), 7), Whose::Ours);
    assert_eq!(second.stored(None, Some(49), 7), Whose::NotThePatient);

    // Cleared by hand, and measured three times since.
    let mut third = second.after(since(0));
    assert!(third.judge.memory(Some(3)), "numbers begin again");
    assert_eq!((1..=3).map(|n| third.stored(None, Some(n), 8)).collect::<Vec<_>>(), [Whose::Ours; 3]);
    let mut fourth = third.after(since(0));
    assert!(!fourth.judge.memory(Some(5)));
    assert_eq!(fourth.stored(None, Some(5), 9), Whose::Ours);
}

#[test]
fn i4_a_memory_cleared_before_the_kit_saw_it_again_may_hold_the_last_patients_new_records() {
    let seen = DeviceMemory { highest: Some(50), floor: Some(0), ended: 0, ..Default::default() };
    let mut talk = Talk::new(since(0), seen);
    assert!(talk.judge.memory(Some(7)), "numbers began again");
    assert_eq!(talk.stored(None, Some(7), 5), Whose::NotThePatient);
    assert_eq!(talk.stored(None, Some(8), 5), Whose::Ours);
}

#[test]
fn i4_without_an_assignment_everything_is_kept_and_what_is_seen_is_the_next_ones_floor() {
    let mut none = Talk::new(Tenure { active: None, ended: 1 }, DeviceMemory::default());
    none.judge.memory(Some(50));
    assert_eq!(none.stored(None, Some(3), 5), Whose::Ours);
    let mut next = none.after(since(10));
    assert_eq!(next.stored(None, Some(51), 11), Whose::Ours);
    assert_eq!(next.stored(None, Some(50), 11), Whose::NotThePatient);
}

#[test]
fn i4_a_home_cuff_whose_clock_nobody_reads_loses_nothing() {
    // It measured 20 s ago, on the assignment's first morning; its clock is right, or has no date, or ours is not known.
    let mut right = Talk::new(since(8 * HOUR), DeviceMemory::default());
    assert_eq!(right.live(9 * HOUR - 20, 9 * HOUR), Whose::Ours);
    assert_eq!(right.live(9 * HOUR - 1_800, 9 * HOUR), Whose::Ours, "and half an hour ago, by the clock that is known now");
    assert_eq!(right.live(8 * HOUR - 120, 9 * HOUR), Whose::NotThePatient);

    let mut unset = Talk::new(since(8 * HOUR), DeviceMemory::default());
    let year = DateTime { year: 2010, ..civil(0) };
    let measured = Measured { device_time: Some(year), ..Measured::new(Kind::BloodPressure, at(9 * HOUR)) };
    assert_eq!(unset.judged(&measured), Whose::Ours);

    let mut nobody_knows = Talk::new(since(8 * HOUR), DeviceMemory::default());
    nobody_knows.quality = ClockQuality::Unknown;
    assert_eq!(nobody_knows.live(5 * HOUR, 9 * HOUR), Whose::Ours);
}

#[test]
fn i4_a_nurses_cuff_an_hour_fast_does_not_give_the_last_patients_record_to_the_next() {
    // Measured at 8:30, stamped 9:30; the next visit began at 8:55, and the cuff is met at 9:00.
    let mut fast = Talk::new(since(9 * HOUR - 300), DeviceMemory::default());
    assert_eq!(fast.live(9 * HOUR + 1_800, 9 * HOUR), Whose::Unknown);
    // 70 minutes ago, stamped ten minutes ago: before the visit all the same.
    let mut fast = Talk::new(since(9 * HOUR - 900), DeviceMemory::default());
    assert_eq!(fast.live(9 * HOUR - 600, 9 * HOUR), Whose::Unknown);
    // A right clock: a minute before the visit began is not the next patient's, however fresh.
    let mut right = Talk::new(since(9 * HOUR - 60), DeviceMemory::default());
    assert_ne!(right.live(9 * HOUR - 90, 9 * HOUR), Whose::Ours);
    // What it measures while connected is, and tells its clock.
    assert_eq!(fast.live(10 * HOUR + 30, 9 * HOUR + 30), Whose::Ours, "after 30 s of silence");
    assert_eq!(fast.live(9 * HOUR - 600, 9 * HOUR + 31), Whose::NotThePatient);
}

#[test]
fn i4_a_clock_a_day_wrong_at_most_cannot_hide_who_measured_after_a_day() {
    let day = 24 * HOUR;
    let mut home = Talk::new(since(0), DeviceMemory::default());
    for wrong in [-HOUR, HOUR, 12 * HOUR, -12 * HOUR] {
        let mut again = home.after(since(0));
        assert_eq!(again.live(7 * day + wrong, 7 * day), Whose::Ours, "{wrong}");
        home = again.after(since(0));
    }
}

#[test]
fn i4_a_wrong_clock_is_known_from_the_second_measurement_on_and_a_record_sent_twice_is_no_second() {
    let year = 365 * 24 * HOUR;
    let mut first = Talk::new(since(0), DeviceMemory::default());
    assert_eq!(first.live(HOUR - year, HOUR), Whose::NotThePatient, "a year ago, as far as anybody knows");
    let mut slow = Talk::new(since(0), DeviceMemory::default());
    assert_eq!(slow.live(HOUR + year, HOUR), Whose::Unknown);
    let mut same = slow.after(since(0));
    assert_eq!(same.live(HOUR + year, HOUR + 60), Whose::Unknown, "the same one again");
    let mut next = same.after(since(0));
    assert_eq!(next.live(9 * HOUR + year, 9 * HOUR), Whose::Ours);
}

#[test]
fn i4_what_was_another_patients_stays_so_when_the_clock_is_set() {
    // Two hours fast: measured at 10:00, stamped 12:00; assignment at 11:00, met at 11:05, clock set.
    let mut first = Talk::new(since(11 * HOUR), DeviceMemory::default());
    first.clock_says(13 * HOUR + 300, 11 * HOUR + 300);
    assert_eq!(first.stored(Some(12 * HOUR), Some(7), 11 * HOUR + 301), Whose::NotThePatient);
    first.clock_says(11 * HOUR + 302, 11 * HOUR + 302);
    assert_eq!(first.judge.poll_memory(false).map(|memory| memory.refused.len()), Some(1), "kept before anything follows");
    // One that was not sent then, and the one that was, an hour and a half later.
    let mut second = first.after(since(11 * HOUR));
    second.clock_says(12 * HOUR + 1_800, 12 * HOUR + 1_800);
    assert_eq!(second.stored(Some(12 * HOUR), Some(7), 12 * HOUR + 1_801), Whose::NotThePatient);
    assert_eq!(second.stored(Some(12 * HOUR + 60), None, 12 * HOUR + 1_801), Whose::Unknown, "by either clock");
    assert_eq!(second.stored(Some(12 * HOUR + 1_795), None, 12 * HOUR + 1_801), Whose::Unknown);
}

#[test]
fn i4_another_users_slot_and_no_slot_on_a_shared_device_are_not_the_patients() {
    let judged = |slots, slot| {
        let mut judge = Judge::new(since(0), DeviceMemory::default(), slots, true, false);
        let measured = Measured { user_slot: slot, ..Measured::new(Kind::BloodPressure, at(5)) };
        let clock = clock(ClockQuality::Synced);
        judge.measured(&measured, None, &Now { clock: &clock, civil: None })
    };
    let bound = Slots { bound: Some(1), shared: false };
    let shared = Slots { bound: Some(1), shared: true };
    for (slots, slot, whose) in [
        (bound, Some(1), Whose::Ours),
        (bound, Some(2), Whose::NotThePatient),
        (bound, None, Whose::Ours),
        (shared, None, Whose::NotThePatient),
        (shared, Some(1), Whose::Ours),
        (Slots::default(), Some(2), Whose::Ours),
    ] {
        assert_eq!(judged(slots, slot), whose, "{slots:?} {slot:?}");
    }
}

/// A scale that only advertises, active since long ago.
fn scale(memory: DeviceMemory, needs_window: bool) -> Talk {
    let talk = Talk::new(since(0), memory);
    Talk { judge: talk.judge.of_broadcast(needs_window), ..talk }
}

fn window(opened: i64, closes: i64) -> Option<Window> {
    Some(Window { opened: at(opened), closes: at(closes) })
}

#[test]
fn i4_what_is_advertised_counts_in_a_window_once() {
    let mut talk = scale(DeviceMemory::default(), true);
    assert_eq!(talk.live(90, 100), Whose::NotThePatient, "nobody asked for it");
    talk.judge.window(window(200, 260));
    assert_eq!(talk.live(90, 210), Whose::NotThePatient, "it is on the air still, or again");
    assert_eq!(talk.live(205, 199), Whose::NotThePatient, "heard before the window was opened");
    assert_eq!(talk.live(215, 215), Whose::Ours);
    // Implausible: refused by the Recorder, and so no reading of the window.
    assert_eq!(talk.live(220, 220), Whose::Ours);
    talk.judge.filed();
    assert_eq!(talk.live(230, 230), Whose::NotThePatient, "the nurse steps on it herself");
    talk.judge.window(window(300, 360));
    assert_eq!(talk.live(361, 360), Whose::NotThePatient, "too late");
    assert_eq!(talk.live(359, 359), Whose::Ours, "told late: it waited for its impedance");
    talk.judge.window(None);
    assert_eq!(talk.live(400, 400), Whose::NotThePatient);
}

#[test]
fn i4_a_weight_that_nobody_saw_come_about_counts_by_its_time_in_the_window_or_not_at_all() {
    let mut talk = scale(DeviceMemory::default(), true);
    talk.judge.window(window(1_000, 1_060));
    assert_eq!(talk.stored(Some(1_010), None, 1_010), Whose::Unknown, "no clock is known that could tell");
    assert_eq!(talk.stored(None, None, 1_011), Whose::NotThePatient, "nothing names it");
    // One that is seen to come about, an hour slow, tells the scale's clock.
    assert_eq!(talk.live(2_000 - HOUR, 2_000), Whose::NotThePatient);
    let mut later = scale(talk.judge.memory.clone(), true);
    later.judge.window(window(3_000, 3_060));
    assert_eq!(later.stored(Some(2_900 - HOUR), None, 3_010), Whose::NotThePatient, "weighed before");
    assert_eq!(later.stored(Some(3_005 - HOUR), None, 3_010), Whose::Ours);
}

#[test]
fn i4_without_a_window_what_is_advertised_is_the_assignments_by_its_time() {
    let mut talk = Talk::new(since(500_000), DeviceMemory::default());
    talk.judge = talk.judge.of_broadcast(false);
    assert_eq!(talk.stored(None, None, 500_010), Whose::NotThePatient, "sent again after a restart, it would be another one");
    assert_eq!(talk.stored(Some(500_020), None, 500_020), Whose::Unknown, "it may be of before");
    assert_eq!(talk.live(500_030, 500_030), Whose::Ours);
    assert_eq!(talk.stored(Some(500_040), None, 500_040), Whose::Ours);
    assert_eq!(talk.stored(Some(400_000), None, 500_050), Whose::NotThePatient);
}

#[test]
fn i4_in_a_window_without_an_assignment_a_weight_is_kept_as_unassigned_and_outside_of_one_not() {
    let mut talk = Talk::new(Tenure::default(), DeviceMemory::default());
    talk.judge = talk.judge.of_broadcast(true);
    assert_eq!(talk.live(90, 100), Whose::NotThePatient);
    talk.judge.window(window(200, 260));
    assert_eq!(talk.live(210, 210), Whose::Ours);
}

#[test]
fn records_are_asked_for_from_where_they_can_be_the_patients() {
    let known = DeviceMemory { highest: Some(60), floor: Some(60), ended: 1, ..Default::default() };
    assert_eq!(Judge::asked_up_to(&since(0), &known, Some(50)), Some(60));
    assert_eq!(
        Judge::asked_up_to(&Tenure { ended: 2, ..since(0) }, &known, Some(50)),
        Some(50),
        "the last patient's are counted"
    );
    let cleared = DeviceMemory { highest: Some(3), floor: Some(0), ended: 1, ..Default::default() };
    assert_eq!(Judge::asked_up_to(&since(0), &cleared, Some(50)), None);
}

proptest::proptest! {
    #[test]
    fn i4_whatever_a_device_says_nothing_panics_and_what_is_kept_is_bounded(
        said in proptest::collection::vec((0_u8..5, proptest::num::i64::ANY, 0_u64..100, 0_i64..1_000_000), 0..200),
        year in 0_u16..=9_999,
    ) {
        let mut talk = Talk::new(since(500_000), DeviceMemory::default());
        for (what, device, number, second) in said {
            let device = device % 100_000_000;
            match what {
                0 => talk.clock_says(device, second),
                1 => drop(talk.judge.memory((number > 0).then_some(number))),
                2 => drop(talk.live(device, second)),
                3 => drop(talk.stored(Some(device), Some(number), second)),
                _ => talk.judge.clock(DateTime { year, month: 2, day: 31, ..civil(0) }, at(second), &clock(ClockQuality::Synced)),
            }
        }
        let kept = talk.judge.memory.clone();
        proptest::prop_assert!(talk.judge.sightings.len() <= SIGHTINGS_MAX && kept.offsets_s.len() <= OFFSETS_MAX);
        let once: BTreeSet<&Vec<u8>> = kept.refused.iter().collect();
        proptest::prop_assert!(once.len() == kept.refused.len() && once.len() <= REFUSED_MAX);
    }
}
