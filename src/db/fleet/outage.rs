//! Outages of the control plane: the mark that heartbeats are being stored, and the events of a hole in the marks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::meter;

/// Marks that heartbeats are being stored, and since when without a break: `storing_for`, on the caller's monotonic
/// clock. A hole between marks longer than `outage_threshold()` is an outage as far as it lies before that time; it
/// is recorded, to be announced by [`announce_outage`], if any agent was connected. An outage that follows another
/// within `window` begins where that began, so that agents keep the amnesty of the first.
///
/// The row of marks is skipped while another session holds it. Returns the database's time.
///
/// `expected_at` is what the database's clock should show if it ran like the caller's since the last mark. If it shows
/// much more, it was set forward or the caller was suspended, and `storing_for` proves nothing. A mark that is ahead of
/// the clock by more than `outage_threshold()` is an outage that ends now.
pub async fn record_control_plane_alive(
    connection: &mut PgConnection,
    storing_for: Duration,
    expected_at: Option<DateTime<Utc>>,
    window: Duration,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(
        r#"-- record_control_plane_alive
        WITH clock AS MATERIALIZED (
            SELECT now() AS at,
                   CASE WHEN now() - $2::timestamptz > outage_threshold() THEN now()
                        ELSE now() - make_interval(secs => $1) END AS storing_since
        ), last AS MATERIALIZED (
            SELECT alive_at, alive_at > clock.at + outage_threshold() AS ahead,
                   -- An end that is ahead of the clock counts as never, and must not once the clock has caught up.
                   CASE WHEN gap_ended_at <= clock.at + outage_threshold() THEN gap_started_at END AS gap_started_at,
                   CASE WHEN gap_ended_at <= clock.at + outage_threshold() THEN gap_ended_at END AS gap_ended_at
            FROM control_plane, clock
            -- The planner knows nothing of one row: without it, it expects so many that it compiles the statement.
            LIMIT 1 FOR UPDATE OF control_plane SKIP LOCKED
        ), outage AS MATERIALIZED (
            SELECT LEAST(last.alive_at, clock.at) AS started_at,
                   CASE WHEN last.ahead THEN clock.at ELSE clock.storing_since END AS ended_at
            FROM last, clock
            WHERE (last.ahead
                   OR last.alive_at < clock.at - outage_threshold() AND last.alive_at < clock.storing_since)
              AND EXISTS (SELECT FROM agent_liveness WHERE connected_since IS NOT NULL)
        ), mark AS MATERIALIZED (
            SELECT GREATEST(past_time(last.alive_at), clock.at) AS alive_at,
                   CASE WHEN outage.started_at IS NULL THEN last.gap_started_at
                        WHEN last.gap_ended_at > outage.started_at - make_interval(secs => $3)
                        THEN LEAST(last.gap_started_at, outage.started_at)
                        ELSE outage.started_at END AS gap_started_at,
                   COALESCE(outage.ended_at, last.gap_ended_at) AS gap_ended_at
            FROM clock, last LEFT JOIN outage ON true
        ), marked AS (
            UPDATE control_plane c
            SET alive_at = mark.alive_at, gap_started_at = mark.gap_started_at, gap_ended_at = mark.gap_ended_at
            FROM mark WHERE c.singleton
        ), recorded AS (
            INSERT INTO control_plane_outages (started_at, ended_at) SELECT started_at, ended_at FROM outage
        )
        SELECT at AS "at!" FROM clock"#,
        storing_for.as_secs_f64(),
        expected_at,
        window.as_secs_f64(),
    )
    .fetch_one(connection)
    .await
}

/// Writes the `control_plane_gap` events of the oldest recorded outage for the next `limit` workspaces: one for each
/// that had agents connected. Position and events are one statement, and another replica skips the outage meanwhile.
/// Returns how many workspaces it looked at; 0 when there is nothing to do.
pub async fn announce_outage(connection: &mut PgConnection, limit: i64) -> sqlx::Result<u64> {
    let announced = sqlx::query!(
        r#"-- announce_outage
        WITH outage AS MATERIALIZED (
            SELECT id, started_at, ended_at, announced_through FROM control_plane_outages
            ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
        ), batch AS MATERIALIZED (
            SELECT w.id FROM workspaces w, outage WHERE w.id > outage.announced_through ORDER BY w.id LIMIT $1
        ), written AS (
            INSERT INTO events (workspace_id, type, actor_type, detail)
            SELECT batch.id, 'control_plane_gap', 'system',
                   jsonb_build_object('started_at', api_time(started_at), 'ended_at', api_time(ended_at))
            FROM outage, batch,
                 -- LIMIT keeps the planner from reading every workspace's agents. A run that began after the outage
                 -- is of an agent that was not there to be missed.
                 LATERAL (SELECT FROM agent_liveness l
                          WHERE l.workspace_id = batch.id AND l.connected_since IS NOT NULL
                            AND (l.connected_since < outage.ended_at OR outage.ended_at = outage.started_at)
                          LIMIT 1) AS connected
            RETURNING 1
        ), advanced AS (
            UPDATE control_plane_outages o
            SET announced_through = (SELECT id FROM batch ORDER BY id DESC LIMIT 1)
            FROM outage WHERE o.id = outage.id AND (SELECT count(*) FROM batch) = $1
        ), finished AS (
            DELETE FROM control_plane_outages o USING outage
            WHERE o.id = outage.id AND (SELECT count(*) FROM batch) < $1
        )
        SELECT (SELECT count(*) FROM batch) AS "workspaces!", (SELECT count(*) FROM written) AS "events!""#,
        limit,
    )
    .fetch_one(connection)
    .await?;
    meter::events("control_plane_gap", announced.events.unsigned_abs());
    Ok(announced.workspaces.unsigned_abs())
}
