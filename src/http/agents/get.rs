use planasonix_wire::{AgentId, agent::AgentDetail, envelope::Data};

use crate::http::{answer::Answer, auth::Reader, error::Problem, extract::AgentPath};

/// Get agent details
#[utoipa::path(
    get, path = "/api/agents/{id}", operation_id = "getAgent", tag = "agents", security(("apiKey" = ["agents:read"])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "The agent", body = Data<AgentDetail>)),
)]
pub async fn get(reader: Reader, path: AgentPath) -> Result<Answer<Data<AgentDetail>>, Problem> {
    let id = path.id()?;
    let agent =
        reader.workspace.read("get_agent", |mut rows| async move { rows.agents().get(id).await }).await?;
    Ok(Answer::ok(agent))
}
