//! What a refused agent is told: by what became of the credential, never by the agent's id.

use std::time::Duration;

use planasonix_wire::AgentId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, App,
    actors::{Agent, Caller, PendingAgent},
};

const A_MONTH: Duration = Duration::from_hours(31 * 24);

fn assert_told(answer: &Answer, status: u16, code: &str, action: &str) {
    assert_eq!(answer.error(status, code)["action"], action, "{answer:?}");
}

/// On each of an agent's routes, on its own path, another agent's, an absent one's and a malformed one, the
/// answer is the same.
async fn assert_told_anywhere(agent: &Agent, other: AgentId, status: u16, code: &str, action: &str) {
    let absent = AgentId::from_uuid(uuid::Uuid::from_u128(7));
    for id in
        [agent.id, other, absent].map(|id| id.to_string()).iter().map(String::as_str).chain(["nonsense"])
    {
        for verb in ["heartbeat", "credential", "disconnect"] {
            let answer = agent.me.post(&format!("/api/agents/{id}/{verb}"), &json!({})).await;
            assert_told(&answer, status, code, action);
        }
        assert_told(&agent.me.delete(&format!("/api/agents/{id}")).await, status, code, action);
    }
}

#[tokio::test]
async fn a_revoked_agent_stops() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, other) = (acme.agent("revoked").await, acme.agent("other").await);
    acme.revoke(agent.id).await.data(200);
    assert_told_anywhere(&agent, other.id, 403, "agent_revoked", "stop").await;
    app.time_passes(A_MONTH).await;
    assert_told_anywhere(&agent, other.id, 403, "agent_revoked", "stop").await;
}

#[tokio::test]
async fn a_credential_from_before_the_re_enrollment_was_replaced() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (old, other) = (acme.agent("old").await, acme.agent("other").await);
    old.beat().await;
    acme.revoke(old.id).await.data(200);
    let pending = acme.enable(old.id).await;
    assert_told_anywhere(&old, other.id, 403, "credential_rotated", "re_enroll").await;
    let new = pending.enroll().await;
    assert_told_anywhere(&old, other.id, 403, "credential_rotated", "re_enroll").await;
    new.beat().await;

    // Two lives back, and past its expiry too.
    acme.revoke(old.id).await.data(200);
    let newest = acme.enable(old.id).await.enroll().await;
    for dead in [&old, &new] {
        assert_told(&dead.heartbeat(&json!({})).await, 403, "credential_rotated", "re_enroll");
    }
    newest.beat().await;
}

#[tokio::test]
async fn a_credential_from_before_the_rotation_was_replaced() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (old, other) = (acme.agent("old").await, acme.agent("other").await);
    let (unused, new) = (old.rotate().await, old.rotate().await);
    assert_told_anywhere(&unused, other.id, 403, "credential_rotated", "re_enroll").await;
    new.beat().await;
    assert_told_anywhere(&old, other.id, 403, "credential_rotated", "re_enroll").await;
    acme.revoke(old.id).await.data(200);
    assert_told_anywhere(&new, other.id, 403, "agent_revoked", "stop").await;
}

#[tokio::test]
async fn a_good_credential_on_another_agent_s_path_stops() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, other) = (acme.agent("agent").await, acme.agent("other").await);
    let next = agent.rotate().await;
    let absent = AgentId::from_uuid(uuid::Uuid::from_u128(7)).to_string();
    for id in [&other.id.to_string(), &absent, "nonsense"] {
        for verb in ["heartbeat", "credential", "disconnect"] {
            let answer = next.me.post_nothing(&format!("/api/agents/{id}/{verb}")).await;
            assert_told(&answer, 404, "agent_not_found", "stop");
        }
        let answer = next.me.delete(&format!("/api/agents/{id}")).await;
        assert_told(&answer, 404, "agent_not_found", "stop");
    }
    agent.beat().await;
    next.beat().await;
    assert_eq!(acme.connected().await, [agent.id.to_string()]);
}

#[tokio::test]
async fn an_expired_credential_is_told_so() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, other) = (acme.agent("expired").await, acme.agent("other").await);
    agent.beat().await;
    app.time_passes(A_MONTH).await;
    assert_told_anywhere(&agent, other.id, 403, "credential_expired", "re_enroll").await;
}

#[tokio::test]
async fn a_deleted_agent_s_credential_was_never_issued() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, other) = (acme.agent("deleted").await, acme.agent("other").await);
    agent.beat().await;
    let gone = acme.operator.delete(&format!("/api/agents/{}", agent.id)).await;
    assert_eq!(gone.status, 204);
    assert_told_anywhere(&agent, other.id, 401, "unauthenticated", "re_enroll").await;
}

#[tokio::test]
async fn a_refused_enrollment_says_what_became_of_the_token() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let refused = async |pending: &PendingAgent, status, code, action| {
        assert_told(&pending.try_enroll().await, status, code, action);
    };

    let used = acme.register("used").await;
    used.enroll().await.beat().await;
    refused(&used, 401, "enrollment_token_used", "re_enroll").await;

    let replaced = acme.register("replaced").await;
    let fresh =
        acme.operator.post_nothing(&format!("/api/agents/{}/enrollment-token", replaced.id)).await.data(200);
    refused(&replaced, 401, "enrollment_token_invalid", "re_enroll").await;
    app.bearer(fresh["enrollment_token"].as_str().unwrap())
        .post_nothing("/api/agents/enroll")
        .await
        .data(200);

    let revoked = acme.register("revoked").await;
    acme.revoke(revoked.id).await.data(200);
    acme.revoke(used.id).await.data(200);
    refused(&revoked, 403, "agent_revoked", "stop").await;
    refused(&used, 403, "agent_revoked", "stop").await;
    acme.enable(revoked.id).await;
    refused(&revoked, 401, "enrollment_token_invalid", "re_enroll").await;

    let deleted = acme.register("deleted").await;
    acme.operator.delete(&format!("/api/agents/{}", deleted.id)).await;
    refused(&deleted, 401, "enrollment_token_invalid", "re_enroll").await;

    let expired = acme.register("expired").await;
    app.time_passes(Duration::from_hours(6)).await;
    refused(&expired, 401, "enrollment_token_expired", "re_enroll").await;
}

/// Whatever goes wrong on an agent's route, the agent learns what to do next.
#[tokio::test]
async fn every_refusal_of_an_agent_names_an_action() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, waiting) = (acme.agent("agent").await, acme.register("waiting").await);
    let heartbeat = format!("/api/agents/{}/heartbeat", agent.id);
    let too_large = json!({"last_error": "x".repeat(70_000)}).to_string();
    let (rotate, disconnect) =
        (format!("{}/credential", agent.path()), format!("{}/disconnect", agent.path()));
    for (caller, path) in [
        (&agent.me, heartbeat.as_str()),
        (&waiting.token, "/api/agents/enroll"),
        (&agent.me, &rotate),
        (&agent.me, &disconnect),
    ] {
        for (media_type, body, status, code) in [
            ("text/plain", "x", 415, "unsupported_media_type"),
            ("application/json", too_large.as_str(), 413, "body_too_large"),
            ("application/json", "{", 400, "invalid_json"),
            ("application/json", "[7]", 400, "invalid_request"),
        ] {
            let error = send(caller, path, media_type, body).await.error(status, code);
            assert!(["re_enroll", "stop", "retry"].contains(&text(&error["action"])), "{error}");
        }
    }
    waiting.enroll().await;
}

/// Also where no handler was reached.
#[tokio::test]
async fn a_refusal_before_the_handler_names_an_action_on_an_agent_s_routes_alone() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("agent").await;
    let heavy = "x".repeat(33_000);
    for (path, of_agents) in [
        ("/api/agents/enroll".to_owned(), true),
        (format!("{}/heartbeat", agent.path()), true),
        (format!("{}/credential", agent.path()), true),
        (format!("{}/disconnect", agent.path()), true),
        (agent.path(), false),
        ("/api/agents".to_owned(), false),
    ] {
        for caller in [&agent.me, &app.anonymous()] {
            let wrong = caller.send(caller.request(Method::PUT, &path)).await;
            let heavy = caller.request(Method::GET, &path).header("x-heavy", &heavy);
            let heavy = caller.send(heavy).await;
            for error in [wrong.error(405, "method_not_allowed"), heavy.error(431, "headers_too_large")] {
                assert_eq!(error["action"].as_str(), of_agents.then_some("retry"), "{path}: {error}");
            }
        }
    }
}

async fn send(caller: &Caller, path: &str, media_type: &str, body: &str) -> Answer {
    let request = caller.request(Method::POST, path);
    let request = request.header("content-type", media_type).body(body.to_owned());
    caller.send(request).await
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
