//! What systemd wants to hear: that the loop runs, how it stands, that it is alive. Elsewhere, and
//! without systemd, nothing is said.

use std::{pin::pin, time::Duration};

use tokio::time::sleep;

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

    /// Waits for `work`, and says meanwhile that the loop is alive. Whatever the loop waits for goes through
    /// here, and all of it ends by a deadline of its own.
    pub async fn alive_during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let Some(limit) = self.watchdog else { return work.await };
        loop {
            #[cfg(target_os = "linux")]
            self.say(&sd_notify::NotifyState::Watchdog);
            tokio::select! {
                done = &mut work => return done,
                () = sleep(limit / 2) => {}
            }
        }
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
