//! The flusher's one connection, and what a failed statement means.

use std::{error::Error, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

use crate::{
    db::sqlstate,
    meter::{self, Used},
};

/// The connection's name in the metrics, beside the database's lanes.
const LANE: &str = "heartbeats";
/// Longer than the server's statement timeout of 1.5 s, so that an abandoned statement has ended there too before the
/// next one is sent on a new connection: they do not pile up.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a statement did not succeed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// How long the statement ran.
    pub(super) elapsed: Duration,
    pub(super) error: Box<dyn Error + Send + Sync>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The database refuses the data itself (SQLSTATE class 22 or 23); sending it again fails again.
    InvalidData,
    /// It did not end in time, or waited too long for a lock. Fewer rows may succeed.
    TooSlow,
    /// Connecting failed, or something passing that is not a matter of time.
    Unavailable,
}

impl FailureKind {
    fn of(error: &sqlx::Error) -> Self {
        match sqlstate(error).as_deref() {
            Some(code) if code.starts_with("22") || code.starts_with("23") => Self::InvalidData,
            Some("57014" | "55P03") => Self::TooSlow,
            _ => Self::Unavailable,
        }
    }
}

/// One connection, made when it is needed and made anew once its state is unknown.
pub(super) struct FlusherConnection {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl FlusherConnection {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None }
    }

    /// Runs one statement; `name` is for the metrics. Returns its result and how long it took, connecting excluded.
    pub(super) async fn run<T>(
        &mut self,
        name: &'static str,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<(T, Duration), Failure> {
        let started = Instant::now();
        let result = self.try_run(started, statement).await;
        let done = !matches!(&result, Err(failure) if failure.kind != FailureKind::InvalidData);
        meter::statement(LANE, name, started.elapsed(), done);
        result
    }

    async fn try_run<T>(
        &mut self,
        started: Instant,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<(T, Duration), Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let _used = Used::after(started.elapsed(), LANE, 1);
        let began = Instant::now();
        let result = timeout(STATEMENT_TIMEOUT, statement(&mut connection)).await;
        let elapsed = began.elapsed();
        match result {
            Ok(Ok(done)) => {
                self.connection = Some(connection);
                Ok((done, elapsed))
            }
            Ok(Err(error)) => {
                let kind = FailureKind::of(&error);
                if kind != FailureKind::Unavailable {
                    self.connection = Some(connection);
                }
                Err(Failure { kind, elapsed, error: error.into() })
            }
            Err(error) => Err(Failure { kind: FailureKind::TooSlow, elapsed, error: error.into() }),
        }
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        let started = Instant::now();
        let error = match timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&self.options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        };
        Err(Failure { kind: FailureKind::Unavailable, elapsed: started.elapsed(), error })
    }

    /// Says goodbye to the server, which would otherwise notice the closed socket.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            let _ = timeout(CONNECT_TIMEOUT, connection.close()).await;
        }
    }
}
