//! Time passes in what is stored. With looking at rows, the only SQL in tests.

use std::time::Duration;

use planasonix_wire::AgentId;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

const AGENTS: [&str; 4] = [
    "UPDATE agent_liveness
     SET last_seen_at = last_seen_at - $1, connected_since = connected_since - $1,
         credential_issued_at = credential_issued_at - $1, credential_expires_at = credential_expires_at - $1,
         next_credential_issued_at = next_credential_issued_at - $1,
         next_credential_expires_at = next_credential_expires_at - $1,
         conflict_at = conflict_at - $1, conflict_noted_at = conflict_noted_at - $1,
         slow_at = slow_at - $1
     WHERE $2::uuid[] IS NULL OR agent_id = ANY($2)",
    "UPDATE agent_credentials
     SET expires_at = expires_at - $1, issued_at = issued_at - $1, used_at = used_at - $1,
         retired_at = retired_at - $1
     WHERE $2::uuid[] IS NULL OR agent_id = ANY($2)",
    "UPDATE enrollment_tokens
     SET expires_at = expires_at - $1, issued_at = issued_at - $1, used_at = used_at - $1,
         superseded_at = superseded_at - $1
     WHERE $2::uuid[] IS NULL OR agent_id = ANY($2)",
    "UPDATE idempotency_keys SET created_at = created_at - $1
     WHERE $2::uuid[] IS NULL OR agent_id = ANY($2)",
];
const ALL: [&str; 2] = [
    "UPDATE api_keys SET expires_at = expires_at - $1, last_used_at = last_used_at - $1",
    "UPDATE control_plane SET gap_started_at = gap_started_at - $1, gap_ended_at = gap_ended_at - $1",
];

/// Puts times ahead of the clock, as if it had been set back since they were stored.
pub async fn set_ahead(database: &mut PgConnection, table: &str, columns: &[&str], ahead: Duration) {
    let columns: Vec<_> = columns.iter().map(|column| format!("{column} = now() + $1")).collect();
    let sql = format!("UPDATE {table} SET {}", columns.join(", "));
    sqlx::query(AssertSqlSafe(sql)).bind(ahead).execute(database).await.unwrap();
}

/// Sets the clock back, for agents' heartbeats and the mark of the control plane.
pub async fn clock_steps_back(database: &mut PgConnection, step: Duration) {
    for sql in [
        "UPDATE agent_liveness SET last_seen_at = last_seen_at + $1, connected_since = connected_since + $1",
        "UPDATE control_plane SET alive_at = alive_at + $1",
    ] {
        sqlx::query(sql).bind(step).execute(&mut *database).await.unwrap();
    }
}

/// Puts the audit trail ahead of the clock.
pub async fn events_get_ahead(database: &mut PgConnection, ahead: Duration) {
    let shift = "UPDATE events SET at = at + $1,
            id = (left(ulid_floor(at + $1)::text, 13) || substr(id::text, 14))::uuid";
    sqlx::query("SET session_replication_role = replica").execute(&mut *database).await.unwrap();
    sqlx::query(shift).bind(ahead).execute(&mut *database).await.unwrap();
    sqlx::query("RESET session_replication_role").execute(&mut *database).await.unwrap();
}

/// For the audit trail, which nobody but the owner of the database can change.
pub async fn passes_for_events(database: &mut PgConnection, time: Duration) {
    // An event's id begins with its time in milliseconds, as 12 hexadecimal digits.
    let shift = "UPDATE events SET at = at - $1,
            id = (left(ulid_floor(at - $1)::text, 13) || substr(id::text, 14))::uuid";
    sqlx::query("SET session_replication_role = replica").execute(&mut *database).await.unwrap();
    sqlx::query(shift).bind(time).execute(&mut *database).await.unwrap();
    sqlx::query("RESET session_replication_role").execute(&mut *database).await.unwrap();
}

/// For everything stored but the audit trail.
pub async fn passes(database: &mut PgConnection, time: Duration) {
    for shift in AGENTS {
        let nobody_in_particular: Option<Vec<Uuid>> = None;
        sqlx::query(shift).bind(time).bind(nobody_in_particular).execute(&mut *database).await.unwrap();
    }
    for shift in ALL {
        sqlx::query(shift).bind(time).execute(&mut *database).await.unwrap();
    }
}

/// For these agents alone.
pub async fn passes_for(database: &mut PgConnection, agents: &[AgentId], time: Duration) {
    let agents: Vec<_> = agents.iter().map(|agent| agent.uuid()).collect();
    for shift in AGENTS {
        sqlx::query(shift).bind(time).bind(&agents).execute(&mut *database).await.unwrap();
    }
}
