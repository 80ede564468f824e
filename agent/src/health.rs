//! What systemd is told: ready, alive, stopping.

use std::time::Duration;

use sd_notify::NotifyState;

/// The watchdog is fed so often: a third of the unit's `WatchdogSec=60`.
const BEAT: Duration = Duration::from_secs(20);

/// Until it is ready, systemd is asked so often for as much time again.
pub(crate) const STARTING: Duration = Duration::from_secs(30);

/// The agent starts still, and why: a store that does not open takes no reading.
pub(crate) fn starting(why: &str) {
    let twice = u32::try_from(2 * STARTING.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(&format!("not ready: {why}")), NotifyState::ExtendTimeoutUsec(twice)]);
}

/// The agent serves: devices are watched, the store is open.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("running")]);
}

/// The agent stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog as long as `alive` says that the store answers; a store that hangs is not fed for.
pub(crate) async fn beat(alive: impl AsyncFn() -> bool) {
    loop {
        if alive().await {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(BEAT).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
