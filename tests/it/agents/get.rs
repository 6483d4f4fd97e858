//! `GET /api/agents/{id}`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{App, show::time_of};

const HOSTNAME: &str = "etl-prod-01.internal.example.com";

#[tokio::test]
async fn an_agent_that_told_of_itself_shows_as_in_the_reference() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent_with(json!({
        "label": "prod-etl-01.us-west.internal",
        "platform": "linux",
        "tags": ["region:us-west-2", "env:production"],
    }));
    let agent = agent.await;
    let facts = json!({"version": "2.14.3", "capabilities": ["spark", "python_3_11"], "hostname": HOSTNAME});
    agent.heartbeat(&facts).await.data(200);
    acme.detail_when(agent.id, |detail| detail["version"] == "2.14.3").await;
    let answer = acme.operator.get(&format!("/api/agents/{}", agent.id)).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    cache-control: no-store
    content-type: application/json
    etag: [entity tag]
    x-request-id: [request id]

    {
      "data": {
        "id": "[agent id]",
        "label": "prod-etl-01.us-west.internal",
        "platform": "linux",
        "version": "2.14.3",
        "status": "active",
        "tags": [
          "region:us-west-2",
          "env:production"
        ],
        "capabilities": [
          "spark",
          "python_3_11"
        ],
        "last_seen_at": "[time]",
        "created_at": "[time]",
        "metadata": {
          "hostname": "etl-prod-01.internal.example.com"
        },
        "hostname": "etl-prod-01.internal.example.com",
        "instance_id": null,
        "draining": false
      }
    }
    "#);
    assert_eq!(answer.data(200)["created_at"], time_of(&agent.id.to_string()));
}

#[tokio::test]
async fn an_agent_that_was_revoked_unheard_shows_empty_fields_and_why() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let path = acme.registered(r#"{"label":"a","platform":"macos"}"#).await;
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    acme.revoke_for(id, "compromised_token_suspected").await.data(200);
    assert_snapshot!(acme.operator.get(&path).await.show(), @r#"
    200 OK
    cache-control: no-store
    content-type: application/json
    etag: [entity tag]
    x-request-id: [request id]

    {
      "data": {
        "id": "[agent id]",
        "label": "a",
        "platform": "macos",
        "version": null,
        "status": "revoked",
        "tags": [],
        "capabilities": [],
        "last_seen_at": null,
        "created_at": "[time]",
        "metadata": {},
        "hostname": null,
        "instance_id": null,
        "draining": false,
        "revoked_at": "[time]",
        "revoke_reason": "compromised_token_suspected"
      }
    }
    "#);
}

#[tokio::test]
async fn without_a_reason_none_is_shown_and_enabling_takes_both_away() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await;
    acme.revoke(agent.id).await.data(200);
    let detail = acme.detail(agent.id).await;
    assert!(detail["revoked_at"].is_string());
    assert_eq!(detail.get("revoke_reason"), None);
    acme.enable(agent.id).await;
    let detail = acme.detail(agent.id).await;
    assert_eq!((detail.get("revoked_at"), detail.get("revoke_reason")), (None, None));
}

#[tokio::test]
async fn the_reported_hostname_shows_in_metadata_unless_the_operator_set_that_key() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for (metadata, shown) in [
        ("{}", json!({"hostname": "h\"ö"})),
        (r#"{"rack":7}"#, json!({"hostname": "h\"ö", "rack": 7})),
        (r#"{"hostname":"mine"}"#, json!({"hostname": "mine"})),
        (r#"{"host\u006eame":null}"#, json!({"hostname": null})),
        (r#"{"in":{"hostname":1}}"#, json!({"hostname": "h\"ö", "in": {"hostname": 1}})),
    ] {
        let metadata: Box<serde_json::value::RawValue> = serde_json::from_str(metadata).unwrap();
        let body = format!(r#"{{"label":"a","platform":"linux","metadata":{metadata}}}"#);
        let registered = acme.operator.post_text("/api/agents", &body).await.data(201);
        let token = app.bearer(registered["enrollment_token"].as_str().unwrap());
        token.post("/api/agents/enroll", &json!({"hostname": "h\"ö"})).await.data(200);
        let path = format!("/api/agents/{}", registered["id"].as_str().unwrap());
        let detail: Value = acme.operator.get(&path).await.data(200);
        assert_eq!(detail["hostname"], "h\"ö");
        assert_eq!(detail["metadata"], shown);
    }
}
