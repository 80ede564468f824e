//! Streams: each stored segment has its place among the samples that were made, and each sample is stored once.

use std::collections::HashMap;

use super::readings::{measured_near, waited_for_another};
use super::truth::{Stream, StreamName, Truth};
use super::{
    Balance, PLACEMENT_TOLERANCE, RECOVERY_ALLOWANCE, Run, SYNCHRONISATION, StoredMissed, StoredSegment, assignment_at,
    nanoseconds, units,
};

pub(super) fn compare(run: &Run, balance: &mut Balance) {
    let mut by_stream: HashMap<StreamName, Vec<&StoredSegment>> = HashMap::new();
    // A recording that ends with nothing pending ends in a segment without samples.
    for segment in run.segments.iter().filter(|segment| !segment.values.is_empty()) {
        balance.share(&segment.device).records += 1;
        if segment.assignment.as_deref() != assignment_at(&run.periods, segment.boottime_ns) {
            balance.wrong_assignment += units(segment.values.len());
            balance.find(format!("segment {} is under assignment {:?}", segment.key, segment.assignment));
        }
        let name = StreamName { device: segment.device.clone(), kind: segment.kind.clone() };
        by_stream.entry(name).or_default().push(segment);
    }
    for (name, stream) in &run.truth.streams {
        let mut segments = by_stream.remove(name).unwrap_or_default();
        segments.sort_by_key(|segment| (segment.boottime_ns, segment.first_counter));
        let stored = place_all(run, stream, &segments, balance);
        settle(run, name, stream, &stored, balance);
    }
    for segment in by_stream.into_values().flatten() {
        unmade(segment, balance);
    }
}

/// How often each sample is stored.
fn place_all(run: &Run, stream: &Stream, segments: &[&StoredSegment], balance: &mut Balance) -> Vec<u32> {
    let mut stored = vec![0_u32; stream.len()];
    let mut by_counter: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, counter) in stream.counters.iter().enumerate() {
        by_counter.entry(*counter).or_default().push(index);
    }
    for segment in segments {
        let Some(first) = place(stream, &by_counter, &stored, segment) else {
            unmade(segment, balance);
            continue;
        };
        let waited = stream.measured_ns.get(first).zip(stream.boottimes_ns.get(first)).filter(|(measured, at)| measured < at);
        let measured = waited.map(|(measured, _)| measured_near(run, *measured));
        if measured.is_some_and(|near| segment.assignment.is_some() && !near.contains(&segment.assignment.as_deref())) {
            balance.wrong_assignment += units(segment.values.len());
            balance.find(format!("segment {} was measured before {:?} began", segment.key, segment.assignment));
        }
        let mut again = 0;
        for count in stored.iter_mut().skip(first).take(samples(segment)) {
            again += u64::from(*count > 0);
            *count += 1;
        }
        if again > 0 {
            balance.double += again * units(stream.channels);
            balance.find(format!("double: {again} samples of segment {} of {}", segment.key, segment.device));
        }
    }
    stored
}

/// Where in the truth a segment begins: by the device's counter, else where an equal run was sent within the tolerance of its
/// reception; of several, one that is not stored yet, then the nearest.
fn place(stream: &Stream, by_counter: &HashMap<u64, Vec<usize>>, stored: &[u32], segment: &StoredSegment) -> Option<usize> {
    let distance = |index: usize| stream.boottimes_ns.get(index).map_or(u64::MAX, |at| at.abs_diff(segment.boottime_ns));
    let equal = |index: &usize| {
        segment.channels == stream.channels
            && !segment.values.is_empty()
            && stream.run(*index, samples(segment)) == Some(segment.values.as_slice())
    };
    let candidates: Vec<usize> = match segment.first_counter.filter(|_| !stream.counters.is_empty()) {
        Some(counter) => by_counter.get(&counter).into_iter().flatten().copied().filter(equal).collect(),
        None => {
            // What was sent together was made before, and later ones may have been sent meanwhile: nothing is in order.
            let tolerance = tolerance(stream);
            (0..stream.len()).filter(|index| distance(*index) <= tolerance).filter(equal).collect()
        }
    };
    let taken = |index: usize| stored.iter().skip(index).take(samples(segment)).any(|count| *count > 0);
    candidates.into_iter().min_by_key(|index| (taken(*index), distance(*index)))
}

/// What no device made: another value, another order, or a hole bridged.
fn unmade(segment: &StoredSegment, balance: &mut Balance) {
    balance.double += units(segment.values.len());
    balance.find(format!(
        "made by nothing: segment {} of {} {} ({} samples, counter {:?}, received at {})",
        segment.key,
        segment.device,
        segment.kind,
        samples(segment),
        segment.first_counter,
        segment.boottime_ns
    ));
}

fn samples(segment: &StoredSegment) -> usize {
    segment.values.len().checked_div(segment.channels).unwrap_or(0)
}

/// Sorts every sample into stored, undelivered, missed or missing.
fn settle(run: &Run, name: &StreamName, stream: &Stream, stored: &[u32], balance: &mut Balance) {
    let channels = units(stream.channels);
    let opening = Opening::of(run, stream, stored);
    let kept_from = kept_from(stream);
    let mut lost: Option<(usize, usize)> = None;
    for (index, (count, at)) in stored.iter().zip(&stream.boottimes_ns).enumerate() {
        if *count > 0 {
            let share = balance.share(&name.device);
            share.made += channels;
            share.stored += channels;
            continue;
        }
        let delivered = stream.delivered.get(index).copied().unwrap_or(true);
        if opening.excuses(index, *at, delivered) || (!delivered && index >= kept_from) {
            balance.undelivered += channels;
            continue;
        }
        if stream.measured_ns.get(index).is_some_and(|measured| waited_for_another(run, *at, *measured)) {
            // Another patient's, out of the device's memory: it is the kit's to refuse.
            balance.not_the_patient += channels;
            continue;
        }
        balance.share(&name.device).made += channels;
        let excuse = run
            .missed
            .iter()
            .zip(&mut balance.missed)
            .find(|(span, judged)| judged.within_allowance() && covers(span, name, stream, index));
        if let Some((_, judged)) = excuse {
            judged.samples += channels;
            continue;
        }
        balance.missing += channels;
        lost = match lost {
            Some((first, last)) if last + 1 == index => Some((first, index)),
            other => {
                report(name, stream, other, balance);
                Some((index, index))
            }
        };
    }
    report(name, stream, lost, balance);
}

/// How a stream began: what it sent before the kit first heard it is not the kit's.
struct Opening {
    first_stored: usize,
    /// Nobody listened before this, and need not have.
    closed_until_ns: u64,
    /// From here on it was the first frame's start that was looked for.
    synchronising_from_ns: u64,
}

impl Opening {
    fn of(run: &Run, stream: &Stream, stored: &[u32]) -> Self {
        // A stream of which nothing came has no opening: all of it is missing.
        let first_stored = stored.iter().position(|count| *count > 0).unwrap_or(0);
        let began = stream.boottimes_ns.get(first_stored).copied().unwrap_or_default();
        Self {
            first_stored,
            closed_until_ns: run.listening_from_ns.saturating_add(nanoseconds(RECOVERY_ALLOWANCE)),
            synchronising_from_ns: began.saturating_sub(nanoseconds(SYNCHRONISATION)),
        }
    }

    fn excuses(&self, index: usize, at: u64, delivered: bool) -> bool {
        let allowed = if delivered { at >= self.synchronising_from_ns } else { at < self.closed_until_ns };
        index < self.first_stored && allowed
    }
}

/// From which sample on a device still kept what it had gathered when it ended, and nobody had asked for it.
fn kept_from(stream: &Stream) -> usize {
    let last_sent = stream.delivered.iter().rposition(|delivered| *delivered).map_or(0, |last| last + 1);
    let within = |(first, last): (&u64, &u64)| last.saturating_sub(*first) <= stream.gathered_ns;
    let kept = stream.boottimes_ns.get(last_sent).zip(stream.boottimes_ns.last()).is_some_and(within);
    if stream.gathered_ns > 0 && kept { last_sent } else { stream.len() }
}

fn report(name: &StreamName, stream: &Stream, lost: Option<(usize, usize)>, balance: &mut Balance) {
    if let Some((first, last)) = lost {
        let at = stream.boottimes_ns.get(first).copied().unwrap_or_default();
        let counter = stream.counters.get(first);
        let count = last - first + 1;
        balance.find(format!("missing: {count} samples of {} {} from {at} on, counter {counter:?}", name.device, name.kind));
    }
}

/// From the first to the last sample of its stream that a declared span is about, ns; `None` where it is about none.
pub(super) fn made_within(span: &StoredMissed, truth: &Truth) -> Option<u64> {
    let name = StreamName { device: span.device.clone(), kind: span.kind.clone() };
    let stream = truth.streams.get(&name)?;
    let covered = |(index, at): (usize, &u64)| covers(span, &name, stream, index).then_some(*at);
    let mut covered = stream.boottimes_ns.iter().enumerate().filter_map(covered);
    let first = covered.next()?;
    Some(covered.next_back().unwrap_or(first).saturating_sub(first))
}

/// How far what is said of a sample's time may be from when it was sent, ns.
fn tolerance(stream: &Stream) -> u64 {
    nanoseconds(PLACEMENT_TOLERANCE).saturating_add(stream.gathered_ns)
}

/// Whether a declared span is about this sample: by the device's counter where both name it, else by time.
fn covers(span: &StoredMissed, name: &StreamName, stream: &Stream, index: usize) -> bool {
    let Some(at) = stream.boottimes_ns.get(index) else { return false };
    if span.device != name.device || span.kind != name.kind {
        return false;
    }
    match (span.counters, stream.counters.get(index)) {
        (Some((first, last)), Some(counter)) => (first..=last).contains(counter),
        _ => {
            let tolerance = tolerance(stream);
            (span.from_boottime_ns.saturating_sub(tolerance)..=span.to_boottime_ns.saturating_add(tolerance)).contains(at)
        }
    }
}
