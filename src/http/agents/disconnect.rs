use axum::http::StatusCode;
use planasonix_wire::AgentId;

use crate::{
    db::events::EventType,
    domain::Actor,
    http::{
        auth::AgentSelf,
        conditional::Unconditional,
        error::Problem,
        extract::{AgentPath, NoFields, OptionalBody},
    },
};

/// Leave in an orderly way
///
/// The agent leaves the connected view at once; its next heartbeat brings it back.
#[utoipa::path(
    post, path = "/api/agents/{id}/disconnect", operation_id = "disconnectAgent", tag = "agent protocol",
    security(("agentCredential" = [])),
    params(("id" = AgentId, Path, description = "The agent itself")),
    responses((status = 204, description = "The agent counts as gone")),
)]
pub async fn disconnect(
    agent: AgentSelf,
    _: Unconditional,
    path: AgentPath,
    _: OptionalBody<NoFields>,
) -> Result<StatusCode, Problem> {
    let (id, credential) = (agent.only_itself(path)?, agent.credential);
    agent
        .workspace
        .write("disconnect", |mut rows| async move {
            rows.credentials().authenticate(id, credential).await?;
            if rows.agents().disconnect(id).await? {
                let (event, actor) = (EventType::Disconnected, Actor::Agent(id));
                rows.events().record(id, event, actor, Some("graceful")).await?;
            }
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
