//! What changes an agent. All but [`Agents::insert`] are for one that is locked.

use planasonix_wire::{AgentId, json::Timestamp};

use super::{Agents, stored};
use crate::domain::{
    Error, Result,
    agent::{AgentChange, NewAgent, ReenablePolicy, Status, label_key},
};

impl Agents<'_> {
    /// Fails if the workspace has as many agents as its limit allows. From then on it holds a lock on the
    /// workspace's row, so that two registrations cannot both be the last one. Without a limit there is no lock.
    ///
    /// The number is kept by triggers (migration 17); this moves what they noted into the workspace's row.
    ///
    /// # Errors
    /// [`Error::AgentLimitReached`], and those of the database.
    pub async fn check_limit(&mut self) -> Result<()> {
        let row = sqlx::query!("SELECT max_agents FROM workspaces WHERE id = $1", self.workspace.uuid())
            .fetch_one(&mut *self.connection)
            .await?;
        if row.max_agents.is_none() {
            return Ok(());
        }
        let limit = sqlx::query_scalar!(
            "SELECT max_agents FROM workspaces WHERE id = $1 FOR NO KEY UPDATE",
            self.workspace.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        // A statement of its own: it must see what was committed while the last one waited for the lock.
        let agents = sqlx::query_scalar!(
            "WITH changes AS (DELETE FROM agent_count_changes WHERE workspace_id = $1 RETURNING change)
             UPDATE workspaces
             SET agent_count = agent_count + (SELECT COALESCE(sum(change), 0) FROM changes)::bigint
             WHERE id = $1 RETURNING agent_count",
            self.workspace.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        match limit {
            Some(limit) if agents >= i64::from(limit) => Err(Error::AgentLimitReached(limit)),
            _ => Ok(()),
        }
    }

    /// Stores a new agent, pending.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn insert(&mut self, new: &NewAgent) -> Result<AgentId> {
        let id = sqlx::query_scalar!(
            r#"WITH agent AS (
                INSERT INTO agents (workspace_id, label, label_key, platform, tags, metadata)
                VALUES ($1, $2, $3, $4, $5, COALESCE($6::text::json, '{}'))
                RETURNING id, workspace_id
             )
             INSERT INTO agent_liveness (agent_id, workspace_id) SELECT id, workspace_id FROM agent
             RETURNING agent_id"#,
            self.workspace.uuid(),
            new.label,
            label_key(&new.label),
            new.platform.as_str(),
            &new.tags,
            new.metadata.as_ref().map(|metadata| metadata.raw().get()),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(AgentId::from_uuid(id))
    }

    /// Changes what is given of a locked agent.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn update(&mut self, agent: AgentId, change: &AgentChange) -> Result<()> {
        sqlx::query!(
            "UPDATE agents SET label = COALESCE($3, label), label_key = COALESCE($4, label_key),
                               tags = COALESCE($5, tags), metadata = COALESCE($6::text::json, metadata)
             WHERE id = $1 AND workspace_id = $2",
            agent.uuid(),
            self.workspace.uuid(),
            change.label,
            change.label.as_deref().map(label_key),
            change.tags.as_deref(),
            change.metadata.as_ref().map(|metadata| metadata.raw().get()),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Drains a locked agent or lets it take work again; tells whether that was news.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn set_draining(&mut self, agent: AgentId, draining: bool) -> Result<bool> {
        let done = sqlx::query!(
            "UPDATE agent_liveness SET draining = $3
             WHERE agent_id = $1 AND workspace_id = $2 AND draining <> $3",
            agent.uuid(),
            self.workspace.uuid(),
            draining,
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Bars a locked agent: every credential and token of it is dead, and its run is closed.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn revoke(&mut self, agent: AgentId, reason: Option<&str>) -> Result<Timestamp> {
        let revoked_at = sqlx::query_scalar!(
            r#"WITH silenced AS (
                UPDATE agent_liveness
                SET credential = NULL, credential_issued_at = NULL, credential_expires_at = NULL,
                    next_credential = NULL, next_credential_issued_at = NULL,
                    next_credential_expires_at = NULL, connected_since = NULL,
                    instance_id = NULL, run_hash = NULL, conflict_at = NULL
                WHERE agent_id = $1
             ), credentials AS (
                UPDATE agent_credentials SET retired_at = now(), retired_reason = 'revoked'
                WHERE agent_id = $1 AND retired_at IS NULL
             ), tokens AS (
                -- A used one too: until now it could fetch the installer.
                UPDATE enrollment_tokens SET superseded_at = now()
                WHERE agent_id = $1 AND superseded_at IS NULL
             )
             UPDATE agents
             SET status = 'revoked', revoked_at = now(), revoke_reason = $2, first_pending = false
             WHERE id = $1 AND workspace_id = $3
             RETURNING revoked_at AS "revoked_at!""#,
            agent.uuid(),
            reason,
            self.workspace.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(revoked_at.into())
    }

    /// Lets a locked, revoked agent come back: `pending` waits for its enrollment, `active` keeps it.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn enable(&mut self, agent: AgentId, status: Status) -> Result<()> {
        sqlx::query!(
            "UPDATE agents SET status = $3, revoked_at = NULL, revoke_reason = NULL
             WHERE id = $1 AND workspace_id = $2",
            agent.uuid(),
            self.workspace.uuid(),
            status.as_str(),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Closes a locked agent's run; tells whether it was open.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn disconnect(&mut self, agent: AgentId) -> Result<bool> {
        let done = sqlx::query!(
            "UPDATE agent_liveness SET connected_since = NULL
             WHERE agent_id = $1 AND workspace_id = $2 AND connected_since IS NOT NULL",
            agent.uuid(),
            self.workspace.uuid(),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// What enabling an agent of this workspace asks of it.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn reenable_policy(&mut self) -> Result<ReenablePolicy> {
        let policy = sqlx::query_scalar!(
            "SELECT reenable_policy FROM workspaces WHERE id = $1",
            self.workspace.uuid()
        )
        .fetch_one(&mut *self.connection)
        .await?;
        stored("workspaces.reenable_policy", &policy)
    }

    /// Removes a locked agent with all its credentials. Its audit trail stays.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn delete(&mut self, agent: AgentId) -> Result<()> {
        sqlx::query!(
            "DELETE FROM agents WHERE id = $1 AND workspace_id = $2",
            agent.uuid(),
            self.workspace.uuid()
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}
