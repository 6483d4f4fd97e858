//! What statements read, by Postgres's own counters: the entries of each index and the rows of each table scan.

use std::{collections::BTreeMap, time::Duration};

use planasonix::{
    db::{Budget, Db, LaneSizes, Workspace},
    domain::{Error, Result},
};
use planasonix_wire::{AgentId, WorkspaceId};
use sqlx::{AssertSqlSafe, PgConnection, raw_sql};
use tokio::time::sleep;

use super::database::Database;

const ATTEMPTS: u32 = 10;

/// Entries read, by index; rows read one after the other, by table.
pub type Reads = BTreeMap<String, i64>;

impl Database {
    /// Runs `work` on connections of its own and returns what its statements read. Whether the planner knows the
    /// values is up to `plan_cache_mode`. A busy machine that missed a deadline gets another chance.
    pub async fn reads_of<T, F: Future<Output = Result<T>>>(
        &self,
        workspace: WorkspaceId,
        plan_cache_mode: &str,
        work: impl Fn(Workspace) -> F,
    ) -> (Result<T>, Reads) {
        let mut connection = self.connect().await;
        let options = self.options.clone().options([("plan_cache_mode", plan_cache_mode)]);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let before = read_counters(&mut connection).await;
            let db = Db::new(options.clone(), LaneSizes { reads: 1, writes: 1 });
            let result = work(db.workspace(workspace, Budget::new(Duration::from_secs(30)))).await;
            db.close().await;
            wait_for_backends(&mut connection).await;
            if attempts < ATTEMPTS && matches!(result, Err(Error::Unavailable(_))) {
                continue;
            }
            let mut reads = read_counters(&mut connection).await;
            for (name, count) in &mut reads {
                *count -= before.get(name).copied().unwrap_or_default();
            }
            reads.retain(|_, count| *count > 0);
            return (result, reads);
        }
    }
}

async fn read_counters(connection: &mut PgConnection) -> Reads {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT indexrelname::text, idx_tup_read FROM pg_stat_user_indexes
         UNION ALL SELECT relname::text, seq_tup_read FROM pg_stat_user_tables",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    rows.into_iter().collect()
}

/// A backend publishes its counters when it ends.
async fn wait_for_backends(connection: &mut PgConnection) {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'planasonix'";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *connection).await.unwrap() > 0 {
        sleep(Duration::from_millis(2)).await;
    }
}

/// A workspace with rows in every table that operators read, and one of its agents.
pub struct Filled {
    pub workspace: WorkspaceId,
    pub agent: AgentId,
    pub agents: i64,
}

/// Adds a workspace of this many connected agents, with two events each and a tenth as many API keys.
pub async fn fill(connection: &mut PgConnection, slug: &str, agents: i64) -> Filled {
    let rows = "WITH workspace AS (INSERT INTO workspaces (slug, name) VALUES ($1, $1) RETURNING id
        ), agent AS (
            INSERT INTO agents (id, workspace_id, label, label_key, platform, tags, status, revoked_at)
            SELECT new_ulid(now() + i * interval '1 ms'), w.id, label, label,
                   CASE WHEN i % 100 = 3 THEN 'windows' ELSE 'linux' END,
                   CASE WHEN i % 50 = 2 THEN '{canary,eu}' ELSE '{production}' END::text[],
                   CASE WHEN i % 50 = 1 THEN 'revoked' ELSE 'active' END,
                   CASE WHEN i % 50 = 1 THEN now() END
            FROM workspace w, generate_series(1, $2) AS i,
                 CAST($1 || '-needle-' || md5(i::text) AS text) AS label
            RETURNING id, workspace_id
        ), live AS (
            INSERT INTO agent_liveness (agent_id, workspace_id, last_seen_at, connected_since, remote_ip)
            SELECT id, workspace_id, now(), now(), '::1' FROM agent
        ), event AS (
            INSERT INTO events (workspace_id, agent_id, type, actor_type)
            SELECT workspace_id, id, type, 'system'
            FROM agent, UNNEST('{registered,connected}'::text[]) AS type
        ), key AS (
            INSERT INTO api_keys (workspace_id, name, scopes, argon2, sha256_check)
            SELECT id, 'k', '{admin:organization}', '', '\\x00000000' FROM workspace, generate_series(0, $2 / 10)
        )
        SELECT workspace_id, id FROM agent LIMIT 1";
    let (workspace, agent) =
        sqlx::query_as(rows).bind(slug).bind(agents).fetch_one(&mut *connection).await.unwrap();
    Filled { workspace: WorkspaceId::from_uuid(workspace), agent: AgentId::from_uuid(agent), agents }
}

/// Adds many rows without the search index, which takes longest, and builds that at the end.
pub async fn fill_many(connection: &mut PgConnection, slug: &str, agents: i64) -> Filled {
    let define: String = sqlx::query_scalar("SELECT pg_get_indexdef('agents_by_search'::regclass)")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    raw_sql("DROP INDEX agents_by_search").execute(&mut *connection).await.unwrap();
    let filled = fill(connection, slug, agents).await;
    raw_sql(AssertSqlSafe(define)).execute(connection).await.unwrap();
    filled
}

/// Keeps Postgres from collecting statistics by itself in the middle of a test.
pub async fn stop_autovacuum(connection: &mut PgConnection) {
    for table in ["agents", "agent_liveness", "events", "api_keys"] {
        let sql = format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
    }
}
