//! The OpenAPI document is the contract: every change to it is a visible diff, it describes every route and
//! nothing else, and the answers of a live control plane fit it.

mod answers;
mod shape;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::support::{
    App,
    document::{document, operations},
    program::Program,
};

#[test]
fn the_document_is_as_it_was() {
    insta::assert_snapshot!("openapi", planasonix::http::document().json);
}

#[test]
fn json_and_yaml_say_the_same() {
    let yaml: Value = yaml_serde::from_str(&planasonix::http::document().yaml).unwrap();
    assert_eq!(yaml, document());
}

#[tokio::test]
async fn the_program_prints_what_the_server_serves() {
    let app = App::start().await;
    let anonymous = app.anonymous();
    for (path, arguments, media_type) in [
        ("/api/openapi.json", &["openapi"][..], "application/json"),
        ("/api/openapi.yaml", &["openapi", "--yaml"], "application/yaml"),
    ] {
        let served = anonymous.get(path).await;
        assert_eq!(served.header("content-type"), Some(media_type));
        let printed = Program::new(arguments).run().answer();
        assert_eq!(printed.trim_end(), served.text.trim_end());
    }
}

/// Whatever has a place in the document answers, and each path takes the methods that the document names
/// and no other.
#[tokio::test]
async fn the_router_serves_the_document_s_operations_and_no_more() {
    let app = App::start().await;
    let anonymous = app.anonymous();
    for operation in operations() {
        let path = operation.path_of("nonsense");
        let answer = anonymous.send(anonymous.request(operation.method.clone(), &path)).await;
        let secured = !operation.json["security"].is_null();
        assert_eq!(answer.status, if secured { 401 } else { 200 }, "{}: {answer:?}", operation.id());

        let brew = Method::from_bytes(b"BREW").unwrap();
        let refused = anonymous.send(anonymous.request(brew, &path)).await;
        refused.error(405, "method_not_allowed");
        let allowed: BTreeSet<String> =
            refused.header("allow").unwrap().split(',').map(|method| method.trim().to_owned()).collect();
        assert_eq!(allowed, documented_methods(&operation.path), "{}", operation.path);
    }
}

fn documented_methods(path: &str) -> BTreeSet<String> {
    let methods = operations().into_iter().filter(|operation| operation.path == path);
    let mut methods: BTreeSet<String> = methods.map(|operation| operation.method.to_string()).collect();
    if methods.contains("GET") {
        methods.insert("HEAD".to_owned());
    }
    methods
}

/// A route that is added past the document's macro would be one that the document does not know. The page that
/// shows the document is no part of it, nor is the listener for metrics part of the service. What answers during the
/// start-up serves no route of its own.
#[test]
fn routes_are_added_through_the_document_alone() {
    for file in crate::architecture::sources("src/http") {
        let apart = ["src/http/docs.rs", "src/http/metrics.rs", "src/http/startup.rs"];
        if apart.contains(&file.name.as_str()) {
            continue;
        }
        for past in [".route(", ".route_service(", ".nest_service(", ".fallback_service("] {
            assert!(!file.code.contains(past), "{}: {past}", file.name);
        }
    }
}

/// `HEAD` works wherever `GET` does.
#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("agent").await.id.to_string();
    for operation in operations().iter().filter(|operation| operation.method == Method::GET) {
        let path = operation.path_of(&agent);
        let got = acme.operator.get(&path).await;
        let head = acme.operator.send(acme.operator.request(Method::HEAD, &path)).await;
        assert_eq!(head.status, got.status, "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
        assert!(head.text.is_empty());
    }
}
