//! The group commit: one task, one connection, one statement a flush.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Accepted, Shared,
    queue::{Entry, Outcome},
    slow,
};
use crate::{
    db::{
        fleet::{self, Beat, BeatRules, Explained},
        sqlstate,
    },
    domain::presence::Refusal,
    meter::{self, Used},
};

/// What the flusher's one connection is called beside the database's other lanes.
const LANE: &str = "heartbeats";

/// How long a statement may take before its connection is given up.
const STATEMENT: Duration = Duration::from_millis(1_600);
const CONNECT: Duration = Duration::from_secs(1);
/// How long a failure is followed by nothing.
const REST: Duration = Duration::from_millis(20);
/// How often the control plane marks that it takes heartbeats.
const MARK: Duration = Duration::from_secs(5);

/// The task behind [`super::Presence`].
pub struct Flusher {
    shared: Arc<Shared>,
    options: PgConnectOptions,
    rules: BeatRules,
    connection: Option<PgConnection>,
    next_mark: Instant,
    /// Whether the database was away at the last try.
    away: bool,
}

/// Why a flush stored nothing.
enum Failure {
    /// Something in it cannot be stored, whatever the state of the database.
    Poisoned(sqlx::Error),
    /// It may work in a moment.
    Passing,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, options: PgConnectOptions, rules: BeatRules) -> Self {
        Self { shared, options, rules, connection: None, next_mark: Instant::now(), away: false }
    }

    /// Flushes until told to stop and nothing waits any more.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = Instant::now();
            let marked = self.next_mark > now || self.mark_alive(now).await;
            let batch = self.shared.queue().take(now);
            let (waiting, beating) = self.shared.queue().load(self.rules.window, now, self.away);
            meter::desk(waiting, beating);
            if !batch.is_empty() {
                if marked {
                    self.flush(batch).await;
                } else {
                    meter::flush(batch.len(), now.elapsed(), false);
                    self.put_back(batch);
                }
                continue;
            }
            let due = self.shared.queue().next_due(now);
            if due.is_none() && stop.is_cancelled() {
                break;
            }
            let idle_until = self.next_mark.max(now + MARK / 20);
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = sleep_until(due.map_or(idle_until, |due| due.min(idle_until))) => {}
                () = stop.cancelled(), if due.is_none() => {}
            }
        }
        if let Some(connection) = self.connection.take() {
            // The server notices a closed socket too; a polite goodbye may fail.
            let _ = timeout(CONNECT, connection.close()).await;
        }
    }

    /// Marks that heartbeats are taken, unless some had to be turned away since the last mark; tells whether
    /// that is settled. A flush waits for it: after an outage it goes by the gap that the mark finds.
    async fn mark_alive(&mut self, now: Instant) -> bool {
        let window = self.rules.window;
        let shed = self.shared.queue().take_shed() && !self.away;
        if !shed
            && self
                .on_connection("mark_alive", async |connection| fleet::mark_alive(connection, window).await)
                .await
                .is_err()
        {
            return false;
        }
        self.next_mark = now + MARK;
        true
    }

    /// Settles a batch: stores what is good, explains what is not, puts back what is neither. A batch
    /// that holds something unstorable is halved until that stands alone.
    async fn flush(&mut self, batch: Vec<Entry>) {
        let mut batches = vec![batch];
        while let Some(mut batch) = batches.pop() {
            let (started, beats) = (Instant::now(), batch.len());
            let stored = self.store(&batch).await;
            meter::flush(beats, started.elapsed(), stored.is_ok());
            match stored {
                Ok(stored) => self.settle(batch, stored).await,
                Err(Failure::Passing) => {
                    for entry in &mut batch {
                        entry.resent = true;
                    }
                    self.put_back(batch);
                }
                Err(Failure::Poisoned(_)) if batch.len() > 1 => {
                    let half = batch.split_off(batch.len() / 2);
                    batches.extend([half, batch]);
                }
                Err(Failure::Poisoned(error)) => {
                    for entry in batch {
                        tracing::error!(%error, agent = %entry.key.agent, "unstorable heartbeat");
                        entry.answer(Outcome::Poisonous);
                    }
                }
            }
        }
    }

    async fn store(&mut self, batch: &[Entry]) -> Result<Vec<fleet::Stored>, Failure> {
        let rules = self.rules;
        let beats: Vec<_> = batch
            .iter()
            .map(|entry| Beat {
                agent: entry.key.agent,
                credential: entry.key.credential,
                remote_ip: entry.remote_ip,
                sample: &entry.sample,
                resent: entry.resent,
            })
            .collect();
        self.on_connection("store_beats", async |connection| {
            fleet::store_beats(connection, &beats, rules).await
        })
        .await
    }

    async fn settle(&mut self, batch: Vec<Entry>, stored: Vec<fleet::Stored>) {
        let mut accepted = HashMap::new();
        for row in stored {
            let acceptance = Accepted { draining: row.draining, rotate: row.rotate, now: row.now };
            accepted.extend(row.positions.into_iter().map(|position| (position, (acceptance, row.slow))));
        }
        let (mut texts, mut rest) = (Vec::new(), Vec::new());
        for (position, mut entry) in batch.into_iter().enumerate() {
            if let Some((acceptance, mark)) = accepted.remove(&position) {
                texts.push((entry.key, std::mem::take(&mut entry.sample.slow), mark));
                entry.answer(Outcome::Accepted(acceptance));
            } else {
                rest.push(entry);
            }
        }
        self.shared.queue().know(texts.iter().map(|(key, ..)| key.credential));
        if !rest.is_empty() {
            self.explain(rest).await;
        }
        let news = slow::news(texts);
        if !news.is_empty() {
            let stored = self
                .on_connection("store_slow_fields", async |connection| {
                    fleet::store_slow_fields(connection, &news).await
                })
                .await;
            // Otherwise it is still news to the next beat.
            if let Err(Failure::Poisoned(error)) = stored {
                tracing::error!(%error, "unstorable texts of heartbeats");
            }
        }
    }

    /// Tells why beats were not stored. Where nothing speaks against one, its row was locked or its
    /// credential is younger than the flush, and it is tried again.
    async fn explain(&mut self, entries: Vec<Entry>) {
        let credentials: Vec<_> = entries.iter().map(|entry| entry.key.credential).collect();
        let min_interval = self.rules.min_interval;
        let Ok(explained) = self
            .on_connection("explain", async |connection| {
                fleet::explain(connection, &credentials, min_interval).await
            })
            .await
        else {
            return entries.into_iter().for_each(|entry| entry.answer(Outcome::Unknown));
        };
        let mut again = Vec::new();
        for entry in entries {
            if let Some(refusal) = refusal(&entry, explained.get(&entry.key.credential), min_interval) {
                self.shared.refused.remember(entry.key.credential, refusal);
                entry.answer(Outcome::Refused(refusal));
            } else {
                again.push(entry);
            }
        }
        self.put_back(again);
    }

    fn put_back(&self, entries: Vec<Entry>) {
        self.shared.queue().put_back(entries, Instant::now());
    }

    /// Runs a statement on the one connection. `name` is for the metrics.
    async fn on_connection<T>(
        &mut self,
        name: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let result = self.try_on_connection(started, work).await;
        meter::statement(LANE, name, started.elapsed(), !matches!(result, Err(Failure::Passing)));
        result
    }

    /// The same, on a connection made anew where need be. One on which anything failed or took too long is
    /// closed.
    async fn try_on_connection<T>(
        &mut self,
        started: Instant,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match timeout(CONNECT, PgConnection::connect_with(&self.options)).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return Err(self.note_failure(&error).await),
                Err(elapsed) => return Err(self.note_failure(&elapsed).await),
            },
        };
        let _used = Used::after(started.elapsed(), LANE, 1);
        match timeout(STATEMENT, work(&mut connection)).await {
            Ok(Ok(done)) => {
                self.connection = Some(connection);
                self.note_success();
                Ok(done)
            }
            Ok(Err(error)) if is_poison(&error) => {
                self.connection = Some(connection);
                Err(Failure::Poisoned(error))
            }
            Ok(Err(error)) => Err(self.note_failure(&error).await),
            Err(elapsed) => Err(self.note_failure(&elapsed).await),
        }
    }

    /// Says once that the database is away, and lets a moment pass before the next try.
    async fn note_failure(&mut self, error: &(dyn std::error::Error + Sync)) -> Failure {
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(%error, "heartbeats cannot be committed");
        }
        sleep(REST).await;
        Failure::Passing
    }

    fn note_success(&mut self) {
        if std::mem::take(&mut self.away) {
            tracing::info!("heartbeats are committed again");
        }
    }
}

/// Why a beat that was not stored is refused; `None` if nothing speaks against it.
fn refusal(entry: &Entry, explained: Option<&Explained>, min_interval: Duration) -> Option<Refusal> {
    match explained {
        None => Some(Refusal::NeverIssued),
        Some(Explained { refusal: Some(refusal), .. }) => Some(*refusal),
        Some(explained) if explained.agent != entry.key.agent => Some(Refusal::OtherAgent),
        Some(explained) if explained.too_soon && !entry.resent => Some(Refusal::TooSoon(min_interval)),
        Some(_) => None,
    }
}

/// Whether the database refused the data itself (SQLSTATE class 22 or 23).
fn is_poison(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
