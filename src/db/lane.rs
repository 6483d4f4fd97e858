//! Connections, by lanes, and the one rule of waiting: every wait on the database ends.
//!
//! Timers on the server do not run while it is frozen, and a statement can commit after its client gave
//! up. So all waiting on behalf of one request comes out of one [`Budget`], and a connection that
//! missed it is closed, never used again.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    raw_sql,
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use super::error::{is_broken, is_deadlock};
use crate::{
    domain::{Error, Result},
    meter::{self, Used},
};

const ACQUIRE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_mins(10);
/// A connection that rested so long is asked for a sign of life first: the server may have gone meanwhile.
const RESTED: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;

/// What a session is pinned to: the isolation that the group commit relies on, a commit that means it,
/// and patience shorter than any client's.
const PINNED: [(&str, &str); 5] = [
    ("default_transaction_isolation", "read committed"),
    ("synchronous_commit", "on"),
    ("statement_timeout", "1500"),
    ("lock_timeout", "1000"),
    ("idle_in_transaction_session_timeout", "2000"),
];

/// Connection options with everything pinned that our statements rely on.
pub(super) fn pinned(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("planasonix").options(PINNED)
}

/// How long one request may still wait on the database, over all its statements.
#[derive(Debug, Clone)]
pub struct Budget(Arc<StdMutex<Duration>>);

impl Budget {
    /// A request's budget.
    pub const REQUEST: Duration = Duration::from_secs(2);

    /// A fresh budget.
    pub fn new(whole: Duration) -> Self {
        Self(Arc::new(StdMutex::new(whole)))
    }

    /// Waits for something else than the database, within the same budget.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the budget ran out.
    pub async fn bound<T>(&self, what: &'static str, wait: impl Future<Output = T>) -> Result<T> {
        let started = Instant::now();
        let waited = timeout(self.left(), wait).await;
        self.spend(started.elapsed());
        waited.map_err(|_| Error::Unavailable(OutOfTime(what).into()))
    }

    fn left(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self, spent: Duration) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(spent);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::REQUEST)
    }
}

/// A wait on the database that took longer than the request may wait.
#[derive(Debug, thiserror::Error)]
#[error("{0} did not end within the time that a request may wait")]
struct OutOfTime(&'static str);

/// The connections for one kind of work.
pub struct Lane {
    name: &'static str,
    pool: PgPool,
    failures: Failures,
}

impl Lane {
    /// `failures` are those that all lanes to one server share.
    pub(super) fn new(
        name: &'static str,
        connections: u32,
        options: &PgConnectOptions,
        failures: &Failures,
    ) -> Self {
        let failures = failures.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(IDLE)
            .test_before_acquire(false)
            .before_acquire({
                let failures = failures.clone();
                move |connection, history| {
                    let older = failures.since(history.age);
                    Box::pin(async move {
                        Ok(!older && (history.idle_for < RESTED || connection.ping().await.is_ok()))
                    })
                }
            })
            .connect_lazy_with(options.clone());
        Self { name, pool, failures }
    }

    /// Runs statements that need no transaction. `name` is for the logs.
    ///
    /// # Errors
    /// What `work` fails with, or [`Error::Unavailable`] when the budget ran out.
    pub async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        budget: &Budget,
        work: impl FnOnce(Loan) -> F,
    ) -> Result<T> {
        self.lend(name, budget, async |tether| work(tether.lend()?).await).await
    }

    /// Runs `work` in one transaction, again if the database chose it to end a deadlock; `work` must
    /// therefore bear to be run twice.
    ///
    /// # Errors
    /// What `work` fails with (nothing is changed then), or [`Error::Unavailable`].
    pub async fn transaction<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        budget: &Budget,
        work: impl Fn(Loan) -> F,
    ) -> Result<T> {
        for _ in 1..ATTEMPTS {
            match self.attempt(name, budget, &work).await {
                Err(error) if is_deadlock(&error) => {}
                result => return result,
            }
        }
        self.attempt(name, budget, &work).await
    }

    async fn attempt<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        budget: &Budget,
        work: &impl Fn(Loan) -> F,
    ) -> Result<T> {
        self.lend(name, budget, async |tether| {
            raw_sql("BEGIN").execute(&mut *tether.lend()?).await?;
            let result = work(tether.lend()?).await;
            match &result {
                Ok(_) => raw_sql("COMMIT").execute(&mut *tether.lend()?).await?,
                // The connection is closed, and the transaction with it.
                Err(Error::Unavailable(_)) => return result,
                Err(_) => raw_sql("ROLLBACK").execute(&mut *tether.lend()?).await?,
            };
            result
        })
        .await
    }

    async fn lend<T>(
        &self,
        name: &'static str,
        budget: &Budget,
        work: impl AsyncFnOnce(&Tether) -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let result = timeout(budget.left(), async {
            // Boxed, since making a connection takes 30 KB, and every request's future would hold them.
            let tether = Tether::new(Box::pin(self.pool.acquire()).await?);
            let _used = Used::after(started.elapsed(), self.name, self.pool.size());
            let result = work(&tether).await;
            tether.settle(&result);
            result
        })
        .await
        .unwrap_or_else(|_| Err(Error::Unavailable(OutOfTime(name).into())));
        budget.spend(started.elapsed());
        meter::statement(self.name, name, started.elapsed(), !matches!(result, Err(Error::Unavailable(_))));
        if let Err(Error::Unavailable(cause)) = &result {
            tracing::warn!(lane = self.name, statement = name, cause = cause.as_ref(), "database");
            if is_broken(cause) {
                self.failures.note();
            }
        }
        result
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection lent to the work that uses it. Dropping it gives it back.
pub struct Loan(OwnedMutexGuard<PoolConnection<Postgres>>);

impl Deref for Loan {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// The other end of a loan. Unless it is settled, the connection is closed with it: nobody knows what is
/// still under way there.
struct Tether(Option<Arc<Mutex<PoolConnection<Postgres>>>>);

impl Tether {
    fn new(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(Arc::new(Mutex::new(connection))))
    }

    fn lend(&self) -> Result<Loan> {
        let connection = self.0.as_ref().and_then(|connection| Arc::clone(connection).try_lock_owned().ok());
        connection.map(Loan).ok_or_else(|| Error::Internal("the connection is lent to somebody else".into()))
    }

    /// Gives the connection back to its lane, if its work came to an end that leaves it sound.
    fn settle<T>(mut self, result: &Result<T>) {
        if !matches!(result, Err(Error::Unavailable(_))) {
            self.0.take();
        }
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take().and_then(Arc::into_inner) {
            drop(connection.into_inner().detach());
        }
    }
}

/// When a connection last broke: those older than that, in whatever lane, may be as broken, so they are not
/// used again.
#[derive(Clone, Default)]
pub(super) struct Failures(Arc<StdMutex<Option<Instant>>>);

impl Failures {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn since(&self, age: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < age)
    }
}
