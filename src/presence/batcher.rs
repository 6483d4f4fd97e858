//! The group commit: one task, one connection, one statement a flush.

mod mark;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Accepted, Shared,
    connection::{Failure, FailureKind, FlusherConnection},
    queue::{Entry, Key, Outcome},
    slow::FactsBudget,
    storing::{FlushResult, Storing},
};
use crate::{
    db::fleet::{self, Beat, BeatRules, Explained, SlowMark},
    domain::presence::{Refusal, SlowFields},
    meter,
};

/// How long a failure is followed by nothing.
const REST: Duration = Duration::from_millis(20);
/// Least time between two marks that heartbeats are being stored.
const MARK_INTERVAL: Duration = Duration::from_secs(5);

/// The task behind [`super::Presence`].
pub struct Flusher {
    shared: Arc<Shared>,
    connection: FlusherConnection,
    rules: BeatRules,
    storing: Storing,
    next_mark: Instant,
    facts: FactsBudget,
    /// Whether the last flush failed for the database's sake.
    away: bool,
}

/// What the parts of one flush came to.
#[derive(Default)]
struct Tally {
    stored: bool,
    unstored: bool,
}

impl Tally {
    fn result(&self) -> FlushResult {
        match (self.stored, self.unstored) {
            (true, _) => FlushResult::Stored,
            (false, true) => FlushResult::Failed,
            (false, false) => FlushResult::Empty,
        }
    }
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, options: PgConnectOptions, rules: BeatRules) -> Self {
        let now = Instant::now();
        Self {
            shared,
            connection: FlusherConnection::new(options),
            rules,
            storing: Storing::new(rules.window),
            next_mark: now,
            facts: FactsBudget::new(now),
            away: false,
        }
    }

    /// Flushes until told to stop and nothing waits any more.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = Instant::now();
            let batch = self.shared.queue().take(now);
            let (waiting, beating) = self.shared.queue().load(self.rules.window, now, self.away);
            meter::desk(waiting, beating);
            let idle = batch.is_empty();
            if !idle {
                self.flush(batch).await;
            }
            if self.next_mark <= Instant::now() {
                self.mark(idle).await;
            }
            if !idle {
                continue;
            }
            let now = Instant::now();
            let due = self.shared.queue().next_due(now);
            if due.is_none() && stop.is_cancelled() {
                break;
            }
            let idle_until = self.next_mark.max(now + MARK_INTERVAL / 20);
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = sleep_until(due.map_or(idle_until, |due| due.min(idle_until))) => {}
                () = stop.cancelled(), if due.is_none() => {}
            }
        }
        self.connection.close().await;
    }

    /// Settles a batch: stores what is good, explains what is not, puts back what is neither. A batch
    /// that holds something unstorable is halved until that stands alone.
    async fn flush(&mut self, batch: Vec<Entry>) {
        let (began, mut tally) = (Instant::now(), Tally::default());
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            let (started, beats) = (Instant::now(), batch.len());
            let stored = self.store(&batch).await;
            meter::flush(beats, started.elapsed(), stored.is_ok());
            match stored {
                Ok((stored, elapsed)) => {
                    self.note_success();
                    self.shared.queue().record_success(beats, elapsed);
                    self.settle(batch, stored, &mut tally).await;
                }
                Err(failure) => {
                    tally.unstored = true;
                    batches.extend(self.handle_failure(batch, failure).await);
                }
            }
        }
        self.record(tally.result(), began);
    }

    async fn store(&mut self, batch: &[Entry]) -> Result<(Vec<fleet::Stored>, Duration), Failure> {
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
        self.connection
            .run("store_beats", async |connection| fleet::store_beats(connection, &beats, rules).await)
            .await
    }

    /// Puts a batch back that may be stored in a moment; returns the halves of one that holds invalid data.
    async fn handle_failure(&mut self, mut batch: Vec<Entry>, failure: Failure) -> Vec<Vec<Entry>> {
        if failure.kind == FailureKind::InvalidData {
            if batch.len() > 1 {
                let half = batch.split_off(batch.len() / 2);
                return vec![half, batch];
            }
            for entry in batch {
                tracing::error!(error = %failure.error, agent = %entry.key.agent, "unstorable heartbeat");
                entry.answer(Outcome::Poisonous);
            }
            return Vec::new();
        }
        for entry in &mut batch {
            entry.resent = true;
        }
        let now = Instant::now();
        if failure.kind == FailureKind::TooSlow {
            let mut queue = self.shared.queue();
            queue.record_timeout(batch.len(), failure.elapsed);
            queue.put_back_some(batch, now);
        } else {
            self.shared.queue().put_back(batch, now);
        }
        self.note_failure(&failure);
        sleep(REST).await;
        Vec::new()
    }

    async fn settle(&mut self, batch: Vec<Entry>, stored: Vec<fleet::Stored>, tally: &mut Tally) {
        let mut accepted = HashMap::new();
        for row in stored {
            let acceptance = Accepted { draining: row.draining, rotate: row.rotate, now: row.now };
            accepted.extend(row.positions.into_iter().map(|position| (position, (acceptance, row.slow))));
        }
        let (mut texts, mut rest, mut callers) = (Vec::new(), Vec::new(), 0);
        for (position, mut entry) in batch.into_iter().enumerate() {
            if let Some((acceptance, mark)) = accepted.remove(&position) {
                texts.push((entry.key, std::mem::take(&mut entry.sample.slow), mark));
                callers += entry.callers();
                entry.answer(Outcome::Accepted(acceptance));
            } else {
                rest.push(entry);
            }
        }
        tally.stored |= !texts.is_empty();
        self.shared.queue().know(texts.iter().map(|(key, ..)| key), callers);
        if !rest.is_empty() {
            tally.unstored |= self.explain(rest).await;
        }
        self.store_facts(texts).await;
    }

    async fn store_facts(&mut self, texts: Vec<(Key, SlowFields, SlowMark)>) {
        let now = Instant::now();
        let busy = self.shared.queue().next_due(now).is_some_and(|due| due <= now);
        let news = self.facts.pick(texts, busy, now);
        if news.is_empty() {
            return;
        }
        let stored = self
            .connection
            .run("store_slow_fields", async |connection| fleet::store_slow_fields(connection, &news).await)
            .await;
        self.facts.record(news.len(), stored, Instant::now());
    }

    /// Tells why beats were not stored. Where nothing speaks against one, its row was locked or its
    /// credential is younger than the flush, and it is tried again. Returns whether any good one was left unstored.
    async fn explain(&mut self, entries: Vec<Entry>) -> bool {
        let credentials: Vec<_> = entries.iter().map(|entry| entry.key.credential).collect();
        let min_interval = self.rules.min_interval;
        let explained = self
            .connection
            .run("explain", async |connection| fleet::explain(connection, &credentials, min_interval).await)
            .await;
        let explained = match explained {
            Ok((explained, _)) => explained,
            Err(failure) => {
                if failure.kind == FailureKind::TooSlow {
                    self.shared.queue().record_timeout(entries.len(), failure.elapsed);
                }
                for entry in entries {
                    entry.answer(Outcome::Unknown);
                }
                return true;
            }
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
        let unstored = !again.is_empty();
        self.shared.queue().put_back(again, Instant::now());
        unstored
    }

    /// Logs once that heartbeats are not being stored.
    fn note_failure(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(error = %failure.error, "heartbeats cannot be committed");
        }
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
