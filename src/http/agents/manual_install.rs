use axum::extract::State;
use planasonix_wire::{AgentId, envelope::Data, installer::ManualInstall};

use crate::{
    domain::{Result, agent::may_be_operated},
    http::{App, answer::Answer, auth::Installing, error::Problem, extract::AgentPath},
};

/// Get manual installation instructions
///
/// Commands for the agent's platform, to be run as they stand on a host where `PLANASONIX_ENROLLMENT_TOKEN` is
/// set. They check what they downloaded before anything of it is unpacked or run. The answer holds no secret.
#[utoipa::path(
    get, path = "/api/agents/manual-install/{agentId}", operation_id = "getManualInstall", tag = "agents",
    security(("apiKey" = ["agents:read"]), ("enrollmentToken" = [])),
    params(("agentId" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "How the agent is installed", body = Data<ManualInstall>)),
)]
pub async fn instructions(
    caller: Installing,
    State(app): State<App>,
    path: AgentPath,
) -> Result<Answer<Data<ManualInstall>>, Problem> {
    let manual = find(&caller, &app, path).await.map_err(|error| caller.tell(error))?;
    Ok(Answer::ok(manual))
}

async fn find(caller: &Installing, app: &App, path: AgentPath) -> Result<ManualInstall> {
    let id = caller.agent(path).await?;
    let agent = caller
        .workspace
        .read("manual_install", |mut rows| async move { rows.agents().get(id).await })
        .await?;
    may_be_operated(agent.status)?;
    app.installers.manual(id, agent.platform)
}
