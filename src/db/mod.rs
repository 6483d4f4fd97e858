//! All SQL. Nothing above this module writes any, and nothing in it knows HTTP.
//!
//! [`Db::workspace`] is the only door to a workspace's rows; [`fleet`] alone works across workspaces,
//! for the heartbeat and the background tasks. [`lane`] is how a connection is got: a lane of its own
//! for each kind of work, and no wait without an end.

pub mod agents;
pub mod api_keys;
pub mod auth;
pub mod credentials;
mod error;
pub mod events;
pub mod fair_semaphore;
pub mod fleet;
pub mod idempotency;
pub mod lane;
mod migrate;
pub mod schema;
pub mod statements;
pub mod workspace;
pub mod workspaces;

use std::sync::Arc;

use planasonix_wire::WorkspaceId;
use sqlx::postgres::PgConnectOptions;

pub use error::sqlstate;
pub use lane::{Budget, Lane, Turn};
pub use workspace::Workspace;

/// The database, by lanes: one kind of work never waits behind another.
#[derive(Clone)]
pub struct Db(Arc<Lanes>);

struct Lanes {
    reads: Lane,
    writes: Lane,
    barring: Lane,
    background: Lane,
    probe: Lane,
    options: PgConnectOptions,
}

/// How many connections each lane may hold. The heartbeats' one connection is not among them.
#[derive(Debug, Clone, Copy)]
pub struct LaneSizes {
    /// For lists and single records.
    pub reads: u32,
    /// For changes other than revoke and delete.
    pub writes: u32,
}

impl Default for LaneSizes {
    fn default() -> Self {
        Self { reads: 8, writes: 8 }
    }
}

impl Db {
    /// Prepares the lanes; no connection is made before it is wanted.
    pub fn new(options: PgConnectOptions, sizes: LaneSizes) -> Self {
        let (options, failures) = (lane::pinned(options), lane::Failures::default());
        let lane = |name, connections| Lane::new(name, connections, &options, &failures);
        Self(Arc::new(Lanes {
            reads: lane("reads", sizes.reads),
            writes: lane("writes", sizes.writes),
            barring: lane("barring", 1),
            background: lane("background", 1),
            probe: lane("probe", 1),
            options,
        }))
    }

    /// The door to one workspace's rows.
    pub fn workspace(&self, id: WorkspaceId, budget: Budget) -> Workspace {
        Workspace::new(self.clone(), id, budget)
    }

    /// For questions.
    pub fn reads(&self) -> &Lane {
        &self.0.reads
    }

    /// For changes.
    pub fn writes(&self) -> &Lane {
        &self.0.writes
    }

    /// For revoke and delete, which must get through when all else is busy.
    pub fn barring(&self) -> &Lane {
        &self.0.barring
    }

    /// For the background tasks.
    pub fn background(&self) -> &Lane {
        &self.0.background
    }

    /// For the readiness check alone. Behind the background tasks it would wait for statements of up to 1.5 s, and
    /// report a database as unreachable that is only busy.
    pub fn probe(&self) -> &Lane {
        &self.0.probe
    }

    /// How to connect, for the one connection that carries the heartbeats.
    pub fn options(&self) -> &PgConnectOptions {
        &self.0.options
    }

    /// Gives every connection back.
    pub async fn close(&self) {
        for lane in [&self.0.reads, &self.0.writes, &self.0.barring, &self.0.background, &self.0.probe] {
            lane.close().await;
        }
    }
}
