//! Removes what is kept for a while only: old events, where a retention is set, and idempotency keys that
//! are no longer honoured. A bounded amount a pass; replicas share the work.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    db::{Budget, Db, fleet},
    domain::Result,
};

const MOST_A_PASS: u16 = 1_000;
const PAUSE: Duration = Duration::from_secs(30);
const BUDGET: Duration = Duration::from_secs(2);

/// The task.
pub struct Prune {
    db: Db,
    events_retention: Option<Duration>,
}

impl Prune {
    /// Events older than the retention go; without one they stay for ever.
    pub fn new(db: Db, events_retention: Option<Duration>) -> Self {
        Self { db, events_retention }
    }

    /// One pass after another: at once while there is more to do.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // What failed was logged where it failed; the next pass tries again.
            if self.pass().await.is_ok_and(|removed| removed >= u64::from(MOST_A_PASS)) {
                continue;
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Tells how many rows of the kind that had most were removed.
    async fn pass(&self) -> Result<u64> {
        let keys = self
            .db
            .background()
            .run("prune_idempotency_keys", &Budget::new(BUDGET), |mut connection| async move {
                Ok(fleet::prune_idempotency_keys(&mut connection, MOST_A_PASS.into()).await?)
            })
            .await?;
        let Some(age) = self.events_retention else { return Ok(keys) };
        let events = self
            .db
            .background()
            .transaction("prune_events", &Budget::new(BUDGET), |mut connection| async move {
                Ok(fleet::prune_events(&mut connection, age, MOST_A_PASS.into()).await?)
            })
            .await?;
        Ok(keys.max(events))
    }
}
