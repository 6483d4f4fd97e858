//! Conditional requests: `ETag`, `If-Match`, `If-None-Match`, `If-Unmodified-Since`.

use planasonix::domain::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, App,
    actors::{Caller, Workspace},
    ask::for_each,
    document::{Operation, operations},
};

const PAST: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
/// Conditions that no agent meets, or that cannot be evaluated.
const UNMET: [(&str, &str); 8] = [
    ("if-match", "\"other\""),
    ("if-match", "\"a\", W/\"b\""),
    ("if-match", "no tag"),
    ("if-match", ""),
    ("if-none-match", "*"),
    ("if-none-match", "no tag"),
    ("if-unmodified-since", PAST),
    ("if-unmodified-since", "no time"),
];

async fn send(caller: &Caller, method: Method, path: &str, condition: (&str, &str), body: Value) -> Answer {
    let request = caller.request(method, path).header(condition.0, condition.1);
    caller.send(if body.is_null() { request } else { request.json(&body) }).await
}

fn tag(answer: &Answer) -> String {
    let tag = answer.header("etag").unwrap_or_else(|| panic!("no ETag: {answer:?}")).to_owned();
    assert!(tag.len() > 20 && tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
    tag
}

async fn current(acme: &Workspace, path: &str) -> String {
    tag(&acme.operator.get(path).await)
}

#[tokio::test]
async fn tag_changes_with_what_operators_see_and_not_with_heartbeats() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let body = json!({"label": "a", "platform": "linux", "tags": ["t"], "metadata": {"m": 1.50}});
    let registered = acme.operator.post_under("k", "/api/agents", &body).await;
    let path = registered.header("location").unwrap().to_owned();
    let mut seen = vec![tag(&registered)];
    assert_eq!(current(&acme, &path).await, seen[0]);
    let again = acme.operator.post_under("k", "/api/agents", &body).await;
    assert_eq!(tag(&again), seen[0], "a fresh token is no change");

    let token = app.bearer(again.data(201)["enrollment_token"].as_str().unwrap());
    let facts = json!({"hostname": "h", "version": "1", "platform": "macos", "capabilities": ["c"]});
    let enrolled = token.post("/api/agents/enroll", &facts).await.data(200);
    seen.push(current(&acme, &path).await);
    let agent = app.bearer(enrolled["credential"].as_str().unwrap());
    let beat =
        json!({"cpu_percent": 7, "version": "2", "hostname": "i", "capabilities": [], "last_error": "x"});
    agent.post(&format!("{path}/heartbeat"), &beat).await.data(200);
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    acme.detail_when(id, |detail| detail["version"] == "2").await;
    assert_eq!(current(&acme, &path).await, seen[1], "what agents report is no part of it");

    for change in [json!({"label": "b"}), json!({"tags": []}), json!({"metadata": {}})] {
        let answer = acme.operator.patch(&path, &change).await;
        answer.data(200);
        assert_eq!(tag(&answer), current(&acme, &path).await);
        seen.push(tag(&answer));
    }
    acme.drain(id).await.data(200);
    seen.push(current(&acme, &path).await);
    acme.resume(id).await.data(200);
    assert_eq!(current(&acme, &path).await, seen[4], "as it was before");
    acme.revoke(id).await.data(200);
    seen.push(current(&acme, &path).await);
    let retried = acme.operator.post_under("k", "/api/agents", &body).await;
    assert_eq!((retried.status.as_u16(), tag(&retried)), (201, seen[6].clone()), "of the agent as it is now");
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
}

#[tokio::test]
async fn read_with_a_known_tag_is_304_without_a_body() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let path = acme.registered(r#"{"label":"a","platform":"linux"}"#).await;
    let whole = acme.operator.get(&path).await;
    assert_eq!(whole.header("cache-control"), Some("no-store"), "no cache may show old times");
    let tag = tag(&whole);
    for method in [Method::GET, Method::HEAD] {
        for known in [&tag, "*", &format!("W/{tag}"), &format!("\"x\", {tag}")] {
            let answer =
                send(&acme.operator, method.clone(), &path, ("if-none-match", known), Value::Null).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (304, ""), "{known}");
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
            assert!(
                answer.header("x-ratelimit-remaining").is_some() || answer.header("content-type").is_none()
            );
        }
        for condition in [
            ("if-none-match", "\"x\""),
            ("if-none-match", "x"),
            ("if-match", &tag),
            ("if-unmodified-since", PAST),
        ] {
            let answer = send(&acme.operator, method.clone(), &path, condition, Value::Null).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("etag")),
                (200, Some(tag.as_str())),
                "{condition:?}"
            );
        }
    }
    let answer = send(&acme.operator, Method::GET, &path, ("if-match", "\"x\""), Value::Null).await;
    answer.error(412, "precondition_failed");
    acme.operator.patch(&path, &json!({"label": "b"})).await.data(200);
    let answer = send(&acme.operator, Method::GET, &path, ("if-none-match", &tag), Value::Null).await;
    assert_eq!(answer.data(200)["label"], "b");
}

#[tokio::test]
async fn change_under_a_condition_that_holds_is_made() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let path = acme.registered(r#"{"label":"a","platform":"linux"}"#).await;
    let mut label = 0;
    for condition in ["TAG", "*", "\"x\", TAG", "W/\"x\" ,TAG"] {
        let condition = condition.replace("TAG", &current(&acme, &path).await);
        label += 1;
        let body = json!({"label": label.to_string()});
        let answer = send(&acme.operator, Method::PATCH, &path, ("if-match", &condition), body).await;
        assert_eq!(answer.data(200)["label"], label.to_string(), "{condition}");
    }
    let body = json!({"label": "b"});
    send(&acme.operator, Method::PATCH, &path, ("if-none-match", "\"x\""), body.clone()).await.data(200);
    // `If-Match` replaces the other, by the standard.
    let both = acme.operator.request(Method::PATCH, &path).header("if-unmodified-since", PAST);
    let both = both.header("if-match", current(&acme, &path).await).json(&body);
    acme.operator.send(both).await.data(200);
    let agent = acme.agent("itself").await;
    for (caller, path) in [(&acme.operator, &path), (&agent.me, &agent.path())] {
        let condition = current(&acme, path).await;
        let gone = send(caller, Method::DELETE, path, ("if-match", &condition), Value::Null).await;
        assert_eq!(gone.status, 204);
    }
}

#[tokio::test]
async fn change_under_a_condition_that_does_not_hold_is_412_and_changes_nothing() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let old = current(&acme, &agent.path()).await;
    acme.operator.patch(&agent.path(), &json!({"label": "b"})).await.data(200);
    let (before, events) = (acme.detail(agent.id).await, app.events(agent.id).await);
    let weak = format!("W/{}", current(&acme, &agent.path()).await);
    for condition in UNMET.into_iter().chain([("if-match", old.as_str()), ("if-match", &weak)]) {
        for (caller, method, body) in [
            (&acme.operator, Method::PATCH, json!({"label": "lost"})),
            (&acme.operator, Method::DELETE, Value::Null),
            (&agent.me, Method::DELETE, Value::Null),
        ] {
            let answer = send(caller, method, &agent.path(), condition, body).await;
            let error = answer.error(412, "precondition_failed");
            let named = error["details"][0]["field"].as_str().unwrap();
            assert_eq!(named.to_lowercase(), condition.0, "{error}");
            assert!(error["message"].as_str().unwrap().starts_with(named), "{error}");
        }
    }
    assert_eq!((acme.detail(agent.id).await, app.events(agent.id).await), (before, events));
    // What is wrong without a condition is told first.
    let gone = "/api/agents/agt_00000000000000000000000000";
    let patch = |body| send(&acme.operator, Method::PATCH, gone, UNMET[0], body);
    patch(json!({"label": "x"})).await.error(404, "agent_not_found");
    patch(json!({"label": ""})).await.error(400, "invalid_request");
    send(&app.anonymous(), Method::PATCH, gone, UNMET[0], json!({})).await.error(401, "unauthenticated");
}

/// Every route that changes something, whoever calls it: a route that is added must not forget it.
#[tokio::test]
async fn condition_is_ignored_by_no_route_that_changes_something() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, pending) = (acme.agent("a").await, acme.register("b").await);
    let (key, admin) = app.operator(acme.id, Scope::ALL).await;
    let (trail, keys) = (acme.trail("limit=100").await, admin.get("/api/user/api-keys").await.text);
    let changing = operations().into_iter().filter(|operation| operation.method != Method::GET);
    for operation in changing {
        let takes = |scheme: &str| operation.json["security"].to_string().contains(scheme);
        let caller = match &operation {
            _ if takes("apiKey") => &admin,
            _ if takes("enrollmentToken") => &pending.token,
            _ => &agent.me,
        };
        let id = if operation.path.starts_with("/api/user") { key.to_string() } else { agent.id.to_string() };
        for condition in UNMET {
            let body = body_of(&operation);
            let answer =
                send(caller, operation.method.clone(), &operation.path_of(&id), condition, body).await;
            answer.error(412, "precondition_failed");
            assert!(operation.may_answer(412, "precondition_failed"), "{}", operation.id());
        }
    }
    assert_eq!(acme.trail("limit=100").await, trail);
    assert_eq!(admin.get("/api/user/api-keys").await.text, keys);
    assert_eq!(acme.detail(pending.id).await["status"], "pending");
}

/// A body that the operation would take.
fn body_of(operation: &Operation) -> Value {
    match operation.id() {
        "registerAgent" => json!({"label": "new", "platform": "linux"}),
        "createApiKey" => json!({"name": "new", "scopes": ["agents:read"]}),
        _ if operation.method == Method::DELETE => Value::Null,
        _ => json!({}),
    }
}

#[tokio::test]
async fn of_many_changes_under_one_tag_one_is_made() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let path = acme.registered(r#"{"label":"a","platform":"linux"}"#).await;
    for round in 0..4 {
        let condition = current(&acme, &path).await;
        let answers = for_each(0..8, 8, |number| {
            let body = json!({"label": format!("{round}-{number}")});
            send(&acme.operator, Method::PATCH, &path, ("if-match", &condition), body)
        })
        .await;
        let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!(made.len(), 1, "{made:?}");
        for answer in refused {
            answer.error(412, "precondition_failed");
        }
        assert_eq!(acme.operator.get(&path).await.data(200)["label"], made[0].data(200)["label"]);
    }
    let (condition, id) = (current(&acme, &path).await, path.rsplit('/').next().unwrap().parse().unwrap());
    let (deleted, drained) = tokio::join!(
        send(&acme.operator, Method::DELETE, &path, ("if-match", &condition), Value::Null),
        acme.drain(id),
    );
    if deleted.status == 204 {
        drained.error(404, "agent_not_found");
    } else {
        deleted.error(412, "precondition_failed");
        drained.data(200);
    }
}
