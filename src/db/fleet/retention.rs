//! What is kept for a while only.

use std::time::Duration;

use sqlx::PgConnection;

/// Removes up to `most` events that are older than this; tells how many. To be run in a transaction, which
/// alone is allowed to. An event that is ahead of the clock is kept: it is no older than any other.
///
/// # Errors
/// Those of the database; nothing is removed then.
pub async fn prune_events(connection: &mut PgConnection, age: Duration, most: i64) -> sqlx::Result<u64> {
    sqlx::query!("SELECT set_config('planasonix.pruning_events', 'on', true)")
        .fetch_one(&mut *connection)
        .await?;
    let done = sqlx::query!(
        "-- prune_events
         DELETE FROM events WHERE id IN (
            SELECT id FROM events WHERE id < ulid_floor(now() - make_interval(secs => $1))
            ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)",
        age.as_secs_f64(),
        most,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Removes up to `most` idempotency keys that are no longer honoured; tells how many. A key that is ahead of the clock is
/// honoured, since its request was carried out; its day begins when it is found here.
///
/// # Errors
/// Those of the database; nothing is removed then.
pub async fn prune_idempotency_keys(connection: &mut PgConnection, most: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "-- prune_idempotency_keys
         WITH ahead AS (
            UPDATE idempotency_keys SET created_at = now() WHERE (workspace_id, route, key) IN (
                SELECT workspace_id, route, key FROM idempotency_keys
                -- By now(), for the index; a key that another transaction has just made loses nothing.
                WHERE created_at > now() ORDER BY created_at DESC LIMIT $1 FOR UPDATE SKIP LOCKED)
         )
         DELETE FROM idempotency_keys WHERE (workspace_id, route, key) IN (
            SELECT workspace_id, route, key FROM idempotency_keys
            WHERE created_at <= now() - interval '1 day' ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        most,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
