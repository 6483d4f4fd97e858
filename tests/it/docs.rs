//! The page of the API: whole, from here alone.

use regex::Regex;
use serde_json::Value;

use crate::support::{Answer, App};

async fn page(app: &App, path: &str) -> Answer {
    let answer = app.anonymous().get(path).await;
    assert_eq!(answer.status, 200, "{path}");
    answer
}

#[tokio::test]
async fn the_page_and_all_that_it_names_come_from_here() {
    let app = App::start().await;
    let index = page(&app, "/docs").await;
    let names = Regex::new(r#"(?:src|href)="([^"]+)""#).unwrap();
    let named: Vec<_> = names.captures_iter(&index.text).map(|found| found[1].to_owned()).collect();
    assert!(named.len() >= 5, "{named:?}");
    let elsewhere = Regex::new(r"@import|url\(\s*['\x22]?(?:https?:)?//").unwrap();
    for name in named {
        let name = name.strip_prefix("./").unwrap_or(&name);
        assert!(!name.contains("//"), "{name} is somewhere else");
        let file = page(&app, &format!("/docs/{name}")).await;
        let is_style = file.header("content-type") == Some("text/css");
        assert!(!(is_style && elsewhere.is_match(&file.text)), "{name}");
    }
}

#[tokio::test]
async fn the_page_shows_our_document_and_may_ask_nobody_else() {
    let app = App::start().await;
    let index = page(&app, "/docs/").await;
    let policy = index.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    assert!(!policy.contains("http") && !policy.contains('*'), "{policy}");
    let script = page(&app, "/docs/swagger-initializer.js").await.text;
    assert!(script.contains("\"/api/openapi.json\""), "{script}");
    assert!(script.contains("\"validatorUrl\": \"none\""), "{script}");
}

/// The page sends a key to the first server of the list unless another one is chosen.
#[tokio::test]
async fn document_names_the_server_that_it_comes_from_first() {
    let app = App::start().await;
    let json: Value = page(&app, "/api/openapi.json").await.json();
    let yaml: Value = yaml_serde::from_str(&page(&app, "/api/openapi.yaml").await.text).unwrap();
    for document in [json, yaml] {
        let urls: Vec<_> =
            document["servers"].as_array().unwrap().iter().map(|server| &server["url"]).collect();
        assert_eq!(urls, ["/", "https://api.planasonix.com"]);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_as_anywhere() {
    let app = App::start().await;
    for path in ["/docs/nothing.js", "/docs/%2e%2e%2fCargo.toml", "/docs/index.html/", "/docs/%00"] {
        app.anonymous().get(path).await.error(404, "not_found");
    }
    app.anonymous().post_nothing("/docs").await.error(405, "method_not_allowed");
}
