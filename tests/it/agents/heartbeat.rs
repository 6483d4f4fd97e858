//! `POST /api/agents/{id}/heartbeat`.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{App, actors::Agent, ask::eventually, database::Database, process::Server, rows};

fn path(agent: &Agent) -> String {
    format!("/api/agents/{}/heartbeat", agent.id)
}

#[tokio::test]
async fn the_answer_steers_the_agent() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    assert_snapshot!(agent.heartbeat(&json!({})).await.show(), @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "agent_id": "[agent id]",
        "status": "active",
        "accepts_work": true,
        "heartbeat_interval_seconds": [27 to 33],
        "server_time": "[time]",
        "rotate_credential": false
      }
    }
    "#);
}

#[tokio::test]
async fn a_field_left_out_keeps_its_value_and_null_clears_it() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let all = json!({
        "cpu_percent": 1.5, "memory_percent": 2.5, "disk_free_gb": 3.5, "active_jobs": 4, "queue_depth": 5,
    });
    agent.heartbeat(&all).await.data(200);
    let mut expected = all.as_object().unwrap().clone();
    for (field, other) in [
        ("cpu_percent", json!(11.5)),
        ("memory_percent", json!(12.5)),
        ("disk_free_gb", json!(13.5)),
        ("active_jobs", json!(14)),
        ("queue_depth", json!(15)),
    ] {
        for new in [other, Value::Null] {
            agent.heartbeat(&json!({field: new})).await.data(200);
            expected[field] = new;
            let health = acme.health(agent.id).await;
            for (field, value) in &expected {
                assert_eq!(health[field], *value, "{field}");
            }
        }
    }
}

#[tokio::test]
async fn texts_follow_a_moment_later_and_are_patched_alike() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let texts = json!({"version": "1", "hostname": "h", "instance_id": "i", "capabilities": ["x", "y"]});
    let cleared = json!({"version": null, "hostname": null, "instance_id": null, "capabilities": []});
    for (beat, expected) in [
        (
            json!({"version": "2"}),
            json!({"version": "2", "hostname": "h", "instance_id": "i", "capabilities": ["x", "y"]}),
        ),
        (
            json!({"capabilities": ["ü", "\"", "x"]}),
            json!({"version": "1", "hostname": "h", "instance_id": "i", "capabilities": ["ü", "\"", "x"]}),
        ),
        (json!({"version": null, "hostname": null, "instance_id": null, "capabilities": null}), cleared),
        (json!({}), texts.clone()),
    ] {
        let pending = acme.register("a").await;
        pending.token.post("/api/agents/enroll", &texts).await.data(200);
        acme.revoke(pending.id).await.data(200);
        let agent = acme.enable(pending.id).await.enroll().await;
        agent.heartbeat(&beat).await.data(200);
        let as_expected =
            |detail: &Value| expected.as_object().unwrap().iter().all(|(name, value)| detail[name] == *value);
        acme.detail_when(agent.id, as_expected).await;
    }
}

#[tokio::test]
async fn sent_at_may_be_null_and_says_nothing_then() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    agent.heartbeat(&json!({"sent_at": null})).await.data(200);
    assert_eq!(acme.health(agent.id).await["clock_skew_ms"], Value::Null);
    let ahead = chrono::DateTime::from_timestamp(253_402_300_000, 0).unwrap();
    agent.heartbeat(&json!({"sent_at": ahead.to_rfc3339()})).await.data(200);
    for beat in [json!({"sent_at": null}), json!({})] {
        agent.heartbeat(&beat).await.data(200);
        let health = acme.health(agent.id).await;
        assert_eq!(health["clock_skew_ms"], 86_400_000, "of the latest beat that carried one");
    }
}

#[tokio::test]
async fn numbers_come_back_as_they_were_sent() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    for (sent, back) in [
        ("34.2", "34.2"),
        ("61.0", "61.0"),
        ("61", "61.0"),
        ("6.1e1", "61.0"),
        ("0", "0.0"),
        ("-0", "-0.0"),
        ("100", "100.0"),
        ("0.1", "0.1"),
        ("31.245270191439438", "31.245270191439438"),
        ("12.148791951161945", "12.148791951161945"),
        ("99.99999999999999", "99.99999999999999"),
        ("5e-324", "5e-324"),
        ("2.2250738585072014e-308", "2.2250738585072014e-308"),
    ] {
        let beat = format!(r#"{{"cpu_percent":{sent},"disk_free_gb":{sent}}}"#);
        agent.me.post_text(&path(&agent), &beat).await.data(200);
        let health = acme.operator.get(&format!("/api/agents/{}/health", agent.id)).await;
        assert!(health.text.contains(&format!("\"cpu_percent\":{back},")), "{sent}: {}", health.text);
        assert!(health.text.contains(&format!("\"disk_free_gb\":{back},")), "{sent}: {}", health.text);
    }
    let most = json!({"active_jobs": i32::MAX, "queue_depth": i32::MAX, "disk_free_gb": 1e9});
    agent.heartbeat(&most).await.data(200);
    let health = acme.health(agent.id).await;
    assert_eq!((&health["active_jobs"], &health["queue_depth"]), (&json!(i32::MAX), &json!(i32::MAX)));
    assert_eq!(health["disk_free_gb"], 1e9);
}

#[tokio::test]
async fn every_bad_field_is_named_at_once_and_nothing_of_a_bad_beat_is_stored() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("a").await;
    let beat = json!({
        "version": "v".repeat(65), "hostname": "h".repeat(256), "instance_id": "\0", "last_error": "🚀".repeat(2_001),
        "capabilities": ["c".repeat(129), "\0"], "cpu_percent": 100.1, "memory_percent": -0.1, "disk_free_gb": 1.1e9,
        "active_jobs": -1, "queue_depth": 2_147_483_648_i64,
    });
    let answer = agent.heartbeat(&beat).await;
    answer.blames_exactly(
        "invalid_request",
        &[
            ("version", "too_long"),
            ("hostname", "too_long"),
            ("instance_id", "invalid_character"),
            ("last_error", "too_long"),
            ("capabilities[0]", "too_long"),
            ("capabilities[1]", "invalid_character"),
            ("cpu_percent", "out_of_range"),
            ("memory_percent", "out_of_range"),
            ("disk_free_gb", "out_of_range"),
            ("active_jobs", "out_of_range"),
            ("queue_depth", "out_of_range"),
        ],
    );
    assert_eq!(answer.json()["error"]["action"], "retry");
    assert_eq!(acme.health(agent.id).await["status"], "unknown");
    for field in ["version", "hostname", "instance_id", "last_error"] {
        let answer = agent.heartbeat(&json!({field: "a\0b"})).await;
        answer.blames_exactly("invalid_request", &[(field, "invalid_character")]);
    }
    for (field, value) in [
        ("cpu_percent", "1e999"),
        ("cpu_percent", "\"34\""),
        ("cpu_percent", "true"),
        ("cpu_percent", "[1]"),
        ("active_jobs", "1.5"),
        ("active_jobs", "1e999"),
        ("queue_depth", "9223372036854775808"),
        ("queue_depth", "-99999999999999999999"),
        ("version", "2.14"),
        ("capabilities", "{}"),
        ("sent_at", "\"yesterday\""),
        ("sent_at", "1700000000"),
        ("sent_at", "\"2025-02-30T00:00:00Z\""),
        ("sent_at", "\"\""),
    ] {
        let answer = agent.me.post_text(&path(&agent), &format!(r#"{{"{field}":{value}}}"#)).await;
        let blamed = answer.blames("invalid_request");
        assert_eq!(blamed.len(), 1);
        assert_eq!(blamed[0].0, field, "{value}");
    }
    for value in ["NaN", "Infinity", "-Infinity", "+1", "01", "1.", "0x1", ".5"] {
        let answer = agent.me.post_text(&path(&agent), &format!(r#"{{"cpu_percent":{value}}}"#)).await;
        answer.error(400, "invalid_json");
    }
    let fullest = json!({
        "version": "🚀".repeat(64), "hostname": "é".repeat(255), "instance_id": "i".repeat(128),
        "last_error": "é".repeat(2_000), "capabilities": vec!["c".repeat(128); 64], "sent_at": "2025-03-27T15:00:00.5+02:00",
    });
    agent.heartbeat(&fullest).await.data(200);
    acme.health_when(agent.id, |health| health["last_error"] == fullest["last_error"]).await;
}

#[tokio::test]
async fn a_refused_agent_is_told_why_and_what_to_do() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, other) = (acme.agent("a").await, acme.agent("b").await);
    let theirs = agent.me.post(&path(&other), &json!({})).await;
    assert_snapshot!(theirs.show(), @r#"
    404 Not Found
    content-type: application/json
    x-request-id: [request id]

    {
      "error": {
        "code": "agent_not_found",
        "message": "there is no such agent in this workspace",
        "action": "stop",
        "request_id": "[request id]"
      }
    }
    "#);
    for absent in ["agt_01jq8new01", "agt_00000000000000000000000000", "x", "%00", "%ff"] {
        let answer = agent.me.post(&format!("/api/agents/{absent}/heartbeat"), &json!({})).await;
        assert_eq!(answer.show(), theirs.show());
    }
    agent.beat().await;
    assert_eq!(acme.connected().await, [agent.id.to_string()], "the other one is not heard of");
    app.time_passes(Duration::from_hours(30 * 24)).await;
    let refusal = agent.heartbeat(&json!({})).await.error(403, "credential_expired");
    assert_eq!(refusal["action"], "re_enroll");
}

#[tokio::test]
async fn a_fleet_that_would_beat_too_often_is_asked_to_beat_less_often() {
    let database = Database::create().await;
    rows::connected_agents(&database.options, 1_000).await;
    rows::analyze(&database.options).await;
    let flags = ["--heartbeat-rate=10", "--connected-window=3600"];
    let server = Server::start(&database.url(), &flags).await;
    let agent = server.workspace(&database.options, "acme").await.agent("etl").await;
    let interval = async || {
        let told = agent.heartbeat(&json!({})).await.data(200);
        told["heartbeat_interval_seconds"].as_u64().filter(|seconds| *seconds > 33)
    };
    // A tenth to either side, and as much for what Postgres does not know.
    let stretched = eventually(interval).await;
    assert!((80..=120).contains(&stretched), "{stretched}");
}
