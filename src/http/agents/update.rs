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
        conditional::Preconditions,
        error::Problem,
        extract::{AgentPath, JsonBody},
    },
};

/// Change an agent's record
///
/// A field left out stays, a given one is replaced whole. With `If-Match`, the agent changes only if it is still the one
/// that the caller has read: of several who change one agent at a time, none overwrites another unseen.
#[utoipa::path(
    patch, path = "/api/agents/{id}", operation_id = "updateAgent", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(
        ("id" = AgentId, Path, description = "The agent"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the agent must have when it is changed; else 412, and nothing changes"),
    ),
    request_body = UpdateAgent,
    responses((
        status = 200, description = "The agent as it is now", body = Data<AgentDetail>,
        headers(("ETag" = String, description = "The strong entity tag of the agent's configuration")),
    )),
)]
pub async fn update(
    writer: Writer,
    path: AgentPath,
    conditions: Preconditions,
    JsonBody(body): JsonBody<UpdateAgent>,
) -> Result<Answer<Data<AgentDetail>>, Problem> {
    let change = &AgentChange::try_from(body)?;
    let (id, conditions) = (path.id()?, &conditions);
    let (agent, revision) = writer
        .workspace
        .write("update_agent", |mut rows| async move {
            rows.agents().lock(id).await?;
            conditions.check_locked(&mut rows, id).await?;
            rows.agents().update(id, change).await?;
            rows.events().record(id, EventType::Updated, writer.actor, None).await?;
            rows.agents().get_with_revision(id).await
        })
        .await?;
    Ok(Answer::ok(agent).with_revision(revision))
}
