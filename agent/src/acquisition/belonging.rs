//! Whose a measurement is (I4): another patient's may stand in a device's memory, or wait in it to be sent.
//!
//! Pure. A device's own time decides, where a clock of this connection is known; else its record numbers; else whether it was
//! just measured. `ARCHITECTURE.md`, "Another patient's memory", gives the rules and what they cost.

use std::time::Duration;

use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::moment::Moment;
use kit_protocol::reading::{Measured, Memory, RecordingHead};
use kit_protocol::uplink::id::Origin;
use kit_protocol::uplink::wire::{self, ClockQuality};

use crate::identity::memories::{DeviceMemory, REFUSED_MAX};
use crate::identity::tenure::Tenure;

/// A device's time so far after its reception is of a wrong clock.
const FUTURE_MAX: Duration = Duration::from_secs(60);
/// A device tells what it just measured within this: the measurement itself, a minute's resolution, the connection.
const JUST_MEASURED_MAX: Duration = Duration::from_secs(180);
/// After so long without a word on the link, what a device says is new: what waited in it would have come at once.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// A clock that nobody can read may be wrong by this: another time zone, noon for midnight, yesterday.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Two times of a device stand for two measurements if they are so far apart.
const APART_MIN_S: i64 = 300;
/// A device whose clock says less than this was never set: 2020-01-01, seconds of 1970.
const EARLIEST_DEVICE_S: i64 = 1_577_836_800;
/// Times have seconds: what is less than one before another is not told from it.
const RESOLUTION: Duration = Duration::from_secs(1);
/// Offsets of a device's clock that are remembered, at most.
const OFFSETS_MAX: usize = 4;
/// Offsets closer than this are one.
const OFFSET_STEP_S: i64 = 60;
/// Clocks of one connection that are kept, at most.
const SIGHTINGS_MAX: usize = 8;

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The active assignment's, or, where there is none, nobody's: it is stored.
    Ours,
    /// Not the patient's.
    NotThePatient,
    /// As far as is known now it may be another's; a clock that becomes known may tell.
    Unknown,
}

/// How a device's users are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The user slot of the patient, where one was bound.
    pub bound: Option<u8>,
    /// Others use the device too: what names no slot is nobody's.
    pub shared: bool,
}

/// A measurement window: what a device advertises counts that was measured in it, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it was opened.
    pub opened: Moment,
    /// When it closes by itself.
    pub closes: Moment,
}

/// What is held of a device that nobody is connected to: whoever stands on it, and whoever says that he is it, is heard.
#[derive(Clone, Copy, Debug, Default)]
struct Broadcast {
    /// It counts in a window only.
    needs_window: bool,
    window: Option<Window>,
    /// When the window was opened that has its reading.
    used: Option<Moment>,
    /// The window that the last measurement was in.
    last: Option<Moment>,
}

impl Broadcast {
    /// The window that is open for what was received then.
    fn open(&self, received: Moment) -> Option<Window> {
        let holds = |window: &Window| window.opened <= received && received < window.closes;
        self.window.filter(holds).filter(|window| self.used != Some(window.opened))
    }
}

/// What the device's clock said at a moment, and how far the moments that follow from it may be wrong.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    device_s: i64,
    at: Moment,
    early: Duration,
    late: Duration,
}

/// A span of this boot, ns of CLOCK_BOOTTIME: before 0 is before the boot.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: i128,
    to: i128,
}

impl Sighting {
    fn exact(device_s: i64, at: Moment) -> Self {
        Self { device_s, at, early: Duration::ZERO, late: Duration::ZERO }
    }

    /// When it was that the device's clock said so.
    fn moved(&self, device_s: i64) -> Span {
        let back = (i128::from(self.device_s) - i128::from(device_s)) * 1_000_000_000;
        let at = i128::from(self.at.as_nanos()) - back;
        Span { from: at - nanoseconds(self.early), to: at + nanoseconds(self.late) }
    }
}

/// Judges what one conversation brings.
#[derive(Clone, Debug)]
pub struct Judge {
    tenure: Tenure,
    memory: DeviceMemory,
    slots: Slots,
    /// The device keeps records: what it sends unasked may have waited.
    keeps: bool,
    /// A person chose what is brought: a file.
    chosen: bool,
    /// The device is not connected to.
    broadcast: Option<Broadcast>,
    sightings: Vec<Sighting>,
    read: bool,
    /// Clocks told so far.
    told: u64,
    stirred: Option<Moment>,
    silence: Duration,
    changed: bool,
    /// What changed cannot wait for the conversation's end.
    urgent: bool,
}

/// The gateway's side of a judgement.
pub struct Now<'a> {
    /// Its clock, as stated.
    pub clock: &'a wire::Clock,
    /// Its civil time at the measurement's reception; `None` where nothing is known of it.
    pub civil: Option<DateTime>,
}

/// What is judged.
struct Evidence<'a> {
    received: Moment,
    record: Option<u64>,
    device_s: Option<i64>,
    now: &'a Now<'a>,
}

impl Judge {
    /// For a conversation under `tenure`; `keeps`: the device keeps records; `chosen`: what it brings is a file.
    #[must_use]
    pub fn new(tenure: Tenure, memory: DeviceMemory, slots: Slots, keeps: bool, chosen: bool) -> Self {
        Self {
            tenure,
            memory,
            slots,
            keeps,
            chosen,
            broadcast: None,
            sightings: Vec::new(),
            read: false,
            told: 0,
            stirred: None,
            silence: Duration::ZERO,
            changed: false,
            urgent: false,
        }
    }

    /// The same, of a device that only advertises.
    #[must_use]
    pub fn of_broadcast(self, needs_window: bool) -> Self {
        Self { keeps: false, broadcast: Some(Broadcast { needs_window, ..Broadcast::default() }), ..self }
    }

    /// The device's measurement window, as it is now.
    pub fn window(&mut self, window: Option<Window>) {
        self.broadcast.iter_mut().for_each(|broadcast| broadcast.window = window);
    }

    /// The measurement that was judged last became a reading: its window has what it was opened for.
    pub fn filed(&mut self) {
        self.broadcast.iter_mut().for_each(|broadcast| broadcast.used = broadcast.last.or(broadcast.used));
    }

    /// Something happened on the link.
    pub fn stirred(&mut self, at: Moment) {
        self.silence = self.stirred.map_or(Duration::ZERO, |before| at.since(before));
        self.stirred = Some(at);
    }

    /// The device's clock was read, or just set.
    pub fn clock(&mut self, device: DateTime, at: Moment, clock: &wire::Clock) {
        let Some(device_s) = seconds(device).filter(|device_s| *device_s >= EARLIEST_DEVICE_S) else { return };
        if !std::mem::replace(&mut self.read, true) {
            // Better than what was gathered from measurements.
            self.sightings.clear();
        }
        self.see(Sighting::exact(device_s, at));
        self.told += 1;
        self.urgent = true;
        self.remember_offset(device_s, at, clock);
    }

    /// The device told the highest record number in its memory. True where the memory was cleared since it last did: numbers
    /// begin again, and so does what is known to be durable.
    pub fn memory(&mut self, highest: Option<u64>) -> bool {
        let highest = highest.unwrap_or(0);
        let cleared = self.memory.highest.is_some_and(|before| highest < before);
        let same_tenure = self.memory.floor.is_some() && self.memory.ended == self.tenure.ended;
        let floor = match (&self.tenure.active, same_tenure) {
            // All that was there is gone, and what is there came after the last patient.
            (Some(_), true) if cleared => 0,
            (Some(_), true) => self.memory.floor.unwrap_or(highest),
            _ => highest,
        };
        let known = DeviceMemory {
            highest: Some(highest),
            floor: Some(floor),
            ended: self.tenure.ended,
            ..std::mem::take(&mut self.memory)
        };
        self.memory = known;
        (self.changed, self.urgent) = (true, true);
        cleared
    }

    /// Whose a measurement is. `origin` is what names it, where anything does.
    pub fn measured(&mut self, measured: &Measured, origin: Option<Origin>, now: &Now<'_>) -> Whose {
        let of_another = match (self.slots.bound, measured.user_slot) {
            (Some(bound), Some(slot)) => slot != bound,
            (_, None) => self.slots.shared,
            (None, Some(_)) => false,
        };
        if of_another {
            return Whose::NotThePatient;
        }
        let evidence = Evidence {
            received: measured.received,
            record: measured.record,
            device_s: measured.usable_time().and_then(seconds).filter(|device_s| *device_s >= EARLIEST_DEVICE_S),
            now,
        };
        if let Some(whose) = self.broadcast.and_then(|broadcast| self.advertised(broadcast, measured, origin, &evidence)) {
            return whose;
        }
        if self.tenure.active.is_none() {
            return Whose::Ours;
        }
        if origin.is_some_and(|origin| self.is_refused(origin)) {
            return Whose::NotThePatient;
        }
        let whose = match measured.memory {
            Memory::Live if self.keeps => self.live(&evidence),
            Memory::Live => {
                self.proven(&evidence);
                Whose::Ours
            }
            Memory::Stored => self.stored(&evidence),
        };
        if let (Whose::NotThePatient, Some(origin)) = (whose, origin) {
            self.refuse(origin);
        }
        whose
    }

    /// Whose a recording is. `origin` is what names it, where anything does.
    pub fn recording(&mut self, head: &RecordingHead, origin: Option<Origin>, received: Moment, now: &Now<'_>) -> Whose {
        if self.tenure.active.is_none() || head.memory == Memory::Live {
            return Whose::Ours;
        }
        if origin.is_some_and(|origin| self.is_refused(origin)) {
            return Whose::NotThePatient;
        }
        let device_s = head.device_time.and_then(seconds).filter(|device_s| *device_s >= EARLIEST_DEVICE_S);
        let whose = self.stored(&Evidence { received, record: head.record, device_s, now });
        if let (Whose::NotThePatient, Some(origin)) = (whose, origin) {
            self.refuse(origin);
        }
        whose
    }

    /// Whether the device keeps what it measured.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Whether a measurement of that origin was found to be another's before.
    #[must_use]
    pub fn is_refused(&self, origin: Origin) -> bool {
        self.memory.refused.iter().any(|refused| refused[..] == origin.0)
    }

    /// Gateway minus device, milliseconds, by the gateway's clock as stated; `None` where this connection does not tell.
    #[must_use]
    pub fn offset_ms(&self, clock: &wire::Clock) -> Option<i64> {
        let sighting = self.sightings.last()?;
        let gateway_ms = wall_us(sighting.at, clock) / 1_000;
        gateway_ms.checked_sub(sighting.device_s.checked_mul(1_000)?)
    }

    /// How many clocks this connection has told; one more may tell whose something is.
    #[must_use]
    pub fn clocks(&self) -> u64 {
        self.told
    }

    /// The highest record number that need not be asked for again.
    #[must_use]
    pub fn asked_up_to(tenure: &Tenure, memory: &DeviceMemory, durable: Option<u64>) -> Option<u64> {
        if durable.zip(memory.highest).is_some_and(|(durable, highest)| highest < durable) {
            return None;
        }
        let floor = memory.floor.filter(|_| tenure.active.is_some() && memory.ended == tenure.ended);
        durable.max(floor.filter(|floor| *floor > 0))
    }

    /// What is known of the device's memory, if it is to be kept now: it changed, and cannot wait, or the conversation ends.
    pub fn poll_memory(&mut self, ends: bool) -> Option<DeviceMemory> {
        if !self.changed || !(self.urgent || ends) {
            return None;
        }
        (self.changed, self.urgent) = (false, false);
        Some(self.memory.clone())
    }

    fn see(&mut self, sighting: Sighting) {
        if self.sightings.len() >= SIGHTINGS_MAX {
            // The first one is what the device came with.
            self.sightings.remove(1);
        }
        self.sightings.push(sighting);
    }

    fn refuse(&mut self, origin: Origin) {
        if self.memory.refused.len() >= REFUSED_MAX {
            self.memory.refused.remove(0);
        }
        self.memory.refused.push(origin.0.to_vec());
        self.changed = true;
    }

    /// What is advertised is repeated, and proven by nothing: it counts in a window, and what nobody saw come about only where
    /// its time says that it was measured in it. `None`: nothing more is asked of it than of others.
    fn advertised(
        &mut self,
        broadcast: Broadcast,
        measured: &Measured,
        origin: Option<Origin>,
        evidence: &Evidence<'_>,
    ) -> Option<Whose> {
        if measured.memory == Memory::Stored && origin.is_none() {
            // It may be one that was taken before this conversation, and nothing would tell.
            return Some(Whose::NotThePatient);
        }
        if !broadcast.needs_window {
            return None;
        }
        if measured.memory == Memory::Live {
            self.proven(evidence);
        }
        let open = broadcast.open(measured.received);
        let known = origin.is_some_and(|origin| self.is_refused(origin));
        let whose = match (open, measured.memory) {
            (Some(_), _) if known => Whose::NotThePatient,
            (None, _) => Whose::NotThePatient,
            (Some(_), Memory::Live) => Whose::Ours,
            (Some(window), Memory::Stored) => {
                let opened = i128::from(window.opened.as_nanos());
                let since = Span { from: opened, to: opened };
                let by_time = evidence.device_s.and_then(|device_s| self.by_time_since(device_s, evidence, &Some(since), None));
                by_time.unwrap_or(Whose::Unknown)
            }
        };
        if let (Whose::NotThePatient, Some(origin), false) = (whose, origin, known) {
            self.refuse(origin);
        }
        self.broadcast = Some(Broadcast { last: open.map(|window| window.opened), ..broadcast });
        Some(whose)
    }

    /// Sent unasked by a device that keeps records: just measured, or left from before?
    fn live(&mut self, evidence: &Evidence<'_>) -> Whose {
        let Some(device_s) = evidence.device_s else { return Whose::Ours };
        // One silence tells of one measurement.
        let silence = std::mem::take(&mut self.silence);
        if silence >= SILENCE_MIN || self.repeats(device_s, evidence) {
            self.proven(evidence);
            return Whose::Ours;
        }
        let (received, active) = (evidence.received, self.active_from(evidence.now.clock));
        let just_now = |sighting: &Sighting| {
            let at = sighting.moved(device_s).to;
            let received = i128::from(received.as_nanos());
            let recent = at <= received + nanoseconds(FUTURE_MAX) && at >= received - nanoseconds(JUST_MEASURED_MAX);
            recent && self.after(Span { from: at, to: at }, &active) == Some(true)
        };
        if self.sightings.iter().any(just_now) {
            return Whose::Ours;
        }
        if !self.sightings.is_empty() {
            return self.by_time(device_s, evidence).unwrap_or(Whose::Unknown);
        }
        let Some(right) = self.right(evidence) else {
            // Neither its clock nor ours tells: what is sent unasked is the assignment's.
            return Whose::Ours;
        };
        if just_now(&right) {
            self.proven(evidence);
            return Whose::Ours;
        }
        let whose = self.by_time(device_s, evidence).unwrap_or(Whose::Unknown);
        if whose == Whose::Unknown {
            self.memory.unproven_s = Some(device_s);
            self.memory.unproven_received_s = Some(right.device_s);
            self.changed = true;
        }
        whose
    }

    /// Out of the device's memory, or a file.
    fn stored(&self, evidence: &Evidence<'_>) -> Whose {
        if let Some(whose) = evidence.device_s.and_then(|device_s| self.by_time(device_s, evidence)) {
            return whose;
        }
        let floor = self.memory.floor.filter(|_| self.memory.ended == self.tenure.ended);
        match evidence.record.zip(floor) {
            Some((number, floor)) if number > floor => Whose::Ours,
            Some(_) => Whose::NotThePatient,
            None => Whose::Unknown,
        }
    }

    /// By every clock that may have stamped it; `None` where they do not agree, or there is none.
    fn by_time(&self, device_s: i64, evidence: &Evidence<'_>) -> Option<Whose> {
        let assumed = if self.sightings.is_empty() { self.right(evidence).map(|right| self.assumed(right)) } else { None };
        self.by_time_since(device_s, evidence, &self.active_from(evidence.now.clock), assumed)
    }

    /// The same, since another time than the activation, and by a clock that is assumed besides those that are known.
    fn by_time_since(
        &self,
        device_s: i64,
        evidence: &Evidence<'_>,
        active: &Option<Span>,
        assumed: Option<Sighting>,
    ) -> Option<Whose> {
        let latest = i128::from(evidence.received.as_nanos()) + nanoseconds(FUTURE_MAX);
        let mut verdict = None;
        for sighting in self.sightings.iter().copied().chain(assumed).chain(self.earlier(evidence)) {
            let span = sighting.moved(device_s);
            if span.from > latest {
                continue;
            }
            let after = self.after(span, active)?;
            if *verdict.get_or_insert(after) != after {
                return None;
            }
        }
        verdict.map(|after| if after { Whose::Ours } else { Whose::NotThePatient })
    }

    /// Clocks that the device had at earlier connections, where the gateway's own is trusted.
    fn earlier(&self, evidence: &Evidence<'_>) -> impl Iterator<Item = Sighting> {
        let (at, clock) = (evidence.received, evidence.now.clock);
        let known = is_trusted(clock).then(|| wall_us(at, clock).div_euclid(1_000_000));
        let offsets = self.memory.offsets_s.iter();
        known
            .into_iter()
            .flat_map(move |wall_s| offsets.clone().map(move |offset_s| Sighting::exact(wall_s.saturating_sub(*offset_s), at)))
    }

    /// As if the device's clock were right.
    fn right(&self, evidence: &Evidence<'_>) -> Option<Sighting> {
        let civil = evidence.now.civil.and_then(seconds)?;
        Some(Sighting::exact(civil, evidence.received))
    }

    /// As if the device's clock were not far from right.
    fn assumed(&self, right: Sighting) -> Sighting {
        let error = if self.chosen { Duration::ZERO } else { CLOCK_ERROR_MAX };
        Sighting { early: error, late: error, ..right }
    }

    /// What is new has told the device's clock, if nothing better has.
    fn proven(&mut self, evidence: &Evidence<'_>) {
        let Some(device_s) = evidence.device_s else { return };
        (self.memory.unproven_s, self.memory.unproven_received_s) = (None, None);
        if !self.read {
            let lag = self.right(evidence).map_or(0, |right| right.device_s.saturating_sub(device_s));
            let lag = Duration::from_secs(u64::try_from(lag).unwrap_or(0)).min(JUST_MEASURED_MAX);
            self.sightings = vec![Sighting { early: lag, ..Sighting::exact(device_s, evidence.received) }];
            self.told += 1;
            self.remember_offset(device_s, evidence.received, evidence.now.clock);
        }
    }

    /// A second measurement that comes as long after its own time as the first one did, in another connection: both were sent
    /// as they were made, by a clock that is wrong.
    fn repeats(&self, device_s: i64, evidence: &Evidence<'_>) -> bool {
        let Some((before_s, received_s)) = self.memory.unproven_s.zip(self.memory.unproven_received_s) else { return false };
        let Some(now_s) = evidence.now.civil.and_then(seconds) else { return false };
        let between = (now_s - received_s) - (device_s - before_s);
        device_s - before_s >= APART_MIN_S && between.unsigned_abs() <= JUST_MEASURED_MAX.as_secs()
    }

    fn remember_offset(&mut self, device_s: i64, at: Moment, clock: &wire::Clock) {
        if !is_trusted(clock) {
            return;
        }
        let offset_s = wall_us(at, clock).div_euclid(1_000_000).saturating_sub(device_s);
        let offsets = &mut self.memory.offsets_s;
        offsets.retain(|known| known.abs_diff(offset_s) > OFFSET_STEP_S.unsigned_abs());
        if offsets.len() >= OFFSETS_MAX {
            offsets.remove(0);
        }
        offsets.push(offset_s);
        self.changed = true;
    }

    /// Since when the assignment is active, in this boot.
    fn active_from(&self, clock: &wire::Clock) -> Option<Span> {
        let active = self.tenure.active.as_ref()?;
        let then = active.clock.as_ref()?;
        let at = i128::from(active.boottime_ns);
        if then.boot_id == clock.boot_id {
            return Some(Span { from: at, to: at });
        }
        // In an earlier boot: by both clocks, as far as they are known; in any case before this boot began.
        if !is_known(then) || !is_known(clock) {
            return Some(Span { from: i128::MIN, to: 0 });
        }
        let at = at + (i128::from(then.offset_us) - i128::from(clock.offset_us)) * 1_000;
        let error = i128::from(then.error_ms.saturating_add(clock.error_ms)) * 1_000_000;
        Some(Span { from: (at - error).min(0), to: (at + error).min(0) })
    }

    /// Whether a span lies at or after the activation; `None` where it may or may not.
    fn after(&self, span: Span, active: &Option<Span>) -> Option<bool> {
        let active = active.as_ref()?;
        if span.from + nanoseconds(RESOLUTION) >= active.to {
            Some(true)
        } else if span.to < active.from {
            Some(false)
        } else {
            None
        }
    }
}

fn nanoseconds(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX)
}

fn is_known(clock: &wire::Clock) -> bool {
    matches!(ClockQuality::try_from(clock.quality), Ok(ClockQuality::Plausible | ClockQuality::Synced))
}

fn is_trusted(clock: &wire::Clock) -> bool {
    ClockQuality::try_from(clock.quality) == Ok(ClockQuality::Synced)
}

/// Unix time of a moment of the clock's boot, microseconds.
fn wall_us(at: Moment, clock: &wire::Clock) -> i64 {
    i64::try_from(at.as_nanos() / 1_000).unwrap_or(i64::MAX).saturating_add(clock.offset_us)
}

/// A civil time in seconds of 1970, as if it were UTC: only differences of one device's times are used. `None` where its date
/// is not known, or is none.
fn seconds(time: DateTime) -> Option<i64> {
    let signed = |octet: u8| i8::try_from(octet).ok();
    let civil = jiff::civil::DateTime::new(
        i16::try_from(time.year).ok()?,
        signed(time.month)?,
        signed(time.day)?,
        signed(time.hour)?,
        signed(time.minute)?,
        signed(time.second)?,
        0,
    );
    let zoned = civil.ok().filter(|_| time.date_known())?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
#[path = "belonging_tests.rs"]
mod tests;
