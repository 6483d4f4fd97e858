//! From an enrollment token to a credential.

use planasonix_wire::{AgentId, json::Timestamp};

use super::Lives;
use crate::{
    db::{
        Budget, Db, Turn, Workspace,
        auth::EnrollmentState,
        credentials::{EnrolledAgent, NewCredential},
        events::{Entry, EventType},
    },
    domain::{
        Actor, Error, Result,
        agent::EnrollmentFacts,
        credential::{Agent, Enrollment, Hashed, Plain},
    },
    entropy,
};

/// An agent that has just enrolled, with the secret that it is shown once.
pub struct Enrolled {
    /// The agent that the token stood for.
    pub agent: AgentId,
    /// Its name for people.
    pub label: String,
    /// What it authenticates with from now on.
    pub credential: Plain<Agent>,
    /// Until when.
    pub credential_expires_at: Timestamp,
    /// Whether it is being drained.
    pub draining: bool,
}

impl Lives {
    /// Finds the agent of an enrollment token, without a lock. A refusal is noted in the audit trail.
    ///
    /// # Errors
    /// The refusal that the token's or the agent's state calls for; and those of the database.
    pub async fn find_enrollment(
        self,
        db: &Db,
        token: Hashed<Enrollment>,
        key: Option<&str>,
        turn: Turn,
        budget: &Budget,
    ) -> Result<(Workspace, AgentId)> {
        let EnrollmentState { workspace, agent, usable } = db.enrolling(token, key, turn, budget).await?;
        let workspace = db.workspace(workspace, budget.clone());
        if let Err(error) = &usable {
            note_refusal(&workspace, agent, error).await;
        }
        usable.map(|()| (workspace, agent))
    }

    /// Trades an enrollment token for a credential. Of many callers with one token exactly one gets it.
    ///
    /// An answer that got lost can be asked for again within ten minutes under the same `key`, as long as
    /// the credential that it held was never used: a fresh one takes its place.
    ///
    /// `admit` has the last word on an agent whose token has proven good; what it refuses stays as it was.
    ///
    /// # Errors
    /// That of `admit`; the refusal that the token's or the agent's state calls for, which leaves the token as it was;
    /// [`Error::RequestInProgress`] while another call with the key is; and those of the database.
    pub async fn enroll(
        self,
        workspace: &Workspace,
        agent: AgentId,
        token: Hashed<Enrollment>,
        facts: &EnrollmentFacts,
        key: Option<&str>,
        admit: impl Fn(AgentId) -> Result<()> + Sync,
    ) -> Result<Enrolled> {
        let enrolled = self.trade(workspace, agent, token, facts, key, &admit).await;
        if let Err(error) = &enrolled {
            note_refusal(workspace, agent, error).await;
        }
        enrolled
    }

    async fn trade(
        self,
        workspace: &Workspace,
        agent: AgentId,
        token: Hashed<Enrollment>,
        facts: &EnrollmentFacts,
        key: Option<&str>,
        admit: &(impl Fn(AgentId) -> Result<()> + Sync),
    ) -> Result<Enrolled> {
        workspace
            .write("enroll", |mut rows| async move {
                if key.is_some() {
                    rows.credentials().hold_token(token).await?;
                }
                rows.credentials().lock_for_enrollment(agent, token, key).await?;
                admit(agent)?;
                let credential = Plain::generate(&mut entropy::rng(), agent.ulid());
                let new = NewCredential { digest: credential.hashed(), life: self.credential };
                let enrolled = rows.credentials().enroll(agent, token, key, new, facts).await?;
                rows.events().record(agent, EventType::Enrolled, Actor::Agent(agent), None).await?;
                let EnrolledAgent { label, credential_expires_at, draining } = enrolled;
                Ok(Enrolled { agent, label, credential, credential_expires_at, draining })
            })
            .await
    }
}

/// Notes that an enrollment was refused. The refusal stands, whether or not it can be noted.
async fn note_refusal(workspace: &Workspace, agent: AgentId, error: &Error) {
    let reason = match error {
        Error::EnrollmentTokenInvalid => "enrollment_token_invalid",
        Error::EnrollmentTokenExpired => "enrollment_token_expired",
        Error::EnrollmentTokenUsed => "enrollment_token_used",
        Error::AgentRevoked => "agent_revoked",
        _ => return,
    };
    let noted = workspace
        .write("note_refusal", |mut rows| async move {
            let (event, actor) = (EventType::EnrollmentRefused, Actor::Agent(agent));
            rows.events()
                .record_seldom(Entry { agent, event, actor, reason: Some(reason), detail: None })
                .await
        })
        .await;
    if let Err(error) = noted {
        tracing::warn!(%agent, %error, "a refused enrollment could not be noted");
    }
}
