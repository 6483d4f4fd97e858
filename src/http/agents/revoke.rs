use planasonix_wire::{
    AgentId,
    agent::{RevokeAgent, RevokedAgent, Status},
    envelope::Data,
};

use crate::{
    db::events::EventType,
    domain::agent::revoke_reason,
    http::{
        answer::Answer,
        auth::Writer,
        conditional::Unconditional,
        error::Problem,
        extract::{AgentPath, OptionalBody},
    },
};

/// Revoke agent access
///
/// From this answer on, no credential or enrollment token of the agent is accepted anywhere, until it is
/// enabled. Again: the first time and reason stand.
#[utoipa::path(
    post, path = "/api/agents/revoke/{id}", operation_id = "revokeAgent", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(("id" = AgentId, Path, description = "The agent")),
    request_body = Option<RevokeAgent>,
    responses((status = 200, description = "The agent is barred", body = Data<RevokedAgent>)),
)]
pub async fn revoke(
    writer: Writer,
    _: Unconditional,
    path: AgentPath,
    OptionalBody(body): OptionalBody<RevokeAgent>,
) -> Result<Answer<Data<RevokedAgent>>, Problem> {
    let reason = revoke_reason(body)?;
    let reason = reason.as_deref();
    let id = path.id()?;
    let revoked_at = writer
        .workspace
        .bar("revoke_agent", |mut rows| async move {
            if let Some(revoked_at) = rows.agents().lock(id).await?.revoked_at {
                return Ok(revoked_at);
            }
            let revoked_at = rows.agents().revoke(id, reason).await?;
            rows.events().record(id, EventType::Revoked, writer.actor, reason).await?;
            Ok(revoked_at)
        })
        .await?;
    Ok(Answer::ok(RevokedAgent { id, status: Status::Revoked, revoked_at }))
}
