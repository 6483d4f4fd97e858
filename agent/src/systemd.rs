//! What systemd wants to hear: that the loop runs, how it stands, that it is alive. Elsewhere, and
//! without systemd, nothing is said.

use std::time::Duration;

/// Speaks to the service manager that started the process, if one wants to hear.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "systemd is Linux's alone"))]
    on: bool,
    /// Silence for so long means that the loop is stuck.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// One that says nothing: for a loop that is not the process's only one.
    pub const fn off() -> Self {
        Self { on: false, watchdog: None }
    }

    /// The notifier of a process that is one agent.
    pub fn of_the_process() -> Self {
        #[cfg(target_os = "linux")]
        let watchdog = sd_notify::watchdog_enabled();
        #[cfg(not(target_os = "linux"))]
        let watchdog = None;
        Self { on: true, watchdog }
    }

    /// The loop runs.
    pub fn ready(&self) {
        #[cfg(target_os = "linux")]
        self.say(&sd_notify::NotifyState::Ready);
    }

    /// How the agent stands, on one line, as `systemctl status` shows it.
    pub fn status(&self, text: &str) {
        #[cfg(target_os = "linux")]
        self.say(&sd_notify::NotifyState::Status(text));
        #[cfg(not(target_os = "linux"))]
        let _ = text;
    }

    /// The loop is about to end.
    pub fn stopping(&self) {
        #[cfg(target_os = "linux")]
        self.say(&sd_notify::NotifyState::Stopping);
    }

    /// Resets the watchdog. Only the loop calls this, at each step that it takes: a loop that hangs in one step, or
    /// waits without looking around, is restarted by systemd.
    pub fn progress(&self) {
        #[cfg(target_os = "linux")]
        if self.watchdog.is_some() {
            self.say(&sd_notify::NotifyState::Watchdog);
        }
    }

    /// The longest time between two steps of a loop that wants to look around every `wanted`.
    pub fn step(&self, wanted: Duration) -> Duration {
        self.watchdog.map_or(wanted, |limit| wanted.min(limit / 3))
    }

    #[cfg(target_os = "linux")]
    fn say(&self, state: &sd_notify::NotifyState<'_>) {
        if self.on
            && let Err(error) = sd_notify::notify(std::slice::from_ref(state))
        {
            tracing::debug!(%error, "systemd does not listen");
        }
    }
}
