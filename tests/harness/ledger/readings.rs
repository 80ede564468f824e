//! Spot measurements: each made one stored once.

use std::collections::{HashMap, HashSet};

use super::truth::{MadeReading, Measurement};
use super::{
    ACTIVATION_TOLERANCE, ADVERTISED_AFTER, ADVERTISED_BEFORE, Balance, Fault, RECOVERY_ALLOWANCE, Run, SPOT_TOLERANCE,
    StoredReading, assignment_at, nanoseconds,
};

pub(super) fn compare(run: &Run, balance: &mut Balance) {
    let mut waiting: HashMap<(&str, &Measurement), Vec<&StoredReading>> = HashMap::new();
    for stored in &run.readings {
        balance.share(&stored.device).records += 1;
        if stored.assignment.as_deref() != assignment_at(&run.periods, stored.boottime_ns) {
            balance.wrong_assignment += 1;
            balance.find(format!("reading {} is under assignment {:?}", stored.key, stored.assignment));
        }
        if !stored.derived {
            waiting.entry((&stored.device, &stored.measurement)).or_default().push(stored);
        }
    }
    for (made, delivered) in once_each(&run.truth.readings) {
        let found = waiting.get_mut(&(made.device.as_str(), &made.measurement));
        if let Some(stored) = found.and_then(|candidates| take(made, candidates)) {
            if stored
                .assignment
                .as_deref()
                .is_some_and(|assignment| !measured_near(run, made.measured_ns).contains(&Some(assignment)))
            {
                balance.wrong_assignment += 1;
                balance.find(format!("reading {} was measured before {:?} began", stored.key, stored.assignment));
            }
            let share = balance.share(&made.device);
            share.made += 1;
            share.stored += 1;
        } else if !delivered && !was_heard(run, made) {
            balance.undelivered += 1;
        } else if waited_for_another(run, made.boottime_ns, made.measured_ns) {
            // Another patient's, out of the device's memory: it is the kit's to refuse.
            balance.not_the_patient += 1;
        } else {
            balance.share(&made.device).made += 1;
            if !excused(run, balance, made) {
                balance.missing += 1;
                balance.find(format!("missing: {} {:?} made at {}", made.device, made.measurement, made.boottime_ns));
            }
        }
    }
    let spot: HashSet<(&str, &str)> =
        run.truth.readings.iter().map(|made| (made.device.as_str(), made.measurement.kind.as_str())).collect();
    for ((device, measurement), extra) in waiting {
        // A stream, be it of samples or of values alone, gives a value every ten seconds; those are not counted. No device
        // names one of them by number or time.
        let values_alone = !measurement.named() && !spot.contains(&(device, measurement.kind.as_str()));
        if values_alone || run.truth.streams.keys().any(|stream| stream.device == device) {
            continue;
        }
        for stored in extra {
            balance.double += 1;
            balance.find(format!("double, or made by nothing: reading {} of {}", stored.key, stored.device));
        }
    }
}

/// What a device named by number or time is one measurement, however often it was put on the link; with whether any of them
/// was delivered.
fn once_each(readings: &[MadeReading]) -> Vec<(&MadeReading, bool)> {
    let mut seen: HashMap<(&str, &Measurement), usize> = HashMap::new();
    let mut once: Vec<(&MadeReading, bool)> = Vec::new();
    for made in readings {
        let name = (made.device.as_str(), &made.measurement);
        let known = made.measurement.named().then(|| seen.get(&name)).flatten();
        if let Some((_, delivered)) = known.and_then(|index| once.get_mut(*index)) {
            *delivered |= made.delivered;
        } else {
            seen.insert(name, once.len());
            once.push((made, made.delivered));
        }
    }
    once
}

/// Takes the stored one that is this one: of those that say the same the nearest in time, and near at all where the device did
/// not name it.
fn take<'a>(made: &MadeReading, candidates: &mut Vec<&'a StoredReading>) -> Option<&'a StoredReading> {
    let distance = |stored: &StoredReading| stored.boottime_ns.abs_diff(made.boottime_ns);
    let (index, best) = candidates.iter().enumerate().min_by_key(|(_, stored)| distance(stored))?;
    if !made.measurement.named() && distance(best) > nanoseconds(SPOT_TOLERANCE) {
        return None;
    }
    Some(candidates.swap_remove(index))
}

/// Whether it was advertised while the kit listened, from its first sign on, and until after it was known.
fn was_heard(run: &Run, made: &MadeReading) -> bool {
    let from = made.boottime_ns.saturating_sub(nanoseconds(ADVERTISED_BEFORE));
    let to = made.boottime_ns.saturating_add(nanoseconds(ADVERTISED_AFTER));
    let recovery = nanoseconds(RECOVERY_ALLOWANCE);
    let deaf = |fault: &Fault| fault.from_boottime_ns <= to && from <= fault.to_boottime_ns.saturating_add(recovery);
    let ended = run.truth.streams.values().filter_map(|stream| stream.boottimes_ns.last()).max();
    run.advertised.contains(&made.device)
        && run.listening_from_ns.saturating_add(recovery) <= from
        && ended.is_some_and(|ended| to <= *ended)
        && !run.faults.iter().any(deaf)
}

/// Whether it was measured under one assignment, waited in the device's memory, and was put on the link under another.
pub(super) fn waited_for_another(run: &Run, boottime_ns: u64, measured_ns: u64) -> bool {
    let delivered = assignment_at(&run.periods, boottime_ns);
    measured_ns < boottime_ns && measured_near(run, measured_ns).iter().any(|measured| *measured != delivered)
}

/// Under whom it was measured: a moment before and after too, since devices' times have seconds.
pub(super) fn measured_near(run: &Run, measured_ns: u64) -> [Option<&str>; 3] {
    let tolerance = nanoseconds(ACTIVATION_TOLERANCE);
    [measured_ns.saturating_sub(tolerance), measured_ns, measured_ns.saturating_add(tolerance)]
        .map(|at| assignment_at(&run.periods, at))
}

/// Whether a missed span of its device and kind, no longer than allowed, covers it; the span's count then rises.
fn excused(run: &Run, balance: &mut Balance, made: &MadeReading) -> bool {
    let covering = run.missed.iter().zip(&mut balance.missed).find(|(span, judged)| {
        span.device == made.device
            && span.kind == made.measurement.kind
            && judged.within_allowance()
            && (span.from_boottime_ns..=span.to_boottime_ns).contains(&made.boottime_ns)
    });
    covering.map(|(_, judged)| judged.samples += 1).is_some()
}
