//! Estimates how many agents are connected, so that heartbeats can be asked for less often when they are many.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    db::{Budget, Db, fleet},
    domain::Result,
    meter,
    presence::FleetSize,
};

const PAUSE: Duration = Duration::from_secs(15);
const BUDGET: Duration = Duration::from_secs(2);

/// The task.
pub struct Census {
    db: Db,
    fleet: Arc<FleetSize>,
}

impl Census {
    /// Keeps `fleet` up to date.
    pub fn new(db: Db, fleet: Arc<FleetSize>) -> Self {
        Self { db, fleet }
    }

    /// Looks now and then. A look that failed was logged where it failed; the last one stands.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Ok(agents) = self.estimate().await {
                self.fleet.set(agents.unsigned_abs());
                meter::connected(agents.unsigned_abs());
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn estimate(&self) -> Result<i64> {
        self.db
            .background()
            .run("estimate_connected", &Budget::new(BUDGET), |mut connection| async move {
                Ok(fleet::estimate_connected(&mut connection).await?)
            })
            .await
    }
}
