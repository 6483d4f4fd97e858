//! Bodies of every shape, on every route that takes one.

use std::io::Write;

use reqwest::Method;

use crate::support::{
    App,
    actors::{Caller, Workspace},
    wire::{Line, request},
};

const JSON: &str = "application/json";
const HEARTBEAT_BYTES: usize = 16 * 1024;
const BODY_BYTES: usize = 64 * 1024;

/// A route with somebody who may call it, and a fresh agent behind it.
struct Route {
    caller: Caller,
    path: String,
    most_bytes: usize,
    optional: bool,
}

async fn routes(acme: &Workspace) -> Vec<Route> {
    let route = |caller: &Caller, path: String| Route {
        caller: caller.clone(),
        path,
        most_bytes: BODY_BYTES,
        optional: true,
    };
    let (pending, agent, revoked) =
        (acme.register("a").await, acme.agent("b").await, acme.register("c").await);
    acme.revoke(revoked.id).await.data(200);
    vec![
        Route { optional: false, ..route(&acme.operator, "/api/agents".to_owned()) },
        Route {
            most_bytes: HEARTBEAT_BYTES,
            ..route(&agent.me, format!("/api/agents/{}/heartbeat", agent.id))
        },
        route(&acme.operator, format!("/api/agents/{}/enrollment-token", acme.register("d").await.id)),
        route(&acme.operator, format!("/api/agents/revoke/{}", acme.register("e").await.id)),
        route(&acme.operator, format!("/api/agents/enable/{}", revoked.id)),
        route(&pending.token, "/api/agents/enroll".to_owned()),
        route(&acme.operator, format!("/api/agents/drain/{}", agent.id)),
        route(&acme.operator, format!("/api/agents/resume/{}", agent.id)),
        route(&agent.me, format!("/api/agents/{}/credential", agent.id)),
    ]
}

#[tokio::test]
async fn an_optional_body_may_be_absent_empty_or_an_empty_object() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for (media_type, body) in [
        (None, ""),
        (Some(JSON), ""),
        (Some("Application/JSON; charset=utf-8"), "{}"),
        (Some(JSON), " \r\n\t{ } "),
        (Some(JSON), r#"{"unknown":[{"\u0001":-0,"x":1e999}],"unknown":null}"#),
    ] {
        for route in routes(&acme).await.into_iter().filter(|route| route.optional) {
            route.caller.post_bytes(&route.path, media_type, body).await.data(200);
        }
    }
    for route in routes(&acme).await.into_iter().filter(|route| route.optional) {
        let chunks = futures_util::stream::iter([] as [std::io::Result<http_body::Frame<bytes::Bytes>>; 0]);
        let request = route.caller.request(Method::POST, &route.path);
        let request = request
            .header("content-type", JSON)
            .body(reqwest::Body::wrap(http_body_util::StreamBody::new(chunks)));
        route.caller.send(request).await.data(200);
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_refused_and_changes_nothing() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let routes = routes(&acme).await;
    let deep = |levels: usize| {
        format!(r#"{{"x":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1)).into_bytes()
    };
    for (code, body) in [
        ("invalid_json", b"{".to_vec()),
        ("invalid_json", b"{}}".to_vec()),
        ("invalid_json", b"{} {}".to_vec()),
        ("invalid_json", b"{'a':1}".to_vec()),
        ("invalid_json", b"{\"a\":1,}".to_vec()),
        ("invalid_json", b"{\"a\":NaN}".to_vec()),
        ("invalid_json", b"{\"a\":\"\x01\"}".to_vec()),
        ("invalid_json", b"{\"a\":\"\xff\"}".to_vec()),
        ("invalid_json", b"\xef\xbb\xbf{}".to_vec()),
        ("invalid_json", b"\0".to_vec()),
        ("invalid_json", b" ".to_vec()),
        ("invalid_json", deep(65)),
        ("invalid_json", "[".repeat(10_000).into_bytes()),
        ("invalid_request", b"[]".to_vec()),
        ("invalid_request", b" [{\"label\":\"a\",\"platform\":\"linux\"}]".to_vec()),
        ("invalid_request", b"null".to_vec()),
        ("invalid_request", b"1e999".to_vec()),
        ("invalid_request", b"\"{}\"".to_vec()),
    ] {
        for route in &routes {
            let answer = route.caller.post_bytes(&route.path, Some(JSON), body.clone()).await;
            let blamed = answer.blames(code);
            let expected = usize::from(code == "invalid_request");
            assert_eq!(blamed.len(), expected, "{answer:?}");
            assert!(blamed.iter().all(|(field, _)| field == "body"), "{answer:?}");
        }
    }
    for route in routes.iter().filter(|route| route.optional) {
        route.caller.post_bytes(&route.path, Some(JSON), deep(64)).await.data(200);
    }
}

#[tokio::test]
async fn a_known_field_given_twice_is_named() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let body = r#"{"label":"a","platform":"linux","label":"b"}"#;
    assert_eq!(acme.operator.post_text("/api/agents", body).await.blames("invalid_request")[0].0, "label");
    let path = format!("/api/agents/{}/heartbeat", agent.id);
    let body = r#"{"cpu_percent":1,"cpu_percent":1}"#;
    assert_eq!(agent.me.post_text(&path, body).await.blames("invalid_request")[0].0, "cpu_percent");
    let path = format!("/api/agents/revoke/{}", agent.id);
    let body = r#"{"reason":"a","reason":"b"}"#;
    assert_eq!(acme.operator.post_text(&path, body).await.blames("invalid_request")[0].0, "reason");
}

#[tokio::test]
async fn another_media_type_is_415() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for route in routes(&acme).await {
        for media_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonp"),
            Some("application/merge-patch+json"),
            Some(""),
            Some("\u{ff}"),
        ] {
            let answer = route.caller.post_bytes(&route.path, media_type, "{}").await;
            answer.error(415, "unsupported_media_type");
        }
    }
}

/// Also where the bytes are JSON as they stand, and the header only says otherwise.
#[tokio::test]
async fn body_under_a_content_encoding_is_415() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"{}").unwrap();
    let gzip = gzip.finish().unwrap();
    let routes = routes(&acme).await;
    let agent = acme.register("patched").await.id;
    let patch = Route {
        caller: acme.operator.clone(),
        path: format!("/api/agents/{agent}"),
        most_bytes: BODY_BYTES,
        optional: false,
    };
    for (encodings, body) in [
        (&["gzip"][..], &gzip[..]),
        (&["gzip"], b"{}"),
        (&["br"], b"{}"),
        (&["GZIP"], b"{}"),
        (&["x-unknown"], b"{}"),
        (&["identity, deflate"], b"{}"),
        (&["identity", "zstd"], b"{}"),
        (&["\u{ff}"], b"{}"),
    ] {
        for (method, route) in
            routes.iter().map(|route| (Method::POST, route)).chain([(Method::PATCH, &patch)])
        {
            let mut request = route.caller.request(method, &route.path).header("content-type", JSON);
            for encoding in encodings {
                request = request.header("content-encoding", *encoding);
            }
            let answer = route.caller.send(request.body(body.to_vec())).await;
            answer.error(415, "unsupported_content_encoding");
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
        }
    }
}

#[tokio::test]
async fn identity_is_no_content_encoding() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await.id;
    for encoding in ["identity", "Identity", "", "identity,identity"] {
        let request = acme.operator.request(Method::PATCH, &format!("/api/agents/{agent}"));
        let request = request.header("content-type", JSON).header("content-encoding", encoding);
        acme.operator.send(request.body("{}")).await.data(200);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_and_one_just_within_is_read() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for route in routes(&acme).await {
        let padded = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
        for bytes in [route.most_bytes + 1, 10 * 1024 * 1024] {
            let answer = route.caller.post_text(&route.path, &padded(bytes)).await;
            answer.error(413, "body_too_large");
        }
        let answer = route.caller.post_text(&route.path, &padded(route.most_bytes)).await;
        if route.optional {
            answer.data(200);
        } else {
            assert_eq!(answer.blames("invalid_request").len(), 2, "read, and found empty");
        }
    }
}

/// Fifteen seconds, on the wire.
#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let whole = request("POST", "/api/agents", acme.operator.token.as_deref(), r#"{"label":"slow"}"#);
    let mut line = Line::open(app.address).await.unwrap();
    line.say(whole.split_at(whole.len() - 1).0).await.unwrap();
    let reply = line.reply().await.unwrap();
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (408, &"request_timeout".into()));
}
