use axum::http::StatusCode;
use planasonix_wire::AgentId;

use crate::{
    db::events::EventType,
    domain::{Actor, Result},
    http::{
        auth::{AgentSelf, Writer, WriterOrSelf},
        conditional::Preconditions,
        error::Problem,
        extract::AgentPath,
    },
};

/// Deregister an agent
///
/// Removes the record and all its credentials, at once and everywhere. The audit trail stays. An agent may
/// deregister itself, and only itself.
#[utoipa::path(
    delete, path = "/api/agents/{id}", operation_id = "deregisterAgent", tag = "agents",
    security(("apiKey" = ["agents:write"]), ("agentCredential" = [])),
    params(
        ("id" = AgentId, Path, description = "The agent"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the agent must have when it is removed; else 412, and nothing changes"),
    ),
    responses((status = 204, description = "The agent is gone")),
)]
pub async fn delete(
    caller: WriterOrSelf,
    path: AgentPath,
    conditions: Preconditions,
) -> Result<StatusCode, Problem> {
    match caller {
        WriterOrSelf::Writer(writer) => by_operator(&writer, path.id()?, &conditions).await?,
        WriterOrSelf::Agent(agent) => {
            by_itself(&agent, path, &conditions).await.map_err(|error| Problem::from(error).for_agent())?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn by_operator(writer: &Writer, id: AgentId, conditions: &Preconditions) -> Result<()> {
    let actor = writer.actor;
    writer
        .workspace
        .bar("delete_agent", |mut rows| async move {
            rows.agents().lock(id).await?;
            conditions.check_locked(&mut rows, id).await?;
            rows.agents().delete(id).await?;
            rows.events().record(id, EventType::Deregistered, actor, None).await
        })
        .await
}

async fn by_itself(agent: &AgentSelf, path: AgentPath, conditions: &Preconditions) -> Result<()> {
    let (id, credential) = (agent.only_itself(path)?, agent.credential);
    agent
        .workspace
        .bar("delete_itself", |mut rows| async move {
            rows.credentials().authenticate(id, credential).await?;
            conditions.check_locked(&mut rows, id).await?;
            rows.agents().delete(id).await?;
            rows.events().record(id, EventType::Deregistered, Actor::Agent(id), None).await
        })
        .await
}
