//! Spot measurements: each made one stored once.

use std::collections::HashMap;

use super::truth::{MadeReading, Measurement};
use super::{Balance, Run, SPOT_TOLERANCE, StoredReading, assignment_at, nanoseconds};

/// Kinds that are values of a stream without samples.
const STREAMED: [&str; 2] = ["cuff-pressure", "heart-rate"];

pub(super) fn compare(run: &Run, balance: &mut Balance) {
    let mut waiting: HashMap<(&str, &Measurement), Vec<&StoredReading>> = HashMap::new();
    for stored in &run.readings {
        balance.share(&stored.device).records += 1;
        if stored.assignment.as_deref() != assignment_at(&run.periods, stored.boottime_ns) {
            balance.wrong_assignment += 1;
            balance.find(format!("reading {} is under assignment {:?}", stored.key, stored.assignment));
        }
        waiting.entry((&stored.device, &stored.measurement)).or_default().push(stored);
    }
    for (made, delivered) in once_each(&run.truth.readings) {
        let found = waiting.get_mut(&(made.device.as_str(), &made.measurement));
        if found.is_some_and(|candidates| take(made, candidates)) {
            let share = balance.share(&made.device);
            share.made += 1;
            share.stored += 1;
        } else if !delivered {
            balance.undelivered += 1;
        } else {
            balance.share(&made.device).made += 1;
            if !excused(run, balance, made) {
                balance.missing += 1;
                balance.find(format!("missing: {} {:?} made at {}", made.device, made.measurement, made.boottime_ns));
            }
        }
    }
    for ((device, measurement), extra) in waiting {
        // A stream gives a value every ten seconds; those are not counted.
        let streamed = STREAMED.contains(&measurement.kind.as_str());
        if streamed || run.truth.streams.keys().any(|stream| stream.device == device) {
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
/// not name it. False where there is none.
fn take(made: &MadeReading, candidates: &mut Vec<&StoredReading>) -> bool {
    let distance = |stored: &StoredReading| stored.boottime_ns.abs_diff(made.boottime_ns);
    let Some((index, best)) = candidates.iter().enumerate().min_by_key(|(_, stored)| distance(stored)) else {
        return false;
    };
    if !made.measurement.named() && distance(best) > nanoseconds(SPOT_TOLERANCE) {
        return false;
    }
    candidates.swap_remove(index);
    true
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
