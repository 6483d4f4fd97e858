//! The texts of a beat, which seldom change.

use std::time::Duration;

use planasonix_wire::AgentId;
use sqlx::{PgConnection, types::Json};

use crate::domain::{
    credential::{Agent, Hashed},
    presence::SlowFields,
};

/// What was last written of an agent's texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlowMark {
    /// Of the texts of the beat that was written.
    pub hash: Option<i64>,
    /// How long ago; `None` if never, or at a time that is ahead of the clock.
    pub age: Option<Duration>,
    /// Whether a complaint is stored.
    pub complaining: bool,
}

/// The texts of a beat that was accepted, to be written.
#[derive(Debug, Clone)]
pub struct SlowBeat {
    /// The agent.
    pub agent: AgentId,
    /// What it beat with.
    pub credential: Hashed<Agent>,
    /// What it said.
    pub fields: SlowFields,
    /// Of what it said.
    pub hash: i64,
}

/// Stores the texts of beats that were accepted, where the credential is still the agent's, and marks them
/// as written. What somebody holds is left for the next beat.
///
/// # Errors
/// Those of the database.
pub async fn store_slow_fields(connection: &mut PgConnection, beats: &[SlowBeat]) -> sqlx::Result<()> {
    let agents: Vec<_> = beats.iter().map(|beat| beat.agent.uuid()).collect();
    let credentials: Vec<_> = beats.iter().map(|beat| beat.credential.as_bytes().to_vec()).collect();
    let fields: Vec<_> = beats.iter().map(|beat| Json(&beat.fields)).collect();
    let hashes: Vec<_> = beats.iter().map(|beat| beat.hash).collect();
    sqlx::query!(
        r#"-- store_slow_fields
        WITH locked AS MATERIALIZED (
            SELECT a.id, a.version, a.hostname, a.instance_id, a.last_error, a.capabilities, fields, hash
            FROM UNNEST($1::uuid[], $2::bytea[], $3::jsonb[], $4::int8[])
                 AS beat (agent_id, credential, fields, hash)
            JOIN agent_liveness l ON l.agent_id = beat.agent_id
                 AND beat.credential IN (l.credential, l.next_credential)
            JOIN agents a ON a.id = beat.agent_id
            ORDER BY l.agent_id FOR NO KEY UPDATE OF l, a SKIP LOCKED
        ), next AS MATERIALIZED (
            SELECT id, hash,
                   CASE WHEN fields ? 'version' THEN fields->>'version' ELSE version END AS version,
                   CASE WHEN fields ? 'hostname' THEN fields->>'hostname' ELSE hostname END AS hostname,
                   CASE WHEN fields ? 'instance_id' THEN fields->>'instance_id' ELSE instance_id END
                       AS instance_id,
                   CASE WHEN fields ? 'last_error' THEN fields->>'last_error' ELSE last_error END AS last_error,
                   CASE jsonb_typeof(fields->'capabilities')
                       WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(fields->'capabilities'))
                       WHEN 'null' THEN '{}'
                       ELSE capabilities END AS capabilities
            FROM locked
        ), stored AS (
            UPDATE agents a
            SET version = next.version, hostname = next.hostname, instance_id = next.instance_id,
                last_error = next.last_error, capabilities = next.capabilities
            FROM next
            WHERE a.id = next.id
              AND (next.version, next.hostname, next.instance_id, next.last_error, next.capabilities)
                  IS DISTINCT FROM (a.version, a.hostname, a.instance_id, a.last_error, a.capabilities)
        )
        UPDATE agent_liveness l
        SET slow_hash = next.hash, slow_at = now(), complaining = next.last_error IS NOT NULL
        FROM next WHERE l.agent_id = next.id"#,
        &agents,
        &credentials,
        &fields as &[Json<&SlowFields>],
        &hashes,
    )
    .execute(connection)
    .await?;
    Ok(())
}
