use axum::extract::State;
use planasonix_wire::{
    agent::Status,
    enroll::{Enroll, Enrolled},
    envelope::Data,
};

use crate::{
    domain::{agent::EnrollmentFacts, invalid::Invalid},
    entropy,
    http::{
        App,
        answer::Answer,
        auth::Enrolling,
        conditional::Unconditional,
        error::Problem,
        extract::{IdempotencyKey, OptionalBody},
    },
};

/// Enroll an agent
///
/// Trades the enrollment token, sent as bearer, for a credential. A token works once: of many callers
/// exactly one gets the credential.
#[utoipa::path(
    post, path = "/api/agents/enroll", operation_id = "enrollAgent", tag = "agent protocol",
    security(("enrollmentToken" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Gets a lost answer again within ten minutes", min_length = 1, max_length = 255)),
    request_body = Option<Enroll>,
    responses((status = 200, description = "The agent, with its credential", body = Data<Enrolled>)),
)]
pub async fn enroll(
    enrolling: Enrolling,
    _: Unconditional,
    State(app): State<App>,
    key: IdempotencyKey,
    OptionalBody(body): OptionalBody<Enroll>,
) -> Result<Answer<Data<Enrolled>>, Problem> {
    let (key, facts) = Invalid::both(key.get(), EnrollmentFacts::try_from(body))?;
    let enrolled = enrolling.enroll(&app, &facts, key).await?;
    Ok(Answer::ok(Enrolled {
        agent_id: enrolled.agent,
        label: enrolled.label,
        status: Status::Active,
        credential: enrolled.credential.reveal(),
        credential_expires_at: enrolled.credential_expires_at,
        heartbeat_interval_seconds: app.rhythm.next_beat(app.fleet.get(), entropy::fraction()),
        draining: enrolled.draining,
    })
    .with_secret())
}
