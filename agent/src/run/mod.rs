//! The loop: keeps the host's agent connected for as long as the process lives.
//!
//! ```text
//! not_enrolled ──token──▶ active ◀──answer── unreachable
//!                           │  ▲──no answer─────▲
//!            re_enroll ◀────┴──┴────▶ stop
//!      needs_enrollment                stopped
//! ```
//!
//! Nothing that the control plane says or leaves unsaid ends the loop: no answer means backing off, a
//! refusal means silence, broken every quarter of an hour at most. In both it looks at the identity's file
//! every two seconds, so that an operator's `enroll` brings the agent back at once. No number of an answer keeps it
//! waiting for much longer than an hour: [`pace`] bounds them all.

mod attempt;
mod cycle;
pub mod pace;
mod rotation;
pub mod skew;
mod standing;

use std::{io, pin::pin, sync::Arc, time::Duration};

use planasonix_wire::AgentId;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::cycle::Cycle;
use crate::{
    client::Client,
    config::{Config, ConfigError, TokenSource},
    host::Host,
    identity::{AlreadyRunning, Store},
    runtimes::Folder,
    signals::Reload,
    subprocess,
    systemd::Notifier,
    timing::Timing,
};

/// What a host can run changes seldom.
const PROBE_EVERY: Duration = Duration::from_hours(1);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It runs already.
    #[error(transparent)]
    AlreadyRunning(#[from] AlreadyRunning),
    /// No handler of signals can be installed.
    #[error("signals cannot be waited for: {0}")]
    Signals(#[from] io::Error),
}

/// Runs this host's agent until it is told to stop; then it takes leave of the control plane.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let timing = Timing::default();
    let client = Client::new(&config, &timing)?;
    let store = Store::new(&config.state_dir);
    let _alone = store.lock_for_run()?;
    let reload = Reload::listen()?;
    let tokens = config.tokens.clone().settled()?;
    warn_of_unknown_keys(&config);
    let host = Arc::new(Host::new(&config.data_dir));
    // The first beat says everything, so it waits the few seconds that this takes.
    if stop.run_until_cancelled(host.probe()).await.is_none() {
        return Ok(());
    }
    let agent = Agent {
        client: client.clone(),
        store,
        host: Arc::clone(&host),
        runtimes: Folder::new(&config.runtime_dir),
        tokens,
        expected: config.agent_id,
        timing,
        notifier: Notifier::of_the_process(),
    };
    tokio::select! {
        () = agent.run(stop) => {}
        () = probe_hourly(&host) => {}
        () = reload_settings(reload, &config, &client) => {}
        () = subprocess::reap_orphans() => {}
    }
    Ok(())
}

fn warn_of_unknown_keys(config: &Config) {
    for key in &config.unknown_keys {
        tracing::warn!(file = %config.file.display(), key, "not a setting of the agent: mistyped?");
    }
}

/// At each wish, reads the configuration file again. What the client is built from holds at once.
async fn reload_settings(mut reload: Reload, config: &Config, client: &Client) {
    loop {
        reload.wanted().await;
        let file = config.file.display();
        match config.reload().and_then(|new| client.reconfigure(&new).map(|()| new)) {
            Ok(new) => {
                warn_of_unknown_keys(&new);
                tracing::info!(%file, "settings read again: address, authorities and proxies hold now, others after a restart");
            }
            Err(error) => {
                tracing::error!(%file, %error, "settings cannot be read again; those before remain in force");
            }
        }
    }
}

async fn probe_hourly(host: &Host) {
    let mut hour = interval(PROBE_EVERY);
    hour.tick().await;
    loop {
        hour.tick().await;
        host.probe().await;
    }
}

/// One agent. A process may run any number of them; they share nothing but what they are given to share.
#[derive(Debug)]
pub struct Agent {
    /// Speaks with the control plane. Clones share their connections.
    pub client: Client,
    /// Where the identity is.
    pub store: Store,
    /// The host.
    pub host: Arc<Host>,
    /// Where the pipeline runtimes are.
    pub runtimes: Folder,
    /// Where a token comes from when one is needed.
    pub tokens: TokenSource,
    /// The agent that this host is meant to be.
    pub expected: Option<AgentId>,
    /// How long it waits for what.
    pub timing: Timing,
    /// Whom it tells how it stands.
    pub notifier: Notifier,
}

impl Agent {
    /// Runs until `stop`, and takes leave then.
    pub async fn run(self, stop: CancellationToken) {
        let (notifier, farewell) = (self.notifier.clone(), self.timing.farewell);
        let mut cycle = Cycle::new(self);
        notifier.ready();
        while let Some(next) = attempt(&mut cycle, &stop, farewell / 2).await {
            if stop.run_until_cancelled(cycle.rest(next)).await.is_none() {
                break;
            }
        }
        notifier.stopping();
        cycle.leave(farewell / 2).await;
    }
}

/// Makes one attempt and answers when the next one is due; none when it is time to go. A request that is
/// under way then gets `grace`, since a beat could otherwise arrive after the leave-taking.
async fn attempt(cycle: &mut Cycle, stop: &CancellationToken, grace: Duration) -> Option<Instant> {
    let mut attempt = pin!(cycle.attempt());
    if let Some(next) = stop.run_until_cancelled(&mut attempt).await {
        return Some(next);
    }
    // Whether it ended in time or not: nothing follows it.
    let _ = timeout(grace, attempt).await;
    None
}
