//! Ages heartbeats: records, once, that an agent fell silent.
//!
//! Who is connected is decided at read time and never waits for this task. It takes no input, may run in
//! any number of replicas (one at a time has a turn), and does a bounded amount a pass: it goes round and
//! round through the table of heartbeats, a stretch at a time, so that no pass grows with the fleet.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    db::{
        Budget, Db,
        fleet::{self, Look, Search},
    },
    domain::Result,
};

/// 8 MB of the table, some 27,000 agents: a few hundredths of a second.
pub const PAGES_A_PASS: i64 = 1_000;
/// How many runs a pass closes at most.
pub const MOST_A_PASS: i64 = 1_000;
const BUDGET: Duration = Duration::from_secs(2);

/// The task.
pub struct Reaper {
    db: Db,
    window: Duration,
    page: i64,
}

impl Reaper {
    /// Records who was silent for longer than `window`.
    pub fn new(db: Db, window: Duration) -> Self {
        Self { db, window, page: 0 }
    }

    /// One pass after another: at once while there is more to do, otherwise so that a round through the
    /// table, and with it how late a record can be, takes a fraction of the window only.
    pub async fn run(mut self, stop: CancellationToken) {
        let round = (self.window / 20).clamp(Duration::from_millis(100), Duration::from_secs(5));
        while !stop.is_cancelled() {
            let pause = match self.pass().await {
                Ok(look) if look.closed >= MOST_A_PASS => continue,
                Ok(look) => {
                    if look.ours {
                        self.advance(&look);
                    }
                    round / passes(look.pages)
                }
                // What failed was logged where it failed; the next pass tries again.
                Err(_) => round,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn advance(&mut self, look: &Look) {
        self.page += PAGES_A_PASS;
        if self.page >= look.pages {
            self.page = 0;
        }
    }

    async fn pass(&self) -> Result<Look> {
        let search = Search { page: self.page, pages: PAGES_A_PASS, most: MOST_A_PASS };
        self.db
            .background()
            .run("close_silent_runs", &Budget::new(BUDGET), |mut connection| async move {
                Ok(fleet::close_silent_runs(&mut connection, self.window, &search).await?)
            })
            .await
    }
}

/// How many passes a round through so many pages takes.
fn passes(pages: i64) -> u32 {
    u32::try_from(pages.max(1).unsigned_abs().div_ceil(PAGES_A_PASS.unsigned_abs())).unwrap_or(u32::MAX)
}
