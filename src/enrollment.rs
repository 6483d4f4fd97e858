//! How an agent comes to its credential: registered or enabled it is handed an enrollment token, which
//! it trades for a credential, once. Each step is one transaction with its audit event.

mod exchange;

use std::time::Duration;

use planasonix_wire::{
    AgentId,
    agent::{AwaitingEnrollment, EnabledAgent, ReactivatedAgent, RegisteredAgent, Status},
    enroll::RotatedCredential,
    json::Timestamp,
};

pub use self::exchange::Enrolled;
use crate::{
    db::{Workspace, events::EventType, workspace::Rows},
    domain::{
        Actor, Error, Result,
        agent::{NewAgent, ReenablePolicy, may_enable, may_get_enrollment_token},
        credential::{Agent, Enrollment, Hashed, Plain},
        revision::Revision,
    },
    entropy,
};

/// Under which name registrations keep their idempotency keys.
const REGISTER: &str = "POST /api/agents";

/// How long what is issued here lives.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// Of an enrollment token.
    pub enrollment_token: Duration,
    /// Of an agent's credential.
    pub credential: Duration,
}

impl Lives {
    /// Registers an agent: it is pending, and its enrollment token is shown once. Under the same `key` the
    /// same request makes no second agent: while that waits for its first enrollment, the answer holds a
    /// fresh token, and afterwards none. A repetition shows the agent as it is now.
    ///
    /// # Errors
    /// [`Error::AgentLimitReached`]; those of a key that was used otherwise or is in use; and those of the
    /// database.
    pub async fn register(
        self,
        workspace: &Workspace,
        actor: Actor,
        new: &NewAgent,
        key: Option<&str>,
    ) -> Result<(RegisteredAgent, Revision)> {
        workspace
            .write("register", |mut rows| async move {
                let Some(key) = key else { return self.register_new(&mut rows, actor, new).await };
                let hash = new.hash();
                rows.idempotency_keys(REGISTER).hold(key).await?;
                if let Some(agent) = rows.idempotency_keys(REGISTER).find(key, hash).await? {
                    return self.register_again(&mut rows, actor, agent).await;
                }
                let (registered, revision) = self.register_new(&mut rows, actor, new).await?;
                rows.idempotency_keys(REGISTER).remember(key, hash, registered.id).await?;
                Ok((registered, revision))
            })
            .await
    }

    async fn register_new(
        self,
        rows: &mut Rows,
        actor: Actor,
        new: &NewAgent,
    ) -> Result<(RegisteredAgent, Revision)> {
        rows.agents().check_limit().await?;
        let agent = rows.agents().insert(new).await?;
        let issued = self.issue(rows, agent).await?;
        rows.events().record(agent, EventType::Registered, actor, None).await?;
        Ok((registered(agent, new, issued), new.revision()))
    }

    async fn register_again(
        self,
        rows: &mut Rows,
        actor: Actor,
        agent: AgentId,
    ) -> Result<(RegisteredAgent, Revision)> {
        let locked = match rows.agents().lock(agent).await {
            Err(Error::AgentNotFound) => return Err(Error::IdempotencyConflict),
            locked => locked?,
        };
        // The agent may have been changed since.
        let (current, revision) = rows.agents().get_with_revision(agent).await?;
        let again = RegisteredAgent {
            id: agent,
            label: current.label,
            platform: current.platform,
            status: current.status,
            enrollment_token: None,
            token_expires_at: None,
            created_at: current.created_at,
        };
        if !locked.first_pending {
            return Ok((again, revision));
        }
        let (token, expires_at) = self.issue(rows, agent).await?;
        rows.events().record(agent, EventType::EnrollmentTokenIssued, actor, None).await?;
        let token = Some(token.reveal());
        Ok((
            RegisteredAgent { enrollment_token: token, token_expires_at: Some(expires_at), ..again },
            revision,
        ))
    }

    /// Gives a pending agent a fresh enrollment token; the earlier one dies.
    ///
    /// # Errors
    /// The agent is absent or not pending; and those of the database.
    pub async fn reissue(
        self,
        workspace: &Workspace,
        actor: Actor,
        agent: AgentId,
    ) -> Result<AwaitingEnrollment> {
        let (token, expires_at) = workspace
            .write("reissue", |mut rows| async move {
                may_get_enrollment_token(rows.agents().lock(agent).await?.status)?;
                let issued = self.issue(&mut rows, agent).await?;
                rows.events().record(agent, EventType::EnrollmentTokenIssued, actor, None).await?;
                Ok(issued)
            })
            .await?;
        Ok(awaiting(agent, token, expires_at))
    }

    /// Lets a revoked agent come back, as its workspace's policy has it.
    ///
    /// # Errors
    /// The agent is absent or not revoked; and those of the database.
    pub async fn enable(self, workspace: &Workspace, actor: Actor, agent: AgentId) -> Result<EnabledAgent> {
        workspace
            .write("enable", |mut rows| async move {
                let locked = rows.agents().lock(agent).await?;
                may_enable(locked.status)?;
                let policy = rows.agents().reenable_policy().await?;
                let enabled = if policy == ReenablePolicy::Rotation && locked.enrolled {
                    EnabledAgent::Rotation(self.reactivate(&mut rows, agent).await?)
                } else {
                    rows.agents().enable(agent, Status::Pending).await?;
                    let (token, expires_at) = self.issue(&mut rows, agent).await?;
                    EnabledAgent::Enrollment(awaiting(agent, token, expires_at))
                };
                rows.events().record(agent, EventType::Enabled, actor, None).await?;
                Ok(enabled)
            })
            .await
    }

    async fn reactivate(self, rows: &mut Rows, id: AgentId) -> Result<ReactivatedAgent> {
        rows.agents().enable(id, Status::Active).await?;
        let credential = Plain::generate(&mut entropy::rng(), id.ulid());
        let credential_expires_at =
            rows.credentials().replace(id, credential.hashed(), self.credential).await?;
        Ok(ReactivatedAgent {
            id,
            status: Status::Active,
            credential: credential.reveal(),
            credential_expires_at,
        })
    }

    /// Gives an agent its next credential. The current one stays good until the next is first used.
    ///
    /// # Errors
    /// The refusal that the presented credential calls for; and those of the database.
    pub async fn rotate(
        self,
        workspace: &Workspace,
        agent: AgentId,
        presented: Hashed<Agent>,
    ) -> Result<RotatedCredential> {
        workspace
            .write("rotate", |mut rows| async move {
                rows.credentials().authenticate(agent, presented).await?;
                let credential = Plain::generate(&mut entropy::rng(), agent.ulid());
                let credential_expires_at =
                    rows.credentials().issue_next(agent, credential.hashed(), self.credential).await?;
                rows.events().record(agent, EventType::CredentialRotated, Actor::Agent(agent), None).await?;
                Ok(RotatedCredential {
                    agent_id: agent,
                    credential: credential.reveal(),
                    credential_expires_at,
                })
            })
            .await
    }

    async fn issue(self, rows: &mut Rows, agent: AgentId) -> Result<(Plain<Enrollment>, Timestamp)> {
        let token = Plain::generate(&mut entropy::rng(), agent.ulid());
        let expires_at =
            rows.credentials().issue_enrollment_token(agent, token.hashed(), self.enrollment_token).await?;
        Ok((token, expires_at))
    }
}

fn registered(
    id: AgentId,
    new: &NewAgent,
    (token, expires_at): (Plain<Enrollment>, Timestamp),
) -> RegisteredAgent {
    RegisteredAgent {
        id,
        label: new.label.clone(),
        platform: new.platform,
        status: Status::Pending,
        enrollment_token: Some(token.reveal()),
        token_expires_at: Some(expires_at),
        created_at: id.created_at(),
    }
}

fn awaiting(id: AgentId, token: Plain<Enrollment>, token_expires_at: Timestamp) -> AwaitingEnrollment {
    AwaitingEnrollment { id, status: Status::Pending, enrollment_token: token.reveal(), token_expires_at }
}
