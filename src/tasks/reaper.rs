//! Ages heartbeats: records, once, that an agent fell silent. Announces outages of the control plane before.
//!
//! Who is connected is decided at read time and never waits for this task. It takes no input, may run in
//! any number of replicas (one at a time has a turn), and does a bounded amount a pass, which follows the cost of the
//! last one: it goes round and round through the table of heartbeats, a stretch at a time, so that no pass grows with
//! the fleet.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    db::{
        Budget, Db,
        fleet::{self, BatchLimit, Look, Search},
    },
    domain::{Error, Result},
};

/// 8 MB of the table, some 27,000 agents: a few hundredths of a second. Fewer on a slow database.
pub const PAGES_A_PASS: u32 = 1_000;
/// How many runs a pass closes at most. Fewer on a slow database.
pub const MOST_A_PASS: u32 = 1_000;
/// Most workspaces that one statement writes an outage's events for.
const MAX_WORKSPACES: u32 = 1_000;
/// How long one statement should take, far below its timeout of 1.5 s.
const TARGET: Duration = Duration::from_millis(400);
const BUDGET: Duration = Duration::from_secs(2);
/// Longest pause after a pass that failed; the next one is smaller.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The task.
pub struct Reaper {
    db: Db,
    window: Duration,
    page: i64,
    runs: BatchLimit,
    pages: BatchLimit,
    workspaces: BatchLimit,
}

impl Reaper {
    /// Records who was silent for longer than `window`.
    pub fn new(db: Db, window: Duration) -> Self {
        let [runs, pages, workspaces] =
            [MOST_A_PASS, PAGES_A_PASS, MAX_WORKSPACES].map(|max| BatchLimit::new(max, TARGET));
        Self { db, window, page: 0, runs, pages, workspaces }
    }

    /// One pass after another: at once while there is more to do, otherwise so that a round through the
    /// table, and with it how late a record can be, takes a fraction of the window only.
    pub async fn run(mut self, stop: CancellationToken) {
        let round = (self.window / 20).clamp(Duration::from_millis(100), Duration::from_secs(5));
        while !stop.is_cancelled() {
            let pause = match self.pass().await {
                // None may mean that another replica is announcing it.
                Ok(look) if look.outage_pending => match self.announce().await {
                    Ok(1..) => continue,
                    Ok(0) | Err(_) => round.min(MAX_RETRY_PAUSE),
                },
                Ok(look) if look.more => continue,
                Ok(look) => round / look.passes,
                // What failed was logged where it failed; the next pass tries again.
                Err(_) => round.min(MAX_RETRY_PAUSE),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Closes silent runs on the next stretch of the table, and goes on to the one after it unless more are left there.
    async fn pass(&mut self) -> Result<Pass> {
        let (started, window, most) = (Instant::now(), self.window, self.runs.sql());
        let search = &Search { page: self.page, pages: self.pages.sql(), most };
        let looked = self
            .db
            .background()
            .run("close_silent_runs", &Budget::new(BUDGET), |mut connection| async move {
                let started = Instant::now();
                let look = fleet::close_silent_runs(&mut connection, window, search).await?;
                Ok((look, started.elapsed()))
            })
            .await;
        let (look, elapsed) = looked.inspect_err(|error| {
            if is_slow(error) {
                self.runs.record_timeout(self.runs.get(), started.elapsed());
                self.pages.record_timeout(self.pages.get(), started.elapsed());
            }
        })?;
        let more = look.closed >= most;
        if look.ours {
            self.runs.record_success(rows(look.closed), elapsed);
            self.pages.record_success(rows(search.pages.min(look.pages)), elapsed);
            if !more {
                self.advance(search, &look);
            }
        }
        Ok(Pass { outage_pending: look.outage_pending, more, passes: passes(look.pages, search.pages) })
    }

    fn advance(&mut self, search: &Search, look: &Look) {
        self.page += search.pages;
        if self.page >= look.pages {
            self.page = 0;
        }
    }

    /// Writes the events of a recorded outage for the next workspaces; returns how many it looked at.
    async fn announce(&mut self) -> Result<usize> {
        let (started, limit) = (Instant::now(), self.workspaces.sql());
        let announced = self
            .db
            .background()
            .run("announce_outage", &Budget::new(BUDGET), |mut connection| async move {
                let started = Instant::now();
                let workspaces = fleet::announce_outage(&mut connection, limit).await?;
                Ok((usize::try_from(workspaces).unwrap_or(usize::MAX), started.elapsed()))
            })
            .await;
        match announced {
            Ok((workspaces, elapsed)) => {
                self.workspaces.record_success(workspaces, elapsed);
                Ok(workspaces)
            }
            Err(error) => {
                if is_slow(&error) {
                    self.workspaces.record_timeout(self.workspaces.get(), started.elapsed());
                }
                Err(error)
            }
        }
    }
}

/// What one pass came to.
struct Pass {
    outage_pending: bool,
    /// Whether there may be more to close on the same stretch.
    more: bool,
    /// How many such passes a round through the table takes.
    passes: u32,
}

/// Whether less work at once may succeed.
fn is_slow(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_))
}

fn rows(count: i64) -> usize {
    usize::try_from(count).unwrap_or_default()
}

/// How many passes over so many pages each a round through the table takes.
fn passes(pages: i64, pages_a_pass: i64) -> u32 {
    let passes = pages.max(1).unsigned_abs().div_ceil(pages_a_pass.max(1).unsigned_abs());
    u32::try_from(passes).unwrap_or(u32::MAX)
}
