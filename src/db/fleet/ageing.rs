//! What passes while nobody asks: agents fall silent, and the control plane itself may be away.

use std::time::Duration;

use sqlx::PgConnection;

use crate::meter;

/// The longest time between two marks that is no gap.
pub(in crate::db) const GAP: Duration = Duration::from_secs(15);

/// Marks that the control plane takes heartbeats. Where the last mark is too old, the time between is
/// stored as a gap of ours, with an event for each workspace that had agents connected. Where nobody had,
/// there is nothing to excuse: a new installation does not begin with a gap since its migration. A gap that
/// follows another within the window begins where that began, so that nobody loses the amnesty to it.
///
/// # Errors
/// Those of the database.
pub async fn mark_alive(connection: &mut PgConnection, window: Duration) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        r#"-- mark_alive
        WITH before AS MATERIALIZED (
            -- Who holds the row is marking.
            SELECT alive_at,
                   alive_at < now() - make_interval(secs => $1)
                       AND EXISTS (SELECT FROM agent_liveness WHERE connected_since IS NOT NULL) AS gap
            FROM control_plane FOR UPDATE SKIP LOCKED
        ), marked AS (
            UPDATE control_plane c
            SET alive_at = GREATEST(c.alive_at, now()),
                gap_started_at = CASE WHEN NOT before.gap THEN c.gap_started_at
                                      WHEN c.gap_ended_at > before.alive_at - make_interval(secs => $2)
                                      THEN c.gap_started_at
                                      ELSE before.alive_at END,
                gap_ended_at = CASE WHEN before.gap THEN now() ELSE c.gap_ended_at END
            FROM before
        )
        INSERT INTO events (workspace_id, type, actor_type, detail)
        SELECT w.id, 'control_plane_gap', 'system',
               jsonb_build_object('started_at', api_time(before.alive_at), 'ended_at', api_time(now()))
        FROM before, workspaces w
        WHERE before.gap AND EXISTS (SELECT FROM agent_liveness l
                                     WHERE l.workspace_id = w.id AND l.connected_since IS NOT NULL)"#,
        GAP.as_secs_f64(),
        window.as_secs_f64(),
    )
    .execute(connection)
    .await?;
    meter::events("control_plane_gap", noted.rows_affected());
    Ok(())
}

/// Where to look for agents that fell silent, and how much may be done about it in one statement.
pub struct Search {
    /// The first page of the table to look at.
    pub page: i64,
    /// How many pages to look at.
    pub pages: i64,
    /// How many runs to close at most.
    pub most: i64,
}

/// What a look for silent agents came to.
pub struct Look {
    /// Whether it was our turn; if not, nothing was looked at.
    pub ours: bool,
    /// How many runs were closed.
    pub closed: i64,
    /// How many pages the table has.
    pub pages: i64,
}

/// Records that agents fell silent: closes their runs and writes their `disconnected` events. Only one
/// replica at a time does it; and during a gap of the control plane, and for a window after it, nobody does.
///
/// It looks at a stretch of the table's pages, not at an index: no index may cover `last_seen_at`, so
/// among a million connected agents the silent ones are found by looking at each, and this is the cheapest
/// way to look at a bounded number. An agent moves to another page only by being updated, so one that stays
/// silent is met by whoever goes through all pages.
///
/// # Errors
/// Those of the database; nothing is recorded then.
pub async fn close_silent_runs(
    connection: &mut PgConnection,
    window: Duration,
    search: &Search,
) -> sqlx::Result<Look> {
    let look = sqlx::query_as!(
        Look,
        r#"-- close_silent_runs
        WITH turn AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock(hashtext('close_silent_runs'))
                   AND alive_at > now() - make_interval(secs => $5)
                   AND COALESCE(gap_ended_at <= now() - make_interval(secs => $1), true) AS ours
            FROM control_plane
        ), silent AS MATERIALIZED (
            SELECT agent_id, workspace_id, last_seen_at FROM agent_liveness
            WHERE (SELECT ours FROM turn) AND connected_since IS NOT NULL
              AND last_seen_at <= now() - make_interval(secs => $1)
              AND ctid >= format('(%s,0)', $2::int8)::tid AND ctid < format('(%s,0)', $2 + $3::int8)::tid
            ORDER BY agent_id LIMIT $4
            FOR NO KEY UPDATE SKIP LOCKED
        ), closed AS (
            UPDATE agent_liveness l SET connected_since = NULL FROM silent WHERE l.agent_id = silent.agent_id
        ), noted AS (
            INSERT INTO events (workspace_id, agent_id, type, actor_type, reason, detail)
            SELECT workspace_id, agent_id, 'disconnected', 'system', 'missed_heartbeats',
                   jsonb_build_object('last_seen_at', api_time(last_seen_at))
            FROM silent
        )
        SELECT ours AS "ours!", (SELECT count(*) FROM silent) AS "closed!",
               pg_relation_size('agent_liveness') / current_setting('block_size')::int8 AS "pages!"
        FROM turn"#,
        window.as_secs_f64(),
        search.page,
        search.pages,
        search.most,
        GAP.as_secs_f64(),
    )
    .fetch_one(connection)
    .await?;
    meter::events("disconnected", look.closed.unsigned_abs());
    Ok(look)
}

/// About how many agents of all workspaces are connected: what Postgres knows of the index, which costs
/// nothing however large the fleet is.
///
/// # Errors
/// Those of the database.
pub async fn estimate_connected(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"-- estimate_connected
        SELECT GREATEST(reltuples, 0)::int8 AS "count!" FROM pg_class
        WHERE oid = 'agent_liveness_connected'::regclass"#
    )
    .fetch_one(connection)
    .await
}
