//! `PATCH /api/agents/{id}`.

use serde_json::{Value, json};

use crate::support::App;

#[tokio::test]
async fn what_is_left_out_stays_and_what_is_given_is_replaced_whole() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let new = r#"{"label":"Old","platform":"macos","tags":["a","b"],"metadata":{"x":1.50,"y":{"z":[]}}}"#;
    let path = acme.registered(new).await;
    let mut expected = acme.operator.get(&path).await.data(200);
    for (change, field, value) in [
        (json!({}), "label", json!("Old")),
        (json!({"label": "Größer"}), "label", json!("Größer")),
        (json!({"tags": ["c", "a", "c", ""]}), "tags", json!(["c", "a", ""])),
        (
            json!({"metadata": {"w": null}, "platform": "linux", "status": "active"}),
            "metadata",
            json!({"w": null}),
        ),
        (json!({"tags": [], "metadata": {}}), "tags", json!([])),
    ] {
        let answer = acme.operator.patch(&path, &change).await.data(200);
        expected[field] = value;
        if change["metadata"].is_object() {
            expected["metadata"] = change["metadata"].clone();
        }
        assert_eq!(answer, expected, "{change}");
        assert_eq!(acme.operator.get(&path).await.data(200), expected, "{change}");
    }
    let answer = acme.operator.send(
        acme.operator
            .request(reqwest::Method::PATCH, &path)
            .header("content-type", "application/json")
            .body(r#"{"metadata": {"b": 1.50, "a": 1e2}}"#),
    );
    assert!(answer.await.text.contains(r#"{"b": 1.50, "a": 1e2}"#), "to the letter");
}

#[tokio::test]
async fn the_list_s_filters_follow() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let path = acme.registered(r#"{"label":"Alpha","platform":"linux","tags":["one"]}"#).await;
    acme.operator.patch(&path, &json!({"label": "ÖMEGA", "tags": ["two"]})).await.data(200);
    for (query, found) in [
        ("label=alpha", 0),
        ("label=%C3%B6mega", 1),
        ("tag=one", 0),
        ("tag=two", 1),
        ("label=mega&tag=two", 1),
    ] {
        assert_eq!(acme.operator.get(&format!("/api/agents?{query}")).await.ids().len(), found, "{query}");
    }
}

#[tokio::test]
async fn an_agent_may_be_changed_in_every_state_and_its_life_goes_on() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (pending, agent) = (acme.register("p").await, acme.agent("a").await);
    agent.heartbeat(&json!({"cpu_percent": 7})).await.data(200);
    for id in [pending.id, agent.id] {
        acme.operator.patch(&format!("/api/agents/{id}"), &json!({"label": "x"})).await.data(200);
    }
    agent.beat().await;
    assert_eq!(acme.health(agent.id).await["cpu_percent"], 7.0);
    assert_eq!(pending.try_enroll().await.data(200)["label"], "x");
    acme.revoke_for(agent.id, "why").await.data(200);
    let changed = acme.operator.patch(&agent.path(), &json!({"tags": ["t"]})).await.data(200);
    assert_eq!((&changed["status"], &changed["revoke_reason"]), (&json!("revoked"), &json!("why")));
    let updated = acme.trail(&format!("type=updated&agent_id={}", agent.id)).await;
    assert_eq!(updated.len(), 2);
    assert!(updated.iter().all(|event| event["actor"].as_str().unwrap().starts_with("key_")));
}

#[tokio::test]
async fn a_reported_hostname_shows_until_the_operator_sets_that_key() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let pending = acme.register("a").await;
    pending.token.post("/api/agents/enroll", &json!({"hostname": "reported"})).await.data(200);
    let path = format!("/api/agents/{}", pending.id);
    let patched = async |metadata: Value| {
        let answer = acme.operator.patch(&path, &json!({"metadata": metadata})).await;
        answer.data(200)["metadata"].clone()
    };
    assert_eq!(patched(json!({"k": 1})).await, json!({"k": 1, "hostname": "reported"}));
    assert_eq!(patched(json!({"hostname": "mine"})).await, json!({"hostname": "mine"}));
    assert_eq!(patched(json!({})).await, json!({"hostname": "reported"}));
}

#[tokio::test]
async fn null_and_what_no_agent_may_have_is_named_and_nothing_changes() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let before = acme.detail(agent.id).await;
    for field in ["label", "tags", "metadata"] {
        let answer = acme.operator.patch(&agent.path(), &json!({field: null})).await;
        answer.blames_exactly("invalid_request", &[(field, "wrong_type")]);
    }
    let bad = json!({"label": "", "tags": ["\0", "t".repeat(129)], "metadata": []});
    let answer = acme.operator.patch(&agent.path(), &bad).await;
    let blamed: Vec<_> = answer.blames("invalid_request").into_iter().map(|(field, _)| field).collect();
    assert_eq!(blamed, ["label", "tags[0]", "tags[1]", "metadata"]);
    let long =
        json!({"label": "l".repeat(256), "tags": vec!["t"; 65], "metadata": {"m": "m".repeat(16 * 1024)}});
    let answer = acme.operator.patch(&agent.path(), &long).await;
    // Duplicates are dropped before they are counted.
    answer.blames_exactly("invalid_request", &[("label", "too_long"), ("metadata", "too_large")]);
    let none = acme.operator.request(reqwest::Method::PATCH, &agent.path());
    acme.operator.send(none).await.error(415, "unsupported_media_type");
    acme.operator.patch(&agent.path(), &json!(["label"])).await.error(400, "invalid_request");
    assert_eq!(acme.detail(agent.id).await, before);
    assert!(acme.trail("type=updated").await.is_empty());
}
