//! The ledger of a fault run: what the devices put on the link against what the centre stored.
//!
//! made = stored + missed + **missing**; missing 0, **double** 0 and wrong assignment 0 is the whole product. The unit is a spot
//! device's measurement that was wholly delivered on an open link (of one that only advertises: while the kit listened), or a stream's sample per channel. Not counted are the values
//! that a stream gives every ten seconds, and what the kit derived. A stored segment must equal a run of the truth's samples, found by the device's
//! counter, else by reception ± 1 s and equality. `missed` is what the kit itself declared; such a span may not exceed its
//! fault by more than 6 s, else it excuses nothing. What the centre has beyond what was made counts as double, be it a second
//! copy or something that nothing made. Everything here is pure.

mod readings;
mod streams;
#[cfg(test)]
mod tests;
pub mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

pub use truth::{Measurement, Stream, StreamName, Truth, TruthError};

/// How far the reception of a sample may be from its making, where the device sends no counter.
pub const PLACEMENT_TOLERANCE: Duration = Duration::from_secs(1);
/// How much longer than its fault a missed span may be: restart, reconnection, the first frame.
pub const RECOVERY_ALLOWANCE: Duration = Duration::from_secs(6);
/// What a stream sent so shortly before its first stored sample may have been lost in finding the first frame's start.
pub const SYNCHRONISATION: Duration = Duration::from_secs(1);
/// How far the reception of a spot measurement may be from its making, where the device sends neither number nor time.
pub const SPOT_TOLERANCE: Duration = Duration::from_secs(6);
/// What is only advertised was heard for certain where the kit listened from so long before it was known …
pub const ADVERTISED_BEFORE: Duration = Duration::from_secs(10);
/// … to so long after it: a weighing settles in some seconds, and its result is told for some more.
pub const ADVERTISED_AFTER: Duration = Duration::from_secs(5);
/// How near to the beginning of an assignment a measurement's patient may be told wrongly by the run itself: it learns of the
/// beginning when the kit has answered, and devices' times have seconds.
pub const ACTIVATION_TOLERANCE: Duration = Duration::from_secs(2);

/// A reading that the centre has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReading {
    /// Epoch, lane and number, for the finding's text.
    pub key: String,
    /// The device, under the name its truth goes by.
    pub device: String,
    /// The assignment it carries.
    pub assignment: Option<String>,
    /// Reception at the gateway, ns of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// What it says.
    pub measurement: Measurement,
    /// The kit computed it: no device made it.
    pub derived: bool,
}

/// A segment that the centre has, decoded to the integers the device sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// Epoch, lane and number, for the finding's text.
    pub key: String,
    /// The device, under the name its truth goes by.
    pub device: String,
    /// The kind of waveform, kebab-case.
    pub kind: String,
    /// The assignment it carries.
    pub assignment: Option<String>,
    /// Reception of its first sample, ns of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// The device's counter at its first sample.
    pub first_counter: Option<u64>,
    /// Channels.
    pub channels: usize,
    /// Interleaved samples, one integer a channel.
    pub values: Vec<i32>,
}

/// A span that the kit declared missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMissed {
    /// The device, under the name its truth goes by.
    pub device: String,
    /// The kind of reading or waveform, kebab-case.
    pub kind: String,
    /// `agent-down`, `link-lost`, `corrupt`, `evicted`.
    pub reason: String,
    /// Reception of the last durable sample, ns of CLOCK_BOOTTIME.
    pub from_boottime_ns: u64,
    /// Reception of the first sample that arrived again.
    pub to_boottime_ns: u64,
    /// The device's counter at the first and the last missed sample.
    pub counters: Option<(u64, u64)>,
}

/// Numbers that the kit declared gone, as the centre has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredGap {
    /// The epoch, hexadecimal.
    pub epoch: String,
    /// The lane.
    pub lane: String,
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
    /// Why, kebab-case.
    pub reason: String,
}

/// A span in which the kit could not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it began, ns of CLOCK_BOOTTIME.
    pub from_boottime_ns: u64,
    /// When it was over.
    pub to_boottime_ns: u64,
}

/// From when on an assignment was active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// ns of CLOCK_BOOTTIME.
    pub from_boottime_ns: u64,
    /// The assignment's id; `None`: nobody's.
    pub assignment: Option<String>,
}

/// All that is compared.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What the devices made.
    pub truth: Truth,
    /// What the centre has.
    pub readings: Vec<StoredReading>,
    /// What the centre has.
    pub segments: Vec<StoredSegment>,
    /// What the kit declared missed.
    pub missed: Vec<StoredMissed>,
    /// When the kit could not listen, by what was done to it.
    pub faults: Vec<Fault>,
    /// Whose readings they are; before the first period, nobody's.
    pub periods: Vec<Period>,
    /// Devices that only advertise: nobody confirms to them that they were heard.
    pub advertised: BTreeSet<String>,
    /// When the kit was first ready: what a stream sent to nobody before its first stored sample, and before this plus
    /// [`RECOVERY_ALLOWANCE`], met a closed link.
    pub listening_from_ns: u64,
}

/// A missed span as the ledger shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    /// The device.
    pub device: String,
    /// The kind.
    pub kind: String,
    /// The kit's reason.
    pub reason: String,
    /// Its length; where a stream paused in it, from the first to the last sample that was made in it.
    pub seconds: f64,
    /// How long it might have been: its fault plus [`RECOVERY_ALLOWANCE`]; 0 where there was no fault.
    pub allowed_seconds: f64,
    /// Units that it excuses: 0 where it is longer than allowed.
    pub samples: u64,
}

/// One device's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Units made.
    pub made: u64,
    /// Units at the centre, once each.
    pub stored: u64,
    /// Records (readings and segments) at the centre.
    pub records: u64,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    /// Units put on an open link.
    pub made: u64,
    /// Of them, at the centre.
    pub stored: u64,
    /// Of them, nowhere, and not declared.
    pub missing: u64,
    /// At the centre beyond what was made.
    pub double: u64,
    /// At the centre under an assignment that was not active.
    pub wrong_assignment: u64,
    /// What the kit declared missed.
    pub missed: Vec<Missed>,
    /// What met a closed link; not among `made`.
    pub undelivered: u64,
    /// What a device's memory gave of another patient, and the kit refused; not among `made`.
    pub not_the_patient: u64,
    /// By device.
    pub devices: BTreeMap<String, Share>,
    /// What is wrong, a line each.
    pub findings: Vec<String>,
}

/// Findings kept, at most: the first ones say what is wrong.
const FINDINGS_MAX: usize = 50;

impl Balance {
    /// Nothing missing, nothing double, nothing under a wrong name.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.missing == 0 && self.double == 0 && self.wrong_assignment == 0
    }

    fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn share(&mut self, device: &str) -> &mut Share {
        self.devices.entry(device.to_owned()).or_default()
    }
}

/// Compares.
#[must_use]
pub fn compare(run: &Run) -> Balance {
    let mut balance = Balance { missed: run.missed.iter().map(|span| judge(span, run)).collect(), ..Balance::default() };
    readings::compare(run, &mut balance);
    streams::compare(run, &mut balance);
    balance.made = balance.devices.values().map(|share| share.made).sum();
    balance.stored = balance.devices.values().map(|share| share.stored).sum();
    balance
}

/// How long a span is, and how long the longest fault it touches allows it to be. A device may pause within a span, as a
/// spirometer does from one blow to the next: no more is lost than from the first to the last sample that it made in it.
fn judge(span: &StoredMissed, run: &Run) -> Missed {
    let slack = nanoseconds(RECOVERY_ALLOWANCE);
    let touching = run.faults.iter().filter(|fault| {
        span.from_boottime_ns <= fault.to_boottime_ns.saturating_add(slack)
            && span.to_boottime_ns >= fault.from_boottime_ns.saturating_sub(slack)
    });
    let allowed = touching.map(|fault| fault.to_boottime_ns.saturating_sub(fault.from_boottime_ns) + slack).max();
    let declared = span.to_boottime_ns.saturating_sub(span.from_boottime_ns);
    Missed {
        device: span.device.clone(),
        kind: span.kind.clone(),
        reason: span.reason.clone(),
        seconds: seconds(streams::made_within(span, &run.truth).unwrap_or(declared).min(declared)),
        allowed_seconds: seconds(allowed.unwrap_or(0)),
        samples: 0,
    }
}

impl Missed {
    /// Whether it is no longer than its fault allows.
    #[must_use]
    pub fn within_allowance(&self) -> bool {
        self.seconds <= self.allowed_seconds
    }
}

/// The assignment active at a moment.
fn assignment_at(periods: &[Period], boottime_ns: u64) -> Option<&str> {
    let period = periods.iter().rev().find(|period| period.from_boottime_ns <= boottime_ns)?;
    period.assignment.as_deref()
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn units(samples: usize) -> u64 {
    u64::try_from(samples).unwrap_or(u64::MAX)
}
