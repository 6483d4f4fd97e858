//! `POST /api/agents` under an `Idempotency-Key`.

use std::time::Duration;

use planasonix::domain::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{
    Answer, App,
    actors::{Caller, Workspace},
    ask::for_each,
    rows::Held,
};

async fn register(acme: &Workspace, key: &str, label: &str) -> Answer {
    let new = json!({"label": label, "platform": "linux"});
    acme.operator.post_under(key, "/api/agents", &new).await
}

fn token(app: &App, registered: &Value) -> Caller {
    app.bearer(registered["enrollment_token"].as_str().unwrap())
}

async fn enroll(token: &Caller) -> Answer {
    token.post_nothing("/api/agents/enroll").await
}

#[tokio::test]
async fn the_same_key_and_body_give_the_same_agent_and_a_fresh_token() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (first, second) = (register(&acme, "k", "a").await, register(&acme, "k", "a").await);
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(second.header("cache-control"), Some("no-store"));
    let (first, second) = (first.data(201), second.data(201));
    for field in ["id", "label", "platform", "status", "created_at"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    assert_ne!(first["enrollment_token"], second["enrollment_token"]);
    assert_eq!(acme.operator.get("/api/agents").await.ids().len(), 1);
    enroll(&token(&app, &first)).await.error(401, "enrollment_token_invalid");
    enroll(&token(&app, &second)).await.data(200);
    let id = first["id"].as_str().unwrap().parse().unwrap();
    let events = ["registered", "enrollment_token_issued", "enrollment_refused", "enrolled"];
    assert_eq!(app.event_types(id).await, events);
}

#[tokio::test]
async fn repetition_shows_the_agent_as_it_was_changed_with_its_etag() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let id = register(&acme, "k", "a").await.data(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/api/agents/{id}");
    acme.operator.patch(&path, &json!({"label": "b"})).await.data(200);
    let tag = acme.operator.get(&path).await.header("etag").unwrap().to_owned();
    let again = register(&acme, "k", "a").await;
    assert_eq!(again.header("etag"), Some(tag.as_str()));
    let again = again.data(201);
    assert_eq!(again["label"], "b");
    assert!(again["enrollment_token"].is_string());
}

#[tokio::test]
async fn once_enrolled_or_revoked_the_agent_is_told_without_a_token() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (one, two) = (register(&acme, "1", "a").await.data(201), register(&acme, "2", "b").await.data(201));
    enroll(&token(&app, &one)).await.data(200);
    let id = two["id"].as_str().unwrap().parse().unwrap();
    acme.revoke(id).await.data(200);
    let mut expected = json!({
        "id": one["id"], "label": "a", "platform": "linux", "status": "active", "enrollment_token": null,
        "token_expires_at": null, "created_at": one["created_at"],
    });
    assert_eq!(register(&acme, "1", "a").await.data(201), expected);
    for (field, value) in [("id", &two["id"]), ("label", &json!("b")), ("created_at", &two["created_at"])] {
        expected[field] = value.clone();
    }
    // Pending again after it was enabled, but not for the first time: its token came from there.
    for status in ["revoked", "pending"] {
        expected["status"] = status.into();
        assert_eq!(register(&acme, "2", "b").await.data(201), expected);
        if status == "revoked" {
            acme.enable(id).await;
        }
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_workspace() {
    let app = App::start().await;
    let (acme, other) = (app.workspace("acme").await, app.workspace("other").await);
    let new = json!({"label": "a", "platform": "linux", "tags": ["t"], "metadata": {"m": 1}});
    let first = acme.operator.post_under("k", "/api/agents", &new).await.data(201);
    for (field, value) in [
        ("label", json!("b")),
        ("platform", json!("macos")),
        ("tags", json!([])),
        ("metadata", json!({"m": 2})),
    ] {
        let mut another = new.clone();
        another[field] = value;
        acme.operator.post_under("k", "/api/agents", &another).await.error(409, "idempotency_conflict");
    }
    // A request that was refused is not remembered, nor does it spoil the key.
    acme.operator.post_under("k", "/api/agents", &json!({})).await.error(400, "invalid_request");
    acme.operator.post_under("l", "/api/agents", &json!({"label": "a"})).await.error(400, "invalid_request");
    assert_eq!(acme.operator.post_under("k", "/api/agents", &new).await.data(201)["id"], first["id"]);
    let elsewhere = other.operator.post_under("k", "/api/agents", &new).await.data(201);
    let under_another = acme.operator.post_under("l", "/api/agents", &new).await.data(201);
    assert!(elsewhere["id"] != first["id"] && under_another["id"] != first["id"]);

    let path = format!("/api/agents/{}", first["id"].as_str().unwrap());
    assert_eq!(acme.operator.delete(&path).await.status, 204);
    acme.operator.post_under("k", "/api/agents", &new).await.error(409, "idempotency_conflict");
}

#[tokio::test]
async fn retry_that_was_serialised_anew_gives_the_same_agent() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let send = async |key: &str, body: &str| {
        let request = acme.operator.request(reqwest::Method::POST, "/api/agents");
        let request = request.header("content-type", "application/json").header("idempotency-key", key);
        acme.operator.send(request.body(body.to_owned())).await
    };
    let first =
        r#"{"label":"größe","platform":"linux","metadata":{"b": 1.50, "a": [{"é": "x/y", "d": 1e2}]}}"#;
    let id = send("k", first).await.data(201)["id"].clone();
    for again in [
        r#"{"metadata":{"a":[{"d":100,"é":"x/y"}],"b":1.5},"platform":"linux","label":"größe"}"#,
        "{ \"label\" : \"gr\\u00f6\\u00dfe\",\n\"platform\":\"linux\", \"tags\":[],\"metadata\" : {\"a\":[{\"\\u00e9\":\"x\\/y\",\"d\":100.0}],\"b\":15e-1} }",
        r#"{"label":"größe","platform":"linux","metadata":{"b":0,"b":1.5,"a":[{"d":1E+2,"é":"x/y"}]},"unknown":1}"#,
    ] {
        assert_eq!(send("k", again).await.data(201)["id"], id, "{again}");
    }
    for other in [
        r#"{"label":"größe","platform":"linux","metadata":{"b":1.51,"a":[{"é":"x/y","d":100}]}}"#,
        r#"{"label":"größe","platform":"linux","metadata":{"b":1.5,"a":[{"é":"x/y","d":"100"}]}}"#,
        r#"{"label":"größe","platform":"linux","metadata":{"b":1.5}}"#,
        r#"{"label":"größe","platform":"linux"}"#,
    ] {
        send("k", other).await.error(409, "idempotency_conflict");
    }
    let path = format!("/api/agents/{}", id.as_str().unwrap());
    let detail = acme.operator.get(&path).await.text;
    assert!(detail.contains(r#"{"b": 1.50, "a": [{"é": "x/y", "d": 1e2}]}"#), "as given first: {detail}");

    let id = send("empty", r#"{"label":"a","platform":"linux"}"#).await.data(201)["id"].clone();
    for again in ["{}", "{ }"] {
        let body = format!(r#"{{"label":"a","platform":"linux","tags":[],"metadata":{again}}}"#);
        assert_eq!(send("empty", &body).await.data(201)["id"], id, "{again}");
    }
}

#[tokio::test]
async fn a_key_is_remembered_for_a_day() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let first = register(&acme, "k", "a").await.data(201);
    app.time_passes(Duration::from_mins(24 * 60 - 1)).await;
    assert_eq!(register(&acme, "k", "a").await.data(201)["id"], first["id"]);
    app.time_passes(Duration::from_mins(2)).await;
    // The operator's own key lasts a day, too.
    let (_, operator) = app.operator(acme.id, &[Scope::AgentsWrite]).await;
    let acme = Workspace { id: acme.id, operator };
    let second = register(&acme, "k", "a").await.data(201);
    assert_ne!(second["id"], first["id"]);
    assert_eq!(register(&acme, "k", "a").await.data(201)["id"], second["id"]);
}

#[tokio::test]
async fn a_bad_key_is_named() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for (key, issue) in [("", "too_short"), (&"k".repeat(256), "too_long"), ("é", "invalid_character")] {
        let answer = register(&acme, key, "a").await;
        answer.blames_exactly("invalid_request", &[("Idempotency-Key", issue)]);
    }
    register(&acme, &"k".repeat(255), "a").await.data(201);
    assert_eq!(acme.operator.get("/api/agents").await.ids().len(), 1);
    let both = acme.operator.post_under("", "/api/agents", &json!({"label": "", "platform": "linux"})).await;
    both.blames_exactly("invalid_request", &[("Idempotency-Key", "too_short"), ("label", "too_short")]);
    let pending = acme.register("b").await;
    for (body, also) in [(json!({}), None), (json!({"platform": "amiga"}), Some(("platform", "unsupported")))]
    {
        let answer = pending.token.post_under("", "/api/agents/enroll", &body).await;
        let bad: Vec<_> = [("Idempotency-Key", "too_short")].into_iter().chain(also).collect();
        answer.blames_exactly("invalid_request", &bad);
    }
    pending.enroll().await;
}

/// Nobody waits for it: the registration that a lock holds up may take as long as it likes.
#[tokio::test]
async fn while_one_call_is_under_way_another_is_told_so() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for number in 0..5 {
        let key = format!("k{number}");
        let held = Held::registrations(&app.database.options).await;
        let (first, second) = tokio::join!(register(&acme, &key, "a"), async {
            sleep(Duration::from_millis(200)).await;
            let second = register(&acme, &key, "a").await;
            held.let_go().await;
            second
        });
        // A busy machine may have been slower than the lock's patience.
        if first.status != 503 && second.status != 503 {
            second.error(409, "request_in_progress");
            assert_eq!(register(&acme, &key, "a").await.data(201)["id"], first.data(201)["id"]);
            return;
        }
    }
    panic!("five times 503");
}

#[tokio::test]
async fn of_fifty_at_once_with_one_key_there_is_one_agent_and_one_good_token() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let answers = for_each(0..50, 50, |_| register(&acme, "k", "a")).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    println!("{} answers with the agent, {} refused", made.len(), refused.len());
    for answer in &refused {
        let code = if answer.status == 503 { "unavailable" } else { "request_in_progress" };
        answer.error(if answer.status == 503 { 503 } else { 409 }, code);
    }
    let ids = acme.operator.get("/api/agents").await.ids();
    assert_eq!(ids.len(), 1);
    assert!(made.iter().all(|answer| answer.data(201)["id"] == ids[0]) && !made.is_empty());
    let mut enrolled = 0;
    for answer in made {
        enrolled += u32::from(enroll(&token(&app, &answer.data(201))).await.status == 200);
    }
    assert_eq!(enrolled, 1);
}
