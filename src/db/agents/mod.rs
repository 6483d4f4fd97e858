//! A workspace's agents.

mod changes;
mod list;
mod reads;

use planasonix_wire::{AgentId, WorkspaceId, json::Timestamp};
use sqlx::PgConnection;

use super::error::stored;
use crate::domain::{Error, Result, agent::Status};

pub use list::{Filter, list_statement};
pub use reads::HealthRow;

/// A workspace's agents.
pub struct Agents<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) workspace: WorkspaceId,
}

/// An agent's state, locked.
pub struct Locked {
    /// Where it stands in its life.
    pub status: Status,
    /// When it was revoked, if it is.
    pub revoked_at: Option<Timestamp>,
    /// Whether it has not enrolled yet and was never revoked.
    pub first_pending: bool,
    /// Whether it ever enrolled.
    pub enrolled: bool,
}

/// Locks an agent for a change, its liveness row first as every transaction does, and reads its state.
pub(super) async fn lock(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    agent: AgentId,
) -> Result<Option<Locked>> {
    // By `uuid_send(id)`, whose index begins with the workspace: an id of another workspace leads to no row.
    sqlx::query!(
        "SELECT agent_id FROM agent_liveness
         WHERE agent_id = (SELECT id FROM agents WHERE workspace_id = $2 AND uuid_send(id) = uuid_send($1))
         FOR UPDATE",
        agent.uuid(),
        workspace.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let row = sqlx::query!(
        r#"SELECT status, CASE WHEN revoked_at > now() THEN now() ELSE revoked_at END AS revoked_at, first_pending,
                  enrolled_at IS NOT NULL AS "enrolled!"
           FROM agents WHERE workspace_id = $2 AND uuid_send(id) = uuid_send($1) FOR UPDATE"#,
        agent.uuid(),
        workspace.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Locked {
        status: stored("agents.status", &row.status)?,
        revoked_at: row.revoked_at.map(Timestamp::from),
        first_pending: row.first_pending,
        enrolled: row.enrolled,
    }))
}

impl Agents<'_> {
    /// Locks an agent for a change and reads its state.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`], and those of the database.
    pub async fn lock(&mut self, agent: AgentId) -> Result<Locked> {
        lock(self.connection, self.workspace, agent).await?.ok_or(Error::AgentNotFound)
    }
}
