//! What the agent tells of its host, in an enrollment and in every beat. As many loops as one process
//! runs can share it.

use std::{
    path::Path,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use planasonix_wire::{enroll::Enroll, heartbeat::Heartbeat, json::Patch};

use tokio::time::sleep;

use crate::{
    facts::{self, Gauge, Load},
    runtimes::Totals,
};

/// Long enough for a processor's load to mean something.
const SAMPLE: Duration = Duration::from_millis(500);

/// The host.
#[derive(Debug)]
pub struct Host {
    gauge: Mutex<Gauge>,
    capabilities: RwLock<Option<Vec<String>>>,
}

impl Host {
    /// The host, and the volume that holds (or would hold) the folder `disk`. What it can run is not known yet.
    pub fn new(disk: &Path) -> Self {
        Self { gauge: Mutex::new(Gauge::new(disk)), capabilities: RwLock::new(None) }
    }

    /// Finds out what the host can run, which takes seconds.
    pub async fn probe(&self) {
        let found = facts::capabilities().await;
        tracing::debug!(capabilities = ?found, "what this host can run");
        *self.capabilities.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
        // The load of finding out is not the host's: the next figure begins here.
        self.load();
        sleep(SAMPLE).await;
    }

    /// What is told when an installation enrolls; `seed` is its identity's.
    pub fn about(&self, seed: &str) -> Enroll {
        Enroll {
            hostname: facts::hostname(),
            version: Some(facts::VERSION.to_owned()),
            platform: Some(facts::platform().to_string()),
            capabilities: self.capabilities(),
            instance_id: Some(facts::instance_id(seed)),
        }
    }

    /// A whole beat, but for the run of the loop that sends it. What cannot be told is left out; an error that is over is
    /// cleared.
    pub fn beat(&self, seed: &str, runtimes: Totals, now: DateTime<Utc>) -> Heartbeat {
        let load = self.load();
        Heartbeat {
            version: Patch::Set(facts::VERSION.to_owned()),
            capabilities: known(self.capabilities()),
            hostname: known(facts::hostname()),
            instance_id: Patch::Set(facts::instance_id(seed)),
            cpu_percent: known(load.cpu_percent),
            memory_percent: known(load.memory_percent),
            disk_free_gb: load.disk_free_gb,
            // A sum that is not known must not stay what it was.
            active_jobs: runtimes.active_jobs.map_or(Patch::Clear, Patch::Set),
            queue_depth: runtimes.queue_depth.map_or(Patch::Clear, Patch::Set),
            last_error: runtimes.last_error.map_or(Patch::Clear, Patch::Set),
            sent_at: Patch::Set(now.fixed_offset()),
            ..Heartbeat::default()
        }
    }

    fn load(&self) -> Load {
        self.gauge.lock().unwrap_or_else(PoisonError::into_inner).read()
    }

    fn capabilities(&self) -> Option<Vec<String>> {
        self.capabilities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn known<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Keep, Patch::Set)
}
