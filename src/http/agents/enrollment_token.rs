use axum::extract::State;
use planasonix_wire::{AgentId, agent::AwaitingEnrollment, envelope::Data};

use crate::http::{
    App,
    answer::Answer,
    auth::Writer,
    conditional::Unconditional,
    error::Problem,
    extract::{AgentPath, NoFields, OptionalBody},
};

/// Issue a fresh enrollment token
///
/// For a pending agent. The earlier token dies at once.
#[utoipa::path(
    post, path = "/api/agents/{id}/enrollment-token", operation_id = "issueEnrollmentToken", tag = "agents",
    security(("apiKey" = ["agents:write"])),
    params(("id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "The agent, with its enrollment token", body = Data<AwaitingEnrollment>)),
)]
pub async fn issue(
    writer: Writer,
    _: Unconditional,
    State(app): State<App>,
    path: AgentPath,
    _: OptionalBody<NoFields>,
) -> Result<Answer<Data<AwaitingEnrollment>>, Problem> {
    let id = path.id()?;
    Ok(Answer::ok(app.lives.reissue(&writer.workspace, writer.actor, id).await?).with_secret())
}
