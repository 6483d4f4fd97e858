//! What was asked for before under the same `Idempotency-Key`.

use planasonix_wire::{AgentId, WorkspaceId};
use sqlx::PgConnection;

use crate::domain::{Error, Result, idempotency::BodyHash};

/// A workspace's idempotency keys of one route.
pub struct IdempotencyKeys<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) workspace: WorkspaceId,
    pub(super) route: &'static str,
}

impl IdempotencyKeys<'_> {
    /// Holds the key until the transaction ends. Nobody waits for it.
    ///
    /// # Errors
    /// [`Error::RequestInProgress`] if somebody else holds it; and those of the database.
    pub async fn hold(&mut self, key: &str) -> Result<()> {
        let name = format!("{} {} {key}", self.workspace, self.route);
        try_lock(self.connection, &name).await
    }

    /// The agent that a request with this key made within the last day.
    ///
    /// # Errors
    /// [`Error::IdempotencyConflict`] if that request was another one; and those of the database.
    pub async fn find(&mut self, key: &str, body: BodyHash) -> Result<Option<AgentId>> {
        let row = sqlx::query!(
            "SELECT agent_id, body_sha256 FROM idempotency_keys
             WHERE workspace_id = $1 AND route = $2 AND key = $3 AND created_at > now() - interval '1 day'",
            self.workspace.uuid(),
            self.route,
            key,
        )
        .fetch_optional(&mut *self.connection)
        .await?;
        match row {
            Some(row) if row.body_sha256 != body => Err(Error::IdempotencyConflict),
            row => Ok(row.map(|row| AgentId::from_uuid(row.agent_id))),
        }
    }

    /// Remembers the agent that a request with this key made.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn remember(&mut self, key: &str, body: BodyHash, agent: AgentId) -> Result<()> {
        sqlx::query!(
            "INSERT INTO idempotency_keys (workspace_id, route, key, body_sha256, agent_id)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (workspace_id, route, key)
             DO UPDATE SET body_sha256 = $4, agent_id = $5, created_at = now()",
            self.workspace.uuid(),
            self.route,
            key,
            &body,
            agent.uuid(),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}

/// Holds a name until the transaction ends.
pub(super) async fn try_lock(connection: &mut PgConnection, name: &str) -> Result<()> {
    let held =
        sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS "held!""#, name)
            .fetch_one(connection)
            .await?;
    if held { Ok(()) } else { Err(Error::RequestInProgress) }
}
