//! The HTTP client, and when it is built anew.
//!
//! What it is built from changes while the agent runs: the system's authorities and the file of authorities are
//! replaced, the settings are edited, and Windows and macOS get another proxy. Names need no rebuilding: each look-up
//! asks the system's resolver, which follows its own settings.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use reqwest::{Client, Url, redirect};
use tokio::time::Instant;

use super::{answer, proxied, tls};
use crate::{
    config::{Config, ConfigError},
    timing::Timing,
};

const USER_AGENT: &str = concat!("planasonix-agent/", env!("CARGO_PKG_VERSION"));

/// An HTTP client that follows what it was built from.
#[derive(Debug)]
pub(super) struct RenewingClient {
    timing: Timing,
    built: Mutex<Built>,
}

#[derive(Debug)]
struct Built {
    /// What it was built from, without the enrollment token.
    config: Config,
    http: Client,
    base: String,
    at: Instant,
    /// Whether an attempt to connect has failed since.
    failed: bool,
    /// What was last logged of the authorities.
    complaints: Vec<String>,
}

impl RenewingClient {
    pub(super) fn new(config: &Config, timing: &Timing) -> Result<Self, ConfigError> {
        let built = Built::new(config, timing)?;
        built.complain(&[]);
        Ok(Self { timing: timing.clone(), built: Mutex::new(built) })
    }

    /// The client and the control plane's address. It is built anew if an attempt to connect has failed since it was
    /// built, which other authorities or another proxy may mend, and once an hour, since authorities may also have been
    /// withdrawn. If that fails, the one that there is goes on.
    pub(super) fn current(&self) -> (Client, String) {
        let mut built = self.lock();
        let due = if built.failed { self.timing.least_backoff } else { self.timing.renew };
        if built.at.elapsed() >= due {
            let config = built.config.clone();
            self.replace(&mut built, &config).unwrap_or_else(|error| built.keep(&error));
        }
        (built.http.clone(), built.base.clone())
    }

    /// An attempt to connect has failed.
    pub(super) fn connecting_failed(&self) {
        self.lock().failed = true;
    }

    /// Uses these settings from now on. If they cannot be used, those before remain in force.
    pub(super) fn reconfigure(&self, config: &Config) -> Result<(), ConfigError> {
        self.replace(&mut self.lock(), config)
    }

    fn replace(&self, built: &mut Built, config: &Config) -> Result<(), ConfigError> {
        let said = std::mem::replace(built, Built::new(config, &self.timing)?).complaints;
        built.complain(&said);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Built> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Built {
    fn new(config: &Config, timing: &Timing) -> Result<Self, ConfigError> {
        let host = config.api_host()?;
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            // A redirect would send the credential to another host.
            .redirect(redirect::Policy::none())
            .connect_timeout(timing.connect)
            .timeout(timing.request);
        let (builder, complaints) = tls::trust(builder, host, config.ca_file.as_deref())?;
        let http = proxied(builder, host, &config.proxies)?.build().map_err(|error| ConfigError::Value {
            name: "PLANASONIX_CA_FILE",
            issue: format!("{} (is the package ca-certificates installed?)", answer::causes(&error)),
        })?;
        Ok(Self {
            config: config.without_token(),
            http,
            base: base(host),
            at: Instant::now(),
            failed: false,
            complaints,
        })
    }

    /// Logs what is wrong with the authorities, unless it `was` logged before.
    fn complain(&self, was: &[String]) {
        let Some(file) = self.config.ca_file.as_deref().map(Path::display) else { return };
        for why in self.complaints.iter().filter(|why| !was.contains(why)) {
            tracing::warn!(%file, why, "certificate of an authority cannot be used; the others are");
        }
    }

    fn keep(&mut self, error: &ConfigError) {
        (self.at, self.failed) = (Instant::now(), false);
        let complaint = error.to_string();
        if !self.complaints.contains(&complaint) {
            tracing::warn!(%error, "authorities and proxies cannot be read anew; those read before remain in use");
            self.complaints.push(complaint);
        }
    }
}

fn base(host: &Url) -> String {
    host.as_str().trim_end_matches('/').to_owned()
}
