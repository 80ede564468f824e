//! Records as the kit makes them: a simulated device's octets through its driver's session and the Recorder.

use std::sync::Arc;
use std::time::Duration;

use device_drivers::driver::{Driver, Output, Token};
use device_drivers::registry;
use kit_agent::store::thread::{Draft, StoreHandle};
use kit_protocol::decimal::Decimal;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::{Block, Channel, Kind, Measured, Quantity, Rate, RecordingHead, Value};
use kit_protocol::uplink::id::Origin;
use kit_protocol::uplink::wire;
use kit_protocol::uplink::wire::record::Content;

use super::Failure;
use crate::bedside::{self, Visit, recorder, token};

/// Callers that append at once when a backlog is made.
const CALLERS: usize = 64;
/// What 7 days bring: a vital a minute, recordings of 30 s, spirometries, journal records.
const DAY: Backlog = Backlog { vitals: 1_440, recordings: 2, spirometries: 1, journal: 286 };

fn driver(name: &str) -> Result<&'static Driver, Failure> {
    registry::find(name).ok_or_else(|| format!("no driver {name}").into())
}

/// What the kit files of so many seconds of a simulated device.
pub fn of_device(name: &str, seconds: u32) -> Result<Vec<Draft>, Failure> {
    Ok(bedside::attend(name, &Visit::of(1, Duration::from_secs(seconds.into())))?.drafts)
}

/// What the Recorder files of a recording of these channels: interleaved samples, half a second at a time.
pub fn of_samples(driver_name: &str, head: &RecordingHead, samples: &[i32]) -> Result<Vec<Draft>, Failure> {
    let mut recorder = recorder(driver(driver_name)?, wire::Source::Serial);
    let start = crate::clock::now();
    recorder.take(start, Ok((token(0), Output::Begin { recording: 1, head: head.clone() })));
    let frames = usize::try_from(head.rate.samples / head.rate.seconds.max(1) / 2)?.max(1);
    let mut first = 0;
    for (number, piece) in samples.chunks(frames * head.channels.len()).enumerate() {
        let received = start + Duration::from_secs(head.rate.seconds.into()) * u32::try_from(first)? / head.rate.samples;
        let block = Block {
            first,
            device_counter: Some(first),
            received,
            samples: piece.to_vec(),
            lead_off: 0,
            saturated: 0,
            artifact: false,
        };
        first += u64::try_from(piece.len() / head.channels.len())?;
        recorder.take(received, Ok((token(number + 1), Output::Samples { recording: 1, block })));
    }
    recorder.take(start, Ok((token(usize::MAX), Output::End { recording: 1 })));
    Ok(std::iter::from_fn(|| recorder.poll_filing()).map(|filing| filing.draft).collect())
}

/// The head of a recording of these leads.
#[must_use]
pub fn head(kind: Kind, codes: &[Mdc], scale: Decimal, unit: &'static str, rate_hz: u32) -> RecordingHead {
    let channels = codes.iter().map(|code| Channel { code: *code, scale, unit, filter: String::new() }).collect();
    RecordingHead { continuous: false, ..RecordingHead::live(kind, channels, Rate { samples: rate_hz, seconds: 1 }) }
}

/// How much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Readings of SpO2 and pulse, a minute apart.
    pub vitals: usize,
    /// Recordings of 30 s of the 8-lead ECG.
    pub recordings: usize,
    /// Spirometries of seven values with a flow curve of 6 s.
    pub spirometries: usize,
    /// Device events.
    pub journal: usize,
}

impl Backlog {
    /// So many days offline; 7 of them are 10,080 vitals, 14 recordings, 7 spirometries and about 2,000 journal records.
    #[must_use]
    pub fn of_days(days: usize) -> Self {
        Self {
            vitals: DAY.vitals * days,
            recordings: DAY.recordings * days,
            spirometries: DAY.spirometries * days,
            journal: DAY.journal * days,
        }
    }
}

/// The backlog's drafts. One of each sort comes through the real path; the others are its copies, at another time and with an
/// origin and a recording of their own.
pub fn of_backlog(backlog: &Backlog) -> Result<Vec<Draft>, Failure> {
    let mut drafts = Vec::new();
    let vital = of_device("oximeter-nonin", 25)?;
    let vital =
        vital.into_iter().find(|draft| matches!(draft.content, Content::Reading(_))).ok_or("the oximeter gave no reading")?;
    let minute = Duration::from_secs(60).as_nanos();
    let minute = u64::try_from(minute)?;
    for number in 0..backlog.vitals {
        let mut draft = fresh(&vital);
        draft.boottime_ns += minute * u64::try_from(number)?;
        drafts.push(draft);
    }
    let segments = of_device("ecg-ads1298", 31)?;
    let segments: Vec<Draft> = segments.into_iter().filter(is_segment).collect();
    for _ in 0..backlog.recordings {
        drafts.extend(another_recording(&segments));
    }
    let breath = spirometry()?;
    for _ in 0..backlog.spirometries {
        drafts.extend(another_recording(&breath));
    }
    let mut event = vital;
    event.content = Content::DeviceEvent(wire::DeviceEvent { device: 0, what: "connected".into(), count: 0 });
    event.lane = kit_protocol::uplink::id::Lane::Journal;
    event.origin = None;
    event.marks.clear();
    drafts.extend(std::iter::repeat_n(event, backlog.journal));
    Ok(drafts)
}

/// So many segments of the ECG, as they come out of its recordings.
pub fn of_segments(count: usize) -> Result<Vec<Draft>, Failure> {
    let segments: Vec<Draft> = of_device("ecg-ads1298", 31)?.into_iter().filter(is_segment).collect();
    let recordings = count.div_ceil(segments.len().max(1));
    Ok((0..recordings).flat_map(|_| another_recording(&segments)).take(count).collect())
}

/// Whether it is a piece of a waveform.
#[must_use]
pub fn is_segment(draft: &Draft) -> bool {
    matches!(draft.content, Content::Segment(_))
}

fn fresh(draft: &Draft) -> Draft {
    Draft { origin: Some(Origin(fastrand::u64(..).to_be_bytes())), ..draft.clone() }
}

fn another_recording(drafts: &[Draft]) -> Vec<Draft> {
    let recording = fastrand::u64(..).to_be_bytes().to_vec();
    let another = |draft: &Draft| {
        let mut draft = fresh(draft);
        match &mut draft.content {
            Content::Segment(segment) => segment.recording.clone_from(&recording),
            Content::Reading(reading) if !reading.recording.is_empty() => reading.recording.clone_from(&recording),
            _ => {}
        }
        draft
    };
    drafts.iter().map(another).collect()
}

/// Seven values and a flow curve: no driver of the kit makes one yet, the Recorder does not mind.
fn spirometry() -> Result<Vec<Draft>, Failure> {
    let code = |name: &str| Mdc::by_name(name).ok_or_else(|| Failure::from(format!("no code for {name}")));
    let mut values = Vec::new();
    for (name, mantissa, exponent, unit) in [
        ("fvc", 412, -2, "L"),
        ("pef", 783, -2, "L/s"),
        ("fev1", 331, -2, "L"),
        ("fev1-fvc", 803, -1, "%"),
        ("fef25", 702, -2, "L/s"),
        ("fef25-75", 318, -2, "L/s"),
        ("fef75", 144, -2, "L/s"),
    ] {
        values.push(Value { code: code(name)?, quantity: Quantity::Number(Decimal::new(mantissa, exponent)), unit });
    }
    let flow = |sample: i32| {
        let seconds = f64::from(sample) * 0.002;
        // mL/s: up within 0.1 s, down in an exponential.
        f64::from(fastrand::i32(-8..8)) + 7_830.0 * (seconds / 0.1).min(1.0) * (-seconds / 0.9).exp()
    };
    #[expect(clippy::cast_possible_truncation, reason = "a flow below 10,000 mL/s")]
    let samples: Vec<i32> = (0..3_000).map(|sample| flow(sample) as i32).collect();
    let head = head(Kind::Spirometry, &[code("flow")?], Decimal::new(1, -3), "L/s", 500);
    let mut drafts = of_samples("oximeter-nonin", &head, &samples)?;
    let mut recorder = recorder(driver("oximeter-nonin")?, wire::Source::Serial);
    let received = crate::clock::now();
    let measured = Measured { values, octets: vec![7; 40], ..Measured::new(Kind::Spirometry, received) };
    recorder.take(received, Ok((Token(1), Output::Measured(measured))));
    drafts.extend(std::iter::from_fn(|| recorder.poll_filing()).map(|filing| filing.draft));
    Ok(drafts)
}

/// Appends them, many at once, and returns when all are on the disk.
pub async fn append(store: &StoreHandle, drafts: Vec<Draft>) -> Result<(), Failure> {
    let queue = Arc::new(std::sync::Mutex::new(drafts.into_iter()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (store, queue) = (store.clone(), Arc::clone(&queue));
            tokio::spawn(async move {
                let next = || queue.lock().ok().and_then(|mut drafts| drafts.next());
                while let Some(draft) = next() {
                    store.append(draft).await?;
                }
                Ok::<(), Failure>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_what_the_budgets_name() {
        let week = Backlog::of_days(7);
        assert_eq!((week.vitals, week.recordings, week.spirometries, week.journal), (10_080, 14, 7, 2_002));
    }

    #[test]
    fn a_backlog_comes_through_drivers_and_recorder_and_no_origin_comes_twice() {
        let drafts = of_backlog(&Backlog { vitals: 3, recordings: 2, spirometries: 1, journal: 2 }).unwrap();
        let origins: Vec<_> = drafts.iter().filter_map(|draft| draft.origin).collect();
        let unique: std::collections::BTreeSet<_> = origins.iter().map(|origin| origin.0).collect();
        assert_eq!(origins.len(), unique.len());
        let segments = drafts.iter().filter(|draft| is_segment(draft)).count();
        assert!(segments > 2 * 8, "{segments} segments of two recordings of 30 s, 4 s at most each");
        assert_eq!(of_segments(17).unwrap().len(), 17);
    }
}
