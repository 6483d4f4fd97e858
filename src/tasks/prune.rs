//! Removes what is kept for a while only: old events, where a retention is set, and idempotency keys that
//! are no longer honoured. A bounded amount a pass, which follows the cost of the last one; replicas share the work.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    db::{
        Budget, Db,
        fleet::{self, BatchLimit},
    },
    domain::{Error, Result},
};

const MAX_BATCH: u32 = 1_000;
/// How long one statement should take, far below its timeout of 1.5 s.
const TARGET: Duration = Duration::from_millis(400);
const PAUSE: Duration = Duration::from_secs(30);
/// Pause after a pass that was too slow; the next one is smaller.
const SLOW_PAUSE: Duration = Duration::from_secs(1);
const BUDGET: Duration = Duration::from_secs(2);

/// The task.
pub struct Prune {
    db: Db,
    events_retention: Option<Duration>,
    keys: BatchLimit,
    events: BatchLimit,
}

/// What is left after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    Nothing,
    /// The pass was too slow to end.
    Retry,
    More,
}

impl Prune {
    /// Events older than the retention go; without one they stay for ever.
    pub fn new(db: Db, events_retention: Option<Duration>) -> Self {
        let limit = BatchLimit::new(MAX_BATCH, TARGET);
        Self { db, events_retention, keys: limit.clone(), events: limit }
    }

    /// One pass after another: at once while there is more to do. What failed was logged where it failed.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // One kind's failure does not hold up the other.
            let pause = match self.prune_keys().await.max(self.prune_events().await) {
                Rest::More => continue,
                Rest::Retry => SLOW_PAUSE,
                Rest::Nothing => PAUSE,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn prune_keys(&mut self) -> Rest {
        let (started, limit) = (Instant::now(), self.keys.sql());
        let removed = self
            .db
            .background()
            .run("prune_idempotency_keys", &Budget::new(BUDGET), |mut connection| async move {
                let started = Instant::now();
                let removed = fleet::prune_idempotency_keys(&mut connection, limit).await?;
                Ok((removed, started.elapsed()))
            })
            .await;
        record(&mut self.keys, removed, started.elapsed())
    }

    async fn prune_events(&mut self) -> Rest {
        let Some(age) = self.events_retention else { return Rest::Nothing };
        let (started, limit) = (Instant::now(), self.events.sql());
        let removed = self
            .db
            .background()
            .transaction("prune_events", &Budget::new(BUDGET), |mut connection| async move {
                let started = Instant::now();
                let removed = fleet::prune_events(&mut connection, age, limit).await?;
                Ok((removed, started.elapsed()))
            })
            .await;
        record(&mut self.events, removed, started.elapsed())
    }
}

/// `waited` is how long a pass that failed took, with the wait for its connection.
fn record(limit: &mut BatchLimit, removed: Result<(u64, Duration)>, waited: Duration) -> Rest {
    let most = limit.get();
    match removed {
        Ok((rows, elapsed)) => {
            let rows = usize::try_from(rows).unwrap_or(usize::MAX);
            limit.record_success(rows, elapsed);
            if rows >= most { Rest::More } else { Rest::Nothing }
        }
        Err(Error::Unavailable(_)) => {
            limit.record_timeout(most, waited);
            Rest::Retry
        }
        Err(_) => Rest::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_that_timed_out_is_tried_again_soon_and_smaller() {
        let mut limit = BatchLimit::new(MAX_BATCH, TARGET);
        let failed = Err(Error::Unavailable("statement timeout".into()));
        assert_eq!(record(&mut limit, failed, Duration::from_millis(1_500)), Rest::Retry);
        let most = limit.get();
        assert!((100..=500).contains(&most), "{most}");
        assert_eq!(record(&mut limit, Ok((most as u64, TARGET)), TARGET), Rest::More);
        assert_eq!(record(&mut limit, Ok((0, TARGET)), TARGET), Rest::Nothing);
    }
}
