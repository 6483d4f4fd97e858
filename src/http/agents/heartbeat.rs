use axum::extract::State;
use planasonix_wire::{
    AgentId,
    agent::Status,
    envelope::Data,
    heartbeat::{Heartbeat, HeartbeatAck},
};

use crate::{
    domain::presence::Sample,
    entropy,
    http::{
        App,
        answer::Answer,
        auth::Beating,
        conditional::Unconditional,
        error::Problem,
        extract::{AgentPath, HEARTBEAT_BYTES, OptionalBody, RemoteIp},
    },
    presence::Beat,
};

/// Send a heartbeat
///
/// Answered only after the beat is committed. A field left out keeps its stored value, `null` clears it.
/// `version`, `capabilities`, `hostname`, `instance_id` and `last_error` may follow a moment later.
#[utoipa::path(
    post, path = "/api/agents/{id}/heartbeat", operation_id = "sendHeartbeat", tag = "agent protocol",
    security(("agentCredential" = [])),
    params(("id" = AgentId, Path, description = "The agent itself")),
    request_body = Option<Heartbeat>,
    responses((status = 200, description = "The beat is committed", body = Data<HeartbeatAck>)),
)]
pub async fn heartbeat(
    agent: Beating,
    _: Unconditional,
    State(app): State<App>,
    path: AgentPath,
    RemoteIp(remote_ip): RemoteIp,
    OptionalBody(body): OptionalBody<Heartbeat, HEARTBEAT_BYTES>,
) -> Result<Answer<Data<HeartbeatAck>>, Problem> {
    let sample = Sample::check(body, remote_ip)?;
    // A malformed id is an absent agent, and the credential is looked at first.
    let agent_id = path.id_or_nobody();
    let beat = Beat { agent: agent_id, credential: agent.credential, remote_ip, sample };
    let accepted = app.presence.record(beat).await?;
    Ok(Answer::ok(HeartbeatAck {
        agent_id,
        status: Status::Active,
        accepts_work: !accepted.draining,
        heartbeat_interval_seconds: app.rhythm.next_beat(app.fleet.get(), entropy::fraction()),
        server_time: accepted.now.into(),
        rotate_credential: accepted.rotate,
    }))
}
