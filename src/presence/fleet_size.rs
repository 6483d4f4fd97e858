//! How large the fleet is, as last counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many agents are connected, over all workspaces and replicas, as last counted.
#[derive(Debug, Default)]
pub struct FleetSize(AtomicU64);

impl FleetSize {
    /// The last count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A new count.
    pub fn set(&self, agents: u64) {
        self.0.store(agents, Ordering::Relaxed);
    }
}
