//! Who may see to an agent's installation: operators, and whoever holds a secret of that agent.

use axum::{extract::FromRequestParts, http::request::Parts};
use planasonix_wire::AgentId;

use super::{AgentSelf, Presented, Writer, authorise, claim, presented_by, reject};
use crate::{
    db::{Budget, Workspace, workspace::Rows},
    domain::{
        Actor, Error, Scope,
        credential::{Agent, Hashed},
    },
    http::{App, error::Problem, extract::AgentPath, limits::Owner},
};

/// An API key that may read agents, or the holder of an enrollment token: for the token's own agent, until the
/// token expires, also when it was used.
pub struct Installing {
    /// The caller's workspace.
    pub workspace: Workspace,
    /// The caller, for the audit trail.
    pub actor: Actor,
    only: Option<AgentId>,
    credential: Option<Hashed<Agent>>,
}

impl Installing {
    /// The id of the agent that the path names, if the caller may install it. An agent has used its credential
    /// then, as on every other route.
    ///
    /// # Errors
    /// [`Error::AgentNotFound`]: to who holds an agent's secret there is no other. The refusal that an agent's
    /// credential calls for; and those of the database.
    pub async fn agent(&self, path: AgentPath) -> Result<AgentId, Error> {
        let id = path.id()?;
        if self.only.is_some_and(|only| only != id) {
            return Err(Error::AgentNotFound);
        }
        if let Some(credential) = self.credential {
            let authenticate =
                |mut rows: Rows| async move { rows.credentials().authenticate(id, credential).await };
            self.workspace.write("authenticate", authenticate).await?;
        }
        Ok(id)
    }

    /// An error as this caller is told it: with what to do next, unless an operator asks.
    pub fn tell(&self, error: impl Into<Problem>) -> Problem {
        let problem = error.into();
        if self.only.is_some() { problem.for_agent() } else { problem }
    }
}

impl FromRequestParts<App> for Installing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if matches!(presented_by(parts), Presented::Enrollment(_)) {
            by_token(parts, app).await.map_err(|error| Problem::from(error).for_agent())
        } else {
            let Writer { workspace, actor } = authorise(parts, app, Scope::AgentsRead).await?;
            Ok(Self { workspace, actor, only: None, credential: None })
        }
    }
}

async fn by_token(parts: &Parts, app: &App) -> Result<Installing, Error> {
    let budget = Budget::default();
    let Presented::Enrollment(token) = presented_by(parts) else { return Err(reject(parts, app)) };
    let token = token.hashed();
    let (workspace, agent) = app
        .limits
        .admit(claim(parts, app, token.as_bytes(), &budget), async |turn| {
            let (workspace, agent) = app.db.installing(token, turn, &budget).await?;
            Ok((Owner::Agent(agent, workspace), (workspace, agent)))
        })
        .await?;
    Ok(Installing {
        workspace: app.db.workspace(workspace, budget),
        actor: Actor::Agent(agent),
        only: Some(agent),
        credential: None,
    })
}

/// The same, or the agent itself.
pub struct InstallingOrSelf(pub Installing);

impl FromRequestParts<App> for InstallingOrSelf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if matches!(presented_by(parts), Presented::Agent(_)) {
            let AgentSelf { workspace, credential, agent } =
                AgentSelf::from_request_parts(parts, app).await.map_err(Problem::for_agent)?;
            let (actor, only, credential) = (Actor::Agent(agent), Some(agent), Some(credential));
            Ok(Self(Installing { workspace, actor, only, credential }))
        } else {
            Installing::from_request_parts(parts, app).await.map(Self)
        }
    }
}
