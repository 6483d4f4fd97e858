//! `POST /api/agents`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{App, ask::for_each, show::time_of};

const REFERENCE: &str = r#"{
  "label": "analytics-k8s-pool-a",
  "platform": "linux",
  "tags": ["region:us-west-2", "env:production"],
  "metadata": {
    "k8s_namespace": "planasonix-agents",
    "node_pool": "compute-optimized"
  }
}"#;

#[tokio::test]
async fn the_answer_is_the_reference_s() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let answer = acme.operator.post_text("/api/agents", REFERENCE).await;
    assert_snapshot!(answer.show(), @r#"
    201 Created
    cache-control: no-store
    content-type: application/json
    etag: [entity tag]
    location: /api/agents/[agent id]
    x-request-id: [request id]

    {
      "data": {
        "id": "[agent id]",
        "label": "analytics-k8s-pool-a",
        "platform": "linux",
        "status": "pending",
        "enrollment_token": "[enrollment token]",
        "token_expires_at": "[time]",
        "created_at": "[time]"
      }
    }
    "#);
    let registered = answer.data(201);
    let id = registered["id"].as_str().unwrap();
    assert_eq!(registered["created_at"], time_of(id));
    assert_eq!(answer.header("location"), Some(format!("/api/agents/{id}").as_str()));
    let life = seconds(&registered["token_expires_at"]) - seconds(&registered["created_at"]);
    assert!((5 * 3600 - 2..=5 * 3600 + 2).contains(&life), "five hours, not {life} s");
}

fn seconds(time: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp()
}

#[tokio::test]
async fn labels_need_not_be_unique_and_every_platform_is_taken() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for platform in ["linux", "windows", "macos"] {
        let body = json!({"label": "twin", "platform": platform, "colour": [1e300]});
        let registered = acme.operator.post("/api/agents", &body).await.data(201);
        assert_eq!(registered["platform"], platform);
    }
    assert_eq!(acme.operator.get("/api/agents?label=twin").await.ids().len(), 3);
}

#[tokio::test]
async fn duplicate_tags_are_dropped_and_the_order_is_kept() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let path =
        acme.registered(r#"{"label":"a","platform":"linux","tags":["z","a","z","","A","a","ü🚀"]}"#).await;
    let detail = acme.operator.get(&path).await.data(200);
    assert_eq!(detail["tags"], json!(["z", "a", "", "A", "ü🚀"]));
}

#[tokio::test]
async fn metadata_comes_back_to_the_letter() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let deep = format!("{}1{}", "[".repeat(61), "]".repeat(61));
    let full = format!("{{\"x\":\"{}\"}}", "y".repeat(16 * 1024 - 8));
    for metadata in [
        r#"{"z":1e999,"a":1.10,"m":-0,"b":123456789012345678901234567890,"a":"twice"}"#,
        "{ \"k\" :\t[ 1 ,\n {} ], \"\\u00e9\\n\\/\": \"\\ud83d\\ude00 😀 \u{7f}\u{85}\" }",
        "{}",
        &format!("{{\"deep\":{deep}}}"),
        &full,
    ] {
        let path =
            acme.registered(&format!(r#"{{"label":"a","platform":"linux","metadata":{metadata}}}"#)).await;
        let detail = acme.operator.get(&path).await;
        assert_eq!(detail.status, 200);
        assert!(detail.text.contains(&format!("\"metadata\":{metadata},")), "{}", detail.text);
    }
}

#[tokio::test]
async fn what_is_just_within_the_bounds_is_taken_and_what_is_beyond_is_named() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let tags = |count: usize| (0..count).map(|i| format!("{i:🦀>128}")).collect::<Vec<_>>();
    let body = json!({"label": "🚀".repeat(255), "platform": "linux", "tags": tags(64)});
    let agent = acme.operator.post("/api/agents", &body).await.data(201);
    assert_eq!(agent["label"], body["label"]);

    let body = json!({
        "label": "🚀".repeat(256), "platform": "beos", "tags": tags(65), "metadata": {"a": "x".repeat(16 * 1024)},
    });
    let answer = acme.operator.post("/api/agents", &body).await;
    answer.blames_exactly(
        "invalid_request",
        &[
            ("label", "too_long"),
            ("platform", "unsupported"),
            ("tags", "too_many"),
            ("metadata", "too_large"),
        ],
    );
    let body =
        r#"{"label":"","platform":"\u0000","tags":["ok","\u0000","🦀🦀"],"metadata":{"a":["\u0000"]}}"#
            .replace("🦀🦀", &"🦀".repeat(129));
    acme.operator.post_text("/api/agents", &body).await.blames_exactly(
        "invalid_request",
        &[
            ("label", "too_short"),
            ("platform", "unsupported"),
            ("tags[1]", "invalid_character"),
            ("tags[2]", "too_long"),
            ("metadata", "invalid_character"),
        ],
    );
    assert_eq!(acme.operator.get("/api/agents").await.ids().len(), 1);
}

#[tokio::test]
async fn what_is_missing_or_of_the_wrong_kind_is_named() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let both = [("label", "required"), ("platform", "required")];
    acme.operator.post_text("/api/agents", "{}").await.blames_exactly("invalid_request", &both);
    acme.operator
        .post("/api/agents", &json!({"label": "a", "platform": "Linux"}))
        .await
        .blames_exactly("unsupported_platform", &[("platform", "unsupported")]);
    acme.operator
        .post("/api/agents", &json!({"label": "a\0b", "platform": "linux"}))
        .await
        .blames_exactly("invalid_request", &[("label", "invalid_character")]);
    for (field, value) in [
        ("label", "null"),
        ("label", "1"),
        ("label", "[\"a\"]"),
        ("platform", "null"),
        ("platform", "{}"),
        ("tags", "null"),
        ("tags", "\"a\""),
        ("tags[1]", "[\"a\",null]"),
        ("tags[0]", "[[\"a\"]]"),
        ("metadata", "null"),
        ("metadata", "[]"),
        ("metadata", "\"{}\""),
        ("metadata", "1e999"),
    ] {
        let key = field.split('[').next().unwrap();
        let mut rest = json!({"label": "a", "platform": "linux"});
        rest.as_object_mut().unwrap().remove(key);
        let body = format!("{{\"{key}\":{value},{}", rest.to_string().trim_start_matches('{'));
        let answer = acme.operator.post_text("/api/agents", &body).await;
        answer.blames_exactly("invalid_request", &[(field, "wrong_type")]);
    }
}

#[tokio::test]
async fn the_workspace_s_limit_counts_every_existing_agent_and_holds_in_a_race() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (pending, active) = (acme.register("pending").await, acme.agent("active").await);
    acme.revoke(active.id).await.data(200);
    app.limit_agents("acme", 4).await;
    let body = json!({"label": "a", "platform": "linux"});
    let answers = for_each(0..8, 8, |_| acme.operator.post("/api/agents", &body)).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 2);
    for answer in refused {
        answer.error(403, "agent_limit_reached");
    }
    assert_eq!(acme.operator.delete(&format!("/api/agents/{}", pending.id)).await.status, 204);
    acme.register("in its place").await;
    acme.operator.post("/api/agents", &body).await.error(403, "agent_limit_reached");
    app.workspace("other").await.register("has no limit").await;
}
