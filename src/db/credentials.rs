//! What a workspace's agents authenticate with. Only digests are kept.

use std::time::Duration;

use planasonix_wire::{AgentId, WorkspaceId, json::Timestamp};
use sqlx::PgConnection;

use super::{
    agents::lock,
    auth::enrollment_state,
    fleet::{Explained, explain},
    idempotency::try_lock,
};
use crate::domain::{
    Error, Result,
    agent::{EnrollmentFacts, Platform},
    credential::{Agent, Enrollment, Hashed},
    presence::Refusal,
};

/// A workspace's enrollment tokens and credentials.
pub struct Credentials<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) workspace: WorkspaceId,
}

/// A credential to be stored.
#[derive(Clone, Copy)]
pub struct NewCredential {
    /// Its digest.
    pub digest: Hashed<Agent>,
    /// How long it lives.
    pub life: Duration,
}

/// An agent that its token has just enrolled.
pub struct EnrolledAgent {
    /// Its name for people.
    pub label: String,
    /// Until when its credential works.
    pub credential_expires_at: Timestamp,
    /// Whether it is being drained.
    pub draining: bool,
}

impl Credentials<'_> {
    /// Makes this the agent's only enrollment token; tells until when it works.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn issue_enrollment_token(
        &mut self,
        agent: AgentId,
        token: Hashed<Enrollment>,
        life: Duration,
    ) -> Result<Timestamp> {
        let expires_at = sqlx::query_scalar!(
            "WITH earlier AS (
                UPDATE enrollment_tokens SET superseded_at = now()
                WHERE agent_id = $1 AND used_at IS NULL AND superseded_at IS NULL
             )
             INSERT INTO enrollment_tokens (digest, agent_id, expires_at)
             SELECT $2, id, now() + make_interval(secs => $3) FROM agents WHERE id = $1 AND workspace_id = $4
             RETURNING expires_at",
            agent.uuid(),
            token.as_bytes(),
            life.as_secs_f64(),
            self.workspace.uuid(),
        )
        .fetch_optional(&mut *self.connection)
        .await?
        .ok_or(Error::AgentNotFound)?;
        Ok(expires_at.into())
    }

    /// Holds the token until the transaction ends, so that a repeated call finds it in use instead of
    /// waiting.
    ///
    /// # Errors
    /// [`Error::RequestInProgress`] if somebody else holds it; and those of the database.
    pub async fn hold_token(&mut self, token: Hashed<Enrollment>) -> Result<()> {
        try_lock(self.connection, &format!("enroll {:016x}", token.fingerprint())).await
    }

    /// Locks the agent and checks, inside this transaction, that the token may enroll it now: it was not
    /// used, or it was with this key within ten minutes and nobody has used what it bought.
    ///
    /// # Errors
    /// The refusal that the token's or the agent's state calls for.
    pub async fn lock_for_enrollment(
        &mut self,
        agent: AgentId,
        token: Hashed<Enrollment>,
        key: Option<&str>,
    ) -> Result<()> {
        lock(self.connection, self.workspace, agent).await?.ok_or(Error::EnrollmentTokenInvalid)?;
        let state = enrollment_state(self.connection, token, key).await?;
        if (state.workspace, state.agent) != (self.workspace, agent) {
            return Err(Error::EnrollmentTokenInvalid);
        }
        state.usable
    }

    /// Uses the token up and makes `new` the agent's only credential. Empties its health row.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn enroll(
        &mut self,
        agent: AgentId,
        token: Hashed<Enrollment>,
        key: Option<&str>,
        new: NewCredential,
        facts: &EnrollmentFacts,
    ) -> Result<EnrolledAgent> {
        let row = sqlx::query!(
            r#"WITH token AS (
                UPDATE enrollment_tokens
                SET used_at = COALESCE(used_at, now()), idempotency_key = $11, credential = $3
                WHERE digest = $1
             ), earlier AS (
                UPDATE agent_credentials SET retired_at = now(), retired_reason = 'replaced'
                WHERE agent_id = $2 AND retired_at IS NULL
             ), issued AS (
                INSERT INTO agent_credentials (digest, agent_id, expires_at)
                VALUES ($3, $2, now() + make_interval(secs => $4))
                RETURNING expires_at
             ), alive AS (
                UPDATE agent_liveness l
                SET credential = $3, credential_issued_at = now(), credential_expires_at = issued.expires_at,
                    next_credential = NULL, next_credential_issued_at = NULL, next_credential_expires_at = NULL,
                    last_seen_at = NULL, connected_since = NULL, remote_ip = NULL, cpu_percent = NULL,
                    memory_percent = NULL, disk_free_gb = NULL, active_jobs = NULL, queue_depth = NULL,
                    clock_skew_ms = NULL, instance_id = NULL, run_hash = NULL, conflict_at = NULL,
                    conflict_noted_at = NULL, slow_hash = NULL, slow_at = NULL, complaining = false
                FROM issued WHERE l.agent_id = $2
                RETURNING l.credential_expires_at, l.draining
             )
             UPDATE agents a
             SET status = 'active', first_pending = false, enrolled_at = now(), last_error = NULL,
                 hostname = COALESCE($5, hostname), version = COALESCE($6, version),
                 platform = COALESCE($7, platform), capabilities = COALESCE($8, capabilities),
                 instance_id = COALESCE($9, instance_id)
             FROM alive WHERE a.id = $2 AND a.workspace_id = $10
             RETURNING a.label, alive.credential_expires_at AS "expires_at!", alive.draining"#,
            token.as_bytes(),
            agent.uuid(),
            new.digest.as_bytes(),
            new.life.as_secs_f64(),
            facts.hostname,
            facts.version,
            facts.platform.map(Platform::as_str),
            facts.capabilities.as_deref(),
            facts.instance_id,
            self.workspace.uuid(),
            key,
        )
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(EnrolledAgent {
            label: row.label,
            credential_expires_at: row.expires_at.into(),
            draining: row.draining,
        })
    }

    /// Locks the agent and checks, inside this transaction, that the credential is one of its live ones.
    /// The first use of its next credential ends the current one.
    ///
    /// # Errors
    /// The refusal that the credential calls for; and those of the database.
    pub async fn authenticate(&mut self, agent: AgentId, credential: Hashed<Agent>) -> Result<()> {
        let row = sqlx::query!(
            r#"SELECT COALESCE(credential = $2 AND credential_expires_at > now(), false) AS "current!",
                      COALESCE(next_credential = $2 AND next_credential_expires_at > now(), false) AS "next!"
               FROM agent_liveness WHERE agent_id = $1 AND workspace_id = $3 FOR UPDATE"#,
            agent.uuid(),
            credential.as_bytes(),
            self.workspace.uuid(),
        )
        .fetch_optional(&mut *self.connection)
        .await?;
        match row {
            Some(row) if row.next => self.promote_next(agent).await?,
            Some(row) if row.current => {}
            _ => return Err(refusal(self.connection, agent, credential).await?.into()),
        }
        sqlx::query!(
            "UPDATE agent_credentials SET used_at = now() WHERE digest = $1 AND used_at IS NULL",
            credential.as_bytes(),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Ends the current credential of a locked agent; the next one takes its place.
    async fn promote_next(&mut self, agent: AgentId) -> Result<()> {
        sqlx::query!(
            "WITH earlier AS (
                UPDATE agent_credentials c SET retired_at = now(), retired_reason = 'replaced'
                FROM agent_liveness l WHERE l.agent_id = $1 AND c.digest = l.credential
             )
             UPDATE agent_liveness
             SET credential = next_credential, credential_issued_at = next_credential_issued_at,
                 credential_expires_at = next_credential_expires_at, next_credential = NULL,
                 next_credential_issued_at = NULL, next_credential_expires_at = NULL
             WHERE agent_id = $1",
            agent.uuid(),
        )
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Gives a locked agent its next credential beside the current one; an unused earlier next one dies.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn issue_next(
        &mut self,
        agent: AgentId,
        credential: Hashed<Agent>,
        life: Duration,
    ) -> Result<Timestamp> {
        let expires_at = sqlx::query_scalar!(
            r#"WITH earlier AS (
                UPDATE agent_credentials c SET retired_at = now(), retired_reason = 'replaced'
                FROM agent_liveness l WHERE l.agent_id = $1 AND c.digest = l.next_credential
             ), issued AS (
                INSERT INTO agent_credentials (digest, agent_id, expires_at)
                VALUES ($2, $1, now() + make_interval(secs => $3)) RETURNING expires_at
             )
             UPDATE agent_liveness l
             SET next_credential = $2, next_credential_issued_at = now(),
                 next_credential_expires_at = issued.expires_at
             FROM issued WHERE l.agent_id = $1 AND l.workspace_id = $4
             RETURNING issued.expires_at AS "expires_at!""#,
            agent.uuid(),
            credential.as_bytes(),
            life.as_secs_f64(),
            self.workspace.uuid(),
        )
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(expires_at.into())
    }

    /// Makes this a locked agent's only credential, without an enrollment.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn replace(
        &mut self,
        agent: AgentId,
        credential: Hashed<Agent>,
        life: Duration,
    ) -> Result<Timestamp> {
        let expires_at = self.issue_next(agent, credential, life).await?;
        self.promote_next(agent).await?;
        Ok(expires_at)
    }
}

/// Why a credential is refused that is none of the agent's live ones.
async fn refusal(
    connection: &mut PgConnection,
    agent: AgentId,
    credential: Hashed<Agent>,
) -> Result<Refusal> {
    let explained = explain(connection, &[credential], Duration::ZERO).await?;
    Ok(match explained.get(&credential) {
        None => Refusal::NeverIssued,
        Some(Explained { refusal: Some(refusal), .. }) => *refusal,
        Some(explained) if explained.agent != agent => Refusal::OtherAgent,
        // It was good when the row was read and is no longer, or the other way round.
        Some(_) => Refusal::Replaced,
    })
}
