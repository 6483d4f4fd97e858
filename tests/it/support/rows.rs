//! What is stored, looked at and held behind the servers' backs. With letting time pass, the only SQL in
//! tests.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use planasonix::{
    db::{Db, LaneSizes},
    domain::credential::{Agent as Credential, ApiKey, Hashed, Plain},
};
use planasonix_wire::{AgentId, ApiKeyId, WorkspaceId};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

pub use super::locks::{Held, wait_for_lock, waiting_for_a_lock};

/// An agent and its credential.
pub type Known = (AgentId, Hashed<Credential>);

/// What is stored of an agent's last beat: when it was, and its `active_jobs`.
pub type LastBeat = (DateTime<Utc>, Option<i32>);

async fn connect(database: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(database).await.unwrap()
}

/// The last beat of every agent that was heard of.
pub async fn last_beats(database: &PgConnectOptions) -> HashMap<AgentId, LastBeat> {
    let rows: Vec<(Uuid, DateTime<Utc>, Option<i32>)> = sqlx::query_as(
        "SELECT agent_id, last_seen_at, active_jobs FROM agent_liveness WHERE last_seen_at IS NOT NULL",
    )
    .fetch_all(&mut connect(database).await)
    .await
    .unwrap();
    rows.into_iter().map(|(agent, at, jobs)| (AgentId::from_uuid(agent), (at, jobs))).collect()
}

/// The audit trail of every agent, oldest first: types, each with its reason if it has one.
pub async fn trails(database: &PgConnectOptions) -> HashMap<AgentId, Vec<(String, Option<String>)>> {
    let rows: Vec<(Uuid, String, Option<String>)> =
        sqlx::query_as("SELECT agent_id, type, reason FROM events WHERE agent_id IS NOT NULL ORDER BY id")
            .fetch_all(&mut connect(database).await)
            .await
            .unwrap();
    let mut trails: HashMap<_, Vec<_>> = HashMap::new();
    for (agent, kind, reason) in rows {
        trails.entry(AgentId::from_uuid(agent)).or_default().push((kind, reason));
    }
    trails
}

/// What Postgres says to everybody who would change the audit trail: the SQLSTATE for each way.
pub async fn tamper_with_events(database: &PgConnectOptions) -> Vec<String> {
    let mut connection = connect(database).await;
    let mut told = Vec::new();
    for way in [
        "UPDATE events SET reason = 'x'",
        "UPDATE events SET reason = 'x' WHERE false",
        "DELETE FROM events",
        "TRUNCATE events",
        "INSERT INTO events SELECT * FROM events ON CONFLICT (id) DO UPDATE SET reason = 'x'",
    ] {
        let refused = sqlx::query(way).execute(&mut connection).await.unwrap_err();
        told.push(refused.as_database_error().unwrap().code().unwrap().into_owned());
    }
    told
}

/// How many transactions this database has seen. Idle connections tell theirs with their next
/// statement, and the control plane has one every five seconds.
pub async fn transactions(database: &PgConnectOptions) -> i64 {
    tokio::time::sleep(Duration::from_secs(6)).await;
    sqlx::query_scalar("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&mut connect(database).await)
        .await
        .unwrap()
}

/// How many connections this database has seen, with a delay as [`transactions`].
pub async fn sessions(database: &PgConnectOptions) -> i64 {
    tokio::time::sleep(Duration::from_secs(6)).await;
    sqlx::query_scalar("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(&mut connect(database).await)
        .await
        .unwrap()
}

/// Makes every read of an agent of this workspace take so long.
pub async fn slow_down_reads(database: &PgConnectOptions, workspace: WorkspaceId, time: Duration) {
    let sql = format!(
        "CREATE FUNCTION slow(workspace uuid) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
            BEGIN
                IF workspace = '{}' THEN PERFORM pg_sleep({}); END IF;
                RETURN true;
            END
         $$;
         ALTER TABLE agents RENAME TO all_agents;
         CREATE VIEW agents AS SELECT * FROM all_agents WHERE slow(workspace_id)",
        workspace.uuid(),
        time.as_secs_f64(),
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connect(database).await).await.unwrap();
}

/// More agents than could be registered one by one, connected, with their credentials.
pub async fn connected_agents(
    database: &PgConnectOptions,
    many: usize,
) -> Vec<(AgentId, Hashed<Credential>)> {
    let mut connection = connect(database).await;
    let make = "WITH workspace AS (
            INSERT INTO workspaces (slug, name) VALUES ('many', 'Many') RETURNING id
        ), agent AS (
            INSERT INTO agents (workspace_id, label, label_key, platform, status)
            SELECT id, 'one of many', 'one of many', 'linux', 'active' FROM workspace, generate_series(1, $1)
            RETURNING id, workspace_id
        )
        INSERT INTO agent_liveness (agent_id, workspace_id, credential, credential_expires_at, last_seen_at,
                                    connected_since)
        SELECT id, workspace_id, sha256(id::text::bytea), now() + interval '1 day', now(), now() FROM agent
        RETURNING agent_id, credential";
    // Somebody takes their heartbeats: the template, whose mark this is, may be days old.
    sqlx::query("UPDATE control_plane SET alive_at = now()").execute(&mut connection).await.unwrap();
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as(make).bind(i32::try_from(many).unwrap()).fetch_all(&mut connection).await.unwrap();
    rows.into_iter()
        .map(|(agent, digest)| (AgentId::from_uuid(agent), Hashed::from_stored(&digest).unwrap()))
        .collect()
}

/// Adds connected agents to a workspace, all with one label.
pub async fn connected_agents_of(
    database: &PgConnectOptions,
    workspace: WorkspaceId,
    many: i32,
    label: &str,
) {
    let make = "WITH agent AS (
            INSERT INTO agents (workspace_id, label, label_key, platform, status)
            SELECT $1, $2, 'key', 'linux', 'active' FROM generate_series(1, $3) RETURNING id, workspace_id
        )
        INSERT INTO agent_liveness (agent_id, workspace_id, credential, credential_expires_at, last_seen_at,
                                    connected_since, remote_ip)
        SELECT id, workspace_id, sha256(id::text::bytea), now() + interval '1 day', now(), now(), '192.0.2.1'
        FROM agent";
    let mut connection = connect(database).await;
    sqlx::query("UPDATE control_plane SET alive_at = now()").execute(&mut connection).await.unwrap();
    let make = sqlx::query(make).bind(workspace.uuid()).bind(label).bind(many);
    make.execute(&mut connection).await.unwrap();
}

/// The same, each silent for an hour.
pub async fn silent_agents(database: &PgConnectOptions, many: usize) {
    connected_agents(database, many).await;
    let shift = "BEGIN; ALTER TABLE agent_liveness DISABLE TRIGGER USER;
        UPDATE agent_liveness SET last_seen_at = now() - interval '1 hour';
        ALTER TABLE agent_liveness ENABLE TRIGGER USER; COMMIT";
    sqlx::raw_sql(shift).execute(&mut connect(database).await).await.unwrap();
}

/// Lets Postgres count, as it does by itself now and then.
pub async fn analyze(database: &PgConnectOptions) {
    sqlx::query("ANALYZE agent_liveness").execute(&mut connect(database).await).await.unwrap();
}

/// Ends statements on this connection that take as long as the program would not wait.
pub async fn limit_statements(connection: &mut PgConnection) {
    sqlx::query("SET statement_timeout = '1500ms'").execute(connection).await.unwrap();
}

/// Makes a connected agent one that was silent for an hour.
pub async fn fall_silent(connection: &mut PgConnection, agent: AgentId) {
    sqlx::query("UPDATE agent_liveness SET last_seen_at = now() - interval '1 hour' WHERE agent_id = $1")
        .bind(agent.uuid())
        .execute(connection)
        .await
        .unwrap();
}

/// Makes every new entry of the audit trail one that the database does not take.
pub async fn refuse_events(database: &PgConnectOptions) {
    let refuse = "CREATE FUNCTION refuse_events() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no more events' USING ERRCODE = 'check_violation'; END
        $$;
        CREATE TRIGGER refuse_events BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse_events()";
    sqlx::raw_sql(refuse).execute(&mut connect(database).await).await.unwrap();
}

/// When the control plane last marked that it takes heartbeats.
pub async fn alive_at(database: &PgConnectOptions) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT alive_at FROM control_plane")
        .fetch_one(&mut connect(database).await)
        .await
        .unwrap()
}

/// Makes it so long ago that anybody took a heartbeat.
pub async fn were_away(database: &PgConnectOptions, time: Duration) {
    sqlx::query(
        "WITH heard AS (
            UPDATE agent_liveness SET last_seen_at = last_seen_at - $1, connected_since = connected_since - $1
         )
         UPDATE control_plane SET alive_at = alive_at - $1, gap_started_at = gap_started_at - $1,
                                  gap_ended_at = gap_ended_at - $1",
    )
    .bind(time)
    .execute(&mut connect(database).await)
    .await
    .unwrap();
}

/// Sets how far the newest mark lies before the database's time; negative is ahead of it.
pub async fn set_mark_age(database: &PgConnectOptions, seconds: f64) {
    sqlx::query("UPDATE control_plane SET alive_at = now() - make_interval(secs => $1)")
        .bind(seconds)
        .execute(&mut connect(database).await)
        .await
        .unwrap();
}

/// When the last recorded outage began and ended, in seconds before now.
pub async fn last_outage(database: &PgConnectOptions) -> Option<(f64, f64)> {
    sqlx::query_as(
        "SELECT extract(epoch FROM now() - gap_started_at)::float8, extract(epoch FROM now() - gap_ended_at)::float8
         FROM control_plane WHERE gap_started_at IS NOT NULL",
    )
    .fetch_optional(&mut connect(database).await)
    .await
    .unwrap()
}

/// The workspaces whose audit trail has this type of event, each as often as it has.
pub async fn workspaces_with(database: &PgConnectOptions, event_type: &str) -> Vec<Uuid> {
    sqlx::query_scalar("SELECT workspace_id FROM events WHERE type = $1 ORDER BY workspace_id")
        .bind(event_type)
        .fetch_all(&mut connect(database).await)
        .await
        .unwrap()
}

/// How many agents have an open run.
pub async fn open_runs(database: &PgConnectOptions) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM agent_liveness WHERE connected_since IS NOT NULL")
        .fetch_one(&mut connect(database).await)
        .await
        .unwrap()
}

/// The idempotency keys that are stored.
pub async fn idempotency_keys(database: &PgConnectOptions) -> Vec<String> {
    sqlx::query_scalar("SELECT key FROM idempotency_keys ORDER BY key")
        .fetch_all(&mut connect(database).await)
        .await
        .unwrap()
}

/// Stores keys like this one, as if these had been made: what a look at the first bytes finds is right, the
/// slow hash is another's.
pub async fn plausible_keys(database: &PgConnectOptions, like: ApiKeyId, keys: &[Plain<ApiKey>]) {
    let (ids, checks): (Vec<_>, Vec<_>) =
        keys.iter().map(|key| (Uuid::from_u128(key.public_id().0), key.hashed().check().to_vec())).unzip();
    sqlx::query(
        "INSERT INTO api_keys (id, workspace_id, name, scopes, argon2, sha256_check)
         SELECT new.id, workspace_id, name, scopes, argon2, new.check
         FROM api_keys, UNNEST($2::uuid[], $3::bytea[]) AS new (id, \"check\") WHERE api_keys.id = $1",
    )
    .bind(like.uuid())
    .bind(ids)
    .bind(checks)
    .execute(&mut connect(database).await)
    .await
    .unwrap();
}

/// All that is stored of agents and keys, when they were last used aside.
pub async fn everything(database: &PgConnectOptions) -> Vec<String> {
    let mut rows = Vec::new();
    for all in [
        "SELECT to_jsonb(t)::text FROM agents t ORDER BY 1",
        "SELECT to_jsonb(t)::text FROM agent_liveness t ORDER BY 1",
        "SELECT to_jsonb(t)::text FROM agent_credentials t ORDER BY 1",
        "SELECT to_jsonb(t)::text FROM enrollment_tokens t ORDER BY 1",
        "SELECT to_jsonb(t)::text FROM idempotency_keys t ORDER BY 1",
        "SELECT to_jsonb(t)::text FROM events t ORDER BY 1",
        "SELECT (to_jsonb(t) - 'last_used_at')::text FROM api_keys t ORDER BY 1",
    ] {
        let table: Vec<String> =
            sqlx::query_scalar(all).fetch_all(&mut connect(database).await).await.unwrap();
        rows.extend(table);
    }
    rows
}

/// The number of agents that is kept for a workspace's limit, and the true one.
pub async fn agent_count(database: &PgConnectOptions, slug: &str) -> (i64, i64) {
    sqlx::query_as(
        "SELECT (agent_count + COALESCE((SELECT sum(change) FROM agent_count_changes
                                         WHERE workspace_id = workspaces.id), 0))::bigint,
                (SELECT count(*) FROM agents WHERE workspace_id = workspaces.id)
         FROM workspaces WHERE slug = $1",
    )
    .bind(slug)
    .fetch_one(&mut connect(database).await)
    .await
    .unwrap()
}

/// Sets a workspace's limit as the command line does.
pub async fn limit_agents(database: &PgConnectOptions, slug: &str, most: i32) {
    let db = Db::new(database.clone(), LaneSizes { reads: 1, writes: 1 });
    assert!(db.set_workspace(slug, None, Some(most)).await.unwrap());
    db.close().await;
}

/// Deletes all agents of a workspace in one statement.
pub async fn delete_agents(database: &PgConnectOptions, workspace: WorkspaceId) {
    sqlx::query("DELETE FROM agents WHERE workspace_id = $1")
        .bind(workspace.uuid())
        .execute(&mut connect(database).await)
        .await
        .unwrap();
}
