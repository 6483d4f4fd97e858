//! Ageing: agents that fell silent are recorded as disconnected.

use std::time::Duration;

use sqlx::PgConnection;

use crate::meter;

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
    /// Whether events of an outage are still to be written; nothing was looked at then.
    pub outage_pending: bool,
}

/// Records that agents fell silent: closes their runs and writes their `disconnected` events. Only one
/// replica at a time does it. Nothing is recorded during an outage of the control plane, for a window after it, and
/// until its events are written, which look at the runs that this closes.
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
            SELECT excused_since IS NULL AND NOT outage_pending
                   AND pg_try_advisory_xact_lock(hashtext('close_silent_runs')) AS ours,
                   outage_pending, LEAST(alive_at, now()) AS storing_until,
                   now() + clock_step_tolerance() AS latest
            FROM (SELECT alive_at FROM control_plane LIMIT 1) AS mark, outage_amnesty(make_interval(secs => $1)),
                 (SELECT EXISTS (SELECT FROM control_plane_outages) AS outage_pending) AS outages
        ), silent AS MATERIALIZED (
            SELECT agent_id, workspace_id, last_seen_at FROM agent_liveness
            WHERE (SELECT ours FROM turn) AND connected_since IS NOT NULL
              -- Heartbeats were still being stored when its window ended: flushes may fail since the newest mark.
              AND (last_seen_at <= (SELECT storing_until FROM turn) - make_interval(secs => $1)
                   -- Ahead of the clock, and no outage excuses it: it counts as never.
                   OR last_seen_at > (SELECT latest FROM turn))
              AND ctid >= format('(%s,0)', $2::int8)::tid AND ctid < format('(%s,0)', $2 + $3::int8)::tid
            ORDER BY agent_id LIMIT $4
            FOR NO KEY UPDATE SKIP LOCKED
        ), closed AS (
            UPDATE agent_liveness l SET connected_since = NULL FROM silent WHERE l.agent_id = silent.agent_id
        ), noted AS (
            INSERT INTO events (workspace_id, agent_id, type, actor_type, reason, detail)
            SELECT workspace_id, agent_id, 'disconnected', 'system', 'missed_heartbeats',
                   jsonb_build_object('last_seen_at', api_time(past_time(last_seen_at)))
            FROM silent
        )
        SELECT ours AS "ours!", (SELECT count(*) FROM silent) AS "closed!",
               pg_relation_size('agent_liveness') / current_setting('block_size')::int8 AS "pages!",
               outage_pending AS "outage_pending!"
        FROM turn"#,
        window.as_secs_f64(),
        search.page,
        search.pages,
        search.most,
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
