//! Dashboards of other origins: only those that the operator names, and all that they need.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{
    Answer, App,
    actors::{Caller, Workspace},
    document::operations,
};

const DASHBOARD: &str = "https://dashboard.example.com";
const OTHER: &str = "http://localhost:3000";

async fn app() -> App {
    App::with(|settings| {
        settings.admission.origins = vec![DASHBOARD.parse().unwrap(), OTHER.parse().unwrap()];
        settings.admission.rates.key = 1_000;
    })
    .await
}

/// A browser's question before it sends what a page wants to send.
async fn preflight(browser: &Caller, path: &str, origin: &str, method: &str) -> Answer {
    let asked = browser.request(Method::OPTIONS, path).header("origin", origin);
    let asked = asked.header("access-control-request-method", method);
    browser.send(asked.header("access-control-request-headers", "authorization,content-type")).await
}

fn listed(answer: &Answer, header: &str) -> BTreeSet<String> {
    let list = answer.header(header).unwrap_or_default().split(',');
    list.map(|name| name.trim().to_lowercase()).collect()
}

#[tokio::test]
async fn a_browser_is_told_without_a_credential_that_a_named_origin_may_call() {
    let app = app().await;
    for operation in operations() {
        for origin in [DASHBOARD, OTHER] {
            let path = operation.path_of("agt_01jq8prod01");
            let told = preflight(&app.anonymous(), &path, origin, operation.method.as_str()).await;
            assert_eq!(told.status, 200, "{told:?}");
            assert_eq!(told.header("access-control-allow-origin"), Some(origin));
            let methods = listed(&told, "access-control-allow-methods");
            assert!(methods.contains(&operation.method.as_str().to_lowercase()), "{methods:?}");
            assert!(told.header("x-request-id").is_some());
        }
    }
}

/// Requests whose answers have among them every header that an answer may have, each with the answer's status.
async fn requests(anonymous: &Caller, acme: &Workspace) -> Vec<(u16, RequestBuilder)> {
    let (agent, operator) = (acme.register("a").await.id, &acme.operator);
    let (detail, bundle) = (format!("/api/agents/{agent}"), format!("/api/agents/installer/{agent}/linux"));
    vec![
        (200, operator.request(Method::GET, "/api/agents")),
        (404, operator.request(Method::GET, "/api/agents/nonsense")),
        (404, operator.request(Method::GET, "/nowhere")),
        (401, anonymous.request(Method::GET, &detail)),
        (405, operator.request(Method::PUT, &detail)),
        (
            201,
            operator.request(Method::POST, "/api/agents").json(&json!({"label": "b", "platform": "linux"})),
        ),
        (200, operator.request(Method::GET, &detail)),
        (304, operator.request(Method::GET, &detail).header("if-none-match", "*")),
        (412, operator.request(Method::DELETE, &detail).header("if-match", "\"other\"")),
        (415, operator.request(Method::PATCH, &detail).header("content-encoding", "gzip").json(&json!({}))),
        (200, operator.request(Method::HEAD, &bundle)),
        (206, operator.request(Method::GET, &bundle).header("range", "bytes=0-9")),
        (304, operator.request(Method::GET, &bundle).header("if-none-match", "*")),
        (416, operator.request(Method::GET, &bundle).header("range", "bytes=99999999999-")),
    ]
}

#[tokio::test]
async fn a_page_may_send_and_read_what_the_api_is_made_of() {
    let app = app().await;
    let acme = app.workspace("acme").await;
    let told = preflight(&acme.operator, "/api/agents", DASHBOARD, "POST").await;
    let sent = listed(&told, "access-control-allow-headers");
    for name in [
        "authorization",
        "content-type",
        "idempotency-key",
        "x-request-id",
        "x-planasonix-api-key",
        "x-planasonix-key",
        "if-match",
        "if-none-match",
        "if-range",
        "range",
    ] {
        assert!(sent.contains(name), "{name}: {sent:?}");
    }
    assert!(told.header("access-control-max-age").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(told.header("access-control-allow-credentials"), None);

    for (status, request) in requests(&app.anonymous(), &acme).await {
        let answer = request.header("origin", DASHBOARD).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let answer =
            Answer { status: answer.status(), headers: answer.headers().clone(), text: String::new() };
        assert_eq!(answer.header("access-control-allow-origin"), Some(DASHBOARD), "{answer:?}");
        let read = listed(&answer, "access-control-expose-headers");
        for (name, _) in &answer.headers {
            // Those that every page may read, and those that are for the browser alone.
            let safelisted = ["cache-control", "content-length", "content-type"].contains(&name.as_str());
            let known = safelisted || ["date", "vary"].contains(&name.as_str());
            let about = name.as_str().starts_with("access-control-");
            assert!(known || about || read.contains(name.as_str()), "{name} cannot be read: {read:?}");
        }
        let hidden = [
            "x-request-id",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "retry-after",
            "content-disposition",
            "etag",
            "content-range",
            "repr-digest",
        ]
        .into_iter()
        .find(|name| !read.contains(*name));
        assert_eq!(hidden, None);
    }
}

#[tokio::test]
async fn nobody_else_s_page_may() {
    let (app, closed) = (app().await, App::start().await);
    for (app, origin) in [
        (&app, "https://evil.example"),
        (&app, "https://dashboard.example.com.evil.example"),
        (&app, "http://dashboard.example.com"),
        (&app, "null"),
        (&closed, DASHBOARD),
    ] {
        let told = preflight(&app.anonymous(), "/api/agents", origin, "GET").await;
        assert_eq!(told.header("access-control-allow-origin"), None, "{origin}");
        let asked = app.anonymous().request(Method::GET, "/livez").header("origin", origin);
        let answer = app.anonymous().send(asked).await;
        assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, None));
    }
    let told = preflight(&closed.anonymous(), "/api/agents", DASHBOARD, "GET").await;
    told.error(405, "method_not_allowed");
}
