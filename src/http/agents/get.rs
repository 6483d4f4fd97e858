use axum::response::{IntoResponse, Response};
use planasonix_wire::{AgentId, agent::AgentDetail, envelope::Data};

use crate::http::{
    answer::{Answer, not_modified},
    auth::Reader,
    conditional::{Preconditions, Selected},
    error::Problem,
    extract::AgentPath,
};

/// Get agent details
///
/// The `ETag` is that of what operators set and change: label, tags, metadata, platform, status, draining. It stays while
/// heartbeats change the rest, so 304 says nothing of `last_seen_at`, `version` and the like.
#[utoipa::path(
    get, path = "/api/agents/{id}", operation_id = "getAgent", tag = "agents", security(("apiKey" = ["agents:read"])),
    params(
        ("id" = AgentId, Path, description = "The agent"),
        ("If-None-Match" = Option<String>, Header, description = "Tags of which none may be the agent's `ETag`; else 304"),
        ("If-Match" = Option<String>, Header, description = "Tags of which one must be the agent's `ETag`; else 412"),
    ),
    responses(
        (
            status = 200, description = "The agent", body = Data<AgentDetail>,
            headers(("ETag" = String, description = "The strong entity tag of the agent's configuration")),
        ),
        (
            status = 304, description = "The configuration is still one that `If-None-Match` names",
            headers(("ETag" = String, description = "The strong entity tag of the agent's configuration")),
        ),
    ),
)]
pub async fn get(reader: Reader, path: AgentPath, conditions: Preconditions) -> Result<Response, Problem> {
    let id = path.id()?;
    let (agent, revision) = reader
        .workspace
        .read("get_agent", |mut rows| async move { rows.agents().get_with_revision(id).await })
        .await?;
    Ok(match conditions.check_read(&revision)? {
        Selected::Unchanged => not_modified(&revision),
        Selected::Whole => Answer::ok(agent).with_revision(revision).into_response(),
    })
}
