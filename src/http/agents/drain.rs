use planasonix_wire::{AgentId, agent::DrainedAgent, envelope::Data};

use crate::{
    db::events::EventType,
    domain::{Result, agent::may_be_operated},
    http::{
        answer::Answer,
        auth::Writer,
        conditional::Unconditional,
        error::Problem,
        extract::{AgentPath, NoFields, OptionalBody},
    },
};

/// Drain an agent
///
/// It goes on beating and takes no new work, which its next heartbeat's answer tells it. Again: nothing
/// changes.
#[utoipa::path(
    post, path = "/api/agents/drain/{id}", operation_id = "drainAgent", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "The agent takes no new work", body = Data<DrainedAgent>)),
)]
pub async fn drain(
    writer: Writer,
    _: Unconditional,
    path: AgentPath,
    _: OptionalBody<NoFields>,
) -> Result<Answer<Data<DrainedAgent>>, Problem> {
    Ok(Answer::ok(set_draining(writer, path.id()?, true).await?))
}

/// Resume an agent
///
/// It may take work again. Again: nothing changes.
#[utoipa::path(
    post, path = "/api/agents/resume/{id}", operation_id = "resumeAgent", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "The agent takes work", body = Data<DrainedAgent>)),
)]
pub async fn resume(
    writer: Writer,
    _: Unconditional,
    path: AgentPath,
    _: OptionalBody<NoFields>,
) -> Result<Answer<Data<DrainedAgent>>, Problem> {
    Ok(Answer::ok(set_draining(writer, path.id()?, false).await?))
}

async fn set_draining(writer: Writer, id: AgentId, draining: bool) -> Result<DrainedAgent> {
    let event = if draining { EventType::Draining } else { EventType::Resumed };
    writer
        .workspace
        .write("set_draining", |mut rows| async move {
            let status = rows.agents().lock(id).await?.status;
            may_be_operated(status)?;
            if rows.agents().set_draining(id, draining).await? {
                rows.events().record(id, event, writer.actor, None).await?;
            }
            Ok(DrainedAgent { id, status, draining })
        })
        .await
}
