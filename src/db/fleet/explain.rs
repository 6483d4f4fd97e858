//! Why a beat was not stored.

use std::{collections::HashMap, time::Duration};

use planasonix_wire::AgentId;
use sqlx::PgConnection;

use crate::domain::{
    credential::{Agent, Hashed},
    presence::Refusal,
};

/// What became of a credential that was not accepted.
#[derive(Debug, Clone, Copy)]
pub struct Explained {
    /// The agent that it was issued to.
    pub agent: AgentId,
    /// Why it is refused; `None` if it is good.
    pub refusal: Option<Refusal>,
    /// Whether its agent has only just beaten.
    pub too_soon: bool,
}

/// Looks up what became of credentials. One that is missing from the answer was never issued, or its
/// agent is deleted.
///
/// # Errors
/// Those of the database.
pub async fn explain(
    connection: &mut PgConnection,
    credentials: &[Hashed<Agent>],
    min_interval: Duration,
) -> sqlx::Result<HashMap<Hashed<Agent>, Explained>> {
    let digests: Vec<Vec<u8>> = credentials.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let rows = sqlx::query!(
        r#"-- explain
        SELECT c.digest, c.agent_id, a.status = 'revoked' AS "revoked!", c.retired_at IS NOT NULL AS "retired!",
               c.expires_at <= now() AS "expired!",
               COALESCE($2::float8 > 0 AND past_time(l.last_seen_at) > now() - make_interval(secs => $2), false)
                   AS "too_soon!"
        FROM agent_credentials c JOIN agents a ON a.id = c.agent_id
        JOIN agent_liveness l ON l.agent_id = a.id WHERE c.digest = ANY($1)"#,
        &digests,
        min_interval.as_secs_f64(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let refusal = Refusal::of(row.revoked, row.retired, row.expired);
            let explained =
                Explained { agent: AgentId::from_uuid(row.agent_id), refusal, too_soon: row.too_soon };
            Some((Hashed::from_stored(&row.digest)?, explained))
        })
        .collect())
}
