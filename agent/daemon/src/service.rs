//! What is said to the service manager (sd_notify). Without one all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The agent serves.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// The agent stops.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// The agent is alive.
pub fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// One line on what it is doing.
pub fn status(line: &str) {
    say(&[NotifyState::Status(line)]);
}

/// How often [`alive`] has to be said, if at all: twice as often as the service manager demands.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|pause| !pause.is_zero())
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("the service manager was not told: {error}");
    }
}
