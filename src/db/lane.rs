//! Connections, by lanes, and the one rule of waiting: every wait on the database ends.
//!
//! Timers on the server do not run while it is frozen, and a statement can commit after its client gave
//! up. So all waiting on behalf of one request comes out of one [`Budget`], and a connection that
//! missed it is closed, never used again.
//!
//! The connections of a lane are handed out by turns ([`FairSemaphore`]), one queue for each [`Turn`], so that one
//! workspace's requests do not delay another's.

mod budget;
mod connections;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::{Duration, Instant},
};

use planasonix_wire::WorkspaceId;
use sqlx::{PgConnection, postgres::PgConnectOptions, raw_sql};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

pub use self::budget::Budget;
pub(super) use self::connections::Failures;
use self::{
    budget::OutOfTime,
    connections::{Checkout, Connections},
};
use super::{
    error::{is_broken, is_deadlock, leaves_session_usable},
    fair_semaphore::{FairSemaphore, Priority},
};
use crate::{
    domain::{Error, Result},
    meter::{self, Used},
};

/// How long a request waits for a connection: for its turn, and until one is made.
const ACQUIRE: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;
/// Waiters of one workspace in one lane. More than a key's default burst would only run out of time.
const MAX_WAITING_PER_WORKSPACE: usize = 1_024;
/// Waiters whose credential was never verified here, of all callers together.
const MAX_WAITING_UNPROVEN: usize = 256;

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

/// On whose behalf a connection is wanted. Each workspace has a queue of its own in every lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turn {
    /// A workspace, for a request that was admitted.
    Workspace(WorkspaceId),
    /// The same workspace, to look up a credential that was verified before. It comes behind the requests that were
    /// admitted: otherwise a burst's look-ups would delay all of its requests until none is in time.
    LookUp(WorkspaceId),
    /// Callers whose credential was not verified by this replica yet, all of them together.
    Unproven,
    /// The service itself: background tasks, readiness, the command line.
    Internal,
}

impl Turn {
    fn queue(self) -> (Self, Priority) {
        match self {
            Self::LookUp(workspace) => (Self::Workspace(workspace), Priority::Normal),
            turn => (turn, Priority::High),
        }
    }

    fn max_waiting(self) -> usize {
        match self {
            Self::Workspace(_) | Self::LookUp(_) => MAX_WAITING_PER_WORKSPACE,
            Self::Unproven => MAX_WAITING_UNPROVEN,
            Self::Internal => usize::MAX,
        }
    }
}

/// The connections for one kind of work.
pub struct Lane {
    name: &'static str,
    turns: FairSemaphore<Turn>,
    connections: Arc<Connections>,
}

impl Lane {
    /// `failures` are those that all lanes to one server share.
    pub(super) fn new(
        name: &'static str,
        connections: u32,
        options: &PgConnectOptions,
        failures: &Failures,
    ) -> Self {
        Self {
            name,
            turns: FairSemaphore::new(connections as usize, usize::MAX),
            connections: Connections::new(options.clone(), failures.clone()),
        }
    }

    /// [`Self::run_for`] the service itself.
    ///
    /// # Errors
    /// What `work` fails with, or [`Error::Unavailable`] when the budget ran out.
    pub async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        budget: &Budget,
        work: impl FnOnce(Loan) -> F,
    ) -> Result<T> {
        self.run_for(Turn::Internal, name, budget, work).await
    }

    /// Runs statements that need no transaction. `name` is for the logs.
    ///
    /// # Errors
    /// What `work` fails with; [`Error::Unavailable`] when the budget ran out or too many wait already.
    pub async fn run_for<T, F: Future<Output = Result<T>>>(
        &self,
        turn: Turn,
        name: &'static str,
        budget: &Budget,
        work: impl FnOnce(Loan) -> F,
    ) -> Result<T> {
        self.lend(turn, name, budget, async |tether| work(tether.lend()?).await).await
    }

    /// [`Self::transaction_for`] the service itself.
    ///
    /// # Errors
    /// What `work` fails with (nothing is changed then), or [`Error::Unavailable`].
    pub async fn transaction<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        budget: &Budget,
        work: impl Fn(Loan) -> F,
    ) -> Result<T> {
        self.transaction_for(Turn::Internal, name, budget, work).await
    }

    /// Runs `work` in one transaction, again if the database chose it to end a deadlock; `work` must
    /// therefore bear to be run twice.
    ///
    /// # Errors
    /// What `work` fails with (nothing is changed then), or [`Error::Unavailable`].
    pub async fn transaction_for<T, F: Future<Output = Result<T>>>(
        &self,
        turn: Turn,
        name: &'static str,
        budget: &Budget,
        work: impl Fn(Loan) -> F,
    ) -> Result<T> {
        for _ in 1..ATTEMPTS {
            match self.attempt(turn, name, budget, &work).await {
                Err(error) if is_deadlock(&error) => {}
                result => return result,
            }
        }
        self.attempt(turn, name, budget, &work).await
    }

    async fn attempt<T, F: Future<Output = Result<T>>>(
        &self,
        turn: Turn,
        name: &'static str,
        budget: &Budget,
        work: &impl Fn(Loan) -> F,
    ) -> Result<T> {
        self.lend(turn, name, budget, async |tether| {
            raw_sql("BEGIN").execute(&mut *tether.lend()?).await?;
            let result = work(tether.lend()?).await;
            match &result {
                Ok(_) => raw_sql("COMMIT").execute(&mut *tether.lend()?).await?,
                // The connection is closed, and the transaction with it.
                Err(error) if !leaves_session_usable(error) => return result,
                Err(_) => raw_sql("ROLLBACK").execute(&mut *tether.lend()?).await?,
            };
            result
        })
        .await
    }

    async fn lend<T>(
        &self,
        turn: Turn,
        name: &'static str,
        budget: &Budget,
        work: impl AsyncFnOnce(&Tether) -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let result = timeout(budget.left(), async {
            let tether = Tether::new(self.checkout(turn).await?);
            let _used = Used::after(started.elapsed(), self.name, self.connections.open());
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
                self.connections.note_failure();
            }
        }
        result
    }

    async fn checkout(&self, turn: Turn) -> Result<Checkout> {
        let checkout = timeout(ACQUIRE, async {
            let (queue, priority) = turn.queue();
            let permit = self.turns.acquire(queue, priority, turn.max_waiting()).await;
            self.connections.checkout(permit.map_err(|full| Error::Unavailable(full.into()))?).await
        });
        checkout.await.unwrap_or_else(|_| Err(Error::Unavailable(OutOfTime("a database connection").into())))
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

/// A connection lent to the work that uses it. Dropping it gives it back.
pub struct Loan(OwnedMutexGuard<Checkout>);

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

/// Owns a checked-out connection. Dropping it without [`Tether::settle`] closes the connection, because a statement
/// may still be running on it.
struct Tether(Arc<Mutex<Checkout>>);

impl Tether {
    fn new(connection: Checkout) -> Self {
        Self(Arc::new(Mutex::new(connection)))
    }

    fn lend(&self) -> Result<Loan> {
        let connection = Arc::clone(&self.0).try_lock_owned();
        connection.map(Loan).map_err(|_| Error::Internal("the connection is lent already".into()))
    }

    /// Gives the connection back to its lane, if its work came to an end that leaves it usable.
    fn settle<T>(self, result: &Result<T>) {
        if result.as_ref().err().is_none_or(leaves_session_usable)
            && let Some(connection) = Arc::into_inner(self.0)
        {
            connection.into_inner().release();
        }
    }
}
