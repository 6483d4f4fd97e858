use axum::extract::State;
use planasonix_wire::{
    agent::{RegisterAgent, RegisteredAgent},
    envelope::Data,
};

use crate::{
    domain::{agent::NewAgent, invalid::Invalid},
    http::{
        App,
        answer::Answer,
        auth::Writer,
        conditional::Unconditional,
        error::Problem,
        extract::{IdempotencyKey, JsonBody},
    },
};

/// Register a new agent
///
/// The agent is `pending` until it enrolls with the enrollment token, which is shown here and never again.
#[utoipa::path(
    post, path = "/api/agents", operation_id = "registerAgent", tag = "agents", security(("apiKey" = ["agents:write"])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body make no second agent", min_length = 1, max_length = 255)),
    request_body = RegisterAgent,
    responses((
        status = 201, description = "The agent, with its enrollment token", body = Data<RegisteredAgent>,
        headers(
            ("Location" = String, description = "Where the agent is from now on"),
            ("ETag" = String, description = "The strong entity tag of the agent's configuration"),
        ),
    )),
)]
pub async fn register(
    writer: Writer,
    _: Unconditional,
    State(app): State<App>,
    key: IdempotencyKey,
    JsonBody(body): JsonBody<RegisterAgent>,
) -> Result<Answer<Data<RegisteredAgent>>, Problem> {
    let (key, new) = Invalid::both(key.get(), NewAgent::try_from(body))?;
    let (registered, revision) = app.lives.register(&writer.workspace, writer.actor, &new, key).await?;
    let location = format!("/api/agents/{}", registered.id);
    Ok(Answer::created(registered, location).with_secret().with_revision(revision))
}
