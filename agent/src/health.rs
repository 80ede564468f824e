//! What systemd is told: ready, alive, stopping.

use std::time::Duration;

use sd_notify::NotifyState;

/// The watchdog is fed so often: a third of the unit's `WatchdogSec=60`.
const BEAT: Duration = Duration::from_secs(20);

/// The agent serves: devices are watched, the store is open.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
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
