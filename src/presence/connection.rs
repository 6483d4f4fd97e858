//! The flusher's one connection, and what a failed statement means.

use std::{error::Error, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

use crate::{
    db::{
        fleet::{self, Backend},
        sqlstate,
    },
    meter::{self, Used},
};

/// The connection's name in the metrics, beside the database's lanes.
const LANE: &str = "heartbeats";
/// Longer than the server's own statement timeout of 1.5 s, which does not cover the commit.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_600);
/// For connecting, and for looking after an abandoned statement.
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

#[derive(Debug, thiserror::Error)]
#[error("a statement that did not end in time still runs on the server")]
struct StillRunning;

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
///
/// A statement that did not end in time may still run on the server and hold locks there. It is ended, and no other one
/// is sent before: otherwise each try would leave one more behind.
pub(super) struct FlusherConnection {
    options: PgConnectOptions,
    connection: Option<(PgConnection, Backend)>,
    abandoned: Option<Backend>,
}

impl FlusherConnection {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None, abandoned: None }
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
        let (mut connection, backend) = match self.connection.take() {
            Some(connected) => connected,
            None => self.connect(started).await?,
        };
        let _used = Used::after(started.elapsed(), LANE, 1);
        let began = Instant::now();
        let result = timeout(STATEMENT_TIMEOUT, statement(&mut connection)).await;
        let elapsed = began.elapsed();
        match result {
            Ok(Ok(done)) => {
                self.connection = Some((connection, backend));
                Ok((done, elapsed))
            }
            Ok(Err(error)) => {
                let kind = FailureKind::of(&error);
                if kind != FailureKind::Unavailable {
                    self.connection = Some((connection, backend));
                }
                Err(Failure { kind, elapsed, error: error.into() })
            }
            Err(error) => {
                self.abandoned = Some(backend);
                Err(Failure { kind: FailureKind::TooSlow, elapsed, error: error.into() })
            }
        }
    }

    async fn connect(&mut self, started: Instant) -> Result<(PgConnection, Backend), Failure> {
        let unavailable =
            |error| Failure { kind: FailureKind::Unavailable, elapsed: started.elapsed(), error };
        let abandoned = self.abandoned;
        let connected = timeout(CONNECT_TIMEOUT, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            if let Some(abandoned) = abandoned
                && fleet::end_backend(&mut connection, abandoned).await?
            {
                return Err(StillRunning.into());
            }
            let backend = fleet::backend(&mut connection).await?;
            Ok::<_, Box<dyn Error + Send + Sync>>((connection, backend))
        })
        .await;
        match connected {
            Ok(Ok(connected)) => {
                self.abandoned = None;
                Ok(connected)
            }
            Ok(Err(error)) => Err(unavailable(error)),
            Err(error) => Err(unavailable(error.into())),
        }
    }

    /// Says goodbye to the server, which would otherwise notice the closed socket.
    pub(super) async fn close(self) {
        if let Some((connection, _)) = self.connection {
            let _ = timeout(CONNECT_TIMEOUT, connection.close()).await;
        }
    }
}
