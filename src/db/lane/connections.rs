//! The connections of one lane: idle ones, and the tasks that make new ones.
//!
//! A connection is made by a task of its own. A request that stops waiting therefore never tears down a half-made
//! one; the connection is idle when it is ready, and the next request takes it. The number of connections is bounded
//! by the lane's permits: every connection in use, and every one that is being made, holds one.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, Error as SqlxError, PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};

use super::Turn;
use crate::{
    db::{error::sqlstate, fair_semaphore::Permit},
    domain::{Error, Result},
};

/// How long one connection may take to be made. Longer than any request waits for it.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a server that is starting, or has no connection left, is asked again.
const RETRY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Connections that were idle for so long are closed.
const MAX_IDLE: Duration = Duration::from_mins(10);
/// A connection idle for so long is pinged before it is used: the server may have gone meanwhile.
const PING_AFTER: Duration = Duration::from_secs(1);

/// A lane's connections, those in use aside.
pub(super) struct Connections {
    options: PgConnectOptions,
    failures: Failures,
    idle: Mutex<Idle>,
    open: Arc<AtomicU32>,
}

#[derive(Default)]
struct Idle {
    /// The longest idle one first.
    connections: Vec<IdleConnection>,
    /// Whether a task closes what is idle for too long.
    reaped: bool,
    closed: bool,
}

struct IdleConnection {
    connection: Open,
    since: Instant,
}

/// An open connection. Dropping it closes the socket.
struct Open {
    connection: PgConnection,
    made: Instant,
    _counted: Counted,
}

/// Counts one open connection.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use. Dropping it without [`Checkout::release`] closes it.
pub(super) struct Checkout {
    connection: Open,
    lane: Arc<Connections>,
    permit: Permit<Turn>,
}

impl Checkout {
    /// Makes the connection idle again: nothing is under way on it.
    pub(super) fn release(self) {
        self.lane.push_idle(self.connection);
        // Afterwards, so that the next waiter finds the idle connection.
        drop(self.permit);
    }
}

impl Deref for Checkout {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection.connection
    }
}

impl DerefMut for Checkout {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection.connection
    }
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, failures: Failures) -> Arc<Self> {
        Arc::new(Self { options, failures, idle: Mutex::default(), open: Arc::default() })
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Notes that a connection broke.
    pub(super) fn note_failure(&self) {
        self.failures.note();
    }

    /// The connection for a permit: the one that was used last, or a new one.
    pub(super) async fn checkout(self: &Arc<Self>, mut permit: Permit<Turn>) -> Result<Checkout> {
        loop {
            let Some(IdleConnection { mut connection, since }) = self.pop_idle()? else {
                permit = self.make_idle(permit).await?;
                continue;
            };
            if since.elapsed() < PING_AFTER || connection.connection.ping().await.is_ok() {
                return Ok(Checkout { connection, lane: Arc::clone(self), permit });
            }
        }
    }

    /// Makes a connection, on a task that holds the permit and goes on when the caller stops waiting.
    async fn make_idle(self: &Arc<Self>, permit: Permit<Turn>) -> Result<Permit<Turn>> {
        let lane = Arc::clone(self);
        let making = tokio::spawn(async move {
            let connection = connect(&lane.options).await?;
            lane.open.fetch_add(1, Ordering::Relaxed);
            let counted = Counted(Arc::clone(&lane.open));
            lane.push_idle(Open { connection, made: Instant::now(), _counted: counted });
            Ok(permit)
        });
        making.await.map_err(|error| Error::Internal(error.into()))?
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Skips and closes those that are older than the last failure.
    fn pop_idle(&self) -> Result<Option<IdleConnection>> {
        let mut idle = self.idle();
        if idle.closed {
            return Err(SqlxError::PoolClosed.into());
        }
        while let Some(last) = idle.connections.pop() {
            if !self.failures.since(last.connection.made) {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    fn push_idle(self: &Arc<Self>, connection: Open) {
        let mut idle = self.idle();
        // Without a runtime the process is about to end.
        let Ok(runtime) = Handle::try_current() else { return };
        if idle.closed {
            return;
        }
        idle.connections.push(IdleConnection { connection, since: Instant::now() });
        if !std::mem::replace(&mut idle.reaped, true) {
            runtime.spawn(reap(Arc::downgrade(self)));
        }
    }

    fn take_expired(&self) -> (Vec<IdleConnection>, bool) {
        let mut idle = self.idle();
        let fresh = idle.connections.partition_point(|connection| connection.since.elapsed() >= MAX_IDLE);
        let expired = idle.connections.drain(..fresh).collect();
        idle.reaped = !idle.connections.is_empty();
        (expired, idle.reaped)
    }

    /// Closes what is idle, and from now on what comes back.
    pub(super) async fn close(&self) {
        let connections = {
            let mut idle = self.idle();
            idle.closed = true;
            std::mem::take(&mut idle.connections)
        };
        close(connections).await;
    }
}

/// Closes connections that are idle for too long, until none is idle or the lane has gone.
async fn reap(lane: Weak<Connections>) {
    loop {
        sleep(MAX_IDLE / 10).await;
        let Some((expired, more)) = lane.upgrade().map(|lane| lane.take_expired()) else { return };
        close(expired).await;
        if !more {
            return;
        }
    }
}

async fn close(connections: Vec<IdleConnection>) {
    for IdleConnection { connection, .. } in connections {
        // The server notices a closed socket too, so a failed goodbye is none.
        let _ = connection.connection.close().await;
    }
}

/// Connects; asks again for a moment where the server is starting or has no connection left.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match timeout_at(started + CONNECT, PgConnection::connect_with(options)).await {
            Ok(Err(error)) if passes(&error) && started.elapsed() + pause < RETRY => sleep(pause).await,
            Ok(result) => return Ok(result?),
            Err(elapsed) => return Err(Error::Unavailable(elapsed.into())),
        }
        pause *= 2;
    }
}

fn passes(error: &SqlxError) -> bool {
    match error {
        SqlxError::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        error => sqlstate(error).is_some_and(|code| ["53300", "57P03"].contains(&code.as_str())),
    }
}

/// When a connection last broke: those older than that, in whatever lane, may be as broken, so they are not
/// used again.
#[derive(Clone, Default)]
pub(in crate::db) struct Failures(Arc<Mutex<Option<Instant>>>);

impl Failures {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection broke since then.
    fn since(&self, made: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at > made)
    }
}
