//! The order of checks: path, method, form of the credential, its state and right, media type, size, body,
//! record, state. On heartbeat and enroll the body comes before the credential's state.

use planasonix::domain::{
    Scope,
    credential::{Agent, Enrollment, Plain},
};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{routes, workspace};
use crate::support::{App, actors::Caller};

/// A request with a body that is wrong in every way.
fn hopeless(caller: &Caller, method: &Method, path: &str) -> RequestBuilder {
    let request = caller.request(method.clone(), path);
    request.header("content-type", "text/plain").body("x".repeat(100_000))
}

#[tokio::test]
async fn path_and_method_come_before_the_credential() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    for caller in [app.anonymous(), app.bearer("nonsense"), acme.operator] {
        for path in
            ["/", "/api", "/api/agents/", "/api/agents/a/b/c", "/api/agents/a/b", "/api/user", "/v1/agents"]
        {
            caller.send(hopeless(&caller, &Method::POST, path)).await.error(404, "not_found");
        }
        for route in routes() {
            let path = route.operation.path_of("nonsense");
            let answer = caller.send(caller.request(Method::PUT, &path)).await;
            answer.error(405, "method_not_allowed");
            let allow = answer.header("allow").unwrap();
            let allowed: Vec<_> = allow.split(',').map(str::trim).collect();
            assert!(allowed.contains(&route.operation.method.as_str()), "{}: {allow}", route.name());
        }
    }
}

#[tokio::test]
async fn the_credential_comes_before_all_that_the_body_can_be() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (_, reader) = app.operator(acme.id, &[Scope::AgentsRead]).await;
    for route in routes().iter().filter(|route| route.takes_body()) {
        let (method, path) = (&route.operation.method, route.operation.path_of("nonsense"));
        let anonymous = app.anonymous();
        anonymous.send(hopeless(&anonymous, method, &path)).await.error(401, "unauthenticated");
        if route.is_operator() {
            reader.send(hopeless(&reader, method, &path)).await.error(403, "insufficient_scope");
        }
    }
    for path in ["/api/agents?limit=0", "/api/agents/connected?cursor=broken", "/api/agents/events?type=x"] {
        app.anonymous().get(path).await.error(401, "unauthenticated");
    }
}

#[tokio::test]
async fn media_type_size_body_record_and_state_follow_in_this_order() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let operator = &acme.operator;
    let active = acme.agent("active").await.id;
    let huge = format!(r#"{{"reason": "{}"}}"#, "x".repeat(100_000));
    for route in routes().iter().filter(|route| route.is_operator() && route.takes_body()) {
        for id in ["nonsense", &active.to_string()] {
            let path = route.operation.path_of(id);
            let send = async |media_type, body: &str| {
                let request = operator.request(route.operation.method.clone(), &path);
                operator.send(request.header("content-type", media_type).body(body.to_owned())).await
            };
            send("text/plain", &huge).await.error(415, "unsupported_media_type");
            send("application/json", &huge).await.error(413, "body_too_large");
            send("application/json", "{").await.error(400, "invalid_json");
            send("application/json", "[]").await.error(400, "invalid_request");
        }
    }
}

#[tokio::test]
async fn the_record_comes_before_its_state() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let (active, revoked) = (acme.agent("active").await.id, acme.agent("revoked").await.id);
    acme.revoke(revoked).await.data(200);
    for (id, path, code) in [
        (active, "/api/agents/enable/{id}", "agent_not_revoked"),
        (active, "/api/agents/{id}/enrollment-token", "agent_not_pending"),
        (revoked, "/api/agents/drain/{id}", "agent_is_revoked"),
        (revoked, "/api/agents/resume/{id}", "agent_is_revoked"),
    ] {
        let post = async |id: &str| acme.operator.post_nothing(&path.replace("{id}", id)).await;
        post("nonsense").await.error(404, "agent_not_found");
        post(&id.to_string()).await.error(409, code);
    }
}

#[tokio::test]
async fn an_agent_s_body_comes_before_its_credential_s_state() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("agent").await;
    acme.revoke(agent.id).await.data(200);
    let used = acme.register("used").await;
    used.enroll().await;
    let never = Plain::<Agent>::generate(&mut rand::rng(), agent.id.ulid()).reveal();
    let never_token = Plain::<Enrollment>::generate(&mut rand::rng(), agent.id.ulid()).reveal();
    let heartbeat = format!("/api/agents/{}/heartbeat", agent.id);
    for (caller, path) in [
        (agent.me.clone(), heartbeat.as_str()),
        (app.bearer(&never), heartbeat.as_str()),
        (agent.me.clone(), "/api/agents/nonsense/heartbeat"),
        (used.token, "/api/agents/enroll"),
        (app.bearer(&never_token), "/api/agents/enroll"),
    ] {
        let bad = json!({"version": "x".repeat(65)});
        caller.post(path, &bad).await.error(400, "invalid_request");
        caller.send(hopeless(&caller, &Method::POST, path)).await.error(415, "unsupported_media_type");
        assert!(matches!(caller.post(path, &json!({})).await.status.as_u16(), 401 | 403));
    }
}

#[tokio::test]
async fn on_an_agent_s_other_routes_the_credential_s_state_comes_before_the_body() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, good) = (acme.agent("agent").await, acme.agent("good").await);
    acme.revoke(agent.id).await.data(200);
    for verb in ["credential", "disconnect"] {
        for id in [agent.id.to_string(), "nonsense".to_owned()] {
            let path = format!("/api/agents/{id}/{verb}");
            let refused = agent.me.send(hopeless(&agent.me, &Method::POST, &path)).await;
            refused.error(403, "agent_revoked");
            let bad = good.me.send(hopeless(&good.me, &Method::POST, &path)).await;
            bad.error(415, "unsupported_media_type");
            good.me.post_text(&path, "[]").await.error(400, "invalid_request");
            good.me.post_nothing(&path).await.error(404, "agent_not_found");
        }
    }
}
