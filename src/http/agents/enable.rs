use axum::extract::State;
use planasonix_wire::{AgentId, agent::EnabledAgent, envelope::Data};

use crate::http::{
    App,
    answer::Answer,
    auth::Writer,
    conditional::Unconditional,
    error::Problem,
    extract::{AgentPath, NoFields, OptionalBody},
};

/// Re-enable revoked agent
///
/// Under the workspace's policy `enrollment` the agent waits for its enrollment with a fresh token; under
/// `rotation` it keeps its enrollment and is handed a new credential. Nothing that was issued before works.
#[utoipa::path(
    post, path = "/api/agents/enable/{id}", operation_id = "enableAgent", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "The agent, with its enrollment token or credential", body = Data<EnabledAgent>)),
)]
pub async fn enable(
    writer: Writer,
    _: Unconditional,
    State(app): State<App>,
    path: AgentPath,
    _: OptionalBody<NoFields>,
) -> Result<Answer<Data<EnabledAgent>>, Problem> {
    let id = path.id()?;
    Ok(Answer::ok(app.lives.enable(&writer.workspace, writer.actor, id).await?).with_secret())
}
