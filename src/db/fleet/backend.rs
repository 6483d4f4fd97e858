//! Server processes behind connections, so that a statement whose client gave up can be ended.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// One server process. Process ids are reused, so its start belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    pid: i32,
    started_at: DateTime<Utc>,
}

/// The server process of this connection.
pub async fn backend(connection: &mut PgConnection) -> sqlx::Result<Backend> {
    sqlx::query_as!(
        Backend,
        r#"-- backend
        SELECT pid AS "pid!", backend_start AS "started_at!" FROM pg_stat_activity WHERE pid = pg_backend_pid()"#
    )
    .fetch_one(connection)
    .await
}

/// Asks a server process to end if it is still at work; returns whether it was. It may not end at once: a commit that
/// waits for the disk cannot be interrupted.
pub async fn end_backend(connection: &mut PgConnection, backend: Backend) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        r#"-- end_backend
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE pid = $1 AND backend_start = $2 AND state IS DISTINCT FROM 'idle'"#,
        backend.pid,
        backend.started_at,
    )
    .fetch_optional(connection)
    .await?;
    Ok(ended.is_some())
}
