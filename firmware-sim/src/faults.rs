//! What goes wrong, and when: a schedule that a scenario file, or a seed, makes.
//!
//! A scenario is text, one thing a line, `key=value` pairs apart by spaces; `#` begins a comment. Times are seconds from the
//! simulator's start.
//!
//! ```text
//! at=12.5 fault=lead-off electrode=V3 for=5     an electrode falls off for 5 s (RA, LA, LL, V1 … V6)
//! at=20 fault=sensor-off for=4                  the finger leaves the sensor
//! at=30 fault=drop                              the next frame is lost; with for=2, every frame for 2 s
//! at=31 fault=corrupt                           the next frame has one bit turned; for= as above
//! at=32 fault=split                             the next frame comes in two parts, 30 ms apart; for= as above
//! at=33 fault=duplicate                         the next frame comes twice; for= as above
//! at=40 fault=disconnect for=3                  serial: unplugged for 3 s; BLE: hangs up after the next record it sends
//! at=50 fault=reboot for=2                      dark for 2 s, then everything from the start
//! at=60 fault=clock offset=-3600                the device's clock is an hour slow
//! at=61 fault=clock unset=1                     the device's clock is not set
//! at=70 fault=battery percent=9                 the battery is low
//! at=80 fault=motion for=20                     the patient moves while a cuff measures
//! records=50                                    the memory holds so many records of an earlier patient
//! signal=synthetic                              the patient's computed ECG instead of the recorded one
//! random seed=7 from=10 until=600 every=20 faults=drop,corrupt,split     one of these about every 20 s
//! ```
//!
//! Frames are faulted on serial lines only: below GATT a radio repeats and checks. Data Format 2 frames carry no number, so a
//! real line cannot double one, and here neither: `duplicate` touches frames that a reader can tell apart.

use std::time::Duration;

use crate::noise::{between, mixed};

/// The most lines of a scenario, and the most faults that one `random` line makes.
pub const ENTRIES_MAX: usize = 10_000;
/// The most records of an earlier patient in a device's memory.
pub const RECORDS_MAX: usize = 500;
/// The second part of a split frame comes this much later.
pub const SPLIT_DELAY: Duration = Duration::from_millis(30);

/// An electrode of the 8-lead ECG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Electrode {
    /// Right arm.
    RightArm,
    /// Left arm.
    LeftArm,
    /// Left leg.
    LeftLeg,
    /// V1–V6, by number.
    Chest(u8),
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// It never arrives.
    Drop,
    /// One bit of it turns.
    Corrupt,
    /// It comes in two parts.
    Split,
    /// It comes twice.
    Duplicate,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// To frames on a serial line.
    Frame(FrameFault),
    /// The link ends.
    Disconnect,
    /// The device starts anew.
    Reboot,
    /// The device's clock is off by so many seconds; `None`: not set.
    Clock(Option<i64>),
    /// An electrode is off.
    LeadOff(Electrode),
    /// The finger is off.
    SensorOff,
    /// The battery holds so many percent.
    Battery(u8),
    /// The patient moves.
    Motion,
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From when on, since the simulator's start.
    pub at: Duration,
    /// For how long; zero where it is a moment's.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
}

/// What a scenario says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    entries: Vec<Entry>,
    /// Whether the ECG is computed from the patient instead of replayed from the recording.
    pub synthetic_signal: bool,
    /// Records of an earlier patient in the device's memory, at most [`RECORDS_MAX`].
    pub records: usize,
}

/// A line of a scenario that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scenario, line {line}: expected {expected}")]
pub struct ScenarioError {
    /// Line, from 1.
    pub line: usize,
    /// What was expected.
    pub expected: &'static str,
}

impl Scenario {
    /// From these entries.
    #[must_use]
    pub fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.at);
        Self { entries, ..Self::default() }
    }

    /// From a scenario's text.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let (mut entries, mut synthetic_signal, mut records) = (Vec::new(), false, 0);
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let wrong = |expected| ScenarioError { line: index + 1, expected };
            if line.is_empty() {
                continue;
            }
            if let Some(rest) = line.strip_prefix("random ") {
                entries.extend(random(&Fields(rest)).map_err(wrong)?);
            } else if line == "signal=synthetic" {
                synthetic_signal = true;
            } else if line.starts_with("records=") {
                records = Fields(line).number("records").filter(|count| *count <= RECORDS_MAX).ok_or(wrong("records=0 … 500"))?;
            } else {
                entries.push(entry(&Fields(line)).map_err(wrong)?);
            }
            if entries.len() > ENTRIES_MAX {
                return Err(wrong("at most 10,000 faults"));
            }
        }
        Ok(Self { synthetic_signal, records, ..Self::of(entries) })
    }

    /// Faults that last, and do so at `at`.
    pub fn during(&self, at: Duration) -> impl Iterator<Item = Fault> {
        let on = move |entry: &&Entry| entry.at <= at && at < entry.at + entry.lasts;
        self.entries.iter().filter(on).map(|entry| entry.fault)
    }

    /// Faults that begin after `from`, up to and with `to` (with `from` zero, also at zero).
    pub fn beginning(&self, from: Duration, to: Duration) -> impl Iterator<Item = Entry> {
        let begins = move |entry: &&Entry| entry.at <= to && (entry.at > from || from.is_zero());
        self.entries.iter().filter(begins).copied()
    }
}

/// `key=value` pairs of a line.
struct Fields<'a>(&'a str);

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.split_whitespace().find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        self.get(key).and_then(|text| text.parse().ok()).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.get(key).and_then(|text| text.parse().ok())
    }
}

fn entry(fields: &Fields<'_>) -> Result<Entry, &'static str> {
    let at = fields.seconds("at").ok_or("at=SECONDS, or signal=synthetic, or random …")?;
    let lasts = match fields.get("for") {
        Some(_) => fields.seconds("for").ok_or("for=SECONDS")?,
        None => Duration::ZERO,
    };
    let fault = match fields.get("fault") {
        Some("lead-off") => Fault::LeadOff(fields.get("electrode").and_then(electrode).ok_or("electrode=RA, LA, LL or V1 … V6")?),
        Some("clock") if fields.get("unset") == Some("1") => Fault::Clock(None),
        Some("clock") => Fault::Clock(Some(fields.number("offset").ok_or("offset=SECONDS or unset=1")?)),
        Some("battery") => Fault::Battery(fields.number("percent").filter(|p| *p <= 100).ok_or("percent=0 … 100")?),
        Some(name) => plain(name).ok_or(FAULT_NAMES)?,
        None => return Err(FAULT_NAMES),
    };
    Ok(Entry { at, lasts, fault })
}

const FAULT_NAMES: &str =
    "fault=drop, corrupt, split, duplicate, disconnect, reboot, clock, lead-off, sensor-off, motion or battery";

/// Faults that need no more said.
fn plain(name: &str) -> Option<Fault> {
    Some(match name {
        "drop" => Fault::Frame(FrameFault::Drop),
        "corrupt" => Fault::Frame(FrameFault::Corrupt),
        "split" => Fault::Frame(FrameFault::Split),
        "duplicate" => Fault::Frame(FrameFault::Duplicate),
        "disconnect" => Fault::Disconnect,
        "reboot" => Fault::Reboot,
        "sensor-off" => Fault::SensorOff,
        "motion" => Fault::Motion,
        _ => return None,
    })
}

fn electrode(name: &str) -> Option<Electrode> {
    Some(match name {
        "RA" => Electrode::RightArm,
        "LA" => Electrode::LeftArm,
        "LL" => Electrode::LeftLeg,
        _ => Electrode::Chest(name.strip_prefix('V')?.parse().ok().filter(|number| (1..=6).contains(number))?),
    })
}

/// Faults from a seed, spread between half and one and a half times `every` apart.
fn random(fields: &Fields<'_>) -> Result<Vec<Entry>, &'static str> {
    let seed: u64 = fields.number("seed").ok_or("seed=NUMBER")?;
    let until = fields.seconds("until").ok_or("until=SECONDS")?;
    let every = fields.seconds("every").filter(|every| *every >= Duration::from_millis(10)).ok_or("every=SECONDS, from 0.01")?;
    let names = fields.get("faults").ok_or("faults=NAME,NAME…")?;
    let faults: Option<Vec<Fault>> = names.split(',').map(plain).collect();
    let faults = faults.ok_or("faults= of drop, corrupt, split, duplicate, disconnect, reboot, sensor-off, motion")?;
    let mut at = fields.seconds("from").unwrap_or_default();
    let mut entries = Vec::new();
    for index in 0.. {
        at += every.mul_f64(between(seed, index * 2, 0.5, 1.5));
        if at >= until || entries.len() > ENTRIES_MAX {
            break;
        }
        let draw = usize::try_from(mixed(seed, index * 2 + 1) >> 33).unwrap_or(0);
        let Some(fault) = faults.get(draw % faults.len()).copied() else { break };
        let lasts = match fault {
            Fault::Disconnect | Fault::Reboot | Fault::SensorOff | Fault::Motion => Duration::from_secs(2),
            _ => Duration::ZERO,
        };
        entries.push(Entry { at, lasts, fault });
    }
    Ok(entries)
}

/// A frame, or a part of one, on its way to the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// This much after the frame's own time.
    pub delay: Duration,
    /// What goes onto the line.
    pub octets: Vec<u8>,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Treated {
    /// What goes onto the line, in order.
    pub pieces: Vec<Piece>,
    /// Whether a reader gets the frame whole.
    pub intact: bool,
}

/// Treats the frames of one line by a scenario.
#[derive(Clone, Debug)]
pub struct FrameFaults {
    entries: Vec<(Entry, bool)>,
    seed: u64,
    frames: u64,
}

impl FrameFaults {
    /// The frame faults of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let of_frames = |entry: &&Entry| matches!(entry.fault, Fault::Frame(_));
        Self { entries: scenario.entries.iter().filter(of_frames).map(|entry| (*entry, false)).collect(), seed, frames: 0 }
    }

    /// What becomes of a frame that the device sends at `at`. `numbered`: the frame carries a number of its own.
    pub fn treat(&mut self, at: Duration, octets: Vec<u8>, numbered: bool) -> Treated {
        self.frames += 1;
        let whole = |octets| Piece { delay: Duration::ZERO, octets };
        match self.fault(at) {
            Some(FrameFault::Drop) => Treated { pieces: Vec::new(), intact: false },
            Some(FrameFault::Corrupt) => Treated { pieces: vec![whole(self.corrupted(octets))], intact: false },
            Some(FrameFault::Split) if octets.len() > 1 => {
                let place = 1 + usize::try_from(mixed(self.seed, self.frames) >> 33).unwrap_or(0) % (octets.len() - 1);
                let (first, second) = octets.split_at(place);
                let later = Piece { delay: SPLIT_DELAY, octets: second.to_vec() };
                Treated { pieces: vec![whole(first.to_vec()), later], intact: true }
            }
            Some(FrameFault::Duplicate) if numbered => {
                Treated { pieces: vec![whole(octets.clone()), whole(octets)], intact: true }
            }
            _ => Treated { pieces: vec![whole(octets)], intact: true },
        }
    }

    /// The fault of a frame at `at`: one that lasts, or a moment's that has not had its frame yet.
    fn fault(&mut self, at: Duration) -> Option<FrameFault> {
        for (entry, done) in &mut self.entries {
            let once = entry.lasts.is_zero() && !*done && at >= entry.at;
            let lasting = at >= entry.at && at < entry.at + entry.lasts;
            if let (true, Fault::Frame(fault)) = (once || lasting, entry.fault) {
                *done = true;
                return Some(fault);
            }
        }
        None
    }

    /// One bit turned: whatever the checksum, it shows.
    fn corrupted(&self, mut octets: Vec<u8>) -> Vec<u8> {
        let draw = mixed(self.seed, self.frames) >> 33;
        let bits = u64::try_from(octets.len()).unwrap_or(0) * 8;
        let place = draw.checked_rem(bits).unwrap_or(0);
        let index = usize::try_from(place / 8).unwrap_or(0);
        if let Some(octet) = octets.get_mut(index) {
            *octet ^= 1 << (place % 8);
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_example_of_this_module_is_understood() {
        let text = "at=12.5 fault=lead-off electrode=V3 for=5 # off\n\nat=20 fault=sensor-off for=4\nat=30 fault=drop\n\
                    at=40 fault=disconnect for=3\nat=50 fault=reboot for=2\nat=60 fault=clock offset=-3600\n\
                    at=61 fault=clock unset=1\nat=70 fault=battery percent=9\nsignal=synthetic\n";
        let scenario = Scenario::parse(text).unwrap();
        assert!(scenario.synthetic_signal);
        assert_eq!(scenario.entries.len(), 8);
        let at_14: Vec<Fault> = scenario.during(14 * SECOND).collect();
        assert_eq!(at_14, [Fault::LeadOff(Electrode::Chest(3))]);
        assert_eq!(scenario.during(18 * SECOND).count(), 0);
        let begun: Vec<Fault> = scenario.beginning(59 * SECOND, 61 * SECOND).map(|entry| entry.fault).collect();
        assert_eq!(begun, [Fault::Clock(Some(-3600)), Fault::Clock(None)]);
    }

    #[test]
    fn a_wrong_line_is_named_with_what_was_expected() {
        for (text, line) in [
            ("fault=drop", 1),
            ("\nat=1 fault=flood", 2),
            ("at=1 fault=lead-off electrode=V7", 1),
            ("at=-1 fault=drop", 1),
            ("at=nan fault=drop", 1),
            ("records=501", 1),
            ("at=1 fault=battery percent=101", 1),
            ("random seed=1 until=10 every=0 faults=drop", 1),
            ("random seed=1 until=10 every=1 faults=drop,flood", 1),
            ("random seed=1 until=1e9 every=0.01 faults=drop", 1),
        ] {
            assert_eq!(Scenario::parse(text).map_err(|error| error.line), Err(line), "{text}");
        }
    }

    #[test]
    fn a_seed_makes_the_same_faults_every_time() {
        let text = "random seed=7 from=10 until=600 every=20 faults=drop,corrupt,reboot";
        let scenario = Scenario::parse(text).unwrap();
        assert_eq!(scenario, Scenario::parse(text).unwrap());
        assert_ne!(scenario, Scenario::parse(&text.replace('7', "8")).unwrap());
        assert!((20..45).contains(&scenario.entries.len()), "{}", scenario.entries.len());
        assert!(scenario.entries.iter().all(|entry| entry.at >= 10 * SECOND && entry.at < 600 * SECOND));
    }

    #[test]
    fn frames_are_dropped_turned_split_and_doubled() {
        let text = "at=1 fault=drop\nat=2 fault=corrupt\nat=3 fault=split\nat=4 fault=duplicate\nat=5 fault=drop for=1";
        let mut faults = FrameFaults::new(&Scenario::parse(text).unwrap(), 1);
        let frame = vec![1, 2, 3, 4, 5];
        let mut at = |seconds: f64, numbered| faults.treat(Duration::from_secs_f64(seconds), frame.clone(), numbered);
        assert_eq!(at(0.5, true).pieces[0].octets, frame);
        assert_eq!(at(1.0, true), Treated { pieces: vec![], intact: false });
        assert!(at(1.1, true).intact, "one frame only");
        let corrupted = at(2.0, true);
        let turned: u32 = corrupted.pieces[0].octets.iter().zip(&frame).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((turned, corrupted.intact), (1, false));
        let split = at(3.0, true);
        assert_eq!(split.pieces.iter().flat_map(|piece| piece.octets.clone()).collect::<Vec<_>>(), frame);
        assert_eq!((split.pieces.len(), split.pieces[1].delay), (2, SPLIT_DELAY));
        assert_eq!(at(4.0, true).pieces.len(), 2);
        assert!(!at(5.0, true).intact && !at(5.9, true).intact && at(6.0, true).intact);
    }

    #[test]
    fn a_frame_without_a_number_is_never_doubled() {
        let scenario = Scenario::parse("at=0 fault=duplicate for=10").unwrap();
        assert_eq!(FrameFaults::new(&scenario, 1).treat(SECOND, vec![1], false).pieces.len(), 1);
    }
}
