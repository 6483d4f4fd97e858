use axum::extract::State;
use planasonix_wire::{AgentId, enroll::RotatedCredential, envelope::Data};

use crate::http::{
    App,
    answer::Answer,
    auth::AgentSelf,
    conditional::Unconditional,
    error::Problem,
    extract::{AgentPath, NoFields, OptionalBody},
};

/// Rotate an agent's credential
///
/// The presented credential stays good until the new one first authenticates a request, or until its own
/// expiry. Asking again with it replaces the new one, so an answer that got lost costs nothing.
#[utoipa::path(
    post, path = "/api/agents/{id}/credential", operation_id = "rotateCredential", tag = "agent protocol",
    security(("agentCredential" = [])),
    params(("id" = AgentId, Path, description = "The agent itself")),
    responses((status = 200, description = "The agent's next credential", body = Data<RotatedCredential>)),
)]
pub async fn rotate(
    agent: AgentSelf,
    _: Unconditional,
    State(app): State<App>,
    path: AgentPath,
    _: OptionalBody<NoFields>,
) -> Result<Answer<Data<RotatedCredential>>, Problem> {
    let id = agent.only_itself(path)?;
    Ok(Answer::ok(app.lives.rotate(&agent.workspace, id, agent.credential).await?).with_secret())
}
