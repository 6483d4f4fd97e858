//! From a credential to whom it stands for. These statements find the workspace, so they cannot be
//! behind its door.

use planasonix_wire::{AgentId, ApiKeyId, WorkspaceId};

use sqlx::PgConnection;

use super::{Budget, Db, Turn, error::stored};
use crate::domain::{
    Error, Result, Scope,
    agent::Status,
    credential::{Agent, Enrollment, Hashed},
    presence::Refusal,
};

/// An API key as it stands now.
pub struct StoredKey {
    /// The workspace that the key belongs to.
    pub workspace: WorkspaceId,
    /// The key's Argon2id hash, a PHC string.
    pub argon2: String,
    /// The first bytes of the key's SHA-256.
    pub sha256_check: Vec<u8>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether its time is over.
    pub expired: bool,
}

impl Db {
    /// Looks an API key up. One query, on every request: revocation is never cached.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn stored_key(&self, id: ApiKeyId, turn: Turn, budget: &Budget) -> Result<Option<StoredKey>> {
        self.reads()
            .run_for(turn, "stored_key", budget, |mut connection| async move {
                let row = sqlx::query!(
                    r#"SELECT workspace_id, argon2, sha256_check, scopes, revoked_at IS NOT NULL AS "revoked!",
                              COALESCE(expires_at <= now(), false) AS "expired!"
                       FROM api_keys WHERE id = $1"#,
                    id.uuid(),
                )
                .fetch_optional(&mut *connection)
                .await?;
                let Some(row) = row else { return Ok(None) };
                Ok(Some(StoredKey {
                    workspace: WorkspaceId::from_uuid(row.workspace_id),
                    argon2: row.argon2,
                    sha256_check: row.sha256_check,
                    scopes: row.scopes.iter().map(|scope| stored("api_keys.scopes", scope)).collect::<Result<_>>()?,
                    revoked: row.revoked,
                    expired: row.expired,
                }))
            })
            .await
    }

    /// Notes that a key is in use, to the minute.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn note_key_use(&self, id: ApiKeyId, budget: &Budget) -> Result<()> {
        self.background()
            .run("note_key_use", budget, |mut connection| async move {
                sqlx::query!(
                    "UPDATE api_keys SET last_used_at = now()
                     WHERE id = $1 AND COALESCE(past_time(last_used_at) <= now() - interval '1 minute', true)",
                    id.uuid(),
                )
                .execute(&mut *connection)
                .await?;
                Ok(())
            })
            .await
    }

    /// Finds the agent that a credential stands for.
    ///
    /// # Errors
    /// The refusal that the credential calls for; and those of the database.
    pub async fn credential_holder(
        &self,
        credential: Hashed<Agent>,
        turn: Turn,
        budget: &Budget,
    ) -> Result<(WorkspaceId, AgentId)> {
        self.reads()
            .run_for(turn, "credential_holder", budget, |mut connection| async move {
                let row = sqlx::query!(
                    r#"SELECT a.workspace_id, a.id, a.status = 'revoked' AS "revoked!",
                              c.retired_at IS NOT NULL AS "retired!", c.expires_at <= now() AS "expired!"
                       FROM agent_credentials c JOIN agents a ON a.id = c.agent_id WHERE c.digest = $1"#,
                    credential.as_bytes(),
                )
                .fetch_optional(&mut *connection)
                .await?
                .ok_or(Refusal::NeverIssued)?;
                match Refusal::of(row.revoked, row.retired, row.expired) {
                    Some(refusal) => Err(refusal.into()),
                    None => Ok((WorkspaceId::from_uuid(row.workspace_id), AgentId::from_uuid(row.id))),
                }
            })
            .await
    }

    /// Finds the agent of an enrollment token, and whether the token may enroll it now. Takes no lock, so the
    /// transaction that enrolls checks again.
    ///
    /// # Errors
    /// [`Error::EnrollmentTokenInvalid`] if the token was never issued or its agent is deleted.
    pub async fn enrolling(
        &self,
        token: Hashed<Enrollment>,
        key: Option<&str>,
        turn: Turn,
        budget: &Budget,
    ) -> Result<EnrollmentState> {
        self.reads()
            .run_for(turn, "enrolling", budget, |mut connection| async move {
                enrollment_state(&mut connection, token, key).await
            })
            .await
    }

    /// Finds the agent that a token lets somebody install: until the token expires, whether or not it was
    /// used, while the agent is not revoked.
    ///
    /// # Errors
    /// The refusal that the token's or the agent's state calls for; and those of the database.
    pub async fn installing(
        &self,
        token: Hashed<Enrollment>,
        turn: Turn,
        budget: &Budget,
    ) -> Result<(WorkspaceId, AgentId)> {
        self.reads()
            .run_for(turn, "installing", budget, |mut connection| async move {
                let row = sqlx::query!(
                    r#"SELECT a.workspace_id, a.id, a.status = 'revoked' AS "revoked!",
                              t.superseded_at IS NOT NULL AS "superseded!", t.expires_at <= now() AS "expired!"
                       FROM enrollment_tokens t JOIN agents a ON a.id = t.agent_id WHERE t.digest = $1"#,
                    token.as_bytes(),
                )
                .fetch_optional(&mut *connection)
                .await?
                .ok_or(Error::EnrollmentTokenInvalid)?;
                match row {
                    row if row.revoked => Err(Error::AgentRevoked),
                    row if row.superseded => Err(Error::EnrollmentTokenInvalid),
                    row if row.expired => Err(Error::EnrollmentTokenExpired),
                    row => Ok((WorkspaceId::from_uuid(row.workspace_id), AgentId::from_uuid(row.id))),
                }
            })
            .await
    }
}

/// What an enrollment token can do now.
pub struct EnrollmentState {
    /// The workspace of the agent.
    pub workspace: WorkspaceId,
    /// The agent that the token was issued for.
    pub agent: AgentId,
    /// The refusal that the token's or the agent's state calls for, if any.
    pub usable: Result<()>,
}

/// Reads what an enrollment token can do now. A used token is usable again with the `key` that it was used with, for
/// ten minutes, while the credential that it bought was never used.
///
/// # Errors
/// [`Error::EnrollmentTokenInvalid`] if it was never issued or its agent is deleted.
pub(super) async fn enrollment_state(
    connection: &mut PgConnection,
    token: Hashed<Enrollment>,
    key: Option<&str>,
) -> Result<EnrollmentState> {
    let row = sqlx::query!(
        r#"SELECT a.workspace_id, a.id, a.status, t.used_at IS NOT NULL AS "used!",
                  t.superseded_at IS NOT NULL AS "superseded!", t.expires_at <= now() AS "expired!",
                  COALESCE(t.idempotency_key = $2 AND past_time(t.used_at) > now() - interval '10 minutes'
                           AND l.credential = t.credential AND l.next_credential IS NULL
                           AND l.last_seen_at IS NULL AND c.used_at IS NULL, false) AS "repeatable!"
           FROM enrollment_tokens t JOIN agents a ON a.id = t.agent_id
           JOIN agent_liveness l ON l.agent_id = a.id
           LEFT JOIN agent_credentials c ON c.digest = t.credential
           WHERE t.digest = $1"#,
        token.as_bytes(),
        key,
    )
    .fetch_optional(connection)
    .await?
    .ok_or(Error::EnrollmentTokenInvalid)?;
    let usable = match stored("agents.status", &row.status)? {
        Status::Revoked => Err(Error::AgentRevoked),
        Status::Active if row.repeatable => Ok(()),
        _ if row.used => Err(Error::EnrollmentTokenUsed),
        _ if row.superseded => Err(Error::EnrollmentTokenInvalid),
        _ if row.expired => Err(Error::EnrollmentTokenExpired),
        _ => Ok(()),
    };
    let (workspace, agent) = (WorkspaceId::from_uuid(row.workspace_id), AgentId::from_uuid(row.id));
    Ok(EnrollmentState { workspace, agent, usable })
}
