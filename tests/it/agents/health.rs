//! `GET /api/agents/{id}/health`.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::App;

const WINDOW: Duration = Duration::from_mins(2);
const DAY: i64 = 86_400_000;

#[tokio::test]
async fn a_healthy_agent_shows_as_in_the_reference() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    let beat =
        r#"{"cpu_percent":34.2,"memory_percent":61.0,"disk_free_gb":412.5,"active_jobs":2,"queue_depth":0}"#;
    agent.me.post_text(&format!("/api/agents/{}/heartbeat", agent.id), beat).await.data(200);
    let answer = acme.operator.get(&format!("/api/agents/{}/health", agent.id)).await;
    assert_snapshot!(answer.show(), @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "agent_id": "[agent id]",
        "status": "healthy",
        "heartbeat_at": "[time]",
        "cpu_percent": 34.2,
        "memory_percent": 61.0,
        "disk_free_gb": 412.5,
        "active_jobs": 2,
        "queue_depth": 0,
        "last_error": null,
        "reasons": [],
        "clock_skew_ms": null
      }
    }
    "#);
}

#[tokio::test]
async fn an_agent_that_was_not_heard_of_is_unknown_and_has_no_figures() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("etl").await;
    let path = format!("/api/agents/{}/health", agent.id);
    let pending = acme.operator.get(&path).await.show();
    assert_snapshot!(pending, @r#"
    200 OK
    content-type: application/json
    x-request-id: [request id]

    {
      "data": {
        "agent_id": "[agent id]",
        "status": "unknown",
        "heartbeat_at": null,
        "cpu_percent": null,
        "memory_percent": null,
        "disk_free_gb": null,
        "active_jobs": null,
        "queue_depth": null,
        "last_error": null,
        "reasons": [],
        "clock_skew_ms": null
      }
    }
    "#);
    agent.enroll().await;
    assert_eq!(acme.operator.get(&path).await.show(), pending, "enrolled, and still unheard");
}

#[tokio::test]
async fn a_silent_agent_is_offline_with_its_last_known_figures() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    agent.heartbeat(&json!({"cpu_percent": 99, "queue_depth": 7})).await.data(200);
    let before = acme.health(agent.id).await;
    assert_eq!((&before["status"], &before["reasons"]), (&json!("degraded"), &json!(["cpu_percent"])));
    app.time_passes(WINDOW / 2).await;
    assert_eq!(acme.health(agent.id).await["status"], "degraded");
    app.time_passes(WINDOW / 2).await;
    let offline = acme.health(agent.id).await;
    assert_eq!((&offline["status"], &offline["reasons"]), (&json!("offline"), &json!([])));
    assert_eq!((&offline["cpu_percent"], &offline["queue_depth"]), (&json!(99.0), &json!(7)));
    assert!(offline["heartbeat_at"].is_string());
    agent.heartbeat(&json!({"cpu_percent": 1})).await.data(200);
    assert_eq!(acme.health(agent.id).await["status"], "healthy");
}

#[tokio::test]
async fn each_reason_for_degraded_names_itself_and_goes_away_again() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for (field, bad, good) in [
        ("cpu_percent", json!(95), json!(94.999)),
        ("memory_percent", json!(100), json!(null)),
        ("disk_free_gb", json!(0.999), json!(1)),
        ("last_error", json!("boom"), json!(null)),
    ] {
        let agent = acme.agent(field).await;
        agent.heartbeat(&json!({field: bad})).await.data(200);
        let health = acme.health_when(agent.id, |health| health["status"] == "degraded").await;
        assert_eq!(
            (&health["reasons"], &health[field]),
            (&json!([field]), &bad.as_f64().map_or(bad, Value::from))
        );
        agent.heartbeat(&json!({field: good})).await.data(200);
        let health = acme.health_when(agent.id, |health| health["status"] == "healthy").await;
        assert_eq!(health["reasons"], json!([]));
    }
    let agent = acme.agent("all at once").await;
    let beat = json!({
        "cpu_percent": 95, "memory_percent": 95, "disk_free_gb": 0, "last_error": "", "sent_at": "1999-12-31T23:59:59Z",
    });
    agent.heartbeat(&beat).await.data(200);
    let health = acme.health_when(agent.id, |health| health["last_error"] == "").await;
    assert_eq!(
        health["reasons"],
        json!(["last_error", "cpu_percent", "memory_percent", "disk_free_gb", "clock_skew"])
    );
}

#[tokio::test]
async fn the_clock_skew_is_of_the_latest_beat_that_told_its_time() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    let ack = agent.heartbeat(&json!({})).await.data(200);
    let now = chrono::DateTime::parse_from_rfc3339(ack["server_time"].as_str().unwrap()).unwrap();
    for (minutes, status) in [(3, "degraded"), (-3, "degraded"), (0, "healthy")] {
        let sent_at = (now + chrono::TimeDelta::minutes(minutes))
            .with_timezone(&chrono::FixedOffset::east_opt(3_600).unwrap());
        agent.heartbeat(&json!({"sent_at": sent_at.to_rfc3339()})).await.data(200);
        let health = acme.health(agent.id).await;
        let skew = health["clock_skew_ms"].as_i64().unwrap();
        assert!((skew - minutes * 60_000).abs() < 30_000, "{skew}");
        assert_eq!(health["status"], status);
        agent.beat().await;
        assert_eq!(acme.health(agent.id).await["clock_skew_ms"], skew, "a beat without a time leaves it");
    }
    for (sent_at, skew) in
        [("0001-01-01T00:00:00Z", -DAY), ("9999-12-31T23:59:59.999Z", DAY), ("1970-01-01T00:00:00Z", -DAY)]
    {
        agent.heartbeat(&json!({"sent_at": sent_at})).await.data(200);
        assert_eq!(acme.health(agent.id).await["clock_skew_ms"], skew);
    }
}

#[tokio::test]
async fn revoked_comes_before_all_else_and_enrolling_again_empties_the_row() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("etl").await;
    agent
        .heartbeat(&json!({"cpu_percent": 99, "last_error": "boom", "sent_at": "1999-01-01T00:00:00Z"}))
        .await
        .data(200);
    acme.health_when(agent.id, |health| health["last_error"] == "boom").await;
    acme.revoke(agent.id).await.data(200);
    let health = acme.health(agent.id).await;
    assert_eq!((&health["status"], &health["reasons"]), (&json!("revoked"), &json!([])));
    let pending = acme.enable(agent.id).await;
    assert_eq!(acme.health(agent.id).await["status"], "unknown");
    let agent = pending.enroll().await;
    agent.beat().await;
    let health = acme.health(agent.id).await;
    assert_eq!(health["status"], "healthy");
    for field in ["cpu_percent", "last_error", "clock_skew_ms"] {
        assert_eq!(health[field], Value::Null, "{field}");
    }
    agent.heartbeat(&json!({"last_error": "boom"})).await.data(200);
    acme.health_when(agent.id, |health| health["last_error"] == "boom").await;
}
