//! Measurement windows: who weighs a patient says so first, and what a scale then advertises is that patient's.
//!
//! A window is open until its device gave a reading, until its time is over, or until it is closed: with the assignment it
//! always is. It is not kept over a restart: whoever opened it is told that the agent went away, and measures again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kit_protocol::moment::Moment;
use serde::{Deserialize, Serialize};

use super::belonging::Window;

/// The shortest and the longest window, seconds.
pub const SECONDS: std::ops::RangeInclusive<u32> = 5..=600;
/// What was measured in a window may become durable so long after its end: a weight waits 10 s for its impedance.
const LATE_MAX: Duration = Duration::from_secs(12);

/// Where a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// What the device says counts.
    Open,
    /// Its time is over; what was measured in it may still come.
    Ending,
    /// It has its reading.
    Measured,
    /// It is over, without a reading.
    Ended,
}

/// A window, as who opened it sees it. No value stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowView {
    /// Where it stands.
    pub stage: Stage,
    /// Seconds until its time is over.
    pub left_s: u64,
    /// Measurements in it that were refused as implausible or undecodable.
    pub refused: u64,
    /// Where the reading is in the local record.
    pub reading: Option<ReadingAt>,
}

/// Where a reading is in the local record, in the lane of vital signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingAt {
    /// Its epoch.
    pub epoch: String,
    /// Its number.
    pub seq: u64,
}

/// Why no window was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWindow {
    /// No such device, or one whose readings count as they come.
    #[error("{0} needs no measurement window: what it measures counts as it comes; `kit-agent readings` shows it")]
    NotNeeded(String),
    /// Somebody opened one.
    #[error("a measurement window of {0} is open already; wait until it closes")]
    Open(String),
    /// Too short or too long.
    #[error("a measurement window lasts {} to {} seconds", SECONDS.start(), SECONDS.end())]
    Span,
}

/// The windows of every device that needs one; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Windows(Arc<Mutex<BTreeMap<String, Option<Entry>>>>);

#[derive(Clone, Debug)]
struct Entry {
    window: Window,
    closed: bool,
    refused: u64,
    reading: Option<ReadingAt>,
}

impl Windows {
    /// The device needs a window.
    pub fn add(&self, device: &str) {
        self.lock().entry(device.to_owned()).or_default();
    }

    /// Opens a window of so many seconds.
    ///
    /// Errors: [`NoWindow`].
    pub fn open(&self, device: &str, now: Moment, seconds: u32) -> Result<(), NoWindow> {
        let mut windows = self.lock();
        let slot = windows.get_mut(device).ok_or_else(|| NoWindow::NotNeeded(device.to_owned()))?;
        if !SECONDS.contains(&seconds) {
            return Err(NoWindow::Span);
        }
        if slot.as_ref().is_some_and(|entry| entry.stage(now) == Stage::Open) {
            return Err(NoWindow::Open(device.to_owned()));
        }
        let window = Window { opened: now, closes: now + Duration::from_secs(seconds.into()) };
        *slot = Some(Entry { window, closed: false, refused: 0, reading: None });
        Ok(())
    }

    /// Closes the device's window.
    pub fn close(&self, device: &str) {
        self.change(device, |entry| entry.closed = true);
    }

    /// Closes every window: another patient may be next.
    pub fn close_all(&self) {
        self.lock().values_mut().flatten().for_each(|entry| entry.closed = true);
    }

    /// The device's window, for judging what it says.
    #[must_use]
    pub fn of(&self, device: &str) -> Option<Window> {
        let windows = self.lock();
        windows.get(device)?.as_ref().filter(|entry| !entry.closed && entry.reading.is_none()).map(|entry| entry.window)
    }

    /// A reading of the device became durable.
    pub fn measured(&self, device: &str, reading: ReadingAt) {
        self.change(device, |entry| entry.reading = entry.reading.take().or(Some(reading)));
    }

    /// A measurement of the device was refused.
    pub fn refused(&self, device: &str) {
        self.change(device, |entry| entry.refused += 1);
    }

    /// The device's last window; `None` where there was none since the agent started.
    #[must_use]
    pub fn view(&self, device: &str, now: Moment) -> Option<WindowView> {
        let windows = self.lock();
        let entry = windows.get(device)?.as_ref()?;
        let left_s = entry.window.closes.since(now).as_secs();
        Some(WindowView { stage: entry.stage(now), left_s, refused: entry.refused, reading: entry.reading.clone() })
    }

    fn change(&self, device: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(device).and_then(Option::as_mut).filter(|entry| !entry.closed) {
            change(entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Entry>>> {
        match self.0.lock() {
            Ok(guard) => guard,
            // A task that panicked left whole entries: each change is one assignment.
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Entry {
    fn stage(&self, now: Moment) -> Stage {
        match &self.reading {
            Some(_) => Stage::Measured,
            None if self.closed || now >= self.window.closes + LATE_MAX => Stage::Ended,
            None if now >= self.window.closes => Stage::Ending,
            None => Stage::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::from_nanos(second * 1_000_000_000)
    }

    fn stage(windows: &Windows, second: u64) -> Stage {
        windows.view("scale", at(second)).unwrap().stage
    }

    fn reading(seq: u64) -> ReadingAt {
        ReadingAt { epoch: "e".into(), seq }
    }

    #[test]
    fn i4_a_window_is_over_with_its_reading_its_time_or_the_assignment() {
        let windows = Windows::default();
        windows.add("scale");
        assert_eq!((windows.of("scale"), windows.view("scale", at(0))), (None, None));
        windows.open("scale", at(10), 60).unwrap();
        assert_eq!(windows.of("scale"), Some(Window { opened: at(10), closes: at(70) }));
        windows.measured("scale", reading(4));
        windows.measured("scale", reading(5));
        assert_eq!((windows.of("scale"), stage(&windows, 20)), (None, Stage::Measured));
        assert_eq!(windows.view("scale", at(20)).unwrap().reading, Some(reading(4)));

        windows.open("scale", at(30), 60).unwrap();
        assert_eq!((stage(&windows, 89), stage(&windows, 90), stage(&windows, 102)), (Stage::Open, Stage::Ending, Stage::Ended));

        windows.open("scale", at(200), 60).unwrap();
        windows.close_all();
        windows.measured("scale", reading(6));
        assert_eq!((windows.of("scale"), stage(&windows, 201)), (None, Stage::Ended));
        windows.open("scale", at(210), 60).unwrap();
        windows.close("scale");
        assert_eq!(windows.of("scale"), None);
    }

    #[test]
    fn only_a_device_that_needs_a_window_has_one_and_one_at_a_time() {
        let windows = Windows::default();
        windows.add("scale");
        assert_eq!(windows.open("cuff", at(0), 60), Err(NoWindow::NotNeeded("cuff".into())));
        assert_eq!(windows.open("scale", at(0), 4), Err(NoWindow::Span));
        windows.open("scale", at(0), 5).unwrap();
        assert_eq!(windows.open("scale", at(4), 5), Err(NoWindow::Open("scale".into())));
        windows.refused("scale");
        assert_eq!(windows.view("scale", at(4)).unwrap().refused, 1);
        windows.open("scale", at(5), 5).unwrap();
        assert_eq!(windows.view("scale", at(5)).unwrap().refused, 0);
    }
}
