//! Single agents, their health, and who is connected.

use std::time::Duration;

use planasonix_wire::{
    AgentId,
    agent::{AgentDetail, ConnectedAgent},
    json::Timestamp,
};
use serde_json::value::RawValue;
use sqlx::types::Json;

use super::{Agents, stored};
use crate::domain::{
    Error, Result,
    agent::Status,
    health::Figures,
    metadata::Metadata,
    revision::{Configuration, Revision},
};

/// What an agent's health is judged from.
pub struct HealthRow {
    /// Where it stands in its life.
    pub status: Status,
    /// Its last beat since its enrollment.
    pub heartbeat_at: Option<Timestamp>,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether its silence began when the control plane itself was away.
    pub excused: bool,
    /// Its last known figures.
    pub figures: Figures,
}

impl Agents<'_> {
    /// One agent in full.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`], and those of the database.
    pub async fn get(&mut self, agent: AgentId) -> Result<AgentDetail> {
        Ok(self.get_with_revision(agent).await?.0)
    }

    /// One agent in full, with its revision. While the agent is locked, no other transaction changes it.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`], and those of the database.
    pub async fn get_with_revision(&mut self, agent: AgentId) -> Result<(AgentDetail, Revision)> {
        let row = sqlx::query!(
            r#"SELECT a.label, a.platform, a.version, a.status, a.tags, a.capabilities,
                      a.metadata AS "metadata: Json<Box<RawValue>>", a.hostname, a.instance_id,
                      a.revoked_at, a.revoke_reason,
                      past_time(l.last_seen_at) AS last_seen_at, l.draining, now() AS "now!"
               FROM agents a JOIN agent_liveness l ON l.agent_id = a.id
               WHERE a.workspace_id = $2 AND uuid_send(a.id) = uuid_send($1)"#,
            agent.uuid(),
            self.workspace.uuid(),
        )
        .fetch_optional(&mut *self.connection)
        .await?
        .ok_or(Error::AgentNotFound)?;
        let given = row.metadata.0;
        let metadata = Metadata::stored(given.clone()).with_hostname(row.hostname.as_deref());
        let detail = AgentDetail {
            id: agent,
            label: row.label,
            platform: stored("agents.platform", &row.platform)?,
            version: row.version,
            status: stored("agents.status", &row.status)?,
            tags: row.tags,
            capabilities: row.capabilities,
            last_seen_at: row.last_seen_at.map(Timestamp::from),
            created_at: agent.created_at().min(row.now.into()),
            metadata: metadata.map_err(|error| Error::Internal(error.into()))?,
            hostname: row.hostname,
            instance_id: row.instance_id,
            draining: row.draining,
            revoked_at: row.revoked_at.map(|at| at.min(row.now).into()),
            revoke_reason: row.revoke_reason,
        };
        let revoked_at = row.revoked_at.map(Timestamp::from);
        let revision = Configuration::of(&detail, given.get(), revoked_at).revision();
        Ok((detail, revision))
    }

    /// What an agent's health is judged from.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`], and those of the database.
    pub async fn health(&mut self, agent: AgentId, window: Duration) -> Result<HealthRow> {
        let row = sqlx::query!(
            r#"SELECT a.status, a.last_error, past_time(l.last_seen_at) AS last_seen_at, l.cpu_percent, l.memory_percent,
                      l.disk_free_gb, l.active_jobs, l.queue_depth, l.clock_skew_ms,
                      COALESCE(past_time(l.conflict_at) > now() - make_interval(secs => $3), false) AS "conflict!",
                      COALESCE(l.connected_since IS NOT NULL AND l.last_seen_at > excused_since, false) AS "excused!",
                      COALESCE(is_connected(l.connected_since, l.last_seen_at, make_interval(secs => $3)), false)
                          AS "connected!"
               FROM agents a JOIN agent_liveness l ON l.agent_id = a.id
                    CROSS JOIN outage_amnesty(make_interval(secs => $3))
               WHERE a.workspace_id = $2 AND uuid_send(a.id) = uuid_send($1)"#,
            agent.uuid(),
            self.workspace.uuid(),
            window.as_secs_f64(),
        )
        .fetch_optional(&mut *self.connection)
        .await?
        .ok_or(Error::AgentNotFound)?;
        Ok(HealthRow {
            status: stored("agents.status", &row.status)?,
            heartbeat_at: row.last_seen_at.map(Timestamp::from),
            connected: row.connected,
            excused: row.excused,
            figures: Figures {
                cpu_percent: row.cpu_percent,
                memory_percent: row.memory_percent,
                disk_free_gb: row.disk_free_gb,
                active_jobs: row.active_jobs,
                queue_depth: row.queue_depth,
                last_error: row.last_error,
                clock_skew_ms: row.clock_skew_ms,
                instance_conflict: row.conflict,
            },
        })
    }

    /// Up to `most` connected agents in creation order, those after `after`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn connected(
        &mut self,
        window: Duration,
        after: Option<AgentId>,
        most: i64,
    ) -> Result<Vec<ConnectedAgent>> {
        let rows = sqlx::query!(
            r#"-- No join: a merge join would read the other table from its beginning for each page.
               SELECT l.agent_id, (SELECT label FROM agents WHERE id = l.agent_id) AS "label!",
                      LEAST(l.connected_since, now()) AS "connected_since!", host(l.remote_ip) AS "remote_ip!"
               FROM agent_liveness l
               WHERE l.workspace_id = $1 AND uuid_send(l.agent_id) > uuid_send($2)
                 AND is_connected(l.connected_since, l.last_seen_at, make_interval(secs => $3))
               ORDER BY uuid_send(l.agent_id) LIMIT $4"#,
            self.workspace.uuid(),
            after.map_or(uuid::Uuid::nil(), AgentId::uuid),
            window.as_secs_f64(),
            most,
        )
        .fetch_all(&mut *self.connection)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(ConnectedAgent {
                    id: AgentId::from_uuid(row.agent_id),
                    label: row.label,
                    connected_since: row.connected_since.into(),
                    remote_ip: stored("agent_liveness.remote_ip", &row.remote_ip)?,
                })
            })
            .collect()
    }
}
