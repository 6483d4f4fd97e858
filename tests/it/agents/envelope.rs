//! What every answer has, whoever asks for whatever.

use insta::assert_snapshot;
use reqwest::Method;

use crate::support::{Answer, App, actors::Caller, ask::for_each};

async fn ask(caller: &Caller, method: &str, path: &str) -> Answer {
    caller.send(caller.request(method.parse().unwrap(), path)).await
}

#[tokio::test]
async fn an_unknown_path_is_404_with_and_without_a_credential() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let paths = [
        "/",
        "/api",
        "/api/agents/",
        "/api/agents/x/y/z",
        "/api/agents/x/nothing",
        "/API/agents",
        "//api/agents",
        "/api/v1/agents",
        "/%00",
        "/api/agents/%2e%2e/x/y",
        "/livez/",
        "/metrics",
    ];
    let first = app.anonymous().get(paths[0]).await;
    assert_snapshot!(first.show(), @r#"
    404 Not Found
    content-type: application/json
    x-request-id: [request id]

    {
      "error": {
        "code": "not_found",
        "message": "there is no such path; /api/openapi.json lists those that are",
        "request_id": "[request id]"
      }
    }
    "#);
    for path in paths {
        for caller in [&app.anonymous(), &app.bearer("nonsense"), &acme.operator] {
            for method in ["GET", "POST", "DELETE", "PATCH", "BREW"] {
                assert_eq!(ask(caller, method, path).await.show(), first.show(), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow_with_and_without_a_credential() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for (path, allowed) in [
        ("/api/agents", "GET,HEAD,POST"),
        ("/api/agents/connected", "GET,HEAD"),
        ("/api/agents/x", "DELETE,GET,HEAD,PATCH"),
        ("/api/agents/events", "GET,HEAD"),
        ("/api/agents/x/events", "GET,HEAD"),
        ("/api/agents/drain/x", "POST"),
        ("/api/agents/resume/x", "POST"),
        ("/api/agents/x/credential", "POST"),
        ("/api/agents/x/disconnect", "POST"),
        ("/api/user/api-keys", "GET,HEAD,POST"),
        ("/api/user/api-keys/x", "DELETE,GET,HEAD"),
        ("/api/user/api-keys/x/regenerate", "POST"),
        ("/api/agents/x/health", "GET,HEAD"),
        ("/api/agents/revoke/x", "POST"),
        ("/api/agents/enable/x", "POST"),
        ("/api/agents/x/enrollment-token", "POST"),
        ("/api/agents/x/heartbeat", "POST"),
        ("/api/agents/enroll", "POST"),
        ("/livez", "GET,HEAD"),
        ("/readyz", "GET,HEAD"),
        ("/api/openapi.json", "GET,HEAD"),
        ("/api/openapi.yaml", "GET,HEAD"),
    ] {
        for caller in [&app.anonymous(), &acme.operator] {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
                if allowed.split(',').any(|allowed| allowed == method) {
                    continue;
                }
                let answer = ask(caller, method, path).await;
                assert_eq!(answer.status, 405, "{method} {path}");
                let mut allow: Vec<_> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
                allow.sort_unstable();
                assert_eq!(allow.join(","), allowed, "{method} {path}");
                if method != "HEAD" {
                    answer.error(405, "method_not_allowed");
                }
            }
        }
    }
}

#[tokio::test]
async fn head_works_wherever_get_does_and_has_no_body() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let id = acme.register("a").await.id;
    for path in [
        "/api/agents".to_owned(),
        "/api/agents?limit=0".to_owned(),
        "/api/agents/connected".to_owned(),
        "/api/agents/connected?limit=1".to_owned(),
        format!("/api/agents/{id}"),
        format!("/api/agents/{id}/health"),
        "/api/agents/x".to_owned(),
        "/livez".to_owned(),
        "/readyz".to_owned(),
        "/api/openapi.json".to_owned(),
    ] {
        for caller in [&app.anonymous(), &acme.operator] {
            let (get, head) = (ask(caller, "GET", &path).await, ask(caller, "HEAD", &path).await);
            assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
            for name in ["content-type", "www-authenticate", "cache-control"] {
                assert_eq!(head.header(name), get.header(name), "{name} of {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_id_that_is_malformed_absent_or_another_workspace_s_is_one_and_the_same_404() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let foreign = app.workspace("other").await.register("a").await.id.to_string();
    let mine = acme.register("a").await.id.to_string();
    let absent = acme.operator.get("/api/agents/agt_01jq8prod01").await;
    assert_snapshot!(absent.show(), @r#"
    404 Not Found
    content-type: application/json
    x-request-id: [request id]

    {
      "error": {
        "code": "agent_not_found",
        "message": "there is no such agent in this workspace",
        "request_id": "[request id]"
      }
    }
    "#);
    let ids = [
        "agt_01jq8new01",
        "agt_00000000000000000000000000",
        "agt_7zzzzzzzzzzzzzzzzzzzzzzzzz",
        "agt_80000000000000000000000000",
        "%00",
        "%ff%fe",
        "agt_%F0%9F%9A%80",
        "'%3B--",
        "-1",
        "null",
        &foreign,
        &foreign.to_uppercase(),
        &mine.to_uppercase(),
        &mine.replace("agt_", "key_"),
        &mine.replace("agt_", "AGT_"),
        &format!("{mine}%20"),
        mine.trim_start_matches("agt_"),
        &"x".repeat(5_000),
    ];
    for id in ids {
        for (method, path) in [
            ("GET", format!("/api/agents/{id}")),
            ("DELETE", format!("/api/agents/{id}")),
            ("GET", format!("/api/agents/{id}/health")),
            ("POST", format!("/api/agents/revoke/{id}")),
            ("POST", format!("/api/agents/enable/{id}")),
            ("POST", format!("/api/agents/{id}/enrollment-token")),
        ] {
            assert_eq!(ask(&acme.operator, method, &path).await.show(), absent.show(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_anything_else_replaced() {
    let app = App::start().await;
    let caller = app.anonymous();
    let with = async |id: &[u8]| {
        let request = caller.request(Method::GET, "/api/agents");
        caller.send(request.header("x-request-id", id)).await
    };
    for id in ["a", "7f3c2a9e-41d8-4b6f-8e0a-5c1d9b7e3f20", "req_1:2.3", &"x".repeat(128)] {
        let answer = with(id.as_bytes()).await;
        assert_eq!(answer.header("x-request-id"), Some(id));
        answer.error(401, "unauthenticated");
    }
    for id in ["", " ", "a b", "a\"b", "<script>", "a,b", "ü", "a\tb", &"x".repeat(129)] {
        let answer = with(id.as_bytes()).await;
        assert!(answer.show().contains("x-request-id: [request id]"), "{id}: {answer:?}");
        answer.error(401, "unauthenticated");
    }
    let ids = for_each(0..50, 10, |_| caller.get("/livez")).await;
    let mut ids: Vec<_> = ids.iter().map(|answer| answer.header("x-request-id").unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_are_431() {
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    let request = acme.operator.request(Method::GET, "/api/agents").header("x-big", "x".repeat(40_000));
    acme.operator.send(request).await.error(431, "headers_too_large");
    let request = acme.operator.request(Method::GET, "/api/agents").header("x-big", "x".repeat(30_000));
    acme.operator.send(request).await.data(200);
    // What is beyond the protocol's own bounds is told in its words, or cut off while it is still arriving.
    let mut many = acme.operator.request(Method::GET, "/api/agents");
    for i in 0..120 {
        many = many.header(format!("x-{i}"), "1");
    }
    assert_eq!(acme.operator.send(many).await.status, 431);
    let huge = acme.operator.request(Method::GET, "/api/agents").header("x-big", "x".repeat(1_000_000));
    if let Ok(answer) = huge.send().await {
        assert_eq!(answer.status(), 431);
    }
    acme.operator.get("/api/agents").await.data(200);
}
