//! Very many agents at once: rows put into the tables directly, as registration and enrollment would have
//! left them. Each agent's id and credential follow from its number, so that the process which sends the
//! heartbeats knows them too.

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
use sqlx::{PgConnection, postgres::PgConnectOptions, query, query_scalar, raw_sql};
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

/// Stores agents 0 to `agents` of one workspace, enrolled, with good credentials; nothing was heard of
/// them yet.
pub async fn agents(connection: &mut PgConnection, workspace: WorkspaceId, agents: u64) -> Result<()> {
    // Building this one index at the end takes a tenth of the time.
    raw_sql("DROP INDEX agents_by_label").execute(&mut *connection).await?;
    for first in (0..agents).step_by(usize::try_from(ROWS_AT_ONCE)?) {
        let numbers = first..agents.min(first + ROWS_AT_ONCE);
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
    raw_sql(
        "CREATE INDEX agents_by_label ON agents USING gin (label_key gin_trgm_ops);
         ANALYZE agents; ANALYZE agent_credentials; ANALYZE agent_liveness",
    )
    .execute(connection)
    .await?;
    Ok(())
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
