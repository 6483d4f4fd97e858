use planasonix_wire::{
    AgentId,
    agent::{AgentDetail, UpdateAgent},
    envelope::Data,
};

use crate::{
    db::events::EventType,
    domain::agent::AgentChange,
    http::{
        answer::Answer,
        auth::Writer,
        error::Problem,
        extract::{AgentPath, JsonBody},
    },
};

/// Change an agent's record
///
/// A field left out stays, a given one is replaced whole.
#[utoipa::path(
    patch, path = "/api/agents/{id}", operation_id = "updateAgent", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(("id" = AgentId, Path, description = "The agent")),
    request_body = UpdateAgent,
    responses((status = 200, description = "The agent as it is now", body = Data<AgentDetail>)),
)]
pub async fn update(
    writer: Writer,
    path: AgentPath,
    JsonBody(body): JsonBody<UpdateAgent>,
) -> Result<Answer<Data<AgentDetail>>, Problem> {
    let change = &AgentChange::try_from(body)?;
    let id = path.id()?;
    let agent = writer
        .workspace
        .write("update_agent", |mut rows| async move {
            rows.agents().lock(id).await?;
            rows.agents().update(id, change).await?;
            rows.events().record(id, EventType::Updated, writer.actor, None).await?;
            rows.agents().get(id).await
        })
        .await?;
    Ok(Answer::ok(agent))
}
