//! Very many agents at once: rows put into the tables directly, as registration and enrollment would have
//! left them. Each agent's id and credential follow from its number, so that the process which sends the
//! heartbeats knows them too.

use std::ops::Range;

use planasonix::{
    api_keys,
    db::{Budget, Db, LaneSizes},
    domain::{
        Scope,
        api_key::NewKey,
        credential::{Agent, Plain},
    },
};
use planasonix_wire::{AgentId, WorkspaceId};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgConnectOptions, query, query_as, query_scalar, raw_sql};
use ulid::Ulid;

use crate::Result;

const ROWS_AT_ONCE: u64 = 20_000;
/// 2025, a second an agent.
const FIRST_MS: u64 = 1_740_000_000_000;

/// The agent of this number, and its credential.
pub fn agent(number: u64) -> (AgentId, Plain<Agent>) {
    let mut rng = StdRng::seed_from_u64(number);
    let ulid = Ulid::from_parts(FIRST_MS + number * 1_000, rng.random());
    (AgentId::from_uuid(uuid::Uuid::from_u128(ulid.0)), Plain::generate(&mut rng, ulid))
}

/// Stores the agents of these numbers in one workspace: enrolled, with valid credentials, without a heartbeat.
pub async fn agents(connection: &mut PgConnection, workspace: WorkspaceId, agents: Range<u64>) -> Result<()> {
    // Building the GIN indexes at the end takes a tenth of the time.
    let indexes = drop_gin_indexes(connection).await?;
    for first in agents.clone().step_by(usize::try_from(ROWS_AT_ONCE)?) {
        let numbers = first..agents.end.min(first + ROWS_AT_ONCE);
        let (ids, digests): (Vec<_>, Vec<_>) = numbers
            .map(|number| {
                let (id, credential) = agent(number);
                (id.uuid(), credential.hashed().as_bytes().to_vec())
            })
            .unzip();
        query(
            "WITH new AS (SELECT * FROM UNNEST($1::uuid[], $2::bytea[]) AS new (id, digest)
             ), registered AS (
                INSERT INTO agents (id, workspace_id, label, label_key, platform, status, enrolled_at)
                SELECT id, $3, 'agent-' || id, 'agent-' || id, 'linux', 'active', now() FROM new
             ), issued AS (
                INSERT INTO agent_credentials (digest, agent_id, expires_at)
                SELECT digest, id, now() + interval '30 days' FROM new
             )
             INSERT INTO agent_liveness (agent_id, workspace_id, credential, credential_expires_at)
             SELECT id, $3, digest, now() + interval '30 days' FROM new",
        )
        .bind(ids)
        .bind(digests)
        .bind(workspace.uuid())
        .execute(&mut *connection)
        .await?;
    }
    for index in indexes {
        raw_sql(AssertSqlSafe(index)).execute(&mut *connection).await?;
    }
    raw_sql("ANALYZE agents; ANALYZE agent_credentials; ANALYZE agent_liveness").execute(connection).await?;
    Ok(())
}

/// Drops the GIN indexes of the table of agents. Returns the statements that create them again.
async fn drop_gin_indexes(connection: &mut PgConnection) -> Result<Vec<String>> {
    let indexes: Vec<(String, String)> = query_as(
        "SELECT indexname::text, indexdef FROM pg_indexes
         WHERE schemaname = current_schema AND tablename = 'agents' AND indexdef LIKE '% USING gin %'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut statements = Vec::new();
    for (name, statement) in indexes {
        raw_sql(AssertSqlSafe(format!("DROP INDEX {name}"))).execute(&mut *connection).await?;
        statements.push(statement);
    }
    Ok(statements)
}

/// Makes all agents connected, as if each had just been heard of.
pub async fn connect(connection: &mut PgConnection) -> Result<()> {
    raw_sql(
        "UPDATE agent_liveness SET last_seen_at = now(), connected_since = now(), remote_ip = '127.0.0.1',
                cpu_percent = 34.2, memory_percent = 61, disk_free_gb = 412.5, active_jobs = 2, queue_depth = 0",
    )
    .execute(&mut *connection)
    .await?;
    // As the table is after a while: without the room that the update above left behind.
    raw_sql("VACUUM FULL agent_liveness").execute(&mut *connection).await?;
    raw_sql("VACUUM ANALYZE agent_liveness").execute(connection).await?;
    Ok(())
}

pub async fn workspace(connection: &mut PgConnection) -> Result<WorkspaceId> {
    let id = query_scalar("INSERT INTO workspaces (slug, name) VALUES ('bench', 'Bench') RETURNING id")
        .fetch_one(connection)
        .await?;
    Ok(WorkspaceId::from_uuid(id))
}

/// An API key that may read.
pub async fn key(database: &PgConnectOptions, workspace: WorkspaceId) -> Result<String> {
    let db = Db::new(database.clone(), LaneSizes { reads: 1, writes: 1 });
    let new = NewKey { name: "bench".to_owned(), scopes: vec![Scope::AgentsRead], expires_in_days: Some(1) };
    let made = api_keys::create(&db.workspace(workspace, Budget::default()), new).await;
    db.close().await;
    Ok(made.map_err(|failure| failure.to_string())?.secret)
}
